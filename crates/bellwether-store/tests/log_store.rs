//! The durable storage of the embedded log: what survives, what is refused, what is dropped and what never is.

use std::path::Path;

use bellwether_store::Shared;
use bellwether_store::error::StoreError;
use bellwether_store::log_store::{LogStore, LogStoreError, NewRecord, Retention, TOMBSTONES_MS};
use tempfile::TempDir;

fn open(dir: &Path) -> LogStore {
    LogStore::open(dir, &Shared::new(8 << 20)).expect("the log opens")
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn record<'a>(topic: &'a str, key: &'a str, payload: Option<&'a str>) -> NewRecord<'a> {
    NewRecord {
        topic,
        partition: 0,
        key: Some(key.as_bytes()),
        payload: payload.map(str::as_bytes),
        headers: &[],
        timestamp_ms: 0,
    }
}

/// (offset, key, payload) of a whole partition.
fn all(log: &LogStore, topic: &str) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the tests write text");
    let page = log.read(topic, 0, 0, usize::MAX, usize::MAX).expect("readable");
    assert_eq!(page.next, log.end_offset(topic, 0).expect("a topic"));
    let records = page.records.into_iter();
    records.map(|r| (r.offset, r.key.map(text).unwrap_or_default(), r.payload.map(text))).collect()
}

/// Copies the files under the open database, as a killed process leaves them.
fn crash(log: LogStore, dir: &Path) -> (LogStore, TempDir) {
    let aside = directory();
    for entry in std::fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        std::fs::copy(&path, aside.path().join(path.file_name().expect("an entry has a name")))
            .expect("a copy");
    }
    drop(log);
    (open(aside.path()), aside)
}

#[test]
fn a_transaction_survives_a_crash_whole() {
    let dir = directory();
    let log = open(dir.path());
    for topic in ["in", "out"] {
        log.create_topic(topic, 2, Retention::Forever).expect("a new topic");
    }
    log.append(&[record("in", "a", Some("1")), record("in", "b", Some("2"))], &[])
        .expect("a write");
    let offsets = log.append(&[record("out", "a", Some("x"))], &[("in", 0, 2)]).expect("a write");
    assert_eq!(offsets, [0]);

    let (log, _aside) = crash(log, dir.path());
    let expected =
        [(0, "a".to_owned(), Some("1".to_owned())), (1, "b".to_owned(), Some("2".to_owned()))];
    assert_eq!(all(&log, "in"), expected);
    assert_eq!(log.end_offset("out", 0), Ok(1));
    assert_eq!((log.committed("in", 0), log.committed("in", 1)), (Ok(Some(2)), Ok(None)));
    assert_eq!((log.backlog("in"), log.backlog("out")), (Ok(0), Ok(1)));
    assert_eq!(log.append(&[record("in", "c", None)], &[]), Ok(vec![2]), "offsets go on");
}

#[test]
fn a_transaction_with_one_bad_part_leaves_nothing() {
    let dir = directory();
    let log = open(dir.path());
    log.create_topic("in", 1, Retention::Forever).expect("a new topic");
    let unknown = log.append(&[record("in", "a", None), record("nowhere", "a", None)], &[]);
    assert_eq!(unknown, Err(LogStoreError::UnknownTopic("nowhere".to_owned())));
    let unknown = log.append(&[record("in", "a", None)], &[("in", 1, 1)]);
    assert!(matches!(unknown, Err(LogStoreError::UnknownPartition { partition: 1, .. })));
    assert_eq!(log.end_offset("in", 0), Ok(0));
    assert_eq!(all(&log, "in"), []);
    assert_eq!(log.append(&[record("in", "a", None)], &[]), Ok(vec![0]), "the log is not poisoned");
}

#[test]
fn a_compacted_topic_keeps_the_latest_record_of_each_key() {
    let dir = directory();
    let log = open(dir.path());
    log.create_topic("state", 1, Retention::Compact).expect("a new topic");
    let write = |records: &[(&str, Option<&str>)]| {
        let records: Vec<_> = records.iter().map(|(k, v)| record("state", k, *v)).collect();
        log.append(&records, &[]).expect("a write");
    };
    write(&[("a", Some("1")), ("b", Some("1")), ("a", Some("2")), ("a", Some("3"))]);
    write(&[("b", Some("2")), ("c", Some("1"))]);
    write(&[("c", None)]);
    let (log, _aside) = crash(log, dir.path());
    let expected = [(3, "a", Some("3")), (4, "b", Some("2")), (6, "c", None)];
    let expected = expected.map(|(at, key, value)| (at, key.to_owned(), value.map(str::to_owned)));
    assert_eq!(all(&log, "state"), expected);
    let page = log.read("state", 0, 5, 10, usize::MAX).expect("readable");
    assert_eq!((page.records.len(), page.next), (1, 7), "a reader passes over what is gone");
}

#[test]
fn a_read_stops_at_its_bounds_and_goes_on() {
    let dir = directory();
    let log = open(dir.path());
    log.create_topic("in", 1, Retention::Forever).expect("a new topic");
    let payload = "x".repeat(100);
    log.append(&vec![record("in", "a", Some(&payload)); 50], &[]).expect("a write");
    for (records_max, bytes_max, expected) in [(7, usize::MAX, 7), (50, 250, 3), (50, 1, 1)] {
        let mut offsets = Vec::new();
        let mut next = 0;
        while next < 50 {
            let page = log.read("in", 0, next, records_max, bytes_max).expect("readable");
            assert!((1..=expected).contains(&page.records.len()));
            offsets.extend(page.records.iter().map(|record| record.offset));
            next = page.next;
        }
        assert_eq!(offsets, (0..50).collect::<Vec<_>>());
    }
}

#[test]
fn old_records_go_and_unconsumed_ones_stay() {
    let dir = directory();
    let log = open(dir.path());
    log.create_topic("in", 1, Retention::Milliseconds(100)).expect("a new topic");
    log.create_topic("kept", 1, Retention::Forever).expect("a new topic");
    for timestamp_ms in [10, 20, 30, 500] {
        let records =
            ["in", "kept"].map(|topic| NewRecord { timestamp_ms, ..record(topic, "a", None) });
        log.append(&records, &[]).expect("a write");
    }
    log.append(&[], &[("in", 0, 2)]).expect("a write");
    let offsets = |topic| all(&log, topic).into_iter().map(|(at, ..)| at).collect::<Vec<_>>();
    assert_eq!(log.trim(110), Ok(0), "nothing is older than 100 ms");
    assert_eq!(log.trim(400), Ok(2), "0 to 2 are old, but 2 is not consumed yet");
    assert_eq!(offsets("in"), [2, 3]);
    log.append(&[], &[("in", 0, 4)]).expect("a write");
    assert_eq!(log.trim(400), Ok(1));
    assert_eq!(log.trim(10_000), Ok(1));
    assert!(offsets("in").is_empty());
    assert_eq!(offsets("kept"), [0, 1, 2, 3]);
    let (log, _aside) = crash(log, dir.path());
    assert_eq!(log.append(&[record("in", "a", None)], &[]), Ok(vec![4]), "offsets never restart");
}

/// A tombstone outlives what it deletes for a while, and then goes as well, unless it was not consumed or something came after it.
#[test]
fn old_tombstones_go_and_leave_no_key() {
    let dir = directory();
    let log = open(dir.path());
    for topic in ["state", "in"] {
        log.create_topic(topic, 1, Retention::Compact).expect("a new topic");
        for (key, payload, timestamp_ms) in
            [("a", Some("1"), 5), ("a", None, 10), ("b", None, 20), ("b", Some("2"), 30)]
        {
            let new = NewRecord { timestamp_ms, ..record(topic, key, payload) };
            log.append(&[new], &[]).expect("a write");
        }
    }
    log.append(&[], &[("in", 0, 1)]).expect("a write");
    let keys = |log: &LogStore, topic| -> Vec<String> {
        all(log, topic).into_iter().map(|(_, key, _)| key).collect()
    };
    assert_eq!(log.trim(10 + TOMBSTONES_MS), Ok(0), "not old enough");
    assert_eq!(log.trim(31 + TOMBSTONES_MS), Ok(1), "that of `in` is not consumed yet");
    assert_eq!((keys(&log, "state"), keys(&log, "in").len()), (vec!["b".to_owned()], 2));
    log.append(&[], &[("in", 0, 4)]).expect("a write");
    assert_eq!(log.trim(31 + TOMBSTONES_MS), Ok(1));
    assert_eq!(log.trim(31 + TOMBSTONES_MS), Ok(0));
    let (log, _aside) = crash(log, dir.path());
    assert_eq!(keys(&log, "in"), ["b"]);
    // Its key may come again.
    log.append(&[record("state", "a", Some("3"))], &[]).expect("a write");
    assert_eq!(keys(&log, "state"), ["b", "a"]);
}

/// Emptied topics begin again with their offsets going on; the consumer of the others reads them from the start.
#[test]
fn a_reset_empties_and_rewinds() {
    let dir = directory();
    let log = open(dir.path());
    for (topic, retention) in [
        ("in", Retention::Milliseconds(100)),
        ("state", Retention::Compact),
        ("out", Retention::Forever),
    ] {
        log.create_topic(topic, 1, retention).expect("a new topic");
        log.append(&[record(topic, "a", Some("1")), record(topic, "b", Some("1"))], &[])
            .expect("a write");
    }
    log.append(&[], &[("in", 0, 2)]).expect("a write");
    log.reset(&["state"], &["in"]).expect("a write");
    let (log, _aside) = crash(log, dir.path());
    assert_eq!(
        (all(&log, "in").len(), all(&log, "state").len(), all(&log, "out").len()),
        (2, 0, 2)
    );
    assert_eq!((log.committed("in", 0), log.committed("out", 0)), (Ok(Some(0)), Ok(None)));
    assert_eq!(log.trim(1_000_000), Ok(0), "what is to be read again is not trimmed");
    assert_eq!(log.append(&[record("state", "a", Some("2"))], &[]), Ok(vec![2]));
    assert_eq!(all(&log, "state").len(), 1);
}

#[test]
fn topics_keep_their_shape() {
    let dir = directory();
    let log = open(dir.path());
    log.create_topic("in", 4, Retention::Forever).expect("a new topic");
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.create_topic("in", 4, Retention::Forever), Ok(()));
    assert_eq!(log.partitions("in"), Ok(4));
    for (partitions, retention) in [(5, Retention::Forever), (4, Retention::Compact)] {
        let error = log.create_topic("in", partitions, retention).expect_err("another shape");
        assert!(matches!(error, LogStoreError::Mismatch { .. }), "{error}");
    }
    // But for how long records are kept.
    let kept = |ms| Retention::Milliseconds(ms);
    for ms in [100, 7] {
        assert_eq!(log.create_topic("kept", 2, kept(ms)), Ok(()));
    }
    assert!(log.create_topic("kept", 2, Retention::Forever).is_err());
    log.append(
        &[NewRecord { partition: 1, timestamp_ms: 1, ..record("kept", "a", Some("1")) }],
        &[],
    )
    .expect("a write");
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.trim(8), Ok(0));
    assert_eq!(log.trim(9), Ok(1), "after 7 ms");
    for partitions in [0, -1, 5000] {
        let error = log.create_topic("new", partitions, Retention::Forever).expect_err("no number");
        assert!(matches!(error, LogStoreError::Partitions { .. }), "{error}");
    }
}

#[test]
fn one_process_at_a_time() {
    let dir = directory();
    let log = open(dir.path());
    let second = LogStore::open(dir.path(), &Shared::new(1 << 20)).expect_err("in use");
    assert_eq!(second, StoreError::InUse(dir.path().to_path_buf()));
    assert!(second.to_string().starts_with("another bellwether runs on"), "{second}");
    drop(log);
    open(dir.path());
}
