//! `evaluate:` to configs, and the metrics that they give.

mod train_split;

use super::super::diagnostic::{Code, nearest, quoted_list};
use super::super::files::{FileFault, Files};
use super::super::scalar::Count;
use super::super::types::{EvalMap, EvalSpec, ScalarOr};
use super::{Problem, shards_of};
use crate::run::{EvalConfig, EvalSet, EvalSource, EvalTask, matched_classes};
pub(super) use train_split::SCENES_SAMPLES;
use train_split::{TRAIN, default_shots, few_samples, fitting, scenes_set};

const TASKS: [EvalTask; 4] = [EvalTask::Zeroshot, EvalTask::Retrieval, EvalTask::Fewshot, EvalTask::LinearProbe];

/// Sets of the procedural world whose distribution differs from the training data's, as the `ImageNet` variants do.
pub(super) const SHIFTS: [&str; 6] = ["fresh", "sketch", "rendition", "hard", "viewpoint", "relabelled"];

/// Name of the one set of an evaluation that states one place.
const ALL: &str = "all";

/// Resolves `evaluate:`; the seed of the procedural world is filled in where the data are known.
///
/// Items come with their positions in the list. What a person should know of their files goes to `warnings`.
pub(in crate::spec) fn evaluate(
    specs: Vec<(usize, EvalSpec)>,
    files: &dyn Files,
    warnings: &mut Vec<Problem>,
) -> Result<Vec<EvalConfig>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut out: Vec<EvalConfig> = Vec::new();
    for (idx, spec) in specs {
        let path = format!("evaluate.{idx}");
        let config = match spec {
            ScalarOr::Scalar(name) => by_name(&path, &name),
            ScalarOr::Map(map) => by_map(&path, map, files),
        };
        if let Ok(config) = &config {
            look(config, &path, files, &mut problems, warnings);
        }
        match config {
            Ok(config) if out.iter().any(|c| c.task == config.task && c.name == config.name) => {
                let message = format!("evaluation `{}/{}` twice", config.task.name(), config.name);
                problems.push(Problem::new(Code::Evaluate, path, message).hint("give one of them another name"));
            }
            Ok(config) => out.push(config),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(out) } else { Err(problems) }
}

fn by_name(path: &str, text: &str) -> Result<EvalConfig, Problem> {
    let (task, name) = text.split_once('/').unwrap_or((text, ""));
    let config = TASKS.into_iter().find(|t| t.name() == task).and_then(|task| scenes(task, name, None));
    config.ok_or_else(|| {
        let known: Vec<String> =
            TASKS.iter().flat_map(|t| ["scenes", "scenes-shifts"].map(|name| format!("{}/{name}", t.name()))).collect();
        let message =
            format!("unknown evaluation `{text}`, expected one of {}, or a map with the place of its sets", quoted_list(&known));
        let mut problem = Problem::new(Code::Evaluate, path, message);
        problem.hint = nearest(text, known.iter().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
        problem
    })
}

/// Asks for the files of every set, and whether what is fitted on one can be measured on the others.
fn look(config: &EvalConfig, path: &str, files: &dyn Files, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
    let mut found_sets = Vec::with_capacity(config.sets.len());
    for set in config.all_sets() {
        let is_train = config.train.as_ref() == Some(set);
        let mut found = files.eval_set(&set.source, config.task);
        let at_file = |mut fault: FileFault| {
            if is_train {
                fault.key = format!("train.{}", fault.key);
            } else if fault.key == "folder" && set.name != ALL {
                fault.key = format!("folders.{}", set.name);
            }
            Problem::of_file(Code::Evaluate, path, fault)
        };
        problems.extend(std::mem::take(&mut found.faults).into_iter().map(at_file));
        warnings.extend(std::mem::take(&mut found.warnings).into_iter().map(at_file));
        found_sets.push(found);
    }
    let (Some(_), Some(train)) = (&config.train, found_sets.pop()) else { return };
    for (set, found) in config.sets.iter().zip(&found_sets) {
        if let (false, false, Err(why)) =
            (train.classnames.is_empty(), found.classnames.is_empty(), matched_classes(&train.classnames, &found.classnames))
        {
            let message = format!("set `{}` of `{}/{}`: {why}", set.name, config.task.name(), config.name);
            let hint = "a class is known by its name, or by its number where both have as many";
            problems.push(Problem::new(Code::Evaluate, path, message).hint(hint));
        }
    }
    warnings
        .extend(few_samples(config, &train.class_samples).map(|what| Problem::new(Code::Evaluate, format!("{path}.train"), what)));
}

/// The sets of the procedural world under one of their two names; what is fitted is fitted on its split `train`.
fn scenes(task: EvalTask, name: &str, samples: Option<Count>) -> Option<EvalConfig> {
    let samples = samples.map_or(SCENES_SAMPLES, |s| s.0);
    let variants: &[&str] = match name {
        "scenes" => &["iid"],
        "scenes-shifts" => &SHIFTS,
        _ => return None,
    };
    let sets = variants.iter().map(|variant| scenes_set(variant, samples)).collect();
    let train = task.is_fitted().then(|| scenes_set(TRAIN, SCENES_SAMPLES));
    Some(EvalConfig { task, name: name.to_owned(), sets, train, shots: default_shots(task) })
}

/// The one task of a map, and its name.
fn task_of(path: &str, stated: [Option<String>; 4]) -> Result<(EvalTask, String), Problem> {
    let problem = |message: String| Problem::new(Code::Evaluate, path, message);
    let mut tasks = TASKS.into_iter().zip(stated).filter_map(|(task, name)| Some((task, name?)));
    let names = TASKS.map(EvalTask::name);
    let (task, name) = match (tasks.next(), tasks.next()) {
        (Some(one), None) => one,
        (None, _) => return Err(problem(format!("evaluation without a task, expected exactly one of {}", quoted_list(&names)))),
        (Some((a, _)), Some((b, _))) => {
            let message = format!("evaluation with both `{}` and `{}`, expected exactly one task", a.name(), b.name());
            return Err(problem(message).hint("write one evaluation for each task"));
        }
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        return Err(problem(format!("evaluation name `{name}`, expected letters, digits, `-` and `_`")));
    }
    Ok((task, name))
}

fn by_map(path: &str, map: EvalMap, files: &dyn Files) -> Result<EvalConfig, Problem> {
    let EvalMap {
        zeroshot,
        retrieval,
        fewshot,
        linear_probe,
        folder,
        folders,
        split,
        shards,
        class_field,
        classnames,
        templates,
        samples,
        train,
        shots,
    } = map;
    let problem = |message: String| Problem::new(Code::Evaluate, path, message);
    let (task, name) = task_of(path, [zeroshot, retrieval, fewshot, linear_probe])?;
    let named_scenes = matches!(name.as_str(), "scenes" | "scenes-shifts");
    let places = [folder.is_some(), folders.is_some(), shards.is_some(), named_scenes].iter().filter(|p| **p).count();
    if places != 1 {
        let message = format!(
            "evaluation `{}/{name}` states {places} places, expected exactly one of `folder`, `folders`, `shards`",
            task.name()
        );
        let hint = "the names `scenes` and `scenes-shifts` are the sets that the program makes itself";
        return Err(problem(message).hint(hint));
    }
    if samples.is_some() && !named_scenes {
        return Err(problem(format!("`samples` of `{}/{name}`: only the sets of `scenes` have a free size", task.name())));
    }
    if split.is_some() && folder.is_none() && folders.is_none() {
        return Err(problem(format!("`split` of `{}/{name}`: only folders have splits", task.name())));
    }
    let split = split.unwrap_or_else(|| "test".to_owned());
    if shards.is_none() && (class_field.is_some() || classnames.is_some() || templates.is_some()) {
        let message = format!("`class_field`, `classnames` and `templates` of `{}/{name}` belong to `shards`", task.name());
        return Err(problem(message).hint("a folder holds its own class names and templates"));
    }
    let folder_set = |name: String, path: String| EvalSet { name, source: EvalSource::Folder { path, split: split.clone() } };
    let mut config = match (folder, folders, shards) {
        _ if named_scenes => {
            if samples == Some(Count(0)) {
                return Err(problem("`samples`: found 0, expected 1 or more".to_owned()));
            }
            scenes(task, &name, samples).ok_or_else(|| problem(format!("unknown set `{name}`")))?
        }
        (Some(folder), ..) => of_sets(task, name, vec![folder_set(ALL.to_owned(), folder.0)]),
        (_, Some(folders), _) if folders.is_empty() => {
            return Err(problem("`folders`: found no folder, expected at least 1".to_owned()));
        }
        (_, Some(folders), _) => of_sets(task, name, folders.into_iter().map(|(name, path)| folder_set(name, path.0)).collect()),
        (_, _, Some(shards)) => {
            let needed = |key: &str| problem(format!("missing key `{key}` of `{}/{name}`, which `shards` need", task.name()));
            let source = EvalSource::Shards {
                shards: shards_of(files, shards).map_err(|fault| Problem::of_file(Code::Evaluate, path, fault))?,
                class_field: class_field.ok_or_else(|| needed("class_field"))?,
                classnames: classnames.ok_or_else(|| needed("classnames"))?.0,
                templates: templates.ok_or_else(|| needed("templates"))?.0,
            };
            of_sets(task, name, vec![EvalSet { name: ALL.to_owned(), source }])
        }
        (None, None, None) => return Err(problem("evaluation without sets".to_owned())),
    };
    fitting(path, &mut config, train, shots, files)?;
    Ok(config)
}

fn of_sets(task: EvalTask, name: String, sets: Vec<EvalSet>) -> EvalConfig {
    EvalConfig { task, name, sets, train: None, shots: default_shots(task) }
}

/// Names of the metrics that evaluations give, in their order.
pub(in crate::spec) fn metrics(configs: &[EvalConfig]) -> Vec<String> {
    let mut out = Vec::new();
    for EvalConfig { task, name, sets, train: _, shots } in configs {
        let suffixes: Vec<String> = match task {
            EvalTask::Zeroshot => ["acc1", "acc5", "mean_per_class_recall"].map(str::to_owned).to_vec(),
            EvalTask::Retrieval => {
                ["image", "text"].iter().flat_map(|way| [1, 5, 10].map(|k| format!("{way}_retrieval_recall@{k}"))).collect()
            }
            EvalTask::Fewshot => shots.iter().map(|shots| format!("fewshot{shots}_acc1")).collect(),
            EvalTask::LinearProbe => ["lp_acc1", "lp_acc5", "lp_mean_per_class_recall"].map(str::to_owned).to_vec(),
        };
        out.extend(suffixes.iter().map(|s| format!("{}/{name}.{s}", task.name())));
        if sets.len() > 1 {
            for set in sets {
                out.extend(suffixes.iter().map(|s| format!("{}/{name}/{}.{s}", task.name(), set.name)));
            }
        }
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::super::files::NoFiles;
    use super::*;

    fn resolve(json: serde_json::Value) -> Result<Vec<EvalConfig>, Vec<Problem>> {
        let specs: Vec<EvalSpec> = serde_json::from_value(json).unwrap();
        evaluate(specs.into_iter().enumerate().collect(), &NoFiles, &mut Vec::new())
    }

    #[test]
    fn metrics_are_named_by_task_name_and_set() {
        let names = metrics(&resolve(serde_json::json!(["zeroshot/scenes-shifts", "retrieval/scenes"])).unwrap());
        assert_eq!(names[0], "zeroshot/scenes-shifts.acc1");
        assert!(names.contains(&"zeroshot/scenes-shifts/sketch.acc5".to_owned()));
        assert!(names.contains(&"retrieval/scenes.text_retrieval_recall@10".to_owned()));
        assert!(!names.contains(&"retrieval/scenes/iid.text_retrieval_recall@10".to_owned()));
    }

    #[test]
    fn what_is_fitted_has_a_train_split_of_its_own() {
        let of = |json| resolve(serde_json::json!([json])).unwrap().remove(0);
        let train = |json| of(json).train.unwrap().source;
        let folder = |path: &str, split: &str| EvalSource::Folder { path: path.to_owned(), split: split.to_owned() };
        assert_eq!(train(serde_json::json!({"fewshot": "a", "folder": "x", "train": "fit"})), folder("x", "fit"));
        assert_eq!(train(serde_json::json!({"linear-probe": "a", "folder": "x", "train": {}})), folder("x", "train"));
        let elsewhere = serde_json::json!({"fewshot": "a", "folders": {"b": "x", "c": "y"}, "train": {"folder": "z"}});
        assert_eq!(train(elsewhere), folder("z", "train"));
        let shards = train(serde_json::json!({"fewshot": "a", "folder": "x", "train": {"shards": "t.tar", "class_field": "c"}}));
        let EvalSource::Shards { class_field, classnames, .. } = shards else { panic!("{shards:?}") };
        assert_eq!((class_field.as_str(), classnames.as_str()), ("c", "x/classnames.txt"), "names are those of what is measured");
        let scenes = |json| match train(json) {
            EvalSource::Scenes { variant, samples, .. } => (variant, samples),
            other => panic!("{other:?}"),
        };
        assert_eq!(scenes(serde_json::json!("linear-probe/scenes-shifts")), ("train".to_owned(), 2000));
        assert_eq!(scenes(serde_json::json!({"fewshot": "scenes", "train": {"samples": 300}})), ("train".to_owned(), 300));
        assert_eq!(of(serde_json::json!("zeroshot/scenes")).train, None);
        assert_eq!(of(serde_json::json!("fewshot/scenes")).shots, [5, 10]);
        let config = of(serde_json::json!({"fewshot": "scenes", "shots": [1, 25]}));
        assert_eq!(metrics(&[config]), ["fewshot/scenes.fewshot1_acc1", "fewshot/scenes.fewshot25_acc1"]);
    }

    #[test]
    fn an_evaluation_has_one_task_and_one_place() {
        for (json, why) in [
            (serde_json::json!([{"folder": "x"}]), "without a task"),
            (serde_json::json!([{"zeroshot": "a", "retrieval": "b", "folder": "x"}]), "both"),
            (serde_json::json!([{"zeroshot": "a"}]), "0 places"),
            (serde_json::json!([{"zeroshot": "a", "folder": "x", "shards": "y.tar"}]), "2 places"),
            (serde_json::json!([{"zeroshot": "a", "shards": "y.tar"}]), "missing key `class_field`"),
            (serde_json::json!(["zeroshot/scenes", "zeroshot/scenes"]), "twice"),
            (serde_json::json!(["zeroshot/scene"]), "unknown evaluation"),
            (serde_json::json!([{"zeroshot": "a", "folder": "x", "samples": 4}]), "only the sets of `scenes`"),
            (serde_json::json!([{"linear-probe": "a", "folder": "x"}]), "missing key `train`"),
            (
                serde_json::json!([{"fewshot": "a", "folders": {"b": "x", "c": "y"}, "train": "train"}]),
                "missing key `folder` in `train`",
            ),
            (serde_json::json!([{"fewshot": "a", "folder": "x", "train": "test"}]), "is a set that is measured"),
            (
                serde_json::json!([{"fewshot": "a", "folder": "x", "train": {"shards": "y.tar"}}]),
                "missing key `class_field` in `train`",
            ),
            (
                serde_json::json!([{"fewshot": "a", "folder": "x", "train": {"shards": "y.tar", "split": "b"}}]),
                "only folders have splits",
            ),
            (
                serde_json::json!([{"fewshot": "a", "folder": "x", "train": {"shards": "y.tar", "folder": "b"}}]),
                "both `folder` and `shards`",
            ),
            (serde_json::json!([{"fewshot": "a", "folder": "x", "train": {"samples": 9}}]), "only the sets of `scenes`"),
            (serde_json::json!([{"fewshot": "scenes", "train": {"folder": "x"}}]), "one train split"),
            (serde_json::json!([{"fewshot": "scenes", "shots": [5, 0]}]), "found [5, 0], expected numbers from 1 on"),
            (serde_json::json!([{"fewshot": "scenes", "shots": [5, 5]}]), "each once"),
            (serde_json::json!([{"linear-probe": "scenes", "shots": [5]}]), "only `fewshot` has them"),
            (serde_json::json!([{"zeroshot": "a", "folder": "x", "train": "train"}]), "nothing is fitted"),
        ] {
            let problems = resolve(json).unwrap_err();
            assert!(problems[0].message.contains(why), "{problems:?}");
        }
    }
}
