//! Launches of `kernels/contrastive.cu`, and the products between them.

use super::super::launch::{Arg, Factor, Launch, Module, Node, Product, Real, View, blocks};
use super::{Contrastive, Form};

/// The kernels.
pub const MODULE: Module = Module::new("contrastive", include_str!("../../../../kernels/contrastive.cu"));

const THREADS: usize = 256;
/// Rows and columns of a tile of similarities.
const TILE: usize = 64;
/// Channels of a gradient that a block of a fused kernel holds; for more, similarities are made once more for each group.
const WIDTH: usize = 512;
/// Shared memory of one stage of a fused kernel: two tiles with rows of 128 bytes.
const STAGE: usize = 2 * TILE * 128;
/// Blocks of a fused kernel at which columns are no longer shared out: the multiprocessors of an H100 or H200.
const ENOUGH_BLOCKS: usize = 132;
/// Columns that a block of `contrastive_slab_lse` reads.
const SLAB_LSE_COLUMNS: usize = 16 * 128;
/// Columns and rows that a block of `contrastive_slab_{softmax,sigmoid}` turns into slopes.
const SLAB_COLUMNS: usize = 4 * THREADS;
const SLAB_ROWS: usize = 32;
/// Bytes of a scalar's partial sums: loss, along the scale, along the bias.
const PART: usize = 3 * 8;

/// Batches from here on go through slabs (not measured: the library's products run at about twice the speed of the fused tiles,
/// and below this size launches count).
const SLABS_FROM: usize = 2048;
/// Bytes of a slab of similarities in f32. The gradient of a slab's images has few outputs (rows * E) and a long inner dimension,
/// and the gradient of all texts is read and written once a slab: both ask for many rows (2048 at a batch of 32,768).
const SLAB_BYTES: usize = 256 << 20;

/// How the loss is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Tiles of similarities are made anew in each pass and never leave the chip.
    Fused,
    /// Products of the library make `rows` rows of similarities at a time.
    Slabs {
        /// Rows of a slab, a multiple of 64 where there are several.
        rows: usize,
    },
}

impl Schedule {
    /// The schedule for a batch: fused while it is small, else slabs of equal size.
    #[must_use]
    pub fn for_batch(batch: usize, embed_dim: usize) -> Self {
        if batch * embed_dim.div_ceil(WIDTH) < SLABS_FROM {
            return Self::Fused;
        }
        Self::slabs(batch)
    }

    /// Slabs of equal size whose similarities take little memory.
    #[must_use]
    pub fn slabs(batch: usize) -> Self {
        let most = (SLAB_BYTES / 4 / batch / TILE * TILE).max(TILE);
        let rows = batch.div_ceil(batch.div_ceil(most)).next_multiple_of(TILE);
        Self::Slabs { rows: rows.min(batch) }
    }
}

/// What a loss reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct Views {
    /// real `[B, E]`, normalised rows.
    pub image: View,
    /// real `[B, E]`, normalised rows.
    pub text: View,
    /// f32: the learnt ln(scale).
    pub log_scale: View,
    /// f32: the learnt bias; sigmoid form only.
    pub bias: Option<View>,
    /// f32 `[B, E]`, overwritten.
    pub grad_image: View,
    /// f32 `[B, E]`, overwritten.
    pub grad_text: View,
    /// f32, nats.
    pub loss: View,
    /// f32: exp(`log_scale`), for the report.
    pub logit_scale: View,
    /// f32, overwritten.
    pub grad_log_scale: View,
    /// f32, overwritten; sigmoid form only.
    pub grad_bias: Option<View>,
}

/// Bytes of scratch that [`forward_backward`] needs.
#[must_use]
pub fn scratch_bytes(shape: &Contrastive, form: Form, schedule: Schedule, real: Real) -> usize {
    let nowhere = View { buffer: super::super::launch::BufferIdx(0), offset: 0 };
    Places::new(shape, form, schedule, real, nowhere).1
}

/// Loss, gradients of features, of ln(scale) and of the bias. `scratch` holds [`scratch_bytes`] and begins at a multiple of 256.
///
/// # Panics
/// If the form is sigmoid and there is no bias.
#[must_use]
pub fn forward_backward(
    shape: &Contrastive,
    form: Form,
    schedule: Schedule,
    real: Real,
    views: &Views,
    scratch: View,
) -> Vec<Node> {
    assert!(form == Form::Softmax || views.bias.is_some(), "a sigmoid loss has a bias");
    let (places, _) = Places::new(shape, form, schedule, real, scratch);
    let recorder = Recorder { shape: *shape, form, real, views: *views, places };
    match schedule {
        Schedule::Fused => recorder.fused(),
        Schedule::Slabs { rows } => recorder.slabs(rows.min(shape.batch)),
    }
}

/// Where everything lies in the scratch buffer; what a schedule or form has no use for takes no bytes.
struct Places {
    /// double `[parts][3]`.
    parts: View,
    /// float2 `[2, B]`: log-sum-exp of rows, then of columns.
    lse: View,
    /// f32 `[2, B]`.
    terms: View,
    /// f32 `[B]`: similarities of the pairs.
    pairs: View,
    /// float2: sums over shares of the columns, of all rows (fused) or a slab's.
    partials: View,
    /// float2: sums over parts of a slab's rows.
    column_partials: View,
    /// float2 `[B]`: sums of columns over the slabs so far.
    running: View,
    /// f32 `[2, shares, B, E]`.
    shares: View,
    /// f32 `[rows, B]`.
    similarities: View,
    /// real `[rows, B]`; where `real` is f32, in the place of the similarities.
    slopes: View,
}

impl Places {
    fn new(shape: &Contrastive, form: Form, schedule: Schedule, real: Real, scratch: View) -> (Self, usize) {
        let Contrastive { batch, embed_dim } = *shape;
        let mut bytes = 0;
        let mut take = |len: usize| {
            let view = scratch.at(bytes);
            bytes += len.next_multiple_of(256);
            view
        };
        let sums = if form == Form::Softmax { batch } else { 0 };
        let (lse, terms, pairs) = (take(16 * sums), take(8 * sums), take(4 * sums));
        let places = match schedule {
            Schedule::Fused => {
                let Split { bands, shares, .. } = Split::of(batch);
                let kept = if shares > 1 { 2 * shares } else { 0 };
                let (parts, partials) = (take(PART * bands * shares), take(16 * sums * shares));
                let (shares, nothing) = (take(4 * kept * batch * embed_dim), take(0));
                let (column_partials, running, similarities, slopes) = (nothing, nothing, nothing, nothing);
                Self { parts, lse, terms, pairs, partials, column_partials, running, shares, similarities, slopes }
            }
            Schedule::Slabs { rows } => {
                let rows = rows.min(batch);
                let parts = take(PART * slabs(batch, rows).map(|slab| slab.parts()).sum::<usize>());
                let partials = take(if sums > 0 { 8 * rows * batch.div_ceil(SLAB_LSE_COLUMNS) } else { 0 });
                let (column_partials, running) = (take(8 * rows.div_ceil(TILE) * sums), take(8 * sums));
                let (shares, similarities) = (take(0), take(4 * rows * batch));
                let slopes = if real == Real::F32 { similarities } else { take(2 * rows * batch) };
                Self { parts, lse, terms, pairs, partials, column_partials, running, shares, similarities, slopes }
            }
        };
        (places, bytes)
    }
}

/// How a fused kernel is cut into blocks: bands of rows, and shares of the tiles of columns while bands alone are few.
struct Split {
    bands: usize,
    shares: usize,
    tiles_each: usize,
}

impl Split {
    fn of(batch: usize) -> Self {
        let bands = batch.div_ceil(TILE);
        let tiles_each = bands.div_ceil((ENOUGH_BLOCKS / (2 * bands)).clamp(1, bands));
        Self { bands, shares: bands.div_ceil(tiles_each), tiles_each }
    }
}

/// A slab of rows.
#[derive(Clone, Copy)]
struct Slab {
    first: usize,
    rows: usize,
    batch: usize,
}

impl Slab {
    fn grid(self) -> [u32; 3] {
        [blocks(self.batch, SLAB_COLUMNS), blocks(self.rows, SLAB_ROWS), 1]
    }
    fn parts(self) -> usize {
        let [x, y, _] = self.grid();
        x as usize * y as usize
    }
}

fn slabs(batch: usize, rows: usize) -> impl Iterator<Item = Slab> {
    (0..batch).step_by(rows).map(move |first| Slab { first, rows: rows.min(batch - first), batch })
}

struct Recorder {
    shape: Contrastive,
    form: Form,
    real: Real,
    views: Views,
    places: Places,
}

impl Recorder {
    fn fused(&self) -> Vec<Node> {
        let Contrastive { batch, embed_dim } = self.shape;
        let Split { bands, shares, tiles_each } = Split::of(batch);
        let (v, p) = (&self.views, &self.places);
        let sizes = [Arg::count(batch), Arg::count(embed_dim), Arg::count(tiles_each)];
        let features = [Arg::In(v.image), Arg::In(v.text), Arg::In(v.log_scale)];
        let grid = |z| [blocks(batch, TILE), blocks(shares, 1), blocks(z, 1)];
        let mut nodes: Vec<Node> = Vec::new();
        let [mut grad_image, mut grad_text] = [v.grad_image, v.grad_text];
        if shares > 1 {
            [grad_image, grad_text] = [p.shares, p.shares.floats(shares * batch * embed_dim)];
        }
        let outputs = [Arg::Out(grad_image), Arg::Out(grad_text), Arg::Out(p.parts)];
        let (kernel, middle) = match self.form {
            Form::Softmax => {
                let args = [&features[..], &[Arg::Out(p.partials), Arg::Out(p.pairs)], &sizes].concat();
                nodes.push(launch("contrastive_lse", grid(2), 2 * STAGE, args));
                nodes.push(self.merge(p.partials, 2, shares, batch, 0));
                ("contrastive_softmax", Arg::In(p.lse))
            }
            Form::Sigmoid => ("contrastive_sigmoid", Arg::maybe_in(v.bias)),
        };
        let args = [&features[..], &[middle], &outputs, &sizes].concat();
        let slopes = TILE * TILE * self.real.bytes();
        nodes.push(launch(kernel, grid(2 * embed_dim.div_ceil(WIDTH)), 2 * STAGE + slopes, args));
        if shares > 1 {
            let len = batch * embed_dim;
            let args = [Arg::In(p.shares), Arg::Out(v.grad_image), Arg::Out(v.grad_text), Arg::count(shares), Arg::count(len)];
            nodes.push(launch("contrastive_sum", [blocks(len, 4 * THREADS), 2, 1], 0, args.to_vec()));
        }
        nodes.push(self.finish(bands * shares));
        nodes
    }

    fn slabs(&self, rows: usize) -> Vec<Node> {
        let batch = self.shape.batch;
        let is_one = rows == batch;
        let mut nodes = Vec::new();
        if self.form == Form::Softmax {
            for slab in slabs(batch, rows) {
                nodes.extend(self.slab_sums(slab));
            }
            nodes.push(self.merge(self.places.running, 1, 1, batch, batch));
        }
        let mut parts = 0;
        for slab in slabs(batch, rows) {
            // A single slab still holds its similarities.
            if self.form == Form::Sigmoid || !is_one {
                nodes.push(self.similarities(slab));
            }
            nodes.push(self.slab_slopes(slab, parts));
            nodes.extend(self.slab_gradients(slab));
            parts += slab.parts();
        }
        nodes.push(self.finish(parts));
        nodes
    }

    /// Log-sum-exp of a slab's rows; its columns' sums go to those of the slabs before.
    fn slab_sums(&self, slab: Slab) -> [Node; 4] {
        let Slab { first, rows, batch } = slab;
        let p = &self.places;
        let (shares, bands) = (batch.div_ceil(SLAB_LSE_COLUMNS), rows.div_ceil(TILE));
        let reads = [Arg::In(p.similarities), Arg::In(self.views.log_scale)];
        let writes = [Arg::Out(p.partials), Arg::Out(p.column_partials), Arg::InOut(p.pairs)];
        let sizes = [Arg::count(first), Arg::count(rows), Arg::count(batch)];
        let args = [&reads[..], &writes, &sizes].concat();
        let is_first = Arg::U32(u32::from(first == 0));
        let columns = [Arg::In(p.column_partials), Arg::InOut(p.running), Arg::count(bands), is_first, Arg::count(batch)];
        [
            self.similarities(slab),
            launch("contrastive_slab_lse", [blocks(batch, SLAB_LSE_COLUMNS), blocks(rows, TILE), 1], 0, args),
            self.merge(p.partials, 1, shares, rows, first),
            launch("contrastive_slab_columns", [blocks(batch, THREADS), 1, 1], 0, columns.to_vec()),
        ]
    }

    /// Partial sums become log-sum-exps and terms of the loss. `sides` times `rows` rows, of which the first is number `at` of the
    /// 2 B rows and columns.
    fn merge(&self, partials: View, sides: u32, count: usize, rows: usize, at: usize) -> Node {
        let p = &self.places;
        let pairs = p.pairs.floats(at % self.shape.batch);
        let reads = [Arg::In(partials), Arg::In(pairs), Arg::In(self.views.log_scale)];
        let writes = [Arg::InOut(p.lse.floats(2 * at)), Arg::InOut(p.terms.floats(at))];
        let args = [&reads[..], &writes, &[Arg::count(count), Arg::count(rows)]].concat();
        launch("contrastive_merge", [blocks(rows, THREADS), sides, 1], 0, args)
    }

    fn similarities(&self, slab: Slab) -> Node {
        let Contrastive { batch, embed_dim } = self.shape;
        let a = Factor::plain(self.rows(self.views.image, slab), self.real);
        let b = Factor::transposed(self.views.text, self.real);
        let (out, out_real) = (self.places.similarities, Real::F32);
        Product { m: slab.rows, n: batch, k: embed_dim, a, b, addend: None, bias: None, out, out_real }.into()
    }

    fn slab_slopes(&self, slab: Slab, parts_before: usize) -> Node {
        let (v, p) = (&self.views, &self.places);
        let sizes = [Arg::count(slab.first), Arg::count(slab.rows), Arg::count(slab.batch)];
        // In f32 both are one place.
        let [slab_arg, out] = match self.real {
            Real::F32 => [Arg::InOut(p.similarities), Arg::InOut(p.slopes)],
            Real::Bf16 => [Arg::In(p.similarities), Arg::Out(p.slopes)],
        };
        let parts = Arg::Out(p.parts.at(PART * parts_before));
        let (kernel, middle) = match self.form {
            Form::Softmax => ("contrastive_slab_softmax", vec![Arg::In(p.lse), Arg::In(p.lse.floats(2 * self.shape.batch))]),
            Form::Sigmoid => ("contrastive_slab_sigmoid", vec![Arg::maybe_in(v.bias)]),
        };
        let args = [&[slab_arg, out, Arg::In(v.log_scale)][..], &middle, &[parts], &sizes].concat();
        launch(kernel, slab.grid(), 0, args)
    }

    fn slab_gradients(&self, slab: Slab) -> [Node; 2] {
        let Contrastive { batch, embed_dim } = self.shape;
        let (v, slopes) = (&self.views, self.places.slopes);
        let of_image = Product {
            m: slab.rows,
            n: embed_dim,
            k: batch,
            a: Factor::plain(slopes, self.real),
            b: Factor::plain(v.text, self.real),
            addend: None,
            bias: None,
            out: v.grad_image.floats(slab.first * embed_dim),
            out_real: Real::F32,
        };
        let of_text = Product {
            m: batch,
            n: embed_dim,
            k: slab.rows,
            a: Factor::transposed(slopes, self.real),
            b: Factor::plain(self.rows(v.image, slab), self.real),
            addend: (slab.first > 0).then_some(v.grad_text),
            bias: None,
            out: v.grad_text,
            out_real: Real::F32,
        };
        [of_image.into(), of_text.into()]
    }

    fn finish(&self, parts: usize) -> Node {
        let (v, p) = (&self.views, &self.places);
        let terms = (self.form == Form::Softmax).then_some(p.terms);
        let grad_bias = if self.form == Form::Sigmoid { v.grad_bias } else { None };
        let args = vec![
            Arg::maybe_in(terms),
            Arg::In(p.parts),
            Arg::In(v.log_scale),
            Arg::Out(v.loss),
            Arg::Out(v.logit_scale),
            Arg::Out(v.grad_log_scale),
            Arg::maybe_out(grad_bias),
            Arg::count(parts),
            Arg::count(self.shape.batch),
        ];
        Launch { module: MODULE, kernel: "contrastive_finish", grid: [1, 1, 1], threads: 1024, shared_bytes: 0, args }.into()
    }

    fn rows(&self, features: View, slab: Slab) -> View {
        features.at(slab.first * self.shape.embed_dim * self.real.bytes())
    }
}

fn launch(kernel: &'static str, grid: [u32; 3], shared_bytes: usize, args: Vec<Arg>) -> Node {
    Launch { module: MODULE, kernel, grid, threads: THREADS as u32, shared_bytes: shared_bytes as u32, args }.into()
}
