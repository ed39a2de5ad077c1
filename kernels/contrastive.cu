// Contrastive losses of a batch of pairs, with all gradients, and no B x B matrix beyond a slab.
//   similarity  c_ij = <image_i, text_j>, s = exp(log_scale)
//   softmax     loss = sum_i (lse_j(s c_ij) - s c_ii + lse_j(s c_ji) - s c_ii) / 2B
//               G = softmax of the row + softmax of the column - 2 I
//   sigmoid     loss = sum_ij softplus(-z_ij (s c_ij + bias)) / B, z = 1 for a pair, else -1
//               G = -z sigmoid(-z (s c + bias))
//   weight w = s / 2B (softmax) or s / B (sigmoid):
//   d image = w G text, d text = w G^T image, d log_scale = w sum(G c), d bias = sum(G) / B
// Arguments: image, text real[B, E]; log_scale, bias, loss, logit_scale, grad_log_scale, grad_bias float[1]; gradients of features
// float[B, E]; the others are scratch, explained at each kernel. A log-sum-exp is kept as two floats, the greatest logit and the
// logarithm of the sum relative to it, both in units of ln 2, so that a probability near 1 keeps its digits however large logits
// are; while a sum runs, the second is the sum itself.
// Decomposition, in two schedules:
//   fused   contrastive_lse (softmax), contrastive_merge, contrastive_{softmax,sigmoid}, contrastive_sum, contrastive_finish.
//           A block holds a band of 64 rows of one side against a share of the columns, 64 at a time; tiles of similarities are
//           made anew in each pass: 6 products' arithmetic for softmax, 4 for sigmoid.
//   slabs   products of the library make R rows of similarities; contrastive_slab_lse reads them once for rows and columns,
//           contrastive_slab_{softmax,sigmoid} turn them into w G, which two more products take to the gradients.
// Accumulation: similarities and gradients in float (bf16: tensor cores; f32: one multiply-add after another), G is rounded to
// `real` before the second product; scalars in float over a few values, in double beyond. All orders are fixed.
// Gradient convention: every gradient is overwritten.
// Rows of features are read 16 bytes at a time where E and the addresses allow, else element by element.
// CPU reference: src/trainer/ops/contrastive (mod.rs softmax, sigmoid.rs). Test: src/trainer/check/contrastive.rs. Source: Radford et al.
// 2021, figure 3; Zhai et al. 2023, "Sigmoid loss for language image pre-training", equation 1; online sums: Milakov and
// Gimelshein 2018; recomputed tiles as in Dao et al. 2022.
#include "contrastive_tiles.cuh"

#define LOWEST (-3e38f)
#define LN2 0.69314718f

// ---- Log-sum-exp in two parts -----------------------------------------------------------------------------------------------

// (greatest, sum of powers relative to it) of two sets.
DEV float2 join(float2 a, float2 b) {
    float top = fmaxf(a.x, b.x);
    return make_float2(top, a.y * exp2_fast(a.x - top) + b.y * exp2_fast(b.x - top));
}
// 2^(factor similarity) over the whole sum.
DEV float probability(float similarity, float factor, float2 lse) { return exp2_fast(fmaf(similarity, factor, -lse.x) - lse.y); }

// Takes similarities into a running sum; those that `counts` does not name only where not all do. The factor is positive, so the
// greatest similarity is that of the greatest logit, to the bit.
template <bool ALL, int N>
DEV void include(float2& running, const float (&similarity)[N], const bool (&counts)[N], float factor) {
    float top = LOWEST;
#pragma unroll
    for (int j = 0; j < N; j++)
        if (ALL || counts[j]) top = fmaxf(top, similarity[j]);
    top = fmaxf(top * factor, running.x);
    float sum = 0;
#pragma unroll
    for (int j = 0; j < N; j++) sum += ALL || counts[j] ? exp2_fast(fmaf(similarity[j], factor, -top)) : 0.0f;
    running = make_float2(top, running.y * exp2_fast(running.x - top) + sum);
}

// ---- G, and what is summed over it ------------------------------------------------------------------------------------------

struct Sums {
    float loss, along, slope;
};
struct Totals {
    double at[3];
};

// softplus(x) and its slope. log(1 + e) = 2 artanh(e / (2 + e)): a series in at most 1/9, exact to 2e-8 for tiny e as well.
DEV float softplus(float x, float& slope) {
    float e = exp2_fast(-LOG2E * fabsf(x)), share = __fdividef(1.0f, 1.0f + e), w = __fdividef(e, 2.0f + e), q = w * w;
    slope = x >= 0 ? share : e * share;
    float series = 1.0f + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q * (1.0f / 9 + q * (1.0f / 11 + q * (1.0f / 13))))));
    return fmaxf(x, 0.0f) + 2.0f * w * series;
}

struct Logits {
    float factor, scale, bias;
};
template <bool SIGMOID> DEV Logits logits(const float* log_scale, const float* bias) {
    float scale = expf(*log_scale);
    Logits l = {scale * LOG2E, scale, SIGMOID ? *bias : 0.0f};
    return l;
}

// G of one similarity.
template <bool SIGMOID> DEV float slope_at(const Logits& l, float similarity, float2 row, float2 column, bool is_pair, Sums& sums) {
    float g;
    if (SIGMOID) {
        float x = fmaf(similarity, l.scale, l.bias);
        sums.loss += softplus(is_pair ? -x : x, g);
        g = is_pair ? -g : g;
        sums.slope += g;
    } else {
        g = probability(similarity, l.factor, row) + probability(similarity, l.factor, column) - (is_pair ? 2.0f : 0.0f);
    }
    sums.along += g * similarity;
    return g;
}

template <bool SIGMOID> DEV void include(Totals& totals, const Sums& sums) {
    totals.at[1] += sums.along;
    if (!SIGMOID) return;
    totals.at[0] += sums.loss;
    totals.at[2] += sums.slope;
}

// Sums over the block, in thread 0. `room` holds 3 doubles a warp.
DEV void block_totals(Totals& totals, double* room) {
    for (int i = 0; i < 3; i++) {
        for (int m = 16; m; m >>= 1) totals.at[i] += __shfl_xor_sync(0xffffffffu, totals.at[i], m);
        if (threadIdx.x % 32 == 0) room[threadIdx.x / 32 * 3 + i] = totals.at[i];
    }
    __syncthreads();
    if (threadIdx.x) return;
    for (int i = 0; i < 3; i++) {
        totals.at[i] = 0;
        for (u32 w = 0; w < blockDim.x / 32; w++) totals.at[i] += room[w * 3 + i];
    }
}

// ---- Fused ------------------------------------------------------------------------------------------------------------------

// The order in which a block reads tiles: for each tile of columns first `similar` steps that read both sides, then `back` steps
// that read the other side only, from channel `channel` on. One tile is under way while the one before is used, so one barrier a
// step is enough: who passes it has finished with the stage that is filled next.
struct Stream {
    char* shared;
    Features own, other;
    u32 band, column, end, step, similar, back, channel, parity;

    MEMBER void fetch() {
        if (column < end) {
            char* to = shared + parity * STAGE;
            if (step < similar) stage(to, own, band * TILE, step * DEPTH);
            stage(to + STAGED, other, column * TILE, step < similar ? step * DEPTH : channel + (step - similar) * DEPTH);
            if (++step == similar + back) {
                step = 0;
                column++;
            }
        }
        copy_async_commit();
        parity ^= 1;
    }
    // The stage to use now; starts to fill the other.
    MEMBER const char* next() {
        copy_async_wait<0>();
        __syncthreads();
        const char* ready = shared + (parity ^ 1) * STAGE;
        fetch();
        return ready;
    }
};

// Blocks: x band of 64 rows, y share of the tiles of columns, z side times the rest. Side 0 has images as rows.
DEV Stream stream(char* shared, const real* image, const real* text, u32 batch, u32 width, u32 tiles_each, u32 back, u32 channel) {
    bool by_text = blockIdx.z % 2;
    u32 tiles = (batch + TILE - 1) / TILE, first = blockIdx.y * tiles_each;
    Stream s = {shared, features(by_text ? text : image, batch, width), features(by_text ? image : text, batch, width), blockIdx.x,
                first, min(first + tiles_each, tiles), 0, (u32)((width + DEPTH - 1) / DEPTH), back, channel, 0};
    s.fetch();
    return s;
}

DEV void similarities(Stream& s, Held& sums) {
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums.at[i][j] = 0;
    for (u32 k = 0; k < s.similar; k++) {
        const char* ready = s.next();
        add_similarities(sums, ready, ready + STAGED);
    }
}

// Sums of each row over a share of the columns, partials[side][share][row], and the similarities of the pairs. Dynamic shared
// memory: two stages.
KERNEL(256) contrastive_lse(const real* __restrict__ image, const real* __restrict__ text, const float* __restrict__ log_scale,
                            float2* __restrict__ partials, float* __restrict__ pairs, u32 batch, u32 width, u32 tiles_each) {
    DYN_SHARED(char, shared);
    float factor = expf(*log_scale) * LOG2E;
    Stream s = stream(shared, image, text, batch, width, tiles_each, 0, 0);
    float2 running[HELD_ROWS];
#pragma unroll
    for (int i = 0; i < HELD_ROWS; i++) running[i] = make_float2(LOWEST, 0.0f);
    for (u32 tile = blockIdx.y * tiles_each, end = s.end; tile < end; tile++) {
        Held held;
        similarities(s, held);
#pragma unroll
        for (int i = 0; i < HELD_ROWS; i++) {
            float row[HELD_COLUMNS];
            bool counts[HELD_COLUMNS];
#pragma unroll
            for (int j = 0; j < HELD_COLUMNS; j++) {
                u32 column = tile * TILE + column_of(j);
                row[j] = held.of(i, j);
                counts[j] = column < batch;
                if (counts[j] && blockIdx.z == 0 && column == blockIdx.x * TILE + row_of(i)) pairs[column] = row[j];
            }
            include<false>(running[i], row, counts, factor);
        }
    }
    __syncthreads();
    float2* slots = (float2*)shared;
#pragma unroll
    for (int i = 0; i < HELD_ROWS; i++) slots[row_of(i) * SLOTS + slot()] = running[i];
    __syncthreads();
    u32 row = blockIdx.x * TILE + threadIdx.x;
    if (threadIdx.x >= TILE || row >= batch) return;
    float2 sum = slots[threadIdx.x * SLOTS];
    for (int i = 1; i < SLOTS; i++) sum = join(sum, slots[threadIdx.x * SLOTS + i]);
    partials[((size_t)blockIdx.z * gridDim.y + blockIdx.y) * batch + row] = sum;
}

// Partials [y][count][rows] become log-sum-exps [y][rows] and terms of the loss [y][rows]. pairs float[rows].
KERNEL(256) contrastive_merge(const float2* __restrict__ partials, const float* __restrict__ pairs,
                              const float* __restrict__ log_scale, float2* __restrict__ lse, float* __restrict__ terms, u32 count,
                              u32 rows) {
    u32 row = blockIdx.x * THREADS + threadIdx.x;
    if (row >= rows) return;
    const float2* from = partials + (size_t)blockIdx.y * count * rows + row;
    float2 sum = from[0];
    for (u32 i = 1; i < count; i++) sum = join(sum, from[(size_t)i * rows]);
    float log = log2f(sum.y);
    size_t to = (size_t)blockIdx.y * rows + row;
    lse[to] = make_float2(sum.x, log);
    terms[to] = LN2 * (fmaf(-pairs[row], expf(*log_scale) * LOG2E, sum.x) + log);
}

struct Fused {
    const real *image, *text;
    const float *log_scale, *bias;
    const float2* lse;
    float *grad_image, *grad_text;
    double* parts;
    u32 batch, width, tiles_each;
};

// Turns the similarities of a tile into G in shared memory.
template <bool SIGMOID>
DEV void slopes_of(Held& held, const float2 (&rows)[HELD_ROWS], const float2* columns, const Logits& l, u32 batch, u32 tile,
                   char* slopes, Totals& totals) {
    float2 column_sums[HELD_COLUMNS];
#pragma unroll
    for (int j = 0; j < HELD_COLUMNS; j++) {
        u32 column = tile * TILE + column_of(j);
        if (!SIGMOID) column_sums[j] = columns[min(column, batch - 1)];
    }
    Sums sums = {0, 0, 0};
#pragma unroll
    for (int i = 0; i < HELD_ROWS; i++) {
        u32 row = blockIdx.x * TILE + row_of(i);
        float g[HELD_COLUMNS];
#pragma unroll
        for (int j = 0; j < HELD_COLUMNS; j++) {
            u32 column = tile * TILE + column_of(j);
            g[j] = 0;
            if (row < batch && column < batch)
                g[j] = slope_at<SIGMOID>(l, held.of(i, j), rows[i], column_sums[j], row == column, sums);
        }
        put_slopes(slopes, i, g);
    }
    include<SIGMOID>(totals, sums);
}

// Dynamic shared memory: two stages and a tile of G. Blocks: z is side + 2 (group of WIDTH channels).
template <bool SIGMOID> DEV void gradient(const Fused& f, char* shared) {
    u32 side = blockIdx.z % 2, channel = blockIdx.z / 2 * WIDTH, batch = f.batch, width = f.width;
    u32 back = (min(width - channel, (u32)WIDTH) + DEPTH - 1) / DEPTH;
    char* slope_tile = shared + 2 * STAGE;
    Logits l = logits<SIGMOID>(f.log_scale, f.bias);
    Stream s = stream(shared, f.image, f.text, batch, width, f.tiles_each, back, channel);
    float2 rows[HELD_ROWS];
    Chunk chunks[CHUNKS];
#pragma unroll
    for (int i = 0; i < HELD_ROWS; i++) {
        if (!SIGMOID) rows[i] = f.lse[(size_t)side * batch + min(blockIdx.x * TILE + row_of(i), batch - 1)];
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
#pragma unroll
            for (int j = 0; j < HELD_CHANNELS; j++) chunks[c].of(i, j) = 0;
    }
    Totals totals = {{0, 0, 0}};
    for (u32 tile = blockIdx.y * f.tiles_each, end = s.end; tile < end; tile++) {
        Held held;
        similarities(s, held);
        slopes_of<SIGMOID>(held, rows, SIGMOID ? nullptr : f.lse + (size_t)(1 - side) * batch, l, batch, tile, slope_tile, totals);
        Slopes slopes;
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            if (c >= (int)back) continue;
            const char* ready = s.next();
            if (c == 0) slopes.read(slope_tile);
            add_gradient(chunks[c], slopes, ready + STAGED);
        }
    }
    float weight = l.scale / ((SIGMOID ? 1.0f : 2.0f) * batch);
    float* out = (side ? f.grad_text : f.grad_image) + (size_t)blockIdx.y * batch * width;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
#pragma unroll
        for (int i = 0; i < HELD_ROWS; i++)
#pragma unroll
            for (int j = 0; j < HELD_CHANNELS; j++) {
                u32 row = blockIdx.x * TILE + row_of(i), at = channel + c * DEPTH + channel_of(j);
                if (row < batch && at < width) out[(size_t)row * width + at] = weight * chunks[c].of(i, j);
            }
    if (blockIdx.z) return;
    __syncthreads();
    block_totals(totals, (double*)shared);
    if (threadIdx.x) return;
    double* part = f.parts + 3 * (size_t)(blockIdx.y * gridDim.x + blockIdx.x);
    for (int i = 0; i < 3; i++) part[i] = totals.at[i];
}

// Gradients of a share of the columns [share][B, E] (the gradients themselves where there is one share), and parts
// double[share][band][loss, sum(G c), sum(G)].
KERNEL(256) contrastive_softmax(const real* __restrict__ image, const real* __restrict__ text, const float* __restrict__ log_scale,
                                const float2* __restrict__ lse, float* __restrict__ grad_image, float* __restrict__ grad_text,
                                double* __restrict__ parts, u32 batch, u32 width, u32 tiles_each) {
    Fused f = {image, text, log_scale, nullptr, lse, grad_image, grad_text, parts, batch, width, tiles_each};
    DYN_SHARED(char, shared);
    gradient<false>(f, shared);
}
KERNEL(256) contrastive_sigmoid(const real* __restrict__ image, const real* __restrict__ text, const float* __restrict__ log_scale,
                                const float* __restrict__ bias, float* __restrict__ grad_image, float* __restrict__ grad_text,
                                double* __restrict__ parts, u32 batch, u32 width, u32 tiles_each) {
    Fused f = {image, text, log_scale, bias, nullptr, grad_image, grad_text, parts, batch, width, tiles_each};
    DYN_SHARED(char, shared);
    gradient<true>(f, shared);
}

// Adds up the shares of both gradients, shares[side][count][len]; a thread handles 4 adjacent elements, y is the side.
KERNEL(256) contrastive_sum(const float* __restrict__ shares, float* __restrict__ grad_image, float* __restrict__ grad_text,
                            u32 count, u32 len) {
    const float* from = shares + (size_t)blockIdx.y * count * len;
    float* to = blockIdx.y ? grad_text : grad_image;
    size_t first = ((size_t)blockIdx.x * THREADS + threadIdx.x) * 4;
    if (len % 4 == 0 && ((u64)shares | (u64)grad_image | (u64)grad_text) % 16 == 0) {
        if (first >= len) return;
        Pack<float, 4> sum = *(const Pack<float, 4>*)(from + first);
        for (u32 i = 1; i < count; i++) {
            Pack<float, 4> more = *(const Pack<float, 4>*)(from + (size_t)i * len + first);
#pragma unroll
            for (int e = 0; e < 4; e++) sum.at[e] += more.at[e];
        }
        *(Pack<float, 4>*)(to + first) = sum;
        return;
    }
    for (size_t at = first; at < len && at < first + 4; at++) {
        float sum = from[at];
        for (u32 i = 1; i < count; i++) sum += from[(size_t)i * len + at];
        to[at] = sum;
    }
}

// Scalars from parts [count][3] and, for softmax alone, terms [2B]: null for sigmoid. One block.
KERNEL(1024) contrastive_finish(const float* __restrict__ terms, const double* __restrict__ parts,
                                const float* __restrict__ log_scale, float* __restrict__ loss, float* __restrict__ logit_scale,
                                float* __restrict__ grad_log_scale, float* __restrict__ grad_bias, u32 count, u32 batch) {
    __shared__ double room[96];
    Totals totals = {{0, 0, 0}};
    for (u32 i = threadIdx.x; i < count; i += blockDim.x)
        for (int j = 0; j < 3; j++) totals.at[j] += parts[3 * (size_t)i + j];
    if (terms)
        for (u32 i = threadIdx.x; i < 2 * batch; i += blockDim.x) totals.at[0] += terms[i];
    block_totals(totals, room);
    if (threadIdx.x) return;
    float scale = expf(*log_scale);
    double pairs = terms ? 2.0 * batch : batch;
    *loss = (float)(totals.at[0] / pairs);
    *logit_scale = scale;
    *grad_log_scale = (float)(totals.at[1] * scale / pairs);
    if (grad_bias) *grad_bias = (float)(totals.at[2] / pairs);
}

// ---- Slabs ------------------------------------------------------------------------------------------------------------------

#define SLAB_TILE 128   // columns that a block of contrastive_slab_lse takes at once, 4 a lane
#define SLAB_TILES 16   // and how often
#define WARP_ROWS 8     // rows of a warp
#define SLAB_ROWS 32    // rows of a block of contrastive_slab_{softmax,sigmoid}

// Four adjacent elements of a row of `batch`: all of them there and aligned where WHOLE, else zeros beyond the row.
template <bool WHOLE> DEV Pack<float, 4> four(const float* row, u32 column, u32 batch) {
    if (WHOLE) return *(const Pack<float, 4>*)(row + column);
    Pack<float, 4> r;
#pragma unroll
    for (u32 e = 0; e < 4; e++) r.at[e] = column + e < batch ? row[column + e] : 0.0f;
    return r;
}

struct SlabLse {
    const float* slab;
    float* pairs;
    float factor;
    u32 first, rows, batch;
};

// A warp's 8 rows of a tile into the rows' running sums and, for each of its columns, the sum over them.
template <bool WHOLE>
DEV void slab_tile(const SlabLse& s, float2 (&running)[WARP_ROWS], u32 row, u32 begin, float2* column_sums) {
    u32 lane = threadIdx.x % 32, column = begin + lane * 4;
    float values[WARP_ROWS][4];
    bool counts[WARP_ROWS], columns_count[4];
#pragma unroll
    for (int i = 0; i < WARP_ROWS; i++) {
        Pack<float, 4> read = four<WHOLE>(s.slab + (size_t)min(row + i, s.rows - 1) * s.batch, column, s.batch);
#pragma unroll
        for (int j = 0; j < 4; j++) values[i][j] = read.at[j];
        counts[i] = row + i < s.rows;
    }
#pragma unroll
    for (int j = 0; j < 4; j++) columns_count[j] = column + j < s.batch;
#pragma unroll
    for (int i = 0; i < WARP_ROWS; i++) include<WHOLE>(running[i], values[i], columns_count, s.factor);
    // Does the diagonal cross the warp's part of the tile?
    u32 pair = s.first + row;
    if (pair < begin + SLAB_TILE && pair + WARP_ROWS > begin) {
#pragma unroll
        for (int i = 0; i < WARP_ROWS; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (counts[i] && column + j == pair + i) s.pairs[column + j] = values[i][j];
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        float down[WARP_ROWS];
#pragma unroll
        for (int i = 0; i < WARP_ROWS; i++) down[i] = values[i][j];
        float2 sum = make_float2(LOWEST, 0.0f);
        include<WHOLE>(sum, down, counts, s.factor);
        column_sums[lane * 4 + j] = sum;
    }
}

// Sums of a slab of similarities [rows, B] that begins with row `first`: of its rows over SLAB_TILE * SLAB_TILES columns,
// row_partials[x][rows], of the columns over 64 rows, column_partials[y][B], in one reading; and the pairs' similarities.
// Blocks: x columns, y band of 64 rows, 8 rows a warp.
KERNEL(256) contrastive_slab_lse(const float* __restrict__ slab, const float* __restrict__ log_scale,
                                 float2* __restrict__ row_partials, float2* __restrict__ column_partials, float* __restrict__ pairs,
                                 u32 first, u32 rows, u32 batch) {
    __shared__ float2 room[2][8][SLAB_TILE];
    SlabLse s = {slab, pairs, expf(*log_scale) * LOG2E, first, rows, batch};
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = blockIdx.y * 64 + warp * WARP_ROWS;
    float2 running[WARP_ROWS];
#pragma unroll
    for (int i = 0; i < WARP_ROWS; i++) running[i] = make_float2(LOWEST, 0.0f);
    for (u32 t = 0; t < SLAB_TILES; t++) {
        u32 begin = (blockIdx.x * SLAB_TILES + t) * SLAB_TILE;
        if (begin >= batch) break;
        bool whole = batch % 4 == 0 && begin + SLAB_TILE <= batch && row + WARP_ROWS <= rows;
        if (whole) slab_tile<true>(s, running, row, begin, room[t % 2][warp]);
        else slab_tile<false>(s, running, row, begin, room[t % 2][warp]);
        __syncthreads();
        if (threadIdx.x < SLAB_TILE && begin + threadIdx.x < batch) {
            float2 sum = room[t % 2][0][threadIdx.x];
            for (int w = 1; w < 8; w++) sum = join(sum, room[t % 2][w][threadIdx.x]);
            column_partials[(size_t)blockIdx.y * batch + begin + threadIdx.x] = sum;
        }
    }
#pragma unroll
    for (int i = 0; i < WARP_ROWS; i++) {
        float top = warp_max(running[i].x);
        float sum = warp_sum(running[i].y * exp2_fast(running[i].x - top));
        if (lane == 0 && row + i < rows) row_partials[(size_t)blockIdx.x * rows + row + i] = make_float2(top, sum);
    }
}

// Takes a slab's column sums, partials[bands][B], into those of the slabs before; where `is_first`, there are none.
KERNEL(256) contrastive_slab_columns(const float2* __restrict__ partials, float2* __restrict__ running, u32 bands, u32 is_first,
                                     u32 batch) {
    u32 column = blockIdx.x * THREADS + threadIdx.x;
    if (column >= batch) return;
    float2 sum = partials[column];
    for (u32 i = 1; i < bands; i++) sum = join(sum, partials[(size_t)i * batch + column]);
    running[column] = is_first ? sum : join(running[column], sum);
}

struct Slab {
    const float* slab;
    real* out;
    const float *log_scale, *bias;
    const float2 *row_lse, *column_lse;
    double* parts;
    u32 first, rows, batch;
};

template <bool WHOLE> DEV void put_four(real* row, u32 column, u32 batch, const Pack<real, 4>& values) {
    if (WHOLE) {
        *(Pack<real, 4>*)(row + column) = values;
        return;
    }
#pragma unroll
    for (u32 e = 0; e < 4; e++)
        if (column + e < batch) row[column + e] = values.at[e];
}

// AT_ONCE rows from r on of a thread's 4 columns.
#define AT_ONCE 4
template <bool SIGMOID, bool WHOLE>
DEV void slab_rows(const Slab& s, const Logits& l, const float2 (&columns)[4], u32 r, u32 column, float weight, Totals& totals) {
    Pack<float, 4> read[AT_ONCE];
    float2 lse[AT_ONCE];
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++) {
        u32 row = WHOLE ? r + i : min(r + i, s.rows - 1);
        read[i] = four<WHOLE>(s.slab + (size_t)row * s.batch, column, s.batch);
        lse[i] = SIGMOID ? make_float2(0, 0) : s.row_lse[s.first + row];
    }
    Sums sums = {0, 0, 0};
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++) {
        if (!WHOLE && r + i >= s.rows) continue;
        u32 pair = s.first + r + i - column;
        Pack<real, 4> slopes;
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            float g = 0;
            if (WHOLE || column + j < s.batch) g = slope_at<SIGMOID>(l, read[i].at[j], lse[i], columns[j], pair == j, sums);
            put(&slopes.at[j], weight * g);
        }
        put_four<WHOLE>(s.out + (size_t)(r + i) * s.batch, column, s.batch, slopes);
    }
    include<SIGMOID>(totals, sums);
}

template <bool SIGMOID> DEV void slab_slopes(const Slab& s) {
    __shared__ double room[THREADS / 32 * 3];
    Logits l = logits<SIGMOID>(s.log_scale, s.bias);
    float weight = l.scale / ((SIGMOID ? 1.0f : 2.0f) * s.batch);
    u32 column = (blockIdx.x * THREADS + threadIdx.x) * 4, begin = blockIdx.y * SLAB_ROWS, end = min(begin + SLAB_ROWS, s.rows);
    Totals totals = {{0, 0, 0}};
    float2 columns[4];
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (!SIGMOID) columns[j] = s.column_lse[min(column + j, s.batch - 1)];
    if (column < s.batch) {
        bool whole = s.batch % 4 == 0 && begin + SLAB_ROWS <= s.rows;
        if (whole) for (u32 r = begin; r < end; r += AT_ONCE) slab_rows<SIGMOID, true>(s, l, columns, r, column, weight, totals);
        else for (u32 r = begin; r < end; r += AT_ONCE) slab_rows<SIGMOID, false>(s, l, columns, r, column, weight, totals);
    }
    block_totals(totals, room);
    if (threadIdx.x) return;
    double* part = s.parts + 3 * (size_t)(blockIdx.y * gridDim.x + blockIdx.x);
    for (int i = 0; i < 3; i++) part[i] = totals.at[i];
}

// A slab of similarities [rows, B] becomes w G in `real`, which may lie where the similarities lay if `real` is float; parts
// double[y][x][3] as in the fused kernels. Blocks: x 4 columns a thread, y SLAB_ROWS rows.
KERNEL(256) contrastive_slab_softmax(const float* slab, real* out, const float* __restrict__ log_scale,
                                     const float2* __restrict__ row_lse, const float2* __restrict__ column_lse,
                                     double* __restrict__ parts, u32 first, u32 rows, u32 batch) {
    Slab s = {slab, out, log_scale, nullptr, row_lse, column_lse, parts, first, rows, batch};
    slab_slopes<false>(s);
}
KERNEL(256) contrastive_slab_sigmoid(const float* slab, real* out, const float* __restrict__ log_scale,
                                     const float* __restrict__ bias, double* __restrict__ parts, u32 first, u32 rows, u32 batch) {
    Slab s = {slab, out, log_scale, bias, nullptr, nullptr, parts, first, rows, batch};
    slab_slopes<true>(s);
}
