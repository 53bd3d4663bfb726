//! Another policy's expert weights as a model: its points, bands and scale under the detection that is in force.
//!
//! A policy says how deviations are found and what they cost. What they cost can be tried beside the weights in force and be promoted as a learned model can
//! ([`crate::shadow`], [`crate::promotion`]), because everything else about an account stays as it is. A policy that finds something else needs
//! state of its own, and is refused by name of what differs.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::points::Points;
use crate::policy::{Compiled, Policy, Signal};
use crate::score::{Context, ExpertScorecard, Reading, Scorer};
use crate::sequence::Sequence;

/// Before the version of the policy, in the version of the model.
const VERSION_PREFIX: &str = "expert-";

/// The expert scorecard of another policy than the one in force.
#[derive(Debug, Clone)]
pub struct OtherWeights {
    version: String,
    policy: Compiled,
}

/// Why the weights of a policy are of no use under the one in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// What it says otherwise that is not a matter of points, by its keys, e.g. `corroboration.groups_high` or `signal logins`.
    #[error(
        "it differs in more than points: {}; what is found would be another, so try it on history (`replay --against`) or as an application of its own",
        .0.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    )]
    NotOnlyPoints(BTreeSet<String>),
    /// These signals are evidence under one of both policies only: weights of some are 0.
    #[error(
        "it has no weights for the same signals as the policy in force: {}; a signal without weight is no evidence",
        .0.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    )]
    OtherEvidence(BTreeSet<String>),
    /// Rolling sums are scored by what is configured.
    #[error("the rolling detector is scored by the policy that is configured: change that one")]
    Rolling,
}

impl OtherWeights {
    /// The weights of a policy that otherwise is the one in force.
    ///
    /// # Errors
    /// They differ in more than weights, points, bands and the policy's name.
    pub fn of(policy: Compiled, in_force: &Compiled) -> Result<OtherWeights, Unusable> {
        let weights = OtherWeights::under(policy, in_force)?;
        let mut same = Policy::clone(&weights.policy);
        take_points(&mut same, in_force);
        same.name.clone_from(&in_force.name);
        let differences = differences(&same, in_force);
        if !differences.is_empty() {
            return Err(Unusable::NotOnlyPoints(differences));
        }
        Ok(weights)
    }

    /// The weights of a policy for the signals and sequences of the one in force, whatever else either says: weights that were promoted stay in force
    /// where a setting that has nothing to do with them is changed.
    ///
    /// # Errors
    /// It does not have the same signals with weight.
    pub fn under(policy: Compiled, in_force: &Compiled) -> Result<OtherWeights, Unusable> {
        if in_force.rolling.enabled {
            return Err(Unusable::Rolling);
        }
        let evidence = |policy: &Policy| -> BTreeSet<String> {
            let weighed = policy.signals.iter().filter(|signal| signal.is_evidence());
            weighed.map(|signal| signal.name.clone()).collect()
        };
        let (theirs, ours) = (evidence(&policy), evidence(in_force));
        let others: BTreeSet<String> = theirs.symmetric_difference(&ours).cloned().collect();
        if !others.is_empty() {
            return Err(Unusable::OtherEvidence(others));
        }
        Ok(OtherWeights { version: OtherWeights::version_of(&policy), policy })
    }

    /// The version of the weights of a policy, as a model.
    #[must_use]
    pub fn version_of(policy: &Compiled) -> String {
        format!("{VERSION_PREFIX}{}", policy.version())
    }
}

/// Gives a policy all that decides about points, and nothing about what is found, of another one.
pub(crate) fn take_points(policy: &mut Policy, other: &Policy) {
    let publish_min_points = policy.score.publish_min_points;
    policy.score = other.score.clone();
    policy.score.publish_min_points = publish_min_points;
    for signal in &mut policy.signals {
        if let Some(known) = other.signals.iter().find(|known| known.name == signal.name) {
            (signal.weight, signal.effect_full_pct) = (known.weight, known.effect_full_pct);
        }
    }
    for sequence in &mut policy.sequences {
        if let Some(known) = other.sequences.iter().find(|known| known.name == sequence.name) {
            sequence.weight = known.weight;
        }
    }
}

fn differences(left: &Policy, right: &Policy) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // What is a policy can be written, as its version shows.
    let [left, right] =
        [left, right].map(|policy| serde_json::to_value(policy).unwrap_or_default());
    for (key, left, right) in members(&left, &right) {
        match (left, right) {
            (Value::Array(_), _) | (_, Value::Array(_)) => {
                // What is left out where there is none of it.
                let [left, right] =
                    [left, right].map(|list| list.as_array().map_or(&[][..], Vec::as_slice));
                let of = |list: &'_ [Value], name: &str| {
                    list.iter().find(|item| self::name(item) == Some(name)).cloned()
                };
                let names = left.iter().chain(right).filter_map(name);
                let others = names.filter(|name| of(left, name) != of(right, name));
                let before = found.len();
                found.extend(others.map(|name| format!("{key} {name}")));
                if found.len() == before {
                    // States of accounts follow it.
                    found.insert(format!("the order of each {key}"));
                }
            }
            (Value::Object(_), Value::Object(_)) => {
                let inner = members(left, right);
                found.extend(inner.map(|(inner, ..)| format!("{key}.{inner}")));
            }
            _ => {
                found.insert(key.to_owned());
            }
        }
    }
    found
}

/// The members of two objects that differ.
fn members<'a>(
    left: &'a Value,
    right: &'a Value,
) -> impl Iterator<Item = (&'a str, &'a Value, &'a Value)> {
    let keys = [left, right].into_iter().filter_map(Value::as_object).flat_map(|of| of.keys());
    let keys: BTreeSet<&str> = keys.map(String::as_str).collect();
    let pairs = keys.into_iter().map(|key| (key, &left[key], &right[key]));
    pairs.filter(|(_, left, right)| left != right)
}

/// What a signal, a sequence or a condition is called.
fn name(item: &Value) -> Option<&str> {
    item["name"].as_str().or(item["kind"].as_str())
}

/// The policy in force has the points of the other one where this is asked, so an expert's measure is all there is to it.
impl Scorer for OtherWeights {
    fn version(&self) -> &str {
        &self.version
    }

    fn weights(&self) -> Option<&Policy> {
        Some(&self.policy)
    }

    fn signal(&self, cohort: &str, signal: &Signal, reading: &Reading, policy: &Policy) -> Points {
        ExpertScorecard.signal(cohort, signal, reading, policy)
    }

    fn absence(&self, cohort: &str, signal: &Signal, z: f64) -> Points {
        ExpertScorecard.absence(cohort, signal, z)
    }

    fn sequence(&self, cohort: &str, sequence: &Sequence, strength: f64) -> Points {
        ExpertScorecard.sequence(cohort, sequence, strength)
    }

    fn context(&self, context: &Context, policy: &Policy) -> [Points; 3] {
        ExpertScorecard.context(context, policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Policy)) -> Compiled {
        let mut policy = Policy::clone(&Compiled::default_policy());
        change(&mut policy);
        Compiled::check("other.toml", policy).expect("a good policy")
    }

    fn refused(change: impl FnOnce(&mut Policy)) -> Vec<String> {
        match OtherWeights::of(with(change), &Compiled::default_policy()) {
            Err(Unusable::NotOnlyPoints(found)) => found.into_iter().collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn weights_points_bands_and_names_may_differ() {
        let other = with(|policy| {
            policy.name = "bolder".to_owned();
            policy.score.base_points = 60.0;
            policy.score.healthy_min = 80.0;
            policy.score.recency_points = 20.0;
            policy.score.upside_share = 0.1;
            policy.signals[0].weight = 1.0;
            policy.signals[1].effect_full_pct = 33.0;
        });
        let version = other.version().to_owned();
        let weights = OtherWeights::of(other, &Compiled::default_policy()).expect("only points");
        assert_eq!(weights.version(), format!("expert-{version}"));
    }

    #[test]
    fn what_differs_beside_points_is_named() {
        let found = refused(|policy| {
            policy.score.base_points = 60.0;
            policy.score.publish_min_points = 2.0;
            policy.corroboration.groups_critical += 1;
            policy.alerts.flap_days += 1;
        });
        let expected =
            ["alerts.flap_days", "corroboration.groups_critical", "score.publish_min_points"];
        assert_eq!(found, expected);
        let name =
            |index: usize| format!("signal {}", Compiled::default_policy().signals[index].name);
        let found = refused(|policy| policy.signals[2].unit = "leagues".to_owned());
        assert_eq!(found, [name(2)]);
        assert_eq!(refused(|policy| policy.signals.swap(0, 1)), ["the order of each signal"]);
        let condition = Compiled::default_policy().conditions[0].kind.clone();
        let found = refused(|policy| drop(policy.conditions.remove(0)));
        assert_eq!(found, [format!("condition {condition}")]);
        assert_eq!(refused(|policy| policy.learning.example_days = 0), ["learning"]);
    }

    /// Without weight a signal is no evidence: the scan would look at another account.
    #[test]
    fn a_signal_has_weight_under_both_or_under_neither() {
        let default = Compiled::default_policy();
        let unweighed = default.signals.iter().position(|signal| !signal.is_evidence());
        let unweighed = unweighed.expect("some are watched for themselves");
        for (index, weight) in [(0, 0.0), (unweighed, 6.0)] {
            let other = with(|policy| policy.signals[index].weight = weight);
            let name = default.signals[index].name.clone();
            let refused = Err(Unusable::OtherEvidence(BTreeSet::from([name])));
            assert_eq!(OtherWeights::of(other.clone(), &default).map(drop), refused);
            assert_eq!(OtherWeights::under(other, &default).map(drop), refused);
        }
    }

    #[test]
    fn weights_stay_usable_where_another_setting_is_changed() {
        let default = Compiled::default_policy();
        let other = with(|policy| policy.signals[0].weight = 3.0);
        let changed = with(|policy| policy.alerts.flap_days += 1);
        assert!(OtherWeights::of(other.clone(), &changed).is_err(), "nothing to begin with");
        assert!(OtherWeights::under(other.clone(), &changed).is_ok());
        let sums = |signal: &Signal| signal.name == default.signals[0].name;
        let rolling = with(|policy| {
            policy.rolling.enabled = true;
            policy.signals.retain(sums);
            policy.conditions.clear();
        });
        assert_eq!(OtherWeights::under(other, &rolling).map(drop), Err(Unusable::Rolling));
    }
}
