//! The scorecard: an additive model, so that its explanation is exact.
//!
//! A score is `base + one line per signal + one per sequence + recency + frequency + tenure`, clipped to 0..100; the clipping is a line
//! of its own. Every line is an integer of hundredths, so lines sum to the score and their differences to its change.
//! A line depends on its own signal (or those of its sequence) only: more bad evidence never raises a score.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::account::StoredBaseline;
use crate::drift::Fitted;
use crate::output::{Band, Category, SubScore};
use crate::points::Points;
use crate::policy::{Aggregate, Compiled, Direction, Policy, Signal};
use crate::ranking::HeldOut;
use crate::sequence::Sequence;
use crate::standing::{Standing, Trait};
use crate::time::Millis;

/// What a scorer knows of a signal at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The seven-day value now, in the signal's unit.
    pub value: f64,
    /// What is normal.
    pub baseline: StoredBaseline,
    /// Standardised deviation of the value, signed.
    pub z: f64,
}

/// What a scorer knows of an account apart from its signals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Context {
    /// Days since the last activity.
    pub quiet_days: f64,
    /// Days with activity in the last 28.
    pub active_days: f64,
    /// Days since the relationship began.
    pub tenure_days: f64,
    /// 0 for a new account, rising to 1 at the end of onboarding: slow use by a new account is not a risk yet.
    pub settled: f64,
}

/// Names of the lines that are no signals, in the order of [`Scorer::context`].
pub const CONTEXT_LINES: [(&str, Category, &str); 3] = [
    ("recency", Category::Engagement, "days since last activity"),
    ("frequency", Category::Engagement, "active days of 28"),
    ("tenure", Category::Relationship, "days as a customer"),
];

/// Where the ends and the middle of a scale lie, in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The base line.
    pub base: f64,
    /// A score of at least this is healthy.
    pub healthy_min: f64,
    /// A score below this is at risk.
    pub at_risk_below: f64,
}

/// Turns readings into points. Implementations are pure, additive and monotone.
pub trait Scorer: std::fmt::Debug + Send + Sync {
    /// Version of the model, for the records that it produced.
    fn version(&self) -> &str;

    /// Its own scale; none: that of the policy.
    fn scale(&self) -> Option<Scale> {
        None
    }

    /// The policy whose weights, points and bands take the place of those of the policy in force; none: they stay. Then the scale is that
    /// policy's, too.
    fn weights(&self) -> Option<&Policy> {
        None
    }

    /// Points of one signal of an account of a cohort.
    fn signal(&self, cohort: &str, signal: &Signal, reading: &Reading, policy: &Policy) -> Points;

    /// Points of an absence, for signals of presence; `z` as in [`crate::absence::Absence`].
    fn absence(&self, cohort: &str, signal: &Signal, z: f64) -> Points;

    /// Points of a sequence of an account of a cohort that is this strong ([`Sequence::strength`]).
    fn sequence(&self, _cohort: &str, _sequence: &Sequence, _strength: f64) -> Points {
        Points::ZERO
    }

    /// Points of recency, frequency and tenure.
    fn context(&self, context: &Context, policy: &Policy) -> [Points; 3];

    /// Days within which the outcome lies that a learned scorecard predicts; none: it knows no [`Standing`].
    fn horizon_days(&self) -> Option<u32> {
        None
    }

    /// The end of the data that it was learned from; none: it was not learned.
    fn learned_until(&self) -> Option<Millis> {
        None
    }

    /// How what it reads was distributed when it was learned; none: that was not kept.
    fn fitted(&self) -> Option<Arc<Fitted>> {
        None
    }

    /// What it was worth on outcomes that it was not learned from; none: that is not known.
    fn held_out(&self) -> Option<Arc<HeldOut>> {
        None
    }

    /// The probability that an account of a cohort leaves within [`Scorer::horizon_days`], by its readings
    /// ([`readings`](crate::drift::readings)); none: it knows of no probabilities.
    fn risk(&self, _cohort: &str, _readings: &BTreeMap<String, f64>) -> Option<f64> {
        None
    }

    /// Points of how an account stands, for each trait that the scorecard knows.
    fn standing(&self, _cohort: &str, _standing: &Standing) -> Vec<(Trait, Points)> {
        Vec::new()
    }
}

/// The scorecard of the policy's expert weights.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExpertScorecard;

/// Deviations below this are noise: they move nothing. Full confidence is reached `CONFIDENCE_SPAN` above.
const CONFIDENCE_FROM: f64 = 0.75;
const CONFIDENCE_SPAN: f64 = 2.25;

fn confidence(z: f64) -> f64 {
    ((z.abs() - CONFIDENCE_FROM) / CONFIDENCE_SPAN).clamp(0.0, 1.0)
}

/// What a reading says for an account by an expert's measure, as a share of the signal's weight: -1 (as bad as it gets) to
/// `score.upside_share`.
#[must_use]
pub fn strength(signal: &Signal, reading: &Reading, policy: &Policy) -> f64 {
    let level = reading.baseline.level;
    let shift = reading.value - level;
    let bad = match signal.direction {
        Direction::Down => shift < 0.0,
        Direction::Up => shift > 0.0,
    };
    // The change is relative to the level, or to the spread where the level is about nothing.
    let scale = level.abs().max(reading.baseline.spread).max(1e-9);
    let effect = (shift.abs() / scale * 100.0 / signal.effect_full_pct).min(1.0);
    let strength = effect * confidence(reading.z);
    if bad { -strength } else { strength * policy.score.upside_share }
}

/// What an absence says, in the same measure: -1 to 0.
#[must_use]
pub fn absence_strength(z: f64) -> f64 {
    if z >= 0.0 { 0.0 } else { -confidence(z) }
}

impl Scorer for ExpertScorecard {
    fn version(&self) -> &'static str {
        "expert"
    }

    fn signal(&self, _cohort: &str, signal: &Signal, reading: &Reading, policy: &Policy) -> Points {
        Points::from_f64(signal.weight * strength(signal, reading, policy))
    }

    fn absence(&self, _cohort: &str, signal: &Signal, z: f64) -> Points {
        Points::from_f64(signal.weight * absence_strength(z))
    }

    fn sequence(&self, _cohort: &str, sequence: &Sequence, strength: f64) -> Points {
        Points::from_f64(-sequence.weight * strength)
    }

    fn context(&self, context: &Context, policy: &Policy) -> [Points; 3] {
        let score = &policy.score;
        let full = f64::from(score.recency_full_days);
        let recency = (context.quiet_days.max(0.0).ln_1p() / full.ln_1p()).min(1.0);
        let frequency = (context.active_days / 28.0).clamp(0.0, 1.0).sqrt();
        let youth = 1.0 - (context.tenure_days / f64::from(score.tenure_full_days)).clamp(0.0, 1.0);
        [
            Points::from_f64(-score.recency_points * recency * context.settled),
            Points::from_f64(score.frequency_points * frequency),
            Points::from_f64(-score.tenure_points * youth),
        ]
    }
}

/// The raw sum of a scorecard, and what it becomes within 0..100.
#[must_use]
pub fn clip(raw: Points) -> Points {
    raw.clamp(Points::SCORE_MIN, Points::SCORE_MAX)
}

/// The band of a score.
#[must_use]
pub fn band(score: Points, policy: &Policy) -> Band {
    if score >= Points::from_f64(policy.score.healthy_min) {
        Band::Healthy
    } else if score < Points::from_f64(policy.score.at_risk_below) {
        Band::AtRisk
    } else {
        Band::Neutral
    }
}

/// Sub-scores from the exact sums of the categories. A category's points are blown up by its share of all weights, so
/// that the score is the weighted mean of the sub-scores (before clipping and rounding).
#[must_use]
pub fn sub_scores(sums: &BTreeMap<Category, Points>, policy: &Compiled) -> Vec<SubScore> {
    let weights = policy.category_weights();
    let total: f64 = weights.values().sum();
    Category::ALL
        .iter()
        .filter_map(|&category| {
            let weight = weights.get(&category).copied().filter(|weight| *weight > 0.0)?;
            let points = sums.get(&category).copied().unwrap_or_default();
            let score = policy.score.base_points + points.as_f64() * total / weight;
            Some(SubScore { category, score: clip(Points::from_f64(score)), points })
        })
        .collect()
}

/// Whether the signal is judged by absence instead of a weekly value.
#[must_use]
pub fn is_presence(signal: &Signal) -> bool {
    signal.aggregate == Aggregate::Presence
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reading(value: f64, level: f64) -> Reading {
        let spread = (level * 0.1).max(0.5);
        let baseline = StoredBaseline { level, spread, weeks: 8 };
        Reading { value, baseline, z: (value - level) / spread }
    }

    proptest! {
        #[test]
        fn worse_readings_never_earn_points(level in 0.0f64..1e6, low in 0.0f64..3.0, step in 0.0f64..3.0) {
            let policy = Compiled::default_policy();
            for signal in policy.signals.iter().filter(|signal| !is_presence(signal)) {
                let at = |factor: f64| ExpertScorecard.signal("", signal, &reading(level * factor, level), &policy);
                let (better, worse) = match signal.direction {
                    Direction::Down => (at(low + step), at(low)),
                    Direction::Up => (at(low), at(low + step)),
                };
                prop_assert!(worse <= better, "{}: {worse} > {better}", signal.name);
                prop_assert!(worse.abs() <= Points::from_f64(signal.weight));
            }
        }
    }

    #[test]
    fn bands_follow_the_policy() {
        let policy = Compiled::default_policy();
        assert_eq!(band(Points(7000), &policy), Band::Healthy);
        assert_eq!(band(Points(6999), &policy), Band::Neutral);
        assert_eq!(band(Points(4499), &policy), Band::AtRisk);
    }
}
