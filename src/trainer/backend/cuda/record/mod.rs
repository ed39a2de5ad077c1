//! From a program to a recording: the nodes of a step, and the buffers that they work on.
//!
//! Input: a `Program`, the padded layout of its parameters, the compute type, what a step is asked for ([`StepShape`]). Output: a
//! [`Recording`]. What a call records is its op's matter ([`Record`]); this is about slots, parts, branches, what a batch brings
//! along, the loss and the optimiser. Invariant: pure; everything that changes from step to step is read from kept buffers. Must
//! not know a device, nor an op by name.

mod calls;
mod inputs;
mod loss;
mod shape;
mod step;

pub use inputs::{Batch, Planned, Pool, Written};
pub use shape::{Images, Masking, StepShape};
pub use step::{Encode, Update, encode, refresh, runs_side_by_side, training_step};

use super::buffers::{Arena, plan};
use super::layout::PaddedLayout;
use crate::trainer::TrainerError;
use crate::trainer::ops::launch::{Arg, Node, Real, Section, View};
use crate::trainer::ops::recorder::{Buffers, ParamPlaces, Record, Recorder, Refusal};
use crate::trainer::program::{Call, Program};

/// A step, or a part of one, ready to be given to a device.
#[derive(Debug, Clone)]
pub struct Recording {
    /// All buffers; the first ones are the kept buffers of the session.
    pub buffers: Buffers,
    /// What runs, in order; no branch is empty.
    pub sections: Vec<Section>,
    /// Where the planned buffers lie.
    pub arena: Arena,
}

/// Blocks of a grid in x.
const MOST_BLOCKS: u64 = (1 << 31) - 1;

impl Recording {
    /// Refuses a recording with a kernel that would count beyond 32 bits, or have more blocks than a grid.
    ///
    /// # Errors
    /// [`TrainerError::TooLarge`] with the largest count, made in one of `chunks` parts of a batch.
    pub fn check_counts(&self, chunks: usize) -> Result<(), TrainerError> {
        let launches = self.sections.iter().flat_map(|section| &section.branches).flatten().filter_map(|node| match node {
            Node::Launch(launch) => Some(launch),
            Node::Product(_) | Node::Zero { .. } | Node::Copy { .. } => None,
        });
        let counts = launches.flat_map(|launch| {
            let too_large = |arg: &Arg| if let Arg::TooLarge(count) = arg { Some((*count, launch.kernel)) } else { None };
            let grid = u64::from(launch.grid[0]);
            launch.args.iter().filter_map(too_large).chain((grid > MOST_BLOCKS).then_some((grid << 8, launch.kernel)))
        });
        match counts.max_by_key(|(count, _)| *count) {
            None => Ok(()),
            Some((count, kernel)) => Err(TrainerError::TooLarge { kernel, count, parts: chunks as u64 * count.div_ceil(1 << 32) }),
        }
    }
}

/// The buffers that live as long as a prepared program, the same in all its recordings.
#[derive(Debug, Clone)]
pub struct Session {
    /// The list that every recording starts with.
    pub buffers: Buffers,
    /// Parameters, f32, padded.
    pub params: View,
    /// Parameters in the compute type at the same places; `params` itself where that is f32.
    pub shadow: View,
    /// Gradients, f32, padded; absent where nothing is trained.
    pub training: Option<Training>,
}

/// What a session keeps for training.
#[derive(Debug, Clone)]
pub struct Training {
    /// Gradients, f32, padded.
    pub grads: View,
    /// First moment or momentum, f32, padded.
    pub first: View,
    /// Second moment, f32.
    pub second: View,
    /// The optimiser's work list.
    pub table: View,
    /// `f32[8]`, written by the host before a step: see `kernels/adamw.cu`.
    pub controls: View,
    /// `f32[8]`, written by the device: see `kernels/elementwise.cu`.
    pub report: View,
    /// `u32[2]`, behind the controls: number of the step, low and high word.
    pub step: View,
}

/// Refuses a program with a call that cannot be recorded.
///
/// # Errors
/// [`TrainerError::Unsupported`] with the first such call, why, and what to do instead.
pub fn check(program: &Program) -> Result<(), TrainerError> {
    for Call { name, op, .. } in &program.calls {
        if let Err(refusal) = op.cuda() {
            let hint = refusal.hint().into();
            return Err(TrainerError::Unsupported { what: format!("`{name}` ({refusal})"), device: "a GPU", hint });
        }
    }
    if let Some(term) = program.losses.get(1) {
        let (what, hint) = (format!("the loss `{}`", term.name), Refusal::NoForm.hint().into());
        return Err(TrainerError::Unsupported { what, device: "a GPU", hint });
    }
    Ok(())
}

/// The form of a call of a program that [`check`] did not refuse.
fn form(call: &Call) -> &dyn Record {
    call.op.cuda().expect("programs are checked before they are recorded")
}

/// A program while it is recorded.
struct Draft<'a> {
    r: Recorder<'a>,
    program: &'a Program,
    layout: &'a PaddedLayout,
    session: &'a Session,
}

impl<'a> Draft<'a> {
    fn new(program: &'a Program, layout: &'a PaddedLayout, session: &'a Session, real: Real) -> Self {
        let places = ParamPlaces {
            views: &program.params,
            offsets: layout.offsets(),
            params: session.params,
            shadow: session.shadow,
            grads: session.training.as_ref().map(|training| training.grads),
        };
        Self { r: Recorder::new(places, real, session.buffers.clone()), program, layout, session }
    }

    fn finish(self) -> Recording {
        let (buffers, sections) = self.r.finish();
        let arena = plan(&buffers, &sections);
        Recording { buffers, sections, arena }
    }

    fn training(&self) -> &'a Training {
        self.session.training.as_ref().expect("only a session for training records gradients")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Pooling;
    use crate::trainer::model::build;
    use crate::trainer::ops::kernels::modules;
    use crate::trainer::ops::launch::{Launch, blocks};
    use crate::trainer::ops::op::{Cpu, Op, OpShape, Oracle};
    use crate::trainer::ops::token_embed::TokenEmbed;
    use crate::trainer::program::{InputKind, Logits, ParamIdx, ProgramBuilder, Tower};
    use crate::trainer::tests::tiny_model;

    /// An op that has a form for nothing but the CPU.
    #[derive(Debug)]
    struct Homeless(TokenEmbed);

    impl Op for Homeless {
        fn shape(&self) -> OpShape {
            self.0.shape()
        }
        fn cpu(&self) -> Cpu<'_> {
            self.0.cpu()
        }
        fn reference(&self) -> Oracle<'_> {
            self.0.reference()
        }
        fn params(&self) -> Vec<ParamIdx> {
            self.0.params()
        }
    }

    #[test]
    fn a_count_beyond_32_bits_and_a_grid_beyond_31_are_refused_with_the_parts_that_are_small_enough() {
        let refusal = |launch: Launch, chunks| {
            let (buffers, sections) = (Buffers::default(), vec![Section::serial([launch])]);
            let arena = plan(&buffers, &sections);
            Recording { buffers, sections, arena }.check_counts(chunks)
        };
        let launch =
            |grid, args| Launch { module: modules()[0], kernel: "counts", grid: [grid, 1, 1], threads: 256, shared_bytes: 0, args };
        assert!(refusal(launch(1, vec![Arg::count((1 << 32) - 1)]), 1).is_ok());
        let error = refusal(launch(1, vec![Arg::count(5), Arg::count((5 << 32) + 1)]), 3).expect_err("it counts further");
        assert!(matches!(error, TrainerError::TooLarge { kernel: "counts", parts: 18, .. }), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("train.accumulate: 18")));
        assert!(refusal(launch(blocks(1 << 40, 256), vec![]), 1).is_err());
    }

    #[test]
    fn a_call_without_a_form_is_refused_by_name() {
        check(&build(&tiny_model(Pooling::Mean), 0.5)).expect("every call has a form");
        let mut builder = ProgramBuilder::default();
        let ids = builder.input("text.tokens", Tower::Text, InputKind::Tokens { length: 4, vocab_size: 9 });
        let embed = TokenEmbed { vocab_size: 9, tokens: 4, width: 3, table: 0, positions: 1 };
        builder.call("text.known".into(), Tower::Text, embed.clone(), &[ids]);
        builder.call("text.homeless".into(), Tower::Text, Homeless(embed), &[ids]);
        let program = builder.finish(Logits { log_scale: 0, bias: None, scale_max: 100.0 }, 3);
        let error = check(&program).expect_err("one has none");
        assert_eq!(error.to_string(), "`text.homeless` (no kernels for it) cannot be trained yet on a GPU");
    }
}
