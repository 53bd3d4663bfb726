//! A disk in memory, for simulation: databases that lose in a crash what RocksDB would lose.
//!
//! Without a write-ahead log RocksDB keeps, after a crash, some prefix of the batches: at least those of the last flush, each
//! whole. [`MemoryDisk::crash`] lets the caller choose which.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::{Batch, Write};
use crate::database::Row;
use crate::error::StoreError;

/// The rows of a database, by column family.
type Families = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

#[derive(Default)]
struct Dir {
    open: bool,
    /// Power cuts so far: a database opened before the last one is no more.
    cuts: u64,
    rows: Families,
    flushed: Families,
    unflushed: Vec<Batch<'static>>,
}

#[derive(Default)]
struct Disk {
    dirs: BTreeMap<PathBuf, Dir>,
    writes_left: Option<u64>,
}

/// A disk in memory; clones are the same disk. It outlives the databases on it.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

impl MemoryDisk {
    /// A power cut: every database keeps, beyond its last flush, the first `keep(directory, batches)` of the batches written since
    /// (more than there are: all). Whoever still has one open writes into the void from now on.
    pub fn crash(&self, mut keep: impl FnMut(&Path, usize) -> usize) {
        let mut disk = self.lock();
        disk.writes_left = None;
        for (path, dir) in &mut disk.dirs {
            let kept = keep(path, dir.unflushed.len());
            dir.unflushed.truncate(kept);
            dir.rows = dir.flushed.clone();
            dir.open = false;
            dir.cuts += 1;
            for batch in &dir.unflushed {
                apply(&mut dir.rows, batch);
            }
        }
    }

    /// After this many more batches every write fails, as on a full disk; none: writes succeed.
    pub fn fail_after(&self, batches: Option<u64>) {
        self.lock().writes_left = batches;
    }

    /// Damages a value in the database at `path`; false where it has none.
    pub fn damage(&self, path: &Path, which: usize) -> bool {
        let mut disk = self.lock();
        let Some(dir) = disk.dirs.get_mut(path) else { return false };
        let count: usize = dir.rows.values().map(BTreeMap::len).sum();
        let Some(which) = which.checked_rem(count) else { return false };
        for rows in [&mut dir.rows, &mut dir.flushed] {
            // The same row in both, where it is in both.
            if let Some(value) = rows.values_mut().flat_map(BTreeMap::values_mut).nth(which) {
                value.push(0xff);
            }
        }
        true
    }

    /// Removes a database that nobody has open.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let mut disk = self.lock();
        if disk.dirs.get(path).is_some_and(|dir| dir.open) {
            return Err(StoreError::InUse(path.to_owned()));
        }
        disk.dirs.remove(path);
        Ok(())
    }

    pub(crate) fn open(&self, path: &Path) -> Result<MemoryDatabase, StoreError> {
        let mut disk = self.lock();
        let dir = disk.dirs.entry(path.to_owned()).or_default();
        if dir.open {
            return Err(StoreError::InUse(path.to_owned()));
        }
        dir.open = true;
        Ok(MemoryDatabase { disk: self.clone(), path: path.to_owned(), cuts: dir.cuts })
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.lock();
        formatter.debug_list().entries(disk.dirs.keys()).finish()
    }
}

/// A database on a [`MemoryDisk`].
pub(crate) struct MemoryDatabase {
    disk: MemoryDisk,
    path: PathBuf,
    cuts: u64,
}

impl MemoryDatabase {
    fn with<T>(&self, look: impl FnOnce(&mut Dir) -> T) -> T {
        look(self.disk.lock().dirs.entry(self.path.clone()).or_default())
    }

    pub(crate) fn get(&self, family: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.with(|dir| dir.rows.get(family)?.get(key).cloned())
    }

    pub(crate) fn scan(&self, family: &str, from: &[u8], end: Option<&[u8]>) -> Vec<Row> {
        self.with(|dir| {
            let rows =
                dir.rows.get(family).into_iter().flat_map(|rows| rows.range(from.to_vec()..));
            rows.take_while(|(key, _)| end.is_none_or(|end| key.as_slice() < end))
                .map(|(key, value)| {
                    (key.clone().into_boxed_slice(), value.clone().into_boxed_slice())
                })
                .collect()
        })
    }

    pub(crate) fn write(&self, batch: Batch<'_>) -> Result<(), StoreError> {
        let mut disk = self.disk.lock();
        if let Some(left) = &mut disk.writes_left {
            if *left == 0 {
                return Err(StoreError::Io("no space left on the simulated disk".to_owned()));
            }
            *left -= 1;
        }
        let dir = disk.dirs.entry(self.path.clone()).or_default();
        if dir.cuts > self.cuts {
            return Err(StoreError::Io("the power was cut".to_owned()));
        }
        apply(&mut dir.rows, &batch);
        dir.unflushed.push(batch.into_owned());
        Ok(())
    }

    pub(crate) fn flush(&self) {
        self.with(|dir| {
            if dir.cuts > self.cuts {
                return;
            }
            for batch in std::mem::take(&mut dir.unflushed) {
                apply(&mut dir.flushed, &batch);
            }
        });
    }

    pub(crate) fn keys(&self, family: &str) -> u64 {
        self.with(|dir| dir.rows.get(family).map_or(0, |rows| rows.len() as u64))
    }

    pub(crate) fn bytes(&self, family: Option<&str>) -> u64 {
        self.with(|dir| {
            let families = dir.rows.iter();
            let rows = families
                .filter(|(name, _)| family.is_none_or(|family| family == **name))
                .flat_map(|(_, rows)| rows);
            rows.map(|(key, value)| (key.len() + value.len()) as u64).sum()
        })
    }
}

impl Drop for MemoryDatabase {
    fn drop(&mut self) {
        self.with(|dir| {
            if dir.cuts == self.cuts {
                dir.open = false;
            }
        });
    }
}

fn apply(families: &mut Families, batch: &Batch<'_>) {
    for (family, write) in batch.writes() {
        let rows = families.entry(family).or_default();
        match write {
            Write::Put(key, value) => {
                rows.insert(key.to_vec(), value.to_vec());
            }
            Write::Delete(key) => {
                rows.remove(key.as_ref());
            }
            Write::DeleteRange(from, end) => {
                rows.retain(|key, _| !(from..end).contains(&key));
            }
        }
    }
}
