//! Comparisons as sentences in the words of the user's file.
//!
//! Owns what places, operands and both sides of a comparison are called. Invariant: names are the user's own keys and labels; a
//! metric stands by its name alone.

use super::estimate::Estimate;
use super::frame::Place;
use super::operand::{Context, Gap};
use super::statement::{Columns, GainSpec, MeanSpec, Operand, Selection};
use crate::tables::short;

/// One side of a comparison: what it is called (empty for a bare number) and its number.
pub(super) type Side = (String, Result<Estimate, Gap>);

/// Columns and labels as `metric at column=label, column=label`.
fn named<'a>(pairs: impl Iterator<Item = (&'a String, &'a str)>) -> String {
    let (mut metric, mut others) = (None, Vec::new());
    for (column, label) in pairs {
        match column.as_str() {
            "metric" => metric = Some(label),
            _ => others.push(format!("{column}={label}")),
        }
    }
    match (metric, others.join(", ")) {
        (None, others) => others,
        (Some(metric), others) if others.is_empty() => metric.to_owned(),
        (Some(metric), others) => format!("{metric} at {others}"),
    }
}

/// A place in words.
pub(super) fn place_name(place: &Place) -> String {
    named(place.iter().map(|(column, label)| (column, label.as_str())))
}

/// `for PLACE: `, where `each` or a position binds one; else nothing.
pub(super) fn prefix(context: &Context<'_>) -> String {
    let mut parts = if context.bound.is_empty() { Vec::new() } else { vec![place_name(&context.bound)] };
    parts.extend(context.at.map(|at| format!("x={}", short(at))));
    if parts.is_empty() { String::new() } else { format!("for {}: ", parts.join(", ")) }
}

/// An expanded operand in words; empty for a bare number.
pub(super) fn describe(operand: &Operand, context: &Context<'_>) -> String {
    let columns = |columns: &Columns| {
        let name = named(columns.iter().filter_map(|(column, pick)| pick.single().map(|label| (column, label.as_str()))));
        if name.is_empty() { open_cell(context) } else { name }
    };
    match operand {
        Operand::Number(_) => String::new(),
        Operand::Cell(own) => columns(own),
        Operand::Gain(GainSpec { along, from, to, of }) => {
            let here = context.bound.get(along);
            let end = |label: &Option<_>| label.as_ref().or(here).map_or("here".to_owned(), |label| format!("{along}={label}"));
            format!("the gain of {} from {} to {}", columns(of), end(from), end(to))
        }
        Operand::Minus(both) => {
            let side = |operand: &Operand| match operand {
                Operand::Number(value) => short(*value),
                _ => describe(operand, context),
            };
            format!("{} less {}", side(&both.0), side(&both.1))
        }
        Operand::Abs(inner) => format!("the size of ({})", describe(inner, context)),
        Operand::Mean(mean) => {
            let MeanSpec { over, of } = &**mean;
            let picked = |(column, selection): (&String, &Selection)| match selection {
                Selection::Values(labels) => {
                    format!("{column}={}", labels.iter().map(|l| l.as_str()).collect::<Vec<_>>().join(", "))
                }
                Selection::All | Selection::Range(_) => column.clone(),
            };
            format!("the mean of {} over {}", describe(of, context), over.iter().map(picked).collect::<Vec<_>>().join(" and "))
        }
        Operand::Interpolate(curve) => {
            let at = curve.at.map(|at| format!(" at x={}", short(at))).unwrap_or_default();
            format!("the curve of {}{at}", columns(&curve.of))
        }
    }
}

/// A cell that an operand names no column of: its metric, where a default gives one.
fn open_cell(context: &Context<'_>) -> String {
    match context.defaults.get("metric") {
        Some(metric) if !context.bound.contains_key("metric") => metric.to_string(),
        _ => "the value".to_owned(),
    }
}

fn words((name, number): &Side) -> String {
    match (name.as_str(), number) {
        ("", Ok(number)) => short(number.value),
        ("", Err(_)) => "?".to_owned(),
        (name, Ok(number)) => format!("{name} ({})", short(number.value)),
        (name, Err(_)) => format!("{name} (no value)"),
    }
}

/// `left is above right`, by a margin where there is one; a bare number goes last.
pub(super) fn above(context: &Context<'_>, left: &Side, right: &Side, by: Option<f64>) -> String {
    let margin = by.map_or(String::new(), |by| format!(" by more than {}", short(by)));
    format!("{}{margin}", sentence(context, left, ["is above", "is below"], right))
}

/// `left is within a margin of right`.
pub(super) fn equal(context: &Context<'_>, left: &Side, right: &Side, within: f64) -> String {
    let relation = format!("is within {} of", short(within));
    sentence(context, left, [&relation, &relation], right)
}

/// `value is at most limit`; a bare number goes last.
pub(super) fn at_most(context: &Context<'_>, value: &Side, limit: &Side) -> String {
    sentence(context, value, ["is at most", "is at least"], limit)
}

fn sentence(context: &Context<'_>, left: &Side, [relation, turned]: [&str; 2], right: &Side) -> String {
    let (left_words, right_words) = (words(left), words(right));
    let text = match left.0.is_empty() && !right.0.is_empty() {
        true => format!("{right_words} {turned} {left_words}"),
        false => format!("{left_words} {relation} {right_words}"),
    };
    format!("{}{text}", prefix(context))
}
