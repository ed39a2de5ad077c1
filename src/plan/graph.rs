//! The graph itself and the questions it answers.

use std::collections::{BTreeMap, HashMap, HashSet};

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use super::job::{DatasetSpec, EvalSetSpec};
use super::{JobSpec, Key};
use crate::run::{DataSource, DeviceKind, EvalSource, JobKind, Keep, ScenesConfig, TokenizerConfig};

/// A node: one job under its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its identity.
    pub key: Key,
    /// What it does.
    pub spec: JobSpec,
    /// Runs that need its output, directly or through others.
    pub num_runs: u32,
    /// Index of the first run that it trains or evaluates; `None` for what only feeds others.
    pub run: Option<u32>,
}

/// A run as jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRun {
    /// Its id.
    pub run_id: String,
    /// Index of its train job.
    pub train: usize,
    /// Indices of its evaluate jobs, in the order of its config.
    pub evaluates: Vec<usize>,
}

impl PlanRun {
    /// Indices of its jobs: the training, then the evaluations.
    pub fn jobs(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::once(self.train).chain(self.evaluates.iter().copied())
    }
}

/// What a running job occupies, besides one place among those that run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceClass {
    /// CPU cores.
    Cpu,
    /// A GPU.
    Gpu,
}

/// The jobs of an experiment. A job is named by its index; parents have lower indices than their children.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub(super) graph: DiGraph<Job, ()>,
    pub(super) by_key: HashMap<Key, u32>,
    pub(super) runs: Vec<PlanRun>,
    pub(super) report: Option<u32>,
}

impl Plan {
    /// Jobs in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Whether it holds no job.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The job with this index.
    ///
    /// # Panics
    /// If the index is not below [`len`](Self::len).
    #[must_use]
    pub fn job(&self, index: usize) -> &Job {
        &self.graph[NodeIndex::new(index)]
    }

    /// All jobs by index, which is a topological order.
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = &Job> {
        self.graph.raw_nodes().iter().map(|node| &node.weight)
    }

    /// Index of the job with this key.
    #[must_use]
    pub fn index_of(&self, key: &Key) -> Option<usize> {
        self.by_key.get(key).map(|&index| index as usize)
    }

    /// Jobs whose output this one reads.
    pub fn parents(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        self.graph.neighbors_directed(NodeIndex::new(index), Direction::Incoming).map(NodeIndex::index)
    }

    /// Jobs that read this one's output.
    pub fn children(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        self.graph.neighbors_directed(NodeIndex::new(index), Direction::Outgoing).map(NodeIndex::index)
    }

    /// All jobs that this one stands on, by index.
    #[must_use]
    pub fn ancestors(&self, index: usize) -> Vec<usize> {
        let mut found: Vec<usize> = self.parents(index).collect();
        let mut next = 0;
        while next < found.len() {
            for parent in self.parents(found[next]) {
                if !found.contains(&parent) {
                    found.push(parent);
                }
            }
            next += 1;
        }
        found.sort_unstable();
        found
    }

    /// Edges in the graph.
    #[must_use]
    pub fn num_edges(&self) -> usize {
        self.graph.edge_count()
    }

    /// The runs, in the order given.
    #[must_use]
    pub fn runs(&self) -> &[PlanRun] {
        &self.runs
    }

    /// The key of a run as a whole: of its training and all its evaluations.
    #[must_use]
    pub fn run_key(&self, run: &PlanRun) -> Key {
        Key::of(&run.jobs().flat_map(|job| *self.job(job).key.bytes()).collect::<Vec<u8>>())
    }

    /// Whether all jobs of a run are among these.
    #[must_use]
    pub fn is_finished(&self, run: &PlanRun, finished: &HashSet<Key>) -> bool {
        run.jobs().all(|job| finished.contains(&self.job(job).key))
    }

    /// Index of the report job.
    #[must_use]
    pub fn report(&self) -> Option<usize> {
        self.report.map(|index| index as usize)
    }

    /// Jobs a kind.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<JobKind, usize> {
        let mut kinds = BTreeMap::new();
        for job in self.jobs() {
            *kinds.entry(job.spec.kind()).or_insert(0) += 1;
        }
        kinds
    }

    /// Jobs that more than one run needs and that are done once.
    #[must_use]
    pub fn shared(&self) -> usize {
        self.jobs().filter(|job| job.num_runs > 1).count()
    }

    /// Jobs that are finished according to `finished`.
    pub fn cached(&self, mut finished: impl FnMut(&Key) -> bool) -> usize {
        self.jobs().filter(|job| finished(&job.key)).count()
    }

    /// Whether somebody wants this job's output for itself, not only other jobs.
    #[must_use]
    pub fn is_wanted(&self, index: usize) -> bool {
        let job = self.job(index);
        // In a plan without runs (data sets alone) every job is there for its own sake.
        self.runs.is_empty() || job.run.is_some() || job.spec.kind() == JobKind::Report
    }

    /// Jobs that have to run, by index: the unfinished ones that are wanted or that an unfinished one needs. A pool whose
    /// every run is finished is not packed again.
    #[must_use]
    pub fn todo(&self, mut finished: impl FnMut(&Key) -> bool) -> Vec<usize> {
        let mut needed = vec![false; self.len()];
        for index in (0..self.len()).rev() {
            needed[index] =
                (self.is_wanted(index) || self.children(index).any(|child| needed[child])) && !finished(&self.job(index).key);
        }
        (0..self.len()).filter(|&index| needed[index]).collect()
    }

    /// What a job occupies while it runs.
    #[must_use]
    pub fn resource_class(&self, index: usize) -> ResourceClass {
        match self.job(index).spec.device() {
            Some(DeviceKind::Cuda) => ResourceClass::Gpu,
            Some(DeviceKind::Cpu) | None => ResourceClass::Cpu,
        }
    }

    /// What a person calls a job.
    #[must_use]
    pub fn label(&self, index: usize) -> String {
        let job = self.job(index);
        let run = |prefix: &str| match job.run {
            Some(run) => self.runs[run as usize].run_id.clone(),
            None => format!("{prefix}{}", job.key.short()),
        };
        match &job.spec {
            JobSpec::Dataset(spec) => pool_label(spec, &spec.source),
            JobSpec::EvalSet(spec) => set_label(spec, &spec.source),
            JobSpec::Tokenizer(spec) => match &spec.config {
                TokenizerConfig::Bpe { vocab_size } => format!("bpe {vocab_size}"),
                TokenizerConfig::Unigram { vocab_size } => format!("unigram {vocab_size}"),
                TokenizerConfig::ClipBpe { .. } => "clip bpe".into(),
            },
            JobSpec::Scores(spec) => match &spec.by {
                super::ScoreBy::Field(name) => format!("by {name}"),
                super::ScoreBy::Similarity { scorer, .. } => format!("by scorer {}", scorer.short()),
                super::ScoreBy::File { scores, .. } => format!("by {} of {}", scores.score_column, scores.file),
                super::ScoreBy::Uids { file, .. } => format!("by the list {file}"),
                super::ScoreBy::Basic(_) => "by basic".to_owned(),
                super::ScoreBy::Rule(spec) => format!("by {} of scorer {}", spec.rule.name(), spec.scorer.short()),
            },
            JobSpec::Subset(spec) => match spec.keep {
                Keep::Share(share) | Keep::WholeShare(share) => format!("top {} %", share * 100.0),
                Keep::Datacomp(share) => format!("DataComp's top {} %", share * 100.0),
                Keep::Count(count) => format!("top {count}"),
                Keep::AtLeast(score) => format!("at least {score}"),
            },
            JobSpec::Train(_) => run("scorer "),
            JobSpec::Evaluate(spec) => {
                let at = spec.at.map_or(String::new(), |step| format!(" at step {step}"));
                format!("{}/{}{at} of {}", spec.task.name(), spec.name, run("train "))
            }
            JobSpec::Report(spec) => spec.experiment.clone(),
        }
    }
}

/// What a person calls a packed pool whose source is named so.
#[must_use]
pub fn pool_label(spec: &DatasetSpec, source: &DataSource) -> String {
    let size = spec.size.map_or(String::new(), |size| format!(" {size}"));
    let draw = if spec.draw == 0 { String::new() } else { format!(" drawn by seed {}", spec.draw) };
    let framing = if spec.framing.is_centre() { "" } else { "whole " };
    format!("{}{size}{draw} {framing}at {} px", data_name(source), spec.image_size)
}

/// What a person calls a packed evaluation set whose source is named so.
#[must_use]
pub fn set_label(spec: &EvalSetSpec, source: &EvalSource) -> String {
    format!("{} at {} px", eval_name(source), spec.image_size)
}

fn data_name(source: &DataSource) -> String {
    match source {
        DataSource::Scenes(config) => format!("scenes{}", world(config.world_seed, &config.in_words())),
        DataSource::Webdataset { shards } => format!("webdataset {}", first_of(shards)),
        DataSource::Table { file, .. } => format!("table {file}"),
        DataSource::Declared { samples } => format!("declared {samples}"),
    }
}

/// The world that `scenes` are of, where it is not the first as it is unless stated.
fn world(seed: u64, unusual: &[String]) -> String {
    let seed = if seed == 0 { String::new() } else { format!(" of world {seed}") };
    if unusual.is_empty() { seed } else { format!("{seed} ({})", unusual.join(", ")) }
}

fn first_of(shards: &[String]) -> String {
    match shards {
        [] => "of no shard".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

fn eval_name(source: &EvalSource) -> String {
    match source {
        EvalSource::Scenes { world_seed, variant, samples, shifts } => {
            let config = ScenesConfig::of_evaluation(*world_seed, *shifts);
            format!("scenes {variant} {samples}{}", world(*world_seed, &config.in_words()))
        }
        EvalSource::Folder { path, split } => format!("{path} {split}"),
        EvalSource::Shards { shards, class_field, .. } => format!("shards {} by {class_field}", first_of(shards)),
    }
}
