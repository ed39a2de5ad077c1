use std::collections::BTreeMap;
use std::sync::Arc;

use super::curve::{Point, least_squares};
use super::*;
use crate::claims::{Measure, SeedRun};
use crate::data::{Philox, Stream};
use crate::record::PointView;
use crate::run::{Outcomes, SeedParts, SetOutcomes};
use crate::tables::{Cell, Table};

fn normals(draw: u64, stream: u32) -> Box<dyn FnMut() -> f64> {
    let mut draws = Philox::new(0, Stream::Fits).at(draw, stream);
    Box::new(move || draws.normal())
}

fn spec(text: &str) -> ScalingSpec {
    serde_yaml::from_str(text).unwrap()
}

/// 100 - e(x) of the curve 20 + 60 x^-0.5.
fn accuracy(x: f64) -> f64 {
    80.0 - 60.0 * x.powf(-0.5)
}

/// Three seeds about a mean, another pattern for each cell.
fn seeds(mean: f64, cell: usize, by: f64) -> Vec<f64> {
    let signs = [[1.0, -1.0, 0.2], [-1.0, 0.3, 1.0], [0.1, 1.0, -1.2], [1.0, 0.0, -1.0]][cell % 4];
    signs.iter().map(|sign| mean + by * sign).collect()
}

/// A table by size, models fastest.
fn table(cells: &[(&str, &str, Vec<f64>)]) -> Table {
    let cell = |(idx, (size, model, values)): (usize, &(&str, &str, Vec<f64>))| Cell {
        row: vec![(*model).to_owned(), (*size).to_owned()],
        column: None,
        metric: "acc1".to_owned(),
        values: (0..).zip(values.iter().copied()).collect(),
        run_ids: (0..values.len()).map(|seed| format!("{idx}-{seed}")).collect(),
        missing: usize::from(values.is_empty()),
        drawn: SeedParts::none(),
    };
    Table {
        name: "fit-t".to_owned(),
        caption: None,
        rows: vec!["model".to_owned(), "size".to_owned()],
        columns: None,
        fixed: BTreeMap::new(),
        metrics: vec!["acc1".to_owned()],
        cells: cells.iter().enumerate().map(cell).collect(),
    }
}

const SIZES: [&str; 7] = ["1", "2", "4", "8", "16", "32", "64"];

/// One model along the sizes, whose mean at a size is a function of it.
fn one(of: impl Fn(f64) -> f64, by: f64) -> Table {
    let cell = |(idx, size): (usize, &&'static str)| (*size, "a", seeds(of(size.parse().unwrap()), idx, by));
    table(&SIZES.iter().enumerate().map(cell).collect::<Vec<_>>())
}

const BY_SIZE: &str = "{ name: t, of: acc1, against: size, by: model }";

fn fitted(text: &str, table: &Table) -> Fit {
    fit(&spec(text), table, &Outcomes::default(), &normals)
}

fn found(fit: &Fit) -> &Found {
    fit.curves[0].found.as_ref().unwrap()
}

fn refusal(table: &Table) -> String {
    fitted(BY_SIZE, table).curves[0].found.as_ref().unwrap_err().to_string()
}

#[test]
fn least_squares_are_those_of_scipy() {
    let text = std::fs::read_to_string("tests/fixtures/fits/curves.json").unwrap();
    let recorded: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = recorded["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let point = |point: &serde_json::Value| Point {
            at: point["at"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect(),
            error: point["error"].as_f64().unwrap(),
            weight: point["weight"].as_f64().unwrap(),
        };
        let points: Vec<Point> = case["points"].as_array().unwrap().iter().map(point).collect();
        let fitted = least_squares(&points).unwrap();
        let terms = fitted.curve.terms().iter().flat_map(|term| [term.scale, term.power]);
        let ours: Vec<f64> = std::iter::once(fitted.curve.floor).chain(terms).collect();
        let theirs: Vec<f64> = case["parameters"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert_eq!(ours.len(), theirs.len());
        // Both stop where squares no longer change in the 15th digit, so parameters agree to about half as many.
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() < 1e-5 * b.abs(), "{ours:?} {theirs:?}");
        }
    }
}

#[test]
fn a_curve_without_noise_is_found_again() {
    let points: Vec<Point> = [1.0, 2.0, 4.0, 8.0, 16.0]
        .iter()
        .flat_map(|n| [4.0, 16.0, 64.0].map(|s| (*n, s)))
        .map(|(n, s): (f64, f64)| Point { at: vec![1e6 * n, 1e6 * s], error: 10.0 + 30.0 / n.sqrt() + 20.0 / s, weight: 3.0 })
        .collect();
    let curve = least_squares(&points).unwrap().curve;
    let [data, seen] = curve.terms() else { panic!("{curve:?}") };
    assert!((curve.floor - 10.0).abs() < 1e-6 && (data.power - 0.5).abs() < 1e-7 && (seen.power - 1.0).abs() < 1e-6, "{curve:?}");
    assert!((curve.at(&[1e6, 4e6]) - 45.0).abs() < 1e-6 && (data.scale / 3e4 - 1.0).abs() < 1e-5, "{curve:?}");
}

#[test]
fn parameters_have_intervals_and_the_same_cells_give_the_same_bytes() {
    let table = one(accuracy, 0.4);
    let fit = fitted(BY_SIZE, &table);
    let found = found(&fit);
    for (quantity, expected) in found.quantities.iter().zip([20.0, 60.0, 0.5, 1.0]) {
        let [low, high] = quantity.interval.unwrap();
        assert!(low < quantity.value && quantity.value < high || quantity.name == "r2", "{quantity:?}");
        assert!(quantity.name == "r2" || low < expected && expected < high, "{quantity:?} {expected}");
    }
    assert_eq!((found.draws.len(), fit.curves[0].cells, fit.curves[0].seeds), (DRAWS, 7, [3, 3]));
    assert_eq!(found.note.as_deref(), Some("outcomes of items are not known: the intervals are of these evaluation sets"));
    let again = fitted(BY_SIZE, &table);
    assert_eq!((fit.to_csv(), fit.to_markdown()), (again.to_csv(), again.to_markdown()));
    let csv = String::from_utf8(fit.to_csv()).unwrap();
    assert!(csv.starts_with("model,quantity,at,value,low,high,observed,inside,cells,missing,seeds,note\na,e_inf,,"), "{csv}");
    assert_eq!(csv.lines().count(), 6, "{csv}");
    assert!(fit.to_markdown().contains("\n100 - acc1 = e_inf + a size^-b\n"), "{}", fit.to_markdown());
}

#[test]
fn cells_that_are_held_out_are_predicted_and_compared() {
    let fit = fitted("{ name: t, of: acc1, against: size, by: model, hold_out: { size: largest } }", &one(accuracy, 0.4));
    let [cell] = found(&fit).held_out.as_slice() else { panic!("{fit:?}") };
    assert_eq!((fit.curves[0].cells, cell.labels.as_slice(), cell.is_inside()), (6, &["64".to_owned()][..], Some(true)));
    assert!((cell.observed - 27.5).abs() < 0.1 && (cell.predicted - 27.5).abs() < 1.0, "{cell:?}");
    let csv = String::from_utf8(fit.to_csv()).unwrap();
    assert!(csv.contains("\na,held_out,size=64,") && csv.contains("\na,held_out_rms,,"), "{csv}");
    // A cell that lies elsewhere is outside, and two may be named.
    let bent = one(|x| if x > 60.0 { 60.0 } else { accuracy(x) }, 0.4);
    let fit = fitted("{ name: t, of: acc1, against: size, by: model, hold_out: { size: [64, 8] } }", &bent);
    let inside: Vec<Option<bool>> = found(&fit).held_out.iter().map(HeldOut::is_inside).collect();
    assert_eq!(inside, [Some(true), Some(false)]);
    assert!(fit.to_markdown().contains("Held out: a, size=64: error "), "{}", fit.to_markdown());
    assert!(fit.to_markdown().contains(", outside.\n"), "{}", fit.to_markdown());
}

#[test]
fn what_cells_do_not_fix_is_refused_in_words() {
    let few = table(&[("1", "a", vec![20.0; 3]), ("4", "a", vec![40.0; 3]), ("16", "a", vec![50.0; 3])]);
    assert_eq!(refusal(&few), "3 cells at different amounts, 4 are needed for its 3 parameters");
    let near = |size: &'static str, value: f64| (size, "a", seeds(value, 0, 0.1));
    let narrow = table(&[near("1", 20.0), near("2", 30.0), near("2.5", 33.0), near("3", 35.0), near("3.5", 36.0)]);
    assert_eq!(refusal(&narrow), "amounts of `size` differ by a factor of 3.5, at least 4 is needed");
    assert_eq!(refusal(&one(|x| 50.0 - x / 10.0, 0.4)), "the error does not fall");
    assert!(refusal(&one(|x| 50.0 + x / 50.0, 2.0)).starts_with("flat: from first to last amount the error falls by "));
    let straight = refusal(&one(|x| 90.0 - 80.0 * x.powf(-0.2) + 8.0 * x.ln(), 0.4));
    assert_eq!(straight, "e_inf is at its bound of 0: the cells do not show where the error ends");
    let csv = String::from_utf8(fitted(BY_SIZE, &few).to_csv()).unwrap();
    assert!(
        csv.ends_with("\na,refused,,,,,,,3,0,3,\"3 cells at different amounts, 4 are needed for its 3 parameters\"\n"),
        "{csv}"
    );
    assert!(fitted(BY_SIZE, &few).to_markdown().contains("| not fitted: 3 cells at different amounts"));
}

/// Cells of two amounts with three seeds.
fn joint(places: &[(f64, f64)]) -> FitCurve {
    let cell = |(idx, (n, s)): (usize, &(f64, f64))| {
        let run = |(seed, value): (u64, f64)| SeedRun {
            seed,
            value,
            run_id: format!("{idx}-{seed}"),
            drawn: SeedParts::none(),
            items: None,
        };
        let values = seeds(90.0 - 30.0 / n.sqrt() - 20.0 / s, idx, 0.1);
        let measure = Measure::Seeds((0..).zip(values).map(run).collect());
        CurveCell { labels: Vec::new(), at: vec![*n, *s], measure, is_held_out: false }
    };
    let shape = Shape { against: vec!["subset_samples".to_owned(), "samples_seen".to_owned()], is_loss: false };
    fit_cells(&shape, Vec::new(), &places.iter().enumerate().map(cell).collect::<Vec<_>>(), &normals)
}

#[test]
fn the_joint_form_needs_a_grid_that_tells_both_apart() {
    let grid: Vec<(f64, f64)> = [1.0, 2.0, 4.0, 8.0].iter().flat_map(|n| [1.0, 2.0, 4.0, 8.0].map(|e| (*n, n * e))).collect();
    let found = joint(&grid).found.unwrap();
    let names: Vec<&str> = found.quantities.iter().map(|quantity| quantity.name.as_str()).collect();
    assert_eq!(names, ["e_inf", "a subset_samples", "b subset_samples", "a samples_seen", "b samples_seen", "r2"]);
    let in_interval =
        |idx: usize, value: f64| found.quantities[idx].interval.is_some_and(|[low, high]| low < value && value < high);
    assert!(in_interval(2, 0.5) && in_interval(4, 1.0), "{:?}", found.quantities);
    let one_epoch: Vec<(f64, f64)> = (0..8).map(|idx| (2f64.powi(idx), 2f64.powi(idx))).collect();
    assert_eq!(
        joint(&one_epoch).found.unwrap_err().to_string(),
        "`subset_samples` and `samples_seen` are in one ratio in all cells, so what each does is not told apart"
    );
    let two_sizes: Vec<(f64, f64)> = (0..8).map(|idx| (if idx % 2 == 0 { 1.0 } else { 8.0 }, 2f64.powi(idx))).collect();
    assert_eq!(joint(&two_sizes).found.unwrap_err().to_string(), "2 different amounts of `subset_samples`, 3 are needed");
}

#[test]
fn fewer_than_three_seeds_or_no_spread_give_no_intervals() {
    let two = |(idx, size): (usize, &&'static str)| (*size, "a", seeds(accuracy(size.parse().unwrap()), idx, 0.4)[..2].to_vec());
    let fit = fitted(BY_SIZE, &table(&SIZES.iter().enumerate().map(two).collect::<Vec<_>>()));
    assert_eq!(found(&fit).note.as_deref(), Some("no intervals: 2 seeds in a cell, at least 3 are needed"));
    assert!(found(&fit).quantities.iter().all(|quantity| quantity.interval.is_none()));
    let fit = fitted(BY_SIZE, &one(accuracy, 0.0));
    assert_eq!(found(&fit).note.as_deref(), Some("no intervals: no spread between seeds, which is no estimate of one"));
}

#[test]
fn a_cell_without_a_value_is_counted_and_left_out() {
    let mut table = one(accuracy, 0.4);
    table.cells[2].missing = 1;
    let fit = fitted(BY_SIZE, &table);
    assert_eq!((fit.curves[0].cells, fit.curves[0].missing), (6, 1));
    assert!(fit.to_markdown().contains(" | 6 of 7 | 3 | "), "{}", fit.to_markdown());
}

#[test]
fn shifts_have_the_variance_of_seeds_and_items() {
    // Two cells of four seeds; 400 items, of which the second cell has other ones right.
    let cell = |first: usize| {
        let run = |seed: u64| {
            let turned = |item: usize| usize::from((item * 7 + seed as usize * 3).is_multiple_of(40));
            let hits: Vec<u8> = (0..400).map(|item| u8::from((item + turned(item) * 100) % 200 >= first)).collect();
            let set = SetOutcomes { set: "s".to_owned(), of: 400, hits };
            let sets: Arc<[SetOutcomes]> = Arc::new([set.clone()]);
            SeedRun {
                seed,
                value: set.percent() + [0.3, -0.5, 0.4, -0.2][seed as usize],
                run_id: seed.to_string(),
                drawn: SeedParts::none(),
                items: Some(sets),
            }
        };
        Measure::Seeds((0..4).map(run).collect())
    };
    let cells = [cell(100), cell(60)];
    let spread = Spread::of(&[&cells[0], &cells[1]], &normals).unwrap();
    assert!(spread.knows_items);
    let items = |cell: &Measure| {
        let Measure::Seeds(runs) = cell else { panic!() };
        let part = crate::claims::items::Part { weight: 1.0, metric: "acc1", runs };
        crate::claims::items::of_items(&[part], &[0, 1, 2, 3]).unwrap().variance
    };
    for (idx, cell) in cells.iter().enumerate() {
        // Six degrees of freedom make the seeds' part 6 / 4 of s^2 / n.
        let expected = items(cell) + spread.run_sd.unwrap().powi(2) / 4.0 * 1.5;
        let squares: f64 = spread.shifts.iter().map(|shifts| shifts[idx].powi(2)).sum();
        let found = squares / spread.shifts.len() as f64;
        // The variance of 1,000 draws is known to about 5 %.
        assert!((found / expected - 1.0).abs() < 0.2, "{found} {expected}");
    }
    // Both cells have most items in common, and so most of the items' part.
    let product: f64 = spread.shifts.iter().map(|shifts| shifts[0] * shifts[1]).sum::<f64>() / spread.shifts.len() as f64;
    assert!(product > 0.4 * items(&cells[0]), "{product}");
}

fn points() -> Vec<PointView> {
    let point = |(idx, (model, size, seen)): (usize, (&str, &str, &str))| PointView {
        labels: [("model", model), ("size", size), ("seen", seen)].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        also: BTreeMap::new(),
        run_ids: vec![idx.to_string()],
    };
    let all = ["a", "b"].iter().flat_map(|m| ["1k", "4k"].iter().flat_map(move |s| ["one", "two"].map(|e| (*m, *s, e))));
    all.enumerate().map(point).collect()
}

#[test]
fn statements_are_checked_before_anything_runs() {
    let metrics = ["acc1".to_owned(), "gmacs_as_stated".to_owned()];
    let problems = |text: &str| {
        validate(&spec(text), &points(), &metrics).iter().map(|p| format!("{}: {}", p.path, p.message)).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(problems("{ name: t, of: acc1, against: gmacs, by: model, along: [size, seen] }"), none);
    assert_eq!(
        problems("{ name: t, of: loss, against: [size, gmacs], by: [model, seen], hold_out: { size: 4000, gmacs: largest } }"),
        none
    );
    assert_eq!(
        problems("{ name: a/b, of: acc, against: seen, by: modle, hold_out: { sise: 4k } }"),
        [
            "name: `a/b` is not a file name of letters, digits, `-`, `_` and `.`",
            "of: unknown metric `acc`, expected one of `acc1`, `loss`",
            "against: label `one` of `seen` is no amount above zero; `samples_seen`, `gmacs` and the like are counted",
            "hold_out.sise: unknown axis or amount `sise`, expected one of `modle`, `seen`, `seen`",
        ]
    );
    assert_eq!(
        problems("{ name: t, of: acc1, against: size, by: model }"),
        ["along: different runs fall into the cell (a, 1k); the fit does not say which `seen` it is of"]
    );
    assert_eq!(
        problems("{ name: t, of: acc1, against: size, by: modle, along: [size, seen] }"),
        ["by: unknown axis `modle`, expected one of `model`, `seen`, `size`"]
    );
    assert_eq!(
        problems("{ name: t, of: acc1, against: gmacs, by: model }"),
        ["along: no axis along which the cells of a curve lie"]
    );
    assert_eq!(
        problems("{ name: t, of: acc1, against: size, by: [model, seen], hold_out: { size: 8k } }"),
        ["hold_out.size: unknown label of `size` `8k`, expected one of `1k`, `4k`, `largest`"]
    );
    assert_eq!(
        problems("{ name: t, of: acc1, against: gmacs, by: model, along: [size, seen], hold_out: { gmacs: most } }"),
        ["hold_out.gmacs: `most` is no amount, and not `largest`"]
    );
    assert_eq!(
        problems("{ name: t, of: acc1, against: [gmacs, gmacs], along: [size], by: [model, seen] }"),
        ["against: expected one amount, or two different ones"]
    );
}
