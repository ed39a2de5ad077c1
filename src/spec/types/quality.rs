//! `data.quality:`, which part of the pool is kept.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Count, FilePath, Quantity, Share};
use super::ScalarOr;

/// Which part of the pool is kept. `data.train.size` is taken before it, `size` after it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualitySpec {
    /// How much.
    pub keep: KeepSpec,
    /// Best by which measure; needed unless all is kept.
    pub by: Option<QualityBySpec>,
    /// Filters on what is left, in turn; their shares are of the whole pool.
    pub then: Option<Vec<FilterSpec>>,
    /// Samples drawn at random of what the filters leave; all of it unless stated.
    pub size: Option<Count>,
}

/// A filter after the first one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterSpec {
    /// How much.
    pub keep: KeepSpec,
    /// Best by which measure.
    pub by: QualityBySpec,
}

/// How much is kept: a share such as `40%`, `{count: 1M}`, `{at_least: 0.28}` or `{datacomp: 30%}`.
pub type KeepSpec = ScalarOr<Share, KeepChoice>;

/// How much is kept, in other ways than a share.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepChoice {
    /// So many samples.
    Count(Count),
    /// All with at least this score.
    AtLeast(f64),
    /// `DataComp`'s rule for a share: all with at least the score at place floor(N * share), so one more and every tie.
    Datacomp(Share),
}

/// The measure that a quality filter ranks by.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QualityBySpec {
    /// A random part: a control of the same size.
    Random,
    /// A numeric field of the samples' metadata, such as `clip_l14_similarity_score`.
    Field(String),
    /// Cosine similarity of image and caption under a model that is itself a run.
    Similarity(SimilaritySpec),
    /// A column of a CSV, TSV or Parquet file, joined by the `uid` of the samples.
    File(FileSpec),
    /// A list of the samples to keep, by `uid`: a `.npy` as `DataComp`'s subset files are, or a text with one a line. 1 for what is in
    /// it, 0 for what is not: `keep: {at_least: 1}`.
    Uids(FilePath),
    /// Captions of some length on pictures of some size: 1 for what passes, 0 for what does not.
    Basic(BasicSpec),
    /// Similarity of a pair less what it has with others of a batch.
    NegClipLoss(NegClipLossSpec),
    /// How much of a target's images a sample's image looks like.
    NormSim(NormSimSpec),
    /// How many images of a target fall into the cluster of a sample's image.
    ImageCluster(ImageClusterSpec),
    /// How far an image is from every earlier one of its cluster: `{at_least: epsilon}` drops near copies.
    SemDedup(SemDedupSpec),
}

/// A scorer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimilaritySpec {
    /// An experiment file without a sweep: the run that scores.
    pub scorer: FilePath,
    /// Seed of that run; 0 unless stated. Where seeds draw the scorer, another one for each, made of this and theirs.
    #[serde(default)]
    pub seed: u64,
    /// What the scorer must have been trained on; refused where it was not.
    pub trained_on: Option<TrainedOn>,
}

/// What a scorer was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainedOn {
    /// The pool that it scores.
    Pool,
    /// Samples of which none is in the pool.
    Disjoint,
}

/// A table of scores.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// A CSV or TSV file with a header line, or a Parquet file; a folder of `.parquet` files or a pattern with `*`, `?` or `[..]` is one
    /// table in parts.
    pub path: FilePath,
    /// Column with the scores.
    pub score_column: String,
    /// Column with the samples' names: the `uid` of their metadata or, where they have none, their key. Default `uid`.
    pub id_column: Option<String>,
}

/// What captions and pictures must have at least. **Source** of the defaults: `DataComp`'s basic filter, without its language.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicSpec {
    /// Words of the caption. Default 3.
    pub min_words: Option<Count>,
    /// Characters of the caption. Default 6.
    pub min_characters: Option<Count>,
    /// Pixels of the shorter side of the original picture, from the fields `original_width` and `original_height`; 0 asks for none.
    /// Default 200.
    pub min_side: Option<Count>,
    /// Longer side over shorter side at most; 0 asks for none. Default 3.
    pub max_aspect: Option<Quantity>,
}

/// `neg_clip_loss`. **Source** of the defaults: Wang et al. 2024.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NegClipLossSpec {
    /// An experiment file without a sweep: the run that scores.
    pub scorer: FilePath,
    /// Seed of that run; 0 unless stated. Where seeds draw the scorer, another one for each, made of this and theirs.
    #[serde(default)]
    pub seed: u64,
    /// What the scorer must have been trained on; refused where it was not.
    pub trained_on: Option<TrainedOn>,
    /// Temperature of the softmax. Default 0.01.
    pub temperature: Option<Quantity>,
    /// Most pairs of a batch. Default 32768.
    pub batch: Option<Count>,
    /// Permutations of the pool that are averaged, where it is more than a batch. Default 10.
    pub permutations: Option<Count>,
}

/// `norm_sim`. **Source**: Wang et al. 2024.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NormSimSpec {
    /// An experiment file without a sweep: the run that scores.
    pub scorer: FilePath,
    /// Seed of that run; 0 unless stated. Where seeds draw the scorer, another one for each, made of this and theirs.
    #[serde(default)]
    pub seed: u64,
    /// What the scorer must have been trained on; refused where it was not.
    pub trained_on: Option<TrainedOn>,
    /// The images that the pool is compared with.
    pub target: TargetSpec,
    /// Norm of the similarities. Default `l2`.
    pub norm: Option<NormSpec>,
}

/// A norm.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormSpec {
    /// The root of the sum of squares.
    L2,
    /// The largest absolute value.
    Linf,
}

/// `image_cluster`. **Source**: `DataComp`, with 100,000 clusters for 12.8 M samples.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageClusterSpec {
    /// An experiment file without a sweep: the run that scores.
    pub scorer: FilePath,
    /// Seed of that run; 0 unless stated. Where seeds draw the scorer, another one for each, made of this and theirs.
    #[serde(default)]
    pub seed: u64,
    /// What the scorer must have been trained on; refused where it was not.
    pub trained_on: Option<TrainedOn>,
    /// The images that clusters are kept for.
    pub target: TargetSpec,
    /// Clusters.
    pub clusters: Count,
    /// Steps of k-means. Default 20.
    pub iterations: Option<Count>,
}

/// `sem_dedup`. **Source**: Abbas et al. 2023, with 50,000 clusters.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SemDedupSpec {
    /// An experiment file without a sweep: the run that scores.
    pub scorer: FilePath,
    /// Seed of that run; 0 unless stated. Where seeds draw the scorer, another one for each, made of this and theirs.
    #[serde(default)]
    pub seed: u64,
    /// What the scorer must have been trained on; refused where it was not.
    pub trained_on: Option<TrainedOn>,
    /// Clusters.
    pub clusters: Count,
    /// Steps of k-means. Default 100.
    pub iterations: Option<Count>,
}

/// Images that a pool is compared with.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "dataset", rename_all = "snake_case", deny_unknown_fields)]
pub enum TargetSpec {
    /// A set of the procedural world, of the pool's own world where that is one.
    Scenes {
        /// `iid` unless stated, or a shift.
        variant: Option<String>,
        /// Images. Default 2k.
        samples: Option<Count>,
    },
    /// A split of a folder in the `CLIP_benchmark` layout.
    Folder {
        /// The folder.
        folder: FilePath,
        /// Its split. Default `train`: what is measured on `test` should not choose the data.
        split: Option<String>,
    },
}
