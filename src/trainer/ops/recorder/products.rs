//! Linear maps as products: y = x W + b, and their gradients.

use super::{Array, Elem, Recorder};
use crate::WeightLayout;
use crate::elementwise;
use crate::launch::{Factor, Product, Real};
use crate::linear::LinearShape;
use crate::params::ParamIdx;

impl Recorder<'_> {
    fn linear_shape(&self, weight: ParamIdx) -> LinearShape {
        self.places.views[weight].linear.expect("a linear map's view has a linear shape")
    }

    /// A weight in the compute type, as a factor.
    #[must_use]
    pub fn weight(&self, weight: ParamIdx, transposed: bool) -> Factor {
        Factor { view: self.shadow(weight), transposed, real: self.real }
    }

    /// y = x W (+ bias) (+ addend). **Shapes** x real [rows, inputs], y [rows, outputs] of f32 or real, addend f32 like y.
    pub fn linear(&mut self, (weight, bias): (ParamIdx, Option<ParamIdx>), x: Array, y: Array, addend: Option<Array>) {
        let LinearShape { inputs, outputs, layout } = self.linear_shape(weight);
        check(&self.real, x, inputs);
        assert_eq!((y.rows, y.channels), (x.rows, outputs), "output of a linear map");
        assert!(addend.is_none_or(|addend| (addend.elem, addend.len()) == (Elem::F32, y.len())), "addend of a linear map");
        let out_real = y.elem.real();
        // cuBLASLt reads a bias in the type of the output.
        let bias = bias.map(|bias| if out_real == Real::F32 { self.param(bias) } else { self.shadow(bias) });
        let (a, b) = (Factor::plain(x.view, self.real), self.weight(weight, layout == WeightLayout::OutIn));
        let (addend, out) = (addend.map(|addend| addend.view), y.view);
        self.push([Product { m: x.rows, n: outputs, k: inputs, a, b, addend, bias, out, out_real }]);
    }

    /// dx = dy Wᵀ. **Shapes** `grad_y` real [rows, outputs], `grad_x` [rows, inputs] of f32 or real.
    pub fn linear_input(&mut self, weight: ParamIdx, grad_y: Array, grad_x: Array) {
        let LinearShape { inputs, outputs, layout } = self.linear_shape(weight);
        check(&self.real, grad_y, outputs);
        assert_eq!((grad_x.rows, grad_x.channels), (grad_y.rows, inputs), "gradient of a linear map's input");
        let (a, b) = (Factor::plain(grad_y.view, self.real), self.weight(weight, layout == WeightLayout::InOut));
        let (out, out_real) = (grad_x.view, grad_x.elem.real());
        self.push([Product { m: grad_y.rows, n: inputs, k: outputs, a, b, addend: None, bias: None, out, out_real }]);
    }

    /// dW = xᵀ dy in the weight's layout and db = column sums of dy. **Shapes** x real [rows, inputs], `grad_y` real [rows, outputs].
    pub fn linear_weight(&mut self, (weight, bias): (ParamIdx, Option<ParamIdx>), x: Array, grad_y: Array) {
        let LinearShape { inputs, outputs, layout } = self.linear_shape(weight);
        check(&self.real, x, inputs);
        check(&self.real, grad_y, outputs);
        assert_eq!(x.rows, grad_y.rows, "rows of a linear map");
        let (m, n, a, b) = match layout {
            WeightLayout::OutIn => (outputs, inputs, grad_y, x),
            WeightLayout::InOut => (inputs, outputs, x, grad_y),
        };
        let ([out], accumulate) = self.grads([weight]);
        let (a, b) = (Factor::transposed(a.view, self.real), Factor::plain(b.view, self.real));
        let addend = accumulate.then_some(out);
        let product = Product { m, n, k: x.rows, a, b, addend, bias: None, out, out_real: Real::F32 };
        self.push_aside(|aside| &mut aside.products, [product]);
        if let Some(bias) = bias {
            let scratch = self.scratch("column sums", elementwise::cuda::column_sums_scratch_bytes(grad_y.rows, outputs));
            let ([sums], accumulate) = self.grads([bias]);
            let nodes = elementwise::cuda::column_sums(grad_y.rows, outputs, grad_y.view, self.real, sums, accumulate, scratch);
            self.push_aside(|aside| &mut aside.sums, nodes);
        }
    }
}

fn check(real: &Real, x: Array, channels: usize) {
    assert_eq!((x.elem, x.channels), (Elem::from(*real), channels), "rows that a linear map reads");
}
