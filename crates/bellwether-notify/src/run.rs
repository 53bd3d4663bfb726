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

use bellwether_core::time::Millis;
use bellwether_engine::log::{Append, Log, LogError, Poll, Record, Remedy, Topic, Transaction};
use bellwether_engine::metrics::Metrics;
use bellwether_engine::read_model::Readiness;
use bellwether_engine::worker::OpenLog;
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::OutputKind;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::breaker::{Gate, State};
use crate::channel::{Channel, Environment};
use crate::delivery::{Delivery, Outcome, Parking};
use crate::desk::RowError;
use crate::event::Alert;
use crate::planner::Planner;
use crate::policy::{Loaded, PolicyError};
use crate::render::Texts;

mod attempt;
mod profiles;
mod rows;

/// Records of one poll at most.
const RECORDS_MAX: usize = 500;
/// How long a poll waits while attempts are under way, and otherwise.
const POLLS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));
/// How often digests and limits of time are looked at.
const TICK_EVERY: Duration = Duration::from_millis(200);
/// How often gauges are refreshed.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How often changed profiles are read.
const PROFILES_EVERY: Duration = Duration::from_secs(2);
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
    /// Its memory.
    pub state: Topic,
    /// What could not be told.
    pub parked: Topic,
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

/// What an attempt came to.
struct Attempted {
    partition: i32,
    key: String,
    sink: String,
    outcome: Outcome,
    took: Duration,
}

/// Reads alerts and tells people. Runs on a thread of its own.
pub struct Notifier {
    settings: Settings,
    texts: Arc<Texts>,
    version: String,
    planner: Planner,
    channels: BTreeMap<String, Arc<Channel>>,
    gates: BTreeMap<String, Gate>,
    /// Idempotency keys of attempts under way, and their partition.
    under_way: HashMap<String, i32>,
    results: (Sender<Attempted>, Receiver<Attempted>),
    decoder: Decoder,
    open: OpenLog,
    process: Process,
    random: fastrand::Rng,
    profiles: profiles::Follower,
    /// Next position per partition that is not committed yet.
    offsets: BTreeMap<i32, i64>,
    /// Records that could not be read, to be parked.
    unreadable: Vec<(Record, String)>,
    runtime: Runtime,
    ticked: Instant,
    reported: Instant,
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
        let (mut channels, mut gates) = (BTreeMap::new(), BTreeMap::new());
        for sink in &policy.policy().sinks {
            let channel = Channel::open(policy.policy(), sink, environment)?;
            channels.insert(sink.name.clone(), Arc::new(channel));
            let gate = Gate::new(&policy.policy().breaker, sink.at_once());
            gates.insert(sink.name.clone(), gate);
            process.metrics.sink(&sink.name);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("sinks")
            .enable_all()
            .build()?;
        Ok(Notifier {
            planner: Planner::new(Arc::clone(&texts), policy.version()),
            profiles: profiles::Follower::new(settings.profiles.clone()),
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
        self.planner = Planner::new(Arc::clone(&self.texts), &self.version);
        self.profiles.drop_all();
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
        self.profiles.follow(log, &mut self.planner, &mut self.decoder, PROFILES_EVERY)?;
        if self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            self.report();
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
        self.profiles.assign(partition);
        self.profiles.read(log, partition, &mut self.planner, &mut self.decoder)
    }

    fn revoked(&mut self, partitions: &[i32]) {
        self.process.readiness.revoked(partitions);
        for partition in partitions {
            self.planner.revoke(*partition);
            self.profiles.revoke(*partition);
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
                Ok(alert) => self.planner.alert(record.partition, &alert, (self.process.clock)()),
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

    fn take_results(&mut self) {
        while let Ok(attempted) = self.results.1.try_recv() {
            self.settle(attempted);
        }
    }

    fn settle(&mut self, attempted: Attempted) {
        let Attempted { partition, key, sink, outcome, took } = attempted;
        self.under_way.remove(&key);
        let now_ms = (self.process.clock)();
        let result = match &outcome {
            Outcome::Delivered => "delivered",
            Outcome::Failed { detail, .. } | Outcome::Throttled { detail, .. } => {
                tracing::debug!(sink, key, detail, "an attempt failed");
                "failed"
            }
            Outcome::Refused { detail, reason } => {
                tracing::warn!(sink, key, detail, reason = reason.as_str(), "a delivery is parked");
                "refused"
            }
        };
        self.process.metrics.delivery(&sink, result, took);
        if let Some(gate) = self.gates.get_mut(&sink) {
            if !outcome.works() && gate.state(now_ms) != State::Closed {
                self.planner.excuse(partition, &key);
            }
            gate.ended(outcome.works(), now_ms);
            if let Some(asked) = outcome.retry_after_ms() {
                let most =
                    self.texts.policy().delivery.retry_after_max_seconds.saturating_mul(1000);
                gate.pause(now_ms.saturating_add_unsigned(asked.min(most)));
            }
        }
        let at_once =
            self.planner.desks().get(&partition).and_then(|desk| desk.get(&key)).map(at_once);
        if let (Outcome::Delivered, Some(Some(since))) = (&outcome, at_once) {
            let delay = u64::try_from(now_ms - since).unwrap_or(0);
            self.process.metrics.delivery_delay(&sink, Duration::from_millis(delay));
        }
        let random = &mut self.random;
        self.planner.settle(partition, &key, outcome, now_ms, &mut |most| random.u64(0..=most));
    }

    /// Commits what changed. False where a rebalance came in between: everything was read back then.
    fn commit(&mut self, log: &mut dyn Log) -> Result<bool, LogError> {
        let parked = self.planner.take_parked();
        let mut appends: Vec<Append> = self
            .planner
            .take_changes()
            .into_iter()
            .map(|(partition, key, payload)| Append {
                topic: self.settings.state.clone(),
                partition,
                key: Some(key.into_bytes()),
                payload,
                headers: Vec::new(),
                timestamp_ms: None,
            })
            .collect();
        appends.extend(parked.iter().map(|parked| rows::parked(&self.settings.parked, parked)));
        let unreadable = std::mem::take(&mut self.unreadable);
        appends.extend(
            unreadable
                .iter()
                .map(|(record, detail)| rows::unreadable(&self.settings.parked, record, detail)),
        );
        let offsets = std::mem::take(&mut self.offsets).into_iter();
        let offsets: Vec<(Topic, i32, i64)> = offsets
            .map(|(partition, next)| (self.settings.alerts.clone(), partition, next))
            .collect();
        if appends.is_empty() && offsets.is_empty() {
            return Ok(true);
        }
        match log.commit(&Transaction { appends, offsets }) {
            Ok(_) => {}
            Err(error) if error.remedy == Remedy::Rewind => {
                self.read_back(log)?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        for parked in &parked {
            self.process.metrics.alerts_parked(parked.reason.as_str(), 1);
        }
        let count = u64::try_from(unreadable.len()).unwrap_or(u64::MAX);
        self.process.metrics.alerts_parked(Parking::Undecodable.as_str(), count);
        for (reason, count) in self.planner.take_suppressed() {
            self.process.metrics.alerts_suppressed(reason.as_str(), count);
        }
        Ok(true)
    }

    /// Nothing was committed, and the log goes on: all that is not in it is forgotten.
    fn read_back(&mut self, log: &mut dyn Log) -> Result<(), LogError> {
        let partitions: Vec<i32> = self.planner.desks().keys().copied().collect();
        self.drop_all();
        for partition in &partitions {
            self.restore(log, *partition)?;
        }
        log.rewind(&partitions)
    }

    /// Begins what is due and may begin.
    fn dispatch(&mut self) {
        let now_ms = (self.process.clock)();
        let (under_way, gates) = (&self.under_way, &self.gates);
        let may = |sink: &str, chosen: usize| {
            gates.get(sink).is_some_and(|gate| gate.admits_after(chosen, now_ms))
        };
        let ready = self.planner.ready(now_ms, &|key| under_way.contains_key(key), &may);
        for (partition, delivery) in ready {
            if let Some(gate) = self.gates.get_mut(&delivery.sink) {
                gate.began();
                self.under_way.insert(delivery.key.clone(), partition);
                self.attempt(partition, delivery);
            }
        }
    }

    fn attempt(&self, partition: i32, delivery: Delivery) {
        let Some(channel) = self.channels.get(&delivery.sink).map(Arc::clone) else { return };
        let (texts, results) = (Arc::clone(&self.texts), self.results.0.clone());
        let now = Millis((self.process.clock)());
        self.runtime.spawn(async move {
            let began = Instant::now();
            let Delivery { key, sink, .. } = delivery.clone();
            let outcome =
                attempt::guarded(async move { channel.attempt(&texts, &delivery, now).await })
                    .await;
            let attempted = Attempted { partition, key, sink, outcome, took: began.elapsed() };
            // Whoever is to hear of it is gone only where the process ends.
            drop(results.send(attempted).await);
        });
    }

    fn report(&self) {
        let now_ms = (self.process.clock)();
        let states = State::ALL.map(State::as_str);
        for (sink, gate) in &self.gates {
            let desks = || self.planner.desks().values();
            let waiting = desks().map(|desk| desk.waiting(sink)).sum();
            let entries = desks().map(|desk| desk.entries_for(sink)).sum();
            self.process.metrics.deliveries_waiting(sink, waiting, entries);
            self.process.metrics.sink_breaker(sink, gate.state(now_ms).as_str(), &states);
        }
    }
}

/// Since when a delivery could have been told, where that was at once.
fn at_once(delivery: &Delivery) -> Option<i64> {
    (delivery.attempts > 0 || delivery.due_ms == delivery.created_ms).then_some(delivery.created_ms)
}
