use super::super::recorded::{Recorded, hits};
use super::*;

#[test]
fn shots_scores_and_hits_are_those_of_the_numpy_script() {
    let recorded = Recorded::read();
    let (train, test) = (recorded.features(&recorded.train), recorded.features(&recorded.test));
    let (width, classes, labels) = (recorded.width, recorded.classes, &recorded.train.labels);
    let every: Vec<usize> = (0..classes).collect();
    let (mut dual, mut primal) = (0, 0);
    for case in &recorded.fewshot {
        let chosen = chosen(labels, classes, case.shots, case.seed);
        assert_eq!(chosen, case.chosen, "{} shots, seed {}", case.shots, case.seed);
        *(if chosen.len() < width + 1 { &mut dual } else { &mut primal }) += 1;
        let classifier = Classifier::fit(&train, width, labels, classes, &chosen, (case.shots, case.seed));
        let mut rows = Vec::new();
        test.chunks_exact(width).take(3).for_each(|row| classifier.whiten(row, &mut rows));
        let mut scores = vec![0.0; 3 * classes];
        product(MatF64::new(&rows, width + 1), MatF64::new(&classifier.weights, classes), &mut scores);
        for (found, expected) in scores.iter().zip(&case.scores) {
            assert!(
                (found - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
                "{} {}: {found} and {expected}",
                case.shots,
                case.seed
            );
        }
        let ranks = classifier.ranks(&test, width, &recorded.test.labels, &every);
        let found: Vec<bool> = ranks.iter().map(|rank| *rank == 0).collect();
        assert_eq!(found, hits(&case.predictions, &recorded.test.labels), "{} shots, seed {}", case.shots, case.seed);
    }
    assert!(dual >= 3 && primal >= 3, "{dual} cases in the dual form, {primal} in the primal");
}

#[test]
fn fewer_shots_are_among_more_and_a_small_class_gives_all_it_has() {
    let labels: Vec<usize> = (0..60).map(|i| if i % 20 == 7 { 2 } else { i % 2 }).collect();
    let of = |shots, seed| chosen(&labels, 3, shots, seed);
    for seed in 0..3 {
        let (few, more) = (of(2, seed), of(5, seed));
        assert!(few.iter().all(|sample| more.contains(sample)), "{few:?} {more:?}");
        let of_class = |class| more.iter().filter(|sample| labels[**sample] == class).count();
        assert_eq!([0, 1, 2].map(of_class), [5, 5, 3]);
    }
    assert_ne!(of(5, 0), of(5, 1));
}
