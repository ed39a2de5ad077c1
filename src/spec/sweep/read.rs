//! The `sweep` node to axes, with every problem at its place.

use serde_json::Value as Json;

use super::super::diagnostic::{Code, Diagnostic, Diagnostics, did_you_mean, nearest, quoted_list};
use super::super::label::label_of;
use super::super::scalar::{parse_any, parse_count};
use super::super::schema::Document;
use super::super::source::Span;
use super::super::tree::{Entry, Node, Tree};
use super::super::valid::effective;
use super::{Axis, AxisValue, Exclude, SubGrid, Sweep, When};
use crate::tables::same_label;

/// Reads the sweep of a merged tree. Returns it with the places of its excludes, in the order of their counters.
pub(in crate::spec) fn read(tree: &Node, diagnostics: &mut Diagnostics) -> (Sweep, Vec<Span>) {
    let mut reader = Reader { tree, document: Document::experiment(), diagnostics, excludes: Vec::new() };
    let Some(node) = tree.child("sweep").filter(|n| n.entries().is_some()) else {
        return (Sweep { seeds: vec![0], grids: vec![reader.grid(None, "sweep", &[])] }, Vec::new());
    };
    let seeds = reader.seeds(node.child("seeds"));
    let grids = reader.grids(node);
    (Sweep { seeds, grids }, reader.excludes)
}

struct Reader<'a> {
    tree: &'a Node,
    document: &'static Document,
    diagnostics: &'a mut Diagnostics,
    excludes: Vec<Span>,
}

/// A `when` or one term of an `exclude`, before its axis is looked up.
struct Condition<'a> {
    path: String,
    key_span: Span,
    values: Vec<&'a Node>,
}

impl Reader<'_> {
    fn error(&mut self, code: Code, span: Span, message: impl Into<String>, hint: Option<String>) {
        self.diagnostics.error(Diagnostic::new(code, span, message).maybe_hint(hint));
    }

    fn seeds(&mut self, node: Option<&Node>) -> Vec<u64> {
        const MAX_SEEDS: u64 = 1_000_000;
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
                for item in items {
                    let Some(seed) = item.text().and_then(|t| parse_count(t).ok()) else { continue };
                    if seeds.contains(&seed) {
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

    fn grids(&mut self, node: &Node) -> Vec<SubGrid> {
        let forms: Vec<&Entry> = ["grid", "zip", "union"].iter().filter_map(|key| node.entry(key)).collect();
        if let [first, second, ..] = forms.as_slice() {
            let message =
                format!("`sweep`: found both `{}` and `{}`, expected one of `grid`, `zip`, `union`", first.key, second.key);
            let hint = "put each into a member of `union`, or their axes into one `grid`";
            self.error(Code::Axis, second.key_span, message, Some(hint.to_owned()));
        }
        for union in forms.iter().skip(1).filter(|f| f.key == "union") {
            // Only for its problems: which of the two forms is meant is not known.
            self.union(&union.value);
        }
        let shared: Vec<&Node> = node.child("exclude").and_then(Node::items).unwrap_or_default().iter().collect();
        let mut grids = match forms.first() {
            Some(union) if union.key == "union" => self.union(&union.value),
            Some(form) => vec![self.grid(Some(form), &format!("sweep.{}", form.key), &[])],
            None => vec![self.grid(None, "sweep", &[])],
        };
        self.resolve_excludes(&shared, &mut grids);
        grids
    }

    fn union(&mut self, node: &Node) -> Vec<SubGrid> {
        let mut grids = Vec::new();
        for (idx, member) in node.items().unwrap_or_default().iter().enumerate() {
            let forms: Vec<&Entry> = ["grid", "zip"].iter().filter_map(|key| member.entry(key)).collect();
            match forms.as_slice() {
                [form] => {
                    let excludes: Vec<&Node> = member.child("exclude").and_then(Node::items).unwrap_or_default().iter().collect();
                    grids.push(self.grid(Some(form), &format!("sweep.union.{idx}.{}", form.key), &excludes));
                }
                [] if member.entries().is_some() => {
                    let message = format!("`sweep.union[{idx}]`: found neither, expected one of `grid`, `zip`");
                    self.error(Code::Axis, member.span, message, None);
                }
                [_, second, ..] => {
                    let message = format!("`sweep.union[{idx}]`: found both `grid` and `zip`, expected one of them");
                    self.error(Code::Axis, second.key_span, message, Some("make two members of them".to_owned()));
                }
                [] => {}
            }
        }
        grids
    }

    fn grid(&mut self, form: Option<&Entry>, place: &str, excludes: &[&Node]) -> SubGrid {
        let is_zip = form.is_some_and(|f| f.key == "zip");
        let mut grid = SubGrid { axes: Vec::new(), is_zip, place: place.to_owned(), excludes: Vec::new() };
        let mut conditions = Vec::new();
        if let Some(form) = form {
            for entry in form.value.entries().unwrap_or_default() {
                self.axis(&[], entry, &mut grid, &mut conditions);
            }
            if form.value.entries().is_some_and(<[Entry]>::is_empty) {
                let message = format!("`{place}`: found no axis, expected axes by path such as `train.lr: [1e-3, 3e-3]`");
                self.error(Code::Axis, form.key_span, message, None);
            }
        }
        if is_zip {
            self.check_lengths(&grid);
        }
        for (axis, condition) in conditions {
            // An axis whose condition cannot be read is nowhere, rather than everywhere it cannot be.
            let never = When { axis: 0, allowed: vec![false; grid.axes[0].values.len()], base_allowed: false };
            let when = self.resolve_when(&grid, axis, &condition).unwrap_or(never);
            grid.axes[axis].when.push(when);
        }
        self.resolve_excludes(excludes, std::slice::from_mut(&mut grid));
        grid
    }

    fn check_lengths(&mut self, grid: &SubGrid) {
        let Some(first) = grid.axes.first() else { return };
        for axis in &grid.axes[1..] {
            if axis.values.len() != first.values.len() {
                let (found, expected) = (axis.values.len(), first.values.len());
                let message =
                    format!("axis `{}` of a zip: found {found} values, expected {expected} as `{}` has", axis.path, first.path);
                let problem = Diagnostic::new(Code::Axis, axis.key_span, message).note(first.key_span, "the first axis");
                self.diagnostics.error(problem.hint("a zip takes values side by side; `grid` takes every combination"));
            }
        }
    }

    fn axis<'n>(&mut self, above: &[String], entry: &'n Entry, grid: &mut SubGrid, conditions: &mut Vec<(usize, Condition<'n>)>) {
        let keys: Vec<String> = above.iter().cloned().chain(entry.key.split('.').map(str::to_owned)).collect();
        let path = keys.join(".");
        let Some(schemas) = self.axis_schemas(&keys, entry.key_span) else { return };
        let (values, when) = match &entry.value.value {
            Tree::List(items) => (self.list(&path, items, &entry.value), None),
            Tree::Map(_) if entry.value.child("from").is_some() => {
                (self.range(&path, &entry.value, &schemas), entry.value.child("when"))
            }
            Tree::Map(_) if entry.value.child("values").is_some() => {
                self.unknown_keys(&path, &entry.value, &["values", "when"]);
                let values = entry.value.child("values").expect("it was just found");
                let values = match &values.value {
                    Tree::List(items) => self.list(&path, items, values),
                    _ => self.range(&path, values, &schemas),
                };
                (values, entry.value.child("when"))
            }
            Tree::Map(entries) if entries.iter().any(|e| schemas.iter().any(|s| !self.document.children(s, &e.key).is_empty())) => {
                for inner in entries {
                    self.axis(&keys, inner, grid, conditions);
                }
                return;
            }
            _ => {
                let found = entry.value.describe();
                let message =
                    format!("axis `{path}`: found {found}, expected a list of values, `{{from, to, num}}` or `{{values, when}}`");
                let hint = entry.value.text().map(|t| format!("for one value write `[{t}]`"));
                return self.error(Code::Axis, entry.value.span, message, hint);
            }
        };
        if let Some(first) = grid.axes.iter().find(|a| a.path == path) {
            let problem =
                Diagnostic::new(Code::Axis, entry.key_span, format!("axis `{path}` twice")).note(first.key_span, "first here");
            return self.diagnostics.error(problem);
        }
        for condition in when.map(|w| self.conditions(w, "when")).unwrap_or_default() {
            conditions.push((grid.axes.len(), condition));
        }
        grid.axes.push(Axis { path, values, keys, key_span: entry.key_span, when: Vec::new() });
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

    fn list(&mut self, path: &str, items: &[Node], node: &Node) -> Vec<AxisValue> {
        if items.is_empty() {
            self.error(Code::Axis, node.span, format!("axis `{path}`: found an empty list, expected at least one value"), None);
        }
        let mut out: Vec<AxisValue> = Vec::with_capacity(items.len());
        let mut seen = std::collections::HashSet::new();
        for item in items {
            let label = label_of(item);
            let canonical = item.text().and_then(parse_any).map_or_else(|| label.clone(), |v| format!("{v:e}"));
            if seen.insert(canonical) {
                out.push(AxisValue { label, node: item.clone() });
            } else {
                self.error(Code::Axis, item.span, format!("value `{label}` twice on axis `{path}`"), Some("remove one".to_owned()));
            }
        }
        out
    }

    fn unknown_keys(&mut self, path: &str, node: &Node, known: &[&str]) {
        for entry in node.entries().unwrap_or_default().iter().filter(|e| !known.contains(&e.key.as_str())) {
            let message = format!("unknown key `{}` on axis `{path}`, expected one of {}", entry.key, quoted_list(known));
            self.error(Code::Axis, entry.key_span, message, did_you_mean(&entry.key, known.iter().copied()));
        }
    }

    fn range(&mut self, path: &str, node: &Node, schemas: &[&Json]) -> Vec<AxisValue> {
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
        let num = node.child("num").and_then(Node::text).and_then(|t| parse_count(t).ok()).filter(|n| (2..=1_000_000).contains(n));
        if num.is_none() {
            let (span, found) = node.child("num").map_or((node.span, "nothing".to_owned()), |n| (n.span, n.describe()));
            let message = format!("`num` of axis `{path}`: found {found}, expected a whole number, 2 or more");
            self.error(Code::Axis, span, message, None);
        }
        let scale = node.child("scale").and_then(Node::text).unwrap_or("linear");
        if !matches!(scale, "linear" | "log") {
            let message = format!("`scale` of axis `{path}`: found `{scale}`, expected one of `linear`, `log`");
            let span = node.child("scale").map_or(node.span, |n| n.span);
            self.error(Code::Axis, span, message, did_you_mean(scale, ["linear", "log"]));
        }
        let (Some(from), Some(to), Some(num)) = (from, to, num) else { return Vec::new() };
        if scale == "log" && !(from.1 > 0.0 && to.1 > 0.0) {
            let message = format!("range of axis `{path}`: found `{}` to `{}`, expected both above 0 on a log scale", from.0, to.0);
            self.error(Code::Axis, node.span, message, None);
            return Vec::new();
        }
        let texts = range_texts(&from, &to, num, scale == "log", self.document.is_whole(schemas));
        let nodes: Vec<Node> = texts.into_iter().map(|t| Node::plain(t, node.span)).collect();
        self.list(path, &nodes, node)
    }

    fn conditions<'n>(&mut self, node: &'n Node, what: &str) -> Vec<Condition<'n>> {
        let Some(entries) = node.entries().filter(|e| !e.is_empty()) else {
            let message = format!("`{what}`: found {}, expected a map of axis path to value or list of values", node.describe());
            self.error(Code::When, node.span, message, None);
            return Vec::new();
        };
        let condition = |e: &'n Entry| Condition {
            path: e.key.clone(),
            key_span: e.key_span,
            values: e.value.items().map_or_else(|| vec![&e.value], |items| items.iter().collect()),
        };
        entries.iter().map(condition).collect()
    }

    fn resolve_when(&mut self, grid: &SubGrid, axis_idx: usize, condition: &Condition<'_>) -> Option<When> {
        let this = &grid.axes[axis_idx].path;
        let Some(other) = grid.axes.iter().position(|a| a.path == condition.path) else {
            let known: Vec<&str> = grid.axes.iter().map(|a| a.path.as_str()).filter(|p| p != this).collect();
            let message = format!(
                "`when` of axis `{this}` names `{}`, which is no axis here, expected one of {}",
                condition.path,
                quoted_list(&known)
            );
            self.error(Code::When, condition.key_span, message, did_you_mean(&condition.path, known));
            return None;
        };
        if other >= axis_idx {
            let message = format!("`when` of axis `{this}` names `{}`, which comes after it", condition.path);
            self.error(Code::When, condition.key_span, message, Some("write the other axis first".to_owned()));
            return None;
        }
        let when = self.mask(&grid.axes[other], other, condition);
        for value in &condition.values {
            let label = label_of(value);
            let axis = &grid.axes[other];
            if !axis.values.iter().any(|v| same_label(&v.label, &label)) && !self.base_has(&axis.keys, &label) {
                let known: Vec<&str> = axis.values.iter().map(|v| v.label.as_str()).take(20).collect();
                let message = format!(
                    "`when` of axis `{this}` names `{}: {label}`, which that axis never is, expected one of {}",
                    axis.path,
                    quoted_list(&known)
                );
                self.error(Code::When, value.span, message, did_you_mean(&label, known));
            }
        }
        Some(when)
    }

    fn base_has(&self, keys: &[String], label: &str) -> bool {
        effective(self.tree, &[], &[], keys).is_some_and(|n| same_label(&label_of(&n), label))
    }

    fn mask(&self, axis: &Axis, axis_idx: usize, condition: &Condition<'_>) -> When {
        let labels: Vec<String> = condition.values.iter().map(|v| label_of(v)).collect();
        let allowed = axis.values.iter().map(|v| labels.iter().any(|l| same_label(&v.label, l))).collect();
        let base_allowed = labels.iter().any(|l| self.base_has(&axis.keys, l));
        When { axis: axis_idx, allowed, base_allowed }
    }

    /// Excludes of the sweep apply to every sub-grid that has their axes.
    fn resolve_excludes(&mut self, nodes: &[&Node], grids: &mut [SubGrid]) {
        for node in nodes {
            let idx = self.excludes.len();
            self.excludes.push(node.span);
            let conditions = self.conditions(node, "exclude");
            let mut clean = !conditions.is_empty();
            for condition in &conditions {
                if !grids.iter().any(|g| g.axes.iter().any(|a| a.path == condition.path)) {
                    let known: Vec<&str> = grids.iter().flat_map(|g| g.axes.iter().map(|a| a.path.as_str())).collect();
                    let message = format!(
                        "`exclude` names `{}`, which is no axis here, expected one of {}",
                        condition.path,
                        quoted_list(&known)
                    );
                    self.error(Code::When, condition.key_span, message, did_you_mean(&condition.path, known));
                    clean = false;
                }
            }
            if !clean {
                continue;
            }
            for grid in &mut *grids {
                if let Some(terms) = self.terms(grid, &conditions) {
                    grid.excludes.push(Exclude { terms, idx });
                }
            }
        }
    }

    /// The terms of an exclude in one sub-grid; `None` where a setting that is no axis here has another value.
    fn terms(&self, grid: &SubGrid, conditions: &[Condition<'_>]) -> Option<Vec<When>> {
        let mut terms = Vec::new();
        for condition in conditions {
            if let Some(axis_idx) = grid.axes.iter().position(|a| a.path == condition.path) {
                terms.push(self.mask(&grid.axes[axis_idx], axis_idx, condition));
                continue;
            }
            let keys: Vec<String> = condition.path.split('.').map(str::to_owned).collect();
            if !condition.values.iter().any(|v| self.base_has(&keys, &label_of(v))) {
                return None;
            }
        }
        Some(terms)
    }
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
