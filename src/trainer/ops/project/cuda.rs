//! The projection as nodes: a product, and rows divided by their lengths.

use super::Project;
use crate::normalize;
use crate::recorder::{Array, Output, Record, Recorded, Recorder, Site, Value};

impl Record for Project {
    fn forward(&self, r: &mut Recorder, site: &Site, output: Output) -> Recorded {
        let (samples, embed_dim) = (site.samples, self.embed_dim);
        let x = r.in_reals(site.inputs[0].rows());
        let projected = r.floats("projected", samples, embed_dim);
        r.linear((self.weight, None), x, projected, None);
        let norm = r.floats("norm", samples, 1);
        let Output { floats, reals } = output;
        r.push([normalize::cuda::forward(samples, embed_dim, projected.view, floats.view, reals.view, norm.view)]);
        Recorded { output: Value::both(floats, reals), saved: vec![x, floats, norm] }
    }

    fn backward(&self, r: &mut Recorder, site: &Site, saved: &[Array], grad: Value) -> Vec<Option<Value>> {
        let [x, features, norm] = *saved else { panic!("what a projection saved") };
        let (samples, embed_dim) = (site.samples, self.embed_dim);
        let grad = r.in_floats(grad);
        let grad_projected = r.reals("grad projected", samples, embed_dim);
        let views = [features, norm, grad, grad_projected].map(|array| array.view);
        r.push([normalize::cuda::backward(samples, embed_dim, views[0], views[1], views[2], views[3])]);
        let grad_x = r.reals("grad pooled", samples, self.width);
        r.linear_input(self.weight, grad_projected, grad_x);
        r.linear_weight((self.weight, None), x, grad_projected);
        vec![Some(Value::reals(grad_x))]
    }
}
