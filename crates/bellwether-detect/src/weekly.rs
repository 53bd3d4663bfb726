//! The weekly pattern of a daily series: taken out before a model that knows no season, put back after it.

use crate::series::{Domain, WEEK, median};

/// The weekly pattern. Indexed by days before the last day, modulo 7: 0 is the weekday of the last day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeeklyPattern {
    domain: Domain,
    /// [`Domain::NonNegative`]: a factor of the level, 1 = a usual day. [`Domain::Real`]: a distance from the level.
    by_weekday: [f64; WEEK],
}

impl WeeklyPattern {
    /// The pattern of a series of at least two weeks, and the series without it.
    ///
    /// Levels are centred 7-day means, so a change of level does not pass for a weekday. The pattern of non-negative
    /// signals is proportional to the level (an account that halves halves its Mondays), and it is subtracted as a
    /// share of the level, never divided by: empty weekends have a factor of zero.
    pub(crate) fn remove(values: &[f64], domain: Domain) -> (Self, Vec<f64>) {
        let levels = centred_means(values);
        let inner = WEEK / 2..values.len().saturating_sub(WEEK / 2);
        let position = |index: usize| (values.len() - 1 - index) % WEEK;
        let mut by_weekday = [0.0; WEEK];
        for (weekday, entry) in by_weekday.iter_mut().enumerate() {
            let days = inner.clone().filter(|&index| position(index) == weekday);
            *entry = match domain {
                Domain::NonNegative => {
                    let (sum, level) = days.fold((0.0, 0.0), |(sum, level), index| {
                        (sum + values[index], level + levels[index])
                    });
                    if level > 0.0 { sum / level } else { 1.0 }
                }
                Domain::Real => {
                    let mut apart: Vec<f64> =
                        days.map(|index| values[index] - levels[index]).collect();
                    median(&mut apart).unwrap_or(0.0)
                }
            };
        }
        // Seven factors average 1 and seven distances 0, so that the level keeps its meaning.
        let mean = by_weekday.iter().sum::<f64>() / WEEK as f64;
        for entry in &mut by_weekday {
            match domain {
                Domain::NonNegative => *entry = if mean > 0.0 { *entry / mean } else { 1.0 },
                Domain::Real => *entry -= mean,
            }
        }
        let pattern = Self { domain, by_weekday };
        let without = values
            .iter()
            .enumerate()
            .map(|(index, value)| value - pattern.excess(position(index), levels[index]))
            .collect();
        (pattern, without)
    }

    /// What the weekday `days_ahead` of the last day adds to a level.
    pub(crate) fn excess_ahead(&self, days_ahead: usize, level: f64) -> f64 {
        self.excess((WEEK - days_ahead % WEEK) % WEEK, level)
    }

    /// The mean level of some days of a series (all its days given), in the signal's unit, weekdays accounted for: for
    /// non-negative signals what was there against what those weekdays usually hold of a week.
    pub(crate) fn level(&self, values: &[f64], days: std::ops::Range<usize>) -> f64 {
        let weekday = |index: usize| (values.len() - 1 - index) % WEEK;
        let count = days.len().max(1) as f64;
        let sum = |of: &dyn Fn(usize) -> f64| days.clone().map(of).sum::<f64>();
        match self.domain {
            Domain::Real => sum(&|index| values[index] - self.by_weekday[weekday(index)]) / count,
            Domain::NonNegative => {
                // Factors are of square roots.
                let week = self.by_weekday.iter().map(|factor| factor * factor).sum::<f64>();
                let held = sum(&|index| self.by_weekday[weekday(index)].powi(2)) * WEEK as f64;
                let total = sum(&|index| self.domain.backward(values[index]));
                // Days that usually hold nothing say nothing about the others.
                if held > 0.05 * count * week { total * week / held } else { total / count }
            }
        }
    }

    fn excess(&self, weekday: usize, level: f64) -> f64 {
        match self.domain {
            Domain::NonNegative => level * (self.by_weekday[weekday] - 1.0),
            Domain::Real => self.by_weekday[weekday],
        }
    }
}

/// Means of seven days about each day; near the ends those of the first and last whole seven.
fn centred_means(values: &[f64]) -> Vec<f64> {
    let means: Vec<f64> =
        values.windows(WEEK).map(|days| days.iter().sum::<f64>() / WEEK as f64).collect();
    (0..values.len())
        .map(|index| {
            let window = index.saturating_sub(WEEK / 2).min(means.len().saturating_sub(1));
            means.get(window).copied().unwrap_or(0.0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weekly_pattern_leaves_and_returns() {
        let daily: Vec<f64> = (0..70).map(|day| if day % 7 < 5 { 14.0 } else { 0.0 }).collect();
        let (pattern, level) = WeeklyPattern::remove(&daily, Domain::NonNegative);
        assert!(level.iter().all(|value| (value - 10.0).abs() < 1e-9), "{level:?}");
        for ahead in 1..=14 {
            let value = 10.0 + pattern.excess_ahead(ahead, 10.0);
            let expected = if (69 + ahead) % 7 < 5 { 14.0 } else { 0.0 };
            assert!((value - expected).abs() < 1e-9, "{ahead} {value}");
        }
        // The signal is the square: 196 on five days of seven.
        assert!((pattern.level(&daily, 60..64) - 140.0).abs() < 1e-9);
    }

    #[test]
    fn a_pattern_of_a_real_signal_is_a_distance() {
        let daily: Vec<f64> = (0..70).map(|day| -3.0 + f64::from(day % 7)).collect();
        let (_, level) = WeeklyPattern::remove(&daily, Domain::Real);
        assert!(level.iter().all(|value| value.abs() < 1e-9), "{level:?}");
    }
}
