//! Pages of results: what they hold, what they leave out, and what they do not overwrite.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};

use scaledown::claims::Statements;
use scaledown::jobs::rebuild;
use scaledown::record::{self, PointView, Records};
use scaledown::report::{Report, Study, experiment, index};
use scaledown::run::{RunRecord, RunStatus};

use crate::place::{Outcome, program, text_of as text};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `report` of committed results, run where their experiment files are.
fn report(folders: &[&str], to: &Path) -> Result<std::process::Output, Box<dyn Error>> {
    Ok(program().current_dir(root()).arg("report").args(folders).arg("--to").arg(to).output()?)
}

/// Every file below a folder, by its path from there.
fn files(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next)? {
            let path = entry?.path();
            match path.is_dir() {
                true => left.push(path),
                false => _ = found.insert(path.strip_prefix(folder)?.to_path_buf(), std::fs::read(&path)?),
            }
        }
    }
    Ok(found)
}

/// The report of records as they are in memory.
fn made(records: &Records, question: Option<&str>) -> Result<Report, Box<dyn Error>> {
    let findings = rebuild(records)?;
    let statements: Statements = serde_json::from_value(records.statements.clone())?;
    let source = Some("arXiv 2404.08197");
    let study = Study { records, statements: &statements, findings: &findings, question, source, timings: &[] };
    Ok(experiment(&study))
}

fn page(report: &Report) -> Result<String, Box<dyn Error>> {
    let file = report.files.iter().find(|file| file.name == "report.html").ok_or("there is no page")?;
    Ok(String::from_utf8(file.bytes.clone())?)
}

fn of_ci() -> Result<Records, Box<dyn Error>> {
    Ok(record::read(&root().join("results/ci"))?)
}

/// Elements that have no end.
const VOID: [&str; 6] = ["meta", "link", "input", "br", "hr", "img"];

/// Whether every element ends inside the one it began in, ids are unique, and nothing is loaded from elsewhere.
fn assert_sound(page: &str) {
    let (mut open, mut ids, mut rest) = (Vec::new(), BTreeSet::new(), page);
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        let name: String = tag.trim_start_matches('/').chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        if tag.starts_with('!') {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{tag}> ends another element");
            continue;
        }
        for (key, value) in tag.split_whitespace().filter_map(|part| part.split_once('=')) {
            let value = value.trim_matches(['"', '/']);
            assert!(key != "id" || ids.insert(value.to_owned()), "the id `{value}` stands twice");
            let is_near = value.starts_with('#') || value == "data:," || !value.contains(':');
            assert!(!["src", "href", "action"].contains(&key) || is_near, "{key} leads to {value}");
        }
        if ["script", "style"].contains(&name.as_str()) {
            let end = rest.find(&format!("</{name}")).expect("it ends");
            assert!(!rest[..end].contains("@import") && !rest[..end].contains("url("), "a {name} loads something");
            rest = &rest[end..];
        }
        if !VOID.contains(&name.as_str()) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "not ended: {open:?}");
}

#[test]
fn reports_of_committed_results_are_the_same_bytes_twice_and_hold_every_number_of_their_tables() -> Outcome {
    let place = tempfile::tempdir()?;
    let folders = ["results/quickstart", "results/small/strategies", "results/real/emoji"];
    let (first, second) = (place.path().join("a"), place.path().join("b"));
    for to in [&first, &second] {
        let done = report(&folders, to)?;
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    }
    let found = files(&first)?;
    assert_eq!(found, files(&second)?);
    for folder in folders {
        let name = folder.trim_start_matches("results/");
        let page = text(&found[&Path::new(name).join("report.html")]);
        assert_sound(&page);
        for entry in std::fs::read_dir(root().join(folder).join("tables"))? {
            let path = entry?.path();
            let table = std::fs::read_to_string(&path)?;
            if path.extension().is_some_and(|ending| ending == "csv") {
                let numbers = table.lines().flat_map(|line| line.split(',')).filter(|field| field.parse::<f64>().is_ok());
                numbers.for_each(|number| assert!(page.contains(number), "{}: {number}", path.display()));
            } else {
                // As people read them: `64.8 ± 0.3 (3)`.
                let rows = table.lines().filter(|line| line.starts_with('|'));
                let cells = rows.flat_map(|line| line.split(" | ")).filter(|cell| cell.contains(" ± "));
                cells
                    .map(|cell| cell.trim_matches(['|', ' ']))
                    .for_each(|cell| assert!(page.contains(cell), "{}: {cell}", path.display()));
            }
        }
    }
    assert_sound(&text(&found[Path::new("index.html")]));
    let page = text(&found[Path::new("small/strategies/report.html")]);
    assert!(page.contains("Stated when 21 of 84 runs had finished"), "what was stated late is said");
    assert!(page.contains("The paper's Figure 17a"), "the paper's curve stands beside ours");
    let svg = text(&found[Path::new("small/strategies/figures/fig17-1.svg")]);
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.contains("prefers-color-scheme"), "{svg}");
    let csv = text(&found[Path::new("small/strategies/figures/fig16.csv")]);
    assert!(csv.starts_with("train.strategy,data.train.size,x,zeroshot/scenes.acc1,spread,runs\nclip,500,500,"), "{csv}");
    serde_json::from_slice::<serde_json::Value>(&found[Path::new("small/strategies/figures/fig16.vl.json")])?;
    Ok(())
}

#[test]
fn a_fit_is_drawn_with_its_curve_and_a_frontier_as_stairs() -> Outcome {
    let mut records = record::read(&root().join("results/small/quantity"))?;
    let fit = serde_json::json!({
        "name": "more", "of": "zeroshot/scenes.acc1", "against": "samples_seen", "by": "data.train.size", "along": ["train.budget"], "frontier": true,
    });
    records.statements["fits"] = serde_json::json!([fit]);
    let report = made(&records, None)?;
    assert_sound(&page(&report)?);
    let file =
        |name: &str| report.files.iter().find(|file| file.name == name).map(|file| text(&file.bytes)).ok_or(format!("no {name}"));
    let (cells, drawn) = (15, file("figures/fit-more.csv")?.lines().count() - 1);
    assert!(drawn > cells, "{drawn} places of {cells} cells and of the one curve that is fitted");
    assert!(file("figures/frontier-more.svg")?.contains('H') && file("figures/frontier-more.csv")?.contains("\nfrontier,"));
    Ok(())
}

#[test]
fn texts_of_records_are_escaped() -> Outcome {
    let mut records = of_ci()?;
    let nasty = "</script><script>alert(1)</script>";
    for point in &mut records.points {
        point.labels.values_mut().for_each(|label| *label = format!("{label}{nasty}"));
    }
    records.runs[0].reason = Some(nasty.to_owned());
    let page = page(&made(&records, Some("is 1 < 2 & <script>alert(2)</script>?"))?)?;
    assert_sound(&page);
    assert_eq!(page.matches("</script>").count(), 2, "the page's own two");
    assert!(page.contains("is 1 &lt; 2 &amp; &lt;script&gt;alert(2)&lt;/script&gt;?"));
    Ok(())
}

#[test]
fn runs_that_did_not_finish_are_counted_and_say_why() -> Outcome {
    let mut records = of_ci()?;
    for (run, status, reason) in
        [(0, RunStatus::Failed, "no memory left"), (1, RunStatus::Diverged, "the loss is not finite at step 3")]
    {
        let run: &mut RunRecord = &mut records.runs[run];
        run.metrics.clear();
        (run.status, run.reason) = (status, Some(reason.to_owned()));
    }
    let page = page(&made(&records, None)?)?;
    assert_sound(&page);
    for said in [
        "4 runs: 2 finished, 1 diverged and 1 failed.",
        "failed: no memory left",
        "1 cell without a value",
        "Its one claim has no data.",
    ] {
        assert!(page.contains(said), "{said}");
    }
    Ok(())
}

#[test]
fn one_point_and_no_point_have_pages() -> Outcome {
    let mut records = of_ci()?;
    records.points.truncate(1);
    let ids = records.points[0].run_ids.clone();
    records.runs.retain(|run| ids.contains(&run.run_id));
    let one = page(&made(&records, None)?)?;
    assert_sound(&one);
    assert!(one.contains("class=\"figure\""), "one cell is drawn");
    records.points.clear();
    records.runs.clear();
    records.statements = serde_json::json!({ "tables": [], "claims": [] });
    let empty = made(&records, None)?;
    assert_sound(&page(&empty)?);
    assert_sound(&index(&[empty.summary]));
    assert_sound(&index(&[]));
    Ok(())
}

#[test]
fn a_table_that_is_called_as_a_frame_of_another_one_has_files_of_its_own() -> Outcome {
    let mut records = of_ci()?;
    let mut other = records.statements["tables"][0].clone();
    other["name"] = "zeroshot-1".into();
    other["values"] = serde_json::json!(["zeroshot/scenes.acc1"]);
    records.statements["tables"].as_array_mut().ok_or("no tables")?.push(other);
    let report = made(&records, None)?;
    assert_sound(&page(&report)?);
    let names: BTreeSet<&String> = report.files.iter().map(|file| &file.name).collect();
    assert_eq!(names.len(), report.files.len());
    assert!(names.contains(&"figures/zeroshot-1.2.csv".to_owned()), "{names:?}");
    Ok(())
}

#[test]
fn a_thousand_runs_make_a_page_of_less_than_5_mb_with_every_run_in_it() -> Outcome {
    let mut records = of_ci()?;
    let (run, point) = (records.runs[0].clone(), records.points[0].clone());
    let of = |idx: usize| RunRecord { run_id: format!("{idx:012x}"), ..run.clone() };
    records.runs = (0..1000).map(of).collect();
    let labels = |idx: usize| BTreeMap::from([("data.train.size".to_owned(), (100 + idx).to_string())]);
    records.points =
        (0..1000).map(|idx| PointView { labels: labels(idx), run_ids: vec![format!("{idx:012x}")], ..point.clone() }).collect();
    records.identities.clear();
    let report = made(&records, None)?;
    let page = page(&report)?;
    assert_sound(&page);
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
    assert!(records.runs.iter().all(|run| page.contains(&format!("<td>{}</td>", run.run_id))));
    Ok(())
}

/// The words of a command line.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut is_quoted) = (vec![String::new()], false);
    for letter in command.chars() {
        match letter {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            letter => words.last_mut().expect("there is a first").push(letter),
        }
    }
    words
}

#[test]
fn the_command_of_a_cell_plans_the_runs_of_that_cell() -> Outcome {
    for (name, at) in [("quickstart", 3), ("small/augmentation", 7), ("small/strategies", 9)] {
        let place = tempfile::tempdir()?;
        let records = record::read(&root().join("results").join(name))?;
        let page = page(&made(&records, None)?)?;
        let command =
            page.split("<code>scaledown run ").filter(|part| part.contains("--set sweep=null")).nth(at).ok_or("no command")?;
        let words = words(command.split("</code>").next().unwrap_or_default());
        // Its own folders are replaced by one that goes.
        let words = words.into_iter().filter(|word| !word.starts_with("again") && word != "--store" && word != "--results");
        let mut plan = program();
        plan.current_dir(root()).args(["plan", "--format", "json"]).args(words).arg("--store").arg(place.path());
        let done = plan.output()?;
        assert_eq!(done.status.code(), Some(0), "{command}: {}", text(&done.stderr));
        let planned: serde_json::Value = serde_json::from_slice(&done.stdout)?;
        let runs = planned["runs"].as_array().ok_or("no runs")?;
        let ids: Vec<&str> = runs.iter().filter_map(|run| run["run_id"].as_str()).collect();
        assert_eq!(ids, records.points[at].run_ids, "{name}");
    }
    Ok(())
}

#[test]
fn a_folder_that_is_no_report_is_left_alone_and_a_report_is_replaced() -> Outcome {
    let place = tempfile::tempdir()?;
    let to = place.path().join("pages");
    std::fs::create_dir(&to)?;
    std::fs::write(to.join("thesis.tex"), "mine")?;
    let refused = report(&["results/ci"], &to)?;
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("holds other files and is no report\nhint: name another folder"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(files(&to)?.len(), 1);

    let to = place.path().join("report");
    assert_eq!(report(&["results/ci", "results/quickstart"], &to)?.status.code(), Some(0));
    std::fs::write(to.join("note.md"), "mine")?;
    assert_eq!(report(&["results/ci"], &to)?.status.code(), Some(0));
    let found = files(&to)?;
    assert!(found.contains_key(Path::new("ci/report.html")) && found.contains_key(Path::new("note.md")));
    assert!(found.keys().all(|name| !name.starts_with("quickstart")), "what is no longer in the report goes");
    std::fs::create_dir_all(to.join("quickstart"))?;
    std::fs::write(to.join("quickstart/report.html"), "mine")?;
    let refused = report(&["results/quickstart"], &to)?;
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("quickstart/report.html is there, and no report wrote it"), "{}", text(&refused.stderr));

    for (folders, said) in [(&["experiments"][..], "has none below it"), (&["results/ci", "results/ci"][..], "was named before")] {
        let refused = report(folders, &place.path().join("other"))?;
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused.stderr).contains(said), "{}", text(&refused.stderr));
    }
    Ok(())
}
