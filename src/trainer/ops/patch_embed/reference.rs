//! Pixels to tokens: patches times weight with an optional bias, an optional class token in front, optional positions, an
//! optional norm.
//!
//! A patch is read as `open_clip`'s `conv1` does: channel, then row, then column, of (pixel / 255 - mean) / std. Positions
//! belong to places in the whole image, so a kept patch brings its own.

use super::PatchEmbed;
use crate::layer_norm::reference as layer_norm;
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Parameters};
use crate::reference::{Matrix, add};

/// An image [S, S, 3] and, where some are masked, its kept patches.
#[derive(Clone, Copy)]
struct Picture<'a> {
    /// u8 [S, S, 3].
    pub pixels: &'a [u8],
    /// In ascending order.
    pub keep: Option<&'a [u32]>,
}

impl Picture<'_> {
    /// Place in the image of each token that comes from a patch.
    fn places(&self, block: &PatchEmbed) -> Vec<usize> {
        self.keep.map_or_else(|| (0..block.patches).collect(), |keep| keep.iter().map(|patch| *patch as usize).collect())
    }
}

fn patches(block: &PatchEmbed, picture: Picture) -> Matrix {
    let (side, patch) = (block.shape.image_size, block.shape.patch_size);
    let mut values = Vec::new();
    for place in picture.places(block) {
        let (top, left) = (place / (side / patch) * patch, place % (side / patch) * patch);
        for channel in 0..3 {
            let (mean, std) = (f64::from(block.shape.mean[channel]), f64::from(block.shape.std[channel]));
            for y in top..top + patch {
                for x in left..left + patch {
                    let pixel = f64::from(picture.pixels[(y * side + x) * 3 + channel]);
                    values.push((pixel / 255.0 - mean) / std);
                }
            }
        }
    }
    Matrix::from_rows(3 * patch * patch, values)
}

/// Tokens before the norm.
fn embed(block: &PatchEmbed, params: &Parameters, picture: Picture) -> Matrix {
    let classes = usize::from(block.class_token.is_some());
    let mut tokens = Matrix::zeros(block.kept + classes, block.width);
    if let Some(class) = block.class_token {
        add(params.vector(class), tokens.row_mut(0));
    }
    let mut embedded = patches(block, picture).times_transposed(&params.matrix(block.weight));
    if let Some(bias) = block.bias {
        embedded = embedded.plus_row(params.vector(bias));
    }
    for row in 0..block.kept {
        add(embedded.row(row), tokens.row_mut(classes + row));
    }
    if let Some(positions) = block.positions {
        let positions = params.matrix(positions);
        if classes > 0 {
            add(positions.row(0), tokens.row_mut(0));
        }
        for (row, place) in picture.places(block).into_iter().enumerate() {
            add(positions.row(classes + place), tokens.row_mut(classes + row));
        }
    }
    tokens
}

/// Tokens [T, C].
fn forward(block: &PatchEmbed, params: &Parameters, picture: Picture) -> Matrix {
    let tokens = embed(block, params, picture);
    match block.norm {
        Some((gain, bias)) => layer_norm::forward(&tokens, params.vector(gain), params.vector(bias)),
        None => tokens,
    }
}

/// Adds the parameters' gradients; pixels have none.
fn backward(block: &PatchEmbed, params: &Parameters, picture: Picture, grad_y: &Matrix, grads: &mut Gradients) {
    let mut grad_tokens = grad_y.clone();
    if let Some((gain, bias)) = block.norm {
        let (grad_x, grad_gain, grad_bias) = layer_norm::backward(&embed(block, params, picture), params.vector(gain), grad_y);
        grads.add(gain, &grad_gain);
        grads.add(bias, &grad_bias);
        grad_tokens = grad_x;
    }
    let classes = usize::from(block.class_token.is_some());
    if let Some(class) = block.class_token {
        grads.add(class, grad_tokens.row(0));
    }
    if let Some(positions) = block.positions {
        if classes > 0 {
            grads.add_row(positions, 0, grad_tokens.row(0));
        }
        for (row, place) in picture.places(block).into_iter().enumerate() {
            grads.add_row(positions, classes + place, grad_tokens.row(classes + row));
        }
    }
    let grad_embedded = Matrix::from_rows(block.width, grad_tokens.values[classes * block.width..].to_vec());
    if let Some(bias) = block.bias {
        grads.add(bias, &grad_embedded.column_sums());
    }
    grads.add(block.weight, &grad_embedded.transposed_times(&patches(block, picture)).values);
}

fn picture<'a>(inputs: &[Value<'a>]) -> Picture<'a> {
    Picture { pixels: inputs[0].bytes(), keep: inputs.get(1).map(|keep| keep.words()) }
}

impl Reference for PatchEmbed {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        forward(self, params, picture(inputs))
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        backward(self, params, picture(inputs), grad_y, grads);
        vec![None; inputs.len()]
    }
}
