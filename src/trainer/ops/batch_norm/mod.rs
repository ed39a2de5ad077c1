//! Batch norm over the rows of a group of samples, with an optional residual and ReLU behind it.
//!
//! z = (x - mean) rstd gain + bias (+ add), y = z or max(z, 0); mean and rstd = 1 / sqrt(var + eps) are those of each channel over
//! all rows of the group, var the biased variance. Backward, with dz = dy where y > 0 (or dy), h = (x - mean) rstd and n rows:
//! dx = gain rstd (dz - sum(dz) / n - h sum(dz h) / n), dgain = sum(dz h), dbias = sum(dz), and dz is the residual's gradient.
//!
//! A group is cut into fixed slabs of rows. Forward: [`moments`] of each slab, [`merge`] of all, [`Statistics::of`], then
//! [`normalise`] slab by slab. Backward: [`gradient_sums`] of each slab, [`add_up`] of all, then [`backward`] slab by slab. Slabs
//! may be worked on in any order and on any thread: sums over slabs are made in f64 by a tree that depends on their number
//! alone. In evaluation [`Statistics::running`] takes the place of the group's.
//!
//! **Source** PyTorch: the biased variance normalises, the unbiased one goes into the running variance.

pub(crate) mod cpu;
pub mod op;
pub mod reference;

use super::{Accumulation, Scratch, elementwise};

/// What stands behind the norm.
#[derive(Debug, Clone, Copy, Default)]
pub struct After<'a> {
    /// Rows that are added.
    pub add: Option<&'a [f32]>,
    /// Whether negative sums become 0.
    pub relu: bool,
}

/// Mean and 1 / sqrt(var + eps) of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Mean.
    pub mean: Vec<f32>,
    /// 1 / sqrt(var + eps).
    pub rstd: Vec<f32>,
}

impl Statistics {
    /// Of a group, from its merged [`moments`].
    #[must_use]
    pub fn of(record: &[f64], eps: f32) -> Self {
        let (count, mean, squares) = parts(record);
        let rstd = squares.iter().map(|m2| ((m2 / count + f64::from(eps)).sqrt().recip()) as f32).collect();
        Self { mean: mean.iter().map(|mean| *mean as f32).collect(), rstd }
    }

    /// Of evaluation.
    #[must_use]
    pub fn running(mean: &[f32], variance: &[f32], eps: f32) -> Self {
        assert_eq!(mean.len(), variance.len(), "running statistics of a batch norm");
        let rstd = variance.iter().map(|var| ((f64::from(*var) + f64::from(eps)).sqrt().recip()) as f32).collect();
        Self { mean: mean.to_vec(), rstd }
    }
}

/// Numbers of a record of `width` channels: the count, the means, the sums of squared deviations from them.
#[must_use]
pub fn record_len(width: usize) -> usize {
    1 + 2 * width
}

fn parts(record: &[f64]) -> (f64, &[f64], &[f64]) {
    let (mean, squares) = record[1..].split_at(record.len() / 2);
    (record[0], mean, squares)
}

/// Count, means and sums of squared deviations of the rows of one slab, into its record.
pub fn moments(width: usize, x: &[f32], record: &mut [f64], s: &mut Scratch) {
    assert!(width > 0 && !x.is_empty() && x.len().is_multiple_of(width), "rows of a batch norm");
    assert_eq!(record.len(), record_len(width), "record of a batch norm");
    let rows = (x.len() / width) as f64;
    let [mean, sums, squares] = s.floats([width; 3]);
    mean.fill(0.0);
    elementwise::column_sums(x, mean);
    mean.iter_mut().for_each(|sum| *sum = (f64::from(*sum) / rows) as f32);
    sums.fill(0.0);
    squares.fill(0.0);
    cpu::deviations(x, mean, sums, squares);
    record[0] = rows;
    let (means, m2) = record[1..].split_at_mut(width);
    for c in 0..width {
        // Deviations are from the rounded mean: the true one is a little further, and the squares are larger by that.
        let shift = f64::from(sums[c]) / rows;
        means[c] = f64::from(mean[c]) + shift;
        m2[c] = (f64::from(squares[c]) - rows * shift * shift).max(0.0);
    }
}

/// Merges the records of a group's slabs, one after another in `records`, into the first.
///
/// **Source** Chan, Golub & LeVeque 1983.
pub fn merge(width: usize, records: &mut [f64]) {
    tree(record_len(width), records, |left, right| {
        let (na, nb) = (left[0], right[0]);
        for c in 1..=width {
            let delta = right[c] - left[c];
            left[c] += delta * nb / (na + nb);
            left[width + c] += right[width + c] + delta * delta * na * nb / (na + nb);
        }
        left[0] = na + nb;
    });
}

/// Adds the sums of a group's slabs, one after another in `sums`, into the first.
pub fn add_up(width: usize, sums: &mut [f64]) {
    tree(2 * width, sums, |left, right| left.iter_mut().zip(right).for_each(|(a, b)| *a += b));
}

/// Joins neighbours, then neighbours of those, until the first item holds all.
fn tree(len: usize, items: &mut [f64], join: impl Fn(&mut [f64], &[f64])) {
    assert!(!items.is_empty() && items.len().is_multiple_of(len), "records of slabs");
    let num = items.len() / len;
    let mut step = 1;
    while step < num {
        for i in (0..num - step).step_by(2 * step) {
            let (left, right) = items.split_at_mut((i + step) * len);
            join(&mut left[i * len..(i + 1) * len], &right[..len]);
        }
        step *= 2;
    }
}

/// What a group shows of the population: its means and its unbiased variances, which are 0 where it has a single row.
#[must_use]
pub fn observed(record: &[f64]) -> (&[f64], impl ExactSizeIterator<Item = f64>) {
    let (count, means, squares) = parts(record);
    (means, squares.iter().map(move |squares| if count > 1.0 { squares / (count - 1.0) } else { 0.0 }))
}

/// y of the rows of one slab.
pub fn normalise(x: &[f32], stats: &Statistics, gain: &[f32], bias: &[f32], after: After, y: &mut [f32]) {
    check(stats, gain, bias, x, y);
    assert!(after.add.is_none_or(|add| add.len() == x.len()), "residual of a batch norm");
    cpu::normalise(x, stats.into(), gain, bias, after, y);
}

/// Sums of dz and dz h over the rows of one slab, into `sums`; turns dy into dz, which is the gradient of a residual.
///
/// `y` is the output where ReLU stands behind the norm.
pub fn gradient_sums(x: &[f32], stats: &Statistics, y: Option<&[f32]>, grad_y: &mut [f32], sums: &mut [f64], s: &mut Scratch) {
    let width = stats.mean.len();
    check(stats, &stats.mean, &stats.rstd, x, grad_y);
    assert!(y.is_none_or(|y| y.len() == x.len()) && sums.len() == 2 * width, "rows of a batch norm");
    let [partial] = s.floats([2 * width]);
    partial.fill(0.0);
    let (sum, sum_h) = partial.split_at_mut(width);
    cpu::gradient_sums(x, stats.into(), y, grad_y, sum, sum_h);
    sums.iter_mut().zip(&*partial).for_each(|(to, from)| *to = f64::from(*from));
}

/// dx of the rows of one slab of a group of `count` rows, from dz and the added sums of the group.
#[expect(clippy::too_many_arguments, reason = "saved values in, a gradient out, all plain slices")]
pub fn backward(
    x: &[f32],
    stats: &Statistics,
    gain: &[f32],
    (count, sums): (usize, &[f64]),
    grad_z: &[f32],
    grad_x: &mut [f32],
    mode: Accumulation,
    s: &mut Scratch,
) {
    let width = gain.len();
    check(stats, gain, gain, x, grad_z);
    assert!(x.len() == grad_x.len() && sums.len() == 2 * width, "rows of a batch norm");
    let [shares] = s.floats([2 * width]);
    for (i, share) in shares.iter_mut().enumerate() {
        *share = (f64::from(gain[i % width]) * sums[i] / count as f64) as f32;
    }
    let (mean, mean_h) = shares.split_at(width);
    cpu::backward(x, stats.into(), cpu::Shares { gain, mean, mean_h }, grad_z, grad_x, mode);
}

/// Gradients of gain and bias, from the added sums of the group; added to what is there.
pub fn add_parameter_gradients(sums: &[f64], grad_gain: &mut [f32], grad_bias: &mut [f32]) {
    assert!(grad_gain.len() == grad_bias.len() && sums.len() == 2 * grad_gain.len(), "gradients of a batch norm");
    let (bias, gain) = sums.split_at(grad_bias.len());
    grad_gain.iter_mut().zip(gain).for_each(|(to, from)| *to += *from as f32);
    grad_bias.iter_mut().zip(bias).for_each(|(to, from)| *to += *from as f32);
}

fn check(stats: &Statistics, gain: &[f32], bias: &[f32], x: &[f32], y: &[f32]) {
    let width = stats.mean.len();
    assert!(width > 0 && stats.rstd.len() == width && gain.len() == width && bias.len() == width, "channels of a batch norm");
    assert!(x.len() == y.len() && x.len().is_multiple_of(width), "rows of a batch norm");
}

#[cfg(test)]
mod tests;
