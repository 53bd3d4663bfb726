//! The log on Apache Kafka: a consumer in the application's group and a transactional producer, on one worker thread.
//!
//! # Invariants
//! - Callbacks of the consumer run inside [`Log::poll`] only. Commits are synchronous, so nothing is pending when ownership changes.
//! - A worker's records are appended in one transaction with its input positions, which carry the group's generation: a worker that
//!   lost its partitions cannot commit.
//! - After a failed commit the log refuses everything: the worker opens it again.
//!
//! # Deliberately absent
//! - Cooperative rebalances: the range strategy (needed for equal partition numbers of several input topics) is eager.
//! - A watchdog: librdkafka's transaction calls may overrun their time-outs, so whoever runs the worker watches its progress.

mod classify;
mod commit;
mod context;
mod direct;
mod options;
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};

use self::context::{Change, DeliveryContext, GroupContext};
pub use self::direct::KafkaTopics;
pub use self::options::{KafkaOptions, WorkerId, is_secret};
use self::reader::Reader;
use crate::log::{Lag, Log, LogError, Poll, Read, Receipt, Record, Remedy, Topic, Transaction};

/// `init_transactions` waits for the coordinator to finish or abort what the last owner of the transactional id left.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);
/// A seek only takes effect locally; the wait is for the client's own thread.
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);
/// All that [`Log::lag`] may spend on partitions that the fetcher knows nothing of.
const LAG_BUDGET: Duration = Duration::from_millis(500);
/// Metadata for an error message.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// One worker's view of Kafka.
pub struct KafkaLog {
    options: KafkaOptions,
    worker: WorkerId,
    inputs: Vec<Topic>,
    consumer: BaseConsumer<GroupContext>,
    producer: BaseProducer<DeliveryContext>,
    /// Connected at the first read.
    reader: Option<Reader>,
    /// Owned partition numbers.
    owned: BTreeSet<i32>,
    /// Those of them that are not delivered at present.
    paused: BTreeSet<i32>,
    /// Next offset to deliver, per owned input partition; missing where the start is the oldest record and none came yet.
    positions: BTreeMap<(Topic, i32), i64>,
    /// Committed input positions of owned partitions.
    committed: BTreeMap<(Topic, i32), i64>,
    poisoned: bool,
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog")
            .field("worker", &self.worker)
            .field("inputs", &self.inputs)
            .field("owned", &self.owned)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

impl KafkaLog {
    /// Fences earlier owners of this worker's transactional id, aborts what they left open, and joins the group. Partitions come
    /// through [`Log::poll`].
    ///
    /// # Errors
    /// `Stop` for wrong settings or missing rights, `Reopen` if Kafka cannot be reached.
    pub fn open(
        options: &KafkaOptions,
        worker: &WorkerId,
        inputs: &[Topic],
    ) -> Result<KafkaLog, LogError> {
        let producer: BaseProducer<DeliveryContext> = options
            .producer(worker)?
            .create_with_context(DeliveryContext::default())
            .map_err(|error| classify::creation(&error))?;
        producer
            .init_transactions(INIT_TIMEOUT)
            .map_err(|error| classify::uncommitted("cannot start transactions", &error))?;
        let transaction_timeout = Duration::from_millis(options.transaction_timeout_ms.into());
        let consumer: BaseConsumer<GroupContext> = options
            .group_consumer(worker)?
            .create_with_context(GroupContext::new(
                transaction_timeout * 2,
                options.skip_lost_input,
            ))
            .map_err(|error| classify::creation(&error))?;
        let names: Vec<&str> = inputs.iter().map(AsRef::as_ref).collect();
        consumer.subscribe(&names).map_err(|error| {
            classify::uncommitted("cannot subscribe to the input topics", &error)
        })?;
        Ok(KafkaLog {
            options: options.clone(),
            worker: worker.clone(),
            inputs: inputs.to_vec(),
            consumer,
            producer,
            reader: None,
            owned: BTreeSet::new(),
            paused: BTreeSet::new(),
            positions: BTreeMap::new(),
            committed: BTreeMap::new(),
            poisoned: false,
        })
    }

    fn usable(&self) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::new(Remedy::Reopen, "this log failed before: open it again"));
        }
        Ok(())
    }

    /// The owned ones of these partition numbers, of all input topics.
    fn of_all_inputs(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for topic in &self.inputs {
            for partition in partitions.iter().filter(|partition| self.owned.contains(partition)) {
                list.add_partition(topic, *partition);
            }
        }
        list
    }

    fn reader(&mut self) -> Result<&mut Reader, LogError> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::new(&self.options, &self.worker.application)?,
        };
        Ok(self.reader.insert(reader))
    }

    fn changed(&mut self, change: Change) -> Result<Poll, LogError> {
        match change {
            Change::Assigned(taken) => self.assigned(taken),
            Change::Revoked => {
                self.positions.clear();
                self.committed.clear();
                self.paused.clear();
                Ok(Poll::Revoked(std::mem::take(&mut self.owned).into_iter().collect()))
            }
            Change::Failed(error) => {
                self.poisoned = true;
                Err(classify::uncommitted("cannot take or leave partitions", &error))
            }
        }
    }

    fn assigned(&mut self, taken: Vec<(String, i32, Option<i64>)>) -> Result<Poll, LogError> {
        let mut by_topic: BTreeMap<&str, BTreeSet<i32>> =
            self.inputs.iter().map(|topic| (topic.as_ref(), BTreeSet::new())).collect();
        for (topic, partition, _) in &taken {
            by_topic.entry(topic).or_default().insert(*partition);
        }
        let numbers = by_topic.values().next().cloned().unwrap_or_default();
        if by_topic.values().any(|of_topic| *of_topic != numbers) {
            self.poisoned = true;
            return Err(self.not_co_partitioned());
        }
        for (topic, partition, committed) in taken {
            let topic = self.inputs.iter().find(|input| input.as_ref() == topic).cloned();
            if let (Some(topic), Some(offset)) = (topic, committed) {
                self.positions.insert((topic.clone(), partition), offset);
                self.committed.insert((topic, partition), offset);
            }
        }
        self.paused.clone_from(&numbers);
        self.owned.clone_from(&numbers);
        Ok(Poll::Assigned(numbers.into_iter().collect()))
    }

    fn not_co_partitioned(&self) -> LogError {
        let counts: Vec<String> = self
            .inputs
            .iter()
            .map(|topic| {
                let metadata = self.consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT);
                let count = metadata.ok().and_then(|metadata| {
                    metadata.topics().first().map(|topic| topic.partitions().len())
                });
                count.map_or_else(
                    || format!("{topic} has ?"),
                    |count| format!("{topic} has {count}"),
                )
            })
            .collect();
        LogError::new(
            Remedy::Stop,
            format!(
                "the input topics must have equal partition counts, but {}: run `bellwether topics plan`",
                counts.join(", ")
            ),
        )
    }

    /// The client's words on an error. Those on a position that is gone do not say where, so that is looked up.
    fn reason(&self, error: &KafkaError) -> String {
        let mut reason = self.consumer.context().last_error();
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AutoOffsetReset) {
            return reason;
        }
        for ((topic, partition), position) in &self.positions {
            let ends = self.consumer.fetch_watermarks(topic, *partition, METADATA_TIMEOUT);
            if let Ok((oldest, end)) = ends
                && !(oldest..=end).contains(position)
            {
                reason = format!(
                    "{topic} [{partition}] is at position {position}, but has {oldest} to {end}: {reason}"
                );
            }
        }
        reason
    }

    /// The input positions to commit: those given, or else one that is committed already, so that the group's generation is checked
    /// even when records are appended without new input (a tick).
    fn fencing_offsets(&self, offsets: &[(Topic, i32, i64)]) -> Vec<(Topic, i32, i64)> {
        if !offsets.is_empty() {
            return offsets.to_vec();
        }
        let any = self.committed.iter().next();
        any.map(|((topic, partition), offset)| (topic.clone(), *partition, *offset))
            .into_iter()
            .collect()
    }

    /// Records of one partition not yet delivered, if the fetcher knows.
    fn fetched_lag(&self, topic: &Topic, partition: i32) -> Option<i64> {
        let fetched = self.consumer.context().fetched(topic, partition)?;
        // The last entries may be transaction markers: they are never delivered, but the fetcher has passed them.
        if fetched.queued == 0 && fetched.next >= fetched.stable_end {
            return Some(0);
        }
        let position = self.positions.get(&(topic.clone(), partition))?;
        Some((fetched.stable_end - position).max(0))
    }
}

impl Log for KafkaLog {
    fn poll(&mut self, records_max: usize, timeout: Duration) -> Result<Poll, LogError> {
        self.usable()?;
        let deadline = Instant::now() + timeout;
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        loop {
            // What was gathered goes: ownership ends for all partitions at once, and who owns them next reads it again.
            if let Some(change) = self.consumer.context().take_change() {
                return self.changed(change);
            }
            if records.len() >= records_max || bytes >= self.options.batch_bytes_max() {
                break;
            }
            // Waits for the first record only: under light load a batch is small and fast.
            let wait = if records.is_empty() {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    let topic = self.inputs.iter().find(|input| input.as_ref() == message.topic());
                    if let Some(topic) = topic {
                        bytes += message.payload_len() + message.key_len();
                        records.push(record(topic.clone(), &message));
                    }
                }
                Some(Err(error)) => {
                    let reason = self.reason(&error);
                    if let Some(error) = classify::polled(&error, &reason) {
                        self.poisoned = true;
                        return Err(error);
                    }
                    tracing::warn!(%error, reason, "reading goes on after an error");
                }
                // An event was served, or nothing came. An ownership change is picked up above.
                None if records.is_empty() && Instant::now() < deadline => {}
                None => {
                    if let Some(change) = self.consumer.context().take_change() {
                        return self.changed(change);
                    }
                    break;
                }
            }
        }
        for record in &records {
            self.positions.insert((record.topic.clone(), record.partition), record.offset + 1);
        }
        Ok(if records.is_empty() { Poll::Idle } else { Poll::Records(records) })
    }

    fn start(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.resume(partitions, &[])
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Receipt, LogError> {
        self.usable()?;
        if transaction.appends.is_empty() && transaction.offsets.is_empty() {
            return Ok(Receipt::default());
        }
        if self.owned.is_empty() {
            self.poisoned = true;
            return Err(LogError::new(
                Remedy::Fenced,
                "this worker owns no partitions, so it has nothing to commit",
            ));
        }
        let offsets = self.fencing_offsets(&transaction.offsets);
        let timeout = Duration::from_millis(self.options.transaction_timeout_ms.into());
        match commit::commit(
            &self.producer,
            &self.consumer,
            &transaction.appends,
            &offsets,
            timeout,
        ) {
            Ok(receipt) => {
                self.committed.extend(
                    offsets
                        .into_iter()
                        .map(|(topic, partition, offset)| ((topic, partition), offset)),
                );
                Ok(receipt)
            }
            Err(error) => {
                self.poisoned = true;
                Err(error)
            }
        }
    }

    fn read(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        self.reader()?.read(topic, partition, from, records_max, each)
    }

    fn pause(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        // The client drops what it fetched ahead of a paused partition and fetches it again after the last record delivered.
        self.consumer
            .pause(&self.of_all_inputs(partitions))
            .map_err(|error| classify::uncommitted("cannot pause partitions", &error))?;
        self.consumer.context().forget_fetched();
        self.paused.extend(partitions.iter().filter(|partition| self.owned.contains(partition)));
        Ok(())
    }

    fn resume(
        &mut self,
        partitions: &[i32],
        offsets: &[(Topic, i32, i64)],
    ) -> Result<(), LogError> {
        let failed = |error: KafkaError| classify::uncommitted("cannot resume partitions", &error);
        self.consumer.resume(&self.of_all_inputs(partitions)).map_err(failed)?;
        // After the resume, which would go back to the last record delivered. Nothing is delivered in between: only a poll does.
        let mut seek = TopicPartitionList::new();
        for (topic, partition, offset) in offsets {
            if self.owned.contains(partition) {
                seek.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                    .map_err(failed)?;
            }
        }
        if seek.count() > 0 {
            let sought = self.consumer.seek_partitions(seek, SEEK_TIMEOUT).map_err(failed)?;
            for element in sought.elements() {
                element.error().map_err(failed)?;
            }
        }
        for (topic, partition, offset) in offsets {
            if self.owned.contains(partition) {
                self.positions.insert((topic.clone(), *partition), *offset);
            }
        }
        self.consumer.context().forget_fetched();
        self.paused.retain(|partition| !partitions.contains(partition));
        Ok(())
    }

    fn lag(&mut self) -> Result<Vec<Lag>, LogError> {
        let deadline = Instant::now() + LAG_BUDGET;
        let mut lags = Vec::new();
        for topic in &self.inputs {
            for partition in &self.owned {
                let known = if self.paused.contains(partition) {
                    None
                } else {
                    self.fetched_lag(topic, *partition)
                };
                let left = deadline.saturating_duration_since(Instant::now());
                let records = match known {
                    Some(records) => records,
                    // Unknown is not zero: what cannot be asked within the budget is left out.
                    None if left.is_zero() => continue,
                    None => match self.consumer.fetch_watermarks(topic, *partition, left) {
                        Ok((oldest, end)) => {
                            let position = self.positions.get(&(topic.clone(), *partition));
                            (end - position.copied().unwrap_or(oldest).max(oldest)).max(0)
                        }
                        Err(error) => {
                            tracing::debug!(%topic, partition, %error, "lag is not known");
                            continue;
                        }
                    },
                };
                lags.push(Lag { topic: topic.clone(), partition: *partition, records });
            }
        }
        Ok(lags)
    }
}

/// A client's message as a record of its own.
fn record(topic: Topic, message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|headers| {
        let owned = headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()));
        owned.collect()
    });
    Record {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        // Only records of brokers older than 0.10 have none.
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
    }
}
