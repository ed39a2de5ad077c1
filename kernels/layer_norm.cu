// Layer norm over rows of width C up to 2048.
//   forward     y = h gain + bias with h = (x - mean) rstd, mean the row's, rstd = 1 / sqrt(biased variance + eps)
//   backward    with g = dy gain: dx = rstd (g - mean(g) - h mean(g h)); dgain = sum over rows of dy h, dbias = sum of dy
// Arguments: x float, row r of the norm is its row r stride + ends[r] (ends u32[rows], or null for 0); gain, bias float[C]; y
// float or real[rows, C] (y_is_real); mean, rstd float[rows]. backward: grad_y float or real (grad_is_real), its row is r / share
// and counts 1 / share (the gradient of a mean over `share` tokens); grad_x float, rows placed as in x; grad_x_real real[.., C]
// or null: a copy of the rows of grad_x that were written, placed alike; normed real[rows, C] or null: y again, for the weight
// gradient that follows (only then is bias read); parts float[blocks, 2, C]: what each block adds to dgain and dbias.
// Decomposition: blocks of 128 threads. A row is handled by a warp or by the whole block; a thread holds 4 adjacent columns, K
// times, in registers, so that x is read once and the variance is summed from differences (two passes). In backward a fixed
// number of blocks goes over the rows and adds to dgain and dbias in registers; columns_sum adds the blocks up.
// Accumulation in float, sums by fixed trees. `pack` is 4 where rows may be read 16 bytes at a time (8 of bf16), else 1.
// Gradient convention: grad_x is added to or overwritten (`add_x`), gain and bias likewise (`add`). grad_y and grad_x may be the
// same memory where share is 1 and grad_y lies as x does.
// CPU reference: src/trainer/ops/layer_norm/cpu.rs. Test: src/trainer/check/layer_norm.rs. Source: Ba, Kiros and Hinton 2016.
#include "common.cuh"

#define THREADS 128
#define WARPS (THREADS / 32)

// 4 elements of a row from `column` on, zeros beyond its end.
template <bool PACKED, class T> DEV void load_four(float (&to)[4], const T* row, u32 column, u32 width) {
    if (PACKED && column < width) load_pack<4>(to, row + column);
    else {
#pragma unroll
        for (u32 i = 0; i < 4; i++) to[i] = !PACKED && column + i < width ? widen(row[column + i]) : 0.0f;
    }
}
template <bool PACKED, class T> DEV void store_four(T* row, const float (&from)[4], u32 column, u32 width) {
    if constexpr (PACKED) {
        if (column < width) store_pack<4>(row + column, from);
    } else {
#pragma unroll
        for (u32 i = 0; i < 4; i++)
            if (column + i < width) put(row + column + i, from[i]);
    }
}

// The columns of thread `lane` of the W warps that share a row: from (k 32 W + lane) 4 on.
template <int W> DEV u32 column_of(int k, u32 lane) { return (k * 32 * W + lane) * 4; }

template <int W, int K, bool PACKED, class T> DEV void load_row(float (&to)[K][4], const T* row, u32 width, u32 lane) {
#pragma unroll
    for (int k = 0; k < K; k++) load_four<PACKED>(to[k], row, column_of<W>(k, lane), width);
}

// Both the forward pass and its repetition round exactly so.
DEV float normal(float x, float mean, float rstd) { return __fmul_rn(__fsub_rn(x, mean), rstd); }
DEV float affine(float h, float gain, float bias) { return fmaf(h, gain, bias); }

template <int W> DEV float row_sum(float x, float* room) {
    if constexpr (W == 1) return warp_sum(x);
    else return block_sum(x, room);
}

template <int W, int K, bool PACKED>
DEV void forward(const float* x, const u32* ends, u32 stride, const float* gain, const float* bias, void* y, bool y_is_real,
                 float* mean,
                 float* rstd, u32 rows, u32 width, float eps) {
    __shared__ float room[2][32];
    u32 lane = threadIdx.x % (32 * W), row = blockIdx.x * (WARPS / W) + threadIdx.x / (32 * W);
    if (row >= rows) return;
    float v[K][4], sum = 0, squares = 0;
    load_row<W, K, PACKED>(v, x + ((size_t)row * stride + (ends ? ends[row] : 0)) * width, width, lane);
#pragma unroll
    for (int k = 0; k < K; k++)
        for (int i = 0; i < 4; i++) sum += v[k][i];
    float m = row_sum<W>(sum, room[0]) / (float)width;
#pragma unroll
    for (int k = 0; k < K; k++)
        for (int i = 0; i < 4; i++) {
            float d = column_of<W>(k, lane) + i < width ? v[k][i] - m : 0.0f;
            squares += d * d;
        }
    float r = rsqrtf(row_sum<W>(squares, room[1]) / (float)width + eps);
    if (lane == 0) {
        mean[row] = m;
        rstd[row] = r;
    }
#pragma unroll
    for (int k = 0; k < K; k++) {
        u32 column = column_of<W>(k, lane);
        float g[4], b[4];
        load_four<PACKED>(g, gain, column, width);
        load_four<PACKED>(b, bias, column, width);
        for (int i = 0; i < 4; i++) v[k][i] = affine(normal(v[k][i], m, r), g[i], b[i]);
        if (y_is_real) store_four<PACKED>((real*)y + (size_t)row * width, v[k], column, width);
        else store_four<PACKED>((float*)y + (size_t)row * width, v[k], column, width);
    }
}

#define FORWARD_ARGUMENTS                                                                                                          \
    const float* __restrict__ x, const u32* __restrict__ ends, u32 stride, const float* __restrict__ gain,                         \
        const float* __restrict__ bias, void* __restrict__ y, u32 y_is_real, float* __restrict__ mean, float* __restrict__ rstd,   \
        u32 rows, u32 width, float eps, u32 pack
#define FORWARD(W, K)                                                                                                              \
    if (pack == 4) forward<W, K, true>(x, ends, stride, gain, bias, y, y_is_real, mean, rstd, rows, width, eps);                   \
    else forward<W, K, false>(x, ends, stride, gain, bias, y, y_is_real, mean, rstd, rows, width, eps)

// A warp a row, C up to 256, 512, 1024; a block a row, C up to 2048.
KERNEL(THREADS) layer_norm_forward_256(FORWARD_ARGUMENTS) { FORWARD(1, 2); }
KERNEL(THREADS) layer_norm_forward_512(FORWARD_ARGUMENTS) { FORWARD(1, 4); }
KERNEL(THREADS) layer_norm_forward_1024(FORWARD_ARGUMENTS) { FORWARD(1, 8); }
KERNEL(THREADS) layer_norm_forward_2048(FORWARD_ARGUMENTS) { FORWARD(WARPS, 4); }

// The sums over the W warps of a row of both numbers. One barrier is enough where calls alternate between two rooms.
template <int W> DEV void row_sums(float& a, float& b, float (*room)[WARPS]) {
    a = warp_sum(a);
    b = warp_sum(b);
    if constexpr (W > 1) {
        if (threadIdx.x % 32 == 0) {
            room[0][threadIdx.x / 32] = a;
            room[1][threadIdx.x / 32] = b;
        }
        __syncthreads();
        a = b = 0;
        for (int w = 0; w < WARPS; w++) {
            a += room[0][w];
            b += room[1][w];
        }
    }
}

// Adds the sums of the block's rows of threads, of which each went over rows of its own, and writes them to the block's part.
template <int W, int K, bool PACKED> DEV void write_part(const float (&sum)[K][4], float* part, u32 width, u32 lane, float* room) {
    if constexpr (W == WARPS) {
#pragma unroll
        for (int k = 0; k < K; k++) store_four<PACKED>(part, sum[k], column_of<W>(k, lane), width);
    } else {
        const u32 columns = K * 128 * W;
        __syncthreads();
#pragma unroll
        for (int k = 0; k < K; k++) store_pack<4>(room + threadIdx.x / (32 * W) * columns + column_of<W>(k, lane), sum[k]);
        __syncthreads();
        for (u32 column = threadIdx.x; column < width; column += THREADS) {
            float total = 0;
            for (u32 group = 0; group < WARPS / W; group++) total += room[group * columns + column];
            part[column] = total;
        }
    }
}

struct Backward {
    const float* x;
    const u32* ends;
    u32 stride;
    const void* grad_y;
    bool grad_is_real;
    u32 share;
    const float *gain, *bias, *mean, *rstd;
    float* grad_x;
    bool add_x;
    real *grad_x_real, *normed;
    float* parts;
    u32 rows, width;
};

template <int W, int K, bool PACKED> DEV void backward(const Backward& p) {
    __shared__ float sums_room[2][2][WARPS];
    __shared__ __align__(16) float columns_room[W == WARPS ? 4 : (WARPS / W) * K * 128 * W];
    const u32 lane = threadIdx.x % (32 * W), step = WARPS / W, width = p.width;
    float gain[K][4], gain_sum[K][4] = {}, bias_sum[K][4] = {}, weight = 1.0f / (float)p.share;
    load_row<W, K, PACKED>(gain, p.gain, width, lane);
    int turn = 0;
    for (u32 row = blockIdx.x * step + threadIdx.x / (32 * W); row < p.rows; row += gridDim.x * step, turn ^= 1) {
        size_t place = ((size_t)row * p.stride + (p.ends ? p.ends[row] : 0)) * width, grad_place = (size_t)(row / p.share) * width;
        float h[K][4], dy[K][4], old[K][4] = {}, mean = p.mean[row], rstd = p.rstd[row], sum = 0, sum_h = 0;
        load_row<W, K, PACKED>(h, p.x + place, width, lane);
        if (p.grad_is_real) load_row<W, K, PACKED>(dy, (const real*)p.grad_y + grad_place, width, lane);
        else load_row<W, K, PACKED>(dy, (const float*)p.grad_y + grad_place, width, lane);
        if (p.add_x) load_row<W, K, PACKED>(old, p.grad_x + place, width, lane);
#pragma unroll
        for (int k = 0; k < K; k++)
            for (int i = 0; i < 4; i++) {
                // Beyond the row's end dy and gain are 0, so whatever h is there counts for nothing.
                float d = dy[k][i] * weight, g = d * gain[k][i];
                h[k][i] = normal(h[k][i], mean, rstd);
                gain_sum[k][i] += d * h[k][i];
                bias_sum[k][i] += d;
                sum += g;
                sum_h += g * h[k][i];
                dy[k][i] = g;
            }
        row_sums<W>(sum, sum_h, sums_room[turn]);
        sum /= (float)width;
        sum_h /= (float)width;
#pragma unroll
        for (int k = 0; k < K; k++) {
            u32 column = column_of<W>(k, lane);
            float dx[4];
            for (int i = 0; i < 4; i++) dx[i] = old[k][i] + rstd * (dy[k][i] - sum - h[k][i] * sum_h);
            store_four<PACKED>(p.grad_x + place, dx, column, width);
            if (p.grad_x_real) store_four<PACKED>(p.grad_x_real + place, dx, column, width);
            if (p.normed) {
                float b[4];
                load_four<PACKED>(b, p.bias, column, width);
                for (int i = 0; i < 4; i++) b[i] = affine(h[k][i], gain[k][i], b[i]);
                store_four<PACKED>(p.normed + (size_t)row * width, b, column, width);
            }
        }
    }
    float* part = p.parts + (size_t)blockIdx.x * 2 * width;
    write_part<W, K, PACKED>(gain_sum, part, width, lane, columns_room);
    write_part<W, K, PACKED>(bias_sum, part + width, width, lane, columns_room);
}

#define BACKWARD_ARGUMENTS                                                                                                         \
    const float* __restrict__ x, const u32* __restrict__ ends, u32 stride, const void* grad_y, u32 grad_is_real, u32 share,        \
        const float* __restrict__ gain, const float* __restrict__ bias, const float* __restrict__ mean,                            \
        const float* __restrict__ rstd, float* grad_x, u32 add_x, real* __restrict__ grad_x_real, real* __restrict__ normed,       \
        float* __restrict__ parts, u32 rows, u32 width, u32 pack
#define BACKWARD(W, K)                                                                                                             \
    Backward p = {x, ends, stride, grad_y, grad_is_real != 0, share, gain, bias, mean, rstd, grad_x, add_x != 0, grad_x_real,      \
                  normed, parts, rows, width};                                                                                     \
    if (pack == 4) backward<W, K, true>(p);                                                                                        \
    else backward<W, K, false>(p)

// A warp a row, C up to 256; a block a row, C up to 1024, 2048.
KERNEL(THREADS) layer_norm_backward_256(BACKWARD_ARGUMENTS) { BACKWARD(1, 2); }
KERNEL(THREADS) layer_norm_backward_1024(BACKWARD_ARGUMENTS) { BACKWARD(WARPS, 2); }
KERNEL(THREADS) layer_norm_backward_2048(BACKWARD_ARGUMENTS) { BACKWARD(WARPS, 4); }

// The parts of all blocks: `len` is 2 C, gain first.
KERNEL(PART_THREADS) layer_norm_columns_sum(const float* __restrict__ parts, u32 num, u32 len, u32 groups,
                                            float* __restrict__ grad_gain, float* __restrict__ grad_bias, u32 add) {
    u32 i, width = len / 2;
    float sum;
    if (!sum_parts(parts, num, len, groups, i, sum)) return;
    float* to = i < width ? grad_gain + i : grad_bias + (i - width);
    *to = add ? *to + sum : sum;
}
