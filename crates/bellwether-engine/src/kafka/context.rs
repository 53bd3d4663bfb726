//! Callbacks of the Kafka clients: ownership changes, statistics, delivery reports. All run on the worker's own thread, inside a
//! poll; the locks are never contended and only satisfy the client's `Sync` bound.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use crate::log::Topic;

/// One time-out for one request of the coordinator.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often offsets held by another worker's open transaction are asked for again.
const UNSTABLE_RETRY: Duration = Duration::from_millis(100);
/// Where the client's connection to the group's coordinator comes from, whichever broker that is. Others were configured or learned.
const COORDINATOR: &str = "logical";

/// A partition of an input topic, with its committed offset if there is one.
pub(super) type Taken = (Topic, i32, Option<i64>);

/// A change of ownership, as the group coordinator told it. Partitions that it does not name stay as they are.
pub(super) enum Change {
    /// These partition numbers came, of all input topics, all paused.
    Assigned(Vec<i32>, Vec<Taken>),
    /// These partition numbers went.
    Revoked(Vec<i32>),
    /// Partitions were given, but could not be taken.
    Failed(KafkaError),
}

/// What the fetcher knew of one partition when statistics were last emitted.
#[derive(Clone, Copy)]
pub(super) struct Fetched {
    /// The offset that read-committed readers can read up to.
    pub(super) stable_end: i64,
    /// The next offset to fetch.
    pub(super) next: i64,
    /// Records fetched and not yet delivered.
    pub(super) queued: i64,
}

/// Callbacks of a worker's consumer.
pub(super) struct GroupContext {
    inputs: Vec<Topic>,
    changes: Mutex<VecDeque<Change>>,
    fetched: Mutex<HashMap<(String, i32), Fetched>>,
    last_error: Mutex<String>,
    heard_at: Mutex<Instant>,
    unstable_wait: Duration,
    skip_lost_input: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn trace_client(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "kafka", facility, "{message}"),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "kafka", facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "kafka", facility, "{message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "kafka", facility, "{message}"),
    }
}

impl GroupContext {
    /// `unstable_wait`: how long offsets may stay held by another worker's open transaction. `skip_lost_input`: see
    /// [`super::KafkaOptions::skip_lost_input`].
    pub(super) fn new(
        inputs: &[Topic],
        unstable_wait: Duration,
        skip_lost_input: bool,
    ) -> GroupContext {
        GroupContext {
            inputs: inputs.to_vec(),
            changes: Mutex::default(),
            fetched: Mutex::default(),
            last_error: Mutex::default(),
            heard_at: Mutex::new(Instant::now()),
            unstable_wait,
            skip_lost_input,
        }
    }

    /// The oldest change of ownership not yet seen.
    pub(super) fn take_change(&self) -> Option<Change> {
        locked(&self.changes).pop_front()
    }

    /// Whether there is a change of ownership not yet seen.
    pub(super) fn has_change(&self) -> bool {
        !locked(&self.changes).is_empty()
    }

    /// What the fetcher last knew of a partition.
    pub(super) fn fetched(&self, topic: &str, partition: i32) -> Option<Fetched> {
        locked(&self.fetched).get(&(topic.to_owned(), partition)).copied()
    }

    /// Forgets what the fetcher knew, because reading was moved.
    pub(super) fn forget_fetched(&self) {
        locked(&self.fetched).clear();
    }

    /// The client's own words on the last error: they name topic, partition and offset.
    pub(super) fn last_error(&self) -> String {
        locked(&self.last_error).clone()
    }

    /// When the log was last known to answer.
    pub(super) fn heard_at(&self) -> Instant {
        *locked(&self.heard_at)
    }

    /// The log answered.
    pub(super) fn heard(&self, at: Instant) {
        let mut heard_at = locked(&self.heard_at);
        *heard_at = at.max(*heard_at);
    }

    /// The committed offsets of these partitions. Offsets that are part of another worker's open transaction are waited for:
    /// to read from an older position would process records twice.
    fn committed(
        &self,
        consumer: &BaseConsumer<GroupContext>,
        partitions: &TopicPartitionList,
    ) -> KafkaResult<TopicPartitionList> {
        let deadline = Instant::now() + self.unstable_wait;
        loop {
            let committed = consumer.committed_offsets(partitions.clone(), REQUEST_TIMEOUT)?;
            let unstable = committed.elements().iter().any(|element| {
                element.error().is_err_and(|error| {
                    error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnstableOffsetCommit)
                })
            });
            if !unstable || Instant::now() >= deadline {
                return Ok(committed);
            }
            std::thread::sleep(UNSTABLE_RETRY);
        }
    }

    /// These partition numbers of every input topic. The group balances the first topic only; the others go with it.
    fn of_all_inputs(&self, numbers: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(self.inputs.len() * numbers.len());
        for topic in &self.inputs {
            for number in numbers {
                list.add_partition(topic, *number);
            }
        }
        list
    }

    /// Takes partitions at their committed offsets, paused: their records wait for the restore of their state.
    fn take(
        &self,
        consumer: &BaseConsumer<GroupContext>,
        numbers: &[i32],
    ) -> KafkaResult<Vec<Taken>> {
        if numbers.is_empty() {
            // The client waits to be told that the empty change was seen.
            consumer.incremental_assign(&TopicPartitionList::new())?;
            return Ok(Vec::new());
        }
        let committed = self.committed(consumer, &self.of_all_inputs(numbers))?;
        let mut start = TopicPartitionList::new();
        let mut taken = Vec::with_capacity(committed.count());
        for element in committed.elements() {
            element.error()?;
            let mut position =
                if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None };
            if self.skip_lost_input
                && let Some(committed) = &mut position
            {
                let (topic, partition) = (element.topic(), element.partition());
                let (oldest, end) = consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)?;
                if !(oldest..=end).contains(committed) {
                    tracing::error!(
                        topic,
                        partition,
                        from = *committed,
                        to = oldest,
                        "records were deleted before they were read: going on without them, as --skip-lost-input says"
                    );
                    *committed = oldest;
                }
            }
            let from = position.map_or(Offset::Beginning, Offset::Offset);
            start.add_partition_offset(element.topic(), element.partition(), from)?;
            taken.push((Topic::from(element.topic()), element.partition(), position));
        }
        consumer.incremental_assign(&start)?;
        consumer.pause(&start)?;
        Ok(taken)
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        trace_client(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        // A member sends heartbeats even where there is nothing to read. Negative: it is not connected.
        for broker in statistics.brokers.values().filter(|broker| broker.source == COORDINATOR) {
            let idle = u64::try_from(broker.rxidle).ok().map(Duration::from_micros);
            if let Some(at) = idle.and_then(|idle| Instant::now().checked_sub(idle)) {
                self.heard(at);
            }
        }
        let mut fetched = locked(&self.fetched);
        fetched.clear();
        for (name, topic) in statistics.topics {
            for (number, partition) in topic.partitions {
                // Negative: nothing was fetched yet.
                if partition.ls_offset >= 0 && partition.next_offset >= 0 {
                    let now = Fetched {
                        stable_end: partition.ls_offset,
                        next: partition.next_offset,
                        queued: partition.fetchq_cnt,
                    };
                    fetched.insert((name.clone(), number), now);
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", %error, reason, "client error");
        reason.clone_into(&mut locked(&self.last_error));
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<GroupContext>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        self.forget_fetched();
        let numbers: Vec<i32> =
            partitions.elements().iter().map(|element| element.partition()).collect();
        let change = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.heard(Instant::now());
            match self.take(consumer, &numbers) {
                Ok(taken) => Change::Assigned(numbers, taken),
                Err(error) => Change::Failed(error),
            }
        } else {
            match consumer.incremental_unassign(&self.of_all_inputs(&numbers)) {
                Ok(()) => Change::Revoked(numbers),
                Err(error) => Change::Failed(error),
            }
        };
        locked(&self.changes).push_back(change);
    }
}

/// Delivery reports of the transaction under way.
#[derive(Default)]
struct Deliveries {
    /// By index of the append; none: no report yet.
    offsets: Vec<Option<i64>>,
    failed: Option<KafkaError>,
}

/// Callbacks of a worker's producer.
#[derive(Default)]
pub(super) struct DeliveryContext {
    deliveries: Mutex<Deliveries>,
}

impl DeliveryContext {
    /// Before the first append of a transaction.
    pub(super) fn begin(&self, appends: usize) {
        *locked(&self.deliveries) = Deliveries { offsets: vec![None; appends], failed: None };
    }

    /// The first append that failed.
    pub(super) fn failed(&self) -> Option<KafkaError> {
        locked(&self.deliveries).failed.clone()
    }

    /// The offsets of the appends, in order.
    pub(super) fn take_offsets(&self) -> Vec<Option<i64>> {
        std::mem::take(&mut locked(&self.deliveries).offsets)
    }
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        trace_client(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", %error, reason, "client error");
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut deliveries = locked(&self.deliveries);
        match result {
            Ok(message) => {
                if let Some(offset) = deliveries.offsets.get_mut(index) {
                    *offset = Some(message.offset());
                }
            }
            Err((error, _)) => {
                deliveries.failed.get_or_insert_with(|| error.clone());
            }
        }
    }
}

/// Callbacks of the group-less readers: only their log lines matter.
pub(super) struct ReaderContext;

impl ClientContext for ReaderContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        trace_client(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", %error, reason, "client error");
    }
}

impl ConsumerContext for ReaderContext {}
