//! Amounts to places along an axis, and the ticks that stand there.
//!
//! Invariant: ticks lie inside the range of the scale, in ascending order.

use super::AxisKind;
use crate::report::units::brief;

/// Amounts from `low` to `high` along `length` units.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    is_log: bool,
    low: f64,
    high: f64,
    start: f64,
    length: f64,
}

/// A tick: its amount and its text.
pub(super) type Tick = (f64, String);

impl Scale {
    /// A scale that holds all of these amounts with a little room at both ends.
    pub fn of(kind: &AxisKind, amounts: impl Iterator<Item = f64>, start: f64, length: f64) -> Self {
        let is_log = matches!(kind, AxisKind::Log);
        let inner = |amount: f64| if is_log { libm::log10(amount) } else { amount };
        let (mut low, mut high) = amounts
            .filter(|amount| amount.is_finite() && (!is_log || *amount > 0.0))
            .map(inner)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), amount| (low.min(amount), high.max(amount)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let room = match high - low {
            0.0 if is_log => 0.3,
            0.0 => (high.abs() * 0.1).max(0.5),
            span => span * 0.06,
        };
        Self { is_log, low: low - room, high: high + room, start, length }
    }

    /// The same, not below zero where all amounts are above it.
    pub fn kept_above_zero(self) -> Self {
        let is_near = !self.is_log && self.low < 0.0 && self.low > -0.07 * (self.high - self.low);
        Self { low: if is_near { 0.0 } else { self.low }, ..self }
    }

    fn inner(&self, amount: f64) -> f64 {
        if self.is_log { libm::log10(amount) } else { amount }
    }

    /// Where an amount lies.
    pub fn at(&self, amount: f64) -> f64 {
        self.start + self.length * (self.inner(amount) - self.low) / (self.high - self.low)
    }

    fn holds(&self, amount: f64) -> bool {
        let inner = self.inner(amount);
        inner.is_finite() && inner >= self.low - 1e-9 && inner <= self.high + 1e-9
    }

    /// Round amounts inside the range, about `wanted` of them.
    pub fn ticks(&self, wanted: usize) -> Vec<Tick> {
        if self.is_log { self.decades() } else { self.steps(wanted) }
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of ticks")]
    fn steps(&self, wanted: usize) -> Vec<Tick> {
        let rough = (self.high - self.low) / wanted as f64;
        let power = libm::pow(10.0, libm::floor(libm::log10(rough)));
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let mut ticks = Vec::new();
        let mut place = libm::ceil(self.low / step - 1e-9);
        while place * step <= self.high + 1e-9 * step && ticks.len() < 4 * wanted {
            ticks.push((place * step, brief(place * step + 0.0)));
            place += 1.0;
        }
        ticks
    }

    fn decades(&self) -> Vec<Tick> {
        let span = self.high - self.low;
        let times: &[f64] = match span {
            span if span < 0.8 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
            span if span < 2.2 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let mut ticks = Vec::new();
        let mut decade = libm::floor(self.low);
        while decade <= self.high {
            let amounts = times.iter().map(|times| times * libm::pow(10.0, decade));
            ticks.extend(amounts.filter(|amount| self.holds(*amount)).map(|amount| (amount, brief(amount))));
            decade += 1.0;
        }
        ticks
    }
}

/// The ticks whose texts do not come nearer to each other than `gap`, each text as wide as `width` says, from the last to the first: the
/// largest amount keeps its text.
pub(super) fn apart(ticks: Vec<(f64, String)>, width: impl Fn(&str) -> f64, gap: f64) -> Vec<(f64, String)> {
    let mut kept: Vec<(f64, String)> = Vec::new();
    for (place, text) in ticks.into_iter().rev() {
        let half = width(&text) / 2.0;
        if kept.last().is_none_or(|(right, other)| place + half + gap <= right - width(other) / 2.0) {
            kept.push((place, text));
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(kind: &AxisKind, amounts: &[f64]) -> Vec<String> {
        let scale = Scale::of(kind, amounts.iter().copied(), 0.0, 100.0);
        scale.ticks(5).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(texts(&AxisKind::Linear, &[18.0, 54.0]), ["20", "30", "40", "50"]);
        assert_eq!(texts(&AxisKind::Log, &[1.1, 940.0]), ["1", "10", "100", "1k"]);
        assert_eq!(texts(&AxisKind::Log, &[2e6, 9e6]), ["2M", "3M", "4M", "5M", "6M", "7M", "8M", "9M"]);
        assert_eq!(texts(&AxisKind::Linear, &[0.2]), ["-0.2", "0", "0.2", "0.4", "0.6"]);
        assert_eq!(texts(&AxisKind::Log, &[]), texts(&AxisKind::Log, &[1.0, 10.0]));
    }

    #[test]
    fn texts_that_would_touch_are_left_out() {
        let ticks = [0.0, 10.0, 20.0, 40.0].map(|place| (place, format!("{place}"))).to_vec();
        let kept = apart(ticks, |_| 15.0, 2.0);
        assert_eq!(kept.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0.0, 20.0, 40.0]);
    }
}
