//! The house: imports follow the pipeline, every kernel has its op and its header, every experiment parses.

mod imports;

use std::path::{Path, PathBuf};

use imports::{Crate, name};
use scaledown::run::{DeviceKind, Precision};
use scaledown::spec::{LoadOptions, load};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, std::io::Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Rooms that a room must not import.
const FORBIDDEN: [(&str, &[&str]); 13] = [
    (
        "machine",
        &[
            "run", "spec", "grid", "plan", "store", "executor", "jobs", "data", "trainer", "record", "tables", "claims", "cli",
            "progress", "report",
        ],
    ),
    (
        "run",
        &[
            "spec", "grid", "plan", "store", "executor", "jobs", "data", "trainer", "record", "tables", "claims", "cli",
            "progress", "report",
        ],
    ),
    (
        "data",
        &[
            "spec", "grid", "plan", "store", "executor", "jobs", "trainer", "record", "tables", "claims", "cli", "progress",
            "report",
        ],
    ),
    ("trainer", &["spec", "grid", "plan", "store", "executor", "jobs", "record", "tables", "claims", "cli", "progress", "report"]),
    ("grid", &["plan", "store", "executor", "jobs", "data", "trainer", "record", "cli", "progress", "report"]),
    (
        "plan",
        &[
            "spec", "grid", "store", "executor", "jobs", "data", "trainer", "record", "tables", "claims", "cli", "progress",
            "report",
        ],
    ),
    ("store", &["spec", "grid", "executor", "jobs", "data", "trainer", "record", "tables", "claims", "cli", "progress", "report"]),
    ("executor", &["spec", "grid", "jobs", "data", "trainer", "record", "tables", "claims", "cli", "progress", "report"]),
    (
        "record",
        &["spec", "grid", "plan", "store", "executor", "jobs", "data", "trainer", "tables", "claims", "cli", "progress", "report"],
    ),
    ("tables", &["spec", "grid", "plan", "store", "executor", "jobs", "data", "trainer", "claims", "cli", "progress", "report"]),
    ("claims", &["spec", "grid", "plan", "store", "executor", "jobs", "data", "trainer", "cli", "progress", "report"]),
    ("progress", &["spec", "grid", "plan", "store", "jobs", "data", "trainer", "record", "tables", "claims", "cli", "report"]),
    ("report", &["spec", "grid", "plan", "store", "executor", "jobs", "data", "trainer", "cli", "progress"]),
];

/// Circles of modules that are still to be undone. An entry that is no circle any more has to go.
const CIRCLES: [&[&str]; 2] = [
    &["spec::build", "spec::load", "spec::naming", "spec::statements", "spec::sweep", "spec::valid"],
    &["spec::sweep::axes", "spec::sweep::conditions", "spec::sweep::read"],
];

/// The modules of the program.
fn modules() -> Crate {
    modules_of(Path::new("src"))
}

/// The modules of a crate whose `lib.rs` is in this folder.
fn modules_of(root: &Path) -> Crate {
    Crate::read(&|place| {
        let beside = place.split_last().map_or_else(
            || root.join("lib.rs"),
            |(last, above)| above.iter().fold(root.to_path_buf(), |folder, name| folder.join(name)).join(format!("{last}.rs")),
        );
        let inside = place.iter().fold(root.to_path_buf(), |folder, name| folder.join(name)).join("mod.rs");
        [beside, inside].iter().find_map(|path| std::fs::read_to_string(path).ok())
    })
}

#[test]
fn imports_follow_the_pipeline() {
    let mut wrong = Vec::new();
    for (from, to) in modules().uses() {
        let (Some(room), Some(other)) = (from.first(), to.first()) else { continue };
        if FORBIDDEN.iter().any(|(of, forbidden)| of == room && forbidden.contains(&other.as_str())) {
            wrong.push(format!("{} imports {}", name(&from), name(&to)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn modules_do_not_import_each_other_in_circles() {
    let circles = modules().circles();
    let (known, new): (Vec<_>, Vec<_>) =
        circles.iter().partition(|circle| CIRCLES.iter().any(|known| circle.iter().eq(known.iter())));
    assert!(new.is_empty(), "circles of imports: {new:#?}");
    assert_eq!(known.len(), CIRCLES.len(), "a circle that was undone is still in the list: {CIRCLES:?}");
    let circles = modules_of(Path::new("src/trainer/ops")).circles();
    assert!(circles.is_empty(), "circles of imports among the ops: {circles:#?}");
}

#[test]
fn every_kernel_file_has_its_op_and_says_what_it_computes() -> Outcome {
    let modules = scaledown::trainer::backend::cuda::modules();
    for path in files(Path::new("kernels"), "cu")? {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(modules.iter().any(|module| module.name == name), "kernels/{name}.cu is in no module list");
        assert!(
            Path::new("src/trainer/ops").join(name).join("cuda.rs").is_file(),
            "kernels/{name}.cu has no src/trainer/ops/{name}/cuda.rs"
        );
        let text = std::fs::read_to_string(&path)?;
        let header: String = text.lines().take_while(|line| line.starts_with("//")).collect();
        for part in ["Arguments", "ecomposition", "CPU reference", "Source"] {
            assert!(header.contains(part), "the header of kernels/{name}.cu does not say its `{part}`");
        }
        assert!(text.is_ascii(), "kernels/{name}.cu is not ASCII");
        assert!(!text.contains("asm"), "kernels/{name}.cu has inline PTX: it belongs in ptx.cuh");
    }
    for path in files(Path::new("kernels"), "cuh")? {
        let text = std::fs::read_to_string(&path)?;
        assert!(text.starts_with("// ") && text.is_ascii(), "{} does not say what it is", path.display());
        assert!(path.ends_with("ptx.cuh") || !text.contains("asm"), "{} has inline PTX: it belongs in ptx.cuh", path.display());
    }
    Ok(())
}

#[test]
fn every_experiment_parses() -> Outcome {
    let options = LoadOptions {
        env: &|name| (name == "DATA").then(|| "/data".to_string()),
        device: DeviceKind::Cpu,
        precision: Precision::F32,
        cost: &scaledown::trainer::cost::gmacs_per_sample,
        ..LoadOptions::default()
    };
    let mut parsed = 0;
    for path in files(Path::new("experiments"), "yaml")? {
        let name = path.display().to_string();
        if name.contains("/base/") || name.contains("/claims/") {
            continue;
        }
        let spec = load(&path, &options).map_err(|errors| format!("{name}:\n{errors}"))?;
        assert!(!spec.tables.is_empty(), "{name} states no table");
        let text = std::fs::read_to_string(&path)?;
        assert!(text.starts_with("# ") && text.contains("# Command"), "{name} has no header with its question and command");
        parsed += 1;
    }
    assert!(parsed >= 5, "{parsed} experiments");
    Ok(())
}

#[test]
fn files_stay_readable() -> Outcome {
    let mut long = Vec::new();
    for path in files(Path::new("src"), "rs")?.into_iter().chain(files(Path::new("kernels"), "cu")?) {
        let lines = std::fs::read_to_string(&path)?.lines().count();
        if lines > 600 {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "files over 600 lines: {long:#?}");
    Ok(())
}

#[test]
fn what_a_test_leaves_out_begins_with_skipped() -> Outcome {
    // `.ci/run` collects such lines.
    for path in files(Path::new("src"), "rs")?.into_iter().chain(files(Path::new("tests"), "rs")?) {
        let text = std::fs::read_to_string(&path)?;
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("println!(\"") && line.contains("skip")) {
            assert!(line.starts_with("println!(\"skipped: "), "{}: {line}", path.display());
        }
    }
    Ok(())
}

#[test]
fn no_slice_is_made_from_a_pointer_to_one_element() -> Outcome {
    // Such a pointer reaches that element alone, whatever lies behind it.
    for path in files(Path::new("src"), "rs")? {
        let text = std::fs::read_to_string(&path)?;
        for call in text.split("from_raw_parts").skip(1) {
            let start = call.split(',').next().unwrap_or_default();
            assert!(!start.contains(['&', '[']), "{}: a slice from `{}`", path.display(), start.trim());
        }
    }
    Ok(())
}
