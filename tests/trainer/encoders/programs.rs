//! Programs of image encoders: their counts, the CPU against the f64 reference, parts, threads, files.

use std::path::Path;
use std::sync::Arc;

use scaledown::data::{Philox, Stream};
use scaledown::run::{DeviceKind, ModelConfig, Precision, RunConfig};
use scaledown::spec::{LoadOptions, load_str};
use scaledown::trainer::backend::cpu::{CpuSettings, CpuStep};
use scaledown::trainer::backend::reference::ReferenceStep;
use scaledown::trainer::backend::{Step as _, StepBatch};
use scaledown::trainer::checkpoint::{Weights, load_model, save_model};
use scaledown::trainer::model::{Recipe, build, build_with, initial_parameters};
use scaledown::trainer::ops::op::whole::initial;
use scaledown::trainer::program::{Program, Tower};
use scaledown::trainer::strategy::{PatchMask, check_support};

use crate::encoder_cost::cost;
use crate::near::{assert_gradients_near, assert_near, largest};

/// What f32 arithmetic may differ by from f64, a share of the largest element of each tensor.
pub(crate) const F32_TOLERANCE: f64 = 1e-4;

/// Families with a program, by a small size of theirs that has every kind of call.
pub(crate) const SMALL: &[&str] = &[
    "{ name: convnext-5m, width: 8, depths: [1, 2, 1, 1] }",
    "{ name: swin-5m, width: 8, depths: [2, 1, 1, 1], heads: [1, 2, 4, 8] }",
    "{ name: mixer-5m, width: 12, layers: 2, token_mlp_width: 9 }",
    "{ name: resnet-5m, width: 4, depths: [1, 2, 1, 1], bn_group: 4 }",
    "{ name: resnet-5m, width: 4, depths: [1, 2, 1, 1], norm: group, norm_groups: 2, stem_pool: true }",
];

/// Every size that is counted against its program.
const SIZES: &[&str] = &[
    "convnext-5m",
    "convnext-20m",
    "convnext-80m",
    "swin-5m",
    "swin-20m",
    "swin-80m",
    "mixer-5m",
    "mixer-20m",
    "mixer-80m",
    "resnet-5m",
    "resnet-20m",
    "resnet-80m",
];

pub(crate) fn config(encoder: &str, side: usize) -> RunConfig {
    config_with(encoder, side, "strategy: clip")
}

fn config_with(encoder: &str, side: usize, keys: &str) -> RunConfig {
    let text = format!(
        "experiment: t\ndata: {{ train: {{ dataset: scenes, size: 64 }}, tokenizer: {{ name: bpe, vocab_size: 300 }} }}\nmodel: {{ \
         image_encoder: {encoder}, text_encoder: {{ name: text, width: 12, layers: 1, heads: 2 }}, context_length: 5, embed_dim: 10, \
         image_size: {side} }}\ntrain: {{ {keys}, batch_size: 32, lr: 1e-3, budget: {{ steps: 2 }} }}\n"
    );
    let spec = load_str(Path::new("t.yaml"), &text, &LoadOptions::default()).unwrap();
    let expansion = scaledown::grid::expand(&spec, &scaledown::grid::Digests::default());
    expansion.config(0)
}

fn program(model: &ModelConfig) -> Arc<Program> {
    Arc::new(build(model, 0.0))
}

/// Parameters that give every branch and every norm a share: what starts at 0 or 1, or as small as a scale of residual branches, is
/// drawn anew.
pub(crate) fn parameters(program: &Program) -> Vec<f32> {
    let mut parameters = initial_parameters(program, 5);
    let mut draws = Philox::new(6, Stream::Scenes).at(0, 0);
    for view in program.params.iter().filter(|view| view.name.starts_with("visual.")) {
        let values = &mut parameters[view.range()];
        let fan_in = view.matrix.columns.max(1) as f64;
        for value in values {
            let drawn = draws.normal();
            *value = if view.shape.len() > 1 { (drawn / fan_in.sqrt()) as f32 } else { *value + 0.3 * drawn as f32 };
        }
    }
    parameters
}

pub(crate) fn batch(model: &ModelConfig, samples: usize) -> StepBatch {
    let mut draws = Philox::new(7, Stream::Scenes).at(0, 0);
    let pixels = samples * model.image_size * model.image_size * 3;
    let (length, vocab) = (model.text_encoder.context_length, model.text_encoder.vocab_size as u32);
    StepBatch {
        samples,
        images: (0..pixels).map(|_| draws.below(256) as u8).collect(),
        tokens: (0..samples * length).map(|_| draws.below(vocab)).collect(),
        ends: (0..samples).map(|_| draws.below(length as u32)).collect(),
        ..StepBatch::default()
    }
}

/// All views of the images, and masks where something is masked.
pub(crate) fn views(model: &ModelConfig, program: &Program, samples: usize) -> StepBatch {
    let mut batch = StepBatch { images: batch(model, program.views() * samples).images, ..batch(model, samples) };
    if let Some(mask) = PatchMask::new(program, 3) {
        mask.fill(1, samples, &mut batch.keep);
    }
    batch
}

fn cpu(program: &Arc<Program>, threads: usize) -> CpuStep {
    CpuStep::new(program.clone(), parameters(program), CpuSettings { threads, lanes: 8 }, None).unwrap()
}

#[test]
fn programs_cost_what_their_configs_are_counted_to() {
    for name in SIZES {
        for side in [32, 64] {
            let model = config(name, side).model;
            let (program, counted) = (build(&model, 0.0), cost(&model.image_encoder, side));
            let projection = counted.features * model.embed_dim;
            let trunk = program.params.iter().filter(|view| view.name.starts_with("visual.")).map(|view| view.len()).sum::<usize>();
            assert_eq!(trunk, counted.parameters + projection, "{name} at {side}");
            assert_eq!(program.macs(Tower::Image), (counted.macs + projection) as u64, "{name} at {side}");
        }
    }
}

#[test]
fn the_cpu_has_the_gradients_of_the_reference_whole_and_in_parts() {
    for name in SMALL {
        let model = config(name, 32).model;
        let (program, batch) = (program(&model), batch(&model, 8));
        let mut oracle = ReferenceStep::new(program.clone(), &parameters(&program), None).unwrap();
        let expected = oracle.gradient(&batch, 1).unwrap();
        let mut step = cpu(&program, 2);
        for chunks in [1, 8] {
            let found = step.gradient(&batch, chunks).unwrap();
            assert!((found.loss - expected.loss).abs() <= 1e-5 * expected.loss, "{name}: {} {}", found.loss, expected.loss);
            let what = format!("{name}, {chunks} parts");
            assert_gradients_near(&what, &program, &step.gradients().unwrap(), oracle.gradients_f64(), F32_TOLERANCE);
        }
        assert!(largest(oracle.gradients_f64()) > 1e-4, "{name}");
    }
}

/// What may change the step program or what a step reads, as keys of `train`.
const STEPS: &[&str] = &[
    "strategy: clip",
    "strategy: { name: clip, augmentation: stacked_rand_augment }, loss: sigmoid",
    "strategy: { name: flip, masked: 50%, batch_multiplier: 1 }",
    "strategy: { name: flip, masked: 75%, batch_multiplier: 1 }, loss: sigmoid",
    "strategy: { name: slip, ssl_hidden: 16, ssl_out: 9, ssl_bn_group: 4 }",
    "strategy: { name: slip, masked: 50%, ssl_hidden: 16, ssl_out: 9, ssl_bn_group: 4 }, loss: sigmoid",
];

#[test]
fn eight_chunks_give_the_gradient_of_one() {
    const SAMPLES: usize = 32;
    let vits = ["{ name: vit-5m, layers: 2 }", "{ name: vit-5m, layers: 1, pooling: mean, pre_norm: false }"];
    let mut seen = 0;
    for encoder in SMALL.iter().chain(&vits) {
        for keys in STEPS {
            let patches = config(encoder, 32).model.image_encoder.droppable(32);
            if patches.is_none() && keys.contains("masked") {
                continue;
            }
            let config = config_with(encoder, 32, keys);
            let (RunConfig { model, train, .. }, masked) = (&config, config.train.strategy.masked);
            let program = Arc::new(build_with(model, &Recipe::of(train, masked)));
            // Where there is batch norm a chunk is a whole group.
            assert_eq!(model.image_encoder.batch_group().unwrap_or(SAMPLES / 8), SAMPLES / 8, "{encoder}");
            let batch = views(model, &program, SAMPLES);
            let of_chunks = |chunks| {
                let mut step = cpu(&program, 2);
                let report = step.gradient(&batch, chunks).unwrap();
                (report.loss, step.gradients().unwrap(), step.state().unwrap())
            };
            let what = format!("{encoder}, {keys}");
            let ((loss, whole, state), (chunked_loss, chunked, chunked_state)) = (of_chunks(1), of_chunks(8));
            assert!((loss - chunked_loss).abs() <= 1e-6 * loss, "{what}: {loss} {chunked_loss}");
            // Behind the batch norms of SLIP's head what is summed over three views nearly cancels: rounding is a larger share of it.
            let tolerance = if train.strategy.ssl.is_some() { 3e-5 } else { 1e-5 };
            assert_gradients_near(&what, &program, &chunked, &widen(&whole), tolerance);
            assert_near(&format!("{what}, statistics"), &chunked_state, &widen(&state), 1e-6);
            assert!(largest(&widen(&whole)) > 1e-4, "{what}");
            seen += 1;
        }
    }
    // Those whose patches can be left out take every step, the others those that mask nothing.
    assert_eq!(seen, SMALL.len() * 3 + vits.len() * STEPS.len());
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

#[test]
fn bytes_do_not_depend_on_threads() {
    for name in SMALL {
        let model = config(name, 32).model;
        let (program, batch) = (program(&model), batch(&model, 8));
        let gradient = |threads| {
            let mut step = cpu(&program, threads);
            step.gradient(&batch, 2).unwrap();
            (step.gradients().unwrap(), step.state().unwrap())
        };
        assert_eq!(gradient(1), gradient(2), "{name}");
    }
}

#[test]
fn a_model_file_has_the_exported_shapes_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for name in SMALL {
        let model = config(name, 32).model;
        let program = program(&model);
        let weights = Weights { parameters: parameters(&program), state: initial(&program.state) };
        save_model(&path, &program, &weights, 3).unwrap();
        assert_eq!(load_model(&path, &program).unwrap(), weights, "{name}");
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for view in program.params.iter().filter(|view| view.permuted.is_some()) {
            let tensor = file.tensor(&view.name).unwrap();
            assert_eq!((tensor.shape(), tensor.shape().len()), (view.shape.as_slice(), 4), "{name}: {}", view.name);
            let stored: &[u8] = bytemuck::cast_slice(&weights.parameters[view.range()]);
            assert!(view.shape[2..] == [1, 1] || stored != tensor.data(), "{name}: {} is transposed", view.name);
        }
    }
}

#[test]
fn the_cpu_trains_it_and_a_gpu_refuses_it_by_the_call_that_has_no_kernels() {
    for name in SMALL {
        let config = config(name, 32);
        check_support(&config).unwrap();
        let error = check_support(&RunConfig { device: DeviceKind::Cuda, precision: Precision::Bf16, ..config }).unwrap_err();
        assert!(error.to_string().contains("no kernels for it"), "{name}: {error}");
    }
}
