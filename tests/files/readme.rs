//! What README says of encoders and defaults is what the program does.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use crate::encoder_cost::cost;
use scaledown::grid::{Digests, expand};
use scaledown::run::{EvalTask, ImageEncoderConfig, RunConfig};
use scaledown::spec::{LoadOptions, encoder_names, image_encoder, load_str, schema};
use scaledown::trainer::model::build;
use scaledown::trainer::program::Tower;

/// Only what is required.
const SMALL: &str = "experiment: t
data: { train: { dataset: scenes, size: 8k } }
model: { image_encoder: vit-xs/8, text_encoder: text-xxs, embed_dim: 64, image_size: 32 }
train: { strategy: clip, batch_size: 96, lr: 1e-3, budget: { epochs: 1 } }
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

/// The row that should stand in place of this one; what it is counted at is taken from it.
fn wrong_size(row: &[String]) -> Option<String> {
    let (name, at) = (&row[0], &row[4]);
    let ([width, layers, heads], parameters, macs) = match at.split_once(" px") {
        Some((side, patch)) => of_image_encoder(&format!("{name}{}", patch.trim_start_matches(", ")), side.parse().unwrap()),
        None => of_text_encoder(name, at.strip_suffix(" tokens").unwrap()),
    };
    #[expect(clippy::cast_precision_loss, reason = "display values")]
    let (millions, mmacs) = (parameters as f64 / 1e6, macs as f64 / 1e6);
    let mmacs = if mmacs < 100.0 { format!("{mmacs:.1}") } else { format!("{mmacs:.0}") };
    let millions = if millions < 1.0 { format!("{millions:.2} M") } else { format!("{millions:.1} M") };
    let expected = [width, layers, heads, at.clone(), millions, mmacs];
    (row[1..] != expected).then(|| format!("| `{name}` | {} |", expected.join(" | ")))
}

/// Width, layers and heads, parameters and multiply-accumulates with the projection.
fn of_image_encoder(name: &str, side: usize) -> ([String; 3], usize, usize) {
    const EMBED_DIM: usize = 512;
    let encoder = image_encoder(name, side).unwrap();
    let counted = cost(&encoder, side);
    let (parameters, macs) = (counted.parameters + counted.features * EMBED_DIM, counted.macs + counted.features * EMBED_DIM);
    let set = [format!("model.image_encoder={name}"), format!("model.image_size={side}"), format!("model.embed_dim={EMBED_DIM}")];
    let model = config(&set.each_ref().map(String::as_str)).model;
    assert_eq!(model.image_encoder, encoder);
    let program = build(&model, 0.0);
    let of_image = program.params.iter().filter(|view| view.name.starts_with("visual"));
    assert_eq!(of_image.map(|view| view.range().len()).sum::<usize>(), parameters, "parameters of {name}");
    assert_eq!(program.macs(Tower::Image), macs as u64, "multiply-accumulates of {name}");
    (shape(&encoder), parameters, macs)
}

/// Width, layers and heads of an encoder, those of stages joined.
fn shape(encoder: &ImageEncoderConfig) -> [String; 3] {
    let list = |stages: &[usize]| stages.iter().map(usize::to_string).collect::<Vec<_>>().join("-");
    match encoder {
        ImageEncoderConfig::Vit(vit) => [vit.width, vit.layers, vit.heads].map(|size| size.to_string()),
        ImageEncoderConfig::Resnet(resnet) => [resnet.width.to_string(), list(&resnet.depths), String::new()],
        ImageEncoderConfig::Convnext(convnext) => [convnext.width.to_string(), list(&convnext.depths), String::new()],
        ImageEncoderConfig::Swin(swin) => [swin.width.to_string(), list(&swin.depths), list(&swin.heads)],
        ImageEncoderConfig::Mixer(mixer) => [mixer.width.to_string(), mixer.layers.to_string(), String::new()],
    }
}

/// The same of a text encoder.
fn of_text_encoder(name: &str, tokens: &str) -> ([String; 3], usize, usize) {
    let (text, tokens) = (format!("model.text_encoder={name}"), format!("model.context_length={tokens}"));
    let model = config(&[&text, &tokens, "model.embed_dim=512", "data.tokenizer={name: bpe, vocab_size: 32k}"]).model;
    let program = build(&model, 0.0);
    let of_text = program.params.iter().filter(|view| !view.name.starts_with("visual") && view.name != "logit_scale");
    let parameters = of_text.map(|view| view.range().len()).sum();
    let text = &model.text_encoder;
    let macs = usize::try_from(program.macs(Tower::Text)).unwrap();
    ([text.width, text.layers, text.heads].map(|size| size.to_string()), parameters, macs)
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
fn the_points_of_readme_are_read() {
    let text = std::fs::read_to_string("README.md").unwrap();
    let section = text.split("\n## Evaluations\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let yaml = section.split("```yaml\n").nth(2).unwrap().split("```").next().unwrap();
    let rest = "evaluate: [{ zeroshot: flowers, folder: x }]\nsweep: { grid: { train.lr: [1e-3, 2e-3] } }\n";
    let spec = load_str(Path::new("t.yaml"), &format!("{SMALL}{rest}{yaml}"), &LoadOptions::default()).unwrap();
    let labels: Vec<&str> = spec.resolved.trains[0].milestones.iter().map(|milestone| milestone.label.as_str()).collect();
    assert_eq!((labels, spec.tables.len()), (vec!["10%", "50%"], 2));
}

#[test]
fn the_fits_of_readme_are_read() {
    let text = std::fs::read_to_string("README.md").unwrap();
    let section = text.split("\n### Fits\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let yaml = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let rest = "evaluate: [zeroshot/scenes]\n\
                sweep: { grid: { data.train.size: [1k, 2k, 4k, 8k], model.image_encoder: [vit-xs/8, vit-xxs/8] } }\n";
    let spec = load_str(Path::new("t.yaml"), &format!("{SMALL}{rest}{yaml}"), &LoadOptions::default());
    assert_eq!(spec.unwrap_or_else(|errors| panic!("{errors}")).fits.len(), 1);
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
        // A scalar has no keys.
        let Some(properties) = schema["$defs"][of]["properties"].as_object() else { continue };
        // The marks at both ends of a cell were taken off.
        let cell = format!("`{}`", row[2]);
        let keys = cell.split('`').skip(1).step_by(2).filter(|key| !["", "uid", "l2", "linf"].contains(key));
        let wrong: Vec<&str> = keys.filter(|key| !properties.contains_key(*key)).collect();
        assert!(wrong.is_empty(), "{wrong:?} of `{}` are no keys of {of}", row[0]);
    }
}
