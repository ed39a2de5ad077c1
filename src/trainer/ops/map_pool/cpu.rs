//! The CPU's rows: the mean, the norm.

use super::MapPool;
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::{Accumulation, layer_norm, pool2d};

impl Rows for MapPool {
    fn forward(&self, params: &Params, chunk: &mut Forward, _work: &mut Workspace) {
        let x = chunk.inputs[0].rows();
        let Some((gain, bias)) = self.norm else {
            return pool2d::mean_forward(self.pixels, self.width, x, chunk.output);
        };
        let [pooled, mean, rstd] = &mut *chunk.saved else { unreachable!("pooling with a norm has three saved slots") };
        pool2d::mean_forward(self.pixels, self.width, x, pooled);
        layer_norm::forward_with(self.eps, pooled, params.view(gain), params.view(bias), chunk.output, mean, rstd);
    }

    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let (grad_x, mode) = chunk.grad_inputs[0].rows();
        let Some((gain, bias)) = self.norm else {
            return pool2d::mean_backward(self.pixels, self.width, chunk.grad_output, grad_x, mode);
        };
        let [pooled, mean, rstd] = &mut *chunk.saved else { unreachable!("pooling with a norm has three saved slots") };
        let (_, [grad_pooled]) = work.split([chunk.samples * self.width]);
        let (grad_gain, grad_bias) = grads.pair_zeroed(gain, bias);
        let (gain, grad_y) = (params.view(gain), &*chunk.grad_output);
        layer_norm::backward(pooled, grad_y, gain, mean, rstd, grad_pooled, Accumulation::Overwrite, grad_gain, grad_bias);
        pool2d::mean_backward(self.pixels, self.width, grad_pooled, grad_x, mode);
    }
}
