// Pixels to patch rows and patch rows to tokens: which patches a sample keeps, random crops, cutting and normalising, positions
// and class token, and the gradients of the last two.
//   keep_sets   keep[b] = the `kept` smallest of (word p of Philox at (step, b), p) over the patches p, ascending in p
//   cut         rows[b, j, (c, y, x)] = (pixel / 255 - mean_c) / std_c of patch keep[b, j] (or j) of image index[b] (or b)
//   crop_flip   antialiased bicubic (Catmull-Rom) resampling of a crop to S x S, along rows first, weights of 16 bits, each
//               direction rounded to bytes, as PIL's resize does; mirrored where asked
//   place       tokens[b, 0] = class + positions[0] where there is a class token; after it
//               tokens[b, j] = rows[b, j] + positions[keep[b, j]]
//   unplace_*   grad_rows = the patches' part of grad_tokens, rounded; grad_class = sum over b of grad_tokens[b, 0];
//               grad_positions[p] = sum of grad_tokens over the samples that kept p
// Arguments: pixels u8[N, S, S, 3] (into crop_flip pictures of any size, which begin at multiples of `unit` pixels); index
// u32[B] or null; places u32[B] in units; step u32[2] (low, high); keep u32[B, kept] or null (all, in order); rows
// real[B kept, 3PP] out of cut, float[B kept, C] into place; crops float[B, 6] (left, top, width, height, 1 where mirrored,
// pixels of a row); positions float[G (+ 1), C]; tokens, grad_tokens float[B, T, C] with T = kept (+ 1); grad_rows
// real[B kept, C].
// Decomposition: keep_sets a block a sample, the rank of a patch counted in shared memory. cut, crop_flip, place, unplace_rows:
// a thread handles a few adjacent pixels (all channels) or columns, flat over everything. unplace_sums: a block sums a column
// tile of one position over a slab of samples (those that kept it are listed first, found by bisection); unplace_merge adds
// the slabs up.
// Arithmetic in float, every operation of cut and of the crop's taps rounded by itself, so that they give the bits of the CPU.
// Gradient convention: grad_rows is overwritten; class and positions are added to or overwritten (`add`).
// CPU reference: src/trainer/ops/patchify/mod.rs, src/trainer/strategy.rs, src/data/augment.rs,
// src/trainer/blocks/patch_embed.rs. Test: src/trainer/check/patchify.rs. Source: Li et al. 2023 (FLIP) for random keep-sets.
#include "common.cuh"

#define THREADS 256
#define NONE 0xffffffffu

// Place of this thread among those of the block whose `flag` is set, in thread order; `total` is their number. `counts` holds a
// word a warp. All threads of the block call it.
DEV u32 place_among(bool flag, u32* counts, u32& total) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 ballot = __ballot_sync(0xffffffffu, flag), before = __popc(ballot & ((1u << lane) - 1));
    if (lane == 0) counts[warp] = __popc(ballot);
    __syncthreads();
    total = 0;
    for (u32 w = 0; w < blockDim.x / 32; w++) {
        if (w < warp) before += counts[w];
        total += counts[w];
    }
    __syncthreads();
    return before;
}

// Words of `draws` in [from, to) that come before `draw`; both ends are multiples of 4.
template <bool TIES_TOO> DEV u32 count_before(const u32* draws, u32 from, u32 to, u32 draw) {
    u32 count = 0;
    for (u32 q = from; q < to; q += 4) {
        Pack<u32, 4> four = *(const Pack<u32, 4>*)(draws + q);
#pragma unroll
        for (int i = 0; i < 4; i++) count += TIES_TOO ? four.at[i] <= draw : four.at[i] < draw;
    }
    return count;
}

KERNEL(THREADS) patchify_keep_sets(u32 patches, u32 kept, u32 k0, u32 k1, const u32* __restrict__ step, u32* __restrict__ keep) {
    // The draws, filled up to a whole number of warps with words that come before nothing.
    DYN_SHARED(u32, draws);
    __shared__ u32 counts[THREADS / 32];
    u32 filled = (patches + 31) / 32 * 32, step_low = step[0], step_high = step[1];
    for (u32 block = threadIdx.x; block < filled / 4; block += blockDim.x) {
        Words words = philox(block, blockIdx.x, step_low, step_high, k0, k1);
        for (u32 i = 0; i < 4; i++) draws[4 * block + i] = 4 * block + i < patches ? words.at[i] : NONE;
    }
    __syncthreads();
    u32 written = 0;
    for (u32 first = 0; first < filled; first += blockDim.x) {
        u32 patch = first + threadIdx.x, warp_first = patch / 32 * 32;
        bool is_kept = false;
        if (warp_first < filled) {
            u32 draw = draws[patch], rank = count_before<true>(draws, 0, warp_first, draw);
            for (u32 q = warp_first; q < warp_first + 32; q++) rank += q < patch ? draws[q] <= draw : draws[q] < draw;
            rank += count_before<false>(draws, warp_first + 32, filled, draw);
            is_kept = patch < patches && rank < kept;
        }
        u32 total, place = place_among(is_kept, counts, total);
        if (is_kept) keep[(size_t)blockIdx.x * kept + written + place] = patch;
        written += total;
    }
}

// Three bytes a pixel of N adjacent pixels, whose address is a multiple of N.
template <int N> DEV void load_pixels(u8 (&bytes)[3 * N], const u8* from) {
#pragma unroll
    for (int part = 0; part < 3; part++) {
        Pack<u8, N> pack = *(const Pack<u8, N>*)(from + part * N);
#pragma unroll
        for (int i = 0; i < N; i++) bytes[part * N + i] = pack.at[i];
    }
}

struct Channels {
    float mean[3], std[3];
};

template <int N>
DEV void cut(const u8* pixels, const u32* index, const u32* keep, real* rows, u32 side, u32 patch, u32 kept, u32 num_rows,
             const Channels& channels) {
    u32 i = blockIdx.x * THREADS + threadIdx.x, line = patch / N, area = patch * patch, row = i / (patch * line);
    if (row >= num_rows) return;
    u32 unit = i % (patch * line), y = unit / line, x = unit % line * N, sample = row / kept, grid = side / patch;
    u32 from = keep ? keep[row] : row % kept, image = index ? index[sample] : sample;
    u8 bytes[3 * N];
    load_pixels<N>(bytes, pixels + (((size_t)image * side + from / grid * patch + y) * side + from % grid * patch + x) * 3);
    real* to = rows + (size_t)row * 3 * area + y * patch + x;
#pragma unroll
    for (int c = 0; c < 3; c++) {
        float values[N];
#pragma unroll
        for (int i = 0; i < N; i++)
            values[i] = __fdiv_rn(__fsub_rn(__fdiv_rn((float)bytes[3 * i + c], 255.0f), channels.mean[c]), channels.std[c]);
        store_pack<N>(to + c * area, values);
    }
}

// `pack` adjacent pixels of a patch's line a thread: 8, 4, 2 or 1.
KERNEL(THREADS) patchify_cut(const u8* __restrict__ pixels, const u32* __restrict__ index, const u32* __restrict__ keep,
                             real* __restrict__ rows, u32 side, u32 patch, u32 kept, u32 num_rows, float mean0, float mean1,
                             float mean2, float std0, float std1, float std2, u32 pack) {
    Channels channels = {{mean0, mean1, mean2}, {std0, std1, std2}};
    if (pack == 8) cut<8>(pixels, index, keep, rows, side, patch, kept, num_rows, channels);
    else if (pack == 4) cut<4>(pixels, index, keep, rows, side, patch, kept, num_rows, channels);
    else if (pack == 2) cut<2>(pixels, index, keep, rows, side, patch, kept, num_rows, channels);
    else cut<1>(pixels, index, keep, rows, side, patch, kept, num_rows, channels);
}

// Pixels of a direction that an output pixel is made of at most: crops are up to 9.5 output sides long.
#define TAPS 40

// Adjacent source pixels of one output coordinate and their weights, which sum to about 2^16.
struct Taps {
    u32 first, count;
    int weights[TAPS];
};
DEV float catmull_rom(float at) {
    float x = fabsf(at);
    if (x < 1.0f) return __fadd_rn(__fmul_rn(__fmul_rn(__fsub_rn(__fmul_rn(1.5f, x), 2.5f), x), x), 1.0f);
    if (x < 2.0f) {
        float square = __fsub_rn(__fmul_rn(__fsub_rn(5.0f, x), x), 8.0f);
        return __fmul_rn(__fadd_rn(__fmul_rn(square, x), 4.0f), 0.5f);
    }
    return 0.0f;
}
DEV float tap_weight(u32 pixel, float centre, float inverse) {
    return catmull_rom(__fmul_rn(__fadd_rn(__fsub_rn((float)pixel, centre), 0.5f), inverse));
}
DEV void fill_taps(Taps& taps, u32 output, float start, float length, u32 side) {
    float scale = __fdiv_rn(length, (float)side), coarser = fmaxf(scale, 1.0f);
    float inverse = __fdiv_rn(1.0f, coarser), reach = __fmul_rn(2.0f, coarser);
    float centre = __fadd_rn(start, __fmul_rn(__fadd_rn((float)output, 0.5f), scale));
    taps.first = (u32)fmaxf(__fadd_rn(__fsub_rn(centre, reach), 0.5f), floorf(start));
    u32 end = (u32)fminf(__fadd_rn(__fadd_rn(centre, reach), 0.5f), ceilf(__fadd_rn(start, length)));
    taps.count = min(end - taps.first, (u32)TAPS);
    float sum = 0.0f;
    for (u32 i = 0; i < taps.count; i++) sum = __fadd_rn(sum, tap_weight(taps.first + i, centre, inverse));
    float to_fixed = __fdiv_rn(65536.0f, sum);
    for (u32 i = 0; i < taps.count; i++) {
        float weight = __fmul_rn(tap_weight(taps.first + i, centre, inverse), to_fixed);
        taps.weights[i] = (int)__fadd_rn(weight, weight < 0.0f ? -0.5f : 0.5f);
    }
}
DEV int rounded_byte(int sum) { return min(max((sum + (1 << 15)) >> 16, 0), 255); }

template <int N>
DEV void crop_flip(u32 side, u32 unit, u32 num_lines, const u8* pixels, const u32* places, const float* crops, u8* out) {
    u32 i = blockIdx.x * THREADS + threadIdx.x, line = i / (side / N);
    if (line >= num_lines) return;
    u32 first = i % (side / N) * N, sample = line / side;
    const float* crop = crops + (size_t)sample * 6;
    bool is_flipped = crop[4] != 0.0f;
    u32 row_bytes = (u32)crop[5] * 3;
    const u8* image = pixels + (size_t)places[sample] * unit * 3;
    Taps rows, columns;
    fill_taps(rows, line % side, crop[1], crop[3], side);
    u8 bytes[3 * N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        u32 x = first + i;
        fill_taps(columns, is_flipped ? side - 1 - x : x, crop[0], crop[2], side);
        int sums[3] = {0, 0, 0};
        for (u32 row = 0; row < rows.count; row++) {
            const u8* from = image + (size_t)(rows.first + row) * row_bytes + columns.first * 3;
            int narrowed[3] = {0, 0, 0};
            for (u32 column = 0; column < columns.count; column++) {
                int weight = columns.weights[column];
                for (int c = 0; c < 3; c++) narrowed[c] += (int)from[column * 3 + c] * weight;
            }
            for (int c = 0; c < 3; c++) sums[c] += rounded_byte(narrowed[c]) * rows.weights[row];
        }
        for (int c = 0; c < 3; c++) bytes[3 * i + c] = (u8)rounded_byte(sums[c]);
    }
    u8* to = out + ((size_t)line * side + first) * 3;
#pragma unroll
    for (int part = 0; part < 3; part++) {
        Pack<u8, N> pack;
#pragma unroll
        for (int i = 0; i < N; i++) pack.at[i] = bytes[part * N + i];
        *(Pack<u8, N>*)(to + part * N) = pack;
    }
}

// `pack` adjacent pixels a thread: 4 or 1. `num_lines` is B S.
KERNEL(THREADS) patchify_crop_flip(u32 side, u32 unit, u32 num_lines, const u8* __restrict__ pixels,
                                   const u32* __restrict__ places, const float* __restrict__ crops, u8* __restrict__ out, u32 pack) {
    if (pack == 4) crop_flip<4>(side, unit, num_lines, pixels, places, crops, out);
    else crop_flip<1>(side, unit, num_lines, pixels, places, crops, out);
}

template <int N>
DEV void place(const float* rows, const u32* keep, const float* class_token, const float* positions, float* tokens, u32 kept,
               u32 num_tokens, u32 width) {
    u32 i = blockIdx.x * THREADS + threadIdx.x, row = i / (width / N), column = i % (width / N) * N;
    if (row >= num_tokens) return;
    u32 first = class_token ? 1 : 0, sample = row / (kept + first), token = row % (kept + first), position = 0;
    const float* from = class_token;
    if (token >= first) {
        size_t patch_row = (size_t)sample * kept + (token - first);
        from = rows + patch_row * width;
        position = first + (keep ? keep[patch_row] : token - first);
    }
    float value[N], offset[N];
    load_pack<N>(value, from + column);
    load_pack<N>(offset, positions + (size_t)position * width + column);
#pragma unroll
    for (int i = 0; i < N; i++) value[i] += offset[i];
    store_pack<N>(tokens + (size_t)row * width + column, value);
}

// `pack` adjacent columns a thread: 4 or 1. `num_tokens` is B T.
KERNEL(THREADS) patchify_place(const float* __restrict__ rows, const u32* __restrict__ keep, const float* __restrict__ class_token,
                               const float* __restrict__ positions, float* __restrict__ tokens, u32 kept, u32 num_tokens,
                               u32 width, u32 pack) {
    if (pack == 4) place<4>(rows, keep, class_token, positions, tokens, kept, num_tokens, width);
    else place<1>(rows, keep, class_token, positions, tokens, kept, num_tokens, width);
}

template <int N> DEV void unplace_rows(const float* grad_tokens, real* grad_rows, u32 kept, u32 first, u32 num_rows, u32 width) {
    u32 i = blockIdx.x * THREADS + threadIdx.x, row = i / (width / N), column = i % (width / N) * N;
    if (row >= num_rows) return;
    float value[N];
    size_t token = (size_t)(row / kept) * (kept + first) + first + row % kept;
    load_pack<N>(value, grad_tokens + token * width + column);
    store_pack<N>(grad_rows + (size_t)row * width + column, value);
}

// `first` is 1 where the first token is the class token, else 0. `num_rows` is B kept.
KERNEL(THREADS) patchify_unplace_rows(const float* __restrict__ grad_tokens, real* __restrict__ grad_rows, u32 kept, u32 first,
                                      u32 num_rows, u32 width, u32 pack) {
    if (pack == 4) unplace_rows<4>(grad_tokens, grad_rows, kept, first, num_rows, width);
    else unplace_rows<1>(grad_tokens, grad_rows, kept, first, num_rows, width);
}

// Place of `patch` in an ascending list, or NONE.
DEV u32 find(const u32* list, u32 len, u32 patch) {
    u32 low = 0, high = len;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (list[middle] < patch) low = middle + 1;
        else high = middle;
    }
    return low < len && list[low] == patch ? low : NONE;
}

template <int N>
DEV void unplace_sums(const float* grad_tokens, const u32* keep, float* parts, u32 samples, u32 kept, u32 first, u32 width,
                      u32 slab, u32 tiles) {
    __shared__ u32 list[THREADS], counts[THREADS / 32];
    __shared__ float room[THREADS * N];
    u32 positions = gridDim.x / tiles, position = blockIdx.x / tiles;
    ColumnTile tile = tile_of<N>(width, blockIdx.x % tiles, THREADS);
    u32 end = min(samples, (blockIdx.y + 1) * slab);
    float sum[N] = {};
    for (u32 from = blockIdx.y * slab; from < end; from += THREADS) {
        u32 sample = from + threadIdx.x, token = NONE;
        if (sample < end) {
            token = position;
            if (keep && position >= first) {
                u32 found = find(keep + (size_t)sample * kept, kept, position - first);
                token = found == NONE ? NONE : first + found;
            }
        }
        u32 total, at = place_among(token != NONE, counts, total);
        if (token != NONE) list[at] = sample * (kept + first) + token;
        __syncthreads();
        if (tile.column < width) {
#pragma unroll 4
            for (u32 i = tile.group; i < total; i += tile.groups) {
                float value[N];
                load_pack<N>(value, grad_tokens + (size_t)list[i] * width + tile.column);
                for (int n = 0; n < N; n++) sum[n] += value[n];
            }
        }
        // The list is written again only after the barriers of place_among.
    }
    sum_groups<N>(sum, tile, room);
    if (tile.group == 0 && tile.column < width)
        store_pack<N>(parts + ((size_t)blockIdx.y * positions + position) * width + tile.column, sum);
}

// Grid: (positions x column tiles, slabs). parts float[slabs, positions, C].
KERNEL(THREADS) patchify_unplace_sums(const float* __restrict__ grad_tokens, const u32* __restrict__ keep,
                                      float* __restrict__ parts, u32 samples, u32 kept, u32 first, u32 width, u32 slab, u32 tiles,
                                      u32 pack) {
    if (pack == 4) unplace_sums<4>(grad_tokens, keep, parts, samples, kept, first, width, slab, tiles);
    else unplace_sums<1>(grad_tokens, keep, parts, samples, kept, first, width, slab, tiles);
}

// `len` is positions x C; the first C sums are those of the class token too, where there is one.
KERNEL(PART_THREADS) patchify_unplace_merge(const float* __restrict__ parts, u32 num, u32 len, u32 groups,
                                            float* __restrict__ grad_class, float* __restrict__ grad_positions, u32 width,
                                            u32 add) {
    u32 i;
    float sum;
    if (!sum_parts(parts, num, len, groups, i, sum)) return;
    grad_positions[i] = add ? grad_positions[i] + sum : sum;
    if (grad_class && i < width) grad_class[i] = add ? grad_class[i] + sum : sum;
}
