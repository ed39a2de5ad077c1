//! Evaluation folders in the layout of `CLIP_benchmark`.
//!
//! Input: a folder with class names, templates and a split of tar shards. Output: samples with a class or with several captions.
//! Invariant: every file that the layout asks for is there, or the error names it; class names and templates are the user's own,
//! never made up.
//! Must not know: packs, metrics.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::decode::Decoder;
use super::names::SampleName;
use super::pack::{PackTask, SkipKind};
use super::pack_writer::PackedSample;
use super::samples::{self, Made};
use super::shards::{Group, Shard, first};
use super::{DataError, DataResult, open};

/// File with one class name a line.
pub(super) const CLASSNAMES: &str = "classnames.txt";
/// File with one template a line.
pub(super) const TEMPLATES: &str = "zeroshot_classification_templates.txt";

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
            let (names, warnings) = read_classnames(&root.join(CLASSNAMES))?;
            (folder.classnames, folder.warnings) = (names, warnings);
            folder.templates = read_templates(&root.join(TEMPLATES))?;
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
        let name = Some(SampleName { key: group.key.clone(), uid: String::new() });
        Ok(PackedSample { image, captions, label, fields: std::collections::BTreeMap::new(), name })
    }
}

/// What a folder says it is for; a folder that says nothing is for classification.
pub(super) fn task(root: &Path) -> DataResult<PackTask> {
    let path = root.join("dataset_type.txt");
    if !path.exists() {
        return Ok(PackTask::Classification);
    }
    match open::text(&path)?.trim() {
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
///
/// **Errors**: a number that is none, or not that of the shards which are there.
pub(super) fn shard_paths(split: &Path) -> DataResult<Vec<PathBuf>> {
    let path = split.join("nshards.txt");
    let text = open::text(&path)?;
    let shown: String = text.trim().chars().take(40).collect();
    let listed: u64 = shown.parse().map_err(|_| {
        let what = format!("`{shown}` is no number of shards");
        DataError::Malformed { path: path.clone(), line: 1, what }
    })?;
    let there = numbered(split)?;
    let numbers = || there.iter().copied();
    if let Some(last) = numbers().next_back().filter(|last| *last >= listed) {
        return Err(DataError::UncountedShards { path, said: listed, found: there.len() as u64, last });
    }
    let count = listed - there.len() as u64;
    if count > 0 || listed == 0 {
        let absent = (0..listed).filter(|number| !there.contains(number)).take(super::error::SHOWN);
        let first = first(absent.map(|number| split.join(format!("{number}.tar"))).collect());
        return Err(DataError::MissingShards { count, first, listed, most: None });
    }
    Ok(numbers().map(|number| split.join(format!("{number}.tar"))).collect())
}

/// Numbers of the `N.tar` of a folder, written without leading zeros.
fn numbered(split: &Path) -> DataResult<BTreeSet<u64>> {
    let fail = |e| DataError::io("read folder", split, e);
    let mut numbers = BTreeSet::new();
    for entry in std::fs::read_dir(split).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(".tar")).and_then(|stem| Some((stem, stem.parse::<u64>().ok()?)));
        numbers.extend(number.filter(|(stem, number)| *stem == number.to_string()).map(|(_, number)| number));
    }
    Ok(numbers)
}

/// Class names, one a line, and warnings; the line number (from 0) is the class. Blank lines at the end are no classes; one before
/// that is a class with an empty name, which one public set has on purpose.
///
/// **Errors**: a file without a name.
pub(super) fn read_classnames(path: &Path) -> DataResult<(Vec<String>, Vec<String>)> {
    let text = open::text(path)?;
    let names: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    if names.is_empty() {
        return Err(DataError::Malformed { path: path.to_path_buf(), line: 1, what: "no class name".to_owned() });
    }
    let mut first_of = std::collections::HashMap::new();
    let mut warnings = Vec::new();
    for (name, line) in names.iter().zip(1u64..) {
        let place = format!("{}:{line}", path.display());
        match (name.is_empty(), first_of.get(name)) {
            (true, _) => warnings.push(format!("{place}: an empty class name")),
            (false, Some(first)) => warnings.push(format!("{place}: class name `{name}`, which line {first} has too")),
            (false, None) => _ = first_of.insert(name.clone(), line),
        }
    }
    Ok((names, warnings))
}

/// Templates, one a line, blank lines left out.
///
/// **Errors**: none at all; one without a place for the class name.
pub(super) fn read_templates(path: &Path) -> DataResult<Vec<String>> {
    let text = open::text(path)?;
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
    fn templates_without_a_place_and_lists_of_nothing_are_refused_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let templates = write(dir.path(), "t.txt", "a {c}\n\nno place\n");
        assert!(read_templates(&templates).unwrap_err().to_string().contains("t.txt:3: template `no place`"));
        let names = write(dir.path(), "c.txt", " dog \npiñata\n\n");
        assert_eq!(read_classnames(&names).unwrap(), (vec!["dog".to_owned(), "piñata".to_owned()], Vec::new()));
        let names = write(dir.path(), "c.txt", "\n \n");
        assert!(read_classnames(&names).unwrap_err().to_string().ends_with("c.txt:1: no class name"));
    }

    #[test]
    fn empty_and_repeated_class_names_are_kept_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let (names, warnings) = read_classnames(&write(dir.path(), "c.txt", "dog\n\ncat\ndog\n")).unwrap();
        assert_eq!(names, ["dog", "", "cat", "dog"]);
        assert!(warnings[0].ends_with("c.txt:2: an empty class name"), "{warnings:?}");
        assert!(warnings[1].ends_with("c.txt:4: class name `dog`, which line 1 has too"), "{warnings:?}");
    }

    #[test]
    fn what_a_folder_lacks_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Folder::open(dir.path(), "test").map(|_| ()).unwrap_err().to_string();
        assert!(open().contains("test/nshards.txt"), "{}", open());
        for wrong in ["two", "-1", "1.5", "18446744073709551616", "", "1 2"] {
            write(dir.path(), "test/nshards.txt", wrong);
            assert!(open().contains(&format!("`{wrong}` is no number of shards")), "{}", open());
        }
        for large in [u64::MAX, 1 << 40, 1] {
            write(dir.path(), "test/nshards.txt", &large.to_string());
            assert!(open().starts_with(&format!("{large} of {large} listed shards are missing")), "{}", open());
        }
        write(dir.path(), "test/nshards.txt", "2");
        write(dir.path(), "test/0.tar", "");
        assert!(open().starts_with("1 of 2 listed shards are missing") && open().contains("1.tar"), "{}", open());
        write(dir.path(), "test/1.tar", "");
        write(dir.path(), "test/7.tar", "");
        let uncounted = "nshards.txt: says 2, and 3 numbered shards lie beside it, up to 7.tar";
        assert!(open().ends_with(uncounted), "{}", open());
        std::fs::remove_file(dir.path().join("test/7.tar")).unwrap();
        assert!(open().contains("classnames.txt"), "{}", open());
        write(dir.path(), "classnames.txt", "dog\ncat\n");
        assert!(open().contains("zeroshot_classification_templates.txt"), "no template is made up: {}", open());
        write(dir.path(), "dataset_type.txt", "multilabel\n");
        assert!(open().contains("type `multilabel`"), "{}", open());
        let missing = Folder::open(&dir.path().join("absent"), "test").unwrap_err().to_string();
        assert!(missing.contains("cannot read folder"), "{missing}");
    }
}
