//! `runs.csv`: one row a run, in plan order.
//!
//! Columns: `run_id`, every axis under its key with the label as written, the resolved config columns that vary, `seed`,
//! `subset_samples`, `samples_seen`, `steps`, `gmacs`, `status`, `reason`, then the metrics in alphabetical order, numbers in
//! them by size; beside each metric of runs with milestones its best over them and the end, and the step where that stands. A run
//! of several points with different labels has them all, between ` | `. Configs are read back from
//! `provenance.json`, not from their columns.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::milestones::is_at_milestone;
use super::text::{csv_bytes, natural};
use super::{PointView, RecordError, Records, columns, number};
use crate::run::{RunConfig, RunRecord, RunStatus};

pub(super) const NAME: &str = "runs.csv";
const FIXED: [&str; 7] = ["seed", "subset_samples", "samples_seen", "steps", "gmacs", "status", "reason"];
const STATUSES: [RunStatus; 4] = [RunStatus::Finished, RunStatus::Diverged, RunStatus::Failed, RunStatus::Interrupted];

pub(super) fn write(records: &Records, configs: &[Value]) -> Result<Vec<u8>, RecordError> {
    let Records { provenance: _, runs, axes, points, statements: _, outcomes: _, identities: _, stated: _ } = records;
    let flat: Vec<_> = configs.iter().map(columns::flatten).collect();
    // Milestones have a file of their own.
    let is_own = |path: &String| !["seed", "train.milestones"].contains(&path.as_str()) && !axes.contains(path);
    let varying: Vec<String> = columns::varying(&flat).into_iter().filter(is_own).collect();
    let shown = |run: &RunRecord, name: &str, value: f64| value.is_finite() && !is_at_milestone(run, name);
    let metrics: BTreeSet<&String> = runs
        .iter()
        .flat_map(|run| run.metrics.iter().filter(|(name, value)| shown(run, name, **value)).map(|(name, _)| name))
        .collect();
    let mut metrics: Vec<&String> = metrics.into_iter().collect();
    metrics.sort_by(|a, b| natural(a, b));
    let owners = owners(points);
    let mut header = vec!["run_id".to_owned()];
    header.extend(axes.iter().cloned());
    header.extend(varying.iter().cloned());
    header.extend(FIXED.map(str::to_owned));
    header.extend(metrics.iter().map(|name| (*name).clone()));
    let rows = runs.iter().zip(&flat).map(|(run, leaves)| {
        let mut row = vec![run.run_id.clone()];
        let points = owners.get(run.run_id.as_str()).map_or(&[][..], Vec::as_slice);
        row.extend(axes.iter().map(|axis| labels_on(axis, points)));
        row.extend(varying.iter().map(|path| columns::text_at(leaves, path).to_owned()));
        row.extend(fixed_cells(run));
        row.extend(metrics.iter().map(|name| run.metrics.get(*name).copied().map(number).unwrap_or_default()));
        row
    });
    csv_bytes(NAME, &header, rows)
}

/// The points that each run belongs to, by run id.
#[must_use]
pub fn owners(points: &[PointView]) -> BTreeMap<&str, Vec<&PointView>> {
    let mut owners: BTreeMap<&str, Vec<&PointView>> = BTreeMap::new();
    for point in points {
        point.run_ids.iter().for_each(|run_id| owners.entry(run_id).or_default().push(point));
    }
    owners
}

/// The labels of a run's points on an axis, each once; empty where none has it.
#[must_use]
pub fn labels_on(axis: &str, points: &[&PointView]) -> String {
    let mut labels: Vec<&str> = Vec::new();
    for label in points.iter().filter_map(|point| point.labels.get(axis)) {
        if !labels.contains(&label.as_str()) {
            labels.push(label);
        }
    }
    labels.join(" | ")
}

fn fixed_cells(run: &RunRecord) -> [String; 7] {
    let RunRecord { run_id: _, config, status, reason, subset_samples, steps, samples_seen, gmacs, metrics: _, curve: _ } = run;
    [
        config.seed.to_string(),
        subset_samples.to_string(),
        samples_seen.to_string(),
        steps.to_string(),
        number(*gmacs),
        status.name().to_owned(),
        reason.clone().unwrap_or_default(),
    ]
}

pub(super) fn parse(text: &[u8], configs: Vec<(String, RunConfig)>) -> Result<Vec<RunRecord>, RecordError> {
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.headers().map_err(|error| RecordError::csv(NAME, &error))?.clone();
    let start = header.iter().zip(header.iter().skip(1)).position(|pair| pair == ("seed", "subset_samples"));
    let fixed_at = start.filter(|at| header.iter().skip(*at).take(FIXED.len()).eq(FIXED) && header.get(0) == Some("run_id"));
    let Some(fixed_at) = fixed_at else {
        return Err(RecordError::Malformed {
            file: NAME,
            line: 1,
            what: format!("columns {header:?}, expected {FIXED:?} among them"),
        });
    };
    let mut configs = configs.into_iter();
    let mut runs = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| RecordError::csv(NAME, &error))?;
        let Some((run_id, config)) = configs.next().filter(|(run_id, _)| *run_id == record[0]) else {
            return Err(RecordError::UnknownRun { file: NAME, run_id: record[0].to_owned() });
        };
        runs.push(parse_row(&header, &record, fixed_at, run_id, config)?);
    }
    match configs.next() {
        Some((run_id, _)) => Err(RecordError::UnknownRun { file: "provenance.json", run_id }),
        None => Ok(runs),
    }
}

fn parse_row(
    header: &csv::StringRecord,
    record: &csv::StringRecord,
    fixed_at: usize,
    run_id: String,
    config: RunConfig,
) -> Result<RunRecord, RecordError> {
    let line = record.position().map_or(0, csv::Position::line);
    let wrong = |column: usize, expected: &str| RecordError::Malformed {
        file: NAME,
        line,
        what: format!("`{}` is `{}`, expected {expected}", &header[column], &record[column]),
    };
    let count = |offset: usize| record[fixed_at + offset].parse::<u64>().map_err(|_| wrong(fixed_at + offset, "a count"));
    let float = |column: usize| record[column].parse::<f64>().map_err(|_| wrong(column, "a number"));
    if count(0)? != config.seed {
        return Err(wrong(fixed_at, "the seed that provenance.json states"));
    }
    let status = STATUSES.into_iter().find(|status| status.name() == &record[fixed_at + 5]);
    let reason = &record[fixed_at + 6];
    let mut metrics = BTreeMap::new();
    for column in fixed_at + FIXED.len()..record.len() {
        if !record[column].is_empty() {
            metrics.insert(header[column].to_owned(), float(column)?);
        }
    }
    Ok(RunRecord {
        run_id,
        config,
        status: status.ok_or_else(|| wrong(fixed_at + 5, "a status"))?,
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        subset_samples: count(1)?,
        samples_seen: count(2)?,
        steps: count(3)?,
        gmacs: float(fixed_at + 4)?,
        metrics,
        curve: Vec::new(),
    })
}
