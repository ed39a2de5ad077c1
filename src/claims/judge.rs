//! Claims to verdicts.
//!
//! Owns [`judge`]. Input: statements and a source of cells. Invariant: pure; comparisons in the order of the statement; a
//! comparison that cannot be made is counted as missing.

use std::collections::BTreeSet;

use super::compare::{counted, equal, greater, limited};
use super::crossover::crossover;
use super::estimate::Rules;
use super::fit::fit;
use super::frame::{Frame, Place};
use super::operand::{Context, product};
use super::orders::{best, rises, trend};
use super::sheet::Sheet;
use super::source::{CellRow, CellSource};
use super::statement::{
    AtMostSpec, BestSpec, ClaimSpec, Columns, CrossoverSpec, EqualSpec, GreaterSpec, RisesSpec, Selection, TestSpec, TrendSpec,
};
use super::validate::named_columns;
use super::verdict::{Answer, Verdict};
use crate::tables::NONE;

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
    let is_unasked = rules.tail().is_none() && !frame.pool().is_empty();
    let said = [(is_unasked, UNASKED), (sheet.lacks_items, THESE_ITEMS)];
    let said = said.into_iter().filter(|(is_so, _)| *is_so).map(|(_, note)| note.to_owned());
    Verdict::new(claim, sheet.comparisons, sheet.ambiguous.into_iter().collect(), why_none.into_iter().chain(said).collect())
}

/// What a verdict on runs says that asks for no confidence.
const UNASKED: &str = "no confidence is asked for: said of these runs, not of other seeds";

/// What a verdict on runs says whose outcomes by item are not known.
const THESE_ITEMS: &str = "on these evaluation sets: what their items came to is not recorded, so other items are not spoken of";

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
        | TestSpec::Equal(EqualSpec { each, .. })
        | TestSpec::Rises(RisesSpec { each, .. })
        | TestSpec::Trend(TrendSpec { each, .. })
        | TestSpec::Best(BestSpec { each, .. })
        | TestSpec::Crossover(CrossoverSpec { each, .. }) => each,
        TestSpec::Fit(spec) => &spec.each,
    };
    let places = places(each, context);
    if let TestSpec::Greater(spec @ GreaterSpec { in_more_than: Some(share), .. }) = test {
        return counted(spec, share, &places, context, sheet);
    }
    for here in places {
        match test {
            TestSpec::Greater(spec) => greater(spec, &here, sheet),
            TestSpec::AtMost(spec) => limited(spec, &here, sheet),
            TestSpec::Equal(spec) => equal(spec, &here, sheet),
            TestSpec::Trend(spec) => trend(spec, &here, sheet),
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
