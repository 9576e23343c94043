//! Computes the digest of a large file in a second thread while the first one sends.
//!
//! The digest covers the whole file, including the bytes that a server already has. The sender
//! stays close to it. So the end of an upload never waits long for the digest, and both threads
//! read the file while it is in the page cache.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use relais_proto::Digest;

use super::body::Body;
use crate::error::TransferError;

#[derive(Debug, Default)]
struct State {
    /// Number of hashed bytes.
    reached: u64,
    ended: bool,
    /// Whether the digest is no longer needed.
    unwanted: bool,
}

/// Progress of the hashing thread.
#[derive(Debug, Default)]
pub(super) struct Reached {
    state: Mutex<State>,
    changed: Condvar,
}

impl Reached {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The values are plain, so they stay valid after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: impl FnOnce(&mut State)) {
        what(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The sending thread's handle on the digest.
pub(super) struct Hashing<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    body: &'env Body<'env>,
    reached: &'env Reached,
    running: Option<ScopedJoinHandle<'scope, io::Result<Digest>>>,
    known: Option<Digest>,
}

impl<'scope, 'env> Hashing<'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        body: &'env Body<'env>,
        reached: &'env Reached,
    ) -> Self {
        Self { scope, body, reached, running: None, known: None }
    }

    pub(super) fn known(&self) -> Option<Digest> {
        self.known
    }

    /// Computes the digest of content that is in memory.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Digest {
        *self.known.insert(Digest(blake3::hash(bytes).into()))
    }

    /// Starts to hash `file`, unless it is already hashed.
    pub(super) fn begin(&mut self, file: &'env File) -> Result<(), TransferError> {
        if self.known.is_some() || self.running.is_some() {
            return Ok(());
        }
        *self.reached.lock() = State::default();
        let (size, reached) = (self.body.size(), self.reached);
        let thread = std::thread::Builder::new().name("digest".to_owned());
        self.running = Some(
            thread
                .spawn_scoped(self.scope, move || hash(file, size, reached))
                .map_err(TransferError::reading)?,
        );
        Ok(())
    }

    /// Waits at most `patience` until `at` bytes are hashed; returns whether they are.
    pub(super) fn wait(&mut self, at: u64, patience: Duration) -> Result<bool, TransferError> {
        if self.known.is_some() {
            return Ok(true);
        }
        let late = |state: &mut State| state.reached < at && !state.ended;
        let waited = self.reached.changed.wait_timeout_while(self.reached.lock(), patience, late);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let (there, ended) = (state.reached >= at, state.ended);
        drop(state);
        if ended { self.join().map(|_| true) } else { Ok(there) }
    }

    /// Joins the thread and returns its result.
    fn join(&mut self) -> Result<Digest, TransferError> {
        let ended = self.running.take().map_or_else(
            || Err(io::Error::other("no digest was begun")),
            |thread| match thread.join() {
                Ok(result) => result,
                Err(_) => Err(io::Error::other("the thread that computes the digest ended early")),
            },
        );
        let digest = ended.map_err(TransferError::reading)?;
        Ok(*self.known.insert(digest))
    }

    /// Drops the digest, so that it is computed again.
    pub(super) fn forget(&mut self) {
        self.reached.tell(|state| state.unwanted = true);
        if let Some(thread) = self.running.take() {
            // The result is not needed.
            let _ = thread.join();
        }
        self.known = None;
    }
}

impl Drop for Hashing<'_, '_> {
    fn drop(&mut self) {
        self.reached.tell(|state| state.unwanted = true);
    }
}

/// Reports the end of the thread, also after a panic.
struct Ending<'a>(&'a Reached);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.tell(|state| state.ended = true);
    }
}

fn hash(file: &File, size: u64, reached: &Reached) -> io::Result<Digest> {
    let _ending = Ending(reached);
    let result = relais_tree::hash_file(file, size, &mut |done| {
        let mut unwanted = false;
        reached.tell(|state| {
            state.reached = done;
            unwanted = state.unwanted;
        });
        if unwanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    result.map(|(digest, _)| digest)
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
        let (body, reached) = (Body::of_file(&source).unwrap(), Reached::default());
        std::thread::scope(|scope| {
            let mut hashing = Hashing::new(scope, &body, &reached);
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
