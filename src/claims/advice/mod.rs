//! What the runs favour at a stated compute or number of samples, and how sure that is.
//!
//! Input: cells with their costs, and a [`Budget`]. Output: [`Advice`]. A choice is what cells have in common once their amounts of data
//! and compute are taken away: share of the data, encoder, strategy, whatever else varies. Its value at a budget is that of its best
//! cell where one costs so much, else between the two of its frontier that lie around it, straight in the logarithm of the cost; its
//! interval then reaches from the lower end of the one to the upper end of the other, which holds what lies between if that rises with the
//! cost. Beyond all runs it is what the choice's fit says. Invariant: pure; never more certain than the data: a lead is decided only where
//! every rival is behind by its whole 95 % interval, at the budget or at both cells around it, and has runs that cost so much. That the
//! cells were chosen as the best of several by the values that they are shown with is in no interval.

mod words;

use std::collections::BTreeMap;

use thiserror::Error;

use super::fits::{CurveCell, Found, Normals, Shape, fit_cells};
use super::frontier::best_at_each_cost;
use super::pool::Pool;
use super::versus::{Costed, Sum, Versus, pool, value};
use crate::tables::short;

/// Costs within this share of a budget are at it.
const NEAR: f64 = 0.01;
/// Axes that are amounts of data and compute and no choice of their own.
const AMOUNTS: [&str; 3] = ["data.train.size", "data.quality.size", "train.budget"];

/// What may be spent on a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// `gmacs` or `samples_seen`.
    pub name: String,
    /// How many.
    pub amount: f64,
}

/// What advice rests on.
#[derive(Debug, Clone, PartialEq)]
pub enum Basis {
    /// Runs at the budget or around it.
    Runs,
    /// Fits: the budget is so many times what any run costs.
    Fits {
        /// Budget over the largest cost.
        factor: f64,
    },
    /// Runs of the largest cost, since the budget is so many times that and no fit can be made.
    LargestRuns {
        /// Budget over the largest cost.
        factor: f64,
        /// The largest cost.
        most: f64,
    },
}

/// What is favoured.
#[derive(Debug, Clone, PartialEq)]
pub struct Pick {
    /// Key path of each axis that is a choice, and the label.
    pub labels: Vec<(String, String)>,
    /// The metric to be expected.
    pub value: f64,
    /// Its 95 % interval, where it is known.
    pub interval: Option<[f64; 2]>,
    /// The cells that say so, with their weights; of a fit, all that it goes through, without weights.
    pub cells: Vec<(f64, Costed)>,
    /// The fit that says so.
    pub fit: Option<Found>,
    /// The largest cost of its runs, where that is below the budget.
    pub ends_at: Option<f64>,
}

/// Another choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Rival {
    /// Key path of each axis that is a choice, and the label.
    pub labels: Vec<(String, String)>,
    /// The metric to be expected of it.
    pub value: f64,
    /// Its 95 % interval, where it is known.
    pub interval: Option<[f64; 2]>,
    /// Where it or what is favoured lies between two of its cells: whether the lead is decided at the lower cells and at the upper ones.
    pub holds_at_ends: Option<bool>,
    /// How far it is behind.
    pub versus: Versus,
    /// The largest cost of its runs, where that is below the budget.
    pub ends_at: Option<f64>,
}

impl Rival {
    /// Whether it is known to be behind: between cells, on the lines and at the cells that they join.
    #[must_use]
    pub fn is_beaten(&self) -> bool {
        self.versus.is_decided() && self.ends_at.is_none() && self.holds_at_ends != Some(false)
    }
}

/// What the runs favour at a budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Advice {
    /// The metric.
    pub metric: String,
    /// What may be spent.
    pub budget: Budget,
    /// What the advice rests on.
    pub basis: Basis,
    /// What is favoured.
    pub pick: Pick,
    /// The other choices, the best first.
    pub rivals: Vec<Rival>,
    /// Choices of which nothing can be said at the budget, with the reason.
    pub left_out: Vec<(Vec<(String, String)>, String)>,
}

/// Why there is no advice.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum AdviceError {
    /// Nothing was measured.
    #[error("no cell has a value of `{0}`")]
    NoCells(String),
    /// Nothing to compare.
    #[error("there is one cell alone with a value of `{0}`, and nothing to compare it with")]
    OneCell(String),
    /// The budget is below every run.
    #[error("every run costs more than {} {name}: the smallest {}", short(*.amount), short(*.least))]
    TooSmall {
        /// What is counted.
        name: String,
        /// The budget.
        amount: f64,
        /// The smallest cost of a run.
        least: f64,
    },
}

/// One choice with its cells.
struct Choice<'a> {
    labels: Vec<(String, String)>,
    cells: Vec<&'a Costed>,
}

/// What the cells favour at a budget, by a metric of which more is better.
///
/// # Errors
/// If there is nothing to compare, or every cell costs more.
pub fn advise(cells: &[Costed], metric: &str, budget: Budget, normals: Normals<'_>) -> Result<Advice, AdviceError> {
    match cells {
        [] => return Err(AdviceError::NoCells(metric.to_owned())),
        [_] => return Err(AdviceError::OneCell(metric.to_owned())),
        _ => {}
    }
    let costs = || cells.iter().map(|cell| cell.cost);
    let (least, most) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
    if budget.amount < least * (1.0 - NEAR) {
        return Err(AdviceError::TooSmall { name: budget.name, amount: budget.amount, least });
    }
    let asked = Asked { metric, pool: pool(cells, metric) };
    let choices = choices(cells);
    if budget.amount <= most * (1.0 + NEAR) {
        let (pick, rivals, left_out) = asked.by_runs(&choices, budget.amount);
        return Ok(Advice { metric: metric.to_owned(), budget, basis: Basis::Runs, pick, rivals, left_out });
    }
    let factor = budget.amount / most;
    if let Some((pick, rivals, left_out)) = asked.by_fits(&choices, &budget, normals) {
        return Ok(Advice { metric: metric.to_owned(), budget, basis: Basis::Fits { factor }, pick, rivals, left_out });
    }
    let (pick, rivals, left_out) = asked.by_runs(&choices, most);
    let basis = Basis::LargestRuns { factor, most };
    Ok(Advice { metric: metric.to_owned(), budget, basis, pick, rivals, left_out })
}

/// The choices among cells, in the order of the cells. Where amounts alone vary, every cell is a choice.
fn choices(cells: &[Costed]) -> Vec<Choice<'_>> {
    let is_choice = |path: &str| !AMOUNTS.iter().any(|amount| path == *amount || path.starts_with(&format!("{amount}.")));
    let group = |is_kept: &dyn Fn(&str) -> bool| {
        let mut found: Vec<Choice<'_>> = Vec::new();
        let mut known: BTreeMap<Vec<(String, String)>, usize> = BTreeMap::new();
        for cell in cells {
            let labels: Vec<(String, String)> = cell.labels.iter().filter(|(path, _)| is_kept(path)).cloned().collect();
            let next = found.len();
            let idx = *known.entry(labels.clone()).or_insert(next);
            if idx == next {
                found.push(Choice { labels, cells: Vec::new() });
            }
            found[idx].cells.push(cell);
        }
        found
    };
    let by_choice = group(&is_choice);
    if by_choice.len() > 1 { by_choice } else { group(&|_| true) }
}

/// Pick, rivals, and what is left out.
type Ranked = (Pick, Vec<Rival>, Vec<(Vec<(String, String)>, String)>);

/// What is compared and what is known of its spread.
struct Asked<'a> {
    metric: &'a str,
    pool: Pool,
}

/// A choice at a budget.
struct At<'a> {
    labels: Vec<(String, String)>,
    sum: Sum<'a>,
    ends_at: Option<f64>,
}

impl Asked<'_> {
    /// Cells of a choice that are the best at their cost, by cost.
    fn best<'a>(&self, choice: &Choice<'a>) -> Vec<&'a Costed> {
        let values: Vec<(f64, f64)> = choice.cells.iter().map(|cell| (cell.cost, cell.measure.mean())).collect();
        best_at_each_cost(&values).into_iter().map(|idx| choice.cells[idx]).collect()
    }

    /// The value of a choice at a cost; else what its runs cost at least.
    fn at<'a>(&self, choice: &Choice<'a>, amount: f64) -> Result<At<'a>, f64> {
        let best = self.best(choice);
        let is_within = |cell: &&&Costed| cell.cost <= amount * (1.0 + NEAR);
        let within = best.iter().filter(is_within).count();
        let Some(last) = within.checked_sub(1).map(|idx| best[idx]) else { return Err(best[0].cost) };
        let most = choice.cells.iter().map(|cell| cell.cost).fold(0.0, f64::max);
        let sum = match best.get(within) {
            Some(next) if last.cost < amount * (1.0 - NEAR) => {
                let share = libm::log(amount / last.cost) / libm::log(next.cost / last.cost);
                vec![(1.0 - share, last), (share, *next)]
            }
            _ => vec![(1.0, last)],
        };
        let ends_at = Some(most).filter(|most| *most < amount * (1.0 - NEAR));
        Ok(At { labels: choice.labels.clone(), sum, ends_at })
    }

    /// The interval of a value: of one cell what claims have; between two cells, which ascend, from the lower end of the first to the
    /// upper end of the second.
    fn interval(&self, sum: &Sum<'_>) -> Option<[f64; 2]> {
        let of = |cell: &Costed| Versus::of(&vec![(1.0, cell)], &Vec::new(), self.metric, &self.pool).interval();
        let ends: Option<Vec<[f64; 2]>> = sum.iter().map(|(_, cell)| of(cell)).collect();
        ends.and_then(|ends| Some([ends.first()?[0], ends.last()?[1]]))
    }

    /// Whether a lead is decided at the first cells of two sums and at the last ones; `None` where both are single cells.
    fn holds_at_ends(&self, best: &Sum<'_>, rival: &Sum<'_>) -> Option<bool> {
        let is_ahead = |(ours, theirs): (&Costed, &Costed)| {
            let versus = Versus::of(&vec![(1.0, ours)], &vec![(1.0, theirs)], self.metric, &self.pool);
            versus.difference > 0.0 && versus.is_decided()
        };
        let [(_, ours), .., (_, our_last)] = best.as_slice() else {
            let ((_, ours), [(_, first), .., (_, last)]) = (best.first()?, rival.as_slice()) else { return None };
            return Some(is_ahead((ours, first)) && is_ahead((ours, last)));
        };
        let ((_, theirs), (_, their_last)) = (rival.first()?, rival.last()?);
        Some(is_ahead((ours, theirs)) && is_ahead((our_last, their_last)))
    }

    /// Ranks choices by what they come to at a cost that some run reaches.
    fn by_runs(&self, choices: &[Choice<'_>], amount: f64) -> Ranked {
        let (mut found, mut left_out) = (Vec::new(), Vec::new());
        for choice in choices {
            match self.at(choice, amount) {
                Ok(at) => found.push(at),
                Err(least) => left_out.push((choice.labels.clone(), format!("its runs cost {} or more", short(least)))),
            }
        }
        found.sort_by(|a, b| value(&b.sum).total_cmp(&value(&a.sum)));
        let mut found = found.into_iter();
        let best = found.next().expect("a cell costs no more than the budget");
        let rivals = found.map(|rival| {
            let versus = Versus::of(&best.sum, &rival.sum, self.metric, &self.pool);
            let (value, interval) = (value(&rival.sum), self.interval(&rival.sum));
            let holds_at_ends = self.holds_at_ends(&best.sum, &rival.sum);
            Rival { labels: rival.labels.clone(), value, interval, holds_at_ends, versus, ends_at: rival.ends_at }
        });
        let rivals = rivals.collect();
        let pick = Pick {
            labels: best.labels.clone(),
            value: value(&best.sum),
            interval: self.interval(&best.sum),
            cells: best.sum.iter().map(|(weight, cell)| (*weight, (*cell).clone())).collect(),
            fit: None,
            ends_at: best.ends_at,
        };
        (pick, rivals, left_out)
    }

    /// Ranks choices by what their fits say beyond all runs; `None` where no choice has a fit.
    fn by_fits(&self, choices: &[Choice<'_>], budget: &Budget, normals: Normals<'_>) -> Option<Ranked> {
        let shape = Shape { against: vec![budget.name.clone()], is_loss: false };
        let at = [budget.amount];
        let (mut found, mut left_out) = (Vec::new(), Vec::new());
        for (choice, first) in choices.iter().zip((0..).map(|idx: u32| u32::MAX - idx)) {
            let best = self.best(choice);
            let cell = |cell: &&Costed| CurveCell {
                labels: Vec::new(),
                at: vec![cell.cost],
                measure: cell.measure.clone(),
                is_held_out: false,
            };
            let cells: Vec<CurveCell> = best.iter().map(cell).collect();
            // Choices have the items in common and seeds of their own.
            let of_choice = |draw: u64, stream: u32| normals(draw, if stream == 0 { first } else { stream });
            match fit_cells(&shape, Vec::new(), &cells, &of_choice).found {
                Ok(fit) => found.push((choice, best, shape.value(fit.curve.at(&at)), fit)),
                Err(refusal) => left_out.push((choice.labels.clone(), format!("no fit: {refusal}"))),
            }
        }
        found.sort_by(|a, b| b.2.total_cmp(&a.2));
        let mut found = found.into_iter();
        let (choice, cells, predicted, fit) = found.next()?;
        let interval = |fit: &Found| {
            let draws = || fit.draws.iter().map(|curve| shape.value(curve.at(&at))).collect();
            (!fit.draws.is_empty()).then(|| super::fits::interval(draws()))
        };
        let rivals = found.map(|(rival, _, value, other)| {
            let difference = predicted - value;
            let half_width = match !fit.draws.is_empty() && !other.draws.is_empty() {
                false => Err("a fit has no interval".to_owned()),
                true => {
                    let ahead = |(ours, theirs): (&super::fits::Curve, &super::fits::Curve)| theirs.at(&at) - ours.at(&at);
                    let draws = fit.draws.iter().zip(&other.draws).map(ahead).collect();
                    Ok(half_width(difference, super::fits::interval(draws)))
                }
            };
            let knows_items = fit.note.is_none() && other.note.is_none();
            let versus = Versus { difference, half_width, knows_items, needs: None };
            let (labels, interval) = (rival.labels.clone(), interval(&other));
            Rival { labels, value, interval, holds_at_ends: None, versus, ends_at: None }
        });
        let rivals = rivals.collect();
        let interval = interval(&fit);
        let cells = cells.into_iter().map(|cell| (0.0, cell.clone())).collect();
        let pick = Pick { labels: choice.labels.clone(), value: predicted, interval, cells, fit: Some(fit), ends_at: None };
        Some((pick, rivals, left_out))
    }
}

/// The longer side of an interval around a difference.
fn half_width(difference: f64, [low, high]: [f64; 2]) -> f64 {
    (difference - low).max(high - difference).max(0.0)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
