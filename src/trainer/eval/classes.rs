//! Classes of labelled sets, ranks of the true one, and the metrics that are read off them.

use std::collections::BTreeMap;

use super::{ImageFeatures, percent};
use crate::data::Pack;
use crate::run::matched_classes;
use crate::trainer::TrainerError;

/// A set of labelled images and their features.
#[derive(Debug, Clone, Copy)]
pub struct LabelledSet<'a> {
    /// Its images with their classes.
    pub pack: &'a Pack,
    /// Their features, in the order of the pack.
    pub features: &'a ImageFeatures,
}

/// The class of every sample of a pack.
///
/// # Errors
/// A pack without classes or names of them, a class beyond the names.
pub(super) fn labels(pack: &Pack) -> Result<Vec<usize>, TrainerError> {
    if !pack.has_labels() || pack.classnames().is_empty() {
        return Err(TrainerError::Input("classification needs labels and class names".into()));
    }
    let labels: Vec<usize> = (0..pack.len()).map(|sample| pack.label(sample).unwrap_or(u32::MAX) as usize).collect();
    match labels.iter().position(|label| *label >= pack.classnames().len()) {
        Some(sample) => Err(TrainerError::Input(format!(
            "sample {sample} has class {}, there are {} class names",
            labels[sample],
            pack.classnames().len()
        ))),
        None => Ok(labels),
    }
}

/// Which class of a train split each class of a set is.
///
/// # Errors
/// As [`matched_classes`].
pub(super) fn places(train: &[String], set: &Pack) -> Result<Vec<usize>, TrainerError> {
    matched_classes(train, set.classnames()).map_err(|why| TrainerError::Input(format!("the set cannot be measured: {why}")))
}

/// `acc1`, `acc5` (from five classes on) and `mean_per_class_recall` (over the classes that occur), percent, from the rank of each
/// sample's true class.
pub(super) fn metrics(ranks: &[usize], labels: &[usize], num_classes: usize) -> BTreeMap<String, f64> {
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
