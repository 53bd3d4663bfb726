//! The features of the scorecard: one per signal and sequence of a policy, and how an account stands.
//!
//! A signal's reading is what an expert says of its deviation ([`strength`]): a share of its weight.
//!
//! [`strength`]: bellwether_core::score::strength

use bellwether_core::account::Account;
use bellwether_core::policy::{Compiled, Policy, Signal};
use bellwether_core::sequence::Sequence;
use bellwether_core::standing::{Standing, Trait, standing};
use serde::{Deserialize, Serialize};

use crate::example::Example;
use crate::transform::{Risky, Scale, Transform};

/// What a feature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Moves the score.
    Score,
    /// Moves the base odds, and through them the risk, but not the score: what every account of that maturity shares
    /// says nothing about this account.
    Base,
}

/// A feature of the model: its meaning, its transform, and what an expert expects of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Name in models, records and reports: that of a [`Trait`], or `signal:` and the name of a signal, or `sequence:` and that of a sequence.
    pub name: String,
    /// Unit of its readings.
    pub unit: String,
    /// Score or base odds.
    pub role: Role,
    /// From reading to evidence.
    pub transform: Transform,
    /// Expected log-odds of leaving between the best and the worst reading, at least 0.
    pub prior_mean: f64,
    /// Standard deviation of that expectation, above 0.
    pub prior_sd: f64,
}

pub use bellwether_core::drift::SIGNAL_PREFIX;
pub use bellwether_core::sequence::SEQUENCE_PREFIX;

/// The features of a policy, in the order of [`row`].
#[must_use]
pub fn features(policy: &Policy) -> Vec<Feature> {
    let signals = policy.signals.iter().map(|signal| of_signal(signal, policy));
    let sequences = policy.sequences.iter().map(of_sequence);
    signals.chain(sequences).chain(Trait::ALL.map(of_trait)).collect()
}

/// Deviations say what changed, and hardly who leaves (an area under the curve of .45 to .57 on the development data, each by itself or
/// together): nothing is expected of them, and little believed before outcomes show it.
const SIGNAL_SD: f64 = 0.15;

fn of_signal(signal: &Signal, policy: &Policy) -> Feature {
    Feature {
        name: format!("{SIGNAL_PREFIX}{}", signal.name),
        unit: "share of its weight".to_owned(),
        role: Role::Score,
        transform: transform(Risky::Low, Scale::Linear, -1.0, policy.score.upside_share.max(0.01)),
        prior_mean: 0.0,
        prior_sd: SIGNAL_SD,
    }
}

/// How strong a sequence is, from not at all to just complete. Nothing is expected of it; what it says is for outcomes to show.
fn of_sequence(sequence: &Sequence) -> Feature {
    Feature {
        name: format!("{SEQUENCE_PREFIX}{}", sequence.name),
        unit: "share of its strength".to_owned(),
        role: Role::Score,
        transform: transform(Risky::High, Scale::Linear, 0.0, 1.0),
        prior_mean: 0.0,
        prior_sd: SEQUENCE_SD,
    }
}

/// Of one that is met once in a while more is believed than of deviations, which are always there.
const SEQUENCE_SD: f64 = 0.5;

/// Features and examples without those of sequences and about the contract ([`Trait::is_of_contract`]) of which no example has a reading: a
/// model then is what it would be had they never been there.
///
/// # Panics
/// Where an example has fewer readings than there are features.
#[must_use]
pub fn known(features: Vec<Feature>, examples: Vec<Example>) -> (Vec<Feature>, Vec<Example>) {
    let of_contract =
        |name: &str| Trait::ALL.iter().any(|of| of.is_of_contract() && of.as_str() == name);
    let may_go = |name: &str| name.starts_with(SEQUENCE_PREFIX) || of_contract(name);
    let is_kept = |(index, feature): (usize, &Feature)| {
        !may_go(&feature.name) || examples.iter().any(|example| !example.features[index].is_nan())
    };
    let kept: Vec<bool> = features.iter().enumerate().map(is_kept).collect();
    fn retain<T>(all: Vec<T>, kept: &[bool]) -> Vec<T> {
        all.into_iter().zip(kept).filter(|(_, kept)| **kept).map(|(one, _)| one).collect()
    }
    let examples = examples
        .into_iter()
        .map(|example| Example { features: retain(example.features, &kept), ..example });
    (retain(features, &kept), examples.collect())
}

/// How an account stands. Expected weights are mostly one: each is worth a factor of e in the odds between its best and its worst
/// reading.
fn of_trait(of: Trait) -> Feature {
    let (scale, low, high) = match of {
        Trait::Activity | Trait::Habit => (Scale::Log(0.02), 0.0, 0.65),
        Trait::Trend => (Scale::Linear, -0.8, 0.4),
        Trait::Members => (Scale::Log(1.0), 1.0, 9.0),
        Trait::Maturity => (Scale::Log(0.0), 28.0, 1_095.0),
        // Contracts are left when they end: half of it is said by the last month.
        Trait::Renewal => (Scale::Log(7.0), 0.0, 180.0),
        Trait::Value => (Scale::Log(0.0), 1_000.0, 1_000_000.0),
        // From half as much to half as much again.
        Trait::Spend => (Scale::Linear, -0.7, 0.4),
    };
    let (role, prior_mean) = match of {
        // The hazard of leaving falls with about the square root of tenure: ln(1095 / 28) / 2.
        Trait::Maturity => (Role::Base, 1.8),
        Trait::Activity | Trait::Habit | Trait::Trend | Trait::Members => (Role::Score, 1.0),
        Trait::Renewal | Trait::Spend => (Role::Score, 1.0),
        // That small accounts leave more than large ones of their cohort is for outcomes to show: nothing is expected, and the opposite
        // is not learned.
        Trait::Value => (Role::Score, 0.0),
    };
    Feature {
        name: of.as_str().to_owned(),
        unit: of.unit().to_owned(),
        role,
        transform: transform(Risky::Low, scale, low, high),
        prior_mean,
        prior_sd: 1.0,
    }
}

fn transform(risky: Risky, scale: Scale, low: f64, high: f64) -> Transform {
    Transform { risky, scale, low, high, knots: Vec::new() }
}

/// The readings of an account as it is known, scored by an expert: one per feature of its policy; NaN is missing. None for an
/// account that was never active.
#[must_use]
pub fn row(account: &Account, policy: &Compiled, horizon_days: u32) -> Option<Vec<f64>> {
    account.hot.first_event_at?;
    let day = account.hot.today.plus(-1);
    let mut row: Vec<f64> = policy
        .signals
        .iter()
        .zip(&account.hot.signals)
        .map(|(signal, state)| match state.baseline {
            Some(_) if signal.weight > 0.0 => state.points.as_f64() / signal.weight,
            Some(_) | None => f64::NAN,
        })
        .collect();
    row.resize(policy.signals.len(), f64::NAN);
    row.extend(policy.sequences.iter().map(|sequence| sequence.reading(account, policy, day)));
    let Standing(stands) = standing(account, policy, day, horizon_days);
    row.extend(stands);
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_of_a_policy_can_be_used() {
        let policy = Compiled::default_policy();
        let features = features(&policy);
        assert_eq!(features.len(), policy.signals.len() + Trait::ALL.len());
        for feature in &features {
            assert_eq!(feature.transform.check(), Ok(()), "{}", feature.name);
        }
    }

    #[test]
    fn what_no_example_says_of_the_contract_is_no_feature() {
        let all = features(&Compiled::default_policy());
        let at = |name: &str| all.iter().position(|feature| feature.name == name).expect("there");
        let example = |known: &[(usize, f64)]| {
            let mut readings = vec![f64::NAN; all.len()];
            known.iter().for_each(|&(index, value)| readings[index] = value);
            Example {
                account: bellwether_core::id::AccountId::new("acme").expect("an id"),
                cohort: String::new(),
                at: bellwether_core::time::Millis(0),
                features: readings,
                left_after_ms: None,
                weight: 1.0,
            }
        };
        let examples = vec![example(&[(at("value"), 5_000.0)]), example(&[(at("activity"), 0.5)])];
        let (kept, examples) = known(all.clone(), examples);
        let dropped: Vec<&str> = all
            .iter()
            .filter(|feature| !kept.contains(feature))
            .map(|feature| feature.name.as_str())
            .collect();
        assert_eq!(dropped, ["renewal", "spend"], "of signals and the rest all stay");
        let place = |name: &str| kept.iter().position(|feature| feature.name == name);
        assert!((examples[0].features[place("value").expect("kept")] - 5_000.0).abs() < 1e-9);
        assert!((examples[1].features[place("activity").expect("kept")] - 0.5).abs() < 1e-9);
        assert!(examples.iter().all(|example| example.features.len() == kept.len()));
    }
}
