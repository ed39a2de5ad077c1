//! Features of a set under a model, which all evaluations of the two share.

/// Features of every image of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFeatures {
    /// Projected and of length 1, row-major.
    projected: Vec<f32>,
    width: usize,
}

impl ImageFeatures {
    /// Features [N, E] that are projected and of length 1.
    #[must_use]
    pub fn new(projected: Vec<f32>, width: usize) -> Self {
        Self { projected, width }
    }

    /// Projected features of length 1 [N, E].
    #[must_use]
    pub fn projected(&self) -> &[f32] {
        &self.projected
    }

    /// Bytes that they occupy.
    #[must_use]
    pub fn bytes(&self) -> usize {
        std::mem::size_of_val(self.projected.as_slice())
    }
}

/// What probes and few-shot classifiers are fitted and measured on, and its width: the projected features of length 1 [N, E], which
/// zero-shot classification compares with prompts.
///
/// **Differs** from CLIP's A.3 and `big_vision`, which probe the features before the projection.
pub(super) fn probe_features(features: &ImageFeatures) -> (&[f32], usize) {
    (&features.projected, features.width)
}
