//! Rules against what numpy recorded (`tests/fixtures/selection/make.py`), and what a rule promises besides.

use serde_json::Value;

use super::*;
use crate::run::{Basic, Clustering, NegClipLoss, Norm};

/// What the script recorded.
struct Record(Value);

impl Record {
    fn read() -> Self {
        let text = include_str!("../../../tests/fixtures/selection/numpy.json");
        Self(serde_json::from_str(text).expect("the script writes JSON"))
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = hex::decode(self.0[name].as_str().expect("bytes")).expect("hexadecimal");
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect()
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        numbers(&self.0[name])
    }

    fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().expect("a number")
    }

    fn width(&self) -> usize {
        self.number("width") as usize
    }

    fn first(&self) -> Vec<u32> {
        indices(&self.0["first"])
    }
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().expect("a list").iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect()
}

fn indices(values: &Value) -> Vec<u32> {
    numbers(values).into_iter().map(|value| value as u32).collect()
}

/// Scores are sums of f32 products of numbers up to 1.
fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (idx, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 2e-6 * expected.abs().max(1.0), "{what} of {idx}: {found}, numpy {expected}");
    }
}

#[test]
fn every_rule_on_features_gives_the_scores_of_numpy() {
    let record = Record::read();
    let (images, texts, target) = (record.floats("images"), record.floats("texts"), record.floats("target"));
    let of = |rows| Features::new(rows, record.width());
    let (images, texts, target) = (of(&images), of(&texts), of(&target));
    assert_near(&clip_score(images, texts), &record.numbers("clip_score"), "clip_score");
    let how = NegClipLoss { temperature: record.number("temperature"), ..NegClipLoss::default() };
    assert_near(&neg_clip_loss(images, texts, how), &record.numbers("neg_clip_loss"), "neg_clip_loss");
    let orders: Vec<Vec<u32>> = record.0["orders"].as_array().expect("lists").iter().map(indices).collect();
    let how = NegClipLoss { batch: record.number("batch") as u64, ..how };
    let averaged = neg_clip_loss::averaged(images, texts, how, &orders);
    assert_near(&averaged, &record.numbers("neg_clip_loss_orders"), "neg_clip_loss over permutations");
    assert_near(&norm_sim(images, target, Norm::Two), &record.numbers("norm_sim_two"), "norm_sim 2");
    assert_near(&norm_sim(images, target, Norm::Inf), &record.numbers("norm_sim_inf"), "norm_sim inf");
    let found = image_cluster::from(images, target, &record.first(), 20);
    assert_near(&found, &record.numbers("image_cluster"), "image_cluster");
    assert_near(&sem_dedup::from(images, &record.first(), 20), &record.numbers("sem_dedup"), "sem_dedup");
}

#[test]
fn what_is_kept_of_scores_is_what_numpy_keeps() {
    let record = Record::read();
    let scores = record.numbers("scores");
    for case in record.0["keep"].as_array().expect("a list") {
        let fraction = case["fraction"].as_f64().expect("a number");
        let mut best = top(&scores, whole_share(scores.len(), fraction));
        best.sort_unstable();
        assert_eq!(best, indices(&case["top"]), "the best {fraction}");
        let threshold = datacomp_threshold(&scores, fraction);
        assert_eq!(threshold, case["threshold"].as_f64(), "the threshold of {fraction}");
        let kept = (0..scores.len() as u32).filter(|&i| threshold.is_some_and(|least| scores[i as usize] >= least));
        assert_eq!(kept.collect::<Vec<_>>(), indices(&case["datacomp"]), "DataComp's {fraction}");
    }
    assert_eq!(datacomp_threshold(&scores, 1.0), None);
}

#[test]
fn a_share_that_binary_fractions_miss_is_whole() {
    for (len, share, whole) in [(100, 0.29, 29), (200, 0.29, 58), (1000, 0.07, 70), (10, 0.35, 3), (3, 0.999, 2), (7, 0.1, 0)] {
        assert_eq!(whole_share(len, share), whole, "{share} of {len}");
    }
}

#[test]
fn captions_and_sizes_pass_where_they_do_in_python() {
    let record = Record::read();
    for case in record.0["basic"].as_array().expect("a list") {
        let size = Some((case[1].as_f64().expect("a width"), case[2].as_f64().expect("a height")));
        let found = basic(case[0].as_str().expect("a caption"), size, &Basic::default());
        assert_eq!(found, f64::from(u8::from(case[3].as_bool().expect("an outcome"))), "{case}");
    }
    let caption = "a caption of five words";
    assert!(basic(caption, None, &Basic::default()).is_nan(), "a size that is asked for and unknown is no score");
    assert_eq!(basic(caption, None, &Basic { min_side: 0, max_aspect: None, ..Basic::default() }), 1.0);
    assert_eq!(basic("short", None, &Basic::default()), 0.0);
}

#[test]
fn a_similarity_of_one_is_finite_at_a_temperature_that_overflows() {
    let rows = [1.0f32, 0.0, 0.0, 1.0];
    let features = Features::new(&rows, 2);
    let how = NegClipLoss { temperature: 1e-3, ..NegClipLoss::default() };
    for score in neg_clip_loss(features, features, how) {
        assert!((score - 0.0).abs() < 1e-12, "{score}: the pair alone makes the sum");
    }
}

#[test]
fn scores_do_not_depend_on_threads() {
    let record = Record::read();
    let (images, texts, target) = (record.floats("images"), record.floats("texts"), record.floats("target"));
    let of = |rows| Features::new(rows, record.width());
    let all = || {
        let (images, texts, target) = (of(&images), of(&texts), of(&target));
        let how = NegClipLoss { batch: 40, permutations: 2, ..NegClipLoss::default() };
        let clusters = Clustering { clusters: 9, iterations: 5 };
        let mut all = neg_clip_loss(images, texts, how);
        all.extend(norm_sim(images, target, Norm::Two));
        all.extend(norm_sim(images, target, Norm::Inf));
        all.extend(image_cluster(images, target, clusters));
        all.extend(sem_dedup(images, clusters));
        all.into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(all);
    assert_eq!(with(1), with(3));
}

#[test]
fn the_last_batch_of_a_pool_is_as_large_as_the_others() {
    let rows: Vec<f32> = (0..41).flat_map(|i| [(i as f32).cos(), (i as f32).sin()]).collect();
    let features = Features::new(&rows, 2);
    let how = NegClipLoss { temperature: 1.0, batch: 40, permutations: 1 };
    // A pair alone in its batch would score 0.
    assert!(neg_clip_loss(features, features, how).iter().all(|score| *score < -1.0));
}

#[test]
fn a_centroid_without_samples_stays_where_it_is() {
    let rows = [1.0f32, 0.0, 1.0, 0.0, 0.0, 1.0];
    let made = kmeans(Features::new(&rows, 2), &[0, 1, 2], 3, Distance::Euclidean);
    assert_eq!((made.centroids, made.of_sample), (rows.to_vec(), vec![0, 0, 2]));
}
