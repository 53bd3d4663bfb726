//! What raises an alert above others of its severity: the renewal that is near, what the account is worth, its plan.
//!
//! Priority orders the work of people, in whole points from 0 to 100. It decides nothing: neither severity nor score depend on it.
//! Its parts stand in the record and sum exactly to it.

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::event::Profile;
use crate::output::Severity;
use crate::policy::PriorityPolicy;
use crate::time::Millis;

/// The most that a priority can be.
pub const PRIORITY_MAX: i32 = 100;

/// One part of a priority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityPart {
    /// `severity`, `renewal`, `value`, `plan`, or `cap` for what would lie above 100.
    pub name: String,
    /// Points; below zero for `cap` only.
    pub points: i32,
    /// Why, for people.
    pub text: String,
}

/// The priority of an alert that is no account's.
#[must_use]
pub(crate) fn of_severity(severity: Severity, rules: &PriorityPolicy) -> Vec<PriorityPart> {
    let points = rules.severity.get(severity as usize).copied().unwrap_or_default();
    let text = format!("severity {}", severity.as_str());
    vec![PriorityPart { name: "severity".to_owned(), points: points.into(), text }]
}

/// The parts of the priority of an alert of an account. They sum to 0..=100.
#[must_use]
pub(crate) fn parts(
    account: &Account,
    severity: Severity,
    at: Millis,
    rules: &PriorityPolicy,
) -> Vec<PriorityPart> {
    let part = |name: &str, points: i32, text: String| PriorityPart {
        name: name.to_owned(),
        points,
        text,
    };
    let mut parts = of_severity(severity, rules);
    if let Some(profile) = &account.profile {
        let today = account.zone().day(at);
        let mut add = |name: &str, (points, text): (i32, String)| {
            if points != 0 {
                parts.push(part(name, points, text));
            }
        };
        if let Some(renews_on) = profile.renews_on {
            let days = renews_on.since(today);
            let share = 1.0 - f64::from(days) / f64::from(rules.renewal_days);
            let points = if days >= 0 { scaled(rules.renewal_points, share) } else { 0 };
            add("renewal", (points, format!("renews in {days} days, on {renews_on}")));
        }
        if let Some(worth) = profile.annual_value_usd.filter(|worth| *worth > 0.0) {
            // Ten times the value is about three times as pressing.
            let share = (worth / rules.value_full_usd).sqrt();
            let points = scaled(rules.value_points, share);
            add("value", (points, format!("worth {worth:.0} US dollars a year")));
        }
        add("plan", plan(profile, rules));
    }
    let sum: i32 = parts.iter().map(|part| part.points).sum();
    if sum > PRIORITY_MAX {
        parts.push(part("cap", PRIORITY_MAX - sum, format!("at most {PRIORITY_MAX}")));
    }
    parts
}

fn plan(profile: &Profile, rules: &PriorityPolicy) -> (i32, String) {
    let plan = profile.plan.as_deref().unwrap_or_default();
    let points = rules.plans.get(plan).copied().unwrap_or_default();
    (points.into(), format!("plan {plan}"))
}

fn scaled(points: u16, share: f64) -> i32 {
    (f64::from(points) * share.clamp(0.0, 1.0)).round() as i32
}

/// A priority: the sum of its parts.
#[must_use]
pub fn sum(parts: &[PriorityPart]) -> i32 {
    parts.iter().map(|part| part.points).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::id::AccountId;
    use crate::time::{DAY_MS, Day};

    fn account(renews_in: Option<i32>, worth: Option<f64>, plan: Option<&str>) -> Account {
        let id = AccountId::new("a").expect("an identifier");
        let mut account = Account::new(id.clone());
        account.profile = Some(Profile {
            account: id,
            as_of: Millis(0),
            name: None,
            segment: None,
            plan: plan.map(str::to_owned),
            time_zone: None,
            region: None,
            started_on: None,
            renews_on: renews_in.map(|days| Day(100 + days)),
            owner: None,
            annual_value_usd: worth,
            entitlements: BTreeMap::new(),
            fiscal_year_end: None,
        });
        account
    }

    fn points(account: &Account, severity: Severity, rules: &PriorityPolicy) -> Vec<(String, i32)> {
        let parts = parts(account, severity, Millis(100 * DAY_MS), rules);
        assert!((0..=PRIORITY_MAX).contains(&sum(&parts)), "{parts:?}");
        parts.into_iter().map(|part| (part.name, part.points)).collect()
    }

    #[test]
    fn renewal_value_and_plan_raise_it_and_the_parts_say_by_how_much() {
        let rules = PriorityPolicy {
            plans: BTreeMap::from([("enterprise".to_owned(), 10)]),
            ..PriorityPolicy::default()
        };
        let of = |name: &str, points| (name.to_owned(), points);
        let plain = Account::new(AccountId::new("a").expect("an identifier"));
        assert_eq!(points(&plain, Severity::High, &rules), [of("severity", 55)]);
        let near = account(Some(0), Some(25_000.0), Some("pro"));
        assert_eq!(
            points(&near, Severity::High, &rules),
            [of("severity", 55), of("renewal", 15), of("value", 8)]
        );
        for renews_in in [Some(-1), Some(120), Some(4_000), None] {
            let far = account(renews_in, None, None);
            assert_eq!(points(&far, Severity::Low, &rules), [of("severity", 20)]);
        }
        let all = account(Some(0), Some(1e9), Some("enterprise"));
        let said = points(&all, Severity::Critical, &rules);
        assert_eq!(said.last(), Some(&of("cap", -10)), "{said:?}");
    }
}
