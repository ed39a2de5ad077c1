//! `plan`: runs, points, jobs, what is shared and cached, cost and time, without doing anything.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;

use serde::Serialize;

use super::adoption;
use super::args::{Experiment, Global, PlanFormat, PlanOptions};
use super::estimate;
use super::experiment::{Expanded, Loaded, expanded, placement};
use super::inspect::known_warnings;
use crate::claims::{too_few_items, too_few_seeds};
use crate::error::Error;
use crate::grid::Expansion;
use crate::jobs::Adopted;
use crate::plan::{self, JobSpec, Key, Plan};
use crate::progress::duration;
use crate::run::{
    Augmentation, DecayScale, EvalConfig, EvalSource, LossConfig, ModelConfig, OptimizerConfig, RunConfig, TrainConfig, counted,
};
use crate::spec::ValidSpec;
use crate::store::Store;
use crate::trainer::cost::planned_bytes;
use crate::trainer::model::{Recipe, build_with};

/// Items that a metric rests on, as one set of so many would; `None` where the size of a set is not known.
#[expect(clippy::cast_precision_loss, reason = "numbers of items")]
fn items_behind(loaded: &Loaded, metric: &str) -> Option<f64> {
    let (name, _) = metric.rsplit_once('.')?;
    let items = |source: &EvalSource| match source {
        EvalSource::Scenes { samples, .. } => Some(*samples as f64),
        EvalSource::Folder { .. } | EvalSource::Shards { .. } => {
            loaded.surveys.of_eval_set(source)?.samples.map(|samples| samples as f64)
        }
    };
    loaded.expansion.parts(0).evaluate.iter().find_map(|EvalConfig { task, name: of, sets, .. }| {
        let whole = format!("{}/{of}", task.name());
        let sets: Vec<_> = sets.iter().filter(|set| name == whole || name == format!("{whole}/{}", set.name)).collect();
        // A mean over k sets has the variance of the sum of theirs over k^2.
        let share: f64 = sets.iter().map(|set| items(&set.source).map(f64::recip)).sum::<Option<f64>>()?;
        (!sets.is_empty()).then(|| (sets.len() as f64).powi(2) / share)
    })
}

pub(super) fn run(global: &Global, args: &PlanOptions, out: &mut dyn Write) -> Result<(), Error> {
    let PlanOptions { experiment, more: _, adoption, format, tflops, resolved } = args;
    if let Some(run) = resolved {
        return self::resolved(global, experiment, run, out);
    }
    let loaded = Loaded::new(global, experiment)?;
    let store = Store::open(&global.store)?;
    let finished = store.finished()?;
    let adopted = adoption::find(global, &loaded, &finished, adoption)?;
    super::warn(global, &known_warnings(&loaded, &store)?);
    let num_seeds = loaded.points().iter().map(|point| point.run_ids.len()).min().unwrap_or(0);
    let ValidSpec { claims, tables, .. } = loaded.spec();
    super::warn(global, &Vec::from_iter(too_few_seeds(claims, num_seeds)));
    super::warn(global, &too_few_items(claims, tables, &|metric| items_behind(&loaded, metric)));
    match format {
        PlanFormat::Dot => {
            let owners = loaded.expansion.owners();
            let setting = |run: u32| {
                let mark = if adopted.run(run as usize).is_some() { " (adopted)" } else { "" };
                format!("{}{mark}", setting(&loaded.expansion, &owners, run as usize))
            };
            let known = known(&loaded, &finished, &adopted);
            write!(out, "{}", plan::dot(&loaded.plan, &|key| known.contains(key), &setting))?;
        }
        PlanFormat::Json => writeln!(out, "{:#}", json(&loaded, &store, &finished, &adopted, *tflops)?)?,
        PlanFormat::Human => human(&loaded, &store, &finished, &adopted, *tflops, out)?,
    }
    Ok(())
}

/// A run and everything that it is made of, as `plan --resolved` prints it.
#[derive(Serialize)]
struct ResolvedRun<'a> {
    run_id: String,
    /// Its label on every axis, of each point that it belongs to.
    points: Vec<BTreeMap<&'a str, &'a str>>,
    #[serde(with = "serde_yaml::with::singleton_map_recursive")]
    config: RunConfig,
}

/// Prints the whole configuration of the runs whose id begins with `wanted`, one YAML document each.
fn resolved(global: &Global, experiment: &Experiment, wanted: &str, out: &mut dyn Write) -> Result<(), Error> {
    let placement = placement(experiment.device, experiment.precision)?;
    let Expanded { expansion, .. } = expanded(global, &experiment.file, &experiment.set, placement)?;
    let owners = expansion.owners();
    let mut found = false;
    for (idx, run) in expansion.runs().iter().enumerate().filter(|(_, run)| run.id.to_string().starts_with(wanted)) {
        found = true;
        let points = owners[idx].iter().map(|point| expansion.labels(*point as usize).collect()).collect();
        let shown = ResolvedRun { run_id: run.id.to_string(), points, config: expansion.config(idx) };
        let text = serde_yaml::to_string(&shown).expect("a config has only text keys");
        write!(out, "---\n{text}")?;
    }
    if found {
        return Ok(());
    }
    let hint = Some("`scaledown plan` lists the runs of an experiment".into());
    Err(Error::Usage { message: format!("no run `{wanted}` in {}", expansion.spec().experiment), hint })
}

/// What a run is told by: its labels on the axes and its seed.
fn setting(expansion: &Expansion, owners: &[Vec<u32>], run: usize) -> String {
    let labels = owners[run].first().into_iter().flat_map(|point| expansion.labels(*point as usize));
    let labels = labels.map(|(path, label)| format!("{path}={label}"));
    labels.chain([format!("seed={}", expansion.parts(run).seed)]).collect::<Vec<_>>().join(" ")
}

/// One line that says how much there is to do: the jobs are those of `plan`, which adopted runs are not in.
pub(super) fn headline(loaded: &Loaded, plan: &Plan, finished: &HashSet<Key>, adopted: &Adopted) -> String {
    let spec = loaded.spec();
    let cached = plan.cached(|key| finished.contains(key));
    let gmacs = loaded.gmacs();
    let cost: f64 = (0..gmacs.len()).filter(|run| adopted.run(*run).is_none()).map(|run| gmacs[run]).sum();
    let taken = if adopted.is_empty() { String::new() } else { format!(" ({} adopted)", adopted.len()) };
    format!(
        "{}: {}, {}{taken}, {} ({} shared, {cached} finished), {} GMACs",
        spec.experiment,
        counted(loaded.expansion.num_points(), "point"),
        counted(loaded.expansion.runs().len(), "run"),
        counted(plan.len(), "job"),
        plan.shared(),
        amount(cost),
    )
}

/// Keys of jobs that need not be done: finished ones, and those of adopted runs.
fn known(loaded: &Loaded, finished: &HashSet<Key>, adopted: &Adopted) -> HashSet<Key> {
    finished.iter().copied().chain(adopted.job_keys(&loaded.plan)).collect()
}

fn json(
    loaded: &Loaded,
    store: &Store,
    finished: &HashSet<Key>,
    adopted: &Adopted,
    tflops: Option<f64>,
) -> Result<serde_json::Value, Error> {
    let mut value = plan::json(&loaded.plan, &|key| finished.contains(key));
    let gmacs = loaded.gmacs();
    let estimate = estimate::estimate(loaded, store, (finished, &known(loaded, finished, adopted)), &gmacs, tflops);
    value["counts"]["adopted_runs"] = adopted.len().into();
    value["counts"]["to_do"] = loaded.rest(adopted)?.todo(|key| finished.contains(key)).len().into();
    value["experiment"] = loaded.spec().experiment.clone().into();
    value["points"] = loaded.expansion.num_points().into();
    value["gmacs"] = gmacs.iter().sum::<f64>().into();
    value["scorer_gmacs"] = loaded.scorers().iter().map(|(_, gmacs)| gmacs).sum::<f64>().into();
    if let Some(runs) = value["runs"].as_array_mut() {
        for (idx, (run, planned)) in runs.iter_mut().zip(loaded.plan.runs()).enumerate() {
            run["adopted"] =
                adopted.run(idx).map(|known| serde_json::json!({ "folder": known.folder, "origin": known.origin })).into();
            let is_finished = finished.contains(&loaded.plan.job(planned.train).key);
            let steps = if is_finished { None } else { Some(loaded.steps_done(store, planned.train)) };
            run["checkpoint_step"] = steps.filter(|steps| *steps > 0).into();
        }
    }
    value["milestone_bytes"] = kept(loaded).bytes.into();
    value["data"] = sources(loaded).into_iter().map(|source| serde_json::json!(source)).collect();
    value["estimate"] = serde_json::json!({ "seconds": estimate.seconds, "source": estimate.source });
    Ok(value)
}

fn human(
    loaded: &Loaded,
    store: &Store,
    finished: &HashSet<Key>,
    adopted: &Adopted,
    tflops: Option<f64>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let (spec, plan) = (loaded.spec(), &loaded.plan);
    let gmacs = loaded.gmacs();
    writeln!(out, "experiment  {}", spec.experiment)?;
    if let Some(question) = &spec.question {
        writeln!(out, "question    {}", question.trim())?;
    }
    writeln!(out, "points      {} (axes: {})", loaded.expansion.num_points(), axes(loaded))?;
    let mut seeds = counted(spec.sweep.seeds.len(), "seed");
    if !spec.sweep.seeds_draw.is_default() {
        seeds = format!("{seeds} that draw {}", spec.sweep.seeds_draw);
    }
    writeln!(out, "runs        {} distinct, {seeds}", loaded.expansion.runs().len())?;
    let kinds: Vec<String> = plan.kinds().iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
    writeln!(out, "jobs        {} ({})", plan.len(), kinds.join(", "))?;
    let cached = plan.cached(|key| finished.contains(key));
    writeln!(
        out,
        "            {} shared by several runs, {cached} finished, {} to do",
        plan.shared(),
        match adopted.is_empty() {
            true => plan.todo(|key| finished.contains(key)).len(),
            false => loaded.rest(adopted)?.todo(|key| finished.contains(key)).len(),
        }
    )?;
    if !adopted.is_empty() {
        let runs = counted(adopted.len(), "run");
        writeln!(out, "adopted     {runs} finished in committed records ({}); not trained", adoption::folders(adopted))?;
    }
    for source in sources(loaded) {
        writeln!(out, "data        {source}")?;
    }
    writeln!(out, "cost        {} GMACs (forward, both encoders, times samples seen)", amount(gmacs.iter().sum()))?;
    let scorers = loaded.scorers();
    if !scorers.is_empty() {
        let (gmacs, trainings) = (scorers.iter().map(|(_, gmacs)| gmacs).sum(), counted(scorers.len(), "training"));
        writeln!(out, "            {} GMACs besides in {trainings} of scorers", amount(gmacs))?;
    }
    if !adopted.is_empty() {
        let left = (0..gmacs.len()).filter(|run| adopted.run(*run).is_none()).map(|run| gmacs[run]).sum();
        writeln!(out, "            {} GMACs of it in runs that are not adopted", amount(left))?;
    }
    let largest = (0..loaded.expansion.runs().len()).max_by_key(|run| {
        let parts = loaded.expansion.parts(*run);
        parts.train.effective_batch() * parts.model.image_size as u64
    });
    if let Some(run) = largest {
        #[expect(clippy::cast_precision_loss, reason = "a display value")]
        let mib = |bytes: u64| bytes as f64 / 1048576.0;
        match planned_bytes(&loaded.expansion.config(run)) {
            Ok(bytes) => writeln!(out, "memory      about {:.0} MiB for the largest batch", mib(bytes))?,
            Err(error) => {
                writeln!(out, "memory      unknown: {error}")?;
                error.hint().iter().try_for_each(|hint| writeln!(out, "            hint: {hint}"))?;
            }
        }
    }
    trainings(loaded, out)?;
    packs(loaded, out)?;
    milestones(loaded, out)?;
    fitted(loaded, out)?;
    let estimate = estimate::estimate(loaded, store, (finished, &known(loaded, finished, adopted)), &gmacs, tflops);
    match estimate.seconds {
        Some(seconds) if tflops.is_some() => {
            writeln!(out, "time        about {:.1} device-hours ({})", seconds / 3600.0, estimate.source)?;
        }
        Some(seconds) => {
            let time = duration(std::time::Duration::from_secs_f64(seconds.min(3e15)));
            writeln!(out, "time        about {time} of training to do ({})", estimate.source)?;
        }
        None => writeln!(out, "time        {}", estimate.source)?,
    }
    writeln!(out)?;
    list(loaded, store, (finished, adopted), &gmacs, out)
}

/// How the runs learn once every default is filled in: optimiser, schedule, decay and loss of each training that differs in them.
fn trainings(loaded: &Loaded, out: &mut dyn Write) -> Result<(), Error> {
    const SHOWN: usize = 6;
    let mut kinds: Vec<String> = Vec::new();
    for train in &loaded.spec().resolved.trains {
        let kind = training(train);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
        if kinds.len() > SHOWN {
            break;
        }
    }
    for (idx, kind) in kinds.iter().take(SHOWN).enumerate() {
        writeln!(out, "{:12}{kind}", if idx == 0 { "training" } else { "" })?;
    }
    if kinds.len() > SHOWN {
        writeln!(out, "{:12}... and more", "")?;
    }
    Ok(())
}

/// One training in a line.
fn training(train: &TrainConfig) -> String {
    let TrainConfig { strategy, loss, steps, lr, warmup_steps, optimizer, weight_decay, decay_scale, grad_clip_norm, .. } = train;
    let optimizer = match optimizer {
        OptimizerConfig::Adafactor { beta1, beta2_cap } => format!("adafactor (beta1 {beta1}, beta2 at most {beta2_cap})"),
        OptimizerConfig::Adamw { beta1, beta2, eps } => format!("adamw (beta1 {beta1}, beta2 {beta2}, eps {eps:e})"),
    };
    let decay = match decay_scale {
        _ if *weight_decay == 0.0 => "no weight decay".to_owned(),
        DecayScale::Rate => format!("weight decay {weight_decay} x rate"),
        DecayScale::RelativeRate => format!("weight decay {weight_decay} x rate / peak rate"),
    };
    let clip = grad_clip_norm.map_or_else(|| "not clipped".to_owned(), |norm| format!("gradient norm clipped to {norm}"));
    let loss = match loss {
        LossConfig::Contrastive => String::new(),
        LossConfig::Sigmoid { logit_bias_init } => format!(", sigmoid loss from bias {logit_bias_init}"),
    };
    format!(
        "{optimizer}, rate {lr} after {warmup_steps} steps of linear warm-up, cosine to 0 at step {steps}, {decay}, {clip}{loss}{}",
        augmentation(strategy.augmentation)
    )
}

/// What is done to the images, where anything is.
fn augmentation(augmentation: Augmentation) -> String {
    let rand_augment = |layers: u32, magnitude: f64| {
        let bin = Augmentation::bin(magnitude).map_or_else(|| "?".to_owned(), |bin| bin.to_string());
        format!("RandAugment of torchvision ({}, magnitude {bin} of 30)", counted(layers as usize, "operation"))
    };
    let crop = |min_area: f64| format!("crops of {:.4} % of the area or more", min_area * 100.0).replace(".0000", "");
    match augmentation {
        Augmentation::None => String::new(),
        Augmentation::CropFlip { min_area, flip } => format!("; {}, flipped with probability {flip}", crop(min_area)),
        Augmentation::RandAugment { layers, magnitude } => format!("; {} on central squares", rand_augment(layers, magnitude)),
        Augmentation::StackedRandAugment { layers, magnitude, min_area } => {
            format!("; {}, flip, colour jitter, {}, grey, blur from 64 px on", crop(min_area), rand_augment(layers, magnitude))
        }
    }
}

/// The training pools, with the bytes of their images (which a GPU holds where they fit), and the crops that will be enlarged.
fn packs(loaded: &Loaded, out: &mut dyn Write) -> Result<(), Error> {
    let mut title = "pools";
    for (index, job) in loaded.plan.jobs().enumerate() {
        let JobSpec::Dataset(spec) = &job.spec else { continue };
        let bytes = spec.size.map_or(String::new(), |size| {
            #[expect(clippy::cast_precision_loss, reason = "a display value")]
            let mib = size as f64 * (spec.image_size * spec.image_size * 3) as f64 / 1_048_576.0;
            let most = if spec.framing.is_centre() { "" } else { "at most " };
            format!(", {most}{mib:.0} MiB of images")
        });
        writeln!(out, "{title:<12}{}{bytes}", loaded.plan.label(index))?;
        title = "";
    }
    let mut enlarged: Vec<(usize, usize, f64)> = Vec::new();
    for parts in (0..loaded.expansion.runs().len()).map(|run| loaded.expansion.parts(run)) {
        let crop = (parts.data.pack_side, parts.model.image_size, parts.train.strategy.min_area());
        if let (Some(pack), image, Some(min_area)) = crop
            && enlarges(pack, image, min_area)
            && !enlarged.contains(&(pack, image, min_area))
        {
            enlarged.push((pack, image, min_area));
        }
    }
    for (pack, image, min_area) in enlarged {
        let least = min_area * 100.0;
        writeln!(
            out,
            "            crops down to {least} % of the area of pictures packed at {pack} px: small ones are enlarged to {image} px; \
             state a larger `data.pack_side`"
        )?;
    }
    Ok(())
}

/// Weights that are kept of milestones, and what they take on disk.
fn milestones(loaded: &Loaded, out: &mut dyn Write) -> Result<(), Error> {
    let Kept { models, trainings, bytes } = kept(loaded);
    if models > 0 {
        #[expect(clippy::cast_precision_loss, reason = "a display value")]
        let mib = bytes as f64 / 1_048_576.0;
        let (models, trainings) = (counted(models, "model"), counted(trainings, "training"));
        writeln!(
            out,
            "milestones  {models} kept before the end of {trainings}, {mib:.1} MiB in the store; a run has its own twice as it ends"
        )?;
    }
    Ok(())
}

/// Models that are kept of milestones.
struct Kept {
    models: usize,
    trainings: usize,
    bytes: u64,
}

fn kept(loaded: &Loaded) -> Kept {
    let mut sizes: Vec<(&ModelConfig, Recipe, u64)> = Vec::new();
    let mut kept = Kept { models: 0, trainings: 0, bytes: 0 };
    for job in loaded.plan.jobs() {
        let JobSpec::Train(spec) = &job.spec else { continue };
        let count = spec.train.kept_steps().count();
        if count == 0 {
            continue;
        }
        let (model, recipe) = (&spec.model, Recipe::stored(&spec.train));
        let known = sizes.iter().find(|(of, with, _)| *of == model && *with == recipe).map(|(_, _, size)| *size);
        let size = known.unwrap_or_else(|| {
            let program = build_with(model, &recipe);
            let state: usize = program.state.iter().map(|view| view.len).sum();
            let size = (program.num_params() + state) as u64 * 4;
            sizes.push((model, recipe, size));
            size
        });
        kept.models += count;
        kept.trainings += 1;
        kept.bytes += count as u64 * size;
    }
    kept
}

/// What is fitted on labelled images before it is measured, and on which.
fn fitted(loaded: &Loaded, out: &mut dyn Write) -> Result<(), Error> {
    let mut lines: Vec<String> = Vec::new();
    for job in loaded.plan.jobs() {
        let JobSpec::Evaluate(evaluate) = &job.spec else { continue };
        let train = evaluate.fitted_on.and_then(|key| loaded.plan.index_of(&key)).map(|index| &loaded.plan.job(index).spec);
        let Some(JobSpec::EvalSet(set)) = train else { continue };
        let label = plan::set_label(set, &loaded.spec().written.eval(&set.source));
        let line = format!("{}/{} fitted on {label}", evaluate.task.name(), evaluate.name);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    for (idx, line) in lines.iter().enumerate() {
        writeln!(out, "{:<12}{line}", if idx == 0 { "classifiers" } else { "" })?;
    }
    Ok(())
}

/// Whether the narrowest of the smallest crops has fewer pixels across than the model sees.
#[expect(clippy::cast_precision_loss, reason = "sides below 2^20")]
fn enlarges(pack_side: usize, image_size: usize, min_area: f64) -> bool {
    pack_side as f64 * (min_area / Augmentation::CROP_RATIO).sqrt() < image_size as f64 * (1.0 - 1e-9)
}

/// A set of files that the experiment reads.
#[derive(Debug, serde::Serialize)]
struct SourceCounts {
    label: String,
    samples: Option<u64>,
    shards_listed: Option<u64>,
    shards_missing: u64,
}

impl std::fmt::Display for SourceCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { label, samples, shards_listed, shards_missing } = self;
        write!(f, "{label}:")?;
        if let Some(listed) = shards_listed {
            write!(f, " {listed} shards listed, {} present, {shards_missing} missing;", listed - shards_missing)?;
        }
        write!(f, " {} samples listed", samples.map_or("?".to_owned(), |samples| samples.to_string()))
    }
}

/// What was found of every set that is read from files.
fn sources(loaded: &Loaded) -> Vec<SourceCounts> {
    let of_job = |index: usize| {
        let survey = match &loaded.plan.job(index).spec {
            JobSpec::Dataset(spec) => loaded.surveys.of_pool(&spec.source)?,
            JobSpec::EvalSet(spec) => loaded.surveys.of_eval_set(&spec.source)?,
            _ => return None,
        };
        survey.samples.or(survey.listed_shards).map(|_| SourceCounts {
            label: loaded.plan.label(index),
            samples: survey.samples,
            shards_listed: survey.listed_shards,
            shards_missing: survey.missing_shards,
        })
    };
    (0..loaded.plan.len()).filter_map(of_job).collect()
}

fn axes(loaded: &Loaded) -> String {
    let axes = loaded.expansion.axes();
    if axes.is_empty() { "none".into() } else { axes.join(", ") }
}

/// The runs, one a line, as many as a screen takes.
fn list(
    loaded: &Loaded,
    store: &Store,
    (finished, adopted): (&HashSet<Key>, &Adopted),
    gmacs: &[f64],
    out: &mut dyn Write,
) -> Result<(), Error> {
    const SHOWN: usize = 40;
    let owners = loaded.expansion.owners();
    for (run, points) in owners.iter().enumerate().take(SHOWN) {
        let id = loaded.expansion.runs()[run].id.to_string();
        let train = loaded.plan.runs()[run].train;
        let state = match finished.contains(&loaded.plan.job(train).key) {
            true => "finished".to_owned(),
            false if adopted.run(run).is_some() => "adopted".to_owned(),
            false => match loaded.steps_done(store, train) {
                0 => "to do".to_owned(),
                step => format!("at step {step} of {}", loaded.expansion.parts(run).train.steps),
            },
        };
        let more = if points.len() > 1 { format!(" (+{})", counted(points.len() - 1, "point")) } else { String::new() };
        let (cost, setting) = (amount(gmacs[run]), setting(&loaded.expansion, &owners, run));
        writeln!(out, "{id}  {state:8}  {cost:>8} GMACs  {setting}{more}")?;
    }
    if owners.len() > SHOWN {
        writeln!(out, "... and {} more (`--format json` lists all)", owners.len() - SHOWN)?;
    }
    Ok(())
}

/// A number for people: 12, 3.4k, 5.6M.
pub(super) fn amount(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e12 => (value / 1e12, "T"),
        v if v >= 1e9 => (value / 1e9, "B"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    if scaled.abs() >= 100.0 {
        format!("{scaled:.0}{unit}")
    } else {
        format!("{scaled:.3}").trim_end_matches('0').trim_end_matches('.').to_string() + unit
    }
}
