//! CSV and TSV files of image paths and captions.
//!
//! Input: a table with a header line. Output: rows, and samples decoded from them. Invariants: a column that does not exist is an
//! error with the known ones; a table is read whole or refused, with the line of every fault (an open quotation mark would
//! otherwise take the rest of the file into one caption); an image that cannot be read is a listed skip; other columns that hold
//! finite numbers are kept as fields.
//! Must not know: packs, pools.

mod form;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use self::form::{Faults, Lines, unquoted};
use super::decode::Decoder;
use super::mapped::Mapped;
use super::names::SampleName;
use super::pack::{Skip, SkipKind};
use super::pack_writer::PackedSample;
use super::{DataError, DataResult};

/// A table read into memory, without its images.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    /// Rows in the order of the file.
    pub rows: Vec<Row>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Things a person should know.
    pub warnings: Vec<String>,
}

/// One row.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    line: u64,
    /// Path of the image, relative ones taken from the table's folder.
    pub image: PathBuf,
    caption: String,
    fields: BTreeMap<String, f64>,
    /// Its image as the table states it, and its `uid` where there is such a column.
    pub name: SampleName,
}

impl Table {
    /// Reads a table. Tabs part the columns of files called `.tsv` or `.tab`, commas those of others.
    ///
    /// Quotation marks follow RFC 4180. In tabbed files, which do not quote as a rule, a field is taken out of its marks where it
    /// is wholly inside them and every mark within is doubled, as pandas writes it; any other mark is a letter.
    ///
    /// **Errors**: a file that cannot be read; a missing column, or one that is there twice; every line that is not as it should
    /// be: a quotation mark that is not closed, a row of another width than the header, a zero byte, bytes that are not UTF-8.
    pub fn read(path: &Path, image_column: &str, caption_column: &str) -> DataResult<Self> {
        let is_tabbed = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv") || e.eq_ignore_ascii_case("tab"));
        let bytes = Mapped::open(path)?;
        let (text, warnings) = form::check(path, &bytes, is_tabbed)?;
        if text.trim().is_empty() {
            return Err(DataError::Malformed { path: path.to_path_buf(), line: 1, what: "an empty table".to_owned() });
        }
        let mut builder = csv::ReaderBuilder::new();
        builder.delimiter(if is_tabbed { b'\t' } else { b',' }).quoting(!is_tabbed).flexible(true);
        let mut reader = builder.from_reader(text.as_bytes());
        let cell = |value: &str| if is_tabbed { unquoted(value) } else { value.to_owned() };
        let header: Vec<String> = reader.headers().map_err(|e| malformed(path, &e))?.iter().map(cell).collect();
        let (image_at, caption_at) = (column(path, &header, image_column)?, column(path, &header, caption_column)?);
        let uid_at = header.iter().position(|column| column == "uid");
        let folder = path.parent().unwrap_or(Path::new(""));
        let (mut rows, mut faults, mut lines) = (Vec::new(), Faults::default(), Lines::new(text.as_bytes()));
        for record in reader.records() {
            let record = record.map_err(|e| malformed(path, &e))?;
            let line = lines.of_row_at(record.position().map_or(0, |position| position.byte() as usize));
            if record.len() != header.len() {
                faults.add(line, format!("{} columns, the header has {}", record.len(), header.len()));
                continue;
            }
            let others = header.iter().zip(&record).enumerate().filter(|(at, _)| ![image_at, caption_at].contains(at));
            let fields = others.filter_map(|(_, (name, value))| Some((name.clone(), number(&cell(value))?))).collect();
            let caption = cell(&record[caption_at]).trim().to_owned();
            let uid = uid_at.map_or(String::new(), |at| cell(&record[at]).trim().to_owned());
            let name = SampleName { key: cell(&record[image_at]), uid };
            rows.push(Row { line, image: folder.join(&name.key), caption, fields, name });
        }
        faults.finish(path)?;
        Ok(Self { path: path.to_path_buf(), rows, columns: header, warnings })
    }

    /// Images of all rows, each once, in the order of the file.
    pub fn images(&self) -> Vec<PathBuf> {
        let mut seen = HashSet::with_capacity(self.rows.len());
        self.rows.iter().map(|row| &row.image).filter(|path| seen.insert(*path)).cloned().collect()
    }

    /// Rows whose image is no file: how many, and the place of the first.
    pub fn without_image(&self) -> (u64, Option<String>) {
        let mut absent = self.rows.iter().filter(|row| !row.image.is_file());
        let first = absent.next();
        let count = usize::from(first.is_some()) + absent.count();
        (count as u64, first.map(|row| format!("{} in line {}", row.image.display(), row.line)))
    }

    /// Rows with a number in this column.
    pub fn with_field(&self, name: &str) -> u64 {
        self.rows.iter().filter(|row| row.fields.contains_key(name)).count() as u64
    }

    /// Reads and decodes the image of a row.
    pub fn sample(&self, row: usize, decoder: &mut Decoder) -> Result<PackedSample, Skip> {
        let Row { line, image, caption, fields, name } = &self.rows[row];
        let skip = |kind, detail| Skip { sample: format!("{}:{line}", self.path.display()), kind, detail };
        if caption.is_empty() {
            return Err(skip(SkipKind::NoCaption, "an empty caption".to_owned()));
        }
        let bytes = Mapped::open(image).map_err(|e| skip(SkipKind::Unreadable, e.to_string()))?;
        let image = decoder.picture(&bytes).map_err(|what| skip(SkipKind::Undecodable, format!("{}: {what}", image.display())))?;
        Ok(PackedSample { image, captions: vec![caption.clone()], label: None, fields: fields.clone(), name: Some(name.clone()) })
    }
}

/// Place of the column with this name.
fn column(path: &Path, header: &[String], name: &str) -> DataResult<usize> {
    let mut places = header.iter().enumerate().filter(|(_, known)| *known == name).map(|(at, _)| at);
    match (places.next(), places.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => {
            Err(DataError::Malformed { path: path.to_path_buf(), line: 1, what: format!("column `{name}` is there twice") })
        }
        (None, _) => Err(DataError::NoSuchColumn { path: path.to_path_buf(), column: name.to_owned(), known: header.to_vec() }),
    }
}

/// A finite number; what else a cell holds is no field.
fn number(cell: &str) -> Option<f64> {
    cell.trim().parse::<f64>().ok().filter(|value| value.is_finite())
}

fn malformed(path: &Path, error: &csv::Error) -> DataError {
    let line = error.position().map_or(1, csv::Position::line);
    DataError::Malformed { path: path.to_path_buf(), line, what: error.to_string() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(name: &str, text: &str, columns: (&str, &str)) -> DataResult<Table> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Table::read(&path, columns.0, columns.1)
    }

    #[test]
    fn rows_hold_paths_captions_and_numbers() {
        let table = read("t.csv", "score,path,text,note\n0.5,a.png,\"one, two\",x\n,/b.png,café,7\n", ("path", "text")).unwrap();
        assert!(table.rows[0].image.ends_with("a.png") && table.rows[0].image.is_absolute());
        assert_eq!((table.rows[0].caption.as_str(), table.rows[0].line), ("one, two", 2));
        assert_eq!(table.rows[0].fields, BTreeMap::from([("score".to_owned(), 0.5)]));
        assert_eq!(table.rows[1].image, PathBuf::from("/b.png"));
        assert_eq!(table.rows[1].fields, BTreeMap::from([("note".to_owned(), 7.0)]));
    }

    #[test]
    fn tabbed_files_keep_their_quotation_marks() {
        let table = read("t.tsv", "path\ttext\na.png\ta 12\" ruler, grey\n", ("path", "text")).unwrap();
        assert_eq!(table.rows[0].caption, "a 12\" ruler, grey");
    }

    #[test]
    fn a_wrong_column_lists_the_known_ones_and_a_short_row_names_its_line() {
        let error = read("t.csv", "path,text\na,b\n", ("path", "caption")).unwrap_err().to_string();
        assert!(error.ends_with("no column `caption`, expected one of `path`, `text`"), "{error}");
        let error = read("t.csv", "path,text\na,b\nc\n", ("path", "text")).unwrap_err().to_string();
        assert!(error.ends_with("t.csv:3: 1 columns, the header has 2"), "{error}");
    }

    #[test]
    fn a_quotation_mark_that_is_not_closed_is_an_error_at_its_line() {
        let of = |text: &str| read("t.csv", text, ("path", "text")).map(|_| ()).unwrap_err().to_string();
        let open = of("path,text\na.png,b\nb.png,\"a 15 inch screen\nc.png,c\n");
        assert!(open.ends_with("t.csv:3: a quotation mark opens a field here and is never closed"), "{open}");
        let pair = of("path,text\na.png,\"a 15 inch\nb.png,b\nc.png,\"c\n");
        let expected = "t.csv:2: a quotation mark opens a field here, and letters follow the one that closes it in line 4";
        assert!(pair.ends_with(expected), "{pair}");
        let quoted = read("t.csv", "path,text\na.png,\"one \"\"two\"\"\nthree\"\nb.png,a 12\" ruler\n", ("path", "text")).unwrap();
        let captions: Vec<&str> = quoted.rows.iter().map(|row| row.caption.as_str()).collect();
        assert_eq!(captions, ["one \"two\"\nthree", "a 12\" ruler"]);
        assert_eq!((quoted.rows[1].line, quoted.warnings.len()), (4, 0));
    }

    #[test]
    fn every_faulty_line_is_named_at_once() {
        let of = |text: &[u8]| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("t.csv");
            std::fs::write(&path, text).unwrap();
            let error = Table::read(&path, "path", "text").map(|_| ()).unwrap_err().to_string();
            error.replace(&format!("{}:", path.display()), "")
        };
        let widths = of(b"path,text\na\nb,c\n\nd,e,f\n");
        assert_eq!(widths, "2: 1 columns, the header has 2\n5: 3 columns, the header has 2");
        assert_eq!(of(b"path,text\r\na,b\r\nc,caf\xe9\r\nd,\0\r\n"), "3: byte 0xe9 is not UTF-8\n4: a zero byte");
        assert_eq!(of(b"path,text\ra,b\rc\r"), "3: 1 columns, the header has 2");
        let utf16: Vec<u8> = "\u{feff}path,text\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(of(&utf16), "1: UTF-16, expected UTF-8");
        let many = of(format!("path,text\n{}", "x\n".repeat(25)).as_bytes());
        assert!(many.lines().count() == 11 && many.ends_with("and 15 more lines"), "{many}");
    }

    #[test]
    fn marks_ends_of_line_and_quoting_of_other_programs_are_read() {
        let table = read("t.csv", "\u{feff}path,text\ra.png,one\rb.png,two\r", ("path", "text")).unwrap();
        assert_eq!(table.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 3]);
        let pandas = "path\ttext\na.png\t\"a 12\"\" ruler\"\nb.png\t\"hello\" she said\n";
        let table = read("t.tsv", pandas, ("path", "text")).unwrap();
        assert_eq!([0, 1].map(|row| table.rows[row].caption.as_str()), ["a 12\" ruler", "\"hello\" she said"]);
        let table = read("t.csv", "score,path,text\n1e999,a,b\nnan,a,b\ninf,a,b\n", ("path", "text")).unwrap();
        assert!(table.rows.iter().all(|row| row.fields.is_empty()), "what is not finite is missing");
    }

    #[test]
    fn a_field_with_lines_that_look_like_rows_is_a_warning() {
        let text = "path,text\na,\"one\nb,two\nc,three\n\"\nd,e\n";
        let table = read("t.csv", text, ("path", "text")).unwrap();
        assert_eq!(table.rows.len(), 2);
        assert!(
            table.warnings[0].ends_with("t.csv:2: a quoted field holds 2 lines with as many columns as the header"),
            "{:?}",
            table.warnings
        );
    }

    #[test]
    fn a_column_that_is_there_twice_is_refused() {
        let error = read("t.csv", "path,text,text\na,b,c\n", ("path", "text")).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with("t.csv:1: column `text` is there twice"), "{error}");
    }
}
