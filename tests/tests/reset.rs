//! Starting over: a preview changes nothing, a running application is left alone, and the second run publishes what the first did.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bellwether_tests::{
    App, Bellwether, Content, LIMIT, assert_same, bellwether, consume_all, embedded_records,
    stories, text, wait_until,
};
use serde_json::{Value, json};

const BRITTLE: &str = "session_timeout_seconds = 6\ntransaction_timeout_seconds = 6\n";
const OUTPUTS: [&str; 3] = ["score_changed", "score_current", "alerts"];
const CHANGELOGS: [&str; 2] = ["state_changelog", "seen_changelog"];

fn say(app: &App, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = app.command_of(arguments).output().expect("the binary runs");
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), answer, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A list, and itself once more, partition by partition.
fn twice(records: &[Content]) -> Vec<Content> {
    let mut partitions: BTreeMap<i32, Vec<Content>> = BTreeMap::new();
    for record in records {
        partitions.entry(record.0).or_default().push(record.clone());
    }
    partitions.into_values().flat_map(|records| [records.clone(), records].concat()).collect()
}

#[test]
fn after_a_reset_everything_is_published_again_and_nothing_else() {
    let app = App::prepare_with("reset", 2, BRITTLE, "");
    app.produce(&stories::events());
    let mut running = app.start();
    app.wait_until_done(&mut running);
    let first = OUTPUTS.map(|kind| app.content(kind));
    let changelogs = CHANGELOGS.map(|kind| consume_all(app.bootstrap(), &app.topic(kind)));
    assert!(changelogs.iter().all(|records| !records.is_empty()));

    // While it runs it is left alone, by its directory and by its group.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let dir = elsewhere.path().display().to_string();
    let (code, _, error) = say(&app, &["reset", "--yes"]);
    assert!(code == Some(1) && error.contains("in use"), "{error}");
    let (code, _, error) = say(&app, &["reset", "--yes", "--data-dir", &dir]);
    assert!(code == Some(1) && error.contains("1 members: stop all workers"), "{error}");
    let (code, preview, _) = say(&app, &["reset"]);
    assert_eq!((code, &preview["members"]), (Some(0), &json!(1)), "{preview}");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));

    // A preview says how far it was, and changes nothing.
    let preview = wait_until("an empty group", LIMIT, || {
        let (_, preview, _) = say(&app, &["reset", "--dry-run"]);
        (preview["members"] == json!(0)).then_some(preview)
    });
    assert_eq!(preview["done"], false);
    let inputs = preview["inputs"].as_array().expect("a list");
    let events = inputs.iter().filter(|at| at["topic"] == app.topic("events").as_str());
    let events: Vec<&Value> = events.collect();
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|at| at["committed"] == at["end"] && at["oldest"] == 0), "{preview}");
    assert_eq!(preview["directories"].as_array().map(Vec::len), Some(2), "{preview}");
    assert_eq!(say(&app, &["reset", "--dry-run", "--yes"]).0, Some(2));
    for (kind, before) in CHANGELOGS.iter().zip(&changelogs) {
        assert_same(kind, &consume_all(app.bootstrap(), &app.topic(kind)), before);
    }
    assert!(app.state_dir(0).exists() && app.state_dir(1).exists());
    assert_eq!(app.run(&["reset", "--dry-run"]), preview, "nor did the preview itself");

    let (code, done, error) = say(&app, &["reset", "--yes"]);
    assert_eq!((code, &done["done"]), (Some(0), &json!(true)), "{error}");
    assert!(!app.state_dir(0).exists() && !app.state_dir(1).exists());
    for kind in CHANGELOGS {
        assert!(consume_all(app.bootstrap(), &app.topic(kind)).is_empty(), "{kind} is empty");
    }
    let plan = app.run(&["topics", "plan"]);
    assert!(plan.as_array().expect("a list").iter().all(|topic| topic["action"] == "ok"), "{plan}");
    for (kind, before) in OUTPUTS.iter().zip(&first) {
        assert_same(kind, &app.content(kind), before);
    }

    let mut running = app.start();
    running.wait_until("the second run", LIMIT, |_| {
        (app.content("score_current").len() >= 2 * first[1].len()).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    for (kind, before) in OUTPUTS.iter().zip(&first) {
        assert_same(kind, &app.content(kind), &twice(before));
    }
    assert!(consume_all(app.bootstrap(), &app.topic("dead_letters")).is_empty());
}

fn command(data_dir: &Path) -> Command {
    let mut command = bellwether(["run", "--embedded", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(data_dir).env("BELLWETHER_ENGINE__EMBEDDED_PARTITIONS", "1");
    command
}

fn published(data_dir: &Path, topic: &str) -> Vec<Content> {
    let records = embedded_records(data_dir, topic).into_iter();
    records.map(|of| (of.partition, text(of.key.as_deref()), text(of.payload.as_deref()))).collect()
}

#[test]
fn the_embedded_log_starts_over_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Bellwether::spawn(command(dir.path()));
    let url = running.url();
    let events = stories::events();
    for chunk in events.chunks(500) {
        let body = chunk.iter().map(stories::event_json).collect::<Vec<_>>().join(&b'\n');
        let sent = ureq::post(format!("{url}/v1/events")).send(&body[..]);
        assert_eq!(sent.expect("the server answers").status(), 202);
    }
    let total = events.len() as f64;
    let worked_off = |running: &mut Bellwether| {
        let url = running.url() + "/metrics";
        running.wait_until("the end of the input", LIMIT, |_| {
            let mut answer = ureq::get(&url).call().expect("metrics");
            let metrics = answer.body_mut().read_to_string().expect("text");
            let read = bellwether_tests::metric_sum(&metrics, "bellwether_events_in_total");
            (read >= total).then_some(())
        });
    };
    worked_off(&mut running);
    let reset = |more: &[&str]| {
        let all = ["reset", "--embedded", "--json", "--data-dir"];
        let mut command = bellwether(all);
        command.arg(dir.path()).args(more).env("BELLWETHER_ENGINE__EMBEDDED_PARTITIONS", "1");
        command.output().expect("the binary runs")
    };
    let refused = reset(&["--yes"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use"), "{refused:?}");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let topics = ["health.score-changed.v1", "health.alerts.v1", "bellwether.state.changelog"];
    let first = topics.map(|topic| published(dir.path(), topic));
    assert!(first.iter().all(|records| records.len() > 5));

    let preview: Value = serde_json::from_slice(&reset(&[]).stdout).expect("JSON");
    assert_eq!(preview["done"], false, "{preview}");
    assert!(dir.path().join("state").join("partition-0").exists());
    for (topic, before) in topics.iter().zip(&first) {
        assert_same(topic, &published(dir.path(), topic), before);
    }
    assert_eq!(reset(&["--yes"]).status.code(), Some(0));
    assert!(!dir.path().join("state").join("partition-0").exists());
    assert!(published(dir.path(), topics[2]).is_empty(), "the changelog is empty");
    let mut running = Bellwether::spawn(command(dir.path()));
    worked_off(&mut running);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    for (topic, before) in topics.iter().zip(&first).take(2) {
        assert_same(topic, &published(dir.path(), topic), &twice(before));
    }
    // The state is the same again, row by row: a compacted log keeps the last of each key.
    let sorted = |mut records: Vec<Content>| {
        records.sort();
        records
    };
    assert_same(topics[2], &sorted(published(dir.path(), topics[2])), &sorted(first[2].clone()));
}
