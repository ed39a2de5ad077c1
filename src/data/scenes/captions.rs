//! What is said about a scene.
//!
//! Input: a layout and draws. Output: English captions. Invariant: a caption made here is true of its scene; untruth is made in
//! `faults`.

use super::super::philox::Draws;
use super::difficulty;
use super::layout::{Object, SceneLayout};
use super::vocabulary::{BACKGROUNDS, COLOURS, Kind, SHAPES};

/// Templates of zero-shot prompts.
pub(super) const TEMPLATES: [&str; 4] = ["a photo of a {c}", "a picture of a {c}", "there is a {c}", "a {c}"];

/// Captions that hold no class.
const VAGUE: [&str; 8] = [
    "a picture",
    "an image of something",
    "something colourful",
    "a nice photo",
    "a drawing of a shape",
    "an object",
    "things in a picture",
    "untitled",
];

/// Forms of [`form`].
pub(super) const FORMS: u32 = 8;

/// A caption in one of the forms, drawn.
pub(super) fn caption(layout: &SceneLayout, kind: Kind, draws: &mut Draws) -> String {
    let which = draws.below(FORMS);
    form(which, layout, kind, difficulty::SYNONYMS, draws)
}

/// Several captions of one scene in different forms, each with the background or the neighbour, without synonyms.
pub(super) fn several(layout: &SceneLayout, draws: &mut Draws) -> Vec<String> {
    let first = draws.below(3);
    (0..3).map(|i| form(3 + (first + i) % 3, layout, layout.main.kind, 0.0, draws)).collect()
}

/// A caption in form `which`; `kind` is what the main object is said to be.
fn form(which: u32, layout: &SceneLayout, kind: Kind, synonyms: f32, draws: &mut Draws) -> String {
    let name = kind.said(synonyms, draws);
    let background = BACKGROUNDS[layout.background];
    let neighbour = layout.distractors.first().map(neighbour);
    let thing = article(&name);
    match which {
        0 => format!("a photo of {thing}"),
        1 => format!("{thing} {background}"),
        2 => format!("there is {thing} {background}"),
        3 => match neighbour {
            Some(other) => format!("{thing} {background} next to {other}"),
            None => format!("{thing} alone {background}"),
        },
        4 => {
            let with = neighbour.map_or(String::new(), |other| format!(" with {other}"));
            format!("a {} {name} {background}{with}", size(&layout.main))
        }
        5 => {
            let also = neighbour.map_or(String::new(), |other| format!(" and {other}"));
            format!("{thing} {} of the picture{also} {background}", place(&layout.main))
        }
        6 => {
            let shape = SHAPES[kind.shape as usize];
            let pattern = ["plain", "striped", "dotted", "checkered"][kind.pattern as usize];
            format!("{} that is {} and {pattern}", article(shape), COLOURS[kind.colour as usize])
        }
        _ => format!("a picture of {thing}"),
    }
}

/// A caption that says little.
pub(super) fn vague(layout: &SceneLayout, draws: &mut Draws) -> String {
    match draws.below(4) {
        0 => format!("something {}", BACKGROUNDS[layout.background]),
        _ => VAGUE[draws.below(VAGUE.len() as u32) as usize].to_owned(),
    }
}

fn article(name: &str) -> String {
    let is_vowel = name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {name}", if is_vowel { "an" } else { "a" })
}

fn neighbour(other: &Object) -> String {
    format!("a small {}", other.kind.name())
}

fn size(main: &Object) -> &'static str {
    let middle = (difficulty::RADIUS.0 + difficulty::RADIUS.1) / 2.0;
    if main.radius > middle { "big" } else { "small" }
}

fn place(main: &Object) -> &'static str {
    match main.x {
        x if x < 0.46 => "on the left",
        x if x > 0.54 => "on the right",
        _ => "in the middle",
    }
}
