//! A model must not see what its labels come from. Accounts here leave at random, and go quiet when they do: features
//! as known at the prediction time say nothing, those of one horizon later say everything.

use bellwether_core::id::AccountId;
use bellwether_core::time::{DAY_MS, Day, Millis};
use bellwether_learn::example::{Example, Stay, split};
use bellwether_learn::feature::{Activity, standard};
use bellwether_learn::fit::{FitOptions, fit};
use bellwether_learn::measure::{Cadence, Judged};
use bellwether_learn::random::Random;
use bellwether_learn::resample::{Judging, Worth, judge};

const HORIZON_DAYS: i32 = 28;
const END_DAY: i32 = 400;
const ACCOUNTS: usize = 300;

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

/// Weekly examples whose features are read `shift_days` after the prediction time.
fn examples(shift_days: i32) -> Vec<Example> {
    let mut random = Random::new(17);
    let mut examples = Vec::new();
    for index in 0..ACCOUNTS {
        let (days, left) = life(&mut random);
        let stay =
            Stay { eligible_from: at(60), churned_at: left.map(at), observed_until: at(END_DAY) };
        for today in (63..END_DAY).step_by(7) {
            let Some(outcome) = stay.outcome(at(today), i64::from(HORIZON_DAYS) * DAY_MS) else {
                continue;
            };
            let mut activity = Activity::new(HORIZON_DAYS as u32);
            for day in days.iter().filter(|day| **day < today + shift_days) {
                activity.close_day(Day(*day), 1.0);
            }
            examples.push(Example {
                account: AccountId::new(&format!("{index}")).expect("an id"),
                cohort: String::new(),
                at: at(today),
                features: activity.readings(Day(today + shift_days), 0.3, f64::NAN).row(),
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
    let model = fit(&standard(), &split.train, &FitOptions::default()).expect("a model");
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
