//! Workers that write the older and the newer format of state, in turn over the same partitions, as in a rolling upgrade; and what a
//! worker does with a format, or a kind of row, that is newer than itself.

use std::collections::BTreeSet;

use bellwether_core::event::Event;
use bellwether_core::id::EventId;
use bellwether_core::time::DAY_MS;
use bellwether_tests::runs::{
    BRITTLE, Reference, SMALL, state_hashes, undisturbed, wait_for_partitions, wait_for_share,
};
use bellwether_tests::{App, Bellwether, LIMIT, Outgoing, consume_all, produce, stories};
use serde_json::Value;

/// A worker that writes a format; none: the newest.
fn start(app: &App, instance: &str, format: Option<u8>) -> Bellwether {
    let mut command = app.command();
    command.arg("--data-dir").arg(app.data_dir(instance));
    if let Some(format) = format {
        command.env("BELLWETHER_STATE__FORMAT", format.to_string());
    }
    Bellwether::spawn(command)
}

/// What values begin with of those rows of accounts in the state changelog that have several formats: of hot and history rows 1, 2 or 4, of
/// activity rows 1 or 2.
fn formats(app: &App) -> BTreeSet<u8> {
    let records = consume_all(app.bootstrap(), &app.topic("state_changelog"));
    let has_several = |key: &[u8]| {
        let kind = key.iter().position(|&byte| byte == 0).and_then(|end| key.get(end + 1));
        key.starts_with(b"A") && matches!(kind, Some(1 | 2 | 4))
    };
    records
        .iter()
        .filter(|record| record.key.as_deref().is_some_and(has_several))
        .filter_map(|record| record.payload.as_ref()?.first().copied())
        .collect()
}

/// The older version, the newer one that still writes as the older, the newer one; and back, for whoever has to. Each goes on with the
/// local state of the one before it, or reads it back from changelogs in both formats.
#[test]
fn formats_in_turn_over_the_same_partitions_change_nothing() {
    let reference = Reference::stories();
    let app = App::prepare_with("formats", 2, BRITTLE, SMALL);
    // By the way in which each ends: the local state is whole, cut off, or that of another worker.
    let turns = [
        ("data", Some(1), "stopped"),
        ("data", None, "killed"),
        ("data", Some(1), "killed"),
        ("other", Some(1), "stopped"),
        ("third", Some(3), "killed"),
        ("other", None, "stopped"),
    ];
    let events = stories::events();
    // Each turn finds events of its own, and is cut off while it works on them.
    let (parts, rest) = events.split_at(events.len() * 9 / 10);
    for (part, (instance, format, end)) in parts.chunks(parts.len().div_ceil(6)).zip(turns) {
        let before = consume_all(app.bootstrap(), &app.topic("score_changed")).len();
        app.produce_some(part);
        let mut running = start(&app, instance, format);
        wait_for_partitions(&app, &mut running);
        running.wait_until("some progress", LIMIT, |_| {
            let now = consume_all(app.bootstrap(), &app.topic("score_changed")).len();
            (now > before).then_some(())
        });
        match end {
            "killed" => running.kill(),
            _ => assert_eq!(running.terminate(LIMIT).code(), Some(0), "{instance}"),
        }
    }
    app.produce(rest);
    assert_eq!(formats(&app), BTreeSet::from([1, 2, 4]), "both were written");
    let mut running = start(&app, "data", Some(1));
    wait_for_partitions(&app, &mut running);
    app.wait_until_done(&mut running);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    reference.assert_outputs(&app);
    reference.assert_state(&app, &["data"]);
}

/// Two workers at a time, restarted one by one: while one writes the newer format already, the other takes its partitions over and
/// writes the older one.
#[test]
fn a_rolling_restart_of_two_workers_changes_nothing() {
    let reference = Reference::stories();
    let total = reference.score_changes();
    let app = App::prepare_with("rolling", 2, BRITTLE, SMALL);
    let events = stories::events();
    let (before, after) = events.split_at(events.len() / 2);
    app.produce_some(before);
    let mut one = start(&app, "data", Some(1));
    let mut two = start(&app, "two", Some(1));
    wait_for_share(&app, &mut one, total, 1);
    assert_eq!(two.terminate(LIMIT).code(), Some(0));
    two = start(&app, "two", None);
    wait_for_share(&app, &mut two, total, 2);
    // The first one stays away for longer than its session, so that the other works on its partition.
    one.kill();
    app.produce(after);
    wait_for_share(&app, &mut two, total, 8);
    one = start(&app, "data", Some(1));
    one.wait_until_ready();
    assert_eq!(two.terminate(LIMIT).code(), Some(0));
    app.wait_until_done(&mut one);
    assert_eq!(one.terminate(LIMIT).code(), Some(0));
    assert_eq!(formats(&app), BTreeSet::from([1, 2, 4]), "both were written");
    reference.assert_outputs(&app);
    reference.assert_state(&app, &["data", "two"]);
}

/// What a newer version has written is refused with the remedy: not misread, and not taken for damage, which would cost the local
/// state and come to the same.
#[test]
fn a_newer_format_is_refused_and_nothing_is_wiped() {
    let app = undisturbed("newer", 2);
    assert_eq!(formats(&app), BTreeSet::from([2, 4]), "unset, it is the newest");
    let hashes = state_hashes(&app, &app.data_dir("data"));
    let topic = app.topic("state_changelog");
    let records = consume_all(app.bootstrap(), &topic);
    let row = records.iter().find(|record| {
        record.partition == 0 && record.key.as_deref().is_some_and(|key| key.ends_with(b"\x00\x01"))
    });
    let row = row.expect("a hot row");
    let newer = Outgoing {
        partition: Some(0),
        key: row.key.clone(),
        payload: Some(vec![5, 1, 2, 3]),
        ..Outgoing::default()
    };
    produce(app.bootstrap(), &topic, &[newer]);
    for instance in ["data", "fresh"] {
        let mut running = start(&app, instance, None);
        assert_eq!(running.wait(LIMIT).code(), Some(1), "{instance}");
        let said = running.stderr();
        for words in ["a hot row has format 5", "upgrade bellwether", "state.format"] {
            assert!(said.contains(words), "{instance}: {said}");
        }
        assert!(!said.contains("rebuilding"), "{instance}: {said}");
    }
    assert_eq!(state_hashes(&app, &app.data_dir("data")), hashes, "the local state is as it was");
}

/// A kind of row that is not known is of a newer version, too.
#[test]
fn a_newer_kind_of_row_is_refused_and_nothing_is_wiped() {
    let app = undisturbed("newer-kind", 1);
    let hashes = state_hashes(&app, &app.data_dir("data"));
    let topic = app.topic("state_changelog");
    let newer = Outgoing {
        partition: Some(0),
        key: Some(b"D\x70smb\x00".to_vec()),
        payload: Some(vec![1, 2, 3]),
        ..Outgoing::default()
    };
    produce(app.bootstrap(), &topic, &[newer]);
    for instance in ["data", "fresh"] {
        let mut running = start(&app, instance, None);
        assert_eq!(running.wait(LIMIT).code(), Some(1), "{instance}");
        let said = running.stderr();
        for words in ["a row of a cohort, by its kind, has format 112", "upgrade bellwether"] {
            assert!(said.contains(words), "{instance}: {said}");
        }
        assert!(!said.contains("rebuilding") && !said.contains("damaged"), "{instance}: {said}");
    }
    assert_eq!(state_hashes(&app, &app.data_dir("data")), hashes, "the local state is as it was");
}

/// The rows of the state changelog that came with format 3: of what plans use, and profiles with the end of a fiscal year. And how many
/// profiles there are at all.
fn newer_rows(app: &App) -> (usize, usize, usize) {
    let records = consume_all(app.bootstrap(), &app.topic("state_changelog"));
    let of = |wanted: &dyn Fn(&[u8], &[u8]) -> bool| {
        let found = records.iter().filter(|record| {
            let row = record.key.as_deref().zip(record.payload.as_deref());
            row.is_some_and(|(key, value)| wanted(key, value))
        });
        found.count()
    };
    let is_profile = |key: &[u8]| key.starts_with(b"A") && key.ends_with(b"\x00\x03");
    (
        of(&|key, _| key.starts_with(b"D\x09")),
        of(&|key, value| is_profile(key) && value.first() == Some(&2)),
        of(&|key, _| is_profile(key)),
    )
}

/// The profiles of the stories, whose plan a condition compares, with the end of a fiscal year.
fn tell_profiles(app: &App) -> usize {
    let profiles = stories::profiles();
    let records: Vec<Outgoing> = profiles
        .iter()
        .map(|profile| {
            let mut told: Value =
                serde_json::from_slice(&stories::profile_json(profile)).expect("JSON");
            told["fiscal_year_end"] = "03-31".into();
            app.record(&profile.account, told.to_string().into_bytes())
        })
        .collect();
    produce(app.bootstrap(), &app.topic("profiles"), &records);
    profiles.len()
}

/// While workers write as the older ones do, no row goes out that those could not read, and what rests on such rows says that it waits.
/// Once all are upgraded, they are written.
#[test]
fn rows_that_an_older_version_cannot_read_wait_for_the_end_of_the_upgrade() {
    let app = App::prepare_with("older-rows", 2, BRITTLE, SMALL);
    let mut running = start(&app, "data", Some(2));
    let accounts = tell_profiles(&app);
    running.wait_until("the profiles", LIMIT, |_| (newer_rows(&app).2 >= accounts).then_some(()));
    let events = stories::events();
    app.produce(&events);
    app.wait_until_done(&mut running);
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    let (plans, fiscal, _) = newer_rows(&app);
    assert_eq!((plans, fiscal), (0, 0));
    let said = running.stderr();
    for words in ["state.format is 2", "higher_tier_usage", "fiscal_year_end of profiles"] {
        assert!(said.contains(words), "{words}: {said}");
    }

    let mut running = start(&app, "data", None);
    tell_profiles(&app);
    running.wait_until("the ends of fiscal years", LIMIT, |_| {
        (newer_rows(&app).1 >= accounts).then_some(())
    });
    // Days that are closed from now on.
    let later: Vec<Event> = stories::profiles()
        .iter()
        .filter_map(|profile| {
            let last = events.iter().rfind(|event| event.account == profile.account)?;
            let id = EventId::new(&format!("later-{}", profile.account)).expect("an id");
            Some(Event { id, occurred_at: last.occurred_at.plus(3 * DAY_MS), ..last.clone() })
        })
        .collect();
    app.produce_some(&later);
    running.wait_until("rows of plans", LIMIT, |_| (newer_rows(&app).0 > 0).then_some(()));
    assert!(!running.stderr().contains("state.format"), "{}", running.stderr());
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
}
