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
/// A part that some runs have and others lack varies too; of parts that only come and go together (a whole strategy, a whole
/// scorer) the first stands for all, unless one of them takes several values.
pub(super) fn varying(configs: &[Vec<(String, String)>]) -> Vec<String> {
    let mut order: Vec<&str> = Vec::new();
    let mut columns: BTreeMap<&str, (BTreeSet<&str>, Vec<usize>)> = BTreeMap::new();
    for (run_idx, leaves) in configs.iter().enumerate() {
        for (path, text) in leaves {
            let (texts, runs) = columns.entry(path).or_insert_with(|| {
                order.push(path);
                (BTreeSet::new(), Vec::new())
            });
            texts.insert(text);
            runs.push(run_idx);
        }
    }
    let mut shown: BTreeSet<&[usize]> = BTreeSet::new();
    shown.extend(columns.values().filter(|(texts, _)| texts.len() > 1).map(|(_, runs)| runs.as_slice()));
    let mut kept = Vec::new();
    for path in order {
        let (texts, runs) = &columns[path];
        let comes_and_goes = runs.len() < configs.len() && shown.insert(runs);
        if texts.len() > 1 || comes_and_goes {
            kept.push(path.to_owned());
        }
    }
    kept
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
