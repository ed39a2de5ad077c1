//! A plan as Graphviz DOT and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Key, Plan};
use crate::run::JobKind;

/// The graph in Graphviz DOT; finished jobs are filled.
#[must_use]
pub fn dot(plan: &Plan, finished: &dyn Fn(&Key) -> bool) -> String {
    let mut text = String::from("digraph plan {\n  rankdir=LR;\n  node [shape=box, fontname=\"Helvetica\"];\n");
    for (index, job) in plan.jobs().enumerate() {
        let label = plan.label(index).replace('\\', "\\\\").replace('"', "\\\"");
        let style = if finished(&job.key) { ", style=filled, fillcolor=\"#dddddd\"" } else { "" };
        let _ = writeln!(text, "  j{index} [label=\"{}\\n{label}\"{style}];", job.spec.tag());
    }
    for index in 0..plan.len() {
        for parent in sorted_parents(plan, index) {
            let _ = writeln!(text, "  j{parent} -> j{index};");
        }
    }
    text.push_str("}\n");
    text
}

/// The graph as JSON: `{"jobs": [{"index", "kind", "label", "key", "finished", "num_runs", "parents"}], "runs": [{"run_id",
/// "train", "evaluates"}], "counts": {"jobs", "shared", "finished"}}`. The report's parents are all jobs of the runs and are
/// not listed.
#[must_use]
pub fn json(plan: &Plan, finished: &dyn Fn(&Key) -> bool) -> Value {
    let jobs: Vec<Value> = plan
        .jobs()
        .enumerate()
        .map(|(index, job)| {
            let parents = if job.spec.kind() == JobKind::Report { Vec::new() } else { sorted_parents(plan, index) };
            json!({
                "index": index,
                "kind": job.spec.tag(),
                "label": plan.label(index),
                "key": job.key,
                "finished": finished(&job.key),
                "num_runs": job.num_runs,
                "parents": parents,
            })
        })
        .collect();
    let runs: Vec<Value> =
        plan.runs().iter().map(|run| json!({ "run_id": run.run_id, "train": run.train, "evaluates": run.evaluates })).collect();
    json!({
        "counts": { "jobs": plan.len(), "shared": plan.shared(), "finished": plan.cached(finished) },
        "runs": runs,
        "jobs": jobs,
    })
}

fn sorted_parents(plan: &Plan, index: usize) -> Vec<usize> {
    let mut parents: Vec<usize> = plan.parents(index).collect();
    parents.sort_unstable();
    parents
}
