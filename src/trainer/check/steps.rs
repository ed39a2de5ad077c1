//! Whole recorded steps against the CPU backend: features, loss, every parameter's gradient, updates, memory.

use std::sync::Arc;

use crate::data::{Augmenter, Philox, PictureView, Stream};
use crate::run::{
    Activation, Augmentation, DecayScale, ImageEncoderConfig, LossConfig, ModelConfig, OptimizerConfig, Pooling, StrategyConfig,
    TextEncoderConfig, TrainConfig, VitConfig,
};
use crate::trainer::TrainerError;
use crate::trainer::backend::cpu::{CpuSettings, CpuStep};
use crate::trainer::backend::cuda::device::Device;
use crate::trainer::backend::cuda::{CudaStep, Towers};
use crate::trainer::backend::{Step as _, StepAt, StepBatch};
use crate::trainer::model::{Recipe, build, build_with, initial_parameters};
use crate::trainer::ops::launch::Real;
use crate::trainer::program::Program;
use crate::trainer::strategy::PatchMask;

/// Opens a device for a compute type and an order of threads.
pub type OpenStep<'a, D> = &'a dyn Fn(Real, u32) -> Result<D, TrainerError>;

/// A check of whole steps.
pub type StepCheck<D> = for<'a> fn(OpenStep<'a, D>);

/// All of them, by name.
#[must_use]
pub fn checks<D: Device>() -> Vec<(&'static str, StepCheck<D>)> {
    vec![
        ("gradients in f32", gradients_in_f32_are_those_of_the_cpu_also_in_parts),
        ("gradients in bf16", gradients_in_bf16_are_near_those_of_f32),
        ("masked patches", masked_patches_are_drawn_on_the_device_as_on_the_cpu),
        ("both optimisers", steps_of_both_optimisers_follow_the_cpu_and_state_can_be_exchanged),
        ("the sigmoid loss", steps_on_the_sigmoid_loss_follow_the_cpu),
        ("a last update", a_last_update_that_overflows_is_found_in_the_parameters),
        ("steps that are not finite", a_step_that_is_not_finite_changes_nothing_and_is_remembered),
        ("features", features_of_both_encoders_are_those_of_the_cpu),
        ("a held pool", a_held_pool_gives_the_same_bytes_as_written_images),
        ("places in a pool", a_place_beyond_a_held_pool_is_refused_before_the_device_sees_it),
        ("a pool of larger pictures", a_pool_of_larger_pictures_is_cropped_as_the_host_does),
        ("towers side by side", towers_side_by_side_give_the_bytes_of_towers_in_turn),
    ]
}

/// The optimisers that are checked.
pub const ADAMW: OptimizerConfig = OptimizerConfig::Adamw { beta1: 0.9, beta2: 0.98, eps: 1e-6 };
const ADAFACTOR: OptimizerConfig = OptimizerConfig::Adafactor { beta1: 0.9, beta2_cap: 0.999 };
const SEED: u64 = 5;
const PAIRS: usize = 5;

/// A small model with awkward sizes.
#[must_use]
pub fn model(pooling: Pooling) -> ModelConfig {
    let is_class = pooling == Pooling::ClassToken;
    ModelConfig {
        image_encoder: ImageEncoderConfig::Vit(VitConfig {
            width: 36,
            layers: 2,
            heads: 3,
            mlp_width: 52,
            patch_size: 4,
            pooling,
            pre_norm: is_class,
        }),
        text_encoder: TextEncoderConfig { width: 40, layers: 1, heads: 2, mlp_width: 44, context_length: 7, vocab_size: 31 },
        embed_dim: 24,
        image_size: 12,
        activation: Activation::Gelu,
        logit_scale_init: 1.0 / 0.07,
        logit_scale_max: 100.0,
        pixel_mean: [0.5, 0.4, 0.45],
        pixel_std: [0.5, 0.25, 0.3],
    }
}

/// A plain CLIP or FLIP training.
#[must_use]
pub fn train(optimizer: OptimizerConfig, masked: f64) -> TrainConfig {
    TrainConfig {
        strategy: StrategyConfig { masked, ..StrategyConfig::clip() },
        loss: LossConfig::Contrastive,
        batch_size: PAIRS as u64,
        accumulate: 1,
        steps: 10,
        lr: 1e-3,
        warmup_steps: 2,
        optimizer,
        weight_decay: 0.1,
        decay_scale: DecayScale::Rate,
        grad_clip_norm: Some(1.0),
        lanes: 8,
        milestones: Vec::new(),
    }
}

/// A few random pairs.
#[must_use]
pub fn batch() -> StepBatch {
    let mut draws = Philox::new(SEED, Stream::Scenes).at(0, 0);
    StepBatch {
        samples: PAIRS,
        images: (0..PAIRS * 12 * 12 * 3).map(|_| draws.below(256) as u8).collect(),
        tokens: (0..PAIRS * 7).map(|_| draws.below(31)).collect(),
        ends: (0..PAIRS).map(|_| 1 + draws.below(6)).collect(),
        ..StepBatch::default()
    }
}

struct Pair<D: Device> {
    program: Arc<Program>,
    cpu: CpuStep,
    gpu: CudaStep<D>,
}

fn pair<D: Device>(open: OpenStep<D>, pooling: Pooling, config: &TrainConfig, real: Real, order: u32) -> Pair<D> {
    let program = Arc::new(build_with(&model(pooling), &Recipe::of(config, config.strategy.masked)));
    let parameters = initial_parameters(&program, SEED);
    let settings = CpuSettings { threads: 1, lanes: 8 };
    let cpu = CpuStep::new(program.clone(), parameters.clone(), settings, Some(config)).expect("threads start");
    let key = (config.strategy.masked > 0.0).then(|| Philox::new(SEED, Stream::Mask).key());
    let device = open(real, order).expect("the device opens");
    let gpu = CudaStep::new(device, program.clone(), &parameters, Some(config), key).expect("memory is there");
    Pair { program, cpu, gpu }
}

/// Checks max|a - b| <= limit max|b| for every parameter's gradient.
#[track_caller]
fn assert_gradients(what: &str, program: &Program, found: &[f32], expected: &[f32], limit: f32) {
    for view in &program.params {
        let (found, expected) = (&found[view.range()], &expected[view.range()]);
        let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let error = found.iter().zip(expected).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        // A key's bias has no gradient: what is there is rounding.
        assert!(error <= limit * largest.max(1e-4), "{what}: {}: error {error:e}, largest {largest:e}", view.name);
    }
}

/// Loss and every parameter's gradient in f32 are the CPU's, also where the batch goes in parts, and the same twice.
///
/// # Panics
/// If it does not hold.
pub fn gradients_in_f32_are_those_of_the_cpu_also_in_parts<D: Device>(open: OpenStep<D>) {
    for (pooling, chunks, order) in [(Pooling::ClassToken, 1, 0), (Pooling::Mean, 1, 1), (Pooling::Mean, 3, 7)] {
        let Pair { program, mut cpu, mut gpu } = pair(open, pooling, &train(ADAMW, 0.0), Real::F32, order);
        let what = format!("{pooling:?} in {chunks}");
        let (expected, found) = (cpu.gradient(&batch(), chunks).expect("cpu"), gpu.gradient(&batch(), chunks).expect("emulated"));
        assert!((found.loss / expected.loss - 1.0).abs() < 1e-5, "{what}: loss {} for {}", found.loss, expected.loss);
        assert!((found.logit_scale / expected.logit_scale - 1.0).abs() < 1e-6);
        let (expected, found) = (cpu.gradients().expect("cpu"), gpu.gradients().expect("emulated"));
        assert_gradients(&what, &program, &found, &expected, 1e-4);
        // The same batch again gives the same bytes.
        gpu.gradient(&batch(), chunks).expect("emulated");
        assert_eq!(gpu.gradients().expect("emulated"), found, "{what}");
    }
}

/// Gradients in bf16 point where those of f32 do.
///
/// # Panics
/// If it does not hold.
pub fn gradients_in_bf16_are_near_those_of_f32<D: Device>(open: OpenStep<D>) {
    let Pair { program, mut cpu, mut gpu } = pair(open, Pooling::ClassToken, &train(ADAMW, 0.0), Real::Bf16, 0);
    let (expected, found) = (cpu.gradient(&batch(), 1).expect("cpu"), gpu.gradient(&batch(), 1).expect("emulated"));
    assert!((found.loss / expected.loss - 1.0).abs() < 2e-2, "loss {} for {}", found.loss, expected.loss);
    let (expected, found) = (cpu.gradients().expect("cpu"), gpu.gradients().expect("emulated"));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    for view in program.params.iter().filter(|view| view.len() > 1) {
        let (a, b) = (&found[view.range()], &expected[view.range()]);
        let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        // 8 bits of mantissa through a dozen products: a few per cent of direction.
        assert!(cosine > 0.98, "{}: cosine {cosine}", view.name);
    }
}

/// The device draws the masks that the CPU draws.
///
/// # Panics
/// If it does not hold.
pub fn masked_patches_are_drawn_on_the_device_as_on_the_cpu<D: Device>(open: OpenStep<D>) {
    let config = train(ADAMW, 0.5);
    let Pair { mut cpu, mut gpu, .. } = pair(open, Pooling::Mean, &config, Real::F32, 0);
    let mask = PatchMask::new(&build(&model(Pooling::Mean), 0.5), SEED).expect("half is masked");
    assert!(gpu.draws_masks());
    for step in 0..3 {
        let mut written = batch();
        mask.fill(step, PAIRS, &mut written.keep);
        let at = StepAt { step, lr: 1e-3, chunks: 1 };
        cpu.advance(&written, at).expect("cpu");
        gpu.advance(&batch(), at).expect("emulated");
        let (expected, found) = (cpu.found().expect("cpu"), gpu.found().expect("emulated"));
        assert!((found.loss / expected.loss - 1.0).abs() < 1e-4, "step {step}: {found:?} {expected:?}");
        assert!((found.grad_norm / expected.grad_norm - 1.0).abs() < 1e-3, "step {step}: {found:?} {expected:?}");
    }
    // Patches that come with the batch are the same step.
    let mut written = batch();
    mask.fill(9, PAIRS, &mut written.keep);
    let (expected, found) = (cpu.gradient(&written, 1).expect("cpu").loss, gpu.gradient(&written, 1).expect("emulated").loss);
    assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
}

/// Whole steps follow the CPU's for both optimisers; parameters and optimiser state can change sides between steps.
///
/// # Panics
/// If it does not hold.
pub fn steps_of_both_optimisers_follow_the_cpu_and_state_can_be_exchanged<D: Device>(open: OpenStep<D>) {
    let cases = [(ADAMW, DecayScale::Rate), (ADAFACTOR, DecayScale::Rate), (ADAFACTOR, DecayScale::RelativeRate)];
    for (optimizer, decay_scale) in cases {
        let config = TrainConfig { decay_scale, ..train(optimizer, 0.0) };
        let Pair { program, mut cpu, mut gpu } = pair(open, Pooling::Mean, &config, Real::F32, 1);
        let start = cpu.parameters().expect("cpu");
        for step in 0..4 {
            let at = StepAt { step, lr: 1e-3 * (step + 1) as f64, chunks: 1 };
            cpu.advance(&batch(), at).expect("cpu");
            gpu.advance(&batch(), at).expect("emulated");
            let (expected, found) = (cpu.found().expect("cpu"), gpu.found().expect("emulated"));
            assert!((found.loss / expected.loss - 1.0).abs() < 1e-3, "{optimizer:?} {step}: {found:?} {expected:?}");
            assert!(found.unfit.is_none());
            if step == 1 {
                // What the GPU has goes on on the CPU.
                cpu.set_parameters(&gpu.parameters().expect("emulated")).expect("the same model");
                cpu.set_optimizer_state(&gpu.optimizer_state().expect("emulated")).expect("the same state");
            }
            if step == 2 {
                gpu.set_parameters(&cpu.parameters().expect("cpu")).expect("the same model");
                gpu.set_optimizer_state(&cpu.optimizer_state().expect("cpu")).expect("the same state");
            }
        }
        let (expected, found) = (cpu.parameters().expect("cpu"), gpu.parameters().expect("emulated"));
        let moved = expected.iter().zip(&start).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        // An update is a sign where a gradient is rounding noise (a key's bias), so all but a few elements have to agree.
        let far = expected.iter().zip(&found).filter(|(a, b)| (*a - *b).abs() > 0.02 * moved).count();
        assert!(far * 50 <= program.num_params(), "{optimizer:?}: {far} of {} parameters differ", program.num_params());
    }
}

/// Gradients and steps on the sigmoid loss are the CPU's in both optimisers, those of scale and bias among them.
///
/// # Panics
/// If it does not hold.
pub fn steps_on_the_sigmoid_loss_follow_the_cpu<D: Device>(open: OpenStep<D>) {
    for (optimizer, chunks) in [(ADAMW, 1), (ADAFACTOR, 2)] {
        let config = TrainConfig { loss: LossConfig::Sigmoid { logit_bias_init: -10.0 }, ..train(optimizer, 0.0) };
        let Pair { program, mut cpu, mut gpu } = pair(open, Pooling::Mean, &config, Real::F32, 1);
        let (expected, found) = (cpu.gradient(&batch(), chunks).expect("cpu"), gpu.gradient(&batch(), chunks).expect("emulated"));
        assert!((found.loss / expected.loss - 1.0).abs() < 1e-5, "loss {} for {}", found.loss, expected.loss);
        let (expected, found) = (cpu.gradients().expect("cpu"), gpu.gradients().expect("emulated"));
        assert_gradients("sigmoid", &program, &found, &expected, 1e-4);
        let bias = program.params[program.logit_bias.expect("a sigmoid loss has a bias")].offset;
        assert!(expected[bias] != 0.0, "the bias has a gradient");
        for step in 0..3 {
            let at = StepAt { step, lr: 1e-3, chunks };
            cpu.advance(&batch(), at).expect("cpu");
            gpu.advance(&batch(), at).expect("emulated");
            let (expected, found) = (cpu.found().expect("cpu"), gpu.found().expect("emulated"));
            assert!((found.loss / expected.loss - 1.0).abs() < 1e-3, "{optimizer:?} {step}: {found:?} {expected:?}");
        }
        let moved = gpu.parameters().expect("emulated")[bias] + 10.0;
        assert!(moved != 0.0 && moved.abs() < 0.1, "the bias has moved by {moved}");
    }
}

/// An update whose loss and gradient are finite and whose parameters are not is seen in the parameters: there is no next step to
/// see it.
///
/// # Panics
/// If it does not hold.
pub fn a_last_update_that_overflows_is_found_in_the_parameters<D: Device>(open: OpenStep<D>) {
    for optimizer in [ADAMW, ADAFACTOR] {
        // Without a decay parameters move by the rate and stay finite; this one multiplies them by -1e39.
        let config = TrainConfig { weight_decay: 1e39, ..train(optimizer, 0.0) };
        let Pair { program, mut cpu, mut gpu } = pair(open, Pooling::Mean, &config, Real::F32, 0);
        let at = StepAt { step: 0, lr: 1.0, chunks: 1 };
        cpu.advance(&batch(), at).expect("cpu");
        gpu.advance(&batch(), at).expect("emulated");
        for (found, parameters) in [(cpu.found(), cpu.parameters()), (gpu.found(), gpu.parameters())] {
            assert!(found.expect("a step was done").unfit.is_none(), "loss and gradient are those before the update");
            assert!(program.not_finite(&parameters.expect("they can be read")).is_some(), "{optimizer:?}");
        }
    }
}

/// A step whose loss is NaN, and all after it, change nothing; the first is remembered.
///
/// # Panics
/// If it does not hold.
pub fn a_step_that_is_not_finite_changes_nothing_and_is_remembered<D: Device>(open: OpenStep<D>) {
    let Pair { program, mut gpu, .. } = pair(open, Pooling::Mean, &train(ADAMW, 0.0), Real::F32, 0);
    let at = |step| StepAt { step, lr: 1e-3, chunks: 1 };
    gpu.advance(&batch(), at(0)).expect("emulated");
    let mut parameters = gpu.parameters().expect("emulated");
    let weight = program.params.iter().find(|view| view.name == "visual.proj").expect("a ViT has one").offset;
    parameters[weight] = f32::NAN;
    gpu.set_parameters(&parameters).expect("the same model");
    for step in 1..4 {
        gpu.advance(&batch(), at(step)).expect("emulated");
    }
    let unfit = gpu.found().expect("emulated").unfit.expect("the loss is NaN");
    assert!(unfit.step == 1 && !unfit.loss.is_finite(), "{unfit:?}");
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&gpu.parameters().expect("emulated")), bits(&parameters));
}

/// Features of both encoders are the CPU's.
///
/// # Panics
/// If it does not hold.
pub fn features_of_both_encoders_are_those_of_the_cpu<D: Device>(open: OpenStep<D>) {
    for pooling in [Pooling::ClassToken, Pooling::Mean] {
        let Pair { mut cpu, mut gpu, .. } = pair(open, pooling, &train(ADAMW, 0.0), Real::F32, 0);
        let batch = batch();
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        let (a, b) = (cpu.encode_images(PAIRS, &batch.images), gpu.encode_images(PAIRS, &batch.images));
        assert!(near(&a.expect("cpu"), &b.expect("emulated")), "{pooling:?}");
        let (a, b) = (cpu.encode_texts(PAIRS, &batch.tokens, &batch.ends), gpu.encode_texts(PAIRS, &batch.tokens, &batch.ends));
        assert!(near(&a.expect("cpu"), &b.expect("emulated")), "{pooling:?}");
    }
}

/// Images from a held pool, cropped or not, give the bytes of images that come with the batch.
///
/// # Panics
/// If it does not hold.
pub fn a_held_pool_gives_the_same_bytes_as_written_images<D: Device>(open: OpenStep<D>) {
    let Pair { mut gpu, .. } = pair(open, Pooling::Mean, &train(ADAMW, 0.0), Real::F32, 0);
    let written = batch();
    let image = 12 * 12 * 3;
    // The pool holds the batch's images backwards.
    let pool: Vec<u8> = written.images.chunks(image).rev().flatten().copied().collect();
    assert!(gpu.hold_pool(&pool, 144).expect("emulated"));
    let index = (0..PAIRS as u32).rev().collect();
    let indexed = StepBatch { images: Vec::new(), index, ..written.clone() };
    let whole = [0.0, 0.0, 12.0, 12.0, 0.0, 12.0];
    let cropped = StepBatch { crops: whole.repeat(PAIRS), ..indexed.clone() };
    let mut gradients = Vec::new();
    for batch in [&written, &indexed, &cropped] {
        gpu.gradient(batch, 1).expect("emulated");
        gradients.push(gpu.gradients().expect("emulated"));
    }
    assert!(gradients[0] == gradients[1] && gradients[0] == gradients[2]);
}

/// An index of the pool that no image has is an error of the host, before anything is written to the device.
///
/// # Panics
/// If it does not hold.
pub fn a_place_beyond_a_held_pool_is_refused_before_the_device_sees_it<D: Device>(open: OpenStep<D>) {
    let Pair { mut gpu, .. } = pair(open, Pooling::Mean, &train(ADAMW, 0.0), Real::F32, 0);
    let written = batch();
    let indexed = |last: u32| StepBatch { images: Vec::new(), index: vec![0, 1, 2, 3, last], ..written.clone() };
    let refused = |gpu: &mut CudaStep<D>, last: u32| gpu.gradient(&indexed(last), 1).expect_err("no such image").to_string();
    assert!(refused(&mut gpu, 0).contains("none is held"));
    assert!(gpu.hold_pool(&written.images[1..], 144).is_err(), "no whole number of images");
    assert!(gpu.hold_pool(&written.images, 144).expect("emulated"));
    for last in [PAIRS as u32, u32::MAX] {
        let message = refused(&mut gpu, last);
        assert!(message.contains(&format!("image {last} of a pool of {PAIRS}")), "{message}");
    }
    gpu.gradient(&indexed(PAIRS as u32 - 1), 1).expect("the last image");
}

/// Images that are cropped out of a pool of larger pictures have the bytes of those that the host crops; a crop that leaves its
/// picture is refused.
///
/// # Panics
/// If it does not hold.
pub fn a_pool_of_larger_pictures_is_cropped_as_the_host_does<D: Device>(open: OpenStep<D>) {
    let Pair { mut gpu, .. } = pair(open, Pooling::Mean, &train(ADAMW, 0.0), Real::F32, 0);
    let place = 25 * 16 * 3;
    let pool: Vec<u8> = (0..PAIRS * place).map(|i| (i * i / 7 % 251) as u8).collect();
    let augmenter = Augmenter::new(Augmentation::CropFlip { min_area: 0.3, flip: 0.5 }, 12).expect("crop_flip is built");
    let philox = Philox::new(4, Stream::Augment);
    let (mut images, mut crops) = (Vec::new(), Vec::new());
    for sample in 0..PAIRS {
        let picture = PictureView { width: 25, height: 16, pixels: &pool[sample * place..][..place] };
        let mut out = vec![0; 12 * 12 * 3];
        augmenter.apply(picture, &mut philox.at(1, sample as u32), &mut out);
        images.extend(out);
        crops.extend(augmenter.crop((25, 16), &mut philox.at(1, sample as u32)).expect("a crop is drawn"));
    }
    assert!(gpu.hold_pool(&pool, 16).expect("emulated"));
    let written = StepBatch { images, ..batch() };
    let cropped = StepBatch { images: Vec::new(), index: (0..PAIRS as u32).map(|i| i * 25).collect(), crops, ..batch() };
    let gradients = [&written, &cropped].map(|batch| {
        gpu.gradient(batch, 1).expect("emulated");
        gpu.gradients().expect("emulated")
    });
    assert!(gradients[0] == gradients[1]);
    // Beyond its row, beyond the pool (it is the last picture), no number.
    for beyond in [[14.0, 0.0, 12.0, 12.0, 0.0, 25.0], [0.0, 5.0, 12.0, 12.0, 0.0, 25.0], [0.0, 0.0, f32::NAN, 9.0, 0.0, 25.0]] {
        let before = &cropped.crops[..6 * (PAIRS - 1)];
        let batch = StepBatch { crops: [before, &beyond[..]].concat(), ..cropped.clone() };
        assert!(gpu.gradient(&batch, 1).is_err(), "{beyond:?}");
    }
    let uncropped = StepBatch { crops: Vec::new(), ..cropped };
    assert!(gpu.gradient(&uncropped, 1).is_err());
}

/// Towers that run side by side, with the gradients of parameters beside them, give the bytes of towers in turn, whatever the
/// order of branches.
///
/// # Panics
/// If it does not hold.
pub fn towers_side_by_side_give_the_bytes_of_towers_in_turn<D: Device>(open: OpenStep<D>) {
    for (real, order) in [Real::F32, Real::Bf16].into_iter().flat_map(|real| [0, 1, 7].map(|order| (real, order))) {
        for (pooling, chunks) in [(Pooling::ClassToken, 1), (Pooling::Mean, 3)] {
            let Pair { mut gpu, .. } = pair(open, pooling, &train(ADAMW, 0.0), real, order);
            let mut gradients = Vec::new();
            for towers in [Towers::InTurn, Towers::SideBySide, Towers::SideBySide] {
                gpu.set_towers(towers);
                gpu.gradient(&batch(), chunks).expect("emulated");
                gradients.push(gpu.gradients().expect("emulated"));
            }
            let is_same = gradients[0] == gradients[1] && gradients[0] == gradients[2];
            assert!(is_same, "{real:?}, order {order}, {pooling:?} in {chunks}");
        }
    }
}
