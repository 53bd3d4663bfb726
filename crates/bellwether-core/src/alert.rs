//! The state machine of alerts. One open alert per account and kind; every arrow is a record ([`Transition`]).
//!
//! ```text
//!                        updated, escalated                escalated
//!                            +----+                          +----+
//!          opened            |    v       acknowledged       |    v
//! (none) -----------------> open ----------------------> acknowledged
//!    ^                      ^ |  ^                         |   ^
//!    |             reopened | |  | woken,          snoozed |   | acknowledged
//!    |                      | |  | escalated               v   |
//!    |                      | |  +---------------------- snoozed --+
//!    |                      | |         snoozed             ^      | snoozed: until another time
//!    |                      | +-----------------------------+ <----+
//!    |                      |
//!    +------------------ resolved <----- resolved, from any of the three
//!     refractory period
//! ```
//! - **opened** by evidence; **escalated** where its severity rises, **updated** where it names further signals.
//! - **acknowledged**, **snoozed** and **resolved** (`manual`) by people ([`crate::life`]). An acknowledged or snoozed alert is not
//!   announced again for further signals: they stand in its next event. An escalation is always announced; it ends a snooze, and an
//!   acknowledged alert stays so.
//! - **woken** at the first event or judgement of the account after its snooze at which evidence supports it; without any it stays quiet.
//! - **resolved** (`recovered`, of good news `passed`, or `rebaselined`) once nothing supported it for `resolve_quiet_days` day closes, and later where it is
//!   flapping, that is came back `flap_reopens` times in `flap_days`, re-opened or as a new alert: then after `flap_quiet_days`. What opens an alert must be rarer than
//!   what supports it (hysteresis). Also because a corroborated alert took it over, the outcome arrived, the account is dormant or
//!   forgotten, or it had no event for `expire_days`.
//! - **reopened**, and not a new alert, within the refractory period by news. To a corroborated alert that is evidence which began after
//!   the resolution (or in the quiet days before it, unless the alert was settled) and would be enough by itself; to a single signal's one
//!   that began after it and makes the alert more severe than it ever was; to a plain condition that it was not met since. After the
//!   refractory period, and where the account's story ended with the alert, the next one is new.
//! - **settled** is what ended though its evidence may go on: resolved by a person, or expired. For as long as that is remembered
//!   (`flap_days`, at least the refractory period) it takes what began later to open an alert of the kind; what a settled corroborated alert
//!   rested on opens none of its signals' either.
//!
//! A corroborated alert is supported while as many independent groups as it needs are in support; one signal does not keep it.
//! While the account's cohort deviates as a whole ([`crate::fleet`]), new alerts are held back, but for those that are rare even then.
//! Signals without weight are watched for themselves: they make alerts of their own kind, and confirm no others.
//! Alerts that rest on plain conditions ([`crate::condition`]) go through the same machine; their condition is what supports them.
//! Corroborated evidence is one `churn_risk` alert, which takes over the single-signal alerts of its signals.

mod desk;
mod record;

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::cohort::Cohorts;
use crate::condition;
use crate::corroborate::{Alarm, Assessment, Corroborated};
use crate::feedback::Sensitivity;
use crate::life;
use crate::output::{Evidence, Output, Resolution, Severity, Transition};
use crate::policy::Compiled;
use crate::policy_check::{CORROBORATED_KIND, SPIKE_KIND};
use crate::time::Millis;

pub(crate) use desk::{Desk, Remark};
pub(crate) use record::{standing, strongest_first};

/// An alert that is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenAlert {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// The highest severity so far.
    pub severity: Severity,
    /// When it opened.
    pub opened_at: Millis,
    /// Events published of it so far.
    pub sequence: u32,
    /// The last of them, and its event time.
    pub last: (Transition, Millis),
    /// Signals that it has named, with the baseline each had then: what "recovered" is measured against.
    pub signals: Vec<(String, f64)>,
    /// Day closes in a row on which nothing supported it.
    pub quiet_days: u16,
}

/// What keeps alerts of one signal back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Restraint {
    /// Whether those that are not urgent are held back, because the account's cohort deviates as a whole.
    pub held: bool,
    /// How often they may come by chance, by what people said of them.
    pub sensitivity: Sensitivity,
}

/// Reviews the alerts of an account against its evidence, and at the judgement of a day against what was found: then it counts quiet
/// days, too. Returns whether any alert changed.
pub(crate) fn review(
    account: &mut Account,
    policy: &Compiled,
    model_version: &str,
    (at, restraint): (Millis, Restraint),
    found: Option<&Corroborated>,
    out: &mut Vec<Output>,
) -> bool {
    let evidence: Vec<Evidence> = account
        .hot
        .signals
        .iter()
        .filter_map(|state| state.evidence.clone())
        .filter(|evidence| evidence.risk)
        .collect();
    let before = out.len();
    let mut desk = Desk { account, policy, model_version, at, restraint, out };
    let witnesses: Vec<Evidence> =
        evidence.iter().filter(|item| policy.corroborates(&item.signal)).cloned().collect();
    let mut assessment = desk.assess(witnesses.iter());
    let alarm = found.and_then(|found| found.alarm.as_ref());
    let rise = found.and_then(|found| found.rise.as_ref());
    assessment.supported |= found.is_some_and(|found| found.supported);
    if let Some(rise) = rise {
        desk.raise(SPIKE_KIND, rise.severity, &rise.evidence, &heard(rise));
    }
    match alarm {
        Some(alarm) if !desk.corroborated_rests(alarm, &witnesses) => {
            let mut agreed = heard(alarm);
            agreed.supported = true;
            desk.raise(CORROBORATED_KIND, alarm.severity, &witnesses, &agreed);
            desk.fold(&witnesses);
        }
        Some(_) | None => desk.singles(&evidence, &witnesses, &assessment),
    }
    desk.support(&evidence, assessment.supported, rise.is_some(), found.is_some());
    desk.out.len() > before
}

/// Raises the alert of a rise that was found while its day is open.
pub(crate) fn spike(
    account: &mut Account,
    policy: &Compiled,
    model_version: &str,
    at: Millis,
    rise: &Alarm,
    out: &mut Vec<Output>,
) {
    let mut desk =
        Desk { account, policy, model_version, at, restraint: Restraint::default(), out };
    desk.raise(SPIKE_KIND, rise.severity, &rise.evidence, &heard(rise));
}

/// Reviews the alerts that rest on plain conditions, when a day is judged.
pub(crate) fn review_conditions(
    account: &mut Account,
    policy: &Compiled,
    model_version: &str,
    cohorts: &Cohorts,
    (at, restraint): (Millis, Restraint),
    out: &mut Vec<Output>,
) {
    let mut desk = Desk { account, policy, model_version, at, restraint, out };
    // A corroborated alert stays the one place for what goes wrong, and whoever resolved it knows.
    let is_said =
        desk.open(CORROBORATED_KIND).is_some() || desk.resting_since(CORROBORATED_KIND).is_some();
    for condition in &policy.conditions {
        let met = condition::met(desk.account, policy, Some(cohorts), condition);
        if met.is_empty() && desk.open(&condition.kind).is_none() {
            life::passed(desk.account, &condition.kind);
        }
        let waits = condition.risk && (is_said || desk.restraint.held);
        let may_open = !waits || desk.open(&condition.kind).is_some();
        if may_open && !met.is_empty() {
            desk.raise(&condition.kind, condition.severity, &met, &Assessment::default());
        }
        if let Some(index) = desk.open(&condition.kind) {
            let alert = desk.account.hot.alerts[index].clone();
            desk.support_one(&alert, !met.is_empty(), true);
        }
    }
}

/// Whether a signal of the account would be alerted by itself.
pub(crate) fn would_open(account: &Account, policy: &Compiled) -> bool {
    let evidence = account.hot.signals.iter().filter_map(|state| state.evidence.as_ref());
    let mut risky = evidence.filter(|evidence| evidence.risk);
    risky.any(|evidence| evidence.z.abs() >= policy.deviation.z_alone)
}

/// The groups that an alarm rests on.
fn heard(alarm: &Alarm) -> Assessment {
    let groups = alarm.evidence.iter().map(|item| (item.group.clone(), item.z.abs())).collect();
    Assessment { groups, supported: true, family: Some(alarm.family) }
}

/// Ends every open alert of an account for one reason.
pub(crate) fn resolve_all(
    account: &mut Account,
    policy: &Compiled,
    model_version: &str,
    at: Millis,
    resolution: Resolution,
    out: &mut Vec<Output>,
) {
    let mut desk =
        Desk { account, policy, model_version, at, restraint: Restraint::default(), out };
    let kinds: Vec<String> =
        desk.account.hot.alerts.iter().map(|alert| alert.kind.clone()).collect();
    for kind in kinds {
        desk.resolve(&kind, resolution);
    }
}

/// Ends alerts of these kinds whose signals have a new normal.
pub(crate) fn rebaselined(
    account: &mut Account,
    policy: &Compiled,
    model_version: &str,
    at: Millis,
    kinds: &[String],
    out: &mut Vec<Output>,
) {
    let mut desk =
        Desk { account, policy, model_version, at, restraint: Restraint::default(), out };
    for kind in kinds {
        desk.resolve(kind, Resolution::Rebaselined);
    }
}
