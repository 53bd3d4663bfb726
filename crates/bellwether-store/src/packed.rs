//! Rows from format 2 on: what they are made of.
//!
//! Measured (`state_size` in benches), format 1 spends its bytes on floats that are small whole numbers, on times that differ by
//! little, on fields that are empty, and on a byte or more for each closed day. Here numbers are as long as they need to be, times
//! are differences to one before, empty fields are a bit, and closed days lie in bits ([`history`]).
//!
//! Format 4 takes further what most of the bytes were left in.
//!
//! Reading never panics and never trusts a length: what cannot be read is none.

mod bits;
mod code;
mod counts;
mod days;
mod forecast;
mod history;
mod hot;
mod hot_bits;
mod lists;
mod numbers;
mod rans;
mod rolling;
mod small;
#[cfg(test)]
mod tests;

use bellwether_core::account::SignalKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value in the making.
pub(crate) struct Writer(Vec<u8>);

/// What is left of a value.
pub(crate) struct Reader<'a>(&'a [u8]);

/// Bytes of a row, as a rule.
const ROW_BYTES: usize = 256;
/// Millionths in one unit.
const MICROS: f64 = 1e6;
/// Whole numbers below are exact in a float, and leave room for a tag of two bits.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0; // 2^53

/// How a float is written, in the two lowest bits of its first number.
const WHOLE: u64 = 0;
const MILLIONTHS: u64 = 1;
const RAW: u64 = 2;
const MISSING: u64 = 3;

impl Writer {
    pub(crate) fn new(version: u8) -> Writer {
        // Most rows fit, so that it need not grow.
        let mut bytes = Vec::with_capacity(ROW_BYTES);
        bytes.push(version);
        Writer(bytes)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Seven bits a byte, lowest first.
    pub(crate) fn uint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// Small ones of either sign are short.
    pub(crate) fn int(&mut self, number: i64) {
        self.uint(zigzag(number));
    }

    pub(crate) fn key(&mut self, key: SignalKey) {
        self.bytes(&key.0.to_le_bytes());
    }

    /// A float: a whole number, a number of millionths, or its bits.
    pub(crate) fn float(&mut self, value: f64) {
        if value.to_bits() == f64::NAN.to_bits() {
            return self.uint(MISSING);
        }
        if let Some(whole) = exact(value).filter(|whole| *whole >= 0) {
            return self.uint(whole.unsigned_abs() << 2 | WHOLE);
        }
        let micros = exact((value * MICROS).round());
        match micros.filter(|micros| (*micros as f64 / MICROS).to_bits() == value.to_bits()) {
            Some(micros) => self.uint(zigzag(micros) << 2 | MILLIONTHS),
            None => {
                self.uint(RAW);
                self.bytes(&value.to_le_bytes());
            }
        }
    }

    /// A part that is rare or small anyway, with its length.
    pub(crate) fn plain<T: Serialize>(&mut self, part: &T) {
        let bytes = crate::rows::canonical(part);
        self.uint(bytes.len() as u64);
        self.bytes(&bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.uint(text.len() as u64);
        self.bytes(text.as_bytes());
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn bytes(&mut self, count: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    pub(crate) fn uint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds the one bit that is left.
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn int(&mut self) -> Option<i64> {
        self.uint().map(unzigzag)
    }

    pub(crate) fn key(&mut self) -> Option<SignalKey> {
        self.chunk().map(|bytes| SignalKey(u32::from_le_bytes(bytes)))
    }

    pub(crate) fn float(&mut self) -> Option<f64> {
        let number = self.uint()?;
        match number & 3 {
            WHOLE => Some((number >> 2) as f64),
            MILLIONTHS => Some(unzigzag(number >> 2) as f64 / MICROS),
            RAW => self.chunk().map(f64::from_le_bytes),
            _ => Some(f64::NAN).filter(|_| number == MISSING),
        }
    }

    pub(crate) fn plain<T: DeserializeOwned>(&mut self) -> Option<T> {
        let count = self.uint()?;
        match postcard::take_from_bytes(self.bytes(count)?) {
            Ok((part, [])) => Some(part),
            Ok(_) | Err(_) => None,
        }
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let count = self.uint()?;
        std::str::from_utf8(self.bytes(count)?).ok().map(str::to_owned)
    }
}

/// The whole number that a float is, if it is one of those that are exact. Minus zero is not.
fn exact(value: f64) -> Option<i64> {
    let whole = value.abs() < EXACT_MAX && value.fract() == 0.0;
    (whole && !(value == 0.0 && value.is_sign_negative())).then_some(value as i64)
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn unzigzag(code: u64) -> i64 {
    (code >> 1).cast_signed() ^ -((code & 1).cast_signed())
}
