// Pooling and normalisation of features.
//   mean_rows   y[b] = mean over the tokens of x[b, t]
//   forward     norm = max(|x|, eps), y = x / norm, row by row
//   backward    dx = (dy - y (y . dy)) / norm; where |x| < eps, dx = dy / eps
// Arguments: mean_rows x real[B, T, C], y real[B, C]. forward, backward: x, y, grad_y float[rows, C]; y_real real[rows, C], y again
// for the loss's products (may be y itself where real is float); norm float[rows]; grad_x real[rows, C].
// Decomposition: mean_rows a block for a column tile of a sample, its threads share the tokens. forward, backward: a warp a row,
// read twice (a row is a few KiB: the second time it comes from L1).
// Accumulation in float, sums by fixed trees. `pack` is 4 where rows may be read 4 elements at a time, else 1.
// Gradient convention: grad_x is overwritten.
// CPU reference: src/trainer/ops/normalize/cpu.rs, `mean_rows` of src/trainer/blocks/head.rs. Test: src/trainer/check/normalize.rs.
// Source: torch.nn.functional.normalize.
#include "common.cuh"

#define THREADS 128
#define WARPS (THREADS / 32)
#define POOL_THREADS 256

template <int N> DEV void mean_rows(const real* x, real* y, u32 tokens, u32 width, u32 tiles) {
    __shared__ float room[POOL_THREADS * N];
    ColumnTile tile = tile_of<N>(width, blockIdx.x % tiles, POOL_THREADS);
    size_t sample = blockIdx.x / tiles;
    float sum[N] = {};
    if (tile.column < width) {
#pragma unroll 4
        for (u32 token = tile.group; token < tokens; token += tile.groups) {
            float value[N];
            load_pack<N>(value, x + (sample * tokens + token) * width + tile.column);
            for (int n = 0; n < N; n++) sum[n] += value[n];
        }
    }
    sum_groups<N>(sum, tile, room);
    if (tile.group || tile.column >= width) return;
    float share = 1.0f / (float)tokens;
    for (int n = 0; n < N; n++) sum[n] *= share;
    store_pack<N>(y + sample * width + tile.column, sum);
}

// Grid: samples x column tiles.
KERNEL(POOL_THREADS) normalize_mean_rows(const real* __restrict__ x, real* __restrict__ y, u32 tokens, u32 width, u32 tiles,
                                         u32 pack) {
    if (pack == 4) mean_rows<4>(x, y, tokens, width, tiles);
    else mean_rows<1>(x, y, tokens, width, tiles);
}

// Row of this warp, and its first column.
DEV u32 row_of() { return blockIdx.x * WARPS + threadIdx.x / 32; }

template <int N> DEV float dot(const float* a, const float* b, u32 width) {
    float sum = 0;
#pragma unroll 4
    for (u32 column = threadIdx.x % 32 * N; column < width; column += 32 * N) {
        float u[N], v[N];
        load_pack<N>(u, a + column);
        load_pack<N>(v, b + column);
        for (int n = 0; n < N; n++) sum += u[n] * v[n];
    }
    return warp_sum(sum);
}

template <int N> DEV void forward(const float* x, float* y, real* y_real, float* norm, u32 rows, u32 width, float eps) {
    u32 row = row_of();
    if (row >= rows) return;
    size_t at = (size_t)row * width;
    float length = fmaxf(sqrtf(dot<N>(x + at, x + at, width)), eps);
    if (threadIdx.x % 32 == 0) norm[row] = length;
    for (u32 column = threadIdx.x % 32 * N; column < width; column += 32 * N) {
        float v[N];
        load_pack<N>(v, x + at + column);
        for (int n = 0; n < N; n++) v[n] /= length;
        store_pack<N>(y + at + column, v);
        store_pack<N>(y_real + at + column, v);
    }
}

KERNEL(THREADS) normalize_forward(const float* __restrict__ x, float* y, real* y_real, float* __restrict__ norm, u32 rows,
                                  u32 width, float eps, u32 pack) {
    if (pack == 4) forward<4>(x, y, y_real, norm, rows, width, eps);
    else forward<1>(x, y, y_real, norm, rows, width, eps);
}

template <int N> DEV void backward(const float* y, const float* norm, const float* grad_y, real* grad_x, u32 rows, u32 width,
float eps) {
    u32 row = row_of();
    if (row >= rows) return;
    size_t at = (size_t)row * width;
    float length = norm[row], along = dot<N>(y + at, grad_y + at, width);
    if (!(length > eps)) along = 0.0f;
    for (u32 column = threadIdx.x % 32 * N; column < width; column += 32 * N) {
        float v[N], d[N];
        load_pack<N>(v, y + at + column);
        load_pack<N>(d, grad_y + at + column);
        for (int n = 0; n < N; n++) d[n] = (d[n] - v[n] * along) / length;
        store_pack<N>(grad_x + at + column, d);
    }
}

KERNEL(THREADS) normalize_backward(const float* __restrict__ y, const float* __restrict__ norm, const float* __restrict__ grad_y,
                                   real* __restrict__ grad_x, u32 rows, u32 width, float eps, u32 pack) {
    if (pack == 4) backward<4>(y, norm, grad_y, grad_x, rows, width, eps);
    else backward<1>(y, norm, grad_y, grad_x, rows, width, eps);
}
