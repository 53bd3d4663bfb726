//! A model is promoted into a running process and rolled back, or scores beside the one in force, over kills, and a replay of the same promotions
//! scores the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use bellwether_tests::{Bellwether, bellwether, embedded_records};
use serde_json::{Value, json};

/// No step takes longer on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);
const POLICY: &str = r#"
name = "logins"
[[signal]]
name = "logins"
category = "engagement"
group = "logins"
direction = "down"
aggregate = "count"
match = { types = ["login"] }
unit = "logins/week"
weight = 10.0
kind = "usage_decline"
"#;
const DAY_MS: i64 = 86_400_000;
/// 2025-01-06, a Monday.
const START_MS: i64 = 20_094 * DAY_MS;
const DAYS: i64 = 130;
/// The day of the promotion, and that of the way back.
const TURNS: (i64, i64) = (70, 100);
const ACCOUNTS: i64 = 7;
const LAST: &str = "last";

/// (time, account), in the order of time; the last one is of an account of its own.
fn events() -> Vec<(i64, String)> {
    let mut events = Vec::new();
    for (day, account) in (0..DAYS).flat_map(|day| (0..ACCOUNTS).map(move |of| (day, of))) {
        // Some come daily, some now and then, and some no more.
        let comes = (day * 5 + account * 3) % 8 > account && !(account == 3 && day > 80);
        if comes {
            let at = START_MS + day * DAY_MS + DAY_MS / 2 + account * 60_000;
            events.push((at, format!("a{account}")));
        }
    }
    events.push((START_MS + DAYS * DAY_MS, LAST.to_owned()));
    events
}

fn noon(day: i64) -> i64 {
    START_MS + day * DAY_MS + DAY_MS / 2
}

fn iso(at_ms: i64) -> String {
    bellwether_core::time::Millis(at_ms).iso()
}

fn start(dir: &Path) -> Bellwether {
    let mut command: Command = bellwether(["run", "--embedded", "--listen", "127.0.0.1:0"]);
    command.current_dir(dir).args(["--data-dir", "data", "--policy", "policy.toml"]);
    command.env("BELLWETHER_ENGINE__EMBEDDED_PARTITIONS", "1");
    Bellwether::spawn(command)
}

fn send(running: &mut Bellwether, events: &[(i64, String)]) {
    let lines: Vec<String> = events
        .iter()
        .map(|(at, account)| {
            json!({"event_id": at.to_string(), "account_id": account, "type": "login", "occurred_at": at})
                .to_string()
        })
        .collect();
    let answer = ureq::post(format!("{}/v1/events", running.url())).send(lines.join("\n"));
    assert_eq!(answer.expect("taken").status(), 202);
}

/// Waits until what was sent of models, so many records, has been read: topics are not ordered among each other.
fn taken(running: &mut Bellwether, records: u32) {
    let read = format!("bellwether_events_in_total{{topic=\"bellwether.models\"}} {records}\n");
    running.wait_until("the promotion is taken", LIMIT, |running| {
        running.get("/metrics").contains(&read).then_some(())
    });
}

/// Waits until so many events have been admitted by this process, and committed: what a process leaves, the next one takes by its own policy.
fn admitted(running: &mut Bellwether, events: usize) {
    let admitted = format!("bellwether_events_admitted_total {events}\n");
    running.wait_until("the events are admitted", LIMIT, |running| {
        running.get("/metrics").contains(&admitted).then_some(())
    });
}

/// The policy without the signal that the models are learned with.
fn without_logins() -> String {
    let policy = POLICY.replace("name = \"logins\"\ncat", "name = \"visits\"\ncat");
    assert_ne!(policy, POLICY);
    policy
}

/// What the metrics say when a process goes on under a policy.
fn metrics_under(dir: &Path, policy: &str) -> String {
    std::fs::write(dir.join("policy.toml"), policy).expect("writable");
    let mut running = start(dir);
    running.wait_until_ready();
    let metrics = running.get("/metrics");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    metrics
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    bellwether(arguments.iter().copied()).current_dir(dir).output().expect("the binary runs")
}

fn said(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// By account: (time, score, model) of every published change.
type Changes = BTreeMap<String, Vec<(String, String, String)>>;

/// Every record of a topic, in its order.
fn records(dir: &Path, topic: &str) -> Vec<Value> {
    let records = embedded_records(&dir.join("data"), topic).into_iter();
    records
        .map(|of| serde_json::from_slice(&of.payload.unwrap_or_default()).expect("JSON"))
        .collect()
}

fn published(dir: &Path) -> Changes {
    let mut changes = Changes::new();
    for change in records(dir, "health.score-changed.v1") {
        let text = |name: &str| change[name].as_str().expect("a text").to_owned();
        let score = format!("{:.2}", change["score"].as_f64().expect("a number"));
        changes.entry(text("account_id")).or_default().push((
            text("at"),
            score,
            text("model_version"),
        ));
    }
    changes
}

/// A file of events, as a replay reads it.
fn write_events(dir: &Path, events: &[(i64, String)]) {
    let rows = events.iter().map(|(at, account)| format!("{at},{account},u,login,1,{at}\n"));
    let csv = format!(
        "event_id,account_id,user_id,signal,value,occurred_at\n{}",
        rows.collect::<String>()
    );
    std::fs::write(dir.join("events.csv"), csv).expect("writable");
}

/// Files of events and of the policy, and a model. Returns its version.
fn prepare(dir: &Path, events: &[(i64, String)]) -> String {
    write_events(dir, events);
    std::fs::write(dir.join("policy.toml"), POLICY).expect("writable");
    std::fs::write(dir.join("none.csv"), "account_id,kind,churned_at\n").expect("writable");
    let model = said(
        dir,
        &[
            "learn",
            "fit",
            "events.csv",
            "--outcomes",
            "none.csv",
            "--policy",
            "policy.toml",
            "--json",
        ],
    );
    let model: Value = serde_json::from_str(&model).expect("JSON");
    model["version"].as_str().expect("a version").to_owned()
}

/// At any time an explanation is what was published last, and its lines sum to the score.
fn explained_as_published(dir: &Path, live: &Changes) {
    let exact = |at: &str| bellwether_core::time::Millis::parse(at).expect("a time");
    for (account, changes) in live {
        for (index, (at, score, model)) in changes.iter().enumerate().step_by(5) {
            // At that very time, or just before the next one.
            let at = match changes.get(index + 1) {
                Some((next, ..)) if index % 2 == 0 => exact(next).plus(-1),
                _ => exact(at),
            };
            let arguments = [
                "explain",
                account,
                "--at",
                &at.iso(),
                "--embedded",
                "--data-dir",
                "data",
                "--json",
            ];
            let then: Value = serde_json::from_str(&said(dir, &arguments)).expect("JSON");
            let record = &then["account"];
            assert_eq!(format!("{:.2}", record["score"].as_f64().expect("a score")), *score);
            assert_eq!(record["model_version"], **model);
            let lines = record["contributions"].as_array().expect("lines").iter();
            let sum: i64 = lines.map(|line| line["centipoints"].as_i64().expect("points")).sum();
            assert_eq!(Some(sum), record["score_centipoints"].as_i64());
        }
    }
    let early = ["explain", "a0", "--at", "2020-01-01", "--embedded", "--data-dir", "data"];
    assert_eq!(run(dir, &early).status.code(), Some(3), "nothing was published by then");
}

/// By account: (time, score) of every change of the replay.
fn replayed(dir: &Path) -> BTreeMap<String, Vec<(String, String)>> {
    let mut replayed: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let scores = std::fs::read_to_string(dir.join("scores.csv")).expect("scores");
    for row in scores.lines().skip(1) {
        let [account, at, score] = row.split(',').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let known = bellwether_core::time::Millis::parse(at).expect("a time");
        let score: f64 = score.parse().expect("a number");
        replayed
            .entry(account.to_owned())
            .or_default()
            .push((known.plus(-1).iso(), format!("{score:.2}")));
    }
    replayed
}

/// Waits until metrics say how the accounts stand under the model in force.
fn surveyed(running: &mut Bellwether) {
    running.wait_until("the accounts are surveyed", LIMIT, |running| {
        let metrics = running.get("/metrics");
        let surveyed = [
            "bellwether_accounts_expected_lost{cohort=\"\"}",
            "bellwether_cohort_scores{cohort=\"\",from=\"90\"}",
            "bellwether_reading_missing_ratio{cohort=\"\",reading=\"activity\"} 0",
            "bellwether_reading_missing_ratio{cohort=\"\",reading=\"score\"} 0",
        ];
        surveyed.iter().all(|series| metrics.contains(series)).then_some(())
    });
}

#[test]
fn a_promoted_model_scores_from_its_time_on_as_a_replay_says() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    let events = events();
    let version = prepare(dir, &events);
    let until = |day: i64| events.partition_point(|(at, _)| *at < noon(day));
    said(dir, &["learn", "report", "model.json", "--html", "report.html"]);
    let page = std::fs::read_to_string(dir.join("report.html")).expect("a page");
    assert!(page.contains(&version) && page.contains("No skill"), "nobody left");
    let mut running = start(dir);
    let url = running.url();
    send(&mut running, &events[..until(TURNS.0 - 5)]);
    let (from, back) = (iso(noon(TURNS.0)), iso(noon(TURNS.1)));
    let promote = [
        "learn",
        "promote",
        "model.json",
        "--policy",
        "policy.toml",
        "--from",
        &from,
        "--url",
        &url,
    ];
    let refused = run(dir, &promote);
    assert_eq!(refused.status.code(), Some(2));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("no better than chance") && why.contains("--anyway"), "{why}");
    let promoted = said(dir, &[&promote[..], &["--anyway", "--by", "ann"]].concat());
    assert!(promoted.contains(&version) && promoted.contains(&from), "{promoted}");
    let broken = ureq::post(format!("{url}/v1/models"))
        .config()
        .http_status_as_error(false)
        .build()
        .send(json!({"promotion_id": "x", "from": from, "model": "{}"}).to_string());
    assert_eq!(broken.expect("an answer").status(), 400, "no model");
    taken(&mut running, 1);
    running.kill();

    let mut running = start(dir);
    let url = running.url();
    send(&mut running, &events[until(TURNS.0 - 5)..until(TURNS.1 - 5)]);
    running.wait_until("the model is in force", LIMIT, |running| {
        running.get("/metrics").contains(&format!("model=\"{version}\"")).then_some(())
    });
    surveyed(&mut running);
    said(dir, &["learn", "rollback", "--from", &back, "--url", &url]);
    taken(&mut running, 1);
    running.kill();

    let mut running = start(dir);
    send(&mut running, &events[until(TURNS.1 - 5)..]);
    let url = running.url();
    running.wait_until("the end of the input", LIMIT, |_| {
        ureq::get(format!("{url}/v1/accounts/{LAST}")).call().is_ok().then_some(())
    });
    let listed = said(dir, &["learn", "promotions", "--url", &url]);
    assert!(listed.contains(&version) && listed.contains("ann"), "{listed}");
    assert!(listed.contains("as configured") && listed.contains("rolled back"), "{listed}");
    let promotions = said(dir, &["learn", "promotions", "--url", &url, "--json"]);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    std::fs::write(dir.join("promotions.jsonl"), promotions).expect("writable");
    said(
        dir,
        &[
            "replay",
            "events.csv",
            "--policy",
            "policy.toml",
            "--models",
            "promotions.jsonl",
            "--scores",
            "scores.csv",
            "--json",
        ],
    );
    let replayed = replayed(dir);
    let live = published(dir);
    explained_as_published(dir, &live);
    let mut models: Vec<&str> = Vec::new();
    for (account, changes) in &live {
        let known: Vec<(String, String)> =
            changes.iter().map(|(at, score, _)| (at.clone(), score.clone())).collect();
        let expected = &replayed[account];
        // The replay also works off what would have been due later.
        assert_eq!(known[..], expected[..known.len().min(expected.len())], "{account}");
        for (at, _, model) in changes {
            let by_model = *at >= iso(noon(TURNS.0) + DAY_MS) && *at < iso(noon(TURNS.1) - DAY_MS);
            // What was due before the clock moved on to it is scored by what is in force then.
            let before = *at < iso(noon(TURNS.0) - DAY_MS);
            if by_model || before || *at > iso(noon(TURNS.1) + DAY_MS) {
                assert_eq!(*model, if by_model { &version } else { "expert" }, "{account} {at}");
            }
            models.push(model);
        }
    }
    assert!(models.contains(&version.as_str()) && models.contains(&"expert"));
    assert_eq!(live.len(), usize::try_from(ACCOUNTS).expect("a few") + 1);
}

/// By account: (time, champion, challenger) of every pair of scores.
type Pairs = BTreeMap<String, Vec<(String, String, String)>>;

fn pairs_published(dir: &Path) -> Pairs {
    let mut pairs = Pairs::new();
    for pair in records(dir, "health.shadow.v1") {
        let score = |name: &str| format!("{:.2}", pair[name].as_f64().expect("a number"));
        let of =
            pairs.entry(pair["account_id"].as_str().expect("an account").to_owned()).or_default();
        of.push((
            pair["at"].as_str().expect("a time").to_owned(),
            score("champion_score"),
            score("challenger_score"),
        ));
        assert_eq!(pair["sequence"], of.len(), "each once: {pair}");
        for side in ["champion", "challenger"] {
            let lines = pair["lines"].as_array().expect("lines").iter();
            let points = lines.map(|line| line[format!("{side}_centipoints")].as_i64());
            let sum: i64 = points.map(|points| points.expect("points")).sum();
            assert_eq!(pair[format!("{side}_score_centipoints")], sum, "{pair}");
        }
    }
    pairs
}

fn pairs_replayed(dir: &Path) -> Pairs {
    let mut pairs = Pairs::new();
    let rows = std::fs::read_to_string(dir.join("shadow.csv")).expect("pairs of scores");
    for row in rows.lines().skip(1) {
        let [account, at, champion, challenger] = row.split(',').collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let at = bellwether_core::time::Millis::parse(at).expect("a time").plus(-1).iso();
        let score = |text: &str| format!("{:.2}", text.parse::<f64>().expect("a number"));
        let pair = (at, score(champion), score(challenger));
        pairs.entry(account.to_owned()).or_default().push(pair);
    }
    pairs
}

#[test]
fn a_challenger_scores_beside_the_champion_as_a_replay_says() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    let events = events();
    let version = prepare(dir, &events);
    let until = |day: i64| events.partition_point(|(at, _)| *at < noon(day));
    let (from, to) = (iso(noon(TURNS.0)), iso(noon(TURNS.1)));
    let mut running = start(dir);
    let url = running.url();
    send(&mut running, &events[..until(TURNS.0 - 5)]);
    let nothing = run(dir, &["shadow", "compare", "--url", &url]);
    assert_eq!(nothing.status.code(), Some(3), "there is no challenger");
    let model = ["model.json", "--policy", "policy.toml", "--from", &from];
    let started =
        said(dir, &[&["shadow", "start"], &model[..], &["--by", "ann", "--url", &url]].concat());
    assert!(started.contains(&version) && started.contains("health.shadow.v1"), "{started}");
    taken(&mut running, 1);
    admitted(&mut running, until(TURNS.0 - 5));
    running.kill();

    let mut running = start(dir);
    send(&mut running, &events[until(TURNS.0 - 5)..until(TURNS.1 - 5)]);
    admitted(&mut running, until(TURNS.1 - 5) - until(TURNS.0 - 5));
    running.wait_until("the challenger scores", LIMIT, |running| {
        let metrics = running.get("/metrics");
        let named = format!("bellwether_shadow_info{{model=\"{version}\",partition=\"0\"}} 1");
        let counted = metrics.lines().any(|line| {
            line.starts_with("bellwether_shadow_scores_total{") && !line.ends_with(" 0")
        });
        (metrics.contains(&named) && counted).then_some(())
    });
    running.kill();

    for (policy, unreadable) in [(without_logins(), true), (POLICY.to_owned(), false)] {
        let metrics = metrics_under(dir, &policy);
        let told = format!(
            "bellwether_challenger_unreadable{{partition=\"0\"}} {}\n",
            u8::from(unreadable)
        );
        assert!(metrics.contains(&told), "{unreadable}");
        assert_eq!(metrics.contains("bellwether_shadow_info{"), !unreadable);
    }

    let mut running = start(dir);
    let url = running.url();
    let promote = ["shadow", "promote", "--from", &to, "--url", &url];
    let refused = run(dir, &promote);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--anyway"));
    said(dir, &[&promote[..], &["--anyway"]].concat());
    taken(&mut running, 2);
    send(&mut running, &events[until(TURNS.1 - 5)..]);
    running.wait_until("the end of the input", LIMIT, |_| {
        ureq::get(format!("{url}/v1/accounts/{LAST}")).call().is_ok().then_some(())
    });
    assert!(
        running.get("/metrics").contains(&format!("bellwether_model_info{{model=\"{version}\""))
    );
    for gauge in ["bellwether_shadow_info{", "bellwether_challenger_unreadable{"] {
        assert!(!running.get("/metrics").contains(gauge), "it is over: {gauge}");
    }
    let html = ["--html", "shadow.html"];
    let compared =
        said(dir, &[&["shadow", "compare", "--url", &url, "--json"], &html[..]].concat());
    let listed = said(dir, &["learn", "promotions", "--url", &url]);
    assert!(listed.contains("challenger") && listed.contains("champion"), "{listed}");
    let again = run(dir, &["shadow", "stop", "--from", &iso(noon(DAYS + 1)), "--url", &url]);
    assert_eq!(again.status.code(), Some(2), "nothing is left to stop");
    let promotions = said(dir, &["learn", "promotions", "--url", &url, "--json"]);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    std::fs::write(dir.join("promotions.jsonl"), promotions).expect("writable");
    let arguments = ["replay", "events.csv", "--policy", "policy.toml", "--models"];
    let outputs = ["promotions.jsonl", "--scores", "scores.csv", "--shadow", "shadow.csv"];
    said(dir, &[&arguments[..], &outputs[..]].concat());
    let (live, replayed) = (pairs_published(dir), pairs_replayed(dir));
    assert_eq!(live, replayed);
    assert_eq!(live.len(), usize::try_from(ACCOUNTS).expect("a few"), "the last one came later");
    let all = || live.values().flatten();
    assert!(all().count() > 20 && all().any(|(_, champion, challenger)| champion != challenger));
    assert!(all().all(|(at, ..)| *at >= iso(noon(TURNS.0) - DAY_MS) && *at < to));

    let compared: Value = serde_json::from_str(&compared).expect("JSON");
    assert_eq!(compared["new"]["model_version"], *version);
    let list = compared["list"].as_array().expect("accounts");
    assert_eq!(list.len(), live.len());
    for account in list {
        let (at, champion, challenger) =
            live[account["account_id"].as_str().expect("an id")].last().expect("a pair");
        let score = |side: &str| format!("{:.2}", account[side].as_f64().expect("a score"));
        assert_eq!((&score("old"), &score("new")), (champion, challenger));
        assert_eq!(account["at"], **at);
    }
    let page = std::fs::read_to_string(dir.join("shadow.html")).expect("a page");
    assert!(page.contains(&version) && page.contains("<svg"), "figures and all");
    // From the log itself, while no process has it.
    let arguments = ["shadow", "compare", "--embedded", "--data-dir", "data", "--json"];
    let same: Value = serde_json::from_str(&said(dir, &arguments)).expect("JSON");
    assert_eq!(same, compared);

    // Under a policy without the signal that the model was learned with, the configured scorecard goes on and says so; and no longer
    // under the former one.
    for (policy, unreadable) in [(without_logins(), true), (POLICY.to_owned(), false)] {
        let metrics = metrics_under(dir, &policy);
        let told =
            format!("bellwether_model_unreadable{{partition=\"0\"}} {}\n", u8::from(unreadable));
        assert!(metrics.contains(&told), "{unreadable}");
        let named = format!("bellwether_model_info{{model=\"{version}\"");
        assert_eq!(metrics.contains(&named), !unreadable);
    }
}

/// A policy with other weights is tried beside the one in force, and promoted, without a restart.
#[test]
fn the_weights_of_another_policy_are_tried_and_promoted_as_a_model_is() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    let events = events();
    let until = |day: i64| events.partition_point(|(at, _)| *at < noon(day));
    std::fs::write(dir.join("policy.toml"), POLICY).expect("writable");
    let bolder = format!("{}\n[score]\nbase_points = 40.0\nrecency_points = 40.0\n", POLICY);
    std::fs::write(dir.join("bolder.toml"), bolder.replace("weight = 10.0", "weight = 30.0"))
        .expect("writable");
    let else_found = POLICY.replace("\"count\"", "\"distinct_members\"");
    std::fs::write(dir.join("else.toml"), else_found).expect("writable");
    let mut running = start(dir);
    let url = running.url();
    send(&mut running, &events[..until(TURNS.0 - 5)]);
    let (from, to) = (iso(noon(TURNS.0)), iso(noon(TURNS.1)));
    let start_of =
        |file| ["shadow", "start", file, "--policy", "policy.toml", "--from", &from, "--url", &url];
    let refused = run(dir, &start_of("else.toml"));
    assert_eq!(refused.status.code(), Some(2));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("else.toml") && why.contains("signal logins"), "{why}");
    let started = said(dir, &start_of("bolder.toml"));
    assert!(started.contains("Policy `logins` (expert-"), "{started}");
    taken(&mut running, 1);
    send(&mut running, &events[until(TURNS.0 - 5)..until(TURNS.1 - 5)]);
    let promoted = said(dir, &["shadow", "promote", "--from", &to, "--url", &url]);
    assert!(promoted.contains("expert-"), "an expert needs no hold-out: {promoted}");
    taken(&mut running, 3);
    send(&mut running, &events[until(TURNS.1 - 5)..]);
    running.wait_until("the end of the input", LIMIT, |_| {
        ureq::get(format!("{url}/v1/accounts/{LAST}")).call().is_ok().then_some(())
    });
    let compared = said(dir, &["shadow", "compare", "--url", &url, "--json"]);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    // A process that has that policy from the start, over the same input.
    write_events(dir, &events);
    let replay = ["replay", "events.csv", "--policy", "bolder.toml", "--scores", "scores.csv"];
    said(dir, &replay);
    let configured = replayed(dir);
    let score_at = |account: &str, at: &str| {
        let known = configured[account].iter().rfind(|(known, _)| known.as_str() <= at);
        known.map(|(_, score)| score.clone())
    };
    let compared: Value = serde_json::from_str(&compared).expect("JSON");
    let version = compared["new"]["model_version"].as_str().expect("a version").to_owned();
    assert!(version.starts_with("expert-"), "{version}");
    let pairs = pairs_published(dir);
    let mut apart = 0;
    for (account, pairs) in &pairs {
        // Scores are published from a movement of a point on, so the one published last may be that far away.
        for (at, champion, challenger) in pairs {
            let near = score_at(account, at).expect("a score").parse::<f64>().expect("a number");
            let challenger: f64 = challenger.parse().expect("a number");
            assert!((near - challenger).abs() < 1.0, "{account} {at}: {near} and {challenger}");
            apart += i32::from((champion.parse::<f64>().expect("a number") - near).abs() > 5.0);
        }
    }
    assert!(pairs.len() == 7 && apart > 20, "{apart}");
    let live = published(dir);
    let after = iso(noon(TURNS.1) + DAY_MS);
    let mut count = 0;
    for (account, changes) in &live {
        for (at, score, model) in changes.iter().filter(|(at, ..)| *at > after) {
            assert_eq!(*model, version);
            let near = score_at(account, at).expect("a score").parse::<f64>().expect("a number");
            let score: f64 = score.parse().expect("a number");
            assert!((near - score).abs() < 1.0, "{account} {at}: {near} and {score}");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}
