//! `train:`, key by key, to config values.

use super::super::diagnostic::{Code, quoted_list};
use super::super::encoders::that_drop_tokens;
use super::super::scalar::{Count, Quantity, Share};
use super::super::types::{
    AugmentationSpec, GradClipSpec, LossSpec, Named, OptimizerSpec, RelativeDecay, ScalarOr, StrategySpec, WeightDecaySpec,
};
use super::{Problem, Warmup, size};
use crate::run::{
    Augmentation, DecayScale, LossConfig, ModelConfig, OptimizerConfig, SslConfig, StrategyConfig, TrainConfig, whole_patches,
};

const GRAD_CLIP_NORM: f64 = 1.0;
/// What a step at the peak rate takes away unless stated. **Source** the paper, section 3, by the convention of `big_vision`.
const RELATIVE_DECAY: f64 = 1e-4;
/// **Source** Zhai et al. 2023, section 3.2.
const LOGIT_BIAS_INIT: f64 = -10.0;
const FLIP_MASKED: f64 = 0.5;
const FLIP_MULTIPLIER: u64 = 2;
/// **Source** Mu et al. 2021, section 3 and appendix.
const SSL_WEIGHT: f64 = 1.0;
const SSL_TEMPERATURE: f64 = 0.1;
/// Hidden and output width of the projection. **Source** Mu et al. 2021, section 3.
const SSL_HEAD: (usize, usize) = (4096, 256);
/// Sides of images, pixels, below which the projection is smaller: four times the encoder's channels, and this output.
const SSL_SMALL_SIDE: usize = 64;
const SSL_SMALL_OUT: usize = 128;
/// What SLIP's contrastive loss sees. **Source** `main.py` of Mu et al. 2021.
const SLIP_CROP: Augmentation = Augmentation::CropFlip { min_area: 0.5, flip: 0.0 };

fn number(stated: Option<Quantity>, default: f64) -> f64 {
    stated.map_or(default, |q| q.0)
}

fn share(stated: Option<Share>, default: f64) -> f64 {
    stated.map_or(default, |s| s.0)
}

/// A strategy as stated: what it leaves open depends on the model and on the batch.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::spec) struct Strategy {
    /// Without its self-supervised loss.
    plain: StrategyConfig,
    ssl: Option<StatedSsl>,
}

/// A self-supervised loss as stated.
#[derive(Debug, Clone, Copy, PartialEq)]
struct StatedSsl {
    weight: f64,
    temperature: f64,
    hidden: Option<usize>,
    out: Option<usize>,
    bn_group: Option<usize>,
}

impl Strategy {
    /// Factor on the batch size.
    pub fn batch_multiplier(&self) -> u64 {
        self.plain.batch_multiplier
    }

    /// As data, for a model that sees `chunk` pairs at a time.
    pub fn of_run(&self, model: &ModelConfig, chunk: u64) -> StrategyConfig {
        StrategyConfig { ssl: self.ssl.map(|stated| stated.of_run(model, chunk)), ..self.plain.clone() }
    }
}

impl StatedSsl {
    fn of_run(self, model: &ModelConfig, chunk: u64) -> SslConfig {
        let Self { weight, temperature, hidden, out, bn_group } = self;
        let is_small = model.image_size < SSL_SMALL_SIDE;
        let head = if is_small { (4 * model.image_encoder.pooled_width(), SSL_SMALL_OUT) } else { SSL_HEAD };
        let (hidden, out) = (hidden.unwrap_or(head.0), out.unwrap_or(head.1));
        SslConfig { weight, temperature, hidden, out, bn_group: bn_group.unwrap_or(usize::try_from(chunk).unwrap_or(usize::MAX)) }
    }
}

/// The self-supervised loss that `strategy: slip` has unless more is stated, for a model that sees `chunk` pairs at a time.
#[must_use]
pub fn slip_loss(model: &ModelConfig, chunk: u64) -> SslConfig {
    let (hidden, out, bn_group) = (None, None, None);
    let stated = StatedSsl { weight: SSL_WEIGHT, temperature: SSL_TEMPERATURE, hidden, out, bn_group };
    stated.of_run(model, chunk)
}

/// The strategy as stated.
pub(in crate::spec) fn strategy(spec: StrategySpec) -> Result<Strategy, Vec<Problem>> {
    let mut problems = Vec::new();
    let (plain, ssl) = match spec {
        StrategySpec::Clip { augmentation } => {
            (StrategyConfig { augmentation: augment(augmentation, &mut problems), ..StrategyConfig::clip() }, None)
        }
        StrategySpec::Flip { augmentation, masked, unmasked_tuning, batch_multiplier } => {
            let masked = masked_share(masked, FLIP_MASKED, &mut problems);
            // Where nothing is masked there is nothing to unmask.
            let unmasked_tuning = if masked > 0.0 { share(unmasked_tuning, 0.0) } else { 0.0 };
            let batch_multiplier = batch_multiplier.map_or(FLIP_MULTIPLIER, |m| m.0);
            within(&mut problems, "train.strategy.batch_multiplier", batch_multiplier, 1 << 10);
            let augmentation = augment(augmentation, &mut problems);
            (StrategyConfig { augmentation, masked, unmasked_tuning, batch_multiplier, ssl: None }, None)
        }
        StrategySpec::Slip { augmentation, masked, ssl_weight, ssl_temperature, ssl_hidden, ssl_out, ssl_bn_group } => {
            let weight = number(ssl_weight, SSL_WEIGHT);
            let temperature = number(ssl_temperature, SSL_TEMPERATURE);
            above_zero(&mut problems, "train.strategy.ssl_weight", weight);
            above_zero(&mut problems, "train.strategy.ssl_temperature", temperature);
            let mut count = |key: &str, stated: Option<Count>, least: u64, most: u64| {
                let stated = stated?;
                let path = format!("train.strategy.{key}");
                if !(least..=most).contains(&stated.0) {
                    let message = format!("`{path}`: found {}, expected from {least} to {most}", stated.0);
                    problems.push(Problem::new(Code::Train, path, message));
                }
                Some(size(stated))
            };
            let hidden = count("ssl_hidden", ssl_hidden, 1, 1 << 16);
            let out = count("ssl_out", ssl_out, 1, 1 << 16);
            let bn_group = count("ssl_bn_group", ssl_bn_group, 2, 1 << 20);
            let augmentation = if augmentation.is_some() { augment(augmentation, &mut problems) } else { SLIP_CROP };
            let masked = masked_share(masked, 0.0, &mut problems);
            let ssl = StatedSsl { weight, temperature, hidden, out, bn_group };
            (StrategyConfig { augmentation, masked, ..StrategyConfig::clip() }, Some(ssl))
        }
    };
    if problems.is_empty() { Ok(Strategy { plain, ssl }) } else { Err(problems) }
}

fn masked_share(stated: Option<Share>, default: f64, problems: &mut Vec<Problem>) -> f64 {
    let masked = share(stated, default);
    if masked >= 1.0 {
        let message = "`train.strategy.masked`: found 100%, expected less: some patches must be left";
        problems.push(Problem::new(Code::Train, "train.strategy.masked", message).hint("for example `75%`"));
    }
    masked
}

fn augment(spec: Option<Named<AugmentationSpec>>, problems: &mut Vec<Problem>) -> Augmentation {
    let path = "train.strategy.augmentation";
    let mut strength = |layers: Option<Count>, magnitude: Option<Quantity>, default: f64| {
        let layers = layers.map_or(2, |c| u32::try_from(c.0).unwrap_or(u32::MAX));
        let magnitude = number(magnitude, default);
        if !(1..=16).contains(&layers) {
            problems.push(Problem::new(
                Code::Train,
                format!("{path}.layers"),
                format!("`{path}.layers`: found {layers}, expected from 1 to 16"),
            ));
        }
        if let Some(bin) = Augmentation::bin(magnitude) {
            return (layers, Augmentation::magnitude_of(bin));
        }
        let at = format!("{path}.magnitude");
        problems.push(if (0.0..=10.0).contains(&magnitude) {
            let message =
                format!("`{at}`: found {magnitude}, expected a third of a whole number: three times it is torchvision's magnitude");
            let [below, above] = [(3.0 * magnitude).floor(), (3.0 * magnitude).ceil()].map(|bin| bin / 3.0);
            Problem::new(Code::Train, at, message).hint(format!("the nearest are {below:.2} and {above:.2}"))
        } else {
            Problem::new(Code::Train, at.clone(), format!("`{at}`: found {magnitude}, expected from 0 to 10"))
        });
        (layers, magnitude)
    };
    match spec.map(|Named(a)| a) {
        None | Some(AugmentationSpec::None {}) => Augmentation::None,
        Some(AugmentationSpec::CropFlip { min_area, flip }) => {
            let (min_area, flip) = (share(min_area, 0.5), share(flip, 0.5));
            area(problems, min_area);
            Augmentation::CropFlip { min_area, flip }
        }
        Some(AugmentationSpec::RandAugment { layers, magnitude }) => {
            let (layers, magnitude) = strength(layers, magnitude, 3.0);
            Augmentation::RandAugment { layers, magnitude }
        }
        Some(AugmentationSpec::StackedRandAugment { layers, magnitude, min_area }) => {
            let (layers, magnitude) = strength(layers, magnitude, 10.0);
            let min_area = share(min_area, 0.08);
            area(problems, min_area);
            Augmentation::StackedRandAugment { layers, magnitude, min_area }
        }
    }
}

fn area(problems: &mut Vec<Problem>, min_area: f64) {
    if min_area <= 0.0 {
        let path = "train.strategy.augmentation.min_area";
        problems.push(Problem::new(Code::Train, path, format!("`{path}`: found 0%, expected a share of the area above 0%")));
    }
}

fn within(problems: &mut Vec<Problem>, path: &str, value: u64, most: u64) {
    if !(1..=most).contains(&value) {
        problems.push(Problem::new(Code::Train, path, format!("`{path}`: found {value}, expected from 1 to {most}")));
    }
}

fn above_zero(problems: &mut Vec<Problem>, path: &str, value: f64) {
    if value <= 0.0 {
        problems.push(Problem::new(Code::Train, path, format!("`{path}`: found {value}, expected a number above 0")));
    }
}

/// The optimiser with its constants.
pub(in crate::spec) fn optimizer(spec: Option<Named<OptimizerSpec>>) -> Result<OptimizerConfig, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut decay = |key: &str, value: f64| {
        if !(0.0..1.0).contains(&value) {
            let path = format!("train.optimizer.{key}");
            let message = format!("`{path}`: found {value}, expected from 0 to below 1");
            problems.push(Problem::new(Code::Train, path, message));
        }
        value
    };
    let config = match spec.map_or(OptimizerSpec::Adafactor { beta1: None, beta2_cap: None }, |Named(o)| o) {
        OptimizerSpec::Adafactor { beta1, beta2_cap } => OptimizerConfig::Adafactor {
            beta1: decay("beta1", number(beta1, 0.9)),
            beta2_cap: decay("beta2_cap", number(beta2_cap, 0.999)),
        },
        OptimizerSpec::Adamw { beta1, beta2, eps } => {
            let (beta1, beta2) = (decay("beta1", number(beta1, 0.9)), decay("beta2", number(beta2, 0.98)));
            let eps = number(eps, 1e-6);
            above_zero(&mut problems, "train.optimizer.eps", eps);
            OptimizerConfig::Adamw { beta1, beta2, eps }
        }
    };
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// The norm that gradients are clipped to.
pub(in crate::spec) fn grad_clip(spec: Option<GradClipSpec>) -> Option<f64> {
    spec.map_or(Some(GRAD_CLIP_NORM), |GradClipSpec(norm)| norm)
}

/// The loss on pairs.
pub(in crate::spec) fn loss(spec: Option<Named<LossSpec>>) -> Result<LossConfig, Vec<Problem>> {
    Ok(match spec {
        None | Some(Named(LossSpec::Contrastive {})) => LossConfig::Contrastive,
        Some(Named(LossSpec::Sigmoid { logit_bias_init })) => {
            LossConfig::Sigmoid { logit_bias_init: number(logit_bias_init, LOGIT_BIAS_INIT) }
        }
    })
}

/// The weight decay and what it is times.
pub(in crate::spec) fn weight_decay(spec: Option<WeightDecaySpec>) -> Result<(f64, DecayScale), Vec<Problem>> {
    let (value, scale, path) = match spec {
        None => (RELATIVE_DECAY, DecayScale::RelativeRate, "train.weight_decay.relative"),
        Some(ScalarOr::Scalar(decay)) => (decay.0, DecayScale::Rate, "train.weight_decay"),
        Some(ScalarOr::Map(RelativeDecay { relative })) => (relative.0, DecayScale::RelativeRate, "train.weight_decay.relative"),
    };
    let message = format!("`{path}`: found {value}, expected 0 or more");
    // A decay of nothing is one thing, whatever it is times.
    let scale = if value == 0.0 { DecayScale::Rate } else { scale };
    if value >= 0.0 { Ok((value, scale)) } else { Err(vec![Problem::new(Code::Train, path, message)]) }
}

/// Why patches of these images cannot be left out, where some are masked.
pub(in crate::spec) fn unmaskable(model: &ModelConfig, strategy: &StrategyConfig) -> Option<Problem> {
    if strategy.masked == 0.0 {
        return None;
    }
    let path = "train.strategy.masked";
    let Some(patches) = model.image_encoder.droppable(model.image_size) else {
        let (family, share) = (model.image_encoder.family(), (strategy.masked * 1e4).round() / 1e2);
        let message = format!("`{path}`: found {share}%, but `{family}` needs whole images: no patch of them can be left out");
        let others = quoted_list(&that_drop_tokens());
        let hint = format!("state `masked: 0%` or another strategy; patches can be left out of {others}");
        return Some(Problem::new(Code::Train, path, message).hint(hint));
    };
    (whole_patches(patches, strategy.masked) == 0).then(|| {
        let message = format!("`{path}` leaves no patch of an image");
        Problem::new(Code::Train, path, message).hint("mask less, or use smaller patches")
    })
}

/// Learning rates that something may learn at. Both optimisers move a parameter by about the rate in every step, and parameters
/// start between about 0.01 and 1: above, a step replaces what is there; below, it is lost in the rounding of f32.
const LEARNING_RATES: std::ops::RangeInclusive<f64> = 1e-7..=0.1;
/// The largest part of its matrices that a step may take away without a word: 1 % is gone to a third after 100 steps.
const LARGEST_DECAY: f64 = 0.01;

/// Says where a rate is far from what trains.
pub(in crate::spec) fn unusual_lr(lr: f64) -> Option<Problem> {
    let message = format!(
        "`train.lr`: found {lr}, expected from 1e-7 to 0.1: a step moves every parameter by about the rate, and parameters start \
         between about 0.01 and 1"
    );
    let problem = Problem::new(Code::Train, "train.lr", message);
    (!LEARNING_RATES.contains(&lr))
        .then(|| problem.hint("CLIP trains at 5e-4, the paper at 1e-3, small models at up to about 1e-2"))
}

/// What of a training may not have been meant; `stated` is its warm-up where the file says one, `warmup` that in steps before it is
/// cut to the budget.
pub(in crate::spec) fn doubts(train: &TrainConfig, stated: Option<Warmup>, warmup: u64) -> Vec<Problem> {
    let mut doubts = Vec::new();
    let steps = train.steps;
    if steps == 0 {
        return doubts;
    }
    if warmup >= steps {
        let message = format!(
            "`train.warmup`: found {warmup} steps, the budget has {steps}: the learning rate only rises, to its peak in the last step"
        );
        doubts.push(Problem::new(Code::Train, "train.warmup", message).hint("shorten it, for example to `5%`"));
    }
    if warmup == 0 && stated.is_some_and(|stated| !stated.is_none()) {
        let message = format!("`train.warmup` comes to less than half a step of a budget of {steps}: there is no warm-up");
        doubts.push(Problem::new(Code::Train, "train.warmup", message).hint("state it in steps, or `0`"));
    }
    let taken = 1.0 - train.decay_factor(train.lr);
    if taken > LARGEST_DECAY {
        let (path, hint) = match train.decay_scale {
            DecayScale::Rate => ("train.weight_decay", "CLIP's 0.2 at a rate of 5e-4 takes away 0.0001"),
            DecayScale::RelativeRate => {
                ("train.weight_decay.relative", "the paper has 1e-4 here; without `relative` the decay is also times the rate")
            }
        };
        let message = format!(
            "`{path}`: a step at the peak rate of {} takes away {taken:.3} of every matrix, expected at most {LARGEST_DECAY}",
            train.lr
        );
        doubts.push(Problem::new(Code::Train, path, message).hint(hint));
    }
    doubts
}
