//! Worker processes, producers and time around the model broker, all decided by one seed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwether_core::points::Points;
use bellwether_core::policy::{Compiled, DEFAULT_TOML, Policy, Signal};
use bellwether_core::score::{Context, ExpertScorecard, Reading, Scale, Scorer};
use bellwether_core::standing::{Standing, Trait};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use bellwether_engine::clock::Clock;
use bellwether_engine::log::{Append, Topic};
use bellwether_engine::memory::Memory;
use bellwether_engine::metrics::Metrics;
use bellwether_engine::read_model::{ReadModel, Readiness};
use bellwether_engine::standby::{self, OpenFollow, Owned, Standby};
use bellwether_engine::topics::TopicNames;
use bellwether_engine::worker::{OpenLog, Settings, Shared, Ticks, Worker};
use bellwether_store::memory::MemoryDisk;
use bellwether_store::task::StoreOptions;
use bellwether_store::{AccountMemory, Format};
use bellwether_wire::decode::Decoder;
use bellwether_wire::encode::Encoder;
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::follow::ModelFollow;
use crate::log::{Faults, ModelLog, POWER_CUT, PowerCut, lock};

/// Where event time begins: a Monday.
pub(crate) const START_MS: i64 = 20_402 * DAY_MS;
/// Where workers keep their state.
const STATE_DIR: &str = "/state";
/// The largest record that is decoded.
pub(crate) const RECORD_BYTES_MAX: usize = 4096;
/// After so long without a poll a member is put out of the group, once the faults have stopped.
const SESSION_MS: i64 = 3_000;
/// Turns after which everything has to be worked off once the faults have stopped.
const TURNS_MAX: u32 = 20_000;

/// Time as the schedule has it.
#[derive(Debug, Clone)]
struct ModelClock {
    now_ms: Arc<AtomicI64>,
    /// Every look takes a little time, so that batches are cut somewhere.
    looks: Arc<AtomicU64>,
}

impl Clock for ModelClock {
    fn elapsed(&self) -> Duration {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let since = self.now_ms.load(Ordering::Relaxed) - START_MS;
        Duration::from_millis(since.unsigned_abs()) + Duration::from_micros(looks)
    }

    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    fn sleep(&self, duration: Duration) {
        let ms = i64::try_from(duration.as_millis()).expect("short");
        self.now_ms.fetch_add(ms.max(1), Ordering::Relaxed);
    }
}

/// The expert's scorecard, with all lines so many times as long: what promotions bring.
#[derive(Debug)]
struct Times(i32, String);

fn read_model(text: &str, _policy: &Compiled) -> Result<Arc<dyn Scorer>, String> {
    let times: i32 = text.parse().map_err(|error| format!("{text}: {error}"))?;
    Ok(Arc::new(Times(times, format!("times-{times}"))))
}

impl Scorer for Times {
    fn version(&self) -> &str {
        &self.1
    }

    fn scale(&self) -> Option<Scale> {
        Some(Scale { base: 60.0, healthy_min: 65.0, at_risk_below: 40.0 })
    }

    fn signal(&self, cohort: &str, signal: &Signal, reading: &Reading, policy: &Policy) -> Points {
        Points(self.0 * ExpertScorecard.signal(cohort, signal, reading, policy).0)
    }

    fn absence(&self, cohort: &str, signal: &Signal, z: f64) -> Points {
        Points(self.0 * ExpertScorecard.absence(cohort, signal, z).0)
    }

    fn context(&self, context: &Context, policy: &Policy) -> [Points; 3] {
        ExpertScorecard.context(context, policy).map(|points| Points(self.0 * points.0))
    }

    fn horizon_days(&self) -> Option<u32> {
        Some(28)
    }

    fn standing(&self, _cohort: &str, standing: &Standing) -> Vec<(Trait, Points)> {
        let activity = standing.get(Trait::Activity);
        let points =
            if activity.is_finite() { Points::from_f64(activity * 10.0) } else { Points::ZERO };
        vec![(Trait::Activity, points)]
    }
}

/// What every schedule shares.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) core: Core,
    pub(crate) topics: TopicNames,
}

impl Fixed {
    pub(crate) fn new() -> Fixed {
        let topics = TopicNames {
            events: vec!["events-a".to_owned(), "events-b".to_owned()],
            ..TopicNames::default()
        };
        // A handful of accounts has a fleet view, too.
        let text = format!("{DEFAULT_TOML}\n").replace("accounts_min = 20", "accounts_min = 2");
        // And its closes lie behind.
        let text = text.replace("per_tick = 8 ", "per_tick = 2 ");
        let policy = Compiled::parse("simulated.toml", &text).expect("a good policy");
        assert_eq!(policy.close.per_tick, 2);
        assert_eq!(policy.fleet.accounts_min, 2);
        Fixed { core: Core::new(Arc::new(policy)).reading(Arc::new(read_model)), topics }
    }
}

/// A worker process: what is in memory, and the disk that outlives it.
struct Process {
    name: String,
    disk: MemoryDisk,
    faults: Arc<Mutex<Faults>>,
    worker: Option<Worker>,
    /// Copies of what the others own; not every process keeps them.
    standby: Option<Standby>,
    /// Turns until it is started again.
    down_for: u32,
    /// Turns in which it does nothing, as under SIGSTOP.
    frozen_for: u32,
}

/// A schedule under way.
pub(crate) struct World<'f> {
    fixed: &'f Fixed,
    rng: fastrand::Rng,
    pub(crate) broker: Arc<Mutex<Broker>>,
    inputs: Vec<Topic>,
    pub(crate) partitions: i32,
    now_ms: Arc<AtomicI64>,
    processes: Vec<Process>,
    /// Events sent so far, to be sent again.
    sent: Vec<Append>,
    next_event: u64,
    pub(crate) trouble: Trouble,
    /// Of every process that ever was.
    pub(crate) metrics: Vec<Metrics>,
}

/// How often what was met.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Trouble {
    pub(crate) cuts: u64,
    pub(crate) disk_full: u64,
    pub(crate) damaged: u64,
    pub(crate) rebalances: u64,
    pub(crate) frozen: u64,
    pub(crate) rewinds: u64,
    pub(crate) standbys: u64,
}

impl std::ops::AddAssign for Trouble {
    fn add_assign(&mut self, other: Trouble) {
        self.cuts += other.cuts;
        self.disk_full += other.disk_full;
        self.damaged += other.damaged;
        self.rebalances += other.rebalances;
        self.frozen += other.frozen;
        self.rewinds += other.rewinds;
        self.standbys += other.standbys;
    }
}

impl<'f> World<'f> {
    pub(crate) fn new(fixed: &'f Fixed, seed: u64) -> World<'f> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let partitions = rng.i32(1..=3);
        let topics = &fixed.topics;
        let inputs: Vec<Topic> = topics.inputs().iter().map(|name| name.as_str().into()).collect();
        let others = [
            &topics.score_changed,
            &topics.score_current,
            &topics.shadow,
            &topics.examples,
            &topics.alerts,
            &topics.dead_letters,
            &topics.state_changelog,
            &topics.seen_changelog,
        ];
        let others: Vec<Topic> = others.iter().map(|name| name.as_str().into()).collect();
        let mut broker = Broker::new(&inputs, &others, partitions);
        broker.now_ms = START_MS;
        let mut world = World {
            fixed,
            broker: Arc::new(Mutex::new(broker)),
            inputs,
            partitions,
            now_ms: Arc::new(AtomicI64::new(START_MS)),
            processes: Vec::new(),
            sent: Vec::new(),
            next_event: 0,
            trouble: Trouble::default(),
            metrics: Vec::new(),
            rng,
        };
        for number in 0..world.rng.u32(1..=3) {
            let process = world.process(number);
            world.processes.push(process);
        }
        world
    }

    fn process(&mut self, number: u32) -> Process {
        let disk = MemoryDisk::default();
        let (on, mut rng) = (disk.clone(), self.rng.fork());
        let kept = Mutex::new(rng.fork());
        let cut = PowerCut(Arc::new(move || {
            on.crash(|_: &Path, batches| lock(&kept).usize(0..=batches));
        }));
        let per_mille = *self.rng.choice(&[0, 20, 100, 300]).expect("a choice");
        let faults =
            Arc::new(Mutex::new(Faults { rng, per_mille, is_cut: false, rewinds: 0, cut }));
        let name = format!("worker-{number}");
        Process { name, disk, faults, worker: None, standby: None, down_for: 0, frozen_for: 0 }
    }

    /// A process starts: its worker, and perhaps a standby beside it.
    fn start(&mut self, index: usize) {
        let stands_by = self.rng.bool();
        let format = Format::ALL[self.rng.usize(..Format::ALL.len())];
        let process = &self.processes[index];
        lock(&process.faults).is_cut = false;
        let (broker, faults) = (Arc::clone(&self.broker), Arc::clone(&process.faults));
        let (inputs, name) = (self.inputs.clone(), process.name.clone());
        let open: OpenLog =
            Box::new(move || Ok(Box::new(ModelLog::open(&broker, &faults, &inputs, &name))));
        let settings = Settings {
            application: "simulated".to_owned(),
            worker: 0,
            topics: self.fixed.topics.clone(),
            state_dir: PathBuf::from(STATE_DIR),
            // As in an upgrade: every start may write another format, and finds state of all.
            store: StoreOptions { format, ..store_options(&process.disk, self.rng.usize(1..=4)) },
            batch_records_max: self.rng.usize(1..=40),
            batch_bytes_max: self.rng.usize(1..=200_000),
            restore_records_max: self.rng.usize(1..=200),
            restore_time_max: Duration::from_micros(self.rng.u64(1..=8)),
            batch_time_max: Duration::from_micros(self.rng.u64(1..=60)),
            close_timers_max: self.rng.u32(1..=6),
            close_time_max: Duration::from_micros(self.rng.u64(0..=6)),
            dead_letter_bytes_max: RECORD_BYTES_MAX,
            poll_timeout: Duration::ZERO,
            ticks: Ticks::Live,
            tick_every: Duration::from_secs(self.rng.u64(1..=8) * 3600),
            registry_retry: Duration::from_secs(1),
        };
        let metrics = Metrics::new().expect("metrics can be made");
        self.metrics.push(metrics.clone());
        let shared = Shared {
            metrics,
            read_model: Arc::new(ReadModel::default()),
            readiness: Arc::new(Readiness::default()),
            memory: Arc::new(Memory::unbounded()),
            owned: Owned::default(),
            stop: Arc::default(),
        };
        let standby = stands_by.then(|| self.standby(index, &settings, &shared));
        let decoder = Decoder::new(None, RECORD_BYTES_MAX).expect("no registry");
        let core = self.fixed.core.clone();
        let looks = Arc::new(AtomicU64::new(0));
        let clock = ModelClock { now_ms: Arc::clone(&self.now_ms), looks };
        let worker = Worker::new(settings, shared, core, decoder, Encoder::json(), open)
            .with_clock(Arc::new(clock));
        let process = &mut self.processes[index];
        (process.worker, process.standby) = (Some(worker), standby);
    }

    fn standby(&mut self, index: usize, of: &Settings, shared: &Shared) -> Standby {
        let broker = Arc::clone(&self.broker);
        let open: OpenFollow = Box::new(move || Ok(Box::new(ModelFollow(Arc::clone(&broker)))));
        let settings = standby::Settings {
            application: of.application.clone(),
            topics: of.topics.clone(),
            state_dir: of.state_dir.clone(),
            store: StoreOptions {
                format: of.store.format,
                ..store_options(&self.processes[index].disk, 1)
            },
            records_max: self.rng.usize(1..=200),
        };
        let looks = Arc::new(AtomicU64::new(0));
        let clock = ModelClock { now_ms: Arc::clone(&self.now_ms), looks };
        self.trouble.standbys += 1;
        Standby::new(settings, shared.clone(), open).with_clock(Arc::new(clock))
    }

    /// One thing after another, with faults; then everything is worked off without any.
    pub(crate) fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            self.pass_time();
            self.produce();
            self.disturb();
            let index = self.rng.usize(..self.processes.len());
            self.turn(index);
        }
        self.settle();
    }

    fn pass_time(&mut self) {
        let ms = match self.rng.u32(..10) {
            0..4 => 0,
            4..9 => self.rng.i64(0..2 * HOUR_MS),
            _ => self.rng.i64(0..20 * HOUR_MS),
        };
        let now = self.now_ms.fetch_add(ms, Ordering::Relaxed) + ms;
        let mut broker = lock(&self.broker);
        broker.now_ms = broker.now_ms.max(now);
        broker.expire_transactions();
        if self.rng.u32(..4) == 0 {
            broker.deliver_delayed();
        }
    }

    // --- producers ---

    fn produce(&mut self) {
        for _ in 0..self.rng.u32(..6) {
            let append = match self.rng.u32(..40) {
                0..30 => self.event(),
                30..34 if !self.sent.is_empty() => {
                    // Sent again: lately, or long ago.
                    let back =
                        if self.rng.bool() { self.sent.len().min(20) } else { self.sent.len() };
                    let index = self.sent.len() - 1 - self.rng.usize(..back);
                    self.sent[index].clone()
                }
                34..36 => self.garbage(),
                36 | 37 if self.rng.u32(..8) == 0 => self.deletion(),
                36 | 37 => self.profile(),
                38 if self.rng.u32(..3) == 0 => self.promotion(),
                38 => self.outcome(),
                _ => self.stale_event(),
            };
            lock(&self.broker).produce(&append);
            if self.fixed.topics.events.contains(&append.topic.to_string()) {
                self.sent.push(append);
            }
        }
    }

    fn account(&mut self) -> String {
        format!("account-{}", self.rng.u32(..6))
    }

    fn place(&mut self, account: &str) -> i32 {
        account.bytes().map(i32::from).sum::<i32>() % self.partitions
    }

    fn record(&mut self, topic: &str, account: &str, value: &Value) -> Append {
        Append {
            topic: topic.into(),
            partition: self.place(account),
            key: Some(account.as_bytes().to_vec()),
            payload: Some(value.to_string().into_bytes()),
            headers: vec![("trace".to_owned(), vec![1, 2, 3])],
            timestamp_ms: None,
        }
    }

    fn event_at(&mut self, at: i64) -> Append {
        let account = self.account();
        self.next_event += 1;
        let kinds =
            ["login", "login", "project.created", "ticket.opened", "session.ended", "feature.used"];
        let kind = *self.rng.choice(&kinds).expect("a kind");
        let event = json!({
            "event_id": format!("e{}", self.next_event),
            "account_id": account,
            "type": kind,
            "occurred_at": at,
            "member_id": format!("m{}", self.rng.u32(..4)),
            "member_role": if self.rng.bool() { Some("admin") } else { None },
            "feature": format!("f{}", self.rng.u32(..3)),
            "value": self.rng.f64() * 60.0,
        });
        let topics = self.fixed.topics.events.clone();
        // An account's events keep to one topic, so that their order is the producer's.
        let topic = &topics[account.len() % topics.len()];
        self.record(topic, &account, &event)
    }

    /// Now, or out of order within the grace period.
    fn event(&mut self) -> Append {
        let back = if self.rng.u32(..5) == 0 { self.rng.i64(0..30 * HOUR_MS) } else { 0 };
        let now = self.now_ms.load(Ordering::Relaxed);
        let at = now - back + self.rng.i64(0..9 * MINUTE_MS);
        self.event_at(at)
    }

    /// Far too late, or from the future.
    fn stale_event(&mut self) -> Append {
        let now = self.now_ms.load(Ordering::Relaxed);
        let off = self.rng.i64(0..90 * DAY_MS);
        let at = if self.rng.bool() { now - off } else { now + off };
        self.event_at(at)
    }

    fn garbage(&mut self) -> Append {
        let account = self.account();
        let mut append = self.record("", &account, &json!(null));
        append.topic = self.fixed.topics.events[0].as_str().into();
        let bytes: Vec<u8> = (0..self.rng.usize(..40)).map(|_| self.rng.u8(..)).collect();
        append.payload = match self.rng.u32(..4) {
            0 => None,
            1 => Some(vec![b'['; RECORD_BYTES_MAX - 1]),
            2 => Some(vec![b' '; RECORD_BYTES_MAX + 1]),
            _ => Some(bytes),
        };
        append
    }

    fn profile(&mut self) -> Append {
        let account = self.account();
        let zones = ["UTC", "America/New_York", "Asia/Kolkata", "Nowhere/None"];
        let profile = json!({
            "account_id": account,
            "as_of": self.now_ms.load(Ordering::Relaxed) - self.rng.i64(0..DAY_MS),
            "name": format!("Name {}", self.rng.u32(..9)),
            "segment": "smb",
            "time_zone": self.rng.choice(zones),
        });
        let topic = self.fixed.topics.profiles.clone();
        self.record(&topic, &account, &profile)
    }

    /// Everything known of an account is to go.
    fn deletion(&mut self) -> Append {
        let account = self.account();
        let topic = self.fixed.topics.profiles.clone();
        let mut append = self.record(&topic, &account, &json!(null));
        append.payload = None;
        append
    }

    fn outcome(&mut self) -> Append {
        let account = self.account();
        self.next_event += 1;
        // Of alerts nothing is known here: feedback is on none, and refused.
        let kinds = ["churned", "churned", "renewed", "saved", "confirmed"];
        let kind = self.rng.choice(kinds);
        let outcome = json!({
            "outcome_id": format!("o{}", self.next_event),
            "account_id": account,
            "kind": kind,
            "alert_id": (kind == Some("confirmed")).then_some("none such"),
            "occurred_at": self.now_ms.load(Ordering::Relaxed),
        });
        let topic = self.fixed.topics.outcomes.clone();
        self.record(&topic, &account, &outcome)
    }

    /// Now or within days; of a model, of none, or of nothing that can be read; in force, or beside what is. One in four withdraws another.
    fn promotion(&mut self) -> Append {
        self.next_event += 1;
        let ahead = self.rng.i64(-DAY_MS..5 * DAY_MS);
        let models = [Some("2"), Some("3"), None, Some("none such")];
        let shadow = self.rng.bool();
        // Some are the id of another kind.
        let kind = if shadow && self.rng.u32(..8) > 0 { 's' } else { 'm' };
        let id = format!("{kind}{}", self.next_event / 50);
        let promotion = json!({
            "promotion_id": id,
            "from": self.now_ms.load(Ordering::Relaxed) + ahead,
            "model": self.rng.choice(models),
            "shadow": shadow,
        });
        let topic = self.fixed.topics.models.clone();
        let mut append = self.record(&topic, &id, &promotion);
        if self.rng.u32(..4) == 0 {
            append.payload = None;
        }
        append
    }

    // --- faults ---

    fn disturb(&mut self) {
        let index = self.rng.usize(..self.processes.len());
        match self.rng.u32(..200) {
            0..3 => self.cut(index),
            3..6 => self.stop(index),
            6..8 => {
                self.processes[index].frozen_for = self.rng.u32(..30);
                self.trouble.frozen += 1;
            }
            8..10 => {
                let writes = self.rng.u64(..20);
                self.processes[index].disk.fail_after(Some(writes));
            }
            10 => {
                let dir = PathBuf::from(STATE_DIR)
                    .join(format!("partition-{}", self.rng.i32(0..self.partitions)));
                let which = self.rng.usize(..10_000);
                self.trouble.damaged += u64::from(self.processes[index].disk.damage(&dir, which));
            }
            // The broker has not heard of someone for too long: whoever was cut off or frozen, or unlucky.
            11..17 => {
                let mut broker = lock(&self.broker);
                let members = broker.members();
                if let Some(member) = self.rng.choice(members) {
                    broker.remove(member);
                    self.trouble.rebalances += 1;
                }
            }
            _ => {}
        }
    }

    /// Power fails between two turns.
    fn cut(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if let Some(worker) = process.worker.take() {
            let cut = {
                let mut faults = lock(&process.faults);
                faults.is_cut = true;
                faults.cut.clone()
            };
            (cut.0)();
            drop((worker, process.standby.take()));
            self.trouble.cuts += 1;
            process.down_for = self.rng.u32(..20);
        }
    }

    /// A clean end.
    fn stop(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if let Some(mut worker) = process.worker.take() {
            worker.disconnect();
            if let Some(mut standby) = process.standby.take() {
                standby.close();
            }
            process.down_for = self.rng.u32(..20);
        }
    }

    fn turn(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if process.frozen_for > 0 {
            process.frozen_for -= 1;
            return;
        }
        if process.down_for > 0 {
            process.down_for -= 1;
            return;
        }
        if process.worker.is_none() {
            self.start(index);
        }
        let standby_turns = self.rng.bool();
        let process = &mut self.processes[index];
        let worker = process.worker.as_mut().expect("it was just started");
        if let Some(standby) = &mut process.standby {
            if standby_turns {
                standby.turn();
            }
            standby.yield_to_workers();
        }
        let Err(error) = worker.turn() else { return };
        // The process ends, and whoever looks after it starts it again.
        (process.worker, process.standby) = (None, None);
        process.disk.fail_after(None);
        process.down_for = self.rng.u32(..10);
        let message = error.to_string();
        if message.contains(POWER_CUT) {
            self.trouble.cuts += 1;
        } else if message.contains("no space left") {
            self.trouble.disk_full += 1;
        } else if message.contains("damaged data") {
            // Damaged twice on purpose: whoever looks after the process starts it again.
            self.trouble.damaged += 1;
        } else {
            panic!("a worker gave up: {message}");
        }
    }

    /// The faults stop; everything is worked off, or it never will be.
    fn settle(&mut self) {
        for process in &mut self.processes {
            process.disk.fail_after(None);
            (process.frozen_for, process.down_for) = (0, 0);
            lock(&process.faults).per_mille = 0;
        }
        let mut turns = 0;
        loop {
            for index in 0..self.processes.len() {
                self.turn(index);
            }
            // Time passes, or a member that is gone would stay for ever.
            let now = self.now_ms.fetch_add(20, Ordering::Relaxed) + 20;
            {
                let mut broker = lock(&self.broker);
                broker.now_ms = broker.now_ms.max(now);
                broker.expire_members(SESSION_MS);
                broker.deliver_delayed();
                broker.expire_transactions();
                if broker.is_worked_off() {
                    break;
                }
            }
            turns += 1;
            assert!(turns < TURNS_MAX, "it came to a standstill:\n{:?}", self.trouble);
        }
        for index in 0..self.processes.len() {
            if let Some(standby) = &mut self.processes[index].standby {
                while standby.turn() == Duration::ZERO {}
            }
            self.stop(index);
            self.trouble.rewinds += lock(&self.processes[index].faults).rewinds;
        }
    }

    /// The disks, to look at what workers left there.
    pub(crate) fn disks(&self) -> impl Iterator<Item = &MemoryDisk> {
        self.processes.iter().map(|process| &process.disk)
    }
}

/// How stores are opened on a disk.
pub(crate) fn store_options(disk: &MemoryDisk, accounts_max: usize) -> StoreOptions {
    // An account of this simulation takes up to so much.
    const ACCOUNT_BYTES: usize = 16 << 10;
    let accounts = AccountMemory::new(accounts_max * ACCOUNT_BYTES);
    let shared = bellwether_store::Shared::simulated(disk);
    StoreOptions { shared, accounts, format: Format::NEWEST }
}

/// Where a partition's store lies.
pub(crate) fn store_dir(partition: i32) -> PathBuf {
    PathBuf::from(STATE_DIR).join(format!("partition-{partition}"))
}
