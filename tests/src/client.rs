//! Plain Kafka clients that share no code with Bellwether: what they write and read is evidence from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::wait_until;

/// No step against a broker on this machine takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// A record to produce.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The partition; none: by the key's hash.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Milliseconds since the epoch; none: now.
    pub timestamp_ms: Option<i64>,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    config(bootstrap).create().expect("an admin client needs nothing but an address")
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(LIMIT)).operation_timeout(Some(LIMIT))
}

/// Creates a topic with these settings.
///
/// # Panics
/// If the broker refuses.
pub fn create_topic(bootstrap: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let topic = settings.iter().fold(
        NewTopic::new(name, partitions, TopicReplication::Fixed(1)),
        |topic, (key, value)| topic.set(key, value),
    );
    // Dropped before it answers, a client leaves its future waiting for ever.
    let client = admin(bootstrap);
    let results = futures_executor::block_on(client.create_topics([&topic], &admin_options()))
        .expect("the broker answers");
    for result in results {
        result.unwrap_or_else(|(topic, error)| panic!("topic {topic} was not created: {error}"));
    }
    wait_until("the broker to know the new topic", LIMIT, || {
        let metadata = client.inner().fetch_metadata(None, LIMIT).expect("the broker answers");
        metadata.topics().iter().any(|topic| topic.name() == name).then_some(())
    });
}

/// The settings of a topic.
///
/// # Panics
/// If the broker does not tell them.
#[must_use]
pub fn topic_config(bootstrap: &str, topic: &str) -> BTreeMap<String, String> {
    let client = admin(bootstrap);
    let wanted = [ResourceSpecifier::Topic(topic)];
    let described = futures_executor::block_on(client.describe_configs(&wanted, &admin_options()));
    let described = described.expect("the broker answers").remove(0).expect("the topic exists");
    let entries = described.entries.into_iter();
    entries.filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

/// Deletes the records of a partition before an offset, as retention would.
///
/// # Panics
/// If the broker refuses.
pub fn delete_records_before(bootstrap: &str, topic: &str, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a real offset");
    let client = admin(bootstrap);
    let deleted = futures_executor::block_on(client.delete_records(&list, &admin_options()))
        .expect("the broker answers");
    for element in deleted.elements() {
        element.error().expect("records can be deleted");
    }
}

#[derive(Default)]
struct Failures(Mutex<Vec<KafkaError>>);

impl ClientContext for Failures {}
impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().expect("no one panics with the lock").push(error.clone());
        }
    }
}

/// Produces records, in order, and waits until the broker has them all.
///
/// # Panics
/// If one is not delivered.
pub fn produce(bootstrap: &str, topic: &str, records: &[Outgoing]) {
    let producer: BaseProducer<Failures> = config(bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.max.bytes", "33554432")
        .create_with_context(Failures::default())
        .expect("a producer needs nothing but an address");
    for outgoing in records {
        let mut record: BaseRecord<'_, [u8], [u8], ()> = BaseRecord::to(topic);
        record.partition = outgoing.partition;
        record.key = outgoing.key.as_deref();
        record.payload = outgoing.payload.as_deref();
        record.timestamp = outgoing.timestamp_ms;
        record.headers =
            Some(outgoing.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            }));
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => panic!("a record for {topic} was not accepted: {error}"),
            }
        }
    }
    producer.flush(LIMIT).expect("a broker on this machine takes all records in time");
    let failures = producer.context().0.lock().expect("no one panics with the lock");
    assert!(failures.is_empty(), "records for {topic} were not delivered: {failures:?}");
}

/// The broker that leads a partition now; for a partition of `__consumer_offsets` or `__transaction_state` it is the coordinator.
///
/// # Panics
/// If there is no such partition.
#[must_use]
pub fn leader(bootstrap: &str, topic: &str, partition: i32) -> i32 {
    let client = admin(bootstrap);
    let metadata = client.inner().fetch_metadata(Some(topic), LIMIT).expect("a broker answers");
    let described = metadata.topics().first().expect("the topic that was asked for");
    let found = described.partitions().iter().find(|found| found.id() == partition);
    found.unwrap_or_else(|| panic!("{topic} has no partition {partition}")).leader()
}

/// The partition of `__consumer_offsets` or `__transaction_state` that keeps a group or a transactional id: both topics have four
/// in these tests, and Kafka takes the name's hash in Java (`Utils.abs(name.hashCode()) % partitions`).
#[must_use]
pub fn coordinating_partition(name: &str) -> i32 {
    let hash = name
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX) % 4
}

/// Reads all committed records of a topic, from its beginning to its end as it is now, by partition and offset.
///
/// # Panics
/// If the topic does not exist, or its end is not reached in time (a transaction that stays open does not count: what it holds
/// is not part of the committed records).
#[must_use]
pub fn consume_all(bootstrap: &str, topic: &str) -> Vec<Consumed> {
    consume(bootstrap, topic, "read_committed")
}

/// The same with the records of transactions that were aborted.
///
/// # Panics
/// As there.
#[must_use]
pub fn consume_uncommitted(bootstrap: &str, topic: &str) -> Vec<Consumed> {
    consume(bootstrap, topic, "read_uncommitted")
}

fn consume(bootstrap: &str, topic: &str, isolation: &str) -> Vec<Consumed> {
    let consumer: BaseConsumer = config(bootstrap)
        .set("group.id", "independent-verifier")
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .create()
        .expect("a consumer needs nothing but an address");
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT).expect("the broker answers");
    let described = metadata.topics().first().expect("the topic that was asked for");
    assert!(described.error().is_none(), "topic {topic}: {:?}", described.error());
    let mut open: BTreeSet<i32> =
        described.partitions().iter().map(|partition| partition.id()).collect();
    let mut assignment = TopicPartitionList::new();
    for partition in &open {
        assignment
            .add_partition_offset(topic, *partition, Offset::Beginning)
            .expect("the beginning is an offset");
    }
    consumer.assign(&assignment).expect("partitions that exist can be assigned");
    let started = Instant::now();
    let mut records = Vec::new();
    while !open.is_empty() {
        assert!(
            started.elapsed() < LIMIT * 4,
            "the end of {topic} was not reached: {open:?} are open"
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records.push(Consumed {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    headers
                        .iter()
                        .map(|header| {
                            (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
                        })
                        .collect()
                }),
                timestamp_ms: message.timestamp().to_millis(),
            }),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            // A broker is away: the client finds out who leads instead.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )))
            | None => {}
            Some(Err(error)) => panic!("cannot read {topic}: {error}"),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}
