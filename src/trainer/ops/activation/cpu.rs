//! The three functions on vectors, value and slope in one pass; polynomials and their errors are in `simd::math`.

use std::f32::consts::{FRAC_2_SQRT_PI, SQRT_2};

use super::super::simd::{Simd, dispatch, for_vectors, math};
use crate::Activation;

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

/// One of the functions. A type rather than a closure, so that it is compiled into the kernel of each path.
trait Function {
    /// f(x) and f'(x).
    fn value_and_slope<S: Simd>(s: S, x: S::V) -> (S::V, S::V);
}

struct Gelu;
struct GeluTanh;
struct QuickGelu;

#[inline(always)]
fn forward_on<S: Simd>(s: S, kind: Activation, x: &[f32], y: &mut [f32]) {
    match kind {
        Activation::Gelu => values::<S, Gelu>(s, x, y),
        Activation::GeluTanh => values::<S, GeluTanh>(s, x, y),
        Activation::QuickGelu => values::<S, QuickGelu>(s, x, y),
    }
}

#[inline(always)]
fn backward_on<S: Simd>(s: S, kind: Activation, x: &[f32], y: &mut [f32], grad: &mut [f32]) {
    match kind {
        Activation::Gelu => values_and_slopes::<S, Gelu>(s, x, y, grad),
        Activation::GeluTanh => values_and_slopes::<S, GeluTanh>(s, x, y, grad),
        Activation::QuickGelu => values_and_slopes::<S, QuickGelu>(s, x, y, grad),
    }
}

#[inline(always)]
fn values<S: Simd, F: Function>(s: S, x: &[f32], y: &mut [f32]) {
    let (n, y) = (x.len(), &mut y[..x.len()]);
    for_vectors!(s: S, n, |at| {
        at.store(y, F::value_and_slope(s, at.load(x)).0);
    });
}

#[inline(always)]
fn values_and_slopes<S: Simd, F: Function>(s: S, x: &[f32], y: &mut [f32], grad: &mut [f32]) {
    let (n, y, grad) = (x.len(), &mut y[..x.len()], &mut grad[..x.len()]);
    for_vectors!(s: S, n, |at| {
        let (value, slope) = F::value_and_slope(s, at.load(x));
        at.store(y, value);
        at.store(grad, s.mul(slope, at.load(grad)));
    });
}

impl Function for Gelu {
    /// x Phi(x); Phi + x phi.
    #[inline(always)]
    fn value_and_slope<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
        let (cdf, density) = math::normal(s, x);
        (s.mul(x, cdf), s.mul_add(x, density, cdf))
    }
}

impl Function for GeluTanh {
    #[inline(always)]
    fn value_and_slope<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
        let square = s.mul(x, x);
        let z = s.mul(x, s.mul_add(square, s.splat(B), s.splat(A)));
        let dz = s.mul_add(square, s.splat(3.0 * B), s.splat(A));
        gated(s, x, z, dz)
    }
}

impl Function for QuickGelu {
    #[inline(always)]
    fn value_and_slope<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
        gated(s, x, s.mul(x, s.splat(QUICK)), s.splat(QUICK))
    }
}

/// y = x s(z); s + y (1 - s) dz.
#[inline(always)]
fn gated<S: Simd>(s: S, x: S::V, z: S::V, dz: S::V) -> (S::V, S::V) {
    let gate = math::logistic(s, z);
    let y = s.mul(x, gate);
    (y, s.mul_add(s.neg_mul_add(y, gate, y), dz, gate))
}
