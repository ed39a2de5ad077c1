//! Where the comparisons of a claim are written down.
//!
//! Owns [`Sheet`]. Invariant: a comparison that cannot be made is written too, with the reason.

use std::collections::BTreeSet;

use super::estimate::Decision;
use super::operand::Gap;
use super::verdict::{Answer, Comparison};

/// The comparisons of a claim, and the cells that it does not name clearly enough.
#[derive(Default)]
pub(super) struct Sheet {
    pub comparisons: Vec<Comparison>,
    pub ambiguous: BTreeSet<String>,
}

impl Sheet {
    /// A comparison of two numbers.
    pub fn push(&mut self, text: String, left: f64, right: f64, decision: Decision) {
        let Decision { difference, band, answer, leans } = decision;
        let (band, reason) = match band {
            Ok(band) => (Some(band), None),
            Err(reason) => (None, Some(reason)),
        };
        let (left, right, difference) = (Some(left), Some(right), Some(difference));
        self.comparisons.push(Comparison { left, right, difference, band, outcome: answer, text, reason, leans });
    }

    /// A comparison that is no difference of two numbers.
    pub fn push_answer(&mut self, text: String, answer: Answer, reason: Option<String>) {
        let (left, right, difference, band) = (None, None, None, None);
        let leans = answer == Answer::True;
        self.comparisons.push(Comparison { left, right, difference, band, outcome: answer, text, reason, leans });
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
