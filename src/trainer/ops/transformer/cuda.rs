//! The transformer block as nodes; what is saved and what is computed again is as on the CPU.

use super::TransformerBlock;
use crate::params::ParamIdx;
use crate::recorder::{Array, Output, Record, Recorded, Recorder, Site, Value};
use crate::{Accumulation, activation, attention, layer_norm};

/// A norm on its way back: its gain and bias, input, mean and rstd.
struct Norm {
    params: (ParamIdx, ParamIdx),
    x: Array,
    statistics: [Array; 2],
}

/// y and statistics into given places.
fn norm(r: &mut Recorder, (gain, bias): (ParamIdx, ParamIdx), x: Array, [mean, rstd]: [Array; 2]) -> Array {
    let y = r.reals("normed", x.rows, x.channels);
    let args = layer_norm::cuda::Forward {
        rows: x.rows,
        width: x.channels,
        x: x.view,
        pick: None,
        gain: r.param(gain),
        bias: r.param(bias),
        y: y.view,
        y_real: r.real(),
        mean: mean.view,
        rstd: rstd.view,
    };
    r.push([layer_norm::cuda::forward(&args)]);
    y
}

/// Adds a norm's input gradient to the stream's; returns the norm's output once more, and the stream's gradient: the copy for
/// products in a new place, since gradients of weights may still wait to read the old one.
fn norm_backward(r: &mut Recorder, norm: &Norm, grad_y: Array, grad: Output) -> (Array, Output) {
    let Norm { params: (gain, bias), x, statistics: [mean, rstd] } = *norm;
    let (rows, width) = (x.rows, x.channels);
    let normed = r.reals("normed", rows, width);
    let has_copy = grad.reals.view != grad.floats.view;
    let reals = if has_copy { r.reals("stream gradient copy", rows, width) } else { grad.floats };
    let ([grad_gain, grad_bias], accumulate) = r.grads([gain, bias]);
    let args = layer_norm::cuda::Backward {
        rows,
        width,
        x: x.view,
        pick: None,
        grad_y: grad_y.view,
        grad_y_real: r.real(),
        rows_per_grad: 1,
        gain: r.param(gain),
        bias: r.param(bias),
        mean: mean.view,
        rstd: rstd.view,
        grad_x: grad.floats.view,
        mode: Accumulation::Add,
        grad_x_real: has_copy.then_some(reals.view),
        normed: Some(normed.view),
        grad_gain,
        grad_bias,
        accumulate,
    };
    layer_norm::cuda::record_backward(r, &args);
    (normed, Output { reals, ..grad })
}

impl Record for TransformerBlock {
    fn forward(&self, r: &mut Recorder, site: &Site, output: Output) -> Recorded {
        let shape = self.shape;
        let (samples, width, hidden_width) = (site.samples, shape.width, shape.mlp_width);
        let rows = samples * shape.tokens;
        let x = r.in_floats(site.inputs[0].rows());
        let qkv = r.reals("qkv", rows, 3 * width);
        let attended = r.reals("attention", rows, width);
        let lse = r.floats("lse", rows, shape.heads);
        let middle = r.floats("middle", rows, width);
        let hidden = r.reals("hidden", rows, hidden_width);
        let [mean1, rstd1, mean2, rstd2] = ["mean1", "rstd1", "mean2", "rstd2"].map(|name| r.floats(name, rows, 1));
        let normed = norm(r, self.norm1, x, [mean1, rstd1]);
        r.linear((self.qkv.0, Some(self.qkv.1)), normed, qkv, None);
        let heads = self.attention_shape();
        r.push([attention::cuda::forward(&heads, r.real(), samples, qkv.view, attended.view, lse.view)]);
        r.linear((self.out.0, Some(self.out.1)), attended, middle, Some(x));
        let normed = norm(r, self.norm2, middle, [mean2, rstd2]);
        r.linear((self.fc1.0, Some(self.fc1.1)), normed, hidden, None);
        let active = r.reals("active", rows, hidden_width);
        r.push([activation::cuda::forward(shape.activation, hidden.len(), hidden.view, active.view)]);
        r.linear((self.fc2.0, Some(self.fc2.1)), active, output.floats, Some(middle));
        let saved = vec![qkv, attended, lse, middle, hidden, mean1, rstd1, mean2, rstd2];
        Recorded { output: Value::floats(output.floats), saved }
    }

    /// The input's gradient is where the output's was.
    fn backward(&self, r: &mut Recorder, site: &Site, saved: &[Array], grad: Value) -> Vec<Option<Value>> {
        let [qkv, attended, lse, middle, hidden, mean1, rstd1, mean2, rstd2] = *saved else { panic!("what the block saved") };
        let shape = self.shape;
        let (samples, width, hidden_width) = (site.samples, shape.width, shape.mlp_width);
        let rows = samples * shape.tokens;
        let x = r.in_floats(site.inputs[0].rows());
        let grad = Output { floats: r.in_floats(grad), reals: r.in_reals(grad) };
        // MLP half: y = middle + fc2(act(fc1(norm2(middle)))).
        let grad_hidden = r.reals("grad hidden", rows, hidden_width);
        let active = r.reals("active", rows, hidden_width);
        r.linear_input(self.fc2.0, grad.reals, grad_hidden);
        let len = hidden.len();
        r.push([activation::cuda::backward(shape.activation, len, hidden.view, active.view, grad_hidden.view)]);
        r.linear_weight((self.fc2.0, Some(self.fc2.1)), active, grad.reals);
        let grad_normed = r.reals("grad normed", rows, width);
        r.linear_input(self.fc1.0, grad_hidden, grad_normed);
        let norm2 = Norm { params: self.norm2, x: middle, statistics: [mean2, rstd2] };
        let (normed, grad) = norm_backward(r, &norm2, grad_normed, grad);
        r.linear_weight((self.fc1.0, Some(self.fc1.1)), normed, grad_hidden);
        // Attention half: middle = x + out(attention(qkv(norm1(x)))).
        let grad_attended = r.reals("grad attention", rows, width);
        r.linear_input(self.out.0, grad.reals, grad_attended);
        r.linear_weight((self.out.0, Some(self.out.1)), attended, grad.reals);
        let heads = self.attention_shape();
        let scratch = r.scratch("attention scratch", attention::cuda::backward_scratch_bytes(&heads, r.real(), samples));
        let grad_qkv = r.reals("grad qkv", rows, 3 * width);
        let views = attention::cuda::BackwardViews {
            qkv: qkv.view,
            out: attended.view,
            grad_out: grad_attended.view,
            lse: lse.view,
            grad_qkv: grad_qkv.view,
            scratch,
        };
        r.push(attention::cuda::backward(&heads, r.real(), samples, views));
        let grad_normed = r.reals("grad normed", rows, width);
        r.linear_input(self.qkv.0, grad_qkv, grad_normed);
        let norm1 = Norm { params: self.norm1, x, statistics: [mean1, rstd1] };
        let (normed, grad) = norm_backward(r, &norm1, grad_normed, grad);
        r.linear_weight((self.qkv.0, Some(self.qkv.1)), normed, grad_qkv);
        vec![Some(Value::both(grad.floats, grad.reals))]
    }
}
