//! y = norm(p Wᵀ + b), where row p is a patch of (x / 255 - mean) / std in the order (channel, y, x).

use super::ConvStem;
use crate::layer_norm::reference as layer_norm;
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Matrix, Parameters};

fn patches(stem: &ConvStem, pixels: &[u8]) -> Matrix {
    let (side, patch) = (stem.shape.image_size, stem.shape.patch_size);
    let mut values = Vec::new();
    for (top, left) in (0..side / patch).flat_map(|y| (0..side / patch).map(move |x| (y * patch, x * patch))) {
        for channel in 0..3 {
            let (mean, std) = (f64::from(stem.shape.mean[channel]), f64::from(stem.shape.std[channel]));
            for (y, x) in (0..patch).flat_map(|y| (0..patch).map(move |x| (y, x))) {
                let pixel = f64::from(pixels[((top + y) * side + left + x) * 3 + channel]);
                values.push((pixel / 255.0 - mean) / std);
            }
        }
    }
    Matrix::from_rows(3 * patch * patch, values)
}

fn embed(stem: &ConvStem, params: &Parameters, pixels: &[u8]) -> Matrix {
    patches(stem, pixels).times_transposed(&params.matrix(stem.conv.0)).plus_row(params.vector(stem.conv.1))
}

impl Reference for ConvStem {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        let embedded = embed(self, params, inputs[0].bytes());
        layer_norm::forward_with(f64::from(self.eps), &embedded, params.vector(self.norm.0), params.vector(self.norm.1))
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let embedded = embed(self, params, inputs[0].bytes());
        let (grad_rows, grad_gain, grad_bias) =
            layer_norm::backward_with(f64::from(self.eps), &embedded, params.vector(self.norm.0), grad_y);
        grads.add(self.norm.0, &grad_gain);
        grads.add(self.norm.1, &grad_bias);
        grads.add(self.conv.0, &grad_rows.transposed_times(&patches(self, inputs[0].bytes())).values);
        grads.add(self.conv.1, &grad_rows.column_sums());
        vec![None]
    }
}
