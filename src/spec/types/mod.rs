//! The experiment file as typed structs: the one source of the JSON Schema and of every default.
//!
//! Input: a tree that was checked against the schema of these very types. They mirror the YAML; what they mean is worked out
//! in `resolve`.

mod data;
mod evaluate;
mod model;
mod quality;
mod shapes;
mod sweep;
mod train;

use schemars::JsonSchema;
use serde::Deserialize;

pub use data::{DataSpec, SourceSpec, TokenizerSpec};
pub use evaluate::{EvalMap, EvalSpec, MilestoneSamples, MilestoneSpec, TrainSetMap};
pub use model::{ActivationSpec, ModelSpec, PixelSpec};
pub use quality::{
    BasicSpec, FileSpec, FilterSpec, ImageClusterSpec, KeepChoice, KeepSpec, NegClipLossSpec, NormSimSpec, NormSpec, QualityBySpec,
    QualitySpec, SemDedupSpec, SimilaritySpec, TargetSpec, TrainedOn,
};
pub use shapes::{Named, ScalarOr};
pub use sweep::{AxesSpec, RangeScale, RangeSpec, SeedsSpec, SubGridSpec, SweepSpec};
pub use train::{
    AugmentationSpec, BudgetSpec, GradClipSpec, LossSpec, OptimizerSpec, RelativeDecay, StrategySpec, TrainSpec, WarmupSamples,
    WarmupSpec, WeightDecaySpec,
};

pub use super::encoders::{ImageEncoderSpec, TextEncoderSpec};

use super::scalar::FilePath;
use crate::claims::ClaimSpec;
use crate::claims::fits::ScalingSpec;
use crate::tables::TableSpec;

/// One experiment: a question, and the grid of runs that answers it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "scaledown experiment")]
pub struct ExperimentSpec {
    /// Name, which is also the folder of its results: lower-case letters, digits and `-`, in segments between `/`.
    pub experiment: String,
    /// What the experiment asks, in one sentence.
    pub question: Option<String>,
    /// Where the question comes from, such as a paper and its figure.
    pub source: Option<String>,
    /// What is expected to come out, in words.
    pub expected: Option<String>,
    /// A file whose keys apply where this one has none; maps merge key by key, lists are replaced, `null` removes a key.
    pub base: Option<FilePath>,
    /// What the runs learn from.
    pub data: DataSpec,
    /// What learns.
    pub model: ModelSpec,
    /// How it learns.
    pub train: TrainSpec,
    /// What is measured after training.
    #[serde(default)]
    pub evaluate: Vec<EvalSpec>,
    /// Parts of a run's budget after which it is measured as well, ascending: shares such as `10%`, steps, or `{samples: ..}`. The end
    /// is always measured, as `100%`, whether it is stated or not. A metric at `50%` is `<metric> at 50%` in tables, the largest over
    /// all of them and the end `<metric> at best`: it is chosen on the very set that it is measured on, so it is biased upwards. The
    /// weights at these points are kept, which makes another training of a run. Default none.
    pub evaluate_at: Option<Vec<MilestoneSpec>>,
    /// Which settings vary, and over how many seeds; without it, one run.
    pub sweep: Option<SweepSpec>,
    /// Tables to write.
    #[serde(default)]
    pub tables: Vec<TableSpec>,
    /// Claims to judge on the tables.
    #[serde(default)]
    pub claims: Vec<ClaimSpec>,
    /// Curves to fit through cells: the error against compute or data.
    #[serde(default)]
    pub fits: Vec<ScalingSpec>,
}
