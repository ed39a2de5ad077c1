//! `data make` and `data inspect`: packs the data sets of an experiment and shows what they hold.

use std::io::Write;
use std::num::NonZero;
use std::path::Path;

use super::args::{Data, Experiment, Global};
use super::experiment::Loaded;
use crate::data::{Pack, contact_sheet};
use crate::error::{Error, exit};
use crate::executor::{Options, Shutdown, execute, signals};
use crate::jobs::LocalWorker;
use crate::plan::{self, JobSpec, Plan};
use crate::run::counted;
use crate::store::Store;

pub(super) fn run(global: &Global, args: &Data, out: &mut dyn Write) -> Result<u8, Error> {
    match args {
        Data::Make { experiment, threads } => make(global, experiment, *threads, out),
        Data::Inspect { experiment, sheets, samples } => inspect(global, experiment, sheets.as_deref(), *samples, out),
    }
}

/// The dataset jobs of an experiment's plan, and nothing else.
fn datasets(loaded: &Loaded) -> Plan {
    plan::datasets(&loaded.plan)
}

fn make(global: &Global, experiment: &Experiment, threads: Option<NonZero<usize>>, out: &mut dyn Write) -> Result<u8, Error> {
    let loaded = Loaded::new(global, experiment)?;
    let store = Store::open(&global.store)?;
    let plan = datasets(&loaded);
    let shutdown = Shutdown::new();
    signals::install(&shutdown)?;
    let worker = LocalWorker { checkpoint_every: Box::new(|_| 0), report: None };
    let options = Options { threads: threads.unwrap_or(Options::default().threads), ..Options::default() };
    let progress = super::progress(global);
    let outcome = execute(&plan, &store, &worker, &options, &|event| progress.handle(&event), &shutdown)?;
    progress.finish();
    if !global.quiet {
        show(&plan, &store, out)?;
    }
    for failure in &outcome.failed {
        writeln!(std::io::stderr().lock(), "failed: {}: {}", plan.label(failure.job), failure.reason)?;
    }
    Ok(match (outcome.failed.is_empty(), outcome.is_complete()) {
        (false, _) => exit::FAILED,
        (true, true) => exit::OK,
        (true, false) => exit::INTERRUPTED,
    })
}

/// One line a packed set.
fn show(plan: &Plan, store: &Store, out: &mut dyn Write) -> Result<(), Error> {
    for (index, job) in plan.jobs().enumerate() {
        if store.is_finished(&job.key) {
            let pack = Pack::open(&store.output_dir(&job.key))?;
            let (samples, skipped) = (counted(pack.len(), "sample"), pack.skipped().total);
            writeln!(out, "{} {}: {samples}, {skipped} skipped", job.spec.tag(), plan.label(index))?;
        }
    }
    Ok(())
}

fn inspect(
    global: &Global,
    experiment: &Experiment,
    sheets: Option<&Path>,
    samples: usize,
    out: &mut dyn Write,
) -> Result<u8, Error> {
    let loaded = Loaded::new(global, experiment)?;
    let store = Store::open(&global.store)?;
    let mut packed = 0;
    for (index, job) in loaded.plan.jobs().enumerate() {
        if !matches!(job.spec, JobSpec::Dataset(_) | JobSpec::EvalSet(_)) || !store.is_finished(&job.key) {
            continue;
        }
        packed += 1;
        let pack = Pack::open(&store.output_dir(&job.key))?;
        writeln!(out, "{} {}", job.spec.tag(), loaded.plan.label(index))?;
        describe(&pack, out)?;
        if let Some(folder) = sheets {
            std::fs::create_dir_all(folder).map_err(|source| Error::File { operation: "create", path: folder.into(), source })?;
            let path = folder.join(format!("{}.png", job.key.short()));
            contact_sheet(&pack, samples, &path)?;
            writeln!(out, "  contact sheet: {}", path.display())?;
        }
    }
    if packed == 0 {
        return Err(Error::Usage {
            message: "no data set of this experiment is packed yet".into(),
            hint: Some(format!("run `scaledown data make {}` first", experiment.file.display())),
        });
    }
    Ok(exit::OK)
}

fn describe(pack: &Pack, out: &mut dyn Write) -> Result<(), Error> {
    let (samples, captions) = (counted(pack.len(), "sample"), counted(pack.caption_count(), "caption"));
    let (side, what) = (pack.side(), if pack.frame().framing.is_centre() { "" } else { "whole pictures of at most " });
    writeln!(out, "  {samples} of {what}{side}x{side} pixels, {captions}")?;
    if pack.has_labels() {
        writeln!(out, "  {} classes, {} templates", pack.classnames().len(), pack.templates().len())?;
    }
    let fields: Vec<&str> = pack.field_names().collect();
    if !fields.is_empty() {
        writeln!(out, "  numeric fields: {}", fields.join(", "))?;
    }
    for sample in 0..pack.len().min(3) {
        if let Some(caption) = pack.captions(sample).next() {
            writeln!(out, "  sample {sample}: {caption}")?;
        }
    }
    let skipped = pack.skipped();
    if skipped.total > 0 {
        writeln!(out, "  {} skipped:", skipped.total)?;
        for skip in &skipped.listed {
            writeln!(out, "    {skip}")?;
        }
    }
    Ok(())
}
