//! A learned scorecard at work in the engine: every record adds up, and what is published is what the scorecard says.

use std::sync::Arc;

use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::Output;
use bellwether_core::points::Points;
use bellwether_core::policy::Compiled;
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, HOUR_MS, Millis};
use bellwether_learn::calibrate::Calibration;
use bellwether_learn::feature::features;
use bellwether_learn::fit::{FitOptions, fit};
use bellwether_learn::scorecard::{BASE, DOUBLING, Scorecard};
use bellwether_learn::scorer::LearnedScorer;

const POLICY: &str = r#"
name = "two"
[[signal]]
name = "logins"
category = "engagement"
group = "logins"
direction = "down"
aggregate = "count"
match = { types = ["login"] }
unit = "logins/week"
weight = 10.0
kind = "usage_decline"
[[signal]]
name = "users"
category = "engagement"
group = "users"
direction = "down"
aggregate = "distinct_members"
match = { types = ["login"] }
unit = "users/week"
weight = 8.0
kind = "member_attrition"
"#;

/// The scorecard without any outcome: what is expected.
fn card(policy: &Compiled) -> Scorecard {
    let model = fit(&features(policy), &[], &FitOptions::default()).expect("a model");
    Scorecard { model, doubling: DOUBLING, calibration: Calibration::default() }
}

fn login(account: &str, day: i64, number: i64) -> Event {
    Event {
        id: EventId::new(&format!("{account}-{day}-{number}")).expect("an id"),
        account: AccountId::new(account).expect("an id"),
        occurred_at: Millis(day * DAY_MS + 9 * HOUR_MS + number),
        kind: "login".to_owned(),
        member: Some(
            bellwether_core::id::MemberId::new(&format!("user{}", number % 4)).expect("an id"),
        ),
        role: None,
        feature: None,
        value: None,
        segment: None,
    }
}

/// Two accounts that are busy every day, of which one falls silent after 100 days, for so many days in all.
fn run(core: &Core, days: i64) -> (MemoryState, Vec<Output>) {
    let (mut state, mut out) = (MemoryState::default(), Vec::new());
    for day in 0..days {
        for account in ["stays", "leaves"] {
            let logins = if account == "leaves" && day >= 100 { 0 } else { 4 + day % 3 };
            for number in 0..logins {
                let event = login(account, day, number);
                let at = event.occurred_at;
                let Ok(verdict) = core.apply(&mut state, Input::Event(event), at, &mut out);
                verdict.expect("admitted");
            }
        }
    }
    (state, out)
}

fn core(policy: &Arc<Compiled>) -> Core {
    let scorer = LearnedScorer::new("m1", 28, card(policy));
    Core::new(Arc::clone(policy)).scored_by(Arc::new(scorer))
}

#[test]
fn every_record_adds_up_and_names_the_model() {
    let policy = Arc::new(Compiled::parse("two.toml", POLICY).expect("a good policy"));
    let (_, out) = run(&core(&policy), 150);
    let (mut changes, mut last) = (0, std::collections::BTreeMap::new());
    for output in &out {
        match output {
            Output::Health(record) => {
                let sum: Points = record.contributions.iter().map(|line| line.points).sum();
                assert_eq!(sum, record.score);
                assert_eq!(record.contributions[0].points, BASE);
                assert_eq!(record.model_version, "m1");
            }
            Output::ScoreChanged(change) => {
                let before = last.insert(change.account_id.clone(), change.score);
                assert_eq!(change.previous_score, before);
                let moved: Points = change.movements.iter().map(|line| line.delta).sum();
                assert_eq!(moved, change.score - before.unwrap_or_default());
                changes += 1;
            }
            Output::Alert(_) | Output::Shadow(_) | Output::Example(_) | Output::Forgotten(_) => {}
        }
    }
    assert!(changes > 10, "{changes}");
}

#[test]
fn silence_costs_what_the_scorecard_says_and_busy_days_do_not() {
    let policy = Arc::new(Compiled::parse("two.toml", POLICY).expect("a good policy"));
    let (state, out) = run(&core(&policy), 150);
    let score = |id: &str| state.accounts()[&AccountId::new(id).expect("an id")].hot.score;
    assert!(score("stays") > BASE && score("leaves") < score("stays") - Points(1_500));
    // By hand: after 28 days of silence half the weight of its days of late is gone, twice over for the shorter half-life of 14 days.
    let record = out.iter().rev().find_map(|output| match output {
        Output::Health(record) if record.account_id.as_str() == "leaves" => Some(record),
        Output::Health(_)
        | Output::Alert(_)
        | Output::ScoreChanged(_)
        | Output::Shadow(_)
        | Output::Example(_)
        | Output::Forgotten(_) => None,
    });
    let record = record.expect("a record");
    let observed = |name: &str| {
        let line = record.contributions.iter().find(|line| line.name == name);
        line.and_then(|line| line.observed).expect("a reading")
    };
    let days = record.at.0.div_euclid(DAY_MS) - 100;
    let expected = |half_life: f64| {
        let kept = |days: i64| (-(days as f64) / half_life).exp2();
        // Of the days that are kept, the newest so many were silent.
        let age = (100 + days).min(128);
        (kept(days) - kept(age)) / (1.0 - kept(age))
    };
    for (name, half_life) in [("activity", 14.0), ("habit", 28.0)] {
        let (found, expected) = (observed(name), expected(half_life));
        assert!((found - expected).abs() < 0.05, "{name} {found}, {expected} after {days} days");
    }
}

#[test]
fn back_to_expert_weights_the_lines_leave_as_they_came() {
    let policy = Arc::new(Compiled::parse("two.toml", POLICY).expect("a good policy"));
    let (mut state, mut out) = run(&core(&policy), 120);
    let expert = Core::new(Arc::clone(&policy));
    out.clear();
    for day in 120..140 {
        let event = login("stays", day, 0);
        let at = event.occurred_at;
        let Ok(verdict) = expert.apply(&mut state, Input::Event(event), at, &mut out);
        verdict.expect("admitted");
    }
    let mut changes = out.iter().filter_map(|output| match output {
        Output::ScoreChanged(change) if change.account_id.as_str() == "stays" => Some(change),
        Output::ScoreChanged(_)
        | Output::Health(_)
        | Output::Alert(_)
        | Output::Shadow(_)
        | Output::Example(_)
        | Output::Forgotten(_) => None,
    });
    let first = changes.next().expect("the scale has changed");
    assert_eq!(first.model_version, "expert");
    for change in std::iter::once(first).chain(changes) {
        let moved: Points = change.movements.iter().map(|line| line.delta).sum();
        assert_eq!(moved, change.score - change.previous_score.unwrap_or_default());
    }
    let stays = &state.accounts()[&AccountId::new("stays").expect("an id")];
    assert!(stays.standing.is_empty(), "{:?}", stays.standing);
}
