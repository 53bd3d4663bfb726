//! The log of a single process: durable, transactional, in one RocksDB database. No broker, no network.
//!
//! [`Embedded`] is the log itself, for producers and readers on any thread. [`EmbeddedLog`] is a consumer that owns every partition: one for the
//! engine, one for the notifier, of other topics. Opening another consumer of the same role fences the one before.
//!
//! # Invariants
//! - A transaction is one synced batch of RocksDB: all or nothing, durable on return.
//! - A producer's records are durable when [`Embedded::append`] returns, and are refused when too much input waits.
//! - Deliberately absent: consumer groups of one's own choice, rebalances, several processes.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bellwether_store::Shared;
use bellwether_store::error::StoreError;
use bellwether_store::log_store::{LogStore, LogStoreError, NewRecord, Retention, StoredRecord};

use crate::clock::now_ms;
use crate::log::{Append, LogError, Read, Record, Remedy, Topic};

mod consumer;

pub use consumer::EmbeddedLog;

/// Bytes of keys and values that one read brings to memory, at most (a single larger record still comes).
const READ_BYTES_MAX: usize = 16 << 20;
/// Records that one read brings to memory, at most.
const READ_RECORDS_MAX: usize = 4096;

/// Why a producer's records were not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much input waits to be processed.
    #[error("{waiting} records wait to be processed, {records_max} may; send again later")]
    Full {
        /// Records that wait.
        waiting: u64,
        /// The limit.
        records_max: u64,
    },
    /// The log failed, or there is no such topic or partition.
    #[error(transparent)]
    Log(#[from] LogStoreError),
}

/// What is shared by all handles of one log.
struct Inner {
    store: LogStore,
    backlog_records_max: u64,
    /// By role, the number of the consumer that is in charge; held while it commits, so that none commits after it was fenced.
    consumers: [Mutex<u64>; 2],
    /// Counts appends to wake the consumer.
    arrivals: Mutex<u64>,
    arrived: Condvar,
    /// Held by a producer from its check for room to its append.
    admission: Mutex<()>,
    room: Condvar,
}

/// Who consumes. Positions are kept by topic, so that two roles have no topic in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The engine.
    Engine,
    /// The notifier.
    Notifier,
}

/// A log in a directory. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

impl Embedded {
    /// Opens the log in `dir`, or creates it. Producers are held back while more than `backlog_records_max` records of a topic
    /// that they append to are not consumed yet.
    pub fn open(
        dir: &Path,
        shared: &Shared,
        backlog_records_max: u64,
    ) -> Result<Embedded, StoreError> {
        let inner = Inner {
            store: LogStore::open(dir, shared)?,
            backlog_records_max,
            consumers: [Mutex::new(0), Mutex::new(0)],
            arrivals: Mutex::new(0),
            arrived: Condvar::new(),
            admission: Mutex::new(()),
            room: Condvar::new(),
        };
        Ok(Embedded { inner: Arc::new(inner) })
    }

    /// Creates a topic; one that exists just so is fine.
    pub fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        retention: Retention,
    ) -> Result<(), LogStoreError> {
        self.inner.store.create_topic(topic, partitions, retention)
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: &str) -> Result<i32, LogStoreError> {
        self.inner.store.partitions(topic)
    }

    /// Becomes the engine's consumer of these input topics, which must have equally many partitions. The consumer before is fenced.
    pub fn consume(&self, inputs: &[Topic]) -> Result<EmbeddedLog, LogError> {
        self.consume_as(Role::Engine, inputs)
    }

    /// The same in a role.
    pub fn consume_as(&self, role: Role, inputs: &[Topic]) -> Result<EmbeddedLog, LogError> {
        EmbeddedLog::open(self.clone(), role, inputs)
    }

    /// The number of the consumer in charge of a role.
    fn consumer(&self, role: Role) -> &Mutex<u64> {
        let [engine, notifier] = &self.inner.consumers;
        match role {
            Role::Engine => engine,
            Role::Notifier => notifier,
        }
    }

    /// Appends a producer's records, all or nothing, durable on return; returns the offset of each. Where too much input waits,
    /// it waits for up to `patience` for the consumer to catch up.
    pub fn append(&self, records: &[Append], patience: Duration) -> Result<Vec<i64>, AppendError> {
        let deadline = Instant::now() + patience;
        let mut admission = lock(&self.inner.admission);
        while let Some(waiting) = self.overfull(records)? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let records_max = self.inner.backlog_records_max;
                return Err(AppendError::Full { waiting, records_max });
            }
            admission = self
                .inner
                .room
                .wait_timeout(admission, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard);
        }
        let offsets = self.write(records, &[])?;
        drop(admission);
        Ok(offsets)
    }

    /// The backlog, where these records would make it too long. One batch that is too large by itself goes when nothing waits.
    fn overfull(&self, records: &[Append]) -> Result<Option<u64>, LogStoreError> {
        let limit = self.inner.backlog_records_max;
        let mut topics: Vec<&Topic> = records.iter().map(|record| &record.topic).collect();
        topics.sort();
        for group in topics.chunk_by(|a, b| a == b) {
            let Some(topic) = group.first() else { continue };
            let waiting = self.inner.store.backlog(topic)?;
            if waiting > 0 && waiting.saturating_add(group.len() as u64) > limit {
                return Ok(Some(waiting));
            }
        }
        Ok(None)
    }

    /// Appends and commits offsets, and wakes whoever waits.
    fn write(
        &self,
        records: &[Append],
        offsets: &[(Topic, i32, i64)],
    ) -> Result<Vec<i64>, LogStoreError> {
        let now_ms = now_ms();
        let new: Vec<NewRecord<'_>> =
            records.iter().map(|record| new_record(record, now_ms)).collect();
        let offsets: Vec<(&str, i32, i64)> =
            offsets.iter().map(|(topic, partition, next)| (&**topic, *partition, *next)).collect();
        let appended = self.inner.store.append(&new, &offsets)?;
        if !records.is_empty() {
            *lock(&self.inner.arrivals) += 1;
            self.inner.arrived.notify_all();
        }
        Ok(appended)
    }

    /// See [`crate::log::Log::read`]. `each` may stop the reading with an error.
    pub fn read<E: From<LogStoreError>>(
        &self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), E>,
    ) -> Result<Read, E> {
        let store = &self.inner.store;
        let end = store.end_offset(topic, partition)?;
        let mut left = records_max;
        let mut next = from.max(0);
        while next < end && left > 0 {
            let page =
                store.read(topic, partition, next, READ_RECORDS_MAX.min(left), READ_BYTES_MAX)?;
            for stored in page.records {
                // The log may have grown since the call.
                if stored.offset >= end {
                    return Ok(Read::of_this_call(end, end));
                }
                left = left.saturating_sub(1);
                each(record(topic, partition, stored))?;
            }
            next = page.next;
        }
        Ok(Read::of_this_call(next.min(end), end))
    }

    /// The offset after a partition's last record.
    pub fn end_offset(&self, topic: &str, partition: i32) -> Result<i64, LogStoreError> {
        self.inner.store.end_offset(topic, partition)
    }

    /// The offset from which a consumer goes on, if one has committed.
    pub fn committed(&self, topic: &str, partition: i32) -> Result<Option<i64>, LogStoreError> {
        self.inner.store.committed(topic, partition)
    }

    /// See [`LogStore::reset`]. For a log without a consumer.
    pub fn reset(&self, emptied: &[&str], rewound: &[&str]) -> Result<(), LogStoreError> {
        self.inner.store.reset(emptied, rewound)
    }

    /// Deletes records whose retention has passed. To be called every now and then.
    pub fn trim(&self) -> Result<u64, LogStoreError> {
        self.inner.store.trim(now_ms())
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Embedded").field("store", &self.inner.store).finish_non_exhaustive()
    }
}

impl From<LogStoreError> for LogError {
    /// Nothing here mends itself by trying again: a person has to act on the disk or the settings.
    fn from(error: LogStoreError) -> LogError {
        LogError::new(Remedy::Stop, error)
    }
}

/// The partition in which Kafka's Java client puts a record with this key (`BuiltInPartitioner.partitionForKey`).
///
/// # Panics
/// Where `partitions` is not above zero.
#[must_use]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    assert!(partitions > 0, "a topic has at least one partition");
    (murmur2(key) & i32::MAX) % partitions
}

/// `org.apache.kafka.common.utils.Utils.murmur2`: MurmurHash2 of 32 bits, little-endian, with Kafka's seed.
fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Kafka's keys are far shorter than 4 GiB; the reference truncates the same way.
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash.cast_signed()
}

fn new_record(record: &Append, now_ms: i64) -> NewRecord<'_> {
    NewRecord {
        topic: &record.topic,
        partition: record.partition,
        key: record.key.as_deref(),
        payload: record.payload.as_deref(),
        headers: &record.headers,
        timestamp_ms: record.timestamp_ms.unwrap_or(now_ms),
    }
}

fn record(topic: &Topic, partition: i32, stored: StoredRecord) -> Record {
    Record {
        topic: Arc::clone(topic),
        partition,
        offset: stored.offset,
        key: stored.key,
        payload: stored.payload,
        headers: stored.headers,
        timestamp_ms: stored.timestamp_ms,
    }
}

/// None of the mutexes here guards a value that a panic could leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
