//! What is measured of a trained run, and on which sets.

use serde::{Deserialize, Serialize};

use super::ScenesConfig;

/// One measurement after training: a task on one or several sets.
///
/// Metrics are named `<task>/<name>.<metric>`; where there are several sets, also `<task>/<name>/<set>.<metric>`, and the
/// first form is their plain mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// What is measured.
    pub task: EvalTask,
    /// Name in metrics, tables and claims.
    pub name: String,
    /// The sets, in order; never empty.
    pub sets: Vec<EvalSet>,
    /// The labelled set that a classifier is fitted on; there for the tasks that [fit one](EvalTask::is_fitted), and for no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<EvalSet>,
    /// Images of each class that few-shot classifiers are fitted on, one classifier each; empty for all other tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shots: Vec<u64>,
}

impl EvalConfig {
    /// Every set that it reads: those that are measured, then the one that is fitted on.
    pub fn all_sets(&self) -> impl Iterator<Item = &EvalSet> {
        self.sets.iter().chain(&self.train)
    }

    /// As [`Self::all_sets`], to be changed.
    pub fn all_sets_mut(&mut self) -> impl Iterator<Item = &mut EvalSet> {
        self.sets.iter_mut().chain(&mut self.train)
    }
}

/// What an evaluation measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvalTask {
    /// Classification by prompts: `acc1`, `acc5`, `mean_per_class_recall`.
    Zeroshot,
    /// Ranking both ways: `image_retrieval_recall@K`, `text_retrieval_recall@K`, K in 1, 5, 10.
    Retrieval,
    /// A ridge classifier on k labelled images a class: `fewshot<k>_acc1` for every k.
    Fewshot,
    /// A linear classifier on frozen features: `lp_acc1`, `lp_acc5`, `lp_mean_per_class_recall`.
    LinearProbe,
}

impl EvalTask {
    /// Name as written in experiment files and metric names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zeroshot => "zeroshot",
            Self::Retrieval => "retrieval",
            Self::Fewshot => "fewshot",
            Self::LinearProbe => "linear-probe",
        }
    }

    /// Whether a classifier is fitted on labelled images before anything is measured.
    #[must_use]
    pub fn is_fitted(self) -> bool {
        match self {
            Self::Zeroshot | Self::Retrieval => false,
            Self::Fewshot | Self::LinearProbe => true,
        }
    }
}

/// Which class of a train split each class of an evaluation set is: by name where the train split has every name of the set,
/// else by number where there are as many classes and no name stands at two numbers (names that were reworded).
///
/// # Errors
/// Classes that are matched in neither way, in words.
pub fn matched_classes(train: &[String], set: &[String]) -> Result<Vec<usize>, String> {
    if train == set {
        return Ok((0..set.len()).collect());
    }
    let at = |name: &String| train.iter().position(|known| known == name);
    let by_name: Vec<Option<usize>> = set.iter().map(at).collect();
    let found: Option<Vec<usize>> = by_name.iter().copied().collect();
    if let Some(found) = found.filter(|found| found.iter().collect::<std::collections::HashSet<_>>().len() == found.len()) {
        return Ok(found);
    }
    let is_moved = by_name.iter().enumerate().any(|(class, place)| place.is_some_and(|place| place != class));
    if train.len() == set.len() && !is_moved {
        return Ok((0..set.len()).collect());
    }
    let unknown = set.iter().zip(&by_name).find(|(_, place)| place.is_none()).map(|(name, _)| name.as_str());
    Err(match unknown {
        Some(name) => format!("its {} classes, such as `{name}`, are not among the {} of the train split", set.len(), train.len()),
        None => "it has a class name twice, and its class numbers are not those of the train split".to_owned(),
    })
}

/// One evaluation set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSet {
    /// Short name, unique in its evaluation.
    pub name: String,
    /// Where it comes from.
    pub source: EvalSource,
}

/// Where an evaluation set comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EvalSource {
    /// A set of the procedural world.
    Scenes {
        /// Seed of the world, the same as the training data's.
        world_seed: u64,
        /// `iid`, a shift (`fresh`, `sketch`, `rendition`, `hard`, `viewpoint`, `relabelled`), or `train`: other images that are
        /// distributed as those of `iid`, for classifiers to be fitted on.
        variant: String,
        /// Images.
        samples: u64,
        /// Share of its images that are shifted, as [`ScenesConfig::shifts`](super::ScenesConfig::shifts).
        #[serde(default = "super::ScenesConfig::default_shifts")]
        shifts: f64,
    },
    /// A folder in the `CLIP_benchmark` webdataset layout.
    Folder {
        /// The folder that holds `classnames.txt` and the split.
        path: String,
        /// Split, usually `test`.
        split: String,
    },
    /// Training-layout shards whose metadata name the class: a held-out part of a training set.
    Shards {
        /// Shard paths, expanded.
        shards: Vec<String>,
        /// Numeric metadata field with the class index.
        class_field: String,
        /// File with one class name a line.
        classnames: String,
        /// File with one template a line (`{c}` is the class name).
        templates: String,
    },
}

impl EvalSource {
    /// Makes a set of the procedural world one of this world; others stay.
    pub fn in_world(&mut self, world: &ScenesConfig) {
        if let Self::Scenes { world_seed, shifts, .. } = self {
            (*world_seed, *shifts) = (world.world_seed, world.shifts);
        }
    }

    /// A set of the procedural world of seed 0 as it is unless stated.
    #[must_use]
    pub fn scenes(variant: &str, samples: u64) -> Self {
        Self::Scenes { world_seed: 0, variant: variant.to_owned(), samples, shifts: ScenesConfig::default_shifts() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_matched_by_name_or_by_number_and_never_by_chance() {
        let of = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let train = of("cat dog fish bird");
        for (set, expected) in [
            ("cat dog fish bird", Ok(vec![0, 1, 2, 3])),
            ("bird cat", Ok(vec![3, 0])),
            ("dog cat fish bird", Ok(vec![1, 0, 2, 3])),
            ("kitten puppy fish bird", Ok(vec![0, 1, 2, 3])),
            ("kitten cat fish bird", Err("such as `kitten`")),
            ("cat worm", Err("such as `worm`")),
            ("cat cat", Err("twice")),
        ] {
            match (matched_classes(&train, &of(set)), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{set}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{set}: {found}"),
                (found, _) => panic!("{set}: {found:?}"),
            }
        }
    }
}
