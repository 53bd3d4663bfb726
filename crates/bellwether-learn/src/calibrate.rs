//! Calibration: Platt's line through the log-odds (Platt 1999), shrunk to "leave them as they are".
//!
//! The line is fitted on a later hold-out. Few outcomes barely move it: a hold-out must show that the model is off.

use serde::{Deserialize, Serialize};

use crate::fit::probability;
use crate::solve::Matrix;

/// `calibrated log-odds = shift + slope * log-odds`; the slope is at least 0, so that order is kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Added log-odds.
    pub shift: f64,
    /// Below 1 where the model is too sure of itself.
    pub slope: f64,
}

impl Default for Calibration {
    fn default() -> Calibration {
        Calibration { shift: 0.0, slope: 1.0 }
    }
}

/// One prediction of the hold-out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Predicted log-odds of leaving.
    pub log_odds: f64,
    /// Whether the account left within the horizon.
    pub left: bool,
    /// Share of an independent observation.
    pub weight: f64,
}

/// Expected size of the shift and of the slope's difference from 1.
const PRIOR_SD: [f64; 2] = [0.5, 0.25];
const STEPS: usize = 50;

impl Calibration {
    /// The calibrated log-odds.
    #[must_use]
    pub fn apply(self, log_odds: f64) -> f64 {
        self.shift + self.slope * log_odds
    }

    /// The most probable line. Log-odds are taken about their mean, so that shift and slope do not trade off.
    /// Predictions that are not finite are left out; without any, the line is the identity.
    #[must_use]
    pub fn fit(predictions: &[Prediction]) -> Calibration {
        let usable: Vec<&Prediction> = predictions
            .iter()
            .filter(|one| one.log_odds.is_finite() && one.weight.is_finite())
            .collect();
        let weight: f64 = usable.iter().map(|one| one.weight).sum();
        if weight <= 0.0 {
            return Calibration::default();
        }
        let centre = usable.iter().map(|one| one.weight * one.log_odds).sum::<f64>() / weight;
        // At the centre the line passes through `centre + level`.
        let (mut level, mut slope) = (0.0f64, 1.0f64);
        for _ in 0..STEPS {
            let precision = PRIOR_SD.map(|sd| sd.powi(-2));
            let mut uphill = [-precision[0] * level, -precision[1] * (slope - 1.0)];
            let mut curvature = Matrix::diagonal(&precision);
            for one in &usable {
                let x = [1.0, one.log_odds - centre];
                let risk = probability(centre + level + slope * x[1]);
                let miss = one.weight * (f64::from(u8::from(one.left)) - risk);
                uphill = [uphill[0] + miss, uphill[1] + miss * x[1]];
                curvature.add_outer(&x, one.weight * risk * (1.0 - risk));
            }
            let Some(solver) = curvature.cholesky() else { break };
            let step = solver.solve(&uphill);
            // The prior's curvature bounds the first steps; half a unit keeps Newton inside its basin.
            level += step[0].clamp(-0.5, 0.5);
            slope = (slope + step[1].clamp(-0.5, 0.5)).max(0.0);
        }
        Calibration { shift: centre + level - slope * centre, slope }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Predictions whose true log-odds are `shift + slope` times the predicted ones.
    fn holdout(count: usize, shift: f64, slope: f64) -> Vec<Prediction> {
        let mut random = Random::new(1);
        let mut uniform = move || random.below(1 << 30) as f64 / f64::from(1 << 30);
        let mut one = || {
            let log_odds = -5.0 + 4.0 * uniform();
            let left = uniform() < probability(shift + slope * log_odds);
            Prediction { log_odds, left, weight: 1.0 }
        };
        (0..count).map(|_| one()).collect()
    }

    #[test]
    fn a_model_that_is_too_sure_is_toned_down() {
        let line = Calibration::fit(&holdout(50_000, -0.3, 0.6));
        assert!((line.slope - 0.6).abs() < 0.05, "{line:?}");
        assert!((line.apply(-3.0) - (-0.3 - 1.8)).abs() < 0.1, "{line:?}");
    }

    #[test]
    fn few_outcomes_barely_move_a_model() {
        let ten = [Prediction { log_odds: -3.0, left: false, weight: 1.0 }; 10];
        let line = Calibration::fit(&ten);
        assert!((line.apply(-3.0) + 3.0).abs() < 0.15, "{line:?}");
        assert_eq!(Calibration::fit(&[]), Calibration::default());
    }

    #[test]
    fn order_is_kept_even_where_the_model_is_upside_down() {
        let line = Calibration::fit(&holdout(50_000, -4.0, -1.0));
        assert!(line.slope >= 0.0 && line.slope < 0.01, "{line:?}");
    }
}
