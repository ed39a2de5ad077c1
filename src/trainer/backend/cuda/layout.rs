//! Parameters on the device: flat, every view at a multiple of 256 bytes, so that products read aligned matrices.
//!
//! Input: a program's views, dense one after another. Output: padded offsets and copies between both forms. Invariant: padding is
//! zero and stays so. Must not know a device.

use crate::trainer::program::Program;

/// Floats that offsets are multiples of.
const FLOATS: usize = 64;

/// Where each parameter view lies in the padded buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddedLayout {
    /// First float of each view.
    offsets: Vec<usize>,
    /// Its floats without padding.
    lengths: Vec<usize>,
    len: usize,
}

impl PaddedLayout {
    /// The layout of a program's parameters, in their order.
    #[must_use]
    pub fn new(program: &Program) -> Self {
        Self::of_lengths(program.params.iter().map(crate::trainer::program::ParamView::len))
    }

    /// The layout of views of given lengths, floats.
    pub fn of_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let lengths: Vec<usize> = lengths.into_iter().collect();
        let mut len = 0;
        let place = |view_len: &usize| {
            let offset = len;
            len += view_len.next_multiple_of(FLOATS);
            offset
        };
        let offsets = lengths.iter().map(place).collect();
        Self { offsets, lengths, len }
    }

    /// Floats of a padded buffer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no view.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// First float of a view.
    #[must_use]
    pub fn offset(&self, view: usize) -> usize {
        self.offsets[view]
    }

    /// First float of each view.
    #[must_use]
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    fn views(&self) -> impl Iterator<Item = (usize, usize)> {
        self.offsets.iter().copied().zip(self.lengths.iter().copied())
    }

    /// Floats of all views without padding.
    #[must_use]
    pub fn dense_len(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// The padded form of a dense buffer of [`Self::dense_len`] floats.
    #[must_use]
    pub fn pad(&self, dense: &[f32]) -> Vec<f32> {
        let mut padded = vec![0.0; self.len];
        let mut rest = dense;
        for (offset, len) in self.views() {
            let (view, tail) = rest.split_at(len);
            padded[offset..offset + len].copy_from_slice(view);
            rest = tail;
        }
        padded
    }

    /// The dense form of a padded buffer.
    #[must_use]
    pub fn strip(&self, padded: &[f32]) -> Vec<f32> {
        self.views().flat_map(|(offset, len)| &padded[offset..offset + len]).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_aligned_and_come_back() {
        let layout = PaddedLayout::of_lengths([1, 64, 65, 3]);
        assert_eq!((0..4).map(|view| layout.offset(view)).collect::<Vec<_>>(), [0, 64, 128, 256]);
        assert_eq!((layout.len(), layout.dense_len()), (320, 133));
        let dense: Vec<f32> = (0_u8..133).map(f32::from).collect();
        assert_eq!(layout.strip(&layout.pad(&dense)), dense);
    }
}
