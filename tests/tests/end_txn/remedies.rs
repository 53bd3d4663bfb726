//! What the Kafka adapter makes of each error that a broker can give, against librdkafka's mock of a cluster. Only the adapter's
//! verdict is judged here: the mock's transactions are not worth relying on.

use std::sync::Arc;
use std::time::Duration;

use bellwether_engine::kafka::{KafkaLog, KafkaOptions, WorkerId};
use bellwether_engine::log::{Append, Log, Poll, Remedy, Topic, Transaction};
use bellwether_tests::{LIMIT, wait_until};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Error};

/// More often than anyone tries.
const ALWAYS: usize = 1_000;

/// A request, the error that it meets and how often, and what is to be done.
type Case = (RDKafkaApiKey, Error, usize, Option<Remedy>);

type Mock = MockCluster<'static, DefaultProducerContext>;

/// A mock with one input and one output topic, and a log that owns the input's partition.
fn owner() -> (Mock, KafkaLog) {
    let mock = MockCluster::new(1).expect("a mock needs nothing");
    for topic in ["input", "output"] {
        mock.create_topic(topic, 1, 1).expect("a new topic");
    }
    let options = KafkaOptions {
        bootstrap_servers: mock.bootstrap_servers(),
        transaction_timeout_ms: 3_000,
        ..KafkaOptions::default()
    };
    let worker =
        WorkerId { application: "mocked".to_owned(), instance: "one".to_owned(), thread: 0 };
    let mut log =
        KafkaLog::open(&options, &worker, &[Topic::from("input")]).expect("the mock is up");
    wait_until("the partition", LIMIT, || {
        matches!(log.poll(1, Duration::from_millis(20)), Ok(Poll::Assigned(_))).then_some(())
    });
    log.start(&[0]).expect("it is owned");
    (mock, log)
}

/// What is to be done about a commit that meets this error so often; none: it came through.
fn remedy(request: RDKafkaApiKey, error: Error, times: usize) -> Option<Remedy> {
    let (mock, mut log) = owner();
    mock.request_errors(request, &vec![error; times]);
    let append = Append {
        topic: Arc::from("output"),
        partition: 0,
        key: None,
        payload: Some(b"value".to_vec()),
        headers: Vec::new(),
        timestamp_ms: None,
    };
    let transaction =
        Transaction { appends: vec![append], offsets: vec![(Arc::from("input"), 0, 0)] };
    let found = log.commit(&transaction).err()?.remedy;
    if found == Remedy::Rewind {
        log.rewind(&[0]).expect("the log goes on");
        log.commit(&transaction).expect("so does what was to be committed");
    } else {
        let after = log.poll(1, Duration::ZERO).expect_err("after a failed commit nothing goes on");
        assert_eq!(after.remedy, Remedy::Reopen, "{after}");
    }
    Some(found)
}

/// Asks for each at the same time: a mock takes three seconds to hand out its partition.
fn assert_remedies(cases: &[Case]) {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let asked = cases.iter().map(|case| (case, scope.spawn(|| remedy(case.0, case.1, case.2))));
        let asked: Vec<_> = asked.collect();
        let judged = asked.into_iter().filter_map(|(case, found)| {
            let found = found.join().expect("the case was tried");
            (found != case.3).then(|| format!("{case:?}: {found:?}"))
        });
        judged.collect()
    });
    assert!(wrong.is_empty(), "expected, and found: {wrong:#?}");
}

#[test]
fn what_passes_is_tried_again_until_it_is_given_up() {
    use RDKafkaApiKey::{AddPartitionsToTxn, EndTxn, Produce, TxnOffsetCommit};
    let passing = [
        (EndTxn, Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, Remedy::Unknown),
        (EndTxn, Error::RD_KAFKA_RESP_ERR_NOT_COORDINATOR, Remedy::Unknown),
        (EndTxn, Error::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, Remedy::Unknown),
        (TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, Remedy::Reopen),
        (TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_NOT_COORDINATOR, Remedy::Reopen),
        (AddPartitionsToTxn, Error::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, Remedy::Reopen),
        (AddPartitionsToTxn, Error::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, Remedy::Reopen),
        (Produce, Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, Remedy::Reopen),
        (Produce, Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, Remedy::Reopen),
    ];
    let cases: Vec<Case> = passing
        .into_iter()
        .flat_map(|(key, error, given_up)| {
            [(key, error, 1, None), (key, error, ALWAYS, Some(given_up))]
        })
        .collect();
    assert_remedies(&cases);
}

/// Others took over.
#[test]
fn who_was_replaced_is_told_so() {
    use RDKafkaApiKey::{AddPartitionsToTxn, EndTxn, Produce, TxnOffsetCommit};
    let cases = [
        (EndTxn, Error::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
        (EndTxn, Error::RD_KAFKA_RESP_ERR_PRODUCER_FENCED),
        (TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID),
        (TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID),
        (TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
        (AddPartitionsToTxn, Error::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
        (AddPartitionsToTxn, Error::RD_KAFKA_RESP_ERR_PRODUCER_FENCED),
        (Produce, Error::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
    ];
    assert_remedies(&cases.map(|(key, error)| (key, error, 1, Some(Remedy::Fenced))));
}

/// A rebalance passed by: the same log goes on.
#[test]
fn what_meets_a_rebalance_is_done_again() {
    use RDKafkaApiKey::TxnOffsetCommit;
    let cases = [
        (TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION),
        (TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS),
    ];
    assert_remedies(&cases.map(|(key, error)| (key, error, 1, Some(Remedy::Rewind))));
}

/// What only a person can mend is not tried for ever.
#[test]
fn what_a_person_has_to_mend_stops_the_worker() {
    use RDKafkaApiKey::{AddPartitionsToTxn, Produce, TxnOffsetCommit};
    let cases = [
        (TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED),
        (AddPartitionsToTxn, Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
        (AddPartitionsToTxn, Error::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        (Produce, Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
        (Produce, Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE),
    ];
    assert_remedies(&cases.map(|(key, error)| (key, error, 1, Some(Remedy::Stop))));
}

/// A state that is in doubt is left behind.
#[test]
fn what_a_new_start_mends_asks_for_one() {
    use RDKafkaApiKey::{AddPartitionsToTxn, EndTxn, Produce};
    assert_remedies(&[
        (EndTxn, Error::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID, 1, Some(Remedy::Reopen)),
        // Not in the list of answers that the client knows, so nobody can tell.
        (EndTxn, Error::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, 1, Some(Remedy::Unknown)),
        (AddPartitionsToTxn, Error::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, 1, Some(Remedy::Reopen)),
        (Produce, Error::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 1, Some(Remedy::Reopen)),
        (Produce, Error::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID, 1, Some(Remedy::Reopen)),
    ]);
}

/// A partition between two leaders is waited for; one that does not exist is for a person to create.
#[test]
fn a_partition_without_a_leader_is_not_a_missing_one() {
    let (mock, mut log) = owner();
    mock.partition_leader("output", 0, None).expect("the topic is there");
    let mut read = |partition| {
        let read = log.read(&Topic::from("output"), partition, 0, 1, &mut |_| Ok(()));
        read.expect_err("it has no leader").remedy
    };
    assert_eq!((read(0), read(7)), (Remedy::Reopen, Remedy::Stop));
}
