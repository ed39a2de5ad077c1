//! Norms with statistics of their own for each channel, on vectors of channels, row by row.

use super::super::Accumulation;
use super::super::simd::{Simd, dispatch, for_vectors};
use super::{After, Statistics};

/// Mean and 1 / standard deviation of each channel.
#[derive(Clone, Copy)]
pub(crate) struct Channels<'a> {
    pub mean: &'a [f32],
    pub rstd: &'a [f32],
}

impl<'a> From<&'a Statistics> for Channels<'a> {
    fn from(stats: &'a Statistics) -> Self {
        Self { mean: &stats.mean, rstd: &stats.rstd }
    }
}

/// The gain, and what is taken from gain dz in backward: the mean of gain dz, and that of gain dz h, which is taken h times.
#[derive(Clone, Copy)]
pub(crate) struct Shares<'a> {
    pub gain: &'a [f32],
    pub mean: &'a [f32],
    pub mean_h: &'a [f32],
}

dispatch! {
    /// Adds the deviations from `mean` and their squares.
    pub(crate) fn deviations(x: &[f32], mean: &[f32], sums: &mut [f32], squares: &mut [f32]) = deviations_on;
}

dispatch! {
    pub(crate) fn normalise(x: &[f32], stats: Channels, gain: &[f32], bias: &[f32], after: After, y: &mut [f32]) = normalise_on;
}

dispatch! {
    /// Adds dz and dz h, and turns dy into dz.
    pub(crate) fn gradient_sums(
        x: &[f32],
        stats: Channels,
        y: Option<&[f32]>,
        grad_y: &mut [f32],
        sum: &mut [f32],
        sum_h: &mut [f32],
    ) = gradient_sums_on;
}

dispatch! {
    /// dx = rstd (gain dz - mean - h mean_h).
    pub(crate) fn backward(
        x: &[f32],
        stats: Channels,
        shares: Shares,
        grad_z: &[f32],
        grad_x: &mut [f32],
        mode: Accumulation,
    ) = backward_on;
}

#[inline(always)]
fn deviations_on<S: Simd>(s: S, x: &[f32], mean: &[f32], sums: &mut [f32], squares: &mut [f32]) {
    let width = mean.len();
    let (sums, squares) = (&mut sums[..width], &mut squares[..width]);
    for x in x.chunks_exact(width) {
        for_vectors!(s: S, width, |at| {
            let d = s.sub(at.load(x), at.load(mean));
            at.store(sums, s.add(at.load(sums), d));
            at.store(squares, s.mul_add(d, d, at.load(squares)));
        });
    }
}

#[inline(always)]
fn normalise_on<S: Simd>(s: S, x: &[f32], stats: Channels, gain: &[f32], bias: &[f32], after: After, y: &mut [f32]) {
    let width = gain.len();
    let (mean, rstd, bias) = (&stats.mean[..width], &stats.rstd[..width], &bias[..width]);
    let zero = s.splat(0.0);
    for (r, (x, y)) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).enumerate() {
        let add = after.add.map(|add| &add[r * width..(r + 1) * width]);
        for_vectors!(s: S, width, |at| {
            let h = s.mul(s.sub(at.load(x), at.load(mean)), at.load(rstd));
            let mut z = s.mul_add(h, at.load(gain), at.load(bias));
            if let Some(add) = add {
                z = s.add(z, at.load(add));
            }
            // Zero is the first operand, so that NaN passes through.
            at.store(y, if after.relu { s.max(zero, z) } else { z });
        });
    }
}

#[inline(always)]
fn gradient_sums_on<S: Simd>(
    s: S,
    x: &[f32],
    stats: Channels,
    y: Option<&[f32]>,
    grad_y: &mut [f32],
    sum: &mut [f32],
    sum_h: &mut [f32],
) {
    let width = stats.mean.len();
    let (rstd, sum, sum_h) = (&stats.rstd[..width], &mut sum[..width], &mut sum_h[..width]);
    let zero = s.splat(0.0);
    for (r, (x, dy)) in x.chunks_exact(width).zip(grad_y.chunks_exact_mut(width)).enumerate() {
        let y = y.map(|y| &y[r * width..(r + 1) * width]);
        for_vectors!(s: S, width, |at| {
            let mut d = at.load(dy);
            if let Some(y) = y {
                // Where y is 0 the difference is +0, whose sign is that of numbers that are not positive.
                d = s.where_positive(s.sub(zero, at.load(y)), zero, d);
                at.store(dy, d);
            }
            let h = s.mul(s.sub(at.load(x), at.load(stats.mean)), at.load(rstd));
            at.store(sum, s.add(at.load(sum), d));
            at.store(sum_h, s.mul_add(d, h, at.load(sum_h)));
        });
    }
}

#[inline(always)]
fn backward_on<S: Simd>(s: S, x: &[f32], stats: Channels, shares: Shares, grad_z: &[f32], grad_x: &mut [f32], mode: Accumulation) {
    let width = shares.gain.len();
    let (all_mean, all_rstd) = (&stats.mean[..width], &stats.rstd[..width]);
    let rows = x.chunks_exact(width).zip(grad_z.chunks_exact(width)).zip(grad_x.chunks_exact_mut(width));
    for ((x, dz), dx) in rows {
        for_vectors!(s: S, width, |at| {
            let rstd = at.load(all_rstd);
            let h = s.mul(s.sub(at.load(x), at.load(all_mean)), rstd);
            let centred = s.sub(s.mul(at.load(shares.gain), at.load(dz)), at.load(shares.mean));
            let centred = s.neg_mul_add(h, at.load(shares.mean_h), centred);
            at.store(dx, match mode {
                Accumulation::Overwrite => s.mul(rstd, centred),
                Accumulation::Add => s.mul_add(rstd, centred, at.load(dx)),
            });
        });
    }
}
