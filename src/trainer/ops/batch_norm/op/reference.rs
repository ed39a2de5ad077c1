//! Each group of samples as the rows of one norm; in evaluation y = (x - mean) / sqrt(var + eps) gain + bias (+ add) by the
//! running statistics.

use super::super::reference::{Group, backward, forward, statistics};
use super::BatchNorm;
use crate::op::Value;
use crate::op::whole::{Pass, State, WholeReference};
use crate::reference::{Gradients, Matrix, Parameters};

/// The rows of all samples, one after another.
fn joined<'a>(width: usize, samples: impl Iterator<Item = &'a Matrix>) -> Matrix {
    Matrix::from_rows(width, samples.flat_map(|sample| sample.values.iter().copied()).collect())
}

/// The rows of each sample.
fn apart(pixels: usize, rows: &Matrix) -> Vec<Matrix> {
    let sample = |values: &[f64]| Matrix::from_rows(rows.columns, values.to_vec());
    rows.values.chunks_exact(pixels * rows.columns).map(sample).collect()
}

impl BatchNorm {
    /// Rows of one input of a group; `None` if there is no such input.
    fn input(&self, samples: &[Vec<Value>], input: usize) -> Option<Matrix> {
        samples[0].get(input)?;
        Some(joined(self.shape.width, samples.iter().map(|inputs| inputs[input].rows())))
    }

    fn norm<'a>(&self, params: &Parameters<'a>, add: Option<&'a Matrix>) -> Group<'a> {
        let (gain, bias) = (params.vector(self.gain), params.vector(self.bias));
        Group { gain, bias, eps: f64::from(self.shape.eps), add, relu: self.shape.relu }
    }

    fn evaluate(&self, params: &Parameters, inputs: &[Value], state: &State<f64>) -> Matrix {
        let (gain, bias) = (params.vector(self.gain), params.vector(self.bias));
        let (mean, variance) = (state.view(self.running_mean), state.view(self.running_var));
        let mut y = inputs[0].rows().clone();
        for row in 0..y.rows {
            for (c, value) in y.row_mut(row).iter_mut().enumerate() {
                *value = (*value - mean[c]) / (variance[c] + f64::from(self.shape.eps)).sqrt() * gain[c] + bias[c];
            }
        }
        if let Some(add) = inputs.get(1) {
            y = y.plus(add.rows());
        }
        y.map(|z| if self.shape.relu { z.max(0.0) } else { z })
    }
}

impl WholeReference for BatchNorm {
    fn forward(&self, params: &Parameters, inputs: &[Vec<Value>], pass: Pass, state: &mut State<f64>) -> Vec<Matrix> {
        if pass == Pass::Evaluate {
            return inputs.iter().map(|inputs| self.evaluate(params, inputs, state)).collect();
        }
        let mut y = Vec::new();
        for samples in inputs.chunks(self.shape.group) {
            let x = self.input(samples, 0).expect("a batch norm reads rows");
            let add = self.input(samples, 1);
            y.extend(apart(self.shape.pixels, &forward(&self.norm(params, add.as_ref()), &x)));
            if pass == Pass::Gradient {
                let (mean, variance) = statistics(&x);
                let rows = x.rows as f64;
                let unbiased = |variance: &f64| if x.rows > 1 { variance * rows / (rows - 1.0) } else { 0.0 };
                state.observe(self.running_mean, mean.iter().copied());
                state.observe(self.running_var, variance.iter().map(unbiased));
            }
        }
        y
    }

    fn backward(
        &self,
        params: &Parameters,
        inputs: &[Vec<Value>],
        grad_outputs: &[Matrix],
        grads: &mut Gradients,
    ) -> Vec<Vec<Option<Matrix>>> {
        let (pixels, width) = (self.shape.pixels, self.shape.width);
        let mut found = Vec::new();
        for (samples, grad_y) in inputs.chunks(self.shape.group).zip(grad_outputs.chunks(self.shape.group)) {
            let x = self.input(samples, 0).expect("a batch norm reads rows");
            let add = self.input(samples, 1);
            let grad_y = joined(width, grad_y.iter());
            let (grad_x, grad_gain, grad_bias, grad_add) = backward(&self.norm(params, add.as_ref()), &x, &grad_y);
            grads.add(self.gain, &grad_gain);
            grads.add(self.bias, &grad_bias);
            for (grad_x, grad_add) in apart(pixels, &grad_x).into_iter().zip(apart(pixels, &grad_add)) {
                let mut sample = vec![Some(grad_x)];
                sample.extend(add.as_ref().map(|_| Some(grad_add)));
                found.push(sample);
            }
        }
        found
    }
}
