//! `kernels/patchify.cu` against the CPU rows, the masking of a strategy and the augmenter.

use crate::data::{Augmenter, Philox, PictureView, Stream};
use crate::run::{Activation, Augmentation, ImageEncoderConfig, ModelConfig, Pooling, TextEncoderConfig, VitConfig};
use crate::trainer::model::build;
use crate::trainer::ops::launch::{Real, View};
use crate::trainer::ops::patchify::cuda::{Crops, Cut, TokenShape, Unplace};
use crate::trainer::ops::patchify::{self, PatchShape, cuda};
use crate::trainer::strategy::PatchMask;

use super::lab::{Bench, ORDERS, REALS, assert_near, random, rounded};

/// A model whose images have `grid` patches a side.
fn model(grid: usize) -> ModelConfig {
    ModelConfig {
        image_encoder: ImageEncoderConfig::Vit(VitConfig {
            width: 1,
            layers: 1,
            heads: 1,
            mlp_width: 1,
            patch_size: 4,
            pooling: Pooling::Mean,
            pre_norm: false,
        }),
        text_encoder: TextEncoderConfig { width: 1, layers: 1, heads: 1, mlp_width: 1, context_length: 1, vocab_size: 1 },
        embed_dim: 1,
        image_size: 4 * grid,
        activation: Activation::Gelu,
        logit_scale_init: 1.0,
        logit_scale_max: 100.0,
        pixel_mean: [0.5; 3],
        pixel_std: [0.5; 3],
    }
}

/// Keep sets are those of the patch mask bit for bit.
pub(super) fn keep_sets_are_those_of_the_patch_mask_bit_for_bit() {
    let cases =
        [(2, 0.7, 3, 0_u64), (2, 0.5, 5, 7), (3, 0.1, 4, 1 << 40), (7, 0.75, 3, 5), (17, 0.5, 2, (1 << 33) + 9), (33, 0.9, 2, 3)];
    for ((grid, masked, samples, step), order) in cases.into_iter().zip(ORDERS.into_iter().cycle()) {
        let mask = PatchMask::new(&build(&model(grid), masked), 11).expect("something is masked");
        let mut expected = Vec::new();
        mask.fill(step, samples, &mut expected);
        let kept = expected.len() / samples;
        let mut bench = Bench::new(Real::F32, order);
        let (step, keep) = (bench.words(&[step as u32, (step >> 32) as u32]), bench.words(&vec![u32::MAX; samples * kept]));
        let key = Philox::new(11, Stream::Mask).key();
        bench.run([cuda::keep_sets(grid * grid, kept, key, samples, step, keep)]);
        assert_eq!(bench.read_words(keep, samples * kept), expected, "{kept} of {grid} x {grid}");
    }
}

/// All patches are kept in order.
pub(super) fn all_patches_are_kept_in_order() {
    let mut bench = Bench::new(Real::F32, 7);
    let (step, keep) = (bench.words(&[1, 0]), bench.words(&[9; 70]));
    bench.run([cuda::keep_sets(35, 35, [1, 2], 2, step, keep)]);
    assert_eq!(bench.read_words(keep, 70), (0..70).map(|i| i % 35).collect::<Vec<_>>());
}

fn pixels(seed: u64, len: usize) -> Vec<u8> {
    random(seed, len).iter().map(|v| ((v + 1.0) * 128.0) as u8).collect()
}

/// Ascending sets of `kept` of `patches`, one for each sample.
fn sets(samples: usize, patches: usize, kept: usize) -> Vec<u32> {
    let draws = random(5, samples * patches);
    let mut all = Vec::new();
    for draws in draws.chunks(patches) {
        let mut order: Vec<u32> = (0..patches as u32).collect();
        order.sort_by(|a, b| draws[*a as usize].total_cmp(&draws[*b as usize]));
        order.truncate(kept);
        order.sort_unstable();
        all.extend(order);
    }
    all
}

/// Patch rows have the bits of the cpu.
pub(super) fn patch_rows_have_the_bits_of_the_cpu() {
    // Image side, patch side, kept (0: all, without a list), whether images are named, samples.
    let cases = [
        (3, 3, 0, false, 1),
        (6, 3, 2, true, 3),
        (8, 8, 0, true, 2),
        (8, 4, 3, false, 3),
        (28, 14, 2, true, 2),
        (64, 16, 5, true, 4),
    ];
    for real in REALS {
        for ((side, patch, kept, is_named, samples), order) in cases.into_iter().zip(ORDERS.into_iter().cycle()) {
            // Awkward divisors: their quotients are not exact.
            let shape =
                PatchShape { image_size: side, patch_size: patch, mean: [0.481_454_66, 0.3, 0.0], std: [0.268_629_54, 0.7, 1.0] };
            let images = pixels(side as u64, samples * side * side * 3);
            let index: Vec<u32> = (0..samples as u32).rev().collect();
            let keep = if kept == 0 { None } else { Some(sets(samples, shape.patches(), kept)) };
            let kept = if kept == 0 { shape.patches() } else { kept };
            let len = kept * shape.row_len();
            let mut expected = vec![f32::NAN; samples * len];
            for (sample, rows) in expected.chunks_mut(len).enumerate() {
                let image = if is_named { index[sample] as usize } else { sample };
                let image = &images[image * side * side * 3..][..side * side * 3];
                patchify::forward(&shape, image, keep.as_ref().map(|keep| &keep[sample * kept..][..kept]), rows);
            }
            let mut bench = Bench::new(real, order);
            let pixels = bench.bytes(images);
            let (index, keep) = (bench.words(&index), keep.map(|keep| bench.words(&keep)));
            let rows = bench.unwritten_reals(expected.len());
            let cut = Cut { shape: &shape, real, kept, samples };
            bench.run([cuda::patchify(&cut, pixels, is_named.then_some(index), keep, rows)]);
            assert_eq!(bench.read_reals(rows, expected.len()), rounded(&expected, real), "{side} by {patch}, {real:?}");
        }
    }
}

/// Every byte has its value whatever the channel.
pub(super) fn every_byte_has_its_value_whatever_the_channel() {
    // 256 images of one pixel.
    let shape = PatchShape {
        image_size: 1,
        patch_size: 1,
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
    };
    let bytes: Vec<u8> = (0..=255).flat_map(|byte| [byte; 3]).collect();
    let mut expected = vec![0.0; 3 * 256];
    for (pixel, row) in bytes.chunks(3).zip(expected.chunks_mut(3)) {
        patchify::forward(&shape, pixel, None, row);
    }
    let mut bench = Bench::new(Real::F32, 1);
    let (pixels, rows) = (bench.bytes(bytes), bench.unwritten_reals(3 * 256));
    bench.run([cuda::patchify(&Cut { shape: &shape, real: Real::F32, kept: 1, samples: 256 }, pixels, None, None, rows)]);
    assert_eq!(bench.read_reals(rows, 3 * 256), expected);
}

/// Crops of pictures of several shapes have the bytes of the augmenter.
pub(super) fn crops_have_the_bytes_of_the_augmenter() {
    let philox = Philox::new(4, Stream::Augment);
    // Side of the images, side of a picture's room in the pool, pixels of a unit. The last crops are almost as long as a filter
    // has room for.
    let cases = [(1, 1, 1), (5, 5, 25), (8, 13, 13), (12, 29, 29), (31, 50, 4), (4, 32, 16)];
    for ((side, room, unit), order) in cases.into_iter().zip(ORDERS.into_iter().cycle()) {
        let (samples, len) = (7, side * side * 3);
        let augmenter = Augmenter::new(Augmentation::CropFlip { min_area: 0.2, flip: 0.5 }, side).expect("crop_flip is built");
        let images = pixels(1, samples * room * room * 3);
        let places: Vec<u32> = (0..samples).map(|i| (i * 3 % 7 * room * room / unit) as u32).collect();
        let (mut expected, mut crops) = (vec![0; samples * len], Vec::new());
        for (sample, out) in expected.chunks_mut(len).enumerate() {
            // Squares, wide ones and high ones, all of which fit their room.
            let width = [room, (room * 4 / 3).max(1), (room / 2).max(1)][sample % 3];
            let height = (room * room / width).max(1);
            let from = places[sample] as usize * unit * 3;
            let picture = PictureView { width, height, pixels: &images[from..][..width * height * 3] };
            augmenter.apply(picture, &mut philox.at(2, sample as u32), out);
            crops.extend(augmenter.crop((width, height), &mut philox.at(2, sample as u32)).expect("a crop is drawn"));
        }
        let mut bench = Bench::new(Real::F32, order);
        let (pixels, places, crops) = (bench.bytes(images), bench.words(&places), bench.floats(&crops));
        let out = bench.bytes(vec![0xA5; expected.len()]);
        bench.run([cuda::crop_flip(&Crops { unit, side, samples }, pixels, places, crops, out)]);
        assert!(bench.part(out, expected.len()) == expected, "side {side} of {room}");
    }
}

const fn tokens(samples: usize, kept: usize, patches: usize, width: usize, has_class: bool) -> TokenShape {
    TokenShape { samples, kept, patches, width, has_class }
}

/// One shape, and the kept patches of each sample where not all are.
struct Case {
    shape: TokenShape,
    keep: Option<Vec<u32>>,
}

impl Case {
    fn new(shape: TokenShape) -> Self {
        let keep = (shape.kept < shape.patches).then(|| sets(shape.samples, shape.patches, shape.kept));
        Self { shape, keep }
    }
    /// Token and position of each patch row.
    fn places(&self) -> Vec<(usize, usize)> {
        let (s, class) = (self.shape, usize::from(self.shape.has_class));
        let place = |row: usize| {
            let patch = self.keep.as_ref().map_or(row % s.kept, |keep| keep[row] as usize);
            (row / s.kept * s.tokens() + class + row % s.kept, class + patch)
        };
        (0..s.samples * s.kept).map(place).collect()
    }
}

/// Patch rows become tokens with their positions.
pub(super) fn patch_rows_become_tokens_with_their_positions() {
    let shapes = [tokens(1, 1, 1, 1, false), tokens(3, 4, 9, 5, true), tokens(2, 7, 7, 12, true), tokens(3, 5, 8, 20, false)];
    for (shape, order) in shapes.into_iter().zip(ORDERS.into_iter().cycle()) {
        let (case, width) = (Case::new(shape), shape.width);
        let (rows, class) = (random(1, shape.samples * shape.kept * width), random(2, width));
        let positions = random(3, shape.positions() * width);
        let mut expected = vec![f32::NAN; shape.samples * shape.tokens() * width];
        if shape.has_class {
            for sample in expected.chunks_mut(shape.tokens() * width) {
                (0..width).for_each(|c| sample[c] = class[c] + positions[c]);
            }
        }
        for (row, (token, position)) in case.places().into_iter().enumerate() {
            (0..width).for_each(|c| expected[token * width + c] = rows[row * width + c] + positions[position * width + c]);
        }
        let mut bench = Bench::new(Real::F32, order);
        let keep = case.keep.as_ref().map(|keep| bench.words(keep));
        let (rows, class, positions) = (bench.floats(&rows), bench.floats(&class), bench.floats(&positions));
        let out = bench.unwritten_floats(expected.len());
        bench.run([cuda::place(&shape, rows, keep, shape.has_class.then_some(class), positions, out)]);
        assert_eq!(bench.read_floats(out, expected.len()), expected, "{shape:?}");
    }
}

/// Token gradients go to rows class and positions.
pub(super) fn token_gradients_go_to_rows_class_and_positions() {
    let shapes = [
        tokens(1, 1, 1, 1, false),
        tokens(3, 4, 9, 5, true),
        tokens(2, 7, 7, 12, true),
        tokens(3, 5, 8, 20, false),
        // Two column tiles, by 4 and by 1.
        tokens(3, 2, 3, 1032, true),
        tokens(3, 2, 2, 259, true),
        // Several samples in a slab.
        tokens(300, 9, 30, 4, true),
    ];
    for real in REALS {
        for (shape, order) in shapes.into_iter().zip(ORDERS.into_iter().cycle()) {
            check_unplace(real, shape, order, false, 0);
            check_unplace(real, shape, order, true, 0);
        }
    }
    // A view that is aligned to its elements only; more samples in a slab than a block has threads.
    check_unplace(Real::F32, tokens(3, 4, 9, 8, true), 1, true, 1);
    check_unplace(Real::F32, tokens(300, 1, 1100, 1, false), 0, false, 0);
}

fn check_unplace(real: Real, shape: TokenShape, order: u32, accumulate: bool, skipped: usize) {
    let (case, width) = (Case::new(shape), shape.width);
    let len = shape.samples * shape.tokens() * width;
    let (mut grad, [class, positions]) = (vec![9.0; skipped], [random(2, width), random(3, shape.positions() * width)]);
    grad.extend(random(1, len));
    let tokens = &grad[skipped..];
    let start = |values: &[f32]| values.iter().map(|v| if accumulate { f64::from(*v) } else { 0.0 }).collect::<Vec<_>>();
    let (mut grad_class, mut grad_positions) = (start(&class), start(&positions));
    let mut grad_rows = vec![0.0; shape.samples * shape.kept * width];
    if shape.has_class {
        for sample in tokens.chunks(shape.tokens() * width) {
            for (grads, value) in grad_class.iter_mut().zip(&mut grad_positions).zip(sample) {
                *grads.0 += f64::from(*value);
                *grads.1 += f64::from(*value);
            }
        }
    }
    for (row, (token, position)) in case.places().into_iter().enumerate() {
        for c in 0..width {
            grad_rows[row * width + c] = tokens[token * width + c];
            grad_positions[position * width + c] += f64::from(tokens[token * width + c]);
        }
    }
    let mut bench = Bench::new(real, order);
    let keep = case.keep.as_ref().map(|keep| bench.words(keep));
    let (class_view, positions_view) = (bench.floats(&class), bench.floats(&positions));
    let rows: View = bench.unwritten_reals(grad_rows.len());
    let scratch = bench.unwritten_floats(cuda::unplace_scratch_bytes(&shape) / 4);
    let at = Unplace {
        grad_tokens: bench.floats(&grad).floats(skipped),
        keep,
        real,
        grad_rows: rows,
        grad_class: shape.has_class.then_some(class_view),
        grad_positions: positions_view,
        accumulate,
    };
    bench.run(cuda::unplace(&shape, &at, scratch));
    let what = format!("{shape:?} {real:?}");
    let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect::<Vec<_>>();
    assert_eq!(bench.read_reals(rows, grad_rows.len()), rounded(&grad_rows, real), "{what} rows");
    assert_near(&format!("{what} positions"), &bench.read_floats(positions_view, positions.len()), &narrow(grad_positions), 1e-6);
    if shape.has_class {
        assert_near(&format!("{what} class"), &bench.read_floats(class_view, width), &narrow(grad_class), 1e-6);
    }
}
