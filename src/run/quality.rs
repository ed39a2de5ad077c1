//! Parts of a quality filter: how much it keeps, and the settings of its measures.

use serde::{Deserialize, Serialize};

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

/// A table of scores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreFile {
    /// Path of a CSV or TSV file with a header line, or of a Parquet file; a folder or a pattern of them.
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
