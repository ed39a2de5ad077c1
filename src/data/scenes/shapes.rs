//! Outlines of the shapes and what fills them.
//!
//! Input: a shape or pattern. Output: paths in units of the object's radius, centre at the origin, y downwards. Invariant: built
//! once, from `libm` sines, so the points are the same on every machine.

use std::sync::LazyLock;

use tiny_skia::{FillRule, Path, PathBuilder, Rect, Transform};

use super::vocabulary::SHAPES;

/// Outlines of all shapes, in the order of [`SHAPES`].
static OUTLINES: LazyLock<[Path; 8]> = LazyLock::new(|| SHAPES.map(outline_of));

/// Stripes, dots and checks over the square from -1.3 to 1.3.
static FILLINGS: LazyLock<[Option<Path>; 4]> = LazyLock::new(|| [None, Some(stripes()), Some(dots()), Some(checks())]);

/// The outline of a shape.
pub(super) fn outline(shape: u8) -> &'static Path {
    &OUTLINES[shape as usize]
}

/// How an outline is filled: a ring has a hole.
pub(super) fn fill_rule(shape: u8) -> FillRule {
    if SHAPES[shape as usize] == "ring" { FillRule::EvenOdd } else { FillRule::Winding }
}

/// The second colour's area of a pattern; none for plain.
pub(super) fn filling(pattern: u8) -> Option<&'static Path> {
    FILLINGS[pattern as usize].as_ref()
}

/// Scales, turns (degrees) and moves, in this order.
pub(super) fn placed(scale: (f32, f32), degrees: f32, to: (f32, f32)) -> Transform {
    let (sin, cos) = libm::sincosf(degrees.to_radians());
    Transform::from_row(cos * scale.0, sin * scale.0, -sin * scale.1, cos * scale.1, to.0, to.1)
}

fn outline_of(name: &str) -> Path {
    let mut path = PathBuilder::new();
    match name {
        "circle" => path.push_circle(0.0, 0.0, 0.96),
        "square" => path.push_rect(rect(-0.84, -0.84, 1.68, 1.68)),
        "triangle" => polygon(&mut path, (0..3).map(|i| at(-90.0 + 120.0 * i as f32, 1.18, (0.0, 0.24)))),
        "star" => {
            polygon(&mut path, (0..10).map(|i| at(-90.0 + 36.0 * i as f32, if i % 2 == 0 { 1.12 } else { 0.47 }, (0.0, 0.06))))
        }
        "heart" => heart(&mut path),
        "cross" => cross(&mut path),
        "ring" => {
            path.push_circle(0.0, 0.0, 1.0);
            path.push_circle(0.0, 0.0, 0.5);
        }
        _ => crescent(&mut path),
    }
    path.finish().expect("a shape has points")
}

fn rect(x: f32, y: f32, width: f32, height: f32) -> Rect {
    Rect::from_xywh(x, y, width, height).expect("positive sides")
}

/// The point at an angle (degrees) and distance from a centre.
fn at(degrees: f32, distance: f32, centre: (f32, f32)) -> (f32, f32) {
    let (sin, cos) = libm::sincosf(degrees.to_radians());
    (centre.0 + distance * cos, centre.1 + distance * sin)
}

fn polygon(path: &mut PathBuilder, points: impl Iterator<Item = (f32, f32)>) {
    for (i, (x, y)) in points.enumerate() {
        if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    path.close();
}

fn heart(path: &mut PathBuilder) {
    path.move_to(0.0, 1.0);
    path.cubic_to(-0.35, 0.65, -1.05, 0.2, -1.02, -0.36);
    path.cubic_to(-0.99, -0.98, -0.22, -1.08, 0.0, -0.45);
    path.cubic_to(0.22, -1.08, 0.99, -0.98, 1.02, -0.36);
    path.cubic_to(1.05, 0.2, 0.35, 0.65, 0.0, 1.0);
    path.close();
}

fn cross(path: &mut PathBuilder) {
    let (arm, reach) = (0.36, 1.0);
    let corners = [(-arm, -reach), (arm, -reach), (arm, -arm), (reach, -arm), (reach, arm), (arm, arm)];
    let opposite = corners.map(|(x, y)| (-x, -y));
    polygon(path, corners.into_iter().chain(opposite));
}

/// The left part of a disc that a second disc, further right, leaves.
fn crescent(path: &mut PathBuilder) {
    let (radius, cut_radius, cut_x) = (1.0f32, 0.8f32, 0.52f32);
    // Where the circles meet.
    let x = (radius * radius - cut_radius * cut_radius + cut_x * cut_x) / (2.0 * cut_x);
    let y = (radius * radius - x * x).sqrt();
    let outer = libm::atan2f(y, x).to_degrees();
    let inner = libm::atan2f(y, x - cut_x).to_degrees();
    let shift = (0.12, 0.0);
    let along = |from: f32, to: f32, i: usize, steps: usize| from + (to - from) * i as f32 / steps as f32;
    let back = (0..=24).map(|i| at(along(outer, 360.0 - outer, i, 24), radius, shift));
    let front = (1..16).map(|i| at(along(360.0 - inner, inner, i, 16), cut_radius, (shift.0 + cut_x, 0.0)));
    polygon(path, back.chain(front));
}

fn stripes() -> Path {
    let mut path = PathBuilder::new();
    for i in -2..=2 {
        path.push_rect(rect(-1.3, i as f32 * 0.6 - 0.15, 2.6, 0.3));
    }
    path.finish().expect("stripes have points")
}

fn dots() -> Path {
    let mut path = PathBuilder::new();
    for row in -2i32..=2 {
        for column in -2i32..=2 {
            let shift = if row % 2 == 0 { 0.0 } else { 0.29 };
            path.push_circle(column as f32 * 0.58 + shift, row as f32 * 0.5, 0.19);
        }
    }
    path.finish().expect("dots have points")
}

fn checks() -> Path {
    let mut path = PathBuilder::new();
    for row in -3i32..3 {
        for column in (-3i32..3).filter(|column| (row + column) % 2 == 0) {
            path.push_rect(rect(column as f32 * 0.45, row as f32 * 0.45, 0.45, 0.45));
        }
    }
    path.finish().expect("checks have points")
}
