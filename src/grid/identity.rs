//! What a run is called: the digest of its content.

use std::collections::HashMap;
use std::fmt;

use crate::run::{
    DataConfig, DataSource, DeviceKind, EvalConfig, EvalSource, ModelConfig, Precision, QualityBy, QualityConfig, RunConfig,
    SeedParts, Source, TokenizerConfig,
};

/// Digest of what a run is, content of its data included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub [u8; 32]);

impl fmt::Display for RunId {
    /// The short form: 12 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Content digests of the sources that runs read. Paths of a source are in no identity where its digest is here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digests {
    by_source: HashMap<Vec<u8>, String>,
}

impl Digests {
    /// Notes the digest of everything that is read from a source.
    pub fn insert(&mut self, source: Source<'_>, digest: impl Into<String>) {
        self.by_source.insert(source.to_bytes(), digest.into());
    }

    /// The digest of a source; `None` where none was noted.
    #[must_use]
    pub fn get(&self, source: Source<'_>) -> Option<&str> {
        self.by_source.get(&source.to_bytes()).map(String::as_str)
    }

    /// What stands for the paths of a source in an identity.
    fn content(&self, source: Source<'_>) -> Option<String> {
        self.get(source).map(|digest| format!("content {digest}"))
    }
}

/// The sources with files of a run, those of its scorer included, in the order of its config; not each once.
#[must_use]
pub fn sources<'a>(data: &'a DataConfig, evaluate: &'a [EvalConfig]) -> Vec<Source<'a>> {
    let mut found = vec![Source::Data(&data.source)];
    if let TokenizerConfig::ClipBpe { file } = &data.tokenizer {
        found.push(Source::Vocabulary(file));
    }
    for measure in data.quality.iter().flat_map(QualityConfig::measures) {
        if let Some(scorer) = measure.scorer() {
            found.extend(sources(&scorer.data, &scorer.evaluate));
        }
        match measure {
            QualityBy::File(scores) => found.push(Source::Scores(&scores.file)),
            QualityBy::Uids { file } => found.push(Source::Uids(file)),
            QualityBy::Rule { target: Some(target), .. } => found.push(Source::Eval(target)),
            QualityBy::Random
            | QualityBy::Field(_)
            | QualityBy::Similarity { .. }
            | QualityBy::Basic(_)
            | QualityBy::Rule { target: None, .. } => {}
        }
    }
    found.extend(evaluate.iter().flat_map(EvalConfig::all_sets).map(|set| Source::Eval(&set.source)));
    found.retain(|source| source.has_files());
    found
}

/// The identity of a config: BLAKE3 of its JSON, fields in the order of the struct, with the content of every source in
/// place of its paths. Data that move keep the identity of their runs; data that change do not.
#[must_use]
pub fn run_id(config: &RunConfig, digests: &Digests) -> RunId {
    RunId(*blake3::hash(&json(&by_content(config, digests))).as_bytes())
}

fn by_content(config: &RunConfig, digests: &Digests) -> RunConfig {
    let RunConfig { data, model, train, evaluate, seed, device, precision, seeds_draw } = config;
    RunConfig {
        data: data_by_content(data, digests),
        model: model.clone(),
        train: train.clone(),
        evaluate: evaluate_by_content(evaluate, digests),
        seed: *seed,
        device: *device,
        precision: *precision,
        seeds_draw: *seeds_draw,
    }
}

fn data_by_content(config: &DataConfig, digests: &Digests) -> DataConfig {
    let mut config = config.clone();
    let content = digests.content(Source::Data(&config.source));
    match (&mut config.source, content) {
        (DataSource::Webdataset { shards }, Some(content)) => *shards = vec![content],
        (DataSource::Table { file, image_column: _, caption_column: _ }, Some(content)) => *file = content,
        (DataSource::Webdataset { .. } | DataSource::Table { .. }, None) => {}
        (DataSource::Scenes(_) | DataSource::Declared { .. }, _) => {}
    }
    if let TokenizerConfig::ClipBpe { file } = &mut config.tokenizer
        && let Some(content) = digests.content(Source::Vocabulary(file))
    {
        *file = content;
    }
    for measure in config.quality.iter_mut().flat_map(QualityConfig::measures_mut) {
        match measure {
            QualityBy::Random | QualityBy::Field(_) | QualityBy::Basic(_) => {}
            QualityBy::Similarity { scorer } => **scorer = by_content(scorer, digests),
            QualityBy::Rule { rule: _, scorer, target } => {
                **scorer = by_content(scorer, digests);
                target.iter_mut().for_each(|target| eval_by_content(target, digests));
            }
            QualityBy::File(scores) => {
                if let Some(content) = digests.content(Source::Scores(&scores.file)) {
                    scores.file = content;
                }
            }
            QualityBy::Uids { file } => {
                if let Some(content) = digests.content(Source::Uids(file)) {
                    *file = content;
                }
            }
        }
    }
    config
}

fn evaluate_by_content(configs: &[EvalConfig], digests: &Digests) -> Vec<EvalConfig> {
    let mut configs = configs.to_vec();
    for set in configs.iter_mut().flat_map(EvalConfig::all_sets_mut) {
        eval_by_content(&mut set.source, digests);
    }
    configs
}

fn eval_by_content(source: &mut EvalSource, digests: &Digests) {
    let content = digests.content(Source::Eval(source));
    match (source, content) {
        (EvalSource::Folder { path, split: _ }, Some(content)) => *path = content,
        (EvalSource::Shards { shards, class_field: _, classnames, templates }, Some(content)) => {
            (*shards, *classnames, *templates) = (vec![content], String::new(), String::new());
        }
        (EvalSource::Folder { .. } | EvalSource::Shards { .. }, None) | (EvalSource::Scenes { .. }, _) => {}
    }
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("a config has only text keys and finite numbers")
}

/// Longer data sections than this are hashed once and not once a run.
const LONG: usize = 2048;

/// The parts of the canonical JSON that many runs share.
pub(super) struct Fragments {
    data: Vec<Data>,
    models: Vec<Vec<u8>>,
    evaluates: Vec<Vec<u8>>,
    tail: Vec<u8>,
}

/// The start of the JSON, up to and with the data section.
enum Data {
    Short(Vec<u8>),
    Hashed(Box<blake3::Hasher>),
}

impl Fragments {
    pub fn new(
        data: &[DataConfig],
        models: &[ModelConfig],
        evaluates: &[Vec<EvalConfig>],
        (device, precision, seeds_draw): (DeviceKind, Precision, SeedParts),
        digests: &Digests,
    ) -> Self {
        let around = |before: &str, middle: Vec<u8>, after: &str| [before.as_bytes(), &middle, after.as_bytes()].concat();
        let start = |config: &DataConfig| match around("{\"data\":", json(&data_by_content(config, digests)), ",\"model\":") {
            text if text.len() <= LONG => Data::Short(text),
            text => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&text);
                Data::Hashed(Box::new(hasher))
            }
        };
        let mut tail = [b",\"device\":", json(&device).as_slice(), b",\"precision\":", &json(&precision)].concat();
        if !seeds_draw.is_default() {
            tail.extend([b",\"seeds_draw\":", json(&seeds_draw).as_slice()].concat());
        }
        tail.push(b'}');
        Self {
            data: data.iter().map(start).collect(),
            models: models.iter().map(|m| around("", json(m), ",\"train\":")).collect(),
            evaluates: evaluates
                .iter()
                .map(|e| around(",\"evaluate\":", json(&evaluate_by_content(e, digests)), ",\"seed\":"))
                .collect(),
            tail,
        }
    }
}

/// Hashes runs of one point after another, reusing its buffer.
#[derive(Default)]
pub(super) struct PointHasher {
    buffer: Vec<u8>,
}

/// Sections of a point, and its training config.
pub(super) struct PointSections<'a> {
    pub data: usize,
    pub model: usize,
    pub evaluate: usize,
    pub train: &'a crate::run::TrainConfig,
}

impl PointHasher {
    /// The ids of a point's runs, one a seed; equal to [`run_id`] of their configs.
    pub fn ids(&mut self, fragments: &Fragments, point: &PointSections<'_>, seeds: &[u64], out: &mut Vec<RunId>) {
        self.buffer.clear();
        let hasher = match &fragments.data[point.data] {
            Data::Short(text) => {
                self.buffer.extend_from_slice(text);
                None
            }
            Data::Hashed(hasher) => Some(hasher),
        };
        self.buffer.extend_from_slice(&fragments.models[point.model]);
        serde_json::to_writer(&mut self.buffer, point.train).expect("a config has only text keys and finite numbers");
        self.buffer.extend_from_slice(&fragments.evaluates[point.evaluate]);
        let shared = self.buffer.len();
        for seed in seeds {
            self.buffer.truncate(shared);
            self.buffer.extend_from_slice(seed.to_string().as_bytes());
            self.buffer.extend_from_slice(&fragments.tail);
            let digest = match hasher {
                None => blake3::hash(&self.buffer),
                Some(hasher) => hasher.as_ref().clone().update(&self.buffer).finalize(),
            };
            out.push(RunId(*digest.as_bytes()));
        }
    }
}
