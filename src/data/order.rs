//! Order of samples: keyed permutations that can be entered anywhere.
//!
//! Input: a seed and a length. Output: the sample at a position. Invariants: each epoch visits every sample exactly once; a
//! position is found in constant time and memory, so resuming is a seek and no table is kept for a pool of any size.
//! Must not know: batches, packs, threads.

use super::philox::{Philox, Stream};
use super::{DataError, DataResult};

/// Half-rounds of the Feistel network; four suffice for a keyed permutation to look random (Luby and Rackoff 1988), more
/// make up for a round function that is only a mixer.
const ROUNDS: usize = 8;

/// A keyed permutation of 0..len: an unbalanced Feistel network over a grid of `rows x columns >= len`, cycle-walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permutation {
    len: u64,
    rows: u64,
    columns: u64,
    keys: [u32; ROUNDS],
}

impl Permutation {
    /// The permutation of `philox`'s draws at `step`. Lengths up to 2^62.
    #[must_use]
    pub fn new(philox: &Philox, step: u64, len: u64) -> Self {
        let rows = len.max(1).isqrt().max(1);
        let columns = len.max(1).div_ceil(rows);
        let mut draws = philox.at(step, 0);
        Self { len, rows, columns, keys: std::array::from_fn(|_| draws.word()) }
    }

    /// Where `index` goes.
    ///
    /// Walking the cycle until it is back below `len` is again a permutation; the grid exceeds `len` by less than a row, so a
    /// walk is rarely longer than one step.
    #[inline]
    #[must_use]
    pub fn apply(&self, index: u64) -> u64 {
        debug_assert!(index < self.len, "index {index} of {}", self.len);
        let mut at = index;
        loop {
            at = self.round_trip(at);
            if at < self.len {
                return at;
            }
        }
    }

    #[inline]
    fn round_trip(&self, at: u64) -> u64 {
        let (mut column, mut row) = (at % self.columns, at / self.columns);
        for pair in self.keys.chunks_exact(2) {
            row = wrapping_sum(row, mix(column, pair[0]), self.rows);
            column = wrapping_sum(column, mix(row, pair[1]), self.columns);
        }
        row * self.columns + column
    }
}

/// (a + hash scaled to 0..bound) mod bound, for a < bound.
#[inline]
fn wrapping_sum(a: u64, hash: u64, bound: u64) -> u64 {
    let sum = a + ((u128::from(hash) * u128::from(bound)) >> 64) as u64;
    if sum >= bound { sum - bound } else { sum }
}

/// The round function: a keyed 64-bit finaliser (the constants of `SplitMix64`).
#[inline]
fn mix(value: u64, key: u32) -> u64 {
    let mut z = value.wrapping_add(u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The order in which a run sees its subset: epoch after epoch, each its own permutation.
#[derive(Debug, Clone, Copy)]
pub struct SampleOrder {
    philox: Philox,
    len: u64,
}

impl SampleOrder {
    /// The order of a run's seed over `len` samples.
    ///
    /// **Errors**: an empty subset has no order.
    pub fn new(seed: u64, len: usize) -> DataResult<Self> {
        if len == 0 {
            return Err(DataError::EmptySubset);
        }
        Ok(Self { philox: Philox::new(seed, Stream::Order), len: len as u64 })
    }

    /// Samples in an epoch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Never: an empty subset is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The sample at a position; `position` counts samples drawn since the start of the run.
    #[must_use]
    pub fn index_at(&self, position: u64) -> usize {
        self.epoch(position / self.len).apply(position % self.len) as usize
    }

    /// The samples at `position`, `position + 1`, ... into `out`: the same as [`Self::index_at`] for each.
    pub fn fill(&self, position: u64, out: &mut [u32]) {
        let mut epoch = position / self.len;
        let mut within = position % self.len;
        let mut permutation = self.epoch(epoch);
        for slot in out {
            if within == self.len {
                (epoch, within) = (epoch + 1, 0);
                permutation = self.epoch(epoch);
            }
            *slot = permutation.apply(within) as u32;
            within += 1;
        }
    }

    fn epoch(&self, epoch: u64) -> Permutation {
        Permutation::new(&self.philox, epoch, self.len)
    }
}

/// The fixed order in which pools of a source of `len` samples nest: the pool of size n is its first n.
///
/// It depends on `len` alone, not on any run's seed: every run draws its pools from the same order.
#[must_use]
pub fn pool_order(len: usize) -> Permutation {
    Permutation::new(&Philox::new(0, Stream::Pool), 0, len as u64)
}

/// The pool of the first `size` samples of [`pool_order`], ascending (the order in which files are read).
#[must_use]
pub fn pool(len: usize, size: usize) -> Vec<usize> {
    let order = pool_order(len);
    let mut pool: Vec<usize> = (0..size.min(len) as u64).map(|i| order.apply(i) as usize).collect();
    pool.sort_unstable();
    pool
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_visits_every_sample_once() {
        for len in [1usize, 2, 3, 5, 16, 17, 63, 64, 65, 997, 10_000] {
            let order = SampleOrder::new(3, len).unwrap();
            for epoch in 0..3u64 {
                let mut seen = vec![0u32; len];
                (0..len as u64).for_each(|i| seen[order.index_at(epoch * len as u64 + i)] += 1);
                assert!(seen.iter().all(|&n| n == 1), "len {len} epoch {epoch}");
            }
        }
    }

    #[test]
    fn seeking_equals_streaming_across_epochs() {
        let order = SampleOrder::new(9, 101).unwrap();
        let mut stream = vec![0u32; 1000];
        order.fill(0, &mut stream);
        for start in [0usize, 1, 100, 101, 102, 555] {
            let mut part = vec![0u32; 300];
            order.fill(start as u64, &mut part);
            assert_eq!(part, stream[start..start + 300]);
            assert_eq!(order.index_at(start as u64), stream[start] as usize);
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let take = |seed, epoch: u64| -> Vec<usize> {
            let order = SampleOrder::new(seed, 1000).unwrap();
            (0..1000).map(|i| order.index_at(epoch * 1000 + i)).collect()
        };
        assert_ne!(take(1, 0), take(1, 1));
        assert_ne!(take(1, 0), take(2, 0));
        assert_eq!(take(1, 0), take(1, 0));
    }

    #[test]
    fn places_are_uniform_and_neighbours_part() {
        // The place of sample 0 over 20,000 seeds into 20 bins: chi-squared with 19 degrees, 99.99 % below 52.
        let mut bins = [0f64; 20];
        let (mut together, trials) = (0, 20_000);
        for seed in 0..trials {
            let permutation = Permutation::new(&Philox::new(seed, Stream::Order), 0, 500);
            bins[permutation.apply(0) as usize / 25] += 1.0;
            together += u32::from(permutation.apply(100).abs_diff(permutation.apply(101)) <= 1);
        }
        let expected = trials as f64 / 20.0;
        let chi2: f64 = bins.iter().map(|n| (n - expected).powi(2) / expected).sum();
        assert!(chi2 < 52.0, "chi2 {chi2}");
        // Two places out of 499 are neighbours: 80 expected.
        assert!((40..130).contains(&together), "{together}");
    }

    #[test]
    fn smaller_pools_nest_in_larger_ones() {
        let small = pool(1000, 100);
        let large = pool(1000, 400);
        assert_eq!((small.len(), large.len()), (100, 400));
        assert!(small.iter().all(|i| large.binary_search(i).is_ok()));
        assert_eq!(pool(10, 99).len(), 10);
    }

    #[test]
    fn an_empty_subset_is_refused() {
        assert!(matches!(SampleOrder::new(0, 0), Err(DataError::EmptySubset)));
    }
}
