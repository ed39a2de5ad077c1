use std::fs;

use super::*;
use crate::claims::{Measure, SeedRun};
use crate::data::{Philox, Stream};
use crate::run::SeedParts;

fn normals(draw: u64, stream: u32) -> Box<dyn FnMut() -> f64> {
    let mut draws = Philox::new(0, Stream::Fits).at(draw, stream);
    Box::new(move || draws.normal())
}

fn ask(cells: &[Costed], name: &str, amount: f64) -> Result<Advice, AdviceError> {
    advise(cells, "acc1", Budget { name: name.to_owned(), amount }, &normals)
}

/// The cells of a panel of the paper's figures: encoders with their costs.
fn panel(file: &str, (figure, panel): (&str, &str), cost: impl Fn(&str, f64) -> f64) -> Vec<Costed> {
    let text = fs::read_to_string(format!("experiments/paper/reference/{file}.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let mut cells = Vec::new();
    for record in reader.records() {
        let record = record.unwrap();
        let field = |name: &str| &record[header.iter().position(|column| column == name).unwrap()];
        if (field("figure"), field("panel")) == (figure, panel) {
            let labels = [("model.image_encoder", "image_encoder"), ("data.train.size", "dataset_size")];
            let number = |name: &str| field(name).parse::<f64>().unwrap();
            cells.push(Costed {
                labels: labels.map(|(path, column)| (path.to_owned(), field(column).to_owned())).into(),
                cost: cost(field("image_encoder"), number("dataset_size")),
                measure: Measure::Reading { value: number("value"), error: number("error_pt") },
            });
        }
    }
    cells
}

fn encoder(advice: &Advice) -> String {
    advice.pick.labels.iter().find(|(path, _)| path == "model.image_encoder").unwrap().1.clone()
}

/// Which encoders are favoured as the budget grows by steps of 1 %, and from where on; what is favoured for less than 2 % is left out.
fn favoured(cells: &[Costed], (first, last): (f64, f64)) -> Vec<(String, f64)> {
    let mut found: Vec<(String, f64)> = Vec::new();
    let mut amount = first;
    while amount <= last {
        let name = encoder(&ask(cells, "samples_seen", amount).unwrap());
        if found.last().is_none_or(|(known, _)| *known != name) {
            if found.last().is_some_and(|(_, from)| amount < from * 1.02) {
                found.pop();
            }
            if found.last().is_none_or(|(known, _)| *known != name) {
                found.push((name, amount));
            }
        }
        amount *= 1.01;
    }
    found
}

fn assert_favoured(found: &[(String, f64)], expected: &[(&str, f64)]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((name, from), (wanted, at)) in found.iter().zip(expected) {
        // Budgets are tried in steps of 1 %, and costs within 1 % are at a budget.
        assert!(name == wanted && (from / at - 1.0).abs() < 0.025, "{found:?}");
    }
}

#[test]
fn vits_cross_where_figure_8b_has_them() {
    let costs = [("ViT-Ti/16", 2.62), ("ViT-S/16", 5.96), ("ViT-B/32", 5.77), ("ViT-B/16", 18.93), ("ViT-L/16", 62.92)];
    let cost = |name: &str, samples: f64| samples * costs.iter().find(|(known, _)| *known == name).unwrap().1;
    let cells = panel("vit", ("8", "b"), cost);
    // Lines of the figure in the logarithm of GMACs. Ti and B/32 (with S/16 level with it) meet between 1.05e9 and 2.31e9; B/16 passes
    // where B/32 ends (60.5), and L/16 passes where B/16 ends (65.8), between its own 64.7 at 6.29e10 and 67.9 at 1.07e11.
    let found = favoured(&cells, (1e8, 2e11));
    assert_favoured(&found, &[("ViT-Ti/16", 1e8), ("ViT-B/32", 1.83e9), ("ViT-B/16", 2.33e10), ("ViT-L/16", 7.55e10)]);
    // Where lines meet nothing is decided; where Ti alone was trained, larger encoders are left out and said to be.
    let close = ask(&cells, "gmacs", 1.85e9).unwrap();
    assert!(!close.is_decided() && close.decision().starts_with("not decided"), "{}", close.to_text());
    let clear = ask(&cells, "gmacs", 5e8).unwrap();
    assert_eq!(
        clear.left_out,
        [(vec![("model.image_encoder".to_owned(), "ViT-L/16".to_owned())], "its runs cost 629200000 or more".to_owned())]
    );
    assert!(clear.is_decided(), "{}", clear.to_text());
    // A rival whose line has ended may go on: its end is said and decides nothing.
    let ended = ask(&cells, "gmacs", 2e11).unwrap();
    assert!(
        encoder(&ended) == "ViT-L/16" && !ended.is_decided() && ended.decision().contains("end below that"),
        "{}",
        ended.to_text()
    );
}

#[test]
fn cnns_lead_first_and_vits_later_as_in_figures_13a_and_14a() {
    let samples = |_: &str, samples: f64| samples;
    // 14a, one epoch: Mixer at 10M, R50 from 13.4M, B/32 from 212M (57.4 against 57.0 at 200M, 60.3 against 64.7 at 400M).
    let one_epoch = panel("architectures", ("14", "a"), samples);
    let found = favoured(&one_epoch, (1e7, 3.4e9));
    assert_favoured(&found, &[("Mixer-B/32", 1e7), ("ResNet-50", 1.343e7), ("ViT-B/32", 2.119e8)]);
    // 13a, equal steps: Swin up to 83M (45.5 against 43.0 at 50M, 51.6 against 52.5 at 100M), then B/32.
    let equal_steps = panel("architectures", ("13", "a"), samples);
    assert_favoured(&favoured(&equal_steps, (1e7, 3.4e9)), &[("Swin-T", 1e7), ("ViT-B/32", 8.32e7)]);
}

/// Three seeds about a mean.
fn seeds(mean: f64, id: &str, by: f64) -> Measure {
    let pattern = id.bytes().map(usize::from).sum::<usize>() % 3;
    let signs = [[1.0, -1.0, 0.0], [-1.0, 0.3, 0.7], [0.2, 0.8, -1.0]][pattern];
    let run = |(seed, sign): (u64, f64)| SeedRun {
        seed,
        value: mean + by * sign,
        run_id: format!("{id}-{seed}"),
        drawn: SeedParts::none(),
        items: None,
    };
    Measure::Seeds((0..).zip(signs).map(run).collect())
}

/// Two encoders at costs, whose accuracy is a function of the cost.
fn two(costs: &[f64], by: f64, of: [&dyn Fn(f64) -> f64; 2]) -> Vec<Costed> {
    let cell = |(encoder, of): (&str, &dyn Fn(f64) -> f64), cost: &f64| Costed {
        labels: vec![("model.image_encoder".to_owned(), encoder.to_owned()), ("train.budget".to_owned(), format!("gmacs={cost}"))],
        cost: *cost,
        measure: seeds(of(*cost), &format!("{encoder}{cost}"), by),
    };
    ["small", "large"].into_iter().zip(of).flat_map(|one| costs.iter().map(move |cost| cell(one, cost))).collect()
}

#[test]
fn a_lead_is_decided_by_its_interval_and_else_says_how_many_seeds_would() {
    let costs = [1.0, 4.0, 16.0];
    let clear = ask(&two(&costs, 0.4, [&|_| 40.0, &|_| 50.0]), "gmacs", 4.0).unwrap();
    assert_eq!((encoder(&clear).as_str(), clear.is_decided(), clear.decision().as_str()), ("large", true, "decided at 95 %"));
    assert_eq!(clear.pick.cells.len(), 1);
    assert_eq!(clear.pick.cells[0].1.run_ids(), ["large1-0", "large1-1", "large1-2"], "of equal cells the cheapest");
    let close = ask(&two(&costs, 1.5, [&|_| 49.0, &|_| 50.0]), "gmacs", 4.0).unwrap();
    assert!(!close.is_decided() && close.decision().starts_with("not decided at 95 %: about "), "{}", close.decision());
    assert!(close.to_text().contains("more seeds would"), "{}", close.to_text());
    // Between two costs a line is drawn, and both cells carry the error.
    let rising: [&dyn Fn(f64) -> f64; 2] = [&|x: f64| 30.0 + x.ln(), &|x: f64| 20.0 + 8.0 * x.ln()];
    let between = ask(&two(&costs, 0.4, rising), "gmacs", 8.0).unwrap();
    let weights: Vec<f64> = between.pick.cells.iter().map(|(weight, _)| *weight).collect();
    assert!(weights.len() == 2 && weights.iter().all(|weight| (weight - 0.5).abs() < 1e-9), "{weights:?}");
    assert!((between.pick.value - (20.0 + 8.0 * 8f64.ln())).abs() < 1e-9);
    let ends = [4.0, 16.0].map(|cost| ask(&two(&costs, 0.4, rising), "gmacs", cost).unwrap());
    let [low, high] = between.pick.interval.unwrap();
    let [lower, upper] = ends.map(|advice| advice.rivals[0].interval.into_iter().chain(advice.pick.interval).collect::<Vec<_>>());
    assert!(lower.iter().any(|ends| ends[0] == low) && upper.iter().any(|ends| ends[1] == high), "{lower:?} {upper:?}");
    // At 4 the other one leads.
    assert!(between.rivals[0].versus.is_decided() && !between.is_decided(), "{}", between.to_text());
    assert_eq!(between.decision(), "not decided: the lead is not decided at both cells that it lies between");
    let ahead: [&dyn Fn(f64) -> f64; 2] = [&|x: f64| 10.0 + x.ln(), &|x: f64| 20.0 + 8.0 * x.ln()];
    let clear = ask(&two(&costs, 0.4, ahead), "gmacs", 8.0).unwrap();
    assert_eq!((clear.is_decided(), clear.decision().as_str()), (true, "decided at 95 %, between cells and at them"));
}

#[test]
fn beyond_all_runs_fits_answer_and_say_by_how_much() {
    let costs = [4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
    // The small one leads at every cost (76.2 against 75.9 at the last), the large one has the lower floor.
    let small = |x: f64| 78.0 - 20.0 / x.sqrt();
    let large = |x: f64| 90.0 - 160.0 / x.sqrt();
    let cells = two(&costs, 0.2, [&small, &large]);
    assert_eq!(encoder(&ask(&cells, "gmacs", 128.0).unwrap()), "small");
    let advice = ask(&cells, "gmacs", 384.0).unwrap();
    assert_eq!((advice.basis.clone(), encoder(&advice).as_str()), (Basis::Fits { factor: 3.0 }, "large"));
    assert!((advice.pick.value - large(384.0)).abs() < 1.0, "{}", advice.to_text());
    assert!(advice.pick.interval.is_some_and(|[low, high]| low < large(384.0) && large(384.0) < high), "{}", advice.to_text());
    let text = advice.to_text();
    assert!(text.contains("extrapolated by 3x from the fit of its error against gmacs: error = "), "{text}");
    assert!(advice.is_decided() && text.contains("decided at 95 % if errors go on as their fits"), "{text}");
    let json = advice.to_value();
    assert_eq!(
        (&json["basis"], &json["extrapolated_by"], &json["favoured"]["model.image_encoder"]),
        (&"fits".into(), &3.0.into(), &"large".into())
    );
    // Of which no fit can be made is left out, and then nothing is decided.
    let mut some = cells.clone();
    some.retain(|cell| cell.labels[0].1 == "large" || cell.cost < 16.0);
    let advice = ask(&some, "gmacs", 384.0).unwrap();
    assert_eq!(advice.left_out.len(), 1);
    assert!(!advice.is_decided(), "{}", advice.to_text());
    // Where no choice has a fit, the largest runs are told as such.
    let mut few = cells;
    few.retain(|cell| cell.cost < 16.0);
    let advice = ask(&few, "gmacs", 24.0).unwrap();
    assert_eq!(advice.basis, Basis::LargestRuns { factor: 3.0, most: 8.0 });
    assert!(
        !advice.is_decided() && advice.to_text().contains("the budget is 3x that, and no fit can be made"),
        "{}",
        advice.to_text()
    );
}

#[test]
fn what_cannot_be_answered_is_an_error() {
    let cells = two(&[2.0, 4.0], 0.4, [&|_| 40.0, &|_| 50.0]);
    assert_eq!(ask(&cells, "gmacs", 1.0).unwrap_err().to_string(), "every run costs more than 1 gmacs: the smallest 2");
    assert_eq!(ask(&cells[..1], "gmacs", 4.0).unwrap_err(), AdviceError::OneCell("acc1".to_owned()));
    assert_eq!(ask(&[], "gmacs", 4.0).unwrap_err(), AdviceError::NoCells("acc1".to_owned()));
}

#[test]
fn of_amounts_alone_every_cell_is_a_choice() {
    let mut cells = two(&[1.0, 4.0], 0.05, [&|x| 30.0 + x / 4.0, &|_| 9.0]);
    cells.truncate(2);
    let advice = ask(&cells, "gmacs", 4.0).unwrap();
    assert_eq!(advice.pick.labels[1], ("train.budget".to_owned(), "gmacs=4".to_owned()));
    assert!(advice.rivals.len() == 1 && (advice.rivals[0].versus.difference - 0.75).abs() < 1e-9, "{advice:?}");
}
