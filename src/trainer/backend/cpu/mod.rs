//! The CPU trainer: dfdx tensors and tape, one tape op a block call.
//!
//! Owns parameters, lanes, saved slots and the thread pool. A batch is cut into a fixed number of contiguous lanes; a thread
//! takes whole lanes and walks each in chunks whose rows fit the cache. A lane sums its parameter gradients in chunk order into
//! its own buffer, and lanes are added by a fixed tree, so bytes do not depend on the thread count.

mod core;
mod lanes;
mod tape;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use dfdx::tensor::{NoneTape, OwnedTape};

use self::core::Core;
use super::{LossReport, Step, StepBatch, UpdateReport};
use crate::run::TrainConfig;
use crate::trainer::TrainerError;
use crate::trainer::ops::contrastive::{self, Contrastive};
use crate::trainer::optim::Optimizer;
use crate::trainer::program::{Program, Tower};

/// Settings of a prepared step that are not the program's.
#[derive(Debug, Clone, Copy)]
pub struct CpuSettings {
    /// Threads; never changes a byte of the result.
    pub threads: usize,
    /// Parts that a batch is cut into for summing gradients.
    pub lanes: usize,
}

/// A program prepared for the CPU.
pub struct CpuStep {
    core: Rc<RefCell<Core>>,
    program: Arc<Program>,
    optimizer: Option<Optimizer>,
}

impl CpuStep {
    /// Prepares a program; `train` gives the optimiser, `None` is for encoding alone.
    ///
    /// # Errors
    /// If threads cannot be started or `parameters` has another length than the program.
    pub fn new(
        program: Arc<Program>,
        parameters: Vec<f32>,
        settings: CpuSettings,
        train: Option<&TrainConfig>,
    ) -> Result<Self, TrainerError> {
        keep_freed_memory();
        let optimizer = train.map(|train| Optimizer::new(&program, train));
        let core = Core::new(program.clone(), parameters, settings)?;
        Ok(Self { core: Rc::new(RefCell::new(core)), program, optimizer })
    }

    /// Features of a part of the loaded batch, without a tape.
    fn features(&self, tower: Tower, part: std::ops::Range<usize>) -> Result<Vec<f32>, TrainerError> {
        let rows = tape::run_tower::<NoneTape>(&self.core, tower, part)?;
        Ok(tape::view(&rows).to_vec())
    }

    /// Forward with a tape and backward from the given feature gradients.
    fn backward(&self, part: &std::ops::Range<usize>, grad_image: &[f32], grad_text: &[f32]) -> Result<(), TrainerError> {
        let image = tape::run_tower::<OwnedTape<f32, dfdx::tensor::Cpu>>(&self.core, Tower::Image, part.clone())?;
        let text = tape::run_tower::<OwnedTape<f32, dfdx::tensor::Cpu>>(&self.core, Tower::Text, part.clone())?;
        tape::backward_from(image, text, grad_image, grad_text)
    }
}

/// Cuts `samples` into `chunks` contiguous parts of nearly equal length.
fn parts(samples: usize, chunks: usize) -> Vec<std::ops::Range<usize>> {
    let chunks = chunks.clamp(1, samples.max(1));
    (0..chunks).map(|chunk| samples * chunk / chunks..samples * (chunk + 1) / chunks).collect()
}

impl Step for CpuStep {
    fn parameters(&self) -> Vec<f32> {
        self.core.borrow().parameters.clone()
    }

    fn set_parameters(&mut self, values: &[f32]) -> Result<(), TrainerError> {
        self.core.borrow_mut().set_parameters(values)
    }

    fn gradient(&mut self, batch: &StepBatch, chunks: usize) -> Result<LossReport, TrainerError> {
        self.core.borrow_mut().begin(batch);
        let parts = parts(batch.samples, chunks);
        let shape = Contrastive { batch: batch.samples, embed_dim: self.program.embed_dim };
        let logit_scale = self.core.borrow().logit_scale();
        if let [whole] = parts.as_slice() {
            let image = tape::run_tower::<OwnedTape<f32, dfdx::tensor::Cpu>>(&self.core, Tower::Image, whole.clone())?;
            let text = tape::run_tower::<OwnedTape<f32, dfdx::tensor::Cpu>>(&self.core, Tower::Text, whole.clone())?;
            let (grads, out) = self.core.borrow().contrast(&shape, logit_scale, tape::view(&image), tape::view(&text));
            tape::backward_from(image, text, &grads.0, &grads.1)?;
            self.core.borrow_mut().finish(out.grad_log_scale);
            return Ok(LossReport { loss: out.loss, logit_scale: f64::from(logit_scale) });
        }
        // Exact accumulation: features of all parts first, the loss on the whole batch, then each part again with a tape.
        let (mut image, mut text) = (Vec::new(), Vec::new());
        for part in &parts {
            image.extend(self.features(Tower::Image, part.clone())?);
            text.extend(self.features(Tower::Text, part.clone())?);
        }
        let (grads, out): (_, contrastive::ContrastiveOut) = self.core.borrow().contrast(&shape, logit_scale, &image, &text);
        for part in &parts {
            let features = part.start * shape.embed_dim..part.end * shape.embed_dim;
            self.backward(part, &grads.0[features.clone()], &grads.1[features])?;
        }
        self.core.borrow_mut().finish(out.grad_log_scale);
        Ok(LossReport { loss: out.loss, logit_scale: f64::from(logit_scale) })
    }

    fn gradients(&self) -> Vec<f32> {
        self.core.borrow().gradient.clone()
    }

    fn update(&mut self, step: u64, lr: f64) -> Result<UpdateReport, TrainerError> {
        let optimizer = self.optimizer.as_mut().ok_or(TrainerError::NoOptimizer)?;
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        let grad_norm = core.pool.install(|| optimizer.update(step, lr, &mut core.parameters, &mut core.gradient));
        core.clamp_logit_scale();
        Ok(UpdateReport { grad_norm })
    }

    fn optimizer_state(&self) -> Vec<(String, Vec<f32>)> {
        self.optimizer.as_ref().map(Optimizer::state).unwrap_or_default()
    }

    fn set_optimizer_state(&mut self, state: &[(String, Vec<f32>)]) -> Result<(), TrainerError> {
        self.optimizer.as_mut().ok_or(TrainerError::NoOptimizer)?.set_state(state)
    }

    fn encode_images(&mut self, samples: usize, images: &[u8]) -> Result<Vec<f32>, TrainerError> {
        let batch = StepBatch { samples, images: images.to_vec(), ..StepBatch::default() };
        self.core.borrow_mut().begin(&batch);
        self.features(Tower::Image, 0..samples)
    }

    fn encode_texts(&mut self, samples: usize, tokens: &[u32], ends: &[u32]) -> Result<Vec<f32>, TrainerError> {
        let batch = StepBatch { samples, tokens: tokens.to_vec(), ends: ends.to_vec(), ..StepBatch::default() };
        self.core.borrow_mut().begin(&batch);
        self.features(Tower::Text, 0..samples)
    }
}

/// Lets glibc keep freed buffers: a step allocates the same sizes again, and mapping them anew costs a page fault each 4 KiB.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::sync::Once;
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: mallopt only sets two thresholds of the allocator; any value is allowed.
            unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
                libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
            }
        });
    }
}
