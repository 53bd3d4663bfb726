//! One account with most of the traffic: what it does to the others.
//!
//! The test looks at the order of delivery and at no clock. How long the others wait is measured by
//! `cargo test -p bellwether-tests --test hot_account -- --ignored --nocapture` (`make hot-account`), which prints and asserts nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bellwether_engine::kafka::{KafkaLog, KafkaOptions, WorkerId};
use bellwether_engine::log::{Log, Poll, Topic};
use bellwether_tests::runs::BRITTLE;
use bellwether_tests::{
    App, LIMIT, Outgoing, create_topic, produce, shared_kafka, unique, wait_until,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

const PARTITIONS: i32 = 4;
/// Records that wait in the hot partition.
const BACKLOG: usize = 100_000;
/// Records in each of the others.
const QUIET: usize = 20;
/// Records of the hot partition that may come before one of another: what the client has read ahead (10,000 records and one answer
/// of the broker, 1 MiB of records of 200 bytes), and once more, because the broker answers for one partition at a time.
const AHEAD_MAX: usize = 2 * (10_000 + 5_300);

fn record(partition: i32, number: usize) -> Outgoing {
    Outgoing {
        partition: Some(partition),
        payload: Some(format!("{number:0200}").into_bytes()),
        ..Outgoing::default()
    }
}

/// Polls until so many records of the quiet partitions have come; how many of the hot one came before the last of them.
fn hot_before(log: &mut KafkaLog, quiet: usize) -> usize {
    let (mut hot, mut found, mut before) = (0, 0, 0);
    wait_until("the quiet partitions", LIMIT, || {
        let Poll::Records(records) =
            log.poll(500, Duration::from_millis(100)).expect("the log works")
        else {
            return None;
        };
        for record in records {
            if record.partition == 0 {
                hot += 1;
            } else {
                found += 1;
                before = hot;
            }
        }
        (found >= quiet).then_some(())
    });
    assert_eq!(found, quiet);
    before
}

/// A partition with a long backlog does not keep the others from being read: what waits in them comes after what was read ahead at
/// most, at the start and at work.
#[test]
fn a_backlog_in_one_partition_does_not_starve_the_others() {
    let kafka = shared_kafka().bootstrap();
    let topic = unique("hot");
    create_topic(kafka, &topic, PARTITIONS, &[]);
    let backlog: Vec<Outgoing> = (0..BACKLOG).map(|number| record(0, number)).collect();
    produce(kafka, &topic, &backlog);
    let quiet = |count: usize| -> Vec<Outgoing> {
        (1..PARTITIONS).flat_map(|p| (0..count).map(move |number| record(p, number))).collect()
    };
    produce(kafka, &topic, &quiet(QUIET));
    let options = KafkaOptions { bootstrap_servers: kafka.to_owned(), ..KafkaOptions::default() };
    let worker =
        WorkerId { application: unique("hot-group"), instance: "one".to_owned(), thread: 0 };
    let topic_name: Topic = Arc::from(topic.as_str());
    let mut log = KafkaLog::open(&options, &worker, &[topic_name]).expect("the broker is up");
    let owned =
        wait_until("an assignment", LIMIT, || match log.poll(1, Duration::from_millis(100)) {
            Ok(Poll::Assigned(partitions)) => Some(partitions),
            Ok(_) => None,
            Err(error) => panic!("{error}"),
        });
    log.start(&owned).expect("assigned partitions can be started");

    let others = usize::try_from(PARTITIONS - 1).expect("it is small");
    let at_start = hot_before(&mut log, QUIET * others);
    assert!(at_start <= AHEAD_MAX, "{at_start} records of the hot partition came first");
    produce(kafka, &topic, &quiet(1));
    let at_work = hot_before(&mut log, others);
    assert!(at_work <= AHEAD_MAX, "{at_work} records of the hot partition came first");
    assert!(at_start + at_work < BACKLOG, "there was a backlog all the time");
    println!("records of the hot partition first: {at_start} at the start, {at_work} at work");
}

/// What one run does besides the events of the quiet accounts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hot {
    Nothing,
    /// Nine of ten events are its.
    Share,
    /// It sends all of this at once.
    Burst(usize),
}

/// Events of quiet accounts per second, each of an account of its own; and for how long.
const RATE: u64 = 50;
const SECONDS: u64 = 10;

/// Milliseconds between an event of a quiet account and the commit of what it changed, ascending: in the partition of the hot
/// account, and in the others.
type Latencies = [Vec<f64>; 2];

/// What a quiet account waits beside a hot one: both p99 side by side, medians of three runs.
#[test]
#[ignore = "an evaluation: it measures time, for a minute or two, and asserts nothing"]
fn p99_of_the_others_beside_a_hot_account() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {cores} cores{model}; broker, worker and clients share them");
    for hot in [Hot::Nothing, Hot::Share, Hot::Burst(50_000)] {
        let runs: Vec<Latencies> = (0..3).map(|_| measure(hot)).collect();
        for (place, name) in ["same partition", "other partitions"].iter().enumerate() {
            let median = |share: f64| {
                let mut all: Vec<f64> =
                    runs.iter().map(|run| percentile(&run[place], share)).collect();
                all.sort_by(f64::total_cmp);
                all[all.len() / 2]
            };
            println!("{hot:?}, {name}: p50 {:.0} ms, p99 {:.0} ms", median(0.5), median(0.99));
        }
    }
}

fn percentile(ascending: &[f64], share: f64) -> f64 {
    let index = (ascending.len() as f64 * share) as usize;
    ascending.get(index.min(ascending.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn measure(hot: Hot) -> Latencies {
    let app = App::prepare_with("hot-time", PARTITIONS, BRITTLE, "");
    let mut running = app.start();
    running.wait_until_ready();
    let arrived: Arc<Mutex<BTreeMap<String, Instant>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = read_changes(&app, Arc::clone(&arrived), Arc::clone(&stop));
    let sent = send(&app, hot);
    running.wait_until("all quiet accounts", LIMIT, |_| {
        let arrived = arrived.lock().expect("no one panics with the lock");
        sent.keys().all(|account| arrived.contains_key(account)).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    reader.join().expect("the reader works");
    let arrived = arrived.lock().expect("no one panics with the lock");
    let mut latencies = [Vec::new(), Vec::new()];
    for (account, (partition, at)) in &sent {
        let waited = arrived[account].saturating_duration_since(*at).as_secs_f64() * 1_000.0;
        latencies[usize::from(*partition != 0)].push(waited);
    }
    latencies.iter_mut().for_each(|list| list.sort_by(f64::total_cmp));
    latencies
}

/// Notes when the first committed change of each account comes out.
fn read_changes(
    app: &App,
    arrived: Arc<Mutex<BTreeMap<String, Instant>>>,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", app.bootstrap())
        .set("group.id", unique("hot-reader"))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "5")
        .create()
        .expect("a consumer needs nothing but an address");
    consumer.subscribe(&[&app.topic("state_changelog")]).expect("a topic's name");
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(5)) else { continue };
            let key = message.key().unwrap_or_default();
            // `A`, the account, zero, the kind of row.
            let account = key.get(1..).unwrap_or_default().split(|byte| *byte == 0).next();
            let account = String::from_utf8_lossy(account.unwrap_or_default()).into_owned();
            let mut arrived = arrived.lock().expect("no one panics with the lock");
            arrived.entry(account).or_insert_with(Instant::now);
        }
    })
}

/// Sends the events of the quiet accounts in their time, and those of the hot one; when each quiet one was sent, and where to.
fn send(app: &App, hot: Hot) -> BTreeMap<String, (i32, Instant)> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", app.bootstrap())
        .set("linger.ms", "0")
        .create()
        .expect("a producer needs nothing but an address");
    let topic = app.topic("events");
    let mut number = 0;
    let mut one = |account: &str, partition: i32| {
        number += 1;
        let at = 1_772_000_000_000_i64 + number;
        let event = json!({"event_id": number.to_string(), "account_id": account, "type": "login", "occurred_at": at}).to_string();
        let record: BaseRecord<'_, str, str> =
            BaseRecord::to(&topic).partition(partition).key(account).payload(&event);
        let sent = producer.send(record);
        sent.map_err(|(error, _)| error).expect("the queue has room");
        producer.poll(Duration::ZERO);
    };
    let started = Instant::now();
    let mut sent = BTreeMap::new();
    for step in 0..RATE * SECONDS {
        let due = started + Duration::from_millis(step * 1_000 / RATE);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        match hot {
            Hot::Nothing => {}
            Hot::Share => (0..9).for_each(|_| one("hot", 0)),
            // A second after the start, when all is warm.
            Hot::Burst(events) if step == RATE => (0..events).for_each(|_| one("hot", 0)),
            Hot::Burst(_) => {}
        }
        let account = format!("quiet-{step:05}");
        let partition = i32::try_from(step).expect("it is small") % PARTITIONS;
        sent.insert(account.clone(), (partition, Instant::now()));
        one(&account, partition);
    }
    producer.flush(LIMIT).expect("the broker takes all records");
    sent
}
