//! Vectors of f32 on whatever the CPU offers: AVX-512, AVX2 + FMA, or plain arrays that the compiler vectorises (on Arm: NEON).
//!
//! Owns the choice of a path, made once per process, and the [`Simd`] trait that row kernels are written against once. A value
//! of a path's type is the proof that this CPU has its instructions, so arithmetic on vectors is safe; loads and stores are
//! checked against their slice (the check is the loop's own condition and disappears).
//!
//! Invariant: one path gives the same bits from call to call. Paths differ from each other by rounding: sums are made by as
//! many partial sums as there are lanes, and the portable path has no fused multiply-add on x86.

/// Methods of a path on vectors in registers, made of instructions that touch no memory.
#[cfg(target_arch = "x86_64")]
macro_rules! on_registers {
    ($(fn $name:ident($self:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty $body:block)*) => {$(
        #[inline(always)]
        fn $name($self $(, $arg: $ty)*) -> $ret {
            // SAFETY: `self` exists only where `detect` found the instructions, and they touch no memory.
            unsafe { $body }
        }
    )*};
}
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod math;
mod portable;

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::Amx;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

/// Vectors of f32 and what is done with them.
pub(crate) trait Simd: Copy {
    /// Floats of a vector.
    const LANES: usize;
    /// Whether a vector is a register by its type; if not, long unrolled code is slow to compile and no faster.
    const IS_REGISTER: bool = true;
    /// A vector.
    type V: Copy;
    /// The first few lanes of a vector.
    type Mask: Copy;

    fn splat(self, x: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    /// a b + c
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a b
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater; `b` where the two do not compare, so that NaN passes through when it stands there.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where the two do not compare.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// m 2^n for integral n in [-126, 127].
    fn scale_by_power(self, m: Self::V, n: Self::V) -> Self::V;
    /// a where x is not negative, b elsewhere.
    fn where_positive(self, x: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Sum of the lanes by a fixed tree.
    fn sum(self, a: Self::V) -> f32;
    /// The greatest of the lanes that compare.
    fn greatest(self, a: Self::V) -> f32 {
        let mut lanes = [f32::MIN; 16];
        // SAFETY: no path has more than 16 lanes.
        unsafe { self.store(lanes.as_mut_ptr(), a) };
        lanes.into_iter().fold(f32::MIN, f32::max)
    }

    fn mask(self, lanes: usize) -> Self::Mask;
    /// `v` with the lanes beyond the mask set to zero.
    fn keep(self, v: Self::V, mask: Self::Mask) -> Self::V;
    /// `v` with the lanes of the mask set to zero.
    fn drop(self, v: Self::V, mask: Self::Mask) -> Self::V;
    /// m in [1, 2) and integral n with a = m 2^n, for normal a > 0.
    fn split(self, a: Self::V) -> (Self::V, Self::V);

    /// # Safety
    /// `LANES` floats from `p` can be read.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Lanes beyond the mask are zero and not read.
    ///
    /// # Safety
    /// The floats of the mask's lanes can be read.
    unsafe fn load_part(self, p: *const f32, mask: Self::Mask) -> Self::V;
    /// # Safety
    /// `LANES` floats from `p` can be written.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Lanes beyond the mask are not touched.
    ///
    /// # Safety
    /// The floats of the mask's lanes can be written.
    unsafe fn store_part(self, p: *mut f32, mask: Self::Mask, v: Self::V);

    /// A whole vector at `i`.
    #[inline(always)]
    fn whole(self, i: usize) -> Whole<Self> {
        Whole { s: self, i }
    }

    /// The first `lanes` lanes of a vector at `i`.
    #[inline(always)]
    fn part(self, i: usize, lanes: usize) -> Part<Self> {
        debug_assert!(lanes < Self::LANES);
        Part { mask: self.mask(lanes), s: self, i, end: i.checked_add(lanes).expect("a row ends within memory") }
    }
}

/// Whether a whole vector at `i` lies in a row of `len` floats.
#[inline(always)]
pub(crate) fn fits<S: Simd>(i: usize, len: usize) -> bool {
    i.wrapping_add(S::LANES) <= len && i <= isize::MAX as usize
}

/// The place of a whole vector in a row.
#[derive(Clone, Copy)]
pub(crate) struct Whole<S: Simd> {
    s: S,
    i: usize,
}

/// The place of what is left of a row after its whole vectors.
#[derive(Clone, Copy)]
pub(crate) struct Part<S: Simd> {
    s: S,
    i: usize,
    end: usize,
    mask: S::Mask,
}

impl<S: Simd> Whole<S> {
    #[inline(always)]
    pub(crate) fn load(self, row: &[f32]) -> S::V {
        assert!(fits::<S>(self.i, row.len()), "vector beyond its row");
        // SAFETY: the assertion.
        unsafe { self.s.load(row.as_ptr().add(self.i)) }
    }

    #[inline(always)]
    pub(crate) fn store(self, row: &mut [f32], v: S::V) {
        assert!(fits::<S>(self.i, row.len()), "vector beyond its row");
        // SAFETY: the assertion.
        unsafe { self.s.store(row.as_mut_ptr().add(self.i), v) }
    }

    /// `v`: there are no lanes beyond the row that `other` would stand in for.
    #[inline(always)]
    pub(crate) fn or(self, v: S::V, _other: S::V) -> S::V {
        v
    }

    /// `v`: every lane counts.
    #[inline(always)]
    pub(crate) fn keep(self, v: S::V) -> S::V {
        v
    }
}

impl<S: Simd> Part<S> {
    #[inline(always)]
    pub(crate) fn load(self, row: &[f32]) -> S::V {
        assert!(self.end <= row.len(), "vector beyond its row");
        // SAFETY: the assertion; the mask has the lanes from `i` to `end`.
        unsafe { self.s.load_part(row.as_ptr().add(self.i), self.mask) }
    }

    #[inline(always)]
    pub(crate) fn store(self, row: &mut [f32], v: S::V) {
        assert!(self.end <= row.len(), "vector beyond its row");
        // SAFETY: the assertion; the mask has the lanes from `i` to `end`.
        unsafe { self.s.store_part(row.as_mut_ptr().add(self.i), self.mask, v) }
    }

    /// `v` with the lanes beyond the row taken from `other`.
    #[inline(always)]
    pub(crate) fn or(self, v: S::V, other: S::V) -> S::V {
        self.s.add(self.s.keep(v, self.mask), self.s.drop(other, self.mask))
    }

    /// `v` with the lanes beyond the row set to zero, so that sums do not see them.
    #[inline(always)]
    pub(crate) fn keep(self, v: S::V) -> S::V {
        self.s.keep(v, self.mask)
    }
}

/// Runs the body for every vector of a row of `n` floats: whole ones first, then the part that is left, if any.
macro_rules! for_vectors {
    ($s:ident: $S:ty, $n:expr, |$at:ident| $body:block) => {{
        let n: usize = $n;
        let mut i = 0;
        while $crate::simd::fits::<$S>(i, n) {
            let $at = $s.whole(i);
            $body
            i += <$S as $crate::simd::Simd>::LANES;
        }
        if i < n {
            let $at = $s.part(i, n - i);
            $body
        }
    }};
}
pub(crate) use for_vectors;

/// The instructions that this process computes with.
#[derive(Clone, Copy)]
pub(crate) enum SimdPath {
    /// Vectors of 16; tiles for products, where the CPU has them.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512, Option<Amx>),
    /// Vectors of 8, fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// Arrays of 8.
    Portable(Portable),
}

impl SimdPath {
    /// What this CPU has, the best first.
    fn detected() -> impl Iterator<Item = SimdPath> {
        #[cfg(target_arch = "x86_64")]
        let vectors = {
            let avx512 = Avx512::detect();
            let amx = avx512.and_then(|s| Amx::detect().map(|amx| SimdPath::Avx512(s, Some(amx))));
            [amx, avx512.map(|s| SimdPath::Avx512(s, None)), Avx2::detect().map(SimdPath::Avx2)]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let vectors: [Option<SimdPath>; 0] = [];
        vectors.into_iter().flatten().chain([SimdPath::Portable(Portable)])
    }

    /// Name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            SimdPath::Avx512(_, Some(_)) => "avx512+amx",
            #[cfg(target_arch = "x86_64")]
            SimdPath::Avx512(_, None) => "avx512",
            #[cfg(target_arch = "x86_64")]
            SimdPath::Avx2(_) => "avx2",
            // The arrays are NEON registers there: every 64-bit Arm CPU has them.
            SimdPath::Portable(_) if cfg!(target_arch = "aarch64") => "neon",
            SimdPath::Portable(_) => "portable",
        }
    }
}

/// The path of this process: the one that it was told to take, else the best.
static CHOSEN: OnceLock<SimdPath> = OnceLock::new();

/// Makes this process compute with the named instructions; else names those that this CPU has, the best first.
pub(crate) fn choose(name: &str) -> Result<(), Vec<&'static str>> {
    match SimdPath::detected().find(|path| path.name() == name) {
        Some(path) => {
            let _ = CHOSEN.set(path); // once a process
            Ok(())
        }
        None => Err(SimdPath::detected().map(SimdPath::name).collect()),
    }
}

/// The path that was chosen, else the best one of this CPU.
pub(crate) fn path() -> SimdPath {
    #[cfg(test)]
    if let Some(path) = tests::FORCED.get() {
        return path;
    }
    *CHOSEN.get_or_init(|| SimdPath::detected().next().expect("the portable path is everywhere"))
}

/// Compiles a kernel that is generic over [`Simd`] once for each path, and defines a function that calls the right one.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $kernel:path;) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            use $crate::simd;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq")]
            fn avx512(s: simd::Avx512, $($arg: $ty),*) $(-> $ret)? {
                $kernel(s, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2(s: simd::Avx2, $($arg: $ty),*) $(-> $ret)? {
                $kernel(s, $($arg),*)
            }
            match simd::path() {
                // SAFETY: the token is only made where the CPU has these features.
                #[cfg(target_arch = "x86_64")]
                simd::SimdPath::Avx512(s, _) => unsafe { avx512(s, $($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                simd::SimdPath::Avx2(s) => unsafe { avx2(s, $($arg),*) },
                simd::SimdPath::Portable(s) => $kernel(s, $($arg),*),
            }
        }
    };
}
pub(crate) use dispatch;

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// The path that this thread's tests compute with, instead of the best.
        pub(super) static FORCED: Cell<Option<SimdPath>> = const { Cell::new(None) };
    }

    /// Calls `test` once for every path that this CPU has.
    pub(crate) fn on_every_path(mut test: impl FnMut(&str)) {
        for path in SimdPath::detected() {
            FORCED.set(Some(path));
            test(path.name());
        }
        FORCED.set(None);
    }

    #[test]
    fn paths_of_this_architecture_run_or_are_named() {
        let found: Vec<&str> = SimdPath::detected().map(SimdPath::name).collect();
        let all: &[&str] = if cfg!(target_arch = "x86_64") {
            &["avx512+amx", "avx512", "avx2", "portable"]
        } else if cfg!(target_arch = "aarch64") {
            &["neon"]
        } else {
            &["portable"]
        };
        assert!(found.iter().all(|name| all.contains(name)) && found.last() == all.last(), "{found:?}");
        for missing in all.iter().filter(|name| !found.contains(name)) {
            println!("skipped: kernels for {missing}: this CPU has no such instructions");
        }
    }

    fn twice_and_total<S: Simd>(s: S, x: &[f32], y: &mut [f32]) -> f32 {
        let mut total = s.splat(0.0);
        for_vectors!(s: S, x.len(), |at| {
            let v = at.load(x);
            at.store(y, s.add(v, v));
            total = s.add(total, at.keep(s.add(v, s.splat(1.0))));
        });
        s.sum(total)
    }

    dispatch! {
        fn twice(x: &[f32], y: &mut [f32]) -> f32 = twice_and_total;
    }

    #[test]
    fn rows_of_any_length_are_covered_exactly() {
        on_every_path(|path| {
            for len in 0..70 {
                let x: Vec<f32> = (0..len).map(|i| i as f32 + 1.0).collect();
                let mut y = vec![-7.0; len + 3];
                let total = twice(&x, &mut y[..len]);
                assert_eq!(total, (0..len).map(|i| i as f32 + 2.0).sum::<f32>(), "{path} {len}");
                assert!(y[..len].iter().zip(&x).all(|(y, x)| *y == 2.0 * x), "{path} {len}");
                assert!(y[len..].iter().all(|&v| v == -7.0), "{path} {len} wrote beyond the row");
            }
        });
    }
}
