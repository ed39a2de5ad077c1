//! Figures as SVG.
//!
//! Our own writer and no plotting crate: a page needs three layouts (lines, dots by name, a legend), text that is placed without the font
//! that the reader has, colours that follow the reader's theme, and a mark and a dash beside each colour. Invariant: no text overlaps
//! another; a line is told from the others by colour, mark and dash, so that it is legible in grey; the same figure gives the same
//! bytes. Colours come from [`style`], which a page has once and a file of its own carries inside.

use std::fmt::Write as _;

use super::scale::{Scale, Tick, apart};
use super::text::{SIZE, cut, escaped, width};
use super::{AxisKind, Figure, Form, Point, Series};

/// Width of every figure in its own units; it is scaled to the room that a page has.
const WIDTH: f64 = 400.0;
/// Height of the frame of lines.
const HEIGHT: f64 = 210.0;
/// Where a frame begins below the name of its values.
const TOP: f64 = 22.0;
/// Space right of a frame.
const RIGHT: f64 = 12.0;
/// Height of a line of the legend.
const LEGEND_LINE: f64 = 17.0;
/// Room of the sample before a name in the legend.
const SAMPLE: f64 = 34.0;
/// Dashes of lines, by look.
const DASHES: [&str; 4] = ["", "7 3", "2 3", "8 3 2 3"];
/// Colours that [`style`] has.
const COLOURS: usize = 6;
/// Shapes of marks.
const SHAPES: usize = 7;

/// Colours of figures, in light and dark: all of them stand out from their ground by three to one or more.
pub(in crate::report) fn style() -> &'static str {
    include_str!("figure.css")
}

/// The figure as one SVG element.
pub(in crate::report) fn draw(figure: &Figure) -> String {
    let mut body = String::new();
    let frame_end = if figure.has_names() { dots(figure, &mut body) } else { lines(figure, &mut body) };
    let height = legend(figure, frame_end, &mut body);
    let title = escaped(&figure.title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"figure\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
         {body}</svg>\n"
    )
}

/// A text at a place; `anchor` is `start`, `middle` or `end`.
fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, what: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(what));
}

/// The middle of a text that is to stand at a place, as far as the figure goes.
fn inside(place: f64, what: &str) -> f64 {
    let half = width(what) / 2.0;
    if half < WIDTH / 2.0 { place.clamp(half, WIDTH - half) } else { WIDTH / 2.0 }
}

fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(out, "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
}

/// The names of points along x, where every one is called what its label says; else ticks of the scale.
fn x_ticks(figure: &Figure, scale: &Scale) -> Vec<Tick> {
    if !figure.x.is_labelled {
        return scale.ticks(5);
    }
    let mut named: Vec<Tick> = figure.points().map(|point| (point.x, point.label.clone())).collect();
    named.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.len().cmp(&b.1.len())));
    named.dedup_by(|next, kept| next.0 <= kept.0);
    named
}

/// Lines over an axis of amounts; where the frame ends.
fn lines(figure: &Figure, out: &mut String) -> f64 {
    let ends = |point: &Point| [point.y - point.spread.unwrap_or(0.0), point.y + point.spread.unwrap_or(0.0)];
    let amounts = figure.points().flat_map(ends);
    let y = Scale::of(&figure.y.kind, amounts, TOP + HEIGHT, -HEIGHT).kept_above_zero();
    let y_ticks = y.ticks(5);
    let left = y_ticks.iter().map(|(_, text)| width(text)).fold(0.0, f64::max) + 8.0;
    let right = WIDTH - RIGHT;
    let x = Scale::of(&figure.x.kind, figure.points().map(|point| point.x), left, right - left);
    let base = TOP + HEIGHT;
    text(out, (0.0, SIZE), "start", &cut(&figure.y.name, WIDTH));
    let places = y_ticks.into_iter().map(|(amount, text)| (-y.at(amount), text)).collect();
    for (place, what) in apart(places, |_| SIZE, 3.0) {
        line(out, "rule", (left, -place), (right, -place));
        text(out, (left - 6.0, 4.0 - place), "end", &what);
    }
    let places = x_ticks(figure, &x).into_iter().map(|(amount, text)| (x.at(amount), text)).collect();
    for (place, what) in apart(places, width, 5.0) {
        line(out, "axis", (place, base), (place, base + 4.0));
        text(out, (inside(place, &what), base + 17.0), "middle", &what);
    }
    line(out, "axis", (left, base), (right, base));
    text(out, (f64::midpoint(left, right), base + 34.0), "middle", &cut(&figure.x.name, right - left));
    for meeting in &figure.meets {
        let low = meeting.low.map_or(left, |low| x.at(low).max(left));
        let high = meeting.high.map_or(right, |high| x.at(high).min(right));
        let _ = writeln!(
            out,
            "<rect class=\"meet\" x=\"{low:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{HEIGHT}\"/>",
            (high - low).max(0.0)
        );
        let at = x.at(meeting.at).clamp(left, right);
        line(out, "meet", (at, TOP), (at, base));
    }
    // Curves of runs lie over each other.
    let is_thin = figure.series.iter().all(|series| series.form == Form::Curve);
    for series in &figure.series {
        one_line(series, (&x, &y), base, is_thin, out);
    }
    base + 44.0
}

fn one_line(series: &Series, (x, y): (&Scale, &Scale), base: f64, is_thin: bool, out: &mut String) {
    let mut points: Vec<&Point> = series.points.iter().collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    let _ = writeln!(out, "<g class=\"s{}\">", series.look % COLOURS);
    for point in &points {
        if let Some(spread) = point.spread.filter(|spread| *spread > 0.0) {
            // Below zero a logarithmic axis has no place: the bar ends at the frame.
            let (low, high) = (y.at(point.y - spread), y.at(point.y + spread));
            let low = if low.is_finite() { low.min(base) } else { base };
            line(out, "bar", (x.at(point.x), low), (x.at(point.x), high));
        }
    }
    let places: Vec<(f64, f64)> = points.iter().map(|point| (x.at(point.x), y.at(point.y))).collect();
    if series.form != Form::Marks && places.len() > 1 {
        let class = if is_thin { "line thin" } else { "line" };
        let _ = writeln!(out, "<path class=\"{class}\"{} d=\"{}\"/>", dash(series.look), path(&places, series.form));
    }
    if matches!(series.form, Form::Line | Form::Marks) {
        points.iter().zip(&places).for_each(|(point, place)| mark(series.look, *place, point.is_hollow, out));
    }
    out.push_str("</g>\n");
}

fn dash(look: usize) -> String {
    match DASHES[look % DASHES.len()] {
        "" => String::new(),
        dashes => format!(" stroke-dasharray=\"{dashes}\""),
    }
}

fn path(places: &[(f64, f64)], form: Form) -> String {
    let mut out = String::new();
    for (idx, (x, y)) in places.iter().enumerate() {
        let _ = match (idx, form) {
            (0, _) => write!(out, "M{x:.1} {y:.1}"),
            (_, Form::Stairs) => write!(out, "H{x:.1}V{y:.1}"),
            _ => write!(out, "L{x:.1} {y:.1}"),
        };
    }
    out
}

/// A mark of a look: circle, square, triangle, diamond, triangle upside down, cross, plus.
fn mark(look: usize, (x, y): (f64, f64), is_hollow: bool, out: &mut String) {
    let class = if is_hollow { "mark hollow" } else { "mark" };
    let shape = match look % SHAPES {
        0 => format!("M{:.1} {y:.1}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z", x - 3.6),
        1 => format!("M{:.1} {:.1}h6.6v6.6h-6.6z", x - 3.3, y - 3.3),
        2 => format!("M{x:.1} {:.1}l4.4 7.4h-8.8z", y - 4.6),
        3 => format!("M{x:.1} {:.1}l4.6 4.6l-4.6 4.6l-4.6 -4.6z", y - 4.6),
        4 => format!("M{x:.1} {:.1}l4.4 -7.4h-8.8z", y + 4.6),
        5 => format!("M{:.1} {:.1}l7 7m0 -7l-7 7", x - 3.5, y - 3.5),
        _ => format!("M{:.1} {y:.1}h9m-4.5 -4.5v9", x - 4.5),
    };
    let _ = writeln!(out, "<path class=\"{class}\" d=\"{shape}\"/>");
}

/// Dots by name, each name above its own; where the frame ends.
#[expect(clippy::cast_precision_loss, reason = "numbers of lines")]
fn dots(figure: &Figure, out: &mut String) -> f64 {
    let AxisKind::Names(names) = &figure.x.kind else { return TOP };
    let step = 11.0;
    let band = 18.0 + step * figure.series.len() as f64 + 5.0;
    let ends = |point: &Point| [point.y - point.spread.unwrap_or(0.0), point.y + point.spread.unwrap_or(0.0)];
    let scale = Scale::of(&figure.y.kind, figure.points().flat_map(ends), 6.0, WIDTH - RIGHT - 6.0).kept_above_zero();
    let base = TOP + band * names.len() as f64;
    text(out, (0.0, SIZE), "start", &cut(&figure.x.name, WIDTH));
    let places = scale.ticks(6).into_iter().map(|(amount, text)| (scale.at(amount), text)).collect();
    for (place, what) in apart(places, width, 6.0) {
        line(out, "rule", (place, TOP), (place, base));
        text(out, (inside(place, &what), base + 16.0), "middle", &what);
    }
    line(out, "axis", (0.0, base), (WIDTH - RIGHT, base));
    text(out, (WIDTH / 2.0, base + 32.0), "middle", &cut(&figure.y.name, WIDTH));
    for (idx, name) in names.iter().enumerate() {
        let top = TOP + band * idx as f64;
        text(out, (0.0, top + 13.0), "start", &cut(name, WIDTH - RIGHT));
        for (row, series) in figure.series.iter().enumerate() {
            let y = top + 18.0 + step * (row as f64 + 0.5);
            let _ = writeln!(out, "<g class=\"s{}\">", series.look % COLOURS);
            for point in series.points.iter().filter(|point| (point.x - idx as f64).abs() < 0.5) {
                if let Some(spread) = point.spread.filter(|spread| *spread > 0.0) {
                    line(out, "bar", (scale.at(point.y - spread), y), (scale.at(point.y + spread), y));
                }
                mark(series.look, (scale.at(point.y), y), point.is_hollow, out);
            }
            out.push_str("</g>\n");
        }
    }
    base + 42.0
}

/// Names of lines below the frame, as many beside each other as there is room for; where it ends.
fn legend(figure: &Figure, start: f64, out: &mut String) -> f64 {
    let named: Vec<&Series> = figure.series.iter().filter(|series| series.is_listed).collect();
    if named.is_empty() {
        return start;
    }
    let mut y = start + 12.0;
    if !figure.by.is_empty() {
        text(out, (0.0, y), "start", &cut(&figure.by, WIDTH));
        y += LEGEND_LINE;
    }
    let mut x = 0.0;
    for series in named {
        let name = cut(&series.name, WIDTH - SAMPLE);
        let wide = SAMPLE + width(&name) + 14.0;
        if x > 0.0 && x + wide - 14.0 > WIDTH {
            (x, y) = (0.0, y + LEGEND_LINE);
        }
        let middle = y - 4.0;
        let _ = writeln!(out, "<g class=\"s{}\">", series.look % COLOURS);
        let is_line = |other: &Series| other.look == series.look && other.form != Form::Marks;
        if figure.series.iter().any(is_line) && !figure.has_names() {
            let _ = writeln!(out, "<path class=\"line\"{} d=\"M{x:.1} {middle:.1}H{:.1}\"/>", dash(series.look), x + 28.0);
        }
        if matches!(series.form, Form::Line | Form::Marks) {
            mark(series.look, (x + 14.0, middle), false, out);
        }
        out.push_str("</g>\n");
        text(out, (x + SAMPLE, y), "start", &name);
        x += wide;
    }
    y + 8.0
}
