//! Encoders as stacks of blocks: from a [`ModelConfig`] to a [`Program`] with `open_clip`'s parameter names (with a class token all
//! of them; [`save_model`](super::checkpoint::save_model) says what mean pooling lacks).
//!
//! Input: `run::ModelConfig` and how many patches are kept. Output: a `Program`. Invariant: pure. Must not know a backend.

mod convnext;
mod init;
mod mixer;
mod resnet;
mod slip;
mod swin;
mod text;
mod vit;

pub use init::initial_parameters;

pub use crate::run::kept_patches;

use super::ops::WeightLayout;
use super::ops::contrastive::{ContrastiveLoss, SigmoidLoss};
use super::ops::linear::LinearShape;
use super::ops::patchify::PatchShape;
use super::ops::project::Project;
use super::ops::transformer::BlockShape;
use super::program::{Init, InputKind, Logits, Matrix, Output, Program, ProgramBuilder, SlotIdx, Tower};
use crate::run::{ImageEncoderConfig, LossConfig, ModelConfig, SslConfig, TrainConfig, VitConfig};

/// What an image encoder's calls give.
struct Encoded {
    /// One row an image, before the projection.
    pooled: SlotIdx,
    /// Projected and normalised [1, E].
    features: SlotIdx,
}

/// What a training step computes beside the encoders, and how much of the images they see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// The loss on image-text pairs.
    pub loss: LossConfig,
    /// The self-supervised loss on two more views of the images (SLIP).
    pub ssl: Option<SslConfig>,
    /// Share of patches left out of each image, in [0, 1).
    pub masked: f64,
}

impl Recipe {
    /// The contrastive loss alone.
    ///
    /// `masked` is the share of patches left out of each image, in [0, 1).
    #[must_use]
    pub fn contrastive(masked: f64) -> Self {
        Self { loss: LossConfig::Contrastive, ssl: None, masked }
    }
    /// A step of a training that leaves out this share of patches.
    #[must_use]
    pub fn of(train: &TrainConfig, masked: f64) -> Self {
        Self { loss: train.loss, ssl: train.strategy.ssl, masked }
    }
    /// The model alone, as it is stored: no head of a self-supervised loss, nothing masked. Its parameters and state are the first ones
    /// of the training's program.
    #[must_use]
    pub fn stored(train: &TrainConfig) -> Self {
        Self { loss: train.loss, ssl: None, masked: 0.0 }
    }
}

/// Describes both encoders, with the contrastive loss where they are trained.
///
/// `masked` is the share of patches left out of each image, in [0, 1): 0 for evaluation.
#[must_use]
pub fn build(model: &ModelConfig, masked: f64) -> Program {
    build_with(model, &Recipe::contrastive(masked))
}

/// Describes both encoders and the losses of one step. The sigmoid loss has one parameter more, `logit_bias`, which no encoder
/// reads; a self-supervised loss has a head, whose parameters come last.
#[must_use]
pub fn build_with(model: &ModelConfig, recipe: &Recipe) -> Program {
    let Recipe { loss, ssl, masked } = *recipe;
    let mut builder = ProgramBuilder::default();
    let scalar = Matrix { count: 1, rows: 1, columns: 1 };
    #[expect(clippy::cast_possible_truncation, reason = "a learnt parameter starts as f32")]
    let start = Init::Constant(model.logit_scale_init.ln() as f32);
    let log_logit_scale = builder.params.param("logit_scale".into(), &[], scalar, start, false);
    let logit_bias = match loss {
        LossConfig::Contrastive => None,
        #[expect(clippy::cast_possible_truncation, reason = "a learnt parameter starts as f32")]
        LossConfig::Sigmoid { logit_bias_init } => {
            Some(builder.params.param("logit_bias".into(), &[], scalar, Init::Constant(logit_bias_init as f32), false))
        }
    };
    let image = builder.input("image.pixels", Tower::Image, InputKind::Image { side: model.image_size, view: 0 });
    let image = describe_image(&mut builder, model, masked, image);
    let text = text::describe(&mut builder, model);
    builder.output(Output::ImagePooled, image.pooled);
    builder.output(Output::ImageFeatures, image.features);
    builder.output(Output::TextFeatures, text);
    let (embed_dim, log_scale) = (model.embed_dim, log_logit_scale);
    match logit_bias {
        None => builder.loss("contrastive", 1.0, ContrastiveLoss { embed_dim, log_scale }, &[image.features, text]),
        Some(bias) => builder.loss("sigmoid", 1.0, SigmoidLoss { embed_dim, log_scale, bias }, &[image.features, text]),
    }
    if let Some(ssl) = &ssl {
        slip::describe(&mut builder, ssl, image.pooled);
    }
    builder.finish(Logits { log_scale: log_logit_scale, bias: logit_bias, scale_max: model.logit_scale_max }, model.embed_dim)
}

/// Adds the calls of the image encoder.
fn describe_image(builder: &mut ProgramBuilder, model: &ModelConfig, masked: f64, pixels: SlotIdx) -> Encoded {
    match &model.image_encoder {
        ImageEncoderConfig::Vit(config) => vit::describe(builder, model, config, masked, pixels),
        ImageEncoderConfig::Convnext(config) => convnext::describe(builder, model, config, pixels),
        ImageEncoderConfig::Swin(config) => swin::describe(builder, model, config, pixels),
        ImageEncoderConfig::Mixer(config) => mixer::describe(builder, model, config, pixels),
        ImageEncoderConfig::Resnet(config) => resnet::describe(builder, model, config, pixels),
    }
}

/// Adds the projection of a pooled row into the shared space, as `open_clip` puts it behind a trunk of timm.
fn project(builder: &mut ProgramBuilder, model: &ModelConfig, width: usize, pooled: SlotIdx) -> Encoded {
    let embed_dim = model.embed_dim;
    let shape = LinearShape { inputs: width, outputs: embed_dim, layout: WeightLayout::OutIn };
    let init = Init::Uniform { bound: vit::inverse_root(width) };
    let weight = builder.params.linear("visual.head.proj.weight".into(), &[embed_dim, width], 1, shape, init);
    let project = Project { width, embed_dim, weight };
    Encoded { pooled, features: builder.call("image.project".into(), Tower::Image, project, &[pooled]) }
}

/// How images are cut into patches.
#[expect(clippy::cast_possible_truncation, reason = "pixel statistics are used in f32")]
fn patch_shape(model: &ModelConfig, patch_size: usize) -> PatchShape {
    let narrow = |values: [f64; 3]| values.map(|value| value as f32);
    let (mean, std) = (narrow(model.pixel_mean), narrow(model.pixel_std));
    PatchShape { image_size: model.image_size, patch_size, mean, std }
}

/// A vision transformer's block: `PyTorch`'s defaults for the linear maps, as `open_clip` leaves them.
fn vision_block(model: &ModelConfig, vit: &VitConfig, tokens: usize) -> BlockShape {
    let (width, mlp_width) = (vit.width, vit.mlp_width);
    let uniform = |fan_in: usize| Init::Uniform { bound: vit::inverse_root(fan_in) };
    BlockShape {
        tokens,
        width,
        heads: vit.heads,
        mlp_width,
        causal: false,
        activation: model.activation,
        // Xavier over the stacked [3D, D] matrix: sqrt(6 / (fan_in + fan_out)) = sqrt(6 / 4D).
        qkv: Init::Uniform { bound: (1.5_f32).sqrt() * vit::inverse_root(width) },
        out: uniform(width),
        fc1: uniform(width),
        fc2: uniform(mlp_width),
        fc1_bias: uniform(width),
        fc2_bias: uniform(mlp_width),
    }
}

/// A text transformer's block: CLIP's depth-scaled normal init. **Differs**: the MLP's biases start at 0, where CLIP leaves PyTorch's
/// uniform default.
fn text_block(model: &ModelConfig) -> BlockShape {
    let text = &model.text_encoder;
    let normal = |std: f32| Init::Normal { std };
    let zero = Init::Constant(0.0);
    let attention = vit::inverse_root(text.width);
    let residual = attention * vit::inverse_root(2 * text.layers.max(1));
    BlockShape {
        tokens: text.context_length,
        width: text.width,
        heads: text.heads,
        mlp_width: text.mlp_width,
        causal: true,
        activation: model.activation,
        qkv: normal(attention),
        out: normal(residual),
        fc1: normal(vit::inverse_root(2 * text.width)),
        fc2: normal(residual),
        fc1_bias: zero,
        fc2_bias: zero,
    }
}
