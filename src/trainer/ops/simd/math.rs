//! Exponential, logarithm and normal distribution function on vectors.
//!
//! Polynomials were fitted with the Remez exchange for relative error. The errors stated are measured over all tested
//! arguments, rounding included.

use std::f32::consts::{LN_2, LOG2_E};

use super::Simd;

/// 2^x, relative error at most 2e-7; exactly 1 at 0.
///
/// Arguments are at most 127; those below -126 give 2^-126, so the tail of a softmax is tiny instead of 0.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    const C: [f32; 4] = [9.671_513e-3, 5.550_733_6e-2, 2.402_224_2e-1, LN_2 - 1.8e-7];
    let x = s.max(s.splat(-126.0), x);
    let n = s.round(x);
    let r = s.sub(x, n);
    let mut p = s.splat(1.326_472_7e-3);
    for c in C {
        p = s.mul_add(p, r, s.splat(c));
    }
    s.scale_by_power(s.mul_add(p, r, s.splat(1.0)), n)
}

/// log2(x) for normal x > 0, absolute error at most 2e-7 plus one rounding of the result.
#[inline(always)]
pub(crate) fn log2<S: Simd>(s: S, x: S::V) -> S::V {
    const C: [f32; 7] =
        [2.012_806_3e-1, -2.519_420_7e-1, 2.908_062_2e-1, -3.602_610_4e-1, 4.808_019_3e-1, -7.213_521e-1, 1.442_695_9];
    let (m, n) = s.split(x);
    let large = s.sub(m, s.splat(1.5));
    let m = s.where_positive(large, s.mul(m, s.splat(0.5)), m);
    let n = s.add(n, s.where_positive(large, s.splat(1.0), s.splat(0.0)));
    let u = s.sub(m, s.splat(1.0));
    let mut p = s.splat(-9.087_904e-2);
    for c in C {
        p = s.mul_add(p, u, s.splat(c));
    }
    s.mul_add(p, u, n)
}

/// 1 / (1 + e^-x), relative error at most 1e-6 for |x| < 80.
#[inline(always)]
pub(crate) fn logistic<S: Simd>(s: S, x: S::V) -> S::V {
    // Beyond 126 the power is cut: 1 / (1 + 2^126) is below every normal f32.
    let power = s.min(s.splat(126.0), s.mul(x, s.splat(-LOG2_E)));
    s.div(s.splat(1.0), s.add(s.splat(1.0), exp2(s, power)))
}

/// Phi(x) and phi(x) of the standard normal distribution, relative error at most 2e-6 for |x| < 6 (of the smaller tail too).
///
/// For x >= 0: 1 - Phi(x) = e^(-x²/2) t q(t) with t = 1 / (1 + 0.3 x) and q of degree 7.
#[inline(always)]
pub(crate) fn normal<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    const Q: [f32; 7] =
        [-1.589_336_4e-1, 2.093_462_5e-1, -5.644_998e-2, 1.300_325_7e-1, 9.946_508e-2, 1.208_263_1e-1, 1.196_245_4e-1];
    let size = s.max(s.sub(s.splat(0.0), x), x);
    let e = exp2(s, s.mul(s.mul(x, x), s.splat(-0.5 * LOG2_E)));
    let t = s.div(s.splat(1.0), s.mul_add(size, s.splat(0.3), s.splat(1.0)));
    let mut q = s.splat(3.608_881_3e-2);
    for c in Q {
        q = s.mul_add(q, t, s.splat(c));
    }
    let tail = s.mul(s.mul(e, t), q);
    let density = s.mul(e, s.splat(0.398_942_3));
    (s.where_positive(x, s.sub(s.splat(1.0), tail), tail), density)
}

#[cfg(test)]
mod tests {
    use super::super::tests::on_every_path;
    use super::super::{dispatch, for_vectors};
    use super::*;

    fn all<S: Simd>(s: S, x: &[f32], out: &mut [Vec<f32>; 4]) {
        let [power, sigmoid, cdf, pdf] = out;
        for_vectors!(s: S, x.len(), |at| {
            let v = at.load(x);
            at.store(power, exp2(s, v));
            at.store(sigmoid, logistic(s, v));
            let (p, d) = normal(s, v);
            at.store(cdf, p);
            at.store(pdf, d);
        });
    }

    dispatch! {
        fn all_functions(x: &[f32], out: &mut [Vec<f32>; 4]) = all;
    }

    /// Normal distribution function of -|x|, by its continued fraction or its series.
    fn lower_tail(x: f64) -> f64 {
        let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let x = x.abs();
        if x < 3.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..80 {
                term *= x * x / (2.0 * f64::from(n) + 1.0);
                sum += term;
            }
            return 0.5 - density * sum;
        }
        density / (1..200).rev().fold(x, |t, n| x + f64::from(n) / t)
    }

    #[test]
    fn errors_are_as_stated() {
        let x: Vec<f32> = (-64_000..64_000).map(|i| i as f32 * 1e-3).collect();
        on_every_path(|path| {
            let mut out = std::array::from_fn(|_| vec![0.0; x.len()]);
            all_functions(&x, &mut out);
            let mut worst = [0.0f64; 4];
            for (i, &x) in x.iter().enumerate() {
                let x = f64::from(x);
                let tail = lower_tail(x);
                let cdf = if x < 0.0 { tail } else { 1.0 - tail };
                let pdf = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
                for (j, expected) in [x.exp2(), 1.0 / (1.0 + (-x).exp()), cdf, pdf].into_iter().enumerate() {
                    if j < 2 || x.abs() < 6.0 {
                        worst[j] = worst[j].max((f64::from(out[j][i]) / expected - 1.0).abs());
                    }
                }
            }
            for (error, limit) in worst.into_iter().zip([2e-7, 4e-6, 2e-6, 2e-6]) {
                assert!(error < limit, "{path}: {worst:?}");
            }
        });
    }

    fn logarithms_on<S: Simd>(s: S, x: &[f32], out: &mut [f32]) {
        for_vectors!(s: S, x.len(), |at| {
            at.store(out, log2(s, at.load(x)));
        });
    }

    dispatch! {
        fn logarithms(x: &[f32], out: &mut [f32]) = logarithms_on;
    }

    #[test]
    fn logarithms_are_close_over_the_whole_range() {
        let x: Vec<f32> = (-1200..1200).flat_map(|i| [(i as f32 * 0.1).exp2(), 1.0 + i as f32 * 1e-4]).collect();
        on_every_path(|path| {
            let mut out = vec![0.0; x.len()];
            logarithms(&x, &mut out);
            for (&x, &found) in x.iter().zip(&out) {
                let expected = f64::from(x).log2();
                let error = (f64::from(found) - expected).abs();
                assert!(error < 2e-7 + 1e-7 * expected.abs(), "{path}: log2({x}) = {found}, not {expected}");
            }
        });
    }

    #[test]
    fn special_values_pass_through() {
        on_every_path(|path| {
            let x = [0.0, -1e30, f32::NAN, 127.0, -0.0];
            let mut out = std::array::from_fn(|_| vec![0.0; x.len()]);
            all_functions(&x, &mut out);
            assert_eq!((out[0][0], out[0][4], out[0][3]), (1.0, 1.0, 127.0f32.exp2()), "{path}");
            assert!(out[0][1] > 0.0 && out[0][1] < 2e-38 && out[1][1] < 2e-38, "{path}");
            assert!(out.iter().all(|v| v[2].is_nan()), "{path}");
            assert!((out[2][0] - 0.5).abs() < 1e-7 && (out[2][4] - 0.5).abs() < 1e-7, "{path}");
        });
    }
}
