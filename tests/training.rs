//! The training loop on a packed pool: FLIP's unmasked tuning, stopping and going on, divergence.

use std::path::Path;
use std::sync::Arc;

use scaledown::data::{Augmenter, BatchSource, Frame, Pack, Tokenizer, pack_training};
use scaledown::run::{
    Activation, Augmentation, DataSource, DeviceKind, ImageEncoderConfig, ModelConfig, OptimizerConfig, Pooling, Precision,
    StrategyConfig, TextEncoderConfig, TokenizerConfig, TrainConfig, VitConfig,
};
use scaledown::trainer::step::{Command, Ending, StepDone, TrainOptions, TrainSetup, Trained, train};

const CONTEXT: usize = 8;
const SEED: u64 = 3;

fn model() -> ModelConfig {
    ModelConfig {
        image_encoder: ImageEncoderConfig::Vit(VitConfig {
            width: 24,
            layers: 1,
            heads: 2,
            mlp_width: 48,
            patch_size: 4,
            pooling: Pooling::Mean,
            pre_norm: false,
        }),
        text_encoder: TextEncoderConfig { width: 16, layers: 1, heads: 2, mlp_width: 32, context_length: CONTEXT, vocab_size: 400 },
        embed_dim: 16,
        image_size: 16,
        activation: Activation::Gelu,
        logit_scale_init: 1.0 / 0.07,
        logit_scale_max: 100.0,
        pixel_mean: [0.5; 3],
        pixel_std: [0.25; 3],
    }
}

fn flip(unmasked_tuning: f64) -> TrainConfig {
    TrainConfig {
        strategy: StrategyConfig { augmentation: Augmentation::None, masked: 0.5, unmasked_tuning, batch_multiplier: 2, ssl: None },
        batch_size: 8,
        accumulate: 1,
        steps: 12,
        lr: 1e-3,
        warmup_steps: 2,
        optimizer: OptimizerConfig::Adamw { beta1: 0.9, beta2: 0.98, eps: 1e-6 },
        weight_decay: 0.1,
        grad_clip_norm: Some(1.0),
        lanes: 8,
    }
}

fn batches(folder: &Path) -> BatchSource {
    if !folder.join("pool").exists() {
        let source = DataSource::Scenes { world_seed: 2 };
        pack_training(&source, Some(60), Frame::centre(16), &folder.join("pool"), &|_, _| {}).expect("scenes are rendered");
    }
    let pack = Arc::new(Pack::open(&folder.join("pool")).expect("a pool was packed"));
    let captions: Vec<&str> = (0..pack.len()).map(|sample| pack.caption(sample)).collect();
    let config = TokenizerConfig::Bpe { vocab_size: 400 };
    let tokenizer = Tokenizer::train(&config, captions.iter().copied()).expect("captions are enough");
    let encoded = Arc::new(tokenizer.encode_all(&captions, CONTEXT));
    let subset = (0..pack.len() as u32).collect();
    BatchSource::new(pack, encoded, subset, Augmenter::new(Augmentation::None, 16).expect("nothing to build"), SEED)
        .expect("all of one data set")
}

/// Trains, stopping after the steps in `stops` and going on each time.
fn run(config: &TrainConfig, batches: &BatchSource, stops: &[u64]) -> Trained {
    let checkpoints = tempfile::tempdir().expect("a folder");
    let options =
        TrainOptions { run: "a run".into(), threads: 1, checkpoints: Some(checkpoints.path().to_path_buf()), checkpoint_every: 0 };
    let model = model();
    let setup = TrainSetup { model: &model, train: config, seed: SEED, device: DeviceKind::Cpu, precision: Precision::F32 };
    for stop in stops {
        let mut until = |done: StepDone| if done.step == *stop { Command::Stop } else { Command::Continue };
        let stopped = train(&setup, batches, &options, &mut until).expect("it trains");
        assert_eq!((stopped.ending, stopped.step), (Ending::Stopped, *stop));
    }
    train(&setup, batches, &options, &mut |_| Command::Continue).expect("it trains")
}

#[test]
fn the_last_steps_of_flip_see_whole_images_and_a_stop_anywhere_changes_no_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let batches = batches(folder.path());
    let config = flip(0.25);
    assert_eq!(config.masked_steps(), 9);
    let whole = run(&config, &batches, &[]);
    assert_eq!(whole.ending, Ending::Finished);
    for stops in [vec![4], vec![9], vec![10], vec![8, 9, 11]] {
        let resumed = run(&config, &batches, &stops);
        assert!(resumed == whole, "stopped after {stops:?}");
    }
    let untuned = run(&flip(0.0), &batches, &[]);
    assert_eq!(untuned.curve[..9], whole.curve[..9], "masked steps are those of plain FLIP");
    assert_ne!(untuned.curve[9].loss, whole.curve[9].loss, "the tenth step sees whole images");
}

#[test]
fn a_run_that_diverges_ends_at_its_first_bad_step_with_the_curve_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let batches = batches(folder.path());
    let config = TrainConfig { lr: 1e30, warmup_steps: 0, grad_clip_norm: None, ..flip(0.0) };
    let found = run(&config, &batches, &[]);
    let Ending::Diverged { what } = &found.ending else { panic!("{:?}", found.ending) };
    assert!(what.contains(&format!("at step {}", found.step)), "{what}");
    assert!(found.step <= 4 && found.curve.len() as u64 == found.step - 1, "{} steps, {:?}", found.step, found.curve);
}
