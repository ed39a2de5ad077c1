// What all kernels share: the compute type `real`, conversions, reductions, the counter-based generator.
//
// A kernel file is compiled twice: with REAL_BF16 (`real` is bf16) and without (`real` is float). Sums are always float.
// Residual streams, statistics, parameters and their gradients are float; what products read and write is `real`.
#pragma once
#include "ptx.cuh"

#define LOG2E 1.44269504f

struct bf16 {
    u16 bits;
};
#ifdef REAL_BF16
typedef bf16 real;
#else
typedef float real;
#endif

DEV float widen(float x) { return x; }
DEV float widen(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
DEV void put(float* to, float x) { *to = x; }
DEV void put(bf16* to, float x) { to->bits = bf16_bits(x); }

// N consecutive elements, moved as one load or store of up to 16 bytes. The address must be a multiple of their size.
template <class T, int N> struct __align__(sizeof(T) * N) Pack {
    T at[N];
};
template <int N, class T> DEV void load_pack(float (&to)[N], const T* from) {
    Pack<T, N> pack = *(const Pack<T, N>*)from;
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = widen(pack.at[i]);
}
template <int N, class T> DEV void store_pack(T* to, const float (&from)[N]) {
    Pack<T, N> pack;
#pragma unroll
    for (int i = 0; i < N; i++) put(&pack.at[i], from[i]);
    *(Pack<T, N>*)to = pack;
}

// Sum over the 32 lanes of a warp by a fixed tree; every lane gets it.
DEV float warp_sum(float x) {
    for (int m = 16; m; m >>= 1) x += __shfl_xor_sync(0xffffffffu, x, m);
    return x;
}
DEV float warp_max(float x) {
    for (int m = 16; m; m >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, m));
    return x;
}
// Sum over a block whose size is a multiple of 32, up to 1024, in a fixed order; every thread gets it. `room` holds 32 floats
// of shared memory and may be used again after the next __syncthreads().
DEV float block_sum(float x, float* room) {
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) sum += room[w];
    return sum;
}

// How a block sums rows column by column: `lanes` threads side by side take N adjacent columns each, from `column` on, and
// each such group of threads takes every `groups`-th row. The size of the block is a power of two.
struct ColumnTile {
    u32 lanes, lane, groups, group, column;
};
template <int N> DEV ColumnTile tile_of(u32 width, u32 tile, u32 most_lanes) {
    u32 lanes = 1;
    while (lanes < most_lanes && lanes * N < width) lanes *= 2;
    ColumnTile t = {lanes, threadIdx.x % lanes, blockDim.x / lanes, threadIdx.x / lanes, (tile * lanes + threadIdx.x % lanes) * N};
    return t;
}
// Adds the sums of all groups, in order, to those of group 0. `room` holds N floats a thread.
template <int N> DEV void sum_groups(float (&sum)[N], const ColumnTile& tile, float* room) {
    if (tile.groups == 1) return;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++) room[i * blockDim.x + threadIdx.x] = sum[i];
    __syncthreads();
    if (tile.group) return;
    for (u32 g = 1; g < tile.groups; g++)
#pragma unroll
        for (int i = 0; i < N; i++) sum[i] += room[i * blockDim.x + g * tile.lanes + tile.lane];
}

// Second stage of sums that blocks have made: element `i` of parts[0] + parts[1] + .., each `len` long, where `groups` groups
// of threads take every `groups`-th part (`launch::PartSums` in Rust). True in the threads that hold a sum.
#define PART_THREADS 512
DEV bool sum_parts(const float* parts, u32 num, u32 len, u32 groups, u32& i, float& sum) {
    __shared__ float room[PART_THREADS];
    u32 lanes = PART_THREADS / groups, lane = threadIdx.x % lanes, group = threadIdx.x / lanes;
    i = blockIdx.x * lanes + lane;
    sum = 0;
    if (i < len) {
#pragma unroll 8
        for (u32 p = group; p < num; p += groups) sum += parts[(size_t)p * len + i];
    }
    room[threadIdx.x] = sum;
    __syncthreads();
    if (group || i >= len) return false;
    for (u32 g = 1; g < groups; g++) sum += room[g * lanes + lane];
    return true;
}

// One block of Philox4x32-10: the same integers as `data::philox` in Rust. Salmon et al., SC 2011.
struct Words {
    u32 at[4];
};
DEV Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
    for (int round = 0; round < 10; round++) {
        u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
        u32 next0 = (u32)(p1 >> 32) ^ c1 ^ k0, next2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c1 = (u32)p1;
        c3 = (u32)p0;
        c0 = next0;
        c2 = next2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    Words words = {{c0, c1, c2, c3}};
    return words;
}

// Scalars of a training step, as `ops::flat` names them in Rust: `controls` is written by the host before a step, `report` by
// the step. Once `report[REPORT_UNFIT]` is not 0, no kernel changes parameters or optimiser state any more.
enum { CONTROL_LR, CONTROL_KEEP, CONTROL_UNBIAS1, CONTROL_UNBIAS2, CONTROL_DECAY, CONTROL_STEP };
enum {
    REPORT_LOSS, REPORT_LOGIT_SCALE, REPORT_GRAD_NORM, REPORT_CLIP, REPORT_UNFIT, REPORT_UNFIT_STEP, REPORT_UNFIT_LOSS, REPORT_UNFIT_NORM
};

// A stretch of one parameter that a block of an optimiser updates: place in the flat buffers, floats, whether weight decay
// applies, place of its state in the second moment. Both places are multiples of 4 floats.
struct __align__(16) Piece {
    u32 offset, len, decays, second;
};
// `count` adjacent elements, at most 4: one access where there are 4 (then the address must be a multiple of their size); those
// that are not there are read as 0.
DEV Pack<float, 4> load_some(const float* from, u32 count) {
    if (count >= 4) return *(const Pack<float, 4>*)from;
    Pack<float, 4> x = {{0.0f, 0.0f, 0.0f, 0.0f}};
#pragma unroll
    for (u32 i = 0; i < 3; i++)
        if (i < count) x.at[i] = from[i];
    return x;
}
template <class T> DEV void store_some(T* to, const Pack<T, 4>& x, u32 count) {
    if (count >= 4) {
        *(Pack<T, 4>*)to = x;
        return;
    }
#pragma unroll
    for (u32 i = 0; i < 3; i++)
        if (i < count) to[i] = x.at[i];
}
