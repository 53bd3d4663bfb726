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
//! - **resolved** (`recovered`, `rebaselined`) once nothing supported it for `resolve_quiet_days` day closes, and later where it is
//!   flapping, that is came back `flap_reopens` times in `flap_days`: then after `flap_quiet_days`. What opens an alert must be rarer than
//!   what supports it (hysteresis). Also because a corroborated alert took it over, the outcome arrived, the account is dormant or
//!   forgotten, or it had no event for `expire_days`.
//! - **reopened**, and not a new alert, within the refractory period by news. To a corroborated alert that is evidence which began after
//!   the resolution (or in the quiet days before it, unless a person resolved it) and would be enough by itself; to a single signal's one
//!   that began after it and makes the alert more severe than it ever was. After the refractory period, and where the account's story
//!   ended with the alert, the next one is new.
//!
//! A corroborated alert is supported while as many independent groups as it needs are in support; one signal does not keep it.
//! While the account's cohort deviates as a whole ([`crate::fleet`]), new alerts are held back, but for those that are rare even then.
//! Alerts that rest on plain conditions ([`crate::condition`]) go through the same machine; their condition is what supports them.
//! Corroborated evidence is one `churn_risk` alert, which takes over the single-signal alerts of its signals.

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::condition;
use crate::corroborate::{Alarm, Assessment, Corroborated, Witnesses, assess};
use crate::feedback::{self, Sensitivity};
use crate::life::{self, Standing};
use crate::output::{AlertEvent, Evidence, Output, Resolution, Severity, Transition};
use crate::policy::{Compiled, Signal};
use crate::policy_check::{CORROBORATED_KIND, SPIKE_KIND};
use crate::priority;
use crate::publish::content_id;
use crate::score::band;
use crate::stats::rarer;
use crate::time::{DAY_MS, Millis};

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
    let mut assessment = desk.assess(evidence.iter());
    let alarm = found.and_then(|found| found.alarm.as_ref());
    let rise = found.and_then(|found| found.rise.as_ref());
    assessment.supported |= found.is_some_and(|found| found.supported);
    if let Some(rise) = rise {
        desk.raise(SPIKE_KIND, rise.severity, &rise.evidence, &heard(rise));
    }
    match alarm {
        Some(alarm) if !desk.corroborated_rests(alarm, &evidence) => {
            let mut agreed = heard(alarm);
            agreed.supported = true;
            desk.raise(CORROBORATED_KIND, alarm.severity, &evidence, &agreed);
            desk.fold(&evidence);
        }
        Some(_) | None => desk.singles(&evidence, &assessment),
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
    at: Millis,
    out: &mut Vec<Output>,
) {
    let restraint = Restraint::default();
    let mut desk = Desk { account, policy, model_version, at, restraint, out };
    for condition in &policy.conditions {
        let met = condition::met(desk.account, policy, condition);
        // A corroborated alert stays the one place for what goes wrong.
        let is_said = condition.risk && desk.open(CORROBORATED_KIND).is_some();
        let may_open = !is_said || desk.open(&condition.kind).is_some();
        if let Some(evidence) = met.as_ref().filter(|_| may_open) {
            let evidence = std::slice::from_ref(evidence);
            desk.raise(&condition.kind, condition.severity, evidence, &Assessment::default());
        }
        if let Some(index) = desk.open(&condition.kind) {
            let alert = desk.account.hot.alerts[index].clone();
            desk.support_one(&alert, met.is_some(), true);
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

/// What an event says beside its evidence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remark {
    /// Why the alert ended.
    pub resolution: Option<Resolution>,
    /// Who did it.
    pub by: Option<String>,
    /// What that person remarked.
    pub note: Option<String>,
}

/// Where the alerts of one account are worked on.
pub(crate) struct Desk<'a> {
    pub account: &'a mut Account,
    pub policy: &'a Compiled,
    pub model_version: &'a str,
    pub at: Millis,
    pub restraint: Restraint,
    pub out: &'a mut Vec<Output>,
}

/// What corroboration has to know of an account's signals.
struct Known<'a>(&'a Account, &'a Compiled);

impl Witnesses for Known<'_> {
    fn shared(&self, left: &str, right: &str) -> f64 {
        let index = |name: &str| self.1.signals.iter().position(|signal| signal.name == name);
        match (index(left), index(right)) {
            (Some(left), Some(right)) => self.0.hot.streams.shared(left, right),
            _ => 0.0,
        }
    }
}

impl Desk<'_> {
    fn assess<'e>(&self, evidence: impl Iterator<Item = &'e Evidence>) -> Assessment {
        let evidence: Vec<&Evidence> = evidence.collect();
        assess(&evidence, self.policy, &Known(self.account, self.policy))
    }

    /// Whether the corroborated alert must rest after its last resolution: what began since then is news.
    fn corroborated_rests(&self, alarm: &Alarm, evidence: &[Evidence]) -> bool {
        if self.open(CORROBORATED_KIND).is_some() {
            return false;
        }
        let Some(resolved_at) = self.resting_since(CORROBORATED_KIND) else { return false };
        // Nothing supported it in the days before, so what began in them is news, too; a person knew of it.
        let last = life::last_of(self.account, CORROBORATED_KIND);
        let by_person = last.is_some_and(|(_, ended)| ended.resolution == Resolution::Manual);
        let quiet = if by_person { 0 } else { i32::from(self.policy.alerts.resolve_quiet_days) };
        let resolved_on = self.account.zone().day(resolved_at).plus(-quiet);
        let fresh = self.assess(evidence.iter().filter(|item| item.onset > resolved_on));
        let enough = usize::from(self.policy.corroboration.groups_high);
        alarm.onset <= resolved_on && fresh.groups.len() < enough
    }

    fn open(&self, kind: &str) -> Option<usize> {
        self.account.hot.alerts.iter().position(|alert| alert.kind == kind)
    }

    /// Alerts of signals that no other group confirms, at low or medium severity.
    fn singles(&mut self, evidence: &[Evidence], assessment: &Assessment) {
        let rules = &self.policy.deviation;
        if self.open(CORROBORATED_KIND).is_some() {
            // The corroborated alert stays the one place for this account; while it holds, new signals are added to it.
            if assessment.supported {
                self.raise(CORROBORATED_KIND, Severity::Info, evidence, assessment);
            }
            return;
        }
        let mut kinds: Vec<(String, f64, Vec<Evidence>)> = Vec::new();
        for item in evidence {
            let Some(kind) = self.kind_of(&item.signal) else { continue };
            match kinds.iter_mut().find(|(known, ..)| *known == kind) {
                Some((_, strongest, items)) => {
                    *strongest = strongest.max(item.z.abs());
                    items.push(item.clone());
                }
                None => kinds.push((kind, item.z.abs(), vec![item.clone()])),
            }
        }
        let (z_alone, z_strong) = (rules.z_alone, rules.z_strong);
        for (kind, strongest, items) in kinds {
            let is_open = self.open(&kind).is_some();
            let factor = self.restraint.sensitivity.of(&kind);
            let opens = !self.restraint.held && strongest >= rarer(z_alone, factor);
            if strongest >= z_alone && (opens || is_open) {
                let severity = if strongest >= z_strong { Severity::Medium } else { Severity::Low };
                self.raise(&kind, severity, &items, assessment);
            }
        }
    }

    fn kind_of(&self, signal: &str) -> Option<String> {
        self.signal(signal).map(|signal| signal.kind.clone())
    }

    fn signal(&self, name: &str) -> Option<&Signal> {
        self.policy.signals.iter().find(|signal| signal.name == name)
    }

    /// Opens, escalates or updates the alert of a kind; does nothing where nothing is new.
    fn raise(
        &mut self,
        kind: &str,
        severity: Severity,
        evidence: &[Evidence],
        assessment: &Assessment,
    ) {
        let Some(index) = self.open(kind) else {
            self.begin(kind, severity, evidence, assessment);
            return;
        };
        let alert = &mut self.account.hot.alerts[index];
        let rises = severity > alert.severity;
        let unnamed =
            |item: &&Evidence| !alert.signals.iter().any(|(name, _)| *name == item.signal);
        if rises {
            alert.severity = severity;
            let alert = alert.clone();
            if life::standing(self.account, &alert.id).until().is_some() {
                life::set(self.account, &alert, Standing::Open);
            }
            self.announce(index, Transition::Escalated, evidence, assessment);
        } else if evidence.iter().any(|item| unnamed(&item)) {
            if life::standing(self.account, &self.account.hot.alerts[index].id) == Standing::Open {
                self.announce(index, Transition::Updated, evidence, assessment);
            } else {
                self.name(index, evidence);
            }
        }
    }

    /// Opens the alert of a kind, or the one that ended last again; does nothing where the kind rests.
    fn begin(
        &mut self,
        kind: &str,
        severity: Severity,
        evidence: &[Evidence],
        assessment: &Assessment,
    ) {
        let rests = self.resting_since(kind).is_some();
        // What is news to a corroborated alert was asked before.
        let is_news = kind == CORROBORATED_KIND
            || rests && life::is_news(self.account, kind, severity, evidence);
        if rests && !is_news {
            return;
        }
        let id = content_id(&[self.account.id.as_str(), kind, &self.at.0.to_string()]);
        // One that ended and opens within the same millisecond is the same.
        let again =
            rests || life::last_of(self.account, kind).is_some_and(|(life, _)| life.alert == id);
        let rules = &self.policy.alerts;
        let reopened =
            again.then(|| life::reopen(self.account, kind, (severity, self.at), rules)).flatten();
        let (alert, transition) = match reopened {
            Some(alert) => (alert, Transition::Reopened),
            None if self.account.raised.iter().any(|raised| raised.alert == id) => return,
            None => {
                let alert = OpenAlert {
                    id,
                    kind: kind.to_owned(),
                    severity,
                    opened_at: self.at,
                    sequence: 0,
                    last: (Transition::Opened, self.at),
                    signals: Vec::new(),
                    quiet_days: 0,
                };
                (alert, Transition::Opened)
            }
        };
        self.account.hot.alerts.push(alert.clone());
        let index = self.account.hot.alerts.len() - 1;
        feedback::opened(self.account, &alert, &self.policy.feedback);
        self.announce(index, transition, evidence, assessment);
    }

    /// When a kind was resolved, if that is so lately that it must rest.
    fn resting_since(&self, kind: &str) -> Option<Millis> {
        let rest_ms = i64::from(self.policy.alerts.refractory_days) * DAY_MS;
        let mut resolved = self.account.hot.resolved.iter();
        let last = resolved.find(|(resolved, _)| resolved == kind);
        last.map(|(_, when)| *when).filter(|when| self.at.0 - when.0 < rest_ms)
    }

    /// Ends the single-signal alerts that the corroborated one covers now.
    fn fold(&mut self, evidence: &[Evidence]) {
        if self.open(CORROBORATED_KIND).is_none() {
            return;
        }
        let covered: Vec<String> =
            evidence.iter().filter_map(|item| self.kind_of(&item.signal)).collect();
        let open: Vec<String> =
            self.account.hot.alerts.iter().map(|alert| alert.kind.clone()).collect();
        for kind in open.iter().filter(|kind| covered.contains(kind)) {
            self.resolve(kind, Resolution::Folded);
        }
    }

    /// Counts the days on which nothing supports an alert, and ends it after enough of them; wakes those that were snoozed until now.
    fn support(&mut self, evidence: &[Evidence], agreed: bool, spiking: bool, day_closed: bool) {
        for alert in self.account.hot.alerts.clone() {
            let supported = match alert.kind.as_str() {
                CORROBORATED_KIND => agreed,
                SPIKE_KIND => spiking,
                kind if self.policy.is_condition(kind) => continue,
                kind => evidence
                    .iter()
                    .any(|item| self.signal(&item.signal).is_some_and(|of| of.kind == kind)),
            };
            self.support_one(&alert, supported, day_closed);
        }
    }

    fn support_one(&mut self, alert: &OpenAlert, supported: bool, day_closed: bool) {
        let (at, rules) = (self.at, &self.policy.alerts);
        let Some(index) = self.open(&alert.kind) else { return };
        let quiet_days = match (supported, day_closed) {
            (true, _) => 0,
            (false, true) => alert.quiet_days + 1,
            (false, false) => alert.quiet_days,
        };
        if quiet_days != alert.quiet_days {
            self.account.hot.alerts[index].quiet_days = quiet_days;
            self.account.changed.hot = true;
        }
        let until = life::standing(self.account, &alert.id).until();
        if quiet_days >= life::quiet_days(self.account, &alert.id, at, rules) {
            let resolution = self.how_it_ended(alert);
            self.resolve(&alert.kind, resolution);
        } else if day_closed && life::is_stale(self.account, alert, at, rules) {
            self.resolve(&alert.kind, Resolution::Expired);
        } else if supported && until.is_some_and(|until| until <= at) {
            life::set(self.account, alert, Standing::Open);
            self.say(&alert.kind, Transition::Woken, Remark::default());
        }
    }

    /// Recovered when most of its signals are nearer to the old baseline than to where they were found; else the new
    /// level has become normal.
    fn how_it_ended(&self, alert: &OpenAlert) -> Resolution {
        if self.policy.is_condition(&alert.kind) {
            return Resolution::Recovered;
        }
        let mut back = 0;
        let mut away = 0;
        for (name, baseline) in &alert.signals {
            let index = self.policy.signals.iter().position(|signal| signal.name == *name);
            let Some(state) = index.and_then(|index| self.account.hot.signals.get(index)) else {
                continue;
            };
            let Some(observed) = state.observed else { continue };
            let margin = baseline.abs() * self.policy.deviation.change_min_pct / 100.0;
            if (observed - baseline).abs() <= margin.max(1e-9) * 1.5 {
                back += 1;
            } else {
                away += 1;
            }
        }
        if back >= away { Resolution::Recovered } else { Resolution::Rebaselined }
    }

    fn resolve(&mut self, kind: &str, resolution: Resolution) {
        self.end(kind, Remark { resolution: Some(resolution), ..Remark::default() });
    }

    /// Ends the open alert of a kind, with the evidence as it stands.
    pub(crate) fn end(&mut self, kind: &str, remark: Remark) {
        let Some(index) = self.open(kind) else { return };
        let alert = self.account.hot.alerts[index].clone();
        if let Some(resolution) = remark.resolution {
            let ending = OpenAlert { sequence: alert.sequence + 1, ..alert };
            life::ended(self.account, &ending, (self.at, resolution), &self.policy.alerts);
        }
        self.say(kind, Transition::Resolved, remark);
        let alert = self.account.hot.alerts.remove(index);
        self.rest_kind(&alert.kind);
    }

    /// Lets the kinds of an alert's signals rest, too: whoever resolves it has seen them all.
    pub(crate) fn rest(&mut self, alert: &OpenAlert) {
        let kinds: Vec<String> =
            alert.signals.iter().filter_map(|(name, _)| self.kind_of(name)).collect();
        for kind in kinds.iter().filter(|kind| **kind != alert.kind) {
            if self.open(kind).is_none() {
                self.rest_kind(kind);
            }
        }
    }

    fn rest_kind(&mut self, kind: &str) {
        self.account.hot.resolved.retain(|(resolved, _)| *resolved != kind);
        self.account.hot.resolved.push((kind.to_owned(), self.at));
        self.account.changed.hot = true;
    }

    /// Names what an alert rests on, with the baselines of now.
    fn name(&mut self, index: usize, evidence: &[Evidence]) {
        let alert = &mut self.account.hot.alerts[index];
        for item in evidence {
            if !alert.signals.iter().any(|(name, _)| *name == item.signal) {
                alert.signals.push((item.signal.clone(), item.baseline));
            }
        }
        self.account.changed.hot = true;
    }

    fn announce(
        &mut self,
        index: usize,
        transition: Transition,
        evidence: &[Evidence],
        assessment: &Assessment,
    ) {
        self.name(index, evidence);
        let alert = &mut self.account.hot.alerts[index];
        alert.quiet_days = 0;
        let (id, severity) = (alert.id.clone(), alert.severity);
        feedback::became(self.account, &id, severity, self.at);
        self.publish(index, transition, evidence, assessment, Remark::default());
    }

    /// Publishes an event of the open alert of a kind, with the evidence as it stands.
    pub(crate) fn say(&mut self, kind: &str, transition: Transition, remark: Remark) {
        let Some(index) = self.open(kind) else { return };
        let evidence = evidence_of(self.account, kind, self.policy);
        let assessment = self.assess(evidence.iter());
        self.publish(index, transition, &evidence, &assessment, remark);
    }

    fn publish(
        &mut self,
        index: usize,
        transition: Transition,
        evidence: &[Evidence],
        assessment: &Assessment,
        remark: Remark,
    ) {
        let mut evidence = evidence.to_vec();
        strongest_first(&mut evidence);
        let alert = &mut self.account.hot.alerts[index];
        alert.sequence += 1;
        // Records of an alert carry rising times, though people's words may come late.
        alert.last = (transition, self.at.max(alert.last.1));
        let alert = alert.clone();
        let title = title(&alert, transition, &evidence, remark.resolution);
        let event = AlertEvent {
            resolution: remark.resolution,
            by: remark.by,
            note: remark.note,
            title,
            groups: assessment.groups.iter().map(|(group, _)| group.clone()).collect(),
            family: assessment.family,
            ..described(self.account, &alert, evidence, self.policy, self.model_version)
        };
        self.account.changed.hot = true;
        if !feedback::is_withheld(self.account, &event.alert_id) {
            self.out.push(Output::Alert(Box::new(event)));
        }
    }
}

/// The open alerts of an account as events, with the evidence as it stands now: for a read model that starts afresh. Ids
/// are those of the last published events.
pub(crate) fn standing(
    account: &Account,
    policy: &Compiled,
    model_version: &str,
) -> Vec<AlertEvent> {
    let shown =
        account.hot.alerts.iter().filter(|alert| !feedback::is_withheld(account, &alert.id));
    shown.map(|alert| stand(account, alert, policy, model_version)).collect()
}

fn stand(
    account: &Account,
    alert: &OpenAlert,
    policy: &Compiled,
    model_version: &str,
) -> AlertEvent {
    let evidence = evidence_of(account, &alert.kind, policy);
    let said = life::of(account, &alert.id).and_then(|life| life.said.as_ref());
    let is_said = matches!(alert.last.0, Transition::Acknowledged | Transition::Snoozed);
    let by = said.filter(|_| is_said).and_then(|(_, _, by)| by.clone());
    AlertEvent { by, ..described(account, alert, evidence, policy, model_version) }
}

/// The evidence of an alert of a kind as it stands, strongest first.
fn evidence_of(account: &Account, kind: &str, policy: &Compiled) -> Vec<Evidence> {
    if let Some(condition) = policy.conditions.iter().find(|condition| condition.kind == kind) {
        return condition::met(account, policy, condition).into_iter().collect();
    }
    let kind_of = |name: &str| {
        policy.signals.iter().find(|signal| signal.name == name).map(|signal| &signal.kind)
    };
    let standing = account.hot.signals.iter().filter_map(|state| state.evidence.clone());
    let mut evidence: Vec<Evidence> = standing
        .filter(|item| match kind {
            SPIKE_KIND => !item.risk,
            CORROBORATED_KIND => item.risk,
            kind => item.risk && kind_of(&item.signal).is_some_and(|known| known == kind),
        })
        .collect();
    strongest_first(&mut evidence);
    evidence
}

/// The last event of an alert, but for what only that moment knew.
fn described(
    account: &Account,
    alert: &OpenAlert,
    evidence: Vec<Evidence>,
    policy: &Compiled,
    model_version: &str,
) -> AlertEvent {
    let (transition, at) = alert.last;
    let life = life::of(account, &alert.id);
    let standing = life.map_or(Standing::Open, |life| life.standing);
    let priority_parts = priority::parts(account, alert.severity, at, &policy.priority);
    AlertEvent {
        id: content_id(&[&alert.id, &alert.sequence.to_string(), transition.as_str()]),
        alert_id: alert.id.clone(),
        account_id: account.id.clone(),
        account_name: account.name().map(str::to_owned),
        kind: alert.kind.clone(),
        transition,
        severity: alert.severity,
        at,
        opened_at: alert.opened_at,
        state: standing.state(),
        until: standing.until(),
        reopened: life.map_or(0, |life| life.reopened),
        by: None,
        note: None,
        resolution: None,
        title: title(alert, transition, &evidence, None),
        evidence,
        groups: Vec::new(),
        family: None,
        priority: priority::sum(&priority_parts),
        priority_parts,
        score: account.hot.score,
        band: band(account.hot.score, policy),
        policy_version: policy.version().to_owned(),
        model_version: model_version.to_owned(),
    }
}

/// Orders evidence for people: the strongest first, ties by name.
pub(crate) fn strongest_first(evidence: &mut [Evidence]) {
    evidence.sort_by(|left, right| {
        right.z.abs().total_cmp(&left.z.abs()).then_with(|| left.signal.cmp(&right.signal))
    });
}

fn title(
    alert: &OpenAlert,
    transition: Transition,
    evidence: &[Evidence],
    resolution: Option<Resolution>,
) -> String {
    let kind = alert.kind.replace('_', " ");
    if let (Transition::Resolved, Some(resolution)) = (transition, resolution) {
        let said = if resolution == Resolution::Rebaselined {
            "rebaselined, what was found is what is normal now"
        } else {
            resolution.as_str()
        };
        return format!("{kind}: {said}");
    }
    let summary: Vec<String> = evidence.iter().take(5).map(short).collect();
    format!("{kind}: {}", summary.join(", "))
}

/// A signal and its change, e.g. `logins -38 %`.
fn short(item: &Evidence) -> String {
    match item.change_pct {
        // Measured against a limit, and not against what is normal.
        None if item.z.abs() < f64::EPSILON => item.text.clone(),
        Some(change) => format!("{} {change:+.0} %", item.signal.replace('_', " ")),
        None => format!("{} {:+.1} sigma", item.signal.replace('_', " "), item.z),
    }
}
