//! What is expected of an account: the level of each signal before the recent weeks, its weekdays, and what its days vary by.
//!
//! A count is expected to be `level x factor of the cohort's day x own weekday`. The level rests on the days before a guard (so that a
//! slow decline cannot hide in its own baseline) and, with less and less weight, on the year before those. Own weekdays are
//! shrunk toward the cohort's as far as they may be chance (James and Stein 1961, positive part).

use crate::account::{Account, SignalKey, SignalState};
use crate::cohort::{Cohort, Cohorts, DAY_VARIANCE_PRIOR, DaySum, Ratio, SETTLED_DAYS, Told};
use crate::forecast::Limits;
use crate::history::{Older, RING_DAYS, Ring};
use crate::month::{Measured, Months};
use crate::output::{ExpectedDay, SignalDay};
use crate::policy::{Aggregate, Compiled, Direction, Signal};
use crate::scan::{Lane, Law, SCAN_DAYS};
use crate::stats::{count_range, winsorised};
use crate::time::Day;

/// Days between the reference and today: for changes of some weeks, and for slow ones.
const GUARD_DAYS: (usize, usize) = (28, 56);
/// Days of reference that a level needs.
const REFERENCE_DAYS_MIN: usize = 14;
/// Days of the short level that a cohort's day is measured by, and how many of them it needs.
const SHORT_DAYS: (usize, usize) = (28, 7);
/// A count beyond so many times its expectation (and so many events) is cut: one odd day moves no level.
const CAP: (f64, f64) = (4.0, 4.0);
/// A week beyond so many standard deviations is a change.
const CHANGE_Z: f64 = 3.5;
/// Within so many standard deviations lie 95 in 100 days.
const WITHIN_Z: f64 = 1.96;
/// A week within so many standard deviations is one like others.
const USUAL_Z: f64 = 2.5;
/// Up to so many standard deviations from its former level an account speaks for its cohort in full, and from so many on hardly.
const OWN_WAY_Z: (f64, f64) = (0.3, 1.2);
/// What it says then still counts by so much: where all accounts wander, the cohort must not fall silent.
const OWN_WAY_SHARE: f64 = 0.02;

/// What is normal for one signal of an account.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normal {
    /// Expected value of an average day, in the signal's unit (for measurements: of any day).
    pub level: f64,
    /// Standard deviation of a day about it (measurements only; 0 for counts).
    pub spread: f64,
    /// Days of reference behind it.
    pub days: f64,
    /// By what the day after the newest differs from the same weekday before it, for its position in its month.
    pub month_ahead: f64,
}

/// Whether days of a signal are counts.
#[must_use]
pub fn is_count(signal: &Signal) -> bool {
    match signal.aggregate {
        Aggregate::Count
        | Aggregate::DistinctMembers
        | Aggregate::DistinctFeatures
        | Aggregate::Presence => true,
        Aggregate::Sum => signal.counted,
        Aggregate::Mean | Aggregate::Last => false,
    }
}

/// Whether a signal's days share the account's activity of the day.
pub(crate) fn is_shared(signal: &Signal) -> bool {
    signal.is_activity()
        && signal.direction == Direction::Down
        && matches!(signal.aggregate, Aggregate::Count | Aggregate::Sum)
}

/// What a day of an account adds to its cohort: counts over the short level.
pub fn contribute(account: &Account, policy: &Compiled, cohorts: &mut Cohorts, day: Day) {
    let name = account.segment();
    let masked = account.masked_days(day);
    let mut settled: Vec<(bool, f64, f64)> = Vec::new();
    let score = account.hot.published_score.map(|score| i64::from(score.0));
    let mut told = Told { score, ..Told::default() };
    for (index, signal) in policy.signals.iter().enumerate().filter(|(_, signal)| is_count(signal))
    {
        let Some((key, ring)) = account.history.rings.get(index) else { continue };
        let Some(state) = account.hot.signals.get(index) else { continue };
        let history = history_days(state, day, ring);
        if history < 8 + SHORT_DAYS.1 {
            continue;
        }
        let cohort = cohorts.named(name);
        let factors = cohort.factors(*key, day.plus(-1), ring.len());
        // Today's is only being told.
        let usual = cohort.precision(*key, day.plus(-7));
        let older = account.history.older(*key);
        let past = Past { ring, factors: &factors, history, older, masked, usual };
        let Some(level) = past.short_level(8) else { continue };
        // Of a masked day nothing, with no weight.
        let said = past.say(0).unwrap_or_default();
        let variance = DAY_VARIANCE_PRIOR;
        if let Some(settled) = past.say(SETTLED_DAYS) {
            told.settled.push((*key, settled));
        }
        // Of a day on which the cohort has settled: what is left when its factor is known.
        let residual = (history > SHORT_DAYS.0 + SETTLED_DAYS)
            .then(|| {
                let expected = level * past.factor(SETTLED_DAYS);
                let count = past.count(SETTLED_DAYS)?;
                let spread = (expected + variance * expected * expected).sqrt();
                let residual = (count - expected).clamp(-4.0 * spread, 4.0 * spread);
                Some((expected, residual))
            })
            .flatten();
        let mut sums = DaySum { weight: said.weight, relative: said.sum, ..DaySum::default() };
        if let Some((expected, residual)) = residual {
            // As much as it can say, so that large accounts do not decide alone.
            let weight = 1.0 / (1.0 + variance * expected).powi(2);
            let squares = expected * expected * weight;
            sums.excess.add((residual * residual - expected) * weight, squares);
            settled.push((is_shared(signal), expected, residual));
        }
        if let Some((sum, weight)) = past.settled_week() {
            told.drift.add(sum, weight);
        }
        told.signals.push((*key, sums));
    }
    let scale = |expected: f64| 1.0 / (1.0 + DAY_VARIANCE_PRIOR * expected);
    let shared: Vec<(f64, f64)> =
        settled.into_iter().filter(|one| one.0).map(|one| (one.1, one.2)).collect();
    for (index, &(expected, residual)) in shared.iter().enumerate() {
        for &(other, other_residual) in &shared[index + 1..] {
            let weight = scale(expected) * scale(other);
            told.shared.add(residual * other_residual * weight, expected * other * weight);
        }
    }
    cohorts.add(name, day, &told);
}

/// The days of a count before its newest one.
struct Past<'a> {
    ring: &'a Ring,
    /// The cohort's factors of the days before the newest, newest first.
    factors: &'a [f64],
    history: usize,
    older: Older,
    /// Days on which nothing is measured, newest in bit 0.
    masked: u128,
    /// What an account of the cohort can say of a day, on the average, where that is known: of the row of a week ago, which is told. What is
    /// said of a day and what settled of it go by rows of different weekdays; to take the day's own for both, against what the account does
    /// on that weekday, changed nothing (power of seeds 21 and 22) and follows a step of all less closely.
    usual: Option<f64>,
}

impl Past<'_> {
    fn factor(&self, back: usize) -> f64 {
        back.checked_sub(1).and_then(|at| self.factors.get(at)).copied().unwrap_or(1.0)
    }

    fn count(&self, back: usize) -> Option<f64> {
        measured(self.ring, self.masked, back).map(|count| count.max(0.0))
    }

    /// What the account says of the day `back` days ago: its count, and its level, both weighted by how much it can say.
    fn say(&self, back: usize) -> Option<Ratio> {
        // The level, the week that tells whether the account goes its own way, and the weight rest on different days: else the errors
        // that they share would add up, day by day, to a cohort that grows by itself.
        let level = self.short_level(back + 8)?;
        let count = self.count(back)?;
        let size = self.short_level(back + 8 + SHORT_DAYS.0).unwrap_or(level);
        let usual = self.is_usual(level, back);
        let weight = if usual { 1.0 / (1.0 + DAY_VARIANCE_PRIOR * size) } else { 0.0 };
        let weight = weight * self.own_way(level, back + 8) * self.say_of_its_size(size);
        let count = count.min(CAP.0 * level + CAP.1);
        Some(Ratio { sum: weight * count, weight: weight * level.max(1e-6) })
    }

    /// By how much a settled week differs from the weeks before it beyond chance, relative to its expectation: (sum, weight).
    fn settled_week(&self) -> Option<(f64, f64)> {
        let newest = SETTLED_DAYS;
        if self.history < newest + 7 + SHORT_DAYS.0 {
            return None;
        }
        let level = self.short_level(newest + 7)?;
        let variance = DAY_VARIANCE_PRIOR;
        let (mut count, mut expected, mut noise) = (0.0, 0.0, 0.0);
        for back in newest..newest + 7 {
            let mean = level * self.factor(back);
            count += self.count(back)?;
            expected += mean;
            noise += mean + variance * mean * mean;
        }
        // The level is no better known than its days allow.
        let squared = (expected * expected).max(1e-9);
        noise += squared * (variance + 1.0 / level.max(1e-3)) / SHORT_DAYS.0 as f64;
        // Beyond that it is a change, and no drift.
        let residual = count - expected;
        if residual * residual > CHANGE_Z * CHANGE_Z * noise {
            return None;
        }
        let weight = (0.01 / (0.01 + noise / squared)).powi(2);
        Some(((residual * residual - noise) / squared * weight, weight))
    }

    /// The level of the four weeks before the day `skip` days ago, by the factors of their days.
    fn short_level(&self, skip: usize) -> Option<f64> {
        let until = (skip + SHORT_DAYS.0).min(self.history).min(self.ring.len());
        let (mut count, mut exposure, mut days) = (0.0, 0.0, 0);
        for back in skip..until {
            let Some(value) = self.count(back) else { continue };
            count += value;
            exposure += self.factor(back);
            days += 1;
        }
        (days >= SHORT_DAYS.1 && exposure > 0.0).then(|| count / exposure)
    }

    /// How much an account says of its cohort, by how far its `level` of the four weeks before the day `skip` days ago is from the one
    /// before the eight weeks before: 1 where they are near, and less from there on, though it may be chance. Accounts that decline one by one
    /// would be taken for their cohort (at a fifth of them, it hid half of the others' declines); a descending weight is how M-estimators
    /// bound that (Hampel 1974). Bounds of 0.5 and 2 follow a step that all take a little closer (of 60 accounts, to 0.55 instead of 0.58 of
    /// 0.48), but find a hundredth fewer slow declines, with more false alerts.
    fn own_way(&self, level: f64, skip: usize) -> f64 {
        let reach = self.history.min(self.ring.len());
        let (mut count, mut exposure) = (f64::from(self.older.sum), f64::from(self.older.exposure));
        for back in skip + 2 * SHORT_DAYS.0..reach {
            let Some(value) = self.count(back) else { continue };
            count += value;
            exposure += self.factor(back);
        }
        if exposure < SHORT_DAYS.0 as f64 {
            return 1.0;
        }
        let former = (count + 0.5) / exposure;
        let day = DAY_VARIANCE_PRIOR + 1.0 / former;
        let days = SHORT_DAYS.0 as f64;
        let variance = former * former * (day / days + day / exposure) + days.powi(-2);
        let z = (level - former).abs() / variance.sqrt();
        ((OWN_WAY_Z.1 - z) / (OWN_WAY_Z.1 - OWN_WAY_Z.0)).clamp(OWN_WAY_SHARE, 1.0)
    }

    /// How much of what an account of that `size` (events a day) can say of a day counts: all of it where that is what its cohort's
    /// accounts can say on the average, below that in proportion. [`Past::own_way`] sees too late that a small account declines, and
    /// many small ones that do were taken for their cohort (of fleets of which a fifth declines, 47 of 100 declines were found in
    /// eight weeks, and 50 are with this). The measure is relative: where all accounts are small, they are all there is to know a day
    /// by. It only takes away: accounts that counted for more than they can say would make a day seem better known than it is, and
    /// chance the fleet's news.
    fn say_of_its_size(&self, size: f64) -> f64 {
        let precision = size / (1.0 + DAY_VARIANCE_PRIOR * size);
        self.usual.map_or(1.0, |usual| (precision / usual).min(1.0))
    }

    /// Whether the week before the day `before` days ago was one like others, in the measure of the cohort's days.
    fn is_usual(&self, level: f64, before: usize) -> bool {
        let (mut residual, mut variance) = (0.0, 0.0);
        for back in before + 1..=before + 7 {
            let Some(value) = self.count(back) else { continue };
            let mean = level * self.factor(back);
            residual += value - mean;
            variance += mean + DAY_VARIANCE_PRIOR * mean * mean;
        }
        // A little over nothing is as usual as nothing.
        residual * residual <= USUAL_Z * USUAL_Z * (variance + 1.0)
    }
}

/// The value of the day so many days before the newest closed one, where something was measured on it.
pub(crate) fn measured(ring: &Ring, masked: u128, back: usize) -> Option<f64> {
    ring.back(back).filter(|value| value.is_finite() && (back >= 128 || masked >> back & 1 == 0))
}

/// Days that tell what is normal: once a change is, nothing counts that came before.
pub(crate) fn normal_days(
    account: &Account,
    (key, state): (SignalKey, &SignalState),
    day: Day,
    ring: &Ring,
) -> usize {
    let history = history_days(state, day, ring);
    account
        .normal_since(key)
        .map_or(history, |since| history.min(usize::try_from(day.since(since) + 1).unwrap_or(0)))
}

pub(crate) fn history_days(state: &SignalState, day: Day, ring: &Ring) -> usize {
    let since = state.first_day.map_or(0, |first| day.since(first) + 1);
    usize::try_from(since).unwrap_or(0).min(ring.len().max(RING_DAYS))
}

/// The lanes of an account at the close of `day`, with the signal each stands for, and the variance of the shared factor.
#[derive(Debug, Clone)]
pub struct Expected {
    /// For the scan.
    pub lanes: Vec<Lane>,
    /// Index of the signal of each lane.
    pub signals: Vec<usize>,
    /// What is normal, per lane.
    pub normals: Vec<Normal>,
    /// See [`crate::scan::ScanRules::shared_variance`].
    pub shared_variance: f64,
    /// Counts expected on an average day, over all lanes.
    pub volume: f64,
}

/// The days that all signals that share the factor of the account's days are measured by (`rebaseline::together`).
struct Common {
    history: usize,
    held: u128,
}

impl Common {
    fn of(account: &Account, policy: &Compiled, day: Day) -> Common {
        let signals = policy.signals.iter().zip(policy.keys());
        let keys = signals.filter(|(signal, _)| is_shared(signal)).map(|(_, key)| *key);
        keys.fold(Common { history: usize::MAX, held: 0 }, |common, key| {
            let since = account.normal_since(key).map(|since| day.since(since) + 1);
            let days = since.map_or(usize::MAX, |days| usize::try_from(days).unwrap_or(0));
            let held = common.held | account.days_left_out(key, day).0;
            Common { history: common.history.min(days), held }
        })
    }
}

/// Prepares the scan of an account. Signals without enough reference have no lane.
pub fn expect(account: &Account, policy: &Compiled, cohorts: &mut Cohorts, day: Day) -> Expected {
    let cohort = cohorts.named(account.segment());
    let variation = cohort.variation();
    let mut expected = Expected {
        lanes: Vec::new(),
        signals: Vec::new(),
        normals: Vec::new(),
        shared_variance: variation.shared.max(1e-4),
        volume: 0.0,
    };
    let masked = account.masked_days(day);
    let common = Common::of(account, policy, day);
    let mut groups: Vec<&str> = Vec::new();
    let mut prepared_lanes: Vec<(usize, usize, Prepared<'_>)> = Vec::new();
    for (index, signal) in policy.signals.iter().enumerate() {
        let (Some((key, ring)), Some(state)) =
            (account.history.rings.get(index), account.hot.signals.get(index))
        else {
            continue;
        };
        // A presence counts as a group once it is an absence; until then its odd days say nothing.
        if signal.aggregate == Aggregate::Presence && state.evidence.is_none() {
            continue;
        }
        if !signal.is_evidence() {
            continue;
        }
        let mut history = normal_days(account, (*key, state), day, ring);
        let (mut held, over) = account.days_left_out(*key, day);
        if is_shared(signal) {
            (history, held) = (history.min(common.history), held | common.held);
        }
        let masked = masked | over;
        let older = account.history.older(*key);
        let group = groups.iter().position(|known| *known == signal.group).unwrap_or_else(|| {
            groups.push(&signal.group);
            groups.len() - 1
        });
        let prepared = if is_count(signal) {
            let factors = cohort.factors(*key, day, ring.len());
            let by_month = policy.models.months;
            let series = Counts { ring, factors, day, history, older, masked, held, by_month };
            let own = cohort.day_variance(*key);
            series.weekly(own).map(|weekly| Prepared::Counts(series, weekly, own))
        } else {
            measurements(ring, history, (masked, held), group, signal, policy)
                .map(Prepared::Measured)
        };
        prepared_lanes.extend(prepared.map(|prepared| (index, group, prepared)));
    }
    // One signal alone may differ at the edges of months by chance; those that share its days must not be measured otherwise then.
    let months = prepared_lanes.iter().filter_map(|(index, _, prepared)| match prepared {
        Prepared::Counts(_, weekly, _) if is_shared(&policy.signals[*index]) => weekly.months,
        Prepared::Counts(..) | Prepared::Measured(_) => None,
    });
    let shared_edges = months.fold([0.0_f64; 2], |most, months| {
        [0, 1].map(|half| most[half].max(months.strengths[half]))
    });
    for (index, group, prepared) in prepared_lanes {
        let signal = &policy.signals[index];
        let (lane, normal) = match prepared {
            Prepared::Measured(lane) => lane,
            Prepared::Counts(series, weekly, own) => {
                let shared = is_shared(signal);
                let law = if shared { Law::Shared } else { Law::Own(own) };
                let edges = shared.then_some(shared_edges);
                let variances = (own, variation.shared, variation.drift);
                expected.volume += weekly.reference.level;
                series.lane((group, signal), law, (&weekly, edges), variances)
            }
        };
        expected.lanes.push(lane);
        expected.signals.push(index);
        expected.normals.push(normal);
    }
    expected
}

/// A signal on its way to a lane.
enum Prepared<'a> {
    /// A count, and the variance of its days.
    Counts(Counts<'a>, Weekly, f64),
    /// What is measured.
    Measured((Lane, Normal)),
}

/// What is normal for a count, apart from months.
struct Weekly {
    guard: usize,
    reference: Reference,
    own: [f64; 7],
    months: Option<Measured>,
}

/// What every signal brought on `day`, the account's newest closed one, and what was to be expected of it. For figures.
#[must_use]
pub fn signal_days(
    account: &Account,
    policy: &Compiled,
    cohorts: &mut Cohorts,
    day: Day,
) -> Vec<SignalDay> {
    let expected = expect(account, policy, cohorts, day);
    let cohort = cohorts.named(account.segment());
    let mut days: Vec<SignalDay> = (0..policy.signals.len())
        .map(|index| {
            let ring = account.history.rings.get(index).map(|(_, ring)| ring);
            let value = ring.and_then(|ring| ring.back(0)).unwrap_or(f64::NAN);
            SignalDay { value, expected: None }
        })
        .collect();
    for ((lane, normal), &index) in
        expected.lanes.iter().zip(&expected.normals).zip(&expected.signals)
    {
        let own = cohort.day_variance(policy.keys()[index]);
        days[index].expected = lane.expected.first().map(|&scaled| match lane.law {
            Law::Normal => {
                let reach = WITHIN_Z * normal.spread;
                let (low, high) = (normal.level - reach, normal.level + reach);
                ExpectedDay { mean: normal.level, variance: normal.spread.powi(2), low, high }
            }
            Law::Own(_) | Law::Shared => {
                let (mean, variance) = unscaled(lane.law, scaled, (own, expected.shared_variance));
                counted(mean, variance, WITHIN_Z)
            }
        });
    }
    days
}

/// The mean of a count of which a lane holds what is left of it, and the variance of its factor.
pub(crate) fn unscaled(law: Law, scaled: f64, (own, shared): (f64, f64)) -> (f64, f64) {
    match law {
        Law::Own(variance) => (scaled, variance),
        Law::Shared | Law::Normal => {
            // Undoes the scale of `Counts::lane`.
            let extra = (own - shared).max(0.0);
            (scaled / (1.0 - extra * scaled).max(1e-6), own.max(shared))
        }
    }
}

fn counted(mean: f64, variance: f64, within_z: f64) -> ExpectedDay {
    let variance = mean + variance * mean * mean;
    let (low, high) = count_range(mean, variance, within_z);
    ExpectedDay { mean, variance, low, high }
}

/// What is to be expected of a lane on the day after `day`, the newest of the scan, within `reach` standard deviations.
pub(crate) fn next_day(
    expected: &Expected,
    lane: usize,
    (key, cohort): (SignalKey, &mut Cohort),
    (day, reach): (Day, f64),
) -> Option<Limits> {
    let (lane, normal) = (expected.lanes.get(lane)?, expected.normals.get(lane)?);
    let found = if lane.law == Law::Normal {
        let width = reach * normal.spread;
        let (low, high) = (normal.level - width, normal.level + width);
        ExpectedDay { mean: normal.level, variance: normal.spread.powi(2), low, high }
    } else {
        // The same weekday, by what the cohort is expected to do.
        let own = cohort.day_variance(key);
        let shares = (own, expected.shared_variance);
        let (mean, variance) = unscaled(lane.law, *lane.expected.get(6)?, shares);
        let ahead = cohort.factor(key, day.plus(1)) / cohort.factor(key, day.plus(-6));
        counted(mean * ahead * normal.month_ahead, variance, reach)
    };
    let (low, high) = (found.low.min(found.mean), found.high.max(found.mean));
    let [low, expected, high] = [low, found.mean, high].map(|value| value as f32);
    Some(Limits { low, expected, high })
}

/// The days of a count.
struct Counts<'a> {
    ring: &'a Ring,
    /// The cohort's factor of each day, newest first.
    factors: Vec<f64>,
    /// The newest day.
    day: Day,
    history: usize,
    older: Older,
    /// Days on which nothing is measured, newest in bit 0.
    masked: u128,
    /// Days that are no part of what is normal.
    held: u128,
    /// Whether days at the edges of months may be other than the rest.
    by_month: bool,
}

/// Sums over a reference.
struct Reference {
    level: f64,
    days: f64,
}

impl Counts<'_> {
    fn weekday(&self, back: usize) -> usize {
        self.day.plus(-(back as i32)).weekday()
    }

    fn day(&self, back: usize) -> Option<f64> {
        measured(self.ring, self.masked, back).map(|count| count.max(0.0))
    }

    /// A day that may tell what is normal.
    fn normal_day(&self, back: usize) -> Option<f64> {
        measured(self.ring, self.masked | self.held, back).map(|count| count.max(0.0))
    }

    /// The level before a guard: none with too little reference.
    fn reference(&self, guard: usize) -> Option<Reference> {
        let reach = self.history.min(self.ring.len());
        let sums = |cap: f64| {
            let (mut count, mut exposure, mut days) = (0.0, 0.0, 0.0);
            for back in guard..reach {
                let Some(value) = self.normal_day(back) else { continue };
                count += value.min(cap * self.factors[back] + CAP.1);
                exposure += self.factors[back];
                days += 1.0;
            }
            (count, exposure, days)
        };
        let (count, exposure, days) = sums(f64::INFINITY);
        if days < REFERENCE_DAYS_MIN as f64 {
            return None;
        }
        let first = (count + 0.5) / exposure.max(1e-9);
        let (count, _, _) = sums(CAP.0 * first);
        let (sum, more) = (f64::from(self.older.sum), f64::from(self.older.exposure));
        let level = (count + sum + 0.5) / (exposure + more).max(1e-9);
        Some(Reference { level, days: days + more })
    }

    /// Own weekdays relative to the cohort's, shrunk.
    fn weekdays(&self, level: f64, guard: usize, variance: f64) -> [f64; 7] {
        let (mut count, mut exposure, mut days) = ([0.0; 7], [0.0; 7], [0.0; 7]);
        for back in guard..self.history.min(self.ring.len()) {
            let Some(value) = self.normal_day(back) else { continue };
            let weekday = self.weekday(back);
            count[weekday] += value.min(CAP.0 * level * self.factors[back] + CAP.1);
            exposure[weekday] += self.factors[back];
            days[weekday] += 1.0;
        }
        let mut own = [1.0; 7];
        if days.iter().any(|&days| days < 2.0) {
            return own;
        }
        let mut noise = 0.0;
        let mut spread = 0.0;
        for weekday in 0..7 {
            own[weekday] = count[weekday] / (level * exposure[weekday]).max(1e-9);
            spread += (own[weekday] - 1.0).powi(2);
            noise += variance / days[weekday] + 1.0 / (level * exposure[weekday]).max(1e-9);
        }
        let kept = (1.0 - 5.0 / 7.0 * noise / spread.max(1e-12)).max(0.0);
        let (mut weighted, mut total) = (0.0, 0.0);
        for weekday in 0..7 {
            own[weekday] = (1.0 + kept * (own[weekday] - 1.0)).max(0.02);
            weighted += own[weekday] * exposure[weekday];
            total += exposure[weekday];
        }
        own.map(|weekday| weekday * total / weighted.max(1e-9))
    }

    /// What the reference tells of the days at the edges of months, relative to what is expected of them otherwise.
    fn months(&self, level: f64, guard: usize, own: &[f64; 7], variance: f64) -> Option<Measured> {
        if !self.by_month {
            return None;
        }
        let reach = guard..self.history.min(self.ring.len());
        let days: Vec<_> = reach
            .filter_map(|back| {
                let expected = level * self.factors[back] * own[self.weekday(back)];
                Some((self.day.plus(-(back as i32)), self.day(back)?, expected))
            })
            .collect();
        Measured::of(&days, variance)
    }

    /// What is expected of a day, relative to the level.
    fn usual(&self, back: usize, own: &[f64; 7], months: &Months) -> f64 {
        self.factors[back] * own[self.weekday(back)] * months.factor(self.day.plus(-(back as i32)))
    }

    /// Variance of the weekly level beyond what its days explain, and the weeks it rests on. By the middle week, so that one decline that
    /// was overcome is no habit.
    fn drift(
        &self,
        level: f64,
        guard: usize,
        usual: &dyn Fn(usize) -> f64,
        variance: f64,
    ) -> (f64, f64) {
        let reach = self.history.min(self.ring.len());
        let mut weeks: Vec<f64> = (guard..reach.saturating_sub(6))
            .step_by(7)
            .map(|back| {
                let (mut count, mut expected, mut noise) = (0.0, 0.0, 0.0);
                for day in back..back + 7 {
                    let mean = level * usual(day);
                    count += self.normal_day(day).unwrap_or(mean);
                    expected += mean;
                    noise += mean + variance * mean * mean;
                }
                let squared: f64 = count - expected;
                // The median of a squared normal deviate is 0.455.
                (squared * squared / 0.455 - noise) / (expected * expected).max(1e-9)
            })
            .collect();
        let count = weeks.len() as f64;
        (crate::stats::median(&mut weeks).unwrap_or(0.0), count)
    }

    /// What is normal, from days before a guard: none with too little reference.
    fn weekly(&self, variance: f64) -> Option<Weekly> {
        let guard = GUARD_DAYS.0.min(self.history / 3).max(1);
        let reference = self.reference(guard)?;
        let own = self.weekdays(reference.level, guard, variance);
        let months = self.months(reference.level, guard, &own, variance);
        Some(Weekly { guard, reference, own, months })
    }

    /// `edges`: how far the edges of months differ from the rest, where that is not for the signal alone to say.
    fn lane(
        &self,
        (group, signal): (usize, &Signal),
        law: Law,
        (weekly, edges): (&Weekly, Option<[f64; 2]>),
        (variance, shared, drift): (f64, f64, f64),
    ) -> (Lane, Normal) {
        let Weekly { guard, reference, own, months } = weekly;
        let (guard, level, young) = (*guard, reference.level, self.history / 3);
        let strengths = edges.or(months.map(|months| months.strengths)).unwrap_or_default();
        let months = Months::of(months.as_ref(), strengths);
        let usual = |back: usize| self.usual(back, own, &months);
        let long = self.reference(GUARD_DAYS.1.min(young.max(guard)));
        let (old_ratio, old_days) =
            long.map_or((1.0, reference.days), |long| (long.level / level, long.days));
        // What a signal varies by on its own account makes its counts say less: they are scaled down.
        let extra = if law == Law::Shared { (variance - shared).max(0.0) } else { 0.0 };
        let days = self.ring.len().min(SCAN_DAYS).min(self.history);
        let mut observed = Vec::with_capacity(days);
        let mut expected = Vec::with_capacity(days);
        for back in 0..days {
            let mean = (level * usual(back)).max(1e-4);
            let scale = 1.0 / (1.0 + extra * mean);
            observed.push(self.day(back).unwrap_or(f64::NAN) * scale);
            expected.push(mean * scale);
        }
        let (found, weeks) = self.drift(level, guard, &usual, variance);
        let day = variance + 1.0 / level.max(1e-4);
        // The account's own drift counts as far as it is better known than accounts of the cohort differ (empirical Bayes).
        let known = weeks * drift * drift;
        let share = known / (known + 6.0 * (day / 7.0).powi(2));
        let drift = (share * found + (1.0 - share) * drift).max(0.0);
        let lane = Lane {
            group,
            falls: signal.direction == Direction::Down,
            law,
            observed,
            expected,
            old_ratio,
            reference_days: (reference.days, old_days),
            drift: drift / day,
        };
        let factor = |ahead: i32| months.factor(self.day.plus(ahead));
        let month_ahead = factor(1) / factor(-6);
        (lane, Normal { level, spread: 0.0, days: reference.days, month_ahead })
    }
}

/// The lane of a signal that is measured, not counted: standardised about its robust level.
fn measurements(
    ring: &Ring,
    history: usize,
    (masked, held): (u128, u128),
    group: usize,
    signal: &Signal,
    policy: &Compiled,
) -> Option<(Lane, Normal)> {
    let reach = history.min(ring.len());
    let guard = GUARD_DAYS.0.min(history / 3).max(1);
    let reference: Vec<f64> =
        (guard..reach).filter_map(|back| measured(ring, masked | held, back)).collect();
    let days = reference.len() as f64;
    if reference.len() < REFERENCE_DAYS_MIN {
        return None;
    }
    let (level, variance) = winsorised(&reference, signal.spread_min)?;
    let expected = (policy.baseline.variation_prior * level).powi(2).max(signal.spread_min.powi(2));
    let prior = 7.0;
    let variance = ((variance * days + expected * prior) / (days + prior)).max(1e-12);
    // Measurements of neighbouring days are alike: what weeks vary by is taken from weeks.
    let weeks: Vec<f64> = (guard..reach)
        .step_by(7)
        .filter_map(|from| {
            let week: Vec<f64> = (from..(from + 7).min(reach))
                .filter_map(|back| measured(ring, masked | held, back))
                .collect();
            (!week.is_empty()).then(|| {
                let mean = week.iter().sum::<f64>() / week.len() as f64;
                (mean - level).powi(2) / variance - 1.0 / week.len() as f64
            })
        })
        .collect();
    let drift = (weeks.iter().sum::<f64>() / weeks.len().max(1) as f64).max(0.0);
    let spread = variance.sqrt();
    let observed: Vec<f64> = (0..ring.len().min(SCAN_DAYS).min(history))
        .map(|back| measured(ring, masked, back).map_or(f64::NAN, |value| (value - level) / spread))
        .collect();
    let lane = Lane {
        group,
        falls: signal.direction == Direction::Down,
        law: Law::Normal,
        expected: vec![1.0; observed.len()],
        observed,
        old_ratio: 1.0,
        reference_days: (days, days),
        drift,
    };
    Some((lane, Normal { level, spread, days, month_ahead: 1.0 }))
}
