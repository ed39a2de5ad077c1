//! y = x + gamma m, m = fc2(f(fc1(norm(depthwise(x))))). Backward computes the forward values again and walks them in reverse.

use super::ConvNextBlock;
use crate::activation::reference as activation;
use crate::depthwise::reference as depthwise;
use crate::layer_norm::reference as layer_norm;
use crate::op::{Reference, Value};
use crate::params::ParamIdx;
use crate::reference::{Gradients, Matrix, Parameters};

/// What a block computes on the way to its output.
struct Values {
    mixed: Matrix,
    normed: Matrix,
    hidden: Matrix,
    active: Matrix,
    branch: Matrix,
}

fn taps(block: &ConvNextBlock, params: &Parameters) -> Matrix {
    Matrix::from_rows(block.shape.width, params.vector(block.depthwise.0).to_vec())
}

fn run(block: &ConvNextBlock, params: &Parameters, x: &Matrix) -> Values {
    let map =
        |x: &Matrix, (weight, bias): (ParamIdx, ParamIdx)| x.times_transposed(&params.matrix(weight)).plus_row(params.vector(bias));
    let mixed = depthwise::forward(&block.depthwise_shape(), &taps(block, params), params.vector(block.depthwise.1), x);
    let (gain, bias) = (params.vector(block.norm.0), params.vector(block.norm.1));
    let normed = layer_norm::forward_with(f64::from(block.shape.eps), &mixed, gain, bias);
    let hidden = map(&normed, block.fc1);
    let active = hidden.map(|x| activation::value(block.shape.activation, x));
    let branch = map(&active, block.fc2);
    Values { mixed, normed, hidden, active, branch }
}

/// Rows times a row, element by element.
fn times_row(rows: &Matrix, row: &[f64]) -> Matrix {
    let values = rows.values.iter().zip(row.iter().cycle()).map(|(a, b)| a * b).collect();
    Matrix { values, ..*rows }
}

fn times_elements(a: &Matrix, b: &Matrix) -> Matrix {
    Matrix { values: a.values.iter().zip(&b.values).map(|(a, b)| a * b).collect(), ..*a }
}

impl Reference for ConvNextBlock {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        let x = inputs[0].rows();
        x.plus(&times_row(&run(self, params, x).branch, params.vector(self.gamma)))
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let x = inputs[0].rows();
        let values = run(self, params, x);
        let mut map = |(weight, bias): (ParamIdx, ParamIdx), x: &Matrix, grad_y: &Matrix| {
            grads.add(weight, &grad_y.transposed_times(x).values);
            grads.add(bias, &grad_y.column_sums());
            grad_y.times(&params.matrix(weight))
        };
        let grad_branch = times_row(grad_y, params.vector(self.gamma));
        let grad_active = map(self.fc2, &values.active, &grad_branch);
        let slopes = values.hidden.map(|x| activation::slope(self.shape.activation, x));
        let grad_normed = map(self.fc1, &values.normed, &times_elements(&grad_active, &slopes));
        grads.add(self.gamma, &times_elements(grad_y, &values.branch).column_sums());
        let (grad_mixed, grad_gain, grad_bias) =
            layer_norm::backward_with(f64::from(self.shape.eps), &values.mixed, params.vector(self.norm.0), &grad_normed);
        grads.add(self.norm.0, &grad_gain);
        grads.add(self.norm.1, &grad_bias);
        let (grad_x, grad_taps, grad_bias) = depthwise::backward(&self.depthwise_shape(), &taps(self, params), x, &grad_mixed);
        grads.add(self.depthwise.0, &grad_taps.values);
        grads.add(self.depthwise.1, &grad_bias);
        vec![Some(grad_y.plus(&grad_x))]
    }
}
