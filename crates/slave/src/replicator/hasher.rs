//! The thread that computes digests. It reads files and writes nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use log::warn;
use relais_os::Mailbox;
use relais_proto::Digest;
use relais_storage::{CatalogError, FileIdentity, UnhashedFile};
use relais_tree::{Folder, hash_file};

/// Result of hashing one file.
pub enum Hashed {
    /// The digest of the file.
    Digest(UnhashedFile, Digest),
    /// The file differs from its row, or cannot be read. It needs a new scan.
    Changed(UnhashedFile),
}

/// Hashes files on a thread of its own and returns the digests in file.
pub struct Hasher {
    requests: Option<Sender<Vec<UnhashedFile>>>,
    results: Mailbox<Hashed>,
    pending: usize,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
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
                if !done.send(hash(&root, file, &stopped)) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("hasher".to_owned()).spawn(work)?;
        Ok(Self { requests: Some(requests), results, pending: 0, thread: Some(thread), stop })
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
        let taken = self.requests.as_ref().is_some_and(|requests| requests.send(files).is_ok());
        assert!(taken, "the hashing thread has ended");
    }

    /// Returns the results so far.
    ///
    /// # Panics
    /// Same as [`Self::request`].
    pub fn results(&mut self) -> Vec<Hashed> {
        let results = self.results.take();
        self.pending -= results.len().min(self.pending);
        let failed = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
        assert!(!failed || self.stop.load(Ordering::Relaxed), "the hashing thread has ended");
        results
    }

    /// Returns a descriptor that is readable when there are results.
    pub fn ready(&self) -> BorrowedFd<'_> {
        self.results.as_fd()
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the hashing thread panicked");
        }
    }
}

fn hash(root: &Folder, request: UnhashedFile, stop: &AtomicBool) -> Hashed {
    let file = match root.open_file(&request.path) {
        Ok(file) if FileIdentity::from(&file.meta) == request.meta => file,
        _ => return Hashed::Changed(request),
    };
    let should_continue = &mut |_| match stop.load(Ordering::Relaxed) {
        true => Err(io::ErrorKind::Interrupted.into()),
        false => Ok(()),
    };
    match hash_file(&file.file, file.meta.size, should_continue) {
        Ok((digest, _))
            if file.meta_now().is_ok_and(|now| FileIdentity::from(&now) == request.meta) =>
        {
            // A change with this content is committed, so it must be on the disk first.
            if let Err(e) = file.file.sync_all() {
                warn!("cannot sync {}: {e}", request.path);
                return Hashed::Changed(request);
            }
            Hashed::Digest(request, digest)
        }
        Ok(_) => Hashed::Changed(request),
        Err(e) => {
            if !stop.load(Ordering::Relaxed) {
                warn!("cannot hash {}: {e}", request.path);
            }
            Hashed::Changed(request)
        }
    }
}
