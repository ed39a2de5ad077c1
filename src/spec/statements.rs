//! Tables and claims: the statements that stand beside the sweep.
//!
//! Their types belong to `tables` and `claims`; here they are read, and what they name is looked up in the sweep.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::check::{Checker, Cursor, Path};
use super::diagnostic::{Code, Diagnostic, Diagnostics};
use super::schema::Document;
use super::source::{Sources, Span};
use super::sweep::Sweep;
use super::tree::Node;
use super::valid::Resolved;
use crate::claims::ClaimSpec;
use crate::tables::TableSpec;

/// Tables and claims of an experiment.
pub(super) fn read(
    tree: &Node,
    _sweep: &Sweep,
    _resolved: &Resolved,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
) -> (Vec<TableSpec>, Vec<ClaimSpec>) {
    let tables = list::<TableSpec>(tree, "tables", sources, diagnostics);
    let claims = list::<ClaimSpec>(tree, "claims", sources, diagnostics);
    (tables, claims)
}

/// The items of a list that were read, each by itself so that one mistake hides no other.
fn list<T: DeserializeOwned>(tree: &Node, key: &str, sources: &Sources, diagnostics: &mut Diagnostics) -> Vec<T> {
    let document = Document::experiment();
    let schemas = document.at(&[key]).unwrap_or_default();
    let item = schemas.first().and_then(|s| s.get("items")).unwrap_or(&Json::Bool(true));
    let mut out = Vec::new();
    for (idx, node) in tree.child(key).and_then(Node::items).unwrap_or_default().iter().enumerate() {
        let mut checker = Checker { document, sources, diagnostics, is_covered: &|_| false };
        let (root, name) = (Path::Root, key);
        let list = Path::Key(&root, name);
        let Some(json) = checker.check(Cursor { node, at: node.span, path: Path::Index(&list, idx) }, item) else { continue };
        out.extend(typed::<T>(json, node.span, &format!("{key}[{idx}]"), diagnostics));
    }
    out
}

/// Clean JSON as its type; what only the type itself can judge is reported at the statement.
pub(super) fn typed<T: DeserializeOwned>(json: Json, span: Span, path: &str, diagnostics: &mut Diagnostics) -> Option<T> {
    match serde_json::from_value(json) {
        Ok(value) => Some(value),
        Err(error) => {
            let code = if path.starts_with("tables") { Code::Table } else { Code::Claim };
            diagnostics.error(Diagnostic::new(code, span, format!("`{path}`: {error}")));
            None
        }
    }
}
