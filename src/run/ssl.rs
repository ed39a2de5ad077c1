//! The self-supervised half of SLIP as data.

use serde::{Deserialize, Serialize};

/// The self-supervised half of SLIP (Mu et al. 2021): NT-Xent on two augmented views.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SslConfig {
    /// Weight of its loss beside the contrastive one.
    pub weight: f64,
    /// Temperature of NT-Xent.
    pub temperature: f64,
    /// Hidden width of the projection MLP.
    pub hidden: usize,
    /// Output width of the projection MLP.
    pub out: usize,
    /// Samples that its batch norms are taken over, one after another in the batch; divides every chunk.
    pub bn_group: usize,
}

impl SslConfig {
    /// The smallest share of the area that its views are cropped to.
    ///
    /// **Source** SLIP's `main.py`.
    pub const MIN_AREA: f64 = 0.08;
}
