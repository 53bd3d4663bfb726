//! How long an alert may be snoozed: the core's rule, asked where somebody says so, who would not see the dead letter.

use bellwether_core::event::{Outcome, OutcomeKind};
use bellwether_core::policy::AlertPolicy;
use bellwether_core::reject::{Reason, Reject};
use bellwether_core::time::DAY_MS;

/// Refuses a snooze that ends before it begins, or later than the policy allows.
pub(crate) fn check(outcome: &Outcome, rules: &AlertPolicy) -> Result<(), Reject> {
    let Some(until) = outcome.until.filter(|_| outcome.kind == OutcomeKind::Snoozed) else {
        return Ok(());
    };
    let (at, days) = (outcome.occurred_at, rules.snooze_days_max);
    let latest = at.plus(i64::from(days) * DAY_MS);
    if until > at && until <= latest {
        return Ok(());
    }
    let detail = format!(
        "until is {until}; allowed is after {at}, up to {latest}, {days} days later (alerts.snooze_days_max of the policy)"
    );
    Err(Reject::new(Reason::OutOfRange, detail))
}
