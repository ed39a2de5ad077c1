//! One batch of 16 random pairs is learnt by heart: the loss starts near chance, falls below 0.05 and is never NaN, and the
//! same seed gives the same bytes.

use std::sync::Arc;

use scaledown::data::{Philox, Stream};
use scaledown::run::{
    Activation, DecayScale, ImageEncoderConfig, LossConfig, ModelConfig, OptimizerConfig, Pooling, StrategyConfig,
    TextEncoderConfig, TrainConfig, VitConfig,
};
use scaledown::trainer::backend::cpu::{CpuSettings, CpuStep};
use scaledown::trainer::backend::{Step as _, StepBatch};
use scaledown::trainer::model;
use scaledown::trainer::optim::learning_rate;

const PAIRS: usize = 16;
const SIDE: usize = 16;
const CONTEXT: usize = 8;
const VOCAB: usize = 50;

fn config(pooling: Pooling) -> ModelConfig {
    ModelConfig {
        image_encoder: ImageEncoderConfig::Vit(VitConfig {
            width: 32,
            layers: 2,
            heads: 4,
            mlp_width: 64,
            patch_size: 4,
            pooling,
            pre_norm: pooling == Pooling::ClassToken,
        }),
        text_encoder: TextEncoderConfig {
            width: 24,
            layers: 2,
            heads: 3,
            mlp_width: 48,
            context_length: CONTEXT,
            vocab_size: VOCAB,
        },
        // Wide, so that cosines of random features are small and the first loss is near chance at CLIP's temperature.
        embed_dim: 256,
        image_size: SIDE,
        activation: Activation::Gelu,
        logit_scale_init: 1.0 / 0.07,
        logit_scale_max: 100.0,
        pixel_mean: [0.5; 3],
        pixel_std: [0.25; 3],
    }
}

fn train(optimizer: OptimizerConfig, lr: f64) -> TrainConfig {
    TrainConfig {
        strategy: StrategyConfig::clip(),
        loss: LossConfig::Contrastive,
        batch_size: PAIRS as u64,
        accumulate: 1,
        steps: 40,
        lr,
        warmup_steps: 5,
        optimizer,
        weight_decay: 0.0,
        decay_scale: DecayScale::Rate,
        grad_clip_norm: Some(1.0),
        lanes: 8,
        milestones: Vec::new(),
    }
}

const ADAMW: OptimizerConfig = OptimizerConfig::Adamw { beta1: 0.9, beta2: 0.98, eps: 1e-6 };
const ADAFACTOR: OptimizerConfig = OptimizerConfig::Adafactor { beta1: 0.9, beta2_cap: 0.999 };

/// Random pixels and captions of 3 to 8 random tokens.
fn random_pairs(seed: u64) -> StepBatch {
    let mut draws = Philox::new(seed, Stream::Scenes).at(0, 0);
    let images = (0..PAIRS * SIDE * SIDE * 3).map(|_| draws.below(256) as u8).collect();
    let tokens = (0..PAIRS * CONTEXT).map(|_| draws.below(VOCAB as u32)).collect();
    let ends = (0..PAIRS).map(|_| 2 + draws.below(CONTEXT as u32 - 2)).collect();
    StepBatch { samples: PAIRS, images, tokens, ends, ..StepBatch::default() }
}

/// What a run leaves: the loss before every update, and the bits of its parameters.
#[derive(PartialEq)]
struct Trained {
    losses: Vec<f64>,
    parameters: Vec<u32>,
}

fn learn(pooling: Pooling, train: &TrainConfig, seed: u64, threads: usize, steps: u64) -> Trained {
    let program = Arc::new(model::build(&config(pooling), 0.0));
    let parameters = model::initial_parameters(&program, seed);
    let settings = CpuSettings { threads, lanes: train.lanes };
    let mut step = CpuStep::new(program, parameters, settings, Some(train)).expect("threads start");
    let batch = random_pairs(seed);
    let mut losses = Vec::new();
    for idx in 0..steps {
        losses.push(step.gradient(&batch, 1).expect("memory for a small batch").loss);
        step.update(idx, learning_rate(train, idx)).expect("there is an optimiser");
    }
    Trained { losses, parameters: step.parameters().expect("the CPU can be read").iter().map(|value| value.to_bits()).collect() }
}

#[test]
fn one_batch_is_learnt_by_heart() {
    for (pooling, optimizer, lr) in
        [(Pooling::ClassToken, ADAMW, 4e-3), (Pooling::Mean, ADAMW, 4e-3), (Pooling::Mean, ADAFACTOR, 4e-3)]
    {
        let train = train(optimizer, lr);
        let losses = learn(pooling, &train, 1, 2, train.steps).losses;
        let chance = (PAIRS as f64).ln();
        assert!((losses[0] - chance).abs() < 0.2, "{pooling:?}, {optimizer:?}: starts at {}, chance is {chance}", losses[0]);
        assert!(losses.iter().all(|loss| loss.is_finite()), "{pooling:?}, {optimizer:?}: {losses:?}");
        let last = losses[losses.len() - 1];
        assert!(last < 0.05, "{pooling:?}, {optimizer:?}: ends at {last}: {losses:.2?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_whatever_the_threads_and_another_seed_gives_others() {
    let train = train(ADAFACTOR, 1e-3);
    let run = |seed: u64, threads: usize| learn(Pooling::ClassToken, &train, seed, threads, 12);
    let first = run(7, 1);
    for threads in [1, 2, 3, 5] {
        assert!(run(7, threads) == first, "{threads} threads");
    }
    assert!(run(8, 1).parameters != first.parameters);
}

#[test]
fn a_run_goes_on_from_saved_parameters_and_optimiser_state_with_the_same_bytes() {
    let program = Arc::new(model::build(&config(Pooling::Mean), 0.0));
    let settings = CpuSettings { threads: 2, lanes: 8 };
    let batch = random_pairs(3);
    for optimizer in [ADAMW, ADAFACTOR] {
        let train = train(optimizer, 1e-3);
        let new = |parameters: Vec<f32>| CpuStep::new(program.clone(), parameters, settings, Some(&train)).expect("threads start");
        let advance = |step: &mut CpuStep, steps: std::ops::Range<u64>| {
            for idx in steps {
                step.gradient(&batch, 1).expect("memory for a small batch");
                step.update(idx, learning_rate(&train, idx)).expect("there is an optimiser");
            }
        };
        let mut whole = new(model::initial_parameters(&program, 3));
        advance(&mut whole, 0..3);
        let mut resumed = new(whole.parameters().expect("the CPU can be read"));
        resumed.set_optimizer_state(&whole.optimizer_state().expect("the CPU can be read")).expect("its own state fits");
        advance(&mut whole, 3..6);
        advance(&mut resumed, 3..6);
        assert_eq!(
            whole.parameters().expect("the CPU can be read"),
            resumed.parameters().expect("the CPU can be read"),
            "{optimizer:?}"
        );
    }
}
