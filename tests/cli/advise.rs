//! Fits and frontiers beside tables, and what finished runs favour.

use std::collections::BTreeMap;
use std::path::Path;

use scaledown::claims::{Budget, Costed, advise, costed};
use scaledown::tables::{OneOrMany, TableInput, TableSpec, build};

use crate::place::{Outcome, Place, SMALL, program, text_of as text};

/// The small experiment at four sizes and three seeds, with a fit and a frontier.
fn sized() -> String {
    SMALL
        .replace("seeds: 2", "seeds: 3")
        .replace("grid: { train.lr: [1e-3, 2e-3] }", "grid: { train.budget: [{ steps: 2 }, { steps: 4 }, { steps: 8 }, { steps: 16 }] }")
        .replace("rows: train.lr", "rows: train.budget")
        .replace("each: { train.lr: all }", "each: { train.budget: all }")
        .replace(
            "claims:\n",
            "fits:\n  - { name: course, of: loss, against: samples_seen, along: train.budget, frontier: true, hold_out: { samples_seen: 320 } }\nclaims:\n",
        )
}

#[test]
fn a_run_writes_its_fits_and_a_rebuild_gives_the_same_bytes() -> Outcome {
    let place = Place::new(&sized())?;
    let ran = place.scaledown(&["run", "small.yaml"])?;
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    let printed = text(&ran.stdout);
    assert!(printed.contains("# fit-course\n") && printed.contains("training loss = e_inf + a samples_seen^-b"), "{printed}");
    let tables = place.path().join("results/small/tables");
    let fit = std::fs::read_to_string(tables.join("fit-course.csv"))?;
    // Three cells are left: fewer than four parameters and one need.
    assert_eq!(
        fit,
        "quantity,at,value,low,high,observed,inside,cells,missing,seeds,note\n\
         refused,,,,,,,3,0,3,\"3 cells at different amounts, 4 are needed for its 3 parameters\"\n"
    );
    let frontier = std::fs::read_to_string(tables.join("frontier-course.csv"))?;
    assert!(frontier.starts_with("samples_seen,train.budget,metric,mean,n,beats,"), "{frontier}");
    assert!(frontier.contains("\n40,steps=2,loss,"), "{frontier}");
    let before = place.results()?;
    assert_eq!(place.scaledown(&["table", "--from", "results/small"])?.status.code(), Some(0));
    assert_eq!(place.results()?, before);
    let one = place.scaledown(&["table", "--from", "results/small", "--name", "fit-course", "--csv"])?;
    assert_eq!(text(&one.stdout), fit);
    let checked = place.scaledown(&["check", "small.yaml", "--run", "--against", "results/small"])?;
    assert_eq!(checked.status.code(), Some(0), "{}{}", text(&checked.stdout), text(&checked.stderr));

    let advice = place.scaledown(&["advise", "results/small", "--samples", "320"])?;
    assert_eq!(advice.status.code(), Some(0), "{}", text(&advice.stderr));
    assert!(text(&advice.stdout).starts_with("at 320 samples_seen, by zeroshot/scenes.acc1:\n"), "{}", text(&advice.stdout));
    Ok(())
}

/// What `advise` says of the committed runs of the first experiment, with its exit code.
fn of_quickstart(args: &[&str]) -> Result<(Option<i32>, String, String), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/quickstart");
    let done = program().arg("advise").arg(folder).args(args).output()?;
    Ok((done.status.code(), text(&done.stdout), text(&done.stderr)))
}

#[test]
fn advice_names_the_encoder_the_runs_and_how_sure_it_is() -> Outcome {
    let (code, said, _) = of_quickstart(&["--samples", "16k"])?;
    assert_eq!(code, Some(0));
    // The table zeroshot: 31.0 of vit-xs/8 against 24.6 of vit-xxs/8, both at 4k.
    assert!(said.contains("  image encoder      vit-xs/8 (model.image_encoder)\n"), "{said}");
    assert!(said.contains("data.train.size=4k model.image_encoder=vit-xs/8 (runs "), "{said}");
    assert!(said.contains("runner-up          image_encoder=vit-xxs/8: 24.57 [22.24, 26.9], behind by 6.47 ["), "{said}");
    assert!(said.contains("  decided?           decided at 95 %\n"), "{said}");
    let (code, said, _) = of_quickstart(&["--gmacs", "700", "--format", "json"])?;
    let json: serde_json::Value = serde_json::from_str(&said)?;
    assert_eq!((code, &json["basis"], &json["decided"]), (Some(0), &"largest_runs".into(), &false.into()));
    assert!(json["extrapolated_by"].as_f64().is_some_and(|factor| (factor - 4.517).abs() < 0.01), "{said}");
    assert_eq!(json["cells"][0]["runs"].as_array().map(Vec::len), Some(3));
    Ok(())
}

#[test]
fn what_has_no_advice_is_a_mistake_with_a_way_out() -> Outcome {
    let (code, _, error) = of_quickstart(&["--samples", "16k", "--metric", "zeroshot/scenes.acc2"])?;
    assert!(code == Some(2) && error.ends_with("hint: did you mean `zeroshot/scenes.acc1`?\n"), "{error}");
    let (code, _, error) = of_quickstart(&["--gmacs", "10"])?;
    assert!(code == Some(2) && error.contains("every run costs more than 10 gmacs: the smallest 52.58"), "{error}");
    let (code, _, error) = of_quickstart(&[])?;
    assert!(code == Some(2) && error.contains("--gmacs"), "{error}");
    let (code, _, error) = of_quickstart(&["--samples", "16k", "results/nothing"])?;
    assert!(code == Some(2) && error.contains("results/nothing is no results folder: it holds no runs.csv"), "{error}");
    let ci = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/ci").display().to_string();
    let (code, _, error) = of_quickstart(&["--samples", "16k", &ci])?;
    assert!(code == Some(2) && error.contains("were measured on different sets as `zeroshot/scenes.acc1`"), "{error}");
    Ok(())
}

/// The encoders of a table of `results/small/vit` with a cell in a row, and the mean of each: `N` of `data.train.size`, or every row.
fn zeroshot_of(table: &str, row: Option<&str>) -> Result<Vec<(String, f64)>, Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/small/vit/tables").join(table);
    let mut reader = csv::Reader::from_path(path)?;
    let header = reader.headers()?.clone();
    let column = |name: &str| header.iter().position(|column| column == name).ok_or(format!("no column {name}"));
    let [size, encoder, metric, mean] =
        [column("data.train.size")?, column("model.image_encoder")?, column("metric")?, column("mean")?];
    let mut found = Vec::new();
    for record in reader.records() {
        let record = record?;
        if &record[metric] == "zeroshot/scenes.acc1" && row.is_none_or(|row| row == &record[size]) {
            found.push((record[encoder].to_owned(), record[mean].parse()?));
        }
    }
    Ok(found)
}

#[test]
fn advice_on_the_study_of_vits_names_the_best_cells_of_its_tables() -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/small/vit");
    for budget in ["2k", "8k", "32k"] {
        // One epoch of N samples costs N samples; at 32k the runs of equal samples are there as well.
        let mut cells = zeroshot_of("fig8.csv", Some(budget))?;
        if budget == "32k" {
            cells.extend(zeroshot_of("fig9.csv", None)?);
        }
        let best = cells.iter().max_by(|a, b| a.1.total_cmp(&b.1)).ok_or("no cells")?;
        let done = program().arg("advise").arg(&folder).args(["--samples", budget, "--format", "json"]).output()?;
        let json: serde_json::Value = serde_json::from_str(&text(&done.stdout))?;
        assert_eq!(json["favoured"]["model.image_encoder"], best.0.as_str(), "at {budget}: {json:#}");
        assert!(json["value"].as_f64().is_some_and(|value| (value - best.1).abs() < 1e-9), "at {budget}: {json:#}");
        let interval = [0, 1].map(|side| json["interval"][side].as_f64().unwrap_or(f64::NAN));
        assert!(interval[0] < best.1 && best.1 < interval[1], "at {budget}: {json:#}");
    }
    Ok(())
}

/// Every cell of a study's folder with its cost, by all axes.
fn costed_cells(folder: &Path, metric: &str, cost: &str) -> Result<Vec<Costed>, Box<dyn std::error::Error>> {
    let records = scaledown::record::read(folder)?;
    let spec = TableSpec {
        name: "held-out".to_owned(),
        caption: None,
        rows: OneOrMany(records.axes.clone()),
        columns: None,
        filter: BTreeMap::new(),
        values: OneOrMany(vec![metric.to_owned(), cost.to_owned()]),
    };
    let table = build(&spec, &TableInput::new(&records.points, &records.runs))?;
    Ok(costed(&table, &records.outcomes, metric, cost).0)
}

/// What a cell chooses: its labels but those of amounts.
fn choice(cell: &Costed) -> Vec<(String, String)> {
    cell.labels.iter().filter(|(path, _)| !["data.train.size", "train.budget"].contains(&path.as_str())).cloned().collect()
}

/// Each cell of one epoch that lies between two others of its choice in turn is taken away and asked for: how often its measured mean
/// lies in the interval that advice gives there.
#[test]
fn intervals_of_advice_hold_the_cells_that_were_held_out() -> Outcome {
    let (mut held, mut asked) = (0, 0);
    for study in ["vit", "strategies", "architectures"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/small").join(study);
        let cells = costed_cells(&folder, "zeroshot/scenes.acc1", "gmacs")?;
        let is_epoch = |cell: &&Costed| cell.labels.iter().all(|(path, label)| path != "train.budget" || label == "epochs=1");
        let cells: Vec<Costed> = cells.iter().filter(is_epoch).cloned().collect();
        for (idx, cell) in cells.iter().enumerate() {
            let own: Vec<&Costed> = cells.iter().filter(|other| choice(other) == choice(cell)).collect();
            let is_inner = own.iter().any(|other| other.cost < cell.cost) && own.iter().any(|other| other.cost > cell.cost);
            if !is_inner {
                continue;
            }
            let rest: Vec<Costed> = cells.iter().enumerate().filter(|(at, _)| *at != idx).map(|(_, cell)| cell.clone()).collect();
            let budget = Budget { name: "gmacs".to_owned(), amount: cell.cost };
            let advice = advise(&rest, "zeroshot/scenes.acc1", budget, &|_, _| Box::new(|| 0.0))?;
            let is_choice = |labels: &[(String, String)]| choice(cell).iter().all(|label| labels.contains(label));
            let rival = || advice.rivals.iter().find(|rival| is_choice(&rival.labels)).and_then(|rival| rival.interval);
            let [low, high] = if is_choice(&advice.pick.labels) { advice.pick.interval } else { rival() }.ok_or("no interval")?;
            let mean = cell.measure.mean();
            asked += 1;
            held += u32::from(low <= mean && mean <= high);
            if !(low <= mean && mean <= high) {
                println!("{study}: {} is at {mean:.1}, not within {low:.1} to {high:.1}", cell.name());
            }
        }
    }
    println!("{held} of {asked} held");
    assert!(asked >= 26 && f64::from(held) >= 0.95 * f64::from(asked), "{held} of {asked}");
    Ok(())
}
