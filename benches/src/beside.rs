//! The table of the job beside the peer, from the results of the macro benchmark.

use serde_json::Value;

/// A row of the table: what it shows, where it is found in the results of the peer, of ours and of the floor, and how it is written.
struct Row {
    what: &'static str,
    peer: &'static str,
    ours: &'static str,
    floor: &'static str,
    digits: usize,
}

const ROWS: [Row; 10] = [
    row(
        "catch-up, CPU seconds of the process per million events",
        "/peer/throughput/app_cpu_s_per_million",
        "/ours/app_cpu_s_per_million",
        "/floor/app_cpu_s_per_million",
        2,
    ),
    row(
        "catch-up, events a second",
        "/peer/throughput/events_per_s",
        "/ours/events_per_s",
        "/floor/events_per_s",
        0,
    ),
    row(
        "memory at its highest, MiB",
        "/peer/throughput/peak_rss_mib",
        "/ours/peak_rss_mib",
        "/floor/peak_rss_mib",
        0,
    ),
    row(
        "state, bytes an account",
        "/peer/state_bytes_per_account",
        "/ours/state_bytes_per_account",
        "",
        0,
    ),
    row(
        "changelog, bytes an event",
        "/peer/changelog_bytes_per_event",
        "/ours/changelog_bytes_per_event",
        "",
        1,
    ),
    row(
        "state read back after a loss of the disk, seconds",
        "/peer/restore/restore_s",
        "/ours/restore/restore_s",
        "",
        2,
    ),
    row(
        "at the fixed rates together: changelog, bytes an event",
        "/peer_paced/changelog_bytes_per_event",
        "/ours_paced/changelog_bytes_per_event",
        "",
        0,
    ),
    row("score changes published", "/equal/peer_changes", "/equal/our_changes", "", 0),
    row("of them unlike the peer's", "", "/equal/differ", "", 0),
    row("at work after SIGKILL, disk kept, seconds", "", "/ours_paced/after_kill_s", "", 2),
];

const fn row(
    what: &'static str,
    peer: &'static str,
    ours: &'static str,
    floor: &'static str,
    digits: usize,
) -> Row {
    Row { what, peer, ours, floor, digits }
}

/// The table of committed results of the macro benchmark; medians over its runs.
#[must_use]
pub fn bench_table(results: &Value) -> String {
    let none = Vec::new();
    let runs = results["runs"].as_array().unwrap_or(&none);
    let mut sizes: Vec<u64> = runs.iter().filter_map(|run| run["accounts"].as_u64()).collect();
    sizes.dedup();
    let mut lines = vec![
        format!(
            "Machine: {}, {} cores; {} events, {} run(s) each, medians.",
            results["machine"]["cpu"].as_str().unwrap_or("?"),
            results["machine"]["cores"],
            runs.first().map_or(&Value::Null, |run| &run["ours"]["events"]),
            runs.iter().filter(|run| run["accounts"].as_u64() == sizes.first().copied()).count(),
        ),
        String::new(),
        "| accounts | | peer | Bellwether | ours ÷ peer's | Kafka's client alone |".to_owned(),
        "| --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for size in sizes {
        let of_size: Vec<&Value> =
            runs.iter().filter(|run| run["accounts"].as_u64() == Some(size)).collect();
        let median = |path: &str| median(of_size.iter().filter_map(|run| number(run, path)));
        let mut add = |what: &str, found: [Option<f64>; 3], digits: usize| {
            let [peer, ours, floor] = found;
            if ours.is_none() {
                return;
            }
            let shown = |value: Option<f64>| {
                value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
            };
            let ratio = peer.zip(ours).map(|(peer, ours)| ours / peer);
            let ratio = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
            let [peer, ours, floor] = [peer, ours, floor].map(shown);
            lines.push(format!("| {size} | {what} | {peer} | {ours} | {ratio} | {floor} |"));
        };
        for row in &ROWS {
            add(row.what, [row.peer, row.ours, row.floor].map(median), row.digits);
        }
        let rates = of_size.first().and_then(|run| run["ours_paced"].as_object());
        let rates = rates.into_iter().flatten().filter(|(_, of)| of.is_object());
        for rate in rates.map(|(rate, _)| rate) {
            for (what, key, digits) in [
                ("event to readable score change, p50, ms", "p50_ms", 0),
                ("the same, p99, ms", "p99_ms", 0),
                ("CPU seconds of the process per million events", "app_cpu_s_per_million", 1),
                ("changelog, bytes an event", "changelog_bytes_per_event", 0),
            ] {
                let theirs = match key {
                    "p50_ms" | "p99_ms" => median(&format!("/peer_paced/{rate}/measured/{key}")),
                    "app_cpu_s_per_million" => {
                        median(&format!("/peer_paced/{rate}/app_cpu_s_per_million"))
                    }
                    _ => None,
                };
                let ours = median(&format!("/ours_paced/{rate}/{key}"));
                // Of the floor only the CPU time is known.
                let floor = median(&format!("/floor_paced/{rate}/{key}"));
                add(&format!("{rate} events a second: {what}"), [theirs, ours, floor], digits);
            }
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn number(run: &Value, path: &str) -> Option<f64> {
    if path.is_empty() {
        return None;
    }
    run.pointer(path).and_then(Value::as_f64)
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
