//! Batches of a training run.
//!
//! Input: a pack, its encoded captions, a subset, an augmentation and the run's seed. Output: the batch of a step. Invariant:
//! a pure function of (step, batch size), whatever was asked before and however many threads work: resuming is a seek. No batch
//! holds a sample twice ([`SampleOrder`](super::order::SampleOrder)).
//! Must not know: tensors, devices, optimiser steps beyond their number.

use std::sync::Arc;

use rayon::prelude::*;

use super::augment::{Augmenter, Views};
use super::order::SampleOrder;
use super::pack::{Frame, Pack};
use super::tokenizer::EncodedCaptions;
use super::{DataError, DataResult};

/// Samples that a thread augments at a time.
const SAMPLES_PER_TASK: usize = 16;

/// One batch; buffers are reused from step to step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Pixels, view after view. **Shapes**: \[V, B, S, S, 3\].
    pub images: Vec<u8>,
    /// Token ids, padded with 0. **Shapes**: \[B, T\].
    pub tokens: Vec<u32>,
    /// Place of the end-of-text token. **Shapes**: \[B\].
    pub ends: Vec<u32>,
    /// Index into the pack. **Shapes**: \[B\].
    pub samples: Vec<u32>,
}

/// The batches of a run. A clone shares the data.
#[derive(Debug, Clone)]
pub struct BatchSource {
    pack: Arc<Pack>,
    captions: Arc<EncodedCaptions>,
    subset: Arc<[u32]>,
    order: SampleOrder,
    views: Views,
}

impl BatchSource {
    /// The batches that a seed draws from a subset of a pack. `captions` are the pack's first captions, one a sample.
    ///
    /// **Errors**: an empty subset; captions of another length than the pack; pictures that the augmenter does not make images
    /// of its side of.
    pub fn new(
        pack: Arc<Pack>,
        captions: Arc<EncodedCaptions>,
        subset: Vec<u32>,
        augmenter: Augmenter,
        seed: u64,
    ) -> DataResult<Self> {
        Self::with_views(pack, captions, subset, Views::new(augmenter, Vec::new(), seed), seed)
    }

    /// As [`Self::new`] with several views of every picture, of the same seed.
    ///
    /// **Errors**: as there, for every view.
    pub fn with_views(
        pack: Arc<Pack>,
        captions: Arc<EncodedCaptions>,
        subset: Vec<u32>,
        views: Views,
        seed: u64,
    ) -> DataResult<Self> {
        if captions.len() != pack.len() || subset.iter().any(|&sample| sample as usize >= pack.len()) {
            let what = format!(
                "{} encoded captions, a subset of {}, a pack of {}: not of one data set",
                captions.len(),
                subset.len(),
                pack.len()
            );
            return Err(DataError::Unsupported { what });
        }
        if captions.context_length() == 0 {
            return Err(DataError::Unsupported { what: "captions of 0 tokens: the end token needs a place".to_owned() });
        }
        let order = SampleOrder::new(seed, subset.len())?;
        let (frame, side) = (pack.frame(), views.side());
        if views.augmenters().any(Augmenter::takes_images) && frame != Frame::centre(side) {
            let what = format!("pictures packed as {:?} at {}, images of {side} without a crop", frame.framing, frame.side);
            return Err(DataError::Unsupported { what });
        }
        Ok(Self { pack, captions, subset: subset.into(), order, views })
    }

    /// Side of the images (S), pixels.
    #[must_use]
    pub fn side(&self) -> usize {
        self.views.side()
    }

    /// Tokens a caption is padded to (T).
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.captions.context_length()
    }

    /// Samples in the subset: an epoch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subset.len()
    }

    /// Never: an empty subset is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subset.is_empty()
    }

    /// The batch of a step (from 0) of a run with this batch size.
    ///
    /// # Panics
    /// If the batch is larger than the subset: it would hold a sample twice.
    pub fn fill(&self, step: u64, batch_size: usize, batch: &mut Batch) {
        self.fill_captions(step, batch_size, batch);
        let len = batch_size * self.side() * self.side() * 3;
        batch.images.resize(self.views.num_views() * len, 0);
        for (view, images) in (0..).zip(batch.images.chunks_exact_mut(len.max(1))) {
            self.fill_view(step, view, &batch.samples, images);
        }
    }

    /// Which samples a batch holds, and their captions.
    fn fill_captions(&self, step: u64, batch_size: usize, batch: &mut Batch) {
        let Batch { images: _, tokens, ends, samples } = batch;
        samples.resize(batch_size, 0);
        self.order.fill(step, samples);
        samples.iter_mut().for_each(|slot| *slot = self.subset[*slot as usize]);
        tokens.resize(batch_size * self.context_length(), 0);
        ends.resize(batch_size, 0);
        for ((&sample, row), end) in samples.iter().zip(tokens.chunks_exact_mut(self.context_length())).zip(ends) {
            *end = self.captions.write(sample as usize, row);
        }
    }

    /// Whether a device that holds [`Self::pool_images`] can make the images of a batch from what [`Self::fill_places`] says; else
    /// they have to be those of [`Self::fill`].
    #[must_use]
    pub fn is_for_devices(&self) -> bool {
        self.views.num_views() == 1 && self.views.augmenters().all(Augmenter::is_for_devices)
    }

    /// The bytes of all images of the pack, as [`Pack::images`] has them.
    #[must_use]
    pub fn pool_images(&self) -> &[u8] {
        self.pack.images()
    }

    /// Pixels that the beginnings of the pool's images are multiples of.
    #[must_use]
    pub fn pool_unit(&self) -> usize {
        self.pack.unit()
    }

    /// As [`Self::fill`] without the pixels, where [`Self::is_for_devices`] and a device holds [`Self::pool_images`]: `places` says where each image begins,
    /// in units of [`Self::pool_unit`] pixels; `crops` how it is cut out of its pool image, as [`Augmenter::crop`] gives it, and
    /// is empty where images pass unchanged. **Shapes**: \[B\], \[B, 6\].
    pub fn fill_places(&self, step: u64, batch_size: usize, batch: &mut Batch, places: &mut Vec<u32>, crops: &mut Vec<f32>) {
        self.fill_captions(step, batch_size, batch);
        let place = |&sample: &u32| u32::try_from(self.pack.place(sample as usize)).expect("a device holds below 2^32 units");
        places.clear();
        places.extend(batch.samples.iter().map(place));
        let crop = |(place, &sample): (usize, &u32)| self.views.crop(self.pack.size(sample as usize), step, place as u32);
        crops.clear();
        crops.extend(batch.samples.iter().enumerate().filter_map(crop).flatten());
    }

    /// One view of a step's images. **Shapes**: \[B, S, S, 3\].
    fn fill_view(&self, step: u64, view: u32, samples: &[u32], images: &mut [u8]) {
        let image_bytes = self.side() * self.side() * 3;
        let fill = |(place, (out, &sample)): (usize, (&mut [u8], &u32))| {
            self.views.write(self.pack.picture(sample as usize), step, place as u32, view, out);
        };
        let work = images.par_chunks_exact_mut(image_bytes).zip(samples).enumerate();
        work.with_min_len(SAMPLES_PER_TASK).for_each(fill);
    }
}
