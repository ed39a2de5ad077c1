//! Budgets and warm-up in whole steps.
//!
//! Every budget is first a number of samples, then the nearest number of whole steps, at least 1: halves up. So `epochs: 1` and
//! the `samples_seen` that equals it are one run, and what is seen differs from what was asked by half a batch at most. A network
//! that is not trained is `steps: 0`, and no other budget.

use super::super::scalar::Interval;
use super::super::types::{BudgetSpec, ScalarOr, WarmupSpec};

/// How long a run learns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::spec) enum Budget {
    Epochs(f64),
    Samples(u64),
    Steps(u64),
    Gmacs(f64),
}

/// How long the learning rate rises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::spec) enum Warmup {
    Interval(Interval),
    Samples(u64),
}

/// Share of the steps that warms up unless stated.
const WARMUP: f64 = 0.05;

impl From<BudgetSpec> for Budget {
    fn from(spec: BudgetSpec) -> Self {
        match spec {
            BudgetSpec::Epochs(epochs) => Self::Epochs(epochs.0),
            BudgetSpec::SamplesSeen(samples) => Self::Samples(samples.0),
            BudgetSpec::Steps(steps) => Self::Steps(steps.0),
            BudgetSpec::Gmacs(gmacs) => Self::Gmacs(gmacs.0),
        }
    }
}

impl Warmup {
    pub fn new(spec: Option<WarmupSpec>) -> Self {
        match spec {
            None => Self::Interval(Interval::Share(WARMUP)),
            Some(ScalarOr::Scalar(interval)) => Self::Interval(interval),
            Some(ScalarOr::Map(samples)) => Self::Samples(samples.samples.0),
        }
    }

    /// Whether no warm-up is asked for, rather than a share or a number of samples that comes to no step.
    pub fn is_none(self) -> bool {
        matches!(self, Self::Interval(Interval::Steps(0)) | Self::Samples(0)) || self == Self::Interval(Interval::Share(0.0))
    }

    /// Steps of warm-up in a run of `steps`, not clipped.
    pub fn steps(self, steps: u64, batch: u64) -> u64 {
        match self {
            Self::Interval(interval) => interval.steps_of(steps),
            Self::Samples(samples) => nearest_steps(samples, batch),
        }
    }
}

/// What a budget comes to, or why it comes to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spec) enum Steps {
    Known(u64),
    /// Epochs of a subset whose size only the data can tell.
    UnknownSubset,
    /// A cost that is not known.
    UnknownCost,
    /// Nothing, or more than 2^53 samples.
    OutOfRange,
}

pub(super) fn nearest_steps(samples: u64, batch: u64) -> u64 {
    (samples + batch / 2) / batch
}

/// Steps of a budget, where one step sees `batch` pairs of which each costs `gmacs`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked against 2^53 first"
)]
pub(in crate::spec) fn steps_of(budget: Budget, batch: u64, subset: Option<u64>, gmacs: impl FnOnce() -> f64) -> Steps {
    const MAX: f64 = 9_007_199_254_740_992.0;
    let samples = match budget {
        Budget::Steps(steps) if steps as f64 * batch as f64 > MAX => return Steps::OutOfRange,
        Budget::Steps(steps) => return Steps::Known(steps),
        Budget::Samples(samples) => samples as f64,
        Budget::Epochs(epochs) => match subset {
            Some(subset) => epochs * subset as f64,
            None => return Steps::UnknownSubset,
        },
        Budget::Gmacs(total) => match gmacs() {
            cost if cost > 0.0 && cost.is_finite() => total / cost,
            _ => return Steps::UnknownCost,
        },
    };
    if !(samples > 0.0 && samples <= MAX) {
        return Steps::OutOfRange;
    }
    Steps::Known(nearest_steps(samples.round() as u64, batch).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(budget: Budget) -> Steps {
        steps_of(budget, 256, Some(64_000), || 2.0)
    }

    #[test]
    fn budgets_that_mean_the_same_are_the_same_steps() {
        let all = [Budget::Epochs(2.0), Budget::Samples(128_000), Budget::Steps(500), Budget::Gmacs(256_000.0)];
        assert_eq!(all.map(steps), [Steps::Known(500); 4]);
    }

    #[test]
    fn samples_become_the_nearest_number_of_steps_and_never_none() {
        assert_eq!(steps(Budget::Samples(383)), Steps::Known(1));
        assert_eq!(steps(Budget::Samples(384)), Steps::Known(2));
        assert_eq!(steps(Budget::Samples(1)), Steps::Known(1));
        assert_eq!(steps(Budget::Steps(0)), Steps::Known(0), "not trained");
        assert_eq!(steps(Budget::Samples(0)), Steps::OutOfRange);
        assert_eq!(steps(Budget::Epochs(0.0)), Steps::OutOfRange);
        assert_eq!(steps(Budget::Epochs(1e300)), Steps::OutOfRange);
        assert_eq!(steps(Budget::Steps(u64::MAX)), Steps::OutOfRange);
    }

    #[test]
    fn what_is_not_known_is_said_to_be_so() {
        assert_eq!(steps_of(Budget::Epochs(1.0), 8, None, || 1.0), Steps::UnknownSubset);
        assert_eq!(steps_of(Budget::Gmacs(1.0), 8, None, || f64::NAN), Steps::UnknownCost);
        assert_eq!(steps_of(Budget::Samples(80), 8, None, || f64::NAN), Steps::Known(10));
    }
}
