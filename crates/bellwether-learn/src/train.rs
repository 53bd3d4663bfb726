//! From examples to a scorecard that is ready for work: a time-ordered hold-out first, then the fit on everything.

use std::collections::BTreeMap;

use bellwether_core::drift::{Distribution, Fitted, SCORE};
use bellwether_core::id::AccountId;
use bellwether_core::time::{DAY_MS, Millis};

use crate::calibrate::{Calibration, Prediction};
use crate::challenger::{Boosting, Challenger};
use crate::curve::Curves;
use crate::example::{Example, cut, split};
use crate::feature::Feature;
use crate::fit::{FitError, FitOptions, Model, fit};
use crate::measure::{Cadence, Judged, auc, average_precision};
use crate::resample::{Judging, Worth, judge, judge_cohorts};
use crate::scorecard::{DOUBLING, Scorecard};

/// Share of the prediction times that is held out.
const HELD_OUT: f64 = 0.25;
/// Resamplings of the accounts behind an interval.
const DRAWS: usize = 200;

/// What is asked of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// Days within which the outcome lies, at least 1.
    pub horizon_days: u32,
    /// Days between prediction times, at least 1.
    pub step_days: u32,
    /// When the hold-out begins; none: so that it holds a quarter of the prediction times.
    pub cut: Option<Millis>,
}

/// What a model was worth on later examples that it was not fitted on.
#[derive(Debug, Clone, PartialEq)]
pub struct Holdout {
    /// When it begins. Nothing within one horizon before it was learned from.
    pub cut: Millis,
    /// Examples and outcomes that were learned from.
    pub learned_from: (usize, usize),
    /// Of all.
    pub worth: Worth,
    /// By cohort.
    pub cohorts: BTreeMap<String, Worth>,
    /// Of all, for figures.
    pub curves: Curves,
    /// Area under the ROC curve and average precision of gradient-boosted trees on the same examples: what it costs to be additive.
    pub challenger: Option<[f64; 2]>,
}

/// A scorecard, and what its like was worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// Fitted on all examples, calibrated on the hold-out.
    pub card: Scorecard,
    /// None where there are too few prediction times for both sides and the gap between them.
    pub holdout: Option<Holdout>,
}

/// Trains a scorecard.
///
/// # Errors
/// [`FitError`], where features or examples cannot be used.
pub fn train(
    features: &[Feature],
    examples: &[Example],
    training: &Training,
) -> Result<Trained, FitError> {
    let horizon_ms = i64::from(training.horizon_days) * DAY_MS;
    let options = FitOptions::default();
    let all: Vec<&Example> = examples.iter().collect();
    let cut = training.cut.or_else(|| cut(examples, HELD_OUT, horizon_ms));
    let mut calibration = Calibration::default();
    let mut holdout = None;
    if let Some(cut) = cut {
        let parts = split(examples, cut, horizon_ms);
        let earlier = fit(features, &parts.train, &options)?;
        calibration = Calibration::fit(&predictions(&earlier, &parts.test));
        // Judged as it was before the hold-out calibrated it.
        let untouched = Calibration::default();
        let card = Scorecard { model: earlier, doubling: DOUBLING, calibration: untouched };
        let outcomes = parts.train.iter().filter(|example| example.churned()).count();
        let judging = Judging {
            draws: DRAWS,
            seed: 0,
            recall: 0.5,
            cadence: Cadence { step_days: training.step_days, quiet_days: 28 },
        };
        let judged = judged(&card, &parts.test);
        let cohorts: Vec<&str> = parts.test.iter().map(|example| example.cohort.as_str()).collect();
        holdout = Some(Holdout {
            cut,
            learned_from: (parts.train.len(), outcomes),
            worth: judge(&judged, &judging),
            curves: Curves::of(&judged, judging.recall, judging.cadence),
            cohorts: judge_cohorts(&judged, &cohorts, &judging),
            challenger: challenge(&parts.train, &parts.test),
        });
    }
    let model = fit(features, &all, &options)?;
    Ok(Trained { card: Scorecard { model, doubling: DOUBLING, calibration }, holdout })
}

/// Examples that a cohort needs for distributions of its own.
const FITTED_EXAMPLES_MIN: usize = 500;
/// Cohorts with distributions of their own, the largest: a record of a model is bounded.
const FITTED_COHORTS_MAX: usize = 8;

/// How readings and scores are distributed over the examples.
#[must_use]
pub fn fitted(examples: &[Example], card: &Scorecard) -> Fitted {
    let of = |examples: &[&Example]| -> Vec<Distribution> {
        let features = card.model.features.iter().enumerate();
        let readings = features.map(|(index, feature)| {
            let values = examples.iter().map(|example| example.features[index]);
            Distribution::of(&feature.name, values)
        });
        let scores = examples
            .iter()
            .map(|example| card.score(&example.cohort, &example.features).score.as_f64());
        readings.chain([Distribution::of(SCORE, scores)]).collect()
    };
    let mut cohorts: BTreeMap<&str, Vec<&Example>> = BTreeMap::new();
    for example in examples {
        cohorts.entry(&example.cohort).or_default().push(example);
    }
    let mut cohorts: Vec<(&str, Vec<&Example>)> = cohorts.into_iter().collect();
    cohorts.retain(|(_, of)| of.len() >= FITTED_EXAMPLES_MIN);
    cohorts.sort_by_key(|(name, of)| (std::cmp::Reverse(of.len()), *name));
    cohorts.truncate(FITTED_COHORTS_MAX);
    let cohorts = cohorts.iter().map(|(name, examples)| ((*name).to_owned(), of(examples)));
    Fitted { cohorts: cohorts.collect(), all: of(&examples.iter().collect::<Vec<_>>()) }
}

fn predictions(model: &Model, test: &[&Example]) -> Vec<Prediction> {
    let of = |example: &&Example| Prediction {
        log_odds: model.log_odds(&example.cohort, &example.features).total(),
        left: example.churned(),
        weight: example.weight,
    };
    test.iter().map(of).collect()
}

/// Ranked by the score, as people see it.
fn judged(card: &Scorecard, test: &[&Example]) -> Vec<Judged> {
    let mut accounts: BTreeMap<&AccountId, usize> = BTreeMap::new();
    for example in test {
        let next = accounts.len();
        accounts.entry(&example.account).or_insert(next);
    }
    let of = |example: &&Example| {
        let scored = card.score(&example.cohort, &example.features);
        Judged {
            rank: -scored.score.as_f64(),
            risk: scored.risk,
            left_after_ms: example.left_after_ms,
            account: accounts[&example.account],
            at_ms: example.at.0,
        }
    };
    test.iter().map(of).collect()
}

/// None where trees cannot be grown: too few examples, or one kind of outcome only.
fn challenge(train: &[&Example], test: &[&Example]) -> Option<[f64; 2]> {
    let ranks = Boosting::default().rank(train, test).ok()?;
    let of = |(&rank, example): (&f64, &&Example)| Judged {
        rank,
        risk: f64::NAN,
        left_after_ms: example.left_after_ms,
        account: 0,
        at_ms: example.at.0,
    };
    let judged: Vec<Judged> = ranks.iter().zip(test).map(of).collect();
    let weights = vec![1.0; judged.len()];
    Some([auc(&judged, &weights)?, average_precision(&judged, &weights)?])
}
