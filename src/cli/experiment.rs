//! From an experiment file to a plan: the joint of `spec`, `grid` and `plan`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::args::{Arithmetic, Device, Experiment, Global};
use super::files::{DiskFiles, SizesOnly, Surveys};
use crate::claims::Statements;
use crate::claims::fits::ScalingSpec;
use crate::data;
use crate::error::Error;
use crate::grid::{self, Digests, Expansion, expand};
use crate::jobs::{Adopted, ReportInputs};
use crate::machine;
use crate::plan::{self, JobSpec, Plan, PlanRun, PlannedRun, ReportInput};
use crate::record::{self, PointView, Provenance, Stated};
use crate::run::{DataSource, DeviceKind, EvalConfig, EvalSource, Precision, RunConfig, ScenesConfig, Source};
use crate::spec::{self, Files, LoadOptions, ValidSpec, Written};
use crate::store::Store;
use crate::tables::TableSpec;
use crate::trainer::TrainerError;
use crate::trainer::backend::cuda;
use crate::trainer::checkpoint::Checkpoint;
use crate::trainer::cost::{gmacs_of_steps, gmacs_per_sample};
use crate::trainer::ops::instructions;
use crate::trainer::strategy::check_support;

/// An experiment, expanded and planned.
pub(super) struct Loaded {
    pub expansion: Expansion,
    pub plan: Plan,
    /// Digests of the sources that the plan read, by name.
    pub fingerprints: BTreeMap<String, String>,
    /// What its sources turned out to be.
    pub surveys: Surveys,
    digests: Digests,
    file: PathBuf,
    set: Vec<String>,
}

/// For commands that only read what a file states, its name and its claims: any placement does.
pub(super) const STATED: (DeviceKind, Precision) = (DeviceKind::Cpu, Precision::F32);

/// Resolves `auto` to what this machine has.
///
/// # Errors
/// If CUDA is asked for and not there, or an arithmetic that the device does not have.
pub(super) fn placement(device: Device, arithmetic: Arithmetic) -> Result<(DeviceKind, Precision), Error> {
    let gpu = match device {
        Device::Cpu => None,
        Device::Auto => cuda::usable().ok(),
        Device::Cuda => Some(cuda::usable()?),
    };
    let refuse = |what: &str| {
        let hint = "use `--precision f32`, or leave it out; `scaledown doctor` says what this machine has";
        Err(Error::Usage { message: format!("{what} has no such arithmetic"), hint: Some(hint.into()) })
    };
    match (gpu, arithmetic) {
        (None, Arithmetic::Auto | Arithmetic::F32) => Ok((DeviceKind::Cpu, Precision::F32)),
        (None, Arithmetic::Tf32 | Arithmetic::Bf16) => refuse("the CPU"),
        (Some(_), Arithmetic::F32) => Ok((DeviceKind::Cuda, Precision::F32)),
        // bf16 and TF32 products came with compute capability 8.0, and our kernels need it.
        (Some(gpu), _) if gpu.capability < (8, 0) => match arithmetic {
            Arithmetic::Auto => Ok((DeviceKind::Cuda, Precision::F32)),
            _ => refuse(&gpu.name),
        },
        (Some(_), Arithmetic::Tf32) => Ok((DeviceKind::Cuda, Precision::Tf32)),
        (Some(_), Arithmetic::Auto | Arithmetic::Bf16) => Ok((DeviceKind::Cuda, Precision::Bf16)),
    }
}

/// Loads a file for what it states: of its data only the sizes are asked for, where they are at hand.
pub(super) fn load_spec(file: &Path, set: &[String], placement: (DeviceKind, Precision)) -> Result<ValidSpec, Error> {
    load_with(file, set, placement, &SizesOnly)
}

/// Loads a file for a placement, and has its data looked at.
fn load_with(
    file: &Path,
    set: &[String],
    (device, precision): (DeviceKind, Precision),
    files: &dyn Files,
) -> Result<ValidSpec, Error> {
    let options = LoadOptions { set: set.to_vec(), device, precision, cost: &gmacs_per_sample, files, ..LoadOptions::default() };
    Ok(spec::load(file, &options)?)
}

/// An experiment, expanded, and what its sources turned out to be.
pub(super) struct Expanded {
    pub expansion: Expansion,
    /// By source.
    digests: Digests,
    /// The same by name.
    fingerprints: BTreeMap<String, String>,
    surveys: Surveys,
}

/// Loads and expands an experiment, and says what is doubtful in it.
pub(super) fn expanded(
    global: &Global,
    file: &Path,
    set: &[String],
    placement: (DeviceKind, Precision),
) -> Result<Expanded, Error> {
    let files = DiskFiles::new(&global.store);
    let spec = load_with(file, set, placement, &files)?;
    let (digests, fingerprints) = digests(&spec, &global.store.join("fingerprints.json"))?;
    let expansion = expand(&spec, &digests);
    super::warn(global, expansion.warnings());
    Ok(Expanded { expansion, digests, fingerprints, surveys: files.into_surveys() })
}

impl Loaded {
    /// Loads, expands and plans an experiment for where it is asked to compute.
    pub fn new(global: &Global, experiment: &Experiment) -> Result<Self, Error> {
        Self::placed(global, &experiment.file, &experiment.set, placement(experiment.device, experiment.precision)?)
    }

    /// Loads, expands and plans an experiment for a placement.
    pub fn placed(global: &Global, file: &Path, set: &[String], placement: (DeviceKind, Precision)) -> Result<Self, Error> {
        let Expanded { expansion, digests, fingerprints, surveys } = expanded(global, file, set, placement)?;
        let report = ReportInput { experiment: expansion.spec().experiment.clone(), statements: report_digest(&expansion) };
        let runs = (0..expansion.runs().len())
            .map(|run| PlannedRun { run_id: expansion.runs()[run].id.to_string(), config: expansion.config(run) });
        let plan = plan::build(runs, Some(&report), |source| Ok(digests.get(source).unwrap_or_default().to_owned()))?;
        Ok(Self { expansion, plan, fingerprints, surveys, digests, file: file.to_owned(), set: set.to_vec() })
    }

    /// The runs that are not adopted, as a plan of their own without a report.
    pub fn rest(&self, adopted: &Adopted) -> Result<Plan, Error> {
        self.plan_of(&|run| adopted.run(run).is_none())
    }

    /// Some of the runs, by their positions, as a plan of their own without a report.
    pub fn plan_of(&self, is_in: &dyn Fn(usize) -> bool) -> Result<Plan, Error> {
        let runs = (0..self.expansion.runs().len()).filter(|run| is_in(*run)).map(|run| self.planned(run));
        Ok(plan::build(runs, None, |source| Ok(self.digests.get(source).unwrap_or_default().to_owned()))?)
    }

    fn planned(&self, run: usize) -> PlannedRun {
        PlannedRun { run_id: self.expansion.runs()[run].id.to_string(), config: self.expansion.config(run) }
    }

    pub fn spec(&self) -> &ValidSpec {
        self.expansion.spec()
    }

    /// Folder of the experiment's results.
    pub fn results(&self, global: &Global) -> PathBuf {
        global.results.join(&self.spec().experiment)
    }

    /// Refuses what cannot be trained here, before any work is done.
    pub fn check_support(&self) -> Result<(), Error> {
        for run in 0..self.expansion.runs().len() {
            let parts = self.expansion.parts(run);
            if let DataSource::Declared { .. } = parts.data.source {
                return Err(Error::Usage {
                    message: format!("{}: a `declared` data set has no samples to train on", self.file.display()),
                    hint: Some("`scaledown plan` shows its runs and their cost".into()),
                });
            }
        }
        let mut last = None;
        for run in 0..self.expansion.runs().len() {
            let sections = self.expansion.parts(run).sections;
            // Runs that differ by seed alone share their sections.
            if last != Some(sections) {
                check_support(&self.expansion.config(run)).map_err(|error| unsupported(&self.file, &error))?;
                last = Some(sections);
            }
        }
        Ok(())
    }

    /// Steps between checkpoints of a training, by its steps in all.
    pub fn checkpoint_every(&self) -> Box<dyn Fn(u64) -> u64 + Send + Sync> {
        let interval = self.spec().execution.checkpoint_every;
        Box::new(move |steps| interval.steps_of(steps))
    }

    /// Points as tables see them: labels of every axis, and of every other path that a table speaks of.
    pub fn points(&self) -> Vec<PointView> {
        let mut paths: Vec<String> = self.expansion.axes().iter().map(ToString::to_string).collect();
        let fits: Vec<TableSpec> = self.spec().fits.iter().map(ScalingSpec::table).collect();
        for table in self.spec().tables.iter().chain(&fits) {
            let spoken = table.rows.0.iter().chain(&table.columns).chain(table.filter.keys());
            paths.extend(spoken.map(ToString::to_string));
        }
        paths.sort();
        paths.dedup();
        let point = |idx: usize| PointView {
            labels: paths.iter().filter_map(|path| Some((path.clone(), self.expansion.label(idx, path)?))).collect(),
            also: also(&self.expansion, idx),
            run_ids: self.expansion.runs_of(idx).iter().map(|run| self.expansion.runs()[*run as usize].id.to_string()).collect(),
        };
        (0..self.expansion.num_points()).map(point).collect()
    }

    /// What the report job is about.
    pub fn report_inputs(&self, global: &Global, stated: &Stated) -> ReportInputs {
        let spec = self.spec();
        let mut digest = blake3::Hasher::new();
        digest.update(statements_digest(&self.expansion).as_bytes());
        self.expansion.runs().iter().for_each(|run| {
            digest.update(run.id.to_string().as_bytes());
        });
        let set: String = self.set.iter().map(|set| format!(" --set '{set}'")).collect();
        let provenance = Provenance {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: record::COMMIT.map(str::to_owned),
            experiment: spec.experiment.clone(),
            experiment_digest: digest.finalize().to_hex().to_string(),
            device: spec.resolved.device,
            cpu: processor(spec.resolved.device),
            precision: spec.resolved.precision,
            command: format!("scaledown run {}{set}", self.file.display()),
            data: self.fingerprints.clone(),
            samples: BTreeMap::new(),
        };
        ReportInputs {
            provenance,
            axes: self.expansion.axes().into_iter().map(str::to_owned).collect(),
            points: self.points(),
            configs: self.configs(),
            labels: self.labels(),
            statements: self.statements(),
            stated: stated.clone(),
            results: self.results(global),
        }
    }

    /// What the file asks of the records.
    pub fn statements(&self) -> Statements {
        statements(self.spec())
    }

    /// The config of every run, in plan order, with paths as the user wrote them: the form that stands in records.
    pub fn configs(&self) -> Vec<RunConfig> {
        (0..self.expansion.runs().len()).map(|run| self.written_config(run)).collect()
    }

    /// The config of one of them.
    pub fn written_config(&self, run: usize) -> RunConfig {
        self.spec().written.config(&self.expansion.config(run))
    }

    /// What each job of the plan is called, sources by their paths as the user wrote them.
    fn labels(&self) -> Vec<String> {
        let written = &self.spec().written;
        let label = |index: usize| match &self.plan.job(index).spec {
            JobSpec::Dataset(spec) => plan::pool_label(spec, &written.data(&spec.source)),
            JobSpec::EvalSet(spec) => plan::set_label(spec, &written.eval(&spec.source)),
            _ => self.plan.label(index),
        };
        (0..self.plan.len()).map(label).collect()
    }

    /// The only run whose id begins with this text.
    pub fn find_run(&self, run: &str) -> Result<&PlanRun, Error> {
        let matching: Vec<_> = self.plan.runs().iter().filter(|planned| planned.run_id.starts_with(run)).collect();
        let [planned] = matching.as_slice() else {
            let message = match matching.len() {
                0 => format!("no run `{run}` in {}", self.spec().experiment),
                count => format!("{count} runs begin with `{run}`"),
            };
            return Err(Error::Usage { message, hint: Some("`scaledown plan` lists the runs of an experiment".into()) });
        };
        Ok(planned)
    }

    /// Steps of an unfinished training that its newest checkpoint holds.
    pub fn steps_done(&self, store: &Store, train: usize) -> u64 {
        let key = self.plan.job(train).key;
        // A checkpoint that cannot be read is none: the training begins anew.
        let kept: Vec<u64> = match &self.plan.job(train).spec {
            JobSpec::Train(spec) => spec.train.kept_steps().collect(),
            _ => Vec::new(),
        };
        let newest = Checkpoint::load_newest(&store.work_dir(&key), &key.to_string(), &kept);
        newest.ok().and_then(|newest| newest.found).map_or(0, |checkpoint| checkpoint.step)
    }

    /// Trainings that are no run's own, those of scorers, with their forward multiply-accumulates in units of 1e9.
    pub fn scorers(&self) -> Vec<(usize, f64)> {
        let own: BTreeSet<usize> = self.plan.runs().iter().map(|run| run.train).collect();
        let cost = |(job, planned): (usize, &crate::plan::Job)| match &planned.spec {
            JobSpec::Train(spec) if !own.contains(&job) => Some((job, gmacs_of_steps(&spec.model, &spec.train, spec.train.steps))),
            _ => None,
        };
        self.plan.jobs().enumerate().filter_map(cost).collect()
    }

    /// Forward multiply-accumulates of all distinct runs, in units of 1e9.
    #[expect(clippy::cast_precision_loss, reason = "sample counts below 2^53")]
    pub fn gmacs(&self) -> Vec<f64> {
        let mut known: Vec<(crate::run::ModelConfig, crate::run::StrategyConfig, f64)> = Vec::new();
        let mut cost = |run: usize| {
            let parts = self.expansion.parts(run);
            let same = |(model, strategy, _): &&(_, _, f64)| model == parts.model && *strategy == parts.train.strategy;
            let a_sample = known.iter().rev().find(same).map(|(_, _, cost)| *cost);
            let a_sample = a_sample.unwrap_or_else(|| {
                let cost = gmacs_per_sample(parts.model, &parts.train.strategy);
                known.push((parts.model.clone(), parts.train.strategy.clone(), cost));
                cost
            });
            a_sample * parts.train.samples_seen() as f64
        };
        (0..self.expansion.runs().len()).map(&mut cost).collect()
    }
}

/// The processor that computes runs and the widest instructions that it uses; `None` where a GPU computes them.
fn processor(device: DeviceKind) -> Option<String> {
    let model = machine::cpu_model().filter(|_| device == DeviceKind::Cpu)?;
    Some(format!("{}, {}", model.trim(), instructions()))
}

/// What this program cannot train, as a mistake of the file.
fn unsupported(file: &Path, error: &TrainerError) -> Error {
    Error::Usage { hint: error.hint(), message: format!("{}: {error}", file.display()) }
}

/// Other texts that name settings of a point, by key path.
fn also(expansion: &Expansion, point_idx: usize) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, label) in expansion.also(point_idx) {
        out.entry(path.to_owned()).or_default().push(label.to_owned());
    }
    out
}

/// What is asked of the records of an experiment.
fn statements(spec: &ValidSpec) -> Statements {
    Statements { tables: spec.tables.clone(), claims: spec.claims.clone(), fits: spec.fits.clone() }
}

/// Digest of what is asked of the records, so that a changed table is a new report; points are in it by their labels.
fn statements_digest(expansion: &Expansion) -> String {
    let spec = expansion.spec();
    let mut hasher = blake3::Hasher::new();
    let statements = serde_json::to_value(statements(spec)).expect("statements are plain structs with text keys");
    hasher.update(statements.to_string().as_bytes());
    for point in 0..expansion.num_points() {
        for (path, label) in expansion.labels(point) {
            hasher.update(path.as_bytes()).update(b"=").update(label.as_bytes()).update(b"\n");
        }
        for run in expansion.runs_of(point) {
            hasher.update(&run.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// Digest of all that a report is made of besides its runs: the statements, and the paths of its configs as they are written.
fn report_digest(expansion: &Expansion) -> String {
    let (resolved, written) = (expansion.resolved(), &expansion.spec().written);
    let mut hasher = blake3::Hasher::new();
    hasher.update(statements_digest(expansion).as_bytes());
    for source in sources(resolved) {
        hasher.update(name_of(source, written).as_bytes()).update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

/// Every source with files of an experiment, in the order of its sections; one that several sections read, several times.
fn sources(resolved: &spec::Resolved) -> Vec<Source<'_>> {
    let mut found: Vec<Source<'_>> = resolved.data.iter().flat_map(|data| grid::sources(data, &[])).collect();
    let sets = resolved.evaluates.iter().flatten().flat_map(EvalConfig::all_sets);
    found.extend(sets.map(|set| Source::Eval(&set.source)).filter(|source| source.has_files()));
    found
}

/// The content digest of every source, and the same by the names that stand in records.
///
/// # Errors
/// Every source that cannot be read.
fn digests(spec: &ValidSpec, cache: &Path) -> Result<(Digests, BTreeMap<String, String>), Error> {
    let (mut digests, mut by_name, mut problems) = (Digests::default(), BTreeMap::new(), Vec::new());
    for source in sources(&spec.resolved) {
        if digests.get(source).is_some() {
            continue;
        }
        match digest(source, cache) {
            Ok(digest) => {
                by_name.insert(name_of(source, &spec.written), digest.clone());
                digests.insert(source, digest);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok((digests, by_name)) } else { Err(Error::Sources(problems)) }
}

fn digest(source: Source<'_>, cache: &Path) -> data::DataResult<String> {
    match source {
        Source::Data(source) => data::fingerprint(source, cache),
        Source::Eval(source) => data::fingerprint_eval(source, cache),
        Source::Vocabulary(path) => data::fingerprint_files(&[PathBuf::from(path)], cache),
        Source::Scores(path) => data::fingerprint_files(&data::score_files(path)?, cache),
        Source::Uids(path) => data::fingerprint_files(&[PathBuf::from(path)], cache),
    }
}

/// What a source is called in records, by its paths as they are written.
fn name_of(source: Source<'_>, written: &Written) -> String {
    match source {
        Source::Data(source) => match written.data(source) {
            DataSource::Scenes(world) => {
                let ScenesConfig { world_seed, faults, long_tail, shifts } = world;
                format!("scenes {world_seed} faults {faults} long_tail {long_tail} shifts {shifts}")
            }
            DataSource::Webdataset { shards } => format!("shards {}", shards.join("::")),
            DataSource::Table { file, image_column, caption_column } => format!("table {file} {image_column} {caption_column}"),
            DataSource::Declared { samples } => format!("declared {samples}"),
        },
        Source::Eval(source) => match written.eval(source) {
            EvalSource::Scenes { world_seed, variant, samples, shifts } => {
                format!("scenes {world_seed} {variant} {samples} shifts {shifts}")
            }
            EvalSource::Folder { path, split } => format!("folder {path} {split}"),
            EvalSource::Shards { shards, class_field, .. } => format!("shards {} by {class_field}", shards.join("::")),
        },
        Source::Vocabulary(path) => format!("vocabulary {}", written.path(path)),
        Source::Scores(path) => format!("scores {}", written.path(path)),
        Source::Uids(path) => format!("uids {}", written.path(path)),
    }
}
