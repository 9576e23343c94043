//! Hashes an open file, whole or in pieces. Reads at explicit offsets only.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use relais_proto::Digest;
use relais_proto::limits::PIECE;

use crate::pieces::{PieceHasher, join, piece_count};

/// Bytes per read: one piece, small enough to stop soon between two.
const BUFFER: u64 = PIECE;

/// Hashes the first `size` bytes of a file; returns the digest and the piece values.
///
/// `progress` gets the number of hashed bytes after each piece, and can end the work by an error.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the file is shorter; errors of reading and of `progress`.
pub fn hash_file(
    file: &File,
    size: u64,
    progress: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<(Digest, Vec<Digest>)> {
    let values = piece_values(file, size, 0, u64::MAX, progress)?;
    let digest = join(&values, size)
        .ok_or_else(|| io::Error::other("the pieces do not make up the content"))?;
    Ok((digest, values))
}

/// Returns at most `count` piece values from number `first` on, of a file of `size` bytes.
///
/// The result is shorter if the content ends before. `progress` gets the number of hashed bytes
/// after each piece.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the file is shorter; errors of reading and of `progress`.
pub fn piece_values(
    file: &File,
    size: u64,
    first: u64,
    count: u64,
    progress: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<Vec<Digest>> {
    let count = piece_count(size).saturating_sub(first).min(count);
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut hasher = PieceHasher::new(size, first);
    let begin = first.saturating_mul(PIECE).min(size);
    let end = begin.saturating_add(count.saturating_mul(PIECE)).min(size);
    let longest = usize::try_from(BUFFER.min(end - begin)).map_err(io::Error::other)?;
    let mut buffer = vec![0; longest];
    let mut at = begin;
    while at < end {
        let want = usize::try_from((end - at).min(BUFFER)).map_err(io::Error::other)?;
        file.read_exact_at(&mut buffer[..want], at)?;
        hasher.update(&buffer[..want]);
        at += want as u64;
        progress(at - begin)?;
    }
    Ok(hasher.into_values())
}
