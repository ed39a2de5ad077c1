//! `advise`: what finished runs favour at a stated compute or number of samples.
//!
//! Invariant: results folders alone are read. Cells of several folders are compared only where they were measured in the same way; an
//! axis that a folder does not have has one value in all of its cells, which is known where one of them is a cell of another folder.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::args::{Advise, Format, Global};
use crate::claims::{AdviceError, Budget, Costed, Statements, advise, costed};
use crate::error::Error;
use crate::jobs::fit_normals;
use crate::record::{self, Records};
use crate::run::{EvalConfig, counted};
use crate::tables::{COUNTS, OneOrMany, Problem, TableInput, TableSpec, build};

pub(super) fn run(global: &Global, args: &Advise, out: &mut dyn Write) -> Result<(), Error> {
    let folders = args.results.iter().map(|folder| read(folder)).collect::<Result<Vec<_>, _>>()?;
    let (name, amount) = match (args.gmacs, args.samples) {
        (Some(gmacs), _) => ("gmacs", gmacs),
        (None, samples) => ("samples_seen", samples.expect("clap asks for one of the two")),
    };
    let metric = metric(args, &folders)?;
    is_measured_alike(&metric, &folders)?;
    draws_alike(&folders)?;
    let (mut cells, mut missing) = (Vec::new(), 0);
    for Folder { path: _, records } in &folders {
        let (found, without) = cells_of(records, &metric, name)?;
        cells.push(found);
        missing += without;
    }
    if missing > 0 {
        super::warn(global, &[format!("{} without a value of `{metric}` left out", counted(missing, "cell"))]);
    }
    let names: Vec<&str> = folders.iter().map(|folder| folder.records.provenance.experiment.as_str()).collect();
    let cells = merged(cells, &names);
    let budget = Budget { name: name.to_owned(), amount };
    let advice = advise(&cells, &metric, budget, &fit_normals).map_err(|error| refused(&error))?;
    match args.format {
        Format::Human => write!(out, "{}", advice.to_text())?,
        Format::Json => {
            let text = serde_json::to_string_pretty(&advice.to_value()).expect("advice is plain JSON");
            writeln!(out, "{text}")?;
        }
    }
    Ok(())
}

fn refused(error: &AdviceError) -> Error {
    let hint = match error {
        AdviceError::NoCells(_) => "`scaledown status` says where runs stand",
        AdviceError::OneCell(_) => "name more results folders, or run a sweep",
        AdviceError::TooSmall { .. } => "ask for more, or run something smaller",
    };
    Error::Usage { message: error.to_string(), hint: Some(hint.to_owned()) }
}

/// A results folder.
struct Folder {
    path: PathBuf,
    records: Records,
}

fn read(path: &Path) -> Result<Folder, Error> {
    if !path.join("runs.csv").is_file() {
        let message = format!("{} is no results folder: it holds no runs.csv", path.display());
        let hint = "a results folder is what `scaledown run` writes, such as results/quickstart";
        return Err(Error::Usage { message, hint: Some(hint.to_owned()) });
    }
    Ok(Folder { path: path.to_owned(), records: record::read(path)? })
}

/// The metric asked for, or the first of the first table that is no count.
fn metric(args: &Advise, folders: &[Folder]) -> Result<String, Error> {
    let known: BTreeSet<&str> =
        folders.iter().flat_map(|f| &f.records.runs).flat_map(|run| run.metrics.keys()).map(String::as_str).collect();
    let usage = |message: String, hint: Option<String>| Err(Error::Usage { message, hint });
    match &args.metric {
        Some(metric) if known.contains(metric.as_str()) => Ok(metric.clone()),
        Some(metric) => {
            let problem = Problem::unknown("", "metric", metric, known.iter().copied());
            usage(format!("--metric: {}", problem.message), problem.hint())
        }
        None => {
            let statements = folders.iter().filter_map(|f| serde_json::from_value::<Statements>(f.records.statements.clone()).ok());
            let shown = statements.flat_map(|statements| statements.tables).flat_map(|table| table.values.0);
            let mut shown = shown.filter(|metric| !COUNTS.contains(&metric.as_str()) && known.contains(metric.as_str()));
            match shown.next() {
                Some(metric) => Ok(metric),
                None => usage("no table shows a metric that runs have".to_owned(), Some("name one with `--metric`".to_owned())),
            }
        }
    }
}

/// The evaluation that a metric is of.
fn evaluation<'a>(metric: &str, evaluations: &'a [EvalConfig]) -> Option<&'a EvalConfig> {
    let is_of = |evaluation: &&EvalConfig| {
        let rest = metric.strip_prefix(&format!("{}/{}", evaluation.task.name(), evaluation.name));
        rest.is_some_and(|rest| rest.starts_with(['.', '/']))
    };
    evaluations.iter().find(is_of)
}

/// Refuses runs that were measured in different ways.
fn is_measured_alike(metric: &str, folders: &[Folder]) -> Result<(), Error> {
    let mut first: Option<(&Folder, &EvalConfig)> = None;
    for folder in folders {
        for found in folder.records.runs.iter().filter_map(|run| evaluation(metric, &run.config.evaluate)) {
            match first {
                None => first = Some((folder, found)),
                Some((_, known)) if known == found => {}
                Some((other, _)) => {
                    let (a, b) = (other.path.display(), folder.path.display());
                    let message = format!("runs of {a} and {b} were measured on different sets as `{metric}`");
                    return Err(Error::Usage {
                        message,
                        hint: Some("name folders of one evaluation, or another metric".to_owned()),
                    });
                }
            }
        }
    }
    Ok(())
}

/// Refuses runs whose seeds draw different parts: their scatter is not one, and a run of seed 0 may be in both.
fn draws_alike(folders: &[Folder]) -> Result<(), Error> {
    let drawn = |folder: &Folder| folder.records.runs.first().map(|run| run.config.seeds_draw);
    let Some((first, parts)) = folders.iter().find_map(|folder| Some((folder, drawn(folder)?))) else { return Ok(()) };
    let Some((other, others)) = folders.iter().find_map(|folder| Some((folder, drawn(folder).filter(|found| *found != parts)?)))
    else {
        return Ok(());
    };
    let message = format!("seeds of {} draw {parts}, those of {} {others}", first.path.display(), other.path.display());
    Err(Error::Usage { message, hint: Some("name folders whose seeds draw the same".to_owned()) })
}

/// The cells of a folder with their costs, by all of its axes, and how many have no value.
fn cells_of(records: &Records, metric: &str, cost: &str) -> Result<(Vec<Costed>, usize), Error> {
    let table = TableSpec {
        name: "advice".to_owned(),
        caption: None,
        rows: OneOrMany(records.axes.clone()),
        columns: None,
        filter: BTreeMap::new(),
        values: OneOrMany(vec![metric.to_owned(), cost.to_owned()]),
    };
    let table = build(&table, &TableInput::new(&records.points, &records.runs))?;
    Ok(costed(&table, &records.outcomes, metric, cost))
}

/// The cells of all folders by every axis of any, those of the same runs once.
fn merged(folders: Vec<Vec<Costed>>, names: &[&str]) -> Vec<Costed> {
    let mut axes: Vec<String> = Vec::new();
    for (path, _) in folders.iter().flatten().flat_map(|cell| &cell.labels) {
        if !axes.contains(path) {
            axes.push(path.clone());
        }
    }
    let label = |cell: &Costed, path: &String| cell.labels.iter().find(|(axis, _)| axis == path).map(|(_, label)| label.clone());
    // What an axis that a folder does not have is there, by what a cell of the same runs is called elsewhere.
    let fixed = |folder: &[Costed], path: &String| -> Option<String> {
        let ids: BTreeSet<Vec<&str>> = folder.iter().map(Costed::run_ids).collect();
        let shared = folders.iter().flatten().filter(|cell| ids.contains(&cell.run_ids()));
        shared.filter_map(|cell| label(cell, path)).next()
    };
    let mut out: Vec<Costed> = Vec::new();
    let mut known: BTreeSet<Vec<String>> = BTreeSet::new();
    for (folder, name) in folders.iter().zip(names) {
        let constant: BTreeMap<&String, String> = axes
            .iter()
            .filter(|path| folder.first().is_some_and(|cell| label(cell, path).is_none()))
            .map(|path| (path, fixed(folder, path).unwrap_or_else(|| format!("as in {name}"))))
            .collect();
        for cell in folder {
            if known.insert(cell.run_ids().into_iter().map(str::to_owned).collect()) {
                let of =
                    |path: &String| (path.clone(), label(cell, path).or_else(|| constant.get(path).cloned()).unwrap_or_default());
                out.push(Costed { labels: axes.iter().map(of).collect(), ..cell.clone() });
            }
        }
    }
    out
}
