//! The hot row in format 4: what it is in format 2, with its numbers in bits, and what follows from others as one bit.

use bellwether_core::account::{Backfill, Hot, SignalKey, SignalState, StoredBaseline};
use bellwether_core::alert::OpenAlert;
use bellwether_core::event::OutcomeKind;
use bellwether_core::history::DayTotals;
use bellwether_core::output::{Band, Evidence, Maturity};
use bellwether_core::points::Points;
use bellwether_core::streams::Streams;
use bellwether_core::time::{DAY_MS, Day, Millis};

use super::bits::{BitReader, BitWriter, rice_parameter};
use super::hot::day_before;
use super::numbers::about;
use super::{MICROS, Reader, Writer, unzigzag, zigzag};
use crate::format::{Row, V2};

/// Open days that are written as one bit each begin so many days before `today`.
const NEAR_BEGIN: i64 = 5;
/// And so many of them there are.
const NEAR_DAYS: u32 = 8;

/// What the row has beside its numbers, as a rule nothing: the filling in of history, alerts, what was resolved, an outcome, and evidence
/// with the places of its signals.
type Rare = (
    Option<Backfill>,
    Vec<OpenAlert>,
    Vec<(String, Millis)>,
    Option<(OutcomeKind, Millis)>,
    Vec<(u32, Evidence)>,
);

pub(super) fn pack(hot: &Hot, out: &mut Writer) {
    out.text(&hot.policy_version);
    out.plain(&hot.segment);
    let places = (0..).zip(&hot.signals);
    let evidence = places.filter_map(|(place, signal)| Some((place, signal.evidence.as_ref()?)));
    let evidence: Vec<(u32, &Evidence)> = evidence.collect();
    let rare = (&hot.backfill, &hot.alerts, &hot.resolved, &hot.outcome, &evidence);
    let is_there = hot.backfill.is_some()
        || !hot.alerts.is_empty()
        || !hot.resolved.is_empty()
        || hot.outcome.is_some()
        || !evidence.is_empty();
    if is_there {
        out.plain(&rare)
    } else {
        out.uint(0)
    }
    hot.activity.pack(out, V2);
    out.uint(hot.signals.len() as u64);
    hot.signals.iter().for_each(|signal| out.key(signal.key));
    let mut bits = BitWriter::default();
    pack_head(hot, &mut bits);
    pack_streams(&hot.streams, &mut bits);
    let nothing = SignalState::default();
    let mut before = &nothing;
    for signal in &hot.signals {
        pack_signal(signal, before, (hot.today, base(hot)), &mut bits);
        before = signal;
    }
    out.bytes(&bits.into_bytes());
}

pub(super) fn unpack(input: &mut Reader<'_>) -> Option<Hot> {
    let mut hot = Hot { policy_version: input.text()?, segment: input.plain()?, ..Hot::default() };
    let mut evidence = Vec::new();
    if input.0.first() == Some(&0) {
        input.byte()?;
    } else {
        let rare: Rare = input.plain()?;
        (hot.backfill, hot.alerts, hot.resolved, hot.outcome, evidence) = rare;
    }
    hot.activity = Row::unpack(input, V2)?;
    let mut keys: Vec<SignalKey> = Vec::new();
    for _ in 0..input.uint()? {
        keys.push(input.key()?);
    }
    let mut bits = BitReader::new(std::mem::take(&mut input.0));
    unpack_head(&mut hot, &mut bits)?;
    hot.streams = unpack_streams(&mut bits)?;
    hot.signals.reserve_exact(keys.len());
    let nothing = SignalState::default();
    for key in keys {
        let before = hot.signals.last().unwrap_or(&nothing);
        let signal = unpack_signal(key, before, (hot.today, base(&hot)), &mut bits)?;
        hot.signals.push(signal);
    }
    for (place, evidence) in evidence {
        hot.signals.get_mut(usize::try_from(place).ok()?)?.evidence = Some(evidence);
    }
    bits.is_done().then_some(hot)
}

/// What times are differences to.
fn base(hot: &Hot) -> i64 {
    hot.last_event_at.unwrap_or_default().0
}

fn day_of(at: i64) -> i64 {
    at.div_euclid(DAY_MS)
}

/// When a day ends in UTC.
fn end(day: Day) -> i64 {
    (i64::from(day.0) + 1) * DAY_MS
}

fn pack_head(hot: &Hot, bits: &mut BitWriter) {
    let base = base(hot);
    pack_option(bits, hot.last_event_at, 0);
    pack_option(bits, hot.first_event_at, base);
    pack_option(bits, hot.held_until, base);
    bits.signed(i64::from(hot.today.0) - day_of(base));
    bits.time(hot.today_ends_at, end(hot.today));
    bits.flag(hot.scheduled);
    bits.put(maturity_code(hot.maturity), 3);
    hot.context_points.iter().for_each(|points| bits.signed(points.0.into()));
    let same = hot.context_published == hot.context_points;
    bits.flag(same);
    if !same {
        hot.context_published.iter().for_each(|points| bits.signed(points.0.into()));
    }
    bits.signed(hot.score.0.into());
    bits.flag(hot.published_score.is_some());
    if let Some(published) = hot.published_score {
        bits.signed(i64::from(published.0) - i64::from(hot.score.0));
    }
    bits.put(band_code(hot.published_band), 2);
    bits.signed(hot.published_base.0.into());
    bits.sized(hot.sequence);
}

fn unpack_head(hot: &mut Hot, bits: &mut BitReader<'_>) -> Option<()> {
    hot.last_event_at = unpack_option(bits, 0)?;
    let base = base(hot);
    hot.first_event_at = unpack_option(bits, base)?;
    hot.held_until = unpack_option(bits, base)?;
    hot.today = Day(i32::try_from(bits.signed()?.checked_add(day_of(base))?).ok()?);
    hot.today_ends_at = bits.time(end(hot.today))?;
    hot.scheduled = bits.flag()?;
    hot.maturity = maturity_of(bits.take(3)?)?;
    for points in &mut hot.context_points {
        *points = unpack_points(bits, 0)?;
    }
    hot.context_published = hot.context_points;
    if !bits.flag()? {
        for points in &mut hot.context_published {
            *points = unpack_points(bits, 0)?;
        }
    }
    hot.score = unpack_points(bits, 0)?;
    if bits.flag()? {
        hot.published_score = Some(unpack_points(bits, hot.score.0)?);
    }
    hot.published_band = band_of(bits.take(2)?);
    hot.published_base = unpack_points(bits, 0)?;
    hot.sequence = bits.sized()?;
    Some(())
}

/// Points as a difference to others.
fn unpack_points(bits: &mut BitReader<'_>, to: i32) -> Option<Points> {
    let points = bits.signed()?.checked_add(to.into())?;
    i32::try_from(points).ok().map(Points)
}

fn pack_option(bits: &mut BitWriter, at: Option<Millis>, base: i64) {
    bits.flag(at.is_some());
    if let Some(at) = at {
        bits.time(at, base);
    }
}

fn unpack_option(bits: &mut BitReader<'_>, base: i64) -> Option<Option<Millis>> {
    if bits.flag()? { bits.time(base).map(Some) } else { Some(None) }
}

fn maturity_code(maturity: Option<Maturity>) -> u64 {
    match maturity {
        None => 0,
        Some(Maturity::Learning) => 1,
        Some(Maturity::Onboarding) => 2,
        Some(Maturity::Established) => 3,
        Some(Maturity::Dormant) => 4,
    }
}

fn maturity_of(code: u64) -> Option<Option<Maturity>> {
    let all = [Maturity::Learning, Maturity::Onboarding, Maturity::Established, Maturity::Dormant];
    let known = [None].into_iter().chain(all.map(Some));
    known.into_iter().find(|maturity| maturity_code(*maturity) == code)
}

fn band_code(band: Option<Band>) -> u64 {
    match band {
        None => 0,
        Some(Band::AtRisk) => 1,
        Some(Band::Neutral) => 2,
        Some(Band::Healthy) => 3,
    }
}

fn band_of(code: u64) -> Option<Band> {
    [Band::AtRisk, Band::Neutral, Band::Healthy]
        .into_iter()
        .find(|band| band_code(Some(*band)) == code)
}

/// Sets of one signal are told by its place; their numbers are about as large as each other.
fn pack_streams(streams: &Streams, bits: &mut BitWriter) {
    let parts = streams.parts();
    bits.rice(parts.len() as u64, 4);
    let steps = std::iter::once(0).chain(parts.iter().map(|(_, weight)| *weight));
    let steps = steps.zip(parts).map(|(before, (_, weight))| step(before, *weight));
    let k = rice_parameter(steps.clone().map(u128::from).sum(), parts.len());
    bits.put(k.into(), 6);
    for ((mask, _), step) in parts.iter().zip(steps) {
        bits.flag(mask.is_power_of_two());
        if mask.is_power_of_two() {
            bits.put(mask.trailing_zeros().into(), 6);
        } else {
            bits.sized(*mask);
        }
        bits.rice(step, k);
    }
}

fn unpack_streams(bits: &mut BitReader<'_>) -> Option<Streams> {
    let count = bits.rice(4)?;
    let k = u32::try_from(bits.take(6)?).ok()?;
    let mut parts: Vec<(u64, u64)> = Vec::new();
    let mut before = 0_u64;
    for _ in 0..count {
        let mask = if bits.flag()? { 1 << bits.take(6)? } else { bits.sized()? };
        before = before.wrapping_add_signed(unzigzag(bits.rice(k)?));
        parts.push((mask, before));
    }
    Some(parts.into())
}

/// From one number to the next, in the one direction or in the other.
fn step(before: u64, weight: u64) -> u64 {
    zigzag(weight.wrapping_sub(before).cast_signed())
}

/// What a day is expected to bring, as far as the baseline says.
fn daily(signal: &SignalState) -> f64 {
    signal.baseline.map_or(1.0, |baseline| baseline.level / 7.0)
}

fn weekly(signal: &SignalState) -> f64 {
    signal.baseline.map_or(1.0, |baseline| baseline.level)
}

fn pack_signal(
    signal: &SignalState,
    before: &SignalState,
    (today, base): (Day, i64),
    bits: &mut BitWriter,
) {
    pack_baseline(signal.baseline, before.baseline, bits);
    let same = signal.first_day == before.first_day;
    bits.flag(same);
    if !same {
        bits.flag(signal.first_day.is_some());
        if let Some(day) = signal.first_day {
            bits.signed(i64::from(today.0) - i64::from(day.0));
        }
    }
    pack_open(signal, before, (today, base), bits);
    bits.float(signal.window_rest, about(weekly(signal)));
    bits.float(signal.window_oldest, about(daily(signal)));
    pack_observed(signal, today, bits);
    bits.rice(zigzag(signal.points.0.into()), points_k(before));
    bits.flag(signal.published == signal.points);
    if signal.published != signal.points {
        bits.signed(i64::from(signal.published.0) - i64::from(signal.points.0));
    }
    bits.flag(signal.recent.is_empty());
    if !signal.recent.is_empty() {
        bits.rice(signal.recent.len() as u64, 1);
        let mut later = base;
        for (at, value) in signal.recent.iter().rev() {
            bits.time(*at, later);
            bits.float(*value, 2);
            later = at.0;
        }
    }
}

fn unpack_signal(
    key: SignalKey,
    before: &SignalState,
    (today, base): (Day, i64),
    bits: &mut BitReader<'_>,
) -> Option<SignalState> {
    let mut signal = SignalState { key, ..SignalState::default() };
    signal.baseline = unpack_baseline(before.baseline, bits)?;
    signal.first_day = before.first_day;
    if !bits.flag()? {
        signal.first_day =
            if bits.flag()? { Some(day_before(today, bits.signed()?)?) } else { None };
    }
    signal.open = unpack_open(&signal, before, (today, base), bits)?;
    signal.window_rest = bits.float(about(weekly(&signal)))?;
    signal.window_oldest = bits.float(about(daily(&signal)))?;
    signal.observed = unpack_observed(&signal, today, bits)?;
    signal.points = Points(i32::try_from(unzigzag(bits.rice(points_k(before))?)).ok()?);
    signal.published = signal.points;
    if !bits.flag()? {
        signal.published = unpack_points(bits, signal.points.0)?;
    }
    if !bits.flag()? {
        let mut later = base;
        for _ in 0..bits.rice(1)? {
            let at = bits.time(later)?;
            signal.recent.push((at, bits.float(2)?));
            later = at.0;
        }
        signal.recent.reverse();
    }
    Some(signal)
}

fn points_k(before: &SignalState) -> u32 {
    about(f64::from(before.points.0).abs()).max(4)
}

fn pack_baseline(
    baseline: Option<StoredBaseline>,
    before: Option<StoredBaseline>,
    bits: &mut BitWriter,
) {
    bits.flag(baseline.is_some());
    let Some(StoredBaseline { level, spread, weeks }) = baseline else { return };
    let same = before.is_some_and(|before| before.weeks == weeks);
    bits.flag(same);
    if !same {
        bits.put(weeks.into(), 16);
    }
    bits.mean(level, f64::from(weeks.max(1)));
    bits.root(spread, level);
}

fn unpack_baseline(
    before: Option<StoredBaseline>,
    bits: &mut BitReader<'_>,
) -> Option<Option<StoredBaseline>> {
    if !bits.flag()? {
        return Some(None);
    }
    let weeks = if bits.flag()? { before?.weeks } else { u16::try_from(bits.take(16)?).ok()? };
    let level = bits.mean(f64::from(weeks.max(1)))?;
    let spread = bits.root(level)?;
    Some(Some(StoredBaseline { level, spread, weeks }))
}

fn pack_open(
    signal: &SignalState,
    before: &SignalState,
    (today, base): (Day, i64),
    bits: &mut BitWriter,
) {
    let days = || signal.open.iter().map(|(day, _)| *day);
    let same = days().eq(before.open.iter().map(|(day, _)| *day));
    bits.flag(same);
    if !same {
        let mask = near_days(days(), today);
        bits.flag(mask.is_some());
        match mask {
            Some(mask) => bits.put(mask, NEAR_DAYS),
            None => {
                bits.rice(signal.open.len() as u64, 1);
                days().for_each(|day| bits.signed(i64::from(today.0) - i64::from(day.0)));
            }
        }
    }
    let k = about(daily(signal));
    let mut count = 1;
    for (_, totals) in &signal.open {
        bits.rice(totals.count.into(), about(f64::from(count)));
        count = totals.count;
        bits.sum(totals.sum_micros, count, k);
        let last = (totals.last_micros, totals.last_at);
        bits.flag(last == (0, Millis(0)));
        if last != (0, Millis(0)) {
            bits.sum(totals.last_micros.into(), 1, k);
            bits.time(totals.last_at, base);
        }
    }
}

fn unpack_open(
    signal: &SignalState,
    before: &SignalState,
    (today, base): (Day, i64),
    bits: &mut BitReader<'_>,
) -> Option<Vec<(Day, DayTotals)>> {
    let mut open: Vec<(Day, DayTotals)> = Vec::new();
    let mut push = |day| open.push((day, DayTotals::default()));
    if bits.flag()? {
        before.open.iter().for_each(|(day, _)| push(*day));
    } else if bits.flag()? {
        let mask = bits.take(NEAR_DAYS)?;
        for place in (0..NEAR_DAYS).filter(|place| mask >> place & 1 == 1) {
            push(day_before(today, NEAR_BEGIN - i64::from(place))?);
        }
    } else {
        for _ in 0..bits.rice(1)? {
            push(day_before(today, bits.signed()?)?);
        }
    }
    let k = about(daily(signal));
    let mut count = 1;
    for (_, totals) in &mut open {
        count = u32::try_from(bits.rice(about(f64::from(count)))?).ok()?;
        let sum_micros = bits.sum(count, k)?;
        *totals = DayTotals { count, sum_micros, ..DayTotals::default() };
        if !bits.flag()? {
            totals.last_micros = i64::try_from(bits.sum(1, k)?).ok()?;
            totals.last_at = bits.time(base)?;
        }
    }
    Some(open)
}

/// The days as bits, where they rise and are near `today`.
fn near_days(days: impl Iterator<Item = Day>, today: Day) -> Option<u64> {
    let mut mask = 0;
    for day in days {
        let place = i64::from(day.0) - i64::from(today.0) + NEAR_BEGIN;
        let bit = u32::try_from(place).ok().filter(|place| *place < NEAR_DAYS)?;
        if mask >> bit != 0 {
            return None;
        }
        mask |= 1 << bit;
    }
    Some(mask)
}

/// What may have been observed by the rest of the row: of a sum, of a count, of a mean, of a gauge. The core alone says which it is
/// (`close::rolling_value`); where none is the very same float, it is written.
fn candidates(signal: &SignalState, today: Day) -> [f64; 4] {
    let (rest, oldest) = (signal.window_rest, signal.window_oldest);
    let (mut sum, mut count, mut means, mut days) = (0.0, 0.0, 0.0, oldest);
    for (_, totals) in signal.open.iter().filter(|(day, _)| *day >= today) {
        let value = totals.sum_micros as f64 / MICROS;
        sum += value;
        count += f64::from(totals.count);
        means += value / f64::from(totals.count.max(1));
        days += 1.0;
    }
    let larger = |value: f64| if value > oldest { value } else { oldest };
    let mean = if days > 0.0 { (rest + means) / days } else { 0.0 };
    let gauge = if oldest > 0.0 { rest / oldest } else { 0.0 };
    [rest + larger(sum), rest + larger(count), mean, gauge]
}

fn pack_observed(signal: &SignalState, today: Day, bits: &mut BitWriter) {
    bits.flag(signal.observed.is_some());
    let Some(observed) = signal.observed else { return };
    let same = |candidate: &f64| candidate.is_finite() && candidate.to_bits() == observed.to_bits();
    let place = candidates(signal, today).iter().position(same);
    // In unary; four: none of them.
    let place = place.unwrap_or(4);
    bits.rice(place as u64, 0);
    if place == 4 {
        bits.float(observed, about(weekly(signal)));
    }
}

fn unpack_observed(
    signal: &SignalState,
    today: Day,
    bits: &mut BitReader<'_>,
) -> Option<Option<f64>> {
    if !bits.flag()? {
        return Some(None);
    }
    let place = usize::try_from(bits.rice(0)?).ok()?;
    match candidates(signal, today).get(place) {
        Some(candidate) => Some(Some(*candidate)),
        None => Some(Some(bits.float(about(weekly(signal)))?)),
    }
}
