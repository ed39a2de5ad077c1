//! Few-shot classification: ridge regression on k labelled images of each class.
//!
//! For seeds 0 to 2 and each k: class by class, its images in a keyed order, the first k (all of them where a class has fewer), so
//! that the images of a smaller k are among those of a larger one. Mean and population standard deviation + 1e-5 of these shots
//! whiten them and what is measured; a constant 100 is appended; targets are 1 for the class and -1 for the others; l2 is 2^10 on
//! all weights, those of the constant included; the class with the highest score is said. A metric is the mean over the seeds.
//!
//! **Source** `big_vision`, `evaluators/fewshot_lsr.py`, with its default l2.
//! **Differs** the order within a class is drawn from our own generator.

mod ridge;

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::classes::{self, LabelledSet};
use super::features::probe_features;
use super::{Measured, Outcome, percent, rank};
use crate::data::{Philox, Stream};
use crate::trainer::TrainerError;
use crate::trainer::ops::product_f64::{MatF64, product};

/// Draws of shots.
const SEEDS: u64 = 3;
/// The feature that every image has.
const CONSTANT: f64 = 100.0;
/// Factor on the squared length of the weights.
const L2: f64 = 1024.0;
/// Added to standard deviations.
const LEAST_STD: f64 = 1e-5;
/// Rows whose scores are held at a time.
const BLOCK: usize = 256;

/// Classifiers for every number of shots and every seed.
#[derive(Debug, Clone)]
pub struct Fewshot {
    classifiers: Vec<Classifier>,
    classnames: Vec<String>,
}

/// One classifier.
#[derive(Debug, Clone)]
struct Classifier {
    shots: u64,
    seed: u64,
    mean: Vec<f64>,
    /// Standard deviation + 1e-5.
    std: Vec<f64>,
    /// Weights [D + 1, C], the last row those of the constant.
    weights: Vec<f64>,
}

impl Fewshot {
    /// Fits the classifiers on a train split, on the current rayon pool.
    ///
    /// # Errors
    /// A set without labels or samples.
    pub fn fit(train: &LabelledSet<'_>, shots: &[u64]) -> Result<Self, TrainerError> {
        let (features, width) = probe_features(train.features);
        let labels = classes::labels(train.pack)?;
        let classnames = train.pack.classnames().to_vec();
        if labels.is_empty() {
            return Err(TrainerError::Input(
                "few-shot classification needs labelled images to be fitted on, and there are none".into(),
            ));
        }
        let cases: Vec<(u64, u64)> = shots.iter().flat_map(|shots| (0..SEEDS).map(move |seed| (*shots, seed))).collect();
        let of_case = |(shots, seed): &(u64, u64)| {
            let chosen = chosen(&labels, classnames.len(), *shots, *seed);
            Classifier::fit(features, width, &labels, classnames.len(), &chosen, (*shots, *seed))
        };
        Ok(Self { classifiers: cases.par_iter().map(of_case).collect(), classnames })
    }

    /// Measures them on a set: `fewshot<k>_acc1`, percent, the mean over seeds. Each chooses among the classes of the set.
    ///
    /// # Errors
    /// A set without labels, or whose classes are not those of the train split.
    #[expect(clippy::cast_precision_loss, reason = "a number of seeds")]
    pub fn measure(&self, set: &LabelledSet<'_>) -> Result<Measured, TrainerError> {
        let labels = classes::labels(set.pack)?;
        let places = classes::places(&self.classnames, set.pack)?;
        let (features, width) = probe_features(set.features);
        let of = |classifier: &Classifier| classifier.ranks(features, width, &labels, &places);
        let ranks: Vec<Vec<usize>> = self.classifiers.par_iter().map(of).collect();
        let mut metrics: BTreeMap<String, f64> = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(ranks.len());
        for (Classifier { shots, seed, .. }, ranks) in self.classifiers.iter().zip(ranks) {
            let hits = ranks.iter().filter(|rank| **rank == 0).count();
            *metrics.entry(format!("fewshot{shots}_acc1")).or_default() += percent(hits, labels.len()) / SEEDS as f64;
            outcomes.push(Outcome { what: format!("shots-{shots}-seed-{seed}"), ranks });
        }
        Ok(Measured { metrics, outcomes })
    }
}

/// The shots of a seed, class by class.
fn chosen(labels: &[usize], num_classes: usize, shots: u64, seed: u64) -> Vec<usize> {
    let philox = Philox::new(seed, Stream::Fewshot);
    let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); num_classes];
    labels.iter().enumerate().for_each(|(sample, label)| of_class[*label].push(sample));
    let mut all = Vec::new();
    for (class, samples) in of_class.iter().enumerate() {
        let draw = |place: u32| philox.at(class as u64, place).word();
        let mut keyed: Vec<(u32, usize)> = (0_u32..).zip(samples).map(|(place, sample)| (draw(place), *sample)).collect();
        keyed.sort_unstable();
        all.extend(keyed.iter().take(usize::try_from(shots).unwrap_or(usize::MAX)).map(|(_, sample)| *sample));
    }
    all
}

impl Classifier {
    #[expect(clippy::cast_precision_loss, reason = "a number of shots below 2^53")]
    fn fit(
        features: &[f32],
        width: usize,
        labels: &[usize],
        num_classes: usize,
        chosen: &[usize],
        (shots, seed): (u64, u64),
    ) -> Self {
        let row = |sample: &usize| &features[sample * width..][..width];
        let count = chosen.len() as f64;
        let mut mean = vec![0.0; width];
        for sample in chosen {
            mean.iter_mut().zip(row(sample)).for_each(|(sum, value)| *sum += f64::from(*value) / count);
        }
        let mut std = vec![0.0; width];
        for sample in chosen {
            std.iter_mut().zip(row(sample).iter().zip(&mean)).for_each(|(sum, (value, mean))| {
                *sum += (f64::from(*value) - mean).powi(2) / count;
            });
        }
        std.iter_mut().for_each(|variance| *variance = variance.sqrt() + LEAST_STD);
        let mut targets = vec![-1.0; chosen.len() * num_classes];
        for (targets, sample) in targets.chunks_exact_mut(num_classes).zip(chosen) {
            targets[labels[*sample]] = 1.0;
        }
        let mut classifier = Self { shots, seed, mean, std, weights: Vec::new() };
        let mut rows = Vec::with_capacity(chosen.len() * (width + 1));
        chosen.iter().for_each(|sample| classifier.whiten(row(sample), &mut rows));
        classifier.weights = ridge::ridge(&rows, width + 1, &targets, num_classes, L2);
        classifier
    }

    /// Appends a whitened row and its constant.
    fn whiten(&self, row: &[f32], out: &mut Vec<f64>) {
        out.extend(row.iter().zip(self.mean.iter().zip(&self.std)).map(|(value, (mean, std))| (f64::from(*value) - mean) / std));
        out.push(CONSTANT);
    }

    /// The rank of each row's label among the classes of a set, which are those at `places` of the train split.
    fn ranks(&self, features: &[f32], width: usize, labels: &[usize], places: &[usize]) -> Vec<usize> {
        let num_classes = self.weights.len() / (width + 1);
        let (mut ranks, mut rows, mut of_set) = (Vec::with_capacity(labels.len()), Vec::new(), Vec::new());
        for (features, labels) in features.chunks(BLOCK * width).zip(labels.chunks(BLOCK)) {
            rows.clear();
            features.chunks_exact(width).for_each(|row| self.whiten(row, &mut rows));
            let mut scores = vec![0.0; labels.len() * num_classes];
            product(MatF64::new(&rows, width + 1), MatF64::new(&self.weights, num_classes), &mut scores);
            for (scores, label) in scores.chunks_exact(num_classes).zip(labels) {
                of_set.clear();
                of_set.extend(places.iter().map(|place| scores[*place]));
                ranks.push(rank(&of_set, *label));
            }
        }
        ranks
    }
}

#[cfg(test)]
mod tests;
