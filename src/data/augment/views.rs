//! The views of a picture that a step asks for.

use super::Augmenter;
use crate::data::DataResult;
use crate::data::pack::PictureView;
use crate::data::philox::{Philox, Stream};
use crate::run::StrategyConfig;

/// Draws that a view of a sample may use; views of one sample lie this far apart in their stream.
const DRAWS_PER_VIEW: u32 = 256;

/// An augmentation for each view, and the draws of a seed: (picture, step, sample, view) to pixels.
#[derive(Debug, Clone)]
pub struct Views {
    first: Augmenter,
    further: Vec<Augmenter>,
    philox: Philox,
}

impl Views {
    /// View 0, the one that the contrastive loss sees, and further ones, of images of the same side.
    ///
    /// # Panics
    /// If the sides differ.
    #[must_use]
    pub fn new(first: Augmenter, further: Vec<Augmenter>, seed: u64) -> Self {
        assert!(further.iter().all(|view| view.side() == first.side()), "views of one side");
        Self { first, further, philox: Philox::new(seed, Stream::Augment) }
    }

    /// The views of a strategy: its augmentation, and twice [`Augmenter::self_supervised`] where it has a self-supervised loss.
    ///
    /// **Errors**: as [`Augmenter::new`].
    pub fn of(strategy: &StrategyConfig, side: usize, seed: u64) -> DataResult<Self> {
        let further = vec![Augmenter::self_supervised(side); strategy.views() - 1];
        Ok(Self::new(Augmenter::new(strategy.augmentation, side)?, further, seed))
    }

    /// Side of the images (S), pixels.
    #[must_use]
    pub fn side(&self) -> usize {
        self.first.side()
    }

    /// Views of a picture, one or more.
    #[must_use]
    pub fn num_views(&self) -> usize {
        1 + self.further.len()
    }

    /// The augmentation of every view.
    pub fn augmenters(&self) -> impl Iterator<Item = &Augmenter> {
        std::iter::once(&self.first).chain(&self.further)
    }

    /// The augmentation of a view. One beyond the last is another draw of the last.
    fn augmenter(&self, view: u32) -> &Augmenter {
        match view {
            0 => &self.first,
            _ => self.further.get(view as usize - 1).or(self.further.last()).unwrap_or(&self.first),
        }
    }

    /// A view of the picture that is sample `sample` of a step's batch. **Shapes**: \[height, width, 3\] to \[S, S, 3\].
    pub fn write(&self, picture: PictureView<'_>, step: u64, sample: u32, view: u32, out: &mut [u8]) {
        let mut draws = self.philox.at(step, sample).from_draw(view * DRAWS_PER_VIEW);
        self.augmenter(view).apply(picture, &mut draws, out);
    }

    /// The crop of view 0, as [`Augmenter::crop`] gives it.
    #[must_use]
    pub fn crop(&self, size: (usize, usize), step: u64, sample: u32) -> Option<[f32; 6]> {
        self.first.crop(size, &mut self.philox.at(step, sample))
    }
}
