//! The table of the README that shows the results of the day close.

use serde_json::Value;

/// Where the table stands in the README.
const MARKS: (&str, &str) = ("<!-- close:begin -->\n", "<!-- close:end -->\n");

/// The table of committed results.
#[must_use]
pub fn close_table(results: &Value) -> String {
    let number = |path: &str| results.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let text = |path: &str| results.pointer(path).and_then(Value::as_str).unwrap_or("?").to_owned();
    let latency = |name: &str| {
        let of = |part: &str| number(&format!("/latency/{name}/{part}"));
        format!("| {:.1} ms | {:.1} ms | {:.0} |", of("p50_ms"), of("p99_ms"), of("events"))
    };
    [
        format!("Machine: {}, {} build.", text("/machine"), text("/profile")),
        String::new(),
        "| whole day close on RocksDB, per account-signal | µs of CPU | a minute and core |".to_owned(),
        "| --- | --- | --- |".to_owned(),
        format!(
            "| close, cohort, judgement, state rows, changelog | {:.1} | {:.2} million |",
            number("/close/us_per_signal"),
            60.0 / number("/close/us_per_signal")
        ),
        format!(
            "| the same with a forecast of each signal (MSTL + naive) | {:.1} | {:.2} million |",
            number("/close/us_per_signal_with_forecast"),
            60.0 / number("/close/us_per_signal_with_forecast")
        ),
        String::new(),
        format!(
            "| an event until its outputs are committed, embedded log, {:.0} events a second | p50 | p99 | events |",
            number("/latency/events_per_second")
        ),
        "| --- | --- | --- | --- |".to_owned(),
        format!("| nothing is due {}", latency("without")),
        format!(
            "| while {:.0} accounts' days are closed and judged {}",
            number("/latency/accounts"),
            latency("during")
        ),
        String::new(),
    ]
    .join("\n")
}

/// A README with this table in its place; none where it has no place for it.
#[must_use]
pub fn placed(readme: &str, table: &str) -> Option<String> {
    let (before, rest) = readme.split_once(MARKS.0)?;
    let (_, after) = rest.split_once(MARKS.1)?;
    Some([before, MARKS.0, table, MARKS.1, after].concat())
}
