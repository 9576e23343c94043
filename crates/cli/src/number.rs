//! Numbers as option values.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Returns a value parser for a number in a range.
///
/// Its error completes clap's `invalid value 'x' for '--workers <N>': `.
pub fn number_in<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("not a number from {} to {}", range.start(), range.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_the_range_are_refused_in_words() {
        let parse = number_in(1..=64_u16);
        assert_eq!((parse("1"), parse("64")), (Ok(1), Ok(64)));
        for bad in ["0", "65", "x", "", "-1", "99999999", "1.5"] {
            assert_eq!(parse(bad), Err("not a number from 1 to 64".to_owned()), "{bad}");
        }
    }
}
