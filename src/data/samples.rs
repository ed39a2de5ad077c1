//! Samples of training-layout shards: image, caption and numeric metadata of one group of members.
//!
//! Input: a shard and a group. Output: a decoded sample, or why it is left out. Invariant: what is missing or broken is said.
//! Must not know: which samples are asked for, where they go.

use std::collections::BTreeMap;

use super::decode::Decoder;
use super::pack::SkipKind;
use super::pack_writer::{PackedSample, Picture};
use super::shards::{Group, IMAGE_SUFFIXES, Shard};

/// Metadata keys that hold the caption where there is no `.txt`, in order (img2dataset writes the first).
const CAPTION_KEYS: [&str; 2] = ["caption", "text"];

/// A sample, or why it is left out.
pub(super) type Made = Result<PackedSample, (SkipKind, String)>;

/// An image-text pair with its numeric metadata.
pub(super) fn training(shard: &Shard, group: &Group, decoder: &mut Decoder) -> Made {
    let metadata = metadata(shard, group)?;
    let caption = caption(shard, group, &metadata)?.ok_or_else(|| {
        let what = "neither a `.txt` member nor a caption in the `.json`, or it is empty";
        (SkipKind::NoCaption, what.to_owned())
    })?;
    let image = image(shard, group, decoder)?;
    Ok(PackedSample { image, captions: vec![caption], label: None, fields: numbers(&metadata) })
}

/// A sample whose class is a numeric field of its metadata; its caption, where there is one, is kept.
pub(super) fn labelled(shard: &Shard, group: &Group, decoder: &mut Decoder, class_field: &str, classes: usize) -> Made {
    let metadata = metadata(shard, group)?;
    let label = metadata.get(class_field).and_then(serde_json::Value::as_u64).filter(|&class| class < classes as u64);
    let label = label.ok_or_else(|| {
        let found = metadata.get(class_field).map_or("nothing".to_owned(), ToString::to_string);
        (
            SkipKind::BadLabel,
            format!("field `{class_field}` holds {found}, expected a class from 0 to {}", classes.saturating_sub(1)),
        )
    })?;
    let captions = caption(shard, group, &metadata)?.into_iter().collect();
    let image = image(shard, group, decoder)?;
    Ok(PackedSample { image, captions, label: Some(label as u32), fields: numbers(&metadata) })
}

/// The decoded image of a group.
pub(super) fn image(shard: &Shard, group: &Group, decoder: &mut Decoder) -> Result<Picture, (SkipKind, String)> {
    let bytes =
        shard.image(group).ok_or_else(|| (SkipKind::NoImage, format!("no member with suffix {}", IMAGE_SUFFIXES.join(", "))))?;
    decoder.picture(bytes).map_err(|what| (SkipKind::Undecodable, what))
}

/// A text member.
pub(super) fn text<'a>(shard: &'a Shard, group: &Group, suffix: &str) -> Result<Option<&'a str>, (SkipKind, String)> {
    let Some(bytes) = shard.member(group, suffix) else { return Ok(None) };
    std::str::from_utf8(bytes).map(Some).map_err(|e| (SkipKind::BadCaption, format!("`.{suffix}`: {e}")))
}

type Metadata = serde_json::Map<String, serde_json::Value>;

fn metadata(shard: &Shard, group: &Group) -> Result<Metadata, (SkipKind, String)> {
    let Some(bytes) = shard.member(group, "json") else { return Ok(Metadata::new()) };
    serde_json::from_slice(bytes).map_err(|e| (SkipKind::BadMetadata, format!("`.json` is no object: {e}")))
}

/// The caption of a group; blank ones count as none.
fn caption(shard: &Shard, group: &Group, metadata: &Metadata) -> Result<Option<String>, (SkipKind, String)> {
    let written = text(shard, group, "txt")?;
    let fallback = || CAPTION_KEYS.iter().find_map(|key| metadata.get(*key)?.as_str());
    Ok(written.or_else(fallback).map(str::trim).filter(|caption| !caption.is_empty()).map(str::to_owned))
}

fn numbers(metadata: &Metadata) -> BTreeMap<String, f64> {
    metadata.iter().filter_map(|(key, value)| Some((key.clone(), value.as_f64()?))).collect()
}
