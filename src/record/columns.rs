//! Which parts of the resolved configs are worth a column: those that vary over the experiment.
//!
//! Owns the flattening of a config to dotted names and canonical text. Invariant: the choice depends on the configs alone, so
//! the same runs always have the same columns.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// One config as dotted names to text, in the order of its fields. Nulls are left out, lists are compact JSON.
pub(super) fn flatten(config: &Value) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    descend(String::new(), config, &mut leaves);
    leaves
}

fn descend(path: String, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (key, inner) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                descend(path, inner, leaves);
            }
        }
        Value::String(text) => leaves.push((path, text.clone())),
        Value::Number(amount) => {
            let text = if amount.is_f64() { amount.as_f64().map(super::number).unwrap_or_default() } else { amount.to_string() };
            leaves.push((path, text));
        }
        Value::Bool(_) | Value::Array(_) => leaves.push((path, value.to_string())),
    }
}

/// Names of the columns that vary, in the order of the config's fields.
///
/// A part that some runs have and others lack varies too; of what lies in one such part (a whole strategy, a whole scorer) the
/// first stands for all, unless something in it takes several values.
pub(super) fn varying(configs: &[Vec<(String, String)>]) -> Vec<String> {
    let Leaves { order, leaves } = Leaves::of(configs);
    // The runs that have a part: those that have any leaf in it.
    let mut present: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for (path, leaf) in &leaves {
        for part in parts(path) {
            let runs = present.entry(part).or_insert_with(|| vec![false; configs.len()]);
            runs.iter_mut().zip(&leaf.runs).for_each(|(part, leaf)| *part |= leaf);
        }
    }
    // The largest part around a leaf that is there in the same runs.
    let whole = |path| parts(path).find(|part| present[part] == present[path]).unwrap_or(path);
    // Several values, or a value in some runs where others have a part of several fields (`none` and `crop_flip`).
    let several = |path: &str| leaves[path].several || leaves[path].runs != present[path];
    let comes_and_goes = |path: &str| present[path].contains(&false);
    let mut shown: BTreeSet<&str> = order.iter().copied().filter(|path| several(path)).map(whole).collect();
    let kept = order.iter().copied().filter(|path| several(path) || (comes_and_goes(path) && shown.insert(whole(path))));
    kept.map(str::to_owned).collect()
}

/// Every leaf of any config.
struct Leaves<'a> {
    /// Each path once; one that only later runs have stands after the path that precedes it there.
    order: Vec<&'a str>,
    leaves: BTreeMap<&'a str, Leaf<'a>>,
}

struct Leaf<'a> {
    first: &'a str,
    several: bool,
    runs: Vec<bool>,
}

impl<'a> Leaves<'a> {
    fn of(configs: &'a [Vec<(String, String)>]) -> Self {
        let mut order: Vec<&str> = Vec::new();
        let mut leaves: BTreeMap<&str, Leaf<'_>> = BTreeMap::new();
        for (run_idx, config) in configs.iter().enumerate() {
            let mut before: Option<&str> = None;
            for (path, text) in config {
                let leaf = leaves.entry(path).or_insert_with(|| {
                    let at = before.and_then(|before| order.iter().position(|other| *other == before));
                    order.insert(at.map_or(0, |at| at + 1), path);
                    Leaf { first: text, several: false, runs: vec![false; configs.len()] }
                });
                leaf.several |= leaf.first != text;
                leaf.runs[run_idx] = true;
                before = Some(path);
            }
        }
        Self { order, leaves }
    }
}

/// The text of a config in a column: its value there, or the name of the part that stands in its place.
pub(super) fn text_at<'a>(leaves: &'a [(String, String)], column: &str) -> &'a str {
    let found = leaves.iter().find_map(|(path, text)| {
        let rest = path.strip_prefix(column)?;
        if rest.is_empty() { Some(text.as_str()) } else { rest.strip_prefix('.')?.split('.').next() }
    });
    found.unwrap_or_default()
}

/// The parts that a path lies in, largest first, and the path itself.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('.').map(|(dot, _)| &path[..dot]).chain([path])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_varies_becomes_a_column() {
        let configs = [
            json!({"data": {"size": 10, "quality": null}, "lr": 0.001, "ssl": null}),
            json!({"data": {"size": 20, "quality": {"keep": 0.4, "by": {"scorer": {"lr": 1.0, "steps": 7}}}}, "lr": 0.001, "ssl": null}),
            json!({"data": {"size": 20, "quality": {"keep": 0.2, "by": {"scorer": {"lr": 1.0, "steps": 7}}}}, "lr": 0.001, "ssl": {"weight": 1.0, "hidden": 9}}),
        ];
        let flat: Vec<_> = configs.iter().map(flatten).collect();
        assert_eq!(varying(&flat), ["data.size", "data.quality.keep", "ssl.weight"]);
    }

    #[test]
    fn texts_are_canonical() {
        let leaves = flatten(&json!({"a": 1.0, "b": [1, "x"], "c": true, "d": 1e-9, "e": "none"}));
        let texts: Vec<&str> = leaves.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["1", "[1,\"x\"]", "true", "1e-9", "none"]);
    }
}
