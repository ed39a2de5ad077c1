//! `when` and `exclude`: conditions on axes, looked up once all axes are read.

use super::super::diagnostic::{Code, did_you_mean, quoted_list};
use super::super::label::label_of;
use super::super::source::Span;
use super::super::tree::{Entry, Node};
use super::super::valid::effective;
use super::read::Reader;
use super::{Axis, Exclude, SubGrid, When};
use crate::tables::same_label;

/// A `when` or one term of an `exclude`, before its axis is looked up.
pub(super) struct Condition<'a> {
    path: String,
    key_span: Span,
    values: Vec<&'a Node>,
}

impl Reader<'_> {
    pub(super) fn conditions<'n>(&mut self, node: &'n Node, what: &str) -> Vec<Condition<'n>> {
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

    /// Looks up the `when` of every axis of a sub-grid. `elsewhere` are axis paths of the file's other sub-grids.
    pub(super) fn resolve_whens(&mut self, grid: &mut SubGrid, conditions: &[(usize, Condition<'_>)], elsewhere: &[&str]) {
        for (axis, condition) in conditions {
            // An axis whose condition cannot be read is nowhere, rather than everywhere it cannot be.
            let never = When { axis: None, allowed: Vec::new(), base_allowed: false };
            let when = self.resolve_when(grid, *axis, condition, elsewhere).unwrap_or(never);
            grid.axes[*axis].when.push(when);
        }
    }

    fn resolve_when(&mut self, grid: &SubGrid, axis_idx: usize, condition: &Condition<'_>, elsewhere: &[&str]) -> Option<When> {
        let this = &grid.axes[axis_idx].path;
        let Some(other) = grid.axes.iter().position(|a| a.path == condition.path) else {
            if elsewhere.contains(&condition.path.as_str()) {
                let keys: Vec<String> = condition.path.split('.').map(str::to_owned).collect();
                let base_allowed = condition.values.iter().any(|v| self.base_has(&keys, &label_of(v)));
                return Some(When { axis: None, allowed: Vec::new(), base_allowed });
            }
            let known: Vec<&str> = grid.axes.iter().map(|a| a.path.as_str()).filter(|p| p != this).collect();
            let expected =
                if known.is_empty() { "there is no other".to_owned() } else { format!("expected one of {}", quoted_list(&known)) };
            let message = format!("`when` of axis `{this}` names `{}`, which is no axis here, {expected}", condition.path);
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
        When { axis: Some(axis_idx), allowed, base_allowed }
    }

    /// Excludes apply to every sub-grid below the place where they stand that has their axes.
    pub(super) fn resolve_exclude(&mut self, node: &Node, grids: &mut [SubGrid], below: &[usize]) {
        let idx = self.excludes.len();
        self.excludes.push(node.span);
        let conditions = self.conditions(node, "exclude");
        let mut clean = !conditions.is_empty();
        let mut known: Vec<&str> = Vec::new();
        for path in below.iter().flat_map(|grid| grids[*grid].axes.iter()).map(|axis| axis.path.as_str()) {
            if !known.contains(&path) {
                known.push(path);
            }
        }
        for condition in &conditions {
            if !known.contains(&condition.path.as_str()) {
                let message =
                    format!("`exclude` names `{}`, which is no axis here, expected one of {}", condition.path, quoted_list(&known));
                self.error(Code::When, condition.key_span, message, did_you_mean(&condition.path, known.iter().copied()));
                clean = false;
            }
        }
        if !clean {
            return;
        }
        for grid in below {
            if let Some(terms) = self.terms(&grids[*grid], &conditions) {
                grids[*grid].excludes.push(Exclude { terms, idx });
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
