//! A model of capacity: what events and accounts take, with coefficients that are measured (`scale`, `bench --processes`), and what it says for a
//! load. Nothing in it is a guess but for what the reader puts in.

use serde_json::Value;

use crate::scale::{close_us, event_us, grouped, line, number, points};

/// Seconds of a day.
const DAY_S: f64 = 86_400.0;
/// Days for which ids of events are remembered (`admission.grace_hours`).
const GRACE_DAYS: f64 = 2.0;
/// So many accounts are all in memory, of both detectors.
const WARM: [i64; 2] = [10_000, 1_000];
/// Signals of the example.
const SIGNALS: f64 = 16.0;

/// The coefficients. Times in microseconds of CPU.
#[derive(Debug, Clone)]
pub struct Model {
    /// An event: fixed, and per signal. Of the rolling detector, and of everything.
    pub event: [(f64, f64); 2],
    /// What is added where the account is not in memory, of both.
    pub miss: [f64; 2],
    /// The close of a day, per signal of an account.
    pub close: f64,
    /// Kafka's client, an event; none where that is not measured.
    pub client: Option<f64>,
    /// Bytes of state of an account, with all history, of both.
    pub account_bytes: [f64; 2],
    /// Bytes of a remembered id.
    pub id_bytes: f64,
    /// Bytes of changelog of an event that shares its transaction with no other of its account, of both.
    pub changelog_event: [f64; 2],
    /// Bytes of changelog of a close, per signal of an account.
    pub changelog_close: f64,
    /// Bytes of changelog that one CPU second reads back, of both.
    pub restored_per_s: [f64; 2],
    /// Resident bytes an account, beside the budget.
    pub resident_bytes: f64,
    /// What it says of measured points that it was not made from: what, predicted, measured; CPU seconds per million events.
    pub checks: Vec<(String, f64, f64)>,
}

const DETECTORS: [&str; 2] = ["rolling", "full"];

/// The points of the accounts' dimension, by rising accounts.
fn most<'a>(scale: &'a Value, detector: &'a str) -> Vec<&'a Value> {
    points(scale, "accounts", detector).collect()
}

/// The model of these results. What was not measured is not a number.
#[must_use]
pub fn model(scale: &Value, processes: &Value) -> Model {
    let at = |detector: &str, path: &str| {
        most(scale, detector).last().map_or(f64::NAN, |point| number(point, path))
    };
    let cpu = "/cpu_s_per_million";
    let miss = [0, 1].map(|index| {
        let (detector, warm) = (DETECTORS[index], WARM[index]);
        let in_memory = points(scale, "accounts", detector).find(|point| point["accounts"] == warm);
        let in_memory = in_memory.map_or(f64::NAN, |point| number(point, cpu));
        (at(detector, cpu) - in_memory).max(0.0)
    });
    let closes: Vec<f64> = points(scale, "closes", "full")
        .map(|point| close_us(scale, point))
        .filter(|us| us.is_finite())
        .collect();
    let close = closes.iter().sum::<f64>() / closes.len() as f64;
    // What is in the changelog beside the rows of its events, where there are the fewest of these.
    let fewest = points(scale, "closes", "full").min_by(|left, right| {
        number(left, "/events_per_account_day").total_cmp(&number(right, "/events_per_account_day"))
    });
    let changelog = "/changelog_bytes_per_event";
    let changelog_close = fewest.map_or(f64::NAN, |point| {
        let signals = &point["signals"];
        let event = points(scale, "signals", "full").find(|other| other["signals"] == *signals);
        let event = event.map_or(f64::NAN, |event| number(event, changelog));
        let bytes = (number(point, changelog) - event) * number(point, "/events");
        bytes.max(0.0) / (number(point, "/days_closed") * number(point, "/signals"))
    });
    let restored_per_s = DETECTORS.map(|name| {
        let bytes = at(name, "/row_bytes_per_account") * at(name, "/accounts");
        bytes / at(name, "/restore/cpu_seconds")
    });
    let resident_bytes = match most(scale, "rolling").as_slice() {
        [.., fewer, more] => {
            let of = |path: &str| number(more, path) - number(fewer, path);
            of("/rss_mib") * f64::from(1 << 20) / of("/accounts")
        }
        _ => f64::NAN,
    };
    let mut model = Model {
        event: DETECTORS.map(|detector| line(scale, detector)),
        miss,
        close,
        client: None,
        account_bytes: DETECTORS.map(|name| at(name, "/state/bytes_per_account")),
        id_bytes: at("full", "/state/bytes_per_id"),
        changelog_event: DETECTORS.map(|name| at(name, changelog)),
        changelog_close,
        restored_per_s,
        resident_bytes,
        checks: Vec::new(),
    };
    model.checks = checks(&model, scale);
    if let Some(runs) = processes["runs"].as_array().filter(|runs| !runs.is_empty()) {
        let rolling = event_us(scale, "rolling", 12.0);
        let taken = runs.iter().filter(|run| run["processes"] == 1);
        let taken: Vec<f64> = taken.map(|run| number(run, "/app_cpu_s_per_million")).collect();
        let client = taken.iter().sum::<f64>() / taken.len() as f64 - rolling;
        model.client = Some(client);
        for run in runs.iter().filter(|run| run["processes"] != 1) {
            let what = format!(
                "the peer's job on Kafka, {} accounts, {} processes",
                grouped(number(run, "/accounts")),
                number(run, "/processes")
            );
            model.checks.push((what, rolling + client, number(run, "/app_cpu_s_per_million")));
        }
    }
    model
}

/// Points that the coefficients do not rest on.
fn checks(model: &Model, scale: &Value) -> Vec<(String, f64, f64)> {
    let mut checks = Vec::new();
    for (index, detector) in DETECTORS.into_iter().enumerate() {
        for point in points(scale, "check", detector) {
            let signals = number(point, "/signals");
            let per_day = number(point, "/events_per_account_day");
            let closes = if per_day.is_finite() { signals * model.close / per_day } else { 0.0 };
            let what = format!(
                "{}, {} accounts, {signals} signals{}",
                if detector == "full" { "everything" } else { "rolling detector" },
                grouped(number(point, "/accounts")),
                if per_day.is_finite() {
                    format!(", {per_day} events an account and day with their closes")
                } else {
                    String::new()
                },
            );
            let (fixed, per_signal) = model.event[index];
            let predicted = fixed + per_signal * signals + closes;
            checks.push((what, predicted, number(point, "/cpu_s_per_million")));
        }
    }
    checks
}

/// What a load takes.
struct Needs {
    cores: f64,
    disk_bytes: f64,
    changelog_bytes_per_s: f64,
}

impl Model {
    /// Everything, accounts not in memory: the most that it can be.
    fn needs(&self, events_per_day: f64, accounts: f64) -> Needs {
        let [_, (fixed, per_signal)] = self.event;
        let event = fixed + per_signal * SIGNALS + self.miss[1] + self.client.unwrap_or(0.0);
        let us = events_per_day * event + accounts * SIGNALS * self.close;
        let changelog =
            events_per_day * self.changelog_event[1] + accounts * SIGNALS * self.changelog_close;
        Needs {
            cores: us / 1e6 / DAY_S,
            disk_bytes: accounts * self.account_bytes[1]
                + events_per_day * GRACE_DAYS * self.id_bytes,
            changelog_bytes_per_s: changelog / DAY_S,
        }
    }
}

/// What the plan takes for granted, because only the operator knows: how much busier the busiest hour is than the average one, how busy a core may
/// be then, how many seconds a partition may take to be read back by one core, and how many cores a machine has.
const PEAK: f64 = 3.0;
const BUSY: f64 = 0.6;
const RESTORE_S: f64 = 60.0;
const MACHINE_CORES: f64 = 32.0;

impl Model {
    /// What to set up for a load, in words.
    fn plan(&self, events_per_day: f64, accounts: f64) -> Vec<String> {
        let needs = self.needs(events_per_day, accounts);
        let cores = needs.cores * PEAK / BUSY;
        let row_bytes = accounts * self.account_bytes[1];
        let restored = row_bytes / (self.restored_per_s[1] * RESTORE_S);
        // Kafka counts better in powers of two: a topic can be doubled without moving a key twice.
        let partitions = cores.max(restored).max(1.0).log2().ceil().exp2();
        let machines = (cores / MACHINE_CORES).ceil();
        let gib = |bytes: f64| grouped(bytes / f64::from(1 << 30));
        vec![
            String::new(),
            format!(
                "**On paper: {} events a day over {} accounts** ({SIGNALS} signals, everything). On average {} events a second come in and {} cores \
                 are busy. With a busiest hour of {PEAK} times the average and cores that are at most {:.0} % busy then: {} cores, so {} machines of \
                 {MACHINE_CORES} with a worker a core. {} partitions, a power of two above the cores and above what lets one core read a partition \
                 back within {RESTORE_S} s (it takes {:.0} s): each has {} accounts and {} events a second on average. On disk {} GiB of state, {} GiB a machine; \
                 in memory {} GiB a machine for accounts beside the budgets. The changelog takes {} MiB a second of the brokers on average, before replication.",
                grouped(events_per_day),
                grouped(accounts),
                grouped(events_per_day / DAY_S),
                grouped(needs.cores),
                BUSY * 100.0,
                grouped(cores),
                grouped(machines),
                grouped(partitions),
                row_bytes / partitions / self.restored_per_s[1],
                grouped(accounts / partitions),
                grouped(events_per_day / DAY_S / partitions),
                gib(needs.disk_bytes),
                gib(needs.disk_bytes / machines),
                gib(accounts * self.resident_bytes / machines),
                grouped(needs.changelog_bytes_per_s / f64::from(1 << 20)),
            ),
        ]
    }
}

/// Loads that the table shows: events a day, accounts.
const LOADS: [(f64, f64); 4] = [(1e7, 1e5), (1e8, 1e6), (1e9, 1e7), (1e10, 1e8)];

/// The formula, its coefficients, what became of it, and what it says.
#[must_use]
pub fn capacity_table(model: &Model) -> String {
    let client = model.client.map_or("not measured".to_owned(), |client| format!("{client:.1}"));
    let [(rolling, rolling_signal), (full, full_signal)] = model.event;
    let mut lines = vec![
        "| coefficient | rolling detector | everything |".to_owned(),
        "| --- | --- | --- |".to_owned(),
        format!(
            "| *e*, an event, µs of CPU (*S* signals) | {rolling:.2} + {rolling_signal:.3} *S* | {full:.1} + {full_signal:.2} *S* |"
        ),
        format!(
            "| *m*, its account is not in memory, µs | {:.1} | {:.1} |",
            model.miss[0], model.miss[1]
        ),
        format!("| *c*, a day's close, per account and signal, µs | 0 | {:.1} |", model.close),
        format!("| *k*, Kafka's client, an event, µs | {client} | {client} |"),
        format!(
            "| *a*, an account at rest, bytes | {:.0} | {:.0} |",
            model.account_bytes[0], model.account_bytes[1]
        ),
        format!("| *i*, an id remembered for two days, bytes | 0 | {:.0} |", model.id_bytes),
        format!(
            "| *l*, changelog of an event alone in its transaction, bytes | {:.0} | {:.0} |",
            model.changelog_event[0], model.changelog_event[1]
        ),
        format!(
            "| *d*, changelog of a day's close, per account and signal, bytes | 0 | {:.0} |",
            model.changelog_close
        ),
        format!(
            "| *r*, bytes of rows read back a CPU second | {} | {} |",
            grouped(model.restored_per_s[0]),
            grouped(model.restored_per_s[1])
        ),
        format!(
            "| *b*, resident beside the budget, bytes an account | {:.0} | {:.0} |",
            model.resident_bytes, model.resident_bytes
        ),
        String::new(),
        "| what was not used for it | predicted, µs an event | measured | error |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    for (what, predicted, measured) in &model.checks {
        lines.push(format!(
            "| {what} | {predicted:.2} | {measured:.2} | {:+.0} % |",
            (predicted / measured - 1.0) * 100.0
        ));
    }
    lines.extend([
        String::new(),
        format!("| everything, {SIGNALS} signals | cores busy on average | state on disk | changelog a second | state read back, core-hours |"),
        "| --- | --- | --- | --- | --- |".to_owned(),
    ]);
    for (events, accounts) in LOADS {
        let needs = model.needs(events, accounts);
        let restore = accounts * model.account_bytes[1] / model.restored_per_s[1] / 3_600.0;
        lines.push(format!(
            "| {} events a day, {} accounts | {:.1} | {:.1} GiB | {:.1} MiB | {restore:.2} |",
            grouped(events),
            grouped(accounts),
            needs.cores,
            needs.disk_bytes / f64::from(1 << 30),
            needs.changelog_bytes_per_s / f64::from(1 << 20),
        ));
    }
    lines.extend(model.plan(1e10, 1e8));
    lines.push(String::new());
    lines.join("\n")
}
