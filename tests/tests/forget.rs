//! The deletion of an account, on a real Kafka: everything that Bellwether keeps of it goes, everything else stays as it was.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bellwether_core::event::Event;
use bellwether_core::id::EventId;
use bellwether_core::time::Millis;
use bellwether_tests::{
    App, Bellwether, Consumed, LIMIT, assert_same, consume_all, outputs, produce, stories,
};
use serde_json::{Value, json};

const GONE: &str = "story-slipping";
const OTHER: &str = "story-twin";

/// Every output topic, and the changelogs.
const TOPICS: [&str; 5] =
    ["score_changed", "score_current", "alerts", "dead_letters", "state_changelog"];

fn records(app: &App, kind: &str) -> Vec<Consumed> {
    consume_all(app.bootstrap(), &app.topic(kind))
}

/// Whether a record is the account's. The changelog's keys begin with a tag and end the account's id with a zero.
fn is_of(record: &Consumed, account: &str) -> bool {
    let key = record.key.as_deref().unwrap_or_default();
    key == account.as_bytes() || key.starts_with(format!("A{account}\0").as_bytes())
}

/// The last value of each of an account's keys.
fn last_values(app: &App, kind: &str, account: &str) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let records = records(app, kind).into_iter().filter(|record| is_of(record, account));
    records.map(|record| (record.key.unwrap_or_default(), record.payload)).collect()
}

fn status(url: &str) -> u16 {
    let request = ureq::get(url).config().http_status_as_error(false).build();
    request.call().expect("the server answers").status().as_u16()
}

fn is_gone(server: &str) -> bool {
    status(&format!("{server}/v1/accounts/{GONE}")) == 404
}

fn exit_code(app: &App, arguments: &[&str]) -> Option<i32> {
    app.command_of(arguments).output().expect("the binary runs").status.code()
}

/// An event of the account, under an id of its own.
fn event_at(id: &str, at: Millis) -> Event {
    let mut events = stories::events().into_iter();
    let is_login = |event: &Event| event.account.as_str() == GONE && event.kind == "login";
    let mut event = events.rfind(is_login).expect("it has logins");
    event.id = EventId::new(id).expect("valid");
    event.occurred_at = at;
    event
}

fn send(app: &App, event: &Event) {
    let record = app.record(&event.account, stories::event_json(event));
    produce(app.bootstrap(), &app.topic("events"), &[record]);
}

fn fed(name: &str) -> App {
    let app = App::prepare(name, 2, "");
    app.produce_profiles(&stories::profiles());
    app.produce(&stories::events());
    let mut running = app.start();
    app.wait_until_done(&mut running);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    app
}

fn twin(running: &mut Bellwether) -> Value {
    let text = running.get(&format!("/v1/accounts/{OTHER}"));
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    answer["account"]["contributions"].clone()
}

#[test]
fn a_deleted_account_is_gone_and_the_others_are_as_they_were() {
    let app = fed("forget");
    let before = TOPICS.map(|kind| records(&app, kind));
    let rows = last_values(&app, "state_changelog", GONE);
    assert!(rows.len() > 4 && rows.values().all(Option::is_some), "{}", rows.len());

    // A preview says what there is, and changes nothing.
    let inputs = records(&app, "profiles");
    let preview = app.run(&["forget", GONE]);
    assert_eq!(preview["sent"], false, "{preview}");
    assert_eq!(preview["known"]["rows"], json!(rows.len()), "{preview}");
    let open = preview["known"]["open_alerts"].as_array().expect("a list").len();
    assert!(open > 0 && preview["not_deleted"].as_array().is_some_and(|list| list.len() > 2));
    assert_eq!(exit_code(&app, &["forget", "nobody"]), Some(3));
    assert_eq!(exit_code(&app, &["forget", ""]), Some(2));
    assert_eq!(records(&app, "profiles"), inputs);

    // With the state in a process's hands the command does not look, and sends all the same.
    let mut running = app.start();
    running.wait_until_ready();
    let twin_before = twin(&mut running);
    assert!(!is_gone(&running.url()));
    let sent = app.run(&["forget", GONE, "--yes"]);
    assert_eq!((&sent["sent"], &sent["known"]), (&json!(true), &Value::Null), "{sent}");
    assert!(sent["not_looked"].as_str().is_some_and(|why| why.contains("a process has")));
    running.wait_until("the deletion", LIMIT, |_| {
        last_values(&app, "score_current", GONE).values().all(Option::is_none).then_some(())
    });
    let url = running.url();
    running.wait_until("the API to know", LIMIT, |_| is_gone(&url).then_some(()));
    assert_eq!(status(&format!("{url}/accounts/{GONE}")), 404, "the page too");
    assert!(!running.get("/v1/alerts").contains(GONE));
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    // A tombstone is the last word on each of its keys; no record of another account came.
    let left = last_values(&app, "state_changelog", GONE);
    assert!(rows.keys().all(|key| left.contains_key(key)));
    assert!(left.values().all(Option::is_none));
    assert_eq!(last_values(&app, "score_current", GONE).values().collect::<Vec<_>>(), [&None]);
    for (kind, before) in TOPICS.iter().zip(before) {
        let others = |records: Vec<Consumed>| -> Vec<Consumed> {
            records.into_iter().filter(|record| !is_of(record, GONE)).collect()
        };
        assert_same(kind, &others(records(&app, kind)), &others(before));
    }
    let alerts = records(&app, "alerts").into_iter().filter(|record| is_of(record, GONE));
    let alerts: Vec<Value> = alerts
        .map(|record| serde_json::from_slice(&record.payload.expect("a record")).expect("JSON"))
        .collect();
    let ended: Vec<&Value> =
        alerts.iter().filter(|alert| alert["resolution"] == "forgotten").collect();
    assert_eq!(ended.len(), open, "what was open is resolved");
    assert!(ended.iter().all(|alert| alert["account_name"].is_null()), "{ended:?}");

    // Built again from its changelog, the state has no trace of it.
    for partition in 0..2 {
        std::fs::remove_dir_all(app.state_dir(partition)).expect("it is there");
    }
    let mut running = app.start();
    running.wait_until_ready();
    assert!(is_gone(&running.url()));
    assert_eq!(twin(&mut running), twin_before);

    // What happened before the deletion does not bring it back; what happens later begins a new account.
    let end = i64::from(stories::END.0) * 86_400_000;
    send(&app, &event_at("late", Millis(end)));
    let url = running.url();
    running.wait_until("the verdict", LIMIT, |_| {
        let mut answer = ureq::get(format!("{url}/metrics")).call().expect("metrics");
        let text = answer.body_mut().read_to_string().expect("text");
        text.contains("reason=\"forgotten\"} 1").then_some(())
    });
    assert!(is_gone(&running.url()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let later = Millis(i64::try_from(now).expect("before 9999") + 120_000);
    send(&app, &event_at("later", later));
    running.wait_until("a new account", LIMIT, |_| (!is_gone(&url)).then_some(()));
    let account: Value =
        serde_json::from_str(&running.get(&format!("/v1/accounts/{GONE}"))).expect("JSON");
    assert_eq!(account["account"]["sequence"], 1, "{account}");
    assert_eq!(account["account"]["maturity"], "learning");
    assert_eq!(account["account"]["name"], Value::Null);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    assert!(records(&app, "dead_letters").is_empty(), "a dead letter would keep it");
    assert_eq!(exit_code(&app, &["state", "verify"]), Some(0));
}

/// The system that owns the profiles deletes one: that means the same as the command.
#[test]
fn a_tombstone_of_a_profile_is_a_deletion() {
    let app = fed("tombstone");
    let mut running = app.start();
    let profile = stories::profiles().into_iter().find(|it| it.account.as_str() == GONE);
    let account = profile.expect("a profile").account;
    let mut tombstone = app.record(&account, Vec::new());
    tombstone.payload = None;
    // Nobody can tell whose profile this would be.
    let mut nameless = tombstone.clone();
    nameless.key = Some(vec![0xff, 0xfe]);
    produce(app.bootstrap(), &app.topic("profiles"), &[nameless, tombstone]);
    running.wait_until("the deletion", LIMIT, |_| {
        last_values(&app, "score_current", GONE).values().all(Option::is_none).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    assert!(last_values(&app, "state_changelog", GONE).values().all(Option::is_none));
    let letters = records(&app, "dead_letters");
    assert_eq!(letters.len(), 1, "the one whose key is no account");
    assert!(outputs(&app, "alerts").iter().any(|alert| alert["resolution"] == "forgotten"));
}
