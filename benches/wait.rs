//! How long does a training step wait for its batch? For each augmentation: milliseconds a step, and the share of them that it
//! waited, without the first step, before which nothing can be made.
//!
//! ViT of 20 MMACs an image (width 128, 6 layers, 16 patches) on `scenes`, batches of 256, on two threads; the batches are made by
//! one more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use scaledown::data::{Augmenter, BatchSource, Frame, Pack, Tokenizer, pack_training};
use scaledown::run::{
    Activation, Augmentation, DataSource, DecayScale, DeviceKind, ImageEncoderConfig, LossConfig, ModelConfig, OptimizerConfig,
    Pooling, Precision, ScenesConfig, StrategyConfig, TextEncoderConfig, TokenizerConfig, TrainConfig, VitConfig,
};
use scaledown::trainer::step::{Command, StepDone, TrainOptions, TrainSetup, train};

const CONTEXT: usize = 16;
const SAMPLES: u64 = 2048;
const STEPS: u64 = 25;
const THREADS: usize = 2;

fn model(side: usize) -> ModelConfig {
    ModelConfig {
        image_encoder: ImageEncoderConfig::Vit(VitConfig {
            width: 128,
            layers: 6,
            heads: 4,
            mlp_width: 512,
            patch_size: side / 4,
            pooling: Pooling::ClassToken,
            pre_norm: true,
        }),
        text_encoder: TextEncoderConfig {
            width: 64,
            layers: 2,
            heads: 2,
            mlp_width: 256,
            context_length: CONTEXT,
            vocab_size: 1024,
        },
        embed_dim: 64,
        image_size: side,
        activation: Activation::Gelu,
        logit_scale_init: 1.0 / 0.07,
        logit_scale_max: 100.0,
        pixel_mean: [0.5; 3],
        pixel_std: [0.5; 3],
    }
}

fn training(augmentation: Augmentation) -> TrainConfig {
    TrainConfig {
        strategy: StrategyConfig { augmentation, ..StrategyConfig::clip() },
        loss: LossConfig::Contrastive,
        batch_size: 256,
        accumulate: 1,
        steps: STEPS,
        lr: 1e-3,
        warmup_steps: 2,
        optimizer: OptimizerConfig::Adamw { beta1: 0.9, beta2: 0.98, eps: 1e-6 },
        weight_decay: 0.1,
        decay_scale: DecayScale::Rate,
        grad_clip_norm: Some(1.0),
        lanes: 8,
        milestones: Vec::new(),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stacked = Augmentation::StackedRandAugment { layers: 2, magnitude: 10.0, min_area: 0.08 };
    let rand_augment = Augmentation::RandAugment { layers: 2, magnitude: 3.0 };
    let crop_flip = Augmentation::CropFlip { min_area: 0.5, flip: 0.5 };
    for side in [32, 64] {
        for augmentation in [Augmentation::None, crop_flip, rand_augment, stacked] {
            let folder = tempfile::tempdir()?;
            let frame = if augmentation.min_area().is_some() { Frame::whole(2 * side) } else { Frame::centre(side) };
            pack_training(&DataSource::Scenes(ScenesConfig::of_seed(2)), Some(SAMPLES), frame, folder.path(), &|_, _| {})?;
            let pack = Arc::new(Pack::open(folder.path())?);
            let captions: Vec<&str> = (0..pack.len()).map(|sample| pack.caption(sample)).collect();
            let tokenizer = Tokenizer::train(&TokenizerConfig::Bpe { vocab_size: 1024 }, captions.iter().copied())?;
            let encoded = Arc::new(tokenizer.encode_all(&captions, CONTEXT));
            let subset = (0_u32..).take(pack.len()).collect();
            let batches = BatchSource::new(Arc::clone(&pack), encoded, subset, Augmenter::new(augmentation, side)?, 1)?;
            let (model, config) = (model(side), training(augmentation));
            let setup = TrainSetup {
                model: &model,
                train: &config,
                seed: 1,
                init: None,
                device: DeviceKind::Cpu,
                precision: Precision::F32,
            };
            let options = TrainOptions { run: "bench".into(), threads: THREADS, checkpoints: None, checkpoint_every: 0 };
            let (mut times, mut waited, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
            train(&setup, &batches, &options, &mut |done: StepDone| {
                if done.step > 1 {
                    times.push(last.elapsed());
                    waited += done.waited;
                }
                last = Instant::now();
                Command::Continue
            })?;
            let all: Duration = times.iter().sum();
            times.sort();
            let (median, share) = (times[times.len() / 2].as_secs_f64() * 1e3, 100.0 * waited.as_secs_f64() / all.as_secs_f64());
            println!("{side} px: step {median:7.1} ms (median), waits {share:.3} % of the time: {augmentation:?}");
        }
    }
    Ok(())
}
