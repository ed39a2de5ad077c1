//! Where the numbers come from and what they cost.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::Study;
use super::units::{count, macs, time};
use crate::record::{Origin, SampleCounts};
use crate::run::{DeviceKind, RunStatus, counted};

/// What was spent on all runs together.
pub(super) fn gmacs(study: &Study<'_>) -> f64 {
    study.records.runs.iter().map(|run| run.gmacs).sum()
}

/// The CPU time of all jobs, where it is known.
pub(super) fn cpu(study: &Study<'_>) -> Option<f64> {
    (!study.timings.is_empty()).then(|| study.timings.iter().map(|timing| timing.cpu_s).sum())
}

/// `all finished`, `81 finished, 2 diverged and 1 failed`.
pub(super) fn statuses(study: &Study<'_>) -> String {
    let all = [RunStatus::Finished, RunStatus::Diverged, RunStatus::Failed, RunStatus::Interrupted];
    let of = |status: RunStatus| study.records.runs.iter().filter(|run| run.status == status).count();
    if of(RunStatus::Finished) == study.records.runs.len() {
        return "all finished".to_owned();
    }
    let phrases: Vec<String> =
        all.into_iter().filter(|status| of(*status) > 0).map(|status| format!("{} {}", of(status), status.name())).collect();
    super::answer::listed(&phrases)
}

/// `3 (0, 1, 2)`.
pub(super) fn seeds(study: &Study<'_>) -> String {
    let seeds: BTreeSet<u64> = study.records.runs.iter().map(|run| run.config.seed).collect();
    let listed: Vec<String> = seeds.iter().map(ToString::to_string).collect();
    if listed.len() > 20 { listed.len().to_string() } else { format!("{} ({})", listed.len(), listed.join(", ")) }
}

/// What a seed draws, in runs of every kind.
fn drawn(study: &Study<'_>) -> String {
    let drawn: BTreeSet<String> = study.records.runs.iter().map(|run| run.config.drawn().to_string()).collect();
    drawn.into_iter().collect::<Vec<_>>().join("; or ")
}

/// Program, machine, data and cost.
pub(super) fn origin(study: &Study<'_>) -> Markup {
    let provenance = &study.records.provenance;
    let commit = provenance.commit.as_deref().unwrap_or("not known");
    let device = match provenance.device {
        DeviceKind::Cpu => "CPU",
        DeviceKind::Cuda => "NVIDIA GPU",
    };
    let adopted = adopted(study);
    html! {
        dl.plain {
            dt { "Program" } dd { "scaledown " (provenance.version) ", commit " code { (commit) } }
            dt { "Processor" } dd { (provenance.cpu.as_deref().unwrap_or("not recorded")) }
            dt { "Device" } dd { (device) ", " (provenance.precision.name()) }
            dt { "Command" } dd { code { (provenance.command) } }
            dt { "Experiment" } dd { (provenance.experiment) ", digest " code { (provenance.experiment_digest) } }
            dt { "Seeds" } dd { (seeds(study)) ": a seed draws " (drawn(study)) "; all else is the same for all of them" }
            dt { "Compute" } dd { (macs(gmacs(study))) " of forward passes of both encoders, over " (counted(study.records.runs.len(), "run")) }
            dt { "CPU time" } dd {
                @match cpu(study) {
                    Some(seconds) => { (time(seconds)) " over " (counted(study.timings.len(), "job")) },
                    None => { "not at hand: " code { "timings.csv" } " is not among the committed records" },
                }
            }
            @if !adopted.is_empty() {
                dt { "Trained elsewhere" }
                dd { @for (origin, runs) in &adopted { div { (counted(*runs, "run")) " by " (of(origin)) } } }
            }
        }
        @if !provenance.samples.is_empty() { (samples(&provenance.samples)) }
        @if !provenance.data.is_empty() {
            h3 { "Fingerprints of data" }
            dl.plain { @for (name, digest) in &provenance.data { dt { (name) } dd { code { (digest) } } } }
        }
    }
}

fn of(origin: &Origin) -> String {
    let Origin { experiment, version, commit, cpu } = origin;
    let commit = commit.as_ref().map_or(String::new(), |commit| format!(", commit {commit}"));
    let cpu = cpu.as_ref().map_or(String::new(), |cpu| format!(", on {cpu}"));
    format!("scaledown {version}{commit}{cpu}, for {experiment}")
}

/// Runs taken over from other records, by where they were trained.
fn adopted<'a>(study: &Study<'a>) -> BTreeMap<&'a Origin, usize> {
    let mut found = BTreeMap::new();
    for origin in study.records.identities.values().filter_map(|identity| identity.adopted.as_ref()) {
        *found.entry(origin).or_default() += 1;
    }
    found
}

fn samples(samples: &BTreeMap<String, SampleCounts>) -> Markup {
    html! {
        h3 { "Packed sets" }
        div.scroll tabindex="0" role="region" aria-label="packed sets" {
            table {
                thead { tr { th scope="col" { "set" } th.n scope="col" { "samples" } th.n scope="col" { "left out" } th scope="col" { "why" } } }
                tbody {
                    @for (name, counts) in samples {
                        tr {
                            td { (name) }
                            td.n { (count(counts.packed)) }
                            td.n { (count(counts.skipped)) }
                            td { (why(counts)) }
                        }
                    }
                }
            }
        }
    }
}

fn why(counts: &SampleCounts) -> String {
    let kinds = counts.skipped_by_kind.iter().map(|(kind, many)| format!("{many} {}", kind.replace('_', " ")));
    let missing =
        counts.shards_missing.filter(|missing| *missing > 0).map(|missing| format!("{} missing", counted(missing, "shard")));
    kinds.chain(missing).collect::<Vec<_>>().join(", ")
}
