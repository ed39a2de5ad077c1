//! Symmetric InfoNCE of CLIP: loss and gradients without keeping the B x B matrix of logits.
//!
//! With s = scale * image textᵀ: loss = mean over rows and columns of (log-sum-exp - diagonal), in nats.
//! ds = (softmax over the row + softmax over the column - 2 I) / 2B; d image = scale ds text; d text = scale dsᵀ image;
//! dL / d ln(scale) = sum(ds * s).
//!
//! Works in slabs of rows whose number depends on the batch alone. Each direction is one set of jobs that share nothing they
//! write; sums are made per slab and added in slab order, so bytes do not depend on threads.
//!
//! [`sigmoid`] is the other contrastive loss, [`cuda`] both on a GPU; [`nt_xent`] is the loss of two views of the same images.

mod cpu;
pub mod cuda;
mod loss;
pub mod nt_xent;
pub mod reference;
pub mod sigmoid;

pub use loss::{ContrastiveLoss, SigmoidLoss};
pub use nt_xent::NtXentLoss;

use std::sync::Mutex;

use super::product::{self, Dims, Mat, Start, Target};
use super::{ParallelFor, Scratch};

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

/// Which loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Symmetric InfoNCE: [`forward_backward`].
    Softmax,
    /// A yes-or-no question for every image and text: [`sigmoid::forward_backward`].
    Sigmoid,
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
    let (of_rows, loss_rows) = log_sum_exp(c, image, text, logit_scale, slabs);
    let (of_columns, loss_columns) = log_sum_exp(c, text, image, logit_scale, slabs);
    let by_image = Side { own: image, other: text, own_sums: &of_rows, other_sums: &of_columns };
    let grad_log_scale = gradient(c, &by_image, logit_scale, grad_image, slabs);
    let by_text = Side { own: text, other: image, own_sums: &of_columns, other_sums: &of_rows };
    gradient(c, &by_text, logit_scale, grad_text, slabs);
    ContrastiveOut { loss: (loss_rows + loss_columns) / (2 * batch) as f64, grad_log_scale }
}

struct Side<'a> {
    own: &'a [f32],
    other: &'a [f32],
    own_sums: &'a Sums,
    other_sums: &'a Sums,
}

/// Log-sum-exp of all rows of one direction.
struct Sums {
    max: Vec<f32>,
    log: Vec<f32>,
}

impl Sums {
    fn of(&self, rows: std::ops::Range<usize>) -> cpu::LogSumExp<'_> {
        cpu::LogSumExp { max: &self.max[rows.clone()], log: &self.log[rows] }
    }
}

fn log_sum_exp(c: &Contrastive, own: &[f32], other: &[f32], scale: f32, slabs: &dyn ParallelFor) -> (Sums, f64) {
    let Contrastive { batch, embed_dim } = *c;
    let mut sums = Sums { max: vec![0.0; batch], log: vec![0.0; batch] };
    let rows = sums.max.chunks_mut(SLAB).zip(sums.log.chunks_mut(SLAB));
    let outputs: Vec<_> = rows.map(|(max, log)| Mutex::new((max, log, 0.0))).collect();
    slabs.for_each(outputs.len(), &|slab, scratch| {
        let mut output = outputs[slab].lock().expect("a slab is locked by its own job only");
        let (max, log, loss) = &mut *output;
        let first = slab * SLAB;
        let ([logits], rest) = scratch.floats_and_rest([max.len() * batch]);
        similarities(c, &own[first * embed_dim..][..max.len() * embed_dim], other, logits, rest);
        *loss = cpu::log_sum_exp(scale, logits, first, max, log);
    });
    let loss = outputs.into_iter().map(|o| o.into_inner().expect("no job has panicked").2).sum();
    (sums, loss)
}

fn gradient(c: &Contrastive, side: &Side, scale: f32, grad: &mut [f32], slabs: &dyn ParallelFor) -> f64 {
    let Contrastive { batch, embed_dim } = *c;
    let outputs: Vec<_> = grad.chunks_mut(SLAB * embed_dim).map(|grad| Mutex::new((grad, 0.0))).collect();
    slabs.for_each(outputs.len(), &|slab, scratch| {
        let mut output = outputs[slab].lock().expect("a slab is locked by its own job only");
        let (grad, along_scale) = &mut *output;
        let (first, rows) = (slab * SLAB, grad.len() / embed_dim);
        let ([logits], rest) = scratch.floats_and_rest([rows * batch]);
        similarities(c, &side.own[first * embed_dim..][..grad.len()], side.other, logits, rest);
        let (own, other) = (side.own_sums.of(first..first + rows), side.other_sums.of(0..batch));
        *along_scale = cpu::gradients(scale, cpu::Slab { similarities: logits, own, other, first });
        let dims = Dims { m: rows, n: embed_dim, k: batch };
        let (ds, other) = (Mat::rows(logits, batch), Mat::rows(side.other, embed_dim));
        product::cpu::multiply(dims, ds, other, Start::Zero, Target { data: grad, stride: embed_dim }, rest);
    });
    outputs.into_iter().map(|o| o.into_inner().expect("no job has panicked").1).sum()
}

fn similarities(c: &Contrastive, own: &[f32], other: &[f32], out: &mut [f32], scratch: &mut Scratch) {
    let Contrastive { batch, embed_dim } = *c;
    let dims = Dims { m: own.len() / embed_dim, n: batch, k: embed_dim };
    let (a, b) = (Mat::rows(own, embed_dim), Mat::rows(other, embed_dim).transposed());
    product::cpu::multiply(dims, a, b, Start::Zero, Target { data: out, stride: batch }, scratch);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::simd::tests::on_every_path;
    use super::super::testing::{CHAIN, DIFFERENCE, assert_close, differences, random, widen};
    use super::super::{Sequential, normalize};
    use super::*;

    pub(super) fn features(seed: u64, batch: usize, embed_dim: usize) -> Vec<f32> {
        let x = random(seed, batch * embed_dim);
        let (mut y, mut norm) = (vec![0.0; x.len()], vec![0.0; batch]);
        normalize::forward(embed_dim, &x, &mut y, &mut norm);
        y
    }

    fn cross_entropies(own: &[f64], other: &[f64], embed_dim: usize, scale: f64) -> f64 {
        let logit =
            |i: usize, j: usize| scale * (0..embed_dim).map(|e| own[i * embed_dim + e] * other[j * embed_dim + e]).sum::<f64>();
        let batch = own.len() / embed_dim;
        (0..batch).map(|i| (0..batch).map(|j| logit(i, j).exp()).sum::<f64>().ln() - logit(i, i)).sum()
    }

    fn loss(image: &[f64], text: &[f64], embed_dim: usize, scale: f64) -> f64 {
        let sum = cross_entropies(image, text, embed_dim, scale) + cross_entropies(text, image, embed_dim, scale);
        sum / (2 * image.len() / embed_dim) as f64
    }

    struct Found {
        out: ContrastiveOut,
        image: Vec<f32>,
        text: Vec<f32>,
    }

    fn run(c: &Contrastive, image: &[f32], text: &[f32], scale: f32, slabs: &dyn ParallelFor) -> Found {
        let (mut grad_image, mut grad_text) = (vec![f32::NAN; image.len()], vec![f32::NAN; text.len()]);
        let out = forward_backward(c, image, text, scale, &mut grad_image, &mut grad_text, slabs);
        Found { out, image: grad_image, text: grad_text }
    }

    #[test]
    fn loss_and_gradients_are_the_definition_and_its_slopes() {
        for (batch, embed_dim, scale) in [(1, 3, 10.0), (2, 1, 5.0), (7, 5, 14.3), (33, 4, 50.0)] {
            let (image, text) = (features(1, batch, embed_dim), features(2, batch, embed_dim));
            let (x, y, by) = (widen(&image), widen(&text), f64::from(scale));
            let grad_image = differences(&x, |x| loss(x, &y, embed_dim, by));
            let grad_text = differences(&y, |y| loss(&x, y, embed_dim, by));
            let grad_log_scale = differences(&[by.ln()], |l| loss(&x, &y, embed_dim, l[0].exp()))[0];
            on_every_path(|path| {
                let what = format!("{path}, {batch} x {embed_dim}");
                let found = run(&Contrastive { batch, embed_dim }, &image, &text, scale, &Sequential);
                let expected = loss(&x, &y, embed_dim, by);
                assert!((found.out.loss - expected).abs() < 2e-6 * (1.0 + expected), "{what}: {} {expected}", found.out.loss);
                assert!((found.out.grad_log_scale - grad_log_scale).abs() < 1e-4, "{what}: {:?} {grad_log_scale}", found.out);
                assert_close(&format!("image, {what}"), &found.image, &grad_image, DIFFERENCE);
                assert_close(&format!("text, {what}"), &found.text, &grad_text, DIFFERENCE);
            });
        }
    }

    #[test]
    fn several_slabs_agree_with_the_gradient_in_f64() {
        let (batch, embed_dim, scale) = (150, 20, 30.0f32);
        let (image, text) = (features(1, batch, embed_dim), features(2, batch, embed_dim));
        let (x, y) = (widen(&image), widen(&text));
        let logit = |i: usize, j: usize| {
            f64::from(scale) * (0..embed_dim).map(|e| x[i * embed_dim + e] * y[j * embed_dim + e]).sum::<f64>()
        };
        let rows: Vec<f64> = (0..batch).map(|i| (0..batch).map(|j| logit(i, j).exp()).sum()).collect();
        let columns: Vec<f64> = (0..batch).map(|j| (0..batch).map(|i| logit(i, j).exp()).sum()).collect();
        let mut expected = vec![0.0; x.len()];
        for i in 0..batch {
            for j in 0..batch {
                let ds = logit(i, j).exp() * (1.0 / rows[i] + 1.0 / columns[j]) - if i == j { 2.0 } else { 0.0 };
                for e in 0..embed_dim {
                    expected[i * embed_dim + e] += ds * 0.5 / batch as f64 * f64::from(scale) * y[j * embed_dim + e];
                }
            }
        }
        on_every_path(|path| {
            let found = run(&Contrastive { batch, embed_dim }, &image, &text, scale, &Sequential);
            assert!((found.out.loss - loss(&x, &y, embed_dim, f64::from(scale))).abs() < 1e-5, "{path}");
            assert_close(path, &found.image, &expected, CHAIN);
        });
    }

    /// Runs the last job first, so that nothing can lean on an order.
    #[derive(Default)]
    pub(super) struct Backwards(AtomicUsize);

    impl ParallelFor for Backwards {
        fn for_each(&self, jobs: usize, job: &(dyn Fn(usize, &mut Scratch) + Sync)) {
            self.0.fetch_add(jobs, Ordering::Relaxed);
            for i in (0..jobs).rev() {
                job(i, &mut Scratch::new());
            }
        }
    }

    #[test]
    fn the_order_of_the_jobs_does_not_reach_the_bytes() {
        let c = Contrastive { batch: 200, embed_dim: 24 };
        let (image, text) = (features(1, 200, 24), features(2, 200, 24));
        on_every_path(|path| {
            let backwards = Backwards::default();
            let (a, b) = (run(&c, &image, &text, 20.0, &Sequential), run(&c, &image, &text, 20.0, &backwards));
            assert!(a.out == b.out && a.image == b.image && a.text == b.text, "{path}");
            assert_eq!(backwards.0.into_inner(), 4 * 200usize.div_ceil(SLAB), "{path}");
        });
    }
}
