//! Axes of a sweep: their paths, values and ranges, with every problem at its place.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::super::diagnostic::{Code, Diagnostic, did_you_mean, nearest, quoted_list};
use super::super::label::label_of;
use super::super::scalar::{parse_any, parse_count};
use super::super::source::Span;
use super::super::tree::{Entry, Node, Tree};
use super::conditions::Condition;
use super::read::Reader;
use super::{Axis, AxisValue, Factor, SubGrid};

/// Values on one axis are at most so many.
const MAX_VALUES: u64 = 1_000_000;

/// One `grid` or `zip` of the file.
#[derive(Clone, Copy)]
pub(super) struct Form<'n> {
    pub entry: &'n Entry,
    /// Where it stands, as `--set` would write it.
    pub place: PlaceId,
}

/// Position of a place in [`Reader::places`].
pub(super) type PlaceId = usize;

/// An axis that is being read, and the digit of each of its values as written.
struct Written {
    axis: Axis,
    digits: Vec<u32>,
}

impl Reader<'_> {
    /// Adds the axes of a form to a sub-grid, and the conditions that they state.
    pub(super) fn form<'n>(&mut self, form: Form<'n>, grid: &mut SubGrid, conditions: &mut Vec<(usize, Condition<'n>)>) {
        let is_zip = form.entry.key == "zip";
        let place = self.places[form.place].clone();
        let entries = form.entry.value.entries().unwrap_or_default();
        if form.entry.value.entries().is_some_and(<[Entry]>::is_empty) {
            let message = format!("`{place}`: found no axis, expected axes by path such as `train.lr: [1e-3, 3e-3]`");
            self.error(Code::Axis, form.entry.key_span, message, None);
        }
        let mut written = Vec::new();
        let first = grid.axes.len();
        for entry in entries {
            let mut found =
                Found { grid: &mut *grid, written: &mut written, conditions: &mut *conditions, is_zip, place: &place, first };
            self.axis(&[], entry, &mut found);
        }
        if is_zip {
            let rows = self.rows(&written);
            grid.factors.push(Factor::Zip { axes: first..first + written.len(), rows });
        } else {
            grid.factors.extend((first..first + written.len()).map(Factor::Axis));
        }
        grid.axes.extend(written.into_iter().map(|w| w.axis));
    }

    /// The rows of a zip; axes of unequal length and rows that are there twice are problems.
    fn rows(&mut self, written: &[Written]) -> Vec<Vec<u32>> {
        let Some(first) = written.first() else { return Vec::new() };
        for Written { axis, digits } in &written[1..] {
            // An axis whose values could not be read has no length to compare.
            if digits.len() != first.digits.len() && !digits.is_empty() && !first.digits.is_empty() {
                let (found, expected) = (digits.len(), first.digits.len());
                let message = format!(
                    "axis `{}` of a zip: found {found} values, expected {expected} as `{}` has",
                    axis.path, first.axis.path
                );
                let problem = Diagnostic::new(Code::Axis, axis.key_span, message).note(first.axis.key_span, "the first axis");
                self.diagnostics.error(problem.hint("a zip takes values side by side; `grid` takes every combination"));
            }
        }
        let len = written.iter().map(|w| w.digits.len()).min().unwrap_or(0);
        let mut known: HashMap<Vec<u32>, usize> = HashMap::with_capacity(len);
        let mut rows = Vec::with_capacity(len);
        for idx in 0..len {
            let row: Vec<u32> = written.iter().map(|w| w.digits[idx]).collect();
            match known.get(&row) {
                Some(before) => {
                    let labels: Vec<String> = written
                        .iter()
                        .zip(&row)
                        .map(|(w, digit)| format!("`{}: {}`", w.axis.path, w.axis.values[*digit as usize].label))
                        .collect();
                    let message = format!("row {} of a zip repeats row {}: {}", idx + 1, before + 1, labels.join(", "));
                    self.error(Code::Axis, first.axis.key_span, message, Some("remove one of them".to_owned()));
                }
                None => {
                    known.insert(row.clone(), idx);
                    rows.push(row);
                }
            }
        }
        rows
    }

    fn axis<'n>(&mut self, above: &[String], entry: &'n Entry, found: &mut Found<'_, 'n>) {
        let keys: Vec<String> = above.iter().cloned().chain(entry.key.split('.').map(str::to_owned)).collect();
        let path = keys.join(".");
        let Some(schemas) = self.axis_schemas(&keys, entry.key_span) else { return };
        let is_zip = found.is_zip;
        let ((values, digits), when) = match &entry.value.value {
            Tree::List(items) => (self.list(&path, items, &entry.value, is_zip), None),
            Tree::Map(_) if entry.value.child("from").is_some() => {
                (self.range(&path, &entry.value, &schemas, is_zip), entry.value.child("when"))
            }
            Tree::Map(_) if entry.value.child("values").is_some() => {
                self.unknown_keys(&path, &entry.value, &["values", "when"]);
                let values = entry.value.child("values").expect("it was just found");
                let values = match &values.value {
                    Tree::List(items) => self.list(&path, items, values, is_zip),
                    _ => self.range(&path, values, &schemas, is_zip),
                };
                (values, entry.value.child("when"))
            }
            Tree::Map(entries) if entries.iter().any(|e| schemas.iter().any(|s| !self.document.children(s, &e.key).is_empty())) => {
                for inner in entries {
                    self.axis(&keys, inner, found);
                }
                return;
            }
            _ => {
                let described = entry.value.describe();
                let message = format!(
                    "axis `{path}`: found {described}, expected a list of values, `{{from, to, num}}` or `{{values, when}}`"
                );
                let hint = entry.value.text().map(|t| format!("for one value write `[{t}]`"));
                return self.error(Code::Axis, entry.value.span, message, hint);
            }
        };
        let before = found.grid.axes.iter().chain(found.written.iter().map(|w| &w.axis)).find(|a| a.path == path);
        if let Some(first) = before {
            let problem =
                Diagnostic::new(Code::Axis, entry.key_span, format!("axis `{path}` twice")).note(first.key_span, "first here");
            return self.diagnostics.error(problem);
        }
        for condition in when.map(|w| self.conditions(w, "when")).unwrap_or_default() {
            found.conditions.push((found.first + found.written.len(), condition));
        }
        let axis = Axis { path, values, keys, key_span: entry.key_span, place: found.place.to_owned(), when: Vec::new() };
        found.written.push(Written { axis, digits });
    }

    fn axis_schemas(&mut self, keys: &[String], span: Span) -> Option<Vec<&'static Json>> {
        let path = keys.join(".");
        if !matches!(keys[0].as_str(), "data" | "model" | "train") {
            let known = ["data", "model", "train"];
            let home = self.document.homes(keys.last().map_or("", String::as_str));
            let homes: Vec<&str> = home.iter().map(String::as_str).filter(|h| known.iter().any(|k| h.starts_with(k))).collect();
            let all = self.leaf_paths();
            let guess = homes.first().copied().or_else(|| nearest(&path, all.iter().map(String::as_str)));
            let guess = guess.map(str::to_owned).or_else(|| self.nearest_leaf(&path, &all));
            let message = format!("unknown axis `{path}`, expected a path below one of {}", quoted_list(&known));
            self.error(Code::Axis, span, message, guess.map(|g| format!("did you mean `{g}`?")));
            return None;
        }
        if matches!(keys, [train, key, ..] if train == "train" && key == "checkpoint_every") {
            let message = format!("`{path}` changes no result, so it cannot be an axis");
            self.error(Code::Axis, span, message, Some("state it once below `train`".to_owned()));
            return None;
        }
        match self.document.at(keys) {
            Ok(schemas) => Some(schemas),
            Err(error) => {
                let above = keys[..error.depth].join(".");
                let known: Vec<String> = error.known.iter().map(|k| format!("{above}.{k}")).collect();
                let guess =
                    nearest(&keys[error.depth], error.known.iter().copied()).map(|k| format!("did you mean `{above}.{k}`?"));
                let expected =
                    if known.is_empty() { format!("`{above}` itself") } else { format!("one of {}", quoted_list(&known)) };
                self.error(Code::Axis, span, format!("unknown axis `{path}`, expected {expected}"), guess);
                None
            }
        }
    }

    /// All paths of settings two keys deep: what a person most likely meant.
    fn leaf_paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        for section in ["data", "model", "train"] {
            let schemas = self.document.at(&[section]).unwrap_or_default();
            out.extend(schemas.iter().flat_map(|s| self.document.keys(s)).map(|k| format!("{section}.{k}")));
        }
        out
    }

    /// The setting whose last key is nearest.
    fn nearest_leaf(&self, path: &str, all: &[String]) -> Option<String> {
        let last = |p: &str| p.rsplit('.').next().unwrap_or_default().to_owned();
        let found = last(path);
        let names: Vec<String> = all.iter().map(|p| last(p)).collect();
        let near = nearest(&found, names.iter().map(String::as_str))?;
        names.iter().position(|n| n == near).map(|idx| all[idx].clone())
    }

    /// The values of a list, each once, and the position of each item among them. A zip may hold one value several times.
    fn list(&mut self, path: &str, items: &[Node], node: &Node, may_repeat: bool) -> (Vec<AxisValue>, Vec<u32>) {
        if items.is_empty() {
            self.error(Code::Axis, node.span, format!("axis `{path}`: found an empty list, expected at least one value"), None);
        }
        if items.len() as u64 > MAX_VALUES {
            let message = format!("axis `{path}`: found {} values, expected at most {MAX_VALUES}", items.len());
            self.error(Code::Axis, node.span, message, None);
            return (Vec::new(), Vec::new());
        }
        let mut values: Vec<AxisValue> = Vec::with_capacity(items.len());
        let mut digits = Vec::with_capacity(items.len());
        let mut known: HashMap<String, u32> = HashMap::with_capacity(items.len());
        for item in items {
            let label = label_of(item);
            let canonical = item.text().and_then(parse_any).map_or_else(|| label.clone(), |v| format!("{v:e}"));
            let next = u32::try_from(values.len()).expect("fewer than 2^32 values");
            match known.get(&canonical) {
                Some(digit) if may_repeat => digits.push(*digit),
                Some(_) => {
                    let hint = Some("remove one".to_owned());
                    self.error(Code::Axis, item.span, format!("value `{label}` twice on axis `{path}`"), hint);
                }
                None => {
                    known.insert(canonical, next);
                    values.push(AxisValue { label, node: item.clone() });
                    digits.push(next);
                }
            }
        }
        (values, digits)
    }

    fn unknown_keys(&mut self, path: &str, node: &Node, known: &[&str]) {
        for entry in node.entries().unwrap_or_default().iter().filter(|e| !known.contains(&e.key.as_str())) {
            let message = format!("unknown key `{}` on axis `{path}`, expected one of {}", entry.key, quoted_list(known));
            self.error(Code::Axis, entry.key_span, message, did_you_mean(&entry.key, known.iter().copied()));
        }
    }

    fn range(&mut self, path: &str, node: &Node, schemas: &[&Json], may_repeat: bool) -> (Vec<AxisValue>, Vec<u32>) {
        self.unknown_keys(path, node, &["from", "to", "num", "scale", "when"]);
        let mut end = |key: &str| {
            let value = node.child(key).and_then(Node::text).and_then(|text| Some((text.to_owned(), parse_any(text)?)));
            if value.is_none() {
                let (span, found) = node.child(key).map_or((node.span, "nothing".to_owned()), |n| (n.span, n.describe()));
                let message = format!("`{key}` of axis `{path}`: found {found}, expected a number");
                self.error(Code::Axis, span, message, None);
            }
            value
        };
        let (from, to) = (end("from"), end("to"));
        let num = node.child("num").and_then(Node::text).and_then(|t| parse_count(t).ok()).filter(|n| (2..=MAX_VALUES).contains(n));
        if num.is_none() {
            let (span, found) = node.child("num").map_or((node.span, "nothing".to_owned()), |n| (n.span, n.describe()));
            let message = format!("`num` of axis `{path}`: found {found}, expected a whole number from 2 to {MAX_VALUES}");
            self.error(Code::Axis, span, message, None);
        }
        let scale = node.child("scale").and_then(Node::text).unwrap_or("linear");
        if !matches!(scale, "linear" | "log") {
            let message = format!("`scale` of axis `{path}`: found `{scale}`, expected one of `linear`, `log`");
            let span = node.child("scale").map_or(node.span, |n| n.span);
            self.error(Code::Axis, span, message, did_you_mean(scale, ["linear", "log"]));
        }
        let (Some(from), Some(to), Some(num)) = (from, to, num) else { return (Vec::new(), Vec::new()) };
        if scale == "log" && !(from.1 > 0.0 && to.1 > 0.0) {
            let message = format!("range of axis `{path}`: found `{}` to `{}`, expected both above 0 on a log scale", from.0, to.0);
            self.error(Code::Axis, node.span, message, None);
            return (Vec::new(), Vec::new());
        }
        let texts = range_texts(&from, &to, num, scale == "log", self.document.is_whole(schemas));
        let nodes: Vec<Node> = texts.into_iter().map(|t| Node::plain(t, node.span)).collect();
        self.list(path, &nodes, node, may_repeat)
    }
}

/// Where axes that are read go to.
struct Found<'f, 'n> {
    grid: &'f mut SubGrid,
    written: &'f mut Vec<Written>,
    conditions: &'f mut Vec<(usize, Condition<'n>)>,
    is_zip: bool,
    place: &'f str,
    /// Axes of the sub-grid before those of this form.
    first: usize,
}

/// Values of a range as a person would write them: the ends as stated, the others to six digits.
#[expect(clippy::cast_precision_loss, reason = "positions in a range")]
fn range_texts(from: &(String, f64), to: &(String, f64), num: u64, is_log: bool, is_whole: bool) -> Vec<String> {
    let is_percent = from.0.ends_with('%') && to.0.ends_with('%');
    let text = |idx: u64| {
        if idx == 0 {
            return from.0.clone();
        }
        if idx == num - 1 {
            return to.0.clone();
        }
        let share = idx as f64 / (num - 1) as f64;
        let value = if is_log { from.1 * (to.1 / from.1).powf(share) } else { from.1 + (to.1 - from.1) * share };
        let six = |v: f64| format!("{v:.5e}").parse::<f64>().unwrap_or(v).to_string();
        match (is_percent, is_whole) {
            (true, _) => format!("{}%", six(value * 100.0)),
            (false, true) => value.round().to_string(),
            (false, false) => six(value),
        }
    };
    (0..num).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::range_texts;

    #[test]
    fn ranges_keep_their_ends_and_round_between() {
        let end = |text: &str, value: f64| (text.to_owned(), value);
        assert_eq!(range_texts(&end("1e-4", 1e-4), &end("1e-2", 1e-2), 3, true, false), ["1e-4", "0.001", "1e-2"]);
        assert_eq!(range_texts(&end("1k", 1e3), &end("64k", 64e3), 4, true, true), ["1k", "4000", "16000", "64k"]);
        assert_eq!(range_texts(&end("20%", 0.2), &end("100%", 1.0), 5, false, false), ["20%", "40%", "60%", "80%", "100%"]);
        assert_eq!(range_texts(&end("1", 1.0), &end("10", 10.0), 4, false, true), ["1", "4", "7", "10"]);
    }
}
