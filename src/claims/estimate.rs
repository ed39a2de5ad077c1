//! Numbers with what is known of their spread, and when two of them differ.
//!
//! Owns [`Estimate`], [`Rules`] and [`Decision`]. Invariant: an estimate remembers which cells it is made of and with which
//! weights, so that every comparison is one weighted sum of cells with one standard error, and cells of the same runs are one cell.

use std::collections::BTreeMap;

use super::contrast::{Needs, Spread, Stated};
use super::frame::Frame;
use super::items::Part;
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

    /// The probability of each tail outside the confidence asked for, if one is.
    pub fn tail(&self) -> Option<f64> {
        self.confidence.share().map(|share| f64::midpoint(1.0, -share))
    }

    /// Differences up to this size are ties, points.
    pub fn tie_band(&self) -> f64 {
        self.tie_band
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
        Self { value, cells: BTreeMap::from([(frame.first_of_runs(row_idx), 1.0)]), error_squared: 0.0 }
    }

    /// The weighted sum of numbers.
    pub fn sum<'a>(terms: impl IntoIterator<Item = (f64, &'a Self)>, rules: &Rules) -> Self {
        let mut sum = Self::number(0.0);
        for (weight, Self { value, cells, error_squared }) in terms {
            sum.value += weight * value;
            sum.error_squared += weight * weight * error_squared;
            for (row_idx, inner) in cells {
                *sum.cells.entry(*row_idx).or_insert(0.0) += weight * inner;
            }
        }
        Self { value: rules.round(sum.value), ..sum }
    }

    pub fn minus(&self, other: &Self, rules: &Rules) -> Self {
        Self::sum([(1.0, self), (-1.0, other)], rules)
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
        match error {
            Some(error) => Self { error_squared: error * error, ..Self::number(value) },
            None => Self { value, ..Self::sum([(1.0 - share, a), (share, b)], rules) },
        }
    }

    /// The cells of runs that it is made of.
    pub fn parts<'a>(&self, frame: &'a Frame) -> Vec<Part<'a>> {
        let part = |(measure, weight, metric)| match measure {
            &Measure::Reading { .. } | &Measure::Summary(_) => None,
            Measure::Seeds(runs) => Some(Part { weight, metric, runs }),
        };
        self.weighted(frame).filter_map(part).collect()
    }

    /// The cells that somebody states of runs, with their weights.
    fn summaries<'a>(&self, frame: &'a Frame) -> Vec<Stated<'a>> {
        let stated = |(measure, weight, metric)| match measure {
            &Measure::Reading { .. } | &Measure::Seeds(_) => None,
            Measure::Summary(summary) => Some(Stated { weight, metric, summary: *summary }),
        };
        self.weighted(frame).filter_map(stated).collect()
    }

    /// Its cells with their weights and metrics, but for those that cancel.
    fn weighted<'a>(&self, frame: &'a Frame) -> impl Iterator<Item = (&'a Measure, f64, &'a str)> {
        let weighted = self.cells.iter().filter(|(_, weight)| weight.abs() > 1e-12);
        weighted.map(|(row_idx, weight)| (frame.measure(*row_idx), *weight, frame.label(*row_idx, "metric").unwrap_or("")))
    }

    /// Whether runs stand behind any of its cells.
    pub fn is_of_runs(&self, frame: &Frame) -> bool {
        !self.parts(frame).is_empty() || !self.summaries(frame).is_empty()
    }

    /// The number that one seed alone gives; cells without it count with their mean.
    pub fn at_seed(&self, frame: &Frame, seed: u64) -> f64 {
        let shift = |(row_idx, weight): (&usize, &f64)| {
            let measure = frame.measure(*row_idx);
            measure.at_seed(seed).map_or(0.0, |value| weight * (value - measure.mean()))
        };
        self.value + self.cells.iter().map(shift).sum::<f64>()
    }

    /// What is known of the number: its value over the seeds that its cells share, and how far that may be off; else why nothing
    /// is known.
    pub fn known(&self, frame: &Frame, rules: &Rules) -> Result<Known, String> {
        let stated = |(row_idx, weight): (&usize, &f64)| (weight * frame.measure(*row_idx).stated_error()).powi(2);
        let stated = self.error_squared + self.cells.iter().map(stated).sum::<f64>();
        let (parts, summaries) = (self.parts(frame), self.summaries(frame));
        let spread = match rules.tail() {
            Some(tail) if !parts.is_empty() => Some((tail, Spread::of(&parts, frame.pool())?)),
            Some(tail) if !summaries.is_empty() => Some((tail, Spread::of_summaries(&summaries, frame.pool())?)),
            _ => None,
        };
        Ok(Known { value: self.value + spread.map_or(0.0, |(_, spread)| spread.shift), stated, spread })
    }
}

/// A number and how far it may be off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Known {
    pub value: f64,
    /// Stated errors, squared and summed.
    stated: f64,
    /// The tail outside the confidence asked for, and the spread of runs.
    spread: Option<(f64, Spread)>,
}

impl Known {
    /// Half the width of the interval around the number: stated errors and the t interval, in quadrature.
    pub fn half_width(&self) -> f64 {
        self.reach(1.0)
    }

    /// The same with a tail so many times as large.
    fn reach(&self, times: f64) -> f64 {
        let of_runs = self.spread.map_or(0.0, |(tail, spread)| spread.reach((tail * times).min(0.5)));
        (self.stated + of_runs.powi(2)).sqrt()
    }

    /// What the data say of `over > 0`, and what more would decide a number that is `distance` away from being decided.
    fn evidence(&self, over: f64, distance: f64, times: f64) -> Option<Evidence> {
        let (tail, spread) = self.spread?;
        let needs = spread.needs((tail * times).min(0.5), distance);
        Some(Evidence { p: spread.p(over), p_against: spread.p(-over), needs, knows_items: spread.items.is_some() })
    }
}

/// Differences this small are noise of arithmetic, not of measurement.
pub(super) const SLACK: f64 = 1e-9;

/// What runs say of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Evidence {
    /// One-sided p of what is claimed.
    pub p: f64,
    /// One-sided p of its opposite.
    pub p_against: f64,
    /// What would decide it.
    pub needs: Option<Needs>,
    /// Whether the outcomes of items have been counted.
    pub knows_items: bool,
}

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
    /// What runs say; `None` of readings and where no confidence is asked for.
    pub evidence: Option<Evidence>,
}

/// Whether `difference > 0`, with a band on both sides of zero.
pub(super) fn decide(difference: f64, band: Result<f64, String>) -> Decision {
    let answer = match &band {
        Ok(band) if difference > band + SLACK => Answer::True,
        Ok(band) if difference < -band - SLACK => Answer::False,
        _ => Answer::Tie,
    };
    Decision { difference, band, answer, leans: difference > SLACK, evidence: None }
}

/// Whether a difference is above zero, by more than the tie band and the interval around it.
pub(super) fn above_zero(difference: &Estimate, frame: &Frame, rules: &Rules) -> Decision {
    match difference.known(frame, rules) {
        Err(reason) => decide(difference.value, Err(reason)),
        Ok(known) => {
            let decision = decide(known.value, Ok(rules.tie_band.max(known.half_width())));
            // What lies within the tie band stays a tie, whatever is added.
            let distance = if known.value.abs() > rules.tie_band { known.value.abs() } else { 0.0 };
            Decision { evidence: known.evidence(known.value, distance, 1.0), ..decision }
        }
    }
}

/// Whether `left > right`; by a margin, the whole interval lies above it.
pub(super) fn greater(left: &Estimate, right: &Estimate, by: Option<f64>, frame: &Frame, rules: &Rules) -> Decision {
    let difference = left.minus(right, rules);
    let Some(margin) = by else { return above_zero(&difference, frame, rules) };
    match difference.known(frame, rules) {
        Err(reason) => Decision { leans: difference.value > margin + SLACK, ..decide(difference.value, Err(reason)) },
        Ok(known) => {
            let over = known.value - margin;
            let decision = decide(over, Ok(known.half_width()));
            Decision { difference: known.value, evidence: known.evidence(over, over.abs(), 1.0), ..decision }
        }
    }
}

/// Whether `value <= limit`. Readings are compared plainly, since the limit is the tolerance already; runs must be within it,
/// or beyond it, with their whole interval.
pub(super) fn at_most(value: &Estimate, limit: &Estimate, frame: &Frame, rules: &Rules) -> Decision {
    let over = value.minus(limit, rules);
    let known = match over.is_of_runs(frame) {
        false => Ok(Known { value: over.value, stated: 0.0, spread: None }),
        true => over.known(frame, rules),
    };
    let Known { value, .. } = known.clone().unwrap_or(Known { value: over.value, stated: 0.0, spread: None });
    let band = known.as_ref().map(Known::half_width).map_err(Clone::clone);
    let answer = match &band {
        Ok(band) if value + band <= SLACK => Answer::True,
        Ok(band) if value - band > SLACK => Answer::False,
        _ => Answer::Tie,
    };
    let evidence = known.ok().and_then(|known| known.evidence(-value, value.abs(), 1.0));
    Decision { difference: value, band, answer, leans: value <= SLACK, evidence }
}

/// Whether two numbers differ by less than a margin: two one-sided tests, each at all of what the confidence leaves. Readings are
/// compared plainly, since the margin is the tolerance already.
pub(super) fn equal(left: &Estimate, right: &Estimate, within: f64, frame: &Frame, rules: &Rules) -> Decision {
    let difference = left.minus(right, rules);
    let of_runs = difference.is_of_runs(frame);
    let known =
        if of_runs { difference.known(frame, rules) } else { Ok(Known { value: difference.value, stated: 0.0, spread: None }) };
    match known {
        Err(reason) => Decision { leans: difference.value.abs() < within, ..decide(difference.value, Err(reason)) },
        Ok(known) => {
            let size = known.value.abs();
            let (inner, outer) = (known.reach(2.0), known.half_width());
            let answer = match () {
                () if size + inner < within + if of_runs { 0.0 } else { SLACK } => Answer::True,
                () if size - outer > within - if of_runs { 0.0 } else { SLACK } => Answer::False,
                () => Answer::Tie,
            };
            let room = within - size;
            let evidence = known.evidence(room, room.abs(), if room > 0.0 { 2.0 } else { 1.0 });
            Decision { difference: known.value, band: Ok(inner), answer, leans: room > 0.0, evidence }
        }
    }
}
