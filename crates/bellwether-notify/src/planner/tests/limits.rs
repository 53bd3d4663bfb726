//! The budget of urgent alerts, and the rates of owners.

use super::*;

#[test]
fn what_is_over_the_budget_is_ranked_into_the_digest_and_counted() {
    let budget = "[budget]\nurgent_per_100_accounts_week = 2.0\nurgent_min_week = 3\n";
    let mut planner = planner(&format!("{budget}{}", urgent("")));
    for number in 0..200 {
        let partition = i32::from(number % 2 == 1);
        planner.profile(partition, &format!("account-{number}"), Profile::default());
    }
    for number in 0..10 {
        let partition = i32::from(number % 2 == 1);
        let severity = if number == 9 { "critical" } else { "high" };
        let mut event = alert(number, "opened", severity);
        event.priority = if number == 6 { 90 } else { 50 };
        planner.alert(partition, &event, NOW);
    }
    // 200 accounts at 2 per 100: four at once, over both partitions, and the critical one; the pager takes no digests and is told all.
    let told = tell(&mut planner, NOW);
    let at = |of: &str| told.iter().filter(|(sink, _)| sink == of).count();
    assert_eq!((at("slack"), at("pager")), (5, 10));
    assert_eq!(planner.take_suppressed()[&Suppressed::Budget], 5);
    // One of them goes on: no further burden, so it is told.
    planner.alert(0, &alert(0, "escalated", "critical"), NOW);
    assert_eq!(tell(&mut planner, NOW).len(), 2);
    let morning = NOW + 20 * HOUR_MS;
    planner.tick(morning - 1, &|_| false);
    assert_eq!(ready(&planner, morning), []);
    planner.tick(morning, &|_| false);
    let digest = ready(&planner, morning);
    let [(_, Delivery { subject: Subject::Digest(digest), sink, .. })] = digest.as_slice() else {
        panic!("one digest: {digest:?}");
    };
    assert_eq!((sink.as_str(), digest.total), ("slack", 5));
    assert_eq!(digest.entries[0].alert.alert_id, "alert-6", "most urgent first");
    assert_eq!(digest.entries[0].because, "budget");
    // A week later there is room again.
    planner.alert(0, &alert(50, "opened", "high"), NOW);
    assert_eq!(planner.take_suppressed()[&Suppressed::Budget], 1);
    let next_week = NOW + 7 * DAY_MS;
    let later = Alert { at: Millis(next_week), ..alert(51, "opened", "high") };
    planner.alert(0, &later, next_week);
    assert_eq!(planner.take_suppressed().get(&Suppressed::Budget), None);
}

#[test]
fn a_limit_never_loses_an_alert_where_no_sink_takes_digests() {
    let route = "[budget]\nurgent_per_100_accounts_week = 0.1\nurgent_min_week = 0\n[[route]]\nname = \"pager\"\nsinks = [\"pager\"]\nmode = \"immediate\"\n";
    let mut planner = planner(route);
    for number in 0..5 {
        planner.alert(0, &alert(number, "opened", "high"), NOW);
    }
    assert_eq!(tell(&mut planner, NOW).len(), 5);
}

#[test]
fn an_owner_is_told_so_many_and_the_rest_stands_in_the_digest() {
    let route = "[[route]]\nname = \"all\"\nsinks = [\"slack\"]\nmode = \"immediate\"\nrate = { per_owner = 2, hours = 1 }\n";
    let mut planner = planner(route);
    for number in 0..8 {
        let owner = if number < 4 { "ann" } else { "bob" };
        let profile = Profile { owner: Some(owner.to_owned()), ..Profile::default() };
        planner.profile(0, &format!("account-{number}"), profile);
        planner.alert(0, &alert(number, "opened", "medium"), NOW);
    }
    assert_eq!(tell(&mut planner, NOW).len(), 4);
    assert_eq!(planner.take_suppressed()[&Suppressed::Rate], 4);
    let profile = Profile { owner: Some("ann".to_owned()), ..Profile::default() };
    planner.profile(1, "account-9", profile);
    planner.alert(1, &alert(9, "opened", "medium"), NOW);
    assert_eq!(planner.take_suppressed()[&Suppressed::Rate], 1, "over all partitions");
    planner.alert(1, &alert(9, "escalated", "medium"), NOW + HOUR_MS);
    assert_eq!(tell(&mut planner, NOW + HOUR_MS).len(), 1, "an hour later");
}

#[test]
fn the_budget_after_a_restart_is_that_of_before_though_no_account_was_read_yet() {
    let budget = "[budget]\nurgent_per_100_accounts_week = 2.0\nurgent_min_week = 0\n";
    let policy = policy(&format!("{budget}{}", urgent("").replace(", \"pager\"", "")));
    let mut planner = planner_of(&policy);
    for number in 0..400 {
        planner.scored(number % 2, &format!("account-{number}"), true);
    }
    for source in [Source::Profile, Source::Score] {
        (0..2).for_each(|partition| planner.all_read(partition, source));
    }
    for number in 0..3 {
        planner.alert(0, &alert(number, "opened", "high"), NOW);
    }
    assert_eq!(tell(&mut planner, NOW).len(), 3);
    let rows = committed(&mut planner, Rows::new());
    let mut again = read_back(&policy, &rows);
    for number in (10..30).step_by(2) {
        again.alert(0, &alert(number, "opened", "high"), NOW);
    }
    assert_eq!(tell(&mut again, NOW).len(), 5, "eight of 400 accounts");
    // Once they are read, they count as they are; what changed is written within the hour.
    for number in 0..100 {
        again.scored(number % 2, &format!("account-{number}"), true);
    }
    for source in [Source::Profile, Source::Score] {
        (0..2).for_each(|partition| again.all_read(partition, source));
    }
    assert_eq!(again.desks().values().map(Desk::accounts).sum::<usize>(), 100);
    again.scored(0, "account-4000", true);
    again.tick(NOW + DAY_MS, &|_| false);
    let rows = committed(&mut again, rows);
    let again = read_back(&policy, &rows);
    assert_eq!(again.desks().values().map(Desk::accounts).sum::<usize>(), 101);
}

#[test]
fn the_budget_counts_accounts_that_have_no_profile() {
    let budget = "[budget]\nurgent_per_100_accounts_week = 2.0\nurgent_min_week = 0\n";
    let mut planner = planner(&format!("{budget}{}", urgent("").replace(", \"pager\"", "")));
    for number in 0..150 {
        let partition = i32::from(number % 2 == 1);
        planner.scored(partition, &format!("account-{number}"), true);
        // An account is one, from wherever it is known.
        if number < 50 {
            planner.profile(partition, &format!("account-{number}"), Profile::default());
        }
    }
    for number in 0..40 {
        planner.alert(0, &alert(1_000 + number, "opened", "low"), NOW);
    }
    for number in 0..10 {
        let partition = i32::from(number % 2 == 1);
        planner.alert(partition, &alert(number, "opened", "high"), NOW);
    }
    // 190 accounts: 150 with a score, 40 that had an alert.
    assert_eq!(tell(&mut planner, NOW).len(), 3);
    planner.scored(0, "account-2000", true);
    for number in 200..210 {
        planner.scored(0, &format!("account-{number}"), true);
    }
    planner.alert(0, &alert(10, "opened", "high"), NOW);
    assert_eq!(tell(&mut planner, NOW).len(), 1, "of 201");
    // Without a score, and deleted: 199 are left, and four are told already.
    planner.scored(0, "account-2000", false);
    planner.erase(0, "account-200", NOW);
    planner.alert(0, &alert(12, "opened", "high"), NOW);
    assert_eq!(tell(&mut planner, NOW), []);
}
