//! The tables of the README that show results, and what they are measured by.

use std::time::Duration;

use serde_json::Value;

use crate::scale::grouped;

/// CPU time of this thread.
///
/// # Panics
/// Elsewhere than on Linux.
#[must_use]
pub fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

/// Which machine, and how busy it was with other things.
#[must_use]
pub fn machine() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().nth(2).unwrap_or("unknown").to_owned();
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = model.map_or("unknown", |(_, model)| model);
    format!("{model}, {cores} cores, load average {load}")
}

/// The table of replays from a local file.
#[must_use]
pub fn replay_table(results: &Value) -> String {
    let text = |name: &str| results[name].as_str().unwrap_or("?").to_owned();
    let mut lines = vec![
        format!("Machine: {}, {} build.", text("machine"), text("profile")),
        String::new(),
        "| a replay of a CSV file, one thread | events | thousand events a second of CPU | with a challenger | extra CPU |".to_owned(),
        "| --- | --- | --- | --- | --- |".to_owned(),
    ];
    for fleet in results["fleets"].as_array().into_iter().flatten() {
        let number = |name: &str| fleet[name].as_f64().unwrap_or(f64::NAN);
        lines.push(format!(
            "| {} events an account and day, {} days | {} | {:.0} | {:.0} | {:.0} % |",
            number("events_per_account_day"),
            number("days"),
            number("events"),
            number("events_per_cpu_second") / 1e3,
            number("events_per_cpu_second_with_challenger") / 1e3,
            number("challenger_extra_cpu") * 100.0
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The table of committed results of the day close.
#[must_use]
pub fn close_table(results: &Value) -> String {
    let number = |path: &str| results.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let text = |path: &str| results.pointer(path).and_then(Value::as_str).unwrap_or("?").to_owned();
    let latency = |name: &str| {
        let of = |part: &str| number(&format!("/{name}/{part}"));
        format!("| {:.1} ms | {:.1} ms | {:.0} |", of("p50_ms"), of("p99_ms"), of("events"))
    };
    let of = |part: &str| {
        let [machine, profile] =
            ["machine", "profile"].map(|name| text(&format!("/{part}/{name}")));
        format!("{machine}, {profile} build")
    };
    let mut lines = vec![
        format!("Machine: {}.", of("close")),
        String::new(),
        "| whole day close on RocksDB, per account-signal | µs of CPU | a minute and core |"
            .to_owned(),
        "| --- | --- | --- |".to_owned(),
        format!(
            "| close, cohort, judgement, state rows, changelog | {:.1} | {:.2} million |",
            number("/close/us_per_signal"),
            60.0 / number("/close/us_per_signal")
        ),
        format!(
            "| the same with a forecast of each signal (MSTL and a smoothed level), as by default | {:.1} | {:.2} million |",
            number("/close/us_per_signal_with_forecast"),
            60.0 / number("/close/us_per_signal_with_forecast")
        ),
        String::new(),
        format!(
            "| an event until its outputs are committed, embedded log, {:.0} events a second | p50 | p99 | events |",
            number("/latency/events_per_second")
        ),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    for part in ["latency", "million"] {
        let accounts = grouped(number(&format!("/{part}/accounts")));
        lines.push(format!(
            "| {accounts} accounts, nothing is due {}",
            latency(&format!("{part}/without"))
        ));
        lines.push(format!(
            "| while the days of {accounts} accounts are closed and judged {}",
            latency(&format!("{part}/during"))
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "Of the million, half of the events came while days were closed, the rest of which was then worked off without any, and half while the first of them were judged. \
         In the end {:.0} MiB were resident ({}).",
        number("/million/rss_mib"),
        of("million")
    ));
    lines.push(String::new());
    lines.join("\n")
}

/// A README with this table in the place of this name; none where it has no place for it.
#[must_use]
pub fn placed(readme: &str, name: &str, table: &str) -> Option<String> {
    let [begin, end] = ["begin", "end"].map(|side| format!("<!-- {name}:{side} -->\n"));
    let (before, rest) = readme.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some([before, &begin, table, &end, after].concat())
}
