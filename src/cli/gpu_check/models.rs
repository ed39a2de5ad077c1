//! Models whose whole steps are timed: those of the published figures that this backend is held against, and small ones.
//!
//! `benches/torch_gpu.py` has the same models under the same names (a test compares them).

use std::sync::Arc;
use std::time::Instant;

use clap::Parser;

use super::rows::Model;
use crate::cli::args::BenchStep;
use crate::cli::bench;
use crate::error::Error;
use crate::run::{DeviceKind, ModelConfig, Precision, TrainConfig};
use crate::trainer::backend::cuda::survey::repeat;
use crate::trainer::backend::cuda::{planned_bytes, real_of};
use crate::trainer::backend::{self, Placement, StepAt};
use crate::trainer::model::{Recipe, build_with, initial_parameters};
use crate::trainer::program::{Program, Tower};

/// Name and options of `bench step`.
pub(super) const MODELS: [(&str, &str); 10] = [
    (
        "vit-b-32",
        "--image-size 224 --patch-size 32 --width 768 --depth 12 --heads 12 --text-width 512 --text-depth 12 --text-heads 8 --context-length 77 --vocab-size 49408 --embed-dim 512 --batch 4096",
    ),
    (
        "vit-b-32-half",
        "--image-size 224 --patch-size 32 --width 768 --depth 12 --heads 12 --text-width 512 --text-depth 12 --text-heads 8 --context-length 77 --vocab-size 49408 --embed-dim 512 --batch 2048",
    ),
    (
        "vit-s-16",
        "--image-size 224 --patch-size 16 --width 384 --depth 12 --heads 6 --text-width 64 --text-depth 1 --text-heads 1 --context-length 16 --vocab-size 512 --embed-dim 384 --batch 1024",
    ),
    (
        "width-48",
        "--image-size 32 --patch-size 8 --width 48 --depth 3 --heads 2 --text-width 48 --text-depth 2 --text-heads 2 --context-length 16 --vocab-size 512 --embed-dim 64 --batch 128",
    ),
    (
        "width-96",
        "--image-size 32 --patch-size 4 --width 96 --depth 4 --heads 2 --text-width 64 --text-depth 3 --text-heads 2 --context-length 16 --vocab-size 4096 --embed-dim 128 --batch 256",
    ),
    (
        "width-192",
        "--image-size 32 --patch-size 4 --width 192 --depth 6 --heads 3 --text-width 192 --text-depth 4 --text-heads 3 --context-length 16 --vocab-size 4096 --embed-dim 256 --batch 256",
    ),
    (
        "vit-b-16",
        "--image-size 224 --patch-size 16 --width 768 --depth 12 --heads 12 --text-width 512 --text-depth 12 --text-heads 8 --context-length 77 --vocab-size 49408 --embed-dim 512 --batch 1024",
    ),
    (
        "flip50-b-16",
        "--image-size 224 --patch-size 16 --width 768 --depth 12 --heads 12 --text-width 512 --text-depth 12 --text-heads 8 --context-length 77 --vocab-size 49408 --embed-dim 512 --batch 2048 --masked 0.5",
    ),
    (
        "flip75-b-16",
        "--image-size 224 --patch-size 16 --width 768 --depth 12 --heads 12 --text-width 512 --text-depth 12 --text-heads 8 --context-length 77 --vocab-size 49408 --embed-dim 512 --batch 4096 --masked 0.75",
    ),
    (
        "tiny",
        "--image-size 32 --patch-size 16 --width 16 --depth 1 --heads 1 --text-width 16 --text-depth 1 --text-heads 1 --context-length 8 --vocab-size 64 --embed-dim 16 --batch 8",
    ),
];

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    step: BenchStep,
}

fn options(text: &str) -> BenchStep {
    let words = std::iter::once("bench").chain(text.split_whitespace());
    Options::try_parse_from(words).expect("options of `bench step`").step
}

/// Model and training of a timed model.
pub(super) fn configs(text: &str) -> Result<(ModelConfig, TrainConfig), Error> {
    let options = options(text);
    Ok((bench::model(&options)?, bench::train(&options)))
}

/// Operations of a step: two a multiply-accumulate, three times the forward pass.
#[expect(clippy::cast_precision_loss, reason = "an amount of work")]
fn flop(program: &Program, batch: usize) -> f64 {
    6.0 * (program.macs(Tower::Image) + program.macs(Tower::Text)) as f64 * batch as f64
}

/// Operations of a step of a model.
pub(super) fn flop_of(text: &str) -> Result<f64, Error> {
    let (model, train) = configs(text)?;
    Ok(flop(&build_with(&model, &Recipe::contrastive(train.strategy.masked)), options(text).batch))
}

/// Seconds of a step at a rate that any GPU which this is meant for reaches, and bytes that it plans for.
pub(super) fn needs(text: &str) -> Result<(f64, u64), Error> {
    let (model, train) = configs(text)?;
    let program = build_with(&model, &Recipe::contrastive(train.strategy.masked));
    Ok((flop(&program, options(text).batch) / 1e14, planned_bytes(&program, &train, real_of(Precision::Bf16))?))
}

/// Times the steps of a model for about `seconds`, images on the device as in training; with what is to be known of them.
pub(super) fn time(name: &'static str, text: &str, seconds: f64) -> Result<(Model, Vec<String>), Error> {
    let options = options(text);
    let (model, train) = configs(text)?;
    let program = Arc::new(build_with(&model, &Recipe::contrastive(options.masked)));
    let mut batch = bench::batch(&options, &model, &program, DeviceKind::Cuda);
    let placement = Placement { device: DeviceKind::Cuda, precision: Precision::Bf16, threads: 1 };
    let begun = Instant::now();
    let mut step = backend::prepare(program.clone(), initial_parameters(&program, 0), placement, Some((&train, 0)))?;
    if step.hold_pool(&batch.images, model.image_size * model.image_size)? {
        batch.images = Vec::new();
        batch.index = (0_u32..).take(options.batch).collect();
    }
    let (mut done, mut ready_s) = (0, None);
    let (seconds, steps) = repeat(seconds, &mut |runs| {
        let start = Instant::now();
        for _ in 0..runs {
            step.advance(&batch, StepAt { step: done, lr: 1e-4, chunks: options.chunks })?;
            done += 1;
        }
        step.found()?;
        ready_s.get_or_insert(begun.elapsed().as_secs_f64());
        Ok(start.elapsed().as_secs_f64())
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a number of pairs")]
    let samples_per_s = options.batch as f64 / seconds;
    let found = Model {
        model: name,
        batch: options.batch,
        precision: Precision::Bf16.name(),
        parameters: program.num_params(),
        ms: seconds * 1e3,
        steps,
        samples_per_s,
        tflop_per_s: flop(&program, options.batch) / seconds / 1e12,
        planned_bytes: planned_bytes(&program, &train, real_of(Precision::Bf16))?,
        free_bytes: step.free_device_bytes(),
        ready_s: ready_s.unwrap_or_default(),
    };
    Ok((found, step.take_warnings()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the list in the script: name: (image, patch, (width, depth, heads), (text ..), tokens, vocabulary, embed_dim,
    /// batch, masked).
    #[test]
    fn pytorch_is_timed_on_the_same_models() {
        let script = include_str!("../../../benches/torch_gpu.py");
        for (name, text) in MODELS.into_iter().filter(|(name, _)| *name != "tiny") {
            let line = script.lines().find_map(|line| line.trim().strip_prefix(&format!("\"{name}\": "))).expect("a model of it");
            let numbers: Vec<f64> = line.split(['(', ')', ',', ' ']).filter_map(|word| word.parse().ok()).collect();
            let BenchStep { image_size, patch_size, width, depth, heads, .. } = options(text);
            let BenchStep { text_width, text_depth, text_heads, context_length, vocab_size, embed_dim, batch, masked, .. } =
                options(text);
            let stated = [image_size, patch_size, width, depth, heads]
                .into_iter()
                .chain([text_width, text_depth, text_heads].into_iter().flatten())
                .chain([context_length, vocab_size, embed_dim, batch]);
            #[expect(clippy::cast_precision_loss, reason = "small sizes")]
            let stated: Vec<f64> = stated.map(|size| size as f64).chain([masked]).collect();
            assert_eq!(numbers, stated, "{name}");
        }
    }
}
