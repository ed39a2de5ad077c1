//! The standard error of a weighted sum of cells over seeds.
//!
//! Owns [`Spread`]. For weights w on cells that share n seeds, the seeds' part is A = max(s² Σw², o²) / n: s² is pooled over the
//! cells of the tables with seeds as blocks ([`Pool::blocked`]), o² is the variance over seeds of the sum itself. Of several
//! metrics, Σ w'Rw over the places stands for s² Σw², R being the covariance of the residuals. Where the weights of a metric do not
//! add up to zero (a cell against a number), the seeds' common part does not cancel: A = o² / n, with n - 1 degrees of freedom. So it is
//! where seeds draw something in one cell that is not there in another (the scorer of a filter, against the whole pool).
//! With the items' part I ([`super::items`]) the squared standard error is A + I, its degrees of freedom ν((A + I) / A)².
//! Invariant: fewer than three seeds, or no spread at all, decide nothing, with the reason. Must not know: what is asked of the sum.

use std::collections::{BTreeMap, BTreeSet};

use super::items::{ItemsPart, Part, of_items};
use super::pool::{Pool, place};
use super::source::Summary;
use super::stats;
use crate::run::counted;
use crate::tables::COUNTS;

/// Seeds that a comparison of runs needs.
pub(super) const SEEDS_NEEDED: usize = 3;

/// Most seeds that are named as what a comparison still needs.
const MOST_SEEDS: u32 = 1000;

/// How far a sum of cells may be from what other seeds and items would give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    /// The seeds' part of the variance.
    pub seeds: f64,
    /// Degrees of freedom of the seeds' part.
    pub degrees: f64,
    /// Seeds that the cells share.
    pub num_seeds: u32,
    /// The items' part; `None` where outcomes are not known.
    pub items: Option<ItemsPart>,
    /// The sum over the shared seeds less that over all seeds of each cell.
    pub shift: f64,
}

/// What would decide a comparison that is not decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// So many seeds in all.
    Seeds(u64),
    /// Seeds do not; so many items in all.
    Items(u64),
}

impl Spread {
    /// That of the sum; else why there is none.
    #[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
    pub fn of(parts: &[Part<'_>], pool: &Pool) -> Result<Self, String> {
        let seeds = common_seeds(parts)?;
        let n = seeds.len() as f64;
        let by_seed: Vec<BTreeMap<u64, f64>> =
            parts.iter().map(|part| part.runs.iter().map(|run| (run.seed, run.value)).collect()).collect();
        let sum = |seed: &u64| by_seed.iter().zip(parts).map(|(values, part)| part.weight * values[seed]).sum::<f64>();
        let sums: Vec<f64> = seeds.iter().map(sum).collect();
        let of_all =
            |(values, part): (&BTreeMap<u64, f64>, &Part<'_>)| part.weight * values.values().sum::<f64>() / values.len() as f64;
        let is_shared = by_seed.iter().all(|values| values.len() == seeds.len());
        let shift = if is_shared { 0.0 } else { sums.iter().sum::<f64>() / n - by_seed.iter().zip(parts).map(of_all).sum::<f64>() };
        let own = variance(&sums);
        let (spread, degrees) = match pooled(parts, pool, &seeds) {
            Some((pooled, degrees)) => (pooled.max(own), degrees),
            None => (own, n - 1.0),
        };
        let items = of_items(parts, &seeds);
        let spread = match is_nothing(spread, parts) {
            false => spread,
            true => match items {
                Some(ItemsPart { variance, .. }) if variance > 0.0 => 0.0,
                _ => floor(parts, pool, seeds.len())?,
            },
        };
        let num_seeds = u32::try_from(seeds.len()).unwrap_or(u32::MAX);
        Ok(Self { seeds: spread / n, degrees, num_seeds, items, shift })
    }

    fn items_variance(&self) -> f64 {
        self.items.map_or(0.0, |items| items.variance)
    }

    fn error(&self) -> f64 {
        (self.seeds + self.items_variance()).sqrt()
    }

    /// Degrees of freedom of the whole.
    fn all_degrees(&self, seeds: f64, degrees: f64) -> f64 {
        if seeds > 0.0 { degrees * ((seeds + self.items_variance()) / seeds).powi(2) } else { f64::INFINITY }
    }

    /// How far a value reaches that is exceeded with probability `tail`.
    pub fn reach(&self, tail: f64) -> f64 {
        match self.error() {
            0.0 => 0.0,
            error => stats::quantile(tail, self.all_degrees(self.seeds, self.degrees)) * error,
        }
    }

    /// The probability of a difference as large as this one or larger, were there none.
    pub fn p(&self, difference: f64) -> f64 {
        match self.error() {
            0.0 if difference > 0.0 => 0.0,
            0.0 => 1.0,
            error => stats::tail(difference / error, self.all_degrees(self.seeds, self.degrees)),
        }
    }

    /// What would make the reach at `tail` shorter than `distance`; `None` where not even a thousand seeds would.
    pub fn needs(&self, tail: f64, distance: f64) -> Option<Needs> {
        if distance <= 0.0 {
            return None;
        }
        let z = stats::quantile(tail, f64::INFINITY);
        if let Some(ItemsPart { variance, count }) = self.items.filter(|items| z * items.variance.sqrt() >= distance) {
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
            let items = (count as f64 * z * z * variance / distance.powi(2)).ceil() as u64;
            return Some(Needs::Items(items));
        }
        let before = f64::from(self.num_seeds);
        let is_enough = |n: &u32| {
            let seeds = self.seeds * before / f64::from(*n);
            let degrees = self.degrees / (before - 1.0) * (f64::from(*n) - 1.0);
            let error = (seeds + self.items_variance()).sqrt();
            stats::quantile(tail, self.all_degrees(seeds, degrees)) * error < distance
        };
        // The reach falls as seeds are added, so the smallest number is found by halving.
        let (mut low, mut high) = (self.num_seeds, MOST_SEEDS.max(self.num_seeds));
        if !is_enough(&high) {
            return None;
        }
        while low < high {
            let middle = u32::midpoint(low, high);
            if is_enough(&middle) { high = middle } else { low = middle + 1 }
        }
        Some(Needs::Seeds(u64::from(high)))
    }
}

/// A cell of a sum that somebody states of runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stated<'a> {
    pub weight: f64,
    pub metric: &'a str,
    pub summary: Summary,
}

impl Spread {
    /// That of a sum of cells whose single runs are not known, which are taken for independent: with one variance a metric pooled
    /// within the cells of the files, and never below the sum's own (Welch); else why there is none.
    pub fn of_summaries(cells: &[Stated<'_>], pool: &Pool) -> Result<Self, String> {
        let fewest = cells.iter().map(|cell| cell.summary.n).min().unwrap_or(0);
        if (fewest as usize) < SEEDS_NEEDED {
            return Err(format!("{}, at least {SEEDS_NEEDED} are needed", counted(fewest as usize, "run")));
        }
        let over_n = |cell: &Stated<'_>| cell.weight.powi(2) / f64::from(cell.summary.n);
        let own: f64 = cells.iter().map(|cell| over_n(cell) * cell.summary.stddev.unwrap_or(0.0).powi(2)).sum();
        let metrics: BTreeSet<&str> = cells.iter().map(|cell| cell.metric).collect();
        let (mut pooled, mut degrees) = (0.0, f64::INFINITY);
        for metric in metrics {
            let (variance, free) = pool.stated(metric).ok_or_else(|| "no cell states a standard deviation".to_owned())?;
            pooled += variance * cells.iter().filter(|cell| cell.metric == metric).map(over_n).sum::<f64>();
            degrees = f64::min(degrees, free);
        }
        let seeds = f64::max(pooled, own);
        let largest = cells.iter().map(|cell| (cell.weight * cell.summary.mean).abs()).fold(0.0, f64::max);
        if seeds <= (1e-9 * largest).powi(2) {
            return Err(format!("no spread between {fewest} runs, which is no estimate of one"));
        }
        Ok(Self { seeds, degrees, num_seeds: fewest, items: None, shift: 0.0 })
    }
}

/// The seeds that stand behind every cell, where they are enough.
pub(super) fn common_seeds(parts: &[Part<'_>]) -> Result<Vec<u64>, String> {
    let sets: Vec<BTreeSet<u64>> = parts.iter().map(|part| part.runs.iter().map(|run| run.seed).collect()).collect();
    let fewest = sets.iter().map(BTreeSet::len).min().unwrap_or(0);
    let seeds = |n: usize| if n == 1 { "1 seed".to_owned() } else { format!("{n} seeds") };
    if fewest < SEEDS_NEEDED {
        return Err(format!("{}, at least {SEEDS_NEEDED} are needed", seeds(fewest)));
    }
    let common = sets.iter().skip(1).fold(sets[0].clone(), |common, set| &common & set);
    match common.len() {
        n if n < SEEDS_NEEDED => Err(format!("{} in common, at least {SEEDS_NEEDED} are needed", seeds(n))),
        _ => Ok(common.into_iter().collect()),
    }
}

/// The variance of the sum at one seed by what is pooled over the tables, with its degrees of freedom; `None` where the cells of a
/// metric are not set against each other, their seeds do not draw the same, or nothing can be pooled.
fn pooled(parts: &[Part<'_>], pool: &Pool, seeds: &[u64]) -> Option<(f64, f64)> {
    let metrics: Vec<&str> = parts.iter().map(|part| part.metric).collect::<BTreeSet<_>>().into_iter().collect();
    let is_contrast = |metric: &&str| {
        let weights = parts.iter().filter(|part| part.metric == *metric).map(|part| part.weight);
        let (sum, size) = weights.fold((0.0, 0.0), |(sum, size), weight| (sum + weight, size + f64::abs(weight)));
        f64::abs(sum) < 1e-9 * size
    };
    if !metrics.iter().all(is_contrast) {
        return None;
    }
    let mut drawn = parts.iter().filter_map(|part| part.runs.first()).map(|run| run.drawn);
    let first = drawn.next()?;
    if drawn.any(|parts| parts != first) {
        return None;
    }
    let residuals = pool.blocked(first, &metrics, seeds)?;
    let mut by_place: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for part in parts {
        let weights = by_place.entry(place(part.runs)).or_insert_with(|| vec![0.0; metrics.len()]);
        let metric_idx = metrics.iter().position(|metric| *metric == part.metric)?;
        weights[metric_idx] += part.weight;
    }
    let form = |weights: &Vec<f64>| -> f64 {
        let row = |row: &Vec<f64>| row.iter().zip(weights).map(|(value, weight)| value * weight).sum::<f64>();
        residuals.covariance.iter().zip(weights).map(|(covariances, weight)| weight * row(covariances)).sum()
    };
    Some((by_place.values().map(form).sum(), residuals.degrees))
}

/// Whether a variance is zero but for the rounding of sums.
fn is_nothing(variance: f64, parts: &[Part<'_>]) -> bool {
    let sizes = parts.iter().flat_map(|part| part.runs.iter().map(|run| (part.weight * run.value).abs()));
    variance <= (1e-9 * sizes.fold(0.0, f64::max)).powi(2)
}

/// A few equal differences say nothing of the next seed: the variance within the cells of the tables stands in, which ignores
/// that seeds go together and so is too large rather than too small. Counts are exact, and may be equal.
fn floor(parts: &[Part<'_>], pool: &Pool, n: usize) -> Result<f64, String> {
    let within = |part: &Part<'_>| pool.within(part.metric).unwrap_or(0.0);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(seeds: f64, items: f64) -> Spread {
        Spread { seeds, degrees: 6.0, num_seeds: 3, items: Some(ItemsPart { variance: items, count: 1000 }), shift: 0.0 }
    }

    #[test]
    fn stated_cells_are_independent_with_a_pooled_spread_and_never_less_than_their_own() {
        use super::super::source::{CellRow, Measure};
        let row = |stddev: f64, n: u32| CellRow {
            labels: BTreeMap::from([("metric".to_owned(), "m".to_owned())]),
            measure: Ok(Measure::Summary(Summary { mean: 50.0, stddev: Some(stddev), n })),
        };
        // s^2 = (2 * 1 + 2 * 9 + 4 * 4) / 8 = 4.5, with 8 degrees of freedom.
        let pool = Pool::new(&[row(1.0, 3), row(3.0, 3), row(2.0, 5)]);
        let cell = |weight, stddev, n| Stated { weight, metric: "m", summary: Summary { mean: 50.0, stddev: Some(stddev), n } };
        let found = Spread::of_summaries(&[cell(1.0, 1.0, 3), cell(-1.0, 2.0, 5)], &pool);
        assert_eq!(found.as_ref().map(|found| (found.degrees, found.num_seeds, found.items)), Ok((8.0, 3, None)));
        assert!(found.is_ok_and(|found| (found.seeds - 4.5 * (1.0 / 3.0 + 0.2)).abs() < 1e-12));
        // Their own: 9 / 3 + 9 / 3.
        let own = Spread::of_summaries(&[cell(1.0, 3.0, 3), cell(-1.0, 3.0, 3)], &pool);
        assert!(own.is_ok_and(|own| (own.seeds - 6.0).abs() < 1e-12));
        let few = Spread::of_summaries(&[cell(1.0, 1.0, 2), cell(-1.0, 3.0, 3)], &pool);
        assert_eq!(few, Err("2 runs, at least 3 are needed".to_owned()));
    }

    #[test]
    fn both_parts_add_and_widen_the_degrees_of_freedom() {
        // A = 1, I = 1: error 1.4142, degrees 6 * 2^2 = 24, t(0.975, 24) = 2.0639.
        assert!((spread(1.0, 1.0).reach(0.025) - 2.063_899 * 2f64.sqrt()).abs() < 1e-5);
        // A alone: t(0.975, 6) = 2.4469. I alone: 1.96.
        assert!((spread(1.0, 0.0).reach(0.025) - 2.446_912).abs() < 1e-5);
        assert!((spread(0.0, 1.0).reach(0.025) - 1.959_964).abs() < 1e-5);
        assert!((spread(1.0, 0.0).p(2.446_912) - 0.025).abs() < 1e-6);
    }

    #[test]
    fn what_is_needed_is_the_least_number_of_seeds_or_else_items() {
        // A = 1 and 6 degrees of freedom at 3 seeds: at n, the error is sqrt(3 / n), the reach t(0.975, 3 (n - 1)) times it.
        let spread_of_seeds = spread(1.0, 0.0);
        let reach = |n: f64| stats::quantile(0.025, 3.0 * (n - 1.0)) * (3.0 / n).sqrt();
        for distance in [2.0, 1.5, 1.0, 0.5] {
            let Some(Needs::Seeds(n)) = spread_of_seeds.needs(0.025, distance) else { panic!("{distance}") };
            #[expect(clippy::cast_precision_loss, reason = "a test")]
            let n = n as f64;
            assert!(reach(n) < distance && reach(n - 1.0) >= distance, "{distance}: {n}");
        }
        // 1.96 sqrt(I) is 1.96: no number of seeds decides a difference of 1; 1000 * 3.84 items do.
        assert_eq!(spread(0.1, 1.0).needs(0.025, 1.0), Some(Needs::Items(3842)));
        assert_eq!(spread(1.0, 0.0).needs(0.025, 0.0), None);
        assert_eq!(spread(1.0, 0.0).needs(0.025, 1e-3), None);
    }
}
