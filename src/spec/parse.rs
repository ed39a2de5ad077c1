//! YAML text to a tree with places.
//!
//! Input: one text. Output: its tree, or problems. Anchors, aliases, tags, `<<`, several documents and duplicate keys are
//! refused, each at its place; a mistake of syntax ends the reading of that text. It types nothing and reads no file.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use super::diagnostic::{Code, Diagnostic, Diagnostics};
use super::source::{FileId, Sources, Span};
use super::tree::{Entry, Node, Scalar, Tree};

/// Deeper nesting than this is refused: no experiment needs it, and recursion stays bounded.
const MAX_DEPTH: usize = 48;

/// Reads one text.
pub(super) fn parse(sources: &Sources, file: FileId, diagnostics: &mut Diagnostics) -> Option<Node> {
    parse_text(&sources.file(file).text, file, diagnostics)
}

/// Reads a text whose places are those of `file`.
pub(super) fn parse_text(text: &str, file: FileId, diagnostics: &mut Diagnostics) -> Option<Node> {
    let bom = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut builder = Builder { places: Places::new(text, bom, file), diagnostics, stack: Vec::new(), root: None, documents: 0 };
    let errors = builder.diagnostics.num_errors();
    for event in Parser::new_from_str(&text[bom..]) {
        let go_on = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => builder.scan_error(&error),
        };
        if !go_on {
            break;
        }
    }
    let root = builder.root.take();
    (diagnostics.num_errors() == errors)
        .then(|| root.unwrap_or_else(|| Node { value: Tree::Map(Vec::new()), span: Span::start_of(file) }))
}

/// Character positions to byte positions.
struct Places {
    /// Byte of every character; empty for ASCII, where they are the same.
    bytes: Vec<u32>,
    shift: u32,
    len: u32,
    file: FileId,
}

impl Places {
    fn new(text: &str, bom: usize, file: FileId) -> Self {
        let index = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let bytes = if text.is_ascii() { Vec::new() } else { text[bom..].char_indices().map(|(at, _)| index(at + bom)).collect() };
        Self { bytes, shift: index(bom), len: index(text.len()), file }
    }
    fn byte(&self, character: usize) -> u32 {
        if self.bytes.is_empty() {
            u32::try_from(character).unwrap_or(u32::MAX).saturating_add(self.shift).min(self.len)
        } else {
            self.bytes.get(character).copied().unwrap_or(self.len)
        }
    }
    fn span(&self, span: saphyr_parser::Span) -> Span {
        Span { file: self.file, start: self.byte(span.start.index()), end: self.byte(span.end.index()) }
    }
}

/// A list or map that is not closed yet.
enum Open {
    List(Vec<Node>, Span),
    Map(Vec<Entry>, Span, Option<(String, Span)>),
}

struct Builder<'a> {
    places: Places,
    diagnostics: &'a mut Diagnostics,
    stack: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

impl Builder<'_> {
    /// Takes one event; false ends the reading.
    fn event(&mut self, event: Event<'_>, span: saphyr_parser::Span) -> bool {
        let span = self.places.span(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.refuse(span, "a second document, expected one experiment a file", "remove the `---`, or split the file");
                    return false;
                }
            }
            Event::Alias(_) => {
                self.refuse(span, "an alias, which is not read here", "repeat the value, or move it to a `base:` file")
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_marks(anchor, tag.as_deref(), span);
                let quoted = style != ScalarStyle::Plain;
                self.scalar(Scalar { text: text.into_owned(), quoted, template: None }, span);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_marks(anchor, tag.as_deref(), span);
                return self.open(Open::List(Vec::new(), span), span);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_marks(anchor, tag.as_deref(), span);
                return self.open(Open::Map(Vec::new(), span, None), span);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
        }
        true
    }

    fn refuse(&mut self, span: Span, what: &str, hint: &str) {
        self.diagnostics.error(Diagnostic::new(Code::Syntax, span, what).hint(hint));
    }

    fn refuse_marks(&mut self, anchor: usize, tag: Option<&saphyr_parser::Tag>, span: Span) {
        if anchor > 0 {
            self.refuse(span, "an anchor, which is not read here", "remove the `&name`; shared settings belong in a `base:` file");
        }
        if let Some(tag) = tag {
            let what = format!("tag `{}{}`, which is not read here", tag.handle, tag.suffix);
            self.refuse(span, &what, "remove it: every key has one type, so nothing needs to be marked");
        }
    }

    fn open(&mut self, open: Open, span: Span) -> bool {
        if self.awaits_key() {
            self.refuse(span, "a map or list as a key, expected text", "keys are plain text");
            return false;
        }
        if self.stack.len() >= MAX_DEPTH {
            self.refuse(span, &format!("more than {MAX_DEPTH} levels of nesting"), "no experiment needs so many");
            return false;
        }
        self.stack.push(open);
        true
    }

    fn awaits_key(&self) -> bool {
        matches!(self.stack.last(), Some(Open::Map(_, _, None)))
    }

    fn scalar(&mut self, scalar: Scalar, span: Span) {
        if self.awaits_key() {
            return self.key(scalar, span);
        }
        if !scalar.quoted && matches!(scalar.text.to_lowercase().as_str(), "yes" | "no" | "on" | "off") {
            let text = &scalar.text;
            let what = format!("bare `{text}` is read as text, not as true or false");
            self.diagnostics
                .warn(Diagnostic::new(Code::Style, span, what).hint(format!("write `\"{text}\"`, or `true` or `false`")));
        }
        self.value(Node { value: Tree::Scalar(scalar), span });
    }

    fn key(&mut self, scalar: Scalar, span: Span) {
        if !scalar.quoted && scalar.text == "<<" {
            self.refuse(span, "merge key `<<`, which is not read here", "put shared settings into a file and name it in `base:`");
        } else if scalar.text.is_empty() {
            self.refuse(span, "an empty key", "name the key before the `:`");
        }
        if let Some(Open::Map(entries, _, key)) = self.stack.last_mut() {
            if let Some(first) = entries.iter().find(|e| e.key == scalar.text) {
                let what = format!("key `{}` twice in one map", scalar.text);
                let problem =
                    Diagnostic::new(Code::Duplicate, span, what).note(first.key_span, "first here").hint("keep one of them");
                self.diagnostics.error(problem);
            }
            *key = Some((scalar.text, span));
        }
    }

    fn value(&mut self, node: Node) {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(items, _)) => items.push(node),
            Some(Open::Map(entries, _, key)) => {
                if let Some((key, key_span)) = key.take() {
                    entries.push(Entry { key, key_span, value: node });
                }
            }
        }
    }

    fn close(&mut self, end: Span) {
        let (value, start) = match self.stack.pop() {
            Some(Open::List(items, start)) => (Tree::List(items), start),
            Some(Open::Map(entries, start, _)) => (Tree::Map(entries), start),
            None => return,
        };
        self.value(Node { value, span: Span { end: end.end.max(start.end), ..start } });
    }

    fn scan_error(&mut self, error: &ScanError) -> bool {
        let at = self.places.byte(error.marker().index());
        let span = Span { file: self.places.file, start: at, end: at };
        let (what, hint) = explain(error.info());
        self.diagnostics.error(Diagnostic::new(Code::Syntax, span, what).maybe_hint(hint.map(str::to_owned)));
        false
    }
}

/// The scanner's message in this program's words, with a next action for the mistakes that people make.
fn explain(info: &str) -> (String, Option<&'static str>) {
    let hint = if info.contains("tab") {
        Some("indent with spaces")
    } else if info.contains("flow") || info.contains("',' or") || info.contains("bracket") {
        Some("close every `{` and `[`, and quote text that holds `{`, `}`, `[`, `]` or `,` (as in \"${DATA}/x\")")
    } else if info.contains("quoted") || info.contains("end of stream") {
        Some("close the quotes")
    } else if info.contains("mapping values") || info.contains("simple key") || info.contains("block mapping") {
        Some("check the indentation, a missing `:`, or quote text that holds `: `")
    } else {
        None
    };
    let mut text = info.trim_end_matches('.').to_owned();
    if let Some(first) = text.get(..1) {
        let lower = first.to_lowercase();
        text.replace_range(..1, &lower);
    }
    (format!("not YAML: {text}"), hint)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;

    fn read(text: &str) -> Result<Node, String> {
        let (mut sources, mut diagnostics) = (Sources::default(), Diagnostics::default());
        let file = sources.add_file(Path::new("t.yaml"), text.to_owned());
        let node = parse(&sources, file, &mut diagnostics);
        diagnostics.finish(&Arc::new(sources)).map_err(|e| e.to_string())?;
        Ok(node.unwrap())
    }

    #[test]
    fn scalars_keep_the_text_that_was_written() {
        let tree = read("a: 1.10\nb: 1e-3\nc: no\nd: 12:30\ne: 010\nf: '7'\n").unwrap();
        for (key, text) in [("a", "1.10"), ("b", "1e-3"), ("c", "no"), ("d", "12:30"), ("e", "010"), ("f", "7")] {
            assert_eq!(tree.child(key).unwrap().text(), Some(text));
        }
    }

    #[test]
    fn duplicate_keys_are_refused_at_every_depth() {
        let errors = read("a: {x: 1, y: 2, x: 3}\nb:\n  - c: 1\n    c: 2\n").unwrap_err();
        assert_eq!(errors.matches("twice in one map").count(), 2, "{errors}");
        assert!(errors.contains("t.yaml:1:17"), "{errors}");
        assert!(errors.contains("t.yaml:4:5"), "{errors}");
    }

    #[test]
    fn yaml_that_hides_its_meaning_is_refused() {
        for (text, what) in [
            ("a: &x 1\n", "an anchor"),
            ("a: &x 1\nb: *x\n", "an alias"),
            ("a: !!int 3\n", "tag"),
            ("a:\n  <<: {b: 1}\n", "merge key"),
            ("a: 1\n---\nb: 2\n", "second document"),
            ("? [a, b]\n: 1\n", "as a key"),
            ("a:\n\tb: 1\n", "not YAML"),
        ] {
            let errors = read(text).unwrap_err();
            assert!(errors.contains(what), "{text:?}: {errors}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let text = "[".repeat(200_000);
        let errors = read(&text).unwrap_err();
        assert!(errors.contains("levels of nesting"), "{errors}");
    }

    #[test]
    fn a_byte_order_mark_moves_no_column() {
        let errors = read("\u{feff}é: 1\né: 2\n").unwrap_err();
        assert!(errors.contains("t.yaml:2:1"), "{errors}");
    }

    #[test]
    fn the_tree_agrees_with_serde_yaml_on_plain_text() {
        let text = "a: 'x y'\nb: [p, q: {r: \"s\\n\"}]\nc: |\n  two\n  lines\nd:\n  e: >-\n    folded\n    text\n";
        let ours = plain(&read(text).unwrap());
        let theirs: serde_json::Value = serde_yaml::from_str(text).unwrap();
        assert_eq!(ours, theirs);
    }

    fn plain(node: &Node) -> serde_json::Value {
        match &node.value {
            Tree::Scalar(s) => s.text.clone().into(),
            Tree::List(items) => items.iter().map(plain).collect(),
            Tree::Map(entries) => serde_json::Value::Object(entries.iter().map(|e| (e.key.clone(), plain(&e.value))).collect()),
        }
    }
}
