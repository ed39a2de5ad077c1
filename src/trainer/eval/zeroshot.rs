//! Zero-shot classification: a class is the normalised mean of its prompts' features.
//!
//! **Source** `CLIP_benchmark` (`zeroshot_classification`): mean over templates of normalised text features, normalised again;
//! `acc1`, `acc5`, `mean_per_class_recall` (balanced accuracy over the classes that occur).

use std::collections::BTreeMap;

use super::{Encoder, for_each_similarity_row, percent, rank};
use crate::data::{Pack, Tokenizer, prompt};
use crate::trainer::TrainerError;
use crate::trainer::ops::normalize;

/// `acc1`, `acc5` (from five classes on) and `mean_per_class_recall`, percent.
pub(super) fn measure(encoder: &mut Encoder, tokenizer: &Tokenizer, pack: &Pack) -> Result<BTreeMap<String, f64>, TrainerError> {
    if !pack.has_labels() || pack.classnames().is_empty() || pack.templates().is_empty() {
        return Err(TrainerError::Input("zero-shot classification needs labels, class names and templates".into()));
    }
    let classes = class_features(encoder, tokenizer, pack)?;
    let images = encoder.images(pack)?;
    let labels: Vec<usize> = (0..pack.len()).map(|sample| pack.label(sample).unwrap_or(u32::MAX) as usize).collect();
    if let Some(sample) = labels.iter().position(|label| *label >= pack.classnames().len()) {
        return Err(TrainerError::Input(format!(
            "sample {sample} has class {}, there are {} class names",
            labels[sample],
            pack.classnames().len()
        )));
    }
    let mut ranks = Vec::with_capacity(pack.len());
    for_each_similarity_row(&images, &classes, encoder.embed_dim, |row, similarities| ranks.push(rank(similarities, labels[row])));
    Ok(metrics(&ranks, &labels, pack.classnames().len()))
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

fn metrics(ranks: &[usize], labels: &[usize], num_classes: usize) -> BTreeMap<String, f64> {
    let within = |limit: usize| percent(ranks.iter().filter(|rank| **rank < limit).count(), ranks.len());
    let mut metrics = BTreeMap::from([("acc1".to_string(), within(1))]);
    if num_classes >= 5 {
        metrics.insert("acc5".into(), within(5));
    }
    let mut counts = vec![(0_usize, 0_usize); num_classes];
    for (rank, label) in ranks.iter().zip(labels) {
        counts[*label].0 += usize::from(*rank == 0);
        counts[*label].1 += 1;
    }
    let recalls: Vec<f64> = counts.iter().filter(|(_, total)| *total > 0).map(|(hits, total)| percent(*hits, *total)).collect();
    #[expect(clippy::cast_precision_loss, reason = "a class count")]
    metrics.insert("mean_per_class_recall".into(), recalls.iter().sum::<f64>() / recalls.len() as f64);
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_and_balanced_recall_differ_on_uneven_classes() {
        // Class 0: three images, two right; class 2: one image, wrong; class 1 does not occur.
        let found = metrics(&[0, 0, 1, 3], &[0, 0, 0, 2], 3);
        assert_eq!(found["acc1"], 50.0);
        assert!((found["mean_per_class_recall"] - 100.0 / 3.0).abs() < 1e-12);
        assert!(!found.contains_key("acc5"), "five classes are needed for acc5");
        assert_eq!(metrics(&[0, 4, 5, 7], &[0, 1, 2, 3], 9)["acc5"], 50.0);
    }
}
