//! The step program: what one training step computes, as an ordered list of calls of ops on named slots.
//!
//! Owns the description that every backend executes and that cost, planned memory, parameter names and checkpoints are read
//! from. Input: a model and a strategy (`model::build` makes programs). Invariant: a call reads only slots that are inputs or
//! outputs of earlier calls. Must not know how a backend computes.

mod build;

pub use build::ProgramBuilder;

pub use super::ops::params::{Init, Matrix, ParamIdx, ParamList, ParamView};

use std::sync::Arc;

use super::ops::loss::Loss;
use super::ops::op::whole::StateView;
use super::ops::op::{Op, Size};

/// Index of a slot in [`Program::slots`].
pub type SlotIdx = usize;

/// One training step, or the encoders alone where the losses are not run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Parameter views in flat order.
    pub params: Vec<ParamView>,
    /// Views of what training changes without a gradient, in flat order.
    pub state: Vec<StateView>,
    /// What a batch brings along.
    pub inputs: Vec<Input>,
    /// Buffers by role.
    pub slots: Vec<Slot>,
    /// Calls in execution order: the image encoder's, then the text encoder's, then those on further views of the images.
    pub calls: Vec<Call>,
    /// What is minimised: the sum of these, each times its weight.
    pub losses: Vec<LossTerm>,
    /// Slots that are read from outside.
    pub outputs: Vec<(Output, SlotIdx)>,
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

/// A slot that comes with the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Where calls read it.
    pub slot: SlotIdx,
    /// What it holds.
    pub kind: InputKind,
    /// Whose calls read it.
    pub tower: Tower,
}

/// What a batch brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// Pixels [S, S, 3], u8.
    Image {
        /// Side (S).
        side: usize,
        /// Which view of the image, from 0.
        view: usize,
    },
    /// Indices of the patches that are not masked, ascending, u32.
    KeptPatches {
        /// Patches of a whole image.
        patches: usize,
        /// How many are kept.
        kept: usize,
        /// Of which view of the image, from 0.
        view: usize,
    },
    /// Token ids, u32.
    Tokens {
        /// Tokens a caption (T).
        length: usize,
        /// Ids are below it (V).
        vocab_size: usize,
    },
    /// End-of-text position of the caption, u32.
    Ends {
        /// Tokens a caption (T).
        length: usize,
    },
}

impl InputKind {
    /// Size of a sample, and type of its elements.
    #[must_use]
    pub fn layout(self) -> (Size, Dtype) {
        let words = |rows| (Size { rows, channels: 1 }, Dtype::U32);
        match self {
            Self::Image { side, .. } => (Size { rows: side * side, channels: 3 }, Dtype::U8),
            Self::KeptPatches { kept, .. } => words(kept),
            Self::Tokens { length, .. } => words(length),
            Self::Ends { .. } => words(1),
        }
    }
    /// Which view of the image it is of; what is of no image has one.
    #[must_use]
    pub fn view(self) -> usize {
        match self {
            Self::Image { view, .. } | Self::KeptPatches { view, .. } => view,
            Self::Tokens { .. } | Self::Ends { .. } => 0,
        }
    }
    /// The same of another view; what is of no image stays as it is.
    #[must_use]
    pub fn of_view(self, view: usize) -> Self {
        match self {
            Self::Image { side, .. } => Self::Image { side, view },
            Self::KeptPatches { patches, kept, .. } => Self::KeptPatches { patches, kept, view },
            Self::Tokens { .. } | Self::Ends { .. } => self,
        }
    }
}

/// A result that evaluation and tests ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    /// Images before the projection [B, width of the encoder's last layer].
    ImagePooled,
    /// Normalised features of the images [B, E].
    ImageFeatures,
    /// Normalised features of the texts [B, E].
    TextFeatures,
}

/// A loss on slots of the whole batch.
#[derive(Debug, Clone)]
pub struct LossTerm {
    /// Name, such as `contrastive`.
    pub name: &'static str,
    /// Its factor in the total.
    pub weight: f64,
    /// What is computed.
    pub op: Arc<dyn Loss>,
    /// Read, in the op's order.
    pub inputs: Vec<SlotIdx>,
    /// How the gradient of each input is handed back.
    pub grads: Vec<GradMode>,
}

/// How a reader of a slot hands back the slot's gradient. Readers go back in the reverse of the order in which they read: the last
/// one overwrites, the others add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GradMode {
    /// There is none: the slot comes with the batch, or is made of what does without a parameter.
    None,
    /// It is the first to write.
    Overwrite,
    /// It adds to what later readers wrote.
    Add,
}

/// One op applied to slots.
#[derive(Debug, Clone)]
pub struct Call {
    /// Name, such as `image.block3`.
    pub name: String,
    /// Whose.
    pub tower: Tower,
    /// What is computed.
    pub op: Arc<dyn Op>,
    /// Read, in the op's order.
    pub inputs: Vec<SlotIdx>,
    /// How the gradient of each input is handed back.
    pub grads: Vec<GradMode>,
    /// Whether a later call has the same parameters: it goes back first, and this one adds to their gradients.
    pub adds_to_params: bool,
    /// Rows a sample that decide how many samples a chunk holds.
    pub chunk_rows: usize,
    /// Written.
    pub output: SlotIdx,
    /// Kept for backward, in the op's own order.
    pub saved: Vec<SlotIdx>,
    /// Whether its output's gradient leads to a parameter.
    pub has_gradient: bool,
    /// As the op's shape has it.
    pub is_in_place: bool,
    /// Whether backward takes the whole batch at once.
    pub is_whole: bool,
}

impl Program {
    /// Elements of the flat parameter buffer.
    #[must_use]
    pub fn num_params(&self) -> usize {
        self.params.last().map_or(0, |view| view.range().end)
    }
    /// Samples that meet in some call, in contiguous groups of this many: parts of a batch are whole groups.
    #[must_use]
    pub fn grain(&self) -> usize {
        self.calls.iter().map(|call| call.op.group()).fold(1, least_common_multiple)
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
    /// Side of the images (S), pixels; 0 where no call reads images.
    #[must_use]
    pub fn image_side(&self) -> usize {
        let side = |input: &Input| if let InputKind::Image { side, .. } = input.kind { Some(side) } else { None };
        self.inputs.iter().find_map(side).unwrap_or_default()
    }
    /// Views of every image that a batch brings along; 0 where no call reads images.
    #[must_use]
    pub fn views(&self) -> usize {
        self.inputs.iter().filter(|input| matches!(input.kind, InputKind::Image { .. })).count()
    }
    /// Patches of a whole image and those that are kept; `None` where none are masked.
    #[must_use]
    pub fn kept_patches(&self) -> Option<(usize, usize)> {
        let kept = |input: &Input| match input.kind {
            InputKind::KeptPatches { patches, kept, .. } => Some((patches, kept)),
            _ => None,
        };
        self.inputs.iter().find_map(kept)
    }
    /// Tokens of a caption (T); 0 where no call reads captions.
    #[must_use]
    pub fn context_length(&self) -> usize {
        let length = |input: &Input| if let InputKind::Tokens { length, .. } = input.kind { Some(length) } else { None };
        self.inputs.iter().find_map(length).unwrap_or_default()
    }
    /// The slot of an output.
    #[must_use]
    pub fn output(&self, output: Output) -> Option<SlotIdx> {
        self.outputs.iter().find(|(found, _)| *found == output).map(|(_, slot)| *slot)
    }
    /// The calls that some slots depend on, in order.
    #[must_use]
    pub fn leading_to(&self, slots: &[SlotIdx]) -> Vec<usize> {
        build::leading_to(&self.calls, slots)
    }
    /// Slots that the losses read.
    #[must_use]
    pub fn loss_inputs(&self) -> Vec<SlotIdx> {
        let mut slots: Vec<SlotIdx> = self.losses.iter().flat_map(|term| term.inputs.iter().copied()).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }
    /// What a slot holds, where it comes with the batch.
    #[must_use]
    pub fn input(&self, slot: SlotIdx) -> Option<InputKind> {
        self.inputs.iter().find(|input| input.slot == slot).map(|input| input.kind)
    }
    /// Forward multiply-accumulates of one tower for one sample.
    #[must_use]
    pub fn macs(&self, tower: Tower) -> u64 {
        self.tower(tower).map(|call| call.op.shape().macs).sum()
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

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut greatest, mut rest) = (a, b);
    while rest > 0 {
        (greatest, rest) = (rest, greatest % rest);
    }
    a / greatest * b
}
