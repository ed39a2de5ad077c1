// Scaled dot-product attention, full or causal, of every head of every sample.
//   out = p v, p = softmax(q k^T / sqrt(D)), lse = log sum exp of the scaled scores
//   dv = p^T dout;  ds = p (dout v^T - rowsum(dout out));  dq = ds k / sqrt(D);  dk = ds^T q / sqrt(D)
// Arguments: qkv, grad_qkv real[B, T, 3C] with rows q | k | v; out, grad_out real[B, T, C]; lse, delta float[B, H, T] with
// C = H D. `pairs` is B H, `scale` 1 / sqrt(D). Compiled once for each HEAD_DIM that heads are padded to; dim <= it, any T.
// Decomposition: a warp owns 16 rows of one head (queries; keys where dk and dv are summed) and keeps their sums in registers.
// `warps` warps, up to 8, are a group that owns a tile of 16 warps rows; short sequences put several groups in a block.
//   attention_forward           online softmax over tiles of up to 64 keys; k of the next tile is copied during the
//                               softmax, v during the scores.
//   attention_backward          T <= 16 warps: one pass. A warp takes 16 keys through all queries with p and ds transposed,
//                               so that they are factors of dv and dk as they stand; ds goes through shared memory to dq.
//   attention_backward_queries  longer sequences, dq: a warp takes 16 queries through all keys; writes delta = rowsum(dout out).
//   attention_backward_keys     longer sequences, dk and dv, from delta.
// Shared memory is sized by src/trainer/ops/attention/cuda.rs: up to 112 KiB in bf16, 160 KiB in float. Rows of a head are padded
// to D columns with zeros, and by 16 bytes. They move in pieces of 16 bytes where dim and the addresses allow.
// Under a causal mask blocks of 16 x 16 above the diagonal are skipped. Sums run in a fixed order, there are no atomics.
// Accumulation: float. bf16: products by mma, p and ds rounded to bf16 as factors. float: the same blocks by FMA.
// Gradient convention: grad_qkv is overwritten.
// CPU reference: src/trainer/ops/attention. Test: src/trainer/check/attention.rs. Source: Dao 2023 (FlashAttention-2), with dq by a
// second pass in place of atomics.
#include "attention_blocks.cuh"

// Keys of a tile in the forward kernel.
#define KEYS 64
// A score that no maximum takes.
#define HIDDEN -1e30f

struct Shape {
    u32 pairs, heads;
    int tokens, dim, causal, warps;
    float scale;
};

// What a thread works on.
struct Work {
    // First row of its group's tile; rows of the sequence, none in a group beyond the last head.
    int first, tokens;
    int group, warp, lane, thread, threads;
    // Channels of a head; whether every row of every array starts at a multiple of 16 bytes and is a multiple long.
    int dim;
    bool wide;
    // First elements of the head in qkv and out, and of its row of lse; elements from row to row.
    size_t input, output, stats;
    u32 input_row, output_row;
};

DEV Work work_of(const Shape& s, bool aligned) {
    Work w;
    w.dim = s.dim;
    w.wide = aligned && s.dim % WIDE == 0;
    w.threads = 32 * s.warps;
    w.group = threadIdx.x / w.threads;
    w.thread = threadIdx.x % w.threads;
    w.warp = w.thread / 32;
    w.lane = threadIdx.x % 32;
    u32 rows = 16 * s.warps, tiles = (s.tokens + rows - 1) / rows;
    u32 pair = blockIdx.x / tiles * (blockDim.x / w.threads) + w.group;
    w.first = blockIdx.x % tiles * rows;
    w.tokens = pair < s.pairs ? s.tokens : 0;
    pair = min(pair, s.pairs - 1);
    u32 sample = pair / s.heads, head = pair % s.heads;
    w.output_row = s.heads * s.dim;
    w.input_row = 3 * w.output_row;
    w.input = (size_t)sample * s.tokens * w.input_row + head * s.dim;
    w.output = (size_t)sample * s.tokens * w.output_row + head * s.dim;
    w.stats = (size_t)pair * s.tokens;
    return w;
}

DEV bool are_aligned(const void* a, const void* b, const void* c = nullptr, const void* d = nullptr) {
    return (((size_t)a | (size_t)b | (size_t)c | (size_t)d) & 15) == 0;
}

// Fills `rows` rows of shared memory with `there` rows from global memory, zeros beyond; by all threads of the group.
template <int D> DEV void load_rows(real* to, const real* from, u32 step, int rows, int there, const Work& w) {
    constexpr int pieces = D / WIDE;
    if (w.wide && 32 % pieces == 0) {
        // A thread keeps to its column, so that addresses are a product and a sum.
        int column = w.thread % pieces * WIDE, end = column < w.dim ? there : 0;
        shared_address base = shared_pointer(to) + column * (int)sizeof(real);
        from += column;
#pragma unroll 2
        for (int row = w.thread / pieces; row < rows; row += w.threads / pieces)
            copy_async_16_or_zero(base + row * (D + WIDE) * (int)sizeof(real), from + (size_t)(u32)row * step, row < end);
        return;
    }
    if (w.wide) {
        shared_address base = shared_pointer(to);
#pragma unroll 2
        for (int i = w.thread; i < rows * pieces; i += w.threads) {
            int row = i / pieces, column = i % pieces * WIDE;
            shared_address at = base + (row * (D + WIDE) + column) * (int)sizeof(real);
            copy_async_16_or_zero(at, from + (size_t)row * step + column, row < there && column < w.dim);
        }
        return;
    }
#pragma unroll 1
    for (int i = w.thread; i < rows * D; i += w.threads) {
        int row = i / D, column = i % D;
        real* at = to + row * (D + WIDE) + column;
        if (row < there && column < w.dim) *at = from[(size_t)row * step + column];
        else put(at, 0.0f);
    }
}
// Rows from `first` on of q, k or v (part 0, 1, 2), and of grad_out.
template <int D> DEV void load_part(real* to, const real* qkv, int part, int first, int rows, const Work& w) {
    const real* from = qkv + w.input + (size_t)first * w.input_row + part * w.output_row;
    load_rows<D>(to, from, w.input_row, rows, w.tokens - first, w);
}
template <int D> DEV void load_grad_out(real* to, const real* grad_out, int first, int rows, const Work& w) {
    load_rows<D>(to, grad_out + w.output + (size_t)first * w.output_row, w.output_row, rows, w.tokens - first, w);
}

// Writes `there` of 16 rows of shared memory; by one warp.
template <int D> DEV void store_rows(real* to, const real* from, u32 step, int there, const Work& w) {
    constexpr int pieces = D / WIDE;
    typedef Pack<real, WIDE> Piece;
    if (w.wide) {
#pragma unroll
        for (int i = w.lane; i < 16 * pieces; i += 32) {
            int row = i / pieces, column = i % pieces * WIDE;
            const Piece* at = (const Piece*)(from + row * (D + WIDE) + column);
            if (row < there && column < w.dim) *(Piece*)(to + (size_t)row * step + column) = *at;
        }
        return;
    }
#pragma unroll 1
    for (int i = w.lane; i < 16 * D; i += 32) {
        int row = i / D, column = i % D;
        if (row < there && column < w.dim) to[(size_t)row * step + column] = from[row * (D + WIDE) + column];
    }
}

// A 16 x D sum to global memory, through 16 rows of shared memory that only this warp reads.
template <int D>
DEV void store_sum(real* to, u32 step, const float (&c)[D / 8][4], float upper, float lower, real* room, int there, const Work& w) {
    __syncwarp();
    put_sum<D>(room, c, upper, lower, w.lane);
    __syncwarp();
    store_rows<D>(to, room, step, there, w);
}

// Blocks of 16 keys of a tile from `first_key` with `keys` keys that the 16 queries from `first_query` see.
DEV int visible_blocks(int first_query, int first_key, int keys, const Work& w, bool causal) {
    if (first_query >= w.tokens) return 0;
    int end = min(keys, w.tokens - first_key);
    if (causal) end = min(end, first_query + 16 - first_key);
    return end <= 0 ? 0 : (end + 15) / 16;
}

#define BLOCKS (KEYS / 16)

// Scores of 16 queries and the `seen` first blocks of a tile of keys; HIDDEN where a query does not see a key.
template <int D>
DEV void scores(float (&p)[BLOCKS][2][4], const Left<D, true>& q, const real* k, int query, int key, int seen, const Work& w,
                bool causal) {
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
        if (b >= seen) continue;
        clear(p[b]);
        by_rows(p[b], q, k + 16 * b * (D + WIDE), w.lane);
        int block = key + 16 * b;
        if (block + 16 <= w.tokens && (!causal || block < query)) continue;
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int at = block + block_column(w.lane, n, i);
                if (at >= w.tokens || (causal && at > query + block_row(w.lane, i))) p[b][n][i] = HIDDEN;
            }
    }
}

// Scores of rows lane / 4 + 8 h become 2^(factor (score - largest)); what was summed so far shrinks as the maximum grows. `sum` is
// of the lane's own columns.
template <int D>
DEV void softmax(float (&p)[BLOCKS][2][4], float (&o)[D / 8][4], float& largest, float& sum, int h, int seen, float factor) {
    float before = largest;
#pragma unroll
    for (int b = 0; b < BLOCKS; b++)
        if (b < seen)
#pragma unroll
            for (int n = 0; n < 2; n++) largest = fmaxf(largest, fmaxf(p[b][n][2 * h], p[b][n][2 * h + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    float shrink = exp2_fast((before - largest) * factor), offset = largest * factor;
    sum *= shrink;
#pragma unroll
    for (int n = 0; n < D / 8; n++) o[n][2 * h] *= shrink, o[n][2 * h + 1] *= shrink;
#pragma unroll
    for (int b = 0; b < BLOCKS; b++)
        if (b < seen)
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int i = 2 * h; i < 2 * h + 2; i++) {
                    p[b][n][i] = exp2_fast(p[b][n][i] * factor - offset);
                    sum += p[b][n][i];
                }
}

template <int D> DEV void forward(const real* qkv, real* out, float* lse, const Shape& s) {
    constexpr int stride = D + WIDE;
    DYN_SHARED(char, memory);
    Work w = work_of(s, are_aligned(qkv, out));
    int queries = 16 * s.warps, keys = min(KEYS, (s.tokens + 15) / 16 * 16);
    int bytes = (queries + 2 * keys) * stride * (int)sizeof(real) + s.warps * ROOM * 4;
    real* q = (real*)(memory + w.group * bytes);
    real *k = q + queries * stride, *v = k + keys * stride;
    float* room = (float*)(v + keys * stride) + w.warp * ROOM;
    load_part<D>(q, qkv, 0, w.first, queries, w);
    load_part<D>(k, qkv, 1, 0, keys, w);
    copy_async_commit();
    load_part<D>(v, qkv, 2, 0, keys, w);
    copy_async_commit();

    int own = w.first + 16 * w.warp, there = w.tokens - own;
    real* own_rows = q + 16 * w.warp * stride;
    float sum[2] = {0, 0}, largest[2] = {HIDDEN, HIDDEN};
    float o[D / 8][4];
    clear(o);
    copy_async_wait<1>();
    __syncthreads();
    Left<D, true> left;
    take(left, own_rows, w.lane);
    int end = s.causal ? min(s.tokens, w.first + queries) : s.tokens;
    for (int first = 0; first < end; first += keys) {
        bool more = first + keys < end;
        int seen = visible_blocks(own, first, keys, w, s.causal);
        float p[BLOCKS][2][4];
        scores(p, left, k, own, first, seen, w, s.causal);
        if (more) {
            __syncthreads();
            load_part<D>(k, qkv, 1, first + keys, keys, w);
        }
        copy_async_commit();
        if (seen)
#pragma unroll
            for (int h = 0; h < 2; h++) softmax<D>(p, o, largest[h], sum[h], h, seen, s.scale * LOG2E);
        // v has arrived; k of the next tile is under way.
        copy_async_wait<1>();
        __syncthreads();
#pragma unroll
        for (int b = 0; b < BLOCKS; b++)
            if (b < seen) block_by_rows<D>(o, p[b], v + 16 * b * stride, room, w.lane);
        if (more) {
            __syncthreads();
            load_part<D>(v, qkv, 2, first + keys, keys, w);
            copy_async_commit();
            copy_async_wait<1>();
            __syncthreads();
        }
    }

    if (there <= 0) return;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 1);
        sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 2);
        int row = w.lane / 4 + 8 * h;
        if (w.lane % 4 == 0 && row < there) lse[w.stats + own + row] = largest[h] * s.scale + logf(sum[h]);
    }
    real* to = out + w.output + (size_t)own * w.output_row;
    store_sum<D>(to, w.output_row, o, 1.0f / sum[0], 1.0f / sum[1], own_rows, there, w);
}

// The pieces of 16 rows of out that a lane multiplies for delta: every other one of row lane / 2.
template <int D> struct Pieces {
    Pack<real, WIDE> at[D / (2 * WIDE)];
};
template <int D> DEV void read_pieces(Pieces<D>& pieces, const real* out, int first, const Work& w) {
    bool there = first + w.lane / 2 < w.tokens;
    const real* from = out + w.output + (size_t)(first + w.lane / 2) * w.output_row;
#pragma unroll
    for (int i = 0; i < D / (2 * WIDE); i++) {
        int column = (2 * i + w.lane % 2) * WIDE;
        if (w.wide && there && column < w.dim) {
            pieces.at[i] = *(const Pack<real, WIDE>*)(from + column);
            continue;
        }
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            if (!w.wide && there && column + e < w.dim) pieces.at[i].at[e] = from[column + e];
            else put(&pieces.at[i].at[e], 0.0f);
        }
    }
}
// Row sums of their product with 16 rows in shared memory: both lanes 2 r and 2 r + 1 get row r.
template <int D> DEV float delta_of(const Pieces<D>& pieces, const real* rows, int lane) {
    rows += lane / 2 * (D + WIDE) + lane % 2 * WIDE;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < D / (2 * WIDE); i++) {
        Pack<real, WIDE> other = *(const Pack<real, WIDE>*)(rows + 2 * i * WIDE);
#pragma unroll
        for (int e = 0; e < WIDE; e++) sum += widen(pieces.at[i].at[e]) * widen(other.at[e]);
    }
    return sum + __shfl_xor_sync(0xffffffffu, sum, 1);
}

// Whether left factors of the backward kernels stay in registers, next to the sums.
#define KEEP_LEFT (D <= 32)

// The sums of 16 keys and their factors.
template <int D> struct Keys {
    Left<D, KEEP_LEFT> k, v;
    float dk[D / 8][4], dv[D / 8][4];
};
// Rows of k and v in shared memory.
template <int D> DEV void begin(Keys<D>& own, const real* k, const real* v, int lane) {
    take(own.k, k, lane);
    take(own.v, v, lane);
    clear(own.dk);
    clear(own.dv);
}

// Adds what 16 queries from `query` on (rows q, g of q and grad_out; lse times log2(e), delta) give to the 16 keys from `key` on.
// Leaves the transposed gradient of the unscaled scores in ds.
template <int D>
DEV void add_queries(Keys<D>& own, float (&ds)[2][4], const real* q, const real* g, const float* lse, const float* delta, int query,
                     int key, float* room, const Work& w, const Shape& s) {
    typedef Pack<float, 2> Two;
    // First query of the block that sees each of the lane's keys.
    int from[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int at = key + w.lane / 4 + 8 * h;
        from[h] = at >= w.tokens ? 16 : s.causal ? at - query : 0;
    }
    float p[2][4];
    clear(p);
    clear(ds);
    by_rows(p, own.k, q, w.lane);
    by_rows(ds, own.v, g, w.lane);
#pragma unroll
    for (int n = 0; n < 2; n++) {
        int first = block_column(w.lane, n, 0);
        Two lse_pair = *(const Two*)(lse + first), delta_pair = *(const Two*)(delta + first);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float probability = exp2_fast(p[n][i] * (s.scale * LOG2E) - lse_pair.at[i % 2]);
            p[n][i] = first + i % 2 >= from[i / 2] ? probability : 0.0f;
            ds[n][i] = p[n][i] * (ds[n][i] - delta_pair.at[i % 2]);
        }
    }
    block_by_rows<D>(own.dv, p, g, room, w.lane);
    block_by_rows<D>(own.dk, ds, q, room, w.lane);
}

// Writes dk and dv of the 16 keys from `key` on, through rows of shared memory that only this warp reads.
template <int D> DEV void store_keys(real* grad_qkv, const Keys<D>& own, int key, real* room, const Work& w, const Shape& s) {
    real* to = grad_qkv + w.input + (size_t)key * w.input_row + w.output_row;
    store_sum<D>(to, w.input_row, own.dk, s.scale, s.scale, room, w.tokens - key, w);
    store_sum<D>(to + w.output_row, w.input_row, own.dv, 1.0f, 1.0f, room, w.tokens - key, w);
}
template <int D>
DEV void store_queries(real* grad_qkv, const float (&dq)[D / 8][4], int query, real* room, const Work& w, const Shape& s) {
    real* to = grad_qkv + w.input + (size_t)query * w.input_row;
    store_sum<D>(to, w.input_row, dq, s.scale, s.scale, room, w.tokens - query, w);
}

template <int D>
DEV void backward_whole(const real* qkv, const real* out, const real* grad_out, const float* lse, real* grad_qkv, const Shape& s) {
    constexpr int stride = D + WIDE;
    DYN_SHARED(char, memory);
    Work w = work_of(s, are_aligned(qkv, out, grad_out, grad_qkv));
    int rows = 16 * s.warps, ds_stride = rows + WIDE;
    int bytes = rows * ((4 * stride + ds_stride) * (int)sizeof(real) + 8) + s.warps * ROOM * 4;
    real* q = (real*)(memory + w.group * bytes);
    real *k = q + rows * stride, *v = k + rows * stride, *g = v + rows * stride, *ds_rows = g + rows * stride;
    float *lse_rows = (float*)(ds_rows + rows * ds_stride), *delta = lse_rows + rows, *room = delta + rows + w.warp * ROOM;
    for (int part = 0; part < 3; part++) load_part<D>(q + part * rows * stride, qkv, part, 0, rows, w);
    load_grad_out<D>(g, grad_out, 0, rows, w);
    copy_async_commit();

    int own = 16 * w.warp;
    Pieces<D> pieces;
    read_pieces(pieces, out, own, w);
    if (w.thread < rows) lse_rows[w.thread] = w.thread < w.tokens ? lse[w.stats + w.thread] * LOG2E : 0.0f;
    copy_async_wait<0>();
    __syncthreads();
    float row_delta = delta_of(pieces, g + own * stride, w.lane);
    if (w.lane % 2 == 0) delta[own + w.lane / 2] = row_delta;
    __syncthreads();

    int blocks = (w.tokens + 15) / 16;
    real* own_rows = v + own * stride;
    if (own < w.tokens) {
        Keys<D> sums;
        begin(sums, k + own * stride, own_rows, w.lane);
#pragma unroll 1
        for (int b = s.causal ? w.warp : 0; b < blocks; b++) {
            int query = 16 * b;
            float ds[2][4];
            add_queries(sums, ds, q + query * stride, g + query * stride, lse_rows + query, delta + query, query, own, room, w, s);
            real* at = ds_rows + (own + w.lane / 4) * ds_stride + query + 2 * (w.lane % 4);
#pragma unroll
            for (int n = 0; n < 2; n++) {
                put_pair(at + 8 * n, ds[n][0], ds[n][1]);
                put_pair(at + 8 * n + 8 * ds_stride, ds[n][2], ds[n][3]);
            }
        }
        store_keys(grad_qkv, sums, own, own_rows, w, s);
    }
    __syncthreads();
    if (own >= w.tokens) return;
    float dq[D / 8][4];
    clear(dq);
    if (s.causal) blocks = w.warp + 1;
#pragma unroll 1
    for (int b = 0; b < blocks; b++)
        transposed_by_rows<D>(dq, ds_rows + 16 * b * ds_stride + own, ds_stride, k + 16 * b * stride, w.lane);
    store_queries<D>(grad_qkv, dq, own, own_rows, w, s);
}

// Rows of the tiles that a group of the two kernels below goes through, two in shared memory at a time.
#define STEP (D * (int)sizeof(real) > 128 ? 32 : 64)

template <int D>
DEV void backward_queries(const real* qkv, const real* out, const real* grad_out, const float* lse, float* delta, real* grad_qkv,
                          const Shape& s) {
    constexpr int stride = D + WIDE;
    DYN_SHARED(char, memory);
    Work w = work_of(s, are_aligned(qkv, out, grad_out, grad_qkv));
    int rows = 16 * s.warps;
    real* q = (real*)memory;
    real *g = q + rows * stride, *tiles = g + rows * stride;
    float* room = (float*)(tiles + 4 * STEP * stride) + w.warp * ROOM;
    auto load_keys = [&](int first, int turn) {
        for (int part = 1; part < 3; part++) load_part<D>(tiles + (2 * turn + part - 1) * STEP * stride, qkv, part, first, STEP, w);
    };
    load_part<D>(q, qkv, 0, w.first, rows, w);
    load_grad_out<D>(g, grad_out, w.first, rows, w);
    load_keys(0, 0);
    copy_async_commit();

    int own = w.first + 16 * w.warp, there = w.tokens - own;
    real* own_rows = q + 16 * w.warp * stride;
    Pieces<D> pieces;
    read_pieces(pieces, out, own, w);
    float row_lse[2], row_delta[2], dq[D / 8][4];
    clear(dq);
    copy_async_wait<0>();
    __syncthreads();
    Left<D, KEEP_LEFT> left_q, left_g;
    take(left_q, own_rows, w.lane);
    take(left_g, g + 16 * w.warp * stride, w.lane);
    float sum = delta_of(pieces, g + 16 * w.warp * stride, w.lane);
    if (w.lane % 2 == 0 && w.lane / 2 < there) delta[w.stats + own + w.lane / 2] = sum;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = w.lane / 4 + 8 * h;
        row_lse[h] = row < there ? lse[w.stats + own + row] * LOG2E : 0.0f;
        row_delta[h] = __shfl_sync(0xffffffffu, sum, 2 * row);
    }
    int end = s.causal ? min(s.tokens, w.first + rows) : s.tokens;
    for (int first = 0, turn = 0; first < end; first += STEP, turn ^= 1) {
        // The other tile was read before the last barrier.
        if (first + STEP < end) load_keys(first + STEP, turn ^ 1);
        copy_async_commit();
        int seen = visible_blocks(own, first, STEP, w, s.causal);
#pragma unroll 1
        for (int b = 0; b < seen; b++) {
            const real *k = tiles + (2 * turn * STEP + 16 * b) * stride, *v = k + STEP * stride;
            float p[2][4], ds[2][4];
            clear(p);
            clear(ds);
            by_rows(p, left_q, k, w.lane);
            by_rows(ds, left_g, v, w.lane);
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int key = first + 16 * b + block_column(w.lane, n, i);
                    bool hidden = key >= w.tokens || (s.causal && key > own + block_row(w.lane, i));
                    float probability = hidden ? 0.0f : exp2_fast(p[n][i] * (s.scale * LOG2E) - row_lse[i / 2]);
                    ds[n][i] = probability * (ds[n][i] - row_delta[i / 2]);
                }
            block_by_rows<D>(dq, ds, k, room, w.lane);
        }
        copy_async_wait<0>();
        __syncthreads();
    }
    if (there > 0) store_queries<D>(grad_qkv, dq, own, own_rows, w, s);
}

template <int D>
DEV void backward_keys(const real* qkv, const real* grad_out, const float* lse, const float* delta, real* grad_qkv, const Shape& s) {
    constexpr int stride = D + WIDE;
    DYN_SHARED(char, memory);
    Work w = work_of(s, are_aligned(qkv, grad_out, grad_qkv));
    int rows = 16 * s.warps;
    real* k = (real*)memory;
    real *v = k + rows * stride, *tiles = v + rows * stride;
    float *stats = (float*)(tiles + 4 * STEP * stride), *room = stats + 4 * STEP + w.warp * ROOM;
    auto load_queries = [&](int first, int turn) {
        real* to = tiles + 2 * turn * STEP * stride;
        load_part<D>(to, qkv, 0, first, STEP, w);
        load_grad_out<D>(to + STEP * stride, grad_out, first, STEP, w);
        float* two = stats + 2 * turn * STEP;
        for (int i = w.thread; i < STEP; i += w.threads) {
            bool there = first + i < w.tokens;
            two[i] = there ? lse[w.stats + first + i] * LOG2E : 0.0f;
            two[STEP + i] = there ? delta[w.stats + first + i] : 0.0f;
        }
    };
    load_part<D>(k, qkv, 1, w.first, rows, w);
    load_part<D>(v, qkv, 2, w.first, rows, w);
    int start = s.causal ? w.first / STEP * STEP : 0;
    load_queries(start, 0);
    copy_async_commit();

    int own = w.first + 16 * w.warp;
    real* own_rows = v + 16 * w.warp * stride;
    copy_async_wait<0>();
    __syncthreads();
    Keys<D> sums;
    begin(sums, k + 16 * w.warp * stride, own_rows, w.lane);
    for (int first = start, turn = 0; first < s.tokens; first += STEP, turn ^= 1) {
        // The other tile was read before the last barrier.
        if (first + STEP < s.tokens) load_queries(first + STEP, turn ^ 1);
        copy_async_commit();
        int blocks = own < w.tokens ? (min(STEP, w.tokens - first) + 15) / 16 : 0;
#pragma unroll 1
        for (int b = s.causal ? max(0, own - first) / 16 : 0; b < blocks; b++) {
            const real *q = tiles + (2 * turn * STEP + 16 * b) * stride, *g = q + STEP * stride;
            const float* two = stats + 2 * turn * STEP + 16 * b;
            float ds[2][4];
            add_queries(sums, ds, q, g, two, two + STEP, first + 16 * b, own, room, w, s);
        }
        copy_async_wait<0>();
        __syncthreads();
    }
    if (own < w.tokens) store_keys(grad_qkv, sums, own, own_rows, w, s);
}

// Blocks that must fit a multiprocessor: two (of 128 registers a thread) where rows are short.
#if defined(REAL_BF16) && HEAD_DIM <= 64
#define FIT 2
#else
#define FIT 1
#endif
#if defined(REAL_BF16) && HEAD_DIM <= 32
#define FIT_KEYS 2
#else
#define FIT_KEYS 1
#endif
#define SHAPE u32 pairs, u32 heads, u32 tokens, u32 dim, u32 causal, u32 warps, float scale
#define THE_SHAPE {pairs, heads, (int)tokens, (int)dim, (int)causal, (int)warps, scale}
#define READ const real* __restrict__
#define STATS const float* __restrict__

KERNEL(256, FIT) attention_forward(READ qkv, real* __restrict__ out, float* __restrict__ lse, SHAPE) {
    forward<HEAD_DIM>(qkv, out, lse, THE_SHAPE);
}
KERNEL(256, FIT) attention_backward(READ qkv, READ out, READ grad_out, STATS lse, real* __restrict__ grad_qkv, SHAPE) {
    backward_whole<HEAD_DIM>(qkv, out, grad_out, lse, grad_qkv, THE_SHAPE);
}
KERNEL(256, FIT) attention_backward_queries(READ qkv, READ out, READ grad_out, STATS lse, float* __restrict__ delta,
                                            real* __restrict__ grad_qkv, SHAPE) {
    backward_queries<HEAD_DIM>(qkv, out, grad_out, lse, delta, grad_qkv, THE_SHAPE);
}
KERNEL(256, FIT_KEYS) attention_backward_keys(READ qkv, READ grad_out, STATS lse, STATS delta, real* __restrict__ grad_qkv, SHAPE) {
    backward_keys<HEAD_DIM>(qkv, grad_out, lse, delta, grad_qkv, THE_SHAPE);
}
