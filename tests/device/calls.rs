//! `.ci/gpu` on the stand-ins: its order, its time, its files, whatever a part of it does.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::standins;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const A: [&str; 9] = ["machine", "products", "replay", "steps", "kernels", "speed", "models", "bytes", "torch"];
const B: [&str; 6] = ["again", "models", "torch", "gradients", "verdicts", "memcheck"];
/// All that a call may leave.
const FILES: [&str; 6] = ["logs.tar.gz", "machine.txt", "parts.tsv", "rows.jsonl", "torch.jsonl", "verdicts.csv"];
/// Seconds of a call, and those that ending its last part may take.
const SECONDS: u64 = 18;
const SLACK: u64 = 30;

struct Place {
    standins: tempfile::TempDir,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Result<Option<Self>, std::io::Error> {
        let Some(standins) = standins::compiled()? else { return Ok(None) };
        Ok(Some(Self { standins, folder: tempfile::tempdir()? }))
    }

    fn start(&self, call: &str, program: &Path) -> Result<Child, std::io::Error> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("bash");
        standins::prepare(&mut command, self.standins.path());
        // Less than the largest product needs: on a CPU it would take minutes.
        command.env("STANDIN_MIB", "250").env("GPU_SECONDS", SECONDS.to_string()).env("TMPDIR", self.folder.path());
        command.arg(root.join(".ci/gpu")).arg(call).arg(program).arg(self.out(call));
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()
    }

    fn out(&self, call: &str) -> PathBuf {
        self.folder.path().join(call)
    }

    /// Parts with their exit codes, as far as there are.
    fn parts(&self, call: &str) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.out(call).join("parts.tsv")).unwrap_or_default();
        let part = |line: &str| {
            let mut cells = line.split('\t');
            Some((cells.next()?.to_owned(), cells.next()?.to_owned()))
        };
        text.lines().skip(1).filter_map(part).collect()
    }

    /// Panics unless the files are those that may be there, every row but a last one that was cut can be read, and the archive holds
    /// a log of every part.
    fn check(&self, call: &str) {
        let entries = std::fs::read_dir(self.out(call)).expect("the call made its folder");
        for entry in entries.map(|entry| entry.expect("an entry")) {
            let name = entry.file_name().into_string().expect("a plain name");
            // A call that is killed may leave the archive that it was making.
            let is_known = FILES.contains(&name.as_str()) || name == ".logs";
            assert!(is_known && entry.path().is_file(), "{name} is no file of a call");
        }
        let rows = std::fs::read_to_string(self.out(call).join("rows.jsonl")).expect("rows");
        let whole = rows.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
            assert!(row["row"].is_string(), "{line}");
        }
        assert!(whole.contains("\"row\":\"machine\",") && whole.contains("Stand-in"), "{rows}");
        let archive = self.out(call).join("logs.tar.gz");
        let list = Command::new("tar").arg("-tzf").arg(archive).output().expect("tar runs");
        assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
        let logs = String::from_utf8_lossy(&list.stdout).into_owned();
        for (part, code) in self.parts(call) {
            assert!(code == "left out" || logs.contains(&format!("logs/{part}.txt")), "no log of {part} in {logs}");
        }
    }
}

/// A program in front of the real one, for calls that have certain words.
fn wrapper(folder: &Path, cases: &str) -> Result<PathBuf, std::io::Error> {
    let path = folder.join("wrapped");
    let text = format!("#!/bin/sh\ncase \"$*\" in\n{cases}\nesac\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_scaledown"));
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[test]
fn both_calls_end_in_their_time_with_every_part_in_order() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    let program = Path::new(env!("CARGO_BIN_EXE_scaledown"));
    let begun = Instant::now();
    let mut calls = [place.start("A", program)?, place.start("B", program)?];
    for call in &mut calls {
        call.wait()?;
    }
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(SECONDS + SLACK), "{took:?}");
    for (call, expected) in [("A", &A[..]), ("B", &B[..])] {
        let parts: Vec<String> = place.parts(call).into_iter().map(|(part, _)| part).collect();
        assert_eq!(parts, expected, "{call}");
        place.check(call);
    }
    let machine = std::fs::read_to_string(place.out("A").join("machine.txt"))?;
    assert!(machine.contains("GPU 0      Stand-in"), "{machine}");
    Ok(())
}

#[test]
fn a_part_that_hangs_fails_or_is_killed_stops_nothing() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    let cases =
        "*'--only products'*) trap '' TERM; sleep 600 & wait;;\n*'--only steps'*) exit 3;;\n*'--only kernels'*) kill -9 $$;;";
    let program = wrapper(place.folder.path(), cases)?;
    let begun = Instant::now();
    let ended = place.start("A", &program)?.wait()?;
    assert!(begun.elapsed() <= Duration::from_secs(SECONDS + SLACK) && !ended.success());
    let parts = place.parts("A");
    let codes = |name: &str| parts.iter().find(|(part, _)| part == name).map(|(_, code)| code.as_str());
    assert!(matches!(codes("products"), Some("124" | "137")), "{parts:?}");
    assert_eq!((codes("steps"), codes("kernels")), (Some("3"), Some("137")), "{parts:?}");
    assert_eq!(parts.iter().map(|(part, _)| part.as_str()).collect::<Vec<_>>(), A);
    place.check("A");
    Ok(())
}

#[test]
fn a_call_that_is_killed_leaves_whole_what_it_had() -> Outcome {
    let Some(place) = Place::new()? else { return Ok(()) };
    let mut call = place.start("A", Path::new(env!("CARGO_BIN_EXE_scaledown")))?;
    let begun = Instant::now();
    while place.parts("A").len() < 3 && begun.elapsed() < Duration::from_secs(SECONDS + SLACK) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let group = i32::try_from(call.id())?;
    // SAFETY: a signal to the group of a child that is not waited for yet.
    assert_eq!(unsafe { libc::killpg(group, libc::SIGKILL) }, 0);
    call.wait()?;
    assert!(place.parts("A").len() >= 3);
    place.check("A");
    Ok(())
}
