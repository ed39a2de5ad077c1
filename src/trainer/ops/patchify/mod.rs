//! An image cut into patches: rows ready for the patch embedding's product.

pub mod cuda;

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

    /// The normalised value of every byte, by channel.
    pub(crate) fn values(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|byte| (byte as f32 / 255.0 - self.mean[c]) / self.std[c]))
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
    let values = p.values();
    for (r, row) in rows.chunks_exact_mut(p.row_len()).enumerate() {
        let index = keep.map_or(r, |keep| keep[r] as usize);
        assert!(index < p.patches(), "patch index {index} of {}", p.patches());
        let corner = (index / grid * patch * side + index % grid * patch) * 3;
        for (channel, plane) in row.chunks_exact_mut(patch * patch).enumerate() {
            for (y, line) in plane.chunks_exact_mut(patch).enumerate() {
                let pixels = image[corner + y * side * 3..][..patch * 3].chunks_exact(3);
                for (v, pixel) in line.iter_mut().zip(pixels) {
                    *v = values[channel][usize::from(pixel[channel])];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: PatchShape = PatchShape { image_size: 6, patch_size: 3, mean: [0.5, 0.25, 0.0], std: [0.25, 0.5, 1.0] };

    fn image() -> Vec<u8> {
        (0..6 * 6 * 3).map(|i| (i * 37 % 256) as u8).collect()
    }

    #[test]
    fn rows_are_channel_then_y_then_x_of_each_patch() {
        let image = image();
        let mut rows = vec![f32::NAN; SHAPE.patches() * SHAPE.row_len()];
        forward(&SHAPE, &image, None, &mut rows);
        for patch in 0..4 {
            for (i, &found) in rows[patch * 27..][..27].iter().enumerate() {
                let (channel, y, x) = (i / 9, i / 3 % 3, i % 3);
                let (y, x) = (patch / 2 * 3 + y, patch % 2 * 3 + x);
                let pixel = f32::from(image[(y * 6 + x) * 3 + channel]) / 255.0;
                assert_eq!(found, (pixel - SHAPE.mean[channel]) / SHAPE.std[channel], "patch {patch}, element {i}");
            }
        }
    }

    #[test]
    fn kept_patches_come_in_the_order_of_the_list() {
        let (image, len) = (image(), SHAPE.row_len());
        let (mut all, mut kept) = (vec![0.0; 4 * len], vec![f32::NAN; 2 * len]);
        forward(&SHAPE, &image, None, &mut all);
        forward(&SHAPE, &image, Some(&[3, 1]), &mut kept);
        assert_eq!(kept[..len], all[3 * len..]);
        assert_eq!(kept[len..], all[len..2 * len]);
    }
}
