//! Norms and their gradients on vectors, a row at a time.

use super::super::simd::{Simd, dispatch, for_vectors};
use super::EPS;

dispatch! {
    pub(super) fn forward(width: usize, x: &[f32], y: &mut [f32], norm: &mut [f32]) = forward_on;
}

dispatch! {
    pub(super) fn backward(width: usize, y: &[f32], norm: &[f32], grad_y: &[f32], grad_x: &mut [f32]) = backward_on;
}

#[inline(always)]
fn forward_on<S: Simd>(s: S, width: usize, x: &[f32], y: &mut [f32], norm: &mut [f32]) {
    for ((x, y), norm) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(norm) {
        *norm = dot(s, x, x).sqrt().max(EPS);
        let norm = s.splat(*norm);
        for_vectors!(s: S, width, |at| {
            at.store(y, s.div(at.load(x), norm));
        });
    }
}

#[inline(always)]
fn backward_on<S: Simd>(s: S, width: usize, y: &[f32], norm: &[f32], grad_y: &[f32], grad_x: &mut [f32]) {
    let rows = y.chunks_exact(width).zip(grad_y.chunks_exact(width)).zip(grad_x.chunks_exact_mut(width));
    for (((y, dy), dx), &norm) in rows.zip(norm) {
        let along = s.splat(if norm > EPS { dot(s, y, dy) } else { 0.0 });
        let norm = s.splat(norm);
        for_vectors!(s: S, width, |at| {
            at.store(dx, s.div(s.neg_mul_add(at.load(y), along, at.load(dy)), norm));
        });
    }
}

#[inline(always)]
fn dot<S: Simd>(s: S, x: &[f32], y: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for_vectors!(s: S, x.len(), |at| {
        sum = s.mul_add(at.load(x), at.load(y), sum);
    });
    s.sum(sum)
}
