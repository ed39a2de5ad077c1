//! `run`: does what is missing, writes results, prints tables and verdicts.

use std::collections::HashMap;
use std::io::Write;
use std::num::NonZero;
use std::path::Path;

use super::args::{Execution, Experiment, Global};
use super::experiment::Loaded;
use crate::error::{Error, exit};
use crate::executor::{FakeWorker, JobState, Options, Outcome, Shutdown, Stage, Worker, execute, signals};
use crate::jobs::{LocalWorker, ReportInputs, publish_partial};
use crate::plan::{JobSpec, Plan};
use crate::record::{self, Timing};
use crate::run::counted;
use crate::store::{Store, write_atomic};

/// Runs of a finished experiment whose tables are printed again by `run`; `table` prints those of any.
const SHOWN_AGAIN: usize = 1000;

pub(super) fn run(global: &Global, experiment: &Experiment, execution: &Execution, out: &mut dyn Write) -> Result<u8, Error> {
    let loaded = Loaded::new(global, experiment)?;
    loaded.check_support()?;
    let store = Store::open(&global.store)?;
    let finished = store.finished()?;
    let results = loaded.results(global);
    if let Some(report) = loaded.plan.report().filter(|report| finished.contains(&loaded.plan.job(*report).key)) {
        sync(&store, &loaded.plan, report, &results)?;
        if !global.quiet {
            let runs = loaded.expansion.runs().len();
            let verb = if runs == 1 { "is" } else { "are" };
            eprintln_line(&format!("nothing to do: {} {verb} finished", counted(runs, "run")));
        }
        // Reading thousands of records to print them again would be all that there is to do.
        if loaded.expansion.runs().len() > SHOWN_AGAIN && !execution.check {
            writeln!(out, "results in {}", results.display())?;
            return Ok(exit::OK);
        }
        return conclude(&results, execution.check, out);
    }
    let inputs = loaded.report_inputs(global);
    if !global.quiet {
        eprintln_line(&super::plan::headline(&loaded, &finished));
    }
    let shutdown = Shutdown::new();
    signals::install(&shutdown)?;
    let outcome = do_jobs(global, &loaded, execution, &store, &shutdown, inputs.clone())?;
    settle(&loaded.plan, &store, &inputs, &outcome)?;
    write_timings(&loaded.plan, &store, &results)?;
    let code = conclude(&results, execution.check, out)?;
    Ok(exit_code(&loaded.plan, &outcome, code))
}

fn do_jobs(
    global: &Global,
    loaded: &Loaded,
    execution: &Execution,
    store: &Store,
    shutdown: &Shutdown,
    report: ReportInputs,
) -> Result<Outcome, Error> {
    let Execution { jobs, threads, retries, time_limit, max_failures, check: _, fake } = execution;
    let shared = NonZero::new(super::cores() / jobs.get()).unwrap_or(NonZero::<usize>::MIN);
    let options = Options {
        jobs: *jobs,
        threads: threads.unwrap_or(shared),
        retries: *retries,
        time_limit: *time_limit,
        max_failures: *max_failures,
        ..Options::default()
    };
    let local = LocalWorker { checkpoint_every: loaded.checkpoint_every(), report: Some(report) };
    let stand_in = WithRealReport { fake: FakeWorker::default(), local: &local };
    let worker: &dyn Worker = if *fake { &stand_in } else { &local };
    let progress = super::progress(global);
    let outcome = execute(&loaded.plan, store, worker, &options, &|event| progress.handle(&event), shutdown);
    progress.finish();
    Ok(outcome?)
}

/// The stand-in for every job but the report, which only reads records.
struct WithRealReport<'a> {
    fake: FakeWorker,
    local: &'a LocalWorker,
}

impl Worker for WithRealReport<'_> {
    fn run(
        &self,
        job: &crate::plan::Job,
        ctx: &crate::executor::JobContext<'_>,
    ) -> Result<crate::executor::JobOutput, crate::executor::JobError> {
        match job.spec.kind() {
            crate::run::JobKind::Report => self.local.run(job, ctx),
            _ => self.fake.run(job, ctx),
        }
    }
}

/// Brings the results folder to what the finished report holds.
fn sync(store: &Store, plan: &Plan, report: usize, results: &Path) -> Result<(), Error> {
    let key = plan.job(report).key;
    let Some(record) = store.record(&key)? else { return Ok(()) };
    let folder = store.output_dir(&key);
    let mut stale = Vec::new();
    for (name, digest) in &record.outputs {
        let path = results.join(name);
        let is_there = std::fs::metadata(&path).is_ok_and(|meta| meta.len() == digest.bytes)
            && std::fs::read(&path).is_ok_and(|bytes| blake3::hash(&bytes).to_hex().as_str() == digest.blake3);
        if !is_there {
            let source = folder.join(name);
            let bytes = std::fs::read(&source).map_err(|error| Error::File { operation: "read", path: source, source: error })?;
            stale.push((name.clone(), bytes));
        }
    }
    for (name, bytes) in stale {
        write_atomic(&results.join(name), &bytes)?;
    }
    Ok(())
}

/// Where the report did not come to run, writes what there is.
fn settle(plan: &Plan, store: &Store, inputs: &ReportInputs, outcome: &Outcome) -> Result<(), Error> {
    match plan.report().map(|report| (report, outcome.states[report])) {
        // Written into the results folder by the job itself.
        Some((_, JobState::Finished)) => return Ok(()),
        // Written by another program, perhaps into another results folder.
        Some((report, JobState::Adopted | JobState::Cached)) => return sync(store, plan, report, &inputs.results),
        _ => {}
    }
    let mut missing: HashMap<usize, String> = outcome.failed.iter().map(|failure| (failure.job, failure.reason.clone())).collect();
    for (job, by) in &outcome.blocked {
        let why = missing.get(by).cloned().unwrap_or_default();
        missing.insert(*job, format!("{} failed: {why}", plan.label(*by)));
    }
    Ok(publish_partial(inputs, plan, store, &missing)?)
}

/// `timings.csv`: the only file of a results folder with clocks.
fn write_timings(plan: &Plan, store: &Store, results: &Path) -> Result<(), Error> {
    let mut timings = Vec::new();
    for (index, job) in plan.jobs().enumerate() {
        if let Some(found) = store.timings(&job.key) {
            let run_id = job.run.map_or_else(String::new, |run| plan.runs()[run as usize].run_id.clone());
            let samples_per_s = match &job.spec {
                #[expect(clippy::cast_precision_loss, reason = "sample counts below 2^53")]
                JobSpec::Train(spec) => Some(spec.train.samples_seen() as f64 / found.wall_s.max(1e-9)),
                _ => None,
            };
            let job = format!("{} {}", job.spec.tag(), plan.label(index));
            timings.push(Timing { run_id, job, wall_s: found.wall_s, cpu_s: found.cpu_s, threads: found.threads, samples_per_s });
        }
    }
    let file = record::timings_file(&timings)?;
    Ok(write_atomic(&results.join(file.name), &file.bytes)?)
}

/// Prints tables and verdicts from the results folder, and says whether a checked verdict is not the expected one.
fn conclude(results: &Path, check: bool, out: &mut dyn Write) -> Result<u8, Error> {
    let shown = super::table::print_folder(results, out)?;
    writeln!(out, "results in {}", results.display())?;
    Ok(if check && !shown.all_as_expected { exit::CHECK } else { exit::OK })
}

fn exit_code(plan: &Plan, outcome: &Outcome, code: u8) -> u8 {
    if let Some((reason, hint)) = &outcome.environment {
        eprintln_line(&format!("error: {reason}"));
        if let Some(hint) = hint {
            eprintln_line(&format!("hint: {hint}"));
        }
        return exit::ENVIRONMENT;
    }
    if !outcome.interrupted.is_empty() || !outcome.waiting.is_empty() || outcome.stage > Stage::Draining {
        let rest = outcome.interrupted.len() + outcome.waiting.len();
        if rest > 0 {
            eprintln_line(&format!("stopped with {} to go; the same command goes on from here", counted(rest, "job")));
            return if signals::asked_to_leave() { exit::REQUEUE } else { exit::INTERRUPTED };
        }
    }
    for failure in &outcome.failed {
        eprintln_line(&format!("failed: {}: {}", plan.label(failure.job), failure.reason));
        if let Some(hint) = &failure.hint {
            eprintln_line(&format!("hint: {hint}"));
        }
    }
    if outcome.failed.is_empty() { code } else { exit::FAILED }
}

fn eprintln_line(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
