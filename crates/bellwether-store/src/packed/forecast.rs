//! The forecast of an account's day: what is expected is any number, or a whole one where events are counted, and the ends of the interval
//! are whole as a rule.

use bellwether_core::account::SignalKey;
use bellwether_core::forecast::{Forecast, Limits};
use bellwether_core::time::Day;

use super::bits::{BitReader, BitWriter};
use super::{Reader, Writer};
use crate::format::{Row, V1, V4};

impl Row for Forecast {
    const VERSIONS: &'static [u8] = &[V1, V4];

    fn pack(&self, out: &mut Writer, _version: u8) {
        out.int(self.day.0.into());
        out.uint(self.limits.len() as u64);
        self.limits.iter().for_each(|(key, _)| out.key(*key));
        let mut bits = BitWriter::default();
        let mut before = 1.0;
        for (_, Limits { low, expected, high }) in &self.limits {
            bits.single_or_whole(*expected, before);
            bits.single_near(*low, *expected);
            bits.single_near(*high, *expected);
            before = *expected;
        }
        out.bytes(&bits.into_bytes());
    }

    fn unpack(input: &mut Reader<'_>, _version: u8) -> Option<Forecast> {
        let day = Day(i32::try_from(input.int()?).ok()?);
        let count = input.uint()?;
        let mut keys: Vec<SignalKey> = Vec::new();
        for _ in 0..count {
            keys.push(input.key()?);
        }
        let mut bits = BitReader::new(std::mem::take(&mut input.0));
        let mut before = 1.0;
        let mut limits = Vec::with_capacity(keys.len());
        for key in keys {
            let expected = bits.single_or_whole(before)?;
            let (low, high) = (bits.single_near(expected)?, bits.single_near(expected)?);
            limits.push((key, Limits { low, expected, high }));
            before = expected;
        }
        bits.is_done().then_some(Forecast { day, limits })
    }
}
