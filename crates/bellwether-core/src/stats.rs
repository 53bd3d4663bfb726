//! The statistics that detection needs: robust location and spread, and exact tails of counts.

/// Standardised deviations are cut here: beyond it the models say nothing reliable.
pub const Z_MAX: f64 = 12.0;

/// The median of finite values; `None` for none. Sorts its argument.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(middle.checked_sub(1)?)?;
    Some((lower + upper) / 2.0)
}

/// Mean and variance about it, where each value is first pulled to within three robust spreads of the median
/// (winsorised, so that one odd week neither moves the level much nor inflates the spread). `spread_floor` keeps
/// discrete data from having a spread of zero there. `None` for no values.
pub fn winsorised(values: &[f64], spread_floor: f64) -> Option<(f64, f64)> {
    let mut sorted = values.to_vec();
    let centre = median(&mut sorted)?;
    let mut distances: Vec<f64> = values.iter().map(|value| (value - centre).abs()).collect();
    // 1.4826 makes the median absolute deviation estimate a normal standard deviation.
    let spread = (1.4826 * median(&mut distances)?).max(spread_floor);
    let (low, high) = (centre - 3.0 * spread, centre + 3.0 * spread);
    let clipped = values.iter().map(|value| value.clamp(low, high));
    let count = values.len() as f64;
    let mean = clipped.clone().sum::<f64>() / count;
    let variance =
        clipped.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    Some((mean, variance))
}

/// The standard normal quantile (Wichura 1988, algorithm AS 241 is exact to 1e-16; this is Acklam's rational
/// approximation, relative error below 1.2e-9, which is far below what the models deserve). Input is clamped to 1e-300..1-1e-16.
#[must_use]
pub fn normal_quantile(probability: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.383_577_518_672_69e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 5] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 4] =
        [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416];
    let p = probability.clamp(1e-300, 1.0 - 1e-16);
    if p > 0.97575 {
        return -normal_quantile(1.0 - p);
    }
    let horner = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        return horner(&C, q) / (horner(&D, q) * q + 1.0);
    }
    let q = p - 0.5;
    let r = q * q;
    horner(&A, r) * q / (horner(&B, r) * r + 1.0)
}

/// The deviation that chance exceeds `factor` times as often as `z`, for a standard normal variable.
#[must_use]
pub fn rarer(z: f64, factor: f64) -> f64 {
    if factor.to_bits() == 1.0_f64.to_bits() {
        return z;
    }
    let beyond = 0.5 * libm::erfc(z / std::f64::consts::SQRT_2);
    -normal_quantile(beyond * factor)
}

/// Above this mean a count is treated as normal on the square-root scale; below it the tail is summed exactly.
const EXACT_MEAN_MAX: f64 = 200.0;

/// The standardised deviation of a count `x` from its predicted mean, by the mid-p value of a negative binomial with
/// the predicted variance (Poisson where the variance is not larger than the mean; scaled where it is smaller).
/// Source: Watkins et al. 2008 (negative binomial CUSUM in surveillance); mid-p: Lancaster 1961. Range ±[`Z_MAX`].
#[must_use]
pub fn count_z(x: f64, mean: f64, variance: f64) -> f64 {
    let mean = mean.max(1e-3);
    let dispersion = (variance / mean).max(0.25);
    if mean > EXACT_MEAN_MAX || x > 4.0 * EXACT_MEAN_MAX {
        // Variance-stabilised: 2 sqrt(x) has variance `dispersion`.
        return (2.0 * (x.max(0.0).sqrt() - mean.sqrt()) / dispersion.sqrt()).clamp(-Z_MAX, Z_MAX);
    }
    let (below, at) = lower_tail(x.max(0.0).floor(), mean, dispersion.max(1.0));
    let lower = below + at / 2.0;
    let upper = 1.0 - lower;
    let z = if lower < upper {
        normal_quantile(lower)
    } else {
        // 1 - lower loses digits far out: sum the upper tail itself.
        -normal_quantile(upper_tail(x.floor(), mean, dispersion.max(1.0)) + at / 2.0)
    };
    (z / dispersion.min(1.0).sqrt()).clamp(-Z_MAX, Z_MAX)
}

/// The least and the largest count that lie within `z` standard deviations of the mean, by [`count_z`].
#[must_use]
pub fn count_range(mean: f64, variance: f64, z: f64) -> (f64, f64) {
    // `count_z` rises with the count: the first count at which it is beyond a limit, by bisection.
    let first_beyond = |limit: f64| {
        let (mut within, mut beyond) = (-1.0, mean + 20.0 * variance.max(mean).sqrt() + 20.0);
        for _ in 0..64 {
            if beyond - within <= 1.5 {
                break;
            }
            let middle = f64::floor((within + beyond) / 2.0);
            if count_z(middle, mean, variance) < limit {
                within = middle;
            } else {
                beyond = middle;
            }
        }
        beyond.floor()
    };
    (first_beyond(-z), (first_beyond(z) - 1.0).max(0.0))
}

/// Walks the probabilities of a negative binomial: `p(x + 1) / p(x)`.
fn ratio(x: f64, mean: f64, dispersion: f64) -> f64 {
    if dispersion <= 1.0 + 1e-9 {
        return mean / (x + 1.0);
    }
    let size = mean / (dispersion - 1.0);
    (x + size) / (x + 1.0) * (mean / (size + mean))
}

fn first_log_probability(mean: f64, dispersion: f64) -> f64 {
    if dispersion <= 1.0 + 1e-9 {
        return -mean;
    }
    let size = mean / (dispersion - 1.0);
    size * (size / (size + mean)).ln()
}

/// P(X < x) and P(X = x).
fn lower_tail(x: f64, mean: f64, dispersion: f64) -> (f64, f64) {
    let mut probability = first_log_probability(mean, dispersion).exp();
    let mut below = 0.0;
    let mut k = 0.0;
    while k < x {
        below += probability;
        probability *= ratio(k, mean, dispersion);
        k += 1.0;
    }
    (below, probability)
}

/// P(X > x).
fn upper_tail(x: f64, mean: f64, dispersion: f64) -> f64 {
    let (_, at) = lower_tail(x, mean, dispersion);
    let mut probability = at * ratio(x, mean, dispersion);
    let mut tail = 0.0;
    let mut k = x + 1.0;
    while probability > tail * 1e-12 && probability > 0.0 {
        tail += probability;
        probability *= ratio(k, mean, dispersion);
        k += 1.0;
    }
    tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected} ± {tolerance}");
    }

    #[test]
    fn quantiles_match_tables() {
        near(normal_quantile(0.5), 0.0, 1e-9);
        near(normal_quantile(0.975), 1.959_963_985, 1e-8);
        near(normal_quantile(0.001), -3.090_232_306, 1e-8);
        near(normal_quantile(1e-10), -6.361_340_902, 1e-7);
    }

    #[test]
    fn counts_match_exact_tails() {
        // Poisson(1): P(X >= 8) + P(X = 7)/2 = 1.0249e-5 + 3.6493e-5 (R: ppois, dpois).
        near(count_z(7.0, 1.0, 1.0), -normal_quantile(1.0249e-5 + 3.6493e-5), 1e-3);
        // Poisson(5): P(X = 0)/2 = 3.369e-3.
        near(count_z(0.0, 5.0, 5.0), normal_quantile(3.369e-3), 1e-3);
        // Negative binomial, mean 10, variance 30 (size 5): P(X <= 1) - P(X = 1)/2 = 0.004115 + 0.013717/2 (R: dnbinom).
        near(count_z(1.0, 10.0, 30.0), normal_quantile(0.004_115 + 0.013_717 / 2.0), 1e-3);
    }

    #[test]
    fn a_range_holds_the_counts_that_are_within_it() {
        for (mean, variance) in [(0.01, 0.01), (0.3, 0.9), (20.0, 60.0), (150.0, 800.0), (5e3, 2e4)]
        {
            let (low, high) = count_range(mean, variance, 1.96);
            assert!(low <= mean && mean <= high + 1.0, "{low} {mean} {high}");
            assert!(low < 1.0 || count_z(low - 1.0, mean, variance) < -1.96);
            assert!(count_z(high, mean, variance) < 1.96);
            assert!(count_z(high + 1.0, mean, variance) >= 1.96);
        }
        let (low, high) = count_range(1e17, 1e30, 1.96);
        assert!(low.is_finite() && high.is_finite());
    }

    #[test]
    fn deviations_are_monotone_and_finite() {
        for (mean, variance) in
            [(0.01, 0.01), (0.3, 0.9), (20.0, 10.0), (150.0, 800.0), (5e3, 2e4), (1e9, 1e12)]
        {
            let mut before = -f64::INFINITY;
            for step in 0..60 {
                let z = count_z((mean * f64::from(step) / 10.0).round(), mean, variance);
                assert!(
                    z.is_finite() && z.abs() <= Z_MAX && z >= before,
                    "{mean} {variance} {step}: {z}"
                );
                before = z;
            }
        }
    }

    #[test]
    fn one_odd_week_does_not_move_the_level() {
        let (mean, variance) =
            winsorised(&[100.0, 104.0, 96.0, 101.0, 99.0, 1000.0], 0.0).expect("values");
        assert!((98.0..106.0).contains(&mean) && variance < 150.0, "{mean} {variance}");
        assert_eq!(winsorised(&[], 1.0), None);
        assert_eq!(winsorised(&[7.0, 7.0, 7.0], 0.0), Some((7.0, 0.0)));
    }
}
