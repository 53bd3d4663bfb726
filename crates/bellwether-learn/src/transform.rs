//! From a feature's natural unit to evidence of risk between 0 and 1: bounded, monotone, missing where unknown.
//!
//! A transform is a straight line, or a line in the logarithm, between two bounds of the policy; beyond them nothing
//! more is gained or lost, so no reading can outweigh all others and a fit does not extrapolate. Knots split the line
//! into segments, each with a weight of its own at or above zero: the shape is then learned, and stays monotone.

use serde::{Deserialize, Serialize};

/// Which readings are the risky ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risky {
    /// Low readings, as of activity.
    Low,
    /// High readings, as of open complaints.
    High,
}

/// The scale on which a feature acts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// As it is.
    Linear,
    /// The natural logarithm of the reading plus this offset: ratios count, not differences.
    Log(f64),
}

/// A monotone map from a reading to evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transform {
    /// Which end is risky.
    pub risky: Risky,
    /// Scale between the bounds.
    pub scale: Scale,
    /// Lowest reading that still makes a difference.
    pub low: f64,
    /// Highest reading that still makes a difference.
    pub high: f64,
    /// Inner borders of segments, ascending, strictly between the bounds; none for a straight line.
    #[serde(default)]
    pub knots: Vec<f64>,
}

/// Why a transform cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bounds and knots must be finite, ascending and inside the scale's domain")]
pub struct BadTransform;

impl Transform {
    /// Checks bounds, knots and offset.
    ///
    /// # Errors
    /// [`BadTransform`] where they are not finite or ascending, or a logarithm would not exist.
    pub fn check(&self) -> Result<(), BadTransform> {
        let borders: Vec<f64> = self.borders().collect();
        let ascending = borders.iter().zip(borders.iter().skip(1)).all(|(a, b)| a < b);
        let mapped = borders.iter().all(|&border| self.on_scale(border).is_finite());
        if ascending && mapped { Ok(()) } else { Err(BadTransform) }
    }

    /// Number of segments, each of which is one column of a fit.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.knots.len() + 1
    }

    /// Evidence of risk per segment, each 0..=1 and rising with risk, or `None` where the reading is missing (NaN).
    /// Segments are in the order of the reading, lowest first.
    #[must_use]
    pub fn apply(&self, reading: f64) -> Option<Vec<f64>> {
        if reading.is_nan() {
            return None;
        }
        let at = self.on_scale(reading.clamp(self.low, self.high));
        let borders: Vec<f64> = self.borders().map(|border| self.on_scale(border)).collect();
        let segment = |(from, to): (&f64, &f64)| {
            let share = ((at - from) / (to - from)).clamp(0.0, 1.0);
            match self.risky {
                Risky::Low => 1.0 - share,
                Risky::High => share,
            }
        };
        Some(borders.iter().zip(borders.iter().skip(1)).map(segment).collect())
    }

    fn borders(&self) -> impl Iterator<Item = f64> {
        std::iter::once(self.low)
            .chain(self.knots.iter().copied())
            .chain(std::iter::once(self.high))
    }

    fn on_scale(&self, reading: f64) -> f64 {
        match self.scale {
            Scale::Linear => reading,
            Scale::Log(offset) => (reading + offset).ln(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quiet_days() -> Transform {
        Transform {
            risky: Risky::High,
            scale: Scale::Log(1.0),
            low: 0.0,
            high: 63.0,
            knots: vec![3.0, 15.0],
        }
    }

    #[test]
    fn a_logarithmic_scale_counts_doublings() {
        let evidence = |days: f64| quiet_days().apply(days).expect("known");
        assert_eq!(evidence(0.0), [0.0, 0.0, 0.0]);
        // ln(2) of ln(4): one doubling of the two from 1 to 4.
        assert!((evidence(1.0).iter().sum::<f64>() - 0.5).abs() < 1e-12);
        assert_eq!(evidence(15.0), [1.0, 1.0, 0.0]);
        assert_eq!(evidence(1e9), [1.0, 1.0, 1.0]);
    }

    #[test]
    fn missing_is_missing_and_not_zero() {
        assert_eq!(quiet_days().apply(f64::NAN), None);
        assert!(quiet_days().apply(f64::INFINITY).is_some());
    }

    #[test]
    fn bounds_that_cannot_work_are_refused() {
        assert_eq!(quiet_days().check(), Ok(()));
        let wrong = [
            Transform { low: 63.0, ..quiet_days() },
            Transform { knots: vec![15.0, 3.0], ..quiet_days() },
            Transform { low: f64::NAN, ..quiet_days() },
            Transform { low: -1.0, ..quiet_days() },
        ];
        for transform in wrong {
            assert_eq!(transform.check(), Err(BadTransform), "{transform:?}");
        }
    }

    proptest! {
        #[test]
        fn worse_readings_are_never_less_evidence(a in -100.0f64..100.0, step in 0.0f64..100.0) {
            for (risky, worse) in [(Risky::High, a + step), (Risky::Low, a - step)] {
                let transform = Transform { risky, ..quiet_days() };
                let (before, after) = (transform.apply(a), transform.apply(worse));
                for (before, after) in before.iter().flatten().zip(after.iter().flatten()) {
                    prop_assert!(after >= before);
                }
            }
        }
    }
}
