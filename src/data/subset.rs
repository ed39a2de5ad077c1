//! Subsets: which samples of a pool a run learns from, as a list of indices and never a copy.
//!
//! Input: a pool's length, how much to keep and by which measure, scores where the measure has them. Output: ascending
//! indices. Invariants: a pure function; ties go to the lower index; a sample without a score (NaN) is never kept
//! and is counted; smaller shares of one measure nest in larger ones.
//! Must not know: where scores come from.

use std::path::Path;

use crate::run::Keep;

use super::order::Permutation;
use super::philox::{Philox, Stream};
use super::select::{datacomp_threshold, top, whole_share};
use super::{DataError, DataResult};

/// A chosen subset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// Indices into the pool, ascending.
    pub indices: Vec<u32>,
    /// Samples without a score among those that were looked at.
    pub unscored: usize,
}

/// What a filter ranks a pool by.
#[derive(Debug, Clone, Copy)]
pub enum Ranking<'a> {
    /// A keyed permutation.
    Random {
        /// Which.
        draw: u64,
    },
    /// One score a sample, NaN for missing.
    Scores(&'a [f64]),
}

/// The part of a pool that a filter keeps, of those that an earlier one kept (`within`, ascending; `None`: all).
///
/// A share is of the whole pool: `share * pool_len` samples, rounded as its [`Keep`] says. A count is cut to what is there, and so
/// is a share where fewer have a score.
///
/// **Errors**: scores of another length than the pool; nothing left.
pub fn choose(pool_len: usize, keep: Keep, by: Ranking<'_>, within: Option<&[u32]>) -> DataResult<Subset> {
    let mut scores = match by {
        Ranking::Random { draw } => random_scores(pool_len, draw),
        Ranking::Scores(scores) => scores.to_vec(),
    };
    if scores.len() != pool_len {
        return Err(DataError::ScoreCount { scores: scores.len(), pool: pool_len });
    }
    if let Some(within) = within {
        let mut inside = vec![f64::NAN; pool_len];
        within.iter().for_each(|&i| inside[i as usize] = scores[i as usize]);
        scores = inside;
    }
    let looked_at = within.map_or(pool_len, <[u32]>::len);
    let unscored = looked_at - scores.iter().filter(|score| !score.is_nan()).count();
    let at_least = |threshold| (0..pool_len as u32).filter(|&i| scores[i as usize] >= threshold).collect();
    let mut indices: Vec<u32> = match keep {
        Keep::AtLeast(threshold) => at_least(threshold),
        Keep::Share(share) => top(&scores, ((share * pool_len as f64).round() as usize).max(1)),
        Keep::WholeShare(share) => top(&scores, whole_share(pool_len, share)),
        Keep::Count(count) => top(&scores, usize::try_from(count).unwrap_or(usize::MAX)),
        Keep::Datacomp(share) => datacomp_threshold(&scores, share).map_or(Vec::new(), at_least),
    };
    if indices.is_empty() {
        return Err(DataError::EmptySubset);
    }
    indices.sort_unstable();
    Ok(Subset { indices, unscored })
}

/// A keyed permutation as scores, so that random subsets of one pool and draw nest too.
fn random_scores(pool_len: usize, draw: u64) -> Vec<f64> {
    let permutation = Permutation::new(&Philox::new(draw, Stream::Subset), 0, pool_len as u64);
    (0..pool_len as u64).map(|i| permutation.apply(i) as f64).collect()
}

/// Writes indices as little-endian u32.
pub fn write_subset(path: &Path, indices: &[u32]) -> DataResult<()> {
    let bytes: Vec<u8> = indices.iter().flat_map(|index| index.to_le_bytes()).collect();
    std::fs::write(path, bytes).map_err(|e| DataError::io("write", path, e))
}

/// Reads what [`write_subset`] wrote and checks that it is ascending and inside the pool.
pub fn read_subset(path: &Path, pool_len: usize) -> DataResult<Vec<u32>> {
    let bytes = std::fs::read(path).map_err(|e| DataError::io("read", path, e))?;
    let bad = |what: String| DataError::BadPack { path: path.to_path_buf(), what };
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(bad(format!("holds {} bytes, not a whole number of u32", bytes.len())));
    }
    let indices: Vec<u32> = words.iter().map(|&word| u32::from_le_bytes(word)).collect();
    if !indices.is_sorted_by(|a, b| a < b) || indices.last().is_some_and(|&last| last as usize >= pool_len) {
        return Err(bad(format!("indices do not ascend below the pool's {pool_len}")));
    }
    Ok(indices)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn chosen(keep: Keep, scores: &[f64]) -> Vec<u32> {
        choose(scores.len(), keep, Ranking::Scores(scores), None).unwrap().indices
    }

    #[test]
    fn the_best_are_kept_in_ascending_order() {
        assert_eq!(chosen(Keep::Share(0.4), &[0.1, 0.9, 0.3, 0.8, 0.2]), [1, 3]);
        assert_eq!(chosen(Keep::Count(3), &[0.1, 0.9, 0.3, 0.8, 0.2]), [1, 2, 3]);
        assert_eq!(chosen(Keep::AtLeast(0.3), &[0.1, 0.9, 0.3, 0.8, 0.2]), [1, 2, 3]);
    }

    #[test]
    fn ties_go_to_the_lower_index_and_signed_zeros_tie() {
        assert_eq!(chosen(Keep::Count(2), &[0.5, 0.5, 0.5, 0.5]), [0, 1]);
        assert_eq!(chosen(Keep::Count(1), &[-0.0, 0.0]), [0]);
    }

    #[test]
    fn samples_without_a_score_are_never_kept_and_are_counted() {
        let scores = [f64::NAN, -5.0, f64::NEG_INFINITY, f64::NAN];
        assert_eq!(chosen(Keep::Count(2), &scores), [1, 2]);
        assert_eq!(chosen(Keep::Count(3), &scores), [1, 2], "fewer than asked for");
        assert_eq!(choose(4, Keep::Count(1), Ranking::Scores(&scores), None).unwrap().unscored, 2);
        assert_eq!(chosen(Keep::AtLeast(-10.0), &scores), [1]);
    }

    #[test]
    fn smaller_shares_nest_and_random_needs_no_scores() {
        let random = |share| choose(1000, Keep::Share(share), Ranking::Random { draw: 0 }, None).unwrap().indices;
        let (small, large) = (random(0.2), random(0.6));
        assert_eq!((small.len(), large.len()), (200, 600));
        assert!(small.iter().all(|i| large.binary_search(i).is_ok()));
        let other = choose(1000, Keep::Share(0.2), Ranking::Random { draw: 1 }, None).unwrap().indices;
        let common = small.iter().filter(|i| other.binary_search(i).is_ok()).count();
        assert!((20..=60).contains(&common), "{common} of 200 in another draw, 40 by chance");
    }

    #[test]
    fn wrong_score_counts_and_empty_results_are_errors() {
        let short = choose(3, Keep::Share(0.5), Ranking::Scores(&[1.0]), None);
        assert!(matches!(short, Err(DataError::ScoreCount { scores: 1, pool: 3 })));
        let none = choose(2, Keep::AtLeast(2.0), Ranking::Scores(&[0.0, 1.0]), None);
        assert!(matches!(none, Err(DataError::EmptySubset)));
    }

    #[test]
    fn a_later_filter_chooses_among_what_an_earlier_one_kept_and_its_share_is_of_the_pool() {
        let scores = [9.0, 1.0, 8.0, f64::NAN, 7.0, 6.0, 2.0, 3.0, 4.0, 5.0];
        let within = [1, 3, 4, 6, 9];
        let kept = choose(10, Keep::WholeShare(0.29), Ranking::Scores(&scores), Some(&within)).unwrap();
        assert_eq!((kept.indices, kept.unscored), (vec![4, 9], 1));
        let all = choose(10, Keep::Count(9), Ranking::Scores(&scores), Some(&within)).unwrap().indices;
        assert_eq!(all, [1, 4, 6, 9]);
        let drawn = |count| choose(10, Keep::Count(count), Ranking::Random { draw: 0 }, Some(&within)).unwrap().indices;
        assert_eq!(drawn(9), within);
        assert!(drawn(2).iter().all(|i| drawn(3).contains(i)), "sizes nest");
    }

    #[test]
    fn the_rule_of_datacomp_keeps_ties_and_one_more_than_the_share() {
        assert_eq!(chosen(Keep::Datacomp(0.4), &[0.1, 0.9, 0.3, 0.8, 0.3]), [1, 2, 3, 4]);
        assert!(matches!(choose(2, Keep::Datacomp(0.5), Ranking::Scores(&[0.5, f64::NAN]), None), Err(DataError::EmptySubset)));
    }

    #[test]
    fn a_subset_file_reads_back_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subset.u32");
        write_subset(&path, &[1, 5, 9]).unwrap();
        assert_eq!(read_subset(&path, 10).unwrap(), [1, 5, 9]);
        assert!(read_subset(&path, 9).is_err());
        std::fs::write(&path, [0u8; 7]).unwrap();
        assert!(read_subset(&path, 9).is_err());
        std::fs::write(&path, [0u8; 8]).unwrap();
        assert!(read_subset(&path, 9).is_err(), "a repeated index");
    }
}
