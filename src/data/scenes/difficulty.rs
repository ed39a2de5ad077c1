//! Every knob that makes the world easier or harder, in one place.
//!
//! These values were chosen by hand. They are not calibrated: no command of this program measures how hard the world is, and no
//! accuracy of a model has been aimed at. Changing one changes every `scenes` result: raise [`VERSION`](super::VERSION) with it.
//! Lengths are shares of the image's side.

/// Classes, of the 256 combinations of shape, colour and pattern.
pub const CLASSES: usize = 80;
/// Class of rank k is drawn with a frequency proportional to 1 / k to this power.
pub const ZIPF: f64 = 0.7;

/// Radius of the main object.
pub const RADIUS: (f32, f32) = (0.29, 0.38);
/// Furthest that its centre lies from the middle, along each axis.
pub const OFFSET: f32 = 0.11;
/// Largest rotation either way, degrees.
pub const ROTATION: f32 = 12.0;
/// Largest change of a colour's channel either way, of 255.
pub const COLOUR_JITTER: f32 = 14.0;
/// Share of scenes with a second, smaller object.
pub const DISTRACTORS: f32 = 0.35;
/// Radius of that object.
pub const DISTRACTOR_RADIUS: (f32, f32) = (0.10, 0.13);
/// Strongest gradient of light across the image.
pub const LIGHT_GRADIENT: f32 = 0.22;
/// Overall brightness.
pub const BRIGHTNESS: (f32, f32) = (0.88, 1.08);

/// Share of words that a caption replaces by a synonym.
pub const SYNONYMS: f32 = 0.12;

/// Share of training samples with each fault; the rest is clean.
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
