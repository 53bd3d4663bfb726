//! Examples to learn from: what a scorecard would read of every account, every so many days.
//!
//! Who leaves is known later, when the days that led up to it may be gone from the topics of events, and baselines have moved on. So what was
//! known is published when it is known, and a fit needs no history but that ([`LearningExample`]). Days are counted from a Monday, the same for all
//! accounts, each by its own calendar.
//!
//! # Invariants
//! - Readings are those of an expert's scorecard, whichever scores: examples of before and after a promotion are alike.
//! - Nothing else that is published, and no state, depends on whether there are examples.

use crate::account::Account;
use crate::drift;
use crate::output::{LearningExample, Output};
use crate::publish::content_id;
use crate::step::Core;
use crate::time::{Day, Millis};

/// 1970-01-05, a Monday.
const MONDAY: Day = Day(4);

/// Publishes an example of an account whose `day` was just judged, where it is the last one before the day of examples.
pub(crate) fn follow(
    core: &Core,
    account: &Account,
    (day, at): (Day, Millis),
    out: &mut Vec<Output>,
) {
    let learning = &core.policy.learning;
    let (step_days, horizon_days) = (learning.example_days, learning.horizon_days);
    let is_due = step_days > 0 && day.plus(1).since(MONDAY).rem_euclid(i32::from(step_days)) == 0;
    if !is_due || account.hot.first_event_at.is_none() {
        return;
    }
    let readings = drift::readings(core, account, u32::from(horizon_days));
    let policy_version = core.policy.version();
    let of_day = day.0.to_string();
    let content = [account.id.as_str(), "example", &of_day, policy_version];
    out.push(Output::Example(Box::new(LearningExample {
        id: content_id(&content),
        account_id: account.id.clone(),
        segment: account.segment().map(str::to_owned),
        at,
        horizon_days: u32::from(horizon_days),
        step_days: u32::from(step_days),
        readings: readings
            .into_iter()
            .map(|(name, value)| (name, Some(value).filter(|value| value.is_finite())))
            .collect(),
        readings_version: core.policy.examples_version().to_owned(),
        policy_version: policy_version.to_owned(),
    })));
}
