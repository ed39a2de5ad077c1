//! Operands to numbers.
//!
//! Owns the expansion of an operand into those that each stand for one number, and their evaluation against a frame. Invariant:
//! a number that rests on a missing cell is a [`Gap`], never a guess.

use std::collections::BTreeMap;

use super::estimate::{Estimate, Rules};
use super::frame::{Found, Frame, Place};
use super::statement::{Columns, GainSpec, InterpolateSpec, MeanSpec, Operand, Selection, XSpec};
use crate::tables::{Label, amount, short};

/// Where a comparison stands: the columns bound so far.
#[derive(Debug, Clone)]
pub(super) struct Context<'a> {
    pub frame: &'a Frame,
    pub rules: &'a Rules,
    pub defaults: &'a Place,
    pub bound: Place,
    pub at: Option<f64>,
}

/// Why an operand has no number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub reason: String,
    /// More than one cell, or no position: the statement itself is at fault.
    pub ambiguous: bool,
    /// There is one cell, and it has no value.
    pub is_unfilled: bool,
}

impl Gap {
    pub fn missing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ambiguous: false, is_unfilled: false }
    }

    fn ambiguous(reason: impl Into<String>) -> Self {
        Self { ambiguous: true, ..Self::missing(reason) }
    }

    fn unfilled(reason: impl Into<String>) -> Self {
        Self { is_unfilled: true, ..Self::missing(reason) }
    }
}

impl Context<'_> {
    /// The same place with one more column bound.
    pub fn with(&self, column: &str, label: &Label) -> Self {
        let mut context = self.clone();
        context.bound.insert(column.to_owned(), label.clone());
        context
    }

    fn cell(&self, columns: &Columns) -> Result<usize, Gap> {
        let mut bound = self.bound.clone();
        for (column, selection) in columns {
            if let Some(label) = selection.single() {
                bound.insert(column.clone(), label.clone());
            }
        }
        match self.frame.find(&bound, self.defaults) {
            Found::One(row_idx) => Ok(row_idx),
            Found::Missing => Err(Gap::missing(format!("no cell at {}", name_of(&bound)))),
            Found::Empty(row_idx) => {
                Err(Gap::unfilled(format!("no value at {}: {}", name_of(&bound), self.frame.absence(row_idx))))
            }
            Found::Many(count) => Err(Gap::ambiguous(format!("{count} cells match {}", name_of(&bound)))),
        }
    }

    /// The number that an operand, already expanded, stands for.
    pub fn evaluate(&self, operand: &Operand) -> Result<Estimate, Gap> {
        match operand {
            Operand::Number(value) => Ok(Estimate::number(*value)),
            Operand::Cell(columns) => Ok(Estimate::cell(self.frame, self.cell(columns)?, self.rules)),
            Operand::Gain(gain) => self.gain(gain),
            Operand::Minus(both) => Ok(self.evaluate(&both.0)?.minus(&self.evaluate(&both.1)?, self.rules)),
            Operand::Abs(inner) => Ok(self.evaluate(inner)?.abs()),
            Operand::Mean(mean) => self.mean(mean),
            Operand::Interpolate(curve) => self.interpolate(curve),
        }
    }

    fn gain(&self, gain: &GainSpec) -> Result<Estimate, Gap> {
        let GainSpec { along, from, to, of } = gain;
        let end = |label: &Option<Label>| {
            let mut columns = of.clone();
            if let Some(label) = label {
                columns.insert(along.clone(), Selection::Values(vec![label.clone()]));
            }
            Ok(Estimate::cell(self.frame, self.cell(&columns)?, self.rules))
        };
        Ok(end(to)?.minus(&end(from)?, self.rules))
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of cells")]
    fn mean(&self, mean: &MeanSpec) -> Result<Estimate, Gap> {
        let MeanSpec { over, of } = mean;
        let at = |place: Place| {
            let mut here = self.clone();
            here.bound.extend(place);
            here.evaluate(of)
        };
        let terms = product(over, self.frame).into_iter().map(at).collect::<Result<Vec<_>, _>>()?;
        if terms.is_empty() {
            return Err(Gap::missing("no cells to average"));
        }
        let weight = 1.0 / terms.len() as f64;
        Ok(Estimate::sum(terms.iter().map(|term| (weight, term)), self.rules))
    }

    fn interpolate(&self, curve: &InterpolateSpec) -> Result<Estimate, Gap> {
        let InterpolateSpec { along, x, y, of, at, error } = curve;
        let Some(at) = at.or(self.at) else {
            return Err(Gap::ambiguous("no position to interpolate at"));
        };
        let mut points: Vec<(f64, Estimate)> = Vec::new();
        for label in self.frame.labels(along, &Selection::All) {
            let here = self.with(along, &label);
            match here.point(x, y, of) {
                Ok(point) => points.push(point),
                // A curve of runs is not drawn across a run that did not finish; of a figure, what cannot be read is left out.
                Err(gap) if gap.ambiguous || (gap.is_unfilled && !self.frame.pool().is_empty()) => return Err(gap),
                Err(_) => {}
            }
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let spans = points.windows(2).find(|pair| pair[0].0 <= at && at <= pair[1].0);
        match (spans, points.as_slice()) {
            (Some([a, b]), _) => {
                let share = if b.0 > a.0 { (at - a.0) / (b.0 - a.0) } else { 0.0 };
                Ok(Estimate::between(&a.1, &b.1, share, *error, self.rules))
            }
            (_, []) => Err(Gap::missing(format!("no points along {along}"))),
            (_, [first, .., last]) | (_, [first @ last]) => {
                Err(Gap::missing(format!("x = {} is outside {} to {}", short(at), short(first.0), short(last.0))))
            }
        }
    }

    fn point(&self, x: &XSpec, y: &Columns, of: &Columns) -> Result<(f64, Estimate), Gap> {
        let merged = |own: &Columns| of.clone().into_iter().chain(own.clone()).collect::<Columns>();
        let row_idx = self.cell(&merged(y))?;
        let position = match x {
            XSpec::Cell(columns) => Estimate::cell(self.frame, self.cell(&merged(columns))?, self.rules).value,
            XSpec::Column(column) => {
                let text = self.frame.label(row_idx, column).and_then(amount);
                text.ok_or_else(|| Gap::missing(format!("no amount in column {column}")))?
            }
        };
        Ok((position, Estimate::cell(self.frame, row_idx, self.rules)))
    }
}

/// The operands that each stand for one number: the product of every list or range inside.
pub(super) fn expand(operand: &Operand, frame: &Frame) -> Vec<Operand> {
    match operand {
        Operand::Number(_) => vec![operand.clone()],
        Operand::Cell(columns) => expand_columns(columns, frame).into_iter().map(Operand::Cell).collect(),
        Operand::Gain(gain) => {
            let variants = expand_columns(&gain.of, frame);
            variants.into_iter().map(|of| Operand::Gain(GainSpec { of, ..gain.clone() })).collect()
        }
        Operand::Abs(inner) => expand(inner, frame).into_iter().map(|inner| Operand::Abs(Box::new(inner))).collect(),
        Operand::Mean(mean) => {
            let variants = expand(&mean.of, frame).into_iter();
            variants.map(|of| Operand::Mean(Box::new(MeanSpec { over: mean.over.clone(), of }))).collect()
        }
        Operand::Minus(both) => {
            let rights = expand(&both.1, frame);
            let pairs =
                expand(&both.0, frame).into_iter().flat_map(|left| rights.iter().map(move |right| (left.clone(), right.clone())));
            pairs.map(|pair| Operand::Minus(Box::new(pair))).collect()
        }
        Operand::Interpolate(curve) => {
            let variants = expand_columns(&curve.of, frame);
            variants.into_iter().map(|of| Operand::Interpolate(Box::new(InterpolateSpec { of, ..(**curve).clone() }))).collect()
        }
    }
}

fn expand_columns(columns: &Columns, frame: &Frame) -> Vec<Columns> {
    product(columns, frame)
        .into_iter()
        .map(|bound| bound.into_iter().map(|(column, label)| (column, Selection::Values(vec![label]))).collect())
        .collect()
}

/// Every combination of the values that the selections pick; the last column changes fastest.
pub(super) fn product(columns: &Columns, frame: &Frame) -> Vec<Place> {
    let mut combinations = vec![BTreeMap::new()];
    for (column, selection) in columns {
        let labels = frame.labels(column, selection);
        combinations = combinations
            .into_iter()
            .flat_map(|bound: Place| {
                labels.iter().map(move |label| {
                    let mut bound = bound.clone();
                    bound.insert(column.clone(), label.clone());
                    bound
                })
            })
            .collect();
    }
    combinations
}

/// Columns and labels as `column=label, ...`.
fn name_of(place: &Place) -> String {
    let parts: Vec<String> = place.iter().map(|(column, label)| format!("{column}={label}")).collect();
    if parts.is_empty() { "the only cell".to_owned() } else { parts.join(", ") }
}
