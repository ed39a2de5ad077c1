//! Arrays of 8 floats in plain Rust: what the compiler makes of them on any CPU.

use super::Simd;

/// Vectors as arrays.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const LANES: usize = 8;
type V = [f32; LANES];

/// 1.5 * 2^23: adding it to a small number leaves an integer in the low bits, on any CPU and without a conversion.
const SHIFT: f32 = 12_582_912.0;

/// A vector by its lanes. A plain loop: `std::array::from_fn` and `map` are many nested functions, and this is inlined
/// thousands of times.
#[inline(always)]
fn lanes(f: impl Fn(usize) -> f32) -> V {
    let mut v = [0.0; LANES];
    let mut i = 0;
    while i < LANES {
        v[i] = f(i);
        i += 1;
    }
    v
}

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    lanes(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    const LANES: usize = LANES;
    const IS_REGISTER: bool = false;
    type V = V;
    type Mask = usize;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        lanes(|i| a[i].sqrt())
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        lanes(|i| fused(a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: V, b: V, c: V) -> V {
        lanes(|i| fused(-a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        lanes(|i| (a[i] + SHIFT) - SHIFT)
    }
    #[inline(always)]
    fn scale_by_power(self, m: V, n: V) -> V {
        // n + SHIFT has n in its low bits, and 2^n has the exponent field n + 127.
        zip(m, n, |m, n| m * f32::from_bits((n + SHIFT).to_bits().wrapping_add(127) << 23))
    }
    #[inline(always)]
    fn where_positive(self, x: V, a: V, b: V) -> V {
        lanes(|i| if x[i].is_sign_negative() { b[i] } else { a[i] })
    }
    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    fn mask(self, lanes: usize) -> usize {
        assert!(lanes <= LANES, "lanes of a mask");
        lanes
    }
    #[inline(always)]
    fn keep(self, v: V, mask: usize) -> V {
        lanes(|i| if i < mask { v[i] } else { 0.0 })
    }
    #[inline(always)]
    fn drop(self, v: V, mask: usize) -> V {
        lanes(|i| if i < mask { 0.0 } else { v[i] })
    }
    #[inline(always)]
    fn split(self, a: V) -> (V, V) {
        let m = lanes(|i| f32::from_bits(a[i].to_bits() & 0x007f_ffff | 0x3f80_0000));
        (m, lanes(|i| (a[i].to_bits() >> 23) as i32 as f32 - 127.0))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller's promise; floats have no alignment beyond their own.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, mask: usize) -> V {
        let mut v = [0.0; LANES];
        // SAFETY: the caller's promise, and a mask has at most `LANES` lanes.
        unsafe { std::ptr::copy_nonoverlapping(p, v.as_mut_ptr(), mask) };
        v
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, mask: usize, v: V) {
        // SAFETY: the caller's promise, and a mask has at most `LANES` lanes.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), p, mask) }
    }
}

/// a b + c, fused where that is one instruction.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}
