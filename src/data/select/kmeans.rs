//! k-means by Lloyd's steps, from samples of the pool as first centroids.

use super::super::order::Permutation;
use super::super::philox::{Philox, Stream};
use super::{Features, products};

/// Step of the stream of subsets from which first centroids are drawn.
const STEP: u64 = 2 << 32;

/// What a sample is near to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// The centroid at the least Euclidean distance.
    Euclidean,
    /// The centroid with the largest inner product; centroids have length 1.
    Spherical,
}

/// Centroids and the samples' own.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// **Shapes** \[k, E\].
    pub centroids: Vec<f32>,
    /// Centroid of each sample, by the distance that the clusters were made with.
    pub of_sample: Vec<u32>,
}

/// Samples of a pool that `count` clusters start from: the first of a keyed permutation, at most all.
#[must_use]
pub fn initial_centroids(len: usize, count: u64) -> Vec<u32> {
    let permutation = Permutation::new(&Philox::new(0, Stream::Subset), STEP, len as u64);
    (0..count.min(len as u64)).map(|at| permutation.apply(at) as u32).collect()
}

/// `iterations` times: every sample to its nearest centroid (the first where several are as near), every centroid to the mean of
/// its samples (for `Spherical` scaled to length 1). A centroid without samples stays where it is. Samples are assigned once more
/// at the end. Means are f64 sums in the order of samples.
///
/// **Differs** from faiss, which `DataComp` and `SemDeDup` call: that splits a large cluster where one is empty, and trains on at
/// most 256 samples a centroid.
///
/// # Panics
/// If there is no first centroid.
#[must_use]
pub fn kmeans(features: Features<'_>, first: &[u32], iterations: u64, distance: Distance) -> Clusters {
    assert!(!first.is_empty(), "clusters of a pool");
    let width = features.width();
    let mut centroids = features.gather(first);
    for _ in 0..iterations {
        let of_sample = nearest(features, Features::new(&centroids, width), distance);
        let mut sums = vec![0.0f64; centroids.len()];
        let mut counts = vec![0u32; first.len()];
        for (sample, &cluster) in of_sample.iter().enumerate() {
            let sum = &mut sums[cluster as usize * width..][..width];
            sum.iter_mut().zip(features.row(sample)).for_each(|(sum, value)| *sum += f64::from(*value));
            counts[cluster as usize] += 1;
        }
        for ((centroid, sum), &count) in centroids.chunks_exact_mut(width).zip(sums.chunks_exact(width)).zip(&counts) {
            let length = match distance {
                Distance::Euclidean => f64::from(count),
                Distance::Spherical => sum.iter().map(|value| value * value).sum::<f64>().sqrt(),
            };
            if count > 0 && length > 0.0 {
                centroid.iter_mut().zip(sum).for_each(|(value, sum)| *value = (sum / length) as f32);
            }
        }
    }
    let of_sample = nearest(features, Features::new(&centroids, width), distance);
    Clusters { centroids, of_sample }
}

/// The centroid of each sample.
fn nearest(features: Features<'_>, centroids: Features<'_>, distance: Distance) -> Vec<u32> {
    let offsets: Vec<f64> = match distance {
        // |f - c|^2 is least where <f, c> - |c|^2 / 2 is largest.
        Distance::Euclidean => (0..centroids.len()).map(|c| 0.5 * products::dot(centroids.row(c), centroids.row(c))).collect(),
        Distance::Spherical => vec![0.0; centroids.len()],
    };
    products::map_products(features, centroids, |_, row| {
        products::argmax(row.iter().zip(&offsets).map(|(product, offset)| f64::from(*product) - offset)) as u32
    })
}

/// The centroid with the largest inner product, the first where several are as large.
pub(super) fn most_alike(features: Features<'_>, centroids: Features<'_>) -> Vec<u32> {
    nearest(features, centroids, Distance::Spherical)
}
