//! The close of days: what it costs, and what events notice of it.
//!
//! `cargo run --release -p bellwether-benches --bin close` measures, writes `benches/results/close.json` and the README's table; with
//! `--only close`, `--only latency` or `--only million` that part alone, beside the others' committed results; with `--render` it only writes
//! the table. Times of the close are CPU times of its thread, so that a busy machine does not count. A million accounts take minutes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bellwether_benches::fleet::{FIRST_DAY, POLICY_TOML, SIGNALS, day, event, profiles, start};
use bellwether_benches::job::{Detector, Job};
use bellwether_benches::observe::memory_mib;
use bellwether_benches::report::{close_table, cpu, machine, placed};
use bellwether_benches::rig::{APPLICATION, Budget, counter};
use bellwether_core::event::{Event, Input};
use bellwether_core::policy::Compiled;
use bellwether_core::step::Core;
use bellwether_core::time::{Day, HOUR_MS, MINUTE_MS, Millis};
use bellwether_engine::clock::Clock;
use bellwether_engine::embedded::Embedded;
use bellwether_engine::log::{Append, Topic};
use bellwether_engine::topics::{Kept, TopicNames};
use bellwether_engine::worker::{OpenLog, Settings, Ticks, Worker};
use bellwether_store::log_store::Retention;
use bellwether_store::task::{Store, StoreOptions};
use bellwether_store::{AccountMemory, Format, Shared as StoreShared};
use bellwether_wire::decode::Decoder;
use bellwether_wire::encode::Encoder;
use serde_json::{Value, json};

/// As the process has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/close.json");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
/// Accounts, days of history before, and days that are measured: of the cost, with full history.
const COST: (u32, i32, i32) = (1_500, 130, 7);
/// Accounts, days of history before, and days that are measured: of the latency.
const LATENCY: (u32, i32, i32) = (8_000, 30, 3);
/// Accounts of which the days end at once and most are on disk alone, what each is, and the memory budget in MiB. Measured are so many events
/// while the days are closed, and as many while the first of them are judged: with events in between, all of it would take half an hour.
const MILLION: (u32, Job, usize) =
    (1_000_000, Job { detector: Detector::Full, signals: 4, weeks: 18 }, 256);
const MILLION_EVENTS: usize = 1_500;
/// Events a second, and how many of them are measured in quiet times a day.
const PACE: (u32, u32) = (25, 300);
/// What the close of a day is counted by.
const DAYS_CLOSED: &str = "bellwether_day_closes_total";
/// See [`Fleet::night`]. What is due when time jumps is late by less than `close.lag_minutes`: events need not wait for it.
const NIGHT: [i64; 6] = [10, 85, 110, 135, 160, 185];
/// As a worker's own.
const CLOSE_TIMERS: u32 = 32;
const CLOSE_TIME: Duration = Duration::from_millis(20);

/// With a forecast of every signal, as by default, or with what the scan expects in its place.
fn core(forecast: bool) -> Core {
    let policy = format!("{POLICY_TOML}\n[models]\nforecast = {forecast}\n");
    let policy = Compiled::parse("power.toml", &policy).expect("a committed policy");
    Core::new(Arc::new(policy))
}

fn store_options() -> StoreOptions {
    let shared = StoreShared::new(256 << 20);
    StoreOptions { shared, accounts: AccountMemory::new(128 << 20), format: Format::NEWEST }
}

fn apply(core: &Core, store: &mut Store, input: Input, at: Millis) {
    let mut out = Vec::new();
    core.apply(store, input, at, &mut out).expect("a store that works").expect("a good input");
}

/// Commits as a worker does; the changelog records are made, and dropped.
fn commit(store: &mut Store) {
    std::hint::black_box(store.staged().expect("no account is out").len());
    store.commit(&[]).expect("a store that works");
}

fn fill(core: &Core, store: &mut Store, accounts: u32, days: std::ops::Range<i32>) {
    if days.start == 0 {
        for profile in profiles(accounts) {
            let at = profile.as_of;
            apply(core, store, Input::Profile(profile), at);
        }
    }
    for number in days {
        for events in day(accounts, FIRST_DAY.plus(number)).chunks(1_000) {
            for event in events {
                apply(core, store, Input::Event(event.clone()), event.occurred_at);
            }
            commit(store);
        }
    }
}

/// Works off everything that is due in the night after a day, as a worker does: in steps, each committed.
fn night(core: &Core, store: &mut Store, day: Day) -> u32 {
    let to = start(day.plus(1)).plus(6 * HOUR_MS);
    let mut out = Vec::new();
    let mut closed = 0;
    loop {
        let started = Instant::now();
        let swept = loop {
            let swept = core.close_to(store, to, CLOSE_TIMERS, &mut out);
            let swept = swept.expect("a store that works");
            closed += swept.days_closed;
            if swept.done || started.elapsed() >= CLOSE_TIME {
                break swept;
            }
        };
        out.clear();
        commit(store);
        if swept.done {
            return closed;
        }
    }
}

/// What the close of a day takes, in microseconds of CPU an account and signal, and of how many.
fn closes(dir: &Path, core: &Core) -> (f64, u32) {
    let (accounts, before, days) = COST;
    let mut store = Store::open(dir, "bench", 0, &store_options()).expect("an empty directory");
    fill(core, &mut store, accounts, 0..before);
    night(core, &mut store, FIRST_DAY.plus(before - 1));
    let (mut closing, mut closed) = (Duration::ZERO, 0);
    for number in before..before + days {
        fill(core, &mut store, accounts, number..number + 1);
        let started = cpu();
        closed += night(core, &mut store, FIRST_DAY.plus(number));
        closing += cpu() - started;
    }
    let signals = f64::from(closed) * SIGNALS.len() as f64;
    (closing.as_secs_f64() * 1e6 / signals, closed)
}

fn cost(dir: &Path) -> Value {
    let (accounts, before, days) = COST;
    let (with, closed) = closes(&dir.join("with"), &core(true));
    let (without, _) = closes(&dir.join("without"), &core(false));
    json!({
        "accounts": accounts, "signals": SIGNALS.len(), "history_days": before, "days_measured": days,
        "account_days_closed": closed,
        "us_per_signal": without, "us_per_signal_with_forecast": with,
    })
}

/// The machine's clock, moved.
#[derive(Debug)]
struct Moved {
    started: Instant,
    offset_ms: AtomicI64,
}

impl Clock for Moved {
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn now_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed) + self.started.elapsed().as_millis() as i64
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

impl Moved {
    fn set(&self, now: Millis) {
        let elapsed = self.started.elapsed().as_millis() as i64;
        self.offset_ms.store(now.0 - elapsed, Ordering::Relaxed);
    }
}

/// Makes the event of a number that occurs at a time.
type Make = Box<dyn Fn(usize, Millis) -> Event>;

/// Accounts in a store, ready for a worker that is to close their days.
struct Fleet {
    accounts: u32,
    core: Core,
    budget: Budget,
    event: Make,
    /// The first day that is open.
    first: Day,
    /// Days that are measured.
    days: i32,
    /// Minutes after midnight at which what is due is waited for; all days end at once, then a fifth of the judgements is due at a time.
    night: &'static [i64],
    /// Events that are measured each time at most, before the rest of what is due is worked off without any.
    events_max: usize,
}

/// A worker on the embedded log, and a producer that sends an event every so often, whatever comes back.
struct Bench {
    log: Embedded,
    clock: Arc<Moved>,
    topics: TopicNames,
    event: Make,
    sent: usize,
    offset: i64,
}

impl Bench {
    /// Sends an event at its time and waits until its outputs are committed: milliseconds since it was to be sent.
    fn send(&mut self, due: Instant) -> f64 {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = Millis(self.clock.now_ms());
        let event = (self.event)(self.sent, now);
        let append = Append {
            topic: self.topics.events[0].as_str().into(),
            partition: 0,
            key: Some(event.account.as_str().as_bytes().to_vec()),
            payload: Some(payload(&event)),
            headers: Vec::new(),
            timestamp_ms: Some(now.0),
        };
        self.log.append(&[append], Duration::from_secs(10)).expect("room");
        self.sent += 1;
        self.offset += 1;
        while self.committed() < self.offset {
            std::thread::sleep(Duration::from_micros(50));
        }
        due.elapsed().as_secs_f64() * 1e3
    }

    fn committed(&self) -> i64 {
        let committed = self.log.committed(&self.topics.events[0], 0);
        committed.expect("a log that works").unwrap_or(0)
    }

    fn ticks(&self) -> i64 {
        self.log.end_offset(&self.topics.ticks, 0).expect("a log that works")
    }

    /// So many events in their rhythm.
    fn quiet(&mut self, events: u32, latencies: &mut Vec<f64>) {
        let every = Duration::from_secs(1) / PACE.0;
        let started = Instant::now();
        for number in 0..events {
            let latency = self.send(started + every * number);
            latencies.push(latency);
        }
    }

    /// Events in their rhythm, as long as the worker has time recorded for what is due, and so many at most. Whether it was through.
    fn closing(&mut self, events_max: usize, latencies: &mut Vec<f64>) -> bool {
        const STILL: usize = 40;
        let every = Duration::from_secs(1) / PACE.0;
        let (started, mut number, mut ticks, mut still) = (Instant::now(), 0, self.ticks(), 0);
        while still < STILL {
            if number as usize == events_max {
                return false;
            }
            let latency = self.send(started + every * number);
            latencies.push(latency);
            number += 1;
            let now = self.ticks();
            still = if now == ticks { still + 1 } else { 0 };
            ticks = now;
        }
        latencies.truncate(latencies.len() - STILL);
        true
    }

    /// Waits, without events, until the worker has no more time recorded.
    fn rest(&self) {
        let (mut ticks, mut since) = (self.ticks(), Instant::now());
        while since.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.ticks();
            if now != ticks {
                (ticks, since) = (now, Instant::now());
            }
        }
    }
}

fn payload(event: &Event) -> Vec<u8> {
    let event = json!({
        "event_id": event.id.as_str(), "account_id": event.account.as_str(), "type": event.kind,
        "occurred_at": event.occurred_at.0, "value": event.value,
    });
    event.to_string().into_bytes()
}

/// The state directory of the worker's one partition.
fn state(dir: &Path) -> PathBuf {
    let state = dir.join("state/partition-0");
    std::fs::create_dir_all(&state).expect("a directory");
    state
}

/// Accounts in turn, far from each other.
fn turn(sent: usize, accounts: u32) -> u32 {
    (sent as u32).wrapping_mul(7_919) % accounts
}

/// Accounts of three signals that fit in memory, and were worked through their history.
fn small(dir: &Path) -> Fleet {
    let (accounts, history, days) = LATENCY;
    let budget = Budget::mib(1_024);
    let mut store = Store::open(&state(dir), APPLICATION, 0, &budget.store).expect("no directory");
    fill(&core(true), &mut store, accounts, 0..history);
    night(&core(true), &mut store, FIRST_DAY.plus(history - 1));
    store.close().expect("a store that works");
    let make = move |sent: usize, at| {
        event(turn(sent, accounts), sent, SIGNALS[sent % SIGNALS.len()], at, 1.0)
    };
    Fleet {
        accounts,
        core: core(true),
        budget,
        event: Box::new(make),
        first: FIRST_DAY.plus(history),
        days,
        night: &NIGHT,
        events_max: usize::MAX,
    }
}

/// Accounts most of which are on disk alone, with the rows of a few that were worked through their history; the last day of it is still open, so
/// that the day that is closed is one like others.
fn million(dir: &Path) -> Fleet {
    let (accounts, job, mib) = MILLION;
    let budget = Budget::mib(mib);
    let mut store = Store::open(&state(dir), APPLICATION, 0, &budget.store).expect("no directory");
    job.work_days().fill(&mut store, accounts.into());
    store.close().expect("a store that works");
    let make = move |sent: usize, at| job.event(turn(sent, accounts).into(), sent, at);
    Fleet {
        accounts,
        core: job.core(),
        budget,
        event: Box::new(make),
        first: job.today().plus(-1),
        days: 1,
        night: &NIGHT[..2],
        events_max: MILLION_EVENTS,
    }
}

fn latency(dir: &Path, fleet: Fleet) -> Value {
    let Fleet { accounts, core, budget, event, first, days, night, events_max } = fleet;
    let topics = TopicNames::default();
    let log = Embedded::open(&dir.join("log"), &budget.store.shared, 50_000);
    let log = log.expect("an empty directory");
    for topic in topics.specs(&Kept::default()) {
        log.create_topic(&topic.name, 1, Retention::Forever).expect("a new topic");
    }
    let clock = Arc::new(Moved { started: Instant::now(), offset_ms: AtomicI64::new(0) });
    clock.set(start(first).plus(14 * HOUR_MS));
    let shared = budget.shared();
    let inputs: Vec<Topic> = topics.inputs().iter().map(|name| name.as_str().into()).collect();
    let of = log.clone();
    let open: OpenLog = Box::new(move || Ok(Box::new(of.consume(&inputs)?)));
    let decoder = Decoder::new(None, 1 << 20).expect("no registry");
    let settings = Settings { ticks: Ticks::Live, ..budget.settings(dir, &topics) };
    let mut worker = Worker::new(settings, shared.clone(), core, decoder, Encoder::json(), open)
        .with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let thread = std::thread::spawn(move || worker.run());

    let mut bench = Bench { log, clock, topics, event, sent: 0, offset: 0 };
    bench.quiet(PACE.1, &mut Vec::new());
    let (mut without, mut during) = (Vec::new(), Vec::new());
    let before = counter(&shared.metrics, DAYS_CLOSED);
    for number in 0..days {
        let midnight = start(first.plus(number + 1));
        bench.clock.set(midnight.plus(-6 * HOUR_MS));
        bench.quiet(PACE.1, &mut without);
        for minutes in night {
            bench.clock.set(midnight.plus(minutes * MINUTE_MS));
            if !bench.closing(events_max, &mut during) && *minutes < night[night.len() - 1] {
                bench.rest();
            }
        }
    }
    let closed = counter(&shared.metrics, DAYS_CLOSED) - before;
    shared.stop.store(true, Ordering::Relaxed);
    thread.join().expect("no panic").expect("a log that works");
    json!({
        "accounts": accounts, "days_measured": days, "events_per_second": PACE.0, "account_days_closed": closed, "rss_mib": memory_mib(std::process::id(), "VmRSS"),
        "without": quantiles(without), "during": quantiles(during),
    })
}

fn quantiles(mut latencies: Vec<f64>) -> Value {
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied();
    json!({ "events": latencies.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": latencies.last() })
}

/// The parts that are measured, by their names in the results.
const PARTS: [&str; 3] = ["latency", "million", "close"];

fn measure(part: &str, dir: &Path) -> Value {
    match part {
        "latency" => latency(dir, small(dir)),
        "million" => latency(dir, million(dir)),
        _ => cost(dir),
    }
}

fn read(path: &str) -> Value {
    let results = std::fs::read(path).expect("results");
    serde_json::from_slice(&results).expect("JSON")
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (first, only) = (arguments.next(), arguments.next());
    if first.as_deref() != Some("--render") {
        let mut results = if only.is_some() { read(RESULTS) } else { json!({}) };
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        for name in PARTS {
            if only.as_deref().is_some_and(|only| only != name) {
                continue;
            }
            let dir = tempfile::tempdir().expect("a temporary directory");
            let mut measured = measure(name, dir.path());
            measured["machine"] = json!(machine());
            measured["profile"] = json!(profile);
            println!("{name}: {measured:#}");
            results[name] = measured;
        }
        std::fs::write(RESULTS, format!("{results:#}\n")).expect("a place for results");
    }
    let readme = std::fs::read_to_string(README).expect("the README");
    let table = close_table(&read(RESULTS));
    let readme = placed(&readme, "close", &table).expect("a place in the README");
    std::fs::write(README, readme).expect("a place for the README");
}
