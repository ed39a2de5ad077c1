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
use crate::trainer::ops::patch_embed::reference::{self as patch_embed, Picture};
use crate::trainer::ops::reference::{Gradients, Matrix, Parameters};
use crate::trainer::ops::{head::reference as head, token_embed::reference as token_embed, transformer::reference as transformer};
use crate::trainer::program::{Block, Call, Program, Tower};

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
        let params = self.params();
        let end = batch.ends.get(sample).copied();
        let mut outputs: Vec<Matrix> = Vec::new();
        for call in self.program.tower(tower) {
            let output = match &call.block {
                Block::PatchEmbed(block) => patch_embed::forward(block, &params, self.picture(call, batch, sample)),
                Block::TokenEmbed(block) => {
                    token_embed::forward(block, &params, &batch.tokens[sample * block.tokens..][..block.tokens])
                }
                Block::Transformer(block) => transformer::forward(block, &params, last(&outputs)),
                Block::Head(block) => head::forward(block, &params, last(&outputs), end),
            };
            outputs.push(output);
        }
        outputs
    }

    /// Adds one sample's parameter gradients, from the gradient of its feature.
    fn backward(&self, tower: Tower, batch: &StepBatch, sample: usize, grad_feature: &[f64], grads: &mut Gradients) {
        let params = self.params();
        let end = batch.ends.get(sample).copied();
        let outputs = self.forward(tower, batch, sample);
        let calls: Vec<&Call> = self.program.tower(tower).collect();
        let mut grad = Matrix::from_rows(grad_feature.len(), grad_feature.to_vec());
        for (idx, call) in calls.iter().enumerate().rev() {
            match &call.block {
                Block::Head(block) => grad = head::backward(block, &params, &outputs[idx - 1], end, &grad, grads),
                Block::Transformer(block) => grad = transformer::backward(block, &params, &outputs[idx - 1], &grad, grads),
                Block::TokenEmbed(block) => {
                    token_embed::backward(block, &batch.tokens[sample * block.tokens..][..block.tokens], &grad, grads);
                }
                Block::PatchEmbed(block) => {
                    patch_embed::backward(block, &params, self.picture(call, batch, sample), &grad, grads);
                }
            }
        }
    }

    fn picture<'a>(&self, call: &Call, batch: &'a StepBatch, sample: usize) -> Picture<'a> {
        let pixels = self.program.slots[call.input].len_per_sample();
        let kept = batch.keep.len() / batch.samples;
        let keep = (kept > 0).then(|| &batch.keep[sample * kept..(sample + 1) * kept]);
        Picture { pixels: &batch.images[sample * pixels..(sample + 1) * pixels], keep }
    }
}

fn last(outputs: &[Matrix]) -> &Matrix {
    outputs.last().expect("the program puts an embedding before this call")
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
