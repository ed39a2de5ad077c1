//! `evaluate:`, what is measured after training.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Count, FilePath, Interval, Shards};
use super::ScalarOr;
use std::collections::BTreeMap;

/// One evaluation: `<task>/scenes`, `<task>/scenes-shifts`, or a map that says where its sets are.
pub type EvalSpec = ScalarOr<String, EvalMap>;

/// A part of a run's budget: a share, steps, or samples.
pub type MilestoneSpec = ScalarOr<Interval, MilestoneSamples>;

/// A part of a run's budget by samples seen.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MilestoneSamples {
    /// Pairs seen, repeats counted; the nearest step is measured.
    pub samples: Count,
}

/// An evaluation: exactly one task with its name, and exactly one place of its sets.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalMap {
    /// Classification by prompts, under this name.
    pub zeroshot: Option<String>,
    /// Ranking both ways, under this name.
    pub retrieval: Option<String>,
    /// A ridge classifier on a few labelled images of each class, under this name.
    pub fewshot: Option<String>,
    /// A linear classifier on frozen features, under this name.
    #[serde(rename = "linear-probe")]
    pub linear_probe: Option<String>,
    /// A folder in the `CLIP_benchmark` layout.
    pub folder: Option<FilePath>,
    /// Several such folders by short name: metrics are for each, and their mean.
    pub folders: Option<BTreeMap<String, FilePath>>,
    /// Split of the folders. Default `test`: `CLIP_benchmark`.
    pub split: Option<String>,
    /// Training-layout shards whose metadata name the class.
    pub shards: Option<Shards>,
    /// Numeric metadata field with the class index, for `shards`.
    pub class_field: Option<String>,
    /// File with one class name a line, for `shards`.
    pub classnames: Option<FilePath>,
    /// File with one template a line (`{c}` is the class name), for `shards`.
    pub templates: Option<FilePath>,
    /// Images a set, for the sets of `scenes`. Default 2k: an accuracy of 50 % is then known to 1.1 points.
    pub samples: Option<Count>,
    /// The labelled images that `fewshot` and `linear-probe` are fitted on: a split of the folder, or a map that says where they
    /// are. Needed by both but for `scenes`, whose default is its split `train` of 2k images.
    pub train: Option<ScalarOr<String, TrainSetMap>>,
    /// Images of each class for `fewshot`, one classifier each. Default `[5, 10]`: the paper.
    pub shots: Option<Vec<Count>>,
}

/// The labelled images that a classifier is fitted on: a folder with a split, or shards, or a size for `scenes`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSetMap {
    /// A folder in the `CLIP_benchmark` layout. Default: that of the evaluation.
    pub folder: Option<FilePath>,
    /// Split of the folder. Default `train`.
    pub split: Option<String>,
    /// Training-layout shards whose metadata name the class.
    pub shards: Option<Shards>,
    /// Numeric metadata field with the class index, for `shards`. Default: that of the evaluation.
    pub class_field: Option<String>,
    /// File with one class name a line, for `shards`. Default: that of the evaluation (of the first folder, where it has several).
    pub classnames: Option<FilePath>,
    /// Images, for the split `train` of `scenes`. Default 2k.
    pub samples: Option<Count>,
}
