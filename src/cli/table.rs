//! `table`: prints tables, or with `--from` rebuilds a results folder from its records.

use std::io::Write;
use std::path::Path;

use super::args::{Global, Table};
use super::experiment::{STATED, load_spec};
use crate::claims::fits::{FILE_PREFIX, FRONTIER_PREFIX};
use crate::claims::{Findings, Frontier, to_text};
use crate::error::Error;
use crate::jobs::{publish, rebuild};
use crate::record::{self, Records};

/// What printing a folder found.
pub(super) struct Shown {
    /// Whether every verdict is the expected one.
    pub all_as_expected: bool,
}

pub(super) fn run(global: &Global, args: &Table, out: &mut dyn Write) -> Result<(), Error> {
    let folder = match (&args.from, &args.file) {
        (Some(folder), _) => folder.clone(),
        (None, Some(file)) => global.results.join(&load_spec(file, &[], STATED)?.experiment),
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    let records = record::read(&folder)?;
    let rebuilt = of_records(&folder, &records)?;
    if args.from.is_some() {
        write_again(&folder, &records, &rebuilt)?;
    }
    let mut found = false;
    for table in rebuilt.tables.iter().filter(|table| args.name.as_ref().is_none_or(|name| *name == table.name)) {
        found = true;
        match args.csv {
            true => out.write_all(&table.to_csv())?,
            false => writeln!(out, "{}", table.to_markdown())?,
        }
    }
    for (_, csv, markdown) in
        of_fits(&rebuilt).into_iter().filter(|(name, ..)| args.name.as_ref().is_none_or(|wanted| wanted == name))
    {
        found = true;
        match args.csv {
            true => out.write_all(&csv)?,
            false => writeln!(out, "{markdown}")?,
        }
    }
    if let (Some(name), false) = (&args.name, found) {
        let fits = of_fits(&rebuilt).into_iter().map(|(name, ..)| name);
        let known: Vec<String> = rebuilt.tables.iter().map(|table| table.name.clone()).chain(fits).collect();
        return Err(Error::Usage {
            message: format!("no table `{name}` in {}", folder.display()),
            hint: Some(format!("its tables are {}", known.join(", "))),
        });
    }
    Ok(())
}

/// Fits and frontiers by name, as CSV and as Markdown.
fn of_fits(rebuilt: &Findings) -> Vec<(String, Vec<u8>, String)> {
    let fits = rebuilt.fits.iter().map(|fit| (format!("{FILE_PREFIX}{}", fit.name), fit.to_csv(), fit.to_markdown()));
    let frontier = |one: &Frontier| (format!("{FRONTIER_PREFIX}{}", one.name), one.to_csv(), one.to_markdown());
    fits.chain(rebuilt.frontiers.iter().map(frontier)).collect()
}

/// Tables and verdicts of a results folder, from its committed records alone.
pub(super) fn rebuilt(folder: &Path) -> Result<Findings, Error> {
    of_records(folder, &record::read(folder)?)
}

fn of_records(folder: &Path, records: &Records) -> Result<Findings, Error> {
    rebuild(records).map_err(|message| Error::Usage { message: format!("{}: {message}", folder.display()), hint: None })
}

/// Puts what was rebuilt beside the records, which stay as they are, byte for byte.
fn write_again(folder: &Path, records: &Records, rebuilt: &Findings) -> Result<(), Error> {
    let mut files = Vec::new();
    for name in record::NAMES.into_iter().chain([record::MILESTONES, record::OUTCOMES]) {
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => files.push((name.to_owned(), bytes)),
            // The records have been read: what is not there need not be.
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::File { operation: "read", path, source }),
        }
    }
    files.extend(rebuilt.files.iter().map(|file| (file.name.clone(), file.bytes.clone())));
    publish(folder, records, &files)?;
    Ok(())
}

/// Prints the tables and verdicts of a results folder as its files hold them.
pub(super) fn print_folder(folder: &Path, out: &mut dyn Write) -> Result<Shown, Error> {
    let rebuilt = rebuilt(folder)?;
    for table in &rebuilt.tables {
        writeln!(out, "{}", table.to_markdown())?;
    }
    for (.., markdown) in of_fits(&rebuilt) {
        writeln!(out, "{markdown}")?;
    }
    if !rebuilt.verdicts.is_empty() {
        writeln!(out, "{}", to_text(&rebuilt.verdicts, false))?;
    }
    Ok(Shown { all_as_expected: rebuilt.verdicts.iter().all(crate::claims::Verdict::is_as_expected) })
}
