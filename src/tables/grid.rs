//! A table as people read it: texts in rows under heads.
//!
//! Owns [`Grid`]. Invariant: every row has as many cells as there are heads.

/// Rows of texts, rounded already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// The metric of all of its values, where it holds one alone.
    pub metric: Option<String>,
    /// What stands above each column.
    pub head: Vec<String>,
    /// Which columns hold numbers.
    pub is_number: Vec<bool>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    /// Lines of Markdown: head, rule, rows.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let escaped = |fields: &[String]| fields.iter().map(|text| escape(text)).collect::<Vec<_>>().join(" | ");
        let rule: Vec<&str> = self.is_number.iter().map(|is_number| if *is_number { "---:" } else { "---" }).collect();
        let head = [escaped(&self.head), rule.join(" | ")];
        let rows = self.rows.iter().map(|row| escaped(row));
        head.into_iter().chain(rows).map(|line| format!("| {line} |\n")).collect()
    }
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
