//! A merged tree to a checked experiment: every part, every point, every condition between parts.
//!
//! Input: a composed tree. Output: the pieces of a `ValidSpec`; problems are collected on the way. Points are visited once, in
//! order; a part is resolved when the first point needs a variant of it, so that what no point has is not checked for meaning
//! (its form always is).

use std::collections::HashMap;

use super::LoadOptions;
use super::diagnostic::{Code, Diagnostic};
use super::load::Loader;
use super::parts::{LANES, PARTS, Part, PartContext, Variants, place, resolve};
use super::resolve::{
    DataPart, Problem, SIGMOID_LOGIT_SCALE_INIT, Steps, doubts, metrics, milestones, pack_side, steps_of, unmaskable,
};
use super::source::Span;
use super::sweep::{ABSENT, Axis, SubGrid, Sweep};
use super::tree::Node;
use super::types::DataSpec;
use super::valid::{Resolved, SectionIds, effective, is_touched};
use crate::run::{
    DataConfig, DataSource, EvalConfig, LossConfig, Milestone, ScenesConfig, SeedPart, TrainConfig, best_metric, best_step_metric,
    counted, end_metric,
};

/// More points, or more runs of them, are taken for a slip of the pen.
const MAX_POINTS: u64 = 20_000_000;
const MAX_RUNS: u64 = 1_000_000;
/// Problems between parts that are shown; the rest of them would say the same.
const MAX_CROSS_PROBLEMS: usize = 200;
/// Doubts about trainings that are shown; the rest of them would say the same.
const MAX_DOUBTS: usize = 20;

/// What the steps of milestones depend on.
const MILESTONE_PARTS: &[Part] = &[Part::Data, Part::Model, Part::Strategy, Part::BatchSize, Part::Budget, Part::EvaluateAt];

const UNSET: u32 = u32::MAX;
const INVALID: u32 = u32::MAX - 1;

/// Which variant of a part each combination of the axes that touch it is.
struct PartTable {
    part: Part,
    /// Axis and the factor of its digit; an absent axis counts as one more value.
    axes: Vec<(usize, usize)>,
    ids: Vec<u32>,
}

/// The sections of a training config, by variant; its steps and those of the warm-up; widths that follow the model's.
type TrainKey = ([u32; 10], u64, u64, Option<(usize, usize)>);

pub(super) struct Builder<'b, 'a> {
    loader: &'b mut Loader<'a>,
    tree: &'b Node,
    start: Span,
    variants: Variants,
    /// Variants of parts that no axis of a sub-grid touches: the base's.
    base_ids: [u32; PARTS.len()],
    /// Data sections by variant and by what a point packs.
    datas: HashMap<(u32, Option<usize>), u32>,
    /// By variant, vocabulary, and whether the scale starts as the sigmoid loss has it.
    models: HashMap<(u32, u32, bool), u32>,
    evaluates: HashMap<(u32, u64, u64), u32>,
    trains: HashMap<TrainKey, u32>,
    costs: HashMap<(u32, u32), f64>,
    out: Resolved,
    cross_problems: usize,
    doubts: usize,
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
            datas: HashMap::new(),
            models: HashMap::new(),
            evaluates: HashMap::new(),
            trains: HashMap::new(),
            costs: HashMap::new(),
            out,
            cross_problems: 0,
            doubts: 0,
        }
    }

    /// Visits every point. `exclude_spans` are the places of the excludes, by their number.
    pub fn build(mut self, sweep: &Sweep, exclude_spans: &[Span]) -> Resolved {
        let most = sweep.max_points();
        if most > MAX_POINTS {
            let span = self.tree.entry("sweep").map_or(self.start, |e| e.key_span);
            let message = format!("`sweep` makes {}, expected at most {MAX_POINTS}", counted(most, "point"));
            self.loader.diagnostics.error(Diagnostic::new(Code::Axis, span, message));
            return self.out;
        }
        let (seeds, runs) = (sweep.seeds.len(), most.saturating_mul(sweep.seeds.len() as u64));
        if runs > MAX_RUNS {
            let sweep = self.tree.child("sweep");
            let entry = sweep.and_then(|s| s.entry("seeds")).or_else(|| self.tree.entry("sweep"));
            let message = format!(
                "`sweep` makes {}, {most} points with {}, expected at most {MAX_RUNS}",
                counted(runs, "run"),
                counted(seeds, "seed")
            );
            let span = entry.map_or(self.start, |e| e.key_span);
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
        let is_stated = self.variants.data.iter().any(|data| data.config.pack_side.is_some());
        if is_stated && !self.out.data.is_empty() && self.out.data.iter().all(|data| data.pack_side.is_none()) {
            let span = self.tree.nearest(&["data", "pack_side"]).span;
            let warning = Diagnostic::new(Code::Data, span, "`data.pack_side` has no effect: no run crops");
            self.loader
                .diagnostics
                .warn(warning.hint("images are packed at `model.image_size`; remove it, or state an augmentation"));
        }
        self.check_drawn(sweep);
        for metric in self.variants.evaluate.iter().flat_map(|e| metrics(e)) {
            if !self.out.metrics.contains(&metric) {
                self.out.metrics.push(metric);
            }
        }
        self.name_milestones();
        self.out
    }

    /// Whether what seeds draw is there to be drawn: runs of a point that are one run but for the number would be taken for several.
    fn check_drawn(&mut self, sweep: &Sweep) {
        let span = self.tree.nearest(&["sweep", "seeds_draw"]).span;
        let Resolved { data, trains, points, .. } = &self.out;
        let is_one_run = |point: &&SectionIds| {
            let (Some(data), Some(train)) = (data.get(point.data as usize), trains.get(point.train as usize)) else { return false };
            let is_drawn = |part: SeedPart| data.has_drawn(part) && (part != SeedPart::Order || train.steps > 0);
            !sweep.seeds_draw.iter().any(is_drawn)
        };
        let alike = points.iter().filter(is_one_run).count();
        if sweep.seeds.len() > 1 && alike > 0 {
            let of = counted(points.len(), "point");
            let message = format!("in {alike} of {of} seeds draw nothing, so that all would give the same run");
            let problem = Diagnostic::new(Code::Axis, span, message);
            self.loader.diagnostics.error(problem.hint("name `init` in `sweep.seeds_draw` too"));
        }
        for (part, none) in
            [(SeedPart::Pool, "no run has a part of a source as its pool"), (SeedPart::Scorer, "no run has a scorer")]
        {
            if sweep.seeds_draw.draws(part) && !data.is_empty() && !data.iter().any(|config| config.has_drawn(part)) {
                let message = format!("`{}` in `sweep.seeds_draw` has no effect: {none}", part.name());
                self.loader.diagnostics.warn(Diagnostic::new(Code::Axis, span, message));
            }
        }
        self.check_whole_pools(sweep, span);
    }

    /// A pool whose stated size is all there is of its source is one pool, whatever seeds draw.
    fn check_whole_pools(&mut self, sweep: &Sweep, span: Span) {
        if !sweep.seeds_draw.draws(SeedPart::Pool) {
            return;
        }
        let mut whole: Vec<u64> = self.variants.data.iter().filter_map(|data| data.whole).collect();
        whole.sort_unstable();
        whole.dedup();
        for size in whole {
            let message =
                format!("`sweep.seeds_draw` has `pool`, and `data.train.size` is {size}, which is all there are of the source");
            let hint = "state fewer, or leave the size or `pool` out";
            self.loader.diagnostics.error(Diagnostic::new(Code::Axis, span, message).hint(hint));
        }
    }

    /// Adds what the metrics are called at milestones, where runs have some.
    fn name_milestones(&mut self) {
        let mut labelled: Vec<&Milestone> = Vec::new();
        for milestone in self.out.trains.iter().flat_map(|train| &train.milestones) {
            if labelled.iter().all(|known| known.label != milestone.label) {
                labelled.push(milestone);
            }
        }
        if labelled.is_empty() {
            return;
        }
        let beside = |metric: &String| [end_metric(metric), best_metric(metric), best_step_metric(metric)];
        let of =
            |metric: &String| labelled.iter().map(|milestone| milestone.metric(metric)).chain(beside(metric)).collect::<Vec<_>>();
        let named: Vec<String> = self.out.metrics.iter().flat_map(of).collect();
        self.out.metrics.extend(named);
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
        let Loader { options, sources, diagnostics, scorers, scoring: _, written: _ } = &mut *self.loader;
        let files = options.files;
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
        let (Some(path), Some(span)) = (wanted, node.as_ref().map(|n| n.span)) else { return id };
        let mut stated = Vec::new();
        node.iter().for_each(|node| scorers_of(node, &mut stated));
        let at = stated.iter().find(|node| node.text().is_some_and(|text| sources.join(node.span.file, text) == path));
        let span = at.or(stated.first()).map_or(span, |node| node.span);
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
            loss,
            batch_size,
            accumulate,
            lr,
            warmup,
            optimizer,
            weight_decay,
            grad_clip,
            lanes,
            budget,
            evaluate_at,
        ] = ids.map(|id| id as usize);
        let v = &self.variants;
        let data_part = &v.data[data];
        let vocab_size = data_part.config.tokenizer.vocab_size();
        let world = if let DataSource::Scenes(world) = &data_part.config.source { *world } else { ScenesConfig::of_seed(0) };
        let is_scale_stated = v.node(Part::Model, ids[1]).is_some_and(|node| node.child("logit_scale_init").is_some());
        let is_sigmoid_scale = matches!(v.loss[loss], LossConfig::Sigmoid { .. }) && !is_scale_stated;
        let model_id = *self.models.entry((ids[1], vocab_size, is_sigmoid_scale)).or_insert_with(|| {
            let mut config = v.model[model].clone();
            if is_sigmoid_scale {
                config.logit_scale_init = SIGMOID_LOGIT_SCALE_INIT.min(config.logit_scale_max);
            }
            config.text_encoder.vocab_size = vocab_size as usize;
            push(&mut self.out.models, config)
        });
        let evaluate_id = *self.evaluates.entry((ids[2], world.world_seed, world.shifts.to_bits())).or_insert_with(|| {
            let mut configs = v.evaluate[evaluate].clone();
            for set in configs.iter_mut().flat_map(EvalConfig::all_sets_mut) {
                set.source.in_world(&world);
            }
            push(&mut self.out.evaluates, configs)
        });
        let multiplier = v.strategy[strategy].batch_multiplier();
        let batch = v.batch_size[batch_size] * multiplier;
        let (costs, cost) = (&mut self.costs, self.loader.options.cost);
        let model_config = &self.out.models[model_id as usize];
        let strategy_config = v.strategy[strategy].of_run(model_config, batch / v.accumulate[accumulate]);
        let gmacs = || *costs.entry((model_id, ids[3])).or_insert_with(|| cost(model_config, &strategy_config));
        let steps = steps_of(v.budget[budget], batch, data_part.subset, gmacs);
        let warmup_steps = if let Steps::Known(steps) = steps { v.warmup[warmup].steps(steps, batch) } else { 0 };
        let lanes_stated = v.node(Part::Lanes, ids[Part::Lanes as usize]).is_some();
        let most_lanes = usize::try_from(batch).unwrap_or(usize::MAX).max(1);
        let lanes = if lanes_stated { v.lanes[lanes] } else { LANES.min(most_lanes) };
        let fit = Fit {
            batch,
            multiplier,
            subset: data_part.subset,
            accumulate: v.accumulate[accumulate],
            lanes: lanes as u64,
            bn_group: model_config.image_encoder.batch_group(),
            ssl_bn_group: strategy_config.ssl.map(|ssl| ssl.bn_group),
            unmaskable: unmaskable(model_config, &strategy_config),
            steps,
        };
        let pack_side = pack_side(data_part.config.pack_side, model_config.image_size, strategy_config.min_area());
        let problem = match &pack_side {
            Err(problem) => Some((problem.clone(), &[Part::Data, Part::Model, Part::Strategy][..])),
            Ok(_) => fit.problem(),
        };
        let milestones = match steps {
            Steps::Known(steps) => milestones(&v.evaluate_at[evaluate_at], steps, batch),
            _ => Ok(Vec::new()),
        };
        let of_milestones = || milestones.as_ref().err().map(|problem| (problem.clone(), MILESTONE_PARTS));
        let problem = problem.or_else(of_milestones);
        if let Some((problem, parts)) = problem {
            self.report(problem, parts, ids, grid, digits);
            return None;
        }
        let (Steps::Known(steps), Ok(pack_side), Ok(milestones)) = (steps, pack_side, milestones) else { return None };
        let data_id = *self.datas.entry((ids[0], pack_side)).or_insert_with(|| {
            self.out.subsets.push(data_part.subset);
            push(&mut self.out.data, DataConfig { pack_side, ..data_part.config.clone() })
        });
        let train_ids = [ids[3], ids[4], ids[5], ids[6], ids[7], ids[9], ids[10], ids[11], ids[12], ids[14]];
        let asked = warmup_steps;
        let warmup_steps = warmup_steps.min(steps);
        let train_key = (train_ids, steps, warmup_steps, strategy_config.ssl.map(|ssl| (ssl.hidden, ssl.out)));
        let is_new = !self.trains.contains_key(&train_key);
        let train_id = *self.trains.entry(train_key).or_insert_with(|| {
            let (weight_decay, decay_scale) = v.weight_decay[weight_decay];
            let config = TrainConfig {
                strategy: strategy_config.clone(),
                loss: v.loss[loss],
                batch_size: v.batch_size[batch_size],
                accumulate: v.accumulate[accumulate],
                steps,
                lr: v.lr[lr],
                warmup_steps,
                optimizer: v.optimizer[optimizer],
                weight_decay,
                decay_scale,
                grad_clip_norm: v.grad_clip[grad_clip],
                lanes,
                milestones,
            };
            push(&mut self.out.trains, config)
        });
        if is_new && self.doubts < MAX_DOUBTS {
            let stated = v.node(Part::Warmup, ids[Part::Warmup as usize]).map(|_| v.warmup[warmup]);
            for doubt in doubts(&self.out.trains[train_id as usize], stated, asked) {
                self.doubts += 1;
                let parts: &[Part] = if doubt.path.starts_with("train.warmup") {
                    &[Part::Data, Part::Strategy, Part::BatchSize, Part::Warmup, Part::Budget]
                } else {
                    &[Part::Lr, Part::WeightDecay]
                };
                let warning = self.diagnostic(doubt, parts, ids, grid, digits);
                self.loader.diagnostics.warn(warning);
            }
        }
        Some(SectionIds { grid: grid_idx, data: data_id, model: model_id, train: train_id, evaluate: evaluate_id })
    }

    fn report(&mut self, problem: Problem, parts: &[Part], ids: &[u32; PARTS.len()], grid: &SubGrid, digits: &[u32]) {
        self.cross_problems += 1;
        if self.cross_problems > MAX_CROSS_PROBLEMS {
            return;
        }
        let diagnostic = self.diagnostic(problem, parts, ids, grid, digits);
        self.loader.diagnostics.error(diagnostic);
    }

    /// A problem between parts at the deepest key of its path that is there, with the labels of the axes that it depends on.
    fn diagnostic(&self, problem: Problem, parts: &[Part], ids: &[u32; PARTS.len()], grid: &SubGrid, digits: &[u32]) -> Diagnostic {
        let keys: Vec<&str> = problem.path.split('.').collect();
        let owner = PARTS.iter().find(|p| keys.starts_with(p.keys())).copied();
        let node = owner.and_then(|p| self.variants.node(p, ids[p as usize]).map(|n| place(n, &keys[p.keys().len()..])));
        let span = node.map_or_else(|| self.tree.nearest(&keys).span, |n| n.span);
        let touches = |axis: &Axis| parts.iter().any(|p| is_touched(p.keys(), axis));
        let labels: Vec<String> = grid
            .axes
            .iter()
            .zip(digits)
            .filter(|(axis, digit)| **digit != ABSENT && touches(axis))
            .map(|(axis, digit)| format!("`{}: {}`", axis.path, axis.values[*digit as usize].label))
            .collect();
        let at = if labels.is_empty() { String::new() } else { format!(", at {}", labels.join(", ")) };
        let message = format!("{}{at}", problem.message);
        Diagnostic::new(problem.code, span, message).maybe_hint(problem.hint)
    }
}

fn push<T>(list: &mut Vec<T>, value: T) -> u32 {
    list.push(value);
    u32::try_from(list.len() - 1).expect("fewer than 2^32 sections")
}

fn part_table(part: Part, axes: &[Axis]) -> PartTable {
    let mut size = 1;
    let mut touching = Vec::new();
    for (idx, axis) in axes.iter().enumerate().filter(|(_, axis)| is_touched(part.keys(), axis)) {
        touching.push((idx, size));
        size *= axis.values.len() + 1;
    }
    PartTable { part, axes: touching, ids: vec![UNSET; size] }
}

/// Every value of a key `scorer` below a node.
fn scorers_of<'n>(node: &'n Node, found: &mut Vec<&'n Node>) {
    for entry in node.entries().into_iter().flatten() {
        // A key may be a whole path.
        match entry.key.rsplit('.').next() {
            Some("scorer") => found.push(&entry.value),
            _ => scorers_of(&entry.value, found),
        }
    }
    node.items().into_iter().flatten().for_each(|item| scorers_of(item, found));
}

/// What must fit together at a point.
struct Fit {
    batch: u64,
    multiplier: u64,
    subset: Option<u64>,
    accumulate: u64,
    lanes: u64,
    /// Samples whose statistics are taken together, in the encoder and in the head of a self-supervised loss.
    bn_group: Option<usize>,
    ssl_bn_group: Option<usize>,
    /// Why nothing can be masked, where something is.
    unmaskable: Option<Problem>,
    steps: Steps,
}

impl Fit {
    /// The first thing that does not fit, and the parts that it depends on.
    fn problem(&self) -> Option<(Problem, &'static [Part])> {
        let Self { batch, multiplier, subset, accumulate, lanes, bn_group, ssl_bn_group, ref unmaskable, steps } = *self;
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
                let problem =
                    Problem::new(Code::Budget, "train.budget", message).hint("a network that is not trained is `steps: 0`");
                return Some((problem, &[Part::Data, Part::Budget]));
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
            Steps::Known(_) => {
                let of_encoder = group_problem("model.image_encoder.bn_group", Code::Model, bn_group, batch, accumulate);
                let of_head = || group_problem("train.strategy.ssl_bn_group", Code::Train, ssl_bn_group, batch, accumulate);
                of_encoder.or_else(of_head).or_else(|| unmaskable.clone())?
            }
        };
        let others: &[Part] = match problem.path.as_str() {
            "train.accumulate" => &[Part::Strategy, Part::BatchSize, Part::Accumulate],
            "model.image_encoder.bn_group" => &[Part::Model, Part::Strategy, Part::BatchSize, Part::Accumulate],
            "train.strategy.ssl_bn_group" => &[Part::Strategy, Part::BatchSize, Part::Accumulate],
            "train.lanes" => &[Part::Strategy, Part::BatchSize, Part::Lanes],
            "train.strategy.masked" => &[Part::Model, Part::Strategy],
            _ => &[Part::Data, Part::Strategy, Part::BatchSize],
        };
        Some((problem, others))
    }
}

/// Why a batch, or a chunk of it, is not made of whole groups, where statistics are taken over groups of samples.
fn group_problem(path: &str, code: Code, group: Option<usize>, batch: u64, accumulate: u64) -> Option<Problem> {
    let (group, chunk) = (group? as u64, batch / accumulate);
    if chunk.is_multiple_of(group) {
        return None;
    }
    let of =
        if accumulate > 1 { format!("a chunk of {chunk} samples, of {accumulate} chunks") } else { format!("a batch of {chunk}") };
    let message = format!("`{path}`: groups of {group} samples do not divide {of}");
    let known: Vec<String> = (2..=256).filter(|group| chunk.is_multiple_of(*group)).map(|group| group.to_string()).collect();
    let hint = if known.is_empty() {
        "state a `train.batch_size` that groups divide".to_owned()
    } else {
        format!("groups of {} do, or another `train.batch_size` or `train.accumulate`", known.join(", "))
    };
    Some(Problem::new(code, path, message).hint(hint))
}
