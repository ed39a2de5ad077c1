//! `kernels/normalize.cu` against the CPU rows.

use crate::trainer::ops::launch::Real;
use crate::trainer::ops::normalize::{self, cuda};

use super::lab::{Bench, ORDERS, REALS, assert_near, random, rounded};

/// Rows, width.
const SHAPES: [(usize, usize); 7] = [(1, 1), (3, 5), (4, 64), (5, 127), (2, 512), (9, 20), (2, 1030)];

/// f32: sums in another order. bf16: one rounding of the result, 2^-9.
fn limit(real: Real) -> f32 {
    match real {
        Real::F32 => 2e-6,
        Real::Bf16 => 4e-3,
    }
}

/// Normalised rows and their gradients agree with the cpu.
pub(super) fn normalised_rows_and_their_gradients_agree_with_the_cpu() {
    for real in REALS {
        for ((rows, width), order) in SHAPES.into_iter().zip(ORDERS.into_iter().cycle()) {
            let (mut x, dy) = (random(1, rows * width), random(2, rows * width));
            if rows > 2 {
                // A row of zeros and one of next to nothing have the floor of the norm.
                x[width..2 * width].fill(0.0);
                x[2 * width..3 * width].iter_mut().for_each(|v| *v *= 1e-13);
            }
            check(real, order, width, &x, &dy);
        }
    }
}

fn check(real: Real, order: u32, width: usize, x: &[f32], dy: &[f32]) {
    let (rows, len) = (x.len() / width, x.len());
    let (mut y, mut norm, mut dx) = (vec![0.0; len], vec![0.0; rows], vec![0.0; len]);
    normalize::forward(width, x, &mut y, &mut norm);
    normalize::backward(width, &y, &norm, dy, &mut dx);
    let mut bench = Bench::new(real, order);
    let (x, dy) = (bench.floats(x), bench.floats(dy));
    let (found, found_norm) = (bench.unwritten_floats(len), bench.unwritten_floats(rows));
    let (narrow, grad_x) = (bench.unwritten_reals(len), bench.unwritten_reals(len));
    bench.run([
        cuda::forward(rows, width, x, found, narrow, found_norm),
        cuda::backward(rows, width, found, found_norm, dy, grad_x),
    ]);
    let what = format!("{rows} x {width} {real:?}");
    let found = bench.read_floats(found, len);
    assert_near(&what, &found, &y, 2e-6);
    assert_near(&format!("{what} norm"), &bench.read_floats(found_norm, rows), &norm, 2e-6);
    assert_eq!(bench.read_reals(narrow, len), rounded(&found, real), "{what}: the copy differs");
    // Row by row: over the floor of the norm a gradient is large.
    for (row, (found, expected)) in bench.read_reals(grad_x, len).chunks(width).zip(dx.chunks(width)).enumerate() {
        // In a single channel the gradient cancels to nothing.
        if width > 1 {
            assert_near(&format!("{what} gradient of row {row}"), found, expected, limit(real));
        }
    }
}

/// The mean over tokens is that of a plain sum.
pub(super) fn the_mean_over_tokens_is_that_of_a_plain_sum() {
    let cases = [(1, 1, 1), (3, 5, 7), (2, 50, 12), (2, 9, 260), (2, 3, 1032), (1, 17, 64)];
    for real in REALS {
        for ((samples, tokens, width), order) in cases.into_iter().zip(ORDERS.into_iter().cycle()) {
            let x = rounded(&random(1, samples * tokens * width), real);
            let mean = |i: usize| {
                let (sample, column) = (i / width, i % width);
                let sum: f64 = (0..tokens).map(|t| f64::from(x[(sample * tokens + t) * width + column])).sum();
                (sum / tokens as f64) as f32
            };
            let expected: Vec<f32> = (0..samples * width).map(mean).collect();
            let mut bench = Bench::new(real, order);
            let (x, y) = (bench.reals(&x), bench.unwritten_reals(samples * width));
            bench.run([cuda::mean_rows(samples, tokens, width, x, y)]);
            assert_near(
                &format!("{samples} {tokens} {width} {real:?}"),
                &bench.read_reals(y, samples * width),
                &expected,
                limit(real),
            );
        }
    }
}
