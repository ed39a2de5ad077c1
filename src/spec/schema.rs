//! The JSON Schema of an experiment file, and walks through it.
//!
//! Made once from the typed structs. Everything that has to know which keys exist (unknown keys, axis paths, what a map may
//! hold) asks here, so there is one list of keys.

use std::sync::LazyLock;

use serde_json::Value as Json;

use super::diagnostic::quoted_list;
use super::scalar;
use super::types::ExperimentSpec;
use crate::claims::ClaimsFile;

/// A schema with its definitions.
pub(super) struct Document {
    root: Json,
}

static EXPERIMENT: LazyLock<Document> = LazyLock::new(|| Document { root: schemars::schema_for!(ExperimentSpec).to_value() });
static CLAIMS: LazyLock<Document> = LazyLock::new(|| Document { root: schemars::schema_for!(ClaimsFile).to_value() });

/// The JSON Schema of an experiment file.
#[must_use]
pub fn schema() -> Json {
    EXPERIMENT.root.clone()
}

/// Where a path leaves the schema.
pub(super) struct PathError<'a> {
    /// Number of its keys that exist.
    pub depth: usize,
    /// Keys that exist there.
    pub known: Vec<&'a str>,
}

impl Document {
    /// Of an experiment file.
    pub fn experiment() -> &'static Self {
        &EXPERIMENT
    }
    /// Of a file of claims alone.
    pub fn claims() -> &'static Self {
        &CLAIMS
    }
    /// The schema of the whole file.
    pub fn root(&self) -> &Json {
        &self.root
    }

    /// Follows references.
    pub fn resolve<'a>(&'a self, mut schema: &'a Json) -> &'a Json {
        while let Some(pointer) = schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#')) {
            match self.root.pointer(pointer) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    /// The alternatives of a schema, nested ones flattened; `null` is left out, because a key without a value is no key.
    pub fn variants<'a>(&'a self, schema: &'a Json) -> Vec<&'a Json> {
        let mut out = Vec::new();
        self.collect_variants(schema, &mut out);
        out
    }

    fn collect_variants<'a>(&'a self, schema: &'a Json, out: &mut Vec<&'a Json>) {
        let schema = self.resolve(schema);
        let alternatives = ["anyOf", "oneOf"].iter().find_map(|k| schema.get(k)).and_then(Json::as_array);
        match alternatives {
            Some(list) => list.iter().for_each(|s| self.collect_variants(s, out)),
            None if schema.get("type").and_then(Json::as_str) == Some("null") => {}
            None => out.push(schema),
        }
    }

    /// The map that a name alone is short for, where there is one.
    pub fn shorthand<'a>(&'a self, schema: &'a Json) -> Option<&'a str> {
        let schema = self.resolve(schema);
        let here = schema.get("x-shorthand").and_then(Json::as_str);
        // An optional key wraps its schema in `anyOf: [schema, null]`.
        here.or_else(|| schema.get("anyOf")?.as_array()?.iter().find_map(|s| self.resolve(s).get("x-shorthand")?.as_str()))
    }

    /// The schemas that a key can have in a map of this schema.
    pub fn children<'a>(&'a self, schema: &'a Json, key: &str) -> Vec<&'a Json> {
        let child = |s: &'a Json| {
            let stated = s.get("properties").and_then(|p| p.get(key));
            stated.or_else(|| s.get("additionalProperties").filter(|a| a.is_object()))
        };
        self.variants(schema).into_iter().filter_map(child).collect()
    }

    /// All keys that a map of this schema can have, each once, in the order stated.
    pub fn keys<'a>(&'a self, schema: &'a Json) -> Vec<&'a str> {
        let mut out: Vec<&str> = Vec::new();
        for properties in self.variants(schema).into_iter().filter_map(|s| s.get("properties")?.as_object()) {
            for key in properties.keys() {
                if !out.contains(&key.as_str()) {
                    out.push(key);
                }
            }
        }
        out
    }

    /// The schemas at a path of keys.
    pub fn at<'a, S: AsRef<str>>(&'a self, path: &[S]) -> Result<Vec<&'a Json>, PathError<'a>> {
        let mut here = vec![&self.root];
        for (depth, key) in path.iter().enumerate() {
            let next: Vec<&Json> = here.iter().flat_map(|s| self.children(s, key.as_ref())).collect();
            if next.is_empty() {
                let mut known: Vec<&str> = Vec::new();
                for key in here.iter().flat_map(|s| self.keys(s)) {
                    if !known.contains(&key) {
                        known.push(key);
                    }
                }
                return Err(PathError { depth, known });
            }
            here = next;
        }
        Ok(here)
    }

    /// Whether a map of this schema holds exactly one of several keys, so that stating one replaces another.
    pub fn is_choice(&self, schema: &Json) -> bool {
        let variants = self.variants(schema);
        let maps: Vec<&&Json> = variants.iter().filter(|s| is_map(s)).collect();
        maps.len() > 1 && maps.iter().all(|s| choice_key(s).is_some())
    }

    /// Whether two names of a map of these schemas are of different families, so that keys which go with one say nothing of the
    /// other.
    pub fn is_other_family(&self, schemas: &[&Json], tag: &str, one: &str, other: &str) -> bool {
        let of = |text: &str| {
            let mut maps = schemas.iter().flat_map(|s| self.variants(s));
            maps.find_map(|s| family(s, tag).filter(|_| is_tagged(s, tag, text)))
        };
        matches!((of(one), of(other)), (Some(one), Some(other)) if one != other)
    }

    /// Whether whole numbers are expected.
    pub fn is_whole(&self, schemas: &[&Json]) -> bool {
        schemas.iter().flat_map(|s| self.variants(s)).any(|s| {
            matches!(s.get("x-scalar").and_then(Json::as_str), Some("count"))
                || s.get("type").and_then(Json::as_str) == Some("integer")
        })
    }

    /// Dotted paths at which a key of this name exists, shortest first.
    pub fn homes(&self, key: &str) -> Vec<String> {
        let mut out = Vec::new();
        let mut level: Vec<(String, &Json)> = vec![(String::new(), &self.root)];
        for _ in 0..3 {
            let mut next = Vec::new();
            for (path, schema) in level {
                for name in self.keys(schema) {
                    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                    if name == key && !out.contains(&path) {
                        out.push(path.clone());
                    }
                    next.extend(self.children(schema, name).into_iter().map(|s| (path.clone(), s)));
                }
            }
            level = next;
        }
        out
    }

    /// What is expected, in words.
    pub fn describe(&self, schema: &Json) -> String {
        let variants = self.variants(schema);
        if let Some(stated) = variants.iter().find_map(|s| s.get("x-expected")?.as_str()) {
            return stated.to_owned();
        }
        let maps: Vec<&Json> = variants.iter().copied().filter(|s| is_map(s)).collect();
        if let (Some(name), Some(tag)) = (self.shorthand(schema), tag(&maps)) {
            let known: Vec<&str> = maps.iter().flat_map(|s| tag_names(s, tag)).collect();
            return format!("one of {}, or a map with `{name}`", quoted_list(&known));
        }
        let names: Vec<&str> = variants.iter().flat_map(|s| names(s)).collect();
        let mut parts: Vec<String> = Vec::new();
        match names.len() {
            0 => {}
            1 => parts.push(format!("`{}`", names[0])),
            _ => parts.push(format!("one of {}", quoted_list(&names))),
        }
        for variant in variants.iter().filter(|s| !is_map(s) && names_of(s).is_empty()) {
            let text = describe_simple(variant);
            if !parts.contains(&text) {
                parts.push(text);
            }
        }
        parts.extend(self.describe_maps(&variants));
        parts.join(", or ")
    }

    fn describe_maps(&self, variants: &[&Json]) -> Option<String> {
        let maps: Vec<&Json> = variants.iter().copied().filter(|s| is_map(s)).collect();
        let choices: Vec<&str> = maps.iter().filter_map(|s| choice_key(s)).collect();
        match (maps.as_slice(), tag(&maps)) {
            ([], _) => None,
            (_, Some(tag)) => {
                let known: Vec<&str> = maps.iter().flat_map(|s| tag_names(s, tag)).collect();
                Some(format!("a map with `{tag}`, one of {}", quoted_list(&known)))
            }
            (_, None) if choices.len() == maps.len() && choices.len() > 1 => {
                Some(format!("a map with exactly one of {}", quoted_list(&choices)))
            }
            (_, None) => {
                let keys: Vec<&str> = maps.iter().flat_map(|s| self.keys(s)).collect();
                Some(if keys.is_empty() { "a map".to_owned() } else { format!("a map with keys among {}", quoted_list(&keys)) })
            }
        }
    }
}

/// Whether a schema is that of a map.
pub(super) fn is_map(schema: &Json) -> bool {
    allows(schema, "object") || schema.get("properties").is_some()
}

/// Whether a schema allows a JSON type.
pub(super) fn allows(schema: &Json, name: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(one)) => one == name,
        Some(Json::Array(many)) => many.iter().any(|t| t.as_str() == Some(name)),
        _ => false,
    }
}

/// The fixed texts that a scalar schema allows.
pub(super) fn names_of(schema: &Json) -> Vec<&str> {
    let constant = schema.get("const").and_then(Json::as_str);
    let listed = schema.get("enum").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
    constant.into_iter().chain(listed).collect()
}

fn names<'a>(schema: &&'a Json) -> Vec<&'a str> {
    names_of(schema)
}

/// The only key of a map that must hold exactly that key.
pub(super) fn choice_key(schema: &Json) -> Option<&str> {
    let properties = schema.get("properties")?.as_object()?;
    let required = schema.get("required")?.as_array()?;
    let key = properties.keys().next()?;
    (properties.len() == 1 && required.len() == 1 && names_of(&properties[key]).is_empty()).then_some(key.as_str())
}

/// The key that tells these maps apart, by a fixed text or by the family of a name.
pub(super) fn tag<'a>(maps: &[&'a Json]) -> Option<&'a str> {
    let (first, rest) = maps.split_first()?;
    let properties = first.get("properties")?.as_object()?;
    let is_tag = |s: &Json, key: &str| {
        let property = s.get("properties").and_then(|p| p.get(key));
        property.is_some_and(|p| !names_of(p).is_empty() || p.get(FAMILY).is_some())
    };
    properties.keys().find(|key| is_tag(first, key) && rest.iter().all(|s| is_tag(s, key))).map(String::as_str)
}

/// The texts of a tag in one map; for a family of names, the word that they begin with.
pub(super) fn tag_names<'a>(schema: &'a Json, tag: &str) -> Vec<&'a str> {
    match family(schema, tag) {
        Some(family) => vec![family],
        None => schema.get("properties").and_then(|p| p.get(tag)).map(names_of).unwrap_or_default(),
    }
}

/// Whether a map is the one that a text of its tag stands for.
pub(super) fn is_tagged(schema: &Json, tag: &str, text: &str) -> bool {
    match family(schema, tag) {
        Some(family) => text.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '/'])),
        None => tag_names(schema, tag).contains(&text),
    }
}

/// Marks a tag that many names share: they begin with this word, alone or before `-` or `/`.
const FAMILY: &str = "x-family";

/// The word that all names of a tag begin with, where it is the tag of a family.
pub(super) fn family<'a>(schema: &'a Json, tag: &str) -> Option<&'a str> {
    schema.get("properties")?.get(tag)?.get(FAMILY)?.as_str()
}

/// Known names of a family, as they may be written.
pub(super) fn family_names<'a>(schema: &'a Json, tag: &str) -> Vec<&'a str> {
    let examples = schema.get("properties").and_then(|p| p.get(tag)?.get("examples")?.as_array());
    examples.into_iter().flatten().filter_map(Json::as_str).collect()
}

fn describe_simple(schema: &Json) -> String {
    if let Some(kind) = schema.get("x-scalar").and_then(Json::as_str).and_then(scalar::kind) {
        return kind.expected.to_owned();
    }
    if allows(schema, "array") {
        return match schema.get("items").filter(|i| allows(i, "number")) {
            Some(_) => "a list of numbers".to_owned(),
            None => "a list".to_owned(),
        };
    }
    if allows(schema, "string") {
        "text".to_owned()
    } else if allows(schema, "integer") {
        "a whole number".to_owned()
    } else if allows(schema, "number") {
        "a number such as `0.5` or `1e-3`".to_owned()
    } else if allows(schema, "boolean") {
        "`true` or `false`".to_owned()
    } else {
        "a value".to_owned()
    }
}
