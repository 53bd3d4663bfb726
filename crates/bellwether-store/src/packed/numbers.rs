//! Numbers in bits for format 4: floats, times and sums, each in the form that is shortest for what occurs.

use bellwether_core::time::Millis;

use super::bits::{BitReader, BitWriter};
use super::{MICROS, exact, unzigzag, zigzag};

/// Millionths in one unit.
const UNIT: i128 = 1_000_000;
/// Bits of the fraction of a float, and what is added to its exponent.
const FRACTION: u32 = 52;
const BIAS: i64 = 1_023;
/// The same of a single float.
const FRACTION_32: u32 = 23;
/// Single floats below are exact where they are whole.
const EXACT_MAX_32: f32 = 16_777_216.0; // 2^24

/// The Rice parameter for numbers about this one: see [`super::bits::rice_parameter`].
pub(super) fn about(number: f64) -> u32 {
    // Not a number, and what is negative, become 0.
    (64 - (number as u64).leading_zeros()).saturating_sub(1).min(48)
}

impl BitWriter {
    /// A signed number of unknown size.
    pub(super) fn signed(&mut self, number: i64) {
        self.sized(zigzag(number));
    }

    /// A float that is about so many bits long if it is a whole number: one, a number of millionths, or its bits.
    pub(super) fn float(&mut self, value: f64, k: u32) {
        if let Some(whole) = whole(value) {
            self.flag(false);
            return self.rice(whole, k);
        }
        self.flag(true);
        let micros = exact((value * MICROS).round());
        match micros.filter(|micros| same(*micros as f64 / MICROS, value)) {
            Some(micros) => {
                self.flag(false);
                self.signed(micros);
            }
            None => {
                self.flag(true);
                self.put(value.to_bits(), 64);
            }
        }
    }

    /// A mean of so many whole numbers or, as ever, a float.
    pub(super) fn mean(&mut self, value: f64, count: f64) {
        let sum = whole((value * count).round()).filter(|sum| same(*sum as f64 / count, value));
        self.flag(sum.is_some());
        match sum {
            Some(sum) => self.sized(sum),
            None => self.float(value, 4),
        }
    }

    /// A float, as a rule of no particular digits, that is about the square root of another one.
    pub(super) fn root(&mut self, value: f64, square: f64) {
        let (exponent, fraction) = parts(value);
        let is_usual = value.is_normal() && value > 0.0;
        self.flag(is_usual);
        if is_usual {
            self.rice(zigzag(exponent - root_exponent(square)), 1);
            self.put(fraction, FRACTION);
        } else {
            self.float(value, 4);
        }
    }

    /// A single float, as a rule no whole number, of about the size of another one.
    pub(super) fn single(&mut self, value: f32, like: f32) {
        self.put(u64::from(value.is_sign_negative()), 1);
        self.rice(zigzag(exponent_32(value) - exponent_32(like)), 1);
        self.put(u64::from(value.to_bits() & ((1 << FRACTION_32) - 1)), FRACTION_32);
    }

    /// The same of one that may be a whole number.
    pub(super) fn single_or_whole(&mut self, value: f32, like: f32) {
        let whole = whole_32(value);
        self.flag(whole.is_some());
        match whole {
            Some(whole) => self.sized(whole.cast_unsigned()),
            None => self.single(value, like),
        }
    }

    /// A single float, as a rule a whole number, near another one.
    pub(super) fn single_near(&mut self, value: f32, near: f32) {
        let whole = whole_32(value);
        self.flag(whole.is_some());
        match whole {
            Some(whole) => self.rice(zigzag(whole - middle(near)), width(near)),
            None => self.single(value, near),
        }
    }

    /// A time near another one, in seconds where it is so many of them later or earlier.
    pub(super) fn time(&mut self, at: Millis, base: i64) {
        let difference = at.0.wrapping_sub(base);
        let whole = difference % 1_000 == 0;
        self.flag(whole);
        self.signed(if whole { difference / 1_000 } else { difference });
    }

    /// A sum of millionths for so many events, about so many bits long in whole units.
    pub(super) fn sum(&mut self, micros: i128, count: u32, k: u32) {
        let units = u64::try_from(micros / UNIT).ok().filter(|_| micros % UNIT == 0);
        let units = units.filter(|units| *units < 1 << 52);
        match (units, i64::try_from(micros)) {
            (Some(0), _) => self.put(0b0, 1),
            (Some(units), _) if units == u64::from(count) => self.put(0b01, 2),
            (Some(units), _) => {
                self.put(0b011, 3);
                self.rice(units, k);
            }
            (None, Ok(micros)) => {
                self.put(0b0111, 4);
                self.signed(micros);
            }
            (None, Err(_)) => {
                self.put(0b1111, 4);
                self.put(micros.cast_unsigned() as u64, 64);
                self.put((micros.cast_unsigned() >> 64) as u64, 64);
            }
        }
    }
}

impl BitReader<'_> {
    pub(super) fn signed(&mut self) -> Option<i64> {
        self.sized().map(unzigzag)
    }

    pub(super) fn float(&mut self, k: u32) -> Option<f64> {
        if !self.flag()? {
            return self.rice(k).map(|whole| whole as f64);
        }
        if !self.flag()? {
            return self.signed().map(|micros| micros as f64 / MICROS);
        }
        self.take(64).map(f64::from_bits)
    }

    pub(super) fn mean(&mut self, count: f64) -> Option<f64> {
        if self.flag()? { self.sized().map(|sum| sum as f64 / count) } else { self.float(4) }
    }

    pub(super) fn root(&mut self, square: f64) -> Option<f64> {
        if !self.flag()? {
            return self.float(4);
        }
        let exponent = unzigzag(self.rice(1)?).checked_add(root_exponent(square))?;
        let exponent = u64::try_from(exponent.checked_add(BIAS)?).ok().filter(|of| *of < 2_047)?;
        Some(f64::from_bits(exponent << FRACTION | self.take(FRACTION)?))
    }

    pub(super) fn single(&mut self, like: f32) -> Option<f32> {
        let sign = u32::try_from(self.take(1)?).ok()?;
        let exponent = unzigzag(self.rice(1)?).checked_add(exponent_32(like))?;
        let exponent = u32::try_from(exponent).ok().filter(|exponent| *exponent < 256)?;
        let fraction = u32::try_from(self.take(FRACTION_32)?).ok()?;
        Some(f32::from_bits(sign << 31 | exponent << FRACTION_32 | fraction))
    }

    pub(super) fn single_or_whole(&mut self, like: f32) -> Option<f32> {
        if self.flag()? { self.sized().map(|whole| whole as f32) } else { self.single(like) }
    }

    pub(super) fn single_near(&mut self, near: f32) -> Option<f32> {
        if !self.flag()? {
            return self.single(near);
        }
        let whole = unzigzag(self.rice(width(near))?).checked_add(middle(near))?;
        Some(whole as f32)
    }

    pub(super) fn time(&mut self, base: i64) -> Option<Millis> {
        let whole = self.flag()?;
        let number = self.signed()?;
        let difference = if whole { number.checked_mul(1_000)? } else { number };
        Some(Millis(base.wrapping_add(difference)))
    }

    pub(super) fn sum(&mut self, count: u32, k: u32) -> Option<i128> {
        if !self.flag()? {
            return Some(0);
        }
        if !self.flag()? {
            return Some(i128::from(count) * UNIT);
        }
        if !self.flag()? {
            return self.rice(k).map(|units| i128::from(units) * UNIT);
        }
        if !self.flag()? {
            return self.signed().map(i128::from);
        }
        let low = u128::from(self.take(64)?);
        Some((low | u128::from(self.take(64)?) << 64).cast_signed())
    }
}

fn same(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits()
}

/// The whole number that a float is exactly; no negative one.
fn whole(value: f64) -> Option<u64> {
    exact(value).and_then(|whole| u64::try_from(whole).ok())
}

/// The same of a single float.
fn whole_32(value: f32) -> Option<i64> {
    let whole = value.fract() == 0.0 && (0.0..EXACT_MAX_32).contains(&value);
    (whole && value.is_sign_positive()).then_some(value as i64)
}

/// Exponent and fraction of a float.
fn parts(value: f64) -> (i64, u64) {
    let bits = value.to_bits();
    let exponent = (bits >> FRACTION & 0x7ff).cast_signed() - BIAS;
    (exponent, bits & ((1 << FRACTION) - 1))
}

/// The exponent of the square root of a float, about.
fn root_exponent(square: f64) -> i64 {
    parts(square).0.div_euclid(2)
}

fn exponent_32(value: f32) -> i64 {
    i64::from(value.to_bits() >> FRACTION_32 & 0xff)
}

/// A whole number near a single float.
fn middle(near: f32) -> i64 {
    // Not a number becomes 0.
    near.clamp(0.0, EXACT_MAX_32) as i64
}

/// The Rice parameter for counts about a mean: as far from it as square roots are.
fn width(near: f32) -> u32 {
    about(near.clamp(0.0, EXACT_MAX_32).into()).div_ceil(2) + 1
}
