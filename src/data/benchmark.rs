//! Evaluation folders in the layout of `CLIP_benchmark`.
//!
//! Input: a folder with class names, templates and a split of tar shards. Output: samples with a class or with several captions.
//! Invariant: every file that the layout asks for is there, or the error names it.
//! Must not know: packs, metrics.

use std::path::{Path, PathBuf};

use super::decode::Decoder;
use super::pack::{PackTask, SkipKind};
use super::pack_writer::PackedSample;
use super::samples::{self, Made};
use super::shards::{Group, Shard};
use super::{DataError, DataResult};

/// Template of a folder that brings none.
const DEFAULT_TEMPLATE: &str = "a photo of a {c}.";

/// An evaluation folder, checked.
#[derive(Debug)]
pub(super) struct Folder {
    pub task: PackTask,
    pub classnames: Vec<String>,
    pub templates: Vec<String>,
    pub shards: Vec<PathBuf>,
    pub warnings: Vec<String>,
}

impl Folder {
    /// Reads the text files of a folder and finds the shards of a split.
    pub fn open(root: &Path, split: &str) -> DataResult<Self> {
        std::fs::read_dir(root).map_err(|e| DataError::io("read folder", root, e))?;
        let task = task(root)?;
        let shards = shard_paths(&root.join(split))?;
        let mut folder = Self { task, classnames: Vec::new(), templates: Vec::new(), shards, warnings: Vec::new() };
        if task == PackTask::Classification {
            folder.classnames = read_classnames(&root.join("classnames.txt"))?;
            let templates = root.join("zeroshot_classification_templates.txt");
            if templates.exists() {
                folder.templates = read_templates(&templates)?;
            } else {
                folder.templates = vec![DEFAULT_TEMPLATE.to_owned()];
                folder.warnings.push(format!("{} does not exist; using `{DEFAULT_TEMPLATE}`", templates.display()));
            }
        }
        Ok(folder)
    }

    /// Samples of the split.
    pub fn count(&self) -> DataResult<u64> {
        self.shards.iter().map(|path| Ok(Shard::open(path)?.groups.len() as u64)).sum()
    }

    /// One sample: `.cls` holds its class, or `.txt` its captions, one a line.
    pub fn sample(&self, shard: &Shard, group: &Group, decoder: &mut Decoder) -> Made {
        let (mut label, mut captions) = (None, Vec::new());
        match self.task {
            PackTask::Retrieval => {
                let text = samples::text(shard, group, "txt")?.unwrap_or("");
                captions.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
                if captions.is_empty() {
                    return Err((SkipKind::NoCaption, "no `.txt` member, or it is empty".to_owned()));
                }
            }
            PackTask::Classification | PackTask::Training => {
                let text = samples::text(shard, group, "cls")?.unwrap_or("");
                let class = text.trim().parse::<u32>().ok().filter(|&class| (class as usize) < self.classnames.len());
                let last = self.classnames.len().saturating_sub(1);
                let what = || (SkipKind::BadLabel, format!("`.cls` holds `{}`, expected a class from 0 to {last}", text.trim()));
                label = Some(class.ok_or_else(what)?);
            }
        }
        let image = samples::image(shard, group, decoder)?;
        Ok(PackedSample { image, captions, label, fields: std::collections::BTreeMap::new() })
    }
}

fn task(root: &Path) -> DataResult<PackTask> {
    let path = root.join("dataset_type.txt");
    if !path.exists() {
        return Ok(PackTask::Classification);
    }
    match read_text(&path)?.trim() {
        "classification" => Ok(PackTask::Classification),
        "retrieval" => Ok(PackTask::Retrieval),
        other => {
            let what = format!(
                "{}: data sets of type `{other}` cannot be evaluated, expected `classification` or `retrieval`",
                path.display()
            );
            Err(DataError::Unsupported { what })
        }
    }
}

/// `0.tar` to `n - 1.tar`, n from `nshards.txt`.
fn shard_paths(split: &Path) -> DataResult<Vec<PathBuf>> {
    let path = split.join("nshards.txt");
    let text = read_text(&path)?;
    let shards: usize = text.trim().parse().map_err(|_| {
        let what = format!("`{}` is no number of shards", text.trim());
        DataError::Malformed { path: path.clone(), line: 1, what }
    })?;
    let paths: Vec<PathBuf> = (0..shards).map(|shard| split.join(format!("{shard}.tar"))).collect();
    let missing: Vec<PathBuf> = paths.iter().filter(|path| !path.exists()).cloned().collect();
    if missing.is_empty() { Ok(paths) } else { Err(DataError::MissingShards { missing, listed: shards }) }
}

/// Class names, one a line; the line number (from 0) is the class.
pub(super) fn read_classnames(path: &Path) -> DataResult<Vec<String>> {
    let text = read_text(path)?;
    let names: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    match names.iter().position(String::is_empty) {
        Some(at) => {
            Err(DataError::Malformed { path: path.to_path_buf(), line: at as u64 + 1, what: "an empty class name".to_owned() })
        }
        None => Ok(names),
    }
}

/// Templates, one a line, blank lines left out.
///
/// **Errors**: none at all; one without a place for the class name.
pub(super) fn read_templates(path: &Path) -> DataResult<Vec<String>> {
    let text = read_text(path)?;
    let lines = text.lines().map(str::trim).zip(1u64..).filter(|(line, _)| !line.is_empty());
    let bad = |line, what: &str| DataError::Malformed { path: path.to_path_buf(), line, what: what.to_owned() };
    let template = |(template, line): (&str, u64)| match has_place(template) {
        true => Ok(template.to_owned()),
        false => Err(bad(line, &format!("template `{template}` has no `{{c}}` for the class name"))),
    };
    let templates: Vec<String> = lines.map(template).collect::<DataResult<_>>()?;
    if templates.is_empty() { Err(bad(1, "no template")) } else { Ok(templates) }
}

fn has_place(template: &str) -> bool {
    template.contains("{c}") || template.contains("{}")
}

/// A prompt: the class name in its template's place, `{c}` (`CLIP_benchmark`) or `{}` (`open_clip`).
#[must_use]
pub fn prompt(template: &str, classname: &str) -> String {
    if template.contains("{c}") { template.replace("{c}", classname) } else { template.replace("{}", classname) }
}

fn read_text(path: &Path) -> DataResult<String> {
    std::fs::read_to_string(path).map_err(|e| DataError::io("read", path, e))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn prompts_take_either_form_of_template() {
        assert_eq!(prompt("a photo of a {c}.", "dog"), "a photo of a dog.");
        assert_eq!(prompt("a {} in the wild", "crème brûlée"), "a crème brûlée in the wild");
    }

    #[test]
    fn templates_without_a_place_and_empty_names_are_refused_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let templates = write(dir.path(), "t.txt", "a {c}\n\nno place\n");
        assert!(read_templates(&templates).unwrap_err().to_string().contains("t.txt:3: template `no place`"));
        let names = write(dir.path(), "c.txt", "dog\n\ncat\n");
        assert!(read_classnames(&names).unwrap_err().to_string().contains("c.txt:2"));
        let names = write(dir.path(), "c.txt", " dog \npiñata\n\n");
        assert_eq!(read_classnames(&names).unwrap(), ["dog", "piñata"]);
    }

    #[test]
    fn what_a_folder_lacks_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Folder::open(dir.path(), "test").map(|_| ()).unwrap_err().to_string();
        assert!(open().contains("test/nshards.txt"), "{}", open());
        write(dir.path(), "test/nshards.txt", "two");
        assert!(open().contains("`two` is no number of shards"), "{}", open());
        write(dir.path(), "test/nshards.txt", "2");
        write(dir.path(), "test/0.tar", "");
        assert!(open().starts_with("1 of 2 listed shards are missing") && open().contains("1.tar"), "{}", open());
        write(dir.path(), "test/1.tar", "");
        assert!(open().contains("classnames.txt"), "{}", open());
        write(dir.path(), "dataset_type.txt", "multilabel\n");
        assert!(open().contains("type `multilabel`"), "{}", open());
        let missing = Folder::open(&dir.path().join("absent"), "test").unwrap_err().to_string();
        assert!(missing.contains("cannot read folder"), "{missing}");
    }
}
