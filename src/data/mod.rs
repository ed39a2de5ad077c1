//! Shards, packed store, tokenizer, scenes, subsets, sample order.
//!
//! Owns the bytes of samples: from tar shards, tables, evaluation folders or the procedural world, through one packed store, to
//! the batches of a run. Input: [`DataSource`](crate::run::DataSource), [`EvalSource`](crate::run::EvalSource) and other parts of a
//! run's config. Output: [`Pack`], [`Tokenizer`], [`Subset`], [`BatchSource`].
//!
//! Invariants: every draw comes from a keyed counter ([`Philox`]), never from a clock or a global generator; the same input gives
//! the same bytes whatever the thread count; a bad sample is counted and listed, a damaged shard is an error that names the
//! byte. Must not know: tensors, models, jobs, the store. Imports only [`run`](crate::run), and the matrix product of `scaledown_ops` for
//! the selection rules.

mod ahead;
mod augment;
mod batch;
mod benchmark;
mod contact_sheet;
mod decode;
mod error;
mod fingerprint;
mod mapped;
mod memory;
mod metadata;
mod names;
mod npy;
mod open;
mod order;
mod pack;
mod pack_writer;
mod packing;
mod parquet;
mod philox;
mod samples;
pub mod scenes;
mod score_file;
mod seen;
pub mod select;
mod shards;
mod subset;
mod survey;
mod table;
mod tally;
mod tokenizer;
mod uid_list;

pub use ahead::{Ahead, Made};
pub use augment::{Augmenter, Views};
pub use batch::{Batch, BatchSource};
pub use benchmark::prompt;
pub use contact_sheet::contact_sheet;
pub use decode::Decoder;
pub use error::{DataError, DataResult};
pub use fingerprint::{fingerprint, fingerprint_eval, fingerprint_files};
pub use names::SampleName;
pub use order::{Permutation, SampleOrder, pool, pool_order};
pub use pack::{Frame, NO_LABEL, PACK_FORMAT, Pack, PackHeader, PackTask, PictureView, ShardCount, Skip, SkipKind, Skips};
pub use pack_writer::{PackSummary, PackWriter, PackedSample, Picture};
pub use packing::{PoolPart, count, pack_eval, pack_training};
pub use philox::{Draws, Philox, Stream, philox4x32, uniform_f32};
pub use score_file::{ScoreTable, score_files};
pub use shards::matching_shards;
pub use subset::{Ranking, Subset, choose, read_subset, write_subset};
pub use survey::{Fault, Survey, survey, survey_eval, survey_field, survey_scores, survey_uids, survey_vocabulary};
pub use tally::Oddities;
pub use tokenizer::{Encoded, EncodedCaptions, Lengths, Tokenizer, clean, equal_classes};
pub use uid_list::{Listed, UidList};
