//! Claims to verdicts.
//!
//! Owns [`judge`]. Input: statements and a source of cells. Invariant: pure; comparisons in the order of the statement; a
//! comparison that cannot be made is counted as missing.

use std::collections::BTreeSet;

use super::crossover::crossover;
use super::estimate::{self, Decision, Rules};
use super::fit::fit;
use super::frame::{Frame, Place};
use super::operand::{Context, expand, product};
use super::sheet::Sheet;
use super::source::{CellRow, CellSource};
use super::statement::{
    AtMostSpec, BestSpec, ClaimSpec, Columns, CrossoverSpec, GreaterSpec, Operand, RisesSpec, Selection, TestSpec,
};
use super::validate::named_columns;
use super::verdict::{Answer, Verdict};
use super::wording::{self, Side, describe, prefix};
use crate::tables::{Label, NONE, OneOrMany};

/// Judges every claim on the cells of a source.
#[must_use]
pub fn judge(claims: &[ClaimSpec], source: &dyn CellSource) -> Vec<Verdict> {
    claims.iter().map(|claim| judge_one(claim, source)).collect()
}

fn judge_one(claim: &ClaimSpec, source: &dyn CellSource) -> Verdict {
    let named = named_columns(claim);
    let rows = source.rows(&claim.cells, &named);
    let why_none = if rows.is_empty() { source.why_none(&named) } else { None };
    let frame = frame_of(claim, rows, &named);
    let rules = Rules::of(claim);
    let mut sheet = Sheet::default();
    let mut has_data = vec![false; claim.test.0.len()];
    let positions: Vec<Option<f64>> = if claim.at.is_empty() { vec![None] } else { claim.at.iter().copied().map(Some).collect() };
    for bound in product(&claim.each, &frame) {
        for &at in &positions {
            let context = Context { frame: &frame, rules: &rules, defaults: &claim.defaults, bound: bound.clone(), at };
            for (test, has_data) in claim.test.iter().zip(&mut has_data) {
                let before = sheet.comparisons.len();
                run_test(test, &context, &mut sheet);
                *has_data |= sheet.comparisons[before..].iter().any(|comparison| comparison.outcome != Answer::Missing);
            }
        }
    }
    if claim.requires_every_test && has_data.contains(&false) {
        sheet.comparisons.iter_mut().for_each(|comparison| comparison.outcome = Answer::Missing);
    }
    let is_unasked = rules.confidence().is_none() && !frame.pool().is_empty();
    let note = why_none.or_else(|| is_unasked.then(|| UNASKED.to_owned()));
    Verdict::new(claim, sheet.comparisons, sheet.ambiguous.into_iter().collect(), note)
}

/// What a verdict on runs says that asks for no confidence.
const UNASKED: &str = "no confidence is asked for: said of these runs, not of other seeds";

/// The claim's rows: those that `where` keeps and that have the defaults of columns which nothing in the claim names.
fn frame_of(claim: &ClaimSpec, rows: Vec<CellRow>, named: &BTreeSet<&str>) -> Frame {
    let kept = |row: &CellRow| {
        let filter = claim.cells.filter.iter().flatten();
        filter.into_iter().all(|(column, selection)| row.labels.get(column).is_some_and(|label| picks(selection, label)))
            && claim
                .defaults
                .iter()
                .filter(|(column, _)| !named.contains(column.as_str()))
                .all(|(column, label)| row.labels.get(column).is_none_or(|have| label.names(have)))
    };
    Frame::new(rows, kept)
}

/// Whether a label is picked, also the empty one of a row that does not have the axis.
fn picks(selection: &Selection, label: &str) -> bool {
    selection.picks(label) || label.is_empty() && selection.picks(NONE)
}

fn run_test(test: &TestSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let each = match test {
        TestSpec::Greater(GreaterSpec { each, .. })
        | TestSpec::AtMost(AtMostSpec { each, .. })
        | TestSpec::Rises(RisesSpec { each, .. })
        | TestSpec::Best(BestSpec { each, .. })
        | TestSpec::Crossover(CrossoverSpec { each, .. }) => each,
        TestSpec::Fit(spec) => &spec.each,
    };
    if let TestSpec::Greater(spec @ GreaterSpec { in_more_than: Some(share), .. }) = test {
        return counted(spec, share, context, sheet);
    }
    for here in places(each, context) {
        match test {
            TestSpec::Greater(spec) => greater(spec, &here, sheet),
            TestSpec::AtMost(spec) => limited(spec, &here, sheet),
            TestSpec::Rises(spec) => rises(spec, &here, sheet),
            TestSpec::Best(spec) => best(spec, &here, sheet),
            TestSpec::Crossover(spec) => crossover(spec, &here, sheet),
            TestSpec::Fit(spec) => fit(spec, &here, sheet),
        }
    }
}

fn places<'a>(each: &Columns, context: &Context<'a>) -> Vec<Context<'a>> {
    let bind = |more: Place| {
        let mut here = context.clone();
        here.bound.extend(more);
        here
    };
    product(each, context.frame).into_iter().map(bind).collect()
}

fn expand_all(operands: &OneOrMany<Operand>, context: &Context<'_>) -> Vec<Operand> {
    operands.iter().flat_map(|operand| expand(operand, context.frame)).collect()
}

fn side(operand: &Operand, context: &Context<'_>) -> Side {
    (describe(operand, context), context.evaluate(operand))
}

/// `left > right` by more than the band.
fn compare(context: &Context<'_>, left: &Side, right: &Side, sheet: &mut Sheet) {
    let text = wording::above(context, left, right);
    match (&left.1, &right.1) {
        (Ok(a), Ok(b)) => sheet.push(text, a.value, b.value, estimate::greater(a, b, context.frame, context.rules)),
        (Err(gap), _) | (_, Err(gap)) => sheet.push_missing(text, gap),
    }
}

fn greater(spec: &GreaterSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let sides = |operands| expand_all(operands, context).iter().map(|operand| side(operand, context)).collect::<Vec<_>>();
    let rights = sides(&spec.right);
    for left in sides(&spec.left) {
        for right in &rights {
            compare(context, &left, right, sheet);
        }
    }
}

/// `greater` in more than a share of the places: one comparison, in which ties and missing values speak for neither side.
#[expect(clippy::cast_precision_loss, reason = "numbers of comparisons")]
fn counted(spec: &GreaterSpec, share: &Label, context: &Context<'_>, sheet: &mut Sheet) {
    let mut inner = Sheet::default();
    for here in places(&spec.each, context) {
        greater(spec, &here, &mut inner);
    }
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
        return sheet.push_answer(text, Answer::Missing, reason);
    }
    let (left, right) = (yes as f64, share.number().unwrap_or(f64::NAN) * total as f64);
    let open = (tie + missing) as f64;
    let answer = match () {
        () if left > right => Answer::True,
        () if left + open > right => Answer::Tie,
        () => Answer::False,
    };
    sheet.push(text, left, right, Decision { difference: left - right, band: Ok(open), answer, leans: left > right });
}

fn limited(spec: &AtMostSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let limits: Vec<Side> = expand(&spec.limit, context.frame).iter().map(|limit| side(limit, context)).collect();
    for value in expand_all(&spec.value, context) {
        let value = side(&value, context);
        for limit in &limits {
            let text = wording::at_most(context, &value, limit);
            match (&value.1, &limit.1) {
                (Ok(a), Ok(b)) => sheet.push(text, a.value, b.value, estimate::at_most(a, b, context.frame, context.rules)),
                (Err(gap), _) | (_, Err(gap)) => sheet.push_missing(text, gap),
            }
        }
    }
}

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

fn rises(spec: &RisesSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let labels = context.frame.labels(&spec.along, &spec.over);
    for pair in labels.windows(2) {
        let lower = sides_along(&spec.along, &pair[0], &spec.of, context);
        let upper = sides_along(&spec.along, &pair[1], &spec.of, context);
        for (before, after) in lower.iter().zip(&upper) {
            compare(context, after, before, sheet);
        }
    }
}

fn best(spec: &BestSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let champions = sides_along(&spec.along, &spec.is, &spec.of, context);
    let others = context.frame.labels(&spec.along, &spec.among);
    for other in others.iter().filter(|label| !label.names(spec.is.as_str())) {
        for (champion, rival) in champions.iter().zip(&sides_along(&spec.along, other, &spec.of, context)) {
            let (left, right) = if spec.lowest { (rival, champion) } else { (champion, rival) };
            compare(context, left, right, sheet);
        }
    }
}
