//! One side against another outside of claims: the same contrast and standard error, and what more would decide.
//!
//! Owns [`Versus`] and [`Costed`]. Invariant: a difference is decided where 95 % intervals of it do not hold zero; what is not known
//! decides nothing, with the reason.

use std::collections::BTreeMap;

use super::contrast::{Needs, Spread};
use super::items::Part;
use super::pool::Pool;
use super::source::{CellRow, Measure, RunTables};
use crate::run::{Outcomes, counted};
use crate::tables::Table;

/// The tail outside 95 %.
const TAIL: f64 = 0.025;

/// A cell and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Costed {
    /// Key path of each axis and the cell's label on it.
    pub labels: Vec<(String, String)>,
    /// What a run of it costs.
    pub cost: f64,
    /// What was measured.
    pub measure: Measure,
}

impl Costed {
    /// Its labels as people read them.
    #[must_use]
    pub fn name(&self) -> String {
        self.labels.iter().map(|(path, label)| format!("{path}={label}")).collect::<Vec<_>>().join(" ")
    }

    /// Ids of its runs; none of a reading.
    #[must_use]
    pub fn run_ids(&self) -> Vec<&str> {
        match &self.measure {
            Measure::Seeds(runs) => runs.iter().map(|run| run.run_id.as_str()).collect(),
            Measure::Reading { .. } | Measure::Summary(_) => Vec::new(),
        }
    }
}

/// The cells of a table that has every axis, with their costs, and how many have no value or no cost.
#[must_use]
pub fn costed(table: &Table, outcomes: &Outcomes, metric: &str, cost: &str) -> (Vec<Costed>, usize) {
    let rows: Vec<CellRow> = RunTables::new(std::slice::from_ref(table)).with(outcomes).rows_of_all().collect();
    let labels = |row: &CellRow| -> Vec<(String, String)> {
        table.rows.iter().map(|path| (path.clone(), row.labels.get(path).cloned().unwrap_or_default())).collect()
    };
    let is_of = |row: &&CellRow, wanted: &str| row.labels.get("metric").is_some_and(|found| found == wanted);
    let costs: BTreeMap<Vec<(String, String)>, f64> = rows
        .iter()
        .filter(|row| is_of(row, cost))
        .filter_map(|row| Some((labels(row), row.measure.as_ref().ok()?.mean())))
        .collect();
    let (mut cells, mut missing) = (Vec::new(), 0);
    for row in rows.iter().filter(|row| is_of(row, metric)) {
        let labels = labels(row);
        match (&row.measure, costs.get(&labels)) {
            (Ok(measure), Some(cost)) => cells.push(Costed { labels, cost: *cost, measure: measure.clone() }),
            _ => missing += 1,
        }
    }
    (cells, missing)
}

/// What is known of the spread of cells of one metric.
pub(super) fn pool(cells: &[Costed], metric: &str) -> Pool {
    let row = |cell: &Costed| CellRow {
        labels: BTreeMap::from([("metric".to_owned(), metric.to_owned())]),
        measure: Ok(cell.measure.clone()),
    };
    Pool::new(&cells.iter().map(row).collect::<Vec<_>>())
}

/// A weighted sum of cells.
pub(super) type Sum<'a> = Vec<(f64, &'a Costed)>;

/// The value of a sum.
pub(super) fn value(sum: &Sum<'_>) -> f64 {
    sum.iter().map(|(weight, cell)| weight * cell.measure.mean()).sum()
}

/// How far one side is above another.
#[derive(Debug, Clone, PartialEq)]
pub struct Versus {
    /// Left less right, points.
    pub difference: f64,
    /// Half the width of its 95 % interval; or why it is not known.
    pub half_width: Result<f64, String>,
    /// Whether the items' part is in it.
    pub knows_items: bool,
    /// What would decide it, in words; `None` where it is decided or nothing is known to.
    pub needs: Option<String>,
}

impl Versus {
    /// The left side against the right, their spread as the pool has it.
    pub(super) fn of<'a>(left: &Sum<'a>, right: &Sum<'a>, metric: &'a str, pool: &Pool) -> Self {
        let all: Vec<(f64, &'a Costed)> = left.iter().copied().chain(right.iter().map(|(weight, cell)| (-weight, *cell))).collect();
        let stated = |(weight, cell): &(f64, &Costed)| (weight * cell.measure.stated_error()).powi(2);
        let squares: f64 = all.iter().map(stated).sum();
        let of_runs = |(weight, cell): &(f64, &'a Costed)| match &cell.measure {
            Measure::Seeds(runs) if weight.abs() > 1e-12 => Some(Part { weight: *weight, metric, runs }),
            _ => None,
        };
        let parts: Vec<Part<'a>> = all.iter().filter_map(of_runs).collect();
        let difference = value(left) - value(right);
        if parts.is_empty() {
            return Self { difference, half_width: Ok(squares.sqrt()), knows_items: true, needs: None };
        }
        let spread = match Spread::of(&parts, pool) {
            Ok(spread) => spread,
            Err(reason) => return Self { difference, half_width: Err(reason), knows_items: false, needs: None },
        };
        let difference = difference + spread.shift;
        let half_width = (squares + spread.reach(TAIL).powi(2)).sqrt();
        let needs = if difference.abs() > half_width { None } else { spread.needs(TAIL, difference.abs()) };
        let seeds = u64::from(spread.num_seeds);
        let needs = needs.map(|needs| match needs {
            Needs::Seeds(all) => {
                format!("about {} would", counted(usize::try_from(all - seeds).unwrap_or(usize::MAX), "more seed"))
            }
            Needs::Items(items) => format!("no number of seeds would; about {items} items would"),
        });
        Self { difference, half_width: Ok(half_width), knows_items: spread.items.is_some(), needs }
    }

    /// Whether zero lies outside the interval.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.half_width.as_ref().is_ok_and(|half_width| self.difference.abs() > half_width + 1e-9)
    }

    /// Whether it is decided at 95 %, in words.
    #[must_use]
    pub fn decision(&self) -> String {
        match (&self.half_width, &self.needs) {
            _ if self.is_decided() => "decided at 95 %".to_owned(),
            (Err(reason), _) => format!("not decided: {reason}"),
            (Ok(_), Some(needs)) => format!("not decided at 95 %: {needs}"),
            (Ok(_), None) => "not decided at 95 %".to_owned(),
        }
    }

    /// The ends of the interval, where they are known.
    #[must_use]
    pub fn interval(&self) -> Option<[f64; 2]> {
        self.half_width.as_ref().ok().map(|half_width| [self.difference - half_width, self.difference + half_width])
    }
}
