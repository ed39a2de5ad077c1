//! A look at the files of a source before any work: whether they are what the source says.
//!
//! Input: a source and the folder of caches. Output: a [`Survey`]: counts, and every fault and warning with the key of the source
//! that it belongs to. Headers of shards are walked and small members read; no image is decoded. Invariant: what passes here is
//! packed later, but for single samples that are skipped and counted.
//! Must not know: experiment files, places in them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::benchmark::{self, CLASSNAMES, TEMPLATES};
use super::names::SampleName;
use super::pack::PackTask;
use super::parquet::SCORES;
use super::score_file::ScoreTable;
use super::shards::{self, Shard};
use super::table::Table;
use super::uid_list::UidList;
use super::{DataError, DataResult, error, samples, scenes, seen, tokenizer};
use crate::run::{DataSource, EvalSource, EvalTask, ScoreFile, TokenizerConfig};

/// Cache of what shards hold, under the folder of caches.
const SHARDS_CACHE: &str = "shards.json";
/// Cache of the classes of evaluation shards.
const CLASSES_CACHE: &str = "classes.json";
/// Cache of the numeric fields of training shards.
const FIELDS_CACHE: &str = "fields.json";

/// Something about a source, at one of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Key of the source that states what is at fault: `shards`, `file`, `folder`, ...
    pub key: &'static str,
    /// What was found and expected.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What a look at a source found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Samples that it lists; `None` where it has no end, or where faults hide it.
    pub samples: Option<u64>,
    /// Shards that were listed, where it is made of shards.
    pub listed_shards: Option<u64>,
    /// Those of them that do not exist.
    pub missing_shards: u64,
    /// Class names, where they come from a file.
    pub classnames: Vec<String>,
    /// Templates, where they come from a file.
    pub templates: Vec<String>,
    /// Samples of each class, where class names come from a file.
    pub class_samples: Vec<u64>,
    /// What stands in the way.
    pub faults: Vec<Fault>,
    /// What a person should know.
    pub warnings: Vec<Fault>,
}

impl Survey {
    fn fault(&mut self, key: &'static str, error: &DataError) {
        self.faults.push(Fault { key, what: error.to_string(), hint: error.hint() });
    }

    fn say(&mut self, key: &'static str, what: String, hint: &str) {
        self.faults.push(Fault { key, what, hint: Some(hint.to_owned()) });
    }

    fn warn_all(&mut self, key: &'static str, warnings: Vec<String>) {
        self.warnings.extend(warnings.into_iter().map(|what| Fault { key, what, hint: None }));
    }

    /// Takes a value, or notes why there is none.
    fn take<T>(&mut self, key: &'static str, result: DataResult<T>) -> Option<T> {
        result.map_err(|error| self.fault(key, &error)).ok()
    }

    /// The shards of a list that are there.
    fn shards(&mut self, listed: &[String], max_missing: f64) -> Option<Vec<PathBuf>> {
        let present = self.take("shards", shards::present(listed))?;
        let (count, listed) = (present.missing.len() as u64, listed.len() as u64);
        (self.listed_shards, self.missing_shards) = (Some(listed), count);
        if count as f64 > max_missing * listed as f64 {
            let first = shards::first(present.missing);
            self.fault("shards", &DataError::MissingShards { count, first, listed, most: Some(max_missing) });
            return None;
        }
        self.warn_all("shards", present.warnings);
        Some(present.paths)
    }
}

/// Looks at a training source, of whose shards or images a share may be missing.
#[must_use]
pub fn survey(source: &DataSource, max_missing: f64, caches: &Path) -> Survey {
    let mut survey = Survey::default();
    match source {
        DataSource::Scenes(_) => {}
        DataSource::Declared { samples } => survey.samples = Some(*samples),
        DataSource::Webdataset { shards } => {
            if let Some(paths) = survey.shards(shards, max_missing) {
                let count = |path: &Path| Shard::open(path).map(|shard| shard.groups.len().to_string());
                let facts = all_facts(&mut survey, "shards", &paths, &caches.join(SHARDS_CACHE), count);
                survey.samples = facts.map(|facts| facts.iter().filter_map(|fact| fact.parse::<u64>().ok()).sum());
            }
        }
        DataSource::Table { file, image_column, caption_column } => {
            match Table::read(Path::new(file), image_column, caption_column) {
                Ok(table) => survey_rows(&mut survey, table, max_missing),
                Err(error) => survey_columns(&mut survey, &error, image_column, caption_column),
            }
        }
    }
    if survey.samples == Some(0) {
        let key = if matches!(source, DataSource::Table { .. }) { "file" } else { "shards" };
        survey.say(key, "no sample in it".to_owned(), "each sample is an image with a caption");
    }
    survey
}

fn survey_rows(survey: &mut Survey, mut table: Table, max_missing: f64) {
    survey.warn_all("file", std::mem::take(&mut table.warnings));
    let rows = table.rows.len() as u64;
    survey.samples = Some(rows);
    let (count, Some(first)) = table.without_image() else { return };
    let what = format!("{count} of {rows} images do not exist, the first {first}");
    if count as f64 > max_missing * rows as f64 {
        let what = format!("{what}; {} % may be missing", max_missing * 100.0);
        survey.say("image_column", what, "paths are relative to the table's folder; `max_missing` states another share");
    } else {
        survey.warn_all("image_column", vec![what]);
    }
}

/// Both columns are looked for, though reading stops at the first that is not there.
fn survey_columns(survey: &mut Survey, error: &DataError, image_column: &str, caption_column: &str) {
    let DataError::NoSuchColumn { path, known, .. } = error else { return survey.fault("file", error) };
    for (key, name) in [("image_column", image_column), ("caption_column", caption_column)] {
        if !known.iter().any(|column| column == name) {
            survey.fault(key, &DataError::NoSuchColumn { path: path.clone(), column: name.to_owned(), known: known.clone() });
        }
    }
}

/// A fact about each shard; where one cannot be had, every shard at fault is named.
fn all_facts(
    survey: &mut Survey,
    key: &'static str,
    paths: &[PathBuf],
    cache: &Path,
    find: impl Fn(&Path) -> DataResult<String> + Sync,
) -> Option<Vec<String>> {
    if let Ok(facts) = seen::facts(paths, cache, &find) {
        return Some(facts);
    }
    let mut shown = 0;
    for path in paths {
        if let Err(error) = find(path) {
            survey.fault(key, &error);
            shown += 1;
        }
        if shown == error::SHOWN {
            break;
        }
    }
    if shown == 0 {
        // Only remembering failed, as in a folder that cannot be written to.
        return paths.iter().map(|path| find(path).ok()).collect();
    }
    None
}

/// Looks at an evaluation source for a task.
#[must_use]
pub fn survey_eval(source: &EvalSource, task: EvalTask, max_missing: f64, caches: &Path) -> Survey {
    let mut survey = Survey::default();
    match source {
        EvalSource::Scenes { .. } => {}
        EvalSource::Folder { path, split } => survey_folder(&mut survey, Path::new(path), split, task, caches),
        EvalSource::Shards { shards, class_field, classnames, templates } => {
            let paths = survey.shards(shards, max_missing);
            let names = survey.take("classnames", benchmark::read_classnames(Path::new(classnames)));
            let templates = survey.take("templates", benchmark::read_templates(Path::new(templates)));
            survey.templates = templates.unwrap_or_default();
            if let Some((names, warnings)) = names {
                survey.warn_all("classnames", warnings);
                survey.classnames = names;
                let of = |path: &Path| {
                    Classes::of_shard(path, |shard, group| samples::class(&samples::metadata(shard, group).ok()?, class_field))
                };
                // Not remembered: the classes depend on the field.
                let classes: Option<DataResult<Vec<Classes>>> = paths.map(|paths| paths.iter().map(|path| of(path)).collect());
                if let Some(Some(classes)) = classes.map(|classes| survey.take("shards", classes)) {
                    check_classes(&mut survey, &classes, "class_field", &format!("field `{class_field}`"));
                }
            }
        }
    }
    survey
}

fn survey_folder(survey: &mut Survey, root: &Path, split: &str, task: EvalTask, caches: &Path) {
    if let Err(error) = std::fs::read_dir(root) {
        return survey.fault("folder", &DataError::io("read folder", root, error));
    }
    let Some(found) = survey.take("folder", benchmark::task(root)) else { return };
    let is_retrieval = task == EvalTask::Retrieval;
    if is_retrieval != (found == PackTask::Retrieval) {
        let kind = if is_retrieval { "classification" } else { "retrieval" };
        let what = format!("{}: a folder for {kind}, and `{}` was asked for", root.display(), task.name());
        survey.say("folder", what, "its `dataset_type.txt` says which it is; without one it is for classification");
        return;
    }
    if !root.join(split).is_dir() {
        let what = format!("{}: no such split", root.join(split).display());
        return survey.say("split", what, "a split is a folder with `nshards.txt` and its shards");
    }
    let paths = survey.take("folder", benchmark::shard_paths(&root.join(split)));
    if !is_retrieval {
        let names = survey.take("folder", benchmark::read_classnames(&root.join(CLASSNAMES)));
        let templates = survey.take("folder", benchmark::read_templates(&root.join(TEMPLATES)));
        survey.templates = templates.unwrap_or_default();
        let Some((names, warnings)) = names else { return };
        survey.warn_all("folder", warnings);
        survey.classnames = names;
    }
    let Some(paths) = paths else { return };
    survey.listed_shards = Some(paths.len() as u64);
    let of = |path: &Path| {
        let class = |shard: &Shard, group: &_| samples::text(shard, group, "cls").ok()??.trim().parse::<u64>().ok();
        let classes = Classes::of_shard(path, class)?;
        Ok(serde_json::to_string(&classes).expect("counts serialise"))
    };
    let Some(facts) = all_facts(survey, "folder", &paths, &caches.join(CLASSES_CACHE), of) else { return };
    let classes: Vec<Classes> = facts.iter().filter_map(|fact| serde_json::from_str(fact).ok()).collect();
    if is_retrieval {
        count_samples(survey, &classes, "folder");
    } else {
        check_classes(survey, &classes, "folder", "`.cls`");
    }
}

/// The classes of a shard's samples.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Classes {
    samples: u64,
    /// Class and samples of it.
    counts: std::collections::BTreeMap<u64, u64>,
}

impl Classes {
    fn of_shard(path: &Path, class: impl Fn(&Shard, &shards::Group) -> Option<u64>) -> DataResult<Self> {
        let shard = Shard::open(path)?;
        let mut classes = Self { samples: shard.groups.len() as u64, ..Self::default() };
        for class in shard.groups.iter().filter_map(|group| class(&shard, group)) {
            *classes.counts.entry(class).or_default() += 1;
        }
        Ok(classes)
    }
}

fn count_samples(survey: &mut Survey, classes: &[Classes], key: &'static str) {
    let samples = classes.iter().map(|classes| classes.samples).sum();
    survey.samples = Some(samples);
    if samples == 0 {
        survey.say(key, "no sample in its shards".to_owned(), "each sample is an image with a class, or with captions");
    }
}

/// Classes that have no name, or no sample with a class at all.
fn check_classes(survey: &mut Survey, classes: &[Classes], key: &'static str, place: &str) {
    count_samples(survey, classes, key);
    let names = survey.classnames.len() as u64;
    let all = || classes.iter().flat_map(|classes| &classes.counts);
    let beyond: u64 = all().filter(|(class, _)| **class >= names).map(|(_, count)| count).sum();
    let last = all().map(|(class, _)| *class).max();
    let of_class = |class: u64| classes.iter().filter_map(|classes| classes.counts.get(&class)).sum();
    survey.class_samples = (0..names).map(of_class).collect();
    match last {
        None if survey.samples > Some(0) => {
            survey.say(key, format!("no sample has a class in its {place}"), "a class is a whole number, counted from 0");
        }
        Some(last) if beyond > 0 => {
            let what = format!("{beyond} samples have a class up to {last} in their {place}, and there are {names} class names");
            survey.say(key, what, "class names stand one a line, the first is class 0; blank lines at the end are none");
        }
        _ => {}
    }
}

/// How many samples of some files have each numeric field.
#[derive(Debug, Default, Serialize, Deserialize)]
struct FieldCounts {
    samples: u64,
    counts: std::collections::BTreeMap<String, u64>,
}

impl FieldCounts {
    /// Numeric fields that are counted of a shard; more are no table.
    const MOST: usize = 256;

    fn of_shard(path: &Path) -> DataResult<String> {
        let shard = Shard::open(path)?;
        let mut found = Self { samples: shard.groups.len() as u64, ..Self::default() };
        for group in &shard.groups {
            let Ok(metadata) = samples::metadata(&shard, group) else { continue };
            for (name, _) in metadata.values.iter().filter(|(_, value)| value.is_number()) {
                if let Some(count) = found.counts.get_mut(name) {
                    *count += 1;
                } else if found.counts.len() < Self::MOST {
                    found.counts.insert(name.clone(), 1);
                }
            }
        }
        Ok(serde_json::to_string(&found).expect("counts serialise"))
    }
}

/// Whether a training source has a numeric field, which a filter asks for, in more than half of its samples.
#[must_use]
pub fn survey_field(source: &DataSource, field: &str, caches: &Path) -> Option<Fault> {
    let (samples, counts) = match source {
        DataSource::Scenes(world) => {
            let names = scenes::World::new(world).training(0).pack(16).fields.into_keys();
            (1, names.map(|name| (name, 1)).collect())
        }
        DataSource::Table { file, image_column, caption_column } => {
            // A table that cannot be read has faults of its own.
            let table = Table::read(Path::new(file), image_column, caption_column).ok()?;
            let counts = table.columns.iter().map(|column| (column.clone(), table.with_field(column)));
            (table.rows.len() as u64, counts.collect())
        }
        DataSource::Webdataset { shards } => {
            let paths: Vec<PathBuf> = shards.iter().map(PathBuf::from).filter(|path| path.is_file()).collect();
            // As with a shard that cannot be read.
            let facts = seen::facts(&paths, &caches.join(FIELDS_CACHE), FieldCounts::of_shard).ok()?;
            let mut all = FieldCounts::default();
            for found in facts.iter().filter_map(|fact| serde_json::from_str::<FieldCounts>(fact).ok()) {
                all.samples += found.samples;
                found.counts.into_iter().for_each(|(name, count)| *all.counts.entry(name).or_default() += count);
            }
            (all.samples, all.counts)
        }
        DataSource::Declared { .. } => return None,
    };
    let with = counts.get(field).copied().unwrap_or(0);
    if with == 0 {
        let known =
            counts.into_iter().filter(|(name, count)| *count > 0 && name != field).map(|(name, _)| name).take(100).collect();
        let error = DataError::NoSuchField { field: field.to_owned(), known };
        return Some(Fault { key: "field", what: error.to_string(), hint: error.hint() });
    }
    (2 * with <= samples).then(|| {
        let what = format!("{with} of {samples} samples have a number in `{field}`, expected more than half");
        let hint = "samples without a score are never kept; name another field, or join scores by `file`";
        Fault { key: "field", what, hint: Some(hint.to_owned()) }
    })
}

/// Whether a table has scores for more than half of a training source.
#[must_use]
pub fn survey_scores(source: &DataSource, file: &ScoreFile) -> Option<Fault> {
    let fault = |key, error: &DataError| {
        let hint = error.hint().unwrap_or_else(|| match key {
            "path" => {
                "a file of scores is a CSV or TSV with a header line, or Parquet; its path is relative to the file that states it"
                    .to_owned()
            }
            _ => "the first line of a text, or the schema of a Parquet file, names the columns".to_owned(),
        });
        Some(Fault { key, what: error.to_string(), hint: Some(hint) })
    };
    let table = match ScoreTable::read(file) {
        Ok(table) => table,
        Err(error) => {
            let key = match &error {
                DataError::NoSuchColumn { column, .. } if *column == file.score_column => "score_column",
                DataError::WrongColumn { column, expected, .. } if *column == file.score_column && *expected == SCORES => {
                    "score_column"
                }
                DataError::NoSuchColumn { .. } | DataError::WrongColumn { .. } => "id_column",
                _ => "path",
            };
            return fault(key, &error);
        }
    };
    let names = match names(source) {
        Ok(names) => names?,
        Err(what) => {
            let hint = "a file of scores belongs to shards or a table; `scenes` has the fields `fault`, `quality` and `strength`";
            return Some(Fault { key: "path", what: format!("{what} scores with"), hint: Some(hint.to_owned()) });
        }
    };
    let (without, first) = table.without(names.iter());
    let (with, all) = (names.len() as u64 - without, names.len() as u64);
    first.filter(|_| 2 * with <= all).map(|first| {
        let ScoreFile { file, id_column, score_column } = file;
        let what = format!("{file}: {with} of {all} samples have a score in `{score_column}`, expected more than half; the first without is `{first}`");
        let hint = format!("samples are joined by the `uid` of their metadata, or by key where they have none, with column `{id_column}`");
        Fault { key: "path", what, hint: Some(hint) }
    })
}

/// How a list of uids and a training source differ.
#[must_use]
pub fn survey_uids(source: &DataSource, file: &str) -> Survey {
    let fault =
        |what: String, hint: String| Survey { faults: vec![Fault { key: "uids", what, hint: Some(hint) }], ..Survey::default() };
    let list = match UidList::read(file) {
        Ok(list) => list,
        Err(error) => {
            let hint =
                "a list of uids is a `.npy` array or a text with one a line; its path is relative to the file that states it";
            return fault(error.to_string(), error.hint().unwrap_or_else(|| hint.to_owned()));
        }
    };
    let names = match names(source) {
        Ok(Some(names)) => names,
        Ok(None) => return Survey::default(),
        Err(what) => return fault(format!("{what} a list with"), "a list of uids belongs to shards or a table".to_owned()),
    };
    let listed = list.listed(names.iter());
    match &listed.first_absent {
        Some(first) if listed.found == 0 => {
            let what = format!("{file}: none of {} listed uids is in the pool; the first is `{first}`", listed.named);
            let hint = match names.first() {
                Some(name) => format!(
                    "samples are named by the `uid` of their metadata, or by key where they have none, such as `{}`",
                    name.joined_by()
                ),
                None => "the pool is empty".to_owned(),
            };
            fault(what, hint)
        }
        _ => {
            let warning = |what| Fault { key: "uids", what: format!("{file}: {what}"), hint: None };
            Survey { warnings: listed.remarks().into_iter().map(warning).collect(), ..Survey::default() }
        }
    }
}

/// The names of the samples of a training source; `None` where they cannot be known.
///
/// **Errors**: the beginning of what is wrong, for a source whose samples have no names.
fn names(source: &DataSource) -> Result<Option<Vec<SampleName>>, &'static str> {
    match source {
        DataSource::Declared { .. } => Ok(None),
        DataSource::Scenes(_) => Err("the samples of `scenes` have no names to join"),
        DataSource::Table { file, image_column, caption_column } => {
            let table = Table::read(Path::new(file), image_column, caption_column).ok();
            Ok(table.map(|table| table.rows.into_iter().map(|row| row.name).collect()))
        }
        DataSource::Webdataset { shards } => {
            let mut names = Vec::new();
            for path in shards.iter().map(Path::new).filter(|path| path.is_file()) {
                // What is wrong with a shard is said of the shard.
                let Ok(shard) = Shard::open(path) else { return Ok(None) };
                let name = |group| samples::name(group, &samples::metadata(&shard, group).unwrap_or_default());
                names.extend(shard.groups.iter().map(name));
            }
            Ok(Some(names))
        }
    }
}

/// Whether CLIP's vocabulary file can be read.
#[must_use]
pub fn survey_vocabulary(file: &str) -> Option<Fault> {
    let config = TokenizerConfig::ClipBpe { file: file.to_owned() };
    let error = tokenizer::Tokenizer::train(&config, std::iter::empty()).err()?;
    Some(Fault { key: "file", what: error.to_string(), hint: error.hint() })
}
