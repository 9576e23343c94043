//! A replica in a temporary folder, linked to a coordinator that the test plays.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use relais_proto::{
    Change, ChangeId, ClusterId, CommittedEntry, Digest, Entry, FileTime, FolderId, LinkMessage,
    LogEntry, Lsn, Mode, SlaveId, ToMaster, ToSlave, TreePath,
};
use relais_storage::upload_table::{UploadLimits, UploadTable};
use relais_storage::{
    CatalogReader, CatalogStore, FetchResult, FetchedFile, LinkEvent, MetadataFolder, Output,
    ReplicaDriver, ReplicaDriverConfig, ReplicaProgress, Scanner, SessionRequests, StagedName,
    Staging, WatchMode,
};
use relais_tree::{Folder, complete_file, set_times};
use tempfile::TempDir;

pub const OTHER: FolderId = FolderId([2; 16]);
pub const MTIME: FileTime = FileTime { seconds: 1_700_000_000, nanos: 0 };

pub fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

pub fn lsn(number: u64) -> Lsn {
    Lsn { epoch: 1, number }
}

pub fn id(n: u8) -> ChangeId {
    ChangeId([n; 16])
}

pub fn digest(content: &str) -> Digest {
    Digest(*blake3::hash(content.as_bytes()).as_bytes())
}

pub fn put(name: &str, content: &str) -> Change {
    Change::Put {
        path: path(name),
        size: content.len() as u64,
        digest: digest(content),
        mtime: MTIME,
        mode: Mode::new(0o644),
    }
}

pub fn committed(number: u8, change: Change) -> CommittedEntry {
    let version = lsn(number.into());
    CommittedEntry {
        entry: LogEntry { version, id: id(number), time_ms: 0, change },
        holders: vec![OTHER],
        restored: Vec::new(),
    }
}

fn words(count: usize) -> std::io::Result<&'static [AtomicU64]> {
    Ok(Vec::leak((0..count).map(|_| AtomicU64::new(0)).collect()))
}

pub struct Replica {
    pub dir: TempDir,
    pub is_sole: bool,
    pub staging: Staging,
    pub progress: Arc<ReplicaProgress>,
    pub scanner: Scanner,
    pub driver: ReplicaDriver,
}

impl Replica {
    /// Opens the replica in a folder, scans it and links it to a coordinator, which has the change
    /// `latest`.
    pub fn open(dir: TempDir, is_sole: bool, latest: Lsn) -> Self {
        let root = Folder::open(dir.path()).unwrap();
        let store = CatalogStore::open(&MetadataFolder::create(&root).unwrap()).unwrap();
        let progress = Arc::new(ReplicaProgress::new(words).unwrap());
        let config = ReplicaDriverConfig {
            slave: SlaveId([1; 16]),
            folder: FolderId([1; 16]),
            progress: progress.clone(),
            uploads: Arc::new(UploadTable::new(UploadLimits::default(), words).unwrap()),
            is_sole,
            watch: WatchMode::Add,
            writer_token: "token".to_owned(),
        };
        let driver = ReplicaDriver::new(root.try_clone().unwrap(), config, &store).unwrap();
        let staging = Staging::open(&root).unwrap();
        let scanner = Scanner::new(root, store, None, Arc::default());
        let mut replica = Self { dir, is_sole, staging, progress, scanner, driver };
        replica.scan();
        let chain = replica.scanner.store.position().unwrap().chain;
        let follow = ToSlave::Follow {
            epoch: 1,
            lsn: latest,
            chain,
            given_up: Vec::new(),
            timelines: Vec::new(),
        };
        replica.link_to(latest, follow);
        replica
    }

    /// Links the replica to a coordinator, which answers its join.
    pub fn link_to(&mut self, latest: Lsn, answer: ToSlave) {
        let link = LinkEvent::Linked { link: 1, cluster: ClusterId([9; 16]), latest };
        self.link(vec![link]);
        self.link(vec![LinkEvent::Message(answer)]);
    }

    pub fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), false, Lsn::default())
    }

    /// Makes the replica of a standalone slave.
    pub fn sole() -> Self {
        Self::open(tempfile::tempdir().unwrap(), true, Lsn::default())
    }

    /// Closes the replica without any further step, as a crash does, and opens it again.
    pub fn reopen(self, latest: Lsn, between: impl FnOnce(&TempDir)) -> Self {
        let Self { dir, is_sole, scanner, driver, .. } = self;
        drop((scanner, driver));
        between(&dir);
        Self::open(dir, is_sole, latest)
    }

    pub fn scan(&mut self) {
        self.scanner.begin_scan();
        while !self.scanner.continue_scan(Instant::now() + Duration::from_secs(9)).unwrap() {}
        self.scanner.store.commit().unwrap();
    }

    pub fn run(
        &mut self,
        link: Vec<LinkEvent>,
        requests: SessionRequests,
        fetched: Vec<FetchResult>,
    ) -> Vec<Output> {
        self.driver.handle_link_events(link, &self.scanner.store).unwrap();
        self.driver.run_once(requests, fetched, &mut self.scanner).unwrap();
        self.scanner.store.commit().unwrap();
        self.driver.take_outputs()
    }

    pub fn link(&mut self, events: Vec<LinkEvent>) -> Vec<Output> {
        self.run(events, SessionRequests::default(), Vec::new())
    }

    pub fn commit(&mut self, changes: Vec<CommittedEntry>) -> Vec<Output> {
        self.link(vec![LinkEvent::Message(ToSlave::Commit { changes })])
    }

    /// Delivers the content of a put, as if it was fetched.
    pub fn deliver(&mut self, number: u64, content: &str) -> Vec<Output> {
        self.deliver_all(&[(number, content)], Mode::new(0o644))
    }

    /// Delivers contents together. Their files have this mode.
    pub fn deliver_all(&mut self, contents: &[(u64, &str)], mode: Mode) -> Vec<Output> {
        let fetched = contents.iter().map(|(number, content)| {
            let put = lsn(*number);
            let name = StagedName::for_attempt(put, 7);
            let mut file = self.staging.create(&name).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            let meta = complete_file(&file, mode, MTIME).unwrap();
            FetchResult { put, from: OTHER, result: Ok(FetchedFile { name, meta, lock: None }) }
        });
        let fetched = fetched.collect();
        self.run(Vec::new(), SessionRequests::default(), fetched)
    }

    /// Returns the number of staged files.
    pub fn staged(&self) -> usize {
        fs::read_dir(self.host(".relais/staging")).unwrap().count()
    }

    /// Stages the content of a session's put, complete and sealed.
    pub fn stage(&self, id: ChangeId, name: &str, content: &str) -> StagedName {
        let size = Some(content.len() as u64);
        let name = StagedName::new(id, "ann", &path(name), size);
        let mut file = self.staging.claim(&name).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        set_times(&file, MTIME).unwrap();
        self.staging.seal(&name, &name.sealed()).unwrap();
        name.sealed()
    }

    pub fn host(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.host(name)).unwrap()
    }

    /// Returns the names that a listing of the folder has.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let own = MetadataFolder::open(&Folder::open(self.dir.path()).unwrap()).unwrap();
        let mut names = Vec::new();
        let mut push = |entry: &Entry| {
            names.push(entry.name.clone());
            true
        };
        CatalogReader::new(&own)
            .ask(|store| store.list(&path(folder), "", None, &mut push))
            .unwrap();
        names
    }

    pub fn quarantined(&self) -> usize {
        fs::read_dir(self.host(".relais/conflicts")).unwrap().count()
    }
}

pub fn fetches(outputs: &[Output]) -> Vec<Lsn> {
    let put = |output: &Output| match output {
        Output::Fetch { put, .. } => Some(*put),
        _ => None,
    };
    outputs.iter().filter_map(put).collect()
}

pub fn proposed(outputs: &[Output]) -> Vec<Change> {
    let change = |output: &Output| match output {
        Output::Send(1, LinkMessage::ToMaster(ToMaster::Propose { request, .. })) => {
            Some(request.change.clone())
        }
        _ => None,
    };
    outputs.iter().filter_map(change).collect()
}
