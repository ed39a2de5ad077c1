//! The passes of Adafactor over one matrix, on vectors.

use super::super::simd::{Simd, dispatch, for_vectors};
use super::EPS;

/// Factors of one step, the same for all elements.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    /// Decay of the second moment.
    pub decay: f32,
    pub beta1: f32,
    pub lr: f32,
    pub keep: f32,
}

/// A parameter, its momentum and its gradient.
pub(super) struct Matrix<'a> {
    pub params: &'a mut [f32],
    pub grads: &'a [f32],
    pub momentum: &'a mut [f32],
}

dispatch! {
    pub(super) fn moments(decay: f32, grads: &[f32], rows: &mut [f32], cols: &mut [f32]) = moments_on;
}

dispatch! {
    pub(super) fn apply_factored(f: Factors, matrix: Matrix, row_factors: &[f32], col_factors: &[f32]) = apply_factored_on;
}

dispatch! {
    pub(super) fn apply_unfactored(f: Factors, matrix: Matrix, second: &mut [f32]) = apply_unfactored_on;
}

/// Row and column averages of g² + eps, folded into their running averages.
#[inline(always)]
fn moments_on<S: Simd>(s: S, decay: f32, grads: &[f32], rows: &mut [f32], cols: &mut [f32]) {
    let (width, height) = (cols.len(), rows.len());
    let of_row = (1.0 - decay) / width as f32;
    let of_col = s.splat((1.0 - decay) / height as f32);
    for_vectors!(s: S, width, |at| {
        at.store(cols, s.mul(at.load(cols), s.splat(decay)));
    });
    for (row, average) in grads.chunks_exact(width).zip(rows) {
        let mut sum = s.splat(0.0);
        for_vectors!(s: S, width, |at| {
            let g = at.load(row);
            let square = s.mul_add(g, g, s.splat(EPS));
            sum = s.add(sum, at.keep(square));
            at.store(cols, s.mul_add(square, of_col, at.load(cols)));
        });
        *average = decay * *average + of_row * s.sum(sum);
    }
}

#[inline(always)]
fn apply_factored_on<S: Simd>(s: S, f: Factors, matrix: Matrix, row_factors: &[f32], col_factors: &[f32]) {
    let width = col_factors.len();
    let Matrix { params, grads, momentum } = matrix;
    let rows = params.chunks_exact_mut(width).zip(grads.chunks_exact(width)).zip(momentum.chunks_exact_mut(width));
    for (((params, grads), momentum), &factor) in rows.zip(row_factors) {
        let factor = s.splat(factor);
        for_vectors!(s: S, width, |at| {
            let scaled = s.mul(s.mul(at.load(grads), factor), at.load(col_factors));
            let m = s.mul_add(s.splat(f.beta1), at.load(momentum), s.mul(s.splat(1.0 - f.beta1), scaled));
            at.store(momentum, m);
            at.store(params, s.neg_mul_add(s.splat(f.lr), m, s.mul(s.splat(f.keep), at.load(params))));
        });
    }
}

#[inline(always)]
fn apply_unfactored_on<S: Simd>(s: S, f: Factors, matrix: Matrix, second: &mut [f32]) {
    let Matrix { params, grads, momentum } = matrix;
    let n = params.len();
    let (grads, momentum, second) = (&grads[..n], &mut momentum[..n], &mut second[..n]);
    for_vectors!(s: S, n, |at| {
        let g = at.load(grads);
        let fresh = s.mul(s.splat(1.0 - f.decay), s.mul_add(g, g, s.splat(EPS)));
        let v = s.mul_add(s.splat(f.decay), at.load(second), fresh);
        at.store(second, v);
        let scaled = s.div(g, s.sqrt(v));
        let m = s.mul_add(s.splat(f.beta1), at.load(momentum), s.mul(s.splat(1.0 - f.beta1), scaled));
        at.store(momentum, m);
        at.store(params, s.neg_mul_add(s.splat(f.lr), m, s.mul(s.splat(f.keep), at.load(params))));
    });
}
