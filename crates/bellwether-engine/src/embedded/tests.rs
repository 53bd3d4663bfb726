//! What the embedded log promises beyond the contract that it shares with Kafka.

use std::thread;

use tempfile::TempDir;

use super::*;
use crate::log::{Log, Poll, Read, Transaction};

const PARTITIONS: i32 = 3;
/// Longer than any healthy step takes; only a hang waits for all of it.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(dir: &TempDir, backlog_records_max: u64) -> Embedded {
    let log = Embedded::open(dir.path(), &Shared::new(8 << 20), backlog_records_max)
        .expect("the log opens");
    for topic in ["in", "more"] {
        log.create_topic(topic, PARTITIONS, Retention::Forever).expect("a new topic");
    }
    log.create_topic("out", 1, Retention::Forever).expect("a new topic");
    log
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn append(topic: &str, partition: i32, payload: &str) -> Append {
    Append {
        topic: topic.into(),
        partition,
        key: Some(b"key".to_vec()),
        payload: Some(payload.as_bytes().to_vec()),
        headers: vec![("h".to_owned(), b"v".to_vec())],
        timestamp_ms: Some(7),
    }
}

fn appends(topic: &str, partition: i32, count: usize) -> Vec<Append> {
    (0..count)
        .map(|number| append(topic, partition, &format!("{topic}-{partition}-{number}")))
        .collect()
}

/// A consumer of both inputs that has begun.
fn started(log: &Embedded) -> EmbeddedLog {
    let mut consumer = log.consume(&["in".into(), "more".into()]).expect("equally many partitions");
    let all: Vec<i32> = (0..PARTITIONS).collect();
    assert_eq!(consumer.poll(10, PATIENCE).expect("a poll"), Poll::Assigned(all.clone()));
    consumer.start(&all).expect("assigned");
    consumer
}

fn records(poll: Poll) -> Vec<(String, i32, i64)> {
    match poll {
        Poll::Records(records) => {
            let names = records.into_iter().map(|r| (r.topic.to_string(), r.partition, r.offset));
            names.collect()
        }
        Poll::Idle => Vec::new(),
        Poll::Assigned(_) | Poll::Revoked(_) => panic!("ownership changes once, at the beginning"),
    }
}

#[test]
fn keys_land_where_a_java_client_puts_them() {
    // Vectors of Kafka's own UtilsTest.testMurmur2.
    for (key, expected) in [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ] {
        assert_eq!(murmur2(key.as_bytes()), expected, "{key}");
        assert_eq!(partition_of(key.as_bytes(), 12), (expected & 0x7fff_ffff) % 12);
    }
}

#[test]
fn an_append_wakes_a_waiting_poll() {
    let dir = directory();
    let log = open(&dir, 100);
    let mut consumer = started(&log);
    let waiting = thread::spawn(move || consumer.poll(10, PATIENCE));
    let began = Instant::now();
    log.append(&appends("in", 1, 1), Duration::ZERO).expect("room");
    let poll = waiting.join().expect("no panic").expect("a poll");
    assert_eq!(records(poll), [("in".to_owned(), 1, 0)]);
    assert!(began.elapsed() < PATIENCE / 2, "woken, not timed out");
}

#[test]
fn a_small_partition_does_not_wait_for_a_large_one() {
    let dir = directory();
    let log = open(&dir, 10_000);
    log.append(&appends("in", 0, 1000), Duration::ZERO).expect("room");
    log.append(&appends("more", 2, 2), Duration::ZERO).expect("room");
    let mut consumer = started(&log);
    let first = records(consumer.poll(60, PATIENCE).expect("a poll"));
    assert_eq!(first.len(), 60);
    assert_eq!(first.iter().filter(|(topic, ..)| topic == "more").count(), 2);
    let mut offsets: Vec<i64> = first.iter().filter(|(t, ..)| t == "in").map(|r| r.2).collect();
    while offsets.len() < 1000 {
        let next = records(consumer.poll(300, PATIENCE).expect("a poll"));
        assert!((1..=300).contains(&next.len()));
        offsets.extend(next.iter().map(|record| record.2));
    }
    assert_eq!(offsets, (0..1000).collect::<Vec<_>>(), "in order, each once");
    assert_eq!(consumer.poll(10, Duration::ZERO).expect("a poll"), Poll::Idle);
}

#[test]
fn producers_are_held_back_until_input_is_committed() {
    let dir = directory();
    let log = open(&dir, 10);
    log.append(&appends("in", 0, 8), Duration::ZERO).expect("room");
    let full = log.append(&appends("in", 0, 3), Duration::ZERO);
    assert_eq!(full, Err(AppendError::Full { waiting: 8, records_max: 10 }));
    log.append(&appends("more", 0, 3), Duration::ZERO).expect("another topic has room");

    let mut consumer = started(&log);
    let producer = {
        let log = log.clone();
        thread::spawn(move || log.append(&appends("in", 0, 3), PATIENCE))
    };
    let offsets = vec![("in".into(), 0, 8)];
    consumer.commit(&Transaction { appends: Vec::new(), offsets }).expect("a commit");
    assert_eq!(producer.join().expect("no panic"), Ok(vec![8, 9, 10]));
    // A batch above the limit by itself goes once nothing waits; otherwise it never could.
    let offsets = vec![("in".into(), 0, 11)];
    consumer.commit(&Transaction { appends: Vec::new(), offsets }).expect("a commit");
    assert_eq!(log.append(&appends("in", 1, 20), Duration::ZERO).map(|o| o.len()), Ok(20));
}

#[test]
fn a_second_consumer_fences_the_first_and_goes_on_from_the_commit() {
    let dir = directory();
    let log = open(&dir, 100);
    log.append(&appends("in", 0, 4), Duration::ZERO).expect("room");
    let mut first = started(&log);
    assert_eq!(records(first.poll(10, PATIENCE).expect("a poll")).len(), 4);
    let offsets = vec![("in".into(), 0, 3)];
    let transaction = Transaction { appends: appends("out", 0, 2), offsets };
    let receipt = first.commit(&transaction).expect("a commit");
    assert_eq!(receipt.positions, [("out".into(), 0, 2)]);

    let mut second = started(&log);
    assert_eq!(first.commit(&transaction).expect_err("fenced").remedy, Remedy::Fenced);
    assert_eq!(first.poll(1, Duration::ZERO).expect_err("fenced").remedy, Remedy::Fenced);
    assert_eq!(log.end_offset("out", 0), Ok(2), "the fenced transaction left nothing");
    assert_eq!(records(second.poll(10, PATIENCE).expect("a poll")), [("in".to_owned(), 0, 3)]);
}

#[test]
fn a_pause_holds_records_in_order_and_a_resume_can_go_back() {
    let dir = directory();
    let log = open(&dir, 100);
    log.append(&appends("in", 0, 3), Duration::ZERO).expect("room");
    log.append(&appends("in", 1, 1), Duration::ZERO).expect("room");
    let mut consumer = started(&log);
    consumer.pause(&[0]).expect("assigned");
    assert_eq!(records(consumer.poll(10, PATIENCE).expect("a poll")), [("in".to_owned(), 1, 0)]);
    let lag: i64 = consumer.lag().expect("readable").iter().map(|lag| lag.records).sum();
    assert_eq!(lag, 3);
    consumer.resume(&[0], &[]).expect("started");
    assert_eq!(records(consumer.poll(10, PATIENCE).expect("a poll")).len(), 3);
    consumer.resume(&[0], &[("in".into(), 0, 1)]).expect("started");
    let again = records(consumer.poll(10, PATIENCE).expect("a poll"));
    assert_eq!(again, [("in".to_owned(), 0, 1), ("in".to_owned(), 0, 2)]);
    assert_eq!(consumer.start(&[7]).expect_err("no such partition").remedy, Remedy::Stop);
}

#[test]
fn records_come_back_whole_after_a_restart() {
    let dir = directory();
    let log = open(&dir, 100);
    let mut sent = append("in", 2, "payload");
    sent.timestamp_ms = None;
    let tombstone = Append { payload: None, key: None, ..append("in", 2, "") };
    let before = now_ms();
    log.append(&[sent.clone(), tombstone.clone()], Duration::ZERO).expect("room");
    drop(log);

    let log = open(&dir, 100);
    let mut found: Vec<Record> = Vec::new();
    let next = log.read(&"in".into(), 2, 0, 10, &mut |record| {
        found.push(record);
        Ok::<(), LogError>(())
    });
    assert_eq!(next.expect("readable"), Read::of_this_call(2, 2));
    assert!((before..=now_ms()).contains(&found[0].timestamp_ms), "stamped by the log");
    assert_eq!(found[0].payload, sent.payload);
    assert_eq!(found[0].headers, sent.headers);
    assert_eq!((found[1].payload.clone(), found[1].key.clone()), (None, None));
    assert_eq!((found[1].offset, found[1].timestamp_ms), (1, 7));
    // Beyond the end, the end is what a reader gets: it tells a reader of another log's positions apart.
    let beyond = log.read(&"in".into(), 2, 50, 10, &mut |_| Ok::<(), LogError>(()));
    assert_eq!(beyond.expect("readable").next, 2);
}

#[test]
fn inputs_of_different_width_are_refused() {
    let dir = directory();
    let log = open(&dir, 100);
    let error = log.consume(&["in".into(), "out".into()]).expect_err("3 and 1 partitions");
    assert_eq!(error.remedy, Remedy::Stop);
    assert!(error.message.contains("topic out has 1 partitions"), "{}", error.message);
}
