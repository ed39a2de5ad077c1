//! The joint of `spec` and `data`: what the files that an experiment names turn out to be.
//!
//! Every source is looked at once, however many values of an axis name it; what was found is kept for `plan` to show.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::data::{self, Fault, Survey};
use crate::run::{DataSource, EvalSource, EvalTask, ScoreFile};
use crate::spec::{FileFault, Files, FoundFiles};

/// The machine's files, and what was found in them.
pub(super) struct DiskFiles {
    caches: PathBuf,
    seen: RefCell<BTreeMap<String, Survey>>,
}

impl DiskFiles {
    /// Remembers facts about files in a folder.
    pub fn new(caches: &Path) -> Self {
        Self { caches: caches.to_path_buf(), seen: RefCell::default() }
    }

    /// The sources that were looked at, and what was found, in the order of their names.
    pub fn into_surveys(self) -> Surveys {
        Surveys(self.seen.into_inner())
    }

    fn once(&self, key: String, look: impl FnOnce() -> Survey) -> FoundFiles {
        let known = self.seen.borrow().get(&key).cloned();
        let survey = known.unwrap_or_else(|| {
            let survey = look();
            self.seen.borrow_mut().insert(key, survey.clone());
            survey
        });
        let faults = |faults: Vec<Fault>| faults.into_iter().map(fault).collect();
        FoundFiles {
            samples: survey.samples,
            classnames: survey.classnames,
            class_samples: survey.class_samples,
            faults: faults(survey.faults),
            warnings: faults(survey.warnings),
        }
    }
}

/// What was found, by source.
#[derive(Debug, Default)]
pub(super) struct Surveys(BTreeMap<String, Survey>);

impl Surveys {
    /// Of a training source.
    pub fn of_pool(&self, source: &DataSource) -> Option<&Survey> {
        self.0.iter().find(|(key, _)| key.ends_with(&pool_key(source))).map(|(_, survey)| survey)
    }

    /// Of an evaluation source.
    pub fn of_eval_set(&self, source: &EvalSource) -> Option<&Survey> {
        self.0.iter().find(|(key, _)| key.ends_with(&eval_key(source))).map(|(_, survey)| survey)
    }
}

fn pool_key(source: &DataSource) -> String {
    format!(" pool {}", serde_json::json!(source))
}

fn eval_key(source: &EvalSource) -> String {
    format!(" evaluation set {}", serde_json::json!(source))
}

fn fault(fault: Fault) -> FileFault {
    let Fault { key, what, hint } = fault;
    FileFault { key: key.to_owned(), message: what, hint }
}

impl Files for DiskFiles {
    fn shards(&self, path: &str) -> Result<Vec<String>, FileFault> {
        let failed = |error: data::DataError| FileFault { key: "shards".into(), message: error.to_string(), hint: error.hint() };
        data::matching_shards(path).map_err(failed)
    }

    fn pool(&self, source: &DataSource, max_missing: f64) -> FoundFiles {
        self.once(format!("{max_missing}{}", pool_key(source)), || data::survey(source, max_missing, &self.caches))
    }

    fn field(&self, source: &DataSource, field: &str) -> Option<FileFault> {
        let key = format!("field {field} of{}", serde_json::json!(source));
        let look = || Survey { faults: data::survey_field(source, field, &self.caches).into_iter().collect(), ..Survey::default() };
        self.once(key, look).faults.pop()
    }

    fn scores(&self, source: &DataSource, scores: &ScoreFile) -> Option<FileFault> {
        let key = format!("scores {} of{}", serde_json::json!(scores), serde_json::json!(source));
        let look = || Survey { faults: data::survey_scores(source, scores).into_iter().collect(), ..Survey::default() };
        self.once(key, look).faults.pop()
    }

    fn uids(&self, source: &DataSource, file: &str) -> FoundFiles {
        self.once(format!("uids {file} of{}", serde_json::json!(source)), || data::survey_uids(source, file))
    }

    fn vocabulary(&self, file: &str) -> Option<FileFault> {
        let look = || Survey { faults: data::survey_vocabulary(file).into_iter().collect(), ..Survey::default() };
        self.once(format!("vocabulary {file}"), look).faults.pop()
    }

    /// An evaluation set is measured whole: none of its shards may be missing.
    fn eval_set(&self, source: &EvalSource, task: EvalTask) -> FoundFiles {
        let key = format!("{}{}", task.name(), eval_key(source));
        self.once(key, || data::survey_eval(source, task, 0.0, &self.caches))
    }
}

/// The machine's files, of which only sizes are asked: for commands that read what a file states, and need no data.
pub(super) struct SizesOnly;

impl Files for SizesOnly {
    fn shards(&self, path: &str) -> Result<Vec<String>, FileFault> {
        Ok(data::matching_shards(path).unwrap_or_else(|_| vec![path.to_owned()]))
    }
    fn pool(&self, source: &DataSource, _: f64) -> FoundFiles {
        FoundFiles { samples: data::count(source).ok().flatten(), ..FoundFiles::default() }
    }
}
