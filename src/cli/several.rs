//! Several experiment files in one command: what they share, what they cost together, and all of them run one after another.
//!
//! Must not know what is in a file: each is planned and run as it would be alone.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::adoption;
use super::args::{Execution, Experiment, Global, PlanFormat, PlanOptions};
use super::estimate;
use super::experiment::Loaded;
use super::plan::amount;
use super::reuse::Reuse;
use crate::error::{Error, exit};
use crate::plan::Key;
use crate::progress::duration;
use crate::store::Store;

/// What one file adds to those before it.
#[derive(Debug, Serialize)]
struct Row {
    experiment: String,
    runs: usize,
    /// Runs that a file before it has too.
    shared: usize,
    /// Runs that are in the store, or taken from committed records.
    there: usize,
    /// Forward GMACs of the training that is left to do.
    gmacs: f64,
    /// Seconds of that training.
    seconds: Option<f64>,
}

/// Prints what the files of `plan` come to, each run counted once.
pub(super) fn plan(global: &Global, args: &PlanOptions, out: &mut dyn Write) -> Result<(), Error> {
    let PlanOptions { experiment, more, adoption, format, tflops, resolved } = args;
    if resolved.is_some() || *format == PlanFormat::Dot {
        let message = "`--resolved` and `--format dot` show one experiment".to_owned();
        return Err(Error::Usage { message, hint: Some("name one file".to_owned()) });
    }
    let store = Store::open(&global.store)?;
    let finished = store.finished()?;
    let mut earlier: HashSet<Key> = HashSet::new();
    let mut rows = Vec::with_capacity(more.len() + 1);
    for file in std::iter::once(&experiment.file).chain(more) {
        let loaded = Loaded::new(global, &experiment.of(file))?;
        let adopted = adoption::find(global, &loaded, &finished, adoption)?;
        let mut known: HashSet<Key> = finished.iter().copied().chain(adopted.job_keys(&loaded.plan)).collect();
        let trains: Vec<Key> = loaded.plan.runs().iter().map(|run| loaded.plan.job(run.train).key).collect();
        let shared = trains.iter().filter(|key| earlier.contains(*key)).count();
        let there = trains.iter().filter(|key| known.contains(*key) && !earlier.contains(*key)).count();
        known.extend(&earlier);
        let gmacs = loaded.gmacs();
        let to_do = trains.iter().zip(&gmacs).filter(|(key, _)| !known.contains(*key)).map(|(_, gmacs)| gmacs).sum();
        let estimate = estimate::estimate(&loaded, &store, (&finished, &known), &gmacs, *tflops);
        earlier.extend(&trains);
        let experiment = loaded.spec().experiment.clone();
        rows.push(Row { experiment, runs: trains.len(), shared, there, gmacs: to_do, seconds: estimate.seconds });
    }
    let total = Row {
        experiment: "together".to_owned(),
        runs: rows.iter().map(|row| row.runs - row.shared).sum(),
        shared: rows.iter().map(|row| row.shared).sum(),
        there: rows.iter().map(|row| row.there).sum(),
        gmacs: rows.iter().map(|row| row.gmacs).sum(),
        seconds: rows.iter().map(|row| row.seconds).sum(),
    };
    if *format == PlanFormat::Json {
        return Ok(writeln!(out, "{:#}", serde_json::json!({ "experiments": rows, "together": total }))?);
    }
    let width = rows.iter().map(|row| row.experiment.len()).max().unwrap_or(0).max("experiment".len());
    let time = if tflops.is_some() { "device-hours" } else { "time" };
    writeln!(out, "{:width$}  {:>6}  {:>6}  {:>6}  {:>10}  {time:>12}", "experiment", "runs", "shared", "there", "GMACs")?;
    for row in rows.iter().chain([&total]) {
        let Row { experiment, runs, shared, there, gmacs, seconds } = row;
        let time = match seconds {
            Some(seconds) if tflops.is_some() => format!("{:.1}", seconds / 3600.0),
            Some(seconds) => duration(std::time::Duration::from_secs_f64(seconds.min(3e15))),
            None => "not known".to_owned(),
        };
        writeln!(out, "{experiment:width$}  {runs:>6}  {shared:>6}  {there:>6}  {:>10}  {time:>12}", amount(*gmacs))?;
    }
    writeln!(out)?;
    writeln!(out, "shared: runs that a file above has too, counted once below; there: in the store or in committed records.")?;
    Ok(writeln!(out, "GMACs (forward, both encoders, times samples seen) and time are of the training that is left to do.")?)
}

/// Runs the files one after another. A file that ends badly does not keep the next from running; the code is the first that is not
/// [`exit::OK`]. An interruption, or a fault of the machine, ends all.
pub(super) fn run(
    global: &Global,
    experiment: &Experiment,
    more: &[PathBuf],
    execution: &Execution,
    reuse: &Reuse,
    out: &mut dyn Write,
) -> Result<u8, Error> {
    let files: Vec<&Path> = std::iter::once(&experiment.file).chain(more).map(PathBuf::as_path).collect();
    // A mistake in the last file is found before the first is trained.
    for file in &files {
        Loaded::new(global, &experiment.of(file))?.check_support()?;
    }
    let mut worst = exit::OK;
    for file in files {
        let code = super::run::run(global, &experiment.of(file), execution, reuse, out)?;
        if code == exit::INTERRUPTED || code == exit::ENVIRONMENT {
            return Ok(code);
        }
        if worst == exit::OK {
            worst = code;
        }
    }
    Ok(worst)
}
