//! Where the comparisons of a claim are written down.
//!
//! Owns [`Sheet`]. Invariant: a comparison that cannot be made is written too, with the reason.

use std::collections::BTreeSet;

use super::contrast::Needs;
use super::estimate::{Decision, Evidence};
use super::operand::Gap;
use super::verdict::{Answer, Comparison};

/// The comparisons of a claim, and the cells that it does not name clearly enough.
#[derive(Default)]
pub(super) struct Sheet {
    pub comparisons: Vec<Comparison>,
    pub ambiguous: BTreeSet<String>,
    /// Whether a comparison rests on runs whose outcomes by item are not known.
    pub lacks_items: bool,
}

impl Sheet {
    /// A comparison of two numbers.
    pub fn push(&mut self, text: String, left: f64, right: f64, decision: Decision) {
        let Decision { difference, band, answer, leans, evidence } = decision;
        let (band, reason) = match band {
            Ok(band) => (Some(band), None),
            Err(reason) => (None, Some(reason)),
        };
        let comparison = Comparison { band, reason, leans, ..Comparison::new(text, answer) };
        let (left, right, difference) = (Some(left), Some(right), Some(difference));
        self.add(Comparison { left, right, difference, ..comparison }, evidence);
    }

    fn add(&mut self, comparison: Comparison, evidence: Option<Evidence>) {
        let mut comparison = comparison;
        if let Some(Evidence { p, p_against, needs, knows_items }) = evidence {
            (comparison.p, comparison.p_against) = (Some(p), Some(p_against));
            self.lacks_items |= !knows_items;
            match needs.filter(|_| comparison.outcome == Answer::Tie) {
                Some(Needs::Seeds(seeds)) => comparison.seeds_needed = Some(seeds),
                Some(Needs::Items(items)) => comparison.items_needed = Some(items),
                None => {}
            }
        }
        self.comparisons.push(comparison);
    }

    /// A comparison of several numbers that has a p value of its own.
    pub fn push_tested(&mut self, text: String, answer: Answer, reason: Option<String>, leans: bool, evidence: Option<Evidence>) {
        self.add(Comparison { reason, leans, ..Comparison::new(text, answer) }, evidence);
    }

    /// A comparison that is no difference of two numbers.
    pub fn push_answer(&mut self, text: String, answer: Answer, reason: Option<String>) {
        self.push_tested(text, answer, reason, answer == Answer::True, None);
    }

    /// A comparison without one of its numbers.
    pub fn push_missing(&mut self, text: String, gap: &Gap) {
        self.note(gap);
        self.push_answer(text, Answer::Missing, Some(gap.reason.clone()));
    }

    /// Remembers a cell that is not named clearly enough.
    pub fn note(&mut self, gap: &Gap) {
        if gap.ambiguous {
            self.ambiguous.insert(gap.reason.clone());
        }
    }
}
