//! What is wrong with a training sample, and how good it is.
//!
//! Input: draws. Output: a [`Fault`] and a quality in \[0, 1\]. Invariant: the true quality is known for every sample, so a
//! filter by similarity can be compared with the best possible one. Evaluation sets hold no faults.

use super::super::philox::Draws;
use super::difficulty as knobs;
use super::vocabulary::{COLOURS, Kind, PATTERNS, SHAPES};

/// Quality of a pair whose caption gets this many of the three attributes right.
const TRUTH: [f32; 4] = [0.0, 0.15, 0.35, 0.65];

/// What is wrong; the number is the field `fault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None = 0,
    /// The caption of another sample.
    Mismatched = 1,
    /// A caption that says too little.
    Vague = 2,
    /// A caption with one or two attributes wrong.
    WrongAttribute = 3,
    Blurred = 4,
    Noisy = 5,
    Occluded = 6,
    Faded = 7,
}

impl Fault {
    /// A fault with this probability, and its strength in \[0, 1\].
    pub fn draw(faults: f32, draws: &mut Draws) -> (Self, f32) {
        let parts = [
            (Self::Mismatched, knobs::MISMATCHED),
            (Self::Vague, knobs::VAGUE),
            (Self::WrongAttribute, knobs::WRONG_ATTRIBUTE),
            (Self::Blurred, knobs::BLURRED),
            (Self::Noisy, knobs::NOISY),
            (Self::Occluded, knobs::OCCLUDED),
            (Self::Faded, knobs::FADED),
        ];
        let all: f32 = parts.iter().map(|(_, part)| part).sum();
        let (mut at, strength) = (draws.uniform(), draws.uniform());
        if at >= faults {
            return (Self::None, 0.0);
        }
        at *= all / faults;
        for (fault, part) in parts {
            if at < part {
                return (fault, strength);
            }
            at -= part;
        }
        (Self::Faded, strength) // what rounding leaves
    }

    /// How good a sample with this fault is: the share of what its caption says that is true and can be seen.
    /// `shared` counts the attributes (of 3) that the caption gets right, `finish` in \[0, 1\] orders samples alike.
    pub fn quality(self, strength: f32, shared: u32, finish: f32) -> f64 {
        let quality = match self {
            Self::None => 0.8 + 0.2 * finish,
            Self::Mismatched | Self::WrongAttribute => TRUTH[shared as usize] + 0.05 * finish,
            Self::Vague => 0.15 + 0.1 * finish,
            Self::Blurred | Self::Noisy | Self::Occluded | Self::Faded => 0.75 - 0.35 * strength,
        };
        f64::from(quality)
    }
}

/// A kind with one or, at higher strength, two attributes changed.
pub(super) fn wrong(kind: Kind, strength: f32, draws: &mut Draws) -> Kind {
    let mut said = kind;
    let first = draws.below(3);
    let changes = if strength > 0.6 { 2 } else { 1 };
    for attribute in (0..changes).map(|i| (first + i) % 3) {
        let mut other = |value: u8, values: usize| ((u32::from(value) + 1 + draws.below(values as u32 - 1)) % values as u32) as u8;
        match attribute {
            0 => said.shape = other(kind.shape, SHAPES.len()),
            1 => said.colour = other(kind.colour, COLOURS.len()),
            _ => said.pattern = other(kind.pattern, PATTERNS.len()),
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::super::super::philox::{Philox, Stream};
    use super::*;

    #[test]
    fn a_third_of_the_samples_has_a_fault_and_clean_ones_rank_above_them() {
        let philox = Philox::new(5, Stream::Scenes);
        let drawn: Vec<(Fault, f32)> = (0..20_000).map(|i| Fault::draw(0.35, &mut philox.at(i, 0))).collect();
        let faulty = drawn.iter().filter(|(fault, _)| *fault != Fault::None).count();
        assert!((6_000..8_000).contains(&faulty), "{faulty}");
        let worst_clean = Fault::None.quality(0.0, 3, 0.0);
        let best_faulty =
            drawn.iter().filter(|(fault, _)| *fault != Fault::None).map(|&(fault, strength)| fault.quality(strength, 3, 1.0));
        assert!(best_faulty.fold(0.0, f64::max) < worst_clean);
    }

    #[test]
    fn a_wrong_attribute_is_wrong_in_one_or_two_places() {
        let philox = Philox::new(5, Stream::Scenes);
        let kind = Kind { shape: 7, colour: 7, pattern: 3 };
        for i in 0..500 {
            assert_eq!(wrong(kind, 0.3, &mut philox.at(i, 0)).shared(kind), 2);
            assert_eq!(wrong(kind, 0.9, &mut philox.at(i, 0)).shared(kind), 1);
        }
    }
}
