//! Runs to jobs: every job interned under its key, parents first.
//!
//! What runs share (pool, subset, tokenizer, evaluation sets) is looked up by the part of the config that decides it and
//! hashed once, so that a run costs the hashing of what is its own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use serde::Serialize;

use super::graph::{Job, Plan, PlanRun};
use super::job::{
    DatasetSpec, EvalSetSpec, EvaluateSpec, JobSpec, NamedSet, ReportSpec, RuleSpec, ScoreBy, ScoresSpec, SubsetBy, SubsetSpec,
    TokenizerSpec, TrainSpec,
};
use super::{Key, PlanError, canonical};
use crate::run::{
    DataConfig, DataSource, EvalConfig, EvalSource, EvalTask, FeatureRule, Framing, Keep, QualityBy, QualityConfig, RunConfig,
    SeedPart, Source, TokenizerConfig,
};

/// A run to be planned.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    /// Its id: two runs with one id have one config.
    pub run_id: String,
    /// What it is.
    pub config: RunConfig,
}

/// What enters the key of the report besides the runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportInput {
    /// The experiment's id.
    pub experiment: String,
    /// Digest of its tables and claims.
    pub statements: String,
}

/// Why a source has no digest.
pub type FingerprintError = Box<dyn std::error::Error + Send + Sync>;

/// Plans `runs`, in order, and a report on them where one is asked for.
///
/// `fingerprint` is called once for each distinct source with files and returns a digest of *everything* that is read from
/// it, in order: paths leave the key where a digest is given. An empty digest keeps the paths in the key instead.
///
/// # Errors
/// A source that cannot be digested, or one id on two different runs.
pub fn build(
    runs: impl IntoIterator<Item = PlannedRun>,
    report: Option<&ReportInput>,
    mut fingerprint: impl FnMut(Source<'_>) -> Result<String, FingerprintError>,
) -> Result<Plan, PlanError> {
    let mut builder = Builder::new(&mut fingerprint);
    for run in runs {
        builder.run(run)?;
    }
    if let Some(report) = report {
        builder.report(report);
    }
    Ok(builder.plan)
}

/// The jobs of a plan that pack data sets, alone.
#[must_use]
pub fn datasets(plan: &Plan) -> Plan {
    let mut only = Plan::default();
    for job in plan.jobs().filter(|job| matches!(job.spec, JobSpec::Dataset(_) | JobSpec::EvalSet(_))) {
        let node = only.graph.add_node(Job { run: None, ..job.clone() });
        only.by_key.insert(job.key, u32::try_from(node.index()).expect("fewer than 2^32 jobs"));
    }
    only
}

/// The jobs of a plan that score pools, choose from them and pack sets, with all that they stand on, as a plan of their own.
#[must_use]
pub fn selection(plan: &Plan) -> Plan {
    let mut is_in = vec![false; plan.len()];
    for (index, job) in plan.jobs().enumerate() {
        match job.spec {
            JobSpec::Scores(_) | JobSpec::Subset(_) => {
                is_in[index] = true;
                plan.ancestors(index).into_iter().for_each(|ancestor| is_in[ancestor] = true);
            }
            JobSpec::Dataset(_) | JobSpec::EvalSet(_) => is_in[index] = true,
            _ => {}
        }
    }
    let mut only = Plan::default();
    for (index, job) in plan.jobs().enumerate().filter(|(index, _)| is_in[*index]) {
        let node = only.graph.add_node(Job { run: None, ..job.clone() });
        only.by_key.insert(job.key, u32::try_from(node.index()).expect("fewer than 2^32 jobs"));
        for parent in plan.parents(index) {
            let parent = only.by_key[&plan.job(parent).key];
            only.graph.add_edge(NodeIndex::from(parent), node, ());
        }
    }
    only
}

type Index = u32;

/// What a run reads: shared by all runs with equal data.
#[derive(Clone)]
struct Inputs {
    pool: Index,
    subset: Option<Index>,
    tokenizer: Index,
    /// All jobs that these stand on, themselves included.
    lineage: Rc<[Index]>,
}

/// One evaluation before a trained model is put to it: shared by all runs that evaluate alike.
#[derive(Clone)]
struct Measure {
    task: EvalTask,
    name: String,
    sets: Arc<[NamedSet]>,
    fitted_on: Option<Key>,
    shots: Arc<[u64]>,
    nodes: Rc<[Index]>,
}

/// What the seed of a run draws of its data.
#[derive(Clone, Copy, PartialEq, Serialize)]
struct Drawn {
    /// Which pool, of the scorer too.
    pool: u64,
    /// The run's seed, where it draws the scorer; its seed is else the one that is stated.
    scorer: Option<u64>,
}

/// What the stated seeds of scorers are apart where runs' seeds are added to them.
const SCORER_STRIDE: u64 = 1 << 40;

impl Drawn {
    fn of(config: &RunConfig) -> Self {
        let RunConfig { seed, seeds_draw, .. } = config;
        let scorer = seeds_draw.draws(SeedPart::Scorer).then_some(*seed);
        Self { pool: seeds_draw.seed_of(SeedPart::Pool, *seed), scorer }
    }
}

/// Looks a value up by the JSON of what decides it (a part of the config; an image size, a draw), after comparing with the last one.
struct Memo<K, A, V> {
    last: Option<(K, A, V)>,
    all: HashMap<Vec<u8>, V>,
}

impl<K: PartialEq + Clone + Serialize, A: PartialEq + Copy + Serialize, V: Clone> Memo<K, A, V> {
    fn new() -> Self {
        Self { last: None, all: HashMap::new() }
    }

    fn known(&mut self, part: &K, at: A) -> Option<V> {
        if let Some((last, last_at, value)) = &self.last
            && *last_at == at
            && last == part
        {
            return Some(value.clone());
        }
        let value = self.all.get(&json(&(part, at)))?.clone();
        self.last = Some((part.clone(), at, value.clone()));
        Some(value)
    }

    fn learn(&mut self, part: &K, at: A, value: V) {
        self.all.insert(json(&(part, at)), value.clone());
        self.last = Some((part.clone(), at, value));
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("configs are plain structs with text keys")
}

struct Builder<'a> {
    plan: Plan,
    fingerprint: &'a mut dyn FnMut(Source<'_>) -> Result<String, FingerprintError>,
    digests: HashMap<Vec<u8>, String>,
    inputs: Memo<DataConfig, (usize, Drawn), Inputs>,
    measures: Memo<Vec<EvalConfig>, usize, Rc<[Measure]>>,
    by_run_id: HashMap<String, u32>,
    /// The last run that each job was counted for.
    counted: Vec<u32>,
    run_id: String,
    bytes: Vec<u8>,
}

impl<'a> Builder<'a> {
    fn new(fingerprint: &'a mut dyn FnMut(Source<'_>) -> Result<String, FingerprintError>) -> Self {
        Self {
            plan: Plan::default(),
            fingerprint,
            digests: HashMap::new(),
            inputs: Memo::new(),
            measures: Memo::new(),
            by_run_id: HashMap::new(),
            counted: Vec::new(),
            run_id: String::new(),
            bytes: Vec::with_capacity(2048),
        }
    }

    fn run(&mut self, PlannedRun { run_id, config }: PlannedRun) -> Result<(), PlanError> {
        let number = u32::try_from(self.plan.runs.len()).expect("fewer than 2^32 runs");
        self.run_id = run_id;
        let RunConfig { data, model, train: learning, evaluate, seed: _, device, precision, seeds_draw: _ } = &config;
        let inputs = self.inputs(data, model.image_size, Drawn::of(&config))?;
        let train = self.train(&config, &inputs);
        let measures = self.measures(evaluate, model.image_size)?;
        let mut evaluates = Vec::with_capacity(measures.len());
        let every = std::iter::once(None).chain(learning.kept_steps().map(Some));
        for (at, measure) in every.flat_map(|at| measures.iter().map(move |measure| (at, measure))) {
            let spec = EvaluateSpec {
                task: measure.task,
                name: measure.name.clone(),
                sets: Arc::clone(&measure.sets),
                fitted_on: measure.fitted_on,
                shots: Arc::clone(&measure.shots),
                train: self.key(train),
                at,
                tokenizer: self.key(inputs.tokenizer),
                device: *device,
                precision: *precision,
            };
            let parents = [train, inputs.tokenizer];
            evaluates.push(self.intern(JobSpec::Evaluate(spec), parents.iter().chain(measure.nodes.iter())));
        }
        let own = evaluates.iter().copied().chain([train]);
        let fed = inputs.lineage.iter().chain(measures.iter().flat_map(|m| m.nodes.iter())).copied();
        for job in own.clone().chain(fed) {
            self.count(job, number);
        }
        for job in own {
            self.plan.graph[NodeIndex::from(job)].run.get_or_insert(number);
        }
        let evaluates = evaluates.into_iter().map(|job| job as usize).collect();
        let run_id = std::mem::take(&mut self.run_id);
        self.add_run(number, PlanRun { run_id, train: train as usize, evaluates })
    }

    fn add_run(&mut self, number: u32, run: PlanRun) -> Result<(), PlanError> {
        let first = *self.by_run_id.entry(run.run_id.clone()).or_insert(number);
        if first != number && self.plan.runs[first as usize] != run {
            return Err(PlanError::RunIdTwice { run_id: run.run_id });
        }
        self.plan.runs.push(run);
        Ok(())
    }

    /// The job's index, made if it is new. Parents come before it, so indices are in topological order.
    fn intern<'p>(&mut self, spec: JobSpec, parents: impl Iterator<Item = &'p Index>) -> Index {
        self.bytes.clear();
        canonical::write(&spec, &mut self.bytes);
        let key = Key::of(&self.bytes);
        if let Some(&index) = self.plan.by_key.get(&key) {
            return index;
        }
        let node = self.plan.graph.add_node(Job { key, spec, num_runs: 0, run: None });
        let mut linked: Vec<Index> = Vec::with_capacity(4);
        for &parent in parents {
            // Checked here: `update_edge` would search all edges of the parent, and a pool has one for every run.
            if !linked.contains(&parent) {
                linked.push(parent);
                self.plan.graph.add_edge(NodeIndex::from(parent), node, ());
            }
        }
        let index = u32::try_from(node.index()).expect("fewer than 2^32 jobs");
        self.plan.by_key.insert(key, index);
        self.counted.push(u32::MAX);
        index
    }

    fn key(&self, index: Index) -> Key {
        self.plan.graph[NodeIndex::from(index)].key
    }

    fn count(&mut self, job: Index, run: u32) {
        let last = &mut self.counted[job as usize];
        if *last != run {
            *last = run;
            self.plan.graph[NodeIndex::from(job)].num_runs += 1;
        }
    }

    fn train(&mut self, config: &RunConfig, inputs: &Inputs) -> Index {
        let RunConfig { data: _, model, train, evaluate: _, seed, device, precision, seeds_draw } = config;
        let [init, order] = [SeedPart::Init, SeedPart::Order].map(|part| seeds_draw.seed_of(part, *seed));
        let spec = TrainSpec {
            model: model.clone(),
            train: train.clone(),
            seed: order,
            init: Some(init).filter(|init| *init != order),
            device: *device,
            precision: *precision,
            pool: self.key(inputs.pool),
            subset: inputs.subset.map(|subset| self.key(subset)),
            tokenizer: self.key(inputs.tokenizer),
        };
        let parents = [Some(inputs.pool), inputs.subset, Some(inputs.tokenizer)];
        self.intern(JobSpec::Train(Box::new(spec)), parents.iter().flatten())
    }

    fn inputs(&mut self, data: &DataConfig, image_size: usize, drawn: Drawn) -> Result<Inputs, PlanError> {
        if let Some(inputs) = self.inputs.known(data, (image_size, drawn)) {
            return Ok(inputs);
        }
        let DataConfig { source, size, quality, tokenizer, pack_side } = data;
        let pool = match pack_side {
            Some(side) => self.pool((source, *size, drawn.pool), *side, Framing::Whole)?,
            None => self.pool((source, *size, drawn.pool), image_size, Framing::Centre)?,
        };
        let mut lineage = vec![pool];
        let tokenizer = self.tokenizer(tokenizer, pool)?;
        lineage.push(tokenizer);
        let subset = match quality {
            Some(quality) => Some(self.subset((data, drawn), quality, pool, &mut lineage)?),
            None => None,
        };
        let inputs = Inputs { pool, subset, tokenizer, lineage: lineage.into() };
        self.inputs.learn(data, (image_size, drawn), inputs.clone());
        Ok(inputs)
    }

    fn pool(
        &mut self,
        (source, size, draw): (&DataSource, Option<u64>, u64),
        image_size: usize,
        framing: Framing,
    ) -> Result<Index, PlanError> {
        let fingerprint = self.digest(Source::Data(source))?;
        // All there is of a source is the same whatever is drawn.
        let draw = size.map_or(0, |_| draw);
        let spec = DatasetSpec { source: source.clone(), size, draw, image_size, framing, fingerprint };
        Ok(self.intern(JobSpec::Dataset(spec), [].iter()))
    }

    /// Identity of a pool's samples.
    fn samples(&self, pool: Index) -> Option<Key> {
        match &self.plan.graph[NodeIndex::from(pool)].spec {
            JobSpec::Dataset(spec) => Some(spec.samples()),
            _ => None,
        }
    }

    fn tokenizer(&mut self, config: &TokenizerConfig, pool: Index) -> Result<Index, PlanError> {
        let (trained_on, fingerprint) = match config {
            TokenizerConfig::Bpe { .. } | TokenizerConfig::Unigram { .. } => (Some(pool), String::new()),
            TokenizerConfig::ClipBpe { file } => (None, self.digest(Source::Vocabulary(file))?),
        };
        let samples = trained_on.and_then(|pool| self.samples(pool));
        let spec = TokenizerSpec { config: config.clone(), pool: trained_on.map(|pool| self.key(pool)), samples, fingerprint };
        Ok(self.intern(JobSpec::Tokenizer(spec), trained_on.iter()))
    }

    /// The filters in turn, each on what the one before it kept; then the size.
    fn subset(
        &mut self,
        (data, drawn): (&DataConfig, Drawn),
        quality: &QualityConfig,
        pool: Index,
        lineage: &mut Vec<Index>,
    ) -> Result<Index, PlanError> {
        let QualityConfig { keep, by, then, size } = quality;
        let mut within = None;
        let filters = std::iter::once((*keep, by)).chain(then.iter().map(|filter| (filter.keep, &filter.by)));
        for (keep, by) in filters.chain(size.map(|size| (Keep::Count(size), &QualityBy::Random))) {
            let scores = self.scores((data, drawn), by, (pool, within), lineage)?;
            lineage.extend(scores);
            let by = scores.map_or(SubsetBy::Random, |scores| SubsetBy::Scores(self.key(scores)));
            let (samples, within_key) = (self.samples(pool), within.map(|subset| self.key(subset)));
            let draw = if by == SubsetBy::Random { drawn.pool } else { 0 };
            let spec = SubsetSpec { pool: self.key(pool), samples, keep, by, within: within_key, draw };
            let subset = self.intern(JobSpec::Subset(spec), [Some(pool), scores, within].iter().flatten());
            lineage.push(subset);
            within = Some(subset);
        }
        Ok(within.expect("there is one filter at least"))
    }

    /// The job that scores a pool for a measure; `None` where it needs no score.
    fn scores(
        &mut self,
        (data, drawn): (&DataConfig, Drawn),
        by: &QualityBy,
        (pool, within): (Index, Option<Index>),
        lineage: &mut Vec<Index>,
    ) -> Result<Option<Index>, PlanError> {
        let by = match by {
            QualityBy::Random => return Ok(None),
            QualityBy::Similarity { scorer } => return self.similarity((data, drawn), scorer, lineage).map(Some),
            QualityBy::Rule { rule, scorer, target } => {
                let target = target.as_ref();
                return self.rule((data, drawn), (*rule, scorer, target), within, lineage).map(Some);
            }
            QualityBy::Field(name) => ScoreBy::Field(name.clone()),
            QualityBy::Basic(least) => ScoreBy::Basic(*least),
            QualityBy::File(scores) => {
                ScoreBy::File { scores: scores.clone(), fingerprint: self.digest(Source::Scores(&scores.file))? }
            }
            QualityBy::Uids { file } => ScoreBy::Uids { file: file.clone(), fingerprint: self.digest(Source::Uids(file))? },
        };
        let spec = ScoresSpec { pool: self.key(pool), samples: self.samples(pool), by, within: None };
        Ok(Some(self.intern(JobSpec::Scores(spec), [pool].iter())))
    }

    /// A scorer is trained as a run is (and shared with one that is equal); it looks at the pool's central squares in its own
    /// image size. Its training, its tokenizer and what it sees.
    fn scorer(
        &mut self,
        (data, drawn): (&DataConfig, Drawn),
        scorer: &RunConfig,
        lineage: &mut Vec<Index>,
    ) -> Result<(Index, Index, Index), PlanError> {
        let config = match drawn.scorer {
            None => Cow::Borrowed(scorer),
            // Scorers of other stated seeds stay others.
            Some(seed) => {
                Cow::Owned(RunConfig { seed: scorer.seed.wrapping_mul(SCORER_STRIDE).wrapping_add(seed), ..scorer.clone() })
            }
        };
        let own = self.inputs(&scorer.data, scorer.model.image_size, drawn)?;
        lineage.extend(own.lineage.iter());
        let train = self.train(&config, &own);
        let seen = self.pool((&data.source, data.size, drawn.pool), scorer.model.image_size, Framing::Centre)?;
        lineage.extend([train, seen]);
        Ok((train, own.tokenizer, seen))
    }

    fn similarity(&mut self, data: (&DataConfig, Drawn), scorer: &RunConfig, lineage: &mut Vec<Index>) -> Result<Index, PlanError> {
        let (train, tokenizer, seen) = self.scorer(data, scorer, lineage)?;
        let by = ScoreBy::Similarity {
            scorer: self.key(train),
            tokenizer: self.key(tokenizer),
            device: scorer.device,
            precision: scorer.precision,
        };
        let spec = ScoresSpec { pool: self.key(seen), samples: None, by, within: None };
        Ok(self.intern(JobSpec::Scores(spec), [seen, train, tokenizer].iter()))
    }

    fn rule(
        &mut self,
        data: (&DataConfig, Drawn),
        (rule, scorer, target): (FeatureRule, &RunConfig, Option<&EvalSource>),
        within: Option<Index>,
        lineage: &mut Vec<Index>,
    ) -> Result<Index, PlanError> {
        let (train, tokenizer, seen) = self.scorer(data, scorer, lineage)?;
        let tokenizer = Some(tokenizer).filter(|_| rule.reads_captions());
        let target = match target {
            Some(source) => Some(self.eval_set(source, scorer.model.image_size)?),
            None => None,
        };
        lineage.extend(target);
        // Scores of single samples are the same whatever is left, and shared.
        let within = within.filter(|_| !matches!(rule, FeatureRule::NormSim { .. }));
        let by = ScoreBy::Rule(Box::new(RuleSpec {
            rule,
            scorer: self.key(train),
            tokenizer: tokenizer.map(|job| self.key(job)),
            target: target.map(|job| self.key(job)),
            device: scorer.device,
            precision: scorer.precision,
        }));
        let spec = ScoresSpec { pool: self.key(seen), samples: None, by, within: within.map(|job| self.key(job)) };
        let parents = [Some(seen), Some(train), tokenizer, target, within];
        Ok(self.intern(JobSpec::Scores(spec), parents.iter().flatten()))
    }

    fn eval_set(&mut self, source: &EvalSource, image_size: usize) -> Result<Index, PlanError> {
        let fingerprint = self.digest(Source::Eval(source))?;
        let spec = EvalSetSpec { source: source.clone(), image_size, fingerprint };
        Ok(self.intern(JobSpec::EvalSet(spec), [].iter()))
    }

    fn measures(&mut self, evaluate: &Vec<EvalConfig>, image_size: usize) -> Result<Rc<[Measure]>, PlanError> {
        if let Some(measures) = self.measures.known(evaluate, image_size) {
            return Ok(measures);
        }
        let mut measures = Vec::with_capacity(evaluate.len());
        for EvalConfig { task, name, sets, train, shots } in evaluate {
            let mut nodes = Vec::with_capacity(sets.len() + 1);
            let mut named = Vec::with_capacity(sets.len());
            for set in sets {
                let node = self.eval_set(&set.source, image_size)?;
                nodes.push(node);
                named.push(NamedSet { name: set.name.clone(), set: self.key(node) });
            }
            let train = train.as_ref().map(|set| self.eval_set(&set.source, image_size)).transpose()?;
            nodes.extend(train);
            measures.push(Measure {
                task: *task,
                name: name.clone(),
                sets: named.into(),
                fitted_on: train.map(|node| self.key(node)),
                shots: shots.clone().into(),
                nodes: nodes.into(),
            });
        }
        let measures: Rc<[Measure]> = measures.into();
        self.measures.learn(evaluate, image_size, Rc::clone(&measures));
        Ok(measures)
    }

    fn digest(&mut self, source: Source<'_>) -> Result<String, PlanError> {
        if !source.has_files() {
            return Ok(String::new());
        }
        let memo_key = source.to_bytes();
        let what = match source {
            Source::Data(source) => data_in_words(source),
            Source::Eval(source) => eval_in_words(source),
            Source::Vocabulary(file) => format!("the vocabulary {file}"),
            Source::Scores(file) => format!("the scores {file}"),
            Source::Uids(file) => format!("the list {file}"),
        };
        if let Some(digest) = self.digests.get(&memo_key) {
            return Ok(digest.clone());
        }
        let digest =
            (self.fingerprint)(source).map_err(|source| PlanError::Fingerprint { run_id: self.run_id.clone(), what, source })?;
        self.digests.insert(memo_key, digest.clone());
        Ok(digest)
    }

    fn report(&mut self, input: &ReportInput) {
        let mut digest = blake3::Hasher::new();
        let mut parents: Vec<Index> = Vec::new();
        for run in &self.plan.runs {
            digest.update(run.run_id.as_bytes());
            digest.update(&[0]);
            for job in run.jobs() {
                digest.update(self.plan.job(job).key.bytes());
                parents.push(u32::try_from(job).expect("fewer than 2^32 jobs"));
            }
        }
        parents.sort_unstable();
        parents.dedup();
        let ReportInput { experiment, statements } = input;
        let spec = ReportSpec {
            experiment: experiment.clone(),
            statements: statements.clone(),
            num_runs: self.plan.runs.len() as u64,
            runs: Key::from_bytes(*digest.finalize().as_bytes()),
        };
        let report = self.intern(JobSpec::Report(spec), [].iter());
        for parent in parents {
            self.plan.graph.add_edge(NodeIndex::from(parent), NodeIndex::from(report), ());
        }
        self.plan.report = Some(report);
    }
}

fn data_in_words(source: &DataSource) -> String {
    match source {
        DataSource::Webdataset { shards } => format!("{} shards from {}", shards.len(), shards.first().map_or("", String::as_str)),
        DataSource::Table { file, .. } => format!("the table {file}"),
        DataSource::Scenes(_) | DataSource::Declared { .. } => "a source without files".into(),
    }
}

fn eval_in_words(source: &EvalSource) -> String {
    match source {
        EvalSource::Folder { path, split } => format!("split {split} of {path}"),
        EvalSource::Shards { shards, .. } => format!("{} shards from {}", shards.len(), shards.first().map_or("", String::as_str)),
        EvalSource::Scenes { .. } => "a source without files".into(),
    }
}
