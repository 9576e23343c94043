//! What all sessions of a process share: folder, catalogue, settings and the process itself.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use log::{debug, error};
use parking_lot::Mutex;
use relais_os::Received;
use relais_proto::{
    Endpoint, ErrorCode, FolderId, LogRateLimiter, Lsn, Metrics, Mode, PeerSlave, Refusal, SlaveId,
    TreePath, limits,
};
use relais_storage::{
    CatalogError, CatalogReader, CatalogStore, EntryFacts, MetadataFolder, StagedName, Staging,
    upload_table::{RESERVE, RESERVE_PART},
};
use relais_tree::{Folder, Meta, TreeError};

use crate::active_uploads::ActiveUploads;
use crate::computations::Computations;
use crate::hash_semaphore::HashSemaphore;
use crate::host::{Host, ProposalChannel};
use crate::login_renewal::LoginRenewer;
use crate::owner::Owner;
use crate::transfer_log::TransferLog;

/// Error in `status` if the folder's path no longer leads to the served folder.
///
/// It contains no path of the host.
pub const DISPLACED: &str = "the served folder was renamed, removed or replaced; \
     the slave serves the folder that it opened at its start until it is restarted";
/// Error in `status` of a standalone slave whose journal takes no changes.
pub(crate) const HALTED: &str = "no changes are taken: the journal cannot be written, or was \
     removed; check its disk and restart the slave";
/// How long the master may take to name the holders of content.
const HOLDERS_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before a session looks again for a replicator that is being replaced.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long a command waits for the first scan of the folder.
pub(crate) const SCAN_WAIT: Duration = Duration::from_secs(60);
/// Catalogue connections that are kept for later commands.
const SPARE_READERS: usize = 16;

/// The settings of an engine.
pub struct EngineSettings {
    /// The served folder.
    pub folder: Folder,
    /// The slave's own folder, with the catalogue.
    pub own: MetadataFolder,
    /// Id of the served folder.
    pub folder_id: FolderId,
    /// Id of this slave.
    pub slave_id: SlaveId,
    /// Permission bits that new files and folders do not get.
    pub umask: Mode,
    /// Why sessions without an account may change nothing; none if they may.
    pub read_only: Option<&'static str>,
    /// Whether the slave belongs to a cluster.
    ///
    /// In a cluster the tree is what the changes have made, wherever the contents are.
    pub is_cluster_member: bool,
    /// How many pieces of content may be hashed at a time.
    pub parallel_hashes: usize,
    /// Whether the SHA-256 hashes of uploads are computed while they come, and recorded.
    pub hashes_uploads: bool,
    /// The transfer log, if there is one.
    pub transfer_log: Option<Arc<TransferLog>>,
    /// The process around the engine.
    pub host: Box<dyn Host>,
}

/// Folder, catalogue and settings that the sessions of a process need.
pub struct Engine {
    pub(crate) settings: EngineSettings,
    pub(crate) staging: Staging,
    pub(crate) hash_semaphore: HashSemaphore,
    pub(crate) active_uploads: ActiveUploads,
    pub(crate) computations: Computations,
    /// The change up to which the catalogue has no SHA-256 hash at all; none before it was asked.
    pub(crate) unhashed_at: Mutex<Option<Lsn>>,
    /// Renews logins; none before the process has set it.
    login_renewer: OnceLock<Arc<dyn LoginRenewer>>,
    /// Set when the process stops.
    stopping: AtomicBool,
    /// Catalogue connections that no session uses now.
    ///
    /// They are opened when needed, so never before a fork.
    readers: Mutex<Vec<CatalogReader>>,
}

impl Engine {
    /// Opens the staging folders, and nothing else.
    ///
    /// # Errors
    /// Those of opening them.
    pub fn new(settings: EngineSettings) -> Result<Self, TreeError> {
        Ok(Self {
            staging: Staging::open(&settings.folder)?,
            hash_semaphore: HashSemaphore::new(settings.parallel_hashes),
            active_uploads: ActiveUploads::default(),
            computations: Computations::default(),
            settings,
            unhashed_at: Mutex::default(),
            login_renewer: OnceLock::new(),
            stopping: AtomicBool::new(false),
            readers: Mutex::new(Vec::new()),
        })
    }

    /// Returns the process around the engine.
    #[must_use]
    pub fn host(&self) -> &dyn Host {
        &*self.settings.host
    }

    /// Has logins renewed from now on. Only the first call has an effect.
    pub fn renew_logins_by(&self, renewer: Arc<dyn LoginRenewer>) {
        // A process has one authenticator.
        let _ = self.login_renewer.set(renewer);
    }

    /// Returns what renews logins.
    pub(crate) fn login_renewer(&self) -> Option<&dyn LoginRenewer> {
        self.login_renewer.get().map(|renewer| &**renewer)
    }

    /// Returns the id of this slave.
    #[must_use]
    pub fn slave_id(&self) -> SlaveId {
        self.settings.slave_id
    }

    /// Returns the transfer log, if there is one.
    #[must_use]
    pub fn transfer_log(&self) -> Option<&Arc<TransferLog>> {
        self.settings.transfer_log.as_ref()
    }

    /// Marks the process as stopping, so that no session waits for anything that may take long.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the process is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Disconnects the session that receives an upload here, because another one resumes it.
    pub fn end_upload(&self, name: &StagedName) {
        self.active_uploads.disconnect(name);
    }

    /// Disconnects the session that receives an upload, in any process.
    pub(crate) fn end_upload_everywhere(&self, name: &StagedName) {
        self.end_upload(name);
        self.host().end_upload_elsewhere(name);
    }

    /// Queries the catalogue. If it does not exist yet, the result is the default.
    pub(crate) fn with_catalogue<T: Default>(
        &self,
        query: impl FnOnce(&CatalogStore) -> Result<T, CatalogError>,
    ) -> Result<T, Refusal> {
        let spare = self.readers.lock().pop();
        let failed = |e: CatalogError| {
            static UNREADABLE: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = UNREADABLE.allow(Instant::now()) {
                error!("cannot read the catalogue: {e}{more}");
            }
            Refusal::new(ErrorCode::Storage, "the slave cannot read its catalogue")
        };
        let mut reader = spare.unwrap_or_else(|| CatalogReader::new(&self.settings.own));
        let answer = reader.ask(query).map_err(failed)?;
        let mut spare = self.readers.lock();
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
        let lsn = self.host().visible_lsn();
        if lsn != Lsn::default() {
            return lsn;
        }
        self.with_catalogue(CatalogStore::applied).ok().flatten().unwrap_or_default()
    }

    /// Whether `version` is the last change to a path.
    pub(crate) fn is_current(&self, path: &TreePath, version: Lsn) -> Result<bool, Refusal> {
        Ok(self.with_catalogue(|store| store.version_at(path))? == Some(Some(version)))
    }

    /// Returns what the catalogue knows about the file whose metadata is `meta`.
    ///
    /// If the catalogue knows nothing, the path is reported as changed.
    pub(crate) fn facts(&self, path: &TreePath, meta: &Meta) -> Result<EntryFacts, Refusal> {
        match self.with_catalogue(|store| store.facts_of(path, meta))? {
            Some(facts) => Ok(facts),
            None => {
                self.host().report_different(path);
                Ok(EntryFacts::default())
            }
        }
    }

    /// Returns the metrics of folder and pool, and the last error.
    pub(crate) fn metrics(&self) -> Result<(Metrics, String), Refusal> {
        let (metrics, last_error) =
            self.with_catalogue(|store| Ok((store.metrics()?, store.last_error()?)))?;
        Ok((self.host().with_pool_metrics(metrics), last_error))
    }

    /// Returns this slave as a holder of content.
    ///
    /// It has no address, because the client is connected to it.
    pub(crate) fn as_holder(&self) -> Vec<Endpoint> {
        vec![Endpoint { id: self.settings.slave_id, addrs: Vec::new() }]
    }

    /// Returns the other slaves whose folder is `wanted`.
    pub(crate) fn slaves_of(
        &self,
        wanted: impl Fn(&FolderId) -> bool,
    ) -> Result<Vec<Endpoint>, Refusal> {
        // A client may reach a slave at other addresses than this slave does.
        Ok(self
            .peers()?
            .into_iter()
            .filter(|peer| wanted(&peer.folder))
            .map(|peer| Endpoint { id: peer.slave, addrs: Vec::new() })
            .take(limits::REDIRECT_SLAVES)
            .collect())
    }

    /// Returns the other slaves of the cluster, with the addresses where this slave reaches them.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`] if the catalogue cannot be read.
    pub fn peers(&self) -> Result<Vec<PeerSlave>, Refusal> {
        let mut peers = self.with_catalogue(CatalogStore::peers)?;
        peers.retain(|peer| peer.slave != self.settings.slave_id);
        Ok(peers)
    }

    /// Returns the slaves of all other folders.
    pub(crate) fn other_slaves(&self) -> Result<Vec<Endpoint>, Refusal> {
        self.slaves_of(|folder| *folder != self.settings.folder_id)
    }

    /// Asks the master which folders hold the content of a put; none if no answer comes in time.
    pub(crate) fn ask_holders(&self, put: Lsn, asker: &Owner) -> Vec<FolderId> {
        let (mut has_asked, until) = (false, Instant::now() + HOLDERS_TIMEOUT);
        let channel = loop {
            match self.host().open_channel(asker) {
                Ok(channel) => break channel,
                // The replicator is just being replaced.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                    wait_for(None, POLL_INTERVAL);
                }
                Err(_) => return Vec::new(),
            }
        };
        while Instant::now() < until {
            let has_message = if has_asked {
                match channel.read_holders() {
                    Ok(Received::Message(folders)) => return folders,
                    Ok(Received::Nothing) => false,
                    _ => return Vec::new(),
                }
            } else {
                match channel.read_greeting() {
                    Ok(Received::Message(())) => {
                        has_asked = channel.ask_holders(put).unwrap_or(false);
                        has_asked
                    }
                    Ok(Received::Nothing) => false,
                    _ => return Vec::new(),
                }
            };
            if !has_message {
                wait_for(Some(&*channel), until.saturating_duration_since(Instant::now()));
            }
        }
        debug!("the holders of put {put} were not known in time");
        Vec::new()
    }

    /// Returns how many bytes of uploads the disk has space for, beside the reserve.
    ///
    /// `None` if the system does not tell.
    pub(crate) fn disk_space(&self) -> Option<u64> {
        let disk = rustix::fs::fstatvfs(&self.settings.folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let (all, free) = (bytes(disk.f_blocks), bytes(disk.f_bavail));
        (all > 0).then(|| free.saturating_sub(RESERVE.min(all / RESERVE_PART)))
    }

    /// Checks that the disk has space for `bytes` more of uploads, beside the reserve.
    ///
    /// # Errors
    /// [`ErrorCode::NoSpace`] if it has not.
    pub(crate) fn check_disk_space(&self, path: &TreePath, bytes: u64) -> Result<(), Refusal> {
        // If the system does not tell, a full disk fails the write later.
        if self.disk_space().is_none_or(|space| space > 0 && bytes <= space) {
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
    pub(crate) fn release_upload(&self, staged: &StagedName) {
        self.host().uploads().release(staged, &self.staging);
    }

    /// Discards a staged file, and updates the table of uploads.
    pub(crate) fn discard_upload(&self, staged: &StagedName) {
        self.staging.discard(staged);
        self.release_upload(staged);
        if staged.is_by_path() {
            self.host().path_upload_ended();
        }
    }
}

pub(crate) fn stopping() -> Refusal {
    Refusal::new(ErrorCode::Draining, "this slave is stopping")
}

/// Waits for a message on a channel, at most for a time.
pub(crate) fn wait_for(channel: Option<&dyn ProposalChannel>, time: Duration) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec::try_from(time).ok();
    let mut fds: Vec<_> = channel
        .iter()
        .map(|channel| PollFd::from_borrowed_fd(channel.prepare_wait(), PollFlags::IN))
        .collect();
    // The caller checks again in any case.
    let _ = poll(&mut fds, timeout.as_ref());
}

/// Returns the refusal for an error of the disk, whose details go to the log.
pub(crate) fn unreadable(path: &TreePath, error: &io::Error) -> Refusal {
    relais_storage::log_failure(path, error);
    Refusal::at(path, ErrorCode::Storage, "the slave cannot read the file")
}
