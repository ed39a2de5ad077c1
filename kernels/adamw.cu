// One step of AdamW over the flat parameters.
//   g = clip grad; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2
//   p = keep p - lr (m unbias1) / (sqrt(v unbias2) + eps)          keep is 1 where a piece has no weight decay,
//                                                                  else the host's TrainConfig::decay_factor
// Arguments: pieces Piece[gridDim.x] (common.cuh); params, m, v float, grads float, shadow real or null, all flat with the
// same offsets, first elements at multiples of 16 bytes; controls, report float[8]. shadow is p once more, rounded.
// Decomposition: a block a piece, 4 adjacent elements a thread and pass. Arithmetic in float, operation by operation as on the
// CPU: no order of sums is involved.
// Gradient convention: grads is read and not changed; the clip factor of the report is applied on the way. Nothing is written
// where the report says unfit, and nothing outside the pieces ever (padding between parameters stays zero).
// CPU reference: src/trainer/ops/adamw/cpu.rs. Test: src/trainer/check/adamw.rs. Source: Loshchilov and Hutter, ICLR 2019.
#include "common.cuh"

struct Factors {
    float beta1, beta2, eps, clip, lr, keep, unbias1, unbias2;
};

// `count` adjacent elements, at most 4.
DEV void update(const Factors& f, size_t at, u32 count, float* params, const float* grads, float* m, float* v, real* shadow) {
    Pack<float, 4> g = load_some(grads + at, count), p = load_some(params + at, count);
    Pack<float, 4> means = load_some(m + at, count), squares = load_some(v + at, count);
    Pack<real, 4> rounded;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float x = f.clip * g.at[i];
        float mean = fmaf(f.beta1, means.at[i], (1.0f - f.beta1) * x);
        float square = fmaf(f.beta2, squares.at[i], (1.0f - f.beta2) * (x * x));
        float step = (mean * f.unbias1) / (sqrtf(square * f.unbias2) + f.eps);
        p.at[i] = fmaf(-f.lr, step, f.keep * p.at[i]);
        means.at[i] = mean;
        squares.at[i] = square;
        put(&rounded.at[i], p.at[i]);
    }
    store_some(params + at, p, count);
    store_some(m + at, means, count);
    store_some(v + at, squares, count);
    if (shadow) store_some(shadow + at, rounded, count);
}

KERNEL(256)
adamw_update(const Piece* __restrict__ pieces, float* __restrict__ params, const float* __restrict__ grads, float* __restrict__ m,
             float* __restrict__ v, real* __restrict__ shadow, const float* __restrict__ controls,
             const float* __restrict__ report, float beta1, float beta2, float eps) {
    Piece piece = pieces[blockIdx.x];
    if (report[REPORT_UNFIT] != 0.0f) return;
    Factors f = {beta1, beta2, eps, report[REPORT_CLIP], controls[CONTROL_LR], piece.decays ? controls[CONTROL_KEEP] : 1.0f,
                 controls[CONTROL_UNBIAS1], controls[CONTROL_UNBIAS2]};
    for (u32 i = threadIdx.x * 4; i < piece.len; i += 1024)
        update(f, (size_t)piece.offset + i, piece.len - i, params, grads, m, v, shadow);
}
