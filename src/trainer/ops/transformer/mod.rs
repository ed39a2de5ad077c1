//! A pre-norm transformer block: x + attention(norm(x)), then x + MLP(norm(x)).
//!
//! Saved: q, k and v, the attention's output, the residual between the halves, the MLP's pre-activation, the statistics of
//! both norms and the attention's log-sum-exp. Recomputed in backward: both norms' outputs, the activation, the attention
//! weights.

mod cpu;
mod cuda;
mod reference;

use crate::attention::{self, AttentionShape};
use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::{Init, ParamIdx, ParamList};
use crate::recorder::{Record, Refusal};
use crate::{Activation, WeightLayout, layer_norm, linear::LinearShape};

/// Shape and starting values of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockShape {
    /// Tokens a sample (T).
    pub tokens: usize,
    /// Channels (C).
    pub width: usize,
    /// Attention heads (H).
    pub heads: usize,
    /// Hidden channels of the MLP.
    pub mlp_width: usize,
    /// Whether a token sees only itself and earlier ones.
    pub causal: bool,
    /// Activation of the MLP.
    pub activation: Activation,
    /// Start of the stacked q, k, v weight.
    pub qkv: Init,
    /// Start of the attention's output weight.
    pub out: Init,
    /// Start of the MLP's first weight.
    pub fc1: Init,
    /// Start of the MLP's second weight.
    pub fc2: Init,
    /// Start of the MLP's first bias.
    pub fc1_bias: Init,
    /// Start of the MLP's second bias.
    pub fc2_bias: Init,
}

/// A transformer block and where its parameters are.
#[derive(Debug, Clone)]
pub struct TransformerBlock {
    /// Shape.
    pub shape: BlockShape,
    /// First norm: gain, bias.
    pub norm1: (ParamIdx, ParamIdx),
    /// Stacked q, k, v: weight [3C, C], bias.
    pub qkv: (ParamIdx, ParamIdx),
    /// Attention output: weight [C, C], bias.
    pub out: (ParamIdx, ParamIdx),
    /// Second norm: gain, bias.
    pub norm2: (ParamIdx, ParamIdx),
    /// MLP's first map: weight [M, C], bias.
    pub fc1: (ParamIdx, ParamIdx),
    /// MLP's second map: weight [C, M], bias.
    pub fc2: (ParamIdx, ParamIdx),
}

impl TransformerBlock {
    /// Adds the block's parameters under `prefix` (`open_clip` names).
    pub fn describe(params: &mut ParamList, prefix: &str, shape: BlockShape) -> Self {
        let width = shape.width;
        let (zero, one) = (Init::Constant(0.0), Init::Constant(1.0));
        let norm = |params: &mut ParamList, name: &str| {
            let gain = params.vector(format!("{prefix}.{name}.weight"), width, one);
            (gain, params.vector(format!("{prefix}.{name}.bias"), width, zero))
        };
        let map = |params: &mut ParamList, names: (&str, &str), stack: usize, dims: (usize, usize), init: (Init, Init)| {
            let (inputs, outputs) = dims;
            let linear = LinearShape { inputs, outputs, layout: WeightLayout::OutIn };
            let weight = params.linear(format!("{prefix}.{}", names.0), &[outputs, inputs], stack, linear, init.0);
            (weight, params.vector(format!("{prefix}.{}", names.1), outputs, init.1))
        };
        let hidden = shape.mlp_width;
        Self {
            shape,
            norm1: norm(params, "ln_1"),
            qkv: map(params, ("attn.in_proj_weight", "attn.in_proj_bias"), 3, (width, 3 * width), (shape.qkv, zero)),
            out: map(params, ("attn.out_proj.weight", "attn.out_proj.bias"), 1, (width, width), (shape.out, zero)),
            norm2: norm(params, "ln_2"),
            fc1: map(params, ("mlp.c_fc.weight", "mlp.c_fc.bias"), 1, (width, hidden), (shape.fc1, shape.fc1_bias)),
            fc2: map(params, ("mlp.c_proj.weight", "mlp.c_proj.bias"), 1, (hidden, width), (shape.fc2, shape.fc2_bias)),
        }
    }

    /// Shape of its attention.
    #[must_use]
    pub fn attention_shape(&self) -> AttentionShape {
        let BlockShape { tokens, width, heads, causal, .. } = self.shape;
        AttentionShape { tokens, heads, head_dim: width / heads, causal }
    }
}

impl Op for TransformerBlock {
    /// A causal mask is not discounted from the cost, as is usual.
    fn shape(&self) -> OpShape {
        let BlockShape { tokens, width, heads, mlp_width, .. } = self.shape;
        let saved = [
            ("qkv", tokens, 3 * width),
            ("attention", tokens, width),
            ("middle", tokens, width),
            ("hidden", tokens, mlp_width),
            ("mean1", tokens, 1),
            ("rstd1", tokens, 1),
            ("mean2", tokens, 1),
            ("rstd2", tokens, 1),
            ("lse", heads, tokens),
        ];
        let macs = tokens * (4 * width * width + 2 * width * mlp_width) + 2 * tokens * tokens * width;
        OpShape { is_in_place: true, ..OpShape::new((tokens, width), &saved, macs) }
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        [self.norm1, self.qkv, self.out, self.norm2, self.fc1, self.fc2].into_iter().flat_map(|(a, b)| [a, b]).collect()
    }
    fn cuda(&self) -> Result<&dyn Record, Refusal> {
        layer_norm::cuda::check(self.shape.width)?;
        attention::cuda::check(&self.attention_shape())?;
        Ok(self)
    }
}
