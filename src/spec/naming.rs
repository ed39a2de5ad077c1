//! Which texts name the value that a point has: its label as written, and every other text that gives the same run.
//!
//! Tables select points by `where`. A text that no label matches still names a point's value where stating it at that path
//! would change nothing: a default (`train.weight_decay: 1e-4`), a short form (`flip` for `{name: flip, masked: 50%}`), another
//! budget that comes to the same steps. Input: the statements of `where` and the points. Output: [`Alias`]es.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::LoadOptions;
use super::compose::put;
use super::diagnostic::Diagnostics;
use super::load::Loader;
use super::parts::{PARTS, Part, PartContext, Variants, resolve};
use super::resolve::{Outside, Problem, Steps, steps_of};
use super::schema::{Document, is_map, tag, tag_names};
use super::source::Span;
use super::sweep::ABSENT;
use super::tree::{Entry, Node, Tree};
use super::types::DataSpec;
use super::valid::{Points, SectionIds, effective, is_touched};
use crate::tables::{TableSpec, same_label};

/// A text that names the value of some points without being their label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alias {
    pub path: String,
    pub label: String,
    /// For every point, whether the text names its value.
    pub points: Vec<bool>,
}

/// The texts in `where` that name values of points without being their labels.
pub(super) fn aliases(tables: &[TableSpec], points: Points<'_>, loader: &Loader<'_>) -> Vec<Alias> {
    let mut out: Vec<Alias> = Vec::new();
    for (path, label) in tables.iter().flat_map(|t| &t.filter).flat_map(|(path, labels)| labels.iter().map(move |l| (path, l))) {
        let label = label.as_str();
        if out.iter().any(|alias| alias.path == *path && alias.label == label) {
            continue;
        }
        let Some(mut statement) = Statement::new(path, label, points) else { continue };
        let named: Vec<bool> = (0..points.len()).map(|idx| statement.names(idx, loader)).collect();
        if named.contains(&true) {
            out.push(Alias { path: path.clone(), label: label.to_owned(), points: named });
        }
    }
    out
}

/// One value at one path, and what it comes to where it is stated.
struct Statement<'a> {
    label: &'a str,
    path: &'a str,
    keys: Vec<String>,
    part: Part,
    node: Node,
    points: Points<'a>,
    /// What the part may become, by sub-grid and the digits of the axes that touch it; empty where the value cannot stand there.
    resolved: HashMap<(u32, Vec<u32>), Vec<Variants>>,
}

impl<'a> Statement<'a> {
    fn new(path: &'a str, label: &'a str, points: Points<'a>) -> Option<Self> {
        let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
        let is_inside = |part: &&Part| keys.len() >= part.keys().len() && part.keys().iter().zip(&keys).all(|(a, b)| a == b);
        let part = *PARTS.iter().find(is_inside)?;
        Document::experiment().at(&keys).ok()?;
        let node = parse(label, points.resolved.tree.span)?;
        Some(Self { label, path, keys, part, node, points, resolved: HashMap::new() })
    }

    /// Whether stating the value at a point gives the run that the point has.
    fn names(&mut self, point_idx: usize, loader: &Loader<'_>) -> bool {
        let points = self.points;
        let point = points.resolved.points[point_idx];
        let (axes, digits) = (points.axes(point_idx), points.digits(point_idx));
        // Where the text is a value of the point's own axis, that value is meant and no other.
        let own = axes.iter().zip(digits).find(|(axis, digit)| axis.path == self.path && **digit != ABSENT);
        let is_written = own.is_some_and(|(axis, _)| axis.values.iter().any(|v| same_label(&v.label, self.label)));
        // What a budget comes to depends on other settings, so that a text which is on no axis is more likely a mistake.
        let is_written = is_written || own.is_some() && matches!(self.part, Part::Budget | Part::Warmup);
        if is_written || points.resolved.data.get(point.data as usize).is_none() {
            return false;
        }
        if points.label(point_idx, self.path).is_some_and(|have| same_label(&have, self.label)) {
            return false;
        }
        let touching: Vec<u32> =
            axes.iter().zip(digits).filter(|(axis, _)| is_touched(self.part.keys(), axis)).map(|(_, digit)| *digit).collect();
        if !self.resolved.contains_key(&(point.grid, touching.clone())) {
            let found = self.stated(point_idx, loader);
            self.resolved.insert((point.grid, touching.clone()), found);
        }
        let found = self.resolved.get(&(point.grid, touching)).map_or(&[][..], Vec::as_slice);
        found.iter().any(|variants| is_same(self.part, variants, point, points, loader.options))
    }

    /// The part of a point with the value in it. Where the value lies in a map that is not stated and that a name tells apart
    /// (`train.optimizer.beta1`), every name is tried: the one that is the default gives the run that the point has.
    fn stated(&self, point_idx: usize, loader: &Loader<'_>) -> Vec<Variants> {
        let document = Document::experiment();
        let depth = self.part.keys().len();
        let at = |keys: &[String]| {
            let (axes, digits) = (self.points.axes(point_idx), self.points.digits(point_idx));
            effective(&self.points.resolved.tree, axes, digits, keys).map(std::borrow::Cow::into_owned)
        };
        let schemas = document.at(&self.keys[..depth]).unwrap_or_default();
        let node = at(&self.keys[..depth]).unwrap_or_else(|| Node::plain("", self.node.span));
        let open = (depth..self.keys.len()).find(|len| at(&self.keys[..*len]).is_none());
        let names = open.map_or_else(Vec::new, |len| names(document, &self.keys[..len]));
        let with = |name: Option<&str>| {
            let mut node = node.clone();
            if let (Some(name), Some(len)) = (name, open) {
                put(document, &schemas, &mut node, &self.keys[depth..len], &Node::plain(name, self.node.span));
            }
            put(document, &schemas, &mut node, &self.keys[depth..], &self.node);
            self.resolve(node, loader)
        };
        if names.is_empty() { with(None).into_iter().collect() } else { names.iter().filter_map(|name| with(Some(name))).collect() }
    }

    fn resolve(&self, node: Node, loader: &Loader<'_>) -> Option<Variants> {
        // Whether the value can stand there is the question; that it cannot is no problem of the file.
        let mut quiet = Diagnostics::default();
        let start = self.node.span;
        let tree = &self.points.resolved.tree;
        let files = loader.options.files;
        let mut context = PartContext { sources: &loader.sources, diagnostics: &mut quiet, tree, start, files };
        let mut data = |_: &mut PartContext<'_>, spec: DataSpec, _: Option<&Node>| -> Result<_, Vec<Problem>> {
            let mut scorer = |path: &str, seed: u64| {
                let mut config = loader.scorers.get(path)?.clone()?;
                config.seed = seed;
                Some(config)
            };
            super::resolve::data(spec, Outside { files, scorer: &mut scorer })
        };
        let mut variants = Variants::default();
        resolve(self.part, Some(node), &mut context, &mut data, &mut variants)?;
        Some(variants)
    }
}

/// The names that tell apart what may stand at a path; none where no name does.
fn names<'a>(document: &'a Document, keys: &[String]) -> Vec<&'a str> {
    let schemas = document.at(keys).unwrap_or_default();
    let maps: Vec<&Json> = schemas.iter().flat_map(|s| document.variants(s)).filter(|s| is_map(s)).collect();
    let is_named = schemas.iter().any(|s| document.shorthand(s).is_some());
    tag(&maps).filter(|_| is_named).map_or_else(Vec::new, |tag| maps.iter().flat_map(|s| tag_names(s, tag)).collect())
}

/// Whether a part that was resolved by itself is that of a point.
fn is_same(part: Part, variants: &Variants, point: SectionIds, points: Points<'_>, options: &LoadOptions<'_>) -> bool {
    let resolved = points.resolved;
    let (model, train) = (&resolved.models[point.model as usize], &resolved.trains[point.train as usize]);
    match part {
        Part::Data => variants.data.first().is_some_and(|data| data.config == resolved.data[point.data as usize]),
        Part::Model => variants.model.first().is_some_and(|found| {
            let mut found = found.clone();
            found.text_encoder.vocab_size = model.text_encoder.vocab_size;
            found == *model
        }),
        Part::Evaluate | Part::EvaluateAt => false,
        Part::Strategy => {
            let chunk = train.effective_batch() / train.accumulate;
            variants.strategy.first().is_some_and(|found| found.of_run(model, chunk) == train.strategy)
        }
        Part::BatchSize => variants.batch_size.first() == Some(&train.batch_size),
        Part::Accumulate => variants.accumulate.first() == Some(&train.accumulate),
        Part::Loss => variants.loss.first() == Some(&train.loss),
        Part::Lr => variants.lr.first() == Some(&train.lr),
        Part::Warmup => {
            let steps = |w: &super::resolve::Warmup| w.steps(train.steps, train.effective_batch()).min(train.steps);
            variants.warmup.first().map(steps) == Some(train.warmup_steps)
        }
        Part::Optimizer => variants.optimizer.first() == Some(&train.optimizer),
        Part::WeightDecay => variants.weight_decay.first() == Some(&(train.weight_decay, train.decay_scale)),
        Part::GradClip => variants.grad_clip.first() == Some(&train.grad_clip_norm),
        Part::Lanes => variants.lanes.first() == Some(&train.lanes),
        Part::Budget => variants.budget.first().is_some_and(|budget| {
            let subset = resolved.subsets[point.data as usize];
            let cost = || (options.cost)(model, &train.strategy);
            steps_of(*budget, train.effective_batch(), subset, cost) == Steps::Known(train.steps)
        }),
    }
}

/// A label as the value that it names: a scalar, or `key=value,key=value`.
fn parse(label: &str, span: Span) -> Option<Node> {
    if !label.contains('=') {
        return Some(Node::plain(label, span));
    }
    if label.contains(['{', '[']) {
        return None;
    }
    let entry = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        Some(Entry { key: key.to_owned(), key_span: span, value: Node::plain(value, span) })
    };
    Some(Node { value: Tree::Map(label.split(',').map(entry).collect::<Option<Vec<_>>>()?), span })
}
