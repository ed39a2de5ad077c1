//! `ConvNeXt`: a stem, stages of blocks with a downsampling step before all but the first, the mean, a norm.

use super::super::ops::convnext_block::{ConvNextBlock, ConvNextShape};
use super::super::ops::{conv_stem::ConvStem, downsample::Downsample, map_pool::MapPool};
use super::super::program::{Init, ProgramBuilder, SlotIdx, Tower};
use super::{Encoded, patch_shape, project};
use crate::run::{ConvNextConfig, ModelConfig};

/// Side of the depthwise kernels.
const KERNEL: usize = 7;
/// Start of the scale of each residual branch.
const GAMMA: f32 = 1e-6;

/// Adds the image encoder's calls, from the pixel slot to normalised features.
///
/// **Source** Liu et al. 2022; parameter names are timm's, behind `open_clip`'s `visual.trunk`.
pub(super) fn describe(builder: &mut ProgramBuilder, model: &ModelConfig, config: &ConvNextConfig, pixels: SlotIdx) -> Encoded {
    #[expect(clippy::cast_possible_truncation, reason = "a constant of the norms is used in f32")]
    let eps = config.norm_eps as f32;
    let init = Init::Normal { std: 0.02 };
    let shape = patch_shape(model, config.stem_stride);
    let names = ("visual.trunk.stem.0", "visual.trunk.stem.1");
    let stem = ConvStem::describe(&mut builder.params, names, shape, config.width, eps, (init, Init::Constant(0.0)));
    let mut x = builder.call("image.stem".into(), Tower::Image, stem, &[pixels]);
    let (mut side, mut width) = (model.image_size / config.stem_stride, config.width);
    for (stage, depth) in config.depths.iter().enumerate() {
        let prefix = format!("visual.trunk.stages.{stage}");
        if stage > 0 {
            let channels = (width, 2 * width);
            let step = Downsample::describe(&mut builder.params, &format!("{prefix}.downsample"), side, channels, eps, init);
            (side, width) = (step.conv_shape.out_side(), 2 * width);
            x = builder.call(format!("image.downsample{stage}"), Tower::Image, step, &[x]);
        }
        for block in 0..*depth {
            let shape = ConvNextShape {
                side,
                width,
                kernel: KERNEL,
                mlp_width: 4 * width,
                activation: model.activation,
                eps,
                weights: init,
                gamma: GAMMA,
            };
            let op = ConvNextBlock::describe(&mut builder.params, &format!("{prefix}.blocks.{block}"), shape);
            x = builder.call(format!("image.stage{stage}.block{block}"), Tower::Image, op, &[x]);
        }
    }
    let gain = builder.params.vector("visual.trunk.head.norm.weight".into(), width, Init::Constant(1.0));
    let bias = builder.params.vector("visual.trunk.head.norm.bias".into(), width, Init::Constant(0.0));
    let pool = MapPool { pixels: side * side, width, norm: Some((gain, bias)), eps };
    let pooled = builder.call("image.pool".into(), Tower::Image, pool, &[x]);
    project(builder, model, width, pooled)
}
