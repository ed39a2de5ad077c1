//! `clip_score`: cosine similarity of image and caption.

use super::{Features, products};

/// Inner product of each image feature with the feature of its caption.
///
/// **Source**: `DataComp` (Gadre et al. 2023), section 3.
///
/// # Panics
/// If there are not as many captions as images.
#[must_use]
pub fn clip_score(images: Features<'_>, texts: Features<'_>) -> Vec<f64> {
    assert_eq!(images.len(), texts.len(), "a caption an image");
    (0..images.len()).map(|sample| products::dot(images.row(sample), texts.row(sample))).collect()
}
