//! Paths as the user wrote them: `${DATA}/t.tar`, relative to the file that states it, with its braces.
//!
//! Runs need paths that can be opened from where the program was started; records must not depend on where that is. Input: a
//! composed tree. Output: [`Written`], which turns the paths of a resolved config back into the texts that stand in the file.

use std::collections::HashMap;

use super::brace;
use super::files::Files;
use super::source::Sources;
use super::tree::{Node, Scalar, Tree};
use crate::run::{DataConfig, DataSource, EvalConfig, EvalSource, QualityBy, QualityConfig, RunConfig, TokenizerConfig};

/// The texts behind resolved paths. A path that no file states is its own text.
#[derive(Debug, Clone, Default)]
pub struct Written {
    paths: HashMap<String, String>,
    shards: HashMap<Vec<String>, String>,
}

impl Written {
    /// Notes every scalar of a tree as the path that it would be.
    pub(super) fn note(&mut self, tree: &Node, sources: &Sources, files: &dyn Files) {
        self.descend(tree, (sources, files), false);
    }

    fn descend(&mut self, node: &Node, (sources, files): (&Sources, &dyn Files), is_shards: bool) {
        match &node.value {
            Tree::List(items) => items.iter().for_each(|item| self.descend(item, (sources, files), is_shards)),
            Tree::Map(entries) => {
                for entry in entries {
                    // A key may be a whole axis path, and the values of an axis stand below it.
                    let is_shards = is_shards || entry.key.rsplit('.').next() == Some("shards");
                    self.descend(&entry.value, (sources, files), is_shards);
                }
            }
            Tree::Scalar(Scalar { text, template, .. }) => {
                let written = template.as_ref().unwrap_or(text);
                let located = |part: &str| sources.join(node.span.file, part);
                if is_shards {
                    let parts: Vec<String> = brace::split_patterns(text).map(located).collect();
                    // Patterns and folders that cannot be looked up are problems where the section is resolved.
                    let look_up =
                        |paths: Vec<String>| paths.iter().map(|path| files.shards(path)).collect::<Result<Vec<_>, _>>().ok();
                    if let Some(paths) = brace::expand(&parts.join("::"), brace::MAX_PATHS).ok().and_then(look_up) {
                        let paths = paths.concat();
                        self.shards.entry(paths).or_insert_with(|| written.clone());
                    }
                } else {
                    self.paths.entry(located(text)).or_insert_with(|| written.clone());
                }
            }
        }
    }

    /// The text of a path.
    #[must_use]
    pub fn path(&self, path: &str) -> String {
        self.paths.get(path).map_or(path, String::as_str).to_owned()
    }

    /// The text of a list of shards, as one pattern where it was written as one.
    #[must_use]
    pub fn shards(&self, paths: &[String]) -> Vec<String> {
        self.shards.get(paths).map_or_else(|| paths.iter().map(|path| self.path(path)).collect(), |text| vec![text.clone()])
    }

    /// A training source with its paths as written.
    #[must_use]
    pub fn data(&self, source: &DataSource) -> DataSource {
        match source {
            DataSource::Webdataset { shards } => DataSource::Webdataset { shards: self.shards(shards) },
            DataSource::Table { file, image_column, caption_column } => DataSource::Table {
                file: self.path(file),
                image_column: image_column.clone(),
                caption_column: caption_column.clone(),
            },
            DataSource::Scenes(_) | DataSource::Declared { .. } => source.clone(),
        }
    }

    /// An evaluation source with its paths as written.
    #[must_use]
    pub fn eval(&self, source: &EvalSource) -> EvalSource {
        match source {
            EvalSource::Folder { path, split } => EvalSource::Folder { path: self.path(path), split: split.clone() },
            EvalSource::Shards { shards, class_field, classnames, templates } => EvalSource::Shards {
                shards: self.shards(shards),
                class_field: class_field.clone(),
                classnames: self.path(classnames),
                templates: self.path(templates),
            },
            EvalSource::Scenes { .. } => source.clone(),
        }
    }

    /// A whole config with its paths as written: the form that stands in records.
    #[must_use]
    pub fn config(&self, config: &RunConfig) -> RunConfig {
        let RunConfig { data, model, train, evaluate, seed, device, precision, seeds_draw } = config;
        let DataConfig { source, size, pack_side, quality, tokenizer } = data;
        let mut quality = quality.clone();
        for measure in quality.iter_mut().flat_map(QualityConfig::measures_mut) {
            match measure {
                QualityBy::Random | QualityBy::Field(_) | QualityBy::Basic(_) => {}
                QualityBy::Similarity { scorer } => **scorer = self.config(scorer),
                QualityBy::Rule { rule: _, scorer, target } => {
                    **scorer = self.config(scorer);
                    target.iter_mut().for_each(|target| *target = self.eval(target));
                }
                QualityBy::File(scores) => scores.file = self.path(&scores.file),
                QualityBy::Uids { file } => *file = self.path(file),
            }
        }
        let tokenizer = match tokenizer {
            TokenizerConfig::ClipBpe { file } => TokenizerConfig::ClipBpe { file: self.path(file) },
            TokenizerConfig::Bpe { .. } | TokenizerConfig::Unigram { .. } => tokenizer.clone(),
        };
        let mut evaluate: Vec<EvalConfig> = evaluate.clone();
        for set in evaluate.iter_mut().flat_map(EvalConfig::all_sets_mut) {
            set.source = self.eval(&set.source);
        }
        RunConfig {
            data: DataConfig { source: self.data(source), size: *size, pack_side: *pack_side, quality, tokenizer },
            model: model.clone(),
            train: train.clone(),
            evaluate,
            seed: *seed,
            device: *device,
            precision: *precision,
            seeds_draw: *seeds_draw,
        }
    }
}
