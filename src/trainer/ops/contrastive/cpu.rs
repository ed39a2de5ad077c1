//! Rows of logits on vectors: log-sum-exp, and logits turned into their gradients.

use std::f32::consts::LOG2_E;

use super::super::simd::{Simd, dispatch, for_vectors, math};

/// Log-sum-exp of rows of logits, kept in two parts so that a probability near 1 keeps its digits however large logits are:
/// the greatest logit and the logarithm of the sum relative to it, both in units of ln 2.
#[derive(Clone, Copy)]
pub(super) struct LogSumExp<'a> {
    pub max: &'a [f32],
    pub log: &'a [f32],
}

/// One slab of similarities and what its logits are normalised by.
pub(super) struct Slab<'a> {
    /// `[rows, batch]`: similarities, replaced by gradients.
    pub similarities: &'a mut [f32],
    /// Of the slab's rows.
    pub own: LogSumExp<'a>,
    /// Of all columns.
    pub other: LogSumExp<'a>,
    /// Row of the batch that the slab begins with.
    pub first: usize,
}

dispatch! {
    /// Log-sum-exp of scale * row for each row; returns the sum over rows of (log-sum-exp - logit of the pair), in nats.
    pub(super) fn log_sum_exp(scale: f32, similarities: &[f32], first: usize, max: &mut [f32], log: &mut [f32]) -> f64 =
        log_sum_exp_on;
}

dispatch! {
    /// Similarities become scale * ds; returns the sum over the slab of ds * logit.
    pub(super) fn gradients(scale: f32, slab: Slab) -> f64 = gradients_on;
}

#[inline(always)]
fn log_sum_exp_on<S: Simd>(s: S, scale: f32, similarities: &[f32], first: usize, max: &mut [f32], log: &mut [f32]) -> f64 {
    let batch = similarities.len() / max.len();
    let factor = scale * LOG2_E;
    let mut loss = 0.0;
    for (r, row) in similarities.chunks_exact(batch).enumerate() {
        let lowest = s.splat(f32::MIN);
        let mut greatest = lowest;
        for_vectors!(s: S, batch, |at| {
            greatest = s.max(at.or(at.load(row), lowest), greatest);
        });
        max[r] = s.greatest(greatest) * factor;
        let mut sum = s.splat(0.0);
        for_vectors!(s: S, batch, |at| {
            let power = s.mul_add(at.load(row), s.splat(factor), s.splat(-max[r]));
            sum = s.add(sum, at.keep(math::exp2(s, power)));
        });
        log[r] = s.sum(sum).log2();
        let pair = f64::from(row[first + r]) * f64::from(factor);
        loss += (f64::from(max[r]) - pair + f64::from(log[r])) * std::f64::consts::LN_2;
    }
    loss
}

#[inline(always)]
fn gradients_on<S: Simd>(s: S, scale: f32, slab: Slab) -> f64 {
    let Slab { similarities, own, other, first } = slab;
    let batch = other.max.len();
    let share = 0.5 / batch as f32;
    let factor = s.splat(scale * LOG2_E);
    let mut total = 0.0;
    for (r, row) in similarities.chunks_exact_mut(batch).enumerate() {
        let pair = row[first + r];
        let (max, log) = (s.splat(own.max[r]), s.splat(own.log[r]));
        let mut along = s.splat(0.0);
        for_vectors!(s: S, batch, |at| {
            let similarity = at.load(row);
            let by_row = s.sub(s.mul_add(similarity, factor, s.sub(s.splat(0.0), max)), log);
            let by_column = s.sub(s.mul_add(similarity, factor, s.sub(s.splat(0.0), at.load(other.max))), at.load(other.log));
            let ds = s.mul(s.add(math::exp2(s, by_row), math::exp2(s, by_column)), s.splat(share));
            along = s.mul_add(ds, similarity, along);
            at.store(row, s.mul(ds, s.splat(scale)));
        });
        row[first + r] -= 2.0 * share * scale;
        total += (f64::from(s.sum(along)) - f64::from(2.0 * share) * f64::from(pair)) * f64::from(scale);
    }
    total
}
