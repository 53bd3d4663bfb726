//! How an account stands: what ranks risk, by its own days alone, for a learned scorecard.
//!
//! Deviations say what changed; level, trend, breadth and age say who leaves (`Scorer::horizon_days`). All windows scale with the horizon
//! of the outcome: half of it, the whole and twice it are the half-lives of exponentially weighted means, over the 128 days that are
//! kept. Readings are made when a day is judged, of closed days only; what is not known is missing, not zero. What the profile says of the
//! contract (its renewal, its value) is read as it is known then.

use serde::{Deserialize, Serialize};

use crate::account::{Account, Row, SignalKey};
use crate::calendar::without;
use crate::close::{rows, tenure_days};
use crate::event::Profile;
use crate::expect::{is_count, measured};
use crate::history::{Ring, mask};
use crate::output::Category;
use crate::points::Points;
use crate::policy::{Aggregate, Compiled, Signal};
use crate::step::Core;
use crate::time::Day;

/// One way in which accounts differ in how they stand. The order is that of persisted rows: new ones come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trait {
    /// Share of active days, half-life of half a horizon: 0 to 1.
    Activity,
    /// The same with a half-life of one horizon: 0 to 1.
    Habit,
    /// Mean logarithm of daily counts, half-life of half a horizon, minus that of two horizons; averaged over the counted signals.
    Trend,
    /// Distinct members active in the last 84 days.
    Members,
    /// Days as a customer.
    Maturity,
    /// Days from the end of the judged day until the profile's renewal; missing once that lies behind.
    Renewal,
    /// The profile's contracted value in US dollars a year.
    Value,
    /// Mean logarithm of what was paid on a day with payments, half-life of half a horizon, minus that of two horizons; averaged over the
    /// signals that add up amounts ([`is_amount`]).
    Spend,
}

impl Trait {
    /// All, in their order.
    pub const ALL: [Trait; 8] = [
        Trait::Activity,
        Trait::Habit,
        Trait::Trend,
        Trait::Members,
        Trait::Maturity,
        Trait::Renewal,
        Trait::Value,
        Trait::Spend,
    ];

    /// Its name in explanations and models.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Trait::Activity => "activity",
            Trait::Habit => "habit",
            Trait::Trend => "trend",
            Trait::Members => "members",
            Trait::Maturity => "maturity",
            Trait::Renewal => "renewal",
            Trait::Value => "value",
            Trait::Spend => "spend",
        }
    }

    /// The unit of its readings.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Trait::Activity | Trait::Habit => "share of active days",
            Trait::Trend => "change of mean log daily count",
            Trait::Members => "members active in 12 weeks",
            Trait::Maturity => "days as a customer",
            Trait::Renewal => "days until renewal",
            Trait::Value => "US dollars a year",
            Trait::Spend => "change of mean log amount",
        }
    }

    /// The category that its line belongs to.
    #[must_use]
    pub fn category(self) -> Category {
        match self {
            Trait::Activity | Trait::Habit | Trait::Trend => Category::Engagement,
            Trait::Members => Category::Adoption,
            Trait::Maturity | Trait::Renewal => Category::Relationship,
            Trait::Value | Trait::Spend => Category::Financial,
        }
    }

    /// Whether it is about the contract. A version from before there were such lines cannot read a row that has one, and where nothing of
    /// the contract is known a model is learned without them.
    #[must_use]
    pub fn is_of_contract(self) -> bool {
        match self {
            Trait::Activity | Trait::Habit | Trait::Trend | Trait::Members | Trait::Maturity => {
                false
            }
            Trait::Renewal | Trait::Value | Trait::Spend => true,
        }
    }
}

/// Days within which a member counts as active.
const MEMBER_DAYS: u32 = 84;

/// Readings in the order of [`Trait::ALL`]; NaN is missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing(pub [f64; Trait::ALL.len()]);

impl Standing {
    /// What of is known.
    #[must_use]
    pub fn get(&self, of: Trait) -> f64 {
        self.0[of as usize]
    }
}

/// A line of a learned score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What it is about.
    pub of: Trait,
    /// What was measured; none where it is missing.
    pub observed: Option<f64>,
    /// Points now.
    pub points: Points,
    /// Points in the last published record.
    pub published: Points,
}

/// How an account stands at the end of `day`, its newest closed one, for an outcome within `horizon_days` (at least 1).
#[must_use]
pub fn standing(account: &Account, policy: &Compiled, day: Day, horizon_days: u32) -> Standing {
    let horizon = f64::from(horizon_days.max(1));
    let [short, long, longest] = [horizon / 2.0, horizon, 2.0 * horizon];
    Standing([
        active_share(account, day, short),
        active_share(account, day, long),
        trend(account, policy, day, (short, longest)),
        members(account, policy, day),
        account.hot.first_event_at.map_or(f64::NAN, |_| tenure_days(account, day)),
        renewal_days(account, day),
        value_usd(account, day),
        spend(account, policy, day, (short, longest)),
    ])
}

/// Whether a signal adds up amounts of money: the sums of the financial category, but for those of things.
#[must_use]
pub fn is_amount(signal: &Signal) -> bool {
    signal.category == Category::Financial && signal.aggregate == Aggregate::Sum && !signal.counted
}

/// The profile as far as it is of the time: on the day on which `day` is judged, and not of later. Where history is read again, the topic of
/// profiles says what became of accounts since.
fn contract(account: &Account, day: Day) -> Option<&Profile> {
    let profile = account.profile.as_ref();
    profile.filter(|profile| account.zone().day(profile.as_of) <= day.plus(1))
}

/// A date that lies behind is that of a contract that was renewed or has ended: it says nothing of the next one.
fn renewal_days(account: &Account, day: Day) -> f64 {
    let renews_on = contract(account, day).and_then(|profile| profile.renews_on);
    let days = renews_on.map(|on| on.since(day.plus(1))).filter(|days| *days >= 0);
    days.map_or(f64::NAN, f64::from)
}

fn value_usd(account: &Account, day: Day) -> f64 {
    let value = contract(account, day).and_then(|profile| profile.annual_value_usd);
    value.filter(|value| value.is_finite() && *value >= 0.0).unwrap_or(f64::NAN)
}

/// Of days with a payment alone: whether bills come monthly or daily must not matter. A first payment has nothing to differ from.
fn spend(account: &Account, policy: &Compiled, day: Day, (short, long): (f64, f64)) -> f64 {
    let masked = account.masked_days(day);
    let (mut sum, mut signals) = (0.0, 0.0);
    for (signal, (_, ring)) in policy.signals.iter().zip(&account.history.rings) {
        if !is_amount(signal) {
            continue;
        }
        let paid = |back: &usize| measured(ring, masked, *back).is_some_and(|amount| amount > 0.0);
        if (0..ring.len()).filter(paid).count() < 2 {
            continue;
        }
        let log = |amount: f64| (amount > 0.0).then(|| amount.ln());
        let mean = |half_life| mean_log(ring, masked, ring.len(), half_life, log);
        let moved = mean(short) - mean(long);
        if moved.is_finite() {
            sum += moved;
            signals += 1.0;
        }
    }
    sum / signals
}

/// Share of active days since the first, the weight of a day halved every so many days. Announced days count neither way.
fn active_share(account: &Account, day: Day, half_life_days: f64) -> f64 {
    let Some(first) = account.hot.first_event_at.map(|at| account.zone().day(at)) else {
        return f64::NAN;
    };
    let (bits, gone) = without(account.hot.activity.seen_from(day), account.masked_days(day));
    let age = u32::try_from(day.since(first) + 1).unwrap_or(0).min(128);
    let age = age - (gone & mask(age)).count_ones();
    let (mut sum, mut weights) = (0.0, 0.0);
    for back in 0..age {
        let weight = (-f64::from(back) / half_life_days).exp2();
        weights += weight;
        sum += weight * f64::from(u8::from(bits >> back & 1 == 1));
    }
    sum / weights
}

/// By how much the counts of late differ from those of long, over the counted signals that have history.
fn trend(account: &Account, policy: &Compiled, day: Day, (short, long): (f64, f64)) -> f64 {
    let masked = account.masked_days(day);
    let (mut sum, mut signals) = (0.0, 0.0);
    for (index, signal) in policy.signals.iter().enumerate() {
        let (Some((_, ring)), Some(state)) =
            (account.history.rings.get(index), account.hot.signals.get(index))
        else {
            continue;
        };
        let Some(first) = state.first_day.filter(|_| is_count(signal)) else { continue };
        let age = usize::try_from(day.since(first) + 1).unwrap_or(0).min(ring.len());
        let log = |count: f64| Some(count.max(0.0).ln_1p());
        let mean = |half_life| mean_log(ring, masked, age, half_life, log);
        let moved = mean(short) - mean(long);
        if moved.is_finite() {
            sum += moved;
            signals += 1.0;
        }
    }
    sum / signals
}

/// The mean of what a logarithm makes of the last days, the weight of a day halved every so many days; NaN where it makes nothing of any.
fn mean_log(
    ring: &Ring,
    masked: u128,
    age: usize,
    half_life_days: f64,
    log: impl Fn(f64) -> Option<f64>,
) -> f64 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for back in 0..age {
        let Some(log) = measured(ring, masked, back).and_then(&log) else { continue };
        let weight = (-(back as f64) / half_life_days).exp2();
        weights += weight;
        sum += weight * log;
    }
    sum / weights
}

/// Distinct members, of the signal that counts them most widely; missing where no signal counts members.
fn members(account: &Account, policy: &Compiled, day: Day) -> f64 {
    let counted = policy.signals.iter().zip(policy.keys());
    let counted = counted.filter(|(signal, _)| signal.aggregate == Aggregate::DistinctMembers);
    counted.map(|(_, &key)| active_members(account, key, day)).fold(f64::NAN, f64::max)
}

fn active_members(account: &Account, key: SignalKey, day: Day) -> f64 {
    let active =
        rows(&account.activity, key).filter(|row| row.seen_from(day) & mask(MEMBER_DAYS) != 0);
    active.count() as f64
}

/// Lets the lines move back to nothing: those that were published are told of with the next record.
pub(crate) fn clear(account: &mut Account) {
    account.changed.note_if(Row::Standing, !account.standing.is_empty());
    account.standing.retain_mut(|line| {
        (line.points, line.observed) = (Points::ZERO, None);
        line.published != Points::ZERO
    });
}

/// The points of a scorecard for how an account stands on a judged day; none where it knows nothing of that.
pub(crate) fn points(
    core: &Core,
    account: &Account,
    cohort: &str,
    day: Day,
) -> Vec<(Trait, Points)> {
    let Some(horizon_days) = core.scorer.horizon_days() else { return Vec::new() };
    said(core, cohort, &standing(account, &core.policy, day, horizon_days))
}

/// What the scorecard says of how an account stands, as far as whoever reads the account's rows knows such lines.
fn said(core: &Core, cohort: &str, standing: &Standing) -> Vec<(Trait, Points)> {
    let mut points = core.scorer.standing(cohort, standing);
    points.retain(|(of, _)| !(core.is_for_older() && of.is_of_contract()));
    points
}

/// Renews the lines of an account whose `day` was judged.
pub(crate) fn renew(core: &Core, account: &mut Account, day: Day) {
    let Some(horizon_days) = core.scorer.horizon_days() else {
        // Another scorecard was in force: its lines move back to nothing.
        clear(account);
        return;
    };
    let standing = standing(account, &core.policy, day, horizon_days);
    let cohort = account.segment().unwrap_or_default();
    let points = said(core, cohort, &standing);
    let lines = Trait::ALL.into_iter().filter_map(|of| {
        let published =
            account.standing.iter().find(|line| line.of == of).map(|line| line.published);
        let now = points.iter().find(|(known, _)| *known == of).map(|(_, points)| *points);
        let line = Line {
            of,
            observed: Some(standing.get(of)).filter(|value| value.is_finite()),
            points: now.unwrap_or_default(),
            published: published.unwrap_or_default(),
        };
        // Of what the scorecard does not know, and of what is missing, there is no line but to tell that one is gone.
        let is_there = now.is_some() && line.observed.is_some();
        let is_told = line.points != Points::ZERO || line.published != Points::ZERO;
        (is_there || is_told).then_some(line)
    });
    let lines: Vec<Line> = lines.collect();
    if account.standing != lines {
        account.standing = lines;
        account.changed.note(Row::Standing);
    }
}

/// After a record was published.
pub(crate) fn remember_published(account: &mut Account) {
    for line in &mut account.standing {
        account.changed.note_if(Row::Standing, line.published != line.points);
        line.published = line.points;
    }
    let before = account.standing.len();
    account.standing.retain(|line| line.observed.is_some() || line.points != Points::ZERO);
    account.changed.note_if(Row::Standing, account.standing.len() != before);
}
