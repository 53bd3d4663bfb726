//! What is told, where and in which order.

use super::*;

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
    planner.profile(0, "account-1", eu.clone());
    planner.profile(0, "account-2", Profile { segment: None, ..eu });
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
