//! The CPU trainer: dfdx tensors and tape, one tape op a call.
//!
//! Owns parameters, lanes, saved slots and the thread pool. A batch is cut into a fixed number of contiguous lanes; a thread
//! takes whole lanes and walks each in chunks whose rows fit the cache. A lane sums its parameter gradients in chunk order into
//! its own buffer, and lanes are added by a fixed tree, so bytes do not depend on the thread count.

mod core;
mod lanes;
mod tape;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use dfdx::tensor::{NoneTape, OwnedTape};

use self::core::{Core, LossOut};
use super::{LossReport, Step, StepAt, StepBatch, StepFound, UpdateReport, parts};
use crate::run::TrainConfig;
use crate::trainer::TrainerError;
use crate::trainer::ops::contrastive::Contrastive;
use crate::trainer::optim::Optimizer;
use crate::trainer::program::{Program, Tower};

const BOTH: [Tower; 2] = [Tower::Image, Tower::Text];

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
    found: Option<StepFound>,
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
        Ok(Self { core: Rc::new(RefCell::new(core)), program, optimizer, found: None })
    }

    /// Normalised image and text features [B, E] of a batch as a training step sees it, masked patches left out.
    ///
    /// # Errors
    /// Out of memory, or a batch that does not fit.
    pub fn features(&mut self, batch: &StepBatch) -> Result<(Vec<f32>, Vec<f32>), TrainerError> {
        self.core.borrow_mut().begin(batch, &BOTH)?;
        let image = self.encode(Tower::Image, 0..batch.samples)?;
        Ok((image, self.encode(Tower::Text, 0..batch.samples)?))
    }

    /// As [`Step::gradient`] for another loss, given by its gradients by both features [B, E]; scale and bias of the logits get none.
    ///
    /// # Errors
    /// Out of memory.
    pub fn gradient_from_features(
        &mut self,
        batch: &StepBatch,
        chunks: usize,
        grad_image: &[f32],
        grad_text: &[f32],
    ) -> Result<(), TrainerError> {
        self.pass(batch, chunks, |_, _, _| ((grad_image.to_vec(), grad_text.to_vec()), ()))?;
        self.core.borrow_mut().finish(&LossOut::default());
        Ok(())
    }

    /// Forward and backward of one encoder alone from its features' gradient [B, E], for timing; the other's gradients are zero.
    ///
    /// # Errors
    /// Out of memory.
    pub fn gradient_of_tower(&mut self, batch: &StepBatch, tower: Tower, gradient: &[f32]) -> Result<(), TrainerError> {
        self.core.borrow_mut().begin(batch, &[tower])?;
        let features = tape::run_tower::<OwnedTape<f32, dfdx::tensor::Cpu>>(&self.core, tower, 0..batch.samples)?;
        tape::backward_from(vec![(features, gradient.to_vec())])?;
        let mut core = self.core.borrow_mut();
        core.end_part(batch.samples);
        core.finish(&LossOut::default());
        Ok(())
    }

    /// Forward and backward of a batch in parts; `loss` turns the whole batch's features into their gradients.
    fn pass<R>(
        &mut self,
        batch: &StepBatch,
        chunks: usize,
        loss: impl FnOnce(&Core, &[f32], &[f32]) -> ((Vec<f32>, Vec<f32>), R),
    ) -> Result<R, TrainerError> {
        self.core.borrow_mut().begin(batch, &BOTH)?;
        let parts = parts(batch.samples, chunks);
        if let [whole] = parts.as_slice() {
            let (image, text) = self.record(whole)?;
            let ((grad_image, grad_text), out) = loss(&self.core.borrow(), &tape::values(&image), &tape::values(&text));
            self.go_back(whole, (image, text), &grad_image, &grad_text)?;
            return Ok(out);
        }
        // Exact accumulation: features of all parts first, the loss on the whole batch, then each part again with a tape.
        let (mut image, mut text) = (Vec::new(), Vec::new());
        for part in &parts {
            image.extend(self.encode(Tower::Image, part.clone())?);
            text.extend(self.encode(Tower::Text, part.clone())?);
        }
        let ((grad_image, grad_text), out) = loss(&self.core.borrow(), &image, &text);
        for part in &parts {
            let features = part.start * self.program.embed_dim..part.end * self.program.embed_dim;
            let taped = self.record(part)?;
            self.go_back(part, taped, &grad_image[features.clone()], &grad_text[features])?;
        }
        Ok(out)
    }

    /// Features of a part of the loaded batch, without a tape.
    fn encode(&self, tower: Tower, part: Range<usize>) -> Result<Vec<f32>, TrainerError> {
        let rows = tape::run_tower::<NoneTape>(&self.core, tower, part)?;
        Ok(tape::values(&rows))
    }

    /// Features of a part of the loaded batch, with the tapes that lead back from them.
    fn record(&self, part: &Range<usize>) -> Result<(tape::Taped, tape::Taped), TrainerError> {
        let image = tape::run_tower::<OwnedTape<f32, dfdx::tensor::Cpu>>(&self.core, Tower::Image, part.clone())?;
        let text = tape::run_tower::<OwnedTape<f32, dfdx::tensor::Cpu>>(&self.core, Tower::Text, part.clone())?;
        Ok((image, text))
    }

    /// Backward of a part from its feature gradients into the lanes.
    fn go_back(
        &self,
        part: &Range<usize>,
        (image, text): (tape::Taped, tape::Taped),
        grad_image: &[f32],
        grad_text: &[f32],
    ) -> Result<(), TrainerError> {
        tape::backward_from(vec![(image, grad_image.to_vec()), (text, grad_text.to_vec())])?;
        self.core.borrow_mut().end_part(part.len());
        Ok(())
    }
}

impl Step for CpuStep {
    fn parameters(&mut self) -> Result<Vec<f32>, TrainerError> {
        Ok(self.core.borrow().parameters.clone())
    }

    fn set_parameters(&mut self, values: &[f32]) -> Result<(), TrainerError> {
        self.core.borrow_mut().set_parameters(values)
    }

    fn gradient(&mut self, batch: &StepBatch, chunks: usize) -> Result<LossReport, TrainerError> {
        let shape = Contrastive { batch: batch.samples, embed_dim: self.program.embed_dim };
        let logit_scale = self.core.borrow().logit_scale();
        let out = self.pass(batch, chunks, |core, image, text| core.contrast(&shape, image, text))?;
        self.core.borrow_mut().finish(&out);
        Ok(LossReport { loss: out.loss, logit_scale: f64::from(logit_scale) })
    }

    fn gradients(&mut self) -> Result<Vec<f32>, TrainerError> {
        Ok(self.core.borrow().gradient.clone())
    }

    fn update(&mut self, step: u64, lr: f64) -> Result<UpdateReport, TrainerError> {
        let optimizer = self.optimizer.as_mut().ok_or(TrainerError::NoOptimizer)?;
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        let grad_norm = core.pool.install(|| optimizer.update(step, lr, &mut core.parameters, &mut core.gradient));
        core.clamp_logit_scale();
        Ok(UpdateReport { grad_norm })
    }

    fn advance(&mut self, batch: &StepBatch, at: StepAt) -> Result<(), TrainerError> {
        self.found = Some(super::gradient_then_update(self, self.found, batch, at)?);
        Ok(())
    }

    fn found(&mut self) -> Result<StepFound, TrainerError> {
        self.found.ok_or(TrainerError::NoStep)
    }

    fn optimizer_state(&mut self) -> Result<Vec<(String, Vec<f32>)>, TrainerError> {
        Ok(self.optimizer.as_ref().map(Optimizer::state).unwrap_or_default())
    }

    fn set_optimizer_state(&mut self, state: &[(String, Vec<f32>)]) -> Result<(), TrainerError> {
        self.optimizer.as_mut().ok_or(TrainerError::NoOptimizer)?.set_state(state)
    }

    fn encode_images(&mut self, samples: usize, images: &[u8]) -> Result<Vec<f32>, TrainerError> {
        let batch = StepBatch { samples, images: images.to_vec(), ..StepBatch::default() };
        self.core.borrow_mut().begin(&batch, &[Tower::Image])?;
        self.encode(Tower::Image, 0..samples)
    }

    fn encode_texts(&mut self, samples: usize, tokens: &[u32], ends: &[u32]) -> Result<Vec<f32>, TrainerError> {
        let batch = StepBatch { samples, tokens: tokens.to_vec(), ends: ends.to_vec(), ..StepBatch::default() };
        self.core.borrow_mut().begin(&batch, &[Tower::Text])?;
        self.encode(Tower::Text, 0..samples)
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
