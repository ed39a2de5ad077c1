// A bias rounded for a product with a bf16 output: out[i] = bf16(bias[i]), to nearest, ties to even.
// Arguments: bias float[len]; out bf16[len], whatever `real` is; len.
// Decomposition: one element a thread. No sums.
// Gradient convention: none; the gradient goes to the unrounded bias.
// CPU reference: src/trainer/ops/bias/mod.rs (none needed). Test: tests/emu/bias.rs. Source: CUBLASLT_EPILOGUE_BIAS takes a bias of the output's
// type (cuBLAS documentation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE).
#include "common.cuh"

KERNEL(256) bias_round(const float* __restrict__ bias, bf16* __restrict__ out, u32 len) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < len) put(out + i, bias[i]);
}
