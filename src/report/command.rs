//! The command that trains the runs of one point again.
//!
//! Invariant: it takes the experiment file as the results did, puts one value in place of each axis, and states no table, claim or fit, which
//! may speak of other values; it adopts nothing and writes into folders of its own. Its runs have the ids of the records.

use std::collections::BTreeSet;

use crate::record::{PointView, Records};
use crate::run::{DeviceKind, Precision, RunConfig};

/// Folder into which reruns write.
const AGAIN: &str = "again";

/// The command of a point, or of those of its runs that are there.
pub(super) fn rerun(records: &Records, axes: &[String], point: &PointView, configs: &[&RunConfig]) -> String {
    let provenance = &records.provenance;
    let mut words = vec![provenance.command.clone(), "--no-adopt".to_owned()];
    words.push(format!("--store {AGAIN}/store --results {AGAIN}"));
    words.push(match provenance.device {
        DeviceKind::Cpu => "--device cpu".to_owned(),
        DeviceKind::Cuda => "--device cuda".to_owned(),
    });
    if provenance.precision != Precision::F32 {
        words.push(format!("--precision {}", provenance.precision.name()));
    }
    let mut set = |key: &str, value: &str| words.push(format!("--set {}", quoted(&format!("{key}={value}"))));
    set("sweep", "null");
    let seeds: BTreeSet<u64> = configs.iter().map(|config| config.seed).collect();
    let seeds: Vec<String> = seeds.iter().map(ToString::to_string).collect();
    set("sweep.seeds", &format!("[{}]", seeds.join(", ")));
    if let Some(parts) = configs.first().map(|config| config.seeds_draw).filter(|parts| !parts.is_default()) {
        let names: Vec<&str> = parts.iter().map(crate::run::SeedPart::name).collect();
        set("sweep.seeds_draw", &format!("[{}]", names.join(", ")));
    }
    for axis in axes {
        if let Some(label) = point.labels.get(axis) {
            set(axis, &yaml(label));
        }
    }
    for list in ["tables", "claims", "fits"] {
        set(list, "[]");
    }
    words.join(" ")
}

/// The value that a label names: `epochs=1` is a map, other labels stand as they are.
fn yaml(label: &str) -> String {
    let parts = split(label);
    let is_map = !parts.is_empty() && parts.iter().all(|part| is_pair(part));
    if !is_map {
        return list(label).unwrap_or_else(|| label.to_owned());
    }
    let pair = |part: &&str| part.split_once('=').map(|(key, value)| format!("{key}: {}", inner(value)));
    format!("{{{}}}", parts.iter().filter_map(pair).collect::<Vec<_>>().join(", "))
}

fn inner(value: &str) -> String {
    value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).map_or_else(|| yaml(value), yaml)
}

fn list(label: &str) -> Option<String> {
    let items = label.strip_prefix('[')?.strip_suffix(']')?;
    Some(format!("[{}]", split(items).into_iter().map(inner).collect::<Vec<_>>().join(", ")))
}

/// Whether a part is `key=value` with a plain key.
fn is_pair(part: &str) -> bool {
    let key = part.split_once('=').map_or("", |(key, _)| key);
    !key.is_empty() && key.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter))
}

/// Parts between commas that are in no bracket.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = word.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-./=:%@+,".contains(letter));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_the_values_that_they_name() {
        for (label, value) in [
            ("500", "500"),
            ("vit-s/8", "vit-s/8"),
            ("epochs=1", "{epochs: 1}"),
            ("name=clip,augmentation=stacked_rand_augment", "{name: clip, augmentation: stacked_rand_augment}"),
            ("similarity={scorer=a.yaml,keep=20%}", "{similarity: {scorer: a.yaml, keep: 20%}}"),
            ("[1,2,name=x]", "[1, 2, {name: x}]"),
            ("a b=c", "a b=c"),
            ("null", "null"),
        ] {
            assert_eq!(yaml(label), value, "{label}");
        }
        assert_eq!(quoted("train.lr=1e-3"), "train.lr=1e-3");
        assert_eq!(quoted("sweep.seeds=[0, 1]"), "'sweep.seeds=[0, 1]'");
        assert_eq!(quoted("x=it's"), "'x=it'\\''s'");
    }
}
