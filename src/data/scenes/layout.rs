//! What stands where in one scene.
//!
//! Input: a class and draws. Output: a [`SceneLayout`] in units of the image's side. Invariant: a pure function of the draws; no
//! pixel is known here, so a scene is the same at every resolution.

use super::super::philox::Draws;
use super::difficulty as knobs;
use super::vocabulary::{COLOURS, Kind, PALETTE, Rgb, SHAPES, TRAINING_BACKGROUNDS};
use super::{Variant, vocabulary};

/// An object in place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Object {
    pub kind: Kind,
    pub colour: Rgb,
    pub x: f32,
    pub y: f32,
    pub radius: f32,
    /// Degrees.
    pub rotation: f32,
    /// Width over height before rotation, at most 1.
    pub squeeze: f32,
    /// Direction of stripes, degrees.
    pub grain: f32,
}

/// How a scene is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Filled and lit.
    Photo,
    /// Coloured lines on paper.
    Sketch,
    /// One of the arts: cartoon, neon, mosaic, pastel.
    Art(u8),
}

/// A whole scene.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SceneLayout {
    pub main: Object,
    pub distractors: Vec<Object>,
    pub background: usize,
    /// Change of light across the image, per side, along x and y.
    pub light: (f32, f32),
    pub brightness: f32,
    pub style: Style,
    /// A bar over the main object: centre, half-width and direction (degrees).
    pub bar: Option<(f32, f32, f32, f32)>,
    /// Contrast, 1 for unchanged.
    pub contrast: f32,
}

impl SceneLayout {
    /// The scene of a class as training shows it.
    pub fn training(kind: Kind, draws: &mut Draws) -> Self {
        let main = Object {
            radius: draws.between(knobs::RADIUS.0, knobs::RADIUS.1),
            x: 0.5 + draws.between(-knobs::OFFSET, knobs::OFFSET),
            y: 0.5 + draws.between(-knobs::OFFSET, knobs::OFFSET),
            rotation: draws.between(-knobs::ROTATION, knobs::ROTATION),
            squeeze: 1.0,
            grain: if draws.chance(0.5) { 0.0 } else { 90.0 },
            colour: jittered(kind, knobs::COLOUR_JITTER, draws),
            kind,
        };
        let background = draws.below(TRAINING_BACKGROUNDS) as usize;
        let (x, y) = (draws.between(-1.0, 1.0), draws.between(-1.0, 1.0));
        let light = (x * knobs::LIGHT_GRADIENT, y * knobs::LIGHT_GRADIENT);
        let brightness = draws.between(knobs::BRIGHTNESS.0, knobs::BRIGHTNESS.1);
        let distractors = if draws.chance(knobs::DISTRACTORS) { vec![distractor(&main, draws)] } else { Vec::new() };
        Self { main, distractors, background, light, brightness, style: Style::Photo, bar: None, contrast: 1.0 }
    }

    /// The scene of a class as an evaluation variant shows it.
    pub fn evaluation(kind: Kind, variant: Variant, draws: &mut Draws) -> Self {
        let mut layout = Self::training(kind, draws);
        let main = &mut layout.main;
        match variant {
            Variant::Iid | Variant::Relabelled | Variant::Train => {}
            Variant::Fresh => {
                main.radius *= draws.between(0.85, 1.0);
                main.rotation *= 1.5;
                main.colour = jittered(kind, 2.0 * knobs::COLOUR_JITTER, draws);
                layout.light = (1.6 * layout.light.0, 1.6 * layout.light.1);
                if layout.distractors.is_empty() && draws.chance(0.5) {
                    layout.distractors.push(distractor(&layout.main, draws));
                }
            }
            Variant::Sketch => layout.style = Style::Sketch,
            Variant::Rendition => layout.style = Style::Art(draws.below(4) as u8),
            Variant::Hard => {
                main.radius = draws.between(knobs::HARD_RADIUS.0, knobs::HARD_RADIUS.1);
                main.x = 0.5 + draws.between(-knobs::HARD_OFFSET, knobs::HARD_OFFSET);
                main.y = 0.5 + draws.between(-knobs::HARD_OFFSET, knobs::HARD_OFFSET);
                if draws.chance(0.5) {
                    layout.bar = Some(bar(&layout.main, 0.16, draws));
                }
                layout.contrast = draws.between(0.45, 0.8);
                layout.distractors = vec![distractor(&layout.main, draws)];
            }
            Variant::Viewpoint => {
                main.rotation = draws.between(-knobs::VIEW_ROTATION, knobs::VIEW_ROTATION);
                main.squeeze = draws.between(knobs::VIEW_SQUEEZE, 0.85);
                main.grain = draws.between(0.0, 180.0);
                layout.background = (TRAINING_BACKGROUNDS + draws.below(3)) as usize;
                debug_assert!(layout.background < vocabulary::BACKGROUNDS.len());
            }
        }
        layout
    }
}

/// A bar that covers part of an object; `width` is its share of the object's diameter.
pub(super) fn bar(main: &Object, width: f32, draws: &mut Draws) -> (f32, f32, f32, f32) {
    let reach = 0.4 * main.radius;
    let (x, y) = (main.x + draws.between(-reach, reach), main.y + draws.between(-reach, reach));
    (x, y, width * 2.0 * main.radius, draws.between(0.0, 180.0))
}

/// A small plain object in a corner away from the main one.
fn distractor(main: &Object, draws: &mut Draws) -> Object {
    let kind = Kind { shape: draws.below(SHAPES.len() as u32) as u8, colour: draws.below(COLOURS.len() as u32) as u8, pattern: 0 };
    let radius = draws.between(knobs::DISTRACTOR_RADIUS.0, knobs::DISTRACTOR_RADIUS.1);
    let margin = radius + 0.02;
    let mut corner = |centre: f32| {
        let is_low = if (centre - 0.5).abs() > 0.03 { centre > 0.5 } else { draws.chance(0.5) };
        if is_low { margin } else { 1.0 - margin }
    };
    let (x, y) = (corner(main.x), corner(main.y));
    let colour = jittered(kind, knobs::COLOUR_JITTER, draws);
    Object { kind, colour, x, y, radius, rotation: draws.between(-20.0, 20.0), squeeze: 1.0, grain: 0.0 }
}

fn jittered(kind: Kind, by: f32, draws: &mut Draws) -> Rgb {
    PALETTE[kind.colour as usize].map(|channel| (channel + draws.between(-by, by)).clamp(0.0, 255.0))
}
