//! Tables as CSV (tidy, exact) and Markdown (for people, rounded).
//!
//! Invariant: the same table gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Cell, Table, rounded};
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

    /// Markdown: metrics across, or one grid a metric where an axis runs across. A cell reads `64.8 ± 0.3 (3)`: mean,
    /// standard deviation, seeds.
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
        match &self.columns {
            None => self.grid(&mut out, &self.metrics, |cell| cell.metric.clone()),
            Some(path) => {
                for metric in &self.metrics {
                    let _ = write!(out, "\n{metric} by `{path}`:\n");
                    let mut seen = BTreeSet::new();
                    let of_metric = || self.cells.iter().filter(|cell| &cell.metric == metric);
                    let labels: Vec<String> = of_metric().filter_map(|cell| cell.column.clone()).collect();
                    let labels: Vec<String> = labels.into_iter().filter(|label| seen.insert(label.clone())).collect();
                    self.grid_of(&mut out, &labels, of_metric(), |cell| cell.column.clone().unwrap_or_default());
                }
            }
        }
        out.push_str("\nMean ± standard deviation (seeds); `-` where there is no run.");
        let mut drawn = self.cells.iter().map(|cell| cell.drawn).filter(|parts| !parts.is_empty());
        if let Some(first) = drawn.next() {
            let (in_all, in_some) = drawn.fold((first, first), |(all, some), parts| (all.and(parts), some.or(parts)));
            let more = in_some.without(in_all);
            let more = if more.is_empty() { String::new() } else { format!(", where there is one also {more}") };
            let _ = write!(out, " Seeds draw {in_all}{more}.");
        }
        out.push('\n');
        out
    }

    fn grid(&self, out: &mut String, heads: &[String], head_of: impl Fn(&Cell) -> String) {
        self.grid_of(out, heads, self.cells.iter(), head_of);
    }

    fn grid_of<'a>(
        &self,
        out: &mut String,
        heads: &[String],
        cells: impl Iterator<Item = &'a Cell> + Clone,
        head_of: impl Fn(&Cell) -> String,
    ) {
        let mut rows: Vec<(&[String], BTreeMap<String, String>)> = Vec::new();
        for cell in cells.clone() {
            if rows.last().is_none_or(|(row, _)| *row != cell.row.as_slice()) {
                rows.push((&cell.row, BTreeMap::new()));
            }
            let decimals = decimals(cells.clone().filter(|other| other.metric == cell.metric));
            if let Some((_, texts)) = rows.last_mut() {
                texts.insert(head_of(cell), cell_text(cell, decimals));
            }
        }
        let line = |fields: Vec<String>| format!("| {} |\n", fields.join(" | "));
        out.push('\n');
        let head = |text: &String| if text.is_empty() { "(none)".to_owned() } else { escape(text) };
        out.push_str(&line(self.rows.iter().chain(heads).map(head).collect()));
        let rule = self.rows.iter().map(|_| "---").chain(heads.iter().map(|_| "---:"));
        out.push_str(&line(rule.map(str::to_owned).collect()));
        for (labels, texts) in rows {
            let values = heads.iter().map(|head| texts.get(head).cloned().unwrap_or_else(|| "-".to_owned()));
            out.push_str(&line(labels.iter().map(|text| escape(text)).chain(values).collect()));
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Decimals that suit the largest mean of a metric.
fn decimals<'a>(cells: impl Iterator<Item = &'a Cell>) -> usize {
    let largest = cells.filter_map(Cell::mean).fold(0.0, |most: f64, mean| most.max(mean.abs()));
    match largest {
        most if most >= 1000.0 => 0,
        most if most >= 10.0 => 1,
        most if most >= 1.0 => 2,
        _ => 3,
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
