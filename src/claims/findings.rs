//! Everything that is rebuilt from records: tables and fits as CSV and Markdown, and `claims.csv`.
//!
//! Invariant: a function of the statements and the records alone, so that a rerun and a rebuild give the same bytes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::fits::{FILE_PREFIX, FRONTIER_PREFIX, Fit, Normals, ScalingSpec, fit, frontier_of};
use super::{ClaimSpec, Frontier, RunTables, Verdict, judge, to_csv};
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

/// Tables, claims and fits of an experiment, carried in its results so that they can be rebuilt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statements {
    /// Tables, in the order written.
    pub tables: Vec<TableSpec>,
    /// Claims, in the order written.
    pub claims: Vec<ClaimSpec>,
    /// Fits, in the order written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fits: Vec<ScalingSpec>,
}

impl Statements {
    /// Metrics that a table shows or a fit is of.
    #[must_use]
    pub fn shown(&self) -> BTreeSet<&str> {
        let of_tables = self.tables.iter().flat_map(|table| table.values.iter());
        of_tables.chain(self.fits.iter().map(|fit| &fit.of)).map(String::as_str).collect()
    }
}

/// What the records say: tables, fits, verdicts, and all written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// The tables in the order stated.
    pub tables: Vec<Table>,
    /// The fits in the order stated.
    pub fits: Vec<Fit>,
    /// The frontiers of those that ask for one.
    pub frontiers: Vec<Frontier>,
    /// The verdicts in the order of the claims.
    pub verdicts: Vec<Verdict>,
    /// `tables/*.csv`, `tables/*.md` (those of fits begin with `fit-` and `frontier-`) and `claims.csv`.
    pub files: Vec<Artefact>,
}

/// Builds the tables, fits the curves, judges the claims and writes all down. The intervals of fits are made of these normal numbers.
///
/// # Errors
/// Where a table, or the table of a fit's cells, cannot be built.
pub fn findings(
    statements: &Statements,
    input: &TableInput<'_>,
    outcomes: &Outcomes,
    normals: Normals<'_>,
) -> Result<Findings, TablesError> {
    let Statements { tables, claims, fits } = statements;
    let tables = tables.iter().map(|spec| build(spec, input)).collect::<Result<Vec<_>, _>>()?;
    let of_fits = fits.iter().map(|spec| build(&spec.table(), input)).collect::<Result<Vec<_>, _>>()?;
    let fits_and_cells = || fits.iter().zip(&of_fits);
    let frontiers: Vec<Frontier> = fits_and_cells().filter_map(|(spec, cells)| frontier_of(spec, cells, outcomes)).collect();
    let fits: Vec<Fit> = fits_and_cells().map(|(spec, cells)| fit(spec, cells, outcomes, normals)).collect();
    let verdicts = judge(claims, &RunTables::new(&tables).with(outcomes));
    let mut files = Vec::new();
    for table in &tables {
        files.push(Artefact { name: format!("tables/{}.csv", table.name), bytes: table.to_csv() });
        files.push(Artefact { name: format!("tables/{}.md", table.name), bytes: table.to_markdown().into_bytes() });
    }
    for fit in &fits {
        let name = format!("tables/{FILE_PREFIX}{}", fit.name);
        files.push(Artefact { name: format!("{name}.csv"), bytes: fit.to_csv() });
        files.push(Artefact { name: format!("{name}.md"), bytes: fit.to_markdown().into_bytes() });
    }
    for frontier in &frontiers {
        let name = format!("tables/{FRONTIER_PREFIX}{}", frontier.name);
        files.push(Artefact { name: format!("{name}.csv"), bytes: frontier.to_csv() });
        files.push(Artefact { name: format!("{name}.md"), bytes: frontier.to_markdown().into_bytes() });
    }
    files.push(Artefact { name: "claims.csv".to_owned(), bytes: to_csv(&verdicts) });
    Ok(Findings { tables, fits, frontiers, verdicts, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fit_is_of_is_shown_as_what_a_table_shows() {
        let statements: Statements = serde_yaml::from_str(
            "{tables: [{name: t, rows: train.lr, values: [zeroshot/a.acc1]}], claims: [], \
             fits: [{name: f, of: zeroshot/b.acc1, against: gmacs}]}",
        )
        .expect("statements as records hold them");
        assert_eq!(statements.shown(), BTreeSet::from(["zeroshot/a.acc1", "zeroshot/b.acc1"]));
    }
}
