//! Which module of the crate imports which: read from the sources, tests left out.
//!
//! Sees `use` trees of any nesting, `crate::`, `self::` and `super::` paths in code, inline modules, and re-exports: a name that a
//! module only hands on belongs to the module that defines it. A module and those inside it may use each other; what is looked
//! at is where paths lead from one module to another beside it, or to one within that.

use std::collections::{BTreeMap, BTreeSet};

/// Names of modules from the root of the crate on; the root itself is empty.
pub type Place = Vec<String>;

/// What a module holds that matters here.
#[derive(Default)]
struct Module {
    /// Paths that its code names, from the root of the crate on.
    paths: Vec<Place>,
    /// Where names come from that its `use` declarations bind.
    bound: BTreeMap<String, Place>,
}

/// All modules of a crate.
#[derive(Default)]
pub struct Crate {
    modules: BTreeMap<Place, Module>,
}

impl Crate {
    /// Reads a crate from its root on; `text` gives the source of a module that has a file of its own.
    pub fn read(text: &dyn Fn(&[String]) -> Option<String>) -> Self {
        let mut found = Self::default();
        found.add_file(Vec::new(), text);
        found
    }

    fn add_file(&mut self, place: Place, text: &dyn Fn(&[String]) -> Option<String>) {
        let source = text(&place).unwrap_or_else(|| panic!("module {} has no file", name(&place)));
        let tokens = without_tests(tokens(&source));
        self.add(place, &tokens, text);
    }

    fn add(&mut self, place: Place, tokens: &[String], text: &dyn Fn(&[String]) -> Option<String>) {
        let mut module = Module::default();
        let mut uses = Vec::new();
        let mut children = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let next = |by: usize| tokens.get(at + by).map_or("", String::as_str);
            match tokens[at].as_str() {
                "mod" if next(2) == ";" || next(2) == "{" => {
                    let child = [place.clone(), vec![next(1).to_string()]].concat();
                    children.push(child.clone());
                    if next(2) == ";" {
                        self.add_file(child, text);
                        at += 3;
                    } else {
                        let end = closing(tokens, at + 2);
                        self.add(child, &tokens[at + 3..end], text);
                        at = end + 1;
                    }
                }
                // Not `impl Trait + use<'a>`.
                "use" if next(1) != "<" => {
                    let end = at + tokens[at..].iter().position(|token| token == ";").expect("a use ends");
                    leaves(&tokens[at + 1..end], &[], &mut uses);
                    at = end + 1;
                }
                // `pub(in super::super)` says who sees, not what is used.
                "crate" | "self" | "super" if next(1) == "::" && (at == 0 || tokens[at - 1] != "in") => {
                    let mut path = vec![tokens[at].clone()];
                    while tokens.get(at + 1).is_some_and(|token| token == "::") && tokens.get(at + 2).is_some_and(|t| is_name(t)) {
                        path.push(tokens[at + 2].clone());
                        at += 2;
                    }
                    module.paths.extend(absolute(&place, &path));
                    at += 1;
                }
                _ => at += 1,
            }
        }
        for (path, bound) in uses {
            let is_child = |name: &String| children.iter().any(|child| child.last() == Some(name));
            let path =
                if path.first().is_some_and(is_child) { Some([place.clone(), path].concat()) } else { absolute(&place, &path) };
            let Some(path) = path else { continue };
            module.paths.push(path.clone());
            if let Some(bound) = bound {
                module.bound.insert(bound, path);
            }
        }
        self.modules.insert(place, module);
    }

    /// The module that defines what a path names.
    fn owner(&self, path: &[String], passes: usize) -> Place {
        let mut at = Place::new();
        for (idx, name) in path.iter().enumerate() {
            let deeper = [at.clone(), vec![name.clone()]].concat();
            if self.modules.contains_key(&deeper) {
                at = deeper;
                continue;
            }
            let Some(from) = self.modules.get(&at).and_then(|module| module.bound.get(name)) else { break };
            // A name bound to itself or in a ring of re-exports would go on for ever.
            if passes == 0 || from.as_slice() == path {
                break;
            }
            return self.owner(&[from.clone(), path[idx + 1..].to_vec()].concat(), passes - 1);
        }
        at
    }

    /// Every module with each module that it uses.
    pub fn uses(&self) -> BTreeSet<(Place, Place)> {
        let paths = self.modules.iter().flat_map(|(place, module)| module.paths.iter().map(move |path| (place, path)));
        paths.map(|(place, path)| (place.clone(), self.owner(path, 16))).filter(|(from, to)| from != to).collect()
    }

    /// Groups of neighbours (modules within the same one) each of which leads to every other.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let mut edges: BTreeMap<Place, BTreeSet<Place>> = BTreeMap::new();
        for (from, to) in self.uses() {
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if common < from.len() && common < to.len() {
                edges.entry(from[..=common].to_vec()).or_default().insert(to[..=common].to_vec());
            }
        }
        let reached = |start: &Place| {
            let (mut seen, mut left) = (BTreeSet::new(), vec![start.clone()]);
            while let Some(place) = left.pop() {
                for next in edges.get(&place).into_iter().flatten() {
                    if seen.insert(next.clone()) {
                        left.push(next.clone());
                    }
                }
            }
            seen
        };
        let reach: BTreeMap<&Place, BTreeSet<Place>> = edges.keys().map(|place| (place, reached(place))).collect();
        let mut circles = BTreeSet::new();
        for (place, from_here) in &reach {
            if from_here.contains(*place) {
                let members = reach.iter().filter(|(other, back)| from_here.contains(**other) && back.contains(*place));
                circles.insert(members.map(|(other, _)| name(other)).collect::<Vec<_>>());
            }
        }
        circles.into_iter().collect()
    }
}

/// As in a path.
pub fn name(place: &[String]) -> String {
    place.join("::")
}

/// A path from the root of the crate on; `None` for one into another crate.
fn absolute(place: &[String], path: &[String]) -> Option<Place> {
    let mut base = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" => place.to_vec(),
        "super" => place.split_last()?.1.to_vec(),
        _ => return None,
    };
    let mut rest = &path[1..];
    while rest.first().is_some_and(|name| name == "super") {
        base.pop()?;
        rest = &rest[1..];
    }
    base.extend(rest.iter().filter(|name| *name != "self").cloned());
    Some(base)
}

/// The paths of a `use` tree, each with the name that it binds (none for `*` and `_`).
fn leaves(tree: &[String], before: &[String], found: &mut Vec<(Place, Option<String>)>) {
    let mut path = before.to_vec();
    let mut at = 0;
    while at < tree.len() {
        match tree[at].as_str() {
            "{" => {
                let end = closing(tree, at);
                let mut start = at + 1;
                let mut inner = start;
                while inner <= end {
                    match tree[inner].as_str() {
                        "{" => inner = closing(tree, inner),
                        "," | "}" if inner > start => {
                            leaves(&tree[start..inner], &path, found);
                            start = inner + 1;
                        }
                        "," | "}" => start = inner + 1,
                        _ => {}
                    }
                    inner += 1;
                }
                return;
            }
            "*" => return found.push((path, None)),
            "as" => {
                let alias = tree.get(at + 1).filter(|name| *name != "_").cloned();
                return found.push((path, alias));
            }
            "::" => {}
            name => path.push(name.to_string()),
        }
        at += 1;
    }
    let bound = path.iter().rev().find(|name| *name != "self").cloned();
    found.push((path, bound));
}

/// The index of the bracket that closes the one at `open`.
fn closing(tokens: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (idx, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return idx;
        }
    }
    panic!("a bracket is not closed: {}", tokens[open..].join(" "));
}

/// Leaves out what stands under `#[cfg(test)]`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().take(MARK.len()).eq(MARK) {
            at = end_of_item(&tokens, at + MARK.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The index after an item or a statement, its further attributes included.
fn end_of_item(tokens: &[String], mut at: usize) -> usize {
    while tokens[at] == "#" {
        at = closing(tokens, at + 1) + 1;
    }
    let is_block = !tokens[at..].iter().take(3).any(|token| matches!(token.as_str(), "use" | "static" | "type" | "let"));
    while at < tokens.len() {
        match tokens[at].as_str() {
            ";" => return at + 1,
            "{" if is_block => return closing(tokens, at) + 1,
            "{" | "(" | "[" => at = closing(tokens, at),
            _ => {}
        }
        at += 1;
    }
    at
}

fn is_name(token: &str) -> bool {
    token.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Names, `::` and single marks; comments, literals and lifetimes are left out.
fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        match rest {
            ['/', '/', ..] => at += rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => at += block_comment(rest),
            ['"', ..] | ['b' | 'c', '"', ..] => at += string(rest),
            ['r', '"' | '#', ..] | ['b' | 'c', 'r', '"' | '#', ..] if raw_string(rest).is_some() => {
                at += raw_string(rest).unwrap_or(1);
            }
            ['\'', '\\', ..] => at += 2 + rest[2..].iter().skip(1).position(|c| *c == '\'').map_or(1, |end| end + 2),
            ['\'', _, '\'', ..] => at += 3,
            ['\'', ..] => at += 1 + rest[1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count(),
            [':', ':', ..] => {
                found.push("::".to_string());
                at += 2;
            }
            [c, ..] if c.is_alphanumeric() || *c == '_' => {
                let word: String = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
                at += word.chars().count();
                found.push(word);
            }
            [c, ..] => {
                if !c.is_whitespace() {
                    found.push(c.to_string());
                }
                at += 1;
            }
            [] => unreachable!("the loop ends before"),
        }
    }
    found
}

fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string(chars: &[char]) -> usize {
    let mut at = 1 + chars.iter().position(|c| *c == '"').unwrap_or(0);
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of a raw string; `None` where this is a raw name or a name that begins so.
fn raw_string(chars: &[char]) -> Option<usize> {
    let hashes = chars.iter().skip_while(|c| c.is_alphabetic()).take_while(|c| **c == '#').count();
    let quote = chars.iter().position(|c| *c == '"')?;
    if chars[..quote].iter().any(|c| !matches!(c, 'b' | 'c' | 'r' | '#')) {
        return None;
    }
    let is_end = |at: usize| chars[at] == '"' && (1..=hashes).all(|by| chars.get(at + by) == Some(&'#'));
    (quote + 1..chars.len()).find(|at| is_end(*at)).map(|at| at + 1 + hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate whose modules with files are these.
    fn made_of(files: &[(&str, &str)]) -> Crate {
        let text = |place: &[String]| files.iter().find(|(path, _)| *path == name(place)).map(|(_, text)| (*text).to_string());
        Crate::read(&text)
    }

    fn uses(files: &[(&str, &str)]) -> Vec<String> {
        let found = made_of(files).uses();
        found.iter().map(|(from, to)| format!("{} {}", name(from), name(to))).filter(|use_| !use_.ends_with(' ')).collect()
    }

    #[test]
    fn paths_are_seen_however_they_are_written() {
        let root = ("", "mod a; mod b; mod c;");
        let rest = [("b", "pub struct T; pub mod deep { pub fn f() {} }"), ("c", "")];
        for text in [
            "use crate::b::T;",
            "use crate::{c, b::{self, T as U}};",
            "use super::{std_like, b};",
            "fn f() { super::b::T; }",
            "fn f(x: crate::b::T) {}",
            "mod inner { use super::super::b; }",
            "mod inner { fn f() { let x = 'a'; super::super::b::f::<'static>(\"}\"); } }",
            "macro_rules! m { () => { $crate::b::T } }",
            "#[cfg(test)] use crate::c; #[cfg(test)] mod tests { use crate::c; } use crate::b;",
            "#[cfg(test)]\n#[expect(dead_code)]\nfn only() { crate::c::f() } use crate::b;",
        ] {
            let found = uses(&[&[root, ("a", text)], &rest[..]].concat());
            assert!(found.iter().any(|use_| use_ == "a b" || use_ == "a::inner b"), "{text}: {found:?}");
            assert!(!text.contains("cfg(test)") || found.iter().all(|use_| !use_.contains('c')), "{text}: {found:?}");
        }
        for text in [
            "// use crate::b;\n/* super::b::T /* */ crate::b */ const S: &str = \"crate::b\";",
            "const S: &str = r#\"use \"crate::b\";\"#; pub(in crate::b) fn f() {}",
            "use std::path::{Path, PathBuf}; fn f() -> impl Sized + use<> {}",
        ] {
            assert_eq!(uses(&[&[root, ("a", text)], &rest[..]].concat()), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_name_that_is_handed_on_belongs_to_the_module_that_defines_it() {
        let files = [
            ("", "mod room;"),
            ("room", "mod a; mod b; pub use a::{Thing, Other as Renamed};"),
            ("room::a", "pub struct Thing; pub struct Other; use super::b::helper;"),
            ("room::b", "use super::Renamed; pub fn helper() {}"),
        ];
        assert!(uses(&files).contains(&"room::b room::a".to_string()));
        assert_eq!(made_of(&files).circles(), [["room::a", "room::b"]]);
    }

    #[test]
    fn circles_are_found_at_every_depth_and_a_parent_is_no_circle() {
        let files = [
            ("", "mod x; mod y;"),
            ("x", "mod p; mod q; mod r; pub struct Shared; use p::go;"),
            ("x::p", "use super::{Shared, q::step}; pub fn go() {}"),
            ("x::q", "pub fn step() { super::r::jump() }"),
            ("x::r", "use super::p::go; pub fn jump() {}"),
            ("y", "use crate::x::Shared;"),
        ];
        assert_eq!(made_of(&files).circles(), [["x::p", "x::q", "x::r"]]);
        let mended: Vec<_> = files.into_iter().map(|(path, text)| (path, if path == "x::r" { "" } else { text })).collect();
        assert_eq!(made_of(&mended).circles(), Vec::<Vec<String>>::new());
    }
}
