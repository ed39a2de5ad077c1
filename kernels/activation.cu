// Activations of an MLP, element by element.
//   gelu        x Phi(x)                                       slope Phi(x) + x phi(x), phi the normal density
//   gelu_tanh   x s(2 sqrt(2 / pi) (x + 0.044715 x^3))         with s the logistic function
//   quick_gelu  x s(1.702 x)
// Arguments: x, y, grad real[len]; kind 0, 1, 2 in the order above.
// Decomposition: a thread handles 8 adjacent elements. Arithmetic in float.
// Gradient convention: grad holds dL/dy on entry and dL/dx on return; y is written again, since the weight gradient needs it.
// CPU reference: src/trainer/ops/activation/cpu.rs. Test: src/trainer/check/activation.rs. Source: Hendrycks and Gimpel 2016; OpenAI
// CLIP for quick_gelu.
#include "common.cuh"

#define PER_THREAD 8


// f(x) and, in `slope`, its derivative.
DEV float activate(int kind, float x, float& slope) {
    if (kind == 0) {
        // Phi(-|x|) = phi(x) p(t), t = 1 / (1 + c |x|): formula 7.1.26 of Abramowitz and Stegun for erf, 1.5e-7 at most.
        float density = 0.39894228f * exp2_fast(-0.5f * LOG2E * x * x), t = reciprocal_fast(fmaf(0.23164190f, fabsf(x), 1.0f));
        float p = t * fmaf(t, fmaf(t, fmaf(t, fmaf(t, 1.33027443f, -1.82125598f), 1.78147794f), -0.35656378f), 0.31938153f);
        float tail = density * p, share = x >= 0 ? 1.0f - tail : tail;
        slope = fmaf(x, density, share);
        return x * share;
    }
    float inner = kind == 1 ? 1.5957691f * (x + 0.044715f * x * x * x) : 1.702f * x;
    float inner_slope = kind == 1 ? 1.5957691f * (1.0f + 0.134145f * x * x) : 1.702f;
    float s = reciprocal_fast(1.0f + exp2_fast(-LOG2E * inner));
    slope = s + x * s * (1.0f - s) * inner_slope;
    // Far out the slope of the inner function overflows while s (1 - s) is 0.
    if (fabsf(inner) > 60.0f) slope = s;
    return x * s;
}

template <bool BACKWARD> DEV void one(const real& x, real& y, real& grad, int kind) {
    float slope;
    put(&y, activate(kind, widen(x), slope));
    if (BACKWARD) put(&grad, widen(grad) * slope);
}

template <bool BACKWARD> DEV void run(const real* x, real* y, real* grad, int kind, u32 len) {
    typedef Pack<real, PER_THREAD> Eight;
    u32 first = (blockIdx.x * blockDim.x + threadIdx.x) * PER_THREAD;
    if (first + PER_THREAD <= len) {
        Eight xs = *(const Eight*)(x + first), ys, grads;
        if (BACKWARD) grads = *(const Eight*)(grad + first);
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) one<BACKWARD>(xs.at[i], ys.at[i], grads.at[i], kind);
        *(Eight*)(y + first) = ys;
        if (BACKWARD) *(Eight*)(grad + first) = grads;
        return;
    }
    for (u32 i = first; i < len; i++) one<BACKWARD>(x[i], y[i], BACKWARD ? grad[i] : y[i], kind);
}

KERNEL(256) activation_forward(const real* __restrict__ x, real* __restrict__ y, int kind, u32 len) {
    run<false>(x, y, nullptr, kind, len);
}

KERNEL(256) activation_backward(const real* __restrict__ x, real* __restrict__ y, real* __restrict__ grad, int kind, u32 len) {
    run<true>(x, y, grad, kind, len);
}
