//! A pre-norm transformer block: m = x + out(attention(qkv(norm1(x)))), y = m + fc2(f(fc1(norm2(m)))).
//!
//! Every linear map is y = x Wᵀ + b. Backward computes the forward values again and walks them in reverse.

use super::TransformerBlock;
use crate::activation::reference as activation;
use crate::attention::reference::Heads;
use crate::layer_norm::reference as layer_norm;
use crate::op::{Reference, Value};
use crate::params::ParamIdx;
use crate::reference::Matrix;
use crate::reference::{Gradients, Parameters};

/// What a block computes on the way to its output.
struct Values {
    normed1: Matrix,
    qkv: Matrix,
    attended: Matrix,
    middle: Matrix,
    normed2: Matrix,
    hidden: Matrix,
    active: Matrix,
}

fn heads(block: &TransformerBlock) -> Heads {
    Heads { heads: block.shape.heads, causal: block.shape.causal }
}

fn run(block: &TransformerBlock, params: &Parameters, x: &Matrix) -> Values {
    let map =
        |x: &Matrix, (weight, bias): (ParamIdx, ParamIdx)| x.times_transposed(&params.matrix(weight)).plus_row(params.vector(bias));
    let norm = |x: &Matrix, (gain, bias): (ParamIdx, ParamIdx)| layer_norm::forward(x, params.vector(gain), params.vector(bias));
    let normed1 = norm(x, block.norm1);
    let qkv = map(&normed1, block.qkv);
    let attended = heads(block).forward(&qkv);
    let middle = x.plus(&map(&attended, block.out));
    let normed2 = norm(&middle, block.norm2);
    let hidden = map(&normed2, block.fc1);
    let active = hidden.map(|x| activation::value(block.shape.activation, x));
    Values { normed1, qkv, attended, middle, normed2, hidden, active }
}

/// y [T, C].
fn forward(block: &TransformerBlock, params: &Parameters, x: &Matrix) -> Matrix {
    let Values { middle, active, .. } = run(block, params, x);
    let (weight, bias) = block.fc2;
    middle.plus(&active.times_transposed(&params.matrix(weight)).plus_row(params.vector(bias)))
}

/// Gradient of x; those of the parameters are added to `grads`.
fn backward(block: &TransformerBlock, params: &Parameters, x: &Matrix, grad_y: &Matrix, grads: &mut Gradients) -> Matrix {
    let values = run(block, params, x);
    let mut back = Back { params, grads };
    let grad_active = back.map(block.fc2, &values.active, grad_y);
    let slopes = values.hidden.map(|x| activation::slope(block.shape.activation, x));
    let grad_hidden = Matrix { values: grad_active.values.iter().zip(&slopes.values).map(|(a, b)| a * b).collect(), ..grad_active };
    let grad_normed2 = back.map(block.fc1, &values.normed2, &grad_hidden);
    let grad_middle = grad_y.plus(&back.norm(block.norm2, &values.middle, &grad_normed2));
    let grad_attended = back.map(block.out, &values.attended, &grad_middle);
    let grad_qkv = heads(block).backward(&values.qkv, &grad_attended);
    let grad_normed1 = back.map(block.qkv, &values.normed1, &grad_qkv);
    grad_middle.plus(&back.norm(block.norm1, x, &grad_normed1))
}

/// Steps back through maps and norms, collecting parameter gradients.
struct Back<'a, 'b> {
    params: &'a Parameters<'a>,
    grads: &'a mut Gradients<'b>,
}

impl Back<'_, '_> {
    /// dx = dy W, dW = dyᵀ x, db = sum dy.
    fn map(&mut self, (weight, bias): (ParamIdx, ParamIdx), x: &Matrix, grad_y: &Matrix) -> Matrix {
        self.grads.add(weight, &grad_y.transposed_times(x).values);
        self.grads.add(bias, &grad_y.column_sums());
        grad_y.times(&self.params.matrix(weight))
    }

    fn norm(&mut self, (gain, bias): (ParamIdx, ParamIdx), x: &Matrix, grad_y: &Matrix) -> Matrix {
        let (grad_x, grad_gain, grad_bias) = layer_norm::backward(x, self.params.vector(gain), grad_y);
        self.grads.add(gain, &grad_gain);
        self.grads.add(bias, &grad_bias);
        grad_x
    }
}

impl Reference for TransformerBlock {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        forward(self, params, inputs[0].rows())
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        vec![Some(backward(self, params, inputs[0].rows(), grad_y, grads))]
    }
}
