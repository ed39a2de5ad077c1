//! Which samples of a source are a pool.

use std::path::PathBuf;

use image::ImageFormat;
use scaledown::data::{Frame, Pack, PoolPart, count, pack_training};
use scaledown::run::{DataSource, ScenesConfig};

use super::{picture, webdataset, write_tar};

#[test]
fn pools_nest_and_one_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let shards: Vec<PathBuf> = (0..3).map(|shard| dir.path().join(format!("{shard:05}.tar"))).collect();
    for (number, shard) in shards.iter().enumerate() {
        let members: Vec<(String, Vec<u8>)> = (0..10)
            .flat_map(|i| {
                let sample = number * 10 + i;
                let image = picture(sample as u32, 8, ImageFormat::Png);
                [(format!("{sample:03}.png"), image), (format!("{sample:03}.txt"), format!("sample {sample}").into_bytes())]
            })
            .collect();
        write_tar(shard, &members);
    }
    let source = webdataset(&shards.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    assert_eq!(count(&source).unwrap(), Some(30));
    let drawn = |size: Option<u64>, draw| -> Vec<String> {
        let out = tempfile::tempdir().unwrap();
        pack_training(&source, PoolPart { size, draw }, Frame::centre(8), out.path(), &|_, _| {}).unwrap();
        let pack = Pack::open(out.path()).unwrap();
        (0..pack.len()).map(|sample| pack.caption(sample).to_owned()).collect()
    };
    let captions = |size| drawn(size, 0);
    let (small, large, all) = (captions(Some(7)), captions(Some(19)), captions(None));
    assert_eq!((small.len(), large.len(), all.len()), (7, 19, 30));
    assert!(small.iter().all(|caption| large.contains(caption)));
    let order = |captions: &[String]| {
        captions.iter().map(|caption| all.iter().position(|known| known == caption).unwrap()).collect::<Vec<_>>()
    };
    assert!(order(&large).is_sorted(), "packed in the order of the files");
    let (other_small, other) = (drawn(Some(7), 5), drawn(Some(19), 5));
    assert!(other_small.iter().all(|caption| other.contains(caption)) && order(&other).is_sorted());
    assert!(other != large && drawn(None, 5) == all, "another draw, of all there is the same");
    let error = pack_training(&source, Some(31), Frame::centre(8), &dir.path().join("pack"), &|_, _| {}).unwrap_err().to_string();
    assert_eq!(error, "a pool of 31 samples was asked for, the source has 30");
}

#[test]
fn pools_of_the_world_of_different_draws_have_no_scene_in_common_and_nest_within_a_draw() {
    let images = |size, draw| -> Vec<Vec<u8>> {
        let out = tempfile::tempdir().unwrap();
        let source = DataSource::Scenes(ScenesConfig::of_seed(4));
        pack_training(&source, PoolPart { size: Some(size), draw }, Frame::centre(16), out.path(), &|_, _| {}).unwrap();
        let pack = Pack::open(out.path()).unwrap();
        (0..pack.len()).map(|sample| pack.image(sample).to_vec()).collect()
    };
    let first = images(40, 0);
    assert_eq!(images(10, 0), first[..10]);
    for draw in [1, u64::from(u32::MAX)] {
        let other = images(40, draw);
        assert!(other.iter().all(|image| !first.contains(image)), "draw {draw}");
        assert_eq!(images(10, draw), other[..10]);
    }
}
