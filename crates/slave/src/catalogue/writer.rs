//! The keeper: the one thread that writes the catalogue.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{error, info, warn};
use relais_net::tls::Dialer;
use relais_proto::{FolderId, SlaveId, TreePath};
use relais_tree::Folder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::debounce::QUIET;
use super::hasher::{Hashed, Hasher};
use super::scan::Scanner;
use super::store::CatalogStore;
use super::watcher::{FolderEvent, FolderWatcher};
use super::{CatalogError, MetadataFolder, WriterLock};
use crate::changes::channel::ProposalSocket;
use crate::changes::replication::{ReplicaDriver, ReplicaDriverConfig};
use crate::changes::{Committer, Memory, open_journal};
use crate::hints::{Hint, Hints};
use crate::replicator::fetch::FetchPool;
use crate::replicator::mailbox::{LinkEvent, LinkMailbox};
use crate::scoreboard::Scoreboard;
use crate::staging::{Staging, Sweeper};

/// Files given to the hashing thread at once.
const HASH_BATCH: u32 = 64;
/// Time between two looks for files whose digest may be computed by now.
const HASH_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two rescans where some folder cannot be watched.
const RESCAN_INTERVAL: Duration = Duration::from_secs(10);
/// Time for which a scan of everything goes on before changes and events get their turn.
const SCAN_SLICE: Duration = Duration::from_millis(20);
/// How long the first listing waits for files that were written right before the start.
const FIRST_SCAN_WAIT: Duration = QUIET.saturating_mul(2);
/// Pause after the folder or the database failed, before the whole folder is read again.
const ERROR_PAUSE: Duration = Duration::from_secs(2);

/// Whether and how the folder is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// Only the scan at the start.
    Off,
    /// Additions and edits are noticed.
    Add,
    /// Removals too.
    All,
}

/// A keeper's settings, and what it shares with the rest of the slave.
#[derive(Debug, Clone)]
pub struct CatalogWriterConfig {
    /// Whether and how the folder is watched.
    pub watch: WatchMode,
    /// Which folder it is.
    pub folder: FolderId,
    /// Which slave it is.
    pub slave: SlaveId,
    /// What the processes share.
    pub scoreboard: Arc<Scoreboard>,
    /// What workers found different from the catalogue.
    pub hints: Arc<Hints>,
    /// Where sessions bring their changes.
    pub proposal_socket: Arc<ProposalSocket>,
}

/// What a keeper needs that follows a master.
pub struct ReplicationConfig {
    /// The way to the master.
    pub mailbox: LinkMailbox,
    /// What came over it while another slave kept the folder.
    pub backlog: Vec<LinkEvent>,
    /// The cluster key's file, for other slaves.
    pub key_file: PathBuf,
    /// How other slaves are reached.
    pub dialer: Dialer,
}

impl CatalogWriterConfig {
    /// Who makes changes here, and what the journal says of the tree where the catalogue was built anew.
    fn change_driver(
        &self,
        own: &MetadataFolder,
        root: &Folder,
        store: &CatalogStore,
        token: &str,
        following: Option<ReplicationConfig>,
    ) -> Result<(ChangeDriver, Memory), CatalogError> {
        let Some(ReplicationConfig { mailbox, backlog, key_file, dialer }) = following else {
            let (numbering, memory) = open_journal(own, root, self.folder, store)?;
            self.scoreboard.set_applied_lsn(numbering.last());
            let committer = Committer::new(
                root.try_clone()?,
                Box::new(numbering),
                self.scoreboard.clone(),
                self.proposal_socket.clone(),
            )?;
            return Ok((ChangeDriver::Standalone(Box::new(committer)), memory));
        };
        let fetch_pool = FetchPool::start(self.slave, key_file, dialer, Staging::open(root)?)?;
        let parts = ReplicaDriverConfig {
            root: root.try_clone()?,
            slave: self.slave,
            folder: self.folder,
            scoreboard: self.scoreboard.clone(),
            proposal_socket: self.proposal_socket.clone(),
            mailbox,
            backlog,
            fetch_pool,
            watch: self.watch,
            writer_token: token.to_owned(),
        };
        Ok((ChangeDriver::Cluster(Box::new(ReplicaDriver::new(parts, store)?)), Memory::new()))
    }
}

/// A running keeper.
pub struct CatalogWriter {
    stop: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl CatalogWriter {
    /// Opens the catalogue and starts the thread, which holds the lock until it ends.
    ///
    /// # Errors
    /// Those of the database, also that it is damaged, and of the system calls.
    pub fn start(
        root: &Folder,
        own: &MetadataFolder,
        config: &CatalogWriterConfig,
        lock: WriterLock,
        following: Option<ReplicationConfig>,
    ) -> Result<Self, CatalogError> {
        let stop = Arc::new(AtomicBool::new(false));
        let wake = Arc::new(relais_net::wake_fd()?);
        let store = CatalogStore::open(own)?;
        let watch = match config.watch {
            WatchMode::Off => None,
            WatchMode::Add | WatchMode::All => Some(FolderWatcher::new()?),
        };
        let follows = following.is_some();
        let hasher = Hasher::start(root, follows, stop.clone())?;
        let token = lock.new_token()?;
        let (driver, memory) = config.change_driver(own, root, &store, &token, following)?;
        let sweeper =
            Sweeper::start(Staging::open(root)?, config.scoreboard.clone(), stop.clone())?;
        let scanner = Scanner::new(root.try_clone()?, store, watch, follows, stop.clone());
        let writer_loop = WriterLoop {
            scanner,
            hasher,
            driver,
            sweeper,
            memory,
            token,
            hints: config.hints.clone(),
            complete: false,
            scan_ended: None,
            rescan_at: None,
            last_hash_check: None,
        };
        let (flag, thread_wake) = (stop.clone(), wake.clone());
        let thread = std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            let _lock = lock;
            writer_loop.run(&flag, &thread_wake);
        })?;
        Ok(Self { stop, wake, thread: Some(thread) })
    }

    /// Whether one of the threads ended though nobody asked it to.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the thread and waits for it.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for CatalogWriter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Err(e) = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes()) {
            warn!("the keeper cannot be woken: {e}");
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the keeper's thread failed");
        }
    }
}

/// Who makes changes.
enum ChangeDriver {
    /// This slave alone.
    Standalone(Box<Committer>),
    /// Its master, and it follows.
    Cluster(Box<ReplicaDriver>),
}

/// The keeper's state from round to round.
struct WriterLoop {
    scanner: Scanner,
    hasher: Hasher,
    driver: ChangeDriver,
    sweeper: Sweeper,
    /// The tree by the journal, where the catalogue was built anew and the first scan is not through.
    memory: Memory,
    /// Names that somebody found different.
    hints: Arc<Hints>,
    /// Written into the catalogue once it is complete.
    token: String,
    /// Whether the whole folder was read. Nothing is changed before.
    complete: bool,
    /// When the scan of everything ended from which no conclusions were drawn yet.
    scan_ended: Option<Instant>,
    /// When the whole folder is to be read again.
    rescan_at: Option<Instant>,
    /// When files without a digest were last last_hash_check for.
    last_hash_check: Option<Instant>,
}

impl WriterLoop {
    fn run(mut self, stop: &AtomicBool, wake: &OwnedFd) {
        let began = Instant::now();
        self.rescan_at = Some(began);
        while !stop.load(Ordering::Relaxed) {
            match self.run_once() {
                Ok(true) => info!("the folder was read in {:.1} s", began.elapsed().as_secs_f64()),
                Ok(false) => {}
                Err(CatalogError::Behind(e)) => {
                    error!(
                        "a change could not be noted, and a new keeper has to follow the journal: {e}"
                    );
                    return;
                }
                Err(e) => self.failed(&e),
            }
            if let Err(e) = self.wait(wake) {
                error!("the keeper cannot wait for changes: {e}");
                std::thread::sleep(ERROR_PAUSE);
            }
        }
        if let Err(e) = self.scanner.store.commit() {
            error!("the catalogue's last changes are lost, a scan finds them again: {e}");
        }
    }

    /// Whatever failed, reading the folder again brings everything in order.
    fn failed(&mut self, error: &CatalogError) {
        error!("the catalogue falls behind: {error}");
        self.rescan_at = Some(Instant::now() + ERROR_PAUSE);
        if let Err(e) = self
            .scanner
            .store
            .commit()
            .and_then(|()| self.scanner.store.set_meta("last-error", error.to_string()))
        {
            error!("the error cannot be shown in status: {e}");
        }
    }

    /// One round; whether the first scan of everything has ended in it.
    fn run_once(&mut self) -> Result<bool, CatalogError> {
        if self.complete {
            let litter = match &mut self.driver {
                ChangeDriver::Standalone(committer) => {
                    committer.serve(&self.scanner.store)?;
                    committer.take_litter()
                }
                ChangeDriver::Cluster(driver) => {
                    // What it has begun for the replica is not known any more then: a new one begins with what is on the disk.
                    driver
                        .run_once(&mut self.scanner)
                        .map_err(|e| CatalogError::Behind(e.to_string()))?;
                    driver.take_litter()
                }
            };
            if litter {
                self.sweeper.wake();
            }
        }
        self.take_events()?;
        while let Some(hint) = self.hints.take()? {
            match hint {
                Hint::Different(path) => self.scanner.debounce.add(path, Instant::now()),
                Hint::Suspect(path) => {
                    if let ChangeDriver::Cluster(driver) = &mut self.driver {
                        driver.suspect(&path, &self.scanner.store)?;
                    }
                }
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
        if self.complete && !self.memory.is_empty() {
            self.adopt()?;
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

    /// Draws the conclusions of a scan of everything that has ended. After the first one, files that were too fresh to be taken in get the time to
    /// settle: whoever lists a folder right after the start must not miss what was put there right before. True where it was the first.
    fn finish_scan(&mut self) -> Result<bool, CatalogError> {
        let Some(ended) = self.scan_ended else { return Ok(false) };
        if !self.complete
            && self.scanner.debounce.next().is_some()
            && ended.elapsed() < FIRST_SCAN_WAIT
        {
            return Ok(false);
        }
        self.scan_ended = None;
        if !self.memory.is_empty() {
            self.adopt()?;
        }
        let first = !std::mem::replace(&mut self.complete, true);
        self.scanner.store.set_meta("complete", &self.token)?;
        self.scanner.store.set_meta("last-error", "")?;
        if self.scanner.watch.as_ref().is_some_and(FolderWatcher::is_partial) {
            self.rescan_at = Some(Instant::now() + RESCAN_INTERVAL);
            self.scanner.store.count_rescan()?;
        }
        Ok(first)
    }

    /// Gives what the scan has found the numbers that the journal has for it. What has just changed is not written down
    /// before it is quiet.
    fn adopt(&mut self) -> Result<(), CatalogError> {
        let store = &self.scanner.store;
        store.begin()?;
        for (path, remembered) in
            self.memory.iter().filter(|(path, _)| !self.scanner.debounce.contains(path))
        {
            store.assign_lsn(path, remembered)?;
        }
        self.memory.retain(|path, _| self.scanner.debounce.contains(path));
        if self.memory.is_empty() {
            // Only now: a keeper that ends before begins anew with the whole journal.
            if let ChangeDriver::Standalone(committer) = &self.driver {
                store.set_applied(committer.lsn())?;
            }
        }
        store.commit()
    }

    /// Has everything read again soon: what comes at once is brought in order by one scan.
    fn rescan(&mut self, why: &str) -> Result<(), CatalogError> {
        if self.rescan_at.is_some_and(|at| at <= Instant::now() + QUIET) {
            return Ok(());
        }
        warn!("{why}: the whole folder is read again");
        self.rescan_at = Some(Instant::now() + QUIET);
        self.scanner.store.count_rescan()
    }

    fn take_events(&mut self) -> Result<(), CatalogError> {
        let Some(watch) = &mut self.scanner.watch else { return Ok(()) };
        // Most events of one read are about one folder: the changes that were just made in it.
        let mut last: Option<(TreePath, Option<Folder>)> = None;
        for change in watch.read_events()? {
            match change {
                FolderEvent::Touched(folder, name) => {
                    match std::str::from_utf8(&name).ok().and_then(|name| folder.join(name).ok()) {
                        Some(path) => self.scanner.debounce.restart(path, Instant::now()),
                        // It can only be skipped, and need not be waited for.
                        None => self.scanner.refresh(&folder, &name)?,
                    }
                }
                FolderEvent::Moved(folder, name) => {
                    if last.as_ref().is_none_or(|(path, _)| *path != folder) {
                        last = Some((folder.clone(), self.scanner.open_for_refresh(&folder)?));
                    }
                    if let Some((_, Some(opened))) = &last {
                        self.scanner.refresh_in(opened, &folder, &name)?;
                    }
                }
                FolderEvent::RescanNeeded => {
                    self.rescan("changes in the folder came faster than they could be read")?
                }
            }
        }
        Ok(())
    }

    fn take_digests(&mut self) -> Result<(), CatalogError> {
        for result in self.hasher.results() {
            self.scanner.store.begin()?;
            match result {
                Hashed::Digest(of, digest) => {
                    self.scanner.store.set_digest(&of, digest)?;
                    if let ChangeDriver::Cluster(driver) = &mut self.driver {
                        driver.hashed(&of, Some(digest), &self.scanner.store)?;
                    }
                }
                Hashed::Changed(of) => {
                    if let ChangeDriver::Cluster(driver) = &mut self.driver {
                        driver.hashed(&of, None, &self.scanner.store)?;
                    }
                    // The row is of other content. It is left alone for a while, so that the look comes before the next order.
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
        if let ChangeDriver::Cluster(driver) = &mut self.driver {
            driver.gather_scrub(&self.scanner.store)?;
            let files = driver
                .take_unhashed(HASH_BATCH as usize, |path| !self.scanner.debounce.contains(path));
            if !files.is_empty() {
                self.hasher.order(files);
                return Ok(());
            }
        }
        if self.last_hash_check.is_some_and(|at| now.duration_since(at) < HASH_INTERVAL) {
            return Ok(());
        }
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |t| i64::try_from(t.as_secs()).unwrap_or(i64::MAX));
        let mut files = self.scanner.store.unhashed(wall, HASH_BATCH)?;
        files.retain(|file| !self.scanner.debounce.contains(&file.path));
        // After a full order the next look comes as soon as it is done.
        self.last_hash_check = files.is_empty().then_some(now);
        if !files.is_empty() {
            self.hasher.order(files);
        }
        Ok(())
    }

    /// Waits for events, digests, the next quiet name, or the next look.
    fn wait(&self, wake: &OwnedFd) -> io::Result<()> {
        let now = Instant::now();
        let look = self
            .hasher
            .is_idle()
            .then(|| self.last_hash_check.map_or(now, |at| at + HASH_INTERVAL));
        let due = match &self.driver {
            ChangeDriver::Cluster(driver) if self.complete => Some(driver.due()),
            _ => None,
        };
        let next =
            [self.rescan_at, self.scanner.debounce.next(), look, due].into_iter().flatten().min();
        let next = if self.scanner.is_scanning() { Some(now) } else { next };
        let timeout = next
            .map(|at| at.saturating_duration_since(now))
            .and_then(|t| Timespec::try_from(t).ok());
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = vec![
            readable(wake.as_fd()),
            readable(self.hasher.ready()),
            readable(self.hints.as_fd()),
        ];
        if let Some(watch) = &self.scanner.watch {
            fds.push(readable(watch.as_fd()));
        }
        if self.complete {
            match &self.driver {
                ChangeDriver::Standalone(committer) => fds.extend(committer.fds().map(readable)),
                ChangeDriver::Cluster(driver) => fds.extend(driver.fds().map(readable)),
            }
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}
