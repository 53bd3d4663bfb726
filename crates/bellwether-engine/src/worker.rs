//! A worker: one thread, one log connection, the partitions it owns.
//!
//! A batch is applied to overlays in memory. Its outputs, changelog records and input positions go into the log as one
//! transaction; only after that has committed are the overlays written to the stores, together with the changelog
//! positions they correspond to, and only then does the read model see them. So local state is never ahead of the log.
//!
//! # Invariants
//! - After a failed commit nothing staged is kept: tasks are dropped and read back from the log.
//! - A record is passed over only when its outcome (outputs, dead letter or counted drop) is in the same transaction.
//! - While the schema registry is away, a partition that needs it waits; the others go on. So does one whose closes come first.

mod closing;
mod shadowing;
mod surveying;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use bellwether_core::event::Input;
use bellwether_core::fleet::Message;
use bellwether_core::id::AccountId;
use bellwether_core::output::{HealthRecord, Output};
use bellwether_core::quality::Rejected;
use bellwether_core::reject::Reject;
use bellwether_core::state::State;
use bellwether_core::step::Core;
use bellwether_core::time::Millis;
use bellwether_store::error::StoreError;
use bellwether_store::kill_point;
use bellwether_store::task::{Store, StoreOptions, StoreReader, Stream};
use bellwether_wire::cohort_stats;
use bellwether_wire::dead_letter::DeadLetter;
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::Encoder;

use crate::clock::{Clock, SystemClock};
use crate::embedded::partition_of;
use crate::log::{Append, Log, LogError, Poll, Record, Remedy, Topic, Transaction};
use crate::memory::Memory;
use crate::metrics::{self, Metrics};
use crate::read_model::{CohortResults, Details, Glance, ReadModel, Readiness};
use crate::standby::Owned;
use crate::topics::{STATE_TOMBSTONES_MS, TopicNames};
use closing::Bounds;

/// Whether the worker records the passing of time in partitions without input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ticks {
    /// In partitions whose events are about now, or once were; one that replays old history is left alone.
    Live,
    /// Never: time moves by events alone.
    Off,
}

/// A partition counts as live when its newest event is at most this old.
const LIVE_AGE_MS_MAX: i64 = 48 * 3_600_000;
/// How long a partition's directory may still be in use by the thread that gave it up: longer than that may wait for the log.
const HAND_OVER_MAX: Duration = Duration::from_secs(120);
/// Local state that was not written for longer is not caught up but read back: a day less than tombstones are kept.
const STATE_AGE_MAX_MS: i64 = STATE_TOMBSTONES_MS - 24 * 3_600_000;
/// How often a directory that is in use is looked at.
const HAND_OVER_RETRY: Duration = Duration::from_millis(20);
/// The pauses between attempts to reach the log: the first, and the longest.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// The longest sleep in which a request to stop goes unnoticed.
const NAP: Duration = Duration::from_millis(20);
/// Types of events without a signal that are named in the log.
const UNMATCHED_NAMED_MAX: usize = 100;
/// Records after which the time and the size of a batch are looked at.
const CLOCK_EVERY: usize = 16;
/// Accounts that are read before their events are looked at take so small a part of what a batch may take.
const READ_AHEAD_PART: usize = 4;
/// What an output takes in memory, about: as it is, encoded, and on its way.
const OUTPUT_BYTES: usize = 4_096;
/// Records of a poll while nobody knows how long they take, and how many are asked for however long they take.
const PACE_FIRST: usize = 5_000;
const PACE_MIN: usize = 500;
/// Changelog records of a first step of a restore. The next ones are as long as takes the time of a step.
const RESTORE_FIRST: usize = 2_000;
const RESTORE_MIN: usize = 100;
/// Accounts that are shown to the API at once when they are read back.
const SHOWN_AT_ONCE: usize = 1_000;
/// How often gauges are refreshed.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What a worker is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names this application in state directories.
    pub application: String,
    /// Which worker of the process this is.
    pub worker: u32,
    /// The topics.
    pub topics: TopicNames,
    /// Where the state stores lie; one directory per partition.
    pub state_dir: PathBuf,
    /// Options of the stores.
    pub store: StoreOptions,
    /// Records in one batch at most.
    pub batch_records_max: usize,
    /// Bytes that a batch's changes and outputs take in memory at most, about.
    pub batch_bytes_max: usize,
    /// A batch that has taken so long to process is committed, whatever is left of it.
    pub batch_time_max: Duration,
    /// Closes and judgements that are worked off before the time is looked at.
    pub close_timers_max: u32,
    /// A step of closes that has taken so long is committed, and the records of other partitions have their turn.
    pub close_time_max: Duration,
    /// Bytes of a payload that a dead letter keeps whole; of a larger one it keeps the beginning.
    pub dead_letter_bytes_max: usize,
    /// Changelog records that are applied before the other partitions have their turn.
    pub restore_records_max: usize,
    /// How long a step of a restore should take, and the steps of a turn together at most, about.
    pub restore_time_max: Duration,
    /// How long a poll waits.
    pub poll_timeout: Duration,
    /// Whether time is recorded in quiet partitions.
    pub ticks: Ticks,
    /// How long a partition must be quiet before that.
    pub tick_every: Duration,
    /// How long a partition waits before it asks the schema registry again.
    pub registry_retry: Duration,
}

/// What a worker shares with its process.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Metrics of the process.
    pub metrics: Metrics,
    /// What the API reads.
    pub read_model: Arc<ReadModel>,
    /// Whether the process is ready.
    pub readiness: Arc<Readiness>,
    /// The memory budget.
    pub memory: Arc<Memory>,
    /// Which partitions its workers own.
    pub owned: Owned,
    /// Set to stop.
    pub stop: Arc<AtomicBool>,
}

/// Why a worker gave up.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The log failed in a way that a restart does not mend.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// The state store of a partition failed.
    #[error("state of partition {partition}: {error}")]
    Store {
        /// The partition.
        partition: i32,
        /// What failed.
        error: StoreError,
    },
}

/// Names the partition whose store failed.
fn of(partition: i32) -> impl Fn(StoreError) -> WorkerError {
    move |error| WorkerError::Store { partition, error }
}

/// Opens a connection to the log; called again after a failure.
pub type OpenLog = Box<dyn FnMut() -> Result<Box<dyn Log>, LogError> + Send>;

/// A partition at work.
struct Task {
    store: Store,
    /// The engine of the model in force, for who reads its accounts.
    shown: Arc<RwLock<Core>>,
    /// When the partition last had a record or a tick.
    busy_at: Duration,
    /// When it last had a record that was no tick.
    record_at: Duration,
    /// Set while its records wait: what for, since when, and where to read on.
    waiting: Option<Waiting>,
    /// Whether time was recorded that has not come back yet.
    ticked: bool,
    /// Facts behind the results that the read model shows.
    facts: u64,
    /// The challenger that the metrics name.
    challenger: Option<shadowing::Named>,
    surveying: surveying::Surveying,
}

/// Says which model is in force in a partition, and whether it stands in for one that cannot be read.
fn show_model(metrics: &Metrics, partition: i32, before: Option<&str>, core: &Core) {
    metrics.model(partition, before, (core.model_version(), core.learned_until()));
    metrics.model_unreadable(partition, core.unread_reason().is_some());
    if let Some(error) = core.unread_reason() {
        let model = core.model_version();
        tracing::warn!(partition, promotion = ?core.promoted(), error, model, "the promoted model cannot be read: the configured one scores in its place");
    }
}

impl Task {
    /// After a commit: the engine of the model that is in force now. Returns the model before, where that is another.
    fn follow(&mut self, core: &Core) -> Option<String> {
        let promotions = self.store.known_cohorts().promotions();
        let current = promotions.current().map(|(id, _)| id);
        if current == self.in_force().promoted() {
            return None;
        }
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        let now = core.current(promotions).unwrap_or_else(|| core.clone());
        let (model, clock) = (now.model_version(), self.store.clock());
        tracing::info!(model, promotion = ?now.promoted(), at = ?clock.newest, "another model is in force");
        let before = std::mem::replace(&mut *shown, now);
        Some(before.model_version().to_owned())
    }

    /// After a commit: what became of alerts and accounts, where more is known of it.
    fn results(&mut self, core: &Core) -> Option<BTreeMap<String, CohortResults>> {
        let cohorts = self.store.known_cohorts();
        let known: u64 = cohorts.iter().filter_map(|(_, of)| of.results()).map(|of| of.facts).sum();
        if known == self.facts {
            return None;
        }
        self.facts = known;
        let (rules, at) = (&core.policy().feedback, self.store.clock().newest.unwrap_or_default());
        let shown = cohorts.iter().filter_map(|(name, cohort)| {
            let results = cohort.results()?.clone();
            let factors = results.kinds.iter();
            let sensitivity =
                factors.map(|(kind, of)| (kind.clone(), of.sensitivity(rules, at))).collect();
            Some((name.to_owned(), CohortResults { results, sensitivity }))
        });
        Some(shown.collect())
    }

    /// The engine of the model in force.
    fn in_force(&self) -> RwLockReadGuard<'_, Core> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is about now, so that the passing of time may be recorded in it.
    fn is_live(&self, now_ms: i64) -> bool {
        let clock = self.store.clock();
        clock.ticked || clock.newest.is_some_and(|newest| now_ms - newest.0 <= LIVE_AGE_MS_MAX)
    }

    /// Whether recorded time would work off something that is due; not while some is on its way.
    fn is_behind(&self, core: &Core) -> bool {
        !self.ticked && core.close_behind_ms(self.store.clock()) > 0
    }

    fn waits_for(&self, what: For) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.what == what)
    }
}

/// What records of a partition can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// The schema registry.
    Registry,
    /// Closes and judgements that come first.
    Closes,
}

struct Waiting {
    what: For,
    since: Duration,
    offsets: BTreeMap<Topic, i64>,
}

/// A partition whose state is being read back.
struct Restoring {
    since: Duration,
    /// None while its directory is in use.
    store: Option<Store>,
    /// Changelogs still to read, and from where.
    left: VecDeque<(Stream, Topic, i64)>,
    records: u64,
    /// Records of the changelog at hand that are left, once it is known.
    records_left: Option<u64>,
    /// Records of the next step.
    step: usize,
}

/// The connection to the log.
enum Connection {
    /// To be opened at this time.
    Closed {
        retry_at: Duration,
    },
    Open(Box<dyn Log>),
}

/// What a batch has gathered so far.
#[derive(Default)]
struct Batch {
    started: Duration,
    transaction: Transaction,
    offsets: BTreeMap<(Topic, i32), i64>,
    outputs: BTreeMap<i32, Vec<Output>>,
    timestamps_ms: Vec<i64>,
    rejected: Rejected,
    records_in: BTreeMap<Topic, u64>,
    records: usize,
    admitted: u64,
    unmatched: u64,
    distinct_dropped: u64,
    dead_letters: u64,
    days_closed: u64,
}

enum Handled {
    Done,
    Wait(For),
}

/// One worker.
pub struct Worker {
    settings: Settings,
    shared: Shared,
    core: Core,
    decoder: Decoder,
    encoder: Encoder,
    clock: Arc<dyn Clock>,
    open: OpenLog,
    connection: Connection,
    /// The pause before the next attempt to connect.
    pause: Duration,
    tasks: BTreeMap<i32, Task>,
    restoring: BTreeMap<i32, Restoring>,
    /// Partitions whose state was rebuilt and that have committed nothing since.
    rebuilt: BTreeSet<i32>,
    reported_at: Duration,
    /// Types of events that feed no signal, and were named.
    unmatched: BTreeSet<String>,
    /// How many partitions there are, once the log was open.
    partitions: i32,
    /// The partition that was surveyed last.
    surveyed: i32,
    /// Records that took about a second lately.
    pace: usize,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Worker").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker that has not started.
    #[must_use]
    pub fn new(
        settings: Settings,
        shared: Shared,
        core: Core,
        decoder: Decoder,
        encoder: Encoder,
        open: OpenLog,
    ) -> Worker {
        for topic in settings.topics.inputs() {
            // Known series start at zero, so that a rate sees the first batch.
            shared.metrics.events_in(&topic, 0);
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Worker {
            settings,
            shared,
            core,
            decoder,
            encoder,
            open,
            connection: Connection::Closed { retry_at: Duration::ZERO },
            pause: RETRY_PAUSES.0,
            tasks: BTreeMap::new(),
            restoring: BTreeMap::new(),
            rebuilt: BTreeSet::new(),
            reported_at: clock.elapsed(),
            unmatched: BTreeSet::new(),
            partitions: 1,
            surveyed: -1,
            pace: PACE_FIRST,
            clock,
        }
    }

    /// Lets another clock decide the time.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Worker {
        self.reported_at = clock.elapsed();
        self.clock = clock;
        self
    }

    /// Runs until it is told to stop, or until only a person can help.
    pub fn run(&mut self) -> Result<(), WorkerError> {
        while !self.stopped() {
            self.turn()?;
        }
        self.disconnect();
        Ok(())
    }

    /// One turn of the loop: one poll of the log with all that follows from it.
    ///
    /// # Errors
    /// Where only a person can help. What can be mended is: the next turn connects to the log again.
    pub fn turn(&mut self) -> Result<(), WorkerError> {
        self.shared.readiness.beat(self.settings.worker, Instant::now());
        self.watch_memory();
        let closed = Connection::Closed { retry_at: Duration::ZERO };
        match std::mem::replace(&mut self.connection, closed) {
            Connection::Closed { retry_at } => self.connect(retry_at),
            Connection::Open(mut log) => {
                let served = self.serve(log.as_mut());
                self.connection = Connection::Open(log);
                served
            }
        }
        .or_else(|error| self.recover(error))
    }

    /// Leaves the log and closes all state.
    pub fn disconnect(&mut self) {
        self.leave(None);
    }

    fn leave(&mut self, keep: Option<i32>) {
        // The group first, so that a successor need not wait for the flush of what it will open.
        self.connection = Connection::Closed { retry_at: Duration::ZERO };
        let tasks = self.tasks.keys().chain(self.restoring.keys());
        let owned: Vec<i32> = tasks.copied().collect();
        self.give_up(&owned, keep);
    }

    /// The partitions at work, ascending.
    pub fn partitions(&self) -> impl Iterator<Item = i32> {
        self.tasks.keys().copied()
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn connect(&mut self, retry_at: Duration) -> Result<(), WorkerError> {
        let left = retry_at.saturating_sub(self.clock.elapsed());
        self.connection = if left.is_zero() {
            let log = (self.open)()?;
            self.partitions = log.partitions();
            self.core = self.core.clone().among(self.partitions);
            Connection::Open(log)
        } else {
            self.clock.sleep(left.min(NAP));
            Connection::Closed { retry_at }
        };
        Ok(())
    }

    /// Gives up what may be in doubt and arranges for a new start, where that helps.
    fn recover(&mut self, error: WorkerError) -> Result<(), WorkerError> {
        // State that is to be wiped stays claimed until it is.
        let damaged = match &error {
            WorkerError::Store { partition, error } if error.is_rebuildable() => Some(*partition),
            WorkerError::Log(_) | WorkerError::Store { .. } => None,
        };
        self.leave(damaged);
        self.shared.readiness.disconnected(self.settings.worker);
        let recovered = self.mend(error);
        if let Some(partition) = damaged {
            self.shared.owned.release(partition, self.settings.worker);
        }
        recovered
    }

    /// What helps against an error, now that nothing is owned.
    fn mend(&mut self, error: WorkerError) -> Result<(), WorkerError> {
        match &error {
            WorkerError::Log(cause) if cause.remedy != Remedy::Stop => {
                tracing::warn!(%error, remedy = ?cause.remedy, "connecting to the log again");
                self.retry_later();
                Ok(())
            }
            // Damaged again before anything was committed: then its changelog is what is damaged, and only a person can help.
            WorkerError::Store { partition, error: damage }
                if damage.is_rebuildable() && self.rebuilt.insert(*partition) =>
            {
                tracing::warn!(partition, %damage, "rebuilding the partition's state from its changelog");
                self.shared.metrics.state_rebuilt();
                let wiped = Store::destroy(&self.dir(*partition), &self.settings.store);
                self.retry_later();
                match wiped {
                    Ok(()) => Ok(()),
                    // Another thread of this process was given the partition meanwhile: it will notice as well, and this one if it
                    // gets it back.
                    Err(StoreError::InUse(_)) => {
                        self.rebuilt.remove(partition);
                        Ok(())
                    }
                    Err(error) => Err(of(*partition)(error)),
                }
            }
            WorkerError::Log(_) | WorkerError::Store { .. } => Err(error),
        }
    }

    fn retry_later(&mut self) {
        self.connection =
            Connection::Closed { retry_at: self.clock.elapsed().saturating_add(self.pause) };
        self.pause = (self.pause * 2).min(RETRY_PAUSES.1);
    }

    fn serve(&mut self, log: &mut dyn Log) -> Result<(), WorkerError> {
        let restores = self.restoring.values().any(|restoring| restoring.store.is_some());
        let busy = restores || self.is_closing();
        let timeout = match (busy, self.restoring.is_empty()) {
            (true, _) => Duration::ZERO,
            (false, false) => HAND_OVER_RETRY,
            (false, true) if self.is_draining() => closing::DRAIN_POLL,
            (false, true) => self.settings.poll_timeout,
        };
        let records_max = self.shared.memory.part_of(self.settings.batch_records_max);
        // What a poll brings is worked off before the next one, and meanwhile nothing else is heard.
        let records_max = records_max.min(self.pace.max(PACE_MIN));
        match log.poll(records_max, timeout)? {
            Poll::Idle => {}
            Poll::Assigned(partitions) => {
                self.assign(&partitions);
            }
            Poll::Revoked(partitions) => self.revoke(&partitions),
            Poll::Records(records) => self.process(log, &records)?,
        }
        self.shared.readiness.silent(self.settings.worker, log.silent());
        self.restore_some(log)?;
        self.close_some(log)?;
        self.tick(log)?;
        self.resume_waiting(log)?;
        self.report(log)
    }

    /// Takes partitions over; their state is read back turn by turn.
    fn assign(&mut self, partitions: &[i32]) {
        self.shared.readiness.assigned(self.settings.worker, partitions);
        for &partition in partitions {
            self.shared.owned.claim(partition, self.settings.worker);
            self.shared.readiness.restoring(partition, 0);
            let restoring = Restoring {
                since: self.clock.elapsed(),
                store: None,
                left: VecDeque::new(),
                records: 0,
                records_left: None,
                step: RESTORE_FIRST,
            };
            self.restoring.insert(partition, restoring);
        }
    }

    /// Restores partitions for a while, the one with the least left to read first: it need not wait for another, and what the client has
    /// fetched of one is lost when it goes to another.
    fn restore_some(&mut self, log: &mut dyn Log) -> Result<(), WorkerError> {
        let began = self.clock.elapsed();
        self.open_stores(began)?;
        while let Some(partition) = self.least_left() {
            let Some(mut restoring) = self.restoring.remove(&partition) else { break };
            let step = self.restore_step(log, partition, &mut restoring);
            if let Ok(true) = step {
                self.restored(log, partition, restoring)?;
            } else {
                // Also after an error: what is given up has to be known.
                self.restoring.insert(partition, restoring);
                step?;
            }
            if self.clock.elapsed().saturating_sub(began) >= self.settings.restore_time_max {
                break;
            }
        }
        Ok(())
    }

    /// Opens the stores of partitions whose directories are free by now: one in any case, and others as long as there is time.
    fn open_stores(&mut self, began: Duration) -> Result<(), WorkerError> {
        let waits = self.restoring.iter().filter(|(_, restoring)| restoring.store.is_none());
        let waits: Vec<(i32, Duration)> =
            waits.map(|(partition, restoring)| (*partition, restoring.since)).collect();
        for (partition, since) in waits {
            let Some(store) = self.open_store(partition, since)? else { continue };
            let left = self.changelogs(&store);
            if let Some(restoring) = self.restoring.get_mut(&partition) {
                (restoring.left, restoring.store) = (left, Some(store));
            }
            if self.clock.elapsed().saturating_sub(began) >= self.settings.restore_time_max {
                break;
            }
        }
        Ok(())
    }

    /// The partition with the least left to read; one of which that is not known comes first.
    fn least_left(&self) -> Option<i32> {
        let ready = self.restoring.iter().filter(|(_, restoring)| restoring.store.is_some());
        let least = ready.min_by_key(|(_, restoring)| restoring.records_left);
        least.map(|(partition, _)| *partition)
    }

    /// One step of a restore; `true` at its end.
    fn restore_step(
        &self,
        log: &mut dyn Log,
        partition: i32,
        restoring: &mut Restoring,
    ) -> Result<bool, WorkerError> {
        let Some(store) = &mut restoring.store else { return Ok(false) };
        let Some((stream, topic, from)) = restoring.left.front().cloned() else { return Ok(true) };
        let mut failed = None;
        let mut records = 0;
        // From the first record on: to go to another partition takes its time however few are read there.
        let mut began = None;
        let step = restoring.step.min(self.settings.restore_records_max);
        let read = log.read(&topic, partition, from, step, &mut |record| {
            began.get_or_insert_with(|| self.clock.elapsed());
            records += 1;
            let key = record.key.as_deref().unwrap_or_default();
            store.restore(stream, record.offset + 1, key, record.payload.as_deref()).map_err(
                |error| {
                    let stop = LogError::new(Remedy::Stop, &error);
                    failed = Some(error);
                    stop
                },
            )
        });
        if let Some(error) = failed {
            return Err(of(partition)(error));
        }
        let read = read?;
        if read.next < from {
            let ahead = format!("it is at offset {from} of {topic}, which ends at {}", read.next);
            return Err(of(partition)(StoreError::Corrupt(ahead)));
        }
        restoring.records += records;
        let remaining = u64::try_from(read.end - read.next).unwrap_or(0);
        self.shared.metrics.restore(partition, records, remaining);
        self.shared.readiness.restoring(partition, remaining);
        store.finish_restore(&[(stream, read.next)]).map_err(of(partition))?;
        let took = began.map_or(Duration::ZERO, |at| self.clock.elapsed().saturating_sub(at));
        restoring.step = next_step(step, took, self.settings.restore_time_max);
        restoring.records_left = Some(remaining);
        if read.next < read.end {
            if let Some(front) = restoring.left.front_mut() {
                front.2 = read.next;
            }
            return Ok(false);
        }
        restoring.left.pop_front();
        Ok(restoring.left.is_empty())
    }

    /// The changelogs, each from where the store has it.
    fn changelogs(&self, store: &Store) -> VecDeque<(Stream, Topic, i64)> {
        let topics = &self.settings.topics;
        let streams =
            [(Stream::State, &topics.state_changelog), (Stream::Seen, &topics.seen_changelog)];
        let from = |(stream, name): (Stream, &String)| {
            (stream, name.as_str().into(), store.position(stream).unwrap_or(0))
        };
        streams.into_iter().map(from).collect()
    }

    /// A partition's state is whole: it goes to work.
    fn restored(
        &mut self,
        log: &mut dyn Log,
        partition: i32,
        restoring: Restoring,
    ) -> Result<(), WorkerError> {
        let Some(store) = restoring.store else { return Ok(()) };
        let promotions = store.known_cohorts().promotions();
        let core = self.core.current(promotions).unwrap_or_else(|| self.core.clone());
        let shown = Arc::new(RwLock::new(core.clone()));
        let records = Records { core: Arc::clone(&shown), reader: store.reader() };
        let now = Millis(self.clock.now_ms());
        self.shared.read_model.open_partition(partition, now, Arc::new(records));
        self.show(partition, &core, &store).map_err(of(partition))?;
        show_model(&self.shared.metrics, partition, None, &core);
        let busy_at = self.clock.elapsed();
        let (waiting, ticked) = (None, false);
        let record_at = busy_at;
        let (challenger, surveying) = (None, surveying::Surveying::default());
        let mut task = Task {
            store,
            shown,
            busy_at,
            record_at,
            waiting,
            ticked,
            facts: 0,
            challenger,
            surveying,
        };
        task.name_challenger(&self.core, partition, &self.shared.metrics);
        if let Some(results) = task.results(&self.core) {
            self.shared.read_model.publish_results(partition, results);
        }
        self.tasks.insert(partition, task);
        log.start(&[partition])?;
        self.shared.readiness.ready(partition);
        self.pause = RETRY_PAUSES.0;
        let took = busy_at.saturating_sub(restoring.since);
        tracing::info!(partition, records = restoring.records, ?took, "partition restored");
        Ok(())
    }

    fn dir(&self, partition: i32) -> PathBuf {
        self.settings.state_dir.join(format!("partition-{partition}"))
    }

    /// Opens a partition's store; none while another thread has not closed it yet.
    fn open_store(&self, partition: i32, since: Duration) -> Result<Option<Store>, WorkerError> {
        let dir = self.dir(partition);
        let Settings { application, store: options, .. } = &self.settings;
        let now = Millis(self.clock.now_ms());
        match open_current(&dir, application, partition, options, now) {
            Ok(store) => Ok(Some(store)),
            Err(StoreError::InUse(_))
                if self.clock.elapsed().saturating_sub(since) < HAND_OVER_MAX =>
            {
                Ok(None)
            }
            Err(error) => Err(of(partition)(error)),
        }
    }

    /// Shows the restored accounts to the API.
    fn show(&self, partition: i32, core: &Core, store: &Store) -> Result<(), StoreError> {
        let (mut outputs, mut glances) = (Vec::new(), Vec::new());
        let now = Millis(self.clock.now_ms());
        store.each_account(|account| {
            match core.glance(&account) {
                Some((score, band)) => {
                    let name = account.name().map(str::to_owned);
                    glances.push((account.id, Glance { name, score, band }));
                }
                None => outputs.extend(core.view(account)),
            }
            if outputs.len() + glances.len() >= SHOWN_AT_ONCE {
                self.shared.read_model.publish(partition, now, &outputs);
                outputs.clear();
                self.shared.read_model.publish_glances(partition, &mut glances);
            }
        })?;
        self.shared.read_model.publish_glances(partition, &mut glances);
        outputs.extend(core.view_fleet(store.known_cohorts()));
        self.shared.read_model.publish(partition, now, &outputs);
        Ok(())
    }

    fn revoke(&mut self, partitions: &[i32]) {
        self.give_up(partitions, None);
    }

    /// Gives partitions up; `keep` stays claimed, so that no standby opens its state.
    fn give_up(&mut self, partitions: &[i32], keep: Option<i32>) {
        let inputs = self.settings.topics.inputs();
        for partition in partitions {
            kill_point::pass("revoke");
            let restoring = self.restoring.remove(partition).and_then(|restoring| restoring.store);
            let task = self.tasks.remove(partition);
            if let Some(task) = &task {
                self.shared.metrics.drop_model(*partition, task.in_force().model_version());
                task.drop_challenger(*partition, &self.shared.metrics);
            }
            let store = task.map(|task| task.store).or(restoring);
            // What others see goes first: whoever opens the store next shows it anew.
            self.shared.readiness.revoked(&[*partition]);
            self.shared.read_model.drop_partition(*partition);
            self.shared.metrics.drop_partition(*partition, &inputs);
            if let Some(store) = store
                && let Err(error) = store.close()
            {
                // Nothing is lost: the changelog has it, and the store is read back from there.
                tracing::warn!(partition, %error, "closing the partition's state failed");
            }
            if keep != Some(*partition) {
                self.shared.owned.release(*partition, self.settings.worker);
            }
        }
    }

    /// Processes records in batches that are bounded in time, each a transaction.
    fn process(&mut self, log: &mut dyn Log, records: &[Record]) -> Result<(), WorkerError> {
        let span = tracing::debug_span!("batch", records = records.len());
        let _entered = span.enter();
        let mut left = records;
        let began = self.clock.elapsed();
        // What is left at a stop is read again by whoever comes next.
        while !left.is_empty() && !self.stopped() {
            self.shared.readiness.beat(self.settings.worker, Instant::now());
            let mut batch = Batch { started: self.clock.elapsed(), ..Batch::default() };
            let applied = self.apply(log, left, &mut batch);
            let applied = applied.and_then(|applied| self.commit(log, batch).map(|()| applied));
            let Some(applied) = self.or_rewound(log, applied)? else { return Ok(()) };
            left = left.get(applied..).unwrap_or_default();
        }
        let took = self.clock.elapsed().saturating_sub(began);
        if records.len() >= PACE_MIN {
            self.pace = (records.len() as f64 / took.as_secs_f64().max(0.001)) as usize;
        }
        Ok(())
    }

    /// What a batch came to; none where it is to be done again, and everything is read again for that.
    fn or_rewound<T>(
        &mut self,
        log: &mut dyn Log,
        result: Result<T, WorkerError>,
    ) -> Result<Option<T>, WorkerError> {
        let error = match result {
            Ok(done) => return Ok(Some(done)),
            Err(error) => error,
        };
        for task in self.tasks.values_mut() {
            task.store.discard();
        }
        if let WorkerError::Log(cause) = &error
            && cause.remedy == Remedy::Rewind
        {
            tracing::info!(%cause, "the batch is done again");
            self.rewind(log)?;
            return Ok(None);
        }
        Err(error)
    }

    /// Reads all partitions at work again from what is committed.
    fn rewind(&mut self, log: &mut dyn Log) -> Result<(), WorkerError> {
        for task in self.tasks.values_mut() {
            task.waiting = None;
        }
        let partitions: Vec<i32> = self.partitions().collect();
        Ok(log.rewind(&partitions)?)
    }

    /// Applies records until the batch has taken its time; how many.
    fn apply(
        &mut self,
        log: &mut dyn Log,
        records: &[Record],
        batch: &mut Batch,
    ) -> Result<usize, WorkerError> {
        let mut applied = 0;
        // Bookkeeping costs as much as small events do, so it is done once a run: records come in runs of one partition.
        for run in records.chunk_by(Record::is_beside) {
            let done = self.apply_run(log, run, batch)?;
            applied += done;
            if done < run.len() {
                break;
            }
        }
        Ok(applied)
    }

    /// Applies records that follow each other in one partition until the batch has taken its time; how many.
    fn apply_run(
        &mut self,
        log: &mut dyn Log,
        run: &[Record],
        batch: &mut Batch,
    ) -> Result<usize, WorkerError> {
        let Some(first) = run.first() else { return Ok(0) };
        let (topic, partition, now) = (&first.topic, first.partition, batch.started);
        let Some(task) = self.tasks.get_mut(&partition) else { return Ok(run.len()) };
        if let Some(waiting) = &mut task.waiting {
            waiting.offsets.entry(Arc::clone(topic)).or_insert(first.offset);
            return Ok(run.len());
        }
        if **topic == *self.settings.topics.ticks {
            task.ticked = false;
        } else {
            task.record_at = now;
        }
        task.busy_at = now;
        let mut outputs = batch.outputs.remove(&partition).unwrap_or_default();
        let room = self.room_beside(partition, batch);
        let (mut done, mut waits) = (0, None);
        // Records whose accounts were read ahead; those of other topics name none.
        let mut ahead = if self.settings.topics.is_of_accounts(topic) { 0 } else { run.len() };
        for record in run {
            if done == ahead {
                ahead += self.read_ahead(partition, run.get(done..).unwrap_or_default(), room)?;
            }
            let so_far = batch.records + done;
            // Time and size are looked at now and then: that takes longer than many an event.
            if so_far > 0
                && so_far.is_multiple_of(CLOCK_EVERY)
                && (self.clock.elapsed().saturating_sub(now) >= self.settings.batch_time_max
                    || self.bytes_of(partition) + outputs.len() * OUTPUT_BYTES >= room)
            {
                break;
            }
            match self.handle(record, batch, &mut outputs)? {
                Handled::Done => done += 1,
                Handled::Wait(what) => {
                    waits = Some((what, record.offset));
                    break;
                }
            }
        }
        batch.outputs.insert(partition, outputs);
        if let Some(last) = done.checked_sub(1).and_then(|last| run.get(last)) {
            batch.records += done;
            *batch.records_in.entry(Arc::clone(topic)).or_default() += done as u64;
            batch.offsets.insert((Arc::clone(topic), partition), last.offset + 1);
        }
        let Some((what, offset)) = waits else { return Ok(done) };
        log.pause(&[partition])?;
        if what == For::Closes {
            // What was worked off is committed, at a position that does not move.
            batch.offsets.insert((Arc::clone(topic), partition), offset);
        }
        let offsets = BTreeMap::from([(Arc::clone(topic), offset)]);
        if let Some(task) = self.tasks.get_mut(&partition) {
            task.waiting = Some(Waiting { what, since: now, offsets });
        }
        // The rest of the run waits with it.
        Ok(run.len())
    }

    /// Reads the accounts of records that follow each other, in a part of the room that there is; of how many records.
    fn read_ahead(
        &mut self,
        partition: i32,
        run: &[Record],
        room: usize,
    ) -> Result<usize, WorkerError> {
        let Some(task) = self.tasks.get_mut(&partition) else { return Ok(run.len()) };
        let ids = run.iter().map(|record| record.key.as_deref().unwrap_or_default());
        task.store.read_ahead(ids, room / READ_AHEAD_PART).map_err(of(partition))
    }

    /// Bytes of a partition's changes in the batch.
    fn bytes_of(&self, partition: i32) -> usize {
        self.tasks.get(&partition).map_or(0, |task| task.store.batch_bytes())
    }

    /// What the other partitions leave of the batch's bytes.
    fn room_beside(&self, partition: i32, batch: &Batch) -> usize {
        let others = self.tasks.iter().filter(|(other, _)| **other != partition);
        let changes: usize = others.map(|(_, task)| task.store.batch_bytes()).sum();
        let outputs: usize = batch.outputs.values().map(Vec::len).sum();
        let bound = self.shared.memory.part_of(self.settings.batch_bytes_max);
        bound.saturating_sub(changes + outputs * OUTPUT_BYTES)
    }

    fn handle(
        &mut self,
        record: &Record,
        batch: &mut Batch,
        outputs: &mut Vec<Output>,
    ) -> Result<Handled, WorkerError> {
        let received_at = Millis(record.timestamp_ms);
        self.decoder.set_received(record.timestamp_ms);
        match self.decode(record) {
            Ok(input) => {
                let is_event = matches!(&input, Input::Event(_));
                let unmatched = match &input {
                    // By the policy of today, as is what the core makes of it.
                    Input::Event(event) if self.core.policy().fed_by(event).next().is_none() => {
                        Some(event.kind.clone())
                    }
                    Input::Event(_)
                    | Input::Profile(_)
                    | Input::Outcome(_)
                    | Input::Calendar { .. }
                    | Input::Promotion { .. }
                    | Input::Challenger { .. }
                    | Input::Forget(_)
                    | Input::Cohort { .. }
                    | Input::Tick => None,
                };
                let Some(task) = self.tasks.get_mut(&record.partition) else {
                    return Ok(Handled::Done);
                };
                let bounds = Bounds::of(&self.settings, &*self.clock, batch.started);
                let closed = bounds.sweep(|timers_max| {
                    let store = &mut task.store;
                    self.core.close_before(store, &input, received_at, timers_max, outputs)
                });
                let closed = closed.map_err(of(record.partition))?;
                batch.days_closed += u64::from(closed.days_closed);
                if !closed.done {
                    self.shared.metrics.close_wait();
                    return Ok(Handled::Wait(For::Closes));
                }
                let applied = self.core.apply(&mut task.store, input, received_at, outputs);
                match applied.map_err(of(record.partition))? {
                    Ok(applied) => {
                        batch.days_closed += u64::from(applied.days_closed);
                        if is_event {
                            batch.admitted += 1;
                            batch.unmatched += u64::from(applied.signals == 0);
                            if let Some(kind) = unmatched {
                                self.say_unmatched(kind);
                            }
                            batch.distinct_dropped += u64::from(applied.distinct_dropped);
                            batch.timestamps_ms.push(record.timestamp_ms);
                        }
                    }
                    Err(reject) => self.reject(record, &reject, batch)?,
                }
                Ok(Handled::Done)
            }
            Err(DecodeError::Reject(reject)) => {
                self.reject(record, &reject, batch)?;
                Ok(Handled::Done)
            }
            Err(DecodeError::RegistryUnavailable(detail)) => {
                tracing::warn!(
                    partition = record.partition,
                    detail,
                    "waiting for the schema registry"
                );
                self.shared.metrics.registry_wait();
                Ok(Handled::Wait(For::Registry))
            }
        }
    }

    /// Names a type of event that feeds no signal, once: it may be a typing error.
    fn say_unmatched(&mut self, kind: String) {
        if self.unmatched.len() < UNMATCHED_NAMED_MAX && !self.unmatched.contains(&kind) {
            tracing::info!(kind, "events of this type feed no signal of the policy");
            self.unmatched.insert(kind);
        }
    }

    fn decode(&mut self, record: &Record) -> Result<Input, DecodeError> {
        let topics = &self.settings.topics;
        let (key, payload) = (record.key.as_deref(), record.payload.as_deref());
        let topic: &str = &record.topic;
        if topic == topics.ticks {
            return Ok(Input::Tick);
        }
        if topic == topics.cohort_stats {
            return cohort_stats::decode(payload);
        }
        if topic == topics.profiles && payload.is_none() {
            return Decoder::deletion(key).map(Input::Forget);
        }
        if topic == topics.profiles {
            return self.decoder.profile(key, payload).map(Input::Profile);
        }
        if topic == topics.outcomes {
            return self.decoder.outcome(key, payload).map(Input::Outcome);
        }
        if topic == topics.calendar {
            let entry = self.decoder.calendar(key, payload);
            return entry.map(|(id, entry)| Input::Calendar { id, entry });
        }
        if topic == topics.models {
            return self.decoder.promotion(key, payload);
        }
        self.decoder.event(key, payload).map(Input::Event)
    }

    /// Counts a rejected record and keeps it as a dead letter, unless dropping it is what was intended.
    fn reject(
        &mut self,
        record: &Record,
        reject: &Reject,
        batch: &mut Batch,
    ) -> Result<(), WorkerError> {
        let key =
            record.key.as_deref().filter(|_| self.settings.topics.is_of_accounts(&record.topic));
        let account = key.and_then(|key| AccountId::new(std::str::from_utf8(key).ok()?).ok());
        if let Some(task) = self.tasks.get_mut(&record.partition) {
            let counted = batch.rejected.count(&mut task.store, account.as_ref(), reject.reason);
            counted.map_err(of(record.partition))?;
        }
        if reject.reason.intended() {
            return Ok(());
        }
        tracing::debug!(topic = %record.topic, partition = record.partition, offset = record.offset, %reject, "dead letter");
        batch.dead_letters += 1;
        let letter = DeadLetter::new(reject, &record.topic, record.partition, record.offset);
        let mut headers = letter.headers(&record.headers);
        let bytes_max = self.settings.dead_letter_bytes_max;
        let payload = DeadLetter::keep(record.payload.as_deref(), bytes_max, &mut headers);
        batch.transaction.appends.push(Append {
            topic: self.settings.topics.dead_letters.as_str().into(),
            partition: record.partition,
            key: record.key.clone(),
            payload,
            headers,
            timestamp_ms: Some(record.timestamp_ms),
        });
        Ok(())
    }

    /// Commits a batch: the log first, then the stores, then the read model.
    fn commit(&mut self, log: &mut dyn Log, mut batch: Batch) -> Result<(), WorkerError> {
        if batch.offsets.is_empty() {
            return Ok(());
        }
        let (started, now_ms) = (self.clock.elapsed(), self.clock.now_ms());
        self.encode_outputs(&mut batch);
        let touched: BTreeSet<i32> =
            batch.offsets.keys().map(|(_, partition)| *partition).collect();
        for partition in &touched {
            self.append_changes(*partition, &mut batch.transaction).map_err(of(*partition))?;
        }
        batch.transaction.offsets = batch
            .offsets
            .iter()
            .map(|((topic, partition), next)| (Arc::clone(topic), *partition, *next))
            .collect();
        let receipt = log
            .commit(&batch.transaction)
            .inspect_err(|error| self.shared.metrics.commit_failed(error.remedy))?;
        // Not before any of it was.
        let published_at = Millis(self.clock.now_ms());
        kill_point::pass("before-store");
        for partition in &touched {
            let Some(task) = self.tasks.get_mut(partition) else { continue };
            let positions: Vec<(Stream, i64)> = receipt
                .positions
                .iter()
                .filter(|(_, at, _)| at == partition)
                .filter_map(|(topic, _, next)| {
                    stream_of(&self.settings.topics, topic).map(|stream| (stream, *next))
                })
                .collect();
            task.store.set_time(Millis(now_ms));
            task.store.commit(&positions).map_err(of(*partition))?;
            if let Some(before) = task.follow(&self.core) {
                show_model(&self.shared.metrics, *partition, Some(&before), &task.in_force());
            }
            task.name_challenger(&self.core, *partition, &self.shared.metrics);
            kill_point::pass("before-read-model");
            if let Some(results) = task.results(&self.core) {
                self.shared.read_model.publish_results(*partition, results);
            }
            self.rebuilt.remove(partition);
            if let Some(outputs) = batch.outputs.get(partition) {
                if outputs.iter().any(|output| matches!(output, Output::Forgotten(_))) {
                    // Or a crash would leave the rows on disk, and the tombstones in the changelog are not kept for ever.
                    task.store.flush().map_err(of(*partition))?;
                }
                self.shared.read_model.publish(*partition, published_at, outputs);
            }
        }
        self.count(&batch, self.clock.elapsed().saturating_sub(started));
        Ok(())
    }

    fn encode_outputs(&self, batch: &mut Batch) {
        let topics = &self.settings.topics;
        for (partition, outputs) in &batch.outputs {
            for output in outputs {
                let encoded = self.encoder.encode(output);
                let topic = match output {
                    Output::ScoreChanged(_) => &topics.score_changed,
                    Output::Health(_) | Output::Forgotten(_) => &topics.score_current,
                    Output::Alert(_) => &topics.alerts,
                    Output::Shadow(_) => &topics.shadow,
                    Output::Example(_) => &topics.examples,
                };
                batch.transaction.appends.push(Append {
                    topic: topic.as_str().into(),
                    partition: *partition,
                    key: Some(output.account().as_str().as_bytes().to_vec()),
                    payload: encoded.payload,
                    headers: encoded.headers,
                    timestamp_ms: None,
                });
            }
        }
    }

    fn append_changes(
        &mut self,
        partition: i32,
        transaction: &mut Transaction,
    ) -> Result<(), StoreError> {
        let topics = &self.settings.topics;
        let state: Topic = topics.state_changelog.as_str().into();
        let seen: Topic = topics.seen_changelog.as_str().into();
        let cohort_stats: Topic = topics.cohort_stats.as_str().into();
        let Some(task) = self.tasks.get_mut(&partition) else { return Ok(()) };
        for message in task.store.known_cohorts().outbox() {
            let key = message.key().as_bytes().to_vec();
            let to = match message {
                Message::Part(_) => {
                    let adds_up = partition_of(&key, self.partitions);
                    adds_up..adds_up + 1
                }
                Message::Total(_)
                | Message::Calendar(..)
                | Message::Promotion(..)
                | Message::Challenger(..)
                | Message::Fact(_) => 0..self.partitions,
            };
            let source = u32::try_from(partition).unwrap_or(0);
            let payload = cohort_stats::encode(source, message);
            transaction.appends.extend(to.map(|to| Append {
                topic: Arc::clone(&cohort_stats),
                partition: to,
                key: Some(key.clone()),
                payload: Some(payload.clone()),
                headers: Vec::new(),
                timestamp_ms: None,
            }));
        }
        for change in task.store.staged()? {
            let topic = match change.stream {
                Stream::State => &state,
                Stream::Seen => &seen,
            };
            transaction.appends.push(Append {
                topic: Arc::clone(topic),
                partition,
                key: Some(change.key.clone()),
                payload: change.value.clone(),
                headers: Vec::new(),
                timestamp_ms: None,
            });
        }
        Ok(())
    }

    fn count(&self, batch: &Batch, took: Duration) {
        let metrics = &self.shared.metrics;
        for (topic, records) in &batch.records_in {
            metrics.events_in(topic, *records);
        }
        for (cohort, reason, records) in batch.rejected.iter() {
            metrics.rejected(cohort, reason, records);
        }
        metrics.admitted(batch.admitted);
        metrics.unmatched(batch.unmatched);
        metrics.distinct_dropped(batch.distinct_dropped);
        metrics.dead_letters(batch.dead_letters);
        metrics.day_closes(batch.days_closed);
        for outputs in batch.outputs.values() {
            metrics.outputs(outputs);
        }
        metrics.committed(took, batch.records);
        metrics.published(self.clock.now_ms(), batch.timestamps_ms.iter().copied());
    }

    /// Records the passing of time in quiet live partitions, so that silence is noticed and a replay sees the same.
    fn tick(&mut self, log: &mut dyn Log) -> Result<(), WorkerError> {
        if self.settings.ticks == Ticks::Off {
            return Ok(());
        }
        let (now, elapsed) = (self.clock.now_ms(), self.clock.elapsed());
        let topic: Topic = self.settings.topics.ticks.as_str().into();
        let mut transaction = Transaction::default();
        let mut ticked = Vec::new();
        for (&partition, task) in &mut self.tasks {
            let is_due = elapsed.saturating_sub(task.busy_at) >= self.settings.tick_every
                || task.is_behind(&self.core)
                    && elapsed.saturating_sub(task.record_at) >= closing::DRAIN_QUIET;
            if !task.is_live(now) || task.waiting.is_some() || !is_due {
                continue;
            }
            task.busy_at = elapsed;
            ticked.push(partition);
            transaction.appends.push(Append {
                topic: Arc::clone(&topic),
                partition,
                key: None,
                payload: Some(format!("{{\"at\":{now}}}").into_bytes()),
                headers: Vec::new(),
                timestamp_ms: Some(now),
            });
        }
        if transaction.appends.is_empty() {
            return Ok(());
        }
        match log.commit(&transaction) {
            // Nothing was staged. Time is recorded when it is due again.
            Err(error) if error.remedy == Remedy::Rewind => Ok(()),
            committed => {
                committed?;
                for partition in ticked {
                    if let Some(task) = self.tasks.get_mut(&partition) {
                        task.ticked = true;
                    }
                }
                Ok(())
            }
        }
    }

    /// Lets partitions that wait for the schema registry try again.
    fn resume_waiting(&mut self, log: &mut dyn Log) -> Result<(), WorkerError> {
        let now = self.clock.elapsed();
        let due = |waiting: &Waiting| {
            waiting.what == For::Registry
                && now.saturating_sub(waiting.since) >= self.settings.registry_retry
        };
        let waiting = self.tasks.iter().filter(|(_, task)| task.waiting.as_ref().is_some_and(due));
        let partitions: Vec<i32> = waiting.map(|(partition, _)| *partition).collect();
        for partition in partitions {
            self.resume(log, partition)?;
        }
        Ok(())
    }

    /// Lets a partition that waits take its records again.
    fn resume(&mut self, log: &mut dyn Log, partition: i32) -> Result<(), WorkerError> {
        let waiting = self.tasks.get_mut(&partition).and_then(|task| task.waiting.take());
        if let Some(waiting) = waiting {
            let offsets: Vec<(Topic, i32, i64)> = waiting
                .offsets
                .into_iter()
                .map(|(topic, offset)| (topic, partition, offset))
                .collect();
            log.resume(&[partition], &offsets)?;
        }
        Ok(())
    }

    fn report(&mut self, log: &mut dyn Log) -> Result<(), WorkerError> {
        if self.clock.elapsed().saturating_sub(self.reported_at) < REPORT_EVERY {
            return Ok(());
        }
        self.reported_at = self.clock.elapsed();
        let metrics = &self.shared.metrics;
        let now = self.clock.now_ms();
        for (&partition, task) in &self.tasks {
            let stats = task.store.stats().map_err(of(partition))?;
            metrics.state_bytes(partition, stats.bytes);
            if let Some(newest) = task.store.clock().newest {
                metrics.watermark_lag(partition, now - newest.0);
            }
        }
        self.report_closes()?;
        self.survey()?;
        let metrics = &self.shared.metrics;
        metrics.accounts(self.shared.read_model.band_counts());
        metrics.alerts_open(self.shared.read_model.open_alert_counts());
        metrics.lag(&log.lag()?);
        Ok(())
    }
}

impl Worker {
    /// Whichever worker comes by first watches for all, once a second, connected to the log or not.
    fn watch_memory(&self) {
        let memory = &self.shared.memory;
        if !memory.is_bounded() || !memory.is_due(self.clock.elapsed(), REPORT_EVERY) {
            return;
        }
        if let Some(resident) = metrics::resident_bytes() {
            memory.observe(resident);
        }
        let used = [
            ("stores", self.settings.store.shared.usage_bytes()),
            ("accounts", memory.accounts_bytes()),
            ("read_model", self.shared.read_model.memory_bytes()),
        ];
        self.shared.metrics.memory(memory.budget_bytes(), memory.divisor(), &used);
    }
}

/// Opens a partition's store; anew where it has not been written for so long that the changelog may have dropped tombstones meanwhile.
pub(crate) fn open_current(
    dir: &Path,
    application: &str,
    partition: i32,
    options: &StoreOptions,
    now: Millis,
) -> Result<Store, StoreError> {
    let mut store = Store::open(dir, application, partition, options)?;
    if let Some(written) = store.written()
        && now.0 - written.0 > STATE_AGE_MAX_MS
    {
        tracing::warn!(partition, %written, "local state is too old to catch up with: it is read back as a whole");
        drop(store);
        Store::destroy(dir, options)?;
        store = Store::open(dir, application, partition, options)?;
    }
    store.set_time(now);
    Ok(store)
}

/// Full records for the read model, from the store as it is committed.
struct Records {
    core: Arc<RwLock<Core>>,
    reader: StoreReader,
}

impl Details for Records {
    fn record(&self, id: &AccountId) -> Option<HealthRecord> {
        let core = self.core.read().unwrap_or_else(PoisonError::into_inner).clone();
        match self.reader.get(id) {
            Ok(account) => core.record(account?),
            Err(error) => {
                // The worker meets it as well, and decides what is to be done.
                tracing::warn!(%error, account = %id, "an account cannot be read");
                None
            }
        }
    }
}

impl TopicNames {
    /// The topics that workers read, co-partitioned.
    #[must_use]
    pub fn inputs(&self) -> Vec<String> {
        let others = [
            &self.profiles,
            &self.outcomes,
            &self.calendar,
            &self.models,
            &self.ticks,
            &self.cohort_stats,
        ];
        self.events.iter().chain(others).cloned().collect()
    }

    /// Whether the keys of a topic are accounts.
    fn is_of_accounts(&self, topic: &str) -> bool {
        topic == self.profiles
            || topic == self.outcomes
            || self.events.iter().any(|name| name == topic)
    }
}

/// Records of a step after one of so many that took so long, where it may take so long.
fn next_step(step: usize, took: Duration, time: Duration) -> usize {
    if took < time / 4 {
        step * 4
    } else if took > time {
        (step / 2).max(RESTORE_MIN)
    } else {
        step
    }
}

fn stream_of(topics: &TopicNames, topic: &Topic) -> Option<Stream> {
    let topic: &str = topic;
    if topic == topics.state_changelog {
        Some(Stream::State)
    } else if topic == topics.seen_changelog {
        Some(Stream::Seen)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use bellwether_store::memory::MemoryDisk;
    use bellwether_store::{AccountMemory, Format};

    use super::*;

    #[test]
    fn steps_of_a_restore_follow_the_time_they_take_and_never_crawl() {
        let time = Duration::from_millis(200);
        let fast = next_step(RESTORE_FIRST, Duration::from_millis(10), time);
        assert_eq!((fast, next_step(fast, time / 2, time)), (8_000, 8_000));
        let slow = (0..20).fold(fast, |step, _| next_step(step, Duration::from_secs(1), time));
        assert_eq!(slow, RESTORE_MIN);
    }

    #[test]
    fn local_state_that_outlived_the_tombstones_is_read_back_as_a_whole() {
        let disk = MemoryDisk::default();
        let shared = bellwether_store::Shared::simulated(&disk);
        let options =
            StoreOptions { shared, accounts: AccountMemory::new(0), format: Format::NEWEST };
        let open = |now| {
            let dir = Path::new("/state");
            open_current(dir, "app", 0, &options, Millis(now)).expect("a store")
        };
        let mut store = open(0);
        store.finish_restore(&[(Stream::State, 7)]).expect("a write");
        store.close().expect("a flush");
        let store = open(STATE_AGE_MAX_MS);
        assert_eq!(store.position(Stream::State), Some(7), "it can be caught up with");
        store.close().expect("a flush");
        assert_eq!(open(STATE_AGE_MAX_MS + 1).position(Stream::State), None);
    }
}
