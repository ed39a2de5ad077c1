//! Failure, divergence, limits: what stops what.

use std::num::NonZero;
use std::time::Duration;

use scaledown::executor::{JobState, Options};
use scaledown::plan::{Job, JobSpec};
use scaledown::run::{Event, JobKind};
use scaledown::store::JobStatus;

use crate::common::{Rig, options, succeed};
use crate::fake::Behaviour;

/// A script for the train job of one seed; all else succeeds.
fn seed(wanted: u64, behaviour: Behaviour) -> impl Fn(&Job) -> Behaviour + Send + Sync + 'static {
    move |job| match &job.spec {
        JobSpec::Train(spec) if spec.seed == wanted => behaviour.clone(),
        _ => Behaviour::Succeed,
    }
}

fn always() -> Behaviour {
    Behaviour::Fail { attempts: u32::MAX, retryable: true }
}

#[test]
fn a_failed_run_blocks_what_needs_it_and_nothing_else() {
    let rig = Rig::new(4);
    let outcome = rig.run(seed(1, always()));
    let (failed, evaluate) = (rig.train(1), rig.plan.runs()[1].evaluates[0]);
    assert_eq!(outcome.failed.len(), 1);
    assert_eq!((outcome.failed[0].job, outcome.failed[0].reason.as_str()), (failed, "scripted failure of attempt 1"));
    assert_eq!(outcome.blocked, [(evaluate, failed)]);
    assert_eq!(outcome.finished, rig.plan.len() - 2, "the report is written all the same");
    assert_eq!(rig.count(|event| matches!(event, Event::Blocked { .. })), 1);
    let note = rig.store.failure(&rig.plan.job(failed).key).unwrap();
    assert_eq!((note.label.as_str(), note.attempts), ("run001", 1));
}

#[test]
fn a_report_without_a_failed_run_is_not_kept_as_the_report_of_all() {
    let rig = Rig::new(2);
    rig.run(seed(1, always()));
    let report = rig.plan.job(rig.plan.report().unwrap()).key;
    assert!(!rig.store.is_finished(&report));
    let outcome = rig.run(succeed);
    assert!(outcome.is_complete());
    assert_eq!(outcome.finished, 3, "the failed run, its evaluation, and the report");
    assert!(rig.store.is_finished(&report));
    assert!(rig.store.overview().unwrap().failures.is_empty());
}

#[test]
fn what_a_shared_job_feeds_is_blocked_by_it() {
    let rig = Rig::new(3);
    let outcome = rig.run(|job| if job.spec.kind() == JobKind::Tokenizer { always() } else { Behaviour::Succeed });
    assert_eq!(outcome.failed.len(), 2, "one tokenizer a pool");
    assert_eq!(outcome.blocked.len(), 6);
    assert!(outcome.blocked.iter().all(|(_, by)| outcome.failed.iter().any(|failure| failure.job == *by)));
}

#[test]
fn a_diverged_run_is_data_and_its_evaluation_is_not_done() {
    let rig = Rig::new(2);
    let outcome = rig.run(seed(0, Behaviour::Diverge));
    assert!(outcome.is_complete());
    let record = |job: usize| rig.store.record(&rig.plan.job(job).key).unwrap().unwrap();
    let (train, evaluate) = (record(rig.train(0)), record(rig.plan.runs()[0].evaluates[0]));
    for record in [&train, &evaluate] {
        assert_eq!(record.status, JobStatus::Diverged);
        assert_eq!(record.reason.as_deref(), Some("loss is NaN at step 3"));
    }
    assert!(evaluate.outputs.is_empty() && !train.summary.is_null());
    assert_eq!(rig.run(|_| Behaviour::Panic).cached, rig.plan.len(), "it is not done again");
}

#[test]
fn a_failure_that_may_pass_is_retried_as_often_as_asked() {
    let rig = Rig::new(1);
    let twice = || seed(0, Behaviour::Fail { attempts: 2, retryable: true });
    let retrying = |retries| Options { retries, ..options(1) };
    assert_eq!(rig.run_with(&retrying(1), twice()).failed.len(), 1);
    assert!(rig.run_with(&retrying(2), twice()).is_complete());
    assert_eq!(rig.count(|event| matches!(event, Event::Failed { retrying: true, .. })), 3);
}

#[test]
fn a_failure_that_will_not_pass_is_not_retried() {
    let rig = Rig::new(1);
    let outcome = rig.run_with(&Options { retries: 5, ..options(1) }, seed(0, Behaviour::Fail { attempts: 1, retryable: false }));
    assert_eq!(outcome.failed.len(), 1);
    assert_eq!(rig.count(|event| matches!(event, Event::Failed { retrying: true, .. })), 0);
}

#[test]
fn a_worker_that_panics_fails_its_job_with_what_it_said() {
    let rig = Rig::new(2);
    let outcome = rig.run(seed(0, Behaviour::Panic));
    assert_eq!(outcome.failed[0].reason, "panicked: scripted panic");
    assert_eq!(outcome.states[rig.train(1)], JobState::Finished);
    assert!(rig.store.leases().unwrap().is_empty());
}

#[test]
fn a_job_over_its_time_is_stopped_at_a_checkpoint_and_goes_on_next_time() {
    let rig = Rig::new(1);
    let limited = Options { time_limit: Some(Duration::from_millis(60)), ..options(1) };
    let steps = || seed(0, Behaviour::Steps { steps: 30, each: Duration::from_millis(3) });
    let first = rig.run_with(&limited, steps());
    assert_eq!(first.failed[0].reason, "time limit of 0.06 s");
    assert!(first.failed[0].hint.as_deref().unwrap().contains("--time-limit"));
    let mut more = 0;
    while !rig.run_with(&limited, steps()).is_complete() {
        more += 1;
        assert!(more < 30, "each attempt gets further than the last");
    }
}

#[test]
fn after_so_many_failures_nothing_new_is_started() {
    let rig = Rig::new(20);
    let limited = Options { max_failures: NonZero::new(3), ..options(1) };
    let outcome = rig.run_with(&limited, |job| if job.spec.kind() == JobKind::Train { always() } else { Behaviour::Succeed });
    assert_eq!(outcome.failed.len(), 3);
    assert!(outcome.waiting.len() > 10);
    assert_eq!(rig.count(|event| *event == Event::Draining), 1);
}
