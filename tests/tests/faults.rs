//! Faults, injected into real processes on a real Kafka; what comes out is compared with an undisturbed run, record by record, by
//! consumers that share no code with the engine.

use std::path::Path;
use std::process::Command;

use bellwether_tests::runs::{
    BRITTLE, SMALL, assert_equal, fed, undisturbed, wait_for_partitions, wait_for_share,
};
use bellwether_tests::{
    App, Bellwether, LIMIT, assert_same, consume_all, delete_records_before, produce, stories,
};

/// Frozen for longer than the session time-out, replaced, and thawed: the old owner commits nothing.
#[test]
fn a_zombie_commits_nothing() {
    let reference = undisturbed("zombie-whole", 2);
    let total = reference.content("score_changed").len();
    let app = App::prepare_with("zombie", 2, BRITTLE, SMALL);
    let events = stories::events();
    // The last third comes when the old owner is frozen: however fast it is, its successor has to take its place for them.
    let (first, last) = events.split_at(events.len() * 2 / 3);
    app.produce_some(first);
    let mut old = app.start();
    wait_for_share(&app, &mut old, total, 2);
    old.freeze();
    app.produce(last);
    let restored = old.stderr().matches("partition restored").count();
    let mut new = app.start_as("successor");
    app.wait_until_done(&mut new);
    wait_for_partitions(&app, &mut new);
    let done = app.content("score_current");
    old.thaw();
    // It finds out at its next commit or poll, and joins again; both go on.
    old.wait_until("the old owner to notice", LIMIT, |process| {
        let said = process.stderr();
        let noticed = said.contains("connecting to the log again")
            || said.matches("partition restored").count() > restored;
        noticed.then_some(())
    });
    app.produce_more("after");
    new.wait_until("what comes after", LIMIT, |_| app.has_more("after").then_some(()));
    let now = app.content("score_current");
    let before: Vec<_> = now.iter().filter(|record| done.contains(record)).cloned().collect();
    assert_same("what the successor wrote is still there", &before, &done);
    assert_eq!(old.terminate(LIMIT).code(), Some(0));
    assert_eq!(new.terminate(LIMIT).code(), Some(0));
    for kind in ["score_changed", "alerts"] {
        let found = app.without_more(kind, "after");
        assert_same(kind, &found, &reference.content(kind));
    }
}

#[test]
fn a_storm_of_rebalances_changes_nothing() {
    storm("storm", "classic");
}

#[test]
fn a_storm_of_rebalances_by_the_broker_changes_nothing() {
    storm("storm-848", "consumer");
}

/// Workers come and go while partitions are restored; every record has one owner at a time.
fn storm(name: &str, protocol: &str) {
    let reference = undisturbed(&format!("{name}-whole"), 2);
    let total = reference.content("score_changed").len();
    let settings = format!("{BRITTLE}group_protocol = \"{protocol}\"\n");
    let app = App::prepare_with(name, 2, &settings, SMALL);
    app.produce(&stories::events());
    let mut first = app.start();
    for round in 1..=4 {
        wait_for_share(&app, &mut first, total, round);
        let mut guest = app.start_as(&format!("guest-{round}"));
        // Proof that partitions moved. A hasty one is stopped before it has joined.
        if round % 2 == 0 {
            guest.wait_until("a partition of its own", LIMIT, |guest| {
                guest.stderr().contains("partition restored").then_some(())
            });
        }
        if round % 3 == 0 {
            guest.kill();
        } else {
            guest.terminate(LIMIT);
        }
    }
    app.wait_until_done(&mut first);
    assert_equal(&app, &reference);
}

/// What may happen to a directory of state.
fn damage(kind: &str, dir: &Path) {
    let files = || {
        std::fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("readable").path())
    };
    let tables = || files().filter(|path| path.extension().is_some_and(|ending| ending == "sst"));
    match kind {
        "deleted" => std::fs::remove_dir_all(dir).expect("it can be deleted"),
        "no table of contents" => std::fs::remove_file(dir.join("CURRENT")).expect("it is there"),
        "overwritten" => {
            let mut count = 0;
            for table in tables() {
                let mut bytes = std::fs::read(&table).expect("readable");
                // Everything but the footer, by which a file is known for what it is.
                let end = bytes.len().saturating_sub(100);
                bytes[..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
                std::fs::write(&table, bytes).expect("writable");
                count += 1;
            }
            assert!(count > 0, "there are tables to overwrite");
        }
        "cut short" => {
            for table in tables() {
                let length = std::fs::metadata(&table).expect("there").len();
                let file = std::fs::File::options().write(true).open(&table).expect("writable");
                file.set_len(length / 2).expect("it can be cut");
            }
        }
        "foreign" => {
            std::fs::remove_dir_all(dir).expect("it can be deleted");
            let other = dir.with_file_name("partition-1");
            let copied = Command::new("cp").arg("-r").args([&other, dir]).status();
            assert!(copied.expect("cp can be run").success());
        }
        other => panic!("no such damage: {other}"),
    }
}

/// Damaged state is noticed, and that partition alone is read back from its changelog.
#[test]
fn damaged_state_is_rebuilt() {
    let reference = undisturbed("damage-whole", 2);
    let total = reference.content("score_changed").len();
    let app = fed("damage", 2);
    for (share, kind) in
        (1..).zip(["deleted", "no table of contents", "overwritten", "cut short", "foreign"])
    {
        let mut running = app.start();
        wait_for_share(&app, &mut running, total, share);
        running.wait_until_ready();
        // A clean end, so that there is something on disk to damage.
        assert_eq!(running.terminate(LIMIT).code(), Some(0), "{kind}");
        let verified = app.run(&["state", "verify"]);
        assert_eq!(verified["partitions"].as_array().map(Vec::len), Some(2), "{verified}");
        assert_eq!(verified["damaged"], serde_json::json!([]), "{kind}: {verified}");
        damage(kind, &app.state_dir(0));
        if kind != "deleted" {
            let output = app.command_of(&["state", "verify"]).output().expect("the binary runs");
            assert_eq!(output.status.code(), Some(3), "{kind}: {output:?}");
        }
        let mut running = app.start();
        wait_for_share(&app, &mut running, total, share + 1);
        running.wait_until_ready();
        if kind != "deleted" {
            assert!(running.metric("bellwether_state_rebuilds_total") >= 1.0, "{kind} is noticed");
        }
        running.kill();
    }
    app.wait_until_done(&mut app.start());
    assert_equal(&app, &reference);
}

/// A disk that is full at the start stops the worker with a message; one that is full at the end costs nothing but a flush; with room
/// again it goes on where it was. (`machine_faults.rs` has those that fail at work.)
#[test]
fn a_full_disk_stops_cleanly_and_resumes() {
    let reference = undisturbed("full-whole", 2);
    let app = fed("full", 2);
    let disk = SmallDisk::mount();
    let start = || {
        let mut command = app.command();
        command.arg("--data-dir").arg(disk.path());
        Bellwether::spawn(command)
    };
    disk.fill();
    let mut running = start();
    let ended = running.wait(LIMIT);
    assert_eq!(ended.code(), Some(1), "{}", running.stderr());
    assert!(running.stderr().contains("No space left on device"), "{}", running.stderr());
    disk.empty();

    let mut running = start();
    wait_for_share(&app, &mut running, reference.content("score_changed").len(), 3);
    disk.fill();
    assert_eq!(running.terminate(LIMIT).code(), Some(0), "{}", running.stderr());
    let said = running.stderr();
    assert!(said.contains("closing the partition's state failed"), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    disk.empty();

    let mut running = start();
    app.wait_until_done(&mut running);
    drop(running);
    assert_equal(&app, &reference);
}

/// A file system of a few megabytes; needs root, as CI has.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> SmallDisk {
        let dir = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(dir.path())
            .output()
            .expect("mount can be run");
        assert!(
            mounted.status.success(),
            "a small file system cannot be mounted, so this test cannot run (it needs root): {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        SmallDisk(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.path().join("ballast")).expect("there is room");
        let block = vec![0_u8; 1 << 16];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.path().join("ballast")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A panic here would hide the test's own.
        if let Err(error) = Command::new("umount").arg("-l").arg(self.path()).status() {
            eprintln!("a small file system was not unmounted: {error}");
        }
    }
}

/// Records that were deleted before they were read are not passed over in silence.
#[test]
fn a_position_that_retention_has_passed_fails_with_the_remedy() {
    let app = App::prepare_with("retention", 2, BRITTLE, SMALL);
    let events = stories::events();
    // The last third comes after its end: however fast it is, it has not read that.
    let (first, last) = events.split_at(events.len() * 2 / 3);
    app.produce_some(first);
    let mut running = app.start();
    wait_for_share(&app, &mut running, 60, 2);
    running.kill();
    app.produce(last);
    for partition in 0..2 {
        let topic = app.topic("events");
        let last = consume_all(app.bootstrap(), &topic)
            .iter()
            .filter(|record| record.partition == partition)
            .map(|record| record.offset)
            .max()
            .expect("records");
        delete_records_before(app.bootstrap(), &topic, partition, last);
    }
    let mut running = app.start();
    assert_eq!(running.wait(LIMIT).code(), Some(1));
    let said = running.stderr();
    for words in ["is no longer in the topic", "--skip-lost-input", "kafka-consumer-groups.sh"] {
        assert!(said.contains(words), "{said}");
    }
    // Only when it is told to, it goes on, and says what it leaves behind.
    let mut command = app.command();
    command.arg("--skip-lost-input");
    let mut running = Bellwether::spawn(command);
    app.wait_until_done(&mut running);
    assert!(running.stderr().contains("deleted before they were read"), "{}", running.stderr());
}

/// Sent again and out of order within the grace period, events come to the same scores.
#[test]
fn duplicates_and_disorder_come_to_the_same() {
    let reference = undisturbed("order-whole", 2);
    let app = App::prepare_with("order", 2, BRITTLE, SMALL);
    let events = stories::events();
    let mut records = Vec::new();
    for pair in events.chunks(2) {
        // Neighbours change places where they are of different accounts, and every record comes twice.
        let swap = pair.len() == 2 && pair[0].account != pair[1].account;
        let order: Vec<_> = if swap { pair.iter().rev().collect() } else { pair.iter().collect() };
        for event in order {
            let record = app.record(&event.account, stories::event_json(event));
            records.extend([record.clone(), record]);
        }
    }
    produce(app.bootstrap(), &app.topic("events"), &records);
    app.finish_input();
    let mut running = app.start();
    app.wait_until_done(&mut running);
    let duplicates = running.metric("bellwether_events_rejected_total");
    assert!(duplicates >= 1000.0, "they were dropped: {duplicates}");
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    for profile in stories::profiles() {
        let say = |app: &App| {
            let mut account = app.explain(profile.account.as_str())["account"].take();
            // What was published on the way, and when, may differ; what is known in the end must not.
            for field in ["sequence", "id", "at"] {
                account[field].take();
            }
            account
        };
        assert_eq!(say(&app), say(&reference), "{}", profile.account);
    }
}
