//! A host for tests: a folder with a catalogue, and a writer that makes each proposal at once.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::VecDeque;
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, UNIX_EPOCH};

use relais_auth::EndedTickets;
use relais_cluster::{Entry, FileContent};
use relais_engine::{
    Engine, EngineSettings, Host, KeepAlive, Owner, PreparedChange, Principal, ProposalChannel,
    Protocol, Session, TransferLog,
};
use relais_os::Received;
use relais_proto::{
    Change, Digest, ErrorCode, EventKind, FolderId, Kind, LogEntry, Lsn, Metrics, Mode, Refusal,
    TreePath, WaitReason,
};
use relais_storage::upload_table::{UploadLimits, UploadTable};
use relais_storage::{
    CatalogStore, Commit, CommitReceipt, Proposal, ProposalResult, SlaveIdentity, StagedName,
    Staging, StartParameters, WriterLock,
};
use relais_tree::Folder;
use tempfile::TempDir;

/// Proposals that fit into a channel.
pub const ROOM: usize = 40;

/// What a session and the writer have sent each other.
#[derive(Default)]
struct Link {
    /// Whether the greeting was not read yet.
    greeted: bool,
    was_greeted: bool,
    proposals: VecDeque<Proposal>,
    results: VecDeque<ProposalResult>,
    holders_asked: bool,
    is_closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

struct TestChannel {
    link: Arc<Mutex<Link>>,
    /// Has a byte for each message of the writer.
    wake: PipeReader,
}

impl TestChannel {
    fn receive<T>(&self, take: impl FnOnce(&mut Link) -> Option<T>) -> io::Result<Received<T>> {
        let mut link = lock(&self.link);
        match take(&mut link) {
            Some(message) => {
                (&self.wake).read_exact(&mut [0])?;
                Ok(Received::Message(message))
            }
            None if link.is_closed => Ok(Received::Gone),
            None => Ok(Received::Nothing),
        }
    }
}

impl ProposalChannel for TestChannel {
    fn read_greeting(&self) -> io::Result<Received<()>> {
        self.receive(|link| std::mem::take(&mut link.greeted).then_some(()))
    }

    fn propose(&self, proposal: &Proposal) -> io::Result<bool> {
        let mut link = lock(&self.link);
        let fits = !link.is_closed && link.proposals.len() < ROOM;
        if fits {
            link.proposals.push_back(proposal.clone());
        }
        Ok(fits)
    }

    fn read_result(&self) -> io::Result<Received<ProposalResult>> {
        self.receive(|link| link.results.pop_front())
    }

    fn ask_holders(&self, _: Lsn) -> io::Result<bool> {
        lock(&self.link).holders_asked = true;
        Ok(true)
    }

    fn read_holders(&self) -> io::Result<Received<Vec<FolderId>>> {
        Ok(Received::Message(Vec::new()))
    }

    fn prepare_wait(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The writer's end of a channel. Dropping it closes the channel.
pub struct WriterEnd {
    link: Arc<Mutex<Link>>,
    wake: PipeWriter,
}

impl WriterEnd {
    /// Greets, unless that was done before.
    pub fn greet(&self) {
        let mut link = lock(&self.link);
        if !std::mem::replace(&mut link.was_greeted, true) {
            link.greeted = true;
            (&self.wake).write_all(&[0]).unwrap();
        }
    }

    pub fn next(&self) -> Option<Proposal> {
        lock(&self.link).proposals.pop_front()
    }

    /// Returns the changes of all proposals that have come.
    pub fn take_all(&self) -> Vec<Change> {
        std::iter::from_fn(|| self.next()).map(|proposal| proposal.change).collect()
    }

    pub fn answer(&self, result: ProposalResult) {
        lock(&self.link).results.push_back(result);
        (&self.wake).write_all(&[0]).unwrap();
    }
}

impl Drop for WriterEnd {
    fn drop(&mut self) {
        lock(&self.link).is_closed = true;
    }
}

/// What the engine and the writer of a test share.
pub struct TestState {
    pub applied: AtomicU64,
    /// Generation of the accounts.
    pub generation: AtomicU64,
    pub now_ms: AtomicU64,
    pub ended_tickets: Vec<AtomicU64>,
    uploads: UploadTable,
    pub opened: Mutex<Vec<WriterEnd>>,
    /// Whether uploads are pending on another slave.
    pub elsewhere: Mutex<Option<bool>>,
    /// How often an upload by path has begun or ended.
    pub changes: AtomicU64,
    /// Bytes of all transfers.
    pub transferred: AtomicU64,
    /// Transfers that are under way.
    pub transfers: AtomicU64,
    pub resumes: AtomicU64,
    pub failovers: AtomicU64,
}

pub struct TestHost(pub Arc<TestState>);

impl Host for TestHost {
    fn visible_lsn(&self) -> Lsn {
        self.applied_lsn()
    }

    fn applied_lsn(&self) -> Lsn {
        Lsn { epoch: 1, number: self.0.applied.load(SeqCst) }
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(SeqCst)
    }

    fn now_ms(&self) -> u64 {
        self.0.now_ms.load(SeqCst)
    }

    fn transfer_began(&self) {
        self.0.transfers.fetch_add(1, SeqCst);
    }

    fn transfer_resumed(&self) {
        self.0.resumes.fetch_add(1, SeqCst);
    }

    fn transfer_failed_over(&self) {
        self.0.failovers.fetch_add(1, SeqCst);
    }

    fn transfer_moved(&self, _: Protocol, _: bool, bytes: u64) {
        self.0.transferred.fetch_add(bytes, SeqCst);
    }

    fn transfer_ended(&self, _: Protocol, _: bool, _: u64, _: Duration) {
        self.0.transfers.fetch_sub(1, SeqCst);
    }

    fn is_draining(&self) -> bool {
        false
    }

    fn disconnected_for(&self) -> Option<Duration> {
        None
    }

    fn copies(&self) -> u16 {
        1
    }

    fn with_pool_metrics(&self, metrics: Metrics) -> Metrics {
        metrics
    }

    fn is_displaced(&self) -> bool {
        false
    }

    fn is_halted(&self) -> bool {
        false
    }

    fn ended_tickets(&self) -> EndedTickets<'_> {
        EndedTickets::new(&self.0.ended_tickets)
    }

    fn uploads(&self) -> &UploadTable {
        &self.0.uploads
    }

    fn begin_large_transfer(&self) -> bool {
        true
    }

    fn end_large_transfer(&self) {}

    fn report_different(&self, _: &TreePath) {}

    fn report_damaged(&self, _: &TreePath) {}

    fn end_upload_elsewhere(&self, _: &StagedName) {}

    fn path_upload_began(&self, _: &StagedName) {
        self.0.changes.fetch_add(1, SeqCst);
    }

    fn path_upload_ended(&self) {
        self.0.changes.fetch_add(1, SeqCst);
    }

    fn is_upload_elsewhere(&self, _: &StagedName) -> Option<bool> {
        *lock(&self.0.elsewhere)
    }

    fn open_channel(&self, _: &Owner) -> io::Result<Box<dyn ProposalChannel>> {
        let (reader, writer) = io::pipe()?;
        let link = Arc::new(Mutex::new(Link::default()));
        lock(&self.0.opened).push(WriterEnd { link: link.clone(), wake: writer });
        Ok(Box::new(TestChannel { link, wake: reader }))
    }
}

/// An engine for a new folder.
pub struct Fixture {
    pub dir: TempDir,
    pub engine: Arc<Engine>,
    pub state: Arc<TestState>,
    pub own: SlaveIdentity,
    writer_lock: WriterLock,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with_sha256(false)
    }

    /// Makes an engine that computes SHA-256 hashes of uploads, or does not.
    pub fn with_sha256(hashes_uploads: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let folder = Folder::open(&root).unwrap();
        let started = StartParameters { standalone: false, requested_port: 0, bound_port: 40_000 };
        let own = SlaveIdentity::acquire(&folder, started).unwrap();
        let limits = UploadLimits { number: 100, bytes: u64::MAX };
        let map = |words: usize| {
            let words: Box<[AtomicU64]> = (0..words).map(|_| AtomicU64::new(0)).collect();
            Ok(&*Box::leak(words))
        };
        let state = Arc::new(TestState {
            applied: AtomicU64::new(1),
            generation: AtomicU64::new(0),
            now_ms: AtomicU64::new(1),
            ended_tickets: std::iter::repeat_with(AtomicU64::default)
                .take(EndedTickets::WORDS)
                .collect(),
            uploads: UploadTable::new(limits, map).unwrap(),
            opened: Mutex::default(),
            elsewhere: Mutex::new(Some(false)),
            changes: AtomicU64::default(),
            transferred: AtomicU64::default(),
            transfers: AtomicU64::default(),
            resumes: AtomicU64::default(),
            failovers: AtomicU64::default(),
        });
        let engine = Engine::new(EngineSettings {
            folder,
            own: own.folder.clone(),
            folder_id: own.folder_id,
            slave_id: own.slave_id,
            umask: Mode::new(0o022),
            read_only: None,
            is_cluster_member: true,
            parallel_hashes: 1,
            hashes_uploads,
            transfer_log: Some(Arc::new(TransferLog::open(&dir.path().join("log")).unwrap())),
            host: Box::new(TestHost(state.clone())),
        });
        let writer_lock = WriterLock::try_acquire(&own.folder).unwrap().unwrap();
        Self { dir, engine: Arc::new(engine.unwrap()), state, own, writer_lock }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Returns the lines of the transfer log as command, path and result.
    pub fn log(&self) -> Vec<[String; 3]> {
        let text = fs::read_to_string(self.dir.path().join("log")).unwrap();
        let fields = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            ["command", "path", "result"].map(|name| line[name].as_str().unwrap().to_owned())
        };
        text.lines().map(fields).collect()
    }

    pub fn session(&self, user: &str) -> Session {
        let address: std::net::SocketAddr = "192.0.2.1:5".parse().unwrap();
        let principal = Principal::new(user, address.ip());
        self.session_of(principal)
    }

    pub fn session_of(&self, principal: Principal) -> Session {
        let address: std::net::SocketAddr = "192.0.2.1:5".parse().unwrap();
        Session::new(self.engine.clone(), principal, Protocol::Ftp, address, Arc::new(|| {}))
    }

    /// Has the catalogue count as complete.
    pub fn complete_catalogue(&self) -> CatalogStore {
        let store = CatalogStore::open(&self.own.folder).unwrap();
        store.set_complete(&self.writer_lock.new_token().unwrap()).unwrap();
        store
    }

    /// Runs `test` while a writer makes all changes.
    pub fn with_writer<T>(&self, test: impl FnOnce() -> T) -> T {
        let store = self.complete_catalogue();
        let stop = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (store, mut ends) = (store, Vec::new());
                while stop.load(SeqCst) == 0 {
                    let opened = std::mem::take(&mut *lock(&self.state.opened));
                    opened.iter().for_each(WriterEnd::greet);
                    ends.extend(opened);
                    for end in &ends {
                        while let Some(proposal) = end.next() {
                            end.answer(self.make(&store, &proposal));
                        }
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
            stop.store(1, SeqCst);
            writer.join().unwrap();
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Submits a change, and returns its proposal.
    pub fn take_proposal(&self, session: &mut Session, change: PreparedChange) -> Proposal {
        self.complete_catalogue();
        let greeted = std::thread::scope(|scope| {
            let end = scope.spawn(|| {
                loop {
                    if let Some(end) = lock(&self.state.opened).pop() {
                        end.greet();
                        return end;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let mut waiting = Waiting::at_most(Duration::from_secs(30));
            assert!(session.submit(change, &mut waiting).unwrap().is_none());
            end.join().unwrap()
        });
        greeted.next().unwrap()
    }

    pub fn engine_staging(&self) -> Staging {
        Staging::open(&Folder::open(&self.root()).unwrap()).unwrap()
    }

    /// Makes one change.
    fn make(&self, store: &CatalogStore, proposal: &Proposal) -> ProposalResult {
        if let Some(commit) = store.commit_of(proposal.id).unwrap() {
            return commit.answer_to(&proposal.change);
        }
        let number = self.state.applied.load(SeqCst) + 1;
        let version = Lsn { epoch: 1, number };
        let on_disk = |path: &TreePath| self.root().join(path.as_str());
        let missing = |path| Refusal::at(path, ErrorCode::NotFound, "no such file or folder");
        let folder = Folder::open(&self.root()).unwrap();
        let mut digest = None;
        let event = |kind, path| {
            store.record_event(version, &kind, path).unwrap();
            store.set_applied(version).unwrap();
        };
        let path = match &proposal.change {
            Change::Put { path, digest: received, .. } => {
                let staged = proposal.staged.as_ref().unwrap();
                if !proposal.expect.fits(store.version_at(path).unwrap()) {
                    self.engine_staging().discard(staged);
                    return Err(Refusal::at(path, ErrorCode::Conflict, "another version"));
                }
                let staged = self.root().join(".relais/staging").join(staged.to_string());
                fs::rename(staged, on_disk(path)).map_err(|_| missing(path))?;
                digest = Some(*received);
                path
            }
            Change::MakeFolder { path, .. } => {
                fs::create_dir(on_disk(path)).map_err(|_| missing(path))?;
                path
            }
            Change::Remove { path, .. } => {
                let disk = on_disk(path);
                let removed =
                    if disk.is_dir() { fs::remove_dir(disk) } else { fs::remove_file(disk) };
                removed.map_err(|_| missing(path))?;
                store.remove(path).unwrap();
                event(EventKind::Removed, path);
                self.state.applied.store(number, SeqCst);
                return Ok(CommitReceipt::new(version));
            }
            Change::Move { from, to } => {
                fs::rename(on_disk(from), on_disk(to)).map_err(|_| missing(from))?;
                store.remove(from).unwrap();
                to
            }
            Change::SetAttributes { path, attributes } => {
                let file = fs::File::open(on_disk(path)).map_err(|_| missing(path))?;
                if let Some(mode) = attributes.mode {
                    file.set_permissions(fs::Permissions::from_mode(mode.bits())).unwrap();
                }
                if let Some(mtime) = attributes.mtime {
                    let seconds = u64::try_from(mtime.seconds).unwrap();
                    file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
                }
                path
            }
            annotation => {
                if let Change::SetProperties { path, .. } | Change::Lock { path, .. } = annotation
                    && !path.is_root()
                    && !on_disk(path).exists()
                {
                    return Err(missing(path));
                }
                let (id, time_ms) = (proposal.id, self.state.now_ms.load(SeqCst));
                let entry = LogEntry { version, id, time_ms, change: annotation.clone() };
                store.annotate(&entry).unwrap();
                store.record_unseen(version).unwrap();
                store.set_applied(version).unwrap();
                store.record_change(id, Commit::new(version, annotation)).unwrap();
                self.state.applied.store(number, SeqCst);
                return Ok(CommitReceipt::new(version));
            }
        };
        let meta = folder.stat(path).unwrap();
        let content = (meta.served_kind() == Some(Kind::File)).then(|| FileContent {
            put: version,
            digest: digest.unwrap_or(Digest([0; 32])),
            size: meta.size,
            mtime: meta.mtime,
        });
        let entry = Entry { version, mode: meta.mode, content };
        store.put_entry(path, &entry, Some(&meta), &[]).unwrap();
        event(EventKind::Created, path);
        store.record_change(proposal.id, Commit::new(version, &proposal.change)).unwrap();
        self.state.applied.store(number, SeqCst);
        Ok(CommitReceipt { digest, ..CommitReceipt::new(version) })
    }
}

/// Counts calls, and ends the wait after a time.
pub struct Waiting {
    pub calls: usize,
    pub reasons: Vec<WaitReason>,
    until: Instant,
}

impl Waiting {
    pub fn at_most(time: Duration) -> Self {
        Self { calls: 0, reasons: Vec::new(), until: Instant::now() + time }
    }
}

impl KeepAlive for Waiting {
    fn send_keepalive(&mut self, reason: WaitReason) -> io::Result<()> {
        self.calls += 1;
        if self.reasons.last() != Some(&reason) {
            self.reasons.push(reason);
        }
        if Instant::now() >= self.until {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }
}
