//! Tables as CSV (tidy, exact) and Markdown (for people, rounded).
//!
//! Invariant: the same table gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Cell, Grid, Table, rounded};
use crate::record::number;

impl Table {
    /// Tidy CSV: one line a row label, column label and metric, with `mean`, `stddev`, `n` and `missing`.
    #[must_use]
    pub fn to_csv(&self) -> Vec<u8> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = self.rows.iter().chain(&self.columns).map(String::as_str);
        let mut write = |fields: Vec<String>| writer.write_record(fields).expect("writing to memory does not fail");
        write(header.chain(["metric", "mean", "stddev", "n", "missing"]).map(str::to_owned).collect());
        for cell in &self.cells {
            let labels = cell.row.iter().chain(&cell.column).chain([&cell.metric]).cloned();
            let amounts = [
                cell.mean().map(number).unwrap_or_default(),
                cell.stddev().map(number).unwrap_or_default(),
                cell.n().to_string(),
                cell.missing.to_string(),
            ];
            write(labels.chain(amounts).collect());
        }
        writer.into_inner().expect("writing to memory does not fail")
    }

    /// Markdown: its grids under its caption. A cell reads `64.8 ± 0.3 (3)`: mean, standard deviation, seeds.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# {}\n", self.name);
        if let Some(caption) = &self.caption {
            let _ = write!(out, "\n{caption}\n");
        }
        if !self.fixed.is_empty() {
            let fixed: Vec<String> = self.fixed.iter().map(|(path, label)| format!("`{path}` = {label}")).collect();
            let _ = write!(out, "\nWhere {}.\n", fixed.join(", "));
        }
        for grid in self.grids() {
            if let (Some(metric), Some(path)) = (&grid.metric, &self.columns) {
                let _ = write!(out, "\n{metric} by `{path}`:\n");
            }
            let _ = write!(out, "\n{}", grid.to_markdown());
        }
        let _ = write!(out, "\n{}\n", self.footnote());
        out
    }

    /// Metrics across, or one grid a metric where an axis runs across.
    #[must_use]
    pub fn grids(&self) -> Vec<Grid> {
        let decimals: BTreeMap<&str, usize> = self.metrics.iter().map(|metric| (metric.as_str(), self.decimals(metric))).collect();
        if self.columns.is_none() {
            return vec![self.grid_of(None, &self.metrics, self.cells.iter(), &decimals)];
        }
        let of = |metric: &String| {
            let of_metric = || self.cells.iter().filter(|cell| &cell.metric == metric);
            let mut seen = BTreeSet::new();
            let heads: Vec<String> = of_metric().filter_map(|cell| cell.column.clone()).collect();
            let heads: Vec<String> = heads.into_iter().filter(|head| seen.insert(head.clone())).collect();
            self.grid_of(Some(metric.clone()), &heads, of_metric(), &decimals)
        };
        self.metrics.iter().map(of).collect()
    }

    /// What its cells say, and what the seeds of its runs draw.
    #[must_use]
    pub fn footnote(&self) -> String {
        let mut out = "Mean ± standard deviation (seeds); `-` where there is no run.".to_owned();
        let mut drawn = self.cells.iter().map(|cell| cell.drawn).filter(|parts| !parts.is_empty());
        if let Some(first) = drawn.next() {
            let (in_all, in_some) = drawn.fold((first, first), |(all, some), parts| (all.and(parts), some.or(parts)));
            let more = in_some.without(in_all);
            let more = if more.is_empty() { String::new() } else { format!(", where there is one also {more}") };
            let _ = write!(out, " Seeds draw {in_all}{more}.");
        }
        out
    }

    /// Decimals that suit the largest mean of a metric.
    #[must_use]
    pub fn decimals(&self, metric: &str) -> usize {
        let means = self.cells.iter().filter(|cell| cell.metric == metric).filter_map(Cell::mean);
        match means.fold(0.0, |most: f64, mean| most.max(mean.abs())) {
            most if most >= 1000.0 => 0,
            most if most >= 10.0 => 1,
            most if most >= 1.0 => 2,
            _ => 3,
        }
    }

    fn grid_of<'a>(
        &self,
        metric: Option<String>,
        heads: &[String],
        cells: impl Iterator<Item = &'a Cell>,
        decimals: &BTreeMap<&str, usize>,
    ) -> Grid {
        let head_of =
            |cell: &'a Cell| if self.columns.is_some() { cell.column.as_deref().unwrap_or_default() } else { &cell.metric };
        let mut rows: Vec<(&[String], BTreeMap<&str, String>)> = Vec::new();
        for cell in cells {
            if rows.last().is_none_or(|(row, _)| *row != cell.row.as_slice()) {
                rows.push((&cell.row, BTreeMap::new()));
            }
            if let Some((_, texts)) = rows.last_mut() {
                texts.insert(head_of(cell), cell_text(cell, decimals.get(cell.metric.as_str()).copied().unwrap_or_default()));
            }
        }
        let head = |text: &String| if text.is_empty() { "(none)".to_owned() } else { text.clone() };
        let row = |(labels, texts): (&[String], BTreeMap<&str, String>)| {
            let values = heads.iter().map(|head| texts.get(head.as_str()).cloned().unwrap_or_else(|| "-".to_owned()));
            labels.iter().cloned().chain(values).collect()
        };
        Grid {
            metric,
            head: self.rows.iter().chain(heads).map(head).collect(),
            is_number: self.rows.iter().map(|_| false).chain(heads.iter().map(|_| true)).collect(),
            rows: rows.into_iter().map(row).collect(),
        }
    }
}

fn cell_text(cell: &Cell, decimals: usize) -> String {
    let Some(mean) = cell.mean() else { return format!("- (0 of {})", cell.missing) };
    let mut text = rounded(mean, decimals);
    if let Some(stddev) = cell.stddev() {
        let _ = write!(text, " ± {}", rounded(stddev, decimals));
    }
    match cell.missing {
        0 => write!(text, " ({})", cell.n()),
        missing => write!(text, " ({} of {})", cell.n(), cell.n() + missing),
    }
    .expect("writing to memory does not fail");
    text
}
