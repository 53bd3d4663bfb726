//! One to eight processes on one broker: whether an event costs the same however many share the work. `bench --processes 1,2,4,8` measures the
//! peer's job and writes `benches/results/processes.json`; the README shows it with the results of `scale`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use bellwether_benches::observe::{cpu_seconds, memory_mib};
use serde_json::{Value, json};

use crate::kafka::{self, Progress};
use crate::process::Guarded;
use crate::{Broker, Options, Ours, machine, make_input, start_broker};

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/processes.json");
/// As many as there are processes at most.
pub(crate) const PARTITIONS: i32 = 8;

pub(crate) fn measure(options: &Options) {
    let broker = start_broker(options, None);
    let work = options.work.join("kafka");
    let mut runs = Vec::new();
    for &accounts in &options.accounts {
        let name = format!("processes-events-{accounts}");
        let (input, distinct) = make_input(options, &broker, accounts, &work, &name);
        for &processes in &options.processes {
            let mut run = together(options, &broker, &input, (accounts, processes));
            run["distinct_accounts"] = distinct.into();
            eprintln!("{run:#}");
            runs.push(run);
        }
    }
    let results = json!({ "machine": machine(), "partitions": PARTITIONS, "runs": runs });
    let json = if options.json == Path::new(crate::RESULTS) {
        PathBuf::from(RESULTS)
    } else {
        options.json.clone()
    };
    std::fs::write(json, format!("{results:#}\n")).expect("a place for results");
}

/// So many processes of one worker each, started at once, until all of the input is committed.
fn together(
    options: &Options,
    broker: &Broker,
    input: &str,
    (accounts, count): (usize, usize),
) -> Value {
    let ours = crate::ours(options, broker, input, format!("processes-{accounts}-{count}"));
    let progress = Progress::of(&broker.bootstrap, &ours.application, input);
    let total: i64 = kafka::ends(&broker.bootstrap, input).iter().sum();
    let began = Instant::now();
    let mut processes: Vec<Guarded> = (0..count).map(|number| start(&ours, number)).collect();
    let first = processes.first_mut().expect("at least one process");
    progress.wait_for(total, first);
    let seconds = began.elapsed().as_secs_f64();
    let cpu: f64 = processes.iter().map(|process| cpu_seconds(process.id())).sum();
    let peaks: Vec<f64> =
        processes.iter().map(|process| memory_mib(process.id(), "VmHWM")).collect();
    let changelog = ours.changelog_bytes();
    processes.iter_mut().for_each(Guarded::stop);
    let events = options.events as f64;
    json!({
        "accounts": accounts, "processes": count, "events": options.events, "seconds_with_start": seconds,
        "events_per_s_with_start": events / seconds, "app_cpu_s_per_million": cpu / events * 1e6,
        "peak_rss_mib": peaks, "changelog_bytes_per_event": changelog as f64 / events,
    })
}

/// A process with one worker and a directory of its own.
fn start(ours: &Ours<'_>, number: usize) -> Guarded {
    let mut command = ours.command(&["run"]);
    command
        .env("BELLWETHER_DATA_DIR", ours.dir.join(format!("data-{number}")))
        .env("BELLWETHER_KAFKA__WORKERS", "1");
    Guarded::spawn(command, &ours.dir.join(format!("log-{number}")))
}
