//! The fit: hierarchical Bayesian logistic regression by its mode and curvature (Laplace approximation).
//!
//! ```text
//! logit P(leaves within the horizon) = b_c + sum_j v_cj * (u_j(reading_j) - centre_cj)
//! cohort  v_c ~ N(w, spread^2)   global  w ~ N(expert weight, sd^2)   v, w >= 0
//! ```
//! Cohorts shrink to the global weights and these to the expert's, so the model works without any outcome and
//! improves with each. The spreads between cohorts are learned too (empirical Bayes, by EM). A missing reading is at
//! the centre: it moves nothing. Weights below zero are not allowed, so worse readings never lower the risk; the bound
//! is kept by an active set (projected Newton: Bertsekas 1982, SIAM J. Control Optim. 20).
//!
//! Centres are the cohort's own means, shrunk to those of all: at the centre the odds are the cohort's base odds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::example::Example;
use crate::feature::{Feature, Role};
use crate::newton::{Block, Cohort, Fitted, Prior, Row};

/// What a fit expects before it has seen an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitOptions {
    /// Expected share of accounts that leave within a horizon (0..1, exclusive).
    pub base_rate: f64,
    /// Standard deviation of the log-odds of that expectation.
    pub base_sd: f64,
    /// Expected standard deviation of the cohorts' weights and base log-odds about the global ones.
    pub cohort_sd: f64,
    /// What that expectation counts for, in cohorts.
    pub cohort_sd_weight: f64,
    /// Bound of what is learned of it: one cohort with separable data must not talk the model out of its priors.
    pub cohort_sd_max: f64,
    /// Examples (by weight) of all cohorts mixed into a cohort's centre.
    pub centre_weight: f64,
}

impl Default for FitOptions {
    fn default() -> FitOptions {
        FitOptions {
            base_rate: 0.03,
            base_sd: 2.0,
            cohort_sd: 0.25,
            cohort_sd_weight: 4.0,
            cohort_sd_max: 1.0,
            centre_weight: 20.0,
        }
    }
}

/// Why no model was fitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// A table without features.
    #[error("there are no features: name at least one")]
    NoFeatures,
    /// A feature that cannot be used.
    #[error("feature {0}: its bounds, knots and priors must be finite, in order and not negative")]
    BadFeature(String),
    /// Options out of range.
    #[error("fit options: every number must be finite and above 0, the base rate below 1")]
    BadOptions,
    /// An example of another table.
    #[error("example {index} has {found} readings, {expected} features are named")]
    Width {
        /// Position of the example.
        index: usize,
        /// Its readings.
        found: usize,
        /// The features.
        expected: usize,
    },
    /// An example that cannot be weighed.
    #[error("example {index}: its weight must be finite and above 0")]
    Weight {
        /// Position of the example.
        index: usize,
    },
    /// The iteration did not settle.
    #[error("the fit did not converge: report the examples that caused it")]
    NotConverged,
}

/// A weight and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// Log-odds of leaving for the whole of the evidence.
    pub value: f64,
    /// Its posterior standard error, ignoring the bound at zero.
    pub error: f64,
}

/// Base log-odds and weights, the weights in the order of the features' segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Log-odds of leaving at the centre.
    pub base: Weight,
    /// One per segment.
    pub segments: Vec<Weight>,
}

/// A cohort's part of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CohortModel {
    /// Its base odds and weights.
    pub weights: Weights,
    /// Evidence at which its base odds hold, per segment.
    pub centre: Vec<f64>,
    /// Examples that it was fitted on.
    pub examples: usize,
    /// Their weight: independent observations.
    pub observations: f64,
    /// Examples whose account left.
    pub outcomes: usize,
}

/// A fitted model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The features, in the order of an example's readings.
    pub features: Vec<Feature>,
    /// For cohorts that were not in the examples. Counts are those of all examples.
    pub global: CohortModel,
    /// By cohort.
    pub cohorts: BTreeMap<String, CohortModel>,
    /// Standard deviations between cohorts: of the base log-odds, and of the weights.
    pub spread: [f64; 2],
}

/// The log-odds of one example, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct LogOdds {
    /// Base log-odds of the cohort at the account's maturity.
    pub base: f64,
    /// One per feature of role [`Role::Score`], in the order of the features; zero where missing.
    pub features: Vec<f64>,
}

impl LogOdds {
    /// Of leaving, relative to the base odds.
    #[must_use]
    pub fn relative(&self) -> f64 {
        self.features.iter().sum()
    }

    /// Of leaving.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.base + self.relative()
    }
}

/// From log-odds to a probability.
#[must_use]
pub fn probability(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

impl Model {
    /// The part for a cohort, or the global one.
    #[must_use]
    pub fn cohort(&self, cohort: &str) -> &CohortModel {
        self.cohorts.get(cohort).unwrap_or(&self.global)
    }

    /// The log-odds of an account of a cohort with these readings. Readings beyond the features are ignored, lacking
    /// ones are missing.
    #[must_use]
    pub fn log_odds(&self, cohort: &str, readings: &[f64]) -> LogOdds {
        let part = self.cohort(cohort);
        let mut odds = LogOdds { base: part.weights.base.value, features: Vec::new() };
        let mut first = 0;
        for (index, feature) in self.features.iter().enumerate() {
            let segments = first..first + feature.transform.segments();
            first = segments.end;
            let reading = readings.get(index).copied().unwrap_or(f64::NAN);
            let evidence = feature
                .transform
                .apply(reading)
                .unwrap_or_else(|| part.centre[segments.clone()].to_vec());
            let moved: f64 = segments
                .zip(evidence)
                .map(|(segment, u)| {
                    part.weights.segments[segment].value * (u - part.centre[segment])
                })
                .sum();
            match feature.role {
                Role::Score => odds.features.push(moved),
                Role::Base => odds.base += moved,
            }
        }
        odds
    }

    /// Probability that an account leaves within the horizon, before calibration.
    #[must_use]
    pub fn risk(&self, cohort: &str, readings: &[f64]) -> f64 {
        probability(self.log_odds(cohort, readings).total())
    }
}

/// Fits a model to the examples. With none, the model is the expert's.
///
/// # Errors
/// [`FitError`], where features, options or examples cannot be used.
pub fn fit(
    features: &[Feature],
    examples: &[&Example],
    options: &FitOptions,
) -> Result<Model, FitError> {
    check(features, examples, options)?;
    let evidence: Vec<Vec<Option<f64>>> =
        examples.iter().map(|example| columns(features, example)).collect();
    let all =
        centre(&evidence, examples, None, &vec![0.5; segments(features)], options.centre_weight);
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, example) in examples.iter().enumerate() {
        members.entry(example.cohort.as_str()).or_default().push(index);
    }
    let centres: Vec<Vec<f64>> = members
        .values()
        .map(|own| centre(&evidence, examples, Some(own), &all, options.centre_weight))
        .collect();
    let rows = |own: &[usize], centre: &[f64]| Cohort {
        rows: own.iter().map(|&index| row(&evidence[index], centre, examples[index])).collect(),
    };
    let cohorts: Vec<Cohort> =
        members.values().zip(&centres).map(|(own, centre)| rows(own, centre)).collect();
    let fitted =
        crate::newton::fit(&prior(features, options), &cohorts).ok_or(FitError::NotConverged)?;
    Ok(assemble(features, examples, &members, all, centres, fitted))
}

fn check(
    features: &[Feature],
    examples: &[&Example],
    options: &FitOptions,
) -> Result<(), FitError> {
    if features.is_empty() {
        return Err(FitError::NoFeatures);
    }
    let positive = |value: f64| value.is_finite() && value > 0.0;
    for feature in features {
        let expected = feature.prior_mean.is_finite() && feature.prior_mean >= 0.0;
        if feature.transform.check().is_err() || !expected || !positive(feature.prior_sd) {
            return Err(FitError::BadFeature(feature.name.clone()));
        }
    }
    let FitOptions {
        base_rate,
        base_sd,
        cohort_sd,
        cohort_sd_weight,
        cohort_sd_max,
        centre_weight,
    } = *options;
    let numbers = [base_rate, base_sd, cohort_sd, cohort_sd_weight, cohort_sd_max, centre_weight];
    if !numbers.into_iter().all(positive) || base_rate >= 1.0 {
        return Err(FitError::BadOptions);
    }
    for (index, example) in examples.iter().enumerate() {
        let found = example.features.len();
        if found != features.len() {
            return Err(FitError::Width { index, found, expected: features.len() });
        }
        if !positive(example.weight) {
            return Err(FitError::Weight { index });
        }
    }
    Ok(())
}

fn segments(features: &[Feature]) -> usize {
    features.iter().map(|feature| feature.transform.segments()).sum()
}

fn columns(features: &[Feature], example: &Example) -> Vec<Option<f64>> {
    let of = |(feature, reading): (&Feature, &f64)| match feature.transform.apply(*reading) {
        Some(evidence) => evidence.into_iter().map(Some).collect(),
        None => vec![None; feature.transform.segments()],
    };
    features.iter().zip(&example.features).flat_map(of).collect()
}

/// The weighted mean of what is known, with `toward` counting for `weight`.
fn centre(
    evidence: &[Vec<Option<f64>>],
    examples: &[&Example],
    own: Option<&[usize]>,
    toward: &[f64],
    weight: f64,
) -> Vec<f64> {
    let mut sums: Vec<(f64, f64)> = toward.iter().map(|&start| (start * weight, weight)).collect();
    let mut take = |index: usize| {
        for (sum, known) in sums.iter_mut().zip(&evidence[index]) {
            if let Some(value) = known {
                sum.0 += examples[index].weight * value;
                sum.1 += examples[index].weight;
            }
        }
    };
    match own {
        Some(own) => own.iter().for_each(|&index| take(index)),
        None => (0..evidence.len()).for_each(&mut take),
    }
    sums.into_iter().map(|(sum, weight)| sum / weight).collect()
}

fn row(evidence: &[Option<f64>], centre: &[f64], example: &Example) -> Row {
    let mut x = vec![1.0];
    x.extend(evidence.iter().zip(centre).map(|(known, centre)| known.map_or(0.0, |u| u - centre)));
    Row { x, left: example.churned(), weight: example.weight }
}

fn prior(features: &[Feature], options: &FitOptions) -> Prior {
    let mut mean = vec![(options.base_rate / (1.0 - options.base_rate)).ln()];
    let mut variance = vec![options.base_sd.powi(2)];
    for feature in features {
        let segments = feature.transform.segments();
        mean.extend(vec![feature.prior_mean / segments as f64; segments]);
        variance.extend(vec![feature.prior_sd.powi(2) / segments as f64; segments]);
    }
    Prior {
        mean,
        variance,
        cohort_sd: options.cohort_sd,
        cohort_sd_weight: options.cohort_sd_weight,
        cohort_sd_max: options.cohort_sd_max,
    }
}

fn assemble(
    features: &[Feature],
    examples: &[&Example],
    members: &BTreeMap<&str, Vec<usize>>,
    all: Vec<f64>,
    centres: Vec<Vec<f64>>,
    fitted: Fitted,
) -> Model {
    let part = |block: &Block, centre: Vec<f64>, own: &mut dyn Iterator<Item = &Example>| {
        let mut part = CohortModel {
            weights: weights(block),
            centre,
            examples: 0,
            observations: 0.0,
            outcomes: 0,
        };
        for example in own {
            part.examples += 1;
            part.observations += example.weight;
            part.outcomes += usize::from(example.churned());
        }
        part
    };
    let global = part(&fitted.global, all, &mut examples.iter().copied());
    let cohorts =
        members.iter().zip(centres).zip(&fitted.cohorts).map(|(((name, own), centre), block)| {
            ((*name).to_owned(), part(block, centre, &mut own.iter().map(|&index| examples[index])))
        });
    Model { features: features.to_vec(), global, cohorts: cohorts.collect(), spread: fitted.spread }
}

fn weights(block: &Block) -> Weights {
    let mut known =
        block.values.iter().zip(&block.errors).map(|(&value, &error)| Weight { value, error });
    let base = known.next().unwrap_or(Weight { value: 0.0, error: 0.0 });
    Weights { base, segments: known.collect() }
}
