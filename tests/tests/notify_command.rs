//! `bellwether notify check` and `notify test`, against real servers.

use std::path::Path;
use std::process::Output;

use bellwether_core::time::Millis;
use bellwether_tests::bellwether;
use bellwether_tests::receiver::{Receiver, Reply};
use serde_json::{Value, json};

const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";

fn policy(kind: &str, url: &str, settings: &str) -> String {
    format!(
        "[[sink]]\nname = \"s\"\ntype = \"{kind}\"\nurl = \"{url}\"\nallow_private = true\nallow_http = true\n{settings}\n\
         [[route]]\nname = \"r\"\nsinks = [\"s\"]\nmode = \"immediate\"\n"
    )
}

fn notify(dir: &Path, policy: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let file = dir.join("delivery.toml");
    std::fs::write(&file, policy).expect("writable");
    let mut command = bellwether(["notify"]);
    command.args(arguments).arg("--delivery").arg(&file).env("KEY", ROUTING_KEY);
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

fn milliseconds(instant: &Value) -> i64 {
    Millis::parse(instant.as_str().expect("text")).expect("an instant").0
}

#[test]
fn a_test_says_what_a_sink_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(|count, _| Reply::status(if count == 0 { 200 } else { 500 }));
    let body = "body = '{\"about\": {{ alert.title }}}'";
    let policy = policy("template", &receiver.url(), body);
    let (code, stdout, stderr) = notify(dir.path(), &policy, &["test", "s"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("s: delivered"), "{stdout}");
    assert!(receiver.requests()[0].0.json()["about"].as_str().expect("a title").contains("test"));
    let (code, _, stderr) = notify(dir.path(), &policy, &["test", "s"]);
    assert_eq!(code, Some(3));
    assert!(stderr.contains("answered 500"), "{stderr}");
    let (code, _, stderr) = notify(dir.path(), &policy, &["test", "nowhere"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("the policy has: s"), "{stderr}");
}

#[test]
fn a_test_of_pagerduty_closes_the_incident_that_it_opened_or_says_that_it_could_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(|count, _| Reply::status(if count == 3 { 500 } else { 202 }));
    let policy = policy("pagerduty", &receiver.url(), "secret_env = \"KEY\"");
    let (code, stdout, stderr) = notify(dir.path(), &policy, &["test", "s"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("closed there again"), "{stdout}");
    let requests = receiver.requests();
    let events: Vec<Value> = requests.iter().map(|(request, _)| request.json()).collect();
    let said: Vec<&Value> = events.iter().map(|event| &event["event_action"]).collect();
    assert_eq!(said, [&json!("trigger"), &json!("resolve")]);
    assert_eq!(events[0]["dedup_key"], events[1]["dedup_key"]);
    let (code, _, stderr) = notify(dir.path(), &policy, &["test", "s"]);
    assert_eq!(code, Some(3));
    assert!(stderr.contains("by hand") && stderr.contains("answered 500"), "{stderr}");
}

#[test]
fn a_test_of_alertmanager_ends_by_itself_and_is_seen_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(|_, _| Reply::status(200));
    let policy = policy("alertmanager", &receiver.url(), "");
    let (code, stdout, stderr) = notify(dir.path(), &policy, &["test", "s", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let answer: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(answer["ending"], "it ends by itself in 5 minutes");
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    let alert = &requests[0].0.json()[0];
    assert_eq!(milliseconds(&alert["endsAt"]) - milliseconds(&alert["startsAt"]), 300_000);
}

#[test]
fn a_policy_with_a_word_that_nothing_has_is_refused_by_check_and_at_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let sound = policy("alertmanager", "https://am.example/api/v2/alerts", "");
    let wrong = format!("{sound}kind = [\"chrun_risk\"]\n");
    for arguments in [&["check"][..], &["--bootstrap-servers", "127.0.0.1:1"][..]] {
        let (code, _, stderr) = notify(dir.path(), &wrong, arguments);
        assert_eq!(code, Some(2), "{stderr}");
        for part in ["delivery.toml", "route `r`: kind has `chrun_risk`", "churn_risk"] {
            assert!(stderr.contains(part), "`{part}` is missing: {stderr}");
        }
    }
    let other = "[[sink]]\nname = \"other\"\ntype = \"slack\"\nurl_env = \"S\"\n";
    let (code, stdout, stderr) = notify(dir.path(), &format!("{sound}{other}"), &["check"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("no route leads to sink other"), "{stdout}");
    assert!(!stdout.contains("sink s\n"), "{stdout}");
}

/// A flag that would change nothing is an error, and so is a filter that nothing can match.
#[test]
fn parked_passes_no_flag_over_in_silence() {
    let dir = tempfile::tempdir().expect("a directory");
    let policy = policy("webhook", "http://127.0.0.1:1", "secret_env = \"KEY\"");
    for arguments in [&["parked", "ls"][..], &["parked", "replay", "--all", "--yes"]] {
        let (code, stdout, stderr) = notify(dir.path(), &policy, arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains("--delivery is of the notifier itself"), "{stderr}");
    }
    for (before, behind, words) in [
        (&["--listen", "127.0.0.1:0"][..], &[][..], "--listen is of the notifier itself"),
        (&["--bootstrap-servers", "127.0.0.1:1"], &["--embedded"], "exclude each other"),
        (&["--bootstrap-servers", "127.0.0.1:1"], &["--bootstrap-servers", "127.0.0.1:2"], "twice"),
        (&[], &["--embedded", "--reason", "reject"], "rejected, forbidden_address"),
        (&[], &["--embedded", "--limit", "0"], "at least 1"),
    ] {
        let mut command = bellwether(["notify"]);
        command.args(before).args(["parked", "ls"]).args(behind);
        let output = command.arg("--data-dir").arg(dir.path()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{before:?} {behind:?}: {said}");
        assert!(said.contains(words), "{said}");
    }
}
