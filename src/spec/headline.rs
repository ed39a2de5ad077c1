//! What an experiment file says of itself: name, question and source.
//!
//! Owns [`Headline`], for those who have the results and want the words. Invariant: the file alone is read, without its bases, and nothing else in it is
//! looked at.

use serde::Deserialize;

/// The words at the head of an experiment file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Headline {
    /// Its name.
    pub experiment: String,
    /// The question.
    #[serde(default)]
    pub question: Option<String>,
    /// Where the question comes from.
    #[serde(default)]
    pub source: Option<String>,
}

impl Headline {
    /// That of a file's text; `None` where it is no experiment.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_yaml::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_read_and_the_rest_is_not_looked_at() {
        let found = Headline::parse("experiment: a/b\nquestion: Why?\nno such key: [1]\n");
        let expected = Headline { experiment: "a/b".to_owned(), question: Some("Why?".to_owned()), source: None };
        assert_eq!(found, Some(expected));
        assert_eq!(Headline::parse("claims: []"), None);
    }
}
