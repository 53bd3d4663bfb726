//! What a model is worth on a hold-out, with intervals from accounts resampled with replacement.

use std::collections::BTreeMap;

use crate::measure::{
    Accuracy, Alerting, Cadence, Judged, accuracy, alerting, auc, average_precision, quantile,
};
use crate::random::Random;

/// A figure and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// On all accounts.
    pub value: f64,
    /// 2.5 % quantile over the draws.
    pub low: f64,
    /// 97.5 % quantile over the draws.
    pub high: f64,
}

/// How to judge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judging {
    /// Draws of the intervals, at least 1.
    pub draws: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Recall at which alerts are judged.
    pub recall: f64,
    /// Grid and quiet time of alerts.
    pub cadence: Cadence,
}

/// Figures of a model on a hold-out.
#[derive(Debug, Clone, PartialEq)]
pub struct Worth {
    /// Predictions judged.
    pub predictions: usize,
    /// Those whose account left within the horizon.
    pub outcomes: usize,
    /// Accounts judged.
    pub accounts: usize,
    /// Area under the ROC curve; `None` with one class only.
    pub auc: Option<Interval>,
    /// Average precision; its no-skill value is the base rate.
    pub average_precision: Option<Interval>,
    /// Of the probabilities.
    pub accuracy: Option<Accuracy>,
    /// Of alerts made from the ranking.
    pub alerting: Option<Alerting>,
}

impl Worth {
    /// Whether the ranking is better than chance beyond its interval. A report claims no skill without it.
    #[must_use]
    pub fn has_skill(&self) -> bool {
        self.auc.is_some_and(|auc| auc.low > 0.5)
    }
}

/// Judges predictions.
#[must_use]
pub fn judge(judged: &[Judged], judging: &Judging) -> Worth {
    let accounts = judged.iter().map(|one| one.account + 1).max().unwrap_or(0);
    let mut seen = vec![false; accounts];
    for one in judged {
        seen[one.account] = true;
    }
    let present: Vec<usize> = (0..accounts).filter(|&account| seen[account]).collect();
    Worth {
        predictions: judged.len(),
        outcomes: judged.iter().filter(|one| one.left_after_ms.is_some()).count(),
        accounts: present.len(),
        auc: interval(judged, &present, judging, auc),
        average_precision: interval(judged, &present, judging, average_precision),
        accuracy: accuracy(judged),
        alerting: alerting(judged, judging.recall, judging.cadence),
    }
}

/// Judges each cohort by itself, `cohorts` being that of each prediction.
#[must_use]
pub fn judge_cohorts(
    judged: &[Judged],
    cohorts: &[&str],
    judging: &Judging,
) -> BTreeMap<String, Worth> {
    let mut parts: BTreeMap<&str, Vec<Judged>> = BTreeMap::new();
    for (one, cohort) in judged.iter().zip(cohorts) {
        parts.entry(cohort).or_default().push(*one);
    }
    parts.into_iter().map(|(cohort, part)| (cohort.to_owned(), judge(&part, judging))).collect()
}

fn interval(
    judged: &[Judged],
    accounts: &[usize],
    judging: &Judging,
    figure: impl Fn(&[Judged], &[f64]) -> Option<f64>,
) -> Option<Interval> {
    let value = figure(judged, &vec![1.0; judged.len()])?;
    let mut random = Random::new(judging.seed);
    let size = accounts.last()? + 1;
    let draw = |_| {
        let mut times = vec![0.0; size];
        for _ in accounts {
            times[accounts[random.below(accounts.len())]] += 1.0;
        }
        let weights: Vec<f64> = judged.iter().map(|one| times[one.account]).collect();
        figure(judged, &weights)
    };
    let mut draws: Vec<f64> = (0..judging.draws).filter_map(draw).collect();
    draws.sort_by(f64::total_cmp);
    if draws.is_empty() {
        return None;
    }
    Some(Interval { value, low: quantile(&draws, 0.025), high: quantile(&draws, 0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUDGING: Judging = Judging {
        draws: 200,
        seed: 7,
        recall: 0.5,
        cadence: Cadence { step_days: 7, quiet_days: 28 },
    };

    /// 40 accounts of 10 predictions each; every fourth leaves. Ranks are the account's, so that its predictions are
    /// copies of each other.
    fn fleet(skill: f64) -> Vec<Judged> {
        let mut random = Random::new(5);
        let mut all = Vec::new();
        for account in 0..40 {
            let left_after_ms = (account % 4 == 0).then_some(86_400_000);
            let noise = random.below(1_000) as f64 / 1_000.0;
            let rank = noise + if left_after_ms.is_some() { skill } else { 0.0 };
            let one = |week: i64| Judged {
                rank,
                risk: 0.25,
                left_after_ms,
                account,
                at_ms: week * 604_800_000,
            };
            all.extend((0..10).map(one));
        }
        all
    }

    #[test]
    fn skill_is_claimed_only_beyond_the_interval() {
        assert!(judge(&fleet(0.5), &JUDGING).has_skill());
        assert!(!judge(&fleet(0.0), &JUDGING).has_skill());
    }

    #[test]
    fn copies_of_a_prediction_do_not_narrow_the_interval() {
        let all = fleet(0.3);
        let once: Vec<Judged> = all.iter().filter(|one| one.at_ms == 0).copied().collect();
        let width = |judged: &[Judged]| {
            judge(judged, &JUDGING).auc.map(|auc| auc.high - auc.low).expect("both")
        };
        assert!((width(&all) - width(&once)).abs() < 1e-9);
    }

    #[test]
    fn a_seed_decides_the_intervals() {
        let other = Judging { seed: 8, ..JUDGING };
        assert_eq!(judge(&fleet(0.3), &JUDGING), judge(&fleet(0.3), &JUDGING));
        assert_ne!(judge(&fleet(0.3), &JUDGING), judge(&fleet(0.3), &other));
    }

    #[test]
    fn cohorts_are_judged_apart() {
        let all = fleet(0.5);
        let cohorts: Vec<&str> =
            all.iter().map(|one| if one.account < 20 { "a" } else { "b" }).collect();
        let parts = judge_cohorts(&all, &cohorts, &JUDGING);
        assert_eq!(parts.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(parts["b"].accounts, 20);
        assert_eq!(parts["b"].predictions, 200);
    }
}
