//! Programs with slots that several calls read, calls that share parameters, and several losses: the CPU against the f64 reference,
//! whole and in parts; and what a step allocates once its buffers are there.

mod near;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use scaledown::data::{Philox, Stream};
use scaledown::run::Activation;
use scaledown::trainer::backend::cpu::{CpuSettings, CpuStep};
use scaledown::trainer::backend::reference::ReferenceStep;
use scaledown::trainer::backend::{Step as _, StepBatch};
use scaledown::trainer::model;
use scaledown::trainer::ops::contrastive::{ContrastiveLoss, SigmoidLoss};
use scaledown::trainer::ops::linear::LinearShape;
use scaledown::trainer::ops::project::Project;
use scaledown::trainer::ops::token_embed::TokenEmbed;
use scaledown::trainer::ops::token_pool::{Pooled, TokenPool};
use scaledown::trainer::ops::transformer::{BlockShape, TransformerBlock};
use scaledown::trainer::ops::{WeightLayout, params::ParamList};
use scaledown::trainer::program::{GradMode, Init, InputKind, Logits, Matrix, Output, Program, ProgramBuilder, SlotIdx, Tower};

use near::{assert_gradients_near, largest};

/// What f32 arithmetic may differ by from f64, a share of the largest element of each tensor.
const F32_TOLERANCE: f64 = 1e-4;
const TOKENS: usize = 5;
const WIDTH: usize = 12;
const VOCAB: usize = 17;
const EMBED: usize = 7;
const SAMPLES: usize = 11;

/// Bytes of an allocation that is counted.
const LARGE: usize = 4096;

/// The system's allocator; counts large allocations while it is told to.
struct Counting;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static LARGE_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGE && IS_COUNTING.load(Ordering::Relaxed) {
            LARGE_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn block(params: &mut ParamList, prefix: &str) -> TransformerBlock {
    let init = Init::Normal { std: 0.3 };
    let shape = BlockShape {
        tokens: TOKENS,
        width: WIDTH,
        heads: 3,
        mlp_width: 20,
        causal: false,
        activation: Activation::Gelu,
        qkv: init,
        out: init,
        fc1: init,
        fc2: init,
        fc1_bias: init,
        fc2_bias: init,
    };
    TransformerBlock::describe(params, prefix, shape)
}

/// Adds a pooling and a projection of `x`; the feature.
fn head(builder: &mut ProgramBuilder, prefix: &str, x: SlotIdx) -> SlotIdx {
    let params = &mut builder.params;
    let gain = params.vector(format!("{prefix}.gain"), WIDTH, Init::Constant(1.0));
    let bias = params.vector(format!("{prefix}.bias"), WIDTH, Init::Constant(0.0));
    let shape = LinearShape { inputs: WIDTH, outputs: EMBED, layout: WeightLayout::InOut };
    let weight = params.linear(format!("{prefix}.project"), &[WIDTH, EMBED], 1, shape, Init::Normal { std: 0.4 });
    let pool = TokenPool { tokens: TOKENS, width: WIDTH, pooling: Pooled::Mean, eps: 1e-5, gain, bias };
    let pooled = builder.call(format!("{prefix}.pool"), Tower::Text, pool, &[x]);
    builder.call(format!("{prefix}.project"), Tower::Text, Project { width: WIDTH, embed_dim: EMBED, weight }, &[pooled])
}

/// Tokens, a slot that three readers take (two blocks that turn gradients over in place, and a head that does not), a block that is
/// called twice, and two losses with weights that read two of three features each.
fn diamond() -> Arc<Program> {
    let mut builder = ProgramBuilder::default();
    let scalar = Matrix { count: 1, rows: 1, columns: 1 };
    let log_scale = builder.params.param("log_scale".into(), &[], scalar, Init::Constant(1.0), false);
    let bias = builder.params.param("bias".into(), &[], scalar, Init::Constant(-1.0), false);
    let ids = builder.input("tokens", Tower::Text, InputKind::Tokens { length: TOKENS, vocab_size: VOCAB });
    let table = Matrix { count: 1, rows: VOCAB, columns: WIDTH };
    let table = builder.params.param("table".into(), &[VOCAB, WIDTH], table, Init::Normal { std: 1.0 }, true);
    let positions = Matrix { count: 1, rows: TOKENS, columns: WIDTH };
    let positions = builder.params.param("positions".into(), &[TOKENS, WIDTH], positions, Init::Normal { std: 1.0 }, false);
    let embed = TokenEmbed { vocab_size: VOCAB, tokens: TOKENS, width: WIDTH, table, positions };
    let x = builder.call("embed".into(), Tower::Text, embed, &[ids]);
    let (first, second) = (block(&mut builder.params, "first"), block(&mut builder.params, "second"));
    let a = builder.call("first".into(), Tower::Text, first.clone(), &[x]);
    let b = builder.call("second".into(), Tower::Text, second, &[x]);
    let c = head(&mut builder, "c", x);
    let a = builder.call("first.again".into(), Tower::Text, first, &[a]);
    let a = head(&mut builder, "a", a);
    let b = head(&mut builder, "b", b);
    builder.output(Output::ImageFeatures, a);
    builder.output(Output::TextFeatures, b);
    builder.loss("contrastive", 1.0, ContrastiveLoss { embed_dim: EMBED, log_scale }, &[a, b]);
    builder.loss("sigmoid", 0.25, SigmoidLoss { embed_dim: EMBED, log_scale, bias }, &[b, c]);
    Arc::new(builder.finish(Logits { log_scale, bias: None, scale_max: 100.0 }, EMBED))
}

fn batch(seed: u64) -> StepBatch {
    let mut draws = Philox::new(seed, Stream::Scenes).at(0, 0);
    let tokens = (0..SAMPLES * TOKENS).map(|_| draws.below(VOCAB as u32)).collect();
    StepBatch { samples: SAMPLES, tokens, ..StepBatch::default() }
}

fn cpu(program: &Arc<Program>, threads: usize) -> CpuStep {
    let parameters = model::initial_parameters(program, 3);
    CpuStep::new(program.clone(), parameters, CpuSettings { threads, lanes: 8 }, None).expect("threads start")
}

#[test]
fn the_last_reader_of_a_slot_overwrites_and_the_others_add() {
    let program = diamond();
    let modes = |name: &str| program.calls.iter().find(|call| call.name == name).map(|call| call.grads[0]);
    assert_eq!(modes("embed"), Some(GradMode::None));
    assert_eq!(modes("c.pool"), Some(GradMode::Overwrite));
    assert_eq!(modes("second"), Some(GradMode::Add));
    assert_eq!(modes("first"), Some(GradMode::Add));
    assert_eq!(modes("first.again"), Some(GradMode::Overwrite));
    assert_eq!(program.losses[1].grads, [GradMode::Overwrite, GradMode::Overwrite]);
    assert_eq!(program.losses[0].grads, [GradMode::Overwrite, GradMode::Add]);
    let adds = |name: &str| program.calls.iter().any(|call| call.name == name && call.adds_to_params);
    assert!(adds("first") && !adds("first.again") && !adds("second"));
}

#[test]
fn a_diamond_has_the_gradients_of_the_reference_whole_and_in_parts() {
    let program = diamond();
    let parameters = model::initial_parameters(&program, 3);
    let mut oracle = ReferenceStep::new(program.clone(), &parameters, None).expect("one value a parameter");
    let expected = oracle.gradient(&batch(1), 1).expect("never fails");
    let gradients = oracle.gradients_f64().to_vec();
    let mut step = cpu(&program, 2);
    // Again and again with one step: what an earlier pass left behind must not count.
    for chunks in [1, 3, 1, 8, 2] {
        let found = step.gradient(&batch(1), chunks).expect("memory");
        assert!(
            (found.loss - expected.loss).abs() <= 1e-5 * expected.loss.abs(),
            "{chunks} parts: {} {}",
            found.loss,
            expected.loss
        );
        let found = step.gradients().expect("the CPU can be read");
        assert_gradients_near(&format!("{chunks} parts"), &program, &found, &gradients, F32_TOLERANCE);
    }
    assert!(largest(&gradients) > 1e-3);
}

#[test]
fn gradients_of_the_reference_are_slopes_of_its_weighted_losses() {
    const H: f64 = 1e-4;
    let (program, batch) = (diamond(), batch(2));
    let mut oracle = ReferenceStep::new(program.clone(), &model::initial_parameters(&program, 3), None).expect("it fits");
    oracle.gradient(&batch, 1).expect("never fails");
    let gradients = oracle.gradients_f64().to_vec();
    let mut draws = Philox::new(4, Stream::Scenes).at(0, 0);
    for view in &program.params {
        let at = view.offset + draws.below(view.len() as u32) as usize;
        let start = oracle.parameters_f64()[at];
        let values = [-2.0, -1.0, 1.0, 2.0].map(|steps| {
            oracle.parameters_f64_mut()[at] = start + steps * H;
            oracle.loss(&batch)
        });
        oracle.parameters_f64_mut()[at] = start;
        let slope = (values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / (12.0 * H);
        let limit = 1e-6 * largest(&gradients[view.range()]) + 1e-9;
        assert!((slope - gradients[at]).abs() <= limit, "{}: {}, slope {slope}", view.name, gradients[at]);
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let program = diamond();
    let gradient = |threads| {
        let mut step = cpu(&program, threads);
        step.gradient(&batch(1), 3).expect("memory");
        step.gradients().expect("the CPU can be read")
    };
    assert_eq!(gradient(1), gradient(2));
}

/// Slots, gradients and what the batch brings are kept.
#[test]
fn a_third_step_allocates_no_large_buffer() {
    let program = diamond();
    let mut step = cpu(&program, 1);
    let batches = [batch(1), batch(2), batch(3), batch(4)];
    for batch in &batches[..3] {
        step.gradient(batch, 1).expect("memory");
    }
    let counted = || {
        LARGE_ALLOCATIONS.store(0, Ordering::Relaxed);
        IS_COUNTING.store(true, Ordering::Relaxed);
        let result = step.gradient(&batches[3], 1);
        IS_COUNTING.store(false, Ordering::Relaxed);
        result.expect("memory");
        LARGE_ALLOCATIONS.load(Ordering::Relaxed)
    };
    assert_eq!(counted_alone(counted), 0, "allocations of more than {LARGE} bytes in a step");
}

/// Other tests of this file allocate on their own threads while one counts: the least of a few tries is this step's own.
fn counted_alone(mut counted: impl FnMut() -> usize) -> usize {
    (0..20).map(|_| counted()).min().unwrap_or(usize::MAX)
}
