//! What the accounts of a cohort did together: the factor of a day, and how much days vary.
//!
//! Every account adds to its cohort's day at its own day close: each count relative to the account's level of the four weeks
//! before, weighted by how much it can say (a count of mean `l` whose factor varies by `v` a day has the relative variance
//! `v + 1/l`). The mean over the cohort is the day's factor: its weekdays, the holiday that nobody announced, the hour in which
//! tracking broke. The same rows keep what days and weeks vary by, which is what accounts without much history are judged by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::{SignalKey, by_text};
use crate::calendar::Calendar;
use crate::chance::{self, Own, Passed, Tails, Tally};
use crate::feedback::Results;
use crate::fleet::{FleetState, HOUR_ROWS, Message, PART_HOURS, Part, Period, Sums};
use crate::history::RING_DAYS;
use crate::policy::Compiled;
use crate::promotion::Promotions;
use crate::tiers::{KEPT_DAYS, PlansDay};
use crate::time::{Day, Millis};

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
/// The weight at which a weekday counts as an ordinary day by half.
const USUAL_PRIOR_WEIGHT: f64 = 10.0;
/// Days after which a day is settled: late events have come, and the other accounts of the cohort have closed it.
pub(crate) const SETTLED_DAYS: usize = 3;
/// The share of accounts (by weight) that must have spoken again before that counts.
const SETTLED_SHARE: f64 = 0.8;
/// Days back from the newest of which the fleet is told again when they change.
const UNTOLD_DAYS: i32 = 4;
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
    /// The same sums of what accounts said once late events had come: weighted count, weight.
    pub settled: Ratio,
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

impl DaySum {
    /// What is believed of the day: what accounts say of it once late events have come, when most have. (Levels rest on days with all
    /// their late events: to measure days by less would let a cohort shrink by itself.)
    #[must_use]
    pub fn believed(&self) -> Ratio {
        if self.settled.weight >= SETTLED_SHARE * self.weight {
            return self.settled;
        }
        Ratio { sum: self.relative, weight: self.weight }
    }
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
    /// Accounts that closed it.
    pub accounts: u32,
    /// The scores of those that have one, in hundredths of a point, summed; and how many have one.
    pub score: (i64, u32),
    /// Alerts of accounts that were held back on the day, because the cohort as a whole deviates.
    pub held_back: u32,
    /// Whether the fleet was told since the row changed.
    pub told: bool,
    /// Per signal.
    pub signals: Vec<(SignalKey, DaySum)>,
    /// Products of residuals of two signals over products of expectations: what the signals of an account have in common.
    pub shared: Ratio,
    /// Squared residuals of weeks beyond what days explain, relative to the squared expectation, and their number.
    pub drift: Ratio,
}

impl CohortDay {
    pub(crate) fn sums(&self, key: SignalKey) -> Option<&DaySum> {
        let at = self.signals.binary_search_by_key(&key, |(known, _)| *known).ok()?;
        Some(&self.signals[at].1)
    }
}

/// What the accounts of a cohort did in an hour of UTC.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CohortHour {
    /// Whether the fleet was told since the row changed.
    pub told: bool,
    /// Per counted signal.
    pub counts: Vec<(SignalKey, f64)>,
}

/// What all partitions said of a day.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DayTotal {
    /// Accounts behind it.
    pub accounts: u32,
    /// Per signal.
    pub signals: Vec<(SignalKey, Sums)>,
}

/// Which row of a cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CohortKey {
    /// What the accounts of the partition did on a day.
    Day(Day),
    /// What they did in an hour, counted since 1970.
    Hour(i64),
    /// What all partitions said of a day.
    Total(Day),
    /// What a partition said of a period: where it is added up.
    Part(Period, u32),
    /// What is wrong with the cohort as a whole: where it is added up.
    Fleet,
    /// Until when alerts of its accounts are held back.
    Hold,
    /// The findings of the partition's accounts in a period of four weeks, counted since 1970.
    Chance(i64),
    /// What became of its alerts and accounts, in all partitions.
    Results,
    /// What the partition's accounts of the plans used, as of a day; of the unnamed cohort only.
    Plans(Day),
}

/// A row of a cohort.
#[derive(Debug, Clone, PartialEq)]
pub enum CohortRow {
    /// See [`CohortKey::Day`].
    Day(CohortDay),
    /// See [`CohortKey::Hour`].
    Hour(CohortHour),
    /// See [`CohortKey::Total`].
    Total(DayTotal),
    /// See [`CohortKey::Part`].
    Part(Part),
    /// See [`CohortKey::Fleet`].
    Fleet(Box<FleetState>),
    /// See [`CohortKey::Hold`].
    Hold(Millis),
    /// See [`CohortKey::Chance`].
    Chance(Tally),
    /// See [`CohortKey::Results`].
    Results(Box<Results>),
    /// See [`CohortKey::Plans`].
    Plans(PlansDay),
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
    /// Its score in hundredths of a point, where it has one.
    pub score: Option<i64>,
    /// Per signal; only `weight`, `relative` and `excess` count.
    pub signals: Vec<(SignalKey, DaySum)>,
    /// Per signal, of the day that is settled now: weighted count, weight.
    pub settled: Vec<(SignalKey, Ratio)>,
    /// See [`CohortDay::shared`].
    pub shared: Ratio,
    /// See [`CohortDay::drift`].
    pub drift: Ratio,
}

/// One cohort.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cohort {
    days: BTreeMap<Day, CohortDay>,
    hours: BTreeMap<i64, CohortHour>,
    totals: BTreeMap<Day, DayTotal>,
    parts: BTreeMap<(Period, u32), Part>,
    fleet: Option<Box<FleetState>>,
    hold: Option<Millis>,
    chances: BTreeMap<i64, Tally>,
    pub(crate) results: Option<Box<Results>>,
    plans: BTreeMap<Day, PlansDay>,
    /// How rare findings are in a period, by a calibration: as last asked for.
    tails: Option<((i64, u64), Tails)>,
    /// The factors, as far as they were asked for since they last changed.
    factors: BTreeMap<SignalKey, Factors>,
    variation: Option<Variation>,
    own: BTreeMap<SignalKey, f64>,
    /// The rows that changed since [`Cohorts::settle`], as they were before.
    changed: BTreeMap<CohortKey, Option<CohortRow>>,
}

/// Factors of consecutive days: every close of an account asks for months of them.
#[derive(Debug, Clone, PartialEq, Default)]
struct Factors {
    first: Day,
    /// 0 where it was not asked for.
    days: Vec<f64>,
}

/// A list of factors that would be longer begins anew.
const FACTORS_MAX: usize = 4096;

impl Factors {
    fn index(&self, day: Day) -> Option<usize> {
        usize::try_from(day.since(self.first)).ok().filter(|index| *index < self.days.len())
    }

    fn get(&self, day: Day) -> Option<f64> {
        Some(self.days[self.index(day)?]).filter(|factor| *factor > 0.0)
    }

    fn forget(&mut self, day: Day) {
        if let Some(index) = self.index(day) {
            self.days[index] = 0.0;
        }
    }

    fn set(&mut self, day: Day, factor: f64) {
        let first = if self.days.is_empty() { day } else { self.first.min(day) };
        let end = self.first.plus(self.days.len() as i32).max(day.plus(1));
        let wanted = end.since(first).unsigned_abs() as usize;
        if self.days.is_empty() || wanted > FACTORS_MAX {
            *self = Factors { first: day, days: vec![factor] };
            return;
        }
        let before = self.first.since(first).unsigned_abs() as usize;
        self.days.splice(..0, std::iter::repeat_n(0.0, before));
        self.first = first;
        self.days.resize(wanted.max(self.days.len()), 0.0);
        if let Some(index) = self.index(day) {
            self.days[index] = factor;
        }
    }

    /// The last `count` days up to `day`, newest first; 0 where it was not asked for.
    fn back(&self, day: Day, count: usize) -> Vec<f64> {
        (0..count).map(|back| self.get(day.plus(-(back as i32))).unwrap_or(0.0)).collect()
    }
}

impl Cohort {
    /// The factor of a day for a signal: 1 is a day as the average one. A day of which too little is known is as its weekday was in the
    /// four weeks before.
    pub fn factor(&mut self, signal: SignalKey, day: Day) -> f64 {
        if let Some(known) = self.factors.get(&signal).and_then(|days| days.get(day)) {
            return known;
        }
        let sums = self.known(signal, day);
        let believed = sums.believed();
        let factor = (believed.sum + FACTOR_PRIOR_WEIGHT * sums.usual)
            / (believed.weight + FACTOR_PRIOR_WEIGHT);
        let factor = factor.clamp(FACTOR_RANGE.0, FACTOR_RANGE.1);
        self.factors.entry(signal).or_default().set(day, factor);
        factor
    }

    /// What is known of a day: by all partitions, where they know more than this one.
    fn known(&self, signal: SignalKey, day: Day) -> DaySum {
        let sums = self.days.get(&day).and_then(|row| row.sums(signal)).copied();
        let sums = sums.unwrap_or_else(|| self.before(signal, day));
        let total = self.totals.get(&day).filter(|total| total.accounts > sums.accounts);
        let found = total.and_then(|total| find(&total.signals, signal));
        found.map_or(sums, |total| DaySum {
            weight: total.weight,
            relative: total.relative,
            settled: Ratio::default(),
            ..sums
        })
    }

    /// What the same weekday of the four weeks before a day came to.
    #[must_use]
    pub fn usual(&self, signal: SignalKey, day: Day) -> f64 {
        self.known(signal, day).usual
    }

    /// Until when alerts of its accounts are held back.
    #[must_use]
    pub fn hold(&self) -> Option<Millis> {
        self.hold
    }

    /// What is wrong with the cohort as a whole, where it is added up.
    #[must_use]
    pub fn fleet(&self) -> Option<&FleetState> {
        self.fleet.as_deref()
    }

    /// A day of the partition's accounts.
    #[must_use]
    pub fn day(&self, day: Day) -> Option<&CohortDay> {
        self.days.get(&day)
    }

    /// An hour of the partition's accounts.
    #[must_use]
    pub fn hour(&self, hour: i64) -> Option<&CohortHour> {
        self.hours.get(&hour)
    }

    /// Days of which the fleet was not told since they changed.
    pub(crate) fn untold_days(&self) -> impl Iterator<Item = Day> {
        let newest = self.days.last_key_value().map_or(Day(0), |(newest, _)| *newest);
        let recent = self.days.range(newest.plus(-UNTOLD_DAYS)..);
        recent.filter(|(_, row)| !row.told).map(|(day, _)| *day)
    }

    /// Hours of which the fleet was not told since they changed.
    pub(crate) fn untold_hours(&self, hours: std::ops::Range<i64>) -> impl Iterator<Item = i64> {
        self.hours.range(hours).filter(|(_, row)| !row.told).map(|(hour, _)| *hour)
    }

    /// The first hour that is kept.
    pub(crate) fn first_hour(&self) -> Option<i64> {
        self.hours.first_key_value().map(|(hour, _)| *hour)
    }

    /// The newest day that the partition's accounts closed.
    pub(crate) fn newest_day(&self) -> Option<(Day, &CohortDay)> {
        self.days.last_key_value().map(|(day, row)| (*day, row))
    }

    /// What the partitions said of a period, by partition.
    pub(crate) fn parts(&self, period: Period) -> impl Iterator<Item = (u32, &Part)> {
        let range = self.parts.range((period, 0)..=(period, u32::MAX));
        range.map(|((_, source), part)| (*source, part))
    }

    /// A row.
    #[must_use]
    pub fn row(&self, key: CohortKey) -> Option<CohortRow> {
        match key {
            CohortKey::Day(day) => self.days.get(&day).cloned().map(CohortRow::Day),
            CohortKey::Hour(hour) => self.hours.get(&hour).cloned().map(CohortRow::Hour),
            CohortKey::Total(day) => self.totals.get(&day).cloned().map(CohortRow::Total),
            CohortKey::Part(period, source) => {
                self.parts.get(&(period, source)).cloned().map(CohortRow::Part)
            }
            CohortKey::Fleet => self.fleet.clone().map(CohortRow::Fleet),
            CohortKey::Hold => self.hold.map(CohortRow::Hold),
            CohortKey::Chance(period) => self.chances.get(&period).cloned().map(CohortRow::Chance),
            CohortKey::Results => self.results.clone().map(CohortRow::Results),
            CohortKey::Plans(day) => self.plans.get(&day).cloned().map(CohortRow::Plans),
        }
    }

    /// The keys of all rows.
    fn keys(&self) -> impl Iterator<Item = CohortKey> {
        let days = self.days.keys().map(|day| CohortKey::Day(*day));
        let hours = self.hours.keys().map(|hour| CohortKey::Hour(*hour));
        let totals = self.totals.keys().map(|day| CohortKey::Total(*day));
        let parts = self.parts.keys().map(|(period, source)| CohortKey::Part(*period, *source));
        let fleet = self.fleet.iter().map(|_| CohortKey::Fleet);
        let hold = self.hold.iter().map(|_| CohortKey::Hold);
        let chances = self.chances.keys().map(|period| CohortKey::Chance(*period));
        let results = self.results.iter().map(|_| CohortKey::Results);
        let sums = days.chain(hours).chain(totals).chain(parts);
        let plans = self.plans.keys().map(|day| CohortKey::Plans(*day));
        sums.chain(fleet).chain(hold).chain(chances).chain(results).chain(plans)
    }

    /// Notes that a row is going to change.
    fn touch(&mut self, key: CohortKey) {
        if !self.changed.contains_key(&key) {
            let before = self.row(key);
            self.changed.insert(key, before);
        }
    }

    /// Changes a row as a whole: none removes it.
    pub(crate) fn put(&mut self, key: CohortKey, row: Option<CohortRow>) {
        self.touch(key);
        self.place(key, row);
    }

    fn place(&mut self, key: CohortKey, row: Option<CohortRow>) {
        if let CohortKey::Day(day) | CohortKey::Total(day) = key {
            self.forget_derived(day);
        }
        if let CohortKey::Chance(_) = key {
            self.tails = None;
        }
        match (key, row) {
            (CohortKey::Day(day), Some(CohortRow::Day(row))) => drop(self.days.insert(day, row)),
            (CohortKey::Hour(hour), Some(CohortRow::Hour(row))) => {
                drop(self.hours.insert(hour, row));
            }
            (CohortKey::Total(day), Some(CohortRow::Total(row))) => {
                drop(self.totals.insert(day, row));
            }
            (CohortKey::Part(period, source), Some(CohortRow::Part(row))) => {
                drop(self.parts.insert((period, source), row));
            }
            (CohortKey::Fleet, Some(CohortRow::Fleet(row))) => self.fleet = Some(row),
            (CohortKey::Hold, Some(CohortRow::Hold(until))) => self.hold = Some(until),
            (CohortKey::Chance(period), Some(CohortRow::Chance(row))) => {
                drop(self.chances.insert(period, row));
            }
            (CohortKey::Results, Some(CohortRow::Results(row))) => self.results = Some(row),
            (CohortKey::Plans(day), Some(CohortRow::Plans(row))) => {
                drop(self.plans.insert(day, row));
            }
            (CohortKey::Day(day), _) => drop(self.days.remove(&day)),
            (CohortKey::Hour(hour), _) => drop(self.hours.remove(&hour)),
            (CohortKey::Total(day), _) => drop(self.totals.remove(&day)),
            (CohortKey::Part(period, source), _) => drop(self.parts.remove(&(period, source))),
            (CohortKey::Fleet, _) => self.fleet = None,
            (CohortKey::Hold, _) => self.hold = None,
            (CohortKey::Results, _) => self.results = None,
            (CohortKey::Plans(day), _) => drop(self.plans.remove(&day)),
            (CohortKey::Chance(period), _) => drop(self.chances.remove(&period)),
        }
    }

    /// Drops the rows that are too old for anything, as of an hour.
    pub(crate) fn prune(&mut self, hour: i64) {
        let hours = self.hours.range(..hour - HOUR_ROWS).map(|(hour, _)| CohortKey::Hour(*hour));
        let kept = hour - PART_HOURS;
        let day = Day(i32::try_from(kept.div_euclid(24)).unwrap_or(i32::MIN));
        let hourly = self.parts.range(..(Period::Hour(kept), 0));
        let daily = self.parts.range((Period::Day(Day(i32::MIN)), 0)..(Period::Day(day), 0));
        let parts = hourly.chain(daily);
        let parts = parts.map(|((period, source), _)| CohortKey::Part(*period, *source));
        let newest = self.totals.last_key_value().map_or(Day(i32::MIN), |(newest, _)| *newest);
        let kept = newest.plus(-COHORT_DAYS);
        let totals = self.totals.range(..kept).map(|(day, _)| CohortKey::Total(*day));
        // A cohort that is no more.
        let day = Day(i32::try_from(hour.div_euclid(24)).unwrap_or(0));
        let days = self.days.range(..day.plus(-COHORT_DAYS)).map(|(day, _)| CohortKey::Day(*day));
        let kept = chance::oldest(chance::period(day));
        let chances = self.chances.range(..kept).map(|(period, _)| CohortKey::Chance(*period));
        let old = hours.chain(parts).chain(totals).chain(days).chain(chances);
        for key in old.collect::<Vec<_>>() {
            self.put(key, None);
        }
    }

    fn is_empty(&self) -> bool {
        self.keys().next().is_none()
    }

    /// The factors of the same weekday in the four weeks before a day, as far as they are known.
    fn same_weekday(&self, signal: SignalKey, day: Day) -> Vec<f64> {
        // Few accounts, or hardly any counts, say little: their days are ordinary ones.
        let raw = |day: Day| {
            let believed = self.days.get(&day)?.sums(signal)?.believed();
            (believed.weight > 0.0).then(|| believed.with_prior(1.0, USUAL_PRIOR_WEIGHT))
        };
        (1..=4).filter_map(|week| raw(day.plus(-7 * week))).collect()
    }

    /// Of how many of the four weeks before a day its weekday is known.
    pub(crate) fn weeks_before(&self, signal: SignalKey, day: Day) -> usize {
        self.same_weekday(signal, day).len()
    }

    /// A day of which nothing is known yet, by the days before it.
    fn before(&self, signal: SignalKey, day: Day) -> DaySum {
        // The middle one: a holiday a week ago says nothing of today.
        let mut same = self.same_weekday(signal, day);
        let usual = crate::stats::median(&mut same).unwrap_or(1.0);
        DaySum { usual, ..DaySum::default() }
    }

    /// The factors of the last `days` days up to `day`, newest first.
    pub fn factors(&mut self, signal: SignalKey, day: Day, days: usize) -> Vec<f64> {
        let known = self.factors.get(&signal);
        let mut factors = known.map_or_else(|| vec![0.0; days], |known| known.back(day, days));
        for (back, factor) in factors.iter_mut().enumerate().filter(|(_, factor)| **factor == 0.0) {
            *factor = self.factor(signal, day.plus(-(back as i32)));
        }
        factors
    }

    /// What an account can say of a day, as the root of the mean square: one over the variance of a day's factor by its count alone.
    /// None where nothing was expected of any. The accounts are those of the partition, with those that are too new to say anything.
    pub(crate) fn precision(&self, signal: SignalKey, day: Day) -> Option<f64> {
        // Excesses are weighted by that square.
        let sums = self.days.get(&day)?.sums(signal)?;
        (sums.excess.weight > 0.0)
            .then(|| (sums.excess.weight / f64::from(sums.accounts.max(1))).sqrt())
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

    fn add(&mut self, day: Day, told: &Told) {
        self.touch(CohortKey::Day(day));
        self.forget_derived(day);
        let newest = self.days.last_key_value().map_or(day, |(newest, _)| (*newest).max(day));
        let old: Vec<Day> =
            self.days.range(..newest.plus(-COHORT_DAYS)).map(|(day, _)| *day).collect();
        for day in old {
            self.put(CohortKey::Day(day), None);
            for days in self.factors.values_mut() {
                days.forget(day);
            }
        }
        let mut row = self.days.remove(&day).unwrap_or_default();
        row.told = false;
        row.accounts += 1;
        if let Some(score) = told.score {
            row.score = (row.score.0 + score, row.score.1 + 1);
        }
        for (key, part) in &told.signals {
            let sums = entry(&mut row.signals, *key, || self.before(*key, day));
            sums.weight += part.weight;
            sums.relative += part.relative;
            sums.accounts += 1;
            sums.excess.merge(part.excess);
        }
        row.shared.merge(told.shared);
        row.drift.merge(told.drift);
        self.days.insert(day, row);
        self.settle_day(day.plus(-(SETTLED_DAYS as i32)), &told.settled);
    }

    /// Adds what an account says of a day again.
    fn settle_day(&mut self, day: Day, told: &[(SignalKey, Ratio)]) {
        if told.is_empty() || !self.days.contains_key(&day) {
            return;
        }
        self.touch(CohortKey::Day(day));
        self.forget_derived(day);
        let Some(row) = self.days.get_mut(&day) else { return };
        row.told = false;
        for (key, part) in told {
            if let Ok(at) = row.signals.binary_search_by_key(key, |(known, _)| *known) {
                row.signals[at].1.settled.merge(*part);
            }
        }
    }

    /// How rare findings are on a day, by those of the periods before its own.
    pub(crate) fn tails(&mut self, policy: &Compiled, day: Day) -> &Tails {
        let now = (chance::period(day), policy.findings());
        let known = self.tails.take().filter(|(asked, _)| *asked == now);
        let tails = known.map(|(_, tails)| tails).unwrap_or_else(|| {
            let before = self.chances.range(chance::oldest(now.0)..now.0).map(|(_, tally)| tally);
            Tails::of(before.filter(|tally| tally.findings == now.1), &policy.calibration)
        });
        &self.tails.insert((now, tails)).1
    }

    /// Counts what an account shows on a day.
    pub(crate) fn pass(&mut self, policy: &Compiled, own: &mut Own, passed: Passed, day: Day) {
        let period = chance::period(day);
        self.touch(CohortKey::Chance(period));
        let tally = self.chances.entry(period).or_default();
        if tally.findings != policy.findings() {
            *tally = Tally { findings: policy.findings(), ..Tally::default() };
        }
        tally.add(own, passed, day);
        // A day that comes late is known from now on.
        if self.tails.as_ref().is_some_and(|((asked, _), _)| *asked > period) {
            self.tails = None;
        }
    }

    /// Notes an alert that was held back on a day.
    pub(crate) fn hold_back(&mut self, day: Day) {
        self.touch(CohortKey::Day(day));
        let row = self.days.entry(day).or_default();
        row.held_back += 1;
        row.told = false;
    }

    /// Counts something in an hour, if there is anything.
    pub fn count(&mut self, hour: i64, amounts: impl Iterator<Item = (SignalKey, f64)>) {
        let mut amounts = amounts.peekable();
        if amounts.peek().is_none() {
            return;
        }
        self.touch(CohortKey::Hour(hour));
        let row = self.hours.entry(hour).or_default();
        row.told = false;
        for (key, amount) in amounts {
            *entry(&mut row.counts, key, || 0.0) += amount;
        }
    }

    /// Changes what is known of the plans as of a day, unless that is too old to be asked for.
    pub(crate) fn tell_levels(&mut self, day: Day, tell: impl FnOnce(&mut PlansDay)) {
        let newest = self.plans.last_key_value().map_or(day, |(newest, _)| (*newest).max(day));
        let kept = newest.plus(-KEPT_DAYS);
        if day < kept {
            return;
        }
        let old: Vec<Day> = self.plans.range(..kept).map(|(day, _)| *day).collect();
        for day in old {
            self.put(CohortKey::Plans(day), None);
        }
        self.touch(CohortKey::Plans(day));
        tell(self.plans.entry(day).or_default());
    }

    /// What is derived is a function of the rows, whenever it is asked for: a restart changes nothing.
    fn forget_derived(&mut self, day: Day) {
        self.variation = None;
        self.own.clear();
        for days in self.factors.values_mut() {
            for weeks in 0..=4 {
                days.forget(day.plus(7 * weeks));
            }
        }
    }
}

/// Variance of an account's weekly level about its long one, before anything was measured: levels of real accounts drift.
const DRIFT_PRIOR: f64 = 0.01;

/// All cohorts of a partition, and what else is not of one account.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cohorts {
    /// By name, ascending.
    cohorts: Vec<(String, Cohort)>,
    /// What goes to other partitions with what changed.
    outbox: Vec<Message>,
    calendar: Calendar,
    promotions: Promotions,
    challengers: Promotions,
    /// See [`Cohorts::is_for_older`].
    for_older: bool,
    /// See [`Cohorts::is_unranked`].
    unranked: bool,
}

/// Cohorts that a partition tells apart; accounts of further ones belong to the unnamed one.
pub const COHORTS_MAX: usize = 64;

impl Cohorts {
    /// The cohort of a name. Beyond [`COHORTS_MAX`], and without a name, the unnamed one.
    pub fn named(&mut self, name: Option<&str>) -> &mut Cohort {
        let name = name.unwrap_or("");
        let at = match self.find(name) {
            Ok(at) => at,
            Err(_) => {
                // Those without rows are not there after a restart.
                let known = self.cohorts.iter().filter(|(_, cohort)| !cohort.is_empty()).count();
                self.place(if known < COHORTS_MAX { name } else { "" })
            }
        };
        &mut self.cohorts[at].1
    }

    /// Whether a version from before there were levels of plans and ends of fiscal years has to be able to read what is kept: then neither
    /// is kept, and what rests on them says nothing.
    #[must_use]
    pub fn is_for_older(&self) -> bool {
        self.for_older
    }

    /// See [`Cohorts::is_for_older`].
    pub fn set_for_older(&mut self, is: bool) {
        self.for_older = is;
    }

    /// Whether a version from before there was a row of what a learned scorecard said has to be able to read what is kept: then none is
    /// written.
    #[must_use]
    pub fn is_unranked(&self) -> bool {
        self.unranked
    }

    /// See [`Cohorts::is_unranked`].
    pub fn set_unranked(&mut self, is: bool) {
        self.unranked = is;
    }

    /// The calendar, which is the same for all cohorts.
    #[must_use]
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// See [`Cohorts::calendar`].
    pub fn calendar_mut(&mut self) -> &mut Calendar {
        &mut self.calendar
    }

    /// The promotions of models, which are the same for all cohorts.
    #[must_use]
    pub fn promotions(&self) -> &Promotions {
        &self.promotions
    }

    /// See [`Cohorts::promotions`].
    pub fn promotions_mut(&mut self) -> &mut Promotions {
        &mut self.promotions
    }

    /// The challengers that score beside the champion, from when on: the last one that began is at work, unless it has no model.
    #[must_use]
    pub fn challengers(&self) -> &Promotions {
        &self.challengers
    }

    /// See [`Cohorts::challengers`].
    pub fn challengers_mut(&mut self) -> &mut Promotions {
        &mut self.challengers
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.cohorts.binary_search_by(|(known, _)| by_text(known, name))
    }

    /// Where a cohort is; it is made where it is not there.
    fn place(&mut self, name: &str) -> usize {
        match self.find(name) {
            Ok(at) => at,
            Err(at) => {
                self.cohorts.insert(at, (name.to_owned(), Cohort::default()));
                at
            }
        }
    }

    /// All of them, by name.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Cohort)> {
        self.cohorts.iter_mut().map(|(name, cohort)| (name.as_str(), cohort))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Cohort)> {
        self.cohorts.iter().map(|(name, cohort)| (name.as_str(), cohort))
    }

    /// What is known of the plans as of a day.
    pub(crate) fn levels(&self, day: Day) -> Option<&PlansDay> {
        if self.for_older {
            return None;
        }
        self.cohorts[self.find("").ok()?].1.plans.get(&day)
    }

    /// Adds what an account did on a day, per signal, and what it says of the variation of days and weeks.
    pub fn add(&mut self, name: Option<&str>, day: Day, told: &Told) {
        self.named(name).add(day, told);
    }

    /// Whether alerts of a cohort's accounts are held back.
    pub fn is_held(&mut self, name: Option<&str>, at: Millis) -> bool {
        self.named(name).hold.is_some_and(|until| at < until)
    }

    /// The rows that changed, by cohort and key: none for one that was dropped.
    pub fn changed(&self) -> impl Iterator<Item = (&str, CohortKey, Option<CohortRow>)> {
        self.cohorts.iter().flat_map(|(name, cohort)| {
            cohort.changed.keys().map(move |key| (name.as_str(), *key, cohort.row(*key)))
        })
    }

    /// What changed stays, whatever comes: for state that is never discarded.
    pub(crate) fn keep_changes(&mut self) {
        self.calendar.settle();
        self.promotions.settle();
        self.challengers.settle();
        for (_, cohort) in &mut self.cohorts {
            cohort.changed.clear();
        }
        self.cohorts.retain(|(_, cohort)| !cohort.is_empty());
    }

    /// What goes to other partitions, with the changes.
    #[must_use]
    pub fn outbox(&self) -> &[Message] {
        &self.outbox
    }

    pub(crate) fn send(&mut self, message: Message) {
        self.outbox.push(message);
    }

    /// What changed is written, and what was to be sent is sent.
    pub fn settle(&mut self) {
        self.outbox.clear();
        self.calendar.settle();
        self.promotions.settle();
        self.challengers.settle();
        for (_, cohort) in &mut self.cohorts {
            cohort.changed.clear();
        }
        self.cohorts.retain(|(_, cohort)| !cohort.is_empty());
    }

    /// What changed is as it was before.
    pub fn discard(&mut self) {
        self.outbox.clear();
        self.calendar.discard();
        self.promotions.discard();
        self.challengers.discard();
        for (_, cohort) in &mut self.cohorts {
            for (key, row) in std::mem::take(&mut cohort.changed) {
                cohort.place(key, row);
            }
        }
        self.cohorts.retain(|(_, cohort)| !cohort.is_empty());
    }

    /// Puts a row back as a store has it: none where it has none.
    pub fn restore(&mut self, name: &str, key: CohortKey, row: Option<CohortRow>) {
        let at = self.place(name);
        self.cohorts[at].1.place(key, row);
        if self.cohorts[at].1.is_empty() {
            self.cohorts.remove(at);
        }
    }

    /// Every row, by cohort and key.
    pub fn rows(&self) -> impl Iterator<Item = (&str, CohortKey, CohortRow)> {
        self.cohorts.iter().flat_map(|(name, cohort)| {
            let rows = cohort.keys().filter_map(|key| Some((key, cohort.row(key)?)));
            rows.map(move |(key, row)| (name.as_str(), key, row))
        })
    }
}

/// The entry of a signal in a list sorted by signal.
pub(crate) fn find<T: Copy>(list: &[(SignalKey, T)], signal: SignalKey) -> Option<T> {
    let at = list.binary_search_by_key(&signal, |(known, _)| *known).ok()?;
    Some(list[at].1)
}

/// The entry of a signal in a list sorted by signal, made where it is missing.
pub(crate) fn entry<T>(
    list: &mut Vec<(SignalKey, T)>,
    signal: SignalKey,
    new: impl FnOnce() -> T,
) -> &mut T {
    let at = match list.binary_search_by_key(&signal, |(known, _)| *known) {
        Ok(at) => at,
        Err(at) => {
            list.insert(at, (signal, new()));
            at
        }
    };
    &mut list[at].1
}
