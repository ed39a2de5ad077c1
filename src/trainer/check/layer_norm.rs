//! `kernels/layer_norm.cu` against the CPU rows.

use crate::trainer::ops::Accumulation;
use crate::trainer::ops::launch::{Real, View};
use crate::trainer::ops::layer_norm::cuda::{Backward, Forward, RowPick};
use crate::trainer::ops::layer_norm::{self, cuda};

use super::lab::{Bench, ORDERS, REALS, assert_near, random, rounded};

/// Rows, width: every kernel, whole and broken vectors.
const SHAPES: [(usize, usize); 12] =
    [(1, 1), (5, 7), (3, 64), (9, 256), (2, 257), (6, 512), (5, 515), (2, 768), (3, 1023), (2, 1280), (2, 1537), (1, 2048)];
/// More rows than blocks.
const MANY: [(usize, usize); 2] = [(3300, 3), (800, 260)];

/// An error of a few f32 roundings; one of bf16 (2^-9) on values that differ by the former.
fn limit(real: Real) -> f32 {
    match real {
        Real::F32 => 1e-5,
        Real::Bf16 => 4e-3,
    }
}

struct Case {
    rows: usize,
    width: usize,
    /// Rows of x a row of the norm, and which of them.
    stride: usize,
    ends: Vec<u32>,
    x: Vec<f32>,
    gain: Vec<f32>,
    bias: Vec<f32>,
    // What the CPU makes of it.
    y: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
}

impl Case {
    fn new(rows: usize, width: usize, stride: usize) -> Self {
        let x: Vec<f32> = random(1, rows * stride * width).iter().map(|v| v * 3.0 + 0.5).collect();
        let ends: Vec<u32> = (0..rows).map(|row| (row * 7 % stride) as u32).collect();
        let (gain, bias) = (random(2, width), random(3, width));
        let (mut y, mut mean, mut rstd) = (vec![0.0; rows * width], vec![0.0; rows], vec![0.0; rows]);
        let mut case = Self { rows, width, stride, ends, x, gain, bias, y: vec![], mean: vec![], rstd: vec![] };
        layer_norm::forward(&case.picked(&case.x), &case.gain, &case.bias, &mut y, &mut mean, &mut rstd);
        (case.y, case.mean, case.rstd) = (y, mean, rstd);
        case
    }
    /// First element of each picked row.
    fn starts(&self) -> impl Iterator<Item = usize> {
        self.ends.iter().enumerate().map(|(row, end)| (row * self.stride + *end as usize) * self.width)
    }
    /// The picked rows of something that lies as x does.
    fn picked(&self, x: &[f32]) -> Vec<f32> {
        self.starts().flat_map(|start| x[start..start + self.width].to_vec()).collect()
    }
    fn pick(&self, bench: &mut Bench) -> Option<RowPick> {
        (self.stride > 1).then(|| RowPick { stride: self.stride, ends: Some(bench.words(&self.ends)) })
    }
}

/// A buffer of f32, and the place after `skipped` of its elements: aligned to its elements only where that is 1.
fn floats(bench: &mut Bench, values: &[f32], skipped: usize) -> View {
    bench.floats(&[&vec![9.0; skipped], values].concat()).floats(skipped)
}

/// Rows and statistics agree with the cpu.
pub(super) fn rows_and_statistics_agree_with_the_cpu() {
    for real in REALS {
        for ((rows, width), order) in SHAPES.into_iter().zip(ORDERS.into_iter().cycle()) {
            check_forward(real, &Case::new(rows, width, 1), real, order, 0);
        }
        check_forward(real, &Case::new(5, 24, 4), real, 7, 0);
        check_forward(real, &Case::new(3, 1100, 3), real, 1, 0);
        check_forward(real, &Case::new(3, 24, 1), Real::F32, 0, 1);
    }
}

fn check_forward(real: Real, case: &Case, y_real: Real, order: u32, skipped: usize) {
    let Case { rows, width, .. } = *case;
    let mut bench = Bench::new(real, order);
    let pick = case.pick(&mut bench);
    let x = floats(&mut bench, &case.x, skipped);
    let (gain, bias) = (bench.floats(&case.gain), bench.floats(&case.bias));
    let (mean, rstd) = (bench.unwritten_floats(rows), bench.unwritten_floats(rows));
    let y = if y_real == real { bench.unwritten_reals(rows * width) } else { bench.unwritten_floats(rows * width) };
    bench.run([cuda::forward(&Forward { rows, width, x, pick, gain, bias, y, y_real, mean, rstd })]);
    let what = format!("{rows} x {width} {real:?}");
    let read = |bench: &Bench, view| {
        if y_real == real { bench.read_reals(view, rows * width) } else { bench.read_floats(view, rows * width) }
    };
    let found = read(&bench, y);
    assert_near(&what, &found, &case.y, limit(y_real));
    assert_near(&format!("{what} mean"), &bench.read_floats(mean, rows), &case.mean, 1e-6);
    assert_near(&format!("{what} rstd"), &bench.read_floats(rstd, rows), &case.rstd, 1e-5);
}

/// What a backward pass is asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    real: Real,
    grad_real: Real,
    rows_per_grad: usize,
    mode: Accumulation,
    with_copies: bool,
    order: u32,
    skipped: usize,
}

/// Gradients agree with the cpu.
pub(super) fn gradients_agree_with_the_cpu() {
    let asked = |real, order| {
        let mode = if order == 0 { Accumulation::Overwrite } else { Accumulation::Add };
        Asked { real, grad_real: real, rows_per_grad: 1, mode, with_copies: order != 1, order, skipped: 0 }
    };
    for real in REALS {
        for ((rows, width), order) in SHAPES.into_iter().chain(MANY).zip(ORDERS.into_iter().cycle()) {
            check_backward(&Case::new(rows, width, 1), asked(real, order));
        }
        for (order, stride) in ORDERS.into_iter().zip([2, 3, 5]) {
            check_backward(&Case::new(5, 24, stride), asked(real, order));
            check_backward(&Case::new(3, 1027, stride), asked(real, order));
            check_backward(
                &Case::new(12, 20, 1),
                Asked { rows_per_grad: stride.min(4), grad_real: Real::F32, ..asked(real, order) },
            );
            check_backward(&Case::new(7, 32, 1), Asked { skipped: 1, grad_real: Real::F32, ..asked(real, order) });
        }
    }
}

/// Gradients of x (where it lies), gain and bias on the CPU; those of gain and bias added to what is there.
fn expected(case: &Case, asked: Asked, grad_y: &[f32], grads: &mut [Vec<f32>; 3]) {
    let width = case.width;
    let share = 1.0 / asked.rows_per_grad as f32;
    let dy: Vec<f32> =
        (0..case.rows * width).map(|i| grad_y[i / width / asked.rows_per_grad * width + i % width] * share).collect();
    let [grad_x, grad_gain, grad_bias] = grads;
    let mut rows = case.picked(grad_x);
    let x = case.picked(&case.x);
    layer_norm::backward(&x, &dy, &case.gain, &case.mean, &case.rstd, &mut rows, asked.mode, grad_gain, grad_bias);
    for (start, row) in case.starts().zip(rows.chunks(width)) {
        grad_x[start..start + width].copy_from_slice(row);
    }
}

fn check_backward(case: &Case, asked: Asked) {
    let Case { rows, width, .. } = *case;
    let Asked { real, grad_real, rows_per_grad, mode, with_copies, order, skipped } = asked;
    let grad_y = rounded(&random(4, rows.div_ceil(rows_per_grad) * width), grad_real);
    let start = [random(5, case.x.len()), random(6, width), random(7, width)];
    let mut bench = Bench::new(real, order);
    let [grad_x, grad_gain, grad_bias] = [0, 1, 2].map(|i| bench.floats(&start[i]));
    let accumulate = mode == Accumulation::Add;
    let mut grads = start;
    if !accumulate {
        grads[1].fill(0.0);
        grads[2].fill(0.0);
    }
    expected(case, asked, &grad_y, &mut grads);
    let at = Backward {
        rows,
        width,
        x: floats(&mut bench, &case.x, skipped),
        pick: case.pick(&mut bench),
        grad_y: if grad_real == real { bench.reals(&grad_y) } else { bench.floats(&grad_y) },
        grad_y_real: grad_real,
        rows_per_grad,
        gain: bench.floats(&case.gain),
        bias: bench.floats(&case.bias),
        mean: bench.floats(&case.mean),
        rstd: bench.floats(&case.rstd),
        grad_x,
        mode,
        grad_x_real: with_copies.then(|| bench.unwritten_reals(case.x.len())),
        normed: with_copies.then(|| bench.unwritten_reals(rows * width)),
        grad_gain,
        grad_bias,
        accumulate,
    };
    let scratch = bench.unwritten_floats(cuda::backward_scratch_bytes(rows, width) / 4);
    bench.run(cuda::backward(&at, scratch));
    let what = format!("{rows} x {width} {asked:?}");
    let found = bench.read_floats(grad_x, case.x.len());
    assert_near(&format!("{what} x"), &found, &grads[0], 1e-5);
    assert_near(&format!("{what} gain"), &bench.read_floats(grad_gain, width), &grads[1], 1e-5);
    assert_near(&format!("{what} bias"), &bench.read_floats(grad_bias, width), &grads[2], 1e-5);
    if let (Some(copy), Some(normed)) = (at.grad_x_real, at.normed) {
        let copy = case.picked(&bench.read_reals(copy, case.x.len()));
        assert!(copy == rounded(&case.picked(&found), real), "{what}: the copy of grad_x differs");
        assert_near(&format!("{what} normed"), &bench.read_reals(normed, rows * width), &case.y, limit(real));
    }
}

/// The repeated output has the bits of forward and the gradient may replace its source.
pub(super) fn the_repeated_output_has_the_bits_of_forward_and_the_gradient_may_replace_its_source() {
    for (width, order) in [(30, 0), (260, 7), (1028, 1)] {
        let (rows, case) = (5, Case::new(5, width, 1));
        let mut bench = Bench::new(Real::Bf16, order);
        let (x, gain, bias) = (bench.floats(&case.x), bench.floats(&case.gain), bench.floats(&case.bias));
        let (mean, rstd) = (bench.unwritten_floats(rows), bench.unwritten_floats(rows));
        let (y, normed) = (bench.unwritten_reals(rows * width), bench.unwritten_reals(rows * width));
        bench.run([cuda::forward(&Forward { rows, width, x, pick: None, gain, bias, y, y_real: Real::Bf16, mean, rstd })]);
        let grad = random(4, rows * width);
        let grad_view = bench.floats(&grad);
        let (grad_gain, grad_bias) = (bench.unwritten_floats(width), bench.unwritten_floats(width));
        let scratch = bench.unwritten_floats(cuda::backward_scratch_bytes(rows, width) / 4);
        let at = Backward {
            rows,
            width,
            x,
            pick: None,
            grad_y: grad_view,
            grad_y_real: Real::F32,
            rows_per_grad: 1,
            gain,
            bias,
            mean,
            rstd,
            grad_x: grad_view,
            mode: Accumulation::Overwrite,
            grad_x_real: None,
            normed: Some(normed),
            grad_gain,
            grad_bias,
            accumulate: false,
        };
        bench.run(cuda::backward(&at, scratch));
        assert_eq!(bench.read_reals(normed, rows * width), bench.read_reals(y, rows * width), "width {width}");
        let (mut dx, mut dgain, mut dbias) = (vec![0.0; rows * width], vec![0.0; width], vec![0.0; width]);
        let (gain, mean, rstd) = (&case.gain, &case.mean, &case.rstd);
        layer_norm::backward(&case.x, &grad, gain, mean, rstd, &mut dx, Accumulation::Overwrite, &mut dgain, &mut dbias);
        assert_near(&format!("{width} in place"), &bench.read_floats(grad_view, rows * width), &dx, 1e-5);
    }
}
