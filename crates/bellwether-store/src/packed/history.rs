//! Closed days in bits; since format 4 at what they tell ([`days`](super::days)).
//!
//! In formats 2 and 3 a ring is written day by day, or as runs of equal days, whichever is shorter. Counts of small numbers take two to four bits a day
//! (Golomb-Rice, with a parameter per ring), quiet signals and gauges that stand still next to nothing. A mean is what the core
//! divided: millionths by a count, when such a pair gives back the very same float.

use bellwether_core::account::SignalKey;
use bellwether_core::history::{Activity, History, RING_DAYS, Ring};
use bellwether_core::time::Day;

use super::bits::{BitReader, BitWriter, rice_parameter};
use super::days::{self, Known};
use super::rans::{Decoder, Encoder};
use super::{MICROS, Reader, Writer, exact};
use crate::format::{Row, V1, V2, V4};

/// Divisors that are tried for a mean.
const DIVISOR_MAX: u64 = 64;
/// Millionths in one unit, as a whole number.
pub(super) const UNIT: u64 = 1_000_000;

/// One day's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Missing,
    Whole(u64),
    /// Millionths, divided.
    Mean {
        negative: bool,
        micros: u64,
        divisor: u64,
    },
    Raw(u64),
}

/// What the values of a ring have in common.
#[derive(Debug, Clone, Copy)]
struct Shape {
    runs: bool,
    has_missing: bool,
    has_other: bool,
    /// Rice parameters: of whole numbers, and of means of whole numbers.
    whole: u32,
    mean: u32,
}

impl Value {
    pub(super) fn of(value: f64) -> Value {
        if value.is_nan() {
            return Value::Missing;
        }
        if let Some(whole) = exact(value)
            && let Ok(whole) = u64::try_from(whole)
        {
            return Value::Whole(whole);
        }
        let mean = (1..=DIVISOR_MAX).find_map(|divisor| {
            let micros = exact((value * MICROS * divisor as f64).round())?;
            let mean = Value::Mean { negative: micros < 0, micros: micros.unsigned_abs(), divisor };
            (mean.get().to_bits() == value.to_bits()).then_some(mean)
        });
        mean.unwrap_or(Value::Raw(value.to_bits()))
    }

    pub(super) fn get(self) -> f64 {
        match self {
            Value::Missing => f64::NAN,
            Value::Whole(whole) => whole as f64,
            Value::Mean { negative, micros, divisor } => {
                let sum = if negative { -(micros as f64) } else { micros as f64 };
                sum / MICROS / divisor as f64
            }
            Value::Raw(bits) => f64::from_bits(bits),
        }
    }
}

impl Shape {
    fn of(tokens: &[(Value, u64)], runs: bool) -> Shape {
        let wholes = tokens.iter().filter_map(|(value, _)| match value {
            Value::Whole(whole) => Some(*whole),
            Value::Missing | Value::Mean { .. } | Value::Raw(_) => None,
        });
        let sums = tokens.iter().filter_map(|(value, _)| match value {
            Value::Mean { micros, .. } if micros % UNIT == 0 => Some(micros / UNIT),
            Value::Missing | Value::Whole(_) | Value::Mean { .. } | Value::Raw(_) => None,
        });
        let other = |value: &Value| matches!(value, Value::Mean { .. } | Value::Raw(_));
        Shape {
            runs,
            has_missing: tokens.iter().any(|(value, _)| *value == Value::Missing),
            has_other: tokens.iter().any(|(value, _)| other(value)),
            whole: rice_parameter(wholes.clone().map(u128::from).sum(), wholes.count()),
            mean: rice_parameter(sums.clone().map(u128::from).sum(), sums.count()),
        }
    }

    fn write(self, out: &mut BitWriter) {
        [self.runs, self.has_missing, self.has_other].into_iter().for_each(|flag| out.flag(flag));
        out.put(self.whole.into(), 6);
        if self.has_other {
            out.put(self.mean.into(), 6);
        }
    }

    fn read(input: &mut BitReader<'_>) -> Option<Shape> {
        let (runs, has_missing, has_other) = (input.flag()?, input.flag()?, input.flag()?);
        let whole = u32::try_from(input.take(6)?).ok()?;
        let mean = if has_other { u32::try_from(input.take(6)?).ok()? } else { 0 };
        Some(Shape { runs, has_missing, has_other, whole, mean })
    }

    fn write_value(self, value: Value, out: &mut BitWriter) {
        if self.has_missing {
            out.flag(value != Value::Missing);
        }
        if value != Value::Missing && self.has_other {
            out.flag(matches!(value, Value::Whole(_)));
        }
        match value {
            Value::Missing => {}
            Value::Whole(whole) => out.rice(whole, self.whole),
            Value::Mean { negative, micros, divisor } => {
                out.flag(true);
                out.flag(negative);
                out.rice(divisor - 1, 2);
                out.flag(micros % UNIT == 0);
                if micros % UNIT == 0 {
                    out.rice(micros / UNIT, self.mean);
                } else {
                    out.sized(micros);
                }
            }
            Value::Raw(bits) => {
                out.flag(false);
                out.put(bits, 64);
            }
        }
    }

    fn read_value(self, input: &mut BitReader<'_>) -> Option<Value> {
        if self.has_missing && !input.flag()? {
            return Some(Value::Missing);
        }
        if !self.has_other || input.flag()? {
            return input.rice(self.whole).map(Value::Whole);
        }
        if !input.flag()? {
            return input.take(64).map(Value::Raw);
        }
        let negative = input.flag()?;
        let divisor = input.rice(2)?.checked_add(1)?;
        let micros = if input.flag()? {
            input.rice(self.mean)?.checked_mul(UNIT)?
        } else {
            input.sized()?
        };
        Some(Value::Mean { negative, micros, divisor })
    }
}

/// Writes a ring.
fn write_ring(ring: &Ring, out: &mut BitWriter) {
    let values: Vec<Value> = ring.values().into_iter().map(Value::of).collect();
    // At most 128: see `Ring::push`.
    out.put(values.len() as u64, 8);
    if values.is_empty() {
        return;
    }
    let days: Vec<(Value, u64)> = values.iter().map(|value| (*value, 1)).collect();
    let mut runs: Vec<(Value, u64)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => runs.push((value, 1)),
        }
    }
    let by_day = written(&days, false);
    let by_run = written(&runs, true);
    out.append(if by_run.bits() < by_day.bits() { &by_run } else { &by_day });
}

fn written(tokens: &[(Value, u64)], runs: bool) -> BitWriter {
    let mut out = BitWriter::default();
    let shape = Shape::of(tokens, runs);
    shape.write(&mut out);
    for (value, count) in tokens {
        shape.write_value(*value, &mut out);
        if runs {
            out.rice(count - 1, 2);
        }
    }
    out
}

fn read_ring(input: &mut BitReader<'_>) -> Option<Ring> {
    let length = usize::try_from(input.take(8)?).ok().filter(|length| *length <= RING_DAYS)?;
    let mut ring = Ring::default();
    if length == 0 {
        return Some(ring);
    }
    let shape = Shape::read(input)?;
    while ring.len() < length {
        let value = shape.read_value(input)?.get();
        let count = if shape.runs { input.rice(2)?.checked_add(1)? } else { 1 };
        let left = (length - ring.len()) as u64;
        for _ in 0..Some(count).filter(|count| *count <= left)? {
            ring.push(value);
        }
    }
    Some(ring)
}

/// Writes the keys of all rings, which are the same for many accounts, and what is left.
fn write_rings(rings: &[(SignalKey, Ring)], version: u8, out: &mut Writer) {
    rings.iter().for_each(|(key, _)| out.key(*key));
    if version == V2 {
        let mut bits = BitWriter::default();
        rings.iter().for_each(|(_, ring)| write_ring(ring, &mut bits));
        return out.bytes(&bits.into_bytes());
    }
    let (mut known, mut code) = (Known::default(), Encoder::default());
    for (_, ring) in rings {
        let values: Vec<Value> = ring.values().into_iter().map(Value::of).collect();
        days::write(&values, &mut known, &mut code);
    }
    out.bytes(&code.into_bytes());
}

fn read_rings(
    input: &mut Reader<'_>,
    keys: Vec<SignalKey>,
    version: u8,
) -> Option<Vec<(SignalKey, Ring)>> {
    let mut rings = Vec::with_capacity(keys.len());
    let rest = std::mem::take(&mut input.0);
    if version == V2 {
        let mut bits = BitReader::new(rest);
        for key in keys {
            rings.push((key, read_ring(&mut bits)?));
        }
        return bits.is_done().then_some(rings);
    }
    let (mut known, mut code) = (Known::default(), Decoder::new(rest)?);
    for key in keys {
        rings.push((key, days::read(&mut known, &mut code)?.into()));
    }
    code.is_done().then_some(rings)
}

impl Row for History {
    const VERSIONS: &'static [u8] = &[V1, V2, V4];

    fn pack(&self, out: &mut Writer, version: u8) {
        // Zero is none, which is no day that occurs.
        out.int(self.newest.map_or(0, |day| i64::from(day.0) * 2 + 1));
        out.uint(self.rings.len() as u64);
        write_rings(&self.rings, version, out);
    }

    fn unpack(input: &mut Reader<'_>, version: u8) -> Option<History> {
        let newest = match input.int()? {
            0 => None,
            code if code % 2 != 0 => Some(Day(i32::try_from((code - 1) / 2).ok()?)),
            _ => return None,
        };
        let count = input.uint()?;
        let mut keys: Vec<SignalKey> = Vec::new();
        for _ in 0..count {
            keys.push(input.key()?);
        }
        let rings = read_rings(input, keys, version)?;
        Some(History { newest, rings, older: Vec::new() })
    }
}

/// The bitmap without the days before the first active one, in whole bytes.
impl Row for Activity {
    fn pack(&self, out: &mut Writer, _version: u8) {
        out.int(self.newest.0.into());
        let count = 16 - self.bits.leading_zeros() as usize / 8;
        // 0 to 16, and whether there is a role.
        out.byte(count as u8 * 2 + u8::from(self.role.is_some()));
        self.bits.to_le_bytes().iter().take(count).for_each(|byte| out.byte(*byte));
        if let Some(role) = &self.role {
            out.text(role);
        }
    }

    fn unpack(input: &mut Reader<'_>, _version: u8) -> Option<Activity> {
        let newest = Day(i32::try_from(input.int()?).ok()?);
        let head = input.byte()?;
        let mut bits = [0; 16];
        let held = bits.get_mut(..usize::from(head / 2))?;
        held.copy_from_slice(input.bytes(u64::from(head / 2))?);
        let role = if head % 2 == 1 { Some(input.text()?) } else { None };
        Some(Activity { newest, bits: u128::from_le_bytes(bits), role })
    }
}
