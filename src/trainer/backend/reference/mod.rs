//! The reference backend: the same program in plain f64 loops on one thread, the oracle of the other backends.
//!
//! Input: a `Program`, parameters, a batch. Output: features, loss, gradients and updates in f64. What an op computes stands in
//! its `reference.rs`; here calls follow one another, each over all samples one by one. It is slow, and only tests use it.

mod optimizer;

use std::sync::Arc;

pub use self::optimizer::ReferenceOptimizer;

use super::{LossReport, Step, StepAt, StepBatch, StepFound, UpdateReport};
use crate::run::TrainConfig;
use crate::trainer::TrainerError;
use crate::trainer::ops::loss::ReferenceLoss;
use crate::trainer::ops::op::whole::{self, Observed, Pass, State};
use crate::trainer::ops::op::{Oracle, Value};
use crate::trainer::ops::reference::{Gradients, Matrix, Parameters};
use crate::trainer::program::{Call, LossTerm, Output, Program, Slot, SlotIdx};

/// A program prepared for the reference backend.
#[derive(Debug, Clone)]
pub struct ReferenceStep {
    program: Arc<Program>,
    parameters: Vec<f64>,
    gradient: Vec<f64>,
    state: Vec<f64>,
    optimizer: Option<ReferenceOptimizer>,
    found: Option<StepFound>,
}

impl ReferenceStep {
    /// Prepares a program; `train` gives the optimiser, `None` is for features and gradients alone.
    ///
    /// # Errors
    /// If `parameters` has another length than the program.
    pub fn new(program: Arc<Program>, parameters: &[f32], train: Option<&TrainConfig>) -> Result<Self, TrainerError> {
        let optimizer = train.map(|train| ReferenceOptimizer::new(&program, train));
        let gradient = vec![0.0; program.num_params()];
        let state = widen(&whole::initial(&program.state));
        let mut step = Self { program, parameters: Vec::new(), gradient, state, optimizer, found: None };
        step.set_parameters(parameters)?;
        Ok(step)
    }

    /// The flat parameters.
    #[must_use]
    pub fn parameters_f64(&self) -> &[f64] {
        &self.parameters
    }

    /// The flat parameters, to be moved.
    pub fn parameters_f64_mut(&mut self) -> &mut [f64] {
        &mut self.parameters
    }

    /// The flat gradient of the last pass.
    #[must_use]
    pub fn gradients_f64(&self) -> &[f64] {
        &self.gradient
    }

    /// Normalised image and text features [B, E] of a batch, masked patches left out.
    ///
    /// # Panics
    /// If the program has no such outputs.
    #[must_use]
    pub fn features(&self, batch: &StepBatch) -> (Vec<f64>, Vec<f64>) {
        let output = |output| self.output(output, batch, Pass::Features).values;
        (output(Output::ImageFeatures), output(Output::TextFeatures))
    }

    /// The program's loss of a batch, nats.
    #[must_use]
    pub fn loss(&self, batch: &StepBatch) -> f64 {
        let (values, _) = self.forward(&self.program.loss_inputs(), batch, Pass::Features);
        self.program.losses.iter().map(|term| term.weight * self.term(term, &values).value).sum()
    }

    /// Backward from given gradients of both features [B, E]; the flat gradient is replaced, parameters of the losses get none.
    ///
    /// # Panics
    /// If the program has no such outputs.
    pub fn gradient_from_features(&mut self, batch: &StepBatch, grad_image: &[f64], grad_text: &[f64]) {
        let seeds = [(Output::ImageFeatures, grad_image), (Output::TextFeatures, grad_text)];
        let seeds = seeds.map(|(output, grad)| (self.slot(output), Matrix::from_rows(grad.len() / batch.samples, grad.to_vec())));
        let (values, observed) = self.forward(&seeds.each_ref().map(|(slot, _)| *slot), batch, Pass::Gradient);
        let mut gradient = vec![0.0; self.program.num_params()];
        self.backward(batch, &values, seeds.to_vec(), &mut gradient);
        self.gradient = gradient;
        self.state = observed.moved(&self.program.state, &self.state);
    }

    fn slot(&self, output: Output) -> SlotIdx {
        self.program.output(output).expect("the program has this output")
    }

    fn params(&self) -> Parameters<'_> {
        Parameters { views: &self.program.params, flat: &self.parameters }
    }

    fn logit_scale(&self) -> f64 {
        self.params().vector(self.program.log_logit_scale)[0].exp()
    }

    /// An output of the whole batch, one row a sample.
    fn output(&self, output: Output, batch: &StepBatch, pass: Pass) -> Matrix {
        let slot = self.slot(output);
        joined(&self.forward(&[slot], batch, pass).0[slot])
    }

    fn term(&self, term: &LossTerm, values: &[Vec<Matrix>]) -> ReferenceLoss {
        let inputs: Vec<Matrix> = term.inputs.iter().map(|slot| joined(&values[*slot])).collect();
        term.op.reference(&self.params(), &inputs.iter().collect::<Vec<_>>())
    }

    /// What the calls that lead to `slots` give: by slot, one matrix a sample; and what they observed.
    fn forward(&self, slots: &[SlotIdx], batch: &StepBatch, pass: Pass) -> (Vec<Vec<Matrix>>, Observed) {
        let mut observed = Observed::new(&self.program.state);
        let mut values: Vec<Vec<Matrix>> = vec![Vec::new(); self.program.slots.len()];
        for idx in self.program.leading_to(slots) {
            let call = &self.program.calls[idx];
            let inputs: Vec<_> = (0..batch.samples).map(|sample| self.inputs(call, batch, sample, &values)).collect();
            values[call.output] = match call.op.reference() {
                Oracle::Sample(op) => inputs.iter().map(|inputs| op.forward(&self.params(), inputs)).collect(),
                Oracle::Whole(op) => {
                    let mut state = State { views: &self.program.state, flat: &self.state, observed: &mut observed };
                    op.forward(&self.params(), &inputs, pass, &mut state)
                }
            };
        }
        (values, observed)
    }

    /// Adds the parameters' gradients, from the gradients of some slots [B, width].
    fn backward(&self, batch: &StepBatch, values: &[Vec<Matrix>], seeds: Vec<(SlotIdx, Matrix)>, gradient: &mut [f64]) {
        let mut grads: Vec<Vec<Option<Matrix>>> = vec![vec![None; batch.samples]; self.program.slots.len()];
        let slots: Vec<SlotIdx> = seeds.iter().map(|(slot, _)| *slot).collect();
        for (slot, seed) in seeds {
            let Slot { rows, channels, .. } = self.program.slots[slot];
            for (sample, grad) in seed.values.chunks(rows * channels).enumerate() {
                accumulate(&mut grads[slot][sample], Matrix::from_rows(channels, grad.to_vec()));
            }
        }
        let mut flat = Gradients { views: &self.program.params, flat: gradient };
        for idx in self.program.leading_to(&slots).into_iter().rev() {
            let call = &self.program.calls[idx];
            let Some(grad_outputs) = std::mem::take(&mut grads[call.output]).into_iter().collect::<Option<Vec<_>>>() else {
                continue;
            };
            let inputs: Vec<_> = (0..batch.samples).map(|sample| self.inputs(call, batch, sample, values)).collect();
            let found: Vec<_> = match call.op.reference() {
                Oracle::Sample(op) => {
                    let pairs = inputs.iter().zip(&grad_outputs);
                    pairs.map(|(inputs, grad)| op.backward(&self.params(), inputs, grad, &mut flat)).collect()
                }
                Oracle::Whole(op) => op.backward(&self.params(), &inputs, &grad_outputs, &mut flat),
            };
            for (sample, found) in found.into_iter().enumerate() {
                assert_eq!(found.len(), call.inputs.len(), "`{}` gives one gradient an input", call.name);
                for (slot, grad) in call.inputs.iter().zip(found) {
                    if let Some(grad) = grad {
                        accumulate(&mut grads[*slot][sample], grad);
                    }
                }
            }
        }
    }

    /// What a call reads of one sample: the batch's, or outputs of earlier calls.
    fn inputs<'a>(&self, call: &Call, batch: &'a StepBatch, sample: usize, values: &'a [Vec<Matrix>]) -> Vec<Value<'a>> {
        let read = |slot: &SlotIdx| match self.program.input(*slot) {
            None => Value::Rows(&values[*slot][sample]),
            Some(kind) => batch.input(kind, sample..sample + 1),
        };
        call.inputs.iter().map(read).collect()
    }
}

/// The rows of all samples as one row each.
fn joined(samples: &[Matrix]) -> Matrix {
    let values: Vec<f64> = samples.iter().flat_map(|sample| sample.values.iter().copied()).collect();
    Matrix::from_rows(values.len() / samples.len().max(1), values)
}

fn accumulate(sum: &mut Option<Matrix>, grad: Matrix) {
    *sum = Some(match sum.take() {
        None => grad,
        Some(before) => before.plus(&grad),
    });
}

/// In f32 at the interface; the accessors of [`ReferenceStep`] lose nothing.
impl Step for ReferenceStep {
    fn parameters(&mut self) -> Result<Vec<f32>, TrainerError> {
        Ok(narrow(&self.parameters))
    }

    fn set_parameters(&mut self, values: &[f32]) -> Result<(), TrainerError> {
        let expected = self.program.num_params();
        if values.len() != expected {
            return Err(TrainerError::ParameterCount { found: values.len(), expected });
        }
        self.parameters = widen(values);
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<f32>, TrainerError> {
        Ok(narrow(&self.state))
    }

    fn set_state(&mut self, values: &[f32]) -> Result<(), TrainerError> {
        let expected = self.state.len();
        if values.len() != expected {
            return Err(TrainerError::Input(format!("{} values of running statistics, expected {expected}", values.len())));
        }
        self.state = widen(values);
        Ok(())
    }

    /// The number of chunks does not matter here: samples go through one by one anyway.
    fn gradient(&mut self, batch: &StepBatch, _chunks: usize) -> Result<LossReport, TrainerError> {
        let (values, observed) = self.forward(&self.program.loss_inputs(), batch, Pass::Gradient);
        let (mut loss, mut seeds, mut gradient) = (0.0, Vec::new(), vec![0.0; self.program.num_params()]);
        for term in &self.program.losses {
            let found = self.term(term, &values);
            loss += term.weight * found.value;
            let weighted = found.inputs.into_iter().map(|grad| grad.map(|grad| grad * term.weight));
            seeds.extend(term.inputs.iter().copied().zip(weighted));
            for (param, grad) in found.params {
                gradient[self.program.params[param].offset] += term.weight * grad;
            }
        }
        self.backward(batch, &values, seeds, &mut gradient);
        self.gradient = gradient;
        self.state = observed.moved(&self.program.state, &self.state);
        Ok(LossReport { loss, logit_scale: self.logit_scale() })
    }

    fn gradients(&mut self) -> Result<Vec<f32>, TrainerError> {
        Ok(narrow(&self.gradient))
    }

    fn update(&mut self, step: u64, lr: f64) -> Result<UpdateReport, TrainerError> {
        let optimizer = self.optimizer.as_mut().ok_or(TrainerError::NoOptimizer)?;
        let grad_norm = optimizer.update(step, lr, &mut self.parameters, &self.gradient);
        let log_scale = &mut self.parameters[self.program.params[self.program.log_logit_scale].offset];
        *log_scale = log_scale.clamp(0.0, self.program.logit_scale_max.ln());
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
        Ok(self.optimizer.as_ref().map_or_else(Vec::new, |optimizer| {
            vec![("first_moment".into(), narrow(&optimizer.first)), ("second_moment".into(), narrow(&optimizer.second))]
        }))
    }

    fn set_optimizer_state(&mut self, state: &[(String, Vec<f32>)]) -> Result<(), TrainerError> {
        let optimizer = self.optimizer.as_mut().ok_or(TrainerError::NoOptimizer)?;
        for (name, target) in [("first_moment", &mut optimizer.first), ("second_moment", &mut optimizer.second)] {
            let found = state.iter().find(|(key, values)| key == name && values.len() == target.len());
            let (_, values) = found.ok_or_else(|| TrainerError::OptimizerState { buffer: name.into() })?;
            *target = widen(values);
        }
        Ok(())
    }

    fn encode(&mut self, outputs: &[Output], batch: &StepBatch) -> Result<Vec<Vec<f32>>, TrainerError> {
        Ok(outputs.iter().map(|output| narrow(&self.output(*output, batch, Pass::Evaluate).values)).collect())
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}
