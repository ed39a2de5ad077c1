//! Claims to verdicts.
//!
//! Owns [`judge`]. Input: statements and a source of cells. Invariant: pure; comparisons in the order of the statement; a
//! comparison that cannot be made is counted as missing.

use std::collections::BTreeSet;

use super::estimate::{Estimate, Rules, at_most, decide, difference};
use super::fit::fit;
use super::frame::{Bound, Frame};
use super::operand::{Context, Gap, describe, expand, name_of, product};
use super::source::{CellRow, CellSource};
use super::statement::{
    AtMostSpec, BestSpec, ClaimSpec, Columns, CrossoverSpec, GreaterSpec, Operand, RisesSpec, Selection, TestSpec,
};
use super::validate::named_columns;
use super::verdict::{Comparison, Outcome, Verdict, short};
use crate::tables::{Label, NONE, OneOrMany};

/// Judges every claim on the cells of a source.
#[must_use]
pub fn judge(claims: &[ClaimSpec], source: &dyn CellSource) -> Vec<Verdict> {
    claims.iter().map(|claim| judge_one(claim, source)).collect()
}

fn judge_one(claim: &ClaimSpec, source: &dyn CellSource) -> Verdict {
    let named = named_columns(claim);
    let frame = frame_of(claim, source, &named);
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
                *has_data |= sheet.comparisons[before..].iter().any(|comparison| comparison.outcome != Outcome::Missing);
            }
        }
    }
    if claim.requires_every_test && has_data.contains(&false) {
        sheet.comparisons.iter_mut().for_each(|comparison| comparison.outcome = Outcome::Missing);
    }
    let mut verdict = Verdict::new(&claim.id, &claim.says, claim.expect, sheet.comparisons);
    verdict.ambiguous = sheet.ambiguous.into_iter().collect();
    verdict
}

/// The claim's rows: those that `where` keeps and that have the defaults of columns which nothing in the claim names.
fn frame_of(claim: &ClaimSpec, source: &dyn CellSource, named: &BTreeSet<&str>) -> Frame {
    let kept = |row: &CellRow| {
        let filter = claim.cells.filter.iter().flatten();
        filter.into_iter().all(|(column, selection)| row.labels.get(column).is_some_and(|label| picks(selection, label)))
            && claim
                .defaults
                .iter()
                .filter(|(column, _)| !named.contains(column.as_str()))
                .all(|(column, label)| row.labels.get(column).is_none_or(|have| label.names(have)))
    };
    Frame::new(source.rows(&claim.cells, named), kept)
}

/// Whether a label is picked, also the empty one of a row that does not have the axis.
fn picks(selection: &Selection, label: &str) -> bool {
    selection.picks(label) || label.is_empty() && selection.picks(NONE)
}

/// Where comparisons are written down.
#[derive(Default)]
pub(super) struct Sheet {
    pub comparisons: Vec<Comparison>,
    pub ambiguous: BTreeSet<String>,
}

impl Sheet {
    pub fn push_missing(&mut self, text: &str, gap: &Gap) {
        if gap.ambiguous {
            self.ambiguous.insert(gap.reason.clone());
        }
        let text = format!("{text}: {}", gap.reason);
        self.comparisons.push(Comparison {
            left: None,
            right: None,
            difference: None,
            band: None,
            outcome: Outcome::Missing,
            text,
        });
    }
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
    let bind = |more: Bound| {
        let mut here = context.clone();
        here.bound.extend(more);
        here
    };
    product(each, context.frame).into_iter().map(bind).collect()
}

fn expand_all(operands: &OneOrMany<Operand>, context: &Context<'_>) -> Vec<Operand> {
    operands.iter().flat_map(|operand| expand(operand, context.frame)).collect()
}

/// One side of a comparison: what it is called and its number.
type Side = (String, Result<Estimate, Gap>);

fn side(operand: &Operand, context: &Context<'_>) -> Side {
    (describe(operand), context.evaluate(operand))
}

/// `place: left name left value relation right name right value`.
fn wording(context: &Context<'_>, left: &Side, relation: &str, right: &Side) -> String {
    let words = |(name, number): &Side| match (name.as_str(), number) {
        ("", Ok(number)) => short(number.value),
        ("", Err(_)) => "?".to_owned(),
        (name, Ok(number)) => format!("{name}: {}", short(number.value)),
        (name, Err(_)) => format!("{name}: ?"),
    };
    let text = format!("{} {relation} {}", words(left), words(right));
    match place(context) {
        place if place.is_empty() => text,
        place => format!("[{place}] {text}"),
    }
}

/// The columns bound by `each`, and the position read at.
pub(super) fn place(context: &Context<'_>) -> String {
    let mut parts = if context.bound.is_empty() { Vec::new() } else { vec![name_of(&context.bound)] };
    parts.extend(context.at.map(|at| format!("x={}", short(at))));
    parts.join(", ")
}

/// `left > right` by more than the band.
fn compare(context: &Context<'_>, left: &Side, right: &Side, sheet: &mut Sheet) {
    let text = wording(context, left, ">", right);
    match (&left.1, &right.1) {
        (Ok(a), Ok(b)) => {
            let (difference, band) = difference(a, b, context.frame, context.rules);
            sheet.comparisons.push(Comparison {
                left: Some(a.value),
                right: Some(b.value),
                difference: Some(difference),
                band: band.is_finite().then_some(band),
                outcome: decide(difference, band),
                text,
            });
        }
        (Err(gap), _) | (_, Err(gap)) => sheet.push_missing(&text, gap),
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

/// `greater` in more than a share of the places: one comparison, in which ties speak for neither side.
#[expect(clippy::cast_precision_loss, reason = "numbers of comparisons")]
fn counted(spec: &GreaterSpec, share: &Label, context: &Context<'_>, sheet: &mut Sheet) {
    let mut inner = Sheet::default();
    for here in places(&spec.each, context) {
        greater(spec, &here, &mut inner);
    }
    sheet.ambiguous.append(&mut inner.ambiguous);
    let count = |outcome| inner.comparisons.iter().filter(|comparison| comparison.outcome == outcome).count();
    let (yes, tie, no, missing) = (count(Outcome::True), count(Outcome::Tie), count(Outcome::False), count(Outcome::Missing));
    let total = yes + tie + no;
    let text = format!("{yes} of {total} comparisons are true, {tie} tied, {missing} missing; more than {share} should be true");
    let needed = share.number().unwrap_or(f64::NAN) * total as f64;
    let outcome = match () {
        () if total == 0 => Outcome::Missing,
        () if yes as f64 > needed => Outcome::True,
        () if (yes + tie) as f64 > needed => Outcome::Tie,
        () => Outcome::False,
    };
    let (left, right) = (yes as f64, needed);
    let difference = (total > 0).then_some(left - right);
    sheet.comparisons.push(Comparison {
        left: (total > 0).then_some(left),
        right: (total > 0).then_some(right),
        difference,
        band: (total > 0).then_some(tie as f64),
        outcome,
        text,
    });
}

fn limited(spec: &AtMostSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let limits: Vec<Side> = expand(&spec.limit, context.frame).iter().map(|limit| side(limit, context)).collect();
    for value in expand_all(&spec.value, context) {
        let value = side(&value, context);
        for limit in &limits {
            let text = wording(context, &value, "<=", limit);
            match (&value.1, &limit.1) {
                (Ok(a), Ok(b)) => {
                    let (difference, band, outcome) = at_most(a, b, context.frame, context.rules);
                    let band = band.is_finite().then_some(band);
                    let (left, right, difference) = (Some(a.value), Some(b.value), Some(difference));
                    sheet.comparisons.push(Comparison { left, right, difference, band, outcome, text });
                }
                (Err(gap), _) | (_, Err(gap)) => sheet.push_missing(&text, gap),
            }
        }
    }
}

/// The operands of `of` at one label of `along`, named by that label.
fn sides_along(along: &str, label: &Label, of: &Operand, context: &Context<'_>) -> Vec<Side> {
    let here = context.with(along, label);
    let named = |operand: &Operand| {
        let (name, number) = side(operand, &here);
        (if name.is_empty() { format!("{along}={label}") } else { format!("{name} at {along}={label}") }, number)
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

/// One comparison a pair: clear leads of `first`, then clear leads of `later`, and at least one of each.
fn crossover(spec: &CrossoverSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let laters = expand(&spec.later, context.frame);
    for first in expand(&spec.first, context.frame) {
        for later in &laters {
            crossing(spec, &first, later, context, sheet);
        }
    }
}

fn crossing(spec: &CrossoverSpec, first: &Operand, later: &Operand, context: &Context<'_>, sheet: &mut Sheet) {
    let mut leads: Vec<(Label, Outcome)> = Vec::new();
    for label in context.frame.labels(&spec.along, &spec.over) {
        let here = context.with(&spec.along, &label);
        match (here.evaluate(first), here.evaluate(later)) {
            (Ok(a), Ok(b)) => {
                let (difference, band) = difference(&a, &b, context.frame, context.rules);
                leads.push((label, decide(difference, band)));
            }
            (Err(gap), _) | (_, Err(gap)) if gap.ambiguous => _ = sheet.ambiguous.insert(gap.reason),
            _ => {}
        }
    }
    let clear: Vec<Outcome> = leads.iter().map(|(_, lead)| *lead).filter(|lead| *lead != Outcome::Tie).collect();
    let changes = clear.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let outcome = match (leads.is_empty(), clear.first(), changes) {
        (true, _, _) => Outcome::Missing,
        (_, None, _) => Outcome::Tie,
        (_, Some(Outcome::True), 1) => Outcome::True,
        _ => Outcome::False,
    };
    let text = crossing_text(spec, first, later, &leads, &place(context));
    sheet.comparisons.push(Comparison { left: None, right: None, difference: None, band: None, outcome, text });
}

fn crossing_text(spec: &CrossoverSpec, first: &Operand, later: &Operand, leads: &[(Label, Outcome)], place: &str) -> String {
    let at = |outcome| {
        let labels: Vec<&str> = leads.iter().filter(|(_, lead)| *lead == outcome).map(|(label, _)| label.as_str()).collect();
        if labels.is_empty() { "nowhere".to_owned() } else { labels.join(", ") }
    };
    let prefix = if place.is_empty() { String::new() } else { format!("[{place}] ") };
    let (first, later, along) = (describe(first), describe(later), &spec.along);
    let (ahead, behind, level) = (at(Outcome::True), at(Outcome::False), at(Outcome::Tie));
    format!("{prefix}along {along}, {first} leads at {ahead}; {later} leads at {behind}; level at {level}")
}
