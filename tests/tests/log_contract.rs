//! One contract, three logs: what the engine relies on holds on Apache Kafka, on the embedded log, and on the model that the
//! simulation runs on.

#[expect(dead_code, reason = "the simulation uses the rest")]
#[path = "simulation/broker.rs"]
mod broker;
#[path = "log_contract/fixtures.rs"]
mod fixtures;
#[path = "log_contract/kafka_only.rs"]
mod kafka_only;
#[path = "simulation/log.rs"]
mod log;

use std::time::{Duration, Instant};

use bellwether_engine::log::{Append, Log, Poll, Receipt, Record, Topic, Transaction};
use bellwether_tests::wait_until;

use fixtures::Fixture;

/// Nothing here takes longer on a machine that works.
const LIMIT: Duration = Duration::from_secs(60);
/// Long enough for a record that must not come to come.
const QUIET: Duration = Duration::from_millis(700);

/// Polls until partitions are assigned.
fn own(log: &mut dyn Log) -> Vec<i32> {
    wait_until("an assignment", LIMIT, || match log.poll(10, QUIET).expect("the log works") {
        Poll::Assigned(partitions) => Some(partitions),
        Poll::Idle => None,
        other @ (Poll::Records(_) | Poll::Revoked(_)) => {
            panic!("unexpected before an assignment: {other:?}")
        }
    })
}

/// Opens the log, waits for both partitions and starts them.
fn open_started(fixture: &dyn Fixture) -> Box<dyn Log> {
    let mut log = fixture.open();
    assert_eq!(own(log.as_mut()), [0, 1]);
    log.start(&[0, 1]).expect("assigned partitions can be started");
    log
}

/// The next `count` records, and the proof that no more follow.
fn exactly(log: &mut dyn Log, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    let started = Instant::now();
    while records.len() < count {
        assert!(started.elapsed() < LIMIT, "only {} of {count} records came", records.len());
        records.extend(polled(log, 100, Duration::from_secs(1)));
    }
    records.extend(polled(log, 100, QUIET));
    assert_eq!(records.len(), count, "{records:?}");
    records
}

fn polled(log: &mut dyn Log, records_max: usize, timeout: Duration) -> Vec<Record> {
    match log.poll(records_max, timeout).expect("the log works") {
        Poll::Records(records) => {
            assert!(!records.is_empty() && records.len() <= records_max);
            records
        }
        Poll::Idle => Vec::new(),
        other @ (Poll::Assigned(_) | Poll::Revoked(_)) => panic!("unexpected: {other:?}"),
    }
}

/// The values of one input partition, in the order of delivery.
fn values(records: &[Record], topic: &Topic, partition: i32) -> Vec<String> {
    let of_partition =
        records.iter().filter(|record| record.topic == *topic && record.partition == partition);
    of_partition.map(|record| text(record.payload.as_deref())).collect()
}

fn text(payload: Option<&[u8]>) -> String {
    String::from_utf8(payload.expect("a value").to_vec()).expect("the tests write text")
}

fn append(topic: &Topic, partition: i32, value: &str) -> Append {
    Append {
        topic: topic.clone(),
        partition,
        key: Some(b"key".to_vec()),
        payload: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
        timestamp_ms: None,
    }
}

fn read_values(log: &mut dyn Log, topic: &Topic, partition: i32, from: i64) -> (Vec<String>, i64) {
    let mut values = Vec::new();
    let mut next = from;
    loop {
        // Small pages, so that every reading goes on where one was left.
        let read = log
            .read(topic, partition, next, 2, &mut |record| {
                values.push(text(record.payload.as_deref()));
                Ok(())
            })
            .expect("the log works");
        assert!(read.next > next || read.next >= read.end, "it goes on: {read:?} from {next}");
        next = read.next;
        if next >= read.end {
            return (values, next);
        }
    }
}

fn position(receipt: &Receipt, topic: &Topic, partition: i32) -> i64 {
    let found =
        receipt.positions.iter().find(|(of, number, _)| of == topic && *number == partition);
    found.expect("the receipt names every partition appended to").2
}

/// Runs each case on all logs.
macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        mod on_kafka {
            $(#[test] fn $case() { super::$case(&super::fixtures::OnKafka::new()); })+
        }
        mod on_embedded {
            $(#[test] fn $case() { super::$case(&super::fixtures::OnEmbedded::new()); })+
        }
        mod on_the_model {
            $(#[test] fn $case() { super::$case(&super::fixtures::OnModel::new()); })+
        }
    };
}

contract!(
    delivery_waits_for_start_and_goes_on_from_the_committed_offsets,
    uncommitted_work_is_delivered_again,
    a_transaction_brings_its_records_and_its_offsets,
    a_failed_transaction_leaves_nothing,
    a_receipt_lets_reading_go_on_exactly,
    reading_ends_at_the_end,
    a_reading_says_whether_it_is_level_with_the_log,
    a_reader_can_stop_a_read,
    paused_partitions_keep_their_place,
    resuming_can_move_back,
    rewinding_goes_back_to_what_is_committed,
    an_empty_transaction_commits,
    lag_counts_what_is_not_delivered,
);

fn delivery_waits_for_start_and_goes_on_from_the_committed_offsets(fixture: &dyn Fixture) {
    let [first, second] = fixture.inputs();
    fixture.produce(&first, 0, &["a", "b", "c", "d", "e"]);
    fixture.produce(&second, 1, &["x", "y", "z"]);

    let mut log = fixture.open();
    assert_eq!(own(log.as_mut()), [0, 1]);
    assert_eq!(log.poll(100, QUIET).expect("the log works"), Poll::Idle, "nothing before start");
    log.start(&[0, 1]).expect("assigned partitions can be started");
    let records = exactly(log.as_mut(), 8);
    assert_eq!(values(&records, &first, 0), ["a", "b", "c", "d", "e"]);
    assert_eq!(values(&records, &second, 1), ["x", "y", "z"]);

    let offsets = vec![(first.clone(), 0, 3), (second.clone(), 1, 3)];
    log.commit(&Transaction { appends: Vec::new(), offsets })
        .expect("offsets alone can be committed");
    drop(log);

    let records = exactly(open_started(fixture).as_mut(), 2);
    assert_eq!(values(&records, &first, 0), ["d", "e"]);
}

fn uncommitted_work_is_delivered_again(fixture: &dyn Fixture) {
    let [first, _] = fixture.inputs();
    fixture.produce(&first, 1, &["a", "b"]);
    for _ in 0..2 {
        let records = exactly(open_started(fixture).as_mut(), 2);
        assert_eq!(values(&records, &first, 1), ["a", "b"]);
    }
}

fn a_transaction_brings_its_records_and_its_offsets(fixture: &dyn Fixture) {
    let [first, _] = fixture.inputs();
    let output = fixture.output();
    fixture.produce(&first, 0, &["a", "b"]);
    let mut log = open_started(fixture);
    exactly(log.as_mut(), 2);

    let full = Append {
        headers: vec![("ce_id".to_owned(), b"1".to_vec()), ("ce_id".to_owned(), Vec::new())],
        timestamp_ms: Some(1_700_000_000_123),
        ..append(&output, 0, "full")
    };
    let tombstone = Append { payload: None, ..append(&output, 0, "") };
    let empty = Append { key: None, payload: Some(Vec::new()), ..append(&output, 0, "") };
    let appends = vec![full.clone(), tombstone.clone(), append(&output, 1, "other"), empty.clone()];
    let offsets = vec![(first.clone(), 0, 2)];
    log.commit(&Transaction { appends, offsets }).expect("the transaction is right");

    let mut read = Vec::new();
    log.read(&output, 0, 0, 10, &mut |record| {
        read.push(record);
        Ok(())
    })
    .expect("the log works");
    assert_eq!(read.len(), 3, "{read:?}");
    for (record, append) in read.iter().zip([&full, &tombstone, &empty]) {
        assert_eq!(record.key, append.key);
        assert_eq!(record.payload, append.payload);
        assert_eq!(record.headers, append.headers);
        assert!(append.timestamp_ms.is_none_or(|stamp| stamp == record.timestamp_ms), "{record:?}");
    }
    assert!(read.is_sorted_by_key(|record| record.offset), "{read:?}");
    let outside: Vec<(i32, Option<Vec<u8>>)> = fixture.committed(&output);
    let expected = [(0, full.payload), (0, None), (0, empty.payload), (1, Some(b"other".to_vec()))];
    assert_eq!(outside, expected);

    drop(log);
    exactly(open_started(fixture).as_mut(), 0);
}

fn a_failed_transaction_leaves_nothing(fixture: &dyn Fixture) {
    let [first, _] = fixture.inputs();
    let output = fixture.output();
    fixture.produce(&first, 0, &["a"]);
    let mut log = open_started(fixture);
    exactly(log.as_mut(), 1);
    let offsets = vec![(first.clone(), 0, 1)];

    let appends = vec![append(&output, 0, "good"), append(&output, 99, "no such partition")];
    log.commit(&Transaction { appends, offsets: offsets.clone() })
        .expect_err("there is no partition 99");
    drop(log);

    let mut log = open_started(fixture);
    assert_eq!(read_values(log.as_mut(), &output, 0, 0).0, [""; 0]);
    assert_eq!(fixture.committed(&output), []);
    let again = exactly(log.as_mut(), 1);
    assert_eq!(values(&again, &first, 0), ["a"]);

    let appends = vec![append(&output, 0, "better")];
    log.commit(&Transaction { appends, offsets }).expect("the transaction is right");
    assert_eq!(read_values(log.as_mut(), &output, 0, 0).0, ["better"]);
    assert_eq!(fixture.committed(&output), [(0, Some(b"better".to_vec()))]);
}

fn a_receipt_lets_reading_go_on_exactly(fixture: &dyn Fixture) {
    let output = fixture.output();
    let mut log = open_started(fixture);
    let mut commit = |values: &[&str]| {
        let appends = values.iter().map(|value| append(&output, 0, value)).collect();
        let receipt =
            log.commit(&Transaction { appends, offsets: Vec::new() }).expect("it is right");
        position(&receipt, &output, 0)
    };
    let after_first = commit(&["a", "b"]);
    let after_second = commit(&["c", "d", "e"]);
    commit(&["f"]);
    assert_eq!(read_values(log.as_mut(), &output, 0, after_first).0, ["c", "d", "e", "f"]);
    assert_eq!(read_values(log.as_mut(), &output, 0, after_second).0, ["f"]);
}

fn reading_ends_at_the_end(fixture: &dyn Fixture) {
    let output = fixture.output();
    let mut log = open_started(fixture);
    assert_eq!(read_values(log.as_mut(), &output, 0, 0), (Vec::new(), 0), "an empty partition");

    let appends = vec![append(&output, 0, "a")];
    let receipt = log.commit(&Transaction { appends, offsets: Vec::new() }).expect("it is right");
    // On Kafka the last entry is the transaction's marker, which is never delivered.
    let (values, end) = read_values(log.as_mut(), &output, 0, 0);
    assert_eq!(values, ["a"]);
    assert!(end >= position(&receipt, &output, 0));
    // The marker may follow the commit, so the end may still move by one.
    for from in [end, position(&receipt, &output, 0)] {
        let (values, again) = read_values(log.as_mut(), &output, 0, from);
        assert_eq!(values, [""; 0]);
        assert!((end..=end + 1).contains(&again), "{again}");
    }
    let appends = vec![append(&output, 0, "b")];
    log.commit(&Transaction { appends, offsets: Vec::new() }).expect("it is right");
    assert_eq!(read_values(log.as_mut(), &output, 0, end).0, ["b"]);
}

/// A reading that goes on may keep the end that it began with. Then it does not say that there is no more.
fn a_reading_says_whether_it_is_level_with_the_log(fixture: &dyn Fixture) {
    let output = fixture.output();
    let mut log = open_started(fixture);
    let commit = |log: &mut dyn Log, values: &[&str]| {
        let appends = values.iter().map(|value| append(&output, 0, value)).collect();
        log.commit(&Transaction { appends, offsets: Vec::new() }).expect("it is right");
    };
    commit(log.as_mut(), &["a", "b", "c"]);
    let mut values = Vec::new();
    let mut read = |log: &mut dyn Log, from| {
        let mut each = |record: Record| {
            values.push(text(record.payload.as_deref()));
            Ok(())
        };
        log.read(&output, 0, from, 2, &mut each).expect("the log works")
    };
    let mut at = read(log.as_mut(), 0);
    assert!(!at.is_level(), "{at:?}");
    commit(log.as_mut(), &["d"]);
    while !at.is_level() {
        at = read(log.as_mut(), at.next);
    }
    assert_eq!(values, ["a", "b", "c", "d"]);
}

fn a_reader_can_stop_a_read(fixture: &dyn Fixture) {
    use bellwether_engine::log::{LogError, Remedy};
    let output = fixture.output();
    let mut log = open_started(fixture);
    let appends = vec![append(&output, 0, "a"), append(&output, 0, "b")];
    log.commit(&Transaction { appends, offsets: Vec::new() }).expect("it is right");
    let mut seen = 0;
    let error = log
        .read(&output, 0, 0, 10, &mut |_| {
            seen += 1;
            Err(LogError::new(Remedy::Stop, "enough"))
        })
        .expect_err("the reader's error comes back");
    assert_eq!((error.message.as_str(), seen), ("enough", 1));
    assert_eq!(read_values(log.as_mut(), &output, 0, 0).0, ["a", "b"]);
}

fn paused_partitions_keep_their_place(fixture: &dyn Fixture) {
    let [first, second] = fixture.inputs();
    fixture.produce(&first, 0, &["a", "b", "c", "d"]);
    let mut log = open_started(fixture);
    let mut delivered = Vec::new();
    wait_until("two records", LIMIT, || {
        delivered.extend(polled(log.as_mut(), 2 - delivered.len(), QUIET));
        (delivered.len() == 2).then_some(())
    });
    log.pause(&[0]).expect("owned partitions can be paused");
    fixture.produce(&first, 0, &["e"]);
    fixture.produce(&second, 0, &["m"]);
    fixture.produce(&second, 1, &["n"]);
    let others = exactly(log.as_mut(), 1);
    assert_eq!(values(&others, &second, 1), ["n"]);

    log.resume(&[0], &[]).expect("paused partitions can be resumed");
    delivered.extend(exactly(log.as_mut(), 4));
    assert_eq!(values(&delivered, &first, 0), ["a", "b", "c", "d", "e"]);
    assert_eq!(values(&delivered, &second, 0), ["m"]);
}

fn resuming_can_move_back(fixture: &dyn Fixture) {
    let [first, second] = fixture.inputs();
    fixture.produce(&first, 1, &["a", "b", "c"]);
    fixture.produce(&second, 1, &["x"]);
    let mut log = open_started(fixture);
    exactly(log.as_mut(), 4);
    log.pause(&[1]).expect("owned partitions can be paused");
    log.resume(&[1], &[(first.clone(), 1, 1)]).expect("paused partitions can be resumed");
    let again = exactly(log.as_mut(), 2);
    assert_eq!(values(&again, &first, 1), ["b", "c"]);
    fixture.produce(&first, 1, &["d"]);
    fixture.produce(&second, 1, &["y"]);
    let next = exactly(log.as_mut(), 2);
    assert_eq!(values(&next, &first, 1), ["d"]);
    assert_eq!(values(&next, &second, 1), ["y"]);
}

fn rewinding_goes_back_to_what_is_committed(fixture: &dyn Fixture) {
    let [first, second] = fixture.inputs();
    fixture.produce(&first, 0, &["a", "b", "c"]);
    fixture.produce(&second, 0, &["x"]);
    fixture.produce(&first, 1, &["m", "n"]);
    let mut log = open_started(fixture);
    exactly(log.as_mut(), 6);
    let offsets = vec![(first.clone(), 0, 1), (first.clone(), 1, 1)];
    log.commit(&Transaction { appends: Vec::new(), offsets }).expect("an owner can commit");
    log.pause(&[0]).expect("owned partitions can be paused");
    log.rewind(&[0]).expect("owned partitions can go back");
    let again = exactly(log.as_mut(), 3);
    assert_eq!(values(&again, &first, 0), ["b", "c"]);
    assert_eq!(values(&again, &second, 0), ["x"], "where nothing is committed, all of it");
    log.rewind(&[1]).expect("owned partitions can go back");
    assert_eq!(values(&exactly(log.as_mut(), 1), &first, 1), ["n"]);
}

fn an_empty_transaction_commits(fixture: &dyn Fixture) {
    let mut log = open_started(fixture);
    assert_eq!(log.commit(&Transaction::default()).expect("nothing can fail"), Receipt::default());
}

fn lag_counts_what_is_not_delivered(fixture: &dyn Fixture) {
    let [first, second] = fixture.inputs();
    fixture.produce(&first, 0, &["a", "b", "c"]);
    let mut log = fixture.open();
    own(log.as_mut());
    let lag_of = |log: &mut dyn Log, topic: &Topic, partition: i32| {
        let lags = log.lag().expect("the log works");
        lags.iter()
            .find(|lag| lag.topic == *topic && lag.partition == partition)
            .map(|lag| lag.records)
    };
    // A log that is asked for the ends of partitions may take a while to know them.
    let mut is = |what: &str, topic: &Topic, partition: i32, lag: i64| {
        wait_until(what, LIMIT, || {
            (lag_of(log.as_mut(), topic, partition) == Some(lag)).then_some(())
        });
    };
    is("lag before start", &first, 0, 3);
    is("lag of an empty partition", &second, 1, 0);
    log.start(&[0, 1]).expect("assigned partitions can be started");
    exactly(log.as_mut(), 3);
    wait_until("no lag", LIMIT, || {
        polled(log.as_mut(), 10, Duration::from_millis(100));
        (lag_of(log.as_mut(), &first, 0) == Some(0)).then_some(())
    });
    log.pause(&[0]).expect("owned partitions can be paused");
    fixture.produce(&first, 0, &["d", "e"]);
    wait_until("lag while paused", LIMIT, || {
        (lag_of(log.as_mut(), &first, 0) == Some(2)).then_some(())
    });
}
