//! The step program: what one training step computes, as an ordered list of block calls on named slots.
//!
//! Owns the description that every backend executes and that cost, planned memory, parameter names and checkpoints are read
//! from. Input: a model and a strategy (`model::build` makes programs). Invariant: a call reads only slots that are inputs or
//! outputs of earlier calls. Must not know how a backend computes.

pub use super::ops::params::{Init, Matrix, ParamIdx, ParamList, ParamView};

use super::ops::{head::Head, patch_embed::PatchEmbed, token_embed::TokenEmbed, transformer::TransformerBlock};

/// Index of a slot in [`Program::slots`].
pub type SlotIdx = usize;

/// One training step, or the encoders alone where `loss` is not run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Parameter views in flat order.
    pub params: Vec<ParamView>,
    /// Buffers by role.
    pub slots: Vec<Slot>,
    /// Block calls in execution order; the image encoder's first, then the text encoder's.
    pub calls: Vec<Call>,
    /// The learnt log of the logit scale.
    pub log_logit_scale: ParamIdx,
    /// The learnt bias of the logits; where there is one, the loss is the sigmoid loss, else the contrastive one.
    pub logit_bias: Option<ParamIdx>,
    /// Width of the shared space (E).
    pub embed_dim: usize,
    /// Upper bound of the logit scale (the multiplier).
    pub logit_scale_max: f64,
}

/// How similarities become logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logits {
    /// The learnt log of the scale.
    pub log_scale: ParamIdx,
    /// The learnt bias of the sigmoid loss.
    pub bias: Option<ParamIdx>,
    /// Upper bound of the scale (the multiplier).
    pub scale_max: f64,
}

/// Whose activations a slot or call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tower {
    /// Image encoder.
    Image,
    /// Text encoder.
    Text,
}

/// What a slot is for; decides its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// Handed in with the batch.
    Input,
    /// Output of a call, alive until its consumer has run backward.
    Activation,
    /// Kept from a call's forward to its backward.
    Saved,
}

/// Element type of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// Pixels.
    U8,
    /// Token ids.
    U32,
    /// Activations.
    F32,
}

impl Dtype {
    /// Bytes of one element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U32 | Self::F32 => 4,
        }
    }
}

/// A named buffer, sized per sample: `rows` x `channels` elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Name, such as `image.block3.qkv`.
    pub name: String,
    /// Rows a sample (tokens, or 1).
    pub rows: usize,
    /// Elements a row.
    pub channels: usize,
    /// Element type.
    pub dtype: Dtype,
    /// Lifetime.
    pub kind: SlotKind,
}

impl Slot {
    /// Elements a sample.
    #[must_use]
    pub fn len_per_sample(&self) -> usize {
        self.rows * self.channels
    }
}

/// One block applied to one slot.
#[derive(Debug, Clone)]
pub struct Call {
    /// Name, such as `image.block3`.
    pub name: String,
    /// Whose.
    pub tower: Tower,
    /// What is computed.
    pub block: Block,
    /// Read.
    pub input: SlotIdx,
    /// Written.
    pub output: SlotIdx,
    /// Kept for backward, in the block's own order.
    pub saved: Vec<SlotIdx>,
}

/// The unit of the tape: a block with its own forward and backward.
#[derive(Debug, Clone)]
pub enum Block {
    /// Pixels to tokens.
    PatchEmbed(PatchEmbed),
    /// Token ids to tokens.
    TokenEmbed(TokenEmbed),
    /// Attention and MLP with residuals.
    Transformer(TransformerBlock),
    /// Final norm, pooling, projection, L2 normalisation.
    Head(Head),
}

impl Block {
    /// Whether the input is an earlier call's output, not the batch.
    #[must_use]
    pub fn reads_rows(&self) -> bool {
        matches!(self, Self::Transformer(_) | Self::Head(_))
    }
    /// Multiply-accumulates of the forward pass of one sample: products only, no norms, biases or activations.
    #[must_use]
    pub fn macs(&self) -> u64 {
        match self {
            Self::PatchEmbed(block) => block.macs(),
            Self::TokenEmbed(_) => 0,
            Self::Transformer(block) => block.macs(),
            Self::Head(block) => block.macs(),
        }
    }
}

impl Program {
    /// Elements of the flat parameter buffer.
    #[must_use]
    pub fn num_params(&self) -> usize {
        self.params.last().map_or(0, |view| view.range().end)
    }
    /// Calls of one tower, in order.
    pub fn tower(&self, tower: Tower) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| call.tower == tower)
    }
    /// The name of the first parameter with an element that is not finite, and that element; `None` where all are.
    ///
    /// # Panics
    /// If `parameters` are of another program.
    #[must_use]
    pub fn not_finite<'p>(&'p self, parameters: &[f32]) -> Option<(&'p str, f32)> {
        assert_eq!(parameters.len(), self.num_params(), "parameters of a program");
        let at = parameters.iter().position(|value| !value.is_finite())?;
        let view = self.params.iter().find(|view| view.range().contains(&at)).expect("views cover the flat buffer");
        Some((&view.name, parameters[at]))
    }
    /// The patch embedding.
    ///
    /// # Panics
    /// If there is none: every model has one.
    #[must_use]
    pub fn patch_embed(&self) -> &PatchEmbed {
        let found = self.calls.iter().find_map(|call| if let Block::PatchEmbed(block) = &call.block { Some(block) } else { None });
        found.expect("an image encoder starts with a patch embedding")
    }
    /// Whether patches are left out of each image.
    #[must_use]
    pub fn masks_patches(&self) -> bool {
        self.patch_embed().kept < self.patch_embed().patches
    }
    /// The token embedding.
    ///
    /// # Panics
    /// If there is none: every model has one.
    #[must_use]
    pub fn token_embed(&self) -> &TokenEmbed {
        let found = self.calls.iter().find_map(|call| if let Block::TokenEmbed(block) = &call.block { Some(block) } else { None });
        found.expect("a text encoder starts with a token embedding")
    }
    /// Forward multiply-accumulates of one tower for one sample.
    #[must_use]
    pub fn macs(&self, tower: Tower) -> u64 {
        self.tower(tower).map(|call| call.block.macs()).sum()
    }
    /// Bytes of activations and saved slots for `batch` samples: what a step keeps from forward to backward.
    #[must_use]
    pub fn activation_bytes(&self, batch: usize) -> usize {
        self.slots.iter().map(|slot| slot.len_per_sample() * slot.dtype.bytes()).sum::<usize>().saturating_mul(batch)
    }
    /// Bytes of parameters, their gradients in `lanes` parts, and `moments` optimiser buffers.
    #[must_use]
    pub fn parameter_bytes(&self, lanes: usize, moments: usize) -> usize {
        4 * self.num_params() * (2 + lanes + moments)
    }
}

/// Collects views, slots and calls while a model is described.
#[derive(Debug, Default)]
pub struct ProgramBuilder {
    /// Views, in flat order.
    pub params: ParamList,
    slots: Vec<Slot>,
    calls: Vec<Call>,
}

impl ProgramBuilder {
    /// Adds a slot.
    pub fn slot(&mut self, name: String, rows: usize, channels: usize, dtype: Dtype, kind: SlotKind) -> SlotIdx {
        self.slots.push(Slot { name, rows, channels, dtype, kind });
        self.slots.len() - 1
    }
    /// Adds a call with its output slot and saved slots; returns the output.
    pub fn call(&mut self, name: String, tower: Tower, block: Block, input: SlotIdx, rows: usize, channels: usize) -> SlotIdx {
        let saved_sizes = match &block {
            Block::PatchEmbed(block) => block.saved(),
            Block::TokenEmbed(_) => Vec::new(),
            Block::Transformer(block) => block.saved(),
            Block::Head(block) => block.saved(),
        };
        let saved = saved_sizes
            .into_iter()
            .map(|(part, rows, channels)| self.slot(format!("{name}.{part}"), rows, channels, Dtype::F32, SlotKind::Saved))
            .collect();
        let output = self.slot(format!("{name}.out"), rows, channels, Dtype::F32, SlotKind::Activation);
        self.calls.push(Call { name, tower, block, input, output, saved });
        output
    }
    /// The finished program.
    #[must_use]
    pub fn finish(self, logits: Logits, embed_dim: usize) -> Program {
        let (Self { params, slots, calls }, Logits { log_scale, bias, scale_max }) = (self, logits);
        Program {
            params: params.finish(),
            slots,
            calls,
            log_logit_scale: log_scale,
            logit_bias: bias,
            embed_dim,
            logit_scale_max: scale_max,
        }
    }
}
