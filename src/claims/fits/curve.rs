//! Saturating power laws and their least squares.
//!
//! Owns [`Curve`], e(x) = e_inf + Σ_t a_t x_t^-b_t over one amount or two, and [`least_squares`]. Method: the power of each term is
//! looked for on a grid, where e_inf and the a_t are a linear problem, and the best is refined by Levenberg-Marquardt in e_inf, ln a_t
//! and ln b_t, amounts being divided by their geometric mean. Invariant: e_inf >= 0, a_t > 0; pure, and by `libm` alone, so the same
//! points give the same bits everywhere. Must not know: where points come from.

use super::refusal::Refusal;

/// Most terms of a curve.
pub const MAX_TERMS: usize = 2;
/// Most parameters: e_inf, and a and b of each term.
const MAX_PARAMS: usize = 1 + 2 * MAX_TERMS;
/// Powers that a term can have.
const POWERS: (f64, f64) = (0.01, 10.0);
/// Powers of a term at which a search begins, from `POWERS.0 * 2` to `POWERS.1 / 2`.
const STARTS: usize = 20;

/// a x^-b.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Term {
    /// The error above e_inf at x = 1.
    pub scale: f64,
    /// How fast it falls.
    pub power: f64,
}

/// e(x) = e_inf + Σ_t a_t x_t^-b_t.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// The error that no amount goes below.
    pub floor: f64,
    terms: [Term; MAX_TERMS],
    num_terms: usize,
}

impl Curve {
    /// A curve of these terms, two at most.
    #[must_use]
    pub fn new(floor: f64, terms: &[Term]) -> Self {
        let num_terms = terms.len().min(MAX_TERMS);
        let mut all = [Term::default(); MAX_TERMS];
        all[..num_terms].copy_from_slice(&terms[..num_terms]);
        Self { floor, terms: all, num_terms }
    }

    /// Its terms, one an amount.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms[..self.num_terms]
    }

    /// The error at these amounts, one a term.
    #[must_use]
    pub fn at(&self, amounts: &[f64]) -> f64 {
        self.floor + self.terms().iter().zip(amounts).map(|(term, x)| term.scale * libm::pow(*x, -term.power)).sum::<f64>()
    }
}

/// A point that a curve should go through.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Amounts, all above zero, one a term.
    pub at: Vec<f64>,
    /// The error there.
    pub error: f64,
    /// How many runs it stands for.
    pub weight: f64,
}

/// The curve of least squares, and whether e_inf was held at zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    pub curve: Curve,
    pub is_at_zero: bool,
}

/// The curve with the least weighted sum of squares through the points, whose amounts are more than its parameters.
///
/// # Errors
/// Where nothing falls, or the search does not end inside the powers that a term can have.
pub fn least_squares(points: &[Point]) -> Result<Fitted, Refusal> {
    let problem = Problem::new(points);
    let start = problem.start().ok_or(Refusal::Rises)?;
    let (theta, is_at_zero) = problem.refine(start);
    let fitted = Fitted { curve: problem.curve(&theta), is_at_zero };
    let is_finite = theta[..problem.num_params()].iter().all(|value| value.is_finite());
    let at_end = |term: &Term| term.power <= POWERS.0 * 1.01 || term.power >= POWERS.1 * 0.99;
    match is_finite {
        false => Err(Refusal::NoEnd),
        true if fitted.curve.terms().iter().any(at_end) => Err(Refusal::PowerAtEnd { least: POWERS.0, most: POWERS.1 }),
        true if !is_at_zero && problem.is_singular(&theta) => Err(Refusal::Singular),
        true => Ok(fitted),
    }
}

/// The same from a curve that is near, for points that have moved a little; `None` where it leads nowhere.
pub fn refit(points: &[Point], near: &Curve) -> Option<Curve> {
    let problem = Problem::new(points);
    let (theta, _) = problem.refine(problem.parameters(near));
    let curve = problem.curve(&theta);
    let numbers = || curve.terms().iter().flat_map(|term| [term.scale, term.power]).chain([curve.floor]);
    numbers().all(f64::is_finite).then_some(curve)
}

/// e_inf, then ln a and ln b of each term; entries beyond are zero.
type Theta = [f64; MAX_PARAMS];
/// A system of equations for them.
type Matrix = [[f64; MAX_PARAMS]; MAX_PARAMS];

/// Points in the form that a search works on.
struct Problem {
    num_terms: usize,
    /// Geometric mean of each amount.
    middles: [f64; MAX_TERMS],
    /// Logarithms of the amounts over their middles.
    logs: Vec<[f64; MAX_TERMS]>,
    errors: Vec<f64>,
    weights: Vec<f64>,
}

impl Problem {
    #[expect(clippy::cast_precision_loss, reason = "numbers of points")]
    fn new(points: &[Point]) -> Self {
        let num_terms = points.first().map_or(0, |point| point.at.len()).min(MAX_TERMS);
        let mut middles = [1.0; MAX_TERMS];
        for (term_idx, middle) in middles.iter_mut().enumerate().take(num_terms) {
            *middle = libm::exp(points.iter().map(|point| libm::log(point.at[term_idx])).sum::<f64>() / points.len() as f64);
        }
        let logs = |point: &Point| {
            let mut logs = [0.0; MAX_TERMS];
            (0..num_terms).for_each(|idx| logs[idx] = libm::log(point.at[idx] / middles[idx]));
            logs
        };
        Self {
            num_terms,
            middles,
            logs: points.iter().map(logs).collect(),
            errors: points.iter().map(|point| point.error).collect(),
            weights: points.iter().map(|point| point.weight).collect(),
        }
    }

    fn num_params(&self) -> usize {
        1 + 2 * self.num_terms
    }

    fn curve(&self, theta: &Theta) -> Curve {
        let term = |idx: usize| {
            let power = libm::exp(theta[2 + 2 * idx]);
            Term { scale: libm::exp(theta[1 + 2 * idx] + power * libm::log(self.middles[idx])), power }
        };
        Curve::new(theta[0], &(0..self.num_terms).map(term).collect::<Vec<_>>())
    }

    fn parameters(&self, curve: &Curve) -> Theta {
        let mut theta = [0.0; MAX_PARAMS];
        theta[0] = curve.floor;
        for (idx, term) in curve.terms().iter().enumerate() {
            theta[1 + 2 * idx] = libm::log(term.scale) - term.power * libm::log(self.middles[idx]);
            theta[2 + 2 * idx] = libm::log(term.power);
        }
        theta
    }

    /// The best parameters on a grid of powers; `None` where no falling curve fits better than a level one.
    fn start(&self) -> Option<Theta> {
        let step = libm::log(POWERS.1 / POWERS.0 / 4.0) / (to_float(STARTS) - 1.0);
        let ln_power = |idx: usize| libm::log(2.0 * POWERS.0) + step * to_float(idx);
        let second = if self.num_terms > 1 { STARTS } else { 1 };
        let mut best: Option<(f64, Theta)> = None;
        for (i, j) in (0..STARTS).flat_map(|i| (0..second).map(move |j| (i, j))) {
            let Some(theta) = self.at_powers([ln_power(i), ln_power(j)]) else { continue };
            let squares = self.squares(&theta);
            if best.as_ref().is_none_or(|(least, _)| squares < *least) {
                best = Some((squares, theta));
            }
        }
        best.map(|(_, theta)| theta)
    }

    /// e_inf and the scales that go best with these powers; `None` where a scale is not above zero.
    fn at_powers(&self, ln_powers: [f64; MAX_TERMS]) -> Option<Theta> {
        let solve = |with_floor: bool| {
            let first = usize::from(with_floor);
            let n = first + self.num_terms;
            let (mut matrix, mut right): (Matrix, Theta) = ([[0.0; MAX_PARAMS]; MAX_PARAMS], [0.0; MAX_PARAMS]);
            for ((logs, error), weight) in self.logs.iter().zip(&self.errors).zip(&self.weights) {
                let mut row = [1.0; MAX_PARAMS];
                (0..self.num_terms).for_each(|idx| row[first + idx] = libm::exp(-libm::exp(ln_powers[idx]) * logs[idx]));
                for i in 0..n {
                    right[i] += weight * row[i] * error;
                    (0..n).for_each(|j| matrix[i][j] += weight * row[i] * row[j]);
                }
            }
            solved(&matrix, &right, n)
        };
        let free = solve(true)?;
        let (floor, scales) = match free[0] >= 0.0 {
            true => (free[0], &free[1..]),
            false => (0.0, &solve(false)?[..]),
        };
        let mut theta = [0.0; MAX_PARAMS];
        theta[0] = floor;
        for idx in 0..self.num_terms {
            if scales[idx] <= 0.0 {
                return None;
            }
            theta[1 + 2 * idx] = libm::log(scales[idx]);
            theta[2 + 2 * idx] = ln_powers[idx];
        }
        Some(theta)
    }

    /// Refines parameters; where e_inf would fall below zero it is held there. Says whether it was.
    fn refine(&self, start: Theta) -> (Theta, bool) {
        let free = self.descend(start, false);
        if free[0] > 0.0 {
            return (free, false);
        }
        (self.descend(at_zero(start), true), true)
    }

    /// Levenberg-Marquardt, with e_inf held where it is if so asked.
    fn descend(&self, mut theta: Theta, is_floor_held: bool) -> Theta {
        const MOST_STEPS: usize = 300;
        let (ends, n) = ([libm::log(POWERS.0), libm::log(POWERS.1)], self.num_params());
        let mut squares = self.squares(&theta);
        let mut damping = 1e-3;
        for _ in 0..MOST_STEPS {
            let (matrix, right) = self.normal_equations(&theta, is_floor_held);
            let mut damped = matrix;
            (0..n).for_each(|i| damped[i][i] += damping * matrix[i][i].max(1e-300));
            let Some(step) = solved(&damped, &right, n) else {
                damping *= 10.0;
                if damping > 1e12 {
                    break;
                }
                continue;
            };
            let mut next = theta;
            (0..n).for_each(|i| next[i] += step[i]);
            (0..self.num_terms).for_each(|idx| next[2 + 2 * idx] = next[2 + 2 * idx].clamp(ends[0], ends[1]));
            let there = self.squares(&next);
            if there <= squares {
                let is_done = squares - there <= 1e-15 * squares && (0..n).all(|i| step[i].abs() <= 1e-9 * (1.0 + theta[i].abs()));
                (theta, squares) = (next, there);
                damping = (damping / 8.0).max(1e-14);
                if is_done {
                    break;
                }
            } else {
                damping *= 5.0;
                if damping > 1e12 {
                    break;
                }
            }
        }
        theta
    }

    /// The error at a point and its slopes by the parameters.
    fn at(&self, theta: &Theta, logs: &[f64; MAX_TERMS]) -> (f64, Theta) {
        let mut slopes = [0.0; MAX_PARAMS];
        slopes[0] = 1.0;
        let mut error = theta[0];
        for idx in 0..self.num_terms {
            let power = libm::exp(theta[2 + 2 * idx]);
            let term = libm::exp(theta[1 + 2 * idx] - power * logs[idx]);
            error += term;
            slopes[1 + 2 * idx] = term;
            slopes[2 + 2 * idx] = -term * logs[idx] * power;
        }
        (error, slopes)
    }

    fn squares(&self, theta: &Theta) -> f64 {
        let points = self.logs.iter().zip(&self.errors).zip(&self.weights);
        points.map(|((logs, error), weight)| weight * (error - self.at(theta, logs).0).powi(2)).sum()
    }

    fn normal_equations(&self, theta: &Theta, is_floor_held: bool) -> (Matrix, Theta) {
        let n = self.num_params();
        let (mut matrix, mut right): (Matrix, Theta) = ([[0.0; MAX_PARAMS]; MAX_PARAMS], [0.0; MAX_PARAMS]);
        for ((logs, error), weight) in self.logs.iter().zip(&self.errors).zip(&self.weights) {
            let (expected, mut slopes) = self.at(theta, logs);
            if is_floor_held {
                slopes[0] = 0.0;
            }
            for i in 0..n {
                right[i] += weight * slopes[i] * (error - expected);
                (0..n).for_each(|j| matrix[i][j] += weight * slopes[i] * slopes[j]);
            }
        }
        if is_floor_held {
            matrix[0][0] = 1.0;
        }
        (matrix, right)
    }

    /// Whether parameters stand for one another: the slopes of the points by them, each to length 1, leave less than a millionth of
    /// one over once the others are taken out.
    fn is_singular(&self, theta: &Theta) -> bool {
        let n = self.num_params();
        let (matrix, _) = self.normal_equations(theta, false);
        let mut scaled = matrix;
        for i in 0..n {
            (0..n).for_each(|j| scaled[i][j] = matrix[i][j] / (matrix[i][i] * matrix[j][j]).sqrt());
        }
        pivots(&mut scaled, n).is_none_or(|least| least < 1e-12)
    }
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn to_float(count: usize) -> f64 {
    count as f64
}

/// Factors a symmetric matrix in place, as Cholesky; the smallest pivot, `None` where one is not above zero.
fn pivots(matrix: &mut Matrix, n: usize) -> Option<f64> {
    let mut least = f64::INFINITY;
    for i in 0..n {
        for j in 0..=i {
            let inner: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let rest = matrix[i][j] - inner;
            if i == j {
                if rest.is_nan() || rest <= 0.0 {
                    return None;
                }
                least = least.min(rest);
                matrix[i][i] = rest.sqrt();
            } else {
                matrix[i][j] = rest / matrix[j][j];
            }
        }
    }
    Some(least)
}

/// The solution of a symmetric, positive definite system of the first n unknowns.
fn solved(matrix: &Matrix, right: &Theta, n: usize) -> Option<Theta> {
    let mut lower = *matrix;
    pivots(&mut lower, n)?;
    let mut out = *right;
    for i in 0..n {
        let inner: f64 = (0..i).map(|k| lower[i][k] * out[k]).sum();
        out[i] = (out[i] - inner) / lower[i][i];
    }
    for i in (0..n).rev() {
        let inner: f64 = (i + 1..n).map(|k| lower[k][i] * out[k]).sum();
        out[i] = (out[i] - inner) / lower[i][i];
    }
    Some(out)
}

/// The same with e_inf at zero.
fn at_zero(mut theta: Theta) -> Theta {
    theta[0] = 0.0;
    theta
}
