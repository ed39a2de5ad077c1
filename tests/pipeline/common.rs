//! Plans, a worker that counts, and this test binary as a second program.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use scaledown::executor::{JobContext, JobError, JobOutput, Options, Outcome, Shutdown, Worker, execute, signals};
use scaledown::plan::{Job, Plan, PlannedRun, ReportInput, build};
use scaledown::run::{Event, JobKind, RunConfig};
use scaledown::store::Store;

use crate::fake::{Behaviour, FakeWorker};

/// `num_runs` runs on two pools, one evaluation each, and a report.
pub fn plan(num_runs: u64) -> Plan {
    let base: RunConfig = serde_json::from_str(include_str!("../fixtures/run.json")).unwrap();
    let runs = (0..num_runs).map(|seed| {
        let mut config = base.clone();
        config.seed = seed;
        config.data.size = Some(1000 + 1000 * (seed % 2));
        PlannedRun { run_id: format!("run{seed:03}"), config }
    });
    let report = ReportInput { experiment: "test/pipeline".into(), statements: String::new() };
    build(runs, Some(&report), |_| Ok(String::new())).unwrap()
}

/// Does what a fake worker does, and appends a line to a file for each job that it is given.
pub struct Counting {
    log: PathBuf,
    inner: FakeWorker,
}

impl Counting {
    pub fn new(log: &Path, script: impl Fn(&Job) -> Behaviour + Send + Sync + 'static) -> Self {
        Self { log: log.to_owned(), inner: FakeWorker::new(script) }
    }
}

impl Worker for Counting {
    fn run(&self, job: &Job, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
        // One short line by one write in append mode is whole, whoever else writes.
        let line = format!("{} {}\n", std::process::id(), job.key);
        OpenOptions::new().append(true).create(true).open(&self.log).unwrap().write_all(line.as_bytes()).unwrap();
        self.inner.run(job, ctx)
    }
}

/// A store in a temporary folder, and what happened on it.
pub struct Rig {
    pub folder: tempfile::TempDir,
    pub store: Store,
    pub plan: Plan,
    pub events: Mutex<Vec<Event>>,
    pub shutdown: Shutdown,
    /// Called with each event and the switch.
    pub on_event: Box<OnEvent>,
}

type OnEvent = dyn Fn(&Event, &Shutdown) + Send + Sync;

impl Rig {
    pub fn new(num_runs: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        Self {
            folder,
            store,
            plan: plan(num_runs),
            events: Mutex::default(),
            shutdown: Shutdown::new(),
            on_event: Box::new(|_, _| {}),
        }
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn run(&self, script: impl Fn(&Job) -> Behaviour + Send + Sync + 'static) -> Outcome {
        self.run_with(&options(2), script)
    }

    pub fn run_with(&self, options: &Options, script: impl Fn(&Job) -> Behaviour + Send + Sync + 'static) -> Outcome {
        let worker = Counting::new(&self.log(), script);
        let note = |event: Event| {
            (self.on_event)(&event, &self.shutdown);
            self.events.lock().unwrap().push(event);
        };
        execute(&self.plan, &self.store, &worker, options, &note, &self.shutdown).unwrap()
    }

    /// Index of the train job of a run.
    pub fn train(&self, run: usize) -> usize {
        self.plan.runs()[run].train
    }

    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| wanted(event)).count()
    }
}

pub fn options(jobs: usize) -> Options {
    Options { jobs: NonZero::new(jobs).unwrap(), threads: NonZero::<usize>::MIN, ..Options::default() }
}

pub fn succeed(_: &Job) -> Behaviour {
    Behaviour::Succeed
}

/// Train jobs take steps, with a checkpoint after each; the others succeed at once.
pub fn stepping(steps: u64, each: Duration) -> impl Fn(&Job) -> Behaviour + Send + Sync + 'static {
    move |job| if job.spec.kind() == JobKind::Train { Behaviour::Steps { steps, each } } else { Behaviour::Succeed }
}

/// How often each job was given to a worker, by key.
pub fn times_done(log: &Path) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for line in fs::read_to_string(log).unwrap_or_default().lines() {
        *times.entry(line.split(' ').nth(1).unwrap().to_owned()).or_insert(0) += 1;
    }
    times
}

/// Every file of every finished job but for its timings.
pub fn snapshot(store: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    collect(&store.join("jobs"), &mut files);
    files.into_iter().map(|(path, bytes): (PathBuf, _)| (path.strip_prefix(store).unwrap().to_owned(), bytes)).collect()
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if !path.ends_with("timings.json") {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
}

/// Whether a folder of the store holds nothing, or nothing but the files of programs at work.
pub fn is_empty(folder: &Path) -> bool {
    let is_job = |entry: std::io::Result<fs::DirEntry>| !entry.unwrap().file_name().to_string_lossy().starts_with('@');
    fs::read_dir(folder).map_or(true, |mut entries| !entries.any(is_job))
}

/// Command line of this binary as a program that executes a plan of `num_runs` runs on `store`.
pub fn program(store: &Path, log: &Path, num_runs: u64, steps: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["common::as_a_second_program", "--exact", "--nocapture", "--test-threads=1"]);
    command.env("SCALEDOWN_TEST_STORE", store).env("SCALEDOWN_TEST_LOG", log);
    command.env("SCALEDOWN_TEST_RUNS", num_runs.to_string()).env("SCALEDOWN_TEST_STEPS", steps.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn spawn(command: &mut Command) -> Child {
    command.spawn().unwrap()
}

/// Does nothing as a test; as a second program it executes a plan, and prints how that ended.
#[test]
fn as_a_second_program() {
    let Some(store) = std::env::var_os("SCALEDOWN_TEST_STORE") else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let plan = plan(number("SCALEDOWN_TEST_RUNS").unwrap());
    let steps = number("SCALEDOWN_TEST_STEPS").unwrap();
    let each = Duration::from_millis(number("SCALEDOWN_TEST_EACH_MS").unwrap_or(1));
    let worker = Counting::new(Path::new(&std::env::var_os("SCALEDOWN_TEST_LOG").unwrap()), stepping(steps, each));
    let shutdown = Shutdown::new();
    signals::install(&shutdown).unwrap();
    if let Some(limit) = number("SCALEDOWN_TEST_FSIZE") {
        let limit = rustix::process::Rlimit { current: Some(limit), maximum: Some(limit) };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    }
    let store = Store::open(PathBuf::from(store)).unwrap();
    let outcome = execute(&plan, &store, &worker, &options(2), &|_| {}, &shutdown).unwrap();
    println!("complete: {}", outcome.is_complete());
    println!("interrupted: {}, asked to leave: {}", outcome.interrupted.len(), signals::asked_to_leave());
    for failure in &outcome.failed {
        println!("failed: {} hint: {}", failure.reason, failure.hint.as_deref().unwrap_or("none"));
    }
    if let Some((reason, _)) = outcome.environment {
        println!("environment: {reason}");
    }
}
