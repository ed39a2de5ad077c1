// Casts, sums, column sums, the global gradient norm with its clip factor, the clamp of the logit scale.
//   cast          y = x
//   sum           z = x + y, or x alone
//   column sums   sums[j] (+)= sum over rows of x[row, j]
//   global norm   n = sqrt(sum of g^2); clip = limit / n where n > limit, else 1; unfit where the loss or n is not finite
//   clamp         p = min(max(p, 0), limit), unless unfit; a NaN stays
// Arguments: x, y float or real[len], z float[len] and z_real real[len], one of them or both; x float or real[rows, columns], sums float[columns], partial float[chunks, columns]; grad float[len], squares
// double[blocks]; controls, report float[8] (common.cuh). Any alignment of an element; 16-byte accesses where all fit.
// Decomposition: cast, sum: 8 elements a thread. Column sums: a block takes a chunk of rows of `lanes` x N columns, `lanes` threads
// side by side in a row; the chunks are then merged by blocks of 32 columns. Norm: blocks take every gridDim-th stretch of 4096
// elements; one block merges them. Accumulation: column sums in float, chunk by chunk; squares in float over 16 elements, then
// in double. Fixed trees, so the same bytes for the same shape.
// Gradient convention: a sum may be written where x or y is. Column sums are gradients of biases, added where `add` is 1 and written where it is 0.
// CPU reference: src/trainer/ops/elementwise, src/trainer/optim (norm and clip). Test: src/trainer/check/elementwise.rs. Source: own.
#include "common.cuh"

DEV bool is_aligned(const void* p, size_t bytes) { return (size_t)p % bytes == 0; }
DEV bool is_finite(float x) { return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u; }

// Blocks of 2048 elements.
KERNEL(256) cast(const float* __restrict__ x, real* __restrict__ y, u32 len) {
    bool wide = is_aligned(x, 16) && is_aligned(y, 4 * sizeof(real));
#pragma unroll
    for (int half = 0; half < 2; half++) {
        size_t first = (size_t)blockIdx.x * 2048 + half * 1024 + threadIdx.x * 4;
        if (wide && first + 4 <= len) {
            Pack<float, 4> xs = *(const Pack<float, 4>*)(x + first);
            Pack<real, 4> ys;
#pragma unroll
            for (int i = 0; i < 4; i++) put(&ys.at[i], xs.at[i]);
            *(Pack<real, 4>*)(y + first) = ys;
        } else {
            for (size_t i = first; i < len && i < first + 4; i++) put(y + i, x[i]);
        }
    }
}

DEV float either(const void* x, u32 is_real, size_t i) { return is_real ? widen(((const real*)x)[i]) : ((const float*)x)[i]; }

// Blocks of 2048 elements, each read and then written by one thread: z may be x or y.
KERNEL(256) sum(const void* x, u32 x_is_real, const void* y, u32 y_is_real, float* z, real* z_real, u32 len) {
#pragma unroll
    for (int k = 0; k < 8; k++) {
        size_t i = (size_t)blockIdx.x * 2048 + k * 256 + threadIdx.x;
        if (i >= len) return;
        float value = either(x, x_is_real, i);
        if (y) value += either(y, y_is_real, i);
        if (z) z[i] = value;
        if (z_real) put(z_real + i, value);
    }
}

// Sums of rows blockIdx.y * chunk and on, N adjacent columns a thread.
template <class T, int N>
DEV void sum_columns(const T* __restrict__ x, float* __restrict__ out, u32 rows, u32 columns, u32 chunk, u32 lanes, int add) {
    __shared__ float room[256 * N];
    u32 lane = threadIdx.x % lanes, group = threadIdx.x / lanes, groups = 256 / lanes;
    size_t column = ((size_t)blockIdx.x * lanes + lane) * N;
    size_t end = min((size_t)rows, ((size_t)blockIdx.y + 1) * chunk);
    float sums[N] = {};
    if (column < columns) {
        size_t row = (size_t)blockIdx.y * chunk + group;
        // Four rows at once, so that their loads are under way together.
        for (; row + 3 * groups < end; row += 4 * groups) {
            Pack<T, N> values[4];
#pragma unroll
            for (int k = 0; k < 4; k++) values[k] = *(const Pack<T, N>*)(x + (row + k * groups) * columns + column);
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
                for (int i = 0; i < N; i++) sums[i] += widen(values[k].at[i]);
        }
        for (; row < end; row += groups) {
            Pack<T, N> values = *(const Pack<T, N>*)(x + row * columns + column);
#pragma unroll
            for (int i = 0; i < N; i++) sums[i] += widen(values.at[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < N; i++) room[i * 256 + threadIdx.x] = sums[i];
    __syncthreads();
    // Thread i * lanes + lane now owns element i of that lane: neighbours read neighbouring banks.
    u32 i = threadIdx.x / lanes;
    if (i >= N || column + i >= columns) return;
    float sum = 0;
    for (u32 g = 0; g < groups; g++) sum += room[i * 256 + g * lanes + lane];
    size_t at = (size_t)blockIdx.y * columns + column + i;
    out[at] = add ? out[at] + sum : sum;
}

KERNEL(256)
column_sums_real_wide(const real* __restrict__ x, float* __restrict__ out, u32 rows, u32 columns, u32 chunk, u32 lanes, int add) {
    sum_columns<real, 16 / sizeof(real)>(x, out, rows, columns, chunk, lanes, add);
}
KERNEL(256)
column_sums_real(const real* __restrict__ x, float* __restrict__ out, u32 rows, u32 columns, u32 chunk, u32 lanes, int add) {
    sum_columns<real, 1>(x, out, rows, columns, chunk, lanes, add);
}
KERNEL(256)
column_sums_float_wide(const float* __restrict__ x, float* __restrict__ out, u32 rows, u32 columns, u32 chunk, u32 lanes, int add) {
    sum_columns<float, 4>(x, out, rows, columns, chunk, lanes, add);
}
KERNEL(256)
column_sums_float(const float* __restrict__ x, float* __restrict__ out, u32 rows, u32 columns, u32 chunk, u32 lanes, int add) {
    sum_columns<float, 1>(x, out, rows, columns, chunk, lanes, add);
}

// sums[j] (+)= sum over chunks of partial[chunk, j]: 32 columns a block, every 16th chunk a warp.
KERNEL(512)
column_sums_merge(const float* __restrict__ partial, float* __restrict__ sums, u32 chunks, u32 columns, int add) {
    __shared__ float room[16][32];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    size_t column = (size_t)blockIdx.x * 32 + lane;
    float sum = 0;
    if (column < columns) {
#pragma unroll 8
        for (u32 chunk = warp; chunk < chunks; chunk += 16) sum += partial[(size_t)chunk * columns + column];
    }
    room[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || column >= columns) return;
    sum = 0;
    for (int w = 0; w < 16; w++) sum += room[w][lane];
    sums[column] = add ? sums[column] + sum : sum;
}

// Sum over a block of 256 threads; thread 0 gets it.
DEV double block_sum_of_doubles(double x) {
    __shared__ double room[8];
    for (int m = 16; m; m >>= 1) x += __shfl_xor_sync(0xffffffffu, x, m);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    double sum = 0;
    for (int w = 0; w < 8; w++) sum += room[w];
    return sum;
}

KERNEL(256) squares_of_stretches(const float* __restrict__ grad, double* __restrict__ squares, u32 len) {
    bool wide = is_aligned(grad, 16);
    double total = 0;
    for (size_t stretch = (size_t)blockIdx.x * 4096; stretch < len; stretch += (size_t)gridDim.x * 4096) {
        float sum = 0;
        if (wide && stretch + 4096 <= len) {
            Pack<float, 4> g[4];
#pragma unroll
            for (int k = 0; k < 4; k++) g[k] = *(const Pack<float, 4>*)(grad + stretch + k * 1024 + threadIdx.x * 4);
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
                for (int i = 0; i < 4; i++) sum = fmaf(g[k].at[i], g[k].at[i], sum);
        } else {
            for (size_t at = stretch + threadIdx.x; at < len && at < stretch + 4096; at += 256) sum = fmaf(grad[at], grad[at], sum);
        }
        total += sum;
    }
    total = block_sum_of_doubles(total);
    if (threadIdx.x == 0) squares[blockIdx.x] = total;
}

// One block: the norm, its clip factor (`limit` is infinite where nothing is clipped) and whether the step is fit.
KERNEL(256)
norm_report(const double* __restrict__ squares, const float* __restrict__ controls, float* __restrict__ report, u32 count, float limit) {
    double total = 0;
    for (u32 i = threadIdx.x; i < count; i += 256) total += squares[i];
    total = block_sum_of_doubles(total);
    if (threadIdx.x > 0) return;
    double norm = sqrt(total);
    float loss = report[REPORT_LOSS], shown = (float)norm;
    report[REPORT_GRAD_NORM] = shown;
    report[REPORT_CLIP] = norm > limit ? (float)(limit / norm) : 1.0f;
    if (report[REPORT_UNFIT] != 0.0f || (is_finite(loss) && is_finite(shown))) return;
    report[REPORT_UNFIT] = 1.0f;
    report[REPORT_UNFIT_STEP] = controls[CONTROL_STEP];
    report[REPORT_UNFIT_LOSS] = loss;
    report[REPORT_UNFIT_NORM] = shown;
}

KERNEL(32) clamp_logit_scale(float* __restrict__ param, const float* __restrict__ report, float limit) {
    if (threadIdx.x > 0 || report[REPORT_UNFIT] != 0.0f) return;
    float value = *param;
    if (value < 0.0f) *param = 0.0f;
    if (value > limit) *param = limit;
}
