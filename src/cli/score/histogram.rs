//! A histogram of scores as SVG.

use std::fmt::Write;

/// Bars.
const BINS: usize = 40;
/// Plot area, pixels.
const WIDTH: f64 = 600.0;
/// Plot area, pixels.
const HEIGHT: f64 = 240.0;
/// Space around it, pixels.
const MARGIN: f64 = 48.0;

/// Counts of finite scores in equal bins from the least to the largest; a single value is one bin.
pub(super) fn bins(scores: &[f64]) -> (f64, f64, Vec<u64>) {
    let finite = || scores.iter().copied().filter(|score| score.is_finite());
    let (least, most) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), s| (least.min(s), most.max(s)));
    if least >= most {
        return (least, most, vec![finite().count() as u64]);
    }
    let mut counts = vec![0; BINS];
    for score in finite() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the number of bins")]
        let bin = ((score - least) / (most - least) * BINS as f64) as usize;
        counts[bin.min(BINS - 1)] += 1;
    }
    (least, most, counts)
}

/// The picture: bars, the range, the largest count, and how many have no score.
#[expect(clippy::cast_precision_loss, reason = "display values")]
pub(super) fn svg(title: &str, scores: &[f64]) -> String {
    let (least, most, counts) = bins(scores);
    let highest = counts.iter().copied().max().unwrap_or(0).max(1);
    let missing = scores.iter().filter(|score| !score.is_finite()).count();
    let (width, height) = (WIDTH + 2.0 * MARGIN, HEIGHT + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let bar = WIDTH / counts.len() as f64;
    for (bin, count) in counts.iter().enumerate() {
        let tall = HEIGHT * *count as f64 / highest as f64;
        let (x, y) = (MARGIN + bar * bin as f64, MARGIN + HEIGHT - tall);
        _ = writeln!(out, "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{:.2}\" height=\"{tall:.2}\" fill=\"#4878a8\"/>", bar * 0.92);
    }
    let base = MARGIN + HEIGHT;
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    let text =
        |x: f64, y: f64, anchor: &str, what: &str| format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{what}</text>\n");
    _ = writeln!(out, "<line x1=\"{MARGIN}\" y1=\"{base}\" x2=\"{}\" y2=\"{base}\" stroke=\"black\"/>", MARGIN + WIDTH);
    out += &text(width / 2.0, MARGIN / 2.0, "middle", &format!("{title}: {} samples, {missing} without a score", scores.len()));
    out += &text(MARGIN, base + 18.0, "start", &format!("{least:.4}"));
    out += &text(MARGIN + WIDTH, base + 18.0, "end", &format!("{most:.4}"));
    out += &text(MARGIN - 6.0, MARGIN + 4.0, "end", &highest.to_string());
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_score_is_in_one_bin_and_the_rest_are_counted() {
        let scores: Vec<f64> = (0..100).map(f64::from).chain([f64::NAN]).collect();
        let (least, most, counts) = bins(&scores);
        assert_eq!((least, most, counts.len(), counts.iter().sum::<u64>()), (0.0, 99.0, BINS, 100));
        assert_eq!(counts[BINS - 1], 3, "97, 98 and 99 lie in the last of 40 bins of 99");
        assert_eq!(bins(&[2.0, 2.0]), (2.0, 2.0, vec![2]));
        let drawn = svg("a < b", &scores);
        assert!(drawn.contains("a &lt; b: 101 samples, 1 without a score") && drawn.matches("<rect").count() == BINS + 1);
    }
}
