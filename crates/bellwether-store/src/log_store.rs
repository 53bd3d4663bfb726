//! The durable storage of the embedded log: topics of partitions of records, and committed consumer offsets.
//!
//! A transaction is one RocksDB batch with a synced write-ahead log, so it is all or nothing, and durable on return. Every append
//! costs a sync: callers batch. Records become visible in offset order. One process at a time.
//!
//! Deliberately absent: consumer groups, waiting, clocks.

mod format;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::database::{Database, Durability, Shared};
use crate::error::StoreError;
use crate::rows::{decode, encode};
use format::{
    TAG_COMMITTED, TAG_END, TAG_TOMBSTONE, TAG_TOPIC, decode_record, encode_record, offset_key,
    offset_of, partition_prefix, record_key, tombstone_key, tombstone_of,
};

const RECORDS: &str = "records";
const LATEST: &str = "latest";
const META: &str = "meta";
const FAMILIES: &[&str] = &["default", RECORDS, LATEST, META];

/// Partitions that a topic may have.
pub const PARTITIONS_MAX: i32 = 4096;

/// How long a compacted topic keeps its tombstones: 30 days.
pub const TOMBSTONES_MS: i64 = 30 * 24 * 3_600_000;

/// How long a topic keeps its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retention {
    /// For ever.
    Forever,
    /// The latest record of each key. Tombstones stay for [`TOMBSTONES_MS`], so that a reader who was away sees them.
    Compact,
    /// This many milliseconds, and in any case until a committed consumer has read them.
    Milliseconds(i64),
}

/// A failure of the embedded log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogStoreError {
    /// The storage below.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// No such topic.
    #[error("there is no topic {0}; create it first")]
    UnknownTopic(String),
    /// No such partition.
    #[error("topic {topic} has {partitions} partitions, not one numbered {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// What was asked for.
        partition: i32,
        /// What there is.
        partitions: i32,
    },
    /// The topic exists, but differently.
    #[error(
        "topic {topic} exists with {found}, not with {wanted}; use another data directory, or the old settings"
    )]
    Mismatch {
        /// The topic.
        topic: String,
        /// What is there.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The number of partitions makes no sense.
    #[error("topic {topic} cannot have {partitions} partitions; choose 1 to {PARTITIONS_MAX}")]
    Partitions {
        /// The topic.
        topic: String,
        /// What was asked for.
        partitions: i32,
    },
}

/// A record to append.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// Where it goes.
    pub topic: &'a str,
    /// See `topic`.
    pub partition: i32,
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The record's value; none is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// The record's headers.
    pub headers: &'a [(String, Vec<u8>)],
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Where it stands in its partition.
    pub offset: i64,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value; none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The record's headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
}

/// What a read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Records in offset order; offsets that were compacted away are missing.
    pub records: Vec<StoredRecord>,
    /// Where to read on; the end of the partition where there is nothing more.
    pub next: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct TopicRow {
    id: u32,
    partitions: i32,
    retention: Retention,
}

#[derive(Debug, Clone, Copy, Default)]
struct Partition {
    /// The offset after the last record.
    end: i64,
    committed: Option<i64>,
}

#[derive(Debug)]
struct Topic {
    row: TopicRow,
    partitions: Vec<Partition>,
}

/// The storage of an embedded log. Its methods may be called from any thread.
#[derive(Debug)]
pub struct LogStore {
    database: Database,
    /// One writer at a time, so that offsets become visible in order.
    writer: Mutex<()>,
    topics: RwLock<HashMap<String, Topic>>,
    poisoned: AtomicBool,
}

impl LogStore {
    /// Opens the log of a data directory, or creates it without topics.
    pub fn open(dir: &Path, shared: &Shared) -> Result<LogStore, StoreError> {
        let database = Database::open(dir, shared, FAMILIES, Durability::Synced)?;
        let mut topics = HashMap::new();
        for row in database.scan(META, &[TAG_TOPIC], Some(vec![TAG_TOPIC + 1])) {
            let (key, value) = row?;
            let row: TopicRow = decode("a topic row", &value)?;
            let name = key.get(1..).and_then(|name| std::str::from_utf8(name).ok());
            let name =
                name.ok_or_else(|| StoreError::Corrupt("a topic's name is not text".to_owned()))?;
            let mut partitions = Vec::new();
            for partition in 0..row.partitions {
                let end = read_offset(&database, TAG_END, row.id, partition)?.unwrap_or(0);
                let committed = read_offset(&database, TAG_COMMITTED, row.id, partition)?;
                partitions.push(Partition { end, committed });
            }
            topics.insert(name.to_owned(), Topic { row, partitions });
        }
        let (writer, topics, poisoned) =
            (Mutex::new(()), RwLock::new(topics), AtomicBool::new(false));
        Ok(LogStore { database, writer, topics, poisoned })
    }

    /// Creates a topic; one that exists just so is fine. For how many milliseconds records are kept may change.
    pub fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        retention: Retention,
    ) -> Result<(), LogStoreError> {
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            return Err(LogStoreError::Partitions { topic: topic.to_owned(), partitions });
        }
        let _writer = self.writer()?;
        let (found, count) = {
            let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
            (topics.get(topic).map(|topic| topic.row), topics.len())
        };
        if let Some(found) = found {
            let for_a_time = |of: Retention| matches!(of, Retention::Milliseconds(_));
            if (found.partitions, found.retention) == (partitions, retention) {
                return Ok(());
            }
            if found.partitions == partitions
                && for_a_time(found.retention)
                && for_a_time(retention)
            {
                return self.alter(topic, TopicRow { retention, ..found });
            }
            let shown = |partitions: i32, retention: Retention| {
                format!("{partitions} partitions, {retention:?}")
            };
            return Err(LogStoreError::Mismatch {
                topic: topic.to_owned(),
                found: shown(found.partitions, found.retention),
                wanted: shown(partitions, retention),
            });
        }
        // Topics are never deleted, so their number names the next.
        let id = count as u32;
        let row = TopicRow { id, partitions, retention };
        let mut batch = Batch::default();
        let key = [[TAG_TOPIC].as_slice(), topic.as_bytes()].concat();
        batch.put(META, key, encode(&row));
        self.write(batch)?;
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.insert(topic.to_owned(), Topic { row, partitions });
        Ok(())
    }

    /// Changes how long a topic's records are kept.
    fn alter(&self, topic: &str, row: TopicRow) -> Result<(), LogStoreError> {
        let mut batch = Batch::default();
        batch.put(META, [[TAG_TOPIC].as_slice(), topic.as_bytes()].concat(), encode(&row));
        self.write(batch)?;
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = topics.get_mut(topic) {
            known.row = row;
        }
        Ok(())
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: &str) -> Result<i32, LogStoreError> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let found = topics.get(topic);
        found
            .map(|found| found.row.partitions)
            .ok_or_else(|| LogStoreError::UnknownTopic(topic.to_owned()))
    }

    /// Appends records and commits consumer offsets (topic, partition, next offset to read), all or nothing, durable on return.
    /// Returns the offset of each record. After a failed write the log is poisoned.
    pub fn append(
        &self,
        records: &[NewRecord<'_>],
        offsets: &[(&str, i32, i64)],
    ) -> Result<Vec<i64>, LogStoreError> {
        let _writer = self.writer()?;
        let mut batch = Batch::default();
        let mut ends: BTreeMap<(&str, i32), (u32, i64)> = BTreeMap::new();
        let mut latest: HashMap<Vec<u8>, i64> = HashMap::new();
        let mut appended = Vec::with_capacity(records.len());
        for record in records {
            let (row, partition) = self.partition(record.topic, record.partition)?;
            let (_, end) =
                ends.entry((record.topic, record.partition)).or_insert((row.id, partition.end));
            if row.retention == Retention::Compact {
                self.supersede(&mut batch, &mut latest, row.id, record, *end)?;
            }
            let key = record_key(row.id, record.partition, *end);
            if row.retention == Retention::Compact && record.payload.is_none() {
                batch.put(META, tombstone_key(key), encode(&record.timestamp_ms));
            }
            batch.put(RECORDS, key, encode_record(record));
            appended.push(*end);
            *end += 1;
        }
        for (&(_, partition), &(id, end)) in &ends {
            write_offset(&mut batch, TAG_END, id, partition, end);
        }
        for &(topic, partition, next) in offsets {
            let (row, _) = self.partition(topic, partition)?;
            write_offset(&mut batch, TAG_COMMITTED, row.id, partition, next);
        }
        self.write(batch)?;

        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        for (&(topic, partition), &(_, end)) in &ends {
            if let Some(partition) = partition_mut(&mut topics, topic, partition) {
                partition.end = end;
            }
        }
        for &(topic, partition, next) in offsets {
            if let Some(partition) = partition_mut(&mut topics, topic, partition) {
                partition.committed = Some(next);
            }
        }
        Ok(appended)
    }

    /// Reads from offset `from`, or the oldest record kept: at most `records_max` records, and no more once `bytes_max` bytes of
    /// keys and values are reached.
    pub fn read(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Page, LogStoreError> {
        let (row, Partition { end, .. }) = self.partition(topic, partition)?;
        let (from, mut bytes) = (from.max(0), 0);
        let mut page = Page { records: Vec::new(), next: from };
        if from >= end {
            return Ok(page);
        }
        let bounds = [from, end].map(|offset| record_key(row.id, partition, offset));
        for stored in self.database.scan(RECORDS, &bounds[0], Some(bounds[1].to_vec())) {
            if page.records.len() >= records_max || bytes >= bytes_max {
                return Ok(page);
            }
            let (key, value) = stored?;
            let record = decode_record(offset_of(&key)?, &value)?;
            bytes += value.len();
            page.next = record.offset + 1;
            page.records.push(record);
        }
        page.next = end;
        Ok(page)
    }

    /// The offset after the last record.
    pub fn end_offset(&self, topic: &str, partition: i32) -> Result<i64, LogStoreError> {
        self.partition(topic, partition).map(|(_, partition)| partition.end)
    }

    /// The committed consumer offset, if any.
    pub fn committed(&self, topic: &str, partition: i32) -> Result<Option<i64>, LogStoreError> {
        self.partition(topic, partition).map(|(_, partition)| partition.committed)
    }

    /// Records of a topic that no consumer has committed yet.
    pub fn backlog(&self, topic: &str) -> Result<u64, LogStoreError> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let found =
            topics.get(topic).ok_or_else(|| LogStoreError::UnknownTopic(topic.to_owned()))?;
        let behind = |partition: &Partition| {
            u64::try_from(partition.end - partition.committed.unwrap_or(0)).unwrap_or(0)
        };
        Ok(found.partitions.iter().map(behind).sum())
    }

    /// Deletes what every [`Retention::Milliseconds`] topic need not keep any longer: the oldest records of each partition, up to the
    /// first one that is younger, or not yet consumed where a consumer has committed. Returns how many offsets were dropped.
    pub fn trim(&self, now_ms: i64) -> Result<u64, LogStoreError> {
        let mut due = Vec::new();
        {
            let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
            for topic in topics.values() {
                let Retention::Milliseconds(kept_ms) = topic.row.retention else { continue };
                for (number, partition) in (0..).zip(&topic.partitions) {
                    due.push((topic.row.id, number, *partition, now_ms.saturating_sub(kept_ms)));
                }
            }
        }
        let mut dropped = 0;
        for (id, number, partition, before_ms) in due {
            let limit = partition.committed.unwrap_or(partition.end).min(partition.end);
            dropped += self.trim_partition(id, number, limit, before_ms)?;
        }
        Ok(dropped + self.trim_tombstones(now_ms.saturating_sub(TOMBSTONES_MS))?)
    }

    /// Deletes the tombstones of compacted topics that are old enough and consumed where a consumer has committed: then nothing tells any
    /// more that their keys ever were.
    fn trim_tombstones(&self, before_ms: i64) -> Result<u64, LogStoreError> {
        let mut due = Vec::new();
        for row in self.database.scan(META, &[TAG_TOMBSTONE], Some(vec![TAG_TOMBSTONE + 1])) {
            let (key, value) = row?;
            if decode::<i64>("a tombstone's time", &value)? < before_ms {
                due.push(key);
            }
        }
        if due.is_empty() {
            return Ok(0);
        }
        let _writer = self.writer()?;
        let mut batch = Batch::default();
        let mut dropped = 0;
        for key in due {
            let (id, partition, record_key) = tombstone_of(&key)?;
            let offset = offset_of(&record_key)?;
            if self.committed_of(id, partition).is_some_and(|committed| committed <= offset) {
                continue;
            }
            // It is gone already where a later record of its key has superseded it.
            if let Some(value) = self.database.get(RECORDS, &record_key)? {
                let record = decode_record(offset, &value)?;
                let prefix = partition_prefix(id, partition);
                batch.delete(LATEST, [&prefix, record.key.as_deref().unwrap_or_default()].concat());
                batch.delete(RECORDS, record_key);
                dropped += 1;
            }
            batch.delete(META, key.to_vec());
        }
        self.write(batch)?;
        Ok(dropped)
    }

    /// The committed offset of a partition of the topic with this number.
    fn committed_of(&self, id: u32, partition: i32) -> Option<i64> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.values().find(|topic| topic.row.id == id)?;
        topic.partitions.get(usize::try_from(partition).ok()?)?.committed
    }

    /// Begins anew, all or nothing: the topics of `emptied` lose their records, and the consumer reads those of `rewound` from the oldest
    /// record kept. Offsets go on where they were.
    pub fn reset(&self, emptied: &[&str], rewound: &[&str]) -> Result<(), LogStoreError> {
        let _writer = self.writer()?;
        let mut batch = Batch::default();
        for topic in emptied {
            for partition in 0..self.partitions(topic)? {
                let (row, Partition { end, .. }) = self.partition(topic, partition)?;
                let bounds = [0, end].map(|offset| record_key(row.id, partition, offset));
                batch.delete_range(RECORDS, bounds[0], bounds[1]);
                let prefix = partition_prefix(row.id, partition);
                for latest in self.database.scan(LATEST, &prefix, None) {
                    let (key, _) = latest?;
                    if !key.starts_with(&prefix) {
                        break;
                    }
                    batch.delete(LATEST, key.to_vec());
                }
            }
        }
        for topic in rewound {
            for partition in 0..self.partitions(topic)? {
                let (row, _) = self.partition(topic, partition)?;
                // Not none: what was never consumed counts as not yet wanted, and may be trimmed.
                write_offset(&mut batch, TAG_COMMITTED, row.id, partition, 0);
            }
        }
        self.write(batch)?;
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        for topic in rewound {
            let found = topics.get_mut(*topic).into_iter().flat_map(|topic| &mut topic.partitions);
            found.for_each(|partition| partition.committed = Some(0));
        }
        Ok(())
    }

    fn trim_partition(
        &self,
        id: u32,
        partition: i32,
        limit: i64,
        before_ms: i64,
    ) -> Result<u64, LogStoreError> {
        let bounds = [0, limit].map(|offset| record_key(id, partition, offset));
        let (mut first, mut keep) = (None, 0);
        for stored in self.database.scan(RECORDS, &bounds[0], Some(bounds[1].to_vec())) {
            let (key, value) = stored?;
            let offset = offset_of(&key)?;
            if decode_record(offset, &value)?.timestamp_ms >= before_ms {
                break;
            }
            first.get_or_insert(offset);
            keep = offset + 1;
        }
        let Some(first) = first else { return Ok(0) };
        let _writer = self.writer()?;
        let mut batch = Batch::default();
        let kept = record_key(id, partition, keep);
        batch.delete_range(RECORDS, bounds[0], kept);
        self.write(batch)?;
        Ok(u64::try_from(keep - first).unwrap_or(0))
    }

    /// Deletes the record that this one supersedes, in the database or earlier in the batch.
    fn supersede(
        &self,
        batch: &mut Batch<'_>,
        latest: &mut HashMap<Vec<u8>, i64>,
        id: u32,
        record: &NewRecord<'_>,
        offset: i64,
    ) -> Result<(), LogStoreError> {
        let Some(key) = record.key else { return Ok(()) };
        let key = [partition_prefix(id, record.partition).as_slice(), key].concat();
        let before = match latest.get(&key) {
            Some(before) => Some(*before),
            None => match self.database.get(LATEST, &key)? {
                Some(value) => Some(decode::<i64>("a key's latest offset", &value)?),
                None => None,
            },
        };
        if let Some(before) = before {
            let superseded = record_key(id, record.partition, before);
            batch.delete(RECORDS, superseded);
        }
        batch.put(LATEST, key.clone(), encode(&offset));
        latest.insert(key, offset);
        Ok(())
    }

    fn partition(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(TopicRow, Partition), LogStoreError> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let found =
            topics.get(topic).ok_or_else(|| LogStoreError::UnknownTopic(topic.to_owned()))?;
        let index = usize::try_from(partition).ok();
        match index.and_then(|index| found.partitions.get(index)) {
            Some(partition) => Ok((found.row, *partition)),
            None => Err(LogStoreError::UnknownPartition {
                topic: topic.to_owned(),
                partition,
                partitions: found.row.partitions,
            }),
        }
    }

    /// The right to write, unless an earlier write failed.
    fn writer(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        // The mutex guards an order, not a value; a panic elsewhere leaves nothing half done behind it.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.poisoned.load(Ordering::Acquire) { Err(StoreError::Poisoned) } else { Ok(writer) }
    }

    fn write(&self, batch: Batch<'_>) -> Result<(), StoreError> {
        let written = self.database.write(batch);
        if written.is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
        written
    }
}

fn partition_mut<'a>(
    topics: &'a mut HashMap<String, Topic>,
    topic: &str,
    partition: i32,
) -> Option<&'a mut Partition> {
    let index = usize::try_from(partition).ok()?;
    topics.get_mut(topic)?.partitions.get_mut(index)
}

fn read_offset(
    database: &Database,
    tag: u8,
    id: u32,
    partition: i32,
) -> Result<Option<i64>, StoreError> {
    let value = database.get(META, &offset_key(tag, id, partition))?;
    value.map(|value| decode("an offset", &value)).transpose()
}

fn write_offset(batch: &mut Batch<'_>, tag: u8, id: u32, partition: i32, offset: i64) {
    batch.put(META, offset_key(tag, id, partition), encode(&offset));
}
