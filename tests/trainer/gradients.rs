//! The f64 reference against finite differences, and the CPU backend against the reference: features, every gradient, updates.

use std::sync::Arc;

use scaledown::data::{Philox, Stream};
use scaledown::run::{
    Activation, DecayScale, ImageEncoderConfig, LossConfig, ModelConfig, OptimizerConfig, Pooling, StrategyConfig,
    TextEncoderConfig, TrainConfig, VitConfig,
};
use scaledown::trainer::backend::cpu::{CpuSettings, CpuStep};
use scaledown::trainer::backend::reference::{ReferenceOptimizer, ReferenceStep};
use scaledown::trainer::backend::{Step as _, StepBatch};
use scaledown::trainer::model::{self, Recipe, kept_patches};
use scaledown::trainer::optim::Optimizer;
use scaledown::trainer::program::{Output, Program};

use crate::near::{assert_gradients_near, assert_near, largest};

/// What f32 arithmetic may differ by from f64, a share of the largest element of each tensor.
const F32_TOLERANCE: f64 = 1e-4;

/// A model and a batch in sizes that fit nothing evenly.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    batch: usize,
    pooling: Pooling,
    pre_norm: bool,
    activation: Activation,
    masked: f64,
    /// Image size, patch size.
    image: (usize, usize),
    /// Width, layers, heads and MLP width of the image encoder.
    vision: (usize, usize, usize, usize),
    /// The same of the text encoder.
    text: (usize, usize, usize, usize),
    context_length: usize,
}

const CASES: [Case; 6] = [
    Case {
        name: "class token after a norm, width 20, 10 tokens, batch 3",
        batch: 3,
        pooling: Pooling::ClassToken,
        pre_norm: true,
        activation: Activation::Gelu,
        masked: 0.0,
        image: (12, 4),
        vision: (20, 2, 4, 36),
        text: (18, 2, 3, 40),
        context_length: 7,
    },
    Case {
        name: "mean pooling without a norm, width 48, 16 tokens, batch 7",
        batch: 7,
        pooling: Pooling::Mean,
        pre_norm: false,
        activation: Activation::GeluTanh,
        masked: 0.0,
        image: (8, 2),
        vision: (48, 1, 3, 32),
        text: (20, 1, 4, 33),
        context_length: 17,
    },
    Case {
        name: "half of the patches masked, class token, width 50, batch 13",
        batch: 13,
        pooling: Pooling::ClassToken,
        pre_norm: false,
        activation: Activation::QuickGelu,
        masked: 0.5,
        image: (12, 3),
        vision: (50, 1, 5, 64),
        text: (50, 1, 2, 100),
        context_length: 5,
    },
    Case {
        name: "three of four patches masked, mean pooling, batch 7",
        batch: 7,
        pooling: Pooling::Mean,
        pre_norm: true,
        activation: Activation::Gelu,
        masked: 0.75,
        image: (9, 3),
        vision: (20, 1, 1, 17),
        text: (20, 1, 20, 48),
        context_length: 3,
    },
    Case {
        name: "one token a sample on both sides, batch 1",
        batch: 1,
        pooling: Pooling::Mean,
        pre_norm: true,
        activation: Activation::QuickGelu,
        masked: 0.0,
        image: (5, 5),
        vision: (20, 1, 2, 20),
        text: (12, 1, 3, 13),
        context_length: 1,
    },
    Case {
        name: "17 tokens on both sides, batch 64",
        batch: 64,
        pooling: Pooling::ClassToken,
        pre_norm: true,
        activation: Activation::GeluTanh,
        masked: 0.0,
        image: (16, 4),
        vision: (48, 1, 6, 50),
        text: (48, 1, 4, 20),
        context_length: 17,
    },
];

impl Case {
    fn model(&self) -> ModelConfig {
        let (width, layers, heads, mlp_width) = self.vision;
        let vit =
            VitConfig { width, layers, heads, mlp_width, patch_size: self.image.1, pooling: self.pooling, pre_norm: self.pre_norm };
        let (width, layers, heads, mlp_width) = self.text;
        ModelConfig {
            image_encoder: ImageEncoderConfig::Vit(vit),
            text_encoder: TextEncoderConfig {
                width,
                layers,
                heads,
                mlp_width,
                context_length: self.context_length,
                vocab_size: 31,
            },
            embed_dim: 13,
            image_size: self.image.0,
            activation: self.activation,
            logit_scale_init: 1.0 / 0.07,
            logit_scale_max: 100.0,
            pixel_mean: [0.5, 0.4, 0.45],
            pixel_std: [0.5, 0.25, 0.3],
        }
    }

    /// A model and a batch of any size.
    fn random(idx: u32) -> Self {
        let mut draws = Philox::new(6, Stream::Scenes).at(0, idx);
        let mut tower = || {
            let heads = 1 + draws.below(4) as usize;
            (heads * (3 + draws.below(16) as usize), 1, heads, 1 + draws.below(70) as usize)
        };
        let (vision, text) = (tower(), tower());
        let patch = 1 + draws.below(5) as usize;
        Self {
            name: "random sizes",
            batch: 2 + draws.below(30) as usize,
            pooling: if draws.chance(0.5) { Pooling::ClassToken } else { Pooling::Mean },
            pre_norm: draws.chance(0.5),
            activation: [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu][draws.below(3) as usize],
            masked: if draws.chance(0.4) { 0.4 } else { 0.0 },
            image: (patch * (1 + draws.below(6) as usize), patch),
            vision,
            text,
            context_length: 1 + draws.below(35) as usize,
        }
    }

    fn program(&self) -> Arc<Program> {
        Arc::new(model::build(&self.model(), self.masked))
    }

    /// Random images, captions that end at different places with rubbish behind the end, and kept patches.
    fn batch(&self, samples: usize) -> StepBatch {
        let mut draws = Philox::new(1, Stream::Scenes).at(0, 0);
        let images = (0..samples * self.image.0.pow(2) * 3).map(|_| draws.below(256) as u8).collect();
        let tokens = (0..samples * self.context_length).map(|_| draws.below(31)).collect();
        let ends = (0..samples).map(|_| draws.below(self.context_length as u32)).collect();
        let patches = (self.image.0 / self.image.1).pow(2);
        let kept = kept_patches(patches, self.masked);
        let mut keep = Vec::new();
        for _ in 0..if kept < patches { samples } else { 0 } {
            let mut order: Vec<(u32, u32)> = (0..patches as u32).map(|patch| (draws.word(), patch)).collect();
            order.sort_unstable();
            let mut kept: Vec<u32> = order[..kept].iter().map(|(_, patch)| *patch).collect();
            kept.sort_unstable();
            keep.extend(kept);
        }
        StepBatch { samples, images, keep, tokens, ends, ..StepBatch::default() }
    }
}

/// Initial parameters, moved so that no gain is one, no bias zero and no gradient small by accident.
fn parameters(program: &Program) -> Vec<f32> {
    let mut flat = model::initial_parameters(program, 5);
    let mut draws = Philox::new(2, Stream::Scenes).at(0, 0);
    for view in &program.params {
        let spread = if view.name.contains("embedding") { 0.5 } else { 0.1 };
        flat[view.range()].iter_mut().for_each(|value| *value += spread * draws.normal() as f32);
    }
    flat
}

/// A random upstream gradient of one side's features.
fn upstream(program: &Program, samples: usize, side: u64) -> Vec<f64> {
    let mut draws = Philox::new(3 + side, Stream::Scenes).at(0, 0);
    (0..samples * program.embed_dim).map(|_| f64::from(draws.normal() as f32)).collect()
}

fn train(optimizer: OptimizerConfig) -> TrainConfig {
    TrainConfig {
        strategy: StrategyConfig::clip(),
        loss: LossConfig::Contrastive,
        batch_size: 8,
        accumulate: 1,
        steps: 10,
        lr: 2e-3,
        warmup_steps: 2,
        optimizer,
        weight_decay: 0.2,
        decay_scale: DecayScale::Rate,
        grad_clip_norm: None,
        lanes: 8,
        milestones: Vec::new(),
    }
}

const ADAMW: OptimizerConfig = OptimizerConfig::Adamw { beta1: 0.9, beta2: 0.98, eps: 1e-6 };
const ADAFACTOR: OptimizerConfig = OptimizerConfig::Adafactor { beta1: 0.9, beta2_cap: 0.999 };

fn reference(program: &Arc<Program>, train: Option<&TrainConfig>) -> ReferenceStep {
    ReferenceStep::new(program.clone(), &parameters(program), train).expect("one value a parameter")
}

fn cpu(program: &Arc<Program>, threads: usize, lanes: usize, train: Option<&TrainConfig>) -> CpuStep {
    CpuStep::new(program.clone(), parameters(program), CpuSettings { threads, lanes }, train).expect("threads start")
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The contrastive loss plus a random linear functional of the features, so that every part has an upstream gradient.
struct Objective {
    batch: StepBatch,
    upstream: [Vec<f64>; 2],
}

impl Objective {
    fn value(&self, step: &ReferenceStep) -> f64 {
        let (image, text) = step.features(&self.batch);
        step.loss(&self.batch) + dot(&image, &self.upstream[0]) + dot(&text, &self.upstream[1])
    }

    fn gradient(&self, step: &mut ReferenceStep) -> Vec<f64> {
        step.gradient(&self.batch, 1).expect("a reference step does not fail");
        let of_loss = step.gradients_f64().to_vec();
        step.gradient_from_features(&self.batch, &self.upstream[0], &self.upstream[1]);
        of_loss.iter().zip(step.gradients_f64()).map(|(a, b)| a + b).collect()
    }

    /// The slope along a direction of one view, by a difference of fourth order.
    fn slope(&self, step: &mut ReferenceStep, range: &std::ops::Range<usize>, direction: &[f64]) -> f64 {
        const H: f64 = 1e-3;
        let start = step.parameters_f64()[range.clone()].to_vec();
        let values = [-2.0, -1.0, 1.0, 2.0].map(|steps| {
            let moved = &mut step.parameters_f64_mut()[range.clone()];
            for ((moved, start), direction) in moved.iter_mut().zip(&start).zip(direction) {
                *moved = start + steps * H * direction;
            }
            self.value(step)
        });
        step.parameters_f64_mut()[range.clone()].copy_from_slice(&start);
        (values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / (12.0 * H)
    }
}

#[test]
fn gradients_of_the_reference_are_slopes_of_its_loss() {
    for case in CASES {
        let program = case.program();
        let samples = case.batch.min(3);
        let upstream = [0, 1].map(|side| upstream(&program, samples, side));
        let objective = Objective { batch: case.batch(samples), upstream };
        let mut step = reference(&program, None);
        let gradient = objective.gradient(&mut step);
        let mut draws = Philox::new(9, Stream::Scenes).at(0, 0);
        for view in &program.params {
            let gradient = &gradient[view.range()];
            // A random direction through all elements, then one element alone.
            let mut direction: Vec<f64> = (0..view.len()).map(|_| draws.normal()).collect();
            let length = dot(&direction, &direction).sqrt();
            direction.iter_mut().for_each(|value| *value /= length);
            let mut single = vec![0.0; view.len()];
            single[draws.below(view.len() as u32) as usize] = 1.0;
            for direction in [direction, single] {
                let (found, expected) = (dot(gradient, &direction), objective.slope(&mut step, &view.range(), &direction));
                let limit = 1e-7 * largest(gradient) + 1e-9;
                assert!((found - expected).abs() <= limit, "{}, {}: {found}, slope {expected}", case.name, view.name);
            }
        }
    }
}

#[test]
fn the_cpu_gives_the_features_and_gradients_of_the_reference() {
    for case in CASES {
        compare_with_reference(&case);
    }
}

#[test]
fn the_cpu_follows_the_reference_in_any_shape() {
    for idx in 0..24 {
        compare_with_reference(&Case::random(idx));
    }
}

/// Features, and every gradient of a random linear functional of them and of the contrastive loss.
fn compare_with_reference(case: &Case) {
    let program = case.program();
    let batch = case.batch(case.batch);
    let (mut oracle, mut step) = (reference(&program, None), cpu(&program, 2, 8, None));
    let (image, text) = oracle.features(&batch);
    let found = step.features(&batch).expect("memory");
    assert_near(&format!("{case:?}, images"), &found.0, &image, F32_TOLERANCE);
    assert_near(&format!("{case:?}, texts"), &found.1, &text, F32_TOLERANCE);
    let [image, text] = [0, 1].map(|side| upstream(&program, batch.samples, side));
    oracle.gradient_from_features(&batch, &image, &text);
    step.gradient_from(&batch, 1, &[(Output::ImageFeatures, &narrow(&image)), (Output::TextFeatures, &narrow(&text))])
        .expect("memory");
    let what = format!("{case:?}, linear functional");
    assert_gradients_near(&what, &program, &step.gradients().expect("the CPU can be read"), oracle.gradients_f64(), F32_TOLERANCE);
    let (expected, found) = (oracle.gradient(&batch, 1).expect("never fails"), step.gradient(&batch, 1).expect("memory"));
    let what = format!("{case:?}, contrastive loss");
    assert!((expected.loss - found.loss).abs() <= 1e-5, "{what}: loss {}, expected {}", found.loss, expected.loss);
    assert!((expected.logit_scale - found.logit_scale).abs() <= 1e-5 * expected.logit_scale, "{what}");
    if batch.samples == 1 {
        // A single pair is always right: loss and gradients are zero, up to rounding.
        assert!(
            found.loss.abs() < 1e-6 && step.gradients().expect("the CPU can be read").iter().all(|value| value.abs() < 1e-5),
            "{what}"
        );
    } else {
        assert_gradients_near(
            &what,
            &program,
            &step.gradients().expect("the CPU can be read"),
            oracle.gradients_f64(),
            F32_TOLERANCE,
        );
    }
}

#[test]
fn the_cpu_follows_the_reference_at_initial_parameters_where_the_epsilon_of_norms_shows() {
    for case in [CASES[0], CASES[1]] {
        let program = case.program();
        let initial = model::initial_parameters(&program, 5);
        let batch = case.batch(case.batch);
        let mut oracle = ReferenceStep::new(program.clone(), &initial, None).expect("one value a parameter");
        let mut step = cpu(&program, 2, 8, None);
        step.set_parameters(&initial).expect("one value a parameter");
        let [image, text] = [0, 1].map(|side| upstream(&program, batch.samples, side));
        oracle.gradient_from_features(&batch, &image, &text);
        step.gradient_from(&batch, 1, &[(Output::ImageFeatures, &narrow(&image)), (Output::TextFeatures, &narrow(&text))])
            .expect("memory");
        assert_gradients_near(
            case.name,
            &program,
            &step.gradients().expect("the CPU can be read"),
            oracle.gradients_f64(),
            F32_TOLERANCE,
        );
    }
}

#[test]
fn encoding_alone_gives_the_features_of_a_training_step() {
    let case = CASES[0];
    let program = case.program();
    let batch = case.batch(13);
    let mut step = cpu(&program, 2, 8, None);
    let (image, text) = step.features(&batch).expect("memory");
    assert_eq!(step.encode_images(13, &batch.images).expect("memory"), image);
    assert_eq!(step.encode_texts(13, &batch.tokens, &batch.ends).expect("memory"), text);
    let mut oracle = reference(&program, None);
    assert_near("images", &oracle.encode_images(13, &batch.images).expect("never fails"), &widen(&image), F32_TOLERANCE);
    let texts = oracle.encode_texts(13, &batch.tokens, &batch.ends).expect("never fails");
    assert_near("texts", &texts, &widen(&text), F32_TOLERANCE);
}

#[test]
fn parameters_that_are_set_between_passes_are_the_ones_that_count() {
    let case = CASES[5];
    let program = case.program();
    let batch = case.batch(5);
    let (mut used, mut fresh) = (cpu(&program, 2, 8, None), cpu(&program, 2, 8, None));
    used.set_parameters(&model::initial_parameters(&program, 1)).expect("one value a parameter");
    used.gradient(&batch, 1).expect("memory");
    used.set_parameters(&parameters(&program)).expect("one value a parameter");
    assert_eq!(used.gradient(&batch, 1).expect("memory"), fresh.gradient(&batch, 1).expect("memory"));
    assert_eq!(used.gradients().expect("the CPU can be read"), fresh.gradients().expect("the CPU can be read"));
}

#[test]
fn any_number_of_chunks_and_lanes_gives_the_same_gradient() {
    for (case, samples, chunks) in [(CASES[5], 64, 8), (CASES[2], 13, 3), (CASES[0], 13, 3), (CASES[3], 3, 8)] {
        let program = case.program();
        let batch = case.batch(samples);
        let mut whole = cpu(&program, 2, 8, None);
        let loss = whole.gradient(&batch, 1).expect("memory").loss;
        let expected = widen(&whole.gradients().expect("the CPU can be read"));
        for (lanes, chunks) in [(8, chunks), (1, 1), (3, chunks), (19, 2)] {
            let mut step = cpu(&program, 2, lanes, None);
            let what = format!("{}, {chunks} chunks, {lanes} lanes", case.name);
            let found = step.gradient(&batch, chunks).expect("memory");
            assert!((found.loss - loss).abs() < 1e-6, "{what}: loss {}, expected {loss}", found.loss);
            assert_gradients_near(&what, &program, &step.gradients().expect("the CPU can be read"), &expected, 1e-5);
        }
    }
}

#[test]
fn thread_counts_and_repeats_do_not_change_a_byte() {
    for (case, samples, chunks) in [(CASES[5], 64, 1), (CASES[2], 13, 3)] {
        let program = case.program();
        let config = TrainConfig { grad_clip_norm: Some(1.0), ..train(ADAMW) };
        let run = |threads: usize| {
            let mut step = cpu(&program, threads, 8, Some(&config));
            let batch = case.batch(samples);
            for idx in 0..3 {
                step.gradient(&batch, chunks).expect("memory");
                step.update(idx, 1e-3).expect("there is an optimiser");
            }
            (bits(&step.parameters().expect("the CPU can be read")), step.optimizer_state().expect("the CPU can be read"))
        };
        let expected = run(1);
        for threads in [1, 2, 3, 5] {
            assert!(run(threads) == expected, "{}: {threads} threads", case.name);
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Largest difference of two updates as a share of the rate: one means that an element went one full step elsewhere.
fn update_error(program: &Program, lr: f64, found: &[f32], expected: &[f64]) -> f64 {
    let keys: Vec<_> = (program.params.iter().filter(|view| view.name.ends_with("attn.in_proj_bias")))
        .map(|view| view.offset + view.len() / 3..view.offset + 2 * view.len() / 3)
        .collect();
    let elements = found.iter().zip(expected).enumerate().filter(|(idx, _)| !keys.iter().any(|range| range.contains(idx)));
    elements.fold(0.0, |worst: f64, (_, (found, expected))| worst.max((f64::from(*found) - expected).abs() / lr))
}

#[test]
fn optimisers_make_the_updates_of_the_reference_from_the_same_gradients() {
    let program = CASES[1].program();
    assert!(program.params.iter().any(|view| view.matrix.count == 3 && view.matrix.rows >= 32), "a stack of factored matrices");
    for (optimizer, grad_clip_norm) in [(ADAMW, None), (ADAMW, Some(0.5)), (ADAFACTOR, None), (ADAFACTOR, Some(0.5))] {
        let decay_scale = if grad_clip_norm.is_some() { DecayScale::RelativeRate } else { DecayScale::Rate };
        let config = TrainConfig { grad_clip_norm, decay_scale, ..train(optimizer) };
        let (mut fast, mut plain) = (Optimizer::new(&program, &config), ReferenceOptimizer::new(&program, &config));
        let mut found = parameters(&program);
        let mut expected = widen(&found);
        let mut draws = Philox::new(4, Stream::Scenes).at(0, 0);
        for (step, lr) in [1e-3, 2e-3, 1.5e-3, 1e-3, 5e-4].into_iter().enumerate() {
            // Norms from below the limit to far above it.
            let size = [1e-4, 1.0, 1e-3, 0.1, 1e-4][step];
            let mut gradient: Vec<f32> = (0..program.num_params()).map(|_| size * draws.normal() as f32).collect();
            let norm = plain.update(step as u64, lr, &mut expected, &widen(&gradient));
            let found_norm = fast.update(step as u64, lr, &mut found, &mut gradient);
            assert!((found_norm / norm - 1.0).abs() < 1e-6, "norm {found_norm}, expected {norm}");
        }
        // f32 parameters near one move in steps of 1e-7, which is 1e-4 of the rate.
        let error = update_error(&program, 1e-3, &found, &expected);
        assert!(error < 1e-3, "{optimizer:?}, clip {grad_clip_norm:?}: {error} of the rate");
    }
}

#[test]
fn a_clipped_gradient_has_the_limit_as_its_norm_and_a_short_one_is_left_alone() {
    let program = CASES[0].program();
    // With beta1 = 0 and a huge eps, AdamW moves by lr * clipped gradient / eps.
    let optimizer = OptimizerConfig::Adamw { beta1: 0.0, beta2: 0.0, eps: 1e6 };
    let config = TrainConfig { grad_clip_norm: Some(0.5), weight_decay: 0.0, ..train(optimizer) };
    for (size, expected) in [(3.0, 0.5), (1e-3, 1e-3)] {
        let mut parameters = vec![0.0; program.num_params()];
        let mut gradient = vec![(size / (program.num_params() as f64).sqrt()) as f32; program.num_params()];
        let norm = Optimizer::new(&program, &config).update(0, 1e6, &mut parameters, &mut gradient);
        let moved = parameters.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        assert!((norm / size - 1.0).abs() < 1e-5 && (moved / expected - 1.0).abs() < 1e-5, "norm {norm}, moved by {moved}");
    }
}

fn sigmoid(masked: f64) -> Recipe {
    Recipe { loss: LossConfig::Sigmoid { logit_bias_init: -10.0 }, ..Recipe::contrastive(masked) }
}

/// CPU against f64, and f64 against the slopes of its loss along scale and bias, on the sigmoid loss.
#[test]
fn gradients_on_the_sigmoid_loss_are_those_of_the_reference_and_its_slopes() {
    for case in CASES {
        let program = Arc::new(model::build_with(&case.model(), &sigmoid(case.masked)));
        let batch = case.batch(case.batch);
        let mut parameters = parameters(&program);
        let [scale, bias] = [program.log_logit_scale, program.logit_bias.expect("a bias")].map(|idx| program.params[idx].offset);
        for start in [[10_f64.ln(), -10.0], [30_f64.ln(), -0.5]] {
            (parameters[scale], parameters[bias]) = (start[0] as f32, start[1] as f32);
            let mut oracle = ReferenceStep::new(program.clone(), &parameters, None).expect("one value a parameter");
            let mut step = cpu(&program, 2, 8, None);
            step.set_parameters(&parameters).expect("one value a parameter");
            let (expected, found) = (oracle.gradient(&batch, 1).expect("never fails"), step.gradient(&batch, 2).expect("memory"));
            let what = format!("{}, start {start:?}", case.name);
            assert!((found.loss / expected.loss - 1.0).abs() < 1e-5, "{what}: loss {}, expected {}", found.loss, expected.loss);
            let found = step.gradients().expect("the CPU can be read");
            assert_gradients_near(&what, &program, &found, oracle.gradients_f64(), F32_TOLERANCE);
            for at in [scale, bias] {
                const H: f64 = 1e-4;
                let start = oracle.parameters_f64()[at];
                let mut loss = |moved: f64| {
                    oracle.parameters_f64_mut()[at] = start + moved;
                    let loss = oracle.loss(&batch);
                    oracle.parameters_f64_mut()[at] = start;
                    loss
                };
                let slope = (loss(H) - loss(-H)) / (2.0 * H);
                let gradient = oracle.gradients_f64()[at];
                assert!((gradient - slope).abs() <= 1e-6 * slope.abs().max(1e-2), "{what}: {gradient}, slope {slope}");
            }
        }
    }
}

#[test]
fn weight_decay_shrinks_matrices_and_nothing_else() {
    let program = CASES[0].program();
    let is_matrix = |name: &str| {
        let exempt = ["ln_", "bias", "positional_embedding", "class_embedding", "logit_"];
        !exempt.iter().any(|part| name.contains(part))
    };
    // Half of the peak rate, which is 2e-3: the same decay for both optimisers.
    let scales = [(DecayScale::Rate, 1.0 - 1e-3 * 0.2), (DecayScale::RelativeRate, 1.0 - 0.5 * 0.2)];
    for (optimizer, (decay_scale, kept)) in [ADAMW, ADAFACTOR].into_iter().flat_map(|by| scales.map(|scale| (by, scale))) {
        let config = TrainConfig { decay_scale, ..train(optimizer) };
        let start = parameters(&program);
        let mut moved = start.clone();
        let mut gradient = vec![0.0; start.len()];
        Optimizer::new(&program, &config).update(0, 1e-3, &mut moved, &mut gradient);
        let mut oracle = widen(&start);
        ReferenceOptimizer::new(&program, &config).update(0, 1e-3, &mut oracle, &vec![0.0; start.len()]);
        for view in &program.params {
            assert_eq!(view.decay, is_matrix(&view.name), "{}", view.name);
            let factor = if view.decay { kept } else { 1.0 };
            for (moved, start) in moved[view.range()].iter().zip(&start[view.range()]) {
                assert!((f64::from(*moved) - factor * f64::from(*start)).abs() < 1e-6, "{optimizer:?}, {}", view.name);
            }
            for (moved, start) in oracle[view.range()].iter().zip(&start[view.range()]) {
                assert!((*moved - factor * f64::from(*start)).abs() < 1e-9, "{optimizer:?} in f64, {}", view.name);
            }
        }
    }
}

#[test]
fn five_whole_steps_follow_the_reference() {
    for (case, optimizer) in [(CASES[0], ADAMW), (CASES[1], ADAFACTOR), (CASES[2], ADAMW), (CASES[3], ADAFACTOR)] {
        let program = case.program();
        let config = TrainConfig { grad_clip_norm: Some(1.0), ..train(optimizer) };
        let (mut oracle, mut step) = (reference(&program, Some(&config)), cpu(&program, 2, 8, Some(&config)));
        let batch = case.batch(case.batch);
        let lr = 1e-3;
        let start = widen(&parameters(&program));
        for idx in 0..5 {
            let (expected, found) = (oracle.gradient(&batch, 1).expect("never fails"), step.gradient(&batch, 2).expect("memory"));
            assert!((expected.loss - found.loss).abs() < 1e-4, "{}, step {idx}: {found:?}, expected {expected:?}", case.name);
            let (expected, found) = (oracle.update(idx, lr).expect("an optimiser"), step.update(idx, lr).expect("an optimiser"));
            assert!((expected.grad_norm / found.grad_norm - 1.0).abs() < 1e-3, "{}, step {idx}", case.name);
        }
        for view in &program.params {
            let whole = view.range();
            let ranges = if view.name.ends_with("attn.in_proj_bias") {
                // The key's bias has no gradient but rounding, which an optimiser blows up to whole steps.
                vec![whole.start..whole.start + view.len() / 3, whole.start + 2 * view.len() / 3..whole.end]
            } else {
                vec![whole]
            };
            for range in ranges {
                let expected: Vec<f64> = range.clone().map(|idx| oracle.parameters_f64()[idx] - start[idx]).collect();
                let found = step.parameters().expect("the CPU can be read");
                let off: Vec<f64> = (range.clone()).map(|idx| f64::from(found[idx]) - oracle.parameters_f64()[idx]).collect();
                let error = (dot(&off, &off) / dot(&expected, &expected)).sqrt();
                assert!(error < 1e-2, "{}, {optimizer:?}, {}: off by {error} of the way", case.name, view.name);
            }
        }
    }
}

#[test]
fn the_logit_scale_stays_within_its_bounds() {
    let program = CASES[0].program();
    let offset = program.params[program.log_logit_scale].offset;
    for (start, bound) in [(-2.0, 0.0), (9.0, 100_f64.ln())] {
        let config = train(ADAMW);
        let (mut oracle, mut step) = (reference(&program, Some(&config)), cpu(&program, 1, 8, Some(&config)));
        let mut parameters = parameters(&program);
        parameters[offset] = start;
        oracle.set_parameters(&parameters).expect("one value a parameter");
        step.set_parameters(&parameters).expect("one value a parameter");
        for step in [&mut oracle as &mut dyn scaledown::trainer::backend::Step, &mut step] {
            step.gradient(&CASES[0].batch(3), 1).expect("memory");
            step.update(0, 1e-3).expect("an optimiser");
            assert!((f64::from(step.parameters().expect("the CPU can be read")[offset]) - bound).abs() < 1e-6);
        }
    }
}
