//! How a rule's scores go with what is known of the samples: their numeric fields.

use serde::Serialize;

use crate::data::{DataResult, Pack};

/// A rule's scores beside one field of the pool, over the samples that have both.
#[derive(Debug, Serialize)]
pub(super) struct FieldRanking {
    rule: String,
    field: String,
    /// Samples with a score and a value.
    compared: usize,
    /// Spearman's rank correlation of score and value; none where one of them is the same everywhere.
    spearman: Option<f64>,
    /// Samples whose value is 0.
    zero: usize,
    /// Probability that a sample whose value is 0 scores above one whose value is not, a tie counted half (the area under the ROC
    /// curve): with a field that numbers faults, how well the rule tells sound samples. None where all are, or none is, 0.
    auc_zero: Option<f64>,
}

/// Every rule beside every field.
pub(super) fn rankings(scores: &[(String, Vec<f64>)], pack: &Pack) -> DataResult<Vec<FieldRanking>> {
    let mut found = Vec::new();
    for field in pack.field_names() {
        let values = pack.field_values(field)?;
        found.extend(scores.iter().map(|(rule, scores)| ranking(rule, scores, field, &values)));
    }
    Ok(found)
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn ranking(rule: &str, scores: &[f64], field: &str, values: &[f64]) -> FieldRanking {
    let pairs = scores.iter().zip(values).filter(|(score, value)| !score.is_nan() && !value.is_nan());
    let (scores, values): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let ranks = average_ranks(&scores);
    let (zero, others) =
        (values.iter().filter(|value| **value == 0.0).count(), values.iter().filter(|value| **value != 0.0).count());
    let of_zero: f64 = ranks.iter().zip(&values).filter(|(_, value)| **value == 0.0).map(|(rank, _)| rank).sum();
    let above = of_zero - (zero * (zero + 1)) as f64 / 2.0;
    FieldRanking {
        rule: rule.to_owned(),
        field: field.to_owned(),
        compared: values.len(),
        spearman: correlation(&ranks, &average_ranks(&values)),
        zero,
        auc_zero: (zero > 0 && others > 0).then(|| above / (zero as f64 * others as f64)),
    }
}

/// Ranks from 1, equal values sharing the mean of theirs.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for alike in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = first as f64 + (alike.len() + 1) as f64 / 2.0;
        alike.iter().for_each(|&sample| ranks[sample] = rank);
        first += alike.len();
    }
    ranks
}

/// Pearson's correlation; none where a side does not vary.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn correlation(one: &[f64], other: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (of_one, of_other) = (mean(one), mean(other));
    let (mut both, mut squares) = (0.0, (0.0, 0.0));
    for (a, b) in one.iter().zip(other) {
        let (a, b) = (a - of_one, b - of_other);
        both += a * b;
        squares = (squares.0 + a * a, squares.1 + b * b);
    }
    let spread = (squares.0 * squares.1).sqrt();
    (spread > 0.0).then(|| both / spread)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let scores = [0.9, 0.5, 0.5, 0.1, f64::NAN, 0.7];
        let faults = [0.0, 0.0, 2.0, 1.0, 0.0, f64::NAN];
        let found = ranking("r", &scores, "fault", &faults);
        // Of four pairs three are in order and one is level.
        assert_eq!((found.compared, found.zero, found.auc_zero), (4, 2, Some(3.5 / 4.0)));
        assert_eq!(ranking("r", &scores, "f", &[1.0; 6]).auc_zero, None);
    }

    #[test]
    fn the_rank_correlation_is_scipys() {
        // scipy.stats.spearmanr([1, 2, 2, 4, 5], [3, 1, 4, 4, 9]).statistic
        let found = ranking("r", &[1.0, 2.0, 2.0, 4.0, 5.0], "f", &[3.0, 1.0, 4.0, 4.0, 9.0]);
        assert!((found.spearman.unwrap() - 0.763_157_894_736_842).abs() < 1e-12, "{:?}", found.spearman);
        assert_eq!(ranking("r", &[1.0, 1.0], "f", &[0.0, 1.0]).spearman, None);
    }
}
