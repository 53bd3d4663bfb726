//! What an alert goes through beyond being open: what people say to it, how it ended, and whether it comes back.
//!
//! People's commands are inputs like any other ([`OutcomeKind::is_command`]): they have their place in the log, so a replay and a restart
//! meet them where they were. [`crate::alert`] has the state machine as a whole.
//!
//! A kind has at most one [`Life`] in an account: that of its open alert, or of the last one that ended, for as long as it may come back
//! or counts as flapping. An alert that nobody said anything to and that never came back has none before it ends.

use serde::{Deserialize, Serialize};

use crate::account::{Account, Row};
use crate::alert::{Desk, OpenAlert, Remark, Restraint};
use crate::event::{Outcome, OutcomeKind};
use crate::feedback;
use crate::output::{AlertState, Evidence, Output, Resolution, Severity, Transition};
use crate::policy::{AlertPolicy, Compiled};
use crate::policy_check::SPIKE_KIND;
use crate::reject::{Reason, Reject};
use crate::time::{DAY_MS, Millis};

/// What an alert went through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The alert's id.
    pub alert: String,
    /// Its kind.
    pub kind: String,
    /// When it opened first.
    pub opened_at: Millis,
    /// Where it stands.
    pub standing: Standing,
    /// The last command, when it was said, and by whom.
    pub said: Option<(OutcomeKind, Millis, Option<String>)>,
    /// When it came back, as far as that counts for flapping; oldest first.
    pub came_back: Vec<Millis>,
    /// How often it came back in all.
    pub reopened: u32,
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Nobody has taken it on.
    Open,
    /// Somebody has.
    Acknowledged,
    /// It is quiet until then.
    Snoozed(Millis),
    /// It ended.
    Ended(Ended),
}

/// How an alert ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub at: Millis,
    /// Why.
    pub resolution: Resolution,
    /// Its highest severity.
    pub severity: Severity,
    /// Events published of it.
    pub sequence: u32,
}

impl Standing {
    /// The state, for records.
    #[must_use]
    pub fn state(self) -> AlertState {
        match self {
            Standing::Open => AlertState::Open,
            Standing::Acknowledged => AlertState::Acknowledged,
            Standing::Snoozed(_) => AlertState::Snoozed,
            Standing::Ended(_) => AlertState::Resolved,
        }
    }

    /// Until when it is quiet.
    #[must_use]
    pub fn until(self) -> Option<Millis> {
        match self {
            Standing::Snoozed(until) => Some(until),
            Standing::Open | Standing::Acknowledged | Standing::Ended(_) => None,
        }
    }
}

impl Life {
    fn of(alert: &OpenAlert) -> Life {
        Life {
            alert: alert.id.clone(),
            kind: alert.kind.clone(),
            opened_at: alert.opened_at,
            standing: Standing::Open,
            said: None,
            came_back: Vec::new(),
            reopened: 0,
        }
    }

    /// Whether it ended and came back so often lately that it is to stay open longer.
    fn is_flapping(&self, at: Millis, rules: &AlertPolicy) -> bool {
        let since = at.plus(-i64::from(rules.flap_days) * DAY_MS);
        let lately = self.came_back.iter().filter(|when| **when > since).count();
        lately >= usize::from(rules.flap_reopens)
    }

    /// Whether a command is the last one again.
    fn has_heard(&self, outcome: &Outcome) -> bool {
        let said = self.said.as_ref();
        said.is_some_and(|(kind, at, _)| (*kind, *at) == (outcome.kind, outcome.occurred_at))
    }

    /// Commands from before this are overtaken. Events may be ahead by so many milliseconds.
    fn said_since(&self, ahead: i64) -> Option<Millis> {
        let said = self.said.as_ref().map(|(_, at, _)| *at);
        said.max(self.came_back.last().map(|at| at.plus(-ahead)))
    }
}

/// The life of an alert, if there is anything to say of it.
pub(crate) fn of<'a>(account: &'a Account, alert: &str) -> Option<&'a Life> {
    account.lives.iter().find(|life| life.alert == alert)
}

/// Where an open alert stands.
pub(crate) fn standing(account: &Account, alert: &str) -> Standing {
    of(account, alert).map_or(Standing::Open, |life| life.standing)
}

/// The life of an open alert, to be changed. It takes the place of an earlier one of the kind.
fn change<'a>(account: &'a mut Account, alert: &OpenAlert) -> &'a mut Life {
    account.changed.note(Row::Lives);
    let lives = &mut account.lives;
    let at = lives.iter().position(|life| life.alert == alert.id).unwrap_or_else(|| {
        lives.retain(|life| life.kind != alert.kind);
        lives.push(Life::of(alert));
        lives.len() - 1
    });
    &mut lives[at]
}

/// Moves an open alert to another standing.
pub(crate) fn set(account: &mut Account, alert: &OpenAlert, to: Standing) {
    if standing(account, &alert.id) != to {
        change(account, alert).standing = to;
    }
}

/// Whether the quiet time of one of an account's alerts is over that may wake within a day.
pub(crate) fn is_due(account: &Account, policy: &Compiled, at: Millis) -> bool {
    let due = |life: &&Life| life.standing.until().is_some_and(|until| until <= at);
    let within_a_day = |life: &Life| life.kind != SPIKE_KIND && !policy.is_condition(&life.kind);
    account.lives.iter().filter(due).any(within_a_day)
}

/// Days without support after which an alert ends: more where it is flapping.
pub(crate) fn quiet_days(account: &Account, alert: &str, at: Millis, rules: &AlertPolicy) -> u16 {
    let flaps = of(account, alert).is_some_and(|life| life.is_flapping(at, rules));
    if flaps { rules.flap_quiet_days } else { rules.resolve_quiet_days }
}

/// Whether nothing happened to an open alert for so long that it ends. A snooze is something that somebody still waits for.
pub(crate) fn is_stale(
    account: &Account,
    alert: &OpenAlert,
    at: Millis,
    rules: &AlertPolicy,
) -> bool {
    let last = standing(account, &alert.id).until().max(Some(alert.last.1));
    last.is_none_or(|last| at.0 - last.0 >= i64::from(rules.expire_days) * DAY_MS)
}

/// Remembers that a new alert is the return of one that ended lately.
pub(crate) fn opened(account: &mut Account, alert: &OpenAlert, rules: &AlertPolicy) {
    let since = alert.opened_at.plus(-i64::from(rules.flap_days) * DAY_MS);
    let Some((last, ended)) = last_of(account, &alert.kind) else { return };
    if ended.at <= since {
        return;
    }
    let mut came_back = last.came_back.clone();
    came_back.retain(|when| *when > since);
    came_back.push(alert.opened_at);
    change(account, alert).came_back = came_back;
}

/// Remembers how an alert ended; forgets those that can no longer come back.
pub(crate) fn ended(
    account: &mut Account,
    alert: &OpenAlert,
    (at, resolution): (Millis, Resolution),
    rules: &AlertPolicy,
) {
    let (severity, sequence) = (alert.severity, alert.sequence);
    // The word for people came later than the rows: what it means for the alert's life is the same.
    let resolution =
        if resolution == Resolution::Passed { Resolution::Recovered } else { resolution };
    change(account, alert).standing = Standing::Ended(Ended { at, resolution, severity, sequence });
    let reach = i64::from(rules.refractory_days.max(rules.flap_days)) * DAY_MS;
    account.lives.retain(|life| match life.standing {
        Standing::Ended(ended) => at.0 - ended.at.0 <= reach,
        Standing::Open | Standing::Acknowledged | Standing::Snoozed(_) => true,
    });
}

/// The alert of a kind that ended last, as far as it may come back: one that ended for its own sake, and not because its account's story
/// did, or because another alert took it over.
pub(crate) fn last_of<'a>(account: &'a Account, kind: &str) -> Option<(&'a Life, Ended)> {
    let life = account.lives.iter().find(|life| life.kind == kind)?;
    let Standing::Ended(ended) = life.standing else { return None };
    let for_its_own_sake = match ended.resolution {
        Resolution::Recovered
        | Resolution::Rebaselined
        | Resolution::Manual
        | Resolution::Expired
        | Resolution::Passed => true,
        Resolution::Folded | Resolution::Outcome | Resolution::Dormant | Resolution::Forgotten => {
            false
        }
    };
    for_its_own_sake.then_some((life, ended))
}

/// When the last alert of a kind was settled: it ended though what it rested on may go on.
pub(crate) fn settled(account: &Account, kind: &str) -> Option<Millis> {
    let (_, ended) = last_of(account, kind)?;
    matches!(ended.resolution, Resolution::Manual | Resolution::Expired).then_some(ended.at)
}

/// Notes that what a condition's alert rested on when it was settled is over, so that it is news when it comes again.
pub(crate) fn passed(account: &mut Account, kind: &str) {
    if settled(account, kind).is_none() {
        return;
    }
    let life = account.lives.iter_mut().find(|life| life.kind == kind);
    if let Some(Standing::Ended(ended)) = life.map(|life| &mut life.standing) {
        ended.resolution = Resolution::Recovered;
        account.changed.note(Row::Lives);
    }
}

/// Whether evidence is news to a single signal's alert that rests: it began after the alert ended, and it is more severe than that
/// ever was.
pub(crate) fn is_news(
    account: &Account,
    kind: &str,
    severity: Severity,
    evidence: &[Evidence],
) -> bool {
    let Some((_, ended)) = last_of(account, kind) else { return false };
    let ended_on = account.zone().day(ended.at);
    severity > ended.severity && evidence.iter().any(|item| item.onset > ended_on)
}

/// Whether evidence began after the last alert of the kind was settled, if it was.
pub(crate) fn began_since(account: &Account, kind: &str, evidence: &[Evidence]) -> bool {
    let settled_on = settled(account, kind).map(|at| account.zone().day(at));
    settled_on.is_none_or(|day| evidence.iter().any(|item| item.onset > day))
}

/// The alert that ended, open again.
pub(crate) fn reopen(
    account: &mut Account,
    kind: &str,
    (severity, at): (Severity, Millis),
    rules: &AlertPolicy,
) -> Option<OpenAlert> {
    let (life, ended) = last_of(account, kind)?;
    let alert = OpenAlert {
        id: life.alert.clone(),
        kind: kind.to_owned(),
        severity,
        opened_at: life.opened_at,
        sequence: ended.sequence,
        last: (Transition::Reopened, at),
        signals: Vec::new(),
        quiet_days: 0,
    };
    let life = change(account, &alert);
    life.standing = Standing::Open;
    life.reopened += 1;
    let since = at.plus(-i64::from(rules.flap_days) * DAY_MS);
    life.came_back.retain(|when| *when > since);
    life.came_back.push(at);
    Some(alert)
}

/// Takes what somebody wants of an alert, or says why not.
pub(crate) fn command(
    account: &mut Account,
    policy: &Compiled,
    model_version: &str,
    outcome: &Outcome,
    out: &mut Vec<Output>,
) -> Result<(), Reject> {
    let alert = addressed(account, outcome, policy)?;
    let to = wanted(account, &alert, outcome, policy)?;
    let (said_at, by) = (outcome.occurred_at, outcome.by.clone());
    change(account, &alert).said = Some((outcome.kind, said_at, by));
    // Records of an alert carry rising times, whenever people's words arrive.
    let at = said_at.max(alert.last.1);
    let remark = Remark { by: outcome.by.clone(), note: outcome.note.clone(), ..Remark::default() };
    let restraint = Restraint::default();
    let mut desk = Desk { account, policy, model_version, at, restraint, out };
    match to {
        Some((standing, transition)) => {
            set(desk.account, &alert, standing);
            desk.say(&alert.kind, transition, remark);
        }
        None => {
            let resolution = Some(Resolution::Manual);
            desk.end(&alert.kind, Remark { resolution, ..remark });
        }
    }
    Ok(())
}

/// The open alert that a command is to.
fn addressed(account: &Account, outcome: &Outcome, policy: &Compiled) -> Result<OpenAlert, Reject> {
    let (of, at) = (&outcome.account, outcome.occurred_at);
    // The event that opened it may have come from a clock that is ahead.
    let ahead = policy.future_ms();
    let Some(id) = &outcome.alert_id else {
        let detail = "alert_id is missing: a command says which alert it is to";
        return Err(Reject::new(Reason::InvalidField, detail));
    };
    // A withheld alert was shown to nobody.
    let withheld = feedback::is_withheld(account, id);
    let open = account.hot.alerts.iter().find(|alert| alert.id == *id);
    if let Some(alert) = open.filter(|_| !withheld) {
        if at < alert.opened_at.plus(-ahead) {
            let opened = alert.opened_at;
            let detail = format!("occurred_at is {at}, before alert {id} opened, at {opened}");
            return Err(Reject::new(Reason::OutOfRange, detail));
        }
        return Ok(alert.clone());
    }
    let life = self::of(account, id);
    if life.is_some_and(|life| life.has_heard(outcome)) {
        return Err(Reject::new(Reason::Duplicate, format!("this command to alert {id} is known")));
    }
    let known = account.raised.iter().any(|raised| raised.alert == *id);
    if !withheld && (known || life.is_some()) {
        let detail = format!("alert {id} of account {of} has ended");
        return Err(Reject::new(Reason::AlertClosed, detail));
    }
    Err(Reject::new(Reason::UnknownAlert, format!("alert {id} of account {of} is not known")))
}

/// Where a command moves an open alert, and what that is called; none: to its end.
fn wanted(
    account: &Account,
    alert: &OpenAlert,
    outcome: &Outcome,
    policy: &Compiled,
) -> Result<Option<(Standing, Transition)>, Reject> {
    let (id, at) = (&alert.id, outcome.occurred_at);
    let life = of(account, id);
    // Producers repeat themselves: what was undone since is not to be done again.
    if life.is_some_and(|life| life.has_heard(outcome)) {
        return Err(Reject::new(Reason::Duplicate, format!("this command to alert {id} is known")));
    }
    let since = life.and_then(|life| life.said_since(policy.future_ms()));
    if let Some(since) = since.filter(|since| at < *since) {
        let detail = format!("occurred_at is {at}, but alert {id} has moved on since, at {since}");
        return Err(Reject::new(Reason::TooLate, detail));
    }
    let to = if outcome.kind == OutcomeKind::Acknowledged {
        (Standing::Acknowledged, Transition::Acknowledged)
    } else if outcome.kind == OutcomeKind::Snoozed {
        (Standing::Snoozed(snoozed_until(outcome, &policy.alerts)?), Transition::Snoozed)
    } else {
        return Ok(None);
    };
    if standing(account, id) == to.0 {
        let detail = format!("alert {id} is {} already", to.0.state().as_str());
        return Err(Reject::new(Reason::Duplicate, detail));
    }
    Ok(Some(to))
}

/// Until when a snooze is to last.
///
/// # Errors
/// `invalid_field` where it does not say, `out_of_range` where that is before it begins, or later than the policy allows.
pub fn snoozed_until(outcome: &Outcome, rules: &AlertPolicy) -> Result<Millis, Reject> {
    let at = outcome.occurred_at;
    let Some(until) = outcome.until else {
        let detail = "until is missing: a snooze says when it is over";
        return Err(Reject::new(Reason::InvalidField, detail));
    };
    let latest = at.plus(i64::from(rules.snooze_days_max) * DAY_MS);
    if until <= at || until > latest {
        let detail = format!(
            "until is {until}; allowed is after {at}, up to {latest}, {} days later (alerts.snooze_days_max of the policy)",
            rules.snooze_days_max
        );
        return Err(Reject::new(Reason::OutOfRange, detail));
    }
    Ok(until)
}

#[cfg(test)]
mod tests;
