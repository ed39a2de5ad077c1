//! A whole encoder as nodes: its calls forward, then back.

use std::any::Any;

use super::ends::{HeadSaved, PatchSaved};
use super::part::{Features, Inputs};
use super::transformer::{STREAM, Saved};
use super::{Aside, Recorder, StreamGrad};
use crate::trainer::ops::launch::View;
use crate::trainer::ops::op::Op;
use crate::trainer::ops::{head::Head, patch_embed::PatchEmbed, token_embed::TokenEmbed, transformer::TransformerBlock};
use crate::trainer::program::{Call, Tower};

/// What the calls of a tower keep, in order.
pub(in super::super) enum CallSaved {
    Patch(PatchSaved),
    Token,
    Transformer(Box<Saved>),
    Head(HeadSaved),
}

/// An op that has a form for a GPU.
enum Form<'a> {
    PatchEmbed(&'a PatchEmbed),
    TokenEmbed(&'a TokenEmbed),
    Transformer(&'a TransformerBlock),
    Head(&'a Head),
}

/// The form of an op; `None` where it has none for a GPU.
fn form(op: &dyn Op) -> Option<Form<'_>> {
    let any: &dyn Any = op;
    // The kernels add positions, and no bias.
    let has_form = |block: &&PatchEmbed| block.positions.is_some() && block.bias.is_none();
    None.or_else(|| any.downcast_ref().filter(has_form).map(Form::PatchEmbed))
        .or_else(|| any.downcast_ref().map(Form::TokenEmbed))
        .or_else(|| any.downcast_ref().map(Form::Transformer))
        .or_else(|| any.downcast_ref().map(Form::Head))
}

/// The form of a call whose program was checked to have one for every call.
fn form_of(call: &Call) -> Form<'_> {
    form(call.op.as_ref()).expect("runs on a GPU are refused where an op has no form for one")
}

/// The first call of a program that has no form for a GPU.
pub(in super::super) fn without_form(calls: &[Call]) -> Option<&Call> {
    calls.iter().find(|call| form(call.op.as_ref()).is_none())
}

/// A tower on its way back.
pub(in super::super) struct Backward {
    /// Calls to come, the next one last.
    left: Vec<(Call, CallSaved)>,
    inputs: Inputs,
    /// f32 [samples, E].
    grad_features: View,
    /// Of the stream, once the head is done.
    grad: Option<StreamGrad>,
    accumulate: bool,
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
            let (output, kept) = match (form_of(&call), x) {
                (Form::PatchEmbed(block), _) => {
                    let (tokens, kept) = self.patch_embed(block, samples, inputs);
                    (Some(tokens), CallSaved::Patch(kept))
                }
                (Form::TokenEmbed(block), _) => (Some(self.token_embed(block, samples, inputs.tokens)), CallSaved::Token),
                (Form::Transformer(block), Some(x)) => {
                    let (rows, kept) = self.transformer(block, samples, x);
                    (Some(rows), CallSaved::Transformer(Box::new(kept)))
                }
                (Form::Head(block), Some(x)) => (None, CallSaved::Head(self.head(block, samples, x, Some(inputs.ends), features))),
                (Form::Transformer(_) | Form::Head(_), None) => unreachable!("a tower starts with an embedding"),
            };
            x = output;
            saved.push(kept);
        }
        saved
    }

    /// Gradients of a tower's parameters from those of its features, f32 [samples, E].
    pub fn tower_backward(&mut self, back: &mut Backward) {
        while self.call_backward(back) {}
    }

    /// The calls of both towers side by side, last first, a section each; gradients of parameters run beside the calls after those
    /// that they belong to. Branches: a tower's calls, then its products and its sums aside.
    pub fn towers_backward(&mut self, mut towers: [Backward; 2]) {
        // f32 products read the stream's gradient itself, which the next call changes.
        let has_aside = self.real != STREAM;
        let mut waiting: [Aside; 2] = Default::default();
        loop {
            self.begin(6);
            let mut is_over = true;
            for (idx, (back, waiting)) in towers.iter_mut().zip(&mut waiting).enumerate() {
                let Aside { products, sums } = std::mem::take(waiting);
                is_over &= products.is_empty() && sums.is_empty();
                self.on(2 + 2 * idx);
                self.push(products);
                self.on(3 + 2 * idx);
                self.push(sums);
                self.on(idx);
                self.aside = has_aside.then(Aside::default);
                is_over &= !self.call_backward(back);
                *waiting = self.aside.take().unwrap_or_default();
            }
            if is_over {
                return;
            }
        }
    }

    /// The next call back; false where there is none.
    fn call_backward(&mut self, back: &mut Backward) -> bool {
        let samples = back.inputs.samples;
        let Some((call, kept)) = back.left.pop() else { return false };
        back.grad = match (form_of(&call), &kept, back.grad) {
            (Form::Head(block), CallSaved::Head(kept), _) => {
                Some(self.head_backward(block, samples, kept, back.grad_features, back.accumulate))
            }
            (Form::Transformer(block), CallSaved::Transformer(kept), Some(grad)) => {
                Some(self.transformer_backward(block, samples, kept, grad, back.accumulate))
            }
            (Form::PatchEmbed(block), CallSaved::Patch(kept), Some(grad)) => {
                self.patch_embed_backward(block, samples, kept, grad, back.accumulate);
                None
            }
            (Form::TokenEmbed(block), CallSaved::Token, Some(grad)) => {
                self.token_embed_backward(block, samples, back.inputs.token_plan, grad, back.accumulate);
                None
            }
            _ => unreachable!("saved values are those of the same calls"),
        };
        true
    }

    /// A tower on its way back.
    pub fn backward(
        &self,
        tower: Tower,
        inputs: &Inputs,
        saved: Vec<CallSaved>,
        grad_features: View,
        accumulate: bool,
    ) -> Backward {
        let left = self.calls(tower).into_iter().zip(saved).collect();
        Backward { left, inputs: *inputs, grad_features, grad: None, accumulate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Pooling;
    use crate::trainer::model::build;
    use crate::trainer::ops::op::{OpShape, Reference, Rows};
    use crate::trainer::program::{InputKind, ProgramBuilder};
    use crate::trainer::tests::tiny_model;

    /// An op that has a form for nothing but the CPU.
    #[derive(Debug)]
    struct Homeless(TokenEmbed);

    impl Op for Homeless {
        fn shape(&self) -> OpShape {
            self.0.shape()
        }
        fn cpu(&self) -> &dyn Rows {
            self.0.cpu()
        }
        fn reference(&self) -> &dyn Reference {
            self.0.reference()
        }
    }

    #[test]
    fn a_call_without_a_form_is_found_by_name() {
        let program = build(&tiny_model(Pooling::Mean), 0.5);
        assert!(without_form(&program.calls).is_none());
        let mut builder = ProgramBuilder::default();
        let ids = builder.input("text.tokens", Tower::Text, InputKind::Tokens { length: 4, vocab_size: 9 });
        let embed = TokenEmbed { vocab_size: 9, tokens: 4, width: 3, table: 0, positions: 1 };
        builder.call("text.known".into(), Tower::Text, embed.clone(), &[ids]);
        builder.call("text.homeless".into(), Tower::Text, Homeless(embed), &[ids]);
        let calls = builder.calls();
        assert_eq!(without_form(calls).map(|call| call.name.as_str()), Some("text.homeless"));
    }

    #[test]
    fn a_patch_embedding_with_a_bias_or_without_positions_has_no_form() {
        let program = build(&tiny_model(Pooling::Mean), 0.0);
        let any: &dyn Any = program.calls[0].op.as_ref();
        let known: &PatchEmbed = any.downcast_ref().expect("an image tower starts with its patches");
        assert!(form(known).is_some());
        assert!(form(&PatchEmbed { bias: Some(0), ..known.clone() }).is_none());
        assert!(form(&PatchEmbed { positions: None, ..known.clone() }).is_none());
    }
}
