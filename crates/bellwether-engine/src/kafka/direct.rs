//! Kafka without a group and without transactions: for commands that a person runs.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};

use super::commit::send_all;
use super::context::{DeliveryContext, ReaderContext};
use super::reader::Reader;
use super::{KafkaOptions, classify};
use crate::log::{Append, LogError, Read, Record, Remedy, Topic};
use crate::standby::Follow;

/// All that one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that reads committed records of any topic, and appends.
pub struct KafkaTopics {
    options: KafkaOptions,
    reader: Mutex<Reader>,
    metadata: BaseConsumer<ReaderContext>,
}

impl std::fmt::Debug for KafkaTopics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KafkaTopics").finish_non_exhaustive()
    }
}

impl KafkaTopics {
    /// Connects when first used. `name` names the client.
    ///
    /// # Errors
    /// `Stop` for wrong settings.
    pub fn new(options: &KafkaOptions, name: &str) -> Result<KafkaTopics, LogError> {
        let metadata = options
            .reader(name, "read_committed")?
            .create_with_context(ReaderContext)
            .map_err(|error| classify::creation(&error))?;
        let reader = Mutex::new(Reader::new(options, name)?);
        Ok(KafkaTopics { options: options.clone(), reader, metadata })
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// `Stop` where it does not exist, `Reopen` where the brokers do not answer.
    pub fn partitions(&self, topic: &str) -> Result<i32, LogError> {
        let doing = format!("cannot look at {topic}");
        let found = self
            .metadata
            .fetch_metadata(Some(topic), TIMEOUT)
            .map_err(|error| classify::uncommitted(&doing, &error))?;
        let count = found.topics().first().map_or(0, |topic| topic.partitions().len());
        match i32::try_from(count) {
            Ok(count) if count > 0 => Ok(count),
            Ok(_) | Err(_) => Err(LogError::new(
                Remedy::Stop,
                format!("there is no topic {topic}: run `bellwether topics plan`"),
            )),
        }
    }

    /// See [`crate::log::Log::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(
        &self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        let mut reader = self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        reader.read(topic, partition, from, records_max, each)
    }

    /// See [`crate::standby::Follow::follow`].
    ///
    /// # Errors
    /// As there.
    pub fn follow(
        &self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        let mut reader = self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        reader.follow(topic, partition, from, records_max, each)
    }

    /// Appends records, in order per partition, and waits until the brokers have them all.
    ///
    /// # Errors
    /// Where one was not taken; those before it may have been.
    pub fn append(&self, records: &[Append]) -> Result<(), LogError> {
        let mut config = self.options.client()?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.max.bytes", self.options.record_bytes_max.to_string());
        let producer: BaseProducer<DeliveryContext> = config
            .create_with_context(DeliveryContext::default())
            .map_err(|error| classify::creation(&error))?;
        send_all(&producer, records, Instant::now() + TIMEOUT)?;
        producer
            .flush(TIMEOUT)
            .map_err(|error| classify::uncommitted("records are not known to be taken", &error))
    }
}

impl Follow for KafkaTopics {
    fn partitions(&mut self, topic: &str) -> Result<i32, LogError> {
        KafkaTopics::partitions(self, topic)
    }

    fn follow(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        KafkaTopics::follow(self, topic, partition, from, records_max, each)
    }
}
