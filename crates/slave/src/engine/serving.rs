//! What the sessions of a worker share, and what each knows about its user.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{debug, error, warn};
use relais_auth::TicketError;
use relais_os::ProcessMailbox;
use relais_proto::{
    Counters, Endpoint, ErrorCode, FolderId, LogRateLimiter, Lsn, Mode, Refusal, SlaveId, TreePath,
    limits,
};
use relais_storage::{
    CatalogError, CatalogReader, EntryFacts, MetadataFolder, StagedName, Staging, upload_table,
};
use relais_tree::{Folder, Meta, TreeError};

use crate::changes::channel::{ProposalSocket, Received, SessionEnd};
use crate::engine::active_uploads::ActiveUploads;
use crate::engine::hash_semaphore::HashSemaphore;
use crate::engine::owner::Owner;
use crate::engine::transfers::TransferLog;
use crate::hints::Hint;
use crate::scoreboard::Scoreboard;
use crate::worker_message::WorkerMessage;

/// Error in `status` if the folder's path no longer leads to the served folder.
///
/// It contains no path of the host.
pub const DISPLACED: &str = "the served folder was renamed, removed or replaced; \
     the slave serves the folder that it opened at its start until it is restarted";
/// How long the master may take to name the holders of content.
const HOLDERS_TIMEOUT: Duration = Duration::from_secs(1);
/// Catalogue connections that are kept for later requests.
const SPARE_READERS: usize = 4;

/// Folder, catalogue and settings that the sessions of a worker need.
pub struct ServingContext {
    /// The served folder.
    pub folder: Folder,
    /// Id of the served folder.
    pub folder_id: FolderId,
    /// Id of this slave.
    pub slave_id: SlaveId,
    /// Size of a block in bytes.
    pub block_size: u32,
    /// Permission bits that new files and folders do not get.
    pub umask: Mode,
    /// What the processes of the slave share in memory.
    pub scoreboard: Arc<Scoreboard>,
    /// The slave's own folder, with the catalogue.
    own: MetadataFolder,
    hints: Arc<ProcessMailbox<Hint>>,
    /// Where sessions hand in their changes.
    pub proposal_socket: Arc<ProposalSocket>,
    /// The staging folder, with the files of uploads.
    pub staging: Staging,
    /// Permits that sessions need to hash content.
    pub hash_semaphore: HashSemaphore,
    /// The uploads under way in this worker.
    pub uploads: ActiveUploads,
    /// Why sessions without an account may change nothing; none if they may.
    pub read_only: Option<&'static str>,
    /// Whether the slave belongs to a cluster.
    ///
    /// In a cluster the tree is what the changes have made, wherever the contents are.
    pub is_cluster_member: bool,
    /// Index of this worker.
    pub worker: usize,
    /// The transfer log, if there is one.
    pub transfers: Option<Arc<TransferLog>>,
    /// Set when the worker stops.
    stopping: AtomicBool,
    /// Catalogue connections that no session uses now.
    ///
    /// They are opened when needed, so never before the fork.
    readers: Mutex<Vec<CatalogReader>>,
}

/// The parts of a worker's [`ServingContext`].
pub struct ServingParts {
    /// The served folder.
    pub folder: Folder,
    /// The slave's own folder, with the catalogue.
    pub own: MetadataFolder,
    /// Id of the served folder.
    pub folder_id: FolderId,
    /// Id of this slave.
    pub slave_id: SlaveId,
    /// Size of a block in bytes.
    pub block_size: u32,
    /// Permission bits that new files and folders do not get.
    pub umask: Mode,
    /// What the processes of the slave share in memory.
    pub scoreboard: Arc<Scoreboard>,
    /// Where workers report files that differ from the catalogue.
    pub hints: Arc<ProcessMailbox<Hint>>,
    /// Where sessions hand in their changes.
    pub proposal_socket: Arc<ProposalSocket>,
    /// The mailboxes of all workers.
    pub mailboxes: Arc<Vec<ProcessMailbox<WorkerMessage>>>,
    /// See [`ServingContext::read_only`].
    pub read_only: Option<&'static str>,
    /// See [`ServingContext::is_cluster_member`].
    pub is_cluster_member: bool,
    /// See [`ServingContext::worker`].
    pub worker: usize,
    /// The transfer log, if there is one.
    pub transfers: Option<Arc<TransferLog>>,
}

impl ServingContext {
    /// Opens the staging folders, and nothing else.
    ///
    /// # Errors
    /// Those of opening them.
    pub fn new(parts: ServingParts) -> Result<Self, TreeError> {
        let ServingParts {
            folder,
            own,
            folder_id,
            slave_id,
            block_size,
            umask,
            scoreboard,
            hints,
            proposal_socket,
            mailboxes,
            read_only,
            is_cluster_member,
            worker,
            transfers,
        } = parts;
        Ok(Self {
            staging: Staging::open(&folder)?,
            folder,
            folder_id,
            slave_id,
            block_size,
            umask,
            scoreboard,
            own,
            hints,
            proposal_socket,
            hash_semaphore: HashSemaphore::new(parallel_hashes(mailboxes.len())),
            uploads: ActiveUploads::new(mailboxes),
            read_only,
            is_cluster_member,
            worker,
            transfers,
            stopping: AtomicBool::new(false),
            readers: Mutex::new(Vec::new()),
        })
    }

    /// Marks the worker as stopping, so that no session waits for anything that may take long.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the worker is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Calls `query` with a catalogue connection.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`] if the catalogue cannot be read.
    pub fn with_catalogue<T>(
        &self,
        query: impl FnOnce(&mut CatalogReader) -> Result<T, CatalogError>,
    ) -> Result<T, Refusal> {
        let spare = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let failed = |e: CatalogError| {
            static UNREADABLE: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = UNREADABLE.allow(Instant::now()) {
                error!("cannot read the catalogue: {e}{more}");
            }
            Refusal::new(ErrorCode::Storage, "the slave cannot read its catalogue")
        };
        let mut reader = match spare {
            Some(reader) => reader,
            None => CatalogReader::open(&self.own).map_err(failed)?,
        };
        let answer = query(&mut reader).map_err(failed)?;
        let mut spare = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_READERS {
            spare.push(reader);
        }
        Ok(answer)
    }

    /// Returns the latest change that may be part of what was read here before this call.
    ///
    /// Before the catalogue writer has recorded it after a start, this is what the catalogue has.
    #[must_use]
    pub fn visible_lsn(&self) -> Lsn {
        let lsn = self.scoreboard.visible_lsn();
        if lsn != Lsn::default() {
            return lsn;
        }
        self.with_catalogue(CatalogReader::applied).unwrap_or_default()
    }

    /// Whether `version` is the last change to a path.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn is_current(&self, path: &TreePath, version: Lsn) -> Result<bool, Refusal> {
        Ok(self.with_catalogue(|reader| reader.version_at(path))? == Some(Some(version)))
    }

    /// Whether the folder was scanned completely since the catalogue writer's start.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn is_complete(&self) -> Result<bool, Refusal> {
        self.with_catalogue(CatalogReader::is_complete)
    }

    /// Whether a catalogue writer is still scanning the folder for the first time.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn is_scanning(&self) -> Result<bool, Refusal> {
        self.with_catalogue(CatalogReader::is_scanning)
    }

    /// Returns what the catalogue knows about the file whose metadata is `meta`.
    ///
    /// If the catalogue knows nothing, the path is reported as changed.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn facts(&self, path: &TreePath, meta: &Meta) -> Result<EntryFacts, Refusal> {
        match self.with_catalogue(|reader| reader.facts_of(path, meta))? {
            Some(facts) => Ok(facts),
            None => {
                self.report_different(path);
                Ok(EntryFacts::default())
            }
        }
    }

    /// Returns the counters of folder and pool, and the last error.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn counters(&self) -> Result<(Counters, String), Refusal> {
        let (counters, last_error) =
            self.with_catalogue(|reader| Ok((reader.counters()?, reader.last_error()?)))?;
        Ok((with_pool_counters(counters, &self.scoreboard), last_error))
    }

    /// Returns this slave as a holder of content.
    ///
    /// It has no address, because the client is connected to it.
    #[must_use]
    pub fn as_holder(&self) -> Vec<Endpoint> {
        vec![Endpoint { id: self.slave_id, addrs: Vec::new() }]
    }

    /// Returns the slaves of these folders, except this one.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn slaves_of(&self, folders: &[FolderId]) -> Result<Vec<Endpoint>, Refusal> {
        let peers = self.with_catalogue(CatalogReader::peers)?;
        let holders = peers
            .into_iter()
            .filter(|(slave, folder)| *slave != self.slave_id && folders.contains(folder));
        Ok(holders
            .map(|(id, _)| Endpoint { id, addrs: Vec::new() })
            .take(limits::REDIRECT_SLAVES)
            .collect())
    }

    /// Asks the master which folders hold the content of a put; none if no answer comes in time.
    #[must_use]
    pub fn ask_holders(&self, put: Lsn, asker: &Owner) -> Vec<FolderId> {
        let (mut channel, until) = (None, Instant::now() + HOLDERS_TIMEOUT);
        let mut has_asked = false;
        while Instant::now() < until {
            if channel.is_none() {
                channel = self.proposal_socket.open(asker).ok();
            }
            let Some(open) = &channel else { return Vec::new() };
            let has_message = if has_asked {
                match open.read_holders() {
                    Ok(Received::Message(folders)) => return folders,
                    Ok(Received::Nothing) => false,
                    _ => return Vec::new(),
                }
            } else {
                match open.read_greeting() {
                    Ok(Received::Message(())) => {
                        has_asked = open.ask_holders(put).unwrap_or(false);
                        has_asked
                    }
                    Ok(Received::Nothing) => false,
                    _ => return Vec::new(),
                }
            };
            if !has_message {
                wait_for(open, until);
            }
        }
        debug!("the holders of put {put} were not known in time");
        Vec::new()
    }

    /// Returns the slaves of all other folders.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn other_slaves(&self) -> Result<Vec<Endpoint>, Refusal> {
        let peers = self.with_catalogue(CatalogReader::peers)?;
        let others = peers
            .into_iter()
            .filter(|(slave, folder)| *slave != self.slave_id && *folder != self.folder_id);
        Ok(others
            .map(|(id, _)| Endpoint { id, addrs: Vec::new() })
            .take(limits::REDIRECT_SLAVES)
            .collect())
    }

    /// Reports that the content at `path` may be damaged.
    ///
    /// A client has compared it with its digest, and asks for its pieces.
    pub fn report_damaged(&self, path: &TreePath) {
        if self.is_cluster_member {
            self.report(&Hint::Suspect(path.clone()));
        }
    }

    /// Reports that `path` differs between the disk and the catalogue.
    pub fn report_different(&self, path: &TreePath) {
        self.report(&Hint::Different(path.clone()));
    }

    fn report(&self, hint: &Hint) {
        if let Err(e) = self.hints.send(hint) {
            log::trace!("a hint was lost: {e}");
        }
    }

    /// Logs an error of the disk, limited in rate.
    pub fn log_failure(path: &TreePath, error: &dyn std::fmt::Display) {
        static FAILED: LogRateLimiter = LogRateLimiter::new();
        if let Some(more) = FAILED.allow(Instant::now()) {
            warn!("{path}: {error}{more}");
        }
    }

    /// Checks that the disk has space for `bytes` more of uploads, beside the reserve.
    ///
    /// # Errors
    /// [`ErrorCode::NoSpace`] if it has not.
    pub fn check_disk_space(&self, path: &TreePath, bytes: u64) -> Result<(), Refusal> {
        // If the system does not tell, a full disk fails the write later.
        let Ok(disk) = rustix::fs::fstatvfs(&self.folder) else { return Ok(()) };
        let (all, free) = (
            disk.f_blocks.saturating_mul(disk.f_frsize),
            disk.f_bavail.saturating_mul(disk.f_frsize),
        );
        let reserve = upload_table::RESERVE.min(all / upload_table::RESERVE_PART);
        if all == 0 || bytes.saturating_add(reserve) <= free {
            return Ok(());
        }
        let why = if bytes == 0 {
            "the server's disk is full".to_owned()
        } else {
            format!("the server's disk has no room for {bytes} more bytes")
        };
        Err(Refusal::at(path, ErrorCode::NoSpace, why))
    }

    /// Updates the table of uploads after an upload was answered.
    ///
    /// Its staged file has got its final name, is discarded, or waits for another request.
    pub fn finish_upload(&self, staged: &StagedName) {
        self.scoreboard.uploads().release(staged, &self.staging);
    }

    /// Discards a staged file, and updates the table of uploads.
    pub fn discard_upload(&self, staged: &StagedName) {
        self.staging.discard(staged);
        self.finish_upload(staged);
    }

    /// Returns the refusal for an error of the disk, whose details go to the log.
    #[must_use]
    pub fn storage_refusal(path: &TreePath, error: &io::Error) -> Refusal {
        Self::log_failure(path, error);
        Refusal::at(path, ErrorCode::Storage, "the slave cannot read the file")
    }
}

/// Returns how many pieces each worker may hash at a time, so that all use the cores once.
fn parallel_hashes(workers: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) / workers.max(1)
}

/// Waits for a message of the replicator, at most until a time.
fn wait_for(channel: &SessionEnd, until: Instant) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
    // The caller checks again in any case.
    let _ = poll(&mut [PollFd::new(channel, PollFlags::IN)], timeout.as_ref());
}

/// Adds the counters of the scoreboard to those of the catalogue.
#[must_use]
pub fn with_pool_counters(counters: Counters, scoreboard: &Scoreboard) -> Counters {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let uploads = scoreboard.uploads().usage();
    Counters {
        uploads: uploads.number,
        upload_bytes: uploads.bytes,
        sessions: small(scoreboard.sessions()),
        waiting: small(scoreboard.waiting()),
        workers: scoreboard.alive_workers(),
        confinement: scoreboard.confinement(),
        ..counters
    }
}

/// An open session: its user, and what the user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Name of the user; empty: no account.
    pub user: String,
    /// Owner of the session's work, which takes turns with the work of others.
    pub owner: Owner,
    /// The folder that the user sees as the root.
    pub root: TreePath,
    /// Whether the user may change the tree.
    pub writable: bool,
    /// The latest change that the user has seen.
    pub seen_lsn: Lsn,
    /// Whether the peer is another slave, which fetches content.
    pub is_peer: bool,
    /// Generation of the accounts at the login.
    pub generation: u64,
    /// End of the login, in the master's milliseconds since 1970 UTC.
    pub ends_ms: u64,
}

impl Session {
    /// Returns the user's name for logs.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.user.is_empty() { "(no account)" } else { &self.user }
    }

    /// Makes a session for another slave, which has proved the cluster key.
    #[must_use]
    pub fn for_peer() -> Self {
        let (user, root) = (String::new(), TreePath::root());
        Self {
            user,
            owner: Owner::default(),
            root,
            writable: false,
            seen_lsn: Lsn::default(),
            is_peer: true,
            generation: u64::MAX,
            ends_ms: u64::MAX,
        }
    }

    /// Checks that the login is still valid: it expires, and ends when any user loses rights.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`] if it is not.
    pub fn check(&self, scoreboard: &Scoreboard) -> Result<(), Refusal> {
        let why = if self.generation < scoreboard.generation() {
            TicketError::OldGeneration
        } else if self.ends_ms <= scoreboard.master_ms() {
            TicketError::Ended
        } else {
            return Ok(());
        };
        Err(Refusal::new(ErrorCode::BadTicket, why.to_string()))
    }

    /// Returns a refusal with its path as this user sees it.
    #[must_use]
    pub fn as_user_sees(&self, refusal: Refusal) -> Refusal {
        refusal.below(&self.root)
    }

    /// Resolves a path that is to be made, removed or moved, which the user's root cannot be.
    ///
    /// # Errors
    /// [`ErrorCode::Denied`] for the root; those of [`Self::resolve`].
    pub fn resolve_below(&self, path: &TreePath) -> Result<TreePath, Refusal> {
        if path.is_root() {
            return Err(Refusal::new(
                ErrorCode::Denied,
                "the root folder cannot be made, removed, moved or replaced",
            ));
        }
        self.resolve(path)
    }

    /// Returns the path in the slave's folder for a path of the user.
    ///
    /// The result is always below the user's root.
    ///
    /// # Errors
    /// [`ErrorCode::BadName`] if the joined path is too long.
    pub fn resolve(&self, path: &TreePath) -> Result<TreePath, Refusal> {
        path.parts()
            .try_fold(self.root.clone(), |at, part| at.join(part))
            .map_err(|e| Refusal::new(ErrorCode::BadName, e.to_string()))
    }
}
