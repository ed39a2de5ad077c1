//! One step of AdamW on vectors.

use super::super::simd::{Simd, dispatch, for_vectors};
use super::AdamW;

/// Factors of one step, the same for all elements.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    /// 1 / (1 - beta1^t), 1 / (1 - beta2^t).
    pub unbias: [f32; 2],
    pub lr: f32,
    pub keep: f32,
}

dispatch! {
    pub(super) fn update(h: AdamW, f: Factors, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) = update_on;
}

#[inline(always)]
fn update_on<S: Simd>(s: S, h: AdamW, f: Factors, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
    let n = params.len();
    let (grads, m, v) = (&grads[..n], &mut m[..n], &mut v[..n]);
    let (beta1, beta2, eps) = (s.splat(h.beta1), s.splat(h.beta2), s.splat(h.eps));
    let (fresh1, fresh2) = (s.splat(1.0 - h.beta1), s.splat(1.0 - h.beta2));
    let (first, second) = (s.splat(f.unbias[0]), s.splat(f.unbias[1]));
    let (lr, keep) = (s.splat(f.lr), s.splat(f.keep));
    for_vectors!(s: S, n, |at| {
        let g = at.load(grads);
        let mean = s.mul_add(beta1, at.load(m), s.mul(fresh1, g));
        let square = s.mul_add(beta2, at.load(v), s.mul(fresh2, s.mul(g, g)));
        let step = s.div(s.mul(mean, first), s.add(s.sqrt(s.mul(square, second)), eps));
        at.store(params, s.neg_mul_add(lr, step, s.mul(keep, at.load(params))));
        at.store(m, mean);
        at.store(v, square);
    });
}
