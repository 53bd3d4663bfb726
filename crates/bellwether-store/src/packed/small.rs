//! The clock, and records of seen ids.

use bellwether_core::state::Clock;
use bellwether_core::time::Millis;

use super::bits::{BitReader, BitWriter, rice_parameter};
use super::{Reader, Writer};
use crate::format::Row;
use crate::seen::SeenRecord;

const TICKED: u8 = 8;

/// Times are differences to the newest.
impl Row for Clock {
    fn pack(&self, out: &mut Writer, _version: u8) {
        let times = [self.newest, self.fired, self.horizon];
        let there = (0..).zip(times).map(|(bit, time)| u8::from(time.is_some()) << bit);
        out.byte(there.sum::<u8>() | if self.ticked { TICKED } else { 0 });
        let mut before = 0;
        for time in times.into_iter().flatten() {
            out.int(time.0.wrapping_sub(before));
            before = time.0;
        }
    }

    fn unpack(input: &mut Reader<'_>, _version: u8) -> Option<Clock> {
        let there = Some(input.byte()?).filter(|there| *there < 2 * TICKED)?;
        let mut times = [None; 3];
        let mut before = 0_i64;
        for (bit, time) in (0..).zip(&mut times) {
            if there >> bit & 1 == 1 {
                before = before.wrapping_add(input.int()?);
                *time = Some(Millis(before));
            }
        }
        let [newest, fired, horizon] = times;
        Some(Clock { newest, fired, ticked: there & TICKED != 0, horizon })
    }
}

/// Hashes are evenly spread and ascend: what is written is their distance, in about its expected length.
impl Row for SeenRecord {
    fn pack(&self, out: &mut Writer, _version: u8) {
        out.uint(self.hours.len() as u64);
        let mut bits = BitWriter::default();
        for (hour, hashes) in &self.hours {
            out.int(*hour);
            out.uint(hashes.len() as u64);
            let k = spacing(hashes.len());
            let mut before = 0_u64;
            for hash in hashes {
                bits.rice(hash.wrapping_sub(before), k);
                before = *hash;
            }
        }
        out.bytes(&bits.into_bytes());
    }

    fn unpack(input: &mut Reader<'_>, _version: u8) -> Option<SeenRecord> {
        let count = input.uint()?;
        let mut heads = Vec::new();
        for _ in 0..count {
            heads.push((input.int()?, input.uint()?));
        }
        let mut bits = BitReader::new(std::mem::take(&mut input.0));
        let mut hours = Vec::new();
        for (hour, count) in heads {
            let k = spacing(usize::try_from(count).ok()?);
            let mut before = 0_u64;
            let mut hashes = Vec::new();
            for _ in 0..count {
                before = before.wrapping_add(bits.rice(k)?);
                hashes.push(before);
            }
            hours.push((hour, hashes));
        }
        bits.is_done().then_some(SeenRecord { hours })
    }
}

/// The Rice parameter for the distances of so many evenly spread hashes.
fn spacing(count: usize) -> u32 {
    rice_parameter(1 << 64, count)
}
