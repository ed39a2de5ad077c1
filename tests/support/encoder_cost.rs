//! Parameters and forward multiply-accumulates of image encoders, counted from their configs: convolutions, linear maps and products
//! of attention, without the projection to the shared space. Written from the architectures' definitions, not from programs, so that
//! programs can be compared with it.

use scaledown::run::{ImageEncoderConfig, Pooling, VitConfig};

/// What one image costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Learnt numbers.
    pub parameters: usize,
    /// Forward multiply-accumulates.
    pub macs: usize,
    /// Channels that the projection reads.
    pub features: usize,
}

/// The cost at images of this side, pixels.
pub fn cost(encoder: &ImageEncoderConfig, side: usize) -> Cost {
    match encoder {
        ImageEncoderConfig::Vit(config) => vit(config, side),
    }
}

/// `open_clip`'s layout: no bias of the patches, and a norm before the blocks where it is asked for.
fn vit(config: &VitConfig, side: usize) -> Cost {
    let VitConfig { width, layers, heads: _, mlp_width, patch_size, pooling, pre_norm } = *config;
    let patches = (side / patch_size).pow(2);
    let class_token = usize::from(pooling == Pooling::ClassToken);
    let (tokens, pixels) = (patches + class_token, 3 * patch_size * patch_size);
    let matrices = 4 * width * width + 2 * width * mlp_width;
    let block = matrices + 9 * width + mlp_width;
    Cost {
        parameters: pixels * width
            + (tokens + class_token) * width
            + 2 * width * usize::from(pre_norm)
            + layers * block
            + 2 * width,
        macs: pixels * patches * width + layers * (tokens * matrices + 2 * tokens * tokens * width),
        features: width,
    }
}
