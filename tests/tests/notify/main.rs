//! Alerts reach people: through the embedded log and through Kafka, over sinks that fail and hang, across kills of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bellwether_engine::embedded::partition_of;
use bellwether_engine::log::Append;
use bellwether_tests::mail::{MailServer, Manners};
use bellwether_tests::receiver::{Receiver, Reply, Request};
use bellwether_tests::{
    App, Bellwether, Outgoing, bellwether, consume_all, embedded_records, header, produce, stories,
    wait_until,
};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

mod accounts;
mod delivery;
mod formats;
mod kafka;
mod messages;
mod parked;
#[path = "../told/mod.rs"]
mod told;

use told::{
    LIMIT, LIMITS, PARTITIONS, SIGNING_KEY, alert, append, embedded, now_ms, prepared, publish,
    records, route, write,
};

/// Alerts that are told.
const ALERTS: usize = 1_000;
fn webhook(name: &str, url: &str) -> String {
    format!(
        "[[sink]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\nsecret_env = \"SIGNING_KEY\"\nallow_private = true\nallow_http = true\n"
    )
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

/// What the rows of the notifier's memory hold by now.
fn memory(dir: &Path) -> BTreeMap<(i32, String), String> {
    let mut rows = BTreeMap::new();
    for row in embedded_records(dir, "bellwether.notify.state") {
        let name = String::from_utf8(row.key.expect("rows have names")).expect("UTF-8");
        match row.payload {
            Some(value) => {
                rows.insert((row.partition, name), String::from_utf8(value).expect("JSON"));
            }
            None => drop(rows.remove(&(row.partition, name))),
        }
    }
    rows
}

fn wait_until_taken(receiver: &Receiver, running: &mut Bellwether, count: usize) {
    running.wait_until("the alerts at the sink", LIMIT, |_| {
        (taken(receiver).len() >= count).then_some(())
    });
}
