//! A learned scorecard at work in the engine: every record adds up, and what is published is what the scorecard says.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::account::Account;
use bellwether_core::event::{Event, Input, Profile};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::{Contribution, Output};
use bellwether_core::points::Points;
use bellwether_core::policy::Compiled;
use bellwether_core::score::Scorer;
use bellwether_core::standing::{Standing, Trait};
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Day, HOUR_MS, Millis};
use bellwether_learn::calibrate::Calibration;
use bellwether_learn::feature::{features, row};
use bellwether_learn::fit::{FitOptions, fit};
use bellwether_learn::scorecard::{BASE, DOUBLING, Scorecard};
use bellwether_learn::scorer::LearnedScorer;
use proptest::prelude::*;

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
    run_with(core, days, &[])
}

/// The same with these profiles from the beginning.
fn run_with(core: &Core, days: i64, profiles: &[Profile]) -> (MemoryState, Vec<Output>) {
    let (mut state, mut out) = (MemoryState::default(), Vec::new());
    for profile in profiles {
        let input = Input::Profile(profile.clone());
        let Ok(verdict) = core.apply(&mut state, input, Millis(0), &mut out);
        verdict.expect("admitted");
    }
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
    let record = out
        .iter()
        .rev()
        .filter_map(Output::health)
        .find(|record| record.account_id.as_str() == "leaves");
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
    let mut changes = out
        .iter()
        .filter_map(Output::score_changed)
        .filter(|change| change.account_id.as_str() == "stays");
    let first = changes.next().expect("the scale has changed");
    assert_eq!(first.model_version, "expert");
    for change in std::iter::once(first).chain(changes) {
        let moved: Points = change.movements.iter().map(|line| line.delta).sum();
        assert_eq!(moved, change.score - change.previous_score.unwrap_or_default());
    }
    let stays = state.accounts()[&AccountId::new("stays").expect("an id")];
    assert!(stays.standing.is_empty(), "{:?}", stays.standing);
}

/// A profile of a contract that renews on a day, and of its value.
fn contract(account: &str, renews_on: Option<i32>, annual_value_usd: Option<f64>) -> Profile {
    Profile {
        account: AccountId::new(account).expect("an id"),
        as_of: Millis(0),
        name: None,
        segment: None,
        plan: None,
        time_zone: None,
        region: None,
        started_on: None,
        renews_on: renews_on.map(Day),
        owner: None,
        annual_value_usd,
        entitlements: BTreeMap::new(),
        fiscal_year_end: None,
    }
}

/// The lines about the contract in the latest record of an account.
fn of_contract(out: &[Output], account: &str) -> Vec<Contribution> {
    let mut records = out
        .iter()
        .filter_map(Output::health)
        .filter(|record| record.account_id.as_str() == account);
    let names = ["renewal", "value", "spend"];
    let lines = records.next_back().expect("a record").contributions.iter();
    lines.filter(|line| names.contains(&line.name.as_str())).cloned().collect()
}

/// By hand: evidence is 1 on the day of the renewal and 0 from half a year before it on, by the logarithm of the days and a week. Half of it is
/// usual where no examples say, the weight is one, and ten points double the odds.
#[test]
fn a_renewal_that_is_near_costs_what_the_scorecard_says() {
    let policy = Arc::new(Compiled::parse("two.toml", POLICY).expect("a good policy"));
    let profiles = [contract("stays", Some(140), Some(25_000.0)), contract("leaves", None, None)];
    let (_, out) = run_with(&core(&policy), 130, &profiles);
    let lines = of_contract(&out, "stays");
    let [renewal, value] = &lines[..] else { panic!("spending is missing: {lines:?}") };
    let days = renewal.observed.expect("it is known");
    assert!((10.0..=60.0).contains(&days), "{days} days before day 140");
    let evidence = 1.0 - (((days + 7.0) / 7.0).ln() / (187.0_f64 / 7.0).ln());
    let expected = -(evidence - 0.5) * 10.0 / std::f64::consts::LN_2;
    assert_eq!(renewal.points, Points::from_f64(expected), "{renewal:?}");
    assert_eq!(renewal.unit, "days until renewal");
    assert_eq!((value.points, value.observed), (Points::ZERO, Some(25_000.0)), "nothing expected");
    assert!(of_contract(&out, "leaves").is_empty(), "missing is missing");
}

/// Whatever is known of contracts: records add up, a renewal that goes by takes its line with it, and the same comes out again.
#[test]
fn records_add_up_over_a_renewal() {
    let policy = Arc::new(Compiled::parse("two.toml", POLICY).expect("a good policy"));
    let profiles = [contract("stays", Some(120), Some(900.0)), contract("leaves", Some(150), None)];
    let (_, out) = run_with(&core(&policy), 150, &profiles);
    let (mut told, mut last) = (0, BTreeMap::new());
    for output in &out {
        if let Output::ScoreChanged(change) = output {
            let before = last.insert(change.account_id.clone(), change.score);
            let moved: Points = change.movements.iter().map(|line| line.delta).sum();
            assert_eq!(moved, change.score - before.unwrap_or_default());
            told += usize::from(change.movements.iter().any(|line| line.name == "renewal"));
        }
        if let Output::Health(record) = output {
            let sum: Points = record.contributions.iter().map(|line| line.points).sum();
            assert_eq!(sum, record.score);
        }
    }
    assert!(told > 5, "{told}");
    let names: Vec<String> = of_contract(&out, "stays").into_iter().map(|line| line.name).collect();
    assert_eq!(names, ["value"], "day 120 is over");
    let (_, again) = run_with(&core(&policy), 150, &profiles);
    assert_eq!(again, out);
}

/// With a sequence the policy of two has a third line, which is learned as the others are, and costs nothing where it is not known.
const SLIDE: &str = r#"
[[signal]]
name = "sentiment"
category = "support"
group = "sentiment"
direction = "down"
aggregate = "mean"
match = { types = ["support.message"] }
unit = "sentiment"
weight = 5.0
kind = "sentiment_slide"
[[sequence]]
name = "slide"
category = "support"
weight = 6.0
when = { worsening = { signal = "sentiment", times = 3, by = 0.5, within_days = 28 } }
"#;

#[test]
fn a_sequence_costs_what_was_learned_of_it() {
    let policy = Compiled::parse("two.toml", &format!("{POLICY}{SLIDE}")).expect("a good policy");
    let policy = Arc::new(policy);
    let mut card = card(&policy);
    let at = card.model.features.iter().position(|feature| feature.name == "sequence:slide");
    card.model.global.weights.segments[at.expect("a feature")].value = 1.2;
    let core =
        Core::new(Arc::clone(&policy)).scored_by(Arc::new(LearnedScorer::new("m1", 28, card)));
    let (mut state, mut out) = run(&core, 100);
    for (day, value) in [(100, 0.5), (101, 0.2), (102, -0.3)] {
        for event in [
            login("stays", day, 0),
            Event {
                kind: "support.message".to_owned(),
                value: Some(value),
                ..login("stays", day, 1)
            },
        ] {
            let at = event.occurred_at;
            let Ok(verdict) = core.apply(&mut state, Input::Event(event), at, &mut out);
            verdict.expect("admitted");
        }
    }
    let event = login("stays", 103, 0);
    let at = event.occurred_at;
    let Ok(verdict) = core.apply(&mut state, Input::Event(event), at, &mut out);
    verdict.expect("admitted");
    let record = |account: &str| {
        let id = AccountId::new(account).expect("an id");
        core.record(Account::clone(state.accounts()[&id])).expect("a record")
    };
    let line = |account: &str| {
        let lines = record(account).contributions.into_iter();
        lines.filter(|line| line.name == "slide").map(|line| line.points).next()
    };
    // All of it, where half is usual: 1.2 * (1 - .5) of log-odds.
    let expected = Points::from_f64(-0.6 * 10.0 / std::f64::consts::LN_2);
    assert_eq!((line("stays"), line("leaves")), (Some(expected), None));
    let sum: Points = record("stays").contributions.iter().map(|line| line.points).sum();
    assert_eq!(sum, record("stays").score);
    // What is learned from is what is scored.
    let id = AccountId::new("stays").expect("an id");
    let readings = row(state.accounts()[&id], &policy, 28).expect("it is known");
    assert!((readings[at_of(&policy, "sequence:slide")] - 1.0).abs() < 1e-12, "{readings:?}");
    let known = bellwether_core::drift::readings(&core, state.accounts()[&id], 28);
    assert!((known["sequence:slide"] - 1.0).abs() < 1e-12, "{known:?}");
}

fn at_of(policy: &Compiled, name: &str) -> usize {
    features(policy).iter().position(|feature| feature.name == name).expect("a feature")
}

/// The scorecard without its features about the contract, as a version from before there were any fitted it.
fn card_of_before(policy: &Compiled) -> Scorecard {
    let features = features(policy).into_iter().filter(|feature| {
        !Trait::ALL.iter().any(|of| of.is_of_contract() && of.as_str() == feature.name)
    });
    let features: Vec<_> = features.collect();
    let model = fit(&features, &[], &FitOptions::default()).expect("a model");
    Scorecard { model, doubling: DOUBLING, calibration: Calibration::default() }
}

#[test]
fn a_model_without_these_readings_scores_as_before() {
    let policy = Arc::new(Compiled::parse("two.toml", POLICY).expect("a good policy"));
    let with = |card: Scorecard| {
        Core::new(Arc::clone(&policy)).scored_by(Arc::new(LearnedScorer::new("m1", 28, card)))
    };
    let contracts = [contract("stays", Some(140), Some(9e5)), contract("leaves", Some(99), None)];
    let bare = [contract("stays", None, None), contract("leaves", None, None)];
    // Alerts have a priority, which the contract raises in any case, and examples say what is to be learned from.
    let told = |mut run: (MemoryState, Vec<Output>)| {
        run.1.retain(|output| !matches!(output, Output::Alert(_) | Output::Example(_)));
        run
    };
    let before = told(run_with(&with(card_of_before(&policy)), 150, &bare)).1;
    assert!(before.len() > 20);
    assert_eq!(told(run_with(&with(card_of_before(&policy)), 150, &contracts)).1, before);
    // One that knows them says the same of accounts of whose contracts nothing is known.
    assert_eq!(told(run_with(&with(card(&policy)), 150, &bare)).1, before);
    // And where older versions have to read what is kept, there are none of their lines.
    let (state, older) = told(run_with(&with(card(&policy)).for_older(), 150, &contracts));
    assert_eq!(older, before);
    let accounts = state.accounts();
    let lines = accounts.values().flat_map(|account| &account.standing);
    assert!(lines.clone().count() > 0 && !lines.into_iter().any(|line| line.of.is_of_contract()));
}

proptest! {
    /// Nearer renewals, smaller contracts and falling bills never earn points, whatever was learned.
    #[test]
    fn worse_contracts_never_earn_points(
        weights in prop::collection::vec(0.0f64..5.0, 3),
        days in 0.0f64..400.0,
        value in 0.0f64..2e6,
        spend in -3.0f64..3.0,
        step in 0.0f64..1.0,
    ) {
        let policy = Compiled::parse("two.toml", POLICY).expect("a good policy");
        let mut card = card(&policy);
        let known = [Trait::Renewal, Trait::Value, Trait::Spend];
        for (of, weight) in known.into_iter().zip(weights) {
            let at = card.model.features.iter().position(|feature| feature.name == of.as_str());
            // One segment each.
            card.model.global.weights.segments[at.expect("a feature")].value = weight;
        }
        let scorer = LearnedScorer::new("m1", 28, card);
        let points = |readings: [f64; 3]| {
            let mut standing = Standing([f64::NAN; Trait::ALL.len()]);
            known.into_iter().zip(readings).for_each(|(of, reading)| standing.0[of as usize] = reading);
            let said = scorer.standing("", &standing);
            known.map(|of| said.iter().find(|(name, _)| *name == of).expect("a line").1)
        };
        let better = points([days, value, spend]);
        let worse = points([days * (1.0 - step), value * (1.0 - step), spend - step]);
        for (better, worse) in better.into_iter().zip(worse) {
            prop_assert!(worse <= better, "{worse} > {better}");
        }
        prop_assert_eq!(points([f64::NAN; 3]), [Points::ZERO; 3]);
    }
}
