//! Tests along a column: `rises`, `trend` and `best`.
//!
//! Invariant: a missing cell is not stepped over; `trend` and `best: interior` are one comparison.

use super::compare::compare;
use super::estimate::{self, Decision, Estimate, Evidence, above_zero};
use super::operand::{Context, Gap, expand};
use super::sheet::Sheet;
use super::statement::{BestSpec, INTERIOR, Operand, RisesSpec, Selection, TrendSpec};
use super::stats::holm;
use super::verdict::Answer;
use super::wording::{Side, describe, prefix};
use crate::tables::{Label, short};

/// The operands of `of` at one label of `along`, named by that label.
fn sides_along(along: &str, label: &Label, of: &Operand, context: &Context<'_>) -> Vec<Side> {
    let here = context.with(along, label);
    let named = |operand: &Operand| {
        let name = match operand {
            Operand::Cell(columns) => {
                let mut columns = columns.clone();
                columns.insert(along.to_owned(), Selection::Values(vec![label.clone()]));
                describe(&Operand::Cell(columns), context)
            }
            Operand::Number(_) => String::new(),
            other => format!("{} at {along}={label}", describe(other, context)),
        };
        (name, here.evaluate(operand))
    };
    expand(of, context.frame).iter().map(named).collect()
}

/// Every operand of `of` with its numbers at the labels of `along`.
fn lines(along: &str, labels: &[Label], of: &Operand, context: &Context<'_>) -> Vec<(Operand, Vec<Side>)> {
    let at: Vec<Vec<Side>> = labels.iter().map(|label| sides_along(along, label, of, context)).collect();
    let operands = expand(of, context.frame).into_iter().enumerate();
    operands.map(|(idx, operand)| (operand, at.iter().map(|sides| sides[idx].clone()).collect())).collect()
}

pub(super) fn rises(spec: &RisesSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let labels = context.frame.labels(&spec.along, &spec.over);
    for pair in labels.windows(2) {
        let lower = sides_along(&spec.along, &pair[0], &spec.of, context);
        let upper = sides_along(&spec.along, &pair[1], &spec.of, context);
        for (before, after) in lower.iter().zip(&upper) {
            compare(context, after, before, None, sheet);
        }
    }
}

/// One contrast over all levels: weights k - (L + 1) / 2 at levels k = 1, .., L, in units of the rise from the first level to the
/// last.
#[expect(clippy::cast_precision_loss, reason = "numbers of levels")]
pub(super) fn trend(spec: &TrendSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let labels = context.frame.labels(&spec.along, &spec.over);
    for (operand, sides) in lines(&spec.along, &labels, &spec.of, context) {
        let what = format!("{}{} rises along {}", prefix(context), describe(&operand, context), spec.along);
        let estimates = match values(&sides) {
            Ok(estimates) if estimates.len() > 1 => estimates,
            Ok(_) => return sheet.push_missing(what, &Gap::missing("a trend needs two levels")),
            Err(gap) => {
                sheet.push_missing(what, gap);
                continue;
            }
        };
        let levels = estimates.len() as f64;
        let weight = |level_idx: usize| level_idx as f64 - (levels - 1.0) / 2.0;
        let squares: f64 = (0..estimates.len()).map(|level_idx| weight(level_idx).powi(2)).sum();
        let unit = (levels - 1.0) / squares;
        let terms = estimates.iter().enumerate().map(|(level_idx, estimate)| (unit * weight(level_idx), *estimate));
        let rise = Estimate::sum(terms, context.rules);
        let values: Vec<f64> = estimates.iter().map(|estimate| estimate.value).collect();
        let listed = values.iter().map(|value| short(*value)).collect::<Vec<_>>().join(", ");
        let text = format!("{what} ({listed}; Kendall's tau {})", short(tau(&values)));
        sheet.push(text, rise.value, 0.0, above_zero(&rise, context.frame, context.rules));
    }
}

/// Kendall's tau against the order of the levels: pairs that rise less pairs that fall, over all pairs.
#[expect(clippy::cast_precision_loss, reason = "numbers of levels")]
fn tau(values: &[f64]) -> f64 {
    let pairs = (0..values.len()).flat_map(|i| (i + 1..values.len()).map(move |j| (i, j)));
    let signs: Vec<f64> = pairs.map(|(i, j)| if values[j] == values[i] { 0.0 } else { (values[j] - values[i]).signum() }).collect();
    signs.iter().sum::<f64>() / signs.len() as f64
}

/// The numbers of sides, or the first gap.
fn values(sides: &[Side]) -> Result<Vec<&Estimate>, &Gap> {
    sides.iter().map(|(_, number)| number.as_ref()).collect()
}

pub(super) fn best(spec: &BestSpec, context: &Context<'_>, sheet: &mut Sheet) {
    if spec.is.as_str() == INTERIOR {
        return interior(spec, context, sheet);
    }
    let champions = sides_along(&spec.along, &spec.is, &spec.of, context);
    let others = context.frame.labels(&spec.along, &spec.among);
    for other in others.iter().filter(|label| !label.names(spec.is.as_str())) {
        for (champion, rival) in champions.iter().zip(&sides_along(&spec.along, other, &spec.of, context)) {
            let (left, right) = if spec.lowest { (rival, champion) } else { (champion, rival) };
            compare(context, left, right, None, sheet);
        }
    }
}

/// Some level between the first and the last beats both. Of a level, p is the larger of its two; of the levels together, by Holm. It
/// is false where one end beats every level between, with p twice that of the better end.
fn interior(spec: &BestSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let labels = context.frame.labels(&spec.along, &spec.among);
    for (operand, sides) in lines(&spec.along, &labels, &spec.of, context) {
        let relation = if spec.lowest { "below" } else { "above" };
        let what = format!(
            "{}{} at a level of {} between the first and the last is {relation} both",
            prefix(context),
            describe(&operand, context),
            spec.along
        );
        match values(&sides) {
            Err(gap) => sheet.push_missing(what, gap),
            Ok(estimates) => match estimates.as_slice() {
                [first, between @ .., last] if !between.is_empty() => {
                    push_interior(what, (*first, *last), between, spec.lowest, context, sheet);
                }
                _ => sheet.push_missing(what, &Gap::missing("a level between needs three levels")),
            },
        }
    }
}

/// What one level is to both ends.
struct Level {
    /// Its smaller lead.
    lead: f64,
    is_above_both: bool,
    /// The larger of its p values.
    p: f64,
}

fn push_interior(
    what: String,
    (first, last): (&Estimate, &Estimate),
    between: &[&Estimate],
    lowest: bool,
    context: &Context<'_>,
    sheet: &mut Sheet,
) {
    let lead = |level: &Estimate, end: &Estimate| {
        let (left, right) = if lowest { (end, level) } else { (level, end) };
        estimate::greater(left, right, None, context.frame, context.rules)
    };
    let leads: Vec<[Decision; 2]> = between.iter().map(|level| [lead(level, first), lead(level, last)]).collect();
    let level = |[a, b]: &[Decision; 2]| Level {
        lead: a.difference.min(b.difference),
        is_above_both: a.answer == Answer::True && b.answer == Answer::True,
        p: p_of(a, Answer::True).max(p_of(b, Answer::True)),
    };
    let levels: Vec<Level> = leads.iter().map(level).collect();
    let against = |end: usize| {
        let is_above_all = leads.iter().all(|ends| ends[end].answer == Answer::False);
        (is_above_all, leads.iter().map(|ends| p_of(&ends[end], Answer::False)).fold(0.0, f64::max))
    };
    let (by_first, by_last) = (against(0), against(1));
    let p_against = (2.0 * by_first.1.min(by_last.1)).min(1.0);
    let tail = context.rules.tail().unwrap_or(1.0);
    let stands = holm(&levels.iter().map(|level| level.p).collect::<Vec<_>>(), tail);
    let is_true = levels.iter().zip(stands).any(|(level, stands)| level.is_above_both && stands);
    let answer = match () {
        () if is_true => Answer::True,
        () if (by_first.0 || by_last.0) && p_against <= tail => Answer::False,
        () => Answer::Tie,
    };
    let best = levels.iter().map(|level| level.lead).fold(f64::NEG_INFINITY, f64::max);
    let reason = leads.iter().flatten().find_map(|decision| decision.band.as_ref().err().cloned());
    #[expect(clippy::cast_precision_loss, reason = "a number of levels")]
    let p = (levels.iter().map(|level| level.p).fold(1.0, f64::min) * levels.len() as f64).min(1.0);
    let of_runs = leads.iter().flatten().filter_map(|decision| decision.evidence);
    let evidence = of_runs.map(|evidence| evidence.knows_items).reduce(|a, b| a && b);
    let evidence = evidence.map(|knows_items| Evidence { p, p_against, needs: None, knows_items });
    let numbers: Vec<String> = [&[first], between, &[last]].concat().iter().map(|estimate| short(estimate.value)).collect();
    let text = format!("{what} ({}; the best by {})", numbers.join(", "), short(best));
    sheet.push_tested(text, answer, reason, best > 0.0, evidence);
}

/// The p of an answer; of readings, which have none, 0 or 1 as they say.
fn p_of(decision: &Decision, answer: Answer) -> f64 {
    match (&decision.evidence, answer) {
        (Some(evidence), Answer::False) => evidence.p_against,
        (Some(evidence), _) => evidence.p,
        (None, _) => f64::from(u8::from(decision.answer != answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tau_counts_pairs_that_rise_and_fall() {
        assert_eq!(tau(&[1.0, 2.0, 3.0]), 1.0);
        assert_eq!(tau(&[3.0, 1.0]), -1.0);
        // Pairs of 1 3 2 2: up, up, up, down, down, level.
        assert!((tau(&[1.0, 3.0, 2.0, 2.0]) - 1.0 / 6.0).abs() < 1e-12);
    }
}
