//! One RocksDB database with its column families, within a memory budget shared by all databases of the process.

use std::fmt;
use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, FlushOptions, LogLevel, Options, ReadOptions, WriteBatch, WriteBufferManager,
    WriteOptions,
};

use crate::error::{StoreError, from_rocksdb};
use crate::lock::DirLock;

/// The memory that all databases of a process share: block cache and write buffers under one budget. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    cache: Cache,
    buffers: WriteBufferManager,
}

impl Shared {
    /// A budget in bytes. A third of it is for write buffers; they are charged to the block cache.
    #[must_use]
    pub fn new(budget_bytes: usize) -> Shared {
        let cache = Cache::new_lru_cache(budget_bytes);
        // Never stall: above the budget RocksDB flushes early, which is enough; a stall would stop every task at once.
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            budget_bytes / 3,
            false,
            cache.clone(),
        );
        Shared { cache, buffers }
    }

    /// Bytes in use now.
    #[must_use]
    pub fn usage_bytes(&self) -> usize {
        self.cache.get_usage()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("usage_bytes", &self.usage_bytes()).finish()
    }
}

/// How a batch becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Without a write-ahead log: a changelog elsewhere is the log. All column families are flushed together, so a
    /// crash loses a suffix of the batches and never part of one.
    Changelog,
    /// Write-ahead log, synced: durable on return.
    Synced,
}

/// One database; it holds its directory's lock.
pub(crate) struct Database {
    // Declared before the lock: closed before the lock is released.
    db: DB,
    durability: Durability,
    families: &'static [&'static str],
    _lock: DirLock,
}

/// A key and its value.
pub(crate) type Row = (Box<[u8]>, Box<[u8]>);

impl Database {
    pub(crate) fn open(
        dir: &Path,
        shared: &Shared,
        families: &'static [&'static str],
        durability: Durability,
    ) -> Result<Database, StoreError> {
        Database::open_with(dir, shared, families, durability, |_, _| {})
    }

    /// Opens with options of each family's own.
    pub(crate) fn open_with(
        dir: &Path,
        shared: &Shared,
        families: &'static [&'static str],
        durability: Durability,
        own: impl Fn(&str, &mut Options),
    ) -> Result<Database, StoreError> {
        let lock = DirLock::take(dir)?;
        check_manifest(dir)?;
        let descriptors = families.iter().map(|name| {
            let mut options = family_options(shared);
            own(name, &mut options);
            ColumnFamilyDescriptor::new(*name, options)
        });
        let options = database_options(shared, durability);
        let db = DB::open_cf_descriptors(&options, dir, descriptors).map_err(from_rocksdb)?;
        Ok(Database { db, durability, families, _lock: lock })
    }

    /// A column family that the database was opened with.
    pub(crate) fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("the database was opened with every family that is used")
    }

    pub(crate) fn get(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(family), key).map_err(from_rocksdb)
    }

    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        match self.durability {
            Durability::Changelog => options.disable_wal(true),
            Durability::Synced => options.set_sync(true),
        }
        self.db.write_opt(batch, &options).map_err(from_rocksdb)
    }

    /// The rows from `from` up to `end` (exclusive; none: to the end), ascending.
    pub(crate) fn scan<'a>(
        &'a self,
        family: &str,
        from: &[u8],
        end: Option<Vec<u8>>,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + use<'a> {
        let mut options = ReadOptions::default();
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        let mode = rocksdb::IteratorMode::From(from, rocksdb::Direction::Forward);
        self.db
            .iterator_cf_opt(self.family(family), options, mode)
            .map(|row| row.map_err(from_rocksdb))
    }

    /// A cursor for reads that jump.
    pub(crate) fn cursor(&self, family: &str) -> DBRawIterator<'_> {
        self.db.raw_iterator_cf(self.family(family))
    }

    /// Writes all memory to disk and waits for it.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let families: Vec<&ColumnFamily> =
            self.families.iter().map(|name| self.family(name)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &options).map_err(from_rocksdb)
    }

    /// A number that RocksDB tells of itself, over all column families.
    #[cfg(test)]
    pub(crate) fn property(&self, name: &str) -> u64 {
        let value = |family| self.db.property_int_value_cf(self.family(family), name);
        self.families
            .iter()
            .map(|family| value(family).expect("readable").expect("a property of RocksDB"))
            .sum()
    }

    /// How many keys a column family holds, approximately.
    pub(crate) fn keys(&self, family: &str) -> Result<u64, StoreError> {
        let keys = self.db.property_int_value_cf(self.family(family), "rocksdb.estimate-num-keys");
        keys.map(Option::unwrap_or_default).map_err(from_rocksdb)
    }

    /// Rewrites a whole column family now.
    #[cfg(test)]
    pub(crate) fn compact(&self, family: &str) {
        self.db.compact_range_cf(self.family(family), None::<&[u8]>, None::<&[u8]>);
    }

    /// Bytes on disk and in write buffers, approximately.
    pub(crate) fn size_bytes(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for name in self.families {
            for property in ["rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables"] {
                bytes += self
                    .db
                    .property_int_value_cf(self.family(name), property)
                    .map_err(from_rocksdb)?
                    .unwrap_or(0);
            }
        }
        Ok(bytes)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Database").field("dir", &self.db.path()).finish_non_exhaustive()
    }
}

/// A database whose table of contents is gone is damaged; RocksDB would call it an I/O error.
fn check_manifest(dir: &Path) -> Result<(), StoreError> {
    match std::fs::read_to_string(dir.join("CURRENT")) {
        Ok(name) if !dir.join(name.trim_end()).exists() => {
            Err(StoreError::Corrupt(format!("{} has lost its {}", dir.display(), name.trim_end())))
        }
        // Whatever else is wrong, RocksDB tells.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn database_options(shared: &Shared, durability: Durability) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(durability == Durability::Changelog);
    options.set_write_buffer_manager(&shared.buffers);
    // Bounds the table readers of many small files; RocksDB's default keeps every file open.
    options.set_max_open_files(256);
    options.set_max_background_jobs(2);
    // RocksDB's own diary: problems only, and little of it.
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(1 << 20);
    options.set_keep_log_file_num(2);
    options
}

fn family_options(shared: &Shared) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&shared.cache);
    // Index and filter blocks count against the budget too.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(10.0, false);
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    // A full buffer flushes all families: it bounds what a crash makes us replay.
    options.set_write_buffer_size(16 << 20);
    options
}
