//! Shard patterns: `a/{00000..00006}.tar::b/{x,y}.tar` to the paths that they name, in the order written.

/// More paths than this are taken for a slip of the pen.
pub(super) const MAX_PATHS: usize = 1_000_000;

/// Expands a pattern, `max` paths at most; with `max` 0 it is only checked, by the number of paths that it names.
pub(super) fn expand(pattern: &str, max: usize) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for part in split_patterns(pattern) {
        if part.is_empty() {
            return Err("an empty path between `::`".to_owned());
        }
        if part.contains("://") || part.starts_with("pipe:") {
            return Err(format!("`{part}` is not a local file; only local files are read"));
        }
        let pieces = pieces(part)?;
        let total = pieces.iter().try_fold(1_usize, |n, p| n.checked_mul(p.len())).unwrap_or(usize::MAX);
        if total > MAX_PATHS || out.len() + total > MAX_PATHS {
            return Err(format!("it names more than {MAX_PATHS} paths"));
        }
        if max > 0 {
            product(&pieces, String::new(), &mut out);
        }
    }
    Ok(out)
}

/// The patterns between `::`.
pub(super) fn split_patterns(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split("::")
}

fn product(pieces: &[Vec<String>], head: String, out: &mut Vec<String>) {
    let Some((first, rest)) = pieces.split_first() else {
        out.push(head);
        return;
    };
    for choice in first {
        product(rest, format!("{head}{choice}"), out);
    }
}

/// Each piece of a pattern with its alternatives.
fn pieces(pattern: &str) -> Result<Vec<Vec<String>>, String> {
    let mut out = Vec::new();
    let mut rest = pattern;
    while let Some(open) = rest.find(['{', '}']) {
        if rest[open..].starts_with('}') {
            return Err("a `}` without its `{`".to_owned());
        }
        let close = rest[open..].find('}').ok_or("a `{` that is not closed")? + open;
        let inner = &rest[open + 1..close];
        if inner.contains('{') {
            return Err("braces inside braces are not read".to_owned());
        }
        out.push(vec![rest[..open].to_owned()]);
        out.push(alternatives(inner)?);
        rest = &rest[close + 1..];
    }
    out.push(vec![rest.to_owned()]);
    Ok(out)
}

fn alternatives(inner: &str) -> Result<Vec<String>, String> {
    let Some((from, to)) = inner.split_once("..") else {
        return Ok(inner.split(',').map(str::to_owned).collect());
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("range `{{{inner}}}` needs a number on both sides of `..`"));
    let (first, last) = (number(from)?, number(to)?);
    if last < first {
        return Err(format!("range `{{{inner}}}` runs backwards"));
    }
    if last - first >= MAX_PATHS as u64 {
        return Err(format!("it names more than {MAX_PATHS} paths"));
    }
    let width = if from.starts_with('0') || to.starts_with('0') { from.len() } else { 0 };
    Ok((first..=last).map(|n| format!("{n:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pattern: &str) -> Result<Vec<String>, String> {
        expand(pattern, MAX_PATHS)
    }

    #[test]
    fn ranges_keep_their_zeros_and_patterns_their_order() {
        let expected = ["a/00008.tar", "a/00009.tar", "a/00010.tar", "b/x.tar", "b/y.tar", "c.tar"];
        assert_eq!(all("a/{00008..00010}.tar::b/{x,y}.tar::c.tar"), Ok(expected.map(str::to_owned).to_vec()));
        assert_eq!(all("{9..10}{a,b}"), Ok(["9a", "9b", "10a", "10b"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn patterns_that_cannot_be_read_say_why() {
        for (pattern, why) in [
            ("a/{0..", "not closed"),
            ("a}", "without its"),
            ("{3..1}.tar", "backwards"),
            ("{a..c}", "needs a number"),
            ("a::", "empty path"),
            ("s3://x/a.tar", "only local"),
            ("{0..99999999}", "more than"),
            ("{0..9999}{0..9999}", "more than"),
            ("{a,{b,c}}", "inside braces"),
        ] {
            let error = all(pattern).expect_err(pattern);
            assert!(error.contains(why), "{pattern}: {error}");
        }
    }
}
