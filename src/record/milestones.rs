//! `milestones.csv`: one row a run and milestone, the end of the run last, as `100%`; there where any run has milestones.
//!
//! Columns: `run_id`, `milestone`, `step`, `samples_seen`, then the metrics as measured there, in alphabetical order, numbers in
//! them by size. The end of a run with milestones is read back under
//! both of its names.

use std::collections::{BTreeMap, BTreeSet};

use super::RecordError;
use super::text::{csv_bytes, natural, number, parse_number};
use crate::run::{END, Milestone, RunRecord, best_metric, best_step_metric};

pub(super) const NAME: &str = "milestones.csv";
const FIXED: [&str; 4] = ["run_id", "milestone", "step", "samples_seen"];

/// Whether a metric of a run is one at a milestone, which stands here and not in `runs.csv`.
pub(super) fn is_at_milestone(run: &RunRecord, metric: &str) -> bool {
    crate::run::is_at_milestone(&run.config.train.milestones, metric)
}

/// The file; `None` where no run has milestones.
pub(super) fn write(runs: &[RunRecord]) -> Result<Option<Vec<u8>>, RecordError> {
    if runs.iter().all(|run| run.config.train.milestones.is_empty()) {
        return Ok(None);
    }
    let rows: Vec<(&RunRecord, Row<'_>)> =
        runs.iter().flat_map(|run| rows_of(run).into_iter().map(move |row| (run, row))).collect();
    let named: BTreeSet<&str> = rows.iter().flat_map(|(_, row)| row.metrics.keys().copied()).collect();
    let mut metrics: Vec<&str> = named.into_iter().collect();
    metrics.sort_by(|a, b| natural(a, b));
    let header: Vec<String> = FIXED.iter().chain(&metrics).map(|name| (*name).to_owned()).collect();
    let rows = rows.iter().map(|(run, Row { label, step, metrics: found })| {
        let samples = step * run.config.train.effective_batch();
        let fixed = [run.run_id.clone(), (*label).to_owned(), step.to_string(), samples.to_string()];
        fixed.into_iter().chain(metrics.iter().map(|name| found.get(name).copied().map(number).unwrap_or_default())).collect()
    });
    csv_bytes(NAME, &header, rows).map(Some)
}

/// What was measured of a run at one of its milestones, or at its end.
struct Row<'a> {
    label: &'a str,
    step: u64,
    metrics: BTreeMap<&'a str, f64>,
}

/// The rows of a run; those without a metric are left out.
fn rows_of(run: &RunRecord) -> Vec<Row<'_>> {
    let train = &run.config.train;
    let finite = || run.metrics.iter().filter(|(_, value)| value.is_finite());
    let at = |milestone: &Milestone| -> BTreeMap<&str, f64> {
        finite().filter_map(|(name, value)| Some((milestone.measured(name)?, *value))).collect()
    };
    let mut rows: Vec<Row<'_>> = train.milestones.iter().map(|m| Row { label: &m.label, step: m.step, metrics: at(m) }).collect();
    let of_best: BTreeSet<String> = run.metrics.keys().flat_map(|name| [best_metric(name), best_step_metric(name)]).collect();
    let is_of_end = |name: &str| !is_at_milestone(run, name) && !of_best.contains(name);
    let metrics = finite().filter(|(name, _)| is_of_end(name)).map(|(name, value)| (name.as_str(), *value)).collect();
    rows.push(Row { label: END, step: train.steps, metrics });
    rows.retain(|row| !row.metrics.is_empty());
    rows
}

/// Adds the metrics at milestones to runs that were read from `runs.csv`. An empty text is no file.
pub(super) fn read_into(text: &[u8], runs: &mut [RunRecord]) -> Result<(), RecordError> {
    let malformed = |line: u64, what: String| RecordError::Malformed { file: NAME, line, what };
    if text.is_empty() {
        let lacks = runs.iter().find(|run| !run.config.train.milestones.is_empty() && !run.metrics.is_empty());
        return lacks.map_or(Ok(()), |run| Err(malformed(1, format!("no metrics at the milestones of run {}", run.run_id))));
    }
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.headers().map_err(|error| RecordError::csv(NAME, &error))?.clone();
    if header.iter().take(FIXED.len()).ne(FIXED) {
        return Err(malformed(1, format!("columns {header:?}, expected {FIXED:?} first")));
    }
    let by_id: BTreeMap<String, usize> = runs.iter().enumerate().map(|(idx, run)| (run.run_id.clone(), idx)).collect();
    for record in reader.records() {
        let record = record.map_err(|error| RecordError::csv(NAME, &error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let Some(run) = by_id.get(&record[0]).map(|idx| &mut runs[*idx]) else {
            return Err(RecordError::UnknownRun { file: NAME, run_id: record[0].to_owned() });
        };
        let train = &run.config.train;
        if &record[1] == END && train.milestones.is_empty() {
            continue;
        }
        let milestone = train.milestones.iter().find(|milestone| milestone.label == record[1]).cloned();
        let end = (&record[1] == END).then(|| Milestone { label: END.to_owned(), step: train.steps });
        let Some(milestone) = milestone.or(end) else {
            return Err(malformed(line, format!("`milestone` is `{}`, which run {} does not have", &record[1], run.run_id)));
        };
        if record[2] != milestone.step.to_string() {
            return Err(malformed(line, format!("`step` is `{}`, expected {}", &record[2], milestone.step)));
        }
        for column in (FIXED.len()..record.len()).filter(|column| !record[*column].is_empty()) {
            let value = parse_number(&record[column])
                .ok_or_else(|| malformed(line, format!("`{}` is `{}`, not a number", &header[column], &record[column])))?;
            run.metrics.insert(milestone.metric(&header[column]), value);
        }
    }
    Ok(())
}
