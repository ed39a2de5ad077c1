//! Advice in words and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Advice, Basis, Pick, Rival};
use crate::run::counted;
use crate::tables::short;

/// What a person asks, and the beginning of the key paths that answer it.
const QUESTIONS: [(&str, &str); 3] =
    [("share of the data", "data.quality"), ("image encoder", "model.image_encoder"), ("strategy", "train.strategy")];

/// Rivals that are named.
const NAMED: usize = 3;

fn is_below(path: &str, above: &str) -> bool {
    path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('.'))
}

fn name(labels: &[(String, String)]) -> String {
    let label = |(path, label): &(String, String)| {
        let short = path.rsplit('.').next().unwrap_or(path);
        if label.is_empty() { format!("no {short}") } else { format!("{short}={label}") }
    };
    if labels.is_empty() { "the only choice".to_owned() } else { labels.iter().map(label).collect::<Vec<_>>().join(" ") }
}

fn interval(ends: Option<[f64; 2]>) -> String {
    ends.map_or(String::new(), |[low, high]| format!(" [{}, {}]", short(low), short(high)))
}

impl Advice {
    /// Whether every rival is known to be behind.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        let has_fits = matches!(self.basis, Basis::Fits { .. });
        let is_open = has_fits && !self.left_out.is_empty() || matches!(self.basis, Basis::LargestRuns { .. });
        !self.rivals.is_empty() && !is_open && self.rivals.iter().all(Rival::is_beaten)
    }

    /// Whether it is decided, in words.
    #[must_use]
    pub fn decision(&self) -> String {
        if self.rivals.is_empty() {
            return "nothing to compare it with".to_owned();
        }
        let open: Vec<&Rival> = self.rivals.iter().filter(|rival| !rival.versus.is_decided()).collect();
        let ended = self.rivals.iter().filter(|rival| rival.ends_at.is_some()).count();
        let has_fits = matches!(self.basis, Basis::Fits { .. });
        let ends: Vec<Option<bool>> = self.rivals.iter().map(|rival| rival.holds_at_ends).collect();
        let mut words = match open.first() {
            Some(rival) if open.len() > 1 => {
                format!("{}; {} are not told apart from it", rival.versus.decision(), counted(open.len(), "choice"))
            }
            Some(rival) => rival.versus.decision(),
            None if ended > 0 || has_fits && !self.left_out.is_empty() => "not decided".to_owned(),
            None if has_fits => "decided at 95 % if errors go on as their fits".to_owned(),
            None if ends.contains(&Some(false)) => {
                "not decided: the lead is not decided at both cells that it lies between".to_owned()
            }
            None if ends.contains(&Some(true)) => "decided at 95 %, between cells and at them".to_owned(),
            None => "decided at 95 %".to_owned(),
        };
        if ended > 0 {
            words.push_str(&format!("; the runs of {} end below that", counted(ended, "rival")));
        }
        if has_fits && !self.left_out.is_empty() {
            words.push_str(&format!("; {} cannot be extrapolated", counted(self.left_out.len(), "choice")));
        }
        match self.basis {
            Basis::LargestRuns { most, .. } => {
                format!("not decided beyond all runs; at {} {}: {words}", short(most), self.budget.name)
            }
            Basis::Runs | Basis::Fits { .. } => words,
        }
    }

    fn basis_words(&self) -> String {
        let Self { budget, basis, pick, .. } = self;
        match basis {
            Basis::Runs if pick.cells.len() > 1 => {
                "between two cells of runs, straight in the logarithm of the cost; the interval reaches from one to the other"
                    .to_owned()
            }
            Basis::Runs => "by runs".to_owned(),
            Basis::Fits { factor } => {
                let fit = pick.fit.as_ref().map_or(String::new(), |fit| {
                    let term = fit.curve.terms().first().copied().unwrap_or_default();
                    let floor = short(fit.curve.floor);
                    format!(
                        ": error = {floor} + {:.3e} {}^-{}, R2 {}",
                        term.scale,
                        budget.name,
                        short(term.power),
                        short(self.r2())
                    )
                });
                format!("extrapolated by {}x from the fit of its error against {}{fit}", short(*factor), budget.name)
            }
            Basis::LargestRuns { factor, most } => format!(
                "by runs at {} {}: the budget is {}x that, and no fit can be made",
                short(*most),
                budget.name,
                short(*factor)
            ),
        }
    }

    fn r2(&self) -> f64 {
        let quantities = self.pick.fit.iter().flat_map(|fit| &fit.quantities);
        quantities.filter(|quantity| quantity.name == "r2").map(|quantity| quantity.value).next().unwrap_or(f64::NAN)
    }

    /// The lines that a person reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { metric, budget, basis, pick, rivals, left_out } = self;
        let mut out = format!("at {} {}, by {metric}:\n", short(budget.amount), budget.name);
        for (question, above) in QUESTIONS {
            let of = |(path, label): &(String, String)| is_below(path, above).then(|| format!("{label} ({path})"));
            let answers: Vec<String> = pick.labels.iter().filter_map(of).collect();
            let answer = if answers.is_empty() { "not compared: the same in all runs".to_owned() } else { answers.join(", ") };
            let _ = writeln!(out, "  {question:<18} {answer}");
        }
        let others = pick.labels.iter().filter(|(path, _)| !QUESTIONS.iter().any(|(_, above)| is_below(path, above)));
        for (path, label) in others {
            let _ = writeln!(out, "  {path:<18} {label}");
        }
        let _ = writeln!(out, "  {:<18} {}{}, {}", "expected", short(pick.value), interval(pick.interval), self.basis_words());
        for (weight, cell) in &pick.cells {
            let share = if pick.cells.len() > 1 && *weight > 0.0 { format!(", weight {}", short(*weight)) } else { String::new() };
            let runs = cell.run_ids();
            let runs = if runs.is_empty() { String::new() } else { format!(" (runs {})", runs.join(", ")) };
            let value = short(cell.measure.mean());
            let _ = writeln!(out, "    {value} at {} {}{share}: {}{runs}", short(cell.cost), budget.name, cell.name());
        }
        if let Some(most) = pick.ends_at {
            let _ = writeln!(out, "  its runs end at {} {}: more may give more", short(most), budget.name);
        }
        for (idx, rival) in rivals.iter().take(NAMED).enumerate() {
            let which = if idx == 0 { "runner-up" } else { "then" };
            let Rival { labels, value, interval: expected, holds_at_ends: _, versus, ends_at } = rival;
            let ended = ends_at.map_or(String::new(), |most| format!("; its runs end at {} {}", short(most), budget.name));
            let lead = format!("behind by {}{}", short(versus.difference), interval(versus.interval()));
            let _ = writeln!(out, "  {which:<18} {}: {}{}, {lead}{ended}", name(labels), short(*value), interval(*expected));
        }
        if rivals.len() > NAMED {
            let _ = writeln!(out, "  {:<18} {} more", "", rivals.len() - NAMED);
        }
        let _ = writeln!(out, "  {:<18} {}", "decided?", self.decision());
        let is_open_to_items = rivals.first().is_some_and(|rival| !rival.versus.knows_items && rival.versus.half_width.is_ok());
        if is_open_to_items {
            out.push_str("  on these evaluation sets: what each item came to is not known\n");
        }
        if matches!(basis, Basis::Runs) && rivals.len() > 1 {
            out.push_str("  the best of several is chosen on the runs that it is measured on\n");
        }
        for (labels, why) in left_out {
            let _ = writeln!(out, "  left out: {}: {why}", name(labels));
        }
        out
    }

    /// The same for programs.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let Self { metric, budget, basis, pick, rivals, left_out } = self;
        let labels = |labels: &[(String, String)]| {
            labels.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect::<serde_json::Map<_, _>>()
        };
        let (basis_name, factor) = match basis {
            Basis::Runs => ("runs", None),
            Basis::Fits { factor } => ("fits", Some(*factor)),
            Basis::LargestRuns { factor, .. } => ("largest_runs", Some(*factor)),
        };
        let Pick { labels: chosen, value, interval, cells, fit, ends_at } = pick;
        let cell = |(weight, cell): &(f64, crate::claims::Costed)| {
            json!({
                "weight": if fit.is_some() { Value::Null } else { (*weight).into() },
                "labels": labels(&cell.labels),
                "cost": cell.cost,
                "mean": cell.measure.mean(),
                "n": cell.measure.num_runs(),
                "runs": cell.run_ids(),
            })
        };
        let fit = fit.as_ref().map(|fit| {
            let quantity = |quantity: &crate::claims::fits::Quantity| {
                (quantity.name.clone(), json!({ "value": quantity.value, "interval": quantity.interval }))
            };
            let quantities: serde_json::Map<String, Value> = fit.quantities.iter().map(quantity).collect();
            json!({ "quantities": quantities, "residual": fit.residual, "note": fit.note })
        });
        let rival = |rival: &Rival| {
            let Rival { labels: whose, value, interval: expected, holds_at_ends, versus, ends_at } = rival;
            json!({
                "labels": labels(whose), "value": value, "value_interval": expected, "holds_at_ends": holds_at_ends,
                "difference": versus.difference, "interval": versus.interval(),
                "decided": rival.is_beaten(), "why": versus.decision(), "ends_at": ends_at,
            })
        };
        json!({
            "metric": metric,
            "budget": { "name": budget.name, "amount": budget.amount },
            "basis": basis_name,
            "extrapolated_by": factor,
            "favoured": labels(chosen),
            "value": value,
            "interval": interval,
            "cells": cells.iter().map(cell).collect::<Vec<_>>(),
            "fit": fit,
            "ends_at": ends_at,
            "decided": self.is_decided(),
            "decision": self.decision(),
            "rivals": rivals.iter().map(rival).collect::<Vec<_>>(),
            "left_out": left_out.iter().map(|(whose, why)| json!({ "labels": labels(whose), "why": why })).collect::<Vec<_>>(),
        })
    }
}
