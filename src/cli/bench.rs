//! `bench step`: times training steps on made-up data.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::{BenchActivation, BenchStep, BenchWhat, Format};
use crate::data::{Philox, Stream};
use crate::error::Error;
use crate::run::{
    Activation, Augmentation, ImageEncoderConfig, ModelConfig, OptimizerConfig, Pooling, StrategyConfig, TextEncoderConfig,
    TrainConfig, VitConfig,
};
use crate::trainer::backend::cpu::{CpuSettings, CpuStep};
use crate::trainer::backend::{Step, StepBatch};
use crate::trainer::model::{build, initial_parameters};
use crate::trainer::program::{Program, Tower};

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    what: String,
    cpu: String,
    threads: usize,
    batch: usize,
    parameters: usize,
    steps: usize,
    best_ms: f64,
    median_ms: f64,
    samples_per_s: f64,
    gflop_per_step: f64,
    gflop_per_s: f64,
    peak_memory_mib: Option<f64>,
}

pub(super) fn step(args: &BenchStep, out: &mut dyn Write) -> Result<(), Error> {
    let model = model(args);
    let program = Arc::new(build(&model, 0.0));
    let threads = args.threads.map_or_else(super::cores, std::num::NonZero::get);
    let train = train(args.batch as u64);
    let settings = CpuSettings { threads, lanes: train.lanes };
    let mut step = CpuStep::new(program.clone(), initial_parameters(&program, 0), settings, Some(&train))?;
    let batch = batch(args, &model);
    let gradient = vec![1e-3; args.batch * model.embed_dim];
    let mut times = Vec::new();
    let begun = Instant::now();
    let mut done = 0;
    while done < 5 || begun.elapsed() < Duration::from_secs_f64(args.seconds) {
        let start = Instant::now();
        match args.what {
            BenchWhat::Image => step.gradient_of_tower(&batch, Tower::Image, &gradient)?,
            BenchWhat::Text => step.gradient_of_tower(&batch, Tower::Text, &gradient)?,
            BenchWhat::Clip => step.gradient(&batch, 1).map(|_| ())?,
        }
        step.update(done, 1e-4)?;
        // Buffers and pages are made in the first steps.
        if done >= 2 {
            times.push(start.elapsed().as_secs_f64());
        }
        done += 1;
    }
    times.sort_by(f64::total_cmp);
    let report = report(args, &program, threads, &times);
    print(&report, args.format, out)
}

#[expect(clippy::cast_precision_loss, reason = "display values")]
fn report(args: &BenchStep, program: &Program, threads: usize, times: &[f64]) -> Report {
    let median = times[times.len() / 2];
    let macs = match args.what {
        BenchWhat::Image => program.macs(Tower::Image),
        BenchWhat::Text => program.macs(Tower::Text),
        BenchWhat::Clip => program.macs(Tower::Image) + program.macs(Tower::Text),
    };
    // Two operations a multiply-accumulate; backward costs twice the forward.
    let gflop = 6.0 * macs as f64 * args.batch as f64 / 1e9;
    Report {
        what: format!("{:?} width {} depth {} heads {}", args.what, args.width, args.depth, args.heads).to_lowercase(),
        cpu: super::doctor::cpu_model(),
        threads,
        batch: args.batch,
        parameters: program.num_params(),
        steps: times.len(),
        best_ms: times[0] * 1e3,
        median_ms: median * 1e3,
        samples_per_s: args.batch as f64 / median,
        gflop_per_step: gflop,
        gflop_per_s: gflop / median,
        peak_memory_mib: super::doctor::peak_memory_mib(),
    }
}

fn print(report: &Report, format: Format, out: &mut dyn Write) -> Result<(), Error> {
    if format == Format::Json {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(report).expect("a report is a plain struct"))?);
    }
    let Report { what, cpu, threads, batch, parameters, steps, best_ms, median_ms, .. } = report;
    writeln!(out, "{what}, batch {batch}, {threads} threads, {parameters} parameters, on {cpu}")?;
    writeln!(out, "step        best {best_ms:.1} ms, median {median_ms:.1} ms over {steps} steps (forward, backward, AdamW)")?;
    writeln!(out, "samples/s   {:.0}", report.samples_per_s)?;
    writeln!(out, "GFLOP/s     {:.0} ({:.1} GFLOP a step)", report.gflop_per_s, report.gflop_per_step)?;
    if let Some(memory) = report.peak_memory_mib {
        writeln!(out, "peak memory {memory:.0} MiB")?;
    }
    Ok(())
}

fn model(args: &BenchStep) -> ModelConfig {
    let (width, heads, mlp_width) = (args.width, args.heads, 4 * args.width);
    let vit = VitConfig {
        width,
        layers: args.depth,
        heads,
        mlp_width,
        patch_size: args.patch_size,
        pooling: Pooling::Mean,
        pre_norm: false,
    };
    let text =
        TextEncoderConfig { width, layers: args.depth, heads, mlp_width, context_length: args.context_length, vocab_size: 4096 };
    ModelConfig {
        image_encoder: ImageEncoderConfig::Vit(vit),
        text_encoder: text,
        embed_dim: 256,
        image_size: args.image_size,
        activation: match args.activation {
            BenchActivation::Gelu => Activation::Gelu,
            BenchActivation::GeluTanh => Activation::GeluTanh,
            BenchActivation::QuickGelu => Activation::QuickGelu,
        },
        logit_scale_init: 1.0 / 0.07,
        logit_scale_max: 100.0,
        pixel_mean: [0.5; 3],
        pixel_std: [0.5; 3],
    }
}

fn train(batch_size: u64) -> TrainConfig {
    TrainConfig {
        strategy: StrategyConfig { augmentation: Augmentation::None, masked: 0.0, batch_multiplier: 1, ssl: None },
        batch_size,
        accumulate: 1,
        steps: 1_000_000,
        lr: 1e-4,
        warmup_steps: 0,
        optimizer: OptimizerConfig::Adamw { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        weight_decay: 0.1,
        grad_clip_norm: None,
        lanes: 8,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "made-up pixels and positions")]
fn batch(args: &BenchStep, model: &ModelConfig) -> StepBatch {
    let philox = Philox::new(0, Stream::Init);
    let mut draws = philox.at(0, 0);
    let text = &model.text_encoder;
    let vocab = text.vocab_size as u32;
    StepBatch {
        samples: args.batch,
        images: (0..args.batch * model.image_size * model.image_size * 3).map(|_| draws.below(256) as u8).collect(),
        keep: Vec::new(),
        tokens: (0..args.batch * text.context_length).map(|_| draws.below(vocab)).collect(),
        ends: vec![text.context_length as u32 - 1; args.batch],
    }
}
