//! Milestones: stated parts of a run's budget after which it is measured, and what their metrics are called.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A step after which the weights are measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Milestone {
    /// What it is called in metrics and tables: `50%`, `step 100`, `32000 samples`.
    pub label: String,
    /// Steps done; from 1 to the run's steps.
    pub step: u64,
}

/// What the end of a run is called beside its milestones.
pub const END: &str = "100%";
/// What the best of the milestones and the end is called.
const BEST: &str = "best";

impl Milestone {
    /// A metric as measured at this milestone.
    #[must_use]
    pub fn metric(&self, metric: &str) -> String {
        metric_at(metric, &self.label)
    }

    /// The metric that a name speaks of, where it is one of this milestone.
    #[must_use]
    pub fn measured<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_suffix(self.label.as_str())?.strip_suffix(" at ")
    }
}

fn metric_at(metric: &str, label: &str) -> String {
    format!("{metric} at {label}")
}

/// A metric at the end of a run that has milestones, beside its plain name.
#[must_use]
pub fn end_metric(metric: &str) -> String {
    metric_at(metric, END)
}

/// Whether a name is that of a metric at one of these milestones, or at the end beside them.
#[must_use]
pub fn is_at_milestone(milestones: &[Milestone], name: &str) -> bool {
    let is_of_end = name.strip_suffix(END).is_some_and(|rest| rest.ends_with(" at "));
    !milestones.is_empty() && (is_of_end || milestones.iter().any(|milestone| milestone.measured(name).is_some()))
}

/// The largest value that a metric has at the milestones and at the end.
///
/// It is chosen on the very set that it is measured on, so it is biased upwards.
#[must_use]
pub fn best_metric(metric: &str) -> String {
    metric_at(metric, BEST)
}

/// Steps done where a metric is largest, the first of several.
#[must_use]
pub fn best_step_metric(metric: &str) -> String {
    format!("{metric} best step")
}

/// Adds each metric of the end under its other name, the best of it over the milestones and the end, and the step where that
/// stands. A metric that is missing somewhere has no best.
#[expect(clippy::cast_precision_loss, reason = "step counts below 2^53")]
pub fn add_best(metrics: &mut BTreeMap<String, f64>, milestones: &[Milestone], steps: u64) {
    if milestones.is_empty() {
        return;
    }
    let is_of_end = |name: &str| !is_at_milestone(milestones, name);
    let ends: Vec<(String, f64)> =
        metrics.iter().filter(|(name, _)| is_of_end(name)).map(|(name, at)| (name.clone(), *at)).collect();
    for (metric, at_end) in ends {
        metrics.insert(end_metric(&metric), at_end);
        let earlier = milestones.iter().map(|m| Some((metrics.get(&m.metric(&metric)).copied()?, m.step)));
        let Some(mut all) = earlier.collect::<Option<Vec<(f64, u64)>>>() else { continue };
        all.push((at_end, steps));
        let best = all.into_iter().reduce(|best, next| if next.0 > best.0 || best.0.is_nan() { next } else { best });
        let (value, step) = best.expect("the end is one");
        metrics.insert(best_metric(&metric), value);
        metrics.insert(best_step_metric(&metric), step as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_first_of_the_largest_over_milestones_and_end() {
        let milestones = [("10%", 2), ("50%", 10)].map(|(label, step)| Milestone { label: label.into(), step });
        let mut metrics = BTreeMap::from(
            [("a.x", 30.0), ("a.x at 10%", 40.0), ("a.x at 50%", 40.0), ("b.y", 9.0), ("b.y at 10%", 1.0), ("b.y at 50%", 2.0)]
                .map(|(name, value)| (name.to_owned(), value)),
        );
        metrics.insert("c.z".to_owned(), 1.0);
        metrics.insert("c.z at 10%".to_owned(), 2.0);
        add_best(&mut metrics, &milestones, 20);
        assert_eq!((metrics["a.x at best"], metrics["a.x best step"]), (40.0, 2.0));
        assert_eq!((metrics["b.y at best"], metrics["b.y best step"]), (9.0, 20.0));
        assert_eq!((metrics["a.x"], metrics["a.x at 100%"], metrics["c.z at 100%"]), (30.0, 30.0, 1.0));
        assert!(!metrics.contains_key("c.z at best"), "it was not measured at 50 %");
        let before = metrics.len();
        add_best(&mut metrics, &[], 20);
        assert_eq!(metrics.len(), before);
    }
}
