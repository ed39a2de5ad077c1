//! Which samples a score keeps: the best so many, or all from `DataComp`'s threshold on. NaN is no score and is never kept.

/// `share` of `len` samples, rounded down; a product that misses a whole number by the rounding of the share counts as that number.
#[must_use]
pub fn whole_share(len: usize, share: f64) -> usize {
    (len as f64 * share * (1.0 + 4.0 * f64::EPSILON)).floor() as usize
}

/// The `count` best, unordered: the highest score first, the lower index where scores tie; fewer where fewer have a score.
#[must_use]
pub fn top(scores: &[f64], count: usize) -> Vec<u32> {
    let mut ranked: Vec<u32> = (0..scores.len() as u32).filter(|&i| !scores[i as usize].is_nan()).collect();
    if count < ranked.len() {
        // -0.0 and 0.0 tie; `total_cmp` would part them.
        let score = |i: u32| scores[i as usize] + 0.0;
        if count > 0 {
            ranked.select_nth_unstable_by(count - 1, |&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
        }
        ranked.truncate(count);
    }
    ranked
}

/// The threshold that `DataComp` turns a fraction into: the score at place floor(N * fraction) of the scores in descending order,
/// those that are none last; what reaches it is kept. So it keeps at least one more than [`top`] would, and every tie. `None` where
/// there is no such place (a fraction of 1) or no score in it.
///
/// **Source**: `DataComp`'s `get_threshold`.
#[must_use]
pub fn datacomp_threshold(scores: &[f64], fraction: f64) -> Option<f64> {
    let place = (scores.len() as f64 * fraction) as usize;
    let mut known: Vec<f64> = scores.iter().copied().filter(|score| !score.is_nan()).collect();
    if place >= known.len() {
        return None;
    }
    let (_, threshold, _) = known.select_nth_unstable_by(place, |a, b| b.total_cmp(a));
    Some(*threshold)
}
