//! Runs that committed records hold as finished, in place of training them.
//!
//! Input: a plan, what the store holds finished, results folders. Output: [`Adopted`]: for each run that is not in the store and whose key
//! (of its training and all its evaluations) stands in one of the folders, its record and where it was trained. Invariant: a run is
//! adopted whole or not at all, only where it came to an end (finished or diverged), and only where its record is as it was written; what
//! is not says why. Nothing is written, and the files of a folder other than `provenance.json` are read only where a key fits.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::outcomes::counts_hits;
use crate::plan::{Key, Plan};
use crate::record::{self, Identity, Origin, Provenance, RecordError, Records, SampleCounts, Sealed};
use crate::run::{RunRecord, RunStatus, SetOutcomes, counted};

/// A run as committed records hold it.
#[derive(Debug, Clone, PartialEq)]
pub struct AdoptedRun {
    /// Its record.
    pub record: RunRecord,
    /// What the items behind its metrics came to, as far as the records hold it.
    pub outcomes: BTreeMap<String, Arc<[SetOutcomes]>>,
    /// Where it was trained.
    pub origin: Origin,
    /// The results folder that holds it.
    pub folder: PathBuf,
}

/// Runs of a plan that are taken from records.
#[derive(Debug, Clone, Default)]
pub struct Adopted {
    /// By position in the plan.
    runs: BTreeMap<usize, AdoptedRun>,
    /// What the experiment's own results folder holds.
    own: Option<Sealed>,
    /// Counts of packed sets as the folders state them, by name.
    samples: BTreeMap<String, SampleCounts>,
    /// Records that were not taken, and why.
    warnings: Vec<String>,
}

/// Folders below a folder of results that are looked into, and how far down.
const MOST_FOLDERS: usize = 10_000;
const DEEPEST: usize = 4;

/// Every results folder at or below `root`, in the order of their paths. Hidden folders and links are passed over.
#[must_use]
pub fn results_folders(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut left, mut seen) = (Vec::new(), vec![(root.to_owned(), 0)], 0);
    while let Some((folder, depth)) = left.pop() {
        seen += 1;
        if seen > MOST_FOLDERS {
            break;
        }
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if entry.file_name() == PROVENANCE {
                found.push(folder.clone());
            } else if !is_hidden && depth < DEEPEST && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push((entry.path(), depth + 1));
            }
        }
    }
    found.sort();
    found
}

const PROVENANCE: &str = record::NAMES[2];

impl Adopted {
    /// Looks for the runs of a plan that are not `finished` in the experiment's own results folder, then in `others`, in their order.
    #[must_use]
    pub fn find(plan: &Plan, finished: &HashSet<Key>, own: &Path, others: &[PathBuf]) -> Self {
        let mut wanted: HashMap<String, usize> = HashMap::new();
        for (idx, run) in plan.runs().iter().enumerate().filter(|(_, run)| !plan.is_finished(run, finished)) {
            wanted.insert(plan.run_key(run).hex(), idx);
        }
        let mut found = Self::default();
        if wanted.is_empty() {
            return found;
        }
        found.look_into(own, true, plan, &mut wanted);
        for folder in others.iter().filter(|folder| !is_same(folder, own)) {
            if wanted.is_empty() {
                break;
            }
            found.look_into(folder, false, plan, &mut wanted);
        }
        found
    }

    /// Runs that are adopted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether no run is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The adopted run at this position of the plan.
    #[must_use]
    pub fn run(&self, idx: usize) -> Option<&AdoptedRun> {
        self.runs.get(&idx)
    }

    /// Adopted runs with their positions in the plan.
    pub fn runs(&self) -> impl Iterator<Item = (usize, &AdoptedRun)> {
        self.runs.iter().map(|(idx, run)| (*idx, run))
    }

    /// Keys of the jobs of adopted runs.
    #[must_use]
    pub fn job_keys(&self, plan: &Plan) -> HashSet<Key> {
        self.runs.keys().flat_map(|run| plan.runs()[*run].jobs()).map(|job| plan.job(job).key).collect()
    }

    /// Records that were not taken and why, and what the taken ones lack of the items behind `shown` metrics.
    #[must_use]
    pub fn warnings(&self, shown: &BTreeSet<&str>) -> Vec<String> {
        let lacks = |metric: &&str| {
            let is_lacking = |run: &AdoptedRun| run.record.metrics.contains_key(*metric) && !run.outcomes.contains_key(*metric);
            counts_hits(metric) && self.runs.values().any(is_lacking)
        };
        let lacking: BTreeSet<&str> = shown.iter().copied().filter(lacks).collect();
        let mut warnings = self.warnings.clone();
        if !lacking.is_empty() {
            let metrics = lacking.into_iter().collect::<Vec<_>>().join(", ");
            warnings.push(format!(
                "adopted records do not hold what each item came to for {metrics}, which their tables did not show: verdicts on it are of \
                 these evaluation sets alone; `--no-adopt` trains the runs anew"
            ));
        }
        warnings
    }

    fn look_into(&mut self, folder: &Path, is_own: bool, plan: &Plan, wanted: &mut HashMap<String, usize>) {
        let taken = self.take_from(folder, is_own, plan, wanted);
        if let Err(error) = taken {
            let shown = match error {
                RecordError::Io { .. } => error.to_string(),
                _ => format!("{}: {error}", folder.display()),
            };
            self.warnings.push(format!("{shown}; no run is adopted from there"));
        }
    }

    fn take_from(
        &mut self,
        folder: &Path,
        is_own: bool,
        plan: &Plan,
        wanted: &mut HashMap<String, usize>,
    ) -> Result<(), RecordError> {
        let path = folder.join(PROVENANCE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(RecordError::Io { path, source }),
        };
        let stated = record::keys(&text)?;
        drop(text);
        let is_wanted = |key: &Option<String>| key.as_ref().is_some_and(|key| wanted.contains_key(key));
        if !stated.iter().any(|(_, key)| is_wanted(key)) {
            let ids: HashSet<&str> = wanted.values().map(|idx| plan.runs()[*idx].run_id.as_str()).collect();
            let keyless = stated.iter().filter(|(id, key)| key.is_none() && ids.contains(id.as_str())).count();
            if is_own && keyless > 0 && keyless == stated.len() {
                self.warnings.push(format!(
                    "{}: its records hold no keys of runs, so no run is adopted from there; runs that are trained anew are written with them",
                    folder.display()
                ));
            }
            return Ok(());
        }
        let sealed = record::read_sealed(folder)?;
        let Records { runs, outcomes, identities, provenance, .. } = &sealed.records;
        let mut altered = Vec::new();
        for run in runs.iter().filter(|run| is_ended(run)) {
            let Some(Identity { key, adopted }) = identities.get(&run.run_id) else { continue };
            let Some(&idx) = wanted.get(key) else { continue };
            if sealed.altered.contains(&run.run_id) {
                altered.push(run.run_id.as_str());
                continue;
            }
            wanted.remove(key);
            let adopted = AdoptedRun {
                record: run.clone(),
                outcomes: outcomes.0.get(&run.run_id).cloned().unwrap_or_default(),
                origin: adopted.clone().unwrap_or_else(|| provenance.origin()),
                folder: folder.to_owned(),
            };
            self.runs.insert(idx, adopted);
        }
        if let Some(first) = altered.first() {
            self.warnings.push(format!(
                "{}: {} not as it was written ({first}{}): its rows were changed by hand or files do not belong together; not adopted",
                folder.display(),
                if altered.len() == 1 { "1 run is".to_owned() } else { format!("{} are each", counted(altered.len(), "run")) },
                if altered.len() > 1 { ", .." } else { "" },
            ));
        }
        for (name, counts) in &provenance.samples {
            self.samples.entry(name.clone()).or_insert_with(|| counts.clone());
        }
        if is_own {
            self.own = Some(sealed);
        }
        Ok(())
    }

    /// What of a packed set was there, as the folders state it, by the name that it has beside others of its label or alone.
    pub(super) fn samples(&self, label: &str, key: &Key) -> Option<&SampleCounts> {
        self.samples.get(&named_by_key(label, key)).or_else(|| self.samples.get(label))
    }

    /// What the runs of these records are known by, and where each was trained. Where every one of them stands in the experiment's own
    /// folder with the same content, what that folder says of its origin stays.
    pub(super) fn identities(&self, plan: &Plan, runs: &[RunRecord], provenance: &mut Provenance) -> BTreeMap<String, Identity> {
        let keys: Vec<String> = plan.runs().iter().map(|run| plan.run_key(run).hex()).collect();
        let own = self.own.iter().flat_map(|sealed| &sealed.records.runs).map(|run| (run.run_id.as_str(), run));
        let own: HashMap<&str, &RunRecord> = own.collect();
        let standing = |(key, run): (&String, &RunRecord)| self.standing(key, run, own.get(run.run_id.as_str())?);
        let standing: Vec<Option<&Identity>> = keys.iter().zip(runs).map(standing).collect();
        let is_same = !self.is_empty() && standing.iter().all(Option::is_some);
        if let Some(Sealed { records, .. }) = self.own.as_ref().filter(|_| is_same) {
            let Provenance { version, commit, cpu, command, .. } = records.provenance.clone();
            (provenance.version, provenance.commit, provenance.cpu, provenance.command) = (version, commit, cpu, command);
        }
        let mut identities = BTreeMap::new();
        for (idx, ((key, run), standing)) in keys.into_iter().zip(runs).zip(standing).enumerate() {
            if is_ended(run) {
                let marked = standing.and_then(|identity| identity.adopted.clone());
                let adopted = if is_same { marked } else { self.run(idx).map(|run| run.origin.clone()).or(marked) };
                identities.insert(run.run_id.clone(), Identity { key, adopted });
            }
        }
        identities
    }

    /// What the own folder says of a run, where it holds it with this content.
    fn standing(&self, key: &str, run: &RunRecord, there: &RunRecord) -> Option<&Identity> {
        let Sealed { records, altered } = self.own.as_ref()?;
        let identity = records.identities.get(&run.run_id).filter(|identity| identity.key == key)?;
        let is_same = !altered.contains(&run.run_id) && record::content_digest(there) == record::content_digest(run);
        is_same.then_some(identity)
    }
}

/// The name of a packed set among several of one label.
pub(super) fn named_by_key(label: &str, key: &Key) -> String {
    format!("{label} ({})", key.short())
}

fn is_ended(run: &RunRecord) -> bool {
    matches!(run.status, RunStatus::Finished | RunStatus::Diverged)
}

/// Whether two paths lead to one folder.
fn is_same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}
