//! An image cut into patches: rows ready for the patch embedding's product.

/// How an image becomes rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatchShape {
    /// Side of the square image (S), pixels.
    pub image_size: usize,
    /// Side of a patch (P), pixels; divides S.
    pub patch_size: usize,
    /// Per-channel mean of pixels in [0, 1].
    pub mean: [f32; 3],
    /// Per-channel divisor.
    pub std: [f32; 3],
}

impl PatchShape {
    /// Patches of an image (G), row by row.
    #[must_use]
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Length of a row: 3 P².
    #[must_use]
    pub fn row_len(&self) -> usize {
        3 * self.patch_size * self.patch_size
    }
}

/// Rows (x / 255 - mean) / std in the order (channel, py, px), which is that of `open_clip`'s `conv1` weight.
///
/// **Shapes** image `[S, S, 3]`; rows `[G, 3 P²]`, or one row for each index of `keep`, in its order.
pub fn forward(p: &PatchShape, image: &[u8], keep: Option<&[u32]>, rows: &mut [f32]) {
    let (side, patch) = (p.image_size, p.patch_size);
    assert!(patch > 0 && side.is_multiple_of(patch), "patches do not tile the image");
    assert_eq!(image.len(), side * side * 3, "pixels of an image");
    let num = keep.map_or(p.patches(), <[u32]>::len);
    assert_eq!(rows.len(), num * p.row_len(), "rows of patches");
    let grid = side / patch;
    for (r, row) in rows.chunks_exact_mut(p.row_len()).enumerate() {
        let index = keep.map_or(r, |keep| keep[r] as usize);
        assert!(index < p.patches(), "patch index {index} of {}", p.patches());
        let (top, left) = (index / grid * patch, index % grid * patch);
        for channel in 0..3 {
            for y in 0..patch {
                for x in 0..patch {
                    let pixel = f32::from(image[((top + y) * side + left + x) * 3 + channel]);
                    row[(channel * patch + y) * patch + x] = (pixel / 255.0 - p.mean[channel]) / p.std[channel];
                }
            }
        }
    }
}
