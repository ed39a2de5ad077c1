//! Launches of `kernels/embedding.cu`, and the plan by which the table's gradient is summed without atomics.

use super::super::launch::{Arg, Launch, Module, Node, PartSums, View, blocks, blocks_of_counted, pack, slabs};

/// The kernels.
pub const MODULE: Module = Module::new("embedding", include_str!("../../../../kernels/embedding.cu"));

const THREADS: usize = 256;
/// Lanes of a warp: adjacent threads that share a row in the table's gradient.
const LANES: usize = 32;
/// Places of one id that a warp sums.
const PIECE: usize = 64;
/// Words of a piece, of a merge and of the header.
const QUAD: usize = 4;
/// Slot of a piece that goes straight to the table.
const NO_SLOT: u32 = u32::MAX;
/// Blocks that go through pieces or merges: sixteen for each of an H200's 132 multiprocessors.
const MOST_BLOCKS: usize = 16 * 132;

/// rows = table rows + positions; an id that is not in the table gives NaN.
///
/// **Shapes** ids u32 `[B, T]`, table f32 `[V, C]`, positions f32 `[T, C]`, rows f32 `[B, T, C]`.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "four sizes and the four buffers they describe")]
pub fn forward(
    vocab: usize,
    tokens: usize,
    width: usize,
    samples: usize,
    ids: View,
    table: View,
    positions: View,
    rows: View,
) -> Launch {
    let pack = pack(width, &[(table, 4), (positions, 4), (rows, 4)]);
    let threads = samples * tokens * (width / pack);
    let mut args = vec![Arg::In(ids), Arg::In(table), Arg::In(positions), Arg::Out(rows)];
    args.extend([vocab, tokens, width, samples * tokens, pack].map(Arg::count));
    launch("embedding_forward", blocks_of_counted(threads, THREADS), args)
}

/// Which places of a batch each id stands at: the order in which the gradient of the token table is summed.
///
/// Tokens after the end of text have no gradient (attention is causal and the end is pooled), so only the places up to it are
/// listed. They are sorted by id, in batch order within an id, and cut into pieces of at most 64 places of one id. The words,
/// as `kernels/embedding.cu` reads them, with G = B T places:
///
/// - header: pieces, merges, 0, 0;
/// - G pieces of 4: id, start in `order`, length, slot (`u32::MAX` where the id has one piece, which is added to the table);
/// - G / 65 merges of 4, for ids with several pieces: id, first slot, slots, 0;
/// - `order`: G places (sample T + token).
///
/// What is not used of the fixed capacities is left as it was.
#[derive(Debug, Clone, Default)]
pub struct TokenPlan {
    words: Vec<u32>,
    /// Occurrences of each id; later, where its next place goes.
    counts: Vec<u32>,
}

impl TokenPlan {
    /// Words of a plan.
    #[must_use]
    pub fn words(batch: usize, tokens: usize) -> usize {
        let places = batch * tokens;
        order_at(places) + places
    }

    /// The words.
    #[must_use]
    pub fn as_words(&self) -> &[u32] {
        &self.words
    }

    /// Plans a batch. Nothing is allocated once a batch of this size and with ids as large has been planned.
    ///
    /// **Shapes** ids `[B, T]`, ends `[B]`: the end-of-text position of each sample.
    ///
    /// # Panics
    /// If an end is not below `tokens`, or lengths do not fit.
    pub fn fill(&mut self, ids: &[u32], ends: &[u32], tokens: usize) {
        assert_eq!(ids.len(), ends.len() * tokens, "ids of a batch");
        assert!(ends.iter().all(|end| (*end as usize) < tokens), "an end of text beyond the tokens");
        let live = |sample: usize| sample * tokens..sample * tokens + ends[sample] as usize + 1;
        self.words.resize(Self::words(ends.len(), tokens), 0);
        self.counts.clear();
        self.counts.resize(ids.iter().max().map_or(0, |id| *id as usize + 1), 0);
        for sample in 0..ends.len() {
            ids[live(sample)].iter().for_each(|id| self.counts[*id as usize] += 1);
        }
        self.cut(ids.len());
        let order = &mut self.words[order_at(ids.len())..];
        for sample in 0..ends.len() {
            for place in live(sample) {
                let next = &mut self.counts[ids[place] as usize];
                order[*next as usize] = place as u32;
                *next += 1;
            }
        }
    }

    /// Writes header, pieces and merges; turns counts into starts.
    fn cut(&mut self, places: usize) {
        let (mut pieces, mut merges, mut start, mut slots) = (0, 0, 0_u32, 0_u32);
        let (head, merge_words) = self.words.split_at_mut(merges_at(places));
        for (id, count) in self.counts.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            let (id, parts) = (id as u32, count.div_ceil(PIECE as u32));
            for part in 0..parts {
                let done = part * PIECE as u32;
                let slot = if parts == 1 { NO_SLOT } else { slots + part };
                let piece = [id, start + done, (*count - done).min(PIECE as u32), slot];
                head[QUAD * (1 + pieces)..][..QUAD].copy_from_slice(&piece);
                pieces += 1;
            }
            if parts > 1 {
                merge_words[QUAD * merges..][..QUAD].copy_from_slice(&[id, slots, parts, 0]);
                merges += 1;
                slots += parts;
            }
            (start, *count) = (start + *count, start);
        }
        head[..QUAD].copy_from_slice(&[pieces as u32, merges as u32, 0, 0]);
    }
}

fn merges_at(places: usize) -> usize {
    QUAD + QUAD * places
}

/// Ids that have several pieces, at most.
fn most_merges(places: usize) -> usize {
    places / (PIECE + 1)
}

fn order_at(places: usize) -> usize {
    merges_at(places) + QUAD * most_merges(places)
}

/// Bytes of the slots: an id with n > 64 places has ceil(n / 64) <= 2 n / 65 pieces.
fn slot_bytes(places: usize, width: usize) -> usize {
    (4 * (2 * places / (PIECE + 1)) * width).next_multiple_of(256)
}

/// Samples of a slab, slabs, in the sums of the positions' gradient.
fn position_slabs(batch: usize, columns: usize) -> (usize, usize) {
    slabs(batch, columns.div_ceil(4 * THREADS))
}

/// Where [`backward`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backward {
    /// Samples (B).
    pub batch: usize,
    /// Tokens a sample (T).
    pub tokens: usize,
    /// Channels (C).
    pub width: usize,
    /// The words of a [`TokenPlan`].
    pub plan: View,
    /// f32 `[B, T, C]`.
    pub grad_rows: View,
    /// f32 `[V, C]`, added to.
    pub grad_table: View,
    /// f32 `[T, C]`.
    pub grad_positions: View,
    /// Whether the positions' gradient is added to what is there.
    pub accumulate_positions: bool,
}

/// Bytes of `scratch` for [`backward`].
#[must_use]
pub fn backward_scratch_bytes(batch: usize, tokens: usize, width: usize) -> usize {
    let (_, slabs) = position_slabs(batch, tokens * width);
    slot_bytes(batch * tokens, width) + PartSums { parts: slabs, len: tokens * width }.bytes()
}

/// Gradients of table and positions.
#[must_use]
pub fn backward(at: &Backward, scratch: View) -> Vec<Node> {
    let Backward { batch, tokens, width, plan, grad_rows, grad_table, .. } = *at;
    let places = batch * tokens;
    let table_pack = pack(width, &[(grad_rows, 4), (grad_table, 4), (scratch, 4)]);
    let tiles = width.div_ceil(LANES * table_pack);
    let most = |items: usize, a_block: usize| blocks(items.div_ceil(a_block).min(MOST_BLOCKS), 1);
    let args = vec![Arg::In(plan), Arg::count(order_at(places)), Arg::In(grad_rows), Arg::Out(scratch), Arg::InOut(grad_table)];
    let sizes = [width, table_pack].map(Arg::count);
    let pieces = launch("embedding_backward_pieces", most(places * tiles, THREADS / LANES), [args, sizes.to_vec()].concat());
    let mut nodes = vec![Node::from(pieces)];
    if most_merges(places) > 0 {
        let args = vec![Arg::In(plan), Arg::count(merges_at(places)), Arg::In(scratch), Arg::InOut(grad_table)];
        let merge = launch("embedding_backward_merge", most(most_merges(places) * tiles, 1), [args, sizes.to_vec()].concat());
        nodes.push(merge.into());
    }
    nodes.extend(positions(at, scratch.at(slot_bytes(places, width))));
    nodes
}

/// The gradient of the positions: column sums over the batch, in two stages.
fn positions(at: &Backward, parts_view: View) -> [Node; 2] {
    let Backward { batch, tokens, width, grad_rows, grad_positions, accumulate_positions, .. } = *at;
    let columns = tokens * width;
    let (slab, slabs) = position_slabs(batch, columns);
    let pack = pack(columns, &[(grad_rows, 4), (parts_view, 4)]);
    let args = vec![Arg::In(grad_rows), Arg::Out(parts_view)];
    let sizes = [batch, columns, slab, pack].map(Arg::count);
    let tiles = blocks(columns, pack * THREADS);
    let mut sums = launch("embedding_backward_columns", tiles, [args, sizes.to_vec()].concat());
    sums.grid[1] = slabs as u32;

    let parts = PartSums { parts: slabs, len: columns };
    let positions = if accumulate_positions { Arg::InOut(grad_positions) } else { Arg::Out(grad_positions) };
    let mut args = vec![Arg::In(parts_view)];
    args.extend([parts.parts, parts.len, parts.groups()].map(Arg::count));
    args.extend([positions, Arg::U32(accumulate_positions.into())]);
    let reduce = Launch { grid: parts.grid(), threads: PartSums::THREADS, ..launch("embedding_backward_reduce", 1, args) };
    [sums, reduce].map(Node::from)
}

fn launch(kernel: &'static str, blocks: u32, args: Vec<Arg>) -> Launch {
    Launch { module: MODULE, kernel, grid: [blocks, 1, 1], threads: THREADS as u32, shared_bytes: 0, args }
}
