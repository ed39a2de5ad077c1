//! Launches of `kernels/patchify.cu`: keep-sets, crops, patch rows, and tokens from patch rows with their gradients.

use super::super::launch::{Arg, Launch, Module, Node, PartSums, Real, View, blocks, blocks_of_counted, pack, slabs};
use super::PatchShape;

/// The kernels.
pub const MODULE: Module = Module::new("patchify", include_str!("../../../../kernels/patchify.cu"));

const THREADS: usize = 256;
/// Patches of an image whose draws fit into shared memory without opting in to more.
pub const MOST_PATCHES: usize = 48 * 1024 / 4;

/// Patches that each sample keeps: bit for bit `strategy::PatchMask::fill` with the key of its generator.
///
/// **Shapes** step u32 `[2]` (low word first), keep u32 `[B, kept]`.
///
/// # Panics
/// If `kept` is not in 1 to `patches`, or there are over 12288 patches.
#[must_use]
pub fn keep_sets(patches: usize, kept: usize, key: [u32; 2], samples: usize, step: View, keep: View) -> Launch {
    assert!((1..=patches).contains(&kept) && patches <= MOST_PATCHES, "{kept} of {patches} patches kept");
    let filled = patches.next_multiple_of(32);
    let args = vec![Arg::count(patches), Arg::count(kept), Arg::U32(key[0]), Arg::U32(key[1]), Arg::In(step), Arg::Out(keep)];
    let threads = filled.min(THREADS) as u32;
    Launch { threads, shared_bytes: 4 * filled as u32, ..launch("patchify_keep_sets", blocks(samples, 1), args) }
}

/// What is cut into patches.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'a> {
    /// Image side, patch side, pixel statistics.
    pub shape: &'a PatchShape,
    /// Element type of the rows.
    pub real: Real,
    /// Patches of a sample that are cut.
    pub kept: usize,
    /// Samples (B).
    pub samples: usize,
}

/// Rows (x / 255 - mean) / std: the bits of [`super::forward`], rounded to real.
///
/// **Shapes** pixels u8 `[N, S, S, 3]`; index u32 `[B]`, the image of each sample (its own number where `None`); keep u32
/// `[B, kept]` (`None`: all patches, in order); rows real `[B kept, 3 P²]`.
///
/// # Panics
/// If all patches are cut (`keep` is `None`) and `kept` is not their number.
#[must_use]
pub fn patchify(cut: &Cut, pixels: View, index: Option<View>, keep: Option<View>, rows: View) -> Launch {
    let Cut { shape, real, kept, samples } = *cut;
    let PatchShape { image_size, patch_size, mean, std } = *shape;
    assert!(keep.is_some() || kept == shape.patches(), "{kept} patches kept without a list");
    let fits = |n: &usize| {
        patch_size.is_multiple_of(*n) && pixels.offset.is_multiple_of(*n) && rows.offset.is_multiple_of(n * real.bytes())
    };
    let pack = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
    let mut args = vec![Arg::In(pixels), Arg::maybe_in(index), Arg::maybe_in(keep), Arg::Out(rows), Arg::count(image_size)];
    args.extend([patch_size, kept, samples * kept].map(Arg::count));
    args.extend(mean.into_iter().chain(std).map(Arg::F32));
    args.push(Arg::count(pack));
    launch("patchify_cut", flat(samples * kept, patch_size * patch_size, pack), args)
}

/// Output sides that a crop is long at most, for the taps of a filter to fit a thread's room.
pub const MOST_CROP: f32 = 9.5;

/// What [`crop_flip`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crops {
    /// Pixels that the beginnings of pictures in the pool are multiples of.
    pub unit: usize,
    /// Side of the images that are made (S).
    pub side: usize,
    /// Samples (B).
    pub samples: usize,
}

/// Random crops, resampled to S x S and mirrored where asked: the bytes of `data::Augmenter::apply`.
///
/// **Shapes** pixels u8, pictures with rows without gaps; places u32 `[B]`, where each picture begins, in units; crops f32
/// `[B, 6]` as `data::Augmenter::crop` gives them, inside their pictures and at most [`MOST_CROP`] S long; out u8
/// `[B, S, S, 3]`.
#[must_use]
pub fn crop_flip(s: &Crops, pixels: View, places: View, crops: View, out: View) -> Launch {
    let Crops { unit, side, samples } = *s;
    let pack = pack(side, &[(out, 1)]);
    let mut args = vec![Arg::count(side), Arg::count(unit), Arg::count(samples * side), Arg::In(pixels), Arg::In(places)];
    args.extend([Arg::In(crops), Arg::Out(out), Arg::count(pack)]);
    launch("patchify_crop_flip", flat(samples * side, side, pack), args)
}

/// Patch rows and the tokens they become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenShape {
    /// Samples (B).
    pub samples: usize,
    /// Patches of a sample that are embedded.
    pub kept: usize,
    /// Patches of a whole image (G).
    pub patches: usize,
    /// Channels of a token (C).
    pub width: usize,
    /// Whether a class token stands before the patches.
    pub has_class: bool,
}

impl TokenShape {
    /// Tokens of a sample (T).
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.kept + usize::from(self.has_class)
    }
    /// Rows of the table of positions.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.patches + usize::from(self.has_class)
    }
    /// Samples of a slab, slabs.
    fn slabs(&self) -> (usize, usize) {
        slabs(self.samples, self.positions() * self.width.div_ceil(4 * THREADS))
    }
    fn part_sums(&self) -> PartSums {
        PartSums { parts: self.slabs().1, len: self.positions() * self.width }
    }
    fn check(&self, keep: Option<View>, class: Option<View>) {
        assert_eq!(self.has_class, class.is_some(), "class token");
        assert!(keep.is_some() || self.kept == self.patches, "{} patches kept without a list", self.kept);
    }
}

/// Patch rows plus positions, behind the class token where there is one.
///
/// **Shapes** rows f32 `[B kept, C]`; keep u32 `[B, kept]` (`None`: all patches, in order); `class_token` f32 `[C]`; positions f32
/// `[G (+ 1), C]`; tokens f32 `[B, T, C]`.
#[must_use]
pub fn place(s: &TokenShape, rows: View, keep: Option<View>, class_token: Option<View>, positions: View, tokens: View) -> Launch {
    s.check(keep, class_token);
    let num_tokens = s.samples * s.tokens();
    let pack = pack(s.width, &[(rows, 4), (class_token.unwrap_or(rows), 4), (positions, 4), (tokens, 4)]);
    let mut args = vec![Arg::In(rows), Arg::maybe_in(keep), Arg::maybe_in(class_token), Arg::In(positions), Arg::Out(tokens)];
    args.extend([s.kept, num_tokens, s.width, pack].map(Arg::count));
    launch("patchify_place", flat(num_tokens, s.width, pack), args)
}

/// Where [`unplace`] reads and writes.
///
/// **Shapes** as for [`place`]; `grad_rows` real `[B kept, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unplace {
    /// Gradient of the tokens.
    pub grad_tokens: View,
    /// Patches that each sample kept.
    pub keep: Option<View>,
    /// Element type of `grad_rows`.
    pub real: Real,
    /// Gradient of the patch rows, overwritten.
    pub grad_rows: View,
    /// Gradient of the class token.
    pub grad_class: Option<View>,
    /// Gradient of the positions.
    pub grad_positions: View,
    /// Whether the gradients of class token and positions are added to what is there.
    pub accumulate: bool,
}

/// Bytes of `scratch` for [`unplace`].
#[must_use]
pub fn unplace_scratch_bytes(s: &TokenShape) -> usize {
    s.part_sums().bytes()
}

/// Gradients of [`place`]. Positions that no sample kept get a gradient of 0.
#[must_use]
pub fn unplace(s: &TokenShape, at: &Unplace, scratch: View) -> Vec<Node> {
    let Unplace { grad_tokens, keep, real, grad_rows, grad_class, grad_positions, accumulate } = *at;
    s.check(keep, grad_class);
    let (first, num_rows) = (Arg::U32(s.has_class.into()), s.samples * s.kept);
    let rows_pack = pack(s.width, &[(grad_tokens, 4), (grad_rows, real.bytes())]);
    let mut args = vec![Arg::In(grad_tokens), Arg::Out(grad_rows), Arg::count(s.kept), first];
    args.extend([num_rows, s.width, rows_pack].map(Arg::count));
    let rows = launch("patchify_unplace_rows", flat(num_rows, s.width, rows_pack), args);

    let sums_pack = pack(s.width, &[(grad_tokens, 4), (scratch, 4)]);
    let (tiles, (slab, num_slabs)) = (s.width.div_ceil(sums_pack * THREADS), s.slabs());
    let mut args =
        vec![Arg::In(grad_tokens), Arg::maybe_in(keep), Arg::Out(scratch), Arg::count(s.samples), Arg::count(s.kept), first];
    args.extend([s.width, slab, tiles, sums_pack].map(Arg::count));
    let mut sums = launch("patchify_unplace_sums", blocks(s.positions() * tiles, 1), args);
    sums.grid[1] = num_slabs as u32;

    let parts = s.part_sums();
    let write = if accumulate { Arg::InOut } else { Arg::Out };
    let mut args = vec![Arg::In(scratch), Arg::count(parts.parts), Arg::count(parts.len), Arg::count(parts.groups())];
    args.extend([grad_class.map_or(Arg::Null, write), write(grad_positions), Arg::count(s.width), Arg::U32(accumulate.into())]);
    let merge = Launch { grid: parts.grid(), threads: PartSums::THREADS, ..launch("patchify_unplace_merge", 1, args) };
    [rows, sums, merge].map(Node::from).into()
}

/// Blocks for `rows` of `width` elements, `pack` of them a thread.
fn flat(rows: usize, width: usize, pack: usize) -> u32 {
    blocks_of_counted(rows * (width / pack), THREADS)
}

fn launch(kernel: &'static str, blocks: u32, args: Vec<Arg>) -> Launch {
    Launch { module: MODULE, kernel, grid: [blocks, 1, 1], threads: THREADS as u32, shared_bytes: 0, args }
}
