//! `bellwether cohorts` over a generated set: accounts of two known shapes, one of which fell away from its peers.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const POLICY: &str = r#"
name = "shapes"
[[signal]]
name = "calls"
category = "adoption"
group = "calls"
direction = "down"
aggregate = "sum"
counted = true
match = { types = ["calls"] }
unit = "calls/week"
weight = 10.0
kind = "usage_decline"
"#;
const DAY_MS: i64 = 86_400_000;
/// 2024-01-01, a Monday.
const START_MS: i64 = 19_723 * DAY_MS;

struct Place(tempfile::TempDir);

impl Place {
    /// Twelve accounts that work on weekdays, ten that work at weekends, of every size; weekday account 5 does a quarter in the last
    /// four of sixteen weeks.
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("a temporary directory"));
        place.write("policy.toml", POLICY);
        place.write("off.toml", &format!("{POLICY}\n[models]\npeers = false\n"));
        let mut rows = "event_id,account_id,user_id,signal,value,occurred_at\n".to_owned();
        for day in 0..113_i64 {
            let is_weekend = day % 7 >= 5;
            for account in 0..22_i64 {
                let (name, busy) = match account {
                    0..12 => (format!("office{account}"), !is_weekend),
                    _ => (format!("leisure{account}"), is_weekend),
                };
                let size = 20 + 15 * account;
                let usual = if busy { size } else { size / 10 };
                let fallen = if account == 5 && day >= 84 { 4 } else { 1 };
                let odd = (day * 3 + day / 7 * 5 + account * 2) % 7 - 3;
                let value = (usual * (20 + odd) / 20 / fallen).max(1);
                let at = START_MS + day * DAY_MS + DAY_MS / 2;
                rows += &format!("{day}-{account},{name},u,calls,{value},{at}\n");
            }
        }
        place.write("events.csv", &rows);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("writable");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.arg("cohorts").args(arguments).current_dir(self.0.path());
        let own = std::env::vars_os().map(|(name, _)| name);
        for name in own.filter(|name| name.to_string_lossy().starts_with("BELLWETHER_")) {
            command.env_remove(name);
        }
        command.output().expect("the binary runs")
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, policy: &str) -> Value {
        let text = self.text(&["events.csv", "--policy", policy, "--json"]);
        serde_json::from_str(&text).expect("JSON")
    }
}

#[test]
fn two_shapes_of_weeks_are_two_cohorts_and_who_fell_away_is_named() {
    let place = Place::new();
    let found = place.json("policy.toml");
    assert_eq!(found["accounts"], 22);
    let proposed = found["proposed"].as_array().expect("proposals");
    let names = |place: usize| -> Vec<&str> {
        let accounts = proposed[place]["accounts"].as_array().expect("accounts");
        accounts.iter().map(|name| name.as_str().expect("a name")).collect()
    };
    assert_eq!(proposed.len(), 2, "{proposed:?}");
    assert_eq!(names(0).len(), 12);
    assert!(names(0).iter().all(|name| name.starts_with("office")));
    assert_eq!(names(1).len(), 10);
    assert!(names(1).iter().all(|name| name.starts_with("leisure")));
    // From Monday to Sunday, whatever the day on which the history begins or ends.
    let day = |weekday: usize| proposed[0]["week"][weekday].as_f64().expect("a share");
    assert!(day(0) > 1.2 && day(4) > 1.2 && day(5) < 0.3 && day(6) < 0.3, "{proposed:?}");

    let peers = found["peers"].as_array().expect("cohorts");
    assert_eq!(peers.len(), 1);
    let unlike = peers[0]["unlike"].as_array().expect("accounts");
    assert_eq!(unlike.len(), 1, "{unlike:?}");
    assert_eq!(unlike[0]["account_id"], "office5");
    assert!((unlike[0]["ratio"].as_f64().expect("a ratio") - 0.25).abs() < 0.05);
    assert!(unlike[0]["score"].as_f64().expect("a score") < -3.0);

    let table = place.text(&["events.csv", "--policy", "policy.toml"]);
    assert!(table.contains("office5") && table.contains("Mon"), "{table}");
}

#[test]
fn peers_can_be_switched_off_by_policy() {
    let place = Place::new();
    let found = place.json("off.toml");
    assert_eq!(found["peers"], Value::Null);
    assert_eq!(found["proposed"].as_array().map(Vec::len), Some(2));
}

#[test]
fn too_little_to_go_by_is_said_and_no_failure() {
    let place = Place::new();
    let header = "event_id,account_id,user_id,signal,value,occurred_at\n";
    place.write("few.csv", &format!("{header}1,a,u,calls,3,{START_MS}\n"));
    let text = place.text(&["few.csv", "--policy", "policy.toml"]);
    assert!(text.contains("too little history"), "{text}");
    assert_eq!(place.run(&["--data-dir", "nowhere"]).status.code(), Some(2));
    assert_eq!(place.run(&["few.csv", "--radius", "0"]).status.code(), Some(2));
}
