//! Tests of one number against another: `greater`, `at_most`, `equal`, and how many of several hold.
//!
//! Invariant: one comparison a pair of operands, in the order of the statement; a count is one comparison.

use super::estimate::{self, Decision, Estimate, Evidence};
use super::operand::{Context, Gap, expand};
use super::sheet::Sheet;
use super::statement::{AtMostSpec, EqualSpec, GreaterSpec, Operand};
use super::verdict::{Answer, Comparison};
use super::wording::{self, Side, describe, prefix};
use crate::tables::{Label, OneOrMany};

fn sides(operands: &OneOrMany<Operand>, context: &Context<'_>) -> Vec<Side> {
    let expanded = operands.iter().flat_map(|operand| expand(operand, context.frame));
    expanded.map(|operand| (describe(&operand, context), context.evaluate(&operand))).collect()
}

/// Writes down what `decide` makes of two numbers, or that one is missing.
fn push(sheet: &mut Sheet, text: String, (left, right): (&Side, &Side), decide: impl FnOnce(&Estimate, &Estimate) -> Decision) {
    match (&left.1, &right.1) {
        (Ok(a), Ok(b)) => sheet.push(text, a.value, b.value, decide(a, b)),
        (Err(gap), _) | (_, Err(gap)) => sheet.push_missing(text, gap),
    }
}

/// `left > right` by more than the band, or than a margin.
pub(super) fn compare(context: &Context<'_>, left: &Side, right: &Side, by: Option<f64>, sheet: &mut Sheet) {
    let text = wording::above(context, left, right, by);
    push(sheet, text, (left, right), |a, b| estimate::greater(a, b, by, context.frame, context.rules));
}

pub(super) fn greater(spec: &GreaterSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let rights = sides(&spec.right, context);
    for left in sides(&spec.left, context) {
        for right in &rights {
            compare(context, &left, right, spec.by, sheet);
        }
    }
}

pub(super) fn limited(spec: &AtMostSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let limits: Vec<Side> =
        expand(&spec.limit, context.frame).iter().map(|limit| (describe(limit, context), context.evaluate(limit))).collect();
    for value in sides(&spec.value, context) {
        for limit in &limits {
            let text = wording::at_most(context, &value, limit);
            push(sheet, text, (&value, limit), |a, b| estimate::at_most(a, b, context.frame, context.rules));
        }
    }
}

pub(super) fn equal(spec: &EqualSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let rights = sides(&spec.right, context);
    for left in sides(&spec.left, context) {
        for right in &rights {
            let text = wording::equal(context, &left, right, spec.within);
            push(sheet, text, (&left, right), |a, b| estimate::equal(a, b, spec.within, context.frame, context.rules));
        }
    }
}

/// `greater` in more than a share of the places: one comparison.
///
/// Of readings it is a count in which ties and missing values speak for neither side. Of runs it is a partial conjunction: that at
/// least u of k comparisons hold has p = (k - u + 1) times the u-th smallest of their p values.
///
/// **Source** Wang and Owen 2015 (Bonferroni's form). **Differs**: a difference within the tie band, or one that is missing, has
/// p = 1.
pub(super) fn counted(spec: &GreaterSpec, share: &Label, places: &[Context<'_>], context: &Context<'_>, sheet: &mut Sheet) {
    let mut inner = Sheet::default();
    places.iter().for_each(|here| greater(spec, here, &mut inner));
    sheet.ambiguous.append(&mut inner.ambiguous);
    let count = |answer| inner.comparisons.iter().filter(|comparison| comparison.outcome == answer).count();
    let (yes, tie, missing) = (count(Answer::True), count(Answer::Tie), count(Answer::Missing));
    let total = inner.comparisons.len();
    let text = format!(
        "{}{yes} of {total} comparisons are true, {tie} tied, {missing} missing; more than {share} should be true",
        prefix(context)
    );
    let reason = inner.comparisons.iter().find_map(|comparison| comparison.reason.clone());
    if missing == total {
        return sheet.push_missing(text, &Gap::missing(reason.unwrap_or_else(|| "there are no comparisons".to_owned())));
    }
    let share = share.number().unwrap_or(f64::NAN);
    match (context.rules.tail(), context.frame.pool().is_empty()) {
        (Some(tail), false) => {
            let (evidence, leans) = conjunction(&inner, share, context.rules.tie_band());
            let answer = match () {
                () if evidence.p <= tail => Answer::True,
                () if evidence.p_against <= tail => Answer::False,
                () => Answer::Tie,
            };
            sheet.push_tested(text, answer, reason, leans, Some(evidence));
        }
        _ => count_readings(text, share, [yes, tie + missing, total], sheet),
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of comparisons")]
fn count_readings(text: String, share: f64, [yes, open, total]: [usize; 3], sheet: &mut Sheet) {
    let (left, right, open) = (yes as f64, share * total as f64, open as f64);
    let answer = match () {
        () if left > right => Answer::True,
        () if left + open > right => Answer::Tie,
        () => Answer::False,
    };
    let decision = Decision { difference: left - right, band: Ok(open), answer, leans: left > right, evidence: None };
    sheet.push(text, left, right, decision);
}

/// What the comparisons say together of more than a share of them, and whether the differences by themselves lie so.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of comparisons")]
fn conjunction(inner: &Sheet, share: f64, tie_band: f64) -> (Evidence, bool) {
    let comparisons = &inner.comparisons;
    let k = comparisons.len();
    let wanted = ((share * k as f64).floor() as usize + 1).min(k);
    let p_of = |sign: f64, p: fn(&Comparison) -> Option<f64>| {
        let one = |comparison: &Comparison| {
            let is_clear = comparison.difference.is_some_and(|difference| sign * difference > tie_band);
            p(comparison).filter(|_| is_clear).unwrap_or(1.0)
        };
        let mut values: Vec<f64> = comparisons.iter().map(one).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let at_least = |values: &[f64], u: usize| ((k - u + 1) as f64 * values[u - 1]).min(1.0);
    let (p, against) = (p_of(1.0, |comparison| comparison.p), p_of(-1.0, |comparison| comparison.p_against));
    let leaning = comparisons.iter().filter(|comparison| comparison.leans).count();
    let evidence = Evidence {
        p: at_least(&p, wanted),
        p_against: at_least(&against, k - wanted + 1),
        needs: None,
        knows_items: !inner.lacks_items,
    };
    (evidence, leaning >= wanted)
}
