//! Alerts by plain conditions, beside those by deviations from an account's own normal: a contract's limits that are near, a start that
//! stalls, a band that is reached. The policy names them (`[[condition]]`).
//!
//! They are looked at when a day is judged, of closed days only. None is ever urgent, and none is evidence: no score and no corroborated
//! alert depends on them. Their alerts go through the same machine as all others ([`crate::alert`]): they open where a condition is met,
//! and end once it was not for the quiet days of the policy.

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::calendar::without;
use crate::close::{maturity, rows, tenure_days};
use crate::cohort::Cohorts;
use crate::figure::{figure, figures};
use crate::history::mask;
use crate::life;
use crate::output::{Band, Category, Evidence, Maturity, Severity};
use crate::policy::{Aggregate, Compiled, Signal};
use crate::policy_check::CONDITION_DAYS_MAX;
use crate::score::band;
use crate::tiers::{Above, LEVEL_DAYS};
use crate::time::Day;

/// Days whose trend says when a limit is hit.
const TREND_DAYS: usize = 28;
/// Share of the variation of those days that a trend must explain.
const TREND_FIT_MIN: f64 = 0.5;
/// Growth within those days below which there is no trend, as a share of the limit.
const TREND_GROWTH_MIN: f64 = 0.02;

/// A condition that makes an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Kind of the alert.
    pub kind: String,
    /// Its severity: `info`, `low` or `medium`.
    pub severity: Severity,
    /// Whether it is bad news; else it is a chance.
    #[serde(default)]
    pub risk: bool,
    /// Plans of the profile to which it applies; empty: all accounts.
    #[serde(default)]
    pub plans: Vec<String>,
    /// When it is met.
    pub when: When,
}

/// When a condition is met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum When {
    /// A signal's level comes near an entitlement of the profile, or will soon.
    Limit {
        /// The signal.
        signal: String,
        /// The entitlement, by its name in the profile.
        entitlement: String,
        /// Share of it from which the condition is met, in percent (1..=1000).
        percent: f64,
        /// Days that are added up; of gauges the last value counts (1..=100).
        #[serde(default = "one_day")]
        days: u16,
        /// Days from now within which the trend of the last four weeks must hit it; 0: no forecast (0..=365).
        #[serde(default)]
        forecast_days: u16,
    },
    /// A signal's level is at least so much.
    AtLeast {
        /// The signal.
        signal: String,
        /// The level.
        amount: f64,
        /// Days that are added up, or over which distinct things count; gauges must be there on each of them (1..=100).
        #[serde(default = "one_day")]
        days: u16,
    },
    /// A signal is surely above its own normal, as for an alert of it alone.
    Rises {
        /// The signal.
        signal: String,
    },
    /// The score is in a band.
    Band(Band),
    /// An account uses what accounts of a higher plan do: of its levels of the last 28 days so many are at or above the median of the next
    /// plan above its own of which enough accounts are known.
    HigherTier {
        /// Plans by their names in profiles, rising.
        plans: Vec<String>,
        /// The signals, each a count, a sum, distinct things or a gauge. One counts only where its median is higher on the higher plan.
        signals: Vec<String>,
        /// How many of them must be there (1..).
        signals_min: u16,
        /// Accounts of each of the two plans, in the partition, below which nothing is compared (5..=1000000).
        #[serde(default = "twenty")]
        accounts_min: u32,
    },
    /// An account that has begun lately is hardly active.
    SlowStart {
        /// Day of the relationship from which it counts (1..=365), until `maturity.onboarding_days`.
        from_day: u16,
        /// Days that are looked at (1..=100).
        days: u16,
        /// Of these, days with activity at most (0..=100).
        active_days_max: u16,
    },
}

fn one_day() -> u16 {
    1
}

fn twenty() -> u32 {
    20
}

impl When {
    /// All signals that it asks for.
    #[must_use]
    pub fn signals(&self) -> Vec<&str> {
        match self {
            When::HigherTier { signals, .. } => signals.iter().map(String::as_str).collect(),
            When::Limit { .. }
            | When::AtLeast { .. }
            | When::Rises { .. }
            | When::Band(_)
            | When::SlowStart { .. } => self.reads().map(|(name, _)| name).into_iter().collect(),
        }
    }

    /// The one signal that it asks for, and over how many days.
    #[must_use]
    pub fn reads(&self) -> Option<(&str, u16)> {
        match self {
            When::Limit { signal, days, .. } | When::AtLeast { signal, days, .. } => {
                Some((signal, *days))
            }
            When::Rises { signal } => Some((signal, 1)),
            When::Band(_) | When::SlowStart { .. } | When::HigherTier { .. } => None,
        }
    }
}

impl Condition {
    /// Whether it says that the score is in a band, and that that is bad news.
    pub(crate) fn is_low_band(&self) -> bool {
        self.risk && matches!(self.when, When::Band(_))
    }
}

/// What speaks for a condition, dated by when its alert opened or came back.
pub(crate) fn since(account: &Account, kind: &str, met: Evidence) -> Evidence {
    let Some(alert) = account.hot.alerts.iter().find(|alert| alert.kind == kind) else {
        return met;
    };
    let came_back = life::of(account, &alert.id).and_then(|life| life.came_back.last().copied());
    let opened = came_back.unwrap_or(alert.opened_at);
    // It was the newest closed day then.
    let onset = account.zone().day(opened).plus(-1).min(met.onset);
    Evidence { onset, ..met }
}

/// What speaks for a condition in an account as its closed days stand; nothing where it is not met. Without cohorts, what an open alert
/// was compared with is what it was then.
pub(crate) fn met(
    account: &Account,
    policy: &Compiled,
    cohorts: Option<&Cohorts>,
    condition: &Condition,
) -> Vec<Evidence> {
    let plan = account.profile.as_ref().and_then(|profile| profile.plan.as_ref());
    if !condition.plans.is_empty() && !plan.is_some_and(|plan| condition.plans.contains(plan)) {
        return Vec::new();
    }
    let met = match &condition.when {
        When::HigherTier { plans, signals, signals_min, accounts_min } => {
            let looked = Looked { account, policy, day: account.hot.today.plus(-1) };
            let wanted = Tier { plans, signals, accounts_min: *accounts_min };
            let found = match cohorts {
                Some(cohorts) => looked.higher_tier(cohorts, &wanted),
                None => looked.higher_tier_then(&condition.kind),
            };
            if found.len() < usize::from(*signals_min) { Vec::new() } else { found }
        }
        When::Limit { .. }
        | When::AtLeast { .. }
        | When::Rises { .. }
        | When::Band(_)
        | When::SlowStart { .. } => one(account, policy, condition).into_iter().collect(),
    };
    met.into_iter().map(|said| Evidence { risk: condition.risk, ..said }).collect()
}

/// What speaks for a condition that asks for one thing.
fn one(account: &Account, policy: &Compiled, condition: &Condition) -> Option<Evidence> {
    let profile = account.profile.as_ref();
    let looked = Looked { account, policy, day: account.hot.today.plus(-1) };
    match &condition.when {
        When::Limit { signal, entitlement, percent, days, forecast_days } => {
            let limit = profile?.entitlements.get(entitlement).copied().filter(|it| *it > 0.0)?;
            let name = entitlement.replace('_', " ");
            looked.limit(signal, (limit, &name), *percent, *days, *forecast_days)
        }
        When::AtLeast { signal, amount, days } => looked.at_least(signal, *amount, *days),
        When::Rises { signal } => looked.rises(signal),
        When::Band(wanted) => looked.band(*wanted),
        When::SlowStart { from_day, days, active_days_max } => {
            looked.slow_start(*from_day, *days, *active_days_max)
        }
        When::HigherTier { .. } => None,
    }
}

/// A signal's level as of a day; none where nothing was measured.
pub(crate) fn level(
    account: &Account,
    policy: &Compiled,
    index: usize,
    days: u16,
    day: Day,
) -> Option<f64> {
    let seen = account.hot.signals.get(index)?.first_day.is_some();
    Looked { account, policy, day }.level(index, days, 0).filter(|_| seen)
}

/// What a condition compares with a higher plan.
struct Tier<'a> {
    plans: &'a [String],
    signals: &'a [String],
    accounts_min: u32,
}

/// An account as it is looked at.
struct Looked<'a> {
    account: &'a Account,
    policy: &'a Compiled,
    /// The newest closed day.
    day: Day,
}

impl<'a> Looked<'a> {
    fn signal(&self, name: &str) -> Option<(usize, &'a Signal)> {
        let index = self.policy.signals.iter().position(|signal| signal.name == name)?;
        let seen = self.account.hot.signals.get(index)?.first_day.is_some();
        seen.then_some((index, &self.policy.signals[index]))
    }

    /// A signal's level as of a day so many days before the newest closed one; none where nothing was measured.
    fn level(&self, index: usize, days: u16, back: usize) -> Option<f64> {
        let signal = &self.policy.signals[index];
        // The policy may have changed since the day was closed.
        let ring = self.account.history.rings.get(index);
        let (_, ring) = ring.filter(|(key, _)| *key == self.policy.keys()[index])?;
        let value = |back: usize| ring.back(back).filter(|value| value.is_finite());
        match signal.aggregate {
            Aggregate::Count | Aggregate::Sum => {
                value(back)?;
                Some((back..back + usize::from(days)).filter_map(value).sum())
            }
            Aggregate::Mean | Aggregate::Last => value(back),
            Aggregate::DistinctMembers | Aggregate::DistinctFeatures => {
                let key = self.policy.keys()[index];
                let day = self.day.plus(-i32::try_from(back).ok()?);
                let seen = rows(&self.account.activity, key)
                    .filter(|row| row.seen_from(day) & mask(u32::from(days)) != 0);
                Some(seen.count() as f64)
            }
            Aggregate::Presence => None,
        }
    }

    fn limit(
        &self,
        name: &str,
        (limit, entitlement): (f64, &str),
        percent: f64,
        days: u16,
        forecast_days: u16,
    ) -> Option<Evidence> {
        let (index, signal) = self.signal(name)?;
        let level = self.level(index, days, 0)?;
        let share = level / limit * 100.0;
        let soon = (forecast_days > 0 && level < limit)
            .then(|| self.days_to(index, days, (level, limit)))
            .flatten()
            .filter(|left| *left <= f64::from(forecast_days));
        if share < percent && soon.is_none() {
            return None;
        }
        let over = if days > 1 { format!(" in {days} days") } else { String::new() };
        let (used, of) = figures(level, limit);
        let mut text =
            format!("{}: {used} of {of} {entitlement}{over} ({share:.0} %)", signal.label);
        if let Some(left) = soon {
            let days = if left <= 1.0 { "day" } else { "days" };
            text.push_str(&format!(", all of them in {:.0} {days} at this pace", left.ceil()));
        }
        Some(self.evidence(signal, (level, limit), days, text))
    }

    /// Days until the trend of the last weeks hits a limit.
    fn days_to(&self, index: usize, days: u16, (level, limit): (f64, f64)) -> Option<f64> {
        // Sums that reach back beyond the first day grow by themselves.
        let first = self.account.hot.signals.get(index)?.first_day?;
        let known = usize::try_from(self.day.since(first) + 1).unwrap_or(0);
        if known + 1 < TREND_DAYS + usize::from(days) {
            return None;
        }
        let levels: Option<Vec<f64>> =
            (0..TREND_DAYS).rev().map(|back| self.level(index, days, back)).collect();
        let (slope, fit) = trend(&levels?);
        let grows = slope * TREND_DAYS as f64 >= limit * TREND_GROWTH_MIN;
        (grows && fit >= TREND_FIT_MIN).then(|| (limit - level) / slope)
    }

    fn at_least(&self, name: &str, amount: f64, days: u16) -> Option<Evidence> {
        let (index, signal) = self.signal(name)?;
        let level = if signal.aggregate == Aggregate::Last {
            let levels: Option<Vec<f64>> =
                (0..usize::from(days)).map(|back| self.level(index, 1, back)).collect();
            levels?.into_iter().reduce(f64::min)?
        } else {
            self.level(index, days, 0)?
        };
        let over = if days > 1 { format!(" for {days} days") } else { String::new() };
        let text = format!("{}: {}{over}", signal.label, figure(level));
        (level >= amount).then(|| self.evidence(signal, (level, amount), days, text))
    }

    /// The signals that are at or above what is typical of the next plan above.
    fn higher_tier(&self, cohorts: &Cohorts, wanted: &Tier<'_>) -> Vec<Evidence> {
        let own = self.account.profile.as_ref().and_then(|profile| profile.plan.as_deref());
        let judged = maturity(self.account) == Maturity::Established;
        let Some(own) = own.filter(|_| judged) else { return Vec::new() };
        let plans = (wanted.plans, own);
        let Some(above) = Above::of(cohorts, plans, wanted.accounts_min, self.day) else {
            return Vec::new();
        };
        let of = |name: &String| {
            let (index, _) = self.signal(name)?;
            // A signal that does not tell the plans apart says nothing.
            let typical = above.typical(self.policy.keys()[index]);
            let typical = typical.filter(|typical| typical.above > typical.own)?;
            self.beyond(index, typical.above, &format!("{} accounts", above.plan))
        };
        wanted.signals.iter().filter_map(of).collect()
    }

    /// The signals that an open alert of the kind named, and that still are at or above what was typical then.
    fn higher_tier_then(&self, kind: &str) -> Vec<Evidence> {
        let open = self.account.hot.alerts.iter().find(|alert| alert.kind == kind);
        let named = open.into_iter().flat_map(|alert| &alert.signals);
        let still = named.filter_map(|(name, typical)| {
            self.beyond(self.signal(name)?.0, *typical, "accounts of a higher plan")
        });
        still.collect()
    }

    fn beyond(&self, index: usize, typical: f64, of: &str) -> Option<Evidence> {
        let level = self.level(index, LEVEL_DAYS, 0).filter(|level| *level >= typical)?;
        let signal = &self.policy.signals[index];
        let over = if signal.aggregate == Aggregate::Last {
            String::new()
        } else {
            format!(" in {LEVEL_DAYS} days")
        };
        let (here, there) = figures(level, typical);
        let text = format!("{}: {here}{over} (median of {of}: {there})", signal.label);
        Some(self.evidence(signal, (level, typical), LEVEL_DAYS, text))
    }

    fn rises(&self, name: &str) -> Option<Evidence> {
        let (index, _) = self.signal(name)?;
        let evidence = self.account.hot.signals.get(index)?.evidence.clone()?;
        let sure = evidence.z >= self.policy.deviation.z_alone;
        (sure && maturity(self.account) == Maturity::Established).then_some(evidence)
    }

    fn band(&self, wanted: Band) -> Option<Evidence> {
        let score = self.account.hot.score;
        let rules = &self.policy.score;
        let judged = maturity(self.account) == Maturity::Established;
        let edge = match wanted {
            Band::Healthy => rules.healthy_min,
            Band::AtRisk | Band::Neutral => rules.at_risk_below,
        };
        (judged && band(score, self.policy) == wanted).then(|| Evidence {
            signal: "score".to_owned(),
            category: Category::Engagement,
            group: "score".to_owned(),
            observed: score.as_f64(),
            baseline: edge,
            unit: "points".to_owned(),
            change_pct: None,
            z: 0.0,
            risk: false,
            onset: self.day,
            window_days: 1,
            text: format!("the score is {score}, in the band {}", wanted.title()),
        })
    }

    fn slow_start(&self, from_day: u16, days: u16, active_days_max: u16) -> Option<Evidence> {
        let age = tenure_days(self.account, self.day);
        let starts = age >= f64::from(from_day.max(days))
            && age < f64::from(self.policy.maturity.onboarding_days);
        let seen = self.account.hot.activity.seen_from(self.day);
        // Where nothing was ever seen, nothing is known of its activity.
        let starts = starts && seen != 0;
        let (seen, masked) = without(seen, self.account.masked_days(self.day));
        let starts = starts && age - f64::from(masked.count_ones()) >= f64::from(days);
        let active = (seen & mask(u32::from(days))).count_ones();
        (starts && active <= u32::from(active_days_max)).then(|| Evidence {
            signal: "activity".to_owned(),
            category: Category::Engagement,
            group: "activity".to_owned(),
            observed: f64::from(active),
            baseline: f64::from(active_days_max),
            unit: format!("active days of {days}"),
            change_pct: None,
            z: 0.0,
            risk: false,
            onset: self.day,
            window_days: days,
            text: format!(
                "active on {active} of the last {days} days, {age:.0} days after the start"
            ),
        })
    }

    fn evidence(
        &self,
        signal: &Signal,
        (observed, baseline): (f64, f64),
        days: u16,
        text: String,
    ) -> Evidence {
        let unit = signal.unit.split('/').next().unwrap_or_default();
        Evidence {
            signal: signal.name.clone(),
            category: signal.category,
            group: signal.group.clone(),
            observed,
            baseline,
            unit: unit.to_owned(),
            change_pct: None,
            z: 0.0,
            risk: false,
            onset: self.day,
            window_days: days,
            text,
        }
    }
}

/// The slope of the straight line through values a step apart, by least squares, and the share of their variation that it explains.
fn trend(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let (mean_at, mean) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let (mut across, mut along, mut total) = (0.0, 0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        let (at, value) = (at as f64 - mean_at, value - mean);
        across += at * value;
        along += at * at;
        total += value * value;
    }
    if along <= 0.0 || total <= 0.0 {
        return (0.0, 0.0);
    }
    (across / along, across * across / along / total)
}

/// The longest window that conditions may look at: with the days of a trend it fits the days that are kept.
const _: () = assert!(CONDITION_DAYS_MAX as usize + TREND_DAYS <= crate::history::RING_DAYS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_is_a_slope_and_how_well_it_fits() {
        let line: Vec<f64> = (0..28).map(|at| 3.0 + 0.5 * f64::from(at)).collect();
        let (slope, fit) = trend(&line);
        assert!((slope - 0.5).abs() < 1e-9 && (fit - 1.0).abs() < 1e-9);
        let zigzag: Vec<f64> = (0..28).map(|at| f64::from(at % 2)).collect();
        assert!(trend(&zigzag).1 < 0.1);
        assert_eq!(trend(&[5.0; 28]), (0.0, 0.0));
    }
}
