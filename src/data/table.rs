//! CSV and TSV files of image paths and captions.
//!
//! Input: a table with a header line. Output: rows, and samples decoded from them. Invariants: a column that does not exist is an
//! error with the known ones; an image that cannot be read is a listed skip; other columns that hold numbers are kept as fields.
//! Must not know: packs, pools.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::decode::Decoder;
use super::pack::{Skip, SkipKind};
use super::pack_writer::PackedSample;
use super::{DataError, DataResult};

/// A table read into memory, without its images.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    /// Rows in the order of the file.
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    line: u64,
    /// Path of the image, relative ones taken from the table's folder.
    pub image: PathBuf,
    caption: String,
    fields: BTreeMap<String, f64>,
}

impl Table {
    /// Reads a table. Tabs part the columns of files called `.tsv` or `.tab`, commas those of others.
    ///
    /// **Errors**: a file that cannot be read, a missing column, a row of another width than the header.
    pub fn read(path: &Path, image_column: &str, caption_column: &str) -> DataResult<Self> {
        let is_tabbed = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv") || e.eq_ignore_ascii_case("tab"));
        let file = std::fs::File::open(path).map_err(|e| DataError::io("open", path, e))?;
        let mut builder = csv::ReaderBuilder::new();
        // Tab-separated files do not quote, as a rule: a lone quotation mark is part of a caption there.
        builder.delimiter(if is_tabbed { b'\t' } else { b',' }).quoting(!is_tabbed);
        let mut reader = builder.from_reader(file);
        let header = reader.headers().map_err(|e| malformed(path, &e))?.clone();
        let column = |name: &str| {
            header.iter().position(|known| known == name).ok_or_else(|| DataError::NoSuchColumn {
                path: path.to_path_buf(),
                column: name.to_owned(),
                known: header.iter().map(str::to_owned).collect(),
            })
        };
        let (image_at, caption_at) = (column(image_column)?, column(caption_column)?);
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|e| malformed(path, &e))?;
            let others = header.iter().zip(&record).enumerate().filter(|(at, _)| ![image_at, caption_at].contains(at));
            let fields = others.filter_map(|(_, (name, value))| Some((name.to_owned(), value.trim().parse().ok()?))).collect();
            let line = record.position().map_or(0, csv::Position::line);
            rows.push(Row { line, image: folder.join(&record[image_at]), caption: record[caption_at].trim().to_owned(), fields });
        }
        Ok(Self { path: path.to_path_buf(), rows })
    }

    /// Reads and decodes the image of a row.
    pub fn sample(&self, row: usize, decoder: &mut Decoder) -> Result<PackedSample, Skip> {
        let Row { line, image, caption, fields } = &self.rows[row];
        let skip = |kind, detail| Skip { sample: format!("{}:{line}", self.path.display()), kind, detail };
        if caption.is_empty() {
            return Err(skip(SkipKind::NoCaption, "an empty caption".to_owned()));
        }
        let bytes = std::fs::read(image).map_err(|e| skip(SkipKind::Unreadable, format!("{}: {e}", image.display())))?;
        let image = decoder.picture(&bytes).map_err(|what| skip(SkipKind::Undecodable, format!("{}: {what}", image.display())))?;
        Ok(PackedSample { image, captions: vec![caption.clone()], label: None, fields: fields.clone() })
    }
}

fn malformed(path: &Path, error: &csv::Error) -> DataError {
    let line = error.position().map_or(1, csv::Position::line);
    let what = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!("{len} columns, the header has {expected_len}"),
        csv::ErrorKind::Utf8 { err, .. } => format!("not UTF-8: {err}"),
        _ => error.to_string(),
    };
    DataError::Malformed { path: path.to_path_buf(), line, what }
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
}
