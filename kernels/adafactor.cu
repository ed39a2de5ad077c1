// One step of Adafactor over the flat parameters, the second moment factored over the last two dimensions.
//   g = clip grad; row[i] = d row[i] + (1 - d) mean over j of (g[i, j]^2 + 1e-30); column[j] likewise over i
//   update[i, j] = g[i, j] / sqrt(row[i] / mean(row)) / sqrt(column[j])
//   not factored: v = d v + (1 - d) (g^2 + 1e-30); update = g / sqrt(v)
//   m = b1 m + (1 - b1) update; p = keep p - lr m                      keep is 1 where a matrix has no weight decay, else
//                                                                      the host's TrainConfig::decay_factor, as for AdamW
// Arguments: params, grads, momentum float, shadow real or null (p once more, rounded), flat with the same offsets; second float:
// a matrix has its rows, then its columns, at Matrix.second; controls, report float[8] (common.cuh); scratch float, see Matrix.
// All start at multiples of 16 bytes, every parameter at a multiple of 64 floats. Tables (Matrix, Tile, Merge, Piece) are made
// by src/trainer/ops/adafactor/cuda.rs.
// Decomposition: moments: a block takes a tile of up to 64 rows x 512 columns, a warp every 8th row; it leaves the sum of each
// row and of each column of its tile. merge: a block merges up to 1024 rows or 32 columns of one matrix. apply: tiles again.
// unfactored: a block a piece. Rows whose length is no multiple of 4 are read element by element.
// Accumulation: float, at most 64 rows or 512 columns a partial sum, fixed trees.
// Gradient convention: as in adamw.cu: grads is read and not changed, nothing is written where the report says unfit, padding
// stays as it is.
// CPU reference: src/trainer/ops/adafactor. Test: src/trainer/check/adafactor.rs. Source: Shazeer and Stern, ICML 2018; big_vision.
#include "common.cuh"

#define TILE_ROWS 64
#define TILE_COLUMNS 512
#define WARPS 8
// Columns that a warp covers at once, 4 a lane.
#define SLAB 128
#define SLABS (TILE_COLUMNS / SLAB)
#define MERGE_ROWS 1024
#define MERGE_COLUMNS 32
#define EPS 1e-30f

// One matrix: 16 words.
struct __align__(16) Matrix {
    u32 offset, rows, columns, decays;
    // Where its rows' averages start in `second`; its columns' follow.
    u32 second;
    // Columns of a tile (a multiple of SLAB) and tiles side by side, tiles one above another, merged stretches of rows.
    u32 tile_columns, tiles_across, tiles_down, row_merges;
    // Places in scratch: sums of rows [tiles_across, rows], of columns [tiles_down, columns], of row averages [row_merges], and
    // 1 / sqrt(column) [columns]; each a multiple of 4 floats.
    u32 row_sums, column_sums, average_sums, column_factors;
    u32 unused[3];
};
// Tile `at` of a matrix, row-major.
struct Tile {
    u32 matrix, at;
};
// Stretch `at` of a matrix' rows, or, from row_merges on, of its columns.
struct Merge {
    u32 matrix, at;
};

// A tile's place in its matrix, ends excluded.
struct Bounds {
    u32 down, across, row, row_end, column, column_end;
};
DEV Bounds bounds(const Matrix& m, u32 at) {
    Bounds b;
    b.down = at / m.tiles_across;
    b.across = at % m.tiles_across;
    b.row = b.down * TILE_ROWS;
    b.row_end = min(b.row + TILE_ROWS, m.rows);
    b.column = b.across * m.tile_columns;
    b.column_end = min(b.column + m.tile_columns, m.columns);
    return b;
}

// The column of a lane's i-th element of a slab: adjacent ones where a row is read 16 bytes at a time.
template <bool WIDE> DEV u32 column_of(u32 slab_column, u32 lane, int i) { return slab_column + (WIDE ? 4 * lane + i : 32 * i + lane); }

// A lane's elements of a slab of a row; 0 from column_end on.
template <bool WIDE> DEV Pack<float, 4> load(const float* row, u32 slab_column, u32 lane, u32 column_end) {
    Pack<float, 4> x = {{0.0f, 0.0f, 0.0f, 0.0f}};
    u32 first = column_of<WIDE>(slab_column, lane, 0);
    if (WIDE) {
        if (first < column_end) x = *(const Pack<float, 4>*)(row + first);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (first + 32 * i < column_end) x.at[i] = row[first + 32 * i];
    }
    return x;
}

template <class T, bool WIDE> DEV void store(T* row, const Pack<T, 4>& x, u32 slab_column, u32 lane, u32 column_end) {
    u32 first = column_of<WIDE>(slab_column, lane, 0);
    if (WIDE) {
        if (first < column_end) *(Pack<T, 4>*)(row + first) = x;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (first + 32 * i < column_end) row[first + 32 * i] = x.at[i];
    }
}

template <bool WIDE> DEV void tile_moments(const Matrix& m, const Bounds& b, const float* grads, float clip, float* scratch,
                                          float (*room)[TILE_COLUMNS]) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float columns[SLABS][4] = {};
    // The eps of an element, 0 where there is none.
    float eps[SLABS][4];
#pragma unroll
    for (int s = 0; s < SLABS; s++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 in_tile = column_of<WIDE>(SLAB * s, lane, i);
            eps[s][i] = b.column + in_tile < b.column_end ? EPS : 0.0f;
        }
    for (u32 row = b.row + warp; row < b.row_end; row += WARPS) {
        const float* from = grads + (size_t)row * m.columns;
        Pack<float, 4> g[SLABS];
#pragma unroll
        for (int s = 0; s < SLABS; s++) g[s] = load<WIDE>(from, b.column + SLAB * s, lane, b.column_end);
        float sum = 0;
#pragma unroll
        for (int s = 0; s < SLABS; s++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float x = clip * g[s].at[i], square = fmaf(x, x, eps[s][i]);
                sum += square;
                columns[s][i] += square;
            }
        sum = warp_sum(sum);
        if (lane == 0) scratch[m.row_sums + (size_t)b.across * m.rows + row] = sum;
    }
#pragma unroll
    for (int s = 0; s < SLABS; s++)
#pragma unroll
        for (int i = 0; i < 4; i++) room[warp][column_of<WIDE>(SLAB * s, lane, i)] = columns[s][i];
    __syncthreads();
    for (u32 c = threadIdx.x; c < b.column_end - b.column; c += 256) {
        float sum = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) sum += room[w][c];
        scratch[m.column_sums + (size_t)b.down * m.columns + b.column + c] = sum;
    }
}

KERNEL(256)
adafactor_moments(const Matrix* __restrict__ matrices, const Tile* __restrict__ tiles, const float* __restrict__ grads,
                  float* __restrict__ scratch, const float* __restrict__ report) {
    __shared__ float room[WARPS][TILE_COLUMNS];
    if (report[REPORT_UNFIT] != 0.0f) return;
    Tile tile = tiles[blockIdx.x];
    Matrix m = matrices[tile.matrix];
    Bounds b = bounds(m, tile.at);
    float clip = report[REPORT_CLIP];
    if (m.columns % 4 == 0)
        tile_moments<true>(m, b, grads + m.offset, clip, scratch, room);
    else
        tile_moments<false>(m, b, grads + m.offset, clip, scratch, room);
}

// Running averages of a stretch of rows, and the sum of the new ones.
DEV void merge_rows(const Matrix& m, u32 at, float* second, float* scratch, float decay) {
    __shared__ float room[32];
    float of_row = (1.0f - decay) / m.columns, averages = 0;
    for (u32 row = at * MERGE_ROWS + threadIdx.x; row < min((at + 1) * MERGE_ROWS, m.rows); row += blockDim.x) {
        float sum = 0;
        for (u32 tile = 0; tile < m.tiles_across; tile++) sum += scratch[m.row_sums + (size_t)tile * m.rows + row];
        float* average = second + m.second + row;
        float value = decay * *average + of_row * sum;
        *average = value;
        averages += value;
    }
    averages = block_sum(averages, room);
    if (threadIdx.x == 0) scratch[m.average_sums + at] = averages;
}

// Running averages of 32 columns and what they divide by; every 16th tile a warp.
DEV void merge_columns(const Matrix& m, u32 at, float* second, float* scratch, float decay) {
    __shared__ float room[16][MERGE_COLUMNS];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = at * MERGE_COLUMNS + lane;
    float sum = 0;
    if (column < m.columns) {
#pragma unroll 8
        for (u32 tile = warp; tile < m.tiles_down; tile += 16) sum += scratch[m.column_sums + (size_t)tile * m.columns + column];
    }
    room[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || column >= m.columns) return;
    sum = 0;
    for (int w = 0; w < 16; w++) sum += room[w][lane];
    float* average = second + m.second + m.rows + column;
    float value = decay * *average + (1.0f - decay) / m.rows * sum;
    *average = value;
    scratch[m.column_factors + column] = 1.0f / sqrtf(value);
}

KERNEL(512)
adafactor_merge(const Matrix* __restrict__ matrices, const Merge* __restrict__ merges, float* __restrict__ second,
                float* __restrict__ scratch, const float* __restrict__ controls, const float* __restrict__ report) {
    if (report[REPORT_UNFIT] != 0.0f) return;
    Merge merge = merges[blockIdx.x];
    Matrix m = matrices[merge.matrix];
    float decay = controls[CONTROL_DECAY];
    if (merge.at < m.row_merges)
        merge_rows(m, merge.at, second, scratch, decay);
    else
        merge_columns(m, merge.at - m.row_merges, second, scratch, decay);
}

struct Factors {
    float clip, beta1, lr, keep;
};
// What an optimiser writes, from the first element of a matrix or a piece on.
struct Targets {
    float *params, *momentum;
    real* shadow;
};

// The common end of all updates: `update` is g / sqrt(second moment).
DEV void finish(const Factors& f, const Pack<float, 4>& update, Pack<float, 4>& p, Pack<float, 4>& momentum, Pack<real, 4>& rounded) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        momentum.at[i] = fmaf(f.beta1, momentum.at[i], (1.0f - f.beta1) * update.at[i]);
        p.at[i] = fmaf(-f.lr, momentum.at[i], f.keep * p.at[i]);
        put(&rounded.at[i], p.at[i]);
    }
}

template <bool WIDE>
DEV void tile_apply(const Matrix& m, const Bounds& b, const Factors& f, const Targets& to, const float* grads, const float* second,
                    const float* scratch) {
    __shared__ float row_factors[TILE_ROWS];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (threadIdx.x < TILE_ROWS) {
        float sum = 0;
        for (u32 i = lane; i < m.row_merges; i += 32) sum += scratch[m.average_sums + i];
        float mean = warp_sum(sum) / m.rows;
        u32 row = b.row + threadIdx.x;
        if (row < b.row_end) row_factors[threadIdx.x] = 1.0f / sqrtf(second[m.second + row] / mean);
    }
    __syncthreads();
    for (u32 slab = b.column; slab < b.column_end; slab += SLAB) {
        Pack<float, 4> column_factors = load<WIDE>(scratch + m.column_factors, slab, lane, b.column_end);
        for (u32 row = b.row + warp; row < b.row_end; row += WARPS) {
            size_t at = (size_t)row * m.columns;
            Pack<float, 4> g = load<WIDE>(grads + at, slab, lane, b.column_end);
            Pack<float, 4> p = load<WIDE>(to.params + at, slab, lane, b.column_end);
            Pack<float, 4> momentum = load<WIDE>(to.momentum + at, slab, lane, b.column_end);
            float row_factor = row_factors[row - b.row];
            Pack<real, 4> rounded;
#pragma unroll
            for (int i = 0; i < 4; i++) g.at[i] = f.clip * g.at[i] * row_factor * column_factors.at[i];
            finish(f, g, p, momentum, rounded);
            store<float, WIDE>(to.momentum + at, momentum, slab, lane, b.column_end);
            store<float, WIDE>(to.params + at, p, slab, lane, b.column_end);
            if (to.shadow) store<real, WIDE>(to.shadow + at, rounded, slab, lane, b.column_end);
        }
    }
}

KERNEL(256)
adafactor_apply(const Matrix* __restrict__ matrices, const Tile* __restrict__ tiles, float* __restrict__ params,
                const float* __restrict__ grads, float* __restrict__ momentum, const float* __restrict__ second,
                real* __restrict__ shadow, const float* __restrict__ scratch, const float* __restrict__ controls,
                const float* __restrict__ report, float beta1) {
    if (report[REPORT_UNFIT] != 0.0f) return;
    Tile tile = tiles[blockIdx.x];
    Matrix m = matrices[tile.matrix];
    Bounds b = bounds(m, tile.at);
    Factors f = {report[REPORT_CLIP], beta1, controls[CONTROL_LR], m.decays ? controls[CONTROL_KEEP] : 1.0f};
    Targets to = {params + m.offset, momentum + m.offset, shadow ? shadow + m.offset : nullptr};
    if (m.columns % 4 == 0)
        tile_apply<true>(m, b, f, to, grads + m.offset, second, scratch);
    else
        tile_apply<false>(m, b, f, to, grads + m.offset, second, scratch);
}

// `count` adjacent elements, at most 4.
DEV void unfactored(const Factors& f, const Targets& to, u32 at, u32 count, const float* grads, float* second, float decay) {
    Pack<float, 4> g = load_some(grads + at, count), v = load_some(second + at, count);
    Pack<float, 4> p = load_some(to.params + at, count), momentum = load_some(to.momentum + at, count);
    Pack<real, 4> rounded;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float x = f.clip * g.at[i];
        v.at[i] = fmaf(decay, v.at[i], (1.0f - decay) * fmaf(x, x, EPS));
        g.at[i] = x / sqrtf(v.at[i]);
    }
    finish(f, g, p, momentum, rounded);
    store_some(second + at, v, count);
    store_some(to.momentum + at, momentum, count);
    store_some(to.params + at, p, count);
    if (to.shadow) store_some(to.shadow + at, rounded, count);
}

KERNEL(256)
adafactor_unfactored(const Piece* __restrict__ pieces, float* __restrict__ params, const float* __restrict__ grads,
                     float* __restrict__ momentum, float* __restrict__ second, real* __restrict__ shadow,
                     const float* __restrict__ controls, const float* __restrict__ report, float beta1) {
    if (report[REPORT_UNFIT] != 0.0f) return;
    Piece piece = pieces[blockIdx.x];
    Factors f = {report[REPORT_CLIP], beta1, controls[CONTROL_LR], piece.decays ? controls[CONTROL_KEEP] : 1.0f};
    Targets to = {params + piece.offset, momentum + piece.offset, shadow ? shadow + piece.offset : nullptr};
    float decay = controls[CONTROL_DECAY];
    for (u32 i = threadIdx.x * 4; i < piece.len; i += 1024)
        unfactored(f, to, i, piece.len - i, grads + piece.offset, second + piece.second, decay);
}
