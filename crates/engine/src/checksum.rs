//! Checksums of files, or of parts of them, for clients that compare content.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use md5::{Digest as _, Md5};
use relais_proto::{ErrorCode, IfMatch, Refusal, TreePath, limits};
use relais_tree::OpenFile;

use crate::content::{self, Located, check_unchanged, hashing_failed};
use crate::context::SessionContext;
use crate::keep_alive::KeepAlive;
use crate::remote_content::RemoteContent;
use crate::session::Session;
use crate::sha256::stored;

/// How a checksum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumAlgorithm {
    /// SHA-256 of FIPS 180-4, which may be known for whole files.
    Sha256,
    /// BLAKE3 with 32 bytes, which is known for whole files.
    Blake3,
    /// MD5 of RFC 1321.
    Md5,
    /// CRC-32 of ISO 3309, as in zip and PNG; its highest byte comes first.
    Crc32,
}

/// The checksum of a part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// The bytes that it covers.
    pub range: Range<u64>,
    /// Its value.
    pub value: Vec<u8>,
}

/// Computes a checksum piece by piece.
pub struct ChecksumHasher(HasherState);

enum HasherState {
    Sha256(ring::digest::Context),
    Blake3(Box<blake3::Hasher>),
    Md5(Md5),
    Crc32(crc32fast::Hasher),
}

impl ChecksumHasher {
    /// Starts with no bytes.
    #[must_use]
    pub fn new(algorithm: ChecksumAlgorithm) -> Self {
        Self(match algorithm {
            ChecksumAlgorithm::Sha256 => {
                HasherState::Sha256(ring::digest::Context::new(&ring::digest::SHA256))
            }
            ChecksumAlgorithm::Blake3 => HasherState::Blake3(Box::default()),
            ChecksumAlgorithm::Md5 => HasherState::Md5(Md5::new()),
            ChecksumAlgorithm::Crc32 => HasherState::Crc32(crc32fast::Hasher::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            HasherState::Sha256(context) => context.update(bytes),
            HasherState::Blake3(hasher) => drop(hasher.update(bytes)),
            HasherState::Md5(hasher) => hasher.update(bytes),
            HasherState::Crc32(hasher) => hasher.update(bytes),
        }
    }

    /// Returns the checksum of all bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self.0 {
            HasherState::Sha256(context) => context.finish().as_ref().to_vec(),
            HasherState::Blake3(hasher) => hasher.finalize().as_bytes().to_vec(),
            HasherState::Md5(hasher) => hasher.finalize().to_vec(),
            HasherState::Crc32(hasher) => hasher.finalize().to_be_bytes().to_vec(),
        }
    }
}

impl Session {
    /// Returns the checksum of a file, or of a range of it that ends at its end at the latest.
    ///
    /// # Errors
    /// [`ErrorCode::BadOffset`] if the range begins beyond the end; [`ErrorCode::Changed`] if the
    /// file changes meanwhile; those of [`Session::open`].
    pub fn checksum(
        &self,
        path: &TreePath,
        algorithm: ChecksumAlgorithm,
        range: Option<Range<u64>>,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Located<Checksum>, Refusal> {
        self.check_ready(keepalive)?;
        let context = &self.context;
        context.visible(context.principal.resolve(path).and_then(|path| {
            content::open(context, &path, keepalive)?.and_then(|found| {
                let facts = content::check_wanted(context, &path, &found, IfMatch::Any, keepalive)?;
                let file = found.file;
                let range = range_of(&path, range, file.meta.size)?;
                let is_whole = range == (0..file.meta.size);
                let known = match algorithm {
                    ChecksumAlgorithm::Blake3 => facts.digest.map(|digest| digest.0),
                    ChecksumAlgorithm::Sha256 => {
                        stored(context, facts.content)?.map(|hashes| hashes.sha256.0)
                    }
                    ChecksumAlgorithm::Md5 | ChecksumAlgorithm::Crc32 => None,
                };
                let value = match known.filter(|_| is_whole) {
                    Some(value) => value.to_vec(),
                    None => compute(context, (&path, &file), algorithm, &range, keepalive)?,
                };
                Ok(Checksum { range, value })
            })
        }))
    }
}

impl RemoteContent {
    /// Returns the bytes that a checksum covers.
    ///
    /// # Errors
    /// [`ErrorCode::BadOffset`] if the range begins beyond the end.
    pub fn checksum_range(&mut self, range: Option<Range<u64>>) -> Result<Range<u64>, Refusal> {
        range_of(self.path(), range, self.size()).map_err(|refusal| self.fail(refusal))
    }
}

fn range_of(path: &TreePath, range: Option<Range<u64>>, size: u64) -> Result<Range<u64>, Refusal> {
    let range = range.unwrap_or(0..size);
    if range.start > size || range.start > range.end {
        let message = format!("there is no such range in a file of {size} bytes");
        return Err(Refusal::at(path, ErrorCode::BadOffset, message));
    }
    Ok(range.start..range.end.min(size))
}

fn compute(
    context: &SessionContext,
    (path, file): (&TreePath, &OpenFile),
    algorithm: ChecksumAlgorithm,
    range: &Range<u64>,
    keepalive: &mut dyn KeepAlive,
) -> Result<Vec<u8>, Refusal> {
    let (mut hasher, mut turns) = (ChecksumHasher::new(algorithm), context.hashing(keepalive));
    let piece = |left: u64| usize::try_from(left.min(limits::PIECE)).unwrap_or(0);
    let mut buffer = vec![0; piece(range.end - range.start)];
    let mut at = range.start;
    while at < range.end {
        let buffer = &mut buffer[..piece(range.end - at)];
        let read = turns.next().and_then(|()| file.file.read_exact_at(buffer, at));
        read.map_err(|e| hashing_failed(path, &e))?;
        hasher.update(buffer);
        at += buffer.len() as u64;
    }
    check_unchanged(path, file)?;
    Ok(hasher.finish())
}
