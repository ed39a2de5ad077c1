//! Samples of training-layout shards: image, caption and numeric metadata of one group of members.
//!
//! Input: a shard and a group. Output: a decoded sample, or why it is left out. Invariant: what is missing or broken is said.
//! Must not know: which samples are asked for, where they go.

use std::collections::BTreeMap;

use super::decode::Decoder;
use super::metadata::{self, Metadata};
use super::names::SampleName;
use super::pack::SkipKind;
use super::pack_writer::{PackedSample, Picture};
use super::shards::{Group, IMAGE_SUFFIXES, Shard};

/// Metadata keys that hold the caption where there is no `.txt`, in order (img2dataset writes the first).
const CAPTION_KEYS: [&str; 2] = ["caption", "text"];

/// Longest caption, bytes: any more is no caption, and a block of samples is held in memory.
const MAX_CAPTION_BYTES: usize = 256 << 10;

/// A sample, or why it is left out.
pub(super) type Made = Result<PackedSample, (SkipKind, String)>;

/// An image-text pair with its numeric metadata. Metadata that cannot be read cost the sample only where they are the one place
/// that could hold its caption; a quality filter then finds its fields missing.
pub(super) fn training(shard: &Shard, group: &Group, decoder: &mut Decoder) -> Made {
    let read = metadata(shard, group);
    let has_text = text(shard, group, "txt")?.is_some_and(|text| !text.trim().is_empty());
    let is_unread = has_text && read.is_err();
    let metadata = if is_unread { Metadata::default() } else { read? };
    let caption = caption(shard, group, &metadata)?.ok_or_else(|| {
        let what = "neither a `.txt` member nor a caption in the `.json`, or it is empty";
        (SkipKind::NoCaption, what.to_owned())
    })?;
    let image = image(shard, group, decoder)?;
    decoder.tally().unread_metadata.add(u64::from(is_unread));
    decoder.tally().numbers_not_finite.add(u64::from(metadata.has_lost_numbers));
    let name = Some(name(group, &metadata));
    Ok(PackedSample { image, captions: vec![caption], label: None, fields: numbers(&metadata), name })
}

/// A sample whose class is a numeric field of its metadata; its caption, where there is one, is kept.
pub(super) fn labelled(shard: &Shard, group: &Group, decoder: &mut Decoder, class_field: &str, classes: usize) -> Made {
    let metadata = metadata(shard, group)?;
    let label = class(&metadata, class_field).filter(|&class| class < classes as u64).ok_or_else(|| {
        let found = metadata.values.get(class_field).map_or("nothing".to_owned(), ToString::to_string);
        let last = classes.saturating_sub(1);
        (SkipKind::BadLabel, format!("field `{class_field}` holds {found}, expected a class from 0 to {last}"))
    })?;
    let captions = caption(shard, group, &metadata)?.into_iter().collect();
    let image = image(shard, group, decoder)?;
    let name = Some(name(group, &metadata));
    Ok(PackedSample { image, captions, label: Some(label as u32), fields: numbers(&metadata), name })
}

/// The class that a numeric field holds; Python's `json` writes the whole numbers of a float column as `3.0`.
pub(super) fn class(metadata: &Metadata, field: &str) -> Option<u64> {
    let value = metadata.values.get(field)?;
    let whole = |number: f64| (number >= 0.0 && number.fract() == 0.0 && number < 9e15).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

/// The decoded image of a group.
pub(super) fn image(shard: &Shard, group: &Group, decoder: &mut Decoder) -> Result<Picture, (SkipKind, String)> {
    let bytes = shard.image(group).ok_or_else(|| {
        let others: Vec<String> = group.suffixes().filter(|suffix| suffix.contains('.')).map(|s| format!("`{s}`")).collect();
        let dotted = format!("; a dot in the name ends the key, so that it has {}", others.join(", "));
        let dotted = if others.is_empty() { "" } else { dotted.as_str() };
        (SkipKind::NoImage, format!("no member with suffix {}{dotted}", IMAGE_SUFFIXES.join(", ")))
    })?;
    decoder.picture(bytes).map_err(|what| (SkipKind::Undecodable, what))
}

/// A text member.
pub(super) fn text<'a>(shard: &'a Shard, group: &Group, suffix: &str) -> Result<Option<&'a str>, (SkipKind, String)> {
    let Some(bytes) = shard.member(group, suffix) else { return Ok(None) };
    if bytes.len() > MAX_CAPTION_BYTES {
        let what = format!("`.{suffix}` of {} bytes, expected at most {MAX_CAPTION_BYTES}", bytes.len());
        return Err((SkipKind::BadCaption, what));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map(Some).map_err(|e| (SkipKind::BadCaption, format!("`.{suffix}`: {e}")))
}

/// The metadata of a group; empty where it has none.
pub(super) fn metadata(shard: &Shard, group: &Group) -> Result<Metadata, (SkipKind, String)> {
    let Some(bytes) = shard.member(group, "json") else { return Ok(Metadata::default()) };
    metadata::read(bytes).map_err(|what| (SkipKind::BadMetadata, what))
}

/// The caption of a group; blank ones count as none.
fn caption(shard: &Shard, group: &Group, metadata: &Metadata) -> Result<Option<String>, (SkipKind, String)> {
    let written = text(shard, group, "txt")?;
    let fallback = || CAPTION_KEYS.iter().find_map(|key| metadata.values.get(*key)?.as_str());
    Ok(written.or_else(fallback).map(str::trim).filter(|caption| !caption.is_empty()).map(str::to_owned))
}

/// Key of a group, and the `uid` of its metadata: a text, or a number as it is written.
pub(super) fn name(group: &Group, metadata: &Metadata) -> SampleName {
    let uid = match metadata.values.get("uid") {
        Some(serde_json::Value::String(uid)) => uid.clone(),
        Some(serde_json::Value::Number(uid)) => uid.to_string(),
        _ => String::new(),
    };
    SampleName { key: group.key.clone(), uid }
}

fn numbers(metadata: &Metadata) -> BTreeMap<String, f64> {
    metadata.values.iter().filter_map(|(key, value)| Some((key.clone(), value.as_f64()?))).collect()
}
