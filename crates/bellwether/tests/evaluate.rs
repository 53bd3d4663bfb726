//! `bellwether evaluate` without the kit: a small set with the kit's columns, and a stand-in for its Python that answers as the kit's
//! scripts would.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// An account id that would break out of HTML, SVG and CSV.
const HOSTILE: &str = "<script>alert(1)</script>\"'&,x";

struct Place(tempfile::TempDir);

impl Place {
    /// A kit with a small set in it.
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("a temporary directory"));
        fs::create_dir_all(place.path("kit/data")).expect("writable");
        for script in ["referee.py", "anchors.py", "power.py", "nab_score.py"] {
            place.write(&format!("kit/{script}"), "");
        }
        place.gzip("kit/data/openstack_dev_events.csv", &events());
        place.gzip("kit/data/openstack_dev_outcomes.csv", &outcomes());
        place.python(&answer());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("writable");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn gzip(&self, name: &str, text: &str) {
        self.write(name, text);
        let done = Command::new("gzip").args(["-nf"]).arg(self.path(name)).status();
        assert!(done.expect("gzip is missing: install the package gzip").success());
    }

    /// A stand-in for Python: it answers requests on standard input, and nothing else.
    fn python(&self, answer: &str) {
        self.write("answer.json", answer);
        let answer = self.path("answer.json");
        let script = format!(
            "#!/bin/sh\ncase \"$2\" in\n  *json.load*) cat > /dev/null; cat '{}';;\n  *metadata*) echo 'Python 3';;\nesac\n",
            answer.display()
        );
        self.write("python", &script);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path("python"), executable).expect("permissions");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.arg("evaluate").args(arguments).current_dir(self.0.path());
        let own = std::env::vars_os().map(|(name, _)| name);
        for name in own.filter(|name| name.to_string_lossy().starts_with("BELLWETHER_")) {
            command.env_remove(name);
        }
        command.output().expect("the binary runs")
    }

    /// Evaluates the small set.
    fn evaluate(&self, out: &str) -> Value {
        let output = self.run(&[
            "openstack",
            "--kit",
            "kit",
            "--python",
            "./python",
            "--out",
            out,
            "--budgets",
            "2",
            "--json",
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn fails(&self, code: i32, arguments: &[&str], words: &[&str]) {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        for word in words {
            assert!(error.contains(word), "{word:?} is missing in: {error}");
        }
    }
}

/// Three companies for 40 weeks; the hostile one falls silent in all it does after 30.
fn events() -> String {
    let mut rows =
        "event_id,account_id,user_id,cohort,signal,value,occurred_at,object\n".to_owned();
    let hostile = format!("\"{}\"", HOSTILE.replace('"', "\"\""));
    let mut id = 0;
    let start = 1_356_998_400_000_i64 - 280 * 86_400_000; // 280 days before 2013-01-01
    for day in 0..480_i64 {
        for (number, account) in ["steady", "other", &hostile].into_iter().enumerate() {
            for (part, signal) in ["commit", "landed", "bugfix", "feature"].into_iter().enumerate()
            {
                if account == hostile && day >= 400 {
                    continue;
                }
                for turn in 0..(2 + (day as usize * 7 + number + part) % 3) {
                    id += 1;
                    let at =
                        start + day * 86_400_000 + (part * 10 + turn) as i64 * 60_000 + 3_600_000;
                    rows += &format!(
                        "e{id},{account},u{turn},company,{signal},1,{at},repository{part}\n"
                    );
                }
            }
        }
    }
    rows
}

fn outcomes() -> String {
    format!(
        "account_id,kind,cohort,eligible_from,churned_at,observed_until\n\
         steady,silence,company,2012-09-01T00:00:00Z,,2014-02-01T00:00:00Z\n\
         \"{}\",silence,company,2012-09-01T00:00:00Z,2013-05-20T00:00:00Z,2014-02-01T00:00:00Z\n",
        HOSTILE.replace('"', "\"\"")
    )
}

/// What the kit would say, in its shape.
fn answer() -> String {
    let point = |at: f64, rate: f64, recall: f64| json!({"at": at, "false": [rate, rate / 2.0, rate * 2.0], "recall": [recall, recall / 2.0, recall], "lead_days": [12.0, 10.0, 15.0], "random_recall": 0.08});
    let against = |mut point: Value| {
        point["against"] =
            json!({"single z": {"false": [3.0, 1.5, 6.0], "ratio": [0.5, 0.25, 1.0]}});
        point
    };
    let mut spikes = point(0.0, 0.4, 0.05);
    (spikes["kind"], spikes["family"]) = (json!("usage_spike"), json!("rise"));
    let score = json!({"auc": [0.7, 0.6, 0.8]});
    json!({
        "name": "openstack-silence", "kind": "silence", "horizon_days": 56, "step_days": 14, "from": "2013-01-01",
        "account_years": 50.0, "churns": 25,
        "score": {"Bellwether": score, "recency": score},
        "families": {"0.1": [spikes], "2": []},
        "curves": {
            "Bellwether": [against(point(2.0, 1.5, 0.3)), point(0.1, 0.2, 0.1)],
            "Bellwether, risk only": [against(point(2.0, 1.0, 0.2))],
            "single z": [point(1.0, 3.0, 0.35), point(3.0, 0.1, 0.0)]},
        "look_ahead": {"compared": 10, "differ": 0, "only_in_one": 0},
    })
    .to_string()
}

#[test]
fn a_set_gives_scores_alerts_figures_and_tables() {
    let place = Place::new();
    let found = place.evaluate("out");
    let scores = place.read("out/openstack/scores.csv");
    assert!(scores.starts_with("account_id,at,score\nsteady,2012-"), "{}", &scores[..100]);
    let alerts = place.read("out/openstack/alerts.csv");
    assert!(alerts.starts_with("account_id,at,kind,severity,signals\n"), "{alerts}");
    let urgent: Vec<&str> = alerts.lines().filter(|row| row.contains(",critical,")).collect();
    let families = place.read("out/openstack/families.csv");
    let named: Vec<&str> = families.lines().filter(|row| row.contains("script")).collect();
    let all = alerts.lines().filter(|row| row.contains(",critical,") || row.contains(",high,"));
    assert_eq!(families.lines().count() - 1, all.count(), "{families}");
    assert!(named.iter().any(|row| row.ends_with("churn_risk,drop")), "{families}");
    assert!(!urgent.is_empty(), "{alerts}");
    assert!(urgent.iter().all(|row| row.contains("script") && row.contains(';')), "{urgent:?}");
    assert_eq!(found["openstack"]["replay"]["bad_lines"], 0);
    assert_eq!(found["openstack"]["policy"], "openstack");
    let text = place.read("out/evaluation.json");
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), found);
    // Where no threshold of a rule finds as many, there is nothing to compare with.
    let output = place.run(&["--results", "out/evaluation.json"]);
    let tables = String::from_utf8(output.stdout).expect("text");
    for row in [
        "| all | 0.1 | 0.20 [0.10, 0.40] | 10 % [5.0, 10] | 8.0 % | 12 [10, 15] | – | – |",
        "| all | 2 | 1.50 [0.75, 3.00] | 30 % [15, 30] | 8.0 % | 12 [10, 15] | 3.00 [1.50, 6.00] | 0.50 [0.25, 1.00] |",
        "| of risk | 2 | 1.00 [0.50, 2.00] | 20 % [10, 20] | 8.0 % | 12 [10, 15] | 3.00 [1.50, 6.00] | 0.50 [0.25, 1.00] |",
        "| usage spike: rise | 0.1 | 0.40 [0.20, 0.80] | 5.0 % [2.5, 5.0] | 8.0 % | 12 [10, 15] | – | – |",
    ] {
        assert!(tables.contains(row), "{tables}");
    }
    assert!(tables.contains("with and without what came later: none differ"), "{tables}");
}

#[test]
fn every_value_of_a_series_has_a_score_of_its_own() {
    let place = Place::new();
    // A value that is far off, one older than those before it, and a fall that is lower than the peak of its quiet period.
    let mut series = "timestamp,value\n".to_owned();
    for row in 0..600 {
        let value = match row {
            400 => 500.0,
            450 => 60.0,
            _ => f64::from(row * 7 % 11),
        };
        let minute = if row == 500 { 5 * 300 } else { 5 * row };
        let (day, hour) = (1 + minute / 1_440, minute / 60 % 24);
        series += &format!("2014-04-{day:02} {hour:02}:{:02}:00,{value}\n", minute % 60);
    }
    fs::create_dir_all(place.path("kit/data/nab/data/known")).expect("writable");
    place.gzip("kit/data/nab/data/known/one.csv", &series);
    let scored = json!({"standard": {"score": 68.2, "threshold": 0.998}});
    let answer = json!({"series": 1, "windows": 2, "best": {"Bellwether": scored, "reference": scored}, "own": scored});
    place.python(&answer.to_string());
    let output = place.run(&["nab", "--kit", "kit", "--python", "./python", "--out", "out"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let detections = place.read("out/nab/known/one.csv");
    let rows: Vec<(&str, f64)> = detections
        .lines()
        .skip(1)
        .filter_map(|row| {
            let (at, score) = row.split_once(',')?;
            Some((at, score.parse().ok()?))
        })
        .collect();
    let timestamps: Vec<&str> =
        series.lines().skip(1).filter_map(|row| row.split(',').next()).collect();
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), timestamps);
    assert!(rows[400].1 > 0.9999, "{:?}", rows[400]);
    let rest = rows.iter().enumerate().filter(|(row, _)| (401..500).contains(row));
    assert!(rest.clone().all(|(_, row)| row.1 == 0.0), "within the quiet period of the peak");
    assert_eq!(rows[500].1, 0.0, "a value that is older than the newest is not judged");
    let tables = String::from_utf8(output.stdout).expect("text");
    assert!(tables.contains("| Bellwether | best, 0.998 | 68.2 |"), "{tables}");
    assert!(tables.contains("600 values; the policy's threshold gives 1 alerts"), "{tables}");
}

#[test]
fn what_stands_in_the_data_is_no_markup() {
    let place = Place::new();
    place.evaluate("out");
    let report = place.read("out/report.html");
    assert!(report.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "the account is shown");
    assert!(!report.contains("<script"), "and is no script");
    let svg = place.read("out/openstack/timeline-1.svg");
    assert!(svg.contains("aria-label=\"&lt;script&gt;alert(1)&lt;/script&gt;&quot;"), "{svg}");
    assert!(!svg.contains("<script") && !svg.contains("NaN") && !svg.contains("inf"));
    for part in
        ["silent for 30 days, 2013-05-20", "health score", "commits a day", "critical churn risk"]
    {
        assert!(svg.contains(part), "{part:?} is missing in the figure");
    }
}

#[test]
fn nothing_looks_ahead_and_two_runs_are_the_same() {
    let place = Place::new();
    let mut first = place.evaluate("one");
    // What came after the cut is not in the second file at all.
    let cut = 1_370_044_800_000_i64;
    let header = events().lines().next().map(str::to_owned).expect("a header");
    let before = |row: &&str| {
        row.rsplit(',').nth(1).and_then(|at| at.parse::<i64>().ok()).is_some_and(|at| at < cut)
    };
    let all = events();
    let rows: Vec<&str> = all.lines().skip(1).filter(before).collect();
    assert!(rows.len() > 1_000 && rows.len() < all.lines().count() - 1_000);
    let until = |name: &str| -> Vec<String> {
        let text = place.read(name);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let rows = reader.records().map(|row| row.expect("CSV"));
        rows.filter(|row| &row[1] < "2013-06-01").map(|row| format!("{row:?}")).collect()
    };
    let whole = until("one/openstack/scores.csv");
    assert!(whole.len() > 30, "{whole:?}");
    assert_eq!(whole, until("one/openstack/cut/scores.csv"));
    let mut again = place.evaluate("two");
    for found in [&mut first, &mut again] {
        found["openstack"]["machine"].take();
    }
    assert_eq!(first, again);
    for name in ["scores.csv", "alerts.csv", "timeline-1.svg"] {
        let of = |run: &str| place.read(&format!("{run}/openstack/{name}"));
        assert!(of("one") == of("two"), "{name} differs");
    }
    place.gzip("kit/data/openstack_dev_events.csv", &format!("{header}\n{}\n", rows.join("\n")));
    place.evaluate("three");
    assert_eq!(whole, until("three/openstack/scores.csv"));
}

#[test]
fn what_is_missing_is_named() {
    let place = Place::new();
    place.fails(
        2,
        &["moon", "--kit", "kit"],
        &["moon", "openstack", "oulad", "power", "nab", "calibration", "ablation", "all"],
    );
    place.fails(2, &["openstack"], &["--kit is missing", "make evaluate KIT=DIR"]);
    place.fails(2, &["openstack", "--kit", "nowhere"], &["nowhere", "no referee.py"]);
    let kit = ["openstack", "--kit", "kit", "--python"];
    let with = |python| [&kit[..], &[python]].concat();
    place.fails(2, &with("./no-python"), &["--python is ./no-python", "cannot be run"]);
    place.write("python", "#!/bin/sh\necho pandas sklearn\n");
    place.fails(2, &with("./python"), &["lacks pandas, scikit-learn", "requirements.txt"]);
    place.write("python", "#!/bin/sh\necho broken >&2; exit 1\n");
    place.fails(2, &with("./python"), &["which fails: broken"]);
    place.python(&answer());
    place.fails(2, &[&with("./python")[..], &["--budgets", "99"]].concat(), &["--budgets 99"]);
    place.gzip("kit/data/openstack_dev_events.csv", "event_id,account_id,occurred_at\n");
    place.fails(1, &with("./python"), &["openstack_dev_events.csv.gz", "no column type"]);
    place.write("results.json", "{}");
    place.write("README.md", "nothing here\n");
    let render = ["--results", "results.json", "--readme", "README.md"];
    place.fails(2, &render, &["README.md", "evaluation:begin"]);
}

#[test]
fn results_of_a_run_elsewhere_are_reported_without_their_timelines() {
    let place = Place::new();
    let found = place.evaluate("first");
    fs::create_dir_all(place.path("second")).expect("writable");
    let elsewhere = json!({ "oulad": found["openstack"] }).to_string();
    place.write("second/evaluation.json", &elsewhere);
    let again = place.evaluate("second");
    assert_eq!(again["oulad"], found["openstack"]);
    let report = place.read("second/report.html");
    assert!(report.contains("id=\"oulad\"") && report.contains("id=\"openstack\""));
}

#[test]
fn the_tables_of_the_readme_are_those_of_the_committed_results() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let place = Place::new();
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    place.write("README.md", &readme);
    let results = root.join("benches/results/evaluation.json");
    let results = results.to_str().expect("text");
    let output = place.run(&["--results", results, "--readme", "README.md"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        place.read("README.md") == readme,
        "run: bellwether evaluate --results benches/results/evaluation.json --readme README.md"
    );
}
