//! `check`: judges claims, on an experiment's tables or on tidy CSV files, and compares tables with committed ones.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::args::{Check, Format, Global};
use super::experiment::{STATED, load_spec};
use super::table::rebuilt;
use crate::claims::{ClaimSpec, Values, Verdict, judge, to_json, to_text};
use crate::error::{Error, exit};
use crate::spec::{self, LoadOptions};
use crate::tables::{TableData, drift};

pub(super) fn run(global: &Global, args: &Check, out: &mut dyn Write) -> Result<u8, Error> {
    let (verdicts, drifted) = match args.values.is_empty() {
        false => (on_values(args)?, Vec::new()),
        true => on_results(global, args)?,
    };
    match args.format {
        Format::Json => writeln!(out, "{}", to_json(&verdicts).trim_end())?,
        Format::Human => {
            write!(out, "{}", to_text(&verdicts, global.verbose > 0))?;
            for line in &drifted {
                writeln!(out, "drift: {line}")?;
            }
            let unexpected = verdicts.iter().filter(|verdict| !verdict.is_as_expected()).count();
            writeln!(out, "{} claims, {unexpected} not as expected; {} cells drifted", verdicts.len(), drifted.len())?;
        }
    }
    let is_well = verdicts.iter().all(Verdict::is_as_expected) && drifted.is_empty();
    Ok(if is_well { exit::OK } else { exit::CHECK })
}

/// Claims of files, on tidy CSV files.
fn on_values(args: &Check) -> Result<Vec<Verdict>, Error> {
    let mut claims: Vec<ClaimSpec> = Vec::new();
    for file in &args.files {
        claims.extend(spec::load_claims(file, &LoadOptions::default())?.into_claims());
    }
    let mut values = Values::default();
    for path in &args.values {
        values
            .add(&path.display().to_string(), &read(path)?)
            .map_err(|error| Error::Usage { hint: error.hint(), message: error.to_string() })?;
    }
    Ok(judge(&claims, &values))
}

/// Claims of an experiment on its results, and their drift from committed ones.
fn on_results(global: &Global, args: &Check) -> Result<(Vec<Verdict>, Vec<String>), Error> {
    let (mut verdicts, mut drifted) = (Vec::new(), Vec::new());
    for file in &args.files {
        let spec = load_spec(file, &args.set, STATED)?;
        let folder = global.results.join(&spec.experiment);
        let ours = rebuilt(&folder)?;
        if let Some(committed) = &args.against {
            let tables: Vec<TableData> = ours.tables.iter().map(TableData::from).collect();
            drifted.extend(drift(&tables, &committed_tables(committed)?, args.tolerance).iter().map(ToString::to_string));
        }
        verdicts.extend(ours.verdicts);
    }
    Ok((verdicts, drifted))
}

/// The tables of a committed results folder.
fn committed_tables(folder: &Path) -> Result<Vec<TableData>, Error> {
    let tables = folder.join("tables");
    let entries = std::fs::read_dir(&tables).map_err(|source| Error::File { operation: "read", path: tables.clone(), source })?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    paths.sort();
    let parse = |path: &PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(TableData::parse(&name, &read(path)?)?)
    };
    paths.iter().map(parse).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { operation: "read", path: path.to_path_buf(), source })
}
