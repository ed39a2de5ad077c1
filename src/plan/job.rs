//! What a job is: one struct a kind, with the version of the code that does it.
//!
//! A spec holds everything a worker needs besides its parents' outputs, and parents by key. Its stored form is `serde` of
//! these types; what of it enters the key is decided in `canonical`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Key;
use crate::run::{
    Basic, DataSource, DeviceKind, EvalSource, EvalTask, FeatureRule, Framing, JobKind, Keep, ModelConfig, Precision, ScoreFile,
    TokenizerConfig, TrainConfig,
};

/// One job, fully resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "spec", rename_all = "snake_case", deny_unknown_fields)]
pub enum JobSpec {
    /// Decode and pack a training pool.
    Dataset(DatasetSpec),
    /// Decode and pack an evaluation set.
    EvalSet(EvalSetSpec),
    /// Train or load a tokenizer.
    Tokenizer(TokenizerSpec),
    /// Score every sample of a pool.
    Scores(ScoresSpec),
    /// Choose samples of a pool.
    Subset(SubsetSpec),
    /// Train one model.
    Train(Box<TrainSpec>),
    /// Measure one trained model.
    Evaluate(EvaluateSpec),
    /// Write records, tables and verdicts.
    Report(ReportSpec),
}

/// A training pool at one side and framing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// Where the pairs come from; its paths are not in the key where `fingerprint` stands for their content.
    pub source: DataSource,
    /// Samples kept of the source; `None`: all.
    pub size: Option<u64>,
    /// Which order they are the first of.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub draw: u64,
    /// Side of the packed images, or of the square whose area whole pictures have at most, pixels.
    pub image_size: usize,
    /// What of a picture is packed.
    #[serde(default, skip_serializing_if = "Framing::is_centre")]
    pub framing: Framing,
    /// Content digest of every file that is read; empty where there is none (`scenes`, `declared`).
    pub fingerprint: String,
}

/// An evaluation set at one image size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSetSpec {
    /// Where it comes from; its paths are not in the key where `fingerprint` stands for their content.
    pub source: EvalSource,
    /// Side of the packed images, pixels.
    pub image_size: usize,
    /// Content digest of every file that is read; empty where there is none (`scenes`).
    pub fingerprint: String,
}

/// A tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSpec {
    /// Which; the path of a vocabulary file is not in the key where `fingerprint` stands for its content.
    pub config: TokenizerConfig,
    /// The pack whose captions it is trained on; `None` where it is only loaded. In the key, `samples` stands for it.
    pub pool: Option<Key>,
    /// Identity of the pack's samples: their captions are the same whatever the side and framing of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Key>,
    /// Content digest of the vocabulary file; empty where there is none.
    pub fingerprint: String,
}

/// Scores of every sample of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoresSpec {
    /// The pool, at the image size of whoever scores it.
    pub pool: Key,
    /// Identity of the pool's samples, which stands for `pool` in the key where no pixel is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Key>,
    /// Who scores it.
    pub by: ScoreBy,
    /// The subset that is scored, where a score depends on which samples there are; the others have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Key>,
}

/// Who scores a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScoreBy {
    /// A numeric field of the sample's metadata.
    Field(String),
    /// Cosine similarity of image and caption under a trained model.
    Similarity {
        /// The train job of the scorer.
        scorer: Key,
        /// The scorer's tokenizer.
        tokenizer: Key,
        /// Kind of device that it scores on.
        device: DeviceKind,
        /// Arithmetic of the forward pass.
        precision: Precision,
    },
    /// A column of a table, joined by name.
    File {
        /// Which; the path is not in the key where `fingerprint` stands for its content.
        scores: ScoreFile,
        /// Content digest of the table.
        fingerprint: String,
    },
    /// A list of names.
    Uids {
        /// Which; the path is not in the key where `fingerprint` stands for its content.
        file: String,
        /// Content digest of the list.
        fingerprint: String,
    },
    /// Length of captions and size of pictures.
    Basic(Basic),
    /// A rule on features of a trained model.
    Rule(Box<RuleSpec>),
}

/// A rule on features of a trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// Which.
    pub rule: FeatureRule,
    /// The train job of the scorer.
    pub scorer: Key,
    /// The scorer's tokenizer, where captions are read.
    pub tokenizer: Option<Key>,
    /// The packed images of the target, where there is one.
    pub target: Option<Key>,
    /// Kind of device that features are computed on.
    pub device: DeviceKind,
    /// Arithmetic of the forward pass.
    pub precision: Precision,
}

impl ScoreBy {
    /// Jobs that it reads besides the pool.
    fn parents(&self) -> Vec<Key> {
        match self {
            Self::Field(_) | Self::File { .. } | Self::Uids { .. } | Self::Basic(_) => Vec::new(),
            Self::Similarity { scorer, tokenizer, .. } => vec![*scorer, *tokenizer],
            Self::Rule(spec) => [Some(spec.scorer), spec.tokenizer, spec.target].into_iter().flatten().collect(),
        }
    }

    /// Kind of device that it computes on, where it is a model.
    fn device(&self) -> Option<DeviceKind> {
        match self {
            Self::Field(_) | Self::File { .. } | Self::Uids { .. } | Self::Basic(_) => None,
            Self::Similarity { device, .. } => Some(*device),
            Self::Rule(spec) => Some(spec.device),
        }
    }
}

/// A list of sample indices of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubsetSpec {
    /// A pack of the pool that the indices point into. In the key, `samples` stands for it.
    pub pool: Key,
    /// Identity of the pool's samples: an index means the same one whatever the side and framing of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Key>,
    /// How much is kept.
    pub keep: Keep,
    /// Best by which measure.
    pub by: SubsetBy,
    /// The subset that it is chosen from; `None`: the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Key>,
    /// Which permutation a random one is drawn from.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub draw: u64,
}

/// What a subset ranks by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SubsetBy {
    /// A keyed permutation.
    Random,
    /// The output of a scores job.
    Scores(Key),
}

/// One model trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// What learns.
    pub model: ModelConfig,
    /// How.
    pub train: TrainConfig,
    /// The only source of randomness, but for the initial parameters where `init` has another.
    pub seed: u64,
    /// Seed of the initial parameters; `None`: `seed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<u64>,
    /// Kind of device.
    pub device: DeviceKind,
    /// Arithmetic of the step.
    pub precision: Precision,
    /// The packed pool.
    pub pool: Key,
    /// Which of its samples; `None`: all.
    pub subset: Option<Key>,
    /// How captions become tokens.
    pub tokenizer: Key,
}

/// One measurement of one trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateSpec {
    /// What is measured.
    pub task: EvalTask,
    /// Its name in metrics.
    pub name: String,
    /// The sets, in order.
    pub sets: Arc<[NamedSet]>,
    /// The job that packs the labelled set that a classifier is fitted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted_on: Option<Key>,
    /// Images of each class that few-shot classifiers are fitted on.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub shots: Arc<[u64]>,
    /// The train job.
    pub train: Key,
    /// Steps after which its weights are measured; `None`: the last ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// Its tokenizer.
    pub tokenizer: Key,
    /// Kind of device that features are computed on.
    pub device: DeviceKind,
    /// Arithmetic of the forward pass.
    pub precision: Precision,
}

/// The draw of most pools is left out of keys.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
pub(super) fn is_zero(draw: &u64) -> bool {
    *draw == 0
}

/// What most evaluations do not have is left out of keys.
fn is_empty(shots: &Arc<[u64]>) -> bool {
    shots.is_empty()
}

/// An evaluation set by name and job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSet {
    /// Its name in metrics.
    pub name: String,
    /// The job that packs it.
    pub set: Key,
}

/// What is written about a whole experiment. The runs themselves are in the plan; their digest stands for them here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportSpec {
    /// The experiment's id.
    pub experiment: String,
    /// Digest of what is said about the runs: tables and claims.
    pub statements: String,
    /// Runs in it.
    pub num_runs: u64,
    /// Digest of every run id with the keys of its jobs, in plan order.
    pub runs: Key,
}

// One version a kind, in its key: raised whenever the same spec would give other bytes.
impl DatasetSpec {
    /// Version of the code that packs a pool.
    pub const VERSION: u32 = 2;
}
impl EvalSetSpec {
    /// Version of the code that packs an evaluation set.
    pub const VERSION: u32 = 2;
}
impl TokenizerSpec {
    /// Version of the code that trains a tokenizer.
    pub const VERSION: u32 = 2;
}
impl ScoresSpec {
    /// Version of the code that scores a pool.
    pub const VERSION: u32 = 2;
}
impl SubsetSpec {
    /// Version of the code that chooses samples.
    pub const VERSION: u32 = 2;
}
impl TrainSpec {
    /// Version of the code that trains.
    pub const VERSION: u32 = 2;
}
impl EvaluateSpec {
    /// Version of the code that evaluates.
    pub const VERSION: u32 = 2;
}
impl ReportSpec {
    /// Version of the code that writes results.
    pub const VERSION: u32 = 6;
}

impl JobSpec {
    /// Its kind, as people and events name it.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Dataset(_) | Self::EvalSet(_) => JobKind::Dataset,
            Self::Tokenizer(_) => JobKind::Tokenizer,
            Self::Scores(_) => JobKind::Scores,
            Self::Subset(_) => JobKind::Subset,
            Self::Train(_) => JobKind::Train,
            Self::Evaluate(_) => JobKind::Evaluate,
            Self::Report(_) => JobKind::Report,
        }
    }

    /// The tag of its variant, in keys and records.
    #[must_use]
    pub fn tag(&self) -> &'static str {
        match self {
            Self::EvalSet(_) => "eval_set",
            _ => self.kind().name(),
        }
    }

    /// Version of the code that does it.
    #[must_use]
    pub fn version(&self) -> u32 {
        match self {
            Self::Dataset(_) => DatasetSpec::VERSION,
            Self::EvalSet(_) => EvalSetSpec::VERSION,
            Self::Tokenizer(_) => TokenizerSpec::VERSION,
            Self::Scores(_) => ScoresSpec::VERSION,
            Self::Subset(_) => SubsetSpec::VERSION,
            Self::Train(_) => TrainSpec::VERSION,
            Self::Evaluate(_) => EvaluateSpec::VERSION,
            Self::Report(_) => ReportSpec::VERSION,
        }
    }

    /// Keys of the jobs whose output it reads, in the order of its fields. A report names none: its inputs are the runs of
    /// its plan.
    #[must_use]
    pub fn parents(&self) -> Vec<Key> {
        match self {
            Self::Dataset(_) | Self::EvalSet(_) | Self::Report(_) => Vec::new(),
            Self::Tokenizer(spec) => spec.pool.into_iter().collect(),
            Self::Scores(ScoresSpec { pool, samples: _, by, within }) => {
                std::iter::once(*pool).chain(by.parents()).chain(*within).collect()
            }
            Self::Subset(SubsetSpec { pool, samples: _, keep: _, by, within, draw: _ }) => {
                let scores = match by {
                    SubsetBy::Random => None,
                    SubsetBy::Scores(scores) => Some(*scores),
                };
                std::iter::once(*pool).chain(scores).chain(*within).collect()
            }
            Self::Train(spec) => std::iter::once(spec.pool).chain(spec.subset).chain([spec.tokenizer]).collect(),
            Self::Evaluate(spec) => {
                let sets = spec.sets.iter().map(|s| s.set).chain(spec.fitted_on);
                [spec.train, spec.tokenizer].into_iter().chain(sets).collect()
            }
        }
    }

    /// Kind of device that it computes on; `None` where it is the CPU whatever the run says.
    #[must_use]
    pub fn device(&self) -> Option<DeviceKind> {
        match self {
            Self::Train(spec) => Some(spec.device),
            Self::Evaluate(spec) => Some(spec.device),
            Self::Scores(spec) => spec.by.device(),
            _ => None,
        }
    }
}
