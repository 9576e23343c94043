//! The thread that computes digests. It reads files and writes nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use log::warn;
use relais_os::Mailbox;
use relais_proto::Digest;
use relais_storage::{CatalogError, FileIdentity, UnhashedFile};
use relais_tree::{Folder, Meta, hash_file};

use crate::thread::OwnedThread;

/// Hashes files on a thread of its own and returns the digests in file.
pub struct Hasher {
    requests: Sender<Vec<UnhashedFile>>,
    results: Mailbox<(UnhashedFile, Option<Digest>)>,
    pending: usize,
    stop: Arc<AtomicBool>,
    thread: OwnedThread,
}

impl Hasher {
    /// Starts the thread. It ends when `stop` is set or the hasher is dropped.
    ///
    /// Each hashed file is synced before its digest is reported.
    ///
    /// # Errors
    /// Returns the errors of the system calls.
    pub fn start(root: &Folder, stop: Arc<AtomicBool>) -> Result<Self, CatalogError> {
        let root = root.try_clone()?;
        let (requests, queue) = channel::<Vec<UnhashedFile>>();
        let (done, results) = Mailbox::new()?;
        let stopped = stop.clone();
        let work = move || {
            for file in queue.iter().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let digest = hash(&root, &file, &stopped);
                if !done.send((file, digest)) {
                    return;
                }
            }
        };
        let thread = OwnedThread::spawn("hasher", work)?;
        Ok(Self { requests, results, pending: 0, stop, thread })
    }

    /// Returns whether no file waits for its digest.
    pub fn is_idle(&self) -> bool {
        self.pending == 0
    }

    /// Queues files for hashing.
    ///
    /// # Panics
    /// Panics if the thread has panicked, because the writer cannot work without it.
    pub fn request(&mut self, files: Vec<UnhashedFile>) {
        self.pending += files.len();
        assert!(self.requests.send(files).is_ok(), "the hashing thread has ended");
    }

    /// Returns the results so far: each file with its digest.
    ///
    /// There is no digest if the file differs from its row, or cannot be read. It needs a new scan.
    ///
    /// # Panics
    /// Same as [`Self::request`].
    pub fn results(&mut self) -> Vec<(UnhashedFile, Option<Digest>)> {
        let results = self.results.take();
        self.pending -= results.len().min(self.pending);
        assert!(
            !self.thread.has_ended() || self.stop.load(Ordering::Relaxed),
            "the hashing thread has ended"
        );
        results
    }

    /// Returns a descriptor that is readable when there are results.
    pub fn ready(&self) -> BorrowedFd<'_> {
        self.results.as_fd()
    }
}

/// Returns the digest of a file that is synced, and is still the one of its row.
fn hash(root: &Folder, request: &UnhashedFile, stop: &AtomicBool) -> Option<Digest> {
    let is_same = |meta: &Meta| FileIdentity::from(meta) == request.meta;
    let file = root.open_file(&request.path).ok().filter(|file| is_same(&file.meta))?;
    let should_continue = &mut |_| match stop.load(Ordering::Relaxed) {
        true => Err(io::ErrorKind::Interrupted.into()),
        false => Ok(()),
    };
    let (digest, _) = hash_file(&file.file, file.meta.size, should_continue)
        .inspect_err(|e| {
            if !stop.load(Ordering::Relaxed) {
                warn!("cannot hash {}: {e}", request.path);
            }
        })
        .ok()?;
    file.meta_now().ok().filter(is_same)?;
    // A change with this content is committed, so it must be on the disk first.
    let synced = file.file.sync_all();
    synced.inspect_err(|e| warn!("cannot sync {}: {e}", request.path)).ok()?;
    Some(digest)
}
