//! Depthwise convolution on vectors of channels.
//!
//! The 7 x 7 kernel has its own code ([`strip`]): whole vectors of channels, a few neighbouring pixels in registers. Channels
//! that fill no whole vector are copied out, one sample at a time, convolved as one vector, and copied back. Other kernels take
//! a plain loop over taps and pixels.

use super::super::Scratch;
use super::super::simd::{Simd, dispatch, for_vectors};
use super::DepthwiseShape;
use super::strip::{self, KERNEL, Maps, Seed, TAPS};

/// A weight, and whether its taps are taken from the last to the first.
#[derive(Clone, Copy)]
pub(super) struct Taps<'a> {
    pub values: &'a [f32],
    pub reversed: bool,
}

/// What an element of the output starts from.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// 0.
    Zero,
    /// What is there.
    Add,
    /// The bias of its channel.
    Bias(&'a [f32]),
}

dispatch! {
    /// y from x.
    pub(super) fn correlate(
        shape: DepthwiseShape,
        x: &[f32],
        weight: Taps,
        start: Start,
        y: &mut [f32],
        scratch: &mut Scratch,
    ) = correlate_on;
}

dispatch! {
    /// Adds the gradient of the weight.
    pub(super) fn weight_gradient(shape: DepthwiseShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut Scratch) = gradient_on;
}

#[inline(always)]
fn correlate_on<S: Simd>(s: S, shape: DepthwiseShape, x: &[f32], weight: Taps, start: Start, y: &mut [f32], scratch: &mut Scratch) {
    if shape.kernel != KERNEL {
        return plain(s, shape, x, weight, start, y);
    }
    let Taps { values: weight, reversed } = weight;
    let cut = Cut::new::<S>(&shape);
    let Cut { channels, whole, lanes, .. } = cut;
    // The tap that goes with the first weight, and the way to the next one.
    let taps = |width: usize| if reversed { ((TAPS - 1) * width, -(width as isize)) } else { (0, width as isize) };
    let narrow_lens = [cut.padded(lanes), shape.side * shape.side * lanes, TAPS * lanes, lanes];
    let [wide, narrow_x, narrow_y, narrow_w, narrow_bias] =
        scratch.floats([cut.copied(), narrow_lens[0], narrow_lens[1], narrow_lens[2], narrow_lens[3]]);
    for room in [&mut *wide, &mut *narrow_x, &mut *narrow_y, &mut *narrow_w, &mut *narrow_bias] {
        room.fill(0.0);
    }
    cut.take(weight, narrow_w);
    if let Start::Bias(bias) = start {
        cut.take(bias, narrow_bias);
    }
    for (x, y) in x.chunks_exact(shape.map()).zip(y.chunks_exact_mut(shape.map())) {
        let from = cut.spread(x, wide);
        for c in (0..channels).step_by(lanes) {
            let is_narrow = c == whole;
            if is_narrow {
                cut.take_lines(x, narrow_x);
                if matches!(start, Start::Add) {
                    cut.take(y, narrow_y);
                }
            }
            let width = if is_narrow { lanes } else { channels };
            let seed = match start {
                Start::Zero => Seed::Zero,
                Start::Add => Seed::Stored,
                Start::Bias(_) if is_narrow => Seed::Bias(narrow_bias.as_ptr()),
                Start::Bias(bias) => Seed::Bias(bias[c..].as_ptr()),
            };
            let (first, step) = taps(width);
            // SAFETY: where `c + LANES <= channels` every vector lies in its pixel's channels, and the callers of this module have
            // checked the lengths of maps, weight and bias. The narrow maps have one vector a pixel, the narrow weight one a tap,
            // and the narrow bias is one. `spread` and `take_lines` give x its margins.
            unsafe {
                let (from, weight, to) = if is_narrow {
                    (narrow_x.as_ptr().add(cut.margin * lanes), narrow_w.as_ptr(), narrow_y.as_mut_ptr())
                } else {
                    (from.add(c), weight.as_ptr().add(c), y.as_mut_ptr().add(c))
                };
                strip::correlate(s, cut.maps(width), from, (weight.add(first), step), seed, to);
            }
            if is_narrow {
                cut.put(narrow_y, y);
            }
        }
    }
}

#[inline(always)]
fn gradient_on<S: Simd>(s: S, shape: DepthwiseShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut Scratch) {
    if shape.kernel != KERNEL {
        return plain_gradient(s, shape, x, dy, dw);
    }
    let cut = Cut::new::<S>(&shape);
    let Cut { channels, whole, lanes, .. } = cut;
    let samples = x.len() / shape.map();
    let narrow_len = if whole < channels { samples * shape.side * shape.side * lanes } else { 0 };
    let [wide, narrow_x, narrow_dy, narrow_dw] =
        scratch.floats([samples * cut.copied(), samples * cut.padded(lanes), narrow_len, TAPS * lanes]);
    for room in [&mut *wide, &mut *narrow_x, &mut *narrow_dy, &mut *narrow_dw] {
        room.fill(0.0);
    }
    let from = cut.spread(x, wide);
    for c in (0..channels).step_by(lanes) {
        let is_narrow = c == whole;
        if is_narrow {
            cut.take_lines(x, narrow_x);
            cut.take(dy, narrow_dy);
            cut.take(dw, narrow_dw);
        }
        let width = if is_narrow { lanes } else { channels };
        // SAFETY: as in `correlate_on`.
        unsafe {
            let (from, dy, to) = if is_narrow {
                (narrow_x.as_ptr().add(cut.margin * lanes), narrow_dy.as_ptr(), narrow_dw.as_mut_ptr())
            } else {
                (from.add(c), dy.as_ptr().add(c), dw.as_mut_ptr().add(c))
            };
            strip::gradient(s, cut.maps(width), samples, from, dy, (to, width));
        }
        if is_narrow {
            cut.put(narrow_dw, dw);
        }
    }
}

/// How maps are cut into vectors of channels.
#[derive(Clone, Copy)]
struct Cut {
    side: usize,
    channels: usize,
    lanes: usize,
    /// Channels in whole vectors.
    whole: usize,
    /// Zeros on the left and right of each line of x.
    margin: usize,
}

impl Cut {
    #[inline(always)]
    fn new<S: Simd>(shape: &DepthwiseShape) -> Self {
        let DepthwiseShape { side, channels, .. } = *shape;
        let whole = channels / S::LANES * S::LANES;
        Self { side, channels, lanes: S::LANES, whole, margin: strip::margin::<S>(side) }
    }

    /// Maps whose pixels are `stride` floats apart.
    fn maps(&self, stride: usize) -> Maps {
        Maps { side: self.side, stride, margin: self.margin }
    }

    /// Floats of a map of x with its margins.
    fn padded(&self, width: usize) -> usize {
        self.side * (self.side + 2 * self.margin) * width
    }

    /// Floats of the copy of a map that [`Self::spread`] makes.
    fn copied(&self) -> usize {
        if self.margin == 0 { 0 } else { self.padded(self.channels) }
    }

    /// Maps of x with their margins, which are zero in `room` before: the first pixel's place.
    fn spread(&self, x: &[f32], room: &mut [f32]) -> *const f32 {
        if self.margin == 0 {
            return x.as_ptr();
        }
        let line = self.side * self.channels;
        let padded = (self.side + 2 * self.margin) * self.channels;
        for (line, padded) in x.chunks_exact(line).zip(room.chunks_exact_mut(padded)) {
            padded[self.margin * self.channels..][..line.len()].copy_from_slice(line);
        }
        room[self.margin * self.channels..].as_ptr()
    }

    /// The channels that fill no whole vector, of every row, as vectors.
    #[inline(always)]
    fn take(&self, rows: &[f32], narrow: &mut [f32]) {
        for (row, narrow) in rows.chunks_exact(self.channels).zip(narrow.chunks_exact_mut(self.lanes)) {
            for (to, from) in narrow.iter_mut().zip(&row[self.whole..]) {
                *to = *from;
            }
        }
    }

    /// As [`Self::take`], into maps of x with their margins.
    #[inline(always)]
    fn take_lines(&self, x: &[f32], narrow: &mut [f32]) {
        let padded = (self.side + 2 * self.margin) * self.lanes;
        for (line, narrow) in x.chunks_exact(self.side * self.channels).zip(narrow.chunks_exact_mut(padded)) {
            self.take(line, &mut narrow[self.margin * self.lanes..]);
        }
    }

    /// Vectors back into the channels that fill no whole vector.
    #[inline(always)]
    fn put(&self, narrow: &[f32], rows: &mut [f32]) {
        for (row, narrow) in rows.chunks_exact_mut(self.channels).zip(narrow.chunks_exact(self.lanes)) {
            for (to, from) in row[self.whole..].iter_mut().zip(narrow) {
                *to = *from;
            }
        }
    }
}

/// Calls `visit(tap, output pixel, input pixel)` for all taps of all pixels that see the map.
#[inline(always)]
fn taps(shape: DepthwiseShape, mut visit: impl FnMut(usize, usize, usize)) {
    let DepthwiseShape { side, kernel, .. } = shape;
    let half = kernel / 2;
    for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
        for ky in half.saturating_sub(y)..kernel.min(side + half - y) {
            for kx in half.saturating_sub(x)..kernel.min(side + half - x) {
                visit(ky * kernel + kx, y * side + x, (y + ky - half) * side + x + kx - half);
            }
        }
    }
}

#[inline(always)]
fn plain<S: Simd>(s: S, shape: DepthwiseShape, x: &[f32], weight: Taps, start: Start, y: &mut [f32]) {
    let Taps { values: weight, reversed } = weight;
    let channels = shape.channels;
    match start {
        Start::Zero => y.fill(0.0),
        Start::Add => {}
        Start::Bias(bias) => y.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(bias)),
    }
    let last = shape.kernel * shape.kernel - 1;
    for (x, y) in x.chunks_exact(shape.map()).zip(y.chunks_exact_mut(shape.map())) {
        taps(shape, |tap, to, from| {
            let tap = if reversed { last - tap } else { tap };
            let (w, x, y) =
                (&weight[tap * channels..][..channels], &x[from * channels..][..channels], &mut y[to * channels..][..channels]);
            for_vectors!(s: S, channels, |at| {
                at.store(y, s.mul_add(at.load(w), at.load(x), at.load(y)));
            });
        });
    }
}

#[inline(always)]
fn plain_gradient<S: Simd>(s: S, shape: DepthwiseShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let channels = shape.channels;
    for (x, dy) in x.chunks_exact(shape.map()).zip(dy.chunks_exact(shape.map())) {
        taps(shape, |tap, to, from| {
            let (dw, x, dy) =
                (&mut dw[tap * channels..][..channels], &x[from * channels..][..channels], &dy[to * channels..][..channels]);
            for_vectors!(s: S, channels, |at| {
                at.store(dw, s.mul_add(at.load(dy), at.load(x), at.load(dw)));
            });
        });
    }
}
