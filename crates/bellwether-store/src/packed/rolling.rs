//! The row of the rolling detector. A day with an event takes two bytes as a rule: how long after the one before, and its sum.

use bellwether_core::points::Points;
use bellwether_core::rolling::{DaySum, Rolling, RollingSignal};
use bellwether_core::time::{DAY_MS, Day, Millis};

use super::{Reader, Writer, unzigzag, zigzag};
use crate::format::Row;

/// Millionths in one unit.
const UNIT: i64 = 1_000_000;
/// Days for which there is room at once, whatever a row says.
const ROOM_MAX: u64 = 256;
/// How a sum is written, in its lowest bit.
const MILLIONTHS: u64 = 1;

impl Row for Rolling {
    fn pack(&self, out: &mut Writer, _version: u8) {
        out.int(self.day.0.into());
        out.int(self.last_at.0.wrapping_sub(day_start(self.day)));
        out.int(self.last_at.0.wrapping_sub(self.first_at.0));
        out.uint(self.sequence);
        if let Some(published) = self.published {
            out.bytes(&published.to_le_bytes());
        }
        for signal in &self.signals {
            out.bytes(&signal.key.to_le_bytes());
            back(out, self.day, signal.as_of);
            out.int(signal.published.0.into());
            out.uint(signal.days.len() as u64);
            let mut before = signal.as_of;
            for &DaySum { day, micros } in signal.days.iter().rev() {
                back(out, before, day);
                before = day;
                sum(out, micros);
            }
        }
    }

    fn unpack(input: &mut Reader<'_>, _version: u8) -> Option<Rolling> {
        let day = Day(i32::try_from(input.int()?).ok()?);
        let last_at = Millis(input.int()?.wrapping_add(day_start(day)));
        let first_at = Millis(last_at.0.wrapping_sub(input.int()?));
        let sequence = input.uint()?;
        let published = match sequence {
            0 => None,
            _ => Some(input.chunk().map(f64::from_le_bytes)?),
        };
        let mut signals = Vec::new();
        while !input.is_empty() {
            let key = u16::from_le_bytes(input.chunk()?);
            let as_of = read_back(input, day)?;
            let published = Points(i32::try_from(input.int()?).ok()?);
            let count = input.uint()?;
            let mut days = Vec::with_capacity(count.min(ROOM_MAX) as usize);
            let mut before = as_of;
            for _ in 0..count {
                before = read_back(input, before)?;
                days.push(DaySum { day: before, micros: read_sum(input)? });
            }
            days.reverse();
            signals.push(RollingSignal { key, as_of, published, days, ..RollingSignal::default() });
        }
        Some(Rolling { first_at, day, last_at, sequence, published, signals, ..Rolling::default() })
    }
}

fn day_start(day: Day) -> i64 {
    i64::from(day.0) * DAY_MS
}

/// Days from a later one back to an earlier one. (The other way round takes ten bytes, and reads back all the same.)
fn back(out: &mut Writer, from: Day, to: Day) {
    out.uint((i64::from(from.0) - i64::from(to.0)).cast_unsigned());
}

fn read_back(input: &mut Reader<'_>, from: Day) -> Option<Day> {
    let days = input.uint()?.cast_signed();
    i32::try_from(i64::from(from.0).checked_sub(days)?).ok().map(Day)
}

/// Sums are bounded ([`bellwether_core::rolling::SUM_MICROS_MAX`]), so that sign and kind find room.
fn sum(out: &mut Writer, micros: i64) {
    if micros % UNIT == 0 {
        out.uint(zigzag(micros / UNIT) << 1);
    } else {
        out.uint(zigzag(micros) << 1 | MILLIONTHS);
    }
}

fn read_sum(input: &mut Reader<'_>) -> Option<i64> {
    let code = input.uint()?;
    let number = unzigzag(code >> 1);
    if code & MILLIONTHS == 0 { number.checked_mul(UNIT) } else { Some(number) }
}
