//! A whole encoder as nodes: its calls forward, then back.

use super::Recorder;
use super::ends::{Features, HeadSaved, PatchSaved};
use super::step::Inputs;
use super::transformer::Saved;
use crate::trainer::ops::launch::View;
use crate::trainer::program::{Block, Call, Tower};

/// What the calls of a tower keep, in order.
pub(in super::super) enum CallSaved {
    Patch(PatchSaved),
    Token,
    Transformer(Box<Saved>),
    Head(HeadSaved),
}

impl Recorder<'_> {
    fn calls(&self, tower: Tower) -> Vec<Call> {
        self.program.tower(tower).cloned().collect()
    }

    /// Features of a part of a batch.
    pub fn tower(&mut self, tower: Tower, inputs: &Inputs, features: Features) -> Vec<CallSaved> {
        let samples = inputs.samples;
        let mut x: Option<View> = None;
        let mut saved = Vec::new();
        for call in self.calls(tower) {
            let (output, kept) = match (&call.block, x) {
                (Block::PatchEmbed(block), _) => {
                    let (tokens, kept) = self.patch_embed(block, samples, inputs);
                    (Some(tokens), CallSaved::Patch(kept))
                }
                (Block::TokenEmbed(block), _) => (Some(self.token_embed(block, samples, inputs.tokens)), CallSaved::Token),
                (Block::Transformer(block), Some(x)) => {
                    let (rows, kept) = self.transformer(block, samples, x);
                    (Some(rows), CallSaved::Transformer(Box::new(kept)))
                }
                (Block::Head(block), Some(x)) => (None, CallSaved::Head(self.head(block, samples, x, Some(inputs.ends), features))),
                (Block::Transformer(_) | Block::Head(_), None) => unreachable!("a tower starts with an embedding"),
            };
            x = output;
            saved.push(kept);
        }
        saved
    }

    /// Gradients of a tower's parameters from those of its features, f32 [samples, E].
    pub fn tower_backward(&mut self, tower: Tower, inputs: &Inputs, saved: &[CallSaved], grad_features: View, accumulate: bool) {
        let samples = inputs.samples;
        let mut grad = None;
        for (call, kept) in self.calls(tower).iter().zip(saved).rev() {
            match (&call.block, kept, grad) {
                (Block::Head(block), CallSaved::Head(kept), _) => {
                    grad = Some(self.head_backward(block, samples, kept, grad_features, accumulate));
                }
                (Block::Transformer(block), CallSaved::Transformer(kept), Some(grad)) => {
                    self.transformer_backward(block, samples, kept, grad, accumulate);
                }
                (Block::PatchEmbed(block), CallSaved::Patch(kept), Some(grad)) => {
                    self.patch_embed_backward(block, samples, kept, grad, accumulate);
                }
                (Block::TokenEmbed(block), CallSaved::Token, Some(grad)) => {
                    self.token_embed_backward(block, samples, inputs.token_plan, grad, accumulate);
                }
                _ => unreachable!("saved values are those of the same calls"),
            }
        }
    }
}
