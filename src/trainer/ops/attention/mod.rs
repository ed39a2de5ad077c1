//! Scaled dot-product attention of one sample, full or causal: per head out = softmax(q kᵀ / sqrt(D)) v.
//!
//! **Shapes** qkv `[T, 3C]` with rows q | k | v, out `[T, C]`, lse `[H, T]` (log-sum-exp of the scaled scores); C = H D.
//! Backward, with p the probabilities: dv = pᵀ do; ds = p (do vᵀ - rowsum(do out)); dq = ds k / sqrt(D); dk = dsᵀ q / sqrt(D).

use super::Scratch;
use super::product::{Dims, Mat, multiply};

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

    fn visible(&self, query: usize) -> usize {
        if self.causal { query + 1 } else { self.tokens }
    }
}

/// Output and log-sum-exp.
pub fn forward(a: &AttentionShape, qkv: &[f32], out: &mut [f32], lse: &mut [f32], s: &mut Scratch) {
    a.check(qkv, out, lse);
    let (t, d, c) = (a.tokens, a.head_dim, a.width());
    let [scores] = s.floats([t * t]);
    for head in 0..a.heads {
        let lse = &mut lse[head * t..][..t];
        probabilities(a, head, qkv, scores, |r, row| {
            let max = row.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
            lse[r] = max + row.iter().map(|v| (v - max).exp()).sum::<f32>().ln();
            lse[r]
        });
        let v = Mat::rows(&qkv[2 * c + head * d..], 3 * c);
        multiply(Dims { m: t, n: d, k: t }, Mat::rows(scores, t), v, &mut out[head * d..], c, false);
    }
}

/// Gradient of qkv.
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
    let (t, d, c) = (a.tokens, a.head_dim, a.width());
    let scale = 1.0 / (d as f32).sqrt();
    let [p, ds] = s.floats([t * t, t * t]);
    let tile = Dims { m: t, n: t, k: d };
    let rows = Dims { m: t, n: d, k: t };
    for head in 0..a.heads {
        let at = head * d;
        let (q, k, v) = (&qkv[at..], &qkv[at + c..], &qkv[at + 2 * c..]);
        let (out, grad_out) = (&out[at..], &grad_out[at..]);
        probabilities(a, head, qkv, p, |r, _| lse[head * t + r]);
        multiply(tile, Mat::rows(grad_out, c), Mat::rows(v, 3 * c).transposed(), ds, t, false);
        for r in 0..t {
            let delta: f32 = (0..d).map(|i| grad_out[r * c + i] * out[r * c + i]).sum();
            for (ds, p) in ds[r * t..][..t].iter_mut().zip(&p[r * t..]) {
                *ds = p * (*ds - delta) * scale;
            }
        }
        let (p, ds) = (Mat::rows(p, t), Mat::rows(ds, t));
        multiply(rows, ds, Mat::rows(k, 3 * c), &mut grad_qkv[at..], 3 * c, false);
        multiply(rows, ds.transposed(), Mat::rows(q, 3 * c), &mut grad_qkv[at + c..], 3 * c, false);
        multiply(rows, p.transposed(), Mat::rows(grad_out, c), &mut grad_qkv[at + 2 * c..], 3 * c, false);
    }
}

/// Probabilities of one head, given the log-sum-exp of a row of scaled scores.
fn probabilities(a: &AttentionShape, head: usize, qkv: &[f32], p: &mut [f32], mut lse: impl FnMut(usize, &[f32]) -> f32) {
    let (t, d, c) = (a.tokens, a.head_dim, a.width());
    let scale = 1.0 / (d as f32).sqrt();
    let q = Mat::rows(&qkv[head * d..], 3 * c);
    let k = Mat::rows(&qkv[c + head * d..], 3 * c);
    multiply(Dims { m: t, n: t, k: d }, q, k.transposed(), p, t, false);
    for (r, row) in p.chunks_exact_mut(t).enumerate() {
        let (seen, hidden) = row.split_at_mut(a.visible(r));
        for v in seen.iter_mut() {
            *v *= scale;
        }
        let lse = lse(r, seen);
        for v in seen {
            *v = (*v - lse).exp();
        }
        hidden.fill(0.0);
    }
}
