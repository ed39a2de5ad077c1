//! Symmetric InfoNCE of CLIP: loss and gradients without keeping the B x B matrix of logits.
//!
//! With s = scale * image textᵀ: loss = mean over rows and columns of (log-sum-exp - diagonal), in nats.
//! ds = (softmax over the row + softmax over the column - 2 I) / 2B; d image = scale ds text; d text = scale dsᵀ image;
//! dL / d ln(scale) = sum(ds * s).
//!
//! Works in slabs of rows whose number depends on the batch alone. Each direction is one set of jobs that share nothing they
//! write; sums are made per slab and added in slab order, so bytes do not depend on threads.

use std::sync::Mutex;

use super::ParallelFor;
use super::product::{Dims, Mat, multiply};

/// Rows of one slab.
const SLAB: usize = 64;

/// Shape of a contrastive loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contrastive {
    /// Pairs (B).
    pub batch: usize,
    /// Channels of a feature (E).
    pub embed_dim: usize,
}

/// What [`forward_backward`] returns beside the gradients of the features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContrastiveOut {
    /// Mean cross-entropy of both directions, nats.
    pub loss: f64,
    /// dL / d ln(scale).
    pub grad_log_scale: f64,
}

/// Loss and gradients; features are normalised, `logit_scale` is the multiplier.
///
/// **Shapes** image, text and their gradients `[B, E]`; gradients are overwritten.
pub fn forward_backward(
    c: &Contrastive,
    image: &[f32],
    text: &[f32],
    logit_scale: f32,
    grad_image: &mut [f32],
    grad_text: &mut [f32],
    slabs: &dyn ParallelFor,
) -> ContrastiveOut {
    let Contrastive { batch, embed_dim } = *c;
    for features in [image, text, grad_image, grad_text] {
        assert_eq!(features.len(), batch * embed_dim, "features of a contrastive loss");
    }
    let (row_lse, loss_rows) = log_sum_exp(c, image, text, logit_scale, slabs);
    let (column_lse, loss_columns) = log_sum_exp(c, text, image, logit_scale, slabs);
    let by_image = Side { own: image, other: text, own_lse: &row_lse, other_lse: &column_lse };
    let grad_log_scale = gradient(c, &by_image, logit_scale, grad_image, slabs);
    let by_text = Side { own: text, other: image, own_lse: &column_lse, other_lse: &row_lse };
    gradient(c, &by_text, logit_scale, grad_text, slabs);
    ContrastiveOut { loss: (loss_rows + loss_columns) / (2 * batch) as f64, grad_log_scale }
}

struct Side<'a> {
    own: &'a [f32],
    other: &'a [f32],
    own_lse: &'a [f32],
    other_lse: &'a [f32],
}

fn log_sum_exp(c: &Contrastive, own: &[f32], other: &[f32], scale: f32, slabs: &dyn ParallelFor) -> (Vec<f32>, f64) {
    let Contrastive { batch, embed_dim } = *c;
    let mut lse = vec![0.0; batch];
    let outputs: Vec<_> = lse.chunks_mut(SLAB).map(|lse| Mutex::new((lse, 0.0))).collect();
    slabs.for_each(outputs.len(), &|slab, scratch| {
        let mut output = outputs[slab].lock().expect("a slab is locked by its own job only");
        let (lse, loss) = &mut *output;
        let first = slab * SLAB;
        let [logits] = scratch.floats([lse.len() * batch]);
        similarities(lse.len(), batch, embed_dim, &own[first * embed_dim..], other, logits);
        for (r, row) in logits.chunks_exact(batch).enumerate() {
            let max = row.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v * scale));
            lse[r] = max + row.iter().map(|v| (v * scale - max).exp()).sum::<f32>().ln();
            *loss += f64::from(lse[r]) - f64::from(row[first + r] * scale);
        }
    });
    let loss = outputs.into_iter().map(|o| o.into_inner().expect("no job has panicked").1).sum();
    (lse, loss)
}

fn gradient(c: &Contrastive, side: &Side, scale: f32, grad: &mut [f32], slabs: &dyn ParallelFor) -> f64 {
    let Contrastive { batch, embed_dim } = *c;
    let outputs: Vec<_> = grad.chunks_mut(SLAB * embed_dim).map(|grad| Mutex::new((grad, 0.0))).collect();
    slabs.for_each(outputs.len(), &|slab, scratch| {
        let mut output = outputs[slab].lock().expect("a slab is locked by its own job only");
        let (grad, along_scale) = &mut *output;
        let (first, rows) = (slab * SLAB, grad.len() / embed_dim);
        let [logits] = scratch.floats([rows * batch]);
        similarities(rows, batch, embed_dim, &side.own[first * embed_dim..], side.other, logits);
        for (r, row) in logits.chunks_exact_mut(batch).enumerate() {
            for (j, v) in row.iter_mut().enumerate() {
                let s = *v * scale;
                let mut ds = (s - side.own_lse[first + r]).exp() + (s - side.other_lse[j]).exp();
                if j == first + r {
                    ds -= 2.0;
                }
                ds *= 0.5 / batch as f32;
                *along_scale += f64::from(ds * s);
                *v = ds * scale;
            }
        }
        let dims = Dims { m: rows, n: embed_dim, k: batch };
        multiply(dims, Mat::rows(logits, batch), Mat::rows(side.other, embed_dim), grad, embed_dim, false);
    });
    outputs.into_iter().map(|o| o.into_inner().expect("no job has panicked").1).sum()
}

fn similarities(rows: usize, batch: usize, embed_dim: usize, own: &[f32], other: &[f32], out: &mut [f32]) {
    let dims = Dims { m: rows, n: batch, k: embed_dim };
    multiply(dims, Mat::rows(own, embed_dim), Mat::rows(other, embed_dim).transposed(), out, batch, false);
}
