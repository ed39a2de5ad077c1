//! Features of a set under a model, which all evaluations of the two share.

/// Features of every image of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFeatures {
    /// Projected and of length 1, row-major.
    projected: Vec<f32>,
    /// Before the projection, row-major.
    pooled: Vec<f32>,
    /// Of a row of `pooled`.
    width: usize,
}

impl ImageFeatures {
    /// Features [N, E] that are projected and of length 1, and those before the projection [N, `width`].
    #[must_use]
    pub fn new(projected: Vec<f32>, pooled: Vec<f32>, width: usize) -> Self {
        Self { projected, pooled, width }
    }

    /// Projected features of length 1 [N, E].
    #[must_use]
    pub fn projected(&self) -> &[f32] {
        &self.projected
    }

    /// Features before the projection [N, C], with C.
    #[must_use]
    pub fn pooled(&self) -> (&[f32], usize) {
        (&self.pooled, self.width)
    }

    /// Bytes that they occupy.
    #[must_use]
    pub fn bytes(&self) -> usize {
        std::mem::size_of_val(self.projected.as_slice()) + std::mem::size_of_val(self.pooled.as_slice())
    }
}

/// What probes and few-shot classifiers are fitted and measured on, and its width: the features before the projection [N, C].
///
/// **Source** Radford et al. 2021, A.3; `big_vision`'s `pre_logits`.
pub(super) fn probe_features(features: &ImageFeatures) -> (&[f32], usize) {
    features.pooled()
}
