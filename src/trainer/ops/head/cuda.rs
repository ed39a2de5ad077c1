//! The head as nodes: norm and pooling, then projection and normalisation.

use super::{Head, HeadPooling};
use crate::launch::View;
use crate::layer_norm::cuda::{RowPick, record_backward};
use crate::recorder::{Array, Output, Record, Recorded, Recorder, Site, Value};
use crate::{Accumulation, layer_norm, normalize};

impl Head {
    /// The rows that are normed, where not all are.
    fn pick(&self, site: &Site) -> Option<RowPick> {
        let pick = |ends: Option<View>| Some(RowPick { stride: self.tokens, ends });
        match self.pooling {
            HeadPooling::Mean => None,
            HeadPooling::First => pick(None),
            HeadPooling::EndOfText => pick(Some(site.inputs[1].words().view)),
        }
    }

    /// Normed and pooled tokens, of the compute type [samples, C], with mean and rstd of the norm.
    fn pool(&self, r: &mut Recorder, site: &Site) -> (Array, [Array; 2]) {
        let (samples, width) = (site.samples, self.width);
        let rows = samples * self.pooled_tokens();
        let x = r.in_floats(site.inputs[0].rows());
        let (mean, rstd) = (r.floats("mean", rows, 1), r.floats("rstd", rows, 1));
        let normed = r.reals("normed", rows, width);
        let args = layer_norm::cuda::Forward {
            rows,
            width,
            x: x.view,
            pick: self.pick(site),
            gain: r.param(self.gain),
            bias: r.param(self.bias),
            y: normed.view,
            y_real: r.real(),
            mean: mean.view,
            rstd: rstd.view,
        };
        r.push([layer_norm::cuda::forward(&args)]);
        if self.pooling != HeadPooling::Mean {
            return (normed, [mean, rstd]);
        }
        let pooled = r.reals("pooled", samples, width);
        r.push([normalize::cuda::mean_rows(samples, self.tokens, width, normed.view, pooled.view)]);
        (pooled, [mean, rstd])
    }

    /// The tokens' gradient from that of what was pooled, of the compute type [samples, C].
    fn pool_backward(&self, r: &mut Recorder, site: &Site, [mean, rstd]: [Array; 2], grad_pooled: Array) -> Value {
        let (samples, width, tokens) = (site.samples, self.width, self.pooled_tokens());
        let x = r.in_floats(site.inputs[0].rows());
        let Output { floats, reals } = r.pair("stream gradient", samples * self.tokens, width);
        let grad = Value::both(floats, reals);
        // Only the rows that are pooled are written.
        if self.pooling != HeadPooling::Mean {
            r.zero(floats);
            grad.copy().into_iter().for_each(|copy| r.zero(copy));
        }
        let ([grad_gain, grad_bias], accumulate) = r.grads([self.gain, self.bias]);
        let args = layer_norm::cuda::Backward {
            rows: samples * tokens,
            width,
            x: x.view,
            pick: self.pick(site),
            grad_y: grad_pooled.view,
            grad_y_real: r.real(),
            rows_per_grad: tokens,
            gain: r.param(self.gain),
            bias: r.param(self.bias),
            mean: mean.view,
            rstd: rstd.view,
            grad_x: floats.view,
            mode: Accumulation::Overwrite,
            grad_x_real: grad.copy().map(|copy| copy.view),
            normed: None,
            grad_gain,
            grad_bias,
            accumulate,
        };
        record_backward(r, &args);
        grad
    }

    /// Normalised features of pooled tokens, in both types; returns the norms.
    fn project(&self, r: &mut Recorder, pooled: Array, features: Output) -> Array {
        let (samples, embed_dim) = (pooled.rows, self.embed_dim);
        let projected = r.floats("projected", samples, embed_dim);
        r.linear((self.project, None), pooled, projected, None);
        let norm = r.floats("norm", samples, 1);
        let Output { floats, reals } = features;
        r.push([normalize::cuda::forward(samples, embed_dim, projected.view, floats.view, reals.view, norm.view)]);
        norm
    }

    /// The pooled tokens' gradient from that of the features (both given), of the compute type.
    fn project_backward(&self, r: &mut Recorder, pooled: Array, [features, norm]: [Array; 2], grad: Value) -> Array {
        let (samples, embed_dim) = (pooled.rows, self.embed_dim);
        let grad = r.in_floats(grad);
        let grad_projected = r.reals("grad projected", samples, embed_dim);
        let views = [features, norm, grad, grad_projected].map(|array| array.view);
        r.push([normalize::cuda::backward(samples, embed_dim, views[0], views[1], views[2], views[3])]);
        let grad_pooled = r.reals("grad pooled", samples, self.width);
        r.linear_input(self.project, grad_projected, grad_pooled);
        r.linear_weight((self.project, None), pooled, grad_projected);
        grad_pooled
    }
}

impl Record for Head {
    fn forward(&self, r: &mut Recorder, site: &Site, output: Output) -> Recorded {
        let (pooled, [mean, rstd]) = self.pool(r, site);
        let norm = self.project(r, pooled, output);
        Recorded { output: Value::both(output.floats, output.reals), saved: vec![mean, rstd, pooled, output.floats, norm] }
    }

    fn backward(&self, r: &mut Recorder, site: &Site, saved: &[Array], grad: Value) -> Vec<Option<Value>> {
        let [mean, rstd, pooled, features, norm] = *saved else { panic!("what the head saved") };
        let grad_pooled = self.project_backward(r, pooled, [features, norm], grad);
        let grad = self.pool_backward(r, site, [mean, rstd], grad_pooled);
        let mut grads = vec![None; site.inputs.len()];
        grads[0] = Some(grad);
        grads
    }
}
