//! The `fit` test: a straight line by least squares, and how well or how steeply it runs.
//!
//! Invariant: one comparison for each condition that the test states; too few points are a missing comparison, and so is a point
//! of runs without a value. On runs the line is fitted to the means, and the band is a t interval over the lines of single seeds.

use super::contrast::{common_seeds, variance};
use super::estimate::{Decision, Estimate, decide};
use super::operand::{Context, Gap, expand, product};
use super::sheet::Sheet;
use super::statement::{FitSpec, Operand};
use super::stats::quantile;
use super::verdict::Answer;
use super::wording::prefix;
use crate::run::counted;
use crate::tables::{COUNTS, short};

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

/// What is read off the lines: a number, what it is compared with, and the words for both.
struct Condition {
    left: f64,
    right: f64,
    words: String,
}

/// Reads something off the line through points.
type Reading<'a, T> = &'a dyn Fn(&[(f64, f64)]) -> Option<T>;

fn r2(points: &[(f64, f64)], threshold: f64) -> Option<Condition> {
    let fitted = if points.len() > 2 { line(points) } else { None }?;
    let words = format!("R2 ({}, slope {}) is at least {threshold}", short(fitted.r2), short(fitted.slope));
    Some(Condition { left: fitted.r2, right: threshold, words })
}

fn steeper(points: &[(f64, f64)], split: f64) -> Option<Condition> {
    let (below, above): (Vec<_>, Vec<_>) = points.iter().partition(|(x, _)| *x <= split);
    let (below, above) = (line(&below)?.slope, line(&above)?.slope);
    let words = format!("the slope above x={split} ({}) is above the slope below ({})", short(above), short(below));
    Some(Condition { left: above, right: below, words })
}

/// The points of a fit, and how many have no value.
struct Points {
    points: Vec<(Estimate, Estimate)>,
    missing: usize,
}

fn points(spec: &FitSpec, context: &Context<'_>, sheet: &mut Sheet) -> Points {
    let mut found = Points { points: Vec::new(), missing: 0 };
    for bound in product(&spec.over, context.frame) {
        let mut here = context.clone();
        here.bound.extend(bound);
        let pairs = |operand: &Operand| expand(operand, context.frame).iter().map(|one| here.evaluate(one)).collect::<Vec<_>>();
        for (x, y) in pairs(&spec.x).into_iter().zip(pairs(&spec.y)) {
            match (x, y) {
                (Ok(x), Ok(y)) => found.points.push((x, y)),
                (Err(gap), _) | (_, Err(gap)) => {
                    found.missing += 1;
                    sheet.note(&gap);
                }
            }
        }
    }
    found
}

pub(super) fn fit(spec: &FitSpec, context: &Context<'_>, sheet: &mut Sheet) {
    let FitSpec { x: _, y: _, over: _, r2_at_least, steeper_above, each: _ } = spec;
    let points = points(spec, context, sheet);
    if let Some(threshold) = *r2_at_least {
        condition(&points, &|points| r2(points, threshold), &format!("R2 is at least {threshold}"), context, sheet);
    }
    if let Some(split) = *steeper_above {
        let claimed = format!("the slope above x={split} is above the slope below");
        condition(&points, &|points| steeper(points, split), &claimed, context, sheet);
    }
}

/// Judges one condition on the line through the means.
fn condition(points: &Points, read: Reading<'_, Condition>, claimed: &str, context: &Context<'_>, sheet: &mut Sheet) {
    let Points { points, missing } = points;
    let prefix = prefix(context);
    let have = format!("{}, {missing} missing", counted(points.len(), "point"));
    let of_runs = points.iter().any(|(x, y)| [x, y].iter().any(|side| side.is_of_runs(context.frame)));
    let means: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.value, y.value)).collect();
    let found = read(&means).filter(|_| *missing == 0 || !of_runs);
    let Some(Condition { left, right, words }) = found else {
        let what = if of_runs && *missing > 0 { "a line needs them all" } else { "too few for a line" };
        let gap = Gap::missing(format!("{have}: {what}"));
        return sheet.push_missing(format!("{prefix}{claimed}"), &gap);
    };
    let difference = |condition: Condition| condition.left - condition.right;
    let band = if of_runs { seeds_band(points, &|points| read(points).map(difference), context) } else { Ok(0.0) };
    let holds = left >= right;
    let decision = match band {
        Ok(0.0) => Decision {
            difference: left - right,
            band: Ok(0.0),
            answer: if holds { Answer::True } else { Answer::False },
            leans: holds,
            evidence: None,
        },
        band => decide(left - right, band),
    };
    sheet.push(format!("{prefix}{words} ({have})"), left, right, decision);
}

/// Half the width of the t interval over what the lines of single seeds give.
#[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
fn seeds_band(points: &[(Estimate, Estimate)], read: Reading<'_, f64>, context: &Context<'_>) -> Result<f64, String> {
    let Some(tail) = context.rules.tail() else { return Ok(0.0) };
    let frame = context.frame;
    let parts: Vec<_> = points.iter().flat_map(|(x, y)| [x, y]).flat_map(|side| side.parts(frame)).collect();
    if parts.is_empty() {
        return Err("a line's spread is that of the lines of single seeds, and their values are not known".to_owned());
    }
    let seeds = common_seeds(&parts)?;
    let line_of =
        |seed: &u64| read(&points.iter().map(|(x, y)| (x.at_seed(frame, *seed), y.at_seed(frame, *seed))).collect::<Vec<_>>());
    let by_seed = seeds.iter().map(line_of).collect::<Option<Vec<f64>>>();
    let by_seed = by_seed.ok_or_else(|| "the points of a single seed give no line".to_owned())?;
    let n = seeds.len() as f64;
    let spread = variance(&by_seed);
    let is_exact = || parts.iter().all(|part| COUNTS.contains(&part.metric));
    if spread < 1e-18 && !is_exact() {
        return Err(format!("no spread between {} seeds, which is no estimate of one", seeds.len()));
    }
    Ok(quantile(tail, n - 1.0) * (spread / n).sqrt())
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
