//! The training loop on a packed pool: FLIP's unmasked tuning, stopping and going on, divergence.

use std::path::Path;
use std::sync::Arc;

use scaledown::data::{Augmenter, BatchSource, Frame, Pack, Tokenizer, pack_training};
use scaledown::run::{
    Activation, Augmentation, DataSource, DecayScale, DeviceKind, ImageEncoderConfig, LossConfig, Milestone, ModelConfig,
    OptimizerConfig, Pooling, Precision, ScenesConfig, StrategyConfig, TextEncoderConfig, TokenizerConfig, TrainConfig, VitConfig,
};
use scaledown::trainer::checkpoint::Weights;
use scaledown::trainer::step::{Command, Ending, StepDone, TrainOptions, TrainSetup, Trained, Watcher, train};

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
        loss: LossConfig::Contrastive,
        batch_size: 8,
        accumulate: 1,
        steps: 12,
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

fn batches(folder: &Path) -> BatchSource {
    augmented(folder, Augmentation::None)
}

fn augmented(folder: &Path, augmentation: Augmentation) -> BatchSource {
    if !folder.join("pool").exists() {
        let source = DataSource::Scenes(ScenesConfig::of_seed(2));
        let frame = if augmentation.min_area().is_some() { Frame::whole(32) } else { Frame::centre(16) };
        pack_training(&source, Some(60), frame, &folder.join("pool"), &|_, _| {}).expect("scenes are rendered");
    }
    let pack = Arc::new(Pack::open(&folder.join("pool")).expect("a pool was packed"));
    let captions: Vec<&str> = (0..pack.len()).map(|sample| pack.caption(sample)).collect();
    let config = TokenizerConfig::Bpe { vocab_size: 400 };
    let tokenizer = Tokenizer::train(&config, captions.iter().copied()).expect("captions are enough");
    let encoded = Arc::new(tokenizer.encode_all(&captions, CONTEXT));
    let subset = (0..pack.len() as u32).collect();
    BatchSource::new(pack, encoded, subset, Augmenter::new(augmentation, 16).expect("an augmentation"), SEED)
        .expect("all of one data set")
}

fn options(checkpoints: &Path) -> TrainOptions {
    TrainOptions { run: "a run".into(), threads: 1, checkpoints: Some(checkpoints.to_path_buf()), checkpoint_every: 0 }
}

/// Trains, stopping after the steps in `stops` and going on each time.
fn run(config: &TrainConfig, batches: &BatchSource, stops: &[u64]) -> Trained {
    let checkpoints = tempfile::tempdir().expect("a folder");
    let options = options(checkpoints.path());
    let model = model();
    let setup =
        TrainSetup { model: &model, train: config, seed: SEED, init: None, device: DeviceKind::Cpu, precision: Precision::F32 };
    for stop in stops {
        let mut until = |done: StepDone| if done.step == *stop { Command::Stop } else { Command::Continue };
        let stopped = train(&setup, batches, &options, &mut until).expect("it trains");
        assert_eq!((stopped.ending, stopped.step), (Ending::Stopped, *stop));
    }
    train(&setup, batches, &options, &mut |_: StepDone| Command::Continue).expect("it trains")
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
fn initial_parameters_may_have_a_seed_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let batches = batches(folder.path());
    let (model, config) = (model(), flip(0.0));
    let drawn = |seed, init| {
        let setup = TrainSetup { model: &model, train: &config, seed, init, device: DeviceKind::Cpu, precision: Precision::F32 };
        let checkpoints = tempfile::tempdir().expect("a folder");
        train(&setup, &batches, &options(checkpoints.path()), &mut |_: StepDone| Command::Continue).expect("it trains").parameters
    };
    let whole = drawn(SEED, None);
    assert!(drawn(SEED, Some(SEED)) == whole);
    let (other_init, other_masks, other) = (drawn(SEED, Some(9)), drawn(9, Some(SEED)), drawn(9, None));
    assert!(other_init != whole && other_masks != whole && other != other_init && other != other_masks);
}

#[test]
fn weights_of_milestones_are_those_after_their_steps_stopped_or_not_and_change_no_other_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let batches = batches(folder.path());
    let at = |label: &str, step| Milestone { label: label.to_owned(), step };
    let config = TrainConfig { milestones: vec![at("10%", 1), at("50%", 6), at("all", 12)], ..flip(0.25) };
    let whole = run(&TrainConfig { milestones: Vec::new(), ..config.clone() }, &batches, &[]);
    let model = model();
    let setup =
        TrainSetup { model: &model, train: &config, seed: SEED, init: None, device: DeviceKind::Cpu, precision: Precision::F32 };
    let expected = |steps| {
        // The rate follows the steps of the whole run: it is stopped, not shortened.
        let checkpoints = tempfile::tempdir().expect("a folder");
        let options = options(checkpoints.path());
        let mut until = |done: StepDone| if done.step == steps { Command::Stop } else { Command::Continue };
        let plain = TrainConfig { milestones: Vec::new(), ..config.clone() };
        let stopped = train(&TrainSetup { train: &plain, ..setup }, &batches, &options, &mut until).expect("it trains");
        stopped.parameters
    };
    let (first, sixth) = (expected(1), expected(6));
    assert!(first != sixth && sixth != whole.parameters);
    for stops in [vec![], vec![3], vec![6], vec![5, 6, 7], vec![1, 9]] {
        let checkpoints = tempfile::tempdir().expect("a folder");
        let options = options(checkpoints.path());
        for stop in &stops {
            let mut until = |done: StepDone| if done.step == *stop { Command::Stop } else { Command::Continue };
            train(&setup, &batches, &options, &mut until).expect("it trains");
        }
        let ended = train(&setup, &batches, &options, &mut |_: StepDone| Command::Continue).expect("it trains");
        assert!(ended == whole, "stopped after {stops:?}");
        let kept = |step| Weights::load_kept(checkpoints.path(), "a run", step).map(|weights| weights.parameters);
        assert!(kept(1).expect("it is kept") == first && kept(6).expect("it is kept") == sixth, "stopped after {stops:?}");
        assert!(kept(12).is_err(), "the end is no weights to be kept");
    }
}

#[test]
fn a_run_whose_kept_weights_are_lost_makes_them_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let batches = batches(folder.path());
    let milestones = vec![Milestone { label: "50%".into(), step: 6 }];
    let (config, model) = (TrainConfig { milestones, ..flip(0.0) }, model());
    let setup =
        TrainSetup { model: &model, train: &config, seed: SEED, init: None, device: DeviceKind::Cpu, precision: Precision::F32 };
    let checkpoints = tempfile::tempdir().expect("a folder");
    let options = options(checkpoints.path());
    for stop in [4, 8] {
        let mut until = |done: StepDone| if done.step == stop { Command::Stop } else { Command::Continue };
        train(&setup, &batches, &options, &mut until).expect("it trains");
    }
    let weights = || Weights::load_kept(checkpoints.path(), "a run", 6);
    let before = weights().expect("they are kept");
    std::fs::remove_file(checkpoints.path().join("weights-000000000006")).expect("it is there");
    let mut warned = Warned::default();
    train(&setup, &batches, &options, &mut warned).expect("it trains");
    assert_eq!(weights().expect("they are kept again"), before);
    assert!(warned.first == Some(5) && warned.said.len() == 1, "it goes on from step 4: {:?} {:?}", warned.first, warned.said);
    assert!(warned.said[0].contains("weights-000000000006") && warned.said[0].contains("4 steps done"), "{:?}", warned.said);
}

/// The first step that was done, and what was warned of.
#[derive(Default)]
struct Warned {
    first: Option<u64>,
    said: Vec<String>,
}

impl Watcher for Warned {
    fn step(&mut self, done: StepDone) -> Command {
        self.first.get_or_insert(done.step);
        Command::Continue
    }
    fn warn(&mut self, message: String) {
        self.said.push(message);
    }
}

#[test]
fn augmented_runs_have_the_same_bytes_stopped_or_not_and_each_its_own() {
    let config = TrainConfig { steps: 6, ..flip(0.0) };
    let stacked = Augmentation::StackedRandAugment { layers: 2, magnitude: 10.0, min_area: 0.08 };
    let mut losses = Vec::new();
    for augmentation in [Augmentation::None, Augmentation::RandAugment { layers: 2, magnitude: 3.0 }, stacked] {
        let folder = tempfile::tempdir().expect("a folder");
        let batches = augmented(folder.path(), augmentation);
        let whole = run(&config, &batches, &[]);
        assert_eq!(whole.ending, Ending::Finished);
        assert!(run(&config, &batches, &[1, 4]) == whole, "stopped and gone on: {augmentation:?}");
        losses.push(whole.curve[5].loss);
    }
    assert!(losses[0] != losses[1] && losses[1] != losses[2], "{losses:?}");
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

/// The last update is followed by no loss that could show it: its parameters are looked at.
#[test]
fn a_last_update_that_is_not_finite_is_a_divergence() {
    let folder = tempfile::tempdir().expect("a folder");
    let batches = batches(folder.path());
    let adafactor = OptimizerConfig::Adafactor { beta1: 0.9, beta2_cap: 0.999 };
    for optimizer in [flip(0.0).optimizer, adafactor] {
        let once = TrainConfig { steps: 1, warmup_steps: 0, optimizer, ..flip(0.0) };
        let cases = [
            TrainConfig { lr: 3e39, ..once.clone() },
            TrainConfig { weight_decay: 1e45, ..once.clone() },
            TrainConfig { weight_decay: 1e45, decay_scale: DecayScale::RelativeRate, ..once.clone() },
        ];
        for config in cases {
            let found = run(&config, &batches, &[]);
            let Ending::Diverged { what } = &found.ending else { panic!("{config:?}: {:?}", found.ending) };
            assert!(what.contains("after step 1, the last") && what.starts_with("parameter `"), "{what}");
        }
        assert_eq!(run(&once, &batches, &[]).ending, Ending::Finished);
    }
}

#[test]
fn the_sigmoid_loss_is_trained_on_from_its_own_scale_and_bias_and_stops_change_no_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let batches = batches(folder.path());
    let loss = LossConfig::Sigmoid { logit_bias_init: -10.0 };
    let config = TrainConfig { loss, steps: 40, lr: 3e-3, ..flip(0.25) };
    let whole = run(&config, &batches, &[]);
    assert_eq!(whole.ending, Ending::Finished);
    let losses: Vec<f64> = whole.curve.iter().map(|point| point.loss).collect();
    // At the start each of the 16 pairs of a batch is a question answered wrongly by a margin of about the bias.
    assert!(losses[0] > 2.0 && losses[0] < 25.0, "starts at {}", losses[0]);
    let (early, late) = (losses[..5].iter().sum::<f64>() / 5.0, losses[35..].iter().sum::<f64>() / 5.0);
    assert!(late < 0.7 * early, "from {early} to {late}: {losses:.2?}");
    assert!(run(&config, &batches, &[7, 31]) == whole, "stopped and gone on");
    let contrastive = run(&TrainConfig { loss: LossConfig::Contrastive, ..config }, &batches, &[]);
    assert_eq!(whole.parameters.len(), contrastive.parameters.len() + 1, "the bias is a parameter");
}

/// A watcher that never stops and keeps what it is told.
#[derive(Default)]
struct Told {
    first_step: Option<u64>,
    warnings: Vec<String>,
}

impl Watcher for Told {
    fn step(&mut self, done: StepDone) -> Command {
        self.first_step.get_or_insert(done.step);
        Command::Continue
    }
    fn warn(&mut self, message: String) {
        self.warnings.push(message);
    }
}

#[test]
fn a_checkpoint_that_cannot_be_used_is_said_with_where_the_run_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let batches = batches(folder.path());
    let (config, model) = (flip(0.0), model());
    let setup =
        TrainSetup { model: &model, train: &config, seed: SEED, init: None, device: DeviceKind::Cpu, precision: Precision::F32 };
    let whole = run(&config, &batches, &[]);
    for (damaged, expected) in [(1, "goes on from the checkpoint before it, 4 steps done"), (2, "starts again from step 0")] {
        let place = tempfile::tempdir().expect("a folder");
        let checkpoints = Some(place.path().to_path_buf());
        let options = TrainOptions { run: "a run".into(), threads: 1, checkpoints, checkpoint_every: 4 };
        let mut until = |done: StepDone| if done.step == 9 { Command::Abandon } else { Command::Continue };
        train(&setup, &batches, &options, &mut until).expect("it trains");
        let mut names: Vec<_> =
            std::fs::read_dir(place.path()).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        names.sort();
        assert_eq!(names.len(), 2);
        names.iter().rev().take(damaged).for_each(|path| std::fs::write(path, b"no checkpoint").expect("it can be written"));
        let mut told = Told::default();
        let found = train(&setup, &batches, &options, &mut told).expect("it trains");
        assert!(found == whole, "the same bytes wherever it goes on");
        assert_eq!((told.first_step, told.warnings.len()), (Some(if damaged == 1 { 5 } else { 1 }), damaged));
        for (warning, path) in told.warnings.iter().zip(names.iter().rev()) {
            assert!(warning.contains(expected) && warning.contains(&path.display().to_string()), "{warning}");
        }
    }
}

#[test]
fn a_batch_that_is_larger_than_the_subset_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let batches = batches(folder.path());
    let (config, model) = (TrainConfig { batch_size: 31, ..flip(0.0) }, model());
    let setup =
        TrainSetup { model: &model, train: &config, seed: SEED, init: None, device: DeviceKind::Cpu, precision: Precision::F32 };
    let options = TrainOptions { run: "a run".into(), threads: 1, checkpoints: None, checkpoint_every: 0 };
    let error = train(&setup, &batches, &options, &mut |_: StepDone| Command::Continue).expect_err("62 of 60");
    assert_eq!(error.to_string(), "a batch of 62 pairs is larger than the subset of 60 samples");
    assert!(error.hint().is_some_and(|hint| hint.contains("train.batch_size")));
}
