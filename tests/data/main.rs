//! Data end to end: files in, packs out, batches drawn; what the program says of files that are not as they should be.
//!
//! Damage is made on purpose.
#![expect(clippy::unwrap_used, reason = "tests")]

mod ablation;
mod ahead;
mod clip_tokens;
mod pools;
mod program;
mod real;
mod selection;
#[path = "../support/shard.rs"]
mod shard;

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use scaledown::data::scenes::{Variant, World};
use scaledown::data::{
    Augmenter, Batch, BatchSource, DataError, Frame, Oddities, Pack, PackSummary, PackTask, ShardCount, SkipKind, Tokenizer,
    contact_sheet, count, fingerprint, pack_eval, pack_training, prompt,
};
use scaledown::run::{Augmentation, DataSource, EvalSource, ScenesConfig, TokenizerConfig};

/// What a program prints; ten minutes are the most that it may take.
fn output_in_time(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let process = rustix::process::Pid::from_child(&child);
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    ended.recv_timeout(Duration::from_secs(600)).map_or_else(
        |_| {
            let killed = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            panic!("the program still runs after ten minutes ({killed:?})")
        },
        Result::unwrap,
    )
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn picture(seed: u32, side: u32, format: ImageFormat) -> Vec<u8> {
    encoded(RgbImage::from_fn(side, side, |x, y| Rgb([(x * 7 + seed) as u8, (y * 5) as u8, (seed * 31) as u8])), format)
}

fn write_tar<N: AsRef<str>>(path: &Path, members: &[(N, Vec<u8>)]) -> Vec<u8> {
    let bytes = shard::tar(members);
    std::fs::write(path, &bytes).unwrap();
    bytes
}

fn webdataset(paths: &[&Path]) -> DataSource {
    DataSource::Webdataset { shards: paths.iter().map(|path| path.to_string_lossy().into_owned()).collect() }
}

fn pack(source: &DataSource, side: usize, dir: &Path) -> Result<PackSummary, DataError> {
    pack_training(source, None, Frame::centre(side), dir, &|_, _| {})
}

/// All files of a folder with their bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// A shard with good samples of every kind and every kind of bad sample.
fn mixed_shard(path: &Path) {
    let jpeg = picture(1, 40, ImageFormat::Jpeg);
    let grey = encoded(GrayImage::from_pixel(28, 28, Luma([90])), ImageFormat::Png);
    let json = |text: &str| text.as_bytes().to_vec();
    write_tar(
        path,
        &[
            ("000.jpg", jpeg.clone()),
            ("001.png", grey),
            ("000.txt", b"a first picture".to_vec()),
            ("001.txt", "  a “piñata” of größe 狗 \n".into()),
            ("001.json", json(r#"{"similarity": 0.25, "width": 28, "url": "x", "nsfw": null}"#)),
            ("002.JPEG", jpeg.clone()),
            ("002.json", json(r#"{"caption": "from the metadata", "similarity": 0.5, "clip": NaN}"#)),
            ("__meta__.json", json("{}")),
            ("003.jpg", jpeg[..jpeg.len() / 2].to_vec()),
            ("003.txt", b"a broken picture".to_vec()),
            ("004.jpg", jpeg.clone()),
            ("005.txt", b"no picture".to_vec()),
            ("006.jpg", jpeg.clone()),
            ("006.txt", b" \n ".to_vec()),
            ("007.jpg", jpeg.clone()),
            ("007.txt", vec![0xff, 0xfe]),
            ("008.jpg", jpeg.clone()),
            ("008.txt", b"broken metadata".to_vec()),
            ("008.json", json("{")),
            ("010.jpg", jpeg.clone()),
            ("010.json", json("[1]")),
            ("009.webp", encoded(RgbImage::from_pixel(64, 32, Rgb([9, 8, 7])), ImageFormat::WebP)),
            ("009.txt", b"a wide one".to_vec()),
        ],
    );
}

#[test]
fn good_samples_are_packed_and_bad_ones_counted_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let shard = dir.path().join("0.tar");
    mixed_shard(&shard);
    let summary = pack(&webdataset(&[&shard]), 32, &dir.path().join("pack")).unwrap();
    assert_eq!((summary.samples, summary.skips.total), (5, 6));
    let Oddities { unread_metadata, numbers_not_finite, .. } = summary.oddities;
    assert_eq!((unread_metadata, numbers_not_finite), (1, 1));
    assert_eq!(summary.shards, Some(ShardCount { listed: 1, missing: 0 }));
    let kinds = [SkipKind::NoImage, SkipKind::NoCaption, SkipKind::BadCaption, SkipKind::BadMetadata, SkipKind::Undecodable];
    assert_eq!(summary.skips.by_kind, kinds.map(|kind| (kind, if kind == SkipKind::NoCaption { 2 } else { 1 })));
    let listed: Vec<&str> = summary.skips.listed.iter().map(|skip| skip.sample.rsplit(' ').next().unwrap()).collect();
    assert_eq!(listed, ["003", "004", "005", "006", "007", "010"]);

    let pack = Pack::open(&dir.path().join("pack")).unwrap();
    assert_eq!((pack.len(), pack.side(), pack.task(), pack.has_labels()), (5, 32, PackTask::Training, false));
    let captions: Vec<&str> = (0..5).map(|sample| pack.caption(sample)).collect();
    let expected = ["a first picture", "a “piñata” of größe 狗", "from the metadata", "broken metadata", "a wide one"];
    assert_eq!(captions, expected);
    assert_eq!(pack.field_names().collect::<Vec<_>>(), ["similarity", "width"]);
    assert_eq!([0, 1, 2, 3].map(|sample| pack.field(sample, "similarity")), [None, Some(0.25), Some(0.5), None]);
    assert_eq!((pack.field(1, "width"), pack.field(2, "width"), pack.field(1, "url")), (Some(28.0), None, None));
    assert_eq!(pack.image(1), [90; 32 * 32 * 3], "grey becomes RGB at any side");
    assert_eq!(pack.image(4)[..3], [9, 8, 7]);
    let error = pack.field_values("clip_score").unwrap_err().to_string();
    assert_eq!(error, "no numeric field `clip_score` in the metadata, expected one of `similarity`, `width`");
    assert_eq!(pack.skipped(), &summary.skips);
}

/// A pool is packed twice where some runs crop and others do not; a subset made on one pack is read on the other.
#[test]
fn packs_of_every_frame_hold_the_same_samples() {
    let dir = tempfile::tempdir().unwrap();
    let shards: Vec<PathBuf> = ["0.tar", "1.tar"].iter().map(|name| dir.path().join(name)).collect();
    shards.iter().for_each(|path| mixed_shard(path));
    let table = dir.path().join("t.csv");
    std::fs::write(dir.path().join("wide.png"), encoded(RgbImage::from_pixel(90, 20, Rgb([1, 2, 3])), ImageFormat::Png)).unwrap();
    std::fs::write(dir.path().join("bad.png"), b"no picture").unwrap();
    std::fs::write(&table, "path,text,score\nwide.png,a,1\nbad.png,b,2\nnone.png,c,3\nwide.png,,4\nwide.png,e,5\n").unwrap();
    let table = DataSource::Table {
        file: table.to_string_lossy().into_owned(),
        image_column: "path".into(),
        caption_column: "text".into(),
    };
    let shards = webdataset(&[&shards[0], &shards[1]]);
    for (name, source, size) in
        [("tar", shards, Some(17)), ("table", table, None), ("scenes", DataSource::Scenes(ScenesConfig::of_seed(3)), Some(20))]
    {
        let [squares, whole] = [Frame::centre(16), Frame::whole(27)].map(|frame| {
            let path = dir.path().join(format!("{name} {frame:?}"));
            pack_training(&source, size, frame, &path, &|_, _| {}).unwrap();
            let mut header: serde_json::Value = serde_json::from_slice(&std::fs::read(path.join("pack.json")).unwrap()).unwrap();
            let framing = header.as_object_mut().unwrap().remove("framing");
            assert_eq!((header["side"].take(), framing.is_some()), (frame.side.into(), frame == Frame::whole(27)));
            let others = ["images.u8", "sizes.u32", "pack.json"];
            let files: Vec<_> = files(&path).into_iter().filter(|(name, _)| !others.contains(&name.as_str())).collect();
            assert!(files.len() >= 3);
            (header, files)
        });
        assert_eq!(squares.0, whole.0, "{name}: samples, fields and what is left out");
        assert!(squares.1 == whole.1, "{name}: captions, labels and values");
    }
}

/// Pictures of a pack of whole ones are those of the files, whatever their aspect.
#[test]
fn whole_pictures_are_packed_with_their_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let shard = dir.path().join("0.tar");
    let small = RgbImage::from_fn(20, 31, |x, y| Rgb([x as u8, y as u8, 9]));
    let wide = RgbImage::from_fn(200, 50, |x, _| Rgb([if x < 100 { 0 } else { 255 }; 3]));
    let file = |image: &RgbImage| encoded(image.clone(), ImageFormat::Png);
    write_tar(
        &shard,
        &[("0.png", file(&small)), ("0.txt", b"small".to_vec()), ("1.png", file(&wide)), ("1.txt", b"wide".to_vec())],
    );
    let path = dir.path().join("pack");
    pack_training(&webdataset(&[&shard]), None, Frame::whole(32), &path, &|_, _| {}).unwrap();
    let pack = Pack::open(&path).unwrap();
    let picture = pack.picture(0);
    assert_eq!((picture.width, picture.height, picture.pixels), (20, 31, small.as_raw().as_slice()));
    let picture = pack.picture(1);
    assert_eq!((picture.width, picture.height), (64, 16));
    assert!(picture.pixels[..3] == [0; 3] && picture.pixels[picture.pixels.len() - 3..] == [255; 3], "both ends are there");
    contact_sheet(&pack, &[0, 1], &dir.path().join("sheet.png")).unwrap();
    // A size that does not fit its place is damage.
    let mut sizes = std::fs::read(path.join("sizes.u32")).unwrap();
    sizes[0] = 60;
    std::fs::write(path.join("sizes.u32"), sizes).unwrap();
    let error = Pack::open(&path).unwrap_err().to_string();
    assert!(error.contains("a picture of 60 x 31 pixels, expected at most 1024 in all"), "{error}");
}

/// Batches of crops are made from whole pictures, on the host as by the places that a device is given.
#[test]
fn batches_crop_whole_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let shard = dir.path().join("0.tar");
    let wide = RgbImage::from_fn(120, 60, |x, _| Rgb([(x * 2) as u8, 0, 0]));
    let members: Vec<(String, Vec<u8>)> = (0..8)
        .flat_map(|i| [(format!("{i}.png"), encoded(wide.clone(), ImageFormat::Png)), (format!("{i}.txt"), b"wide".to_vec())])
        .collect();
    let members: Vec<(&str, Vec<u8>)> = members.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    write_tar(&shard, &members);
    pack_training(&webdataset(&[&shard]), None, Frame::whole(32), dir.path(), &|_, _| {}).unwrap();
    let pack = Arc::new(Pack::open(dir.path()).unwrap());
    let tokenizer = Tokenizer::train(&TokenizerConfig::Bpe { vocab_size: 300 }, ["wide"].into_iter()).unwrap();
    let encoded = Arc::new(tokenizer.encode_all(&["wide"; 8], 4));
    let subset: Vec<u32> = (0..8).collect();
    let crop = Augmentation::CropFlip { min_area: 0.2, flip: 0.0 };
    let source = |augmentation| {
        let augmenter = Augmenter::new(augmentation, 16).unwrap();
        BatchSource::new(Arc::clone(&pack), Arc::clone(&encoded), subset.clone(), augmenter, 4)
    };
    assert!(source(Augmentation::None).is_err(), "whole pictures are no images of 16 x 16");
    let source = source(crop).unwrap();
    // 45 x 22 pixels each, in 62 units.
    assert_eq!((source.side(), source.pool_unit(), source.pool_images().len()), (16, 16, 8 * 62 * 16 * 3));
    let (mut batch, mut placed) = (Batch::default(), Batch::default());
    let (mut places, mut crops) = (Vec::new(), Vec::new());
    let (mut darkest, mut brightest) = (255, 0);
    for step in 0..40 {
        source.fill(step, 8, &mut batch);
        source.fill_places(step, 8, &mut placed, &mut places, &mut crops);
        assert_eq!((batch.images.len(), crops.len()), (8 * 16 * 16 * 3, 8 * 6));
        assert_eq!(batch.samples, placed.samples);
        assert!(places.iter().zip(&batch.samples).all(|(place, sample)| *place == 62 * sample));
        let reds = batch.images.iter().step_by(3);
        darkest = darkest.min(*reds.clone().min().unwrap());
        brightest = brightest.max(*reds.max().unwrap());
    }
    // The central square of the source holds 60 to 178: crops see the ends of the whole picture.
    assert!(darkest < 10 && brightest > 228, "{darkest} {brightest}");
}

#[test]
fn packing_gives_the_same_bytes_with_one_and_two_threads() {
    let dir = tempfile::tempdir().unwrap();
    let shard = dir.path().join("0.tar");
    mixed_shard(&shard);
    let copy = dir.path().join("1.tar");
    std::fs::copy(&shard, &copy).unwrap();
    let sources = [webdataset(&[&shard, &copy]), DataSource::Scenes(ScenesConfig::of_seed(5))];
    for (number, source) in sources.iter().enumerate() {
        let size = if number == 1 { Some(700) } else { None };
        let packed = [1, 2, 2].map(|threads| {
            let out = tempfile::tempdir().unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| pack_training(source, size, Frame::centre(28), out.path(), &|_, _| {})).unwrap();
            files(out.path())
        });
        assert_eq!(packed[0], packed[1]);
        assert_eq!(packed[1], packed[2]);
    }
}

#[test]
fn a_truncated_shard_is_an_error_that_names_the_byte_and_leaves_no_pack() {
    let dir = tempfile::tempdir().unwrap();
    let (shard, out) = (dir.path().join("00000.tar"), dir.path().join("pack"));
    let bytes =
        write_tar(&shard, &[("0.png", picture(1, 32, ImageFormat::Png)), ("0.txt", b"x".to_vec()), ("1.png", vec![1; 3000])]);
    std::fs::write(&shard, &bytes[..bytes.len() - 2048]).unwrap();
    let error = pack(&webdataset(&[&shard]), 32, &out).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("00000.tar: truncated tar: member `1.png` at byte"), "{text}");
    assert!(text.ends_with(&format!("it ends at byte {}", bytes.len() - 2048)), "{text}");
    assert!(error.hint().is_some());
    assert!(!out.join("pack.json").exists());
    assert!(matches!(count(&webdataset(&[&shard])), Err(DataError::TruncatedTar { .. })), "preflight sees it too");
}

#[test]
fn empty_shards_are_fine_and_reported_and_sources_of_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [full, empty, zero] = ["0.tar", "1.tar", "2.tar"].map(|name| dir.path().join(name));
    write_tar(&full, &[("0.png", picture(1, 32, ImageFormat::Png)), ("0.txt", b"x".to_vec())]);
    write_tar::<&str>(&empty, &[]);
    std::fs::write(&zero, []).unwrap();
    let summary = pack(&webdataset(&[&empty, &full, &zero]), 32, &dir.path().join("pack")).unwrap();
    assert_eq!(summary.samples, 1);
    assert!(summary.warnings.len() == 2 && summary.warnings[0].ends_with("1.tar: empty shard"), "{:?}", summary.warnings);
    let error = pack(&webdataset(&[&empty]), 32, &dir.path().join("none")).unwrap_err().to_string();
    assert_eq!(error, "no usable sample among 0: the source is empty");
    write_tar(&full, &[("0.png", vec![1, 2, 3]), ("0.txt", b"x".to_vec())]);
    let error = pack(&webdataset(&[&full]), 32, &dir.path().join("none")).unwrap_err().to_string();
    assert!(error.starts_with("no usable sample among 1: ") && error.contains("0.tar: 0"), "{error}");
}

#[test]
fn a_repeated_suffix_is_an_error_and_declared_data_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let shard = dir.path().join("0.tar");
    write_tar(&shard, &[("7.png", vec![1]), ("7.txt", vec![2]), ("7.PNG", vec![3])]);
    let error = pack(&webdataset(&[&shard]), 32, &dir.path().join("pack")).unwrap_err().to_string();
    assert!(error.contains("0.tar: sample `7` has more than one member with suffix `png`"), "{error}");
    let declared = DataSource::Declared { samples: 3_400_000_000 };
    assert!(matches!(pack(&declared, 32, &dir.path().join("pack")), Err(DataError::Unsupported { .. })));
    assert_eq!(count(&declared).unwrap(), Some(3_400_000_000));
}

#[test]
fn a_damaged_pack_is_refused_with_the_file_at_fault() {
    let dir = tempfile::tempdir().unwrap();
    pack_training(&DataSource::Scenes(ScenesConfig::of_seed(1)), Some(4), Frame::centre(16), dir.path(), &|_, _| {}).unwrap();
    let originals = files(dir.path());
    for (name, bytes) in &originals {
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        if name == "pack.json" {
            // The last byte is a newline: cut more.
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }
        let error = Pack::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(name.as_str()), "{name}: {error}");
        std::fs::remove_file(&path).unwrap();
        assert!(Pack::open(dir.path()).unwrap_err().to_string().contains(name.as_str()));
        std::fs::write(&path, bytes).unwrap();
    }
    let header = dir.path().join("pack.json");
    let text = std::fs::read_to_string(&header).unwrap().replace("\"format\": 2", "\"format\": 99");
    std::fs::write(&header, text).unwrap();
    assert!(Pack::open(dir.path()).unwrap_err().to_string().contains("pack format Some(99), this program reads 2"));
}

#[test]
fn tables_skip_missing_images_and_keep_numbers() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("images")).unwrap();
    std::fs::write(dir.path().join("images/a.png"), picture(1, 48, ImageFormat::Png)).unwrap();
    std::fs::write(dir.path().join("images/b.jpg"), b"not an image").unwrap();
    let table = dir.path().join("pairs.tsv");
    std::fs::write(
        &table,
        "file\ttext\tscore\nimages/a.png\tcafé au lait\t0.5\nimages/gone.png\tx\t1\nimages/b.jpg\ty\t1\nimages/a.png\t\t1\n",
    )
    .unwrap();
    let source =
        DataSource::Table { file: table.to_string_lossy().into(), image_column: "file".into(), caption_column: "text".into() };
    let summary = pack(&source, 28, &dir.path().join("pack")).unwrap();
    assert_eq!((summary.samples, summary.skips.total, count(&source).unwrap()), (1, 3, Some(4)));
    let kinds = [SkipKind::NoCaption, SkipKind::Undecodable, SkipKind::Unreadable].map(|kind| (kind, 1));
    assert_eq!(summary.skips.by_kind, kinds);
    assert!(summary.skips.listed[0].sample.ends_with("pairs.tsv:3"), "{:?}", summary.skips.listed[0]);
    let pack = Pack::open(&dir.path().join("pack")).unwrap();
    assert_eq!((pack.caption(0), pack.field(0, "score")), ("café au lait", Some(0.5)));
    let before = fingerprint(&source, &dir.path().join("cache.json")).unwrap();
    std::fs::write(dir.path().join("images/b.jpg"), b"not an image either").unwrap();
    assert_ne!(fingerprint(&source, &dir.path().join("cache.json")).unwrap(), before, "images are part of a table");
}

/// A small evaluation folder; `.cls` or `.txt` members.
fn eval_folder(root: &Path, is_retrieval: bool) {
    std::fs::create_dir_all(root.join("test")).unwrap();
    std::fs::write(root.join("test/nshards.txt"), "2\n").unwrap();
    let image = || picture(3, 32, ImageFormat::Png);
    let (suffix, texts) = if is_retrieval { ("txt", ["one\ntwo\n", "three", "\n"]) } else { ("cls", ["0", "1\n", "2"]) };
    let member = |i: usize| (format!("s{i:07}.{suffix}"), texts[i].as_bytes().to_vec());
    let [a, b, c] = [0, 1, 2].map(member);
    write_tar(&root.join("test/0.tar"), &[("s0000000.png", image()), (&a.0, a.1), ("s0000001.png", image()), (&b.0, b.1)]);
    write_tar(&root.join("test/1.tar"), &[("s0000002.png", image()), (&c.0, c.1)]);
    if is_retrieval {
        std::fs::write(root.join("dataset_type.txt"), "retrieval").unwrap();
    } else {
        std::fs::write(root.join("classnames.txt"), "cat\npiñata\n").unwrap();
        std::fs::write(root.join("zeroshot_classification_templates.txt"), "a photo of a {c}\na {c}.\n").unwrap();
    }
}

#[test]
fn evaluation_folders_give_classes_or_several_captions() {
    let dir = tempfile::tempdir().unwrap();
    for (name, is_retrieval) in [("classes", false), ("captions", true)] {
        let root = dir.path().join(name);
        eval_folder(&root, is_retrieval);
        let source = EvalSource::Folder { path: root.to_string_lossy().into(), split: "test".into() };
        let summary = pack_eval(&source, 32, &dir.path().join(format!("{name}-pack")), &|_, _| {}).unwrap();
        assert_eq!((summary.samples, summary.skips.total), (2, 1), "class 2 of 2 classes; no caption");
    }
    let classes = Pack::open(&dir.path().join("classes-pack")).unwrap();
    assert_eq!((classes.task(), classes.label(0), classes.label(1)), (PackTask::Classification, Some(0), Some(1)));
    assert_eq!(prompt(&classes.templates()[1], &classes.classnames()[1]), "a piñata.");
    let captions = Pack::open(&dir.path().join("captions-pack")).unwrap();
    assert_eq!((captions.task(), captions.caption_count()), (PackTask::Retrieval, 3));
    assert_eq!(captions.captions(0).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!((captions.caption(1), captions.caption_range(1), captions.label(1)), ("three", 2..3, None));
}

#[test]
fn a_folder_that_cannot_be_read_is_an_error_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for path in [file, dir.path().join("absent")] {
        let source = EvalSource::Folder { path: path.to_string_lossy().into(), split: "test".into() };
        let error = pack_eval(&source, 32, &dir.path().join("pack"), &|_, _| {}).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read folder {}", path.display())), "{error}");
    }
}

#[test]
fn scenes_in_a_pack_are_the_scenes_alone() {
    let dir = tempfile::tempdir().unwrap();
    let summary =
        pack_training(&DataSource::Scenes(ScenesConfig::of_seed(9)), Some(600), Frame::centre(32), dir.path(), &|_, _| {}).unwrap();
    assert_eq!(summary.samples, 600);
    let (pack, world) = (Pack::open(dir.path()).unwrap(), World::new(&ScenesConfig::of_seed(9)));
    for sample in [0usize, 511, 512, 599] {
        let scene = world.training(sample as u64);
        assert_eq!(pack.image(sample), scene.render(32));
        assert_eq!((pack.caption(sample), pack.label(sample)), (scene.captions[0].as_str(), Some(scene.label)));
        assert_eq!(pack.field(sample, "quality"), Some(scene.quality));
    }
    let error = pack_training(&DataSource::Scenes(ScenesConfig::of_seed(9)), None, Frame::centre(32), dir.path(), &|_, _| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("needs a size"), "{error}");
    let source = EvalSource::Scenes { world_seed: 9, variant: "sketch".into(), samples: 160, shifts: 1.0 };
    pack_eval(&source, 32, &dir.path().join("eval"), &|_, _| {}).unwrap();
    let eval = Pack::open(&dir.path().join("eval")).unwrap();
    assert_eq!(
        (eval.len(), eval.caption_count(), eval.image(7)),
        (160, 480, world.evaluation(Variant::Sketch, 7).render(32).as_slice())
    );
}

#[test]
fn batches_are_the_same_from_the_start_and_from_any_step_with_any_threads() {
    let dir = tempfile::tempdir().unwrap();
    pack_training(&DataSource::Scenes(ScenesConfig::of_seed(2)), Some(100), Frame::centre(32), dir.path(), &|_, _| {}).unwrap();
    let pack = Arc::new(Pack::open(dir.path()).unwrap());
    let captions: Vec<&str> = (0..pack.len()).map(|sample| pack.caption(sample)).collect();
    let tokenizer = Tokenizer::train(&TokenizerConfig::Bpe { vocab_size: 400 }, captions.iter().copied()).unwrap();
    let encoded = Arc::new(tokenizer.encode_all(&captions, 12));
    let subset: Vec<u32> = (0..90).filter(|i| i % 3 != 0).collect();
    let augmenter = Augmenter::new(Augmentation::CropFlip { min_area: 0.5, flip: 0.5 }, 32).unwrap();
    let source = || BatchSource::new(Arc::clone(&pack), Arc::clone(&encoded), subset.clone(), augmenter, 4).unwrap();

    let (streamed, mut batch) = (source(), Batch::default());
    let all: Vec<Batch> = (0..9)
        .map(|step| {
            streamed.fill(step, 32, &mut batch);
            batch.clone()
        })
        .collect();
    for step in [8u64, 0, 5] {
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut batch = Batch::default();
            pool.install(|| source().fill(step, 32, &mut batch));
            assert_eq!(batch, all[step as usize]);
        }
    }
    let mut epoch: Vec<u32> = all.iter().flat_map(|batch| batch.samples.iter().copied()).take(60).collect();
    epoch.sort_unstable();
    assert_eq!(epoch, subset, "the first epoch covers the subset once");
    let first = tokenizer.encode(captions[all[0].samples[0] as usize], 12);
    assert_eq!((&all[0].tokens[..12], all[0].ends[0] as usize), (first.ids.as_slice(), first.end));
}

#[test]
fn tokenizers_train_alike_twice_and_read_back() {
    let world = World::new(&ScenesConfig::of_seed(3));
    let captions: Vec<String> = (0..3000).map(|i| world.training(i).captions[0].clone()).collect();
    for config in [TokenizerConfig::Bpe { vocab_size: 512 }, TokenizerConfig::Unigram { vocab_size: 256 }] {
        let train = || Tokenizer::train(&config, captions.iter().map(String::as_str)).unwrap();
        let (dirs, tokenizer) = ([tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()], train());
        tokenizer.save(dirs[0].path()).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(train).save(dirs[1].path()).unwrap();
        assert_eq!(files(dirs[0].path()), files(dirs[1].path()));
        let loaded = Tokenizer::load(dirs[0].path()).unwrap();
        assert_eq!(loaded, tokenizer);
        assert_eq!(tokenizer.vocab_size(), config.vocab_size());
        let all = loaded.encode_all(&captions, 16);
        for (caption, text) in captions.iter().enumerate().step_by(97) {
            let one = loaded.encode(text, 16);
            let mut row = vec![9; 16];
            assert_eq!(all.write(caption, &mut row) as usize, one.end);
            assert_eq!(row, one.ids);
            assert_eq!(one.ids[one.end], loaded.end());
            assert!(one.ids.iter().all(|&id| id <= loaded.end()), "the end has the highest id");
            assert_eq!(loaded.decode(&loaded.ids(text)), *text);
        }
        let cut = loaded.encode("a photo of a striped red triangle on the grass next to a small blue circle", 5);
        assert_eq!((cut.ids.len(), cut.end, cut.ids[4]), (5, 4, loaded.end()));
    }
    assert!(Tokenizer::load(Path::new("/nonexistent")).unwrap_err().to_string().contains("tokenizer.json"));
}

#[test]
fn a_contact_sheet_is_a_png_with_its_captions_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    pack_training(&DataSource::Scenes(ScenesConfig::of_seed(1)), Some(10), Frame::centre(32), &dir.path().join("pack"), &|_, _| {})
        .unwrap();
    let (pack, sheet) = (Pack::open(&dir.path().join("pack")).unwrap(), dir.path().join("sheet.png"));
    contact_sheet(&pack, &[0, 1, 2, 3, 4, 5, 6], &sheet).unwrap();
    let image = image::open(&sheet).unwrap().into_rgb8();
    assert_eq!((image.width(), image.height()), (4 * 100 + 4, 2 * 100 + 4));
    assert_eq!(image.get_pixel(4, 4).0, pack.image(0)[..3]);
    let text = std::fs::read_to_string(dir.path().join("sheet.txt")).unwrap();
    assert_eq!(text.lines().count(), 7);
    assert!(text.lines().nth(1).unwrap().starts_with("1,2\t") && text.contains(pack.caption(6)));
}
