//! What the accounts of a cohort did together: the factor of a day, and how much days vary.
//!
//! Every account adds to its cohort's day at its own day close: each count relative to the account's level of the four weeks
//! before, weighted by how much it can say (a count of mean `l` whose factor varies by `v` a day has the relative variance
//! `v + 1/l`). The mean over the cohort is the day's factor: its weekdays, the holiday that nobody announced, the hour in which
//! tracking broke. The same rows keep what days and weeks vary by, which is what accounts without much history are judged by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::SignalKey;
use crate::history::RING_DAYS;
use crate::time::Day;

/// Days of a cohort that are kept: as long as an account's closed days, and a margin for accounts in other time zones.
pub const COHORT_DAYS: i32 = RING_DAYS as i32 + 3;
/// Variance of the factor of an account's day, before anything was measured.
pub const DAY_VARIANCE_PRIOR: f64 = 0.15;
/// The weight of the expectation that a day is like its weekday: a factor known to a seventh (one over its variance).
const FACTOR_PRIOR_WEIGHT: f64 = 50.0;
/// Account days that weigh as much as the expectation of what days vary by.
const VARIANCE_PRIOR_DAYS: f64 = 100.0;
/// Weeks of accounts that say it all that weigh as much as the expectation of what weeks vary by.
const DRIFT_PRIOR_WEEKS: f64 = 5.0;
/// The lowest and the highest factor that is believed.
const FACTOR_RANGE: (f64, f64) = (0.02, 50.0);

/// What the accounts of one cohort did with one signal on one day.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DaySum {
    /// Sum of the weights.
    pub weight: f64,
    /// Weighted sum of count over level.
    pub relative: f64,
    /// Accounts that added to it.
    pub accounts: u32,
    /// What the same weekday of the four weeks before came to.
    pub usual: f64,
    /// Squared residuals of a settled day beyond those of a Poisson count, and the squared expectations, both weighted.
    pub excess: Ratio,
}

/// A sum of things over a sum of weights.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Ratio {
    /// The numerator.
    pub sum: f64,
    /// The denominator.
    pub weight: f64,
}

impl Ratio {
    /// Adds one term.
    pub fn add(&mut self, sum: f64, weight: f64) {
        self.sum += sum;
        self.weight += weight;
    }

    fn merge(&mut self, other: Ratio) {
        self.add(other.sum, other.weight);
    }

    /// The ratio, with an expectation of some weight; never below zero.
    #[must_use]
    pub fn with_prior(self, expected: f64, weight: f64) -> f64 {
        ((self.sum + expected * weight) / (self.weight + weight).max(1e-12)).max(0.0)
    }
}

/// One day of a cohort.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CohortDay {
    /// Per signal.
    pub signals: Vec<(SignalKey, DaySum)>,
    /// Products of residuals of two signals over products of expectations: what the signals of an account have in common.
    pub shared: Ratio,
    /// Squared residuals of weeks beyond what days explain, relative to the squared expectation, and their number.
    pub drift: Ratio,
}

impl CohortDay {
    fn sums(&self, key: SignalKey) -> Option<&DaySum> {
        let at = self.signals.binary_search_by_key(&key, |(known, _)| *known).ok()?;
        Some(&self.signals[at].1)
    }
}

/// What days and weeks of a cohort vary by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variation {
    /// Variance of the factor that the signals of an account share on a day.
    pub shared: f64,
    /// Variance of an account's level from week to week, beyond what days explain.
    pub drift: f64,
}

/// What one account says of one day.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// Per signal; only `weight`, `relative` and `excess` count.
    pub signals: Vec<(SignalKey, DaySum)>,
    /// See [`CohortDay::shared`].
    pub shared: Ratio,
    /// See [`CohortDay::drift`].
    pub drift: Ratio,
}

/// One cohort: its last days.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cohort {
    days: BTreeMap<Day, CohortDay>,
    /// The factors, as far as they were asked for since they last changed.
    factors: BTreeMap<SignalKey, BTreeMap<Day, f64>>,
    variation: Option<Variation>,
    own: BTreeMap<SignalKey, f64>,
}

impl Cohort {
    /// The factor of a day for a signal: 1 is a day as the average one. A day of which too little is known is as its weekday was in the
    /// four weeks before.
    pub fn factor(&mut self, signal: SignalKey, day: Day) -> f64 {
        if let Some(known) = self.factors.get(&signal).and_then(|days| days.get(&day)) {
            return *known;
        }
        let sums = self.days.get(&day).and_then(|row| row.sums(signal)).copied();
        let sums = sums.unwrap_or_else(|| self.before(signal, day));
        let factor = (sums.relative + FACTOR_PRIOR_WEIGHT * sums.usual)
            / (sums.weight + FACTOR_PRIOR_WEIGHT);
        let factor = factor.clamp(FACTOR_RANGE.0, FACTOR_RANGE.1);
        self.factors.entry(signal).or_default().insert(day, factor);
        factor
    }

    /// A day of which nothing is known yet, by the days before it.
    fn before(&self, signal: SignalKey, day: Day) -> DaySum {
        let raw = |day: Day| {
            let sums = self.days.get(&day)?.sums(signal)?;
            (sums.weight > 0.0).then(|| sums.relative / sums.weight)
        };
        // The middle one: a holiday a week ago says nothing of today.
        let mut same: Vec<f64> = (1..=4).filter_map(|week| raw(day.plus(-7 * week))).collect();
        let usual = crate::stats::median(&mut same).unwrap_or(1.0);
        DaySum { usual, ..DaySum::default() }
    }

    /// The factors of the last `days` days up to `day`, newest first.
    pub fn factors(&mut self, signal: SignalKey, day: Day, days: usize) -> Vec<f64> {
        let mut known = self.factors.get(&signal).map(|factors| {
            factors
                .range(day.plus(1 - days as i32)..=day)
                .rev()
                .map(|(day, factor)| (*day, *factor))
                .collect::<Vec<_>>()
                .into_iter()
                .peekable()
        });
        (0..days)
            .map(|back| {
                let at = day.plus(-(back as i32));
                let ready =
                    known.as_mut().and_then(|known| known.next_if(|(known, _)| *known == at));
                ready.map_or_else(|| self.factor(signal, at), |(_, factor)| factor)
            })
            .collect()
    }

    /// What its days and weeks vary by.
    pub fn variation(&mut self) -> Variation {
        *self.variation.get_or_insert_with(|| {
            let (mut shared, mut drift) = (Ratio::default(), Ratio::default());
            for day in self.days.values() {
                shared.merge(day.shared);
                drift.merge(day.drift);
            }
            Variation {
                shared: shared.with_prior(DAY_VARIANCE_PRIOR, VARIANCE_PRIOR_DAYS),
                drift: drift.with_prior(DRIFT_PRIOR, DRIFT_PRIOR_WEEKS),
            }
        })
    }

    /// The variance of the factor of a signal's day, in all.
    pub fn day_variance(&mut self, signal: SignalKey) -> f64 {
        let days = &self.days;
        *self.own.entry(signal).or_insert_with(|| {
            let mut excess = Ratio::default();
            for sums in days.values().filter_map(|day| day.sums(signal)) {
                excess.merge(sums.excess);
            }
            excess.with_prior(DAY_VARIANCE_PRIOR, VARIANCE_PRIOR_DAYS)
        })
    }

    /// Accounts that added to a day of a signal.
    #[must_use]
    pub fn accounts(&self, signal: SignalKey, day: Day) -> u32 {
        self.days.get(&day).and_then(|row| row.sums(signal)).map_or(0, |sums| sums.accounts)
    }

    /// What is derived is a function of the rows, whenever it is asked for: a restart changes nothing.
    fn forget_derived(&mut self, day: Day) {
        self.variation = None;
        self.own.clear();
        for days in self.factors.values_mut() {
            for weeks in 0..=4 {
                days.remove(&day.plus(7 * weeks));
            }
        }
    }
}

/// Variance of an account's weekly level about its long one, before anything was measured: levels of real accounts drift.
const DRIFT_PRIOR: f64 = 0.01;

/// All cohorts of a partition.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cohorts {
    cohorts: BTreeMap<String, Cohort>,
    /// The rows that changed since [`Cohorts::settle`], as they were before.
    changed: BTreeMap<(String, Day), Option<CohortDay>>,
}

/// Cohorts that a partition tells apart; accounts of further ones belong to the unnamed one.
pub const COHORTS_MAX: usize = 64;

impl Cohorts {
    /// The cohort of a name. Beyond [`COHORTS_MAX`], and without a name, the unnamed one.
    pub fn named(&mut self, name: Option<&str>) -> &mut Cohort {
        let name = self.known(name);
        self.cohorts.entry(name).or_default()
    }

    fn known(&self, name: Option<&str>) -> String {
        let name = name.unwrap_or("");
        let room = self.cohorts.len() < COHORTS_MAX || self.cohorts.contains_key(name);
        if room { name.to_owned() } else { String::new() }
    }

    /// A cohort, with a row for a day that is to be changed. What is further back than [`COHORT_DAYS`] before its newest day is dropped.
    fn day(&mut self, name: Option<&str>, day: Day) -> &mut Cohort {
        let name = self.known(name);
        let cohort = self.cohorts.entry(name.clone()).or_default();
        let before = || cohort.days.get(&day).cloned();
        self.changed.entry((name.clone(), day)).or_insert_with(before);
        cohort.forget_derived(day);
        let newest = cohort.days.last_key_value().map_or(day, |(newest, _)| (*newest).max(day));
        while let Some(oldest) = cohort.days.first_entry() {
            if newest.since(*oldest.key()) <= COHORT_DAYS {
                break;
            }
            let (gone, row) = oldest.remove_entry();
            self.changed.entry((name.clone(), gone)).or_insert(Some(row));
            for days in cohort.factors.values_mut() {
                days.remove(&gone);
            }
        }
        cohort.days.entry(day).or_default();
        cohort
    }

    /// Adds what an account did on a day, per signal, and what it says of the variation of days and weeks.
    pub fn add(&mut self, name: Option<&str>, day: Day, told: &Told) {
        let cohort = self.day(name, day);
        for (key, part) in &told.signals {
            let known = cohort.days.get(&day).and_then(|row| row.sums(*key)).copied();
            let mut sums = known.unwrap_or_else(|| cohort.before(*key, day));
            sums.weight += part.weight;
            sums.relative += part.relative;
            sums.accounts += 1;
            sums.excess.merge(part.excess);
            let Some(row) = cohort.days.get_mut(&day) else { continue };
            match row.signals.binary_search_by_key(key, |(known, _)| *known) {
                Ok(at) => row.signals[at].1 = sums,
                Err(at) => row.signals.insert(at, (*key, sums)),
            }
        }
        if let Some(row) = cohort.days.get_mut(&day) {
            row.shared.merge(told.shared);
            row.drift.merge(told.drift);
        }
    }

    /// The rows that changed, by cohort and day: none for one that was dropped.
    pub fn changed(&self) -> impl Iterator<Item = (&str, Day, Option<&CohortDay>)> {
        self.changed.keys().map(|(name, day)| {
            let row = self.cohorts.get(name).and_then(|cohort| cohort.days.get(day));
            (name.as_str(), *day, row)
        })
    }

    /// What changed is written.
    pub fn settle(&mut self) {
        self.changed.clear();
    }

    /// What changed is as it was before.
    pub fn discard(&mut self) {
        for ((name, day), row) in std::mem::take(&mut self.changed) {
            self.restore(&name, day, row);
        }
    }

    /// Puts a row back as a store has it: none where it has none.
    pub fn restore(&mut self, name: &str, day: Day, row: Option<CohortDay>) {
        let cohort = self.cohorts.entry(name.to_owned()).or_default();
        cohort.forget_derived(day);
        match row {
            Some(row) => drop(cohort.days.insert(day, row)),
            None => drop(cohort.days.remove(&day)),
        }
        if cohort.days.is_empty() {
            self.cohorts.remove(name);
        }
    }

    /// Every row, by cohort and day.
    pub fn rows(&self) -> impl Iterator<Item = (&str, Day, &CohortDay)> {
        self.cohorts.iter().flat_map(|(name, cohort)| {
            cohort.days.iter().map(move |(day, row)| (name.as_str(), *day, row))
        })
    }
}
