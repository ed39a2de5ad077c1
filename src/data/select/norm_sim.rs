//! `norm_sim`: how much of a target's images a sample's image looks like.

use rayon::prelude::*;

use super::{Features, products};
use crate::run::Norm;

/// ||(<x_t, f>)_t||_p of each image feature f over the target's features x_t.
///
/// For p = 2 it is sqrt(fᵀ C f) with C the sum of x_t x_tᵀ, an E x E matrix in f64.
///
/// **Source**: Wang et al. 2024, `NormSim`.
///
/// # Panics
/// If the target has no image, or features of another width.
#[must_use]
pub fn norm_sim(images: Features<'_>, target: Features<'_>, norm: Norm) -> Vec<f64> {
    assert!(!target.is_empty() && target.width() == images.width(), "features of a target");
    match norm {
        Norm::Inf => products::map_products(images, target, |_, row| {
            f64::from(row.iter().fold(0.0f32, |most, similarity| most.max(similarity.abs())))
        }),
        Norm::Two => {
            let moment = second_moment(target);
            (0..images.len()).into_par_iter().map(|sample| root_of_form(&moment, images.row(sample))).collect()
        }
    }
}

/// The sum of x xᵀ over all rows, row-major.
fn second_moment(features: Features<'_>) -> Vec<f64> {
    let width = features.width();
    let mut moment = vec![0.0; width * width];
    moment.par_chunks_mut(width).enumerate().for_each(|(row, sums)| {
        for sample in 0..features.len() {
            let feature = features.row(sample);
            let own = f64::from(feature[row]);
            sums.iter_mut().zip(feature).for_each(|(sum, value)| *sum += own * f64::from(*value));
        }
    });
    moment
}

/// sqrt(fᵀ C f); a form that rounding makes negative is 0.
fn root_of_form(moment: &[f64], feature: &[f32]) -> f64 {
    let rows = moment.chunks_exact(feature.len()).zip(feature);
    let sum: f64 =
        rows.map(|(row, own)| f64::from(*own) * row.iter().zip(feature).map(|(c, value)| c * f64::from(*value)).sum::<f64>()).sum();
    sum.max(0.0).sqrt()
}
