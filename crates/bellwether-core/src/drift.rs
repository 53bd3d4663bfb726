//! Whether accounts are still like those that a scorecard was learned from.
//!
//! A fit keeps how its readings were distributed ([`Fitted`]), in ten bins of about equal count and one for what was missing. A survey counts
//! the accounts of now into the same bins; the population stability index says how far apart the two are. Surveys of partitions add up.
//! What was said of accounts is held against what became of them ([`crate::ranking`]). Under any scorecard a survey also tells which signals are missing or silent ([`crate::quality`]).
//!
//! Deliberately absent: when a survey is made, and of which accounts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::account::{Account, SignalKey};
use crate::close;
use crate::cohort::COHORTS_MAX;
use crate::policy::{Compiled, Signal};
use crate::quality::{Fed, Silence};
use crate::ranking::{HeldOut, Outcomes, Ranking};
use crate::score::ExpertScorecard;
use crate::sequence::SEQUENCE_PREFIX;
use crate::standing::{Standing, Trait, standing};
use crate::step::Core;
use crate::time::Day;

/// What the name of a signal's reading begins with.
pub const SIGNAL_PREFIX: &str = "signal:";
/// The name under which scores themselves are counted.
pub const SCORE: &str = "score";
/// Bins of measured values at most.
const BINS: usize = 10;
/// Of fewer accounts an index says more of chance than of drift: it is about `BINS / accounts` by chance alone.
pub const DRIFT_ACCOUNTS_MIN: u64 = 200;
/// Days within which expected losses lie.
pub const EXPECTED_DAYS: u32 = 28;

/// The population stability index of two histograms: 0 where they are alike, above 0.1 some shift, above 0.25 a large one (Siddiqi 2006).
/// Half an account is added to each bin, so that an empty one says no more than it can.
#[must_use]
pub fn stability_index(then: &[f64], now: &[f64]) -> f64 {
    let share = |count: f64, all: &[f64]| {
        (count + 0.5) / (all.iter().sum::<f64>() + 0.5 * all.len() as f64)
    };
    then.iter()
        .zip(now)
        .map(|(&before, &after)| {
            let (before, after) = (share(before, then), share(after, now));
            (after - before) * (after / before).ln()
        })
        .sum()
}

/// How a reading was distributed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// The reading.
    pub name: String,
    /// Inner borders of the bins, rising; a value at a border lies above it.
    pub edges: Vec<f64>,
    /// Values per bin, and last how many were missing.
    pub counts: Vec<f64>,
}

impl Distribution {
    /// Of these values; NaN is missing.
    #[must_use]
    pub fn of(name: &str, values: impl IntoIterator<Item = f64>) -> Distribution {
        let values: Vec<f64> = values.into_iter().collect();
        let mut measured: Vec<f64> =
            values.iter().copied().filter(|value| value.is_finite()).collect();
        measured.sort_by(f64::total_cmp);
        let edges = edges(&measured);
        let mut found = Distribution { name: name.to_owned(), edges, counts: Vec::new() };
        found.counts = vec![0.0; found.edges.len() + 2];
        for value in values {
            let bin = found.bin(value);
            found.counts[bin] += 1.0;
        }
        found
    }

    /// The bin of a value.
    fn bin(&self, value: f64) -> usize {
        if value.is_nan() {
            return self.edges.len() + 1;
        }
        self.edges.partition_point(|edge| *edge <= value)
    }
}

/// Borders between bins of about equal count. A value that fills more than a bin by itself has one of its own.
fn edges(sorted: &[f64]) -> Vec<f64> {
    let (mut edges, mut alone) = (Vec::new(), None);
    let Some(mut last) = sorted.first().copied() else { return edges };
    for border in (1..BINS).filter_map(|bin| sorted.get(bin * sorted.len() / BINS).copied()) {
        let next = if border > last {
            Some(border)
        } else if alone == Some(border) {
            None
        } else {
            alone = Some(border);
            sorted.iter().copied().find(|value| *value > last)
        };
        edges.extend(next);
        last = next.unwrap_or(last);
    }
    edges
}

/// How the readings of a scorecard were distributed when it was learned.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    /// Over all examples.
    pub all: Vec<Distribution>,
    /// Of the cohorts with enough examples.
    pub cohorts: BTreeMap<String, Vec<Distribution>>,
}

impl Fitted {
    fn of(&self, cohort: &str) -> &[Distribution] {
        self.cohorts.get(cohort).unwrap_or(&self.all)
    }
}

/// Accounts of a cohort, counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Surveyed {
    /// How many.
    pub accounts: u64,
    /// By score, in bins of ten points; the last one holds 100, too.
    pub scores: [u64; 10],
    /// Accounts that the scorecard expects to lose within [`EXPECTED_DAYS`]; none for an expert's.
    pub expected_lost: Option<f64>,
    /// Per distribution of the fit, the accounts in each of its bins.
    bins: Vec<Vec<f64>>,
    /// Per signal of the policy.
    signals: Vec<SignalSeen>,
    /// The newest closed day of any account.
    newest: Option<Day>,
    outcomes: Outcomes,
}

/// What the accounts of a cohort had of a signal.
#[derive(Debug, Clone, PartialEq, Default)]
struct SignalSeen {
    /// Accounts of which there is no reading.
    missing: u64,
    fed: Fed,
}

/// Accounts, counted by cohort under one scorecard.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Survey {
    /// The scorecard.
    pub model: String,
    fitted: Option<Arc<Fitted>>,
    held_out: Option<Arc<HeldOut>>,
    /// Names of the readings of signals, in the policy's order; none where a signal has no weight.
    signals: Vec<Option<String>>,
    cohorts: BTreeMap<String, Surveyed>,
}

/// How one reading of a cohort is distributed now.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift<'a> {
    /// The cohort.
    pub cohort: &'a str,
    /// The reading.
    pub reading: &'a str,
    /// The stability index; none of fewer than [`DRIFT_ACCOUNTS_MIN`] accounts.
    pub index: Option<f64>,
    /// Share of the accounts of which it is missing.
    pub missing: f64,
}

impl Survey {
    /// A survey of no account yet, under the scorecard of an engine.
    #[must_use]
    pub fn of(core: &Core) -> Survey {
        let model = core.model_version().to_owned();
        let name = |signal: &Signal| {
            (signal.weight > 0.0).then(|| format!("{SIGNAL_PREFIX}{}", signal.name))
        };
        let signals = core.policy.signals.iter().map(name).collect();
        let (fitted, held_out) = (core.scorer.fitted(), core.scorer.held_out());
        Survey { model, fitted, held_out, signals, cohorts: BTreeMap::new() }
    }

    /// Counts an account as it stands. One that was never scored is not counted.
    pub fn see(&mut self, core: &Core, account: &Account) {
        if account.hot.published_score.is_none() {
            return;
        }
        let name = account.segment().unwrap_or_default();
        let known = self.cohorts.contains_key(name) || self.cohorts.len() < COHORTS_MAX;
        let name = if known { name } else { "" };
        let cohort = self.cohorts.entry(name.to_owned()).or_default();
        let score = account.hot.score.as_f64();
        cohort.accounts += 1;
        cohort.scores[((score / 10.0) as usize).min(9)] += 1;
        cohort.see_signals(account, core.policy.keys());
        cohort.outcomes.see(core, account);
        let Some(horizon_days) = core.scorer.horizon_days() else { return };
        let readings = readings(core, account, horizon_days);
        if let Some(risk) = core.scorer.risk(name, &readings) {
            let within = f64::from(EXPECTED_DAYS) / f64::from(horizon_days.max(1));
            let risk = 1.0 - (1.0 - risk.clamp(0.0, 1.0)).powf(within);
            cohort.expected_lost = Some(cohort.expected_lost.unwrap_or(0.0) + risk);
        }
        let Some(fitted) = &self.fitted else { return };
        let of = fitted.of(name);
        cohort.bins.resize(of.len(), Vec::new());
        for (distribution, bins) in of.iter().zip(&mut cohort.bins) {
            bins.resize(distribution.counts.len(), 0.0);
            let value = match distribution.name.as_str() {
                SCORE => score,
                name => readings.get(name).copied().unwrap_or(f64::NAN),
            };
            let bin = distribution.bin(value);
            if let Some(count) = bins.get_mut(bin) {
                *count += 1.0;
            }
        }
    }

    /// Adds what another partition surveyed under the same scorecard; under another one, the one that comes first stays.
    pub fn add(&mut self, other: &Survey) {
        if self.cohorts.is_empty() {
            *self = other.clone();
            return;
        }
        if self.model != other.model {
            return;
        }
        for (name, of) in &other.cohorts {
            let cohort = self.cohorts.entry(name.clone()).or_default();
            cohort.accounts += of.accounts;
            for (sum, count) in cohort.scores.iter_mut().zip(of.scores) {
                *sum += count;
            }
            if let Some(lost) = of.expected_lost {
                cohort.expected_lost = Some(cohort.expected_lost.unwrap_or(0.0) + lost);
            }
            cohort.newest = cohort.newest.max(of.newest);
            cohort.outcomes.add(&of.outcomes);
            cohort
                .signals
                .resize(of.signals.len().max(cohort.signals.len()), SignalSeen::default());
            for (sum, seen) in cohort.signals.iter_mut().zip(&of.signals) {
                sum.missing += seen.missing;
                sum.fed.add(&seen.fed);
            }
            cohort.bins.resize(of.bins.len().max(cohort.bins.len()), Vec::new());
            for (sums, counts) in cohort.bins.iter_mut().zip(&of.bins) {
                sums.resize(counts.len().max(sums.len()), 0.0);
                for (sum, count) in sums.iter_mut().zip(counts) {
                    *sum += count;
                }
            }
        }
    }

    /// The cohorts, by name.
    pub fn cohorts(&self) -> impl Iterator<Item = (&str, &Surveyed)> {
        self.cohorts.iter().map(|(name, of)| (name.as_str(), of))
    }

    /// How the scorecard ranks those that left and those that stayed, by cohort; nothing without a hold-out to compare with.
    pub fn rankings(&self) -> impl Iterator<Item = Ranking<'_>> {
        let held_out = self.held_out.iter();
        held_out.flat_map(|held_out| {
            self.cohorts().map(|(cohort, of)| of.outcomes.ranking(cohort, held_out.of(cohort)))
        })
    }

    /// Cohort, reading and the share of its accounts of which it is missing: of every signal that has weight, under any scorecard.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.signals().map(|(cohort, of, name, seen)| {
            (cohort, name, seen.missing as f64 / of.accounts.max(1) as f64)
        })
    }

    /// Cohort, signal and for how long it has been silent, as far as that can be told.
    pub fn silences(&self) -> impl Iterator<Item = (&str, &str, Silence)> {
        self.signals().filter_map(|(cohort, of, name, seen)| {
            let signal = name.strip_prefix(SIGNAL_PREFIX).unwrap_or(name);
            Some((cohort, signal, seen.fed.silence(of.newest?)?))
        })
    }

    fn signals(&self) -> impl Iterator<Item = (&str, &Surveyed, &str, &SignalSeen)> {
        self.cohorts().flat_map(|(cohort, of)| {
            let named = self.signals.iter().zip(&of.signals);
            named.filter_map(move |(name, seen)| Some((cohort, of, name.as_deref()?, seen)))
        })
    }

    /// How each reading of each cohort is distributed now, against when the scorecard was learned.
    pub fn drift(&self) -> impl Iterator<Item = Drift<'_>> {
        self.cohorts().flat_map(|(cohort, of)| {
            let fitted = self.fitted.as_deref().map_or(&[][..], |fitted| fitted.of(cohort));
            fitted.iter().zip(&of.bins).map(move |(then, now)| {
                let enough = of.accounts >= DRIFT_ACCOUNTS_MIN;
                let missing = now.last().copied().unwrap_or(0.0) / of.accounts.max(1) as f64;
                let index = enough.then(|| stability_index(&then.counts, now));
                Drift { cohort, reading: &then.name, index, missing }
            })
        })
    }
}

impl Surveyed {
    /// Counts what an account has of each of these signals.
    fn see_signals(&mut self, account: &Account, keys: &[SignalKey]) {
        self.signals.resize(keys.len(), SignalSeen::default());
        for (index, seen) in self.signals.iter_mut().enumerate() {
            seen.missing += u64::from(!is_read(account, index));
        }
        let Some(newest) = account.history.newest else { return };
        self.newest = self.newest.max(Some(newest));
        let masked = account.masked_days(newest);
        let rings = account.history.rings.iter();
        for ((seen, key), (had, ring)) in self.signals.iter_mut().zip(keys).zip(rings) {
            // An account that was not aligned with a new policy yet has those of the one before.
            if had == key {
                seen.fed.see(ring, newest, masked);
            }
        }
    }
}

/// Whether there is a reading of a signal.
fn is_read(account: &Account, index: usize) -> bool {
    account.hot.signals.get(index).is_some_and(|state| state.baseline.is_some())
}

/// What a learned scorecard reads of an account as it stands, by name; NaN is missing.
#[must_use]
pub fn readings(core: &Core, account: &Account, horizon_days: u32) -> BTreeMap<String, f64> {
    let expert = core.clone().measured_by(Arc::new(ExpertScorecard));
    let day = account.hot.today.plus(-1);
    let policy: &Compiled = &expert.policy;
    let signals = policy.signals.iter().enumerate().map(|(index, signal)| {
        let reading = if is_read(account, index) && signal.weight > 0.0 {
            close::points_at(&expert, account, index, day).as_f64() / signal.weight
        } else {
            f64::NAN
        };
        (format!("{SIGNAL_PREFIX}{}", signal.name), reading)
    });
    let Standing(stands) = standing(account, policy, day, horizon_days);
    let traits = Trait::ALL.iter().zip(stands).map(|(of, value)| (of.as_str().to_owned(), value));
    let sequences = policy.sequences.iter().map(|sequence| {
        let name = format!("{SEQUENCE_PREFIX}{}", sequence.name);
        (name, sequence.reading(account, policy, day))
    });
    signals.chain(sequences).chain(traits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: u32, shift: f64) -> impl Iterator<Item = f64> {
        (0..count).map(move |number| f64::from(number * 37 % 100) / 10.0 + shift)
    }

    fn index(then: &Distribution, now: impl IntoIterator<Item = f64>) -> f64 {
        let mut counts = vec![0.0; then.counts.len()];
        for value in now {
            counts[then.bin(value)] += 1.0;
        }
        stability_index(&then.counts, &counts)
    }

    #[test]
    fn the_index_is_nothing_where_nothing_moved_and_large_where_all_did() {
        let then = Distribution::of("x", values(1_000, 0.0));
        assert_eq!(then.edges.len(), 9);
        assert!(then.counts.iter().take(10).all(|count| (count - 100.0).abs() < 11.0), "{then:?}");
        assert!(index(&then, values(500, 0.0)) < 0.01);
        assert!(index(&then, values(500, 3.0)) > 0.25);
        let missing = (0..500).map(|number| if number % 2 == 0 { f64::NAN } else { 5.0 });
        assert!(index(&then, missing) > 0.25, "what is missing counts");
    }

    #[test]
    fn the_index_worked_by_hand() {
        // Shares .5 and .5 become .8 and .2: .3 ln 1.6 - .3 ln .4.
        let expected = 0.3 * (1.6_f64).ln() - 0.3 * (0.4_f64).ln();
        let found = stability_index(&[5e8, 5e8], &[8e8, 2e8]);
        assert!((found - expected).abs() < 1e-6, "{found}");
    }

    #[test]
    fn what_never_varies_has_one_bin() {
        let then = Distribution::of("x", vec![1.0; 50]);
        assert_eq!((then.edges.len(), &then.counts[..]), (0, &[50.0, 0.0][..]));
        let none = Distribution::of("x", Vec::new());
        assert_eq!(none.counts, [0.0, 0.0]);
        let mostly = Distribution::of("x", (0..100).map(|number| f64::from(number / 95)));
        assert_eq!((&mostly.edges[..], &mostly.counts[..]), (&[1.0][..], &[95.0, 5.0, 0.0][..]));
        let around = (0..100).map(|number| f64::from((number - 90).max(0) - (9 - number).max(0)));
        assert_eq!(Distribution::of("x", around).edges, [0.0, 1.0], "below, there and above");
    }
}
