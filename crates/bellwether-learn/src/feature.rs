//! The features of the scorecard, and their readings from an account's active days.
//!
//! All windows scale with the horizon of the outcome: half of it, the whole and twice it are the half-lives of
//! exponentially weighted means. So one set of parameters serves a 28-day and a 56-day outcome, and what an account
//! needs is a few numbers that change only on its active days.

use bellwether_core::time::Day;
use serde::{Deserialize, Serialize};

use crate::transform::{Risky, Scale, Transform};

/// What a feature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Moves the score.
    Score,
    /// Moves the base odds, and through them the risk, but not the score: what every account of that maturity shares
    /// says nothing about this account.
    Base,
}

/// A feature of the model: its meaning, its transform, and what an expert expects of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Name in models, records and reports.
    pub name: String,
    /// Unit of its readings.
    pub unit: String,
    /// Score or base odds.
    pub role: Role,
    /// From reading to evidence.
    pub transform: Transform,
    /// Expected log-odds of leaving between the best and the worst reading, at least 0.
    pub prior_mean: f64,
    /// Standard deviation of that expectation, above 0.
    pub prior_sd: f64,
}

/// Window of [`Readings::members`], days.
pub const MEMBER_WINDOW_DAYS: i32 = 84;

/// The features that earned their place on the development data, in the order of [`Readings::row`]. Weights start
/// from one: each is worth a factor of e in the odds between its best and its worst reading.
#[must_use]
pub fn standard() -> Vec<Feature> {
    let share = |name: &str| Feature {
        name: name.to_owned(),
        unit: "share of active days".to_owned(),
        role: Role::Score,
        transform: transform(Risky::Low, Scale::Log(0.02), 0.0, 0.65),
        prior_mean: 1.0,
        prior_sd: 1.0,
    };
    let trend = Feature {
        name: "trend".to_owned(),
        unit: "change of mean log daily volume".to_owned(),
        transform: transform(Risky::Low, Scale::Linear, -0.8, 0.4),
        ..share("")
    };
    let peers = Feature {
        name: "peers".to_owned(),
        unit: "share of active days above the cohort's".to_owned(),
        transform: transform(Risky::Low, Scale::Linear, -0.3, 0.4),
        // It says again, relative to the cohort, what the level says: half the weight.
        prior_mean: 0.5,
        ..share("")
    };
    let members = Feature {
        name: "members".to_owned(),
        unit: "members active in 12 weeks".to_owned(),
        transform: transform(Risky::Low, Scale::Log(1.0), 1.0, 9.0),
        ..share("")
    };
    let maturity = Feature {
        name: "maturity".to_owned(),
        unit: "days since the first activity".to_owned(),
        role: Role::Base,
        transform: transform(Risky::Low, Scale::Log(0.0), 28.0, 1_095.0),
        // The hazard of leaving falls with about the square root of tenure: ln(1095 / 28) / 2.
        prior_mean: 1.8,
        prior_sd: 1.0,
    };
    vec![share("level-short"), share("level-long"), trend, peers, members, maturity]
}

fn transform(risky: Risky, scale: Scale, low: f64, high: f64) -> Transform {
    Transform { risky, scale, low, high, knots: Vec::new() }
}

/// Readings of the standard features at one moment; NaN is missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Readings {
    /// Share of active days, half-life of half a horizon, 0..=1.
    pub level_short: f64,
    /// The same with a half-life of one horizon.
    pub level_long: f64,
    /// Mean of ln(1 + daily volume), half-life of half a horizon, minus that of two horizons.
    pub trend: f64,
    /// `level_short` minus its mean over the cohort at the same moment.
    pub peers: f64,
    /// Distinct members active in the last [`MEMBER_WINDOW_DAYS`].
    pub members: f64,
    /// Days since the first activity.
    pub maturity: f64,
}

impl Readings {
    /// In the order of [`standard`].
    #[must_use]
    pub fn row(&self) -> Vec<f64> {
        vec![self.level_short, self.level_long, self.trend, self.peers, self.members, self.maturity]
    }
}

/// An account's active days, forgotten exponentially: O(1) per active day, nothing on quiet ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    horizon_days: f64,
    span: Option<(Day, Day)>,
    active_short: f64,
    active_long: f64,
    volume_short: f64,
    volume_long: f64,
}

impl Activity {
    /// Of an account not seen yet; `horizon_days` (at least 1) is that of the outcome to predict.
    #[must_use]
    pub fn new(horizon_days: u32) -> Activity {
        let horizon_days = f64::from(horizon_days.max(1));
        Activity {
            horizon_days,
            span: None,
            active_short: 0.0,
            active_long: 0.0,
            volume_short: 0.0,
            volume_long: 0.0,
        }
    }

    /// Takes an active day. Days come in ascending order; one that does not is ignored, as is a volume that is not
    /// above zero.
    pub fn close_day(&mut self, day: Day, volume: f64) {
        let (first, last) = self.span.unwrap_or((day, day.plus(-1)));
        if day.since(last) < 1 || volume.is_nan() || volume <= 0.0 {
            return;
        }
        let days = day.since(last);
        let log_volume = volume.ln_1p();
        let (short, long, longest) = self.half_lives();
        self.active_short = step(self.active_short, 1.0, days, short);
        self.active_long = step(self.active_long, 1.0, days, long);
        self.volume_short = step(self.volume_short, log_volume, days, short);
        self.volume_long = step(self.volume_long, log_volume, days, longest);
        self.span = Some((first, day));
    }

    /// The first and the last active day.
    #[must_use]
    pub fn span(&self) -> Option<(Day, Day)> {
        self.span
    }

    /// Readings at the start of `today`, from the days before it. All missing for an account not seen before it.
    /// `cohort_level` is the mean of [`Activity::level_short`] over the cohort, `members` the distinct members of the
    /// last [`MEMBER_WINDOW_DAYS`]; both NaN where unknown.
    #[must_use]
    pub fn readings(&self, today: Day, cohort_level: f64, members: f64) -> Readings {
        let (short, long, longest) = self.half_lives();
        let level_short = self.mean(self.active_short, today, short);
        let volume_short = self.mean(self.volume_short, today, short);
        Readings {
            level_short,
            level_long: self.mean(self.active_long, today, long),
            trend: volume_short - self.mean(self.volume_long, today, longest),
            peers: level_short - cohort_level,
            members,
            maturity: self.age(today).map_or(f64::NAN, f64::from),
        }
    }

    /// Share of active days, half-life of half a horizon; NaN for an account not seen before `today`.
    #[must_use]
    pub fn level_short(&self, today: Day) -> f64 {
        self.mean(self.active_short, today, self.half_lives().0)
    }

    fn half_lives(&self) -> (f64, f64, f64) {
        (self.horizon_days / 2.0, self.horizon_days, self.horizon_days * 2.0)
    }

    fn age(&self, today: Day) -> Option<i32> {
        self.span.and_then(|(first, last)| (today.since(last) >= 1).then(|| today.since(first)))
    }

    /// The decayed sum as a mean over the days since the first: the days before it are unknown, not zero.
    fn mean(&self, sum: f64, today: Day, half_life_days: f64) -> f64 {
        let (Some(age), Some((_, last))) = (self.age(today), self.span) else {
            return f64::NAN;
        };
        let seen = 1.0 - keep(age, half_life_days);
        sum * keep(today.since(last) - 1, half_life_days) / seen
    }
}

/// What remains of a value after some days.
fn keep(days: i32, half_life_days: f64) -> f64 {
    (-f64::from(days) / half_life_days).exp2()
}

fn step(sum: f64, value: f64, days: i32, half_life_days: f64) -> f64 {
    sum * keep(days, half_life_days) + value * (1.0 - keep(1, half_life_days))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn activity(days: &[i32]) -> Activity {
        let mut activity = Activity::new(28);
        for &day in days {
            activity.close_day(Day(day), 3.0);
        }
        activity
    }

    fn readings(days: &[i32], today: i32) -> Readings {
        activity(days).readings(Day(today), 0.25, 1.0)
    }

    #[test]
    fn the_standard_features_can_be_used() {
        for feature in standard() {
            assert_eq!(feature.transform.check(), Ok(()), "{}", feature.name);
        }
        assert_eq!(readings(&[1], 2).row().len(), standard().len());
    }

    #[test]
    fn an_account_active_every_day_is_at_one() {
        let days: Vec<i32> = (0..40).collect();
        let now = readings(&days, 40);
        assert!((now.level_short - 1.0).abs() < 1e-12);
        assert!((now.level_long - 1.0).abs() < 1e-12);
        assert!((now.peers - 0.75).abs() < 1e-12);
        assert!(now.trend.abs() < 1e-12);
        assert_eq!(now.maturity.round() as i32, 40);
    }

    #[test]
    fn one_half_life_of_silence_halves_a_settled_level() {
        let days: Vec<i32> = (0..2_000).collect();
        let now = readings(&days, 2_000 + 14);
        assert!((now.level_short - 0.5).abs() < 1e-9, "{}", now.level_short);
        assert!((now.level_long - 0.5f64.sqrt()).abs() < 1e-9, "{}", now.level_long);
        assert!(now.trend < -0.3, "{}", now.trend);
    }

    #[test]
    fn nothing_is_known_before_the_first_day_and_of_days_to_come() {
        assert!(Activity::new(28).readings(Day(5), 0.5, 1.0).level_short.is_nan());
        assert!(readings(&[5], 5).level_short.is_nan(), "the day itself is not over");
        assert!(!readings(&[5], 6).level_short.is_nan());
    }

    #[test]
    fn days_out_of_order_and_without_volume_change_nothing() {
        let mut changed = activity(&[3, 9]);
        changed.close_day(Day(9), 5.0);
        changed.close_day(Day(4), 5.0);
        changed.close_day(Day(12), 0.0);
        changed.close_day(Day(12), f64::NAN);
        assert_eq!(changed, activity(&[3, 9]));
    }

    proptest! {
        /// The O(1) sums against the definition: a weighted mean over all days since the first.
        #[test]
        fn decayed_sums_are_the_weighted_mean(days in proptest::collection::btree_set(0i32..200, 1..60), wait in 1i32..60) {
            let days: Vec<i32> = days.into_iter().collect();
            let today = days[days.len() - 1] + wait;
            let (mut sum, mut weights) = (0.0, 0.0);
            for day in days[0]..today {
                let weight = (-f64::from(today - 1 - day) / 14.0).exp2();
                weights += weight;
                sum += if days.contains(&day) { weight } else { 0.0 };
            }
            let level = readings(&days, today).level_short;
            prop_assert!((level - sum / weights).abs() < 1e-9, "{level} {}", sum / weights);
        }
    }
}
