//! A checked experiment: everything that can be wrong has been looked for.
//!
//! Holds the resolved sections once each, and the points of the sweep as indices into them. A million points are 20 bytes and
//! one digit an axis each; no config is cloned before somebody asks for it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::compose::put;
use super::diagnostic::Diagnostic;
use super::label::label_of;
use super::naming::Alias;
use super::scalar::Interval;
use super::schema::Document;
use super::source::Sources;
use super::sweep::{ABSENT, Axis, Sweep};
use super::tree::Node;
use super::written::Written;
use crate::claims::ClaimSpec;
use crate::claims::fits::ScalingSpec;
use crate::run::{DataConfig, DeviceKind, EvalConfig, ModelConfig, Precision, TrainConfig};
use crate::tables::TableSpec;

/// An experiment without a mistake that its text could show.
#[derive(Debug, Clone)]
pub struct ValidSpec {
    /// Name, and folder of its results.
    pub experiment: String,
    /// What it asks.
    pub question: Option<String>,
    /// Where the question comes from.
    pub source: Option<String>,
    /// What is expected to come out, in words.
    pub expected: Option<String>,
    /// Seeds and axes.
    pub sweep: Sweep,
    /// Tables to write.
    pub tables: Vec<TableSpec>,
    /// Claims to judge.
    pub claims: Vec<ClaimSpec>,
    /// Curves to fit.
    pub fits: Vec<ScalingSpec>,
    /// Settings that change no result.
    pub execution: Execution,
    /// What may not have been meant.
    pub warnings: Vec<Diagnostic>,
    /// The texts that it was read from.
    pub sources: Arc<Sources>,
    /// Its paths as they stand there.
    pub written: Arc<Written>,
    /// Resolved sections and points.
    pub resolved: Arc<Resolved>,
    /// Texts of `where` that name values of points without being their labels.
    pub(super) aliases: Arc<Vec<Alias>>,
}

/// Settings that change no result, so that they are in no run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Execution {
    /// How often a checkpoint is written.
    pub checkpoint_every: Interval,
}

impl Default for Execution {
    fn default() -> Self {
        Self { checkpoint_every: Interval::Share(0.1) }
    }
}

/// Every distinct section of the runs, and the points that are made of them.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Data sections.
    pub data: Vec<DataConfig>,
    /// Samples of each data section after size and quality; `None` where only the data can tell.
    pub subsets: Vec<Option<u64>>,
    /// Model sections.
    pub models: Vec<ModelConfig>,
    /// Training sections.
    pub trains: Vec<TrainConfig>,
    /// Evaluation sections.
    pub evaluates: Vec<Vec<EvalConfig>>,
    /// Names of all metrics that the evaluations give, in their order.
    pub metrics: Vec<String>,
    /// Kind of device of every run.
    pub device: DeviceKind,
    /// Arithmetic of every run.
    pub precision: Precision,
    /// Points in the order written.
    pub points: Vec<SectionIds>,
    pub(super) digits: Vec<u32>,
    /// First point and first digit of every sub-grid.
    pub(super) starts: Vec<(usize, usize)>,
    pub(super) tree: Node,
}

impl Resolved {
    /// The run of every point, seeds aside: equal numbers are equal configs.
    pub(super) fn distinct_runs(&self) -> Vec<u32> {
        let sections = [canonical(&self.data), canonical(&self.models), canonical(&self.trains), canonical(&self.evaluates)];
        let mut known: HashMap<[u32; 4], u32> = HashMap::new();
        let run = |point: &SectionIds| {
            let SectionIds { grid: _, data, model, train, evaluate } = *point;
            let ids = [data, model, train, evaluate];
            let key = std::array::from_fn(|idx| sections[idx][ids[idx] as usize]);
            let next = u32::try_from(known.len()).expect("fewer than 2^32 points");
            *known.entry(key).or_insert(next)
        };
        self.points.iter().map(run).collect()
    }
}

/// For each section the position of the first one that equals it.
fn canonical<T: serde::Serialize>(sections: &[T]) -> Vec<u32> {
    let mut known: HashMap<blake3::Hash, u32> = HashMap::with_capacity(sections.len());
    let first = |(idx, section): (usize, &T)| {
        let json = serde_json::to_vec(section).expect("a config has only text keys and finite numbers");
        *known.entry(blake3::hash(&json)).or_insert(u32::try_from(idx).expect("fewer than 2^32 sections"))
    };
    sections.iter().enumerate().map(first).collect()
}

/// The sections of one point, as positions in [`Resolved`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SectionIds {
    /// Sub-grid that the point belongs to.
    pub grid: u32,
    /// In `data`.
    pub data: u32,
    /// In `models`.
    pub model: u32,
    /// In `trains`.
    pub train: u32,
    /// In `evaluates`.
    pub evaluate: u32,
}

/// The points of a sweep and their labels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Points<'a> {
    pub sweep: &'a Sweep,
    pub resolved: &'a Resolved,
}

impl<'a> Points<'a> {
    pub fn len(self) -> usize {
        self.resolved.points.len()
    }

    /// Whether a point has a section that could not be made, so that nobody knows what it would be.
    pub fn is_broken(self) -> bool {
        self.resolved.points.iter().any(|point| self.resolved.data.get(point.data as usize).is_none())
    }

    pub fn axes(self, point_idx: usize) -> &'a [Axis] {
        &self.sweep.grids[self.resolved.points[point_idx].grid as usize].axes
    }

    pub fn digits(self, point_idx: usize) -> &'a [u32] {
        let grid = self.resolved.points[point_idx].grid as usize;
        let (first_point, first_digit) = self.resolved.starts[grid];
        let num_axes = self.sweep.grids[grid].axes.len();
        let start = first_digit + (point_idx - first_point) * num_axes;
        &self.resolved.digits[start..start + num_axes]
    }

    /// The axes that a point has and its labels on them, in the order written.
    pub fn labels(self, point_idx: usize) -> impl Iterator<Item = (&'a str, &'a str)> {
        let present = self.axes(point_idx).iter().zip(self.digits(point_idx)).filter(|(_, digit)| **digit != ABSENT);
        present.map(|(axis, digit)| (axis.path.as_str(), axis.values[*digit as usize].label.as_str()))
    }

    /// The label of a point at any key path, be it an axis of its sub-grid or a setting of the base.
    pub fn label(self, point_idx: usize, path: &str) -> Option<String> {
        let (axes, digits) = (self.axes(point_idx), self.digits(point_idx));
        if let Some(idx) = axes.iter().zip(digits).position(|(a, d)| a.path == path && *d != ABSENT) {
            return Some(axes[idx].values[digits[idx] as usize].label.clone());
        }
        let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
        effective(&self.resolved.tree, axes, digits, &keys).map(|node| label_of(&node))
    }
}

impl ValidSpec {
    fn points(&self) -> Points<'_> {
        Points { sweep: &self.sweep, resolved: &self.resolved }
    }

    /// The position of a point on each axis of its sub-grid.
    #[must_use]
    pub fn digits(&self, point_idx: usize) -> &[u32] {
        self.points().digits(point_idx)
    }

    /// The axes that a point has and its labels on them, in the order written.
    pub fn labels(&self, point_idx: usize) -> impl Iterator<Item = (&str, &str)> {
        self.points().labels(point_idx)
    }

    /// The label of a point at any key path, be it an axis of its sub-grid or a setting of the base; `None` where nothing is
    /// stated.
    #[must_use]
    pub fn label(&self, point_idx: usize, path: &str) -> Option<String> {
        self.points().label(point_idx, path)
    }

    /// Texts of tables' `where` that name a setting of a point without being its label, with their key paths.
    pub fn also(&self, point_idx: usize) -> impl Iterator<Item = (&str, &str)> {
        self.aliases.iter().filter(move |a| a.points[point_idx]).map(|a| (a.path.as_str(), a.label.as_str()))
    }
}

/// Whether one path is the other or above it.
pub(super) fn is_above(above: &[String], path: &[String]) -> bool {
    path.len() >= above.len() && path[..above.len()] == *above
}

/// Whether an axis sets something of the part at these keys.
pub(super) fn is_touched(part: &[&str], axis: &Axis) -> bool {
    axis.keys.iter().zip(part).all(|(a, b)| a == b)
}

/// What stands at a path of keys once the axes of a point are in place.
pub(super) fn effective<'t>(tree: &'t Node, axes: &'t [Axis], digits: &[u32], keys: &[String]) -> Option<Cow<'t, Node>> {
    let present = || axes.iter().zip(digits).filter(|(_, d)| **d != ABSENT).map(|(a, d)| (a, &a.values[*d as usize].node));
    let over = present().filter(|(a, _)| is_above(&a.keys, keys)).max_by_key(|(a, _)| a.keys.len());
    let depth = over.map_or(0, |(a, _)| a.keys.len());
    let root = over.map_or(tree, |(_, node)| node);
    let mut node = descend(root, &keys[depth..]).map(Cow::Borrowed);
    let mut below: Vec<(&Axis, &Node)> = present().filter(|(a, _)| a.keys.len() > keys.len() && is_above(keys, &a.keys)).collect();
    // A name goes before the keys beside it: one of another family takes away those of the base.
    below.sort_by_key(|(a, _)| (a.keys.len(), a.keys.last().is_none_or(|key| key != "name")));
    if !below.is_empty() {
        let document = Document::experiment();
        let schemas = document.at(keys).unwrap_or_default();
        let mut owned = node.map_or_else(|| Node::plain("", below[0].1.span), Cow::into_owned);
        for (axis, value) in below {
            put(document, &schemas, &mut owned, &axis.keys[keys.len()..], value);
        }
        node = Some(Cow::Owned(owned));
    }
    node.filter(|n| !n.is_null())
}

/// As [`Node::at`], where a scalar that stands for a map has itself as its `name`.
fn descend<'t>(node: &'t Node, keys: &[String]) -> Option<&'t Node> {
    match keys {
        [last] if last == "name" && node.text().is_some() && !node.is_null() => Some(node),
        [] => Some(node),
        [first, rest @ ..] => descend(node.child(first)?, rest),
    }
}
