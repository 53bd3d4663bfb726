//! The life of an alert: opened, escalated, updated, resolved. One open alert per account and kind.
//!
//! ```text
//!            evidence            stronger            other signals
//! (none) ----------------> open ---------> open (escalated | updated)
//!    ^                      |
//!    | refractory period    | nothing supports it for `resolve_quiet_days` day closes; a corroborated
//!    +--------- resolved <--+ alert folds it in; the outcome arrives; the account is dormant
//! ```
//! A corroborated alert is supported while as many independent groups as it needs are in support; one signal does not keep it.
//! Its refractory period ends early for evidence that began after the resolution and would be enough by itself.
//! While the account's cohort deviates as a whole ([`crate::fleet`]), new alerts are held back, but for those that are rare even then.
//! Corroborated evidence is one `churn_risk` alert, which takes over the single-signal alerts of its signals.

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::corroborate::{Alarm, Assessment, Corroborated, Witnesses, assess};
use crate::feedback::{self, Sensitivity};
use crate::output::{AlertEvent, Evidence, Output, Resolution, Severity, Transition};
use crate::policy::{Compiled, Signal};
use crate::policy_check::{CORROBORATED_KIND, SPIKE_KIND};
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

/// Whether a signal of the account would be alerted by itself.
pub(crate) fn would_open(account: &Account, policy: &Compiled) -> bool {
    let evidence = account.hot.signals.iter().filter_map(|state| state.evidence.as_ref());
    let mut risky = evidence.filter(|evidence| evidence.risk);
    risky.any(|evidence| evidence.z.abs() >= policy.deviation.z_alone)
}

/// The groups that an alarm rests on.
fn heard(alarm: &Alarm) -> Assessment {
    let groups = alarm.evidence.iter().map(|item| (item.group.clone(), item.z.abs())).collect();
    Assessment { groups, supported: true }
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

struct Desk<'a> {
    account: &'a mut Account,
    policy: &'a Compiled,
    model_version: &'a str,
    at: Millis,
    restraint: Restraint,
    out: &'a mut Vec<Output>,
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
        // Nothing supported it in the days before, so what began in them is news, too.
        let quiet = i32::from(self.policy.alerts.resolve_quiet_days);
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
            if kind != CORROBORATED_KIND && self.resting_since(kind).is_some() {
                return;
            }
            let id = content_id(&[self.account.id.as_str(), kind, &self.at.0.to_string()]);
            self.account.hot.alerts.push(OpenAlert {
                id,
                kind: kind.to_owned(),
                severity,
                opened_at: self.at,
                sequence: 0,
                last: (Transition::Opened, self.at),
                signals: Vec::new(),
                quiet_days: 0,
            });
            let index = self.account.hot.alerts.len() - 1;
            let opened = self.account.hot.alerts[index].clone();
            feedback::opened(self.account, &opened, &self.policy.feedback);
            self.announce(index, Transition::Opened, evidence, assessment);
            return;
        };
        let alert = &mut self.account.hot.alerts[index];
        let rises = severity > alert.severity;
        let unnamed =
            |item: &&Evidence| !alert.signals.iter().any(|(name, _)| *name == item.signal);
        if rises {
            alert.severity = severity;
            self.announce(index, Transition::Escalated, evidence, assessment);
        } else if evidence.iter().any(|item| unnamed(&item)) {
            self.announce(index, Transition::Updated, evidence, assessment);
        }
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

    /// Counts the days on which nothing supports an alert, and ends it after enough of them.
    fn support(&mut self, evidence: &[Evidence], agreed: bool, spiking: bool, day_closed: bool) {
        let enough = self.policy.alerts.resolve_quiet_days;
        let mut ended = Vec::new();
        let kinds: Vec<(String, String)> = self
            .policy
            .signals
            .iter()
            .map(|signal| (signal.name.clone(), signal.kind.clone()))
            .collect();
        for alert in &mut self.account.hot.alerts {
            let supported = if alert.kind == CORROBORATED_KIND {
                agreed
            } else if alert.kind == SPIKE_KIND {
                spiking
            } else {
                evidence.iter().any(|item| {
                    kinds.iter().any(|(name, kind)| *name == item.signal && *kind == alert.kind)
                })
            };
            if supported {
                alert.quiet_days = 0;
            } else if day_closed {
                alert.quiet_days += 1;
            }
            if alert.quiet_days >= enough {
                ended.push(alert.clone());
            }
        }
        for alert in ended {
            let resolution = self.how_it_ended(&alert);
            self.resolve(&alert.kind, resolution);
        }
    }

    /// Recovered when most of its signals are nearer to the old baseline than to where they were found; else the new
    /// level has become normal.
    fn how_it_ended(&self, alert: &OpenAlert) -> Resolution {
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
        let Some(index) = self.open(kind) else { return };
        self.publish(index, Transition::Resolved, &[], &Assessment::default(), Some(resolution));
        let alert = self.account.hot.alerts.remove(index);
        self.account.hot.resolved.retain(|(resolved, _)| *resolved != alert.kind);
        self.account.hot.resolved.push((alert.kind, self.at));
        self.account.changed.hot = true;
    }

    fn announce(
        &mut self,
        index: usize,
        transition: Transition,
        evidence: &[Evidence],
        assessment: &Assessment,
    ) {
        let alert = &mut self.account.hot.alerts[index];
        for item in evidence {
            if !alert.signals.iter().any(|(name, _)| *name == item.signal) {
                alert.signals.push((item.signal.clone(), item.baseline));
            }
        }
        alert.quiet_days = 0;
        let (id, severity) = (alert.id.clone(), alert.severity);
        feedback::became(self.account, &id, severity, self.at);
        self.publish(index, transition, evidence, assessment, None);
    }

    fn publish(
        &mut self,
        index: usize,
        transition: Transition,
        evidence: &[Evidence],
        assessment: &Assessment,
        resolution: Option<Resolution>,
    ) {
        let mut evidence = evidence.to_vec();
        strongest_first(&mut evidence);
        let score = self.account.hot.score;
        let account_name = self.account.name().map(str::to_owned);
        let alert = &mut self.account.hot.alerts[index];
        alert.sequence += 1;
        alert.last = (transition, self.at);
        let event = AlertEvent {
            id: content_id(&[&alert.id, &alert.sequence.to_string(), transition.as_str()]),
            alert_id: alert.id.clone(),
            account_id: self.account.id.clone(),
            account_name,
            kind: alert.kind.clone(),
            transition,
            severity: alert.severity,
            at: self.at,
            opened_at: alert.opened_at,
            resolution,
            title: title(alert, transition, &evidence, resolution),
            evidence,
            groups: assessment.groups.iter().map(|(group, _)| group.clone()).collect(),
            score,
            band: band(score, self.policy),
            policy_version: self.policy.version().to_owned(),
            model_version: self.model_version.to_owned(),
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
    let kind_of = |name: &str| {
        policy.signals.iter().find(|signal| signal.name == name).map(|signal| &signal.kind)
    };
    let mut evidence: Vec<Evidence> = account
        .hot
        .signals
        .iter()
        .filter_map(|state| state.evidence.clone())
        .filter(|item| match alert.kind.as_str() {
            SPIKE_KIND => !item.risk,
            CORROBORATED_KIND => item.risk,
            kind => item.risk && kind_of(&item.signal).is_some_and(|known| known == kind),
        })
        .collect();
    strongest_first(&mut evidence);
    let (transition, at) = alert.last;
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
        resolution: None,
        title: title(alert, transition, &evidence, None),
        evidence,
        groups: Vec::new(),
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
        Some(change) => format!("{} {change:+.0} %", item.signal.replace('_', " ")),
        None => format!("{} {:+.1} sigma", item.signal.replace('_', " "), item.z),
    }
}
