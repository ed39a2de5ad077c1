//! Selection rules: a score a sample, higher is kept, from features, captions and sizes.
//!
//! One module a rule; each is a pure function. Input: [`Features`] of a pool (normalised rows of one encoder), of its captions or
//! of target images. Output: one f64 a sample of the pool. Invariants: scores do not depend on threads (products are cut into
//! slabs of fixed size, sums run in the order of samples); draws are keyed; a rule that drops samples is a score and a threshold,
//! so that every rule may also keep a share.
//! Must not know: models, jobs, files. Besides `run` it imports the matrix product of `scaledown_ops`.

mod basic;
mod clip_score;
mod image_cluster;
mod keep;
mod kmeans;
mod leakage;
mod neg_clip_loss;
mod norm_sim;
mod products;
mod sem_dedup;

pub use basic::basic;
pub use clip_score::clip_score;
pub use image_cluster::image_cluster;
pub use keep::{datacomp_threshold, top, whole_share};
pub use kmeans::{Clusters, Distance, initial_centroids, kmeans};
pub use leakage::{Hashes, MIN_BITS, Pair, difference_hash, pairs};
pub use neg_clip_loss::neg_clip_loss;
pub use norm_sim::norm_sim;
pub use sem_dedup::sem_dedup;

/// Features of samples. **Shapes** rows \[N, E\]; each row of length 1, as encoders leave them.
#[derive(Debug, Clone, Copy)]
pub struct Features<'a> {
    /// All rows, one after another.
    rows: &'a [f32],
    /// Elements of a row (E).
    width: usize,
}

impl<'a> Features<'a> {
    /// Views `rows` as features of `width` elements.
    ///
    /// # Panics
    /// If `rows` is no whole number of rows, or `width` is 0.
    #[must_use]
    pub fn new(rows: &'a [f32], width: usize) -> Self {
        assert!(width > 0 && rows.len().is_multiple_of(width), "{} elements in rows of {width}", rows.len());
        Self { rows, width }
    }

    /// Samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len() / self.width
    }

    /// Whether there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Elements of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The feature of a sample.
    #[must_use]
    pub fn row(&self, sample: usize) -> &'a [f32] {
        &self.rows[sample * self.width..][..self.width]
    }

    /// The rows of these samples, in this order.
    #[must_use]
    pub fn gather(&self, samples: &[u32]) -> Vec<f32> {
        samples.iter().flat_map(|&sample| self.row(sample as usize)).copied().collect()
    }
}

#[cfg(test)]
mod tests;
