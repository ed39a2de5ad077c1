//! The CPU trainer: dfdx tensors and tape, one tape op a call.
//!
//! Owns parameters, lanes, saved slots and the thread pool. A batch is cut into a fixed number of contiguous lanes; a thread
//! takes whole lanes and walks each in chunks whose rows fit the cache. A lane sums its parameter gradients in chunk order into
//! its own buffer, and lanes are added by a fixed tree, so bytes do not depend on the thread count.

mod call;
mod core;
mod graph;
mod lanes;
mod values;

use std::cell::{Ref, RefMut};
use std::ops::Range;
use std::sync::Arc;

use self::core::Core;
use self::graph::{Graph, Source};
use super::{LossReport, Step, StepAt, StepBatch, StepFound, UpdateReport, group_parts};
use crate::run::TrainConfig;
use crate::trainer::TrainerError;
use crate::trainer::ops::op::whole::Pass;
use crate::trainer::optim::Optimizer;
use crate::trainer::program::{Output, Program, SlotIdx, Tower};

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
    graph: Graph,
    program: Arc<Program>,
    optimizer: Option<Optimizer>,
    /// Values of the losses, as the last gradient pass found them.
    terms: Vec<f64>,
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
        Ok(Self { graph: Graph::new(program.clone(), core), program, optimizer, terms: Vec::new(), found: None })
    }

    fn core(&self) -> Ref<'_, Core> {
        Ref::map(self.graph.state.borrow(), |state| &state.core)
    }

    fn core_mut(&mut self) -> RefMut<'_, Core> {
        RefMut::map(self.graph.state.borrow_mut(), |state| &mut state.core)
    }

    fn slot(&self, output: Output) -> Result<SlotIdx, TrainerError> {
        self.program.output(output).ok_or_else(|| TrainerError::Input(format!("this program gives no {output:?}")))
    }

    /// Takes in what the calls that lead to `slots` read of a batch.
    fn begin(&mut self, batch: &StepBatch, slots: &[SlotIdx]) -> Result<(), TrainerError> {
        let calls = self.program.leading_to(slots);
        let mut towers: Vec<Tower> = calls.into_iter().map(|idx| self.program.calls[idx].tower).collect();
        towers.dedup();
        self.core_mut().begin(batch, &towers)
    }

    /// Normalised image and text features [B, E] of a batch as a training step sees it, masked patches left out.
    ///
    /// # Errors
    /// Out of memory, or a batch that does not fit.
    pub fn features(&mut self, batch: &StepBatch) -> Result<(Vec<f32>, Vec<f32>), TrainerError> {
        let (image, text) = (self.slot(Output::ImageFeatures)?, self.slot(Output::TextFeatures)?);
        self.begin(batch, &[image, text])?;
        self.graph.run(&[image, text], &(0..batch.samples), Pass::Features)?;
        Ok((self.graph.values(image, batch.samples).to_vec(), self.graph.values(text, batch.samples).to_vec()))
    }

    /// As [`Step::gradient`] for another loss, given by its gradients by outputs [B, width]; parameters of the program's own losses
    /// get none.
    ///
    /// # Errors
    /// Out of memory, or an output that the program lacks.
    pub fn gradient_from(&mut self, batch: &StepBatch, chunks: usize, grads: &[(Output, &[f32])]) -> Result<(), TrainerError> {
        let seeds =
            grads.iter().map(|(output, grad)| Ok((self.slot(*output)?, *grad))).collect::<Result<Vec<_>, TrainerError>>()?;
        self.begin(batch, &seeds.iter().map(|(slot, _)| *slot).collect::<Vec<_>>())?;
        for part in group_parts(batch.samples, chunks, self.program.grain()) {
            self.go_back_from(&part, &seeds)?;
        }
        self.core_mut().finish();
        Ok(())
    }

    /// Runs a part with tapes, and back from the whole batch's gradients of some slots.
    fn go_back_from(&mut self, part: &Range<usize>, grads: &[(SlotIdx, &[f32])]) -> Result<(), TrainerError> {
        let slots: Vec<SlotIdx> = grads.iter().map(|(slot, _)| *slot).collect();
        let mut tapes = self.graph.run(&slots, part, Pass::Gradient)?;
        let of_part = |(slot, grad): &(SlotIdx, &[f32])| {
            let per_sample = self.program.slots[*slot].len_per_sample();
            (*slot, grad[part.start * per_sample..part.end * per_sample].to_vec())
        };
        let scalar = self.graph.seeded(&mut tapes, grads.iter().map(of_part).collect())?;
        self.graph.go_back(scalar)?;
        self.core_mut().end_part(part.len());
        Ok(())
    }

    /// Forward and backward of a batch in parts; the values of the program's losses.
    fn pass(&mut self, batch: &StepBatch, chunks: usize) -> Result<Vec<f64>, TrainerError> {
        let slots = self.program.loss_inputs();
        self.begin(batch, &slots)?;
        let parts = group_parts(batch.samples, chunks, self.program.grain());
        if let [whole] = parts.as_slice() {
            let mut tapes = self.graph.run(&slots, whole, Pass::Gradient)?;
            let (total, values) = self.graph.loss(&mut tapes, batch.samples, Source::Part)?;
            self.graph.go_back(total)?;
            self.core_mut().end_part(batch.samples);
            return Ok(values);
        }
        // Exact accumulation: what the losses read of all parts first, the losses on the whole batch, then each part again with a tape.
        for part in &parts {
            self.graph.run(&slots, part, Pass::Features)?;
            self.graph.gather(&slots, part, batch.samples)?;
        }
        let mut tapes: graph::Tapes = self.program.slots.iter().map(|_| None).collect();
        let (total, values) = self.graph.loss(&mut tapes, batch.samples, Source::Whole)?;
        self.graph.go_back(total)?;
        let grads = slots.iter().map(|slot| Ok((*slot, self.graph.take_gradient(*slot)?)));
        let grads = grads.collect::<Result<Vec<_>, TrainerError>>()?;
        let borrowed: Vec<(SlotIdx, &[f32])> = grads.iter().map(|(slot, grad)| (*slot, grad.as_slice())).collect();
        for part in &parts {
            self.go_back_from(part, &borrowed)?;
        }
        Ok(values)
    }
}

impl Step for CpuStep {
    fn parameters(&mut self) -> Result<Vec<f32>, TrainerError> {
        Ok(self.core().parameters.clone())
    }

    fn set_parameters(&mut self, values: &[f32]) -> Result<(), TrainerError> {
        self.core_mut().set_parameters(values)
    }

    fn state(&mut self) -> Result<Vec<f32>, TrainerError> {
        Ok(self.core().state.clone())
    }

    fn set_state(&mut self, values: &[f32]) -> Result<(), TrainerError> {
        self.core_mut().set_state(values)
    }

    fn gradient(&mut self, batch: &StepBatch, chunks: usize) -> Result<LossReport, TrainerError> {
        let logit_scale = f64::from(self.core().logit_scale());
        self.terms = self.pass(batch, chunks)?;
        self.core_mut().finish();
        let loss = self.program.losses.iter().zip(&self.terms).map(|(term, value)| term.weight * value).sum();
        Ok(LossReport { loss, logit_scale })
    }

    fn gradients(&mut self) -> Result<Vec<f32>, TrainerError> {
        Ok(self.core().gradient.clone())
    }

    fn loss_terms(&self) -> Vec<(&'static str, f64)> {
        self.program.losses.iter().map(|term| term.name).zip(self.terms.iter().copied()).collect()
    }

    fn update(&mut self, step: u64, lr: f64) -> Result<UpdateReport, TrainerError> {
        let optimizer = self.optimizer.as_mut().ok_or(TrainerError::NoOptimizer)?;
        let core = &mut self.graph.state.borrow_mut().core;
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

    fn encode(&mut self, outputs: &[Output], batch: &StepBatch) -> Result<Vec<Vec<f32>>, TrainerError> {
        let slots = outputs.iter().map(|output| self.slot(*output)).collect::<Result<Vec<_>, _>>()?;
        self.begin(batch, &slots)?;
        self.graph.run(&slots, &(0..batch.samples), Pass::Evaluate)?;
        Ok(slots.into_iter().map(|slot| self.graph.values(slot, batch.samples).to_vec()).collect())
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
