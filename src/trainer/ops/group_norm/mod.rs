//! Group norm over a map: each sample's channels in groups, each group normed over all its pixels, with an optional residual and
//! ReLU behind it. The batch-free alternative to batch norm.
//!
//! **Shapes** x, y `[samples, pixels, C]`, gain, bias `[C]`, mean, rstd `[samples, groups]`. Formulas are those of
//! [`batch_norm`](super::batch_norm), with the statistics of a sample's group and n = pixels C / groups:
//! dx = rstd (gain dz - mean(gain dz) - h mean(gain dz h)).

pub mod op;
pub mod reference;

use super::batch_norm::{After, cpu};
use super::{Accumulation, Scratch, elementwise};

/// A group norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupNormShape {
    /// Pixels of a map.
    pub pixels: usize,
    /// Channels (C).
    pub channels: usize,
    /// Groups of neighbouring channels; divides C.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl GroupNormShape {
    fn map(&self) -> usize {
        self.pixels * self.channels
    }

    /// Channels of a group.
    fn part(&self) -> usize {
        self.channels / self.groups
    }

    /// Elements that share their statistics.
    fn count(&self) -> f64 {
        (self.pixels * self.part()) as f64
    }

    /// The mean over each group of sums by channel, for each of its channels.
    fn share(&self, sums: &[f32], means: &mut [f32]) {
        for (sums, means) in sums.chunks_exact(self.part()).zip(means.chunks_exact_mut(self.part())) {
            means.fill((sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() / self.count()) as f32);
        }
    }

    /// The statistics of a sample's groups, for each of their channels.
    fn spread(&self, sample: usize, (mean, rstd): (&[f32], &[f32]), (means, rstds): (&mut [f32], &mut [f32])) {
        for c in 0..self.channels {
            let group = sample * self.groups + c / self.part();
            (means[c], rstds[c]) = (mean[group], rstd[group]);
        }
    }

    fn check(&self, samples: usize, x: &[f32], y: &[f32], stats: [&[f32]; 2]) {
        assert!(self.groups > 0 && self.channels.is_multiple_of(self.groups) && self.map() > 0, "groups of a group norm");
        assert!(x.len() == samples * self.map() && x.len() == y.len(), "maps of a group norm");
        assert!(stats.iter().all(|stats| stats.len() == samples * self.groups), "statistics of a group norm");
    }
}

/// y, and the statistics that backward needs.
#[expect(clippy::too_many_arguments, reason = "two parameters, three results, all plain slices")]
pub fn forward(
    shape: &GroupNormShape,
    samples: usize,
    x: &[f32],
    gain: &[f32],
    bias: &[f32],
    after: After,
    y: &mut [f32],
    (mean, rstd): (&mut [f32], &mut [f32]),
    s: &mut Scratch,
) {
    shape.check(samples, x, y, [mean, rstd]);
    let width = shape.channels;
    assert!(gain.len() == width && bias.len() == width, "parameters of a group norm");
    assert!(after.add.is_none_or(|add| add.len() == x.len()), "residual of a group norm");
    let [sums, squares, means, rstds] = s.floats([width; 4]);
    for sample in 0..samples {
        let at = sample * shape.map()..(sample + 1) * shape.map();
        let x = &x[at.clone()];
        sums.fill(0.0);
        elementwise::column_sums(x, sums);
        shape.share(sums, means);
        sums.fill(0.0);
        squares.fill(0.0);
        cpu::deviations(x, means, sums, squares);
        shape.share(squares, rstds);
        rstds.iter_mut().for_each(|var| *var = (*var + shape.eps).sqrt().recip());
        for group in 0..shape.groups {
            mean[sample * shape.groups + group] = means[group * shape.part()];
            rstd[sample * shape.groups + group] = rstds[group * shape.part()];
        }
        let after = After { add: after.add.map(|add| &add[at.clone()]), relu: after.relu };
        cpu::normalise(x, cpu::Channels { mean: means, rstd: rstds }, gain, bias, after, &mut y[at]);
    }
}

/// y again, from the statistics that [`forward`] gave.
#[expect(clippy::too_many_arguments, reason = "two parameters and two statistics in, all plain slices")]
pub fn apply(
    shape: &GroupNormShape,
    samples: usize,
    x: &[f32],
    gain: &[f32],
    bias: &[f32],
    (mean, rstd): (&[f32], &[f32]),
    after: After,
    y: &mut [f32],
    s: &mut Scratch,
) {
    shape.check(samples, x, y, [mean, rstd]);
    let width = shape.channels;
    assert!(gain.len() == width && bias.len() == width, "parameters of a group norm");
    assert!(after.add.is_none_or(|add| add.len() == x.len()), "residual of a group norm");
    let [means, rstds] = s.floats([width; 2]);
    for sample in 0..samples {
        let at = sample * shape.map()..(sample + 1) * shape.map();
        shape.spread(sample, (mean, rstd), (means, rstds));
        let after = After { add: after.add.map(|add| &add[at.clone()]), relu: after.relu };
        cpu::normalise(&x[at.clone()], cpu::Channels { mean: means, rstd: rstds }, gain, bias, after, &mut y[at]);
    }
}

/// Gradients; those of gain and bias are added to what is there. Turns dy into dz, which is the gradient of a residual.
///
/// `y` is the output where ReLU stands behind the norm.
#[expect(clippy::too_many_arguments, reason = "saved values in, four gradients out, all plain slices")]
pub fn backward(
    shape: &GroupNormShape,
    samples: usize,
    x: &[f32],
    gain: &[f32],
    (mean, rstd): (&[f32], &[f32]),
    y: Option<&[f32]>,
    grad_y: &mut [f32],
    grad_x: &mut [f32],
    mode: Accumulation,
    (grad_gain, grad_bias): (&mut [f32], &mut [f32]),
    s: &mut Scratch,
) {
    shape.check(samples, x, grad_y, [mean, rstd]);
    let width = shape.channels;
    assert!([gain.len(), grad_gain.len(), grad_bias.len()] == [width; 3], "parameters of a group norm");
    assert!(grad_x.len() == x.len() && y.is_none_or(|y| y.len() == x.len()), "maps of a group norm");
    let [means, rstds, sum, sum_h, weighted, share, share_h] = s.floats([width; 7]);
    for sample in 0..samples {
        let at = sample * shape.map()..(sample + 1) * shape.map();
        let (x, dz) = (&x[at.clone()], &mut grad_y[at.clone()]);
        shape.spread(sample, (mean, rstd), (means, rstds));
        let stats = cpu::Channels { mean: means, rstd: rstds };
        sum.fill(0.0);
        sum_h.fill(0.0);
        cpu::gradient_sums(x, stats, y.map(|y| &y[at.clone()]), dz, sum, sum_h);
        elementwise::add(sum, grad_bias);
        elementwise::add(sum_h, grad_gain);
        for (sums, share) in [(&*sum, &mut *share), (&*sum_h, &mut *share_h)] {
            weighted.iter_mut().zip(sums).zip(gain).for_each(|((to, sum), gain)| *to = sum * gain);
            shape.share(weighted, share);
        }
        let shares = cpu::Shares { gain, mean: share, mean_h: share_h };
        cpu::backward(x, stats, shares, dz, &mut grad_x[at], mode);
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::on_every_path;
    use super::super::testing::{CHAIN, DIFFERENCE, assert_close, differences, random, widen};
    use super::*;
    use crate::reference::{Matrix, dot};

    #[test]
    fn maps_and_gradients_agree_with_the_f64_form() {
        for (pixels, channels, groups) in [(4, 6, 2), (9, 24, 8), (25, 37, 1), (16, 12, 12)] {
            let (shape, samples) = (GroupNormShape { pixels, channels, groups, eps: 1e-5 }, 3);
            let len = samples * shape.map();
            let x: Vec<f32> = random(1, len).iter().map(|v| v * 2.0 + 3.0).collect();
            let (gain, bias, add, dy) = (random(2, channels), random(3, channels), random(4, len), random(5, len));
            for relu in [false, true] {
                let [mut y64, mut dx64, mut dz64] = [const { Vec::new() }; 3];
                let (mut dgain64, mut dbias64) = (vec![0.0; channels], vec![0.0; channels]);
                for i in 0..samples {
                    let part = |v: &[f32]| Matrix::from_rows(channels, widen(&v[i * shape.map()..(i + 1) * shape.map()]));
                    let (gain, bias, add) = (widen(&gain), widen(&bias), part(&add));
                    let norm = reference::Norm { shape: &shape, gain: &gain, bias: &bias, add: Some(&add), relu };
                    y64.extend(reference::forward(&norm, &part(&x)).values);
                    let (dx, dgain, dbias, dz) = reference::backward(&norm, &part(&x), &part(&dy));
                    dx64.extend(dx.values);
                    dz64.extend(dz.values);
                    crate::reference::add(&dgain, &mut dgain64);
                    crate::reference::add(&dbias, &mut dbias64);
                }
                on_every_path(|path| {
                    let what = |name| format!("{path}, {shape:?}: {name}");
                    let (mut y, mut s) = (vec![f32::NAN; len], Scratch::new());
                    let [mut mean, mut rstd] = [vec![f32::NAN; samples * groups], vec![f32::NAN; samples * groups]];
                    let after = After { add: Some(&add), relu };
                    forward(&shape, samples, &x, &gain, &bias, after, &mut y, (&mut mean, &mut rstd), &mut s);
                    assert_close(&what("y"), &y, &y64, CHAIN);
                    let (mut dz, mut dx) = (dy.clone(), vec![f32::NAN; len]);
                    let (mut dgain, mut dbias) = (vec![0.0; channels], vec![0.0; channels]);
                    let (saved, mode) = ((&mean[..], &rstd[..]), Accumulation::Overwrite);
                    let into = (&mut dgain[..], &mut dbias[..]);
                    backward(&shape, samples, &x, &gain, saved, relu.then_some(&y), &mut dz, &mut dx, mode, into, &mut s);
                    let results = [(&dx, &dx64), (&dz, &dz64), (&dgain, &dgain64), (&dbias, &dbias64)];
                    for ((found, expected), name) in results.into_iter().zip(["dx", "dadd", "dgain", "dbias"]) {
                        assert_close(&what(name), found, expected, CHAIN);
                    }
                });
            }
        }
    }

    #[test]
    fn the_gradient_of_the_f64_form_is_its_slope() {
        let shape = GroupNormShape { pixels: 4, channels: 4, groups: 2, eps: 1e-5 };
        let (gain, bias) = (widen(&random(2, 4)), widen(&random(3, 4)));
        let norm = reference::Norm { shape: &shape, gain: &gain, bias: &bias, add: None, relu: true };
        let (x, dy) = (widen(&random(1, 16)), widen(&random(5, 16)));
        let loss = |x: &[f64]| dot(&reference::forward(&norm, &Matrix::from_rows(4, x.to_vec())).values, &dy);
        let (dx, ..) = reference::backward(&norm, &Matrix::from_rows(4, x.clone()), &Matrix::from_rows(4, dy.clone()));
        assert_close("dx", &dx.values.iter().map(|v| *v as f32).collect::<Vec<_>>(), &differences(&x, loss), DIFFERENCE);
    }
}
