//! What is done stays done; what was stopped goes on.

use std::time::Duration;

use scaledown::executor::{EvaluateSummary, JobState, Shutdown, Stage, TrainSummary};
use scaledown::run::{Event, JobKind};
use scaledown::store::JobStatus;

use crate::common::{Rig, is_empty, options, snapshot, stepping, succeed, times_done};
use crate::fake::Behaviour;

#[test]
fn every_job_runs_once_and_a_second_execution_finds_nothing_to_do() {
    let rig = Rig::new(6);
    let outcome = rig.run(succeed);
    assert!(outcome.is_complete());
    assert_eq!((outcome.finished, outcome.cached), (rig.plan.len(), 0));
    assert_eq!(times_done(&rig.log()).values().sum::<usize>(), rig.plan.len());
    let before = snapshot(rig.store.path());
    let again = rig.run(|_| Behaviour::Panic);
    assert_eq!((again.finished, again.cached), (0, rig.plan.len()));
    assert_eq!(snapshot(rig.store.path()), before);
    assert!(is_empty(&rig.store.path().join("running")) && is_empty(&rig.store.path().join("work")));
}

#[test]
fn one_thread_and_four_leave_the_same_bytes() {
    let (one, four) = (Rig::new(8), Rig::new(8));
    one.run_with(&options(1), succeed);
    four.run_with(&options(4), succeed);
    assert_eq!(snapshot(one.store.path()), snapshot(four.store.path()));
}

#[test]
fn jobs_start_in_plan_order_where_one_runs_at_a_time() {
    let rig = Rig::new(4);
    rig.run_with(&options(1), succeed);
    let started: Vec<usize> = rig
        .events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|event| if let Event::Started { job, .. } = event { Some(*job) } else { None })
        .collect();
    assert!(started.is_sorted(), "{started:?}");
}

#[test]
fn a_run_that_was_stopped_goes_on_from_its_checkpoint_to_the_same_bytes() {
    let straight = Rig::new(2);
    straight.run(stepping(20, Duration::ZERO));
    let mut rig = Rig::new(2);
    rig.on_event = Box::new(|event, shutdown| {
        if matches!(event, Event::Step { step: 1, .. }) {
            shutdown.request(Stage::Stopping);
        }
    });
    let outcome = rig.run_with(&options(1), stepping(20, Duration::ZERO));
    assert_eq!((outcome.stage, outcome.interrupted.len(), outcome.failed.len()), (Stage::Stopping, 1, 0));
    assert!(rig.store.leases().unwrap().is_empty(), "a stopped program gives its leases back");
    assert_eq!(rig.count(|event| matches!(event, Event::Interrupted { .. })), 1);
    rig.shutdown = Shutdown::new();
    rig.on_event = Box::new(|_, _| {});
    rig.events.lock().unwrap().clear();
    assert!(rig.run_with(&options(1), stepping(20, Duration::ZERO)).is_complete());
    let first_step = rig.events.lock().unwrap().iter().find_map(|event| match event {
        Event::Step { step, .. } => Some(*step),
        _ => None,
    });
    assert!(first_step.is_some_and(|step| step > 1), "it went on from its checkpoint: {first_step:?}");
    assert_eq!(snapshot(rig.store.path()), snapshot(straight.store.path()));
}

#[test]
fn the_first_interrupt_lets_running_jobs_finish_and_starts_nothing_new() {
    let rig = Rig::new(3);
    let shutdown = rig.shutdown.clone();
    let outcome = rig.run_with(&options(1), move |job| {
        if job.spec.kind() == JobKind::Train {
            shutdown.request(Stage::Draining);
            return Behaviour::Steps { steps: 5, each: Duration::from_millis(1) };
        }
        Behaviour::Succeed
    });
    assert_eq!(outcome.states[rig.train(0)], JobState::Finished);
    assert_eq!(outcome.states[rig.train(1)], JobState::Waiting);
    assert!(outcome.interrupted.is_empty() && outcome.failed.is_empty() && !outcome.waiting.is_empty());
}

#[test]
fn the_second_interrupt_stops_a_running_job_without_failing_it() {
    let mut rig = Rig::new(1);
    rig.on_event = Box::new(|event, shutdown| {
        if matches!(event, Event::Started { kind: JobKind::Train, .. } | Event::Draining) {
            shutdown.interrupt();
        }
    });
    let outcome = rig.run(|job| if job.spec.kind() == JobKind::Train { Behaviour::Block } else { Behaviour::Succeed });
    assert_eq!(outcome.interrupted, [rig.train(0)]);
    assert!(outcome.failed.is_empty() && outcome.blocked.is_empty());
    assert_eq!(rig.count(|event| *event == Event::Draining), 1);
    assert_eq!(rig.count(|event| *event == Event::Stopping), 1);
    assert!(rig.store.overview().unwrap().failures.is_empty(), "interrupted is not failed");
}

#[test]
fn a_pool_that_was_swept_away_is_not_packed_again_for_finished_runs() {
    let rig = Rig::new(4);
    rig.run(succeed);
    let keep = rig.plan.jobs().enumerate().filter(|(index, _)| rig.plan.is_wanted(*index)).map(|(_, job)| job.key).collect();
    assert!(rig.store.gc(Some(&keep)).unwrap().jobs > 0);
    let outcome = rig.run(|_| Behaviour::Panic);
    assert!(outcome.is_complete());
    assert_eq!(outcome.cached, rig.plan.len());
}

#[test]
fn records_hold_summaries_that_a_run_record_can_be_made_of() {
    let rig = Rig::new(2);
    rig.run(succeed);
    let run = &rig.plan.runs()[0];
    let record = |job: usize| rig.store.record(&rig.plan.job(job).key).unwrap().unwrap();
    let train: TrainSummary = serde_json::from_value(record(run.train).summary).unwrap();
    assert_eq!((train.subset_samples, train.steps, train.samples_seen), (1000, 2000, 512_000));
    let evaluate = record(run.evaluates[0]);
    assert_eq!(evaluate.status, JobStatus::Finished);
    let metrics = serde_json::from_value::<EvaluateSummary>(evaluate.summary).unwrap().metrics;
    assert!(metrics["zeroshot/scenes.acc1"] > 0.0 && metrics["zeroshot/scenes.acc5"] <= 100.0);
}
