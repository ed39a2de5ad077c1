//! `status`: where the runs of an experiment stand, and where their files lie. Reads the store and committed records.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use super::adoption;
use super::args::{Experiment, Format, Global};
use super::experiment::Loaded;
use super::reuse::Adoption;
use crate::error::Error;
use crate::jobs::{Adopted, MODEL_FILE};
use crate::plan::{Key, PlanRun};
use crate::run::counted;
use crate::store::{FailureRecord, LeaseInfo, Store};

pub(super) fn run(
    global: &Global,
    experiment: &Experiment,
    adoption: &Adoption,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let loaded = Loaded::new(global, experiment)?;
    let store = Store::open(&global.store)?;
    let overview = store.overview()?;
    let finished = store.finished()?;
    let standing = Standing {
        loaded: &loaded,
        store: &store,
        adopted: adoption::find(global, &loaded, &finished, adoption)?,
        finished,
        leases: overview.leases.into_iter().map(|lease| (lease.key, lease)).collect(),
        failures: overview.failures.into_iter().map(|failure| (failure.key, failure)).collect(),
    };
    let rows: Vec<Row> = loaded.plan.runs().iter().enumerate().map(|(idx, run)| standing.row(idx, run)).collect();
    match format {
        Format::Json => {
            let runs: Vec<_> = rows.iter().map(Row::to_json).collect();
            writeln!(out, "{:#}", serde_json::json!({ "experiment": loaded.spec().experiment, "runs": runs }))?;
        }
        Format::Human => human(&rows, out)?,
    }
    Ok(())
}

/// What the store says of an experiment's jobs.
struct Standing<'a> {
    loaded: &'a Loaded,
    store: &'a Store,
    finished: HashSet<Key>,
    adopted: Adopted,
    leases: HashMap<Key, LeaseInfo>,
    failures: HashMap<Key, FailureRecord>,
}

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Finished,
    Adopted,
    Running,
    Failed,
    ToDo,
}

struct Row {
    run_id: String,
    state: State,
    text: String,
    /// Folder of the trained model, where there is one.
    folder: Option<std::path::PathBuf>,
}

impl Row {
    fn to_json(&self) -> serde_json::Value {
        let model = self.folder.as_ref().map(|folder| folder.join(MODEL_FILE)).filter(|path| path.exists());
        serde_json::json!({ "run_id": self.run_id, "state": self.text, "folder": self.folder, "model": model })
    }
}

fn human(rows: &[Row], out: &mut dyn Write) -> Result<(), Error> {
    for Row { run_id, text, .. } in rows {
        writeln!(out, "{run_id}  {text}")?;
    }
    let count = |wanted: State| rows.iter().filter(|row| row.state == wanted).count();
    let [done, adopted, running, failed, left] =
        [State::Finished, State::Adopted, State::Running, State::Failed, State::ToDo].map(count);
    let runs = counted(rows.len(), "run");
    let taken = if adopted > 0 { format!("{adopted} adopted, ") } else { String::new() };
    writeln!(out, "{runs}: {done} finished, {taken}{running} running, {failed} failed, {left} to do")?;
    if done > 0 {
        writeln!(out, "`scaledown path RUN FILE` prints where the model of a run lies")?;
    }
    Ok(())
}

impl Standing<'_> {
    fn row(&self, idx: usize, run: &PlanRun) -> Row {
        let plan = &self.loaded.plan;
        let own: Vec<usize> = run.jobs().collect();
        let is_done = |job: &usize| self.finished.contains(&plan.job(*job).key);
        let done = own.iter().filter(|job| is_done(job)).count();
        let (state, text) = if done == own.len() {
            (State::Finished, "finished".to_owned())
        } else if let Some(known) = self.adopted.run(idx) {
            (State::Adopted, format!("{}, adopted from {}", known.record.status.name(), adoption::source(known)))
        } else if let Some(running) = own.iter().find_map(|job| self.running(*job)) {
            (State::Running, running)
        } else if let Some(failed) = self.failed(&own) {
            (State::Failed, failed)
        } else {
            (State::ToDo, self.to_do(run.train, done, own.len()))
        };
        let key = &plan.job(run.train).key;
        let folder = self.finished.contains(key).then(|| self.store.output_dir(key));
        Row { run_id: run.run_id.clone(), state, text, folder }
    }

    fn running(&self, job: usize) -> Option<String> {
        let lease = self.leases.get(&self.loaded.plan.job(job).key).filter(|lease| lease.is_alive)?;
        Some(format!("running on {} (process {})", lease.holder.host, lease.holder.pid))
    }

    /// The failure that keeps a run from its end: of one of its own jobs, or of one that they stand on.
    fn failed(&self, own: &[usize]) -> Option<String> {
        let plan = &self.loaded.plan;
        let unfinished = own.iter().copied().filter(|job| !self.finished.contains(&plan.job(*job).key));
        let mut jobs: Vec<usize> = unfinished.clone().collect();
        jobs.extend(unfinished.flat_map(|job| plan.ancestors(job)));
        jobs.into_iter().find_map(|job| {
            let failure = self.failures.get(&plan.job(job).key)?;
            let of = if own.contains(&job) { String::new() } else { format!("{} {}: ", failure.kind, failure.label) };
            Some(format!("failed: {of}{}", failure.reason))
        })
    }

    fn to_do(&self, train: usize, done: usize, jobs: usize) -> String {
        if done > 0 {
            return format!("{done} of {} finished", counted(jobs, "job"));
        }
        let plan = &self.loaded.plan;
        let steps = match &plan.job(train).spec {
            crate::plan::JobSpec::Train(spec) => spec.train.steps,
            _ => 0,
        };
        let gone = self.leases.get(&plan.job(train).key).map(|lease| format!(" ({lease} is gone)")).unwrap_or_default();
        match self.loaded.steps_done(self.store, train) {
            0 => format!("waiting{gone}"),
            step => format!("stopped at step {step} of {steps}{gone}"),
        }
    }
}
