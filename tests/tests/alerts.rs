//! What people do with alerts, by the command line against a running server: taken on, quietened, ended, and so after a kill.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use bellwether_tests::{Bellwether, bellwether, stories};
use serde_json::Value;

/// No step takes longer on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

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

#[test]
fn an_alert_is_taken_on_quietened_and_ended_by_people_and_a_kill_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(command(dir.path()));
    let url = running.url();
    for chunk in stories::events().chunks(500) {
        let lines = chunk.iter().map(stories::event_json).collect::<Vec<_>>().join(&b'\n');
        let sent = ureq::post(format!("{url}/v1/events")).send(&lines[..]);
        assert_eq!(sent.expect("an answer").status(), 202);
    }
    let list = ["ls", "--kind", "churn_risk", "--account", "story-slipping", "--json"];
    let urgent = running.wait_until("the alert", LIMIT, |_| {
        let listed: Value = serde_json::from_slice(&alerts(&url, &list).stdout).ok()?;
        let listed = listed["alerts"].as_array().expect("a list");
        listed.iter().find(|alert| alert["severity"] == "critical").cloned()
    });
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
}
