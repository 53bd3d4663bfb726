//! The floor: what Kafka's client takes without the engine, in a process of its own. In catch-up that is a consumer and a transactional producer of
//! the client library that do nothing else. At a fixed rate it is the engine's log ([`KafkaLog`], as many as our process has workers), which
//! commits what came with a record for each account in it: transactions as the engine's, of nothing.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_benches::observe::{cpu_seconds, memory_mib};
use bellwether_engine::kafka::{KafkaLog, KafkaOptions, WorkerId};
use bellwether_engine::log::{
    Append, Log as _, LogError, Poll, Record, Remedy, Topic, Transaction,
};
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, Producer as _};
use serde_json::{Value, json};

use crate::kafka::{self, PARTITIONS, Progress, TIMEOUT};
use crate::process::Guarded;
use crate::{Broker, Options, WORKERS, create_topics, load, paced_load};

/// In the environment of a process that is to be the floor.
pub(crate) const ASKED: &str = "BENCH_FLOOR";
/// Records a transaction in catch-up.
const BATCH: usize = 20_000;
/// Bytes of a record that is appended, about those of an account's row.
const ROW_BYTES: usize = 100;

/// Reads all of the input.
pub(crate) fn catch_up(options: &Options, broker: &Broker, input: &str, number: &str) -> Value {
    let out = options.work.join("floor.json");
    let said = format!("{},{input},floor-{number},", broker.bootstrap);
    let mut process = start(&said, &out);
    assert!(process.0.wait().expect("a child").success(), "the floor failed: {}", out.display());
    let said = std::fs::read_to_string(out).expect("its output");
    serde_json::from_str(said.lines().last().unwrap_or_default()).expect("one line of JSON")
}

/// Reads the input, and then more of it at fixed rates: the CPU seconds per million events of those.
pub(crate) fn paced(options: &Options, broker: &Broker, input: &str, number: &str) -> Value {
    let (bootstrap, group) = (&broker.bootstrap, format!("floor-paced-{number}"));
    create_topics(bootstrap, &[&group], PARTITIONS);
    let said = format!("{bootstrap},{input},{group},{group}");
    let mut process = start(&said, &options.work.join("floor-paced.log"));
    let progress = Progress::of(bootstrap, &group, input);
    let total: i64 = kafka::ends(bootstrap, input).iter().sum();
    progress.wait_for(total, &mut process);
    let mut paced = serde_json::Map::new();
    for &rate in &options.rates {
        let cpu = cpu_seconds(process.id());
        let load = paced_load(options, bootstrap, input, rate);
        load::load(&load);
        // As long as ours is watched for what still comes, and no shorter than it takes.
        std::thread::sleep(Duration::from_secs(2));
        progress.wait_for(kafka::ends(bootstrap, input).iter().sum(), &mut process);
        let cpu = cpu_seconds(process.id()) - cpu;
        let per_million = cpu / load.events as f64 * 1e6;
        paced.insert(rate.to_string(), json!({ "app_cpu_s_per_million": per_million }));
    }
    process.kill();
    paced.into()
}

fn start(said: &str, out: &std::path::Path) -> Guarded {
    let program = std::env::current_exe().expect("a process knows its executable");
    let mut command = std::process::Command::new(program);
    command.env(ASKED, said);
    Guarded::spawn(command, out)
}

/// Is the floor, as it was asked for: the brokers, the input, the group, and where to append to (nothing: in catch-up).
pub(crate) fn be(said: &str) {
    let mut parts = said.split(',');
    let mut part = || parts.next().expect("four parts");
    let (bootstrap, topic, group, to) = (part(), part(), part(), part());
    if to.is_empty() {
        let started = Instant::now();
        let records = read_all(bootstrap, topic, group);
        let (cpu, seconds) = (cpu_seconds(std::process::id()), started.elapsed().as_secs_f64());
        println!(
            "{}",
            json!({
                "events": records, "app_cpu_s_per_million": cpu / records as f64 * 1e6,
                "events_per_s": records as f64 / seconds, "peak_rss_mib": memory_mib(std::process::id(), "VmHWM"),
            })
        );
        return;
    }
    std::thread::scope(|scope| {
        for thread in 0..WORKERS {
            // One that is left alone would go on with the other's partitions, for less.
            scope.spawn(move || {
                let Err(error) = pass_on(bootstrap, topic, group, to, thread);
                eprintln!("the floor failed: {error}");
                std::process::exit(1);
            });
        }
    });
}

/// As a worker does, without end: a transaction for each poll.
fn pass_on(
    bootstrap: &str,
    topic: &str,
    group: &str,
    to: &str,
    thread: u32,
) -> Result<Infallible, LogError> {
    let options =
        KafkaOptions { bootstrap_servers: bootstrap.to_owned(), ..KafkaOptions::default() };
    let (application, instance) = (group.to_owned(), "floor".to_owned());
    let worker = WorkerId { application, instance, thread };
    let (input, to): (Topic, Topic) = (topic.into(), to.into());
    let mut log = KafkaLog::open(&options, &worker, &[input])?;
    let mut owned: Vec<i32> = Vec::new();
    loop {
        match log.poll(50_000, Duration::from_millis(100))? {
            Poll::Assigned(partitions) => {
                log.start(&partitions)?;
                owned.extend(partitions);
            }
            Poll::Revoked(partitions) => owned.retain(|partition| !partitions.contains(partition)),
            Poll::Records(records) => match log.commit(&transaction(&records, &to)) {
                Ok(_) => {}
                // While the other joins, the group goes from one generation to the next.
                Err(error) if error.remedy == Remedy::Rewind => {
                    log.rewind(&owned)?;
                }
                Err(error) => return Err(error),
            },
            Poll::Idle => {}
        }
    }
}

/// A record for each account, and how far the input is read.
fn transaction(records: &[Record], to: &Topic) -> Transaction {
    let accounts: BTreeSet<(i32, &Option<Vec<u8>>)> =
        records.iter().map(|record| (record.partition, &record.key)).collect();
    let appends = accounts.into_iter().map(|(partition, key)| Append {
        topic: Arc::clone(to),
        partition,
        key: key.clone(),
        payload: Some(vec![b'.'; ROW_BYTES]),
        headers: Vec::new(),
        timestamp_ms: None,
    });
    let mut ends: HashMap<i32, (Topic, i64)> = HashMap::new();
    for record in records {
        ends.insert(record.partition, (Arc::clone(&record.topic), record.offset + 1));
    }
    let offsets = ends.into_iter().map(|(partition, (topic, next))| (topic, partition, next));
    Transaction { appends: appends.collect(), offsets: offsets.collect() }
}

/// In catch-up: a consumer and a transactional producer that do nothing with what they read but commit how far they are, until they have
/// read it all. Returns the records.
fn read_all(bootstrap: &str, topic: &str, group: &str) -> u64 {
    let to = kafka::ends(bootstrap, topic);
    let consumer = kafka::consumer(bootstrap, group);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("transactional.id", group);
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(TIMEOUT).expect("a coordinator");
    let mut list = TopicPartitionList::new();
    for partition in 0..kafka::partitions(&consumer, topic) {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&list).expect("partitions that are there");
    let mut next: HashMap<i32, i64> = HashMap::new();
    let (mut records, mut open) = (0, 0);
    let wanted: i64 = to.iter().sum();
    let mut bytes = 0;
    while next.values().sum::<i64>() < wanted || open > 0 {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.expect("a topic that can be read");
            // As any user of it must, it owns what it reads.
            bytes += message.detach().payload().map_or(0, <[u8]>::len);
            next.insert(message.partition(), message.offset() + 1);
            records += 1;
            open += 1;
        }
        let done = next.values().sum::<i64>() >= wanted;
        if open >= BATCH || done && open > 0 {
            let mut list = TopicPartitionList::new();
            for (partition, next) in &next {
                let offset = Offset::Offset(*next);
                list.add_partition_offset(topic, *partition, offset).expect("a partition");
            }
            producer.begin_transaction().expect("a producer at rest");
            let metadata = consumer.group_metadata().expect("a group");
            producer.send_offsets_to_transaction(&list, &metadata, TIMEOUT).expect("a coordinator");
            producer.commit_transaction(TIMEOUT).expect("a coordinator");
            open = 0;
        }
    }
    assert!(bytes > 0, "events have bytes");
    records
}
