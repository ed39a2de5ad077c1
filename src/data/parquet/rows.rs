//! Two columns, joined by row.
//!
//! Input: the bytes of a file and the names of two columns. Output: name and score of each row. Must not know: how values are written.

use std::borrow::Cow;
use std::path::Path;

use super::super::{DataError, DataResult};
use super::Flaw;
use super::footer::{Footer, Leaf};
use super::values::Values;

/// What a column of names must hold.
const NAMES: &str = "texts or whole numbers";
/// What a column of scores must hold.
pub(in crate::data) const SCORES: &str = "numbers";

/// Calls `take` with the name and score of every row that has a name; a score that is missing is NaN.
///
/// **Errors**: a file that is damaged, encrypted or compressed by another codec; a column that is not there, or holds something
/// else than names (texts or whole numbers) or scores (numbers); what `take` says is wrong with a row.
pub(in crate::data) fn rows(
    (path, bytes): (&Path, &[u8]),
    (id_column, score_column): (&str, &str),
    mut take: impl FnMut(Cow<'_, str>, f64) -> Result<(), String>,
) -> DataResult<()> {
    let fail = |flaw: Flaw| DataError::BadFile { path: path.to_path_buf(), what: flaw.what, hint: flaw.hint };
    let footer = Footer::read(bytes).map_err(fail)?;
    let of = |name: &str| {
        footer.columns.iter().find(|(known, _)| known == name).ok_or_else(|| DataError::NoSuchColumn {
            path: path.to_path_buf(),
            column: name.to_owned(),
            known: footer.columns.iter().map(|(name, _)| name.clone()).collect(),
        })
    };
    let wrong = |column: &str, leaf: &Option<Leaf>, expected: &'static str| {
        let found = leaf.as_ref().map_or("lists or records", |leaf| leaf.form.in_words());
        DataError::WrongColumn { path: path.to_path_buf(), column: column.to_owned(), found, expected }
    };
    let (ids, scores) = (&of(id_column)?.1, &of(score_column)?.1);
    let ids = ids.as_ref().filter(|leaf| leaf.form.is_name()).ok_or_else(|| wrong(id_column, ids, NAMES))?;
    let scores = scores.as_ref().filter(|leaf| leaf.form.is_number()).ok_or_else(|| wrong(score_column, scores, SCORES))?;
    let mut row = 0;
    let at = |row: u64, column: &str, flaw: Flaw| Flaw { what: format!("row {row}, column `{column}`: {}", flaw.what), ..flaw };
    for group in footer.groups([ids, scores]) {
        let (rows, [id_chunk, score_chunk]) = group.map_err(fail)?;
        let (mut names, mut values) = (Values::new(bytes, ids, id_chunk), Values::new(bytes, scores, score_chunk));
        for _ in 0..rows {
            row += 1;
            let name = names.next().and_then(|name| name.map(|name| ids.form.name(name)).transpose());
            let score = values.next().map(|score| score.map_or(f64::NAN, |score| scores.form.number(score)));
            let name = name.map_err(|flaw| fail(at(row, id_column, flaw)))?;
            let score = score.map_err(|flaw| fail(at(row, score_column, flaw)))?;
            let Some(name) = name else { continue };
            take(name, score).map_err(|what| {
                fail(Flaw::hinted(format!("row {row}: {what}"), "a sample has one score: remove the other rows of its name"))
            })?;
        }
    }
    Ok(())
}
