//! A residual network of bottleneck blocks: a stem, stages whose first block halves the map, the mean.

use super::super::ops::batch_norm::op::{BatchNorm, BatchNormShape};
use super::super::ops::conv::{ConvShape, op::Conv2d};
use super::super::ops::group_norm::{GroupNormShape, op::GroupNorm};
use super::super::ops::pool2d::{MaxPoolShape, op::MaxPool};
use super::super::ops::{map_pool::MapPool, pixels::Pixels};
use super::super::program::{Init, ProgramBuilder, SlotIdx, Tower};
use super::{Encoded, patch_shape, project};
use crate::run::{ModelConfig, ResNetConfig, ResNetNorm};

/// Channels that a block puts out over its inner ones.
const EXPANSION: usize = 4;

/// A map on its way through the network.
#[derive(Debug, Clone, Copy)]
struct Map {
    slot: SlotIdx,
    side: usize,
    channels: usize,
}

/// What stands behind a convolution.
#[derive(Debug, Clone, Copy)]
struct Behind {
    /// Start of the norm's gain.
    gain: f32,
    relu: bool,
    /// Added between the norm and ReLU.
    residual: Option<SlotIdx>,
}

/// Adds calls under timm's names.
struct Describer<'a> {
    builder: &'a mut ProgramBuilder,
    norm: ResNetNorm,
    eps: f32,
}

impl Describer<'_> {
    /// A convolution without a bias and its norm; `names` are theirs behind `visual.trunk.`, `kernel` is side and stride.
    fn conv(&mut self, names: (String, String), x: Map, outputs: usize, kernel: (usize, usize), behind: Behind) -> Map {
        let (kernel, stride) = kernel;
        let shape = ConvShape { side: x.side, inputs: x.channels, outputs, kernel, stride, padding: kernel / 2 };
        // N(0, 2 / (k k outputs)), as torchvision and timm start a convolution before ReLU.
        let init = Init::Normal { std: he_fan_out(kernel, outputs) };
        let (conv, norm) = names;
        let op = Conv2d::describe(&mut self.builder.params, &format!("visual.trunk.{conv}"), shape, init);
        let slot = self.builder.call(format!("image.{conv}"), Tower::Image, op, &[x.slot]);
        self.norm(&norm, Map { slot, side: shape.out_side(), channels: outputs }, behind)
    }

    fn norm(&mut self, name: &str, x: Map, behind: Behind) -> Map {
        let Behind { gain, relu, residual } = behind;
        let (pixels, width, eps) = (x.side * x.side, x.channels, self.eps);
        let inputs: Vec<SlotIdx> = std::iter::once(x.slot).chain(residual).collect();
        let (call, name) = (format!("image.{name}"), format!("visual.trunk.{name}"));
        let slot = match self.norm {
            ResNetNorm::Batch { group } => {
                let shape = BatchNormShape { pixels, width, group, eps, relu };
                let op = BatchNorm::describe(&mut self.builder.params, &mut self.builder.state, &name, shape, gain);
                self.builder.call(call, Tower::Image, op, &inputs)
            }
            ResNetNorm::Group { groups } => {
                let shape = GroupNormShape { pixels, channels: width, groups, eps };
                let op = GroupNorm::describe(&mut self.builder.params, &name, shape, gain, relu);
                self.builder.call(call, Tower::Image, op, &inputs)
            }
        };
        Map { slot, ..x }
    }

    /// A bottleneck block (v1.5: the stride is in the 3x3 convolution); the last norm's gain starts at 0.
    fn block(&mut self, prefix: &str, x: Map, inner: usize, stride: usize) -> Map {
        let names = |conv: &str, norm: &str| (format!("{prefix}.{conv}"), format!("{prefix}.{norm}"));
        let plain = Behind { gain: 1.0, relu: true, residual: None };
        let y = self.conv(names("conv1", "bn1"), x, inner, (1, 1), plain);
        let y = self.conv(names("conv2", "bn2"), y, inner, (3, stride), plain);
        let outputs = EXPANSION * inner;
        let around = if stride == 1 && x.channels == outputs {
            x
        } else {
            self.conv(names("downsample.0", "downsample.1"), x, outputs, (1, stride), Behind { relu: false, ..plain })
        };
        let last = Behind { gain: 0.0, relu: true, residual: Some(around.slot) };
        self.conv(names("conv3", "bn3"), y, outputs, (1, 1), last)
    }
}

/// Adds the image encoder's calls, from the pixel slot to normalised features.
///
/// **Source** He et al. 2016 with the stride of torchvision's v1.5; parameter names are timm's, behind `open_clip`'s `visual.trunk`.
pub(super) fn describe(builder: &mut ProgramBuilder, model: &ModelConfig, config: &ResNetConfig, pixels: SlotIdx) -> Encoded {
    let statistics = patch_shape(model, model.image_size);
    let op = Pixels { image_size: model.image_size, mean: statistics.mean, std: statistics.std };
    let slot = builder.call("image.pixels.f32".into(), Tower::Image, op, &[pixels]);
    #[expect(clippy::cast_possible_truncation, reason = "a constant of the norms is used in f32")]
    let mut net = Describer { builder, norm: config.norm, eps: config.norm_eps as f32 };
    let x = Map { slot, side: model.image_size, channels: 3 };
    let plain = Behind { gain: 1.0, relu: true, residual: None };
    let mut x = net.conv(("conv1".into(), "bn1".into()), x, config.width, (config.stem_kernel, 2), plain);
    if config.stem_pool {
        let shape = MaxPoolShape { side: x.side, channels: x.channels, kernel: 3, stride: 2, padding: 1 };
        let slot = net.builder.call("image.maxpool".into(), Tower::Image, MaxPool { shape }, &[x.slot]);
        x = Map { slot, side: shape.out_side(), ..x };
    }
    for (stage, depth) in config.depths.iter().enumerate() {
        for block in 0..*depth {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = net.block(&format!("layer{}.{block}", stage + 1), x, config.width << stage, stride);
        }
    }
    let pool = MapPool { pixels: x.side * x.side, width: x.channels, norm: None, eps: net.eps };
    let pooled = net.builder.call("image.pool".into(), Tower::Image, pool, &[x.slot]);
    project(net.builder, model, x.channels, pooled)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "an initial scale")]
fn he_fan_out(kernel: usize, outputs: usize) -> f32 {
    (2.0 / (kernel * kernel * outputs) as f64).sqrt() as f32
}
