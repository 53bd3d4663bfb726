//! The state of one partition, in one RocksDB database.
//!
//! A batch works on an overlay in memory. [`Store::staged`] is what it changes, as changelog records; once the log has them,
//! [`Store::commit`] writes the same rows with their changelog positions in one atomic batch, and [`Store::discard`] forgets
//! them all. There is no write-ahead log: after a crash the database is at an earlier commit, whole, and
//! [`Store::restore`] replays the changelog from the positions found there.
//!
//! Timers are derived from hot rows, so they are in no changelog.

mod ahead;
mod identity;
mod reads;
mod restore;
mod verify;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bellwether_core::account::{self, Account, Changed, Row};
use bellwether_core::cohort::{CohortKey, Cohorts};
use bellwether_core::history::History;
use bellwether_core::id::AccountId;
use bellwether_core::rolling::Rolling;
use bellwether_core::state::{Clock, State, seen_hour};
use bellwether_core::time::Millis;
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::cache::{AccountCache, AccountMemory, Loaded};
use crate::database::{Database, Durability, Shared};
use crate::error::StoreError;
use crate::format::{self, Format};
use crate::kill_point;
use crate::rows::{self, AccountRow};
use crate::seen::{self, Horizon, Seen};
use crate::timers::{self, Timers};
use ahead::Ahead;
use identity::check_identity;
pub use reads::{AccountIds, StoreReader};
use reads::{load, load_cohorts};
use restore::Restoring;
pub use verify::{Contents, RowsSize};

const ROWS: &str = "rows";
const META: &str = "meta";
/// `default` is RocksDB's own and stays empty.
const FAMILIES: &[&str] = &["default", ROWS, timers::FAMILY, seen::FAMILY, META];

const PROGRESS_KEY: &[u8] = b"progress";
/// When the last batch was written: milliseconds since the epoch, little-endian. Not there where nobody said.
const WRITTEN_KEY: &[u8] = b"written";

/// What an account of the batch takes beside its rows, and how much of its memory its rows come to: they are packed, but there more
/// than once, as changes, as records on their way and as writes.
const TOUCHED_BYTES: usize = 512;
const ROWS_SHARE: usize = 4;
/// Accounts for which a batch always has room.
const TOUCHED_MIN: usize = 64;

/// The changelog that a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Account rows and the clock; compacted by key.
    State,
    /// Ids of recent events, one record per commit; kept for the time in which duplicates are looked for.
    Seen,
}

/// One changelog record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it goes.
    pub stream: Stream,
    /// The record's key.
    pub key: Vec<u8>,
    /// The record's value; none deletes the row.
    pub value: Option<Vec<u8>>,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Memory shared with the process's other databases.
    pub shared: Shared,
    /// Memory for whole accounts, apart from those of the batch; shared with the process's other stores.
    pub accounts: AccountMemory,
    /// The format in which rows are written; every format is read.
    pub format: Format,
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Accounts that have had an event.
    pub accounts: u64,
    /// Ids remembered, approximately; those that no longer count are dropped in time.
    pub seen: u64,
    /// Bytes on disk and in write buffers, approximately.
    pub bytes: u64,
    /// Those of them that the ids take.
    pub seen_bytes: u64,
}

/// Written with every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Progress {
    /// The next offset of [`Stream::State`] to apply.
    state: Option<i64>,
    /// The next offset of [`Stream::Seen`] to apply.
    seen: Option<i64>,
    /// Accounts with a hot row.
    accounts: u64,
}

impl Progress {
    fn advance(&mut self, positions: &[(Stream, i64)]) {
        for (stream, position) in positions {
            match stream {
                Stream::State => self.state = Some(*position),
                Stream::Seen => self.seen = Some(*position),
            }
        }
    }

    fn write(&self, batch: &mut Batch<'_>) {
        batch.put(META, PROGRESS_KEY, rows::encode(self));
    }
}

/// Where an account of the batch is.
#[derive(Debug)]
enum Place {
    /// It has no rows.
    Nowhere,
    /// With the caller.
    Out,
    /// Here.
    Here(Box<Account>),
}

/// An account that the batch has touched.
#[derive(Debug)]
struct Touched {
    place: Place,
    /// Whether the row of its events is in the database: the hot one, or that of the rolling detector.
    counted: bool,
    /// Whether any row is in the database.
    exists: bool,
    /// Whether the row of recent sums is.
    recent: bool,
    /// Bytes of its history, once that was looked at.
    unfolded: usize,
    /// Whether only recent sums are written, as was decided when the batch was staged.
    alone: bool,
    /// When its timer is due by the database.
    due_committed: Option<Millis>,
    /// When its timer is due in the batch.
    due: Option<Millis>,
    /// Rows to write; after a removal every row that was there is among them.
    changed: Changed,
    /// Set once the account was removed: which rows were written since then, for an account that begins anew.
    removed: Option<account::Rows>,
}

/// Rows of the batch, each once, in no order.
#[derive(Default)]
struct Rows(Vec<Change>);

impl Rows {
    fn push(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.0.push(Change { stream: Stream::State, key, value });
    }
}

impl Touched {
    fn new(loaded: Option<Loaded>) -> Touched {
        let due = loaded.as_ref().and_then(|loaded| loaded.account.due());
        let (exists, counted) = (loaded.is_some(), loaded.as_ref().is_some_and(|l| l.counted));
        let rolling = loaded.as_ref().and_then(|loaded| loaded.account.rolling.as_deref());
        let recent = rolling.is_some_and(|rolling| rolling.kept.recent);
        let place = loaded.map_or(Place::Nowhere, |loaded| Place::Here(loaded.account));
        let changed = Changed::default();
        let due_committed = due;
        let (unfolded, alone, removed) = (0, false, None);
        Touched {
            place,
            counted,
            exists,
            recent,
            unfolded,
            alone,
            due_committed,
            due,
            changed,
            removed,
        }
    }

    /// Whether the database has the row of its events once the batch is written.
    fn will_count(&self) -> bool {
        let written = self.removed.unwrap_or(self.changed.rows);
        let counts = written.has(Row::Hot) || written.has(Row::Rolling);
        counts || self.removed.is_none() && self.counted
    }

    /// Encodes a history that changed: from now on its rows say what it says.
    fn write_history(&mut self, format: Format) {
        let is_written = self.removed.unwrap_or(self.changed.rows).has(Row::History);
        let Place::Here(account) = &mut self.place else { return };
        if is_written {
            let history: &History = &account.history;
            let rings = format::encode(history, format).into();
            let older = match history.older.is_empty() {
                true => Box::default(),
                false => rows::encode(&history.older).into(),
            };
            account.history.written(reads::history(rings, older));
        }
    }

    /// Adds the changed rows; those of a removed account that were not written anew are deleted.
    fn stage(&mut self, id: &AccountId, format: Format, rows: &mut Rows) {
        self.alone = false;
        self.write_history(format);
        let account = match &self.place {
            Place::Here(account) => Some(account.as_ref()),
            Place::Nowhere | Place::Out => None,
        };
        for row in self.changed.rows.iter() {
            let account = account.filter(|_| self.removed.is_none_or(|written| written.has(row)));
            if let Some(recent) = recent_sums(account, row, format) {
                self.alone = true;
                let value = format::encode(&recent.recent(), format);
                rows.push(AccountRow::Recent.key(id), Some(value));
                continue;
            }
            let value = account.and_then(|account| encode_row(account, row, format));
            rows.push(AccountRow::from(row).key(id), value);
            if row == Row::Rolling && self.recent {
                rows.push(AccountRow::Recent.key(id), None);
            }
            if row == Row::History {
                let rows_of = account.and_then(|account| account.history.rows());
                let older = rows_of.map(|[_, older]| older.to_vec());
                let older = older.filter(|older| !older.is_empty());
                // Older history never becomes none, unless the account is removed.
                if older.is_some() || self.removed.is_some() {
                    rows.push(AccountRow::Older.key(id), older);
                }
            }
        }
        for key in &self.changed.watched {
            let row = account.and_then(|account| account.watched.get(key));
            rows.push(AccountRow::Watched(*key).key(id), row.map(rows::encode));
        }
        for key in &self.changed.activity {
            let row = account.and_then(|account| account.activity.get(key));
            rows.push(
                AccountRow::Activity(key.clone()).key(id),
                row.map(|row| format::encode(row, format)),
            );
        }
    }
}

/// The sums of which only what changed is to be written.
fn recent_sums(account: Option<&Account>, row: Row, format: Format) -> Option<&Rolling> {
    let sums = account.filter(|_| row == Row::Rolling && format.has_recent())?;
    sums.rolling.as_deref().filter(|rolling| rolling.is_recent())
}

/// A row as it is stored; none where there is nothing in it.
fn encode_row(account: &Account, row: Row, format: Format) -> Option<Vec<u8>> {
    fn unless_empty<T: Serialize>(all: &[T]) -> Option<Vec<u8>> {
        (!all.is_empty()).then(|| rows::encode(&all))
    }
    fn packed<T>(all: &Vec<T>, format: Format) -> Option<Vec<u8>>
    where
        Vec<T>: format::Row,
    {
        (!all.is_empty()).then(|| format::encode(all, format))
    }
    match row {
        Row::Hot => Some(format::encode(&account.hot, format)),
        Row::History => account.history.rows().map(|[rings, _]| rings.to_vec()),
        Row::Profile => account.profile.as_ref().map(|of| rows::encode_profile(of, format)),
        Row::Own => account.own.as_ref().map(rows::encode),
        Row::Standing => rows::encode_lines(&account.standing, format),
        Row::Raised => packed(&account.raised, format),
        Row::Lives => packed(&account.lives, format),
        Row::Rolling => account.rolling.as_deref().map(|row| format::encode(row, format)),
        Row::Shadow => account.shadow.as_ref().map(rows::encode),
        Row::Predicted => account.predicted.as_deref().map(rows::encode),
        Row::Masked => unless_empty(&account.masked),
        Row::Changes => packed(&account.changes, format),
        Row::Forecast => {
            let forecast = Some(&account.forecast);
            let forecast = forecast.filter(|forecast| !forecast.limits.is_empty());
            forecast.map(|forecast| format::encode(forecast, format))
        }
    }
}

/// The state of one partition.
pub struct Store {
    database: Arc<Database>,
    cache: AccountCache,
    ahead: Ahead,
    touched: HashMap<AccountId, Touched>,
    /// What the batch takes in memory until it is written, about.
    touched_bytes: usize,
    timers: Timers,
    seen: Seen,
    clock: Clock,
    clock_committed: Clock,
    cohorts: Cohorts,
    progress: Progress,
    /// The time as it was last told, or as it was found.
    written: Option<Millis>,
    /// The batch as changelog records, from [`Store::staged`] until the batch changes again.
    staged: Option<Vec<Change>>,
    restoring: Option<Restoring>,
    format: Format,
    poisoned: bool,
}

impl Store {
    /// Opens the state of a partition of an application, or creates it empty (then no stream has a position).
    ///
    /// # Errors
    /// Where [`StoreError::is_rebuildable`], [`Store::destroy`] and opening again gives an empty store to restore into.
    pub fn open(
        dir: &Path,
        application: &str,
        partition: i32,
        options: &StoreOptions,
    ) -> Result<Store, StoreError> {
        let horizon = Horizon::new();
        let database = Database::open_with(
            dir,
            &options.shared,
            FAMILIES,
            Durability::Changelog,
            |family, options| {
                if family == seen::FAMILY {
                    horizon.filter(options);
                }
            },
        )?;
        check_identity(&database, dir, &(application.to_owned(), partition))?;
        let progress = match database.get(META, PROGRESS_KEY)? {
            Some(value) => rows::decode("the progress row", &value)?,
            None => Progress::default(),
        };
        let written = database.get(META, WRITTEN_KEY)?.and_then(|value| value.try_into().ok());
        let written = written.map(|bytes| Millis(i64::from_le_bytes(bytes)));
        let clock = match database.get(ROWS, rows::CLOCK_KEY)? {
            Some(value) => format::decode("the clock row", &value)?,
            None => Clock::default(),
        };
        let mut cohorts = load_cohorts(&database)?;
        cohorts.set_for_older(!options.format.has_plans());
        cohorts.set_unranked(!options.format.has_predicted());
        Ok(Store {
            cohorts,
            database: Arc::new(database),
            cache: AccountCache::new(&options.accounts),
            ahead: Ahead::new(),
            touched: HashMap::new(),
            touched_bytes: 0,
            timers: Timers::new(),
            seen: Seen::new(horizon),
            clock,
            clock_committed: clock,
            progress,
            written,
            staged: None,
            restoring: None,
            format: options.format,
            poisoned: false,
        })
    }

    /// Wipes a database that nobody has open. A directory that is not there is fine.
    pub fn destroy(dir: &Path, options: &StoreOptions) -> Result<(), StoreError> {
        Database::destroy(dir, &options.shared)
    }

    /// Writes everything to disk and closes. (A store that is merely dropped does the same, but cannot say that it failed.)
    pub fn close(mut self) -> Result<(), StoreError> {
        self.flush()
    }

    /// Writes everything that is committed to disk. RocksDB does so by itself whenever write buffers are full.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.check()?;
        kill_point::pass("before-flush");
        let flushed = self.database.flush();
        self.poisoned = flushed.is_err();
        flushed
    }

    /// Tells the time, which goes with what is written from now on.
    pub fn set_time(&mut self, now: Millis) {
        self.written = Some(now);
    }

    /// When the last batch was written, by the clock of whoever wrote it; none where nobody said. What a compacted changelog has
    /// deleted since then may have left no trace there, once its tombstones are gone too.
    #[must_use]
    pub fn written(&self) -> Option<Millis> {
        self.written
    }

    /// Rewrites everything on disk without what is outdated, as RocksDB does in its own time: to see what it comes to at rest.
    pub fn compact(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        for family in FAMILIES {
            self.database.compact(family);
        }
        Ok(())
    }

    /// The offset from which a changelog has to be replayed; none: from its beginning.
    #[must_use]
    pub fn position(&self, stream: Stream) -> Option<i64> {
        match stream {
            Stream::State => self.progress.state,
            Stream::Seen => self.progress.seen,
        }
    }

    /// What the batch changes: account rows and the clock by ascending key, then at most one record of seen ids.
    pub fn staged(&mut self) -> Result<&[Change], StoreError> {
        self.check()?;
        if self.staged.is_none() {
            self.staged = Some(self.stage()?);
        }
        Ok(self.staged.as_deref().unwrap_or_default())
    }

    /// Writes the batch together with the changelog positions that it brings this store to (streams not named stay). After
    /// an error the store is poisoned: drop it, open it again and restore the tail of the changelog.
    pub fn commit(&mut self, positions: &[(Stream, i64)]) -> Result<(), StoreError> {
        self.check()?;
        let written = self.write(positions);
        self.poisoned = written.is_err();
        written
    }

    /// Forgets the batch, and every account that it touched, so that none is kept that the core has half changed.
    pub fn discard(&mut self) {
        for id in self.touched.keys() {
            self.cache.forget(id);
        }
        self.touched.clear();
        self.ahead.clear();
        self.touched_bytes = 0;
        self.seen.discard();
        self.timers.reset();
        self.clock = self.clock_committed;
        self.cohorts.discard();
        self.staged = None;
    }

    /// An account as committed; the batch is not looked at.
    pub fn get(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        self.check()?;
        reads::whole(&self.database, id)
    }

    /// Gives every account as committed, by ascending id: one pass over all rows, however few an account has.
    ///
    /// # Errors
    /// Where the disk fails or rows are damaged; the accounts before were given.
    pub fn each_account(&self, each: impl FnMut(Account)) -> Result<(), StoreError> {
        self.check()?;
        reads::each_account(&self.database, each)
    }

    /// Reads committed accounts on other threads, as long as this store is open.
    #[must_use]
    pub fn reader(&self) -> StoreReader {
        StoreReader::new(&self.database)
    }

    /// How many rows an account has, as committed.
    pub fn rows(&self, id: &AccountId) -> Result<usize, StoreError> {
        self.check()?;
        let (from, end) = (rows::account_prefix(id), rows::account_end(id));
        self.database.scan(ROWS, &from, Some(end)).try_fold(0, |rows, row| row.map(|_| rows + 1))
    }

    /// The ids of all committed accounts, ascending.
    pub fn accounts(&self) -> Result<AccountIds<'_>, StoreError> {
        self.check()?;
        Ok(AccountIds::new(&self.database))
    }

    /// The ids of committed accounts that follow one, ascending; from the first one on without it.
    pub fn accounts_after(&self, after: Option<&AccountId>) -> Result<AccountIds<'_>, StoreError> {
        self.check()?;
        Ok(AccountIds::new(&self.database).after(after))
    }

    /// What the batch takes in memory until it is written, about: to be bounded by who fills it.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.touched_bytes
    }

    /// How many committed timers are due at or before `until`; beyond `timers_max` they are not counted.
    pub fn due(&self, until: Millis, timers_max: usize) -> Result<usize, StoreError> {
        self.check()?;
        self.timers.due(&self.database, until, timers_max)
    }

    /// How much is committed.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        self.check()?;
        Ok(Stats {
            accounts: self.progress.accounts,
            seen: self.database.keys(seen::FAMILY)?,
            bytes: self.database.size_bytes(None)?,
            seen_bytes: self.database.size_bytes(Some(seen::FAMILY))?,
        })
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.poisoned { Err(StoreError::Poisoned) } else { Ok(()) }
    }

    /// The entry of an account in the batch; read from cache or database where it is new there.
    fn touch(&mut self, id: &AccountId) -> Result<&mut Touched, StoreError> {
        match self.touched.entry_ref(id) {
            EntryRef::Occupied(known) => Ok(known.into_mut()),
            EntryRef::Vacant(new) => {
                self.ahead.touch();
                let loaded = match self.cache.take(id) {
                    Some(loaded) => Some(loaded),
                    None => match self.ahead.take(id) {
                        Some(read) => read,
                        None => load(&self.database, id)?,
                    },
                };
                // An account of the cache is weighed there; one that was read, or is new, is not.
                let weight = |loaded: &Loaded| (loaded.beside, loaded.bytes);
                let (own, known) = loaded.as_ref().map_or((size_of::<Account>(), 0), weight);
                self.touched_bytes += TOUCHED_BYTES + own + own.max(known) / ROWS_SHARE;
                Ok(new.insert_with_key(id.clone(), Touched::new(loaded)))
            }
        }
    }

    /// The cohorts as they stand.
    #[must_use]
    pub fn known_cohorts(&self) -> &Cohorts {
        &self.cohorts
    }

    fn stage(&mut self) -> Result<Vec<Change>, StoreError> {
        let mut rows = Rows::default();
        for (id, touched) in &mut self.touched {
            if matches!(touched.place, Place::Out) {
                return Err(StoreError::Taken(id.clone()));
            }
            touched.stage(id, self.format, &mut rows);
        }
        if self.clock != self.clock_committed {
            rows.push(rows::CLOCK_KEY.to_vec(), Some(format::encode(&self.clock, self.format)));
        }
        for (name, key, row) in self.cohorts.changed() {
            // Nothing changes them where the format has them not.
            debug_assert!(self.format.has_plans() || !matches!(key, CohortKey::Plans(_)));
            rows.push(rows::cohort_key(name, key), row.as_ref().map(rows::encode_cohort));
        }
        for (id, entry) in self.cohorts.calendar().changed() {
            rows.push(rows::calendar_key(id), entry.map(rows::encode));
        }
        for (id, promotion) in self.cohorts.promotions().changed() {
            rows.push(rows::promotion_key(id), promotion.map(rows::encode));
        }
        for (id, challenger) in self.cohorts.challengers().changed() {
            rows.push(rows::challenger_key(id), challenger.map(rows::encode));
        }
        let mut changes = rows.0;
        // No key comes twice, so this is their one order.
        changes.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let seen = self.seen.staged().map(|record| Change {
            stream: Stream::Seen,
            key: record.key(),
            value: Some(record.encode(self.format)),
        });
        changes.extend(seen);
        Ok(changes)
    }

    fn write_time(&self, batch: &mut Batch<'_>) {
        if let Some(now) = self.written {
            batch.put(META, WRITTEN_KEY, now.0.to_le_bytes());
        }
    }

    fn write(&mut self, positions: &[(Stream, i64)]) -> Result<(), StoreError> {
        let staged = match self.staged.take() {
            Some(staged) => staged,
            None => self.stage()?,
        };
        let mut batch = Batch::default();
        for change in staged.iter().filter(|change| change.stream == Stream::State) {
            write_row(&mut batch, &change.key, change.value.as_deref());
        }
        if let Some(record) = self.seen.staged() {
            record.write(&mut batch);
        }
        let mut progress = self.progress;
        progress.advance(positions);
        for (id, touched) in &self.touched {
            write_timer(&mut batch, id, touched.due_committed, touched.due);
            progress.accounts += u64::from(touched.will_count());
            progress.accounts = progress.accounts.saturating_sub(u64::from(touched.counted));
        }
        progress.write(&mut batch);
        self.write_time(&mut batch);
        self.database.write(batch)?;
        kill_point::pass("store-written");

        self.progress = progress;
        self.clock_committed = self.clock;
        self.cohorts.settle();
        self.timers.committed();
        self.seen.discard();
        self.touched_bytes = 0;
        let room = self.touched.len().max(TOUCHED_MIN);
        for (id, touched) in self.touched.drain() {
            let counted = touched.will_count();
            if let Place::Here(mut account) = touched.place {
                account.history.fold();
                if touched.changed.rows.has(Row::Rolling) {
                    account.rolling.iter_mut().for_each(|rolling| rolling.written(touched.alone));
                }
                self.cache.insert(id, account, counted);
            }
        }
        // A small batch after a large one would go through all of its room.
        self.touched.shrink_to(room);
        Ok(())
    }
}

impl State for Store {
    type Error = StoreError;

    fn take(&mut self, id: &AccountId) -> Result<Option<Box<Account>>, StoreError> {
        self.check()?;
        self.staged = None;
        let touched = self.touch(id)?;
        match std::mem::replace(&mut touched.place, Place::Out) {
            Place::Here(account) => Ok(Some(account)),
            Place::Nowhere => {
                touched.place = Place::Nowhere;
                Ok(None)
            }
            Place::Out => Err(StoreError::Taken(id.clone())),
        }
    }

    /// An account that has no rows and changes none is not kept.
    fn put(&mut self, mut account: Box<Account>) -> Result<(), StoreError> {
        self.check()?;
        self.staged = None;
        reads::check_history(&account)?;
        let id = account.id.clone();
        let is_blank = account.is_blank();
        let changed = std::mem::take(&mut account.changed);
        let unfolded = account.unfolded_bytes();
        let touched = self.touch(&id)?;
        let grown = unfolded.saturating_sub(touched.unfolded);
        touched.unfolded += grown;
        if let Some(written) = &mut touched.removed {
            *written = written.union(changed.rows);
        }
        touched.changed.extend(changed);
        if !touched.exists && !touched.changed.any() || touched.removed.is_some() && is_blank {
            touched.place = Place::Nowhere;
            return Ok(());
        }
        // The timer follows the hot row as it is stored.
        let due =
            if touched.changed.rows.has(Row::Hot) { account.due() } else { touched.due_committed };
        let before = std::mem::replace(&mut touched.due, due);
        touched.place = Place::Here(account);
        self.timers.change(&id, before, due);
        self.touched_bytes += grown;
        Ok(())
    }

    fn remove(&mut self, account: Box<Account>) -> Result<(), StoreError> {
        self.check()?;
        reads::check_history(&account)?;
        self.staged = None;
        let touched = self.touch(&account.id)?;
        touched.place = Place::Nowhere;
        let before = touched.due.take();
        if touched.exists {
            touched.removed = Some(account::Rows::default());
            touched.changed.extend(account.changed);
            touched.changed.activity.extend(account.activity.into_keys());
            touched.changed.watched.extend(account.watched.into_keys());
            // Few accounts have a row of the rolling detector, and a deletion of what is not there is a record, too.
            let rolling = touched.changed.rows.has(Row::Rolling) || account.rolling.is_some();
            let all = account::Rows::all();
            touched.changed.rows = if rolling { all } else { all.without(Row::Rolling) };
        } else {
            touched.changed = Changed::default();
        }
        self.timers.change(&account.id, before, None);
        Ok(())
    }

    fn next_due(&mut self, until: Millis) -> Result<Option<(Millis, AccountId)>, StoreError> {
        self.check()?;
        let touched = &self.touched;
        self.timers.first(until, &self.database, |(due, id)| {
            touched.get(id).is_none_or(|touched| touched.due == Some(*due))
        })
    }

    fn remember(&mut self, hash: u64, at: Millis, since: Millis) -> Result<bool, StoreError> {
        self.check()?;
        self.staged = None;
        self.seen.remember(&self.database, hash, seen_hour(at), seen_hour(since))
    }

    fn mark(&mut self, hash: u64, at: Millis) -> Result<(), StoreError> {
        self.check()?;
        self.staged = None;
        self.seen.mark(hash, seen_hour(at));
        Ok(())
    }

    fn marked(&mut self, hash: u64) -> Result<Option<i64>, StoreError> {
        self.check()?;
        self.seen.marked(&self.database, hash)
    }

    fn cohorts(&mut self) -> &mut Cohorts {
        self.staged = None;
        &mut self.cohorts
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn set_clock(&mut self, clock: Clock) {
        self.staged = None;
        self.clock = clock;
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Store")
            .field("database", &self.database)
            .field("progress", &self.progress)
            .field("touched", &self.touched.len())
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

/// The clock of a partition, where this is its row in the state changelog.
pub fn clock_row(key: &[u8], value: &[u8]) -> Result<Option<Clock>, StoreError> {
    if key != rows::CLOCK_KEY {
        return Ok(None);
    }
    format::decode("the clock row", value).map(Some)
}

fn write_row<'a>(batch: &mut Batch<'a>, key: &'a [u8], value: Option<&'a [u8]>) {
    match value {
        Some(value) => batch.put_borrowed(ROWS, key, value),
        None => batch.delete_borrowed(ROWS, key),
    }
}

fn write_timer(
    batch: &mut Batch<'_>,
    id: &AccountId,
    before: Option<Millis>,
    after: Option<Millis>,
) {
    if before == after {
        return;
    }
    if let Some(before) = before {
        batch.delete(timers::FAMILY, timers::key(before, id));
    }
    if let Some(after) = after {
        batch.put(timers::FAMILY, timers::key(after, id), []);
    }
}

#[cfg(test)]
#[path = "task/tests.rs"]
mod tests;
