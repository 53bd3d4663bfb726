//! A model must not see what its labels come from. Accounts here leave at random, and go quiet when they do: features
//! as known at the prediction time say nothing, those of one horizon later say everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::event::{Event, Input};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::policy::Compiled;
use bellwether_core::state::MemoryState;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, HOUR_MS, Millis};
use bellwether_learn::example::{Example, Stay, split};
use bellwether_learn::feature::{features, row};
use bellwether_learn::fit::{FitOptions, fit};
use bellwether_learn::measure::{Cadence, Judged};
use bellwether_learn::random::Random;
use bellwether_learn::resample::{Judging, Worth, judge};

const POLICY: &str = r#"
name = "logins"
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
"#;
const HORIZON_DAYS: i32 = 28;
const END_DAY: i32 = 400;
const ACCOUNTS: usize = 300;

fn policy() -> Arc<Compiled> {
    Arc::new(Compiled::parse("logins.toml", POLICY).expect("a good policy"))
}

fn at(day: i32) -> Millis {
    Millis(i64::from(day) * DAY_MS)
}

/// Active days of an account, and the day it left.
fn life(random: &mut Random) -> (Vec<i32>, Option<i32>) {
    let leaves = (random.below(2) == 0).then(|| 80 + random.below(320) as i32);
    let busy = 5 + random.below(60);
    let active = |_: &i32| random.below(100) < busy;
    ((0..leaves.unwrap_or(END_DAY)).filter(active).collect(), leaves)
}

fn login(account: usize, day: i32) -> Event {
    Event {
        id: EventId::new(&format!("{account}-{day}")).expect("an id"),
        account: AccountId::new(&account.to_string()).expect("an id"),
        occurred_at: at(day).plus(12 * HOUR_MS),
        kind: "login".to_owned(),
        member: None,
        role: None,
        feature: None,
        value: None,
        segment: None,
    }
}

/// What the engine knew of each account, week by week: (account, day).
fn known(lives: &[(Vec<i32>, Option<i32>)]) -> BTreeMap<(usize, i32), Vec<f64>> {
    let policy = policy();
    let core = Core::new(Arc::clone(&policy));
    let (mut state, mut out) = (MemoryState::default(), Vec::new());
    let mut rows = BTreeMap::new();
    for day in 0..END_DAY {
        if day % 7 == 0 {
            let Ok(verdict) = core.apply(&mut state, Input::Tick, at(day), &mut out);
            verdict.expect("time passes");
            for (id, account) in state.accounts() {
                let index = id.as_str().parse().expect("an index");
                rows.extend(
                    row(account, &policy, HORIZON_DAYS as u32).map(|row| ((index, day), row)),
                );
            }
        }
        for (account, _) in lives.iter().enumerate().filter(|(_, (days, _))| days.contains(&day)) {
            let event = login(account, day);
            let received = event.occurred_at;
            let Ok(verdict) = core.apply(&mut state, Input::Event(event), received, &mut out);
            verdict.expect("admitted");
        }
        out.clear();
    }
    rows
}

/// Weekly examples whose features are read `shift_days` after the prediction time.
fn examples(shift_days: i32) -> Vec<Example> {
    let mut random = Random::new(17);
    let lives: Vec<_> = (0..ACCOUNTS).map(|_| life(&mut random)).collect();
    let rows = known(&lives);
    let mut examples = Vec::new();
    for (index, (_, left)) in lives.iter().enumerate() {
        let stay =
            Stay { eligible_from: at(60), churned_at: left.map(at), observed_until: at(END_DAY) };
        for today in (63..END_DAY).step_by(7) {
            let outcome = stay.outcome(at(today), i64::from(HORIZON_DAYS) * DAY_MS);
            let (Some(outcome), Some(row)) = (outcome, rows.get(&(index, today + shift_days)))
            else {
                continue;
            };
            examples.push(Example {
                account: AccountId::new(&index.to_string()).expect("an id"),
                cohort: String::new(),
                at: at(today),
                features: row.clone(),
                left_after_ms: outcome.left_after_ms(),
                weight: 0.25,
            });
        }
    }
    examples
}

fn worth(shift_days: i32) -> Worth {
    let examples = examples(shift_days);
    let split = split(&examples, at(250), i64::from(HORIZON_DAYS) * DAY_MS);
    let model = fit(&features(&policy()), &split.train, &FitOptions::default()).expect("a model");
    let judged = split.test.iter().map(|example| Judged {
        rank: model.log_odds("", &example.features).relative(),
        risk: model.risk("", &example.features),
        left_after_ms: example.left_after_ms,
        account: example.account.as_str().parse().expect("an index"),
        at_ms: example.at.0,
    });
    let cadence = Cadence { step_days: 7, quiet_days: 28 };
    judge(&judged.collect::<Vec<_>>(), &Judging { draws: 200, seed: 1, recall: 0.5, cadence })
}

#[test]
fn what_is_known_at_the_prediction_time_claims_no_skill_here() {
    let worth = worth(0);
    assert!(!worth.has_skill(), "{worth:?}");
    let accuracy = worth.accuracy.expect("judged");
    assert!(accuracy.skill < 0.02, "{accuracy:?}");
}

#[test]
fn a_look_ahead_of_one_horizon_would_be_seen() {
    let worth = worth(HORIZON_DAYS);
    assert!(worth.has_skill() && worth.auc.is_some_and(|auc| auc.value > 0.7), "{worth:?}");
}
