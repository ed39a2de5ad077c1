//! What is measured of a trained run, and on which sets.

use serde::{Deserialize, Serialize};

/// One measurement after training: a task on one or several sets.
///
/// Metrics are named `<task>/<name>.<metric>`; where there are several sets, also `<task>/<name>/<set>.<metric>`, and the
/// first form is their plain mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// What is measured.
    pub task: EvalTask,
    /// Name in metrics, tables and claims.
    pub name: String,
    /// The sets, in order; never empty.
    pub sets: Vec<EvalSet>,
}

/// What an evaluation measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvalTask {
    /// Classification by prompts: `acc1`, `acc5`, `mean_per_class_recall`.
    Zeroshot,
    /// Ranking both ways: `image_retrieval_recall@K`, `text_retrieval_recall@K`, K in 1, 5, 10.
    Retrieval,
    /// k labelled images a class: `fewshot5_acc1`, `fewshot10_acc1`.
    Fewshot,
    /// A linear classifier on frozen features: `lp_acc1`.
    LinearProbe,
}

impl EvalTask {
    /// Name as written in experiment files and metric names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zeroshot => "zeroshot",
            Self::Retrieval => "retrieval",
            Self::Fewshot => "fewshot",
            Self::LinearProbe => "linear-probe",
        }
    }
}

/// One evaluation set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSet {
    /// Short name, unique in its evaluation.
    pub name: String,
    /// Where it comes from.
    pub source: EvalSource,
}

/// Where an evaluation set comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EvalSource {
    /// A set of the procedural world.
    Scenes {
        /// Seed of the world, the same as the training data's.
        world_seed: u64,
        /// `iid`, or a shift: `fresh`, `sketch`, `rendition`, `hard`, `viewpoint`, `relabelled`.
        variant: String,
        /// Images.
        samples: u64,
    },
    /// A folder in the `CLIP_benchmark` webdataset layout.
    Folder {
        /// The folder that holds `classnames.txt` and the split.
        path: String,
        /// Split, usually `test`.
        split: String,
    },
    /// Training-layout shards whose metadata name the class: a held-out part of a training set.
    Shards {
        /// Shard paths, expanded.
        shards: Vec<String>,
        /// Numeric metadata field with the class index.
        class_field: String,
        /// File with one class name a line.
        classnames: String,
        /// File with one template a line (`{c}` is the class name).
        templates: String,
    },
}
