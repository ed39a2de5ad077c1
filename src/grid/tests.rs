//! Experiments to points and runs.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use super::{Digests, Expansion, expand, run_id};
use crate::spec::{LoadOptions, load_str};

const SMALL: &str = "experiment: t
data: { train: { dataset: scenes, size: 8k } }
model: { image_encoder: vit-xs/8, text_encoder: text-xxs, embed_dim: 64, image_size: 32 }
train: { strategy: clip, batch_size: 100, lr: 1e-3, budget: { samples_seen: 8k } }
evaluate: [zeroshot/scenes, retrieval/scenes]
";

fn expansion(sweep: &str) -> Expansion {
    let options = LoadOptions { cost: &|_, _| 0.5, ..LoadOptions::default() };
    let spec = load_str(Path::new("t.yaml"), &format!("{SMALL}{sweep}"), &options).unwrap_or_else(|e| panic!("{sweep}\n{e}"));
    expand(&spec, &Digests::default())
}

/// The labels of every point, joined.
fn points(expansion: &Expansion) -> Vec<String> {
    let labels = |idx| expansion.labels(idx).map(|(_, label)| label).collect::<Vec<_>>().join(" ");
    (0..expansion.num_points()).map(labels).collect()
}

fn ids(expansion: &Expansion) -> BTreeSet<String> {
    expansion.runs().iter().map(|r| r.id.to_string()).collect()
}

#[test]
fn a_grid_is_every_combination_in_the_order_written() {
    let found = expansion("sweep: { seeds: 2, grid: { train.lr: [1e-3, 2e-3], data.train.size: [2k, 4k, 8k] } }");
    assert_eq!(points(&found), ["1e-3 2k", "1e-3 4k", "1e-3 8k", "2e-3 2k", "2e-3 4k", "2e-3 8k"]);
    assert_eq!((found.runs().len(), found.runs_of(1)), (12, [2, 3].as_slice()));
    let config = found.config(3);
    assert_eq!((config.seed, config.train.lr, config.data.size), (1, 1e-3, Some(4000)));
    assert_eq!(found.axes(), ["train.lr", "data.train.size"]);
}

#[test]
fn a_zip_takes_values_side_by_side() {
    let found = expansion("sweep: { zip: { train.lr: [1e-3, 2e-3], train.batch_size: [50, 100] } }");
    assert_eq!(points(&found), ["1e-3 50", "2e-3 100"]);
}

#[test]
fn a_zip_may_hold_a_value_twice() {
    let found = expansion("sweep: { zip: { train.lr: [1e-3, 2e-3, 3e-3], train.weight_decay: [0.1, 0.2, 0.1] } }");
    assert_eq!(points(&found), ["1e-3 0.1", "2e-3 0.2", "3e-3 0.1"]);
    assert_eq!(found.config(2).train.weight_decay, 0.1);
}

#[test]
fn a_zip_beside_a_grid_is_every_combination_of_the_two_in_the_order_written() {
    let zip_first =
        expansion("sweep: { zip: { train.lr: [1e-3, 2e-3], train.batch_size: [50, 50] }, grid: { data.train.size: [2k, 4k] } }");
    assert_eq!(points(&zip_first), ["1e-3 50 2k", "1e-3 50 4k", "2e-3 50 2k", "2e-3 50 4k"]);
    let grid_first =
        expansion("sweep: { grid: { data.train.size: [2k, 4k] }, zip: { train.lr: [1e-3, 2e-3], train.batch_size: [50, 50] } }");
    assert_eq!(points(&grid_first), ["2k 1e-3 50", "2k 2e-3 50", "4k 1e-3 50", "4k 2e-3 50"]);
    assert_eq!(ids(&zip_first), ids(&grid_first));
}

#[test]
fn products_and_unions_combine() {
    let found = expansion(
        "sweep:\n  product:\n    - zip: { train.lr: [1e-3, 2e-3], train.batch_size: [50, 100] }\n    - zip: { train.weight_decay: [0, 0.1], train.grad_clip_norm: [1, none] }\n",
    );
    assert_eq!(points(&found), ["1e-3 50 0 1", "1e-3 50 0.1 none", "2e-3 100 0 1", "2e-3 100 0.1 none"]);
    let found = expansion(
        "sweep:\n  product:\n    - grid: { data.train.size: [2k, 4k] }\n    - union:\n        - grid: { train.lr: [1e-3] }\n        - zip: { train.batch_size: [50, 80], train.lr: [2e-3, 3e-3] }\n  exclude: [{ data.train.size: 4k, train.lr: [1e-3, 3e-3] }]\n",
    );
    assert_eq!(points(&found), ["2k 1e-3", "2k 50 2e-3", "2k 80 3e-3", "4k 50 2e-3"]);
    assert!(found.warnings().is_empty(), "{:?}", found.warnings());
    let found = expansion(
        "sweep:\n  union:\n    - product: [{ grid: { train.lr: [1e-3] } }, { grid: { train.batch_size: [50] } }]\n    - { grid: { train.lr: [2e-3] }, zip: { train.batch_size: [80, 90] } }\n",
    );
    assert_eq!(points(&found), ["1e-3 50", "2e-3 80", "2e-3 90"]);
}

#[test]
fn a_condition_may_name_an_axis_that_only_some_members_of_a_product_have() {
    let found = expansion(
        "sweep:\n  product:\n    - union: [{ grid: { train.strategy: [clip, flip] } }, { grid: { train.batch_size: [50] } }]\n    - grid: { train.lr: { values: [1e-3, 2e-3], when: { train.strategy: flip } } }\n",
    );
    assert_eq!(points(&found), ["clip", "flip 1e-3", "flip 2e-3", "50"], "the base's strategy is clip");
}

#[test]
fn rows_of_a_zip_that_a_condition_makes_equal_are_one_point() {
    let found = expansion(
        "sweep: { zip: { train.strategy: [clip, clip, flip], train.strategy.masked: { values: [25%, 50%, 50%], when: { train.strategy: flip } } } }",
    );
    assert_eq!(points(&found), ["clip", "flip 50%"]);
}

#[test]
fn a_union_is_one_sub_grid_after_another_and_shares_runs() {
    let found = expansion(
        "sweep:\n  union:\n    - grid: { train.lr: [1e-3, 2e-3] }\n    - zip: { train.lr: [2e-3, 3e-3], train.batch_size: [100, 50] }\n",
    );
    assert_eq!(points(&found), ["1e-3", "2e-3", "2e-3 100", "3e-3 50"]);
    assert_eq!(found.runs().len(), 3, "lr 2e-3 at batch 100 is one run of two points");
    assert_eq!(found.owners()[1], [1, 2]);
}

#[test]
fn an_axis_exists_only_where_its_condition_holds() {
    let sweep = "sweep:\n  grid:\n    train.strategy: [clip, flip]\n    train.strategy.masked: { values: [25%, 50%], when: { train.strategy: flip } }\n    train.lr: [1e-3, 2e-3]\n";
    let found = expansion(sweep);
    assert_eq!(points(&found), ["clip 1e-3", "clip 2e-3", "flip 25% 1e-3", "flip 25% 2e-3", "flip 50% 1e-3", "flip 50% 2e-3"]);
    assert_eq!(found.label(0, "train.strategy.masked"), None);
    assert_eq!(found.label(2, "train.strategy.name").as_deref(), Some("flip"));
}

#[test]
fn excluded_points_are_left_out_in_any_notation() {
    let found = expansion(
        "sweep:\n  grid: { data.train.size: [2k, 4k, 8k], train.lr: [1e-3, 2e-3] }\n  exclude: [{ data.train.size: [2000, 4k], train.lr: 0.002 }]\n",
    );
    assert_eq!(points(&found), ["2k 1e-3", "4k 1e-3", "8k 1e-3", "8k 2e-3"]);
    assert!(found.warnings().is_empty());
    let found = expansion("sweep:\n  grid: { train.lr: [1e-3, 2e-3] }\n  exclude: [{ train.lr: 5e-3 }]\n");
    assert!(found.warnings()[0].contains("leaves out no point"), "{:?}", found.warnings());
}

#[test]
fn a_range_is_a_list_of_its_values() {
    let range = expansion("sweep: { grid: { train.lr: { from: 1e-4, to: 1e-2, num: 3, scale: log } } }");
    let list = expansion("sweep: { grid: { train.lr: [1e-4, 1e-3, 1e-2] } }");
    assert_eq!(ids(&range), ids(&list));
    assert_eq!(
        points(&expansion("sweep: { grid: { data.train.size: { from: 1k, to: 4k, num: 4 } } }")),
        ["1k", "2000", "3000", "4k"]
    );
}

#[test]
fn axes_may_be_written_as_nested_maps() {
    let nested = expansion("sweep: { grid: { train: { lr: [1e-3, 2e-3], batch_size: [50, 100] } } }");
    let dotted = expansion("sweep: { grid: { train.lr: [1e-3, 2e-3], train.batch_size: [50, 100] } }");
    assert_eq!((points(&nested), ids(&nested)), (points(&dotted), ids(&dotted)));
}

#[test]
fn budgets_that_come_to_the_same_steps_are_one_run() {
    let found = expansion(
        "sweep: { grid: { train.budget: [{ epochs: 1 }, { samples_seen: 8k }, { steps: 80 }, { gmacs: 4k }, { epochs: 2 }] } }",
    );
    assert_eq!(points(&found), ["epochs=1", "samples_seen=8k", "steps=80", "gmacs=4k", "epochs=2"]);
    assert_eq!(found.runs().len(), 2);
}

#[test]
fn keys_that_cannot_matter_make_no_runs() {
    let found = expansion(
        "sweep: { grid: { data.quality.by: [random, { field: a }, { field: b }], data.quality.keep: [50%, 100%], train.warmup: [100, 200] } }",
    );
    assert_eq!((found.num_points(), found.runs().len()), (12, 4), "3 at 50 %, 1 at 100 %, warm-up past the end is the same");
}

#[test]
fn a_point_answers_for_settings_that_are_no_axis_of_its_sub_grid() {
    let found = expansion(
        "sweep:\n  union:\n    - grid: { train.budget: [{ epochs: 1 }, { samples_seen: 8k }] }\n    - grid: { data.train.size: [4k] }\n    - grid: { train.budget.steps: [5] }\n",
    );
    let labels: Vec<Option<String>> = (0..4).map(|idx| found.label(idx, "train.budget")).collect();
    let expected = ["epochs=1", "samples_seen=8k", "samples_seen=8k", "steps=5"].map(|l| Some(l.to_owned()));
    assert_eq!(labels, expected);
    assert_eq!(found.label(2, "data.train.size").as_deref(), Some("4k"));
    assert_eq!(found.label(0, "data.train.size").as_deref(), Some("8k"));
    assert_eq!(found.label(0, "model.image_encoder.name").as_deref(), Some("vit-xs/8"));
    assert_eq!(found.label(0, "train.nothing"), None);
}

#[test]
fn a_runs_identity_is_its_content_and_not_its_place() {
    let one = expansion("sweep: { seeds: [0, 1], grid: { train.lr: [1e-3, 2e-3], train.batch_size: [50, 100] } }");
    let other = expansion("sweep: { seeds: [1, 0], grid: { train.batch_size: [100, 50], train.lr: [0.002, 0.001] } }");
    assert_eq!(ids(&one), ids(&other));
    let more = expansion("sweep: { seeds: [0, 1], grid: { train.lr: [1e-3, 5e-3, 2e-3], train.batch_size: [50, 100] } }");
    assert!(ids(&one).is_subset(&ids(&more)));
    assert_eq!(more.runs().len(), one.runs().len() + 4, "a new value adds exactly its runs");
}

#[test]
fn runs_do_not_depend_on_the_order_in_which_a_sweep_is_written() {
    use rand::seq::SliceRandom;

    use crate::data::{Philox, Stream};

    let write = |sample: u32| {
        let mut draws = Philox::new(5, Stream::Order).at(0, sample);
        let mut axes = [
            ("train.lr", vec!["1e-3", "2e-3", "5e-3"]),
            ("data.train.size", vec!["2k", "4k"]),
            ("train.optimizer", vec!["adamw", "adafactor", "{ name: adamw, beta1: 0.5 }"]),
            ("train.batch_size", vec!["50", "100"]),
        ];
        axes.shuffle(&mut draws);
        axes.iter_mut().for_each(|(_, values)| values.shuffle(&mut draws));
        let lines: Vec<String> = axes.iter().map(|(path, values)| format!("    {path}: [{}]\n", values.join(", "))).collect();
        expansion(&format!("sweep:\n  grid:\n{}", lines.concat()))
    };
    let first = ids(&write(0));
    assert_eq!(first.len(), 36);
    assert!((1..40).all(|sample| ids(&write(sample)) == first));
}

#[test]
fn ids_are_the_digest_of_the_whole_config() {
    let shards = "sweep:\n  seeds: 2\n  grid:\n    data.train:\n      - { dataset: webdataset, shards: \"train/{00000..00499}.tar\", size: 4k }\n      - { dataset: scenes, size: 4k, world_seed: 3 }\n    train.strategy: [clip, flip, { name: slip, augmentation: crop_flip }]\n    model.image_encoder: [vit-xs/8, vit-ti/16]\n    data.tokenizer: [{ name: unigram, vocab_size: 512 }, bpe]\n";
    let drawing = shards.replace("seeds: 2", "seeds: 2\n  seeds_draw: [init, order, pool]");
    let (found, drawing) = (expansion(shards), expansion(&drawing));
    assert_eq!((found.runs().len(), drawing.runs().len()), (48, 48));
    assert!(ids(&found).is_disjoint(&ids(&drawing)));
    for (idx, run) in drawing.runs().iter().enumerate() {
        assert_eq!(run_id(&drawing.config(idx), &Digests::default()), run.id, "run {idx}");
    }
    for (idx, run) in found.runs().iter().enumerate() {
        let config = found.config(idx);
        assert_eq!(run_id(&config, &Digests::default()), run.id, "run {idx}");
        assert_eq!(config.model.text_encoder.vocab_size, config.data.tokenizer.vocab_size() as usize);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<crate::run::RunConfig>(&json).unwrap(), config);
    }
}

/// A run that reads files in every place that has any, from a folder.
fn reading(folder: &str) -> crate::run::RunConfig {
    let text = format!(
        "experiment: t
data:
  train: {{ dataset: webdataset, shards: \"{folder}/train/{{0..3}}.tar\", size: 4k }}
  quality: {{ keep: 50%, by: {{ similarity: {{ scorer: scorer.yaml }} }} }}
  tokenizer: {{ name: clip_bpe, file: {folder}/bpe.gz }}
model: {{ image_encoder: vit-xs/8, text_encoder: text-xxs, embed_dim: 64, image_size: 32 }}
train: {{ strategy: clip, batch_size: 100, lr: 1e-3, budget: {{ samples_seen: 8k }} }}
evaluate:
  - {{ zeroshot: a, folder: {folder}/eval }}
  - {{ zeroshot: b, shards: {folder}/held.tar, class_field: c, classnames: {folder}/c.txt, templates: {folder}/t.txt }}
  - {{ fewshot: a, folder: {folder}/other, train: fit }}
"
    );
    let scorer = format!("data: {{ train: {{ dataset: table, file: {folder}/t.csv, image_column: a, caption_column: b }} }}\n");
    let scorer = scorer + SMALL.split_once("model:").map(|(_, rest)| rest).map(|rest| format!("model:{rest}")).unwrap().as_str();
    let scorer = scorer.split("evaluate:").next().unwrap().to_owned();
    let read = move |path: &Path| match path.to_str() {
        Some("scorer.yaml") => Ok(scorer.clone()),
        _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
    };
    let options = LoadOptions { cost: &|_, _| 0.5, read: &read, ..LoadOptions::default() };
    let spec = load_str(Path::new("t.yaml"), &text, &options).unwrap_or_else(|e| panic!("{text}\n{e}"));
    expand(&spec, &Digests::default()).config(0)
}

/// Digests of all sources of a run: `one` for each but the one at a position, which has `other`.
fn digests(config: &crate::run::RunConfig, changed: Option<usize>) -> Digests {
    let mut digests = Digests::default();
    for (idx, source) in super::sources(&config.data, &config.evaluate).into_iter().enumerate() {
        digests.insert(source, if changed == Some(idx) { "other" } else { "one" });
    }
    digests
}

#[test]
fn runs_keep_their_id_where_data_move_and_change_it_where_data_change() {
    let (here, there) = (reading("/a"), reading("/elsewhere/b"));
    let id = |config: &crate::run::RunConfig, changed| run_id(config, &digests(config, changed));
    assert_eq!(id(&here, None), id(&there, None), "the same content in another folder");
    assert_ne!(run_id(&here, &Digests::default()), run_id(&there, &Digests::default()), "paths are all there is without digests");
    let sources = super::sources(&here.data, &here.evaluate).len();
    assert_eq!(sources, 7, "shards, vocabulary, the scorer's table, a folder, held-out shards, another folder, its train split");
    let ids: BTreeSet<String> = (0..sources).map(|idx| id(&here, Some(idx)).to_string()).collect();
    assert_eq!(ids.len(), sources, "each source is in the identity");
    assert!(!ids.contains(&id(&here, None).to_string()));
}

#[test]
fn scenes_are_evaluated_in_the_world_they_were_trained_in() {
    let found = expansion("sweep: { grid: { data.train.world_seed: [0, 5] } }");
    let json = |idx| serde_json::to_string(&found.config(idx).evaluate).unwrap();
    assert!(json(0).contains("\"world_seed\":0") && json(1).contains("\"world_seed\":5"), "{}", json(1));
}

#[test]
fn another_text_names_a_setting_where_stating_it_changes_nothing() {
    let table = |path: &str, label: &str| {
        let sweep = "sweep:\n  union:\n    - grid: { train.optimizer: [adafactor, { name: adamw, beta2: 0.98 }, { name: adamw, beta1: 0.5 }] }\n    - grid: { train.weight_decay: [null, 0.1] }\n";
        let table = format!(
            "tables: [{{ name: t, rows: [train.optimizer, train.weight_decay], where: {{ {path}: \"{label}\" }}, values: steps }}]\n"
        );
        let found = expansion(&format!("{sweep}{table}"));
        (0..found.num_points()).filter(|idx| found.also(*idx).any(|also| also == (path, label))).collect::<Vec<_>>()
    };
    assert_eq!(table("train.optimizer", "adamw"), [1], "not where a constant differs");
    assert_eq!(table("train.optimizer", "name=adafactor,beta1=0.9"), [0, 3, 4], "stated, or the default");
    assert_eq!(table("train.optimizer.beta1", "0.9"), [0, 1, 3, 4]);
    assert_eq!(table("train.weight_decay", "relative=1e-4"), [0, 1, 2, 3], "null on the axis is the default too");
    assert_eq!(table("train.budget", "epochs=1"), [0, 1, 2, 3, 4]);
    assert_eq!(table("train.budget.steps", "80"), [0, 1, 2, 3, 4]);
    assert_eq!(table("train.warmup", "4"), [0, 1, 2, 3, 4], "5 % of 80 steps");
    assert_eq!(table("train.strategy", "name=clip,augmentation=none"), [0, 1, 2, 3, 4]);
    assert_eq!(table("model.image_encoder.width", "96"), [0, 1, 2, 3, 4], "what a preset stands for");
    assert_eq!(table("model.context_length", "16"), [0, 1, 2, 3, 4]);
    assert_eq!(table("data.tokenizer", "bpe"), [0, 1, 2, 3, 4]);
    assert_eq!(table("data.train.world_seed", "0"), [0, 1, 2, 3, 4]);
    assert_eq!(table("data.tokenizer.vocab_size", "1.024k"), [0, 1, 2, 3, 4], "of the default tokenizer");
    assert_eq!(table("train.strategy.augmentation", "none"), [0, 1, 2, 3, 4]);
}

#[test]
fn a_null_on_an_axis_is_the_default() {
    let found = expansion("sweep: { grid: { train.weight_decay: [null, { relative: 1e-4 }, 0] } }");
    assert_eq!(points(&found), ["null", "relative=1e-4", "0"]);
    assert_eq!(found.runs().len(), 2);
}
