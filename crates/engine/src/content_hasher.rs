//! SHA-256 of a content and of its pieces, computed while the bytes come.

use relais_proto::{ContentHashes, Sha256, limits};
use ring::digest::{Context, SHA256};

/// Hashes bytes in their order. It reads nothing.
#[derive(Clone)]
pub(crate) struct ContentHasher {
    whole: Context,
    /// Hash of the present piece, and the bytes that it still lacks; none if pieces are not hashed.
    piece: Option<(Context, u64)>,
    piece_size: u64,
    pieces: Vec<Sha256>,
    size: u64,
}

impl ContentHasher {
    /// Starts with no bytes. Content of unknown size is hashed in the smallest pieces.
    pub fn new(size: Option<u64>) -> Self {
        let piece_size = ContentHashes::piece_size_for(size.unwrap_or_default());
        // One piece needs no hash of its own.
        let has_pieces = size.is_none_or(|size| size > piece_size);
        Self {
            whole: Context::new(&SHA256),
            piece: has_pieces.then(|| (Context::new(&SHA256), piece_size)),
            piece_size,
            pieces: Vec::new(),
            size: 0,
        }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        self.size += bytes.len() as u64;
        while let Some((piece, missing)) = &mut self.piece
            && !bytes.is_empty()
        {
            let end = usize::try_from(*missing).map_or(bytes.len(), |most| most.min(bytes.len()));
            let (some, rest) = bytes.split_at(end);
            piece.update(some);
            *missing -= some.len() as u64;
            bytes = rest;
            if *missing == 0 {
                self.end_piece();
            }
        }
    }

    fn end_piece(&mut self) {
        let Some((piece, _)) = self.piece.take() else { return };
        self.pieces.push(hash_of(piece));
        // The pieces of content that is too large for them are of no use.
        if self.pieces.len() < limits::SHA256_PIECES {
            self.piece = Some((Context::new(&SHA256), self.piece_size));
        }
    }

    /// Returns the hashes; none if the size was unknown and needs larger pieces.
    pub fn finish(mut self) -> Option<ContentHashes> {
        if self.piece.as_ref().is_some_and(|(_, missing)| *missing < self.piece_size) {
            self.end_piece();
        }
        if self.size <= self.piece_size {
            self.pieces.clear();
        }
        let Self { whole, piece_size, pieces, size, .. } = self;
        let hashes = ContentHashes { sha256: hash_of(whole), piece_size, pieces };
        hashes.fit(size).then_some(hashes)
    }
}

fn hash_of(context: Context) -> Sha256 {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Sha256(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256(bytes: &[u8]) -> Sha256 {
        let mut context = Context::new(&SHA256);
        context.update(bytes);
        hash_of(context)
    }

    #[test]
    fn pieces_and_whole_are_hashed_from_chunks_of_any_size() {
        let piece = usize::try_from(limits::PIECE).unwrap();
        for (len, pieces) in [(0, 0), (5, 0), (piece, 0), (piece + 1, 2), (3 * piece, 3)] {
            let content: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
            for (chunk, size) in [(700_001, Some(len as u64)), (3 * piece, None)] {
                let mut hasher = ContentHasher::new(size);
                content.chunks(chunk).for_each(|bytes| hasher.update(bytes));
                let hashes = hasher.finish().unwrap();
                assert_eq!((hashes.sha256, hashes.pieces.len()), (sha256(&content), pieces));
                if pieces > 0 {
                    let wanted: Vec<_> = content.chunks(piece).map(sha256).collect();
                    assert_eq!(hashes.pieces, wanted);
                }
                assert!(hashes.fit(len as u64));
            }
        }
    }

    #[test]
    fn content_of_unknown_size_has_no_hashes_if_its_pieces_are_too_many() {
        let piece = vec![0; usize::try_from(limits::PIECE).unwrap()];
        let mut hasher = ContentHasher::new(None);
        for _ in 0..=limits::SHA256_PIECES {
            hasher.size += piece.len() as u64;
            if hasher.piece.is_some() {
                hasher.end_piece();
            }
        }
        hasher.update(b"more");
        assert_eq!(hasher.finish(), None);
    }
}
