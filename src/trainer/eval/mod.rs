//! Measuring a trained model: features of an evaluation set, then metrics as `CLIP_benchmark` defines them.
//!
//! Input: a model, a tokenizer and packed evaluation sets. Output: metric name to percent, and the rank that each item came to.
//! Invariant: features and metrics do not depend on threads; similarities stream in slabs, never as one N x N matrix. Ties rank by
//! the lower index. A feature that is not finite or not of length 1 is an error, never a number, and a rank of what is no number is
//! never a hit.

mod classes;
mod features;
mod fewshot;
mod probe;
#[cfg(test)]
mod recorded;
mod retrieval;
mod zeroshot;

pub use classes::LabelledSet;
pub use features::ImageFeatures;
pub use fewshot::Fewshot;
pub use probe::{Probe, ProbeFit, TriedLambda};

use std::collections::BTreeMap;
use std::sync::Arc;

use super::TrainerError;
use super::backend::{self, Placement, Step, StepBatch};
use super::checkpoint::Weights;
use super::model::build;
use super::ops::linear::{self, Linear, LinearShape};
use super::ops::{AlignedFloats, Scratch, WeightLayout};
use super::program::{Output, Program};
use crate::data::{Pack, Tokenizer};
use crate::run::ModelConfig;

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
    /// Prepares a model's weights for encoding.
    ///
    /// # Errors
    /// If the parameters are of another model, or the device cannot be had.
    pub fn new(model: &ModelConfig, weights: Weights, placement: Placement) -> Result<Self, TrainerError> {
        let program = Arc::new(build(model, 0.0));
        let mut step = backend::prepare(program, weights.parameters, placement, None)?;
        step.set_state(&weights.state)?;
        Ok(Self {
            step,
            embed_dim: model.embed_dim,
            context_length: model.text_encoder.context_length,
            image_bytes: model.image_size * model.image_size * 3,
        })
    }

    /// The program that names and shapes of a model's parameters are read from.
    #[must_use]
    pub fn program(model: &ModelConfig) -> Program {
        build(model, 0.0)
    }

    /// Normalised features of every image of a pack [N, E].
    ///
    /// # Errors
    /// If the pack's images are of another size than the model's, or whole pictures; [`TrainerError::Diverged`] where a feature is
    /// none.
    pub fn images(&mut self, pack: &Pack) -> Result<Vec<f32>, TrainerError> {
        Ok(self.of_images(pack, &[Output::ImageFeatures])?.concat())
    }

    /// Outputs of every image of a pack.
    fn of_images(&mut self, pack: &Pack, outputs: &[Output]) -> Result<Vec<Vec<f32>>, TrainerError> {
        if !pack.frame().framing.is_centre() {
            return Err(TrainerError::Input("whole pictures are packed, the model sees central squares".to_owned()));
        }
        if pack.side() * pack.side() * 3 != self.image_bytes {
            return Err(TrainerError::Input(format!("images are {0}x{0} pixels, the model sees another size", pack.side())));
        }
        let mut found = vec![Vec::new(); outputs.len()];
        for images in pack.images().chunks(ENCODE_BATCH * self.image_bytes) {
            let batch = StepBatch { samples: images.len() / self.image_bytes, images: images.to_vec(), ..StepBatch::default() };
            let outputs = self.step.encode(outputs, &batch)?;
            found.iter_mut().zip(outputs).for_each(|(found, output)| found.extend(output));
        }
        for (output, features) in outputs.iter().zip(&found) {
            let (width, name) = (features.len() / pack.len().max(1), |row| format!("the feature of image {row}"));
            match output {
                Output::ImagePooled => check_finite(features, width, name)?,
                Output::ImageFeatures | Output::TextFeatures => check_features(features, width, name)?,
            }
        }
        Ok(found)
    }

    /// Features of every image of a pack, for all evaluations of the two.
    ///
    /// # Errors
    /// As [`Self::images`].
    pub fn image_features(&mut self, pack: &Pack) -> Result<ImageFeatures, TrainerError> {
        let found = self.of_images(pack, &[Output::ImageFeatures, Output::ImagePooled])?;
        let [projected, pooled] = <[Vec<f32>; 2]>::try_from(found).expect("one list an output");
        let width = pooled.len() / pack.len().max(1);
        Ok(ImageFeatures::new(projected, pooled, width))
    }

    /// Normalised features of texts [N, E].
    ///
    /// # Errors
    /// Out of memory; [`TrainerError::Diverged`] where a feature is none.
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
        check_features(&features, self.embed_dim, |row| format!("the feature of the text `{}`", texts[row]))?;
        Ok(features)
    }

    /// Cosine similarity of each sample's image and first caption, one a sample; every one is finite.
    ///
    /// # Errors
    /// As [`Self::images`] and [`Self::texts`]: [`TrainerError::Diverged`] where the scorer has.
    pub fn similarities(&mut self, tokenizer: &Tokenizer, pack: &Pack) -> Result<Vec<f64>, TrainerError> {
        let images = self.images(pack)?;
        let captions: Vec<String> = (0..pack.len()).map(|sample| pack.caption(sample).to_string()).collect();
        let texts = self.texts(tokenizer, &captions)?;
        let pairs = images.chunks_exact(self.embed_dim).zip(texts.chunks_exact(self.embed_dim));
        Ok(pairs.map(|(image, text)| super::ops::elementwise::dot(image, text)).collect())
    }
}

/// Checks that rows of `width` elements are finite. `name` says what a row is.
fn check_finite(rows: &[f32], width: usize, name: impl Fn(usize) -> String) -> Result<(), TrainerError> {
    match rows.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(TrainerError::Diverged { what: format!("{} holds {}", name(at / width), rows[at]) }),
    }
}

/// Checks that rows of `width` elements are features: finite, and of length 1 as normalisation leaves them. A projection that
/// overflows in its length comes out as zeros. `name` says what a row is.
fn check_features(rows: &[f32], width: usize, name: impl Fn(usize) -> String) -> Result<(), TrainerError> {
    check_finite(rows, width, &name)?;
    for (idx, row) in rows.chunks_exact(width).enumerate() {
        let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        if !(0.99..1.01).contains(&length) {
            return Err(TrainerError::Diverged { what: format!("{} has length {length}, expected 1", name(idx)) });
        }
    }
    Ok(())
}

/// What was found on one set.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Metric (`acc1`) to percent.
    pub metrics: BTreeMap<String, f64>,
    /// What each item came to, once or in several ways.
    pub outcomes: Vec<Outcome>,
}

/// The rank of each item's answer: 0 is a hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What is ranked: `rank` (the true class), `text_rank`, `image_rank`, `shots-<k>-seed-<seed>` (the true class again).
    pub what: String,
    /// One an item, in the order of the pack. `usize::MAX` where a similarity is no number.
    pub ranks: Vec<usize>,
}

impl Measured {
    /// Checks that every metric is a number.
    ///
    /// # Errors
    /// One that is none: the set is empty.
    pub fn checked(self) -> Result<Self, TrainerError> {
        match self.metrics.iter().find(|(_, value)| !value.is_finite()) {
            Some((metric, value)) => {
                Err(TrainerError::Input(format!("`{metric}` is {value}: the set has nothing to measure it on")))
            }
            None => Ok(self),
        }
    }
}

/// Classifies by prompts: `acc1`, `acc5` (from five classes on) and `mean_per_class_recall`.
///
/// # Errors
/// If the set lacks labels, class names or templates, or the model has diverged.
pub fn measure_zeroshot(encoder: &mut Encoder, tokenizer: &Tokenizer, set: &LabelledSet<'_>) -> Result<Measured, TrainerError> {
    zeroshot::measure(encoder, tokenizer, set)?.checked()
}

/// Ranks both ways: `image_retrieval_recall@K` and `text_retrieval_recall@K`.
///
/// # Errors
/// If the set lacks captions, or the model has diverged.
pub fn measure_retrieval(
    encoder: &mut Encoder,
    tokenizer: &Tokenizer,
    pack: &Pack,
    features: &ImageFeatures,
) -> Result<Measured, TrainerError> {
    retrieval::measure(encoder, tokenizer, pack, features)?.checked()
}

/// Calls `visit(row, similarities)` for every query row against all keys, a slab at a time.
fn for_each_similarity_row(queries: &[f32], keys: &[f32], embed_dim: usize, mut visit: impl FnMut(usize, &[f32])) {
    let num_keys = keys.len() / embed_dim;
    let shape = LinearShape { inputs: embed_dim, outputs: num_keys, layout: WeightLayout::OutIn };
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

/// Keys that rank before `idx`: a higher similarity, or the same at a lower index. What is no number ranks before all that is, and
/// is itself behind any cut-off: `usize::MAX`.
fn rank<T: Copy + PartialOrd>(similarities: &[T], idx: usize) -> usize {
    let own = similarities[idx];
    let is_nan = |value: T| value.partial_cmp(&value).is_none();
    if is_nan(own) {
        return usize::MAX;
    }
    let before = similarities[..idx].iter().filter(|value| **value >= own || is_nan(**value)).count();
    before + similarities[idx + 1..].iter().filter(|value| **value > own || is_nan(**value)).count()
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
    fn what_is_no_number_is_never_a_hit() {
        let nan = f32::NAN;
        for similarities in [[nan; 5], [0.5, nan, nan, 0.1, nan], [nan, nan, nan, nan, 2.0]] {
            for idx in 0..5 {
                let found = rank(&similarities, idx);
                let least =
                    if similarities[idx].is_nan() { 10 } else { similarities.iter().filter(|value| value.is_nan()).count() };
                assert!(found >= least && found > 0, "{similarities:?} at {idx}: {found}");
            }
        }
    }

    #[test]
    fn features_that_are_none_are_an_error_that_names_the_sample() {
        use crate::run::{DeviceKind, Pooling, Precision};
        use crate::trainer::model::initial_parameters;
        use crate::trainer::tests::tiny_model;
        let model = tiny_model(Pooling::Mean);
        let program = build(&model, 0.0);
        let cases =
            [("visual.proj", f32::NAN), ("visual.conv1.weight", f32::INFINITY), ("visual.proj", 3e38), ("visual.proj", 0.0)];
        for (name, value) in cases {
            let mut parameters = initial_parameters(&program, 1);
            let view = program.params.iter().find(|view| view.name == name).expect("a ViT has one");
            parameters[view.range()].fill(value);
            let placement = Placement { device: DeviceKind::Cpu, precision: Precision::F32, threads: 1 };
            let mut encoder = Encoder::new(&model, Weights { parameters, ..Weights::default() }, placement).expect("it fits");
            let features = encoder.step.encode_images(2, &vec![9; 2 * 12 * 12 * 3]).expect("memory");
            let found = check_features(&features, encoder.embed_dim, |row| format!("image {row}"));
            let message = found.expect_err("no features").to_string();
            assert!(message.starts_with("image 0 ") && message.ends_with("the model has diverged"), "{name} {value}: {message}");
        }
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
