//! What the seed of a run draws.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of a run that its seed may draw; a part that it does not draw is that of seed 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeedPart {
    /// The initial parameters.
    Init,
    /// What a step draws: the order of samples, augmentation, masked patches.
    Order,
    /// Which samples make up the pool, and which are kept of it at random.
    Pool,
    /// The model that scores the pool: its own initial parameters and order, and its pool where `pool` is drawn too.
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeedParts(BTreeSet<SeedPart>);

impl SeedParts {
    /// Largest seed that draws a pool: the samples of scenes are numbered by 64 bits, of which 32 count within a pool.
    pub const MAX_POOL_SEED: u64 = u32::MAX as u64;

    /// Whether the seed draws a part.
    #[must_use]
    pub fn draws(&self, part: SeedPart) -> bool {
        self.0.contains(&part)
    }

    /// The seed of a part in a run of this seed.
    #[must_use]
    pub fn seed_of(&self, part: SeedPart, seed: u64) -> u64 {
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
        Self(parts.into_iter().collect())
    }
}

impl fmt::Display for SeedParts {
    /// "initial parameters, order of samples and pool".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nouns: Vec<&str> = self.0.iter().map(|part| part.noun()).collect();
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
        assert_eq!(SeedParts::default().to_string(), "initial parameters and order of samples");
    }
}
