//! What README says of encoders and defaults is what the program does.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use scaledown::grid::{Digests, expand};
use scaledown::run::{EvalTask, RunConfig};
use scaledown::spec::{LoadOptions, encoder_names, load_str, schema};
use scaledown::trainer::model::build;

/// Only what is required.
const SMALL: &str = "experiment: t
data: { train: { dataset: scenes, size: 8k } }
model: { image_encoder: vit-xs/8, text_encoder: text-xxs, embed_dim: 64, image_size: 32 }
train: { strategy: clip, batch_size: 100, lr: 1e-3, budget: { epochs: 1 } }
";

/// The config of the smallest experiment with overrides.
fn config(set: &[&str]) -> RunConfig {
    let options = LoadOptions { set: set.iter().map(|s| (*s).to_owned()).collect(), ..LoadOptions::default() };
    let spec = load_str(Path::new("t.yaml"), SMALL, &options).unwrap_or_else(|e| panic!("{set:?}\n{e}"));
    expand(&spec, &Digests::default()).config(0)
}

/// The rows of a table of README under the section on encoders, by the first cell of its head; cells without backticks.
fn rows(head: &str) -> Vec<Vec<String>> {
    rows_of("Encoders, optimisers, defaults", head)
}

/// The rows of a table of README under a section.
fn rows_of(section: &str, head: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string("README.md").unwrap();
    let section = text.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with(&format!("| {head} |"))).skip(2);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
    let rows: Vec<Vec<String>> = lines.take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty(), "README has no table of `{head}`");
    rows
}

#[test]
fn every_encoder_stands_in_readme_with_its_size() {
    let rows = rows("encoder");
    let named: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(named, encoder_names());
    let wrong: Vec<String> = rows.iter().filter_map(|row| wrong_size(row)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The row that should stand in place of this one.
fn wrong_size(row: &[String]) -> Option<String> {
    let name = &row[0];
    let is_image = name.starts_with("vit");
    let (image, text) = if is_image { (format!("{name}/16"), "text-xxs") } else { ("vit-xxs/16".to_owned(), name.as_str()) };
    let (image, text) = (format!("model.image_encoder={image}"), format!("model.text_encoder={text}"));
    let vocabulary = "data.tokenizer={name: bpe, vocab_size: 32k}";
    let model = config(&[&image, &text, "model.image_size=224", "model.embed_dim=512", vocabulary]).model;
    let program = build(&model, 0.0);
    let of_tower = program.params.iter().filter(|view| view.name.starts_with("visual") == is_image && view.name != "logit_scale");
    let count: usize = of_tower.map(|view| view.range().len()).sum();
    let scaledown::run::ImageEncoderConfig::Vit(vit) = &model.image_encoder;
    let text = &model.text_encoder;
    let size = if is_image { [vit.width, vit.layers, vit.heads] } else { [text.width, text.layers, text.heads] };
    #[expect(clippy::cast_precision_loss, reason = "a display value")]
    let millions = format!("{:.1} M", count as f64 / 1e6);
    let expected: Vec<String> = size.iter().map(usize::to_string).chain([millions]).collect();
    (row[1..] != expected).then(|| format!("| `{name}` | {} |", expected.join(" | ")))
}

#[test]
fn stating_a_default_of_readme_changes_nothing() {
    for row in rows("key") {
        let [key, default, with] = row.as_slice() else { panic!("{row:?}") };
        let with: Vec<&str> = Some(with.as_str()).filter(|with| !with.is_empty()).into_iter().collect();
        let stated = format!("{key}={default}");
        let all: Vec<&str> = with.iter().copied().chain([stated.as_str()]).collect();
        assert_eq!(config(&all), config(&with), "{stated} is not the default with {with:?}");
    }
}

#[test]
fn every_key_of_model_and_train_is_required_or_has_its_default_in_readme() {
    let schema = schema();
    let documented: BTreeSet<String> = rows("key").into_iter().map(|row| row[0].clone()).collect();
    let mut silent = Vec::new();
    for (section, of) in [("model", "ModelSpec"), ("train", "TrainSpec"), ("data", "DataSpec")] {
        let section_schema = &schema["$defs"][of];
        let required: Vec<&str> = section_schema["required"].as_array().unwrap().iter().filter_map(|k| k.as_str()).collect();
        for key in section_schema["properties"].as_object().unwrap().keys() {
            let path = format!("{section}.{key}");
            // Without `quality` all is kept, and how often a checkpoint is written changes no result.
            let is_exempt = ["data.quality", "train.checkpoint_every"].contains(&path.as_str());
            if !required.contains(&key.as_str()) && !is_exempt && !documented.contains(&path) {
                silent.push(path);
            }
        }
    }
    assert!(silent.is_empty(), "README states no default of {silent:?}");
}

#[test]
fn every_task_stands_in_readme_with_its_metrics() {
    let tasks = [EvalTask::Zeroshot, EvalTask::Retrieval, EvalTask::Fewshot, EvalTask::LinearProbe];
    let rows = rows_of("Evaluations", "task");
    let named: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(named, tasks.map(EvalTask::name));
    for row in &rows {
        let options = LoadOptions { set: vec![format!("evaluate=[{}/scenes]", row[0])], ..LoadOptions::default() };
        let spec = load_str(Path::new("t.yaml"), SMALL, &options).unwrap();
        let found: Vec<String> = spec.resolved.metrics.iter().filter_map(|name| Some(name.split_once('.')?.1.to_owned())).collect();
        let stated: Vec<String> = row[1].split(", ").map(|metric| metric.trim_matches('`').to_owned()).collect();
        assert_eq!(stated, found, "{}", row[0]);
    }
}

#[test]
fn the_evaluations_of_readme_are_read() {
    let text = std::fs::read_to_string("README.md").unwrap();
    let section = text.split("\n## Evaluations\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let yaml = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let spec = load_str(Path::new("t.yaml"), &format!("{SMALL}{yaml}"), &LoadOptions::default()).unwrap();
    let evaluations = &spec.resolved.evaluates[0];
    assert_eq!(evaluations.len(), 4);
    assert!(evaluations.iter().all(|evaluation| evaluation.train.is_some()));
}

#[test]
fn every_measure_of_quality_stands_in_readme() {
    let schema = schema();
    let variants = schema["$defs"]["QualityBySpec"]["oneOf"].as_array().unwrap();
    let name = |variant: &serde_json::Value| {
        let named = variant["const"].as_str().map(str::to_owned);
        named.or_else(|| variant["properties"].as_object()?.keys().next().cloned()).unwrap_or_else(|| panic!("{variant}"))
    };
    let known: Vec<String> = variants.iter().map(name).collect();
    let rows = rows("measure");
    assert_eq!(rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), known);
    for (row, variant) in rows.iter().zip(variants) {
        let text = variant.to_string();
        let Some(of) = text.split("#/$defs/").nth(1).and_then(|rest| rest.split('"').next()) else { continue };
        // The marks at both ends of a cell were taken off.
        let cell = format!("`{}`", row[2]);
        let keys = cell.split('`').skip(1).step_by(2).filter(|key| !["", "uid", "l2", "linf"].contains(key));
        let wrong: Vec<&str> = keys.filter(|key| !schema["$defs"][of]["properties"][key].is_object()).collect();
        assert!(wrong.is_empty(), "{wrong:?} of `{}` are no keys of {of}", row[0]);
    }
}
