//! `report`: pages of results folders.
//!
//! Invariant: results folders, and of the experiment files that made them name, question and source, are all that is read; nothing is
//! trained. The target is replaced as a whole, and never one that holds files which this command did not write.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::args::Global;
use super::report_options::ReportOptions;
use crate::claims::{Artefact, Statements};
use crate::error::Error;
use crate::jobs::rebuild;
use crate::record;
use crate::report::{self, Report, Study};
use crate::run::counted;
use crate::spec::Headline;
use crate::store::{Replacement, inside, replace_folder};

/// Names the files of a report, one a line; a folder that has it is a report.
const LIST: &str = ".scaledown-report";

pub(super) fn run(global: &Global, args: &ReportOptions, out: &mut dyn Write) -> Result<(), Error> {
    let ReportOptions { results, to } = args;
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut summaries = Vec::new();
    for folder in &folders(results)? {
        let Report { files: made, summary } = of_folder(global, folder)?;
        let experiment = &summary.experiment;
        // A name comes from a file: it may lead nowhere else.
        inside(to, experiment)?;
        if summaries.iter().any(|known: &report::Summary| known.experiment == *experiment) {
            let message = format!("{}: `{experiment}` was named before, and a report has one page an experiment", folder.display());
            return Err(Error::Usage { message, hint: None });
        }
        files.extend(made.into_iter().map(|Artefact { name, bytes }| (format!("{experiment}/{name}"), bytes)));
        summaries.push(summary);
    }
    files.push(("index.html".to_owned(), report::index(&summaries).into_bytes()));
    let names: String = files.iter().map(|(name, _)| format!("{name}\n")).collect();
    files.push((LIST.to_owned(), names.into_bytes()));
    is_ours(to, &files)?;
    replace_folder(to, Replacement { files: &files, owned: &owned })?;
    if !global.quiet {
        writeln!(out, "{}: {}, open {}", to.display(), counted(summaries.len(), "report"), to.join("index.html").display())?;
    }
    Ok(())
}

/// The results folders named, and of a folder that is none those below it, by name.
fn folders(named: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for folder in named {
        let before = found.len();
        collect(folder, &mut found)?;
        if found.len() == before {
            let message = format!("{} is no results folder and has none below it: there is no runs.csv", folder.display());
            let hint = "a results folder is what `scaledown run` writes, such as results/quickstart";
            return Err(Error::Usage { message, hint: Some(hint.to_owned()) });
        }
    }
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    if folder.join("runs.csv").is_file() {
        found.push(folder.to_owned());
        return Ok(());
    }
    if !folder.is_dir() {
        return Ok(());
    }
    let failed = |source| Error::File { operation: "read", path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut below: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    below.sort();
    below.iter().try_for_each(|folder| collect(folder, found))
}

/// The report of one results folder.
fn of_folder(global: &Global, folder: &Path) -> Result<Report, Error> {
    let records = record::read(folder)?;
    let timings = record::read_timings(folder)?;
    let unreadable = |message: String| Error::Usage { message: format!("{}: {message}", folder.display()), hint: None };
    let findings = rebuild(&records).map_err(unreadable)?;
    let statements: Statements =
        serde_json::from_value(records.statements.clone()).map_err(|error| unreadable(error.to_string()))?;
    let headline = headline(&records.provenance.command).filter(|found| found.experiment == records.provenance.experiment);
    if headline.is_none() {
        let warning = format!(
            "{}: the experiment file of `{}` is not here, so its page has no question",
            folder.display(),
            records.provenance.command
        );
        super::warn(global, &[warning]);
    }
    let (question, source) = headline.map_or((None, None), |found| (found.question, found.source));
    Ok(report::experiment(&Study {
        records: &records,
        statements: &statements,
        findings: &findings,
        question: question.as_deref(),
        source: source.as_deref(),
        timings: &timings,
    }))
}

/// What the experiment file of a command says of itself, where the file is there.
fn headline(command: &str) -> Option<Headline> {
    let file = command.strip_prefix("scaledown run ")?;
    let file = file.split(" --set ").next().unwrap_or(file);
    Headline::parse(&std::fs::read_to_string(file).ok()?)
}

/// The files that the list in a folder names.
fn owned(folder: &Path) -> BTreeSet<String> {
    let list = std::fs::read_to_string(folder.join(LIST)).unwrap_or_default();
    let names = list.lines().filter(|name| inside(folder, name).is_ok()).map(str::to_owned);
    if list.is_empty() { BTreeSet::new() } else { names.chain([LIST.to_owned()]).collect() }
}

/// Refuses a target that holds a file of somebody else where one is to be written.
fn is_ours(to: &Path, files: &[(String, Vec<u8>)]) -> Result<(), Error> {
    let known = owned(to);
    let is_foreign = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok();
    let foreign = files.iter().filter(|(name, _)| !known.contains(name)).map(|(name, _)| to.join(name)).find(is_foreign);
    let is_other = known.is_empty() && std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some());
    let message = match foreign {
        Some(path) => format!("{} is there, and no report wrote it", path.display()),
        None if is_other => format!("{} holds other files and is no report", to.display()),
        None => return Ok(()),
    };
    Err(Error::Usage { message, hint: Some("name another folder with `--to`".to_owned()) })
}
