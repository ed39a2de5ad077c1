//! Painting a layout with tiny-skia.
//!
//! Input: a layout, draws for texture, a side S. Output: RGB pixels before lighting and lens. Invariant: everything is placed in
//! units of the side and drawn antialiased, so S changes the resolution and nothing else.

use tiny_skia::{Color, FillRule, LineJoin, Mask, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};

use super::super::philox::Draws;
use super::layout::{Object, SceneLayout, Style};
use super::shapes::{fill_rule, filling, outline, placed};
use super::vocabulary::Rgb;

/// Paper of sketches: toned, so that white and black lines both show.
const PAPER: Rgb = [196.0, 186.0, 168.0];
/// Colour of a bar that covers an object.
const BAR: Rgb = [112.0, 104.0, 100.0];

/// RGB pixels of a layout. **Shapes**: \[S, S, 3\].
pub(super) fn paint(layout: &SceneLayout, mut draws: Draws, side: usize) -> Vec<u8> {
    let mut canvas = Canvas::new(side);
    match layout.style {
        Style::Photo => {
            canvas.background(layout.background, &mut draws);
            layout.distractors.iter().for_each(|object| canvas.shaded(object));
            canvas.shaded(&layout.main);
        }
        Style::Sketch => {
            canvas.clear(PAPER);
            canvas.hatching(&mut draws);
            layout.distractors.iter().for_each(|object| canvas.sketched(object));
            canvas.sketched(&layout.main);
        }
        Style::Art(art) => {
            canvas.clear(art_background(art, &mut draws));
            for object in layout.distractors.iter().chain([&layout.main]) {
                canvas.art(art, object);
            }
        }
    }
    if let Some((x, y, half_width, degrees)) = layout.bar {
        let bar = PathBuilder::from_rect(Rect::from_ltrb(-1.5, -half_width, 1.5, half_width).expect("a bar has an area"));
        canvas.fill(&bar, FillRule::Winding, placed((1.0, 1.0), degrees, (x, y)), BAR, 1.0, None);
    }
    canvas.rgb()
}

fn art_background(art: u8, draws: &mut Draws) -> Rgb {
    let tint = draws.between(-12.0, 12.0);
    let base = match art {
        0 => [250.0, 232.0, 190.0],
        1 => [24.0, 16.0, 44.0],
        2 => [150.0, 140.0, 130.0],
        _ => [226.0, 214.0, 226.0],
    };
    base.map(|channel: f32| channel + tint)
}

/// Second colour of a pattern: lighter, or darker where the first is light.
fn second(colour: Rgb) -> Rgb {
    let brightness = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2];
    if brightness > 150.0 { colour.map(|channel| 0.42 * channel) } else { towards(colour, [255.0; 3], 0.68) }
}

fn towards(colour: Rgb, other: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|channel| colour[channel] + (other[channel] - colour[channel]) * share)
}

struct Canvas {
    pixmap: Pixmap,
    side: f32,
}

impl Canvas {
    fn new(side: usize) -> Self {
        let pixmap = Pixmap::new(side as u32, side as u32).expect("an image has at least one pixel");
        Self { pixmap, side: side as f32 }
    }

    fn clear(&mut self, colour: Rgb) {
        self.pixmap.fill(opaque(colour, 1.0));
    }

    /// Fills a path given in shares of the side after `place`.
    fn fill(&mut self, path: &Path, rule: FillRule, place: Transform, colour: Rgb, alpha: f32, mask: Option<&Mask>) {
        let place = place.post_scale(self.side, self.side);
        self.pixmap.fill_path(path, &solid(colour, alpha), rule, place, mask);
    }

    /// Strokes a path; `width` is a share of the side after scaling by `scale`.
    fn stroke(&mut self, path: &Path, place: Transform, colour: Rgb, width: f32, scale: f32, mask: Option<&Mask>) {
        let stroke = Stroke { width: width / scale, line_join: LineJoin::Round, ..Stroke::default() };
        let place = place.post_scale(self.side, self.side);
        self.pixmap.stroke_path(path, &solid(colour, 1.0), &stroke, place, mask);
    }

    /// Where an object and its pattern go.
    fn places(&self, object: &Object) -> (Transform, Transform) {
        let scale = (object.radius * object.squeeze, object.radius);
        let place = placed(scale, object.rotation, (object.x, object.y));
        (place, place.pre_concat(placed((1.0, 1.0), object.grain, (0.0, 0.0))))
    }

    fn mask(&self, object: &Object, place: Transform) -> Option<Mask> {
        let mut mask = Mask::new(self.pixmap.width(), self.pixmap.height())?;
        mask.fill_path(outline(object.kind.shape), fill_rule(object.kind.shape), true, place.post_scale(self.side, self.side));
        Some(mask)
    }

    /// A filled object with its pattern, a shadow and a darker rim.
    fn shaded(&mut self, object: &Object) {
        let (place, grain) = self.places(object);
        let (path, rule) = (outline(object.kind.shape), fill_rule(object.kind.shape));
        let drop = 0.12 * object.radius;
        self.fill(path, rule, place.post_translate(drop, drop), [0.0; 3], 0.28, None);
        self.fill(path, rule, place, object.colour, 1.0, None);
        self.pattern(object, place, grain, second(object.colour));
        let is_dark = object.colour.iter().all(|&channel| channel < 80.0);
        let rim = if is_dark { towards(object.colour, [255.0; 3], 0.35) } else { object.colour.map(|channel| 0.55 * channel) };
        self.stroke(path, place, rim, 0.1 * object.radius, object.radius, None);
    }

    fn pattern(&mut self, object: &Object, place: Transform, grain: Transform, colour: Rgb) {
        if let (Some(filling), Some(mask)) = (filling(object.kind.pattern), self.mask(object, place)) {
            self.fill(filling, FillRule::Winding, grain, colour, 1.0, Some(&mask));
        }
    }

    /// An object in lines of its colour.
    fn sketched(&mut self, object: &Object) {
        let (place, grain) = self.places(object);
        let width = 0.17 * object.radius;
        if let (Some(filling), Some(mask)) = (filling(object.kind.pattern), self.mask(object, place)) {
            self.stroke(filling, grain, object.colour, 0.4 * width, object.radius, Some(&mask));
        }
        self.stroke(outline(object.kind.shape), place, object.colour, width, object.radius, None);
    }

    /// An object in one of the arts.
    fn art(&mut self, art: u8, object: &Object) {
        let (place, grain) = self.places(object);
        let (path, rule) = (outline(object.kind.shape), fill_rule(object.kind.shape));
        let colour = object.colour;
        match art {
            // A cartoon: flat, with a thick black line.
            0 => {
                self.fill(path, rule, place, towards(colour, [255.0; 3], 0.12), 1.0, None);
                self.pattern(object, place, grain, second(colour));
                self.stroke(path, place, [15.0, 12.0, 20.0], 0.2 * object.radius, object.radius, None);
            }
            // Neon: a glowing line around a dim body.
            1 => {
                let bright = towards(colour, [255.0; 3], 0.25);
                self.fill(path, rule, place, colour.map(|channel| 0.45 * channel), 1.0, None);
                self.pattern(object, place, grain, bright);
                self.stroke(path, place, bright, 0.16 * object.radius, object.radius, None);
            }
            // Mosaic (cut into tiles later) and pastel: no line at all.
            2 => {
                self.fill(path, rule, place, colour, 1.0, None);
                self.pattern(object, place, grain, second(colour));
            }
            _ => {
                self.fill(path, rule, place, towards(colour, [235.0, 228.0, 232.0], 0.35), 1.0, None);
                self.pattern(object, place, grain, towards(second(colour), [235.0, 228.0, 232.0], 0.35));
            }
        }
    }

    /// Faint parallel lines of a pencil on paper.
    fn hatching(&mut self, draws: &mut Draws) {
        let mut path = PathBuilder::new();
        for _ in 0..7 {
            let (x, y) = (draws.uniform(), draws.uniform());
            path.move_to(x, y);
            path.line_to(x + 0.16, y - 0.1);
        }
        if let Some(path) = path.finish() {
            self.stroke(&path, Transform::identity(), PAPER.map(|channel| channel - 26.0), 0.014, 1.0, None);
        }
    }

    /// One of the backgrounds, in the order of their names.
    fn background(&mut self, which: usize, draws: &mut Draws) {
        let (base, grain): (Rgb, Rgb) = match which {
            0 => ([118.0, 148.0, 98.0], [92.0, 126.0, 76.0]),
            1 => ([208.0, 188.0, 146.0], [190.0, 168.0, 126.0]),
            2 => ([158.0, 196.0, 226.0], [232.0, 238.0, 244.0]),
            3 => ([88.0, 138.0, 160.0], [118.0, 166.0, 184.0]),
            4 => ([158.0, 104.0, 86.0], [188.0, 172.0, 158.0]),
            5 => ([150.0, 114.0, 78.0], [126.0, 92.0, 60.0]),
            6 => ([224.0, 230.0, 238.0], [202.0, 212.0, 226.0]),
            7 => ([38.0, 42.0, 70.0], [206.0, 206.0, 184.0]),
            8 => ([196.0, 200.0, 204.0], [150.0, 156.0, 164.0]),
            9 => ([222.0, 220.0, 210.0], [142.0, 140.0, 136.0]),
            _ => ([128.0, 76.0, 88.0], [162.0, 126.0, 96.0]),
        };
        let tint = draws.between(-10.0, 10.0);
        self.clear(base.map(|channel| channel + tint));
        let mut path = PathBuilder::new();
        texture(which, &mut path, draws);
        if let Some(path) = path.finish() {
            self.fill(&path, FillRule::Winding, Transform::identity(), grain.map(|channel| channel + tint), 0.8, None);
        }
    }

    fn rgb(&self) -> Vec<u8> {
        self.pixmap.data().as_chunks::<4>().0.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]).collect()
    }
}

/// The marks that tell a background from a plain colour.
fn texture(which: usize, path: &mut PathBuilder, draws: &mut Draws) {
    let mut mark = |x: f32, y: f32, width: f32, height: f32| {
        path.push_rect(Rect::from_xywh(x, y, width, height).expect("a mark has an area"));
    };
    let mut scatter = |count: usize, width: f32, height: f32| {
        for _ in 0..count {
            mark(draws.uniform() - width / 2.0, draws.uniform() - height / 2.0, width, height);
        }
    };
    match which {
        0 => scatter(26, 0.02, 0.1),
        1 => scatter(30, 0.035, 0.03),
        2 => scatter(3, 0.36, 0.1),
        3 => scatter(11, 0.24, 0.025),
        6 => scatter(12, 0.16, 0.04),
        7 => scatter(14, 0.026, 0.026),
        9 => (0..9).for_each(|row| mark(0.04, 0.03 + row as f32 * 0.11, 0.6 + 0.32 * draws.uniform(), 0.035)),
        4 => {
            for row in 0..6 {
                let y = row as f32 * 0.18 + 0.02;
                mark(0.0, y, 1.0, 0.022);
                let shift = if row % 2 == 0 { 0.08 } else { 0.24 };
                (0..4).for_each(|column| mark(shift + column as f32 * 0.32 - 0.1, y, 0.022, 0.18));
            }
        }
        5 => (0..5).for_each(|row| mark(0.0, row as f32 * 0.21 + 0.05 * draws.uniform(), 1.0, 0.03)),
        8 => (0..4).for_each(|line| {
            mark(line as f32 * 0.28 + 0.06, 0.0, 0.025, 1.0);
            mark(0.0, line as f32 * 0.28 + 0.06, 1.0, 0.025);
        }),
        _ => (0..5).for_each(|line| mark(0.0, 0.08 + line as f32 * 0.2, 1.0, 0.07)),
    }
}

fn opaque(colour: Rgb, alpha: f32) -> Color {
    let channel = |value: f32| (value / 255.0).clamp(0.0, 1.0);
    Color::from_rgba(channel(colour[0]), channel(colour[1]), channel(colour[2]), alpha).expect("channels lie in 0 to 1")
}

fn solid(colour: Rgb, alpha: f32) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color(opaque(colour, alpha));
    paint
}
