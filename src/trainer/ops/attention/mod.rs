//! Scaled dot-product attention of one sample, full or causal: per head out = softmax(q kᵀ / sqrt(D)) v.
//!
//! **Shapes** qkv `[T, 3C]` with rows q | k | v, out `[T, C]`, lse `[H, T]` (log-sum-exp of the scaled scores); C = H D.
//! Backward, with p the probabilities: dv = pᵀ do; ds = p (do vᵀ - rowsum(do out)); dq = ds k / sqrt(D); dk = dsᵀ q / sqrt(D).
//!
//! [`windows`] is the attention of a map cut into windows, whose scores have a bias.

mod backward;
mod bias;
mod cpu;
pub mod cuda;
mod plan;
pub mod reference;
pub mod windows;

use super::Scratch;

/// Shape of the attention of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Rows (T).
    pub tokens: usize,
    /// Heads (H).
    pub heads: usize,
    /// Channels of a head (D).
    pub head_dim: usize,
    /// A token sees itself and those before it.
    pub causal: bool,
}

impl AttentionShape {
    /// Channels of a row of the output (C).
    #[must_use]
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn check(&self, qkv: &[f32], out: &[f32], lse: &[f32]) {
        assert!(self.tokens > 0 && self.head_dim > 0, "attention over nothing");
        assert_eq!(qkv.len(), self.tokens * 3 * self.width(), "qkv of an attention");
        assert_eq!(out.len(), self.tokens * self.width(), "output of an attention");
        assert_eq!(lse.len(), self.tokens * self.heads, "log-sum-exp of an attention");
    }
}

/// Output and log-sum-exp.
pub fn forward(a: &AttentionShape, qkv: &[f32], out: &mut [f32], lse: &mut [f32], s: &mut Scratch) {
    a.check(qkv, out, lse);
    cpu::forward(a, qkv, out, lse, None, s);
}

/// Gradient of qkv, overwritten.
pub fn backward(
    a: &AttentionShape,
    qkv: &[f32],
    out: &[f32],
    grad_out: &[f32],
    lse: &[f32],
    grad_qkv: &mut [f32],
    s: &mut Scratch,
) {
    a.check(qkv, out, lse);
    a.check(grad_qkv, grad_out, lse);
    let saved = backward::Saved { qkv, out, grad_out, lse };
    backward::backward(a, saved, grad_qkv, None, s);
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::on_every_path;
    use super::super::testing::{CHAIN, DIFFERENCE, SUM, Tolerance, assert_close, differences, random, widen};
    use super::*;

    /// Tokens, heads, head_dim.
    const SHAPES: [(usize, usize, usize); 12] = [
        (1, 1, 1),
        (1, 2, 16),
        (2, 1, 5),
        (7, 3, 5),
        (16, 2, 16),
        (17, 2, 20),
        (33, 1, 64),
        (50, 2, 32),
        (64, 1, 64),
        (77, 2, 16),
        (129, 1, 20),
        (197, 1, 48),
    ];

    struct Reference {
        out: Vec<f64>,
        lse: Vec<f64>,
        grad_qkv: Vec<f64>,
    }

    /// Plain loops in f64.
    fn reference(a: &AttentionShape, qkv: &[f64], grad_out: &[f64]) -> Reference {
        let (t, d, c) = (a.tokens, a.head_dim, a.width());
        let scale = 1.0 / (d as f64).sqrt();
        let mut r = Reference { out: vec![0.0; t * c], lse: vec![0.0; a.heads * t], grad_qkv: vec![0.0; qkv.len()] };
        for head in 0..a.heads {
            let at = |row: usize, part: usize| row * 3 * c + part * c + head * d;
            for i in 0..t {
                let seen = if a.causal { i + 1 } else { t };
                let dots = |part: usize, x: &[f64], y: &[f64], j: usize| (0..d).map(|e| x[e] * y[at(j, part) + e]).sum::<f64>();
                let q = &qkv[at(i, 0)..][..d];
                let scores: Vec<f64> = (0..seen).map(|j| dots(1, q, qkv, j) * scale).collect();
                let max = scores.iter().fold(f64::MIN, |m, &v| m.max(v));
                let lse = max + scores.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
                r.lse[head * t + i] = lse;
                let p: Vec<f64> = scores.iter().map(|v| (v - lse).exp()).collect();
                let upstream = &grad_out[i * c + head * d..][..d];
                let dp: Vec<f64> = (0..seen).map(|j| dots(2, upstream, qkv, j)).collect();
                let delta: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                for j in 0..seen {
                    let ds = p[j] * (dp[j] - delta) * scale;
                    for e in 0..d {
                        r.out[i * c + head * d + e] += p[j] * qkv[at(j, 2) + e];
                        r.grad_qkv[at(j, 2) + e] += p[j] * upstream[e];
                        r.grad_qkv[at(i, 0) + e] += ds * qkv[at(j, 1) + e];
                        r.grad_qkv[at(j, 1) + e] += ds * q[e];
                    }
                }
            }
        }
        r
    }

    fn check(a: &AttentionShape, qkv: &[f32], what: &str, gradient: Tolerance) {
        let grad_out = random(8, a.tokens * a.width());
        let expected = reference(a, &widen(qkv), &widen(&grad_out));
        let (mut out, mut lse) = (vec![f32::NAN; grad_out.len()], vec![f32::NAN; a.heads * a.tokens]);
        let mut grad_qkv = vec![f32::NAN; qkv.len()];
        // Scratch full of NaN: nothing may be read before it is written.
        let mut s = Scratch::new();
        s.floats([1 << 20])[0].fill(f32::NAN);
        forward(a, qkv, &mut out, &mut lse, &mut s);
        assert_close(&format!("out, {what}"), &out, &expected.out, SUM);
        assert_close(&format!("lse, {what}"), &lse, &expected.lse, SUM);
        s.floats([1 << 20])[0].fill(f32::NAN);
        backward(a, qkv, &out, &grad_out, &lse, &mut grad_qkv, &mut s);
        assert_close(&format!("dqkv, {what}"), &grad_qkv, &expected.grad_qkv, gradient);
    }

    #[test]
    fn output_and_gradient_agree_with_f64_loops_in_any_shape_full_and_causal() {
        for (tokens, heads, head_dim) in SHAPES {
            for causal in [false, true] {
                let a = AttentionShape { tokens, heads, head_dim, causal };
                let qkv: Vec<f32> = random(3, tokens * 3 * a.width()).iter().map(|v| v * 2.0).collect();
                on_every_path(|path| check(&a, &qkv, &format!("{path}, {a:?}"), CHAIN));
            }
        }
    }

    #[test]
    fn large_scores_neither_overflow_nor_lose_the_winner() {
        let a = AttentionShape { tokens: 19, heads: 1, head_dim: 16, causal: true };
        let qkv: Vec<f32> = random(5, 19 * 48).iter().map(|v| v * 15.0).collect();
        let coarse = Tolerance { atol: 3e-5, rtol: 1e-4 };
        on_every_path(|path| check(&a, &qkv, path, coarse));
    }

    #[test]
    fn the_reference_gradient_is_the_slope_of_the_reference_output() {
        for causal in [false, true] {
            let a = AttentionShape { tokens: 5, heads: 2, head_dim: 3, causal };
            let qkv = widen(&random(3, 5 * 18));
            let grad_out = widen(&random(4, 5 * 6));
            let loss = |qkv: &[f64]| reference(&a, qkv, &grad_out).out.iter().zip(&grad_out).map(|(o, g)| o * g).sum();
            let slopes = differences(&qkv, loss);
            let found: Vec<f32> = reference(&a, &qkv, &grad_out).grad_qkv.iter().map(|&v| v as f32).collect();
            assert_close("gradient", &found, &slopes, DIFFERENCE);
        }
    }

    #[test]
    fn a_later_token_cannot_reach_an_earlier_one_through_a_causal_mask() {
        let a = AttentionShape { tokens: 40, heads: 2, head_dim: 16, causal: true };
        let mut qkv = random(3, 40 * 96);
        on_every_path(|path| {
            let mut s = Scratch::new();
            let mut run = |qkv: &[f32]| {
                let (mut out, mut lse) = (vec![0.0; 40 * 32], vec![0.0; 80]);
                forward(&a, qkv, &mut out, &mut lse, &mut s);
                out
            };
            let before = run(&qkv);
            qkv[25 * 96..].iter_mut().for_each(|v| *v += 1.0);
            let after = run(&qkv);
            assert_eq!(before[..25 * 32], after[..25 * 32], "{path}");
            assert_ne!(before[25 * 32..], after[25 * 32..], "{path}");
        });
    }
}
