//! The loss as nodes: which slots it reads, its value, its gradients.

use super::Draft;
use crate::trainer::ops::contrastive::cuda::Schedule;
use crate::trainer::ops::contrastive::{self, Contrastive, Form};
use crate::trainer::ops::flat::report as reported;
use crate::trainer::ops::launch::Node;
use crate::trainer::ops::recorder::{Output, Value};
use crate::trainer::program::Output::{ImageFeatures, TextFeatures};
use crate::trainer::program::{Program, SlotIdx};

/// The slots that the loss reads: the features of images and texts.
pub(super) fn read_slots(program: &Program) -> [SlotIdx; 2] {
    [ImageFeatures, TextFeatures].map(|output| program.output(output).expect("a program that is trained has features"))
}

impl Draft<'_> {
    /// The loss from the slots of the whole batch, with its gradients by both, f32 [B, E].
    pub(super) fn loss(&mut self, samples: usize, [image, text]: [Output; 2]) -> [Value; 2] {
        let (program, real) = (self.program, self.r.real());
        let shape = Contrastive { batch: samples, embed_dim: program.embed_dim };
        let grads = ["grad image features", "grad text features"].map(|name| self.r.floats(name, samples, shape.embed_dim));
        let report = self.training().report;
        let ([grad_log_scale], _) = self.r.grads([program.log_logit_scale]);
        let views = contrastive::cuda::Views {
            image: image.reals.view,
            text: text.reals.view,
            log_scale: self.r.param(program.log_logit_scale),
            bias: program.logit_bias.map(|bias| self.r.param(bias)),
            grad_image: grads[0].view,
            grad_text: grads[1].view,
            loss: report.floats(reported::LOSS),
            logit_scale: report.floats(reported::LOGIT_SCALE),
            grad_log_scale,
            grad_bias: program.logit_bias.map(|bias| self.r.grads([bias]).0[0]),
        };
        let form = if program.logit_bias.is_some() { Form::Sigmoid } else { Form::Softmax };
        let schedule = Schedule::for_batch(samples, shape.embed_dim);
        let scratch = self.r.scratch("loss scratch", contrastive::cuda::scratch_bytes(&shape, form, schedule, real));
        let nodes: Vec<Node> = contrastive::cuda::forward_backward(&shape, form, schedule, real, &views, scratch);
        self.r.push(nodes);
        grads.map(Value::floats)
    }
}
