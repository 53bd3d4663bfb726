//! What only a shared log can show: several members, fencing, other people's transactions, deleted records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_engine::kafka::{GroupProtocol, KafkaLog, KafkaOptions, WorkerId};
use bellwether_engine::log::{Log, Poll, Record, Remedy, Topic, Transaction};
use bellwether_tests::{create_topic, delete_records_before, shared_kafka, unique, wait_until};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::fixtures::{Fixture, OnKafka};
use super::{LIMIT, QUIET, append, exactly, open_started, own, read_values, values};

/// A member that starts whatever it is assigned, and what it saw.
struct Member {
    log: KafkaLog,
    owned: Vec<i32>,
    /// Everything that it ever had to give up.
    revoked: Vec<i32>,
    records: Vec<Record>,
}

impl Member {
    fn join(fixture: &OnKafka, instance: &str, protocol: GroupProtocol) -> Member {
        let options = KafkaOptions { group_protocol: protocol, ..OnKafka::options() };
        let (owned, revoked, records) = (Vec::new(), Vec::new(), Vec::new());
        Member { log: fixture.open_with(&options, instance), owned, revoked, records }
    }

    fn step(&mut self) {
        match self.log.poll(100, Duration::from_millis(20)).expect("the log works") {
            Poll::Idle => {}
            Poll::Records(records) => self.records.extend(records),
            Poll::Assigned(partitions) => {
                self.log.start(&partitions).expect("assigned partitions can be started");
                assert!(!self.owned.iter().any(|owned| partitions.contains(owned)));
                self.owned.extend(partitions);
            }
            Poll::Revoked(partitions) => {
                assert!(partitions.iter().all(|partition| self.owned.contains(partition)));
                self.owned.retain(|owned| !partitions.contains(owned));
                self.revoked.extend(partitions);
            }
        }
    }
}

#[test]
fn members_of_a_classic_group_share_partitions() {
    members_share_partitions_and_what_stays_is_not_interrupted(GroupProtocol::Classic);
}

#[test]
fn members_of_a_group_that_the_broker_balances_share_partitions() {
    members_share_partitions_and_what_stays_is_not_interrupted(GroupProtocol::Consumer);
}

/// One that is alone, one that comes and one that leaves again, after a commit.
fn members_share_partitions_and_what_stays_is_not_interrupted(protocol: GroupProtocol) {
    let fixture = OnKafka::new();
    let [first, second] = fixture.inputs();
    let mut one = Member::join(&fixture, "one", protocol);
    wait_until("both partitions at the one that is alone", LIMIT, || {
        one.step();
        (one.owned.len() == 2).then_some(())
    });
    let mut two = Member::join(&fixture, "two", protocol);
    wait_until("one partition for each", LIMIT, || {
        one.step();
        two.step();
        (one.owned.len() == 1 && two.owned.len() == 1).then_some(())
    });
    assert_eq!(one.revoked, two.owned, "it gave up what the other has now, and nothing else");
    for partition in 0..2 {
        fixture.produce(&first, partition, &["a", "b"]);
        fixture.produce(&second, partition, &["x"]);
    }
    wait_until("all records at their owners", LIMIT, || {
        one.step();
        two.step();
        (one.records.len() == 3 && two.records.len() == 3).then_some(())
    });
    let of_two = two.owned[0];
    assert!(two.records.iter().all(|record| record.partition == of_two));

    let offsets = vec![(first.clone(), of_two, 1), (second.clone(), of_two, 1)];
    two.log.commit(&Transaction { appends: Vec::new(), offsets }).expect("a member can commit");
    let started = Instant::now();
    drop(two);
    assert!(started.elapsed() < Duration::from_secs(10), "leaving took {:?}", started.elapsed());

    one.records.clear();
    wait_until("both partitions at the one that stayed", LIMIT, || {
        one.step();
        (one.owned.len() == 2).then_some(())
    });
    assert_eq!(one.revoked, [of_two], "what it had, it kept throughout");
    wait_until("what the other left", LIMIT, || {
        one.step();
        (values(&one.records, &first, of_two) == ["b"]).then_some(())
    });
    assert!(values(&one.records, &second, of_two).is_empty(), "that was committed");
}

#[test]
fn a_worker_that_was_replaced_is_fenced() {
    let fixture = OnKafka::new();
    let [first, _] = fixture.inputs();
    let output = fixture.output();
    let mut old = open_started(&fixture);
    let transaction = |value: &str| Transaction {
        appends: vec![append(&output, 0, value)],
        offsets: vec![(first.clone(), 0, 0)],
    };
    old.commit(&transaction("by the old one")).expect("the first owner can commit");
    let mut new = fixture.open();
    let error =
        old.commit(&transaction("by the zombie")).expect_err("its transactional id was taken");
    assert_eq!(error.remedy, Remedy::Fenced, "{error}");
    let error = old.poll(1, Duration::ZERO).expect_err("after a failed commit nothing goes on");
    assert_eq!(error.remedy, Remedy::Reopen, "{error}");
    drop(old);
    own(new.as_mut());
    new.commit(&transaction("by the new one")).expect("the new owner can commit");
    let seen: Vec<_> =
        fixture.committed(&output).into_iter().filter_map(|(_, value)| value).collect();
    assert_eq!(seen, [b"by the old one".to_vec(), b"by the new one".to_vec()]);
}

#[test]
fn a_worker_that_lost_its_partitions_cannot_append() {
    let fixture = OnKafka::new();
    let [first, _] = fixture.inputs();
    let output = fixture.output();
    let mut options = OnKafka::options();
    options.session_timeout_ms = 2_000;
    options.poll_interval_ms_max = 2_000;
    options.extra.insert("heartbeat.interval.ms".to_owned(), "500".to_owned());
    let worker = WorkerId {
        application: fixture.application.clone(),
        instance: "stuck".to_owned(),
        thread: 0,
    };
    let mut old = KafkaLog::open(&options, &worker, &fixture.inputs()).expect("the broker is up");
    own(&mut old);
    let offsets = vec![(first.clone(), 0, 0)];
    old.commit(&Transaction { appends: Vec::new(), offsets }).expect("an owner can commit");

    // The old one is stuck in something long and does not poll, so its partitions go to another.
    let mut new = fixture.open_as("new");
    wait_until("both partitions at the new one", LIMIT, || {
        matches!(new.poll(1, QUIET).expect("the log works"), Poll::Assigned(owned) if owned == [0, 1])
            .then_some(())
    });
    let transaction =
        |value: &str| Transaction { appends: vec![append(&output, 0, value)], offsets: Vec::new() };
    new.commit(&transaction("by the new one")).expect("the owner can append");
    let error = old.commit(&transaction("by the stuck one")).expect_err("it owns nothing");
    assert_eq!(error.remedy, Remedy::Fenced, "{error}");
    assert_eq!(fixture.committed(&output), [(0, Some(b"by the new one".to_vec()))]);
}

#[test]
fn reading_waits_for_transactions_that_are_open_below_the_end() {
    let fixture = OnKafka::new();
    let output = fixture.output();
    let mut log = open_started(&fixture);
    let other: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", shared_kafka().bootstrap())
        .set("transactional.id", unique("other"))
        .create()
        .expect("a producer needs nothing but an address");
    other.init_transactions(LIMIT).expect("the broker is up");
    let send = |value: &str| {
        other.begin_transaction().expect("none is open");
        let record: BaseRecord<'_, str, str> = BaseRecord::to(&output).partition(0).payload(value);
        other.send(record).expect("the queue is empty");
        other.flush(LIMIT).expect("the broker is up");
    };

    send("aborted");
    other.abort_transaction(LIMIT).expect("it is open");
    assert_eq!(read_values(log.as_mut(), &output, 0, 0).0, [""; 0]);

    send("committed");
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_values(log.as_mut(), &output, 0, 0));
        let started = Instant::now();
        while started.elapsed() < QUIET {
            assert!(!reading.is_finished(), "it read past an open transaction");
            std::thread::yield_now();
        }
        other.commit_transaction(LIMIT).expect("it is open");
        assert_eq!(reading.join().expect("the log works").0, ["committed"]);
    });
}

#[test]
fn a_committed_position_that_is_gone_stops_with_advice() {
    let fixture = OnKafka::new();
    let [first, _] = fixture.inputs();
    fixture.produce(&first, 0, &["a", "b", "c"]);
    let mut log = open_started(&fixture);
    exactly(log.as_mut(), 3);
    let offsets = vec![(first.clone(), 0, 1)];
    log.commit(&Transaction { appends: Vec::new(), offsets }).expect("an owner can commit");
    drop(log);
    delete_records_before(shared_kafka().bootstrap(), &first, 0, 2);

    let mut log = open_started(&fixture);
    let error = wait_until("the error", LIMIT, || log.poll(10, QUIET).err());
    assert_eq!(error.remedy, Remedy::Stop, "{error}");
    assert!(error.message.contains(first.as_ref()), "{error}");
    assert!(error.message.contains("--reset-offsets"), "{error}");
}

#[test]
fn without_a_committed_position_reading_begins_at_the_oldest_record() {
    let fixture = OnKafka::new();
    let [first, _] = fixture.inputs();
    fixture.produce(&first, 0, &["a", "b", "c"]);
    delete_records_before(shared_kafka().bootstrap(), &first, 0, 2);
    let mut log = open_started(&fixture);
    assert_eq!(values(&exactly(log.as_mut(), 1), &first, 0), ["c"]);
    assert_eq!(
        read_values(log.as_mut(), &first, 0, 0),
        (vec!["c".to_owned()], 3),
        "so does a read"
    );
}

#[test]
fn a_position_after_the_end_stops_with_advice() {
    let fixture = OnKafka::new();
    let mut log = open_started(&fixture);
    let error = log.read(&fixture.output(), 0, 5, 10, &mut |_| Ok(())).expect_err("it ends at 0");
    assert_eq!(error.remedy, Remedy::Stop);
    assert!(error.message.contains("local state"), "{error}");
}

#[test]
fn input_topics_of_unequal_size_stop_with_their_counts() {
    let names = [unique("three"), unique("two")];
    let inputs = [Topic::from(names[0].as_str()), Arc::from(names[1].as_str())];
    create_topic(shared_kafka().bootstrap(), &inputs[0], 3, &[]);
    create_topic(shared_kafka().bootstrap(), &inputs[1], 2, &[]);
    let worker = WorkerId { application: unique("app"), instance: "one".to_owned(), thread: 0 };
    let error = KafkaLog::open(&OnKafka::options(), &worker, &inputs).expect_err("they differ");
    assert_eq!(error.remedy, Remedy::Stop, "{error}");
    for said in [format!("{} has 3", inputs[0]), format!("{} has 2", inputs[1])] {
        assert!(error.message.contains(&said), "{error}");
    }
}

#[test]
fn a_large_transaction_is_backpressure_not_an_error() {
    let fixture = OnKafka::new();
    let output = fixture.output();
    let mut options = OnKafka::options();
    options.producer_queue_kib_max = 256;
    options.extra.insert("queue.buffering.max.messages".to_owned(), "100".to_owned());
    let worker = WorkerId {
        application: fixture.application.clone(),
        instance: "small".to_owned(),
        thread: 0,
    };
    let mut log = KafkaLog::open(&options, &worker, &fixture.inputs()).expect("the broker is up");
    own(&mut log);
    let value = "v".repeat(10_000);
    let appends = (0..2_000).map(|_| append(&output, 1, &value)).collect();
    log.commit(&Transaction { appends, offsets: Vec::new() }).expect("it only takes longer");
    assert_eq!(fixture.committed(&output).len(), 2_000);
}
