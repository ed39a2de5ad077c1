//! Numbers with what is known of their spread, and when two of them differ.
//!
//! Owns [`Estimate`] and [`Rules`]. Invariant: an estimate remembers which cells it is made of and with which weights, so that
//! errors add in quadrature, seeds are paired where the same seeds stand behind every cell, and a cell that occurs twice is
//! not counted as two.

use std::collections::BTreeMap;

use super::frame::Frame;
use super::source::Measure;
use super::statement::{ClaimSpec, Confidence};
use super::stats::t_two_sided;
use super::verdict::Outcome;

/// How a claim compares numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    tie_band: f64,
    rounding: Option<f64>,
    confidence: Confidence,
}

impl Rules {
    pub fn of(claim: &ClaimSpec) -> Self {
        Self { tie_band: claim.tie_band(), rounding: claim.rounding, confidence: claim.confidence() }
    }

    /// Rounds a value to the claim's grid; halves go away from zero.
    pub fn round(&self, value: f64) -> f64 {
        let Some(unit) = self.rounding else { return value };
        // Dividing by the inverse where that is whole keeps 64.8 the number nearest to 64.8.
        let inverse = 1.0 / unit;
        let steps = (value / unit + 1e-9 * value.signum()).round() + 0.0;
        if (inverse - inverse.round()).abs() < 1e-9 { steps / inverse.round() } else { steps * unit }
    }
}

/// A number made of cells.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Estimate {
    /// The number, rounded by the claim's rules.
    pub value: f64,
    /// Weight of each cell (by row of the frame).
    cells: BTreeMap<usize, f64>,
    /// Errors that are not those of cells, squared and summed.
    error_squared: f64,
}

impl Estimate {
    pub fn number(value: f64) -> Self {
        Self { value, cells: BTreeMap::new(), error_squared: 0.0 }
    }

    pub fn cell(frame: &Frame, row_idx: usize, rules: &Rules) -> Self {
        let value = rules.round(frame.measure(row_idx).mean());
        Self { value, cells: BTreeMap::from([(row_idx, 1.0)]), error_squared: 0.0 }
    }

    pub fn minus(&self, other: &Self, rules: &Rules) -> Self {
        let mut cells = self.cells.clone();
        for (row_idx, weight) in &other.cells {
            *cells.entry(*row_idx).or_insert(0.0) -= weight;
        }
        let value = rules.round(self.value - other.value);
        Self { value, cells, error_squared: self.error_squared + other.error_squared }
    }

    pub fn abs(mut self) -> Self {
        if self.value < 0.0 {
            self.value = -self.value;
            self.cells.values_mut().for_each(|weight| *weight = -*weight);
        }
        self
    }

    /// The point `share` of the way from `a` to `b`. A stated error replaces the errors of the two.
    pub fn between(a: &Self, b: &Self, share: f64, error: Option<f64>, rules: &Rules) -> Self {
        let value = rules.round(a.value + (b.value - a.value) * share);
        if let Some(error) = error {
            return Self { value, cells: BTreeMap::new(), error_squared: error * error };
        }
        let mut cells: BTreeMap<usize, f64> = BTreeMap::new();
        for (estimate, weight) in [(a, 1.0 - share), (b, share)] {
            for (row_idx, inner) in &estimate.cells {
                *cells.entry(*row_idx).or_insert(0.0) += weight * inner;
            }
        }
        let error_squared = a.error_squared * (1.0 - share).powi(2) + b.error_squared * share.powi(2);
        Self { value, cells, error_squared }
    }

    /// Half the width of the interval around the number: stated errors in quadrature, t times the standard error over seeds.
    /// Infinite where a cell has one seed and the claim asks for confidence.
    pub fn half_width(&self, frame: &Frame, rules: &Rules) -> f64 {
        let mut squared = self.error_squared;
        let mut seeds: Vec<(f64, &[(u64, f64)])> = Vec::new();
        for (row_idx, weight) in self.cells.iter().filter(|(_, weight)| **weight != 0.0) {
            match frame.measure(*row_idx) {
                Measure::Reading { error, .. } => squared += (weight * error).powi(2),
                Measure::Seeds(values) => seeds.push((*weight, values)),
            }
        }
        if let Some(share) = rules.confidence.share()
            && !seeds.is_empty()
        {
            squared += seeds_half_width(&seeds, share).powi(2);
        }
        squared.sqrt()
    }

    /// Whether every cell has at least two seeds, or none are needed.
    pub fn has_seeds_enough(&self, frame: &Frame, rules: &Rules) -> bool {
        rules.confidence.share().is_none()
            || self.cells.keys().all(|row_idx| match frame.measure(*row_idx) {
                Measure::Reading { .. } => true,
                Measure::Seeds(values) => values.len() > 1,
            })
    }
}

/// t interval of a weighted sum of means: paired where all have the same seeds, else by Welch and Satterthwaite.
#[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
fn seeds_half_width(cells: &[(f64, &[(u64, f64)])], confidence: f64) -> f64 {
    if cells.iter().any(|(_, values)| values.len() < 2) {
        return f64::INFINITY;
    }
    if let Some(sums) = paired(cells) {
        let n = sums.len() as f64;
        return t_two_sided(confidence, n - 1.0) * (variance(&sums) / n).sqrt();
    }
    let parts = cells.iter().map(|(weight, values)| {
        let values: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
        let n = values.len() as f64;
        (weight * weight * variance(&values) / n, n - 1.0)
    });
    let (total, scaled) = parts.fold((0.0, 0.0), |(total, scaled), (part, degrees)| (total + part, scaled + part * part / degrees));
    if total == 0.0 { 0.0 } else { t_two_sided(confidence, total * total / scaled) * total.sqrt() }
}

/// The weighted sum seed by seed, where every cell has the same seeds, each once.
fn paired(cells: &[(f64, &[(u64, f64)])]) -> Option<Vec<f64>> {
    let by_seed: Vec<BTreeMap<u64, f64>> = cells.iter().map(|(_, values)| values.iter().copied().collect()).collect();
    let first = by_seed.first()?;
    let same = by_seed.iter().zip(cells).all(|(seeds, (_, values))| seeds.len() == values.len() && seeds.keys().eq(first.keys()));
    same.then(|| {
        let sum = |seed: &u64| by_seed.iter().zip(cells).map(|(seeds, (weight, _))| weight * seeds[seed]).sum();
        first.keys().map(sum).collect()
    })
}

#[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
fn variance(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)
}

/// Differences this small are noise of arithmetic, not of measurement.
const SLACK: f64 = 1e-9;

/// Outcome of `difference > 0` with a band on both sides of zero.
pub(super) fn decide(difference: f64, band: f64) -> Outcome {
    match difference {
        difference if difference > band + SLACK => Outcome::True,
        difference if difference < -band - SLACK => Outcome::False,
        _ => Outcome::Tie,
    }
}

/// Difference and band of `left > right`.
pub(super) fn difference(left: &Estimate, right: &Estimate, frame: &Frame, rules: &Rules) -> (f64, f64) {
    let difference = left.minus(right, rules);
    (difference.value, rules.tie_band.max(difference.half_width(frame, rules)))
}

/// Difference, band and outcome of `value <= limit`. Readings are compared plainly, since the limit is the tolerance already;
/// runs must be within it, or beyond it, with their whole interval.
pub(super) fn at_most(value: &Estimate, limit: &Estimate, frame: &Frame, rules: &Rules) -> (f64, f64, Outcome) {
    let over = value.minus(limit, rules);
    let of_runs = over.cells.keys().any(|row_idx| matches!(frame.measure(*row_idx), Measure::Seeds(_)));
    let band = if of_runs { over.half_width(frame, rules) } else { 0.0 };
    let outcome = match over.value {
        value if value + band <= SLACK => Outcome::True,
        value if value - band > SLACK => Outcome::False,
        _ => Outcome::Tie,
    };
    (over.value, band, outcome)
}
