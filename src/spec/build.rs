//! A merged tree to a checked experiment: every part, every point, every condition between parts.
//!
//! Input: a composed tree. Output: the pieces of a `ValidSpec`; problems are collected on the way. Points are visited once, in
//! order; a part is resolved when the first point needs a variant of it, so that what no point has is not checked for meaning
//! (its form always is).

use std::collections::HashMap;

use super::LoadOptions;
use super::diagnostic::{Code, Diagnostic};
use super::load::Loader;
use super::parts::{PARTS, Part, PartContext, Variants, place, resolve};
use super::resolve::{DataPart, Problem, Steps, kept_patches, metrics, steps_of};
use super::source::Span;
use super::sweep::{ABSENT, Axis, SubGrid, Sweep};
use super::tree::Node;
use super::types::DataSpec;
use super::valid::{Resolved, SectionIds, effective, is_above};
use crate::run::{DataSource, EvalSource, TrainConfig};

/// More points than this are taken for a slip of the pen.
const MAX_POINTS: u64 = 20_000_000;
/// Problems between parts that are shown; the rest of them would say the same.
const MAX_CROSS_PROBLEMS: usize = 200;

const UNSET: u32 = u32::MAX;
const INVALID: u32 = u32::MAX - 1;

/// Which variant of a part each combination of the axes that touch it is.
struct PartTable {
    part: Part,
    /// Axis and the factor of its digit; an absent axis counts as one more value.
    axes: Vec<(usize, usize)>,
    ids: Vec<u32>,
}

/// The sections of a training config, by variant.
type TrainKey = ([u32; 8], u64, u64);

pub(super) struct Builder<'b, 'a> {
    loader: &'b mut Loader<'a>,
    tree: &'b Node,
    start: Span,
    variants: Variants,
    /// Variants of parts that no axis of a sub-grid touches: the base's.
    base_ids: [u32; PARTS.len()],
    models: HashMap<(u32, u32), u32>,
    evaluates: HashMap<(u32, u64), u32>,
    trains: HashMap<TrainKey, u32>,
    costs: HashMap<(u32, u32), f64>,
    out: Resolved,
    cross_problems: usize,
}

impl<'b, 'a> Builder<'b, 'a> {
    pub fn new(loader: &'b mut Loader<'a>, tree: &'b Node, start: Span) -> Self {
        let LoadOptions { device, precision, .. } = loader.options;
        let out = Resolved {
            data: Vec::new(),
            subsets: Vec::new(),
            models: Vec::new(),
            trains: Vec::new(),
            evaluates: Vec::new(),
            metrics: Vec::new(),
            device: *device,
            precision: *precision,
            points: Vec::new(),
            digits: Vec::new(),
            starts: Vec::new(),
            tree: tree.clone(),
        };
        Self {
            loader,
            tree,
            start,
            variants: Variants::default(),
            base_ids: [UNSET; PARTS.len()],
            models: HashMap::new(),
            evaluates: HashMap::new(),
            trains: HashMap::new(),
            costs: HashMap::new(),
            out,
            cross_problems: 0,
        }
    }

    /// Visits every point. `exclude_spans` are the places of the excludes, by their number.
    pub fn build(mut self, sweep: &Sweep, exclude_spans: &[Span]) -> Resolved {
        let most = sweep.grids.iter().map(SubGrid::max_points).fold(0_u64, u64::saturating_add);
        if most > MAX_POINTS {
            let span = self.tree.entry("sweep").map_or(self.start, |e| e.key_span);
            let message = format!("`sweep` makes {most} points, expected at most {MAX_POINTS}");
            self.loader.diagnostics.error(Diagnostic::new(Code::Axis, span, message));
            return self.out;
        }
        let mut hits = vec![0; exclude_spans.len()];
        for (grid_idx, grid) in sweep.grids.iter().enumerate() {
            self.out.starts.push((self.out.points.len(), self.out.digits.len()));
            let mut tables: Vec<PartTable> = PARTS.iter().map(|part| part_table(*part, &grid.axes)).collect();
            let grid_idx = u32::try_from(grid_idx).expect("fewer than 2^32 sub-grids");
            grid.for_each(&mut hits, |digits| {
                let ids = self.part_ids(&mut tables, grid, digits);
                let point = ids.and_then(|ids| self.point(grid_idx, &ids, grid, digits));
                // A point with a problem keeps its place, so that tables and claims are checked against all labels.
                let broken = SectionIds { grid: grid_idx, data: INVALID, model: INVALID, train: INVALID, evaluate: INVALID };
                self.out.points.push(point.unwrap_or(broken));
                self.out.digits.extend_from_slice(digits);
            });
        }
        for (span, _) in exclude_spans.iter().zip(&hits).filter(|(_, hits)| **hits == 0) {
            let warning = Diagnostic::new(Code::When, *span, "this `exclude` leaves out no point");
            self.loader.diagnostics.warn(warning.hint("remove it, or check its values"));
        }
        if self.out.points.is_empty() && self.loader.diagnostics.num_errors() == 0 {
            let span = self.tree.entry("sweep").map_or(self.start, |e| e.key_span);
            self.loader.diagnostics.error(Diagnostic::new(
                Code::When,
                span,
                "`sweep` makes no point: `exclude` leaves out all of them",
            ));
        }
        for metric in self.variants.evaluate.iter().flat_map(|e| metrics(e)) {
            if !self.out.metrics.contains(&metric) {
                self.out.metrics.push(metric);
            }
        }
        self.out.data = std::mem::take(&mut self.variants.data)
            .into_iter()
            .map(|DataPart { config, subset, warnings: _ }| {
                self.out.subsets.push(subset);
                config
            })
            .collect();
        self.out
    }

    fn part_ids(&mut self, tables: &mut [PartTable], grid: &SubGrid, digits: &[u32]) -> Option<[u32; PARTS.len()]> {
        let mut ids = [INVALID; PARTS.len()];
        let mut is_valid = true;
        for (slot, table) in ids.iter_mut().zip(tables) {
            let idx: usize = table.axes.iter().map(|(axis, factor)| factor * (digits[*axis].wrapping_add(1) as usize)).sum();
            *slot = table.ids[idx];
            if *slot == UNSET {
                *slot = self.variant(table.part, table.axes.is_empty(), grid, digits);
                table.ids[idx] = *slot;
            }
            is_valid &= *slot != INVALID;
        }
        is_valid.then_some(ids)
    }

    fn variant(&mut self, part: Part, is_base: bool, grid: &SubGrid, digits: &[u32]) -> u32 {
        if is_base && self.base_ids[part as usize] != UNSET {
            return self.base_ids[part as usize];
        }
        let keys: Vec<String> = part.keys().iter().map(|k| (*k).to_owned()).collect();
        let node = effective(self.tree, &grid.axes, digits, &keys).map(std::borrow::Cow::into_owned);
        let id = self.resolve(part, node).unwrap_or(INVALID);
        if is_base {
            self.base_ids[part as usize] = id;
        }
        id
    }

    fn resolve(&mut self, part: Part, node: Option<Node>) -> Option<u32> {
        // A scorer is an experiment of its own, read while this one is: what has been read so far moves along.
        let Loader { options, sources, diagnostics, scorers, scoring: _ } = &mut *self.loader;
        let files = options.files;
        let scorer_span = node.as_ref().map(|n| place(n, &["quality", "by", "similarity", "scorer"]).span);
        let mut wanted = None;
        let known = std::mem::take(scorers);
        let mut data = |context: &mut PartContext<'_>, spec: DataSpec, at: Option<&Node>| -> Result<DataPart, Vec<Problem>> {
            let mut scorer = |path: &str, seed: u64| match known.get(path) {
                Some(config) => config.clone().map(|mut c| {
                    c.seed = seed;
                    c
                }),
                None => {
                    wanted = Some(path.to_owned());
                    None
                }
            };
            let mut part = super::resolve::data(spec, super::resolve::Outside { files, scorer: &mut scorer })?;
            for warning in part.warnings.drain(..) {
                context.warn(Part::Data, at, warning);
            }
            Ok(part)
        };
        let mut context = PartContext { sources, diagnostics, tree: self.tree, start: self.start, files };
        let id = resolve(part, node.clone(), &mut context, &mut data, &mut self.variants);
        *scorers = known;
        let (Some(path), Some(span)) = (wanted, scorer_span) else { return id };
        self.loader.read_scorer(&path, span);
        self.resolve(part, node)
    }

    /// The sections of a point, if they fit together.
    fn point(&mut self, grid_idx: u32, ids: &[u32; PARTS.len()], grid: &SubGrid, digits: &[u32]) -> Option<SectionIds> {
        let [
            data,
            model,
            evaluate,
            strategy,
            batch_size,
            accumulate,
            lr,
            warmup,
            optimizer,
            weight_decay,
            grad_clip,
            lanes,
            budget,
        ] = ids.map(|id| id as usize);
        let v = &self.variants;
        let data_part = &v.data[data];
        let vocab_size = data_part.config.tokenizer.vocab_size();
        let world_seed = if let DataSource::Scenes { world_seed } = &data_part.config.source { *world_seed } else { 0 };
        let model_id = *self.models.entry((ids[1], vocab_size)).or_insert_with(|| {
            let mut config = v.model[model].clone();
            config.text_encoder.vocab_size = vocab_size as usize;
            push(&mut self.out.models, config)
        });
        let evaluate_id = *self.evaluates.entry((ids[2], world_seed)).or_insert_with(|| {
            let mut configs = v.evaluate[evaluate].clone();
            for set in configs.iter_mut().flat_map(|c| &mut c.sets) {
                if let EvalSource::Scenes { world_seed: seed, .. } = &mut set.source {
                    *seed = world_seed;
                }
            }
            push(&mut self.out.evaluates, configs)
        });
        let batch = v.batch_size[batch_size] * v.strategy[strategy].batch_multiplier;
        let (costs, cost) = (&mut self.costs, self.loader.options.cost);
        let model_config = &self.out.models[model_id as usize];
        let gmacs = || *costs.entry((model_id, ids[3])).or_insert_with(|| cost(model_config, &v.strategy[strategy]));
        let steps = steps_of(v.budget[budget], batch, data_part.subset, gmacs);
        let warmup_steps = if let Steps::Known(steps) = steps { v.warmup[warmup].steps(steps, batch) } else { 0 };
        let fit = Fit {
            batch,
            multiplier: v.strategy[strategy].batch_multiplier,
            subset: data_part.subset,
            accumulate: v.accumulate[accumulate],
            lanes: v.lanes[lanes] as u64,
            kept_patches: kept_patches(model_config, &v.strategy[strategy]),
            steps,
        };
        if let Some((problem, parts)) = fit.problem() {
            self.report(problem, parts, ids, grid, digits);
            return None;
        }
        let Steps::Known(steps) = steps else { return None };
        let train_ids = [ids[3], ids[4], ids[5], ids[6], ids[8], ids[9], ids[10], ids[11]];
        let warmup_steps = warmup_steps.min(steps);
        let train_id = *self.trains.entry((train_ids, steps, warmup_steps)).or_insert_with(|| {
            let config = TrainConfig {
                strategy: v.strategy[strategy].clone(),
                batch_size: v.batch_size[batch_size],
                accumulate: v.accumulate[accumulate],
                steps,
                lr: v.lr[lr],
                warmup_steps,
                optimizer: v.optimizer[optimizer],
                weight_decay: v.weight_decay[weight_decay],
                grad_clip_norm: v.grad_clip[grad_clip],
                lanes: v.lanes[lanes],
            };
            push(&mut self.out.trains, config)
        });
        Some(SectionIds { grid: grid_idx, data: ids[0], model: model_id, train: train_id, evaluate: evaluate_id })
    }

    fn report(&mut self, problem: Problem, parts: &[Part], ids: &[u32; PARTS.len()], grid: &SubGrid, digits: &[u32]) {
        self.cross_problems += 1;
        if self.cross_problems > MAX_CROSS_PROBLEMS {
            return;
        }
        let keys: Vec<&str> = problem.path.split('.').collect();
        let owner = PARTS.iter().find(|p| keys.starts_with(p.keys())).copied();
        let node = owner.and_then(|p| self.variants.node(p, ids[p as usize]).map(|n| place(n, &keys[p.keys().len()..])));
        let span = node.map_or_else(|| self.tree.nearest(&keys).span, |n| n.span);
        let touches = |axis: &Axis| parts.iter().any(|p| is_touched(*p, axis));
        let labels: Vec<String> = grid
            .axes
            .iter()
            .zip(digits)
            .filter(|(axis, digit)| **digit != ABSENT && touches(axis))
            .map(|(axis, digit)| format!("`{}: {}`", axis.path, axis.values[*digit as usize].label))
            .collect();
        let at = if labels.is_empty() { String::new() } else { format!(", at {}", labels.join(", ")) };
        let message = format!("{}{at}", problem.message);
        self.loader.diagnostics.error(Diagnostic::new(problem.code, span, message).maybe_hint(problem.hint));
    }
}

fn push<T>(list: &mut Vec<T>, value: T) -> u32 {
    list.push(value);
    u32::try_from(list.len() - 1).expect("fewer than 2^32 sections")
}

fn is_touched(part: Part, axis: &Axis) -> bool {
    let keys: Vec<String> = part.keys().iter().map(|k| (*k).to_owned()).collect();
    is_above(&axis.keys, &keys) || is_above(&keys, &axis.keys)
}

fn part_table(part: Part, axes: &[Axis]) -> PartTable {
    let mut size = 1;
    let mut touching = Vec::new();
    for (idx, axis) in axes.iter().enumerate().filter(|(_, axis)| is_touched(part, axis)) {
        touching.push((idx, size));
        size *= axis.values.len() + 1;
    }
    PartTable { part, axes: touching, ids: vec![UNSET; size] }
}

/// What must fit together at a point.
struct Fit {
    batch: u64,
    multiplier: u64,
    subset: Option<u64>,
    accumulate: u64,
    lanes: u64,
    kept_patches: u64,
    steps: Steps,
}

impl Fit {
    /// The first thing that does not fit, and the parts that it depends on.
    fn problem(&self) -> Option<(Problem, &'static [Part])> {
        let Self { batch, multiplier, subset, accumulate, lanes, kept_patches, steps } = *self;
        let shown = if multiplier > 1 { format!("{batch} ({} x {multiplier})", batch / multiplier) } else { batch.to_string() };
        let problem = match steps {
            Steps::UnknownSubset => {
                let message = "`train.budget.epochs`: the size of the subset is not known before its data are read";
                let hint = "state `data.train.size`, or a budget in `samples_seen` or `steps`";
                return Some((Problem::new(Code::Budget, "train.budget.epochs", message).hint(hint), &[Part::Data, Part::Budget]));
            }
            Steps::UnknownCost => {
                let message = "`train.budget.gmacs`: the cost of this model is not known";
                let hint = "state the budget in `epochs`, `samples_seen` or `steps`";
                return Some((Problem::new(Code::Budget, "train.budget.gmacs", message).hint(hint), &[Part::Model, Part::Budget]));
            }
            Steps::OutOfRange => {
                let message = "`train.budget` comes to no samples, or to more than 2^53";
                return Some((Problem::new(Code::Budget, "train.budget", message), &[Part::Data, Part::Budget]));
            }
            Steps::Known(_) if batch < 2 => Problem::new(
                Code::Budget,
                "train.batch_size",
                "`train.batch_size`: found 1, expected 2 or more: a contrastive loss compares pairs",
            ),
            Steps::Known(_) if subset.is_some_and(|n| batch > n) => Problem::new(
                Code::Budget,
                "train.batch_size",
                format!("`train.batch_size`: a batch of {shown} is larger than the subset of {} samples", subset.unwrap_or(0)),
            )
            .hint("a pair would meet itself in its own batch; lower the batch size or enlarge the subset"),
            Steps::Known(_) if !batch.is_multiple_of(accumulate) => Problem::new(
                Code::Train,
                "train.accumulate",
                format!("`train.accumulate`: {accumulate} chunks do not divide a batch of {shown}"),
            ),
            Steps::Known(_) if lanes > batch => {
                Problem::new(Code::Train, "train.lanes", format!("`train.lanes`: {lanes} lanes are more than a batch of {shown}"))
            }
            Steps::Known(_) if kept_patches == 0 => {
                Problem::new(Code::Train, "train.strategy.masked", "`train.strategy.masked` leaves no patch of an image")
                    .hint("mask less, or use smaller patches")
            }
            Steps::Known(_) => return None,
        };
        let others: &[Part] = match problem.path.as_str() {
            "train.accumulate" => &[Part::Strategy, Part::BatchSize, Part::Accumulate],
            "train.lanes" => &[Part::Strategy, Part::BatchSize, Part::Lanes],
            "train.strategy.masked" => &[Part::Model, Part::Strategy],
            _ => &[Part::Data, Part::Strategy, Part::BatchSize],
        };
        Some((problem, others))
    }
}
