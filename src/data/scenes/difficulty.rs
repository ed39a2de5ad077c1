//! Every knob that makes the world easier or harder, in one place.
//!
//! Set once by a rule, before any study was run, and left since: a ViT-B of an eighth of the width reaches 40 to 60 % zero-shot on a
//! pool of 8k after 32k samples, chance is at most 2 %, the largest ViT of the small studies stays below 90 %, and the similarities of
//! a scorer of that world tell faulty samples with an area under the ROC curve between 0.75 and 0.95 (`experiments/small/calibration.yaml`,
//! `results/calibration`). Changing a value changes every `scenes` result: raise [`VERSION`](super::VERSION) with it. The shares of faults
//! and shifts and the long tail are settings of an experiment: [`ScenesConfig`](crate::run::ScenesConfig).
//! Lengths are shares of the image's side.

/// Classes, of the 256 combinations of shape, colour and pattern.
pub const CLASSES: usize = 50;

/// Radius of the main object.
pub const RADIUS: (f32, f32) = (0.35, 0.42);
/// Furthest that its centre lies from the middle, along each axis.
pub const OFFSET: f32 = 0.05;
/// Largest rotation either way, degrees.
pub const ROTATION: f32 = 4.0;
/// Largest change of a colour's channel either way, of 255.
pub const COLOUR_JITTER: f32 = 10.0;
/// Share of scenes with a second, smaller object.
pub const DISTRACTORS: f32 = 0.2;
/// Radius of that object.
pub const DISTRACTOR_RADIUS: (f32, f32) = (0.08, 0.10);
/// Strongest gradient of light across the image.
pub const LIGHT_GRADIENT: f32 = 0.12;
/// Overall brightness.
pub const BRIGHTNESS: (f32, f32) = (0.88, 1.08);

/// Share of words that a caption replaces by a synonym.
pub const SYNONYMS: f32 = 0.12;

/// Captions of another sample: parts of the faulty training samples, as the next six; their shares are these over their sum.
pub const MISMATCHED: f32 = 0.12;
/// Captions that say too little.
pub const VAGUE: f32 = 0.07;
/// Captions with one or two attributes wrong.
pub const WRONG_ATTRIBUTE: f32 = 0.07;
/// Images out of focus.
pub const BLURRED: f32 = 0.025;
/// Images with noise.
pub const NOISY: f32 = 0.025;
/// Images with the object partly covered.
pub const OCCLUDED: f32 = 0.025;
/// Images with little contrast.
pub const FADED: f32 = 0.025;

/// Radius of the main object in `hard`.
pub const HARD_RADIUS: (f32, f32) = (0.15, 0.23);
/// Furthest that its centre lies from the middle in `hard`.
pub const HARD_OFFSET: f32 = 0.22;
/// Largest rotation either way in `viewpoint`, degrees: short of where a square would be a diamond.
pub const VIEW_ROTATION: f32 = 35.0;
/// Narrowest that `viewpoint` foreshortens an object.
pub const VIEW_SQUEEZE: f32 = 0.55;
