//! Forecasts of the coming days with prediction intervals.

use augurs::ets::AutoETS;
use augurs::mstl::stlrs::{MstlParams, StlParams};
use augurs::mstl::{MSTLModel, NaiveTrend, TrendModel};
use augurs::{Fit, Predict};

use crate::fallback::{Fallback, caught};
use crate::series::{Domain, Unit, WEEK, prepare, tame};
use crate::trend::SmoothedLevel;
use crate::weekly::WeeklyPattern;

/// Measured days below which there is no forecast: four of each weekday.
pub const DAYS_MIN: usize = 28;

/// Newest days that a forecast looks at: 18 whole weeks, what the daily buckets keep.
pub const DAYS_MAX: usize = 18 * WEEK;

/// Longest horizon: beyond four weeks a naive trend says next to nothing.
pub const HORIZON_DAYS_MAX: usize = 28;

/// Bounds of an interval's level.
pub const LEVEL_MIN: f64 = 0.5;
/// See [`LEVEL_MIN`].
pub const LEVEL_MAX: f64 = 0.999;

/// Weeks over which the weekly pattern is smoothed. augurs' default of 11 follows the noise of single weeks.
const SEASONAL_WEEKS: usize = 21;

/// Each smoother of the decomposition is worked out at every seventh place, and between them by lines. Of the pattern a place is a week: its
/// window of 21 spans all weeks that there are and fits no slope, so that it hardly bends between places. The trend is no part of the
/// forecast (what it leaves goes back to what is smoothed as the level), and the low-pass filter smooths what three moving averages have
/// smoothed before; the end of a series beyond its last place is a line, too. Cleveland et al. 1990 have a tenth to two tenths of a window. Two
/// fifths of the work, errors a day ahead that are no larger, and upper ends within 0.1 % (`places_left_out_make_no_forecast_worse`).
const JUMP: usize = 7;

/// Predictions are cut here, in standard deviations of the history: a model that goes further has lost its way.
const REACH_DEVIATIONS: f64 = 100.0;

/// One forecast day, in the signal's unit. Finite; `lower <= point <= upper`; none negative in
/// [`Domain::NonNegative`], where `point` is the median day rather than the mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForecastDay {
    /// The middle of what is expected.
    pub point: f64,
    /// Lower end of the prediction interval.
    pub lower: f64,
    /// Upper end of the prediction interval.
    pub upper: f64,
}

/// A forecast: the first day is the day after the last of the history.
pub type Forecast = Vec<ForecastDay>;

/// Forecasts signals of one domain. Odd single days of the history are pulled in first and short gaps are filled with
/// the same weekday (at most [`crate::GAP_SHARE_MAX`] of the days, at most [`crate::GAP_RUN_DAYS_MAX`] in a row).
#[derive(Debug, Clone, Copy)]
pub struct Forecaster {
    /// The values that the signal can take.
    pub domain: Domain,
}

impl Forecaster {
    /// MSTL with the one period of seven days, and the last value without its weekday as the trend. Source: Bandara,
    /// Hyndman & Bergmeir 2021 (arXiv 2107.13462).
    ///
    /// `daily`: oldest first, the newest [`DAYS_MAX`] are used, at least [`DAYS_MIN`] measured. `horizon_days`: 1 to
    /// [`HORIZON_DAYS_MAX`]. `level`: share of days that the interval is to hold, [`LEVEL_MIN`] to [`LEVEL_MAX`].
    ///
    /// The interval is that of a random walk: right for tomorrow, far too wide for steady signals from the third day on.
    /// [`Forecaster::mstl_level`] costs the same and does not have that fault.
    ///
    /// # Errors
    /// Each [`Fallback`] but `Sparse`.
    pub fn mstl_naive(
        &self,
        daily: &[f64],
        horizon_days: usize,
        level: f64,
    ) -> Result<Forecast, Fallback> {
        self.mstl((NaiveTrend::new(), smoothers(JUMP)), daily, horizon_days, level)
    }

    /// MSTL with the one period of seven days, and the smoothed level as the trend: the forecast for every signal of
    /// every account. The weight of the newest day is the one that would have predicted this series best, so a steady
    /// signal gets the mean of weeks and a wandering one nearly its last value (of which [`Forecaster::mstl_naive`] is the
    /// extreme).
    ///
    /// Arguments and errors as for [`Forecaster::mstl_naive`].
    ///
    /// # Errors
    /// Each [`Fallback`] but `Sparse`.
    pub fn mstl_level(
        &self,
        daily: &[f64],
        horizon_days: usize,
        level: f64,
    ) -> Result<Forecast, Fallback> {
        self.mstl((SmoothedLevel, smoothers(JUMP)), daily, horizon_days, level)
    }

    /// Exponential smoothing with the trend that fits best (none, straight or damped; corrected AIC), on the history
    /// without its weekly pattern: some fifteen times the work of [`Forecaster::mstl_naive`], for accounts worth it. augurs
    /// has no seasonal exponential smoothing (a seasonal search silently fits none), hence the pattern is taken out and put
    /// back here.
    /// Source: Hyndman & Khandakar 2008.
    ///
    /// Arguments and errors as for [`Forecaster::mstl_naive`].
    ///
    /// # Errors
    /// Each [`Fallback`] but `Sparse`.
    pub fn auto_ets(
        &self,
        daily: &[f64],
        horizon_days: usize,
        level: f64,
    ) -> Result<Forecast, Fallback> {
        caught(|| {
            let (history, _) = self.history(daily, horizon_days, level)?;
            let (pattern, without) = WeeklyPattern::remove(&history, self.domain);
            let unit = Unit::of(&without)?;
            // Additive errors, trend or none, no season: "ANN" and "ZNN" never find a model in augurs, "AZN" does.
            let search = AutoETS::new(1, "AZN").map_err(Fallback::failed)?;
            let fitted = search.fit(&unit.apply(&without)).map_err(Fallback::failed)?;
            let answer = fitted.predict(horizon_days, level).map_err(Fallback::failed)?;
            let mut days = read(&answer, horizon_days, unit, widening(history.len()))?;
            for (index, day) in days.iter_mut().enumerate() {
                let excess = pattern.excess_ahead(index + 1, day.point);
                day.point += excess;
                day.lower += excess;
                day.upper += excess;
            }
            self.finish(days)
        })
    }

    fn mstl(
        &self,
        (trend, smoothers): (impl TrendModel, StlParams),
        daily: &[f64],
        horizon_days: usize,
        level: f64,
    ) -> Result<Forecast, Fallback> {
        caught(|| {
            let (history, unit) = self.history(daily, horizon_days, level)?;
            let mut smoothing = MstlParams::new();
            smoothing.seasonal_lengths(&[SEASONAL_WEEKS]).stl_params(smoothers);
            // augurs computes this model in single precision: unit scale keeps its seven digits where they count.
            let model = MSTLModel::new(vec![WEEK], trend).mstl_params(smoothing);
            let fitted = model.fit(&unit.apply(&history)).map_err(Fallback::failed)?;
            let answer = fitted.predict(horizon_days, level).map_err(Fallback::failed)?;
            let days = read(&answer, horizon_days, unit, widening(history.len()))?;
            self.finish(days)
        })
    }

    /// Checks the request and prepares the history, on the scale of the models.
    fn history(
        &self,
        daily: &[f64],
        horizon_days: usize,
        level: f64,
    ) -> Result<(Vec<f64>, Unit), Fallback> {
        if !(1..=HORIZON_DAYS_MAX).contains(&horizon_days) {
            return Err(Fallback::Parameter("horizon_days is 1 to 28"));
        }
        if !(LEVEL_MIN..=LEVEL_MAX).contains(&level) {
            return Err(Fallback::Parameter("level is 0.5 to 0.999"));
        }
        let history = tame(&prepare(daily, (DAYS_MIN, DAYS_MAX), self.domain)?);
        let unit = Unit::of(&history)?;
        Ok((history, unit))
    }

    /// Back to the signal's unit.
    fn finish(&self, days: Vec<ForecastDay>) -> Result<Forecast, Fallback> {
        let back: Forecast = days
            .into_iter()
            .map(|day| ForecastDay {
                point: self.domain.backward(day.point),
                lower: self.domain.backward(day.lower),
                upper: self.domain.backward(day.upper),
            })
            .collect();
        let sound = |day: &ForecastDay| {
            day.lower.is_finite()
                && day.upper.is_finite()
                && day.lower <= day.point
                && day.point <= day.upper
        };
        if back.iter().all(sound) { Ok(back) } else { Err(Fallback::NotFinite) }
    }
}

/// Smoothers that are worked out at places so far apart.
fn smoothers(jump: usize) -> StlParams {
    let mut smoothers = StlParams::new();
    smoothers.seasonal_jump(jump).trend_jump(jump).low_pass_jump(jump);
    smoothers
}

/// How much wider intervals must be than the residuals say, because the weekday pattern was learned from the same days:
/// a pattern from `w` weeks takes 1/w of the noise's variance out of the residuals, and puts as much into the forecast.
fn widening(days: usize) -> f64 {
    let weeks = (days as f64 / WEEK as f64).min(SEASONAL_WEEKS as f64 / 2.0);
    ((weeks + 1.0) / (weeks - 1.0)).sqrt()
}

/// Reads an answer of augurs, still on the scale of the models: as many days as asked for, finite, cut to what is
/// believable.
fn read(
    answer: &augurs::Forecast,
    horizon_days: usize,
    unit: Unit,
    widening: f64,
) -> Result<Vec<ForecastDay>, Fallback> {
    let Some(intervals) = &answer.intervals else {
        return Err(Fallback::Failed("no interval".to_owned()));
    };
    let lengths = [answer.point.len(), intervals.lower.len(), intervals.upper.len()];
    if lengths != [horizon_days; 3] {
        return Err(Fallback::Failed(format!("{lengths:?} days instead of {horizon_days}")));
    }
    let bounds = intervals.lower.iter().zip(&intervals.upper);
    let days = answer.point.iter().zip(bounds);
    if days.clone().any(|(point, (low, high))| !(point + low + high).is_finite()) {
        return Err(Fallback::NotFinite);
    }
    let cut = |value: f64| unit.undo(value.clamp(-REACH_DEVIATIONS, REACH_DEVIATIONS));
    Ok(days
        .map(|(&point, (&low, &high))| ForecastDay {
            point: cut(point),
            lower: cut(point - widening * (point - low).max(0.0)),
            upper: cut(point + widening * (high - point).max(0.0)),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_one_is_refused() {
        let unit = Unit { centre: 5.0, scale: 2.0 };
        let mut answer = augurs::Forecast {
            point: vec![1.0, 2.0],
            intervals: Some(augurs::ForecastIntervals {
                level: 0.9,
                lower: vec![0.0, 0.0],
                upper: vec![2.0, 1e9],
            }),
        };
        let days = read(&answer, 2, unit, 1.0).expect("sound");
        assert_eq!((days[0].point, days[1].upper), (7.0, 205.0));
        assert!(matches!(read(&answer, 3, unit, 1.0), Err(Fallback::Failed(_))));
        answer.point[1] = f64::NAN;
        assert_eq!(read(&answer, 2, unit, 1.0), Err(Fallback::NotFinite));
        answer.intervals = None;
        assert!(matches!(read(&answer, 2, unit, 1.0), Err(Fallback::Failed(_))));
    }

    /// Errors of a day ahead, and upper ends, on the scale of the models, summed over 400 series of so many days: counts about a level of each
    /// series that drifts, and weekends that become others.
    fn of_series(days: i32, smoothers: &StlParams) -> [f64; 2] {
        let mut state = 7_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / f64::from(1 << 24)
        };
        let forecaster = Forecaster { domain: Domain::NonNegative };
        let mut sums = [0.0; 2];
        for series in 0..400 {
            let level = 2.0 * 1.01_f64.powi(series);
            let drift = 1.0 + 0.01 * (uniform() - 0.5);
            let weekends = [uniform(), uniform()];
            let mut daily: Vec<f64> = (0..=days)
                .map(|day| {
                    let on = f64::from(day) / f64::from(days);
                    let weekend = weekends[0] + on * (weekends[1] - weekends[0]);
                    let usual = if day % 7 < 5 { 1.0 } else { weekend };
                    let noise: f64 = (0..4).map(|_| uniform() - 0.5).sum();
                    let mean = level * usual * drift.powi(day);
                    (mean + mean.sqrt() * noise + 0.3 * mean * noise).max(0.0).round()
                })
                .collect();
            // On each of its weekdays in turn.
            daily.drain(..usize::try_from(series % 7).expect("small"));
            let coming = daily.pop().expect("days");
            let model = (SmoothedLevel, smoothers.clone());
            let days = forecaster.mstl(model, &daily, 1, 0.9).expect("a whole series");
            sums[0] += (days[0].point.sqrt() - coming.sqrt()).abs();
            sums[1] += days[0].upper.sqrt();
        }
        sums
    }

    #[test]
    fn places_left_out_make_no_forecast_worse() {
        // The fewer weeks, the more a coarser pattern smooths, and the less it errs: by so much at most.
        for (days, better) in [(35, 0.015), (70, 0.005), (132, 0.001)] {
            // As the library has them: at a tenth of each window.
            let own = of_series(days, &StlParams::new());
            let [error, upper] = of_series(days, &smoothers(JUMP));
            let (error, upper) = (error / own[0] - 1.0, upper / own[1] - 1.0);
            assert!((-better..0.001).contains(&error), "{days} days: {error}");
            assert!(upper.abs() < 0.001, "{days} days: {upper}");
        }
        // Too few places show.
        let own = of_series(132, &StlParams::new());
        for jump in [14, 30, 125] {
            assert!(of_series(132, &smoothers(jump))[1] / own[1] > 1.001, "{jump}");
        }
    }

    #[test]
    fn requests_out_of_range_are_parameters() {
        let daily: Vec<f64> = (0..60).map(|day| f64::from(day % 7)).collect();
        let forecaster = Forecaster { domain: Domain::NonNegative };
        for (horizon_days, level) in [(0, 0.9), (29, 0.9), (7, 0.1), (7, 1.0), (7, f64::NAN)] {
            let answer = forecaster.mstl_naive(&daily, horizon_days, level);
            assert!(matches!(answer, Err(Fallback::Parameter(_))), "{horizon_days} {level}");
        }
    }
}
