//! What can be wrong with a table or its file.

use thiserror::Error;

/// A table that cannot be built or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TablesError {
    /// Different points of the sweep fall into one cell.
    #[error(
        "table `{table}`: different runs fall into the cell ({cell}); the table does not say which {} it shows",
        .axes.iter().map(|axis| format!("`{axis}`")).collect::<Vec<_>>().join(" and ")
    )]
    Collapsed {
        /// The table.
        table: String,
        /// Labels of the cell.
        cell: String,
        /// Axes on which the points differ.
        axes: Vec<String>,
    },
    /// A CSV file that should hold a table does not.
    #[error("table `{table}`: {what}")]
    Unreadable {
        /// The table.
        table: String,
        /// What is wrong, with the line.
        what: String,
    },
}

impl TablesError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Collapsed { axes, .. } => {
                axes.first().map(|axis| format!("name `{axis}` in `rows` or `columns`, or fix it in `where`"))
            }
            Self::Unreadable { .. } => Some("rebuild it with `scaledown table --from` its results folder".to_owned()),
        }
    }
}
