//! Student's t and what is made of p values.
//!
//! Owns the tails and quantiles that comparisons need, and Holm's procedure. Invariant: pure functions of their arguments; degrees
//! of freedom are any number of one or more, whole or not, and infinity is the normal distribution.

use statrs::distribution::{Continuous, ContinuousCDF, Normal, StudentsT};

/// Degrees of freedom from which on t is a function of a normal value, to nine digits.
const NEARLY_NORMAL: f64 = 1e4;

/// The value that a t-distributed one exceeds with probability `tail`, which lies between 0 and a half.
pub(super) fn quantile(tail: f64, degrees: f64) -> f64 {
    let z = -Normal::standard().inverse_cdf(tail);
    match student(degrees) {
        Some(student) => {
            // The tail is convex above zero and t lies beyond z, so that Newton's steps from z never go too far.
            let mut t = z;
            for _ in 0..100 {
                let step = (student.sf(t) - tail) / student.pdf(t);
                t += step;
                if step.abs() <= 1e-13 * t {
                    break;
                }
            }
            t
        }
        None if degrees.is_infinite() => z,
        None => (degrees * ((z * wallace(degrees)).powi(2) / degrees).exp_m1()).sqrt(),
    }
}

/// The probability that a t-distributed value exceeds `t`.
pub(super) fn tail(t: f64, degrees: f64) -> f64 {
    match student(degrees) {
        Some(student) => student.sf(t),
        None if degrees.is_infinite() => Normal::standard().sf(t),
        None => Normal::standard().sf((degrees * (t * t / degrees).ln_1p()).sqrt().copysign(t) / wallace(degrees)),
    }
}

fn student(degrees: f64) -> Option<StudentsT> {
    (degrees < NEARLY_NORMAL).then(|| StudentsT::new(0.0, 1.0, degrees).expect("degrees of freedom are above zero"))
}

/// What the normal value that goes with t, sqrt(degrees ln(1 + t^2 / degrees)), is divided by.
///
/// **Source** Wallace 1959.
fn wallace(degrees: f64) -> f64 {
    (8.0 * degrees + 3.0) / (8.0 * degrees + 1.0)
}

/// Which of these p values are below `level` after Holm's correction, that all of them together are wrong in no more than
/// `level`.
///
/// **Source** Holm 1979: from the smallest on, the j-th of k is compared with level / (k - j + 1), up to the first that is above.
#[expect(clippy::cast_precision_loss, reason = "numbers of comparisons")]
pub(super) fn holm(p_values: &[f64], level: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut below = vec![false; p_values.len()];
    for (place, idx) in order.into_iter().enumerate() {
        if p_values[idx] * (p_values.len() - place) as f64 > level {
            break;
        }
        below[idx] = true;
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_agree_with_printed_tables() {
        // Two-sided critical values of Student's t as printed in statistical tables.
        let table = [
            (0.95, 1.0, 12.706_205),
            (0.95, 2.0, 4.302_653),
            (0.95, 3.0, 3.182_446),
            (0.95, 4.0, 2.776_445),
            (0.95, 10.0, 2.228_139),
            (0.95, 30.0, 2.042_272),
            (0.90, 5.0, 2.015_048),
            (0.99, 1.0, 63.656_741),
            (0.99, 2.0, 9.924_843),
            (0.99, 20.0, 2.845_340),
            (0.95, 9999.0, 1.960_201_26),
            (0.95, 10_001.0, 1.960_201_22),
            (0.95, 1e7, 1.959_964),
            (0.95, 1e12, 1.959_964),
            (0.95, f64::INFINITY, 1.959_964),
            (0.50, 1.0, 1.0),
        ];
        for (confidence, degrees, expected) in table {
            let upper = f64::midpoint(1.0, -confidence);
            let t = quantile(upper, degrees);
            assert!((t - expected).abs() < 2e-6 * expected, "{confidence} {degrees}: {t} is not {expected}");
            assert!((tail(t, degrees) - upper).abs() < 1e-9, "{confidence} {degrees}");
            assert!((tail(-t, degrees) - (1.0 - upper)).abs() < 1e-9, "{confidence} {degrees}");
        }
    }

    #[test]
    fn broken_degrees_of_freedom_lie_between_their_neighbours() {
        let t = quantile(0.025, 2.5);
        assert!(t < quantile(0.025, 2.0) && t > quantile(0.025, 3.0), "{t}");
    }

    #[test]
    fn holm_stops_at_the_first_that_is_too_large() {
        // 0.01 * 4, 0.013 * 3 and 0.02 * 2 are at most 0.04; 0.05 is not. With 0.03 in its place, nothing after it counts.
        assert_eq!(holm(&[0.05, 0.01, 0.02, 0.013], 0.04), [false, true, true, true]);
        assert_eq!(holm(&[0.001, 0.03, 0.03, 0.03], 0.04), [true, false, false, false]);
        assert_eq!(holm(&[], 0.05), Vec::<bool>::new());
    }
}
