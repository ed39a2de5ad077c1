//! What a check found, for people and for programs.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::Checked;
use super::committed::Against;
use crate::claims::{MOVED_LEVEL, Verdict, to_text, to_value};
use crate::cli::args::{Format, Global};
use crate::error::Error;
use crate::tables::{Drift, DriftKind};

pub(super) fn print(global: &Global, format: Format, checked: &Checked, out: &mut dyn Write) -> Result<(), Error> {
    match format {
        Format::Json => writeln!(out, "{}", document(checked))?,
        Format::Human => for_people(global, checked, out)?,
    }
    Ok(())
}

fn for_people(global: &Global, checked: &Checked, out: &mut dyn Write) -> Result<(), Error> {
    let Checked { verdicts, against, ran: _ } = checked;
    write!(out, "{}", to_text(verdicts, global.verbose > 0))?;
    let unexpected = verdicts.iter().filter(|verdict| !verdict.is_as_expected()).count();
    let judged = match verdicts.len() {
        0 => "no claims".to_owned(),
        1 => format!("1 claim, {unexpected} not as expected"),
        count => format!("{count} claims, {unexpected} not as expected"),
    };
    let Some(Against { folder, tolerance, drifts, losses, runs, seeds }) = against else { return Ok(writeln!(out, "{judged}")?) };
    if let Some(line) = runs {
        writeln!(out, "drift: runs of {}: {line}", folder.display())?;
    }
    for line in &drifts.found {
        writeln!(out, "drift: {line}")?;
    }
    if let Some(unknown) = seeds {
        for metric in unknown {
            writeln!(out, "drift: {metric}: no cell has two seeds, so that nothing says how far seeds move it")?;
        }
        let (found, compared) = (drifts.found.len(), drifts.compared);
        let how = format!("other seeds: t tests with the spread of both sides, Holm {} %", 100.0 * MOVED_LEVEL);
        return Ok(writeln!(out, "{judged}; {found} cells or means drifted of {compared} cells compared ({how})")?);
    }
    let moved = drifts.losses();
    let (drifted, compared) = (drifts.found.len() - moved, drifts.compared);
    let of_losses = if *losses > 0 { format!("; losses of {moved} runs moved of {losses} compared") } else { String::new() };
    writeln!(out, "{judged}; {drifted} cells drifted of {compared} compared (tolerance {tolerance}){of_losses}")?;
    Ok(())
}

/// `claims`, and where there is something to compare with: `against`, `tolerance`, `cells` (compared, within, drifted), `losses`
/// (runs whose losses were compared, and moved), `runs` (how the committed ones are others, or null), `other_seeds` (where they are
/// those of the file with other seeds: the level, and the metrics of which nothing could be said) and `drift`, every difference
/// with the numbers on both sides.
fn document(checked: &Checked) -> Value {
    let Checked { verdicts, against, ran: _ } = checked;
    let mut document = json!({ "claims": to_value(verdicts) });
    let fields = document.as_object_mut().expect("an object was just made");
    if let Some(Against { folder, tolerance, drifts, losses, runs, seeds }) = against {
        let metrics: Map<String, Value> =
            tolerance.metrics.iter().map(|(name, by)| (name.clone(), by.to_string().into())).collect();
        // A mean over cells is none of them.
        let is_cell = |drift: &&Drift| {
            let is_moved = matches!(drift.kind, DriftKind::Mean { .. } | DriftKind::Moved { .. } | DriftKind::Seeds { .. });
            is_moved && !drift.cell.is_empty()
        };
        let moved = drifts.found.iter().filter(is_cell).count();
        let of_losses = drifts.losses();
        let drifted = drifts.found.len() - of_losses;
        let cells = json!({ "compared": drifts.compared, "within": drifts.compared - moved, "drifted": drifted });
        fields.insert("losses".into(), json!({ "compared": losses, "moved": of_losses }));
        fields.insert("against".into(), folder.display().to_string().into());
        fields.insert("tolerance".into(), json!({ "default": tolerance.default.to_string(), "metrics": metrics }));
        fields.insert("cells".into(), cells);
        fields.insert("runs".into(), runs.clone().into());
        fields
            .insert("other_seeds".into(), seeds.as_ref().map(|unknown| json!({ "level": MOVED_LEVEL, "unknown": unknown })).into());
        fields.insert("drift".into(), drifts.found.iter().map(drift_value).collect());
    }
    let is_well = verdicts.iter().all(Verdict::is_as_expected) && against.as_ref().is_none_or(Against::is_well);
    fields.insert("as_expected".into(), is_well.into());
    document
}

fn drift_value(drift: &Drift) -> Value {
    let Drift { table, cell, kind } = drift;
    let labels: Map<String, Value> = cell.iter().map(|(column, label)| (column.clone(), label.clone().into())).collect();
    let mut value = json!({ "table": table, "cell": labels, "kind": kind.name() });
    let more = match kind {
        DriftKind::Loss { step, ours, committed, allowed } => {
            json!({ "step": step, "ours": ours, "committed": committed, "tolerance": allowed.to_string() })
        }
        DriftKind::Mean { ours, committed, allowed } => json!({
            "ours": ours, "committed": committed, "difference": ours.zip(*committed).map(|(a, b)| a - b),
            "tolerance": allowed.map(|allowed| allowed.to_string()),
        }),
        DriftKind::Moved { ours, committed, p } => {
            json!({ "ours": ours, "committed": committed, "difference": ours - committed, "p": p })
        }
        DriftKind::Seeds { ours, committed } => {
            let seeds = |(n, missing): &(u64, u64)| json!({ "n": n, "missing": missing });
            json!({ "ours": seeds(ours), "committed": seeds(committed) })
        }
        DriftKind::Columns { ours, committed } => json!({ "ours": ours, "committed": committed }),
        DriftKind::Missing | DriftKind::Extra => json!({}),
    };
    if let (Some(fields), Value::Object(more)) = (value.as_object_mut(), more) {
        fields.extend(more);
        fields.insert("text".into(), drift.to_string().into());
    }
    value
}
