//! Several programs on one store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use scaledown::executor::{JobState, Stage};
use scaledown::run::{Event, JobKind};
use scaledown::store::{Begin, Store};

use crate::common::{Rig, options, program, snapshot, spawn, stepping, succeed, times_done};
use crate::fake::Behaviour;

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
fn a_job_that_another_program_does_is_waited_for_and_taken() {
    let rig = Rig::new(1);
    let other = Store::open(rig.store.path()).unwrap();
    let train = rig.train(0);
    let job = rig.plan.job(train).clone();
    std::thread::scope(|scope| {
        let Begin::Work(dir) = other.begin(&job.key, &job.spec).unwrap() else { panic!("the store is new") };
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            let timings = scaledown::store::Timings { wall_s: 0.1, cpu_s: 0.1, threads: 1, samples: None };
            let status = scaledown::store::JobStatus::Finished;
            let summary = serde_json::json!({});
            dir.commit(scaledown::store::Completion { status, reason: None, summary, timings }).unwrap();
        });
        let outcome = rig.run(succeed);
        assert!(outcome.is_complete());
        assert_eq!(outcome.states[train], JobState::Elsewhere);
    });
    assert_eq!(rig.count(|event| *event == Event::Elsewhere { job: train }), 1);
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

#[test]
fn a_job_that_was_taken_over_by_another_program_is_its_result_and_no_failure() {
    let mut rig = Rig::new(1);
    let job = rig.plan.job(rig.train(0)).clone();
    let running = rig.store.path().join("running");
    let taken = std::sync::atomic::AtomicBool::new(false);
    let (path, other_job) = (rig.store.path().to_owned(), job.clone());
    // As a program on another machine would after minutes of silence: it breaks the lease and takes its own.
    rig.on_event = Box::new(move |event, _| {
        if !matches!(event, Event::Step { step: 1, .. }) || taken.swap(true, Ordering::SeqCst) {
            return;
        }
        for entry in std::fs::read_dir(&running).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with(&other_job.key.hex()) {
                let _ = std::fs::remove_file(entry.path()).or_else(|_| std::fs::remove_dir_all(entry.path()));
            }
        }
        let (path, job) = (path.clone(), other_job.clone());
        let (ready, taken) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let other = Store::open(&path).unwrap();
            let Begin::Work(dir) = other.begin(&job.key, &job.spec).unwrap() else { panic!("the lease was broken") };
            ready.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(1200));
            let timings = scaledown::store::Timings { wall_s: 0.1, cpu_s: 0.1, threads: 1, samples: None };
            let status = scaledown::store::JobStatus::Finished;
            let summary = serde_json::json!({});
            dir.commit(scaledown::store::Completion { status, reason: None, summary, timings }).unwrap();
        });
        taken.recv().unwrap();
    });
    let outcome = rig.run(stepping(200, Duration::from_millis(10)));
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_eq!(outcome.states[rig.train(0)], JobState::Elsewhere);
    assert!(rig.store.overview().unwrap().failures.is_empty());
    let told = |event: &Event| matches!(event, Event::Warning { message } if message.contains("was taken over by process "));
    assert_eq!(rig.count(told), 1, "{:?}", rig.events.lock().unwrap());
}
