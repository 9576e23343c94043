//! Ranges of a representation.

use std::ops::Range;

use crate::limits;

/// What a `Range` field asks for of a representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// Everything: there is no field, or one that is to be ignored.
    Whole,
    /// These ranges; none is empty, and no two overlap. The answer has status 206.
    Partial(Vec<Range<u64>>),
    /// None of the ranges is in the representation: status 416.
    Unsatisfiable,
}

/// A gap that is smaller than the head of a part is sent instead of the head.
const GAP: u64 = 80;

/// Parses a `Range` field for a representation of `size` bytes (RFC 9110, section 14.2).
///
/// A malformed field, one in another unit, or one with more than [`limits::RANGES`] ranges is
/// ignored. Ranges that overlap or nearly touch become one, at the position of the first.
#[must_use]
pub fn parse(field: Option<&str>, size: u64) -> Ranges {
    let Some(specs) = field.and_then(parse_specs) else { return Ranges::Whole };
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for spec in specs {
        ranges.extend(spec.within(size));
    }
    if ranges.is_empty() { Ranges::Unsatisfiable } else { Ranges::Partial(coalesce(ranges)) }
}

/// Returns the value of `Content-Range` for a part (RFC 9110, section 14.4).
#[must_use]
pub fn content_range(part: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1))
}

/// Returns the value of `Content-Range` for status 416 (RFC 9110, section 15.5.17).
#[must_use]
pub fn unsatisfied_range(size: u64) -> String {
    format!("bytes */{size}")
}

#[derive(Debug, Clone, Copy)]
enum RangeSpec {
    /// First and last byte.
    FromTo(u64, Option<u64>),
    /// This many bytes at the end.
    Suffix(u64),
}

impl RangeSpec {
    fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::FromTo(first, last) => {
                first..last.map_or(size, |last| last.saturating_add(1).min(size))
            }
            Self::Suffix(len) => size.saturating_sub(len)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

fn parse_specs(field: &str) -> Option<Vec<RangeSpec>> {
    let (unit, set) = field.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let specs = set.split(',').map(str::trim).filter(|spec| !spec.is_empty());
    let specs: Option<Vec<_>> = specs.take(limits::RANGES + 1).map(parse_spec).collect();
    specs.filter(|specs| !specs.is_empty() && specs.len() <= limits::RANGES)
}

fn parse_spec(text: &str) -> Option<RangeSpec> {
    match text.split_once('-')? {
        ("", suffix) => number(suffix).map(RangeSpec::Suffix),
        (first, "") => Some(RangeSpec::FromTo(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(RangeSpec::FromTo(first, Some(last)))
        }
    }
}

/// Parses digits; a number that is too large is behind the end of everything.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn coalesce(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut result: Vec<Range<u64>> = Vec::new();
    for mut range in ranges {
        let near = |a: &Range<u64>, b: &Range<u64>| {
            a.start <= b.end.saturating_add(GAP) && b.start <= a.end.saturating_add(GAP)
        };
        let mut position = result.len();
        while let Some(other) = result.iter().position(|other| near(other, &range)) {
            let other_range = result.remove(other);
            range = range.start.min(other_range.start)..range.end.max(other_range.end);
            position = position.min(other);
        }
        result.insert(position.min(result.len()), range);
    }
    result
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "ranges are the values here")]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_representation() {
        for (field, expected) in [
            ("bytes=0-0", &[0..1][..]),
            ("bytes=0-999", &[0..1000]),
            ("bytes=0-1000", &[0..1000]),
            ("bytes=10-", &[10..1000]),
            ("bytes=-10", &[990..1000]),
            ("bytes=-5000", &[0..1000]),
            ("Bytes = 1-2 ", &[1..3]),
            ("bytes=,1-2,,", &[1..3]),
            ("bytes=0-99999999999999999999999", &[0..1000]),
            ("bytes=5-6,2000-", &[5..7]),
            ("bytes=0-9, 200-209", &[0..10, 200..210]),
            ("bytes=200-209, 0-9", &[200..210, 0..10]),
            ("bytes=0-9,10-19", &[0..20]),
            ("bytes=0-9,5-29,400-", &[0..30, 400..1000]),
            ("bytes=0-9,90-99", &[0..100]),
            ("bytes=0-9,91-99", &[0..10, 91..100]),
            ("bytes=500-509,0-9,400-600", &[400..601, 0..10]),
            ("bytes=0-9,300-309,0-900", &[0..901]),
        ] {
            assert_eq!(parse(Some(field), 1000), Ranges::Partial(expected.to_vec()), "{field}");
        }
    }

    #[test]
    fn other_fields_are_ignored_or_unsatisfiable() {
        let many = format!("bytes={}", "0-,".repeat(limits::RANGES + 1));
        for (field, expected) in [
            ("bytes=1000-", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
            ("bytes=99999999999999999999999-", Ranges::Unsatisfiable),
            ("bytes=2-1", Ranges::Whole),
            ("bytes=", Ranges::Whole),
            ("bytes=,", Ranges::Whole),
            ("bytes=-", Ranges::Whole),
            ("bytes=a-b", Ranges::Whole),
            ("bytes=+1-2", Ranges::Whole),
            ("bytes=0-1;2", Ranges::Whole),
            ("lines=0-1", Ranges::Whole),
            ("0-1", Ranges::Whole),
            (&many, Ranges::Whole),
        ] {
            assert_eq!(parse(Some(field), 1000), expected, "{field}");
        }
        assert_eq!(parse(None, 1000), Ranges::Whole);
        assert_eq!(parse(Some("bytes=0-"), 0), Ranges::Unsatisfiable);
        assert_eq!(parse(Some(&many[..many.len() - 3]), 9), Ranges::Partial(vec![0..9]));
    }

    #[test]
    fn content_ranges_name_first_and_last_byte() {
        assert_eq!(content_range(&(0..1), 9), "bytes 0-0/9");
        assert_eq!(unsatisfied_range(9), "bytes */9");
    }
}
