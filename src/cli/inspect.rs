//! What data sets hold and what becomes of their texts: the facts behind `data inspect` and the warnings of `plan`.
//!
//! `data inspect` reads packs and encodes captions; `plan` takes what finished jobs recorded, and is silent about the rest.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::experiment::Loaded;
use crate::data::{Lengths, Oddities, Pack, PackTask, Skip, SkipKind, Tokenizer, equal_classes};
use crate::error::Error;
use crate::jobs::{PackedSummary, TokenizerSummary};
use crate::plan::{JobSpec, Key};
use crate::run::counted;
use crate::store::Store;

/// One packed set, as `data inspect` shows it.
#[derive(Debug, Serialize)]
pub(super) struct SetFacts {
    /// `dataset` or `eval-set`.
    pub kind: &'static str,
    pub label: String,
    pub key: String,
    pub task: PackTask,
    pub samples: usize,
    /// Pixels.
    pub side: usize,
    /// Whether pictures keep their aspect, with at most as many pixels as a square of that side.
    pub are_whole: bool,
    pub captions: usize,
    /// The first caption of each of the first samples.
    pub first_captions: Vec<String>,
    pub classes: usize,
    pub templates: usize,
    pub fields: Vec<String>,
    pub class_balance: Option<ClassBalance>,
    pub skipped: u64,
    pub skipped_by_kind: Vec<(SkipKind, u64)>,
    pub skipped_listed: Vec<Skip>,
    pub shards_listed: Option<u64>,
    pub shards_missing: Option<u64>,
    pub oddities: Oddities,
    pub warnings: Vec<String>,
    pub tokens: Vec<TokenFacts>,
}

/// How samples spread over classes.
#[derive(Debug, Serialize)]
pub(super) struct ClassBalance {
    /// Classes without a sample.
    pub empty: usize,
    /// Samples of the smallest class that has any.
    pub smallest: usize,
    pub median: usize,
    pub largest: usize,
    pub largest_name: String,
    /// Samples of every class.
    pub counts: Vec<usize>,
}

/// What a tokenizer and a context length make of a set's texts.
#[derive(Debug, Serialize)]
pub(super) struct TokenFacts {
    pub tokenizer: String,
    pub context_length: usize,
    /// Entries asked for, and those that the captions of the pool filled.
    pub vocab_size: u32,
    pub vocab_used: u32,
    pub captions: u64,
    /// Captions that the context cuts.
    pub captions_cut: u64,
    /// Tokens of the longest caption.
    pub longest: usize,
    /// Classes whose prompts are the same tokens under every template.
    pub equal_classes: Vec<Vec<String>>,
}

/// A set, the tokenizer that reads its texts, and the context that cuts them.
type Use = (Key, Key, usize);

/// Every use of a set, each once, in plan order.
fn uses(loaded: &Loaded) -> Vec<Use> {
    let plan = &loaded.plan;
    let context = |train: &Key| match plan.index_of(train).map(|index| &plan.job(index).spec) {
        Some(JobSpec::Train(train)) => Some(train.model.text_encoder.context_length),
        _ => None,
    };
    let mut uses = Vec::new();
    for job in plan.jobs() {
        match &job.spec {
            JobSpec::Train(train) => uses.push((train.pool, train.tokenizer, train.model.text_encoder.context_length)),
            JobSpec::Evaluate(evaluate) => {
                let context = context(&evaluate.train);
                uses.extend(evaluate.sets.iter().filter_map(|set| Some((set.set, evaluate.tokenizer, context?))));
            }
            _ => {}
        }
    }
    let mut seen = std::collections::HashSet::new();
    uses.retain(|used| seen.insert(*used));
    uses
}

/// The facts of every packed set of an experiment, in plan order. Tokenizers that are not in the store are trained on the way.
pub(super) fn facts(loaded: &Loaded, store: &Store) -> Result<Vec<SetFacts>, Error> {
    let (plan, uses) = (&loaded.plan, uses(loaded));
    let mut tokenizers: HashMap<Key, Tokenizer> = HashMap::new();
    let mut all = Vec::new();
    for (index, job) in plan.jobs().enumerate() {
        if !matches!(job.spec, JobSpec::Dataset(_) | JobSpec::EvalSet(_)) || !store.is_finished(&job.key) {
            continue;
        }
        let pack = Pack::open(&store.output_dir(&job.key))?;
        let mut facts = set_facts(job.spec.tag(), plan.label(index), job.key, &pack);
        for (_, tokenizer, context) in uses.iter().filter(|(set, ..)| *set == job.key) {
            if !tokenizers.contains_key(tokenizer) {
                let Some(made) = make_tokenizer(loaded, store, tokenizer)? else { continue };
                tokenizers.insert(*tokenizer, made);
            }
            let label = plan.index_of(tokenizer).map_or_else(String::new, |index| plan.label(index));
            facts.tokens.push(token_facts(label, &tokenizers[tokenizer], &pack, *context));
        }
        all.push(facts);
    }
    Ok(all)
}

fn set_facts(kind: &'static str, label: String, key: Key, pack: &Pack) -> SetFacts {
    let header = pack.header();
    SetFacts {
        kind,
        label,
        key: key.to_string(),
        task: header.task,
        samples: pack.len(),
        side: pack.side(),
        are_whole: !pack.frame().framing.is_centre(),
        captions: pack.caption_count(),
        first_captions: (0..pack.len().min(3)).filter_map(|sample| pack.captions(sample).next()).map(str::to_owned).collect(),
        classes: pack.classnames().len(),
        templates: pack.templates().len(),
        fields: pack.field_names().map(str::to_owned).collect(),
        class_balance: balance(pack),
        skipped: header.skips.total,
        skipped_by_kind: header.skips.by_kind.clone(),
        skipped_listed: header.skips.listed.clone(),
        shards_listed: header.shards.map(|shards| shards.listed),
        shards_missing: header.shards.map(|shards| shards.missing),
        oddities: header.oddities,
        warnings: header.warnings.clone(),
        tokens: Vec::new(),
    }
}

fn balance(pack: &Pack) -> Option<ClassBalance> {
    if !pack.has_labels() || pack.classnames().is_empty() {
        return None;
    }
    let mut counts = vec![0; pack.classnames().len()];
    for label in (0..pack.len()).filter_map(|sample| pack.label(sample)) {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    let mut sorted: Vec<usize> = counts.iter().copied().filter(|count| *count > 0).collect();
    sorted.sort_unstable();
    let largest = *sorted.last()?;
    let largest_name = pack.classnames()[counts.iter().position(|count| *count == largest)?].clone();
    let (empty, smallest, median) = (counts.len() - sorted.len(), sorted[0], sorted[sorted.len() / 2]);
    Some(ClassBalance { empty, smallest, median, largest, largest_name, counts })
}

/// A tokenizer of the plan: from the store, or trained as its job would be. `None` where its pool is not packed.
fn make_tokenizer(loaded: &Loaded, store: &Store, key: &Key) -> Result<Option<Tokenizer>, Error> {
    if store.is_finished(key) {
        return Ok(Some(Tokenizer::load(&store.output_dir(key))?));
    }
    let spec = loaded.plan.index_of(key).map(|index| &loaded.plan.job(index).spec);
    let Some(JobSpec::Tokenizer(spec)) = spec else { return Ok(None) };
    Ok(match spec.pool {
        None => Some(Tokenizer::train(&spec.config, std::iter::empty())?),
        Some(pool) if store.is_finished(&pool) => {
            let pack = Pack::open(&store.output_dir(&pool))?;
            Some(Tokenizer::train(&spec.config, (0..pack.len()).map(|sample| pack.caption(sample)))?)
        }
        Some(_) => None,
    })
}

fn token_facts(tokenizer: String, encoder: &Tokenizer, pack: &Pack, context_length: usize) -> TokenFacts {
    let captions: Vec<&str> = (0..pack.len()).flat_map(|sample| pack.captions(sample)).collect();
    let lengths = Lengths::of(encoder, &captions);
    let groups = match pack.task() {
        PackTask::Classification => equal_classes(encoder, pack.classnames(), pack.templates(), context_length),
        PackTask::Training | PackTask::Retrieval => Vec::new(),
    };
    TokenFacts {
        tokenizer,
        context_length,
        vocab_size: encoder.vocab_size(),
        vocab_used: encoder.used_entries(),
        captions: lengths.captions(),
        captions_cut: lengths.cut_by(context_length),
        longest: lengths.longest(),
        equal_classes: by_name(&groups, pack.classnames()),
    }
}

fn by_name(groups: &[Vec<usize>], names: &[String]) -> Vec<Vec<String>> {
    groups.iter().map(|group| group.iter().map(|class| names[*class].clone()).collect()).collect()
}

impl SetFacts {
    /// Warnings and counts in words, one a line.
    pub fn lines(&self) -> Vec<String> {
        let (samples, captions) = (counted(self.samples, "sample"), counted(self.captions, "caption"));
        let (side, what) = (self.side, if self.are_whole { "whole pictures of at most " } else { "" });
        let mut lines = vec![format!("{samples} of {what}{side}x{side} pixels, {captions}")];
        if let (Some(listed), Some(missing)) = (self.shards_listed, self.shards_missing) {
            lines.push(format!("shards: {listed} listed, {} present, {missing} missing", listed - missing));
        }
        if self.classes > 0 {
            lines.push(format!("{} classes, {} templates", self.classes, self.templates));
        }
        if let Some(ClassBalance { empty, smallest, median, largest, largest_name, counts: _ }) = &self.class_balance {
            let range = format!("{smallest} to {largest} samples a class, median {median}, most of `{largest_name}`");
            lines.push(format!("class balance: {range}, {empty} classes without a sample"));
        }
        if !self.fields.is_empty() {
            lines.push(format!("numeric fields: {}", self.fields.join(", ")));
        }
        lines.extend(self.oddities.in_words());
        lines.extend(self.warnings.iter().map(|warning| format!("warning: {warning}")));
        lines.extend(self.tokens.iter().flat_map(TokenFacts::lines));
        lines
    }
}

impl TokenFacts {
    fn lines(&self) -> Vec<String> {
        let Self { tokenizer, context_length, vocab_size, vocab_used, captions, captions_cut, longest, equal_classes } = self;
        let mut lines = Vec::new();
        if *captions > 0 {
            let cut =
                format!("{captions_cut} of {captions} captions cut by a context of {context_length}, the longest has {longest}");
            lines.push(format!("tokens of {tokenizer}: {cut}; {vocab_used} of {vocab_size} entries filled"));
        }
        lines.extend(equal_line(equal_classes, *context_length, tokenizer));
        lines
    }
}

/// Classes that no model can tell apart, in words.
fn equal_line(groups: &[Vec<String>], context_length: usize, tokenizer: &str) -> Option<String> {
    const SHOWN: usize = 5;
    let shown: Vec<String> = groups.iter().take(SHOWN).map(|group| format!("`{}`", group.join("` = `"))).collect();
    let more = if groups.len() > SHOWN { ", ..." } else { "" };
    let classes: usize = groups.iter().map(Vec::len).sum();
    (classes > 0).then(|| {
        let what = format!("{classes} classes are equal in {context_length} tokens of {tokenizer}");
        format!("{what}: {}{more}", shown.join(", "))
    })
}

/// What finished jobs have found out about an experiment's texts that a person should know before training.
pub(super) fn known_warnings(loaded: &Loaded, store: &Store) -> Result<Vec<String>, Error> {
    let plan = &loaded.plan;
    let mut warnings = BTreeMap::new();
    let mut loaded_tokenizers: HashMap<Key, Tokenizer> = HashMap::new();
    for (order, (set, tokenizer, context)) in uses(loaded).into_iter().enumerate() {
        let (Some(set_at), Some(at)) = (plan.index_of(&set), plan.index_of(&tokenizer)) else { continue };
        let Some(record) = store.record(&tokenizer)? else { continue };
        let (label, set_label) = (plan.label(at), plan.label(set_at));
        let summary: Option<TokenizerSummary> = serde_json::from_value(record.summary).ok();
        let trained_on = match &plan.job(at).spec {
            JobSpec::Tokenizer(spec) => spec.pool,
            _ => None,
        };
        if let Some(TokenizerSummary { vocab_size, used, lengths }) = summary.filter(|_| trained_on == Some(set)) {
            if used < vocab_size {
                let what = format!("tokenizer {label}: the captions fill {used} of {vocab_size} entries");
                warnings.entry(what).or_insert(order);
            }
            let cut = lengths.as_ref().map_or(0, |lengths| lengths.cut_by(context));
            if cut > 0 {
                let captions = lengths.map_or(0, |lengths| lengths.captions());
                let what = format!("{set_label}: a context of {context} cuts {cut} of {captions} captions");
                warnings.entry(what).or_insert(order);
            }
        }
        let Some((names, templates)) = prompts(loaded, store, set_at)? else { continue };
        let encoder = match loaded_tokenizers.entry(tokenizer) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Tokenizer::load(&store.output_dir(&tokenizer))?),
        };
        let groups = equal_classes(encoder, &names, &templates, context);
        if let Some(line) = equal_line(&by_name(&groups, &names), context, &label) {
            warnings.entry(format!("{set_label}: {line}")).or_insert(order);
        }
    }
    for (index, job) in plan.jobs().enumerate() {
        let Some(PackedSummary { samples, skipped, oddities, .. }) = packed(store, &job.spec, &job.key)? else { continue };
        let label = plan.label(index);
        if skipped > 0 {
            let what = format!("{label}: {skipped} of {} samples skipped; `data inspect` lists them", samples + skipped);
            warnings.entry(what).or_insert(usize::MAX);
        }
        for words in oddities.in_words() {
            warnings.entry(format!("{label}: {words}")).or_insert(usize::MAX);
        }
    }
    let mut warnings: Vec<(usize, String)> = warnings.into_iter().map(|(what, order)| (order, what)).collect();
    warnings.sort();
    Ok(warnings.into_iter().map(|(_, what)| what).collect())
}

/// Summary of a finished job that packs.
fn packed(store: &Store, spec: &JobSpec, key: &Key) -> Result<Option<PackedSummary>, Error> {
    if !matches!(spec, JobSpec::Dataset(_) | JobSpec::EvalSet(_)) {
        return Ok(None);
    }
    Ok(store.record(key)?.and_then(|record| serde_json::from_value(record.summary).ok()))
}

/// Class names and templates.
type Prompts = (Vec<String>, Vec<String>);

/// Those of an evaluation set, where they are at hand.
fn prompts(loaded: &Loaded, store: &Store, set: usize) -> Result<Option<Prompts>, Error> {
    let job = loaded.plan.job(set);
    let JobSpec::EvalSet(spec) = &job.spec else { return Ok(None) };
    if let Some(survey) = loaded.surveys.of_eval_set(&spec.source).filter(|survey| !survey.classnames.is_empty()) {
        return Ok(Some((survey.classnames.clone(), survey.templates.clone())));
    }
    if !store.is_finished(&job.key) {
        return Ok(None);
    }
    let pack = Pack::open(&store.output_dir(&job.key))?;
    Ok((pack.task() == PackTask::Classification).then(|| (pack.classnames().to_vec(), pack.templates().to_vec())))
}
