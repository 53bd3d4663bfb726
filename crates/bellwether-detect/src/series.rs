//! What every detector does to a daily series before it calls a model: check, bound, fill gaps, tame single odd days.

use crate::fallback::Fallback;

/// Largest magnitude that a value may have: below 2^53, where an f64 still counts in ones, and far from where squares
/// overflow.
pub const VALUE_MAX: f64 = 1e15;

/// Largest share of unmeasured days that is filled; above it the answer would be about the filling.
pub const GAP_SHARE_MAX: f64 = 0.2;

/// Longest run of unmeasured days that is filled: one week, so that each weekday was seen within a week of the gap.
pub const GAP_RUN_DAYS_MAX: usize = 7;

/// Days of the one season that daily usage has. Fixed: periodograms miss it below 128 days.
pub(crate) const WEEK: usize = 7;

/// Spreads below this count as none: their squares would underflow.
pub(crate) const SPREAD_MIN: f64 = 1e-120;

/// How far a day may lie from its neighbours (weekday taken out), in robust spreads, before it is pulled in.
const ODD_DAY_SPREADS: f64 = 6.0;

/// Makes the median absolute deviation estimate a normal standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;

/// The values that a signal can take, and with them the scale on which it is modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Counts, durations, amounts: zero and above. Modelled as square roots: the spread of a count grows with the root of
    /// its mean, so roots have nearly the same spread at every level (Bartlett 1936), zeros need no special case, and
    /// what is transformed back cannot be negative. A logarithm would make the empty weekends of most accounts the
    /// loudest days of all, and blow up the upper bounds of small counts.
    NonNegative,
    /// Anything: differences, sentiment. Modelled as it is.
    Real,
}

impl Domain {
    /// To the scale of the models.
    pub(crate) fn forward(self, value: f64) -> f64 {
        match self {
            Self::NonNegative => value.sqrt(),
            Self::Real => value,
        }
    }

    /// Back to the signal's unit. Monotone: what is below zero on the root scale is zero.
    pub(crate) fn backward(self, value: f64) -> f64 {
        match self {
            Self::NonNegative => value.max(0.0).powi(2).min(VALUE_MAX),
            Self::Real => value.clamp(-VALUE_MAX, VALUE_MAX),
        }
    }
}

/// Checks values: NaN is allowed (unmeasured), infinities, magnitudes above [`VALUE_MAX`] and negative values in a
/// domain without them are not.
pub(crate) fn check(values: &[f64], domain: Domain) -> Result<(), Fallback> {
    if values.iter().any(|value| value.is_infinite()) {
        return Err(Fallback::NotFinite);
    }
    if values.iter().any(|value| value.abs() > VALUE_MAX) {
        return Err(Fallback::TooLarge);
    }
    if domain == Domain::NonNegative && values.iter().any(|&value| value < 0.0) {
        return Err(Fallback::Negative);
    }
    Ok(())
}

/// The newest `days_max` days without leading gaps, checked, gaps filled, on the scale of the models. All finite, at least
/// `days_min` of them measured, not all the same.
pub(crate) fn prepare(
    daily: &[f64],
    (days_min, days_max): (usize, usize),
    domain: Domain,
) -> Result<Vec<f64>, Fallback> {
    let newest = &daily[daily.len().saturating_sub(days_max)..];
    check(newest, domain)?;
    let first = newest.iter().position(|value| !value.is_nan()).unwrap_or(newest.len());
    let span = &newest[first..];
    if span.len() < days_min {
        return Err(Fallback::Short);
    }
    let measured = span.iter().filter(|value| !value.is_nan()).count();
    if (span.len() - measured) as f64 > GAP_SHARE_MAX * span.len() as f64
        || longest_gap(span) > GAP_RUN_DAYS_MAX
    {
        return Err(Fallback::Gaps);
    }
    if measured < days_min {
        return Err(Fallback::Short);
    }
    let scaled: Vec<f64> = span.iter().map(|&value| domain.forward(value)).collect();
    let filled = fill(&scaled);
    if is_flat(&filled) {
        return Err(Fallback::Constant);
    }
    Ok(filled)
}

/// Whether all values are the same. Relative to their size, so that rounding is not taken for variation.
pub(crate) fn is_flat(values: &[f64]) -> bool {
    let (low, high) = values
        .iter()
        .filter(|value| !value.is_nan())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| {
            (low.min(value), high.max(value))
        });
    high - low <= 1e-9 * high.abs().max(low.abs())
}

fn longest_gap(values: &[f64]) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for value in values {
        run = if value.is_nan() { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// Fills each gap with the median of the same weekday within four weeks on either side.
fn fill(values: &[f64]) -> Vec<f64> {
    let mut filled = values.to_vec();
    let mut typical = None;
    for (index, _) in values.iter().enumerate().filter(|(_, value)| value.is_nan()) {
        let weeks = (1..=4).flat_map(|week| {
            [index.checked_sub(week * WEEK), index.checked_add(week * WEEK)].into_iter().flatten()
        });
        let mut same: Vec<f64> =
            weeks.filter_map(|day| values.get(day).copied()).filter(|v| !v.is_nan()).collect();
        filled[index] = median(&mut same).unwrap_or_else(|| {
            *typical.get_or_insert_with(|| {
                let measured = values.iter().copied().filter(|value| !value.is_nan());
                median(&mut measured.collect::<Vec<_>>()).unwrap_or(0.0)
            })
        });
    }
    filled
}

/// Pulls single odd days to within six robust spreads of their neighbours, weekday taken out first, so that one incident
/// bends neither the seasonal pattern nor the level; a change that lasts is left as it is. Source: Hampel's filter
/// (Davies & Gather 1993), seven days wide.
pub(crate) fn tame(values: &[f64]) -> Vec<f64> {
    let count = values.len();
    let usual: Vec<f64> = (0..WEEK)
        .map(|weekday| {
            let mut same: Vec<f64> =
                values.iter().rev().skip(weekday).step_by(WEEK).copied().collect();
            median(&mut same).unwrap_or(0.0)
        })
        .collect();
    let expected = |index: usize| usual[(count - 1 - index) % WEEK];
    let residuals: Vec<f64> =
        values.iter().enumerate().map(|(index, value)| value - expected(index)).collect();
    let local: Vec<f64> = (0..count)
        .map(|index| {
            let around = index.saturating_sub(WEEK / 2)..(index + WEEK / 2 + 1).min(count);
            let around = &residuals[around];
            match <[f64; WEEK]>::try_from(around) {
                Ok(whole) => median_of_week(whole),
                Err(_) => median(&mut around.to_vec()).unwrap_or(0.0),
            }
        })
        .collect();
    let apart: Vec<f64> = residuals.iter().zip(&local).map(|(own, near)| own - near).collect();
    let reach = ODD_DAY_SPREADS * spread(&apart);
    (0..count)
        .map(|index| expected(index) + local[index] + apart[index].clamp(-reach, reach))
        .collect()
}

/// Robust standard deviation about zero: the median absolute value, scaled; where more than half of the values are zero,
/// [`mean_spread`].
pub(crate) fn spread(centred: &[f64]) -> f64 {
    let mut magnitudes: Vec<f64> = centred.iter().map(|value| value.abs()).collect();
    let robust = MAD_TO_SIGMA * median(&mut magnitudes).unwrap_or(0.0);
    if robust > 0.0 { robust } else { mean_spread(centred) }
}

/// Standard deviation about zero from the mean absolute value; the factor is that of a normal, sqrt(pi / 2).
pub(crate) fn mean_spread(centred: &[f64]) -> f64 {
    1.2533 * centred.iter().map(|value| value.abs()).sum::<f64>() / centred.len().max(1) as f64
}

/// The median of finite values; none for none. Reorders its argument.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    let (middle, is_odd) = (values.len() / 2, values.len() % 2 == 1);
    if values.is_empty() {
        return None;
    }
    let (lower, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if is_odd {
        return Some(upper);
    }
    let below = lower.iter().copied().max_by(f64::total_cmp)?;
    Some((below + upper) / 2.0)
}

/// The same of seven, without a branch: one is taken for every day of every series. Source: the network of Devillard 1998.
fn median_of_week(mut days: [f64; WEEK]) -> f64 {
    const EXCHANGES: [(usize, usize); 13] = [
        (0, 5),
        (0, 3),
        (1, 6),
        (2, 4),
        (0, 1),
        (3, 5),
        (2, 6),
        (2, 3),
        (3, 6),
        (4, 5),
        (1, 4),
        (1, 3),
        (3, 4),
    ];
    for (low, high) in EXCHANGES {
        (days[low], days[high]) = (days[low].min(days[high]), days[low].max(days[high]));
    }
    days[WEEK / 2]
}

/// A shift and a scale that bring a series to mean 0 and standard deviation 1, as models with fixed priors and single
/// precision need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    pub(crate) centre: f64,
    pub(crate) scale: f64,
}

impl Unit {
    /// By mean and standard deviation. [`Fallback::Constant`] where there is none.
    pub(crate) fn of(values: &[f64]) -> Result<Self, Fallback> {
        let count = values.len() as f64;
        let centre = values.iter().sum::<f64>() / count;
        let scale =
            (values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / count).sqrt();
        // Below this the differences are rounding.
        if scale.is_finite() && scale > (1e-9 * centre.abs()).max(SPREAD_MIN) {
            Ok(Self { centre, scale })
        } else {
            Err(Fallback::Constant)
        }
    }

    pub(crate) fn apply(self, values: &[f64]) -> Vec<f64> {
        values.iter().map(|value| (value - self.centre) / self.scale).collect()
    }

    pub(crate) fn undo(self, value: f64) -> f64 {
        value * self.scale + self.centre
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: f64 = f64::NAN;

    #[test]
    fn gaps_take_the_same_weekday_up_to_a_share_and_a_run() {
        let mut week: Vec<f64> = (0..35).map(|day| f64::from(day % 7)).collect();
        week[10] = GAP;
        assert_eq!(fill(&week)[10], 3.0);
        let gaps = |days: std::ops::Range<usize>| {
            let mut daily: Vec<f64> = (0..70).map(|day| f64::from(day % 7)).collect();
            daily[days].fill(GAP);
            prepare(&daily, (28, 126), Domain::Real).map(|filled| filled.len())
        };
        assert_eq!(gaps(30..37), Ok(70));
        assert_eq!(gaps(30..38), Err(Fallback::Gaps));
        assert_eq!(gaps(0..10), Ok(60), "an account begins when it is first measured");
        assert_eq!(gaps(0..43), Err(Fallback::Short));
        let every_fourth: Vec<f64> =
            (0..70).map(|day| if day % 4 == 1 { GAP } else { f64::from(day) }).collect();
        assert_eq!(prepare(&every_fourth, (28, 126), Domain::Real), Err(Fallback::Gaps));
    }

    #[test]
    fn one_odd_day_is_tamed_and_a_lasting_change_is_not() {
        let noise = |day: usize| (day * 7919 % 13) as f64 / 13.0;
        let mut daily: Vec<f64> = (0..60).map(|day| 10.0 + noise(day)).collect();
        daily[30] = 1000.0;
        let tamed = tame(&daily);
        assert!(tamed[30] < 14.0, "{}", tamed[30]);
        let stepped: Vec<f64> =
            (0..60).map(|day| noise(day) + if day < 56 { 10.0 } else { 2.0 }).collect();
        let tamed = tame(&stepped);
        assert!((tamed[59] - stepped[59]).abs() < 1.5, "{} {}", tamed[59], stepped[59]);
    }

    #[test]
    fn the_median_of_a_week_is_the_one_in_the_middle() {
        // A network that finds it in every pattern of zeros and ones finds it in every order (the 0-1 principle, Knuth 1973).
        for pattern in 0..1_u32 << WEEK {
            let days = std::array::from_fn(|day| f64::from(pattern >> day & 1));
            let expected = f64::from(u8::from(pattern.count_ones() as usize > WEEK / 2));
            assert_eq!(median_of_week(days), expected, "{pattern:07b}");
            assert_eq!(median(&mut days.to_vec()), Some(expected), "{pattern:07b}");
        }
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn bad_values_have_their_reason() {
        assert_eq!(check(&[1.0, GAP, 0.0], Domain::NonNegative), Ok(()));
        assert_eq!(check(&[f64::NEG_INFINITY], Domain::Real), Err(Fallback::NotFinite));
        assert_eq!(check(&[1e300], Domain::Real), Err(Fallback::TooLarge));
        assert_eq!(check(&[-1.0], Domain::NonNegative), Err(Fallback::Negative));
        assert_eq!(check(&[-1.0], Domain::Real), Ok(()));
    }
}
