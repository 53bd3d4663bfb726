//! Quiet hours.

use super::*;

#[test]
fn quiet_hours_hold_alerts_back_but_not_the_excepted_and_what_ends_meanwhile_is_not_told() {
    let quiet = "quiet = { from = \"10:00\", to = \"14:00\", time_zone = \"UTC\", except = [\"critical\"] }\n";
    let mut planner = planner(&urgent(quiet));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    planner.alert(0, &alert(2, "opened", "critical"), NOW);
    planner.alert(0, &alert(3, "opened", "high"), NOW);
    assert_eq!(tell(&mut planner, NOW).len(), 2, "the critical one, to two sinks");
    planner.alert(0, &alert(3, "resolved", "high"), NOW + 1);
    let end = NOW + 2 * HOUR_MS;
    assert_eq!(ready(&planner, end - 1), []);
    assert_eq!(tell(&mut planner, end).len(), 2);
    assert_eq!(planner.take_suppressed()[&Suppressed::Ended], 2);
}

#[test]
fn what_may_not_wait_does_not_wait_behind_what_does() {
    let quiet = "quiet = { from = \"10:00\", to = \"14:00\", time_zone = \"UTC\", except = [\"critical\"] }\n";
    let mut planner = planner(&urgent(quiet));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    planner.alert(0, &alert(1, "escalated", "critical"), NOW + 1);
    let told = tell(&mut planner, NOW + 1);
    assert_eq!(pairs(&told), [("pager", "escalated"), ("slack", "escalated")]);
    assert_eq!(planner.take_suppressed()[&Suppressed::Superseded], 2);
    assert_eq!(tell(&mut planner, NOW + 3 * HOUR_MS), [], "and not later either");
}

#[test]
fn a_pager_that_rang_is_told_of_the_end_though_something_newer_waits_for_the_morning() {
    let quiet = "quiet = { from = \"13:00\", to = \"14:00\", time_zone = \"UTC\" }\n";
    let mut planner = planner(&urgent(quiet));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    assert_eq!(tell(&mut planner, NOW).len(), 2);
    let night = NOW + HOUR_MS;
    planner.alert(0, &alert(1, "woken", "high"), night);
    planner.alert(0, &alert(1, "escalated", "critical"), night);
    assert_eq!(tell(&mut planner, night), []);
    planner.alert(0, &alert(1, "resolved", "critical"), night + 1);
    assert_eq!(pairs(&tell(&mut planner, night + 1)), [("pager", "resolved")]);
    assert_eq!(tell(&mut planner, night + HOUR_MS), []);
}

#[test]
fn quiet_hours_longer_than_the_hours_of_giving_up_park_nothing() {
    let quiet = "quiet = { from = \"20:00\", to = \"07:00\", days = [\"friday\", \"saturday\", \"sunday\"], time_zone = \"UTC\" }\n";
    let mut planner = planner(&format!("[delivery]\ngive_up_hours = 48\n{}", urgent(quiet)));
    // Thursday evening, until Monday morning.
    let evening = NOW + 10 * HOUR_MS;
    planner.alert(0, &Alert { at: Millis(evening), ..alert(1, "opened", "high") }, evening);
    let monday = NOW + 91 * HOUR_MS;
    assert_eq!(ready(&planner, monday - 1), []);
    planner.tick(monday + 5, &|_| false);
    let failed = Outcome::Failed { detail: "no".to_owned(), retry_after_ms: None };
    let first = ready(&planner, monday + 5);
    for (partition, delivery) in &first {
        planner.settle(*partition, &delivery.key, failed.clone(), monday + 5, &mut |_| 0);
    }
    planner.tick(monday + 48 * HOUR_MS, &|_| false);
    assert_eq!(planner.take_parked(), []);
    // What is under way may be accepted yet.
    planner.tick(monday + 48 * HOUR_MS + 1, &|key| key == first[0].1.key);
    assert_eq!(planner.take_parked().len(), 1);
}

#[test]
fn a_holiday_of_a_country_is_quiet_in_its_parts_too() {
    let entry = serde_json::json!({
        "entry_id": "1", "scope": "region", "key": "DE", "from": "2026-11-26", "to": "2026-11-26", "kind": "holiday",
    });
    let mut decoder = bellwether_wire::decode::Decoder::new(None, 1 << 20).expect("a decoder");
    let (id, entry) = decoder.calendar(None, Some(entry.to_string().as_bytes())).expect("an entry");
    let told = |region: &str| {
        let quiet = format!(
            "quiet = {{ from = \"20:00\", to = \"07:00\", time_zone = \"UTC\", holidays = [\"{region}\"] }}\n"
        );
        let mut planner = planner(&urgent(&quiet));
        planner.calendar(&id, entry.clone());
        let profile = Profile { region: Some("DE-BY".to_owned()), ..Profile::default() };
        planner.profile(0, "account-1", profile);
        planner.alert(0, &alert(1, "opened", "high"), NOW);
        tell(&mut planner, NOW).len()
    };
    assert_eq!(told("DE-BY"), 0, "named by the route");
    assert_eq!(told("account"), 0, "of the profile");
    assert_eq!(told("DEX"), 2);
}

#[test]
fn a_holiday_of_a_country_that_a_part_does_not_keep_is_not_quiet_there() {
    let mut decoder = bellwether_wire::decode::Decoder::new(None, 1 << 20).expect("a decoder");
    let entries = [("US", "holiday"), ("US-CA", "working_day")].map(|(region, kind)| {
        let entry = serde_json::json!({
            "entry_id": region, "scope": "region", "key": region, "from": "2026-11-26", "to": "2026-11-26", "kind": kind,
        });
        decoder.calendar(None, Some(entry.to_string().as_bytes())).expect("an entry")
    });
    let told = |holidays: &str, region: &str| {
        let quiet = format!(
            "quiet = {{ from = \"20:00\", to = \"07:00\", time_zone = \"UTC\", holidays = [\"{holidays}\"] }}\n"
        );
        let mut planner = planner(&urgent(&quiet));
        for (id, entry) in &entries {
            planner.calendar(id, entry.clone());
        }
        let profile = Profile { region: Some(region.to_owned()), ..Profile::default() };
        planner.profile(0, "account-1", profile);
        planner.alert(0, &alert(1, "opened", "high"), NOW);
        tell(&mut planner, NOW).len()
    };
    assert_eq!([told("account", "US-CA"), told("US-CA", "DE")], [2, 2]);
    assert_eq!([told("account", "US-NY"), told("US", "US-CA"), told("US-NY", "DE")], [0, 0, 0]);
}
