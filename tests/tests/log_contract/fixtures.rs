//! The logs under test, each with two input topics and one output topic of two partitions.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwether_engine::embedded::Embedded;
use bellwether_engine::kafka::{KafkaLog, KafkaOptions, WorkerId};
use bellwether_engine::log::{Append, Log, Topic};
use bellwether_store::Shared;
use bellwether_store::log_store::Retention;
use bellwether_tests::{Outgoing, consume_all, create_topic, produce, shared_kafka, unique};

use crate::broker::Broker;
use crate::log::{Faults, ModelLog, PowerCut, lock};

/// A log with its topics; what is outside of the [`Log`] trait goes through it.
pub(crate) trait Fixture {
    /// Opens the log anew, as a worker that starts.
    fn open(&self) -> Box<dyn Log>;
    /// The input topics.
    fn inputs(&self) -> [Topic; 2];
    /// The output topic.
    fn output(&self) -> Topic;
    /// Appends input from outside.
    fn produce(&self, topic: &Topic, partition: i32, values: &[&str]);
    /// The partition and value of all records of a topic that someone outside can see.
    fn committed(&self, topic: &Topic) -> Vec<(i32, Option<Vec<u8>>)>;
}

/// Topics of their own on the shared broker.
#[derive(Debug)]
pub(crate) struct OnKafka {
    inputs: [Topic; 2],
    output: Topic,
    /// The application: consumer group and start of the transactional ids.
    pub(crate) application: String,
}

impl OnKafka {
    /// Creates the topics.
    pub(crate) fn new() -> OnKafka {
        let topic = |prefix: &str| -> Topic {
            let name = unique(prefix);
            create_topic(shared_kafka().bootstrap(), &name, 2, &[]);
            Arc::from(name)
        };
        OnKafka {
            inputs: [topic("first"), topic("second")],
            output: topic("output"),
            application: unique("application"),
        }
    }

    /// How to reach the broker.
    pub(crate) fn options() -> KafkaOptions {
        KafkaOptions {
            bootstrap_servers: shared_kafka().bootstrap().to_owned(),
            transaction_timeout_ms: 10_000,
            ..KafkaOptions::default()
        }
    }

    /// Opens a worker of this instance name.
    pub(crate) fn open_as(&self, instance: &str) -> KafkaLog {
        self.open_with(&Self::options(), instance)
    }

    /// The same with options of its own.
    pub(crate) fn open_with(&self, options: &KafkaOptions, instance: &str) -> KafkaLog {
        let worker = WorkerId {
            application: self.application.clone(),
            instance: instance.to_owned(),
            thread: 0,
        };
        KafkaLog::open(options, &worker, &self.inputs).expect("the broker is up")
    }
}

impl Fixture for OnKafka {
    fn open(&self) -> Box<dyn Log> {
        Box::new(self.open_as("one"))
    }

    fn inputs(&self) -> [Topic; 2] {
        self.inputs.clone()
    }

    fn output(&self) -> Topic {
        self.output.clone()
    }

    fn produce(&self, topic: &Topic, partition: i32, values: &[&str]) {
        let records: Vec<Outgoing> = values
            .iter()
            .map(|value| Outgoing {
                partition: Some(partition),
                payload: Some(value.as_bytes().to_vec()),
                ..Outgoing::default()
            })
            .collect();
        produce(shared_kafka().bootstrap(), topic, &records);
    }

    fn committed(&self, topic: &Topic) -> Vec<(i32, Option<Vec<u8>>)> {
        let records = consume_all(shared_kafka().bootstrap(), topic);
        records.into_iter().map(|record| (record.partition, record.payload)).collect()
    }
}

/// A log in a temporary directory.
#[derive(Debug)]
pub(crate) struct OnEmbedded {
    log: Embedded,
    _dir: tempfile::TempDir,
}

impl OnEmbedded {
    /// Creates the topics.
    pub(crate) fn new() -> OnEmbedded {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let shared = Shared::new(8 << 20);
        let log =
            Embedded::open(dir.path(), &shared, 1_000).expect("an empty directory can be opened");
        for topic in ["first", "second", "output"] {
            log.create_topic(topic, 2, Retention::Forever).expect("a new topic");
        }
        OnEmbedded { log, _dir: dir }
    }
}

impl Fixture for OnEmbedded {
    fn open(&self) -> Box<dyn Log> {
        Box::new(self.log.consume(&self.inputs()).expect("the topics exist"))
    }

    fn inputs(&self) -> [Topic; 2] {
        [Arc::from("first"), Arc::from("second")]
    }

    fn output(&self) -> Topic {
        Arc::from("output")
    }

    fn produce(&self, topic: &Topic, partition: i32, values: &[&str]) {
        let records: Vec<Append> = values
            .iter()
            .map(|value| Append {
                topic: topic.clone(),
                partition,
                key: None,
                payload: Some(value.as_bytes().to_vec()),
                headers: Vec::new(),
                timestamp_ms: None,
            })
            .collect();
        self.log.append(&records, Duration::from_secs(1)).expect("there is room");
    }

    fn committed(&self, topic: &Topic) -> Vec<(i32, Option<Vec<u8>>)> {
        let mut records = Vec::new();
        for partition in 0..2 {
            self.log
                .read::<bellwether_store::log_store::LogStoreError>(
                    topic,
                    partition,
                    0,
                    usize::MAX,
                    &mut |record| {
                        records.push((partition, record.payload));
                        Ok(())
                    },
                )
                .expect("the log works");
        }
        records
    }
}

/// The model of Kafka's broker.
#[derive(Debug)]
pub(crate) struct OnModel(Arc<Mutex<Broker>>);

impl OnModel {
    /// Creates the topics.
    pub(crate) fn new() -> OnModel {
        let inputs = [Topic::from("first"), Topic::from("second")];
        OnModel(Arc::new(Mutex::new(Broker::new(&inputs, &[Topic::from("output")], 2))))
    }
}

impl Fixture for OnModel {
    fn open(&self) -> Box<dyn Log> {
        let cut = PowerCut(Arc::new(|| {}));
        let rng = fastrand::Rng::with_seed(1);
        let faults = Faults { rng, per_mille: 0, is_cut: false, rewinds: 0, cut };
        Box::new(ModelLog::open(&self.0, &Arc::new(Mutex::new(faults)), &self.inputs(), "one"))
    }

    fn inputs(&self) -> [Topic; 2] {
        [Arc::from("first"), Arc::from("second")]
    }

    fn output(&self) -> Topic {
        Arc::from("output")
    }

    fn produce(&self, topic: &Topic, partition: i32, values: &[&str]) {
        for value in values {
            lock(&self.0).produce(&Append {
                topic: topic.clone(),
                partition,
                key: None,
                payload: Some(value.as_bytes().to_vec()),
                headers: Vec::new(),
                timestamp_ms: None,
            });
        }
    }

    fn committed(&self, topic: &Topic) -> Vec<(i32, Option<Vec<u8>>)> {
        let model = lock(&self.0);
        let of = |partition| {
            let records = model.committed_records(&(topic.clone(), partition));
            records.into_iter().map(|record| (record.partition, record.payload.clone())).collect()
        };
        let parts: [Vec<_>; 2] = [of(0), of(1)];
        parts.concat()
    }
}
