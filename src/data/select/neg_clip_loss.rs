//! `neg_clip_loss`: the similarity of a pair less what its image and its caption have with others.
//!
//! With s the matrix of cosine similarities of a batch, the score of pair i is
//! s_ii - tau / 2 * (lse_j(s_ij / tau) + lse_j(s_ji / tau)), where lse is the logarithm of the sum of exponentials, i included.
//! It is minus the contrastive loss of the pair at the multiplier 1 / tau, times tau. Every sum is taken less its largest term:
//! at tau = 0.01 a plain exponential leaves f32 above a similarity of 0.88.

use super::super::order::Permutation;
use super::super::philox::{Philox, Stream};
use super::{Features, products};
use crate::run::NegClipLoss;

/// Steps of the stream of subsets from which the permutations of batches are drawn.
const FIRST_STEP: u64 = 1 << 32;

/// The score of every pair, averaged over keyed permutations of the pool; one batch needs no permutation.
///
/// **Source**: Wang et al. 2024, `negCLIPLoss`.
/// **Differs**: the pool is cut into batches whose sizes differ by at most one, so that no pair meets few others at the end.
///
/// # Panics
/// If there are not as many captions as images, or a number is 0.
#[must_use]
pub fn neg_clip_loss(images: Features<'_>, texts: Features<'_>, how: NegClipLoss) -> Vec<f64> {
    let len = images.len();
    let order = |step| {
        let permutation = Permutation::new(&Philox::new(0, Stream::Subset), FIRST_STEP + step, len as u64);
        (0..len as u64).map(|at| permutation.apply(at) as u32).collect()
    };
    let orders: Vec<Vec<u32>> = match len as u64 <= how.batch {
        true => vec![(0..len as u32).collect()],
        false => (0..how.permutations).map(order).collect(),
    };
    averaged(images, texts, how, &orders)
}

/// The scores over these orders of the pool.
pub(super) fn averaged(images: Features<'_>, texts: Features<'_>, how: NegClipLoss, orders: &[Vec<u32>]) -> Vec<f64> {
    assert_eq!(images.len(), texts.len(), "a caption an image");
    assert!(how.batch > 0 && !orders.is_empty() && how.temperature > 0.0, "{how:?}");
    let mut sums = vec![0.0; images.len()];
    for order in orders {
        for batch in batches(order, usize::try_from(how.batch).unwrap_or(usize::MAX)) {
            for (&sample, score) in batch.iter().zip(of_batch(images, texts, how.temperature, batch)) {
                sums[sample as usize] += score;
            }
        }
    }
    sums.into_iter().map(|sum| sum / orders.len() as f64).collect()
}

/// Parts of an order that are as equal as can be and no longer than `most`.
fn batches(order: &[u32], most: usize) -> impl Iterator<Item = &[u32]> {
    let count = order.len().div_ceil(most);
    (0..count).map(move |batch| &order[batch * order.len() / count..(batch + 1) * order.len() / count])
}

fn of_batch(images: Features<'_>, texts: Features<'_>, temperature: f64, batch: &[u32]) -> Vec<f64> {
    let (own_images, own_texts) = (images.gather(batch), texts.gather(batch));
    let (images, texts) = (Features::new(&own_images, images.width()), Features::new(&own_texts, texts.width()));
    let by_image = products::map_products(images, texts, |_, row| soft_max(row, temperature));
    let by_text = products::map_products(texts, images, |_, row| soft_max(row, temperature));
    let pairs = by_image.into_iter().zip(by_text).enumerate();
    pairs.map(|(i, (row, column))| products::dot(images.row(i), texts.row(i)) - 0.5 * (row + column)).collect()
}

/// tau * ln(sum(exp(s / tau))): the largest of s and a little more.
fn soft_max(similarities: &[f32], temperature: f64) -> f64 {
    let most = f64::from(similarities.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = similarities.iter().map(|&s| libm::exp((f64::from(s) - most) / temperature)).sum();
    most + temperature * libm::log(sum)
}
