//! Alerts in the embedded log, and a process that tells people of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bellwether_engine::embedded::{Embedded, partition_of};
use bellwether_engine::log::Append;
use bellwether_tests::{Bellwether, bellwether, wait_until};
use serde_json::{Value, json};

/// No step takes longer on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);
/// Partitions of the embedded log.
pub(crate) const PARTITIONS: i32 = 4;
/// What webhooks are signed with, in the environment of the processes.
pub(crate) const SIGNING_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Limits as an impatient test wants them; everybody is told at once.
pub(crate) const LIMITS: &str = "[delivery]\nattempts_max = 100\nbackoff_ms = 20\nbackoff_max_ms = 200\ntimeout_ms = 400\nmax_age_hours = 87600\n\
    [breaker]\nfailures = 20\nopen_ms = 50\n[budget]\nurgent_min_week = 100000\n";

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("in range")
}

/// An event of an alert, as the engine publishes it.
pub(crate) fn alert(number: usize) -> Value {
    let at = now_ms();
    json!({
        "id": format!("event-{number}"), "alert_id": format!("alert-{number}"),
        "account_id": format!("account-{number}"), "account_name": format!("Account {number}"),
        "kind": "churn_risk", "transition": "opened", "severity": "high", "at": at, "opened_at": at,
        "resolution": null, "title": "logins fell", "evidence": [], "groups": ["logins"],
        "score": 31.5, "score_centipoints": 3150, "band": "at_risk",
        "policy_version": "p", "model_version": "m", "of_a_newer_version": true,
    })
}

pub(crate) fn route(sinks: &[&str], mode: &str) -> String {
    format!("[[route]]\nname = \"{mode}\"\nsinks = {sinks:?}\nmode = \"{mode}\"\n")
}

pub(crate) fn write(dir: &Path, policy: &str) -> PathBuf {
    let file = dir.join("delivery.toml");
    std::fs::write(&file, policy).expect("writable");
    file
}

pub(crate) fn embedded(data_dir: &Path, delivery: Option<&Path>) -> Command {
    let mut command = bellwether(["run", "--embedded", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(data_dir).env("SIGNING_KEY", SIGNING_KEY);
    if let Some(delivery) = delivery {
        command.arg("--delivery").arg(delivery);
    }
    command
}

/// Puts alerts into the log of a process that has ended, as its engine would have.
pub(crate) fn publish(data_dir: &Path, alerts: &[Value]) {
    append(data_dir, &records(alerts));
}

/// Alerts as records of their topic.
pub(crate) fn records(alerts: &[Value]) -> Vec<Append> {
    alerts
        .iter()
        .map(|alert| {
            let key = alert["account_id"].as_str().expect("an id").as_bytes().to_vec();
            Append {
                topic: "health.alerts.v1".into(),
                partition: partition_of(&key, PARTITIONS),
                key: Some(key),
                payload: Some(alert.to_string().into_bytes()),
                headers: Vec::new(),
                timestamp_ms: None,
            }
        })
        .collect()
}

/// Appends to the log of a process that has ended. A process that another test starts meanwhile holds a copy of the lock until it has
/// begun; so does what was opened here before.
pub(crate) fn append(data_dir: &Path, records: &[Append]) {
    let shared = bellwether_store::Shared::new(16 << 20);
    let dir = data_dir.join("log");
    let log =
        wait_until("the lock of the log", LIMIT, || Embedded::open(&dir, &shared, u64::MAX).ok());
    log.append(records, Duration::ZERO).expect("there is room");
}

/// A directory in which the topics are there.
pub(crate) fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(embedded(dir.path(), None));
    running.wait_until_ready();
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    dir
}
