//! `data score`: scores the pools of an experiment as its `data.quality` says, and shows what is chosen.
//!
//! Packs, trains scorers and scores what is not done yet, through the executor; then writes, a pool: `scores.csv`, a histogram and
//! contact sheets of the best and worst a rule, `fields.csv` of how each rule goes with each numeric field of the samples,
//! `overlap.csv` of the subsets, `leaks.csv` of pictures that also stand in an evaluation
//! set of the experiment.

mod fields;
mod histogram;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use fields::FieldRanking;

use super::args::{DataScore, Format, Global};
use super::experiment::Loaded;
use crate::data::select::{Hashes, pairs};
use crate::data::{Pack, contact_sheet, read_subset};
use crate::error::{Error, exit};
use crate::jobs::files;
use crate::plan::{self, JobSpec, Key, Plan, ScoreBy};
use crate::run::{Framing, counted};
use crate::store::Store;

pub(super) fn run(global: &Global, args: &DataScore, out: &mut dyn Write) -> Result<u8, Error> {
    let loaded = Loaded::new(global, &args.experiment)?;
    let store = Store::open(&global.store)?;
    let plan = plan::selection(&loaded.plan);
    if !plan.jobs().any(|job| matches!(job.spec, JobSpec::Scores(_) | JobSpec::Subset(_))) {
        let file = args.experiment.file.display();
        return Err(Error::Usage {
            message: format!("{file} chooses no part of its pool, so that there is nothing to score"),
            hint: Some(
                "state `data.quality`, such as `quality: { keep: 40%, by: { similarity: { scorer: scorer.yaml } } }`".to_owned(),
            ),
        });
    }
    let code = super::finish::finish(global, &plan, &store, args.threads)?;
    if code != exit::OK {
        return Ok(code);
    }
    let pools = pools(&plan, &store)?;
    let mut reports = Vec::with_capacity(pools.len());
    for (samples, pool) in &pools {
        let folder = if pools.len() == 1 { args.out.clone() } else { args.out.join(samples) };
        std::fs::create_dir_all(&folder).map_err(|source| Error::File { operation: "create", path: folder.clone(), source })?;
        reports.push(report(pool, args, &folder, (&plan, &store))?);
    }
    match args.format {
        Format::Json => writeln!(out, "{:#}", serde_json::json!({ "pools": reports }))?,
        Format::Human => reports.iter().try_for_each(|report| report.show(out))?,
    }
    Ok(exit::OK)
}

/// A pool, whatever the size of its pictures: what scores and chooses it.
struct Pool {
    label: String,
    /// The pack that is shown; one of central squares where there is one.
    pack: Key,
    is_centre: bool,
    /// A column each.
    scores: Vec<(String, Vec<f64>)>,
    /// Chosen samples, ascending.
    subsets: Vec<(String, Vec<u32>)>,
}

/// The pools of a plan by the short name of their samples, with what was made of them.
fn pools(plan: &Plan, store: &Store) -> Result<BTreeMap<String, Pool>, Error> {
    let mut pools: BTreeMap<String, Pool> = BTreeMap::new();
    let mut of_pack: BTreeMap<Key, String> = BTreeMap::new();
    for (index, job) in plan.jobs().enumerate() {
        if let JobSpec::Dataset(spec) = &job.spec {
            let (name, is_centre) = (spec.samples().short(), spec.framing == Framing::Centre);
            of_pack.insert(job.key, name.clone());
            let pool = pools.entry(name).or_insert_with(|| Pool {
                label: plan.label(index),
                pack: job.key,
                is_centre,
                scores: Vec::new(),
                subsets: Vec::new(),
            });
            if is_centre && !pool.is_centre {
                (pool.pack, pool.is_centre, pool.label) = (job.key, true, plan.label(index));
            }
        }
    }
    for (index, job) in plan.jobs().enumerate() {
        let folder = store.output_dir(&job.key);
        match &job.spec {
            JobSpec::Scores(spec) => {
                let path = folder.join(files::SCORES);
                let bytes = std::fs::read(&path).map_err(|source| Error::File { operation: "read", path, source })?;
                let scores = bytes.chunks_exact(8).map(|eight| f64::from_le_bytes(eight.try_into().expect("eight bytes")));
                let Some(pool) = of_pack.get(&spec.pool).and_then(|name| pools.get_mut(name)) else { continue };
                let name = column(&spec.by);
                let is_taken = pool.scores.iter().any(|(known, _)| *known == name);
                let name = if is_taken { format!("{name}@{}", job.key.short()) } else { name };
                pool.scores.push((name, scores.collect()));
            }
            JobSpec::Subset(spec) => {
                let Some(pool) = of_pack.get(&spec.pool).and_then(|name| pools.get_mut(name)) else { continue };
                let len = Pack::open(&store.output_dir(&spec.pool))?.len();
                let parents = plan.parents(index).filter(|parent| matches!(plan.job(*parent).spec, JobSpec::Scores(_)));
                let by = parents.map(|parent| plan.label(parent)).next().unwrap_or_else(|| "at random".to_owned());
                let name = format!("{} {by} ({})", plan.label(index), job.key.short());
                pool.subsets.push((name, read_subset(&folder.join(files::SUBSET), len)?));
            }
            _ => {}
        }
    }
    pools.retain(|_, pool| !pool.scores.is_empty() || !pool.subsets.is_empty());
    Ok(pools)
}

/// The name of a rule's column.
fn column(by: &ScoreBy) -> String {
    match by {
        ScoreBy::Field(name) => name.clone(),
        ScoreBy::Similarity { .. } => "similarity".to_owned(),
        ScoreBy::File { scores, .. } => scores.score_column.clone(),
        ScoreBy::Uids { .. } => "uids".to_owned(),
        ScoreBy::Basic(_) => "basic".to_owned(),
        ScoreBy::Rule(spec) => spec.rule.name().to_owned(),
    }
}

/// What was written of a pool.
#[derive(Debug, Serialize)]
struct Report {
    pool: String,
    samples: usize,
    folder: String,
    rules: Vec<Rule>,
    fields: Vec<FieldRanking>,
    overlaps: Vec<Overlap>,
    leaks: Vec<Leaks>,
}

/// A rule's scores.
#[derive(Debug, Serialize)]
struct Rule {
    name: String,
    scored: usize,
    /// Samples without a score.
    missing: usize,
    least: Option<f64>,
    median: Option<f64>,
    most: Option<f64>,
    histogram: String,
    best: String,
    worst: String,
}

/// What two subsets have in common.
#[derive(Debug, Serialize)]
struct Overlap {
    one: String,
    other: String,
    kept_one: usize,
    kept_other: usize,
    both: usize,
    /// What two independent choices of these sizes have in common.
    by_chance: f64,
}

/// Pictures of a pool that also stand in an evaluation set.
#[derive(Debug, Serialize)]
struct Leaks {
    set: String,
    /// Pairs of a sample and an image.
    pairs: usize,
    /// Samples of the pool in a pair.
    samples: usize,
    /// Images of the set in a pair.
    images: usize,
    /// Images of the set.
    of_images: usize,
    /// Pictures of the pool and of the set that are flat, or one ramp, and were not compared.
    not_compared: (usize, usize),
}

fn report(pool: &Pool, args: &DataScore, folder: &Path, (plan, store): (&Plan, &Store)) -> Result<Report, Error> {
    let pack = Pack::open(&store.output_dir(&pool.pack))?;
    write(&folder.join("scores.csv"), &scores_csv(pool, &pack)?)?;
    let rules =
        pool.scores.iter().map(|(name, scores)| rule(name, scores, &pack, args.samples, folder)).collect::<Result<_, _>>()?;
    let fields = fields::rankings(&pool.scores, &pack)?;
    write(&folder.join("fields.csv"), &rows(&fields)?)?;
    let overlaps = overlaps(pool, pack.len());
    write(&folder.join("overlap.csv"), &rows(&overlaps)?)?;
    let (leaks, listed) = leaks(&pack, args.hamming, (plan, store))?;
    write(&folder.join("leaks.csv"), &listed)?;
    let (pool, folder) = (pool.label.clone(), folder.display().to_string());
    Ok(Report { pool, samples: pack.len(), folder, rules, fields, overlaps, leaks })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|source| Error::File { operation: "write", path: path.to_path_buf(), source })
}

/// Rows as CSV, their fields as columns.
fn rows<T: Serialize>(rows: &[T]) -> Result<Vec<u8>, Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row)).map_err(of_csv)?;
    writer.into_inner().map_err(|e| of_csv(e.into_error().into()))
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` takes it")]
fn of_csv(error: csv::Error) -> Error {
    Error::Invalid { message: format!("cannot write a table: {error}"), hint: None }
}

/// A line a sample: index, uid, key and a column a rule, empty where there is no score.
fn scores_csv(pool: &Pool, pack: &Pack) -> Result<Vec<u8>, Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = ["index", "uid", "key"].into_iter().chain(pool.scores.iter().map(|(name, _)| name.as_str()));
    writer.write_record(header).map_err(of_csv)?;
    for sample in 0..pack.len() {
        let (key, uid) = pack.name(sample).unwrap_or_default();
        let names = [sample.to_string(), uid.to_owned(), key.to_owned()];
        let score = |scores: &[f64]| if scores[sample].is_nan() { String::new() } else { scores[sample].to_string() };
        writer.write_record(names.into_iter().chain(pool.scores.iter().map(|(_, scores)| score(scores)))).map_err(of_csv)?;
    }
    writer.into_inner().map_err(|e| of_csv(e.into_error().into()))
}

fn rule(name: &str, scores: &[f64], pack: &Pack, shown: usize, folder: &Path) -> Result<Rule, Error> {
    let file = |what: &str, extension: &str| {
        let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_@".contains(c) { c } else { '_' }).collect();
        folder.join(format!("{safe}-{what}.{extension}"))
    };
    let mut ranked: Vec<usize> = (0..scores.len()).filter(|&sample| !scores[sample].is_nan()).collect();
    ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let histogram = file("histogram", "svg");
    write(&histogram, histogram::svg(name, scores).as_bytes())?;
    let (best, worst) = (file("best", "png"), file("worst", "png"));
    let shown = shown.clamp(1, ranked.len().max(1));
    contact_sheet(pack, &ranked[..shown.min(ranked.len())], &best)?;
    let last: Vec<usize> = ranked.iter().rev().take(shown).copied().collect();
    contact_sheet(pack, &last, &worst)?;
    let at = |place: usize| ranked.get(place).map(|&sample| scores[sample]);
    let path = |path: &Path| path.display().to_string();
    Ok(Rule {
        name: name.to_owned(),
        scored: ranked.len(),
        missing: scores.len() - ranked.len(),
        least: at(ranked.len().wrapping_sub(1)),
        median: at(ranked.len() / 2),
        most: at(0),
        histogram: path(&histogram),
        best: path(&best),
        worst: path(&worst),
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn overlaps(pool: &Pool, samples: usize) -> Vec<Overlap> {
    let mut found = Vec::new();
    for (idx, (one, kept)) in pool.subsets.iter().enumerate() {
        for (other, others) in &pool.subsets[idx + 1..] {
            found.push(Overlap {
                one: one.clone(),
                other: other.clone(),
                kept_one: kept.len(),
                kept_other: others.len(),
                both: kept.iter().filter(|sample| others.binary_search(sample).is_ok()).count(),
                by_chance: kept.len() as f64 * others.len() as f64 / samples as f64,
            });
        }
    }
    found
}

/// A pair as it is listed.
#[derive(Serialize)]
struct Leak<'a> {
    index: usize,
    uid: &'a str,
    key: &'a str,
    set: &'a str,
    image: usize,
    image_key: &'a str,
    bits: u32,
}

fn leaks(pack: &Pack, most: u32, (plan, store): (&Plan, &Store)) -> Result<(Vec<Leaks>, Vec<u8>), Error> {
    let of_pool = Hashes::of(pack);
    let mut sets: BTreeMap<String, Key> = BTreeMap::new();
    for job in plan.jobs() {
        if let JobSpec::EvalSet(spec) = &job.spec {
            // One size of pictures is enough.
            sets.entry(serde_json::json!(spec.source).to_string()).or_insert(job.key);
        }
    }
    let (mut found, mut writer) = (Vec::new(), csv::Writer::from_writer(Vec::new()));
    for key in sets.values() {
        let set = plan.index_of(key).map_or_else(|| key.short(), |index| plan.label(index));
        let images = Pack::open(&store.output_dir(key))?;
        let of_set = Hashes::of(&images);
        let alike = pairs(&of_pool, &of_set, most);
        for pair in &alike {
            let (key, uid) = pack.name(pair.of_pool).unwrap_or_default();
            let image_key = images.name(pair.of_set).unwrap_or_default().0;
            let leak = Leak { index: pair.of_pool, uid, key, set: &set, image: pair.of_set, image_key, bits: pair.bits };
            writer.serialize(leak).map_err(of_csv)?;
        }
        let distinct =
            |of: fn(&crate::data::select::Pair) -> usize| alike.iter().map(of).collect::<std::collections::BTreeSet<usize>>().len();
        found.push(Leaks {
            pairs: alike.len(),
            samples: distinct(|pair| pair.of_pool),
            images: distinct(|pair| pair.of_set),
            of_images: images.len(),
            not_compared: (of_pool.without(), of_set.without()),
            set,
        });
    }
    Ok((found, writer.into_inner().map_err(|e| of_csv(e.into_error().into()))?))
}

impl Report {
    fn show(&self, out: &mut dyn Write) -> Result<(), Error> {
        writeln!(out, "{}: {}, in {}", self.pool, counted(self.samples, "sample"), self.folder)?;
        for Rule { name, scored, missing, least, median, most, .. } in &self.rules {
            let number = |value: &Option<f64>| value.map_or("none".to_owned(), |value| format!("{value:.4}"));
            let (least, median, most) = (number(least), number(median), number(most));
            writeln!(out, "  {name}: {scored} scored, {missing} without; least {least}, median {median}, most {most}")?;
        }
        for Overlap { one, other, kept_one, kept_other, both, by_chance } in &self.overlaps {
            writeln!(out, "  {one} and {other}: {both} in both of {kept_one} and {kept_other}, {by_chance:.0} by chance")?;
        }
        for Leaks { set, pairs, samples, images, of_images, not_compared: (pool, others) } in &self.leaks {
            writeln!(
                out,
                "  {set}: {pairs} pairs of like pictures ({samples} samples, {images} of {of_images} images); flat and not \
                 compared: {pool} of the pool, {others} of the set"
            )?;
        }
        Ok(())
    }
}
