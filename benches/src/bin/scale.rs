//! How cost grows: CPU time per event against accounts, signals, history and partitions; what the close of a day adds; what state takes at rest
//! and in memory.
//!
//! `make scale` measures each point in a process of its own, writes `benches/results/scale.json` and the README's tables; `--quick` takes small
//! points only and writes nothing, `--only WORD` those whose dimension has the word in it, `--render` only writes the tables.
//!
//! What runs is the worker with its stores on disk, on a log that costs nothing: what Kafka's client takes comes on top (`make bench`). Times are
//! CPU times of the process, RocksDB's own threads included, less what making the input takes. The worker's clock stands still, so that batches do not
//! depend on how busy the machine is. The allocator is the binary's.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use bellwether_benches::capacity::{capacity_table, model};
use bellwether_benches::feed::{Feed, Make};
use bellwether_benches::job::{Detector, Job, Spread, span_ms};
use bellwether_benches::observe::{bytes_below, memory_mib, own_cpu_seconds};
use bellwether_benches::report::{machine, placed};
use bellwether_benches::rig::{Budget, Rig, store};
use bellwether_benches::scale::scale_table;
use bellwether_core::time::HOUR_MS;
use bellwether_engine::topics::TopicNames;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/scale.json");
const PROCESSES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/processes.json");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
/// Events in a transaction of everything: few enough that no account has two of them, from 10,000 accounts on. The rolling detector catches up, as
/// the peer's job does, with as many as a worker takes at once.
const BATCH: usize = 2_000;
/// What the close of a day is counted by.
const DAYS_CLOSED: &str = "bellwether_day_closes_total";

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// What is varied.
    dimension: &'static str,
    job: Job,
    accounts: i64,
    partitions: i32,
    events: i64,
    /// Events of an account on a day; none: all events are of one day, which is not closed.
    per_day: Option<i64>,
    memory_mib: usize,
}

impl Point {
    fn rolling(dimension: &'static str) -> Point {
        let job = Job { detector: Detector::Rolling, signals: 12, weeks: 8 };
        Point {
            dimension,
            job,
            accounts: 20_000,
            partitions: 4,
            events: 1_000_000,
            per_day: None,
            memory_mib: 1_024,
        }
    }

    fn full(dimension: &'static str) -> Point {
        let job = Job { detector: Detector::Full, signals: 16, weeks: 18 };
        Point { job, accounts: 10_000, events: 200_000, ..Point::rolling(dimension) }
    }

    fn accounts(self, accounts: i64) -> Point {
        Point { accounts, ..self }
    }

    fn signals(self, signals: u32) -> Point {
        Point { job: Job { signals, ..self.job }, ..self }
    }

    fn weeks(self, weeks: u32) -> Point {
        Point { job: Job { weeks, ..self.job }, ..self }
    }

    fn partitions(self, partitions: i32) -> Point {
        Point { partitions, ..self }
    }

    /// Whole days, with their closes.
    fn days(self, days: i64, per_day: i64) -> Point {
        let events = self.accounts * per_day * days;
        Point { events, per_day: Some(per_day), ..self }
    }

    /// A tenth of it.
    fn quick(self) -> Point {
        match self.per_day {
            Some(_) => Point { accounts: self.accounts / 10, events: self.events / 10, ..self },
            None => Point { events: self.events / 10, ..self },
        }
    }

    fn is_full(&self) -> bool {
        self.job.detector == Detector::Full
    }
}

fn points() -> Vec<Point> {
    let mut all = Vec::new();
    let accounts = [1_000, 10_000, 100_000, 1_000_000];
    let rolling = Point::rolling("accounts");
    all.extend(accounts.iter().chain(&[5_000_000]).map(|count| rolling.accounts(*count)));
    // Of a million accounts the process is to be within half a GiB; the budget is not all that it takes.
    let full = Point { memory_mib: 256, ..Point::full("accounts") };
    all.extend(accounts.map(|count| full.accounts(count)));
    all.extend([4, 8, 16, 32, 64].map(|count| Point::rolling("signals").signals(count)));
    // In memory, whole.
    let warm = |dimension| Point::full(dimension).accounts(1_000);
    all.extend([4, 8, 16, 32, 64].map(|count| warm("signals").signals(count)));
    all.extend([4, 8, 12, 17].map(|weeks| Point::rolling("weeks of history").weeks(weeks)));
    all.extend([4, 8, 12, 18].map(|weeks| warm("weeks of history").weeks(weeks)));
    all.extend([1, 4, 16, 64].map(|count| Point::rolling("partitions").partitions(count)));
    let closes = Point::full("closes").accounts(2_000);
    all.extend([16, 64, 256].map(|per_day| closes.days(1, per_day)));
    all.extend([16, 64].map(|per_day| closes.signals(4).days(1, per_day)));
    all.push(Point::rolling("check").accounts(300_000));
    all.push(Point::full("check").accounts(4_000).signals(8).days(2, 32));
    all
}

/// CPU seconds that making records takes.
fn making(input: &Make, partitions: i32, from: i64, to: i64) -> f64 {
    let began = own_cpu_seconds();
    for partition in 0..partitions {
        let mut offset = from;
        while offset < to {
            let end = (offset + 5_000).min(to);
            let made: Vec<_> = (offset..end).map(|offset| input(partition, offset)).collect();
            std::hint::black_box(&made);
            offset = end;
        }
    }
    own_cpu_seconds() - began
}

/// Measures one point, in a process of its own.
fn measure(point: &Point) -> Value {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let partitions = i64::from(point.partitions);
    let (accounts, events) = (point.accounts / partitions, point.events / partitions);
    // Whole days begin at once, so that there are as many closes as days.
    let warm = if point.per_day.is_some() { 0 } else { events / 5 };
    let total = warm + events;
    let span_ms = match point.per_day {
        Some(per_day) => span_ms(total, accounts, per_day),
        None => 16 * HOUR_MS,
    };
    let skewed = !point.is_full();
    let spread = Spread { accounts, partitions: point.partitions, span_ms, events: total, skewed };
    let input = point.job.input(spread);
    let making = making(&input, point.partitions, warm, total);
    let worked = point.job.work();
    let row_bytes = worked.bytes_per_account();
    let changelog = worked.changelog(point.partitions, accounts);
    let rows: i64 = changelog.ends.iter().sum();

    let mut budget = Budget::mib(point.memory_mib);
    if point.is_full() {
        budget.batch_records = BATCH;
    }
    let feed = Feed::new(&TopicNames::default(), input, changelog);
    let mut rig = Rig::new(dir.path(), &budget, point.job.core(), feed).out_of_time();
    let (began, cpu) = (Instant::now(), own_cpu_seconds());
    rig.restore();
    let restore = json!({
        "rows": rows, "seconds": began.elapsed().as_secs_f64(), "cpu_seconds": own_cpu_seconds() - cpu,
    });
    rig.run_to(warm);
    let (began, cpu, before) = (Instant::now(), own_cpu_seconds(), rig.counts());
    rig.run_to(total);
    let (cpu, seconds) = (own_cpu_seconds() - cpu - making, began.elapsed().as_secs_f64());
    let after = rig.counts();
    let count = (events * partitions) as f64;
    let per_event = |before: u64, after: u64| (after - before) as f64 / count;
    let days_closed = rig.counter(DAYS_CLOSED);
    let pid = std::process::id();
    let (rss, peak) = (memory_mib(pid, "VmRSS"), memory_mib(pid, "VmHWM"));
    rig.stop();
    json!({
        "dimension": point.dimension, "detector": if point.is_full() { "full" } else { "rolling" },
        "accounts": accounts * partitions, "signals": point.job.signals, "weeks": point.job.weeks,
        "partitions": point.partitions, "events": events * partitions, "events_per_account_day": point.per_day,
        "memory_mib": point.memory_mib, "cpu_s": cpu, "cpu_s_per_million": cpu / count * 1e6, "seconds": seconds,
        "changelog_bytes_per_event": per_event(before.changelog_bytes, after.changelog_bytes),
        "changelog_records_per_event": per_event(before.changelog_records, after.changelog_records),
        "output_bytes_per_event": per_event(before.output_bytes, after.output_bytes),
        "transactions": after.transactions - before.transactions, "days_closed": days_closed,
        "restore": restore, "rss_mib": rss, "peak_rss_mib": peak, "row_bytes_per_account": row_bytes,
        "state": at_rest(dir.path(), point, &budget),
    })
}

/// What the state of all partitions takes on disk, as it was left and without what is outdated.
fn at_rest(dir: &Path, point: &Point, budget: &Budget) -> Value {
    let on_disk = || bytes_below(dir, &|_| true);
    let left = on_disk();
    let (mut bytes, mut ids, mut id_bytes, mut accounts) = (0, 0, 0, 0);
    for partition in 0..point.partitions {
        let mut store = store(dir, partition, &budget.store);
        store.compact().expect("a disk that works");
        let stats = store.stats().expect("it can be read");
        bytes += stats.bytes - stats.seen_bytes;
        (ids, id_bytes) = (ids + stats.seen, id_bytes + stats.seen_bytes);
        accounts += stats.accounts;
    }
    json!({
        "accounts": accounts, "bytes_as_left": left, "bytes_at_rest": bytes,
        "bytes_per_account": bytes as f64 / accounts as f64,
        "ids": ids, "bytes_per_id": if ids > 0 { Some(id_bytes as f64 / ids as f64) } else { None },
    })
}

/// Runs a point in a process of its own.
fn run(index: usize, quick: bool) -> Value {
    let program = std::env::current_exe().expect("a process knows its executable");
    let mut command = Command::new(program);
    command.args(["--point", &index.to_string()]).stderr(Stdio::inherit());
    if quick {
        command.arg("--quick");
    }
    let output = command.output().expect("this program");
    assert!(output.status.success(), "point {index} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let quick = has("--quick");
    let points: Vec<Point> = if quick {
        points().into_iter().map(Point::quick).filter(|point| point.accounts <= 100_000).collect()
    } else {
        points()
    };
    if let Some(index) = value("--point") {
        let index: usize = index.parse().expect("a number");
        println!("{}", measure(&points[index]));
        return;
    }
    if !has("--render") {
        let only = value("--only").unwrap_or_default();
        let mut measured = Vec::new();
        for (index, point) in points.iter().enumerate() {
            if point.dimension.contains(&only) {
                let result = run(index, quick);
                eprintln!("{result}");
                measured.push(result);
            }
        }
        let results = json!({ "machine": machine(), "profile": profile(), "points": merged(&only, measured) });
        println!("{}", scale_table(&results));
        if quick {
            return;
        }
        std::fs::write(RESULTS, format!("{results:#}\n")).expect("a place for results");
    }
    render();
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

/// Where only some dimensions were measured, the others stay as they are committed.
fn merged(only: &str, measured: Vec<Value>) -> Vec<Value> {
    if only.is_empty() {
        return measured;
    }
    let is_other = |point: &Value| {
        point["dimension"].as_str().is_some_and(|dimension| !dimension.contains(only))
    };
    let known = read(RESULTS)["points"].as_array().cloned().unwrap_or_default();
    known.into_iter().filter(is_other).chain(measured).collect()
}

fn read(path: &str) -> Value {
    let text = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Shows the committed results in the README.
fn render() {
    let (results, processes) = (read(RESULTS), read(PROCESSES));
    let readme = std::fs::read_to_string(README).expect("the README");
    let readme = placed(&readme, "scale", &scale_table(&results)).expect("a place in the README");
    let capacity = capacity_table(&model(&results, &processes));
    let readme = placed(&readme, "capacity", &capacity).expect("a place in the README");
    std::fs::write(README, readme).expect("a place for the README");
}
