//! BLAKE3 in aligned pieces of 1 MiB, and the join of their values to the whole digest.
//!
//! BLAKE3 is a tree over chunks of 1 KiB. An aligned piece of 2^n chunks is a whole subtree, so its
//! chaining value can be computed separately and in any order. The values of all pieces give the
//! root. Content of at most one piece has no subtree below its root: its only value is the digest.

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use relais_proto::Digest;
use relais_proto::limits::PIECE;

/// Returns the number of pieces of `size` bytes; empty content has one.
#[must_use]
pub fn piece_count(size: u64) -> u64 {
    size.div_ceil(PIECE).max(1)
}

/// Returns the length of piece `index` of `size` bytes; 0 beyond the end.
fn piece_len(size: u64, index: u64) -> u64 {
    size.saturating_sub(index.saturating_mul(PIECE)).min(PIECE)
}

/// Starts the hash of one piece.
fn start(size: u64, index: u64) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    if size > PIECE {
        hasher.set_input_offset(index * PIECE);
    }
    hasher
}

/// Ends the hash of one piece.
fn finish(size: u64, hasher: &blake3::Hasher) -> Digest {
    if size > PIECE { Digest(hasher.finalize_non_root()) } else { Digest(hasher.finalize().into()) }
}

/// Returns the value of one piece; `None` if `bytes` has not the piece's length.
#[must_use]
pub fn piece_value(size: u64, index: u64, bytes: &[u8]) -> Option<Digest> {
    if index >= piece_count(size) || bytes.len() as u64 != piece_len(size, index) {
        return None;
    }
    let mut hasher = start(size, index);
    hasher.update(bytes);
    Some(finish(size, &hasher))
}

/// Hashes pieces from bytes that arrive in order, in parts of any length.
#[derive(Debug, Clone)]
pub struct PieceHasher {
    size: u64,
    index: u64,
    /// Received bytes of the current piece.
    filled: u64,
    hasher: Option<blake3::Hasher>,
    values: Vec<Digest>,
}

impl PieceHasher {
    /// Starts at piece `first` of content of `size` bytes.
    #[must_use]
    pub fn new(size: u64, first: u64) -> Self {
        let hasher = (first < piece_count(size)).then(|| start(size, first));
        let mut new = Self { size, index: first, filled: 0, hasher, values: Vec::new() };
        new.close_if_full();
        new
    }

    /// Hashes the next bytes. Bytes beyond the end of the content are ignored.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(hasher) = &mut self.hasher else { return };
            let room = piece_len(self.size, self.index) - self.filled;
            let now = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
            let (taken, rest) = bytes.split_at(now);
            hasher.update(taken);
            self.filled += now as u64;
            bytes = rest;
            self.close_if_full();
        }
    }

    fn close_if_full(&mut self) {
        if self.filled < piece_len(self.size, self.index) {
            return;
        }
        if let Some(hasher) = self.hasher.take() {
            self.values.push(finish(self.size, &hasher));
            self.index += 1;
            self.filled = 0;
            self.hasher =
                (self.index < piece_count(self.size)).then(|| start(self.size, self.index));
        }
    }

    /// Returns the values of all complete pieces, from the first on.
    #[must_use]
    pub fn values(&self) -> &[Digest] {
        &self.values
    }

    /// Returns the values like [`Self::values`], by value.
    #[must_use]
    pub fn into_values(self) -> Vec<Digest> {
        self.values
    }
}

/// Joins all piece values to the digest of the content.
///
/// Returns `None` if the number of values does not match the size.
#[must_use]
pub fn join(values: &[Digest], size: u64) -> Option<Digest> {
    if values.len() as u64 != piece_count(size) {
        return None;
    }
    if let [only] = values {
        return Some(*only);
    }
    let (left, right) = halves(values, size)?;
    Some(Digest(merge_subtrees_root(&left, &right, Mode::Hash).into()))
}

/// Returns the value of the subtree over `values`, which cover `len` bytes.
///
/// The depth is the number of doublings of a piece: at most 43 calls.
fn subtree(values: &[Digest], len: u64) -> Option<ChainingValue> {
    if let [only] = values {
        return Some(only.0);
    }
    let (left, right) = halves(values, len)?;
    Some(merge_subtrees_non_root(&left, &right, Mode::Hash))
}

/// Returns the values of the left and the right half of a subtree of several pieces.
///
/// The left half is a power of two of chunks and longer than half, so it has whole pieces.
fn halves(values: &[Digest], len: u64) -> Option<(ChainingValue, ChainingValue)> {
    let left_len = left_subtree_len(len);
    let (left, right) = values.split_at_checked(usize::try_from(left_len / PIECE).ok()?)?;
    Some((subtree(left, left_len)?, subtree(right, len - left_len)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from((i / 251 + i * 7) % 256).unwrap()).collect()
    }

    fn sizes() -> Vec<usize> {
        let mut sizes = vec![
            0,
            1,
            1023,
            1024,
            1025,
            2048,
            2049,
            65_537,
            3 * MIB + 7,
            5 * MIB,
            6 * MIB + 1023,
            7 * MIB - 1,
        ];
        sizes.extend([1, 2, 4, 8].iter().flat_map(|n| [n * MIB - 1, n * MIB, n * MIB + 1]));
        sizes
    }

    #[test]
    fn pieces_in_any_order_give_the_digest_of_the_whole() {
        for len in sizes() {
            let content = content(len);
            let size = len as u64;
            let count = piece_count(size);
            let mut values = vec![Digest([0; 32]); usize::try_from(count).unwrap()];
            for index in (0..count).rev() {
                let from = usize::try_from(index).unwrap() * MIB;
                let bytes = &content[from..len.min(from + MIB)];
                values[usize::try_from(index).unwrap()] = piece_value(size, index, bytes).unwrap();
            }
            assert_eq!(join(&values, size).unwrap().0, *blake3::hash(&content).as_bytes(), "{len}");
        }
    }

    #[test]
    fn bytes_in_parts_of_any_length_give_the_same_values() {
        for len in sizes() {
            let content = content(len);
            let size = len as u64;
            let mut whole = PieceHasher::new(size, 0);
            for part in content.chunks(70_001) {
                whole.update(part);
            }
            whole.update(b"behind the end");
            assert_eq!(
                join(whole.values(), size).unwrap().0,
                *blake3::hash(&content).as_bytes(),
                "{len}"
            );
            if len > MIB {
                let mut later = PieceHasher::new(size, 1);
                later.update(&content[MIB..]);
                assert_eq!(later.values(), &whole.values()[1..]);
            }
        }
    }

    #[test]
    fn wrong_counts_and_lengths_are_refused() {
        let value = Digest([1; 32]);
        assert_eq!(join(&[], 0), None);
        assert_eq!(join(&[value; 2], PIECE), None);
        assert_eq!(join(&[value; 1], PIECE + 1), None);
        assert_eq!(join(&[value; 3], u64::MAX), None);
        assert_eq!(piece_value(10, 0, &[0; 9]), None);
        assert_eq!(piece_value(10, 1, &[]), None);
        assert_eq!(piece_value(u64::MAX, u64::MAX, &[]), None);
        assert!(PieceHasher::new(10, u64::MAX).values().is_empty());
    }

    #[test]
    fn a_wrong_piece_changes_the_digest() {
        let content = content(3 * MIB);
        let mut hasher = PieceHasher::new(content.len() as u64, 0);
        hasher.update(&content);
        let good = join(hasher.values(), content.len() as u64);
        let mut values = hasher.into_values();
        values.swap(0, 1);
        assert_ne!(join(&values, content.len() as u64), good);
    }
}
