//! Both losses on pairs as terms of a program: image features, text features, the learnt scale and bias of the logits.

use super::reference::Loss as Pairs;
use super::{Contrastive, ContrastiveOut, forward_backward, reference, sigmoid};
use crate::ParallelFor;
use crate::loss::{Loss, LossValue, ReferenceLoss};
use crate::op::Params;
use crate::params::ParamIdx;
use crate::reference::{Matrix, Parameters};

/// Symmetric InfoNCE of normalised image and text features.
#[derive(Debug, Clone)]
pub struct ContrastiveLoss {
    /// Channels of a feature (E).
    pub embed_dim: usize,
    /// The log of the logit scale.
    pub log_scale: ParamIdx,
}

/// The sigmoid loss of normalised image and text features.
#[derive(Debug, Clone)]
pub struct SigmoidLoss {
    /// Channels of a feature (E).
    pub embed_dim: usize,
    /// The log of the logit scale.
    pub log_scale: ParamIdx,
    /// Added to every logit.
    pub bias: ParamIdx,
}

/// Image and text features and their gradients.
fn pairs<'a>(inputs: &[&'a [f32]], grads: &'a mut [&mut [f32]]) -> ([&'a [f32]; 2], [&'a mut [f32]; 2]) {
    let (&[image, text], [grad_image, grad_text]) = (inputs, grads) else {
        unreachable!("the program gives a loss on pairs two inputs")
    };
    ([image, text], [grad_image, grad_text])
}

impl Loss for ContrastiveLoss {
    fn cpu(&self, params: &Params, batch: usize, inputs: &[&[f32]], grads: &mut [&mut [f32]], team: &dyn ParallelFor) -> LossValue {
        let ([image, text], [grad_image, grad_text]) = pairs(inputs, grads);
        let (shape, scale) = (Contrastive { batch, embed_dim: self.embed_dim }, params.view(self.log_scale)[0].exp());
        let ContrastiveOut { loss, grad_log_scale } = forward_backward(&shape, image, text, scale, grad_image, grad_text, team);
        LossValue { value: loss, params: vec![(self.log_scale, grad_log_scale)] }
    }

    fn reference(&self, params: &Parameters, inputs: &[&Matrix]) -> ReferenceLoss {
        let scale = params.vector(self.log_scale)[0].exp();
        let Pairs { value, grad_image, grad_text, grad_log_scale, .. } = reference::loss(inputs[0], inputs[1], scale);
        ReferenceLoss { value, inputs: vec![grad_image, grad_text], params: vec![(self.log_scale, grad_log_scale)] }
    }
}

impl Loss for SigmoidLoss {
    fn cpu(&self, params: &Params, batch: usize, inputs: &[&[f32]], grads: &mut [&mut [f32]], team: &dyn ParallelFor) -> LossValue {
        let ([image, text], [grad_image, grad_text]) = pairs(inputs, grads);
        let shape = Contrastive { batch, embed_dim: self.embed_dim };
        let logits = sigmoid::Logits { scale: params.view(self.log_scale)[0].exp(), bias: params.view(self.bias)[0] };
        let out = sigmoid::forward_backward(&shape, image, text, logits, grad_image, grad_text, team);
        LossValue { value: out.loss, params: vec![(self.log_scale, out.grad_log_scale), (self.bias, out.grad_bias)] }
    }

    fn reference(&self, params: &Parameters, inputs: &[&Matrix]) -> ReferenceLoss {
        let (scale, bias) = (params.vector(self.log_scale)[0].exp(), params.vector(self.bias)[0]);
        let Pairs { value, grad_image, grad_text, grad_log_scale, grad_bias } =
            reference::sigmoid(inputs[0], inputs[1], scale, bias);
        let params = vec![(self.log_scale, grad_log_scale), (self.bias, grad_bias)];
        ReferenceLoss { value, inputs: vec![grad_image, grad_text], params }
    }
}
