//! Files of events, profiles, outcomes, calendar entries and promotions, for replay.
//!
//! Formats go by the file's ending: `.csv`, `.ndjson` / `.jsonl` / `.json` (one object a line), each plain or with `.gz`, and `.avro`
//! (container files). Columns and fields are those of `schemas/*.avsc`, or the aliases of the evaluation files (`user_id`,
//! `cohort`, `signal`, `object`).
//!
//! # Invariants
//! - Files are streamed: memory is bounded by [`LINE_BYTES_MAX`], or by one block of an Avro file.
//! - A bad line is an item of its own, with its number, and reading goes on; only what makes the rest unreadable (a broken gzip
//!   stream, a broken Avro block) ends the iteration, as its last item.

mod csv;
mod lines;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use apache_avro::Reader;
use bellwether_core::calendar::Entry;
use bellwether_core::event::{Event, Input, Outcome, Profile};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::reject::{Reason, Reject};
use bellwether_core::time::Millis;
use flate2::read::MultiGzDecoder;

use crate::decode::{check_resolves, from_written, json, limit_allocations};
use crate::input::{
    CalendarRecord, EventRecord, OutcomeRecord, ProfileRecord, PromotionRecord, invalid,
};
use crate::scalar::InstantMs;
use crate::schema;
use crate::sentiment::Sentiment;
use csv::{Column, Row, Table};
use lines::Lines;

/// The longest line that is read; a longer one is an error of that line.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system says no.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
    /// The ending names no format that fits.
    #[error("{path}: the file name has to end in {allowed}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The endings that are allowed.
        allowed: &'static str,
    },
    /// The first line of a CSV file names no such column.
    #[error("{path}: there is no column {wanted} in the first line; found are: {found}")]
    Column {
        /// The file.
        path: PathBuf,
        /// The column, with its aliases.
        wanted: String,
        /// The columns that are there.
        found: String,
    },
    /// The header cannot be read.
    #[error("{path}: {detail}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

/// A line (or a record of an Avro file) that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reject}")]
pub struct FileError {
    /// Its number, from 1; in an Avro file the number of the record.
    pub line: u64,
    /// Why.
    pub reject: Reject,
    /// Whether what follows cannot be read either: the file is damaged or incomplete.
    pub is_last: bool,
}

/// How much of a file was read, in bytes as they are on disk (compressed bytes of a compressed file). Cheap to clone, for a progress bar.
#[derive(Debug, Clone)]
pub struct Progress {
    read: Arc<AtomicU64>,
    total: u64,
}

impl Progress {
    /// Bytes read so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes in the file.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.total
    }
}

/// The records of a file, in its order.
pub struct Records<T> {
    items: Box<dyn Iterator<Item = Result<T, FileError>> + Send>,
    progress: Progress,
}

impl<T> Records<T> {
    /// How far reading has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl<T> Iterator for Records<T> {
    type Item = Result<T, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.items.next()
    }
}

impl<T> std::fmt::Debug for Records<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Records").field("progress", &self.progress).finish_non_exhaustive()
    }
}

/// Opens a file of events: CSV, JSON lines or Avro.
///
/// CSV columns, in any order: `event_id`, `account_id`, `type` (or `signal`), `occurred_at` (ISO-8601 or epoch milliseconds); and where
/// there are: `member_id` (`user_id`), `member_role`, `feature` (`object`), `segment` (`cohort`), `value`, `text`. An empty cell is null.
///
/// # Errors
/// The file cannot be opened, its ending names no format, or a column is missing.
pub fn open(path: &Path) -> Result<Records<Event>, OpenError> {
    let source = Source::open(path)?;
    let progress = source.progress.clone();
    let sentiment = Sentiment::new();
    let items: Box<dyn Iterator<Item = _> + Send> = match source.format {
        Format::Json => {
            json_items(source, move |record: EventRecord<String>| record.check(&sentiment))
        }
        Format::Csv => {
            let columns = [
                Column::required(&["event_id"]),
                Column::required(&["account_id"]),
                Column::required(&["type", "signal"]),
                Column::required(&["occurred_at"]),
                Column::optional(&["member_id", "user_id"]),
                Column::optional(&["member_role"]),
                Column::optional(&["feature", "object"]),
                Column::optional(&["segment", "cohort"]),
                Column::optional(&["value"]),
                Column::optional(&["text"]),
            ];
            let table = Table::open(path, source.lines(), &columns)?;
            Box::new(table.read(move |row| event_of(&row)?.check(&sentiment).map(Some)))
        }
        Format::Avro => avro_events(path, source, sentiment)?,
    };
    Ok(Records { items, progress })
}

/// Opens a file of profiles: JSON lines with the fields of `schemas/account-profile.avsc`.
///
/// # Errors
/// The file cannot be opened, or its ending names another format.
pub fn open_profiles(path: &Path) -> Result<Records<Profile>, OpenError> {
    json_only(path, ProfileRecord::check)
}

/// Opens a file of calendar entries: JSON lines with the fields of `schemas/calendar-entry.avsc`.
///
/// # Errors
/// The file cannot be opened, or its ending names another format.
pub fn open_calendar(path: &Path) -> Result<Records<(EventId, Entry)>, OpenError> {
    json_only(path, CalendarRecord::check)
}

/// Opens a file of promotions and challengers: JSON lines with the fields of `schemas/model-promotion.avsc`.
///
/// # Errors
/// The file cannot be opened, or its ending names another format.
pub fn open_promotions(path: &Path) -> Result<Records<Input>, OpenError> {
    json_only(path, PromotionRecord::check)
}

/// Opens a file that can only be JSON lines.
fn json_only<R, T>(
    path: &Path,
    check: impl Fn(R) -> Result<T, Reject> + Send + 'static,
) -> Result<Records<T>, OpenError>
where
    R: serde::de::DeserializeOwned,
    T: 'static,
{
    let source = Source::open(path)?;
    let progress = source.progress.clone();
    match source.format {
        Format::Json => Ok(Records { items: json_items(source, check), progress }),
        Format::Csv | Format::Avro => Err(OpenError::Format {
            path: path.to_owned(),
            allowed: ".ndjson, .jsonl or .json, or one of these and .gz",
        }),
    }
}

/// Opens a file of outcomes: JSON lines with the fields of `schemas/outcome.avsc`, or CSV with the columns of the evaluation kit
/// (`account_id`, `kind`, `churned_at`; others are not used): a row is an outcome `churned` at `churned_at`, and none where that is empty.
///
/// # Errors
/// The file cannot be opened, its ending names another format, or a column is missing.
pub fn open_outcomes(path: &Path) -> Result<Records<Outcome>, OpenError> {
    let source = Source::open(path)?;
    let progress = source.progress.clone();
    let items: Box<dyn Iterator<Item = _> + Send> = match source.format {
        Format::Json => json_items(source, OutcomeRecord::check),
        Format::Csv => {
            let columns = [
                Column::required(&["account_id"]),
                Column::required(&["kind"]),
                Column::required(&["churned_at"]),
            ];
            let table = Table::open(path, source.lines(), &columns)?;
            Box::new(table.read(|row| churn_of(&row)?.map(OutcomeRecord::check).transpose()))
        }
        Format::Avro => {
            return Err(OpenError::Format {
                path: path.to_owned(),
                allowed: ".csv, .ndjson, .jsonl or .json, or one of these and .gz",
            });
        }
    };
    Ok(Records { items, progress })
}

/// A stay of an account, as a table lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StayRow {
    /// The account.
    pub account: AccountId,
    /// What is called its end.
    pub kind: String,
    /// From when it is looked at; none: from its first event.
    pub eligible_from: Option<Millis>,
    /// When it ended; none: it did not.
    pub churned_at: Option<Millis>,
    /// Until when it was observed; none: to the end of the data.
    pub observed_until: Option<Millis>,
}

/// Opens a table of stays: CSV with the columns `account_id`, `kind` and `churned_at`, and `eligible_from` and `observed_until` where
/// those that did not end are listed, too.
///
/// # Errors
/// The file cannot be opened, its ending names another format, or a column is missing.
pub fn open_stays(path: &Path) -> Result<Records<StayRow>, OpenError> {
    let source = Source::open(path)?;
    let progress = source.progress.clone();
    if !matches!(source.format, Format::Csv) {
        return Err(OpenError::Format { path: path.to_owned(), allowed: ".csv or .csv.gz" });
    }
    let columns = [
        Column::required(&["account_id"]),
        Column::required(&["kind"]),
        Column::required(&["churned_at"]),
        Column::optional(&["eligible_from"]),
        Column::optional(&["observed_until"]),
    ];
    let table = Table::open(path, source.lines(), &columns)?;
    let items: Box<dyn Iterator<Item = _> + Send> =
        Box::new(table.read(|row| stay_of(&row).map(Some)));
    Ok(Records { items, progress })
}

fn stay_of(row: &Row<'_>) -> Result<StayRow, Reject> {
    let at = |column: usize, name: &str| {
        row.text(column)?.map(|_| row_instant(row, column, name).map(|at| at.0)).transpose()
    };
    let account = row.text(0)?.unwrap_or_default();
    Ok(StayRow {
        account: AccountId::new(account)
            .map_err(|error| invalid(format!("account_id: {error}")))?,
        kind: row.text(1)?.unwrap_or_default().to_owned(),
        churned_at: at(2, "churned_at")?,
        eligible_from: at(3, "eligible_from")?,
        observed_until: at(4, "observed_until")?,
    })
}

fn event_of<'a>(row: &Row<'a>) -> Result<EventRecord<&'a str>, Reject> {
    let value = row.text(8)?.map(|text| {
        text.parse::<f64>().map_err(|_| invalid(format!("value is {text:?}; it must be a number")))
    });
    Ok(EventRecord {
        event_id: row.text(0)?.unwrap_or_default(),
        account_id: row.text(1)?.unwrap_or_default(),
        kind: row.text(2)?.unwrap_or_default(),
        occurred_at: row_instant(row, 3, "occurred_at")?,
        member_id: row.text(4)?,
        member_role: row.text(5)?,
        feature: row.text(6)?,
        segment: row.text(7)?,
        value: value.transpose()?,
        text: row.text(9)?,
    })
}

fn churn_of(row: &Row<'_>) -> Result<Option<OutcomeRecord>, Reject> {
    if row.text(2)?.is_none() {
        return Ok(None);
    }
    let account_id = row.text(0)?.unwrap_or_default();
    let kind = row.text(1)?.unwrap_or_default();
    let occurred_at = row_instant(row, 2, "churned_at")?;
    Ok(Some(OutcomeRecord {
        outcome_id: format!("{account_id}:{kind}:{}", occurred_at.0.0),
        account_id: account_id.to_owned(),
        occurred_at,
        kind: "churned".to_owned(),
        alert_id: None,
        until: None,
        by: None,
        note: Some(kind.to_owned()),
    }))
}

fn row_instant(row: &Row<'_>, column: usize, name: &str) -> Result<InstantMs, Reject> {
    let text = row.text(column)?.unwrap_or_default();
    Millis::parse(text).map(InstantMs).ok_or_else(|| {
        invalid(format!("{name} is {text:?}; it must be ISO-8601 or milliseconds since the epoch"))
    })
}

fn json_items<R, T>(
    source: Source,
    check: impl Fn(R) -> Result<T, Reject> + Send + 'static,
) -> Box<dyn Iterator<Item = Result<T, FileError>> + Send>
where
    R: serde::de::DeserializeOwned,
    T: 'static,
{
    Box::new(source.lines().map_lines(move |line| json(line).and_then(&check).map(Some)))
}

fn avro_events(
    path: &Path,
    source: Source,
    sentiment: Sentiment,
) -> Result<Box<dyn Iterator<Item = Result<Event, FileError>> + Send>, OpenError> {
    limit_allocations();
    let header = |detail| OpenError::Header { path: path.to_owned(), detail };
    let reader = Reader::new(source.bytes).map_err(|error| header(error.to_string()))?;
    check_resolves(reader.writer_schema(), &schema::USAGE_EVENT).map_err(header)?;
    let mut number = 0;
    Ok(Box::new(reader.map(move |value| {
        number += 1;
        // The reader gives up at a block that it cannot read.
        let is_last = value.is_err();
        value
            .map_err(|error| Reject::new(Reason::Malformed, error.to_string()))
            .and_then(|value| from_written::<EventRecord<String>>(value, &schema::USAGE_EVENT))
            .and_then(|record| record.check(&sentiment))
            .map_err(|reject| FileError { line: number, reject, is_last })
    })))
}

#[derive(Clone, Copy)]
enum Format {
    Csv,
    Json,
    Avro,
}

/// An opened file: its bytes, decompressed.
struct Source {
    bytes: Box<dyn Read + Send>,
    format: Format,
    progress: Progress,
}

impl Source {
    fn open(path: &Path) -> Result<Source, OpenError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let (stem, gzipped) = match name.strip_suffix(".gz") {
            Some(stem) => (stem, true),
            None => (name.as_str(), false),
        };
        let format = match stem.rsplit_once('.').map(|(_, ending)| ending) {
            Some("csv") => Format::Csv,
            Some("ndjson" | "jsonl" | "json") => Format::Json,
            Some("avro") if !gzipped => Format::Avro,
            Some(_) | None => {
                return Err(OpenError::Format {
                    path: path.to_owned(),
                    allowed: ".csv, .ndjson, .jsonl or .json, or one of these and .gz, or in .avro",
                });
            }
        };
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let total = file.metadata().map_err(io)?.len();
        let progress = Progress { read: Arc::default(), total };
        let counted = BufReader::new(Counted { file, read: Arc::clone(&progress.read) });
        let bytes: Box<dyn Read + Send> =
            if gzipped { Box::new(MultiGzDecoder::new(counted)) } else { Box::new(counted) };
        Ok(Source { bytes, format, progress })
    }

    fn lines(self) -> Lines {
        Lines::new(self.bytes)
    }
}

/// Counts what is read from a file.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
