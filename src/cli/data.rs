//! `data make` and `data inspect`: packs the data sets of an experiment and shows what they hold.

use std::io::Write;
use std::num::NonZero;
use std::path::Path;

use super::args::{Data, Experiment, Format, Global};
use super::experiment::Loaded;
use super::finish::finish;
use super::inspect::{SetFacts, facts};
use crate::data::{Pack, contact_sheet};
use crate::error::{Error, exit};
use crate::plan::{self, JobSpec, Plan};
use crate::run::counted;
use crate::store::Store;

pub(super) fn run(global: &Global, args: &Data, out: &mut dyn Write) -> Result<u8, Error> {
    match args {
        Data::Score(score) => super::score::run(global, score, out),
        Data::Make { experiment, threads } => make(global, experiment, *threads, out),
        Data::Inspect { experiment, sheets, samples, threads, format } => {
            let sheets = sheets.as_deref().map(|folder| (folder, *samples));
            inspect(global, experiment, sheets, *threads, *format, out)
        }
    }
}

fn make(global: &Global, experiment: &Experiment, threads: Option<NonZero<usize>>, out: &mut dyn Write) -> Result<u8, Error> {
    let loaded = Loaded::new(global, experiment)?;
    let store = Store::open(&global.store)?;
    let plan = plan::datasets(&loaded.plan);
    let code = finish(global, &plan, &store, threads)?;
    if !global.quiet {
        show(&plan, &store, out)?;
    }
    Ok(code)
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
    sheets: Option<(&Path, usize)>,
    threads: Option<NonZero<usize>>,
    format: Format,
    out: &mut dyn Write,
) -> Result<u8, Error> {
    let loaded = Loaded::new(global, experiment)?;
    let store = Store::open(&global.store)?;
    let plan = plan::datasets(&loaded.plan);
    let code = match plan.cached(|key| store.is_finished(key)) == plan.len() {
        true => exit::OK,
        false => finish(global, &plan, &store, threads)?,
    };
    let facts = facts(&loaded, &store)?;
    match format {
        Format::Json => writeln!(out, "{:#}", serde_json::json!({ "sets": facts }))?,
        Format::Human => facts.iter().try_for_each(|set| describe(set, out))?,
    }
    if let Some((folder, samples)) = sheets {
        let written = contact_sheets(&loaded, &store, folder, samples)?;
        if format == Format::Human {
            written.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        }
    }
    Ok(code)
}

/// A contact sheet a packed set; where each is, in words.
fn contact_sheets(loaded: &Loaded, store: &Store, folder: &Path, samples: usize) -> Result<Vec<String>, Error> {
    std::fs::create_dir_all(folder).map_err(|source| Error::File { operation: "create", path: folder.into(), source })?;
    let mut written = Vec::new();
    for (index, job) in loaded.plan.jobs().enumerate() {
        if matches!(job.spec, JobSpec::Dataset(_) | JobSpec::EvalSet(_)) && store.is_finished(&job.key) {
            let path = folder.join(format!("{}.png", job.key.short()));
            let pack = Pack::open(&store.output_dir(&job.key))?;
            let first: Vec<usize> = (0..samples.clamp(1, pack.len())).collect();
            contact_sheet(&pack, &first, &path)?;
            written.push(format!("contact sheet of {}: {}", loaded.plan.label(index), path.display()));
        }
    }
    Ok(written)
}

fn describe(set: &SetFacts, out: &mut dyn Write) -> Result<(), Error> {
    writeln!(out, "{} {}", set.kind, set.label)?;
    for line in set.lines() {
        writeln!(out, "  {line}")?;
    }
    for (sample, caption) in set.first_captions.iter().enumerate() {
        writeln!(out, "  sample {sample}: {caption}")?;
    }
    if set.skipped > 0 {
        writeln!(out, "  {} skipped:", set.skipped)?;
        for skip in &set.skipped_listed {
            writeln!(out, "    {skip}")?;
        }
    }
    Ok(())
}
