//! Where the alerts of one account are worked on: what evidence opens, moves and ends, and the records of it.

use super::record::{described, evidence_of, strongest_first, title};
use super::{OpenAlert, Restraint};
use crate::account::{Account, Row};
use crate::corroborate::{Alarm, Assessment, Witnesses, assess};
use crate::feedback;
use crate::life::{self, Standing};
use crate::output::{AlertEvent, Evidence, Output, Resolution, Severity, Transition};
use crate::policy::{Compiled, Signal};
use crate::policy_check::{CORROBORATED_KIND, SPIKE_KIND};
use crate::publish::content_id;
use crate::stats::rarer;
use crate::time::{DAY_MS, Millis};

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
    pub(super) fn assess<'e>(&self, evidence: impl Iterator<Item = &'e Evidence>) -> Assessment {
        let evidence: Vec<&Evidence> = evidence.collect();
        assess(&evidence, self.policy, &Known(self.account, self.policy))
    }

    /// Whether the corroborated alert must rest after its last resolution: what began since then is news.
    pub(super) fn corroborated_rests(&self, alarm: &Alarm, evidence: &[Evidence]) -> bool {
        if self.open(CORROBORATED_KIND).is_some() {
            return false;
        }
        let settled = life::settled(self.account, CORROBORATED_KIND);
        let Some(resolved_at) = settled.or_else(|| self.resting_since(CORROBORATED_KIND)) else {
            return false;
        };
        // Nothing supported it in the days before, so what began in them is news, too; where it is settled that is known.
        let quiet =
            if settled.is_some() { 0 } else { i32::from(self.policy.alerts.resolve_quiet_days) };
        let resolved_on = self.account.zone().day(resolved_at).plus(-quiet);
        let fresh = self.assess(evidence.iter().filter(|item| item.onset > resolved_on));
        let enough = usize::from(self.policy.corroboration.groups_high);
        alarm.onset <= resolved_on && fresh.groups.len() < enough
    }

    pub(super) fn open(&self, kind: &str) -> Option<usize> {
        self.account.hot.alerts.iter().position(|alert| alert.kind == kind)
    }

    /// Alerts of signals that no other group confirms, at low or medium severity.
    pub(super) fn singles(
        &mut self,
        evidence: &[Evidence],
        witnesses: &[Evidence],
        assessment: &Assessment,
    ) {
        let rules = &self.policy.deviation;
        if self.open(CORROBORATED_KIND).is_some() {
            // The corroborated alert stays the one place for this account; while it holds, new signals are added to it.
            if assessment.supported {
                self.raise(CORROBORATED_KIND, Severity::Info, witnesses, assessment);
            }
            return;
        }
        // What a corroborated alert rested on when it was settled is settled as well.
        let settled = life::settled(self.account, CORROBORATED_KIND);
        let settled_on = settled.map(|at| self.account.zone().day(at));
        let is_new = |item: &&Evidence| settled_on.is_none_or(|day| item.onset > day);
        let mut kinds: Vec<(String, f64, Vec<Evidence>)> = Vec::new();
        for item in evidence.iter().filter(is_new) {
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
    pub(super) fn raise(
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
        let is_news = if kind == CORROBORATED_KIND {
            // That was asked before.
            true
        } else if self.policy.is_condition(kind) {
            let own = !rests || life::last_of(self.account, kind).is_some();
            own && life::settled(self.account, kind).is_none()
        } else if rests {
            life::is_news(self.account, kind, severity, evidence)
        } else {
            life::began_since(self.account, kind, evidence)
        };
        if !is_news {
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
        if transition == Transition::Opened {
            life::opened(self.account, &alert, rules);
        }
        self.account.hot.alerts.push(alert.clone());
        let index = self.account.hot.alerts.len() - 1;
        feedback::opened(self.account, &alert, self.at, &self.policy.feedback);
        self.announce(index, transition, evidence, assessment);
    }

    /// When a kind was resolved, if that is so lately that it must rest.
    pub(super) fn resting_since(&self, kind: &str) -> Option<Millis> {
        let rest_ms = i64::from(self.policy.alerts.refractory_days) * DAY_MS;
        let mut resolved = self.account.hot.resolved.iter();
        let last = resolved.find(|(resolved, _)| resolved == kind);
        last.map(|(_, when)| *when).filter(|when| self.at.0 - when.0 < rest_ms)
    }

    /// Ends the alerts that the corroborated one covers now: those of its signals, and of the band that they took the score to.
    pub(super) fn fold(&mut self, evidence: &[Evidence]) {
        if self.open(CORROBORATED_KIND).is_none() {
            return;
        }
        let mut covered: Vec<String> =
            evidence.iter().filter_map(|item| self.kind_of(&item.signal)).collect();
        let bands = self.policy.conditions.iter().filter(|condition| condition.is_low_band());
        covered.extend(bands.map(|condition| condition.kind.clone()));
        let open: Vec<String> =
            self.account.hot.alerts.iter().map(|alert| alert.kind.clone()).collect();
        for kind in open.iter().filter(|kind| covered.contains(kind)) {
            self.resolve(kind, Resolution::Folded);
        }
    }

    /// Counts the days on which nothing supports an alert, and ends it after enough of them; wakes those that were snoozed until now.
    pub(super) fn support(
        &mut self,
        evidence: &[Evidence],
        agreed: bool,
        spiking: bool,
        day_closed: bool,
    ) {
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

    pub(super) fn support_one(&mut self, alert: &OpenAlert, supported: bool, day_closed: bool) {
        let (at, rules) = (self.at, &self.policy.alerts);
        let Some(index) = self.open(&alert.kind) else { return };
        let quiet_days = match (supported, day_closed) {
            (true, _) => 0,
            (false, true) => alert.quiet_days + 1,
            (false, false) => alert.quiet_days,
        };
        if quiet_days != alert.quiet_days {
            self.account.hot.alerts[index].quiet_days = quiet_days;
            self.account.changed.note(Row::Hot);
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

    /// Recovered (of good news: passed) when most of its signals are nearer to the old baseline than to where they were found; else
    /// the new level has become normal.
    fn how_it_ended(&self, alert: &OpenAlert) -> Resolution {
        let back_again = if self.policy.is_chance(&alert.kind) {
            Resolution::Passed
        } else {
            Resolution::Recovered
        };
        if self.policy.is_condition(&alert.kind) {
            return back_again;
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
        if back >= away { back_again } else { Resolution::Rebaselined }
    }

    pub(super) fn resolve(&mut self, kind: &str, resolution: Resolution) {
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
        self.account.hot.resolved.retain(|(resolved, _)| *resolved != alert.kind);
        self.account.hot.resolved.push((alert.kind, self.at));
        self.account.changed.note(Row::Hot);
    }

    /// Names what an alert rests on, with the baselines of now.
    fn name(&mut self, index: usize, evidence: &[Evidence]) {
        let alert = &mut self.account.hot.alerts[index];
        for item in evidence {
            if !alert.signals.iter().any(|(name, _)| *name == item.signal) {
                alert.signals.push((item.signal.clone(), item.baseline));
            }
        }
        self.account.changed.note(Row::Hot);
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
        self.account.changed.note(Row::Hot);
        if !feedback::is_withheld(self.account, &event.alert_id) {
            self.out.push(Output::Alert(Box::new(event)));
        }
    }
}
