//! Arithmetic on pieces.

use std::ops::Range;

use relais_proto::limits::PIECE;

/// Returns the range of piece `index` of `size` bytes; empty beyond the end.
#[must_use]
pub fn piece_range(index: u64, size: u64) -> Range<u64> {
    let start = index.saturating_mul(PIECE).min(size);
    start..start.saturating_add(PIECE).min(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_content() {
        for (size, count) in
            [(0, 1), (1, 1), (PIECE, 1), (PIECE + 1, 2), (i64::MAX as u64, 1 << 43)]
        {
            assert_eq!(piece_range(count - 1, size).end, size);
            assert!(piece_range(count, size).is_empty());
        }
        assert_eq!(piece_range(1, 3 * PIECE), PIECE..2 * PIECE);
        assert_eq!(piece_range(u64::MAX, u64::MAX), u64::MAX..u64::MAX);
    }
}
