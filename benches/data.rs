//! How fast are samples made: rendering, decoding, augmenting, ordering, encoding.

use std::hint::black_box;
use std::io::Cursor;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{DynamicImage, ImageFormat, RgbImage};
use scaledown::data::scenes::{Variant, World};
use scaledown::data::{Augmenter, Decoder, Philox, PictureView, SampleOrder, Stream, Tokenizer};
use scaledown::run::{Augmentation, ScenesConfig, TokenizerConfig};

fn rendering(criterion: &mut Criterion) {
    let world = World::new(&ScenesConfig::of_seed(1));
    let mut group = criterion.benchmark_group("render");
    group.throughput(Throughput::Elements(1));
    for side in [32, 64] {
        let mut i = 0;
        group.bench_function(format!("training, side {side}"), |bencher| {
            bencher.iter(|| {
                i += 1;
                black_box(world.training(i).render(side))
            });
        });
    }
    for variant in [Variant::Sketch, Variant::Hard] {
        let mut i = 0;
        group.bench_function(format!("{variant}, side 32"), |bencher| {
            bencher.iter(|| {
                i += 1;
                black_box(world.evaluation(variant, i).render(32))
            });
        });
    }
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for (name, format, side, to) in [
        ("32 JPEG to 32", ImageFormat::Jpeg, 32, 32),
        ("64 PNG to 64", ImageFormat::Png, 64, 64),
        ("512 JPEG to 224", ImageFormat::Jpeg, 512, 224),
    ] {
        let scene = World::new(&ScenesConfig::of_seed(1)).training(4).render(side);
        let image = RgbImage::from_raw(side as u32, side as u32, scene).expect("a whole image");
        let mut file = Cursor::new(Vec::new());
        DynamicImage::from(image).write_to(&mut file, format).expect("an image that can be encoded");
        let (bytes, mut decoder) = (file.into_inner(), Decoder::new(to));
        group.bench_function(name, |bencher| bencher.iter(|| black_box(decoder.decode(&bytes))));
    }
}

fn drawing(criterion: &mut Criterion) {
    let image = World::new(&ScenesConfig::of_seed(1)).training(4).render(53);
    let mut group = criterion.benchmark_group("draw");
    group.throughput(Throughput::Elements(1));
    let augmenter = Augmenter::new(Augmentation::CropFlip { min_area: 0.5, flip: 0.5 }, 32).expect("crop_flip is built");
    let (philox, mut out, mut step) = (Philox::new(1, Stream::Augment), vec![0; 32 * 32 * 3], 0);
    let picture = PictureView { width: 53, height: 53, pixels: &image };
    group.bench_function("crop_flip, side 53 to 32", |bencher| {
        bencher.iter(|| {
            step += 1;
            augmenter.apply(picture, &mut philox.at(step, 0), &mut out);
        });
    });
    for side in [32, 64] {
        let image = World::new(&ScenesConfig::of_seed(1)).training(4).render(side);
        let picture = PictureView { width: side, height: side, pixels: &image };
        let mut out = vec![0; side * side * 3];
        let rand_augment = Augmentation::RandAugment { layers: 2, magnitude: 3.0 };
        let stacked = Augmentation::StackedRandAugment { layers: 2, magnitude: 10.0, min_area: 0.08 };
        let of = |augmentation| Augmenter::new(augmentation, side).expect("a bin");
        let slip = Augmenter::self_supervised(side);
        for (name, augmenter) in
            [("rand_augment", of(rand_augment)), ("stacked_rand_augment", of(stacked)), ("self-supervised view", slip)]
        {
            group.bench_function(format!("{name}, side {side}"), |bencher| {
                bencher.iter(|| {
                    step += 1;
                    augmenter.apply(picture, &mut philox.at(step, 0), &mut out);
                });
            });
        }
    }
    // 7,919 does not divide the pool: some batches straddle two passes.
    let (order, mut step, mut samples) = (SampleOrder::new(1, 1_000_000).expect("not empty"), 0, vec![0; 7_919]);
    group.throughput(Throughput::Elements(7_919));
    group.bench_function("order, a batch of 7,919", |bencher| {
        bencher.iter(|| {
            step += 1;
            order.fill(step, &mut samples);
        });
    });
}

fn encoding(criterion: &mut Criterion) {
    let world = World::new(&ScenesConfig::of_seed(1));
    let captions: Vec<String> = (0..10_000).map(|i| world.training(i).captions[0].clone()).collect();
    let mut group = criterion.benchmark_group("tokenize 10,000 captions");
    group.throughput(Throughput::Elements(10_000)).sample_size(10);
    for config in [TokenizerConfig::Bpe { vocab_size: 1024 }, TokenizerConfig::Unigram { vocab_size: 512 }] {
        let name = if matches!(config, TokenizerConfig::Bpe { .. }) { "bpe" } else { "unigram" };
        let train = || Tokenizer::train(&config, captions.iter().map(String::as_str)).expect("a vocabulary large enough");
        group.bench_function(format!("{name}, train"), |bencher| bencher.iter(|| black_box(train())));
        let tokenizer = train();
        group.bench_function(format!("{name}, encode"), |bencher| bencher.iter(|| black_box(tokenizer.encode_all(&captions, 16))));
    }
}

criterion_group!(benches, rendering, decoding, drawing, encoding);
criterion_main!(benches);
