//! `kernels/embedding.cu` against the CPU rows, and the plan of the table's gradient.

use crate::trainer::ops::embedding::cuda::{Backward, TokenPlan};
use crate::trainer::ops::embedding::{self, cuda};
use crate::trainer::ops::launch::Real;

use super::lab::{Bench, ORDERS, assert_near, random};

/// Batch, tokens, width, vocabulary. In the last one there are more pieces times columns than warps.
const CASES: [(usize, usize, usize, usize); 7] =
    [(1, 1, 1, 1), (3, 5, 7, 11), (70, 3, 12, 5), (40, 7, 132, 3), (150, 2, 37, 2), (5, 9, 4, 1000), (2500, 3, 321, 6000)];

/// Ids that start with the same one in every sample, and ends of text.
fn batch(seed: u64, batch: usize, tokens: usize, vocab: usize) -> (Vec<u32>, Vec<u32>) {
    let below = |seed, len: usize, bound: usize| -> Vec<u32> {
        random(seed, len).iter().map(|v| (((v + 1.0) * 0.5 * bound as f32) as u32).min(bound as u32 - 1)).collect()
    };
    let mut ids = below(seed, batch * tokens, vocab);
    ids.iter_mut().step_by(tokens).for_each(|id| *id = vocab as u32 - 1);
    (ids, below(seed + 1, batch, tokens))
}

/// Rows are table rows plus positions.
pub(super) fn rows_are_table_rows_plus_positions() {
    for ((samples, tokens, width, vocab), order) in CASES.into_iter().zip(ORDERS.into_iter().cycle()) {
        let (ids, _) = batch(1, samples, tokens, vocab);
        let (table, positions) = (random(3, vocab * width), random(4, tokens * width));
        let mut expected = vec![0.0; samples * tokens * width];
        for (ids, rows) in ids.chunks(tokens).zip(expected.chunks_mut(tokens * width)) {
            embedding::forward(ids, &table, &positions, rows);
        }
        let mut bench = Bench::new(Real::F32, order);
        let (ids, table, positions) = (bench.words(&ids), bench.floats(&table), bench.floats(&positions));
        let rows = bench.unwritten_floats(expected.len());
        bench.run([cuda::forward(vocab, tokens, width, samples, ids, table, positions, rows)]);
        assert_eq!(bench.read_floats(rows, expected.len()), expected, "{samples} {tokens} {width} {vocab}");
    }
}

/// An id beyond the table is not a number.
pub(super) fn an_id_beyond_the_table_is_not_a_number() {
    let mut bench = Bench::new(Real::F32, 0);
    let (ids, table) = (bench.words(&[1, 2]), bench.floats(&[1.0, 2.0]));
    let (positions, rows) = (bench.floats(&[10.0, 20.0]), bench.unwritten_floats(2));
    bench.run([cuda::forward(2, 2, 1, 1, ids, table, positions, rows)]);
    let found = bench.read_floats(rows, 2);
    assert!(found[0] == 12.0 && found[1].is_nan(), "{found:?}");
}

/// Gradients of table and positions are those of the cpu.
pub(super) fn gradients_of_table_and_positions_are_those_of_the_cpu() {
    let mut plan = TokenPlan::default();
    for ((samples, tokens, width, vocab), order) in CASES.into_iter().zip(ORDERS.into_iter().cycle()) {
        for accumulate in [false, true] {
            let (ids, ends) = batch(7, samples, tokens, vocab);
            let mut grad = random(5, samples * tokens * width);
            for (end, rows) in ends.iter().zip(grad.chunks_mut(tokens * width)) {
                rows[(*end as usize + 1) * width..].fill(0.0);
            }
            let (mut table, mut positions) = (random(6, vocab * width), random(8, tokens * width));
            let mut bench = Bench::new(Real::F32, order);
            let (grad_table, grad_positions) = (bench.floats(&table), bench.floats(&positions));
            if !accumulate {
                positions.fill(0.0);
            }
            for (ids, rows) in ids.chunks(tokens).zip(grad.chunks(tokens * width)) {
                embedding::backward(ids, rows, &mut table, &mut positions);
            }
            plan.fill(&ids, &ends, tokens);
            let at = Backward {
                batch: samples,
                tokens,
                width,
                plan: bench.words(plan.as_words()),
                grad_rows: bench.floats(&grad),
                grad_table,
                grad_positions,
                accumulate_positions: accumulate,
            };
            let scratch = bench.unwritten_floats(cuda::backward_scratch_bytes(samples, tokens, width) / 4);
            bench.run(cuda::backward(&at, scratch));
            // The CPU adds up to 2500 rows one after another.
            let (what, limit) = (format!("{samples} {tokens} {width} {vocab}"), 1e-5);
            assert_near(&format!("{what} table"), &bench.read_floats(grad_table, table.len()), &table, limit);
            assert_near(&format!("{what} positions"), &bench.read_floats(grad_positions, positions.len()), &positions, limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_lists_every_live_place_once_in_pieces_of_one_id() {
        let mut plan = TokenPlan::default();
        for (samples, tokens, _, vocab) in CASES {
            let (ids, ends) = batch(9, samples, tokens, vocab);
            plan.fill(&ids, &ends, tokens);
            let (words, places) = (plan.as_words(), samples * tokens);
            assert_eq!(words.len(), TokenPlan::words(samples, tokens));
            let (pieces, merges) = (words[0] as usize, words[1] as usize);
            let order = &words[words.len() - places..];
            let (mut seen, mut slots) = (Vec::new(), Vec::new());
            for piece in words[4..].chunks(4).take(pieces) {
                let [id, start, len, slot] = [piece[0], piece[1], piece[2], piece[3]];
                assert!((1..=64).contains(&len));
                let listed = &order[start as usize..(start + len) as usize];
                assert!(listed.windows(2).all(|pair| pair[0] < pair[1]) && listed.iter().all(|place| ids[*place as usize] == id));
                seen.extend_from_slice(listed);
                if slot != u32::MAX {
                    slots.push((id, slot));
                }
            }
            let mut merged = Vec::new();
            for merge in words[4 + 4 * places..].chunks(4).take(merges) {
                merged.extend((merge[1]..merge[1] + merge[2]).map(|slot| (merge[0], slot)));
            }
            assert_eq!(slots, merged);
            assert!(slots.iter().enumerate().all(|(i, (_, slot))| i == *slot as usize) && 65 * slots.len() <= 2 * places);
            seen.sort_unstable();
            let live = (0..places as u32).filter(|place| *place as usize % tokens <= ends[*place as usize / tokens] as usize);
            assert_eq!(seen, live.collect::<Vec<_>>());
        }
    }
}
