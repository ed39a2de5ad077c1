//! Writes down what an experiment found: records of runs, tables and verdicts.
//!
//! Input: records of the plan's train and evaluate jobs. Output: `runs.csv`, `curves.csv`, `provenance.json`, `milestones.csv` where
//! runs have milestones, `outcomes.csv`, `tables/` and `claims.csv`, in the store; `results` brings them into the results folder.
//! Invariant: tables and claims are rebuilt from the rest byte for byte ([`rebuild`]).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::adopt::{Adopted, named_by_key};
use super::{PackedSummary, files, outcomes, write};
use crate::claims::fits::{FILE_PREFIX, FRONTIER_PREFIX};
use crate::claims::{Findings, Statements, findings, to_csv};
use crate::data::{Philox, SkipKind, Stream};
use crate::executor::{EvaluateSummary, JobContext, JobError, JobOutput, TrainSummary};
use crate::plan::{JobSpec, Plan, PlanRun};
use crate::record::{self, Marks, PointView, Provenance, Records, SampleCounts, Stated};
use crate::run::{CurvePoint, GMACS_AS_STATED, Outcomes, RunConfig, RunRecord, RunStatus, add_best};
use crate::store::{JobStatus, Store};
use crate::tables::{TableInput, is_file_name};
use crate::trainer::cost::{gmacs_per_sample, gmacs_per_sample_as_stated};

/// What a report is about.
#[derive(Debug, Clone)]
pub struct ReportInputs {
    /// Where the results come from.
    pub provenance: Provenance,
    /// Key paths of the axes, in the order written.
    pub axes: Vec<String>,
    /// Points in plan order.
    pub points: Vec<PointView>,
    /// The config of each run of the plan, in its order.
    pub configs: Vec<RunConfig>,
    /// What each job of the plan is called where a source is named by its paths as written.
    pub labels: Vec<String>,
    /// What is asked of the records.
    pub statements: Statements,
    /// What was stated when the first run started.
    pub stated: Stated,
    /// The experiment's results folder.
    pub results: PathBuf,
}

/// Builds tables and verdicts from records alone.
///
/// # Errors
/// If the records' statements are of another version, a table's name is no file name, or a table cannot be built; the message
/// names it.
pub fn rebuild(records: &Records) -> Result<Findings, String> {
    let statements: Statements = serde_json::from_value(records.statements.clone())
        .map_err(|error| format!("provenance.json: the statements of tables, claims and fits do not read: {error}"))?;
    if let Some(table) = statements.tables.iter().find(|table| !is_file_name(&table.name)) {
        return Err(format!("provenance.json: the name of table `{}` is not a file name", table.name));
    }
    if let Some(fit) = statements.fits.iter().find(|fit| !is_file_name(&fit.name)) {
        return Err(format!("provenance.json: the name of fit `{}` is not a file name", fit.name));
    }
    let input = TableInput::new(&records.points, &records.runs);
    let mut found = findings(&statements, &input, &records.outcomes, &fit_normals).map_err(|error| error.to_string())?;
    mark(&mut found, records, &records.statements);
    Ok(found)
}

/// The normal numbers of which the intervals of fits are made, by draw and stream: the same on every machine.
#[must_use]
pub fn fit_normals(draw: u64, stream: u32) -> Box<dyn FnMut() -> f64> {
    let mut draws = Philox::new(0, Stream::Fits).at(draw, stream);
    Box::new(move || draws.normal())
}

/// Says of tables, fits and claims that were stated or edited after runs had finished that they were: in the captions of tables and fits
/// and the notes of verdicts. `statements` are those that the findings are of.
pub fn mark(findings: &mut Findings, records: &Records, statements: &serde_json::Value) {
    let Some(first) = &records.stated else { return };
    let Marks { claims, tables, fits, all } = first.marks(&Stated::of(statements, records.runs.iter().map(|run| &run.config)));
    let Findings { tables: built, fits: fitted, verdicts, files, frontiers } = findings;
    let mut replace = |name: String, bytes: Vec<u8>| {
        files.iter_mut().filter(|file| file.name == name).for_each(|file| file.bytes.clone_from(&bytes));
    };
    for table in built.iter_mut() {
        if let Some(said) = tables.get(&table.name) {
            table.caption = Some(marked(table.caption.as_ref(), "table", said));
            replace(format!("tables/{}.md", table.name), table.to_markdown().into_bytes());
        }
    }
    for fit in fitted.iter_mut() {
        if let Some(said) = fits.get(&fit.name) {
            fit.caption = Some(marked(fit.caption.as_ref(), "fit", said));
            replace(format!("tables/{FILE_PREFIX}{}.md", fit.name), fit.to_markdown().into_bytes());
        }
    }
    for frontier in frontiers.iter_mut() {
        if let Some(said) = fits.get(&frontier.name) {
            frontier.caption = Some(marked(frontier.caption.as_ref(), "frontier", said));
            replace(format!("tables/{FRONTIER_PREFIX}{}.md", frontier.name), frontier.to_markdown().into_bytes());
        }
    }
    for verdict in verdicts.iter_mut() {
        verdict.notes.extend(claims.get(&verdict.id).cloned());
        verdict.notes.extend(all.iter().cloned());
    }
    replace("claims.csv".to_owned(), to_csv(verdicts));
}

/// A caption that says when its table or fit was stated.
fn marked(caption: Option<&String>, what: &str, said: &str) -> String {
    let caption = caption.map_or(String::new(), |caption| format!("{caption}; "));
    format!("{caption}this {what} was {said}")
}

pub(super) fn run(inputs: Option<&ReportInputs>, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let inputs = inputs.ok_or_else(|| JobError::failed("this worker was given no report to write"))?;
    let missing: HashMap<usize, String> = ctx.missing().iter().cloned().collect();
    let records = assemble(inputs, ctx.plan(), ctx.store(), &missing, &Adopted::default())?;
    let files = all_files(&records).map_err(JobError::failed)?;
    for (name, bytes) in &files {
        let path = ctx.out().join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| JobError::io("create", folder, error))?;
        }
        write(&path, bytes)?;
    }
    Ok(JobOutput::finished(&serde_json::json!({ "runs": records.runs.len() })))
}

/// Every file of a results folder but `timings.csv`.
pub(super) fn all_files(records: &Records) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut files: Vec<(String, Vec<u8>)> = record::files(records)
        .map_err(|error| error.to_string())?
        .into_iter()
        .map(|file| (file.name.to_string(), file.bytes))
        .collect();
    files.extend(rebuild(records)?.files.into_iter().map(|file| (file.name, file.bytes)));
    Ok(files)
}

/// The records of every run of the plan: adopted ones as they stand in records, the others from the store; a run without a finished
/// training is a row with its reason.
pub(super) fn assemble(
    inputs: &ReportInputs,
    plan: &Plan,
    store: &Store,
    missing: &HashMap<usize, String>,
    adopted: &Adopted,
) -> Result<Records, JobError> {
    let record = |(idx, (run, config)): (usize, (&PlanRun, &RunConfig))| match adopted.run(idx) {
        // Paths stand in configs as this file writes them.
        Some(known) => Ok(RunRecord { run_id: run.run_id.clone(), config: config.clone(), ..known.record.clone() }),
        None => run_record(run, config, plan, store, missing),
    };
    let runs = plan.runs().iter().zip(&inputs.configs).enumerate().map(record).collect::<Result<Vec<_>, _>>()?;
    let outcomes = shown_outcomes(&inputs.statements, &runs, plan, store, adopted)?;
    let statements = serde_json::to_value(&inputs.statements).expect("statements are plain structs with text keys");
    let ReportInputs { provenance, axes, points, stated, .. } = inputs.clone();
    let mut provenance = Provenance { samples: samples(&inputs.labels, plan, store, adopted)?, ..provenance };
    let identities = adopted.identities(plan, &runs, &mut provenance);
    Ok(Records { provenance, runs, axes, points, statements, outcomes, identities, stated: Some(stated) })
}

/// The records of every run of a plan as the store holds them; `missing` says why jobs have no record.
///
/// # Errors
/// If the store cannot be read.
pub fn run_records(
    plan: &Plan,
    configs: &[RunConfig],
    store: &Store,
    missing: &HashMap<usize, String>,
) -> Result<Vec<RunRecord>, JobError> {
    plan.runs().iter().zip(configs).map(|(run, config)| run_record(run, config, plan, store, missing)).collect()
}

/// What the items came to behind every metric that a table shows or a fit is of.
fn shown_outcomes(
    statements: &Statements,
    runs: &[RunRecord],
    plan: &Plan,
    store: &Store,
    adopted: &Adopted,
) -> Result<Outcomes, JobError> {
    let shown = statements.shown();
    let mut found = Outcomes::default();
    for (idx, (run, record)) in plan.runs().iter().zip(runs).enumerate() {
        if let Some(known) = adopted.run(idx) {
            let metrics: BTreeMap<_, _> = known
                .outcomes
                .iter()
                .filter(|(metric, _)| shown.contains(metric.as_str()))
                .map(|(m, o)| (m.clone(), o.clone()))
                .collect();
            if !metrics.is_empty() {
                found.0.insert(record.run_id.clone(), metrics);
            }
            continue;
        }
        for evaluate in &run.evaluates {
            let job = plan.job(*evaluate);
            let JobSpec::Evaluate(spec) = &job.spec else { continue };
            // Metrics at earlier points have names of their own, and items of none are kept.
            if spec.at.is_some() {
                continue;
            }
            let prefix = format!("{}/{}", spec.task.name(), spec.name);
            if !shown.iter().any(|metric| metric.starts_with(&prefix)) {
                continue;
            }
            let sets = outcomes::read(&store.output_dir(&job.key), |key| store.output_dir(key))?;
            let metrics = outcomes::metrics(&prefix, &sets);
            // What does not give the recorded value again was counted in another way.
            let is_of_value =
                |metric: &str, value: f64| record.metrics.get(metric).is_some_and(|recorded| (recorded - value).abs() < 1e-6);
            let metrics =
                metrics.into_iter().filter(|(metric, (_, value))| shown.contains(metric.as_str()) && is_of_value(metric, *value));
            for (metric, (sets, _)) in metrics {
                found.0.entry(record.run_id.clone()).or_default().insert(metric, sets.into());
            }
        }
    }
    Ok(found)
}

/// What of every packed set was there and was good; sets of one label are told apart by their keys. What adopted runs alone read is not
/// packed: their records say what of it was there.
fn samples(labels: &[String], plan: &Plan, store: &Store, adopted: &Adopted) -> Result<BTreeMap<String, SampleCounts>, JobError> {
    let mut samples: BTreeMap<String, SampleCounts> = BTreeMap::new();
    let is_pack = |spec: &JobSpec| matches!(spec, JobSpec::Dataset(_) | JobSpec::EvalSet(_));
    for (index, job) in plan.jobs().enumerate().filter(|(_, job)| is_pack(&job.spec)) {
        let label = format!("{} {}", job.spec.tag(), labels[index]);
        let counts = match store.record(&job.key)? {
            Some(record) => packed_counts(&record.summary),
            None => adopted.samples(&label, &job.key).cloned(),
        };
        let Some(counts) = counts else { continue };
        let name = if samples.contains_key(&label) { named_by_key(&label, &job.key) } else { label };
        samples.insert(name, counts);
    }
    Ok(samples)
}

/// The counts of a summary; `None` of a worker that packs nothing (a test's), which leaves another summary.
fn packed_counts(summary: &serde_json::Value) -> Option<SampleCounts> {
    let PackedSummary { samples: packed, skipped, skipped_by_kind, shards, oddities: _, bytes: _ } =
        PackedSummary::deserialize(summary).ok()?;
    let name = |kind: SkipKind| serde_json::to_value(kind).ok().and_then(|name| name.as_str().map(str::to_owned));
    Some(SampleCounts {
        packed,
        skipped,
        skipped_by_kind: skipped_by_kind.into_iter().filter_map(|(kind, count)| Some((name(kind)?, count))).collect(),
        shards_listed: shards.map(|shards| shards.listed),
        shards_missing: shards.map(|shards| shards.missing),
    })
}

fn run_record(
    run: &PlanRun,
    config: &RunConfig,
    plan: &Plan,
    store: &Store,
    missing: &HashMap<usize, String>,
) -> Result<RunRecord, JobError> {
    let key = plan.job(run.train).key;
    let mut found = RunRecord {
        run_id: run.run_id.clone(),
        config: config.clone(),
        status: RunStatus::Interrupted,
        reason: None,
        subset_samples: 0,
        steps: 0,
        samples_seen: 0,
        gmacs: 0.0,
        metrics: BTreeMap::new(),
        curve: Vec::new(),
    };
    let Some(train) = store.record(&key)? else {
        // Where the training itself has no reason, an evaluation found its model damaged and set it aside.
        let reason = run.jobs().find_map(|job| missing.get(&job));
        (found.status, found.reason) = match reason {
            Some(reason) => (RunStatus::Failed, Some(reason.clone())),
            None => (RunStatus::Interrupted, Some("not trained yet".into())),
        };
        return Ok(found);
    };
    let TrainSummary { subset_samples, steps, samples_seen, gmacs } = summary(&train.summary, run.train, plan)?;
    (found.subset_samples, found.steps, found.samples_seen, found.gmacs) = (subset_samples, steps, samples_seen, gmacs);
    if config.train.strategy.ssl.is_some() {
        let (ours, stated) = (
            gmacs_per_sample(&config.model, &config.train.strategy),
            gmacs_per_sample_as_stated(&config.model, &config.train.strategy),
        );
        found.metrics.insert(GMACS_AS_STATED.into(), gmacs * stated / ours);
    }
    found.curve = curve(&store.output_dir(&key).join(files::CURVE))?;
    (found.status, found.reason) = match train.status {
        JobStatus::Finished => (RunStatus::Finished, None),
        JobStatus::Diverged => (RunStatus::Diverged, train.reason.clone()),
    };
    let mut reasons = Vec::new();
    for evaluate in &run.evaluates {
        match store.record(&plan.job(*evaluate).key)? {
            Some(record) => {
                let measured = summary::<EvaluateSummary>(&record.summary, *evaluate, plan)?.metrics;
                let JobSpec::Evaluate(spec) = &plan.job(*evaluate).spec else { continue };
                let step = spec.at.unwrap_or(config.train.steps);
                for milestone in config.train.milestones.iter().filter(|milestone| milestone.step == step) {
                    found.metrics.extend(measured.iter().map(|(metric, value)| (milestone.metric(metric), *value)));
                }
                if spec.at.is_none() {
                    found.metrics.extend(measured);
                }
            }
            None if train.status == JobStatus::Diverged => {}
            None => {
                let reason = missing.get(evaluate);
                let is_worse = reason.is_some() || found.status == RunStatus::Finished;
                if is_worse {
                    found.status = if reason.is_some() { RunStatus::Failed } else { RunStatus::Interrupted };
                }
                reasons.push(format!("{}: {}", plan.label(*evaluate), reason.map_or("not measured yet", String::as_str)));
            }
        }
    }
    add_best(&mut found.metrics, &config.train.milestones, config.train.steps);
    if !reasons.is_empty() {
        found.reason = Some(reasons.join("; "));
    }
    Ok(found)
}

fn summary<T: serde::de::DeserializeOwned>(value: &serde_json::Value, job: usize, plan: &Plan) -> Result<T, JobError> {
    let unreadable = |error| {
        let reason = format!("the record of {} does not read: {error}", plan.label(job));
        let hint = Some(format!("remove the folder of job {} from the store: it is done again", plan.job(job).key));
        JobError::Environment { reason, hint }
    };
    T::deserialize(value).map_err(unreadable)
}

/// A training's curve; empty where none was written.
fn curve(path: &Path) -> Result<Vec<CurvePoint>, JobError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(JobError::failed(format!("cannot read {}: {error}", path.display()))),
    };
    serde_json::from_slice(&bytes).map_err(|error| JobError::failed(format!("{}: {error}", path.display())))
}
