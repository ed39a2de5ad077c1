//! Group norm with an optional residual (the second input) and ReLU as an op of a program.
//!
//! Saved: the statistics. Recomputed in backward: the output, where ReLU stands behind the norm.

use super::{GroupNormShape, apply, backward, forward, reference};
use crate::batch_norm::After;
use crate::elementwise;
use crate::op::{Backward, Cpu, Forward, GradInput, GradLane, In, Op, OpShape, Oracle, Params, Reference, Rows, Value, Workspace};
use crate::params::{Init, ParamIdx, ParamList};
use crate::reference::{Gradients, Matrix, Parameters};

/// A group norm and where its parameters are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupNorm {
    /// Sizes.
    pub shape: GroupNormShape,
    /// Whether negative sums become 0.
    pub relu: bool,
    /// Gain.
    pub gain: ParamIdx,
    /// Bias.
    pub bias: ParamIdx,
}

impl GroupNorm {
    /// Adds the norm's parameters as `{name}.weight`, which starts as `gain`, and `{name}.bias`.
    pub fn describe(params: &mut ParamList, name: &str, shape: GroupNormShape, gain: f32, relu: bool) -> Self {
        let gain = params.vector(format!("{name}.weight"), shape.channels, Init::Constant(gain));
        let bias = params.vector(format!("{name}.bias"), shape.channels, Init::Constant(0.0));
        Self { shape, relu, gain, bias }
    }

    fn after<'a>(&self, inputs: &[In<'a>]) -> After<'a> {
        After { add: inputs.get(1).map(|add| add.rows()), relu: self.relu }
    }
}

impl Op for GroupNorm {
    fn shape(&self) -> OpShape {
        let GroupNormShape { pixels, channels, groups, eps: _ } = self.shape;
        OpShape::new((pixels, channels), &[("mean", 1, groups), ("rstd", 1, groups)], 0)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        vec![self.gain, self.bias]
    }
}

impl Rows for GroupNorm {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let (x, after) = (chunk.inputs[0].rows(), self.after(chunk.inputs));
        let [mean, rstd] = &mut *chunk.saved else { unreachable!("a group norm has two saved slots") };
        let (gain, bias) = (params.view(self.gain), params.view(self.bias));
        forward(&self.shape, chunk.samples, x, gain, bias, after, chunk.output, (mean, rstd), &mut work.ops);
    }

    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let (x, samples, after) = (chunk.inputs[0].rows(), chunk.samples, self.after(chunk.inputs));
        let [mean, rstd] = &*chunk.saved else { unreachable!("a group norm has two saved slots") };
        let (gain, bias, stats) = (params.view(self.gain), params.view(self.bias), (&**mean, &**rstd));
        let (ops, [y]) = work.split([if self.relu { x.len() } else { 0 }]);
        if self.relu {
            apply(&self.shape, samples, x, gain, bias, stats, after, y, ops);
        }
        let y = self.relu.then_some(&*y);
        let into = grads.pair_zeroed(self.gain, self.bias);
        let (grad_x, mode) = chunk.grad_inputs[0].rows();
        backward(&self.shape, samples, x, gain, stats, y, chunk.grad_output, grad_x, mode, into, ops);
        match chunk.grad_inputs.get_mut(1) {
            None | Some(GradInput::None) => {}
            Some(GradInput::Overwrite(grad)) => grad.copy_from_slice(chunk.grad_output),
            Some(GradInput::Add(grad)) => elementwise::add(chunk.grad_output, grad),
        }
    }
}

impl GroupNorm {
    fn norm<'a>(&'a self, params: &Parameters<'a>, inputs: &[Value<'a>]) -> reference::Norm<'a> {
        let add = inputs.get(1).map(|add| add.rows());
        reference::Norm { shape: &self.shape, gain: params.vector(self.gain), bias: params.vector(self.bias), add, relu: self.relu }
    }
}

impl Reference for GroupNorm {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        reference::forward(&self.norm(params, inputs), inputs[0].rows())
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let (grad_x, grad_gain, grad_bias, grad_add) = reference::backward(&self.norm(params, inputs), inputs[0].rows(), grad_y);
        grads.add(self.gain, &grad_gain);
        grads.add(self.bias, &grad_bias);
        let mut found = vec![Some(grad_x)];
        found.extend(inputs.get(1).map(|_| Some(grad_add)));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::graph::{Graph, Node};

    #[test]
    fn rows_agree_with_the_reference_and_the_reference_with_its_slopes() {
        for (pixels, channels, groups) in [(4, 6, 2), (9, 24, 8), (16, 5, 1)] {
            for (relu, has_add) in [(false, false), (true, false), (false, true), (true, true)] {
                let (mut params, shape) = (ParamList::default(), GroupNormShape { pixels, channels, groups, eps: 1e-5 });
                let op = GroupNorm::describe(&mut params, "norm", shape, 1.0, relu);
                let inputs: &[usize] = if has_add { &[0, 1] } else { &[0] };
                let given = vec![(pixels, channels); inputs.len()];
                let graph = Graph::new(given, vec![Node::new(op, inputs)], params, Default::default());
                graph.check(&format!("{shape:?}, ReLU {relu}, residual {has_add}"), 4);
            }
        }
    }

    #[test]
    fn gradients_are_added_where_a_later_reader_wrote_before() {
        let (mut params, shape) = (ParamList::default(), GroupNormShape { pixels: 4, channels: 6, groups: 2, eps: 1e-5 });
        let norms = ["a", "b", "c"].map(|name| GroupNorm::describe(&mut params, name, shape, 1.0, true));
        // The last norm reads both inputs as the others do, the other way round.
        let nodes = [Node::new(norms[0], &[0, 1]), Node::new(norms[1], &[1, 2]), Node::new(norms[2], &[3, 0])];
        let graph = Graph::new(vec![(4, 6); 2], nodes.into(), params, Default::default());
        graph.check("three norms", 3);
    }
}
