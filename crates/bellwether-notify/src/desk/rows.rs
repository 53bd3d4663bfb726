//! Rows as they are written: JSON with the format that has them (`v`). Every format is read for ever.
//!
//! | format | what |
//! |---|---|
//! | 1 | the kinds of rows that there were first |
//! | 2 | besides, `stale`: how much was parked on a day because it lies too far back |
//!
//! # Invariants
//! - A row that an older notifier would misread is of a newer format: a new kind, a new field, a field that means something else. A row that
//!   it reads as it is meant stays in the format that had it first. The texts in the tests below hold this: one that changes needs a format.
//! - A row of a format that is not known is refused, which is no damage: a person upgrades, and nothing was lost.
//! - Which format is written is the operator's choice ([`Format`]), so that notifiers of several versions can work on the same partitions in
//!   turn: what they share is the oldest format that one of them knows.

use serde::{Deserialize, Serialize};

use super::untold::Untold;
use super::{Hours, Queued, Told};
use crate::delivery::Delivery;

/// A format to write rows in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Format {
    /// As the first notifiers write them.
    V1,
    /// The same, and rows that those cannot read.
    #[default]
    V2,
}

impl Format {
    /// All formats, oldest first.
    pub const ALL: [Format; 2] = [Format::V1, Format::V2];
    /// The newest one.
    pub const NEWEST: Format = Format::V2;

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
        }
    }

    /// Whether it is written how much was parked because it lies too far back.
    #[must_use]
    pub fn has_stale(self) -> bool {
        self >= Format::V2
    }
}

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A newer notifier wrote it.
    #[error(
        "row {key} of the delivery state has format {found}, this version reads up to {newest}: upgrade bellwether (in a rolling upgrade the \
         newer notifiers write the older format while `notify.format` is set, see the README)"
    )]
    Newer {
        /// Its key.
        key: String,
        /// Its format.
        found: u32,
        /// The newest one that is known.
        newest: u8,
    },
    /// It is damaged, or of another program.
    #[error("row {key} of the delivery state cannot be read: {detail}")]
    Unreadable {
        /// Its key.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl RowError {
    pub(super) fn unreadable(key: &str, detail: &str) -> RowError {
        RowError::Unreadable { key: key.to_owned(), detail: detail.to_owned() }
    }
}

/// Content of a row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    Delivery(Box<Delivery>),
    Done { at_ms: i64 },
    Queued(Box<Queued>),
    Told(Told),
    Urgent { told: u32 },
    Stale { parked: u64 },
    Rate(Hours),
    Untold(Untold),
    Redriven { next: i64 },
    Forgotten { before_ms: i64 },
    Accounts { count: usize },
}

impl Content {
    /// The first format that has it.
    fn format(&self) -> Format {
        match self {
            Content::Stale { .. } => Format::V2,
            Content::Delivery(_)
            | Content::Done { .. }
            | Content::Queued(_)
            | Content::Told(_)
            | Content::Urgent { .. }
            | Content::Rate(_)
            | Content::Untold(_)
            | Content::Redriven { .. }
            | Content::Forgotten { .. }
            | Content::Accounts { .. } => Format::V1,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    v: u32,
    row: Content,
}

pub(super) fn encode(row: Content) -> Option<Vec<u8>> {
    Some(
        serde_json::to_vec(&Row { v: row.format().number().into(), row })
            .expect("rows hold texts, numbers and lists of them, all of which JSON can say"),
    )
}

pub(super) fn decode(key: &str, value: &[u8]) -> Result<Content, RowError> {
    /// What every format has.
    #[derive(Deserialize)]
    struct Any {
        v: u32,
    }
    let newest = Format::NEWEST.number();
    let row = serde_json::from_slice::<Row>(value);
    // What a newer format holds may look like anything: its number comes first.
    let found = match &row {
        Ok(row) => Some(row.v),
        Err(_) => serde_json::from_slice::<Any>(value).ok().map(|any| any.v),
    };
    if let Some(found) = found.filter(|found| *found > newest.into()) {
        return Err(RowError::Newer { key: key.to_owned(), found, newest });
    }
    row.map(|row| row.row).map_err(|error| RowError::unreadable(key, &error.to_string()))
}

/// The day that a row is of.
pub(super) fn day_of(key: &str, name: &str) -> Result<i64, RowError> {
    name.parse().map_err(|_| RowError::unreadable(key, "its day is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of each kind, and its format. Committed once, read for ever: where a test finds that such a row is not written like this any
    /// more, the change needs a format of its own, and a row here.
    const ROWS: &str = include_str!("rows.ndjson");

    fn kind(content: &Content) -> &'static str {
        match content {
            Content::Delivery(_) => "delivery",
            Content::Done { .. } => "done",
            Content::Queued(_) => "queued",
            Content::Told(_) => "told",
            Content::Urgent { .. } => "urgent",
            Content::Stale { .. } => "stale",
            Content::Rate(_) => "rate",
            Content::Untold(_) => "untold",
            Content::Redriven { .. } => "redriven",
            Content::Forgotten { .. } => "forgotten",
            Content::Accounts { .. } => "accounts",
        }
    }

    #[test]
    fn rows_are_written_as_they_were_in_their_format() {
        let mut kinds = std::collections::BTreeSet::new();
        for text in ROWS.lines() {
            let content = decode("a/row", text.as_bytes()).expect("readable");
            kinds.insert(kind(&content));
            let again = encode(content).expect("a row");
            assert_eq!(String::from_utf8_lossy(&again), text);
        }
        assert_eq!(kinds.len(), 11, "there is one of each kind: {kinds:?}");
    }

    #[test]
    fn a_row_of_a_newer_format_asks_for_an_upgrade_whatever_it_holds() {
        for text in [
            r#"{"v":3,"row":{"kind_of_tomorrow":{"x":1}}}"#,
            r#"{"v":3,"row":{"done":{"at_ms":1}}}"#,
            r#"{"v":3,"content":"packed otherwise"}"#,
        ] {
            let error = decode("s/1", text.as_bytes()).expect_err("it is newer");
            let expected = RowError::Newer { key: "s/1".to_owned(), found: 3, newest: 2 };
            assert_eq!(error, expected, "{text}");
            let said = error.to_string();
            assert!(
                said.contains("upgrade bellwether") && said.contains("notify.format"),
                "{said}"
            );
        }
        for text in ["", "{", r#"{"v":1,"row":{"kind_of_tomorrow":{"x":1}}}"#, r#"{"row":1}"#] {
            let error = decode("s/1", text.as_bytes()).expect_err("it is damaged");
            assert!(matches!(error, RowError::Unreadable { .. }), "{text}: {error}");
        }
    }

    /// What an older notifier is not to meet is not written while its format is.
    #[test]
    fn an_older_format_has_none_of_the_rows_of_a_newer_one() {
        for format in Format::ALL {
            let mut desk = super::super::Desk::default();
            desk.count_stale(1, format);
            let rows = desk.take_changes().into_values().flatten();
            for row in rows {
                let content = decode("s/1", &row).expect("readable");
                assert!(content.format() <= format, "{format:?}");
            }
            assert_eq!(desk.stale_on(1), 1);
        }
    }
}
