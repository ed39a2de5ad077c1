//! What classifiers of an evaluation are fitted on: a split, shards, or other images of the procedural world.

use std::path::Path;

use super::super::super::diagnostic::Code;
use super::super::super::files::Files;
use super::super::super::scalar::Count;
use super::super::super::types::{ScalarOr, TrainSetMap};
use super::super::{Problem, shards_of};
use crate::run::{EvalConfig, EvalSet, EvalSource, EvalTask};

/// Images a set of the procedural world.
pub(in crate::spec::resolve) const SCENES_SAMPLES: u64 = 2000;

/// The train split of the procedural world, and the default one of a folder.
pub(super) const TRAIN: &str = "train";

/// Images of each class in few-shot evaluations, unless stated.
///
/// **Source** "Scaling (Down) CLIP", 5- and 10-shot figures.
const SHOTS: [u64; 2] = [5, 10];

/// Says where a train split has fewer images of a class than are asked for.
pub(super) fn few_samples(config: &EvalConfig, class_samples: &[u64]) -> Option<String> {
    let most = config.shots.iter().copied().max().unwrap_or(1);
    let (fewer, least) = (class_samples.iter().filter(|samples| **samples < most).count(), class_samples.iter().min()?);
    let name = format!("{}/{}", config.task.name(), config.name);
    let (all, then) = match config.task {
        EvalTask::Fewshot => (format!("fewer than {most} images of {fewer}"), "all that there are of those are taken"),
        _ => (format!("no image of {fewer}"), "the probe never says those"),
    };
    (fewer > 0)
        .then(|| format!("the train split of `{name}` has {all} of {} classes (least: {least}): {then}", class_samples.len()))
}

/// A set of the procedural world; its world is filled in where the data are known.
pub(super) fn scenes_set(variant: &str, samples: u64) -> EvalSet {
    let source = EvalSource::scenes(variant, samples);
    EvalSet { name: variant.to_owned(), source }
}

/// Images of each class that a task is fitted on unless stated.
pub(super) fn default_shots(task: EvalTask) -> Vec<u64> {
    if task == EvalTask::Fewshot { SHOTS.to_vec() } else { Vec::new() }
}

/// Fills in what a classifier is fitted on.
pub(super) fn fitting(
    path: &str,
    config: &mut EvalConfig,
    train: Option<ScalarOr<String, TrainSetMap>>,
    shots: Option<Vec<Count>>,
    files: &dyn Files,
) -> Result<(), Problem> {
    let name = format!("{}/{}", config.task.name(), config.name);
    if let Some(shots) = shots {
        let path = format!("{path}.shots");
        let shots: Vec<u64> = shots.into_iter().map(|count| count.0).collect();
        let distinct: std::collections::BTreeSet<u64> = shots.iter().copied().collect();
        if config.task != EvalTask::Fewshot {
            return Err(Problem::new(Code::Evaluate, path, format!("`shots` of `{name}`: only `fewshot` has them")));
        }
        if shots.is_empty() || distinct.contains(&0) || distinct.len() < shots.len() {
            let message = format!("`shots` of `{name}`: found {shots:?}, expected numbers from 1 on, each once");
            return Err(Problem::new(Code::Evaluate, path, message).hint("the default is `[5, 10]`"));
        }
        config.shots = shots;
    }
    let at_train = format!("{path}.train");
    match train {
        Some(_) if !config.task.is_fitted() => {
            let message = format!("`train` of `{name}`: nothing is fitted there");
            Err(Problem::new(Code::Evaluate, at_train, message).hint("`fewshot` and `linear-probe` have a train split"))
        }
        Some(train) => {
            config.train = Some(train_set(&at_train, &name, &config.sets, train, files)?);
            Ok(())
        }
        None if config.task.is_fitted() && config.train.is_none() => {
            let message =
                format!("missing key `train` of `{name}`: a classifier is fitted on labelled images that are not measured");
            let hint = match &config.sets[0].source {
                EvalSource::Folder { .. } if config.sets.len() == 1 => {
                    "`train: NAME` is another split of the folder; a map says where else they are: `train: { folder: .., split: train }`, \
                     or `train: { shards: .., class_field: .. }`"
                }
                EvalSource::Folder { .. } => {
                    "say where they are: `train: { folder: .., split: train }`, or `train: { shards: .., class_field: .. }`"
                }
                EvalSource::Shards { .. } | EvalSource::Scenes { .. } => {
                    "say where they are: `train: { shards: .. }`, other than those that are measured"
                }
            };
            Err(Problem::new(Code::Evaluate, path, message).hint(hint))
        }
        None => Ok(()),
    }
}

/// The set that a classifier is fitted on, where `sets` are measured.
fn train_set(
    path: &str,
    name: &str,
    sets: &[EvalSet],
    spec: ScalarOr<String, TrainSetMap>,
    files: &dyn Files,
) -> Result<EvalSet, Problem> {
    let problem = |message: String| Problem::new(Code::Evaluate, path, message);
    let map = match spec {
        ScalarOr::Scalar(split) => TrainSetMap { split: Some(split), ..TrainSetMap::default() },
        ScalarOr::Map(map) => map,
    };
    let TrainSetMap { folder, split, shards, class_field, classnames, samples } = map;
    let first = &sets[0].source;
    let is_by_files = folder.is_some() || shards.is_some() || class_field.is_some() || classnames.is_some();
    if let EvalSource::Scenes { .. } = first {
        if is_by_files || split.is_some_and(|split| split != TRAIN) {
            let message = format!("`train` of `{name}`: the procedural world has one train split, `train`");
            return Err(problem(message).hint("`train: { samples: 4k }` states its size"));
        }
        let samples = samples.map_or(SCENES_SAMPLES, |samples| samples.0);
        return if samples > 0 {
            Ok(scenes_set(TRAIN, samples))
        } else {
            Err(problem(format!("`train.samples` of `{name}`: found 0, expected 1 or more")))
        };
    }
    if samples.is_some() {
        return Err(problem(format!("`train.samples` of `{name}`: only the sets of `scenes` have a free size")));
    }
    let source = match (folder, shards) {
        (Some(_), Some(_)) => return Err(problem(format!("`train` of `{name}` has both `folder` and `shards`, expected one"))),
        (_, Some(_)) if split.is_some() => return Err(problem(format!("`train.split` of `{name}`: only folders have splits"))),
        (_, None) if class_field.is_some() || classnames.is_some() => {
            return Err(problem(format!("`class_field` and `classnames` in `train` of `{name}` belong to `shards`")));
        }
        (_, Some(shards)) => {
            let (known_field, known_names, templates) = described(first);
            let field = class_field.or(known_field);
            let hint = "it is the numeric metadata field that holds the class";
            EvalSource::Shards {
                shards: shards_of(files, shards).map_err(|fault| Problem::of_file(Code::Evaluate, path, fault))?,
                class_field: field
                    .ok_or_else(|| problem(format!("missing key `class_field` in `train` of `{name}`")).hint(hint))?,
                classnames: classnames.map_or(known_names, |path| path.0),
                templates,
            }
        }
        (folder, None) => {
            let split = split.unwrap_or_else(|| TRAIN.to_owned());
            let own = match sets {
                [EvalSet { source: EvalSource::Folder { path, .. }, .. }] => Some(path.clone()),
                _ => None,
            };
            let message =
                format!("missing key `folder` in `train` of `{name}`: it does not say which folder has the split `{split}`");
            let hint = "`train: { folder: .., split: train }`";
            EvalSource::Folder { path: folder.map(|folder| folder.0).or(own).ok_or_else(|| problem(message).hint(hint))?, split }
        }
    };
    if sets.iter().any(|set| set.source == source) {
        let message = format!("`train` of `{name}` is a set that is measured: a classifier knows what it was fitted on");
        return Err(problem(message).hint("state another split, or other shards"));
    }
    Ok(EvalSet { name: TRAIN.to_owned(), source })
}

/// Class field, class names and templates of an evaluation set that is made of files.
fn described(source: &EvalSource) -> (Option<String>, String, String) {
    match source {
        EvalSource::Folder { path, .. } => {
            let beside = |file: &str| Path::new(path).join(file).to_string_lossy().into_owned();
            (None, beside("classnames.txt"), beside("zeroshot_classification_templates.txt"))
        }
        EvalSource::Shards { class_field, classnames, templates, .. } => {
            (Some(class_field.clone()), classnames.clone(), templates.clone())
        }
        EvalSource::Scenes { .. } => (None, String::new(), String::new()),
    }
}
