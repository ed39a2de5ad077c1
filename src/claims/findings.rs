//! Everything that is rebuilt from records: tables as CSV and Markdown, and `claims.csv`.
//!
//! Invariant: a function of the statements and the records alone, so that a rerun and a rebuild give the same bytes.

use super::{ClaimSpec, RunTables, Verdict, judge, to_csv};
use crate::run::Outcomes;
use crate::tables::{Table, TableInput, TableSpec, TablesError, build};

/// One file of a results folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// Name inside the folder, such as `tables/fig5b.csv`.
    pub name: String,
    /// Its whole content.
    pub bytes: Vec<u8>,
}

/// What the records say: tables, verdicts, and both written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// The tables in the order stated.
    pub tables: Vec<Table>,
    /// The verdicts in the order of the claims.
    pub verdicts: Vec<Verdict>,
    /// `tables/*.csv`, `tables/*.md` and `claims.csv`.
    pub files: Vec<Artefact>,
}

/// Builds the tables, judges the claims and writes both down.
///
/// # Errors
/// Where a table cannot be built.
pub fn findings(
    tables: &[TableSpec],
    claims: &[ClaimSpec],
    input: &TableInput<'_>,
    outcomes: &Outcomes,
) -> Result<Findings, TablesError> {
    let tables = tables.iter().map(|spec| build(spec, input)).collect::<Result<Vec<_>, _>>()?;
    let verdicts = judge(claims, &RunTables::new(&tables).with(outcomes));
    let mut files = Vec::new();
    for table in &tables {
        files.push(Artefact { name: format!("tables/{}.csv", table.name), bytes: table.to_csv() });
        files.push(Artefact { name: format!("tables/{}.md", table.name), bytes: table.to_markdown().into_bytes() });
    }
    files.push(Artefact { name: "claims.csv".to_owned(), bytes: to_csv(&verdicts) });
    Ok(Findings { tables, verdicts, files })
}
