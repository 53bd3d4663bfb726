//! Sequences: courses of events that say more than each event by itself, as three worsening interactions in a row, or fewer seats after
//! visits to the pages on which one gives them up. The policy names them (`[[sequence]]`), and each is a line of the score.
//!
//! They are looked at when a day is judged, from what is kept of its signals anyway: their closed days, and of interactions the last few
//! values, those of the open day included. So an event costs nothing more, but where a sequence asks for values that are not kept yet. A
//! sequence is bad news only: on the day on which it is complete its line has all of its points, and it fades from there. Of an account
//! that never had one of its signals nothing is known, so it has no line.
//!
//! A sequence has a state of its own behind those of the signals ([`Hot::signals`](crate::account::Hot::signals)): its points now and as
//! they were last published. Deliberately absent: alerts. A run of interactions makes one by `streak` of its signal.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::{Account, SignalKey};
use crate::expect::measured;
use crate::history::Ring;
use crate::output::Category;
use crate::points::Points;
use crate::policy::{Compiled, Direction, Policy};
use crate::step::Core;
use crate::time::{Day, Millis};

/// What the name of a sequence's reading begins with.
pub const SEQUENCE_PREFIX: &str = "sequence:";

/// A course of events that costs points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Its name: lower case, digits and `_`. It stands in explanations.
    pub name: String,
    /// The sub-score that it belongs to.
    pub category: Category,
    /// Points that it costs on the day on which it is complete (above 0, ..=50).
    pub weight: f64,
    /// Days after that day until it costs nothing any more (1..=60).
    #[serde(default = "four_weeks")]
    pub fades_days: u16,
    /// What has to happen.
    pub when: Course,
}

/// Values of which a run of worsening interactions consists at most.
pub const RUN_VALUES: usize = 16;

fn four_weeks() -> u16 {
    28
}

/// What has to happen for a sequence to be complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Course {
    /// The last values of a signal of single interactions are each no better than the one before. A better one ends it. Of the
    /// last [`RUN_VALUES`].
    Worsening {
        /// The signal; its aggregate is `mean`.
        signal: String,
        /// How many interactions at least (3..=8).
        times: u8,
        /// By how much one of them must be worse than another that came as many before it (above 0).
        by: f64,
        /// Days within which these must lie (1..=100).
        within_days: u16,
    },
    /// One thing comes some days after another, or on the same day: which comes first within a day is not kept.
    Follows {
        /// What comes first.
        first: Step,
        /// What completes it.
        then: Step,
        /// Days from one to the other at most (1..=60).
        within_days: u16,
    },
}

/// What happens to a signal on a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// There is at least so much of it.
    Comes {
        /// The signal.
        signal: String,
        /// In the signal's unit, of a day (above 0).
        #[serde(default = "one")]
        amount: f64,
    },
    /// A gauge is lower than on the day before it.
    Falls {
        /// The signal; its aggregate is `last`.
        signal: String,
        /// By so much at least, in percent (1..=100).
        percent: f64,
    },
    /// A gauge is higher than on the day before it.
    Rises {
        /// The signal; its aggregate is `last`.
        signal: String,
        /// By so much at least, in percent (1..=1000).
        percent: f64,
    },
}

fn one() -> f64 {
    1.0
}

impl Step {
    /// The signal that it is about.
    #[must_use]
    pub fn signal(&self) -> &str {
        match self {
            Step::Comes { signal, .. }
            | Step::Falls { signal, .. }
            | Step::Rises { signal, .. } => signal,
        }
    }

    /// What happens, as a noun.
    fn words<'a>(&'a self, policy: &'a Policy) -> Words<'a> {
        let before = match self {
            Step::Comes { .. } => "",
            Step::Falls { .. } => "a fall of ",
            Step::Rises { .. } => "a rise of ",
        };
        Words(before, label(policy, self.signal()))
    }
}

struct Words<'a>(&'static str, &'a str);

impl fmt::Display for Words<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.0, self.1)
    }
}

/// What people call a signal.
fn label<'a>(policy: &'a Policy, name: &'a str) -> &'a str {
    let signal = policy.signals.iter().find(|signal| signal.name == name);
    signal.map_or(name, |signal| signal.label.as_str())
}

impl Sequence {
    /// The key of its state.
    #[must_use]
    pub fn key(&self) -> SignalKey {
        SignalKey::of(&format!("{SEQUENCE_PREFIX}{}", self.name))
    }

    /// The signals that it asks for.
    #[must_use]
    pub fn signals(&self) -> Vec<&str> {
        match &self.when {
            Course::Worsening { signal, .. } => vec![signal],
            Course::Follows { first, then, .. } => vec![first.signal(), then.signal()],
        }
    }

    /// The unit of what is observed of it, e.g. `days since a fall of seats in use after visits to downgrade pages`.
    #[must_use]
    pub fn unit(&self, policy: &Policy) -> String {
        match &self.when {
            Course::Worsening { signal, times, .. } => {
                let label = label(policy, signal);
                format!(
                    "days since {times} interactions of {label} in a row, none better than before"
                )
            }
            Course::Follows { first, then, .. } => {
                format!("days since {} after {}", then.words(policy), first.words(policy))
            }
        }
    }

    /// What so many days since it was complete say: 1 on that day, falling to 0; 0 where it is not complete.
    #[must_use]
    pub fn strength(&self, days: Option<u16>) -> f64 {
        let days = days.filter(|days| *days < self.fades_days);
        days.map_or(0.0, |days| 1.0 - f64::from(days) / f64::from(self.fades_days))
    }

    /// Days from when it was complete to `day`, the newest closed one. None: nothing is known of it; none within: it is not complete, or
    /// has faded.
    #[must_use]
    pub fn days_since(
        &self,
        account: &Account,
        policy: &Compiled,
        day: Day,
    ) -> Option<Option<u16>> {
        let looked = Looked { account, policy, day };
        let days = match &self.when {
            Course::Worsening { signal, times, by, within_days } => {
                looked.worsened(signal, usize::from(*times), *by, *within_days)?
            }
            Course::Follows { first, then, within_days } => {
                let (first, then) = (looked.step(first)?, looked.step(then)?);
                let before =
                    |back: u16| (back..=back + within_days).any(|back| first.happened(back));
                (0..self.fades_days).find(|&back| then.happened(back) && before(back))
            }
        };
        Some(days.filter(|days| *days < self.fades_days))
    }

    /// What a scorecard reads of it: [`Sequence::strength`]; NaN is missing.
    #[must_use]
    pub fn reading(&self, account: &Account, policy: &Compiled, day: Day) -> f64 {
        let days = self.days_since(account, policy, day);
        days.map_or(f64::NAN, |days| self.strength(days))
    }
}

/// An account as it is looked at.
struct Looked<'a> {
    account: &'a Account,
    policy: &'a Compiled,
    day: Day,
}

impl<'a> Looked<'a> {
    /// The place of a signal that the account had once.
    fn seen(&self, name: &str) -> Option<usize> {
        let index = self.policy.signals.iter().position(|signal| signal.name == name)?;
        self.account.hot.signals.get(index)?.first_day.map(|_| index)
    }

    fn worsened(&self, name: &str, times: usize, by: f64, within_days: u16) -> Option<Option<u16>> {
        let index = self.seen(name)?;
        let recent = &self.account.hot.signals[index].recent;
        recent.len().checked_sub(times)?;
        let sign = match self.policy.signals[index].direction {
            Direction::Down => 1.0,
            Direction::Up => -1.0,
        };
        let is_worse = |pair: &[(Millis, f64)]| sign * pair[1].1 <= sign * pair[0].1;
        let steps = recent.windows(2).rev().take_while(|pair| is_worse(pair)).count();
        let run = &recent[recent.len() - 1 - steps..];
        let zone = self.account.zone();
        // With each that is no better the run goes on, so what was complete stays complete.
        let completes = |last: &usize| {
            let (at, value) = run[*last];
            let firsts = run.get(..(last + 1).saturating_sub(times - 1)).unwrap_or_default();
            firsts.iter().any(|(first_at, first)| {
                let days = zone.day(at).since(zone.day(*first_at));
                sign * (first - value) >= by && days <= i32::from(within_days)
            })
        };
        let last = (0..run.len()).rev().find(completes);
        // The last one may have come since the day ended.
        let days = |last: usize| self.day.since(zone.day(run[last].0)).max(0);
        Some(last.map(|last| u16::try_from(days(last)).unwrap_or(u16::MAX)))
    }

    fn step(&self, step: &'a Step) -> Option<Followed<'a>> {
        let index = self.seen(step.signal())?;
        // The policy may have changed since the day was closed.
        let ring = self.account.history.rings.get(index);
        let (_, ring) = ring.filter(|(key, _)| *key == self.policy.keys()[index])?;
        Some(Followed { step, ring, masked: self.account.masked_days(self.day) })
    }
}

/// A step with the days on which it may have happened.
struct Followed<'a> {
    step: &'a Step,
    ring: &'a Ring,
    /// Days on which nothing is measured, newest in bit 0.
    masked: u128,
}

impl Followed<'_> {
    fn value(&self, back: u16) -> Option<f64> {
        measured(self.ring, self.masked, usize::from(back))
    }

    /// Whether it happened so many days before the newest closed one.
    fn happened(&self, back: u16) -> bool {
        let Some(now) = self.value(back) else { return false };
        let before = || {
            let days = u16::try_from(self.ring.len()).unwrap_or(u16::MAX);
            (back + 1..days).find_map(|back| self.value(back)).filter(|before| *before > 0.0)
        };
        match self.step {
            Step::Comes { amount, .. } => now >= *amount,
            Step::Falls { percent, .. } => {
                before().is_some_and(|before| now <= before * (1.0 - percent / 100.0))
            }
            Step::Rises { percent, .. } => {
                before().is_some_and(|before| now >= before * (1.0 + percent / 100.0))
            }
        }
    }
}

/// The points that a scorecard gives the sequences of an account whose `day` was judged, whoever judged it.
pub(crate) fn points(core: &Core, account: &Account, day: Day) -> Vec<Points> {
    let policy = &core.policy;
    let sequences = policy.sequences.iter();
    sequences.map(|sequence| of(core, account, sequence, day).0).collect()
}

/// Points, and the days since it was complete where it still says something.
fn of(core: &Core, account: &Account, sequence: &Sequence, day: Day) -> (Points, Option<u16>) {
    let Some(days) = sequence.days_since(account, &core.policy, day) else {
        return (Points::ZERO, None);
    };
    let cohort = account.segment().unwrap_or_default();
    (core.scorer.sequence(cohort, sequence, sequence.strength(days)), days)
}

/// Renews the lines of an account whose `day` was judged.
pub(crate) fn renew(core: &Core, account: &mut Account, day: Day) {
    let first = core.policy.signals.len();
    for (index, sequence) in core.policy.sequences.iter().enumerate() {
        let (points, days) = of(core, account, sequence, day);
        if let Some(state) = account.hot.signals.get_mut(first + index) {
            (state.points, state.observed) = (points, days.map(f64::from));
        }
    }
}
