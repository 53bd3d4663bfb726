//! Ids of recent events, as hashes by the hour: all in memory, with the batch's additions apart until it commits.
//!
//! A commit is one changelog record. In RocksDB it is one row per hour: `hour`, lowest hash -> hashes. A hash enters an hour
//! once, so the lowest names the row, and applying a record twice changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize};

use crate::database::Database;
use crate::error::StoreError;
use crate::rows::{decode, encode, from_sortable, shown, sortable};

/// The column family of the hashes.
pub(crate) const FAMILY: &str = "seen";

const RECORD: &str = "a record of seen ids";

/// What one commit changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SeenRecord {
    /// First, hours before this one are forgotten.
    pub(crate) forget_before: Option<i64>,
    /// Then these hashes are remembered, by hour; hours and hashes ascend, no hour is empty.
    pub(crate) hours: Vec<(i64, Vec<u64>)>,
}

impl SeenRecord {
    pub(crate) fn decode(value: &[u8]) -> Result<SeenRecord, StoreError> {
        decode(RECORD, value)
    }

    /// The changelog's key: the record's first hash. Nothing compacts this topic; a key of its own keeps it safe should
    /// somebody switch compaction on.
    pub(crate) fn key(&self) -> Vec<u8> {
        let first = self.hours.first().and_then(|(_, hashes)| hashes.first());
        first.copied().unwrap_or_default().to_be_bytes().to_vec()
    }

    /// Adds the record to a batch.
    pub(crate) fn write(&self, database: &Database, batch: &mut WriteBatch) {
        let family = database.family(FAMILY);
        if let Some(before) = self.forget_before {
            batch.delete_range_cf(family, sortable(i64::MIN), sortable(before));
        }
        for (hour, hashes) in &self.hours {
            let lowest = hashes.first().copied().unwrap_or_default();
            let key = [sortable(*hour), lowest.to_be_bytes()].concat();
            batch.put_cf(family, key, encode(hashes));
        }
    }
}

/// The hashes.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    committed: BTreeMap<i64, HashSet<u64>>,
    added: BTreeMap<i64, BTreeSet<u64>>,
    forget_before: Option<i64>,
}

impl Seen {
    /// Reads all of them.
    pub(crate) fn open(database: &Database) -> Result<Seen, StoreError> {
        let mut seen = Seen::default();
        for row in database.scan(FAMILY, &[], None) {
            let (key, value) = row?;
            let Some(hour) = key.first_chunk::<8>() else {
                return Err(StoreError::Corrupt(format!(
                    "no seen row has the key {}",
                    shown(&key)
                )));
            };
            let hashes: Vec<u64> = decode("a row of seen ids", &value)?;
            seen.committed.entry(from_sortable(*hour)).or_default().extend(hashes);
        }
        Ok(seen)
    }

    /// `false` where the hash is there already.
    pub(crate) fn remember(&mut self, hash: u64, hour: i64) -> bool {
        let forgotten = self.forget_before.is_some_and(|before| hour < before);
        let known = self.committed.get(&hour).is_some_and(|hashes| hashes.contains(&hash));
        if known && !forgotten {
            return false;
        }
        self.added.entry(hour).or_default().insert(hash)
    }

    /// Forgets whole hours before `hour`.
    pub(crate) fn forget(&mut self, hour: i64) {
        self.added = self.added.split_off(&hour);
        let oldest = self.committed.first_key_value().map(|(oldest, _)| *oldest);
        if oldest.is_some_and(|oldest| oldest < hour) {
            self.forget_before = self.forget_before.max(Some(hour));
        }
    }

    /// What the batch changes, if anything.
    pub(crate) fn staged(&self) -> Option<SeenRecord> {
        if self.added.is_empty() && self.forget_before.is_none() {
            return None;
        }
        let hours =
            self.added.iter().map(|(hour, hashes)| (*hour, hashes.iter().copied().collect()));
        Some(SeenRecord { forget_before: self.forget_before, hours: hours.collect() })
    }

    /// Applies a committed record.
    pub(crate) fn apply(&mut self, record: &SeenRecord) {
        if let Some(before) = record.forget_before {
            self.committed = self.committed.split_off(&before);
        }
        for (hour, hashes) in &record.hours {
            self.committed.entry(*hour).or_default().extend(hashes);
        }
    }

    /// Drops the batch.
    pub(crate) fn discard(&mut self) {
        self.added.clear();
        self.forget_before = None;
    }

    /// How many are committed.
    pub(crate) fn len(&self) -> usize {
        self.committed.values().map(HashSet::len).sum()
    }

    #[cfg(test)]
    pub(crate) fn committed(&self) -> &BTreeMap<i64, HashSet<u64>> {
        &self.committed
    }
}
