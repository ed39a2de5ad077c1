//! How far a weighted sum of cells would move on other items of the same kind.
//!
//! Owns [`Part`], of which sums are made, and [`of_items`]. For z_si, the sum at item i and seed s, on one set of m items:
//!
//!     B = variance over i of the mean of z_si over s, / m
//!     C = sum of (z_si - z_s - z_i + z)^2 / ((n - 1)(m - 1) n m)
//!     I = max(0, B - C)
//!
//! C is what is left of B because seeds are few: what a seed makes of an item is in the seeds' part already. Sets are taken
//! separately and added. Invariant: a cell without outcomes leaves the whole unknown.
//!
//! **Source** the two-way random effects analysis of readers and cases (Hillis 2014).

use std::collections::BTreeMap;

use super::source::SeedRun;
use crate::run::SetOutcomes;
use crate::tables::COUNTS;

/// One cell of a sum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub weight: f64,
    pub metric: &'a str,
    pub runs: &'a [SeedRun],
}

/// The items' part of the variance of a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ItemsPart {
    /// Variance of the sum, squared points.
    pub variance: f64,
    /// Items of all sets together; 0 where no cell rests on items.
    pub count: usize,
}

/// The items' part for cells that share these seeds; `None` where the outcomes of a cell are not known.
#[expect(clippy::cast_precision_loss, reason = "numbers of sets")]
pub(super) fn of_items(parts: &[Part<'_>], seeds: &[u64]) -> Option<ItemsPart> {
    // The sum by set, seed and item.
    let mut sums: BTreeMap<&str, Vec<Vec<f64>>> = BTreeMap::new();
    for part in parts.iter().filter(|part| !COUNTS.contains(&part.metric)) {
        for (seed_idx, seed) in seeds.iter().enumerate() {
            let sets = part.runs.iter().find(|run| run.seed == *seed)?.items.as_ref()?;
            let share = part.weight / sets.len() as f64;
            for set in sets.iter() {
                let SetOutcomes { set: name, hits, of: _ } = set;
                let sum = sums.entry(name).or_insert_with(|| vec![vec![0.0; hits.len()]; seeds.len()]);
                if sum[seed_idx].len() != hits.len() {
                    return None;
                }
                let weight = share * set.scale();
                sum[seed_idx].iter_mut().zip(hits).for_each(|(sum, hits)| *sum += weight * f64::from(*hits));
            }
        }
    }
    let count = sums.values().map(|sum| sum[0].len()).sum();
    Some(ItemsPart { variance: sums.values().map(|sum| variance(sum)).sum(), count })
}

/// I of one set: `sums` by seed and item.
#[expect(clippy::cast_precision_loss, reason = "numbers of seeds and items")]
pub(super) fn variance(sums: &[Vec<f64>]) -> f64 {
    let (n, m) = (sums.len() as f64, sums[0].len() as f64);
    if n < 2.0 || m < 2.0 {
        return 0.0;
    }
    let of_seed: Vec<f64> = sums.iter().map(|items| items.iter().sum::<f64>() / m).collect();
    let of_all = of_seed.iter().sum::<f64>() / n;
    let mut of_item = vec![0.0; sums[0].len()];
    sums.iter().for_each(|items| of_item.iter_mut().zip(items).for_each(|(sum, value)| *sum += value / n));
    let between = of_item.iter().map(|value| (value - of_all).powi(2)).sum::<f64>() / (m - 1.0) / m;
    let rest: f64 = sums
        .iter()
        .zip(&of_seed)
        .map(|(items, of_seed)| {
            items.iter().zip(&of_item).map(|(value, of_item)| (value - of_seed - of_item + of_all).powi(2)).sum::<f64>()
        })
        .sum();
    (between - rest / ((n - 1.0) * (m - 1.0) * n * m)).max(0.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::run::SeedParts;

    fn runs(sets: &[(&str, [&[u8]; 2])]) -> Vec<SeedRun> {
        let of_seed = |seed: usize| {
            let set = |(name, hits): &(&str, [&[u8]; 2])| {
                let hits = hits[seed].to_vec();
                SetOutcomes { set: (*name).to_owned(), of: hits.len() as u64, hits }
            };
            let items: Arc<[SetOutcomes]> = sets.iter().map(set).collect();
            SeedRun { seed: seed as u64, value: 0.0, run_id: String::new(), drawn: SeedParts::none(), items: Some(items) }
        };
        vec![of_seed(0), of_seed(1)]
    }

    #[test]
    fn the_items_part_agrees_with_a_worked_example() {
        // One cell, seeds (1 1 0 0) and (1 0 0 0), percent: means of items 100 50 0 0, of seeds 50 25, of all 37.5.
        // B = (62.5^2 + 12.5^2 + 2 37.5^2) / 3 / 4 = 572.9167. Residuals of seed 0: 100 - 50 - 100 + 37.5 = -12.5, 37.5, -12.5,
        // -12.5, of seed 1 the same with the other sign: sum of squares 2 (3 12.5^2 + 37.5^2) = 3750; C = 3750 / (1 3 2 4) = 156.25.
        let values = runs(&[("s", [&[1, 1, 0, 0], &[1, 0, 0, 0]])]);
        let part = Part { weight: 1.0, metric: "acc1", runs: &values };
        let found = of_items(&[part], &[0, 1]);
        assert_eq!(found.map(|found| found.count), Some(4));
        let variance = found.map_or(0.0, |found| found.variance);
        assert!((variance - (572.916_666_666_666_7 - 156.25)).abs() < 1e-9, "{variance}");
        // A cell against itself has no items' part, and a count has none.
        let against = [part, Part { weight: -1.0, ..part }];
        assert_eq!(of_items(&against, &[0, 1]).map(|found| found.variance), Some(0.0));
        assert_eq!(of_items(&[Part { metric: "gmacs", ..part }], &[0, 1]), Some(ItemsPart { variance: 0.0, count: 0 }));
    }

    #[test]
    fn sets_are_added_with_their_shares_and_unknown_outcomes_leave_all_unknown() {
        let (s, t): ([&[u8]; 2], [&[u8]; 2]) = ([&[1, 1, 0, 0], &[1, 0, 0, 0]], [&[1, 0, 1, 0, 1], &[1, 0, 1, 1, 0]]);
        let alone = |name, hits| {
            let values = runs(&[(name, hits)]);
            of_items(&[Part { weight: 1.0, metric: "acc1", runs: &values }], &[0, 1]).map_or(f64::NAN, |found| found.variance)
        };
        let both = runs(&[("s", s), ("t", t)]);
        let found = of_items(&[Part { weight: 1.0, metric: "acc1", runs: &both }], &[0, 1]);
        let expected = (alone("s", s) + alone("t", t)) / 4.0;
        assert!(found.is_some_and(|found| (found.variance - expected).abs() < 1e-9 && found.count == 9), "{found:?} {expected}");
        let mut one_unknown = both.clone();
        one_unknown[1].items = None;
        assert_eq!(of_items(&[Part { weight: 1.0, metric: "acc1", runs: &one_unknown }], &[0, 1]), None);
    }
}
