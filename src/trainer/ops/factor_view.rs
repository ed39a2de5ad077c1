//! How optimisers see a parameter: as a stack of matrices, whose second moments Adafactor keeps as rows and columns where they are
//! large enough.

/// A dimension shorter than this is not factored.
pub const MIN_DIM_TO_FACTOR: usize = 32;

/// A parameter as a stack of matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactorView {
    /// Product of the leading dimensions.
    pub leading: usize,
    /// Second-to-last dimension.
    pub rows: usize,
    /// Last dimension.
    pub cols: usize,
}

impl FactorView {
    /// Elements of the parameter.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leading * self.rows * self.cols
    }

    /// Whether it has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the second moment is kept as rows and columns.
    #[must_use]
    pub fn is_factored(&self) -> bool {
        self.rows.min(self.cols) >= MIN_DIM_TO_FACTOR
    }

    /// Floats of the second moment's state: per matrix its rows, then its columns; or one per element.
    #[must_use]
    pub fn second_len(&self) -> usize {
        if self.is_factored() { self.leading * (self.rows + self.cols) } else { self.len() }
    }
}
