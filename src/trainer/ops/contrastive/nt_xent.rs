//! NT-Xent of `SimCLR` and SLIP: of two views of every image, each must be found among all the others.
//!
//! With z the normalised rows of both views, s_ij = z_i z_j / t, a row's own similarity left out, and p the softmax of a row:
//! loss = mean over all 2B rows of (log-sum-exp - s of the other view), in nats, which is the mean of SLIP's two directions.
//! dz_i = sum over j of (p_ij + p_ji - 2 [j is i's other view]) z_j / (2B t), then through the normalisation.
//!
//! Jobs and the order of sums are those of the parent module: a direction's rows meet the other view first and their own view
//! after it, so that the pair of row i is column i and itself column B + i.
//!
//! **Source** Chen et al. 2020, "A simple framework for contrastive learning of visual representations", equation 1; SLIP's
//! `losses.py`. **Differs** SLIP subtracts 1e9 from a row's own logit; here it has no share at all.

use std::sync::Mutex;

use super::super::loss::{Loss, LossValue, ReferenceLoss};
use super::super::op::Params;
use super::super::product::{self, Dims, Mat, Start, Target};
use super::super::{ParallelFor, Scratch, elementwise, normalize};
use super::{Contrastive, SLAB, Sums, cpu, reference};
use crate::reference::{Matrix, Parameters};

/// Shape and temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NtXent {
    /// Images (B).
    pub batch: usize,
    /// Channels of a row (E).
    pub width: usize,
    /// What similarities are divided by (t).
    pub temperature: f32,
}

/// NT-Xent as a term of a program: rows of the first view and of the second, which are not normalised yet. It has no parameters.
#[derive(Debug, Clone)]
pub struct NtXentLoss {
    /// Channels of a row (E).
    pub width: usize,
    /// What similarities are divided by (t).
    pub temperature: f32,
}

impl Loss for NtXentLoss {
    fn cpu(&self, _: &Params, batch: usize, inputs: &[&[f32]], grads: &mut [&mut [f32]], team: &dyn ParallelFor) -> LossValue {
        let (&[a, b], [grad_a, grad_b]) = (inputs, grads) else { unreachable!("the program gives NT-Xent two views") };
        let shape = NtXent { batch, width: self.width, temperature: self.temperature };
        LossValue { value: forward_backward(&shape, a, b, grad_a, grad_b, team), params: Vec::new() }
    }

    fn reference(&self, _: &Parameters, inputs: &[&Matrix]) -> ReferenceLoss {
        let found = reference::nt_xent(inputs[0], inputs[1], f64::from(self.temperature));
        ReferenceLoss { value: found.value, inputs: found.grads.to_vec(), params: Vec::new() }
    }
}

/// Loss in nats, and the gradients of both views' rows, which are not normalised yet.
///
/// **Shapes** a, b and their gradients `[B, E]`; gradients are overwritten.
pub fn forward_backward(n: &NtXent, a: &[f32], b: &[f32], grad_a: &mut [f32], grad_b: &mut [f32], slabs: &dyn ParallelFor) -> f64 {
    let NtXent { batch, width, .. } = *n;
    for rows in [a, b, &*grad_a, &*grad_b] {
        assert_eq!(rows.len(), batch * width, "rows of NT-Xent");
    }
    let views = Views::new(n, a, b, slabs);
    let mut sums = Sums { max: vec![0.0; 3 * batch], log: vec![0.0; 3 * batch] };
    let loss: f64 = [0, 1].into_iter().map(|view| views.log_sum_exp(view, &mut sums, slabs)).sum();
    for sums in [&mut sums.max, &mut sums.log] {
        sums.copy_within(..batch, 2 * batch);
    }
    views.gradient(0, &sums, grad_a, slabs);
    views.gradient(1, &sums, grad_b, slabs);
    loss / (2 * batch) as f64
}

/// The normalised rows of the first view, the second, and the first again: 2B rows that begin with any view are in one piece.
struct Views {
    shape: NtXent,
    rows: Vec<f32>,
    norms: Vec<f32>,
}

impl Views {
    fn new(n: &NtXent, a: &[f32], b: &[f32], slabs: &dyn ParallelFor) -> Self {
        let NtXent { batch, width, .. } = *n;
        let (mut rows, mut norms) = (vec![0.0; 3 * batch * width], vec![0.0; 2 * batch]);
        let per_slab = SLAB * width;
        let (norms_a, norms_b) = norms.split_at_mut(batch);
        let (rows_a, rows_b) = rows[..2 * batch * width].split_at_mut(batch * width);
        let jobs: Vec<_> = [(a, rows_a, norms_a), (b, rows_b, norms_b)]
            .into_iter()
            .flat_map(|(x, y, norms)| x.chunks(per_slab).zip(y.chunks_mut(per_slab)).zip(norms.chunks_mut(SLAB)))
            .map(Mutex::new)
            .collect();
        slabs.for_each(jobs.len(), &|job, _| {
            let mut job = jobs[job].lock().expect("a slab is locked by its own job only");
            let ((x, y), norms) = &mut *job;
            normalize::forward(width, x, y, norms);
        });
        drop(jobs);
        rows.copy_within(..batch * width, 2 * batch * width);
        Self { shape: *n, rows, norms }
    }

    /// Rows of a view.
    fn own(&self, view: usize) -> &[f32] {
        let len = self.shape.batch * self.shape.width;
        &self.rows[view * len..(view + 1) * len]
    }

    /// Rows that a view's rows meet: the other view, then their own.
    fn others(&self, view: usize) -> &[f32] {
        let len = self.shape.batch * self.shape.width;
        &self.rows[(1 - view) * len..(3 - view) * len]
    }

    /// Similarities of a slab of rows [rows, 2B], a row's own set below all others.
    fn similarities(&self, view: usize, first: usize, out: &mut [f32], scratch: &mut Scratch) {
        let NtXent { batch, width, .. } = self.shape;
        let own = &self.own(view)[first * width..][..out.len() / (2 * batch) * width];
        super::similarities(&Contrastive { batch: 2 * batch, embed_dim: width }, own, self.others(view), out, scratch);
        for (r, row) in out.chunks_exact_mut(2 * batch).enumerate() {
            row[batch + first + r] = f32::MIN;
        }
    }

    fn scale(&self) -> f32 {
        1.0 / self.shape.temperature
    }

    /// Log-sum-exp of a view's rows; returns their sum of (log-sum-exp - logit of the pair).
    fn log_sum_exp(&self, view: usize, sums: &mut Sums, slabs: &dyn ParallelFor) -> f64 {
        let batch = self.shape.batch;
        let own = view * batch..(view + 1) * batch;
        let slabs_of_sums = sums.max[own.clone()].chunks_mut(SLAB).zip(sums.log[own].chunks_mut(SLAB));
        let jobs: Vec<_> = slabs_of_sums.map(|(max, log)| Mutex::new((max, log, 0.0))).collect();
        slabs.for_each(jobs.len(), &|slab, scratch| {
            let mut job = jobs[slab].lock().expect("a slab is locked by its own job only");
            let (max, log, loss) = &mut *job;
            let first = slab * SLAB;
            let ([logits], rest) = scratch.floats_and_rest([max.len() * 2 * batch]);
            self.similarities(view, first, logits, rest);
            *loss = cpu::log_sum_exp(self.scale(), logits, first, max, log);
        });
        jobs.into_iter().map(|job| job.into_inner().expect("no job has panicked").2).sum()
    }

    /// Gradient of a view's rows before normalisation.
    fn gradient(&self, view: usize, sums: &Sums, grad: &mut [f32], slabs: &dyn ParallelFor) {
        let NtXent { batch, width, .. } = self.shape;
        let jobs: Vec<_> = grad.chunks_mut(SLAB * width).map(Mutex::new).collect();
        slabs.for_each(jobs.len(), &|slab, scratch| {
            let mut grad = jobs[slab].lock().expect("a slab is locked by its own job only");
            let (first, rows) = (slab * SLAB, grad.len() / width);
            let ([logits, grad_z], rest) = scratch.floats_and_rest([rows * 2 * batch, rows * width]);
            self.similarities(view, first, logits, rest);
            let start = view * batch + first;
            let (own, other) = (sums.of(start..start + rows), sums.of((1 - view) * batch..(3 - view) * batch));
            cpu::gradients(self.scale(), cpu::Slab { similarities: logits, own, other, first });
            for (r, row) in logits.chunks_exact_mut(2 * batch).enumerate() {
                row[batch + first + r] = 0.0;
            }
            let dims = Dims { m: rows, n: width, k: 2 * batch };
            let (ds, others) = (Mat::rows(logits, 2 * batch), Mat::rows(self.others(view), width));
            product::cpu::multiply(dims, ds, others, Start::Zero, Target { data: grad_z, stride: width }, rest);
            // The parent's loss has two terms for each of its columns, this one has one.
            elementwise::scale(2.0, grad_z);
            let z = &self.own(view)[first * width..][..rows * width];
            normalize::backward(width, z, &self.norms[start..start + rows], grad_z, &mut grad);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Sequential;
    use super::super::super::simd::tests::on_every_path;
    use super::super::super::testing::{CHAIN, DIFFERENCE, assert_close, differences, random, widen};
    use super::super::tests::Backwards;
    use super::*;

    struct Found {
        loss: f64,
        a: Vec<f32>,
        b: Vec<f32>,
    }

    fn run(n: &NtXent, a: &[f32], b: &[f32], slabs: &dyn ParallelFor) -> Found {
        let (mut grad_a, mut grad_b) = (vec![f32::NAN; a.len()], vec![f32::NAN; b.len()]);
        let loss = forward_backward(n, a, b, &mut grad_a, &mut grad_b, slabs);
        Found { loss, a: grad_a, b: grad_b }
    }

    /// Rows of any length, the second view near the first.
    fn views(batch: usize, width: usize) -> (Vec<f32>, Vec<f32>) {
        let a: Vec<f32> = random(3, batch * width).iter().map(|v| v * 3.0).collect();
        let b = a.iter().zip(random(4, batch * width)).map(|(a, noise)| 0.5 * a + noise).collect();
        (a, b)
    }

    fn reference_loss(a: &[f64], b: &[f64], width: usize, temperature: f64) -> reference::Pair {
        reference::nt_xent(&Matrix::from_rows(width, a.to_vec()), &Matrix::from_rows(width, b.to_vec()), temperature)
    }

    #[test]
    fn the_f64_gradients_are_the_slopes_of_the_loss() {
        for (batch, width, temperature) in [(1, 3, 0.1), (2, 2, 0.5), (5, 4, 0.1)] {
            let (a, b) = views(batch, width);
            let (a, b) = (widen(&a), widen(&b));
            let found = reference_loss(&a, &b, width, temperature);
            let narrow = |m: &Matrix| m.values.iter().map(|v| *v as f32).collect::<Vec<_>>();
            let slopes = differences(&a, |a| reference_loss(a, &b, width, temperature).value);
            assert_close("a", &narrow(&found.grads[0]), &slopes, DIFFERENCE);
            let slopes = differences(&b, |b| reference_loss(&a, b, width, temperature).value);
            assert_close("b", &narrow(&found.grads[1]), &slopes, DIFFERENCE);
        }
    }

    #[test]
    fn loss_and_gradients_agree_with_f64_in_one_slab_and_several() {
        for (batch, width, temperature) in [(2, 2, 0.5), (7, 5, 0.1), (33, 24, 0.07), (64, 16, 0.1), (150, 20, 0.1)] {
            let (a, b) = views(batch, width);
            let expected = reference_loss(&widen(&a), &widen(&b), width, f64::from(temperature));
            on_every_path(|path| {
                let what = format!("{path}, {batch} x {width}");
                let found = run(&NtXent { batch, width, temperature }, &a, &b, &Sequential);
                let error = (found.loss - expected.value).abs();
                assert!(error < 4e-6 * (1.0 + expected.value), "{what}: {} {}", found.loss, expected.value);
                assert_close(&format!("a, {what}"), &found.a, &expected.grads[0].values, CHAIN);
                assert_close(&format!("b, {what}"), &found.b, &expected.grads[1].values, CHAIN);
            });
        }
    }

    #[test]
    fn a_lone_image_has_nothing_to_be_told_from() {
        let (a, b) = views(1, 5);
        on_every_path(|path| {
            let found = run(&NtXent { batch: 1, width: 5, temperature: 0.1 }, &a, &b, &Sequential);
            assert!(found.loss.abs() < 1e-6, "{path}: {}", found.loss);
            assert!(found.a.iter().chain(&found.b).all(|v| v.abs() < 1e-5), "{path}: {:?} {:?}", found.a, found.b);
        });
    }

    #[test]
    fn a_nan_reaches_the_loss() {
        let mut a = vec![1.0, 0.5, -0.3, 0.8];
        let b = a.clone();
        a[2] = f32::NAN;
        let n = NtXent { batch: 2, width: 2, temperature: 0.1 };
        on_every_path(|path| assert!(run(&n, &a, &b, &Sequential).loss.is_nan(), "{path}"));
    }

    #[test]
    fn the_order_of_the_jobs_does_not_reach_the_bytes() {
        let (a, b) = views(200, 24);
        let n = NtXent { batch: 200, width: 24, temperature: 0.1 };
        on_every_path(|path| {
            let (one, other) = (run(&n, &a, &b, &Sequential), run(&n, &a, &b, &Backwards::default()));
            assert!(one.loss.to_bits() == other.loss.to_bits() && one.a == other.a && one.b == other.b, "{path}");
        });
    }
}
