//! `sem_dedup`: samples that look like an earlier one of their cluster.

use rayon::prelude::*;

use super::kmeans::{Distance, initial_centroids, kmeans};
use super::{Features, products};
use crate::run::Clustering;

/// One less the largest similarity of a sample to an earlier one of its cluster, where the samples of a cluster are ordered by their
/// distance from the centroid, the farthest first (the lower index where two are as far). An earlier sample counts whether or not
/// it is dropped itself; similarities below 0 count as 0, so the first of a cluster has a score of 1.
///
/// To keep what scores at least epsilon drops every sample whose largest such similarity is above 1 - epsilon.
///
/// **Source**: Abbas et al. 2023 (`SemDeDup`): spherical k-means, 50,000 centroids, 100 iterations, on image features.
#[must_use]
pub fn sem_dedup(images: Features<'_>, how: Clustering) -> Vec<f64> {
    from(images, &initial_centroids(images.len(), how.clusters), how.iterations)
}

/// The scores from these first centroids.
pub(super) fn from(images: Features<'_>, first: &[u32], iterations: u64) -> Vec<f64> {
    let made = kmeans(images, first, iterations, Distance::Spherical);
    let centroids = Features::new(&made.centroids, images.width());
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); centroids.len()];
    for (sample, &cluster) in made.of_sample.iter().enumerate() {
        members[cluster as usize].push(sample as u32);
    }
    let scored: Vec<Vec<(u32, f64)>> =
        members.into_par_iter().enumerate().map(|(cluster, members)| of_cluster(images, centroids.row(cluster), members)).collect();
    let mut scores = vec![0.0; images.len()];
    for (sample, score) in scored.into_iter().flatten() {
        scores[sample as usize] = score;
    }
    scores
}

fn of_cluster(images: Features<'_>, centroid: &[f32], members: Vec<u32>) -> Vec<(u32, f64)> {
    let mut ranked: Vec<(f64, u32)> =
        members.into_iter().map(|sample| (products::dot(images.row(sample as usize), centroid), sample)).collect();
    // The least similar to the centroid is the farthest.
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let order: Vec<u32> = ranked.into_iter().map(|(_, sample)| sample).collect();
    let rows = images.gather(&order);
    let own = Features::new(&rows, images.width());
    let most = products::map_products(own, own, |idx, row| row[..idx].iter().fold(0.0f32, |most, value| most.max(*value)));
    order.into_iter().zip(most).map(|(sample, most)| (sample, 1.0 - f64::from(most))).collect()
}
