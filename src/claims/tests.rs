//! Every test and operand on tables small enough to check by hand.

use std::collections::BTreeMap;

use super::statement::ClaimSpec;
use super::*;
use crate::jobs::fit_normals;
use crate::run::SeedParts;
use crate::tables::{Cell, Table};

mod inference;
mod runs;
mod validation;

fn claim(text: &str) -> ClaimSpec {
    serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(text)).unwrap()
}

/// A claim on CSV values, without rounding.
fn on_values(test: &str, csv: &str) -> Verdict {
    let mut values = Values::default();
    values.add("values.csv", csv.as_bytes()).unwrap();
    let claim = claim(&format!("{{id: c, says: s, cells: {{where: {{}}}}, {test}}}"));
    judge(&[claim], &values).remove(0)
}

fn counts(verdict: &Verdict) -> [usize; 4] {
    [verdict.num_true, verdict.num_tie, verdict.num_false, verdict.num_missing]
}

/// A table of one metric over three seeds: model, size, values of seeds 0, 1, 2.
fn table(cells: &[(&str, &str, &[f64])]) -> Table {
    table_of(3, cells)
}

/// The same over so many seeds.
fn table_of(seeds: usize, cells: &[(&str, &str, &[f64])]) -> Table {
    let cell = |(model, size, values): &(&str, &str, &[f64])| Cell {
        row: vec![(*model).to_owned()],
        column: Some((*size).to_owned()),
        metric: "acc1".to_owned(),
        values: (0..).zip(values.iter().copied()).collect(),
        run_ids: (0..values.len()).map(|seed| format!("{model}-{size}-{seed}")).collect(),
        missing: seeds - values.len(),
        drawn: SeedParts::none(),
    };
    Table {
        name: "t".to_owned(),
        caption: None,
        rows: vec!["model".to_owned()],
        columns: Some("size".to_owned()),
        fixed: BTreeMap::new(),
        metrics: vec!["acc1".to_owned()],
        cells: cells.iter().map(cell).collect(),
    }
}

fn on_runs(test: &str, table: Table) -> Verdict {
    let claim = claim(&format!("{{id: c, says: s, cells: {{table: t}}, {test}}}"));
    judge(&[claim], &RunTables::new(&[table])).remove(0)
}

const GRID: &str = "model,size,value,error_pt
small,1k,10,0.3
small,2k,20,0.3
small,4k,30,0.3
large,1k,9.6,0.3
large,2k,24,0.3
large,4k,40,3
";

#[test]
fn greater_compares_every_left_with_every_right_at_each_place() {
    let verdict =
        on_values("each: {size: all}, test: {greater: {left: {cell: {model: large}}, right: [{cell: {model: small}}, 22]}}", GRID);
    // 9.6 > 10 (tie: band 0.5), 9.6 > 22, 24 > 20, 24 > 22, 40 > 30, 40 > 22.
    assert_eq!((verdict.verdict, counts(&verdict)), (VerdictKind::Mixed, [4, 1, 1, 0]));
    let words: Vec<&str> = verdict.comparisons.iter().map(|comparison| comparison.text.as_str()).collect();
    assert_eq!(words[0], "for size=1k: model=large (9.6) is above model=small (10)");
    assert_eq!(words[1], "for size=1k: model=large (9.6) is above 22");
}

#[test]
fn a_difference_as_large_as_the_band_is_a_tie() {
    let values = |a: &str, b: &str, error: &str| format!("model,value,error_pt\na,{a},{error}\nb,{b},{error}\n");
    let test = "rounding: 0.1, test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}}}";
    for (a, b, error, expected) in [
        ("64.8", "64.3", "0.3", VerdictKind::Undecided),
        ("64.8", "64.2", "0.3", VerdictKind::Supported),
        ("64.2", "64.8", "0.3", VerdictKind::Refuted),
        ("30.0", "28.6", "1.0", VerdictKind::Undecided),
        ("30.0", "28.5", "1.0", VerdictKind::Supported),
        ("30.0", "29.4", "", VerdictKind::Supported),
    ] {
        assert_eq!(on_values(test, &values(a, b, error)).verdict, expected, "{a} {b} {error}");
    }
    let wide = format!("tie_band: 2, {test}");
    assert_eq!(on_values(&wide, &values("64.8", "63", "0")).verdict, VerdictKind::Undecided);
}

#[test]
fn values_are_rounded_before_they_are_compared_only_where_asked() {
    let csv = "model,value\na,10.549\nb,10.0\n";
    let test = "test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}}}";
    assert_eq!(on_values(test, csv).verdict, VerdictKind::Supported);
    assert_eq!(on_values(&format!("rounding: 0.1, {test}"), csv).verdict, VerdictKind::Undecided);
}

#[test]
fn missing_cells_are_counted_and_never_decide() {
    let csv = "model,size,value\na,1,5\na,2,\nb,1,3\nb,2,3\nb,3,1\n";
    let verdict = on_values("each: {size: all}, test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}}}", csv);
    // What is missing keeps a claim from being supported, and from leaning.
    assert_eq!((verdict.verdict, counts(&verdict)), (VerdictKind::Undecided, [1, 0, 0, 2]));
    let none = on_values("test: {greater: {left: {cell: {model: c}}, right: {cell: {model: d}}}}", csv);
    assert_eq!((none.verdict, counts(&none)), (VerdictKind::NoData, [0, 0, 0, 1]));
    let reasons = |verdict: &Verdict| verdict.comparisons.iter().filter_map(|c| c.reason.clone()).collect::<Vec<_>>();
    assert_eq!(reasons(&none), ["no cell at model=c"]);
    assert_eq!(reasons(&verdict), ["no value at model=a, size=2: its value is empty", "no cell at model=a, size=3"]);
}

#[test]
fn a_cell_that_is_not_named_clearly_is_never_as_expected() {
    let verdict =
        on_values("expect: no data, test: {greater: {left: {cell: {model: large}}, right: {cell: {model: small}}}}", GRID);
    assert_eq!((verdict.verdict, verdict.is_as_expected()), (VerdictKind::NoData, false));
    assert_eq!(verdict.ambiguous, ["3 cells match model=large"]);
}

#[test]
fn at_most_has_no_band_on_readings() {
    let limit = |limit: &str| {
        on_values(
            &format!(
                "test: {{at_most: {{value: {{gain: {{along: size, from: 1k, to: 2k, of: {{model: small}}}}}}, limit: {limit}}}}}"
            ),
            GRID,
        )
    };
    assert_eq!(limit("10").verdict, VerdictKind::Supported);
    assert_eq!(limit("9.9").verdict, VerdictKind::Refuted);
    let other =
        on_values("each: {size: 4k}, test: {at_most: {value: {cell: {model: small}}, limit: {cell: {model: large}}}}", GRID);
    assert_eq!(other.verdict, VerdictKind::Supported);
}

#[test]
fn gains_start_where_each_stands_and_carry_four_errors() {
    let verdict = on_values(
        "each: {size: [1k, 2k]}, test: {greater: {left: {gain: {along: size, to: 4k, of: {model: large}}},
         right: {gain: {along: size, to: 4k, of: {model: small}}}}}",
        GRID,
    );
    // From 1k: 30.4 against 20, from 2k: 16 against 10, both with a band of sqrt(3^2 + 3 * 0.3^2).
    let [first, second] = verdict.comparisons.as_slice() else { panic!("{verdict:?}") };
    assert!((first.difference.unwrap() - 10.4).abs() < 1e-9 && (second.difference.unwrap() - 6.0).abs() < 1e-9);
    assert!((first.band.unwrap() - (9.0_f64 + 0.27).sqrt()).abs() < 1e-9);
    assert_eq!(counts(&verdict), [2, 0, 0, 0]);
}

#[test]
fn minus_and_abs_are_numbers_like_any_other() {
    let verdict = on_values(
        "test: [{at_most: {value: {abs: {minus: [{cell: {model: small, size: 1k}}, {cell: {model: large, size: 2k}}]}}, limit: 14}},
                {at_most: {value: {minus: [{cell: {model: small, size: 1k}}, {cell: {model: large, size: 2k}}]}, limit: -14}},
                {greater: {left: {abs: -3}, right: {number: 2}}}]",
        GRID,
    );
    assert_eq!((verdict.verdict, counts(&verdict)), (VerdictKind::Supported, [3, 0, 0, 0]));
}

#[test]
fn rises_compares_neighbours_in_ascending_order_and_along_a_list_in_its_own() {
    let shuffled = "size,value\n400M,3\n10M,1\n3.4B,2.8\n50M,2\n";
    let up = on_values("test: {rises: {along: size}}", shuffled);
    assert_eq!(counts(&up), [2, 1, 0, 0]);
    let part = on_values("test: {rises: {along: size, over: {above: 10M, below: 3.4B}}}", shuffled);
    assert_eq!(counts(&part), [1, 0, 0, 0]);
    let down = on_values("test: {rises: {along: size, over: [400M, 50M, 10M]}}", shuffled);
    assert_eq!((down.verdict, counts(&down)), (VerdictKind::Refuted, [0, 0, 2, 0]));
    let gap = on_values("test: {rises: {along: size, of: {minus: [{cell: {model: large}}, {cell: {model: small}}]}}}", GRID);
    assert_eq!(counts(&gap), [2, 0, 0, 0]);
    let named = on_values("test: {rises: {along: name}}", "name,value\ntiny,1\nbase,2\nhuge,3\n");
    assert_eq!(counts(&named), [2, 0, 0, 0]);
}

#[test]
fn rises_does_not_step_over_a_missing_cell() {
    let verdict =
        on_values("each: {model: all}, test: {rises: {along: size}}", "model,size,value\na,1,1\na,2,2\na,3,3\nb,1,1\nb,3,3\n");
    assert_eq!(counts(&verdict), [2, 0, 0, 2]);
}

#[test]
fn best_beats_every_other_value_and_the_lowest_can_be_best() {
    let csv = "name,value\na,5\nb,9\nc,8.8\nd,1\n";
    assert_eq!(counts(&on_values("test: {best: {along: name, is: b}}", csv)), [2, 1, 0, 0]);
    assert_eq!(counts(&on_values("test: {best: {along: name, is: a}}", csv)), [1, 0, 2, 0]);
    assert_eq!(counts(&on_values("test: {best: {along: name, is: d, lowest: true}}", csv)), [3, 0, 0, 0]);
    assert_eq!(counts(&on_values("test: {best: {along: name, is: a, among: [a, d]}}", csv)), [1, 0, 0, 0]);
}

#[test]
fn crossover_wants_one_change_of_lead_in_the_right_direction() {
    let run = |values: &str| {
        let rows: String = values.split_whitespace().enumerate().fold(String::new(), |rows, (idx, difference)| {
            format!("{rows}early,{idx},{}\nlate,{idx},50\n", 50.0 + difference.parse::<f64>().unwrap())
        });
        let test = "test: {crossover: {along: size, first: {cell: {model: early}}, later: {cell: {model: late}}}}";
        on_values(test, &format!("model,size,value\n{rows}"))
    };
    assert_eq!(counts(&run("3 1 0.2 -1 -4")), [1, 0, 0, 0]);
    assert_eq!(counts(&run("-3 1")), [0, 0, 1, 0]);
    // It is decided at the ends; a lead that changes back and forth leaves it open.
    assert_eq!(counts(&run("3 -1 2 -1")), [0, 1, 0, 0]);
    assert_eq!(run("3 -1 2 -1").comparisons[0].reason.as_deref(), Some("the lead changes 3 times"));
    assert_eq!(counts(&run("3 2 1")), [0, 0, 1, 0]);
    assert_eq!(counts(&run("0.1 -0.1")), [0, 1, 0, 0]);
    assert_eq!(counts(&run("")), [0, 0, 0, 1]);
    // An end that is level leaves it open, whatever leads between.
    assert_eq!(counts(&run("3 0 0.1")), [0, 1, 0, 0]);
    assert_eq!(counts(&run("0.1 -3")), [0, 1, 0, 0]);
    assert_eq!(counts(&run("0 -3 3 0")), [0, 1, 0, 0]);
    assert_eq!(counts(&run("0 3 -3 0")), [0, 1, 0, 0]);
    assert!(run("3 0 -1").comparisons[0].text.contains("leads at 0; model=late leads at 2; level at 1"));
}

#[test]
fn a_crossover_says_where_the_lines_meet() {
    let at = |differences: [f64; 3]| {
        let rows = [("1k", 0), ("4k", 1), ("16k", 2)].iter().fold(String::new(), |rows, (size, idx)| {
            format!("{rows}early,{size},{},0.5\nlate,{size},50,\n", 50.0 + differences[*idx])
        });
        let test = "test: {crossover: {along: size, first: {cell: {model: early}}, later: {cell: {model: late}}}}";
        on_values(test, &format!("model,size,value,error_pt\n{rows}")).comparisons.remove(0)
    };
    // From 2 at 1k to -2 at 4k: zero half-way in the logarithm, at 2k. The error read between two levels is 0.5 times
    // sqrt((1 - s)^2 + s^2); |2 - 4 s| meets it where 15.5 s^2 - 15.5 s + 3.75 = 0: s = 0.4102 and 0.5898, 1000 * 4^s.
    let found = at([2.0, -2.0, -4.0]);
    let Meets { at: zero, low, high } = found.meets.unwrap();
    for (found, expected) in [(zero, 2000.0), (low.unwrap(), 1765.89), (high.unwrap(), 2265.15)] {
        assert!((found - expected).abs() < 0.1, "{found} is not {expected}");
    }
    assert!(found.text.contains("; they meet at 2000, between 176"), "{}", found.text);
    let open = at([0.3, -0.2, -4.0]);
    assert!(open.text.contains("between below the lowest and"), "{}", open.text);
    assert_eq!(at([2.0, 3.0, 4.0]).meets, None);
}

#[test]
fn fit_asks_for_r2_and_for_slopes() {
    let csv = "x,panel,value\n1,a,1\n2,a,2\n3,a,3\n4,a,4\n1,b,1\n2,b,2\n3,b,6\n4,b,10\n";
    let fit = |conditions: &str| {
        on_values(
            &format!("test: {{fit: {{x: {{cell: {{panel: a}}}}, y: {{cell: {{panel: b}}}}, over: {{x: all}}, {conditions}}}}}"),
            csv,
        )
    };
    // R2 of (1,1) (2,2) (3,6) (4,10) is 15.5^2 / (5 * 50.75).
    assert_eq!(counts(&fit("r2_at_least: 0.94")), [1, 0, 0, 0]);
    assert_eq!(counts(&fit("r2_at_least: 0.95")), [0, 0, 1, 0]);
    assert_eq!(counts(&fit("r2_at_least: 0.9, steeper_above: 2")), [2, 0, 0, 0]);
    assert_eq!(counts(&fit("steeper_above: 3.5")), [0, 0, 0, 1]);
}

#[test]
fn a_trend_is_the_rise_of_the_line_through_all_levels() {
    let rise = |values: [f64; 4]| {
        let rows = values.iter().enumerate().fold(String::new(), |rows, (idx, value)| format!("{rows}{idx},{value}\n"));
        on_values("test: {trend: {along: size}}", &format!("size,value\n{rows}"))
    };
    // Slope of 1 4 2 5 by least squares: (-1.5 - 2 + 1 + 7.5) / 5 = 1, three steps.
    let verdict = rise([1.0, 4.0, 2.0, 5.0]);
    assert!((verdict.comparisons[0].left.unwrap() - 3.0).abs() < 1e-12 && verdict.verdict == VerdictKind::Supported);
    assert!(verdict.comparisons[0].text.ends_with("(1, 4, 2, 5; Kendall's tau 0.67)"), "{:?}", verdict.comparisons[0].text);
    assert_eq!(rise([5.0, 2.0, 4.0, 1.0]).verdict, VerdictKind::Refuted);
    assert_eq!(rise([1.0, 1.2, 1.1, 1.3]).verdict, VerdictKind::Undecided);
    let gap = on_values("each: {model: all}, test: {trend: {along: size}}", "model,size,value\na,1,1\na,2,5\nb,1,1\n");
    assert_eq!(counts(&gap), [1, 0, 0, 1]);
}

#[test]
fn equal_wants_a_difference_inside_the_margin_and_greater_by_one_outside() {
    let test = |test: &str| counts(&on_values(&format!("each: {{size: 4k}}, test: {{{test}}}"), GRID));
    let sides = "left: {cell: {model: large}}, right: {cell: {model: small}}";
    assert_eq!(test(&format!("equal: {{{sides}, within: 10}}")), [1, 0, 0, 0]);
    assert_eq!(test(&format!("equal: {{{sides}, within: 9.9}}")), [0, 0, 1, 0]);
    // The difference is 10, its stated error 3.01.
    for (by, expected) in [("6.9", [1, 0, 0, 0]), ("7.1", [0, 1, 0, 0]), ("12.9", [0, 1, 0, 0]), ("13.1", [0, 0, 1, 0])] {
        assert_eq!(test(&format!("greater: {{{sides}, by: {by}}}")), expected, "{by}");
    }
}

#[test]
fn a_mean_is_one_number_over_all_its_cells() {
    let above = |limit: f64| {
        let mean = |model: &str| format!("{{mean: {{over: {{size: all}}, of: {{cell: {{model: {model}}}}}}}}}");
        on_values(&format!("test: {{greater: {{left: {}, right: {}, by: {limit}}}}}", mean("large"), mean("small")), GRID)
    };
    // (9.6 + 24 + 40) / 3 less 20, error sqrt(3^2 + 5 * 0.3^2) / 3 = 1.0247.
    let verdict = above(3.5);
    assert!((verdict.comparisons[0].difference.unwrap() - (73.6 / 3.0 - 20.0)).abs() < 1e-9);
    assert_eq!((counts(&verdict), counts(&above(3.6))), ([1, 0, 0, 0], [0, 1, 0, 0]));
    assert!(verdict.comparisons[0].text.contains("the mean of model=large over size (24.53)"), "{}", verdict.comparisons[0].text);
    let gap = on_values("test: {greater: {left: {mean: {over: {size: [1, 2]}}}, right: 0}}", "size,value\n1,5\n2,\n");
    assert_eq!(counts(&gap), [0, 0, 0, 1]);
}

#[test]
fn an_interior_best_lies_between_the_ends_whichever_it_is() {
    let run = |values: &str, rest: &str| {
        let rows = values.split_whitespace().enumerate().fold(String::new(), |rows, (idx, value)| format!("{rows}{idx},{value}\n"));
        counts(&on_values(&format!("test: {{best: {{along: keep, is: interior{rest}}}}}"), &format!("keep,value\n{rows}")))
    };
    assert_eq!(run("1 3 2", ""), [1, 0, 0, 0]);
    assert_eq!(run("1 1 3 2", ""), [1, 0, 0, 0]);
    assert_eq!(run("3 2 1", ""), [0, 0, 1, 0]);
    assert_eq!(run("1 2 2 3", ""), [0, 0, 1, 0]);
    assert_eq!(run("1 2.2 2", ""), [0, 1, 0, 0]);
    assert_eq!(run("3 1 2", ", lowest: true"), [1, 0, 0, 0]);
    assert_eq!(run("3 1", ""), [0, 0, 0, 1]);
}

#[test]
fn a_count_is_one_comparison_in_which_ties_speak_for_neither_side() {
    let run = |differences: &[f64]| {
        let rows: String = (0..).zip(differences).fold(String::new(), |rows, (idx, d)| {
            let value = if d.is_nan() { String::new() } else { (50.0 + d).to_string() };
            format!("{rows}a,{idx},{value}\nb,{idx},50\n")
        });
        let test = "test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}, in_more_than: 50%, each: {size: all}}}";
        on_values(test, &format!("model,size,value\n{rows}"))
    };
    assert_eq!(counts(&run(&[1.0, 1.0, 1.0, -1.0])), [1, 0, 0, 0]);
    assert_eq!(counts(&run(&[1.0, 1.0, 0.0, -1.0])), [0, 1, 0, 0]);
    assert_eq!(counts(&run(&[1.0, 1.0, -1.0, -1.0])), [0, 0, 1, 0]);
    // What is missing might be either: two of four are not more than half, three of four are.
    assert_eq!(counts(&run(&[1.0, 1.0, f64::NAN, f64::NAN])), [0, 1, 0, 0]);
    assert_eq!(counts(&run(&[1.0, 1.0, 1.0, f64::NAN])), [1, 0, 0, 0]);
    assert_eq!(counts(&run(&[-1.0, -1.0, 1.0, f64::NAN])), [0, 0, 1, 0]);
    assert_eq!(counts(&run(&[])), [0, 0, 0, 1]);
}

const CURVES: &str = "model,size,panel,gmacs,value,error_pt
small,1,x,100,10,0.3
small,2,x,200,20,0.3
small,1,y,100,30,0.3
small,2,y,200,40,0.3
large,1,x,300,12,0.3
large,2,x,600,22,0.3
large,1,y,300,40,0.3
large,2,y,600,60,0.3
";

#[test]
fn interpolation_reads_a_straight_line_and_never_beyond_its_ends() {
    let side = |model: &str, more: &str| {
        format!("{{interpolate: {{along: size, x: {{cell: {{panel: x}}}}, y: {{panel: y}}, of: {{model: {model}}}{more}}}}}")
    };
    let test = |more: &str| {
        format!("at: [8, 15, 21], test: {{greater: {{left: {}, right: {}}}}}", side("large", more), side("small", more))
    };
    let verdict = on_values(&test(", error: 0.5"), CURVES);
    assert_eq!(counts(&verdict), [1, 0, 0, 2]);
    let middle = &verdict.comparisons[1];
    assert_eq!((middle.left, middle.right), (Some(46.0), Some(35.0)));
    assert!((middle.band.unwrap() - 0.5_f64.sqrt()).abs() < 1e-12);
    assert_eq!(verdict.comparisons[0].reason.as_deref(), Some("x = 8 is outside 12 to 22"));
    // Without a stated error those of the neighbours are weighted: 0.3 * sqrt(0.7^2 + 0.3^2 + 0.5^2 + 0.5^2), below the tie band.
    assert_eq!(on_values(&test(""), CURVES).comparisons[1].band, Some(0.5));
}

#[test]
fn interpolation_may_stand_on_an_amount_in_a_column() {
    let side = |model: &str| {
        format!("{{interpolate: {{along: size, x: {{column: gmacs}}, y: {{panel: y}}, of: {{model: {model}}}, at: 300}}}}")
    };
    let verdict = on_values(&format!("test: {{greater: {{left: {}, right: 39.4}}}}", side("large")), CURVES);
    assert_eq!((counts(&verdict), verdict.comparisons[0].left), ([1, 0, 0, 0], Some(40.0)));
    assert_eq!(counts(&on_values(&format!("test: {{greater: {{left: {}, right: 39.4}}}}", side("small")), CURVES)), [0, 0, 0, 1]);
}

#[test]
fn defaults_fill_open_columns_and_operands_win_over_them() {
    let test = "defaults: {size: 2k, planet: earth}, test: {greater: {left: {cell: {model: large}}, right: {cell: {model: small, size: 1k}}}}";
    let verdict = on_values(test, GRID);
    assert_eq!((verdict.comparisons[0].left, verdict.comparisons[0].right), (Some(24.0), Some(10.0)));
}

#[test]
fn a_file_without_the_named_columns_is_skipped() {
    let mut values = Values::default();
    values.add("a.csv", b"model,size,value\na,1,5\nb,1,3\n").unwrap();
    values.add("b.csv", b"model,depth,value\na,1,1\nb,1,9\n").unwrap();
    values.add("costs.csv", b"model,size,gmacs\na,1,1\n").unwrap();
    assert_eq!(values.idle().iter().map(|idle| idle.file.as_str()).collect::<Vec<_>>(), ["costs.csv"]);
    let spec = claim("{id: c, says: s, cells: {where: {size: 1}}, test: {best: {along: model, is: a}}}");
    assert_eq!(judge(&[spec], &values)[0].verdict, VerdictKind::Supported);
    values.add("marked.csv", b"\xef\xbb\xbfmodel,size,value\nc,1,2\n").unwrap();
    let spec = claim("{id: c, says: s, cells: {where: {size: 1}}, test: {best: {along: model, is: a}}}");
    assert_eq!(judge(&[spec], &values)[0].num_true, 2);
    let nowhere = claim("{id: c, says: s, cells: {where: {siez: 1}}, test: {best: {along: model, is: a}}}");
    assert_eq!(judge(&[nowhere], &values)[0].notes[0], "no file has the column `siez`");
    let error = values.add("c.csv", b"model,value\na,much\n").unwrap_err();
    assert_eq!(error.to_string(), "c.csv:2: column `value` is `much`, expected a number");
}

#[test]
fn tests_that_stand_together_have_no_data_where_one_has_none() {
    let tests = "test: [{greater: {left: {cell: {model: a}}, right: 1}}, {greater: {left: {cell: {model: z}}, right: 1}}]";
    let csv = "model,value\na,5\n";
    assert_eq!(counts(&on_values(tests, csv)), [1, 0, 0, 1]);
    let together = on_values(&format!("requires_every_test: true, {tests}"), csv);
    assert_eq!((together.verdict, counts(&together)), (VerdictKind::NoData, [0, 0, 0, 2]));
}

#[test]
fn comparisons_read_as_sentences_in_the_words_of_the_file() {
    let words = |test: &str| {
        let mut runs = table(&[("a", "1", &[40.649, 40.65, 40.651]), ("b", "2", &[3.625, 3.625, 3.62501])]);
        runs.cells.iter_mut().for_each(|cell| cell.metric = "zeroshot/cifar10.acc1".to_owned());
        on_runs(test, runs).comparisons.remove(0).text
    };
    assert_eq!(
        words("each: {size: 1, model: a}, test: {at_most: {value: 55, limit: {cell: {metric: zeroshot/cifar10.acc1}}}}"),
        "for model=a, size=1: zeroshot/cifar10.acc1 (40.65) is at least 55"
    );
    assert_eq!(
        words("defaults: {metric: zeroshot/cifar10.acc1, size: 1}, test: {greater: {left: 55, right: {cell: {}}}}"),
        "zeroshot/cifar10.acc1 (40.65) is below 55"
    );
    assert_eq!(
        words("test: {rises: {along: model, over: [b, a], of: {minus: [{cell: {metric: zeroshot/cifar10.acc1}}, 1]}}}"),
        "zeroshot/cifar10.acc1 less 1 at model=a (39.65) is above zeroshot/cifar10.acc1 less 1 at model=b (2.63)"
    );
    assert_eq!(
        words("test: {best: {along: model, is: a, of: {cell: {metric: zeroshot/cifar10.acc1}}}}"),
        "zeroshot/cifar10.acc1 at model=a (40.65) is above zeroshot/cifar10.acc1 at model=b (3.63)"
    );
    assert_eq!(
        words("test: {at_most: {value: {gain: {along: model, from: b, to: a, of: {size: 1}}}, limit: 40}}"),
        "the gain of size=1 from model=b to model=a (no value) is at most 40"
    );
}

#[test]
fn verdicts_are_written_as_json_csv_and_text() {
    let verdict = on_values("expect: refuted, test: {best: {along: model, is: a}}", "model,value\na,5\nb,3.25\nc,\n");
    let json = to_json(std::slice::from_ref(&verdict));
    assert_eq!(
        json,
        "{\"claims\":[{\"id\":\"c\",\"says\":\"s\",\"verdict\":\"undecided\",\"expected\":\"refuted\",\"as_expected\":false,\"true\":1,\"tie\":0,\
         \"false\":0,\"missing\":1,\"notes\":[],\"ambiguous\":[],\"comparisons\":[\
         {\"left\":5.0,\"right\":3.25,\"difference\":1.75,\"band\":0.5,\"outcome\":\"true\",\
         \"text\":\"model=a (5) is above model=b (3.25)\",\"reason\":null,\
         \"p\":null,\"p_against\":null,\"seeds_needed\":null,\"items_needed\":null,\"meets\":null},\
         {\"left\":null,\"right\":null,\"difference\":null,\"band\":null,\"outcome\":\"missing\",\
         \"text\":\"model=a (5) is above model=c (no value)\",\"reason\":\"no value at model=c: its value is empty\",\
         \"p\":null,\"p_against\":null,\"seeds_needed\":null,\"items_needed\":null,\"meets\":null}]}]}"
    );
    assert_eq!(
        String::from_utf8(to_csv(std::slice::from_ref(&verdict))).unwrap(),
        "id,verdict,expected,as_expected,true,tie,false,missing,notes,says\nc,undecided,refuted,no,1,0,0,1,,s\n"
    );
    let text = to_text(std::slice::from_ref(&verdict), false);
    assert_eq!(
        text,
        "c  undecided  1 of 2 true, 1 missing  s\n   expected refuted\n     true     model=a (5) is above model=b (3.25)  (difference 1.75, band 0.5)\n\
         \u{20}    missing  model=a (5) is above model=c (no value)  (no value at model=c: its value is empty)\n"
    );
    let two = table_of(2, &[("a", "1", &[60.0, 61.0]), ("b", "1", &[20.0, 21.0])]);
    let verdict = on_runs("expect: undecided, test: {greater: {left: {cell: {model: a}}, right: {cell: {model: b}}}}", two);
    assert_eq!(
        to_text(std::slice::from_ref(&verdict), true),
        "c  undecided  0 of 1 true, 1 tie  s\n   2 seeds, at least 3 are needed\n\
         \u{20}    tie      model=a (60.5) is above model=b (20.5)  (difference 40; 2 seeds, at least 3 are needed)\n"
    );
}

#[test]
fn a_results_folder_rebuilds_its_tables_and_verdicts_byte_for_byte() {
    use crate::record::tests::{point, run};
    use crate::record::{Provenance, Records, files, parse};
    use crate::tables::{TableInput, TableSpec};

    let runs: Vec<_> = (0..6_u32)
        .map(|idx| {
            run(
                &format!("r{idx}"),
                u64::from(idx / 3 + 1),
                u64::from(idx % 3),
                10.0 / 3.0 * f64::from(idx / 3 + 1) + f64::from(idx) / 7.0,
            )
        })
        .collect();
    let points = vec![point(&[("data.size", "1")], &["r0", "r1", "r2"]), point(&[("data.size", "2")], &["r3", "r4", "r5", "gone"])];
    let tables: Vec<TableSpec> = vec![serde_yaml::from_str("{name: t, rows: data.size, values: zeroshot/scenes.acc1}").unwrap()];
    let claims = vec![claim("{id: more, says: more is better, cells: {table: t}, test: {rises: {along: data.size}}}")];
    let provenance = Provenance {
        version: "0".to_owned(),
        commit: None,
        experiment: "e".to_owned(),
        experiment_digest: String::new(),
        device: crate::run::DeviceKind::Cpu,
        cpu: None,
        precision: crate::run::Precision::F32,
        command: String::new(),
        data: BTreeMap::new(),
        samples: BTreeMap::new(),
    };
    let fits = vec![serde_yaml::from_str("{name: f, of: zeroshot/scenes.acc1, against: data.size}").unwrap()];
    let asked = Statements { tables, claims, fits };
    let statements = serde_json::to_value(&asked).unwrap();
    let outcomes = crate::run::Outcomes::default();
    let records =
        Records { provenance, runs, axes: Vec::new(), points, statements, outcomes, identities: BTreeMap::new(), stated: None };
    let Findings { verdicts, files: first, .. } =
        findings(&asked, &TableInput::new(&records.points, &records.runs), &records.outcomes, &fit_normals).unwrap();
    assert_eq!((verdicts[0].verdict, verdicts[0].num_missing), (VerdictKind::NoData, 1), "a run of one cell is not there");
    let names: Vec<&str> = first.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["tables/t.csv", "tables/t.md", "tables/fit-f.csv", "tables/fit-f.md", "claims.csv"]);

    let written = files(&records).unwrap();
    let back = parse(&written[0].bytes, &written[1].bytes, &written[2].bytes, b"", None).unwrap();
    let asked: Statements = serde_json::from_value(back.statements.clone()).unwrap();
    let again = findings(&asked, &TableInput::new(&back.points, &back.runs), &back.outcomes, &fit_normals).unwrap();
    assert_eq!(again.files, first);
}

#[test]
fn rows_without_an_axis_are_asked_for_as_none_and_are_none_of_its_values() {
    let three = |value: f64| [value, value + 0.01, value - 0.01];
    let (clip, low, high) = (three(10.0), three(20.0), three(30.0));
    let cells = || table(&[("clip", "", &clip), ("flip", "25%", &low), ("flip", "50%", &high)]);
    let against_clip = "test: {greater: {left: {cell: {size: 25%, model: flip}}, right: {cell: {size: none, model: clip}}}}";
    assert_eq!(counts(&on_runs(against_clip, cells())), [1, 0, 0, 0]);
    let along = on_runs("defaults: {model: flip}, test: {rises: {along: size}}", cells());
    assert_eq!(counts(&along), [1, 0, 0, 0], "from 25 % to 50 %: {along:?}");
    let kept = "{table: t, where: {size: none}}";
    let kept = claim(&format!("{{id: c, says: s, cells: {kept}, test: {{at_most: {{value: {{cell: {{}}}}, limit: 15}}}}}}"));
    assert_eq!(counts(&judge(&[kept], &RunTables::new(&[cells()])).remove(0)), [1, 0, 0, 0]);
}
