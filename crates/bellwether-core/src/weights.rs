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

/// What a policy says otherwise that is not a matter of points, by its keys, e.g. `corroboration.groups_high` or `signal logins`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it differs in more than points: {}; what is found would be another, so try it on history (`replay --against`) or as an application of its own",
    .0.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
)]
pub struct NotOnlyPoints(pub BTreeSet<String>);

impl OtherWeights {
    /// The weights of a policy, to be used under the one in force.
    ///
    /// # Errors
    /// They differ in more than weights, points, bands and names.
    pub fn of(policy: Compiled, in_force: &Compiled) -> Result<OtherWeights, NotOnlyPoints> {
        let mut same = Policy::clone(&policy);
        take_points(&mut same, in_force);
        same.name.clone_from(&in_force.name);
        let differences = differences(&same, in_force);
        if !differences.is_empty() {
            return Err(NotOnlyPoints(differences));
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
            (Value::Array(left), Value::Array(right)) => {
                let names = left.iter().chain(right).filter_map(name);
                let of = |list: &[Value], name: &str| {
                    list.iter().position(|item| self::name(item) == Some(name)).map(|at| {
                        // The order counts: states of accounts follow it.
                        (at, list[at].clone())
                    })
                };
                let others = names.filter(|name| of(left, name) != of(right, name));
                found.extend(others.map(|name| format!("{key} {name}")));
            }
            (Value::Object(_), _) | (_, Value::Object(_)) => {
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
        let error = OtherWeights::of(with(change), &Compiled::default_policy());
        error.expect_err("it differs in more than points").0.into_iter().collect()
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
        let mut swapped = [name(0), name(1)];
        swapped.sort();
        assert_eq!(refused(|policy| policy.signals.swap(0, 1)), swapped, "states follow the order");
        let condition = Compiled::default_policy().conditions[0].kind.clone();
        let found = refused(|policy| drop(policy.conditions.remove(0)));
        assert!(found.contains(&format!("condition {condition}")), "{found:?}");
    }
}
