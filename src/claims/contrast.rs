//! The interval around a weighted sum of cells over seeds.
//!
//! Owns [`half_width`]. For weights w on cells that share n seeds, the variance of the sum is A = max(s² Σw², o²) / n: s² is
//! pooled over the cells of the tables with seeds as blocks ([`Pool::blocked`]), o² is the variance over seeds of the sum itself.
//! Where the weights of a metric do not add up to zero (a cell against a number), the seeds' common part does not cancel and o²
//! stands alone. Invariant: fewer than three seeds, or no spread at all, decide nothing, with the reason. Must not know: what
//! is asked of the sum.

use std::collections::{BTreeMap, BTreeSet};

use super::pool::Pool;
use super::stats::t_two_sided;
use crate::tables::COUNTS;

/// Seeds that a comparison of runs needs.
pub(super) const SEEDS_NEEDED: usize = 3;

/// One cell of a sum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub weight: f64,
    pub metric: &'a str,
    pub values: &'a [(u64, f64)],
}

/// Half the width of the t interval around the sum at a confidence; else why there is none.
#[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
pub(super) fn half_width(parts: &[Part<'_>], pool: &Pool, confidence: f64) -> Result<f64, String> {
    let seeds = common_seeds(parts)?;
    let n = seeds.len() as f64;
    let by_seed: Vec<BTreeMap<u64, f64>> = parts.iter().map(|part| part.values.iter().copied().collect()).collect();
    let sum = |seed: &u64| by_seed.iter().zip(parts).map(|(values, part)| part.weight * values[seed]).sum();
    let own = variance(&seeds.iter().map(sum).collect::<Vec<f64>>());
    let weights: f64 = parts.iter().map(|part| part.weight.powi(2)).sum();
    let pooled = contrasted_metric(parts).and_then(|metric| pool.blocked(metric, &seeds));
    let (spread, degrees) = match pooled {
        Some(pooled) => ((pooled.variance * weights).max(own), pooled.degrees),
        None => (own, n - 1.0),
    };
    let spread = if is_nothing(spread, parts) { floor(parts, pool, seeds.len())? } else { spread };
    Ok(if spread == 0.0 { 0.0 } else { t_two_sided(confidence, degrees) * (spread / n).sqrt() })
}

/// The seeds that stand behind every cell, where they are enough and no cell has others.
pub(super) fn common_seeds(parts: &[Part<'_>]) -> Result<Vec<u64>, String> {
    let sets: Vec<BTreeSet<u64>> = parts.iter().map(|part| part.values.iter().map(|(seed, _)| *seed).collect()).collect();
    let fewest = sets.iter().map(BTreeSet::len).min().unwrap_or(0);
    let seeds = |n: usize| if n == 1 { "1 seed".to_owned() } else { format!("{n} seeds") };
    if fewest < SEEDS_NEEDED {
        return Err(format!("{}, at least {SEEDS_NEEDED} are needed", seeds(fewest)));
    }
    let common = sets.iter().skip(1).fold(sets[0].clone(), |common, set| &common & set);
    match common.len() {
        n if n < SEEDS_NEEDED => Err(format!("{} in common, at least {SEEDS_NEEDED} are needed", seeds(n))),
        n if sets.iter().any(|set| set.len() != n) => Err("its cells rest on different seeds".to_owned()),
        _ => Ok(common.into_iter().collect()),
    }
}

/// The metric whose cells are set against each other: the only one, with weights that add up to zero.
fn contrasted_metric<'a>(parts: &[Part<'a>]) -> Option<&'a str> {
    let metric = parts.first()?.metric;
    let (sum, size) = parts.iter().fold((0.0, 0.0), |(sum, size), part| (sum + part.weight, size + part.weight.abs()));
    (parts.iter().all(|part| part.metric == metric) && f64::abs(sum) < 1e-9 * size).then_some(metric)
}

/// Whether a variance is zero but for the rounding of sums.
fn is_nothing(variance: f64, parts: &[Part<'_>]) -> bool {
    let sizes = parts.iter().flat_map(|part| part.values.iter().map(|(_, value)| (part.weight * value).abs()));
    variance <= (1e-9 * sizes.fold(0.0, f64::max)).powi(2)
}

/// A few equal differences say nothing of the next seed: the variance within the cells of the tables stands in, which ignores
/// that seeds go together and so is too large rather than too small. Counts are exact, and may be equal.
fn floor(parts: &[Part<'_>], pool: &Pool, n: usize) -> Result<f64, String> {
    let within = |part: &Part<'_>| pool.within(part.metric).map_or(0.0, |spread| spread.variance);
    let variance: f64 = parts.iter().map(|part| part.weight.powi(2) * within(part)).sum();
    let is_exact = || parts.iter().all(|part| COUNTS.contains(&part.metric));
    match is_nothing(variance, parts) {
        false => Ok(variance),
        true if is_exact() => Ok(0.0),
        true => Err(format!("no spread between {n} seeds, which is no estimate of one")),
    }
}

/// Variance of values, n - 1 in the denominator.
#[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
pub(super) fn variance(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)
}
