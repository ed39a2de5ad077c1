//! Comparisons of runs: seeds, spread, missing runs, and what the verdict then says.

use super::*;

#[test]
fn spread_is_pooled_over_the_cells_of_the_table_with_seeds_as_blocks() {
    // Alone in the table, the two cells give the paired interval: differences by seed 2.0, 2.1, 1.9, mean 2, standard deviation
    // 0.1; t(0.95, 2) = 4.3027.
    let two = [("a", "1", &[10.0, 20.1, 29.9][..]), ("b", "1", &[8.0, 18.0, 28.0][..])];
    let test = "test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}}}, tie_band: 0, each: {size: 1}";
    let band = |cells: &[(&str, &str, &[f64])]| on_runs(test, table(cells)).comparisons[0].band.unwrap();
    assert!((band(&two) - 4.302_653 * 0.1 / 3f64.sqrt()).abs() < 1e-5);
    // A third cell that follows the seeds as the others do: its residuals are in the pool, with four degrees of freedom
    // (t = 2.7764). Rows 0 0 0, 0 0.1 -0.1 and 0 0 0 about the seeds' means give s^2 = (2/3) 0.02 / 4, below half of 0.1^2.
    let three = [two[0], two[1], ("a", "2", &[1.0, 11.0, 21.0])];
    assert!((band(&three) - 2.776_445 * 0.1 / 3f64.sqrt()).abs() < 1e-5, "never below the comparison's own");
    // A cell that scatters widens the band of a comparison that it is no part of.
    let scattered = [two[0], two[1], ("a", "2", &[1.0, 17.0, 21.0])];
    assert!(band(&scattered) > 2.0 * band(&three));
}

#[test]
fn seeds_that_are_not_the_same_are_not_compared() {
    let mut other = table(&[("a", "1", &[10.0, 20.1, 29.9]), ("b", "1", &[8.0, 18.0, 28.0])]);
    for (idx, value) in other.cells[1].values.iter_mut().enumerate() {
        value.0 = 1 + idx as u64;
    }
    let test = "test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}}}";
    let verdict = on_runs(test, other);
    assert_eq!(
        (verdict.verdict, verdict.notes),
        (VerdictKind::Undecided, vec!["2 seeds in common, at least 3 are needed".to_owned()])
    );
}

#[test]
fn fewer_than_three_seeds_decide_nothing_unless_no_confidence_is_asked_for() {
    let above = "test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}}}";
    let plateau = "test: {at_most: {value: {cell: {model: b}}, limit: 30}}";
    let seen = "test: {greater: {left: {cell: {model: a}}, right: 1}}";
    let size = "test: {at_most: {value: {abs: {minus: [{cell: {model: a}}, {cell: {model: b}}]}}, limit: 99}}";
    let most = "test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}, in_more_than: 50%}}";
    for (values, n) in [(&[60.0][..], "1 seed"), (&[60.0, 61.0], "2 seeds"), (&[60.0, 60.0], "2 seeds")] {
        let lower: Vec<f64> = values.iter().map(|value| value - 40.0).collect();
        let runs = || table_of(values.len(), &[("a", "1", values), ("b", "1", &lower)]);
        for test in [above, plateau, seen, size] {
            let verdict = on_runs(test, runs());
            assert_eq!((verdict.verdict, verdict.comparisons[0].band), (VerdictKind::Undecided, None), "{test} {values:?}");
            assert_eq!(verdict.notes, [format!("{n}, at least 3 are needed")]);
            let unasked = on_runs(&format!("confidence: none, {test}"), runs());
            assert_eq!(unasked.verdict, VerdictKind::Supported, "{test}");
            assert_eq!(unasked.notes, ["no confidence is asked for: said of these runs, not of other seeds"]);
        }
        assert_eq!(on_runs(most, runs()).verdict, VerdictKind::Undecided, "{values:?}");
    }
}

#[test]
fn a_fit_of_runs_needs_seeds_and_carries_their_spread() {
    let fit = "test: {fit: {x: {cell: {model: a}}, y: {cell: {model: b}}, over: {size: all}, r2_at_least: 0.5}}";
    let with = |n: usize, scatter: f64| {
        let x: Vec<Vec<f64>> = (0..4).map(|size| (0..n).map(|seed| 10.0 * size as f64 + seed as f64).collect()).collect();
        let bend = |size: usize, seed: usize| if (size + seed).is_multiple_of(2) { scatter } else { 0.0 };
        let y: Vec<Vec<f64>> =
            (0..4).map(|size| (0..n).map(|seed| 5.0 * size as f64 + 0.3 * seed as f64 + bend(size, seed)).collect()).collect();
        let cells: Vec<(&str, &str, &[f64])> = ["1", "2", "3", "4"]
            .iter()
            .zip(x.iter().zip(&y))
            .flat_map(|(size, (x, y))| [("a", *size, x.as_slice()), ("b", *size, y.as_slice())])
            .collect();
        on_runs(fit, table_of(n, &cells))
    };
    assert_eq!(
        (with(2, 0.1).verdict, with(2, 0.1).notes),
        (VerdictKind::Undecided, vec!["2 seeds, at least 3 are needed".to_owned()])
    );
    assert_eq!(with(3, 0.1).verdict, VerdictKind::Supported);
    assert_eq!(with(3, 40.0).verdict, VerdictKind::Undecided, "{:?}", with(3, 40.0));
}

#[test]
fn a_spread_of_zero_is_no_estimate() {
    let test = "test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}}}, each: {size: 1}";
    // Three equal differences, in cells that scatter by 4 points: the scatter stands in. t(0.95, 2) sqrt(2 * 16 / 3) = 14.05.
    let equal = [("a", "1", &[14.0, 10.0, 18.0][..]), ("b", "1", &[12.0, 8.0, 16.0][..])];
    let verdict = on_runs(test, table(&equal));
    assert_eq!(verdict.verdict, VerdictKind::Undecided);
    assert!((verdict.comparisons[0].band.unwrap() - 14.052).abs() < 1e-3, "{verdict:?}");
    // Nothing in the table scatters at all.
    let frozen = on_runs(test, table(&[("a", "1", &[14.0, 14.0, 14.0]), ("b", "1", &[12.0, 12.0, 12.0])]));
    assert_eq!(
        (frozen.verdict, frozen.notes),
        (VerdictKind::Undecided, vec!["no spread between 3 seeds, which is no estimate of one".to_owned()])
    );
    // Three equal values against a number, with and without another cell that scatters.
    let floor = "test: {greater: {left: {cell: {model: b}}, right: 1}}, each: {size: 1}";
    let still: (&str, &str, &[f64]) = ("b", "1", &[12.0, 12.0, 12.0]);
    assert_eq!(on_runs(floor, table(&[still])).verdict, VerdictKind::Undecided);
    assert_eq!(on_runs(floor, table(&[still, ("a", "1", &[14.0, 10.0, 18.0])])).verdict, VerdictKind::Supported);
    // Counts are exact.
    let mut counted = table(&[("a", "1", &[14.0, 14.0, 14.0]), ("b", "1", &[12.0, 12.0, 12.0])]);
    counted.cells.iter_mut().for_each(|cell| cell.metric = "gmacs".to_owned());
    assert_eq!(on_runs(test, counted).verdict, VerdictKind::Supported);
}

#[test]
fn a_claim_is_supported_only_where_every_comparison_is_true() {
    let run = |differences: &[f64], rest: &str| {
        let rows: String =
            (0..).zip(differences).fold(String::new(), |rows, (idx, d)| format!("{rows}a,{idx},{}\nb,{idx},50\n", 50.0 + d));
        let test = "test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}, each: {size: all}}}";
        on_values(&format!("{rest}{test}"), &format!("model,size,value\n{rows}")).verdict
    };
    for (differences, verdict, allowed) in [
        (&[1.0, 2.0][..], VerdictKind::Supported, VerdictKind::Supported),
        (&[1.0, 0.1], VerdictKind::Leaning, VerdictKind::Supported),
        (&[1.0, 0.1, 0.2], VerdictKind::Undecided, VerdictKind::Supported),
        (&[1.0, 1.0, -0.1], VerdictKind::Undecided, VerdictKind::Supported),
        (&[1.0, 1.0, 0.0], VerdictKind::Undecided, VerdictKind::Supported),
        (&[1.0, -1.0, 0.1], VerdictKind::Mixed, VerdictKind::Mixed),
        (&[-1.0, 0.1], VerdictKind::Refuted, VerdictKind::Refuted),
        (&[0.1, 0.2], VerdictKind::Undecided, VerdictKind::Undecided),
    ] {
        assert_eq!((run(differences, ""), run(differences, "ties: allowed, ")), (verdict, allowed), "{differences:?}");
    }
}

#[test]
fn more_confidence_needs_more_evidence_and_the_tie_band_stays() {
    let runs = || table(&[("a", "1", &[11.0, 12.0, 13.0]), ("b", "1", &[10.0, 10.3, 10.2])]);
    let at = |confidence: &str| {
        on_runs(
            &format!(
                "confidence: {confidence}, test: {{greater: {{left: {{cell: {{model: a}}}}, right: {{cell: {{model: b}}}}}}}}"
            ),
            runs(),
        )
        .verdict
    };
    assert_eq!((at("80%"), at("95%")), (VerdictKind::Supported, VerdictKind::Undecided));
    let close = table(&[("a", "1", &[10.4, 10.4, 10.41]), ("b", "1", &[10.0, 10.0, 10.0])]);
    let test = "test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}}}";
    assert_eq!(on_runs(test, close).verdict, VerdictKind::Undecided);
}

#[test]
fn a_gain_of_runs_must_stay_below_its_limit_with_its_whole_interval() {
    let runs = |last: &[f64]| table(&[("a", "1", &[10.0, 10.1, 9.9]), ("a", "2", last)]);
    let test = "test: {at_most: {value: {gain: {along: size, from: 1, to: 2}}, limit: 1}}";
    assert_eq!(on_runs(test, runs(&[10.1, 10.2, 10.0])).verdict, VerdictKind::Supported);
    assert_eq!(on_runs(test, runs(&[13.0, 13.1, 12.9])).verdict, VerdictKind::Refuted);
    assert_eq!(on_runs(test, runs(&[10.0, 11.5, 10.2])).verdict, VerdictKind::Undecided);
}

#[test]
fn a_cell_with_a_run_that_did_not_finish_is_missing_and_tables_can_be_named_together() {
    let test = "each: {size: all}, test: {best: {along: model, is: a}}";
    let verdict = on_runs(
        test,
        table(&[("a", "1", &[9.0, 9.1, 9.2]), ("b", "1", &[]), ("c", "1", &[5.0, 5.2, 5.1]), ("d", "1", &[1.0, 1.2])]),
    );
    assert_eq!((verdict.verdict, counts(&verdict)), (VerdictKind::Undecided, [1, 0, 0, 2]));
    let reasons: Vec<_> = verdict.comparisons.iter().filter_map(|comparison| comparison.reason.as_deref()).collect();
    let of = |model: &str, missing: usize| format!("no value at model={model}, size=1: {missing} of its 3 runs without a value");
    assert_eq!(reasons, [of("b", 3), of("d", 1)]);
    assert_eq!(
        on_runs(&format!("confidence: none, {test}"), table(&[("a", "1", &[9.0, 9.1]), ("c", "1", &[5.0])])).verdict,
        VerdictKind::NoData
    );
    let mut other = table(&[("a", "1", &[1.0, 1.1, 1.3])]);
    other.name = "u".to_owned();
    let spec =
        claim("{id: c, says: s, cells: {table: [t, u]}, test: {greater: {left: {cell: {table: t}}, right: {cell: {table: u}}}}}");
    let tables = [table(&[("a", "1", &[9.0, 9.1, 9.2])]), other];
    assert_eq!(judge(&[spec], &RunTables::new(&tables))[0].verdict, VerdictKind::Supported);
}

#[test]
fn a_curve_of_runs_is_not_drawn_across_a_cell_that_is_missing() {
    let curve = "{interpolate: {along: size, x: {column: size}, y: {}, of: {model: a}, at: 2}}";
    let test = format!("test: {{greater: {{left: {curve}, right: 1}}}}");
    let ends = [("a", "1", &[10.0, 10.2, 9.9][..]), ("a", "3", &[20.0, 20.1, 20.3])];
    assert_eq!(on_runs(&test, table(&ends)).verdict, VerdictKind::Supported);
    let with_gap = on_runs(&test, table(&[ends[0], ("a", "2", &[15.0]), ends[1]]));
    assert_eq!((with_gap.verdict, counts(&with_gap)), (VerdictKind::NoData, [0, 0, 0, 1]));
}
