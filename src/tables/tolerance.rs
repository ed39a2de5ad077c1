//! How far a cell may move from a committed one.
//!
//! Owns [`Tolerance`]. Input: amounts as a person writes them: `3` (in the metric's own unit), `1%` (of the committed value),
//! `zeroshot/scenes.acc1=2` (of one metric). Invariant: an amount is a number of zero or more.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// How far a value may move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowance {
    /// By so much, in its own unit.
    Absolute(f64),
    /// By this share of the committed value.
    Relative(f64),
}

impl Allowance {
    /// Whether a value is near enough to a committed one.
    #[must_use]
    pub fn allows(self, ours: f64, committed: f64) -> bool {
        let limit = match self {
            Self::Absolute(amount) => amount,
            Self::Relative(share) => share * committed.abs(),
        };
        // The difference of two decimals is not a decimal: 11 - 10 at a tolerance of 1 must not drift by its last bits.
        (ours - committed).abs() <= limit + 1e-12 * committed.abs().max(ours.abs())
    }

    /// Whether a value is too far from a committed one, or there on one side only.
    #[must_use]
    pub fn is_left(self, ours: Option<f64>, committed: Option<f64>) -> bool {
        match (ours, committed) {
            (Some(ours), Some(committed)) => !self.allows(ours, committed),
            (ours, committed) => ours.is_some() != committed.is_some(),
        }
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(amount) => write!(f, "{amount}"),
            Self::Relative(share) => write!(f, "{}%", (share * 1e12).round() / 1e10),
        }
    }
}

impl FromStr for Allowance {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, is_share) = text.strip_suffix('%').map_or((text, false), |digits| (digits, true));
        match digits.trim().parse::<f64>() {
            Ok(amount) if amount.is_finite() && amount >= 0.0 => {
                Ok(if is_share { Self::Relative(amount / 100.0) } else { Self::Absolute(amount) })
            }
            _ => Err(format!("found `{text}`, expected a number of 0 or more, such as `3` or `1%`")),
        }
    }
}

/// How far cells may move: every metric, and some of them by their own amounts.
#[derive(Debug, Clone, PartialEq)]
pub struct Tolerance {
    /// For metrics that have none of their own.
    pub default: Allowance,
    /// By metric.
    pub metrics: BTreeMap<String, Allowance>,
}

impl Default for Tolerance {
    /// One point.
    fn default() -> Self {
        Self { default: Allowance::Absolute(1.0), metrics: BTreeMap::new() }
    }
}

impl Tolerance {
    /// Reads `AMOUNT` and `METRIC=AMOUNT`, each at most once.
    ///
    /// # Errors
    /// What is not an amount, or stated twice.
    pub fn parse<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let (mut default, mut metrics) = (None, BTreeMap::new());
        for item in items {
            let before = match item.rsplit_once('=') {
                Some((metric, amount)) => metrics.insert(metric.trim().to_owned(), amount.parse()?),
                None => default.replace(item.parse()?),
            };
            if let Some(before) = before {
                return Err(format!("`{item}` is the second of its kind, after `{before}`"));
            }
        }
        Ok(Self { default: default.unwrap_or(Self::default().default), metrics })
    }

    /// How far cells of a metric may move.
    #[must_use]
    pub fn of(&self, metric: &str) -> Allowance {
        self.metrics.get(metric).copied().unwrap_or(self.default)
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        self.metrics.iter().try_for_each(|(metric, allowance)| write!(f, ", {metric} {allowance}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_absolute_or_relative_and_may_be_of_one_metric() {
        let tolerance = Tolerance::parse(["3", "zeroshot/scenes.acc1=2", "retrieval/s.image_retrieval_recall@5=0.5%"]);
        let tolerance = tolerance.unwrap_or_default();
        assert_eq!(tolerance.to_string(), "3, retrieval/s.image_retrieval_recall@5 0.5%, zeroshot/scenes.acc1 2");
        assert_eq!(tolerance.of("zeroshot/scenes.acc1"), Allowance::Absolute(2.0));
        assert_eq!(tolerance.of("other"), Allowance::Absolute(3.0));
        assert_eq!(Tolerance::parse([]), Ok(Tolerance::default()));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for item in ["-1", "nan", "inf", "", "x", "%", "a=", "a=-2", "a=1%%", "1e400"] {
            assert!(Tolerance::parse([item]).is_err(), "{item}");
        }
        assert!(Tolerance::parse(["1", "2"]).is_err() && Tolerance::parse(["a=1", "a=1%"]).is_err());
    }

    #[test]
    fn a_cell_may_move_as_far_as_its_tolerance_and_no_further() {
        assert!(Allowance::Absolute(1.0).allows(11.1, 10.1) && !Allowance::Absolute(1.0).allows(11.11, 10.1));
        assert!(Allowance::Relative(0.01).allows(2.02, 2.0) && !Allowance::Relative(0.01).allows(2.021, 2.0));
        assert!(Allowance::Relative(0.01).allows(0.0, 0.0) && !Allowance::Relative(0.5).allows(0.1, 0.0));
        assert!(Allowance::Absolute(0.0).allows(0.3, 0.3));
    }
}
