//! `evaluate_at`: parts of a run's budget, in steps.

use super::super::diagnostic::Code;
use super::super::scalar::Interval;
use super::super::types::{MilestoneSpec, ScalarOr};
use super::Problem;
use super::budget::nearest_steps;
use crate::run::{END, Milestone, counted};

/// A milestone as stated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::spec) enum MilestoneAt {
    /// This share of the run's steps.
    Share(f64),
    /// After so many steps.
    Step(u64),
    /// After so many pairs.
    Samples(u64),
}

impl MilestoneAt {
    fn label(self) -> String {
        match self {
            // The decimal form of the percentage, without what its binary form adds.
            Self::Share(share) => format!("{}%", (share * 1e12).round() / 1e10),
            Self::Step(step) => format!("step {step}"),
            Self::Samples(samples) => format!("{samples} samples"),
        }
    }

    /// The nearest whole number of steps.
    fn step(self, steps: u64, batch: u64) -> u64 {
        match self {
            Self::Share(share) => Interval::Share(share).steps_of(steps),
            Self::Step(step) => step,
            Self::Samples(samples) => nearest_steps(samples, batch),
        }
    }
}

/// The list as stated.
pub(in crate::spec) fn stated_milestones(stated: Option<Vec<MilestoneSpec>>) -> Vec<MilestoneAt> {
    let of = |spec| match spec {
        ScalarOr::Scalar(Interval::Share(share)) => MilestoneAt::Share(share),
        ScalarOr::Scalar(Interval::Steps(step)) => MilestoneAt::Step(step),
        ScalarOr::Map(super::super::types::MilestoneSamples { samples }) => MilestoneAt::Samples(samples.0),
    };
    stated.into_iter().flatten().map(of).collect()
}

/// The milestones of a run of `steps` with this batch. The end, as `100%`, is not among them: it is always measured. A run without a
/// step has none.
pub(in crate::spec) fn milestones(stated: &[MilestoneAt], steps: u64, batch: u64) -> Result<Vec<Milestone>, Problem> {
    let mut found: Vec<Milestone> = Vec::with_capacity(stated.len());
    if steps == 0 {
        return Ok(found);
    }
    for (idx, at) in stated.iter().enumerate() {
        let (label, step) = (at.label(), at.step(steps, batch));
        let path = format!("evaluate_at.{idx}");
        let problem = |what: String, hint: &str| {
            Err(Problem::new(Code::Evaluate, path.clone(), format!("`{path}`: `{label}` {what}")).hint(hint.to_owned()))
        };
        let run = counted(steps, "step");
        if step == 0 {
            return problem(
                format!("is before the first step of a run of {run}"),
                "the network before its training is a run with `train.budget: { steps: 0 }`",
            );
        }
        if step > steps {
            return problem(
                format!("is step {step}, after the end of a run of {run}"),
                "state a share such as `50%`, or an earlier step",
            );
        }
        if let Some(before) = found.last().filter(|before| before.step >= step) {
            let what = match before.step == step {
                true => format!("is step {step} of {steps}, and so is `{}` before it", before.label),
                false => format!("is step {step} of {steps}, `{}` before it is step {}", before.label, before.step),
            };
            return problem(what, "state each once, in ascending order");
        }
        found.push(Milestone { label, step });
    }
    found.retain(|milestone| milestone.label != END);
    Ok(found)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn of(stated: &[MilestoneAt], steps: u64) -> Result<Vec<(String, u64)>, String> {
        let found = milestones(stated, steps, 64).map_err(|problem| format!("{}: {}", problem.path, problem.message))?;
        Ok(found.into_iter().map(|Milestone { label, step }| (label, step)).collect())
    }

    #[test]
    fn shares_steps_and_samples_become_steps() {
        use MilestoneAt::{Samples, Share, Step};
        let named = |list: &[(&str, u64)]| Ok(list.iter().map(|(label, step)| ((*label).to_owned(), *step)).collect());
        assert_eq!(of(&[Share(0.1), Share(0.5), Share(1.0)], 12), named(&[("10%", 1), ("50%", 6)]));
        assert_eq!(of(&[Share(0.125), Share(0.29)], 1000), named(&[("12.5%", 125), ("29%", 290)]));
        assert_eq!(of(&[Step(3), Samples(640), Step(12)], 12), named(&[("step 3", 3), ("640 samples", 10), ("step 12", 12)]));
        assert_eq!(of(&[Share(1.0)], 12), named(&[]), "the end alone is what is measured anyway");
        assert_eq!(of(&[Share(0.5)], 0), named(&[]), "a network that is not trained has its end alone");
    }

    #[test]
    fn what_is_no_ascending_part_of_the_budget_is_refused() {
        use MilestoneAt::{Samples, Share, Step};
        for (stated, steps, place, what) in [
            (&[Share(0.0), Share(0.5)][..], 12, "evaluate_at.0", "before the first step"),
            (&[Share(0.01)], 12, "evaluate_at.0", "before the first step of a run of 12 steps"),
            (&[Share(0.5), Samples(20)], 12, "evaluate_at.1", "before the first step"),
            (&[Share(0.5), Step(13)], 12, "evaluate_at.1", "is step 13, after the end of a run of 12 steps"),
            (&[Share(0.5), Share(0.1)], 12, "evaluate_at.1", "`10%` is step 1 of 12, `50%` before it is step 6"),
            (&[Share(0.5), Share(0.5)], 12, "evaluate_at.1", "is step 6 of 12, and so is `50%` before it"),
            (&[Share(0.1), Share(0.12)], 12, "evaluate_at.1", "and so is `10%` before it"),
            (&[Share(0.1), Share(1.0), Step(12)], 12, "evaluate_at.2", "and so is `100%` before it"),
        ] {
            let error = of(stated, steps).unwrap_err();
            assert!(error.starts_with(place) && error.contains(what), "{stated:?}: {error}");
        }
    }
}
