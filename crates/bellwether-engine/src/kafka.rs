//! The log on Apache Kafka: a consumer in the application's group and a transactional producer, on one worker thread.
//!
//! # Invariants
//! - Callbacks of the consumer run inside [`Log::poll`] only. Commits are synchronous, so nothing is pending when ownership changes.
//! - A worker's records are appended in one transaction with its input positions, which carry the group's generation: a worker that
//!   lost its partitions cannot commit.
//! - The group balances the first input topic, cooperatively; the same partition numbers of the other topics are taken and given up
//!   with it. So partitions of one number stay together, and those that stay with a worker are not interrupted.
//! - After a failed commit the log refuses everything, and the worker opens it again; but for a commit that met a rebalance.
//!
//! # Deliberately absent
//! - A watchdog for all calls: the one that is known to overrun its time-out for ever has one (see `commit`), and whoever runs the
//!   worker watches its progress.

mod classify;
mod commit;
mod context;
mod direct;
mod member;
mod options;
mod reader;
mod reset;
mod transactions;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};

use self::commit::Committer;
use self::context::{Change, DeliveryContext, GroupContext, Taken};
pub use self::direct::KafkaTopics;
use self::member::Member;
pub use self::options::{GroupProtocol, KafkaOptions, WorkerId, is_secret};
use self::reader::Reader;
pub use self::reset::{KafkaReset, Position};
pub use self::transactions::{KafkaTransactions, OpenTransaction, Span};
use crate::log::{Lag, Log, LogError, Poll, Read, Receipt, Record, Remedy, Topic, Transaction};

/// `init_transactions` waits for the coordinator to finish or abort what the last owner of the transactional id left. Where it is
/// away for longer, the log is opened again and again: a worker that hangs here would not notice that it is to stop.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// A seek only takes effect locally; the wait is for the client's own thread.
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);
/// All that [`Log::lag`] may spend on partitions that the fetcher knows nothing of.
const LAG_BUDGET: Duration = Duration::from_millis(500);
/// How long it does not ask again after that was not enough.
const LAG_PAUSE: Duration = Duration::from_secs(10);
/// Metadata for an error message.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// A partition is behind where its records are this old and there are so many more (old ones alone may be what somebody sends of the
/// past), and how long more of them are waited for, so that a batch is worth its while.
const BEHIND_MS: i64 = 1_000;
const BEHIND_RECORDS: i64 = 1_000;
const GATHER: Duration = Duration::from_millis(100);

/// One worker's view of Kafka.
pub struct KafkaLog {
    options: KafkaOptions,
    worker: WorkerId,
    inputs: Vec<Topic>,
    consumer: Member<GroupContext>,
    committer: Committer,
    /// Connected at the first read.
    reader: Option<Reader>,
    /// Owned partition numbers.
    owned: BTreeSet<i32>,
    /// Those of them that are not delivered at present.
    paused: BTreeSet<i32>,
    /// Changes of ownership that took effect and are to be told.
    changes: VecDeque<Poll>,
    /// Records that were gathered when a change came in between.
    gathered: Vec<Record>,
    /// Whether the group has assigned anything yet, be it nothing.
    joined: bool,
    opened_at: Instant,
    /// How many partitions the input topics have.
    partitions: usize,
    /// Next offset to deliver, per owned input partition; missing where the start is the oldest record and none came yet.
    positions: BTreeMap<(Topic, i32), i64>,
    /// Committed input positions of owned partitions.
    committed: BTreeMap<(Topic, i32), i64>,
    /// When the ends of partitions may be asked for again.
    lag_at: Instant,
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
    /// `Stop` for wrong settings, missing rights or topics that do not fit together, `Reopen` if Kafka cannot be reached.
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
                inputs,
                transaction_timeout * 2,
                options.skip_lost_input,
            ))
            .map_err(|error| classify::creation(&error))?;
        let partitions = partitions(&consumer, inputs)?;
        let lead: Vec<&str> = inputs.iter().take(1).map(AsRef::as_ref).collect();
        consumer.subscribe(&lead).map_err(|error| {
            classify::uncommitted("cannot subscribe to the input topics", &error)
        })?;
        Ok(KafkaLog {
            options: options.clone(),
            worker: worker.clone(),
            inputs: inputs.to_vec(),
            consumer: Member::new(consumer),
            committer: Committer::new(producer),
            reader: None,
            owned: BTreeSet::new(),
            paused: BTreeSet::new(),
            changes: VecDeque::new(),
            gathered: Vec::new(),
            joined: false,
            opened_at: Instant::now(),
            partitions,
            positions: BTreeMap::new(),
            committed: BTreeMap::new(),
            lag_at: Instant::now(),
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

    /// Lets changes of ownership take effect, in order. What is gone is not delivered any more: who owns it next reads it again.
    fn take_changes(&mut self, gathered: &mut Vec<Record>) -> Result<(), LogError> {
        while let Some(change) = self.consumer.context().take_change() {
            match change {
                Change::Assigned(numbers, taken) => self.assigned(numbers, taken)?,
                Change::Revoked(numbers) => {
                    let stays = |partition: &i32| !numbers.contains(partition);
                    gathered.retain(|record| stays(&record.partition));
                    self.owned.retain(stays);
                    self.paused.retain(stays);
                    self.positions.retain(|(_, partition), _| stays(partition));
                    self.committed.retain(|(_, partition), _| stays(partition));
                    self.changes.push_back(Poll::Revoked(numbers));
                }
                Change::Failed(error) => {
                    self.poisoned = true;
                    return Err(classify::uncommitted("cannot take or leave partitions", &error));
                }
            }
        }
        Ok(())
    }

    fn assigned(&mut self, numbers: Vec<i32>, taken: Vec<Taken>) -> Result<(), LogError> {
        let known = |number: &i32| usize::try_from(*number).is_ok_and(|of| of < self.partitions);
        if !numbers.iter().all(known) {
            // The first topic has grown: the others must have, too.
            self.partitions =
                partitions(&self.consumer, &self.inputs).inspect_err(|_| self.poisoned = true)?;
        }
        for (topic, partition, committed) in taken {
            if let Some(offset) = committed {
                self.positions.insert((topic.clone(), partition), offset);
                self.committed.insert((topic, partition), offset);
            }
        }
        self.paused.extend(&numbers);
        self.owned.extend(&numbers);
        self.changes.push_back(Poll::Assigned(numbers));
        Ok(())
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

    /// Resumes partitions, some of them elsewhere.
    fn deliver_from(
        &mut self,
        partitions: &[i32],
        offsets: &[(Topic, i32, Offset)],
    ) -> Result<(), LogError> {
        let failed = |error: KafkaError| classify::uncommitted("cannot resume partitions", &error);
        self.consumer.resume(&self.of_all_inputs(partitions)).map_err(failed)?;
        // After the resume, which would go back to the last record delivered. Nothing is delivered in between: only a poll does.
        let mut seek = TopicPartitionList::new();
        for (topic, partition, offset) in offsets {
            if self.owned.contains(partition) {
                seek.add_partition_offset(topic, *partition, *offset).map_err(failed)?;
                self.gathered
                    .retain(|record| record.topic != *topic || record.partition != *partition);
                let place = (topic.clone(), *partition);
                if let Offset::Offset(offset) = offset {
                    self.positions.insert(place, *offset);
                } else {
                    self.positions.remove(&place);
                }
            }
        }
        if seek.count() > 0 {
            let sought = self.consumer.seek_partitions(seek, SEEK_TIMEOUT).map_err(failed)?;
            for element in sought.elements() {
                element.error().map_err(failed)?;
            }
        }
        self.consumer.context().forget_fetched();
        self.paused.retain(|partition| !partitions.contains(partition));
        Ok(())
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

    /// Records of one partition not yet delivered, by its ends. They are not asked for on the fetcher's connection: a request that
    /// runs out of time takes its connection down, with whatever is on the way there. On a slow link nothing would ever arrive.
    fn asked_lag(
        &mut self,
        topic: &Topic,
        partition: i32,
        deadline: Instant,
    ) -> Result<Option<i64>, LogError> {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() || now < self.lag_at {
            return Ok(None);
        }
        match self.reader()?.ends(topic, partition, left) {
            Ok((oldest, end)) => {
                let position = self.positions.get(&(topic.clone(), partition));
                Ok(Some((end - position.copied().unwrap_or(oldest).max(oldest)).max(0)))
            }
            Err(error) => {
                tracing::debug!(%topic, partition, %error, "lag is not known");
                self.lag_at = Instant::now() + LAG_PAUSE;
                Ok(None)
            }
        }
    }

    /// Until when more records are waited for, once there is this one. Who is behind loses nothing by a batch that takes a tenth of a
    /// second to gather, and gains: what changes with every event is written once a batch. Not where the caller has other work.
    fn gathers_until(&self, first: &Record, timeout: Duration) -> Instant {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |at| at.as_millis());
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let lag = self.fetched_lag(&first.topic, first.partition);
        Instant::now() + gather_time(now_ms.saturating_sub(first.timestamp_ms), lag, timeout)
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
    fn partitions(&self) -> i32 {
        i32::try_from(self.partitions).unwrap_or(i32::MAX)
    }

    fn poll(&mut self, records_max: usize, timeout: Duration) -> Result<Poll, LogError> {
        self.usable()?;
        let deadline = Instant::now() + timeout;
        let mut records = std::mem::take(&mut self.gathered);
        let mut bytes: usize = records.iter().map(Record::bytes).sum();
        let mut more_until = records.first().map(|first| self.gathers_until(first, timeout));
        loop {
            self.take_changes(&mut records)?;
            if let Some(change) = self.changes.pop_front() {
                self.joined |= matches!(change, Poll::Assigned(_));
                // First the change, so that nothing is asked of this log that its caller no longer owns.
                self.gathered = records;
                return Ok(change);
            }
            if records.len() >= records_max || bytes >= self.options.batch_bytes_max() {
                break;
            }
            // Waits for the first record only, so that under light load a batch is small and fast; where records are late anyway, for more.
            // What is there already is taken without a look at the clock.
            let mut polled = self.consumer.poll(Duration::ZERO);
            if polled.is_none() {
                let wait = more_until.unwrap_or(deadline).saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    polled = self.consumer.poll(wait);
                }
            }
            match polled {
                Some(Ok(message)) => {
                    let topic = self.inputs.iter().find(|input| input.as_ref() == message.topic());
                    if let Some(topic) = topic {
                        let record = record(topic.clone(), &message);
                        bytes += record.bytes();
                        more_until.get_or_insert_with(|| self.gathers_until(&record, timeout));
                        records.push(record);
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
                // An event was served, or nothing came. A change of ownership is picked up above.
                None if records.is_empty() && Instant::now() < deadline => {}
                None if self.consumer.context().has_change() => {}
                None => break,
            }
        }
        for run in records.chunk_by(Record::is_beside) {
            let Some(last) = run.last() else { continue };
            self.positions.insert((last.topic.clone(), last.partition), last.offset + 1);
        }
        if records.is_empty() && self.has_joined_for_nothing() {
            self.joined = true;
            return Ok(Poll::Assigned(Vec::new()));
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
        match self.committer.commit(&self.consumer, &transaction.appends, &offsets, timeout) {
            Ok(receipt) => {
                self.consumer.context().heard(Instant::now());
                self.committed.extend(
                    offsets
                        .into_iter()
                        .map(|(topic, partition, offset)| ((topic, partition), offset)),
                );
                Ok(receipt)
            }
            Err(error) => {
                self.poisoned = error.remedy != Remedy::Rewind;
                Err(error)
            }
        }
    }

    fn rewind(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.usable()?;
        let mut offsets = Vec::new();
        for topic in &self.inputs {
            for partition in partitions.iter().filter(|partition| self.owned.contains(partition)) {
                let committed = self.committed.get(&(topic.clone(), *partition));
                let offset = committed.map_or(Offset::Beginning, |at| Offset::Offset(*at));
                offsets.push((topic.clone(), *partition, offset));
            }
        }
        self.deliver_from(partitions, &offsets)
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

    fn follow(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError> {
        self.reader()?.follow_any(topic, partition, from, records_max, each)
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
        let offsets: Vec<(Topic, i32, Offset)> = offsets
            .iter()
            .map(|(topic, partition, offset)| (topic.clone(), *partition, Offset::Offset(*offset)))
            .collect();
        self.deliver_from(partitions, &offsets)
    }

    fn lag(&mut self) -> Result<Vec<Lag>, LogError> {
        let deadline = Instant::now() + LAG_BUDGET;
        let mut lags = Vec::new();
        for topic in self.inputs.clone() {
            for partition in self.owned.clone() {
                let known = if self.paused.contains(&partition) {
                    None
                } else {
                    self.fetched_lag(&topic, partition)
                };
                // Unknown is not zero: what cannot be asked within the budget is left out.
                let records = match known {
                    Some(records) => Some(records),
                    None => self.asked_lag(&topic, partition, deadline)?,
                };
                if let Some(records) = records {
                    lags.push(Lag { topic: topic.clone(), partition, records });
                }
            }
        }
        Ok(lags)
    }

    /// From a session time-out on: by then the group may have given the partitions to others.
    fn silent(&self) -> Option<Duration> {
        let silent = self.consumer.context().heard_at().elapsed();
        (silent > Duration::from_millis(self.options.session_timeout_ms.into())).then_some(silent)
    }
}

impl KafkaLog {
    /// Whether this member of a group that the broker balances has no partitions, and nobody says so: the client tells of the classic
    /// protocol's empty assignments only. It has been in touch with the brokers for longer than a join takes.
    fn has_joined_for_nothing(&self) -> bool {
        const JOINED_AFTER: Duration = Duration::from_secs(10);
        !self.joined
            && self.options.group_protocol == GroupProtocol::Consumer
            && self.opened_at.elapsed() >= JOINED_AFTER
            && self.silent().is_none()
    }
}

fn gather_time(age_ms: i64, lag: Option<i64>, timeout: Duration) -> Duration {
    let is_behind = age_ms >= BEHIND_MS && lag.is_some_and(|records| records >= BEHIND_RECORDS);
    if is_behind { GATHER.min(timeout) } else { Duration::ZERO }
}

/// How many partitions the input topics have: equally many.
fn partitions(consumer: &BaseConsumer<GroupContext>, inputs: &[Topic]) -> Result<usize, LogError> {
    let mut counts = Vec::with_capacity(inputs.len());
    for topic in inputs {
        let metadata = consumer
            .fetch_metadata(Some(topic), METADATA_TIMEOUT)
            .map_err(|error| classify::uncommitted(&format!("cannot look at {topic}"), &error))?;
        counts.push(metadata.topics().first().map_or(0, |topic| topic.partitions().len()));
    }
    match counts.first() {
        Some(&first) if first > 0 && counts.iter().all(|count| *count == first) => Ok(first),
        _ => {
            let counts: Vec<String> = inputs
                .iter()
                .zip(&counts)
                .map(|(topic, count)| format!("{topic} has {count}"))
                .collect();
            Err(LogError::new(
                Remedy::Stop,
                format!(
                    "the input topics must have equal partition counts, but {}: run `bellwether topics plan`",
                    counts.join(", ")
                ),
            ))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_waited_for_only_where_records_are_late_and_nothing_else_is_to_be_done() {
        let (second, many) = (Duration::from_secs(1), Some(BEHIND_RECORDS));
        assert_eq!(gather_time(BEHIND_MS, many, second), GATHER);
        assert_eq!(gather_time(BEHIND_MS - 1, many, second), Duration::ZERO, "it is new");
        assert_eq!(gather_time(-60_000, many, second), Duration::ZERO, "clocks differ");
        assert_eq!(
            gather_time(BEHIND_MS, Some(5), second),
            Duration::ZERO,
            "old, and all there is"
        );
        assert_eq!(gather_time(BEHIND_MS, None, second), Duration::ZERO, "nobody knows");
        assert_eq!(gather_time(BEHIND_MS, many, Duration::ZERO), Duration::ZERO, "other work");
    }
}
