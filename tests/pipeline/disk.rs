//! Disks that are full or read-only.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Rig, is_empty, program, snapshot, succeed};

#[test]
fn a_file_over_the_limit_is_a_clear_error_and_leaves_no_half_written_result() {
    let rig = Rig::new(4);
    let output = program(rig.store.path(), &rig.log(), 4, 1).env("SCALEDOWN_TEST_FSIZE", "300").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "it is not killed by a signal: {said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("complete: false") && said.contains("environment: cannot write "), "{said}");
    assert!(said.contains("hint: the file is over the limit on file sizes"), "{said}");
    assert!(rig.store.finished().unwrap().is_empty());
    assert!(is_empty(&rig.store.path().join("running")), "nothing half written stays");
    assert!(rig.run(succeed).is_complete(), "with more room the same store is completed");
}

#[test]
fn results_are_replaced_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("runs.csv");
    scaledown::store::write_atomic(&results, b"old").unwrap();
    fs::create_dir(folder.path().join("blocked.csv")).unwrap();
    let error = scaledown::store::write_atomic(&folder.path().join("blocked.csv"), b"new").unwrap_err();
    assert!(error.to_string().contains("blocked.csv"));
    assert_eq!(fs::read(&results).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_read_only_store_can_be_read_and_says_why_it_cannot_be_written() {
    let rig = Rig::new(2);
    rig.run(succeed);
    let before = snapshot(rig.store.path());
    let Some(nothing) = read_only(rig.store.path(), &program(rig.store.path(), &rig.log(), 2, 1)) else { return };
    assert!(nothing.contains("complete: true"), "all is there, so nothing is written: {nothing}");
    let more = read_only(rig.store.path(), &program(rig.store.path(), &rig.log(), 3, 1)).unwrap();
    assert!(more.contains("complete: false") && more.contains("environment: cannot create "), "{more}");
    assert!(more.contains("put the store elsewhere") || more.contains("put it elsewhere"), "{more}");
    assert_eq!(snapshot(rig.store.path()), before);
}

/// What a program says that sees `path` read-only: by permission bits, or for root, whom these do not bind, by a mount of
/// its own.
fn read_only(path: &Path, program: &Command) -> Option<String> {
    let mut command;
    if rustix::process::geteuid().is_root() {
        let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"";
        command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]).arg(path).arg(program.get_program()).args(program.get_args());
    } else {
        command = Command::new("sh");
        let script =
            "find \"$0\" -type d -exec chmod a-w {} + ; \"$@\"; code=$?; find \"$0\" -type d -exec chmod u+w {} + ; exit $code";
        command.args(["-c", script]).arg(path).arg(program.get_program()).args(program.get_args());
    }
    for (name, value) in program.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command.output().ok()?;
    if !output.status.success() {
        println!("skipped: cannot make a folder read-only here: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
