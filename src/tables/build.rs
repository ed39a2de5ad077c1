//! Records of runs to the cells of a table.
//!
//! Owns [`Table`]. Input: points with their labels and runs, and the records at hand. Invariant: a cell is one point of the
//! sweep (several points of a cell must be the same runs), so nothing is averaged over but seeds; a run that is not there,
//! was not trained to its end or lacks the metric is counted as missing. Rows and columns keep the order of the plan.

use std::collections::{BTreeMap, BTreeSet};

use super::{NONE, TableSpec, TablesError};
use crate::record::PointView;
use crate::run::{GMACS_AS_STATED, RunRecord, RunStatus, SeedParts};

/// What tables are made of.
#[derive(Debug, Clone, Default)]
pub struct TableInput<'a> {
    /// Points in plan order.
    pub points: &'a [PointView],
    /// Records at hand, by run id.
    pub records: BTreeMap<String, &'a RunRecord>,
}

impl<'a> TableInput<'a> {
    /// The input that these points and records make.
    #[must_use]
    pub fn new(points: &'a [PointView], records: &'a [RunRecord]) -> Self {
        Self { points, records: records.iter().map(|record| (record.run_id.clone(), record)).collect() }
    }
}

/// A table: cells in row-major order, metrics innermost.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// File name without its ending.
    pub name: String,
    /// One line above the table.
    pub caption: Option<String>,
    /// Key paths of the axes that run down.
    pub rows: Vec<String>,
    /// Key path of the axis that runs across.
    pub columns: Option<String>,
    /// Labels fixed by `where` on axes that are neither rows nor columns.
    pub fixed: BTreeMap<String, String>,
    /// Metrics in the order asked for.
    pub metrics: Vec<String>,
    /// The cells.
    pub cells: Vec<Cell>,
}

/// One cell: one metric of one point, over its seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Labels of the row axes; empty for an axis that the point does not have.
    pub row: Vec<String>,
    /// Label of the column axis; empty where the point does not have it.
    pub column: Option<String>,
    /// The metric.
    pub metric: String,
    /// Seed and value of every run that has one, in plan order.
    pub values: Vec<(u64, f64)>,
    /// Ids of the runs of `values`.
    pub run_ids: Vec<String>,
    /// Runs of the point that have no value.
    pub missing: usize,
    /// What the seeds of its runs draw; nothing where there is no run.
    pub drawn: SeedParts,
}

impl Cell {
    /// Mean over seeds.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        mean(&self.values)
    }

    /// Standard deviation over seeds (n - 1 in the denominator).
    #[must_use]
    pub fn stddev(&self) -> Option<f64> {
        let centre = self.mean()?;
        let squares: f64 = self.values.iter().map(|(_, value)| (value - centre).powi(2)).sum();
        (self.values.len() > 1).then(|| (squares / (count(self.values.len()) - 1.0)).sqrt())
    }

    /// Runs with a value.
    #[must_use]
    pub fn n(&self) -> usize {
        self.values.len()
    }
}

fn mean(values: &[(u64, f64)]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().map(|(_, value)| value).sum::<f64>() / count(values.len()))
}

#[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
fn count(n: usize) -> f64 {
    n as f64
}

/// Builds one table.
///
/// # Errors
/// Where two different points fall into one cell: an axis is neither in `rows`, `columns` nor fixed by `where`.
pub fn build(spec: &TableSpec, input: &TableInput<'_>) -> Result<Table, TablesError> {
    let TableSpec { name, caption, rows, columns, filter, values } = spec;
    let groups = group(spec, input)?;
    let row_order = order_of(groups.iter().map(|group| &group.row));
    let column_order = order_of(groups.iter().map(|group| &group.column));
    let by_place: BTreeMap<_, _> = groups.iter().map(|group| ((&group.row, &group.column), group)).collect();
    let mut cells = Vec::with_capacity(groups.len() * values.0.len());
    for row in &row_order {
        for column in &column_order {
            let Some(group) = by_place.get(&(*row, *column)) else { continue };
            cells.extend(values.iter().map(|metric| cell(group, metric, input)));
        }
    }
    let fixed = filter
        .iter()
        .filter(|(path, labels)| !rows.0.contains(path) && columns.as_ref() != Some(path) && labels.0.len() == 1)
        .map(|(path, labels)| (path.clone(), labels.0[0].to_string()))
        .collect();
    Ok(Table {
        name: name.clone(),
        caption: caption.clone(),
        rows: rows.0.clone(),
        columns: columns.clone(),
        fixed,
        metrics: values.0.clone(),
        cells,
    })
}

/// The points of one cell place, which are all the same runs.
struct Group<'a> {
    row: Vec<String>,
    column: Option<String>,
    point: &'a PointView,
}

fn group<'a>(spec: &TableSpec, input: &TableInput<'a>) -> Result<Vec<Group<'a>>, TablesError> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut places: BTreeMap<(Vec<String>, Option<String>), usize> = BTreeMap::new();
    let at = Places::new(spec, input.points);
    for point in input.points {
        let Some((row, column)) = at.of(point) else { continue };
        match places.get(&(row.clone(), column.clone())) {
            Some(&known) if groups[known].point.run_ids == point.run_ids => {}
            Some(&known) => return Err(collapsed(spec, groups[known].point, point, &row, column.as_ref())),
            None => {
                places.insert((row.clone(), column.clone()), groups.len());
                groups.push(Group { row, column, point });
            }
        }
    }
    Ok(groups)
}

/// Where points stand in a table.
pub struct Places<'a> {
    spec: &'a TableSpec,
    /// Paths of `where` on which some point has a value that is itself called `none`.
    has_none: BTreeSet<&'a str>,
}

impl<'a> Places<'a> {
    /// The places that a table gives to points.
    #[must_use]
    pub fn new(spec: &'a TableSpec, points: &[PointView]) -> Self {
        let is_none = |path: &&String| points.iter().any(|p| p.labels.get(*path).is_some_and(|label| label == NONE));
        Self { spec, has_none: spec.filter.keys().filter(is_none).map(String::as_str).collect() }
    }

    /// Labels of the row axes and of the column axis, if the point belongs into the table; empty where it lacks the axis.
    #[must_use]
    pub fn of(&self, point: &PointView) -> Option<(Vec<String>, Option<String>)> {
        let label = |path: &String| point.labels.get(path).cloned().unwrap_or_default();
        let kept = self.spec.filter.iter().all(|(path, labels)| {
            let (have, also) = (label(path), point.also.get(path));
            labels.iter().any(|wanted| {
                let is_absent = have.is_empty() && wanted.as_str() == NONE && !self.has_none.contains(path.as_str());
                is_absent || wanted.names(&have) || also.is_some_and(|texts| texts.iter().any(|text| wanted.names(text)))
            })
        });
        kept.then(|| (self.spec.rows.iter().map(label).collect(), self.spec.columns.as_ref().map(label)))
    }
}

fn collapsed(spec: &TableSpec, a: &PointView, b: &PointView, row: &[String], column: Option<&String>) -> TablesError {
    let paths: BTreeSet<&String> = a.labels.keys().chain(b.labels.keys()).collect();
    let named = |path: &String| spec.rows.0.contains(path) || spec.columns.as_ref() == Some(path);
    let axes = paths.into_iter().filter(|path| !named(path) && a.labels.get(*path) != b.labels.get(*path)).cloned().collect();
    let shown = |label: &String| if label.is_empty() { NONE.to_owned() } else { label.clone() };
    let cell = row.iter().chain(column).map(shown).collect::<Vec<_>>().join(", ");
    TablesError::Collapsed { table: spec.name.clone(), cell, axes }
}

fn order_of<'a, T: Ord + 'a>(items: impl Iterator<Item = &'a T>) -> Vec<&'a T> {
    let mut seen = BTreeSet::new();
    items.filter(|item| seen.insert(*item)).collect()
}

fn cell(group: &Group<'_>, metric: &str, input: &TableInput<'_>) -> Cell {
    let records = group.point.run_ids.iter().filter_map(|run_id| input.records.get(run_id));
    let found = records.filter_map(|record| Some((record, value_of(record, metric)?)));
    let (values, run_ids): (Vec<(u64, f64)>, Vec<String>) =
        found.map(|(record, value)| ((record.config.seed, value), record.run_id.clone())).unzip();
    let missing = group.point.run_ids.len() - values.len();
    let known = group.point.run_ids.iter().find_map(|run_id| input.records.get(run_id));
    let drawn = known.map_or_else(SeedParts::none, |record| record.config.drawn());
    Cell { row: group.row.clone(), column: group.column.clone(), metric: metric.to_owned(), values, run_ids, missing, drawn }
}

/// Counts that every record holds and that a table may show like metrics.
pub const COUNTS: [&str; 5] = ["gmacs", GMACS_AS_STATED, "samples_seen", "steps", "subset_samples"];

/// The training loss that fits may be of: the mean of the last tenth of the points of a run's curve, one at least.
pub const LOSS: &str = "loss";

fn last_loss(record: &RunRecord) -> Option<f64> {
    let last = record.curve.len().div_ceil(10);
    let losses = &record.curve[record.curve.len() - last..];
    (last > 0).then(|| losses.iter().map(|point| point.loss).sum::<f64>() / count(last))
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples and steps stay far below 2^53")]
fn value_of(record: &RunRecord, metric: &str) -> Option<f64> {
    if record.status == RunStatus::Diverged {
        return None;
    }
    // A run whose one evaluation failed keeps what the others measured.
    let is_trained = record.steps >= record.config.train.steps;
    let value = record.metrics.get(metric).copied().or(match metric {
        _ if !is_trained => None,
        // Where the paper counts otherwise, the record says so.
        "gmacs" | GMACS_AS_STATED => Some(record.gmacs),
        "samples_seen" => Some(record.samples_seen as f64),
        "steps" => Some(record.steps as f64),
        "subset_samples" => Some(record.subset_samples as f64),
        LOSS => last_loss(record),
        _ => None,
    });
    value.filter(|value| value.is_finite())
}
