use std::sync::LazyLock;

use bellwether_core::time::{DAY_MS, Millis};
use proptest::prelude::*;

use super::*;
use crate::delivery::Outcome;
use crate::event::sample;
use crate::policy::Loaded;

/// 2026-11-26T12:00:00Z, a Thursday.
const NOW: i64 = 1_795_694_400_000;

const SINKS: &str = r#"
[[sink]]
name = "slack"
type = "slack"
url_env = "U"
[[sink]]
name = "pager"
type = "pagerduty"
url = "https://events.pagerduty.com/v2/enqueue"
secret_env = "K"
"#;

fn policy(rest: &str) -> Loaded {
    Loaded::parse(&format!("{SINKS}{rest}"), "test").expect("sound")
}

fn planner(rest: &str) -> Planner {
    planner_of(&policy(rest))
}

fn planner_of(policy: &Loaded) -> Planner {
    let mut planner = Planner::new(Arc::clone(policy.texts()), policy.version());
    planner.assign(0);
    planner.assign(1);
    planner
}

fn urgent(more: &str) -> String {
    format!(
        "[[route]]\nname = \"urgent\"\nseverity = [\"high\", \"critical\"]\nsinks = [\"slack\", \"pager\"]\nmode = \"immediate\"\n{more}"
    )
}

fn alert(number: u32, transition: &str, severity: &str) -> Alert {
    let (alert, _) = sample(Millis(NOW));
    Alert {
        id: format!("event-{number}-{transition}-{severity}"),
        alert_id: format!("alert-{number}"),
        account_id: format!("account-{number}"),
        transition: transition.to_owned(),
        severity: severity.to_owned(),
        ..alert
    }
}

fn ready(planner: &Planner, now_ms: i64) -> Vec<(i32, Delivery)> {
    planner.ready(now_ms, &|_| false, &|_, _| true)
}

/// Sink and transition of what is ready, and settles it as delivered.
fn tell(planner: &mut Planner, now_ms: i64) -> Vec<(String, String)> {
    let ready = ready(planner, now_ms);
    let mut told = Vec::new();
    for (partition, delivery) in ready {
        planner.settle(partition, &delivery.key, Outcome::Delivered, now_ms, &mut |n| n);
        let what = match &delivery.subject {
            Subject::Alert { alert, .. } => alert.transition.clone(),
            Subject::Digest(digest) => format!("{} of {}", digest.entries.len(), digest.total),
        };
        told.push((delivery.sink, what));
    }
    told
}

fn pairs(told: &[(String, String)]) -> Vec<(&str, &str)> {
    told.iter().map(|(sink, what)| (sink.as_str(), what.as_str())).collect()
}

#[test]
fn an_event_is_told_to_each_sink_of_its_route_once() {
    let mut planner = planner(&urgent(""));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    planner.alert(0, &alert(2, "opened", "low"), NOW);
    let told = tell(&mut planner, NOW);
    assert_eq!(pairs(&told), [("pager", "opened"), ("slack", "opened")]);
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    assert_eq!(tell(&mut planner, NOW), []);
    let suppressed = planner.take_suppressed();
    assert_eq!(suppressed[&Suppressed::Duplicate], 2);
    assert_eq!(suppressed[&Suppressed::NoRoute], 1);
}

#[test]
fn what_becomes_of_an_alert_is_told_where_it_is_kept_open_and_only_where_it_was_told() {
    let mut planner = planner(&urgent(""));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    tell(&mut planner, NOW);
    for transition in ["updated", "acknowledged", "resolved"] {
        planner.alert(0, &alert(1, transition, "high"), NOW);
    }
    planner.alert(0, &alert(2, "resolved", "high"), NOW);
    assert_eq!(pairs(&tell(&mut planner, NOW)), [("pager", "acknowledged")], "one at a time");
    assert_eq!(pairs(&tell(&mut planner, NOW)), [("pager", "resolved")]);
    assert_eq!(tell(&mut planner, NOW), []);
}

#[test]
fn a_snooze_is_no_message_and_its_end_and_a_return_are() {
    let mut planner = planner(&urgent(""));
    let mut told = |transition: &str| {
        let at = |told: Vec<(String, String)>| told.into_iter().map(|(sink, _)| sink).collect();
        planner.alert(0, &alert(1, transition, "high"), NOW);
        let mut sinks: Vec<String> = at(tell(&mut planner, NOW));
        sinks.extend(at(tell(&mut planner, NOW)));
        sinks.join(" ")
    };
    assert_eq!(told("opened"), "pager slack");
    // The pager stops ringing for what somebody put off; nobody else hears of it.
    assert_eq!(told("snoozed"), "pager");
    // It rings again as an incident of its own: the acknowledged one is closed.
    assert_eq!(told("woken"), "pager slack pager");
    assert_eq!(told("acknowledged"), "pager");
    assert_eq!(told("updated"), "");
    assert_eq!(told("resolved"), "pager");
    assert_eq!(told("reopened"), "pager slack");
}

#[test]
fn the_events_of_an_alert_reach_a_sink_in_order_though_the_first_fails() {
    let mut planner = planner(&urgent(""));
    planner.alert(0, &alert(1, "opened", "high"), NOW);
    planner.alert(0, &alert(1, "escalated", "critical"), NOW);
    let first = ready(&planner, NOW);
    assert!(first.iter().all(|(_, delivery)| delivery.sequence < 2), "{first:?}");
    let failed = || Outcome::Failed { detail: "no".to_owned(), retry_after_ms: None };
    for (partition, delivery) in first {
        planner.settle(partition, &delivery.key, failed(), NOW, &mut |most| most);
    }
    assert_eq!(ready(&planner, NOW + 499), []);
    assert_eq!(pairs(&tell(&mut planner, NOW + 500)), [("pager", "opened"), ("slack", "opened")]);
    let told = ready(&planner, NOW + 500);
    let Subject::Alert { earlier, .. } = &told[0].1.subject else { panic!("an alert") };
    assert_eq!(earlier.iter().collect::<Vec<_>>(), ["high"]);
}

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
fn what_was_acknowledged_at_a_pager_rings_anew_when_it_is_woken_or_escalates() {
    let quiet = "quiet = { from = \"13:00\", to = \"14:00\", time_zone = \"UTC\", except = [\"critical\"] }\n";
    let mut planner = planner(&urgent(quiet).replace("\"slack\", ", ""));
    let mut told = |transition: &str, severity: &str, now: i64| -> Vec<String> {
        planner.alert(0, &alert(1, transition, severity), now);
        let mut told = tell(&mut planner, now);
        told.extend(tell(&mut planner, now));
        told.into_iter().map(|(_, what)| what).collect()
    };
    assert_eq!(told("opened", "high", NOW), ["opened"]);
    assert_eq!(told("snoozed", "high", NOW), ["acknowledged"].map(|_| "snoozed"));
    // In quiet hours it waits; what replaces it there rings anew all the same.
    let night = NOW + HOUR_MS;
    assert_eq!(told("woken", "high", night), [""; 0]);
    assert_eq!(told("escalated", "critical", night), ["resolved", "escalated"]);
    assert_eq!(told("acknowledged", "critical", night), ["acknowledged"]);
    assert_eq!(told("reopened", "critical", night), ["resolved", "reopened"]);
    assert_eq!(told("escalated", "critical", night + 1), ["escalated"; 0], "told before");
    assert_eq!(told("resolved", "critical", night), ["resolved"]);
}

#[test]
fn what_is_told_at_once_stands_in_no_digest_of_the_same_sink() {
    let routes = "[[route]]\nname = \"now\"\nseverity = [\"high\"]\nsinks = [\"slack\"]\nmode = \"immediate\"\n\
        [[route]]\nname = \"later\"\nsinks = [\"slack\"]\nmode = \"daily\"\n";
    let mut planner = planner(routes);
    planner.alert(0, &alert(1, "opened", "medium"), NOW);
    planner.alert(0, &alert(2, "opened", "medium"), NOW);
    planner.alert(0, &alert(1, "escalated", "high"), NOW);
    assert_eq!(pairs(&tell(&mut planner, NOW)), [("slack", "escalated")]);
    let morning = NOW + DAY_MS;
    planner.tick(morning, &|_| false);
    assert_eq!(pairs(&tell(&mut planner, morning)), [("slack", "1 of 1")]);
}

#[test]
fn alertmanager_ends_every_severity_that_it_was_told_and_others_were_not() {
    let sink = "[[sink]]\nname = \"am\"\ntype = \"alertmanager\"\nurl = \"https://am.example/api/v2/alerts\"\n";
    let routes = "[[route]]\nname = \"some\"\nseverity = [\"high\", \"medium\"]\nsinks = [\"am\"]\nmode = \"immediate\"\n\
        [[route]]\nname = \"all\"\nsinks = [\"slack\"]\nmode = \"immediate\"\n";
    let mut planner = planner(&format!("{sink}{routes}"));
    for (transition, severity) in [
        ("opened", "medium"),
        ("escalated", "high"),
        ("escalated", "critical"),
        ("resolved", "low"),
    ] {
        planner.alert(0, &alert(1, transition, severity), NOW);
    }
    let mut ended = Vec::new();
    for _ in 0..4 {
        for (partition, delivery) in ready(&planner, NOW) {
            planner.settle(partition, &delivery.key, Outcome::Delivered, NOW, &mut |n| n);
            if let Subject::Alert { alert, earlier, .. } = &delivery.subject
                && alert.transition == "resolved"
            {
                ended.push((delivery.sink.clone(), earlier.iter().cloned().collect::<Vec<_>>()));
            }
        }
    }
    assert_eq!(ended, [("am".to_owned(), vec!["high".to_owned(), "medium".to_owned()])]);
}

#[test]
fn what_is_over_the_budget_is_ranked_into_the_digest_and_counted() {
    let budget = "[budget]\nurgent_per_100_accounts_week = 2.0\nurgent_min_week = 3\n";
    let mut planner = planner(&format!("{budget}{}", urgent("")));
    for number in 0..200 {
        let partition = i32::from(number % 2 == 1);
        planner.profile(partition, &format!("account-{number}"), Some(Profile::default()));
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
        planner.profile(0, &format!("account-{number}"), Some(profile));
        planner.alert(0, &alert(number, "opened", "medium"), NOW);
    }
    assert_eq!(tell(&mut planner, NOW).len(), 4);
    assert_eq!(planner.take_suppressed()[&Suppressed::Rate], 4);
    let profile = Profile { owner: Some("ann".to_owned()), ..Profile::default() };
    planner.profile(1, "account-9", Some(profile));
    planner.alert(1, &alert(9, "opened", "medium"), NOW);
    assert_eq!(planner.take_suppressed()[&Suppressed::Rate], 1, "over all partitions");
    planner.alert(1, &alert(9, "escalated", "medium"), NOW + HOUR_MS);
    assert_eq!(tell(&mut planner, NOW + HOUR_MS).len(), 1, "an hour later");
}

#[test]
fn routes_match_by_what_the_profile_says_and_the_first_decides() {
    let routes = r#"
        [[route]]
        name = "eu"
        region = ["eu"]
        segment = ["smb"]
        sinks = ["slack"]
        mode = "daily"
        [[route]]
        name = "rest"
        sinks = ["slack"]
        mode = "immediate"
    "#;
    let mut planner = planner(routes);
    let eu = Profile {
        region: Some("eu".to_owned()),
        segment: Some("smb".to_owned()),
        ..Profile::default()
    };
    planner.profile(0, "account-1", Some(eu.clone()));
    planner.profile(0, "account-2", Some(Profile { segment: None, ..eu }));
    for number in 1..4 {
        planner.alert(0, &alert(number, "opened", "high"), NOW);
    }
    let accounts: Vec<String> = ready(&planner, NOW).into_iter().map(|(_, d)| d.lane).collect();
    assert_eq!(accounts, ["alert-2", "alert-3"]);
    // A fleet alert is of its cohort.
    let fleet = Alert {
        kind: "fleet".to_owned(),
        account_id: "*smb".to_owned(),
        ..alert(7, "opened", "high")
    };
    planner.alert(0, &fleet, NOW);
    assert_eq!(ready(&planner, NOW).len(), 3);
}

#[test]
fn old_alerts_are_counted_and_not_told() {
    let mut planner = planner(&urgent(""));
    let old = Alert { at: Millis(NOW - 73 * HOUR_MS), ..alert(1, "opened", "critical") };
    planner.alert(0, &old, NOW);
    assert_eq!(ready(&planner, NOW), []);
    assert_eq!(planner.take_suppressed()[&Suppressed::Stale], 1);
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

/// What a planner remembers, by what it does next.
fn observable(planner: &Planner) -> Vec<(i32, Delivery)> {
    let mut all: Vec<(i32, Delivery)> = Vec::new();
    for (partition, desk) in planner.desks() {
        all.extend(desk.pending().map(|delivery| (*partition, delivery.clone())));
    }
    all
}

const TRANSITIONS: [&str; 8] =
    ["opened", "escalated", "updated", "acknowledged", "snoozed", "woken", "resolved", "reopened"];

// Compiling the texts of a policy takes far longer than a step.
static LIMITED: LazyLock<Loaded> = LazyLock::new(|| {
    let limits = "[delivery]\nattempts_max = 3\n[budget]\nurgent_min_week = 2\n";
    policy(&format!("{limits}{}", urgent("rate = { per_owner = 3, hours = 5 }\n")))
});
static PATIENT: LazyLock<Loaded> =
    LazyLock::new(|| policy(&format!("[delivery]\nattempts_max = 100\n{}", urgent(""))));

proptest! {
    /// A planner that is read back from the rows that were committed goes on as the one that wrote them would: nothing is told twice, nothing
    /// is forgotten.
    #[test]
    fn a_restart_changes_nothing(steps in proptest::collection::vec((0_u32..6, 0_u8..8, 0_u8..5, 0_i64..40), 1..60)) {
        let policy = &*LIMITED;
        let mut whole = planner_of(policy);
        let mut rows: BTreeMap<(i32, String), Option<Vec<u8>>> = BTreeMap::new();
        let mut now = NOW;
        for (number, transition, action, hours) in steps {
            now += hours * HOUR_MS / 4;
            // A process that was killed and reads its rows back.
            let mut again = planner_of(policy);
            for ((partition, key), value) in &rows {
                again.restore(*partition, key, value.as_deref()).expect("readable");
            }
            again.tidied_ms = whole.tidied_ms;
            prop_assert_eq!(observable(&again), observable(&whole));
            let transition = TRANSITIONS[usize::from(transition)];
            let event = Alert { at: Millis(now), ..alert(number, transition, "high") };
            for planner in [&mut whole, &mut again] {
                let partition = i32::from(number % 2 == 1);
                let profile = Profile { owner: Some("ann".to_owned()), ..Profile::default() };
                planner.profile(partition, &event.account_id, Some(profile));
                planner.alert(partition, &event, now);
                planner.tick(now, &|_| false);
                for (partition, delivery) in ready(planner, now) {
                    let outcome = match action {
                        0 => Outcome::Failed { detail: String::new(), retry_after_ms: None },
                        1 => Outcome::Refused { reason: Parking::Rejected, detail: String::new() },
                        2 => continue,
                        _ => Outcome::Delivered,
                    };
                    planner.settle(partition, &delivery.key, outcome, now, &mut |most| most);
                }
            }
            prop_assert_eq!(again.take_suppressed(), whole.take_suppressed());
            // Places in the order are given anew where nothing waits.
            let parked = |planner: &mut Planner| -> Vec<(String, Parking)> {
                planner.take_parked().into_iter().map(|p| (p.delivery.key, p.reason)).collect()
            };
            prop_assert_eq!(parked(&mut again), parked(&mut whole));
            for (partition, key, value) in whole.take_changes() {
                rows.insert((partition, key), value);
            }
        }
    }

    /// Each event and sink is told at most once, in order of its alert, whatever fails and is repeated.
    #[test]
    fn each_event_is_told_a_sink_at_most_once_and_in_order(steps in proptest::collection::vec((0_u32..4, 0_u8..4, any::<bool>()), 1..80)) {
        let mut planner = planner_of(&PATIENT);
        let (mut now, mut delivered) = (NOW, Vec::new());
        let words = ["opened", "escalated", "acknowledged", "resolved"];
        for (at, (number, word, works)) in steps.into_iter().enumerate() {
            now += 400_000;
            let event = Alert {
                id: format!("{at:04}"),
                at: Millis(now),
                ..alert(number, words[usize::from(word)], "high")
            };
            planner.alert(0, &event, now);
            planner.alert(0, &event, now);
            planner.tick(now, &|_| false);
            for (partition, delivery) in ready(&planner, now) {
                let Subject::Alert { alert, .. } = &delivery.subject else { continue };
                let failed = Outcome::Failed { detail: String::new(), retry_after_ms: None };
                let outcome = if works { Outcome::Delivered } else { failed };
                // What closes an incident before it rings anew is no event.
                if works && !alert.id.ends_with("/close") {
                    delivered.push((delivery.sink.clone(), alert.alert_id.clone(), alert.id.clone()));
                }
                planner.settle(partition, &delivery.key, outcome, now, &mut |most| most);
            }
        }
        let mut last: BTreeMap<(String, String), String> = BTreeMap::new();
        for (sink, alert, event) in delivered {
            let before = last.insert((sink, alert), event.clone());
            prop_assert!(before.is_none_or(|before| before < event));
        }
    }
}
