//! `bellwether learn`: a scorecard from files of events and outcomes, at work in a replay.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const POLICY: &str = r#"
name = "logins"
[[signal]]
name = "logins"
category = "engagement"
group = "logins"
direction = "down"
aggregate = "count"
match = { types = ["login"] }
unit = "logins/week"
weight = 10.0
kind = "usage_decline"
"#;
const DAY_MS: i64 = 86_400_000;
/// 2024-01-01, a Monday.
const START_MS: i64 = 19_723 * DAY_MS;
const DAYS: i64 = 364;

struct Place(tempfile::TempDir);

impl Place {
    /// Eighty accounts, of which every second comes on one day of eight. Of those, two thirds leave, one after the other.
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("a temporary directory"));
        place.write("policy.toml", POLICY);
        place.write("other.toml", &POLICY.replace("name = \"logins\"\n[[", "name = \"other\"\n[["));
        let mut events = "event_id,account_id,user_id,signal,value,occurred_at\n".to_owned();
        let mut outcomes = "account_id,kind,churned_at\n".to_owned();
        for account in 0..80_i64 {
            let rare = account % 2 == 0;
            let leaves = (rare && account % 3 != 0).then(|| 80 + account * 3);
            for day in 0..leaves.unwrap_or(DAYS) {
                let turn = (day * 5 + account * 3) % 8;
                if turn == 0 || !rare && turn < 6 {
                    let at = START_MS + day * DAY_MS + DAY_MS / 2 + account;
                    events += &format!("{day}-{account},a{account},u,login,1,{at}\n");
                }
            }
            if let Some(day) = leaves {
                outcomes += &format!("a{account},cancelled,{}\n", START_MS + day * DAY_MS);
            }
        }
        place.write("events.csv", &by_time(&events));
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
        command.args(arguments).current_dir(self.0.path());
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

    fn fit(&self, outcomes: &str) -> Value {
        let text = self.text(&[
            "learn",
            "fit",
            "events.csv",
            "--outcomes",
            outcomes,
            "--policy",
            "policy.toml",
            "--json",
        ]);
        serde_json::from_str(&text).expect("JSON")
    }
}

/// Rows in order of time, after the header.
fn by_time(csv: &str) -> String {
    let (header, rows) = csv.split_once('\n').expect("a header");
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_by_key(|row| row.rsplit(',').next().and_then(|at| at.parse::<i64>().ok()));
    format!("{header}\n{}\n", rows.join("\n"))
}

#[test]
fn a_scorecard_is_learned_reported_and_put_to_work() {
    let place = Place::new();
    let model = place.fit("outcomes.csv");
    assert_eq!(model["horizon_days"], 28);
    let all = &model["report"]["holdout"]["all"];
    assert_eq!(all["has_skill"], true, "{all:#}");
    assert!(all["auc"][0].as_f64().expect("a figure") > 0.6, "{all:#}");
    let version = model["version"].as_str().expect("a version");
    assert_eq!(place.fit("outcomes.csv"), model, "the same data give the same model");

    let report = place.text(&["learn", "report", "model.json"]);
    assert!(report.contains(version) && report.contains("activity"), "{report}");
    assert!(report.contains("AUC"), "{report}");

    let replay = |more: &[&str]| {
        let text = place
            .text(&[&["replay", "events.csv", "--policy", "policy.toml", "--json"], more].concat());
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let learned = replay(&["--model", "model.json", "--scores", "scores.csv"]);
    assert_eq!(learned["model_version"], version);
    assert_eq!(replay(&[])["model_version"], "expert");
    // Those that come daily stand better than those that come once in eight days.
    let scores = std::fs::read_to_string(place.path("scores.csv")).expect("scores");
    let last = |account: &str| {
        let mut rows = scores.lines().filter(|row| row.starts_with(&format!("{account},")));
        let score = rows.next_back().and_then(|row| row.split(',').nth(2)?.parse::<f64>().ok());
        score.expect("a score")
    };
    assert!(last("a1") > 60.0 && last("a6") < 45.0, "{} {}", last("a1"), last("a6"));
}

/// What profiles say of contracts is learned as it was known at the time, and left out where they say nothing.
#[test]
fn renewals_and_values_of_profiles_are_learned() {
    let place = Place::new();
    let names = |model: &Value| -> Vec<String> {
        let features = model["card"]["model"]["features"].as_array().expect("features");
        let names = features.iter().filter_map(|feature| feature["name"].as_str());
        let of_contract = ["renewal", "value", "spend"];
        names.filter(|name| of_contract.contains(name)).map(str::to_owned).collect()
    };
    assert_eq!(names(&place.fit("outcomes.csv")), [""; 0], "no profiles");
    // Contracts renew on the day on which accounts leave, or a year after all is over.
    let mut profiles = String::new();
    for account in 0..80_i64 {
        let leaves = account % 2 == 0 && account % 3 != 0;
        let days = START_MS / DAY_MS + if leaves { 80 + account * 3 } else { 2 * DAYS };
        let renews_on = bellwether_core::time::Day(days as i32);
        let value = 1_000 * (1 + account % 7);
        profiles += &format!(
            "{{\"account_id\":\"a{account}\",\"as_of\":\"2024-01-01T00:00:00Z\",\"renews_on\":\"{renews_on}\",\"annual_value_usd\":{value}}}\n"
        );
    }
    place.write("profiles.ndjson", &profiles);
    let fit = ["learn", "fit", "events.csv", "--outcomes", "outcomes.csv", "--policy"];
    let text = place
        .text(&[&fit[..], &["policy.toml", "--profiles", "profiles.ndjson", "--json"]].concat());
    let model: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(names(&model), ["renewal", "value"], "and nobody sent a bill");
    // Each feature has one segment.
    let card = &model["card"]["model"];
    let at = card["features"].as_array().expect("features").iter();
    let at = at.clone().position(|feature| feature["name"] == "renewal").expect("it is there");
    let weight = card["global"]["weights"]["segments"][at]["value"].as_f64();
    assert!(weight > Some(1.5), "more than was expected: {weight:?}");
    let report = place.text(&["learn", "report", "model.json"]);
    assert!(report.contains("renewal") && report.contains("value"), "{report}");
    let replay = ["replay", "events.csv", "--policy", "policy.toml", "--model", "model.json"];
    place.text(&replay);
}

#[test]
fn a_report_says_how_good_the_data_were() {
    let place = Place::new();
    let mut events = std::fs::read_to_string(place.path("events.csv")).expect("events");
    // One event twice, one of long ago, and in the end three weeks in which nobody logs in.
    let twice = events.lines().nth(500).expect("a row").to_owned();
    events = events.replace(&twice, &format!("{twice}\n{twice}"));
    events += &format!("late,a1,u,login,1,{}\n", START_MS + DAY_MS);
    for day in DAYS..DAYS + 21 {
        events += &format!("beat-{day},a1,u,heartbeat,1,{}\n", START_MS + day * DAY_MS);
    }
    place.write("events.csv", &events);
    let model = place.fit("outcomes.csv");
    let data = &model["report"]["data"];
    let cohort = &data["cohorts"][""];
    assert_eq!(cohort["rejected"]["duplicate"], 1, "{data:#}");
    assert!(cohort["rejected"]["too_late"].as_u64() >= Some(1), "{data:#}");
    assert!(cohort["accounts"].as_u64() > Some(40), "{data:#}");
    assert_eq!(cohort["silent"]["logins"]["gap_days"], 0, "somebody came every day: {data:#}");
    assert!(cohort["silent"]["logins"]["days"].as_u64() > Some(14), "{data:#}");
    let report = place.text(&["learn", "report", "model.json", "--html", "report.html"]);
    let page = std::fs::read_to_string(place.path("report.html")).expect("a page");
    for text in ["1 duplicate", "1 too_late", "logins 19 days"] {
        assert!(report.contains(text) && page.contains(text), "{text}: {report}");
    }
}

/// A timestamp in microseconds lies in the far future: it is rejected, and lets no time pass.
#[test]
fn one_event_from_the_future_changes_nothing() {
    let place = Place::new();
    let mut expected = place.fit("outcomes.csv");
    let events = std::fs::read_to_string(place.path("events.csv")).expect("events");
    let (header, rows) = events.split_once('\n').expect("a header");
    let future = format!("x,a1,u,login,1,{}", START_MS * 1_000);
    place.write("events.csv", &format!("{header}\n{future}\n{rows}"));
    let mut found = place.fit("outcomes.csv");
    assert_eq!(found["report"]["data"]["cohorts"][""]["rejected"]["out_of_range"], 1);
    for model in [&mut expected, &mut found] {
        model["data_until"].take();
        model["report"]["data"].take();
    }
    assert_eq!(found, expected);
}

#[test]
fn without_outcomes_the_experts_model_stands_and_no_skill_is_claimed() {
    let place = Place::new();
    place.write("none.csv", "account_id,kind,churned_at\n");
    let model = place.fit("none.csv");
    assert_eq!(model["report"]["outcomes"], 0);
    assert_eq!(model["report"]["holdout"]["all"]["has_skill"], false);
    let report = place.text(&["learn", "report", "model.json"]);
    assert!(report.contains("No skill"), "{report}");
}

#[test]
fn a_model_that_does_not_fit_is_refused() {
    let place = Place::new();
    place.fit("outcomes.csv");
    let refused = |arguments: &[&str], why: &str| {
        let output = place.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    };
    let replay = ["replay", "events.csv", "--model", "model.json", "--policy"];
    refused(&[&replay[..], &["other.toml"]].concat(), "learned under the policy `logins`");
    refused(&["learn", "report", "missing.json"], "cannot be read");
    let text = std::fs::read_to_string(place.path("model.json")).expect("a model");
    place.write("newer.json", &text.replacen("\"format\": 1", "\"format\": 9", 1));
    refused(&["learn", "report", "newer.json"], "has format 9");
    place.write("cut.json", &text[..text.len() / 2]);
    refused(&["learn", "report", "cut.json"], "is no model");
    place.write("edited.json", &text.replacen("\"doubling\": 10.0", "\"doubling\": 20.0", 1));
    refused(&["learn", "report", "edited.json"], "not that of its version");
    place.write("turned.toml", &POLICY.replace("\"down\"", "\"up\""));
    refused(&[&replay[..], &["turned.toml"]].concat(), "under other signals");
    let fit = ["learn", "fit", "events.csv", "--policy", "policy.toml", "--outcomes"];
    refused(&[&fit[..], &["outcomes.csv", "--kind", "canceled"]].concat(), "it has cancelled");
    place.write("two.csv", "account_id,kind,churned_at\na1,left,5\na2,silent,5\n");
    refused(&[&fit[..], &["two.csv"]].concat(), "choose one of left, silent");
    let events = std::fs::read_to_string(place.path("events.csv")).expect("events");
    let (header, rows) = events.split_once('\n').expect("a header");
    let mut by_account: Vec<&str> = rows.lines().collect();
    by_account.sort_by_key(|row| row.split(',').nth(1));
    place.write("by_account.csv", &format!("{header}\n{}\n", by_account.join("\n")));
    let unsorted = ["learn", "fit", "by_account.csv", "--policy", "policy.toml"];
    refused(&[&unsorted[..], &["--outcomes", "outcomes.csv"]].concat(), "Sort the files by time");
    refused(&[&fit[..], &["outcomes.csv", "--horizon-days", "1"]].concat(), "allowed are 7 to 366");
}
