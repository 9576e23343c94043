//! Fetches contents from other slaves: several at once, each verified and synced to the disk.
//!
//! Small contents share connections, see [`SmallFetches`]. A larger one occupies a thread. Several
//! holders send parts of it if one of them does not fill the line, see [`super::holder_streams`].
//!
//! A partial file is kept while this process lives, and resumed from any slave that has the
//! content. The replica decides from which folder a content is fetched, and whether it is still
//! wanted.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::mpsc::{Sender, channel};

use log::{debug, error, warn};
use parking_lot::Mutex;
use relais_cluster::PIPELINED;
use relais_cluster::replica::{FetchFault, MissingContent};
use relais_net::tls::Dialer;
use relais_os::{Mailbox, MailboxSender};
use relais_proto::{FileTime, FolderId, Lsn, PeerSlave, TreePath};
use relais_storage::{FetchFailure, FetchResult, FetchedFile, StagedName, Staging};
use relais_transfer::download::download;
use relais_transfer::{Progress, Ranges, Resume, TransferError};
use relais_tree::{TreeError, complete_file};

use super::fetch_context::{FetchContext, FetchJob};
use super::holder_sessions::{FolderSessions, PeerConnection};
use super::small_fetches::SmallFetches;
use super::small_jobs::SmallJobs;
use crate::config::Cluster;
use crate::context::SlaveContext;

/// Number of contents that are fetched at the same time.
const THREADS: usize = 8;
/// Number of threads that fetch small contents, each over one connection at a time.
const SMALL_THREADS: usize = 2;
/// Most partial files that are kept.
const MAX_PARTIALS: usize = 256;

/// A pool of threads that fetch contents.
pub struct FetchPool {
    queue: Sender<FetchJob>,
    small: Arc<SmallJobs>,
    /// The results that have come.
    pub results: Mailbox<FetchResult>,
    context: Arc<FetchContext>,
}

impl FetchPool {
    /// Starts the threads. When the pool is dropped each ends after its current job.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn start(slave: &SlaveContext, cluster: &Cluster) -> io::Result<Self> {
        let ((queue, jobs), (sender, results)) = (channel(), Mailbox::new()?);
        let context = Arc::new(FetchContext {
            slave: slave.own.slave_id,
            key_file: cluster.key_file.clone(),
            dialer: Dialer::new(slave.config.tls.encrypt)?,
            staging: Staging::open(&slave.folder).map_err(io::Error::other)?,
            peers: Mutex::default(),
            partials: Mutex::default(),
            attempts: AtomicU16::default(),
            jobs: Mutex::new(jobs),
        });
        for _ in 0..THREADS {
            let (context, sender) = (context.clone(), sender.clone());
            std::thread::Builder::new()
                .name("fetch".to_owned())
                .spawn(move || run_worker(&context, &sender))?;
        }
        let small = Arc::new(SmallJobs::default());
        for _ in 0..SMALL_THREADS {
            let (shared, sender, jobs) = (context.clone(), sender.clone(), small.clone());
            let own = Staging::open(&slave.folder).map_err(io::Error::other)?;
            std::thread::Builder::new()
                .name("fetch-small".to_owned())
                .spawn(move || run_small_worker(&shared, &own, &jobs, &sender))?;
        }
        Ok(Self { queue, small, results, context })
    }

    /// Sets the other slaves.
    pub fn set_peers(&self, peers: Vec<PeerSlave>) {
        *self.context.peers.lock() = peers;
    }

    /// Orders a content from the slaves of one folder.
    pub fn order(&self, put: Lsn, missing: MissingContent, from: FolderId) {
        let job = FetchJob { put, missing, from };
        if job.missing.size <= PIPELINED {
            self.small.add(job);
        } else if self.queue.send(job).is_err() {
            warn!("the threads that fetch content have ended");
        }
    }

    /// Discards the partial files of contents that are no longer wanted.
    pub fn retain_partials(&self, wanted: impl Fn(Lsn) -> bool) {
        self.context.partials.lock().retain(|put, _| {
            let keep = wanted(*put);
            if !keep {
                self.context.staging.discard(&StagedName::for_put(*put));
            }
            keep
        });
    }
}

impl Drop for FetchPool {
    fn drop(&mut self) {
        self.small.close();
    }
}

/// Runs `fetch`; none if it panics.
///
/// There has to be a result for each order, because the replica waits for it.
fn catch_panic<T>(fetch: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(fetch)).ok()
}

fn run_worker(context: &Arc<FetchContext>, results: &MailboxSender<FetchResult>) {
    let mut peer = None;
    loop {
        let Ok(FetchJob { put, missing, from }) = context.jobs.lock().recv() else { return };
        let result = catch_panic(|| fetch_one(context, &mut peer, put, &missing, from));
        if result.is_none() {
            // The connection may be within an answer, so it is of no use.
            peer = None;
            error!("the thread that fetches {} has panicked; trying again", missing.path);
        }
        let result = result.unwrap_or_else(|| Err(FetchFault::Holder.into()));
        if !results.send(FetchResult { put, from, result }) {
            return;
        }
    }
}

fn run_small_worker(
    context: &Arc<FetchContext>,
    staging: &Staging,
    jobs: &SmallJobs,
    results: &MailboxSender<FetchResult>,
) {
    let mut peer = None;
    while let Some(wanted) = jobs.wait() {
        let mut fetches = SmallFetches::new(context, staging, jobs, results, wanted);
        if catch_panic(|| fetches.run(&mut peer)).is_none() {
            peer = None;
            error!("the thread that fetches small contents has panicked; trying again");
        }
        fetches.finish();
    }
}

fn fetch_one(
    context: &Arc<FetchContext>,
    peer: &mut Option<PeerConnection>,
    put: Lsn,
    missing: &MissingContent,
    from: FolderId,
) -> Result<FetchedFile, FetchFailure> {
    let name = StagedName::for_put(put);
    let local_failure = |what: &str, e: &TreeError| {
        warn!("cannot store {}: cannot {what}: {e}", missing.path);
        FetchFailure { blame: FetchFault::Local, lasting: (!e.is_transient()).then(|| e.reason()) }
    };
    // From now on no other thread discards the partial file.
    let known = context.partials.lock().remove(&put);
    let part = context.staging.claim(&name).map_err(|e| local_failure("make its file", &e))?;
    let resume = known.unwrap_or_else(|| Resume {
        size: missing.size,
        mtime: FileTime::default(),
        digest: Some(missing.digest),
        identity: None,
        version: Some(put),
        good: Ranges::new(),
    });
    let holders = &missing.holders;
    let mut sessions = FolderSessions { context, peer, put, from, holders, failed: false };
    let mut progress = FetchProgress { path: &missing.path, checkpoint: None };
    let result = download(&mut sessions, &missing.path, &part, Some(resume), &mut progress);
    let fetched = match result {
        Ok(fetched) => fetched,
        Err(TransferError::Local { error, what }) => {
            context.staging.discard(&name);
            return Err(local_failure(what, &TreeError::Io(what, error)));
        }
        Err(e) => {
            debug!("cannot fetch {} from folder {from}: {e}", missing.path);
            match progress.checkpoint.filter(|_| e.can_resume_download()) {
                Some(resume) => keep_partial(context, put, resume),
                None => context.staging.discard(&name),
            }
            return Err(FetchFault::Holder.into());
        }
    };
    if fetched.digest != missing.digest {
        debug!("{}: folder {from} has other content", missing.path);
        context.staging.discard(&name);
        return Err(FetchFault::Holder.into());
    }
    let completed = complete_file(&part, fetched.mode, fetched.mtime).and_then(|meta| {
        part.sync_all().map_err(|e| TreeError::Io("sync the file", e)).map(|()| meta)
    });
    let meta = completed.map_err(|e| {
        context.staging.discard(&name);
        local_failure("complete it", &e)
    })?;
    Ok(FetchedFile { name, meta, lock: Some(part) })
}

fn keep_partial(context: &FetchContext, put: Lsn, resume: Resume) {
    let mut partials = context.partials.lock();
    if partials.len() >= MAX_PARTIALS
        && let Some(oldest) = partials.keys().min().copied()
    {
        partials.remove(&oldest);
        context.staging.discard(&StagedName::for_put(oldest));
    }
    partials.insert(put, resume);
}

/// Keeps the last checkpoint, from which a later fetch resumes, and logs damaged pieces.
struct FetchProgress<'a> {
    path: &'a TreePath,
    checkpoint: Option<Resume>,
}

impl Progress for FetchProgress<'_> {
    fn checkpoint(&mut self, state: &Resume) {
        self.checkpoint = Some(state.clone());
    }

    fn damaged(&mut self, from: SocketAddr, pieces: u64) {
        warn!("{from} sent {pieces} damaged piece(s) of {}; fetching them again", self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_results() {
        assert_eq!(catch_panic(|| 1), Some(1));
        assert_eq!(catch_panic(|| -> u8 { panic!("a test wants it") }), None);
    }
}
