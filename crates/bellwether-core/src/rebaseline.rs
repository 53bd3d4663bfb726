//! What becomes of a change of level: its days are no part of what is normal, until they are what is normal.
//!
//! ```text
//!              an alert names the signal                  back for `alerts.resolve_quiet_days`
//! (none) ------------------------------------> followed --------------------------------------> over
//!                                                  |
//!                                                  | lasts for `baseline.rebaseline_days`
//!                                                  +--------------------------------------> normal since its first day
//! ```
//! - While a corroborated alert rests on a change, its days are left out of the reference: a churn-risk window does not become the new
//!   normal. Once it is over, they are no evidence either. (Days of a labelled incident are masked altogether: [`crate::calendar`].)
//! - Once it has lasted, nothing before its first day counts any more, and the alerts that rest on it are resolved as `rebaselined`. A further
//!   change is judged against the new level.
//! - Signals that share the factor of the account's days are measured over the same days: what is left out for one, and what came before
//!   its normal, is no part of what is normal for the others either.
//! - Other changes leave nothing out: chance makes one signal fall now and then, and what was gained can be lost again. They are
//!   followed alike.

use serde::{Deserialize, Serialize};

use crate::account::{Account, Row, SignalKey};
use crate::alert::{self, OpenAlert};
use crate::expect::is_shared;
use crate::history::{Older, RING_DAYS, mask};
use crate::output::{Evidence, Output, Rebaselined};
use crate::policy::Compiled;
use crate::policy_check::{CORROBORATED_KIND, SPIKE_KIND};
use crate::score::is_presence;
use crate::time::{Day, Millis};

/// Days after it was found in which a change is dated anew.
const DATED_DAYS: i32 = 14;

/// A change of level of one signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The signal.
    pub signal: SignalKey,
    /// Its first day.
    pub since: Day,
    /// The day at whose close it was found.
    pub found: Day,
    /// What was normal before, in the signal's unit.
    pub before: f64,
    /// What was observed since, in the same unit.
    pub after: f64,
    /// Whether it is toward risk.
    pub risk: bool,
    /// Whether its days are left out of what is normal: a corroborated alert rests on it.
    pub held: bool,
    /// Day closes in a row at which the last seven days were nearer to what was normal before.
    pub days_back: u16,
    /// How it goes on.
    pub stage: Stage,
}

/// How a change goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It lasts.
    Followed,
    /// It was over after this day.
    Over(Day),
    /// It is what is normal, as of this day.
    Normal(Day),
}

impl Change {
    /// Whether a day counts for what is normal no more: one of the change, or, once that is normal, one before it.
    pub(crate) fn leaves_out(&self, day: Day) -> bool {
        match self.stage {
            Stage::Normal(_) => day < self.since,
            Stage::Followed | Stage::Over(_) => self.left_out(day) & 1 == 1,
        }
    }

    /// The days that are no part of what is normal, as bits seen from `day`.
    fn left_out(&self, day: Day) -> u128 {
        let until = match self.stage {
            Stage::Followed if self.held => day,
            Stage::Over(until) if self.held => until.min(day),
            Stage::Followed | Stage::Over(_) | Stage::Normal(_) => return 0,
        };
        let back = |of: Day| u32::try_from(day.since(of).max(-1) + 1).unwrap_or(0);
        mask(back(self.since)) & !mask(back(until).saturating_sub(1))
    }
}

impl Account {
    /// Days that are no part of what is normal for a signal, and those of them that are over and no evidence any more: as bits seen from
    /// `day`, bit 0 is `day`, bit d the d-th day before it.
    #[must_use]
    pub fn days_left_out(&self, signal: SignalKey, day: Day) -> (u128, u128) {
        let changes = self.changes.iter().filter(|change| change.signal == signal);
        changes.fold((0, 0), |(held, over), change| {
            let days = change.left_out(day);
            (held | days, if change.stage == Stage::Followed { over } else { over | days })
        })
    }

    /// Since when a signal has its present normal; none: since ever.
    #[must_use]
    pub fn normal_since(&self, signal: SignalKey) -> Option<Day> {
        let changes = self.changes.iter().filter(|change| change.signal == signal);
        let normal = changes.filter(|change| matches!(change.stage, Stage::Normal(_)));
        normal.map(|change| change.since).max()
    }
}

/// Whether two signals are measured over the same days. Those that share the factor of the account's days are: what they do is judged
/// relative to each other, and a level of other days would be off by what that factor was then.
pub(crate) fn together(policy: &Compiled, one: SignalKey, other: SignalKey) -> bool {
    let shares = |key| {
        let mut signals = policy.signals.iter().zip(policy.keys());
        signals.any(|(signal, known)| *known == key && is_shared(signal))
    };
    one == other || shares(one) && shares(other)
}

/// Before a day is judged: changes that have lasted are what is normal, and alerts that rest on nothing else are resolved.
pub(crate) fn settle(account: &mut Account, policy: &Compiled, day: Day) -> bool {
    let lasting = i32::from(policy.baseline.rebaseline_days);
    let mut settled = Vec::new();
    for change in &mut account.changes {
        if change.stage == Stage::Followed
            && change.days_back == 0
            && day.since(change.since) + 1 >= lasting
        {
            change.stage = Stage::Normal(day);
            settled.push((change.signal, change.since));
        }
    }
    for (signal, since) in &settled {
        // What came before counts no more, and needs no following.
        account.changes.retain(|change| change.signal != *signal || change.since >= *since);
        for (key, older) in &mut account.history.older {
            if together(policy, *signal, *key) {
                *older = Older::default();
                account.changed.note(Row::History);
            }
        }
    }
    account.changed.note_if(Row::Changes, !settled.is_empty());
    !settled.is_empty()
}

/// After a day was judged: takes up the changes that alerts rest on, and looks how the others go on.
pub(crate) fn follow(account: &mut Account, policy: &Compiled, day: Day) {
    let before = account.changes.clone();
    let out_of_reach = |last: Day| day.since(last) >= RING_DAYS as i32 + 7;
    account.changes.retain(|change| match change.stage {
        Stage::Followed => policy.keys().contains(&change.signal),
        Stage::Over(until) => !out_of_reach(until),
        Stage::Normal(_) => !out_of_reach(change.since),
    });
    for (index, signal) in policy.signals.iter().enumerate() {
        let Some(state) = account.hot.signals.get(index) else { continue };
        let evidence = state.evidence.as_ref();
        let evidence = evidence.filter(|item| !item.is_run() && item.unit == signal.unit);
        let known = |change: &Change| change.signal == state.key && change.stage == Stage::Followed;
        if let Some(at) = account.changes.iter().position(known) {
            let held = evidence.is_some_and(|item| rests_on(account, item, CORROBORATED_KIND));
            let change = &mut account.changes[at];
            change.held |= held && change.risk;
            change.go_on(state.observed, evidence, policy, day);
            continue;
        }
        let news =
            evidence.filter(|item| !is_presence(signal) && is_alerted(account, item, policy));
        if let Some(item) = news {
            account.changes.push(Change {
                signal: state.key,
                since: item.onset,
                found: day,
                before: item.baseline,
                after: item.observed,
                risk: item.risk,
                held: item.risk && rests_on(account, item, CORROBORATED_KIND),
                days_back: 0,
                stage: Stage::Followed,
            });
        }
    }
    account.changed.note_if(Row::Changes, account.changes != before);
}

/// Whether an open alert rests on evidence of risk. What is good news is not alerted, and must be as sure as what is.
fn is_alerted(account: &Account, item: &Evidence, policy: &Compiled) -> bool {
    if !item.risk {
        return item.z.abs() >= policy.deviation.z_alone;
    }
    let mut kinds = account.hot.alerts.iter().map(|alert| alert.kind.as_str());
    kinds.any(|kind| {
        kind != SPIKE_KIND && !policy.is_condition(kind) && rests_on(account, item, kind)
    })
}

/// Whether an open alert of a kind names the signal of evidence.
fn rests_on(account: &Account, item: &Evidence, kind: &str) -> bool {
    let mut open = account.hot.alerts.iter().filter(|alert| alert.kind == kind);
    open.any(|alert| alert.signals.iter().any(|(name, _)| *name == item.signal))
}

impl Change {
    fn go_on(
        &mut self,
        observed: Option<f64>,
        evidence: Option<&Evidence>,
        policy: &Compiled,
        day: Day,
    ) {
        if let Some(item) = evidence.filter(|item| item.risk == self.risk) {
            self.after = item.observed;
            if day.since(self.found) <= DATED_DAYS {
                self.since = item.onset;
            }
        }
        let Some(now) = observed else { return };
        let is_back = (now - self.before).abs() < (now - self.after).abs();
        self.days_back = if is_back { self.days_back + 1 } else { 0 };
        if self.days_back >= policy.alerts.resolve_quiet_days {
            // The first of the days of the first week that was like before, about.
            let until = day.plus(-i32::from(self.days_back) - 3).max(self.since);
            self.stage = Stage::Over(until);
        }
    }
}

/// Ends the alerts that rest on what is normal now. `at` is the event time of the judgement.
pub(crate) fn resolve(
    account: &mut Account,
    policy: &Compiled,
    model_version: &str,
    at: Millis,
    out: &mut Vec<Output>,
) {
    let says = |name: &str| {
        let index = policy.signals.iter().position(|signal| signal.name == name);
        let state = index.and_then(|index| account.hot.signals.get(index));
        state.is_some_and(|state| state.evidence.as_ref().is_some_and(|item| item.risk))
    };
    let rests_on_signals =
        |alert: &&OpenAlert| alert.kind != SPIKE_KIND && !policy.is_condition(&alert.kind);
    let open = account.hot.alerts.iter().filter(rests_on_signals);
    let silent = open.filter(|alert| !alert.signals.iter().any(|(name, _)| says(name)));
    let kinds: Vec<String> = silent.map(|alert| alert.kind.clone()).collect();
    alert::rebaselined(account, policy, model_version, at, &kinds, out);
}

/// What is normal only lately, for the health record.
pub(crate) fn rebaselined(account: &Account, policy: &Compiled) -> Vec<Rebaselined> {
    let of = |change: &Change| {
        let index = policy.keys().iter().position(|key| *key == change.signal)?;
        let (signal, state) = (policy.signals.get(index)?, account.hot.signals.get(index)?);
        matches!(change.stage, Stage::Normal(_)).then(|| Rebaselined {
            signal: signal.name.clone(),
            since: change.since,
            before: change.before,
            now: state.baseline.map_or(change.after, |baseline| baseline.level),
            unit: signal.unit.clone(),
        })
    };
    account.changes.iter().filter_map(of).collect()
}
