//! Lines of bounded length.

use std::io::{BufRead, BufReader, Read};

use bellwether_core::reject::{Reason, Reject};

use super::{FileError, LINE_BYTES_MAX};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a stream line by line.
pub(super) struct Lines {
    input: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    number: u64,
    broken: bool,
}

impl Lines {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Lines {
        Lines {
            input: BufReader::with_capacity(64 * 1024, input),
            line: Vec::new(),
            number: 0,
            broken: false,
        }
    }

    /// The next line that is not blank, without its line end; none at the end, and after the stream broke.
    pub(super) fn next(&mut self) -> Option<Result<&[u8], FileError>> {
        loop {
            if self.broken {
                return None;
            }
            self.number += 1;
            match self.fill() {
                Ok(false) => return None,
                Ok(true) if self.line.len() > LINE_BYTES_MAX => {
                    let detail = format!("the line has more than {LINE_BYTES_MAX} bytes");
                    return Some(Err(self.error(Reject::new(Reason::TooLarge, detail))));
                }
                Ok(true) if self.text().is_empty() => {}
                Ok(true) => return Some(Ok(self.text())),
                Err(error) => {
                    self.broken = true;
                    let detail = format!("the file breaks off here: {error}");
                    return Some(Err(self.error(Reject::new(Reason::Malformed, detail))));
                }
            }
        }
    }

    /// The rest of the lines, each read by `read`; where that gives none, the line stands for nothing.
    pub(super) fn map_lines<T>(
        mut self,
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, Reject>,
    ) -> impl Iterator<Item = Result<T, FileError>> {
        std::iter::from_fn(move || {
            loop {
                let result = match self.next()? {
                    Ok(line) => read(line),
                    Err(error) => return Some(Err(error)),
                };
                match result {
                    Ok(Some(item)) => return Some(Ok(item)),
                    Ok(None) => {}
                    Err(reject) => return Some(Err(self.error(reject))),
                }
            }
        })
    }

    /// A rejection of the current line.
    fn error(&self, reject: Reject) -> FileError {
        FileError { line: self.number, reject, is_last: self.broken }
    }

    fn text(&self) -> &[u8] {
        let line = match self.number {
            1 => self.line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.line),
            _ => &self.line,
        };
        line.trim_ascii_end()
    }

    /// Reads up to the next line end, keeping no more than shows that a line is too long. False at the end of the stream.
    fn fill(&mut self) -> std::io::Result<bool> {
        self.line.clear();
        let mut any = false;
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Ok(any);
            }
            any = true;
            let end = available.iter().position(|&byte| byte == b'\n');
            let taken = &available[..end.unwrap_or(available.len())];
            let room = (LINE_BYTES_MAX + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&taken[..taken.len().min(room)]);
            let used = end.map_or(available.len(), |end| end + 1);
            self.input.consume(used);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}
