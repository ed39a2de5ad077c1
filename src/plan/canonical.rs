//! The bytes that a key is the digest of: `{"kind":..,"version":..,"spec":..}` as JSON without spaces, fields in the order
//! of their structs, floats by their shortest decimal form.
//!
//! Fields are opted out by name, never in: what is left out is the *path* of a source whose content digest is known, and the
//! pack of a job that reads no pixel, for which the identity of the pack's samples stands. A data set that moves keeps its key;
//! one that changes does not.

use std::borrow::Cow;

use serde::Serialize;

use super::Key;
use super::job::{DatasetSpec, EvalSetSpec, JobSpec, ScoreBy, ScoresSpec, SubsetBy, SubsetSpec, TokenizerSpec, is_zero};
use crate::run::{DataSource, EvalSource, Framing, Keep, ScenesConfig, ScoreFile, TokenizerConfig};

impl JobSpec {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> Key {
        let mut bytes = Vec::with_capacity(1536);
        write(self, &mut bytes);
        Key::of(&bytes)
    }
}

#[derive(Serialize)]
struct Keyed<'a, S> {
    kind: &'a str,
    version: u32,
    spec: S,
}

impl DatasetSpec {
    /// Identity of its samples, in order: captions, labels, fields and what is left out. Packs of other sides and framings have
    /// the same, so that an index means the same sample in all of them.
    #[must_use]
    pub fn samples(&self) -> Key {
        let mut bytes = Vec::with_capacity(256);
        write_samples(self, &mut bytes);
        Key::of(&bytes)
    }
}

/// Appends the canonical form of `spec`.
pub(super) fn write(spec: &JobSpec, out: &mut Vec<u8>) {
    match spec {
        JobSpec::Dataset(inner) => envelope(spec, KeyedDataset::from(inner), out),
        JobSpec::EvalSet(inner) => envelope(spec, KeyedEvalSet::from(inner), out),
        JobSpec::Tokenizer(inner) => envelope(spec, KeyedTokenizer::from(inner), out),
        JobSpec::Scores(inner) => envelope(spec, KeyedScores::from(inner), out),
        JobSpec::Subset(inner) => envelope(spec, KeyedSubset::from(inner), out),
        JobSpec::Train(inner) => envelope(spec, inner, out),
        JobSpec::Evaluate(inner) => envelope(spec, inner, out),
        JobSpec::Report(inner) => envelope(spec, inner, out),
    }
}

/// Appends the canonical form of a pool's samples, whatever the side and framing of images.
pub(super) fn write_samples(spec: &DatasetSpec, out: &mut Vec<u8>) {
    let KeyedDataset { source, size, draw, fingerprint, image_size: _, framing: _ } = KeyedDataset::from(spec);
    let (kind, version) = ("samples", DatasetSpec::VERSION);
    let written = match draw {
        0 => serde_json::to_writer(out, &Keyed { kind, version, spec: (source, size, fingerprint) }),
        draw => serde_json::to_writer(out, &Keyed { kind, version, spec: (source, size, draw, fingerprint) }),
    };
    written.expect("plain structs with text keys always serialise, and a Vec never refuses bytes");
}

fn envelope<S: Serialize>(job: &JobSpec, spec: S, out: &mut Vec<u8>) {
    let keyed = Keyed { kind: job.tag(), version: job.version(), spec };
    serde_json::to_writer(out, &keyed).expect("plain structs with text keys always serialise, and a Vec never refuses bytes");
}

#[derive(Serialize)]
struct KeyedDataset<'a> {
    source: KeyedData<'a>,
    size: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    draw: u64,
    image_size: usize,
    #[serde(skip_serializing_if = "Framing::is_centre")]
    framing: Framing,
    fingerprint: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum KeyedData<'a> {
    Scenes(&'a ScenesConfig),
    Webdataset { shards: Option<&'a [String]> },
    Table { file: Option<&'a str>, image_column: &'a str, caption_column: &'a str },
    Declared { samples: u64 },
}

impl<'a> From<&'a DatasetSpec> for KeyedDataset<'a> {
    fn from(spec: &'a DatasetSpec) -> Self {
        let DatasetSpec { source, size, draw, image_size, framing, fingerprint } = spec;
        let unknown = fingerprint.is_empty();
        let source = match source {
            DataSource::Scenes(world) => KeyedData::Scenes(world),
            DataSource::Webdataset { shards } => KeyedData::Webdataset { shards: unknown.then_some(shards) },
            DataSource::Table { file, image_column, caption_column } => {
                KeyedData::Table { file: unknown.then_some(file), image_column, caption_column }
            }
            DataSource::Declared { samples } => KeyedData::Declared { samples: *samples },
        };
        Self { source, size: *size, draw: *draw, image_size: *image_size, framing: *framing, fingerprint }
    }
}

#[derive(Serialize)]
struct KeyedEvalSet<'a> {
    source: KeyedEval<'a>,
    image_size: usize,
    fingerprint: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum KeyedEval<'a> {
    Scenes { world_seed: u64, variant: &'a str, samples: u64, shifts: f64 },
    Folder { path: Option<&'a str>, split: &'a str },
    Shards { files: Option<(&'a [String], &'a str, &'a str)>, class_field: &'a str },
}

impl<'a> From<&'a EvalSetSpec> for KeyedEvalSet<'a> {
    fn from(spec: &'a EvalSetSpec) -> Self {
        let EvalSetSpec { source, image_size, fingerprint } = spec;
        let unknown = fingerprint.is_empty();
        let source = match source {
            EvalSource::Scenes { world_seed, variant, samples, shifts } => {
                KeyedEval::Scenes { world_seed: *world_seed, variant, samples: *samples, shifts: *shifts }
            }
            EvalSource::Folder { path, split } => KeyedEval::Folder { path: unknown.then_some(path), split },
            EvalSource::Shards { shards, class_field, classnames, templates } => {
                KeyedEval::Shards { files: unknown.then_some((shards, classnames, templates)), class_field }
            }
        };
        Self { source, image_size: *image_size, fingerprint }
    }
}

#[derive(Serialize)]
struct KeyedTokenizer<'a> {
    config: KeyedVocabulary<'a>,
    pool: Option<Key>,
    fingerprint: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum KeyedVocabulary<'a> {
    Bpe { vocab_size: u32 },
    Unigram { vocab_size: u32 },
    ClipBpe { file: Option<&'a str> },
}

impl<'a> From<&'a TokenizerSpec> for KeyedTokenizer<'a> {
    fn from(spec: &'a TokenizerSpec) -> Self {
        let TokenizerSpec { config, pool, samples, fingerprint } = spec;
        let config = match config {
            TokenizerConfig::Bpe { vocab_size } => KeyedVocabulary::Bpe { vocab_size: *vocab_size },
            TokenizerConfig::Unigram { vocab_size } => KeyedVocabulary::Unigram { vocab_size: *vocab_size },
            TokenizerConfig::ClipBpe { file } => KeyedVocabulary::ClipBpe { file: fingerprint.is_empty().then_some(file) },
        };
        Self { config, pool: samples.or(*pool), fingerprint }
    }
}

#[derive(Serialize)]
struct KeyedScores<'a> {
    pool: Key,
    by: Cow<'a, ScoreBy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    within: Option<Key>,
}

impl<'a> From<&'a ScoresSpec> for KeyedScores<'a> {
    fn from(spec: &'a ScoresSpec) -> Self {
        let ScoresSpec { pool, samples, by, within } = spec;
        let by = match by {
            ScoreBy::File { scores, fingerprint } if !fingerprint.is_empty() => {
                let scores = ScoreFile { file: String::new(), ..scores.clone() };
                Cow::Owned(ScoreBy::File { scores, fingerprint: fingerprint.clone() })
            }
            ScoreBy::Uids { file: _, fingerprint } if !fingerprint.is_empty() => {
                Cow::Owned(ScoreBy::Uids { file: String::new(), fingerprint: fingerprint.clone() })
            }
            by => Cow::Borrowed(by),
        };
        Self { pool: samples.unwrap_or(*pool), by, within: *within }
    }
}

#[derive(Serialize)]
struct KeyedSubset<'a> {
    pool: Key,
    keep: &'a Keep,
    by: &'a SubsetBy,
    #[serde(skip_serializing_if = "Option::is_none")]
    within: Option<Key>,
    #[serde(skip_serializing_if = "is_zero")]
    draw: u64,
}

impl<'a> From<&'a SubsetSpec> for KeyedSubset<'a> {
    fn from(spec: &'a SubsetSpec) -> Self {
        let SubsetSpec { pool, samples, keep, by, within, draw } = spec;
        Self { pool: samples.unwrap_or(*pool), keep, by, within: *within, draw: *draw }
    }
}
