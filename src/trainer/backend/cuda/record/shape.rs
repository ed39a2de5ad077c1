//! What a step is asked for, as far as its recording depends on it.

/// Where the images of a step are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Images {
    /// Written with every batch, augmented already.
    Written,
    /// In a pool that lies on the device; a batch is a list of indices.
    Pool,
    /// As `Pool`, cropped and flipped on the device by parameters that come with the batch.
    PoolCropped,
}

/// How patches are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Masking {
    /// None are.
    None,
    /// The kept patches come with the batch.
    Written,
    /// Drawn on the device with this Philox key.
    Drawn([u32; 2]),
}

/// What a training step is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Pairs (B).
    pub samples: usize,
    /// Parts that it is cut into for memory.
    pub chunks: usize,
    /// Where images are.
    pub images: Images,
    /// How patches are left out.
    pub masking: Masking,
    /// Whether gradients are computed.
    pub has_gradient: bool,
    /// Whether the optimiser runs.
    pub has_update: bool,
    /// Whether the towers run side by side, and gradients of parameters beside them: the same numbers, more memory.
    pub side_by_side: bool,
}
