//! Which part of a pool is kept, and by which measure.

use serde::{Deserialize, Serialize};

use super::{EvalSource, RunConfig};

/// Which part of the pool is kept: one filter or several in turn, and a size after them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityConfig {
    /// How much.
    pub keep: Keep,
    /// Best by which measure.
    pub by: QualityBy,
    /// Filters on what is left, in turn. Shares are of the whole pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<FilterConfig>,
    /// Samples drawn of what the filters leave: the first of a keyed permutation. `None`: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A filter after the first one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterConfig {
    /// How much.
    pub keep: Keep,
    /// Best by which measure.
    pub by: QualityBy,
}

impl QualityConfig {
    /// One filter and nothing after it.
    #[must_use]
    pub fn single(keep: Keep, by: QualityBy) -> Self {
        Self { keep, by, then: Vec::new(), size: None }
    }

    /// The measures of all filters, in turn.
    pub fn measures(&self) -> impl Iterator<Item = &QualityBy> {
        std::iter::once(&self.by).chain(self.then.iter().map(|filter| &filter.by))
    }

    /// The measures of all filters, to be changed.
    pub fn measures_mut(&mut self) -> impl Iterator<Item = &mut QualityBy> {
        std::iter::once(&mut self.by).chain(self.then.iter_mut().map(|filter| &mut filter.by))
    }
}

/// How much of the pool a quality filter keeps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Keep {
    /// A share in (0, 1), rounded to the nearest sample and at least one.
    Share(f64),
    /// A share in (0, 1), rounded down.
    WholeShare(f64),
    /// A number of samples.
    Count(u64),
    /// All with at least this score.
    AtLeast(f64),
    /// All with at least the score at place floor(N * share) of the scores in descending order: `DataComp`'s rule, which keeps at
    /// least one sample more than the share, and ties.
    Datacomp(f64),
}

/// The measure that a quality filter ranks by; ties go to the lower index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum QualityBy {
    /// A keyed permutation: a control of the same size.
    Random,
    /// A numeric field of the sample's metadata, such as `clip_l14_similarity_score`.
    Field(String),
    /// Cosine similarity of image and caption under a model that is itself a run.
    Similarity {
        /// The scorer's whole config (its `evaluate` is empty).
        scorer: Box<RunConfig>,
    },
    /// A column of a table, joined by the samples' names.
    File(ScoreFile),
    /// Length of captions and size of pictures: 1 for what passes, 0 for what does not.
    Basic(Basic),
    /// A rule on the features of a model that is itself a run.
    Rule {
        /// Which.
        rule: FeatureRule,
        /// The scorer's whole config (its `evaluate` is empty).
        scorer: Box<RunConfig>,
        /// Images that the pool is compared with, where the rule has a target.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<EvalSource>,
    },
}

impl QualityBy {
    /// The run that scores, where there is one.
    #[must_use]
    pub fn scorer(&self) -> Option<&RunConfig> {
        match self {
            Self::Similarity { scorer } | Self::Rule { scorer, .. } => Some(scorer),
            Self::Random | Self::Field(_) | Self::File(_) | Self::Basic(_) => None,
        }
    }
}

/// A table of scores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreFile {
    /// Path of a CSV or TSV file with a header line.
    pub file: String,
    /// Column with the samples' names.
    pub id_column: String,
    /// Column with the scores.
    pub score_column: String,
}

/// What a caption and a picture must have at least.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// Words of the caption, parted by white space.
    pub min_words: u64,
    /// Characters (code points) of the caption.
    pub min_characters: u64,
    /// Pixels of the shorter side; 0 asks for none.
    pub min_side: u64,
    /// Longer side over shorter side at most; `None` asks for none.
    pub max_aspect: Option<f64>,
}

impl Default for Basic {
    /// **Source**: `DataComp`'s basic filter, which asks for more than 2 words, more than 5 characters, a smaller side of at least
    /// 200 pixels and an aspect of at most 3.
    fn default() -> Self {
        Self { min_words: 3, min_characters: 6, min_side: 200, max_aspect: Some(3.0) }
    }
}

impl Basic {
    /// Metadata fields with width and height of the original picture, as img2dataset writes them, pixels.
    pub const SIZE_FIELDS: [&str; 2] = ["original_width", "original_height"];

    /// Whether it looks at sizes.
    #[must_use]
    pub fn needs_size(&self) -> bool {
        self.min_side > 0 || self.max_aspect.is_some()
    }
}

/// A rule on features of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FeatureRule {
    /// Similarity of a pair less what it has with others of a batch.
    NegClipLoss(NegClipLoss),
    /// Norm of an image's similarities to the target's images.
    NormSim {
        /// Which.
        norm: Norm,
    },
    /// How many images of the target fall into the cluster of a sample's image.
    ImageCluster(Clustering),
    /// How far an image is from every earlier one of its cluster.
    SemDedup(Clustering),
}

impl FeatureRule {
    /// Its name as written.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NegClipLoss(_) => "neg_clip_loss",
            Self::NormSim { .. } => "norm_sim",
            Self::ImageCluster(_) => "image_cluster",
            Self::SemDedup(_) => "sem_dedup",
        }
    }

    /// Whether it reads captions, for which the scorer needs its tokenizer.
    #[must_use]
    pub fn reads_captions(&self) -> bool {
        matches!(self, Self::NegClipLoss(_))
    }
}

/// How pairs meet others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NegClipLoss {
    /// Temperature of the softmax (tau).
    pub temperature: f64,
    /// Most pairs of a batch; a smaller pool is one batch.
    pub batch: u64,
    /// Permutations of the pool whose batches' scores are averaged.
    pub permutations: u64,
}

impl Default for NegClipLoss {
    /// **Source**: Wang et al. 2024 (`negCLIPLoss`): tau 0.01, batches of 32,768, 10 permutations.
    fn default() -> Self {
        Self { temperature: 0.01, batch: 32_768, permutations: 10 }
    }
}

/// Which norm of the similarities to a target's images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// The root of the sum of squares.
    Two,
    /// The largest absolute value.
    Inf,
}

/// k-means of a pool's image features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clustering {
    /// Clusters; never more than samples.
    pub clusters: u64,
    /// Lloyd's steps.
    pub iterations: u64,
}
