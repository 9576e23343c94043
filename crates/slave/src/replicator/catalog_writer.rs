//! The catalogue writer: the one thread that writes the catalogue.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, error, info, warn};
use relais_os::{ProcessMailbox, Waker};
use relais_proto::{FolderId, SlaveId, TreePath};
use relais_storage::{
    CatalogError, CatalogStore, FolderEvent, FolderWatcher, LinkEvent, MountWatcher, QUIET,
    ReplicaDriver, ReplicaDriverConfig, Scanner, Staging, WatchMode, WriterLock,
};
use relais_tree::Folder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::fetch::FetchPool;
use super::hasher::{Hashed, Hasher};
use super::mailbox::LinkMailbox;
use super::replica_connections::ReplicaConnections;
use super::sweeper::Sweeper;
use crate::changes::channel::ProposalSocket;
use crate::hints::Hint;
use crate::scoreboard::Scoreboard;

/// Files passed to the hashing thread at once.
const HASH_BATCH: u32 = 64;
/// Interval between two checks for files that are ready to be hashed.
const HASH_INTERVAL: Duration = Duration::from_millis(250);
/// Interval between two rescans if a folder cannot be watched.
const RESCAN_INTERVAL: Duration = Duration::from_secs(10);
/// Duration of one slice of a full scan. Changes and events are handled between slices.
const SCAN_SLICE: Duration = Duration::from_millis(20);
/// Time that the first scan waits for files that were written right before the start.
const FIRST_SCAN_WAIT: Duration = QUIET.saturating_mul(2);
/// Pause after an error of the folder or database, before the rescan.
const ERROR_PAUSE: Duration = Duration::from_secs(2);

/// Settings of the catalogue writer, and what it shares with the rest of the slave.
#[derive(Debug, Clone)]
pub struct CatalogWriterConfig {
    /// How the folder is watched.
    pub watch: WatchMode,
    /// Id of the folder.
    pub folder: FolderId,
    /// Id of the slave.
    pub slave: SlaveId,
    /// Counters in shared memory.
    pub scoreboard: Arc<Scoreboard>,
    /// Hints of workers that a file differs from the catalogue.
    pub hints: Arc<ProcessMailbox<Hint>>,
    /// Receives the proposals of sessions.
    pub proposal_socket: Arc<ProposalSocket>,
}

/// What the writer needs to replicate.
pub struct ReplicationConfig {
    /// Mailbox of the link to the coordinator.
    pub mailbox: LinkMailbox,
    /// Link events that arrived while another slave wrote the catalogue.
    pub backlog: Vec<LinkEvent>,
    /// Fetches content from other slaves; `None` in a standalone slave.
    pub fetch_pool: Option<FetchPool>,
}

/// A running catalogue writer.
pub struct CatalogWriter {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl CatalogWriter {
    /// Starts the thread, which holds the lock until it ends.
    ///
    /// # Errors
    /// Returns the errors of the database and of the system calls.
    pub(crate) fn start(
        root: &Folder,
        config: &CatalogWriterConfig,
        lock: WriterLock,
        store: CatalogStore,
        replication: ReplicationConfig,
    ) -> Result<Self, CatalogError> {
        let stop = Arc::new(AtomicBool::new(false));
        let waker = Arc::new(Waker::new()?);
        let watch = match config.watch {
            WatchMode::Off => None,
            WatchMode::Add | WatchMode::All => Some(FolderWatcher::new()?),
        };
        let hasher = Hasher::start(root, stop.clone())?;
        let token = lock.new_token()?;
        let is_sole = replication.fetch_pool.is_none();
        let connections = ReplicaConnections::new(
            root,
            config.scoreboard.clone(),
            config.proposal_socket.clone(),
            replication.mailbox,
            replication.backlog,
            replication.fetch_pool,
        )?;
        let driver_config = ReplicaDriverConfig {
            slave: config.slave,
            folder: config.folder,
            progress: config.scoreboard.progress().clone(),
            uploads: config.scoreboard.uploads().clone(),
            is_sole,
            watch: config.watch,
            writer_token: token.clone(),
        };
        let driver = Box::new(ReplicaDriver::new(root.try_clone()?, driver_config, &store)?);
        let sweeper =
            Sweeper::start(Staging::open(root)?, config.scoreboard.clone(), stop.clone())?;
        let scanner = Scanner::new(root.try_clone()?, store, watch, stop.clone());
        let writer_loop = WriterLoop {
            scanner,
            hasher,
            connections,
            driver,
            sweeper,
            token,
            hints: config.hints.clone(),
            mounts: MountWatcher::new(root.try_clone()?),
            complete: false,
            scan_ended: None,
            rescan_at: None,
            last_hash_check: None,
        };
        let (flag, thread_waker) = (stop.clone(), waker.clone());
        let thread =
            std::thread::Builder::new().name("catalog-writer".to_owned()).spawn(move || {
                let _lock = lock;
                writer_loop.run(&flag, &thread_waker);
            })?;
        Ok(Self { stop, waker, thread: Some(thread) })
    }

    /// Returns whether a thread has ended without a request.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops the thread and waits for it.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for CatalogWriter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the catalogue writer's thread panicked");
        }
    }
}

/// State of the writer between iterations.
struct WriterLoop {
    scanner: Scanner,
    hasher: Hasher,
    connections: ReplicaConnections,
    driver: Box<ReplicaDriver>,
    sweeper: Sweeper,
    /// Names that workers found to differ.
    hints: Arc<ProcessMailbox<Hint>>,
    mounts: MountWatcher,
    /// Token that the catalogue gets once it is complete.
    token: String,
    /// Whether the whole folder was scanned. No change is applied before.
    complete: bool,
    /// End of a full scan that was not evaluated yet.
    scan_ended: Option<Instant>,
    /// Time of the next full scan.
    rescan_at: Option<Instant>,
    /// Time of the last check for files without a digest.
    last_hash_check: Option<Instant>,
}

impl WriterLoop {
    fn run(mut self, stop: &AtomicBool, waker: &Waker) {
        let began = Instant::now();
        self.rescan_at = Some(began);
        while !stop.load(Ordering::Relaxed) {
            match self.run_once() {
                Ok(true) => info!(
                    "the first scan of the folder took {:.1} s",
                    began.elapsed().as_secs_f64()
                ),
                Ok(false) => {}
                Err(CatalogError::NotRecorded(e)) => {
                    error!(
                        "a change could not be recorded; the next catalogue writer recovers it: {e}"
                    );
                    return;
                }
                Err(e) => self.failed(&e),
            }
            if let Err(e) = self.wait(waker) {
                error!("the catalogue writer cannot poll: {e}");
                std::thread::sleep(ERROR_PAUSE);
            }
        }
        if let Err(e) = self.scanner.store.commit() {
            error!("cannot commit the catalogue; the next scan repairs it: {e}");
        }
    }

    /// Logs an error and schedules a rescan, which repairs the catalogue.
    fn failed(&mut self, error: &CatalogError) {
        error!("cannot update the catalogue; it is repaired by a rescan: {error}");
        self.rescan_at = Some(Instant::now() + ERROR_PAUSE);
        if let Err(e) = self
            .scanner
            .store
            .commit()
            .and_then(|()| self.scanner.store.set_last_error(&error.to_string()))
        {
            error!("cannot record the error for status: {e}");
        }
    }

    /// Runs one iteration. Returns whether the first full scan ended in it.
    fn run_once(&mut self) -> Result<bool, CatalogError> {
        if self.complete {
            // The state that the driver has begun for the replica is lost. A new driver starts
            // from the disk.
            self.connections
                .run_once(&mut self.driver, &mut self.scanner)
                .map_err(|e| CatalogError::NotRecorded(e.to_string()))?;
            if self.driver.take_litter() {
                self.sweeper.wake();
            }
        }
        self.take_events()?;
        self.take_mounts()?;
        loop {
            match self.hints.receive() {
                Ok(Some(Hint::Different(path))) => {
                    self.scanner.debounce.add(path, Instant::now());
                }
                Ok(Some(Hint::Suspect(path))) => {
                    self.driver.check_reported(&path, &self.scanner.store)?;
                }
                Ok(None) => break,
                // A worker that sends nonsense must not keep the scan from its work.
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    debug!("a worker has sent a bad hint: {e}");
                    break;
                }
                Err(e) => return Err(e.into()),
            }
        }
        if self.rescan_at.is_some_and(|at| at <= Instant::now()) {
            self.rescan_at = None;
            self.scanner.begin_scan();
        }
        if self.scanner.is_scanning() && self.scanner.continue_scan(Instant::now() + SCAN_SLICE)? {
            self.scan_ended = Some(Instant::now());
        }
        for path in self.scanner.debounce.due(Instant::now()) {
            if let Some((folder, name)) = path.split_last() {
                self.scanner.refresh(&folder, name.as_bytes())?;
            }
        }
        if self.scanner.debounce.take_overflow() {
            self.rescan("too many names changed at once")?;
        }
        let first = self.finish_scan()?;
        self.take_digests()?;
        self.request_digests()?;
        self.scanner.store.commit()?;
        Ok(first)
    }

    /// Evaluates a full scan that has ended. Returns `true` for the first one.
    ///
    /// The first scan waits until fresh files are quiet, because a listing right after the start
    /// must contain files that were written right before it.
    fn finish_scan(&mut self) -> Result<bool, CatalogError> {
        let Some(ended) = self.scan_ended else { return Ok(false) };
        if !self.complete
            && self.scanner.debounce.next().is_some()
            && ended.elapsed() < FIRST_SCAN_WAIT
        {
            return Ok(false);
        }
        self.scan_ended = None;
        let first = !std::mem::replace(&mut self.complete, true);
        self.scanner.store.set_complete(&self.token)?;
        self.scanner.store.set_last_error("")?;
        if self.scanner.watch.as_ref().is_some_and(FolderWatcher::is_partial) {
            self.rescan_at = Some(Instant::now() + RESCAN_INTERVAL);
            self.scanner.store.count_rescan()?;
        }
        Ok(first)
    }

    /// Schedules a full scan. Several requests share one scan.
    fn rescan(&mut self, reason: &str) -> Result<(), CatalogError> {
        if self.rescan_at.is_some_and(|at| at <= Instant::now() + QUIET) {
            return Ok(());
        }
        warn!("{reason}; rescanning the whole folder");
        self.rescan_at = Some(Instant::now() + QUIET);
        self.scanner.store.count_rescan()
    }

    fn take_events(&mut self) -> Result<(), CatalogError> {
        let Some(watch) = &mut self.scanner.watch else { return Ok(()) };
        // Most events of one read are about one folder, in which changes were just applied.
        let mut last: Option<(TreePath, Option<Folder>)> = None;
        for change in watch.read_events()? {
            match change {
                FolderEvent::Touched(folder, name) => {
                    match folder.join_bytes(&name) {
                        Some(path) => self.scanner.debounce.restart(path, Instant::now()),
                        // Such a name is only skipped, so it needs no quiet time.
                        None => self.scanner.refresh(&folder, &name)?,
                    }
                }
                FolderEvent::Moved(folder, name) => {
                    if last.as_ref().is_none_or(|(path, _)| *path != folder) {
                        last = Some((folder.clone(), self.scanner.open_for_refresh(&folder)?));
                    }
                    if let Some((_, Some(opened))) = &last {
                        // One transaction for all names.
                        self.scanner.store.begin()?;
                        self.scanner.refresh_in(opened, &folder, &name)?;
                    }
                }
                FolderEvent::RescanNeeded => self.rescan("folder events were lost")?,
            }
        }
        Ok(())
    }

    /// Schedules scans of paths at which a file system was mounted or unmounted.
    fn take_mounts(&mut self) -> Result<(), CatalogError> {
        let changes = self.mounts.take_changes();
        if !changes.unmounted.is_empty() {
            self.scanner.store.retry_all_unapplied()?;
        }
        for path in changes.mounted.into_iter().chain(changes.unmounted) {
            self.scanner.debounce.add(path, Instant::now());
        }
        Ok(())
    }

    fn take_digests(&mut self) -> Result<(), CatalogError> {
        for result in self.hasher.results() {
            self.scanner.store.begin()?;
            match result {
                Hashed::Digest(of, digest) => {
                    self.scanner.store.set_digest(&of, digest)?;
                    self.driver.handle_digest(&of, Some(digest), &self.scanner.store)?;
                }
                Hashed::Changed(of) => {
                    self.driver.handle_digest(&of, None, &self.scanner.store)?;
                    // The row is of other content. The pause lets the scan come before the next
                    // hash request.
                    self.scanner.debounce.add(of.path, Instant::now());
                    self.last_hash_check = Some(Instant::now());
                }
            }
        }
        Ok(())
    }

    fn request_digests(&mut self) -> Result<(), CatalogError> {
        let now = Instant::now();
        if !self.hasher.is_idle() {
            return Ok(());
        }
        let files = self
            .driver
            .take_unhashed(HASH_BATCH as usize, |path| !self.scanner.debounce.contains(path));
        if !files.is_empty() {
            self.hasher.request(files);
            return Ok(());
        }
        if self.last_hash_check.is_some_and(|at| now.duration_since(at) < HASH_INTERVAL) {
            return Ok(());
        }
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |t| i64::try_from(t.as_secs()).unwrap_or(i64::MAX));
        let mut files = self.scanner.store.unhashed(wall, HASH_BATCH)?;
        files.retain(|file| !self.scanner.debounce.contains(&file.path));
        // After a full batch the next check follows at once.
        self.last_hash_check = files.is_empty().then_some(now);
        if !files.is_empty() {
            self.hasher.request(files);
        }
        Ok(())
    }

    /// Waits for an event, a digest, the next quiet name, or the next check.
    fn wait(&self, waker: &Waker) -> io::Result<()> {
        let now = Instant::now();
        let look = self
            .hasher
            .is_idle()
            .then(|| self.last_hash_check.map_or(now, |at| at + HASH_INTERVAL));
        let due = self.complete.then(|| self.driver.due());
        let next =
            [self.rescan_at, self.scanner.debounce.next(), look, due].into_iter().flatten().min();
        let next = if self.scanner.is_scanning() { Some(now) } else { next };
        let timeout = next
            .map(|at| at.saturating_duration_since(now))
            .and_then(|t| Timespec::try_from(t).ok());
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = vec![
            readable(waker.as_fd()),
            readable(self.hasher.ready()),
            readable(self.hints.as_fd()),
        ];
        if let Some(watch) = &self.scanner.watch {
            fds.push(readable(watch.as_fd()));
        }
        if self.complete {
            fds.extend(self.connections.fds(&self.driver).map(readable));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
#[path = "catalog_writer_tests.rs"]
mod tests;
