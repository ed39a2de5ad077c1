//! The three functions on vectors, value and slope in one pass; polynomials and their errors are in `simd::math`.

use std::f32::consts::{FRAC_2_SQRT_PI, SQRT_2};

use super::super::simd::{Simd, dispatch, for_vectors, math};
use crate::run::Activation;

/// gelu_tanh as x s(z): z = x (A + B x²).
const A: f32 = FRAC_2_SQRT_PI * SQRT_2;
const B: f32 = A * 0.044_715;
/// quick_gelu's factor.
const QUICK: f32 = 1.702;

dispatch! {
    pub(super) fn forward(kind: Activation, x: &[f32], y: &mut [f32]) = forward_on;
}

dispatch! {
    pub(super) fn backward(kind: Activation, x: &[f32], y: &mut [f32], grad: &mut [f32]) = backward_on;
}

#[inline(always)]
fn forward_on<S: Simd>(s: S, kind: Activation, x: &[f32], y: &mut [f32]) {
    match kind {
        Activation::Gelu => values(s, x, y, gelu),
        Activation::GeluTanh => values(s, x, y, gelu_tanh),
        Activation::QuickGelu => values(s, x, y, quick_gelu),
    }
}

#[inline(always)]
fn backward_on<S: Simd>(s: S, kind: Activation, x: &[f32], y: &mut [f32], grad: &mut [f32]) {
    match kind {
        Activation::Gelu => values_and_slopes(s, x, y, grad, gelu),
        Activation::GeluTanh => values_and_slopes(s, x, y, grad, gelu_tanh),
        Activation::QuickGelu => values_and_slopes(s, x, y, grad, quick_gelu),
    }
}

#[inline(always)]
fn values<S: Simd>(s: S, x: &[f32], y: &mut [f32], f: impl Fn(S, S::V) -> (S::V, S::V)) {
    let (n, y) = (x.len(), &mut y[..x.len()]);
    for_vectors!(s: S, n, |at| {
        at.store(y, f(s, at.load(x)).0);
    });
}

#[inline(always)]
fn values_and_slopes<S: Simd>(s: S, x: &[f32], y: &mut [f32], grad: &mut [f32], f: impl Fn(S, S::V) -> (S::V, S::V)) {
    let (n, y, grad) = (x.len(), &mut y[..x.len()], &mut grad[..x.len()]);
    for_vectors!(s: S, n, |at| {
        let (value, slope) = f(s, at.load(x));
        at.store(y, value);
        at.store(grad, s.mul(slope, at.load(grad)));
    });
}

/// x Phi(x); Phi + x phi.
#[inline(always)]
fn gelu<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let (cdf, density) = math::normal(s, x);
    (s.mul(x, cdf), s.mul_add(x, density, cdf))
}

/// y = x s(z); s + y (1 - s) dz.
#[inline(always)]
fn gelu_tanh<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let square = s.mul(x, x);
    let z = s.mul(x, s.mul_add(square, s.splat(B), s.splat(A)));
    let dz = s.mul_add(square, s.splat(3.0 * B), s.splat(A));
    gated(s, x, z, dz)
}

#[inline(always)]
fn quick_gelu<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    gated(s, x, s.mul(x, s.splat(QUICK)), s.splat(QUICK))
}

#[inline(always)]
fn gated<S: Simd>(s: S, x: S::V, z: S::V, dz: S::V) -> (S::V, S::V) {
    let gate = math::logistic(s, z);
    let y = s.mul(x, gate);
    (y, s.mul_add(s.neg_mul_add(y, gate, y), dz, gate))
}
