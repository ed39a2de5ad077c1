//! Maxima on vectors of channels.

use super::super::simd::{Simd, dispatch, for_vectors};
use super::MaxPoolShape;

dispatch! {
    pub(super) fn max_forward(shape: MaxPoolShape, x: &[f32], y: &mut [f32]) = max_forward_on;
}

dispatch! {
    pub(super) fn max_backward(shape: MaxPoolShape, x: &[f32], y: &[f32], grad_y: &mut [f32], grad_x: &mut [f32]) = max_backward_on;
}

#[inline(always)]
fn max_forward_on<S: Simd>(s: S, shape: MaxPoolShape, x: &[f32], y: &mut [f32]) {
    let channels = shape.channels;
    y.fill(f32::NEG_INFINITY);
    for (x, y) in x.chunks_exact(shape.map()).zip(y.chunks_exact_mut(shape.out_map())) {
        shape.windows(|to, from| {
            let (x, y) = (&x[from * channels..][..channels], &mut y[to * channels..][..channels]);
            for_vectors!(s: S, channels, |at| {
                at.store(y, s.max(at.load(y), at.load(x)));
            });
        });
    }
}

/// The gradient of a window stays in `grad_y` until a pixel takes it.
#[inline(always)]
fn max_backward_on<S: Simd>(s: S, shape: MaxPoolShape, x: &[f32], y: &[f32], grad_y: &mut [f32], grad_x: &mut [f32]) {
    let (channels, map, out) = (shape.channels, shape.map(), shape.out_map());
    let maps = x.chunks_exact(map).zip(y.chunks_exact(out)).zip(grad_y.chunks_exact_mut(out)).zip(grad_x.chunks_exact_mut(map));
    for (((x, y), dy), dx) in maps {
        shape.windows(|to, from| {
            let (x, dx) = (&x[from * channels..][..channels], &mut dx[from * channels..][..channels]);
            let (y, dy) = (&y[to * channels..][..channels], &mut dy[to * channels..][..channels]);
            for_vectors!(s: S, channels, |at| {
                let left = at.load(dy);
                // x - y + 0 is +0 where they are equal, zeros of either sign included, and negative elsewhere.
                let below = s.add(s.sub(at.load(x), at.load(y)), s.splat(0.0));
                let taken = s.where_positive(below, left, s.splat(0.0));
                at.store(dx, s.add(at.load(dx), taken));
                at.store(dy, s.sub(left, taken));
            });
        });
    }
}
