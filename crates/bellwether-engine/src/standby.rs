//! Warm copies of the state of partitions that other processes own, so that a take-over restores only the last few records.
//!
//! A thread of its own follows the changelogs, group-less: it takes nothing from the workers and cannot disturb them. What it has
//! read is committed state, whole or not: whoever takes a partition over reads its changelogs to their ends first, as always.
//!
//! # Invariants
//! - A directory is given up before the worker of this process that is assigned its partition opens it.
//! - No failure here ends the process: a copy that cannot be kept is a slower take-over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_core::time::Millis;
use bellwether_store::error::StoreError;
use bellwether_store::task::{Store, StoreOptions, Stream};

use crate::clock::{Clock, SystemClock};
use crate::log::{LogError, Read, Record, Remedy, Topic};
use crate::topics::TopicNames;
use crate::worker::{Shared, open_current};

/// The pause when there is nothing new.
const PAUSE: Duration = Duration::from_millis(200);
/// The pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// The longest sleep in which a request to stop goes unnoticed.
const NAP: Duration = Duration::from_millis(20);

/// Which partitions the workers of this process own: these have no standby here.
#[derive(Debug, Clone, Default)]
pub struct Owned(Arc<Mutex<BTreeSet<(i32, u32)>>>);

impl Owned {
    /// A worker is going to open a partition.
    pub(crate) fn claim(&self, partition: i32, worker: u32) {
        self.locked().insert((partition, worker));
    }

    /// A worker has closed a partition.
    pub(crate) fn release(&self, partition: i32, worker: u32) {
        self.locked().remove(&(partition, worker));
    }

    fn contains(&self, partition: i32) -> bool {
        self.locked().range((partition, 0)..=(partition, u32::MAX)).next().is_some()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeSet<(i32, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Committed records, read without a group.
pub trait Follow: Send {
    /// How many partitions a topic has.
    fn partitions(&mut self, topic: &str) -> Result<i32, LogError>;

    /// As [`crate::log::Log::read`], but no further than what can be read now: it waits for no transaction.
    fn follow(
        &mut self,
        topic: &Topic,
        partition: i32,
        from: i64,
        records_max: usize,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<Read, LogError>;
}

/// Opens a connection; called again after a failure.
pub type OpenFollow = Box<dyn FnMut() -> Result<Box<dyn Follow>, LogError> + Send>;

/// What a standby is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names this application in state directories.
    pub application: String,
    /// The topics.
    pub topics: TopicNames,
    /// Where the state stores lie; one directory per partition.
    pub state_dir: PathBuf,
    /// Options of the stores.
    pub store: StoreOptions,
    /// Changelog records that are applied before the next partition has its turn.
    pub records_max: usize,
}

/// Why a copy cannot be kept at present.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("log: {0}")]
    Log(#[from] LogError),
    #[error("standby of partition {partition}: {error}")]
    Store { partition: i32, error: StoreError },
}

/// Keeps the copies of one process.
pub struct Standby {
    settings: Settings,
    shared: Shared,
    clock: Arc<dyn Clock>,
    open: OpenFollow,
    source: Option<(Box<dyn Follow>, i32)>,
    copies: BTreeMap<i32, Store>,
}

impl std::fmt::Debug for Standby {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Standby")
            .field("copies", &self.copies.keys())
            .finish_non_exhaustive()
    }
}

impl Standby {
    /// A standby that has not started.
    #[must_use]
    pub fn new(settings: Settings, shared: Shared, open: OpenFollow) -> Standby {
        let clock = Arc::new(SystemClock);
        Standby { settings, shared, clock, open, source: None, copies: BTreeMap::new() }
    }

    /// Lets another clock decide the time.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Standby {
        self.clock = clock;
        self
    }

    /// Runs until the process stops.
    pub fn run(&mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let pause = self.turn();
            let until = self.clock.elapsed().saturating_add(pause);
            while self.clock.elapsed() < until && !self.shared.stop.load(Ordering::Relaxed) {
                self.yield_to_workers();
                self.clock.sleep(NAP);
            }
        }
        self.close();
    }

    /// One look at every partition; how long to pause after it.
    pub fn turn(&mut self) -> Duration {
        match self.follow_all() {
            Ok(true) => Duration::ZERO,
            Ok(false) => PAUSE,
            Err(failure) => {
                tracing::warn!(%failure, "a standby copy is not kept up at present");
                self.source = None;
                if let Failure::Store { partition, error } = failure {
                    self.drop_copy(partition, &error);
                }
                RETRY_PAUSE
            }
        }
    }

    /// Closes all copies.
    pub fn close(&mut self) {
        for partition in self.copies.keys().copied().collect::<Vec<_>>() {
            self.give_up(partition);
        }
        self.source = None;
    }

    /// Gives up what workers of this process have been assigned; [`Standby::run`] does so all the time.
    pub fn yield_to_workers(&mut self) {
        let wanted: Vec<i32> = self
            .copies
            .keys()
            .copied()
            .filter(|partition| self.shared.owned.contains(*partition))
            .collect();
        for partition in wanted {
            self.give_up(partition);
        }
    }

    fn give_up(&mut self, partition: i32) {
        if let Some(store) = self.copies.remove(&partition)
            && let Err(error) = store.close()
        {
            // Nothing is lost: what was not written is read again.
            tracing::warn!(partition, %error, "closing a standby copy failed");
        }
        self.shared.metrics.drop_standby(partition);
    }

    /// A copy that failed is opened again later, and built anew where it is damaged.
    fn drop_copy(&mut self, partition: i32, error: &StoreError) {
        drop(self.copies.remove(&partition));
        self.shared.metrics.drop_standby(partition);
        if error.is_rebuildable()
            && let Err(error) = Store::destroy(&self.dir(partition), &self.settings.store)
        {
            tracing::warn!(partition, %error, "a damaged standby copy cannot be wiped");
        }
    }

    /// Whether there is more to read.
    fn follow_all(&mut self) -> Result<bool, Failure> {
        let (mut source, partitions) = match self.source.take() {
            Some(source) => source,
            None => {
                let mut source = (self.open)()?;
                let partitions = source.partitions(&self.settings.topics.state_changelog)?;
                (source, partitions)
            }
        };
        let mut more = false;
        for partition in 0..partitions {
            self.yield_to_workers();
            if !self.shared.owned.contains(partition) {
                more |= self.follow_one(source.as_mut(), partition)?;
            }
        }
        self.source = Some((source, partitions));
        Ok(more)
    }

    /// Whether there is more to read of a partition.
    fn follow_one(&mut self, source: &mut dyn Follow, partition: i32) -> Result<bool, Failure> {
        let failed = |error| Failure::Store { partition, error };
        if !self.copies.contains_key(&partition) {
            let Settings { application, store: options, .. } = &self.settings;
            let now = Millis(self.clock.now_ms());
            match open_current(&self.dir(partition), application, partition, options, now) {
                Ok(store) => drop(self.copies.insert(partition, store)),
                // A worker that gave the partition up has not closed it yet, or one has it already.
                Err(StoreError::InUse(_)) => return Ok(true),
                Err(error) => return Err(failed(error)),
            }
        }
        let Some(store) = self.copies.get_mut(&partition) else { return Ok(false) };
        store.set_time(Millis(self.clock.now_ms()));
        let topics = &self.settings.topics;
        let streams =
            [(Stream::State, &topics.state_changelog), (Stream::Seen, &topics.seen_changelog)];
        let mut behind = 0;
        for (stream, name) in streams {
            let topic: Topic = name.as_str().into();
            let from = store.position(stream).unwrap_or(0);
            let read =
                apply(store, source, stream, &topic, partition, from, self.settings.records_max)?;
            if read.next < from {
                let ahead =
                    format!("it is at offset {from} of {name}, which ends at {}", read.next);
                return Err(failed(StoreError::Corrupt(ahead)));
            }
            if store.position(stream) != Some(read.next) {
                store.finish_restore(&[(stream, read.next)]).map_err(failed)?;
            }
            behind += read.end - read.next;
        }
        self.shared.metrics.standby(partition, behind);
        Ok(behind > 0)
    }

    fn dir(&self, partition: i32) -> PathBuf {
        self.settings.state_dir.join(format!("partition-{partition}"))
    }
}

/// Applies the next changelog records.
fn apply(
    store: &mut Store,
    source: &mut dyn Follow,
    stream: Stream,
    topic: &Topic,
    partition: i32,
    from: i64,
    records_max: usize,
) -> Result<Read, Failure> {
    let mut failed = None;
    let read = source.follow(topic, partition, from, records_max, &mut |record| {
        let key = record.key.as_deref().unwrap_or_default();
        store.restore(stream, record.offset + 1, key, record.payload.as_deref()).map_err(|error| {
            let stop = LogError::new(Remedy::Stop, &error);
            failed = Some(error);
            stop
        })
    });
    match failed {
        Some(error) => Err(Failure::Store { partition, error }),
        None => Ok(read?),
    }
}
