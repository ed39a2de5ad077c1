//! Measuring a trained model: features of an evaluation set, then metrics as `CLIP_benchmark` defines them.
//!
//! Input: a model, a tokenizer and a packed evaluation set. Output: metric name to percent. Invariant: features and metrics do
//! not depend on threads; similarities stream in slabs, never as one N x N matrix. Ties rank by the lower index.

mod retrieval;
mod zeroshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::TrainerError;
use super::backend::{self, Placement, Step};
use super::model::build;
use super::ops::linear::{self, Linear, LinearShape};
use super::ops::{AlignedFloats, Layout, Scratch};
use super::program::Program;
use crate::data::{Pack, Tokenizer};
use crate::run::{EvalTask, ModelConfig};

/// Samples that are encoded at a time.
const ENCODE_BATCH: usize = 256;
/// Rows of a similarity slab.
const SLAB: usize = 64;

/// A trained model, ready to encode.
pub struct Encoder {
    step: Box<dyn Step>,
    embed_dim: usize,
    context_length: usize,
    image_bytes: usize,
}

impl Encoder {
    /// Prepares a model's parameters for encoding.
    ///
    /// # Errors
    /// If the parameters are of another model, or the device cannot be had.
    pub fn new(model: &ModelConfig, parameters: Vec<f32>, placement: Placement) -> Result<Self, TrainerError> {
        let program = Arc::new(build(model, 0.0));
        Ok(Self {
            step: backend::prepare(program, parameters, placement, None)?,
            embed_dim: model.embed_dim,
            context_length: model.text_encoder.context_length,
            image_bytes: model.image_size * model.image_size * 3,
        })
    }

    /// The program that `open_clip` names and shapes of a model are read from.
    #[must_use]
    pub fn program(model: &ModelConfig) -> Program {
        build(model, 0.0)
    }

    /// Normalised features of every image of a pack [N, E].
    ///
    /// # Errors
    /// If the pack's images are of another size than the model's, or whole pictures.
    pub fn images(&mut self, pack: &Pack) -> Result<Vec<f32>, TrainerError> {
        if !pack.frame().framing.is_centre() {
            return Err(TrainerError::Input("whole pictures are packed, the model sees central squares".to_owned()));
        }
        if pack.side() * pack.side() * 3 != self.image_bytes {
            return Err(TrainerError::Input(format!("images are {0}x{0} pixels, the model sees another size", pack.side())));
        }
        let mut features = Vec::with_capacity(pack.len() * self.embed_dim);
        for images in pack.images().chunks(ENCODE_BATCH * self.image_bytes) {
            features.extend(self.step.encode_images(images.len() / self.image_bytes, images)?);
        }
        Ok(features)
    }

    /// Normalised features of texts [N, E].
    ///
    /// # Errors
    /// Out of memory.
    pub fn texts(&mut self, tokenizer: &Tokenizer, texts: &[String]) -> Result<Vec<f32>, TrainerError> {
        let mut features = Vec::with_capacity(texts.len() * self.embed_dim);
        for texts in texts.chunks(ENCODE_BATCH) {
            let (mut tokens, mut ends) = (Vec::new(), Vec::new());
            for text in texts {
                let encoded = tokenizer.encode(text, self.context_length);
                tokens.extend(&encoded.ids);
                ends.push(u32::try_from(encoded.end).expect("a context is short"));
            }
            features.extend(self.step.encode_texts(texts.len(), &tokens, &ends)?);
        }
        Ok(features)
    }

    /// Cosine similarity of each sample's image and first caption, one a sample.
    ///
    /// # Errors
    /// As [`Self::images`].
    pub fn similarities(&mut self, tokenizer: &Tokenizer, pack: &Pack) -> Result<Vec<f64>, TrainerError> {
        let images = self.images(pack)?;
        let captions: Vec<String> = (0..pack.len()).map(|sample| pack.caption(sample).to_string()).collect();
        let texts = self.texts(tokenizer, &captions)?;
        let pairs = images.chunks_exact(self.embed_dim).zip(texts.chunks_exact(self.embed_dim));
        Ok(pairs.map(|(image, text)| super::ops::elementwise::dot(image, text)).collect())
    }
}

/// Measures one task on one set: metric (`acc1`) to percent.
///
/// # Errors
/// If the set lacks what the task needs (labels, class names, captions).
pub fn measure(
    task: EvalTask,
    encoder: &mut Encoder,
    tokenizer: &Tokenizer,
    pack: &Pack,
) -> Result<BTreeMap<String, f64>, TrainerError> {
    match task {
        EvalTask::Zeroshot => zeroshot::measure(encoder, tokenizer, pack),
        EvalTask::Retrieval => retrieval::measure(encoder, tokenizer, pack),
        EvalTask::Fewshot | EvalTask::LinearProbe => {
            Err(TrainerError::Input(format!("evaluation `{}` is not available", task.name())))
        }
    }
}

/// Calls `visit(row, similarities)` for every query row against all keys, a slab at a time.
fn for_each_similarity_row(queries: &[f32], keys: &[f32], embed_dim: usize, mut visit: impl FnMut(usize, &[f32])) {
    let num_keys = keys.len() / embed_dim;
    let shape = LinearShape { inputs: embed_dim, outputs: num_keys, layout: Layout::OutIn };
    let mut packed = AlignedFloats::zeros(linear::packed_len(&shape));
    linear::pack(&shape, keys, &mut packed);
    let keys = Linear { shape, weight: keys, packed: &packed };
    let mut scratch = Scratch::default();
    let mut similarities = vec![0.0; SLAB * num_keys];
    for (slab, queries) in queries.chunks(SLAB * embed_dim).enumerate() {
        let rows = queries.len() / embed_dim;
        let similarities = &mut similarities[..rows * num_keys];
        linear::forward(&keys, rows, queries, None, similarities, &mut scratch);
        for (row, similarities) in similarities.chunks_exact(num_keys).enumerate() {
            visit(slab * SLAB + row, similarities);
        }
    }
}

/// Keys that rank before `idx`: a higher similarity, or the same at a lower index.
fn rank(similarities: &[f32], idx: usize) -> usize {
    let own = similarities[idx];
    let before = similarities[..idx].iter().filter(|value| **value >= own).count();
    before + similarities[idx + 1..].iter().filter(|value| **value > own).count()
}

/// `hits` of `total` in percent.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn percent(hits: usize, total: usize) -> f64 {
    100.0 * hits as f64 / total as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_rank_by_the_lower_index() {
        let similarities = [0.5, 0.9, 0.5, 0.1, 0.9];
        assert_eq!([0, 1, 2, 3, 4].map(|idx| rank(&similarities, idx)), [2, 0, 3, 4, 1]);
    }

    #[test]
    fn similarity_rows_are_dot_products_also_across_slabs() {
        let queries: Vec<f32> = (0..130 * 2).map(|value| value as f32).collect();
        let keys = [1.0, 0.0, 0.0, 2.0, 1.0, -1.0];
        let mut seen = 0;
        for_each_similarity_row(&queries, &keys, 2, |row, similarities| {
            let (a, b) = (queries[2 * row], queries[2 * row + 1]);
            assert_eq!(similarities, [a, 2.0 * b, a - b]);
            assert_eq!(row, seen);
            seen += 1;
        });
        assert_eq!(seen, 130);
    }
}
