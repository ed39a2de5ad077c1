//! Numbers with what is known of their spread, and when two of them differ.
//!
//! Owns [`Estimate`], [`Rules`] and [`Decision`]. Invariant: an estimate remembers which cells it is made of and with which
//! weights, so that every comparison is one weighted sum of cells with one interval, and a cell that occurs twice is not counted
//! as two.

use std::collections::BTreeMap;

use super::contrast::{Part, half_width};
use super::frame::Frame;
use super::source::Measure;
use super::statement::{ClaimSpec, Confidence};
use super::verdict::Answer;

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

    /// The confidence asked for, if one is.
    pub fn confidence(&self) -> Option<f64> {
        self.confidence.share()
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
        let mut cells: BTreeMap<usize, f64> = BTreeMap::new();
        for (estimate, weight) in [(a, 1.0 - share), (b, share)] {
            for (row_idx, inner) in &estimate.cells {
                *cells.entry(*row_idx).or_insert(0.0) += weight * inner;
            }
        }
        let error_squared = a.error_squared * (1.0 - share).powi(2) + b.error_squared * share.powi(2);
        match error {
            Some(error) => Self { value, cells: BTreeMap::new(), error_squared: error * error },
            None => Self { value, cells, error_squared },
        }
    }

    /// The cells of runs that it is made of.
    pub fn parts<'a>(&self, frame: &'a Frame) -> Vec<Part<'a>> {
        let weighted = self.cells.iter().filter(|(_, weight)| **weight != 0.0);
        let part = |(row_idx, weight): (&usize, &f64)| match frame.measure(*row_idx) {
            Measure::Reading { .. } => None,
            Measure::Seeds(values) => Some(Part { weight: *weight, metric: frame.label(*row_idx, "metric").unwrap_or(""), values }),
        };
        weighted.filter_map(part).collect()
    }

    /// The number that one seed alone gives; cells without it count with their mean.
    pub fn at_seed(&self, frame: &Frame, seed: u64) -> f64 {
        let shift = |(row_idx, weight): (&usize, &f64)| {
            let measure = frame.measure(*row_idx);
            measure.at_seed(seed).map_or(0.0, |value| weight * (value - measure.mean()))
        };
        self.value + self.cells.iter().map(shift).sum::<f64>()
    }

    /// Half the width of the interval around the number: stated errors in quadrature, and over seeds the t interval. Else why
    /// there is none.
    pub fn half_width(&self, frame: &Frame, rules: &Rules) -> Result<f64, String> {
        let stated = |(row_idx, weight): (&usize, &f64)| match frame.measure(*row_idx) {
            Measure::Reading { error, .. } => (weight * error).powi(2),
            Measure::Seeds(_) => 0.0,
        };
        let squared = self.error_squared + self.cells.iter().map(stated).sum::<f64>();
        let parts = self.parts(frame);
        match rules.confidence() {
            Some(share) if !parts.is_empty() => Ok((squared + half_width(&parts, frame.pool(), share)?.powi(2)).sqrt()),
            _ => Ok(squared.sqrt()),
        }
    }
}

/// Differences this small are noise of arithmetic, not of measurement.
const SLACK: f64 = 1e-9;

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decision {
    /// Left less right.
    pub difference: f64,
    /// Differences up to this size are ties; or why nothing can be decided.
    pub band: Result<f64, String>,
    pub answer: Answer,
    /// Whether the difference lies on the claimed side, by however little.
    pub leans: bool,
}

/// Whether `difference > 0`, with a band on both sides of zero.
pub(super) fn decide(difference: f64, band: Result<f64, String>) -> Decision {
    let answer = match &band {
        Ok(band) if difference > band + SLACK => Answer::True,
        Ok(band) if difference < -band - SLACK => Answer::False,
        _ => Answer::Tie,
    };
    Decision { difference, band, answer, leans: difference > SLACK }
}

/// Whether `left > right`.
pub(super) fn greater(left: &Estimate, right: &Estimate, frame: &Frame, rules: &Rules) -> Decision {
    let difference = left.minus(right, rules);
    decide(difference.value, difference.half_width(frame, rules).map(|half| rules.tie_band.max(half)))
}

/// Whether `value <= limit`. Readings are compared plainly, since the limit is the tolerance already; runs must be within it,
/// or beyond it, with their whole interval.
pub(super) fn at_most(value: &Estimate, limit: &Estimate, frame: &Frame, rules: &Rules) -> Decision {
    let over = value.minus(limit, rules);
    let band = if over.parts(frame).is_empty() { Ok(0.0) } else { over.half_width(frame, rules) };
    let answer = match &band {
        Ok(band) if over.value + band <= SLACK => Answer::True,
        Ok(band) if over.value - band > SLACK => Answer::False,
        _ => Answer::Tie,
    };
    Decision { difference: over.value, band, answer, leans: over.value <= SLACK }
}
