//! Lists of an account: its latest alerts, what they went through, and its changes of level.
//!
//! Ids of alerts are sixteen bytes in hexadecimal digits, and the same in several rows: they come first, byte by byte, so that what
//! compresses blocks of rows finds them again.

use bellwether_core::account::SignalKey;
use bellwether_core::feedback::Raised;
use bellwether_core::life::Life;
use bellwether_core::rebaseline::{Change, Stage};
use bellwether_core::time::Day;

use super::bits::{BitReader, BitWriter};
use super::{Reader, Writer};
use crate::format::{Row, V1, V4};

/// Bytes of an id.
const ID_BYTES: usize = 16;
/// How a change goes on, in two bits.
const FOLLOWED: u64 = 0;
const OVER: u64 = 1;
const NORMAL: u64 = 2;

impl Row for Vec<Raised> {
    const VERSIONS: &'static [u8] = &[V1, V4];

    fn pack(&self, out: &mut Writer, _version: u8) {
        write_ids(self.iter().map(|raised| &raised.alert), out);
        for raised in self {
            let Raised { alert: _, kind, opened_at, urgent_at, withheld, .. } = raised;
            let Raised { acted_at, verdict, over, .. } = raised;
            out.plain(&(kind, opened_at, urgent_at, withheld, acted_at, verdict, over));
        }
    }

    fn unpack(input: &mut Reader<'_>, _version: u8) -> Option<Vec<Raised>> {
        let mut all = Vec::new();
        for alert in read_ids(input)? {
            let (kind, opened_at, urgent_at, withheld, acted_at, verdict, over) = input.plain()?;
            all.push(Raised {
                alert,
                kind,
                opened_at,
                urgent_at,
                withheld,
                acted_at,
                verdict,
                over,
            });
        }
        Some(all)
    }
}

impl Row for Vec<Life> {
    const VERSIONS: &'static [u8] = &[V1, V4];

    fn pack(&self, out: &mut Writer, _version: u8) {
        write_ids(self.iter().map(|life| &life.alert), out);
        for life in self {
            let Life { alert: _, kind, opened_at, standing, said, came_back, reopened } = life;
            out.plain(&(kind, opened_at, standing, said, came_back, reopened));
        }
    }

    fn unpack(input: &mut Reader<'_>, _version: u8) -> Option<Vec<Life>> {
        let mut all = Vec::new();
        for alert in read_ids(input)? {
            let (kind, opened_at, standing, said, came_back, reopened) = input.plain()?;
            all.push(Life { alert, kind, opened_at, standing, said, came_back, reopened });
        }
        Some(all)
    }
}

impl Row for Vec<Change> {
    const VERSIONS: &'static [u8] = &[V1, V4];

    fn pack(&self, out: &mut Writer, _version: u8) {
        out.uint(self.len() as u64);
        self.iter().for_each(|change| out.key(change.signal));
        let mut bits = BitWriter::default();
        let mut before = Day::default();
        for change in self {
            write_change(change, before, &mut bits);
            before = change.since;
        }
        out.bytes(&bits.into_bytes());
    }

    fn unpack(input: &mut Reader<'_>, _version: u8) -> Option<Vec<Change>> {
        let mut keys = Vec::new();
        for _ in 0..input.uint()? {
            keys.push(input.key()?);
        }
        let mut bits = BitReader::new(std::mem::take(&mut input.0));
        let mut all: Vec<Change> = Vec::with_capacity(keys.len());
        for key in keys {
            let before = all.last().map_or(Day::default(), |change| change.since);
            all.push(read_change(key, before, &mut bits)?);
        }
        bits.is_done().then_some(all)
    }
}

/// Days are differences to others of the same change, or to the change before.
fn write_change(change: &Change, before: Day, bits: &mut BitWriter) {
    let since = change.since;
    write_day(since, before, bits);
    write_day(change.found, since, bits);
    bits.float(change.before, 4);
    bits.float(change.after, 4);
    bits.flag(change.risk);
    bits.flag(change.held);
    bits.rice(change.days_back.into(), 2);
    let (stage, day) = match change.stage {
        Stage::Followed => (FOLLOWED, None),
        Stage::Over(day) => (OVER, Some(day)),
        Stage::Normal(day) => (NORMAL, Some(day)),
    };
    bits.put(stage, 2);
    if let Some(day) = day {
        write_day(day, since, bits);
    }
}

fn read_change(signal: SignalKey, before: Day, bits: &mut BitReader<'_>) -> Option<Change> {
    let since = read_day(before, bits)?;
    Some(Change {
        signal,
        since,
        found: read_day(since, bits)?,
        before: bits.float(4)?,
        after: bits.float(4)?,
        risk: bits.flag()?,
        held: bits.flag()?,
        days_back: u16::try_from(bits.rice(2)?).ok()?,
        stage: match bits.take(2)? {
            FOLLOWED => Stage::Followed,
            OVER => Stage::Over(read_day(since, bits)?),
            NORMAL => Stage::Normal(read_day(since, bits)?),
            _ => return None,
        },
    })
}

fn write_day(day: Day, from: Day, bits: &mut BitWriter) {
    bits.signed(i64::from(day.0) - i64::from(from.0));
}

fn read_day(from: Day, bits: &mut BitReader<'_>) -> Option<Day> {
    i32::try_from(bits.signed()?.checked_add(from.0.into())?).ok().map(Day)
}

/// How many, and each: zero and sixteen bytes, or as text with its length and one.
fn write_ids<'a>(ids: impl ExactSizeIterator<Item = &'a String>, out: &mut Writer) {
    out.uint(ids.len() as u64);
    for id in ids {
        match bytes_of(id) {
            Some(bytes) => {
                out.uint(0);
                out.bytes(&bytes);
            }
            None => {
                out.uint(id.len() as u64 + 1);
                out.bytes(id.as_bytes());
            }
        }
    }
}

fn read_ids(input: &mut Reader<'_>) -> Option<Vec<String>> {
    let mut ids = Vec::new();
    for _ in 0..input.uint()? {
        ids.push(match input.uint()? {
            0 => {
                let bytes: [u8; ID_BYTES] = input.chunk()?;
                format!("{:032x}", u128::from_be_bytes(bytes))
            }
            length => std::str::from_utf8(input.bytes(length - 1)?).ok()?.to_owned(),
        });
    }
    Some(ids)
}

/// The bytes of an id of lower-case hexadecimal digits.
fn bytes_of(id: &str) -> Option<[u8; ID_BYTES]> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let digits = Some(id).filter(|id| id.len() == 2 * ID_BYTES && id.bytes().all(is_digit))?;
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}
