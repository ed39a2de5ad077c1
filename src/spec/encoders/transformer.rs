//! The shape of a transformer, as vision and text transformers state it.

use super::super::scalar::{Count, Quantity};
use super::keys::{Keys, divisors, most};

/// Width, layers and heads that a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
}

impl Size {
    pub const fn new(width: usize, layers: usize, heads: usize) -> Self {
        Self { width, layers, heads }
    }
}

/// What is stated beside the name.
pub(super) struct Stated {
    pub width: Option<Count>,
    pub layers: Option<Count>,
    pub heads: Option<Count>,
    pub mlp_ratio: Option<Quantity>,
}

/// A transformer whose heads divide its width.
pub(super) struct Transformer {
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub mlp_width: usize,
}

/// The shape that is stated, with what the size has where nothing is.
pub(super) fn transformer(stated: &Stated, size: Option<Size>, keys: &mut Keys<'_>) -> Option<Transformer> {
    let Stated { width, layers, heads, mlp_ratio } = stated;
    let is_width_stated = width.is_some() && heads.is_none();
    let width = keys.count("width", *width, size.map(|s| s.width), most::WIDTH);
    let layers = keys.count("layers", *layers, size.map(|s| s.layers), most::LAYERS);
    let heads = keys.count("heads", *heads, size.map(|s| s.heads), most::HEADS);
    let (width, layers, heads) = (width?, layers?, heads?);
    let is_divided = width % heads == 0;
    if !is_divided {
        let key = if is_width_stated { "width" } else { "heads" };
        let known = divisors(width, 1..=32);
        keys.refuse_key(key, &format!("{heads} heads do not divide width {width}"), format!("width {width} takes {known}"));
    }
    let mlp_width = keys.mlp_width(width, *mlp_ratio)?;
    is_divided.then_some(Transformer { width, layers, heads, mlp_width })
}
