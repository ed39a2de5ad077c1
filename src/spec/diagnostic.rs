//! What is wrong with an experiment file, and how it is shown.
//!
//! A [`Diagnostic`] is plain data with places; [`SpecErrors`] holds all of them, in the order of the files. `Display` is the
//! stable plain form (`file:line:column: message`, then `hint:` lines); [`SpecErrors::report`] underlines the places.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::source::{Sources, Span};
use crate::run::counted;

/// Class of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// Not YAML, or YAML that is not read here (anchors, tags, several documents).
    Syntax,
    /// A key twice in one map.
    Duplicate,
    /// A file cannot be read.
    Read,
    /// `base:` is wrong or goes round in a circle.
    Base,
    /// `${NAME}` is not set or not closed.
    Env,
    /// A `--set` that cannot be applied.
    Set,
    /// A key that does not exist.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// A value of the wrong kind.
    Type,
    /// A number out of range, or with a unit that is not known.
    Unit,
    /// An axis, a range, or the form of the sweep.
    Axis,
    /// `when` or `exclude` that names nothing.
    When,
    /// A budget that gives no number of steps, or batch and data that do not fit.
    Budget,
    /// A model that cannot be built.
    Model,
    /// Data, quality filter or tokenizer.
    Data,
    /// Training settings.
    Train,
    /// Evaluations.
    Evaluate,
    /// A table that asks for what is not there.
    Table,
    /// A claim that asks for what is not there.
    Claim,
    /// Something a person may not have meant; never an error.
    Style,
}

impl Code {
    /// Name as shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Duplicate => "duplicate",
            Self::Read => "read",
            Self::Base => "base",
            Self::Env => "env",
            Self::Set => "set",
            Self::UnknownKey => "unknown-key",
            Self::MissingKey => "missing-key",
            Self::Type => "type",
            Self::Unit => "unit",
            Self::Axis => "axis",
            Self::When => "when",
            Self::Budget => "budget",
            Self::Model => "model",
            Self::Data => "data",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Table => "table",
            Self::Claim => "claim",
            Self::Style => "style",
        }
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// Its class.
    pub code: Code,
    /// What, found, expected: a lower-case fragment.
    pub message: String,
    /// Where; `None` where no text could be read.
    pub span: Option<Span>,
    /// Other places that matter, each with a word.
    pub notes: Vec<(Span, String)>,
    /// The next action.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A problem at a place.
    pub(super) fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), span: Some(span), notes: Vec::new(), hint: None }
    }
    /// With a next action.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// With a next action, if there is one.
    pub(super) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }
    /// With another place.
    pub(super) fn note(mut self, span: Span, text: impl Into<String>) -> Self {
        self.notes.push((span, text.into()));
        self
    }
    /// The plain form.
    #[must_use]
    pub fn render(&self, sources: &Sources) -> String {
        let mut out = self.span.map(|span| format!("{}: ", sources.place(span))).unwrap_or_default();
        out.push_str(&self.message);
        for (span, text) in &self.notes {
            out.push_str(&format!("\nnote: {}: {text}", sources.place(*span)));
        }
        if let Some(hint) = &self.hint {
            out.push_str(&format!("\nhint: {hint}"));
        }
        out
    }
}

/// Collects problems and warnings, each once.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    seen: HashSet<Diagnostic>,
}

impl Diagnostics {
    pub fn error(&mut self, diagnostic: Diagnostic) {
        if self.seen.insert(diagnostic.clone()) {
            self.errors.push(diagnostic);
        }
    }
    pub fn warn(&mut self, diagnostic: Diagnostic) {
        if self.seen.insert(diagnostic.clone()) {
            self.warnings.push(diagnostic);
        }
    }
    pub fn num_errors(&self) -> usize {
        self.errors.len()
    }
    /// The warnings, or all problems.
    pub fn finish(mut self, sources: &Arc<Sources>) -> Result<Vec<Diagnostic>, SpecErrors> {
        self.warnings.sort_by_key(order);
        if self.errors.is_empty() {
            return Ok(self.warnings);
        }
        self.errors.sort_by_key(order);
        Err(SpecErrors { sources: Arc::clone(sources), diagnostics: self.errors, warnings: self.warnings })
    }
}

fn order(diagnostic: &Diagnostic) -> (u32, u32) {
    diagnostic.span.map_or((0, 0), |s| (s.file.0, s.start))
}

/// All problems of an experiment file; never empty.
#[derive(Debug, Clone)]
pub struct SpecErrors {
    sources: Arc<Sources>,
    diagnostics: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl SpecErrors {
    /// The problems, in the order of the files read and of places in them.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
    /// Warnings that were found on the way.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
    /// The texts that places point into.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }
    /// The form for a terminal: every place underlined in its text.
    #[must_use]
    pub fn report(&self) -> SpecReport {
        let related = self.diagnostics.iter().map(|d| SnippetReport::new(d, &self.sources)).collect();
        SpecReport { related }
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, diagnostic) in self.diagnostics.iter().enumerate() {
            if idx > 0 {
                writeln!(f)?;
            }
            f.write_str(&diagnostic.render(&self.sources))?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}

/// All problems, for `miette`'s handlers.
#[derive(Debug)]
pub struct SpecReport {
    related: Vec<SnippetReport>,
}

/// One problem with the text it points into.
#[derive(Debug)]
struct SnippetReport {
    message: String,
    code: &'static str,
    hint: Option<String>,
    text: Option<miette::NamedSource<String>>,
    labels: Vec<miette::LabeledSpan>,
}

impl SnippetReport {
    fn new(diagnostic: &Diagnostic, sources: &Sources) -> Self {
        let Some(span) = diagnostic.span else {
            let (message, hint) = (diagnostic.message.clone(), diagnostic.hint.clone());
            return Self { message, code: diagnostic.code.name(), hint, text: None, labels: Vec::new() };
        };
        let file = sources.file(span.file);
        let label = |text: Option<String>, at: Span| {
            let len = sources.snippet(at).len().max(usize::from((at.start as usize) < file.text.len()));
            miette::LabeledSpan::new(text, at.start as usize, len)
        };
        let mut labels = vec![label(None, span)];
        let mut hint = diagnostic.hint.clone().into_iter().collect::<Vec<_>>();
        for (at, text) in &diagnostic.notes {
            if at.file == span.file {
                labels.push(label(Some(text.clone()), *at));
            } else {
                hint.push(format!("{}: {text}", sources.place(*at)));
            }
        }
        Self {
            message: format!("{}: {}", sources.place(span), diagnostic.message),
            code: diagnostic.code.name(),
            hint: (!hint.is_empty()).then(|| hint.join("\n")),
            text: Some(miette::NamedSource::new(&file.name, file.text.clone())),
            labels,
        }
    }
}

impl fmt::Display for SpecReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the experiment file", counted(self.related.len(), "problem"))
    }
}
impl std::error::Error for SpecReport {}
impl miette::Diagnostic for SpecReport {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(self.related.iter().map(|r| r as &dyn miette::Diagnostic)))
    }
}

impl fmt::Display for SnippetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for SnippetReport {}
impl miette::Diagnostic for SnippetReport {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.text.as_ref().map(|t| t as &dyn miette::SourceCode)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// `, did you mean` for a name that is not known.
pub(super) fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(found, known).map(|name| format!("did you mean `{name}`?"))
}

/// What other programs call things, beside what they are called here.
const OTHER_NAMES: [(&str, &str); 14] = [
    ("learning_rate", "lr"),
    ("bs", "batch_size"),
    ("wd", "weight_decay"),
    ("clip_grad", "grad_clip_norm"),
    ("optimiser", "optimizer"),
    ("epochs", "budget"),
    ("max_steps", "steps"),
    ("samples", "samples_seen"),
    ("depth", "layers"),
    ("resolution", "image_size"),
    ("dim", "width"),
    ("vocab", "vocab_size"),
    ("metrics", "values"),
    ("filter", "where"),
];

/// The known name nearest to a misspelt one, if any is near: by spelling, by what others call it, or as its beginning.
pub(super) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = found.to_lowercase();
    let limit = (found.chars().count() / 3).clamp(1, 3);
    let distance = |name: &str| {
        let spelt = strsim::damerau_levenshtein(&lower, &name.to_lowercase());
        let others = OTHER_NAMES.iter().filter(|(_, ours)| *ours == name);
        let called = others.map(|(theirs, _)| strsim::damerau_levenshtein(&lower, theirs)).min().unwrap_or(usize::MAX);
        let is_beginning = lower.len() > 2 && name.to_lowercase().starts_with(&lower);
        spelt.min(called).min(if is_beginning { limit } else { usize::MAX })
    };
    let near = known.into_iter().map(|name| (distance(name), name)).filter(|(distance, _)| *distance <= limit);
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Names in backticks, joined by commas.
pub(super) fn quoted_list<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|n| format!("`{}`", n.as_ref())).collect::<Vec<_>>().join(", ")
}
