//! Holidays of regions and other days of the calendar, told by the command line: into the log and through a running server.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use bellwether_tests::{Bellwether, bellwether};
use serde_json::Value;

/// No step takes longer on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `bellwether calendar` against a server.
fn through(url: &str, words: &[&str]) -> Output {
    let run = bellwether(["calendar"]).args(words).args(["--url", url]).output();
    run.expect("the binary runs")
}

/// `bellwether calendar` on the log of a data directory.
fn into(dir: &Path, words: &[&str]) -> Output {
    let mut run = bellwether(["calendar"]);
    run.args(words).args(["--embedded", "--data-dir"]).arg(dir);
    run.output().expect("the binary runs")
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// How many entries were told, and which were removed.
fn done(output: &Output) -> (usize, Vec<String>) {
    let answer = json(output);
    let removed = answer["removed"].as_array().expect("a list").iter();
    let removed = removed.map(|id| id.as_str().expect("an id").to_owned()).collect();
    (answer["told"].as_array().expect("a list").len(), removed)
}

fn ids(output: &Output) -> Vec<String> {
    let answer = json(output);
    let entries = answer["entries"].as_array().expect("a list").iter();
    entries.map(|entry| entry["entry_id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn holidays_are_told_once_and_taken_back_when_they_are_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = bellwether(["run", "--embedded", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(dir.path());
    let mut running = Bellwether::spawn(command);
    let url = running.url();
    let tell = ["holidays", "--region", "DE,US-CA", "--year", "2027", "--json"];
    let shown = json(&through(&url, &[&tell[..], &["--dry-run"]].concat()));
    let days = shown["entries"].as_array().expect("a list").len();
    assert!(days > 20, "{shown}");
    assert_eq!(ids(&through(&url, &["ls", "--json"])), Vec::<String>::new(), "it was a dry run");

    assert_eq!(done(&through(&url, &tell)), (days, Vec::new()));
    assert_eq!(done(&through(&url, &tell)), (0, Vec::new()), "said again, nothing changes");
    let listed = ids(&through(&url, &["ls", "--region", "DE", "--json"]));
    assert_eq!(listed.first().map(String::as_str), Some("holiday:DE:2027-01-01"));
    assert_eq!(listed.len(), 9);

    // A day that an older table had, and one that somebody added.
    let add = ["add", "holiday", "--region", "DE", "--from", "2027-07-14"];
    let old = [&add[..], &["--id", "holiday:DE:2027-07-14"]].concat();
    assert_eq!(through(&url, &old).status.code(), Some(0));
    let own = ["add", "planned-initiative", "--all", "--from", "2027-02-01", "--to", "2027-02-03"];
    assert_eq!(through(&url, &own).status.code(), Some(0));
    assert_eq!(through(&url, &own).status.code(), Some(0), "the same entry");
    assert_eq!(ids(&through(&url, &["ls", "--json"])).len(), days + 2);
    assert_eq!(done(&through(&url, &tell)), (0, vec!["holiday:DE:2027-07-14".to_owned()]));
    assert_eq!(ids(&through(&url, &["ls", "--json"])).len(), days + 1);

    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    // The same by the log itself, with the words of people.
    let again = into(dir.path(), &tell[..5]);
    assert!(
        text(&again.stdout).contains(&format!("0 told, 0 removed, {days} as before")),
        "{}",
        text(&again.stdout)
    );
    let table = text(&into(dir.path(), &["ls"]).stdout);
    assert!(table.contains("German Unity Day") && table.contains("planned_initiative"), "{table}");
    assert_eq!(into(dir.path(), &["rm", "holiday:DE:2027-01-01"]).status.code(), Some(0));
    assert_eq!(into(dir.path(), &["rm", "holiday:DE:2027-01-01"]).status.code(), Some(3));
    assert_eq!(done(&into(dir.path(), &tell)), (1, Vec::new()));
}

/// Accounts of a part are not quiet on days that only the country keeps.
#[test]
fn a_country_and_its_part_are_told_with_what_the_part_does_not_keep() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = bellwether(["run", "--embedded", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(dir.path());
    let mut running = Bellwether::spawn(command);
    let url = running.url();
    let tell = ["holidays", "--region", "AU,AU-NSW", "--year", "2030", "--json"];
    let (told, gone) = done(&through(&url, &tell));
    assert!(told > 20 && gone.is_empty(), "{told}");
    assert_eq!(done(&through(&url, &tell)), (0, Vec::new()), "said again, nothing changes");
    let of = |region: &str| ids(&through(&url, &["ls", "--region", region, "--json"]));
    // 26 January 2030 is a Saturday, and New South Wales keeps the Monday after it instead.
    assert!(of("AU").contains(&"holiday:AU:2030-01-26".to_owned()), "{:?}", of("AU"));
    let part = of("AU-NSW");
    assert!(part.contains(&"working_day:AU-NSW:2030-01-26".to_owned()), "{part:?}");
    assert!(!part.contains(&"holiday:AU-NSW:2030-01-26".to_owned()), "{part:?}");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}

#[test]
fn what_is_wrong_is_said_before_anything_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let cases: [(&[&str], &str); 7] = [
        (&["add", "working-day", "--all", "--from", "2027-05-02"], "nothing is wider than --all"),
        (&["holidays", "--region", "de-by", "--year", "2027"], "did you mean DE-BY"),
        (&["holidays", "--region", "DE,Germany", "--year", "2027"], "did you mean DE (Germany)"),
        (&["holidays", "--region", "DE", "--year", "2099"], "2021 to 2032"),
        (&["add", "holiday", "--all", "--from", "2027-13-01"], "2027-13-01"),
        (&["add", "holiday", "--all", "--from", "2027-05-02", "--to", "2027-05-01"], "0 days"),
        (&["add", "holiday", "--from", "2027-05-02"], "--all"),
    ];
    for (words, part) in cases {
        let output = into(dir.path(), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(part), "{words:?}: {}", text(&output.stderr));
    }
}
