//! What is expected of the day that is open, and whether it has brought more than that.
//!
//! When a day is judged, the next one is forecast, signal by signal: by a model of the account's own days ([`bellwether_detect`]), or,
//! where that is switched off or cannot say, by what the scan expects. The interval is stored, so that an event compares its day's
//! counter with it in O(1). Where the counter is beyond, the account is judged as if its day ended now, for rises only: with the same
//! scan, the same budget, and less evidence than the day's close will have.
//!
//! Counts only grow, of what has not grown beyond its expectation nothing is known, and a rise within the day has to be rarer than one at its
//! close, since the rest of the day may bring that everything has grown. So what is found within the day is found at its close, too; where
//! it is not, because what came first was half of a busy day, the close takes nothing back, but the alert goes unsupported.

use std::collections::BTreeSet;

use bellwether_detect::Domain;
use serde::{Deserialize, Serialize};

use crate::account::{Account, Row, SignalKey};
use crate::calendar::carried_values;
use crate::close::maturity;
use crate::cohort::{Cohort, Cohorts};
use crate::corroborate::{self, Alarm, Asked};
use crate::expect::{Expected, expect, next_day, normal_days, unscaled};
use crate::history::{DayTotals, MICROS};
use crate::output::Maturity;
use crate::policy::{Aggregate, Compiled, Signal};
use crate::policy_check::SPIKE_KIND;
use crate::scan::Law;
use crate::step::Core;
use crate::time::{Day, Millis};

/// What is expected of one signal on one day, in its unit. Finite, rising; as it is kept, whole numbers of a signal that counts events, since such
/// a count is beyond 5.3 where it is beyond 5.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Lower end of the interval; as it is kept 0 (or what is expected, if that is less), since nothing of an open day is too little yet.
    pub low: f32,
    /// The middle of what is expected.
    pub expected: f32,
    /// Upper end of the interval; once the day's counter was beyond it, the count at which the day is looked at again.
    pub high: f32,
}

/// The forecast of an account's day. One without limits is the default, and has no row.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Forecast {
    /// The day.
    pub day: Day,
    /// Per signal that counts or adds up, and has enough history.
    pub limits: Vec<(SignalKey, Limits)>,
}

/// Days in which a cohort shows by how much its days can exceed what is usual for them.
const CAUTION_DAYS: i32 = 28;
/// By how much at most that is believed.
const CAUTION_MAX: f64 = 3.0;

/// Whether the days of a signal are forecast: of those that amount to something as they go.
fn is_forecast(signal: &Signal) -> bool {
    matches!(signal.aggregate, Aggregate::Count | Aggregate::Sum)
}

/// Forecasts the day after `day`, the one that is judged.
pub(crate) fn renew(
    core: &Core,
    account: &mut Account,
    cohorts: &mut Cohorts,
    expected: &Expected,
    day: Day,
) {
    let policy = &*core.policy;
    let rules = &policy.models;
    let cohort = cohorts.named(account.segment());
    let reach = crate::stats::normal_quantile(0.5 + rules.interval / 2.0);
    let large = rules.ets && expected.volume >= rules.ets_volume_min;
    let mut limits = Vec::new();
    for (lane, &index) in expected.signals.iter().enumerate() {
        let (Some((key, ring)), Some(state)) =
            (account.history.rings.get(index), account.hot.signals.get(index))
        else {
            continue;
        };
        if !rules.intraday || !is_forecast(&policy.signals[index]) {
            continue;
        }
        let daily = carried_values(ring.values(), account.masked_days(day));
        let known = normal_days(account, (*key, state), day, ring).min(daily.len());
        let known = &daily[daily.len() - known..];
        let own = || next_day(expected, lane, (*key, cohort), (day, reach));
        let found = by_model(core, known, large).or_else(own).filter(is_sound);
        limits.extend(found.map(|found| (*key, kept(&policy.signals[index], found))));
    }
    let forecast =
        if limits.is_empty() { Forecast::default() } else { Forecast { day: day.plus(1), limits } };
    account.changed.note_if(Row::Forecast, account.forecast != forecast);
    account.forecast = forecast;
}

/// The forecast of a model; none where models are switched off or cannot say.
fn by_model(core: &Core, daily: &[f64], large: bool) -> Option<Limits> {
    let rules = &core.policy.models;
    if !rules.forecast {
        return None;
    }
    let negative = daily.iter().any(|&value| value < 0.0);
    let domain = if negative { Domain::Real } else { Domain::NonNegative };
    let smoothed =
        large.then(|| core.models.auto_ets(domain, daily, 1, rules.interval).ok()).flatten();
    let forecast =
        smoothed.or_else(|| core.models.mstl_level(domain, daily, 1, rules.interval).ok())?;
    let day = forecast.first()?;
    let [low, expected, high] = [day.lower, day.point, day.upper].map(|value| value as f32);
    Some(Limits { low, expected, high })
}

/// What is kept of limits: all that a comparison with a value of the signal can tell.
fn kept(signal: &Signal, limits: Limits) -> Limits {
    let limits = Limits { low: limits.expected.min(0.0), ..limits };
    if signal.aggregate == Aggregate::Count {
        let Limits { low, expected, high } = limits;
        return Limits { low, expected: expected.floor(), high: high.floor() };
    }
    limits
}

fn is_sound(limits: &Limits) -> bool {
    let Limits { low, expected, high } = *limits;
    high.is_finite() && low.is_finite() && low <= expected && expected <= high
}

/// What the open day has brought of a signal so far; none where that is no sum.
fn so_far(signal: &Signal, totals: &DayTotals) -> Option<f64> {
    match signal.aggregate {
        Aggregate::Count => Some(f64::from(totals.count)),
        Aggregate::Sum => Some(totals.sum_micros as f64 / MICROS),
        Aggregate::Mean
        | Aggregate::Last
        | Aggregate::DistinctMembers
        | Aggregate::DistinctFeatures
        | Aggregate::Presence => None,
    }
}

/// Whether an event has carried a counter of the open day beyond its limit: O(1). The limit moves on, so that the day is looked at again
/// when the count has grown by a share, and not with every event. On masked days nothing is measured.
pub(crate) fn exceeded(
    account: &mut Account,
    policy: &Compiled,
    matched: &[usize],
    day: Day,
) -> bool {
    let open = day == account.forecast.day && day == account.hot.today;
    if !open || !policy.models.intraday || account.is_masked(day) {
        return false;
    }
    let mut beyond = false;
    for &index in matched {
        let key = policy.keys()[index];
        let limits = &mut account.forecast.limits;
        let Some((_, limits)) = limits.iter_mut().find(|(known, _)| *known == key) else {
            continue;
        };
        let open = account.hot.signals[index].open.iter().find(|(open, _)| *open == day);
        let count = open.and_then(|(_, totals)| so_far(&policy.signals[index], totals));
        if let Some(count) = count.filter(|count| *count > f64::from(limits.high)) {
            let step = count.abs() * policy.models.intraday_growth_pct / 100.0;
            let high = (count + step) as f32;
            *limits = kept(&policy.signals[index], Limits { high, ..*limits });
            beyond = true;
        }
    }
    account.changed.note_if(Row::Forecast, beyond);
    beyond
}

/// Judges the open day as if it ended now: a rise of several groups, each of which has brought more than is expected of the whole day.
pub(crate) fn judge_open(
    core: &Core,
    account: &mut Account,
    cohorts: &mut Cohorts,
    at: Millis,
) -> Option<Alarm> {
    let known = account.hot.alerts.iter().any(|alert| alert.kind == SPIKE_KIND);
    if known || maturity(account) != Maturity::Established {
        return None;
    }
    let policy = &*core.policy;
    let day = account.hot.today;
    if groups_beyond(account, policy, day) < usize::from(policy.corroboration.groups_high) {
        return None;
    }
    // It is looked at before it is copied, so that the copy knows, too, whether it can be read.
    account.history.newest?;
    let closed = account.history.clone();
    for (_, ring) in &mut account.history.rings {
        ring.push(f64::NAN);
    }
    let mut expected = expect(account, policy, cohorts, day);
    let risen = fill(&mut expected, account, policy, cohorts.named(account.segment()), day);
    let found = corroborate::judge(core, account, cohorts, expected, (day, at), Asked::Open);
    account.history = closed;
    let has_risen = |name: &str| risen.iter().any(|&index| policy.signals[index].name == name);
    let factor = found.sensitivity.of(SPIKE_KIND);
    let budget = policy.models.intraday_share * policy.corroboration.false_high_per_year * factor;
    found.rise.filter(|rise| {
        rise.by_chance_per_year <= budget
            && rise.evidence.iter().all(|item| has_risen(&item.signal))
    })
}

/// What the open day has brought of a signal so far.
fn open_count(account: &Account, policy: &Compiled, index: usize, day: Day) -> Option<f64> {
    let open = &account.hot.signals.get(index)?.open;
    let (_, totals) = open.iter().find(|(open, _)| *open == day)?;
    so_far(&policy.signals[index], totals)
}

/// Groups with a signal that has brought more than is expected of the whole day.
fn groups_beyond(account: &Account, policy: &Compiled, day: Day) -> usize {
    let mut groups = BTreeSet::new();
    for (key, limits) in &account.forecast.limits {
        let Some(index) = policy.keys().iter().position(|known| known == key) else { continue };
        let count = open_count(account, policy, index, day);
        if count.is_some_and(|count| count > f64::from(limits.expected)) {
            groups.insert(policy.signals[index].group.as_str());
        }
    }
    groups.len()
}

/// Gives the lanes their open day: what has come, where that is more than is expected of the whole day; elsewhere nothing is known of it
/// yet. Were it taken for as usual, whatever comes first of a busy day would look like a rise of its own. Returns the signals that have
/// brought more. What the whole cohort does today is not known before its close: what has come counts for no more than is left of it if
/// the cohort did as much more than usual as on any day lately.
fn fill(
    expected: &mut Expected,
    account: &Account,
    policy: &Compiled,
    cohort: &mut Cohort,
    day: Day,
) -> Vec<usize> {
    let mut risen = Vec::new();
    for (place, &index) in expected.signals.iter().enumerate() {
        let (lane, normal) = (&mut expected.lanes[place], &expected.normals[place]);
        let (Some(open), Some(&usual)) = (lane.observed.first_mut(), lane.expected.first()) else {
            continue;
        };
        let key = policy.keys()[index];
        let count =
            open_count(account, policy, index, day).map(|count| count / caution(cohort, key, day));
        let found = count.and_then(|count| {
            if lane.law == Law::Normal {
                return Some((count - normal.level) / normal.spread).filter(|z| *z > 0.0);
            }
            let shares = (cohort.day_variance(key), expected.shared_variance);
            let (mean, _) = unscaled(lane.law, usual, shares);
            Some(count * usual / mean).filter(|scaled| *scaled > usual)
        });
        *open = found.unwrap_or(f64::NAN);
        risen.extend(found.map(|_| index));
    }
    risen
}

/// By how much the days of a cohort have exceeded what is usual for them lately, at most.
fn caution(cohort: &mut Cohort, key: SignalKey, day: Day) -> f64 {
    let days = (1..=CAUTION_DAYS).map(|back| day.plus(-back));
    let most = days.map(|day| cohort.factor(key, day) / cohort.usual(key, day).max(1e-9));
    most.fold(1.0, f64::max).min(CAUTION_MAX)
}
