//! What a scorecard says of accounts is held against what becomes of them.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::drift::Survey;
use bellwether_core::event::{Event, Input, Outcome, OutcomeKind};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::policy::Compiled;
use bellwether_core::ranking::{Auc, HeldOut, Ranking};
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, MINUTE_MS, Millis};
use common::Learned;

/// A day on which a horizon of 28 days begins.
const START_MS: i64 = 729 * HORIZON * DAY_MS;
const HORIZON: i64 = 28;
const ACCOUNTS: i64 = 60;
/// Those before come less and less.
const DECLINING: i64 = 30;

fn worth(value: f64) -> HeldOut {
    HeldOut { all: Some(Auc { value, error: 0.02 }), cohorts: BTreeMap::new() }
}

fn core(version: &'static str, held_out: Option<HeldOut>) -> Core {
    let scorer = Learned { version, horizon_days: 28, fitted: None, held_out, risk: None };
    Core::new(Arc::new(Compiled::default_policy())).scored_by(Arc::new(scorer))
}

fn account(number: i64) -> AccountId {
    AccountId::new(&format!("account-{number}")).expect("good")
}

/// Four horizons and a day; of the last but one, some decline from its first week before on, and `left` leave in its middle.
fn lived(core: &Core, left: &[i64]) -> MemoryState {
    let mut state = MemoryState::default();
    live(core, &mut state, left, 0..4 * HORIZON + 2);
    state
}

fn live(core: &Core, state: &mut MemoryState, left: &[i64], days: std::ops::Range<i64>) {
    let mut tell = |input: Input, at: Millis| {
        let Ok(verdict) = core.apply(state, input, at, &mut Vec::new());
        verdict.expect("admitted");
    };
    let leaves = 3 * HORIZON + 14;
    for day in days {
        for number in 0..ACCOUNTS {
            let at = Millis(START_MS + day * DAY_MS + DAY_MS / 2 + number * MINUTE_MS);
            let is_left = left.contains(&number);
            if is_left && day == leaves {
                let outcome = Outcome {
                    id: EventId::new("o").expect("good"),
                    account: account(number),
                    occurred_at: at,
                    kind: OutcomeKind::Churned,
                    alert_id: None,
                    until: None,
                    by: None,
                    note: None,
                };
                tell(Input::Outcome(outcome), at);
            }
            let declines = number < DECLINING && day > 2 * HORIZON + 14;
            let comes = (day * 7 + number * 3) % 10 < if declines { 1 } else { 7 };
            if !comes || is_left && day >= leaves {
                continue;
            }
            let event = Event {
                id: EventId::new(&format!("{number}-{day}")).expect("good"),
                account: account(number),
                occurred_at: at,
                kind: "login".to_owned(),
                member: None,
                role: None,
                feature: None,
                value: None,
                segment: Some("smb".to_owned()),
            };
            tell(Input::Event(event), at);
        }
    }
}

fn survey(core: &Core, state: &MemoryState) -> Survey {
    let mut survey = Survey::of(core);
    for account in state.accounts().values() {
        survey.see(core, account);
    }
    survey
}

fn ranking(survey: &Survey) -> Ranking<'_> {
    let found = survey.rankings().find(|ranking| ranking.cohort == "smb");
    found.expect("a scorecard with a hold-out is judged")
}

#[test]
fn a_ranking_that_is_right_and_one_that_is_wrong_are_told_apart() {
    let core = core("learned", Some(worth(0.8)));
    let right: Vec<i64> = (0..10).collect();
    let state = lived(&core, &right);
    let all = survey(&core, &state);
    let found = ranking(&all);
    assert_eq!(found.left, 10);
    // The others three times, once for each horizon; those that left stayed for two.
    assert_eq!(found.stayed, 50 * 3 + 10 * 2);
    let live = found.live.expect("enough of both");
    assert!(live.value > 0.7 && live.error < 0.15, "{live:?}");
    assert_eq!(found.held_out, Some(Auc { value: 0.8, error: 0.02 }));

    let wrong: Vec<i64> = (DECLINING..DECLINING + 10).collect();
    let state = lived(&core, &wrong);
    let all = survey(&core, &state);
    let live = ranking(&all).live.expect("enough of both");
    assert!(live.value < 0.5, "{live:?}");
}

/// A loss that is told late was one before the horizons that began after it: the score then foretold nothing, and a fit has no such examples.
#[test]
fn what_had_left_before_a_horizon_counts_in_it_for_nothing() {
    let core = core("learned", Some(worth(0.8)));
    let state = lived(&core, &[]);
    let mut survey = Survey::of(&core);
    for (number, account) in (0..ACCOUNTS).zip(state.accounts().values()) {
        let mut account = (*account).clone();
        let day = 2 * HORIZON + 4;
        let at = Millis(START_MS + day * DAY_MS + DAY_MS / 2);
        account.hot.outcome = (number < 10).then_some((OutcomeKind::Churned, at));
        survey.see(&core, &account);
    }
    let found = ranking(&survey);
    // Ten stayed for the horizon before, left in the next one, and are not in the last.
    assert_eq!((found.left, found.stayed), (10, 50 * 3 + 10));
}

#[test]
fn few_outcomes_say_nothing() {
    let core = core("learned", Some(worth(0.8)));
    let state = lived(&core, &[0, 1, 2]);
    let all = survey(&core, &state);
    let found = ranking(&all);
    assert_eq!((found.left, found.live), (3, None));
}

#[test]
fn partitions_add_up() {
    let core = core("learned", Some(worth(0.8)));
    let left: Vec<i64> = (0..10).collect();
    let state = lived(&core, &left);
    let whole = survey(&core, &state);
    let [mut even, mut odd] = [Survey::of(&core), Survey::of(&core)];
    for (number, account) in state.accounts().values().enumerate() {
        if number % 2 == 0 { &mut even } else { &mut odd }.see(&core, account);
    }
    even.add(&odd);
    assert_eq!(ranking(&even), ranking(&whole));
}

#[test]
fn another_scorecard_begins_anew_and_one_without_a_hold_out_keeps_nothing() {
    let first = core("learned", Some(worth(0.8)));
    let mut state = lived(&first, &[]);
    assert!(state.accounts().values().all(|of| of.predicted.is_some()));
    let second = core("learned-2", Some(worth(0.7)));
    live(&second, &mut state, &[], 4 * HORIZON + 2..5 * HORIZON + 2);
    for account in state.accounts().values() {
        let known = account.predicted.as_ref().expect("a horizon began");
        assert_eq!((known.model.as_str(), known.scores.len()), ("learned-2", 1));
    }
    let expert = core("expert", None);
    live(&expert, &mut state, &[], 5 * HORIZON + 2..5 * HORIZON + 4);
    assert!(state.accounts().values().all(|of| of.predicted.is_none()));
    assert_eq!(survey(&expert, &state).rankings().count(), 0);

    let mut older = MemoryState::default();
    older.cohorts().set_unranked(true);
    live(&first, &mut older, &[], 0..2 * HORIZON);
    assert!(
        older.accounts().values().all(|of| of.predicted.is_none()),
        "older ones cannot read it"
    );
}
