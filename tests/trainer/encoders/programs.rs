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
use scaledown::trainer::model::{build, initial_parameters};
use scaledown::trainer::ops::op::whole::initial;
use scaledown::trainer::program::{Program, Tower};
use scaledown::trainer::strategy::check_support;

use crate::encoder_cost::cost;
use crate::near::{assert_gradients_near, largest};

/// What f32 arithmetic may differ by from f64, a share of the largest element of each tensor.
const F32_TOLERANCE: f64 = 1e-4;

/// Families with a program, by a small size of theirs that has every kind of call.
const SMALL: &[&str] = &[
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

fn config(encoder: &str, side: usize) -> RunConfig {
    let text = format!(
        "experiment: t\ndata: {{ train: {{ dataset: scenes, size: 64 }}, tokenizer: {{ name: bpe, vocab_size: 300 }} }}\nmodel: {{ \
         image_encoder: {encoder}, text_encoder: {{ name: text, width: 12, layers: 1, heads: 2 }}, context_length: 5, embed_dim: 10, \
         image_size: {side} }}\ntrain: {{ strategy: clip, batch_size: 32, lr: 1e-3, budget: {{ steps: 2 }} }}\n"
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
fn parameters(program: &Program) -> Vec<f32> {
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

fn batch(model: &ModelConfig, samples: usize) -> StepBatch {
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
