//! The command line, as a person or a script uses it: exit codes, messages, JSON, configuration, replay.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bellwether_tests::bellwether;
use serde_json::{Value, json};

/// A run of the binary in a directory of its own, so that no file or variable of the caller interferes.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the directory is writable");
    }

    fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = bellwether(arguments);
        command.current_dir(self.0.path());
        let own = std::env::vars_os().map(|(name, _)| name);
        for name in own.filter(|name| name.to_string_lossy().starts_with("BELLWETHER_")) {
            command.env_remove(name);
        }
        command
    }

    fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// Runs to success and reads standard output as one JSON document.
    fn json<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Value {
        json_of(&self.run(arguments))
    }

    /// Runs into an error: its exit code, and its message.
    fn fails<'a>(&self, code: i32, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(output.stdout.is_empty(), "an error is no result: {output:?}");
        error
    }
}

fn json_of(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("standard output is one JSON document")
}

/// Every one of `words` has to stand in the message.
fn assert_names(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

#[test]
fn wrong_usage_and_wrong_configuration_are_exit_code_2() {
    let place = Place::new();
    assert_names(&place.fails(2, ["config", "--nope"]), &["--nope", "--help"]);
    assert_names(&place.fails(2, ["frobnicate"]), &["frobnicate"]);
    assert_names(
        &place.fails(2, ["run", "--embedded", "--bootstrap-servers", "b:1"]),
        &["--embedded"],
    );
    assert_names(&place.fails(2, ["config", "--config", "absent.toml"]), &["absent.toml"]);

    assert_names(&place.fails(2, ["demo", "--as-of", "99"]), &["--as-of", "2026-03-01"]);
    assert_names(&place.fails(2, ["run"]), &["--bootstrap-servers", "--embedded"]);
    let listen = ["run", "--embedded", "--data-dir", "data", "--listen", "nowhere"];
    assert_names(&place.fails(2, listen), &["nowhere", "--listen"]);

    place.write("typo.toml", "[engine]\nbatch_recods_max = 5\n");
    assert_names(
        &place.fails(2, ["config", "--config", "typo.toml"]),
        &["typo.toml", "engine.batch_recods_max", "allowed are output_format, batch_records_max"],
    );
    place.write("range.toml", "[engine]\nembedded_partitions = 65\n");
    assert_names(
        &place.fails(2, ["config", "--config", "range.toml"]),
        &["engine.embedded_partitions is 65", "1 to 64"],
    );
    let output = place.command(["config"]).env("BELLWETHER_HTTP__LISEN", "x").output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    assert_names(
        &String::from_utf8_lossy(&output.stderr),
        &["BELLWETHER_", "http.lisen", "listen"],
    );
}

#[test]
fn a_policy_that_is_not_valid_is_exit_code_3_and_the_message_says_where() {
    let place = Place::new();
    let shown = place.run(["policy", "show"]);
    let policy = String::from_utf8(shown.stdout).expect("text");
    place.write("mine.toml", &policy);
    let checked = place.json(["policy", "check", "mine.toml", "--json"]);
    assert_eq!(checked["version"], place.json(["version", "--json"])["policy_version"]);
    assert!(checked["signals"].as_u64().is_some_and(|count| count >= 16), "{checked}");

    let broken = |from: &str, to: &str| {
        assert_eq!(policy.matches(from).count(), 1, "{from} stands once in the policy");
        place.write("broken.toml", &policy.replace(from, to));
        place.fails(3, ["policy", "check", "broken.toml"])
    };
    let line = |text: &str| {
        let index = policy.lines().position(|line| line.starts_with(text)).expect("a line of it");
        format!("line {}", index + 1)
    };
    assert_names(
        &broken("grace_hours =", "grace_ours ="),
        &["broken.toml", &line("grace_hours"), "grace_ours", "grace_hours"],
    );
    assert_names(
        &broken("distinct_max = 5000", "distinct_max = 0"),
        &["broken.toml", "admission.distinct_max", "0", "1", "100000"],
    );
    assert_names(
        &broken("unknown_accounts = \"admit\"", "unknown_accounts = \"perhaps\""),
        &["broken.toml", &line("unknown_accounts"), "perhaps", "admit", "reject"],
    );
    // Everywhere but in `policy check` a policy that cannot be used is wrong usage.
    assert_names(&place.fails(2, ["version", "--policy", "broken.toml"]), &["broken.toml"]);
    assert_names(&place.fails(2, ["version", "--policy", "builtin:x"]), &["default", "openstack"]);
    // A file may hold only what differs.
    place.write("small.toml", "[admission]\ngrace_hours = 24\n");
    let small = place.json(["policy", "check", "small.toml", "--json"]);
    assert_eq!(small["signals"], checked["signals"]);
    assert_ne!(small["version"], checked["version"]);
}

#[test]
fn json_is_json_everywhere() {
    let place = Place::new();
    assert_eq!(place.json(["version", "--json"])["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(place.json(["config", "--json"])["http"]["listen"], "127.0.0.1:8391");
    assert_eq!(place.json(["config", "--json"])["notify"]["listen"], "127.0.0.1:8392");
    for name in ["default", "openstack"] {
        let shown = place.json(["policy", "show", name, "--json"]);
        assert!(shown["signal"].as_array().is_some_and(|signals| !signals.is_empty()), "{shown}");
    }
    place.write("one.ndjson", &ndjson(&[event("e1", "a", "login", "2025-06-02T10:00:00Z")]));
    assert_eq!(place.json(["replay", "one.ndjson", "--json"])["events"], 1);
}

#[test]
fn flags_beat_environment_beats_file_and_secrets_are_masked() {
    let place = Place::new();
    place.write(
        "bellwether.toml",
        "data_dir = \"from-file\"\n[http]\nlisten = \"127.0.0.1:1\"\n[engine]\ntick_seconds = 7\n\
         [kafka.properties]\n\"sasl.password\" = \"hush-1\"\n\"client.id\" = \"seen\"\n",
    );
    let config = |more: &[&str]| {
        let arguments = ["config"].iter().chain(more).copied();
        place
            .command(arguments)
            .env("BELLWETHER_HTTP__LISTEN", "127.0.0.1:2")
            .env("BELLWETHER_DATA_DIR", "from-environment")
            .env("BELLWETHER_REGISTRY__PASSWORD", "hush-2")
            .env("BELLWETHER_REGISTRY__URL", "http://user:hush-3@registry:8081/path")
            .output()
            .expect("the binary runs")
    };
    let shown = json_of(&config(&["--json"]));
    assert_eq!(shown["engine"]["tick_seconds"], 7, "from the file");
    assert_eq!(shown["http"]["listen"], "127.0.0.1:2", "the environment beats the file");
    assert_eq!(shown["data_dir"], "from-environment");
    let shown = json_of(&config(&["--json", "--data-dir", "from-flag"]));
    assert_eq!(shown["data_dir"], "from-flag", "a flag beats the environment");
    for form in [&["--json"][..], &[]] {
        let output = config(form);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("hush") && text.contains("****"), "{text}");
        assert!(text.contains("@registry:8081/path"), "{text}");
        assert!(text.contains("seen"), "what is no secret is shown: {text}");
    }
}

fn event(id: &str, account: &str, kind: &str, at: &str) -> Value {
    json!({"event_id": id, "account_id": account, "type": kind, "occurred_at": at})
}

fn ndjson(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

/// Eleven weeks of two accounts, of which one comes to a halt after eight.
fn small_history() -> Vec<Value> {
    let mut events = Vec::new();
    for day in 0..77 {
        let date = format!("2025-{:02}-{:02}", 3 + day / 28, 1 + day % 28);
        for (account, per_day) in
            [("halting, \"Inc\"", if day < 56 { 12 } else { 1 }), ("steady", 8)]
        {
            for n in 0..per_day {
                let kind = if n % 3 == 2 { "project.created" } else { "login" };
                let at = format!("{date}T{:02}:30:00.250Z", 6 + n);
                let mut item = event(&format!("{account}-{day}-{n}"), account, kind, &at);
                item["member_id"] = json!(format!("m{}", n % 4));
                item["value"] = json!(f64::from(n) + 0.5);
                events.push(item);
            }
        }
    }
    events.sort_by_key(|event| event["occurred_at"].to_string());
    events
}

fn csv(events: &[Value]) -> String {
    let mut text = "event_id,account_id,type,member_id,value,occurred_at\n".to_owned();
    for event in events {
        let cell = |name: &str| match event[name].as_str() {
            Some(text) => format!("\"{}\"", text.replace('"', "\"\"")),
            None => event[name].to_string(),
        };
        let cells =
            ["event_id", "account_id", "type", "member_id", "value", "occurred_at"].map(cell);
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

/// Replays files and returns the summary without what differs from run to run, the scores and the alerts.
fn replay(place: &Place, arguments: &[&str]) -> (Value, String, String) {
    let fixed = ["replay", "--json", "--scores", "scores.csv", "--alerts", "alerts.csv"];
    let mut summary = place.json(fixed.iter().chain(arguments).copied());
    assert!(summary["seconds"].take().is_number());
    let read = |name| std::fs::read_to_string(place.path(name)).expect("the replay wrote it");
    (summary, read("scores.csv"), read("alerts.csv"))
}

#[test]
fn the_same_events_as_csv_ndjson_and_gzip_give_the_same_result() {
    let place = Place::new();
    let events = small_history();
    place.write("events.csv", &csv(&events));
    place.write("events.ndjson", &ndjson(&events));
    for name in ["events.csv", "events.ndjson"] {
        let zipped = Command::new("gzip").arg("--keep").arg(place.path(name)).status();
        assert!(zipped.expect("gzip is missing: install the package gzip").success());
    }
    let reference = replay(&place, &["events.csv"]);
    assert_eq!(reference.0["events"], events.len());
    assert_eq!((&reference.0["bad_lines"], &reference.0["rejected"]), (&json!(0), &json!({})));
    assert_eq!(reference.0["accounts"], 2);
    let rows = |text: &str| text.lines().count() as u64 - 1;
    assert_eq!(reference.0["score_changes"], rows(&reference.1));
    assert!(reference.1.starts_with("account_id,at,score\n"), "{}", reference.1);
    assert!(reference.2.starts_with("account_id,at,kind,severity,signals\n"), "{}", reference.2);
    assert!(reference.2.contains("\"halting, \"\"Inc\"\"\",2025-05-"), "{}", reference.2);
    assert!(!reference.2.contains("steady,"), "{}", reference.2);
    for name in ["events.csv.gz", "events.ndjson", "events.ndjson.gz"] {
        assert_eq!(replay(&place, &[name]), reference, "{name}");
    }
}

/// Time, as the second column has it, and the whole row.
fn rows(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().skip(1).map(|line| (line.split(',').nth(1).expect("a time"), line))
}

/// What a run up to a date says is what the whole run said up to that date: nothing looks ahead.
#[test]
fn a_cut_changes_nothing_that_was_known_before_it() {
    let place = Place::new();
    let history = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/bellwether/demo/openstack_dev_events.csv.gz");
    let file = history.to_str().expect("a path of this repository");
    let (_, scores, alerts) = replay(&place, &[file, "--policy", "builtin:openstack"]);
    // The start of a day, and the middle of one.
    for cut in ["2012-06-15T00:00:00.000Z", "2013-09-02T13:37:00.000Z"] {
        let arguments = [file, "--policy", "builtin:openstack", "--cut", cut];
        let (_, scores_cut, alerts_cut) = replay(&place, &arguments);
        for (whole, cut_off) in [(&scores, &scores_cut), (&alerts, &alerts_cut)] {
            let expected: Vec<_> = rows(whole).filter(|(at, _)| *at <= cut).collect();
            let found: Vec<_> = rows(cut_off).filter(|(at, _)| *at <= cut).collect();
            assert!(expected.len() > 100, "{} rows before {cut}", expected.len());
            // Not assert_eq: tens of thousands of rows tell less than the first that differs.
            let differs = expected.iter().zip(&found).find(|(left, right)| left != right);
            assert_eq!(differs, None, "cut {cut}");
            assert_eq!(found.len(), expected.len(), "cut {cut}");
            // A row that is due at the cut itself is dated a millisecond later; nothing is dated after that.
            let last = rows(cut_off).map(|(at, _)| at).max().expect("rows");
            assert!(last <= cut || last.starts_with(&cut[..22]), "{last} is after {cut}");
        }
    }
    let date = replay(&place, &[file, "--policy", "builtin:openstack", "--cut", "2012-06-15"]);
    let instant =
        replay(&place, &[file, "--policy", "builtin:openstack", "--cut", "2012-06-15T00:00:00Z"]);
    assert_eq!(date.0, instant.0, "a date is its first instant");
    assert_names(
        &place.fails(2, ["replay", file, "--cut", "soon"]),
        &["--cut", "soon", "2026-03-01"],
    );
}

#[test]
fn bad_lines_are_skipped_counted_by_reason_and_named() {
    let place = Place::new();
    place.write(
        "mixed.csv",
        "event_id,account_id,type,value,occurred_at\n\
         e1,a,login,,2025-06-02T10:00:00Z\n\
         e2,a,login,NaN,2025-06-02T10:01:00Z\n\
         e3,a,login,1e999,2025-06-02T10:02:00Z\n\
         e4,a,login\n\
         e1,a,login,,2025-06-02T10:00:00Z\n\
         e5,a,login,,2025-06-20T10:00:00Z\n\
         e6,a,login,,2025-06-03T10:00:00Z\n\
         e7,a,login,,yesterday\n\
         e8,a,login,,2025-06-20T11:00:00Z\n",
    );
    let output = place.run(["replay", "mixed.csv", "--json"]);
    let summary = json_of(&output);
    assert_eq!(summary["events"], 3, "{summary}");
    assert_eq!(summary["bad_lines"], 4, "{summary}");
    let expected =
        json!({"duplicate": 1, "invalid_field": 1, "malformed": 1, "non_finite": 2, "too_late": 1});
    assert_eq!(summary["rejected"], expected);
    let named = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_names(
        &named,
        &["line 3: non_finite", "line 4: non_finite", "line 5: malformed", "line 9: invalid_field"],
    );
    assert_names(&named, &["yesterday", "ISO-8601"]);

    // What lies ahead of the clock does not move time for the rest.
    let mut events = vec![event("far", "a", "login", "9990-01-01T00:00:00Z")];
    events.extend((1..=30).map(|day| {
        event(&format!("d{day}"), "a", "login", &format!("2025-06-{day:02}T10:00:00Z"))
    }));
    place.write("ahead.ndjson", &ndjson(&events));
    let summary = place.json(["replay", "ahead.ndjson", "--json"]);
    assert_eq!(
        (&summary["events"], &summary["rejected"]),
        (&json!(30), &json!({"future": 1})),
        "{summary}"
    );

    place.write("mixed.ndjson", "{\"event_id\":\"e1\",\"account_id\":\"a\",\"type\":\"login\",\"occurred_at\":\"2025-06-02T10:00:00Z\"}\n{\"broken\n");
    let summary = place.json(["replay", "mixed.ndjson", "--json"]);
    assert_eq!((&summary["events"], &summary["bad_lines"]), (&json!(1), &json!(1)), "{summary}");
}

#[test]
fn a_file_that_cannot_be_read_at_all_is_a_clear_error() {
    let place = Place::new();
    place.write("columns.csv", "account_id,when\na,1\n");
    assert_names(
        &place.fails(1, ["replay", "columns.csv"]),
        &["columns.csv", "no column event_id", "account_id, when"],
    );
    place.write("empty.csv", "");
    assert_names(&place.fails(1, ["replay", "empty.csv"]), &["empty.csv", "empty"]);
    place.write("events.xlsx", "");
    assert_names(
        &place.fails(1, ["replay", "events.xlsx"]),
        &["events.xlsx", ".csv", ".ndjson", ".avro"],
    );
    assert_names(&place.fails(1, ["replay", "absent.csv"]), &["absent.csv", "No such file"]);

    // A file that breaks off gives no summary of a part.
    place.write("events.ndjson", &ndjson(&small_history()));
    let zipped = Command::new("gzip").arg(place.path("events.ndjson")).status();
    assert!(zipped.expect("gzip is missing: install the package gzip").success());
    let bytes = std::fs::read(place.path("events.ndjson.gz")).expect("gzip wrote it");
    std::fs::write(place.path("half.ndjson.gz"), &bytes[..bytes.len() / 2]).expect("writable");
    std::fs::write(place.path("noise.ndjson.gz"), b"no gzip at all").expect("writable");
    for name in ["half.ndjson.gz", "noise.ndjson.gz"] {
        assert_names(&place.fails(1, ["replay", name]), &[name, "breaks off"]);
    }
}

#[test]
fn explaining_needs_a_state() {
    let place = Place::new();
    assert_names(
        &place.fails(1, ["explain", "a", "--data-dir", "absent"]),
        &["absent", "--data-dir", "--url"],
    );
    assert_names(&place.fails(1, ["explain", ""]), &["account id"]);
}
