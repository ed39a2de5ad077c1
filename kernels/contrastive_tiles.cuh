// Tiles of features in shared memory for contrastive.cu, and what threads hold of their products, in two forms: mma on bf16,
// multiply-adds on float.
#pragma once
#include "common.cuh"

#define THREADS 256
#define TILE 64                         // rows and columns of a tile of similarities
#define PIECE (16u / sizeof(real))      // elements moved at once
#define DEPTH (128u / sizeof(real))     // channels of a staged tile: its rows are 128 bytes
#define STAGED (TILE * 128u)            // bytes of a staged tile
#define STAGE (2u * STAGED)             // bytes of a stage: own rows, other rows
#define WIDTH 512                       // channels of a gradient that a block holds in registers
#define CHUNKS (int)(WIDTH * sizeof(real) / 128)
#define MEMBER __device__ __forceinline__ // DEV for a function of a struct, which cannot be static

// Rows are 128 bytes, their eight pieces permuted by the row, so that neither eight rows of one piece nor eight pieces of one row
// meet in a bank.
DEV u32 place(u32 row, u32 piece) { return row * 128 + (piece ^ (row & 7)) * 16; }

struct Features {
    const real* data;
    u32 rows, width;
    bool aligned;
};

// Rows from `first` and channels from `channel`; zeros beyond the matrix. A thread moves the same piece of two rows 32 apart, which
// are permuted alike.
DEV void stage(char* tile, const Features& from, u32 first, u32 channel) {
    u32 row = first + threadIdx.x / 8, at = channel + threadIdx.x % 8 * PIECE;
    const real* source = from.data + (size_t)row * from.width + at;
    char* to = tile + place(threadIdx.x / 8, threadIdx.x % 8);
#pragma unroll
    for (u32 i = 0; i < TILE; i += THREADS / 8) {
        bool inside = row + i < from.rows && at < from.width;
        const real* piece = source + (size_t)i * from.width;
        if (from.aligned) {
            copy_async_16_or_zero(shared_pointer(to + i * 128), piece, inside);
        } else {
            Pack<real, PIECE> values;
#pragma unroll
            for (u32 e = 0; e < PIECE; e++) {
                put(&values.at[e], 0.0f);
                if (inside && at + e < from.width) values.at[e] = piece[e];
            }
            *(Pack<real, PIECE>*)(to + i * 128) = values;
        }
    }
}

DEV Features features(const real* data, u32 batch, u32 width) {
    Features f = {data, batch, width, width % PIECE == 0 && (u64)data % 16 == 0};
    return f;
}

// What a thread holds of a tile of similarities: HELD_ROWS rows, HELD_COLUMNS columns; of a gradient's chunk of DEPTH channels:
// the same rows, HELD_CHANNELS channels. SLOTS threads share a row.
#ifdef REAL_BF16
#define HELD_ROWS 2
#define HELD_COLUMNS 8
#define HELD_CHANNELS 8
#define SLOTS 8
struct Held {
    float at[4][4];
    MEMBER float& of(int i, int j) { return at[j / 2][i * 2 + j % 2]; }
};
// A warp computes 16 rows and 32 columns.
DEV u32 row_of(int i) { return threadIdx.x / 64 * 16 + threadIdx.x % 32 / 4 + 8 * i; }
DEV u32 column_of(int j) { return threadIdx.x / 32 % 2 * 32 + j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2; }
DEV u32 channel_of(int j) { return column_of(j); }
DEV u32 slot() { return threadIdx.x / 32 % 2 * 4 + threadIdx.x % 4; }
typedef Held Chunk;

DEV void add_similarities(Held& sums, const char* own, const char* other) {
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
        u32 a[4], b[4];
        load_matrix_4(a, shared_pointer(own) + place(warp / 2 * 16 + lane % 16, 2 * k + lane / 16));
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            u32 row = warp % 2 * 32 + half * 16 + lane / 16 * 8 + lane % 8;
            load_matrix_4(b, shared_pointer(other) + place(row, 2 * k + lane / 8 % 2));
            mma_16_8_16(sums.at[2 * half], a, b[0], b[1]);
            mma_16_8_16(sums.at[2 * half + 1], a, b[2], b[3]);
        }
    }
}

#define SLOPES (TILE * 128u) // bytes of a tile of G
DEV void put_slopes(char* slopes, int i, const float (&g)[HELD_COLUMNS]) {
    u32 row = row_of(i);
#pragma unroll
    for (int j = 0; j < HELD_COLUMNS; j += 2) {
        u32 column = column_of(j);
        *(u32*)(slopes + place(row, column / 8) + column % 8 * 2) = bf16_pair(g[j], g[j + 1]);
    }
}
// G as the first factor, read once a tile.
struct Slopes {
    u32 at[4][4];
    MEMBER void read(const char* slopes) {
        u32 row = threadIdx.x / 64 * 16 + threadIdx.x % 16;
#pragma unroll
        for (u32 k = 0; k < 4; k++) load_matrix_4(at[k], shared_pointer(slopes) + place(row, 2 * k + threadIdx.x % 32 / 16));
    }
};
DEV void add_gradient(Chunk& sums, const Slopes& slopes, const char* other) {
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            u32 b[4];
            load_matrix_4_transposed(b, shared_pointer(other) + place(k * 16 + lane % 16, warp % 2 * 4 + half * 2 + lane / 16));
            mma_16_8_16(sums.at[2 * half], slopes.at[k], b[0], b[1]);
            mma_16_8_16(sums.at[2 * half + 1], slopes.at[k], b[2], b[3]);
        }
    }
}
#else
#define HELD_ROWS 4
#define HELD_COLUMNS 4
#define HELD_CHANNELS 2
#define SLOTS 16
struct Held {
    float at[4][4];
    MEMBER float& of(int i, int j) { return at[i][j]; }
};
struct Chunk {
    float at[4][2];
    MEMBER float& of(int i, int j) { return at[i][j]; }
};
// Rows and columns 16 apart, so that the threads of a warp read adjacent rows of the tiles.
DEV u32 row_of(int i) { return threadIdx.x / 16 + 16 * i; }
DEV u32 column_of(int j) { return threadIdx.x % 16 + 16 * j; }
DEV u32 channel_of(int j) { return threadIdx.x % 16 * 2 + j; }
DEV u32 slot() { return threadIdx.x % 16; }

DEV void add_similarities(Held& sums, const char* own, const char* other) {
#pragma unroll 2
    for (u32 piece = 0; piece < 8; piece++) {
        Pack<float, 4> a[4], b[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[i] = *(const Pack<float, 4>*)(own + place(row_of(i), piece));
            b[i] = *(const Pack<float, 4>*)(other + place(column_of(i), piece));
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sums.at[i][j] += a[i].at[k] * b[j].at[k];
    }
}

// Rows of G are 256 bytes here.
#define SLOPES (TILE * 256u)
DEV u32 slope_place(u32 row, u32 piece) { return row * 256 + (piece ^ (row & 7)) * 16; }
DEV void put_slopes(char* slopes, int i, const float (&g)[HELD_COLUMNS]) {
    u32 row = row_of(i);
#pragma unroll
    for (int j = 0; j < HELD_COLUMNS; j++) {
        u32 column = column_of(j);
        *(float*)(slopes + slope_place(row, column / 4) + column % 4 * 4) = g[j];
    }
}
struct Slopes {
    const char* tile;
    MEMBER void read(const char* slopes) { tile = slopes; }
};
DEV void add_gradient(Chunk& sums, const Slopes& slopes, const char* other) {
    u32 x = threadIdx.x % 16;
#pragma unroll 2
    for (u32 piece = 0; piece < TILE / 4; piece++) {
        Pack<float, 4> a[4];
#pragma unroll
        for (int i = 0; i < 4; i++) a[i] = *(const Pack<float, 4>*)(slopes.tile + slope_place(row_of(i), piece));
#pragma unroll
        for (int k = 0; k < 4; k++) {
            Pack<float, 2> b = *(const Pack<float, 2>*)(other + place(piece * 4 + k, x / 2) + x % 2 * 8);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 2; j++) sums.at[i][j] += a[i].at[k] * b.at[j];
        }
    }
}
#endif
