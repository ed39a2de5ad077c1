// The only file with inline PTX. Under EMU each function has a C++ twin that the emulator runs (tests/emu/emu.h), so that
// every kernel can be compiled for the CPU and tested there.
//
// Fragments of mma.m16n8k16 (bf16 in, f32 accumulation), for lane l: A holds rows l / 4 and l / 4 + 8, columns 2 (l % 4) and
// + 8, two adjacent columns a register, registers in the order (row, column), (row + 8, column), (row, column + 8),
// (row + 8, column + 8); B holds column l / 4, rows 2 (l % 4) and + 8; C and D hold rows l / 4 and l / 4 + 8, columns
// 2 (l % 4) and + 1. Source: PTX ISA, "Matrix Fragments for mma.m16n8k16".
#pragma once
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef EMU
#include "emu.h"
#define DEV static inline
#define KERNEL(...) static void

typedef char* shared_address;
DEV shared_address shared_pointer(const void* p) { return (char*)p; }

DEV u16 bf16_bits(float x) {
    u32 u = __float_as_uint(x);
    return x != x ? 0x7fff : (u16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
DEV u32 bf16_pair(float low, float high) { return bf16_bits(low) | (u32)bf16_bits(high) << 16; }

// 16 bytes from global to shared memory, asynchronously: there once their group is waited for, to others after a barrier, too.
DEV void copy_async_16(shared_address to, const void* from) { emu::copy_async(to, from); }
// As copy_async_16; where `fill` is false, 16 zero bytes are written and `from` is not read: it may lie anywhere.
DEV void copy_async_16_or_zero(shared_address to, const void* from, bool fill) { emu::copy_async(to, fill ? from : nullptr); }
DEV void copy_async_commit() { emu::current->groups++; }
// Waits until at most N committed groups are under way.
template <int N> DEV void copy_async_wait() { emu::copies_arrive(N); }

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
DEV void load_matrix_4(u32 (&r)[4], shared_address row) {
    emu::warp(__LINE__, (u64)row, 0, 0, 0, [&](u64 (*v)[4], unsigned l) {
        for (int i = 0; i < 4; i++) memcpy(&r[i], (char*)v[i * 8 + l / 4][0] + (l % 4) * 4, 4);
    });
}
// As load_matrix_4, each matrix transposed.
DEV void load_matrix_4_transposed(u32 (&r)[4], shared_address row) {
    emu::warp(__LINE__, (u64)row, 0, 0, 0, [&](u64 (*v)[4], unsigned l) {
        for (int i = 0; i < 4; i++) {
            u16 low, high;
            memcpy(&low, (char*)v[i * 8 + (l % 4) * 2][0] + (l / 4) * 2, 2);
            memcpy(&high, (char*)v[i * 8 + (l % 4) * 2 + 1][0] + (l / 4) * 2, 2);
            r[i] = low | (u32)high << 16;
        }
    });
}
// d += a b.
DEV void mma_16_8_16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    emu::warp(__LINE__, a[0] | (u64)a[1] << 32, a[2] | (u64)a[3] << 32, b0 | (u64)b1 << 32, 0, [&](u64 (*v)[4], unsigned l) {
        auto half = [](u64 w, int i) { return __uint_as_float((u32)(u16)(w >> (16 * i)) << 16); };
        for (int i = 0; i < 4; i++) {
            int row = l / 4 + 8 * (i / 2), column = (l % 4) * 2 + i % 2;
            float sum = 0;
            for (int k = 0; k < 16; k++) {
                int reg = row / 8 + 2 * (k / 8);
                float x = half(v[(row % 8) * 4 + (k % 8) / 2][reg / 2], (reg % 2) * 2 + k % 2);
                sum += x * half(v[column * 4 + (k % 8) / 2][2], (k / 8) * 2 + k % 2);
            }
            d[i] += sum;
        }
    });
}
// 2^x to about two units in the last place, 0 where it would be subnormal.
#ifdef EMU_NOISE
// Up to two units in the last place off, by the bits of the argument: no better than the units of any GPU.
DEV float off(float x, float y) {
    int by = (int)(__float_as_uint(x) * 2654435761u >> 16) % 5 - 2;
    bool is_normal = fabsf(y) >= 1.17549435e-38f && fabsf(y) < 3.0e38f;
    return is_normal ? __uint_as_float(__float_as_uint(y) + (u32)by) : y;
}
#else
DEV float off(float, float y) { return y; }
#endif
DEV float exp2_fast(float x) { return off(x, exp2f(x)); }
// 1 / x to one unit in the last place, 0 where that would be subnormal.
DEV float reciprocal_fast(float x) { return off(x, 1.0f / x); }
#else
#define DEV __device__ __forceinline__
// Most threads of a block and, if wanted, the blocks that must fit a multiprocessor.
#define KERNEL(...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__)
#define DYN_SHARED(T, name) extern __shared__ __align__(16) char name##_bytes[]; T* name = (T*)name##_bytes

typedef u32 shared_address;
DEV shared_address shared_pointer(const void* p) { return (u32)__cvta_generic_to_shared(p); }

DEV u32 bf16_pair(float low, float high) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
DEV u16 bf16_bits(float x) { return (u16)bf16_pair(x, 0.0f); }

DEV void copy_async_16(shared_address to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from));
}
DEV void copy_async_16_or_zero(shared_address to, const void* from, bool fill) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(fill ? 16 : 0));
}
DEV void copy_async_commit() { asm volatile("cp.async.commit_group;"); }
template <int N> DEV void copy_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

DEV void load_matrix_4(u32 (&r)[4], shared_address row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
}
DEV void load_matrix_4_transposed(u32 (&r)[4], shared_address row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
}
DEV void mma_16_8_16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEV float exp2_fast(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
DEV float reciprocal_fast(float x) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
#endif
