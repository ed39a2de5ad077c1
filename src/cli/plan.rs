//! `plan`: runs, points, jobs, what is shared and cached, cost and time, without doing anything.

use std::collections::HashSet;
use std::io::Write;

use super::args::{Experiment, Global, PlanFormat};
use super::estimate;
use super::experiment::Loaded;
use crate::error::Error;
use crate::plan::{self, JobSpec, Key};
use crate::progress::duration;
use crate::run::Augmentation;
use crate::store::Store;
use crate::trainer::cost::planned_bytes;

pub(super) fn run(global: &Global, experiment: &Experiment, format: PlanFormat, out: &mut dyn Write) -> Result<(), Error> {
    let loaded = Loaded::new(global, experiment)?;
    let store = Store::open(&global.store)?;
    let finished = store.finished()?;
    match format {
        PlanFormat::Dot => write!(out, "{}", plan::dot(&loaded.plan, &|key| finished.contains(key)))?,
        PlanFormat::Json => writeln!(out, "{:#}", json(&loaded, &store, &finished))?,
        PlanFormat::Human => human(&loaded, &store, &finished, out)?,
    }
    Ok(())
}

/// One line that says how much there is to do.
pub(super) fn headline(loaded: &Loaded, finished: &HashSet<Key>) -> String {
    let spec = loaded.spec();
    let plan = &loaded.plan;
    let cached = plan.cached(|key| finished.contains(key));
    format!(
        "{}: {} points, {} runs, {} jobs ({} shared, {cached} finished), {} GMACs",
        spec.experiment,
        loaded.expansion.num_points(),
        loaded.expansion.runs().len(),
        plan.len(),
        plan.shared(),
        amount(loaded.gmacs().iter().sum()),
    )
}

fn json(loaded: &Loaded, store: &Store, finished: &HashSet<Key>) -> serde_json::Value {
    let mut value = plan::json(&loaded.plan, &|key| finished.contains(key));
    let gmacs = loaded.gmacs();
    let estimate = estimate::estimate(loaded, store, finished, &gmacs);
    value["experiment"] = loaded.spec().experiment.clone().into();
    value["points"] = loaded.expansion.num_points().into();
    value["gmacs"] = gmacs.iter().sum::<f64>().into();
    value["estimate"] = serde_json::json!({ "seconds": estimate.seconds, "source": estimate.source });
    value
}

fn human(loaded: &Loaded, store: &Store, finished: &HashSet<Key>, out: &mut dyn Write) -> Result<(), Error> {
    let (spec, plan) = (loaded.spec(), &loaded.plan);
    let gmacs = loaded.gmacs();
    writeln!(out, "experiment  {}", spec.experiment)?;
    if let Some(question) = &spec.question {
        writeln!(out, "question    {}", question.trim())?;
    }
    writeln!(out, "points      {} (axes: {})", loaded.expansion.num_points(), axes(loaded))?;
    writeln!(out, "runs        {} distinct, {} seeds", loaded.expansion.runs().len(), spec.sweep.seeds.len())?;
    let kinds: Vec<String> = plan.kinds().iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
    writeln!(out, "jobs        {} ({})", plan.len(), kinds.join(", "))?;
    let cached = plan.cached(|key| finished.contains(key));
    writeln!(
        out,
        "            {} shared by several runs, {cached} finished, {} to do",
        plan.shared(),
        plan.todo(|key| finished.contains(key)).len()
    )?;
    writeln!(out, "cost        {} GMACs (forward, both encoders, times samples seen)", amount(gmacs.iter().sum()))?;
    let largest = (0..loaded.expansion.runs().len()).max_by_key(|run| {
        let parts = loaded.expansion.parts(*run);
        parts.train.effective_batch() * parts.model.image_size as u64
    });
    if let Some(run) = largest {
        #[expect(clippy::cast_precision_loss, reason = "a display value")]
        let mib = planned_bytes(&loaded.expansion.config(run)) as f64 / 1048576.0;
        writeln!(out, "memory      about {mib:.0} MiB for the largest batch")?;
    }
    packs(loaded, out)?;
    let estimate = estimate::estimate(loaded, store, finished, &gmacs);
    match estimate.seconds {
        Some(seconds) => {
            let time = duration(std::time::Duration::from_secs_f64(seconds.min(3e15)));
            writeln!(out, "time        about {time} of training to do ({})", estimate.source)?;
        }
        None => writeln!(out, "time        {}", estimate.source)?,
    }
    writeln!(out)?;
    list(loaded, finished, &gmacs, out)
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
        let crop = (parts.data.pack_side, parts.model.image_size, parts.train.strategy.augmentation.min_area());
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

/// Whether the narrowest of the smallest crops has fewer pixels across than the model sees.
#[expect(clippy::cast_precision_loss, reason = "sides below 2^20")]
fn enlarges(pack_side: usize, image_size: usize, min_area: f64) -> bool {
    pack_side as f64 * (min_area / Augmentation::CROP_RATIO).sqrt() < image_size as f64 * (1.0 - 1e-9)
}

fn axes(loaded: &Loaded) -> String {
    let axes = loaded.expansion.axes();
    if axes.is_empty() { "none".into() } else { axes.join(", ") }
}

/// The runs, one a line, as many as a screen takes.
fn list(loaded: &Loaded, finished: &HashSet<Key>, gmacs: &[f64], out: &mut dyn Write) -> Result<(), Error> {
    const SHOWN: usize = 40;
    let owners = loaded.expansion.owners();
    for (run, owners) in owners.iter().enumerate().take(SHOWN) {
        let id = loaded.expansion.runs()[run].id.to_string();
        let job = loaded.plan.job(loaded.plan.runs()[run].train);
        let state = if finished.contains(&job.key) { "finished" } else { "to do" };
        let labels = owners.first().map(|point| {
            loaded.expansion.labels(*point as usize).map(|(path, label)| format!("{path}={label}")).collect::<Vec<_>>().join(" ")
        });
        let more = if owners.len() > 1 { format!(" (+{} points)", owners.len() - 1) } else { String::new() };
        let seed = loaded.expansion.parts(run).seed;
        let cost = amount(gmacs[run]);
        writeln!(out, "{id}  {state:8}  {cost:>8} GMACs  {} seed={seed}{more}", labels.unwrap_or_default())?;
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
