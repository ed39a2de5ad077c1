//! Loading from texts at hand: how files, environment and overrides become one experiment.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::Path;

use super::{Files, FoundFiles, LoadOptions, ValidSpec, load, load_claims, load_str, schema};
use crate::run::{
    Augmentation, DataSource, DecayScale, EvalSource, ImageEncoderConfig, Keep, LossConfig, OptimizerConfig, Pooling, QualityBy,
    RunConfig,
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
    crate::grid::expand(spec, &crate::grid::Digests::default()).config(0)
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
    assert_eq!((config.train.decay_scale, config.train.loss), (DecayScale::RelativeRate, LossConfig::Contrastive));
    assert_eq!((config.train.steps, config.train.warmup_steps, config.train.accumulate), (80, 4, 1));
    assert_eq!((config.model.text_encoder.context_length, config.model.text_encoder.vocab_size), (16, 1024));
    assert_eq!((config.model.pixel_mean, config.model.pixel_std), ([0.5; 3], [0.5; 3]));
    assert!((config.model.logit_scale_init - 1.0 / 0.07).abs() < 1e-12);
    assert_eq!(config.train.strategy.augmentation, Augmentation::None);
    let ImageEncoderConfig::Vit(vit) = &config.model.image_encoder else { panic!("{:?}", config.model.image_encoder) };
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
    let ImageEncoderConfig::Vit(vit) = &config.model.image_encoder else { panic!("{:?}", config.model.image_encoder) };
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
fn only_runs_that_crop_are_packed_larger_and_the_rest_share_one_pack() {
    let text = "experiment: t\nbase: small.yaml\nsweep: { grid: { train.strategy: [clip, { name: clip, augmentation: crop_flip }, \
                { name: flip, augmentation: { name: crop_flip, min_area: 90% } }] } }\n";
    let sides = |set: &[&str]| -> Vec<Option<usize>> {
        let spec = load_files(&[("e/main.yaml", text)], set, &[]).unwrap();
        let expansion = crate::grid::expand(&spec, &crate::grid::Digests::default());
        (0..3).map(|run| expansion.config(run).data.pack_side).collect()
    };
    assert_eq!(sides(&[]), [None, Some(53), Some(39)]);
    assert_eq!(sides(&["data.pack_side=64"]), [None, Some(64), Some(64)]);
    let said = load_files(&[("e/main.yaml", text)], &["data.pack_side=31"], &[]).map(|_| ()).unwrap_err();
    assert!(said.contains("`data.pack_side`: found 31, expected from 32 to 256"), "{said}");
    let plain = load_files(&[("e/main.yaml", "experiment: t\nbase: small.yaml\n")], &["data.pack_side=64"], &[]).unwrap();
    assert!(plain.warnings[0].message.contains("`data.pack_side` has no effect"), "{:?}", plain.warnings);
    assert_eq!(config_of(&plain).data.pack_side, None);
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
    let scorer = "base: small.yaml\ntrain: { lr: 5e-4 }\ndata: { quality: { keep: 50%, by: random } }\nevaluate_at: [50%]\n";
    let main =
        "experiment: t\nbase: small.yaml\ndata: { quality: { keep: 40%, by: { similarity: { scorer: s.yaml, seed: 3 } } } }\n";
    let config = config_of(&load_files(&[("e/main.yaml", main), ("e/s.yaml", scorer)], &[], &[]).unwrap());
    let quality = config.data.quality.unwrap();
    assert_eq!(quality.keep, Keep::Share(0.4));
    let QualityBy::Similarity { scorer } = quality.by else { panic!("{quality:?}") };
    assert_eq!((scorer.seed, scorer.train.lr, scorer.train.steps, scorer.evaluate.len()), (3, 5e-4, 40, 0));
    assert!(scorer.train.milestones.is_empty(), "it is not measured");
}

/// A disk on which every pool of shards has a thousand samples.
struct AThousand;

impl Files for AThousand {
    fn pool(&self, source: &DataSource, _: f64) -> FoundFiles {
        let samples = matches!(source, DataSource::Webdataset { .. }).then_some(1000);
        FoundFiles { samples, ..FoundFiles::default() }
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

/// Warnings of an experiment with these lines.
fn warnings(lines: &str) -> Vec<String> {
    let text = format!("experiment: t\nbase: small.yaml\n{lines}");
    let spec = load_files(&[("e/main.yaml", &text)], &[], &[]).unwrap_or_else(|e| panic!("{lines}\n{e}"));
    spec.warnings.iter().map(|w| w.render(&spec.sources)).collect()
}

#[test]
fn a_run_that_no_table_shows_is_warned_about() {
    let sweep = "sweep: { grid: { train.strategy: [clip, flip], train.lr: [1e-3, 2e-3] } }\n";
    let tables = |filter: &str| {
        format!(
            "{sweep}tables: [{{ name: t, rows: [train.strategy, train.lr], where: {{ {filter} }}, values: zeroshot/scenes.acc1 }}]\n"
        )
    };
    let said = warnings(&tables("train.strategy: clip"));
    assert!(
        said[0].starts_with(
            "e/main.yaml:4:1: 2 of 4 points are shown by no table: `train.strategy=flip train.lr=1e-3`, `train.strategy=flip train.lr=2e-3`"
        ),
        "{said:?}"
    );
    assert_eq!(warnings(&tables("train.strategy: [clip, flip]")), Vec::<String>::new());
    assert_eq!(warnings(sweep), Vec::<String>::new(), "a file without tables shows nothing on purpose");
    // The same run as another point is shown.
    let shared = "sweep: { union: [{ grid: { train.lr: [1e-3] } }, { grid: { train.batch_size: [100, 200] } }] }\n\
                  tables: [{ name: t, rows: train.batch_size, values: zeroshot/scenes.acc1 }]\n";
    assert_eq!(warnings(shared), Vec::<String>::new());
}

#[test]
fn labels_that_name_no_point_are_refused_whatever_their_axis_is() {
    let said = |filter: &str| {
        errors(&format!(
            "sweep: {{ grid: {{ train.strategy: [clip, flip], train.strategy.masked: {{ values: [25%], when: {{ train.strategy: flip }} }} }} }}\n\
             tables: [{{ name: t, rows: [train.strategy, train.strategy.masked], where: {{ {filter} }}, values: zeroshot/scenes.acc1 }}]\n"
        ))
    };
    assert!(
        said("train.strategy.masked: 75%")
            .contains("unknown label of `train.strategy.masked` `75%`, expected one of `25%`, `none`")
    );
    assert!(said("train.weight_decay: 5").contains("no point of the sweep has the value `5`"), "{}", said("train.weight_decay: 5"));
    assert!(said("train.nothing: 5").contains("unknown axis `train.nothing`"));
}

#[test]
fn null_is_a_label_where_an_axis_has_it() {
    let sweep = "sweep: { grid: { train.weight_decay: [null, 0.1], train.lr: [1e-3, 2e-3] }, exclude: [{ train.weight_decay: null, train.lr: 2e-3 }] }\n";
    let table = "tables: [{ name: t, rows: train.lr, where: { train.weight_decay: null }, values: zeroshot/scenes.acc1 }]\n";
    let text = format!("experiment: t\nbase: small.yaml\n{sweep}{table}");
    let spec = load_files(&[("e/main.yaml", &text)], &[], &[]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(spec.resolved.points.len(), 3);
    assert_eq!(spec.tables[0].filter["train.weight_decay"].0[0].as_str(), "null");
    assert!(spec.warnings[0].message.starts_with("2 of 3 points are shown by no table"), "{:?}", spec.warnings);
}

#[test]
fn a_claim_that_asks_for_what_where_left_out_is_told_so() {
    let said = errors(
        "sweep: { grid: { train.lr: [1e-3, 2e-3, 3e-3] } }\n\
         tables: [{ name: t, rows: train.lr, where: { train.lr: [1e-3, 2e-3] }, values: zeroshot/scenes.acc1 }]\n\
         claims: [{ id: c, says: s, cells: { table: t }, test: { best: { along: train.lr, is: 3e-3 } } }]\n",
    );
    assert!(said.contains("label `3e-3` of `train.lr` is left out by the table's `where`, which keeps `1e-3`, `2e-3`"), "{said}");
}

#[test]
fn sizes_that_no_machine_can_plan_are_refused_at_once() {
    let begun = std::time::Instant::now();
    for (lines, path) in [
        ("model: { image_encoder: { name: vit-ti/8, layers: 1e6 } }", "model.image_encoder.layers"),
        ("model: { image_encoder: { name: vit, width: 1e6, layers: 2, heads: 1, patch_size: 8 } }", "model.image_encoder.width"),
        ("model: { text_encoder: { name: text-b, layers: 1e6 } }", "model.text_encoder.layers"),
        ("model: { text_encoder: { name: text-b, heads: 1e5 } }", "model.text_encoder.heads"),
        ("model: { text_encoder: { name: text-b, mlp_ratio: 1e5 } }", "model.text_encoder.mlp_ratio"),
        ("model: { context_length: 1e6 }", "model.context_length"),
        ("model: { image_size: 1e9 }", "model.image_size"),
        ("model: { image_size: 4096, image_encoder: vit-ti/1 }", "16777216 patches"),
        ("model: { embed_dim: 1e9 }", "model.embed_dim"),
        ("data: { tokenizer: { name: bpe, vocab_size: 1e9 } }", "data.tokenizer.vocab_size"),
        ("train: { batch_size: 1e9 }", "train.batch_size"),
        ("train: { lanes: 1e9 }", "train.lanes"),
        ("train: { accumulate: 1e9 }", "train.accumulate"),
        ("train: { strategy: { name: flip, batch_multiplier: 1e15 } }", "train.strategy.batch_multiplier"),
        ("sweep: { seeds: 1e9 }", "sweep.seeds"),
        ("sweep: { seeds: 1e6, grid: { train.lr: [1e-3, 2e-3, 3e-3] } }", "3000000 runs"),
        ("sweep: { grid: { train.lr: { from: 1e-4, to: 1e-3, num: 1e9 } } }", "from 2 to 1000000"),
        (
            "sweep: { grid: { train.lr: { from: 1e-4, to: 1e-3, num: 10k }, train.weight_decay: { from: 0, to: 1, num: 10k } } }",
            "100000000 points",
        ),
    ] {
        let said = errors(lines);
        assert!(said.contains(path) && said.starts_with("e/main.yaml:3:"), "{lines}\n{said}");
    }
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn an_unknown_unit_is_answered_by_what_the_key_counts() {
    for (lines, expected) in [
        ("model: { image_size: 32px }", "unknown unit `px`, expected the number of pixels alone\nhint: did you mean `32`?"),
        (
            "model: { context_length: 16q }",
            "unknown unit `q`, expected a number of tokens without a unit\nhint: did you mean `16`?",
        ),
        ("train: { batch_size: 64q }", "unknown unit `q`, expected a number of pairs with one of `k`, `M`, `B` or none"),
        (
            "train: { budget: { steps: 100 steps } }",
            "unknown unit `steps`, expected the number of steps alone\nhint: did you mean `100`?",
        ),
        ("train: { warmup: 5pct }", "unknown unit `pct`, expected one of `k`, `M`, `B`, `%`"),
        ("train: { lr: 1e-3x }", "unknown unit `x`, expected a number without a unit\nhint: did you mean `1e-3`?"),
        (
            "data: { quality: { keep: 40percent, by: random } }",
            "unknown unit `percent`, expected `%` or none\nhint: did you mean `40%`?",
        ),
    ] {
        assert!(errors(lines).contains(expected), "{lines}\n{}", errors(lines));
    }
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
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("experiment.json", schema()).unwrap();
    let ours = compiler.compile("experiment.json", &mut schemas).unwrap();
    let text = format!("experiment: t\n{SMALL}");
    let whole: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    schemas.validate(&whole, ours).unwrap_or_else(|error| panic!("{error}"));
    for (from, to) in
        [("lr: 1e-3", "lrr: 1"), ("strategy: clip", "strategy: { name: clip, masked: 3 }"), ("epochs: 1", "epochs: 1, steps: 2")]
    {
        let bad: serde_json::Value = serde_yaml::from_str(&text.replace(from, to)).unwrap();
        assert!(schemas.validate(&bad, ours).is_err(), "{to}");
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

#[test]
fn records_hold_paths_as_they_are_written() {
    let text = "experiment: t
base: small.yaml
data:
  train: { dataset: webdataset, shards: \"${DATA}/{0..2}.tar::own.tar\", size: 8k }
  tokenizer: { name: clip_bpe, file: ../bpe.gz }
evaluate: [{ zeroshot: x, folder: \"${DATA}/eval\" }]
";
    let at = |data: &str| {
        let spec = load_files(&[("e/main.yaml", text)], &[], &[("DATA", data)]).unwrap();
        let config = config_of(&spec);
        (spec.written.config(&config), config)
    };
    let (written, config) = at("/somewhere");
    let DataSource::Webdataset { shards } = &config.data.source else { panic!("it is one") };
    assert_eq!(shards, &["/somewhere/0.tar", "/somewhere/1.tar", "/somewhere/2.tar", "e/own.tar"]);
    let json = serde_json::to_string(&written).unwrap();
    for path in ["\"${DATA}/{0..2}.tar::own.tar\"", "\"${DATA}/eval\"", "\"../bpe.gz\""] {
        assert!(json.contains(path), "{path} in {json}");
    }
    assert_eq!(at("/elsewhere").0, written);
}

#[test]
fn labels_of_paths_do_not_change_with_the_folder() {
    let text = "experiment: t
base: small.yaml
data: { train: { dataset: webdataset, shards: a.tar, size: 8k } }
sweep: { grid: { data.train.shards: [\"${DATA}/a.tar\", \"${DATA}/b.tar\"] } }
tables: [{ name: t, rows: data.train.size, where: { data.train.shards: \"${DATA}/a.tar\" }, values: zeroshot/scenes.acc1 }]
";
    let spec = load_files(&[("e/main.yaml", text)], &[], &[("DATA", "/somewhere")]).unwrap();
    assert_eq!(spec.label(0, "data.train.shards").as_deref(), Some("${DATA}/a.tar"));
}

#[test]
fn a_name_longer_than_a_folders_can_be_is_refused_at_its_place() {
    let text = format!("experiment: {}\nbase: small.yaml\n", "x".repeat(300));
    let error = load_files(&[("e/main.yaml", &text)], &[], &[]).map(|_| ()).unwrap_err();
    assert!(error.contains("e/main.yaml:1:13: `experiment`: found a name of 300 letters, expected at most 255"), "{error}");
    let text = format!("experiment: {0}/{0}\nbase: small.yaml\n", "x".repeat(200));
    assert!(load_files(&[("e/main.yaml", &text)], &[], &[]).is_ok(), "each folder by itself");
}

#[test]
fn a_number_is_one_decay_for_every_optimiser_and_the_papers_is_said_by_name() {
    let decay = |lines: &str| {
        let train = run(lines).train;
        (train.weight_decay, train.decay_scale)
    };
    for optimizer in ["adafactor", "adamw"] {
        let stated = |decay: &str| format!("train: {{ optimizer: {optimizer}, weight_decay: {decay} }}");
        assert_eq!(decay(&stated("0.1")), (0.1, DecayScale::Rate));
        assert_eq!(decay(&stated("{ relative: 1e-3 }")), (1e-3, DecayScale::RelativeRate));
        assert_eq!(decay(&stated("0")), decay(&stated("{ relative: 0 }")), "no decay is one run, whatever it is times");
        assert_eq!(decay(&format!("train: {{ optimizer: {optimizer} }}")), (1e-4, DecayScale::RelativeRate));
    }
    let message = errors("train: { weight_decay: { relative: -1 } }");
    assert!(message.contains("e/main.yaml:3:36: `train.weight_decay.relative`: found -1, expected 0 or more"), "{message}");
    assert!(errors("train: { weight_decay: { relativ: 1 } }").contains("did you mean `relative`?"));
}

#[test]
fn the_sigmoid_loss_brings_its_own_scale_unless_one_is_stated() {
    let found = |lines: &str| {
        let config = run(lines);
        (config.train.loss, config.model.logit_scale_init)
    };
    assert_eq!(found("train: { loss: sigmoid }"), (LossConfig::Sigmoid { logit_bias_init: -10.0 }, 10.0));
    let stated = "model: { logit_scale_init: 20 }\ntrain: { loss: { name: sigmoid, logit_bias_init: -5 } }";
    assert_eq!(found(stated), (LossConfig::Sigmoid { logit_bias_init: -5.0 }, 20.0));
    assert_eq!(found("train: { loss: contrastive }"), found(""), "the default, said");
    assert!(errors("train: { loss: sigmod }").contains("did you mean `sigmoid`?"));
    // On an axis, each run has the scale of its loss.
    let files = [("e/main.yaml", "experiment: t\nbase: small.yaml\nsweep: { grid: { train.loss: [contrastive, sigmoid] } }\n")];
    let expansion = crate::grid::expand(&load_files(&files, &[], &[]).unwrap(), &crate::grid::Digests::default());
    let scales: Vec<f64> = (0..2).map(|run| expansion.config(run).model.logit_scale_init).collect();
    assert!((scales[0] - 1.0 / 0.07).abs() < 1e-12 && scales[1] == 10.0, "{scales:?}");
    assert_ne!(expansion.runs()[0].id, expansion.runs()[1].id);
}

#[test]
fn lanes_that_nobody_stated_are_never_more_than_a_batch() {
    for (batch, lanes) in [(2, 2), (5, 5), (7, 7), (8, 8), (100, 8)] {
        assert_eq!(run(&format!("train: {{ batch_size: {batch} }}")).train.lanes, lanes, "batch of {batch}");
    }
    assert!(errors("train: { batch_size: 5, lanes: 6 }").contains("`train.lanes`: 6 lanes are more than a batch of 5"));
    assert_eq!(run("train: { batch_size: 5, lanes: 3 }").train.lanes, 3);
}

#[test]
fn schedules_rates_and_decays_that_were_hardly_meant_are_warned_about_at_their_places() {
    // 80 steps at a rate of 1e-3.
    let cases = [
        (
            "train: { warmup: 100 }",
            "e/main.yaml:3:18: `train.warmup`: found 100 steps, the budget has 80: the learning rate only rises",
        ),
        ("train: { warmup: 80 }", "`train.warmup`: found 80 steps, the budget has 80"),
        ("train: { warmup: 100% }", "`train.warmup`: found 80 steps, the budget has 80"),
        ("train: { warmup: { samples: 16k } }", "`train.warmup`: found 160 steps, the budget has 80"),
        ("train: { warmup: 10%, budget: { steps: 4 } }", "`train.warmup` comes to less than half a step of a budget of 4"),
        ("train: { warmup: { samples: 20 } }", "`train.warmup` comes to less than half a step of a budget of 80"),
        ("train: { lr: 4e3 }", "e/main.yaml:3:14: `train.lr`: found 4000, expected from 1e-7 to 0.1"),
        ("train: { lr: 1e-9 }", "`train.lr`: found 0.000000001, expected from 1e-7 to 0.1"),
        (
            "train: { weight_decay: 20 }",
            "e/main.yaml:3:24: `train.weight_decay`: a step at the peak rate of 0.001 takes away 0.020",
        ),
        (
            "train: { weight_decay: { relative: 0.1 } }",
            "`train.weight_decay.relative`: a step at the peak rate of 0.001 takes away 0.100",
        ),
    ];
    for (lines, expected) in cases {
        let found = warnings(lines);
        assert!(found.len() == 1 && found[0].contains(expected), "{lines}: {found:#?}, expected {expected}");
    }
    for lines in ["", "train: { warmup: 79 }", "train: { warmup: 0 }", "train: { budget: { steps: 4 } }", "train: { lr: 0.1 }"] {
        assert_eq!(warnings(lines), Vec::<String>::new(), "{lines}");
    }
    assert_eq!(warnings("train: { weight_decay: 0.2, optimizer: adafactor }"), Vec::<String>::new(), "CLIP's own");
    // One warning a place, with the labels of the axes that matter.
    let found = warnings("sweep: { grid: { train.warmup: [10, 90], train.lr: [1e-3, 2e-3] } }");
    assert!(found.len() == 1 && found[0].contains("at `train.warmup: 90`") && !found[0].contains("train.lr"), "{found:#?}");
}
