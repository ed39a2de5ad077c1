//! A Swin block on a square map: m = x + out(attention in windows(qkv(norm(x)))), then y = m + MLP(norm(m)).
//!
//! Rows between qkv and the attention's output map lie in the order of windows; all others in the order of the map.
//!
//! Saved: q, k and v, the attention's output, m, the MLP's pre-activation, the statistics of both norms and the attention's
//! log-sum-exp. Recomputed in backward: both norms' outputs, the activation, the attention weights.
//!
//! **Source** Liu et al. 2021, "Swin Transformer"; names are timm's (`swin_transformer.py`).

mod cpu;
mod reference;
#[cfg(test)]
mod tests;

use crate::Activation;
use crate::attention::windows::WindowShape;
use crate::mlp::{MapInit, Mlp, describe_map, describe_norm};
use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::{Init, Matrix, ParamIdx, ParamList};

/// Shape and starting values of a block.
#[derive(Debug, Clone, Copy)]
pub struct SwinShape {
    /// Side of the map.
    pub side: usize,
    /// Side of a window; divides `side`.
    pub window: usize,
    /// Places by which the map is rolled before it is cut into windows; less than `window`.
    pub shift: usize,
    /// Channels (C).
    pub width: usize,
    /// Attention heads (H).
    pub heads: usize,
    /// Hidden channels of the MLP.
    pub mlp_width: usize,
    /// Activation of the MLP.
    pub activation: Activation,
    /// Added to the variance of both norms.
    pub eps: f32,
    /// Start of the linear maps.
    pub init: MapInit,
    /// Start of the bias table.
    pub table: Init,
}

impl SwinShape {
    /// Window and shift of block `index` of a stage, as timm chooses them: a map that is no larger than a window is one, and
    /// never shifted.
    #[must_use]
    pub fn window_and_shift(side: usize, window: usize, index: usize) -> (usize, usize) {
        if side <= window { (side, 0) } else { (window, if index.is_multiple_of(2) { 0 } else { window / 2 }) }
    }
}

/// A Swin block and where its parameters are.
#[derive(Debug, Clone)]
pub struct SwinBlock {
    /// Shape.
    pub shape: SwinShape,
    /// First norm: gain, bias.
    pub norm: (ParamIdx, ParamIdx),
    /// Bias by relative position: [(2w - 1)², H].
    pub table: ParamIdx,
    /// Stacked q, k, v: weight [3C, C], bias.
    pub qkv: (ParamIdx, ParamIdx),
    /// Attention output: weight [C, C], bias.
    pub out: (ParamIdx, ParamIdx),
    /// The second half.
    pub mlp: Mlp,
}

impl SwinBlock {
    /// Adds the block's parameters under `prefix`, a name that ends before the dot.
    ///
    /// # Panics
    /// If the window does not divide the map, or the shift reaches it.
    pub fn describe(params: &mut ParamList, prefix: &str, shape: SwinShape) -> Self {
        let SwinShape { side, window, shift, width, heads, mlp_width, activation, eps, init, table } = shape;
        assert!(side.is_multiple_of(window) && shift < window, "windows of {window}, shifted by {shift}, on a map of {side}");
        let norm = describe_norm(params, &format!("{prefix}.norm1"), width);
        let rows = (2 * window - 1).pow(2);
        let matrix = Matrix { count: 1, rows, columns: heads };
        let table = params.param(format!("{prefix}.attn.relative_position_bias_table"), &[rows, heads], matrix, table, false);
        let qkv = Self::describe_qkv(params, prefix, width, init);
        Self {
            shape,
            norm,
            table,
            qkv,
            out: describe_map(params, &format!("{prefix}.attn.proj"), (width, width), init),
            mlp: Mlp::describe(
                params,
                (&format!("{prefix}.norm2"), &format!("{prefix}.mlp")),
                (width, mlp_width),
                (activation, eps),
                [init; 2],
            ),
        }
    }

    /// Three matrices to an optimiser.
    fn describe_qkv(params: &mut ParamList, prefix: &str, width: usize, init: MapInit) -> (ParamIdx, ParamIdx) {
        use crate::{WeightLayout, linear::LinearShape};
        let linear = LinearShape { inputs: width, outputs: 3 * width, layout: WeightLayout::OutIn };
        let weight = params.linear(format!("{prefix}.attn.qkv.weight"), &[3 * width, width], 3, linear, init.weight);
        (weight, params.vector(format!("{prefix}.attn.qkv.bias"), 3 * width, init.bias))
    }

    /// Shape of its attention.
    #[must_use]
    pub fn windows(&self) -> WindowShape {
        let SwinShape { side, window, shift, width, heads, .. } = self.shape;
        WindowShape { side, window, shift, heads, head_dim: width / heads }
    }
}

impl Op for SwinBlock {
    fn shape(&self) -> OpShape {
        let SwinShape { side, window, width, heads, mlp_width, .. } = self.shape;
        let tokens = side * side;
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
        let macs = tokens * (4 * width * width + self.mlp.macs() + 2 * window * window * width);
        OpShape { is_in_place: true, ..OpShape::new((tokens, width), &saved, macs) }
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        let maps = [self.norm, self.qkv, self.out, self.mlp.norm, self.mlp.fc1, self.mlp.fc2];
        std::iter::once(self.table).chain(maps.into_iter().flat_map(|(a, b)| [a, b])).collect()
    }
}
