//! Tables and claims: the statements that stand beside the sweep.
//!
//! Their types, and what makes them possible, belong to `tables` and `claims`; here they are read, those rooms are asked about
//! them with the points at hand, and what they say gets its place in the file.

use std::collections::{BTreeMap, HashMap};

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::check::{Checker, Cursor, Path};
use super::diagnostic::{Code, Diagnostic, Diagnostics};
use super::parts::place;
use super::schema::Document;
use super::source::{Sources, Span};
use super::tree::Node;
use super::valid::Points;
use crate::claims::{self, ClaimSpec};
use crate::record::PointView;
use crate::tables::{self, Problem, TableShape, TableSpec};

/// Tables and claims of an experiment.
///
/// Without `points`, because the sweep itself has problems, only the form is checked.
pub(super) fn read(
    tree: &Node,
    points: Option<&Points<'_>>,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
) -> (Vec<TableSpec>, Vec<ClaimSpec>) {
    let tables = list::<TableSpec>(Document::experiment(), tree, "tables", sources, diagnostics);
    let claims = list::<ClaimSpec>(Document::experiment(), tree, "claims", sources, diagnostics);
    unique(&tables, "tables", |t| &t.name, diagnostics);
    unique(&claims, "claims", |c| &c.id, diagnostics);
    if let Some(points) = points.filter(|p| p.len() > 0) {
        let shapes = check_tables(&tables, points, diagnostics);
        let is_complete = tree.child("tables").and_then(Node::items).map_or(0, <[Node]>::len) == shapes.len();
        for (claim, node) in &claims {
            for problem in claims::validate(claim, Some(&shapes)) {
                // A table that has a problem of its own is no problem of the claim.
                if is_complete || !problem.path.starts_with("cells.table") {
                    report(Code::Claim, &format!("claim `{}`", claim.id), node, problem, diagnostics);
                }
            }
        }
    }
    (tables.into_iter().map(|(t, _)| t).collect(), claims.into_iter().map(|(c, _)| c).collect())
}

/// Checks claims on CSV files, whose columns are not known here.
pub(super) fn check_claims(tree: &Node, sources: &Sources, diagnostics: &mut Diagnostics) {
    let claims = list::<ClaimSpec>(Document::claims(), tree, "claims", sources, diagnostics);
    unique(&claims, "claims", |c| &c.id, diagnostics);
    for (claim, node) in &claims {
        for problem in claims::validate(claim, None) {
            report(Code::Claim, &format!("claim `{}`", claim.id), node, problem, diagnostics);
        }
    }
}

/// The shapes of the tables that can be made.
fn check_tables(tables: &[(TableSpec, &Node)], points: &Points<'_>, diagnostics: &mut Diagnostics) -> BTreeMap<String, TableShape> {
    let mut shapes = BTreeMap::new();
    for (table, node) in tables {
        let views = views(table, points);
        // Where no evaluation could be read, no metric is known to be wrong.
        let metrics = if points.resolved.evaluates.is_empty() { &table.values.0 } else { &points.resolved.metrics };
        let problems = tables::validate(table, &views, metrics);
        if problems.is_empty() {
            shapes.insert(table.name.clone(), tables::shape(table, &views));
        }
        for problem in problems {
            report(Code::Table, &format!("table `{}`", table.name), node, problem, diagnostics);
        }
    }
    shapes
}

/// The points as a table sees them: for every distinct combination of the labels that it is laid out by, two points at most,
/// which is enough to see that a cell holds more than one.
fn views(table: &TableSpec, points: &Points<'_>) -> Vec<PointView> {
    let mut stated: Vec<&str> = table.rows.iter().map(String::as_str).collect();
    stated.extend(table.columns.as_deref());
    stated.extend(table.filter.keys().map(String::as_str));
    let axes = points.sweep.axes();
    let mut seen: HashMap<Vec<Option<String>>, u8> = HashMap::new();
    let mut out = Vec::new();
    for idx in 0..points.len() {
        let labels: Vec<Option<String>> = stated.iter().map(|path| points.label(idx, path)).collect();
        let count = seen.entry(labels).or_insert(0);
        if *count == 2 {
            continue;
        }
        *count += 1;
        let paths = axes.iter().chain(&stated);
        let labels = paths.filter_map(|path| Some(((*path).to_owned(), points.label(idx, path)?))).collect();
        // Which runs a point has is known by their sections; what they are called is not.
        out.push(PointView { labels, run_ids: vec![format!("{:?}", points.resolved.points[idx])] });
    }
    out
}

fn report(code: Code, whose: &str, node: &Node, problem: Problem, diagnostics: &mut Diagnostics) {
    let hint = problem.hint();
    let Problem { path, message, known: _ } = problem;
    let keys: Vec<&str> = path.split('.').filter(|k| !k.is_empty()).collect();
    let message = message.strip_prefix(&format!("{whose}: ")).unwrap_or(&message);
    let message = if path.is_empty() { format!("{whose}: {message}") } else { format!("`{path}` of {whose}: {message}") };
    diagnostics.error(Diagnostic::new(code, place(node, &keys).span, message).maybe_hint(hint));
}

fn unique<T>(statements: &[(T, &Node)], what: &str, name: impl Fn(&T) -> &String, diagnostics: &mut Diagnostics) {
    let mut first: HashMap<&String, Span> = HashMap::new();
    for (statement, node) in statements {
        let name = name(statement);
        let span = node.child("name").or_else(|| node.child("id")).map_or(node.span, |n| n.span);
        match first.get(name) {
            Some(at) => {
                let message = format!("`{name}` twice in `{what}`");
                diagnostics
                    .error(Diagnostic::new(Code::Duplicate, span, message).note(*at, "first here").hint("rename one of them"));
            }
            None => drop(first.insert(name, span)),
        }
    }
}

/// The items of a list that can be read, each by itself so that one mistake hides no other.
fn list<'n, T: DeserializeOwned>(
    document: &Document,
    tree: &'n Node,
    key: &str,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
) -> Vec<(T, &'n Node)> {
    let schemas = document.at(&[key]).unwrap_or_default();
    let item = schemas.first().and_then(|s| s.get("items")).unwrap_or(&Json::Bool(true));
    let mut out = Vec::new();
    for (idx, node) in tree.child(key).and_then(Node::items).unwrap_or_default().iter().enumerate() {
        let mut checker = Checker { document, sources, diagnostics, is_covered: &|_| false };
        let list = Path::Key(&Path::Root, key);
        let Some(json) = checker.check(Cursor { node, at: node.span, path: Path::Index(&list, idx) }, item) else { continue };
        out.extend(typed::<T>(json, node.span, &format!("{key}[{idx}]"), diagnostics).map(|t| (t, node)));
    }
    out
}

/// Clean JSON as its type; what only the type itself can judge is reported at the statement.
pub(super) fn typed<T: DeserializeOwned>(json: Json, span: Span, path: &str, diagnostics: &mut Diagnostics) -> Option<T> {
    match serde_json::from_value(json) {
        Ok(value) => Some(value),
        Err(error) => {
            let code = if path.starts_with("tables") { Code::Table } else { Code::Claim };
            diagnostics.error(Diagnostic::new(code, span, format!("`{path}`: {error}")));
            None
        }
    }
}
