//! The threads that compute digests. They read files and write nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use log::warn;
use parking_lot::Mutex;
use relais_os::{Mailbox, MailboxSender};
use relais_proto::Digest;
use relais_storage::{CatalogError, FileIdentity, Staging, UnhashedFile};
use relais_tree::{Folder, Meta, hash_file};

use crate::thread::OwnedThread;

/// Number of threads.
const THREADS: usize = 2;
/// Most files, and bytes, that a thread hashes before it syncs and reports them.
const GROUP: usize = 256;
const GROUP_BYTES: u64 = 16 * 1024 * 1024;
/// Files from which on one sync of the file system replaces one of each file.
const SYNC_TOGETHER: usize = 8;

/// A file with its digest; `None` if it needs a new scan.
type Hashed = (UnhashedFile, Option<Digest>);

/// Hashes files on threads of its own and returns the digests in file.
pub struct Hasher {
    requests: Sender<Vec<UnhashedFile>>,
    results: Mailbox<Hashed>,
    pending: usize,
    stop: Arc<AtomicBool>,
    threads: Vec<OwnedThread>,
}

/// What one thread uses.
struct HasherThread {
    root: Folder,
    /// Of this thread alone, see [`Staging::sync_all`].
    staging: Staging,
    queue: Arc<Mutex<Receiver<Vec<UnhashedFile>>>>,
    results: MailboxSender<Hashed>,
    stop: Arc<AtomicBool>,
}

impl Hasher {
    /// Starts the threads. They end when `stop` is set or the hasher is dropped.
    ///
    /// Each hashed file is synced before its digest is reported.
    ///
    /// # Errors
    /// Returns the errors of the system calls.
    pub fn start(root: &Folder, stop: Arc<AtomicBool>) -> Result<Self, CatalogError> {
        let (requests, queue) = channel();
        let (sender, results) = Mailbox::new()?;
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let thread = HasherThread {
                root: root.try_clone()?,
                staging: Staging::open(root)?,
                queue: queue.clone(),
                results: sender.clone(),
                stop: stop.clone(),
            };
            threads.push(OwnedThread::spawn("hasher", move || thread.run())?);
        }
        Ok(Self { requests, results, pending: 0, stop, threads })
    }

    /// Returns whether no file waits for its digest.
    pub fn is_idle(&self) -> bool {
        self.pending == 0
    }

    /// Queues files for hashing.
    ///
    /// # Panics
    /// Panics if a thread has panicked, because the writer cannot work without it.
    pub fn request(&mut self, files: Vec<UnhashedFile>) {
        self.pending += files.len();
        let (mut group, mut bytes) = (Vec::new(), 0_u64);
        for file in files {
            bytes = bytes.saturating_add(file.meta.size);
            group.push(file);
            if group.len() >= GROUP || bytes >= GROUP_BYTES {
                self.request_group(std::mem::take(&mut group));
                bytes = 0;
            }
        }
        self.request_group(group);
    }

    fn request_group(&self, group: Vec<UnhashedFile>) {
        assert!(self.requests.send(group).is_ok(), "the hashing threads have ended");
    }

    /// Returns the results so far: each file with its digest.
    ///
    /// There is no digest if the file differs from its row, or cannot be read. It needs a new scan.
    ///
    /// # Panics
    /// Same as [`Self::request`].
    pub fn results(&mut self) -> Vec<Hashed> {
        let results = self.results.take();
        self.pending -= results.len().min(self.pending);
        assert!(
            !self.threads.iter().any(OwnedThread::has_ended) || self.stop.load(Ordering::Relaxed),
            "a hashing thread has ended"
        );
        results
    }

    /// Returns a descriptor that is readable when there are results.
    pub fn ready(&self) -> BorrowedFd<'_> {
        self.results.as_fd()
    }
}

impl HasherThread {
    fn run(self) {
        loop {
            // The guard ends with this statement, so the other thread can wait next.
            let received = self.queue.lock().recv();
            let Ok(group) = received else { return };
            let mut hashed = Vec::with_capacity(group.len());
            for file in group {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let found = self.hash(&file);
                hashed.push((file, found));
            }
            if !self.sync(hashed).into_iter().all(|result| self.results.send(result)) {
                return;
            }
        }
    }

    /// Returns the digest of a file that is still the one of its row.
    fn hash(&self, request: &UnhashedFile) -> Option<(Digest, File)> {
        let is_same = |meta: &Meta| FileIdentity::from(meta) == request.meta;
        let file = self.root.open_file(&request.path).ok().filter(|file| is_same(&file.meta))?;
        let should_continue = &mut |_| match self.stop.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        };
        let (digest, _) = hash_file(&file.file, file.meta.size, should_continue)
            .inspect_err(|e| {
                if !self.stop.load(Ordering::Relaxed) {
                    warn!("cannot hash {}: {e}", request.path);
                }
            })
            .ok()?;
        file.meta_now().ok().filter(is_same)?;
        Some((digest, file.file))
    }

    /// Syncs hashed files. A change with their content is committed, so it must be on the disk
    /// first.
    fn sync(&self, hashed: Vec<(UnhashedFile, Option<(Digest, File)>)>) -> Vec<Hashed> {
        let together = hashed.len() >= SYNC_TOGETHER && self.staging.sync_all().is_ok();
        let each = hashed.into_iter().map(|(request, found)| {
            let digest = found.and_then(|(digest, file)| {
                let synced = if together { Ok(()) } else { file.sync_all() };
                synced.inspect_err(|e| warn!("cannot sync {}: {e}", request.path)).ok()?;
                Some(digest)
            });
            (request, digest)
        });
        each.collect()
    }
}
