//! Whether a fit can be made of a sweep, asked before anything runs.

use super::curve::MAX_TERMS;
use super::spec::{FRONTIER_PREFIX, LARGEST, ScalingSpec};
use crate::record::PointView;
use crate::run::GMACS_AS_STATED;
use crate::tables::{self, COUNTS, LOSS, Problem, TableSpec, amount, is_file_name};

/// What is wrong with a fit of these points and metrics, beside tables of these names; empty where it can be made.
#[must_use]
pub fn validate(spec: &ScalingSpec, points: &[PointView], metrics: &[String]) -> Vec<Problem> {
    let ScalingSpec { name, caption: _, of, against, by: _, along: _, filter: _, hold_out, frontier } = spec;
    let mut problems = Vec::new();
    if !is_file_name(&format!("{FRONTIER_PREFIX}{name}")) {
        problems.push(Problem::new("name", format!("`{name}` is not a file name of letters, digits, `-`, `_` and `.`")));
    }
    // Counts and steps are no rates, and have no error.
    let is_rate = |metric: &&String| metric.as_str() != GMACS_AS_STATED && !metric.ends_with(" best step");
    if !metrics.iter().filter(is_rate).any(|metric| metric == of) && of != LOSS {
        let known = metrics.iter().filter(is_rate).map(String::as_str).chain([LOSS]);
        problems.push(Problem::unknown("of", "metric", of, known));
    }
    if *frontier && against.0.len() > 1 {
        problems.push(Problem::new("frontier", "a frontier is against one amount"));
    }
    let along = spec.along();
    let axes: Vec<&str> = spec.by().chain(&along).map(String::as_str).collect();
    problems.extend(amounts(spec, &along, points));
    if along.is_empty() {
        let message = "no axis along which the cells of a curve lie";
        problems.push(Problem::new("along", message));
    }
    if let Some(twice) = axes.iter().enumerate().find(|(idx, axis)| axes[..*idx].contains(axis)).map(|(_, axis)| axis) {
        problems.push(Problem::new("along", format!("`{twice}` stands twice in `by` and `along`")));
    }
    for (path, labels) in hold_out {
        let place = format!("hold_out.{path}");
        if !axes.contains(&path.as_str()) && !against.iter().any(|amount| amount == path) {
            problems.push(Problem::unknown(
                place,
                "axis or amount",
                path,
                axes.iter().copied().chain(against.iter().map(String::as_str)),
            ));
            continue;
        }
        if !axes.contains(&path.as_str()) {
            let others = labels.iter().filter(|label| label.as_str() != LARGEST && label.number().is_none());
            problems
                .extend(others.map(|label| Problem::new(place.clone(), format!("`{label}` is no amount, and not `{LARGEST}`"))));
            continue;
        }
        let known = || points.iter().filter_map(|point| point.labels.get(path)).map(String::as_str);
        for label in labels.iter().filter(|label| label.as_str() != LARGEST && !known().any(|text| label.names(text))) {
            let mut known: Vec<&str> = known().collect();
            known.sort_unstable();
            known.dedup();
            known.push(LARGEST);
            problems.push(Problem::unknown(place.clone(), &format!("label of `{path}`"), label.as_str(), known));
        }
    }
    if problems.is_empty() {
        problems.extend(of_table(spec, points));
    }
    problems
}

/// What is wrong with `against`.
fn amounts(spec: &ScalingSpec, along: &[String], points: &[PointView]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let against = &spec.against;
    if against.0.len() > MAX_TERMS || against.0.len() == MAX_TERMS && against.0[0] == against.0[1] {
        problems.push(Problem::new("against", "expected one amount, or two different ones"));
    }
    for (idx, name) in against.iter().enumerate().filter(|(_, name)| !COUNTS.contains(&name.as_str())) {
        let place = if against.0.len() == 1 { "against".to_owned() } else { format!("against.{idx}") };
        let mut labels = points.iter().filter_map(|point| point.labels.get(name)).peekable();
        if labels.peek().is_none() {
            let mut known: Vec<&str> = points.iter().flat_map(|point| point.labels.keys()).map(String::as_str).collect();
            known.sort_unstable();
            known.dedup();
            problems.push(Problem::unknown(place, "amount or axis", name, COUNTS.into_iter().chain(known)));
        } else if let Some(label) = labels.find(|label| amount(label).is_none_or(|amount| amount <= 0.0)) {
            let message =
                format!("label `{label}` of `{name}` is no amount above zero; `samples_seen`, `gmacs` and the like are counted");
            problems.push(Problem::new(place, message));
        } else if !along.contains(name) {
            problems.push(Problem::new(place, format!("`{name}` is not among the axes of `along`")));
        }
    }
    problems
}

/// What is wrong with the table of its cells, in the words of a fit.
fn of_table(spec: &ScalingSpec, points: &[PointView]) -> Vec<Problem> {
    // What is measured has been asked about.
    let table = TableSpec { values: tables::OneOrMany(vec![COUNTS[0].to_owned()]), ..spec.table() };
    let num_by = spec.by().count();
    let reword = |problem: Problem| {
        let Problem { path, message, known } = problem;
        let row = path.strip_prefix("rows.").and_then(|idx| idx.parse::<usize>().ok());
        let list = |name: &str, idx: usize, len: usize| if len == 1 { name.to_owned() } else { format!("{name}.{idx}") };
        let num_along = spec.along().len();
        let path = match (path.as_str(), row) {
            ("rows", _) if num_by > 0 && num_along == 0 => "by".to_owned(),
            ("rows", _) => "along".to_owned(),
            (_, Some(idx)) if idx < num_by => list("by", idx, num_by),
            (_, Some(idx)) => list("along", idx - num_by, num_along),
            _ => path,
        };
        let message = message.replace(&format!("table `{}`: ", table.name), "");
        let message =
            message.replace("the table does not say which", "the fit does not say which").replace(" it shows", " it is of");
        Problem { path, message, known }
    };
    tables::validate(&table, points, &[]).into_iter().map(reword).collect()
}
