//! `features RUN`: a run's features of the sets that it is measured on, in files that other tools read.
//!
//! Writes a safetensors file a set, `sets.csv`, which says what each file holds, and of a linear probe how it was fitted. Nothing is
//! trained: model and packs lie in the store. Must not know how a task measures.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;

use super::args::{Experiment, Global};
use super::experiment::Loaded;
use crate::data::Pack;
use crate::error::Error;
use crate::jobs::files;
use crate::plan::{EvaluateSpec, JobSpec, Key};
use crate::run::counted;
use crate::store::{JobStatus, Store};
use crate::trainer::backend::Placement;
use crate::trainer::checkpoint::load_model;
use crate::trainer::eval::Encoder;
use crate::trainer::model::build;

/// A row of `sets.csv`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    evaluation: String,
    set: &'a str,
    role: &'static str,
    file: String,
    samples: usize,
}

pub(super) fn run(global: &Global, experiment: &Experiment, run: &str, to: &Path, out: &mut dyn Write) -> Result<(), Error> {
    let loaded = Loaded::new(global, experiment)?;
    let store = Store::open(&global.store)?;
    let planned = loaded.find_run(run)?;
    let hint = || Some(format!("`scaledown run {}` makes it", experiment.file.display()));
    let train_key = loaded.plan.job(planned.train).key;
    let Some(record) = store.record(&train_key)? else {
        return Err(Error::Usage { message: format!("the model of run {} is not in the store", planned.run_id), hint: hint() });
    };
    if record.status == JobStatus::Diverged {
        let why = record.reason.unwrap_or_default();
        return Err(Error::Usage { message: format!("run {} diverged and left no model: {why}", planned.run_id), hint: None });
    }
    let JobSpec::Train(train) = &loaded.plan.job(planned.train).spec else {
        unreachable!("a run's training is a training");
    };
    let at_the_end = |index: &usize| match &loaded.plan.job(*index).spec {
        JobSpec::Evaluate(spec) if spec.at.is_none() => Some((loaded.plan.job(*index).key, spec)),
        _ => None,
    };
    let evaluations: Vec<(Key, &EvaluateSpec)> = planned.evaluates.iter().filter_map(at_the_end).collect();
    let Some((_, first)) = evaluations.first() else {
        return Err(Error::Usage { message: format!("run {} is measured on no set", planned.run_id), hint: None });
    };
    store.check_outputs(&train_key)?;
    let program = build(&train.model, 0.0);
    let weights = load_model(&store.output_dir(&train_key).join(files::MODEL), &program)?;
    let placement = Placement { device: first.device, precision: first.precision, threads: super::cores() };
    let mut encoder = Encoder::new(&train.model, weights, placement)?;

    std::fs::create_dir_all(to).map_err(|source| Error::File { operation: "create", path: to.to_owned(), source })?;
    let mut written: BTreeMap<Key, (String, usize)> = BTreeMap::new();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (job, spec) in evaluations {
        copy_probe(&store, &job, spec, to)?;
        let measured = spec.sets.iter().map(|set| (set.set, set.name.as_str(), "measured"));
        for (key, set, role) in measured.chain(spec.fitted_on.map(|key| (key, "train", "fitted on"))) {
            let evaluation = format!("{}/{}", spec.task.name(), spec.name);
            let (file, samples) = match written.get(&key) {
                Some(known) => known.clone(),
                None => {
                    if store.record(&key)?.is_none() {
                        let message = format!("the set `{set}` of {evaluation} is not packed in the store");
                        return Err(Error::Usage { message, hint: hint() });
                    }
                    store.check_outputs(&key)?;
                    let pack = Pack::open(&store.output_dir(&key))?;
                    let file = format!("{}-{}-{set}.safetensors", spec.task.name(), spec.name);
                    write(&mut encoder, &pack, &to.join(&file))?;
                    written.entry(key).or_insert((file, pack.len())).clone()
                }
            };
            rows.push(Row { evaluation, set, role, file, samples });
        }
    }
    let path = to.join("sets.csv");
    let written_rows = csv::Writer::from_path(&path).and_then(|mut table| {
        rows.iter().try_for_each(|row| table.serialize(row))?;
        Ok(table.flush()?)
    });
    written_rows.map_err(|error| Error::File { operation: "write", path, source: error.into() })?;
    Ok(writeln!(out, "{} of run {} in {}", counted(written.len(), "set"), planned.run_id, to.display())?)
}

/// How a linear probe was fitted, where it was: lambda and what was tried.
fn copy_probe(store: &Store, job: &Key, spec: &EvaluateSpec, to: &Path) -> Result<(), Error> {
    let from = store.output_dir(job).join(files::PROBE);
    if !from.is_file() {
        return Ok(());
    }
    let path = to.join(format!("{}-{}.json", spec.task.name(), spec.name));
    std::fs::copy(from, &path).map(drop).map_err(|source| Error::File { operation: "write", path, source })
}

/// The features of a pack: `pooled` [N, C], `projected` [N, E], both f32, and `labels` [N] i64 where the pack has classes.
fn write(encoder: &mut Encoder, pack: &Pack, path: &Path) -> Result<(), Error> {
    let features = encoder.image_features(pack)?;
    let (pooled, width) = features.pooled();
    let projected = features.projected();
    let labels: Vec<i64> = (0..pack.len()).filter_map(|sample| pack.label(sample)).map(i64::from).collect();
    let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let (pooled, projected_bytes) = (bytes(pooled), bytes(projected));
    let label_bytes: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
    let rows = pack.len();
    let mut tensors = vec![
        ("pooled", Dtype::F32, vec![rows, width], &pooled),
        ("projected", Dtype::F32, vec![rows, projected.len() / rows.max(1)], &projected_bytes),
    ];
    if labels.len() == rows {
        tensors.push(("labels", Dtype::I64, vec![rows], &label_bytes));
    }
    let views = tensors
        .into_iter()
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape, bytes).expect("a tensor of its own shape")));
    let body = safetensors::serialize(views, None).expect("plain tensors");
    std::fs::write(path, body).map_err(|source| Error::File { operation: "write", path: path.to_owned(), source })
}
