//! Whether the bytes of a table are a table: encoding, zero bytes, quotation marks.
//!
//! Input: the bytes of a file. Output: its text, or every line at fault. Invariant: what passes is read by the `csv` crate as RFC
//! 4180 means it. Must not know: columns by name.

use std::path::Path;

use super::super::error::SHOWN;
use super::super::{DataError, DataResult};

/// Faults of a table by line: the first are kept, all are counted.
#[derive(Debug, Default)]
pub(super) struct Faults {
    first: Vec<(u64, String)>,
    total: u64,
}

impl Faults {
    /// Notes one.
    pub fn add(&mut self, line: u64, what: String) {
        self.total += 1;
        if self.first.len() < SHOWN {
            self.first.push((line, what));
        }
    }

    /// The error, if there is one.
    pub fn finish(&mut self, path: &Path) -> DataResult<()> {
        match self.total {
            0 => Ok(()),
            total => Err(DataError::BadTable { path: path.to_path_buf(), problems: std::mem::take(&mut self.first), total }),
        }
    }
}

/// Numbers of lines, for places that ascend. A line ends with `\n`, `\r\n` or `\r`.
pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    /// From the first line of a text.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, line: 1 }
    }

    /// The line, from 1, of the row whose first byte is at `at` or after blank lines there.
    pub fn of_row_at(&mut self, at: usize) -> u64 {
        let start = at + self.bytes[at..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.line += ends(&self.bytes[self.at..start], self.bytes.get(start));
        self.at = start;
        self.line
    }
}

/// Ends of lines in a piece; a `\r` with its `\n` outside is none yet.
fn ends(piece: &[u8], next: Option<&u8>) -> u64 {
    let after = piece.iter().skip(1).chain(next).copied().map(Some).chain([None]);
    piece.iter().zip(after).filter(|(byte, after)| **byte == b'\n' || (**byte == b'\r' && *after != Some(b'\n'))).count() as u64
}

/// The text of a table without its byte order mark, and warnings.
///
/// **Errors**: every line with bytes that are not UTF-8, with a zero byte or, between commas, with a wrong quotation mark.
pub(super) fn check<'a>(path: &Path, bytes: &'a [u8], is_tabbed: bool) -> DataResult<(&'a str, Vec<String>)> {
    let mut faults = Faults::default();
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        faults.add(1, "UTF-16, expected UTF-8".to_owned());
        faults.finish(path)?;
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match (std::str::from_utf8(bytes), bytes.contains(&0)) {
        (Ok(text), false) => text,
        _ => {
            encoding(bytes, &mut faults);
            faults.finish(path)?;
            ""
        }
    };
    let mut warnings = Vec::new();
    if !is_tabbed {
        let mut marks = Marks::new(text.as_bytes());
        marks.walk(&mut faults);
        faults.finish(path)?;
        if let Some((line, lines)) = marks.rows_in_field {
            let what = format!("a quoted field holds {lines} lines with as many columns as the header");
            warnings.push(format!("{}:{line}: {what}", path.display()));
        }
    }
    Ok((text, warnings))
}

/// Lines whose bytes are not UTF-8 or hold a zero, each once.
fn encoding(bytes: &[u8], faults: &mut Faults) {
    let mut line = 1;
    for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        if let Err(error) = std::str::from_utf8(part) {
            faults.add(line, format!("byte {:#04x} is not UTF-8", part[error.valid_up_to()]));
        } else if part.contains(&0) {
            faults.add(line, "a zero byte".to_owned());
        }
        let last = part.as_ptr_range().end as usize - bytes.as_ptr() as usize;
        line += ends(&part[part.len() - 1..], bytes.get(last));
    }
}

/// A walk over quotation marks as RFC 4180 means them.
struct Marks<'a> {
    bytes: &'a [u8],
    line: u64,
    /// Commas of the header.
    commas: usize,
    /// Line of the first field that holds lines which look like rows, and how many.
    rows_in_field: Option<(u64, usize)>,
}

impl<'a> Marks<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let header = bytes.iter().take_while(|byte| !matches!(byte, b'\n' | b'\r'));
        Self { bytes, line: 1, commas: header.filter(|byte| **byte == b',').count(), rows_in_field: None }
    }

    fn walk(&mut self, faults: &mut Faults) {
        let (mut at, mut is_start) = (0, true);
        while at < self.bytes.len() {
            let byte = self.bytes[at];
            if byte == b'"' && is_start {
                at = self.quoted(at, faults);
                is_start = false;
                continue;
            }
            self.line += ends(&[byte], self.bytes.get(at + 1));
            is_start = matches!(byte, b',' | b'\n' | b'\r');
            at += 1;
        }
    }

    /// Past the quoted field that starts here.
    fn quoted(&mut self, start: usize, faults: &mut Faults) -> usize {
        let (opened, mut at, mut line_start, mut rows) = (self.line, start + 1, None, 0);
        while at < self.bytes.len() {
            match (self.bytes[at], self.bytes.get(at + 1)) {
                (b'"', Some(b'"')) => at += 1,
                (b'"', Some(b',' | b'\n' | b'\r') | None) => {
                    if rows > 0 && self.commas > 0 {
                        self.rows_in_field.get_or_insert((opened, rows));
                    }
                    return at + 1;
                }
                (b'"', _) => {
                    let what = "a quotation mark opens a field here, and letters follow the one that closes it in line";
                    faults.add(opened, format!("{what} {}", self.line));
                    return at + 1;
                }
                (b'\n' | b'\r', next) => {
                    let commas = |from: usize| self.bytes[from..at].iter().filter(|byte| **byte == b',').count();
                    rows += usize::from(line_start.is_some_and(|from| commas(from) == self.commas));
                    line_start = Some(at + 1);
                    self.line += ends(&[self.bytes[at]], next);
                }
                _ => {}
            }
            at += 1;
        }
        faults.add(opened, "a quotation mark opens a field here and is never closed".to_owned());
        at
    }
}

/// A field of a tabbed file out of its quotation marks, where it is wholly inside them and every mark within is doubled.
pub(super) fn unquoted(field: &str) -> String {
    let inner = field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let is_doubled = |inner: &&str| !inner.replace("\"\"", "").contains('"');
    inner.filter(is_doubled).map_or_else(|| field.to_owned(), |inner| inner.replace("\"\"", "\""))
}
