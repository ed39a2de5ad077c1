//! Whether a table can be made of a sweep, asked before anything runs.
//!
//! Owns [`Problem`], which names the place inside a statement, and [`TableShape`], what a claim may address in a table.

use std::collections::BTreeMap;

use super::{COUNTS, Label, NONE, Places, TableSpec, absent_name};
use crate::record::PointView;

/// Something wrong in a statement, at a key path inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Keys and list positions from the statement's own root, such as `test.0.best.along`.
    pub path: String,
    /// What is wrong: a lower-case fragment.
    pub message: String,
    /// The names that would have been right, where the problem is an unknown name.
    pub known: Vec<String>,
}

impl Problem {
    /// A problem at a path.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), known: Vec::new() }
    }

    /// An unknown name, with those that are known.
    #[must_use]
    pub fn unknown<'a>(path: impl Into<String>, what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
        let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        let expected = if list.is_empty() { "there are none".to_owned() } else { format!("expected one of {}", list.join(", ")) };
        Self { path: path.into(), message: format!("unknown {what} `{name}`, {expected}"), known }
    }

    /// The known name nearest to the one found, if one is near.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let wrong = self.message.split('`').nth(1)?;
        let (distance, name) = self.known.iter().map(|name| (strsim::damerau_levenshtein(wrong, name), name)).min()?;
        (distance <= name.len().max(wrong.len()) / 3).then(|| format!("did you mean `{name}`?"))
    }
}

/// What a claim may address in a table: its columns and the labels that each holds, in plan order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableShape {
    /// Axis paths, axes fixed by `where`, and `metric`.
    pub columns: BTreeMap<String, Vec<String>>,
    /// Labels that points of the sweep have on these paths and that `where` leaves out.
    pub left_out: BTreeMap<String, Vec<String>>,
}

/// The shape that a table has over these points.
#[must_use]
pub fn shape(spec: &TableSpec, points: &[PointView]) -> TableShape {
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |path: &String, label: &String| {
        let labels = columns.entry(path.clone()).or_default();
        if !labels.contains(label) {
            labels.push(label.clone());
        }
    };
    let places = Places::new(spec, points);
    for point in points {
        let Some((row, column)) = places.of(point) else { continue };
        for (path, label) in spec.rows.iter().zip(&row) {
            add(path, label);
        }
        if let (Some(path), Some(label)) = (&spec.columns, &column) {
            add(path, label);
        }
    }
    for (path, labels) in &spec.filter {
        if let ([label], false) = (labels.0.as_slice(), columns.contains_key(path)) {
            columns.insert(path.clone(), vec![label.to_string()]);
        }
    }
    for labels in columns.values_mut() {
        let name = absent_name(labels.iter().map(String::as_str));
        labels.iter_mut().filter(|label| label.is_empty()).for_each(|label| name.clone_into(label));
    }
    let mut left_out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, known) in &columns {
        let labels = left_out.entry(path.clone()).or_default();
        for label in points.iter().filter_map(|point| point.labels.get(path)) {
            if !known.contains(label) && !labels.contains(label) {
                labels.push(label.clone());
            }
        }
        let lacks = points.iter().any(|point| !point.labels.contains_key(path));
        let name = absent_name(known.iter().chain(labels.iter()).map(String::as_str));
        if lacks && name == NONE {
            labels.push(name.to_owned());
        }
    }
    left_out.retain(|_, labels| !labels.is_empty());
    columns.insert("metric".to_owned(), spec.values.0.clone());
    TableShape { columns, left_out }
}

/// Longest name of a table: a file name has 255 bytes at most, and an ending is put behind it.
const MAX_NAME: usize = 250;

/// Whether a table's name can be that of its files: it stands in one folder and leads out of none.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_plain) && !name.starts_with('.')
}

/// What is wrong with a table of these points and metrics; empty where it can be made.
#[must_use]
pub fn validate(spec: &TableSpec, points: &[PointView], metrics: &[String]) -> Vec<Problem> {
    let TableSpec { name, caption: _, rows, columns, filter, values } = spec;
    let mut problems = Vec::new();
    if !is_file_name(name) {
        problems.push(Problem::new("name", format!("`{name}` is not a file name of letters, digits, `-`, `_` and `.`")));
    }
    let mut axes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, label) in points.iter().flat_map(|point| &point.labels) {
        let labels = axes.entry(path).or_default();
        if !labels.contains(&label.as_str()) {
            labels.push(label);
        }
    }
    let has_also = |path: &str| points.iter().any(|point| point.also.contains_key(path));
    let mut check_axis = |place: String, path: &str| {
        if !(axes.contains_key(path) || place.starts_with("where.") && has_also(path)) {
            problems.push(Problem::unknown(place, "axis", path, axes.keys().copied()));
        }
    };
    for (idx, path) in rows.iter().enumerate() {
        check_axis(if rows.0.len() == 1 { "rows".to_owned() } else { format!("rows.{idx}") }, path);
    }
    if let Some(path) = columns {
        check_axis("columns".to_owned(), path);
    }
    for path in filter.keys() {
        check_axis(format!("where.{path}"), path);
    }
    for (path, labels) in filter {
        let Some(mut known) = axes.get(path.as_str()).cloned() else { continue };
        let lacks = points.iter().any(|point| !point.labels.contains_key(path));
        if lacks {
            known.push(absent_name(known.iter().copied()));
        }
        let is_also =
            |label: &Label| points.iter().any(|p| p.also.get(path).is_some_and(|a| a.iter().any(|text| label.names(text))));
        let is_known =
            |label: &&Label| known.iter().any(|text| label.names(text)) || is_also(label) || lacks && label.as_str().is_empty();
        for label in labels.iter().filter(|label| !is_known(label)) {
            let what = format!("label of `{path}`");
            problems.push(Problem::unknown(format!("where.{path}"), &what, label.as_str(), known.iter().copied()));
        }
    }
    for (idx, metric) in values.iter().enumerate() {
        if !metrics.contains(metric) && !COUNTS.contains(&metric.as_str()) {
            let place = if values.0.len() == 1 { "values".to_owned() } else { format!("values.{idx}") };
            problems.push(Problem::unknown(place, "metric", metric, metrics.iter().map(String::as_str).chain(COUNTS)));
        }
    }
    if problems.is_empty() {
        problems.extend(coverage(spec, points));
    }
    problems
}

/// Whether the table has cells and each is one point.
fn coverage(spec: &TableSpec, points: &[PointView]) -> Option<Problem> {
    let input = super::TableInput { points, records: BTreeMap::new() };
    match super::build(spec, &input) {
        Ok(table) if table.cells.is_empty() => Some(Problem::new("", "holds no point of the sweep")),
        Ok(_) => None,
        Err(error) => Some(Problem::new("rows", error.to_string())),
    }
}
