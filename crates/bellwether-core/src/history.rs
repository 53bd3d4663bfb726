//! Daily totals, the ring of closed days, and activity bitmaps.

use std::collections::VecDeque;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::account::SignalKey;
use crate::time::{Day, Millis};

/// Closed days kept per account and signal: 18 weeks and two days.
pub const RING_DAYS: usize = 128;

/// A day's accumulators of one signal. Integers, so that the order of arrival does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DayTotals {
    /// Events counted.
    pub count: u32,
    /// Sum of their values in millionths.
    pub sum_micros: i128,
    /// Of a gauge, the last value of the day in millionths, with its time; ties go to the larger value. Elsewhere 0.
    pub last_micros: i64,
    /// See `last_micros`.
    pub last_at: Millis,
}

/// Millionths in one unit of a value.
pub const MICROS: f64 = 1e6;

/// A value in millionths; in range by admission (`VALUE_ABS_MAX`).
fn micros(value: f64) -> i64 {
    (value * MICROS).round() as i64
}

impl DayTotals {
    /// Adds one event.
    pub fn add(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        self.sum_micros = self.sum_micros.saturating_add(i128::from(micros(value)));
    }

    /// The same of a gauge.
    pub fn follow(&mut self, at: Millis, value: f64) {
        self.add(value);
        let micros = micros(value);
        if self.last().is_none() || (at, micros) >= (self.last_at, self.last_micros) {
            self.last_micros = micros;
            self.last_at = at;
        }
    }

    /// The last value of the day; none where the signal was no gauge yet.
    #[must_use]
    pub fn last(&self) -> Option<f64> {
        (self.last_at != Millis(0)).then_some(self.last_micros as f64 / MICROS)
    }
}

/// The closed days of one signal, oldest first; NaN is a day without a measurement.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ring {
    days: VecDeque<f64>,
}

impl Ring {
    /// Appends the value of the next closed day; the oldest falls out beyond [`RING_DAYS`].
    pub fn push(&mut self, value: f64) {
        self.roll(value);
    }

    /// The same; returns the value that falls out.
    pub fn roll(&mut self, value: f64) -> Option<f64> {
        let oldest = if self.days.len() == RING_DAYS { self.days.pop_front() } else { None };
        self.days.push_back(value);
        oldest
    }

    /// Replaces the value of the day `back` days before the newest (0 = newest). Out of reach: nothing happens.
    pub fn amend(&mut self, back: usize, value: f64) {
        let Some(index) = self.days.len().checked_sub(back + 1) else { return };
        if let Some(slot) = self.days.get_mut(index) {
            *slot = value;
        }
    }

    /// The value of the day `back` days before the newest (0 = newest), if it is held.
    #[must_use]
    pub fn back(&self, back: usize) -> Option<f64> {
        self.days.get(self.days.len().checked_sub(back + 1)?).copied()
    }

    /// The values, oldest first.
    #[must_use]
    pub fn values(&self) -> Vec<f64> {
        self.days.iter().copied().collect()
    }

    /// How many days are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.days.len()
    }

    /// Whether no day is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }
}

/// The days of a ring, oldest first; of more than [`RING_DAYS`] the newest.
impl From<Vec<f64>> for Ring {
    fn from(mut days: Vec<f64>) -> Ring {
        days.drain(..days.len().saturating_sub(RING_DAYS));
        Ring { days: days.into() }
    }
}

/// The persisted form: one code a day. 0 is missing; an even code is the whole number `code / 2 - 1`; an odd code
/// carries the bits of any other value. Small counts take one byte.
impl Serialize for Ring {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let codes: Vec<u128> = self.days.iter().map(|&value| encode_day(value)).collect();
        codes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ring {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ring, D::Error> {
        let codes = Vec::<u128>::deserialize(deserializer)?;
        Ok(Ring { days: codes.into_iter().map(decode_day).collect() })
    }
}

fn encode_day(value: f64) -> u128 {
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0; // 2^53: every whole number below is exact
    if value.is_nan() {
        return 0;
    }
    if (0.0..WHOLE_MAX).contains(&value) && value.fract() == 0.0 && value.is_sign_positive() {
        return u128::from(value as u64 + 1) * 2;
    }
    u128::from(value.to_bits()) * 2 + 1
}

fn decode_day(code: u128) -> f64 {
    if code == 0 {
        return f64::NAN;
    }
    let half = u64::try_from(code / 2).unwrap_or(u64::MAX);
    if code % 2 == 1 { f64::from_bits(half) } else { half.saturating_sub(1) as f64 }
}

/// The closed days of an account.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// The newest closed day; none before the first close.
    pub newest: Option<Day>,
    /// One ring per signal, in the order of `Hot::signals`; every ring ends at `newest`.
    pub rings: Vec<(SignalKey, Ring)>,
    /// What came before the rings, for counts; a store keeps it in a row of its own.
    #[serde(skip)]
    pub older: Vec<(SignalKey, Older)>,
}

impl History {
    /// What came before the ring of a signal.
    #[must_use]
    pub fn older(&self, key: SignalKey) -> Older {
        let found = self.older.iter().find(|(known, _)| *known == key);
        found.map(|(_, older)| *older).unwrap_or_default()
    }
}

/// The days before a ring in two numbers: each day weighs half as much as one that is [`OLDER_HALF_LIFE_DAYS`] younger.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Older {
    /// Weighted sum of the counts.
    pub sum: f32,
    /// Weighted sum of the cohort's factors of those days: about the number of days.
    pub exposure: f32,
}

/// See [`Older`].
pub const OLDER_HALF_LIFE_DAYS: f64 = 365.0;

impl Older {
    /// Takes in the day that falls out of the ring.
    pub fn add(&mut self, count: f64, factor: f64) {
        let kept = 0.5_f64.powf(1.0 / OLDER_HALF_LIFE_DAYS);
        self.sum = (f64::from(self.sum) * kept + count) as f32;
        self.exposure = (f64::from(self.exposure) * kept + factor) as f32;
    }
}

/// On which days something was active: bit 0 is `newest`, bit d the d-th day before it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Activity {
    /// The day of bit 0.
    pub newest: Day,
    /// 128 days.
    pub bits: u128,
    /// The member's latest role, where the row is a member's.
    pub role: Option<String>,
}

impl Activity {
    /// Marks a day as active. Returns whether anything changed (a day out of reach changes nothing).
    pub fn mark(&mut self, day: Day) -> bool {
        if self.bits == 0 {
            self.newest = day;
            self.bits = 1;
            return true;
        }
        let ahead = day.since(self.newest);
        if ahead > 0 {
            self.bits =
                u32::try_from(ahead).ok().and_then(|n| self.bits.checked_shl(n)).unwrap_or(0) | 1;
            self.newest = day;
            return true;
        }
        let bit =
            u32::try_from(-i64::from(ahead)).ok().and_then(|n| 1u128.checked_shl(n)).unwrap_or(0);
        let before = self.bits;
        self.bits |= bit;
        self.bits != before
    }

    /// The bitmap seen from `day`: bit 0 is `day`, bit d the d-th day before it. Days after `day` fall out.
    #[must_use]
    pub fn seen_from(&self, day: Day) -> u128 {
        let ahead = day.since(self.newest);
        let shift = ahead.unsigned_abs();
        if ahead >= 0 {
            self.bits.checked_shl(shift).unwrap_or(0)
        } else {
            self.bits.checked_shr(shift).unwrap_or(0)
        }
    }
}

/// A mask of `days` bits (128 and more: all).
#[must_use]
pub fn mask(days: u32) -> u128 {
    if days >= 128 { u128::MAX } else { (1u128 << days) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn totals_do_not_depend_on_order() {
        let events = [(Millis(5), 0.1), (Millis(3), 0.2), (Millis(5), -7.0), (Millis(1), 1e9)];
        let mut forward = DayTotals::default();
        let mut backward = DayTotals::default();
        events.iter().for_each(|&(at, value)| forward.follow(at, value));
        events.iter().rev().for_each(|&(at, value)| backward.follow(at, value));
        assert_eq!(forward, backward);
        assert_eq!(forward.last_micros, 100_000);
    }

    #[test]
    fn a_bitmap_moves_with_its_days() {
        let mut activity = Activity::default();
        assert!(activity.mark(Day(100)));
        assert!(!activity.mark(Day(100)));
        assert!(activity.mark(Day(103)));
        assert!(activity.mark(Day(101)), "a late event within reach counts");
        assert_eq!(activity.seen_from(Day(103)), 0b1101);
        assert_eq!(activity.seen_from(Day(105)), 0b11_0100);
        assert_eq!(activity.seen_from(Day(101)), 0b11);
        assert!(activity.mark(Day(400)));
        assert_eq!(activity.seen_from(Day(400)), 1);
        assert!(!activity.mark(Day(1)), "out of reach");
    }

    proptest! {
        #[test]
        fn a_ring_survives_its_persisted_form(values in prop::collection::vec(
            prop_oneof![Just(f64::NAN), (0u32..1000).prop_map(f64::from), -1e12f64..1e12, Just(-0.0)], 0..200)
        ) {
            let mut ring = Ring::default();
            for value in values {
                ring.push(value);
            }
            let text = serde_json::to_string(&ring).expect("serialisable");
            let back: Ring = serde_json::from_str(&text).expect("readable");
            let bits = |ring: &Ring| ring.values().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&ring), bits(&back));
            prop_assert!(ring.len() <= RING_DAYS);
        }
    }
}
