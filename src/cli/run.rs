//! `run`: does what is missing, writes results, prints tables and verdicts.

use std::collections::HashMap;
use std::io::Write;
use std::num::NonZero;
use std::path::Path;

use super::adoption::{self, Verified};
use super::args::{Execution, Experiment, Global};
use super::experiment::Loaded;
use super::reuse::Reuse;
use super::stated;
use crate::error::{Error, exit};
use crate::executor::{JobState, Options, Outcome, Shutdown, Stage, execute, signals};
use crate::jobs::{Adopted, FeatureCache, LocalWorker, Published, ReportInputs, publish_partial, sync};
use crate::plan::Plan;
use crate::record::{self, Timing};
use crate::run::{JobKind, counted};
use crate::store::{Store, Timings, try_folder, write_atomic};

/// Runs of a finished experiment whose tables are printed again by `run`; `table` prints those of any.
const SHOWN_AGAIN: usize = 1000;

pub(super) fn run(
    global: &Global,
    experiment: &Experiment,
    execution: &Execution,
    reuse: &Reuse,
    out: &mut dyn Write,
) -> Result<u8, Error> {
    let loaded = Loaded::new(global, experiment)?;
    loaded.check_support()?;
    let store = Store::open(&global.store)?;
    let finished = store.finished()?;
    let results = loaded.results(global);
    if let Some(report) = loaded.plan.report().filter(|report| stated::is_current(&loaded, &store, &finished, *report, &results)) {
        let published = sync(&store, &loaded.plan, report, &results)?;
        say(global, &nothing_to_do(&loaded, &Adopted::default()));
        // Reading thousands of records to print them again would be all that there is to do.
        if loaded.expansion.runs().len() > SHOWN_AGAIN && !execution.check {
            return say_where(global, &results, out).map(|()| exit::OK);
        }
        return conclude(global, &results, &published, execution.check, out);
    }
    let adopted = adoption::find(global, &loaded, &finished, &reuse.adoption)?;
    let shutdown = Shutdown::new();
    signals::install(&shutdown)?;
    let do_jobs = |plan: &Plan, store: &Store, report: Option<ReportInputs>| {
        do_jobs(global, &loaded, (plan, store, report), execution, &shutdown)
    };
    let verify = |plan: &Plan, store: &Store| do_jobs(plan, store, None);
    if let Verified::Failed(code) = adoption::verify(global, &loaded, &adopted, &reuse.verify, &verify)? {
        return Ok(code);
    }
    // What is adopted is in no graph: what only it would need is not done, and a report on it is no finished job.
    let rest = if adopted.is_empty() { None } else { Some(loaded.rest(&adopted)?) };
    let plan = rest.as_ref().unwrap_or(&loaded.plan);
    try_folder(&results)?;
    let stated = stated::first(&loaded, &store, &finished, &adopted, &results);
    let inputs = loaded.report_inputs(global, &stated);
    if plan.todo(|key| finished.contains(key)).is_empty() {
        let published = publish_partial(&inputs, &loaded.plan, &store, &HashMap::new(), &adopted)?;
        say(global, &nothing_to_do(&loaded, &adopted));
        return conclude(global, &results, &published, execution.check, out);
    }
    // Hours of work are not begun where nothing of it could be kept.
    store.try_writing()?;
    stated::note(&loaded, &store, &stated)?;
    say(global, &super::plan::headline(&loaded, plan, &finished, &adopted));
    let outcome = do_jobs(plan, &store, Some(inputs.clone()))?;
    let code = match settle(&loaded.plan, plan, &store, &inputs, &outcome, &adopted) {
        Ok(published) => {
            if published == Published::Written {
                write_timings(&loaded.plan, &store, &results)?;
            }
            say(global, &done(plan, &outcome, &adopted));
            conclude(global, &results, &published, execution.check, out)?
        }
        // The machine's fault is said once, and what stands in the results folder stands there still.
        Err(Error::Job(_)) if outcome.environment.is_some() => exit::ENVIRONMENT,
        Err(error) => return Err(error),
    };
    Ok(exit_code(plan, &outcome, code))
}

fn nothing_to_do(loaded: &Loaded, adopted: &Adopted) -> String {
    let runs = loaded.expansion.runs().len();
    let verb = if runs == 1 { "is" } else { "are" };
    let said = format!("nothing to do: {} {verb} finished", counted(runs, "run"));
    if adopted.is_empty() { said } else { format!("{said}, {} adopted ({}), 0 trained", adopted.len(), adoption::folders(adopted)) }
}

/// How many runs were taken from records and how many trained now; scorers are no runs of the experiment.
fn done(plan: &Plan, outcome: &Outcome, adopted: &Adopted) -> String {
    let is_trained = |job: usize| outcome.states[job] == JobState::Finished;
    let trained = plan.runs().iter().filter(|run| is_trained(run.train)).count();
    let is_train = |job: &usize| plan.job(*job).spec.kind() == JobKind::Train;
    let scorers = (0..plan.len()).filter(is_train).filter(|job| is_trained(*job)).count() - trained;
    let beside = if scorers > 0 { format!(" and {}", counted(scorers, "scorer")) } else { String::new() };
    let from = if adopted.is_empty() { String::new() } else { format!(" ({})", adoption::folders(adopted)) };
    format!("{} adopted{from}, {trained} trained{beside}", adopted.len())
}

fn do_jobs(
    global: &Global,
    loaded: &Loaded,
    (plan, store, report): (&Plan, &Store, Option<ReportInputs>),
    execution: &Execution,
    shutdown: &Shutdown,
) -> Result<Outcome, Error> {
    let Execution { jobs, threads, retries, time_limit, max_failures, check: _ } = execution;
    let shared = NonZero::new(super::cores() / jobs.get()).unwrap_or(NonZero::<usize>::MIN);
    let options = Options {
        jobs: *jobs,
        threads: threads.unwrap_or(shared),
        retries: *retries,
        time_limit: *time_limit,
        max_failures: *max_failures,
        ..Options::default()
    };
    let worker = LocalWorker { checkpoint_every: loaded.checkpoint_every(), report, features: FeatureCache::default() };
    let progress = super::progress(global);
    let outcome = execute(plan, store, &worker, &options, &|event| progress.handle(&event), shutdown);
    progress.finish();
    Ok(outcome?)
}

/// Brings what there is into the results folder: the report, or where there is none, what is known of each run. `done` is the plan that was
/// executed, of `plan` what is not adopted.
fn settle(
    plan: &Plan,
    done: &Plan,
    store: &Store,
    inputs: &ReportInputs,
    outcome: &Outcome,
    adopted: &Adopted,
) -> Result<Published, Error> {
    let is_whole = adopted.is_empty();
    if let Some(report) = plan.report().filter(|report| is_whole && store.is_finished(&plan.job(*report).key)) {
        return Ok(sync(store, plan, report, &inputs.results)?);
    }
    let is_report = |job: usize| done.report() == Some(job);
    let failures = outcome.failed.iter().filter(|failure| !is_report(failure.job));
    let mut missing: HashMap<usize, String> = failures.map(|failure| (failure.job, failure.reason.clone())).collect();
    for (job, by) in &outcome.blocked {
        let why = missing.get(by).cloned().unwrap_or_default();
        let kind = done.job(*by).spec.kind().name();
        missing.insert(*job, format!("needs {kind} {}, which failed: {why}", done.label(*by)));
    }
    let missing = missing.into_iter().filter_map(|(job, why)| Some((plan.index_of(&done.job(job).key)?, why))).collect();
    Ok(publish_partial(inputs, plan, store, &missing, adopted)?)
}

/// `timings.csv`: the only file of a results folder with clocks.
fn write_timings(plan: &Plan, store: &Store, results: &Path) -> Result<(), Error> {
    let mut timings = Vec::new();
    for (index, job) in plan.jobs().enumerate() {
        if let Some(Timings { wall_s, cpu_s, threads, samples }) = store.timings(&job.key) {
            let run_id = job.run.map_or_else(String::new, |run| plan.runs()[run as usize].run_id.clone());
            #[expect(clippy::cast_precision_loss, reason = "sample counts below 2^53")]
            let samples_per_s = samples.map(|samples| samples as f64 / wall_s.max(1e-9));
            let job = format!("{} {}", job.spec.tag(), plan.label(index));
            timings.push(Timing { run_id, job, wall_s, cpu_s, threads, samples_per_s });
        }
    }
    let file = record::timings_file(&timings)?;
    Ok(write_atomic(&results.join(file.name), &file.bytes)?)
}

/// Prints tables and verdicts from the results folder, and says whether a checked verdict is not the expected one.
fn conclude(global: &Global, results: &Path, published: &Published, check: bool, out: &mut dyn Write) -> Result<u8, Error> {
    if let Published::Left { why } = published {
        eprintln_line(&format!("warning: {} is left as it is: {why}", results.display()));
        eprintln_line("hint: what is finished is kept in the store; give another folder with `--results` to see it");
        return Ok(exit::OK);
    }
    let shown = if global.quiet {
        super::table::print_folder(results, &mut std::io::sink())?
    } else {
        super::table::print_folder(results, out)?
    };
    say_where(global, results, out)?;
    Ok(if check && !shown.all_as_expected { exit::CHECK } else { exit::OK })
}

fn say_where(global: &Global, results: &Path, out: &mut dyn Write) -> Result<(), Error> {
    if global.quiet { Ok(()) } else { Ok(writeln!(out, "results in {}", results.display())?) }
}

fn exit_code(plan: &Plan, outcome: &Outcome, code: u8) -> u8 {
    if let Some((reason, hint)) = &outcome.environment {
        eprintln_line(&format!("error: {reason}"));
        if let Some(hint) = hint {
            eprintln_line(&format!("hint: {hint}"));
        }
        return exit::ENVIRONMENT;
    }
    let rest = outcome.interrupted.len() + outcome.waiting.len();
    if rest > 0 && outcome.stage > Stage::Running {
        eprintln_line(&format!("stopped with {} to go; the same command goes on from here", counted(rest, "job")));
        return if signals::asked_to_leave() { exit::REQUEUE } else { exit::INTERRUPTED };
    }
    if !outcome.waiting.is_empty() {
        let (failed, waiting) = (counted(outcome.failed.len(), "failure"), counted(outcome.waiting.len(), "job"));
        eprintln_line(&format!("stopped after {failed} with {waiting} to go"));
    }
    for failure in &outcome.failed {
        eprintln_line(&format!("failed: {}: {}", plan.label(failure.job), failure.reason));
        if let Some(hint) = &failure.hint {
            eprintln_line(&format!("hint: {hint}"));
        }
    }
    if outcome.failed.is_empty() { code } else { exit::FAILED }
}

fn say(global: &Global, line: &str) {
    if !global.quiet {
        eprintln_line(line);
    }
}

fn eprintln_line(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
