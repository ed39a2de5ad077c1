//! Shard patterns: `a/{00000..00006}.tar::b/{x,y}.tar` to the paths that they name, in the order written.
//!
//! Input: text, environment already substituted. Output: paths. Invariant: pure; what a path with `*` or a folder matches is
//! looked up later. How many paths there are is known before one of them is made.
//!
//! **Source**: bash's brace expansion, which Python's `braceexpand` follows: ranges of numbers `{a..b}` and `{a..b..step}` (zero
//! padding kept, downwards too) and of letters, lists `{x,y}`, nested and side by side; braces that hold neither stay as they
//! are. **Differs**: what can only be a slip is an error (a brace without its other half, a range that is none, a step of 0).

/// More paths than this are taken for a slip of the pen.
pub(super) const MAX_PATHS: usize = 1_000_000;
/// Braces within braces.
const MAX_DEPTH: usize = 32;

/// Expands a pattern, `max` paths at most; with `max` 0 it is only checked, by the number of paths that it names.
pub(super) fn expand(pattern: &str, max: usize) -> Result<Vec<String>, String> {
    let (mut out, mut total) = (Vec::new(), 0_usize);
    for part in split_patterns(pattern) {
        if part.is_empty() {
            return Err("an empty path between `::`".to_owned());
        }
        if part.contains("://") || part.starts_with("pipe:") {
            return Err(format!("`{part}` is not a local file; only local files are read"));
        }
        let pieces = pieces(part, 0)?;
        total = total.saturating_add(count(&pieces));
        if total > MAX_PATHS {
            return Err(format!("it names more than {MAX_PATHS} paths"));
        }
        if max > 0 {
            out.extend(product(&pieces));
        }
    }
    Ok(out)
}

/// The patterns between `::`.
pub(super) fn split_patterns(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split("::")
}

/// A part of a pattern.
enum Piece {
    Text(String),
    /// Numbers from, to, by, and the width that zeros fill.
    Numbers(i64, i64, u64, usize),
    /// Letters from, to, by.
    Letters(u8, u8, u8),
    /// Alternatives, each a pattern.
    Any(Vec<Vec<Piece>>),
}

/// Paths that pieces side by side name.
fn count(pieces: &[Piece]) -> usize {
    let one = |piece: &Piece| match piece {
        Piece::Text(_) => 1,
        Piece::Numbers(from, to, step, _) => usize::try_from(from.abs_diff(*to) / step).unwrap_or(usize::MAX).saturating_add(1),
        Piece::Letters(from, to, step) => usize::from(from.abs_diff(*to) / step) + 1,
        Piece::Any(alternatives) => alternatives.iter().map(|pieces| count(pieces)).fold(0, usize::saturating_add),
    };
    pieces.iter().map(one).fold(1, usize::saturating_mul)
}

fn product(pieces: &[Piece]) -> Vec<String> {
    let mut heads = vec![String::new()];
    for piece in pieces {
        let texts = texts(piece);
        heads = heads.iter().flat_map(|head| texts.iter().map(move |text| format!("{head}{text}"))).collect();
    }
    heads
}

fn texts(piece: &Piece) -> Vec<String> {
    match piece {
        Piece::Text(text) => vec![text.clone()],
        Piece::Numbers(from, to, step, width) => {
            let number = |i: u64| {
                let offset = i128::from(i) * i128::from(*step);
                if from <= to { i128::from(*from) + offset } else { i128::from(*from) - offset }
            };
            (0..=from.abs_diff(*to) / step).map(|i| format!("{:0width$}", number(i))).collect()
        }
        Piece::Letters(from, to, step) => {
            let letter = |i: u8| char::from(if from <= to { from + i * step } else { from - i * step });
            (0..=from.abs_diff(*to) / step).map(|i| letter(i).to_string()).collect()
        }
        Piece::Any(alternatives) => alternatives.iter().flat_map(|pieces| product(pieces)).collect(),
    }
}

/// The pieces of a pattern.
fn pieces(pattern: &str, depth: usize) -> Result<Vec<Piece>, String> {
    if depth > MAX_DEPTH {
        return Err(format!("more than {MAX_DEPTH} braces within each other"));
    }
    let (mut out, mut rest) = (Vec::new(), pattern);
    while let Some(open) = rest.find(['{', '}']) {
        if rest[open..].starts_with('}') {
            return Err("a `}` without its `{`".to_owned());
        }
        let close = open + matching(&rest[open..]).ok_or("a `{` that is not closed")?;
        out.push(Piece::Text(rest[..open].to_owned()));
        let inner = &rest[open + 1..close];
        match range(inner)? {
            Some(range) => out.push(range),
            None => {
                let items = split_top(inner);
                let is_list = items.len() > 1;
                let alternatives = items.iter().map(|item| pieces(item, depth + 1)).collect::<Result<Vec<_>, String>>()?;
                if is_list {
                    out.push(Piece::Any(alternatives));
                } else {
                    out.push(Piece::Text("{".to_owned()));
                    out.extend(alternatives.into_iter().flatten());
                    out.push(Piece::Text("}".to_owned()));
                }
            }
        }
        rest = &rest[close + 1..];
    }
    out.push(Piece::Text(rest.to_owned()));
    Ok(out)
}

/// Offset of the brace that closes the one at the start.
fn matching(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Splits at commas outside inner braces.
fn split_top(text: &str) -> Vec<&str> {
    let (mut items, mut depth, mut from) = (Vec::new(), 0_usize, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                items.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    items.push(&text[from..]);
    items
}

/// `a..b` or `a..b..step`; `None` for what is not written as a range.
fn range(inner: &str) -> Result<Option<Piece>, String> {
    let parts: Vec<&str> = inner.split("..").collect();
    if parts.len() < 2 || inner.contains(['{', '}', ',']) {
        return Ok(None);
    }
    let wrong = || format!("range `{{{inner}}}` needs a number, or a letter, on both sides of `..`");
    let [from, to, ref step @ ..] = parts[..] else { return Err(wrong()) };
    let step = match step {
        [] => 1,
        [step] => step.parse::<i64>().map_err(|_| wrong())?.unsigned_abs(),
        _ => return Err(wrong()),
    };
    if step == 0 {
        return Err(format!("range `{{{inner}}}` has a step of 0"));
    }
    if let (&[first], &[last]) = (from.as_bytes(), to.as_bytes())
        && first.is_ascii_alphabetic()
        && last.is_ascii_alphabetic()
    {
        return Ok(Some(Piece::Letters(first, last, u8::try_from(step).unwrap_or(u8::MAX))));
    }
    let (Ok(first), Ok(last)) = (from.parse::<i64>(), to.parse::<i64>()) else { return Err(wrong()) };
    let is_padded = |part: &str| part.trim_start_matches('-').len() > 1 && part.trim_start_matches('-').starts_with('0');
    let width = if is_padded(from) || is_padded(to) { from.len().max(to.len()) } else { 0 };
    Ok(Some(Piece::Numbers(first, last, step, width)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pattern: &str) -> Result<String, String> {
        expand(pattern, MAX_PATHS).map(|paths| paths.join(" "))
    }

    #[test]
    fn ranges_keep_their_zeros_and_patterns_their_order() {
        for (pattern, paths) in [
            ("a/{00008..00010}.tar::b/{x,y}.tar::c.tar", "a/00008.tar a/00009.tar a/00010.tar b/x.tar b/y.tar c.tar"),
            ("{9..10}{a,b}", "9a 9b 10a 10b"),
            ("{0..10..4}", "0 4 8"),
            ("{3..1}", "3 2 1"),
            ("{01..3}", "01 02 03"),
            ("{-1..1}", "-1 0 1"),
            ("{a..e..2}{C..A}", "aC aB aA cC cB cA eC eB eA"),
        ] {
            assert_eq!(all(pattern), Ok(paths.to_owned()), "{pattern}");
        }
    }

    #[test]
    fn lists_nest_and_multiply_and_other_braces_stay() {
        for (pattern, paths) in [
            ("{a,b}/{0..1}.tar", "a/0.tar a/1.tar b/0.tar b/1.tar"),
            ("{a,{b,c}x,{1..2}}", "a bx cx 1 2"),
            ("x{,.bak}", "x x.bak"),
            ("{a}/{}", "{a}/{}"),
            ("{{0..1}}", "{0} {1}"),
        ] {
            assert_eq!(all(pattern), Ok(paths.to_owned()), "{pattern}");
        }
    }

    #[test]
    fn patterns_that_cannot_be_read_say_why() {
        let deep = format!("{}a{}", "{x,".repeat(200), "}".repeat(200));
        for (pattern, why) in [
            ("a/{0..", "not closed"),
            ("{{0..1}", "not closed"),
            ("a}", "without its"),
            ("{a..3}", "needs a number"),
            ("{1..2..3..4}", "needs a number"),
            ("{0..4..0}", "step of 0"),
            ("a::", "empty path"),
            ("s3://x/a.tar", "only local"),
            ("{0..999999999}", "more than"),
            ("{0..9223372036854775807}{0..9223372036854775807}", "more than"),
            ("{-9223372036854775808..9223372036854775807}", "more than"),
            ("{0..9999}{0..9999}", "more than"),
            ("{0..600000}::{0..600000}", "more than"),
            (deep.as_str(), "within each other"),
        ] {
            for max in [0, MAX_PATHS] {
                let error = expand(pattern, max).expect_err(pattern);
                assert!(error.contains(why), "{pattern}: {error}");
            }
        }
    }
}
