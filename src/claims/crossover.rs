//! The `crossover` test: one side leads at first and the other later.
//!
//! Invariant: one comparison a pair of operands. It is true where `first` leads clearly at the lowest level, `later` at the
//! highest, and the lead changes once; false where a clear lead says otherwise; a tie where no level says otherwise but an end is
//! not clear. A level without a value leaves it missing.

use super::estimate::greater;
use super::operand::{Context, expand};
use super::sheet::Sheet;
use super::statement::{CrossoverSpec, Operand};
use super::verdict::Answer;
use super::wording::{describe, prefix};
use crate::tables::Label;

/// Who leads at a level, and why nobody can be said to.
struct Lead {
    label: Label,
    answer: Answer,
    reason: Option<String>,
}

pub(super) fn crossover(spec: &CrossoverSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let laters = expand(&spec.later, context.frame);
    for first in expand(&spec.first, context.frame) {
        for later in &laters {
            let leads = leads(spec, &first, later, context, sheet);
            let reason = leads.iter().find_map(|lead| lead.reason.clone());
            sheet.push_answer(sentence(spec, &first, later, &leads, context), answer(&leads), reason);
        }
    }
}

fn leads(spec: &CrossoverSpec, first: &Operand, later: &Operand, context: &Context<'_>, sheet: &mut Sheet) -> Vec<Lead> {
    let mut leads = Vec::new();
    for label in context.frame.labels(&spec.along, &spec.over) {
        let here = context.with(&spec.along, &label);
        let (answer, reason) = match (here.evaluate(first), here.evaluate(later)) {
            (Ok(a), Ok(b)) => {
                let decision = greater(&a, &b, context.frame, context.rules);
                (decision.answer, decision.band.err())
            }
            (Err(gap), _) | (_, Err(gap)) => {
                sheet.note(&gap);
                (Answer::Missing, Some(gap.reason))
            }
        };
        leads.push(Lead { label, answer, reason });
    }
    leads
}

fn answer(leads: &[Lead]) -> Answer {
    let answers: Vec<Answer> = leads.iter().map(|lead| lead.answer).collect();
    let (Some(lowest), Some(highest)) = (answers.first(), answers.last()) else { return Answer::Missing };
    if answers.contains(&Answer::Missing) {
        return Answer::Missing;
    }
    let clear: Vec<Answer> = answers.iter().copied().filter(|answer| *answer != Answer::Tie).collect();
    let changes = clear.windows(2).filter(|pair| pair[0] != pair[1]).count();
    match (lowest, highest, changes) {
        (Answer::True, Answer::False, 1) => Answer::True,
        (Answer::False, ..) | (_, Answer::True, _) => Answer::False,
        // From `later` to `first`, or back and forth.
        (_, _, 2..) => Answer::False,
        (_, _, 1) if clear[0] == Answer::False => Answer::False,
        _ => Answer::Tie,
    }
}

fn sentence(spec: &CrossoverSpec, first: &Operand, later: &Operand, leads: &[Lead], context: &Context<'_>) -> String {
    let at = |answer| {
        let labels: Vec<&str> = leads.iter().filter(|lead| lead.answer == answer).map(|lead| lead.label.as_str()).collect();
        if labels.is_empty() { "nowhere".to_owned() } else { labels.join(", ") }
    };
    let (first, later, along) = (describe(first, context), describe(later, context), &spec.along);
    let (ahead, behind, level) = (at(Answer::True), at(Answer::False), at(Answer::Tie));
    let unread = match at(Answer::Missing) {
        none if none == "nowhere" => String::new(),
        labels => format!("; no value at {labels}"),
    };
    format!("{}along {along}, {first} leads at {ahead}; {later} leads at {behind}; level at {level}{unread}", prefix(context))
}
