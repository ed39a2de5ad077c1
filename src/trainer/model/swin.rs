//! A Swin transformer: a stem, stages of blocks with a merging step before all but the first, a norm, the mean.

use super::super::ops::mlp::MapInit;
use super::super::ops::swin_block::{SwinBlock, SwinShape};
use super::super::ops::token_pool::{Pooled, TokenPool};
use super::super::ops::{conv_stem::ConvStem, patch_merge::PatchMerge};
use super::super::program::{Init, ProgramBuilder, SlotIdx, Tower};
use super::{Encoded, patch_shape, project, vit::inverse_root};
use crate::run::{ModelConfig, SwinConfig};

/// Adds the image encoder's calls, from the pixel slot to normalised features.
///
/// **Source** Liu et al. 2021; parameter names and what a small map does are timm's, behind `open_clip`'s `visual.trunk`.
pub(super) fn describe(builder: &mut ProgramBuilder, model: &ModelConfig, config: &SwinConfig, pixels: SlotIdx) -> Encoded {
    #[expect(clippy::cast_possible_truncation, reason = "a constant of the norms is used in f32")]
    let eps = config.norm_eps as f32;
    let start = Init::Normal { std: 0.02 };
    let init = MapInit { weight: start, bias: Init::Constant(0.0) };
    let shape = patch_shape(model, config.stem_stride);
    // PyTorch's default of a convolution.
    let stem_init = Init::Uniform { bound: inverse_root(shape.row_len()) };
    let names = ("visual.trunk.patch_embed.proj", "visual.trunk.patch_embed.norm");
    let stem = ConvStem::describe(&mut builder.params, names, shape, config.width, eps, (stem_init, stem_init));
    let mut x = builder.call("image.stem".into(), Tower::Image, stem, &[pixels]);
    let (mut side, mut width) = (model.image_size / config.stem_stride, config.width);
    for (stage, (depth, heads)) in config.depths.iter().zip(&config.heads).enumerate() {
        let prefix = format!("visual.trunk.layers.{stage}");
        if stage > 0 {
            let step = PatchMerge::describe(&mut builder.params, &format!("{prefix}.downsample"), (side, width), eps, start);
            (side, width) = (side / 2, 2 * width);
            x = builder.call(format!("image.merge{stage}"), Tower::Image, step, &[x]);
        }
        for block in 0..*depth {
            let (window, shift) = SwinShape::window_and_shift(side, config.window, block);
            let shape = SwinShape {
                side,
                window,
                shift,
                width,
                heads: *heads,
                mlp_width: 4 * width,
                activation: model.activation,
                eps,
                init,
                table: start,
            };
            let op = SwinBlock::describe(&mut builder.params, &format!("{prefix}.blocks.{block}"), shape);
            x = builder.call(format!("image.stage{stage}.block{block}"), Tower::Image, op, &[x]);
        }
    }
    let gain = builder.params.vector("visual.trunk.norm.weight".into(), width, Init::Constant(1.0));
    let bias = builder.params.vector("visual.trunk.norm.bias".into(), width, Init::Constant(0.0));
    let pool = TokenPool { tokens: side * side, width, pooling: Pooled::Mean, eps, gain, bias };
    let pooled = builder.call("image.pool".into(), Tower::Image, pool, &[x]);
    project(builder, model, width, pooled)
}
