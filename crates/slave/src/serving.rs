//! What the sessions of a worker share, and what they know of their user.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{debug, error, warn};
use relais_proto::{
    Counters, Endpoint, ErrorCode, FolderId, LogRateLimiter, Lsn, Mode, Refusal, SlaveId, TreePath,
    limits,
};
use relais_state::TicketError;
use relais_tree::{Folder, Meta, TreeError};

use crate::catalogue::{CatalogError, CatalogReader, EntryFacts, MetadataFolder};
use crate::changes::channel::{ProposalSocket, Received, SessionEnd};
use crate::hash_semaphore::HashSemaphore;
use crate::hints::Hints;
use crate::owner::Owner;
use crate::scoreboard::Scoreboard;
use crate::staging::{StagedName, Staging};
use crate::transfers::TransferLog;
use crate::upload_table;
use crate::worker::active_uploads::ActiveUploads;
use crate::worker::mailbox::WorkerMailbox;

/// What `status` says where the folder's path does not lead to the served folder any more. It names no path of the host.
pub const DISPLACED: &str = "the served folder was renamed, removed or replaced; the slave still serves the folder that it opened at its \
     start, until it is restarted";
/// How long the master may take to say who holds content.
const HOLDERS_KNOWN: Duration = Duration::from_secs(1);
/// Catalogue connections kept for the next session that asks.
const SPARE_READERS: usize = 4;

/// The folder, its catalogue and the settings that sessions need.
pub struct ServingContext {
    /// The served folder.
    pub folder: Folder,
    /// Which folder it is.
    pub folder_id: FolderId,
    /// Which slave this is.
    pub slave_id: SlaveId,
    /// Bytes in a block.
    pub block_size: u32,
    /// Permission bits that nothing new has.
    pub umask: Mode,
    /// What the processes share.
    pub scoreboard: Arc<Scoreboard>,
    /// Where the catalogue lies.
    own: MetadataFolder,
    hints: Arc<Hints>,
    /// Where sessions bring their changes.
    pub proposal_socket: Arc<ProposalSocket>,
    /// Where the bytes of uploads lie.
    pub staging: Staging,
    /// Turns of sessions that have something hashed.
    pub hash_semaphore: HashSemaphore,
    /// The uploads under way in this worker.
    pub uploads: ActiveUploads,
    /// Why nothing may be changed here by somebody without an account; none where it may.
    pub read_only: Option<&'static str>,
    /// Whether this slave follows a master: then the tree is what changes have made, wherever their contents are.
    pub follows: bool,
    /// Which worker this is.
    pub worker: usize,
    /// Where transfers are noted.
    pub transfers: Option<Arc<TransferLog>>,
    /// Set when the worker winds down.
    stopping: AtomicBool,
    /// Catalogue connections that no session uses now. Opened after the fork, when first needed.
    readers: Mutex<Vec<CatalogReader>>,
}

/// What a worker's [`ServingContext`] is made of.
pub struct ServingParts {
    /// The served folder.
    pub folder: Folder,
    /// Where the catalogue lies.
    pub own: MetadataFolder,
    /// Which folder it is.
    pub folder_id: FolderId,
    /// Which slave this is.
    pub slave_id: SlaveId,
    /// Bytes in a block.
    pub block_size: u32,
    /// Permission bits that nothing new has.
    pub umask: Mode,
    /// What the processes share.
    pub scoreboard: Arc<Scoreboard>,
    /// Where workers tell what they found different.
    pub hints: Arc<Hints>,
    /// Where sessions bring their changes.
    pub proposal_socket: Arc<ProposalSocket>,
    /// Every worker's mailbox.
    pub mailboxes: Arc<Vec<WorkerMailbox>>,
    /// See [`ServingContext::read_only`].
    pub read_only: Option<&'static str>,
    /// See [`ServingContext::follows`].
    pub follows: bool,
    /// See [`ServingContext::worker`].
    pub worker: usize,
    /// Where transfers are noted.
    pub transfers: Option<Arc<TransferLog>>,
}

impl ServingContext {
    /// Opens the staging folders, and nothing else yet.
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
            follows,
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
            hash_semaphore: HashSemaphore::new(hashed_at_a_time(mailboxes.len())),
            uploads: ActiveUploads::new(mailboxes),
            read_only,
            follows,
            worker,
            transfers,
            stopping: AtomicBool::new(false),
            readers: Mutex::new(Vec::new()),
        })
    }

    /// From here on nobody waits for anything that may take long.
    pub fn wind_down(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the worker winds down.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Lends a catalogue connection to `ask`.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`] where the catalogue cannot be read.
    pub fn with_catalogue<T>(
        &self,
        ask: impl FnOnce(&mut CatalogReader) -> Result<T, CatalogError>,
    ) -> Result<T, Refusal> {
        let spare = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let failed = |e: CatalogError| {
            static UNREADABLE: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = UNREADABLE.turn(Instant::now()) {
                error!("the catalogue cannot be read: {e}{more}");
            }
            Refusal::new(ErrorCode::Storage, "the slave cannot read its catalogue")
        };
        let mut reader = match spare {
            Some(reader) => reader,
            None => CatalogReader::open(&self.own).map_err(failed)?,
        };
        let answer = ask(&mut reader).map_err(failed)?;
        let mut spare = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_READERS {
            spare.push(reader);
        }
        Ok(answer)
    }

    /// The latest change that may be in what was read here before this was asked. Until the keeper has told it after a start, what the catalogue has.
    #[must_use]
    pub fn mark(&self) -> Lsn {
        let mark = self.scoreboard.visible_lsn();
        if mark != Lsn::default() {
            return mark;
        }
        self.with_catalogue(CatalogReader::applied).unwrap_or_default()
    }

    /// Whether the last change to a path is this one.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn is_current(&self, path: &TreePath, version: Lsn) -> Result<bool, Refusal> {
        Ok(self.with_catalogue(|reader| reader.version_at(path))? == Some(Some(version)))
    }

    /// Whether the folder was read whole since the keeper's start.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn is_complete(&self) -> Result<bool, Refusal> {
        self.with_catalogue(CatalogReader::is_complete)
    }

    /// Whether a keeper is still reading the folder for the first time.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn is_scanning(&self) -> Result<bool, Refusal> {
        self.with_catalogue(CatalogReader::is_scanning)
    }

    /// What the catalogue knows of what `meta` was read from.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn facts(&self, path: &TreePath, meta: &Meta) -> Result<EntryFacts, Refusal> {
        match self.with_catalogue(|reader| reader.facts_of(path, meta))? {
            Some(facts) => Ok(facts),
            None => {
                self.hints.report_different(path);
                Ok(EntryFacts::default())
            }
        }
    }

    /// Counters of folder and pool, and the last error.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn counters(&self) -> Result<(Counters, String), Refusal> {
        let (counters, last_error) =
            self.with_catalogue(|reader| Ok((reader.counters()?, reader.last_error()?)))?;
        Ok((with_pool(counters, &self.scoreboard), last_error))
    }

    /// This slave as a holder of content. Where it is, the client knows.
    #[must_use]
    pub fn as_holder(&self) -> Vec<Endpoint> {
        vec![Endpoint { id: self.slave_id, addrs: Vec::new() }]
    }

    /// The slaves of these folders, but not this one.
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

    /// The folders that hold the content of a put, as the master knows them; none where that cannot be learnt soon.
    #[must_use]
    pub fn holders(&self, put: Lsn, asker: &Owner) -> Vec<FolderId> {
        let (mut channel, until) = (None, Instant::now() + HOLDERS_KNOWN);
        let mut asked = false;
        while Instant::now() < until {
            if channel.is_none() {
                channel = self.proposal_socket.open(asker).ok();
            }
            let Some(open) = &channel else { return Vec::new() };
            let came = if asked {
                match open.holders() {
                    Ok(Received::Message(folders)) => return folders,
                    Ok(Received::Nothing) => false,
                    _ => return Vec::new(),
                }
            } else {
                match open.hello() {
                    Ok(Received::Message(())) => {
                        asked = open.ask_holders(put).unwrap_or(false);
                        asked
                    }
                    Ok(Received::Nothing) => false,
                    _ => return Vec::new(),
                }
            };
            if !came {
                wait_for(open, until);
            }
        }
        debug!("who holds put {put} is not known in time");
        Vec::new()
    }

    /// All other slaves.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn others(&self) -> Result<Vec<Endpoint>, Refusal> {
        let peers = self.with_catalogue(CatalogReader::peers)?;
        let others = peers
            .into_iter()
            .filter(|(slave, folder)| *slave != self.slave_id && *folder != self.folder_id);
        Ok(others
            .map(|(id, _)| Endpoint { id, addrs: Vec::new() })
            .take(limits::REDIRECT_SLAVES)
            .collect())
    }

    /// The content at `path` may be damaged: a client has compared it with its digest, and asks for its pieces.
    pub fn suspect(&self, path: &TreePath) {
        if self.follows {
            self.hints.report_damaged(path);
        }
    }

    /// `path` is other on the disk than in the catalogue.
    pub fn hint(&self, path: &TreePath) {
        self.hints.report_different(path);
    }

    /// What went wrong on the disk goes to the log, as often as anybody can look at it.
    pub fn tell(path: &TreePath, error: &dyn std::fmt::Display) {
        static FAILED: LogRateLimiter = LogRateLimiter::new();
        if let Some(more) = FAILED.turn(Instant::now()) {
            warn!("{path}: {error}{more}");
        }
    }

    /// Whether the disk has room for so many more bytes of uploads, and what has to stay free beside them.
    ///
    /// # Errors
    /// [`ErrorCode::NoSpace`] where it has not.
    pub fn check_room(&self, path: &TreePath, bytes: u64) -> Result<(), Refusal> {
        // Where the system does not tell, the disk says so when it is full.
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

    /// An upload was answered: what was staged for it has its name, is discarded, or waits to be asked for again.
    pub fn settle_upload(&self, staged: &StagedName) {
        self.scoreboard.uploads().release(staged, &self.staging);
    }

    /// Nothing comes of what was staged.
    pub fn discard_upload(&self, staged: &StagedName) {
        self.staging.discard(staged);
        self.settle_upload(staged);
    }

    /// The refusal for a failure of the disk, whose details go to the log.
    #[must_use]
    pub fn storage(path: &TreePath, error: &io::Error) -> Refusal {
        Self::tell(path, error);
        Refusal::at(path, ErrorCode::Storage, "the slave cannot read it")
    }
}

/// Pieces that each of so many workers hashes at a time: all cores are used, and no more.
fn hashed_at_a_time(workers: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) / workers.max(1)
}

/// Waits for the replicator, at most until a time.
fn wait_for(channel: &SessionEnd, until: Instant) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
    // Woken early or not: the caller looks again.
    let _ = poll(&mut [PollFd::new(channel, PollFlags::IN)], timeout.as_ref());
}

/// Adds what the scoreboard knows of the pool.
#[must_use]
pub fn with_pool(counters: Counters, scoreboard: &Scoreboard) -> Counters {
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

/// Who a session belongs to. All that it keeps on the slave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Empty: no account.
    pub user: String,
    /// Whose turn its work takes.
    pub owner: Owner,
    /// The folder that the user sees as the top.
    pub root: TreePath,
    /// Whether the user may change anything.
    pub writable: bool,
    /// The highest change that the user has seen.
    pub mark: Lsn,
    /// Whether it is another slave, which takes content.
    pub peer: bool,
    /// Generation of the accounts when the user logged in.
    pub generation: u64,
    /// When the login ends, in the master's milliseconds since 1970 UTC.
    pub ends_ms: u64,
}

impl Session {
    /// For logs.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.user.is_empty() { "(no account)" } else { &self.user }
    }

    /// Another slave's, which has proved that it belongs here.
    #[must_use]
    pub fn of_peer() -> Self {
        let (user, root, mark) = (String::new(), TreePath::root(), Lsn::default());
        Self {
            user,
            owner: Owner::default(),
            root,
            writable: false,
            mark,
            peer: true,
            generation: u64::MAX,
            ends_ms: u64::MAX,
        }
    }

    /// Whether the login still counts: it ends some time, and when something was taken from somebody all log in again.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`].
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

    /// A refusal with its path as this user knows it.
    #[must_use]
    pub fn as_user_sees(&self, refusal: Refusal) -> Refusal {
        refusal.below(&self.root)
    }

    /// As [`Self::resolve`], for what shall be removed or moved: the user's top never is.
    ///
    /// # Errors
    /// [`ErrorCode::Denied`] for the top; those of [`Self::resolve`].
    pub fn resolve_below(&self, path: &TreePath) -> Result<TreePath, Refusal> {
        if path.is_root() {
            return Err(Refusal::new(
                ErrorCode::Denied,
                "the top can be neither made, removed, moved nor replaced",
            ));
        }
        self.resolve(path)
    }

    /// The path in the slave's folder that the user's `path` means. It can only lead further down.
    ///
    /// # Errors
    /// [`ErrorCode::BadName`] where the joined path is too long.
    pub fn resolve(&self, path: &TreePath) -> Result<TreePath, Refusal> {
        path.parts()
            .try_fold(self.root.clone(), |at, part| at.join(part))
            .map_err(|e| Refusal::new(ErrorCode::BadName, e.to_string()))
    }
}
