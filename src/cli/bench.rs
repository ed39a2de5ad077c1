//! `bench step`: times training steps on made-up data.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::{BenchActivation, BenchStep, BenchWhat, Format};
use crate::data::{Philox, Stream};
use crate::error::Error;
use crate::run::{
    Activation, DecayScale, DeviceKind, ImageEncoderConfig, LossConfig, ModelConfig, OptimizerConfig, StrategyConfig,
    TextEncoderConfig, TrainConfig,
};
use crate::spec;
use crate::trainer::TrainerError;
use crate::trainer::backend::cpu::{CpuSettings, CpuStep};
use crate::trainer::backend::{self, Placement, Step, StepAt, StepBatch, cuda};
use crate::trainer::model::{Recipe, build_with, initial_parameters};
use crate::trainer::program::{Output, Program, Tower};
use crate::trainer::strategy::PatchMask;

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    what: String,
    on: String,
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
    let model = model(args)?;
    let ssl = args.ssl.then(|| spec::slip_loss(&model, (args.batch / args.chunks.max(1)) as u64));
    let program = Arc::new(build_with(&model, &Recipe { ssl, ..Recipe::contrastive(args.masked) }));
    let (device, precision) = super::experiment::placement(args.device, args.precision)?;
    let threads = args.threads.map_or_else(super::cores, std::num::NonZero::get);
    let (train, batch) = (train(args), batch(args, &model, &program, device));
    let times = match (device, args.what) {
        (DeviceKind::Cpu, what) => on_cpu(args, what, &program, threads, &train, &batch)?,
        (DeviceKind::Cuda, BenchWhat::Clip) => on_gpu(args, &program, Placement { device, precision, threads }, &train, batch)?,
        (DeviceKind::Cuda, _) => {
            let hint = Some("add `--what clip`".into());
            return Err(Error::Usage { message: "on a GPU the whole step is timed".into(), hint });
        }
    };
    let on = match device {
        DeviceKind::Cpu => super::doctor::cpu_model(),
        DeviceKind::Cuda => format!("{} ({})", cuda::usable()?.name, precision.name()),
    };
    print(&report(args, &program, on, threads, times), args.format, out)
}

/// Seconds of each step on the CPU.
fn on_cpu(
    args: &BenchStep,
    what: BenchWhat,
    program: &Arc<Program>,
    threads: usize,
    train: &TrainConfig,
    batch: &StepBatch,
) -> Result<Vec<f64>, Error> {
    let settings = CpuSettings { threads, lanes: train.lanes };
    let mut step = CpuStep::new(program.clone(), initial_parameters(program, 0), settings, Some(train))?;
    let gradient = vec![1e-3; args.batch * program.embed_dim];
    let mut done = 0;
    measure(args.seconds, 1, || {
        match what {
            BenchWhat::Image => step.gradient_from(batch, 1, &[(Output::ImageFeatures, &gradient)])?,
            BenchWhat::Text => step.gradient_from(batch, 1, &[(Output::TextFeatures, &gradient)])?,
            BenchWhat::Clip => step.gradient(batch, args.chunks).map(|_| ())?,
        }
        step.update(done, 1e-4)?;
        done += 1;
        Ok(())
    })
}

/// Seconds a step on a GPU: of groups of steps, since a single one returns before it is done. Images lie on the GPU where they
/// fit, as in training.
fn on_gpu(
    args: &BenchStep,
    program: &Arc<Program>,
    placement: Placement,
    train: &TrainConfig,
    mut batch: StepBatch,
) -> Result<Vec<f64>, Error> {
    const GROUP: usize = 10;
    let mut step = backend::prepare(program.clone(), initial_parameters(program, 0), placement, Some((train, 0)))?;
    if step.hold_pool(&batch.images, args.image_size * args.image_size)? {
        batch.images = Vec::new();
        batch.index = (0_u32..).take(args.batch).collect();
    }
    let mut done = 0;
    measure(args.seconds, GROUP, || {
        for _ in 0..GROUP {
            step.advance(&batch, StepAt { step: done, lr: 1e-4, chunks: args.chunks })?;
            done += 1;
        }
        step.found().map(|_| ())
    })
}

/// Seconds a step of calls that do `group` steps each, for a while; the first two are not counted, since buffers, pages and
/// kernels are made in them.
fn measure(seconds: f64, group: usize, mut work: impl FnMut() -> Result<(), TrainerError>) -> Result<Vec<f64>, Error> {
    let mut times = Vec::new();
    work()?;
    work()?;
    let begun = Instant::now();
    while times.len() < 3 || begun.elapsed() < Duration::from_secs_f64(seconds) {
        let start = Instant::now();
        work()?;
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        times.push(start.elapsed().as_secs_f64() / group as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

#[expect(clippy::cast_precision_loss, reason = "display values")]
fn report(args: &BenchStep, program: &Program, on: String, threads: usize, times: Vec<f64>) -> Report {
    let median = times[times.len() / 2];
    let macs = match args.what {
        BenchWhat::Image => program.macs(Tower::Image),
        BenchWhat::Text => program.macs(Tower::Text),
        BenchWhat::Clip => program.macs(Tower::Image) + program.macs(Tower::Text),
    };
    // Two operations a multiply-accumulate; backward costs twice the forward.
    let gflop = 6.0 * macs as f64 * args.batch as f64 / 1e9;
    Report {
        what: match &args.image_encoder {
            Some(name) => format!("{:?}, {name}", args.what).to_lowercase(),
            None => format!("{:?} width {} depth {} heads {}", args.what, args.width, args.depth, args.heads).to_lowercase(),
        },
        on,
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
    let Report { what, on, threads, batch, parameters, steps, best_ms, median_ms, .. } = report;
    writeln!(out, "{what}, batch {batch}, {threads} threads, {parameters} parameters, on {on}")?;
    writeln!(out, "step        best {best_ms:.1} ms, median {median_ms:.1} ms over {steps} steps (forward, backward, AdamW)")?;
    writeln!(out, "samples/s   {:.0}", report.samples_per_s)?;
    writeln!(out, "GFLOP/s     {:.0} ({:.1} GFLOP a step)", report.gflop_per_s, report.gflop_per_step)?;
    if let Some(memory) = report.peak_memory_mib {
        writeln!(out, "peak memory {memory:.0} MiB")?;
    }
    Ok(())
}

/// The image encoder that is named, else a vision transformer of the stated shape.
fn image_encoder(args: &BenchStep) -> Result<ImageEncoderConfig, Error> {
    let refuse = |message: String, hint: Option<String>| Err(Error::Usage { message: format!("`bench step`: {message}"), hint });
    let shape = || {
        let BenchStep { width, depth, heads, patch_size, class_token, .. } = args;
        let pooling = if *class_token { "class_token" } else { "mean" };
        format!(
            "{{ name: vit, width: {width}, layers: {depth}, heads: {heads}, patch_size: {patch_size}, pooling: {pooling}, \
             pre_norm: {class_token} }}"
        )
    };
    let stated = args.image_encoder.clone().unwrap_or_else(shape);
    let config = match spec::image_encoder(&stated, args.image_size) {
        Ok(config) => config,
        Err(message) => return refuse(message, None),
    };
    if args.masked > 0.0 && config.droppable(args.image_size).is_none() {
        let message = format!("`--masked {}`: `{}` needs whole images", args.masked, config.family());
        return refuse(message, Some("leave it out".into()));
    }
    Ok(config)
}

/// The model of the stated shape.
pub(super) fn model(args: &BenchStep) -> Result<ModelConfig, Error> {
    let (width, heads) = (args.width, args.heads);
    let text_width = args.text_width.unwrap_or(width);
    let text = TextEncoderConfig {
        width: text_width,
        layers: args.text_depth.unwrap_or(args.depth),
        heads: args.text_heads.unwrap_or(heads),
        mlp_width: 4 * text_width,
        context_length: args.context_length,
        vocab_size: args.vocab_size,
    };
    Ok(ModelConfig {
        image_encoder: image_encoder(args)?,
        text_encoder: text,
        embed_dim: args.embed_dim,
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
    })
}

/// How it is trained.
pub(super) fn train(args: &BenchStep) -> TrainConfig {
    TrainConfig {
        strategy: StrategyConfig { masked: args.masked, ..StrategyConfig::clip() },
        loss: LossConfig::Contrastive,
        batch_size: args.batch as u64,
        accumulate: args.chunks as u64,
        steps: 1_000_000,
        lr: 1e-4,
        warmup_steps: 0,
        optimizer: OptimizerConfig::Adamw { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        weight_decay: 0.1,
        decay_scale: DecayScale::Rate,
        grad_clip_norm: None,
        lanes: 8,
        milestones: Vec::new(),
    }
}

/// A made-up batch.
#[expect(clippy::cast_possible_truncation, reason = "made-up pixels and positions")]
pub(super) fn batch(args: &BenchStep, model: &ModelConfig, program: &Program, device: DeviceKind) -> StepBatch {
    let philox = Philox::new(0, Stream::Init);
    let mut draws = philox.at(0, 0);
    let text = &model.text_encoder;
    let vocab = text.vocab_size as u32;
    let mut keep = Vec::new();
    // A GPU draws them itself.
    if let Some(mask) = PatchMask::new(program, 0).filter(|_| device == DeviceKind::Cpu) {
        mask.fill(0, args.batch, &mut keep);
    }
    StepBatch {
        keep,
        samples: args.batch,
        images: (0..program.views() * args.batch * model.image_size * model.image_size * 3)
            .map(|_| draws.below(256) as u8)
            .collect(),
        tokens: (0..args.batch * text.context_length).map(|_| draws.below(vocab)).collect(),
        ends: vec![text.context_length as u32 - 1; args.batch],
        ..StepBatch::default()
    }
}
