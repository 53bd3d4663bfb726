//! The hot row: what every event rewrites, so what is paid for in the changelog. In format 4: [`hot_bits`](super::hot_bits).

use bellwether_core::account::{Hot, SignalState, StoredBaseline};
use bellwether_core::history::DayTotals;
use bellwether_core::points::Points;
use bellwether_core::time::{Day, Millis};

use super::{Reader, Writer, hot_bits, unzigzag, zigzag};
use crate::format::{Row, V1, V2, V4};

/// Which parts of a signal's state are there.
mod part {
    pub(super) const OPEN: u64 = 1;
    pub(super) const FIRST_DAY: u64 = 1 << 1;
    pub(super) const RECENT: u64 = 1 << 2;
    pub(super) const BASELINE: u64 = 1 << 3;
    pub(super) const WINDOW_REST: u64 = 1 << 4;
    pub(super) const WINDOW_OLDEST: u64 = 1 << 5;
    pub(super) const POINTS: u64 = 1 << 6;
    pub(super) const OBSERVED: u64 = 1 << 7;
    pub(super) const PUBLISHED: u64 = 1 << 8;
    pub(super) const EVIDENCE: u64 = 1 << 9;
    pub(super) const ALL: u64 = (1 << 10) - 1;
}

/// How a sum of millionths is written.
const WHOLE: u64 = 0;
const MILLIONTHS: u64 = 1;
const LONG: u64 = 2;
/// Millionths in one unit.
const UNIT: i128 = 1_000_000;

impl Row for Hot {
    const VERSIONS: &'static [u8] = &[V1, V2, V4];

    fn pack(&self, out: &mut Writer, version: u8) {
        if version == V4 {
            return hot_bits::pack(self, out);
        }
        // What changes with every event and is small is packed; the rest is as in format 1.
        out.plain(&(&self.policy_version, &self.segment, self.backfill, self.maturity));
        out.plain(&(&self.streams, &self.alerts, &self.resolved, self.outcome));
        let base = base(self.last_event_at);
        write_option(out, self.last_event_at.map(|at| at.0));
        write_option(out, self.first_event_at.map(|at| base.wrapping_sub(at.0)));
        write_option(out, self.held_until.map(|at| at.0.wrapping_sub(base)));
        out.int(self.today.0.into());
        write_time(out, self.today_ends_at, base);
        out.byte(u8::from(self.scheduled));
        self.activity.pack(out, version);
        for (now, published) in self.context_points.iter().zip(self.context_published) {
            write_points(out, *now);
            write_points(out, Points(published.0.wrapping_sub(now.0)));
        }
        write_points(out, self.score);
        write_option(out, self.published_score.map(|points| points.0.into()));
        write_points(out, self.published_base);
        out.plain(&self.published_band);
        out.uint(self.sequence);
        out.uint(self.signals.len() as u64);
        for signal in &self.signals {
            write_signal(out, signal, self.today, base);
        }
    }

    fn unpack(input: &mut Reader<'_>, version: u8) -> Option<Hot> {
        if version == V4 {
            return hot_bits::unpack(input);
        }
        let (policy_version, segment, backfill, maturity) = input.plain()?;
        let (streams, alerts, resolved, outcome) = input.plain()?;
        let last_event_at = read_option(input)?.map(Millis);
        let base = base(last_event_at);
        let mut hot = Hot {
            policy_version,
            segment,
            backfill,
            maturity,
            streams,
            alerts,
            resolved,
            outcome,
            last_event_at,
            first_event_at: read_option(input)?.map(|before| Millis(base.wrapping_sub(before))),
            held_until: read_option(input)?.map(|after| Millis(base.wrapping_add(after))),
            today: read_day(input)?,
            today_ends_at: read_time(input, base)?,
            scheduled: read_flag(input)?,
            activity: Row::unpack(input, version)?,
            ..Hot::default()
        };
        for (now, published) in hot.context_points.iter_mut().zip(&mut hot.context_published) {
            *now = read_points(input)?;
            *published = Points(read_points(input)?.0.wrapping_add(now.0));
        }
        hot.score = read_points(input)?;
        hot.published_score = match read_option(input)? {
            Some(points) => Some(Points(i32::try_from(points).ok()?)),
            None => None,
        };
        hot.published_base = read_points(input)?;
        hot.published_band = input.plain()?;
        hot.sequence = input.uint()?;
        for _ in 0..input.uint()? {
            hot.signals.push(read_signal(input, hot.today, base)?);
        }
        Some(hot)
    }
}

/// What times are differences to.
fn base(last_event_at: Option<Millis>) -> i64 {
    last_event_at.unwrap_or_default().0
}

fn parts(signal: &SignalState) -> u64 {
    let is = |there: bool, part: u64| if there { part } else { 0 };
    // By bits: minus zero is not zero.
    let counts = |value: f64| value.to_bits() != 0;
    is(!signal.open.is_empty(), part::OPEN)
        | is(signal.first_day.is_some(), part::FIRST_DAY)
        | is(!signal.recent.is_empty(), part::RECENT)
        | is(signal.baseline.is_some(), part::BASELINE)
        | is(counts(signal.window_rest), part::WINDOW_REST)
        | is(counts(signal.window_oldest), part::WINDOW_OLDEST)
        | is(signal.points != Points::ZERO, part::POINTS)
        | is(signal.observed.is_some(), part::OBSERVED)
        | is(signal.published != signal.points, part::PUBLISHED)
        | is(signal.evidence.is_some(), part::EVIDENCE)
}

fn write_signal(out: &mut Writer, signal: &SignalState, today: Day, base: i64) {
    out.key(signal.key);
    let there = parts(signal);
    out.uint(there);
    if there & part::OPEN != 0 {
        write_open(out, signal, today, base);
    }
    if let Some(day) = signal.first_day {
        out.int(i64::from(today.0) - i64::from(day.0));
    }
    if there & part::RECENT != 0 {
        out.uint(signal.recent.len() as u64);
        let mut before = base;
        // The newest first: it is near the base.
        for (at, value) in signal.recent.iter().rev() {
            write_time(out, *at, before);
            out.float(*value);
            before = at.0;
        }
    }
    if let Some(StoredBaseline { level, spread, weeks }) = signal.baseline {
        out.float(level);
        out.float(spread);
        out.uint(weeks.into());
    }
    if there & part::WINDOW_REST != 0 {
        out.float(signal.window_rest);
    }
    if there & part::WINDOW_OLDEST != 0 {
        out.float(signal.window_oldest);
    }
    if there & part::POINTS != 0 {
        write_points(out, signal.points);
    }
    if let Some(observed) = signal.observed {
        out.float(observed);
    }
    if there & part::PUBLISHED != 0 {
        write_points(out, signal.published);
    }
    if let Some(evidence) = &signal.evidence {
        out.plain(evidence);
    }
}

fn read_signal(input: &mut Reader<'_>, today: Day, base: i64) -> Option<SignalState> {
    let mut signal = SignalState { key: input.key()?, ..SignalState::default() };
    let there = Some(input.uint()?).filter(|there| there & !part::ALL == 0)?;
    let has = |part: u64| there & part != 0;
    if has(part::OPEN) {
        read_open(input, &mut signal, today, base)?;
    }
    if has(part::FIRST_DAY) {
        signal.first_day = Some(day_before(today, input.int()?)?);
    }
    if has(part::RECENT) {
        let mut before = base;
        for _ in 0..input.uint()? {
            let at = read_time(input, before)?;
            signal.recent.push((at, input.float()?));
            before = at.0;
        }
        signal.recent.reverse();
    }
    if has(part::BASELINE) {
        let (level, spread) = (input.float()?, input.float()?);
        let weeks = u16::try_from(input.uint()?).ok()?;
        signal.baseline = Some(StoredBaseline { level, spread, weeks });
    }
    if has(part::WINDOW_REST) {
        signal.window_rest = input.float()?;
    }
    if has(part::WINDOW_OLDEST) {
        signal.window_oldest = input.float()?;
    }
    if has(part::POINTS) {
        signal.points = read_points(input)?;
    }
    if has(part::OBSERVED) {
        signal.observed = Some(input.float()?);
    }
    signal.published = if has(part::PUBLISHED) { read_points(input)? } else { signal.points };
    if has(part::EVIDENCE) {
        signal.evidence = Some(input.plain()?);
    }
    Some(signal)
}

/// Open days, with how far each lies before today.
fn write_open(out: &mut Writer, signal: &SignalState, today: Day, base: i64) {
    out.uint(signal.open.len() as u64);
    for (day, totals) in &signal.open {
        out.int(i64::from(today.0) - i64::from(day.0));
        // Where every event counts one, the number of events says it all.
        let count = i128::from(totals.count);
        let ones = totals.sum_micros == count * UNIT && i128::from(totals.last_micros) == UNIT;
        out.uint(u64::from(totals.count) << 1 | u64::from(ones));
        if !ones {
            write_micros(out, totals.sum_micros);
            write_micros(out, totals.last_micros.into());
        }
        write_time(out, totals.last_at, base);
    }
}

fn read_open(
    input: &mut Reader<'_>,
    signal: &mut SignalState,
    today: Day,
    base: i64,
) -> Option<()> {
    for _ in 0..input.uint()? {
        let day = day_before(today, input.int()?)?;
        let head = input.uint()?;
        let count = u32::try_from(head >> 1).ok()?;
        let (sum_micros, last_micros) = if head & 1 == 1 {
            (i128::from(count) * UNIT, UNIT)
        } else {
            (read_micros(input)?, read_micros(input)?)
        };
        let last_micros = i64::try_from(last_micros).ok()?;
        let last_at = read_time(input, base)?;
        signal.open.push((day, DayTotals { count, sum_micros, last_micros, last_at }));
    }
    Some(())
}

pub(super) fn day_before(today: Day, days: i64) -> Option<Day> {
    i32::try_from(i64::from(today.0).checked_sub(days)?).ok().map(Day)
}

/// Whole units where it is a number of them.
fn write_micros(out: &mut Writer, micros: i128) {
    let short = |number: i128| {
        let number = i64::try_from(number).ok()?;
        Some(zigzag(number)).filter(|code| code >> 62 == 0)
    };
    let whole = if micros % UNIT == 0 { short(micros / UNIT) } else { None };
    match (whole, short(micros)) {
        (Some(code), _) => out.uint(code << 2 | WHOLE),
        (None, Some(code)) => out.uint(code << 2 | MILLIONTHS),
        (None, None) => {
            out.uint(LONG);
            out.bytes(&micros.to_le_bytes());
        }
    }
}

fn read_micros(input: &mut Reader<'_>) -> Option<i128> {
    let code = input.uint()?;
    match code & 3 {
        WHOLE => Some(i128::from(unzigzag(code >> 2)) * UNIT),
        MILLIONTHS => Some(unzigzag(code >> 2).into()),
        LONG => input.chunk().map(i128::from_le_bytes),
        _ => None,
    }
}

/// A time as a difference, in seconds where it is a number of them.
fn write_time(out: &mut Writer, at: Millis, base: i64) {
    let difference = at.0.wrapping_sub(base);
    match (difference % 1_000 == 0, zigzag(difference)) {
        (true, _) => out.uint(zigzag(difference / 1_000) << 1),
        (false, code) if code >> 63 == 0 => out.uint(code << 1 | 1),
        // Further apart than any two times that occur: odd, and not a number of milliseconds.
        (false, _) => {
            out.uint(1);
            out.bytes(&difference.to_le_bytes());
        }
    }
}

fn read_time(input: &mut Reader<'_>, base: i64) -> Option<Millis> {
    let code = input.uint()?;
    let difference = match (code & 1, code >> 1) {
        (0, seconds) => unzigzag(seconds).checked_mul(1_000)?,
        (_, 0) => input.chunk().map(i64::from_le_bytes)?,
        (_, millis) => unzigzag(millis),
    };
    Some(Millis(base.wrapping_add(difference)))
}

/// A byte that says whether there is a number, and the number.
fn write_option(out: &mut Writer, number: Option<i64>) {
    match number {
        None => out.byte(0),
        Some(number) => {
            out.byte(1);
            out.int(number);
        }
    }
}

fn read_option(input: &mut Reader<'_>) -> Option<Option<i64>> {
    if read_flag(input)? { input.int().map(Some) } else { Some(None) }
}

fn read_flag(input: &mut Reader<'_>) -> Option<bool> {
    match input.byte()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn read_day(input: &mut Reader<'_>) -> Option<Day> {
    i32::try_from(input.int()?).ok().map(Day)
}

fn write_points(out: &mut Writer, points: Points) {
    out.int(points.0.into());
}

fn read_points(input: &mut Reader<'_>) -> Option<Points> {
    i32::try_from(input.int()?).ok().map(Points)
}
