//! `check`: judges claims, on an experiment's records or on tidy CSV files, and compares tables with committed ones.
//!
//! Invariant: records are judged only where they are those of the file's plan, and never compared with themselves.

mod committed;
mod records;
mod report;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::args::{Check, Experiment, Global};
use super::experiment::{Loaded, STATED, load_spec};
use super::reuse::Reuse;
use crate::claims::{ClaimSpec, Values, Verdict, findings, judge};
use crate::error::{Error, exit};
use crate::jobs::{fit_normals, mark};
use crate::record;
use crate::spec::{self, LoadOptions};
use crate::tables::TableInput;

use committed::{Against, Committed, Fresh};

/// What a check found.
struct Checked {
    verdicts: Vec<Verdict>,
    against: Option<Against>,
    /// Exit code of the run before the check; failed runs are missing cells.
    ran: u8,
}

pub(super) fn run(global: &Global, args: &Check, out: &mut dyn Write) -> Result<u8, Error> {
    let checked = match args.values.is_empty() {
        false => Checked { verdicts: on_values(global, args)?, against: None, ran: exit::OK },
        true => on_experiments(global, args)?,
    };
    if !matches!(checked.ran, exit::OK | exit::FAILED) {
        // Stopped: the run has said so.
        return Ok(checked.ran);
    }
    report::print(global, args.format, &checked, out)?;
    let is_well = checked.verdicts.iter().all(Verdict::is_as_expected) && checked.against.as_ref().is_none_or(Against::is_well);
    Ok(match (checked.ran, is_well) {
        (exit::OK, true) => exit::OK,
        (exit::OK, false) => exit::CHECK,
        (ran, _) => ran,
    })
}

/// Longest CSV file of values that is read, bytes.
const LONGEST: u64 = 256 << 20;

/// Claims of files, on tidy CSV files.
fn on_values(global: &Global, args: &Check) -> Result<Vec<Verdict>, Error> {
    let mut claims: Vec<ClaimSpec> = Vec::new();
    let (mut problems, mut hint) = (Vec::new(), None);
    for file in &args.files {
        let stated = spec::load_claims(file, &LoadOptions::default())?.into_claims();
        if stated.is_empty() {
            problems.push(format!("{}: states no claims", file.display()));
        }
        claims.extend(stated);
    }
    let mut values = Values::default();
    for path in &args.values {
        if let Err(error) = values.add(&path.display().to_string(), &read(path)?) {
            hint = error.hint().or(hint);
            problems.push(error.to_string());
        }
    }
    // A file beside others may hold something else than cells; one that nearly has the column is a slip.
    let (slips, others): (Vec<_>, Vec<_>) = values.idle().iter().partition(|idle| values.is_empty() || idle.hint.is_some());
    for idle in slips {
        hint = idle.hint.clone().or(hint);
        problems.push(format!("{}: {}", idle.file, idle.why));
    }
    if !problems.is_empty() {
        return Err(Error::Invalid { message: problems.join("\n"), hint });
    }
    let warnings: Vec<String> = others.iter().map(|idle| format!("{}: {}; it gives no cells", idle.file, idle.why)).collect();
    super::warn(global, &warnings);
    Ok(judge(&claims, &values))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::File { operation: "read", path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        let message = format!("{}: holds more than {} MiB, expected a CSV file of values", path.display(), LONGEST >> 20);
        return Err(Error::Invalid { message, hint: None });
    }
    Ok(bytes)
}

/// Claims of experiments on their records, and the drift of one from committed ones.
fn on_experiments(global: &Global, args: &Check) -> Result<Checked, Error> {
    if let (Some(folder), [_, _, ..]) = (&args.against, args.files.as_slice()) {
        let message = format!("{} experiment files, and one folder to compare with: {}", args.files.len(), folder.display());
        return Err(Error::Usage { message, hint: Some("check them one by one".into()) });
    }
    let mut all = Checked { verdicts: Vec::new(), against: None, ran: exit::OK };
    for file in &args.files {
        let Checked { verdicts, against, ran } = on_experiment(global, args, file)?;
        all.verdicts.extend(verdicts);
        (all.against, all.ran) = (against, all.ran.max(ran));
    }
    Ok(all)
}

fn on_experiment(global: &Global, args: &Check, file: &Path) -> Result<Checked, Error> {
    let stated = load_spec(file, &args.set, STATED)?;
    let scratch = if args.run { Some(Scratch::new(args.keep.as_deref())?) } else { None };
    let global = scratch.as_ref().map_or_else(|| global.clone(), |scratch| scratch.global(global));
    let folder = global.results.join(&stated.experiment);
    // What can be refused is refused before anything runs.
    let read = |against: &PathBuf| Committed::read(against, &folder, file, &stated.tables, &args.tolerance);
    let committed = args.against.as_ref().map(read).transpose()?;
    let ran = if args.run { run_anew(&global, args, file)? } else { exit::OK };
    if !matches!(ran, exit::OK | exit::FAILED) {
        return Ok(Checked { verdicts: Vec::new(), against: None, ran });
    }
    let records = record::read(&folder)?;
    let loaded = Loaded::placed(&global, file, &args.set, (records.provenance.device, records.provenance.precision))?;
    if let Some(what) = records::difference(&loaded, &records) {
        let message = format!("{} holds no records of {}: {what}", folder.display(), file.display());
        let hint = "`scaledown run` writes those of the file; `scaledown check --run` makes them in a scratch folder";
        return Err(Error::Check { message, hint: Some(hint.into()) });
    }
    let points = loaded.points();
    let asked = loaded.statements();
    let mut found = findings(&asked, &TableInput::new(&points, &records.runs), &records.outcomes, &fit_normals)?;
    let statements = serde_json::to_value(asked).expect("statements are plain structs with text keys");
    mark(&mut found, &records, &statements);
    let set = &args.set;
    let fresh = Fresh { tables: &found.tables, records: &records, loaded: &loaded, global: &global, file, set };
    let against = committed.map(|committed| committed.compare(&fresh)).transpose()?;
    Ok(Checked { verdicts: found.verdicts, against, ran })
}

/// Runs an experiment with these options of every command; the exit code of the run.
fn run_anew(global: &Global, args: &Check, file: &Path) -> Result<u8, Error> {
    let (device, precision) = (args.device, args.precision);
    let experiment = Experiment { file: file.to_owned(), set: args.set.clone(), device, precision };
    // What is checked is what this program computes, so nothing is taken from records.
    let ran = super::run::run(global, &experiment, &args.execution, &Reuse::trained(), &mut std::io::sink())?;
    // A verdict that is not as expected is told by the check itself.
    Ok(if ran == exit::CHECK { exit::OK } else { ran })
}

/// Where `--run` works: a folder that is removed at the end, or one that is kept.
enum Scratch {
    Removed(tempfile::TempDir),
    Kept(PathBuf),
}

impl Scratch {
    fn new(keep: Option<&Path>) -> Result<Self, Error> {
        match keep {
            Some(folder) => Ok(Self::Kept(folder.to_owned())),
            None => tempfile::Builder::new()
                .prefix("scaledown-check-")
                .tempdir()
                .map(Self::Removed)
                .map_err(|source| Error::File { operation: "create a scratch folder in", path: std::env::temp_dir(), source }),
        }
    }

    /// The options of every command, with store and results in the scratch folder.
    fn global(&self, global: &Global) -> Global {
        let folder = match self {
            Self::Removed(folder) => folder.path(),
            Self::Kept(folder) => folder,
        };
        Global { store: folder.join("store"), results: folder.join("results"), ..global.clone() }
    }
}
