//! `plan`: runs, points, jobs, what is shared and cached, cost and time, without doing anything.

use std::collections::HashSet;
use std::io::Write;

use super::args::{Experiment, Global, PlanFormat};
use super::estimate;
use super::experiment::Loaded;
use super::inspect::known_warnings;
use crate::error::Error;
use crate::plan::{self, JobSpec, Key};
use crate::progress::duration;
use crate::store::Store;
use crate::trainer::cost::planned_bytes;

pub(super) fn run(global: &Global, experiment: &Experiment, format: PlanFormat, out: &mut dyn Write) -> Result<(), Error> {
    let loaded = Loaded::new(global, experiment)?;
    let store = Store::open(&global.store)?;
    let finished = store.finished()?;
    super::warn(global, &known_warnings(&loaded, &store)?);
    match format {
        PlanFormat::Dot => write!(out, "{}", plan::dot(&loaded.plan, &|key| finished.contains(key)))?,
        PlanFormat::Json => writeln!(out, "{:#}", json(&loaded, &store, &finished))?,
        PlanFormat::Human => human(&loaded, &store, &finished, out)?,
    }
    Ok(())
}

/// One line that says how much there is to do.
pub(super) fn headline(loaded: &Loaded, finished: &HashSet<Key>) -> String {
    let spec = loaded.spec();
    let plan = &loaded.plan;
    let cached = plan.cached(|key| finished.contains(key));
    format!(
        "{}: {} points, {} runs, {} jobs ({} shared, {cached} finished), {} GMACs",
        spec.experiment,
        loaded.expansion.num_points(),
        loaded.expansion.runs().len(),
        plan.len(),
        plan.shared(),
        amount(loaded.gmacs().iter().sum()),
    )
}

fn json(loaded: &Loaded, store: &Store, finished: &HashSet<Key>) -> serde_json::Value {
    let mut value = plan::json(&loaded.plan, &|key| finished.contains(key));
    let gmacs = loaded.gmacs();
    let estimate = estimate::estimate(loaded, store, finished, &gmacs);
    value["experiment"] = loaded.spec().experiment.clone().into();
    value["points"] = loaded.expansion.num_points().into();
    value["gmacs"] = gmacs.iter().sum::<f64>().into();
    value["data"] = sources(loaded).into_iter().map(|source| serde_json::json!(source)).collect();
    value["estimate"] = serde_json::json!({ "seconds": estimate.seconds, "source": estimate.source });
    value
}

fn human(loaded: &Loaded, store: &Store, finished: &HashSet<Key>, out: &mut dyn Write) -> Result<(), Error> {
    let (spec, plan) = (loaded.spec(), &loaded.plan);
    let gmacs = loaded.gmacs();
    writeln!(out, "experiment  {}", spec.experiment)?;
    if let Some(question) = &spec.question {
        writeln!(out, "question    {}", question.trim())?;
    }
    writeln!(out, "points      {} (axes: {})", loaded.expansion.num_points(), axes(loaded))?;
    writeln!(out, "runs        {} distinct, {} seeds", loaded.expansion.runs().len(), spec.sweep.seeds.len())?;
    let kinds: Vec<String> = plan.kinds().iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
    writeln!(out, "jobs        {} ({})", plan.len(), kinds.join(", "))?;
    let cached = plan.cached(|key| finished.contains(key));
    writeln!(
        out,
        "            {} shared by several runs, {cached} finished, {} to do",
        plan.shared(),
        plan.todo(|key| finished.contains(key)).len()
    )?;
    for source in sources(loaded) {
        writeln!(out, "data        {source}")?;
    }
    writeln!(out, "cost        {} GMACs (forward, both encoders, times samples seen)", amount(gmacs.iter().sum()))?;
    let largest = (0..loaded.expansion.runs().len()).max_by_key(|run| {
        let parts = loaded.expansion.parts(*run);
        parts.train.effective_batch() * parts.model.image_size as u64
    });
    if let Some(run) = largest {
        #[expect(clippy::cast_precision_loss, reason = "a display value")]
        let mib = planned_bytes(&loaded.expansion.config(run)) as f64 / 1048576.0;
        writeln!(out, "memory      about {mib:.0} MiB for the largest batch")?;
    }
    let estimate = estimate::estimate(loaded, store, finished, &gmacs);
    match estimate.seconds {
        Some(seconds) => {
            let time = duration(std::time::Duration::from_secs_f64(seconds.min(3e15)));
            writeln!(out, "time        about {time} of training to do ({})", estimate.source)?;
        }
        None => writeln!(out, "time        {}", estimate.source)?,
    }
    writeln!(out)?;
    list(loaded, finished, &gmacs, out)
}

/// A set of files that the experiment reads.
#[derive(Debug, serde::Serialize)]
struct SourceCounts {
    label: String,
    samples: Option<u64>,
    shards_listed: Option<u64>,
    shards_missing: u64,
}

impl std::fmt::Display for SourceCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { label, samples, shards_listed, shards_missing } = self;
        write!(f, "{label}:")?;
        if let Some(listed) = shards_listed {
            write!(f, " {listed} shards listed, {} present, {shards_missing} missing;", listed - shards_missing)?;
        }
        write!(f, " {} samples listed", samples.map_or("?".to_owned(), |samples| samples.to_string()))
    }
}

/// What was found of every set that is read from files.
fn sources(loaded: &Loaded) -> Vec<SourceCounts> {
    let of_job = |index: usize| {
        let survey = match &loaded.plan.job(index).spec {
            JobSpec::Dataset(spec) => loaded.surveys.of_pool(&spec.source)?,
            JobSpec::EvalSet(spec) => loaded.surveys.of_eval_set(&spec.source)?,
            _ => return None,
        };
        survey.samples.or(survey.listed_shards).map(|_| SourceCounts {
            label: loaded.plan.label(index),
            samples: survey.samples,
            shards_listed: survey.listed_shards,
            shards_missing: survey.missing_shards,
        })
    };
    (0..loaded.plan.len()).filter_map(of_job).collect()
}

fn axes(loaded: &Loaded) -> String {
    let axes = loaded.expansion.axes();
    if axes.is_empty() { "none".into() } else { axes.join(", ") }
}

/// The runs, one a line, as many as a screen takes.
fn list(loaded: &Loaded, finished: &HashSet<Key>, gmacs: &[f64], out: &mut dyn Write) -> Result<(), Error> {
    const SHOWN: usize = 40;
    let owners = loaded.expansion.owners();
    for (run, owners) in owners.iter().enumerate().take(SHOWN) {
        let id = loaded.expansion.runs()[run].id.to_string();
        let job = loaded.plan.job(loaded.plan.runs()[run].train);
        let state = if finished.contains(&job.key) { "finished" } else { "to do" };
        let labels = owners.first().map(|point| {
            loaded.expansion.labels(*point as usize).map(|(path, label)| format!("{path}={label}")).collect::<Vec<_>>().join(" ")
        });
        let more = if owners.len() > 1 { format!(" (+{} points)", owners.len() - 1) } else { String::new() };
        let seed = loaded.expansion.parts(run).seed;
        let cost = amount(gmacs[run]);
        writeln!(out, "{id}  {state:8}  {cost:>8} GMACs  {} seed={seed}{more}", labels.unwrap_or_default())?;
    }
    if owners.len() > SHOWN {
        writeln!(out, "... and {} more (`--format json` lists all)", owners.len() - SHOWN)?;
    }
    Ok(())
}

/// A number for people: 12, 3.4k, 5.6M.
pub(super) fn amount(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e12 => (value / 1e12, "T"),
        v if v >= 1e9 => (value / 1e9, "B"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    if scaled.abs() >= 100.0 {
        format!("{scaled:.0}{unit}")
    } else {
        format!("{scaled:.3}").trim_end_matches('0').trim_end_matches('.').to_string() + unit
    }
}
