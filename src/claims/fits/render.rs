//! Fits as CSV (tidy) and Markdown (for people).
//!
//! CSV: one row a curve and quantity. `quantity` is `e_inf`, `a`, `b`, `r2`, `residual` (points), `held_out` (the error of one cell, `at`
//! its labels), `held_out_rms` (all of them against their predictions), or `refused`, with the reason in `note`. Numbers have six
//! significant digits. Invariant: the same fit gives the same bytes.

use std::fmt::Write as _;

use super::fit::{Fit, FitCurve, Found, HeldOut, Quantity};
use crate::record::number;
use crate::tables::{Grid, LOSS, short};

/// A number to six significant digits, as short as it can be written.
fn digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    number(rounded + 0.0)
}

/// Cells of a row behind the labels: quantity, place, value, interval, measured value, whether it lies inside, note.
struct Row {
    quantity: String,
    at: String,
    value: Option<f64>,
    interval: Option<[f64; 2]>,
    observed: Option<f64>,
    is_inside: Option<bool>,
    note: String,
}

impl Row {
    fn number(quantity: &str, value: f64, interval: Option<[f64; 2]>) -> Self {
        let quantity = quantity.to_owned();
        Self { quantity, at: String::new(), value: Some(value), interval, observed: None, is_inside: None, note: String::new() }
    }
}

/// Root of the mean square of what held-out cells differ from their predictions; `None` without one.
#[expect(clippy::cast_precision_loss, reason = "a number of cells")]
fn held_out_rms(held_out: &[HeldOut]) -> Option<f64> {
    let squares: f64 = held_out.iter().map(|cell| (cell.observed - cell.predicted).powi(2)).sum();
    (!held_out.is_empty()).then(|| (squares / held_out.len() as f64).sqrt())
}

fn rows(fit: &Fit, curve: &FitCurve) -> Vec<Row> {
    let Found { quantities, residual, held_out, note, .. } = match &curve.found {
        Ok(found) => found,
        Err(refusal) => {
            let empty = Row::number("refused", 0.0, None);
            return vec![Row { value: None, note: refusal.to_string(), ..empty }];
        }
    };
    let mut rows: Vec<Row> =
        quantities.iter().map(|Quantity { name, value, interval }| Row::number(name, *value, *interval)).collect();
    rows.push(Row::number("residual", *residual, None));
    rows.extend(held_out.iter().map(|cell| Row {
        at: place(fit, cell),
        observed: Some(cell.observed),
        is_inside: cell.is_inside(),
        ..Row::number("held_out", cell.predicted, cell.interval)
    }));
    rows.extend(held_out_rms(held_out).map(|rms| Row::number("held_out_rms", rms, None)));
    if let (Some(note), Some(row)) = (note, rows.first_mut()) {
        row.note.clone_from(note);
    }
    rows
}

fn place(fit: &Fit, cell: &HeldOut) -> String {
    fit.along.iter().zip(&cell.labels).map(|(path, label)| format!("{path}={label}")).collect::<Vec<_>>().join(" ")
}

fn seeds([fewest, most]: [usize; 2]) -> String {
    if fewest == most { fewest.to_string() } else { format!("{fewest}-{most}") }
}

impl Fit {
    /// Tidy CSV.
    #[must_use]
    pub fn to_csv(&self) -> Vec<u8> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut write = |fields: Vec<String>| writer.write_record(fields).expect("writing to memory does not fail");
        let columns = ["quantity", "at", "value", "low", "high", "observed", "inside", "cells", "missing", "seeds", "note"];
        write(self.by.iter().cloned().chain(columns.map(str::to_owned)).collect());
        for curve in &self.curves {
            for Row { quantity, at, value, interval, observed, is_inside, note } in rows(self, curve) {
                let optional = |value: Option<f64>| value.map(digits).unwrap_or_default();
                let inside = is_inside.map_or("", |is_inside| if is_inside { "yes" } else { "no" });
                let [low, high] = [0, 1].map(|end| optional(interval.map(|interval| interval[end])));
                let fields = [
                    quantity,
                    at,
                    optional(value),
                    low,
                    high,
                    optional(observed),
                    inside.to_owned(),
                    curve.cells.to_string(),
                    curve.missing.to_string(),
                    seeds(curve.seeds),
                    note,
                ];
                write(curve.labels.iter().cloned().chain(fields).collect());
            }
        }
        writer.into_inner().expect("writing to memory does not fail")
    }

    /// The form that is fitted, in words.
    #[must_use]
    pub fn form(&self) -> String {
        let error = if self.of == LOSS { "training loss".to_owned() } else { format!("100 - {}", self.of) };
        let joint = self.against.len() > 1;
        let term = |amount: &String| if joint { format!("a_{amount} {amount}^-b_{amount}") } else { format!("a {amount}^-b") };
        format!("{error} = e_inf + {}", self.against.iter().map(term).collect::<Vec<_>>().join(" + "))
    }

    /// Markdown: a line a curve, then a line a held-out cell.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# fit-{}\n", self.name);
        if let Some(caption) = &self.caption {
            let _ = write!(out, "\n{caption}\n");
        }
        let _ = write!(out, "\n{}\n\n", self.form());
        out.push_str(&self.grid().to_markdown());
        for line in self.held_out() {
            let _ = write!(out, "\nHeld out: {}\n", line.replace('|', "\\|"));
        }
        out.push_str("\n95 % intervals in brackets, of refits of what other seeds and items would have given.\n");
        out
    }

    /// A row a curve: its parameters with their intervals, or why it has none.
    #[must_use]
    pub fn grid(&self) -> Grid {
        let names = self.curves.iter().find_map(|curve| curve.found.as_ref().ok());
        let names: Vec<String> = names.iter().flat_map(|found| &found.quantities).map(|quantity| quantity.name.clone()).collect();
        let last = ["residual", "cells", "seeds", "note"].map(str::to_owned);
        let head: Vec<String> = self.by.iter().cloned().chain(names.clone()).chain(last).collect();
        let row = |curve: &FitCurve| {
            let cells = match curve.missing {
                0 => curve.cells.to_string(),
                missing => format!("{} of {}", curve.cells, curve.cells + missing),
            };
            let (numbers, residual, note) = match &curve.found {
                Ok(found) => {
                    let numbers = found.quantities.iter().map(|quantity| with_interval(quantity.value, quantity.interval));
                    (numbers.collect::<Vec<_>>(), short(found.residual), found.note.clone().unwrap_or_default())
                }
                Err(refusal) => (vec!["-".to_owned(); names.len()], "-".to_owned(), format!("not fitted: {refusal}")),
            };
            let labels = curve.labels.iter().map(|label| shown(label).to_owned());
            labels.chain(numbers).chain([residual, cells, seeds(curve.seeds), note]).collect()
        };
        let is_number = (0..head.len()).map(|idx| idx >= self.by.len() && idx + 1 < head.len()).collect();
        Grid { metric: Some(self.of.clone()), rows: self.curves.iter().map(row).collect(), head, is_number }
    }

    /// What held-out cells came to, a sentence each.
    #[must_use]
    pub fn held_out(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for curve in &self.curves {
            let Ok(found) = &curve.found else { continue };
            for cell in &found.held_out {
                let of: Vec<&str> = curve.labels.iter().map(|label| shown(label)).collect();
                let of = if of.is_empty() { String::new() } else { format!("{}, ", of.join(", ")) };
                let inside = match cell.is_inside() {
                    Some(true) => ", inside",
                    Some(false) => ", outside",
                    None => "",
                };
                let (place, predicted) = (place(self, cell), with_interval(cell.predicted, cell.interval));
                lines.push(format!("{of}{place}: error {predicted} predicted, {} measured{inside}.", short(cell.observed)));
            }
        }
        lines
    }
}

fn shown(label: &str) -> &str {
    if label.is_empty() { "(none)" } else { label }
}

/// A number as people read it, with its interval.
fn with_interval(value: f64, interval: Option<[f64; 2]>) -> String {
    let text = |value: f64| if value == 0.0 || (0.01..1e4).contains(&value.abs()) { short(value) } else { format!("{value:.2e}") };
    match interval {
        Some([low, high]) => format!("{} [{}, {}]", text(value), text(low), text(high)),
        None => text(value),
    }
}
