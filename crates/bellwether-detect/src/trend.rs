//! A trend model for augurs' MSTL: the level, smoothed as much as the series asks for.

use std::borrow::Cow;
use std::error::Error;

use augurs::mstl::{FittedTrendModel, TrendModel};
use augurs::{Forecast, ForecastIntervals};

/// Simple exponential smoothing. Source: Hyndman et al. 2008, model (A,N,N): the variance `h` days ahead is
/// `variance * (1 + (h - 1) * weight^2)`. A weight of 1 is augurs' naive trend, which takes all of the last day's noise for
/// a change of level; augurs' own search for such a model ("ANN") never finds one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SmoothedLevel;

/// Weights of the newest day that are tried: a level that hardly moves to one that is the last day itself.
const WEIGHTS: [f64; 8] = [0.03, 0.06, 0.12, 0.2, 0.3, 0.45, 0.7, 1.0];

/// Days whose mean is the first level, and whose errors do not count.
const FIRST_DAYS: usize = 7;

#[derive(Debug)]
struct FittedLevel {
    level: f64,
    weight: f64,
    variance: f64,
    days: usize,
}

impl TrendModel for SmoothedLevel {
    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed("SmoothedLevel")
    }

    fn fit(
        &self,
        y: &[f64],
    ) -> Result<Box<dyn FittedTrendModel + Sync + Send>, Box<dyn Error + Send + Sync + 'static>>
    {
        let fits = WEIGHTS.iter().map(|&weight| smooth(y, weight));
        let best = fits.flatten().min_by(|left, right| left.variance.total_cmp(&right.variance));
        let fitted = best.ok_or("a level needs more than a week")?;
        Ok(Box::new(fitted))
    }
}

/// Smooths with one weight; none for a week or less.
fn smooth(y: &[f64], weight: f64) -> Option<FittedLevel> {
    let (first, rest) = y.split_at_checked(FIRST_DAYS)?;
    let mut level = first.iter().sum::<f64>() / FIRST_DAYS as f64;
    let mut squares = 0.0;
    for value in rest {
        let error = value - level;
        squares += error * error;
        level += weight * error;
    }
    let variance = squares / rest.len() as f64;
    (!rest.is_empty()).then_some(FittedLevel { level, weight, variance, days: y.len() })
}

impl FittedTrendModel for FittedLevel {
    fn predict_inplace(
        &self,
        horizon: usize,
        level: Option<f64>,
        forecast: &mut Forecast,
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        forecast.point = vec![self.level; horizon];
        let width = |ahead: usize| {
            (self.variance * (1.0 + ahead as f64 * self.weight * self.weight)).sqrt()
        };
        if let Some(level) = level {
            let quantile = distrs::Normal::ppf(0.5 + level / 2.0, 0.0, 1.0);
            let (lower, upper) = (0..horizon)
                .map(|ahead| quantile * width(ahead))
                .map(|reach| (self.level - reach, self.level + reach))
                .unzip();
            forecast.intervals = Some(ForecastIntervals { level, lower, upper });
        }
        Ok(())
    }

    fn predict_in_sample_inplace(
        &self,
        _level: Option<f64>,
        _forecast: &mut Forecast,
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Err("the past is not predicted".into())
    }

    fn training_data_size(&self) -> Option<usize> {
        Some(self.days)
    }
}
