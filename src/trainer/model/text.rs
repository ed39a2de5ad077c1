//! The text transformer: token embedding, causal blocks, head at the end-of-text token.

use super::super::ops::layer_norm;
use super::super::ops::token_pool::{Pooled, TokenPool};
use super::super::ops::{
    WeightLayout, linear::LinearShape, project::Project, token_embed::TokenEmbed, transformer::TransformerBlock,
};
use super::super::program::{Init, InputKind, Matrix, ProgramBuilder, SlotIdx, Tower};
use super::vit::inverse_root;
use crate::run::ModelConfig;

/// Adds the text encoder's calls, from token ids to the slot of normalised features.
pub(super) fn describe(builder: &mut ProgramBuilder, model: &ModelConfig) -> SlotIdx {
    let text = &model.text_encoder;
    let (width, tokens) = (text.width, text.context_length);
    let ids = builder.input("text.tokens", Tower::Text, InputKind::Tokens { length: tokens, vocab_size: text.vocab_size });
    let ends = builder.input("text.ends", Tower::Text, InputKind::Ends { length: tokens });
    let matrix = Matrix { count: 1, rows: text.vocab_size, columns: width };
    let table =
        builder.params.param("token_embedding.weight".into(), &[text.vocab_size, width], matrix, Init::Normal { std: 0.02 }, true);
    let matrix = Matrix { count: 1, rows: tokens, columns: width };
    let positions =
        builder.params.param("positional_embedding".into(), &[tokens, width], matrix, Init::Normal { std: 0.01 }, false);
    let embed = TokenEmbed { vocab_size: text.vocab_size, tokens, width, table, positions };
    let mut x = builder.call("text.embed".into(), Tower::Text, embed, &[ids]);
    for layer in 0..text.layers {
        let block =
            TransformerBlock::describe(&mut builder.params, &format!("transformer.resblocks.{layer}"), super::text_block(model));
        x = builder.call(format!("text.block{layer}"), Tower::Text, block, &[x]);
    }
    let gain = builder.params.vector("ln_final.weight".into(), width, Init::Constant(1.0));
    let bias = builder.params.vector("ln_final.bias".into(), width, Init::Constant(0.0));
    let shape = LinearShape { inputs: width, outputs: model.embed_dim, layout: WeightLayout::InOut };
    let init = Init::Normal { std: inverse_root(width) };
    let project = builder.params.linear("text_projection".into(), &[width, model.embed_dim], 1, shape, init);
    let pool = TokenPool { tokens, width, pooling: Pooled::EndOfText, eps: layer_norm::EPS, gain, bias };
    let pooled = builder.call("text.pool".into(), Tower::Text, pool, &[x, ends]);
    let project = Project { width, embed_dim: model.embed_dim, weight: project };
    builder.call("text.project".into(), Tower::Text, project, &[pooled])
}
