//! Batches that are made ahead are those of their source.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use scaledown::data::{Ahead, Augmenter, Batch, BatchSource, Frame, Pack, Tokenizer, Views, pack_training};
use scaledown::run::{Augmentation, DataSource, ScenesConfig, SslConfig, StrategyConfig, TokenizerConfig};

const SIDE: usize = 16;

fn slip() -> StrategyConfig {
    let ssl = SslConfig { weight: 1.0, temperature: 0.1, hidden: 8, out: 8, bn_group: 8 };
    let augmentation = Augmentation::CropFlip { min_area: 0.5, flip: 0.0 };
    StrategyConfig { augmentation, ssl: Some(ssl), ..StrategyConfig::clip() }
}

/// Whole pictures, and SLIP's three views of them; or central squares for what does not crop.
fn source(folder: &Path, augmentation: Option<Augmentation>) -> BatchSource {
    let frame = if augmentation.is_some() { Frame::centre(SIDE) } else { Frame::whole(2 * SIDE) };
    pack_training(&DataSource::Scenes(ScenesConfig::of_seed(2)), Some(80), frame, folder, &|_, _| {}).unwrap();
    let pack = Arc::new(Pack::open(folder).unwrap());
    let captions: Vec<&str> = (0..pack.len()).map(|sample| pack.caption(sample)).collect();
    let tokenizer = Tokenizer::train(&TokenizerConfig::Bpe { vocab_size: 400 }, captions.iter().copied()).unwrap();
    let encoded = Arc::new(tokenizer.encode_all(&captions, 12));
    let subset = (0..80).collect();
    match augmentation {
        None => BatchSource::with_views(Arc::clone(&pack), encoded, subset, Views::of(&slip(), SIDE, 4).unwrap(), 4).unwrap(),
        Some(augmentation) => {
            let augmenter = Augmenter::new(augmentation, SIDE).unwrap();
            BatchSource::new(Arc::clone(&pack), encoded, subset, augmenter, 4).unwrap()
        }
    }
}

#[test]
fn batches_made_ahead_are_those_of_the_source_in_any_order_of_steps_and_with_any_threads() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path(), Some(Augmentation::RandAugment { layers: 2, magnitude: 9.0 }));
    assert!(!source.is_for_devices());
    let mut expected = Batch::default();
    for threads in [1, 3] {
        let mut ahead = Ahead::new(&source, false, threads).unwrap();
        // In turn, again, back, far ahead, of another size.
        for (step, samples, is_last) in
            [(0, 20, false), (1, 20, false), (1, 20, false), (0, 20, true), (9, 33, false), (10, 20, true)]
        {
            source.fill(step, samples, &mut expected);
            let made = ahead.next(step, samples, is_last);
            assert!(made.batch == expected, "step {step} of {samples}, {threads} threads");
            // Buffers are exchanged by who reads them.
            made.batch.images = vec![7; 5];
        }
        // Dropped with a batch under way.
        ahead.next(3, 20, false);
    }
}

#[test]
fn places_made_ahead_are_those_of_the_source() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path(), Some(Augmentation::None));
    assert!(source.is_for_devices());
    let mut ahead = Ahead::new(&source, true, 1).unwrap();
    let (mut batch, mut places, mut crops) = (Batch::default(), Vec::new(), Vec::new());
    for step in 0..4 {
        source.fill_places(step, 20, &mut batch, &mut places, &mut crops);
        let made = ahead.next(step, 20, step == 3);
        assert_eq!((&made.batch.tokens, &made.places, &made.crops), (&batch.tokens, &places, &crops));
    }
}

#[test]
fn a_panic_while_a_batch_is_made_reaches_who_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut ahead = Ahead::new(&source(dir.path(), Some(Augmentation::None)), false, 1).unwrap();
    let found = catch_unwind(AssertUnwindSafe(|| ahead.next(0, 81, true).batch.samples.len()));
    assert!(found.is_err(), "a batch of 81 of 80 samples: {found:?}");
    assert_eq!(ahead.next(0, 80, true).batch.samples.len(), 80, "the threads are still there");
}

#[test]
fn a_source_of_three_views_gives_each_its_own_pixels() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path(), None);
    assert!(!source.is_for_devices(), "its further views are not only crops");
    let mut batch = Batch::default();
    source.fill(5, 20, &mut batch);
    let pack = Pack::open(dir.path()).unwrap();
    let views = Views::of(&slip(), SIDE, 4).unwrap();
    let mut expected = vec![0; SIDE * SIDE * 3];
    let images: Vec<&[u8]> = batch.images.chunks(SIDE * SIDE * 3).collect();
    assert_eq!(images.len(), 3 * 20, "view after view");
    for (view, images) in (0..).zip(images.chunks(20)) {
        for (place, (image, sample)) in (0..).zip(images.iter().zip(&batch.samples)) {
            views.write(pack.picture(*sample as usize), 5, place, view, &mut expected);
            assert!(*image == expected, "view {view} of sample {place}");
        }
    }
    assert!(images[..20] != images[20..40] && images[20..40] != images[40..]);
}
