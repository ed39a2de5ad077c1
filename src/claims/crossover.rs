//! The `crossover` test: one side leads at first and the other later.
//!
//! Invariant: one comparison a pair of operands, decided at both ends. It is true where `first` leads clearly at the lowest level and
//! `later` at the highest, false where an end clearly says the opposite; a level without a value leaves it missing. A lead that
//! clearly changes back and forth between leaves it open.

use super::estimate::{Decision, Estimate, Evidence, SLACK, above_zero};
use super::operand::{Context, expand};
use super::sheet::Sheet;
use super::statement::{CrossoverSpec, Operand};
use super::verdict::{Answer, Meets};
use super::wording::{describe, prefix};
use crate::tables::{Label, short};

/// What `first` is above `later` at a level.
struct Lead {
    label: Label,
    difference: Estimate,
    decision: Decision,
}

pub(super) fn crossover(spec: &CrossoverSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let laters = expand(&spec.later, context.frame);
    for first in expand(&spec.first, context.frame) {
        for later in &laters {
            let (leads, unread) = leads(spec, &first, later, context, sheet);
            let text = sentence(spec, &first, later, (&leads, &unread), context);
            match (leads.as_slice(), unread.first()) {
                ([lowest, .., highest], None) => judge(text, &leads, (lowest, highest), context, sheet),
                (_, Some((_, reason))) => sheet.push_answer(text, Answer::Missing, Some(reason.clone())),
                _ => sheet.push_answer(text, Answer::Missing, Some("a crossover needs two levels".to_owned())),
            }
        }
    }
}

/// Leads by level, and levels without a value with the reason.
fn leads(
    spec: &CrossoverSpec,
    first: &Operand,
    later: &Operand,
    context: &Context<'_>,
    sheet: &mut Sheet,
) -> (Vec<Lead>, Vec<(Label, String)>) {
    let (mut leads, mut unread) = (Vec::new(), Vec::new());
    for label in context.frame.labels(&spec.along, &spec.over) {
        let here = context.with(&spec.along, &label);
        match (here.evaluate(first), here.evaluate(later)) {
            (Ok(a), Ok(b)) => {
                let difference = a.minus(&b, context.rules);
                let decision = above_zero(&difference, context.frame, context.rules);
                leads.push(Lead { label, difference, decision });
            }
            (Err(gap), _) | (_, Err(gap)) => {
                sheet.note(&gap);
                unread.push((label, gap.reason));
            }
        }
    }
    (leads, unread)
}

/// True with the larger p of both ends; false with twice the smaller p of the opposites.
fn judge(text: String, leads: &[Lead], (lowest, highest): (&Lead, &Lead), context: &Context<'_>, sheet: &mut Sheet) {
    let (low, high) = (&lowest.decision, &highest.decision);
    let clear: Vec<Answer> = leads.iter().map(|lead| lead.decision.answer).filter(|answer| *answer != Answer::Tie).collect();
    let changes = clear.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let evidence = low.evidence.zip(high.evidence).map(|(low, high)| Evidence {
        p: low.p.max(high.p_against),
        p_against: (2.0 * low.p_against.min(high.p)).min(1.0),
        needs: None,
        knows_items: low.knows_items && high.knows_items,
    });
    let is_refuted = low.answer == Answer::False || high.answer == Answer::True;
    let (answer, why) = match (low.answer, high.answer) {
        (Answer::True, Answer::False) if changes == 1 => (Answer::True, None),
        (Answer::True, Answer::False) => (Answer::Tie, Some(format!("the lead changes {changes} times"))),
        _ if is_refuted && evidence.zip(context.rules.tail()).is_none_or(|(evidence, tail)| evidence.p_against <= tail) => {
            (Answer::False, None)
        }
        _ => (Answer::Tie, None),
    };
    let reason = why.or_else(|| leads.iter().find_map(|lead| lead.decision.band.as_ref().err().cloned()));
    let leans = low.difference > SLACK && high.difference < -SLACK && changes < 2;
    let meets = position(leads, context).filter(|_| leans);
    let text = match meets {
        Some(meets) => format!("{text}; {}", words(meets)),
        None => text,
    };
    sheet.push_tested(text, answer, reason, leans, evidence);
    if let Some(comparison) = sheet.comparisons.last_mut() {
        comparison.meets = meets;
    }
}

fn words(Meets { at, low, high }: Meets) -> String {
    let end = |amount: Option<f64>, open: &str| amount.map_or(open.to_owned(), short);
    format!("they meet at {}, between {} and {}", short(at), end(low, "below the lowest"), end(high, "above the highest"))
}

/// Steps into which the stretch between two levels is cut, and halvings of the step in which an end of the interval lies.
const STEPS: u32 = 4;
const HALVINGS: u32 = 14;

/// Where the difference is zero, and between which positions it is not clearly above or below: linear between levels in the logarithm
/// of their amounts. `None` where levels are no ascending amounts above zero, or the lead is not known somewhere.
fn position(leads: &[Lead], context: &Context<'_>) -> Option<Meets> {
    let amounts: Vec<f64> = leads.iter().map(|lead| lead.label.number().filter(|amount| *amount > 0.0)).collect::<Option<_>>()?;
    if amounts.windows(2).any(|pair| pair[1] <= pair[0]) {
        return None;
    }
    // A place is the idx of a level and the share of the way to the next.
    let at = |place: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place lies within the levels")]
        let level_idx = (place.floor() as usize).min(leads.len() - 2);
        #[expect(clippy::cast_precision_loss, reason = "a number of levels")]
        let share = place - level_idx as f64;
        (level_idx, share)
    };
    let difference = |place: f64| {
        let (level_idx, share) = at(place);
        Estimate::between(&leads[level_idx].difference, &leads[level_idx + 1].difference, share, None, context.rules)
    };
    let amount = |place: f64| {
        let (level_idx, share) = at(place);
        (amounts[level_idx].ln() * (1.0 - share) + amounts[level_idx + 1].ln() * share).exp()
    };
    let is_open = |place: f64| {
        let known = difference(place).known(context.frame, context.rules).ok()?;
        Some(known.value.abs() <= known.half_width())
    };
    let steps = STEPS * u32::try_from(leads.len() - 1).ok()?;
    let places: Vec<f64> = (0..=steps).map(|step| f64::from(step) / f64::from(STEPS)).collect();
    let zero = places.windows(2).find(|pair| difference(pair[0]).value > 0.0 && difference(pair[1]).value <= 0.0)?;
    let (a, b) = (difference(zero[0]).value, difference(zero[1]).value);
    let zero = zero[0] + (zero[1] - zero[0]) * a / (a - b);
    let open: Vec<bool> = places.iter().map(|place| is_open(*place)).collect::<Option<_>>()?;
    // The place where openness changes between two neighbours.
    let edge = |mut inside: f64, mut outside: f64| {
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(inside, outside);
            if is_open(middle)? { inside = middle } else { outside = middle }
        }
        Some(f64::midpoint(inside, outside))
    };
    let low = match open.iter().position(|open| *open) {
        Some(0) => None,
        Some(idx) => Some(edge(places[idx], places[idx - 1])?),
        None => Some(zero),
    };
    let high = match open.iter().rposition(|open| *open) {
        Some(idx) if idx + 1 == open.len() => None,
        Some(idx) => Some(edge(places[idx], places[idx + 1])?),
        None => Some(zero),
    };
    Some(Meets { at: amount(zero), low: low.map(amount), high: high.map(amount) })
}

fn sentence(
    spec: &CrossoverSpec,
    first: &Operand,
    later: &Operand,
    (leads, unread): (&[Lead], &[(Label, String)]),
    context: &Context<'_>,
) -> String {
    let listed = |labels: Vec<&str>| if labels.is_empty() { "nowhere".to_owned() } else { labels.join(", ") };
    let at = |answer| listed(leads.iter().filter(|lead| lead.decision.answer == answer).map(|lead| lead.label.as_str()).collect());
    let (first, later, along) = (describe(first, context), describe(later, context), &spec.along);
    let (ahead, behind, level) = (at(Answer::True), at(Answer::False), at(Answer::Tie));
    let unread = match unread {
        [] => String::new(),
        unread => format!("; no value at {}", listed(unread.iter().map(|(label, _)| label.as_str()).collect())),
    };
    format!("{}along {along}, {first} leads at {ahead}; {later} leads at {behind}; level at {level}{unread}", prefix(context))
}
