//! What there is in the world: shapes, colours, patterns, backgrounds, and the classes made of the first three.
//!
//! Input: a world seed. Output: the classes with their names and frequencies. Invariant: the classes of a seed never change
//! within a version.

use super::super::order::Permutation;
use super::super::philox::{Draws, Philox, Stream};
use super::difficulty;

/// Red, green and blue, 0 to 255.
pub(super) type Rgb = [f32; 3];

/// Names of the shapes; the index is the shape.
pub(super) const SHAPES: [&str; 8] = ["circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent"];
/// Other words for the shapes.
pub(super) const SHAPE_SYNONYMS: [&str; 8] = ["disc", "box", "wedge", "pentagram", "love heart", "plus sign", "hoop", "moon"];

/// Names of the colours.
pub(super) const COLOURS: [&str; 8] = ["red", "orange", "yellow", "green", "blue", "purple", "white", "black"];
/// Other words for the colours.
pub(super) const COLOUR_SYNONYMS: [&str; 8] = ["crimson", "tangerine", "golden", "emerald", "azure", "violet", "ivory", "ebony"];
/// The colours themselves.
pub(super) const PALETTE: [Rgb; 8] = [
    [206.0, 38.0, 40.0],
    [242.0, 138.0, 28.0],
    [242.0, 218.0, 52.0],
    [38.0, 158.0, 66.0],
    [44.0, 88.0, 210.0],
    [136.0, 58.0, 176.0],
    [240.0, 240.0, 238.0],
    [34.0, 34.0, 40.0],
];

/// Names of the patterns; a plain object has none.
pub(super) const PATTERNS: [&str; 4] = ["", "striped", "dotted", "checkered"];
/// Other words for the patterns.
pub(super) const PATTERN_SYNONYMS: [&str; 4] = ["plain", "banded", "spotted", "chequerboard"];

/// What lies behind, as captions say it. The first eight occur in training, the others only in `viewpoint`.
pub(super) const BACKGROUNDS: [&str; 11] = [
    "on the grass",
    "on the sand",
    "in the sky",
    "on the water",
    "in front of a brick wall",
    "on a wooden table",
    "in the snow",
    "at night",
    "on a tiled floor",
    "on a newspaper",
    "on a carpet",
];
/// Backgrounds that occur in training.
pub(super) const TRAINING_BACKGROUNDS: u32 = 8;

/// One kind of thing: indices into the lists above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub shape: u8,
    pub colour: u8,
    pub pattern: u8,
}

impl Kind {
    fn of_combination(index: u64) -> Self {
        let (shapes, colours) = (SHAPES.len() as u64, COLOURS.len() as u64);
        Self { shape: (index % shapes) as u8, colour: (index / shapes % colours) as u8, pattern: (index / shapes / colours) as u8 }
    }

    /// "striped red triangle".
    pub fn name(self) -> String {
        self.named(PATTERNS[self.pattern as usize], COLOURS[self.colour as usize], SHAPES[self.shape as usize])
    }

    /// "banded crimson wedge".
    pub fn synonym(self) -> String {
        let pattern = if self.pattern == 0 { "" } else { PATTERN_SYNONYMS[self.pattern as usize] };
        self.named(pattern, COLOUR_SYNONYMS[self.colour as usize], SHAPE_SYNONYMS[self.shape as usize])
    }

    /// The name, each word replaced by its synonym with this probability.
    pub fn said(self, synonyms: f32, draws: &mut Draws) -> String {
        let mut word = |plain: &'static str, other: &'static str| if draws.chance(synonyms) { other } else { plain };
        let colour = word(COLOURS[self.colour as usize], COLOUR_SYNONYMS[self.colour as usize]);
        let shape = word(SHAPES[self.shape as usize], SHAPE_SYNONYMS[self.shape as usize]);
        let pattern =
            if self.pattern == 0 { "" } else { word(PATTERNS[self.pattern as usize], PATTERN_SYNONYMS[self.pattern as usize]) };
        self.named(pattern, colour, shape)
    }

    fn named(self, pattern: &str, colour: &str, shape: &str) -> String {
        if pattern.is_empty() { format!("{colour} {shape}") } else { format!("{pattern} {colour} {shape}") }
    }

    /// Attributes that two kinds share, 0 to 3.
    pub fn shared(self, other: Self) -> u32 {
        u32::from(self.shape == other.shape) + u32::from(self.colour == other.colour) + u32::from(self.pattern == other.pattern)
    }
}

/// The classes of a world, most frequent first.
#[derive(Debug, Clone)]
pub(super) struct Classes {
    kinds: Vec<Kind>,
    /// Cumulated frequencies, the last of them 1.
    cumulated: Vec<f64>,
}

impl Classes {
    /// The classes of a world seed: a keyed choice of combinations, in keyed order of frequency, the k-th as often as 1 / k to the
    /// power `long_tail`.
    pub fn new(world_seed: u64, long_tail: f64) -> Self {
        let combinations = (SHAPES.len() * COLOURS.len() * PATTERNS.len()) as u64;
        let order = Permutation::new(&Philox::new(world_seed, Stream::Scenes), u64::MAX, combinations);
        let kinds = (0..difficulty::CLASSES as u64).map(|rank| Kind::of_combination(order.apply(rank))).collect();
        let weights: Vec<f64> = (1..=difficulty::CLASSES).map(|rank| libm::pow(rank as f64, -long_tail)).collect();
        let total: f64 = weights.iter().sum();
        let cumulated =
            weights.iter().scan(0.0, |sum, weight| Some(std::mem::replace(sum, *sum + weight / total) + weight / total)).collect();
        Self { kinds, cumulated }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// A class.
    pub fn kind(&self, class: usize) -> Kind {
        self.kinds[class]
    }

    /// A class by its frequency.
    pub fn draw(&self, draws: &mut Draws) -> usize {
        let at = draws.uniform64();
        self.cumulated.partition_point(|&sum| sum <= at).min(self.kinds.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn classes_are_distinct_and_depend_on_the_seed() {
        let names =
            |seed| -> Vec<String> { (0..difficulty::CLASSES).map(|class| Classes::new(seed, 0.7).kind(class).name()).collect() };
        assert_eq!(names(1).iter().collect::<BTreeSet<_>>().len(), difficulty::CLASSES);
        assert_ne!(names(1), names(2));
        let synonyms: BTreeSet<String> = (0..difficulty::CLASSES).map(|class| Classes::new(1, 0.7).kind(class).synonym()).collect();
        assert_eq!(synonyms.len(), difficulty::CLASSES);
    }

    #[test]
    fn frequencies_have_a_long_tail() {
        let classes = Classes::new(1, 0.7);
        let philox = Philox::new(1, Stream::Scenes);
        let mut counts = vec![0u32; classes.len()];
        (0..40_000).for_each(|i| counts[classes.draw(&mut philox.at(i, 0))] += 1);
        let ratio = f64::from(counts[0]) / f64::from(*counts.last().unwrap_or(&1));
        let expected = libm::pow(difficulty::CLASSES as f64, 0.7);
        assert!((0.6..1.6).contains(&(ratio / expected)), "{ratio} {expected}");
        assert!(counts.iter().all(|&count| count > 100));
    }
}
