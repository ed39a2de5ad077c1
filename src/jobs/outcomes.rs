//! What each item of an evaluation set came to, as files of the job that measured it, and as hits of its metrics.
//!
//! `outcomes/<n>-<what>.u16` for the n-th set (from 0): one little-endian u16 an item, the rank of the right answer, 0 for a hit,
//! 65535 for that rank or a later one. `outcomes/sets.json` names the sets, the job that packed each, and the files. Items stand in
//! the order of the packed set:
//!
//! | what | an item is | ranked is |
//! |---|---|---|
//! | `rank` | an image | its true class among all (zero-shot, linear probe) |
//! | `shots-<k>-seed-<seed>` | an image | its true class among all (few-shot) |
//! | `text_rank` | an image | the best of its captions among all captions |
//! | `image_rank` | a caption | its image among all images |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::write;
use crate::data::Pack;
use crate::executor::JobError;
use crate::plan::{Key, NamedSet};
use crate::run::SetOutcomes as Hits;
use crate::trainer::eval::Outcome;

/// Folder of the outcomes among a job's files.
const FOLDER: &str = "outcomes";

/// One set in `sets.json`.
#[derive(Debug, Serialize, Deserialize)]
struct SetOutcomes {
    /// Its name in metrics.
    set: String,
    /// The job that packed it.
    packed: String,
    /// Items in each of its files.
    files: Vec<OutcomeFile>,
}

/// One file of a set.
#[derive(Debug, Serialize, Deserialize)]
struct OutcomeFile {
    name: String,
    items: usize,
}

/// Writes the outcomes of every set under `out`.
pub(super) fn store(out: &Path, sets: &[(NamedSet, Vec<Outcome>)]) -> Result<(), JobError> {
    let folder = out.join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(|error| JobError::io("create", &folder, error))?;
    let mut stated = Vec::with_capacity(sets.len());
    for (number, (set, outcomes)) in sets.iter().enumerate() {
        let mut files = Vec::with_capacity(outcomes.len());
        for Outcome { what, ranks } in outcomes {
            let name = format!("{number}-{what}.u16");
            let bytes: Vec<u8> = ranks.iter().flat_map(|rank| u16::try_from(*rank).unwrap_or(u16::MAX).to_le_bytes()).collect();
            write(&folder.join(&name), &bytes)?;
            files.push(OutcomeFile { name, items: ranks.len() });
        }
        stated.push(SetOutcomes { set: set.name.clone(), packed: set.set.to_string(), files });
    }
    write(&folder.join("sets.json"), &serde_json::to_vec(&stated).expect("names and numbers serialise"))
}

/// One set as its files hold it: ranks by what they are of, and how many captions each image has where that is told apart.
pub(super) struct StoredSet {
    /// Name of the items.
    items: String,
    /// Its name among the sets of its evaluation.
    name: String,
    ranks: BTreeMap<String, Vec<u16>>,
    captions: Option<Vec<usize>>,
}

/// Reads the outcomes that a job left under `out`, and of its sets' packs, which lie where `folder` says, whose captions are whose.
/// None where it left none. A file that is damaged, or a pack that is gone, leaves out what needs it.
pub(super) fn read(out: &Path, folder: impl Fn(&Key) -> PathBuf) -> Result<Vec<StoredSet>, JobError> {
    let outcomes = out.join(FOLDER);
    let path = outcomes.join("sets.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(JobError::io("read", &path, error)),
    };
    let stated: Vec<SetOutcomes> =
        serde_json::from_slice(&bytes).map_err(|error| JobError::failed(format!("{}: {error}", path.display())))?;
    Ok(stated.into_iter().map(|set| stored_set(set, &outcomes, &folder)).collect())
}

fn stored_set(SetOutcomes { set, packed, files }: SetOutcomes, outcomes: &Path, folder: &impl Fn(&Key) -> PathBuf) -> StoredSet {
    let ranks_of = |OutcomeFile { name, items }: &OutcomeFile| {
        let bytes = std::fs::read(outcomes.join(name)).ok().filter(|bytes| bytes.len() == 2 * items)?;
        let what = name.split_once('-')?.1.strip_suffix(".u16")?;
        Some((what.to_owned(), bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect::<Vec<u16>>()))
    };
    let ranks: BTreeMap<String, Vec<u16>> = files.iter().filter_map(ranks_of).collect();
    let is_one_each =
        ranks.get("image_rank").zip(ranks.get("text_rank")).is_none_or(|(captions, images)| captions.len() == images.len());
    let captions = || {
        let pack = Pack::open(&folder(&packed.parse().ok()?)).ok()?;
        Some((0..pack.len()).map(|image| pack.caption_range(image).len()).collect())
    };
    let captions = if is_one_each { None } else { captions() };
    StoredSet { items: packed.chars().take(ITEMS_NAME).collect(), name: set, ranks, captions }
}

/// Digits of a pack's key that name its items.
const ITEMS_NAME: usize = 16;

/// Hits behind every metric of an evaluation that counts them, and the value they give, under the names of `prefix` that its summary
/// has: `<prefix>.<metric>` for one set or the mean over several, `<prefix>/<set>.<metric>` for each of several.
pub(super) fn metrics(prefix: &str, sets: &[StoredSet]) -> BTreeMap<String, (Vec<Hits>, f64)> {
    let of_sets: Vec<(&str, BTreeMap<String, Hits>)> = sets.iter().map(|set| (set.name.as_str(), hits(set))).collect();
    let mut found = BTreeMap::new();
    let mut add = |name: String, sets: Vec<Hits>| {
        #[expect(clippy::cast_precision_loss, reason = "a number of sets")]
        let value = sets.iter().map(Hits::percent).sum::<f64>() / sets.len() as f64;
        found.insert(name, (sets, value));
    };
    if of_sets.len() > 1 {
        for (set, metrics) in &of_sets {
            metrics.iter().for_each(|(metric, hits)| add(format!("{prefix}/{set}.{metric}"), vec![hits.clone()]));
        }
    }
    for metric in of_sets.first().into_iter().flat_map(|(_, metrics)| metrics.keys()) {
        let of_all: Option<Vec<Hits>> = of_sets.iter().map(|(_, metrics)| metrics.get(metric).cloned()).collect();
        if let Some(sets) = of_all {
            add(format!("{prefix}.{metric}"), sets);
        }
    }
    found
}

/// Whether a metric's name is that of one which counts hits of items: see [`hits`].
pub(super) fn counts_hits(metric: &str) -> bool {
    let name = metric.rsplit('.').next().unwrap_or(metric);
    let is_of_classes = ["acc1", "acc5", "lp_acc1", "lp_acc5"].contains(&name);
    let is_of_shots = name.strip_prefix("fewshot").is_some_and(|rest| rest.ends_with("_acc1"));
    let is_recall =
        ["text", "image"].iter().any(|way| name.strip_prefix(way).is_some_and(|rest| rest.starts_with("_retrieval_recall@")));
    is_of_classes || is_of_shots || is_recall
}

/// Hits by metric: top 1 and top 5 of classes, top 1 over repetitions of few-shot, recall at 1, 5 and 10 both ways. Metrics that
/// weigh items by their class are none of them.
fn hits(set: &StoredSet) -> BTreeMap<String, Hits> {
    let mut found = BTreeMap::new();
    let items = &set.items;
    let within = |ranks: &[u16], cutoff: u16| ranks.iter().map(|rank| u8::from(*rank < cutoff)).collect::<Vec<u8>>();
    let mut add = |metric: String, hits: Vec<u8>, of: usize| {
        if !hits.is_empty() {
            found.insert(metric, Hits { set: items.clone(), hits, of: of as u64 });
        }
    };
    let mut shots: BTreeMap<&str, Vec<&[u16]>> = BTreeMap::new();
    for (what, ranks) in &set.ranks {
        match what.as_str() {
            "rank" => {
                for (metric, cutoff) in [("acc1", 1), ("acc5", 5), ("lp_acc1", 1), ("lp_acc5", 5)] {
                    add(metric.to_owned(), within(ranks, cutoff), ranks.len());
                }
            }
            "text_rank" => RECALLS.iter().for_each(|at| {
                add(format!("text_retrieval_recall@{at}"), within(ranks, *at), ranks.len());
            }),
            "image_rank" => RECALLS.iter().for_each(|at| {
                let by_caption = within(ranks, *at);
                let by_image = match &set.captions {
                    None if set.ranks.get("text_rank").is_some_and(|images| images.len() != ranks.len()) => None,
                    None => Some(by_caption),
                    Some(captions) => summed(&by_caption, captions),
                };
                if let Some(by_image) = by_image {
                    add(format!("image_retrieval_recall@{at}"), by_image, ranks.len());
                }
            }),
            shot => {
                if let Some((shots_of, _)) = shot.strip_prefix("shots-").and_then(|rest| rest.split_once("-seed-")) {
                    shots.entry(shots_of).or_default().push(ranks);
                }
            }
        }
    }
    for (shot, repetitions) in shots {
        let one = repetitions[0].len();
        if repetitions.iter().all(|ranks| ranks.len() == one) && repetitions.len() < 256 {
            let hits = (0..one).map(|item| repetitions.iter().map(|ranks| u8::from(ranks[item] == 0)).sum()).collect();
            add(format!("fewshot{shot}_acc1"), hits, one * repetitions.len());
        }
    }
    found
}

/// Cut-offs of retrieval.
const RECALLS: [u16; 3] = [1, 5, 10];

/// Hits of captions summed over the images that have so many each.
fn summed(by_caption: &[u8], captions: &[usize]) -> Option<Vec<u8>> {
    let mut rest = by_caption;
    let sum = |count: &usize| {
        let (own, others) = rest.split_at_checked(*count)?;
        rest = others;
        u8::try_from(own.iter().map(|hits| u32::from(*hits)).sum::<u32>()).ok()
    };
    captions.iter().map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_those_of_the_metrics_whatever_an_item_is() {
        let ranks = BTreeMap::from([
            ("text_rank".to_owned(), vec![0, 6]),
            ("image_rank".to_owned(), vec![0, 4, 11]),
            ("shots-5-seed-0".to_owned(), vec![0, 0, 3]),
            ("shots-5-seed-1".to_owned(), vec![0, 1, 3]),
        ]);
        let set = StoredSet { items: "k".into(), name: "s".into(), ranks, captions: Some(vec![2, 1]) };
        let found = metrics("retrieval/x", std::slice::from_ref(&set));
        let of = |metric: &str| {
            let (sets, value) = &found[&format!("retrieval/x.{metric}")];
            (sets[0].hits.clone(), sets[0].of, (value * 100.0).round() / 100.0)
        };
        assert_eq!(of("text_retrieval_recall@5"), (vec![1, 0], 2, 50.0));
        assert_eq!(of("text_retrieval_recall@10"), (vec![1, 1], 2, 100.0));
        assert_eq!(of("image_retrieval_recall@1"), (vec![1, 0], 3, 33.33));
        assert_eq!(of("image_retrieval_recall@5"), (vec![2, 0], 3, 66.67));
        assert_eq!(of("fewshot5_acc1"), (vec![2, 1, 0], 6, 50.0));
        // Whose captions are whose is not known.
        let unknown = StoredSet { captions: None, ..set };
        assert!(!metrics("r", &[unknown]).contains_key("r.image_retrieval_recall@1"));
    }

    #[test]
    fn several_sets_have_each_their_metric_and_the_mean() {
        let set = |name: &str, ranks: &[u16]| {
            let ranks = BTreeMap::from([("rank".to_owned(), ranks.to_vec())]);
            StoredSet { items: name.into(), name: name.into(), ranks, captions: None }
        };
        let found = metrics("zeroshot/x", &[set("a", &[0, 1]), set("b", &[0, 0, 5, 4])]);
        let value = |metric: &str| found[metric].1;
        assert_eq!((value("zeroshot/x/a.acc1"), value("zeroshot/x/b.acc5"), value("zeroshot/x.acc5")), (50.0, 75.0, 87.5));
        assert_eq!(found["zeroshot/x.acc1"].0.iter().map(|hits| hits.set.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
