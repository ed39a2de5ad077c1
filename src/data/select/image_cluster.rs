//! `image_cluster`: clusters of the pool's images that a target's images fall into.

use super::Features;
use super::kmeans::{Distance, initial_centroids, kmeans, most_alike};
use crate::run::Clustering;

/// Of each sample, how many images of the target fall into its cluster: 1 or more is what `DataComp` keeps.
///
/// Clusters are Euclidean k-means of the pool's image features; samples and target images then go to the centroid with the largest
/// inner product, the first where several are as large.
///
/// **Source**: `DataComp` (`image_based`): 100,000 centroids, 20 iterations, the images of `ImageNet`'s train split as target.
/// **Differs**: the caption filter that `DataComp` applies first is a rule of its own (`basic`).
#[must_use]
pub fn image_cluster(images: Features<'_>, target: Features<'_>, how: Clustering) -> Vec<f64> {
    from(images, target, &initial_centroids(images.len(), how.clusters), how.iterations)
}

/// The scores from these first centroids.
pub(super) fn from(images: Features<'_>, target: Features<'_>, first: &[u32], iterations: u64) -> Vec<f64> {
    assert_eq!(images.width(), target.width(), "features of one encoder");
    let made = kmeans(images, first, iterations, Distance::Euclidean);
    let centroids = Features::new(&made.centroids, images.width());
    let mut hits = vec![0u64; centroids.len()];
    most_alike(target, centroids).into_iter().for_each(|cluster| hits[cluster as usize] += 1);
    most_alike(images, centroids).into_iter().map(|cluster| hits[cluster as usize] as f64).collect()
}
