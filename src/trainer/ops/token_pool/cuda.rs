//! The pooling as nodes: norm, and the mean where more than one row is pooled.

use super::{Pooled, TokenPool};
use crate::launch::View;
use crate::layer_norm::cuda::{RowPick, record_backward};
use crate::recorder::{Array, Output, Record, Recorded, Recorder, Site, Value};
use crate::{Accumulation, layer_norm, normalize};

impl TokenPool {
    /// The rows that are normed, where not all are.
    fn pick(&self, site: &Site) -> Option<RowPick> {
        let pick = |ends: Option<View>| Some(RowPick { stride: self.tokens, ends });
        match self.pooling {
            Pooled::Mean => None,
            Pooled::First => pick(None),
            Pooled::EndOfText => pick(Some(site.inputs[1].words().view)),
        }
    }

    /// Normed and pooled tokens, of the compute type [samples, C] in `out`, with mean and rstd of the norm.
    fn pool(&self, r: &mut Recorder, site: &Site, out: Array) -> [Array; 2] {
        let (samples, width) = (site.samples, self.width);
        let rows = samples * self.pooled_tokens();
        let x = r.in_floats(site.inputs[0].rows());
        let (mean, rstd) = (r.floats("mean", rows, 1), r.floats("rstd", rows, 1));
        let is_mean = self.pooling == Pooled::Mean;
        let normed = if is_mean { r.reals("normed", rows, width) } else { out };
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
        if is_mean {
            r.push([normalize::cuda::mean_rows(samples, self.tokens, width, normed.view, out.view)]);
        }
        [mean, rstd]
    }

    /// The tokens' gradient from that of what was pooled, of the compute type [samples, C].
    fn pool_backward(&self, r: &mut Recorder, site: &Site, [mean, rstd]: [Array; 2], grad_pooled: Array) -> Value {
        let (samples, width, tokens) = (site.samples, self.width, self.pooled_tokens());
        let x = r.in_floats(site.inputs[0].rows());
        let Output { floats, reals } = r.pair("stream gradient", samples * self.tokens, width);
        let grad = Value::both(floats, reals);
        // Only the rows that are pooled are written.
        if self.pooling != Pooled::Mean {
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
}

impl Record for TokenPool {
    fn forward(&self, r: &mut Recorder, site: &Site, output: Output) -> Recorded {
        let saved = self.pool(r, site, output.reals).to_vec();
        Recorded { output: Value::reals(output.reals), saved }
    }

    fn backward(&self, r: &mut Recorder, site: &Site, saved: &[Array], grad: Value) -> Vec<Option<Value>> {
        let [mean, rstd] = *saved else { panic!("what a pooling saved") };
        let grad = r.in_reals(grad);
        let mut grads = vec![None; site.inputs.len()];
        grads[0] = Some(self.pool_backward(r, site, [mean, rstd], grad));
        grads
    }
}
