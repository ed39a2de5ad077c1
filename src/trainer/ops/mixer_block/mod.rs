//! An MLP-Mixer block: m = x + mix(norm(x)), then y = m + MLP(norm(m)).
//!
//! `mix` runs an MLP over the tokens of each channel. With z [T, C] the normed tokens of a sample it is
//! W2 f(W1 z + b1) + b2, where a bias belongs to a row: products with the weight on the left, so nothing is transposed.
//! Backward, with h = W1 z + b1: dW2 = dm f(h)ᵀ, dh = f'(h) (W2ᵀ dm), dW1 = dh zᵀ, dz = W1ᵀ dh; db2 and db1 are sums along rows.
//!
//! Saved: the token MLP's pre-activation [H, C], m, the channel MLP's pre-activation, the statistics of both norms. Recomputed in
//! backward: both norms' outputs and both activations.
//!
//! **Source** Tolstikhin et al. 2021, "MLP-Mixer"; names are timm's (`mlp_mixer.py`).

mod cpu;
mod reference;
#[cfg(test)]
mod tests;

use crate::Activation;
use crate::mlp::{MapInit, Mlp, describe_norm};
use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::{Matrix, ParamIdx, ParamList};

/// Shape and starting values of a block.
#[derive(Debug, Clone, Copy)]
pub struct MixerShape {
    /// Tokens a sample (T).
    pub tokens: usize,
    /// Channels (C).
    pub width: usize,
    /// Hidden units of the MLP over tokens (H).
    pub token_hidden: usize,
    /// Hidden channels of the MLP over channels.
    pub mlp_width: usize,
    /// Of both MLPs.
    pub activation: Activation,
    /// Added to the variance of both norms.
    pub eps: f32,
    /// Start of the token MLP's maps.
    pub token_init: [MapInit; 2],
    /// Start of the channel MLP's maps.
    pub init: [MapInit; 2],
}

/// A Mixer block and where its parameters are.
#[derive(Debug, Clone)]
pub struct MixerBlock {
    /// Shape.
    pub shape: MixerShape,
    /// Norm before mixing: gain, bias.
    pub norm: (ParamIdx, ParamIdx),
    /// Token MLP's first map: weight [H, T], bias.
    pub token_fc1: (ParamIdx, ParamIdx),
    /// Token MLP's second map: weight [T, H], bias.
    pub token_fc2: (ParamIdx, ParamIdx),
    /// The half over channels.
    pub mlp: Mlp,
}

impl MixerBlock {
    /// Adds the block's parameters under `prefix`, a name that ends before the dot.
    pub fn describe(params: &mut ParamList, prefix: &str, shape: MixerShape) -> Self {
        let MixerShape { tokens, width, token_hidden, mlp_width, activation, eps, token_init, init } = shape;
        // Weights on the left of a product are not packed, so they are no linear maps in the sense of `ParamList::linear`.
        let left = |params: &mut ParamList, name: &str, (rows, columns): (usize, usize), init: MapInit| {
            let matrix = Matrix { count: 1, rows, columns };
            let weight = params.param(format!("{prefix}.{name}.weight"), &[rows, columns], matrix, init.weight, true);
            (weight, params.vector(format!("{prefix}.{name}.bias"), rows, init.bias))
        };
        Self {
            shape,
            norm: describe_norm(params, &format!("{prefix}.norm1"), width),
            token_fc1: left(params, "mlp_tokens.fc1", (token_hidden, tokens), token_init[0]),
            token_fc2: left(params, "mlp_tokens.fc2", (tokens, token_hidden), token_init[1]),
            mlp: Mlp::describe(
                params,
                (&format!("{prefix}.norm2"), &format!("{prefix}.mlp_channels")),
                (width, mlp_width),
                (activation, eps),
                init,
            ),
        }
    }
}

impl Op for MixerBlock {
    fn shape(&self) -> OpShape {
        let MixerShape { tokens, width, token_hidden, mlp_width, .. } = self.shape;
        let saved = [
            ("token_hidden", token_hidden, width),
            ("middle", tokens, width),
            ("hidden", tokens, mlp_width),
            ("mean1", tokens, 1),
            ("rstd1", tokens, 1),
            ("mean2", tokens, 1),
            ("rstd2", tokens, 1),
        ];
        let macs = 2 * tokens * token_hidden * width + tokens * self.mlp.macs();
        OpShape { is_in_place: true, ..OpShape::new((tokens, width), &saved, macs) }
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        let maps = [self.norm, self.token_fc1, self.token_fc2, self.mlp.norm, self.mlp.fc1, self.mlp.fc2];
        maps.into_iter().flat_map(|(a, b)| [a, b]).collect()
    }
}
