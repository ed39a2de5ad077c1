//! y = m + fc2(f(fc1(norm(m)))) in f64, and steps back through maps and norms that blocks share.
//!
//! Every linear map is y = x Wᵀ + b. Backward computes the forward values again and walks them in reverse.

use super::Mlp;
use crate::activation::reference as activation;
use crate::layer_norm::reference as layer_norm;
use crate::params::ParamIdx;
use crate::reference::{Gradients, Matrix, Parameters};

/// y = x Wᵀ + b.
pub(crate) fn map(params: &Parameters, x: &Matrix, (weight, bias): (ParamIdx, ParamIdx)) -> Matrix {
    x.times_transposed(&params.matrix(weight)).plus_row(params.vector(bias))
}

/// Layer norm of rows.
pub(crate) fn norm(params: &Parameters, x: &Matrix, eps: f32, (gain, bias): (ParamIdx, ParamIdx)) -> Matrix {
    layer_norm::forward_with(f64::from(eps), x, params.vector(gain), params.vector(bias))
}

/// The gradient by the argument of an activation.
pub(crate) fn activate_back(kind: crate::Activation, x: &Matrix, grad_y: &Matrix) -> Matrix {
    let values = x.values.iter().zip(&grad_y.values).map(|(x, grad)| activation::slope(kind, *x) * grad).collect();
    Matrix { values, ..*x }
}

/// f of every value.
pub(crate) fn activate(kind: crate::Activation, x: &Matrix) -> Matrix {
    x.map(|x| activation::value(kind, x))
}

/// Steps back through maps and norms, collecting parameter gradients.
pub(crate) struct Back<'a, 'b, 'c> {
    pub params: &'a Parameters<'a>,
    pub grads: &'c mut Gradients<'b>,
}

impl Back<'_, '_, '_> {
    /// dx = dy W, dW = dyᵀ x, db = sum dy.
    pub(crate) fn map(&mut self, (weight, bias): (ParamIdx, ParamIdx), x: &Matrix, grad_y: &Matrix) -> Matrix {
        self.grads.add(weight, &grad_y.transposed_times(x).values);
        self.grads.add(bias, &grad_y.column_sums());
        grad_y.times(&self.params.matrix(weight))
    }

    /// Gradient of a norm's input.
    pub(crate) fn norm(&mut self, eps: f32, (gain, bias): (ParamIdx, ParamIdx), x: &Matrix, grad_y: &Matrix) -> Matrix {
        let (grad_x, grad_gain, grad_bias) = layer_norm::backward_with(f64::from(eps), x, self.params.vector(gain), grad_y);
        self.grads.add(gain, &grad_gain);
        self.grads.add(bias, &grad_bias);
        grad_x
    }

    /// Gradient of m.
    pub(crate) fn mlp(&mut self, mlp: &Mlp, middle: &Matrix, grad_y: &Matrix) -> Matrix {
        let normed = norm(self.params, middle, mlp.eps, mlp.norm);
        let hidden = map(self.params, &normed, mlp.fc1);
        let grad_active = self.map(mlp.fc2, &activate(mlp.activation, &hidden), grad_y);
        let grad_hidden = activate_back(mlp.activation, &hidden, &grad_active);
        let grad_normed = self.map(mlp.fc1, &normed, &grad_hidden);
        grad_y.plus(&self.norm(mlp.eps, mlp.norm, middle, &grad_normed))
    }
}

/// y of m.
pub(crate) fn forward(mlp: &Mlp, params: &Parameters, middle: &Matrix) -> Matrix {
    let hidden = map(params, &norm(params, middle, mlp.eps, mlp.norm), mlp.fc1);
    middle.plus(&map(params, &activate(mlp.activation, &hidden), mlp.fc2))
}
