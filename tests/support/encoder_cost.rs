//! Parameters and forward multiply-accumulates of image encoders, counted from their configs: convolutions, linear maps and products
//! of attention, without the projection to the shared space. Written from the architectures' definitions, not from programs, so that
//! programs can be compared with it.

use scaledown::run::{ConvNextConfig, ImageEncoderConfig, MixerConfig, Pooling, ResNetConfig, ResNetNorm, SwinConfig, VitConfig};

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
        ImageEncoderConfig::Resnet(config) => resnet(config, side),
        ImageEncoderConfig::Convnext(config) => convnext(config, side),
        ImageEncoderConfig::Swin(config) => swin(config, side),
        ImageEncoderConfig::Mixer(config) => mixer(config, side),
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

/// The stride is in the 3x3 convolution; no convolution has a bias.
fn resnet(config: &ResNetConfig, side: usize) -> Cost {
    let ResNetConfig { width, depths, stem_kernel, stem_pool, norm, norm_eps: _ } = config;
    // Both norms have a gain and a bias a channel.
    let affine = |channels: usize| match norm {
        ResNetNorm::Batch { .. } | ResNetNorm::Group { .. } => 2 * channels,
    };
    let stem = 3 * stem_kernel * stem_kernel * width;
    let mut side = side.div_ceil(2);
    let (mut parameters, mut macs) = (stem + affine(*width), side * side * stem);
    if *stem_pool {
        side = side.div_ceil(2);
    }
    let mut channels = *width;
    for (stage, depth) in depths.iter().enumerate() {
        let (inner, outer) = (width << stage, 4 * (width << stage));
        for block in 0..*depth {
            let before = side * side;
            if stage > 0 && block == 0 {
                side = side.div_ceil(2);
            }
            let after = side * side;
            let (reduce, middle, expand) = (channels * inner, 9 * inner * inner, inner * outer);
            parameters += reduce + middle + expand + 2 * affine(inner) + affine(outer);
            macs += before * reduce + after * (middle + expand);
            if block == 0 {
                parameters += channels * outer + affine(outer);
                macs += after * channels * outer;
            }
            channels = outer;
        }
    }
    Cost { parameters, macs, features: channels }
}

fn convnext(config: &ConvNextConfig, side: usize) -> Cost {
    let ConvNextConfig { width, depths, stem_stride, norm_eps: _ } = config;
    let stem = 3 * stem_stride * stem_stride * width;
    let mut places = (side / stem_stride).pow(2);
    let (mut parameters, mut macs) = (stem + 3 * width, places * stem);
    for (stage, depth) in depths.iter().enumerate() {
        let channels = width << stage;
        if stage > 0 {
            // Norm, then 2x2 with stride 2.
            let (below, reduce) = (channels / 2, 2 * channels * channels);
            places /= 4;
            parameters += 2 * below + reduce + channels;
            macs += places * reduce;
        }
        let matrices = 49 * channels + 8 * channels * channels;
        // Biases of the three, norm, layer scale.
        parameters += depth * (matrices + (1 + 4 + 1 + 2 + 1) * channels);
        macs += depth * places * matrices;
    }
    let features = width << (depths.len() - 1);
    Cost { parameters: parameters + 2 * features, macs, features }
}

fn swin(config: &SwinConfig, side: usize) -> Cost {
    let SwinConfig { width, depths, heads, window, stem_stride, norm_eps: _ } = config;
    let stem = 3 * stem_stride * stem_stride * width;
    let mut side = side / stem_stride;
    let (mut parameters, mut macs) = (stem + 3 * width, side * side * stem);
    for (stage, (depth, heads)) in depths.iter().zip(heads).enumerate() {
        let channels = width << stage;
        if stage > 0 {
            // Four neighbours beside each other, norm, linear without bias.
            let reduce = 2 * channels * channels;
            side /= 2;
            parameters += 4 * channels + reduce;
            macs += side * side * reduce;
        }
        let window = (*window).min(side);
        let matrices = 12 * channels * channels;
        let table = (2 * window - 1).pow(2) * heads;
        parameters += depth * (matrices + table + (3 + 1 + 4 + 1 + 2 + 2) * channels);
        macs += depth * side * side * (matrices + 2 * window * window * channels);
    }
    let features = width << (depths.len() - 1);
    Cost { parameters: parameters + 2 * features, macs, features }
}

fn mixer(config: &MixerConfig, side: usize) -> Cost {
    let MixerConfig { width, layers, patch_size, token_mlp_width, mlp_width, norm_eps: _ } = *config;
    let (tokens, pixels) = ((side / patch_size).pow(2), 3 * patch_size * patch_size);
    let (across, along) = (2 * tokens * token_mlp_width, 2 * width * mlp_width);
    let block = across + token_mlp_width + tokens + along + mlp_width + width + 4 * width;
    Cost {
        parameters: (pixels + 1) * width + layers * block + 2 * width,
        macs: pixels * tokens * width + layers * (across * width + tokens * along),
        features: width,
    }
}
