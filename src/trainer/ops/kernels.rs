//! All kernel files.

use crate::launch::Module;
use crate::{
    activation, adafactor, adamw, attention, contrastive, elementwise, embedding, layer_norm, normalize, patchify, product,
};

/// Every kernel file, in every size that it is compiled for.
#[must_use]
pub fn modules() -> Vec<Module> {
    let plain = [
        activation::cuda::MODULE,
        adafactor::cuda::MODULE,
        adamw::cuda::MODULE,
        contrastive::cuda::MODULE,
        elementwise::cuda::MODULE,
        embedding::cuda::MODULE,
        layer_norm::cuda::MODULE,
        normalize::cuda::MODULE,
        patchify::cuda::MODULE,
        product::cuda::MODULE,
    ];
    plain.into_iter().chain(attention::cuda::modules()).collect()
}
