//! The vision transformer: patch embedding, transformer blocks, head.

use super::super::ops::layer_norm;
use super::super::ops::{
    WeightLayout,
    linear::LinearShape,
    patch_embed::PatchEmbed,
    project::Project,
    token_pool::{Pooled, TokenPool},
    transformer::TransformerBlock,
};
use super::super::program::{Init, InputKind, Matrix, ProgramBuilder, SlotIdx, Tower};
use super::Encoded;
use crate::run::{ModelConfig, Pooling, VitConfig};

/// Adds the image encoder's calls, from the pixel slot to normalised features.
pub(super) fn describe(
    builder: &mut ProgramBuilder,
    model: &ModelConfig,
    vit: &VitConfig,
    masked: f64,
    pixels: SlotIdx,
) -> Encoded {
    let width = vit.width;
    let grid = model.image_size / vit.patch_size;
    let patches = grid * grid;
    let kept = super::kept_patches(patches, masked);
    let class_token = vit.pooling == Pooling::ClassToken;
    let tokens = kept + usize::from(class_token);
    let embed = patch_embed(builder, model, vit, patches, kept);
    let mut inputs = vec![pixels];
    if kept < patches {
        inputs.push(builder.input("image.kept", Tower::Image, InputKind::KeptPatches { patches, kept, view: 0 }));
    }
    let mut x = builder.call("image.embed".into(), Tower::Image, embed, &inputs);
    for layer in 0..vit.layers {
        let block = TransformerBlock::describe(
            &mut builder.params,
            &format!("visual.transformer.resblocks.{layer}"),
            super::vision_block(model, vit, tokens),
        );
        x = builder.call(format!("image.block{layer}"), Tower::Image, block, &[x]);
    }
    let pooling = if class_token { Pooled::First } else { Pooled::Mean };
    let std = inverse_root(width);
    let gain = builder.params.vector("visual.ln_post.weight".into(), width, Init::Constant(1.0));
    let bias = builder.params.vector("visual.ln_post.bias".into(), width, Init::Constant(0.0));
    let shape = LinearShape { inputs: width, outputs: model.embed_dim, layout: WeightLayout::InOut };
    let project = builder.params.linear("visual.proj".into(), &[width, model.embed_dim], 1, shape, Init::Normal { std });
    let pooled = builder.call(
        "image.pool".into(),
        Tower::Image,
        TokenPool { tokens, width, pooling, eps: layer_norm::EPS, gain, bias },
        &[x],
    );
    let project = Project { width, embed_dim: model.embed_dim, weight: project };
    Encoded { pooled, features: builder.call("image.project".into(), Tower::Image, project, &[pooled]) }
}

fn patch_embed(builder: &mut ProgramBuilder, model: &ModelConfig, vit: &VitConfig, patches: usize, kept: usize) -> PatchEmbed {
    let (width, patch) = (vit.width, vit.patch_size);
    let pixels = 3 * patch * patch;
    let std = inverse_root(width);
    let class_token = (vit.pooling == Pooling::ClassToken)
        .then(|| builder.params.vector("visual.class_embedding".into(), width, Init::Normal { std }));
    let rows = patches + usize::from(class_token.is_some());
    let matrix = Matrix { count: 1, rows, columns: width };
    let positions = builder.params.param("visual.positional_embedding".into(), &[rows, width], matrix, Init::Normal { std }, false);
    // PyTorch's convolution default, kaiming_uniform(a = sqrt 5), is uniform within 1 / sqrt(fan_in).
    let init = Init::Uniform { bound: inverse_root(pixels) };
    let shape = LinearShape { inputs: pixels, outputs: width, layout: WeightLayout::OutIn };
    let weight = builder.params.linear("visual.conv1.weight".into(), &[width, 3, patch, patch], 1, shape, init);
    let norm = vit.pre_norm.then(|| {
        let gain = builder.params.vector("visual.ln_pre.weight".into(), width, Init::Constant(1.0));
        (gain, builder.params.vector("visual.ln_pre.bias".into(), width, Init::Constant(0.0)))
    });
    let shape = super::patch_shape(model, patch);
    PatchEmbed { shape, width, patches, kept, weight, bias: None, class_token, positions: Some(positions), norm }
}

/// width^-1/2, the scale of CLIP's embeddings and projections.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "an initial scale")]
pub(super) fn inverse_root(width: usize) -> f32 {
    (width as f64).powf(-0.5) as f32
}
