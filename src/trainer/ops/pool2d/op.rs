//! The greatest of windows as an op of a program. Nothing is saved: backward computes the output again.

use super::{MaxPoolShape, max_backward, max_forward, reference};
use crate::op::{Backward, Cpu, Forward, GradLane, Op, OpShape, Oracle, Params, Reference, Rows, Value, Workspace};
use crate::params::ParamIdx;
use crate::reference::{Gradients, Matrix, Parameters};

/// A max pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool {
    /// Sizes.
    pub shape: MaxPoolShape,
}

impl Op for MaxPool {
    fn shape(&self) -> OpShape {
        let out = self.shape.out_side();
        OpShape::new((out * out, self.shape.channels), &[], 0)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        Vec::new()
    }
}

impl Rows for MaxPool {
    fn forward(&self, _params: &Params, chunk: &mut Forward, _work: &mut Workspace) {
        max_forward(&self.shape, chunk.samples, chunk.inputs[0].rows(), chunk.output);
    }

    fn backward(&self, _params: &Params, chunk: &mut Backward, _grads: &mut GradLane, work: &mut Workspace) {
        let (x, samples) = (chunk.inputs[0].rows(), chunk.samples);
        let (_, [y]) = work.split([chunk.grad_output.len()]);
        max_forward(&self.shape, samples, x, y);
        let (grad_x, mode) = chunk.grad_inputs[0].rows();
        max_backward(&self.shape, samples, x, y, chunk.grad_output, grad_x, mode);
    }
}

impl Reference for MaxPool {
    fn forward(&self, _params: &Parameters, inputs: &[Value]) -> Matrix {
        reference::max_forward(&self.shape, inputs[0].rows())
    }

    fn backward(&self, _params: &Parameters, inputs: &[Value], grad_y: &Matrix, _grads: &mut Gradients) -> Vec<Option<Matrix>> {
        vec![Some(reference::max_backward(&self.shape, inputs[0].rows(), grad_y))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::op::{Given, check};

    #[test]
    fn rows_agree_with_the_reference_and_the_reference_with_its_slopes() {
        for (side, channels, kernel, stride, padding) in [(8, 5, 3, 2, 1), (5, 24, 3, 2, 1), (4, 16, 2, 2, 0)] {
            let shape = MaxPoolShape { side, channels, kernel, stride, padding };
            check(&MaxPool { shape }, &[], Given::Rows(side * side, channels), 4);
        }
    }
}
