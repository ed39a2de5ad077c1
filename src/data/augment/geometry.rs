//! Shears, translations and rotations of square images: every pixel takes the nearest one of where it comes from, or black
//! where that lies outside.

/// The inverse of an affine map about the centre: where an output pixel comes from. Rows of (x, y, 1), in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine {
    rows: [[f64; 3]; 2],
}

impl Affine {
    /// Rows slide along x by `slope` times their distance from the top.
    pub fn shear_x(slope: f64, side: usize) -> Self {
        let (tangent, half) = (sheared(slope), side as f64 * 0.5);
        Self { rows: [[1.0, tangent, half + tangent * half - half], [0.0, 1.0, 0.0]] }
    }

    /// Columns slide along y by `slope` times their distance from the left.
    pub fn shear_y(slope: f64, side: usize) -> Self {
        let (angle, half) = (sheared_angle(slope), side as f64 * 0.5);
        let (tangent, along) = (libm::sin(angle) / libm::cos(angle), libm::cos(angle) / libm::cos(angle));
        Self { rows: [[1.0, 0.0, 0.0], [tangent, along, tangent * half + along * half - half]] }
    }

    /// Everything moves by whole pixels, right and down.
    pub fn translate(right: i32, down: i32) -> Self {
        Self { rows: [[1.0, 0.0, -f64::from(right)], [0.0, 1.0, -f64::from(down)]] }
    }

    /// A turn about the centre, counter-clockwise for degrees above 0.
    pub fn rotate(degrees: f64) -> Self {
        let (sin, cos) = libm::sincos(degrees.to_radians());
        Self { rows: [[cos, -sin, 0.0], [sin, cos, 0.0]] }
    }

    /// The image that the map makes of `image`. **Shapes**: both \[S, S, 3\].
    ///
    /// **Source** torchvision's `_gen_affine_grid` and PyTorch's `grid_sample` (nearest, zeros, corners not aligned), in f32 and
    /// in their order: a grid in [-1, 1], then back to pixels, halves to even. Shears whose pixels lie halfway between two others
    /// depend on that order.
    pub fn apply(&self, image: &[u8], side: usize, out: &mut [u8]) {
        let half = side as f32 * 0.5;
        let [of_x, of_y] = self.rows.map(|row| row.map(|value| value as f32 / half));
        let centred = |pixel: usize| pixel as f32 - half + 0.5;
        let mut columns = vec![[0.0_f32; 2]; side];
        columns.iter_mut().enumerate().for_each(|(x, parts)| *parts = [centred(x) * of_x[0], centred(x) * of_y[0]]);
        let pixels = image.as_chunks::<3>().0;
        let mut places = vec![0_u32; side];
        for (y, row) in out.chunks_exact_mut(side * 3).enumerate() {
            let (along_x, along_y) = (centred(y) * of_x[1], centred(y) * of_y[1]);
            for (place, [x, y]) in places.iter_mut().zip(&columns) {
                let x = nearest(x + along_x + of_x[2], half);
                let y = nearest(y + along_y + of_y[2], half);
                let is_inside = x >= 0.0 && y >= 0.0 && x < side as f32 && y < side as f32;
                // Whole numbers below 2^24.
                *place = if is_inside { (y * side as f32 + x) as u32 } else { u32::MAX };
            }
            for (pixel, place) in row.as_chunks_mut::<3>().0.iter_mut().zip(&places) {
                *pixel = pixels.get(*place as usize).copied().unwrap_or([0; 3]);
            }
        }
    }
}

/// The slope that comes of torchvision's way through an angle in degrees.
fn sheared(slope: f64) -> f64 {
    libm::tan(sheared_angle(slope))
}

fn sheared_angle(slope: f64) -> f64 {
    libm::atan(slope).to_degrees().to_radians()
}

/// The pixel that a place in [-1, 1] lies in; of two equally near ones the even one.
#[inline]
fn nearest(place: f32, half: f32) -> f32 {
    /// Added to and taken from a float of less than 2^22 it leaves the nearest whole number, halves to even.
    const WHOLE: f32 = 12_582_912.0;
    ((place + 1.0) * half - 0.5 + WHOLE) - WHOLE
}
