//! What people do with alerts, by the command line against a running server: taken on, quietened, ended, and so after a kill; and into
//! the topic, without one.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use bellwether_core::time::Millis;
use bellwether_engine::embedded::{Embedded, partition_of};
use bellwether_engine::log::Append;
use bellwether_tests::{Bellwether, bellwether, stories, wait_until};
use serde_json::Value;

/// No step takes longer on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);
/// Where the commands say that all stands that is kept.
const TOPIC: &str = "--embedded while no process has the log";
/// The account whose story ends in an urgent alert.
const SLIPPING: &str = "story-slipping";

fn command(data_dir: &Path) -> Command {
    let mut command = bellwether(["run", "--embedded", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(data_dir);
    command
}

/// `bellwether alerts` against a server.
fn alerts(url: &str, words: &[&str]) -> Output {
    let run = bellwether(["alerts"]).args(words).args(["--url", url]).output();
    run.expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a server knows of an alert, once it is in a state.
fn once(running: &mut Bellwether, alert: &str, state: &str) -> Value {
    let url = running.url();
    running.wait_until(state, LIMIT, |_| {
        let mut answer = ureq::get(format!("{url}/v1/alerts/{alert}")).call().ok()?;
        let answer = answer.body_mut().read_to_string().expect("text");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        (answer["alert"]["state"] == state).then_some(answer)
    })
}

/// Sends the events of the stories of some accounts, and waits for the urgent alert of the one that slips.
fn told(running: &mut Bellwether, wanted: impl Fn(&str) -> bool) -> Value {
    let url = running.url();
    let mut events = stories::events();
    events.retain(|event| wanted(event.account.as_str()));
    for chunk in events.chunks(500) {
        let lines = chunk.iter().map(stories::event_json).collect::<Vec<_>>().join(&b'\n');
        let sent = ureq::post(format!("{url}/v1/events")).send(&lines[..]);
        assert_eq!(sent.expect("an answer").status(), 202);
    }
    let list = ["ls", "--kind", "churn_risk", "--account", SLIPPING, "--json"];
    running.wait_until("the alert", LIMIT, |_| {
        let listed: Value = serde_json::from_slice(&alerts(&url, &list).stdout).ok()?;
        let listed = listed["alerts"].as_array().expect("a list");
        listed.iter().find(|alert| alert["severity"] == "critical").cloned()
    })
}

/// Posts a body: the status, and the answer.
fn post(url: &str, kind: &str, body: &str) -> (u16, String) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    let sent = agent.post(url).header("content-type", kind).send(body);
    let mut answer = sent.expect("an answer");
    (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
}

#[test]
fn an_alert_is_taken_on_quietened_and_ended_by_people_and_a_kill_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(command(dir.path()));
    let url = running.url();
    let urgent = told(&mut running, |_| true);
    let id = urgent["alert_id"].as_str().expect("an id");
    assert_eq!((&urgent["state"], &urgent["reopened"]), (&"open".into(), &0.into()));
    assert!(urgent["priority"].as_i64() >= Some(50), "{urgent}");
    let table = text(&alerts(&url, &["ls"]).stdout);
    assert!(table.contains(&id[..8]) && table.contains("churn risk"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 110), "{table}");

    let said = alerts(&url, &["ack", &id[..8], "--by", "ann", "--note", "calling them"]);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said.stderr));
    let answer = once(&mut running, id, "acknowledged");
    let event = &answer["alert"];
    assert_eq!((&event["by"], &event["note"]), (&"ann".into(), &"calling them".into()));
    assert!(event["evidence"].as_array().is_some_and(|all| all.len() > 1), "{event}");
    let shown = text(&alerts(&url, &["show", id]).stdout);
    assert!(shown.contains("acknowledged by ann") && shown.contains("calling them"), "{shown}");
    assert_eq!(alerts(&url, &["snooze", id]).status.code(), Some(2), "until when?");
    assert_eq!(alerts(&url, &["snooze", id, "--days", "7"]).status.code(), Some(0));
    once(&mut running, id, "snoozed");
    running.kill();

    let mut running = Bellwether::spawn(command(dir.path()));
    let url = running.url();
    let answer = once(&mut running, id, "snoozed");
    assert!(answer["alert"]["snoozed_until"].is_string(), "{answer}");
    // What happened before the kill stands in the log.
    let shown = text(&alerts(&url, &["show", &id[..8]]).stdout);
    for part in ["opened", "acknowledged by ann", ": calling them", "snoozed"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(alerts(&url, &["label", id, "confirmed"]).status.code(), Some(0));
    assert_eq!(alerts(&url, &["label", id, "vanished"]).status.code(), Some(2));
    assert_eq!(alerts(&url, &["resolve", id, "--by", "ann"]).status.code(), Some(0));
    let answer = once(&mut running, id, "resolved");
    assert_eq!(answer["alert"]["resolution"], "manual");
    let late = alerts(&url, &["ack", id]);
    assert_eq!(late.status.code(), Some(1));
    assert!(text(&late.stderr).contains("has ended"), "{}", text(&late.stderr));
    assert_eq!(alerts(&url, &["show", "nobody's alert"]).status.code(), Some(3));
    let open = alerts(&url, &["ls", "--account", "story-slipping", "--json"]);
    let open: Value = serde_json::from_slice(&open.stdout).expect("JSON");
    let open = open["alerts"].as_array().expect("a list");
    assert!(open.iter().all(|alert| alert["alert_id"] != id), "{open:?}");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    // Of one that has ended a process that begins knows nothing, and the log all.
    let whole = |shown: &Output| {
        let answer: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        let events = answer["events"].as_array().expect("a list").iter();
        let words = events.map(|event| event["transition"].as_str().expect("a word").to_owned());
        (words.collect::<Vec<_>>(), answer["whole"] == true)
    };
    let mut running = Bellwether::spawn(command(dir.path()));
    let url = running.url();
    let (words, is_whole) = whole(&alerts(&url, &["show", id, "--json"]));
    assert!(is_whole);
    assert_eq!(words[..3], ["resolved", "snoozed", "acknowledged"], "latest first");
    assert_eq!(words.last().map(String::as_str), Some("opened"), "{words:?}");
    assert_eq!(alerts(&url, &["show", "ffffffffffffffff"]).status.code(), Some(3));
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let logged = |id: &str| {
        let run = bellwether(["alerts", "show", id, "--json", "--embedded", "--data-dir"]);
        { run }.arg(dir.path()).output().expect("the binary runs")
    };
    assert_eq!(whole(&logged(&id[..8])), (words, true));
    assert_eq!(logged("ffffffffffffffff").status.code(), Some(3));
    assert_eq!(logged(&id[..4]).status.code(), Some(2), "too short");
}

/// A policy under which nobody may snooze for longer than three days.
fn impatient(dir: &Path) -> String {
    let policy = bellwether(["policy", "show"]).output().expect("the binary runs");
    let policy = text(&policy.stdout).replace("snooze_days_max = 90", "snooze_days_max = 3");
    assert!(policy.contains("snooze_days_max = 3"), "{policy}");
    let path = dir.join("policy.toml");
    std::fs::write(&path, policy).expect("writable");
    path.to_str().expect("text").to_owned()
}

#[test]
fn a_snooze_that_the_policy_forbids_is_refused_where_it_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let policy = impatient(dir.path());
    let data_dir = dir.path().join("data");
    let mut start = command(&data_dir);
    start.args(["--policy", &policy]);
    let mut running = Bellwether::spawn(start);
    let url = running.url();
    let urgent = told(&mut running, |account| account == SLIPPING);
    let id = urgent["alert_id"].as_str().expect("an id");

    let refused = |output: Output, why: &str| {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why) && output.stdout.is_empty(), "{said}");
    };
    refused(alerts(&url, &["snooze", id, "--days", "4"]), "3 days later (alerts.snooze_days_max");
    let mistaken = alerts(&url, &["ack", id, "--account", "story-steady"]);
    refused(mistaken, "is of account story-slipping, and not of story-steady");

    let said = format!("{url}/v1/alerts/{id}/outcomes");
    for until in ["2020-01-01T00:00:00Z", "2096-01-01T00:00:00Z"] {
        let body = format!(r#"{{"kind": "snoozed", "until": "{until}"}}"#);
        let (status, answer) = post(&said, "application/json", &body);
        assert!(status == 400 && answer.contains("snooze_days_max"), "{status} {answer}");
        let body = format!(
            r#"{{"account_id": "{SLIPPING}", "alert_id": "{id}", "kind": "snoozed", "until": "{until}"}}"#
        );
        let (status, answer) = post(&format!("{url}/v1/outcomes"), "application/json", &body);
        assert!(status == 400 && answer.contains("out_of_range"), "{status} {answer}");
    }

    // The button keeps to the policy, and says so.
    let page = running.get(&format!("/accounts/{SLIPPING}"));
    assert!(page.contains("Snooze for 3 days") && !page.contains("for a week"), "{page}");
    let button = format!("{url}/accounts/{SLIPPING}/alerts/{id}/feedback");
    let (status, answer) = post(&button, "application/x-www-form-urlencoded", "kind=snoozed");
    assert_eq!(status, 303, "{answer}");
    let answer = once(&mut running, id, "snoozed");
    assert!(answer["alert"]["snoozed_until"].is_string(), "{answer}");
    assert_eq!(running.metric(r#"bellwether_outputs_total{kind="dead_letter"}"#), 0.0);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}

#[test]
fn without_a_server_commands_go_into_the_topic_by_the_whole_id() {
    let dir = tempfile::tempdir().expect("a directory");
    let policy = impatient(dir.path());
    let data_dir = dir.path().join("data");
    let mut running = Bellwether::spawn(command(&data_dir));
    let urgent = told(&mut running, |account| account == SLIPPING);
    let id = urgent["alert_id"].as_str().expect("an id");
    let url = running.url();
    let unknown = alerts(&url, &["ack", "0123abcd", "--account", SLIPPING]);
    assert_eq!(unknown.status.code(), Some(3), "{}", text(&unknown.stderr));
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    let into_the_topic = |words: &[&str]| {
        let mut run = bellwether(["alerts"]);
        run.args(words).args(["--embedded", "--policy", &policy, "--data-dir"]).arg(&data_dir);
        let output = run.output().expect("the binary runs");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    for (words, why) in [
        (vec!["ack", id], "--account"),
        (vec!["ack", &id[..8], "--account", SLIPPING], "32 hexadecimal digits"),
        (vec!["snooze", id, "--account", SLIPPING, "--days", "4"], "alerts.snooze_days_max"),
    ] {
        let (code, accepted, said) = into_the_topic(&words);
        assert_eq!(code, Some(2), "{words:?}: {said}");
        assert!(said.contains(why) && accepted.is_empty(), "{words:?}: {said}");
    }
    let (code, accepted, said) =
        into_the_topic(&["snooze", id, "--account", SLIPPING, "--days", "2", "--by", "ann"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(accepted.contains("Accepted") && accepted.contains(id), "{accepted}");

    let mut running = Bellwether::spawn(command(&data_dir));
    let answer = once(&mut running, id, "snoozed");
    assert_eq!(answer["alert"]["by"], "ann");
    assert_eq!(running.metric(r#"bellwether_outputs_total{kind="dead_letter"}"#), 0.0);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}

/// Partitions of the embedded log.
const PARTITIONS: i32 = 4;

fn now() -> Millis {
    Millis(bellwether_engine::clock::now_ms())
}

/// The log of a process that has ended.
fn opened(data_dir: &Path) -> Embedded {
    let shared = bellwether_store::Shared::new(16 << 20);
    let dir = data_dir.join("log");
    // A process that another test starts meanwhile may hold a copy of its lock until it has begun.
    wait_until("the log", LIMIT, || Embedded::open(&dir, &shared, u64::MAX).ok())
}

/// Appends a record to the log of a process that has ended, so many times: into the partition of an account, in the topic of alerts.
fn append(data_dir: &Path, account: &str, (key, payload): (&str, Vec<u8>), times: usize) {
    let log = opened(data_dir);
    let record = Append {
        topic: "health.alerts.v1".into(),
        partition: partition_of(account.as_bytes(), PARTITIONS),
        key: Some(key.as_bytes().to_vec()),
        payload: Some(payload),
        headers: Vec::new(),
        timestamp_ms: None,
    };
    let page = vec![record; times.min(10_000)];
    for _ in 0..times.div_ceil(page.len()) {
        log.append(&page, Duration::ZERO).expect("there is room");
    }
}

/// Puts a record that nobody can decode, and that names an alert, into the log of a process that has ended.
fn damage(data_dir: &Path, account: &str, alert: &str) {
    // Avro of a schema that only a registry knows.
    let payload = [&[0, 0, 0, 0, 7], alert.as_bytes()].concat();
    append(data_dir, account, (account, payload), 1);
}

#[test]
fn what_cannot_be_read_of_an_alert_is_no_absence_and_others_do_not_matter() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(command(dir.path()));
    let urgent = told(&mut running, |account| account == SLIPPING);
    let id = urgent["alert_id"].as_str().expect("an id").to_owned();
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let get = |url: &str, path: &str| {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(format!("{url}/v1/alerts/{path}")).call().expect("an answer");
        let body = answer.body_mut().read_to_string().expect("text");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let retry = answer.headers().get("retry-after").is_some();
        (answer.status().as_u16(), retry, body)
    };

    // Of another account, elsewhere: the alert is open, so its account is known.
    let elsewhere = (0..).map(|number| format!("other-{number}")).find(|other| {
        let of = |account: &str| partition_of(account.as_bytes(), PARTITIONS);
        of(other) != of(SLIPPING)
    });
    damage(dir.path(), &elsewhere.expect("there are four partitions"), &id);
    let mut running = Bellwether::spawn(command(dir.path()));
    running.wait_until_ready();
    let (status, _, answer) = get(&running.url(), &format!("{id}?history=true"));
    assert_eq!((status, &answer["whole"]), (200, &true.into()), "{answer}");
    assert!(answer["events"].as_array().is_some_and(|all| !all.is_empty()), "{answer}");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    // Of its own account: with no registry, and with one that is away.
    damage(dir.path(), SLIPPING, &id);
    for registry in [None, Some("http://localhost:1")] {
        let mut command = command(dir.path());
        if let Some(url) = registry {
            let json = ("BELLWETHER_ENGINE__OUTPUT_FORMAT", "json");
            command.envs([("BELLWETHER_REGISTRY__URL", url), json]);
        }
        let mut running = Bellwether::spawn(command);
        running.wait_until_ready();
        let url = running.url();
        let (status, may_try_again, problem) = get(&url, &format!("{id}?history=true"));
        assert_eq!((status, may_try_again), (503, true), "{problem}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("the log cannot be read now"), "{detail}");
        assert_eq!(get(&url, &id).0, 200, "what the process knows, it says");
        let shown = alerts(&url, &["show", &id]);
        assert_eq!(shown.status.code(), Some(1), "{}", text(&shown.stderr));
        assert!(text(&shown.stderr).contains("503"), "{}", text(&shown.stderr));
        assert_eq!(running.terminate(LIMIT).code(), Some(0));
    }
    let mut logged = bellwether(["alerts", "show", &id, "--embedded", "--data-dir"]);
    let logged = logged.arg(dir.path()).output().expect("the binary runs");
    assert_eq!(logged.status.code(), Some(1));
    assert!(text(&logged.stderr).contains("cannot be read"), "{}", text(&logged.stderr));
}

/// Publishes events of alerts of other accounts, as a log of years has them, into a partition of the log of a process that has ended.
fn bury(data_dir: &Path, account: &str, records: usize) {
    append(data_dir, account, ("another", b"{}".to_vec()), records);
}

#[test]
fn an_alert_that_lies_further_back_than_is_looked_is_told_from_one_that_never_was() {
    let started_at = now();
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(command(dir.path()));
    let urgent = told(&mut running, |account| account == SLIPPING);
    let id = urgent["alert_id"].as_str().expect("an id").to_owned();
    let never = alerts(&running.url(), &["show", "ffffffffffffffff"]);
    assert_eq!(never.status.code(), Some(3));
    assert!(text(&never.stderr).contains("there never was"), "{}", text(&never.stderr));
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    // Still open, and its beginning lies further back: of its own partition the newest 100,000 records are looked through.
    bury(dir.path(), SLIPPING, 100_000);
    let mut running = Bellwether::spawn(command(dir.path()));
    running.wait_until_ready();
    let url = running.url();
    let shown = alerts(&url, &["show", &id, "--json"]);
    let answer: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(
        (&answer["whole"], &answer["alert"]["alert_id"]),
        (&false.into(), &id.clone().into())
    );
    let shown = text(&alerts(&url, &["show", &id]).stdout);
    assert!(shown.contains("its beginning is not among these (it opened 20"), "{shown}");
    assert!(shown.contains("the server looked back to 20") && shown.contains(TOPIC), "{shown}");
    assert_eq!(answer["older_records"], "unread");
    // Of history that was read in today: when it was published counts, and not when it happened.
    let back_to = answer["looked_back_to"].as_str().and_then(Millis::parse).expect("a time");
    let mut began = ureq::get(format!("{url}/v1/alerts/{id}")).call().expect("an answer");
    let began = began.body_mut().read_to_string().expect("text");
    let began: Value = serde_json::from_str(&began).expect("JSON");
    let known_since = began["looked_back_to"].as_str().and_then(Millis::parse).expect("a time");
    assert!(started_at <= back_to && back_to <= known_since, "{answer} {began}");
    assert_eq!(began["older_records"], "unread", "without the log that is not known");
    assert_eq!(alerts(&url, &["resolve", &id, "--by", "ann"]).status.code(), Some(0));
    let answer = once(&mut running, &id, "resolved");
    assert_eq!(answer["whole"], false);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    // It has ended, so its account is not known: of each of four partitions 25,000 are looked through, and it is before those.
    bury(dir.path(), SLIPPING, 30_000);
    let mut running = Bellwether::spawn(command(dir.path()));
    running.wait_until_ready();
    let url = running.url();
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer =
        agent.get(format!("{url}/v1/alerts/{id}?history=true")).call().expect("an answer");
    let kind = answer.headers().get("content-type").cloned();
    assert_eq!(answer.status().as_u16(), 404);
    assert_eq!(kind.as_ref().map(|kind| kind.as_bytes()), Some(&b"application/problem+json"[..]));
    let problem = answer.body_mut().read_to_string().expect("text");
    let problem: Value = serde_json::from_str(&problem).expect("JSON");
    assert_eq!(
        (&problem["type"], &problem["older_records"]),
        (&"unknown-alert".into(), &"unread".into())
    );
    let back_to = problem["looked_back_to"].as_str().and_then(Millis::parse).expect("a time");
    let opened_at = urgent["opened_at"].as_str().and_then(Millis::parse).expect("a time");
    assert!(back_to > opened_at, "{problem}");
    let shown = alerts(&url, &["show", &id]);
    let said = text(&shown.stderr);
    assert_eq!(shown.status.code(), Some(3), "{said}");
    assert!(said.contains("it looked back to 20") && said.contains(TOPIC), "{said}");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    // The log itself has it, from its beginning on.
    let logged = bellwether(["alerts", "show", &id, "--json", "--embedded", "--data-dir"]);
    let logged = { logged }.arg(dir.path()).output().expect("the binary runs");
    let answer: Value = serde_json::from_slice(&logged.stdout).expect("JSON");
    let events = answer["events"].as_array().expect("a list");
    assert_eq!((&answer["whole"], &events[0]["transition"]), (&true.into(), &"resolved".into()));
    assert_eq!(events.last().expect("there are some")["transition"], "opened");
    assert_eq!((&answer["looked_back_to"], &answer["older_records"]), (&Value::Null, &Value::Null));
}

#[test]
fn what_retention_took_of_an_alert_is_not_said_to_lie_further_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(command(dir.path()));
    let urgent = told(&mut running, |account| account == SLIPPING);
    let id = urgent["alert_id"].as_str().expect("an id").to_owned();
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    // Records go and offsets go on, as when their time is over.
    let emptied_at = now();
    let log = opened(dir.path());
    log.reset(&["health.alerts.v1"], &[]).expect("the log can be written");
    drop(log);

    // It is still open, so its latest event is known.
    let mut running = Bellwether::spawn(command(dir.path()));
    running.wait_until_ready();
    let url = running.url();
    let shown = alerts(&url, &["show", &id, "--json"]);
    let answer: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!((&answer["whole"], &answer["older_records"]), (&false.into(), &"gone".into()));
    let back_to = answer["looked_back_to"].as_str().and_then(Millis::parse).expect("a time");
    assert!(back_to >= emptied_at, "{answer}");
    let text_of = |words: &[&str]| text(&alerts(&url, words).stdout);
    let shown = text_of(&["show", &id]);
    assert!(shown.contains("its beginning (it opened 20"), "{shown}");
    assert!(shown.contains("is no longer kept") && !shown.contains(TOPIC), "{shown}");
    let unknown = alerts(&url, &["show", "ffffffffffffffff"]);
    let said = text(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(3), "{said}");
    assert!(said.contains("all that its log keeps") && !said.contains(TOPIC), "{said}");
    // What comes from now on is kept, and its beginning is not.
    assert_eq!(alerts(&url, &["resolve", &id, "--by", "ann"]).status.code(), Some(0));
    once(&mut running, &id, "resolved");
    let answer: Value = serde_json::from_str(&text_of(&["show", &id, "--json"])).expect("JSON");
    assert_eq!((&answer["whole"], &answer["older_records"]), (&false.into(), &"gone".into()));
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    let logged = |words: &[&str]| {
        let mut command = bellwether(["alerts", "show", &id, "--embedded", "--data-dir"]);
        command.arg(dir.path()).args(words).output().expect("the binary runs")
    };
    let answer: Value = serde_json::from_slice(&logged(&["--json"]).stdout).expect("JSON");
    assert_eq!((&answer["whole"], &answer["older_records"]), (&false.into(), &"gone".into()));
    let shown = text(&logged(&[]).stdout);
    assert!(shown.contains("resolved by ann") && shown.contains("is no longer kept"), "{shown}");
}
