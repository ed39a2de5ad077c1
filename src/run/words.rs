//! Numbers with their nouns, as messages write them.

/// `1 point`, `2 points`: a number with its noun, which takes an `s` in the plural.
#[must_use]
pub fn counted<N: TryInto<u64> + Copy>(number: N, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_singular_and_all_else_plural() {
        assert_eq!([0_usize, 1, 2].map(|n| counted(n, "seed")), ["0 seeds", "1 seed", "2 seeds"]);
    }
}
