//! The sets that are judged: their files in the kit, their signals, and which split tuned what.

use anyhow::Result;
use bellwether_core::policy::{Compiled, Policy};

use crate::cli::SetName;

/// A set with real events and known outcomes.
#[derive(Debug)]
pub(crate) struct UsageSet {
    pub(crate) name: &'static str,
    pub(crate) which: SetName,
    pub(crate) title: &'static str,
    signals: &'static str,
    /// What is judged, by the names of the kit's anchors.
    pub(crate) judged: &'static [&'static str],
    /// What the first of these calls the end of an account.
    pub(crate) end: &'static str,
    /// Replaying what lies before this date only must give the same scores up to it.
    pub(crate) cut: &'static str,
    pub(crate) tuned: &'static str,
}

pub(crate) const USAGE_SETS: [UsageSet; 2] = [
    UsageSet {
        name: "openstack",
        which: SetName::Openstack,
        title: "OpenStack: companies that commit",
        signals: include_str!("../../policies/eval/openstack.toml"),
        judged: &["openstack-silence"],
        end: "silent for 30 days",
        cut: "2013-06-01",
        tuned: "no parameter was tuned on this set; the list of signals is the demo's; reported are snapshots and alerts \
                from 2013-01-01 on",
    },
    UsageSet {
        name: "oulad",
        which: SetName::Oulad,
        title: "OULAD: students in courses",
        signals: include_str!("../../policies/eval/oulad.toml"),
        judged: &["oulad-silence", "oulad-withdrawal"],
        end: "last activity",
        cut: "2013-11-15",
        tuned: "no parameter was tuned on this set; the list of signals (lines are counted, not clicks) was chosen on snapshots and alerts before \
                2013-05-04; reported are those from 2013-06-01 on",
    },
];

/// An outcome that scorecards learn.
#[derive(Debug)]
pub(crate) struct LearnedSet {
    /// By the name of the kit's anchors.
    pub(crate) name: &'static str,
    pub(crate) stem: &'static str,
    signals: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) horizon_days: u32,
    pub(crate) step_days: u32,
    /// Learned is what was known then, judged what came from then on.
    pub(crate) from: &'static str,
}

const fn learned(
    (name, stem, kind): (&'static str, &'static str, &'static str),
    signals: &'static str,
    (horizon_days, step_days): (u32, u32),
    from: &'static str,
) -> LearnedSet {
    LearnedSet { name, stem, signals, kind, horizon_days, step_days, from }
}

pub(crate) const LEARNED: [LearnedSet; 4] = [
    learned(
        ("openstack-silence", "openstack", "silence"),
        include_str!("../../policies/eval/openstack.toml"),
        (56, 14),
        "2013-01-01",
    ),
    learned(
        ("oulad-silence", "oulad", "silence"),
        include_str!("../../policies/eval/oulad.toml"),
        (28, 7),
        "2013-06-01",
    ),
    learned(
        ("oulad-withdrawal", "oulad", "withdrawal"),
        include_str!("../../policies/eval/oulad.toml"),
        (28, 7),
        "2013-06-01",
    ),
    learned(
        ("churnsim", "churnsim", "subscription_end"),
        include_str!("../../policies/eval/churnsim.toml"),
        (28, 7),
        "2022-09-15",
    ),
];
pub(crate) const LEARNED_TUNED: &str = "weights and calibration come from what was known before the first judged snapshot; that deviations get no expectation of their own and which \
                                        readings there are was decided with figures of these judged parts in view, but for ChurnSim";

impl LearnedSet {
    pub(crate) fn policy(&self, base: &Compiled) -> Result<Compiled> {
        with_signals_of(base, self.stem, self.signals)
    }
}

/// The signal of the Numenta Anomaly Benchmark.
const NAB: &str = include_str!("../../policies/eval/nab.toml");
pub(crate) const NAB_TITLE: &str = "Numenta Anomaly Benchmark: values judged within the day";
pub(crate) const NAB_TUNED: &str = "the constants of the intraday detector, one set for all series, were chosen on these same series, never for one of them: \
                                    this is no test on unseen data; the threshold is the best one over all series, as the benchmark takes it";
/// Signals of the synthetic fleets.
const POWER: &str = include_str!("../../policies/eval/power.toml");
/// Scenarios of the synthetic fleets, in the order in which they are reported.
pub(crate) const SCENARIOS: [&str; 11] = [
    "drop2of3",
    "drop2of3_large",
    "drop2of3_small",
    "decline",
    "silence",
    "spike",
    "outage1",
    "fleetdrop",
    "stationary",
    "stationary_small",
    "stationary_large",
];
/// Seeds whose fleets were looked at while the engine was made.
pub(crate) const SEEN_SEEDS: [u32; 9] = [1, 2, 3, 9001, 9002, 9003, 9004, 9011, 9012];
pub(crate) const POWER_TUNED: &str = "the policy's [calibration] was measured on stationary fleets of seeds 9001 to 9004; the method was \
                                      developed on fleets of seeds 1 to 3, 9011 and 9012; the reference rules are calibrated on 9001 and 9002";

impl UsageSet {
    pub(crate) fn policy(&self, base: &Compiled) -> Result<Compiled> {
        with_signals_of(base, self.name, self.signals)
    }
}

pub(crate) fn nab_policy(base: &Compiled) -> Result<Compiled> {
    with_signals_of(base, "nab", NAB)
}

pub(crate) fn power_policy(base: &Compiled) -> Result<Compiled> {
    with_signals_of(base, "power", POWER)
}

/// Every parameter of the base policy, with the signals of a set. Conditions and sequences that ask for other signals go with those.
fn with_signals_of(base: &Compiled, name: &str, signals: &str) -> Result<Compiled> {
    let set = Compiled::parse(name, signals)?;
    let mut policy =
        Policy { name: name.to_owned(), signals: set.signals.clone(), ..Policy::clone(base) };
    policy.conditions.retain(|condition| {
        let known = |name: &&str| set.signals.iter().any(|signal| signal.name == **name);
        condition.when.signals().iter().all(known)
    });
    policy.sequences.retain(|sequence| {
        let known = |name: &&str| set.signals.iter().any(|signal| signal.name == **name);
        sequence.signals().iter().all(known)
    });
    Ok(Compiled::check(name, policy)?)
}

/// The same policy with another budget of false high alerts per account and year.
pub(crate) fn with_budget(policy: &Compiled, budget: f64) -> Result<Compiled> {
    let mut changed = Policy::clone(policy);
    changed.corroboration.false_high_per_year = budget;
    Ok(Compiled::check(&format!("--budgets {budget}"), changed)
        .map_err(|error| crate::usage::Usage(error.to_string()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_differ_from_the_default_policy_in_their_signals_only() {
        let base = Compiled::default_policy();
        let mut policies: Vec<(Compiled, &str)> = USAGE_SETS
            .iter()
            .map(|set| (set.policy(&base).expect("the policy is valid"), set.signals))
            .collect();
        policies.extend(
            LEARNED
                .iter()
                .map(|set| (set.policy(&base).expect("the policy is valid"), set.signals)),
        );
        policies.push((power_policy(&base).expect("the policy is valid"), POWER));
        policies.push((nab_policy(&base).expect("the policy is valid"), NAB));
        for (policy, text) in policies {
            let expected = Policy {
                name: base.name.clone(),
                signals: base.signals.clone(),
                conditions: base.conditions.clone(),
                sequences: base.sequences.clone(),
                ..Policy::clone(&policy)
            };
            assert!(!policy.conditions.is_empty(), "{policy}: those that ask for no signal stay");
            assert_eq!(expected, Policy::clone(&base), "{policy}");
            let file: toml::Table = toml::from_str(text).expect("TOML");
            assert!(file.keys().all(|key| key == "name" || key == "signal"), "{policy}: {file:?}");
        }
    }
}
