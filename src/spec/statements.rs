//! Tables, claims and fits: the statements that stand beside the sweep.
//!
//! Their types, and what makes them possible, belong to `tables` and `claims`; here they are read, those rooms are asked about
//! them with the points at hand, and what they say gets its place in the file.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

use super::check::{self, Checker, Cursor, KeyPath};
use super::diagnostic::{Code, Diagnostic, Diagnostics};
use super::load::Loader;
use super::naming::{self, Alias};
use super::parts::place;
use super::schema::Document;
use super::source::{Sources, Span};
use super::tree::Node;
use super::valid::Points;
use crate::claims::fits::{self, FILE_PREFIX, FRONTIER_PREFIX, ScalingSpec};
use crate::claims::{self, ClaimSpec};
use crate::record::PointView;
use crate::run::counted;
use crate::tables::{self, Places, Problem, TableShape, TableSpec};

/// Tables, claims and fits of an experiment.
pub(super) struct Statements {
    pub tables: Vec<TableSpec>,
    pub claims: Vec<ClaimSpec>,
    pub fits: Vec<ScalingSpec>,
    pub aliases: Vec<Alias>,
}

/// Reads tables, claims and fits.
///
/// Without `points`, because the sweep itself has problems, only the form is checked.
pub(super) fn read(tree: &Node, points: Option<&Points<'_>>, loader: &mut Loader<'_>) -> Statements {
    let (sources, diagnostics) = (&loader.sources, &mut loader.diagnostics);
    let tables = list::<TableSpec>(Document::experiment(), tree, "tables", sources, diagnostics);
    let claims = list::<ClaimSpec>(Document::experiment(), tree, "claims", sources, diagnostics);
    let fits = list::<ScalingSpec>(Document::experiment(), tree, "fits", sources, diagnostics);
    unique(&tables, "tables", |t| &t.name, diagnostics);
    unique(&claims, "claims", |c| &c.id, diagnostics);
    unique(&fits, "fits", |f| &f.name, diagnostics);
    let fits: Vec<(ScalingSpec, TableSpec, &Node)> = fits.into_iter().map(|(fit, node)| (fit.clone(), fit.table(), node)).collect();
    let specs: Vec<TableSpec> = tables.iter().map(|(t, _)| t.clone()).collect();
    let mut aliases = Vec::new();
    if let Some(points) = points.filter(|p| p.len() > 0) {
        let all: Vec<TableSpec> = specs.iter().chain(fits.iter().map(|(_, table, _)| table)).cloned().collect();
        aliases = naming::aliases(&all, *points, &*loader);
        let diagnostics = &mut loader.diagnostics;
        check_fits(&fits, points, &aliases, diagnostics);
        let shapes = check_tables(&tables, points, &aliases, tree, diagnostics);
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
    let (claims, fits) = (claims.into_iter().map(|(c, _)| c).collect(), fits.into_iter().map(|(f, ..)| f).collect());
    Statements { tables: specs, claims, fits, aliases }
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

/// Checks fits and their names.
fn check_fits(fits: &[(ScalingSpec, TableSpec, &Node)], points: &Points<'_>, aliases: &[Alias], diagnostics: &mut Diagnostics) {
    let is_broken = points.is_broken();
    let runs = if is_broken || fits.is_empty() { Vec::new() } else { points.resolved.distinct_runs() };
    for (fit, table, node) in fits {
        let views = Views::new(table, points, aliases, &runs);
        let of = std::slice::from_ref(&fit.of);
        // Where no evaluation could be read, no metric is known to be wrong.
        let metrics = if points.resolved.evaluates.is_empty() { of } else { &points.resolved.metrics };
        for problem in fits::validate(fit, &views.views, metrics) {
            let Some(problem) = where_problem(problem, table, is_broken) else { continue };
            report(Code::Table, &format!("fit `{}`", fit.name), node, problem, diagnostics);
        }
    }
}

/// The shapes of the tables that can be made. A run that no table shows is worth a warning.
fn check_tables(
    tables: &[(TableSpec, &Node)],
    points: &Points<'_>,
    aliases: &[Alias],
    tree: &Node,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<String, TableShape> {
    let mut shapes = BTreeMap::new();
    let is_broken = points.is_broken();
    let runs = if is_broken || tables.is_empty() { Vec::new() } else { points.resolved.distinct_runs() };
    let mut shown = HashSet::new();
    for (table, node) in tables {
        let views = Views::new(table, points, aliases, &runs);
        // Where no evaluation could be read, no metric is known to be wrong.
        let metrics = if points.resolved.evaluates.is_empty() { &table.values.0 } else { &points.resolved.metrics };
        let problems = tables::validate(table, &views.views, metrics);
        if problems.is_empty() {
            shapes.insert(table.name.clone(), tables::shape(table, &views.views));
            let places = Places::new(table, &views.views);
            let placed: Vec<bool> = views.examples.iter().map(|view| places.of(&views.views[*view]).is_some()).collect();
            shown.extend(views.combinations.iter().zip(&runs).filter(|(c, _)| placed[**c]).map(|(_, run)| *run));
        }
        if fits::is_of_fit(&table.name) {
            let message = format!("`{}` begins as the files of fits do, with `{FILE_PREFIX}` or `{FRONTIER_PREFIX}`", table.name);
            report(Code::Table, &format!("table `{}`", table.name), node, Problem::new("name", message), diagnostics);
        }
        for problem in problems {
            let Some(problem) = where_problem(problem, table, is_broken) else { continue };
            report(Code::Table, &format!("table `{}`", table.name), node, problem, diagnostics);
        }
    }
    if !is_broken && !tables.is_empty() && shapes.len() == tables.len() {
        warn_of_hidden(points, &runs, &shown, tree, diagnostics);
    }
    shapes
}

/// A problem of `where` as a person sees it: a path that exists and that no label speaks of is no unknown axis.
fn where_problem(problem: Problem, table: &TableSpec, is_broken: bool) -> Option<Problem> {
    let Some(path) = problem.path.strip_prefix("where.") else { return Some(problem) };
    let keys: Vec<&str> = path.split('.').collect();
    if Document::experiment().at(&keys).is_err() {
        return Some(problem);
    }
    // Where a point has a problem of its own, what it would be is not known.
    if is_broken {
        return None;
    }
    if !problem.message.starts_with("unknown axis") {
        return Some(problem);
    }
    let labels: Vec<String> = table.filter.get(path)?.iter().map(|label| format!("`{label}`")).collect();
    Some(Problem::new(problem.path.clone(), format!("no point of the sweep has the value {}", labels.join(" or "))))
}

/// Points that are named in a warning.
const NAMED: usize = 10;

/// Warns of runs that no table shows.
fn warn_of_hidden(points: &Points<'_>, runs: &[u32], shown: &HashSet<u32>, tree: &Node, diagnostics: &mut Diagnostics) {
    let mut hidden: Vec<usize> = Vec::new();
    let mut seen = HashSet::new();
    for (idx, run) in runs.iter().enumerate().filter(|(_, run)| !shown.contains(*run)) {
        if seen.insert(*run) {
            hidden.push(idx);
        }
    }
    let Some(entry) = tree.entry("tables").filter(|_| !hidden.is_empty()) else { return };
    let total = runs.iter().collect::<HashSet<_>>().len();
    let name = |idx: &usize| {
        let labels: Vec<String> = points.labels(*idx).map(|(path, label)| format!("{path}={label}")).collect();
        format!("`{}`", if labels.is_empty() { "the only point".to_owned() } else { labels.join(" ") })
    };
    let mut names: Vec<String> = hidden.iter().take(NAMED).map(name).collect();
    if hidden.len() > NAMED {
        names.push(format!("and {} more", hidden.len() - NAMED));
    }
    let verb = if hidden.len() == 1 { "is" } else { "are" };
    let message = format!("{} of {} {verb} shown by no table: {}", hidden.len(), counted(total, "point"), names.join(", "));
    let warning = Diagnostic::new(Code::Table, entry.key_span, message);
    diagnostics
        .warn(warning.hint("name its axes in `rows` or `columns` of a table, widen a `where`, or leave it out of the sweep"));
}

/// Labels on the paths that a table states, and which aliases name the point.
type Combination = (Vec<Option<String>>, Vec<bool>);

/// The points as a table sees them.
struct Views {
    /// For every distinct combination of the labels that the table is laid out by, two points at most, which is enough to see
    /// that a cell holds more than one.
    views: Vec<PointView>,
    /// The first view of every combination.
    examples: Vec<usize>,
    /// The combination of every point.
    combinations: Vec<usize>,
}

impl Views {
    fn new(table: &TableSpec, points: &Points<'_>, aliases: &[Alias], runs: &[u32]) -> Self {
        let mut stated: Vec<&str> = table.rows.iter().map(String::as_str).collect();
        stated.extend(table.columns.as_deref());
        stated.extend(table.filter.keys().map(String::as_str));
        let aliases: Vec<&Alias> = aliases.iter().filter(|a| table.filter.contains_key(&a.path)).collect();
        let axes = points.sweep.axes();
        let mut known: HashMap<Combination, (usize, u8)> = HashMap::new();
        let mut out = Self { views: Vec::new(), examples: Vec::new(), combinations: Vec::with_capacity(points.len()) };
        for idx in 0..points.len() {
            let labels: Vec<Option<String>> = stated.iter().map(|path| points.label(idx, path)).collect();
            let also: Vec<bool> = aliases.iter().map(|a| a.points[idx]).collect();
            let next = out.examples.len();
            let (combination, count) = known.entry((labels, also)).or_insert((next, 0));
            out.combinations.push(*combination);
            if *combination == next && *count == 0 {
                out.examples.push(out.views.len());
            }
            if *count == 2 {
                continue;
            }
            *count += 1;
            let paths = axes.iter().chain(&stated);
            let labels = paths.filter_map(|path| Some(((*path).to_owned(), points.label(idx, path)?))).collect();
            let mut also: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for alias in aliases.iter().filter(|a| a.points[idx]) {
                also.entry(alias.path.clone()).or_default().push(alias.label.clone());
            }
            // Which runs a point has is known by their sections; what they are called is not.
            let run = runs.get(idx).map_or_else(|| format!("point {idx}"), u32::to_string);
            out.views.push(PointView { labels, also, run_ids: vec![run] });
        }
        out
    }
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
        let list = KeyPath::Key(&KeyPath::Root, key);
        let Some(clean) = checker.check(Cursor { node, at: node.span, path: KeyPath::Index(&list, idx) }, item) else { continue };
        out.extend(typed::<T>(clean, node.span, &format!("{key}[{idx}]"), diagnostics).map(|t| (t, node)));
    }
    out
}

/// A clean value as its type; what only the type itself can judge is reported at the statement.
pub(super) fn typed<T: DeserializeOwned>(clean: Yaml, span: Span, path: &str, diagnostics: &mut Diagnostics) -> Option<T> {
    match check::typed(clean) {
        Ok(value) => Some(value),
        Err(error) => {
            let code = if path.starts_with("tables") || path.starts_with("fits") { Code::Table } else { Code::Claim };
            diagnostics.error(Diagnostic::new(code, span, format!("`{path}`: {error}")));
            None
        }
    }
}
