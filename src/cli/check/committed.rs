//! A committed results folder, and how an experiment's tables and runs have moved from it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::records;
use crate::claims::fits::is_of_fit;
use crate::claims::{Moved, moved};
use crate::cli::args::Global;
use crate::cli::experiment::Loaded;
use crate::cli::losses::{LOSS, first_moved, limit};
use crate::error::Error;
use crate::record::{self, Records};
use crate::run::CurvePoint;
use crate::tables::{Allowance, Drift, Drifts, Table, TableData, TableInput, TableSpec, Tolerance, build, drift};

/// A committed results folder.
pub(super) struct Committed {
    folder: PathBuf,
    tables: Vec<TableData>,
    /// `None` where the folder holds tables alone.
    records: Option<Records>,
    tolerance: Tolerance,
}

/// How far an experiment has moved from a committed folder.
pub(super) struct Against {
    pub folder: PathBuf,
    pub tolerance: Tolerance,
    pub drifts: Drifts,
    /// Runs whose losses were compared.
    pub losses: usize,
    /// How the committed runs are not those of the file.
    pub runs: Option<String>,
    /// Where the runs are those of the file with other seeds, so that cells were compared by what seeds do: the metrics of which nothing
    /// could be said.
    pub seeds: Option<BTreeSet<String>>,
}

impl Against {
    pub fn is_well(&self) -> bool {
        self.drifts.found.is_empty() && self.runs.is_none() && self.seeds.as_ref().is_none_or(BTreeSet::is_empty)
    }
}

/// What is compared with a committed folder: an experiment's tables and records, and what they come from.
#[derive(Clone, Copy)]
pub(super) struct Fresh<'a> {
    pub tables: &'a [Table],
    pub records: &'a Records,
    pub loaded: &'a Loaded,
    pub global: &'a Global,
    pub file: &'a Path,
    pub set: &'a [String],
}

impl Committed {
    /// Reads a committed folder that is to be compared with `ours`.
    ///
    /// # Errors
    /// If both are one folder, the folder does not read, or a tolerance is of no metric that either side has.
    pub fn read(folder: &Path, ours: &Path, file: &Path, stated: &[TableSpec], tolerance: &[String]) -> Result<Self, Error> {
        let usage = |message, hint: String| Error::Usage { message, hint: Some(hint) };
        if is_same_folder(folder, ours) {
            let message =
                format!("{} would be compared with itself: the results of {} lie there", folder.display(), file.display());
            let hint = format!(
                "`scaledown check {} --run --against {}` runs anew into a scratch folder",
                file.display(),
                folder.display()
            );
            return Err(usage(message, hint));
        }
        let tolerance = Tolerance::parse(tolerance.iter().map(String::as_str))
            .map_err(|message| usage(format!("--tolerance: {message}"), "`3`, `1%`, `zeroshot/scenes.acc1=2`, `loss=1%`".into()))?;
        let tables = tables(folder)?;
        let records = match folder.join("runs.csv").exists() || folder.join("provenance.json").exists() {
            true => Some(record::read(folder)?),
            false => None,
        };
        let mut metrics: Vec<&str> = stated.iter().flat_map(|table| table.values.iter().map(String::as_str)).collect();
        metrics.extend(tables.iter().flat_map(|table| &table.cells).filter_map(|cell| cell.labels.last()).map(String::as_str));
        metrics.push(LOSS);
        metrics.sort_unstable();
        metrics.dedup();
        if let Some(unknown) = tolerance.metrics.keys().find(|metric| !metrics.contains(&metric.as_str())) {
            let message = format!("--tolerance: unknown metric `{unknown}`");
            return Err(usage(message, format!("the tables' metrics are {}", metrics.join(", "))));
        }
        Ok(Self { folder: folder.to_owned(), tables, records, tolerance })
    }

    /// Compares an experiment with it.
    ///
    /// # Errors
    /// If the file cannot be planned for the device of the committed runs.
    pub fn compare(self, fresh: &Fresh<'_>) -> Result<Against, Error> {
        let Fresh { tables: ours, records, loaded, global, file, set } = *fresh;
        let Self { folder, tables, records: committed, tolerance } = self;
        if let Some(committed) = &committed
            && let Some(drifts) = other_seeds(fresh, committed)?
        {
            return Ok(Against { folder, tolerance, drifts: drifts.drifts, losses: 0, runs: None, seeds: Some(drifts.unknown) });
        }
        let ours: Vec<TableData> = ours.iter().map(TableData::from).collect();
        let mut drifts = drift(&ours, &tables, &tolerance);
        let mut losses = 0;
        let runs = match &committed {
            None => Some("it holds no runs.csv and provenance.json: nothing says of which runs it is".to_owned()),
            Some(committed) => {
                let placed = |records: &Records| (records.provenance.device, records.provenance.precision);
                // Another device or arithmetic is what a comparison may be about; all else must be the same.
                let theirs = match placed(records) == placed(committed) {
                    true => None,
                    false => Some(Loaded::placed(&Global { quiet: true, ..global.clone() }, file, set, placed(committed))?),
                };
                let theirs = theirs.as_ref().unwrap_or(loaded);
                // On another device or in another arithmetic runs have other losses.
                if tolerance.metrics.contains_key(LOSS) || placed(records) == placed(committed) {
                    losses = compare_losses((loaded, records), (theirs, committed), limit(&tolerance), &mut drifts);
                }
                records::difference(theirs, committed)
            }
        };
        Ok(Against { folder, tolerance, drifts, losses, runs, seeds: None })
    }
}

/// Compares the cells by what seeds do, where the committed runs are those of the file with seeds of which none is ours.
fn other_seeds(fresh: &Fresh<'_>, committed: &Records) -> Result<Option<Moved>, Error> {
    let seeds = |records: &Records| records.runs.iter().map(|run| run.config.seed).collect::<BTreeSet<u64>>();
    let theirs = seeds(committed);
    let placement = (committed.provenance.device, committed.provenance.precision);
    if theirs.is_empty() || !theirs.is_disjoint(&seeds(fresh.records)) {
        return Ok(None);
    }
    let listed: Vec<String> = theirs.iter().map(u64::to_string).collect();
    let set = [fresh.set, &[format!("sweep.seeds=[{}]", listed.join(", "))]].concat();
    let loaded = Loaded::placed(&Global { quiet: true, ..fresh.global.clone() }, fresh.file, &set, placement)?;
    if records::difference(&loaded, committed).is_some() {
        return Ok(None);
    }
    let points = loaded.points();
    let input = TableInput::new(&points, &committed.runs);
    let tables = loaded.spec().tables.iter().map(|table| build(table, &input)).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(moved(fresh.tables, &tables)))
}

/// Whether two paths lead to one folder.
fn is_same_folder(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b || is_same_inode(&a, &b),
        _ => false,
    }
}

#[cfg(unix)]
fn is_same_inode(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_inode(_: &Path, _: &Path) -> bool {
    false
}

/// The tables of a results folder.
fn tables(folder: &Path) -> Result<Vec<TableData>, Error> {
    let tables = folder.join("tables");
    let failed = |path: &Path, source| Error::File { operation: "read", path: path.to_path_buf(), source };
    let entries = std::fs::read_dir(&tables).map_err(|source| failed(&tables, source))?;
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(|e| failed(&tables, e))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    // Files of fits are no tables of cells: a fit moves only where its cells do.
    paths.retain(|path| !path.file_name().is_some_and(|name| is_of_fit(&name.to_string_lossy())));
    paths.sort();
    let parse = |path: &PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut table = TableData::parse(&path.display().to_string(), &super::read(path)?)?;
        table.name = name;
        Ok(table)
    };
    paths.iter().map(parse).collect()
}

/// The losses of every run that both sides have, in plan order: the first step whose loss moved by more than is allowed, up to a last
/// step. Says how many runs were compared.
fn compare_losses(
    (ours, our_records): (&Loaded, &Records),
    (theirs, their_records): (&Loaded, &Records),
    limit: (Allowance, u64),
    drifts: &mut Drifts,
) -> usize {
    fn curve<'a>(records: &'a Records, run_id: &str) -> Option<&'a [CurvePoint]> {
        records.runs.iter().find(|run| run.run_id == run_id).map(|run| run.curve.as_slice())
    }
    let mut compared = 0;
    for (our_run, their_run) in ours.plan.runs().iter().zip(theirs.plan.runs()) {
        let (Some(ours), Some(committed)) = (curve(our_records, &our_run.run_id), curve(their_records, &their_run.run_id)) else {
            continue;
        };
        compared += 1;
        let moved = first_moved(ours, committed, limit);
        if let Some(kind) = moved {
            let cell = vec![("run_id".to_owned(), our_run.run_id.clone())];
            drifts.found.push(Drift { table: "curves".to_owned(), cell, kind });
        }
    }
    compared
}
