//! Vectors of 16 floats, masks for what is left of a row.

use std::arch::x86_64::*;

use super::Simd;

/// Proof that this CPU has AVX-512 F and DQ.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq")).then_some(Self(()))
    }
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    type V = __m512;
    type Mask = __mmask16;

    on_registers! {
        fn splat(self, x: f32) -> __m512 {
            _mm512_set1_ps(x)
        }
        fn add(self, a: __m512, b: __m512) -> __m512 {
            _mm512_add_ps(a, b)
        }
        fn sub(self, a: __m512, b: __m512) -> __m512 {
            _mm512_sub_ps(a, b)
        }
        fn mul(self, a: __m512, b: __m512) -> __m512 {
            _mm512_mul_ps(a, b)
        }
        fn div(self, a: __m512, b: __m512) -> __m512 {
            _mm512_div_ps(a, b)
        }
        fn sqrt(self, a: __m512) -> __m512 {
            _mm512_sqrt_ps(a)
        }
        fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            _mm512_fmadd_ps(a, b, c)
        }
        fn neg_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            _mm512_fnmadd_ps(a, b, c)
        }
        fn max(self, a: __m512, b: __m512) -> __m512 {
            _mm512_max_ps(a, b)
        }
        fn min(self, a: __m512, b: __m512) -> __m512 {
            _mm512_min_ps(a, b)
        }
        fn round(self, a: __m512) -> __m512 {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        fn scale_by_power(self, m: __m512, n: __m512) -> __m512 {
            _mm512_scalef_ps(m, n)
        }
        fn where_positive(self, x: __m512, a: __m512, b: __m512) -> __m512 {
            _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(x)), a, b)
        }
        fn sum(self, a: __m512) -> f32 {
            _mm512_reduce_add_ps(a)
        }
        fn keep(self, v: __m512, mask: __mmask16) -> __m512 {
            _mm512_maskz_mov_ps(mask, v)
        }
        fn drop(self, v: __m512, mask: __mmask16) -> __m512 {
            _mm512_maskz_mov_ps(!mask, v)
        }
        fn split(self, a: __m512) -> (__m512, __m512) {
            (_mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_ZERO>(a), _mm512_getexp_ps(a))
        }
    }

    #[inline(always)]
    fn mask(self, lanes: usize) -> __mmask16 {
        ((1u32 << lanes) - 1) as u16
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: as in `on_registers`; the caller promises what the trait asks of the pointer.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, mask: __mmask16) -> __m512 {
        // SAFETY: as in `on_registers`; the caller promises what the trait asks of the pointer.
        unsafe { _mm512_maskz_loadu_ps(mask, p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: as in `on_registers`; the caller promises what the trait asks of the pointer.
        unsafe { _mm512_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, mask: __mmask16, v: __m512) {
        // SAFETY: as in `on_registers`; the caller promises what the trait asks of the pointer.
        unsafe { _mm512_mask_storeu_ps(p, mask, v) }
    }
}
