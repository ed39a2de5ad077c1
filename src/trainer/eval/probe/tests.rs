use super::super::recorded::{Recorded, hits};
use super::*;

fn train(recorded: &Recorded) -> (Standard, Vec<f64>, &[usize]) {
    let features = recorded.features(&recorded.train);
    let scale = Standard::of(&features, recorded.width);
    let rows = scale.apply(&features);
    (scale, rows, &recorded.train.labels)
}

#[test]
fn weights_are_those_of_scikit_learn_at_every_lambda() {
    let recorded = Recorded::read();
    let (_, rows, labels) = train(&recorded);
    for fit in &recorded.probe.fits {
        let mut classifier = Classifier::new(recorded.width, labels);
        let (minimum, _) = classifier.minimise(&rows, labels, fit.lam, 1e-9);
        let expected: Vec<f64> = fit.weights.iter().chain(&fit.biases).copied().collect();
        assert_eq!(classifier.params.len(), expected.len(), "a class without samples has no weights");
        let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        // scikit-learn's own gradient is left at 1e-8 to 2e-7; the least curvature is lambda.
        let atol = 1e-6 * largest + 1e-6 / fit.lam.max(1e-3);
        for (place, (found, expected)) in classifier.params.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() <= atol, "lambda {}, {place}: {found} and {expected} ({minimum:?})", fit.lam);
        }
    }
}

#[test]
fn lambda_is_chosen_as_scikit_learns_hits_on_the_held_out_tenth_say() {
    let recorded = Recorded::read();
    let (scale, rows, labels) = train(&recorded);
    assert_eq!(held_out(labels.len()), recorded.probe.held_out);
    let (classifier, found) = fit(&rows, recorded.width, labels, usize::MAX).expect("there are enough samples");
    assert_eq!(found.tried.len(), recorded.probe.tried.len());
    let mut compared = 0;
    for (tried, expected) in found.tried.iter().zip(&recorded.probe.tried) {
        assert!((tried.lambda / expected.lam - 1.0).abs() < 1e-12, "{} and {}", tried.lambda, expected.lam);
        // Where two classes are as good as equal for a sample, an unfinished fit may take either.
        if expected.least_margin > 1e-3 {
            assert_eq!(tried.hits, expected.hits, "at lambda {}", tried.lambda);
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared} of {}", found.tried.len());
    assert!((found.lambda / recorded.probe.lam - 1.0).abs() < 1e-12, "the larger of two that are best: {}", found.lambda);
    let every: Vec<usize> = (0..recorded.classes).collect();
    let test = scale.apply(&recorded.features(&recorded.test));
    let ranks = classifier.ranks(&test, &recorded.test.labels, &every);
    let found: Vec<bool> = ranks.iter().map(|rank| *rank == 0).collect();
    assert_eq!(found, hits(&recorded.probe.predictions, &recorded.test.labels));
}

#[test]
fn a_path_that_ends_after_fewer_hits_chooses_as_the_whole_one() {
    let recorded = Recorded::read();
    let (_, rows, labels) = train(&recorded);
    let of = |patience| fit(&rows, recorded.width, labels, patience).expect("there are enough samples");
    let (whole, (ended, found)) = (of(usize::MAX), of(2));
    let most = found.tried.iter().map(|tried| tried.hits).max();
    assert!(found.tried.len() < whole.1.tried.len(), "{} of {}", found.tried.len(), whole.1.tried.len());
    assert_eq!(found.tried[..], whole.1.tried[..found.tried.len()]);
    assert!(found.tried[found.tried.len() - 2..].iter().all(|tried| Some(tried.hits) < most));
    assert_eq!((found.lambda, ended.params), (whole.1.lambda, whole.0.params));
}

#[test]
fn a_probe_has_the_same_bytes_on_any_number_of_threads() {
    let recorded = Recorded::read();
    let (_, rows, labels) = train(&recorded);
    let of = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be had");
        let (classifier, fitted) = pool.install(|| fit(&rows, recorded.width, labels, PATIENCE)).expect("there are enough samples");
        (classifier.params.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), fitted)
    };
    let one = of(1);
    assert_eq!(one, of(2));
    assert_eq!(one, of(5));
}

#[test]
fn a_probe_that_chooses_among_some_classes_and_never_says_one_that_it_has_not_seen() {
    // Classes 0, 2 and 5 of a train split; scores of a row are its biases.
    let classifier = Classifier { width: 1, classes: vec![0, 2, 5], params: vec![0.0, 0.0, 0.0, 3.0, 1.0, 2.0] };
    let rank_of = |label, places: &[usize]| classifier.ranks(&[0.0], &[label], places)[0];
    // All of its classes: the order of scores is 0, 5, 2.
    assert_eq!([0, 1, 2].map(|label| rank_of(label, &[0, 2, 5])), [0, 2, 1]);
    // A set of two of them, in another order: its class 0 is 2, its class 1 is 5.
    assert_eq!([0, 1].map(|label| rank_of(label, &[2, 5])), [1, 0]);
    // Class 1 has no sample: it comes last, and alone it is no hit either.
    assert_eq!([0, 1].map(|label| rank_of(label, &[1, 2])), [1, 0]);
    assert_eq!(rank_of(0, &[1]), 1);
}

#[test]
fn features_that_never_change_and_splits_of_one_image_are_taken_care_of() {
    let scale = Standard::of(&[0.1, 1.0, 0.1, 3.0, 0.1, 5.0], 2);
    assert_eq!((scale.inverse_std[0], scale.mean[1]), (1.0, 3.0));
    assert!((scale.inverse_std[1] - (8.0_f64 / 3.0).sqrt().recip()).abs() < 1e-12);
    let (alone, same) = (fit(&[1.0], 1, &[0], PATIENCE), fit(&[1.0, 2.0, 3.0], 1, &[4, 4, 4], PATIENCE));
    assert!(alone.expect_err("nothing is left to fit on").to_string().contains("1 image"));
    let (classifier, _) = same.expect("one class alone is always right");
    assert_eq!(classifier.ranks(&[9.0], &[4], &[0, 1, 2, 3, 4]), [0]);
}
