//! Shard lists as users write them: `a/{00000..00006}.tar::b/{x,y}.tar`.
//!
//! Input: text, environment already substituted. Output: paths in the order written. Invariant: pure; nothing is looked up.

use super::super::{DataError, DataResult};

/// Paths that one list may expand to.
const MAX_PATHS: usize = 10_000_000;

/// Expands `::` and then braces as a shell does: ranges `{a..b}` and `{a..b..step}` (zero padding kept, downwards too), lists
/// `{x,y}`, nested and side by side. Braces that hold neither stay as they are.
///
/// **Errors**: an unclosed brace, a step of zero, a list of more than ten million paths, an empty part.
pub fn expand_shards(list: &str) -> DataResult<Vec<String>> {
    let fail = |what: &str| DataError::Braces { list: list.to_owned(), what: what.to_owned() };
    let mut paths = Vec::new();
    for part in list.split("::") {
        if part.is_empty() {
            return Err(fail("a part between `::` is empty"));
        }
        paths.extend(expand(part).map_err(fail)?);
        if paths.len() > MAX_PATHS {
            return Err(fail("more than ten million paths"));
        }
    }
    Ok(paths)
}

/// Expands the first brace of a text and what follows it.
fn expand(text: &str) -> Result<Vec<String>, &'static str> {
    let Some(open) = text.find('{') else { return Ok(vec![text.to_owned()]) };
    let close = open + matching(&text[open..]).ok_or("a `{` is not closed")?;
    let (head, inside) = (&text[..open], &text[open + 1..close]);
    let tails = expand(&text[close + 1..])?;
    let middles = match range(inside)? {
        Some(numbers) => numbers,
        None => {
            let items = split_top(inside);
            let expanded: Vec<Vec<String>> = items.iter().map(|item| expand(item)).collect::<Result<_, _>>()?;
            let all = expanded.concat();
            if items.len() == 1 { all.into_iter().map(|item| format!("{{{item}}}")).collect() } else { all }
        }
    };
    if middles.len().saturating_mul(tails.len()) > MAX_PATHS {
        return Err("more than ten million paths");
    }
    Ok(middles.iter().flat_map(|middle| tails.iter().map(move |tail| format!("{head}{middle}{tail}"))).collect())
}

/// Offset of the brace that closes the one at the start.
fn matching(text: &str) -> Option<usize> {
    let mut depth = 0usize;
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
    let (mut items, mut depth, mut from) = (Vec::new(), 0usize, 0);
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

/// `a..b` or `a..b..step`, zero-padded to the widest end where one is written with leading zeros.
fn range(text: &str) -> Result<Option<Vec<String>>, &'static str> {
    let parts: Vec<&str> = text.split("..").collect();
    let (2 | 3) = parts.len() else { return Ok(None) };
    let Some(numbers) = parts.iter().map(|part| part.parse::<i64>().ok()).collect::<Option<Vec<i64>>>() else { return Ok(None) };
    let (from, to) = (numbers[0], numbers[1]);
    let step = numbers.get(2).map_or(1, |step| step.unsigned_abs());
    if step == 0 {
        return Err("a step of zero");
    }
    if from.abs_diff(to) / step >= MAX_PATHS as u64 {
        return Err("more than ten million paths");
    }
    let is_padded = |part: &str| part.trim_start_matches('-').starts_with('0') && part.trim_start_matches('-').len() > 1;
    let width = if parts[..2].iter().any(|part| is_padded(part)) { parts[0].len().max(parts[1].len()) } else { 0 };
    let count = from.abs_diff(to) / step;
    let sign = if from <= to { 1 } else { -1 };
    let number = |i: u64| from + sign * (i * step) as i64;
    Ok(Some((0..=count).map(|i| format!("{:0width$}", number(i))).collect()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn expanded(list: &str) -> String {
        expand_shards(list).unwrap().join(" ")
    }

    #[test]
    fn ranges_keep_their_zero_padding_and_may_step_or_descend() {
        assert_eq!(expanded("d/{00098..00101}.tar"), "d/00098.tar d/00099.tar d/00100.tar d/00101.tar");
        assert_eq!(expanded("{8..11}"), "8 9 10 11");
        assert_eq!(expanded("{0..10..4}"), "0 4 8");
        assert_eq!(expanded("{3..1}"), "3 2 1");
        assert_eq!(expanded("{01..3}"), "01 02 03");
        assert_eq!(expanded("{-1..1}"), "-1 0 1");
    }

    #[test]
    fn lists_nest_and_multiply_in_the_order_written() {
        assert_eq!(expanded("{a,b}/{0..1}.tar"), "a/0.tar a/1.tar b/0.tar b/1.tar");
        assert_eq!(expanded("{a,{b,c}x,{1..2}}"), "a bx cx 1 2");
        assert_eq!(expanded("x{,.bak}"), "x x.bak");
        assert_eq!(expanded("a/{0..1}.tar::b/{x,y}.tar"), "a/0.tar a/1.tar b/x.tar b/y.tar");
    }

    #[test]
    fn other_braces_stay_and_broken_ones_are_refused() {
        assert_eq!(expanded("{a}/{}{a..z}"), "{a}/{}{a..z}");
        for broken in ["a{0..1", "{{0..1}", "{0..4..0}", "a::", "{0..99999999}", "{0..9999}{0..9999}"] {
            assert!(matches!(expand_shards(broken), Err(DataError::Braces { .. })), "{broken}");
        }
    }
}
