// Token embedding.
//   forward     rows[b, t] = table[ids[b, t]] + positions[t]; an id that is not in the table gives NaN
//   pieces,
//   merge       grad_table[v] += sum of grad_rows over the live places of id v
//   columns,
//   reduce      grad_positions[t] = sum over b of grad_rows[b, t]
// Arguments: ids u32[B, T]; table float[V, C]; positions float[T, C]; rows, grad_rows float[B, T, C]; plan u32 words as
// `TokenPlan` in src/trainer/ops/embedding/cuda.rs lays them out (the host sorts, so no atomics are needed): header (pieces,
// merges, 0, 0), pieces (id, start in `order`, length, slot or NONE), merges (id, first slot, slots, 0), order of places.
// Decomposition: forward a thread for adjacent columns, flat. pieces: a warp sums a column tile of a piece (up to 64 places of
// one id, in order); a fixed number of blocks goes through the pieces. merge: a block sums the slots of an id. columns: a block
// sums a tile of the T C columns over a slab of samples; reduce adds the slabs up.
// Accumulation in float. Gradient convention: the table's gradient is added to, positions are added to or overwritten (`add`).
// CPU reference: src/trainer/ops/embedding/mod.rs. Test: src/trainer/check/embedding.rs. Source: none; a gather and its transpose.
#include "common.cuh"

#define THREADS 256
#define NONE 0xffffffffu
#define HEADER 4
#define MERGE_LANES 32

typedef Pack<u32, 4> Quad;

template <int N>
DEV void forward(const u32* ids, const float* table, const float* positions, float* rows, u32 vocab, u32 tokens, u32 width,
                 u32 num_rows) {
    u32 i = blockIdx.x * THREADS + threadIdx.x, row = i / (width / N), column = i % (width / N) * N;
    if (row >= num_rows) return;
    u32 id = ids[row];
    float value[N], offset[N];
    load_pack<N>(offset, positions + (size_t)(row % tokens) * width + column);
    if (id < vocab) load_pack<N>(value, table + (size_t)id * width + column);
    else for (int n = 0; n < N; n++) value[n] = __uint_as_float(0x7fffffffu);
#pragma unroll
    for (int n = 0; n < N; n++) value[n] += offset[n];
    store_pack<N>(rows + (size_t)row * width + column, value);
}

// `pack` adjacent columns a thread: 4 or 1. `num_rows` is B T.
KERNEL(THREADS) embedding_forward(const u32* __restrict__ ids, const float* __restrict__ table,
                                  const float* __restrict__ positions, float* __restrict__ rows, u32 vocab, u32 tokens, u32 width,
                                  u32 num_rows, u32 pack) {
    if (pack == 4) forward<4>(ids, table, positions, rows, vocab, tokens, width, num_rows);
    else forward<1>(ids, table, positions, rows, vocab, tokens, width, num_rows);
}

template <int N> DEV void pieces(const u32* plan, u32 order_at, const float* grad_rows, float* slots, float* grad_table,
u32 width) {
    u32 tiles = (width + 32 * N - 1) / (32 * N), items = plan[0] * tiles;
    for (u32 item = (blockIdx.x * THREADS + threadIdx.x) / 32; item < items; item += gridDim.x * (THREADS / 32)) {
        Quad piece = *(const Quad*)(plan + HEADER + (size_t)(item / tiles) * 4);
        u32 column = (item % tiles * 32 + threadIdx.x % 32) * N, slot = piece.at[3];
        if (column >= width) continue;
        const u32* order = plan + order_at + piece.at[1];
        float sum[N] = {};
#pragma unroll 4
        for (u32 i = 0; i < piece.at[2]; i++) {
            float value[N];
            load_pack<N>(value, grad_rows + (size_t)order[i] * width + column);
            for (int n = 0; n < N; n++) sum[n] += value[n];
        }
        float* to = (slot == NONE ? grad_table + (size_t)piece.at[0] * width : slots + (size_t)slot * width) + column;
        if (slot == NONE) {
            float old[N];
            load_pack<N>(old, to);
            for (int n = 0; n < N; n++) sum[n] += old[n];
        }
        store_pack<N>(to, sum);
    }
}

KERNEL(THREADS) embedding_backward_pieces(const u32* __restrict__ plan, u32 order_at, const float* __restrict__ grad_rows,
                                          float* __restrict__ slots, float* __restrict__ grad_table, u32 width, u32 pack) {
    if (pack == 4) pieces<4>(plan, order_at, grad_rows, slots, grad_table, width);
    else pieces<1>(plan, order_at, grad_rows, slots, grad_table, width);
}

template <int N> DEV void merge(const u32* plan, u32 merges_at, const float* slots, float* grad_table, u32 width) {
    __shared__ float room[THREADS * N];
    u32 tiles = (width + MERGE_LANES * N - 1) / (MERGE_LANES * N), items = plan[1] * tiles;
    for (u32 item = blockIdx.x; item < items; item += gridDim.x) {
        Quad merge = *(const Quad*)(plan + merges_at + (size_t)(item / tiles) * 4);
        ColumnTile tile = tile_of<N>(width, item % tiles, MERGE_LANES);
        float sum[N] = {};
        if (tile.column < width) {
#pragma unroll 4
            for (u32 i = tile.group; i < merge.at[2]; i += tile.groups) {
                float value[N];
                load_pack<N>(value, slots + ((size_t)merge.at[1] + i) * width + tile.column);
                for (int n = 0; n < N; n++) sum[n] += value[n];
            }
        }
        sum_groups<N>(sum, tile, room);
        if (tile.group || tile.column >= width) continue;
        float* to = grad_table + (size_t)merge.at[0] * width + tile.column;
        float old[N];
        load_pack<N>(old, to);
        for (int n = 0; n < N; n++) sum[n] += old[n];
        store_pack<N>(to, sum);
    }
}

KERNEL(THREADS) embedding_backward_merge(const u32* __restrict__ plan, u32 merges_at, const float* __restrict__ slots,
                                         float* __restrict__ grad_table, u32 width, u32 pack) {
    if (pack == 4) merge<4>(plan, merges_at, slots, grad_table, width);
    else merge<1>(plan, merges_at, slots, grad_table, width);
}

template <int N> DEV void columns(const float* x, float* parts, u32 rows, u32 columns, u32 slab) {
    __shared__ float room[THREADS * N];
    ColumnTile tile = tile_of<N>(columns, blockIdx.x, THREADS);
    u32 end = min(rows, (blockIdx.y + 1) * slab);
    float sum[N] = {};
    if (tile.column < columns) {
#pragma unroll 4
        for (u32 row = blockIdx.y * slab + tile.group; row < end; row += tile.groups) {
            float value[N];
            load_pack<N>(value, x + (size_t)row * columns + tile.column);
            for (int n = 0; n < N; n++) sum[n] += value[n];
        }
    }
    sum_groups<N>(sum, tile, room);
    if (tile.group == 0 && tile.column < columns) store_pack<N>(parts + (size_t)blockIdx.y * columns + tile.column, sum);
}

// x float[rows, columns], parts float[slabs, columns]. Grid: (column tiles, slabs).
KERNEL(THREADS) embedding_backward_columns(const float* __restrict__ x, float* __restrict__ parts, u32 rows, u32 num_columns,
                                           u32 slab, u32 pack) {
    if (pack == 4) columns<4>(x, parts, rows, num_columns, slab);
    else columns<1>(x, parts, rows, num_columns, slab);
}

KERNEL(PART_THREADS) embedding_backward_reduce(const float* __restrict__ parts, u32 num, u32 len, u32 groups,
                                               float* __restrict__ grad_positions, u32 add) {
    u32 i;
    float sum;
    if (sum_parts(parts, num, len, groups, i, sum)) grad_positions[i] = add ? grad_positions[i] + sum : sum;
}
