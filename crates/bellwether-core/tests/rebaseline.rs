//! Changes of level: what they leave of the normal while they last, and when they are the normal.

use std::sync::Arc;

use bellwether_core::account::Account;
use bellwether_core::event::{Event, Input};
use bellwether_core::expect::expect;
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::{AlertEvent, HealthRecord, Output, Resolution, Severity, Transition};
use bellwether_core::policy::Compiled;
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, Millis};

const POLICY: &str = r#"
name = "levels"
[[signal]]
name = "logins"
category = "engagement"
group = "logins"
direction = "down"
aggregate = "sum"
counted = true
match = { types = ["login"] }
unit = "logins/week"
weight = 10.0
kind = "usage_decline"
[[signal]]
name = "calls"
category = "adoption"
group = "calls"
direction = "down"
aggregate = "sum"
counted = true
match = { types = ["call"] }
unit = "calls/week"
weight = 10.0
kind = "call_decline"
[[signal]]
name = "delay"
category = "financial"
group = "delay"
direction = "up"
aggregate = "mean"
match = { types = ["paid"] }
unit = "days"
weight = 10.0
spread_min = 1.0
kind = "late_payment"
"#;
/// 2024-01-01, a Monday.
const START: Day = Day(19_723);
const DAYS_TO_LAST: i32 = 84;

fn noon(day: i32) -> Millis {
    Millis(i64::from(START.plus(day).0) * DAY_MS + DAY_MS / 2)
}

struct Run {
    core: Core,
    state: MemoryState,
    out: Vec<Output>,
}

/// An account that does about 40 of everything a day, times `level`.
fn live(days: i32, level: impl Fn(i32) -> f64) -> Run {
    let policy = Compiled::parse("levels.toml", POLICY).expect("a good policy");
    let mut run =
        Run { core: Core::new(Arc::new(policy)), state: MemoryState::default(), out: Vec::new() };
    for day in 0..days {
        for (number, kind) in ["login", "call", "paid"].into_iter().enumerate() {
            // Not the same every day, and not alike.
            let noise = f64::from((day * (7 + 4 * number as i32) + 3 * number as i32) % 13) - 6.0;
            let value = if kind == "paid" {
                5.0 / level(day) + noise / 6.0
            } else {
                (40.0 * level(day) * (1.0 + noise / 40.0)).round()
            };
            let event = Event {
                id: EventId::new(&format!("{kind}-{day}")).expect("valid"),
                account: AccountId::new("acme").expect("valid"),
                occurred_at: noon(day),
                kind: kind.to_owned(),
                member: None,
                role: None,
                feature: None,
                value: Some(value),
                segment: None,
            };
            run.apply(Input::Event(event), noon(day));
        }
    }
    run.apply(Input::Tick, noon(days));
    run
}

impl Run {
    fn apply(&mut self, input: Input, at: Millis) {
        let Ok(verdict) = self.core.apply(&mut self.state, input, at, &mut self.out);
        verdict.expect("admitted");
    }

    fn alerts(&self) -> Vec<&AlertEvent> {
        let events = self.out.iter().filter_map(Output::alert);
        events.collect()
    }

    /// The day on which each urgent alert opened.
    fn urgent(&self) -> Vec<i32> {
        let mut ids: Vec<&str> = Vec::new();
        let mut days = Vec::new();
        for alert in self.alerts().into_iter().filter(|alert| alert.severity >= Severity::High) {
            if !ids.contains(&alert.alert_id.as_str()) {
                ids.push(&alert.alert_id);
                days.push(day_of(alert.at));
            }
        }
        days
    }

    fn resolved(&self) -> Vec<(i32, Resolution)> {
        let ended = self.alerts().into_iter().filter(|it| it.transition == Transition::Resolved);
        ended.filter_map(|alert| Some((day_of(alert.at), alert.resolution?))).collect()
    }

    fn record(&self) -> HealthRecord {
        let account = self.state.accounts()[&AccountId::new("acme").expect("valid")];
        self.core.record(Account::clone(account)).expect("a record")
    }

    fn normal(&self, signal: &str) -> f64 {
        let record = self.record();
        let line = record.contributions.iter().find(|line| line.name == signal).expect("a line");
        line.baseline.expect("a normal")
    }
}

fn day_of(at: Millis) -> i32 {
    (at.0.div_euclid(DAY_MS) - i64::from(START.0)) as i32
}

fn near(value: f64, expected: f64, tolerance: f64) -> bool {
    (value - expected).abs() <= tolerance * expected
}

#[test]
fn a_level_that_lasts_is_the_normal_and_says_so() {
    const FELL: i32 = 140;
    let level = |day: i32| if day < FELL { 1.0 } else { 0.5 };
    let until = FELL + DAYS_TO_LAST;
    let before = live(until - 4, level);
    let urgent = before.urgent();
    assert!(matches!(urgent[..], [day] if (FELL..FELL + 7).contains(&day)), "{urgent:?}");
    assert_eq!(before.resolved(), [], "the alert stays for as long");
    // The old level stays what it was, to the last day.
    assert!(near(before.normal("logins"), 280.0, 0.03), "{}", before.normal("logins"));
    assert_eq!(before.record().rebaselined, []);
    let low = before.record().score.as_f64();

    let after = live(until + 4, level);
    let resolved = after.resolved();
    assert!(
        matches!(resolved[..], [(day, Resolution::Rebaselined)] if (until - 3..until + 4).contains(&day)),
        "{resolved:?}"
    );
    let last = after.alerts().last().map(|alert| alert.title.clone());
    assert_eq!(
        last.as_deref(),
        Some("churn risk: rebaselined, what was found is what is normal now")
    );
    let record = after.record();
    assert_eq!(record.evidence, []);
    let signals: Vec<&str> = record.rebaselined.iter().map(|new| new.signal.as_str()).collect();
    assert_eq!(signals, ["logins", "calls", "delay"]);
    for new in &record.rebaselined {
        let (was, is) = if new.signal == "delay" { (5.0, 10.0) } else { (280.0, 140.0) };
        assert!((new.since.since(START) - FELL).abs() <= 3, "{new}");
        assert!(near(new.before, was, 0.1) && near(new.now, is, 0.1), "{new}");
    }
    let high = record.score.as_f64();
    assert!(high > low + 15.0, "the score recovers: {low} to {high}");
    let never = live(until + 4, |_| 1.0).record().score.as_f64();
    assert!((high - never).abs() < 3.0, "{high}, {never} where nothing happened");
}

#[test]
fn a_second_decline_is_found_from_the_new_level() {
    const FELL: i32 = 140;
    const AGAIN: i32 = 300;
    let level = |day: i32| match day {
        ..FELL => 1.0,
        FELL..AGAIN => 0.5,
        _ => 0.25,
    };
    let run = live(AGAIN + 21, level);
    let urgent = run.urgent();
    // On the eighth day: the account is its own cohort, and has little say of its days after it fell for the first time.
    assert!(matches!(urgent[..], [_, day] if (AGAIN..AGAIN + 10).contains(&day)), "{urgent:?}");
    let logins = run.record().evidence.iter().find(|item| item.signal == "logins").cloned();
    let logins = logins.expect("evidence");
    assert!(near(logins.baseline, 140.0, 0.05), "{logins:?}");
    assert!(near(-logins.change_pct.expect("a change"), 50.0, 0.1), "{logins:?}");
}

#[test]
fn a_window_of_risk_that_is_overcome_is_not_what_is_normal() {
    let dip = |day: i32| if (140..170).contains(&day) { 0.5 } else { 1.0 };
    let run = live(230, dip);
    assert_eq!(run.urgent().len(), 1, "{:?}", run.urgent());
    assert_eq!(run.resolved().last().map(|end| end.1), Some(Resolution::Recovered));
    assert_eq!(run.record().rebaselined, []);
    // Half of the eight weeks of reference are weeks of the dip, and none of them counts.
    let usual = live(230, |_| 1.0).normal("logins");
    assert!(near(run.normal("logins"), usual, 0.02), "{} for {usual}", run.normal("logins"));
}

#[test]
fn what_was_gained_becomes_normal_and_can_be_lost_again() {
    const ROSE: i32 = 140;
    let level = |day: i32| match day {
        ..ROSE => 1.0,
        ROSE..300 => 2.0,
        _ => 1.0,
    };
    let risen = live(250, level);
    let risk = risen.alerts().into_iter().filter(|alert| alert.kind != "usage_spike");
    assert_eq!(risk.count(), 0, "growth is no risk");
    let signals: Vec<_> = risen.record().rebaselined.into_iter().map(|new| new.signal).collect();
    assert_eq!(signals, ["logins", "calls", "delay"]);
    let run = live(321, level);
    let lost = run.urgent();
    assert!(
        lost.iter().any(|day| (300..307).contains(day)),
        "{lost:?}: {:?}",
        run.record().evidence
    );
}

#[test]
fn signals_that_share_their_days_are_measured_over_the_same_days() {
    let policy = format!(
        "{POLICY}[[signal]]\nname = \"exports\"\ncategory = \"adoption\"\ngroup = \"exports\"\ndirection = \"down\"\naggregate = \"sum\"\n\
         counted = true\nmatch = {{ types = [\"export\"] }}\nunit = \"exports/week\"\nweight = 10.0\nkind = \"export_decline\"\n"
    );
    let policy = Compiled::parse("levels.toml", &policy).expect("a good policy");
    let mut run =
        Run { core: Core::new(Arc::new(policy)), state: MemoryState::default(), out: Vec::new() };
    let days = 235;
    for day in 0..days {
        // What all signals of the account share: restless days.
        let restless = f64::from((day * 37 + day / 7 * 11) % 29) / 14.0 - 1.0;
        for kind in ["login", "call", "export"] {
            // One of them gains, and what it gained becomes its normal.
            let gained = if kind == "export" && day >= 110 { 2.5 } else { 1.0 };
            let event = Event {
                id: EventId::new(&format!("{kind}-{day}")).expect("valid"),
                account: AccountId::new("acme").expect("valid"),
                occurred_at: noon(day),
                kind: kind.to_owned(),
                member: None,
                role: None,
                feature: None,
                value: Some((3_000.0 * (1.0 + 0.45 * restless) * gained).round()),
                segment: None,
            };
            run.apply(Input::Event(event), noon(day));
        }
    }
    run.apply(Input::Tick, noon(days));
    let normal: Vec<_> = run.record().rebaselined.into_iter().map(|it| it.signal).collect();
    assert_eq!(normal, ["exports"]);
    // Else the level of one would be off by what the days that it alone is measured by were like, and large counts would say so.
    let account = Account::clone(run.state.accounts()[&AccountId::new("acme").expect("valid")]);
    let day = account.hot.today.plus(-1);
    let policy = run.core.policy().clone();
    let expected = expect(&account, &policy, run.state.cohorts(), day);
    let days: Vec<f64> = expected.normals.iter().map(|normal| normal.days).collect();
    assert_eq!(days.len(), 3);
    assert!(days.iter().all(|measured| *measured == days[0] && *measured > 80.0), "{days:?}");
    assert!(days[0] < f64::from(235 - 110), "since the change, before the guard: {days:?}");
}
