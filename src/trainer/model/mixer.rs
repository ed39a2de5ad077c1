//! An MLP-Mixer: patches, blocks, a norm, the mean.

use super::super::ops::linear::LinearShape;
use super::super::ops::mixer_block::{MixerBlock, MixerShape};
use super::super::ops::mlp::MapInit;
use super::super::ops::token_pool::{Pooled, TokenPool};
use super::super::ops::{WeightLayout, patch_embed::PatchEmbed};
use super::super::program::{Init, ProgramBuilder, SlotIdx, Tower};
use super::{Encoded, patch_shape, project, vit::inverse_root};
use crate::run::{MixerConfig, ModelConfig};

/// Adds the image encoder's calls, from the pixel slot to normalised features.
///
/// **Source** Tolstikhin et al. 2021; parameter names are timm's, behind `open_clip`'s `visual.trunk`.
pub(super) fn describe(builder: &mut ProgramBuilder, model: &ModelConfig, config: &MixerConfig, pixels: SlotIdx) -> Encoded {
    #[expect(clippy::cast_possible_truncation, reason = "a constant of the norms is used in f32")]
    let eps = config.norm_eps as f32;
    let (width, tokens) = (config.width, (model.image_size / config.patch_size).pow(2));
    let stem = stem(builder, model, config, tokens);
    let mut x = builder.call("image.stem".into(), Tower::Image, stem, &[pixels]);
    let shape = MixerShape {
        tokens,
        width,
        token_hidden: config.token_mlp_width,
        mlp_width: config.mlp_width,
        activation: model.activation,
        eps,
        token_init: [map_init(tokens, config.token_mlp_width); 2],
        init: [map_init(width, config.mlp_width); 2],
    };
    for layer in 0..config.layers {
        let block = MixerBlock::describe(&mut builder.params, &format!("visual.trunk.blocks.{layer}"), shape);
        x = builder.call(format!("image.block{layer}"), Tower::Image, block, &[x]);
    }
    let gain = builder.params.vector("visual.trunk.norm.weight".into(), width, Init::Constant(1.0));
    let bias = builder.params.vector("visual.trunk.norm.bias".into(), width, Init::Constant(0.0));
    let pool = TokenPool { tokens, width, pooling: Pooled::Mean, eps, gain, bias };
    let pooled = builder.call("image.pool".into(), Tower::Image, pool, &[x]);
    project(builder, model, width, pooled)
}

/// Patches to tokens, with a bias; the weight starts LeCun-normal.
fn stem(builder: &mut ProgramBuilder, model: &ModelConfig, config: &MixerConfig, tokens: usize) -> PatchEmbed {
    let (shape, width) = (patch_shape(model, config.patch_size), config.width);
    let (inputs, patch) = (shape.row_len(), config.patch_size);
    let linear = LinearShape { inputs, outputs: width, layout: WeightLayout::OutIn };
    let init = Init::Normal { std: inverse_root(inputs) };
    let weight = builder.params.linear("visual.trunk.stem.proj.weight".into(), &[width, 3, patch, patch], 1, linear, init);
    let bias = Some(builder.params.vector("visual.trunk.stem.proj.bias".into(), width, Init::Constant(0.0)));
    PatchEmbed { shape, width, patches: tokens, kept: tokens, weight, bias, class_token: None, positions: None, norm: None }
}

/// Xavier-uniform, the same for a map and the one back; biases about 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "an initial scale")]
fn map_init(a: usize, b: usize) -> MapInit {
    MapInit { weight: Init::Uniform { bound: (6.0 / (a + b) as f64).sqrt() as f32 }, bias: Init::Normal { std: 1e-6 } }
}
