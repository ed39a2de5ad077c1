//! Differences between configs as JSON merge patches, so that a folder of many runs states what they share once.
//!
//! **Source**: RFC 7396. **Differs**: a null in a config is treated like an absent field, which is how an `Option` reads.

use serde_json::{Map, Value};

/// The patch that turns `base` into `target`.
pub(super) fn diff(base: &Value, target: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (base, target) else { return target.clone() };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| new.get(*key).is_none_or(Value::is_null) && !old[*key].is_null()) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new.iter().filter(|(_, value)| !value.is_null()) {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) if before.is_object() => {
                patch.insert(key.clone(), diff(before, value));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

/// Applies a patch made by [`diff`].
pub(super) fn apply(base: &Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else { return patch.clone() };
    let mut fields = match base {
        Value::Object(fields) => fields.clone(),
        _ => Map::new(),
    };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            let inner = apply(fields.get(key).unwrap_or(&Value::Null), change);
            fields.insert(key.clone(), inner);
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn without_nulls(value: &Value) -> Value {
        match value {
            Value::Object(fields) => fields
                .iter()
                .filter(|(_, inner)| !inner.is_null())
                .map(|(key, inner)| (key.clone(), without_nulls(inner)))
                .collect(),
            other => other.clone(),
        }
    }

    #[test]
    fn a_patch_gives_the_target_back() {
        let configs = [
            json!({"a": {"share": 0.4}, "b": null, "c": [1, 2], "d": "none"}),
            json!({"a": {"count": 5}, "b": {"x": 1, "y": null}, "c": [1], "d": {"crop": {"flip": 0.5}}}),
            json!({"a": null, "b": {"x": 2}, "c": [], "d": {"rand": {}}}),
        ];
        for base in &configs {
            for target in &configs {
                let patch = diff(base, target);
                assert_eq!(without_nulls(&apply(base, &patch)), without_nulls(target), "{base} to {target} by {patch}");
            }
        }
        assert_eq!(diff(&configs[0], &configs[0]), json!({}));
    }
}
