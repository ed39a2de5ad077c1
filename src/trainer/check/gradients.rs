//! The gradients of one step in both compute types, written down for a comparison outside: `benches/torch_gradients.py` asks
//! whether those of bf16 are as near to f32 as another program's.
//!
//! Input: a folder and a way to open devices. Output: safetensors files, parameters and gradients under `open_clip`'s names; how far
//! one step of bf16 is off is chance, so there are several batches, a folder each. The model is small but deep enough that rounding adds up; its sizes are repeated in the script. Must not know the other side.

use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::{Dtype, TensorView};

use super::steps::{ADAMW, OpenStep, model, train};
use crate::data::{Philox, Stream};
use crate::run::{ImageEncoderConfig, ModelConfig, Pooling, TextEncoderConfig, VitConfig};
use crate::trainer::TrainerError;
use crate::trainer::backend::cuda::CudaStep;
use crate::trainer::backend::cuda::device::Device;
use crate::trainer::backend::{Step as _, StepBatch};
use crate::trainer::checkpoint::{Weights, save_model};
use crate::trainer::model::{build, initial_parameters};
use crate::trainer::ops::launch::Real;

const PAIRS: usize = 16;
const SIDE: usize = 16;
const CONTEXT: usize = 16;
const VOCAB: usize = 64;
const SEED: u64 = 9;

fn config() -> ModelConfig {
    let pooling = Pooling::ClassToken;
    ModelConfig {
        image_encoder: ImageEncoderConfig::Vit(VitConfig {
            width: 96,
            layers: 3,
            heads: 3,
            mlp_width: 384,
            patch_size: 4,
            pooling,
            pre_norm: true,
        }),
        text_encoder: TextEncoderConfig {
            width: 64,
            layers: 3,
            heads: 2,
            mlp_width: 256,
            context_length: CONTEXT,
            vocab_size: VOCAB,
        },
        embed_dim: 64,
        image_size: SIDE,
        ..model(pooling)
    }
}

fn batch(number: u64) -> StepBatch {
    let mut draws = Philox::new(SEED, Stream::Scenes).at(number, 0);
    StepBatch {
        samples: PAIRS,
        images: (0..PAIRS * SIDE * SIDE * 3).map(|_| draws.below(256) as u8).collect(),
        tokens: (0..PAIRS * CONTEXT).map(|_| draws.below(VOCAB as u32)).collect(),
        ends: (0..PAIRS).map(|_| 1 + draws.below(CONTEXT as u32 - 1)).collect(),
        ..StepBatch::default()
    }
}

/// Writes `parameters` into a folder, which is made, and for each batch `batch`, `gradients-f32` and `gradients-bf16` into a folder
/// in it; returns the losses of each batch in both types.
///
/// # Errors
/// If the device fails or the folder cannot be written.
pub fn write<D: Device>(folder: &Path, batches: u64, open: OpenStep<D>) -> Result<Vec<[f64; 2]>, TrainerError> {
    std::fs::create_dir_all(folder).map_err(|source| io(folder, source))?;
    let program = Arc::new(build(&config(), 0.0));
    let parameters = initial_parameters(&program, SEED);
    let file = folder.join("parameters.safetensors");
    save_model(&file, &program, &Weights { parameters: parameters.clone(), ..Weights::default() }, 0)?;
    let mut losses = vec![[0.0; 2]; usize::try_from(batches).unwrap_or(0)];
    for (idx, (real, name)) in [(Real::F32, "gradients-f32"), (Real::Bf16, "gradients-bf16")].into_iter().enumerate() {
        let mut step = CudaStep::new(open(real, 0)?, program.clone(), &parameters, Some(&train(ADAMW, 0.0)), None)?;
        for (number, losses) in (0..batches).zip(&mut losses) {
            let (inside, batch) = (folder.join(number.to_string()), batch(number));
            std::fs::create_dir_all(&inside).map_err(|source| io(&inside, source))?;
            write_batch(&inside.join("batch.safetensors"), &batch)?;
            losses[idx] = step.gradient(&batch, 1)?.loss;
            let gradients = Weights { parameters: step.gradients()?, ..Weights::default() };
            save_model(&inside.join(format!("{name}.safetensors")), &program, &gradients, 0)?;
        }
    }
    Ok(losses)
}

fn io(path: &Path, source: std::io::Error) -> TrainerError {
    TrainerError::Io { operation: "write into", path: path.to_path_buf(), source }
}

fn write_batch(path: &Path, batch: &StepBatch) -> Result<(), TrainerError> {
    let view = |kind, shape: &[usize], bytes| TensorView::new(kind, shape.to_vec(), bytes).expect("shape and bytes agree");
    let tensors = [
        ("images", view(Dtype::U8, &[PAIRS, SIDE, SIDE, 3], &batch.images[..])),
        // Small numbers: the same bits.
        ("tokens", view(Dtype::I32, &[PAIRS, CONTEXT], bytemuck::cast_slice(&batch.tokens))),
        ("ends", view(Dtype::I32, &[PAIRS], bytemuck::cast_slice(&batch.ends))),
    ];
    let body = safetensors::serialize(tensors, None).expect("three plain tensors");
    std::fs::write(path, body).map_err(|source| io(path, source))
}
