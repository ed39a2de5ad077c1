//! The `fit` test: a straight line by least squares, and how well or how steeply it runs.
//!
//! Invariant: one comparison for each condition that the test states; too few points are a missing comparison.

use super::judge::{Sheet, place};
use super::operand::{Context, Gap, expand, product};
use super::statement::{FitSpec, Operand};
use super::verdict::{Comparison, Outcome, short};
use crate::run::counted;

/// A line and how much of the variance of y it explains.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    slope: f64,
    r2: f64,
}

/// Ordinary least squares; `None` with fewer than two distinct x.
#[expect(clippy::cast_precision_loss, reason = "numbers of points")]
fn line(points: &[(f64, f64)]) -> Option<Line> {
    let n = points.len() as f64;
    let (mean_x, mean_y) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let sum = |term: fn(f64, f64) -> f64| points.iter().map(|(x, y)| term(x - mean_x, y - mean_y)).sum::<f64>();
    let (xx, xy, yy) = (sum(|x, _| x * x), sum(|x, y| x * y), sum(|_, y| y * y));
    (points.len() > 1 && xx > 0.0).then(|| Line { slope: xy / xx, r2: if yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 } })
}

/// What the points of a fit are, and whether each rests on seeds enough.
struct Points {
    points: Vec<(f64, f64)>,
    missing: usize,
    seeds_enough: bool,
}

fn points(spec: &FitSpec, context: &Context<'_>, sheet: &mut Sheet) -> Points {
    let mut found = Points { points: Vec::new(), missing: 0, seeds_enough: true };
    for bound in product(&spec.over, context.frame) {
        let mut here = context.clone();
        here.bound.extend(bound);
        let pairs = |operand: &Operand| expand(operand, context.frame).iter().map(|one| here.evaluate(one)).collect::<Vec<_>>();
        for (x, y) in pairs(&spec.x).into_iter().zip(pairs(&spec.y)) {
            match (x, y) {
                (Ok(x), Ok(y)) => {
                    found.seeds_enough &= [&x, &y].iter().all(|side| side.has_seeds_enough(context.frame, context.rules));
                    found.points.push((x.value, y.value));
                }
                (Err(gap), _) | (_, Err(gap)) => {
                    found.missing += 1;
                    if gap.ambiguous {
                        sheet.ambiguous.insert(gap.reason);
                    }
                }
            }
        }
    }
    found
}

pub(super) fn fit(spec: &FitSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let Points { points, missing, seeds_enough } = points(spec, context, sheet);
    let place = place(context);
    let prefix = if place.is_empty() { String::new() } else { format!("[{place}] ") };
    let gap =
        || Gap { reason: format!("{}, {missing} missing: too few for a line", counted(points.len(), "point")), ambiguous: false };
    let mut push = |text: String, numbers: Option<(f64, f64, bool)>| {
        let Some((left, right, holds)) = numbers else { return sheet.push_missing(&format!("{prefix}{text}"), &gap()) };
        let outcome = match (seeds_enough, holds) {
            (false, _) => Outcome::Tie,
            (true, true) => Outcome::True,
            (true, false) => Outcome::False,
        };
        let text = format!("{prefix}{text} ({}, {missing} missing)", counted(points.len(), "point"));
        let (left, right, difference) = (Some(left), Some(right), Some(left - right));
        sheet.comparisons.push(Comparison { left, right, difference, band: Some(0.0), outcome, text });
    };
    if let Some(threshold) = spec.r2_at_least {
        let fitted = if points.len() > 2 { line(&points) } else { None };
        let words = fitted.map_or(String::new(), |line| format!(": {}, slope {}", short(line.r2), short(line.slope)));
        let numbers = fitted.map(|line| (line.r2, threshold, line.r2 >= threshold));
        push(format!("R2 >= {threshold}{words}"), numbers);
    }
    if let Some(split) = spec.steeper_above {
        let (below, above): (Vec<_>, Vec<_>) = points.iter().partition(|(x, _)| *x <= split);
        let slopes = line(&above).zip(line(&below)).map(|(above, below)| (above.slope, below.slope));
        let words = slopes.map_or(String::new(), |(above, below)| format!(": {} against {}", short(above), short(below)));
        let numbers = slopes.map(|(above, below)| (above, below, above > below));
        push(format!("slope above x = {split} > slope below{words}"), numbers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_squares_agrees_with_a_worked_example() {
        // x 1 2 3 4, y 1 3 2 5: slope 1.1, R2 = 5.5^2 / (5 * 8.75).
        let fitted = line(&[(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 5.0)]);
        let Line { slope, r2 } = fitted.unwrap_or(Line { slope: 0.0, r2: 0.0 });
        assert!((slope - 1.1).abs() < 1e-12 && (r2 - 30.25 / 43.75).abs() < 1e-12, "{fitted:?}");
        assert_eq!(line(&[(1.0, 1.0), (1.0, 3.0)]), None);
        assert_eq!(line(&[(1.0, 1.0)]), None);
    }
}
