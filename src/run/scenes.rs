//! Which procedural world: its seed, and how dirty, how uneven and how shifted it is.

use serde::{Deserialize, Serialize};

/// The procedural world that training samples are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenesConfig {
    /// Seed of the world, not of the run.
    pub world_seed: u64,
    /// Share of training samples with a fault of caption or image, 0 to 1.
    #[serde(default = "ScenesConfig::default_faults")]
    pub faults: f64,
    /// The class of rank k is drawn with a frequency proportional to 1 / k to this power; 0 draws all alike.
    #[serde(default = "ScenesConfig::default_long_tail")]
    pub long_tail: f64,
    /// Share of the images of a shifted evaluation set that are shifted, 0 to 1; the others are as in training. `relabelled` is
    /// shifted in its names alone, and all of it.
    #[serde(default = "ScenesConfig::default_shifts")]
    pub shifts: f64,
}

impl ScenesConfig {
    /// Largest power of the long tail: with it the rarest of 50 classes is drawn about once in 150,000 samples.
    pub const MOST_LONG_TAIL: f64 = 3.0;

    /// The world of a seed, as it is unless stated.
    #[must_use]
    pub fn of_seed(world_seed: u64) -> Self {
        Self { world_seed, faults: Self::default_faults(), long_tail: Self::default_long_tail(), shifts: Self::default_shifts() }
    }

    /// The world of an evaluation set, which knows neither faults nor a long tail.
    #[must_use]
    pub fn of_evaluation(world_seed: u64, shifts: f64) -> Self {
        Self { shifts, ..Self::of_seed(world_seed) }
    }

    /// What is said of a world beside its seed, where it is not as usual: "faults 50 %".
    #[must_use]
    pub fn in_words(&self) -> Vec<String> {
        let usual = Self::of_seed(self.world_seed);
        let percent = |name: &str, share: f64| format!("{name} {} %", (1e4 * share).round() / 100.0);
        let mut words = Vec::new();
        if self.faults != usual.faults {
            words.push(percent("faults", self.faults));
        }
        if self.long_tail != usual.long_tail {
            words.push(format!("long tail {}", self.long_tail));
        }
        if self.shifts != usual.shifts {
            words.push(percent("shifts", self.shifts));
        }
        words
    }

    fn default_faults() -> f64 {
        0.35
    }

    fn default_long_tail() -> f64 {
        0.7
    }

    pub(super) fn default_shifts() -> f64 {
        1.0
    }
}
