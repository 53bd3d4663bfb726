//! The scorecard: a fitted model as points that add up to the last hundredth.
//!
//! `score = 50 + one line per feature + clipping`, all integers of a hundredth of a point, so lines sum exactly to the
//! score and their differences exactly to its change. 50 is the base odds of the account's cohort at its maturity;
//! every `doubling` points below it double the calibrated odds of leaving. A line is one rounding of a monotone function of its
//! own reading: worse readings never raise a score, not even by a hundredth.

use bellwether_core::points::Points;
use serde::{Deserialize, Serialize};

use crate::calibrate::Calibration;
use crate::feature::{Feature, Role};
use crate::fit::{CohortModel, Model, probability};

/// A model with its scale and calibration: all that scoring needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scorecard {
    /// The fitted weights.
    pub model: Model,
    /// Points that double the odds, above 0.
    pub doubling: f64,
    /// From the model's log-odds to those seen on the hold-out.
    pub calibration: Calibration,
}

/// Points that double the odds, unless a scorecard says otherwise.
pub const DOUBLING: f64 = 10.0;

/// Score of the base odds.
pub const BASE: Points = Points(5_000);

/// A score and what it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// 0 to 100 points, higher is healthier.
    pub score: Points,
    /// One per feature of role [`Role::Score`], in the order of the features.
    pub lines: Vec<Points>,
    /// What the ends of the scale took: `score - BASE - sum of lines`.
    pub clipping: Points,
    /// Calibrated probability of leaving within the horizon.
    pub risk: f64,
}

/// Why a scorecard cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its numbers do not fit together: fit it anew")]
pub struct BadScorecard;

impl Scorecard {
    /// Checks a scorecard from outside: every part has a weight and a centre for each segment, and every number is finite.
    ///
    /// # Errors
    /// [`BadScorecard`] otherwise.
    pub fn check(&self) -> Result<(), BadScorecard> {
        let segments: usize =
            self.model.features.iter().map(|feature| feature.transform.segments()).sum();
        let usable = |feature: &Feature| feature.transform.check().is_ok();
        let whole = |part: &CohortModel| {
            let weights = &part.weights.segments;
            let numbers =
                weights.iter().map(|weight| weight.value).chain(part.centre.iter().copied());
            let finite = numbers.chain([part.weights.base.value]).all(f64::is_finite);
            finite
                && weights.len() == segments
                && part.centre.len() == segments
                && weights.iter().all(|weight| weight.value >= 0.0)
        };
        let mut parts = self.model.cohorts.values().chain([&self.model.global]);
        let scale = [self.doubling, self.calibration.shift, self.calibration.slope];
        let sound = scale.iter().all(|number| number.is_finite()) && self.doubling > 0.0;
        if sound && self.model.features.iter().all(usable) && parts.all(whole) {
            Ok(())
        } else {
            Err(BadScorecard)
        }
    }

    /// Names of the lines of a score.
    pub fn line_names(&self) -> impl Iterator<Item = &str> {
        let scored = self.model.features.iter().filter(|feature| feature.role == Role::Score);
        scored.map(|feature| feature.name.as_str())
    }

    /// Log-odds of leaving as points, by the slope of the calibration: one rounding, so that whoever adds lines adds the same ones.
    #[must_use]
    pub fn points(&self, log_odds: f64) -> Points {
        let calibrated = log_odds * self.calibration.slope.max(0.0);
        Points::from_f64(-calibrated * self.doubling / std::f64::consts::LN_2)
    }

    /// Scores an account of a cohort by its readings; NaN is missing.
    #[must_use]
    pub fn score(&self, cohort: &str, readings: &[f64]) -> Scored {
        let odds = self.model.log_odds(cohort, readings);
        let lines: Vec<Points> = odds.features.iter().map(|&moved| self.points(moved)).collect();
        let raw = BASE + lines.iter().copied().sum();
        let score = raw.clamp(Points::SCORE_MIN, Points::SCORE_MAX);
        let risk = probability(self.calibration.apply(odds.total()));
        Scored { score, lines, clipping: score - raw, risk }
    }
}
