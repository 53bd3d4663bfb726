//! The formats in which rows are written. Every one of them is read for ever; the first byte of a value says which it is.
//!
//! | format | what |
//! |---|---|
//! | 1 | postcard of the row |
//! | 2 | [`packed`](crate::packed): numbers as short as they are, times as differences, closed days in bits. Profiles stay in 1 |
//! | 3 | values as in 2; besides, rows of what plans use (`D` `09`), profiles in their version 2 where they have the end of a fiscal year, and of rolling sums what changed alone (`A` `22`) |
//! | 4 | closed days at about the cost of their information (`A` `02`), the hot row (`A` `01`), the forecast (`A` `07`) and changes of level (`A` `09`) in bits, ids of alerts as bytes (`A` `13`, `A` `14`); other values as in 3; besides, what a learned scorecard said (`A` `23`), and lines of a learned score (`A` `12`) in their version 4 where one is about the contract |
//!
//! Since format 4 the last value of an open day and its time are kept of gauges alone; in formats 2 and 3, which left both out where every event
//! counts one, an open day of counts takes some bytes more than it did.
//!
//! The rows of what a learned scorecard said joined format 3 when there were workers that wrote format 3 without them, and lines about the
//! contract joined format 4 likewise. None of these was released; since there is a format 4, both belong to that.
//!
//! # Invariants
//! - A value of a format that is not known is refused ([`StoreError::UnknownVersion`]), which is no damage: wiping would not help.
//! - Which format is written is the operator's choice ([`Format`]), so that versions of Bellwether can work on the same partitions in
//!   turn: what they share is the oldest format that one of them knows.
//! - A value begins with the number of the first format that writes it so ([`Row::VERSIONS`]).

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;
use crate::packed::{Reader, Writer};
use crate::rows;

/// Values that are postcard.
pub(crate) const V1: u8 = 1;
/// Values as format 2 writes them.
pub(crate) const V2: u8 = 2;
/// Values as format 4 writes them.
pub(crate) const V4: u8 = 4;

/// A format to write rows in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Format {
    /// As the first version of Bellwether writes them.
    V1,
    /// About half of that.
    V2,
    /// The same, and rows that the versions before it cannot read.
    V3,
    /// About two thirds of that.
    #[default]
    V4,
}

impl Format {
    /// All formats, oldest first.
    pub const ALL: [Format; 4] = [Format::V1, Format::V2, Format::V3, Format::V4];
    /// The newest one.
    pub const NEWEST: Format = Format::V4;

    /// The format of this number, if there is one.
    #[must_use]
    pub fn numbered(number: u8) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.number() == number)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Format::V1 => 1,
            Format::V2 => 2,
            Format::V3 => 3,
            Format::V4 => 4,
        }
    }

    /// Whether levels of plans and ends of fiscal years are written, which a version that knows only older formats cannot read.
    #[must_use]
    pub fn has_plans(self) -> bool {
        self >= Format::V3
    }

    /// Whether what a learned scorecard said is written.
    #[must_use]
    pub fn has_predicted(self) -> bool {
        self >= Format::V4
    }

    /// Whether lines about the contract are written among those of a learned score.
    #[must_use]
    pub fn has_contract(self) -> bool {
        self >= Format::V4
    }

    /// Whether what changed of rolling sums is written alone, without the sums that did not.
    #[must_use]
    pub fn has_recent(self) -> bool {
        self >= Format::V3
    }
}

/// A kind of row that has more than one format.
pub(crate) trait Row: Serialize + DeserializeOwned {
    /// The numbers that its values may begin with, oldest first: of the formats in which it changed.
    const VERSIONS: &'static [u8] = &[V1, V2];

    /// Writes the packed form that a version has.
    fn pack(&self, out: &mut Writer, version: u8);

    /// Reads the packed form of a version; none where it is damaged.
    fn unpack(input: &mut Reader<'_>, version: u8) -> Option<Self>;
}

/// The number in front of a row's values in a format.
pub(crate) fn value_version<R: Row>(format: Format) -> u8 {
    let known = R::VERSIONS.iter().rfind(|version| **version <= format.number());
    known.copied().unwrap_or(V1)
}

/// A row as it is stored.
pub(crate) fn encode<R: Row>(row: &R, format: Format) -> Vec<u8> {
    match value_version::<R>(format) {
        V1 => rows::encode(row),
        version => {
            let mut out = Writer::new(version);
            row.pack(&mut out, version);
            out.into_bytes()
        }
    }
}

/// Reads a row in any format; all of it.
pub(crate) fn decode<R: Row>(what: &'static str, value: &[u8]) -> Result<R, StoreError> {
    match version::<R>(what, value)? {
        V1 => rows::decode(what, value),
        version => {
            let mut input = Reader::new(value.get(1..).unwrap_or_default());
            let row = R::unpack(&mut input, version).filter(|_| input.is_empty());
            row.ok_or_else(|| StoreError::Corrupt(format!("{what} cannot be read")))
        }
    }
}

/// The version of a value of this kind of row.
pub(crate) fn version<R: Row>(what: &'static str, value: &[u8]) -> Result<u8, StoreError> {
    match value.first() {
        Some(version) if R::VERSIONS.contains(version) => Ok(*version),
        Some(&version) => Err(StoreError::UnknownVersion { what, version }),
        None => Err(StoreError::Corrupt(format!("{what} is empty"))),
    }
}
