//! Launches of `kernels/adafactor.cu`, and the tables they work through.

use std::ops::Range;

use super::super::flat::{ALIGN, FlatView, PIECE_WORDS, StepBuffers, push_pieces, word};
use super::super::launch::{Arg, Launch, Module, Node, View};
use super::Adafactor;

/// The kernels.
pub const MODULE: Module = Module::new("adafactor", include_str!("../../../../kernels/adafactor.cu"));

// As in the kernel file.
const TILE_ROWS: usize = 64;
const TILE_COLUMNS: usize = 512;
const SLAB: usize = 128;
const MERGE_ROWS: usize = 1024;
const MERGE_COLUMNS: usize = 32;
const MATRIX_WORDS: usize = 16;
const PAIR_WORDS: usize = 2;

/// Where each view's second moment lies in the f32 buffer of all, in the layout of the CPU within a view; every range starts at
/// a multiple of [`ALIGN`] floats, and what lies between is never touched.
#[must_use]
pub fn second_layout(views: &[FlatView]) -> Vec<Range<usize>> {
    let mut end = 0_usize;
    let place = |view: &FlatView| {
        let start = end.next_multiple_of(ALIGN);
        end = start + view.matrix.second_len();
        start..end
    };
    views.iter().map(place).collect()
}

/// Floats of the buffer of all second moments.
#[must_use]
pub fn second_len(views: &[FlatView]) -> usize {
    second_layout(views).last().map_or(0, |range| range.end.next_multiple_of(ALIGN))
}

/// Words of [`StepBuffers::table`], uploaded once.
#[must_use]
pub fn table(views: &[FlatView]) -> Vec<u32> {
    let Plan { matrices, pieces, tiles, merges, scratch: _ } = Plan::new(views);
    [matrices, pieces, tiles, merges].concat()
}

/// Bytes of the scratch of [`update`].
#[must_use]
pub fn scratch_bytes(views: &[FlatView]) -> usize {
    4 * Plan::new(views).scratch
}

/// One step of all views, after the report of the gradient norm ([`super::super::elementwise::cuda::global_norm`]): nothing
/// happens where that says unfit. **Shapes** the second moment as in [`second_layout`], scratch [`scratch_bytes`].
#[must_use]
pub fn update(views: &[FlatView], h: &Adafactor, buffers: &StepBuffers, scratch: View) -> Vec<Node> {
    buffers.check();
    assert!(scratch.offset.is_multiple_of(16), "a scratch starts at a multiple of 16 bytes");
    let Plan { matrices, pieces, tiles, merges, scratch: _ } = Plan::new(views);
    let StepBuffers { params, grads, first, second, shadow: _, table, controls, report } = *buffers;
    let Adafactor { beta1, beta2_cap: _ } = *h;
    let piece_table = table.floats(matrices.len());
    let tile_table = piece_table.floats(pieces.len());
    let merge_table = tile_table.floats(tiles.len());
    let (matrix_table, beta1) = (Arg::In(table), Arg::F32(beta1));
    let (params, grads, momentum, shadow) = (Arg::InOut(params), Arg::In(grads), Arg::InOut(first), buffers.shadow_arg());
    let (controls, report) = (Arg::In(controls), Arg::In(report));

    let mut nodes = Vec::new();
    if !tiles.is_empty() {
        let (num_tiles, num_merges) = (tiles.len() / PAIR_WORDS, merges.len() / PAIR_WORDS);
        let tiles = Arg::In(tile_table);
        let args = vec![matrix_table, tiles, grads, Arg::Out(scratch), report];
        nodes.push(launch("adafactor_moments", num_tiles, 256, args));
        let args = vec![matrix_table, Arg::In(merge_table), Arg::InOut(second), Arg::InOut(scratch), controls, report];
        nodes.push(launch("adafactor_merge", num_merges, 512, args));
        let state = [params, grads, momentum, Arg::In(second), shadow];
        let rest = [Arg::In(scratch), controls, report, beta1];
        let args = [matrix_table, tiles].into_iter().chain(state).chain(rest).collect();
        nodes.push(launch("adafactor_apply", num_tiles, 256, args));
    }
    if !pieces.is_empty() {
        let state = [params, grads, momentum, Arg::InOut(second), shadow];
        let args = [Arg::In(piece_table)].into_iter().chain(state).chain([controls, report, beta1]).collect();
        nodes.push(launch("adafactor_unfactored", pieces.len() / PIECE_WORDS, 256, args));
    }
    nodes
}

fn launch(kernel: &'static str, num_blocks: usize, threads: u32, args: Vec<Arg>) -> Node {
    let grid = [u32::try_from(num_blocks).expect("a grid has fewer than 2^31 blocks"), 1, 1];
    Launch { module: MODULE, kernel, grid, threads, shared_bytes: 0, args }.into()
}

/// The tables of all views, in words, and the floats of scratch they refer to.
#[derive(Default)]
struct Plan {
    /// `Matrix` of each factored matrix.
    matrices: Vec<u32>,
    /// `Piece`s of the views that are not factored.
    pieces: Vec<u32>,
    /// `Tile` and `Merge`: matrix and number of each.
    tiles: Vec<u32>,
    merges: Vec<u32>,
    scratch: usize,
}

impl Plan {
    fn new(views: &[FlatView]) -> Self {
        let mut plan = Self::default();
        for (view, second) in views.iter().zip(second_layout(views)) {
            assert!(view.offset.is_multiple_of(ALIGN), "a view starts at a multiple of {ALIGN} floats");
            if !view.matrix.is_factored() {
                push_pieces(&mut plan.pieces, view, second.start);
                continue;
            }
            for idx in 0..view.matrix.leading {
                plan.push_matrix(view, idx, second.start);
            }
        }
        plan
    }

    fn push_matrix(&mut self, view: &FlatView, idx: usize, second: usize) {
        let (rows, columns) = (view.matrix.rows, view.matrix.cols);
        let offset = view.offset + idx * rows * columns;
        let second = second + idx * (rows + columns);
        // Tiles side by side as equal as whole slabs allow.
        let tile_columns = columns.div_ceil(columns.div_ceil(TILE_COLUMNS)).next_multiple_of(SLAB);
        let (across, down) = (columns.div_ceil(tile_columns), rows.div_ceil(TILE_ROWS));
        let (row_merges, column_merges) = (rows.div_ceil(MERGE_ROWS), columns.div_ceil(MERGE_COLUMNS));
        let number = word(self.matrices.len() / MATRIX_WORDS);
        let places = [across * rows, down * columns, row_merges, columns].map(|len| self.reserve(len));
        let [row_sums, column_sums, average_sums, column_factors] = places;
        let decays = usize::from(view.decay);
        let fields = [offset, rows, columns, decays, second, tile_columns, across, down, row_merges];
        let places = [row_sums, column_sums, average_sums, column_factors];
        self.matrices.extend(fields.into_iter().chain(places).chain([0; 3]).map(word));
        self.tiles.extend((0..across * down).flat_map(|at| [number, word(at)]));
        self.merges.extend((0..row_merges + column_merges).flat_map(|at| [number, word(at)]));
    }

    /// Floats of scratch, at a multiple of [`ALIGN`].
    fn reserve(&mut self, len: usize) -> usize {
        let start = self.scratch;
        self.scratch += len.next_multiple_of(ALIGN);
        start
    }
}
