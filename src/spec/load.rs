//! Loading: composes the texts, checks form and meaning, and hands out a `ValidSpec` or every problem.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::Builder;
use super::check::{self, Checker, Cursor};
use super::compose::{Composed, Composer};
use super::diagnostic::{Code, Diagnostic, Diagnostics, SpecErrors};
use super::schema::Document;
use super::source::{Sources, Span};
use super::statements::{self, Statements};
use super::sweep::{self, Sweep};
use super::tree::Node;
use super::valid::{Execution, Points, Resolved, ValidSpec, is_above};
use super::written::Written;
use super::{LoadOptions, parse};
use crate::claims::ClaimsFile;
use crate::run::{RunConfig, SeedParts, TrainConfig};

/// Longest name of a folder, bytes. **Source**: `NAME_MAX` of Linux and macOS.
const MAX_NAME: usize = 255;

/// State of one load.
pub(super) struct Loader<'a> {
    pub options: &'a LoadOptions<'a>,
    pub sources: Sources,
    pub diagnostics: Diagnostics,
    /// Runs of scorer files by path; `None` where their problems were reported.
    pub scorers: HashMap<String, Option<RunConfig>>,
    /// Scorer files that are being read, outermost first.
    pub scoring: Vec<String>,
    /// Paths of all files as they stand there.
    pub written: Written,
}

/// A checked tree, before the texts are sealed.
struct Draft {
    tree: Node,
    sweep: Sweep,
    resolved: Resolved,
    /// Whether axes or their conditions have problems, so that some points are not there.
    is_sweep_broken: bool,
}

/// Reads, merges and checks an experiment file.
///
/// # Errors
/// Every problem of the file, its bases and overrides.
pub fn load(path: &Path, options: &LoadOptions<'_>) -> Result<ValidSpec, SpecErrors> {
    let mut loader = Loader::new(options, path);
    let composed = loader.composer().file(path);
    loader.finish(composed)
}

/// The same for a text at hand, which is shown under the name of `path`.
///
/// # Errors
/// As [`load`].
pub fn load_str(path: &Path, text: &str, options: &LoadOptions<'_>) -> Result<ValidSpec, SpecErrors> {
    let mut loader = Loader::new(options, path);
    let composed = loader.composer().text(path, text.to_owned());
    loader.finish(composed)
}

/// Reads a file of claims alone.
///
/// # Errors
/// Every problem of the file.
pub fn load_claims(path: &Path, options: &LoadOptions<'_>) -> Result<ClaimsFile, SpecErrors> {
    let mut loader = Loader::new(options, path);
    let claims = loader.claims(path);
    let sources = Arc::new(loader.sources);
    loader.diagnostics.finish(&sources)?;
    Ok(claims.expect("a file that could not be read is a problem"))
}

impl<'a> Loader<'a> {
    fn new(options: &'a LoadOptions<'a>, path: &Path) -> Self {
        let scoring = vec![path.display().to_string()];
        Self {
            options,
            sources: Sources::default(),
            diagnostics: Diagnostics::default(),
            scorers: HashMap::new(),
            scoring,
            written: Written::default(),
        }
    }

    fn composer(&mut self) -> Composer<'_> {
        Composer { options: self.options, sources: &mut self.sources, diagnostics: &mut self.diagnostics }
    }

    fn finish(mut self, composed: Option<Composed>) -> Result<ValidSpec, SpecErrors> {
        let draft = composed.map(|mut composed| {
            self.composer().apply_overrides(&mut composed);
            let draft = self.draft(composed, false);
            let header = Header::read(&draft.tree, &mut self.diagnostics);
            let points = Points { sweep: &draft.sweep, resolved: &draft.resolved };
            let points = (!draft.is_sweep_broken).then_some(&points);
            let statements = statements::read(&draft.tree, points, &mut self);
            let execution = self.execution(&draft.tree);
            (draft, header, statements, execution)
        });
        let sources = Arc::new(self.sources);
        let warnings = self.diagnostics.finish(&sources)?;
        let (Draft { sweep, resolved, tree: _, is_sweep_broken: _ }, header, statements, execution) =
            draft.expect("a file that could not be read is a problem");
        let Header { experiment, question, source, expected } = header;
        let Statements { tables, claims, fits, aliases } = statements;
        let (resolved, aliases, written) = (Arc::new(resolved), Arc::new(aliases), Arc::new(self.written));
        Ok(ValidSpec {
            experiment,
            question,
            source,
            expected,
            sweep,
            tables,
            claims,
            fits,
            execution,
            warnings,
            sources,
            written,
            resolved,
            aliases,
        })
    }

    /// Checks a merged tree: its form, its axes, all its points.
    fn draft(&mut self, composed: Composed, is_scorer: bool) -> Draft {
        let Composed { tree, start, overrides } = composed;
        self.written.note(&tree, &self.sources, self.options.files);
        let before = self.diagnostics.num_errors();
        let (sweep, exclude_spans) = sweep::read(&tree, &mut self.diagnostics);
        let is_sweep_broken = self.diagnostics.num_errors() > before;
        self.check_form(&tree, start, &sweep, is_scorer);
        self.check_overrides(&overrides, &sweep);
        if let (true, Some(entry)) = (is_scorer, tree.entry("sweep")) {
            let problem = Diagnostic::new(Code::Data, entry.key_span, "a scorer is one run, so its file has no `sweep`");
            self.diagnostics.error(problem.hint("remove it, or name another file in `scorer`"));
        }
        let resolved = Builder::new(self, &tree, start).build(&sweep, &exclude_spans);
        Draft { tree, sweep, resolved, is_sweep_broken }
    }

    /// The form of the whole file; a key that an axis sets may be missing.
    fn check_form(&mut self, tree: &Node, start: Span, sweep: &Sweep, is_scorer: bool) {
        let document = Document::experiment();
        let is_covered = |path: &str| {
            let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
            let is_set = |a: &sweep::Axis| is_above(&a.keys, &keys) || is_above(&keys, &a.keys);
            (is_scorer && path == "experiment") || sweep.grids.iter().any(|g| g.axes.iter().any(is_set))
        };
        let (sources, diagnostics) = (&self.sources, &mut self.diagnostics);
        let mut checker = Checker { document, sources, diagnostics, is_covered: &is_covered };
        checker.check(Cursor { node: tree, at: start, path: check::KeyPath::Root }, document.root());
        // A value on an axis has the form of its place, with keys that other axes or the base may add.
        let mut checker = Checker { is_covered: &|_| true, ..checker };
        for axis in sweep.grids.iter().flat_map(|g| &g.axes) {
            let schemas = document.at(&axis.keys).unwrap_or_default();
            for value in axis.values.iter().filter(|v| !v.node.is_null()) {
                let path = check::KeyPath::Key(&check::KeyPath::Root, &axis.path);
                if let [schema] = schemas.as_slice() {
                    checker.check(Cursor { node: &value.node, at: value.node.span, path }, schema);
                }
            }
        }
    }

    fn check_overrides(&mut self, overrides: &[(Vec<String>, Span)], sweep: &Sweep) {
        for (keys, span) in overrides {
            for grid in &sweep.grids {
                let Some(axis) = grid.axes.iter().find(|a| is_above(&a.keys, keys)) else { continue };
                let message = format!("`{}` is an axis, so `--set {}` would change nothing", axis.path, keys.join("."));
                let text = &self.sources.file(span.file).text;
                let value = text.split_once('=').map_or("", |(_, value)| value);
                let value = if axis.keys.len() == keys.len() { value } else { ".." };
                let hint = format!("set the axis: `--set {}.{}=[{value}]`", axis.place, axis.path);
                self.diagnostics.error(Diagnostic::new(Code::Set, *span, message).note(axis.key_span, "the axis").hint(hint));
                break;
            }
        }
    }

    /// Reads a scorer's file into `scorers`.
    pub fn read_scorer(&mut self, path: &str, stated_at: Span) {
        if self.scoring.iter().any(|p| p == path) {
            let first = self.scoring.iter().position(|p| p == path).unwrap_or(0);
            let chain: Vec<String> = self.scoring[first..].iter().map(|p| format!("`{p}` -> ")).collect();
            let message = format!("scorers go round in a circle: {}`{path}`", chain.concat());
            let problem = Diagnostic::new(Code::Data, stated_at, message);
            self.diagnostics.error(problem.hint("a scorer is trained on data that another scorer, or none, has chosen"));
            self.scorers.insert(path.to_owned(), None);
            return;
        }
        self.scoring.push(path.to_owned());
        let text = match (self.options.read)(&PathBuf::from(path)) {
            Ok(text) => Some(text),
            Err(error) => {
                let problem = Diagnostic::new(Code::Data, stated_at, format!("cannot read scorer `{path}`: {error}"));
                self.diagnostics.error(problem.hint("paths are relative to the file that states them"));
                None
            }
        };
        let before = self.diagnostics.num_errors();
        let composed = text.and_then(|text| self.composer().text(Path::new(path), text));
        let config = composed.map(|composed| self.draft(composed, true)).and_then(|draft| {
            let point = draft.resolved.points.first()?;
            let Resolved { data, models, trains, device, precision, .. } = &draft.resolved;
            Some(RunConfig {
                data: data.get(point.data as usize)?.clone(),
                model: models.get(point.model as usize)?.clone(),
                // A scorer is not measured, so no weights but the last are kept of it.
                train: TrainConfig { milestones: Vec::new(), ..trains.get(point.train as usize)?.clone() },
                evaluate: Vec::new(),
                seed: 0,
                device: *device,
                precision: *precision,
                seeds_draw: SeedParts::default(),
            })
        });
        self.scoring.pop();
        self.scorers.insert(path.to_owned(), config.filter(|_| self.diagnostics.num_errors() == before));
    }

    fn execution(&mut self, tree: &Node) -> Execution {
        let default = Execution::default();
        let mut read = |key: &str, default| {
            let Some(node) = tree.at(&["train", key]) else { return default };
            match node.text().map(super::scalar::parse_interval) {
                Some(Ok(super::scalar::Interval::Steps(0))) | None => {
                    let message = format!("`train.{key}`: found {}, expected 1 step or more", node.describe());
                    self.diagnostics.error(Diagnostic::new(Code::Train, node.span, message));
                    default
                }
                Some(Ok(interval)) => interval,
                Some(Err(_)) => default,
            }
        };
        Execution { checkpoint_every: read("checkpoint_every", default.checkpoint_every) }
    }

    fn claims(&mut self, path: &Path) -> Option<ClaimsFile> {
        let text = match (self.options.read)(path) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("cannot read `{}`: {error}", path.display());
                self.diagnostics.error(Diagnostic { code: Code::Read, message, span: None, notes: Vec::new(), hint: None });
                return None;
            }
        };
        let file = self.sources.add_file(path, text);
        let tree = parse::parse(&self.sources, file, &mut self.diagnostics)?;
        let document = Document::claims();
        let (sources, diagnostics) = (&self.sources, &mut self.diagnostics);
        let mut checker = Checker { document, sources, diagnostics, is_covered: &|_| false };
        let cursor = Cursor { node: &tree, at: Span::start_of(file), path: check::KeyPath::Root };
        let clean = checker.check(cursor, document.root());
        statements::check_claims(&tree, &self.sources, &mut self.diagnostics);
        statements::typed(clean?, tree.span, "claims", &mut self.diagnostics)
    }
}

/// The keys that name an experiment.
struct Header {
    experiment: String,
    question: Option<String>,
    source: Option<String>,
    expected: Option<String>,
}

impl Header {
    fn read(tree: &Node, diagnostics: &mut Diagnostics) -> Self {
        let text = |key: &str| tree.child(key).and_then(Node::text).map(str::to_owned);
        let experiment = text("experiment").unwrap_or_default();
        let is_segment = |s: &str| {
            !s.is_empty() && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') && !s.starts_with('-')
        };
        if let Some(entry) = tree.entry("experiment").filter(|e| e.value.text().is_some_and(|t| !t.split('/').all(is_segment))) {
            let message = format!("`experiment`: found {}, expected lower-case letters, digits and `-`", entry.value.describe());
            let problem = Diagnostic::new(Code::Type, entry.value.span, message);
            diagnostics.error(problem.hint("it names the folder of the results; `/` makes folders, as in `small/data-quality`"));
        }
        if let (Some(entry), Some(longest)) = (tree.entry("experiment"), experiment.split('/').map(str::len).max())
            && longest > MAX_NAME
        {
            let message = format!("`experiment`: found a name of {longest} letters, expected at most {MAX_NAME} between two `/`");
            let problem = Diagnostic::new(Code::Type, entry.value.span, message);
            diagnostics.error(problem.hint("it names the folder of the results, and file systems know no longer names"));
        }
        Self { experiment, question: text("question"), source: text("source"), expected: text("expected") }
    }
}
