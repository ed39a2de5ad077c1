//! What a run is called.

use std::fmt;

use crate::run::{DataConfig, DeviceKind, EvalConfig, ModelConfig, Precision, RunConfig};

/// Content digest of a run's config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub [u8; 32]);

impl fmt::Display for RunId {
    /// The short form: 12 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The identity of a config: BLAKE3 of its JSON, fields in the order of the struct.
#[must_use]
pub fn run_id(config: &RunConfig) -> RunId {
    RunId(*blake3::hash(&json(config)).as_bytes())
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
        device: DeviceKind,
        precision: Precision,
    ) -> Self {
        let around = |before: &str, middle: Vec<u8>, after: &str| [before.as_bytes(), &middle, after.as_bytes()].concat();
        let start = |config: &DataConfig| match around("{\"data\":", json(config), ",\"model\":") {
            text if text.len() <= LONG => Data::Short(text),
            text => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&text);
                Data::Hashed(Box::new(hasher))
            }
        };
        let tail = format!(
            ",\"device\":{},\"precision\":{}}}",
            String::from_utf8_lossy(&json(&device)),
            String::from_utf8_lossy(&json(&precision))
        );
        Self {
            data: data.iter().map(start).collect(),
            models: models.iter().map(|m| around("", json(m), ",\"train\":")).collect(),
            evaluates: evaluates.iter().map(|e| around(",\"evaluate\":", json(e), ",\"seed\":")).collect(),
            tail: tail.into_bytes(),
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
