//! Half the width of an interval against seeds, as SVG.

use std::fmt::Write as _;

/// Half-widths on so many items, points, by seeds.
pub(super) struct Curve {
    pub items: usize,
    pub points: Vec<(u64, f64)>,
}

impl Curve {
    /// Items, seeds and half-width of every point.
    pub fn rows(&self) -> impl Iterator<Item = Vec<String>> + '_ {
        self.points.iter().map(|(seeds, width)| vec![self.items.to_string(), seeds.to_string(), format!("{width:.3}")])
    }
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 340.0;
const MARGIN: f64 = 50.0;
const COLOURS: [&str; 3] = ["#1b6ca8", "#c1622d", "#4a7c3a"];

/// Curves of half-width against seeds, axes from zero, each named at its end.
#[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
pub(super) fn svg(curves: &[Curve]) -> String {
    let all = || curves.iter().flat_map(|curve| curve.points.iter());
    let most_seeds = all().map(|(seeds, _)| *seeds).max().unwrap_or(1);
    let widest = all().map(|(_, width)| *width).fold(1.0, f64::max).ceil();
    let x = |seeds: u64| MARGIN + (WIDTH - 3.0 * MARGIN) * seeds as f64 / most_seeds as f64;
    let y = |width: f64| HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * width / widest;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\">Half the width of a 95 % interval around a difference, points</text>\n"
    );
    for seeds in (0..=most_seeds).step_by(2) {
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{seeds}</text>", x(seeds), y(0.0) + 18.0);
    }
    let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">seeds</text>", x(most_seeds / 2), y(0.0) + 36.0);
    let mut line = 0.0;
    while line <= widest {
        let _ = writeln!(
            out,
            "<line x1=\"{MARGIN}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ccc\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{line}</text>",
            x(most_seeds),
            y(line),
            y(line),
            MARGIN - 6.0,
            y(line) + 4.0
        );
        line += 1.0;
    }
    for (Curve { items, points }, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let path: Vec<String> = points.iter().map(|(seeds, width)| format!("{:.1},{:.1}", x(*seeds), y(*width))).collect();
        let _ = writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", path.join(" "));
        for (seeds, width) in points {
            let _ = writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(*seeds), y(*width));
        }
        if let Some((seeds, width)) = points.last() {
            let (x, y) = (x(*seeds) + 8.0, y(*width) + 4.0);
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{items} items</text>");
        }
    }
    out.push_str("</svg>\n");
    out
}
