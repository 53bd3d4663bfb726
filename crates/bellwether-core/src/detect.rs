//! The deviation stage: one signal of one account against its own history.
//!
//! [`Detector`] is the seam at which further models plug in; [`RobustDetector`] is the first: a reference of weekly
//! values that ends before the recent weeks begin, a winsorised level, a spread shrunk toward what is expected, exact
//! count tails, and windows of one, two and four weeks.

use crate::account::StoredBaseline;
use crate::policy::{Aggregate, Policy, Signal};
use crate::stats::{Z_MAX, count_z, winsorised};

/// The history of one signal at a day close.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// Daily values, oldest first; the last is the day that closes. NaN: nothing was measured.
    pub daily: &'a [f64],
    /// Weekday (0 = Monday) of the last day.
    pub last_weekday: usize,
    /// Days that are no part of what is normal: bit 0 is the last day, bit d the d-th before it.
    pub held: u128,
    /// Values of whole seven-day blocks, newest first, in the signal's unit. NaN: nothing was measured.
    pub weekly: &'a [f64],
}

/// A signal that left its own normal, whether or not that is bad news.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviation {
    /// Standardised deviation; negative is below the baseline. Finite, at most [`Z_MAX`] in magnitude.
    pub z: f64,
    /// The level since the onset, in the signal's unit.
    pub observed: f64,
    /// The window that shows it most clearly.
    pub window_weeks: u16,
    /// Days before the closing day on which it began (0: that day).
    pub onset_days_ago: u16,
}

/// What a detector says of a signal at a day close.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Judgement {
    /// What is normal; none with too little history.
    pub baseline: Option<StoredBaseline>,
    /// The strongest deviation; none where every window looks normal or the change is too small to matter.
    pub deviation: Option<Deviation>,
}

/// Judges a signal against its own history. Implementations are pure.
pub trait Detector: std::fmt::Debug + Send + Sync {
    /// Judges the series; values are finite or NaN (unmeasured), and the answer holds finite values only.
    fn judge(&self, signal: &Signal, series: Series<'_>, policy: &Policy) -> Judgement;

    /// The standardised deviation of a single week's value from a stored baseline, in O(1) for continuous values
    /// and O(value) for small counts.
    fn judge_week(&self, signal: &Signal, value: f64, baseline: &StoredBaseline) -> f64;
}

/// The first deviation stage. Sources: winsorised reference statistics; negative binomial mid-p for counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct RobustDetector;

/// Level and one-week variance, with the weeks behind them.
struct Reference {
    level: f64,
    variance: f64,
    weeks: f64,
}

impl Detector for RobustDetector {
    fn judge(&self, signal: &Signal, series: Series<'_>, policy: &Policy) -> Judgement {
        let guard = guard_weeks(series.weekly.len(), policy);
        let Some(reference) = reference(signal, series, guard, policy) else {
            return Judgement::default();
        };
        let baseline = StoredBaseline {
            level: reference.level,
            spread: predictive_variance(&reference, 1.0).sqrt(),
            weeks: reference.weeks as u16,
        };
        let strongest = policy
            .deviation
            .windows_weeks
            .iter()
            .filter(|&&weeks| usize::from(weeks) <= guard)
            .filter_map(|&weeks| window(signal, series.weekly, weeks, &reference))
            .max_by(|left, right| left.1.abs().total_cmp(&right.1.abs()));
        let deviation = strongest
            .filter(|&(_, z, mean)| {
                z.abs() >= policy.deviation.z_support
                    && matters(signal, mean, reference.level, policy)
            })
            .map(|(weeks, z, mean)| date_it(signal, series, guard, &reference, (weeks, z, mean)));
        Judgement { baseline: Some(baseline), deviation }
    }

    fn judge_week(&self, signal: &Signal, value: f64, baseline: &StoredBaseline) -> f64 {
        if signal.aggregate == Aggregate::Count {
            return count_z(value, baseline.level, baseline.spread * baseline.spread);
        }
        ((value - baseline.level) / baseline.spread).clamp(-Z_MAX, Z_MAX)
    }
}

/// Weeks that lie between the reference and today: a third of the history, at least one, at most the policy's.
fn guard_weeks(history_weeks: usize, policy: &Policy) -> usize {
    (history_weeks / 3).clamp(1, usize::from(policy.baseline.guard_weeks))
}

fn reference(
    signal: &Signal,
    series: Series<'_>,
    guard: usize,
    policy: &Policy,
) -> Option<Reference> {
    let is_free = |week: usize| series.held.checked_shr(7 * week as u32).unwrap_or(0) & 0x7f == 0;
    let weeks: Vec<f64> = series
        .weekly
        .iter()
        .enumerate()
        .skip(guard)
        .filter(|(week, _)| is_free(*week))
        .take(usize::from(policy.baseline.reference_weeks))
        .map(|(_, value)| *value)
        .filter(|value| value.is_finite())
        .collect();
    if weeks.len() < usize::from(policy.baseline.reference_weeks_min) {
        return None;
    }
    let count = weeks.len() as f64;
    let counts = signal.aggregate == Aggregate::Count;
    let typical = weeks.iter().sum::<f64>() / count;
    let floor = if counts { typical.max(1.0).sqrt() } else { signal.spread_min };
    let (mean, variance) = winsorised(&weeks, floor)?;
    // A count that never happened may still happen: half an event over the whole reference.
    let level = if counts { mean.max(0.5 / count) } else { mean };
    let expected = (policy.baseline.variation_prior * level).powi(2);
    let prior = if counts { expected.max(level) } else { expected.max(signal.spread_min.powi(2)) };
    let prior_weeks = policy.baseline.variation_prior_weeks;
    let pooled = (count * variance + prior_weeks * prior) / (count + prior_weeks);
    let variance = pooled.max(signal.spread_min.powi(2)).max(1e-12);
    Some(Reference { level, variance, weeks: count })
}

/// Variance of the mean of `weeks` new weeks about the level, the level's own uncertainty included.
fn predictive_variance(reference: &Reference, weeks: f64) -> f64 {
    reference.variance * (1.0 / weeks + 1.0 / reference.weeks)
}

/// Tests one window: (weeks, z, mean weekly value).
fn window(
    signal: &Signal,
    weekly: &[f64],
    weeks: u16,
    reference: &Reference,
) -> Option<(u16, f64, f64)> {
    let values: Vec<f64> =
        weekly.iter().take(usize::from(weeks)).copied().filter(|value| value.is_finite()).collect();
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    let sum = values.iter().sum::<f64>();
    let variance = predictive_variance(reference, count);
    let z = if signal.aggregate == Aggregate::Count {
        count_z(sum, reference.level * count, variance * count * count)
    } else {
        ((sum / count - reference.level) / variance.sqrt()).clamp(-Z_MAX, Z_MAX)
    };
    Some((weeks, z, sum / count))
}

/// Whether a change is large enough to matter. Around a level of nothing, significance alone decides.
fn matters(signal: &Signal, observed: f64, level: f64, policy: &Policy) -> bool {
    let scale = level.abs();
    scale <= signal.spread_min
        || (observed - level).abs() >= scale * policy.deviation.change_min_pct / 100.0
}

/// Whether daily values add up to weekly ones.
fn additive(aggregate: Aggregate) -> bool {
    matches!(aggregate, Aggregate::Count | Aggregate::Sum)
}

/// Dates the onset: the start of the run of days that most favours the new level over the old one (the maximum
/// likelihood change point for two known levels; Page 1954), and measures the level since.
fn date_it(
    signal: &Signal,
    series: Series<'_>,
    guard: usize,
    reference: &Reference,
    (window_weeks, z, mean): (u16, f64, f64),
) -> Deviation {
    let expected = expected_days(signal, series, guard, reference.level);
    let ratio = if reference.level.abs() > 1e-9 { mean / reference.level } else { 2.0 };
    let side = z.signum();
    let reach = (guard * 7 + 14).min(series.daily.len());
    let mut run = 0.0;
    let mut best = (0.0, 0);
    for ago in 0..reach {
        let Some((value, normal)) = day(series.daily, &expected, ago) else { continue };
        let halfway = if additive(signal.aggregate) || reference.level.abs() > 1e-9 {
            normal * (1.0 + ratio) / 2.0
        } else {
            (normal + mean) / 2.0
        };
        run += side * (value - halfway);
        // A day that says next to nothing (an empty weekend) does not move the onset back.
        if run > best.0 + 0.01 * reference.level.abs() {
            best = (run, ago);
        }
    }
    let observed = level_since(signal, series, &expected, best.1, reference.level).unwrap_or(mean);
    Deviation { z, observed, window_weeks, onset_days_ago: best.1 as u16 }
}

/// The level over the days since the onset, corrected for weekdays; none with fewer than four days of data.
fn level_since(
    signal: &Signal,
    series: Series<'_>,
    expected: &[f64],
    onset: usize,
    level: f64,
) -> Option<f64> {
    let days: Vec<(f64, f64)> =
        (0..=onset).filter_map(|ago| day(series.daily, expected, ago)).collect();
    if matches!(signal.aggregate, Aggregate::DistinctMembers | Aggregate::DistinctFeatures) {
        return series.weekly.first().copied().filter(|value| value.is_finite());
    }
    if days.len() < 4 && additive(signal.aggregate) {
        return None;
    }
    let (values, normals) = days.iter().fold((0.0, 0.0), |(v, n), day| (v + day.0, n + day.1));
    if additive(signal.aggregate) {
        return (normals > 1e-9).then(|| level * values / normals);
    }
    (!days.is_empty()).then(|| values / days.len() as f64)
}

fn day(daily: &[f64], expected: &[f64], ago: usize) -> Option<(f64, f64)> {
    let index = daily.len().checked_sub(ago + 1)?;
    let (value, normal) = (*daily.get(index)?, *expected.get(index)?);
    value.is_finite().then_some((value, normal))
}

/// What each day would bring at the baseline's level. Additive signals have weekdays: each weekday's share of the
/// reference, shrunk toward an even week by two weeks' weight where events are few, by next to nothing where they are many.
fn expected_days(signal: &Signal, series: Series<'_>, guard: usize, level: f64) -> Vec<f64> {
    let days = series.daily.len();
    let weekday = |index: usize| (series.last_weekday + 7 * days - (days - 1 - index)) % 7;
    let recent = guard * 7;
    let mut sums = [0.0; 7];
    let mut counts = [0.0; 7];
    let old = days.saturating_sub(recent);
    for (index, value) in
        series.daily.iter().enumerate().take(old).filter(|(_, value)| value.is_finite())
    {
        sums[weekday(index)] += value;
        counts[weekday(index)] += 1.0;
    }
    let total: f64 = sums.iter().sum();
    let measured: f64 = counts.iter().sum();
    if additive(signal.aggregate) {
        let even = level / 7.0;
        let mean = if measured > 0.0 { total / measured } else { 0.0 };
        let prior = (40.0 / total.max(1.0)).clamp(0.05, 2.0);
        let shares: Vec<f64> = (0..7)
            .map(|day| {
                if mean <= 1e-9 { 1.0 } else { (sums[day] / mean + prior) / (counts[day] + prior) }
            })
            .collect();
        return (0..days).map(|index| even * shares[weekday(index)]).collect();
    }
    if matches!(signal.aggregate, Aggregate::DistinctMembers | Aggregate::DistinctFeatures) {
        let daily = if measured > 0.0 { total / measured } else { level };
        return vec![daily; days];
    }
    vec![level; days]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Compiled;

    fn weekly(daily: &[f64]) -> Vec<f64> {
        daily.rchunks(7).filter(|block| block.len() == 7).map(|block| block.iter().sum()).collect()
    }

    fn judge(name: &str, daily: &[f64]) -> Judgement {
        let policy = Compiled::default_policy();
        let signal = policy.signals.iter().find(|signal| signal.name == name).expect("a signal");
        let weekly = weekly(daily);
        RobustDetector.judge(
            signal,
            Series { daily, last_weekday: 6, weekly: &weekly, held: 0 },
            &policy,
        )
    }

    fn weeks(per_week: f64, weeks: usize) -> Vec<f64> {
        // Work days only, in whole events.
        let shares = [0.2, 0.2, 0.2, 0.2, 0.2, 0.0, 0.0];
        (0..weeks).flat_map(|_| shares.map(|share| per_week * share)).collect()
    }

    #[test]
    fn a_fall_is_found_dated_and_measured() {
        let daily = [weeks(450.0, 8), weeks(280.0, 2)].concat();
        let judged = judge("logins", &daily);
        let deviation = judged.deviation.expect("a deviation");
        assert!(deviation.z < -3.0, "{deviation:?}");
        assert_eq!(deviation.onset_days_ago, 13);
        let change = deviation.observed / judged.baseline.expect("a baseline").level - 1.0;
        assert!((change - (280.0 / 450.0 - 1.0)).abs() < 0.01, "{change}");
    }

    #[test]
    fn steady_use_is_not_a_deviation() {
        assert_eq!(judge("logins", &weeks(450.0, 12)).deviation, None);
        assert_eq!(judge("logins", &weeks(5.0, 12)).deviation, None);
        assert_eq!(judge("logins", &weeks(450.0, 3)).baseline, None, "three weeks are too few");
    }

    #[test]
    fn the_same_level_is_news_for_one_account_and_not_for_another() {
        let fallen = judge("logins", &[weeks(15.0, 8), weeks(8.0, 4)].concat());
        let steady = judge("logins", &weeks(8.0, 12));
        assert!(fallen.deviation.is_some_and(|deviation| deviation.z < -3.0), "{fallen:?}");
        assert_eq!(steady.deviation, None);
    }
}
