//! Why a job runs, or why it does not: its difference from another one, field by field.

use serde_json::Value;

use super::{JobSpec, Key};

/// One field in which two jobs differ.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldDiff {
    /// Dotted path of the field; positions in a list are numbers.
    pub path: String,
    /// What the first job has; `None` where it has no such field.
    pub old: Option<Value>,
    /// What the second has.
    pub new: Option<Value>,
}

/// Fields in which `b` differs from `a`, in the order of their structs. Parents are compared by key: [`expanded`] looks into
/// them.
#[must_use]
pub fn explain(a: &JobSpec, b: &JobSpec) -> Vec<FieldDiff> {
    difference(&value(a), &value(b))
}

/// The finished job that differs from `job` in the fewest fields among those of its kind, with the difference. The first of
/// several equally near ones.
#[must_use]
pub fn nearest<'a, T>(job: &Value, finished: impl IntoIterator<Item = (T, &'a Value)>) -> Option<(T, Vec<FieldDiff>)> {
    let mut best: Option<(T, Vec<FieldDiff>)> = None;
    for (name, other) in finished {
        if other.get("kind") != job.get("kind") {
            continue;
        }
        let diff = difference(other, job);
        if best.as_ref().is_none_or(|(_, least)| diff.len() < least.len()) {
            best = Some((name, diff));
        }
    }
    best
}

/// The job as JSON with each parent's key replaced by that parent's own spec, where `spec_of` knows it. Two runs on
/// different pools then differ in `spec.pool.spec.size`, not in a digest.
#[must_use]
pub fn expanded(job: &JobSpec, spec_of: &dyn Fn(&Key) -> Option<JobSpec>) -> Value {
    let mut json = value(job);
    let parents = job.parents();
    expand_in(&mut json, &parents, spec_of);
    json
}

fn expand_in(json: &mut Value, parents: &[Key], spec_of: &dyn Fn(&Key) -> Option<JobSpec>) {
    match json {
        Value::String(text) => {
            if let Ok(key) = text.parse::<Key>()
                && parents.contains(&key)
                && let Some(parent) = spec_of(&key)
            {
                *json = expanded(&parent, spec_of);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| expand_in(item, parents, spec_of)),
        Value::Object(fields) => fields.values_mut().for_each(|field| expand_in(field, parents, spec_of)),
        _ => {}
    }
}

/// Fields in which `new` differs from `old`.
#[must_use]
pub fn difference(old: &Value, new: &Value) -> Vec<FieldDiff> {
    let mut found = Vec::new();
    walk(&mut String::new(), Some(old), Some(new), &mut found);
    found
}

fn walk(path: &mut String, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<FieldDiff>) {
    match (old, new) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let only_new = b.keys().filter(|name| !a.contains_key(*name));
            for name in a.keys().chain(only_new) {
                step(path, name, a.get(name), b.get(name), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                step(path, &index.to_string(), a.get(index), b.get(index), found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(FieldDiff { path: path.clone(), old: a.cloned(), new: b.cloned() }),
    }
}

fn step(path: &mut String, name: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<FieldDiff>) {
    let length = path.len();
    if length > 0 {
        path.push('.');
    }
    path.push_str(name);
    walk(path, old, new, found);
    path.truncate(length);
}

fn value(job: &JobSpec) -> Value {
    let mut json = serde_json::to_value(job).expect("plain structs with text keys always serialise");
    if let Some(fields) = json.as_object_mut() {
        fields.insert("version".into(), job.version().into());
    }
    json
}
