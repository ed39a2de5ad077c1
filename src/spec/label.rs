//! The text that names a value on an axis.

use super::tree::{Node, Tree};

/// The label of a value: a scalar's text as written, a map as `k=v,k=v`, a map or list inside in brackets.
#[must_use]
pub fn label_of(node: &Node) -> String {
    match &node.value {
        Tree::Scalar(_) if node.is_null() => "null".to_owned(),
        Tree::Scalar(scalar) => scalar.label().to_owned(),
        Tree::Map(entries) => {
            let pairs: Vec<String> = entries.iter().map(|e| format!("{}={}", e.key, inner(&e.value))).collect();
            pairs.join(",")
        }
        Tree::List(items) => format!("[{}]", items.iter().map(inner).collect::<Vec<_>>().join(",")),
    }
}

fn inner(node: &Node) -> String {
    match &node.value {
        Tree::Map(_) => format!("{{{}}}", label_of(node)),
        _ => label_of(node),
    }
}
