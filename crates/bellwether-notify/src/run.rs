//! The notifier at work: reads alerts, decides, sends, remembers.
//!
//! # Invariants
//! - What is to be told is committed, together with the position in the alerts, before it is sent; what became of it is committed after. So a
//!   kill at any point repeats an attempt under the same idempotency key, and loses none.
//! - The thread that owns the log waits for no sink: attempts run on a runtime of their own, bounded per sink.
//! - After a failure of the log everything is dropped and read back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bellwether_engine::log::{Log, LogError, Poll, Record, Remedy, Topic};
use bellwether_engine::metrics::Metrics;
use bellwether_engine::read_model::Readiness;
use bellwether_engine::worker::OpenLog;
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::OutputKind;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::breaker::Gate;
use crate::channel::{Channel, Environment};
use crate::delivery::Parking;
use crate::desk::{Format, RowError};
use crate::event::Alert;
use crate::planner::{Planner, Suppressed};
use crate::policy::{Loaded, PolicyError};
use crate::render::Texts;

mod accounts;
mod attempt;
mod calendar;
mod commit;
mod profiles;
mod requests;
mod rows;
mod since;

pub use rows::ParkedRecord;

#[cfg(test)]
pub(crate) use rows::parked_record;

/// Records of one poll at most.
const RECORDS_MAX: usize = 500;
/// How long a poll waits while attempts are under way, and otherwise.
const POLLS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));
/// How often digests and limits of time are looked at.
const TICK_EVERY: Duration = Duration::from_millis(200);
/// How often gauges are refreshed.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How often changed profiles, and requests to send again what was parked, are read.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);
/// How often a page of scores is looked at for accounts that are new.
const SCORES_EVERY: Duration = Duration::from_secs(1);
/// How often changes of the calendar are read.
const HOLIDAYS_EVERY: Duration = Duration::from_secs(60);
/// The pauses between attempts to reach the log: the first, and the longest.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// The longest sleep in which a request to stop goes unnoticed.
const NAP: Duration = Duration::from_millis(20);
/// How long a stop waits for attempts that are under way; what is left is attempted again after the start, under the same key.
const STOP_WAIT: Duration = Duration::from_secs(3);
/// Results that may wait to be taken; an attempt that ends beyond that waits.
const RESULTS_MAX: usize = 1024;

/// What a notifier is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its input.
    pub alerts: Topic,
    /// What is known of accounts.
    pub profiles: Topic,
    /// Which accounts there are.
    pub scores: Topic,
    /// Public holidays.
    pub calendar: Topic,
    /// Its memory.
    pub state: Topic,
    /// What could not be told.
    pub parked: Topic,
    /// For how many milliseconds that is kept.
    pub parked_ms: i64,
    /// The format in which its memory is written; every one is read.
    pub format: Format,
}

impl Settings {
    fn planner(&self, texts: &Arc<Texts>, version: &str) -> Planner {
        Planner::new(Arc::clone(texts), version).parking_for(self.parked_ms).writing(self.format)
    }
}

/// What a notifier shares with its process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Metrics of the process.
    pub metrics: Metrics,
    /// Whether the notifier is ready; of a process that has workers one of its own.
    pub readiness: Arc<Readiness>,
    /// Set to stop.
    pub stop: Arc<AtomicBool>,
    /// The present, in milliseconds since 1970.
    pub clock: fn() -> i64,
}

/// Why a notifier gave up.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The log failed in a way that a restart does not mend.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// No threads for the sinks.
    #[error("cannot start the runtime of the sinks: {0}")]
    Runtime(#[from] std::io::Error),
}

impl From<RowError> for LogError {
    /// A newer version has been here: a person has to decide.
    fn from(error: RowError) -> LogError {
        LogError::new(Remedy::Stop, error)
    }
}

/// Reads alerts and tells people. Runs on a thread of its own.
pub struct Notifier {
    settings: Settings,
    texts: Arc<Texts>,
    version: String,
    planner: Planner,
    channels: BTreeMap<String, Arc<Channel>>,
    gates: BTreeMap<String, Gate>,
    /// Idempotency keys of attempts under way, and what they hold.
    under_way: HashMap<String, attempt::Lane>,
    results: (Sender<attempt::Attempted>, Receiver<attempt::Attempted>),
    decoder: Decoder,
    open: OpenLog,
    process: Process,
    random: fastrand::Rng,
    profiles: profiles::Follower,
    requests: requests::Requests,
    scored: accounts::Scored,
    holidays: calendar::Holidays,
    /// Next position per partition that is not committed yet.
    offsets: BTreeMap<i32, i64>,
    /// Records that could not be read, to be parked.
    unreadable: Vec<(Record, String)>,
    runtime: Runtime,
    ticked: Instant,
    reported: Instant,
    /// Alerts that were not even parked, since it was last said.
    unparked: u64,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Notifier").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Notifier {
    /// Opens the sinks of a policy. The log is opened by [`Notifier::run`].
    ///
    /// # Errors
    /// A sink's URL or secret is missing or cannot be used.
    pub fn new(
        settings: Settings,
        policy: &Loaded,
        environment: Environment<'_>,
        decoder: Decoder,
        open: OpenLog,
        process: Process,
    ) -> Result<Notifier, NotifyError> {
        let texts = Arc::clone(policy.texts());
        policy.policy().has_routes().map_err(PolicyError)?;
        let (mut channels, mut gates) = (BTreeMap::new(), BTreeMap::new());
        for sink in &policy.policy().sinks {
            let channel = Channel::open(policy.policy(), sink, environment)?;
            channels.insert(sink.name.clone(), Arc::new(channel));
            let gate = Gate::new(&policy.policy().breaker, sink.at_once());
            gates.insert(sink.name.clone(), gate);
            process.metrics.sink(&sink.name);
        }
        // Counters that begin with their first count would hide it from a rate.
        for reason in Parking::ALL {
            process.metrics.alerts_parked(reason.as_str(), 0);
        }
        for reason in Suppressed::ALL {
            process.metrics.alerts_suppressed(reason.as_str(), 0);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("sinks")
            .enable_all()
            .build()?;
        let quiet = policy.policy().routes.iter().filter_map(|route| route.quiet.as_ref());
        let heeds_holidays = quiet.into_iter().any(|quiet| !quiet.holidays.is_empty());
        Ok(Notifier {
            planner: settings.planner(&texts, policy.version()),
            profiles: profiles::Follower::new(settings.profiles.clone()),
            requests: requests::Requests::new(settings.parked.clone(), settings.alerts.clone()),
            scored: accounts::Scored::new(settings.scores.clone()),
            holidays: calendar::Holidays::new(settings.calendar.clone(), heeds_holidays),
            settings,
            texts,
            version: policy.version().to_owned(),
            channels,
            gates,
            under_way: HashMap::new(),
            results: channel(RESULTS_MAX),
            decoder,
            open,
            process,
            random: fastrand::Rng::new(),
            offsets: BTreeMap::new(),
            unreadable: Vec::new(),
            runtime,
            ticked: Instant::now(),
            reported: Instant::now(),
            unparked: 0,
        })
    }

    /// Works until it is to stop.
    ///
    /// # Errors
    /// The log failed in a way that a restart does not mend.
    pub fn run(mut self) -> Result<(), NotifyError> {
        tracing::info!(policy = self.version, sinks = self.channels.len(), "the notifier starts");
        let mut pause = RETRY_PAUSES.0;
        while !self.stopping() {
            let began = Instant::now();
            match self.work() {
                Ok(()) => break,
                Err(error) if error.remedy == Remedy::Stop => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "the notifier opens the log again");
                    if began.elapsed() > RETRY_PAUSES.1 {
                        pause = RETRY_PAUSES.0;
                    }
                    self.sleep(pause);
                    pause = (pause * 2).min(RETRY_PAUSES.1);
                }
            }
        }
        // Attempts that are stuck in a lookup of a name end with the process.
        self.runtime.shutdown_background();
        Ok(())
    }

    fn stopping(&self) -> bool {
        self.process.stop.load(Ordering::Relaxed)
    }

    fn sleep(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.stopping() {
            std::thread::sleep(NAP.min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// One life of a log: until a failure, or the end.
    fn work(&mut self) -> Result<(), LogError> {
        let mut log = (self.open)()?;
        self.drop_all();
        while !self.stopping() {
            self.turn(log.as_mut())?;
        }
        let until = Instant::now() + STOP_WAIT;
        while !self.under_way.is_empty() && Instant::now() < until {
            std::thread::sleep(POLLS.0);
            self.take_results();
        }
        self.commit(log.as_mut()).map(drop)
    }

    /// Forgets what is not in the log.
    fn drop_all(&mut self) {
        self.planner = self.settings.planner(&self.texts, &self.version);
        self.profiles.drop_all();
        self.requests.drop_all();
        self.scored.drop_all();
        self.holidays.drop_all();
        self.offsets.clear();
        self.unreadable.clear();
    }

    /// One turn: what came of attempts, what is new, what time brings; commits it, and begins what is due.
    fn turn(&mut self, log: &mut dyn Log) -> Result<(), LogError> {
        self.take_results();
        self.process.readiness.beat(0, Instant::now());
        let waits = if self.under_way.is_empty() { POLLS.1 } else { POLLS.0 };
        let mut stalled = BTreeSet::new();
        match log.poll(RECORDS_MAX, waits)? {
            Poll::Idle => {}
            Poll::Assigned(partitions) => self.assigned(log, &partitions)?,
            Poll::Revoked(partitions) => self.revoked(&partitions),
            Poll::Records(records) => stalled = self.records(records),
        }
        if self.ticked.elapsed() >= TICK_EVERY {
            self.ticked = Instant::now();
            let under_way = &self.under_way;
            self.planner.tick((self.process.clock)(), &|key| under_way.contains_key(key));
        }
        if self.commit(log)? {
            self.dispatch();
        }
        if !stalled.is_empty() {
            // The registry is away: these records come again.
            let partitions: Vec<i32> = stalled.into_iter().collect();
            log.rewind(&partitions)?;
            self.sleep(RETRY_PAUSES.0);
        }
        // Nothing that was polled waits for this; what comes of it is committed with the next turn.
        let mut desk = requests::Desk {
            planner: &mut self.planner,
            decoder: &mut self.decoder,
            unreadable: &mut self.unreadable,
            now_ms: (self.process.clock)(),
        };
        self.requests.follow(log, &mut desk, FOLLOW_EVERY)?;
        self.profiles.follow(log, &mut self.planner, &mut self.decoder, FOLLOW_EVERY)?;
        self.scored.follow(log, &mut self.planner, SCORES_EVERY)?;
        self.holidays.follow(log, &mut self.planner, &mut self.decoder, HOLIDAYS_EVERY)?;
        if self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            self.report();
            if self.unparked > 0 {
                let count = std::mem::take(&mut self.unparked);
                tracing::warn!(
                    count,
                    "alerts that are too old are dropped and not parked any more today (delivery.parked_max_day)"
                );
            }
        }
        Ok(())
    }

    fn assigned(&mut self, log: &mut dyn Log, partitions: &[i32]) -> Result<(), LogError> {
        self.process.readiness.assigned(0, partitions);
        for partition in partitions {
            self.restore(log, *partition)?;
            self.process.readiness.ready(*partition);
        }
        log.start(partitions)
    }

    /// Reads a partition's memory, and what is known of its accounts.
    fn restore(&mut self, log: &mut dyn Log, partition: i32) -> Result<(), LogError> {
        self.planner.assign(partition);
        self.offsets.remove(&partition);
        let topic = self.settings.state.clone();
        let mut next = 0;
        loop {
            let planner = &mut self.planner;
            let read = log.read(&topic, partition, next, RECORDS_MAX, &mut |record| {
                let Some(key) = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok())
                else {
                    return Ok(());
                };
                Ok(planner.restore(partition, key, record.payload.as_deref())?)
            })?;
            next = read.next;
            if next >= read.end {
                break;
            }
        }
        self.requests.assign(partition, self.planner.redriven_to(partition));
        self.holidays.follow(log, &mut self.planner, &mut self.decoder, HOLIDAYS_EVERY)?;
        self.profiles.assign(partition);
        self.profiles.read(log, partition, &mut self.planner, &mut self.decoder)?;
        // After the profiles: an account that was deleted may have begun anew.
        self.scored.assign(log, partition, &mut self.planner)
    }

    fn revoked(&mut self, partitions: &[i32]) {
        self.process.readiness.revoked(partitions);
        for partition in partitions {
            self.planner.revoke(*partition);
            self.profiles.revoke(*partition);
            self.requests.revoke(*partition);
            self.scored.revoke(*partition);
            self.offsets.remove(partition);
            self.unreadable.retain(|(record, _)| record.partition != *partition);
        }
    }

    /// Takes records. Returns the partitions whose records have to come again, because the registry is away.
    fn records(&mut self, records: Vec<Record>) -> BTreeSet<i32> {
        let mut stalled = BTreeSet::new();
        for record in records {
            if stalled.contains(&record.partition) {
                continue;
            }
            self.decoder.set_received(record.timestamp_ms);
            match self.decoder.output_as::<Alert>(OutputKind::Alert, record.payload.as_deref()) {
                Ok(alert) => match alert.oversized_id() {
                    None => self.planner.alert(record.partition, &alert, (self.process.clock)()),
                    Some(detail) => self.unreadable.push((record.clone(), detail)),
                },
                Err(DecodeError::RegistryUnavailable(detail)) => {
                    tracing::warn!(detail, "alerts wait for the schema registry");
                    stalled.insert(record.partition);
                    continue;
                }
                Err(DecodeError::Reject(reject)) => {
                    self.unreadable.push((record.clone(), reject.to_string()));
                }
            }
            self.offsets.insert(record.partition, record.offset + 1);
        }
        stalled
    }
}
