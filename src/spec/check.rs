//! The structural check: a tree against the schema, all problems at once, each at its place.
//!
//! Input: a node and a schema of the typed structs. Output: problems, and where there are none the same value, clean:
//! every scalar typed by what is expected of it, names expanded to the maps that they are short for, paths made relative to
//! the current directory. What the values mean together is checked elsewhere.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};
use serde_yaml::{Mapping, Value as Yaml};

use super::diagnostic::{Code, Diagnostic, Diagnostics, did_you_mean, nearest, quoted_list};
use super::scalar;
use super::schema::{Document, allows, choice_key, family, family_names, is_map, is_tagged, names_of, tag, tag_names};
use super::source::{Sources, Span};
use super::tree::{Entry, Node, Scalar, Tree};
use crate::run::counted;

/// A key path on the stack, for messages.
#[derive(Clone, Copy)]
pub(super) enum KeyPath<'a> {
    Root,
    Key(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl KeyPath<'_> {
    /// The last key, without those that stand before it in a dotted path.
    fn last_key(&self) -> &str {
        match self {
            Self::Root => "",
            Self::Key(_, key) => key.rsplit('.').next().unwrap_or_default(),
            Self::Index(parent, _) => parent.last_key(),
        }
    }
}

impl std::fmt::Display for KeyPath<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, idx) => write!(f, "{parent}[{idx}]"),
        }
    }
}

/// What the check needs beside node and schema.
pub(super) struct Checker<'a> {
    pub document: &'a Document,
    pub sources: &'a Sources,
    pub diagnostics: &'a mut Diagnostics,
    /// Whether a missing key is no problem, because an axis sets it.
    pub is_covered: &'a dyn Fn(&str) -> bool,
}

/// A node, the place that a missing key of it is reported at, and its key path.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub node: &'a Node,
    pub at: Span,
    pub path: KeyPath<'a>,
}

impl Checker<'_> {
    /// Checks one value; its clean form if nothing is wrong with it.
    pub fn check(&mut self, here: Cursor<'_>, schema: &Json) -> Option<Yaml> {
        let schema = self.document.resolve(schema);
        if matches!(&here.node.value, Tree::Scalar(Scalar { is_broken: true, .. })) {
            return None;
        }
        if matches!(here.node.value, Tree::Map(_)) && self.document.variants(schema).iter().any(|s| s.get("x-axes").is_some()) {
            return Some(Yaml::Null);
        }
        if let (Tree::Scalar(_), false, Some(name)) = (&here.node.value, here.node.is_null(), self.document.shorthand(schema)) {
            let long = Node::singleton(name, here.node.span, here.node.clone());
            return self.map(Cursor { node: &long, at: here.node.span, ..here }, schema);
        }
        match &here.node.value {
            Tree::Scalar(scalar) => self.scalar(here, scalar, schema),
            Tree::List(items) => self.list(here, items, schema),
            Tree::Map(_) => self.map(here, schema),
        }
    }

    fn wrong(&mut self, here: Cursor<'_>, schema: &Json, why: &str) -> Option<Yaml> {
        let expected = self.document.describe(schema);
        let path = if matches!(here.path, KeyPath::Root) { String::new() } else { format!("`{}`: ", here.path) };
        let template = match &here.node.value {
            Tree::Scalar(Scalar { template: Some(template), .. }) => format!(" (from `{template}`)"),
            _ => String::new(),
        };
        let mut message = format!("{path}found {}{template}", here.node.describe());
        let (reason, guess) = why.split_once(": did you mean ").unwrap_or((why, ""));
        match (reason.contains("expected"), reason.is_empty()) {
            (true, _) => message = format!("{message}: {reason}"),
            (false, true) => message = format!("{message}, expected {expected}"),
            (false, false) => message = format!("{message}, expected {expected}: {reason}"),
        }
        let code = if reason.is_empty() { Code::Type } else { Code::Unit };
        let mut problem = Diagnostic::new(code, here.node.span, message);
        if !guess.is_empty() {
            problem.hint = Some(format!("did you mean {guess}"));
        } else if let Some(text) = here.node.text() {
            let variants = self.document.variants(schema);
            problem.hint = scalar_hint(text, &variants);
        }
        let takes_list = self.document.variants(schema).iter().all(|s| allows(s, "array"));
        if let (Some(text), true) = (here.node.text(), takes_list) {
            problem.hint = Some(format!("for one item write `[{text}]`"));
        }
        self.diagnostics.error(problem);
        None
    }

    fn scalar(&mut self, here: Cursor<'_>, scalar: &Scalar, schema: &Json) -> Option<Yaml> {
        if is_anything(schema) {
            return Some(Yaml::String(scalar.text.clone()));
        }
        if here.node.is_null() {
            return self.wrong(here, schema, "");
        }
        let variants = self.document.variants(schema);
        let mut why = String::new();
        for variant in variants.into_iter().filter(|s| !is_map(s) && !allows(s, "array")) {
            match self.typed(scalar, variant, here) {
                Ok(value) => return Some(value),
                Err(reason) if why.is_empty() => why = reason,
                Err(_) => {}
            }
        }
        self.wrong(here, schema, &why)
    }

    /// A scalar as one kind of value, or why not.
    fn typed(&self, scalar: &Scalar, schema: &Json, here: Cursor<'_>) -> Result<Yaml, String> {
        let text = scalar.text.as_str();
        if is_anything(schema) {
            return Ok(Yaml::String(text.to_owned()));
        }
        let fixed = names_of(schema);
        if !fixed.is_empty() {
            return if fixed.contains(&text) { Ok(Yaml::String(text.to_owned())) } else { Err(String::new()) };
        }
        let kind_name = schema.get("x-scalar").and_then(Json::as_str);
        let is_text = matches!(kind_name, Some("path" | "shards")) || (kind_name.is_none() && allows(schema, "string"));
        let is_quoted_number = scalar.quoted && scalar.template.is_none() && text.parse::<f64>().is_ok();
        if !is_text && is_quoted_number {
            return Err("the quotes make it text".to_owned());
        }
        if let Some(kind) = kind_name.and_then(scalar::kind) {
            let key = here.path.last_key();
            (kind.check)(text).map_err(|why| scalar::reworded(why, text, kind_name.unwrap_or_default(), key))?;
            return limits(schema, scalar::parse_any(text)).map(|()| Yaml::String(self.located(text, kind_name, here.node.span)));
        }
        if allows(schema, "boolean") && matches!(text, "true" | "false") {
            return if allows(schema, "string") { Ok(Yaml::from(text)) } else { Ok(Yaml::Bool(text == "true")) };
        }
        if allows(schema, "string") {
            // Text or a number: a label, which is written as labels of axes are.
            let is_label = allows(schema, "number");
            return Ok(Yaml::String(if is_label { scalar.label() } else { text }.to_owned()));
        }
        if allows(schema, "number") {
            let value = scalar::parse_quantity(text)?;
            limits(schema, Some(value))?;
            return Ok(Yaml::from(value));
        }
        if allows(schema, "integer") {
            let value = scalar::parse_count(text)?;
            limits(schema, scalar::parse_any(text))?;
            return Ok(Yaml::from(value));
        }
        Err(String::new())
    }

    /// Paths are made relative to the current directory; other text stays as it is.
    fn located(&self, text: &str, kind: Option<&str>, span: Span) -> String {
        match kind {
            Some("path") => self.sources.join(span.file, text),
            Some("shards") => {
                let parts: Vec<String> = super::brace::split_patterns(text).map(|p| self.sources.join(span.file, p)).collect();
                parts.join("::")
            }
            _ => text.to_owned(),
        }
    }

    fn list(&mut self, here: Cursor<'_>, items: &[Node], schema: &Json) -> Option<Yaml> {
        let variants = self.document.variants(schema);
        let Some(list) = variants.into_iter().find(|s| allows(s, "array") || is_anything(s)) else {
            return self.wrong(here, schema, "");
        };
        let bound = |key: &str| list.get(key).and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok());
        if bound("minItems").is_some_and(|min| items.len() < min) || bound("maxItems").is_some_and(|max| items.len() > max) {
            let expected = match (bound("minItems"), bound("maxItems")) {
                (Some(min), Some(max)) if min == max => format!("{min} items"),
                (Some(min), _) => format!("at least {}", counted(min, "item")),
                _ => "fewer items".to_owned(),
            };
            let message = format!("`{}`: found a list of {}, expected {expected}", here.path, items.len());
            self.diagnostics.error(Diagnostic::new(Code::Type, here.node.span, message));
            return None;
        }
        let fixed = list.get("prefixItems").and_then(Json::as_array);
        let other = list.get("items").unwrap_or(&Json::Bool(true));
        let mut out = Vec::with_capacity(items.len());
        for (idx, node) in items.iter().enumerate() {
            let item = fixed.and_then(|f| f.get(idx)).unwrap_or(other);
            out.push(self.check(Cursor { node, at: node.span, path: KeyPath::Index(&here.path, idx) }, item));
        }
        out.into_iter().collect::<Option<Vec<_>>>().map(Yaml::Sequence)
    }

    fn map(&mut self, here: Cursor<'_>, schema: &Json) -> Option<Yaml> {
        let variants = self.document.variants(schema);
        let maps: Vec<&Json> = variants.iter().copied().filter(|s| is_map(s)).collect();
        let entries = here.node.entries().unwrap_or_default();
        match (maps.as_slice(), tag(&maps)) {
            ([], _) if variants.iter().any(|s| is_anything(s)) => Some(plain(here.node)),
            ([], _) => self.wrong(here, schema, ""),
            ([one], tag) if tag.is_none_or(|tag| family(one, tag).is_none()) => self.object(here, one, &[]),
            (_, Some(tag)) => self.tagged(here, &maps, tag),
            (_, None) if maps.iter().all(|s| choice_key(s).is_some()) => self.choice(here, &maps),
            (_, None) => {
                let unknown = |s: &&&Json| entries.iter().filter(|e| self.document.children(s, &e.key).is_empty()).count();
                let best = maps.iter().min_by_key(unknown).expect("there are several");
                self.object(here, best, &[])
            }
        }
    }

    fn tagged(&mut self, here: Cursor<'_>, maps: &[&Json], tag: &str) -> Option<Yaml> {
        let known: Vec<&str> = maps.iter().flat_map(|s| tag_names(s, tag)).collect();
        let inside = inside(here.path);
        let Some(entry) = here.node.entry(tag) else {
            if !(self.is_covered)(&KeyPath::Key(&here.path, tag).to_string()) {
                let message = format!("missing key `{tag}`{inside}, expected one of {}", quoted_list(&known));
                self.diagnostics.error(Diagnostic::new(Code::MissingKey, here.at, message));
            }
            return None;
        };
        let found = entry.value.text().unwrap_or_default();
        if let Some(map) = maps.iter().find(|s| is_tagged(s, tag, found)) {
            return self.object(here, map, maps);
        }
        let path = KeyPath::Key(&here.path, tag);
        let names: Vec<&str> = maps.iter().flat_map(|s| family_names(s, tag)).collect();
        let sizes = names.first().map_or_else(String::new, |name| format!(", alone or with a size as in `{name}`"));
        let message = format!("unknown `{path}`: found {}, expected one of {}{sizes}", entry.value.describe(), quoted_list(&known));
        // A size is near whatever patch size follows it.
        let (word, patch) = found.find('/').map_or((found, ""), |at| found.split_at(at));
        let sizes = names.iter().filter_map(|name| name.split('/').next());
        let hint = match names.is_empty() {
            true => did_you_mean(found, known),
            false => nearest(word, known.into_iter().chain(sizes)).map(|name| format!("did you mean `{name}{patch}`?")),
        };
        self.diagnostics.error(Diagnostic::new(Code::Type, entry.value.span, message).maybe_hint(hint));
        None
    }

    fn choice(&mut self, here: Cursor<'_>, maps: &[&Json]) -> Option<Yaml> {
        let known: Vec<&str> = maps.iter().filter_map(|s| choice_key(s)).collect();
        let entries = here.node.entries().unwrap_or_default();
        let stated: Vec<&Entry> = entries.iter().filter(|e| known.contains(&e.key.as_str())).collect();
        let mut clean = true;
        for entry in entries.iter().filter(|e| !known.contains(&e.key.as_str())) {
            self.unknown_key(here.path, entry, &known);
            clean = false;
        }
        match stated.as_slice() {
            [] if clean => {
                let message = format!("`{}`: found an empty map, expected exactly one of {}", here.path, quoted_list(&known));
                self.diagnostics.error(Diagnostic::new(Code::MissingKey, here.node.span, message));
                None
            }
            [] => None,
            [one] => {
                let map = maps.iter().find(|s| choice_key(s) == Some(one.key.as_str())).expect("it is a known key");
                let value = self.entry(here, one, &map["properties"][&one.key]);
                clean.then_some(())?;
                value.map(|v| Yaml::Mapping(Mapping::from_iter([(one.key.as_str().into(), v)])))
            }
            [first, rest @ ..] => {
                let both: Vec<&str> = stated.iter().map(|e| e.key.as_str()).collect();
                let message =
                    format!("`{}`: found {}, expected exactly one of {}", here.path, quoted_list(&both), quoted_list(&known));
                let mut problem = Diagnostic::new(Code::Type, rest[0].key_span, message).note(first.key_span, "the other is here");
                problem.hint = Some("keep one of them".to_owned());
                self.diagnostics.error(problem);
                None
            }
        }
    }

    /// A map of one form; `siblings` are the forms that it might have had under another tag.
    fn object(&mut self, here: Cursor<'_>, schema: &Json, siblings: &[&Json]) -> Option<Yaml> {
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&empty);
        let other = schema.get("additionalProperties").filter(|s| s.is_object());
        let is_open = schema.get("additionalProperties").and_then(Json::as_bool) == Some(true)
            || (properties.is_empty() && schema.get("additionalProperties").is_none());
        let known: Vec<&str> = properties.keys().map(String::as_str).collect();
        let mut out = Mapping::new();
        let mut clean = true;
        for entry in here.node.entries().unwrap_or_default() {
            let value = match properties.get(&entry.key).or(other) {
                Some(schema) => self.entry(here, entry, schema),
                None if is_open => Some(plain(&entry.value)),
                None if siblings.iter().any(|s| s.pointer(&format!("/properties/{}", entry.key)).is_some()) => {
                    self.misplaced_key(here, entry, siblings, &known);
                    None
                }
                None => {
                    self.unknown_key(here.path, entry, &known);
                    None
                }
            };
            match value {
                Some(value) => drop(out.insert(entry.key.as_str().into(), value)),
                None => clean = false,
            }
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        for key in required.filter(|key| here.node.entry(key).is_none()) {
            self.missing_key(here, key, &properties[key]);
            clean = false;
        }
        clean.then_some(Yaml::Mapping(out))
    }

    fn entry(&mut self, here: Cursor<'_>, entry: &Entry, schema: &Json) -> Option<Yaml> {
        let path = KeyPath::Key(&here.path, &entry.key);
        // An empty value has no place of its own worth showing.
        self.check(Cursor { node: &entry.value, at: entry.key_span, path }, schema)
    }

    fn unknown_key(&mut self, path: KeyPath<'_>, entry: &Entry, known: &[&str]) {
        let message = format!("unknown key `{}`{}, expected one of {}", entry.key, inside(path), quoted_list(known));
        let mut problem = Diagnostic::new(Code::UnknownKey, entry.key_span, message);
        problem.hint = did_you_mean(&entry.key, known.iter().copied()).or_else(|| self.elsewhere(&entry.key));
        self.diagnostics.error(problem);
    }

    /// A key that belongs to the same map under another tag.
    fn misplaced_key(&mut self, here: Cursor<'_>, entry: &Entry, siblings: &[&Json], known: &[&str]) {
        let Some(tag) = tag(siblings) else { return };
        let found = here.node.child(tag).and_then(Node::text).unwrap_or_default();
        let has_key = |s: &&&Json| s.pointer(&format!("/properties/{}", entry.key)).is_some();
        let owners: Vec<&str> = siblings.iter().filter(has_key).flat_map(|s| tag_names(s, tag)).collect();
        let path = KeyPath::Key(&here.path, &entry.key);
        let message =
            format!("key `{}`{} does not go with `{found}`, expected one of {}", entry.key, inside(here.path), quoted_list(known));
        let is_from_axis = entry.key_span == entry.value.span;
        let is_from_base = here.node.entry(tag).is_some_and(|t| t.key_span.file != entry.key_span.file);
        let belongs = format!("it belongs to {}", quoted_list(&owners));
        let is_family = siblings.iter().any(|s| family(s, tag).is_some());
        let hint = if is_from_axis && is_family {
            format!("{belongs}; keep the axis to such names by a `when`, or write two members of a `union`")
        } else if is_from_axis {
            let tag_path = KeyPath::Key(&here.path, tag);
            let when = if let [one] = owners.as_slice() { (*one).to_owned() } else { format!("[{}]", owners.join(", ")) };
            format!("{belongs}; write the axis as `{path}: {{values: [..], when: {{{tag_path}: {}}}}}`", when)
        } else if is_from_base {
            format!("{belongs}; to drop what the base states, write `{}: null`", entry.key)
        } else {
            belongs
        };
        self.diagnostics.error(Diagnostic::new(Code::UnknownKey, entry.key_span, message).hint(hint));
    }

    /// Where a key that is not known here would be known.
    fn elsewhere(&self, key: &str) -> Option<String> {
        if key.contains('.') {
            let parts: Vec<&str> = key.split('.').collect();
            let nested = parts.iter().rev().fold("..".to_owned(), |inner, part| format!("{{ {part}: {inner} }}"));
            let is_path = self.document.at(&parts).is_ok();
            return is_path
                .then(|| format!("a dotted path is for axes and `--set`; here write `{}`", &nested[2..nested.len() - 2]));
        }
        let homes = self.document.homes(key);
        homes.first().map(|home| format!("it belongs at `{home}`"))
    }

    /// Reports a key that must be there.
    pub fn missing_key(&mut self, here: Cursor<'_>, key: &str, schema: &Json) {
        let path = KeyPath::Key(&here.path, key);
        if (self.is_covered)(&path.to_string()) {
            return;
        }
        let message = format!("missing key `{key}`{}, expected {}", inside(here.path), self.document.describe(schema));
        self.diagnostics.error(Diagnostic::new(Code::MissingKey, here.at, message));
    }
}

fn inside(path: KeyPath<'_>) -> String {
    if matches!(path, KeyPath::Root) { String::new() } else { format!(" in `{path}`") }
}

/// Whether a schema says nothing about the value.
fn is_anything(schema: &Json) -> bool {
    const WORDS: [&str; 8] = ["type", "const", "enum", "properties", "items", "anyOf", "oneOf", "$ref"];
    schema.as_bool() == Some(true) || schema.as_object().is_some_and(|s| WORDS.iter().all(|w| !s.contains_key(*w)))
}

fn limits(schema: &Json, value: Option<f64>) -> Result<(), String> {
    let Some(value) = value else { return Ok(()) };
    let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
    if let Some(min) = bound("minimum").filter(|min| value < *min) {
        return Err(format!("it is less than {min}"));
    }
    if let Some(min) = bound("exclusiveMinimum").filter(|min| value <= *min) {
        return Err(format!("it is not more than {min}"));
    }
    if let Some(max) = bound("maximum").filter(|max| value > *max) {
        return Err(format!("it is more than {max}"));
    }
    Ok(())
}

fn scalar_hint(text: &str, variants: &[&Json]) -> Option<String> {
    if variants.iter().any(|s| allows(s, "boolean")) && matches!(text.to_lowercase().as_str(), "yes" | "no" | "on" | "off") {
        return Some(format!("write `{}`", matches!(text.to_lowercase().as_str(), "yes" | "on")));
    }
    if variants.iter().any(|s| matches!(s.get("x-scalar").and_then(Json::as_str), Some("count" | "quantity"))) && text.contains('_')
    {
        return Some(format!("leave out the `_`: `{}`", text.replace('_', "")));
    }
    did_you_mean(text, variants.iter().flat_map(|s| names_of(s)))
}

/// A value as it is, every scalar as text.
pub(super) fn plain(node: &Node) -> Yaml {
    match &node.value {
        Tree::Scalar(scalar) => Yaml::String(scalar.text.clone()),
        Tree::List(items) => items.iter().map(plain).collect(),
        Tree::Map(entries) => Yaml::Mapping(entries.iter().map(|e| (e.key.as_str().into(), plain(&e.value))).collect()),
    }
}

/// A clean value as its type. A map of one key stands for a variant of an enum, as in JSON.
pub(super) fn typed<T: DeserializeOwned>(clean: Yaml) -> Result<T, serde_yaml::Error> {
    serde_yaml::with::singleton_map_recursive::deserialize(clean)
}
