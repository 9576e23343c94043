//! Ranges of bytes, for RANG and the checksum commands.

use std::ops::Range;

/// Bytes from `start` up to `end`, which is not part of it; without `end`, the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names say everything")]
pub struct ByteRange {
    pub start: u64,
    pub end: Option<u64>,
}

impl ByteRange {
    /// Returns the part of a file of `size` bytes; `None` if the range begins behind its end.
    ///
    /// A range that ends behind the end of the file is cut there.
    #[must_use]
    pub fn within(self, size: u64) -> Option<Range<u64>> {
        let end = self.end.map_or(size, |end| end.min(size));
        (self.start <= end).then_some(self.start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_the_end_of_the_file() {
        let within = |start, end| ByteRange { start, end }.within(10);
        assert_eq!(within(0, None), Some(0..10));
        assert_eq!(within(2, Some(5)), Some(2..5));
        assert_eq!(within(2, Some(50)), Some(2..10));
        assert_eq!(within(10, None), Some(10..10));
        assert_eq!(within(11, None), None);
        assert_eq!(within(11, Some(u64::MAX)), None);
    }
}
