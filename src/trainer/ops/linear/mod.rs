//! Linear layer: y = x W (+ b) on rows, its gradients, and the packed form of a weight.
//!
//! **Shapes** x `[rows, inputs]`, y `[rows, outputs]`, W as its [`Layout`] says, b `[outputs]`.
//! Backward: dx = dy Wᵀ, dW = xᵀ dy (in the weight's own layout), db = column sums of dy.

use super::product::{Dims, Mat, multiply};
use super::{Layout, Scratch, elementwise};

/// Shape of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearShape {
    /// Length of a row of x.
    pub inputs: usize,
    /// Length of a row of y.
    pub outputs: usize,
    /// How the weight lies in memory.
    pub layout: Layout,
}

/// A weight, ready to be multiplied by.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// Its shape.
    pub shape: LinearShape,
    /// The weight as its layout says.
    pub weight: &'a [f32],
    /// What [`pack`] made of it, or empty: then products read the weight itself.
    pub packed: &'a [f32],
}

/// Floats that [`pack`] writes; 0 where this CPU multiplies by the weight as it is.
#[must_use]
pub fn packed_len(_shape: &LinearShape) -> usize {
    0
}

/// Rearranges a weight for fast products, forward and backward: once a step per weight.
pub fn pack(shape: &LinearShape, weight: &[f32], packed: &mut [f32]) {
    assert_eq!(weight.len(), shape.inputs * shape.outputs, "weight of a linear layer");
    assert_eq!(packed.len(), packed_len(shape), "packed weight of a linear layer");
}

/// y = x W (+ b).
pub fn forward(l: &Linear, rows: usize, x: &[f32], bias: Option<&[f32]>, y: &mut [f32], _s: &mut Scratch) {
    let LinearShape { inputs, outputs, .. } = l.shape;
    check(&l.shape, rows, x, y);
    multiply(Dims { m: rows, n: outputs, k: inputs }, Mat::rows(x, inputs), input_major(l), y, outputs, false);
    if let Some(bias) = bias {
        assert_eq!(bias.len(), outputs, "bias of a linear layer");
        for row in y.chunks_exact_mut(outputs) {
            elementwise::add(bias, row);
        }
    }
}

/// dx = dy Wᵀ.
pub fn backward_input(l: &Linear, rows: usize, grad_y: &[f32], grad_x: &mut [f32], _s: &mut Scratch) {
    let LinearShape { inputs, outputs, .. } = l.shape;
    check(&l.shape, rows, grad_x, grad_y);
    let dims = Dims { m: rows, n: inputs, k: outputs };
    multiply(dims, Mat::rows(grad_y, outputs), input_major(l).transposed(), grad_x, inputs, false);
}

/// dW = xᵀ dy in the weight's layout, and db; added to both if `accumulate`, else both are overwritten.
#[expect(clippy::too_many_arguments, reason = "two operands and two results, all plain slices")]
pub fn backward_weight(
    shape: &LinearShape,
    rows: usize,
    x: &[f32],
    grad_y: &[f32],
    grad_w: &mut [f32],
    grad_bias: Option<&mut [f32]>,
    accumulate: bool,
    _s: &mut Scratch,
) {
    let LinearShape { inputs, outputs, layout } = *shape;
    check(shape, rows, x, grad_y);
    let (x, dy) = (Mat::rows(x, inputs), Mat::rows(grad_y, outputs));
    match layout {
        Layout::OutIn => {
            multiply(Dims { m: outputs, n: inputs, k: rows }, dy.transposed(), x, grad_w, inputs, accumulate);
        }
        Layout::InOut => {
            multiply(Dims { m: inputs, n: outputs, k: rows }, x.transposed(), dy, grad_w, outputs, accumulate);
        }
    }
    if let Some(grad_bias) = grad_bias {
        assert_eq!(grad_bias.len(), outputs, "bias gradient of a linear layer");
        if !accumulate {
            grad_bias.fill(0.0);
        }
        elementwise::column_sums(grad_y, grad_bias);
    }
}

fn input_major<'a>(l: &Linear<'a>) -> Mat<'a> {
    match l.shape.layout {
        Layout::InOut => Mat::rows(l.weight, l.shape.outputs),
        Layout::OutIn => Mat::rows(l.weight, l.shape.inputs).transposed(),
    }
}

fn check(shape: &LinearShape, rows: usize, x: &[f32], y: &[f32]) {
    assert_eq!(x.len(), rows * shape.inputs, "input rows of a linear layer");
    assert_eq!(y.len(), rows * shape.outputs, "output rows of a linear layer");
}
