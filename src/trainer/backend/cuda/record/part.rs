//! What a part of a batch reads and gives, as views: shared by the ends of a tower, the towers and whole steps.

use crate::trainer::ops::launch::View;

/// Where the pixels of a part are.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Pixels {
    pub bytes: View,
    pub index: Option<View>,
}

/// What a part of a batch reads.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Inputs {
    pub samples: usize,
    /// Absent where texts alone are encoded.
    pub pixels: Option<Pixels>,
    pub keep: Option<View>,
    pub tokens: View,
    pub ends: View,
    pub token_plan: View,
}

/// Features of a part of a batch: f32, and the copy that the loss multiplies.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Features {
    /// f32 [samples, E].
    pub floats: View,
    /// Compute type [samples, E].
    pub reals: View,
}
