//! Whole runs over the stories, and their comparison: what came out, record by record, and what is known in the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{App, Bellwether, LIMIT, assert_same, consume_all, stories};

/// Short time-outs, so that a process that is gone is noticed soon.
pub const BRITTLE: &str = "session_timeout_seconds = 6\ntransaction_timeout_seconds = 6\n";
/// Small batches, so that much is left undone at any moment.
pub const SMALL: &str = "[engine]\nbatch_records_max = 150\n";
/// The topics that are compared.
pub const OUTPUTS: [&str; 3] = ["score_changed", "score_current", "alerts"];

/// An application with all stories as input.
#[must_use]
pub fn fed(name: &str, partitions: i32) -> App {
    let app = App::prepare_with(name, partitions, BRITTLE, SMALL);
    app.produce(&stories::events());
    app
}

/// An undisturbed run of one process.
///
/// # Panics
/// If it does not come to its end.
#[must_use]
pub fn undisturbed(name: &str, partitions: i32) -> App {
    let app = fed(name, partitions);
    let mut running = app.start();
    app.wait_until_done(&mut running);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    app
}

/// Waits until a number of tenths of the score changes of the whole is out.
///
/// # Panics
/// If it does not come to that.
pub fn wait_for_share(app: &App, running: &mut Bellwether, total: usize, tenths: usize) {
    let topic = app.topic("score_changed");
    running.wait_until("some progress", LIMIT, |_| {
        (consume_all(app.bootstrap(), &topic).len() >= total * tenths / 10).then_some(())
    });
}

/// Both have published the same records in the same order, and no dead letters.
///
/// # Panics
/// If they have not.
pub fn assert_equal(app: &App, reference: &App) {
    for kind in OUTPUTS {
        assert_same(kind, &app.content(kind), &reference.content(kind));
    }
    assert!(consume_all(app.bootstrap(), &app.topic("dead_letters")).is_empty());
}

/// The hash of what each partition's state in a data directory knows, by partition; all of it has to be whole.
///
/// # Panics
/// If something is damaged.
#[must_use]
pub fn state_hashes(app: &App, data_dir: &Path) -> BTreeMap<i64, String> {
    let verified = verified(app, data_dir);
    let of = |partition: &Value| {
        let number = partition["partition"].as_i64().expect("a number");
        (number, partition["hash"].as_str().expect("a hash").to_owned())
    };
    verified["partitions"].as_array().expect("a list").iter().map(of).collect()
}

/// `state verify` of a data directory.
///
/// # Panics
/// If something is damaged.
#[must_use]
pub fn verified(app: &App, data_dir: &Path) -> Value {
    let data_dir = data_dir.display().to_string();
    let verified = app.run(&["state", "verify", "--data-dir", &data_dir]);
    assert_eq!(verified["damaged"], serde_json::json!([]), "{verified}");
    verified
}

/// What is known in the end is the same: in the local state of `app`, which has ended, and in a state that is read back from its
/// changelogs alone.
///
/// # Panics
/// If it is not.
pub fn assert_equal_state(app: &App, reference: &App) {
    let expected = state_hashes(reference, &reference.data_dir("data"));
    assert!(!expected.is_empty());
    assert_eq!(state_hashes(app, &app.data_dir("data")), expected, "the local state");
    assert_eq!(restored_hashes(app), expected, "the state as its changelogs have it");
}

/// The hashes of a state that a process reads back from the changelogs into a directory of its own.
///
/// # Panics
/// If it does not come to that.
#[must_use]
pub fn restored_hashes(app: &App) -> BTreeMap<i64, String> {
    let dir = app.data_dir("restored");
    // Under the name of the application's own process it need not wait for the session of that one to end.
    if let Ok(name) = std::fs::read(app.data_dir("data").join("instance")) {
        std::fs::create_dir_all(&dir).expect("the directory can be made");
        std::fs::write(dir.join("instance"), name).expect("a new directory can be written to");
    }
    let mut fresh = app.start_as("restored");
    fresh.wait_until_ready();
    assert_eq!(fresh.terminate(LIMIT).code(), Some(0));
    state_hashes(app, &dir)
}

/// Of directories that may each have held a partition, the hash of the state that is the furthest.
///
/// # Panics
/// If something is damaged.
#[must_use]
pub fn latest_hashes(app: &App, dirs: &[PathBuf]) -> BTreeMap<i64, String> {
    let mut latest = BTreeMap::new();
    for dir in dirs {
        for partition in verified(app, dir)["partitions"].as_array().expect("a list") {
            let number = partition["partition"].as_i64().expect("a number");
            let found = (
                partition["state_changelog_position"].as_i64(),
                partition["hash"].as_str().expect("a hash").to_owned(),
            );
            let before = latest.entry(number).or_insert_with(|| found.clone());
            *before = found.max(before.clone());
        }
    }
    latest.into_iter().map(|(number, (_, hash))| (number, hash)).collect()
}
