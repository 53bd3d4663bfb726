//! A worker: one thread, one log connection, the partitions it owns.
//!
//! A batch is applied to overlays in memory. Its outputs, changelog records and input positions go into the log as one
//! transaction; only after that has committed are the overlays written to the stores, together with the changelog
//! positions they correspond to, and only then does the read model see them. So local state is never ahead of the log.
//!
//! # Invariants
//! - After a failed commit nothing staged is kept: tasks are dropped and read back from the log.
//! - A record is passed over only when its outcome (outputs, dead letter or counted drop) is in the same transaction.
//! - While the schema registry is away, a partition that needs it waits; the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bellwether_core::event::Input;
use bellwether_core::output::Output;
use bellwether_core::reject::Reject;
use bellwether_core::state::State;
use bellwether_core::step::Core;
use bellwether_core::time::Millis;
use bellwether_store::error::StoreError;
use bellwether_store::task::{Store, StoreOptions, Stream};
use bellwether_wire::dead_letter::DeadLetter;
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::Encoder;

use crate::log::{Append, Log, LogError, Poll, Record, Remedy, Topic, Transaction};
use crate::metrics::Metrics;
use crate::read_model::{ReadModel, Readiness};
use crate::topics::TopicNames;

/// Whether the worker records the passing of time in partitions without input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ticks {
    /// In partitions whose events are about now; one that replays old history is left alone.
    Live,
    /// Never: time moves by events alone.
    Off,
}

/// A partition counts as live when its newest event is at most this old.
const LIVE_AGE_MS_MAX: i64 = 48 * 3_600_000;
/// How long a partition's directory may still be in use by the thread that gave it up.
const HAND_OVER_MAX: Duration = Duration::from_secs(30);
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
    /// Set to stop.
    pub stop: Arc<AtomicBool>,
}

/// Why a worker gave up.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The log failed in a way that a restart does not mend.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// The state store failed.
    #[error("state: {0}")]
    Store(#[from] StoreError),
}

/// Opens a connection to the log; called again after a failure.
pub type OpenLog = Box<dyn FnMut() -> Result<Box<dyn Log>, LogError> + Send>;

struct Task {
    store: Store,
    /// When the partition last had a record or a tick.
    busy_at: Instant,
    /// Set while the partition waits for the schema registry: when to try again, and where to read on.
    waiting: Option<Waiting>,
}

struct Waiting {
    since: Instant,
    offsets: BTreeMap<Topic, i64>,
}

/// What a batch has gathered so far.
#[derive(Default)]
struct Batch {
    transaction: Transaction,
    offsets: BTreeMap<(Topic, i32), i64>,
    outputs: BTreeMap<i32, Vec<Output>>,
    timestamps_ms: Vec<i64>,
    rejected: BTreeMap<bellwether_core::reject::Reason, u64>,
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
    Wait(String),
}

/// One worker.
pub struct Worker {
    settings: Settings,
    shared: Shared,
    core: Core,
    decoder: Decoder,
    encoder: Encoder,
    open: OpenLog,
    tasks: BTreeMap<i32, Task>,
    reported_at: Instant,
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
        let tasks = BTreeMap::new();
        Worker {
            settings,
            shared,
            core,
            decoder,
            encoder,
            open,
            tasks,
            reported_at: Instant::now(),
        }
    }

    /// Runs until it is told to stop, or until only a person can help.
    pub fn run(&mut self) -> Result<(), WorkerError> {
        let mut pause = Duration::from_millis(100);
        while !self.stopped() {
            let served = (self.open)().map_err(WorkerError::from).and_then(|mut log| {
                let served = self.serve(log.as_mut(), &mut pause);
                drop(log);
                served
            });
            let owned: Vec<i32> = self.tasks.keys().copied().collect();
            self.revoke(&owned);
            match served {
                Ok(()) => break,
                Err(WorkerError::Log(error)) if error.remedy != Remedy::Stop => {
                    tracing::warn!(%error, remedy = ?error.remedy, "connecting to the log again");
                    self.wait(pause);
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn wait(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.stopped() {
            self.shared.readiness.beat(self.settings.worker, Instant::now());
            std::thread::sleep(Duration::from_millis(20).min(pause));
        }
    }

    fn serve(&mut self, log: &mut dyn Log, pause: &mut Duration) -> Result<(), WorkerError> {
        while !self.stopped() {
            self.shared.readiness.beat(self.settings.worker, Instant::now());
            match log.poll(self.settings.batch_records_max, self.settings.poll_timeout)? {
                Poll::Idle => {}
                Poll::Assigned(partitions) => {
                    self.shared.readiness.assigned(&partitions);
                    for partition in &partitions {
                        self.assign(log, *partition)?;
                    }
                    log.start(&partitions)?;
                    *pause = Duration::from_millis(100);
                }
                Poll::Revoked(partitions) => self.revoke(&partitions),
                Poll::Records(records) => self.process(log, &records)?,
            }
            self.tick(log)?;
            self.resume_waiting(log)?;
            self.report(log)?;
        }
        Ok(())
    }

    /// Opens and restores a partition's state.
    fn assign(&mut self, log: &mut dyn Log, partition: i32) -> Result<(), WorkerError> {
        let started = Instant::now();
        self.shared.readiness.restoring(partition, 0);
        let mut store = self.open_store(partition)?;
        let mut restored = self.restore(log, partition, &mut store);
        let damaged = matches!(&restored, Err(WorkerError::Store(error)) if error.is_rebuildable());
        if damaged || matches!(restored, Ok(None)) {
            tracing::warn!(
                partition,
                "local state does not match its changelog: rebuilding it from there"
            );
            drop(store);
            Store::destroy(&self.dir(partition), &self.settings.store)?;
            store = self.open_store(partition)?;
            restored = self.restore(log, partition, &mut store);
        }
        let records = restored?.unwrap_or(0);
        self.show(partition, &store)?;
        self.tasks.insert(partition, Task { store, busy_at: Instant::now(), waiting: None });
        self.shared.readiness.ready(partition);
        tracing::info!(partition, records, took = ?started.elapsed(), "partition restored");
        Ok(())
    }

    fn dir(&self, partition: i32) -> PathBuf {
        self.settings.state_dir.join(format!("partition-{partition}"))
    }

    fn open_store(&self, partition: i32) -> Result<Store, StoreError> {
        let dir = self.dir(partition);
        let started = Instant::now();
        let open =
            || Store::open(&dir, &self.settings.application, partition, &self.settings.store);
        loop {
            match open() {
                Err(StoreError::InUse(_))
                    if started.elapsed() < HAND_OVER_MAX && !self.stopped() =>
                {
                    self.wait(Duration::from_millis(50));
                }
                Err(error) if error.is_rebuildable() => {
                    tracing::warn!(partition, %error, "rebuilding the partition from its changelog");
                    Store::destroy(&dir, &self.settings.store)?;
                    return open();
                }
                result => return result,
            }
        }
    }

    /// Replays the changelogs. None: the store is ahead of its log, so it belongs to another one.
    fn restore(
        &self,
        log: &mut dyn Log,
        partition: i32,
        store: &mut Store,
    ) -> Result<Option<u64>, WorkerError> {
        let topics = &self.settings.topics;
        let mut records = 0;
        for (stream, name) in
            [(Stream::State, &topics.state_changelog), (Stream::Seen, &topics.seen_changelog)]
        {
            let topic: Topic = name.as_str().into();
            let from = store.position(stream).unwrap_or(0);
            let mut failed = None;
            let read = log.read(&topic, partition, from, &mut |record| {
                records += 1;
                if records % 1_000 == 0 {
                    self.shared.readiness.beat(self.settings.worker, Instant::now());
                }
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
                return Err(error.into());
            }
            let next = read?;
            if next < from {
                return Ok(None);
            }
            store.finish_restore(&[(stream, next)])?;
        }
        self.shared.metrics.restore(partition, records, 0);
        Ok(Some(records))
    }

    /// Shows the restored accounts to the API.
    fn show(&self, partition: i32, store: &Store) -> Result<(), StoreError> {
        let mut outputs = Vec::new();
        for id in store.accounts()? {
            if let Some(account) = store.get(&id?)? {
                outputs.extend(self.core.view(account));
            }
            if outputs.len() >= 1_000 {
                self.shared.read_model.publish(partition, &outputs);
                outputs.clear();
            }
        }
        self.shared.read_model.publish(partition, &outputs);
        Ok(())
    }

    fn revoke(&mut self, partitions: &[i32]) {
        let inputs = self.settings.topics.inputs();
        for partition in partitions {
            if let Some(task) = self.tasks.remove(partition)
                && let Err(error) = task.store.close()
            {
                // Nothing is lost: the changelog has it, and the store is read back from there.
                tracing::warn!(partition, %error, "closing the partition's state failed");
            }
            self.shared.read_model.drop_partition(*partition);
            self.shared.metrics.drop_partition(*partition, &inputs);
        }
        self.shared.readiness.revoked(partitions);
    }

    fn process(&mut self, log: &mut dyn Log, records: &[Record]) -> Result<(), WorkerError> {
        let span = tracing::debug_span!("batch", records = records.len());
        let _entered = span.enter();
        let mut batch = Batch::default();
        let applied = self.apply_all(log, records, &mut batch);
        let committed = applied.and_then(|()| self.commit(log, batch));
        if committed.is_err() {
            for task in self.tasks.values_mut() {
                task.store.discard();
            }
        }
        committed
    }

    fn apply_all(
        &mut self,
        log: &mut dyn Log,
        records: &[Record],
        batch: &mut Batch,
    ) -> Result<(), WorkerError> {
        let now = Instant::now();
        for record in records {
            let Some(task) = self.tasks.get_mut(&record.partition) else { continue };
            if let Some(waiting) = &mut task.waiting {
                waiting.offsets.entry(Arc::clone(&record.topic)).or_insert(record.offset);
                continue;
            }
            task.busy_at = now;
            match self.handle(record, batch)? {
                Handled::Done => {
                    batch.records += 1;
                    *batch.records_in.entry(Arc::clone(&record.topic)).or_default() += 1;
                    batch
                        .offsets
                        .insert((Arc::clone(&record.topic), record.partition), record.offset + 1);
                }
                Handled::Wait(detail) => {
                    tracing::warn!(
                        partition = record.partition,
                        detail,
                        "waiting for the schema registry"
                    );
                    self.shared.metrics.registry_wait();
                    log.pause(&[record.partition])?;
                    let offsets = BTreeMap::from([(Arc::clone(&record.topic), record.offset)]);
                    if let Some(task) = self.tasks.get_mut(&record.partition) {
                        task.waiting = Some(Waiting { since: now, offsets });
                    }
                }
            }
        }
        Ok(())
    }

    fn handle(&mut self, record: &Record, batch: &mut Batch) -> Result<Handled, WorkerError> {
        let received_at = Millis(record.timestamp_ms);
        match self.decode(record) {
            Ok(input) => {
                let is_event = matches!(input, Input::Event(_));
                let outputs = batch.outputs.entry(record.partition).or_default();
                let Some(task) = self.tasks.get_mut(&record.partition) else {
                    return Ok(Handled::Done);
                };
                match self.core.apply(&mut task.store, input, received_at, outputs)? {
                    Ok(applied) => {
                        batch.days_closed += u64::from(applied.days_closed);
                        if is_event {
                            batch.admitted += 1;
                            batch.unmatched += u64::from(applied.signals == 0);
                            batch.distinct_dropped += u64::from(applied.distinct_dropped);
                            batch.timestamps_ms.push(record.timestamp_ms);
                        }
                    }
                    Err(reject) => self.reject(record, &reject, batch),
                }
                Ok(Handled::Done)
            }
            Err(DecodeError::Reject(reject)) => {
                self.reject(record, &reject, batch);
                Ok(Handled::Done)
            }
            Err(DecodeError::RegistryUnavailable(detail)) => Ok(Handled::Wait(detail)),
        }
    }

    fn decode(&mut self, record: &Record) -> Result<Input, DecodeError> {
        let topics = &self.settings.topics;
        let (key, payload) = (record.key.as_deref(), record.payload.as_deref());
        let topic: &str = &record.topic;
        if topic == topics.ticks {
            return Ok(Input::Tick);
        }
        if topic == topics.profiles {
            return self.decoder.profile(key, payload).map(Input::Profile);
        }
        if topic == topics.outcomes {
            return self.decoder.outcome(key, payload).map(Input::Outcome);
        }
        self.decoder.event(key, payload).map(Input::Event)
    }

    /// Counts a rejected record and keeps it as a dead letter, unless dropping it is what was intended.
    fn reject(&self, record: &Record, reject: &Reject, batch: &mut Batch) {
        *batch.rejected.entry(reject.reason).or_default() += 1;
        if reject.reason.intended() {
            return;
        }
        tracing::debug!(topic = %record.topic, partition = record.partition, offset = record.offset, %reject, "dead letter");
        batch.dead_letters += 1;
        let letter = DeadLetter::new(reject, &record.topic, record.partition, record.offset);
        let headers = letter.headers(&record.headers);
        batch.transaction.appends.push(Append {
            topic: self.settings.topics.dead_letters.as_str().into(),
            partition: record.partition,
            key: record.key.clone(),
            payload: record.payload.clone(),
            headers,
            timestamp_ms: Some(record.timestamp_ms),
        });
    }

    /// Commits a batch: the log first, then the stores, then the read model.
    fn commit(&mut self, log: &mut dyn Log, mut batch: Batch) -> Result<(), WorkerError> {
        if batch.offsets.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        self.encode_outputs(&mut batch);
        let touched: BTreeSet<i32> =
            batch.offsets.keys().map(|(_, partition)| *partition).collect();
        for partition in &touched {
            self.append_changes(*partition, &mut batch.transaction)?;
        }
        batch.transaction.offsets = batch
            .offsets
            .iter()
            .map(|((topic, partition), next)| (Arc::clone(topic), *partition, *next))
            .collect();
        let receipt = log
            .commit(&batch.transaction)
            .inspect_err(|error| self.shared.metrics.commit_failed(error.remedy))?;
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
            task.store.commit(&positions)?;
            if let Some(outputs) = batch.outputs.get(partition) {
                self.shared.read_model.publish(*partition, outputs);
            }
        }
        self.count(&batch, started.elapsed());
        Ok(())
    }

    fn encode_outputs(&self, batch: &mut Batch) {
        let topics = &self.settings.topics;
        for (partition, outputs) in &batch.outputs {
            for output in outputs {
                let encoded = self.encoder.encode(output);
                let topic = match output {
                    Output::ScoreChanged(_) => &topics.score_changed,
                    Output::Health(_) => &topics.score_current,
                    Output::Alert(_) => &topics.alerts,
                };
                batch.transaction.appends.push(Append {
                    topic: topic.as_str().into(),
                    partition: *partition,
                    key: Some(output.account().as_str().as_bytes().to_vec()),
                    payload: Some(encoded.payload),
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
        let Some(task) = self.tasks.get_mut(&partition) else { return Ok(()) };
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
        for (reason, records) in &batch.rejected {
            metrics.rejected(*reason, *records);
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
        metrics.published(now_ms(), batch.timestamps_ms.iter().copied());
    }

    /// Records the passing of time in quiet live partitions, so that silence is noticed and a replay sees the same.
    fn tick(&mut self, log: &mut dyn Log) -> Result<(), WorkerError> {
        if self.settings.ticks == Ticks::Off {
            return Ok(());
        }
        let now = now_ms();
        let every = self.settings.tick_every;
        let topic: Topic = self.settings.topics.ticks.as_str().into();
        let mut transaction = Transaction::default();
        for (&partition, task) in &mut self.tasks {
            let live =
                task.store.clock().newest.is_some_and(|newest| now - newest.0 <= LIVE_AGE_MS_MAX);
            if !live || task.waiting.is_some() || task.busy_at.elapsed() < every {
                continue;
            }
            task.busy_at = Instant::now();
            transaction.appends.push(Append {
                topic: Arc::clone(&topic),
                partition,
                key: None,
                payload: Some(format!("{{\"at\":{now}}}").into_bytes()),
                headers: Vec::new(),
                timestamp_ms: Some(now),
            });
        }
        if !transaction.appends.is_empty() {
            log.commit(&transaction)?;
        }
        Ok(())
    }

    /// Lets partitions that wait for the schema registry try again.
    fn resume_waiting(&mut self, log: &mut dyn Log) -> Result<(), WorkerError> {
        for (&partition, task) in &mut self.tasks {
            let due = task
                .waiting
                .as_ref()
                .is_some_and(|waiting| waiting.since.elapsed() >= self.settings.registry_retry);
            if !due {
                continue;
            }
            if let Some(waiting) = task.waiting.take() {
                let offsets: Vec<(Topic, i32, i64)> = waiting
                    .offsets
                    .into_iter()
                    .map(|(topic, offset)| (topic, partition, offset))
                    .collect();
                log.resume(&[partition], &offsets)?;
            }
        }
        Ok(())
    }

    fn report(&mut self, log: &mut dyn Log) -> Result<(), WorkerError> {
        if self.reported_at.elapsed() < REPORT_EVERY {
            return Ok(());
        }
        self.reported_at = Instant::now();
        let metrics = &self.shared.metrics;
        let now = now_ms();
        for (&partition, task) in &self.tasks {
            metrics.state_bytes(partition, task.store.stats()?.bytes);
            if let Some(newest) = task.store.clock().newest {
                metrics.watermark_lag(partition, now - newest.0);
            }
        }
        metrics.accounts(self.shared.read_model.band_counts());
        metrics.alerts_open(self.shared.read_model.open_alert_counts());
        metrics.lag(&log.lag()?);
        Ok(())
    }
}

impl TopicNames {
    /// The topics that workers read, co-partitioned.
    #[must_use]
    pub fn inputs(&self) -> Vec<String> {
        let others = [&self.profiles, &self.outcomes, &self.ticks];
        self.events.iter().chain(others).cloned().collect()
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

/// The wall clock, for stamps and ages; no decision about an account depends on it.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
