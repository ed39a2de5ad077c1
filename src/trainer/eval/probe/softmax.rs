//! Multinomial logistic regression as a function of its weights.
//!
//! **Invariant**: value and gradient have the same bytes whatever the number of threads: rows are cut into a fixed number of lanes,
//! and lanes are added in their order.

use rayon::prelude::*;

use crate::trainer::ops::product_f64::{MatF64, add_product, product};

/// Contiguous parts of the rows.
const LANES: usize = 16;
/// Rows whose logits are held at a time.
const BLOCK: usize = 256;

/// Rows with their classes, and how much large weights cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Softmax<'a> {
    /// Inputs [N, D].
    pub rows: &'a [f64],
    /// D.
    pub width: usize,
    /// A class a row, below `classes`.
    pub labels: &'a [usize],
    /// C.
    pub classes: usize,
    /// Factor on half the squared length of the weights, biases left out.
    pub lambda: f64,
}

/// What one lane adds.
struct Lane {
    loss: f64,
    gradient: Vec<f64>,
}

impl Softmax<'_> {
    /// Length of the parameters: weights [C, D], then biases [C].
    pub fn num_params(&self) -> usize {
        self.classes * (self.width + 1)
    }

    /// Mean cross entropy plus `lambda` / 2 |W|^2, in nats; its gradient goes to `gradient`.
    pub fn value_and_gradient(&self, params: &[f64], gradient: &mut [f64]) -> f64 {
        let per_lane = self.labels.len().div_ceil(LANES).max(1);
        let lanes: Vec<Lane> = (self.labels.par_chunks(per_lane).zip(self.rows.par_chunks(per_lane * self.width)))
            .map(|(labels, rows)| self.lane(params, labels, rows))
            .collect();
        gradient.fill(0.0);
        let mut loss = 0.0;
        for lane in &lanes {
            loss += lane.loss;
            gradient.iter_mut().zip(&lane.gradient).for_each(|(sum, value)| *sum += value);
        }
        #[expect(clippy::cast_precision_loss, reason = "a number of samples below 2^53")]
        let share = 1.0 / self.labels.len() as f64;
        gradient.iter_mut().for_each(|value| *value *= share);
        let num_weights = self.classes * self.width;
        let mut squares = 0.0;
        for (gradient, weight) in gradient[..num_weights].iter_mut().zip(params) {
            *gradient += self.lambda * weight;
            squares += weight * weight;
        }
        loss * share + 0.5 * self.lambda * squares
    }

    fn lane(&self, params: &[f64], labels: &[usize], rows: &[f64]) -> Lane {
        let mut lane = Lane { loss: 0.0, gradient: vec![0.0; self.num_params()] };
        let mut logits = Vec::new();
        for (labels, rows) in labels.chunks(BLOCK).zip(rows.chunks(BLOCK * self.width)) {
            scores(params, self.classes, self.width, rows, &mut logits);
            for (logits, label) in logits.chunks_exact_mut(self.classes).zip(labels) {
                lane.loss += log_sum_exp_to_shares(logits, *label);
            }
            let (weights, biases) = lane.gradient.split_at_mut(self.classes * self.width);
            add_product(MatF64::new(&logits, self.classes).transposed(), MatF64::new(rows, self.width), weights);
            for shares in logits.chunks_exact(self.classes) {
                biases.iter_mut().zip(shares).for_each(|(bias, share)| *bias += share);
            }
        }
        lane
    }
}

/// Scores [rows, C] of rows [rows, D] by weights [C, D] and biases [C].
pub(super) fn scores(params: &[f64], classes: usize, width: usize, rows: &[f64], out: &mut Vec<f64>) {
    let (weights, biases) = params.split_at(classes * width);
    out.clear();
    out.resize(rows.len() / width * classes, 0.0);
    product(MatF64::new(rows, width), MatF64::new(weights, width).transposed(), out);
    for scores in out.chunks_exact_mut(classes) {
        scores.iter_mut().zip(biases).for_each(|(score, bias)| *score += bias);
    }
}

/// Turns logits into the gradient of their cross entropy (softmax, minus 1 at the label), and returns the cross entropy.
fn log_sum_exp_to_shares(logits: &mut [f64], label: usize) -> f64 {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let own = logits[label] - most;
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - most).exp();
        sum += *logit;
    }
    logits.iter_mut().for_each(|share| *share /= sum);
    logits[label] -= 1.0;
    sum.ln() - own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(rows: &[f64]) -> Softmax<'_> {
        Softmax { rows, width: 3, labels: &[0, 1, 2, 3, 1, 0, 2], classes: 4, lambda: 0.3 }
    }

    fn inputs() -> (Vec<f64>, Vec<f64>) {
        let rows = (0..21).map(|i| f64::from(i * i % 11) * 0.4 - 2.0).collect();
        let params = (0..16).map(|i| f64::from(i * 7 % 5) * 0.3 - 0.6).collect();
        (rows, params)
    }

    #[test]
    fn the_gradient_is_that_of_the_value() {
        let (rows, params) = inputs();
        let problem = problem(&rows);
        let mut gradient = vec![0.0; 16];
        problem.value_and_gradient(&params, &mut gradient);
        let value = |params: &[f64]| problem.value_and_gradient(params, &mut [0.0; 16]);
        for place in 0..16 {
            let at = |by: f64| {
                let mut moved = params.clone();
                moved[place] += by;
                value(&moved)
            };
            let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((gradient[place] - difference).abs() < 1e-9, "{place}: {} and {difference}", gradient[place]);
        }
    }

    #[test]
    fn the_value_is_the_mean_cross_entropy_and_the_penalty_of_weights_alone() {
        let (rows, params) = inputs();
        let labels = [0, 1, 2, 3, 1, 0, 2];
        let mut expected = 0.0;
        for (row, label) in rows.chunks(3).zip(labels) {
            let logit = |class: usize| (0..3).map(|k| row[k] * params[class * 3 + k]).sum::<f64>() + params[12 + class];
            expected += (0..4).map(|class| logit(class).exp()).sum::<f64>().ln() - logit(label);
        }
        expected = expected / 7.0 + 0.15 * params[..12].iter().map(|w| w * w).sum::<f64>();
        let found = problem(&rows).value_and_gradient(&params, &mut [0.0; 16]);
        assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
    }

    #[test]
    fn logits_of_any_size_do_not_overflow() {
        let mut logits = [1e3, -1e3, 2e3];
        assert_eq!(log_sum_exp_to_shares(&mut logits, 0), 1e3);
        assert_eq!(logits, [-1.0, 0.0, 1.0]);
    }
}
