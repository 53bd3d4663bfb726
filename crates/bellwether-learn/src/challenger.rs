//! The challenger: a model that may interact features, to show what additivity costs. It judges; it never scores an
//! account, because its output cannot be explained to the last point.
//!
//! Gradient boosting is `forust`'s, with the parameters of the evaluation kit's own booster (but all features in each
//! tree, as there are few): one thread and a seed, so
//! that the same examples give the same model.

use forust_ml::data::Matrix;
use forust_ml::gradientbooster::GradientBooster;
use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;

use crate::example::Example;

/// Something that ranks examples by their readings, after learning from others.
pub trait Challenger {
    /// Log-odds of leaving, one per example of `test`.
    ///
    /// # Errors
    /// [`ChallengerError`] where there is nothing to learn from.
    fn rank(&self, train: &[&Example], test: &[&Example]) -> Result<Vec<f64>, ChallengerError>;
}

/// Why a challenger did not rank.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChallengerError {
    /// All left or all stayed, or there is none.
    #[error("the challenger needs examples of both outcomes")]
    OneClass,
    /// Examples of different tables.
    #[error("the challenger's examples differ in their number of readings")]
    Width,
    /// The library refused.
    #[error("the challenger failed: {0}")]
    Failed(String),
}

/// Gradient-boosted trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boosting {
    /// Trees, at least 1.
    pub trees: usize,
    /// Leaves of a tree, at least 2; with 2 the model is additive.
    pub leaves: usize,
    /// Of the sampling.
    pub seed: u64,
}

impl Default for Boosting {
    fn default() -> Boosting {
        Boosting { trees: 250, leaves: 15, seed: 0 }
    }
}

impl Challenger for Boosting {
    fn rank(&self, train: &[&Example], test: &[&Example]) -> Result<Vec<f64>, ChallengerError> {
        let left = train.iter().filter(|example| example.churned()).count();
        if left == 0 || left == train.len() {
            return Err(ChallengerError::OneClass);
        }
        let width = train.first().map_or(0, |example| example.features.len());
        if width == 0 || train.iter().chain(test).any(|example| example.features.len() != width) {
            return Err(ChallengerError::Width);
        }
        if test.is_empty() {
            return Ok(Vec::new());
        }
        let known = by_column(train, width);
        let classes: Vec<f64> =
            train.iter().map(|example| f64::from(u8::from(example.churned()))).collect();
        let weights: Vec<f64> = train.iter().map(|example| example.weight).collect();
        let mut booster = GradientBooster::default()
            .set_objective_type(ObjectiveType::LogLoss)
            .set_iterations(self.trees)
            .set_learning_rate(0.03)
            .set_max_leaves(self.leaves)
            .set_l2(5.0)
            .set_sample_method(SampleMethod::Random)
            .set_subsample(0.8)
            .set_initialize_base_score(true)
            .set_parallel(false)
            .set_seed(self.seed);
        booster
            .fit(&Matrix::new(&known, train.len(), width), &classes, &weights, None)
            .map_err(|error| ChallengerError::Failed(error.to_string()))?;
        Ok(booster.predict(&Matrix::new(&by_column(test, width), test.len(), width), false))
    }
}

fn by_column(examples: &[&Example], width: usize) -> Vec<f64> {
    (0..width)
        .flat_map(|column| examples.iter().map(move |example| example.features[column]))
        .collect()
}

#[cfg(test)]
mod tests {
    use bellwether_core::id::AccountId;
    use bellwether_core::time::Millis;

    use super::*;
    use crate::measure::{Judged, auc};
    use crate::random::Random;

    fn example(features: Vec<f64>, left: bool) -> Example {
        Example {
            account: AccountId::new("a").expect("an id"),
            cohort: String::new(),
            at: Millis(0),
            features,
            left_after_ms: left.then_some(1),
            weight: 0.25,
        }
    }

    /// Leaves where exactly one of two readings is high: no additive model can rank that.
    fn either_or(seed: u64) -> Vec<Example> {
        let mut random = Random::new(seed);
        let mut one = || {
            let readings = [random.below(100) as f64, random.below(100) as f64];
            let likely = (readings[0] >= 50.0) != (readings[1] >= 50.0);
            let left = random.below(100) < if likely { 40 } else { 5 };
            example(
                vec![readings[0], if random.below(50) == 0 { f64::NAN } else { readings[1] }],
                left,
            )
        };
        (0..4_000).map(|_| one()).collect()
    }

    #[test]
    fn interactions_are_found_and_the_seed_decides_all() {
        let (train, test) = (either_or(1), either_or(2));
        let (train, test): (Vec<&Example>, Vec<&Example>) =
            (train.iter().collect(), test.iter().collect());
        let ranks = Boosting::default().rank(&train, &test).expect("ranks");
        let judged = ranks.iter().zip(&test).map(|(&rank, example)| Judged {
            rank,
            risk: 0.0,
            left_after_ms: example.left_after_ms,
            account: 0,
            at_ms: 0,
        });
        let auc = auc(&judged.collect::<Vec<_>>(), &vec![1.0; test.len()]).expect("both");
        assert!(auc > 0.72, "{auc}");
        assert_eq!(Boosting::default().rank(&train, &test), Ok(ranks));
    }

    #[test]
    fn nothing_to_learn_is_refused() {
        let stayed = example(vec![1.0], false);
        let left = example(vec![1.0], true);
        let wide = example(vec![1.0, 2.0], false);
        let boosting = Boosting::default();
        assert_eq!(boosting.rank(&[], &[&left]), Err(ChallengerError::OneClass));
        assert_eq!(boosting.rank(&[&stayed; 5], &[&left]), Err(ChallengerError::OneClass));
        assert_eq!(boosting.rank(&[&stayed, &left], &[&wide]), Err(ChallengerError::Width));
    }
}
