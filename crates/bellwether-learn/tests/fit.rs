//! What a fit promises: the expert's model without outcomes, shrinkage, bounds, and sense on degenerate data.

use bellwether_core::id::AccountId;
use bellwether_core::points::Points;
use bellwether_core::policy::Compiled;
use bellwether_core::time::Millis;
use bellwether_learn::calibrate::Calibration;
use bellwether_learn::example::Example;
use bellwether_learn::feature::{Feature, Role, features};
use bellwether_learn::fit::{FitError, FitOptions, Model, fit, probability};
use bellwether_learn::random::Random;
use bellwether_learn::scorecard::{BASE, Scorecard};
use bellwether_learn::transform::{Risky, Scale, Transform};
use proptest::prelude::*;

fn feature(name: &str) -> Feature {
    let transform = Transform {
        risky: Risky::High,
        scale: Scale::Linear,
        low: 0.0,
        high: 1.0,
        knots: Vec::new(),
    };
    Feature {
        name: name.to_owned(),
        unit: "share".to_owned(),
        role: Role::Score,
        transform,
        prior_mean: 1.0,
        prior_sd: 1.0,
    }
}

fn two() -> Vec<Feature> {
    vec![feature("a"), feature("b")]
}

fn example(cohort: &str, features: Vec<f64>, left: bool) -> Example {
    Example {
        account: AccountId::new("account").expect("an id"),
        cohort: cohort.to_owned(),
        at: Millis(0),
        features,
        left_after_ms: left.then_some(1),
        weight: 1.0,
    }
}

fn fitted(features: &[Feature], examples: &[Example]) -> Model {
    let examples: Vec<&Example> = examples.iter().collect();
    fit(features, &examples, &FitOptions::default()).expect("a model")
}

/// Examples whose log-odds are `base + weights * readings`.
fn simulated(cohort: &str, count: usize, base: f64, weights: [f64; 2], seed: u64) -> Vec<Example> {
    let mut random = Random::new(seed);
    let mut uniform = move || random.below(1 << 30) as f64 / f64::from(1 << 30);
    let mut one = || {
        let readings = [uniform(), uniform()];
        let log_odds = base + weights[0] * readings[0] + weights[1] * readings[1];
        example(cohort, readings.to_vec(), uniform() < probability(log_odds))
    };
    (0..count).map(|_| one()).collect()
}

fn values(model: &Model, cohort: &str) -> Vec<f64> {
    model.cohort(cohort).weights.segments.iter().map(|weight| weight.value).collect()
}

#[test]
fn without_examples_the_model_is_the_experts() {
    let model = fitted(&two(), &[]);
    assert_eq!(values(&model, "any"), [1.0, 1.0]);
    assert!((model.risk("any", &[0.5, 0.5]) - FitOptions::default().base_rate).abs() < 1e-12);
    assert_eq!(model.global.weights.segments[0].error, 1.0);
}

#[test]
fn true_weights_are_found_within_their_errors() {
    let model = fitted(&two(), &simulated("c", 20_000, -3.0, [2.0, 0.5], 1));
    for (weight, truth) in model.cohort("c").weights.segments.iter().zip([2.0, 0.5]) {
        assert!(weight.error < 0.12, "{weight:?}");
        assert!((weight.value - truth).abs() < 3.0 * weight.error, "{weight:?} {truth}");
    }
}

#[test]
fn a_reading_that_helps_where_it_should_harm_weighs_nothing() {
    let model = fitted(&two(), &simulated("c", 5_000, -1.0, [-2.0, 1.0], 2));
    assert_eq!(values(&model, "c")[0], 0.0);
    assert!(values(&model, "c")[1] > 0.5);
}

#[test]
fn small_cohorts_follow_the_others_and_large_ones_go_their_own_way() {
    let mut examples = simulated("large", 20_000, -3.0, [3.0, 1.0], 3);
    for (index, cohort) in ["b", "c", "d", "e"].into_iter().enumerate() {
        examples.extend(simulated(cohort, 5_000, -2.0, [0.5, 1.0], 4 + index as u64));
    }
    examples.extend(simulated("small", 20, -2.0, [0.5, 1.0], 9));
    let model = fitted(&two(), &examples);
    assert!(values(&model, "large")[0] > 2.5, "{:?}", values(&model, "large"));
    let (small, global) = (values(&model, "small")[0], values(&model, "unseen")[0]);
    assert!((small - global).abs() < 0.3, "{small} {global}");
    assert!(model.spread[1] > 0.4, "cohorts differ: {:?}", model.spread);
    let small = &model.cohorts["small"];
    assert!(small.weights.segments[0].error > model.cohorts["large"].weights.segments[0].error);
    assert_eq!((small.examples, small.observations), (20, 20.0));
}

#[test]
fn cohorts_that_are_alike_are_told_to_be_alike() {
    let cohorts = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let of = |(index, cohort): (usize, &&str)| {
        simulated(cohort, 3_000, -2.0, [1.0, 1.0], 20 + index as u64)
    };
    let examples: Vec<Example> = cohorts.iter().enumerate().flat_map(of).collect();
    let model = fitted(&two(), &examples);
    assert!(model.spread[0] < 0.2 && model.spread[1] < 0.22, "{:?}", model.spread);
}

#[test]
fn few_outcomes_move_the_expert_little() {
    for outcomes in [0, 1, 10] {
        let mut examples = simulated("c", 300, -50.0, [0.0, 0.0], 5);
        for example in examples.iter_mut().take(outcomes) {
            example.left_after_ms = Some(1);
        }
        let model = fitted(&two(), &examples);
        let risk = model.risk("c", &[0.5, 0.5]);
        assert!(risk > 0.0 && risk < 0.06, "{outcomes}: {risk}");
        for weight in values(&model, "c") {
            assert!((0.0..2.5).contains(&weight), "{outcomes}: {weight}");
        }
    }
}

#[test]
fn separable_data_end_in_finite_weights() {
    let one = |n: usize| example("c", vec![n as f64 / 1_000.0, 0.5], n >= 500);
    let model = fitted(&two(), &(0..1_000).map(one).collect::<Vec<_>>());
    let weight = values(&model, "c")[0];
    assert!(weight > 3.0 && weight < 60.0, "{weight}");
    assert!(model.risk("c", &[1.0, 0.5]) > 0.9 && model.risk("c", &[0.0, 0.5]) < 0.1);
}

#[test]
fn constant_and_missing_readings_keep_the_experts_weight_and_move_nothing() {
    for reading in [0.3, f64::NAN] {
        let mut examples = simulated("c", 2_000, -2.0, [1.0, 0.0], 6);
        for example in &mut examples {
            example.features[1] = reading;
        }
        let model = fitted(&two(), &examples);
        let weight = values(&model, "c")[1];
        assert!((weight - 1.0).abs() < 0.1, "{reading}: {weight}");
        let moved = model.log_odds("c", &[0.5, reading]).features[1];
        assert!(moved.abs() < 0.01, "{reading}: {moved}");
    }
    let nothing: Vec<Example> =
        (0..50).map(|n| example("c", vec![f64::NAN; 2], n % 9 == 0)).collect();
    let model = fitted(&two(), &nothing);
    assert_eq!(
        values(&model, "c").iter().map(|w| (w * 1e6).round()).collect::<Vec<_>>(),
        [1e6, 1e6]
    );
}

#[test]
fn a_learned_shape_needs_no_right_guess_of_the_scale() {
    // Risk rises in the last tenth only.
    let mut features = vec![feature("a")];
    features[0].transform.knots = vec![0.5, 0.9];
    let mut random = Random::new(7);
    let mut uniform = move || random.below(1 << 30) as f64 / f64::from(1 << 30);
    let mut one = || {
        let reading = uniform();
        let risk = if reading > 0.9 { 0.05 + 5.0 * (reading - 0.9) } else { 0.05 };
        example("c", vec![reading], uniform() < risk)
    };
    let model = fitted(&features, &(0..20_000).map(|_| one()).collect::<Vec<_>>());
    let shape = values(&model, "c");
    assert!(shape[2] > 1.5 && shape[0] < 0.3 && shape[1] < 0.5, "{shape:?}");
}

#[test]
fn what_cannot_be_fitted_is_refused_by_name() {
    let refuse = |features: &[Feature], example: Example| {
        fit(features, &[&example], &FitOptions::default()).expect_err("a refusal")
    };
    let plain = || example("c", vec![0.5, 0.5], true);
    assert_eq!(refuse(&[], plain()), FitError::NoFeatures);
    let mut features = two();
    features[1].prior_sd = 0.0;
    assert_eq!(refuse(&features, plain()), FitError::BadFeature("b".to_owned()));
    let narrow = example("c", vec![0.5], true);
    assert_eq!(refuse(&two(), narrow), FitError::Width { index: 0, found: 1, expected: 2 });
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(refuse(&two(), Example { weight, ..plain() }), FitError::Weight { index: 0 });
    }
    let options = FitOptions { base_rate: 1.0, ..FitOptions::default() };
    assert_eq!(fit(&two(), &[], &options), Err(FitError::BadOptions));
}

#[test]
fn a_model_survives_its_storage() {
    let model = fitted(&features(&Compiled::default_policy()), &[]);
    let text = serde_json::to_string(&model).expect("JSON");
    assert_eq!(serde_json::from_str::<Model>(&text).expect("a model"), model);
}

fn scorecard(doubling: f64) -> Scorecard {
    let mut features = two();
    features.push(Feature { role: Role::Base, ..feature("base") });
    let model = fitted(&features, &[]);
    Scorecard { model, doubling, calibration: Calibration::default() }
}

/// By hand: centres are 0.5, weights 1, so 0.25 more evidence is 0.25 log-odds; 10 points per doubling are 10 / ln 2 =
/// 14.427 per unit of log-odds: 3.61 points.
#[test]
fn a_hand_computed_score() {
    let card = scorecard(10.0);
    let scored = card.score("c", &[0.75, 0.5, 0.9]);
    assert_eq!(scored.lines, [Points(-361), Points(0)]);
    assert_eq!(scored.score, Points(4_639));
    assert_eq!(card.line_names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(
        card.score("c", &[0.5, 0.5, 0.1]).score,
        BASE,
        "maturity moves the risk, not the score"
    );
    assert!(card.score("c", &[0.5, 0.5, 0.1]).risk < card.score("c", &[0.5, 0.5, 0.9]).risk);
    assert_eq!(card.score("c", &[f64::NAN, f64::NAN, f64::NAN]).score, BASE);
    let doubled = card
        .score("c", &[0.5 + std::f64::consts::LN_2 / 2.0, 0.5 + std::f64::consts::LN_2 / 2.0, 0.5]);
    assert!((doubled.score.0 - 4_000).abs() <= 1, "ten points double the odds: {}", doubled.score);
}

proptest! {
    #[test]
    fn lines_sum_to_the_score_and_worse_never_raises_it(
        doubling in 1.0f64..200.0,
        readings in proptest::array::uniform3(-0.5f64..1.5),
        worse in proptest::array::uniform3(0.0f64..1.0),
        missing in proptest::array::uniform2(proptest::bool::weighted(0.2)),
    ) {
        let card = scorecard(doubling);
        let mut before = readings;
        let mut after = [readings[0] + worse[0], readings[1] + worse[1], readings[2] + worse[2]];
        for (index, _) in missing.iter().enumerate().filter(|(_, missing)| **missing) {
            before[index] = f64::NAN;
            after[index] = f64::NAN;
        }
        let (first, second) = (card.score("c", &before), card.score("c", &after));
        for scored in [&first, &second] {
            let sum: i32 = scored.lines.iter().map(|line| line.0).sum();
            prop_assert_eq!(BASE.0 + sum + scored.clipping.0, scored.score.0);
            prop_assert!((0..=10_000).contains(&scored.score.0));
        }
        let change: i32 = second.lines.iter().zip(&first.lines).map(|(b, a)| b.0 - a.0).sum();
        let clipped = second.clipping.0 - first.clipping.0;
        prop_assert_eq!(change + clipped, second.score.0 - first.score.0);
        prop_assert!(second.score <= first.score);
        prop_assert!(second.risk >= first.risk);
    }
}
