//! What the seed of a run draws.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of a run that its seed may draw; a part that it does not draw is that of seed 0, a scorer that of its stated seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeedPart {
    /// The initial parameters.
    Init,
    /// What a step draws: the order of samples, augmentation, masked patches.
    Order,
    /// Which samples make up a pool that is a part of its source, the scorer's pool as well, and which are kept of it at random.
    Pool,
    /// Initial parameters and order of the model that scores the pool.
    Scorer,
}

impl SeedPart {
    /// All of them, in the order in which they are named.
    pub const ALL: [Self; 4] = [Self::Init, Self::Order, Self::Pool, Self::Scorer];

    /// Its name in experiment files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Order => "order",
            Self::Pool => "pool",
            Self::Scorer => "scorer",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Init => "initial parameters",
            Self::Order => "order of samples",
            Self::Pool => "pool",
            Self::Scorer => "scorer",
        }
    }
}

/// The parts of a run that its seed draws: initial parameters and order unless stated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "Vec<SeedPart>", from = "Vec<SeedPart>")]
pub struct SeedParts(u8);

impl SeedParts {
    /// Largest seed that draws a pool: the samples of scenes are numbered by 64 bits, of which 32 count within a pool.
    pub const MAX_POOL_SEED: u64 = u32::MAX as u64;

    /// Nothing is drawn.
    #[must_use]
    pub fn none() -> Self {
        Self(0)
    }

    /// Whether the seed draws a part.
    #[must_use]
    pub fn draws(self, part: SeedPart) -> bool {
        self.0 & part.bit() != 0
    }

    /// The parts that are drawn, in the order in which they are named.
    pub fn iter(self) -> impl Iterator<Item = SeedPart> {
        SeedPart::ALL.into_iter().filter(move |part| self.draws(*part))
    }

    /// The parts that both draw.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The parts that either draws.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The parts that it draws and the other does not.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is drawn.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The seed of a part in a run of this seed.
    #[must_use]
    pub fn seed_of(self, part: SeedPart, seed: u64) -> u64 {
        if self.draws(part) { seed } else { 0 }
    }

    /// Whether they are what seeds draw unless stated, which keys and records leave out.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for SeedParts {
    fn default() -> Self {
        Self::from_iter([SeedPart::Init, SeedPart::Order])
    }
}

impl FromIterator<SeedPart> for SeedParts {
    fn from_iter<I: IntoIterator<Item = SeedPart>>(parts: I) -> Self {
        Self(parts.into_iter().fold(0, |bits, part| bits | part.bit()))
    }
}

impl From<Vec<SeedPart>> for SeedParts {
    fn from(parts: Vec<SeedPart>) -> Self {
        parts.into_iter().collect()
    }
}

impl From<SeedParts> for Vec<SeedPart> {
    fn from(parts: SeedParts) -> Self {
        parts.iter().collect()
    }
}

impl fmt::Debug for SeedParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for SeedParts {
    /// "initial parameters, order of samples and pool".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nouns: Vec<&str> = self.iter().map(SeedPart::noun).collect();
        match nouns.as_slice() {
            [] => f.write_str("nothing"),
            [one] => f.write_str(one),
            [first @ .., last] => write!(f, "{} and {last}", first.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_as_written_and_what_is_not_drawn_has_seed_0() {
        for part in SeedPart::ALL {
            assert_eq!(serde_json::to_value(part).expect("a name"), part.name());
        }
        let parts = SeedParts::from_iter([SeedPart::Scorer, SeedPart::Init]);
        assert_eq!(SeedPart::ALL.map(|part| parts.seed_of(part, 7)), [7, 0, 0, 7]);
        assert_eq!(parts.to_string(), "initial parameters and scorer");
        assert!(SeedParts::default().is_default() && !parts.is_default());
        assert_eq!(serde_json::to_value(parts).expect("a list"), serde_json::json!(["init", "scorer"]));
        assert_eq!(serde_json::from_str::<SeedParts>("[\"scorer\", \"init\"]").expect("a list"), parts);
        let [both, either, rest] =
            [parts.and(SeedParts::default()), parts.or(SeedParts::default()), parts.without(SeedParts::default())];
        assert_eq!([both, either, rest].map(|parts| parts.iter().count()), [1, 3, 1]);
        assert_eq!(SeedParts::default().to_string(), "initial parameters and order of samples");
    }
}
