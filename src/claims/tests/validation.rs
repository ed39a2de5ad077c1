//! What is found wrong with a claim before anything runs.

use super::*;
use crate::tables::{TableShape, TableSpec};

fn shapes() -> BTreeMap<String, TableShape> {
    let labels = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>();
    let columns = BTreeMap::from([
        ("model".to_owned(), labels(&["small", "large"])),
        ("size".to_owned(), labels(&["1000", "2000", "4000"])),
        ("metric".to_owned(), labels(&["acc1"])),
    ]);
    BTreeMap::from([("fig1".to_owned(), TableShape { left_out: BTreeMap::new(), columns })])
}

fn problems(rest: &str) -> Vec<String> {
    let spec = claim(&format!("{{id: c, says: s, {rest}}}"));
    validate(&spec, Some(&shapes())).iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn a_sound_claim_has_no_problem() {
    for test in [
        "test: {best: {along: model, is: large, each: {size: all}}}",
        "each: {model: all}, test: {rises: {along: size, over: {at_least: 2k}}}",
        "each: {size: 4k}, test: {greater: {left: {cell: {model: large}}, right: {cell: {model: [small]}}}}",
        "defaults: {model: small}, test: {at_most: {value: {gain: {along: size, from: 1k, to: 2k}}, limit: 1}}",
    ] {
        assert_eq!(problems(&format!("cells: {{table: fig1}}, {test}")), Vec::<String>::new(), "{test}");
    }
}

#[test]
fn unknown_tables_columns_and_labels_are_found_with_what_is_known() {
    assert_eq!(
        problems("cells: {table: fig2}, test: {rises: {along: nonsense}}"),
        ["cells.table: unknown table `fig2`, expected one of `fig1`"]
    );
    assert_eq!(
        problems(
            "cells: {table: fig1}, test: [{best: {along: modle, is: large, each: {size: all}}}, {best: {along: model, is: huge, each: {size: 3k}}}]"
        ),
        [
            "test.0.best.along: unknown column `modle`, expected one of `metric`, `model`, `size`, `table`",
            "test.1.best.each.size: unknown label of `size` `3k`, expected one of `1000`, `2000`, `4000`",
            "test.1.best.is: unknown label of `model` `huge`, expected one of `small`, `large`",
        ]
    );
}

#[test]
fn open_columns_and_unmet_needs_are_found() {
    assert_eq!(
        problems("cells: {table: fig1}, test: {greater: {left: {cell: {model: large}}, right: 3}}"),
        ["test.greater.left.cell: leaves `size` open: name a value there, in `each` or in `cells.where`"]
    );
    assert_eq!(
        problems(
            "cells: {table: fig1}, each: {model: all}, at: [3], tie_band: -1, test: {at_most: {value: {gain: {along: size, to: 2k}}, limit: 1}}"
        ),
        [
            "tie_band: is not a number of points of zero or more",
            "test.at_most.value.gain: states no `from`, and `each` gives `size` no value",
            "at: is not used: no `interpolate` operand leaves its position open",
        ]
    );
    assert_eq!(
        problems("cells: {where: {}}, test: {fit: {x: {cell: {size: all}}, y: {cell: {}}, over: {model: all}}}")
            .first()
            .map(String::as_str),
        Some("cells: names no table, expected `table`")
    );
    assert_eq!(
        problems(
            "cells: {table: fig1}, each: {size: {}}, test: {fit: {x: {cell: {size: all}}, y: {cell: {}}, over: {model: all}}}"
        ),
        [
            "each.size: is a range without bounds, expected `at_least`, `above`, `at_most` or `below`",
            "test.fit: states no condition, expected `r2_at_least` or `steeper_above`",
            "test.fit.x.cell.size: picks several values, expected one here",
        ]
    );
}

#[test]
fn claims_on_files_select_by_column_and_may_name_what_is_not_there() {
    let on_files =
        |cells: &str| validate(&claim(&format!("{{id: c, says: s, cells: {cells}, test: {{rises: {{along: n}}}}}}")), None);
    assert_eq!(on_files("{where: {figure: 99}}"), []);
    assert_eq!(on_files("{table: fig1}")[0].path, "cells.table");
}

#[test]
fn ties_are_allowed_on_readings_alone() {
    let rest = "cells: {table: fig1}, ties: allowed, test: {best: {along: model, is: large, each: {size: all}}}";
    assert_eq!(problems(rest), ["ties: is `allowed`, which is for readings without seeds; a claim on runs counts its ties"]);
    let on_files = "{id: c, says: s, cells: {where: {}}, ties: allowed, test: {rises: {along: n}}}";
    assert_eq!(validate(&claim(on_files), None), []);
}

#[test]
fn margins_and_levels_that_test_nothing_are_found() {
    let one = |test: &str| problems(&format!("cells: {{table: fig1}}, each: {{model: all}}, test: {{{test}}}"));
    let sides = "left: {cell: {size: 1k}}, right: {cell: {size: 2k}}";
    for (test, expected) in [
        (format!("equal: {{{sides}, within: 0}}"), "test.equal.within: is not a number of points above zero"),
        (format!("greater: {{{sides}, by: -1}}"), "test.greater.by: is not a number of points of zero or more"),
        ("trend: {along: size, over: [1k]}".into(), "test.trend: compares along 1 value of `size`, expected 2 or more"),
        (
            "best: {along: size, is: interior, among: {at_least: 2k}}".into(),
            "test.best: compares along 2 values of `size`, expected 3 or more",
        ),
        (
            "greater: {left: {mean: {over: {}, of: {cell: {size: 1k}}}}, right: 1}".into(),
            "test.greater.left.mean.over: names no column to average over",
        ),
        (
            "greater: {left: {mean: {over: {sise: all}, of: {cell: {size: 1k}}}}, right: 1}".into(),
            "test.greater.left.mean.over.sise: unknown column `sise`, expected one of `metric`, `model`, `size`, `table`",
        ),
    ] {
        assert_eq!(one(&test), [expected], "{test}");
    }
    assert_eq!(one("best: {along: size, is: interior}"), Vec::<String>::new());
    assert_eq!(one("greater: {left: {mean: {over: {size: all}}}, right: 1}"), Vec::<String>::new());
}

#[test]
fn claims_that_so_few_seeds_never_decide_are_told_before_anything_runs() {
    let stated = |id: &str, rest: &str| {
        claim(&format!("{{id: {id}, says: s, cells: {{table: fig1}}, {rest}test: {{rises: {{along: size}}}}}}"))
    };
    let claims = [stated("a", ""), stated("b", "confidence: none, "), stated("c", "")];
    let said = "2 seeds of a point will decide nothing of claims a, c: state `seeds: 3` or more, or `confidence: none`";
    assert_eq!(too_few_seeds(&claims, 2).as_deref(), Some(said));
    assert_eq!((too_few_seeds(&claims, 3), too_few_seeds(&claims[1..2], 1)), (None, None));
}

#[test]
fn claims_that_so_few_items_never_decide_are_told_before_anything_runs() {
    let table: TableSpec =
        serde_json::from_value(serde_json::json!({"name": "fig1", "rows": "size", "values": ["a.acc1", "b.acc1"]})).unwrap();
    let of = |rest: &str, items: f64| {
        let stated = claim(&format!("{{id: c, says: s, cells: {{table: fig1}}, {rest}}}"));
        too_few_items(&[stated], std::slice::from_ref(&table), &|metric| Some(if metric == "a.acc1" { items } else { 1e6 }))
    };
    // 1.96 * 17 / sqrt(m): 0.745 of 2000 items, 3.33 of 100.
    let small = "defaults: {metric: a.acc1}, test: {at_most: {value: {gain: {along: size, from: 1k, to: 4k}}, limit: 0.5}}";
    let said = "claim c asks for a margin of 0.5 points, and the 2000 items behind a.acc1 alone move a difference by about 0.75: more \
                seeds will not decide it, more items would";
    assert_eq!(of(small, 2000.0), [said]);
    assert_eq!((of(small, 5000.0).len(), of(&small.replace("a.acc1", "b.acc1"), 2000.0).len()), (0, 0));
    let plain = "test: {rises: {along: size}}";
    assert!(of(plain, 100.0)[0].starts_with("claim c may rest on differences of 3 points and less, and the 100 items"));
    assert_eq!(of(plain, 200.0).len(), 0);
    assert_eq!(of(&format!("confidence: none, {plain}"), 100.0).len(), 0);
    assert_eq!(of("test: {equal: {left: {cell: {size: 1k}}, right: {cell: {size: 4k}}, within: 1}}", 500.0).len(), 1);
}
