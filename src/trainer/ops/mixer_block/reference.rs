//! A Mixer block: m = x + (W2 f(W1 z + b1) + b2) with z = norm(x), as timm writes it: an MLP over the rows of zᵀ [C, T],
//! transposed back; then y = m + fc2(f(fc1(norm(m)))).

use super::MixerBlock;
use crate::mlp::reference::{Back, activate, activate_back, forward as mlp_forward, map, norm};
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Matrix, Parameters};

/// What mixing computes on the way to m.
struct Values {
    /// zᵀ [C, T].
    columns: Matrix,
    hidden: Matrix,
    active: Matrix,
    middle: Matrix,
}

fn mix(block: &MixerBlock, params: &Parameters, x: &Matrix) -> Values {
    let columns = norm(params, x, block.shape.eps, block.norm).transposed();
    let hidden = map(params, &columns, block.token_fc1);
    let active = activate(block.shape.activation, &hidden);
    let middle = x.plus(&map(params, &active, block.token_fc2).transposed());
    Values { columns, hidden, active, middle }
}

impl Reference for MixerBlock {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        mlp_forward(&self.mlp, params, &mix(self, params, inputs[0].rows()).middle)
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let x = inputs[0].rows();
        let Values { columns, hidden, active, middle } = mix(self, params, x);
        let mut back = Back { params, grads };
        let grad_middle = back.mlp(&self.mlp, &middle, grad_y);
        let grad_active = back.map(self.token_fc2, &active, &grad_middle.transposed());
        let grad_hidden = activate_back(self.shape.activation, &hidden, &grad_active);
        let grad_normed = back.map(self.token_fc1, &columns, &grad_hidden).transposed();
        vec![Some(grad_middle.plus(&back.norm(self.shape.eps, self.norm, x, &grad_normed)))]
    }
}
