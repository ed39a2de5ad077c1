//! Amounts as they are typed in the command line.

use std::time::Duration;

/// A number above zero.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number above zero, such as `35`".into()),
    }
}

/// `90s`, `20m`, `2h`, `1h30m`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| format!("found `{text}`, expected a time such as 90s, 20m or 1h30m"))?;
        let (factor, unit) = match tail.as_bytes().first() {
            Some(b's') => (1.0, 1),
            Some(b'm') => (60.0, 1),
            Some(b'h') => (3600.0, 1),
            None => (1.0, 0),
            Some(_) => return Err(format!("found unit `{tail}`, expected s, m or h")),
        };
        seconds += number * factor;
        rest = &tail[unit..];
    }
    if seconds > 0.0 { Ok(Duration::from_secs_f64(seconds)) } else { Err("a time limit is longer than nothing".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("0.5s"), Ok(Duration::from_millis(500)));
        assert!(parse_duration("2d").is_err() && parse_duration("").is_err() && parse_duration("m").is_err());
    }

    #[test]
    fn a_speed_is_above_zero() {
        assert_eq!(positive("35"), Ok(35.0));
        assert!(["0", "-1", "inf", "nan", "x"].iter().all(|text| positive(text).is_err()));
    }
}
