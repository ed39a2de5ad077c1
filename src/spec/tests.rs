//! Loading from texts at hand: how files, environment and overrides become one experiment.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::Path;

use super::{FileFault, Files, FoundFiles, LoadOptions, NoFiles, ValidSpec, load, load_claims, load_str, schema};
use crate::run::{
    Augmentation, DataSource, EvalSource, EvalTask, ImageEncoderConfig, Keep, OptimizerConfig, Pooling, QualityBy, RunConfig,
};

const SMALL: &str = "
data: { train: { dataset: scenes, size: 8k } }
model: { image_encoder: vit-xs/8, text_encoder: text-xxs, embed_dim: 64, image_size: 32 }
train: { strategy: clip, batch_size: 100, lr: 1e-3, budget: { epochs: 1 } }
evaluate: [zeroshot/scenes]
";

/// Loads the first of some files, with overrides and variables.
fn load_files(files: &[(&str, &str)], set: &[&str], env: &[(&str, &str)]) -> Result<ValidSpec, String> {
    let files: BTreeMap<&str, &str> = files.iter().copied().chain([("e/small.yaml", SMALL)]).collect();
    let main = "e/main.yaml";
    let options = LoadOptions {
        set: set.iter().map(|s| (*s).to_owned()).collect(),
        env: &|name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()),
        read: &|path| {
            let text = files.get(path.to_str().unwrap_or_default()).map(|t| (*t).to_owned());
            text.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such file"))
        },
        cost: &|_, _| 2.0,
        ..LoadOptions::default()
    };
    load(Path::new(main), &options).map_err(|e| e.to_string())
}

fn config_of(spec: &ValidSpec) -> RunConfig {
    crate::grid::expand(spec).config(0)
}

/// The only run of `e/main.yaml`, a small experiment with these lines added.
fn run(lines: &str) -> RunConfig {
    let text = format!("experiment: t\nbase: small.yaml\n{lines}");
    config_of(&load_files(&[("e/main.yaml", &text)], &[], &[]).unwrap_or_else(|e| panic!("{lines}\n{e}")))
}

fn errors(lines: &str) -> String {
    let text = format!("experiment: t\nbase: small.yaml\n{lines}");
    load_files(&[("e/main.yaml", &text)], &[], &[]).map(|_| ()).unwrap_err()
}

#[test]
fn defaults_are_those_of_the_paper() {
    let config = run("");
    assert_eq!(config.train.optimizer, OptimizerConfig::Adafactor { beta1: 0.9, beta2_cap: 0.999 });
    assert_eq!((config.train.weight_decay, config.train.grad_clip_norm, config.train.lanes), (1e-4, Some(1.0), 8));
    assert_eq!((config.train.steps, config.train.warmup_steps, config.train.accumulate), (80, 4, 1));
    assert_eq!((config.model.text_encoder.context_length, config.model.text_encoder.vocab_size), (16, 1024));
    assert_eq!((config.model.pixel_mean, config.model.pixel_std), ([0.5; 3], [0.5; 3]));
    assert!((config.model.logit_scale_init - 1.0 / 0.07).abs() < 1e-12);
    assert_eq!(config.train.strategy.augmentation, Augmentation::None);
    let ImageEncoderConfig::Vit(vit) = &config.model.image_encoder;
    assert_eq!((vit.pooling, vit.pre_norm, vit.mlp_width), (Pooling::ClassToken, true, 384));
}

#[test]
fn maps_merge_key_by_key_and_lists_are_replaced() {
    let base =
        "base: ../small.yaml\ntrain: { weight_decay: 0.1, grad_clip_norm: none }\nevaluate: [retrieval/scenes, fewshot/scenes]\n";
    let files = [
        (
            "e/main.yaml",
            "experiment: t\nbase: deep/base.yaml\ntrain: { lr: 2e-3, weight_decay: null }\nevaluate: [zeroshot/scenes-shifts]\n",
        ),
        ("e/deep/base.yaml", base),
    ];
    let config = config_of(&load_files(&files, &[], &[]).unwrap());
    assert_eq!((config.train.lr, config.train.batch_size), (2e-3, 100));
    assert_eq!(config.train.weight_decay, 1e-4, "null takes the base's value back to the default");
    assert_eq!(config.train.grad_clip_norm, None, "a base of a base is heard");
    assert_eq!(config.evaluate.len(), 1);
    assert_eq!(config.evaluate[0].sets.len(), 6);
}

#[test]
fn a_budget_stated_anew_replaces_the_bases() {
    assert_eq!(run("train: { budget: { samples_seen: 12340 } }").train.steps, 123);
    assert_eq!(run("train: { budget: { gmacs: 20k } }").train.steps, 100);
}

#[test]
fn a_name_alone_merges_with_a_map() {
    let base = "base: small.yaml\ntrain: { strategy: flip }\nmodel: { image_encoder: vit-ti/8 }\n";
    let main = "experiment: t\nbase: b.yaml\ntrain: { strategy: { masked: 75% } }\nmodel: { image_encoder: { pooling: mean } }\n";
    let config = config_of(&load_files(&[("e/main.yaml", main), ("e/b.yaml", base)], &[], &[]).unwrap());
    assert_eq!((config.train.strategy.masked, config.train.strategy.batch_multiplier), (0.75, 2));
    let ImageEncoderConfig::Vit(vit) = &config.model.image_encoder;
    assert_eq!((vit.width, vit.pooling), (192, Pooling::Mean));
}

#[test]
fn statements_and_names_are_not_inherited_but_a_sweep_is() {
    let base = "experiment: b\nbase: small.yaml\nquestion: why\nsweep: { seeds: 2, grid: { train.lr: [1e-3, 2e-3] } }\n\
                tables: [{ name: t, rows: train.lr, values: zeroshot/scenes.acc1 }]\n";
    let spec = load_files(&[("e/main.yaml", "experiment: t\nbase: b.yaml\n"), ("e/b.yaml", base)], &[], &[]).unwrap();
    assert_eq!((spec.experiment.as_str(), spec.question, spec.tables.len()), ("t", None, 0));
    assert_eq!(spec.resolved.points.len(), 2);
    let main = "experiment: t\nbase: b.yaml\nsweep: { grid: { train.batch_size: [50, 100, 200] } }\n";
    let spec = load_files(&[("e/main.yaml", main), ("e/b.yaml", base)], &[], &[]).unwrap();
    assert_eq!((spec.resolved.points.len(), spec.sweep.seeds), (3, vec![0]));
}

#[test]
fn paths_are_relative_to_the_file_that_states_them() {
    let base = "base: ../small.yaml\ndata: { train: { dataset: webdataset, shards: \"d/{0..1}.tar::/abs/x.tar\", size: 8k, } }\n";
    let main = "experiment: t\nbase: deep/b.yaml\nevaluate: [{ zeroshot: f, folder: \"${ROOT}/x\" }, { zeroshot: g, folder: y }]\n";
    let files = [("e/main.yaml", main), ("e/deep/b.yaml", base)];
    let config = config_of(&load_files(&files, &[], &[("ROOT", "/data")]).unwrap());
    let shards = ["e/deep/d/0.tar", "e/deep/d/1.tar", "/abs/x.tar"].map(str::to_owned).to_vec();
    assert_eq!(config.data.source, DataSource::Webdataset { shards });
    let folders: Vec<&EvalSource> = config.evaluate.iter().map(|e| &e.sets[0].source).collect();
    let folder = |path: &str| EvalSource::Folder { path: path.to_owned(), split: "test".to_owned() };
    assert_eq!(folders, [&folder("/data/x"), &folder("e/y")]);
    let config = config_of(&load_files(&files, &["evaluate=[{ zeroshot: f, folder: z }]"], &[("ROOT", "/data")]).unwrap());
    assert_eq!(config.evaluate[0].sets[0].source, folder("z"), "an override speaks from the current directory");
}

#[test]
fn the_environment_fills_in_text_and_numbers() {
    let text = "experiment: t\nbase: small.yaml\nquestion: \"$${NOT} ${A} ${B:-b c}\"\ntrain: { lr: \"${LR}\" }\n";
    let spec = load_files(&[("e/main.yaml", text)], &[], &[("A", "a"), ("LR", "3e-4")]).unwrap();
    assert_eq!(spec.question.as_deref(), Some("${NOT} a b c"));
    assert_eq!(config_of(&spec).train.lr, 3e-4);
}

#[test]
fn overrides_speak_over_the_file() {
    let text = "experiment: t\nbase: small.yaml\nsweep: { grid: { train.lr: [1e-3, 2e-3] } }\n";
    let load = |set: &[&str]| load_files(&[("e/main.yaml", text)], set, &[]);
    let spec =
        load(&["train.batch_size=50", "train.budget.samples_seen=1k", "train.strategy={name: slip, ssl_weight: 2}"]).unwrap();
    let config = config_of(&spec);
    assert_eq!((config.train.batch_size, config.train.steps), (50, 20));
    assert_eq!(config.train.strategy.ssl.map(|s| s.weight), Some(2.0));
    let spec = load(&["sweep.grid.train.lr=[1e-4]", "sweep.seeds=[7]", "sweep.grid.train.batch_size=[50, 80]"]).unwrap();
    assert_eq!((spec.resolved.points.len(), spec.sweep.seeds.clone()), (2, vec![7]));
    assert_eq!(config_of(&spec).train.lr, 1e-4);
    let config = config_of(&load(&["evaluate.0=retrieval/scenes", "train.strategy.augmentation=crop_flip", "sweep="]).unwrap());
    assert_eq!(config.evaluate[0].task.name(), "retrieval");
    assert_eq!(config.train.strategy.augmentation, Augmentation::CropFlip { min_area: 0.5, flip: 0.5 });
    assert_eq!(config.train.lr, 1e-3);
}

#[test]
fn an_override_of_an_axis_shows_how_to_set_the_axis() {
    let text = "experiment: t\nbase: small.yaml\nsweep: { union: [{ zip: { train.lr: [1e-3, 2e-3] } }] }\n";
    let said = load_files(&[("e/main.yaml", text)], &["train.lr=1e-2"], &[]).map(|_| ()).unwrap_err();
    let hint = said.split("--set ").last().unwrap().trim_end_matches('`').to_owned();
    let spec = load_files(&[("e/main.yaml", text)], &[&hint], &[]).unwrap();
    assert_eq!(spec.resolved.points.len(), 1, "the hint works as it is shown: {hint}");
}

#[test]
fn text_stays_text_and_bare_words_are_warned_about() {
    let text = "experiment: t\nbase: small.yaml\nsource: 1.10\nquestion: off\n";
    let spec = load_files(&[("e/main.yaml", text)], &[], &[]).unwrap();
    assert_eq!((spec.source.as_deref(), spec.question.as_deref()), (Some("1.10"), Some("off")));
    assert_eq!(spec.warnings.len(), 1);
    assert!(spec.warnings[0].render(&spec.sources).starts_with("e/main.yaml:4:11: bare `off`"));
}

#[test]
fn numbers_are_read_in_every_notation() {
    let config = run("train: { lr: 1e-3, batch_size: 0.1k, weight_decay: 0, warmup: 10%, budget: { samples_seen: 1e4 } }");
    assert_eq!((config.train.batch_size, config.train.steps, config.train.warmup_steps), (100, 100, 10));
    assert_eq!(run("train: { warmup: { samples: 2k } }").train.warmup_steps, 20);
    assert_eq!(run("train: { warmup: 1k }").train.warmup_steps, 80, "warm-up ends with the run");
    assert_eq!(run("data: { train: { size: 4k }, quality: { keep: { count: 1k }, by: { field: s } } }").train.steps, 10);
}

#[test]
fn the_multiplier_of_a_strategy_counts_in_its_budget() {
    let config = run("train: { strategy: flip }");
    assert_eq!((config.train.effective_batch(), config.train.steps), (200, 40));
}

#[test]
fn a_scorer_is_a_run_of_its_own() {
    let scorer = "base: small.yaml\ntrain: { lr: 5e-4 }\ndata: { quality: { keep: 50%, by: random } }\n";
    let main =
        "experiment: t\nbase: small.yaml\ndata: { quality: { keep: 40%, by: { similarity: { scorer: s.yaml, seed: 3 } } } }\n";
    let config = config_of(&load_files(&[("e/main.yaml", main), ("e/s.yaml", scorer)], &[], &[]).unwrap());
    let quality = config.data.quality.unwrap();
    assert_eq!(quality.keep, Keep::Share(0.4));
    let QualityBy::Similarity { scorer } = quality.by else { panic!("{quality:?}") };
    assert_eq!((scorer.seed, scorer.train.lr, scorer.train.steps, scorer.evaluate.len()), (3, 5e-4, 40, 0));
}

/// A disk on which every pool of shards has a thousand samples.
struct AThousand;

impl Files for AThousand {
    fn shards(&self, path: &str) -> Result<Vec<String>, FileFault> {
        NoFiles.shards(path)
    }
    fn pool(&self, source: &DataSource, _: f64) -> FoundFiles {
        let samples = matches!(source, DataSource::Webdataset { .. }).then_some(1000);
        FoundFiles { samples, ..FoundFiles::default() }
    }
    fn field(&self, _: &DataSource, _: &str) -> Option<FileFault> {
        None
    }
    fn vocabulary(&self, _: &str) -> Option<FileFault> {
        None
    }
    fn eval_set(&self, _: &EvalSource, _: EvalTask) -> FoundFiles {
        FoundFiles::default()
    }
}

#[test]
fn epochs_of_a_pool_need_its_size() {
    let lines = "data: { train: { dataset: webdataset, shards: a.tar, size: null } }";
    assert!(errors(lines).contains("the size of the subset is not known"), "{}", errors(lines));
    let text = format!("experiment: t\nbase: small.yaml\n{lines}\n");
    let options = LoadOptions { read: &|_| Ok(SMALL.to_owned()), files: &AThousand, ..LoadOptions::default() };
    let spec = load_str(Path::new("e/main.yaml"), &text, &options).unwrap();
    assert_eq!(config_of(&spec).train.steps, 10);
}

#[test]
fn settings_that_change_no_result_are_in_no_run() {
    let spec = |lines: &str| {
        let text = format!("experiment: t\nbase: small.yaml\n{lines}");
        load_files(&[("e/main.yaml", &text)], &[], &[]).unwrap()
    };
    let (plain, often) = (spec(""), spec("train: { checkpoint_every: 5 }"));
    assert_eq!(config_of(&plain), config_of(&often));
    assert_eq!(often.execution.checkpoint_every.steps_of(80), 5);
}

#[test]
fn the_papers_claims_load() {
    let mut count = 0;
    for entry in std::fs::read_dir("experiments/paper/claims").into_iter().flatten() {
        let path = entry.unwrap().path();
        let file = load_claims(&path, &LoadOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        count += file.claims.len();
    }
    assert!(count > 0, "no claims at experiments/paper/claims");
}

#[test]
fn the_schema_takes_a_whole_experiment_and_refuses_its_mistakes() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let text = format!("experiment: t\n{SMALL}");
    let whole: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    let found: Vec<String> = validator.iter_errors(&whole).map(|e| e.to_string()).collect();
    assert!(found.is_empty(), "{found:?}");
    for (from, to) in
        [("lr: 1e-3", "lrr: 1"), ("strategy: clip", "strategy: { name: clip, masked: 3 }"), ("epochs: 1", "epochs: 1, steps: 2")]
    {
        let bad: serde_json::Value = serde_yaml::from_str(&text.replace(from, to)).unwrap();
        assert!(!validator.is_valid(&bad), "{to}");
    }
}

#[test]
fn every_key_of_the_schema_says_what_it_is() {
    fn walk(value: &serde_json::Value, path: &str, silent: &mut Vec<String>) {
        let properties = value.get("properties").and_then(|p| p.as_object());
        // A choice of one key is described as a whole.
        let is_choice = properties.is_some_and(|p| p.len() == 1) && value.get("description").is_some();
        for (key, inner) in properties.filter(|_| !is_choice).into_iter().flatten() {
            if inner.get("description").is_none() && inner.get("const").is_none() {
                silent.push(format!("{path}.{key}"));
            }
        }
        match value {
            serde_json::Value::Object(map) => map.iter().for_each(|(k, v)| walk(v, &format!("{path}.{k}"), silent)),
            serde_json::Value::Array(list) => list.iter().for_each(|v| walk(v, path, silent)),
            _ => {}
        }
    }
    let mut silent = Vec::new();
    walk(&schema(), "", &mut silent);
    silent.retain(|p| !p.contains("AxesSpec"));
    assert!(silent.is_empty(), "{silent:#?}");
}
