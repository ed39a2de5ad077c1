// What all kernels share: the compute type `real`, conversions, reductions, the counter-based generator.
//
// A kernel file is compiled twice: with REAL_BF16 (`real` is bf16) and without (`real` is float). Sums are always float.
// Residual streams, statistics, parameters and their gradients are float; what products read and write is `real`.
#pragma once
#include "ptx.cuh"

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
