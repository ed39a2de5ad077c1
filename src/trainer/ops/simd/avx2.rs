//! Vectors of 8 floats with fused multiply-add.

use std::arch::x86_64::*;

use super::Simd;

/// Proof that this CPU has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    type V = __m256;
    type Mask = __m256i;

    on_registers! {
        fn splat(self, x: f32) -> __m256 {
            _mm256_set1_ps(x)
        }
        fn add(self, a: __m256, b: __m256) -> __m256 {
            _mm256_add_ps(a, b)
        }
        fn sub(self, a: __m256, b: __m256) -> __m256 {
            _mm256_sub_ps(a, b)
        }
        fn mul(self, a: __m256, b: __m256) -> __m256 {
            _mm256_mul_ps(a, b)
        }
        fn div(self, a: __m256, b: __m256) -> __m256 {
            _mm256_div_ps(a, b)
        }
        fn sqrt(self, a: __m256) -> __m256 {
            _mm256_sqrt_ps(a)
        }
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            _mm256_fmadd_ps(a, b, c)
        }
        fn neg_mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            _mm256_fnmadd_ps(a, b, c)
        }
        fn max(self, a: __m256, b: __m256) -> __m256 {
            _mm256_max_ps(a, b)
        }
        fn min(self, a: __m256, b: __m256) -> __m256 {
            _mm256_min_ps(a, b)
        }
        fn round(self, a: __m256) -> __m256 {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        fn scale_by_power(self, m: __m256, n: __m256) -> __m256 {
            // 2^n has the exponent field n + 127.
            let bits = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
            _mm256_mul_ps(m, _mm256_castsi256_ps(bits))
        }
        fn where_positive(self, x: __m256, a: __m256, b: __m256) -> __m256 {
            _mm256_blendv_ps(a, b, x)
        }
        fn sum(self, a: __m256) -> f32 {
            let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
        fn keep(self, v: __m256, mask: __m256i) -> __m256 {
            _mm256_and_ps(v, _mm256_castsi256_ps(mask))
        }
        fn drop(self, v: __m256, mask: __m256i) -> __m256 {
            _mm256_andnot_ps(_mm256_castsi256_ps(mask), v)
        }
        fn split(self, a: __m256) -> (__m256, __m256) {
            let bits = _mm256_castps_si256(a);
            let n = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(127));
            let m = _mm256_or_si256(_mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff)), _mm256_set1_epi32(0x3f80_0000));
            (_mm256_castsi256_ps(m), _mm256_cvtepi32_ps(n))
        }
    }

    #[inline(always)]
    fn mask(self, lanes: usize) -> __m256i {
        const LANE: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(lanes <= 8, "lanes of a mask");
        // SAFETY: as in `on_registers`; the 8 numbers from 8 - lanes on lie in the table.
        unsafe { _mm256_loadu_si256(LANE.as_ptr().add(8 - lanes).cast()) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: as in `on_registers`; the caller promises what the trait asks of the pointer.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, mask: __m256i) -> __m256 {
        // SAFETY: as in `on_registers`; the caller promises what the trait asks of the pointer.
        unsafe { _mm256_maskload_ps(p, mask) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        // SAFETY: as in `on_registers`; the caller promises what the trait asks of the pointer.
        unsafe { _mm256_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, mask: __m256i, v: __m256) {
        // SAFETY: as in `on_registers`; the caller promises what the trait asks of the pointer.
        unsafe { _mm256_maskstore_ps(p, mask, v) }
    }
}
