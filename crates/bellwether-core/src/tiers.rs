//! What accounts of a plan use, as far as one account can be compared with it: for the condition that an account's usage is like that of
//! a higher plan ([`When::HigherTier`]).
//!
//! Every established account adds, at its day close, its levels of the last four weeks to its plan's day, each as one count in a class of
//! levels. Of the day before, the median of a plan can be read then. These are the accounts of the partition and not those of all: which
//! partition an account is in is a hash of its id, so they are a fair sample, and a plan of which it has few is not compared with. The rows
//! are sums, which name nobody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::{Account, SignalKey};
use crate::close::maturity;
use crate::cohort::{Cohorts, entry};
use crate::condition::{When, level};
use crate::output::Maturity;
use crate::policy::Compiled;
use crate::time::Day;

/// Days over which levels are added up.
pub(crate) const LEVEL_DAYS: u16 = 28;
/// Days of levels that are kept, and that are looked back for one with enough accounts.
pub(crate) const KEPT_DAYS: i32 = 7;
/// Bits of a number that tell its class: all but the last 47 of the mantissa, so that a class is at most a 32nd wide, and whole numbers up to
/// 64 have one each.
const CLASS_SHIFT: u32 = 47;

/// How the levels of accounts are distributed: their number by class, rising.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Levels(Vec<(u32, u32)>);

impl Levels {
    /// Adds the level of an account; below zero it counts as zero.
    pub fn add(&mut self, level: f64) {
        let class = class(level);
        match self.0.binary_search_by_key(&class, |(known, _)| *known) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(1),
            Err(at) => self.0.insert(at, (class, 1)),
        }
    }

    fn accounts(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The median (of an even number the upper one): the least level of its class.
    fn median(&self) -> Option<f64> {
        let half = self.accounts() / 2;
        let mut below = 0;
        let (class, _) = self.0.iter().find(|(_, count)| {
            below += u64::from(*count);
            below > half
        })?;
        Some(f64::from_bits(u64::from(*class) << CLASS_SHIFT))
    }
}

fn class(level: f64) -> u32 {
    // Numbers above zero sort as their bits do.
    u32::try_from(level.max(0.0).to_bits() >> CLASS_SHIFT).unwrap_or(u32::MAX)
}

/// What the partition's accounts of the plans did, as of a day.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlansDay {
    /// Per plan and signal.
    pub plans: BTreeMap<String, Vec<(SignalKey, Levels)>>,
}

impl PlansDay {
    fn of(&self, plan: &str, signal: SignalKey) -> Option<&Levels> {
        let signals = self.plans.get(plan)?;
        let at = signals.binary_search_by_key(&signal, |(known, _)| *known).ok()?;
        Some(&signals[at].1)
    }
}

/// Adds what an account did to its plan's day, where a condition asks for it.
pub(crate) fn contribute(account: &Account, policy: &Compiled, cohorts: &mut Cohorts, day: Day) {
    if cohorts.is_for_older() {
        return;
    }
    let plan = account.profile.as_ref().and_then(|profile| profile.plan.as_ref());
    let Some(plan) = plan.filter(|_| maturity(account) == Maturity::Established) else { return };
    let mut told = BTreeMap::new();
    for condition in &policy.conditions {
        let When::HigherTier { plans, signals, .. } = &condition.when else { continue };
        for name in signals.iter().filter(|_| plans.contains(plan)) {
            let index = policy.signals.iter().position(|signal| signal.name == *name);
            let Some(index) = index else { continue };
            if let Some(level) = level(account, policy, index, LEVEL_DAYS, day) {
                told.insert(policy.keys()[index], level);
            }
        }
    }
    if !told.is_empty() {
        cohorts.named(None).tell_levels(day, |row| {
            let signals = row.plans.entry(plan.clone()).or_default();
            for (key, level) in &told {
                entry(signals, *key, Levels::default).add(*level);
            }
        });
    }
}

/// What the accounts of a plan use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Typical {
    /// The median of the plan itself.
    pub own: f64,
    /// That of the plan above.
    pub above: f64,
}

/// A plan above an account's own, and what is known of both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Above<'a> {
    /// The plan above.
    pub plan: &'a str,
    own: &'a str,
    row: &'a PlansDay,
    accounts_min: u32,
}

impl<'a> Above<'a> {
    /// The next plan above an account's own of which enough accounts are known, as of the last day before `day` on which that many were.
    pub(crate) fn of(
        cohorts: &'a Cohorts,
        (plans, own): (&'a [String], &'a str),
        accounts_min: u32,
        day: Day,
    ) -> Option<Above<'a>> {
        let higher = &plans[plans.iter().position(|plan| plan == own)? + 1..];
        let known = |row: &PlansDay, plan: &str| {
            let signals = row.plans.get(plan).into_iter().flatten();
            signals.map(|(_, levels)| levels.accounts()).max() >= Some(u64::from(accounts_min))
        };
        let rows = (1..=KEPT_DAYS).filter_map(|back| cohorts.levels(day.plus(-back)));
        let mut compared = rows.filter(|row| known(row, own)).filter_map(|row| {
            let plan = higher.iter().find(|plan| known(row, plan))?;
            Some(Above { plan, own, row, accounts_min })
        });
        compared.next()
    }

    /// What is typical of a signal, where enough accounts of both plans have it.
    pub(crate) fn typical(&self, signal: SignalKey) -> Option<Typical> {
        let enough = |levels: &&Levels| levels.accounts() >= u64::from(self.accounts_min);
        let median = |plan: &str| self.row.of(plan, signal).filter(enough)?.median();
        Some(Typical { own: median(self.own)?, above: median(self.plan)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn levels(of: &[f64]) -> Levels {
        let mut levels = Levels::default();
        of.iter().for_each(|level| levels.add(*level));
        levels
    }

    #[test]
    fn a_median_of_small_whole_numbers_is_exact() {
        assert_eq!(Levels::default().median(), None);
        assert_eq!(levels(&[0.0, 0.0, 3.0]).median(), Some(0.0));
        assert_eq!(levels(&[40.0, 41.0, 42.0]).median(), Some(41.0));
        assert_eq!(levels(&[-5.0]).median(), Some(0.0));
    }

    proptest! {
        #[test]
        fn a_median_is_a_32nd_too_low_at_most(mut of in prop::collection::vec(0.0..1e9_f64, 1..60)) {
            let median = levels(&of).median().expect("there are levels");
            of.sort_by(f64::total_cmp);
            let exact = of[of.len() / 2];
            prop_assert!(median <= exact && median >= exact * (1.0 - 1.0 / 32.0), "{median} for {exact}");
        }
    }
}
