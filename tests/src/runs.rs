//! Whole runs over the stories, and their comparison: what came out, record by record, and what is known in the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;

use crate::{App, Bellwether, Content, LIMIT, Site, assert_same, consume_all, stories};

/// Short time-outs, so that a process that is gone is noticed soon.
pub const BRITTLE: &str = "session_timeout_seconds = 6\ntransaction_timeout_seconds = 6\n";
/// Small batches, so that much is left undone at any moment.
pub const SMALL: &str = "[engine]\nbatch_records_max = 150\n";
/// The topics that are compared.
pub const OUTPUTS: [&str; 5] = ["score_changed", "score_current", "alerts", "shadow", "examples"];

/// An application with all stories as input.
#[must_use]
pub fn fed(name: &str, partitions: i32) -> App {
    let app = App::prepare_with(name, partitions, BRITTLE, SMALL);
    app.produce(&stories::events());
    app
}

/// The same anywhere, in two partitions.
#[must_use]
pub fn fed_on(site: &Site, name: &str) -> App {
    fed_with(site, name, SMALL)
}

/// The same with other settings of the engine.
#[must_use]
pub fn fed_with(site: &Site, name: &str, config: &str) -> App {
    let app = App::prepare_on(site, name, 2, BRITTLE, config);
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

/// The same anywhere, in two partitions.
///
/// # Panics
/// If it does not come to its end.
#[must_use]
pub fn undisturbed_on(site: &Site, name: &str) -> App {
    let app = fed_on(site, name);
    let mut running = app.start();
    app.wait_until_done(&mut running);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    app
}

/// What came out of a run.
#[derive(Debug)]
pub struct Outputs(Vec<(&'static str, Vec<Content>)>);

impl Outputs {
    /// All that can be seen of an application's outputs now.
    #[must_use]
    pub fn of(app: &App) -> Outputs {
        Outputs(OUTPUTS.map(|kind| (kind, app.content(kind))).into())
    }

    /// How many score changes there are.
    #[must_use]
    pub fn score_changes(&self) -> usize {
        self.0.first().map_or(0, |(_, content)| content.len())
    }

    /// Compares the outputs of an application with these, record by record, leaving out those of `extra` events
    /// ([`App::produce_more`]).
    ///
    /// # Panics
    /// If they differ, or if there are dead letters.
    pub fn assert_same_as(&self, app: &App, extra: &[&str]) {
        for (kind, expected) in &self.0 {
            let mut found = app.content(kind);
            found.retain(|(_, key, _)| {
                !key.as_ref().is_some_and(|key| extra.iter().any(|name| key.starts_with(name)))
            });
            assert_same(kind, &found, expected);
        }
        assert!(consume_all(app.bootstrap(), &app.topic("dead_letters")).is_empty());
    }
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

/// Waits until a process has had all partitions. Others that have ended may have been known by another name: until their session ends,
/// their partitions are theirs.
///
/// # Panics
/// If it does not get them.
pub fn wait_for_partitions(app: &App, running: &mut Bellwether) {
    running.wait_until("all partitions", LIMIT, |process| {
        let said = process.stderr();
        let restored = |number| said.contains(&format!("partition restored partition={number} "));
        (0..app.partitions()).all(restored).then_some(())
    });
}

/// Both have published the same records in the same order, and no dead letters.
///
/// # Panics
/// If they have not.
pub fn assert_equal(app: &App, reference: &App) {
    Outputs::of(reference).assert_same_as(app, &[]);
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
fn verified(app: &App, data_dir: &Path) -> Value {
    let data_dir = data_dir.display().to_string();
    let verified = app.run(&["state", "verify", "--data-dir", &data_dir]);
    assert_eq!(verified["damaged"], serde_json::json!([]), "{verified}");
    verified
}

/// What an undisturbed run came to.
#[derive(Debug)]
pub struct Reference {
    outputs: Vec<Vec<Content>>,
    hashes: BTreeMap<i64, String>,
}

impl Reference {
    /// What this application, which has ended, came to.
    ///
    /// # Panics
    /// If its state is damaged.
    #[must_use]
    pub fn of(app: &App) -> Reference {
        let outputs = OUTPUTS.map(|kind| app.content(kind)).to_vec();
        let hashes = state_hashes(app, &app.data_dir("data"));
        assert!(!hashes.is_empty());
        Reference { outputs, hashes }
    }

    /// The undisturbed run over the stories in two partitions; tests of one binary share it.
    pub fn stories() -> &'static Reference {
        static SHARED: OnceLock<Reference> = OnceLock::new();
        SHARED.get_or_init(|| Reference::of(&undisturbed("whole", 2)))
    }

    /// How many score changes there are.
    #[must_use]
    pub fn score_changes(&self) -> usize {
        self.outputs[0].len()
    }

    /// The application has published the same records in the same order, and no dead letters.
    ///
    /// # Panics
    /// If it has not.
    pub fn assert_outputs(&self, app: &App) {
        for (kind, expected) in OUTPUTS.iter().zip(&self.outputs) {
            assert_same(kind, &app.content(kind), expected);
        }
        assert!(consume_all(app.bootstrap(), &app.topic("dead_letters")).is_empty());
    }

    /// The same is known in the end: in the local states of these processes, which have ended, and in a state that is read back from
    /// the changelogs alone.
    ///
    /// # Panics
    /// If it is not.
    pub fn assert_state(&self, app: &App, instances: &[&str]) {
        assert_eq!(latest_hashes(app, instances), self.hashes, "the local state");
        assert_eq!(restored_hashes(app), self.hashes, "the state as its changelogs have it");
    }
}

/// The hashes of a state that a process reads back from the changelogs into a directory of its own.
fn restored_hashes(app: &App) -> BTreeMap<i64, String> {
    let dir = app.data_dir("restored");
    // Under the name of the application's own process it need not wait for the session of that one to end.
    if let Ok(name) = std::fs::read(app.data_dir("data").join("instance")) {
        std::fs::create_dir_all(&dir).expect("the directory can be made");
        std::fs::write(dir.join("instance"), name).expect("a new directory can be written to");
    }
    let mut fresh = app.start_as("restored");
    wait_for_partitions(app, &mut fresh);
    assert_eq!(fresh.terminate(LIMIT).code(), Some(0));
    state_hashes(app, &dir)
}

/// Of directories that may each have held a partition, the hash of the state that is the furthest.
fn latest_hashes(app: &App, instances: &[&str]) -> BTreeMap<i64, String> {
    let mut latest = BTreeMap::new();
    for instance in instances {
        for partition in
            verified(app, &app.data_dir(instance))["partitions"].as_array().expect("a list")
        {
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
