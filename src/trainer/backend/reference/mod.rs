//! The reference backend: the same program in plain f64 loops on one thread, the oracle of the other backends.
//!
//! Input: a `Program`, parameters, a batch. Output: features, loss, gradients and updates in f64. What an op computes stands in
//! its `reference.rs`; here samples go through one by one. It is slow, and only tests use it.

mod optimizer;

use std::sync::Arc;

pub use self::optimizer::ReferenceOptimizer;

use super::{LossReport, Step, StepAt, StepBatch, StepFound, UpdateReport};
use crate::run::TrainConfig;
use crate::trainer::TrainerError;
use crate::trainer::ops::contrastive::reference as contrastive;
use crate::trainer::ops::op::Value;
use crate::trainer::ops::reference::{Gradients, Matrix, Parameters};
use crate::trainer::program::{Call, Program, Tower};

/// A program prepared for the reference backend.
#[derive(Debug, Clone)]
pub struct ReferenceStep {
    program: Arc<Program>,
    parameters: Vec<f64>,
    gradient: Vec<f64>,
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
        let mut step = Self { program, parameters: Vec::new(), gradient, optimizer, found: None };
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
    #[must_use]
    pub fn features(&self, batch: &StepBatch) -> (Vec<f64>, Vec<f64>) {
        (self.encode(Tower::Image, batch).values, self.encode(Tower::Text, batch).values)
    }

    /// The program's loss of a batch, nats.
    #[must_use]
    pub fn loss(&self, batch: &StepBatch) -> f64 {
        self.contrast(batch).value
    }

    /// Backward from given gradients of both features [B, E]; the flat gradient is replaced, scale and bias of the logits get none.
    pub fn gradient_from_features(&mut self, batch: &StepBatch, grad_image: &[f64], grad_text: &[f64]) {
        let mut gradient = vec![0.0; self.program.num_params()];
        for (tower, grad) in [(Tower::Image, grad_image), (Tower::Text, grad_text)] {
            let mut grads = Gradients { views: &self.program.params, flat: &mut gradient };
            let grad = Matrix::from_rows(self.program.embed_dim, grad.to_vec());
            for sample in 0..batch.samples {
                self.backward(tower, batch, sample, grad.row(sample), &mut grads);
            }
        }
        self.gradient = gradient;
    }

    fn params(&self) -> Parameters<'_> {
        Parameters { views: &self.program.params, flat: &self.parameters }
    }

    fn logit_scale(&self) -> f64 {
        self.params().vector(self.program.log_logit_scale)[0].exp()
    }

    fn contrast(&self, batch: &StepBatch) -> contrastive::Loss {
        let (image, text) = (self.encode(Tower::Image, batch), self.encode(Tower::Text, batch));
        match self.program.logit_bias {
            None => contrastive::loss(&image, &text, self.logit_scale()),
            Some(bias) => contrastive::sigmoid(&image, &text, self.logit_scale(), self.params().vector(bias)[0]),
        }
    }

    /// Features of one tower [B, E].
    fn encode(&self, tower: Tower, batch: &StepBatch) -> Matrix {
        let mut features = Matrix::zeros(batch.samples, self.program.embed_dim);
        for sample in 0..batch.samples {
            let outputs = self.forward(tower, batch, sample);
            features.row_mut(sample).copy_from_slice(&outputs[outputs.len() - 1].values);
        }
        features
    }

    /// The output of every call of a tower for one sample.
    fn forward(&self, tower: Tower, batch: &StepBatch, sample: usize) -> Vec<Matrix> {
        let mut outputs: Vec<Matrix> = Vec::new();
        for call in self.program.tower(tower) {
            let output = call.op.reference().forward(&self.params(), &self.inputs(call, batch, sample, outputs.last()));
            outputs.push(output);
        }
        outputs
    }

    /// Adds one sample's parameter gradients, from the gradient of its feature.
    fn backward(&self, tower: Tower, batch: &StepBatch, sample: usize, grad_feature: &[f64], grads: &mut Gradients) {
        let outputs = self.forward(tower, batch, sample);
        let calls: Vec<&Call> = self.program.tower(tower).collect();
        let mut grad = Some(Matrix::from_rows(grad_feature.len(), grad_feature.to_vec()));
        for (idx, call) in calls.iter().enumerate().rev() {
            let Some(grad_output) = grad else { return };
            let inputs = self.inputs(call, batch, sample, idx.checked_sub(1).map(|before| &outputs[before]));
            grad = call.op.reference().backward(&self.params(), &inputs, &grad_output, grads);
        }
    }

    /// What a call reads of one sample: the batch's, or the output of the call before it.
    fn inputs<'a>(&self, call: &Call, batch: &'a StepBatch, sample: usize, before: Option<&'a Matrix>) -> Vec<Value<'a>> {
        let read = |slot: &usize| match self.program.input(*slot) {
            None => Value::Rows(before.expect("an earlier call made it")),
            Some(kind) => batch.input(kind, sample..sample + 1),
        };
        call.inputs.iter().map(read).collect()
    }
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

    /// The number of chunks does not matter here: samples go through one by one anyway.
    fn gradient(&mut self, batch: &StepBatch, _chunks: usize) -> Result<LossReport, TrainerError> {
        let loss = self.contrast(batch);
        self.gradient_from_features(batch, &loss.grad_image.values, &loss.grad_text.values);
        self.gradient[self.program.params[self.program.log_logit_scale].offset] = loss.grad_log_scale;
        if let Some(bias) = self.program.logit_bias {
            self.gradient[self.program.params[bias].offset] = loss.grad_bias;
        }
        Ok(LossReport { loss: loss.value, logit_scale: self.logit_scale() })
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

    fn encode_images(&mut self, samples: usize, images: &[u8]) -> Result<Vec<f32>, TrainerError> {
        let batch = StepBatch { samples, images: images.to_vec(), ..StepBatch::default() };
        Ok(narrow(&self.encode(Tower::Image, &batch).values))
    }

    fn encode_texts(&mut self, samples: usize, tokens: &[u32], ends: &[u32]) -> Result<Vec<f32>, TrainerError> {
        let batch = StepBatch { samples, tokens: tokens.to_vec(), ends: ends.to_vec(), ..StepBatch::default() };
        Ok(narrow(&self.encode(Tower::Text, &batch).values))
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}
