//! Limited-memory BFGS on a smooth convex function.
//!
//! **Source** Nocedal and Wright, "Numerical Optimization" (2006), algorithms 7.4 and 7.5; the line search brackets a weak Wolfe
//! point by doubling and bisection (Lewis and Overton 2013), and where the function's own rounding hides its decrease it goes by
//! slopes (Hager and Zhang 2005, approximate Wolfe conditions).

use std::collections::VecDeque;

/// Pairs of steps and changes of the gradient that are kept.
const MEMORY: usize = 10;
/// Evaluations of a line search; doubling and halving as often spans all steps that matter.
const TRIALS: usize = 60;
/// Share of the slope's promise that a step has to keep.
const DECREASE: f64 = 1e-4;
/// Share of the slope that a step has to take away.
const CURVATURE: f64 = 0.9;
/// Relative rounding of a function value.
const ROUNDING: f64 = 1e-13;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Iterations at most.
    pub iterations: usize,
    /// A gradient of this length, or shorter, is none.
    pub gradient_norm: f64,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Minimum {
    /// Iterations done.
    pub iterations: usize,
    /// Length of the last gradient.
    pub gradient_norm: f64,
}

/// Moves `x` to the minimum of `f`, which writes its gradient and returns its value.
pub(super) fn minimise(x: &mut [f64], limits: Limits, mut f: impl FnMut(&[f64], &mut [f64]) -> f64) -> Minimum {
    let mut gradient = vec![0.0; x.len()];
    let mut value = f(x, &mut gradient);
    let mut history: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    let (mut next, mut next_gradient) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    for iteration in 0..limits.iterations {
        let norm = dot(&gradient, &gradient).sqrt();
        if norm <= limits.gradient_norm {
            return Minimum { iterations: iteration, gradient_norm: norm };
        }
        let mut direction = descent(&gradient, &history);
        let mut slope = dot(&gradient, &direction);
        if slope.is_nan() || slope >= 0.0 {
            // Rounding spoilt the memory: begin anew along the gradient.
            history.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -norm * norm;
        }
        let first = if history.is_empty() { (1.0 / norm).min(1.0) } else { 1.0 };
        let mut trial = |step: f64| {
            next.iter_mut().zip(x.iter().zip(&direction)).for_each(|(next, (x, d))| *next = x + step * d);
            let value = f(&next, &mut next_gradient);
            (value, dot(&next_gradient, &direction))
        };
        let Some(reached) = wolfe(value, slope, first, &mut trial) else {
            // No step lowers the function any more: this is its minimum to rounding.
            return Minimum { iterations: iteration, gradient_norm: norm };
        };
        value = reached;
        let step: Vec<f64> = next.iter().zip(x.iter()).map(|(next, x)| next - x).collect();
        let change: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(next, g)| next - g).collect();
        x.copy_from_slice(&next);
        gradient.copy_from_slice(&next_gradient);
        let curvature = dot(&step, &change);
        if curvature > f64::EPSILON * dot(&change, &change) {
            if history.len() == MEMORY {
                history.pop_front();
            }
            history.push_back(Pair { step, change, curvature });
        }
    }
    Minimum { iterations: limits.iterations, gradient_norm: dot(&gradient, &gradient).sqrt() }
}

/// A step, the change of the gradient over it, and their product.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    curvature: f64,
}

/// The quasi-Newton direction: minus the inverse Hessian's estimate times the gradient.
fn descent(gradient: &[f64], history: &VecDeque<Pair>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(history.len());
    for pair in history.iter().rev() {
        let share = dot(&pair.step, &direction) / pair.curvature;
        add_scaled(&mut direction, -share, &pair.change);
        shares.push(share);
    }
    if let Some(last) = history.back() {
        let scale = last.curvature / dot(&last.change, &last.change);
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for (pair, share) in history.iter().zip(shares.into_iter().rev()) {
        let back = dot(&pair.change, &direction) / pair.curvature;
        add_scaled(&mut direction, share - back, &pair.step);
    }
    direction
}

/// Looks for a step, from `first` on, after which both Wolfe conditions hold; the value there, with `trial` left at it. `None`
/// where no step is found that does.
fn wolfe(value: f64, slope: f64, first: f64, trial: &mut impl FnMut(f64) -> (f64, f64)) -> Option<f64> {
    let (mut low, mut high, mut step) = (0.0, f64::INFINITY, first);
    for _ in 0..TRIALS {
        let (reached, reached_slope) = trial(step);
        let is_lower = reached <= value + DECREASE * step * slope;
        let is_flat = reached <= value + ROUNDING * (1.0 + value.abs()) && reached_slope <= (2.0 * DECREASE - 1.0) * slope;
        if !(is_lower || is_flat) {
            high = step;
        } else if reached_slope < CURVATURE * slope {
            low = step;
        } else {
            return Some(reached);
        }
        step = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * step };
    }
    None
}

/// The product of two vectors, in a fixed order of eight partial sums.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f64>() + rest
}

fn add_scaled(to: &mut [f64], scale: f64, values: &[f64]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += scale * value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badly_scaled_valley_is_walked_to_its_floor() {
        // f(x) = sum of w_i (x_i - i)^2 / 2 + log cosh(x_0), with w from 0.1 to 100: not quadratic, condition 1e3.
        let weights: Vec<f64> = (0..20).map(|i| 10_f64.powf(-1.0 + 3.0 * f64::from(i) / 19.0)).collect();
        let mut x = vec![3.0; 20];
        let limits = Limits { iterations: 500, gradient_norm: 1e-9 };
        let mut evaluations = 0;
        let found = minimise(&mut x, limits, |x, gradient| {
            evaluations += 1;
            let mut value = x[0].cosh().ln();
            for (i, (x, w)) in x.iter().zip(&weights).enumerate() {
                gradient[i] = w * (x - i as f64);
                value += 0.5 * w * (x - i as f64).powi(2);
            }
            gradient[0] += x[0].tanh();
            value
        });
        assert!(found.gradient_norm <= 1e-9, "{found:?}");
        for (i, x) in x.iter().enumerate() {
            assert!((x - i as f64).abs() < 1e-7, "coordinate {i} is {x}");
        }
        assert!(evaluations < 4 * found.iterations + 20, "{evaluations} evaluations in {found:?}");
    }

    #[test]
    fn a_start_at_the_minimum_and_a_minimum_below_rounding_end_at_once() {
        let mut x = vec![1.0];
        let limits = Limits { iterations: 100, gradient_norm: 0.0 };
        let square = |x: &[f64], gradient: &mut [f64]| {
            gradient[0] = 2e-9 * (x[0] - 1.0);
            1e9 + 1e-9 * (x[0] - 1.0).powi(2)
        };
        assert_eq!(minimise(&mut x, limits, square), Minimum { iterations: 0, gradient_norm: 0.0 });
        let mut x = vec![5.0];
        let found = minimise(&mut x, limits, square);
        assert!(found.iterations < 20, "{found:?}");
        assert!(x[0].is_finite());
    }
}
