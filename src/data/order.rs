//! Order of samples: keyed permutations that can be entered anywhere, and the batches that a run draws from them.
//!
//! Input: a seed and a length. Output: the samples of a batch. Invariants: a batch holds no sample twice; each pass visits every
//! sample exactly once, so that after any number of batches no sample was seen more than once more often than another; a batch is
//! found from its step alone, in time and memory of a batch, so resuming is a seek and no table is kept for a pool of any size.
//! Must not know: packs, threads.
//!
//! Batches of B samples run through passes over N samples without a gap: batch t holds the positions t B to t B + B of the passes
//! laid end to end. A batch that straddles two passes holds the last r samples of one, its tail, and the first B - r of the next,
//! its head. Pass k is a permutation of its own, drawn by (seed, k), but for one condition: its head holds no sample of the tail of
//! pass k - 1. For that the tails must not depend on what came before:
//!
//! - From two batches a pool on (N >= 2 B), the tail of a pass is what its permutation ends with. A place of the head that holds a
//!   sample of the tail before changes places with one in the middle of the pass, drawn by (seed, k) among those that do not.
//! - Below (B < N < 2 B) a pass may be all head and tail, and what the tail before held can only come in the tail. Tails are then
//!   the first samples of a permutation that stays until a pass holds a whole batch between head and tail: each contains the one
//!   before. The pass is its permutation with those samples moved to the end, and with the first samples that neither tail
//!   holds moved to the front.

use std::collections::{HashMap, HashSet};

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
        Self::numbered(philox, step, 0, len)
    }

    /// One of several permutations of a step.
    fn numbered(philox: &Philox, step: u64, number: u32, len: u64) -> Self {
        let rows = len.max(1).isqrt().max(1);
        let columns = len.max(1).div_ceil(rows);
        let mut draws = philox.at(step, number);
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

/// Numbers of the permutations of a pass (or, for tails, of a stretch of passes) in its stream.
mod kind {
    /// The pass itself.
    pub const PASS: u32 = 0;
    /// The places that samples are moved to.
    pub const MOVES: u32 = 1;
    /// The samples of small pools' tails.
    pub const TAILS: u32 = 2;
}

/// The order in which a run sees its subset: pass after pass, each its own permutation, in batches without a repeat.
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

    /// Samples in a pass.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Never: an empty subset is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The samples of the batch of a step (from 0) of a run whose batches are as long as `out`; none stands there twice.
    ///
    /// # Panics
    /// If the batch is longer than a pass.
    pub fn fill(&self, step: u64, out: &mut [u32]) {
        let batch = out.len() as u64;
        assert!(batch <= self.len, "a batch of {batch} of {} samples holds one twice", self.len);
        let mut position = step * batch;
        let mut rest = out;
        while !rest.is_empty() {
            let (number, within) = (position / self.len, position % self.len);
            let here = (rest.len() as u64).min(self.len - within);
            let (part, after) = rest.split_at_mut(here as usize);
            let pass = self.pass(number, batch);
            part.iter_mut().zip(within..).for_each(|(slot, place)| *slot = pass.at(place));
            (position, rest) = (position + here, after);
        }
    }

    fn pass(&self, number: u64, batch: u64) -> Pass {
        let order = self.permutation(number, kind::PASS, self.len);
        let ends = Ends::of(number, batch, self.len);
        if self.len.is_multiple_of(batch) {
            Pass { order, places: Places::Own }
        } else if self.len < 2 * batch {
            Pass { order, places: Places::Listed(self.listed(&order, &ends)) }
        } else {
            Pass { order, places: Places::Moved(self.moves(number, &order, &ends)) }
        }
    }

    /// Places of a pass of a large pool that change places with each other, both ways.
    fn moves(&self, number: u64, order: &Permutation, ends: &Ends) -> HashMap<u64, u64> {
        let Ends { head, tail, tail_before, .. } = *ends;
        if tail_before == 0 {
            return HashMap::new();
        }
        let before = self.permutation(number - 1, kind::PASS, self.len);
        let held: HashSet<u64> = (self.len - tail_before..self.len).map(|place| before.apply(place)).collect();
        let middle = self.len - head - tail;
        let walk = self.permutation(number, kind::MOVES, middle);
        let mut free = (0..middle).map(|at| head + walk.apply(at)).filter(|place| !held.contains(&order.apply(*place)));
        let mut moves = HashMap::new();
        for place in (0..head).filter(|place| held.contains(&order.apply(*place))) {
            let other = free.next().expect("the middle is as long as the tail before, or longer");
            moves.extend([(place, other), (other, place)]);
        }
        moves
    }

    /// All samples of a pass of a pool that is shorter than two batches.
    fn listed(&self, order: &Permutation, ends: &Ends) -> Vec<u32> {
        let members = |stretch, count| {
            let tails = self.permutation(stretch, kind::TAILS, self.len);
            (0..count).map(|rank| tails.apply(rank)).collect::<HashSet<u64>>()
        };
        let before = members(ends.stretch_before, ends.tail_before);
        let own = members(ends.stretch, ends.tail);
        let [mut head, mut middle, mut tail] = [const { Vec::new() }; 3];
        for sample in (0..self.len).map(|place| order.apply(place)) {
            let part = if own.contains(&sample) {
                &mut tail
            } else if (head.len() as u64) < ends.head && !before.contains(&sample) {
                &mut head
            } else {
                &mut middle
            };
            part.push(sample as u32);
        }
        [head, middle, tail].concat()
    }

    fn permutation(&self, step: u64, kind: u32, len: u64) -> Permutation {
        Permutation::numbered(&self.philox, step, kind, len)
    }
}

/// Where batches cut a pass.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// Samples at its start that belong to a batch of the pass before.
    head: u64,
    /// Samples at its end that do not fill a batch.
    tail: u64,
    /// The same of the pass before; 0 for the first pass.
    tail_before: u64,
    /// Number of the permutation that a small pool's tail is taken from: it changes where tails become shorter.
    stretch: u64,
    /// The same of the pass before.
    stretch_before: u64,
}

impl Ends {
    fn of(pass: u64, batch: u64, len: u64) -> Self {
        // Positions are below 2^63, and so are these products.
        let (before, after) = (pass * (len % batch), (pass + 1) * (len % batch));
        let (tail_before, tail) = (before % batch, after % batch);
        Self { head: (batch - tail_before) % batch, tail, tail_before, stretch: after / batch, stretch_before: before / batch }
    }
}

/// One pass over all samples.
struct Pass {
    order: Permutation,
    places: Places,
}

/// How a pass differs from its permutation.
enum Places {
    /// In nothing.
    Own,
    /// Places whose samples stand elsewhere, with the places that they changed with.
    Moved(HashMap<u64, u64>),
    /// The samples themselves.
    Listed(Vec<u32>),
}

impl Pass {
    fn at(&self, place: u64) -> u32 {
        match &self.places {
            Places::Own => self.order.apply(place) as u32,
            Places::Moved(moves) => self.order.apply(*moves.get(&place).unwrap_or(&place)) as u32,
            Places::Listed(samples) => samples[place as usize],
        }
    }
}

/// The order in which pools of one draw of a source of `len` samples nest: the pool of size n is its first n.
///
/// It depends on `len` and `draw` alone: all runs whose seeds do not draw the pool have draw 0.
#[must_use]
pub fn pool_order(len: usize, draw: u64) -> Permutation {
    Permutation::new(&Philox::new(draw, Stream::Pool), 0, len as u64)
}

/// The pool of the first `size` samples of [`pool_order`], ascending (the order in which files are read).
#[must_use]
pub fn pool(len: usize, size: usize, draw: u64) -> Vec<usize> {
    let order = pool_order(len, draw);
    let mut pool: Vec<usize> = (0..size.min(len) as u64).map(|i| order.apply(i) as usize).collect();
    pool.sort_unstable();
    pool
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn batch(order: &SampleOrder, step: u64, batch: usize) -> Vec<u32> {
        let mut out = vec![0; batch];
        order.fill(step, &mut out);
        out
    }

    /// Counts, over every pool and batch up to 40 and some large ones, how often a batch holds a sample twice (never), and that
    /// after each batch no sample was seen more than once more often than another.
    #[test]
    fn no_batch_holds_a_sample_twice_and_all_samples_are_seen_equally_often() {
        let small = (1..=40usize).flat_map(|pool| (1..=pool).map(move |batch| (pool, batch)));
        let large = [(250, 128), (150, 128), (255, 128), (257, 128), (129, 128), (1000, 999), (4000, 128), (997, 100)];
        for (pool, size) in small.chain(large) {
            let order = SampleOrder::new(3, pool).unwrap();
            let mut seen = vec![0u32; pool];
            for step in 0..60 + 3 * (pool / size) as u64 {
                let samples = batch(&order, step, size);
                let distinct: HashSet<u32> = samples.iter().copied().collect();
                assert_eq!(distinct.len(), size, "pool {pool}, batch {size}, step {step}: {samples:?}");
                samples.iter().for_each(|sample| seen[*sample as usize] += 1);
                let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
                assert!(most - least <= 1, "pool {pool}, batch {size}, step {step}: seen {least} to {most} times");
            }
        }
    }

    #[test]
    fn a_batch_is_the_same_from_its_step_alone() {
        for (pool, size) in [(101, 30), (101, 60), (101, 100), (64, 16)] {
            let order = SampleOrder::new(9, pool).unwrap();
            let all: Vec<Vec<u32>> = (0..50).map(|step| batch(&order, step, size)).collect();
            for step in [49u64, 0, 7, 13, 26] {
                assert_eq!(batch(&SampleOrder::new(9, pool).unwrap(), step, size), all[step as usize]);
            }
        }
        // Far into a run nothing of what came before is needed.
        assert_eq!(batch(&SampleOrder::new(1, 1_000_003).unwrap(), 1 << 40, 256).len(), 256);
    }

    #[test]
    fn passes_and_seeds_differ() {
        for size in [1000, 300, 600] {
            let take = |seed, from: u64| -> Vec<Vec<u32>> {
                (from..from + 3).map(|step| batch(&SampleOrder::new(seed, 1000).unwrap(), step, size)).collect()
            };
            assert_ne!(take(1, 0), take(1, 10));
            assert_ne!(take(1, 0), take(2, 0));
            assert_eq!(take(1, 0), take(1, 0));
        }
    }

    /// In a batch that straddles two passes any two samples meet equally often: over 20,000 seeds each of the 66 pairs of a pool
    /// of 12 is within five standard deviations of its expectation.
    #[test]
    fn any_two_samples_meet_equally_often_in_a_batch_that_straddles_two_passes() {
        for (size, step) in [(5usize, 2u64), (8, 1)] {
            let (seeds, mut met) = (20_000, [[0f64; 12]; 12]);
            for seed in 0..seeds {
                let samples = batch(&SampleOrder::new(seed, 12).unwrap(), step, size);
                for (at, a) in samples.iter().enumerate() {
                    samples[at + 1..].iter().for_each(|b| met[*a.min(b) as usize][*a.max(b) as usize] += 1.0);
                }
            }
            let share = (size * (size - 1)) as f64 / (12.0 * 11.0);
            let (expected, deviation) = (share * seeds as f64, (seeds as f64 * share * (1.0 - share)).sqrt());
            for (a, met) in met.iter().enumerate() {
                for (b, found) in met.iter().enumerate().skip(a + 1) {
                    assert!((found - expected).abs() < 5.0 * deviation, "batch {size}: {a} and {b} met {found} times, {expected}");
                }
            }
        }
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
        let small = pool(1000, 100, 0);
        let large = pool(1000, 400, 0);
        assert_eq!((small.len(), large.len()), (100, 400));
        assert!(small.iter().all(|i| large.binary_search(i).is_ok()));
        assert_eq!(pool(10, 99, 0).len(), 10);
    }

    #[test]
    fn an_empty_subset_is_refused() {
        assert!(matches!(SampleOrder::new(0, 0), Err(DataError::EmptySubset)));
    }
}
