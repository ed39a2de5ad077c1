//! Points and seeds to distinct runs.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use rayon::prelude::*;

use super::identity::{Digests, Fragments, PointHasher, PointSections, RunId};
use crate::run::{DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig};
use crate::spec::{Resolved, SectionIds, ValidSpec};

/// Points hashed by one task: large enough that the tasks cost nothing, small enough to keep all threads busy.
const CHUNK: usize = 4096;

/// The runs of an experiment and the points that own them.
#[derive(Debug, Clone)]
pub struct Expansion {
    spec: ValidSpec,
    runs: Vec<Run>,
    /// Run of every point and seed, point by point.
    runs_of_points: Vec<u32>,
    warnings: Vec<String>,
}

/// One distinct run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Its identity.
    pub id: RunId,
    /// The first point that needs it.
    pub point_idx: u32,
    /// Position of its seed.
    pub seed_idx: u32,
}

/// The sections of a run, without copying them. Equal positions are equal sections.
#[derive(Debug, Clone, Copy)]
pub struct RunParts<'a> {
    /// Data section.
    pub data: &'a DataConfig,
    /// Samples of its subset; `None` where only the data can tell.
    pub subset: Option<u64>,
    /// Model section.
    pub model: &'a ModelConfig,
    /// Training section.
    pub train: &'a TrainConfig,
    /// Evaluation section.
    pub evaluate: &'a [EvalConfig],
    /// Seed.
    pub seed: u64,
    /// Positions of the sections, to cache by.
    pub sections: SectionIds,
}

/// Expands an experiment: every point, every seed, equal configs once. `digests` hold the content of every source with files;
/// one that is not there is known by its paths.
#[must_use]
pub fn expand(spec: &ValidSpec, digests: &Digests) -> Expansion {
    let Resolved { data, models, trains, evaluates, device, precision, points, .. } = spec.resolved.as_ref();
    let seeds = &spec.sweep.seeds;
    let fragments = Fragments::new(data, models, evaluates, (*device, *precision, spec.sweep.seeds_draw), digests);
    let hash_chunk = |chunk: &[SectionIds]| {
        let (mut hasher, mut ids) = (PointHasher::default(), Vec::with_capacity(chunk.len() * seeds.len()));
        for point in chunk {
            let SectionIds { grid: _, data, model, train, evaluate } = *point;
            let train = &trains[train as usize];
            let sections = PointSections { data: data as usize, model: model as usize, evaluate: evaluate as usize, train };
            hasher.ids(&fragments, &sections, seeds, &mut ids);
        }
        ids
    };
    let chunks: Vec<Vec<RunId>> = points.par_chunks(CHUNK).map(hash_chunk).collect();

    let mut known: HashMap<RunId, u32, BuildHasherDefault<DigestHasher>> = HashMap::default();
    known.reserve(points.len() * seeds.len());
    let mut runs: Vec<Run> = Vec::with_capacity(points.len() * seeds.len());
    let mut runs_of_points = Vec::with_capacity(points.len() * seeds.len());
    for (idx, id) in chunks.into_iter().flatten().enumerate() {
        let run_idx = *known.entry(id).or_insert_with(|| {
            let (point_idx, seed_idx) = (index(idx / seeds.len()), index(idx % seeds.len()));
            runs.push(Run { id, point_idx, seed_idx });
            index(runs.len() - 1)
        });
        runs_of_points.push(run_idx);
    }
    runs.shrink_to_fit();
    let warnings = warnings(spec);
    Expansion { spec: spec.clone(), runs, runs_of_points, warnings }
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("fewer than 2^32 runs")
}

fn warnings(spec: &ValidSpec) -> Vec<String> {
    spec.warnings.iter().map(|w| w.render(&spec.sources)).collect()
}

impl Expansion {
    /// The experiment.
    #[must_use]
    pub fn spec(&self) -> &ValidSpec {
        &self.spec
    }
    /// Distinct runs, in the order of the points that need them first.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }
    /// Number of points.
    #[must_use]
    pub fn num_points(&self) -> usize {
        self.spec.resolved.points.len()
    }
    /// What may not have been meant, as it is shown.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
    /// The runs of a point, one a seed, in the order of the seeds.
    #[must_use]
    pub fn runs_of(&self, point_idx: usize) -> &[u32] {
        let num_seeds = self.spec.sweep.seeds.len();
        &self.runs_of_points[point_idx * num_seeds..(point_idx + 1) * num_seeds]
    }
    /// The axes of a point and its labels on them, in the order written; axes that do not exist there are left out.
    pub fn labels(&self, point_idx: usize) -> impl Iterator<Item = (&str, &str)> {
        self.spec.labels(point_idx)
    }
    /// The label of a point at any key path: of its axis, or else what the base states.
    #[must_use]
    pub fn label(&self, point_idx: usize, path: &str) -> Option<String> {
        self.spec.label(point_idx, path)
    }
    /// Texts of tables' `where` that name a setting of a point without being its label, with their key paths.
    pub fn also(&self, point_idx: usize) -> impl Iterator<Item = (&str, &str)> {
        self.spec.also(point_idx)
    }
    /// All axis paths, in the order in which they are first written.
    #[must_use]
    pub fn axes(&self) -> Vec<&str> {
        self.spec.sweep.axes()
    }
    /// The sections of a run.
    #[must_use]
    pub fn parts(&self, run_idx: usize) -> RunParts<'_> {
        let Run { id: _, point_idx, seed_idx } = self.runs[run_idx];
        let resolved = self.spec.resolved.as_ref();
        let sections = resolved.points[point_idx as usize];
        RunParts {
            data: &resolved.data[sections.data as usize],
            subset: resolved.subsets[sections.data as usize],
            model: &resolved.models[sections.model as usize],
            train: &resolved.trains[sections.train as usize],
            evaluate: &resolved.evaluates[sections.evaluate as usize],
            seed: self.spec.sweep.seeds[seed_idx as usize],
            sections,
        }
    }
    /// The whole config of a run.
    #[must_use]
    pub fn config(&self, run_idx: usize) -> RunConfig {
        let RunParts { data, subset: _, model, train, evaluate, seed, sections: _ } = self.parts(run_idx);
        let Resolved { device, precision, .. } = *self.spec.resolved.as_ref();
        RunConfig {
            data: data.clone(),
            model: model.clone(),
            train: train.clone(),
            evaluate: evaluate.to_vec(),
            seed,
            device,
            precision,
            seeds_draw: self.spec.sweep.seeds_draw,
        }
    }
    /// All points that own each run, by run.
    #[must_use]
    pub fn owners(&self) -> Vec<Vec<u32>> {
        let mut out = vec![Vec::new(); self.runs.len()];
        for point_idx in 0..self.num_points() {
            for run in self.runs_of(point_idx) {
                let owners: &mut Vec<u32> = &mut out[*run as usize];
                if owners.last() != Some(&index(point_idx)) {
                    owners.push(index(point_idx));
                }
            }
        }
        out
    }
    /// The experiment's resolved sections, shared.
    #[must_use]
    pub fn resolved(&self) -> &Arc<Resolved> {
        &self.spec.resolved
    }
}

/// A digest is a good hash of itself.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
}
