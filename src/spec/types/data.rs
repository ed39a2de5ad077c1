//! `data:`, what the runs learn from.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Count, FilePath, Shards, Share};
use super::{Named, QualitySpec};

/// What the runs learn from: a pool, a filter on it, and how captions become tokens.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// The pool of image-text pairs.
    pub train: SourceSpec,
    /// Which part of the pool is kept; without it, all.
    pub quality: Option<QualitySpec>,
    /// How captions become tokens; `bpe` with 1,024 entries unless stated.
    pub tokenizer: Option<Named<TokenizerSpec>>,
    /// Where the strategy crops, whole pictures are packed, and this is the side of the square whose area they have at most,
    /// pixels. Default: so large that the smallest crop is not enlarged, but at most twice `model.image_size`. Runs that do not
    /// crop are packed at `model.image_size`.
    pub pack_side: Option<Count>,
}

/// Where image-text pairs come from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "dataset", rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceSpec {
    /// The procedural world that the program renders itself.
    Scenes {
        /// Samples in the pool; smaller pools are part of larger ones.
        size: Count,
        /// Seed of the world (not of the run); 0 unless stated.
        #[serde(default)]
        world_seed: u64,
        /// Share of the samples with a fault of caption or image; 35% unless stated.
        faults: Option<Share>,
        /// The class of rank k is drawn as often as 1 / k to this power; 0.7 unless stated, 0 for all alike, at most 3.
        long_tail: Option<f64>,
        /// Share of the images of the shifted evaluation sets that are shifted; 100% unless stated.
        shifts: Option<Share>,
    },
    /// Tar shards in the webdataset / img2dataset layout.
    Webdataset {
        /// Paths of the shards, patterns such as `train/*.tar`, or folders of tars.
        shards: Shards,
        /// Samples in the pool; all there are unless stated.
        size: Option<Count>,
        /// Share of the listed shards that may be missing (gaps in their numbers); 10% unless stated.
        max_missing: Option<Share>,
    },
    /// A CSV or TSV file of image paths and captions.
    Table {
        /// Path of the table.
        file: FilePath,
        /// Column with image paths, relative to the table's folder.
        image_column: String,
        /// Column with captions.
        caption_column: String,
        /// Samples in the pool; all there are unless stated.
        size: Option<Count>,
        /// Share of the rows whose image may be missing; 10% unless stated.
        max_missing: Option<Share>,
    },
    /// A data set that is planned and costed but not at hand; `run` refuses it.
    Declared {
        /// Samples it is declared to hold.
        samples: Count,
        /// Samples in the pool; all there are unless stated.
        size: Option<Count>,
    },
}

impl SourceSpec {
    /// Share of the files that may be missing unless stated: a few shards of a large download fail as a rule, and more are a
    /// mistake in a path.
    pub const DEFAULT_MAX_MISSING: f64 = 0.1;
}

/// How captions become tokens.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerSpec {
    /// Byte-pair encoding trained on the captions of the pool.
    Bpe {
        /// Entries, special tokens included; 1,024 unless stated.
        vocab_size: Option<Count>,
    },
    /// Unigram, as `SentencePiece`, trained on the captions of the pool.
    Unigram {
        /// Entries, special tokens included; 1,024 unless stated.
        vocab_size: Option<Count>,
    },
    /// The CLIP byte-pair encoding from its vocabulary file.
    ClipBpe {
        /// Path of `bpe_simple_vocab_16e6.txt.gz`.
        file: FilePath,
    },
}

impl TokenizerSpec {
    /// Entries unless stated. **Source**: the captions of `scenes` use a few hundred words; the paper's 32,000 suit the web.
    pub const DEFAULT_VOCAB_SIZE: u64 = 1024;
}
