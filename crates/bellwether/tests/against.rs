//! `bellwether replay --against`: what it says of two policies is what two replays by themselves say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use bellwether_core::publish::content_id;
use bellwether_core::time::Millis;
use serde_json::Value;

const POLICY: &str = r#"
name = "usage"
[[signal]]
name = "logins"
category = "engagement"
group = "logins"
direction = "down"
aggregate = "sum"
counted = true
match = { types = ["login"] }
unit = "logins/week"
weight = 10.0
kind = "usage_decline"
[[signal]]
name = "calls"
category = "adoption"
group = "calls"
direction = "down"
aggregate = "sum"
counted = true
match = { types = ["call"] }
unit = "calls/week"
weight = 10.0
kind = "call_decline"
[corroboration]
false_high_per_year = BUDGET
"#;
const DAY_MS: i64 = 86_400_000;
/// 2024-01-01, a Monday.
const START_MS: i64 = 19_723 * DAY_MS;
const DAYS: i64 = 210;
const FELL: i64 = 150;

struct Place(tempfile::TempDir);

impl Place {
    /// Forty accounts, of which every fourth falls, by more and more; the last of these leave.
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("a temporary directory"));
        place.write("loose.toml", &POLICY.replace("BUDGET", "5.0"));
        place.write("strict.toml", &POLICY.replace("BUDGET", "0.001"));
        let mut events = "event_id,account_id,user_id,signal,value,occurred_at\n".to_owned();
        for (day, account) in (0..DAYS).flat_map(|day| (0..40).map(move |of| (day, of))) {
            for (number, kind) in ["login", "call"].into_iter().enumerate() {
                let chance =
                    (day * 37 + account * 11 + number as i64 * 17 + day * account % 7) % 23 - 11;
                let falls = account % 4 == 0 && day >= FELL;
                let level = if falls { 40 - account / 3 } else { 40 };
                let value = (level + chance).max(0);
                let at = START_MS + day * DAY_MS + DAY_MS / 2 + account;
                events += &format!("{kind}-{day}-{account},<a{account}>,u,{kind},{value},{at}\n");
            }
        }
        place.write("events.csv", &events);
        let left =
            |account: i64| format!("<a{account}>,cancelled,{}\n", START_MS + (FELL + 45) * DAY_MS);
        let outcomes = format!("account_id,kind,churned_at\n{}{}{}", left(36), left(32), left(3));
        place.write("outcomes.csv", &outcomes);
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
        command.args(["replay", "events.csv"]).args(arguments).current_dir(self.0.path());
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

    fn compared(&self, more: &[&str]) -> Value {
        let sides = ["--policy", "strict.toml", "--against", "loose.toml", "--json"];
        serde_json::from_str(&self.text(&[&sides[..], more].concat())).expect("JSON")
    }

    /// The severities of a policy's alerts, by account and kind, from a replay by itself.
    fn alerts(&self, policy: &str) -> BTreeMap<(String, String), Vec<String>> {
        self.text(&["--policy", policy, "--alerts", "alerts.csv"]);
        let text = std::fs::read_to_string(self.path("alerts.csv")).expect("alerts");
        let mut alerts: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for row in text.lines().skip(1) {
            let mut cells = row.split(',').map(str::to_owned);
            let (account, _) = (cells.next().expect("an account"), cells.next());
            let (kind, severity) = (cells.next().expect("a kind"), cells.next().expect("one"));
            alerts.entry((account, kind)).or_default().push(severity);
        }
        alerts
    }
}

#[test]
fn what_differs_is_what_two_replays_say() {
    let place = Place::new();
    let found = place.compared(&["--outcomes", "outcomes.csv", "--html", "page.html"]);
    let (old, new) = (place.alerts("loose.toml"), place.alerts("strict.toml"));
    let only = |these: &BTreeMap<(String, String), Vec<String>>,
                those: &BTreeMap<_, Vec<String>>| {
        these.keys().filter(|key| !those.contains_key(*key)).cloned().collect::<Vec<_>>()
    };
    let (lost, gained) = (only(&old, &new), only(&new, &old));
    assert!(!lost.is_empty() && !new.is_empty(), "the budget makes a difference: {old:?} {new:?}");
    let told = |change: &str| {
        let list = found["alerts"]["list"].as_array().expect("a list").iter();
        let of = list.filter(|alert| alert["change"] == change).map(|alert| {
            let text = |name: &str| alert[name].as_str().expect("a text").to_owned();
            (text("account_id"), text("kind"))
        });
        let mut of: Vec<_> = of.collect();
        of.sort();
        of
    };
    assert_eq!(told("lost"), lost);
    assert_eq!(told("gained"), gained);
    assert_eq!(found["alerts"]["lost"], lost.len());
    let urgent = |alerts: &BTreeMap<_, Vec<String>>| {
        let high = |severities: &&Vec<String>| {
            severities.iter().any(|severity| severity == "high" || severity == "critical")
        };
        alerts.values().filter(high).count()
    };
    assert_eq!(
        (&found["old"]["urgent"], &found["new"]["urgent"]),
        (&urgent(&old).into(), &urgent(&new).into())
    );

    // Of the three that leave, two had fallen.
    let worth = &found["new"]["worth"];
    assert_eq!((&worth["left"], &worth["warned"]), (&3.into(), &2.into()), "{worth:#}");
    let judged =
        ["followed", "wrong", "unobserved"].map(|name| worth[name].as_u64().expect("a count"));
    assert_eq!(judged.iter().sum::<u64>(), urgent(&new) as u64);

    // Names from events are no markup.
    let page = std::fs::read_to_string(place.path("page.html")).expect("a page");
    assert!(page.contains("&lt;a") && !page.contains("<a3"), "escaped");
    assert!(page.contains(&format!("{} lost", lost.len())), "the same figures");

    assert_eq!(
        place.compared(&["--outcomes", "outcomes.csv"]),
        found,
        "it depends on nothing else"
    );
}

#[test]
fn the_same_policy_differs_in_nothing_and_bad_input_is_named() {
    let place = Place::new();
    let same = place.text(&["--policy", "loose.toml", "--against", "loose.toml", "--json"]);
    let same: Value = serde_json::from_str(&same).expect("JSON");
    let alerts = &same["alerts"];
    for change in ["gained", "lost", "severity", "moved"] {
        assert_eq!(alerts[change], 0);
    }
    assert_eq!(alerts["same"], same["new"]["alerts"]);
    assert_eq!(same["scores"]["moved"], 0);
    assert!(same["old"]["worth"].is_null(), "nobody said who left");

    // Alerts of before are not reported, but the accounts are known.
    let later = place.compared(&["--from", "2024-05-01", "--to", "2024-07-20"]);
    let list = later["alerts"]["list"].as_array().expect("a list");
    let early = |side: &Value| side["at"].as_str().is_some_and(|at| at < "2024-05-01");
    assert!(list.iter().all(|alert| !early(&alert["old"]) && !early(&alert["new"])), "{list:?}");
    assert!(later["old"]["alerts"].as_u64() > Some(0));

    let refused = |arguments: &[&str], why: &str| {
        let output = place.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    };
    refused(&["--against", "missing.toml"], "--against: missing.toml cannot be read");
    refused(
        &["--policy", "missing.toml", "--against", "loose.toml"],
        "the new policy: missing.toml",
    );
    let order = ["--against", "loose.toml", "--from", "2024-05-01", "--to", "2024-04-01"];
    refused(&order, "which is not before --to");
    refused(&["--html", "page.html"], "--against");
}

/// An alert opened by a judgement with which no event came, and what was said of it before the next one.
#[test]
fn what_people_said_meets_the_alerts_that_came_with_the_time() {
    let place = Place::new();
    let (old, new) = (place.alerts("loose.toml"), place.alerts("strict.toml"));
    let (account, kind) = old.keys().find(|key| !new.contains_key(*key)).expect("one is lost");
    place.text(&["--policy", "loose.toml", "--alerts", "alerts.csv"]);
    let rows = std::fs::read_to_string(place.path("alerts.csv")).expect("alerts");
    let of_it = |row: &&str| row.starts_with(account.as_str()) && row.contains(kind.as_str());
    let opened = rows.lines().find(of_it).and_then(|row| row.split(',').nth(1)).expect("a time");
    // The row is dated a millisecond after the alert; events come at noon only.
    let at = Millis::parse(opened).expect("a time").0 - 1;
    assert!(at.rem_euclid(DAY_MS) < DAY_MS / 2, "{opened}");
    let id = content_id(&[account, kind, &at.to_string()]);
    let said = |number: i64, kind: &str, alert: &str| {
        let when = at + number * 3_600_000;
        format!(
            "{{\"outcome_id\":\"{number}\",\"account_id\":\"{account}\",\"kind\":\"{kind}\",\"occurred_at\":{when},\"alert_id\":\"{alert}\"}}\n"
        )
    };
    let lines = [
        said(1, "acknowledged", &id),
        said(2, "confirmed", &id),
        said(3, "resolved", &id),
        said(4, "acknowledged", "nobody's"),
    ];
    place.write("said.ndjson", &lines.concat());

    let alone = place.text(&["--policy", "loose.toml", "--outcomes", "said.ndjson", "--json"]);
    let alone: Value = serde_json::from_str(&alone).expect("JSON");
    assert_eq!((&alone["said_of_alerts"], &alone["unbound"]), (&4.into(), &1.into()));
    assert_eq!(alone["rejected"], serde_json::json!({"unknown_alert": 1}));

    // Under a policy that raises no such alert nothing of it binds, and the comparison says so.
    let found = place.compared(&["--outcomes", "said.ndjson"]);
    assert_eq!((&found["old"]["unbound"], &found["new"]["unbound"]), (&1.into(), &4.into()));
    let sides = ["--policy", "strict.toml", "--against", "loose.toml", "--outcomes", "said.ndjson"];
    let text = place.text(&sides);
    assert!(
        text.contains("said of alerts, unbound") && text.contains("not the policy's"),
        "{text}"
    );
}
