//! A pre-norm transformer block: x + attention(norm(x)), then x + MLP(norm(x)).
//!
//! Saved: q, k and v, the attention's output, the residual between the halves, the MLP's pre-activation, the statistics of
//! both norms and the attention's log-sum-exp. Recomputed in backward: both norms' outputs, the activation, the attention
//! weights.

pub mod reference;

use crate::Activation;
use crate::op::{Backward, Forward, GradLane, Params, Workspace};
use crate::params::{Init, ParamIdx, ParamList};
use crate::{Accumulation, WeightLayout, attention::AttentionShape, linear::LinearShape};
use crate::{activation, attention, elementwise, layer_norm, linear};

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

    /// Saved slots: name, rows a sample, channels.
    #[must_use]
    pub fn saved(&self) -> Vec<(&'static str, usize, usize)> {
        let BlockShape { tokens, width, heads, mlp_width, .. } = self.shape;
        vec![
            ("qkv", tokens, 3 * width),
            ("attention", tokens, width),
            ("middle", tokens, width),
            ("hidden", tokens, mlp_width),
            ("mean1", tokens, 1),
            ("rstd1", tokens, 1),
            ("mean2", tokens, 1),
            ("rstd2", tokens, 1),
            ("lse", heads, tokens),
        ]
    }

    /// Forward multiply-accumulates of one sample; a causal mask is not discounted, as is usual.
    #[must_use]
    pub fn macs(&self) -> u64 {
        let BlockShape { tokens, width, mlp_width, .. } = self.shape;
        (tokens * (4 * width * width + 2 * width * mlp_width) + 2 * tokens * tokens * width) as u64
    }

    /// Shape of its attention.
    #[must_use]
    pub fn attention_shape(&self) -> AttentionShape {
        let BlockShape { tokens, width, heads, causal, .. } = self.shape;
        AttentionShape { tokens, heads, head_dim: width / heads, causal }
    }

    /// One chunk forward.
    pub fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let BlockShape { tokens, width, heads, mlp_width, activation, .. } = self.shape;
        let rows = chunk.samples * tokens;
        let x = chunk.input.rows();
        let [qkv, attended, middle, hidden, mean1, rstd1, mean2, rstd2, lse] = &mut *chunk.saved else {
            unreachable!("the program gives a transformer block nine saved slots")
        };
        let (ops, [normed, active]) = work.split([rows * width, rows * mlp_width]);
        layer_norm::forward(x, params.view(self.norm1.0), params.view(self.norm1.1), normed, mean1, rstd1);
        linear::forward(&params.linear(self.qkv.0), rows, normed, Some(params.view(self.qkv.1)), qkv, ops);
        let shape = self.attention_shape();
        for sample in 0..chunk.samples {
            let part = |per_token: usize| sample * tokens * per_token..(sample + 1) * tokens * per_token;
            let (qkv, out) = (&qkv[part(3 * width)], &mut attended[part(width)]);
            attention::forward(&shape, qkv, out, &mut lse[part(heads)], ops);
        }
        linear::forward(&params.linear(self.out.0), rows, attended, Some(params.view(self.out.1)), middle, ops);
        let norm2 = (params.view(self.norm2.0), params.view(self.norm2.1));
        layer_norm::forward_residual(middle, x, norm2.0, norm2.1, normed, mean2, rstd2);
        linear::forward(&params.linear(self.fc1.0), rows, normed, Some(params.view(self.fc1.1)), hidden, ops);
        activation::forward(activation, hidden, active);
        linear::forward(&params.linear(self.fc2.0), rows, active, Some(params.view(self.fc2.1)), chunk.output, ops);
        elementwise::add(middle, chunk.output);
    }

    /// One chunk back: turns the output's gradient into the input's in place, and adds to the lane's parameter gradients.
    pub fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let BlockShape { tokens, width, heads, mlp_width, activation, .. } = self.shape;
        let rows = chunk.samples * tokens;
        let x = chunk.input.rows();
        let grad = &mut *chunk.grad_output;
        let [qkv, attended, middle, hidden, mean1, rstd1, mean2, rstd2, lse] = &mut *chunk.saved else {
            unreachable!("the program gives a transformer block nine saved slots")
        };
        let wide = mlp_width.max(3 * width);
        let (ops, [active, grad_hidden, normed, grad_normed]) =
            work.split([rows * mlp_width, rows * wide, rows * width, rows * width]);
        // MLP half: y = middle + fc2(act(fc1(norm2(middle)))).
        let grad_wide = &mut grad_hidden[..rows * mlp_width];
        linear::backward_input(&params.linear(self.fc2.0), rows, grad, grad_wide, ops);
        activation::backward(activation, hidden, active, grad_wide);
        weight_grad(params, grads, self.fc2, rows, active, grad, ops);
        let (gain, bias) = (params.view(self.norm2.0), params.view(self.norm2.1));
        layer_norm::recompute(middle, gain, bias, mean2, rstd2, normed);
        linear::backward_input(&params.linear(self.fc1.0), rows, grad_wide, grad_normed, ops);
        weight_grad(params, grads, self.fc1, rows, normed, grad_wide, ops);
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.norm2.0, self.norm2.1);
        layer_norm::backward(middle, grad_normed, gain, mean2, rstd2, grad, Accumulation::Add, grad_gain, grad_bias);
        // Attention half: middle = x + out(attention(qkv(norm1(x)))).
        linear::backward_input(&params.linear(self.out.0), rows, grad, grad_normed, ops);
        weight_grad(params, grads, self.out, rows, attended, grad, ops);
        let grad_qkv = &mut grad_hidden[..rows * 3 * width];
        let shape = self.attention_shape();
        for sample in 0..chunk.samples {
            let part = |per_token: usize| sample * tokens * per_token..(sample + 1) * tokens * per_token;
            let (qkv, out, grad_out) = (&qkv[part(3 * width)], &attended[part(width)], &grad_normed[part(width)]);
            attention::backward(&shape, qkv, out, grad_out, &lse[part(heads)], &mut grad_qkv[part(3 * width)], ops);
        }
        let (gain, bias) = (params.view(self.norm1.0), params.view(self.norm1.1));
        layer_norm::recompute(x, gain, bias, mean1, rstd1, normed);
        weight_grad(params, grads, self.qkv, rows, normed, grad_qkv, ops);
        linear::backward_input(&params.linear(self.qkv.0), rows, grad_qkv, grad_normed, ops);
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.norm1.0, self.norm1.1);
        layer_norm::backward(x, grad_normed, gain, mean1, rstd1, grad, Accumulation::Add, grad_gain, grad_bias);
    }
}

/// Gradients of one linear map's weight and bias, added to the lane.
pub(super) fn weight_grad(
    params: &Params,
    grads: &mut GradLane,
    map: (ParamIdx, ParamIdx),
    rows: usize,
    x: &[f32],
    grad_y: &[f32],
    ops: &mut crate::Scratch,
) {
    let shape = params.linear(map.0).shape;
    let accumulate = !grads.first;
    let (weight, bias) = grads.pair(map.0, map.1);
    linear::backward_weight(&shape, rows, x, grad_y, weight, Some(bias), accumulate, ops);
}
