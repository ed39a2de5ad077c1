//! Bad experiment files and what is said about them.
//!
//! Every `tests/fixtures/bad/*.yaml` has its exact messages in `tests/golden/spec_errors/`. A file's first comments say how it
//! is loaded: `# class:` (what it is an example of), `# set:` (an override), `# env:` (a variable that is set). Goldens are
//! rewritten with `SCALEDOWN_UPDATE_GOLDEN=1` and reviewed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use scaledown::data::philox4x32;
use scaledown::spec::{self, LoadOptions, SpecErrors};

struct Case {
    name: String,
    class: String,
    errors: SpecErrors,
}

fn directives(text: &str, key: &str) -> Vec<String> {
    let prefix = format!("# {key}: ");
    text.lines().take_while(|l| l.starts_with('#')).filter_map(|l| l.strip_prefix(&prefix)).map(str::to_owned).collect()
}

fn load(path: &Path) -> Case {
    let text = fs::read_to_string(path).unwrap();
    let env: BTreeMap<String, String> = directives(&text, "env")
        .iter()
        .map(|line| line.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let options = LoadOptions { set: directives(&text, "set"), env: &|name| env.get(name).cloned(), ..LoadOptions::default() };
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let errors = if name.starts_with("claims-") {
        spec::load_claims(path, &options).map(drop).expect_err(&name)
    } else {
        spec::load(path, &options).map(drop).expect_err(&name)
    };
    Case { class: directives(&text, "class").concat(), name, errors }
}

fn cases() -> Vec<Case> {
    let mut paths: Vec<PathBuf> = fs::read_dir("tests/fixtures/bad")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    paths.sort();
    paths.iter().map(|path| load(path)).collect()
}

#[test]
fn every_bad_file_says_what_its_golden_says() {
    let update = std::env::var_os("SCALEDOWN_UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let golden = PathBuf::from(format!("tests/golden/spec_errors/{}.txt", case.name));
        let said = format!("{}\n", case.errors);
        if update {
            fs::write(&golden, &said).unwrap();
        } else if fs::read_to_string(&golden).ok().as_deref() != Some(said.as_str()) {
            wrong.push(format!("--- {} ---\n{said}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "messages differ from their goldens:\n{}", wrong.join("\n"));
}

#[test]
fn the_bad_files_cover_what_people_get_wrong() {
    let cases = cases();
    let classes: BTreeSet<&str> = cases.iter().map(|c| c.class.as_str()).collect();
    assert!(cases.len() >= 30, "{} files", cases.len());
    for class in [
        "syntax",
        "duplicate",
        "type",
        "unknown key",
        "unit",
        "axis",
        "when/exclude",
        "base",
        "env",
        "--set",
        "budget",
        "model shape",
        "data",
        "evaluate",
        "table",
        "claim",
    ] {
        assert!(classes.contains(class), "no file of class {class}");
    }
    let several = cases.iter().filter(|c| c.errors.diagnostics().len() > 1).count();
    assert!(several >= 8, "{several} files with several problems");
    let in_base = |case: &&Case| {
        case.errors.diagnostics().iter().filter_map(|d| d.span).any(|s| case.errors.sources().file(s.file).name.contains("/base/"))
    };
    let in_base = cases.iter().filter(in_base).count();
    assert!(in_base >= 5, "{in_base} files whose mistake lies in a base");
}

#[test]
fn every_golden_belongs_to_a_bad_file() {
    for entry in fs::read_dir("tests/golden/spec_errors").unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        assert!(Path::new(&format!("tests/fixtures/bad/{name}.yaml")).exists(), "{name} has no file");
    }
}

#[test]
fn the_terminal_form_underlines_every_place() {
    for case in cases() {
        let mut out = String::new();
        let handler = miette::NarratableReportHandler::new();
        handler.render_report(&mut out, &case.errors.report()).unwrap();
        for diagnostic in case.errors.diagnostics() {
            let first = diagnostic.message.lines().next().unwrap();
            assert!(out.contains(first), "{}: {first} not in\n{out}", case.name);
        }
    }
}

/// Pieces that make YAML fall over, beside what the files themselves hold.
const PIECES: [&str; 24] = [
    "{", "}", "[", "]", ":", ": ", "- ", "\n", "  ", "\t", "\"", "'", "&a ", "*a", "!!x ", "${", "${A}", "#", "|", "null", "9e99",
    "-1", "\u{feff}", "é",
];

/// Numbers below a bound, the same in every run of the tests.
struct Draws(u32);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 += 1;
        philox4x32([self.0, 0, 0, 0], [0, 0])[0] as usize % bound
    }
}

/// One to four pieces taken out, put in, or moved.
fn damaged(text: &str, draws: &mut Draws) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..1 + draws.below(4) {
        if chars.is_empty() {
            break;
        }
        let (at, from, len) = (draws.below(chars.len()), draws.below(chars.len()), draws.below(12));
        let piece = PIECES[draws.below(PIECES.len())].chars();
        let end = (at + len).min(chars.len());
        let moved: Vec<char> = chars[from..(from + 3 * len).min(chars.len())].to_vec();
        match draws.below(4) {
            0 => drop(chars.splice(at..end, piece)),
            1 => drop(chars.splice(at..at, piece)),
            2 => drop(chars.splice(at..end, moved)),
            _ => drop(chars.splice(at..at, moved)),
        }
    }
    chars.into_iter().collect()
}

#[test]
fn no_damage_to_a_file_makes_the_program_panic() {
    let valid = fs::read_to_string("tests/fixtures/spec/data-quality.yaml").unwrap();
    let whole = fs::read_to_string("tests/fixtures/spec/base/scenes-small.yaml").unwrap();
    let text =
        format!("{}{whole}", valid.replace("base: base/scenes-small.yaml\n", "").replace("data:\n  quality", "x-data:\n  quality"));
    let path = Path::new("tests/fixtures/spec/damaged.yaml");
    let (mut draws, mut refused) = (Draws(0), 0);
    for case in 0..1500 {
        let damaged = damaged(if case % 2 == 0 { &text } else { &valid }, &mut draws);
        let load = || match spec::load_str(path, &damaged, &LoadOptions::default()) {
            Ok(spec) => {
                drop(spec.label(0, "train.budget"));
                false
            }
            Err(errors) => {
                assert!(!errors.diagnostics().is_empty(), "refused without a reason");
                let _ = (errors.to_string(), errors.report().to_string());
                true
            }
        };
        let outcome = std::panic::catch_unwind(load);
        refused += usize::from(outcome.unwrap_or_else(|_| panic!("a panic on:\n{damaged}")));
    }
    assert!(refused > 750, "{refused} of 1500 damaged files are refused");
}
