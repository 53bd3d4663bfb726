//! A worker as the binary sets one up, on the log of a benchmark.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bellwether_core::step::Core;
use bellwether_engine::clock::Clock;
use bellwether_engine::log::Log as _;
use bellwether_engine::memory::Memory;
use bellwether_engine::metrics::Metrics;
use bellwether_engine::read_model::{Limits, ReadModel, Readiness};
use bellwether_engine::standby::Owned;
use bellwether_engine::topics::TopicNames;
use bellwether_engine::worker::{Settings, Shared, Ticks, Worker};
use bellwether_store::task::{Store, StoreOptions};
use bellwether_store::{AccountMemory, Format, Shared as StoreShared};
use bellwether_wire::decode::{Decoder, RECORD_BYTES_MAX};
use bellwether_wire::encode::Encoder;

use crate::feed::{Counts, Feed, Watch};

/// What names the application in state directories.
pub const APPLICATION: &str = "bench";

/// How a memory budget of so many MiB is divided, as the binary does it for a worker on Kafka: of sixteen parts four are for stores, three for
/// accounts, one each for the read model and the batches; the rest is left to clients and to what is small.
#[derive(Debug, Clone)]
pub struct Budget {
    /// How stores are opened.
    pub store: StoreOptions,
    /// Half of what batches may take: a worker's changes and outputs.
    pub batch_bytes: usize,
    /// Records in a batch at most.
    pub batch_records: usize,
    limits: Limits,
    total: usize,
    accounts: usize,
}

impl Budget {
    /// A budget of so many MiB.
    #[must_use]
    pub fn mib(mib: usize) -> Budget {
        let (total, part) = (mib << 20, (mib << 20) / 16);
        let accounts = 3 * part;
        let store = StoreOptions {
            shared: StoreShared::new(4 * part),
            accounts: AccountMemory::new(accounts),
            format: Format::NEWEST,
        };
        let (batch_bytes, limits) = (part / 2, Limits::within(part));
        Budget { store, batch_bytes, batch_records: 50_000, limits, total, accounts }
    }

    /// What a worker shares with its process.
    ///
    /// # Panics
    /// Never: the metrics' names are sound.
    #[must_use]
    pub fn shared(&self) -> Shared {
        let accounts = self.store.accounts.clone();
        Shared {
            metrics: Metrics::new().expect("metrics can be made"),
            read_model: Arc::new(ReadModel::new(self.limits)),
            readiness: Arc::new(Readiness::default()),
            memory: Arc::new(Memory::new(self.total, accounts, self.accounts)),
            owned: Owned::default(),
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The binary's settings, without recorded time.
    #[must_use]
    pub fn settings(&self, dir: &Path, topics: &TopicNames) -> Settings {
        Settings {
            application: APPLICATION.to_owned(),
            worker: 0,
            topics: topics.clone(),
            state_dir: dir.join("state"),
            store: self.store.clone(),
            batch_records_max: self.batch_records,
            batch_bytes_max: self.batch_bytes,
            batch_time_max: Duration::from_millis(500),
            close_timers_max: 32,
            close_time_max: Duration::from_millis(20),
            dead_letter_bytes_max: 1 << 20,
            restore_records_max: 50_000,
            restore_time_max: Duration::from_millis(200),
            poll_timeout: Duration::from_millis(100),
            ticks: Ticks::Off,
            tick_every: Duration::from_secs(60),
            registry_retry: Duration::from_secs(1),
        }
    }
}

/// A worker on a [`Feed`].
#[derive(Debug)]
pub struct Rig {
    worker: Worker,
    watch: Watch,
    partitions: i64,
    shared: Shared,
}

impl Rig {
    /// A worker that has not started. JSON in and out.
    ///
    /// # Panics
    /// Never: without a registry there is nothing to go wrong with.
    #[must_use]
    pub fn new(dir: &Path, budget: &Budget, core: Core, feed: Feed) -> Rig {
        let (watch, shared) = (feed.watch(), budget.shared());
        let partitions = i64::from(feed.partitions());
        let settings = budget.settings(dir, &TopicNames::default());
        let decoder = Decoder::new(None, RECORD_BYTES_MAX).expect("no registry");
        let mut feed = Some(feed);
        let worker = Worker::new(
            settings,
            shared.clone(),
            core,
            decoder,
            Encoder::json(),
            Box::new(move || Ok(Box::new(feed.take().expect("a feed never fails")))),
        );
        Rig { worker, watch, partitions, shared }
    }

    /// The same with a clock that stands still: then nothing is cut by time, and what is done depends on the input alone.
    #[must_use]
    pub fn out_of_time(self) -> Rig {
        Rig { worker: self.worker.with_clock(Arc::new(Still)), ..self }
    }

    /// Goes round until all partitions are restored.
    ///
    /// # Panics
    /// Where the worker fails.
    pub fn restore(&mut self) {
        let all = usize::try_from(self.partitions).unwrap_or(usize::MAX);
        while self.watch.counts().started < all {
            self.worker.turn().expect("a log and a disk that work");
        }
    }

    /// Goes round until so many records of input of each partition are committed.
    ///
    /// # Panics
    /// Where the worker fails.
    pub fn run_to(&mut self, offset: i64) {
        self.watch.allow(offset);
        while self.watch.counts().inputs < offset * self.partitions {
            self.worker.turn().expect("a log and a disk that work");
        }
    }

    /// What was committed so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.watch.counts()
    }

    /// See [`counter`].
    #[must_use]
    pub fn counter(&self, name: &str) -> f64 {
        counter(&self.shared.metrics, name)
    }

    /// Closes all state.
    pub fn stop(mut self) {
        self.worker.disconnect();
    }
}

/// A counter, over all its series; 0 where there is none.
///
/// # Panics
/// Never: metrics can be rendered.
#[must_use]
pub fn counter(metrics: &Metrics, name: &str) -> f64 {
    let text = metrics.render().expect("metrics can be rendered");
    let series = text.lines().filter_map(|line| line.strip_prefix(name));
    let series = series.filter(|rest| rest.starts_with([' ', '{']));
    series.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Opens the store of a partition that a worker had.
///
/// # Panics
/// Where it cannot be opened.
#[must_use]
pub fn store(dir: &Path, partition: i32, options: &StoreOptions) -> Store {
    let dir = dir.join(format!("state/partition-{partition}"));
    Store::open(&dir, APPLICATION, partition, options).expect("a store that a worker has closed")
}

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn now_ms(&self) -> i64 {
        0
    }

    fn sleep(&self, _duration: Duration) {}
}
