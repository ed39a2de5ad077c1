//! What items add to the error of runs, what stands after Holm, and what more would decide.

use std::sync::Arc;

use super::*;
use crate::run::{Outcomes, SetOutcomes};

/// Values over three seeds whose residuals about cells and seeds scatter by about `spread`, the same for every table.
fn noisy(mean: f64, cell: usize, spread: f64) -> [f64; 3] {
    let signs = [[1.0, -1.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 1.0, -1.0], [1.0, 0.0, -1.0]][cell % 4];
    signs.map(|sign| mean + spread * sign)
}

/// Models at one size each with three noisy seeds.
fn models(means: &[f64], spread: f64) -> Table {
    let names: Vec<String> = (0..means.len()).map(|idx| format!("m{idx}")).collect();
    let values: Vec<[f64; 3]> = means.iter().enumerate().map(|(idx, mean)| noisy(*mean, idx, spread)).collect();
    let cells: Vec<(&str, &str, &[f64])> =
        names.iter().zip(&values).map(|(name, values)| (name.as_str(), "1", values.as_slice())).collect();
    table(&cells)
}

/// Every model against the last one, at size 1.
fn against_last(models: usize, rest: &str, table: Table) -> Verdict {
    let lefts = (0..models - 1).map(|idx| format!("{{cell: {{model: m{idx}}}}}")).collect::<Vec<_>>().join(", ");
    let test = format!("{rest}test: {{greater: {{left: [{lefts}], right: {{cell: {{model: m{}}}}}}}}}", models - 1);
    on_runs(&test, table)
}

/// Outcomes of a table's runs: `hits` of 100 items by cell, each seed's the same.
fn outcomes(table: &Table, hits: &[Vec<u8>]) -> Outcomes {
    let mut found = Outcomes::default();
    for (cell, hits) in table.cells.iter().zip(hits) {
        for run_id in &cell.run_ids {
            let sets: Arc<[SetOutcomes]> =
                Arc::new([SetOutcomes { set: "s".to_owned(), hits: hits.clone(), of: hits.len() as u64 }]);
            found.0.entry(run_id.clone()).or_default().insert(cell.metric.clone(), sets);
        }
    }
    found
}

#[test]
fn items_add_to_the_error_and_their_absence_is_said() {
    let table = table(&[("a", "1", &[60.5, 59.5, 60.0]), ("b", "1", &[50.0, 50.5, 49.5])]);
    let spec = claim("{id: c, says: s, cells: {table: t}, test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}}}}");
    let tables = [table];
    let without = judge(std::slice::from_ref(&spec), &RunTables::new(&tables)).remove(0);
    assert_eq!(without.verdict, VerdictKind::Supported);
    assert!(without.notes[0].starts_with("on these evaluation sets"), "{:?}", without.notes);
    // Of 100 items a has the first 60 and b the last 50: they differ on 90, z is 100, 0 and -100.
    let hit = |wanted: &dyn Fn(usize) -> bool| (0..100).map(|item| u8::from(wanted(item))).collect::<Vec<u8>>();
    let known = outcomes(&tables[0], &[hit(&|item| item < 60), hit(&|item| item >= 50)]);
    let with = judge(&[spec], &RunTables::new(&tables).with(&known)).remove(0);
    assert_eq!((with.verdict, with.notes.len()), (VerdictKind::Undecided, 1), "{with:?}");
    // Seeds: differences 10.5, 9, 10.5, variance 0.75, A = 0.25. Items: z has 50 times 100, 10 times 0, 40 times -100, mean 10,
    // variance (900000 - 10000) / 99 = 8989.9, I = 89.899. Degrees 2 (90.149 / 0.25)^2: normal. 1.95996 * 9.4947 = 18.609.
    let comparison = &with.comparisons[0];
    assert!((comparison.band.unwrap() - 18.609).abs() < 1e-3, "{comparison:?}");
    // 100 * 3.8415 * 89.899 / 100.
    assert_eq!((comparison.seeds_needed, comparison.items_needed), (None, Some(346)));
    assert_eq!(with.notes, ["about 346 items, not seeds, would decide"]);
}

#[test]
fn cells_of_the_same_runs_are_one_cell_in_every_sum() {
    let mut both = [models(&[10.0, 12.0], 0.5), models(&[10.0, 12.0], 0.5)];
    both[1].name = "u".to_owned();
    let spec = claim(
        "{id: c, says: s, cells: {table: [t, u]}, test: {equal: {left: {cell: {table: t, model: m0}},
         right: {cell: {table: u, model: m0}}, within: 0.1}}}",
    );
    let verdict = judge(&[spec], &RunTables::new(&both)).remove(0);
    assert_eq!((verdict.verdict, verdict.comparisons[0].band), (VerdictKind::Supported, Some(0.0)));
}

#[test]
fn a_false_one_counts_only_after_holm_over_the_claim() {
    // Twelve that are clear, and one that is below by what is false alone.
    let means = |last: f64| {
        let mut means = vec![60.0; 12];
        means[11] = last;
        means.push(50.0);
        models(&means, 1.0)
    };
    let alone = |last: f64| against_last(2, "", models(&[last, 50.0], 1.0)).num_false;
    let among = |last: f64| against_last(13, "", means(last));
    let band = among(50.0).comparisons[11].band.unwrap();
    let (slightly, clearly) = (among(50.0 - 1.05 * band), among(50.0 - 2.0 * band));
    assert_eq!((slightly.verdict, counts(&slightly)), (VerdictKind::Undecided, [11, 1, 0, 0]));
    assert!(slightly.notes[1].contains("false by itself, but not after Holm over the 12 comparisons"), "{:?}", slightly.notes);
    assert_eq!((clearly.verdict, counts(&clearly)), (VerdictKind::Mixed, [11, 0, 1, 0]));
    assert_eq!(alone(40.0), 1);
}

#[test]
fn leaning_wants_one_true_beyond_doubt_and_all_on_its_side() {
    let band = against_last(3, "", models(&[60.0, 60.0, 50.0], 1.0)).comparisons[0].band.unwrap();
    let verdict = |over: [f64; 2]| {
        against_last(3, "tie_band: 0, ", models(&[50.0 + over[0] * band, 50.0 + over[1] * band, 50.0], 1.0)).verdict
    };
    assert_eq!(verdict([2.0, 0.5]), VerdictKind::Leaning);
    assert_eq!(verdict([2.0, -0.5]), VerdictKind::Undecided);
    // True by itself, but not after Holm over the two.
    assert_eq!(verdict([1.05, 0.5]), VerdictKind::Undecided);
}

#[test]
fn a_tie_says_how_many_seeds_would_decide_it() {
    let verdict = against_last(2, "tie_band: 0, ", models(&[51.0, 50.0], 1.0));
    let needed = verdict.comparisons[0].seeds_needed.unwrap();
    assert!((4..100).contains(&needed), "{needed}");
    assert_eq!(verdict.notes[1], format!("about {needed} seeds would decide"));
    // What lies within the tie band is decided by no number of seeds.
    let close = against_last(2, "tie_band: 2, ", models(&[51.0, 50.0], 1.0));
    assert_eq!((close.num_tie, close.comparisons[0].seeds_needed), (1, None));
}

#[test]
fn a_trend_decides_what_no_step_does() {
    let four: Vec<(String, [f64; 3])> = ["1", "2", "4", "8"]
        .iter()
        .enumerate()
        .map(|(idx, size)| ((*size).to_owned(), noisy(50.0 + 2.0 * idx as f64, idx, 1.0)))
        .collect();
    let cells: Vec<(&str, &str, &[f64])> = four.iter().map(|(size, values)| ("a", size.as_str(), values.as_slice())).collect();
    let steps = on_runs("test: {rises: {along: size}}", table(&cells));
    let trend = on_runs("test: {trend: {along: size}}", table(&cells));
    assert!(steps.num_tie > 0 && trend.verdict == VerdictKind::Supported, "{steps:?} {trend:?}");
    let expected = trend.comparisons[0].p.unwrap();
    assert!(expected > 0.0 && expected < 0.025, "{expected}");
}

#[test]
fn more_than_a_share_of_runs_is_a_partial_conjunction() {
    let most = |over: &[f64]| {
        let mut means: Vec<f64> = over.iter().map(|over| 50.0 + over).collect();
        means.push(50.0);
        let lefts = (0..over.len()).map(|idx| format!("{{cell: {{model: m{idx}}}}}")).collect::<Vec<_>>().join(", ");
        let test =
            format!("test: {{greater: {{left: [{lefts}], right: {{cell: {{model: m{}}}}}, in_more_than: 50%}}}}", over.len());
        on_runs(&test, models(&means, 1.0)).verdict
    };
    assert_eq!(most(&[9.0, 9.0, 9.0, 0.0]), VerdictKind::Supported);
    assert_eq!(most(&[9.0, 9.0, 0.0, 0.0]), VerdictKind::Undecided);
    assert_eq!(most(&[-9.0, -9.0, 9.0, 9.0]), VerdictKind::Refuted, "two of four are not more than half");
    assert_eq!(most(&[-9.0, 9.0, 0.0, 0.0]), VerdictKind::Undecided);
}

#[test]
fn equal_within_a_margin_takes_the_whole_interval() {
    let equal = |over: f64, within: f64| {
        let test = format!("test: {{equal: {{left: {{cell: {{model: m0}}}}, right: {{cell: {{model: m1}}}}, within: {within}}}}}");
        on_runs(&test, models(&[50.0 + over, 50.0, 40.0, 30.0], 0.5)).verdict
    };
    assert_eq!(equal(0.2, 3.0), VerdictKind::Supported);
    assert_eq!(equal(0.2, 0.5), VerdictKind::Undecided);
    assert_eq!(equal(-6.0, 3.0), VerdictKind::Refuted);
    assert_eq!(equal(-6.0, 9.0), VerdictKind::Supported);
}

#[test]
fn an_interior_best_of_runs_and_its_opposite() {
    let best = |means: &[f64]| on_runs("test: {best: {along: model, is: interior}}", models(means, 0.5)).verdict;
    assert_eq!(best(&[50.0, 55.0, 54.0, 50.0]), VerdictKind::Supported);
    assert_eq!(best(&[55.0, 50.0, 51.0, 45.0]), VerdictKind::Refuted);
    assert_eq!(best(&[50.0, 50.2, 50.1, 50.0]), VerdictKind::Undecided);
    // Level with one end.
    assert_eq!(best(&[50.0, 55.0, 55.0]), VerdictKind::Undecided);
}

#[test]
fn a_crossover_of_runs_is_decided_at_both_ends() {
    let lines = |differences: [f64; 3]| {
        let late = [noisy(50.0, 0, 0.5), noisy(52.0, 1, 0.5), noisy(54.0, 2, 0.5)];
        let early: Vec<[f64; 3]> = (0..3).map(|idx| noisy(50.0 + 2.0 * idx as f64 + differences[idx], idx + 1, 0.5)).collect();
        let sizes = ["1k", "2k", "4k"];
        let cells: Vec<(&str, &str, &[f64])> = (0..3)
            .flat_map(|idx| [("late", sizes[idx], late[idx].as_slice()), ("early", sizes[idx], early[idx].as_slice())])
            .collect();
        on_runs("test: {crossover: {along: size, first: {cell: {model: early}}, later: {cell: {model: late}}}}", table(&cells))
    };
    let clear = lines([6.0, 0.0, -6.0]);
    assert_eq!(clear.verdict, VerdictKind::Supported);
    assert!(clear.comparisons[0].text.contains("; they meet at 2000, between "), "{}", clear.comparisons[0].text);
    assert_eq!(lines([6.0, 3.0, 0.0]).verdict, VerdictKind::Undecided);
    assert_eq!(lines([6.0, 6.0, 6.0]).verdict, VerdictKind::Refuted);
}
