//! The sections of an experiment that are resolved on their own, and every variant that the axes make of each.
//!
//! A part is resolved once for every distinct combination of the axes that touch it, not once a point: that is what makes a
//! million points cheap. Input: a part's tree. Output: a number for its variant, or problems.

use serde::de::DeserializeOwned;
use serde_yaml::Value as Yaml;

use super::check::{self, Checker, Cursor, KeyPath};
use super::diagnostic::{Code, Diagnostic, Diagnostics};
use super::files::Files;
use super::resolve::{self, Budget, DataPart, MilestoneAt, Problem, Warmup};
use super::scalar::{Count, Quantity};
use super::schema::Document;
use super::source::{Sources, Span};
use super::tree::{Node, Tree};
use super::types::EvalSpec;
use crate::run::{DecayScale, EvalConfig, LossConfig, ModelConfig, OptimizerConfig};

/// A section that is resolved on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Data,
    Model,
    Evaluate,
    Strategy,
    Loss,
    BatchSize,
    Accumulate,
    Lr,
    Warmup,
    Optimizer,
    WeightDecay,
    GradClip,
    Lanes,
    Budget,
    EvaluateAt,
}

pub(super) const PARTS: [Part; 15] = [
    Part::Data,
    Part::Model,
    Part::Evaluate,
    Part::Strategy,
    Part::Loss,
    Part::BatchSize,
    Part::Accumulate,
    Part::Lr,
    Part::Warmup,
    Part::Optimizer,
    Part::WeightDecay,
    Part::GradClip,
    Part::Lanes,
    Part::Budget,
    Part::EvaluateAt,
];

/// Lanes unless stated, or as many as a smaller batch has pairs: enough parts for the threads of a laptop, few enough that a lane is a real batch.
pub(super) const LANES: usize = 8;

/// Pairs of a batch at most: thirty times the largest in use (CLIP's 32,768).
const MAX_BATCH: u64 = 1 << 20;
/// Lanes at most: each holds the gradients of the whole model.
const MAX_LANES: u64 = 1 << 10;

impl Part {
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Data => &["data"],
            Self::Model => &["model"],
            Self::Evaluate => &["evaluate"],
            Self::Strategy => &["train", "strategy"],
            Self::Loss => &["train", "loss"],
            Self::BatchSize => &["train", "batch_size"],
            Self::Accumulate => &["train", "accumulate"],
            Self::Lr => &["train", "lr"],
            Self::Warmup => &["train", "warmup"],
            Self::Optimizer => &["train", "optimizer"],
            Self::WeightDecay => &["train", "weight_decay"],
            Self::GradClip => &["train", "grad_clip_norm"],
            Self::Lanes => &["train", "lanes"],
            Self::Budget => &["train", "budget"],
            Self::EvaluateAt => &["evaluate_at"],
        }
    }

    fn is_required(self) -> bool {
        matches!(self, Self::Data | Self::Model | Self::Strategy | Self::BatchSize | Self::Lr | Self::Budget)
    }
}

/// Resolved variants of every part, and the trees that they came from.
#[derive(Default)]
pub(super) struct Variants {
    pub data: Vec<DataPart>,
    pub model: Vec<ModelConfig>,
    pub evaluate: Vec<Vec<EvalConfig>>,
    pub strategy: Vec<resolve::Strategy>,
    pub loss: Vec<LossConfig>,
    pub batch_size: Vec<u64>,
    pub accumulate: Vec<u64>,
    pub lr: Vec<f64>,
    pub warmup: Vec<Warmup>,
    pub optimizer: Vec<OptimizerConfig>,
    pub weight_decay: Vec<(f64, DecayScale)>,
    pub grad_clip: Vec<Option<f64>>,
    pub lanes: Vec<usize>,
    pub budget: Vec<Budget>,
    pub evaluate_at: Vec<Vec<MilestoneAt>>,
    nodes: [Vec<Option<Node>>; PARTS.len()],
}

impl Variants {
    /// The tree of a variant; `None` where it is all defaults.
    pub fn node(&self, part: Part, id: u32) -> Option<&Node> {
        self.nodes[part as usize].get(id as usize)?.as_ref()
    }
}

/// What resolving a part needs from outside.
pub(super) struct PartContext<'a> {
    pub sources: &'a Sources,
    pub diagnostics: &'a mut Diagnostics,
    /// The merged tree, for the place of what is not there.
    pub tree: &'a Node,
    pub start: Span,
    /// Whoever can read the files that a section names.
    pub files: &'a dyn Files,
}

impl PartContext<'_> {
    /// Checks a part and reads it as its type; an absent part is null.
    pub fn typed<T: DeserializeOwned>(&mut self, part: Part, node: Option<&Node>) -> Option<T> {
        let clean = match node {
            Some(node) => self.check(part, node)?,
            None if part.is_required() => {
                self.report_missing(part);
                return None;
            }
            None => Yaml::Null,
        };
        match check::typed(clean) {
            Ok(value) => Some(value),
            Err(error) => {
                // The check and the types come from one place, so this is text that only the type itself can judge.
                let span = node.map_or(self.start, |n| n.span);
                self.diagnostics.error(Diagnostic::new(Code::Type, span, format!("`{}`: {error}", part.keys().join("."))));
                None
            }
        }
    }

    /// The evaluations that can be read, and whether those are all.
    fn evaluations(&mut self, node: Option<&Node>) -> (Vec<(usize, EvalSpec)>, bool) {
        let Some(node) = node else { return (Vec::new(), true) };
        if let Some(all) = self.typed::<Vec<EvalSpec>>(Part::Evaluate, Some(node)) {
            return (all.into_iter().enumerate().collect(), true);
        }
        let one = |(idx, item): (usize, &Node)| {
            let list = Node { value: Tree::List(vec![item.clone()]), span: node.span };
            // Its problems were reported with the whole list.
            let mut quiet = Diagnostics::default();
            let PartContext { sources, tree, start, files, .. } = *self;
            let mut context = PartContext { sources, diagnostics: &mut quiet, tree, start, files };
            let read = context.typed::<Vec<EvalSpec>>(Part::Evaluate, Some(&list))?;
            Some((idx, read.into_iter().next()?))
        };
        (node.items().unwrap_or_default().iter().enumerate().filter_map(one).collect(), false)
    }

    fn check(&mut self, part: Part, node: &Node) -> Option<Yaml> {
        let document = Document::experiment();
        let schemas = document.at(part.keys()).unwrap_or_default();
        let mut checker = Checker { document, sources: self.sources, diagnostics: &mut *self.diagnostics, is_covered: &|_| false };
        let at = self.tree.at(&part.keys()[..part.keys().len() - 1]).and_then(|n| n.entry(part.keys().last()?));
        let at = at.filter(|e| e.value.span == node.span).map_or(node.span, |e| e.key_span);
        let (root, section) = (KeyPath::Root, part.keys()[0]);
        let outer = KeyPath::Key(&root, section);
        let path = part.keys().get(1).map_or(outer, |key| KeyPath::Key(&outer, key));
        checker.check(Cursor { node, at, path }, schemas.first()?)
    }

    fn report_missing(&mut self, part: Part) {
        let document = Document::experiment();
        let (above, last) = part.keys().split_at(part.keys().len() - 1);
        let schemas = document.at(part.keys()).unwrap_or_default();
        let Some(schema) = schemas.first() else { return };
        let (section, at) = match above.first() {
            Some(section) => (Some(*section), self.tree.entry(section).map_or(self.start, |e| e.key_span)),
            None => (None, self.start),
        };
        let mut checker = Checker { document, sources: self.sources, diagnostics: &mut *self.diagnostics, is_covered: &|_| false };
        let root = KeyPath::Root;
        let path = section.map_or(KeyPath::Root, |s| KeyPath::Key(&root, s));
        checker.missing_key(Cursor { node: self.tree, at, path }, last[0], schema);
    }

    /// Reports a problem of meaning at the deepest key of its path that is there.
    pub fn report(&mut self, part: Part, node: Option<&Node>, problem: Problem) {
        let diagnostic = self.diagnostic(part, node, problem);
        self.diagnostics.error(diagnostic);
    }

    /// The same for what a person should know.
    pub fn warn(&mut self, part: Part, node: Option<&Node>, warning: Problem) {
        let diagnostic = self.diagnostic(part, node, warning);
        self.diagnostics.warn(diagnostic);
    }

    fn diagnostic(&self, part: Part, node: Option<&Node>, problem: Problem) -> Diagnostic {
        let keys: Vec<&str> = problem.path.split('.').collect();
        let depth = part.keys().len();
        let span = match node {
            Some(node) => place(node, keys.get(depth..).unwrap_or_default()).span,
            None => self.tree.nearest(&keys).span,
        };
        Diagnostic::new(problem.code, span, problem.message).maybe_hint(problem.hint)
    }
}

/// The deepest node on a path of keys and list positions; a key may itself hold dots.
pub(super) fn place<'n>(node: &'n Node, keys: &[&str]) -> &'n Node {
    let Some(first) = keys.first() else { return node };
    if let Some(item) = node.items().and_then(|items| items.get(first.parse::<usize>().ok()?)) {
        return place(item, &keys[1..]);
    }
    let child = (1..=keys.len()).find_map(|len| node.child(&keys[..len].join(".")).map(|child| (len, child)));
    child.map_or(node, |(len, child)| place(child, &keys[len..]))
}

/// Resolves a data section.
type ResolveData<'a> =
    dyn FnMut(&mut PartContext<'_>, super::types::DataSpec, Option<&Node>) -> Result<DataPart, Vec<Problem>> + 'a;

/// Resolves one variant of a part; its number, or `None` where problems were reported.
pub(super) fn resolve(
    part: Part,
    node: Option<Node>,
    context: &mut PartContext<'_>,
    data: &mut ResolveData<'_>,
    variants: &mut Variants,
) -> Option<u32> {
    let at = node.as_ref();
    let whole = |value: Option<Count>, default: u64, most: u64, path: &str| {
        let value = value.map_or(default, |c| c.0);
        let message = format!("`{path}`: found {value}, expected from 1 to {most}");
        if (1..=most).contains(&value) { Ok(value) } else { Err(vec![Problem::new(Code::Train, path, message)]) }
    };
    macro_rules! add {
        ($list:ident, $typed:expr, $resolve:expr) => {{
            let typed = $typed?;
            match $resolve(typed) {
                Ok(value) => variants.$list.push(value),
                Err(problems) => {
                    let problems: Vec<Problem> = problems;
                    for problem in problems {
                        context.report(part, at, problem);
                    }
                    return None;
                }
            }
        }};
    }
    match part {
        Part::Data => add!(data, context.typed(part, at), |spec| data(context, spec, at)),
        Part::Model => add!(model, context.typed(part, at), resolve::model),
        Part::Evaluate => {
            let (specs, is_complete) = context.evaluations(at);
            let mut warnings = Vec::new();
            let files = context.files;
            add!(evaluate, Some(specs), |specs| resolve::evaluate(specs, files, &mut warnings));
            for warning in warnings {
                context.warn(part, at, warning);
            }
            if !is_complete {
                variants.evaluate.pop();
                return None;
            }
        }
        Part::Strategy => {
            add!(strategy, context.typed(part, at), |super::types::Named(spec)| resolve::strategy(spec));
        }
        Part::BatchSize => add!(batch_size, context.typed(part, at), |c| whole(c, 0, MAX_BATCH, "train.batch_size")),
        Part::Accumulate => add!(accumulate, context.typed(part, at), |c| whole(c, 1, MAX_BATCH, "train.accumulate")),
        Part::Loss => add!(loss, context.typed(part, at), resolve::loss),
        Part::Lr => {
            add!(lr, context.typed::<Quantity>(part, at), |q: Quantity| above_zero(q.0, "train.lr"));
            if let Some(doubt) = variants.lr.last().and_then(|lr| resolve::unusual_lr(*lr)) {
                context.warn(part, at, doubt);
            }
        }
        Part::Warmup => add!(warmup, context.typed(part, at), |w| Ok(Warmup::new(w))),
        Part::Optimizer => add!(optimizer, context.typed(part, at), resolve::optimizer),
        Part::WeightDecay => add!(weight_decay, context.typed(part, at), resolve::weight_decay),
        Part::GradClip => add!(grad_clip, context.typed(part, at), |c| Ok(resolve::grad_clip(c))),
        Part::Lanes => {
            add!(lanes, context.typed(part, at), |c| whole(c, LANES as u64, MAX_LANES, "train.lanes")
                .map(|n| usize::try_from(n).unwrap_or(usize::MAX)));
        }
        Part::Budget => add!(budget, context.typed::<super::types::BudgetSpec>(part, at), |b| Ok(Budget::from(b))),
        Part::EvaluateAt => add!(evaluate_at, context.typed(part, at), |stated| Ok(resolve::stated_milestones(stated))),
    }
    let nodes = &mut variants.nodes[part as usize];
    nodes.push(node);
    Some(u32::try_from(nodes.len() - 1).expect("fewer than 2^32 variants"))
}

fn above_zero(value: f64, path: &str) -> Result<f64, Vec<Problem>> {
    if value > 0.0 {
        Ok(value)
    } else {
        Err(vec![Problem::new(Code::Train, path, format!("`{path}`: found {value}, expected a number above 0"))])
    }
}
