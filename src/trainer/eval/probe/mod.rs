//! A linear probe: multinomial logistic regression on frozen features.
//!
//! Features are standardised by the train split. Loss: mean cross entropy + lambda / 2 |W|^2, biases free; from zero, by L-BFGS in
//! f64. `lambda` is chosen among 1e2 down to 1e-6, three a decade, by the accuracy on a keyed tenth of the train split of a probe
//! that is fitted on the other nine (of equals, the larger), each fit starting where the last one ended; smaller ones are not tried
//! after two decades of less accuracy than the best. The probe itself is then fitted on all of the train split. The problem is
//! convex: there is no learning rate and no seed. Bytes do not depend on threads.
//!
//! **Source** the minimum of scikit-learn's `LogisticRegression(C = 1 / (N lambda))` after `StandardScaler`; Radford et al. 2021,
//! A.3, chooses in a like way.
//! **Differs** from scikit-learn with two classes: there are two rows of weights where it has their difference, so that its C is
//! 2 / (N lambda).

mod lbfgs;
mod softmax;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::classes::{self, LabelledSet};
use super::features::probe_features;
use super::{Measured, Outcome, rank};
use crate::data::{Philox, Stream};
use crate::trainer::TrainerError;
use lbfgs::{Limits, Minimum, minimise};
use softmax::{Softmax, scores};

/// Iterations of a fit at most, as in Radford et al. 2021, A.3.
const ITERATIONS: usize = 1000;
/// Length of the gradient at which a fit ends, by that at zero: of those that `lambda` is chosen by, and of the last one.
const CHOICE_TOLERANCE: f64 = 1e-4;
const FIT_TOLERANCE: f64 = 1e-6;
/// Values of `lambda` in a row that may hit fewer than the best so far before smaller ones are left out.
const PATIENCE: usize = 6;
/// Rows whose scores are held at a time.
const BLOCK: usize = 256;

/// What was found for one `lambda`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriedLambda {
    /// Factor on half the squared length of the weights.
    pub lambda: f64,
    /// Samples of the held-out tenth that were classified as labelled.
    pub hits: usize,
    /// Iterations of its fit.
    pub iterations: usize,
}

/// How a probe was fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeFit {
    /// The one that was chosen.
    pub lambda: f64,
    /// Samples of the train split.
    pub samples: usize,
    /// Samples that `lambda` was chosen on.
    pub held_out: usize,
    /// Those that were tried, from the largest down.
    pub tried: Vec<TriedLambda>,
    /// Iterations of the fit on the whole train split.
    pub iterations: usize,
    /// Length of its last gradient by that at zero.
    pub gradient: f64,
}

/// A fitted probe.
#[derive(Debug, Clone)]
pub struct Probe {
    scale: Standard,
    classifier: Classifier,
    classnames: Vec<String>,
    fit: ProbeFit,
}

impl Probe {
    /// Fits a probe on a train split, on the current rayon pool.
    ///
    /// # Errors
    /// A set without labels, or with fewer than two samples.
    pub fn fit(train: &LabelledSet<'_>) -> Result<Self, TrainerError> {
        let (features, width) = probe_features(train.features);
        let labels = classes::labels(train.pack)?;
        let scale = Standard::of(features, width);
        let rows = scale.apply(features);
        let (classifier, fit) = fit(&rows, width, &labels, PATIENCE)?;
        Ok(Self { scale, classifier, classnames: train.pack.classnames().to_vec(), fit })
    }

    /// How it was fitted.
    #[must_use]
    pub fn details(&self) -> &ProbeFit {
        &self.fit
    }

    /// Measures it on a set: `lp_acc1`, `lp_acc5` (from five classes on), `lp_mean_per_class_recall`, percent. It chooses among the
    /// classes of the set; one that the train split has no image of comes last.
    ///
    /// # Errors
    /// A set without labels, or whose classes are not those of the train split.
    pub fn measure(&self, set: &LabelledSet<'_>) -> Result<Measured, TrainerError> {
        let labels = classes::labels(set.pack)?;
        let places = classes::places(&self.classnames, set.pack)?;
        let (features, _) = probe_features(set.features);
        let ranks = self.classifier.ranks(&self.scale.apply(features), &labels, &places);
        let metrics = classes::metrics(&ranks, &labels, places.len());
        let metrics = metrics.into_iter().map(|(metric, value)| (format!("lp_{metric}"), value)).collect();
        Ok(Measured { metrics, outcomes: vec![Outcome { what: "rank".into(), ranks }] })
    }
}

/// Mean and spread of features.
#[derive(Debug, Clone)]
struct Standard {
    mean: Vec<f64>,
    /// 1 over the population standard deviation; 1 where a feature is the same for all.
    inverse_std: Vec<f64>,
}

impl Standard {
    /// Of rows [N, width].
    #[expect(clippy::cast_precision_loss, reason = "a number of samples below 2^53")]
    fn of(features: &[f32], width: usize) -> Self {
        let count = (features.len() / width) as f64;
        let mut mean = vec![0.0; width];
        for row in features.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        mean.iter_mut().for_each(|sum| *sum /= count);
        let mut variance = vec![0.0; width];
        for row in features.chunks_exact(width) {
            variance.iter_mut().zip(row.iter().zip(&mean)).for_each(|(sum, (value, mean))| {
                *sum += (f64::from(*value) - mean).powi(2);
            });
        }
        // What rounding leaves of no variance at all, as scikit-learn has it.
        let is_constant =
            |variance: f64, mean: f64| variance <= count * f64::EPSILON * variance + (count * mean * f64::EPSILON).powi(2);
        let inverse = |(sum, mean): (f64, &f64)| if is_constant(sum / count, *mean) { 1.0 } else { (sum / count).sqrt().recip() };
        let inverse_std = variance.into_iter().zip(&mean).map(inverse).collect();
        Self { mean, inverse_std }
    }

    /// Rows as multiples of the standard deviation from the mean [N, width].
    fn apply(&self, features: &[f32]) -> Vec<f64> {
        let scale = |(value, (mean, inverse)): (&f32, (&f64, &f64))| (f64::from(*value) - mean) * inverse;
        features
            .chunks_exact(self.mean.len())
            .flat_map(|row| row.iter().zip(self.mean.iter().zip(&self.inverse_std)).map(scale))
            .collect()
    }
}

/// The values of `lambda`, from the largest down: 1e2 to 1e-6, three a decade.
fn lambdas() -> impl Iterator<Item = f64> {
    (-18..=6).rev().map(|third| libm::exp10(f64::from(third) / 3.0))
}

/// Samples that `lambda` is chosen on, ascending: the tenth, rounded to the nearest and at least one, with the smallest draws.
fn held_out(samples: usize) -> Vec<usize> {
    let philox = Philox::new(0, Stream::Fewshot);
    let mut keyed: Vec<(u32, usize)> =
        (0..samples).map(|sample| (philox.at(u64::MAX, u32::try_from(sample).unwrap_or(u32::MAX)).word(), sample)).collect();
    keyed.sort_unstable();
    let mut chosen: Vec<usize> = keyed[..((samples + 5) / 10).max(1)].iter().map(|(_, sample)| *sample).collect();
    chosen.sort_unstable();
    chosen
}

/// Chooses `lambda`, and fits with it. Smaller ones are left out after `patience` in a row that hit fewer than the best.
fn fit(rows: &[f64], width: usize, labels: &[usize], patience: usize) -> Result<(Classifier, ProbeFit), TrainerError> {
    if labels.len() < 2 {
        let message = format!("a probe cannot be fitted on {}: some are held out", crate::run::counted(labels.len(), "image"));
        return Err(TrainerError::Input(message));
    }
    let held_out = held_out(labels.len());
    let (chosen_rows, chosen_labels) = part(rows, width, labels, &held_out);
    let kept: Vec<usize> = (0..labels.len()).filter(|sample| held_out.binary_search(sample).is_err()).collect();
    let (rest_rows, rest_labels) = part(rows, width, labels, &kept);
    let mut path = Classifier::new(width, &rest_labels);
    let num_classes = labels.iter().max().map_or(0, |most| most + 1);
    let every: Vec<usize> = (0..num_classes).collect();
    let mut tried: Vec<TriedLambda> = Vec::new();
    let (mut most, mut below) = (0, 0);
    for lambda in lambdas() {
        let (minimum, _) = path.minimise(&rest_rows, &rest_labels, lambda, CHOICE_TOLERANCE);
        let hits = path.ranks(&chosen_rows, &chosen_labels, &every).iter().filter(|rank| **rank == 0).count();
        tried.push(TriedLambda { lambda, hits, iterations: minimum.iterations });
        below = if hits < most { below + 1 } else { 0 };
        most = most.max(hits);
        if below >= patience {
            break;
        }
    }
    let lambda = tried.iter().find(|tried| tried.hits == most).map_or(1.0, |tried| tried.lambda);
    let mut classifier = Classifier::new(width, labels);
    let (Minimum { iterations, .. }, gradient) = classifier.minimise(rows, labels, lambda, FIT_TOLERANCE);
    Ok((classifier, ProbeFit { lambda, samples: labels.len(), held_out: held_out.len(), tried, iterations, gradient }))
}

/// Some of the samples.
fn part(rows: &[f64], width: usize, labels: &[usize], samples: &[usize]) -> (Vec<f64>, Vec<usize>) {
    let rows = samples.iter().flat_map(|sample| &rows[sample * width..][..width]).copied().collect();
    (rows, samples.iter().map(|sample| labels[*sample]).collect())
}

/// Weights of the classes that occur.
#[derive(Debug, Clone)]
struct Classifier {
    width: usize,
    /// Classes that occur, ascending.
    classes: Vec<usize>,
    /// Weights [classes, width], then biases.
    params: Vec<f64>,
}

impl Classifier {
    /// The classifier that says nothing of the classes of some labels. Of a class that does not occur the minimum has no finite
    /// bias: it is left out.
    fn new(width: usize, labels: &[usize]) -> Self {
        let mut classes = labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        let params = vec![0.0; classes.len() * (width + 1)];
        Self { width, classes, params }
    }

    /// Goes on from its parameters to the minimum; with it, the length of the last gradient by that at zero.
    fn minimise(&mut self, rows: &[f64], labels: &[usize], lambda: f64, tolerance: f64) -> (Minimum, f64) {
        let Self { width, classes, params } = self;
        let labels: Vec<usize> = labels.iter().map(|label| classes.partition_point(|class| class < label)).collect();
        let problem = Softmax { rows, width: *width, labels: &labels, classes: classes.len(), lambda };
        let mut gradient = vec![0.0; problem.num_params()];
        problem.value_and_gradient(&vec![0.0; problem.num_params()], &mut gradient);
        let at_zero = gradient.iter().map(|value| value * value).sum::<f64>().sqrt();
        let limits = Limits { iterations: ITERATIONS, gradient_norm: tolerance * at_zero };
        let minimum = minimise(params, limits, |params, gradient| problem.value_and_gradient(params, gradient));
        (minimum, if at_zero > 0.0 { minimum.gradient_norm / at_zero } else { 0.0 })
    }

    /// The rank of each row's label among the classes of a set, which are those at `places` of the train split.
    fn ranks(&self, rows: &[f64], labels: &[usize], places: &[usize]) -> Vec<usize> {
        let known: Vec<Option<usize>> = places.iter().map(|place| self.classes.binary_search(place).ok()).collect();
        let blocks = rows.par_chunks(BLOCK * self.width).zip(labels.par_chunks(BLOCK));
        let ranks = blocks.map(|(rows, labels)| {
            let mut all = Vec::new();
            scores(&self.params, self.classes.len(), self.width, rows, &mut all);
            let of_set =
                |scores: &[f64]| known.iter().map(|class| class.map_or(f64::NEG_INFINITY, |class| scores[class])).collect();
            let rank_of = |(scores, label): (&[f64], &usize)| {
                let scores: Vec<f64> = of_set(scores);
                // A class that the probe never says is no hit, whatever stands beside it.
                if scores[*label] == f64::NEG_INFINITY { rank(&scores, *label).max(1) } else { rank(&scores, *label) }
            };
            all.chunks_exact(self.classes.len()).zip(labels).map(rank_of).collect::<Vec<usize>>()
        });
        ranks.collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests;
