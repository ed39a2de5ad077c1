// Matrix products of our own, for shapes that the library has no algorithm for: correct before fast.
//   product    out = a b (+ addend) (+ bias)
//   add_bias   out = out + bias, row by row, for a product whose bias the library does not add
// Arguments: a [m, k], or [k, m] where a_transposed; b [k, n], or [n, k] where b_transposed; addend float[m, n] or null, may be
// out; bias [n] of out's type or null; out [m, n]. Factors and out are real, or real and float, or float.
// Decomposition: product a block for a tile of 64 x 64, 4 x 4 of it a thread, 16 steps of k through shared memory at a time.
// add_bias an element a thread.
// Accumulation in float, over k in order, from 0; addend and bias are added to the sum.
// Gradient convention: out is overwritten (the caller's addend accumulates).
// CPU reference: a plain loop in f64 in the test. Test: src/trainer/check/product.rs.
// Source: the classic tiled product; no library is copied.
#include "common.cuh"

#define THREADS 256
#define TILE 64
#define STEP 16
#define SIDE 4

// One tile of a factor into shared memory, [STEP][TILE]: line `line` of the tile is row (or column) `first + line` of the product.
// Neighbouring threads read neighbouring elements, whichever way the matrix lies.
template <class T> DEV void load(float (&to)[STEP][TILE + 1], const T* from, u32 first, u32 lines, u32 step, u32 k, bool line_is_inner) {
    for (u32 i = threadIdx.x; i < TILE * STEP; i += THREADS) {
        u32 line = line_is_inner ? i % TILE : i / STEP, s = line_is_inner ? i / TILE : i % STEP;
        u32 row = first + line, inner = step + s;
        size_t at = line_is_inner ? (size_t)inner * lines + row : (size_t)row * k + inner;
        to[s][line] = row < lines && inner < k ? widen(from[at]) : 0.0f;
    }
}

template <class F, class O>
DEV void product(const F* a, const F* b, const float* addend, const O* bias, O* out, u32 m, u32 n, u32 k, u32 a_transposed,
                 u32 b_transposed) {
    __shared__ float left[STEP][TILE + 1], right[STEP][TILE + 1];
    u32 tiles = (n + TILE - 1) / TILE, row = blockIdx.x / tiles * TILE, column = blockIdx.x % tiles * TILE;
    u32 r0 = threadIdx.x / (TILE / SIDE) * SIDE, c0 = threadIdx.x % (TILE / SIDE) * SIDE;
    float sum[SIDE][SIDE] = {};
    for (u32 step = 0; step < k; step += STEP) {
        load(left, a, row, m, step, k, a_transposed);
        load(right, b, column, n, step, k, !b_transposed);
        __syncthreads();
        for (u32 s = 0; s < STEP; s++)
#pragma unroll
            for (u32 r = 0; r < SIDE; r++)
#pragma unroll
                for (u32 c = 0; c < SIDE; c++) sum[r][c] += left[s][r0 + r] * right[s][c0 + c];
        __syncthreads();
    }
    for (u32 r = 0; r < SIDE; r++)
        for (u32 c = 0; c < SIDE; c++) {
            if (row + r0 + r >= m || column + c0 + c >= n) continue;
            size_t at = (size_t)(row + r0 + r) * n + column + c0 + c;
            float x = sum[r][c];
            if (addend) x += addend[at];
            if (bias) x += widen(bias[column + c0 + c]);
            put(out + at, x);
        }
}

template <class O> DEV void add_bias(O* out, const O* bias, u32 m, u32 n) {
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (at < (size_t)m * n) put(out + at, widen(out[at]) + widen(bias[at % n]));
}

KERNEL(THREADS) product_real(const real* a, const real* b, const float* addend, const real* bias, real* out, u32 m, u32 n, u32 k,
                             u32 a_transposed, u32 b_transposed) {
    product(a, b, addend, bias, out, m, n, k, a_transposed, b_transposed);
}

KERNEL(THREADS) product_real_to_float(const real* a, const real* b, const float* addend, const float* bias, float* out, u32 m, u32 n,
                                      u32 k, u32 a_transposed, u32 b_transposed) {
    product(a, b, addend, bias, out, m, n, k, a_transposed, b_transposed);
}

KERNEL(THREADS) product_float(const float* a, const float* b, const float* addend, const float* bias, float* out, u32 m, u32 n,
                              u32 k, u32 a_transposed, u32 b_transposed) {
    product(a, b, addend, bias, out, m, n, k, a_transposed, b_transposed);
}

KERNEL(THREADS) product_add_bias_real(real* out, const real* bias, u32 m, u32 n) { add_bias(out, bias, m, n); }

KERNEL(THREADS) product_add_bias_float(float* out, const float* bias, u32 m, u32 n) { add_bias(out, bias, m, n); }
