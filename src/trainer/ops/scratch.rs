//! Temporary memory of one thread, which grows to the largest request and is kept for the next ones; aligned memory to keep.

/// One cache line, so that every slice handed out starts on one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

const LINE: usize = 16;

/// Temporary memory of one thread.
///
/// Slices handed out start on a 64-byte boundary and hold whatever was there before.
#[derive(Default)]
pub struct Scratch {
    lines: Vec<Line>,
    rest: Option<Box<Scratch>>,
}

impl Scratch {
    /// An arena that holds nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Disjoint slices of the given lengths, valid until the next call.
    pub fn floats<const N: usize>(&mut self, lens: [usize; N]) -> [&mut [f32]; N] {
        cut(&mut self.lines, lens)
    }

    /// Disjoint slices as [`Scratch::floats`] gives, and an arena for the ops that are called while they are in use.
    pub fn floats_and_rest<const N: usize>(&mut self, lens: [usize; N]) -> ([&mut [f32]; N], &mut Scratch) {
        (cut(&mut self.lines, lens), self.rest.get_or_insert_default())
    }
}

/// Floats that start on a 64-byte boundary, wherever the value itself is moved.
pub struct AlignedFloats {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedFloats {
    /// `len` zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; LINE]); len.div_ceil(LINE)], len }
    }
}

impl std::ops::Deref for AlignedFloats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: as in `as_floats`; `len` was rounded up to whole lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for AlignedFloats {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut as_floats(&mut self.lines)[..self.len]
    }
}

fn cut<const N: usize>(lines: &mut Vec<Line>, lens: [usize; N]) -> [&mut [f32]; N] {
    let total: usize = lens.iter().map(|len| len.div_ceil(LINE)).sum();
    if lines.len() < total {
        lines.resize(total, Line([0.0; LINE]));
    }
    let mut left = as_floats(lines);
    lens.map(|len| {
        let (taken, others) = std::mem::take(&mut left).split_at_mut(len.div_ceil(LINE) * LINE);
        left = others;
        &mut taken[..len]
    })
}

fn as_floats(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: a `Line` is exactly 16 initialised floats without padding, and its alignment is stricter than theirs.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LINE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_disjoint_aligned_and_of_the_asked_length() {
        let mut scratch = Scratch::new();
        for lens in [[1, 17, 0], [100, 3, 16]] {
            let slices = scratch.floats(lens);
            for (i, slice) in slices.into_iter().enumerate() {
                assert_eq!(slice.len(), lens[i]);
                assert_eq!(slice.as_ptr().align_offset(64), 0);
                slice.fill(i as f32);
            }
            let again = scratch.floats(lens);
            for (i, slice) in again.into_iter().enumerate() {
                assert!(slice.iter().all(|&v| v == i as f32));
            }
        }
    }

    #[test]
    fn aligned_floats_are_zeros_of_the_asked_length() {
        for len in [0, 1, 16, 37] {
            let mut floats = AlignedFloats::zeros(len);
            assert_eq!((floats.len(), floats.as_ptr().align_offset(64)), (len, 0));
            floats.iter_mut().for_each(|v| *v += 1.0);
            assert!(floats.iter().all(|&v| v == 1.0));
        }
    }

    #[test]
    fn the_rest_can_be_used_while_slices_are_held() {
        let mut scratch = Scratch::new();
        let ([held], rest) = scratch.floats_and_rest([40]);
        held.fill(1.0);
        let ([inner], deepest) = rest.floats_and_rest([1000]);
        inner.fill(2.0);
        deepest.floats([10])[0].fill(3.0);
        assert!(held.iter().all(|&v| v == 1.0) && inner.iter().all(|&v| v == 2.0));
    }
}
