//! The hashes of staged content: its digest, and its SHA-256 hashes if the slave wants them.

use relais_proto::{ContentHashes, Digest};

use crate::content_hasher::ContentHasher;

/// Hashes the bytes of a staged file in their order. It reads nothing.
#[derive(Clone)]
pub(crate) struct StagedHasher {
    blake3: blake3::Hasher,
    sha256: Option<ContentHasher>,
}

impl StagedHasher {
    /// Starts with no bytes of content of this size, with SHA-256 or without.
    pub fn new(with_sha256: bool, size: Option<u64>) -> Self {
        let sha256 = with_sha256.then(|| ContentHasher::new(size));
        Self { blake3: blake3::Hasher::new(), sha256 }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
    }

    /// Returns the digest of the bytes so far.
    pub fn digest(&self) -> Digest {
        Digest(self.blake3.finalize().into())
    }

    /// Returns the SHA-256 hashes of the bytes so far, if they are computed.
    pub fn hashes(&self) -> Option<ContentHashes> {
        self.sha256.clone()?.finish()
    }
}
