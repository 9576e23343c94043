//! The catalogue writer: the one thread that writes the catalogue.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use relais_os::{ProcessMailbox, Waker};
use relais_proto::TreePath;
use relais_storage::{
    CatalogError, CatalogReader, CatalogStore, FolderEvent, FolderWatcher, MountWatcher, QUIET,
    ReplicaDriver, ReplicaDriverConfig, Scanner, Staging, WatchMode, WriterLock,
};
use relais_tree::Folder;
use rustix::event::{PollFd, PollFlags};

use super::hasher::Hasher;
use super::replica_connections::ReplicaConnections;
use super::sweeper::Sweeper;
use crate::hints::Hint;
use crate::poll::wait_for;
use crate::scoreboard::wall_ms;
use crate::thread::OwnedThread;

/// Edited files, and files to be checked, that are passed to the hashing threads at once.
const EDIT_BATCH: usize = 64;
/// New files that are passed to the hashing threads at once, by number and by bytes. Edits wait
/// until they are hashed.
const HASH_BATCH: u32 = 2048;
const HASH_BYTES: u64 = 64 * 1024 * 1024;
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

/// A running catalogue writer.
pub struct CatalogWriter {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: OwnedThread,
}

impl CatalogWriter {
    /// Starts the thread, which holds the lock until it ends. `hints` come from the workers.
    ///
    /// # Errors
    /// Returns the errors of the database and of the system calls.
    pub(crate) fn start(
        root: Folder,
        lock: WriterLock,
        store: CatalogStore,
        config: ReplicaDriverConfig,
        connections: ReplicaConnections,
        hints: Arc<ProcessMailbox<Hint>>,
    ) -> Result<Self, CatalogError> {
        let stop = Arc::new(AtomicBool::new(false));
        let waker = Arc::new(Waker::new()?);
        let watch = match config.watch {
            WatchMode::Off => None,
            WatchMode::Add | WatchMode::All => Some(FolderWatcher::new()?),
        };
        let token = config.writer_token.clone();
        let scoreboard = connections.scoreboard.clone();
        let reader = CatalogReader::new(store.own());
        let writer_loop = WriterLoop {
            hasher: Hasher::start(&root, stop.clone())?,
            driver: Box::new(ReplicaDriver::new(root.try_clone()?, config, &store)?),
            connections,
            sweeper: Sweeper::start(Staging::open(&root)?, reader, scoreboard, stop.clone())?,
            token,
            hints,
            mounts: MountWatcher::new(root.try_clone()?),
            scanner: Scanner::new(root, store, watch, stop.clone()),
            complete: false,
            scan_ended: None,
            rescan_at: None,
            last_hash_check: None,
        };
        let (flag, thread_waker) = (stop.clone(), waker.clone());
        let thread = OwnedThread::spawn("catalog-writer", move || {
            let _lock = lock;
            writer_loop.run(&flag, &thread_waker);
        })?;
        Ok(Self { stop, waker, thread })
    }

    /// Returns whether a thread has ended without a request.
    pub fn has_ended(&self) -> bool {
        self.thread.has_ended()
    }
}

impl Drop for CatalogWriter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
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
        for hint in self.hints.take() {
            match hint {
                Hint::Different(path) => self.scanner.debounce.add(path, Instant::now()),
                Hint::Suspect(path) => self.driver.check_reported(&path, &self.scanner.store)?,
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
        for (of, digest) in self.hasher.results() {
            self.scanner.store.begin()?;
            if let Some(digest) = digest {
                self.scanner.store.set_digest(&of, digest)?;
            }
            self.driver.handle_digest(&of, digest, &self.scanner.store)?;
            if digest.is_none() {
                // The row is of other content. The pause lets the scan come before the next hash
                // request.
                self.scanner.debounce.add(of.path, Instant::now());
                self.last_hash_check = Some(Instant::now());
            }
        }
        Ok(())
    }

    fn request_digests(&mut self) -> Result<(), CatalogError> {
        if !self.hasher.is_idle() {
            return Ok(());
        }
        let now = Instant::now();
        let is_quiet = |path: &TreePath| !self.scanner.debounce.contains(path);
        let mut files = self.driver.take_unhashed(EDIT_BATCH, is_quiet);
        if files.is_empty()
            && self.last_hash_check.is_none_or(|at| now.duration_since(at) >= HASH_INTERVAL)
        {
            let wall = i64::try_from(wall_ms() / 1000).unwrap_or(i64::MAX);
            files = self.scanner.store.unhashed(wall, HASH_BATCH)?;
            let mut bytes = 0_u64;
            files.retain(|file| {
                let is_first = bytes == 0;
                bytes = bytes.saturating_add(file.meta.size.max(1));
                is_quiet(&file.path) && (is_first || bytes <= HASH_BYTES)
            });
            // After a full batch the next check follows at once.
            self.last_hash_check = files.is_empty().then_some(now);
        }
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
        wait_for(&mut fds, next.map(|at| at.saturating_duration_since(now))).map(drop)
    }
}

#[cfg(test)]
#[path = "catalog_writer_tests.rs"]
mod tests;
