//! Runs that are measured before their end.

use crate::place::{Outcome, Place, SMALL, text_of as text};

/// The small experiment, measured at these points, with these values in its table.
fn at(points: &str, values: &str) -> String {
    SMALL
        .replace("sweep:\n", &format!("evaluate_at: {points}\nsweep:\n"))
        .replace("values: [zeroshot/scenes.acc1]", &format!("values: [{values}]"))
        .replace("value: { cell: {} }", "value: { cell: { metric: zeroshot/scenes.acc1 at best } }")
}

const VALUES: &str = "zeroshot/scenes.acc1 at step 1, zeroshot/scenes.acc1 at 50%, zeroshot/scenes.acc1 at 100%, zeroshot/scenes.acc1 at best, \
                      zeroshot/scenes.acc1 best step";

/// Rows of a CSV file, by the names of its columns.
fn rows(text: &str) -> Result<Vec<std::collections::BTreeMap<String, String>>, Box<dyn std::error::Error>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    Ok(reader.deserialize().collect::<Result<_, _>>()?)
}

#[test]
fn points_before_the_end_have_their_own_file_and_columns_and_the_end_is_what_it_was() -> Outcome {
    let place = Place::new(&at("[1, 50%, 100%]", VALUES))?;
    let plan = text(&place.scaledown(&["plan", "small.yaml"])?.stdout);
    assert!(plan.contains("milestones  8 models kept before the end of 4 trainings, "), "{plan}");
    let ran = place.scaledown(&["run", "small.yaml", "--check"])?;
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    let read = |place: &Place, name: &str| std::fs::read_to_string(place.path().join("results/small").join(name));
    let (runs, points) = (rows(&read(&place, "runs.csv")?)?, rows(&read(&place, "milestones.csv")?)?);
    assert_eq!((runs.len(), points.len()), (4, 12));
    let mut moved = false;
    for run in &runs {
        let own: Vec<_> = points.iter().filter(|point| point["run_id"] == run["run_id"]).collect();
        let steps: Vec<(&str, &str, &str)> =
            own.iter().map(|p| (p["milestone"].as_str(), p["step"].as_str(), p["samples_seen"].as_str())).collect();
        assert_eq!(steps, [("step 1", "1", "20"), ("50%", "3", "60"), ("100%", "6", "120")]);
        let differ = |a: usize, b: usize| own[a].iter().any(|(name, value)| name.contains('/') && own[b][name] != *value);
        moved |= differ(0, 2) && differ(1, 2);
        for metric in ["zeroshot/scenes.acc1", "retrieval/scenes.text_retrieval_recall@5"] {
            assert_eq!(own[2][metric], run[metric]);
            let values = own.iter().map(|point| point[metric].parse::<f64>()).collect::<Result<Vec<_>, _>>()?;
            let best = values.iter().copied().fold(f64::MIN, f64::max);
            assert_eq!(run[&format!("{metric} at best")].parse::<f64>()?, best);
            let first = values.iter().position(|value| *value == best).ok_or("one is the best")?;
            assert_eq!(run[&format!("{metric} best step")], own[first]["step"]);
        }
    }
    assert!(moved, "what is measured changes while a run trains: {points:#?}");
    let table = read(&place, "tables/zeroshot.csv")?;
    assert_eq!(table.lines().count(), 1 + 2 * 5, "{table}");
    assert!(table.contains("zeroshot/scenes.acc1 at step 1") && table.contains("zeroshot/scenes.acc1 best step"), "{table}");

    // Rebuilt from the records, and no file of them is lost.
    let before = place.results()?;
    assert_eq!(place.scaledown(&["table", "--from", "results/small"])?.status.code(), Some(0));
    assert_eq!(place.results()?, before);

    // The end is that of the same run without points; `100%` alone is no point.
    let (plain, end) = (Place::new(SMALL)?, Place::new(&at("[100%]", "zeroshot/scenes.acc1").replace(" at best", ""))?);
    for place in [&plain, &end] {
        let ran = place.scaledown(&["run", "small.yaml"])?;
        assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
        assert!(!place.path().join("results/small/milestones.csv").exists());
    }
    let ids = |runs: &[std::collections::BTreeMap<String, String>]| runs.iter().map(|r| r["run_id"].clone()).collect::<Vec<_>>();
    let (plain_runs, end_runs) = (rows(&read(&plain, "runs.csv")?)?, rows(&read(&end, "runs.csv")?)?);
    assert_eq!(plain_runs, end_runs);
    assert_ne!(ids(&plain_runs), ids(&runs));
    for (plain, run) in plain_runs.iter().zip(&runs) {
        for (name, value) in plain.iter().filter(|(name, _)| *name != "run_id") {
            assert_eq!(&run[name], value, "{name}");
        }
    }
    assert_eq!(read(&plain, "curves.csv")?.lines().count(), read(&place, "curves.csv")?.lines().count());
    Ok(())
}

#[test]
fn results_lose_the_file_of_points_with_the_points() -> Outcome {
    let place = Place::new(&at("[50%]", "zeroshot/scenes.acc1 at 50%, zeroshot/scenes.acc1 at best"))?;
    assert_eq!(place.scaledown(&["run", "small.yaml", "-q"])?.status.code(), Some(0));
    assert!(place.path().join("results/small/milestones.csv").exists());
    place.write("small.yaml", SMALL)?;
    assert_eq!(place.scaledown(&["run", "small.yaml", "-q"])?.status.code(), Some(0));
    assert!(!place.path().join("results/small/milestones.csv").exists());
    Ok(())
}
