//! The embedded default: one binary and one directory, used as a small company would, over HTTP.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bellwether_core::event::Event;
use bellwether_core::id::{AccountId, EventId};
use bellwether_engine::embedded::partition_of;
use bellwether_tests::{
    Bellwether, assert_same, bellwether, embedded_records, metric_sum, stories, text,
};
use serde_json::{Value, json};

/// No step takes longer on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);
/// Partitions of the embedded log.
const PARTITIONS: i32 = 4;
/// Events in one request.
const CHUNK: usize = 500;

fn command(data_dir: &Path) -> Command {
    let mut command = bellwether(["run", "--embedded", "--listen", "127.0.0.1:0", "--data-dir"]);
    // Small batches, so that a kill leaves much undone.
    command.arg(data_dir).env("BELLWETHER_ENGINE__BATCH_RECORDS_MAX", "100");
    command
}

/// Sends events, one per line, and returns the status and the answer.
fn post(url: &str, body: &[u8]) -> (u16, Value) {
    let request = ureq::post(format!("{url}/v1/events")).config().http_status_as_error(false);
    let mut answer = request.build().send(body).expect("the server answers");
    let text = answer.body_mut().read_to_string().expect("text");
    let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("JSON, not {text}"));
    (answer.status().as_u16(), json)
}

fn lines(events: &[Event]) -> Vec<u8> {
    events.iter().map(stories::event_json).collect::<Vec<_>>().join(&b'\n')
}

fn send(url: &str, events: &[Event]) {
    for chunk in events.chunks(CHUNK) {
        let (status, answer) = post(url, &lines(chunk));
        assert_eq!((status, &answer["accepted"]), (202, &json!(chunk.len())), "{answer}");
        assert_eq!(answer["rejected"], json!([]));
    }
}

/// Marks the end of the input in every partition, by accounts of their own, and waits until they have been scored.
fn finish(running: &mut Bellwether) {
    let url = running.url();
    let marks = (0..PARTITIONS).map(|partition| {
        let names = (0..).map(|n| format!("end-{n}"));
        let mut here = names.filter(|name| partition_of(name.as_bytes(), PARTITIONS) == partition);
        here.next().expect("some name falls there")
    });
    let marks: Vec<String> = marks.collect();
    let at = stories::JUDGED;
    let events = marks.iter().map(
        |mark| json!({"event_id": mark, "account_id": mark, "type": "login", "occurred_at": at}),
    );
    let (status, answer) = post(&url, json!(events.collect::<Vec<_>>()).to_string().as_bytes());
    assert_eq!(status, 202, "{answer}");
    running.wait_until("the end of the input", LIMIT, |_| {
        let scored = |mark: &String| ureq::get(format!("{url}/v1/accounts/{mark}")).call().is_ok();
        marks.iter().all(scored).then_some(())
    });
}

/// Partition, key, value.
type Published = (i32, Option<String>, Option<String>);

/// All records of an output topic in the log of a process that has ended.
fn published(data_dir: &Path, topic: &str) -> Vec<Published> {
    let records = embedded_records(data_dir, topic).into_iter();
    records.map(|of| (of.partition, text(of.key.as_deref()), text(of.payload.as_deref()))).collect()
}

/// Killed again and again while it works, with clients that repeat what was not answered, it publishes what it would have.
#[test]
fn kill_9_changes_nothing_that_is_published() {
    let whole = tempfile::tempdir().expect("a directory");
    let killed = tempfile::tempdir().expect("a directory");
    let events = stories::events();
    let mut running = Bellwether::spawn(command(whole.path()));
    send(&running.url(), &events);
    finish(&mut running);
    assert_eq!(running.terminate(LIMIT).code(), Some(0), "SIGTERM is a clean end");

    let parts = 5;
    for part in events.chunks(events.len().div_ceil(parts)) {
        let mut running = Bellwether::spawn(command(killed.path()));
        let url = running.url();
        send(&url, part);
        // The client did not hear of its last request.
        send(&url, &part[part.len() - CHUNK..]);
        running.kill();
    }
    let mut running = Bellwether::spawn(command(killed.path()));
    let left = running.metric("bellwether_events_in_total");
    finish(&mut running);
    let worked = running.metric("bellwether_events_in_total") - left;
    assert!(worked > f64::from(PARTITIONS), "the last kill left no work undone: {worked} records");
    let account = running.get("/v1/accounts/story-slipping");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    for topic in ["health.score-changed.v1", "health.score-current.v1", "health.alerts.v1"] {
        let expected = published(whole.path(), topic);
        assert!(expected.len() > 10, "{topic}: {}", expected.len());
        assert_same(topic, &published(killed.path(), topic), &expected);
    }

    // What the process served is what its state says after its end.
    let account: Value = serde_json::from_str(&account).expect("JSON");
    let explained = bellwether(["explain", "story-slipping", "--json", "--data-dir"])
        .arg(killed.path())
        .output()
        .expect("the binary runs");
    let explained: Value = serde_json::from_slice(&explained.stdout).expect("JSON");
    for field in ["score", "score_centipoints", "band", "contributions", "sub_scores"] {
        assert_eq!(explained["account"][field], account["account"][field], "{field}");
    }
    assert_eq!(account["account"]["band"], "at_risk");
}

/// Over HTTP, by the command through the server, and from the log once the server is gone: at any time what was published last.
#[test]
fn an_account_is_explained_as_it_stood_at_a_time() {
    const ACCOUNT: &str = "story-slipping";
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(command(dir.path()));
    let url = running.url();
    send(&url, &stories::events());
    finish(&mut running);
    let now: Value =
        serde_json::from_str(&running.get(&format!("/v1/accounts/{ACCOUNT}"))).expect("JSON");
    let alert = now["alerts"].as_array().and_then(|all| all.last()).expect("an alert").clone();
    let changes = now["score_changes"].as_array().expect("a list").clone();
    let (latest, before) = (&changes[0], &changes[changes.len() / 2]);
    let time = |of: &Value| of["at"].as_str().expect("a time").to_owned();
    let then = |at: &str| {
        let answer = ureq::get(format!("{url}/v1/accounts/{ACCOUNT}?at={at}"))
            .config()
            .http_status_as_error(false)
            .build()
            .call();
        let mut answer = answer.expect("the server answers");
        let text = answer.body_mut().read_to_string().expect("text");
        (answer.status().as_u16(), serde_json::from_str::<Value>(&text).expect("JSON"))
    };
    let mut stood = Vec::new();
    for change in [latest, before] {
        let (status, answer) = then(&time(change));
        assert_eq!((status, &answer["whole"]), (200, &true.into()), "{answer}");
        let account = &answer["account"];
        for field in ["score", "score_centipoints", "band", "sequence", "model_version", "at"] {
            assert_eq!(account[field], change[field], "{field}");
        }
        let lines = account["contributions"].as_array().expect("lines").iter();
        let sum: i64 = lines.map(|line| line["centipoints"].as_i64().expect("points")).sum();
        assert_eq!(Some(sum), account["score_centipoints"].as_i64());
        stood.push((time(change), answer));
    }
    // An alert is there from when it was told on, with its evidence.
    let (_, told) = then(&time(&alert));
    let open = told["alerts"].as_array().expect("a list");
    let found = open.iter().find(|of| of["alert_id"] == alert["alert_id"]).expect("it was open");
    assert_eq!(found["evidence"], alert["evidence"]);
    let (status, problem) = then("2001-01-01");
    assert_eq!(status, 404, "{problem}");
    assert_eq!(then("soon").0, 400);

    let explain = |at: &str, more: &[&str]| {
        let mut command = bellwether(["explain", ACCOUNT, "--json", "--at", at]);
        command.args(more).output().expect("the binary runs")
    };
    let same = |more: &[&str]| {
        for (at, answer) in &stood {
            let output = explain(at, more);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            for part in ["account", "alerts"] {
                assert_eq!(said[part], answer[part], "{part} at {at}");
            }
        }
        assert_eq!(explain("2001-01-01", more).status.code(), Some(3));
    };
    same(&["--url", &url]);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    same(&["--embedded", "--data-dir", dir.path().to_str().expect("text")]);
}

#[test]
fn profiles_and_outcomes_are_taken_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(command(dir.path()));
    let url = running.url();
    let send = |path: &str, body: &Value| {
        let sent = ureq::post(format!("{url}{path}")).send(body.to_string());
        assert_eq!(sent.unwrap_or_else(|error| panic!("{path}: {error}")).status(), 202, "{path}");
    };
    let now = "2026-02-01T10:00:00Z";
    send("/v1/profiles", &json!({"account_id": "acme", "as_of": now, "name": "Acme & Sons"}));
    send(
        "/v1/events",
        &json!({"account_id": "acme", "type": "login", "occurred_at": now, "event_id": "1"}),
    );
    running.wait_until("the name", LIMIT, |_| {
        let mut answer = ureq::get(format!("{url}/v1/accounts/acme")).call().ok()?;
        let text = answer.body_mut().read_to_string().expect("text");
        text.contains("Acme & Sons").then_some(())
    });
    let churned =
        json!({"outcome_id": "o", "account_id": "acme", "kind": "churned", "occurred_at": now});
    send("/v1/outcomes", &churned);
    let refused = ureq::post(format!("{url}/v1/outcomes")).send("{\"kind\":\"vanished\"}");
    assert!(matches!(refused, Err(ureq::Error::StatusCode(400))), "{refused:?}");
}

/// What the server says of results once `wanted` holds of it.
fn results_once(running: &mut Bellwether, wanted: impl Fn(&Value) -> bool) -> Value {
    let url = running.url();
    running.wait_until("the results", LIMIT, |_| {
        let mut answer = ureq::get(format!("{url}/v1/kpis")).call().ok()?;
        let text = answer.body_mut().read_to_string().expect("text");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        wanted(&answer).then_some(answer)
    })
}

#[test]
fn what_people_say_of_alerts_and_accounts_becomes_results_that_outlive_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(command(dir.path()));
    let url = running.url();
    send(&url, &stories::events());
    finish(&mut running);
    let account = running.get("/v1/accounts/story-slipping");
    let account: Value = serde_json::from_str(&account).expect("JSON");
    let alerts = account["alerts"].as_array().expect("a list");
    let urgent = alerts.iter().find(|alert| alert["kind"] == "churn_risk").expect("an alert");
    let alert = urgent["alert_id"].as_str().expect("an id");

    // The buttons of the account's page, then the command line, then a word too much.
    let page = running.get("/accounts/story-slipping");
    let form = format!("/accounts/story-slipping/alerts/{alert}/feedback");
    assert!(page.contains(&form), "no form for {alert}");
    let pressed = ureq::post(format!("{url}{form}")).send_form([("kind", "actioned")]);
    assert_eq!(pressed.expect("an answer").status(), 200, "the account's page again");
    let say = |words: &[&str]| {
        let said =
            bellwether(["outcome", "story-slipping"]).args(words).args(["--url", &url]).output();
        said.expect("the binary runs")
    };
    assert!(say(&["confirmed", "--alert", alert, "--by", "ann"]).status.success());
    let left = bellwether_core::time::Millis(stories::JUDGED).iso();
    assert!(say(&["churned", "--at", &left]).status.success());
    let lonely = say(&["confirmed"]);
    assert_eq!(lonely.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&lonely.stderr).contains("--alert"));
    assert_eq!(say(&["vanished"]).status.code(), Some(2));
    assert!(say(&["confirmed", "--alert", "nobody's"]).status.success(), "the log takes it");

    let kind = |answer: &Value| {
        let kinds = answer["all"]["kinds"].as_array().expect("a list").clone();
        kinds.into_iter().find(|of| of["kind"] == "churn_risk")
    };
    let known = |answer: &Value| {
        answer["all"]["lost"]["warned"] == 1
            && kind(answer).is_some_and(|of| of["confirmed"] == 1 && of["actioned"] == 1)
    };
    let before = results_once(&mut running, known);
    let of = kind(&before).expect("it is known");
    assert!(of["urgent"].as_u64() >= Some(1), "{of}");
    assert_eq!(of["false_positive_rate"]["value"], 0.0);
    let refused = "bellwether_events_rejected_total{intended=\"false\",reason=\"unknown_alert\"}";
    running.wait_until("the dead letter", LIMIT, |_| {
        let mut answer = ureq::get(format!("{url}/metrics")).call().ok()?;
        let text = answer.body_mut().read_to_string().expect("text");
        let counted = text.lines().any(|line| line == format!("{refused} 1"));
        counted.then_some(())
    });
    let page = running.get("/results");
    assert!(page.contains("100 %") && page.contains("Churn risk"), "{page}");

    running.kill();
    let mut again = Bellwether::spawn(command(dir.path()));
    let after = results_once(&mut again, known);
    assert_eq!(after["all"], before["all"], "a kill loses and doubles nothing");
    let told = bellwether(["kpis", "--url", &again.url()]).output().expect("the binary runs");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("churn risk") && told.contains("100 % of 1"), "{told}");
}

/// The rolling detector end to end: the score is the one computed by hand, also after a kill.
#[test]
fn a_rolling_policy_scores_every_event_and_outlives_a_kill() {
    const DAY_MS: i64 = 86_400_000;
    let dir = tempfile::tempdir().expect("a directory");
    let policy = include_str!("../../benches/policies/peer.toml");
    let policy = policy.replace("publish_current = false", "publish_current = true");
    let file = dir.path().join("rolling.toml");
    std::fs::write(&file, policy).expect("a new file");
    let start = || {
        let mut command = command(&dir.path().join("data"));
        command.arg("--policy").arg(&file);
        Bellwether::spawn(command)
    };
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as i64;
    let login = |id: String, days_ago: i64| json!({"event_id": id, "account_id": "acme", "signal": "logins", "value": 1, "occurred_at": now - days_ago * DAY_MS});
    let score_is = |running: &mut Bellwether, wanted: f64| -> Value {
        let url = running.url();
        running.wait_until("the score", LIMIT, |_| {
            let mut answer = ureq::get(format!("{url}/v1/accounts/acme")).call().ok()?;
            let text = answer.body_mut().read_to_string().expect("text");
            let page: Value = serde_json::from_str(&text).expect("JSON");
            let account = page["account"].clone();
            (account["score"] == json!(wanted)).then_some(account)
        })
    };
    // Ten logins in each of eight weeks, and one in the ninth: nine standard deviations below, at three points each.
    let weeks = (1..=8)
        .rev()
        .flat_map(|week| (0..10).map(move |number| (format!("{week}-{number}"), 7 * week)));
    let mut events: Vec<Value> = weeks.map(|(id, days)| login(id, days)).collect();
    events.push(login("first".to_owned(), 0));
    let mut running = start();
    let (status, answer) = post(&running.url(), json!(events).to_string().as_bytes());
    assert_eq!((status, &answer["rejected"]), (202, &json!([])), "{answer}");
    score_is(&mut running, 73.0);
    running.kill();
    let mut running = start();
    let before = score_is(&mut running, 73.0);
    let (status, _) = post(&running.url(), login("second".to_owned(), 0).to_string().as_bytes());
    assert_eq!(status, 202);
    let after = score_is(&mut running, 76.0);
    assert_eq!(after["sequence"].as_u64(), before["sequence"].as_u64().map(|number| number + 1));
    assert_eq!(running.terminate(LIMIT).code(), Some(0), "SIGTERM is a clean end");
}

#[test]
fn a_directory_belongs_to_one_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut first = Bellwether::spawn(command(dir.path()));
    assert_eq!(first.get("/healthz").trim(), "ok");
    let second = command(dir.path()).output().expect("the binary runs");
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(error.contains("in use") && error.contains("--data-dir"), "{error}");
    assert_eq!(first.terminate(LIMIT).code(), Some(0));
}

#[test]
fn what_is_wrong_with_an_event_is_said_and_the_rest_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(command(dir.path()));
    let url = running.url();
    let good = stories::events().swap_remove(0);
    let mut body = stories::event_json(&good);
    body.extend_from_slice(b"\n{\"account_id\": 7}\n{broken\n");
    let (status, answer) = post(&url, &body);
    assert_eq!((status, &answer["accepted"]), (202, &json!(1)), "{answer}");
    let reasons: Vec<_> = answer["rejected"].as_array().expect("a list").iter().collect();
    assert_eq!(reasons.len(), 2, "{answer}");
    assert_eq!((&reasons[0]["index"], &reasons[1]["index"]), (&json!(1), &json!(2)), "{answer}");
    assert_eq!(reasons[1]["reason"], "malformed");
    // Events without id and time are as many as were sent.
    let login = r#"{"account_id":"many","type":"login"}"#;
    let (_, answer) = post(&url, format!("[{}]", vec![login; 100].join(",")).as_bytes());
    assert_eq!(answer["accepted"], 100);
    running.wait_until("all of them", LIMIT, |_| {
        let mut answer = ureq::get(format!("{url}/metrics")).call().expect("metrics");
        let text = answer.body_mut().read_to_string().expect("text");
        let admitted = metric_sum(&text, "bellwether_events_admitted_total");
        assert!(!text.contains("reason=\"duplicate\"} 9"), "{text}");
        (admitted >= 101.0).then_some(())
    });
    let (_, answer) = post(&url, br#"{"account_id":"many","type":"logn"}"#);
    assert_eq!(answer["unmatched_types"], json!(["logn"]), "a typing error is told");
    let ahead = r#"{"account_id":"many","type":"login","occurred_at":"2999-01-01T00:00:00Z"}"#;
    let (status, answer) = post(&url, ahead.as_bytes());
    assert_eq!((status, &answer["rejected"][0]["reason"]), (400, &json!("future")), "{answer}");
    for body in [&b""[..], b"[]", b"\xff\xfe"] {
        let (status, answer) = post(&url, body);
        assert_eq!(status, 400, "{answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{answer}");
    }
    running.wait_until("the good event", LIMIT, |_| {
        ureq::get(format!("{url}/v1/accounts/{}", good.account)).call().ok()
    });
    assert!(running.get("/readyz").contains("\"ready\":true"));

    // What admission rejects later is kept, and can be looked at.
    let past = r#"{"account_id":"many","type":"login","occurred_at":"1971-01-01T00:00:00Z"}"#;
    assert_eq!(post(&url, past.as_bytes()).0, 202);
    finish(&mut running);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let listed = bellwether(["dlq", "ls", "--embedded", "--json", "--data-dir"])
        .arg(dir.path())
        .output()
        .expect("the binary runs");
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed["total"], 1, "{listed}");
    assert_eq!(listed["dead_letters"][0]["reason"], "too_late", "{listed}");
}

/// What a newcomer sees first, with the dates that the stories promise.
#[test]
fn the_demo_tells_the_stories() {
    let output = bellwether(["demo", "--json", "--as-of", "2026-03-01"]).output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let demo: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert!(demo["events"].as_u64().is_some_and(|events| events > 90_000), "{}", demo["events"]);
    let bands = demo["bands"].as_object().expect("bands");
    assert_eq!(bands.len(), 3, "{bands:?}");
    let accounts: u64 = bands.values().map(|count| count.as_u64().expect("a count")).sum();
    assert!(accounts > 700, "{bands:?}");
    assert_eq!(demo["stories"].as_array().expect("stories").len(), 8);
    let account = &demo["account"];
    assert_eq!(account["record"]["account_id"], "story-slipping");
    assert_eq!(account["record"]["band"], "at_risk");
    let lines = account["record"]["contributions"].as_array().expect("lines");
    let sum: i64 = lines.iter().map(|line| line["centipoints"].as_i64().expect("points")).sum();
    assert_eq!(Some(sum), account["record"]["score_centipoints"].as_i64());
    let alerts = account["open_alerts"].as_array().expect("alerts");
    let churn = alerts.iter().find(|alert| alert["kind"] == "churn_risk").expect("churn risk");
    assert_eq!(churn["severity"], "critical");
    let onset = |signal: &str| {
        let evidence = churn["evidence"].as_array().expect("evidence");
        let item = evidence.iter().find(|item| item["signal"] == signal);
        item.unwrap_or_else(|| panic!("{signal}: {churn}"))["onset"].clone()
    };
    // Weeks 9 to 12 begin on 2 February 2026, weeks 11 and 12 on 16 February.
    assert_eq!(onset("logins"), "2026-02-02");
    assert_eq!(onset("admin_presence"), "2026-02-16");
}

/// The answer of a command about a data directory, and its exit code.
fn say(arguments: &[&str], data_dir: &Path) -> (Option<i32>, Value) {
    let mut command = bellwether(arguments.iter().copied().chain(["--json", "--data-dir"]));
    let output = command.arg(data_dir).output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), answer)
}

fn status(url: &str) -> u16 {
    let request = ureq::get(url).config().http_status_as_error(false).build();
    request.call().expect("the server answers").status().as_u16()
}

/// The last value of each key of an account in a topic of a process that has ended.
fn last_values(data_dir: &Path, topic: &str, account: &str) -> Vec<Option<String>> {
    let mut latest = std::collections::BTreeMap::new();
    for (_, key, value) in published(data_dir, topic) {
        // The state changelog puts a tag before the account.
        let key = key.expect("compacted topics have keys");
        if key == account || key.starts_with(&format!("A{account}\0")) {
            latest.insert(key, value);
        }
    }
    latest.into_values().collect()
}

/// Deleted through the running server, and into the log of one that has ended: nothing brings it back.
#[test]
fn a_deleted_account_is_gone_and_stays_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(command(dir.path()));
    let url = running.url();
    send(&url, &stories::events());
    finish(&mut running);
    let at = |account: &str| format!("{url}/v1/accounts/{account}");
    let (code, preview) = say(&["forget", "story-slipping", "--url", &url], dir.path());
    assert_eq!((code, &preview["sent"]), (Some(0), &json!(false)), "{preview}");
    assert!(preview["known"]["open_alerts"].as_array().is_some_and(|open| !open.is_empty()));
    assert_eq!(status(&at("story-slipping")), 200);
    assert_eq!(say(&["forget", "nobody", "--url", &url], dir.path()).0, Some(3));
    let others = running.get("/v1/accounts/story-twin");
    let (code, sent) = say(&["forget", "story-slipping", "--url", &url, "--yes"], dir.path());
    assert_eq!((code, &sent["sent"]), (Some(0), &json!(true)), "{sent}");
    running.wait_until("the deletion", LIMIT, |running| {
        let listed = running.get("/v1/alerts").contains("story-slipping");
        (status(&at("story-slipping")) == 404 && !listed).then_some(())
    });
    assert_eq!(status(&format!("{url}/accounts/story-slipping")), 404, "the page too");
    assert_eq!(running.get("/v1/accounts/story-twin"), others);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    for (topic, keys) in [("health.score-current.v1", 1), ("bellwether.state.changelog", 4)] {
        let last = last_values(dir.path(), topic, "story-slipping");
        assert!(last.len() >= keys, "{topic}: {last:?}");
        assert!(last.iter().all(Option::is_none), "{topic}: {last:?}");
    }

    let (_, explained) = say(&["explain", "story-twin"], dir.path());
    std::fs::remove_dir_all(dir.path().join("state")).expect("it is there");
    let mut running = Bellwether::spawn(command(dir.path()));
    running.wait_until_ready();
    let url = running.url();
    assert_eq!(status(&format!("{url}/v1/accounts/story-slipping")), 404);
    let restored: Value =
        serde_json::from_str(&running.get("/v1/accounts/story-twin")).expect("JSON");
    let lines = |answer: &Value| answer["account"]["contributions"].clone();
    assert_eq!(lines(&restored), lines(&explained), "the others are as they were");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    let (code, preview) = say(&["forget", "story-twin", "--embedded"], dir.path());
    assert_eq!((code, &preview["sent"]), (Some(0), &json!(false)), "{preview}");
    assert!(preview["known"]["rows"].as_u64().is_some_and(|rows| rows > 3), "{preview}");
    assert_eq!(say(&["forget", "story-slipping", "--embedded"], dir.path()).0, Some(3));
    assert_eq!(say(&["forget", "story-twin", "--embedded", "--yes"], dir.path()).0, Some(0));
    let mut running = Bellwether::spawn(command(dir.path()));
    let url = running.url();
    running.wait_until("the deletion", LIMIT, |_| {
        (status(&format!("{url}/v1/accounts/story-twin")) == 404).then_some(())
    });
}

/// Accounts with a login on each of two days, and one that comes back long after: the days of all the others come first.
fn long_close() -> (Vec<Event>, Vec<Event>) {
    let mut before = Vec::new();
    let mut template = stories::events().swap_remove(0);
    for day in 0..2 {
        for account in 0..3_000 {
            template.id = EventId::new(&format!("{day}-{account}")).expect("digits");
            template.account = AccountId::new(&format!("many-{account}")).expect("letters");
            "login".clone_into(&mut template.kind);
            before.push(template.clone());
        }
        template.occurred_at = template.occurred_at.plus(24 * 3_600_000);
    }
    template.occurred_at = template.occurred_at.plus(6 * 24 * 3_600_000);
    let after = (0..40).map(|account| Event {
        id: EventId::new(&format!("late-{account}")).expect("digits"),
        account: AccountId::new(&format!("many-{account}")).expect("letters"),
        ..template.clone()
    });
    (before, after.collect())
}

/// The close of many days is several transactions; killed between them, and again, it goes on and publishes what it would have.
#[test]
fn a_long_close_is_cut_and_goes_on_after_a_kill() {
    let whole = tempfile::tempdir().expect("a directory");
    let killed = tempfile::tempdir().expect("a directory");
    let (before, after) = long_close();
    let mut running = Bellwether::spawn(command(whole.path()));
    send(&running.url(), &before);
    send(&running.url(), &after);
    finish(&mut running);
    assert!(running.metric("bellwether_close_waits_total") > 0.0, "records waited for the close");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    let mut doomed = command(killed.path());
    doomed.env("BELLWETHER_KILL_AT", "close-step:2");
    let mut running = Bellwether::spawn(doomed);
    send(&running.url(), &before);
    send(&running.url(), &after);
    assert_eq!(running.wait(LIMIT).signal(), Some(9), "{}", running.stderr());
    let mut doomed = command(killed.path());
    doomed.env("BELLWETHER_KILL_AT", "close-step:1");
    assert_eq!(Bellwether::spawn(doomed).wait(LIMIT).signal(), Some(9));
    let mut running = Bellwether::spawn(command(killed.path()));
    finish(&mut running);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    for topic in ["health.score-changed.v1", "health.score-current.v1", "health.alerts.v1"] {
        let (found, expected) = (published(killed.path(), topic), published(whole.path(), topic));
        assert_same(topic, &found, &expected);
    }
}
