//! The day close: a day of an account becomes history, every signal is judged against it, alerts are reviewed.
//!
//! Everything here is a function of the closed days, so that late events within grace lead to the same judgement
//! at the next close as if they had come in time.

use std::collections::BTreeMap;

use crate::absence::{Absence, judge_absence, quiet_evidence};
use crate::account::{Account, ActivityKey, Row, SignalKey, SignalState, segment};
use crate::alert::Restraint;
use crate::calendar::{WEEK_MASKED_MAX, carried, carried_values, without};
use crate::chance::Own;
use crate::cohort::Cohorts;
use crate::corroborate::{self, Alarm, Asked, Corroborated};
use crate::detect::{Deviation, Series};
use crate::expect::{self, Normal};
use crate::figure::{figure, figures, percent, unit_beside};
use crate::history::{Activity, DayTotals, MICROS, Older, RING_DAYS, Ring, mask};
use crate::intraday::Verdict;
use crate::output::{Evidence, Judged, Maturity, Output, Resolution};
use crate::points::Points;
use crate::policy::{Aggregate, Compiled, Direction, Signal};
use crate::rebaseline::Change;
use crate::scan::{Finding, Lane, Law};
use crate::score::{Context, Reading, is_presence};
use crate::step::Core;
use crate::time::{Day, MINUTE_MS, Millis};
use crate::{
    alert, example, feedback, forecast, publish, ranking, rebaseline, sequence, shadow, standing,
    tiers,
};

/// Days after its last interaction for which a run of interactions still counts.
const STREAK_DAYS: i32 = 14;

/// Closes the account's `today`: its values become history, and are added to its cohort's day. It is judged later, by [`judge_day`],
/// when the cohort has closed the day, too.
pub(crate) fn roll_day(core: &Core, account: &mut Account, cohorts: &mut Cohorts) {
    let day = account.hot.today;
    cohorts.calendar().tell(account, &core.policy.calendar, day);
    align_history(account, &core.policy);
    roll_history(account, &core.policy, cohorts, day);
    prune_activity(account, day);
    account.hot.streams.fade();
    account.hot.maturity = Some(judge_maturity(account, &core.policy, day));
    expect::contribute(account, &core.policy, cohorts, day);
    tiers::contribute(account, &core.policy, cohorts, day);
    let (distinct, masked) =
        (distinct_blocks(account, &core.policy, day), account.masked_days(day));
    for (index, signal) in core.policy.signals.iter().enumerate() {
        let Some((_, ring)) = account.history.rings.get(index) else { continue };
        let daily = unmasked(signal, ring, masked);
        let blocks = distinct.get(&index);
        let newest = blocks.and_then(|(weeks, _)| weeks.first().copied());
        set_window(
            signal,
            &mut account.hot.signals[index],
            &daily,
            newest,
            blocks.map(|(_, rest)| *rest),
        );
    }
    account.hot.today = day.plus(1);
    account.hot.today_ends_at = judged_at(account, &core.policy);
    account.changed.note(Row::Hot);
    account.changed.note(Row::History);
}

/// Whether the newest closed day waits for its judgement.
pub(crate) fn is_unjudged(account: &Account) -> bool {
    account.hot.today_ends_at < account.zone().day_start(account.hot.today.plus(1))
}

/// When the day before `today` is judged: some time after its end, spread over the accounts by a hash of their ids.
fn judged_at(account: &Account, policy: &Compiled) -> Millis {
    let spread = u64::from(policy.close.spread_minutes.max(1)) * MINUTE_MS.unsigned_abs();
    let share = xxhash_rust::xxh3::xxh3_64(account.id.as_str().as_bytes()) % spread;
    let settled = i64::from(policy.close.settle_minutes) * MINUTE_MS;
    let ended = account.zone().day_start(account.hot.today);
    // Days are at least 23 hours long, so this lies before the end of the next one.
    ended.plus(settled + share.cast_signed())
}

/// Judges the day before `today`. `at` is the event time of the judgement, for the records that it publishes.
pub(crate) fn judge_day(
    core: &Core,
    account: &mut Account,
    cohorts: &mut Cohorts,
    at: Millis,
    out: &mut Vec<Output>,
) {
    let day = account.hot.today.plus(-1);
    cohorts.calendar().tell(account, &core.policy.calendar, day);
    let settled = rebaseline::settle(account, &core.policy, day);
    // The policy may have changed since the day was closed.
    align_history(account, &core.policy);
    let distinct = distinct_blocks(account, &core.policy, day);
    for index in 0..core.policy.signals.len() {
        judge_signal(core, account, index, day, &distinct);
    }
    sequence::renew(core, account, day);
    context(core, account, day.max(account.hot.activity.newest));
    standing::renew(core, account, day);
    publish::rescore(account, &core.policy);
    // Before the scan lends signals its evidence: both sides see the same readings.
    shadow::follow(core, account, cohorts, (day, at), out);
    ranking::predict(core, account, cohorts.is_unranked(), day);
    example::follow(core, account, (day, at), out);
    account.hot.today_ends_at = account.zone().day_start(day.plus(2));
    account.changed.note(Row::Hot);
    let established = maturity(account) == Maturity::Established;
    let found = if established {
        let expected = expect::expect(account, &core.policy, cohorts, day);
        forecast::renew(core, account, cohorts, &expected, day);
        corroborate::judge(core, account, cohorts, expected, (day, at), Asked::Closed)
    } else {
        Corroborated::default()
    };
    for alarm in found.alarm.iter().chain(&found.rise) {
        take_evidence(account, &core.policy, alarm);
    }
    if let Some(observer) = &core.observer {
        let in_detail = observer.wants_detail(&account.id);
        if established || in_detail {
            let mut judged = Judged { day, ..found.judged(account, at) };
            if in_detail {
                judged.signals = expect::signal_days(account, &core.policy, cohorts, day);
            }
            observer.see(&judged);
        }
    }
    if established && found.held.is_none() && core.policy.calibration.learn {
        let cohort = cohorts.named(account.segment());
        let mut own = account.own.unwrap_or_else(|| Own::since(day));
        cohort.pass(&core.policy, &mut own, found.passed, day);
        if core.is_for_older() {
            own = own.for_older();
        }
        account.changed.note_if(Row::Own, account.own.replace(own) != Some(own));
    }
    let mut alerts = Vec::new();
    if let Some(urgent) = found.held
        && (urgent || alert::would_open(account, &core.policy))
        && account.hot.alerts.iter().all(|alert| core.policy.is_condition(&alert.kind))
    {
        cohorts.named(account.segment()).hold_back(day);
    }
    if settled {
        rebaseline::resolve(account, &core.policy, core.scorer.version(), at, &mut alerts);
    }
    feedback::follow(account, &core.policy.feedback, at);
    finish(core, account, cohorts, (&found, at), alerts, out);
    core.report(account, cohorts);
    rebaseline::follow(account, &core.policy, day);
}

/// Lets the signals of an alarm say what they do in its set; what a signal says for itself stays.
pub(crate) fn take_evidence(account: &mut Account, policy: &Compiled, alarm: &Alarm) {
    for item in &alarm.evidence {
        let known = policy.signals.iter().position(|signal| signal.name == item.signal);
        let state = known.and_then(|index| account.hot.signals.get_mut(index));
        let says_nothing = |state: &&mut SignalState| {
            state.evidence.as_ref().is_none_or(|own| item.risk && !own.risk)
        };
        if let Some(state) = state.filter(says_nothing) {
            state.evidence = Some(item.clone());
        }
    }
}

/// Reviews the alerts after a close, publishes, and lets a dormant account go.
fn finish(
    core: &Core,
    account: &mut Account,
    cohorts: &Cohorts,
    (found, at): (&Corroborated, Millis),
    mut alerts: Vec<Output>,
    out: &mut Vec<Output>,
) {
    let model = core.scorer.version();
    let restraint =
        Restraint { held: found.held.is_some(), sensitivity: found.sensitivity.clone() };
    match maturity(account) {
        Maturity::Established => {
            let when = (at, restraint.clone());
            alert::review(account, &core.policy, model, when, Some(found), &mut alerts);
        }
        // It came back after the day that made it dormant.
        Maturity::Dormant if silent_days(account, account.hot.today.plus(-1)) < 0 => {}
        Maturity::Dormant => {
            alert::resolve_all(account, &core.policy, model, at, Resolution::Dormant, &mut alerts);
            account.hot.scheduled = false;
        }
        Maturity::Learning | Maturity::Onboarding => {}
    }
    if account.hot.scheduled {
        let when = (at, restraint);
        alert::review_conditions(account, &core.policy, model, cohorts, when, &mut alerts);
    }
    let changed = !alerts.is_empty() || !account.hot.scheduled;
    publish::publish(account, &core.policy, model, at, changed, out);
    out.append(&mut alerts);
}

/// Maturity at the last day close.
#[must_use]
pub fn maturity(account: &Account) -> Maturity {
    account.hot.maturity.unwrap_or(Maturity::Learning)
}

fn judge_maturity(account: &Account, policy: &Compiled, day: Day) -> Maturity {
    let days = history_days(account);
    if days >= RING_DAYS && silent_days(account, day) >= RING_DAYS as i32 {
        Maturity::Dormant
    } else if days < usize::from(policy.maturity.learning_days) {
        Maturity::Learning
    } else if tenure_days(account, day) < f64::from(policy.maturity.onboarding_days) {
        Maturity::Onboarding
    } else {
        Maturity::Established
    }
}

/// Days since the last event that fed a signal, up to and including `day`.
fn silent_days(account: &Account, day: Day) -> i32 {
    account.hot.last_event_at.map_or(i32::MAX, |at| day.since(account.zone().day(at)))
}

fn history_days(account: &Account) -> usize {
    account.history.rings.first().map_or(0, |(_, ring)| ring.len())
}

pub(crate) fn tenure_days(account: &Account, day: Day) -> f64 {
    let zone = account.zone();
    let seen = account.hot.first_event_at.map(|at| zone.day(at));
    let started = account.profile.as_ref().and_then(|profile| profile.started_on);
    let start = match (started, seen) {
        (Some(started), Some(seen)) => started.min(seen),
        (Some(start), None) | (None, Some(start)) => start,
        (None, None) => day,
    };
    f64::from(day.since(start).max(0)) + 1.0
}

/// Gives every signal of the policy its ring, in policy order, all of one length.
fn align_history(account: &mut Account, policy: &Compiled) {
    let aligned = account.history.rings.len() == policy.keys().len()
        && account.history.rings.iter().zip(policy.keys()).all(|((have, _), want)| have == want);
    if aligned {
        return;
    }
    let days = history_days(account);
    let mut old: BTreeMap<SignalKey, Ring> =
        std::mem::take(&mut account.history.rings).into_iter().collect();
    account.history.rings = policy
        .keys()
        .iter()
        .map(|&key| {
            let ring = old.remove(&key).unwrap_or_else(|| {
                let mut ring = Ring::default();
                for _ in 0..days {
                    ring.push(f64::NAN);
                }
                ring
            });
            (key, ring)
        })
        .collect();
}

/// Brings the rings up to `day`, correcting the days that late events changed.
fn roll_history(account: &mut Account, policy: &Compiled, cohorts: &mut Cohorts, day: Day) {
    let segment = account.segment().map(str::to_owned);
    let history = &mut *account.history;
    let older = &mut history.older;
    let signals = &account.hot.signals;
    let first_open = signals.iter().flat_map(|state| &state.open).map(|(open, _)| *open).min();
    let newest = history.newest.unwrap_or_else(|| first_open.unwrap_or(day).min(day).plus(-1));
    let keep_from = day.plus(-policy.grace_days());
    for (index, signal) in policy.signals.iter().enumerate() {
        let (Some(state), Some((key, ring))) =
            (account.hot.signals.get_mut(index), history.rings.get_mut(index))
        else {
            continue;
        };
        if state.first_day.is_some() && counts_from_zero(signal) {
            zero_fill(ring);
        }
        let start = keep_from.max(newest.plus(1 - i32::try_from(ring.len()).unwrap_or(0)));
        let mut at = start.min(newest.plus(1));
        while at <= day {
            let back = usize::try_from(newest.since(at)).ok();
            let before = back.map_or_else(|| ring.back(0), |back| ring.back(back + 1));
            let value = day_value(signal, state, &account.activity, *key, at, before);
            let is_open = state.open.iter().any(|(open, _)| *open == at);
            // A gauge's late value holds on the days after it, too.
            let follows = signal.aggregate == Aggregate::Last && !value.is_nan();
            match back {
                None => {
                    let oldest = ring.roll(value).filter(|value| value.is_finite());
                    let gone = at.plus(-(RING_DAYS as i32));
                    let counts = expect::is_count(signal)
                        && !is_held(&account.changes, policy, *key, gone)
                        && !account.masked.iter().any(|span| span.holds(gone));
                    if let Some(count) = oldest.filter(|_| counts) {
                        let factor = cohorts.named(segment.as_deref()).factor(*key, gone);
                        add_older(older, *key, count, factor);
                    }
                }
                Some(back) if is_open || follows || is_distinct(signal) || is_presence(signal) => {
                    ring.amend(back, value);
                }
                Some(_) => {}
            }
            at = at.plus(1);
        }
        state.open.retain(|(open, _)| *open > keep_from);
    }
    history.newest = Some(day);
}

/// Whether a day is no part of what is normal for a signal.
fn is_held(changes: &[Change], policy: &Compiled, key: SignalKey, day: Day) -> bool {
    let concerns = |change: &Change| rebaseline::together(policy, change.signal, key);
    changes.iter().any(|change| change.leaves_out(day) && concerns(change))
}

fn add_older(older: &mut Vec<(SignalKey, Older)>, key: SignalKey, count: f64, factor: f64) {
    match older.iter_mut().find(|(known, _)| *known == key) {
        Some((_, older)) => older.add(count, factor),
        None => {
            let mut first = Older::default();
            first.add(count, factor);
            older.push((key, first));
        }
    }
}

/// Whether days without an event are zeros once the signal is known to be connected.
fn counts_from_zero(signal: &Signal) -> bool {
    matches!(signal.aggregate, Aggregate::Count | Aggregate::Sum) || is_distinct(signal)
}

fn is_distinct(signal: &Signal) -> bool {
    matches!(signal.aggregate, Aggregate::DistinctMembers | Aggregate::DistinctFeatures)
}

fn zero_fill(ring: &mut Ring) {
    let values = ring.values();
    if values.first().is_some_and(|value| value.is_nan()) {
        for (index, _) in values.iter().enumerate().filter(|(_, value)| value.is_nan()) {
            ring.amend(values.len() - 1 - index, 0.0);
        }
    }
}

/// The value of one day of a signal, `before` being that of the day before; NaN where nothing was measured.
fn day_value(
    signal: &Signal,
    state: &SignalState,
    activity: &BTreeMap<ActivityKey, Activity>,
    key: SignalKey,
    day: Day,
    before: Option<f64>,
) -> f64 {
    if state.first_day.is_none() {
        return f64::NAN;
    }
    let totals = state.open.iter().find(|(open, _)| *open == day).map(|(_, totals)| totals);
    match signal.aggregate {
        Aggregate::Count => totals.map_or(0.0, |totals| f64::from(totals.count)),
        Aggregate::Sum => totals.map_or(0.0, |totals| totals.sum_micros as f64 / MICROS),
        Aggregate::Mean => totals.map_or(f64::NAN, mean),
        Aggregate::Last => {
            totals.and_then(DayTotals::last).unwrap_or_else(|| before.unwrap_or(f64::NAN))
        }
        Aggregate::DistinctMembers | Aggregate::DistinctFeatures | Aggregate::Presence => {
            rows(activity, key).filter(|row| row.seen_from(day) & 1 == 1).count() as f64
        }
    }
}

fn mean(totals: &DayTotals) -> f64 {
    totals.sum_micros as f64 / MICROS / f64::from(totals.count.max(1))
}

pub(crate) fn rows(
    activity: &BTreeMap<ActivityKey, Activity>,
    key: SignalKey,
) -> impl Iterator<Item = &Activity> {
    let from = ActivityKey { signal: key, value: String::new() };
    activity.range(from..).take_while(move |(row, _)| row.signal == key).map(|(_, row)| row)
}

/// Drops the rows of members and features that were not seen for as long as the bitmap reaches.
fn prune_activity(account: &mut Account, day: Day) {
    let gone: Vec<ActivityKey> = account
        .activity
        .iter()
        .filter(|(_, row)| row.newest < day && row.seen_from(day) == 0)
        .map(|(key, _)| key.clone())
        .collect();
    for key in gone {
        account.activity.remove(&key);
        account.changed.activity.insert(key);
    }
}

/// Per distinct signal: the distinct count of each whole week, newest first, and of the last six days.
type DistinctBlocks = BTreeMap<usize, (Vec<f64>, f64)>;

fn distinct_blocks(account: &Account, policy: &Compiled, day: Day) -> DistinctBlocks {
    let weeks = history_days(account) / 7;
    let masked = account.masked_days(day);
    let mut blocks = BTreeMap::new();
    for (index, _) in policy.signals.iter().enumerate().filter(|(_, signal)| is_distinct(signal)) {
        let mut counts = vec![0.0; weeks];
        let mut recent = 0.0;
        for row in rows(&account.activity, policy.keys()[index]) {
            let bits = carried(row.seen_from(day), masked);
            for (week, count) in counts.iter_mut().enumerate() {
                if bits >> (7 * week) & mask(7) != 0 {
                    *count += 1.0;
                }
            }
            if bits & mask(6) != 0 {
                recent += 1.0;
            }
        }
        blocks.insert(index, (counts, recent));
    }
    blocks
}

/// The daily values of a signal, oldest first, as far as a whole week is made of them: a masked day of what adds up is as the same weekday
/// of the week before.
fn unmasked(signal: &Signal, ring: &Ring, masked: u128) -> Vec<f64> {
    let mut daily = ring.values();
    if counts_from_zero(signal) {
        return carried_values(daily, masked);
    }
    blank(&mut daily, masked);
    daily
}

/// On masked days nothing was measured.
fn blank(daily: &mut [f64], masked: u128) {
    for (back, value) in daily.iter_mut().rev().enumerate().take(RING_DAYS) {
        if masked >> back & 1 == 1 {
            *value = f64::NAN;
        }
    }
}

/// The weekly values of a signal, newest first.
fn weekly_values(signal: &Signal, daily: &[f64]) -> Vec<f64> {
    let adds_up = matches!(signal.aggregate, Aggregate::Count | Aggregate::Sum);
    daily
        .rchunks_exact(7)
        .map(|block| {
            let measured: Vec<f64> =
                block.iter().copied().filter(|value| value.is_finite()).collect();
            match (measured.is_empty(), adds_up) {
                (true, _) => f64::NAN,
                (false, true) if measured.len() < 7 => f64::NAN,
                (false, true) => measured.iter().sum(),
                (false, false) => measured.iter().sum::<f64>() / measured.len() as f64,
            }
        })
        .collect()
}

fn judge_signal(
    core: &Core,
    account: &mut Account,
    index: usize,
    day: Day,
    distinct: &DistinctBlocks,
) {
    let policy = &core.policy;
    let signal = &policy.signals[index];
    if is_presence(signal) {
        judge_presence(core, account, index, day);
        return;
    }
    let judged = maturity(account) != Maturity::Learning;
    let Some((_, ring)) = account.history.rings.get(index) else { return };
    let masked = account.masked_days(day);
    let mut weekly = distinct.get(&index).map_or_else(
        || weekly_values(signal, &unmasked(signal, ring, masked)),
        |(weeks, _)| weeks.clone(),
    );
    let key = policy.keys()[index];
    let (held, over) = account.days_left_out(key, day);
    let silent = masked | over;
    for (week, value) in weekly.iter_mut().enumerate().take(RING_DAYS / 7) {
        if (silent >> (7 * week) & mask(7)).count_ones() > WEEK_MASKED_MAX {
            *value = f64::NAN;
        }
    }
    let quiet = (is_distinct(signal) && judged && signal.direction == Direction::Down)
        .then(|| quiet_evidence(account, (signal, policy.keys()[index]), policy, day));
    let mut daily = ring.values();
    blank(&mut daily, silent);
    if let Some(since) = account.normal_since(key) {
        // Nothing counts that came before.
        let days = usize::try_from(day.since(since) + 1).unwrap_or(0);
        weekly.truncate(days / 7);
        daily.drain(..daily.len().saturating_sub(days));
    }
    let state = &mut account.hot.signals[index];
    let streak = state.evidence.take().filter(|evidence| {
        evidence.is_run()
            && state.recent.last().is_some()
            && day.since(evidence.onset) <= if signal.watched { 1 } else { STREAK_DAYS }
    });
    if state.first_day.is_none() || !judged {
        state.baseline = None;
        state.points = Points::ZERO;
        state.observed = weekly.first().copied().filter(|value| value.is_finite());
        state.evidence = streak;
        return;
    }
    let series = Series { daily: &daily, last_weekday: day.weekday(), weekly: &weekly, held };
    let judgement = core.detector.judge(signal, series, policy);
    state.baseline = judgement.baseline;
    let found = judgement
        .deviation
        .zip(judgement.baseline)
        .map(|(deviation, baseline)| evidence(signal, &deviation, baseline.level, day));
    let found = with_quiet(found, quiet.flatten());
    state.evidence = match (found, streak) {
        (Some(found), Some(streak)) if streak.z.abs() > found.z.abs() => Some(streak),
        (Some(found), _) => Some(found),
        (None, streak) => streak,
    };
    let cohort = segment(account.profile.as_ref(), &account.hot.segment).unwrap_or_default();
    refresh_points(core, cohort, signal, state, day);
}

/// What a signal says with what its members say one by one: the surer of the two speaks, and who went quiet is named.
fn with_quiet(found: Option<Evidence>, quiet: Option<Evidence>) -> Option<Evidence> {
    match (found, quiet) {
        (Some(found), Some(quiet)) if found.risk && found.z.abs() >= quiet.z.abs() => {
            let text = format!("{}; {}", found.text, quiet.text);
            Some(Evidence { text, ..found })
        }
        (found, quiet) => quiet.or(found),
    }
}

/// Stores what the rolling seven-day value needs until the next close.
fn set_window(
    signal: &Signal,
    state: &mut SignalState,
    daily: &[f64],
    distinct_week: Option<f64>,
    distinct_rest: Option<f64>,
) {
    let last: Vec<f64> = daily.iter().rev().take(7).copied().collect();
    let measured: Vec<f64> =
        last.iter().take(6).copied().filter(|value| value.is_finite()).collect();
    if let Some(rest) = distinct_rest {
        state.window_rest = rest;
        state.window_oldest = (distinct_week.unwrap_or(rest) - rest).max(0.0);
        return;
    }
    match signal.aggregate {
        Aggregate::Mean | Aggregate::Last => {
            state.window_rest = measured.iter().sum();
            state.window_oldest = measured.len() as f64;
        }
        Aggregate::Count
        | Aggregate::Sum
        | Aggregate::DistinctMembers
        | Aggregate::DistinctFeatures
        | Aggregate::Presence => {
            state.window_rest = measured.iter().sum();
            state.window_oldest =
                last.get(6).copied().filter(|value| value.is_finite()).unwrap_or(0.0);
        }
    }
}

/// The seven-day value as it stands: closed days, and the open one as soon as it exceeds the same weekday of the week
/// before. So a morning does not look like a fall, and every event counts at once. `day` is the newest closed day.
pub(crate) fn rolling_value(signal: &Signal, state: &SignalState, day: Day) -> Option<f64> {
    let open = || state.open.iter().filter(|(open, _)| *open > day).map(|(_, totals)| totals);
    match signal.aggregate {
        Aggregate::Count | Aggregate::DistinctMembers | Aggregate::DistinctFeatures => {
            let today: f64 = open().map(|totals| f64::from(totals.count)).sum();
            Some(state.window_rest + today.max(state.window_oldest))
        }
        Aggregate::Sum => {
            let today: f64 = open().map(|totals| totals.sum_micros as f64 / MICROS).sum();
            Some(state.window_rest + today.max(state.window_oldest))
        }
        Aggregate::Mean => {
            let today: Vec<f64> = open().map(mean).collect();
            let days = state.window_oldest + today.len() as f64;
            (days > 0.0).then(|| (state.window_rest + today.iter().sum::<f64>()) / days)
        }
        Aggregate::Last => open().rev().find_map(DayTotals::last).or_else(|| {
            (state.window_oldest > 0.0).then(|| state.window_rest / state.window_oldest)
        }),
        Aggregate::Presence => None,
    }
}

/// Sets all lines by the scorecard in force, from what was last measured.
pub(crate) fn rescore(core: &Core, account: &mut Account) {
    if account.hot.published_score.is_none() {
        return;
    }
    let day = account.hot.today.plus(-1);
    let cohort = account.segment().unwrap_or_default().to_owned();
    for (index, signal) in core.policy.signals.iter().enumerate() {
        if is_presence(signal) {
            judge_presence(core, account, index, day);
        } else {
            refresh_points(core, &cohort, signal, &mut account.hot.signals[index], day);
        }
    }
    sequence::renew(core, account, day);
    context(core, account, day.max(account.hot.activity.newest));
    standing::renew(core, account, day);
    publish::rescore(account, &core.policy);
}

/// Sets a signal's points from its rolling value: O(1). `day` is the newest closed day.
pub(crate) fn refresh_points(
    core: &Core,
    cohort: &str,
    signal: &Signal,
    state: &mut SignalState,
    day: Day,
) {
    let value = rolling_value(signal, state, day);
    state.observed = value.or(state.observed);
    state.points = signal_points(core, cohort, signal, state, value);
}

/// The points of a signal whose rolling value this is.
fn signal_points(
    core: &Core,
    cohort: &str,
    signal: &Signal,
    state: &SignalState,
    value: Option<f64>,
) -> Points {
    match (value, state.baseline) {
        (Some(value), Some(baseline)) => {
            let now = ((value - baseline.level) / baseline.spread)
                .clamp(-crate::stats::Z_MAX, crate::stats::Z_MAX);
            // A longer window may be surer than the last week, where both point the same way.
            let closed = state.evidence.as_ref().map_or(0.0, |evidence| evidence.z);
            let z = if closed * now > 0.0 && closed.abs() > now.abs() { closed } else { now };
            core.scorer.signal(cohort, signal, &Reading { value, baseline, z }, &core.policy)
        }
        _ => Points::ZERO,
    }
}

/// The points that a scorecard gives a signal of an account whose `day` was just judged, whoever judged it.
pub(crate) fn points_at(core: &Core, account: &Account, index: usize, day: Day) -> Points {
    let signal = &core.policy.signals[index];
    let cohort = account.segment().unwrap_or_default();
    if is_presence(signal) {
        return presence(core, account, index, day).points(core, cohort, signal);
    }
    let state = &account.hot.signals[index];
    signal_points(core, cohort, signal, state, rolling_value(signal, state, day))
}

/// What is known of the presence that a signal watches.
struct Presence {
    /// Days with somebody there, from the judged day back.
    bits: u128,
    history_days: u32,
    /// None where presence is not usual.
    absence: Option<Absence>,
    /// The absence, where it counts.
    counted: Option<Absence>,
}

impl Presence {
    fn points(&self, core: &Core, cohort: &str, signal: &Signal) -> Points {
        let z = self.absence.map(|_| self.counted.map_or(0.0, |absence| absence.z));
        z.map_or(Points::ZERO, |z| core.scorer.absence(cohort, signal, z))
    }
}

fn presence(core: &Core, account: &Account, index: usize, day: Day) -> Presence {
    let key = core.policy.keys()[index];
    let bits = rows(&account.activity, key).fold(0, |bits, row| bits | row.seen_from(day));
    // Who came back since the day ended is not absent.
    let back = rows(&account.activity, key).any(|row| row.newest > day);
    let learning = maturity(account) == Maturity::Learning;
    let (present, left_out) = without(bits, account.masked_days(day));
    let state = &account.hot.signals[index];
    let history =
        state.first_day.map_or(0, |first| u32::try_from(day.since(first) + 1).unwrap_or(0));
    let measured = history - (left_out & mask(history)).count_ones();
    let absence = judge_absence(present, measured, &core.policy).filter(|_| !learning);
    let counted = absence.filter(|absence| absence.counts && !back);
    Presence { bits, history_days: history, absence, counted }
}

/// How the text of an absence begins, and how it goes on after what a title says of it.
const ABSENT: &str = "no ";
const SINCE: &str = ", since ";

/// What a title says of an absence, e.g. `no administrator activity for 5 days`; none of other evidence.
pub(crate) fn absence_of(evidence: &Evidence) -> Option<&str> {
    let (absence, _) = evidence.text.split_once(SINCE)?;
    absence.starts_with(ABSENT).then_some(absence)
}

fn judge_presence(core: &Core, account: &mut Account, index: usize, day: Day) {
    let signal = &core.policy.signals[index];
    let found = presence(core, account, index, day);
    let cohort = segment(account.profile.as_ref(), &account.hot.segment).unwrap_or_default();
    let points = found.points(core, cohort, signal);
    let Presence { bits, history_days: history, absence, counted } = found;
    let days = u16::try_from(bits.trailing_zeros()).unwrap_or(0);
    let state = &mut account.hot.signals[index];
    state.observed = state.first_day.map(|_| f64::from((bits & mask(7)).count_ones()));
    state.baseline = absence.map(|absence| crate::account::StoredBaseline {
        level: absence.days_per_week,
        spread: 1.0,
        weeks: u16::try_from(history / 7).unwrap_or(u16::MAX),
    });
    state.points = points;
    state.evidence = counted
        .filter(|absence| absence.z.abs() >= core.policy.deviation.z_support)
        .map(|absence| Evidence {
            signal: signal.name.clone(),
            category: signal.category,
            group: signal.group.clone(),
            observed: 0.0,
            baseline: absence.days_per_week,
            unit: signal.unit.clone(),
            change_pct: Some(-100.0),
            z: absence.z,
            risk: true,
            onset: day.plus(1 - i32::from(days)),
            window_days: days,
            text: format!(
                "{ABSENT}{} for {} days{SINCE}{} (normally {} days a week)",
                signal.label,
                days,
                day.plus(1 - i32::from(days)),
                figure(absence.days_per_week)
            ),
        });
}

/// Words a deviation.
pub(crate) fn evidence(signal: &Signal, deviation: &Deviation, level: f64, day: Day) -> Evidence {
    let change_pct = (level.abs() > signal.spread_min.max(1e-9))
        .then(|| (deviation.observed - level) / level.abs() * 100.0);
    let risk = match signal.direction {
        Direction::Down => deviation.z < 0.0,
        Direction::Up => deviation.z > 0.0,
    };
    let onset = day.plus(-i32::from(deviation.onset_days_ago));
    let direction = if deviation.z < 0.0 { "fell" } else { "rose" };
    let change = change_pct.map_or(String::new(), |change| format!(" ({})", percent(change)));
    let (before, now) = figures(level, deviation.observed);
    let unit = unit_beside(&signal.label, &signal.unit);
    Evidence {
        signal: signal.name.clone(),
        category: signal.category,
        group: signal.group.clone(),
        observed: deviation.observed,
        baseline: level,
        unit: signal.unit.clone(),
        change_pct,
        z: deviation.z,
        risk,
        onset,
        window_days: deviation.window_weeks * 7,
        text: format!(
            "{} {direction} from {before} to {now}{unit}{change} since {onset}",
            signal.label
        ),
    }
}

/// Words what a signal says in a corroborated change.
pub(crate) fn evidence_of_scan(
    signal: &Signal,
    lane: &Lane,
    (normal, weekly): (Normal, Option<f64>),
    (finding, alone, dated): (&Finding, f64, Option<u16>),
    onset: Day,
) -> Evidence {
    let days = usize::from(finding.window_days);
    let (mut observed, mut expected, mut measured) = (0.0, 0.0, 0.0);
    for (value, mean) in lane.observed.iter().zip(&lane.expected).take(days) {
        if value.is_finite() {
            observed += value;
            expected += mean;
            measured += 1.0;
        }
    }
    // In the unit of the signal: sums of a week, distinct values of a week, a measurement.
    let baseline = match signal.aggregate {
        Aggregate::Mean | Aggregate::Last => normal.level,
        Aggregate::Count
        | Aggregate::Sum
        | Aggregate::Presence
        | Aggregate::DistinctMembers
        | Aggregate::DistinctFeatures => weekly.unwrap_or(normal.level * 7.0),
    };
    let unit = if normal.level.abs() > 1e-9 { baseline / normal.level } else { 1.0 };
    let (now, below) = match lane.law {
        Law::Normal => {
            let shift = observed / f64::max(measured, 1.0);
            (baseline + shift * normal.spread * unit, shift < 0.0)
        }
        Law::Shared | Law::Own(_) if observed > expected => {
            // Two where a hundredth was expected is more, and nobody knows how much: one and one are added, as a gamma prior would.
            (baseline * (observed + 1.0) / (expected + 1.0), false)
        }
        Law::Shared | Law::Own(_) => (baseline * observed / f64::max(expected, 1e-9), true),
    };
    let z = (2.0 * alone.max(0.0)).sqrt().min(crate::stats::Z_MAX) * if below { -1.0 } else { 1.0 };
    let weeks = u16::try_from(days.div_ceil(7)).unwrap_or(1);
    let onset_days_ago = dated.unwrap_or(finding.window_days - 1);
    let deviation = Deviation { z, observed: now, window_weeks: weeks, onset_days_ago };
    let newest = onset.plus(i32::from(finding.window_days) - 1);
    Evidence { window_days: finding.window_days, ..evidence(signal, &deviation, baseline, newest) }
}

/// Words a single value of a watched signal.
pub(crate) fn evidence_of_value(
    signal: &Signal,
    value: f64,
    verdict: &Verdict,
    day: Day,
) -> Evidence {
    let below = value < verdict.expected;
    // The deviation that a normal distribution has as rarely, about.
    let z = (2.0 * std::f64::consts::LN_10 * verdict.surprise).sqrt().min(crate::stats::Z_MAX);
    let change_pct = (verdict.expected.abs() > signal.spread_min.max(1e-9))
        .then(|| (value - verdict.expected) / verdict.expected.abs() * 100.0);
    let (usual, now) = figures(verdict.expected, value);
    let unit = unit_beside(&signal.label, &signal.unit);
    Evidence {
        signal: signal.name.clone(),
        category: signal.category,
        group: signal.group.clone(),
        observed: value,
        baseline: verdict.expected,
        unit: signal.unit.clone(),
        change_pct,
        z: if below { -z } else { z },
        risk: below == (signal.direction == Direction::Down),
        onset: day,
        window_days: 0,
        text: format!(
            "{} {} to {now}{unit}, where about {usual} is usual",
            signal.label,
            if below { "fell" } else { "rose" },
        ),
    }
}

/// Sets the lines that are no signals, as of `day`.
pub(crate) fn context(core: &Core, account: &mut Account, day: Day) {
    account.hot.context_points = context_points(core, account, day);
}

/// The points of the lines that are no signals, as of `day`.
pub(crate) fn context_points(core: &Core, account: &Account, day: Day) -> [Points; 3] {
    let (bits, _) = without(account.hot.activity.seen_from(day), account.masked_days(day));
    let tenure = tenure_days(account, day);
    // Whoever was never active by these events is not silent: nothing is known (missing is not zero).
    let quiet = if account.hot.activity.bits == 0 { 0.0 } else { f64::from(bits.trailing_zeros()) };
    let context = Context {
        quiet_days: quiet,
        active_days: f64::from((bits & mask(28)).count_ones()),
        tenure_days: tenure,
        settled: (tenure / f64::from(core.policy.maturity.onboarding_days)).clamp(0.0, 1.0),
    };
    core.scorer.context(&context, &core.policy)
}

/// What a context line measured, for the explanation: the `index` is that of `CONTEXT_LINES`.
pub(crate) fn context_value(account: &Account, index: usize) -> Option<f64> {
    let day = account.hot.today.plus(-1).max(account.hot.activity.newest);
    let (bits, _) = without(account.hot.activity.seen_from(day), account.masked_days(day));
    match index {
        0 => (account.hot.activity.bits != 0).then(|| f64::from(bits.trailing_zeros())),
        1 => Some(f64::from((bits & mask(28)).count_ones())),
        _ => Some(tenure_days(account, day)),
    }
}
