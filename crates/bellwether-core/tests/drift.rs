//! Accounts that are no longer like those that a scorecard was learned from are noticed.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::account::Account;
use bellwether_core::drift::{Distribution, EXPECTED_DAYS, Fitted, SCORE, Survey, readings};
use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::policy::Compiled;
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, MINUTE_MS, Millis};
use common::Learned;

/// A Monday.
const START_MS: i64 = 20_402 * DAY_MS;
const ACCOUNTS: i64 = 240;
const HORIZON_DAYS: u32 = 2 * EXPECTED_DAYS;
/// Within the horizon.
const RISK: f64 = 0.19;

fn core(fitted: Option<Fitted>) -> Core {
    let risk = |readings: &BTreeMap<String, f64>| {
        assert!(readings.contains_key("signal:logins") && readings.contains_key("activity"));
        RISK
    };
    let scorer = Learned {
        version: "learned",
        horizon_days: HORIZON_DAYS,
        fitted,
        held_out: None,
        risk: Some(risk),
    };
    Core::new(Arc::new(Compiled::default_policy())).scored_by(Arc::new(scorer))
}

/// Logins on so many of ten days, more of them for some accounts than for others.
fn live(core: &Core, state: &mut MemoryState, days: std::ops::Range<i64>, of_ten: i64) {
    for day in days {
        for account in 0..ACCOUNTS {
            if (day * 7 + account * 3) % 10 >= of_ten + account % 3 {
                continue;
            }
            let at = Millis(START_MS + day * DAY_MS + DAY_MS / 2 + account * MINUTE_MS);
            let event = Event {
                id: EventId::new(&format!("{account}-{day}")).expect("good"),
                account: AccountId::new(&format!("account-{account}")).expect("good"),
                occurred_at: at,
                kind: "login".to_owned(),
                member: None,
                role: None,
                feature: None,
                value: None,
                segment: Some("smb".to_owned()),
            };
            let Ok(verdict) = core.apply(state, Input::Event(event), at, &mut Vec::new());
            verdict.expect("admitted");
        }
    }
}

fn fitted(core: &Core, accounts: &BTreeMap<&AccountId, &Account>) -> Fitted {
    let rows: Vec<_> = accounts.values().map(|of| readings(core, of, HORIZON_DAYS)).collect();
    let of = |name: &String| Distribution::of(name, rows.iter().map(|row| row[name]));
    let scores = accounts.values().map(|account| account.hot.score.as_f64());
    let all = rows[0].keys().map(of).chain([Distribution::of(SCORE, scores)]).collect();
    Fitted { all, cohorts: BTreeMap::new() }
}

fn surveyed(core: &Core, accounts: &BTreeMap<&AccountId, &Account>) -> Survey {
    let mut survey = Survey::of(core);
    for account in accounts.values() {
        survey.see(core, account);
    }
    survey
}

fn index(survey: &Survey, reading: &str) -> f64 {
    let found = survey.drift().find(|drift| drift.cohort == "smb" && drift.reading == reading);
    found.expect("it is compared").index.expect("there are enough accounts")
}

#[test]
fn what_accounts_do_no_longer_as_when_it_was_learned_drifts() {
    let mut state = MemoryState::default();
    live(&core(None), &mut state, 0..70, 6);
    let core = core(Some(fitted(&core(None), &state.accounts())));
    let same = surveyed(&core, &state.accounts());
    for drift in same.drift() {
        assert!(drift.index.expect("enough accounts") < 0.01, "{drift:?}");
    }
    let missing = |name: &str| {
        same.drift().find(|drift| drift.reading == name).expect("it is compared").missing
    };
    assert!(missing("activity") < 1e-9 && (missing("signal:support_sentiment") - 1.0).abs() < 1e-9);
    let (_, cohort) = same.cohorts().next().expect("one cohort");
    assert_eq!(cohort.accounts, ACCOUNTS as u64);
    assert_eq!(cohort.scores.iter().sum::<u64>(), ACCOUNTS as u64);
    // A risk of .19 in 56 days is one of .1 in 28.
    let lost = cohort.expected_lost.expect("it knows of risks");
    assert!((lost - 0.1 * ACCOUNTS as f64).abs() < 1e-6, "{lost}");

    live(&core, &mut state, 70..110, 2);
    let later = surveyed(&core, &state.accounts());
    assert!(index(&later, "activity") > 0.25 && index(&later, "trend") > 0.25);
    assert!(index(&later, SCORE) > 0.25);
    assert!(index(&later, "signal:support_sentiment") < 0.01, "nothing was known of it, or is");
}

#[test]
fn a_signal_that_stops_in_a_whole_cohort_is_silent_under_any_scorecard() {
    let core = Core::new(Arc::new(Compiled::default_policy()));
    let mut state = MemoryState::default();
    live(&core, &mut state, 0..70, 6);
    let silence = |state: &MemoryState| {
        let survey = surveyed(&core, &state.accounts());
        let found =
            survey.silences().find(|(cohort, name, _)| (*cohort, *name) == ("smb", "logins"));
        found.expect("it came often enough").2
    };
    assert!(silence(&state).gap_days == 0 && !silence(&state).is_unusual());
    let survey = surveyed(&core, &state.accounts());
    let missing: BTreeMap<_, _> = survey.missing().map(|(_, name, share)| (name, share)).collect();
    assert!(missing["signal:logins"] < 1e-9 && missing["signal:support_sentiment"] > 0.99);
    for day in 70..76 {
        let Ok(verdict) =
            core.apply(&mut state, Input::Tick, Millis(START_MS + day * DAY_MS), &mut Vec::new());
        verdict.expect("time passes");
    }
    let after = silence(&state);
    assert!(after.is_unusual() && (4..=5).contains(&after.days), "{after:?}");
}

#[test]
fn surveys_of_partitions_add_up() {
    let mut state = MemoryState::default();
    live(&core(None), &mut state, 0..70, 6);
    let core = core(Some(fitted(&core(None), &state.accounts())));
    let whole = surveyed(&core, &state.accounts());
    let (mut even, mut odd) = (state.accounts(), state.accounts());
    even.retain(|id, _| id.as_str().ends_with(['0', '2', '4', '6', '8']));
    odd.retain(|id, _| !even.contains_key(id));
    let half = surveyed(&core, &odd);
    assert!(half.drift().all(|drift| drift.index.is_none()), "too few accounts to tell");
    let mut sum = surveyed(&core, &even);
    sum.add(&half);
    assert_eq!(sum.drift().collect::<Vec<_>>(), whole.drift().collect::<Vec<_>>());
    assert_eq!(sum.missing().collect::<Vec<_>>(), whole.missing().collect::<Vec<_>>());
    let silences = |survey: &Survey| survey.silences().map(|(_, _, of)| of).collect::<Vec<_>>();
    assert!(!silences(&sum).is_empty() && silences(&sum) == silences(&whole));
    let lost = |survey: &Survey| survey.cohorts().map(|(_, of)| of.expected_lost).next();
    let difference = lost(&sum).flatten().zip(lost(&whole).flatten());
    assert!(difference.is_some_and(|(sum, whole)| (sum - whole).abs() < 1e-9));
}
