//! One database with its column families: RocksDB within a memory budget that all databases of the process share, or, for
//! simulation, a disk in memory.

use std::fmt;
use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, FlushOptions, LogLevel, Options, ReadOptions, WriteBatch, WriteBufferManager,
    WriteOptions,
};

use crate::batch::{Batch, Write};
use crate::error::{StoreError, from_rocksdb};
use crate::lock::DirLock;
use crate::memory::{MemoryDatabase, MemoryDisk};

/// What all databases of a process share: one memory budget for block cache and write buffers, or a disk in memory. Cheap to
/// clone.
#[derive(Clone)]
pub struct Shared(Medium);

#[derive(Clone)]
enum Medium {
    Rocks { cache: Cache, buffers: WriteBufferManager },
    Memory(MemoryDisk),
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
        Shared(Medium::Rocks { cache, buffers })
    }

    /// No RocksDB: databases live on this disk in memory. For simulation.
    #[must_use]
    pub fn simulated(disk: &MemoryDisk) -> Shared {
        Shared(Medium::Memory(disk.clone()))
    }

    /// Bytes in use now.
    #[must_use]
    pub fn usage_bytes(&self) -> usize {
        match &self.0 {
            Medium::Rocks { cache, .. } => cache.get_usage(),
            Medium::Memory(_) => 0,
        }
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

/// One database; nobody else can open it meanwhile.
pub(crate) enum Database {
    Rocks(RocksDatabase),
    Memory(MemoryDatabase),
}

/// A database in files.
pub(crate) struct RocksDatabase {
    // Declared before the lock: closed before the lock is released.
    db: DB,
    durability: Durability,
    families: &'static [&'static str],
    _lock: DirLock,
}

/// A key and its value.
pub(crate) type Row = (Box<[u8]>, Box<[u8]>);

/// A reader that jumps.
pub(crate) enum Cursor<'a> {
    Rocks(DBRawIterator<'a>),
    Memory(&'a MemoryDatabase, &'static str),
}

impl Cursor<'_> {
    /// The first key at `from` or behind it.
    pub(crate) fn seek(&mut self, from: &[u8]) -> Result<Option<Box<[u8]>>, StoreError> {
        match self {
            Cursor::Rocks(cursor) => {
                cursor.seek(from);
                let key = cursor.key().map(Box::from);
                cursor.status().map(|()| key).map_err(from_rocksdb)
            }
            Cursor::Memory(database, family) => {
                Ok(database.scan(family, from, None).into_iter().next().map(|(key, _)| key))
            }
        }
    }

    /// Gives every row from `from` up to `end` (exclusive), ascending.
    pub(crate) fn each(
        &mut self,
        from: &[u8],
        end: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match self {
            Cursor::Rocks(cursor) => {
                cursor.seek(from);
                while let Some((key, value)) = cursor.item().filter(|(key, _)| *key < end) {
                    each(key, value)?;
                    cursor.next();
                }
                cursor.status().map_err(from_rocksdb)
            }
            Cursor::Memory(database, family) => {
                let rows = database.scan(family, from, Some(end));
                rows.iter().try_for_each(|(key, value)| each(key, value))
            }
        }
    }
}

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
        let (cache, buffers) = match &shared.0 {
            Medium::Rocks { cache, buffers } => (cache, buffers),
            Medium::Memory(disk) => return disk.open(dir).map(Database::Memory),
        };
        let lock = DirLock::take(dir)?;
        check_manifest(dir)?;
        let descriptors = families.iter().map(|name| {
            let mut options = family_options(cache);
            own(name, &mut options);
            ColumnFamilyDescriptor::new(*name, options)
        });
        let options = database_options(buffers, durability);
        let db = DB::open_cf_descriptors(&options, dir, descriptors).map_err(from_rocksdb)?;
        Ok(Database::Rocks(RocksDatabase { db, durability, families, _lock: lock }))
    }

    /// Removes a database that nobody has open. A directory that is not there is fine.
    pub(crate) fn destroy(dir: &Path, shared: &Shared) -> Result<(), StoreError> {
        if let Medium::Memory(disk) = &shared.0 {
            return disk.remove(dir);
        }
        if !dir.exists() {
            return Ok(());
        }
        let _lock = DirLock::take(dir)?;
        let failed = |error: std::io::Error| StoreError::Io(format!("{}: {error}", dir.display()));
        std::fs::remove_dir_all(dir).map_err(failed)
    }

    pub(crate) fn get(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Database::Rocks(rocks) => {
                rocks.db.get_cf(rocks.family(family), key).map_err(from_rocksdb)
            }
            Database::Memory(memory) => Ok(memory.get(family, key)),
        }
    }

    pub(crate) fn write(&self, batch: Batch<'_>) -> Result<(), StoreError> {
        match self {
            Database::Rocks(rocks) => rocks.write(&batch),
            Database::Memory(memory) => memory.write(batch),
        }
    }

    /// The rows from `from` up to `end` (exclusive; none: to the end), ascending.
    pub(crate) fn scan<'a>(
        &'a self,
        family: &str,
        from: &[u8],
        end: Option<Vec<u8>>,
    ) -> Box<dyn Iterator<Item = Result<Row, StoreError>> + 'a> {
        match self {
            Database::Rocks(rocks) => Box::new(rocks.scan(family, from, end)),
            Database::Memory(memory) => {
                Box::new(memory.scan(family, from, end.as_deref()).into_iter().map(Ok))
            }
        }
    }

    /// A cursor for reads that jump, up to `end` (exclusive; none: to the end).
    pub(crate) fn cursor(&self, family: &'static str, end: Option<Vec<u8>>) -> Cursor<'_> {
        match self {
            Database::Rocks(rocks) => {
                let of = rocks.family(family);
                Cursor::Rocks(rocks.db.raw_iterator_cf_opt(of, until(end)))
            }
            Database::Memory(memory) => Cursor::Memory(memory, family),
        }
    }

    /// Writes all memory to disk and waits for it.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        match self {
            Database::Rocks(rocks) => rocks.flush(),
            Database::Memory(memory) => {
                memory.flush();
                Ok(())
            }
        }
    }

    /// How many keys a column family holds, approximately.
    pub(crate) fn keys(&self, family: &str) -> Result<u64, StoreError> {
        match self {
            Database::Rocks(rocks) => rocks.number(family, "rocksdb.estimate-num-keys"),
            Database::Memory(memory) => Ok(memory.keys(family)),
        }
    }

    /// Bytes on disk and in write buffers, approximately; of one family, or of all.
    pub(crate) fn size_bytes(&self, family: Option<&str>) -> Result<u64, StoreError> {
        match self {
            Database::Rocks(rocks) => {
                let properties =
                    ["rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables"];
                let numbers = rocks
                    .families
                    .iter()
                    .filter(|name| family.is_none_or(|family| family == **name))
                    .flat_map(|family| properties.map(|property| rocks.number(family, property)));
                numbers.sum()
            }
            Database::Memory(memory) => Ok(memory.bytes(family)),
        }
    }

    /// Rewrites a whole column family now.
    pub(crate) fn compact(&self, family: &str) {
        if let Database::Rocks(rocks) = self {
            rocks.db.compact_range_cf(rocks.family(family), None::<&[u8]>, None::<&[u8]>);
        }
    }

    /// A number that RocksDB tells of itself, over all column families.
    #[cfg(test)]
    pub(crate) fn property(&self, name: &str) -> u64 {
        match self {
            Database::Rocks(rocks) => {
                let numbers = rocks.families.iter().map(|family| rocks.number(family, name));
                numbers.sum::<Result<u64, StoreError>>().expect("readable")
            }
            Database::Memory(_) => 0,
        }
    }
}

impl RocksDatabase {
    /// A column family that the database was opened with.
    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("the database was opened with every family that is used")
    }

    fn write(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let mut writes = WriteBatch::default();
        for (family, write) in batch.writes() {
            let family = self.family(family);
            match write {
                Write::Put(key, value) => writes.put_cf(family, key, value),
                Write::Delete(key) => writes.delete_cf(family, key),
                Write::DeleteRange(from, end) => writes.delete_range_cf(family, from, end),
            }
        }
        let mut options = WriteOptions::default();
        match self.durability {
            Durability::Changelog => options.disable_wal(true),
            Durability::Synced => options.set_sync(true),
        }
        self.db.write_opt(writes, &options).map_err(from_rocksdb)
    }

    fn scan<'a>(
        &'a self,
        family: &str,
        from: &[u8],
        end: Option<Vec<u8>>,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + use<'a> {
        let mode = rocksdb::IteratorMode::From(from, rocksdb::Direction::Forward);
        self.db
            .iterator_cf_opt(self.family(family), until(end), mode)
            .map(|row| row.map_err(from_rocksdb))
    }

    fn flush(&self) -> Result<(), StoreError> {
        let families: Vec<&ColumnFamily> =
            self.families.iter().map(|name| self.family(name)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &options).map_err(from_rocksdb)
    }

    /// A number that RocksDB tells of a column family.
    fn number(&self, family: &str, property: &str) -> Result<u64, StoreError> {
        let number = self.db.property_int_value_cf(self.family(family), property);
        number.map(Option::unwrap_or_default).map_err(from_rocksdb)
    }
}

/// Reads that end before a key.
fn until(end: Option<Vec<u8>>) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(end) = end {
        options.set_iterate_upper_bound(end);
    }
    options
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Database");
        if let Database::Rocks(rocks) = self {
            shown.field("dir", &rocks.db.path());
        }
        shown.finish_non_exhaustive()
    }
}

/// A database whose table of contents is gone is damaged; RocksDB would make a new one in its place, and delete what is left.
fn check_manifest(dir: &Path) -> Result<(), StoreError> {
    let lost =
        |what: &str| Err(StoreError::Corrupt(format!("{} has lost its {what}", dir.display())));
    match std::fs::read_to_string(dir.join("CURRENT")) {
        Ok(name) if !dir.join(name.trim_end()).exists() => lost(name.trim_end()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && has_tables(dir) => {
            lost("file CURRENT")
        }
        // Whatever else is wrong, RocksDB tells.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether there are files of a database.
fn has_tables(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("MANIFEST-") || name.ends_with(".sst")
    })
}

fn database_options(buffers: &WriteBufferManager, durability: Durability) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(durability == Durability::Changelog);
    options.set_write_buffer_manager(buffers);
    // Bounds the table readers of many small files; RocksDB's default keeps every file open.
    options.set_max_open_files(256);
    options.set_max_background_jobs(2);
    // RocksDB's own diary: problems only, and little of it.
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(1 << 20);
    options.set_keep_log_file_num(2);
    options
}

fn family_options(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Index and filter blocks count against the budget too.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(10.0, false);
    table.set_format_version(5);
    table.set_block_size(16 << 10);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Lz4hc);
    // A full buffer flushes all families: it bounds what a crash makes us replay.
    options.set_write_buffer_size(16 << 20);
    options
}
