//! Sets of byte ranges: the verified and the missing bytes of a content.
//!
//! Pure arithmetic on half-open ranges, independent of where the bytes are stored.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Highest number of ranges in a text. Longer texts were not written by this program.
pub const MOST_RANGES: usize = 256;

/// Byte ranges in ascending order that neither overlap nor touch; none is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Makes an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the set of all bytes before `end`.
    #[must_use]
    pub fn up_to(end: u64) -> Self {
        let mut ranges = Self::new();
        ranges.insert(0..end);
        ranges
    }

    /// Adds the bytes of `range`.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // All ranges that overlap or touch are merged with it.
        let first = self.0.partition_point(|r| r.end < range.start);
        let behind = self.0.partition_point(|r| r.start <= range.end);
        let merged = self.0[first..behind].iter();
        let joined = merged.fold(range, |all, r| all.start.min(r.start)..all.end.max(r.end));
        self.0.splice(first..behind, [joined]);
    }

    /// Removes the bytes of `range`.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|r| r.end <= range.start);
        let behind = self.0.partition_point(|r| r.start < range.end);
        let left: Vec<Range<u64>> = self.0[first..behind]
            .iter()
            .flat_map(|r| [r.start..r.end.min(range.start), r.start.max(range.end)..r.end])
            .filter(|r| !r.is_empty())
            .collect();
        self.0.splice(first..behind, left);
    }

    /// Keeps only the bytes before `end`.
    pub fn clip(&mut self, end: u64) {
        self.remove(end..u64::MAX);
    }

    /// Keeps only the first `count` ranges.
    pub fn keep_first(&mut self, count: usize) {
        self.0.truncate(count);
    }

    /// Returns whether the set contains all bytes of `range`.
    #[must_use]
    pub fn contains(&self, range: &Range<u64>) -> bool {
        let at = self.0.partition_point(|r| r.end < range.end);
        range.is_empty()
            || self.0.get(at).is_some_and(|r| r.start <= range.start && range.end <= r.end)
    }

    /// Returns the number of bytes in the set.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).fold(0, u64::saturating_add)
    }

    /// Returns the number of leading bytes without a gap.
    #[must_use]
    pub fn prefix(&self) -> u64 {
        self.0.first().filter(|r| r.start == 0).map_or(0, |r| r.end)
    }

    /// Returns the first missing bytes before `size`; `None` if there are none.
    #[must_use]
    pub fn first_gap(&self, size: u64) -> Option<Range<u64>> {
        let start = self.prefix();
        let next = usize::from(start > 0);
        let end = self.0.get(next).map_or(size, |r| r.start.min(size));
        (start < end).then_some(start..end)
    }

    /// Returns the end of the last range; 0 if the set is empty.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |r| r.end)
    }

    /// Iterates over the ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Ranges {
    /// Writes `0-1048576,2097152-2097200` with exclusive ends, or `-` for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}-{}", range.start, range.end)?;
        }
        Ok(())
    }
}

impl FromStr for Ranges {
    type Err = &'static str;

    /// Parses the output of `Display`, and nothing else.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut ranges = Vec::new();
        if text == "-" {
            return Ok(Self(ranges));
        }
        for part in text.split(',') {
            if ranges.len() == MOST_RANGES {
                return Err("there are too many ranges");
            }
            let (start, end) = part.split_once('-').ok_or(NO_RANGE)?;
            let range = parse_number(start)?..parse_number(end)?;
            if range.is_empty()
                || ranges.last().is_some_and(|last: &Range<u64>| range.start <= last.end)
            {
                return Err("a range is empty, or not behind the one in front of it");
            }
            ranges.push(range);
        }
        Ok(Self(ranges))
    }
}

const NO_RANGE: &str = "a part is not a range";

/// Parses a number in canonical form: digits without sign or leading zero.
fn parse_number(text: &str) -> Result<u64, &'static str> {
    let number: u64 = text.parse().map_err(|_| NO_RANGE)?;
    if number.to_string() == text { Ok(number) } else { Err(NO_RANGE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges(text: &str) -> Ranges {
        text.parse().unwrap()
    }

    #[test]
    fn neighbours_become_one() {
        let mut set = Ranges::new();
        for range in [10..20, 30..40, 20..30, 5..5, 0..1, 50..60, 35..55] {
            set.insert(range);
        }
        assert_eq!(set.to_string(), "0-1,10-60");
        assert_eq!((set.total(), set.prefix(), set.end(), set.iter().count()), (51, 1, 60, 2));
    }

    #[test]
    fn taking_out_splits() {
        let mut set = Ranges::up_to(100);
        set.remove(10..20);
        set.remove(30..31);
        set.remove(15..15);
        assert_eq!(set.to_string(), "0-10,20-30,31-100");
        set.remove(5..35);
        assert_eq!(set.to_string(), "0-5,35-100");
        set.clip(50);
        assert_eq!(set.to_string(), "0-5,35-50");
        set.clip(0);
        assert!(set.is_empty());
    }

    #[test]
    fn gaps_are_found_in_order() {
        assert_eq!(Ranges::new().first_gap(0), None);
        assert_eq!(Ranges::new().first_gap(7), Some(0..7));
        assert_eq!(Ranges::up_to(7).first_gap(7), None);
        assert_eq!(Ranges::up_to(9).first_gap(7), None);
        assert_eq!(ranges("0-5,8-9").first_gap(20), Some(5..8));
        assert_eq!(ranges("8-9").first_gap(20), Some(0..8));
        assert_eq!(ranges("8-9").first_gap(3), Some(0..3));
        assert_eq!(ranges("0-8,9-10").first_gap(u64::MAX), Some(8..9));
    }

    #[test]
    fn only_our_own_spelling_is_read() {
        for ok in ["-", "0-1", "0-1048576,1048577-18446744073709551615"] {
            assert_eq!(ranges(ok).to_string(), ok);
        }
        for bad in [
            "",
            "0",
            "0-",
            "-1",
            "1-0",
            "0-0",
            "0-1,",
            ",0-1",
            "0-1,1-2",
            "0-2,1-3",
            "5-6,0-1",
            "00-1",
            "+0-1",
            "0-18446744073709551616",
            "0 -1",
        ] {
            assert!(bad.parse::<Ranges>().is_err(), "{bad}");
        }
        let many: Vec<String> =
            (0..=MOST_RANGES).map(|i| format!("{}-{}", 2 * i, 2 * i + 1)).collect();
        assert!(many.join(",").parse::<Ranges>().is_err());
        assert!(many[1..].join(",").parse::<Ranges>().is_ok());
    }

    proptest! {
        /// Applies the same steps to a set of single bytes.
        #[test]
        fn agrees_with_single_bytes(steps in prop::collection::vec((any::<bool>(), 0u64..64, 0u64..64), 0..40)) {
            let mut set = Ranges::new();
            let mut bytes = [false; 64];
            for (add, a, b) in steps {
                let (a, b) = (a.min(b), a.max(b));
                if add { set.insert(a..b) } else { set.remove(a..b) }
                for i in a..b {
                    bytes[usize::try_from(i).unwrap()] = add;
                }
            }
            let has = |i: u64| bytes[usize::try_from(i).unwrap()];
            prop_assert!((0..64).all(|i| set.contains(&(i..i + 1)) == has(i)));
            prop_assert_eq!(set.total(), (0..64).filter(|i| has(*i)).count() as u64);
            prop_assert_eq!(set.prefix(), (0..64).take_while(|i| has(*i)).count() as u64);
            prop_assert_eq!(set.first_gap(64).map(|g| g.start), (0..64).find(|i| !has(*i)));
            prop_assert_eq!(set.to_string().parse::<Ranges>().unwrap(), set);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9,\\-]{0,60}|.{0,40}") {
            if let Ok(set) = text.parse::<Ranges>() {
                prop_assert_eq!(set.to_string(), text);
            }
        }
    }
}
