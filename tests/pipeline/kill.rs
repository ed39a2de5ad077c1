//! `kill -9`, and signals that ask more kindly.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Rig, is_empty, program, snapshot, spawn, stepping, times_done};

const RUNS: u64 = 6;
const STEPS: u64 = 20;

/// Milliseconds in [0, below), spread but the same each time.
fn moment(number: u64, below: u64) -> Duration {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    Duration::from_millis(mixed % below)
}

#[test]
fn a_program_killed_at_any_moment_leaves_a_store_that_a_rerun_completes_to_the_same_bytes() {
    let whole = Rig::new(RUNS);
    whole.run(stepping(STEPS, Duration::ZERO));
    let expected = snapshot(whole.store.path());
    let took = || {
        let rig = Rig::new(RUNS);
        let start = Instant::now();
        let output = program(rig.store.path(), &rig.log(), RUNS, STEPS).output().unwrap();
        assert!(output.status.success());
        u64::try_from(start.elapsed().as_millis()).unwrap()
    };
    // The shortest of three: one that other work slowed down would put most moments after the end.
    let uninterrupted = took().min(took()).min(took()).max(20);
    let mut killed = 0;
    for number in 0..12 {
        let rig = Rig::new(RUNS);
        let mut child = spawn(&mut program(rig.store.path(), &rig.log(), RUNS, STEPS));
        std::thread::sleep(moment(number, uninterrupted));
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let outcome = rig.run(stepping(STEPS, Duration::ZERO));
        assert!(outcome.is_complete());
        assert_eq!(snapshot(rig.store.path()), expected);
        assert!(is_empty(&rig.store.path().join("running")), "nothing of the dead program is left");
        assert!(is_empty(&rig.store.path().join("work")));
    }
    assert!(killed >= 6, "only {killed} of 12 were killed at work");
}

#[test]
fn a_program_that_is_killed_again_and_again_gets_there() {
    let rig = Rig::new(3);
    for number in 0..8 {
        let mut child = spawn(&mut program(rig.store.path(), &rig.log(), 3, 60));
        std::thread::sleep(Duration::from_millis(60) + moment(number, 60));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(rig.run(stepping(60, Duration::ZERO)).is_complete());
    let whole = Rig::new(3);
    whole.run(stepping(60, Duration::ZERO));
    assert_eq!(snapshot(rig.store.path()), snapshot(whole.store.path()));
}

/// Waits until the child has begun so many jobs (or has ended) and has so many checkpoints.
fn wait_for(rig: &Rig, child: &mut Child, jobs: usize, checkpoints: usize) {
    let kept = || fs::read_dir(rig.store.path().join("work")).map_or(0, |work| work.flatten().filter(has_step).count());
    while times_done(&rig.log()).len() < jobs || kept() < checkpoints {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn has_step(work: &fs::DirEntry) -> bool {
    work.path().join("step").exists()
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // It may be gone already, which the caller finds out from its exit code.
    let _ = kill_process(pid, signal);
}

#[test]
fn term_stops_at_a_checkpoint_and_asks_to_be_put_back_in_the_queue() {
    let rig = Rig::new(2);
    let mut child = spawn(&mut program(rig.store.path(), &rig.log(), 2, 100_000));
    wait_for(&rig, &mut child, 0, 2);
    signal(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("interrupted: 2, asked to leave: true"), "{said}");
    assert!(!is_empty(&rig.store.path().join("work")), "checkpoints are there");
}

#[test]
fn the_third_interrupt_ends_a_program_that_hears_no_other_with_130() {
    let rig = Rig::new(2);
    let mut child = spawn(program(rig.store.path(), &rig.log(), 2, 1).env("SCALEDOWN_TEST_EACH_MS", "600000"));
    wait_for(&rig, &mut child, 7, 0);
    let mut sent = 0;
    while child.try_wait().unwrap().is_none() {
        signal(&child, Signal::INT);
        sent += 1;
        std::thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(sent >= 3, "{sent} were enough");
}
