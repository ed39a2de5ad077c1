//! How far the losses of a run may lie from those of a committed one, and whether they do.

use crate::run::CurvePoint;
use crate::tables::{Allowance, DriftKind, Tolerance};

/// The metric that stands for the losses of a run.
pub(super) const LOSS: &str = "loss";
/// How far the losses of a run may lie from those of the committed one unless stated. Another order of sums (4 or 16 lanes for 8)
/// moved those of `experiments/ci.yaml` by up to half of it in 63 steps, a layer norm whose backward is off by 1 % by more within three.
const LOSS_TOLERANCE: Allowance = Allowance::Relative(1e-5);
/// Steps over which that holds; later, rounding has grown into another path of the same training.
const LOSS_STEPS: u64 = 200;

/// How far losses may lie apart, and up to which step: at all steps as stated, otherwise over the first ones.
pub(super) fn limit(tolerance: &Tolerance) -> (Allowance, u64) {
    tolerance.metrics.get(LOSS).map_or((LOSS_TOLERANCE, LOSS_STEPS), |stated| (*stated, u64::MAX))
}

/// The first step up to a last one whose loss moved by more than is allowed.
pub(super) fn first_moved(
    ours: &[CurvePoint],
    committed: &[CurvePoint],
    (allowed, last_step): (Allowance, u64),
) -> Option<DriftKind> {
    committed.iter().filter(|point| point.step <= last_step).find_map(|point| {
        let finite = |point: &CurvePoint| Some(point.loss).filter(|loss| loss.is_finite());
        let (now, then) = (ours.iter().find(|found| found.step == point.step).and_then(finite), finite(point));
        allowed.is_left(now, then).then_some(DriftKind::Loss { step: point.step, ours: now, committed: then, allowed })
    })
}
