//! The `sweep` node to sub-grids, with every problem at its place.
//!
//! `grid` and `zip` are leaves; `union` puts its members one after another, `product` takes every combination of them, and a
//! `grid` beside a `zip` is their product. Products of unions are written out, so that what is left is a union of products.

use super::super::diagnostic::{Code, Diagnostic, Diagnostics};
use super::super::scalar::parse_count;
use super::super::schema::Document;
use super::super::source::Span;
use super::super::tree::{Entry, Node, Tree};
use super::axes::Form;
use super::{SubGrid, Sweep, overlap};
use crate::run::{SeedPart, SeedParts};

/// Sub-grids that products of unions may come to.
const MAX_GRIDS: usize = 10_000;
/// Unions and products inside one another.
const MAX_DEPTH: usize = 32;
const MAX_SEEDS: u64 = 1_000_000;

/// Reads the sweep of a merged tree. Returns it with the places of its excludes, in the order of their counters.
pub(in crate::spec) fn read(tree: &Node, diagnostics: &mut Diagnostics) -> (Sweep, Vec<Span>) {
    let document = Document::experiment();
    let mut reader = Reader { tree, document, diagnostics, excludes: Vec::new(), places: Vec::new() };
    let Some(node) = tree.child("sweep").filter(|n| n.entries().is_some()) else {
        return (Sweep { seeds: vec![0], grids: vec![SubGrid::default()], ..Sweep::default() }, Vec::new());
    };
    let seeds = reader.seeds(node.child("seeds"));
    let seeds_draw = reader.seeds_draw(node.child("seeds_draw"), node.child("seeds"), &seeds);
    let grids = reader.grids(node);
    let excludes = reader.excludes;
    overlap::check(&grids, document, diagnostics);
    (Sweep { seeds, seeds_draw, grids }, excludes)
}

pub(super) struct Reader<'a> {
    pub tree: &'a Node,
    pub document: &'static Document,
    pub diagnostics: &'a mut Diagnostics,
    /// Places of the excludes, by their counter.
    pub excludes: Vec<Span>,
    /// Where forms stand.
    pub places: Vec<String>,
}

/// A sub-grid before its axes are read: the forms that it is the product of, and the excludes above them.
#[derive(Clone, Default)]
struct Draft<'n> {
    forms: Vec<Form<'n>>,
    excludes: Vec<&'n Node>,
}

impl<'n> Draft<'n> {
    fn times(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.forms.extend_from_slice(&other.forms);
        out.excludes.extend_from_slice(&other.excludes);
        out
    }
}

impl Reader<'_> {
    pub(super) fn error(&mut self, code: Code, span: Span, message: impl Into<String>, hint: Option<String>) {
        self.diagnostics.error(Diagnostic::new(code, span, message).maybe_hint(hint));
    }

    fn seeds(&mut self, node: Option<&Node>) -> Vec<u64> {
        let Some(node) = node else { return vec![0] };
        match &node.value {
            Tree::Scalar(scalar) => match parse_count(&scalar.text) {
                Ok(count) if (1..=MAX_SEEDS).contains(&count) => return (0..count).collect(),
                Ok(count) => {
                    let message = format!("`sweep.seeds`: found `{count}`, expected from 1 to {MAX_SEEDS}");
                    self.error(Code::Axis, node.span, message, None);
                }
                Err(_) => {}
            },
            Tree::List(items) => {
                let mut seeds = Vec::new();
                let mut known = std::collections::HashSet::new();
                for item in items {
                    let Some(seed) = item.text().and_then(|t| parse_count(t).ok()) else { continue };
                    if !known.insert(seed) {
                        self.error(Code::Axis, item.span, format!("seed `{seed}` twice in `sweep.seeds`"), None);
                    }
                    seeds.push(seed);
                }
                if !seeds.is_empty() {
                    return seeds;
                }
            }
            Tree::Map(_) => {}
        }
        vec![0]
    }

    /// What seeds draw; a list with a mistake, which the form names, is not looked at.
    fn seeds_draw(&mut self, node: Option<&Node>, stated: Option<&Node>, seeds: &[u64]) -> SeedParts {
        let Some(Tree::List(items)) = node.map(|node| &node.value) else { return SeedParts::default() };
        let mut parts: Vec<SeedPart> = Vec::new();
        for item in items {
            let part = SeedPart::ALL.into_iter().find(|part| item.text() == Some(part.name()));
            let Some(part) = part else { return SeedParts::default() };
            if parts.contains(&part) {
                self.error(Code::Axis, item.span, format!("`{}` twice in `sweep.seeds_draw`", part.name()), None);
            }
            parts.push(part);
        }
        let largest = seeds.iter().copied().max().unwrap_or(0);
        if parts.contains(&SeedPart::Pool)
            && largest > SeedParts::MAX_POOL_SEED
            && let Some(stated) = stated
        {
            let message = format!("seed {largest} draws no pool: expected at most {}", SeedParts::MAX_POOL_SEED);
            self.error(Code::Axis, stated.span, message, None);
        }
        parts.into_iter().collect()
    }

    fn grids(&mut self, node: &Node) -> Vec<SubGrid> {
        let drafts = self.drafts(node, "sweep", 0);
        let mut grids = Vec::with_capacity(drafts.len());
        let mut conditions = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            let (mut grid, mut stated) = (SubGrid::default(), Vec::new());
            draft.forms.iter().for_each(|form| self.form(*form, &mut grid, &mut stated));
            grids.push(grid);
            conditions.push(stated);
        }
        let paths: Vec<String> = grids.iter().flat_map(|g| g.axes.iter().map(|a| a.path.clone())).collect();
        for ((grid, stated), draft) in grids.iter_mut().zip(&conditions).zip(&drafts) {
            // A factor of a product may stand beside members of a union that differ in their axes.
            let is_product = draft.forms.len() > 1 && drafts.len() > 1;
            let elsewhere: Vec<&str> = if is_product { paths.iter().map(String::as_str).collect() } else { Vec::new() };
            self.resolve_whens(grid, stated, &elsewhere);
        }
        self.all_excludes(&drafts, &mut grids);
        grids
    }

    fn all_excludes(&mut self, drafts: &[Draft<'_>], grids: &mut [SubGrid]) {
        let mut stated: Vec<(&Node, Vec<usize>)> = Vec::new();
        for (idx, draft) in drafts.iter().enumerate() {
            for node in &draft.excludes {
                match stated.iter_mut().find(|(known, _)| std::ptr::eq(*known, *node)) {
                    Some((_, below)) => below.push(idx),
                    None => stated.push((node, vec![idx])),
                }
            }
        }
        for (node, below) in stated {
            self.resolve_exclude(node, grids, &below);
        }
    }

    /// What a node comes to: a union of drafts.
    fn drafts<'n>(&mut self, node: &'n Node, place: &str, depth: usize) -> Vec<Draft<'n>> {
        let forms: Vec<&Entry> = node.entries().unwrap_or_default().iter().filter(|e| FORMS.contains(&e.key.as_str())).collect();
        self.check_forms(&forms, node, place);
        if depth > MAX_DEPTH {
            self.error(
                Code::Axis,
                node.span,
                format!("`{place}`: more than {MAX_DEPTH} unions and products inside one another"),
                None,
            );
            return Vec::new();
        }
        let is_leaf = |form: &&&Entry| matches!(form.key.as_str(), "grid" | "zip");
        let mut drafts = match forms.as_slice() {
            [] if depth > 0 => Vec::new(),
            forms if forms.iter().all(|f| is_leaf(&f)) => vec![self.leaves(forms, place)],
            // Which of several forms is meant is not known; all are read for their problems.
            forms => {
                let read: Vec<Vec<Draft<'n>>> = forms
                    .iter()
                    .map(|form| if is_leaf(&form) { vec![self.leaves(&[*form], place)] } else { self.members(form, place, depth) })
                    .collect();
                read.into_iter().flatten().collect()
            }
        };
        let excludes = node.child("exclude").and_then(Node::items).unwrap_or_default();
        drafts.iter_mut().for_each(|draft| draft.excludes.extend(excludes));
        drafts
    }

    fn leaves<'n>(&mut self, forms: &[&'n Entry], place: &str) -> Draft<'n> {
        let form = |entry: &&'n Entry| {
            self.places.push(format!("{place}.{}", entry.key));
            Form { entry, place: self.places.len() - 1 }
        };
        Draft { forms: forms.iter().map(form).collect(), excludes: Vec::new() }
    }

    /// The members of a `union` or `product`.
    fn members<'n>(&mut self, form: &'n Entry, place: &str, depth: usize) -> Vec<Draft<'n>> {
        let place = format!("{place}.{}", form.key);
        let items = form.value.items().unwrap_or_default();
        if form.value.items().is_some_and(<[Node]>::is_empty) {
            let message = format!("`{place}`: found an empty list, expected at least one member");
            self.error(Code::Axis, form.value.span, message, None);
        }
        let read: Vec<Vec<Draft<'n>>> =
            items.iter().enumerate().map(|(idx, member)| self.drafts(member, &format!("{place}.{idx}"), depth + 1)).collect();
        if form.key == "union" {
            return read.into_iter().flatten().collect();
        }
        let count = read.iter().try_fold(1_usize, |n, member| n.checked_mul(member.len())).unwrap_or(usize::MAX);
        if count > MAX_GRIDS {
            let message = format!("`{place}` makes {count} sub-grids, expected at most {MAX_GRIDS}");
            self.error(Code::Axis, form.key_span, message, None);
            return Vec::new();
        }
        let combine = |all: Vec<Draft<'n>>, member: Vec<Draft<'n>>| {
            all.iter().flat_map(|left| member.iter().map(|right| left.times(right))).collect()
        };
        read.into_iter().fold(vec![Draft::default()], combine)
    }

    fn check_forms(&mut self, forms: &[&Entry], node: &Node, place: &str) {
        let shown = shown(place);
        match forms {
            [] if place != "sweep" && node.entries().is_some() => {
                let message = format!("`{shown}`: found no axes, expected one of `grid`, `zip`, `union`, `product`");
                self.error(Code::Axis, node.span, message, None);
            }
            [first, rest @ ..] => {
                let is_many = |form: &&&Entry| matches!(form.key.as_str(), "union" | "product");
                if let Some(second) = rest.iter().find(|second| is_many(second) || is_many(&first)) {
                    let message = format!("`{shown}`: found both `{}` and `{}`, expected one of them", first.key, second.key);
                    let hint = "make both members of a `product` for every combination, or of a `union` for one after the other";
                    self.error(Code::Axis, second.key_span, message, Some(hint.to_owned()));
                }
            }
            [] => {}
        }
    }
}

const FORMS: [&str; 4] = ["grid", "zip", "union", "product"];

/// A place as it is shown: `sweep.union[1]`.
fn shown(place: &str) -> String {
    let mut out = String::new();
    for (idx, key) in place.split('.').enumerate() {
        match key.parse::<usize>() {
            Ok(position) => out.push_str(&format!("[{position}]")),
            Err(_) if idx > 0 => out.push_str(&format!(".{key}")),
            Err(_) => out.push_str(key),
        }
    }
    out
}
