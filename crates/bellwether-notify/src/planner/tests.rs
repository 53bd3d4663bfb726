//! Shared by the tests of the planner: a policy, alerts, and what is told.

use bellwether_core::time::{DAY_MS, Millis};

use super::*;
use crate::delivery::{Outcome, ROW_BYTES_MAX};
use crate::event::sample;
use crate::policy::Loaded;

/// 2026-11-26T12:00:00Z, a Thursday.
const NOW: i64 = 1_795_694_400_000;

const SINKS: &str = r#"
[[sink]]
name = "slack"
type = "slack"
url_env = "U"
[[sink]]
name = "pager"
type = "pagerduty"
url = "https://events.pagerduty.com/v2/enqueue"
secret_env = "K"
"#;

fn policy(rest: &str) -> Loaded {
    Loaded::parse(&format!("{SINKS}{rest}"), "test").expect("sound")
}

fn planner(rest: &str) -> Planner {
    planner_of(&policy(rest))
}

fn planner_of(policy: &Loaded) -> Planner {
    let mut planner = Planner::new(Arc::clone(policy.texts()), policy.version());
    planner.assign(0);
    planner.assign(1);
    planner
}

fn urgent(more: &str) -> String {
    format!(
        "[[route]]\nname = \"urgent\"\nseverity = [\"high\", \"critical\"]\nsinks = [\"slack\", \"pager\"]\nmode = \"immediate\"\n{more}"
    )
}

fn alert(number: u32, transition: &str, severity: &str) -> Alert {
    let (alert, _) = sample(Millis(NOW));
    Alert {
        id: format!("event-{number}-{transition}-{severity}"),
        alert_id: format!("alert-{number}"),
        account_id: format!("account-{number}"),
        transition: transition.to_owned(),
        severity: severity.to_owned(),
        ..alert
    }
}

fn ready(planner: &Planner, now_ms: i64) -> Vec<(i32, Delivery)> {
    planner.ready(now_ms, &|_, _| false, &|_, _| true)
}

/// What is ready is refused for good by its sinks.
fn refuse(planner: &mut Planner, now_ms: i64) {
    for (partition, delivery) in ready(planner, now_ms) {
        let refused = Outcome::Refused { reason: Parking::Rejected, detail: "no".to_owned() };
        planner.settle(partition, &delivery.key, refused, now_ms, &mut |n| n);
    }
}

/// Sink and transition of what is ready, and settles it as delivered.
fn tell(planner: &mut Planner, now_ms: i64) -> Vec<(String, String)> {
    let ready = ready(planner, now_ms);
    let mut told = Vec::new();
    for (partition, delivery) in ready {
        planner.settle(partition, &delivery.key, Outcome::Delivered, now_ms, &mut |n| n);
        let what = match &delivery.subject {
            Subject::Alert { alert, .. } => alert.transition.clone(),
            Subject::Digest(digest) => format!("{} of {}", digest.entries.len(), digest.total),
        };
        told.push((delivery.sink, what));
    }
    told
}

fn pairs(told: &[(String, String)]) -> Vec<(&str, &str)> {
    told.iter().map(|(sink, what)| (sink.as_str(), what.as_str())).collect()
}

/// Nothing happened since.
fn nothing(_: &Alert) -> Since {
    Since::default()
}

/// What a log holds after a commit.
type Rows = BTreeMap<(i32, String), Vec<u8>>;

fn committed(planner: &mut Planner, mut rows: Rows) -> Rows {
    for (partition, key, value) in planner.take_changes() {
        match value {
            Some(value) => drop(rows.insert((partition, key), value)),
            None => drop(rows.remove(&(partition, key))),
        }
    }
    rows
}

/// A planner as it is after a kill.
fn read_back(policy: &Loaded, rows: &Rows) -> Planner {
    let mut planner = planner_of(policy);
    for ((partition, key), value) in rows {
        planner.restore(*partition, key, Some(value)).expect("readable");
    }
    planner
}

mod digests;
mod erase;
mod limits;
mod parking;
mod quiet;
mod restart;
mod telling;
