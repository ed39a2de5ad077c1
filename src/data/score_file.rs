//! Scores from a table, joined with the samples of a pool by name.
//!
//! Input: a CSV or TSV file with a header line, or a Parquet file, or several as a pattern or a folder of Parquet files; a column of
//! names and one of scores. Output: a score a sample, NaN for none.
//! Invariants: a name with two scores, and a cell that is neither empty nor a number, is an error with its line or row; scores that
//! are not finite are missing. Must not know: which samples are kept.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::mapped::Mapped;
use super::names::{SampleName, hex_uid, joined_by};
use super::pack::Pack;
use super::{DataError, DataResult, parquet, shards};
use crate::run::ScoreFile;

/// The scores of a table by name.
#[derive(Debug, Default)]
pub struct ScoreTable {
    /// Of names that are 32 hexadecimal digits, which are most of a large table, in a fifth of the memory of texts.
    by_uid: HashMap<u128, f64>,
    /// Of other names.
    by_name: HashMap<Box<str>, f64>,
}

/// The files of a table of scores: the one that is named, those that match a pattern, or the `.parquet` files of a folder.
///
/// **Errors**: as [`matching_shards`](super::matching_shards).
pub fn score_files(file: &str) -> DataResult<Vec<PathBuf>> {
    Ok(shards::matching_files(file, "parquet")?.into_iter().map(PathBuf::from).collect())
}

impl ScoreTable {
    /// Reads a table. Files called `.parquet`, and others that begin and end as such, are Parquet; tabs part the columns of files
    /// called `.tsv` or `.tab`, commas those of others.
    ///
    /// **Errors**: a file that cannot be read; a column that is not there or does not hold what it should; a row of another width;
    /// a score that is no number; a name with two scores.
    pub fn read(file: &ScoreFile) -> DataResult<Self> {
        let ScoreFile { file, id_column, score_column } = file;
        let mut table = Self::default();
        for path in score_files(file)? {
            let bytes = Mapped::open(&path)?;
            let is_called = |suffix: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(suffix));
            if is_called("parquet") || (bytes.starts_with(parquet::MAGIC) && bytes.ends_with(parquet::MAGIC)) {
                parquet::rows((&path, &bytes), (id_column, score_column), |name, score| table.add(&name, score))?;
            } else {
                let delimiter = if is_called("tsv") || is_called("tab") { b'\t' } else { b',' };
                table.read_text((&path, &bytes), (id_column, score_column), delimiter)?;
            }
        }
        Ok(table)
    }

    fn read_text(
        &mut self,
        (path, bytes): (&Path, &[u8]),
        (id_column, score_column): (&str, &str),
        delimiter: u8,
    ) -> DataResult<()> {
        let text: &[u8] = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text);
        let fail = |line: u64, what: String| DataError::Malformed { path: path.to_path_buf(), line, what };
        let line_of = |e: &csv::Error| e.position().map_or(1, csv::Position::line);
        let header: Vec<String> =
            reader.headers().map_err(|e| fail(line_of(&e), e.to_string()))?.iter().map(|name| name.trim().to_owned()).collect();
        let column = |name: &str| {
            header.iter().position(|known| known == name).ok_or_else(|| DataError::NoSuchColumn {
                path: path.to_path_buf(),
                column: name.to_owned(),
                known: header.clone(),
            })
        };
        let (id_at, score_at) = (column(id_column)?, column(score_column)?);
        for record in reader.records() {
            let record = record.map_err(|e| fail(line_of(&e), e.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            let (name, cell) = (record[id_at].trim(), record[score_at].trim());
            let score = match cell {
                "" => f64::NAN,
                cell => cell.parse::<f64>().map_err(|_| fail(line, format!("`{cell}` in column `{score_column}` is no number")))?,
            };
            self.add(name, score).map_err(|what| fail(line, what))?;
        }
        Ok(())
    }

    /// Notes the score of a name.
    ///
    /// **Errors**: in words, for a name that has another one.
    fn add(&mut self, name: &str, score: f64) -> Result<(), String> {
        let score = if score.is_finite() { score } else { f64::NAN };
        let known = match hex_uid(name) {
            Some(uid) => self.by_uid.insert(uid, score),
            None => self.by_name.insert(name.into(), score),
        };
        match known.filter(|known| known.to_bits() != score.to_bits()) {
            Some(known) => Err(format!("a second score for `{name}`: {score}, and {known} before")),
            None => Ok(()),
        }
    }

    /// The score of a sample, by its uid or, where it has none, by its key; `None` for none.
    #[must_use]
    pub fn score(&self, key: &str, uid: &str) -> Option<f64> {
        let name = joined_by(key, uid);
        let score = hex_uid(name).map_or_else(|| self.by_name.get(name), |uid| self.by_uid.get(&uid));
        score.copied().filter(|score| !score.is_nan())
    }

    /// The score of every sample of a pack, NaN for none.
    ///
    /// **Errors**: a pack without names.
    pub fn scores(&self, pack: &Pack) -> DataResult<Vec<f64>> {
        let of = |sample| {
            let (key, uid) = pack.name(sample).ok_or_else(|| no_names(pack))?;
            Ok(self.score(key, uid).unwrap_or(f64::NAN))
        };
        (0..pack.len()).map(of).collect()
    }

    /// How many of these samples have no score, and the name of the first of them.
    pub(super) fn without<'a>(&self, names: impl Iterator<Item = &'a SampleName>) -> (u64, Option<String>) {
        let mut without = names.filter(|name| self.score(&name.key, &name.uid).is_none());
        let first = without.next();
        let count = u64::from(first.is_some()) + without.count() as u64;
        (count, first.map(|name| name.joined_by().to_owned()))
    }
}

pub(super) fn no_names(pack: &Pack) -> DataError {
    let made = "remove the job's folder from the store to pack it again, if it is made of files";
    DataError::Unsupported { what: format!("the packed pool of {} samples holds no names to join scores with: {made}", pack.len()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> DataResult<ScoreTable> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let file = path.display().to_string();
        ScoreTable::read(&ScoreFile { file, id_column: "uid".into(), score_column: "s".into() })
    }

    #[test]
    fn scores_are_found_by_uid_and_else_by_key_and_what_is_no_number_is_missing() {
        for (name, text) in
            [("a.csv", "s,uid\n0.5,x\n,y\nNaN,z\ninf,w\n-1,k\n"), ("a.tsv", "uid\ts\nx\t0.5\ny\t\nz\tnan\nw\tinf\nk\t-1\n")]
        {
            let table = read(name, text).unwrap();
            assert_eq!((table.score("k", "x"), table.score("k", ""), table.score("x", "absent")), (Some(0.5), Some(-1.0), None));
            for missing in ["y", "z", "w"] {
                assert_eq!(table.score("", missing), None, "{missing}");
            }
            let names = ["x", "y", "q"].map(|uid| SampleName { key: "k".into(), uid: uid.into() });
            assert_eq!(table.without(names.iter()), (2, Some("y".into())));
        }
    }

    #[test]
    fn columns_cells_and_names_that_are_wrong_say_where() {
        let wrong = |text: &str| read("a.csv", text).unwrap_err().to_string();
        assert!(wrong("uid,t\nx,1\n").ends_with("no column `s`, expected one of `uid`, `t`"));
        assert!(wrong("uid,s\nx,1\ny,high\n").ends_with("a.csv:3: `high` in column `s` is no number"));
        assert!(wrong("uid,s\nx,1\nx,2\n").ends_with("a.csv:3: a second score for `x`: 2, and 1 before"));
        assert!(wrong("uid,s\nx\n").contains("a.csv:2"));
        assert!(read("a.csv", "uid,s\nx,1\nx,1.0\n").is_ok(), "the same score twice");
    }
}
