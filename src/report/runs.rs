//! Runs and cells row by row: what each came to, and the command that trains it again.

use std::collections::BTreeMap;

use maud::Markup;

use super::rows::{Cell, Column, Kind, table};
use super::{Study, command};
use crate::record::{PointView, labels_on, owners};
use crate::run::{RunConfig, RunRecord, RunStatus};
use crate::tables::{COUNTS, short};

fn column(name: impl Into<String>, kind: Kind) -> Column {
    Column { name: name.into(), kind }
}

fn number(value: f64, decimals_text: String) -> Cell {
    let value = (decimals_text.parse::<f64>().ok() != Some(value)).then_some(value);
    Cell { text: decimals_text, value }
}

/// Every run in the order of the plan.
pub(super) fn runs(study: &Study<'_>) -> Markup {
    let records = study.records;
    let axes = study.axes();
    let owners = owners(&records.points);
    let metrics: Vec<&str> = study.statements.shown().into_iter().filter(|metric| is_of_runs(metric, &records.runs)).collect();
    let mut cpu: BTreeMap<&str, f64> = BTreeMap::new();
    study.timings.iter().for_each(|timing| *cpu.entry(&timing.run_id).or_default() += timing.cpu_s);
    let mut columns = vec![column("run", Kind::Text)];
    columns.extend(axes.iter().map(|axis| column(axis, Kind::Text)));
    columns.push(column("seed", Kind::Number));
    columns.push(column("status", Kind::Text));
    columns.extend(["samples_seen", "gmacs"].map(|name| column(name, Kind::Number)));
    if !cpu.is_empty() {
        columns.push(column("cpu_s", Kind::Number));
    }
    columns.extend(metrics.iter().map(|metric| column(*metric, Kind::Number)));
    let row = |run: &RunRecord| {
        let points = owners.get(run.run_id.as_str()).map_or(&[][..], Vec::as_slice);
        let mut row = vec![Cell::text(&run.run_id)];
        row.extend(axes.iter().map(|axis| Cell::label(labels_on(axis, points))));
        row.push(Cell::text(run.config.seed.to_string()));
        row.push(Cell::text(status(run)));
        row.push(Cell::text(run.samples_seen.to_string()));
        row.push(number(run.gmacs, short(run.gmacs)));
        if !cpu.is_empty() {
            row.push(cpu.get(run.run_id.as_str()).map_or(Cell::text(""), |seconds| number(*seconds, short(*seconds))));
        }
        let value = |metric: &&str| run.metrics.get(*metric).filter(|value| value.is_finite());
        row.extend(metrics.iter().map(|metric| value(metric).map_or(Cell::text(""), |value| number(*value, short(*value)))));
        row
    };
    table("runs-rows", "runs", &columns, records.runs.iter().map(row))
}

/// A metric that runs have by that name; counts have columns of their own.
fn is_of_runs(metric: &str, runs: &[RunRecord]) -> bool {
    !COUNTS.contains(&metric) && runs.iter().any(|run| run.metrics.contains_key(metric))
}

fn status(run: &RunRecord) -> String {
    match (&run.reason, run.status) {
        (Some(reason), status) => format!("{}: {reason}", status.name()),
        (None, status) => status.name().to_owned(),
    }
}

/// Every point in the order of the plan, with the command that trains its runs again.
pub(super) fn cells(study: &Study<'_>) -> Markup {
    let records = study.records;
    let axes = study.axes();
    let by_id: BTreeMap<&str, &RunRecord> = records.runs.iter().map(|run| (run.run_id.as_str(), run)).collect();
    let mut columns: Vec<Column> = axes.iter().map(|axis| column(axis, Kind::Text)).collect();
    columns.extend([column("runs", Kind::Text), column("finished", Kind::Text), column("command", Kind::Command)]);
    let row = |point: &PointView| {
        let runs: Vec<&RunRecord> = point.run_ids.iter().filter_map(|run_id| by_id.get(run_id.as_str()).copied()).collect();
        let configs: Vec<&RunConfig> = runs.iter().map(|run| &run.config).collect();
        let finished = runs.iter().filter(|run| run.status == RunStatus::Finished).count();
        let mut row: Vec<Cell> = axes.iter().map(|axis| Cell::label(point.labels.get(axis).map_or("", String::as_str))).collect();
        row.push(Cell::text(point.run_ids.join(" ")));
        row.push(Cell::text(format!("{finished} of {}", point.run_ids.len())));
        row.push(Cell::text(command::rerun(records, &axes, point, &configs)));
        row
    };
    table("cells-rows", "cells", &columns, records.points.iter().map(row))
}
