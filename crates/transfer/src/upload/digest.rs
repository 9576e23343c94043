//! Computes the digest of a large file in a second thread while the first one sends.
//!
//! The digest covers the whole file, including the bytes that a server already has. The sender
//! stays close to it. So the end of an upload never waits long for the digest, and both threads
//! read the file while it is in the page cache.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TrySendError, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use relais_proto::Digest;

use super::body::Body;
use crate::error::TransferError;

/// The thread that hashes. It ends early when the receiver of its progress is dropped.
struct DigestThread<'scope> {
    /// Numbers of hashed bytes.
    progress: Receiver<u64>,
    handle: ScopedJoinHandle<'scope, io::Result<Digest>>,
}

/// The sending thread's handle on the digest.
pub(super) struct UploadDigest<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    body: &'env Body<'env>,
    running: Option<DigestThread<'scope>>,
    /// Number of hashed bytes.
    reached: u64,
    known: Option<Digest>,
}

impl<'scope, 'env> UploadDigest<'scope, 'env> {
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>, body: &'env Body<'env>) -> Self {
        Self { scope, body, running: None, reached: 0, known: None }
    }

    pub(super) fn known(&self) -> Option<Digest> {
        self.known
    }

    /// Records the digest of content that is in memory, and returns it.
    pub(super) fn set(&mut self, digest: blake3::Hash) -> Digest {
        *self.known.insert(Digest(digest.into()))
    }

    /// Starts to hash `file`, unless it is already hashed.
    pub(super) fn begin(&mut self, file: &'env File) -> Result<(), TransferError> {
        if self.known.is_some() || self.running.is_some() {
            return Ok(());
        }
        let size = self.body.size();
        // One report is enough: a sender that waits takes it, and others follow.
        let (reports, progress) = sync_channel(1);
        let hash = move || {
            let mut report = |done| match reports.try_send(done) {
                Err(TrySendError::Disconnected(_)) => Err(io::ErrorKind::Interrupted.into()),
                Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            };
            relais_tree::hash_file(file, size, &mut report).map(|(digest, _)| digest)
        };
        let handle = std::thread::Builder::new()
            .name("digest".to_owned())
            .spawn_scoped(self.scope, hash)
            .map_err(TransferError::reading)?;
        (self.running, self.reached) = (Some(DigestThread { progress, handle }), 0);
        Ok(())
    }

    /// Waits at most `patience` until `at` bytes are hashed; returns whether they are.
    pub(super) fn wait(&mut self, at: u64, patience: Duration) -> Result<bool, TransferError> {
        let until = Instant::now() + patience;
        while self.reached < at
            && let Some(running) = &self.running
        {
            match running.progress.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(reached) => self.reached = reached,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => self.join()?,
            }
        }
        Ok(true)
    }

    /// Takes the result of the thread, which has ended.
    fn join(&mut self) -> Result<(), TransferError> {
        if let Some(DigestThread { handle, .. }) = self.running.take() {
            let panicked = |_| Err(io::Error::other("the thread that computes the digest failed"));
            let digest = handle.join().unwrap_or_else(panicked);
            self.known = Some(digest.map_err(TransferError::reading)?);
        }
        Ok(())
    }

    /// Drops the digest, so that it is computed again.
    pub(super) fn forget(&mut self) {
        if let Some(DigestThread { progress, handle }) = self.running.take() {
            drop(progress);
            // The result is not needed.
            let _ = handle.join();
        }
        self.known = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::UploadSource;
    use super::*;
    use relais_proto::{FileTime, Mode};

    const SIZE: u64 = 5 * 1024 * 1024;

    #[test]
    fn it_is_computed_beside_and_again_where_it_was_forgotten() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        let source = UploadSource {
            file: &file,
            size: SIZE,
            mtime: FileTime::default(),
            mode: Mode::new(0o644),
        };
        let body = Body::of_file(&source).unwrap();
        std::thread::scope(|scope| {
            let mut hashing = UploadDigest::new(scope, &body);
            for _ in 0..3 {
                assert_eq!(hashing.known(), None);
                hashing.begin(&file).unwrap();
                while !hashing.wait(u64::MAX, Duration::from_secs(5)).unwrap() {}
                assert_eq!(
                    hashing.known(),
                    Some(Digest(blake3::hash(&vec![0; 5 * 1024 * 1024]).into()))
                );
                hashing.forget();
            }
            // A file that ends early has no digest.
            file.set_len(SIZE / 2).unwrap();
            hashing.begin(&file).unwrap();
            let waited = hashing.wait(SIZE, Duration::from_secs(5));
            assert!(matches!(waited, Err(TransferError::SourceChanged)), "{waited:?}");
        });
    }
}
