//! One tree from several texts: the file, its bases, `${ENV}` and `--set`.
//!
//! Input: a path and a way to read. Output: the merged tree, every node still knowing the text that it stands in. Bases are
//! read first, so that the keys of a file replace those of its base, and `--set` both. The rules:
//!
//! - maps merge key by key, lists are replaced, `null` removes a key;
//! - a map that holds exactly one of several keys (`budget`, `keep`, `by`) is replaced as a whole, because two of
//!   them at once are an error; so is a map whose name is of another family than the one below (`image_encoder`);
//! - `sweep` is taken whole; `experiment`, `question`, `source`, `expected`, `tables` and `claims` are not inherited;
//! - a path in a file is relative to that file.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::LoadOptions;
use super::diagnostic::{Code, Diagnostic, Diagnostics};
use super::parse;
use super::schema::Document;
use super::source::{FileId, Sources, Span};
use super::tree::{Entry, Node, Tree};

const NOT_INHERITED: [&str; 8] = ["experiment", "question", "source", "expected", "base", "tables", "claims", "fits"];

/// The merged tree of one experiment.
pub(super) struct Composed {
    pub tree: Node,
    /// Start of the file that was asked for: where whole missing sections are reported.
    pub start: Span,
    /// Paths that `--set` stated, with their places.
    pub overrides: Vec<(Vec<String>, Span)>,
}

/// Reads and merges; collects problems.
pub(super) struct Composer<'a> {
    pub options: &'a LoadOptions<'a>,
    pub sources: &'a mut Sources,
    pub diagnostics: &'a mut Diagnostics,
}

impl Composer<'_> {
    /// Reads a file with all its bases.
    pub fn file(&mut self, path: &Path) -> Option<Composed> {
        let text = self.read(path, None)?;
        self.text(path, text)
    }

    /// The same for a text at hand.
    pub fn text(&mut self, path: &Path, text: String) -> Option<Composed> {
        let (mut tree, start) = self.layered(path, text, &mut vec![normal(path)])?;
        keep_null_labels(&mut tree, false);
        strip_nulls(&mut tree);
        Some(Composed { tree, start, overrides: Vec::new() })
    }

    fn read(&mut self, path: &Path, stated_at: Option<Span>) -> Option<String> {
        let problem = match (self.options.read)(path) {
            Ok(text) => return Some(text),
            Err(error) => format!("cannot read `{}`: {error}", path.display()),
        };
        let (code, hint) = match stated_at {
            Some(_) => (Code::Base, Some("paths are relative to the file that states them".to_owned())),
            None => (Code::Read, None),
        };
        self.diagnostics.error(Diagnostic { code, message: problem, span: stated_at, notes: Vec::new(), hint });
        None
    }

    fn layered(&mut self, path: &Path, text: String, chain: &mut Vec<PathBuf>) -> Option<(Node, Span)> {
        let file = self.sources.add_file(path, text);
        let mut tree = parse::parse(self.sources, file, self.diagnostics)?;
        let start = Span::start_of(file);
        self.substitute(&mut tree);
        if tree.entries().is_none() {
            let message = format!("found {}, expected a map of keys such as `data`, `model`, `train`", tree.describe());
            self.diagnostics.error(Diagnostic::new(Code::Type, tree.span, message));
            return None;
        }
        let Some(base) = tree.child("base").filter(|b| !b.is_null()).cloned() else { return Some((tree, start)) };
        let base = self.base(&base, chain)?;
        let merged = merge(Document::experiment(), &[Document::experiment().root()], inherited(base, &tree), tree);
        Some((merged, start))
    }

    fn base(&mut self, stated: &Node, chain: &mut Vec<PathBuf>) -> Option<Node> {
        let Some(text) = stated.text() else {
            let message = format!("`base`: found {}, expected a path", stated.describe());
            self.diagnostics.error(Diagnostic::new(Code::Base, stated.span, message).hint("a base may name a base of its own"));
            return None;
        };
        let path = PathBuf::from(self.sources.join(stated.span.file, text));
        if let Some(first) = chain.iter().position(|p| *p == normal(&path)) {
            let mut names: Vec<String> = chain[first..].iter().map(|p| format!("`{}`", p.display())).collect();
            names.push(format!("`{}`", path.display()));
            let message = format!("`base` goes round in a circle: {}", names.join(" -> "));
            self.diagnostics.error(Diagnostic::new(Code::Base, stated.span, message).hint("remove one `base:` of the circle"));
            return None;
        }
        let text = self.read(&path, Some(stated.span))?;
        chain.push(normal(&path));
        let tree = self.layered(&path, text, chain);
        chain.pop();
        tree.map(|(tree, _)| tree)
    }

    /// Replaces `${NAME}` and `${NAME:-default}` in every scalar; `$${` stands for `${`.
    fn substitute(&mut self, node: &mut Node) {
        let span = node.span;
        match &mut node.value {
            Tree::List(items) => items.iter_mut().for_each(|n| self.substitute(n)),
            Tree::Map(entries) => entries.iter_mut().for_each(|e| self.substitute(&mut e.value)),
            Tree::Scalar(scalar) if scalar.text.contains("${") => match expand_env(&scalar.text, self.options.env) {
                Ok(text) => scalar.template = Some(std::mem::replace(&mut scalar.text, text)),
                Err(EnvError { message, hint }) => {
                    scalar.is_broken = true;
                    self.diagnostics.error(Diagnostic::new(Code::Env, span, message).hint(hint));
                }
            },
            Tree::Scalar(_) => {}
        }
    }

    /// Applies `--set` texts in order.
    pub fn apply_overrides(&mut self, composed: &mut Composed) {
        let mut first = None;
        for text in &self.options.set {
            let file = self.sources.add_override(text);
            let whole = Span { file, start: 0, end: u32::try_from(text.len()).unwrap_or(u32::MAX) };
            let Some((path, _)) = text.split_once('=').filter(|(path, _)| !path.trim().is_empty()) else {
                let problem = Diagnostic::new(Code::Set, whole, format!("found `{text}`, expected `key.path=value`"));
                self.diagnostics.error(problem.hint("for example `--set train.lr=1e-3`"));
                continue;
            };
            let keys: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
            let key_span = Span { end: u32::try_from(path.len()).unwrap_or(u32::MAX), ..whole };
            // Spaces in place of the key keep every column of the value where the user typed it.
            let padded = format!("{}{}", " ".repeat(path.len() + 1), &text[path.len() + 1..]);
            let Some(mut value) = parse::parse_text(&padded, file, self.diagnostics) else { continue };
            if padded.trim().is_empty() {
                value = Node::plain("", key_span);
            }
            self.substitute(&mut value);
            if keys[0] == "base" {
                self.diagnostics.error(Diagnostic::new(Code::Set, key_span, "`base` cannot be set from outside"));
                continue;
            }
            let schemas = [Document::experiment().root()];
            let setter =
                Setter { document: Document::experiment(), key_span, merges: true, later: Some(*first.get_or_insert(file)) };
            match setter.set(&mut composed.tree, &keys, 0, &schemas, value) {
                Ok(()) => composed.overrides.push((keys, key_span)),
                Err(message) => self.diagnostics.error(Diagnostic::new(Code::Set, key_span, message)),
            }
        }
        keep_null_labels(&mut composed.tree, false);
        strip_nulls(&mut composed.tree);
    }
}

/// The same text for the same file, as far as the text alone allows: what a circle of bases is recognised by.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|c| !matches!(c, std::path::Component::CurDir)).collect()
}

fn inherited(mut base: Node, over: &Node) -> Node {
    if let Tree::Map(entries) = &mut base.value {
        let states_sweep = over.child("sweep").is_some();
        entries.retain(|e| !(NOT_INHERITED.contains(&e.key.as_str()) || states_sweep && e.key == "sweep"));
    }
    base
}

/// Merges `over` onto `base`, which both have one of these schemas.
pub(super) fn merge(document: &Document, schemas: &[&Json], base: Node, over: Node) -> Node {
    let is_choice = schemas.iter().any(|s| document.is_choice(s));
    let base = match schemas.iter().find_map(|s| document.shorthand(s)) {
        Some(name) if base.text().is_some() && !base.is_null() && over.entries().is_some() => {
            Node::singleton(name, base.span, base)
        }
        _ => base,
    };
    let is_choice = is_choice || is_renamed(document, schemas, &base, over.child(NAME));
    match (base.value, over.value) {
        (Tree::Map(mut below), Tree::Map(above)) if !is_choice => {
            for entry in above {
                let children: Vec<&Json> = schemas.iter().flat_map(|s| document.children(s, &entry.key)).collect();
                match below.iter().position(|e| e.key == entry.key) {
                    Some(idx) => {
                        let old = below.remove(idx);
                        let value = merge(document, &children, old.value, entry.value);
                        below.insert(idx, Entry { value, ..entry });
                    }
                    None => below.push(entry),
                }
            }
            Node { value: Tree::Map(below), span: over.span }
        }
        (_, value) => Node { value, span: over.span },
    }
}

/// The key of the name that families of maps are told apart by.
const NAME: &str = "name";

/// Whether a name is of another family than that of the map which it would stand in.
fn is_renamed(document: &Document, schemas: &[&Json], map: &Node, name: Option<&Node>) -> bool {
    let names = map.child(NAME).and_then(Node::text).zip(name.and_then(Node::text));
    names.is_some_and(|(old, new)| document.is_other_family(schemas, NAME, old, new))
}

/// Where an axis path has a label, `null` is the label of the axis value that is written so, and removes nothing.
fn keep_null_labels(node: &mut Node, has_labels: bool) {
    const STATEMENTS: [&str; 5] = ["tables", "claims", "fits", "when", "exclude"];
    match &mut node.value {
        Tree::Map(entries) => {
            for entry in entries {
                if has_labels && entry.key.contains('.') {
                    name_null(&mut entry.value);
                }
                keep_null_labels(&mut entry.value, has_labels || STATEMENTS.contains(&entry.key.as_str()));
            }
        }
        Tree::List(items) => items.iter_mut().for_each(|item| keep_null_labels(item, has_labels)),
        Tree::Scalar(_) => {}
    }
}

fn name_null(node: &mut Node) {
    let is_null = node.is_null();
    match &mut node.value {
        Tree::Scalar(scalar) if is_null && !scalar.text.is_empty() => {
            "null".clone_into(&mut scalar.text);
            scalar.quoted = true;
        }
        Tree::List(items) => items.iter_mut().for_each(name_null),
        Tree::Scalar(_) | Tree::Map(_) => {}
    }
}

/// Removes keys whose value is nothing.
fn strip_nulls(node: &mut Node) {
    match &mut node.value {
        Tree::Map(entries) => {
            entries.retain(|e| !e.value.is_null());
            entries.iter_mut().for_each(|e| strip_nulls(&mut e.value));
        }
        Tree::List(items) => items.iter_mut().for_each(strip_nulls),
        Tree::Scalar(_) => {}
    }
}

/// Puts the value of an axis at a path of a tree that has one of these schemas.
pub(super) fn put(document: &Document, schemas: &[&Json], node: &mut Node, keys: &[String], value: &Node) {
    let setter = Setter { document, key_span: value.span, merges: false, later: None };
    // Axis paths were checked against the schema, which has no list on any of them.
    if setter.set(node, keys, 0, schemas, value.clone()).is_ok() {
        strip_nulls(node);
    }
}

/// Puts one value into a tree: merged as a file on top would be, or in place of what is there.
struct Setter<'a> {
    document: &'a Document,
    key_span: Span,
    merges: bool,
    /// The first of the overrides: what they state stays where one of them gives the map a name of another family.
    later: Option<FileId>,
}

impl Setter<'_> {
    fn set(&self, node: &mut Node, keys: &[String], depth: usize, schemas: &[&Json], value: Node) -> Result<(), String> {
        let Some(key) = keys.get(depth) else {
            let old = std::mem::replace(node, Node::plain("", self.key_span));
            *node = if self.merges { merge(self.document, schemas, old, value) } else { value };
            return Ok(());
        };
        if let Tree::List(items) = &mut node.value {
            let place = keys[..depth].join(".");
            let idx =
                key.parse::<usize>().map_err(|_| format!("`{place}` is a list: found `{key}`, expected a position from 0"))?;
            let len = items.len();
            let item = items.get_mut(idx).ok_or_else(|| format!("`{place}` is a list of {len}, so it has no position {idx}"))?;
            return self.set(item, keys, depth + 1, &[], value);
        }
        // Beneath `grid` and `zip` a key is a whole dotted axis path.
        let is_axis = keys[0] == "sweep" && depth > 1 && matches!(keys[depth - 1].as_str(), "grid" | "zip");
        let (key, next) = if is_axis { (keys[depth..].join("."), keys.len()) } else { (key.clone(), depth + 1) };
        let children: Vec<&Json> = schemas.iter().flat_map(|s| self.document.children(s, &key)).collect();
        let is_choice = schemas.iter().any(|s| self.document.is_choice(s));
        if is_choice && node.entries().is_some_and(|e| e.iter().any(|e| e.key != key)) {
            node.value = Tree::Map(Vec::new());
        }
        if let Some(name) =
            schemas.iter().find_map(|s| self.document.shorthand(s)).filter(|_| node.text().is_some() && !node.is_null())
        {
            *node = Node::singleton(name, node.span, node.clone());
        }
        if !matches!(node.value, Tree::Map(_)) {
            *node = Node { value: Tree::Map(Vec::new()), span: self.key_span };
        }
        let is_renamed = next == keys.len() && key == NAME && is_renamed(self.document, schemas, node, Some(&value));
        let Tree::Map(entries) = &mut node.value else { return Ok(()) };
        if is_renamed {
            entries.retain(|e| e.key == key || self.later.is_some_and(|first| e.key_span.file >= first));
        }
        let idx = entries.iter().position(|e| e.key == key).unwrap_or_else(|| {
            entries.push(Entry { key: key.clone(), key_span: self.key_span, value: Node::plain("", self.key_span) });
            entries.len() - 1
        });
        if next == keys.len() {
            entries[idx].key_span = self.key_span;
        }
        self.set(&mut entries[idx].value, keys, next, &children, value)
    }
}

struct EnvError {
    message: String,
    hint: String,
}

fn expand_env(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, EnvError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at]);
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let close = rest[at..].find('}').ok_or_else(|| EnvError {
            message: format!("`{}` is not closed", &rest[at..]),
            hint: "write `${NAME}`, or `$${` where `${` itself is meant".to_owned(),
        })? + at;
        let inner = &rest[at + 2..close];
        let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
        let is_name = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
        if !is_name || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let message = format!("found `${{{inner}}}`, expected `${{NAME}}` or `${{NAME:-default}}`");
            return Err(EnvError { message, hint: "names are letters, digits and `_`".to_owned() });
        }
        match env(name).or_else(|| default.map(str::to_owned)) {
            Some(value) => out.push_str(&value),
            None => {
                let message = format!("environment variable `{name}` is not set");
                return Err(EnvError { message, hint: format!("set it, or give a default as in `${{{name}:-data}}`") });
            }
        }
        rest = &rest[close + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
