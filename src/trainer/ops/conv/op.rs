//! A convolution without bias as an op of a program.
//!
//! The weight is stored `[outputs, k, k, inputs]`; its exported shape is PyTorch's `[outputs, inputs, k, k]` (see the parent
//! module). Nothing is saved.

use super::{ConvShape, backward_input, backward_weight, forward, reference};
use crate::op::{Backward, Cpu, Forward, GradInput, GradLane, Op, OpShape, Oracle, Params, Reference, Rows, Value, Workspace};
use crate::params::{Init, ParamIdx, ParamList};
use crate::reference::{Gradients, Matrix, Parameters};

/// A convolution and where its weight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Sizes.
    pub shape: ConvShape,
    /// Weight.
    pub weight: ParamIdx,
}

impl Conv2d {
    /// Adds the weight as `{name}.weight`, started by `init`.
    pub fn describe(params: &mut ParamList, name: &str, shape: ConvShape, init: Init) -> Self {
        let exported = [shape.outputs, shape.inputs, shape.kernel, shape.kernel];
        let weight = params.linear(format!("{name}.weight"), &exported, 1, shape.linear(), init);
        params.permute(weight, (shape.outputs, shape.kernel * shape.kernel, shape.inputs));
        Self { shape, weight }
    }
}

impl Op for Conv2d {
    fn shape(&self) -> OpShape {
        OpShape::new((self.shape.out_pixels(), self.shape.outputs), &[], self.shape.macs())
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        vec![self.weight]
    }
}

impl Rows for Conv2d {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let (x, weight) = (chunk.inputs[0].rows(), params.linear(self.weight));
        forward(&self.shape, &weight, chunk.samples, x, None, chunk.output, &mut work.ops);
    }

    /// The gradient of the input is left out where the program asks for none.
    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let (x, samples, accumulate) = (chunk.inputs[0].rows(), chunk.samples, !grads.first);
        let grad_weight = grads.view(self.weight);
        backward_weight(&self.shape, samples, x, chunk.grad_output, grad_weight, None, accumulate, &mut work.ops);
        if !matches!(chunk.grad_inputs[0], GradInput::None) {
            let (grad_x, mode) = chunk.grad_inputs[0].rows();
            let weight = params.linear(self.weight);
            backward_input(&self.shape, &weight, samples, chunk.grad_output, grad_x, mode, &mut work.ops);
        }
    }
}

impl Reference for Conv2d {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        reference::forward(&self.shape, &params.matrix(self.weight), None, inputs[0].rows())
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let (grad_x, grad_weight, _) = reference::backward(&self.shape, &params.matrix(self.weight), inputs[0].rows(), grad_y);
        grads.add(self.weight, &grad_weight.values);
        vec![Some(grad_x)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::graph::{Graph, Node};
    use crate::testing::op::{Given, check};

    fn shapes() -> [ConvShape; 5] {
        [(5, 3, 4, 3, 2, 1), (4, 8, 5, 1, 1, 0), (6, 4, 7, 1, 2, 0), (8, 3, 6, 7, 2, 3), (3, 20, 18, 3, 1, 1)]
            .map(|(side, inputs, outputs, kernel, stride, padding)| ConvShape { side, inputs, outputs, kernel, stride, padding })
    }

    #[test]
    fn rows_agree_with_the_reference_and_the_reference_with_its_slopes() {
        for shape in shapes() {
            let mut params = ParamList::default();
            let op = Conv2d::describe(&mut params, "conv", shape, Init::Normal { std: 0.1 });
            let views = params.finish();
            let view = &views[op.weight];
            assert_eq!(view.shape, [shape.outputs, shape.inputs, shape.kernel, shape.kernel]);
            let exported: Vec<f32> = (0..view.len()).map(|i| i as f32).collect();
            let stored = view.from_exported(exported.clone());
            // The second tap of the first output's first input.
            assert!(shape.kernel == 1 || stored[shape.inputs] == 1.0);
            assert_eq!(view.to_exported(&stored), exported);
            check(&op, &views, Given::Rows(shape.pixels(), shape.inputs), 3);
        }
    }

    #[test]
    fn the_weights_gradient_needs_no_gradient_of_the_input() {
        for shape in shapes() {
            let mut params = ParamList::default();
            let op = Conv2d::describe(&mut params, "conv", shape, Init::Normal { std: 0.1 });
            let given = vec![(shape.pixels(), shape.inputs)];
            let mut graph = Graph::new(given, vec![Node::new(op, &[0])], params, Default::default());
            let all = graph.step(3, 2);
            graph.asks_for_inputs = false;
            let some = graph.step(3, 2);
            assert_eq!((all.grads, all.grad_inputs.len(), some.grad_inputs.len()), (some.grads, 1, 0));
        }
    }
}
