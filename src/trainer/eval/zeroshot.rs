//! Zero-shot classification: a class is the normalised mean of its prompts' features.
//!
//! **Source** `CLIP_benchmark` (`zeroshot_classification`): mean over templates of normalised text features, normalised again;
//! `acc1`, `acc5`, `mean_per_class_recall` (balanced accuracy over the classes that occur).

use super::classes::{self, LabelledSet};
use super::{Encoder, Measured, Outcome, for_each_similarity_row, rank};
use crate::data::{Pack, Tokenizer, prompt};
use crate::trainer::TrainerError;
use crate::trainer::ops::normalize;

/// `acc1`, `acc5` (from five classes on) and `mean_per_class_recall`, percent.
pub(super) fn measure(encoder: &mut Encoder, tokenizer: &Tokenizer, set: &LabelledSet<'_>) -> Result<Measured, TrainerError> {
    let LabelledSet { pack, features } = set;
    if !pack.has_labels() || pack.classnames().is_empty() || pack.templates().is_empty() {
        return Err(TrainerError::Input("zero-shot classification needs labels, class names and templates".into()));
    }
    let classes = class_features(encoder, tokenizer, pack)?;
    let labels = classes::labels(pack)?;
    let mut ranks = Vec::with_capacity(pack.len());
    for_each_similarity_row(features.projected(), &classes, encoder.embed_dim, |row, similarities| {
        ranks.push(rank(similarities, labels[row]));
    });
    let metrics = classes::metrics(&ranks, &labels, pack.classnames().len());
    Ok(Measured { metrics, outcomes: vec![Outcome { what: "rank".into(), ranks }] })
}

/// One normalised feature a class [classes, E].
fn class_features(encoder: &mut Encoder, tokenizer: &Tokenizer, pack: &Pack) -> Result<Vec<f32>, TrainerError> {
    let prompts: Vec<String> =
        (pack.classnames().iter()).flat_map(|name| pack.templates().iter().map(|template| prompt(template, name))).collect();
    let features = encoder.texts(tokenizer, &prompts)?;
    let dim = encoder.embed_dim;
    let mut means = Vec::with_capacity(pack.classnames().len() * dim);
    for class in features.chunks_exact(pack.templates().len() * dim) {
        let mut mean = vec![0.0; dim];
        class.chunks_exact(dim).for_each(|feature| super::super::ops::elementwise::add(feature, &mut mean));
        means.extend(mean);
    }
    let (mut classes, mut norms) = (vec![0.0; means.len()], vec![0.0; pack.classnames().len()]);
    normalize::forward(dim, &means, &mut classes, &mut norms);
    super::check_features(&classes, dim, |class| format!("the feature of class `{}`", pack.classnames()[class]))?;
    Ok(classes)
}
