//! Launches of `kernels/product.cu`: products for which the library has no algorithm.

use super::super::launch::{Arg, Launch, Module, Product, Real, blocks};

/// The kernels.
pub const MODULE: Module = Module::new("product", include_str!("../../../../kernels/product.cu"));

const THREADS: usize = 256;
/// Rows and columns of a block's tile.
const TILE: usize = 64;

/// The whole of a product.
///
/// # Panics
/// If its factors are of two types, or f32 with an output that is not.
#[must_use]
pub fn product(product: &Product) -> Launch {
    let Product { m, n, k, a, b, addend, bias, out, out_real } = *product;
    let kernel = match (a.real, b.real, out_real) {
        (Real::F32, Real::F32, Real::F32) => "product_float",
        (Real::Bf16, Real::Bf16, Real::F32) => "product_real_to_float",
        (Real::Bf16, Real::Bf16, Real::Bf16) => "product_real",
        types => panic!("no product of {types:?}"),
    };
    // One that adds to its output reads it.
    let written = if addend == Some(out) { Arg::InOut(out) } else { Arg::Out(out) };
    let pointers = [Arg::In(a.view), Arg::In(b.view), Arg::maybe_in(addend), Arg::maybe_in(bias), written];
    let sizes = [m, n, k, usize::from(a.transposed), usize::from(b.transposed)].map(Arg::count);
    let tiles = blocks(m, TILE) as usize * blocks(n, TILE) as usize;
    launch(kernel, blocks(tiles, 1), [&pointers[..], &sizes[..]].concat())
}

/// Adds the bias of a product to its output; nothing where it has none.
#[must_use]
pub fn add_bias(product: &Product) -> Option<Launch> {
    let Product { m, n, out, out_real, .. } = *product;
    let kernel = match out_real {
        Real::F32 => "product_add_bias_float",
        Real::Bf16 => "product_add_bias_real",
    };
    let bias = product.bias?;
    Some(launch(kernel, blocks(m * n, THREADS), vec![Arg::InOut(out), Arg::In(bias), Arg::count(m), Arg::count(n)]))
}

fn launch(kernel: &'static str, blocks: u32, args: Vec<Arg>) -> Launch {
    Launch { module: MODULE, kernel, grid: [blocks, 1, 1], threads: THREADS as u32, shared_bytes: 0, args }
}
