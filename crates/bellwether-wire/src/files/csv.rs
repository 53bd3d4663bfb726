//! CSV (RFC 4180) with a header line; columns are found by name. A record is one line: a line break inside a quoted cell is an error
//! of that line, so that a stray quote costs one line and not the rest of the file.

use std::path::Path;

use bellwether_core::reject::{Reason, Reject};
use csv_core::{ReadRecordResult, Reader};

use super::lines::Lines;
use super::{FileError, OpenError};
use crate::input::invalid;
use crate::scalar::cut;

/// Cells that a line may have.
const CELLS_MAX: usize = 256;

/// A column to look for: its name, and others that it may go by.
pub(super) struct Column<'a> {
    names: &'a [&'a str],
    required: bool,
}

impl<'a> Column<'a> {
    pub(super) fn required(names: &'a [&'a str]) -> Column<'a> {
        Column { names, required: true }
    }

    pub(super) fn optional(names: &'a [&'a str]) -> Column<'a> {
        Column { names, required: false }
    }
}

/// A file whose header was read.
pub(super) struct Table {
    lines: Lines,
    /// For each column asked for, the cell that holds it.
    places: Vec<Option<usize>>,
    width: usize,
    cells: Cells,
}

impl Table {
    pub(super) fn open(
        path: &Path,
        mut lines: Lines,
        columns: &[Column<'_>],
    ) -> Result<Table, OpenError> {
        let header = |detail: String| OpenError::Header { path: path.to_owned(), detail };
        let first = match lines.next() {
            None => {
                return Err(header(
                    "the file is empty; its first line has to name the columns".to_owned(),
                ));
            }
            Some(Err(error)) => return Err(header(error.to_string())),
            Some(Ok(line)) => line,
        };
        let mut cells = Cells::new();
        cells.parse(first).map_err(|reject| header(reject.detail))?;
        let found: Vec<String> = (0..cells.count)
            .map(|index| String::from_utf8_lossy(cells.cell(index)).trim().to_owned())
            .collect();
        let mut places = Vec::with_capacity(columns.len());
        for column in columns {
            let place = found.iter().position(|name| column.names.contains(&name.as_str()));
            if column.required && place.is_none() {
                return Err(OpenError::Column {
                    path: path.to_owned(),
                    wanted: column.names.join(" or "),
                    found: cut(&found.join(", "), 512).to_owned(),
                });
            }
            places.push(place);
        }
        let width = cells.count;
        Ok(Table { lines, places, width, cells })
    }

    /// The rows, each read by `read`; where that gives none, the row stands for nothing.
    pub(super) fn read<T>(
        self,
        read: impl Fn(Row<'_>) -> Result<Option<T>, Reject>,
    ) -> impl Iterator<Item = Result<T, FileError>> {
        let Table { lines, places, width, mut cells } = self;
        lines.map_lines(move |line| {
            cells.parse(line)?;
            if cells.count != width {
                let count = cells.count;
                return Err(Reject::new(
                    Reason::Malformed,
                    format!("the line has {count} cells, the first line names {width} columns"),
                ));
            }
            read(Row { cells: &cells, places: &places })
        })
    }
}

/// One line of a table.
pub(super) struct Row<'a> {
    cells: &'a Cells,
    places: &'a [Option<usize>],
}

impl<'a> Row<'a> {
    /// A column's text; none where it is empty or there is no such column. Columns count as they were asked for.
    pub(super) fn text(&self, column: usize) -> Result<Option<&'a str>, Reject> {
        let Some(place) = self.places[column] else { return Ok(None) };
        match std::str::from_utf8(self.cells.cell(place)) {
            Ok("") => Ok(None),
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(invalid(format!("cell {} is not UTF-8", place + 1))),
        }
    }
}

/// The cells of the current line, unquoted. Reused from line to line: to build the parser costs more than to parse a line.
struct Cells {
    parser: Reader,
    bytes: Vec<u8>,
    ends: [usize; CELLS_MAX],
    count: usize,
}

impl Cells {
    fn new() -> Cells {
        Cells { parser: Reader::new(), bytes: Vec::new(), ends: [0; CELLS_MAX], count: 0 }
    }

    fn parse(&mut self, line: &[u8]) -> Result<(), Reject> {
        let malformed = |detail: &str| Err(Reject::new(Reason::Malformed, detail));
        if line.iter().filter(|&&byte| byte == b'"').count() % 2 == 1 {
            return malformed("a quoted cell does not end on its line");
        }
        self.parser.reset();
        // Unquoted, a line never grows; the parser wants room left at the end. Old bytes need not be cleared.
        self.bytes.resize(self.bytes.len().max(line.len() + 1), 0);
        let (mut result, _, written, count) =
            self.parser.read_record(line, &mut self.bytes, &mut self.ends);
        self.count = count;
        if matches!(result, ReadRecordResult::InputEmpty) {
            // No line end is passed in: an empty input is how the parser is told that the line is over.
            let (last, _, _, more) =
                self.parser.read_record(&[], &mut self.bytes[written..], &mut self.ends[count..]);
            result = last;
            self.count += more;
        }
        match result {
            ReadRecordResult::Record => Ok(()),
            ReadRecordResult::OutputEndsFull => {
                malformed(&format!("the line has more than {CELLS_MAX} cells"))
            }
            ReadRecordResult::InputEmpty | ReadRecordResult::OutputFull | ReadRecordResult::End => {
                malformed("the line is no CSV record")
            }
        }
    }

    fn cell(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }
}
