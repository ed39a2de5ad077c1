//! The sets of `../shared/data` pack whole; skipped with a line where they are absent.

use std::path::{Path, PathBuf};

use scaledown::data::{Pack, PackTask, count, matching_shards, pack_eval};
use scaledown::run::{DataSource, EvalSource};

use super::pack;

/// The real sets, or `None` with a printed line.
fn real(set: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(set);
    if !path.exists() {
        println!("skipped: {} does not exist", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn real_training_sets_pack_whole() {
    for (set, shards, samples, side) in [("emoji", 7, 6_121, 64), ("cifar10", 10, 10_000, 32), ("fashion-mnist", 4, 4_000, 28)] {
        let Some(root) = real(set) else { continue };
        let listed = matching_shards(&format!("{}/train/*.tar", root.display())).unwrap();
        assert_eq!(listed.len(), shards);
        let source = DataSource::Webdataset { shards: listed };
        assert_eq!(count(&source).unwrap(), Some(samples));
        let dir = tempfile::tempdir().unwrap();
        let summary = pack(&source, side, dir.path()).unwrap();
        assert_eq!((summary.samples as u64, summary.skips.total), (samples, 0), "{:?}", summary.skips.listed.first());
        assert!(summary.warnings.is_empty(), "{:?}", summary.warnings);
        let pack = Pack::open(dir.path()).unwrap();
        assert!((0..pack.len()).all(|sample| !pack.caption(sample).is_empty()));
        assert!(pack.field(0, "class_index").is_some() && pack.field(0, "width") == Some(side as f64));
    }
}

#[test]
fn real_evaluation_sets_pack_whole() {
    let sets = [
        ("emoji/eval-iid", 715, 64),
        ("emoji/eval-shift-openmoji-line", 1_000, 64),
        ("cifar10/eval", 2_000, 32),
        ("cifar10/eval-shift-corrupted", 1_000, 32),
        ("fashion-mnist/eval", 2_000, 28),
        ("fashion-mnist/eval-shift-inverted", 1_000, 28),
        ("emoji/eval-retrieval", 715, 32),
    ];
    for (set, samples, side) in sets {
        let Some(root) = real(set) else { continue };
        let dir = tempfile::tempdir().unwrap();
        let source = EvalSource::Folder { path: root.to_string_lossy().into(), split: "test".into() };
        let summary = pack_eval(&source, side, dir.path(), &|_, _| {}).unwrap();
        assert_eq!((summary.samples, summary.skips.total), (samples, 0), "{set}: {:?}", summary.skips.listed.first());
        let pack = Pack::open(dir.path()).unwrap();
        if set.ends_with("retrieval") {
            assert!((0..pack.len()).all(|sample| (2..=3).contains(&pack.captions(sample).len())));
        } else {
            let classes = if set.starts_with("emoji") { 1_636 } else { 10 };
            assert_eq!(pack.classnames().len(), classes);
            assert!((0..pack.len()).all(|sample| pack.label(sample).is_some()));
        }
    }
}

#[test]
fn real_training_shards_serve_as_a_held_out_evaluation_set() {
    let Some(root) = real("fashion-mnist") else { return };
    let source = EvalSource::Shards {
        shards: vec![root.join("train/00003.tar").to_string_lossy().into_owned()],
        class_field: "class_index".into(),
        classnames: root.join("eval/classnames.txt").to_string_lossy().into_owned(),
        templates: root.join("eval/zeroshot_classification_templates.txt").to_string_lossy().into_owned(),
    };
    let dir = tempfile::tempdir().unwrap();
    let summary = pack_eval(&source, 28, dir.path(), &|_, _| {}).unwrap();
    let pack = Pack::open(dir.path()).unwrap();
    assert_eq!((summary.samples, pack.classnames().len(), pack.task()), (1_000, 10, PackTask::Classification));
    assert!((0..pack.len()).all(|sample| pack.label(sample).map(f64::from) == pack.field(sample, "class_index")));
}
