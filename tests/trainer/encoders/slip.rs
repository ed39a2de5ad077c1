//! SLIP: a whole step against PyTorch, every encoder against the f64 reference, parts, threads, what it shares and what it costs.

use std::path::Path;
use std::sync::Arc;

use safetensors::SafeTensors;
use scaledown::run::{
    Activation, DeviceKind, ImageEncoderConfig, LossConfig, ModelConfig, Pooling, Precision, RunConfig, SslConfig, StrategyConfig,
    TextEncoderConfig, TrainConfig, VitConfig,
};
use scaledown::spec::{LoadOptions, load_str};
use scaledown::trainer::backend::cpu::{CpuSettings, CpuStep};
use scaledown::trainer::backend::reference::ReferenceStep;
use scaledown::trainer::backend::{Step, StepBatch};
use scaledown::trainer::model::{Recipe, build, build_with, initial_parameters};
use scaledown::trainer::program::{Program, Tower};
use scaledown::trainer::strategy::check_support;

use super::programs::{F32_TOLERANCE, SMALL, batch, config, parameters, views};
use crate::near::{assert_gradients_near, assert_near, largest};

/// A masked one too: every view leaves out patches of its own.
const VIT: (&str, f64) = ("{ name: vit-ti/8, width: 16, layers: 1, heads: 2, mlp_ratio: 2, pooling: mean }", 0.5);

fn recipe(masked: f64, bn_group: usize) -> Recipe {
    let ssl = SslConfig { weight: 0.7, temperature: 0.1, hidden: 16, out: 9, bn_group };
    Recipe { loss: LossConfig::Contrastive, ssl: Some(ssl), masked }
}

fn encoders() -> impl Iterator<Item = (&'static str, f64)> {
    SMALL.iter().map(|name| (*name, 0.0)).chain([VIT, (VIT.0, 0.0)])
}

/// As those of the encoders; the head's norms and biases are moved too.
fn moved(program: &Program) -> Vec<f32> {
    let mut flat = parameters(program);
    for view in program.params.iter().filter(|view| view.name.starts_with("image_mlp.") && view.shape.len() == 1) {
        flat[view.range()].iter_mut().enumerate().for_each(|(idx, value)| *value += 0.1 * ((idx % 7) as f32 - 3.0));
    }
    flat
}

fn cpu(program: &Arc<Program>, parameters: Vec<f32>, threads: usize) -> CpuStep {
    CpuStep::new(program.clone(), parameters, CpuSettings { threads, lanes: 8 }, None).unwrap()
}

/// The model of `tests/fixtures/slip`.
fn recorded_model() -> ModelConfig {
    let (layers, heads) = (0, 2);
    ModelConfig {
        image_encoder: ImageEncoderConfig::Vit(VitConfig {
            width: 12,
            layers,
            heads,
            mlp_width: 24,
            patch_size: 4,
            pooling: Pooling::Mean,
            pre_norm: false,
        }),
        text_encoder: TextEncoderConfig { width: 10, layers, heads, mlp_width: 20, context_length: 5, vocab_size: 31 },
        embed_dim: 7,
        image_size: 8,
        activation: Activation::Gelu,
        logit_scale_init: 1.0 / 0.07,
        logit_scale_max: 100.0,
        pixel_mean: [0.5, 0.4, 0.45],
        pixel_std: [0.5, 0.25, 0.3],
    }
}

/// The words of a recorded tensor, as they lie in the file.
fn words<T>(bytes: &[u8], of: impl Fn([u8; 4]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|word| of(*word)).collect()
}

/// What a backend finds of the recorded step, against it.
fn compare(what: &str, step: &mut dyn Step, program: &Program, batch: &StepBatch, file: &SafeTensors, tolerance: f64) {
    let floats = |name: &str| -> Vec<f32> { words(file.tensor(name).unwrap().data(), f32::from_le_bytes) };
    let wide = |name: &str| -> Vec<f64> { floats(name).into_iter().map(f64::from).collect() };
    let found = step.gradient(batch, 1).unwrap();
    assert_near(what, &[found.loss as f32], &wide("loss"), tolerance);
    let expected: Vec<f64> = program.params.iter().flat_map(|view| wide(&format!("grad.{}", view.name))).collect();
    assert_gradients_near(what, program, &step.gradients().unwrap(), &expected, tolerance);
    let running: Vec<f64> = program.state.iter().flat_map(|view| wide(&format!("running.{}", view.name))).collect();
    assert_near(what, &step.state().unwrap(), &running, tolerance);
}

#[test]
fn a_step_is_that_of_slip_in_pytorch() {
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/slip/step.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let program = Arc::new(build_with(&recorded_model(), &recipe(0.0, 6)));
    let tensor = |name: &str| file.tensor(name).unwrap().data().to_vec();
    let state = program.params.iter().flat_map(|view| tensor(&format!("state.{}", view.name)));
    let flat: Vec<f32> = words(&state.collect::<Vec<u8>>(), f32::from_le_bytes);
    let batch = StepBatch {
        samples: 6,
        images: tensor("images"),
        tokens: words(&tensor("tokens"), u32::from_le_bytes),
        ends: words(&tensor("ends"), u32::from_le_bytes),
        ..StepBatch::default()
    };
    let mut oracle = ReferenceStep::new(program.clone(), &flat, None).unwrap();
    compare("f64", &mut oracle, &program, &batch, &file, 1e-6);
    let mut step = cpu(&program, flat, 2);
    compare("cpu", &mut step, &program, &batch, &file, F32_TOLERANCE);
    let expected = ["loss.contrastive", "loss.nt_xent"].map(|name| words(&tensor(name), f32::from_le_bytes)[0]);
    for ((_, found), expected) in step.loss_terms().into_iter().zip(expected) {
        assert!((found / f64::from(expected) - 1.0).abs() < 1e-5, "{found} {expected}");
    }
    assert_eq!(step.loss_terms().iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["contrastive", "nt_xent"]);
}

#[test]
fn every_encoder_has_the_gradients_of_the_reference_whole_and_in_parts() {
    for (name, masked) in encoders() {
        let model = config(name, 32).model;
        let program = Arc::new(build_with(&model, &recipe(masked, 4)));
        let batch = views(&model, &program, 8);
        let mut oracle = ReferenceStep::new(program.clone(), &moved(&program), None).unwrap();
        let expected = oracle.gradient(&batch, 1).unwrap();
        let mut step = cpu(&program, moved(&program), 2);
        for chunks in [1, 2] {
            let found = step.gradient(&batch, chunks).unwrap();
            assert!((found.loss - expected.loss).abs() <= 1e-5 * expected.loss, "{name}: {} {}", found.loss, expected.loss);
            let what = format!("{name}, masked {masked}, {chunks} parts");
            assert_gradients_near(&what, &program, &step.gradients().unwrap(), oracle.gradients_f64(), F32_TOLERANCE);
        }
        for end in ["image_mlp.layer1.weight", "image_mlp.bn2.bias", "image_mlp.layer3.bias"] {
            let view = program.params.iter().find(|view| view.name == end).unwrap();
            assert!(largest(&oracle.gradients_f64()[view.range()]) > 1e-4, "{name}: {end}");
        }
    }
}

/// The f64 gradient against the slopes of the f64 loss, along a few parameters of each kind.
#[test]
fn the_reference_has_the_slopes_of_the_loss() {
    let model = config(VIT.0, 32).model;
    let program = Arc::new(build_with(&model, &recipe(VIT.1, 3)));
    let batch = views(&model, &program, 6);
    let mut oracle = ReferenceStep::new(program.clone(), &moved(&program), None).unwrap();
    oracle.gradient(&batch, 1).unwrap();
    let gradient = oracle.gradients_f64().to_vec();
    let step = 1e-5;
    for view in &program.params {
        let at = view.offset + view.len() / 2;
        let mut loss = |by: f64| {
            oracle.parameters_f64_mut()[at] += by;
            let loss = oracle.loss(&batch);
            oracle.parameters_f64_mut()[at] -= by;
            loss
        };
        let slope = (loss(step) - loss(-step)) / (2.0 * step);
        let scale = largest(&gradient[view.range()]).max(1e-3);
        assert!((slope - gradient[at]).abs() < 1e-5 * scale, "{}: {} {slope}", view.name, gradient[at]);
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    for (name, masked) in encoders() {
        let model = config(name, 32).model;
        let program = Arc::new(build_with(&model, &recipe(masked, 4)));
        let batch = views(&model, &program, 8);
        let gradient = |threads| {
            let mut step = cpu(&program, moved(&program), threads);
            step.gradient(&batch, 2).unwrap();
            (step.gradients().unwrap(), step.state().unwrap(), step.loss_terms())
        };
        assert_eq!(gradient(1), gradient(2), "{name}");
    }
}

#[test]
fn the_model_is_the_first_part_of_the_training() {
    for (name, masked) in encoders() {
        let config = config(name, 32);
        let (whole, stored) = (build_with(&config.model, &recipe(masked, 4)), build(&config.model, 0.0));
        assert_eq!(whole.params[..stored.params.len()], stored.params, "{name}");
        assert_eq!(whole.state[..stored.state.len()], stored.state, "{name}");
        assert!(whole.params[stored.params.len()..].iter().all(|view| view.name.starts_with("image_mlp.")), "{name}");
        // A head does not move where the model starts.
        let drawn = initial_parameters(&whole, 5);
        assert_eq!(drawn[..stored.num_params()], initial_parameters(&stored, 5), "{name}");
        assert_eq!((whole.views(), stored.views()), (3, 1), "{name}");
    }
}

#[test]
fn it_costs_three_views_and_two_heads() {
    for (name, masked) in encoders() {
        let model = config(name, 32).model;
        let (whole, plain) = (build_with(&model, &recipe(masked, 4)), build(&model, masked));
        let project = plain.calls.iter().find(|call| call.name == "image.project").unwrap().op.shape().macs;
        let width = model.image_encoder.pooled_width() as u64;
        let head = width * 16 + 16 * 16 + 16 * 9;
        assert_eq!(whole.macs(Tower::Image), 3 * plain.macs(Tower::Image) - 2 * project + 2 * head, "{name}");
        assert_eq!(whole.macs(Tower::Text), plain.macs(Tower::Text), "{name}");
    }
}

#[test]
fn the_cpu_trains_it_and_a_gpu_refuses_it() {
    let base = config("vit-5m", 32);
    let strategy = StrategyConfig { ssl: recipe(0.0, 4).ssl, ..StrategyConfig::clip() };
    let config = RunConfig { train: TrainConfig { strategy, ..base.train.clone() }, ..base };
    check_support(&config).unwrap();
    let error = check_support(&RunConfig { device: DeviceKind::Cuda, precision: Precision::Bf16, ..config }).unwrap_err();
    assert!(error.to_string().contains("`image.view1.layer1` (no kernels for it"), "{error}");
}

#[test]
fn a_batch_without_its_views_is_refused() {
    let model = config(VIT.0, 32).model;
    let program = Arc::new(build_with(&model, &recipe(0.0, 4)));
    let mut step = cpu(&program, moved(&program), 1);
    let one_view = batch(&model, 8);
    let message = step.gradient(&one_view, 1).unwrap_err().to_string();
    assert!(message.contains("images has 24576 elements, expected 73728"), "{message}");
    let held = StepBatch { images: Vec::new(), index: vec![0; 8], ..one_view };
    let message = step.gradient(&held, 1).unwrap_err().to_string();
    assert!(message.contains("an image index for 3 views"), "{message}");
}

fn load(encoder: &str, side: usize, train: &str) -> Result<SslConfig, String> {
    let text = format!(
        "experiment: t\ndata: {{ train: {{ dataset: scenes, size: 4k }}, tokenizer: {{ name: bpe, vocab_size: 300 }} }}\nmodel: {{ \
         image_encoder: {encoder}, text_encoder: text-xxs, context_length: 5, embed_dim: 10, image_size: {side} }}\ntrain: {{ \
         batch_size: 96, lr: 1e-3, budget: {{ steps: 2 }}, {train} }}\n"
    );
    let spec = load_str(Path::new("t.yaml"), &text, &LoadOptions::default()).map_err(|errors| errors.to_string())?;
    let config = scaledown::grid::expand(&spec, &scaledown::grid::Digests::default()).config(0);
    Ok(config.train.strategy.ssl.unwrap())
}

#[test]
fn what_is_not_stated_of_the_head_follows_the_model_and_the_batch() {
    let sizes = |encoder, side, train| load(encoder, side, train).map(|ssl| (ssl.hidden, ssl.out, ssl.bn_group)).unwrap();
    assert_eq!(sizes("vit-5m", 32, "strategy: slip"), (4 * 64, 128, 96));
    assert_eq!(sizes("resnet-5m", 32, "strategy: slip, accumulate: 3"), (4 * 256, 128, 32));
    assert_eq!(sizes("vit-5m", 64, "strategy: slip"), (4096, 256, 96));
    let stated = "strategy: { name: slip, ssl_hidden: 40, ssl_out: 20, ssl_bn_group: 8 }";
    assert_eq!(sizes("vit-5m", 64, stated), (40, 20, 8));
}

#[test]
fn what_does_not_fit_is_refused_at_its_place() {
    let refused = |strategy: &str| load("vit-5m", 32, &format!("strategy: {strategy}")).unwrap_err();
    for (strategy, says) in [
        ("{ name: slip, ssl_bn_group: 5 }", "`train.strategy.ssl_bn_group`: groups of 5 samples do not divide a batch of 96"),
        ("{ name: slip, ssl_bn_group: 1 }", "`train.strategy.ssl_bn_group`: found 1, expected from 2 to 1048576"),
        ("{ name: slip, ssl_hidden: 0 }", "`train.strategy.ssl_hidden`: found 0, expected from 1 to 65536"),
        ("{ name: slip, ssl_weight: 0 }", "`train.strategy.ssl_weight`: found 0, expected a number above 0"),
        ("{ name: slip, masked: 100% }", "`train.strategy.masked`: found 100%, expected less"),
    ] {
        let message = refused(strategy);
        assert!(message.contains(says) && message.contains("t.yaml:4:"), "{message}");
    }
    let message = load("resnet-5m", 32, "strategy: { name: slip, masked: 50% }").unwrap_err();
    assert!(message.contains("`resnet` needs whole images"), "{message}");
}
