//! Dates a lasting change of level, for the explanation of a deviation that other statistics found.

use augurs::changepoint::dist::NormalGamma;
use augurs::changepoint::{Detector as _, NormalGammaDetector};

use crate::fallback::{Fallback, caught};
use crate::series::{Domain, SPREAD_MIN, WEEK, mean_spread, median, prepare, spread, tame};
use crate::weekly::WeeklyPattern;

/// Measured days below which nothing is dated.
pub const DAYS_MIN: usize = 28;

/// Newest days that are looked at. The work grows with the square: 0.4 ms for 90 days, 6.6 ms for 365.
pub const DAYS_MAX: usize = 90;

/// Days on the new level before a change counts; a change of two days is a pair of odd days.
const DAYS_AFTER_MIN: usize = 3;

/// Days on the old level before a change counts.
const DAYS_BEFORE_MIN: usize = WEEK;

/// Days on either side that say what the level was and is: older ones belong to older changes.
const DAYS_COMPARED: usize = 28;

/// Prior mean days between changes: the hazard of the model. One in the history looked at.
const DAYS_BETWEEN_CHANGES: f64 = 90.0;

/// A real change moves the level by at least this many day-to-day spreads...
pub const EFFECT_MIN: f64 = 0.5;

/// ...and by this many standard errors of the difference of the two levels. Higher than a single test would need:
/// the best of many possible days was chosen. On steady synthetic accounts at most 2 % are dated.
pub const SUPPORT_MIN: f64 = 3.5;

/// A day's value is cut here, in day-to-day spreads from the median.
const VALUE_SPREADS_MAX: f64 = 12.0;

/// A level change, dated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Onset {
    /// Days before the last day of the series on which the new level began (0: that day).
    pub days_ago: u16,
    /// Level of a day before, in the signal's unit: the mean of up to 28 days, weekly pattern taken out.
    pub before: f64,
    /// Level of a day since.
    pub after: f64,
    /// The difference in day-to-day spreads, on the scale of the models (square roots in [`Domain::NonNegative`]).
    /// Negative: a fall. Finite, at most 24 in magnitude.
    pub effect_spreads: f64,
    /// The difference in standard errors: how sure it is that there is a change at all. At least 3.5 in magnitude.
    pub support: f64,
}

/// Dates the latest lasting change of level; none where the level did not change.
///
/// `daily`: oldest first, the newest [`DAYS_MAX`] are used, at least [`DAYS_MIN`] measured, short gaps filled. The weekly
/// pattern is taken out, odd single days are pulled in, and what is left is scaled by its day-to-day spread, because the
/// prior of the model has unit scale. Of the changes that the model reports, the answer is the latest after which the
/// level differs from the level before by [`EFFECT_MIN`] spreads and [`SUPPORT_MIN`] standard errors; its day is then
/// moved by up to a week to where the two levels explain the days best.
///
/// Source: Adams & MacKay 2007 (Bayesian online changepoint detection, arXiv 0710.3742), normal data, normal-gamma prior.
///
/// # Errors
/// Each [`Fallback`] but `Sparse` and `Parameter`.
pub fn date_onset(daily: &[f64], domain: Domain) -> Result<Option<Onset>, Fallback> {
    caught(|| {
        let history = prepare(daily, (DAYS_MIN, DAYS_MAX), domain)?;
        let tamed = tame(&history);
        let (pattern, level) = WeeklyPattern::remove(&tamed, domain);
        let scale = day_to_day(&level);
        let centre = median(&mut level.clone()).unwrap_or(0.0);
        // Nothing but rounding is left beside the weekly pattern.
        let largest = level.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        if scale <= (1e-9 * largest).max(SPREAD_MIN) {
            return Err(Fallback::Constant);
        }
        let standard: Vec<f64> = level
            .iter()
            .map(|value| ((value - centre) / scale).clamp(-VALUE_SPREADS_MAX, VALUE_SPREADS_MAX))
            .collect();
        if standard.iter().any(|value| !value.is_finite()) {
            return Err(Fallback::NotFinite);
        }
        let starts = starts(&standard)?;
        let found = (0..starts.len()).rev().find_map(|index| examine(&standard, &starts[..=index]));
        Ok(found.map(|change| change.describe(&pattern, &history, &tamed)))
    })
}

/// Standard deviation of the noise from one day to the next: a change of level moves one difference only. The larger of
/// two estimates, because the median says next to nothing where most days are zero.
fn day_to_day(level: &[f64]) -> f64 {
    let steps: Vec<f64> = level.windows(2).map(|days| days[1] - days[0]).collect();
    spread(&steps).max(mean_spread(&steps)) / std::f64::consts::SQRT_2
}

/// First days of the runs that the model sees, oldest first.
fn starts(standard: &[f64]) -> Result<Vec<usize>, Fallback> {
    // A mean known about as well as a tenth of a day would tell (levels lie up to several spreads apart), a precision
    // about 1 as well as two days would tell: the data are scaled to it.
    let prior = NormalGamma::new(0.0, 0.1, 2.0, 2.0).map_err(Fallback::failed)?;
    let mut detector = NormalGammaDetector::normal_gamma(DAYS_BETWEEN_CHANGES, prior);
    // augurs reports the last day of the run before, and always day 0.
    let reported = detector.detect_changepoints(standard);
    Ok(reported
        .into_iter()
        .filter(|&last| last > 0)
        .map(|last| last + 1)
        .filter(|&start| start < standard.len())
        .collect())
}

/// A change that is real.
struct Change {
    start: usize,
    from: usize,
    effect: f64,
    support: f64,
}

/// Judges the last of `starts`; those before it bound the level before.
fn examine(standard: &[f64], starts: &[usize]) -> Option<Change> {
    let (&reported, earlier) = starts.split_last()?;
    let from = earlier
        .iter()
        .rev()
        .copied()
        .find(|start| start + DAYS_BEFORE_MIN <= reported)
        .unwrap_or(0)
        .max(reported.saturating_sub(DAYS_COMPARED));
    let start = best_split(standard, from, reported)?;
    let (before, after) = (&standard[from..start], since(standard, start));
    let (mean_before, squares_before) = moments(before);
    let (mean_after, squares_after) = moments(after);
    let effect = mean_after - mean_before;
    let (count_before, count_after) = (before.len() as f64, after.len() as f64);
    // At least the noise from day to day, which is 1; more where the level wanders or events are rare.
    let within = ((squares_before + squares_after) / (count_before + count_after - 2.0)).max(1.0);
    let error = (within * (1.0 / count_before + 1.0 / count_after)).sqrt();
    let support = effect / error;
    let real = effect.abs() >= EFFECT_MIN && support.abs() >= SUPPORT_MIN;
    real.then_some(Change { start, from, effect, support })
}

/// Mean, and sum of squares about it.
fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum())
}

/// The day within a week of `near` at which two levels explain the days best (least squares).
fn best_split(standard: &[f64], from: usize, near: usize) -> Option<usize> {
    let earliest = (from + DAYS_BEFORE_MIN).max(near.saturating_sub(WEEK));
    let latest = (standard.len() - DAYS_AFTER_MIN).min(near + WEEK);
    let to = standard.len().min(near + DAYS_COMPARED);
    let gain = |start: usize| {
        // What two means explain beyond one, up to a constant.
        [&standard[from..start], &standard[start..to]]
            .iter()
            .map(|part| part.iter().sum::<f64>().powi(2) / part.len() as f64)
            .sum::<f64>()
    };
    (earliest..=latest).max_by(|&left, &right| gain(left).total_cmp(&gain(right)))
}

fn since(standard: &[f64], start: usize) -> &[f64] {
    &standard[start..standard.len().min(start + DAYS_COMPARED)]
}

impl Change {
    fn describe(&self, pattern: &WeeklyPattern, history: &[f64], tamed: &[f64]) -> Onset {
        let end = history.len().min(self.start + DAYS_COMPARED);
        Onset {
            days_ago: (history.len() - 1 - self.start) as u16,
            before: pattern.level(tamed, self.from..self.start),
            // As it was, odd days and all: the first days of a new level look odd.
            after: pattern.level(history, self.start..end),
            effect_spreads: self.effect,
            support: self.support,
        }
    }
}
