//! Cutting a batch into lanes and chunks, and adding lanes back together in a fixed order.

use std::ops::Range;

use rayon::prelude::*;

use crate::trainer::ops::op::not_by_lanes;
use crate::trainer::program::Program;

/// Rows that a chunk aims for: activations of a block stay in the second-level cache.
const CHUNK_ROWS: usize = 256;

/// Samples of a chunk of a block with `rows` rows a sample; a function of the model only.
pub(super) fn chunk_samples(rows: usize) -> usize {
    (CHUNK_ROWS / rows.max(1)).max(1)
}

/// The contiguous part of `samples` that belongs to a lane.
pub(super) fn lane_range(samples: usize, lane: usize, lanes: usize) -> Range<usize> {
    samples * lane / lanes..samples * (lane + 1) / lanes
}

/// Splits a buffer with `per_sample` elements a sample into the lanes' parts.
pub(super) fn split_lanes<T>(buffer: &mut [T], samples: usize, lanes: usize, per_sample: usize) -> Vec<&mut [T]> {
    let mut rest = buffer;
    let mut parts = Vec::with_capacity(lanes);
    for lane in 0..lanes {
        let (part, tail) = rest.split_at_mut(lane_range(samples, lane, lanes).len() * per_sample);
        parts.push(part);
        rest = tail;
    }
    parts
}

/// Adds the lanes that were written into `gradient` by a fixed binary tree; what is not summed by lanes is there already.
pub(super) fn reduce(pool: &rayon::ThreadPool, program: &Program, gradient: &mut [f32], lanes: &[Vec<f32>], started: &[bool]) {
    const PIECE: usize = 16_384;
    let lanes: Vec<&[f32]> = lanes.iter().zip(started).filter(|(_, started)| **started).map(|(lane, _)| lane.as_slice()).collect();
    let skip = summed_whole(program);
    pool.install(|| {
        gradient.par_chunks_mut(PIECE).enumerate().for_each(|(piece, out)| {
            let start = piece * PIECE;
            for range in without(start..start + out.len(), &skip) {
                add_tree(&lanes, range.clone(), &mut out[range.start - start..range.end - start]);
            }
        });
    });
}

/// Ranges of parameters whose gradient is not summed by lanes.
fn summed_whole(program: &Program) -> Vec<Range<usize>> {
    let params = program.calls.iter().flat_map(|call| not_by_lanes(call.op.as_ref()));
    let mut ranges: Vec<_> = params.map(|param| program.params[param].range()).collect();
    ranges.sort_by_key(|range| range.start);
    // Calls may share parameters.
    ranges.dedup();
    ranges
}

/// The parts of `range` outside the sorted, disjoint `holes`.
fn without(range: Range<usize>, holes: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = range.start;
    for hole in holes {
        if hole.end <= start || hole.start >= range.end {
            continue;
        }
        if hole.start > start {
            parts.push(start..hole.start);
        }
        start = hole.end.min(range.end);
    }
    if start < range.end {
        parts.push(start..range.end);
    }
    parts
}

/// out = ((l0 + l1) + (l2 + l3)) + ..., element by element.
fn add_tree(lanes: &[&[f32]], range: Range<usize>, out: &mut [f32]) {
    match lanes {
        [] => out.fill(0.0),
        [a] => out.copy_from_slice(&a[range]),
        [a, b] => {
            let (a, b) = (&a[range.clone()], &b[range]);
            out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a + b);
        }
        [a, b, c, d, e, f, g, h] => {
            // Slices of one length, so that the loop has no checks and becomes vectors: lanes are as long as all parameters.
            let [a, b, c, d, e, f, g, h] = [a, b, c, d, e, f, g, h].map(|lane| &lane[range.clone()][..out.len()]);
            for i in 0..out.len() {
                out[i] = ((a[i] + b[i]) + (c[i] + d[i])) + ((e[i] + f[i]) + (g[i] + h[i]));
            }
        }
        _ => {
            let (left, right) = lanes.split_at(lanes.len().next_power_of_two() / 2);
            add_tree(left, range.clone(), out);
            let mut other = vec![0.0; out.len()];
            add_tree(right, range, &mut other);
            out.iter_mut().zip(&other).for_each(|(a, b)| *a += b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_cover_every_sample_once_also_when_there_are_more_lanes_than_samples() {
        for samples in [0, 1, 5, 8, 129] {
            let covered: Vec<usize> = (0..8).flat_map(|lane| lane_range(samples, lane, 8)).collect();
            assert_eq!(covered, (0..samples).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_tree_adds_any_number_of_lanes() {
        for count in 0..19_u8 {
            let lanes: Vec<Vec<f32>> = (0..count).map(|lane| vec![f32::from(lane) + 1.0; 3]).collect();
            let views: Vec<&[f32]> = lanes.iter().map(Vec::as_slice).collect();
            let mut out = vec![9.0; 2];
            add_tree(&views, 1..3, &mut out);
            let expected: f32 = (1..=count).map(f32::from).sum();
            assert_eq!(out, vec![expected; 2], "{count} lanes");
        }
    }

    #[test]
    fn holes_are_cut_out_of_a_range() {
        let holes = [2..4, 6..20];
        assert_eq!(without(0..10, &holes), vec![0..2, 4..6]);
        assert_eq!(without(3..5, &holes), vec![4..5]);
        assert_eq!(without(7..9, &holes), Vec::<Range<usize>>::new());
        assert_eq!(without(20..22, &holes), vec![20..22]);
    }
}
