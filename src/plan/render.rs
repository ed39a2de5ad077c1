//! A plan as Graphviz DOT and as JSON.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::{Job, Key, Plan};
use crate::run::JobKind;

/// The graph in Graphviz DOT; finished jobs are filled. `setting` says what a person tells a run by, such as its axis values;
/// it stands on the jobs that are of one run.
#[must_use]
pub fn dot(plan: &Plan, finished: &dyn Fn(&Key) -> bool, setting: &dyn Fn(u32) -> String) -> String {
    let mut text = String::from("digraph plan {\n  rankdir=LR;\n  node [shape=box, fontname=\"Helvetica\"];\n");
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let labels = unique_labels(plan);
    for (index, job) in plan.jobs().enumerate() {
        let mut label = escape(&labels[index]);
        if let Some(setting) = job.run.map(setting).filter(|setting| !setting.is_empty()) {
            label = format!("{label}\\n{}", escape(&setting));
        }
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
    let labels = unique_labels(plan);
    let jobs: Vec<Value> = plan
        .jobs()
        .enumerate()
        .map(|(index, job)| {
            let parents = if job.spec.kind() == JobKind::Report { Vec::new() } else { sorted_parents(plan, index) };
            json!({
                "index": index,
                "kind": job.spec.tag(),
                "label": labels[index],
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

/// The label of every job; where several jobs of a kind have one label, each with its key.
fn unique_labels(plan: &Plan) -> Vec<String> {
    let named: Vec<(&str, String)> = plan.jobs().enumerate().map(|(index, job)| (job.spec.tag(), plan.label(index))).collect();
    let mut count: HashMap<&(&str, String), usize> = HashMap::new();
    named.iter().for_each(|name| *count.entry(name).or_insert(0) += 1);
    let unique = |(name, job): (&(&str, String), &Job)| match count[name] {
        1 => name.1.clone(),
        _ => format!("{} ({})", name.1, job.key.short()),
    };
    named.iter().zip(plan.jobs()).map(unique).collect()
}

fn sorted_parents(plan: &Plan, index: usize) -> Vec<usize> {
    let mut parents: Vec<usize> = plan.parents(index).collect();
    parents.sort_unstable();
    parents
}
