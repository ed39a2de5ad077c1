// Products of a warp for attention.cu, on 16 x 16 blocks of scores and on 16 x D sums, in two forms: mma on bf16, multiply-adds on
// float. Element [n][i] of a block lies in row lane / 4 + 8 (i / 2), column 8 n + 2 (lane % 4) + i % 2, as in an mma accumulator. Rows
// in shared memory hold D elements and are padded by WIDE.
#pragma once
#include "common.cuh"

// Elements of 16 bytes; also what a row in shared memory is padded by, so that 8 rows start in different banks.
#define WIDE (16 / (int)sizeof(real))
// Floats of a warp's room for a 16 x 16 block that moves between lanes; bf16 blocks move in registers.
#define ROOM_STRIDE 20
#define ROOM (sizeof(real) == 4 ? 16 * ROOM_STRIDE : 0)

DEV int block_row(int lane, int i) { return lane / 4 + 8 * (i / 2); }
DEV int block_column(int lane, int n, int i) { return 8 * n + 2 * (lane % 4) + i % 2; }

template <int N> DEV void clear(float (&c)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) c[n][i] = 0;
}

#ifdef REAL_BF16
// A left factor of 16 rows of D, in registers where KEEP.
template <int D, bool KEEP> struct Left {
    const real* rows;
    u32 kept[KEEP ? D / 16 : 1][4];
};
template <int D, bool KEEP> DEV void take(Left<D, KEEP>& left, const real* rows, int lane) {
    left.rows = rows + lane % 16 * (D + WIDE) + lane / 16 * 8;
    if (KEEP)
#pragma unroll
        for (int k = 0; k < D / 16; k++) load_matrix_4(left.kept[KEEP ? k : 0], shared_pointer(left.rows + 16 * k));
}

// c += left b^T for 16 rows b of D.
template <int D, bool KEEP> DEV void by_rows(float (&c)[2][4], const Left<D, KEEP>& left, const real* b, int lane) {
    b += (lane % 8 + lane / 16 * 8) * (D + WIDE) + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        u32 x[4], y[4];
        if (KEEP)
            for (int i = 0; i < 4; i++) x[i] = left.kept[KEEP ? k : 0][i];
        else load_matrix_4(x, shared_pointer(left.rows + 16 * k));
        load_matrix_4(y, shared_pointer(b + 16 * k));
        mma_16_8_16(c[0], x, y[0], y[1]);
        mma_16_8_16(c[1], x, y[2], y[3]);
    }
}

// c += x b for a fragment x of 16 x 16 and 16 rows b of D.
template <int D> DEV void add_product(float (&c)[D / 8][4], const u32 (&x)[4], const real* b, int lane) {
    b += lane % 16 * (D + WIDE) + lane / 16 * 8;
#pragma unroll
    for (int n = 0; n < D / 16; n++) {
        u32 y[4];
        load_matrix_4_transposed(y, shared_pointer(b + 16 * n));
        mma_16_8_16(c[2 * n], x, y[0], y[1]);
        mma_16_8_16(c[2 * n + 1], x, y[2], y[3]);
    }
}

// c += p b for a block p and 16 rows b of D.
template <int D> DEV void block_by_rows(float (&c)[D / 8][4], const float (&p)[2][4], const real* b, float*, int lane) {
    u32 x[4] = {bf16_pair(p[0][0], p[0][1]), bf16_pair(p[0][2], p[0][3]), bf16_pair(p[1][0], p[1][1]), bf16_pair(p[1][2], p[1][3])};
    add_product<D>(c, x, b, lane);
}

// c += p b where shared memory holds the transpose of p, with `step` elements from row to row.
template <int D> DEV void transposed_by_rows(float (&c)[D / 8][4], const real* p, int step, const real* b, int lane) {
    u32 x[4];
    load_matrix_4_transposed(x, shared_pointer(p + (lane % 8 + lane / 16 * 8) * step + lane / 8 % 2 * 8));
    add_product<D>(c, x, b, lane);
}

DEV void put_pair(real* to, float x, float y) {
    union {
        u32 bits;
        Pack<real, 2> pair;
    } both;
    both.bits = bf16_pair(x, y);
    *(Pack<real, 2>*)to = both.pair;
}

// Writes a 16 x D sum into rows of shared memory, times `upper` in its first 8 rows and `lower` in the others.
template <int D> DEV void put_sum(real* to, const float (&c)[D / 8][4], float upper, float lower, int lane) {
    to += lane / 4 * (D + WIDE) + 2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        put_pair(to + 8 * n, c[n][0] * upper, c[n][1] * upper);
        put_pair(to + 8 * n + 8 * (D + WIDE), c[n][2] * lower, c[n][3] * lower);
    }
}
#else
typedef Pack<float, 4> Four;

template <int D, bool KEEP> struct Left {
    const real* rows;
};
template <int D, bool KEEP> DEV void take(Left<D, KEEP>& left, const real* rows, int lane) {
    left.rows = rows + lane / 4 * (D + WIDE);
}

DEV float dot(const Four& x, const Four& y, float sum) {
#pragma unroll
    for (int e = 0; e < 4; e++) sum += x.at[e] * y.at[e];
    return sum;
}

template <int D, bool KEEP> DEV void by_rows(float (&c)[2][4], const Left<D, KEEP>& left, const real* b, int lane) {
    b += 2 * (lane % 4) * (D + WIDE);
#pragma unroll 2
    for (int k = 0; k < D; k += 4) {
        Four upper = *(const Four*)(left.rows + k), lower = *(const Four*)(left.rows + 8 * (D + WIDE) + k);
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                Four y = *(const Four*)(b + (8 * n + j) * (D + WIDE) + k);
                c[n][j] = dot(upper, y, c[n][j]);
                c[n][2 + j] = dot(lower, y, c[n][2 + j]);
            }
    }
}

// Sums of D columns hold 4 adjacent columns a lane: columns 16 m + 4 (lane % 4) + e in elements [2 m + e / 2][e % 2] (+ 2 for
// the lower row).
template <int D> DEV void add_outer(float (&c)[D / 8][4], float upper, float lower, const real* b, int lane) {
    b += 4 * (lane % 4);
#pragma unroll
    for (int m = 0; m < D / 16; m++) {
        Four y = *(const Four*)(b + 16 * m);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            c[2 * m + e / 2][e % 2] += upper * y.at[e];
            c[2 * m + e / 2][e % 2 + 2] += lower * y.at[e];
        }
    }
}

template <int D> DEV void block_by_rows(float (&c)[D / 8][4], const float (&p)[2][4], const real* b, float* room, int lane) {
    // The block that was here before has been read.
    __syncwarp();
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) room[block_row(lane, i) * ROOM_STRIDE + block_column(lane, n, i)] = p[n][i];
    __syncwarp();
    const float* x = room + lane / 4 * ROOM_STRIDE;
#pragma unroll
    for (int k = 0; k < 16; k += 4) {
        Four upper = *(const Four*)(x + k), lower = *(const Four*)(x + 8 * ROOM_STRIDE + k);
#pragma unroll
        for (int e = 0; e < 4; e++) add_outer<D>(c, upper.at[e], lower.at[e], b + (k + e) * (D + WIDE), lane);
    }
}

template <int D> DEV void transposed_by_rows(float (&c)[D / 8][4], const real* p, int step, const real* b, int lane) {
#pragma unroll 2
    for (int k = 0; k < 16; k++) {
        const real* x = p + k * step + lane / 4;
        add_outer<D>(c, x[0], x[8], b + k * (D + WIDE), lane);
    }
}

DEV void put_pair(real* to, float x, float y) {
    Pack<real, 2> pair = {{x, y}};
    *(Pack<real, 2>*)to = pair;
}

template <int D> DEV void put_sum(real* to, const float (&c)[D / 8][4], float upper, float lower, int lane) {
    to += lane / 4 * (D + WIDE) + 4 * (lane % 4);
#pragma unroll
    for (int m = 0; m < D / 16; m++) {
        Four first = {{c[2 * m][0] * upper, c[2 * m][1] * upper, c[2 * m + 1][0] * upper, c[2 * m + 1][1] * upper}};
        Four second = {{c[2 * m][2] * lower, c[2 * m][3] * lower, c[2 * m + 1][2] * lower, c[2 * m + 1][3] * lower}};
        *(Four*)(to + 16 * m) = first;
        *(Four*)(to + 16 * m + 8 * (D + WIDE)) = second;
    }
}
#endif
