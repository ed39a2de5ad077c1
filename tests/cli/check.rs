//! `check`: which records it judges, what it compares them with, what it refuses.

use std::path::Path;

use crate::place::{Outcome, Place, SMALL, program, text_of};

type Said = (Option<i32>, String, String);

impl Place {
    /// Exit code, stdout and stderr of a check.
    fn check(&self, args: &[&str]) -> Result<Said, Box<dyn std::error::Error>> {
        let output = self.scaledown(&[&["check"], args].concat())?;
        Ok((output.status.code(), text_of(&output.stdout), text_of(&output.stderr)))
    }
    /// Copies the results as committed ones.
    fn commit(&self) -> Outcome {
        copy(&self.path().join("results/small"), &self.path().join("committed"))
    }
}

fn copy(from: &Path, to: &Path) -> Outcome {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[test]
fn records_of_other_runs_are_not_judged_and_the_field_is_named() -> Outcome {
    let place = Place::with_results(SMALL)?;
    assert_eq!(place.check(&["small.yaml"])?.0, Some(0));
    for format in ["human", "json"] {
        let (code, out, err) = place.check(&["small.yaml", "--set", "train.batch_size=25", "--format", format])?;
        assert_eq!((code, out.as_str()), (Some(5), ""), "{err}");
        assert!(err.contains("`train.batch_size`: 20 in the record, 25 in the file"), "{err}");
        assert!(err.contains("4 of 4 runs of the file are not in it") && err.contains("hint: "), "{err}");
    }
    // More seeds than were run, and fewer.
    place.write("more.yaml", &SMALL.replace("seeds: 2", "seeds: 3"))?;
    let (code, _, err) = place.check(&["more.yaml"])?;
    assert_eq!(code, Some(5));
    assert!(err.contains("2 of 6 runs of the file are not in it") && err.contains("`seed`: "), "{err}");
    place.write("fewer.yaml", &SMALL.replace("seeds: 2", "seeds: 1"))?;
    let (code, _, err) = place.check(&["fewer.yaml"])?;
    assert!(code == Some(5) && err.contains("2 of 4 of its runs are not in the file"), "{err}");
    // The file's own claims are judged, not those that were stated when the records were made.
    place.write("strict.yaml", &SMALL.replace("limit: 100", "limit: -1"))?;
    let (code, out, _) = place.check(&["strict.yaml"])?;
    assert!(code == Some(5) && out.contains("refuted") && out.contains("is at most -1"), "{out}");
    Ok(())
}

#[test]
fn records_made_from_other_data_are_not_judged() -> Outcome {
    let source = "{ dataset: table, file: t.csv, image_column: image, caption_column: caption }";
    let place = Place::new(&SMALL.replace("{ dataset: scenes, size: 200 }", source))?;
    let mut rows = "image,caption\n".to_owned();
    for number in 0..24_u8 {
        let image = image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([(x * u32::from(number)) as u8, y as u8 * 9, number]));
        image.save_with_format(place.path().join(format!("{number}.png")), image::ImageFormat::Png)?;
        rows += &format!("{number}.png,picture number {number}\n");
    }
    place.write("t.csv", &rows)?;
    let run = place.scaledown(&["run", "small.yaml", "--device", "cpu", "-q"])?;
    assert_eq!(run.status.code(), Some(0), "{}", text_of(&run.stderr));
    assert_eq!(place.check(&["small.yaml"])?.0, Some(0));
    // Runs are known by their data: with another caption the file's runs are others.
    place.write("t.csv", &rows.replace("number 7", "number seven"))?;
    let (code, out, err) = place.check(&["small.yaml"])?;
    assert_eq!((code, out.as_str()), (Some(5), ""), "{err}");
    assert!(err.contains("other data") && err.contains("t.csv"), "{err}");
    Ok(())
}

#[test]
fn a_folder_is_not_compared_with_itself_however_its_path_is_written() -> Outcome {
    let place = Place::with_results(SMALL)?;
    let mut names = vec!["results/small", "./results/../results/small/", "results/small/."];
    if cfg!(unix) {
        #[cfg(unix)]
        std::os::unix::fs::symlink("results/small", place.path().join("link"))?;
        names.push("link");
    }
    for name in names {
        let (code, out, err) = place.check(&["small.yaml", "--against", name])?;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{name}: {err}");
        assert!(err.contains("itself") && err.contains("--run --against"), "{err}");
    }
    // A scratch folder that is kept may be the committed one too.
    copy(&place.path().join("results"), &place.path().join("kept/results"))?;
    let (code, _, err) = place.check(&["small.yaml", "--run", "--keep", "kept", "--against", "kept/results/small"])?;
    assert!(code == Some(2) && err.contains("itself"), "{err}");
    Ok(())
}

#[test]
fn a_check_may_run_anew_into_a_scratch_folder_and_compare() -> Outcome {
    let place = Place::with_results(SMALL)?;
    place.commit()?;
    // What lies in the results folder plays no part.
    std::fs::remove_dir_all(place.path().join("results"))?;
    std::fs::remove_dir_all(place.path().join(".scaledown"))?;
    let anew = ["small.yaml", "--run", "--device", "cpu", "-q", "--against", "committed", "--tolerance"];
    let (code, out, err) = place.check(&[&anew[..], &["0", "--tolerance", "loss=0%"]].concat())?;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let last = "0 cells drifted of 2 compared (tolerance 0, loss 0%); losses of 0 runs moved of 4 compared\n";
    assert!(out.ends_with(last), "{out}");
    assert!(!place.path().join("results").exists() && !place.path().join(".scaledown").exists());
    assert_eq!(std::fs::read_dir(place.path().join("tmp"))?.count(), 0, "the scratch folder is removed");

    let (code, _, err) = place.check(&[&anew[..], &["1", "--keep", "kept"]].concat())?;
    assert_eq!(code, Some(0), "{err}");
    assert!(place.path().join("kept/results/small/runs.csv").is_file());
    // Other runs than the committed ones are drift, with the field that differs.
    let (code, out, err) = place.check(&[&anew[..], &["100", "--set", "train.weight_decay=0.5"]].concat())?;
    assert_eq!(code, Some(5), "{err}");
    assert!(out.contains("drift: runs of committed: ") && out.contains("weight_decay"), "{out}");
    Ok(())
}

#[test]
fn other_seeds_are_compared_by_how_far_seeds_scatter() -> Outcome {
    let place = Place::with_results(SMALL)?;
    place.commit()?;
    let other = ["small.yaml", "--run", "--device", "cpu", "-q", "--set", "sweep.seeds=[7, 8]", "--against", "committed"];
    let (code, out, err) = place.check(&other)?;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let last = "0 cells or means drifted of 2 cells compared (other seeds: t tests with the spread of both sides, Holm 5 %)\n";
    assert!(out.ends_with(last), "{out}");
    // Records of a training that came to much more, whatever its seeds.
    std::fs::remove_file(place.path().join("committed/outcomes.csv"))?;
    let committed = place.path().join("committed/runs.csv");
    let moved = std::fs::read_to_string(&committed)?;
    let mut lines = moved.lines();
    let header: Vec<&str> = lines.next().ok_or("no header")?.split(',').collect();
    let column = header.iter().position(|name| *name == "zeroshot/scenes.acc1").ok_or("no column")?;
    let shifted = lines.enumerate().map(|(idx, line)| {
        let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
        fields[column] = format!("{}", 90 + idx % 2);
        fields.join(",")
    });
    let text = [header.join(",")].into_iter().chain(shifted).map(|line| line + "\n").collect::<String>();
    std::fs::write(&committed, text)?;
    let (code, out, err) = place.check(&[&other[..], &["--format", "json"]].concat())?;
    let json: serde_json::Value = serde_json::from_str(&out).map_err(|error| format!("{error}: {err}"))?;
    assert_eq!((code, &json["other_seeds"]["level"]), (Some(5), &0.05.into()), "{out}");
    let kinds: Vec<&serde_json::Value> = json["drift"].as_array().ok_or("no list")?.iter().map(|drift| &drift["kind"]).collect();
    assert_eq!(kinds, ["moved", "moved", "moved"], "two cells and their mean: {out}");
    // Seeds that overlap are other runs, as they were.
    let overlapping = ["small.yaml", "--run", "--device", "cpu", "-q", "--set", "sweep.seeds=[1, 2]", "--against", "committed"];
    let (code, out, _) = place.check(&overlapping)?;
    assert!(code == Some(5) && out.contains("drift: runs of committed: "), "{out}");
    Ok(())
}

/// Accuracies of a small sweep stay where they are when losses move by a ten thousandth.
#[test]
fn a_loss_that_moved_by_more_than_rounding_does_is_drift() -> Outcome {
    let place = Place::with_results(SMALL)?;
    place.commit()?;
    let curves = std::fs::read_to_string(place.path().join("committed/curves.csv"))?;
    let second = curves.lines().nth(2).unwrap_or_default().to_owned();
    let fields: Vec<&str> = second.split(',').collect();
    let loss: f64 = fields[3].parse()?;
    let check = |by: f64, more: &[&str]| {
        let mut moved: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        moved[3] = (loss * (1.0 + by)).to_string();
        place.write("committed/curves.csv", &curves.replacen(&second, &moved.join(","), 1))?;
        place.check(&[&["small.yaml", "--against", "committed"][..], more].concat())
    };
    let (code, out, _) = check(1e-6, &[])?;
    assert!(code == Some(0) && out.contains("losses of 0 runs moved of 4 compared"), "{out}");
    let (code, out, _) = check(1e-4, &[])?;
    let says = format!("drift: curves (run_id={}): loss {loss:.7} at step {}, committed ", fields[0], fields[1]);
    assert!(code == Some(5) && out.contains(&says) && out.contains("1.0e-2% away, tolerance 0.001%"), "{out}");
    let (code, out, _) = check(1e-4, &["--format", "json"])?;
    let json: serde_json::Value = serde_json::from_str(&out)?;
    assert_eq!((code, &json["losses"]), (Some(5), &serde_json::json!({ "compared": 4, "moved": 1 })));
    assert_eq!((&json["drift"][0]["kind"], &json["cells"]["drifted"]), (&"loss".into(), &0.into()));
    assert_eq!(check(1e-4, &["--tolerance", "loss=1%"])?.0, Some(0));
    assert_eq!(check(0.02, &["--tolerance", "loss=1%"])?.0, Some(5));
    Ok(())
}

#[test]
fn every_cell_that_moved_is_listed_with_its_tolerance() -> Outcome {
    let place = Place::with_results(SMALL)?;
    place.commit()?;
    let table = std::fs::read_to_string(place.path().join("committed/tables/zeroshot.csv"))?;
    let moved: Vec<String> = table
        .lines()
        .map(|line| {
            let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
            if let (true, Ok(mean)) = (line.starts_with("1e-3,"), fields[2].parse::<f64>()) {
                fields[2] = (mean + 3.0).to_string();
            }
            fields.join(",")
        })
        .collect();
    place.write("committed/tables/zeroshot.csv", &format!("{}\n", moved.join("\n")))?;
    let against = ["small.yaml", "--against", "committed", "--tolerance"];
    let check = |more: &[&str]| place.check(&[&against[..], more].concat());
    assert_eq!(check(&["3"])?.0, Some(0));
    assert_eq!(check(&["0", "--tolerance", "zeroshot/scenes.acc1=3"])?.0, Some(0));
    assert_eq!(check(&["0.1%"])?.0, Some(5));
    let (code, out, err) = check(&["1", "--tolerance", "zeroshot/scenes.acc1=2", "--format", "json"])?;
    assert_eq!(code, Some(5), "{err}");
    let json: serde_json::Value = serde_json::from_str(&out)?;
    assert_eq!(json["cells"], serde_json::json!({ "compared": 2, "within": 1, "drifted": 1 }));
    assert_eq!(json["tolerance"], serde_json::json!({ "default": "1", "metrics": { "zeroshot/scenes.acc1": "2" } }));
    let drift = &json["drift"][0];
    assert_eq!((&drift["kind"], &drift["cell"]["train.lr"], &drift["tolerance"]), (&"mean".into(), &"1e-3".into(), &"2".into()));
    let difference = drift["ours"].as_f64().zip(drift["committed"].as_f64()).map(|(ours, committed)| ours - committed);
    assert!(difference.is_some_and(|difference| (difference + 3.0).abs() < 1e-9), "{drift}");
    assert_eq!((&json["claims"][0]["expected"], &json["as_expected"]), (&"supported".into(), &false.into()));
    // A cell on one side only.
    place.write("committed/tables/zeroshot.csv", &table.lines().take(2).map(|line| format!("{line}\n")).collect::<String>())?;
    let (code, out, _) = check(&["9"])?;
    assert!(code == Some(5) && out.contains("there now, but not committed"), "{out}");
    std::fs::remove_file(place.path().join("committed/tables/zeroshot.csv"))?;
    let (code, out, _) = check(&["9"])?;
    assert!(code == Some(5) && out.contains("drift: zeroshot: there now, but not committed"), "{out}");
    Ok(())
}

#[test]
fn tolerances_and_folders_that_mean_nothing_are_refused() -> Outcome {
    let place = Place::with_results(SMALL)?;
    place.commit()?;
    for tolerance in ["-1", "nan", "zeroshot/scenes.acc2=1", "loss=-1%", "1 point"] {
        let (code, out, err) = place.check(&["small.yaml", "--against", "committed", "--tolerance", tolerance])?;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{tolerance}: {err}");
    }
    let (_, _, err) = place.check(&["small.yaml", "--against", "committed", "--tolerance", "zeroshot/scenes.acc2=1"])?;
    assert!(err.contains("unknown metric `zeroshot/scenes.acc2`") && err.contains("zeroshot/scenes.acc1"), "{err}");
    let (code, _, err) = place.check(&["small.yaml", "small.yaml", "--against", "committed"])?;
    assert!(code == Some(2) && err.contains("one folder"), "{err}");
    assert_eq!(place.check(&["small.yaml", "--against", "nowhere"])?.0, Some(6));
    // A committed cell that is no number.
    place.edit("committed/tables/zeroshot.csv", "zeroshot/scenes.acc1,", "zeroshot/scenes.acc1,nan")?;
    let (code, _, err) = place.check(&["small.yaml", "--against", "committed"])?;
    assert!(code == Some(6) && err.contains("committed/tables/zeroshot.csv"), "{code:?} {err}");
    // Records of another layout.
    place.edit("committed/provenance.json", "\"format\": ", "\"format\": 9")?;
    place.edit("committed/tables/zeroshot.csv", "acc1,nan", "acc1,")?;
    let (code, _, err) = place.check(&["small.yaml", "--against", "committed"])?;
    assert!(code == Some(6) && err.contains("format version"), "{code:?} {err}");
    Ok(())
}

#[test]
fn two_seeds_leave_a_claim_undecided_and_the_output_says_why() -> Outcome {
    let place = Place::with_results(&SMALL.replace("    confidence: none\n", ""))?;
    let (code, out, _) = place.check(&["small.yaml"])?;
    assert_eq!(code, Some(5), "{out}");
    assert!(out.contains("undecided") && out.contains("2 seeds, at least 3 are needed"), "{out}");
    let json: serde_json::Value = serde_json::from_str(&place.check(&["small.yaml", "--format", "json"])?.1)?;
    let claim = &json["claims"][0];
    assert_eq!((&claim["verdict"], &claim["notes"][0]), (&"undecided".into(), &"2 seeds, at least 3 are needed".into()));
    assert!(std::fs::read_to_string(place.path().join("results/small/claims.csv"))?.contains("2 seeds, at least 3 are needed"));
    Ok(())
}

#[test]
fn tables_that_others_made_of_runs_are_judged_with_their_spread() -> Outcome {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    let claim = "claims:\n  - { id: c, says: s, cells: { where: {} }, test: { greater: { left: { cell: { model: a } }, right: { cell: { model: b } } } } }\n";
    write("claims.yaml", claim)?;
    let said = |table: &str| -> Result<serde_json::Value, Box<dyn std::error::Error>> {
        write("a.csv", table)?;
        let args = ["check", "claims.yaml", "--values", "a.csv", "--format", "json"];
        let output = program().current_dir(folder.path()).args(args).output()?;
        Ok(serde_json::from_str::<serde_json::Value>(&text_of(&output.stdout))?["claims"][0].clone())
    };
    // Pooled: sd 1 of both, error sqrt(2 / 3), 4 degrees of freedom: t(0.975) = 2.776, half the width 2.267.
    let far = said("model,mean,stddev,n\na,52.3,1,3\nb,50,1,3\n")?;
    assert_eq!(far["verdict"], "supported", "{far}");
    assert!(far["comparisons"][0]["band"].as_f64().is_some_and(|band| (band - 2.267).abs() < 1e-3), "{far}");
    let near = said("model,mean,stddev,n\na,52.2,1,3\nb,50,1,3\n")?;
    assert_eq!((&near["verdict"], near["comparisons"][0]["seeds_needed"].as_u64()), (&"undecided".into(), Some(4)), "{near}");
    let two = said("model,mean,stddev,n\na,60,1,2\nb,50,1,3\n")?;
    assert_eq!(
        (&two["verdict"], &two["comparisons"][0]["reason"]),
        (&"undecided".into(), &"2 runs, at least 3 are needed".into()),
        "{two}"
    );
    Ok(())
}

#[test]
fn csv_files_without_values_say_what_they_lack() -> Outcome {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    write("claims.yaml", "claims:\n  - { id: c, says: s, cells: { where: {} }, test: { best: { along: model, is: a } } }\n")?;
    write("none.yaml", "claims: []\n")?;
    write("good.csv", "model,value\na,5\nb,3\n")?;
    write("costs.csv", "model,gmacs\na,5\nb,3\n")?;
    write("slip.csv", "model,Value\na,5\nb,3\n")?;
    write("words.csv", "model,value\na,much\nb,little\n")?;
    write("twice.csv", "model,value,value\na,5,6\n")?;
    write("empty.csv", "")?;
    let check = |claims: &str, values: &[&str]| -> Result<(Option<i32>, String), Box<dyn std::error::Error>> {
        let mut command = program();
        let output = command.current_dir(folder.path()).args(["check", claims, "--values"]).args(values).output()?;
        Ok((output.status.code(), text_of(&output.stderr)))
    };
    assert_eq!(check("claims.yaml", &["good.csv"])?, (Some(0), String::new()));
    for (values, said) in [
        (&["costs.csv"][..], "costs.csv: has no column `value` or `mean`; its columns are `model`, `gmacs`"),
        (&["good.csv", "slip.csv"], "hint: rename the column `Value`"),
        (&["words.csv"], "words.csv:3: column `value` is `little`, expected a number"),
        (&["words.csv", "twice.csv"], "twice.csv:1: column `value` is there twice, as columns 2 and 3"),
        (&["empty.csv"], "empty.csv: is empty"),
    ] {
        let (code, err) = check("claims.yaml", values)?;
        assert_eq!(code, Some(3), "{values:?}: {err}");
        assert!(err.contains(said), "{values:?}: {err}");
    }
    let (code, err) = check("claims.yaml", &["good.csv", "costs.csv"])?;
    assert!(code == Some(0) && err.contains("warning: costs.csv: has no column `value`"), "{err}");
    let (code, err) = check("none.yaml", &["good.csv"])?;
    assert!(code == Some(3) && err.contains("none.yaml: states no claims"), "{err}");
    Ok(())
}
