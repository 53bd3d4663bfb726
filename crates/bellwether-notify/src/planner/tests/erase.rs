//! Accounts that are deleted.

use super::*;

const ROUTES: &str = "[[route]]\nname = \"night\"\nseverity = [\"critical\"]\nsinks = [\"slack\", \"pager\"]\nmode = \"immediate\"\n\
    quiet = { from = \"11:00\", to = \"14:00\", time_zone = \"UTC\" }\n\
    [[route]]\nname = \"urgent\"\nseverity = [\"high\"]\nsinks = [\"slack\", \"pager\"]\nmode = \"immediate\"\n\
    [[route]]\nname = \"weekly\"\nsinks = [\"slack\"]\nmode = \"weekly\"\n";

/// The rows that name an account.
fn naming(rows: &Rows, account: &str) -> Vec<String> {
    let names = rows
        .iter()
        .filter(|(_, value)| String::from_utf8_lossy(value).contains(&format!("\"{account}\"")));
    names.map(|((_, key), _)| key.clone()).collect()
}

#[test]
fn a_deleted_account_goes_out_of_digests_and_of_what_waits_and_nothing_names_it() {
    let policy = policy(ROUTES);
    let mut planner = planner_of(&policy);
    for number in 1..3 {
        let mut queued = alert(number, "opened", "low");
        queued.alert_id = format!("queued-{number}");
        let mut held = alert(number, "opened", "critical");
        held.alert_id = format!("held-{number}");
        let mut failing = alert(number, "opened", "high");
        failing.alert_id = format!("failing-{number}");
        for event in [queued, held, failing] {
            planner.alert(1, &event, NOW);
        }
    }
    let failed = Outcome::Failed { detail: "away".to_owned(), retry_after_ms: None };
    for (partition, delivery) in ready(&planner, NOW) {
        planner.settle(partition, &delivery.key, failed.clone(), NOW, &mut |most| most);
    }
    let rows = committed(&mut planner, Rows::new());
    assert_eq!(naming(&rows, "account-1").len(), 5, "one of a digest, two held, two that fail");
    planner.erase(1, "account-1", NOW);
    let rows = committed(&mut planner, rows);
    assert_eq!(naming(&rows, "account-1"), [""; 0]);
    assert_eq!(naming(&rows, "account-2").len(), 5);
    assert_eq!(planner.take_suppressed()[&Suppressed::Forgotten], 5);
    // Nor after a restart, where the deletion is read again, and with events that come late.
    let mut again = read_back(&policy, &rows);
    again.erase(1, "account-1", NOW);
    again.alert(1, &alert(1, "escalated", "high"), NOW + HOUR_MS);
    let week = NOW + 8 * DAY_MS;
    again.tick(week - 6 * DAY_MS, &|_| false);
    let told = tell(&mut again, week - 6 * DAY_MS);
    assert_eq!(told.len(), 4, "of the other account: {told:?}");
    again.tick(week, &|_| false);
    assert_eq!(pairs(&tell(&mut again, week)), [("slack", "1 of 1")]);
}

#[test]
fn a_digest_that_waits_for_its_sink_loses_the_entries_of_a_deleted_account_in_any_partition() {
    let mut planner = planner(ROUTES);
    for number in 0..4 {
        planner.alert(i32::from(number % 2 == 1), &alert(number, "opened", "low"), NOW);
    }
    let week = NOW + 8 * DAY_MS;
    planner.tick(week, &|_| false);
    planner.erase(1, "account-1", week);
    assert_eq!(pairs(&tell(&mut planner, week)), [("slack", "3 of 3")]);
}

/// Another alert of the account, as of a time.
fn opened_anew(at_ms: i64) -> Alert {
    let id = "another".to_owned();
    Alert { at: Millis(at_ms), alert_id: id.clone(), id, ..alert(1, "opened", "high") }
}

#[test]
fn a_pager_that_rang_for_a_deleted_account_is_told_of_the_end_and_a_new_account_is_told() {
    let mut planner = planner(ROUTES);
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    tell(&mut planner, NOW);
    planner.alert(0, &alert(1, "resolved", "high"), NOW);
    planner.erase(0, "account-1", NOW);
    assert_eq!(pairs(&tell(&mut planner, NOW)), [("pager", "resolved")]);
    // It comes back under its old id.
    let minute = NOW + 60_000;
    planner.alert(0, &opened_anew(minute), minute);
    planner.erase(0, "account-1", NOW);
    assert_eq!(tell(&mut planner, minute).len(), 2);
}

#[test]
fn what_was_parked_of_a_deleted_account_is_not_sent_again() {
    let mut planner = planner(ROUTES);
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    refuse(&mut planner, NOW);
    let parked = planner.take_parked();
    planner.erase(0, "account-1", NOW);
    for Parked { partition, reason, delivery, .. } in parked {
        planner.redrive(partition, Some(reason), delivery, &nothing, NOW);
    }
    assert_eq!(tell(&mut planner, NOW), []);
}

#[test]
fn a_pager_is_not_told_of_the_end_before_the_attempt_under_way_has_settled() {
    let mut planner = planner(ROUTES);
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    let attempted = ready(&planner, NOW);
    planner.alert(0, &alert(1, "resolved", "high"), NOW);
    planner.erase(0, "account-1", NOW);
    let held = |partition: i32, delivery: &Delivery| {
        let same = |of: &Delivery| of.sink == delivery.sink && of.lane == delivery.lane;
        attempted.iter().any(|(of, attempt)| *of == partition && same(attempt))
    };
    assert_eq!(planner.ready(NOW, &held, &|_, _| true), []);
    for (partition, delivery) in &attempted {
        planner.settle(*partition, &delivery.key, Outcome::Delivered, NOW, &mut |n| n);
    }
    assert_eq!(pairs(&tell(&mut planner, NOW)), [("pager", "resolved")]);
}

/// The tombstone that said so is gone from its topic by then.
#[test]
fn after_a_restart_a_deleted_account_is_told_neither_by_what_was_parked_nor_by_what_comes_late() {
    let policy = policy(ROUTES);
    let mut planner = planner_of(&policy);
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    refuse(&mut planner, NOW);
    let mut parked = planner.take_parked();
    // One of before it was remembered what is parked.
    parked[0].delivery.lane = "another".to_owned();
    if let Subject::Alert { alert, .. } = &mut parked[0].delivery.subject {
        alert.alert_id = "another".to_owned();
    }
    planner.erase(0, "account-1", NOW);
    let rows = committed(&mut planner, Rows::new());
    assert_eq!(naming(&rows, "account-1"), [""; 0]);
    assert!(rows.keys().all(|(_, key)| !key.contains("account-1")), "{rows:?}");

    let mut again = read_back(&policy, &rows);
    for Parked { partition, reason, delivery, .. } in parked {
        again.redrive(partition, Some(reason), delivery, &nothing, NOW + HOUR_MS);
    }
    let late = Alert { id: "late".to_owned(), ..alert(1, "escalated", "high") };
    again.alert(0, &late, NOW + HOUR_MS);
    assert_eq!(tell(&mut again, NOW + HOUR_MS), []);
    assert_eq!(again.take_suppressed()[&Suppressed::Forgotten], 3);
    // The tombstone, read once more, is no news; what happens later is of a new account.
    again.erase(0, "account-1", NOW);
    let rows = committed(&mut again, rows);
    let minute = NOW + 60_000;
    again.alert(0, &opened_anew(minute), minute);
    assert_eq!(tell(&mut again, minute).len(), 2);
    // It is forgotten in time.
    again.tick(NOW + 402 * DAY_MS, &|_| false);
    let rows = committed(&mut again, rows);
    assert!(rows.keys().all(|(_, key)| !key.starts_with("f/")), "{rows:?}");
}
