//! A worker that dies by SIGKILL at named places of a commit, of a hand-over and of a restore, again and again: what is published and
//! what is known in the end are those of an undisturbed run. The same for one worker, three, and one that keeps dying.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use bellwether_tests::runs::{BRITTLE, Reference, SMALL, fed, undisturbed};
use bellwether_tests::{App, Bellwether, LIMIT, stories};

const SIGKILL: i32 = 9;

/// Where a worker dies, and at which passage; then the next one takes over. In the order of a commit, later passages mixed in.
const COMMIT: [(&str, u32); 12] = [
    ("before-begin", 2),
    ("amid-appends", 40),
    ("appended", 1),
    ("before-offsets", 2),
    ("before-end", 1),
    ("after-end", 1),
    ("before-store", 2),
    ("store-written", 1),
    ("before-read-model", 3),
    ("before-end", 2),
    ("after-end", 2),
    ("store-written", 2),
];

/// A process that is to die at a place.
fn doomed(app: &App, data_dir: Option<&Path>, place: &str, passage: u32) -> Bellwether {
    let mut command = app.command();
    if let Some(data_dir) = data_dir {
        command.arg("--data-dir").arg(data_dir);
    }
    command.env("BELLWETHER_KILL_AT", format!("{place}:{passage}"));
    Bellwether::spawn(command)
}

/// It died there, by the signal, and of nothing else.
fn assert_killed(running: &mut Bellwether, place: &str, passage: u32) {
    let ended = running.wait(LIMIT);
    let said = running.stderr();
    assert_eq!(ended.signal(), Some(SIGKILL), "{place}:{passage}: {ended}: {said}");
    assert!(said.contains(&format!("killed at {place}, passage {passage}")), "{said}");
}

/// Runs a process until it dies at a place.
fn die_at(app: &App, place: &str, passage: u32) {
    assert_killed(&mut doomed(app, None, place, passage), place, passage);
}

/// Runs to the end and stops cleanly.
fn finish(app: &App) {
    let mut running = app.start();
    app.wait_until_done(&mut running);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}

/// Outputs and state are those of the undisturbed run.
fn assert_undisturbed(app: &App) {
    let reference = Reference::stories();
    reference.assert_outputs(app);
    reference.assert_state(app, &["data"]);
}

/// Whether a commit was cut off before it reached the log, in it or behind it: every record is there once.
#[test]
fn death_at_any_point_of_a_commit_changes_nothing() {
    let app = fed("kill", 2);
    for (place, passage) in COMMIT {
        die_at(&app, place, passage);
    }
    finish(&app);
    assert_undisturbed(&app);
}

/// A worker that is stopped dies while it gives its partitions up: as it begins, at the second partition, and before what it has in
/// memory is on disk.
#[test]
fn death_while_partitions_are_given_up_changes_nothing() {
    let app = fed("revoke", 2);
    for (place, passage) in [("revoke", 1), ("revoke", 2), ("before-flush", 1), ("before-flush", 2)]
    {
        let mut running = doomed(&app, None, place, passage);
        running.wait_until_ready();
        running.ask_to_stop();
        assert_killed(&mut running, place, passage);
    }
    finish(&app);
    assert_undisturbed(&app);
}

/// A restore that is cut off goes on: at a record, and right after a part of it was written.
#[test]
fn death_in_the_middle_of_a_restore_changes_nothing() {
    let app = fed("restore", 2);
    // Enough for a changelog that is worth restoring; nothing of it is flushed.
    die_at(&app, "before-store", 12);
    for (place, passage) in
        [("amid-restore", 1), ("amid-restore", 60), ("restore-written", 1), ("restore-written", 2)]
    {
        // From nothing, and from what the restore before it left.
        if passage == 1 {
            std::fs::remove_dir_all(app.data_dir("data").join("state")).expect("there is state");
        }
        die_at(&app, place, passage);
    }
    finish(&app);
    assert_undisturbed(&app);
}

/// The same input through one worker, through three, and through three of which two keep dying.
#[test]
fn one_worker_three_workers_and_dying_workers_agree() {
    let reference = Reference::of(&undisturbed("alone", 3));

    let app = App::prepare_with("three", 3, BRITTLE, SMALL);
    let mut workers = ["one", "two", "three"].map(|name| app.start_as(name));
    workers.iter_mut().for_each(Bellwether::wait_until_ready);
    app.produce(&stories::events());
    app.wait_until_done(&mut workers[0]);
    for worker in &mut workers {
        let committed = worker.metric("bellwether_events_admitted_total");
        assert!(committed > 0.0, "every worker has its share");
        assert_eq!(worker.terminate(LIMIT).code(), Some(0));
    }
    reference.assert_outputs(&app);
    reference.assert_state(&app, &["one", "two", "three"]);

    let app = App::prepare_with("dying", 3, BRITTLE, SMALL);
    let mut survivor = app.start_as("survivor");
    let events = stories::events();
    let slices: Vec<_> = events.chunks(events.len().div_ceil(DEATHS.len())).collect();
    for (slice, (name, place, passage)) in slices.into_iter().zip(DEATHS) {
        let mut mortal = doomed(&app, Some(&app.data_dir(name)), place, passage);
        mortal.wait_until_ready();
        app.produce_some(slice);
        assert_killed(&mut mortal, place, passage);
    }
    app.finish_input();
    app.wait_until_done(&mut survivor);
    assert_eq!(survivor.terminate(LIMIT).code(), Some(0));
    reference.assert_outputs(&app);
    reference.assert_state(&app, &["survivor", "mortal", "fated"]);
}

/// Who dies beside a survivor, where and when.
const DEATHS: [(&str, &str, u32); 3] =
    [("mortal", "after-end", 1), ("mortal", "before-offsets", 2), ("fated", "before-store", 1)];
