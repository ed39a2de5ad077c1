//! `path RUN`: where the files of a trained run lie.

use std::io::Write;

use super::args::{Experiment, Global, RunFile};
use super::experiment::Loaded;
use crate::error::Error;
use crate::jobs::{CURVE_FILE, MODEL_FILE};
use crate::store::{JobStatus, Store};

pub(super) fn run(global: &Global, experiment: &Experiment, run: &str, what: RunFile, out: &mut dyn Write) -> Result<(), Error> {
    let loaded = Loaded::new(global, experiment)?;
    let store = Store::open(&global.store)?;
    let planned = loaded.find_run(run)?;
    let key = loaded.plan.job(planned.train).key;
    let Some(record) = store.record(&key)? else {
        let hint = format!(
            "`scaledown run {}` trains it (with `--no-adopt` where committed records hold it); `scaledown status` says where it stands",
            experiment.file.display()
        );
        return Err(Error::Usage {
            message: format!("run {} has no model in {}", planned.run_id, global.store.display()),
            hint: Some(hint),
        });
    };
    let folder = store.output_dir(&key);
    let path = match what {
        RunFile::Folder => folder,
        RunFile::Curve => folder.join(CURVE_FILE),
        RunFile::Model if record.status == JobStatus::Diverged => {
            let why = record.reason.unwrap_or_default();
            return Err(Error::Usage { message: format!("run {} diverged and left no model: {why}", planned.run_id), hint: None });
        }
        RunFile::Model => folder.join(MODEL_FILE),
    };
    Ok(writeln!(out, "{}", path.display())?)
}
