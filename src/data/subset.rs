//! Subsets: which samples of a pool a run learns from, as a list of indices and never a copy.
//!
//! Input: a pool's length, how much to keep and by which measure, scores where the measure has them. Output: ascending
//! indices. Invariants: a pure function; ties go to the lower index; a sample without a score (NaN) ranks below every other
//! and is counted; smaller shares of one measure nest in larger ones.
//! Must not know: where scores come from.

use std::path::Path;

use crate::run::{Keep, QualityBy, QualityConfig};

use super::order::Permutation;
use super::philox::{Philox, Stream};
use super::{DataError, DataResult};

/// A chosen subset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// Indices into the pool, ascending.
    pub indices: Vec<u32>,
    /// Samples of the pool without a score.
    pub unscored: usize,
}

/// The part of a pool that a quality filter keeps; all of it for `None`. `scores` is one a sample, NaN for missing, and is
/// not read where the measure is `Random`.
///
/// A share keeps `share * pool_len` samples, rounded to the nearest and at least one; a count is cut to the pool.
///
/// **Errors**: scores of another length than the pool; nothing left.
pub fn choose(pool_len: usize, quality: Option<&QualityConfig>, scores: Option<&[f64]>) -> DataResult<Subset> {
    let Some(QualityConfig { keep, by }) = quality else {
        return Ok(Subset { indices: (0..pool_len as u32).collect(), unscored: 0 });
    };
    let random;
    let scores = match (by, scores) {
        (QualityBy::Random, _) => {
            random = random_scores(pool_len);
            &random[..]
        }
        (QualityBy::Field(_) | QualityBy::Similarity { .. }, Some(scores)) => scores,
        (QualityBy::Field(_) | QualityBy::Similarity { .. }, None) => &[],
    };
    if scores.len() != pool_len {
        return Err(DataError::ScoreCount { scores: scores.len(), pool: pool_len });
    }
    let unscored = scores.iter().filter(|score| score.is_nan()).count();
    let mut indices = match *keep {
        Keep::AtLeast(threshold) => (0..pool_len as u32).filter(|&i| scores[i as usize] >= threshold).collect(),
        Keep::Share(share) => best(scores, ((share * pool_len as f64).round() as usize).max(1)),
        Keep::Count(count) => best(scores, usize::try_from(count).unwrap_or(usize::MAX)),
    };
    if indices.is_empty() {
        return Err(DataError::EmptySubset);
    }
    indices.sort_unstable();
    Ok(Subset { indices, unscored })
}

/// The `count` best, unordered: highest score first, the lower index where they tie, NaN last.
fn best(scores: &[f64], count: usize) -> Vec<u32> {
    let mut ranked: Vec<u32> = (0..scores.len() as u32).collect();
    if count < ranked.len() {
        let rank = |i: u32| {
            let score = scores[i as usize];
            // -0.0 and 0.0 tie; `total_cmp` would part them.
            if score.is_nan() { (1, 0.0, i) } else { (0, -(score + 0.0), i) }
        };
        let order = |&a: &u32, &b: &u32| {
            let ((a_nan, a_score, a), (b_nan, b_score, b)) = (rank(a), rank(b));
            a_nan.cmp(&b_nan).then(a_score.total_cmp(&b_score)).then(a.cmp(&b))
        };
        if count > 0 {
            ranked.select_nth_unstable_by(count - 1, order);
        }
        ranked.truncate(count);
    }
    ranked
}

/// A keyed permutation as scores, so that random subsets of one pool nest too.
fn random_scores(pool_len: usize) -> Vec<f64> {
    let permutation = Permutation::new(&Philox::new(0, Stream::Subset), 0, pool_len as u64);
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

    fn by_field(keep: Keep) -> QualityConfig {
        QualityConfig { keep, by: QualityBy::Field("score".into()) }
    }

    fn chosen(keep: Keep, scores: &[f64]) -> Vec<u32> {
        choose(scores.len(), Some(&by_field(keep)), Some(scores)).unwrap().indices
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
    fn samples_without_a_score_come_last_and_are_counted() {
        let scores = [f64::NAN, -5.0, f64::NEG_INFINITY, f64::NAN];
        assert_eq!(chosen(Keep::Count(2), &scores), [1, 2]);
        assert_eq!(chosen(Keep::Count(3), &scores), [0, 1, 2]);
        assert_eq!(choose(4, Some(&by_field(Keep::Count(1))), Some(&scores)).unwrap().unscored, 2);
        assert_eq!(chosen(Keep::AtLeast(-10.0), &scores), [1]);
    }

    #[test]
    fn smaller_shares_nest_and_random_needs_no_scores() {
        let random = |share| {
            let quality = QualityConfig { keep: Keep::Share(share), by: QualityBy::Random };
            choose(1000, Some(&quality), None).unwrap().indices
        };
        let (small, large) = (random(0.2), random(0.6));
        assert_eq!((small.len(), large.len()), (200, 600));
        assert!(small.iter().all(|i| large.binary_search(i).is_ok()));
        assert_eq!(choose(3, None, None).unwrap().indices, [0, 1, 2]);
    }

    #[test]
    fn wrong_score_counts_and_empty_results_are_errors() {
        let quality = by_field(Keep::Share(0.5));
        assert!(matches!(choose(3, Some(&quality), Some(&[1.0])), Err(DataError::ScoreCount { scores: 1, pool: 3 })));
        assert!(matches!(choose(3, Some(&quality), None), Err(DataError::ScoreCount { .. })));
        let none = choose(2, Some(&by_field(Keep::AtLeast(2.0))), Some(&[0.0, 1.0]));
        assert!(matches!(none, Err(DataError::EmptySubset)));
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
