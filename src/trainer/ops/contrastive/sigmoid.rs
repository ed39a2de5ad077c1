//! Sigmoid loss of `SigLIP`: every pair of an image and a text is a yes-or-no question of its own.
//!
//! With x = scale * image textᵀ + bias and z = 1 on the diagonal, -1 elsewhere: loss = -sum(log sigmoid(z x)) / B, in nats.
//! dx = -z sigmoid(-z x) / B; d image = scale dx text; d text = scale dxᵀ image; dL / d ln(scale) = scale * sum(dx * similarity);
//! dL / d bias = sum(dx).
//!
//! Slabs, jobs and the order of sums are those of the parent module. No log-sum-exp is needed, so each direction is one pass.
//!
//! **Source** Zhai et al. 2023, "Sigmoid loss for language image pre-training", equation 1.

use std::f32::consts::LOG2_E;
use std::sync::Mutex;

use super::super::ParallelFor;
use super::super::product::{self, Dims, Mat, Start, Target};
use super::super::simd::{Simd, dispatch, for_vectors, math};
use super::{Contrastive, SLAB, similarities};

/// How similarities become logits: scale * similarity + bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logits {
    /// The multiplier.
    pub scale: f32,
    /// Added to every logit.
    pub bias: f32,
}

/// What [`forward_backward`] returns beside the gradients of the features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SigmoidOut {
    /// Cross-entropy of all B * B questions over B, nats.
    pub loss: f64,
    /// dL / d ln(scale).
    pub grad_log_scale: f64,
    /// dL / d bias.
    pub grad_bias: f64,
}

/// Loss and gradients; features are normalised.
///
/// **Shapes** image, text and their gradients `[B, E]`; gradients are overwritten.
pub fn forward_backward(
    c: &Contrastive,
    image: &[f32],
    text: &[f32],
    logits: Logits,
    grad_image: &mut [f32],
    grad_text: &mut [f32],
    slabs: &dyn ParallelFor,
) -> SigmoidOut {
    let Contrastive { batch, embed_dim } = *c;
    for features in [image, text, grad_image, grad_text] {
        assert_eq!(features.len(), batch * embed_dim, "features of a contrastive loss");
    }
    let sums = direction(c, [image, text], logits, grad_image, slabs);
    direction(c, [text, image], logits, grad_text, slabs);
    let share = 1.0 / batch as f64;
    SigmoidOut {
        loss: sums.loss * share,
        grad_log_scale: sums.along * share * f64::from(logits.scale),
        grad_bias: sums.slope * share,
    }
}

/// Sums over logits: of the loss, of slope * similarity, of the slope.
#[derive(Default, Clone, Copy)]
struct Sums {
    loss: f64,
    along: f64,
    slope: f64,
}

impl Sums {
    fn add(self, other: Self) -> Self {
        Self { loss: self.loss + other.loss, along: self.along + other.along, slope: self.slope + other.slope }
    }
}

fn direction(c: &Contrastive, [own, other]: [&[f32]; 2], by: Logits, grad: &mut [f32], slabs: &dyn ParallelFor) -> Sums {
    let Contrastive { batch, embed_dim } = *c;
    let outputs: Vec<_> = grad.chunks_mut(SLAB * embed_dim).map(|grad| Mutex::new((grad, Sums::default()))).collect();
    slabs.for_each(outputs.len(), &|slab, scratch| {
        let mut output = outputs[slab].lock().expect("a slab is locked by its own job only");
        let (grad, sums) = &mut *output;
        let (first, rows) = (slab * SLAB, grad.len() / embed_dim);
        let ([logits], rest) = scratch.floats_and_rest([rows * batch]);
        similarities(c, &own[first * embed_dim..][..grad.len()], other, logits, rest);
        *sums = slopes(by, 1.0 / batch as f32, logits, rows, first);
        let dims = Dims { m: rows, n: embed_dim, k: batch };
        let (dx, other) = (Mat::rows(logits, batch), Mat::rows(other, embed_dim));
        product::cpu::multiply(dims, dx, other, Start::Zero, Target { data: grad, stride: embed_dim }, rest);
    });
    let sums = outputs.into_iter().map(|o| o.into_inner().expect("no job has panicked").1);
    sums.fold(Sums::default(), Sums::add)
}

dispatch! {
    /// Similarities of a slab of rows that begins with row `first` become share * scale * slope of the loss by the logit.
    fn slopes(by: Logits, share: f32, similarities: &mut [f32], rows: usize, first: usize) -> Sums = slopes_on;
}

#[inline(always)]
fn slopes_on<S: Simd>(s: S, by: Logits, share: f32, similarities: &mut [f32], rows: usize, first: usize) -> Sums {
    let batch = similarities.len() / rows;
    let mut sums = Sums::default();
    for (r, row) in similarities.chunks_exact_mut(batch).enumerate() {
        // The pair is a question of its own kind: taken apart, so that its loss need not be subtracted from small ones.
        let (before, rest) = row.split_at_mut(first + r);
        let (pair, after) = rest.split_at_mut(1);
        for (part, sign) in [(before, 1.0), (pair, -1.0), (after, 1.0)] {
            sums = sums.add(questions_on(s, by, share, part, sign));
        }
    }
    sums
}

/// `sign` is -z: 1 where the answer is no.
#[inline(always)]
fn questions_on<S: Simd>(s: S, by: Logits, share: f32, similarities: &mut [f32], sign: f32) -> Sums {
    let (scale, bias) = (s.splat(sign * by.scale), s.splat(sign * by.bias));
    let weight = s.splat(sign * share * by.scale);
    let (mut loss, mut along, mut slope) = (s.splat(0.0), s.splat(0.0), s.splat(0.0));
    for_vectors!(s: S, similarities.len(), |at| {
        let similarity = at.load(similarities);
        let (value, sigmoid) = softplus(s, s.mul_add(similarity, scale, bias));
        loss = s.add(loss, at.keep(value));
        along = s.mul_add(sigmoid, similarity, along);
        slope = s.add(slope, at.keep(sigmoid));
        at.store(similarities, s.mul(sigmoid, weight));
    });
    let [loss, along, slope] = [loss, along, slope].map(|sum| f64::from(s.sum(sum)));
    Sums { loss, along: along * f64::from(sign), slope: slope * f64::from(sign) }
}

/// log(1 + e^x) and its slope, relative error about 1e-6 for |x| < 80.
///
/// log(1 + e^-|x|) is 2 artanh(e / (2 + e)) with e = e^-|x|: its series in at most 1/9 keeps the digits of a tiny e.
#[inline(always)]
fn softplus<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    const C: [f32; 6] = [1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, 1.0];
    let size = s.max(s.sub(s.splat(0.0), x), x);
    let e = math::exp2(s, s.mul(size, s.splat(-LOG2_E)));
    let share = s.div(s.splat(1.0), s.add(s.splat(1.0), e));
    let w = s.div(e, s.add(s.splat(2.0), e));
    let square = s.mul(w, w);
    let mut series = s.splat(1.0 / 13.0);
    for c in C {
        series = s.mul_add(series, square, s.splat(c));
    }
    let value = s.mul_add(s.add(w, w), series, s.max(s.splat(0.0), x));
    (value, s.where_positive(x, share, s.mul(e, share)))
}

#[cfg(test)]
mod tests {
    use super::super::super::Sequential;
    use super::super::super::simd::tests::on_every_path;
    use super::super::super::testing::{CHAIN, DIFFERENCE, assert_close, differences, widen};
    use super::super::tests::{Backwards, features};
    use super::*;

    /// log(1 + e^x).
    fn softplus(x: f64) -> f64 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }

    fn dot(x: &[f64], y: &[f64]) -> f64 {
        x.iter().zip(y).map(|(x, y)| x * y).sum()
    }

    fn loss(image: &[f64], text: &[f64], embed_dim: usize, [scale, bias]: [f64; 2]) -> f64 {
        let mut sum = 0.0;
        for (i, x) in image.chunks_exact(embed_dim).enumerate() {
            for (j, y) in text.chunks_exact(embed_dim).enumerate() {
                let logit = scale * dot(x, y) + bias;
                sum += softplus(if i == j { -logit } else { logit });
            }
        }
        sum / (image.len() / embed_dim) as f64
    }

    struct Found {
        out: SigmoidOut,
        image: Vec<f32>,
        text: Vec<f32>,
    }

    fn run(c: &Contrastive, image: &[f32], text: &[f32], by: Logits, slabs: &dyn ParallelFor) -> Found {
        let (mut grad_image, mut grad_text) = (vec![f32::NAN; image.len()], vec![f32::NAN; text.len()]);
        let out = forward_backward(c, image, text, by, &mut grad_image, &mut grad_text, slabs);
        Found { out, image: grad_image, text: grad_text }
    }

    #[test]
    fn loss_and_gradients_are_the_definition_and_its_slopes() {
        let cases = [
            (1, 3, 10.0, -10.0),
            (2, 1, 5.0, 0.5),
            (7, 5, 14.3, -3.0),
            (33, 4, 50.0, -10.0),
            (33, 8, 10.0, -10.0),
            (20, 40, 100.0, 0.0),
        ];
        for (batch, embed_dim, scale, bias) in cases {
            let (image, text) = (features(1, batch, embed_dim), features(2, batch, embed_dim));
            let (x, y, by) = (widen(&image), widen(&text), [f64::from(scale), f64::from(bias)]);
            let grad_image = differences(&x, |x| loss(x, &y, embed_dim, by));
            let grad_text = differences(&y, |y| loss(&x, y, embed_dim, by));
            let slopes = differences(&[by[0].ln(), by[1]], |l| loss(&x, &y, embed_dim, [l[0].exp(), l[1]]));
            on_every_path(|path| {
                let what = format!("{path}, {batch} x {embed_dim}, {scale} {bias}");
                let found = run(&Contrastive { batch, embed_dim }, &image, &text, Logits { scale, bias }, &Sequential);
                let expected = loss(&x, &y, embed_dim, by);
                assert!((found.out.loss / expected - 1.0).abs() < 2e-6, "{what}: {} {expected}", found.out.loss);
                let scalars = [found.out.grad_log_scale as f32, found.out.grad_bias as f32];
                assert_close(&format!("scale and bias, {what}"), &scalars, &slopes, DIFFERENCE);
                assert_close(&format!("image, {what}"), &found.image, &grad_image, DIFFERENCE);
                assert_close(&format!("text, {what}"), &found.text, &grad_text, DIFFERENCE);
            });
        }
    }

    #[test]
    fn several_slabs_agree_with_the_gradient_in_f64() {
        let (batch, embed_dim, scale, bias) = (150, 20, 30.0f32, -8.0f32);
        let (image, text) = (features(1, batch, embed_dim), features(2, batch, embed_dim));
        let (x, y) = (widen(&image), widen(&text));
        let (mut grad_image, mut grad_text) = (vec![0.0; x.len()], vec![0.0; y.len()]);
        let (mut along, mut sum) = (0.0, 0.0);
        for i in 0..batch {
            for j in 0..batch {
                let similarity = dot(&x[i * embed_dim..][..embed_dim], &y[j * embed_dim..][..embed_dim]);
                let sign = if i == j { -1.0 } else { 1.0 };
                let dx = sign / (1.0 + (-sign * (f64::from(scale) * similarity + f64::from(bias))).exp()) / batch as f64;
                along += dx * similarity * f64::from(scale);
                sum += dx;
                for e in 0..embed_dim {
                    grad_image[i * embed_dim + e] += dx * f64::from(scale) * y[j * embed_dim + e];
                    grad_text[j * embed_dim + e] += dx * f64::from(scale) * x[i * embed_dim + e];
                }
            }
        }
        on_every_path(|path| {
            let found = run(&Contrastive { batch, embed_dim }, &image, &text, Logits { scale, bias }, &Sequential);
            let expected = loss(&x, &y, embed_dim, [f64::from(scale), f64::from(bias)]);
            assert!((found.out.loss / expected - 1.0).abs() < 2e-6, "{path}");
            assert_close(path, &[found.out.grad_log_scale as f32, found.out.grad_bias as f32], &[along, sum], CHAIN);
            assert_close(path, &found.image, &grad_image, CHAIN);
            assert_close(path, &found.text, &grad_text, CHAIN);
        });
    }

    #[test]
    fn far_logits_give_their_limits_and_a_nan_stays() {
        let c = Contrastive { batch: 2, embed_dim: 1 };
        on_every_path(|path| {
            let far = run(&c, &[1.0, -1.0], &[1.0, -1.0], Logits { scale: 1000.0, bias: 0.0 }, &Sequential);
            assert!(far.out.loss < 1e-30 && far.image.iter().all(|v| v.abs() < 1e-30), "{path}");
            let wrong = run(&c, &[1.0, -1.0], &[-1.0, 1.0], Logits { scale: 1000.0, bias: 0.0 }, &Sequential);
            assert_eq!((wrong.out.loss, wrong.out.grad_log_scale), (2000.0, 2000.0), "{path}");
            let nan = run(&c, &[1.0, f32::NAN], &[-1.0, 1.0], Logits { scale: 10.0, bias: 0.0 }, &Sequential);
            assert!(nan.out.loss.is_nan() && nan.text.iter().all(|v| v.is_nan()), "{path}");
        });
    }

    #[test]
    fn the_order_of_the_jobs_does_not_reach_the_bytes() {
        let c = Contrastive { batch: 200, embed_dim: 24 };
        let (image, text) = (features(1, 200, 24), features(2, 200, 24));
        let by = Logits { scale: 20.0, bias: -5.0 };
        on_every_path(|path| {
            let (a, b) = (run(&c, &image, &text, by, &Sequential), run(&c, &image, &text, by, &Backwards::default()));
            assert!(a.out == b.out && a.image == b.image && a.text == b.text, "{path}");
        });
    }
}
