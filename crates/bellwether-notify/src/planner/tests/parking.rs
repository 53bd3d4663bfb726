//! What is given up, and what is sent again.

use super::*;

#[test]
fn after_its_attempts_a_delivery_is_parked_and_the_next_of_its_alert_goes_on() {
    let mut planner = planner(&format!("[delivery]\nattempts_max = 3\n{}", urgent("")));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    planner.alert(0, &alert(1, "escalated", "critical"), NOW);
    let mut now = NOW;
    for _ in 0..3 {
        for (partition, delivery) in ready(&planner, now) {
            let failed =
                Outcome::Failed { detail: "answered 500".to_owned(), retry_after_ms: Some(1_000) };
            assert!(planner.settle(partition, &delivery.key, failed, now, &mut |_| 0));
        }
        now += 1_000;
    }
    let parked = planner.take_parked();
    let reasons: Vec<(Parking, &str)> =
        parked.iter().map(|p| (p.reason, p.detail.as_str())).collect();
    assert_eq!(reasons, [(Parking::Attempts, "answered 500"); 2]);
    assert_eq!(pairs(&tell(&mut planner, now)), [("pager", "escalated"), ("slack", "escalated")]);
}

#[test]
fn an_outage_parks_nothing_before_the_hours_of_giving_up_are_over() {
    let mut planner = planner(&urgent(""));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    let mut now = NOW;
    for _ in 0..200 {
        for (partition, delivery) in ready(&planner, now) {
            let failed = Outcome::Failed { detail: "away".to_owned(), retry_after_ms: None };
            assert!(planner.settle(partition, &delivery.key, failed, now, &mut |most| most));
        }
        now += 300_000;
        planner.tick(now, &|_| false);
    }
    assert_eq!(planner.take_parked(), []);
    assert_eq!(tell(&mut planner, now).len(), 2, "told when the sinks are back");
}

#[test]
fn patience_and_trials_use_up_no_attempts() {
    let mut planner = planner(&format!("[delivery]\nattempts_max = 2\n{}", urgent("")));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    let failed = || Outcome::Failed { detail: "away".to_owned(), retry_after_ms: None };
    let mut now = NOW;
    for turn in 0..10 {
        for (partition, delivery) in ready(&planner, now) {
            let outcome = if turn % 2 == 0 {
                Outcome::Throttled { detail: "slower".to_owned(), retry_after_ms: None }
            } else {
                planner.excuse(partition, &delivery.key);
                failed()
            };
            planner.settle(partition, &delivery.key, outcome, now, &mut |_| 0);
        }
        now += 1_000;
    }
    assert_eq!(planner.take_parked(), []);
    for _ in 0..2 {
        for (partition, delivery) in ready(&planner, now) {
            planner.settle(partition, &delivery.key, failed(), now, &mut |_| 0);
        }
    }
    assert_eq!(planner.take_parked().len(), 2);
}

#[test]
fn old_alerts_are_parked_and_not_told() {
    let mut planner = planner(&urgent(""));
    let old = Alert { at: Millis(NOW - 73 * HOUR_MS), ..alert(1, "opened", "critical") };
    planner.alert(0, &old, NOW);
    let unrouted = Alert { severity: "low".to_owned(), ..old };
    planner.alert(0, &unrouted, NOW);
    assert_eq!(ready(&planner, NOW), []);
    let parked = planner.take_parked();
    let found: Vec<(&str, Parking)> =
        parked.iter().map(|of| (of.delivery.sink.as_str(), of.reason)).collect();
    assert_eq!(found, [("pager", Parking::Stale), ("slack", Parking::Stale)]);
    assert_eq!(planner.take_suppressed(), [(Suppressed::NoRoute, 1)].into());
}

#[test]
fn too_much_for_one_sink_is_parked() {
    let mut planner = planner(&format!("[delivery]\npending_max = 3\n{}", urgent("")));
    for number in 0..5 {
        planner.alert(0, &alert(number, "opened", "high"), NOW);
    }
    let parked = planner.take_parked();
    assert_eq!(parked.len(), 4);
    assert!(parked.iter().all(|parked| parked.reason == Parking::Backlog));
}

#[test]
fn what_waits_too_long_is_parked() {
    let mut planner = planner(&urgent(""));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    planner.tick(NOW + 72 * HOUR_MS, &|_| false);
    assert_eq!(planner.take_parked(), []);
    planner.tick(NOW + 72 * HOUR_MS + 1, &|_| false);
    let parked = planner.take_parked();
    assert_eq!(parked.iter().map(|p| p.reason).collect::<Vec<_>>(), [Parking::Expired; 2]);
}

fn redrive(planner: &mut Planner, parked: &[Parked], now_ms: i64) {
    for Parked { partition, reason, delivery, .. } in parked {
        planner.redrive(*partition, Some(*reason), delivery.clone(), &nothing, now_ms);
    }
}

#[test]
fn what_was_parked_is_sent_again_under_its_key_once_with_all_its_attempts_before_it() {
    let mut planner = planner(&urgent(""));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    refuse(&mut planner, NOW);
    let parked = planner.take_parked();
    let keys = |of: &[Parked]| of.iter().map(|of| of.delivery.key.clone()).collect::<Vec<_>>();
    let later = NOW + 20 * DAY_MS;
    redrive(&mut planner, &parked, later);
    redrive(&mut planner, &parked, later);
    assert_eq!(planner.take_suppressed(), [(Suppressed::Duplicate, 2)].into());
    planner.tick(later + HOUR_MS, &|_| false);
    assert_eq!(planner.take_parked(), [], "the hours of giving up begin anew");
    let sent: Vec<String> = ready(&planner, later).into_iter().map(|(_, of)| of.key).collect();
    assert_eq!(sent, keys(&parked));
    assert_eq!(pairs(&tell(&mut planner, later)), [("pager", "opened"), ("slack", "opened")]);
    redrive(&mut planner, &parked, later);
    assert_eq!(tell(&mut planner, later), [], "it was delivered");
}

#[test]
fn what_is_sent_again_is_told_its_end_and_what_has_ended_is_not_sent_again() {
    let mut planner = planner(&urgent(""));
    let old = |number, transition: &str, severity| Alert {
        at: Millis(NOW - 100 * HOUR_MS),
        ..alert(number, transition, severity)
    };
    planner.alert(0, &old(1, "opened", "high"), NOW);
    planner.alert(0, &old(2, "opened", "high"), NOW);
    let parked = planner.take_parked();
    assert_eq!(parked.len(), 4);
    planner.alert(0, &alert(2, "resolved", "high"), NOW);
    redrive(&mut planner, &parked, NOW);
    assert_eq!(pairs(&tell(&mut planner, NOW)), [("pager", "opened"), ("slack", "opened")]);
    assert_eq!(planner.take_suppressed()[&Suppressed::Ended], 2);
    planner.alert(0, &alert(1, "resolved", "high"), NOW + 1);
    assert_eq!(pairs(&tell(&mut planner, NOW + 1)), [("pager", "resolved")]);
}

#[test]
fn an_end_that_was_parked_does_not_close_what_was_opened_anew() {
    let mut planner = planner(&urgent(""));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    tell(&mut planner, NOW);
    planner.alert(0, &alert(1, "resolved", "high"), NOW);
    refuse(&mut planner, NOW);
    let parked = planner.take_parked();
    assert_eq!(parked.len(), 1, "of the pager");
    planner.alert(0, &alert(1, "reopened", "high"), NOW);
    tell(&mut planner, NOW);
    redrive(&mut planner, &parked, NOW);
    assert_eq!(tell(&mut planner, NOW), []);
}

#[test]
fn what_a_full_digest_had_no_room_for_stands_in_the_next_one_when_it_is_asked_for() {
    let route = "[[route]]\nname = \"daily\"\nsinks = [\"slack\"]\nmode = \"daily\"\n[delivery]\npending_max = 2\n";
    let mut planner = planner(route);
    for number in 0..4 {
        planner.alert(0, &alert(number, "opened", "high"), NOW);
    }
    let parked = planner.take_parked();
    assert_eq!(parked.len(), 2);
    redrive(&mut planner, &parked, NOW);
    assert_eq!(planner.take_parked().len(), 2, "it is still full: parked again");
    planner.tick(NOW + DAY_MS, &|_| false);
    tell(&mut planner, NOW + DAY_MS);
    planner.alert(0, &alert(3, "resolved", "high"), NOW + DAY_MS);
    redrive(&mut planner, &parked, NOW + DAY_MS);
    assert_eq!(ready(&planner, NOW + DAY_MS), []);
    planner.tick(NOW + 2 * DAY_MS, &|_| false);
    assert_eq!(pairs(&tell(&mut planner, NOW + 2 * DAY_MS)), [("slack", "1 of 1")]);
}

#[test]
fn a_replay_is_bounded_as_everything_that_waits() {
    let limit = "[delivery]\npending_max = 3\n";
    let mut planner = planner(&format!("{limit}{}", urgent("")));
    let mut parked = Vec::new();
    for number in 0..10 {
        planner.alert(0, &alert(number, "opened", "high"), NOW);
        refuse(&mut planner, NOW);
        parked.extend(planner.take_parked());
    }
    redrive(&mut planner, &parked, NOW);
    let again = planner.take_parked();
    assert_eq!((ready(&planner, NOW).len(), again.len()), (6, 14));
    assert!(again.iter().all(|of| of.reason == Parking::Backlog));
}

#[test]
fn what_is_overtaken_is_remembered_across_a_restart_and_forgotten_in_time() {
    let policy = policy(&urgent(""));
    let mut planner = planner_of(&policy);
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    refuse(&mut planner, NOW);
    let parked = planner.take_parked();
    planner.alert(0, &alert(1, "resolved", "high"), NOW);
    refuse(&mut planner, NOW);
    planner.set_redriven(0, 17);
    let rows = committed(&mut planner, Rows::new());
    let mut again = read_back(&policy, &rows);
    assert_eq!((again.redriven_to(0), again.redriven_to(1)), (17, 0));
    redrive(&mut again, &parked, NOW);
    assert_eq!(tell(&mut again, NOW), []);
    again.tick(NOW + 40 * DAY_MS, &|_| false);
    let rows = committed(&mut again, rows);
    assert_eq!(rows.keys().map(|(_, key)| key.as_str()).collect::<Vec<_>>(), ["p/redriven"]);
}

#[test]
fn a_delivery_is_parked_once_for_a_reason_until_it_is_asked_for_also_across_a_restart() {
    let policy = policy(&urgent(""));
    let mut planner = planner_of(&policy);
    let old = |transition: &str, hours: i64| Alert {
        at: Millis(NOW - hours * HOUR_MS),
        ..alert(1, transition, "high")
    };
    // A topic that is read from its beginning again, twice.
    let events = [old("opened", 100), old("acknowledged", 90), old("escalated", 80)];
    events.iter().for_each(|event| planner.alert(0, event, NOW));
    let parked = planner.take_parked();
    assert_eq!(parked.len(), 4, "two events and two sinks");
    events.iter().for_each(|event| planner.alert(0, event, NOW));
    assert_eq!(planner.take_parked(), []);
    assert_eq!(planner.take_suppressed()[&Suppressed::Duplicate], 4);
    let rows = committed(&mut planner, Rows::new());
    let mut again = read_back(&policy, &rows);
    events.iter().for_each(|event| again.alert(0, event, NOW));
    assert_eq!(again.take_parked(), []);
    // For another reason, and once it was asked for, it is another record.
    redrive(&mut again, &parked, NOW);
    assert_eq!(again.take_suppressed()[&Suppressed::Superseded], 2, "of opened");
    refuse(&mut again, NOW);
    let rejected = again.take_parked();
    let reasons: Vec<Parking> = rejected.iter().map(|of| of.reason).collect();
    assert_eq!(reasons, [Parking::Rejected; 2]);
    redrive(&mut again, &rejected, NOW);
    refuse(&mut again, NOW);
    assert_eq!(again.take_parked().len(), 2);
    // So is it once the topic keeps the first no more.
    let mut later = read_back(&policy, &rows);
    later.alert(0, &events[2], NOW + 29 * DAY_MS);
    assert_eq!(later.take_parked(), []);
    later.alert(0, &events[2], NOW + 31 * DAY_MS);
    assert_eq!(later.take_parked().len(), 2);
}

#[test]
fn what_was_parked_is_not_overtaken_by_an_acknowledgement() {
    let policy = policy(&urgent(""));
    let mut planner = planner_of(&policy);
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    refuse(&mut planner, NOW);
    // The pager hears of it, too, and refuses that, too.
    planner.alert(0, &alert(1, "acknowledged", "high"), NOW + 1);
    refuse(&mut planner, NOW + 1);
    let parked = planner.take_parked();
    let rows = committed(&mut planner, Rows::new());
    let transitions = |of: &[Parked]| -> Vec<(String, String)> {
        let told = of.iter().map(|of| (&of.delivery.sink, &of.delivery.subject));
        told.map(|(sink, subject)| match subject {
            Subject::Alert { alert, .. } => (sink.clone(), alert.transition.clone()),
            Subject::Digest(_) => panic!("no digest"),
        })
        .collect()
    };
    let expected = [("pager", "opened"), ("slack", "opened"), ("pager", "acknowledged")];
    assert_eq!(pairs(&transitions(&parked)), expected);
    let mut again = read_back(&policy, &rows);
    redrive(&mut again, &parked, NOW + 2);
    assert_eq!(again.take_suppressed(), BTreeMap::new());
    let told: Vec<(String, String)> =
        [tell(&mut again, NOW + 2), tell(&mut again, NOW + 2)].concat();
    assert_eq!(pairs(&told), expected, "in their order");
    // What asks for attention again does overtake both.
    let mut again = read_back(&policy, &rows);
    again.alert(0, &alert(1, "woken", "high"), NOW + 2);
    tell(&mut again, NOW + 2);
    tell(&mut again, NOW + 2);
    redrive(&mut again, &parked, NOW + 3);
    assert_eq!(again.take_suppressed(), [(Suppressed::Superseded, 3)].into());
    assert_eq!(tell(&mut again, NOW + 3), []);
}

/// The alerts topic is read anew, e.g. because the group's positions expired.
#[test]
fn what_is_refused_again_when_it_is_read_again_can_still_be_asked_for() {
    for end in [false, true] {
        let mut planner = planner(&urgent(""));
        if end {
            planner.alert(0, &alert(1, "opened", "high"), NOW);
            tell(&mut planner, NOW);
        }
        let refused = alert(1, if end { "resolved" } else { "opened" }, "high");
        planner.alert(0, &refused, NOW);
        refuse(&mut planner, NOW);
        let parked = planner.take_parked();
        assert_eq!(parked.len(), if end { 1 } else { 2 });
        planner.alert(0, &refused, NOW + 1);
        refuse(&mut planner, NOW + 1);
        assert_eq!(planner.take_parked(), [], "it is parked already");
        redrive(&mut planner, &parked, NOW + 2);
        let told = tell(&mut planner, NOW + 2);
        assert_eq!(told.len(), parked.len(), "end: {end}");
    }
}

/// A parked alert that was asked for and finds its digest full is parked again, whatever else was parked that day.
#[test]
fn what_was_asked_for_is_not_dropped() {
    let route = "[[route]]\nname = \"daily\"\nsinks = [\"slack\"]\nmode = \"daily\"\n[delivery]\npending_max = 1\nparked_max_day = 1\n";
    let mut planner = planner(route);
    for number in 0..3 {
        planner.alert(0, &alert(number, "opened", "high"), NOW);
    }
    let parked = planner.take_parked();
    assert_eq!(parked.len(), 2, "what is alive has no such limit");
    let old = Alert { at: Millis(NOW - 100 * HOUR_MS), ..alert(9, "opened", "high") };
    planner.alert(0, &old, NOW);
    assert_eq!(planner.take_parked().len(), 1);
    redrive(&mut planner, &parked, NOW);
    assert_eq!(planner.take_parked().len(), 2);
}

#[test]
fn history_that_is_filled_in_does_not_fill_the_parking_topic() {
    let mut planner = planner(&format!("[delivery]\nparked_max_day = 5\n{}", urgent("")));
    for number in 0..10 {
        let old = Alert { at: Millis(NOW - 100 * HOUR_MS), ..alert(number, "opened", "high") };
        planner.alert(0, &old, NOW);
    }
    assert_eq!(planner.take_parked().len(), 5);
    assert_eq!(planner.take_suppressed(), [(Suppressed::ParkingFull, 15)].into());
    // What a sink refuses has no such limit, and there is room the next day.
    planner.alert(0, &alert(20, "opened", "high"), NOW);
    refuse(&mut planner, NOW);
    assert_eq!(planner.take_parked().len(), 2);
    let tomorrow = NOW + DAY_MS;
    let old = Alert { at: Millis(NOW - 100 * HOUR_MS), ..alert(9, "opened", "high") };
    planner.alert(0, &old, tomorrow);
    assert_eq!(planner.take_parked().len(), 2);
}

#[test]
fn how_much_history_was_parked_today_outlives_a_restart_and_goes_where_its_partition_goes() {
    let policy = policy(&format!("[delivery]\nparked_max_day = 4\n{}", urgent("")));
    let old = |number| Alert { at: Millis(NOW - 100 * HOUR_MS), ..alert(number, "opened", "high") };
    let mut planner = planner_of(&policy);
    planner.alert(0, &old(0), NOW);
    planner.alert(1, &old(1), NOW);
    assert_eq!(planner.take_parked().len(), 4, "two sinks each");
    let rows = committed(&mut planner, Rows::new());
    let mut again = read_back(&policy, &rows);
    again.alert(0, &old(2), NOW);
    assert_eq!(again.take_parked(), []);
    assert_eq!(again.take_suppressed(), [(Suppressed::ParkingFull, 2)].into());
    // Whoever has one of the partitions alone has its count alone.
    again.revoke(1);
    again.alert(0, &old(2), NOW);
    assert_eq!(again.take_parked().len(), 2);
    again.alert(0, &old(3), NOW);
    assert_eq!(again.take_parked(), []);
    // A count is forgotten with its week.
    let mut later = read_back(&policy, &rows);
    let counts = |rows: &Rows| rows.keys().filter(|(_, key)| key.starts_with("s/")).count();
    assert_eq!(counts(&rows), 2);
    later.tick(NOW + 9 * DAY_MS, &|_| false);
    assert_eq!(counts(&committed(&mut later, rows)), 0);
}
