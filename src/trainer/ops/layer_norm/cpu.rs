//! Layer norm on vectors, a row at a time: statistics in two passes over a row that is in L1.

use super::super::simd::{Simd, dispatch, for_vectors};
use super::Accumulation;

/// Gain and bias.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    pub gain: &'a [f32],
    pub bias: &'a [f32],
}

/// What forward leaves for backward, a float a row.
pub(super) struct Statistics<'a> {
    pub mean: &'a mut [f32],
    pub rstd: &'a mut [f32],
}

/// What backward reads.
#[derive(Clone, Copy)]
pub(super) struct Saved<'a> {
    pub x: &'a [f32],
    pub gain: &'a [f32],
    pub mean: &'a [f32],
    pub rstd: &'a [f32],
}

dispatch! {
    pub(super) fn forward(eps: f32, x: &[f32], affine: Affine, y: &mut [f32], stats: Statistics) = forward_on;
}

dispatch! {
    pub(super) fn forward_residual(
        eps: f32,
        x: &mut [f32],
        add: &[f32],
        affine: Affine,
        y: &mut [f32],
        stats: Statistics,
    ) = residual_on;
}

dispatch! {
    pub(super) fn recompute(x: &[f32], affine: Affine, mean: &[f32], rstd: &[f32], y: &mut [f32]) = recompute_on;
}

dispatch! {
    pub(super) fn backward(
        saved: Saved,
        grad_y: &[f32],
        grad_x: &mut [f32],
        mode: Accumulation,
        grad_gain: &mut [f32],
        grad_bias: &mut [f32],
    ) = backward_on;
}

#[inline(always)]
fn forward_on<S: Simd>(s: S, eps: f32, x: &[f32], affine: Affine, y: &mut [f32], stats: Statistics) {
    let width = affine.gain.len();
    for (r, (x, y)) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).enumerate() {
        let mut sum = s.splat(0.0);
        for_vectors!(s: S, width, |at| {
            sum = s.add(sum, at.load(x));
        });
        (stats.mean[r], stats.rstd[r]) = statistics(s, eps, x, s.sum(sum));
        apply(s, x, affine, stats.mean[r], stats.rstd[r], y);
    }
}

#[inline(always)]
fn residual_on<S: Simd>(s: S, eps: f32, x: &mut [f32], add: &[f32], affine: Affine, y: &mut [f32], stats: Statistics) {
    let width = affine.gain.len();
    let rows = x.chunks_exact_mut(width).zip(add.chunks_exact(width)).zip(y.chunks_exact_mut(width));
    for (r, ((x, add), y)) in rows.enumerate() {
        let mut sum = s.splat(0.0);
        for_vectors!(s: S, width, |at| {
            let v = s.add(at.load(x), at.load(add));
            at.store(x, v);
            sum = s.add(sum, v);
        });
        (stats.mean[r], stats.rstd[r]) = statistics(s, eps, x, s.sum(sum));
        apply(s, x, affine, stats.mean[r], stats.rstd[r], y);
    }
}

#[inline(always)]
fn recompute_on<S: Simd>(s: S, x: &[f32], affine: Affine, mean: &[f32], rstd: &[f32], y: &mut [f32]) {
    let width = affine.gain.len();
    for (r, (x, y)) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).enumerate() {
        apply(s, x, affine, mean[r], rstd[r], y);
    }
}

/// Mean and 1 / standard deviation of a row, given its sum.
#[inline(always)]
fn statistics<S: Simd>(s: S, eps: f32, x: &[f32], sum: f32) -> (f32, f32) {
    let mean = sum / x.len() as f32;
    let mut squares = s.splat(0.0);
    for_vectors!(s: S, x.len(), |at| {
        let d = at.keep(s.sub(at.load(x), s.splat(mean)));
        squares = s.mul_add(d, d, squares);
    });
    (mean, 1.0 / (s.sum(squares) / x.len() as f32 + eps).sqrt())
}

#[inline(always)]
fn apply<S: Simd>(s: S, x: &[f32], affine: Affine, mean: f32, rstd: f32, y: &mut [f32]) {
    let width = x.len();
    let (y, gain, bias) = (&mut y[..width], &affine.gain[..width], &affine.bias[..width]);
    let (mean, rstd) = (s.splat(mean), s.splat(rstd));
    for_vectors!(s: S, width, |at| {
        let h = s.mul(s.sub(at.load(x), mean), rstd);
        at.store(y, s.mul_add(h, at.load(gain), at.load(bias)));
    });
}

#[inline(always)]
fn backward_on<S: Simd>(
    s: S,
    saved: Saved,
    grad_y: &[f32],
    grad_x: &mut [f32],
    mode: Accumulation,
    grad_gain: &mut [f32],
    grad_bias: &mut [f32],
) {
    let width = saved.gain.len();
    let (gain, grad_gain, grad_bias) = (saved.gain, &mut grad_gain[..width], &mut grad_bias[..width]);
    let rows = saved.x.chunks_exact(width).zip(grad_y.chunks_exact(width)).zip(grad_x.chunks_exact_mut(width));
    for (r, ((x, dy), dx)) in rows.enumerate() {
        let (mean, rstd) = (s.splat(saved.mean[r]), s.splat(saved.rstd[r]));
        let (mut sum, mut sum_h) = (s.splat(0.0), s.splat(0.0));
        for_vectors!(s: S, width, |at| {
            let h = s.mul(s.sub(at.load(x), mean), rstd);
            let d = at.load(dy);
            at.store(grad_gain, s.mul_add(d, h, at.load(grad_gain)));
            at.store(grad_bias, s.add(d, at.load(grad_bias)));
            let g = s.mul(d, at.load(gain));
            sum = s.add(sum, g);
            sum_h = s.mul_add(g, h, sum_h);
        });
        let sum = s.splat(s.sum(sum) / width as f32);
        let sum_h = s.splat(s.sum(sum_h) / width as f32);
        for_vectors!(s: S, width, |at| {
            let h = s.mul(s.sub(at.load(x), mean), rstd);
            let centred = s.neg_mul_add(h, sum_h, s.sub(s.mul(at.load(dy), at.load(gain)), sum));
            at.store(dx, match mode {
                Accumulation::Overwrite => s.mul(rstd, centred),
                Accumulation::Add => s.mul_add(rstd, centred, at.load(dx)),
            });
        });
    }
}
