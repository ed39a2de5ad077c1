//! Two axes on one key: one inside the other, where a value of the outer one states what the inner one sets.
//!
//! The point would have only one of the two values and the tables both labels, so it is refused. An outer value that leaves
//! the inner key open is fine, and so are two axes that no point has together.

use std::collections::HashSet;

use super::super::compose::put;
use super::super::diagnostic::{Code, Diagnostic, Diagnostics};
use super::super::schema::Document;
use super::super::source::Span;
use super::super::tree::{Node, Tree};
use super::super::valid::is_above;
use super::{ABSENT, Axis, SubGrid};

/// More points than this are not looked through; they are too many in any case.
const MAX_POINTS: u64 = 20_000_000;
/// Places that one message shows.
const SHOWN: usize = 5;

/// An outer and an inner axis of one sub-grid.
struct Pair {
    outer: usize,
    inner: usize,
    /// Class of each inner value: values of one class do the same to an outer value.
    classes: Vec<usize>,
    /// For each outer value and class, whether both state one key.
    clash: Vec<Vec<bool>>,
}

/// What is said of two axes, and where they stand.
struct Clash {
    inner: Span,
    outer: Span,
    message: String,
    notes: Vec<(Span, String)>,
}

/// Reports every pair of axes that state one key at a point.
pub(super) fn check(grids: &[SubGrid], document: &Document, diagnostics: &mut Diagnostics) {
    // Members of a product share their axes, so that one pair may be in many sub-grids.
    let mut found: Vec<Clash> = Vec::new();
    for grid in grids {
        let pairs: Vec<Pair> = pairs(grid, document);
        if pairs.is_empty() || grid.max_points() > MAX_POINTS {
            continue;
        }
        let mut met: HashSet<(usize, u32)> = HashSet::new();
        let mut hits = vec![0; grid.excludes.iter().map(|e| e.idx + 1).max().unwrap_or(0)];
        grid.for_each(&mut hits, |digits| {
            for (idx, pair) in pairs.iter().enumerate() {
                let (outer, inner) = (digits[pair.outer], digits[pair.inner]);
                if outer != ABSENT && inner != ABSENT && pair.clash[outer as usize][pair.classes[inner as usize]] {
                    met.insert((idx, outer));
                }
            }
        });
        for (idx, pair) in pairs.iter().enumerate() {
            let (outer, inner) = (&grid.axes[pair.outer], &grid.axes[pair.inner]);
            let places = outer
                .values
                .iter()
                .enumerate()
                .filter(|(digit, _)| u32::try_from(*digit).is_ok_and(|digit| met.contains(&(idx, digit))));
            let notes: Vec<(Span, String)> =
                places.map(|(_, value)| (value.node.span, format!("`{}: {}` states it too", outer.path, value.label))).collect();
            let is_known = found.iter().any(|c| (c.inner, c.outer) == (inner.key_span, outer.key_span));
            if !notes.is_empty() && !is_known {
                let message = format!("two axes state one key: `{}` and `{}`", outer.path, inner.path);
                found.push(Clash { inner: inner.key_span, outer: outer.key_span, message, notes });
            }
        }
    }
    for Clash { inner, outer, message, notes } in found {
        let mut problem = Diagnostic::new(Code::Axis, inner, message);
        let more = notes.len().saturating_sub(SHOWN);
        for (place, text) in notes.into_iter().take(SHOWN) {
            problem = problem.note(place, text);
        }
        if more > 0 {
            problem = problem.note(outer, format!("and {more} more values of this axis"));
        }
        diagnostics.error(problem.hint("state it on one of the two axes alone, or write them as two members of a `union`"));
    }
}

fn pairs(grid: &SubGrid, document: &Document) -> Vec<Pair> {
    let mut out = Vec::new();
    for (outer, above) in grid.axes.iter().enumerate() {
        for (inner, below) in grid.axes.iter().enumerate().filter(|(inner, _)| *inner != outer) {
            let names_patch = sets_patch(below) && is_image_encoder(above);
            if !(names_patch || above.keys.len() < below.keys.len() && is_above(&above.keys, &below.keys)) {
                continue;
            }
            let (classes, examples) = classes(below);
            let clash: Vec<Vec<bool>> = above
                .values
                .iter()
                .map(|value| {
                    let is_stated = |example: &&Node| {
                        (names_patch && states_patch(above, &value.node)) || is_lost(document, above, &value.node, below, example)
                    };
                    examples.iter().map(is_stated).collect()
                })
                .collect();
            if clash.iter().flatten().any(|clash| *clash) {
                out.push(Pair { outer, inner, classes, clash });
            }
        }
    }
    out
}

/// The values of an axis by what they do where they are put: all numbers do the same.
fn classes(axis: &Axis) -> (Vec<usize>, Vec<&Node>) {
    let mut examples: Vec<&Node> = Vec::new();
    let (mut scalar, mut null) = (None, None);
    let mut classes = Vec::with_capacity(axis.values.len());
    for value in &axis.values {
        let known = match &value.node.value {
            Tree::Scalar(_) if value.node.is_null() => Some(&mut null),
            Tree::Scalar(_) => Some(&mut scalar),
            Tree::Map(_) | Tree::List(_) => None,
        };
        let class = match known {
            Some(Some(class)) => *class,
            slot => {
                examples.push(&value.node);
                if let Some(slot) = slot {
                    *slot = Some(examples.len() - 1);
                }
                examples.len() - 1
            }
        };
        classes.push(class);
    }
    (classes, examples)
}

/// Whether putting the inner value in place changes or removes anything that the outer value states.
fn is_lost(document: &Document, outer: &Axis, value: &Node, inner: &Axis, example: &Node) -> bool {
    if !is_above(&outer.keys, &inner.keys) || value.is_null() {
        return false;
    }
    let schemas = document.at(&outer.keys).unwrap_or_default();
    let shorthand = schemas.iter().find_map(|s| document.shorthand(s)).filter(|_| value.text().is_some());
    let stated = shorthand.map_or_else(|| value.clone(), |name| Node::singleton(name, value.span, value.clone()));
    let mut merged = stated.clone();
    put(document, &schemas, &mut merged, &inner.keys[outer.keys.len()..], example);
    !keeps(&stated, &merged)
}

/// Whether everything stated in one tree still stands in another.
fn keeps(stated: &Node, merged: &Node) -> bool {
    match &stated.value {
        Tree::Map(entries) => entries
            .iter()
            .filter(|e| !e.value.is_null())
            .all(|entry| merged.child(&entry.key).is_some_and(|inner| keeps(&entry.value, inner))),
        // A name becomes a map of itself where another key of that map is set.
        Tree::Scalar(_) => stated == merged || merged.child("name") == Some(stated),
        Tree::List(_) => stated == merged,
    }
}

const IMAGE_ENCODER: [&str; 2] = ["model", "image_encoder"];

fn sets_patch(axis: &Axis) -> bool {
    axis.keys.len() == 3 && axis.keys[..2] == IMAGE_ENCODER && axis.keys[2] == "patch_size"
}

fn is_image_encoder(axis: &Axis) -> bool {
    let keys = &axis.keys;
    keys.len() < 4 && keys.iter().zip(["model", "image_encoder", "name"]).all(|(key, expected)| key == expected)
}

/// Whether a value names an encoder with its patch size, as `vit-ti/16` does.
fn states_patch(axis: &Axis, value: &Node) -> bool {
    let encoder = if axis.keys.len() == 1 { value.child("image_encoder") } else { Some(value) };
    let name = encoder.and_then(|e| e.child("name").or(Some(e))).and_then(Node::text);
    name.is_some_and(|name| name.contains('/'))
}
