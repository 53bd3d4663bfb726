//! The formats in which rows are written. Every one of them is read for ever; the first byte of a value says which it is.
//!
//! | format | what |
//! |---|---|
//! | 1 | postcard of the row |
//! | 2 | [`packed`](crate::packed): numbers as short as they are, times as differences, closed days in bits. Profiles stay in 1 |
//! | 3 | values as in 2; besides, rows of what plans use (`D` `09`), profiles in their version 2 where they have the end of a fiscal year, of rolling sums what changed alone (`A` `22`), and what a learned scorecard said (`A` `23`) |
//!
//! # Invariants
//! - A value of a format that is not known is refused ([`StoreError::UnknownVersion`]), which is no damage: wiping would not help.
//! - Which format is written is the operator's choice ([`Format`]), so that versions of Bellwether can work on the same partitions in
//!   turn: what they share is the oldest format that one of them knows.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;
use crate::packed::{Reader, Writer};
use crate::rows;

/// A format to write rows in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Format {
    /// As the first version of Bellwether writes them.
    V1,
    /// About half of that.
    V2,
    /// The same, and rows that the versions before it cannot read.
    #[default]
    V3,
}

impl Format {
    /// All formats, oldest first.
    pub const ALL: [Format; 3] = [Format::V1, Format::V2, Format::V3];
    /// The newest one.
    pub const NEWEST: Format = Format::V3;

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
        }
    }

    /// Whether levels of plans and ends of fiscal years are written, which a version that knows only older formats cannot read.
    #[must_use]
    pub fn has_plans(self) -> bool {
        self >= Format::V3
    }

    /// Whether what changed of rolling sums is written alone, without the sums that did not.
    #[must_use]
    pub fn has_recent(self) -> bool {
        self >= Format::V3
    }

    /// The number in front of values: that of the first format that writes them so.
    pub(crate) fn value_version(self) -> u8 {
        match self {
            Format::V1 => 1,
            Format::V2 | Format::V3 => 2,
        }
    }
}

/// A kind of row that has more than one format.
pub(crate) trait Row: Serialize + DeserializeOwned {
    /// Writes the packed form.
    fn pack(&self, out: &mut Writer);

    /// Reads the packed form; none where it is damaged.
    fn unpack(input: &mut Reader<'_>) -> Option<Self>;
}

/// A row as it is stored.
pub(crate) fn encode<R: Row>(row: &R, format: Format) -> Vec<u8> {
    match format {
        Format::V1 => rows::encode(row),
        Format::V2 | Format::V3 => {
            let mut out = Writer::new(format.value_version());
            row.pack(&mut out);
            out.into_bytes()
        }
    }
}

/// Reads a row in any format; all of it.
pub(crate) fn decode<R: Row>(what: &'static str, value: &[u8]) -> Result<R, StoreError> {
    match version(what, value)? {
        Format::V1 => rows::decode(what, value),
        Format::V2 | Format::V3 => {
            let mut input = Reader::new(value.get(1..).unwrap_or_default());
            let row = R::unpack(&mut input).filter(|_| input.is_empty());
            row.ok_or_else(|| StoreError::Corrupt(format!("{what} cannot be read")))
        }
    }
}

/// The format of a value: the first one that writes it so.
pub(crate) fn version(what: &'static str, value: &[u8]) -> Result<Format, StoreError> {
    match value.first() {
        Some(&version) => {
            let known = Format::ALL.into_iter().find(|format| format.value_version() == version);
            known.ok_or(StoreError::UnknownVersion { what, version })
        }
        None => Err(StoreError::Corrupt(format!("{what} is empty"))),
    }
}
