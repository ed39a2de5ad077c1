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
    let mut texts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut as_leaf: BTreeMap<&str, usize> = BTreeMap::new();
    let mut present: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (run_idx, leaves) in configs.iter().enumerate() {
        for (path, text) in leaves {
            texts.entry(path).or_default().insert(text);
            *as_leaf.entry(path).or_default() += 1;
            for part in parts(path) {
                let runs = present.entry(part).or_default();
                if runs.last() != Some(&run_idx) {
                    runs.push(run_idx);
                }
            }
        }
    }
    // The largest part around a leaf that is there in the same runs.
    let whole = |path| parts(path).find(|part| present[part] == present[path]).unwrap_or(path);
    // Several values, or a value in some runs where others have a part of several fields (`none` and `crop_flip`).
    let several = |path: &str| texts[path].len() > 1 || as_leaf[path] < present[path].len();
    let comes_and_goes = |path: &str| present[path].len() < configs.len();
    let mut shown: BTreeSet<&str> = texts.keys().copied().filter(|path| several(path)).map(whole).collect();
    order(configs)
        .into_iter()
        .filter(|path| several(path) || (comes_and_goes(path) && shown.insert(whole(path))))
        .map(str::to_owned)
        .collect()
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

/// Every path once; one that only later runs have stands after the path that precedes it there.
fn order(configs: &[Vec<(String, String)>]) -> Vec<&str> {
    let mut order: Vec<&str> = Vec::new();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for leaves in configs {
        for (idx, (path, _)) in leaves.iter().enumerate() {
            if known.insert(path) {
                let before = idx.checked_sub(1).map(|before| leaves[before].0.as_str());
                let at = before.and_then(|before| order.iter().position(|other| *other == before));
                order.insert(at.map_or(0, |at| at + 1), path);
            }
        }
    }
    order
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
