//! Linear layer: y = x W (+ b) on rows, its gradients, and the packed form of a weight.
//!
//! **Shapes** x `[rows, inputs]`, y `[rows, outputs]`, W as its [`WeightLayout`] says, b `[outputs]`.
//! Backward: dx = dy Wᵀ, dW = xᵀ dy (in the weight's own layout), db = column sums of dy.

use super::product::{Dims, Mat, Start, Target, cpu};
use super::{Scratch, WeightLayout, elementwise};

/// Shape of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearShape {
    /// Length of a row of x.
    pub inputs: usize,
    /// Length of a row of y.
    pub outputs: usize,
    /// How the weight lies in memory.
    pub layout: WeightLayout,
}

/// A weight, ready to be multiplied by.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// Its shape.
    pub shape: LinearShape,
    /// The weight as its layout says.
    pub weight: &'a [f32],
    /// What [`pack`] made of it, or empty: then products read the weight itself.
    pub packed: &'a [f32],
}

/// Floats that [`pack`] writes: both directions; 0 where this CPU multiplies by the weight as it is.
#[must_use]
pub fn packed_len(shape: &LinearShape) -> usize {
    forward_len(shape) + cpu::packed_len(shape.inputs, shape.outputs)
}

fn forward_len(shape: &LinearShape) -> usize {
    cpu::packed_len(shape.outputs, shape.inputs)
}

/// Rearranges a weight for fast products, forward and backward: once a step per weight.
pub fn pack(shape: &LinearShape, weight: &[f32], packed: &mut [f32]) {
    let LinearShape { inputs, outputs, .. } = *shape;
    assert_eq!(weight.len(), inputs * outputs, "weight of a linear layer");
    assert_eq!(packed.len(), packed_len(shape), "packed weight of a linear layer");
    let (forward, backward) = packed.split_at_mut(forward_len(shape));
    let weight = input_major(shape, weight);
    cpu::pack(outputs, inputs, weight, forward);
    cpu::pack(inputs, outputs, weight.transposed(), backward);
}

/// y = x W (+ b).
pub fn forward(l: &Linear, rows: usize, x: &[f32], bias: Option<&[f32]>, y: &mut [f32], s: &mut Scratch) {
    let LinearShape { inputs, outputs, .. } = l.shape;
    check(&l.shape, rows, x, y);
    let dims = Dims { m: rows, n: outputs, k: inputs };
    let (x, y) = (Mat::rows(x, inputs), Target { data: y, stride: outputs });
    let start = bias.map_or(Start::Zero, Start::Bias);
    if l.packed.is_empty() {
        cpu::multiply(dims, x, input_major(&l.shape, l.weight), start, y, s);
    } else {
        cpu::multiply_packed(dims, x, &l.packed[..forward_len(&l.shape)], start, y, s);
    }
}

/// dx = dy Wᵀ.
pub fn backward_input(l: &Linear, rows: usize, grad_y: &[f32], grad_x: &mut [f32], s: &mut Scratch) {
    let LinearShape { inputs, outputs, .. } = l.shape;
    check(&l.shape, rows, grad_x, grad_y);
    let dims = Dims { m: rows, n: inputs, k: outputs };
    let (dy, dx) = (Mat::rows(grad_y, outputs), Target { data: grad_x, stride: inputs });
    if l.packed.is_empty() {
        cpu::multiply(dims, dy, input_major(&l.shape, l.weight).transposed(), Start::Zero, dx, s);
    } else {
        cpu::multiply_packed(dims, dy, &l.packed[forward_len(&l.shape)..], Start::Zero, dx, s);
    }
}

/// dW = xᵀ dy in the weight's layout, and db; added to both if `accumulate`, else both are overwritten.
#[expect(clippy::too_many_arguments, reason = "two operands and two results, all plain slices")]
pub fn backward_weight(
    shape: &LinearShape,
    rows: usize,
    x: &[f32],
    grad_y: &[f32],
    grad_w: &mut [f32],
    grad_bias: Option<&mut [f32]>,
    accumulate: bool,
    s: &mut Scratch,
) {
    let LinearShape { inputs, outputs, layout } = *shape;
    check(shape, rows, x, grad_y);
    let (x, dy) = (Mat::rows(x, inputs), Mat::rows(grad_y, outputs));
    let start = if accumulate { Start::Add } else { Start::Zero };
    let (m, n, a, b) = match layout {
        WeightLayout::OutIn => (outputs, inputs, dy, x),
        WeightLayout::InOut => (inputs, outputs, x, dy),
    };
    cpu::multiply(Dims { m, n, k: rows }, a.transposed(), b, start, Target { data: grad_w, stride: n }, s);
    if let Some(grad_bias) = grad_bias {
        assert_eq!(grad_bias.len(), outputs, "bias gradient of a linear layer");
        if !accumulate {
            grad_bias.fill(0.0);
        }
        elementwise::column_sums(grad_y, grad_bias);
    }
}

/// `grad_w[o, i]` = or += sum over rows of `grad_y[row, o] x[row, i]`, for rows of `grad_w` that are `stride` apart.
#[expect(clippy::too_many_arguments, reason = "two operands and their widths, all plain slices")]
pub(crate) fn sum_outer(
    grad_y: &[f32],
    x: &[f32],
    outputs: usize,
    inputs: usize,
    grad_w: &mut [f32],
    stride: usize,
    accumulate: bool,
    s: &mut Scratch,
) {
    let rows = x.len() / inputs;
    assert!(x.len() == rows * inputs && grad_y.len() == rows * outputs, "rows of a weight gradient");
    let (x, dy) = (Mat::rows(x, inputs), Mat::rows(grad_y, outputs));
    let start = if accumulate { Start::Add } else { Start::Zero };
    cpu::multiply(Dims { m: outputs, n: inputs, k: rows }, dy.transposed(), x, start, Target { data: grad_w, stride }, s);
}

fn input_major<'a>(shape: &LinearShape, weight: &'a [f32]) -> Mat<'a> {
    match shape.layout {
        WeightLayout::InOut => Mat::rows(weight, shape.outputs),
        WeightLayout::OutIn => Mat::rows(weight, shape.inputs).transposed(),
    }
}

fn check(shape: &LinearShape, rows: usize, x: &[f32], y: &[f32]) {
    assert_eq!(x.len(), rows * shape.inputs, "input rows of a linear layer");
    assert_eq!(y.len(), rows * shape.outputs, "output rows of a linear layer");
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::on_every_path;
    use super::super::testing::{SUM, assert_close, random, widen};
    use super::*;

    const SHAPES: [(usize, usize, usize); 9] = [
        (1, 1, 1),
        (13, 7, 5),
        (12, 32, 32),
        (77, 48, 50),
        (31, 50, 96),
        (100, 96, 33),
        (64, 192, 17),
        (600, 24, 31),
        (5, 700, 16),
    ];

    /// y, dx, dW (as `[inputs, outputs]`) and db in f64.
    fn reference(w: &[f64], (rows, inputs, outputs): (usize, usize, usize), x: &[f64], b: &[f64], dy: &[f64]) -> [Vec<f64>; 4] {
        let (mut y, mut dx) = (vec![0.0; rows * outputs], vec![0.0; rows * inputs]);
        let (mut dw, mut db) = (vec![0.0; inputs * outputs], vec![0.0; outputs]);
        for r in 0..rows {
            for o in 0..outputs {
                let d = dy[r * outputs + o];
                y[r * outputs + o] = b[o];
                db[o] += d;
                for i in 0..inputs {
                    y[r * outputs + o] += x[r * inputs + i] * w[i * outputs + o];
                    dx[r * inputs + i] += d * w[i * outputs + o];
                    dw[i * outputs + o] += d * x[r * inputs + i];
                }
            }
        }
        [y, dx, dw, db]
    }

    fn transposed<T: Copy>(x: &[T], cols: usize) -> Vec<T> {
        (0..cols).flat_map(|j| x.iter().skip(j).step_by(cols).copied()).collect()
    }

    #[test]
    fn products_and_gradients_agree_with_f64_loops_in_any_shape_and_layout() {
        let mut s = Scratch::new();
        for (rows, inputs, outputs) in SHAPES {
            let (x, w) = (random(1, rows * inputs), random(2, inputs * outputs));
            let (b, dy) = (random(3, outputs), random(4, rows * outputs));
            let [y, dx, dw, db] = reference(&widen(&w), (rows, inputs, outputs), &widen(&x), &widen(&b), &widen(&dy));
            for layout in [WeightLayout::InOut, WeightLayout::OutIn] {
                let shape = LinearShape { inputs, outputs, layout };
                let (w, dw) = match layout {
                    WeightLayout::InOut => (w.clone(), dw.clone()),
                    WeightLayout::OutIn => (transposed(&w, outputs), transposed(&dw, outputs)),
                };
                on_every_path(|path| {
                    let what = |name| format!("{name}, {path}, {rows} rows, {shape:?}");
                    let mut packed = vec![f32::NAN; packed_len(&shape)];
                    pack(&shape, &w, &mut packed);
                    for packed in [&packed[..], &[]] {
                        let l = Linear { shape, weight: &w, packed };
                        let (mut found_y, mut found_dx) = (vec![f32::NAN; rows * outputs], vec![f32::NAN; rows * inputs]);
                        forward(&l, rows, &x, Some(&b), &mut found_y, &mut s);
                        backward_input(&l, rows, &dy, &mut found_dx, &mut s);
                        assert_close(&what("y"), &found_y, &y, SUM);
                        assert_close(&what("dx"), &found_dx, &dx, SUM);
                    }
                    let (mut found_dw, mut found_db) = (vec![f32::NAN; w.len()], vec![f32::NAN; outputs]);
                    for (accumulate, times) in [(false, 1.0), (true, 2.0)] {
                        backward_weight(&shape, rows, &x, &dy, &mut found_dw, Some(&mut found_db), accumulate, &mut s);
                        let scaled = |v: &[f64]| v.iter().map(|v| v * times).collect::<Vec<_>>();
                        assert_close(&what("dw"), &found_dw, &scaled(&dw), SUM);
                        assert_close(&what("db"), &found_db, &scaled(&db), SUM);
                    }
                });
            }
        }
    }

    #[test]
    fn without_a_bias_rows_start_from_zero() {
        let shape = LinearShape { inputs: 3, outputs: 2, layout: WeightLayout::OutIn };
        on_every_path(|path| {
            let l = Linear { shape, weight: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], packed: &[] };
            let mut y = [f32::NAN; 2];
            forward(&l, 1, &[1.0, 0.0, -1.0], None, &mut y, &mut Scratch::new());
            assert_eq!(y, [-2.0, -2.0], "{path}");
        });
    }

    #[test]
    fn no_rows_are_no_work_and_a_gradient_of_zero() {
        let shape = LinearShape { inputs: 40, outputs: 50, layout: WeightLayout::OutIn };
        let weight = random(1, 2000);
        on_every_path(|path| {
            let (mut dw, mut db, mut s) = (vec![1.0; 2000], vec![1.0; 50], Scratch::new());
            forward(&Linear { shape, weight: &weight, packed: &[] }, 0, &[], None, &mut [], &mut s);
            backward_weight(&shape, 0, &[], &[], &mut dw, Some(&mut db), true, &mut s);
            assert!(dw.iter().chain(&db).all(|&v| v == 1.0), "{path}");
            backward_weight(&shape, 0, &[], &[], &mut dw, Some(&mut db), false, &mut s);
            assert!(dw.iter().chain(&db).all(|&v| v == 0.0), "{path}");
        });
    }

    #[test]
    fn vector_paths_give_the_same_bits_however_rows_are_cut_into_calls() {
        let (rows, inputs, outputs) = (613, 40, 70);
        let shape = LinearShape { inputs, outputs, layout: WeightLayout::OutIn };
        let (x, w, dy) = (random(1, rows * inputs), random(2, inputs * outputs), random(4, rows * outputs));
        let mut s = Scratch::new();
        on_every_path(|path| {
            if matches!(path, "portable" | "neon") {
                return;
            }
            let mut packed = vec![f32::NAN; packed_len(&shape)];
            pack(&shape, &w, &mut packed);
            let run = |chunk: usize, packed: &[f32], s: &mut Scratch| {
                let l = Linear { shape, weight: &w, packed };
                let (mut y, mut dw) = (vec![0.0; rows * outputs], vec![0.0; w.len()]);
                let mut db = vec![0.0; outputs];
                for from in (0..rows).step_by(chunk) {
                    let n = chunk.min(rows - from);
                    let (x, dy) = (&x[from * inputs..][..n * inputs], &dy[from * outputs..][..n * outputs]);
                    forward(&l, n, x, None, &mut y[from * outputs..][..n * outputs], s);
                    backward_weight(&shape, n, x, dy, &mut dw, Some(&mut db), true, s);
                }
                (y, dw, db)
            };
            for packed in [&packed[..], &[]] {
                let whole = run(rows, packed, &mut s);
                for chunk in [1, 7, 64, 600] {
                    let (y, dw, db) = run(chunk, packed, &mut s);
                    assert!(whole.0 == y && whole.2 == db, "{path}, chunks of {chunk}");
                    // Tiles take 32 rows at a time from the start of a call.
                    if path != "avx512+amx" || chunk.is_multiple_of(32) {
                        assert!(whole.1 == dw, "{path}, weight gradient, chunks of {chunk}");
                    }
                }
            }
        });
    }
}
