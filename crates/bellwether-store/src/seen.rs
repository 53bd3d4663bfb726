//! Ids of recent events, as hashes with the hour in which they were remembered.
//!
//! In RocksDB a row is hash -> hour, both eight bytes, big-endian. Who asks says how far back knowledge counts, so whether an
//! old row is still there never matters: compaction drops rows that no longer count, at its leisure. A commit is one
//! changelog record; applying one twice changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rocksdb::Options;
use rocksdb::compaction_filter::Decision;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::database::{Database, Row};
use crate::error::StoreError;
use crate::format::{Format, decode, encode};
use crate::rows::shown;

/// The column family of the hashes.
pub(crate) const FAMILY: &str = "seen";

const RECORD: &str = "a record of seen ids";

/// What one commit changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SeenRecord {
    /// These hashes are remembered, by hour; hours and hashes ascend, no hour is empty.
    pub(crate) hours: Vec<(i64, Vec<u64>)>,
}

impl SeenRecord {
    pub(crate) fn decode(value: &[u8]) -> Result<SeenRecord, StoreError> {
        decode(RECORD, value)
    }

    /// The record as it is logged.
    pub(crate) fn encode(&self, format: Format) -> Vec<u8> {
        encode(self, format)
    }

    /// The changelog's key: the record's first hash. Nothing compacts this topic; a key of its own keeps it safe should
    /// somebody switch compaction on.
    pub(crate) fn key(&self) -> Vec<u8> {
        let first = self.hours.first().and_then(|(_, hashes)| hashes.first());
        first.copied().unwrap_or_default().to_be_bytes().to_vec()
    }

    /// Adds the record to a batch.
    pub(crate) fn write(&self, batch: &mut Batch<'_>) {
        for (hour, hashes) in &self.hours {
            for hash in hashes {
                batch.put(FAMILY, hash.to_be_bytes(), hour.to_be_bytes());
            }
        }
    }
}

/// The first hour that still counts, as compaction is told.
#[derive(Debug, Clone)]
pub(crate) struct Horizon(Arc<AtomicI64>);

impl Horizon {
    /// Everything counts.
    pub(crate) fn new() -> Horizon {
        Horizon(Arc::new(AtomicI64::new(i64::MIN)))
    }

    /// Lets compaction drop what lies before.
    pub(crate) fn filter(&self, options: &mut Options) {
        let horizon = self.clone();
        options.set_compaction_filter("seen", move |_, _, value| match hour(value) {
            Some(hour) if hour < horizon.0.load(Ordering::Relaxed) => Decision::Remove,
            // A row that cannot be read is for the reader to report.
            Some(_) | None => Decision::Keep,
        });
    }
}

fn hour(value: &[u8]) -> Option<i64> {
    value.try_into().map(i64::from_be_bytes).ok()
}

/// The hashes of the batch, in front of those in the database.
#[derive(Debug)]
pub(crate) struct Seen {
    added: HashMap<u64, i64>,
    horizon: Horizon,
}

impl Seen {
    pub(crate) fn new(horizon: Horizon) -> Seen {
        Seen { added: HashMap::new(), horizon }
    }

    /// Remembers a hash; `false` where it was remembered at `since_hour` or later.
    pub(crate) fn remember(
        &mut self,
        database: &Database,
        hash: u64,
        at_hour: i64,
        since_hour: i64,
    ) -> Result<bool, StoreError> {
        self.horizon.0.fetch_max(since_hour, Ordering::Relaxed);
        if self.marked(database, hash)?.is_some_and(|hour| hour >= since_hour) {
            return Ok(false);
        }
        self.added.insert(hash, at_hour);
        Ok(true)
    }

    /// Remembers a hash, whatever was remembered of it.
    pub(crate) fn mark(&mut self, hash: u64, at_hour: i64) {
        self.added.insert(hash, at_hour);
    }

    /// The hour as of which a hash is remembered, if it is.
    pub(crate) fn marked(&self, database: &Database, hash: u64) -> Result<Option<i64>, StoreError> {
        match self.added.get(&hash) {
            Some(hour) => Ok(Some(*hour)),
            None => read(database, hash),
        }
    }

    /// What the batch changes, if anything.
    pub(crate) fn staged(&self) -> Option<SeenRecord> {
        let mut hours: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for (hash, hour) in &self.added {
            hours.entry(*hour).or_default().push(*hash);
        }
        hours.values_mut().for_each(|hashes| hashes.sort_unstable());
        (!hours.is_empty()).then(|| SeenRecord { hours: hours.into_iter().collect() })
    }

    /// Drops the batch.
    pub(crate) fn discard(&mut self) {
        self.added.clear();
    }
}

/// Checks a row; its hour.
pub(crate) fn check((key, value): &Row) -> Result<i64, StoreError> {
    if key.len() == 8
        && let Some(hour) = hour(value)
    {
        return Ok(hour);
    }
    Err(StoreError::Corrupt(format!("a seen id has the row {}: {}", shown(key), shown(value))))
}

fn read(database: &Database, hash: u64) -> Result<Option<i64>, StoreError> {
    let Some(value) = database.get(FAMILY, &hash.to_be_bytes())? else { return Ok(None) };
    match hour(&value) {
        Some(hour) => Ok(Some(hour)),
        None => Err(StoreError::Corrupt(format!("a seen id has the value {}", shown(&value)))),
    }
}
