//! Alerts reach people: through the embedded log and through Kafka, over sinks that fail and hang, across kills of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bellwether_engine::embedded::{Embedded, partition_of};
use bellwether_engine::log::Append;
use bellwether_tests::receiver::{MailServer, Receiver, Reply, Request};
use bellwether_tests::{
    App, Bellwether, Outgoing, bellwether, consume_all, embedded_records, header, produce, stories,
    wait_until,
};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

mod accounts;
mod delivery;
mod kafka;
mod messages;
mod parked;

/// No step takes longer on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);
/// Partitions of the embedded log.
const PARTITIONS: i32 = 4;
/// Alerts that are told.
const ALERTS: usize = 1_000;
const SIGNING_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Limits as an impatient test wants them; everybody is told at once.
const LIMITS: &str = "[delivery]\nattempts_max = 100\nbackoff_ms = 20\nbackoff_max_ms = 200\ntimeout_ms = 400\nmax_age_hours = 87600\n\
    [breaker]\nfailures = 20\nopen_ms = 50\n[budget]\nurgent_min_week = 100000\n";

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("in range")
}

/// An event of an alert, as the engine publishes it.
fn alert(number: usize) -> Value {
    let at = now_ms();
    json!({
        "id": format!("event-{number}"), "alert_id": format!("alert-{number}"),
        "account_id": format!("account-{number}"), "account_name": format!("Account {number}"),
        "kind": "churn_risk", "transition": "opened", "severity": "high", "at": at, "opened_at": at,
        "resolution": null, "title": "logins fell", "evidence": [], "groups": ["logins"],
        "score": 31.5, "score_centipoints": 3150, "band": "at_risk",
        "policy_version": "p", "model_version": "m", "of_a_newer_version": true,
    })
}

fn webhook(name: &str, url: &str) -> String {
    format!(
        "[[sink]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\nsecret_env = \"SIGNING_KEY\"\nallow_private = true\nallow_http = true\n"
    )
}

fn route(sinks: &[&str], mode: &str) -> String {
    format!("[[route]]\nname = \"{mode}\"\nsinks = {sinks:?}\nmode = \"{mode}\"\n")
}

fn write(dir: &Path, policy: &str) -> PathBuf {
    let file = dir.join("delivery.toml");
    std::fs::write(&file, policy).expect("writable");
    file
}

fn embedded(data_dir: &Path, delivery: Option<&Path>) -> Command {
    let mut command = bellwether(["run", "--embedded", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(data_dir).env("SIGNING_KEY", SIGNING_KEY);
    if let Some(delivery) = delivery {
        command.arg("--delivery").arg(delivery);
    }
    command
}

/// Puts alerts into the log of a process that has ended, as its engine would have.
fn publish(data_dir: &Path, alerts: &[Value]) {
    let records: Vec<Append> = alerts
        .iter()
        .map(|alert| {
            let key = alert["account_id"].as_str().expect("an id").as_bytes().to_vec();
            Append {
                topic: "health.alerts.v1".into(),
                partition: partition_of(&key, PARTITIONS),
                key: Some(key),
                payload: Some(alert.to_string().into_bytes()),
                headers: Vec::new(),
                timestamp_ms: None,
            }
        })
        .collect();
    append(data_dir, &records);
}

fn append(data_dir: &Path, records: &[Append]) {
    let shared = bellwether_store::Shared::new(16 << 20);
    let log = Embedded::open(&data_dir.join("log"), &shared, u64::MAX).expect("no one has it");
    log.append(records, Duration::ZERO).expect("there is room");
}

/// A directory in which the topics are there.
fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(embedded(dir.path(), None));
    running.wait_until_ready();
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    dir
}

/// Fails 30 % of calls and hangs on 5 %, as a seed decides.
fn moody(seed: u64) -> impl Fn(usize, &Request) -> Reply + Send + Sync {
    let random = Mutex::new(fastrand::Rng::with_seed(seed));
    move |_, _| match random.lock().expect("no panic").u32(0..100) {
        0..30 => Reply::status(503),
        30..35 => Reply::Hang,
        _ => Reply::status(200),
    }
}

fn event_id(request: &Request) -> String {
    request.json()["data"]["alert"]["id"].as_str().expect("an id").to_owned()
}

/// The events that a receiver has taken.
fn taken(receiver: &Receiver) -> BTreeSet<String> {
    let requests = receiver.requests();
    requests.iter().filter(|(_, status)| *status == 200).map(|(of, _)| event_id(of)).collect()
}

/// Each event was taken, and under one key only, over all attempts.
fn assert_each_once(receiver: &Receiver, count: usize) {
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (request, _) in receiver.requests() {
        let id = request.header("webhook-id").to_owned();
        assert_eq!(id, format!("msg_{}", request.header("idempotency-key")));
        keys.entry(event_id(&request)).or_default().insert(id);
    }
    assert_eq!(taken(receiver).len(), count);
    assert_eq!(keys.len(), count);
    let twice: Vec<_> = keys.iter().filter(|(_, keys)| keys.len() != 1).collect();
    assert!(twice.is_empty(), "under several keys: {twice:?}");
    let all: BTreeSet<&String> = keys.values().flatten().collect();
    assert_eq!(all.len(), count, "no key stands for two events");
}

fn wait_until_taken(receiver: &Receiver, running: &mut Bellwether, count: usize) {
    running.wait_until("the alerts at the sink", LIMIT, |_| {
        (taken(receiver).len() >= count).then_some(())
    });
}
