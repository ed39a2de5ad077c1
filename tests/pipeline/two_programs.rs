//! Several programs on one store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use scaledown::executor::{Behaviour, JobState, Stage};
use scaledown::run::{Event, JobKind};
use scaledown::store::{Begin, Store};

use crate::common::{Rig, options, program, snapshot, spawn, stepping, succeed, times_done};

#[test]
fn two_programs_on_one_store_both_finish_and_no_job_is_done_twice() {
    let rig = Rig::new(30);
    let mut programs: Vec<_> = (0..2).map(|_| spawn(&mut program(rig.store.path(), &rig.log(), 30, 5))).collect();
    for program in programs.drain(..) {
        let output = program.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("complete: true"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    let times = times_done(&rig.log());
    assert_eq!(times.len(), rig.plan.len());
    assert!(times.values().all(|&times| times == 1), "{times:?}");
    let alone = Rig::new(30);
    alone.run(stepping(5, Duration::ZERO));
    assert_eq!(snapshot(rig.store.path()), snapshot(alone.store.path()));
}

#[test]
fn a_job_that_another_program_does_is_waited_for_and_adopted() {
    let rig = Rig::new(1);
    let other = Store::open(rig.store.path()).unwrap();
    let train = rig.train(0);
    let job = rig.plan.job(train).clone();
    std::thread::scope(|scope| {
        let Begin::Work(dir) = other.begin(&job.key, &job.spec).unwrap() else { panic!("the store is new") };
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            let timings = scaledown::store::Timings { wall_s: 0.1, cpu_s: 0.1, threads: 1 };
            let status = scaledown::store::JobStatus::Finished;
            let summary = serde_json::json!({});
            dir.commit(scaledown::store::Completion { status, reason: None, summary, timings }).unwrap();
        });
        let outcome = rig.run(succeed);
        assert!(outcome.is_complete());
        assert_eq!(outcome.states[train], JobState::Adopted);
    });
    assert_eq!(rig.count(|event| *event == Event::Adopted { job: train }), 1);
    assert_eq!(rig.count(|event| matches!(event, Event::Warning { message } if message.contains("works on this store too"))), 1);
}

#[test]
fn a_job_whose_holder_gives_up_is_done_after_all() {
    let rig = Rig::new(1);
    let other = Store::open(rig.store.path()).unwrap();
    let job = rig.plan.job(rig.train(0)).clone();
    std::thread::scope(|scope| {
        let Begin::Work(dir) = other.begin(&job.key, &job.spec).unwrap() else { panic!("the store is new") };
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            dir.abandon();
        });
        let outcome = rig.run(succeed);
        assert_eq!(outcome.states[rig.train(0)], JobState::Finished);
    });
}

#[test]
fn while_another_program_holds_one_job_the_others_are_done() {
    let mut rig = Rig::new(3);
    let left = AtomicUsize::new(rig.plan.len() - 3);
    rig.on_event = Box::new(move |event, shutdown| {
        if matches!(event, Event::Finished { .. }) && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            shutdown.request(Stage::Draining);
        }
    });
    let other = Store::open(rig.store.path()).unwrap();
    let job = rig.plan.job(rig.train(0)).clone();
    let Begin::Work(dir) = other.begin(&job.key, &job.spec).unwrap() else { panic!("the store is new") };
    let outcome =
        rig.run_with(&options(1), |job| if job.spec.kind() == JobKind::Report { Behaviour::Panic } else { Behaviour::Succeed });
    drop(dir);
    assert_eq!(outcome.waiting, [rig.train(0), rig.plan.runs()[0].evaluates[0], rig.plan.report().unwrap()]);
}
