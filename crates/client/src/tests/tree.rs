//! Slaves in threads that serve files from memory, accept changes, and can fail on demand.
//!
//! Staged bytes of an upload belong to one slave. All slaves see the changes.

mod changing;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use relais_net::Connection;
use relais_proto::{
    ChangeId, ContentHeader, Digest, Endpoint, Entry, ErrorCode, FileTime, FrameType, GetRequest,
    Identity, IfMatch, Kind, Lsn, Mode, PageBuilder, Refusal, Reply, Request, ServerRole, TreePath,
    encode_frame, metric,
};

use super::fake::{MARK, endpoint, id, opened_at, opening, send, serve, welcome};

/// Bytes in a block.
pub const BLOCK: u32 = 1000;
/// Number of the change that each tree begins with.
const FIRST: u64 = 4;
/// Modification time of every file.
pub const MTIME: FileTime = FileTime { seconds: 1_700_000_000, nanos: 5 };

/// Files by path. Folders are the parents of files, and those that were made.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The state that all slaves of the cluster share.
#[derive(Default)]
pub struct TreeState {
    pub files: Files,
    pub folders: BTreeSet<String>,
    /// Number of the last change to a path; 4 if it never changed.
    versions: HashMap<String, u64>,
    /// Changes by id.
    made: HashMap<ChangeId, u64>,
    /// Digest that each put has stored.
    digests: HashMap<ChangeId, relais_proto::Digest>,
    /// Requests received, without content.
    pub requests: Vec<Request>,
    /// Staged bytes of uploads, each on one slave.
    staged: HashMap<(u8, ChangeId), Vec<u8>>,
    last: u64,
}

/// A slave of the fake cluster.
#[derive(Clone)]
pub struct Tree {
    state: Arc<Mutex<TreeState>>,
    /// Blocks to send before a connection is cut; `u64::MAX` for never.
    pub until_cut: Arc<AtomicU64>,
    /// Upload bytes to accept before a connection is cut; `u64::MAX` for never.
    pub take_until_cut: Arc<AtomicU64>,
    /// Whether the next change is made but its answer is lost with the connection.
    pub lose_answer: Arc<AtomicBool>,
    /// Number of times that changes are refused as not possible.
    pub no_changes: Arc<AtomicU64>,
    /// Whether digests are unknown until the content was sent.
    pub unhashed: Arc<AtomicBool>,
    /// Holders of the content while this slave lacks it.
    pub lacking: Arc<Mutex<Option<Vec<Endpoint>>>>,
    /// Milliseconds without a connection to the master; 0 if it is connected.
    pub master_unreachable_ms: Arc<AtomicU64>,
    /// Codes that refuse the next requests.
    pub refuse: Arc<Mutex<VecDeque<ErrorCode>>>,
    /// Whether changes are made on fewer disks than demanded.
    pub too_few: Arc<AtomicBool>,
}

impl Tree {
    pub fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        Self {
            state: Arc::new(Mutex::new(TreeState { files, last: FIRST, ..TreeState::default() })),
            until_cut: Arc::new(AtomicU64::new(u64::MAX)),
            take_until_cut: Arc::new(AtomicU64::new(u64::MAX)),
            lose_answer: Arc::default(),
            no_changes: Arc::default(),
            unhashed: Arc::default(),
            lacking: Arc::default(),
            master_unreachable_ms: Arc::default(),
            refuse: Arc::default(),
            too_few: Arc::default(),
        }
    }

    /// Cuts a connection once after this many blocks.
    pub fn cut_after(self, blocks: u64) -> Self {
        self.until_cut.store(blocks, Ordering::SeqCst);
        self
    }

    /// Cuts a connection once after this many bytes of an upload.
    pub fn cut_upload_after(self, bytes: u64) -> Self {
        self.take_until_cut.store(bytes, Ordering::SeqCst);
        self
    }

    /// Returns another slave with the same files and its own failures.
    pub fn beside(&self) -> Self {
        Self { state: Arc::clone(&self.state), ..Self::new(&[]) }
    }

    pub fn state(&self) -> MutexGuard<'_, TreeState> {
        self.state.lock().unwrap()
    }

    /// Returns the latest change; that of an empty cluster if the test made none.
    pub fn latest(&self) -> Lsn {
        match self.state().last {
            FIRST => MARK,
            number => Lsn { epoch: 1, number },
        }
    }

    /// Starts slave `n` of the cluster.
    pub fn slave(&self, n: u8) -> SocketAddr {
        let tree = self.clone();
        serve(move |connection, _| {
            let role = match opening(connection) {
                Some(Request::Ticket { .. }) => ServerRole::Slave,
                Some(Request::Login(_)) => ServerRole::Standalone,
                _ => return,
            };
            let lsn = if role == ServerRole::Slave { MARK } else { tree.latest() };
            send(connection, &[welcome(role), opened_at(lsn, n)]);
            while let Ok(Some(request)) = connection.read_request() {
                if !tree.answer(connection, request, n) {
                    return;
                }
            }
        })
    }

    fn answer(&self, connection: &mut Connection, request: Request, n: u8) -> bool {
        self.state().requests.push(request.clone());
        if matches!(request, Request::Seen { .. }) {
            return true;
        }
        match self.master_unreachable_ms.load(Ordering::SeqCst) {
            0 => {}
            ms => connection.queue_reply(&Reply::MasterUnreachable { ms }),
        }
        let refused = if matches!(request, Request::Put(_)) {
            None
        } else {
            self.refuse.lock().unwrap().pop_front()
        };
        if let Some(code) = refused {
            send(connection, &[Reply::Error(Refusal::new(code, code.text()))]);
            return true;
        }
        let lacking = self.lacking.lock().unwrap().clone();
        if let (Request::Get(_) | Request::Hash(_), Some(holders)) = (&request, lacking) {
            send(connection, &[Reply::Elsewhere { holders }]);
            return true;
        }
        let reply = match request {
            Request::Get(get) => return self.get(connection, &get),
            Request::List { path, after, most } => {
                return self.list(connection, &path, &after, most);
            }
            Request::Stat(path) => self.details(&path, false, n),
            Request::Hash(path) => self.details(&path, true, n),
            Request::Put(put) => return self.put(connection, &put, n),
            Request::Resume { id, path, .. } => self.resume(id, &path, n),
            Request::MakeFolder { id, .. }
            | Request::Remove { id, .. }
            | Request::Move { id, .. } => {
                return self.change(connection, id, &request);
            }
            Request::FailedOver => return true,
            Request::Status => Reply::StatusReport {
                slave: id(n),
                lsn: MARK,
                metrics: relais_proto::Metrics::default()
                    .with(metric::FILES, 3)
                    .with(metric::SKIPPED_LINKS, 2),
                last_error: String::new(),
            },
            other => panic!("{other:?}"),
        };
        send(connection, &[reply]);
        true
    }

    fn entry(&self, path: &TreePath) -> Option<Entry> {
        self.state().entry(path)
    }

    fn details(&self, path: &TreePath, hash: bool, n: u8) -> Reply {
        let Some(entry) = self.entry(path) else { return missing() };
        if hash && entry.kind == Kind::Folder {
            return Reply::Error(Refusal::new(ErrorCode::IsFolder, "it is a folder"));
        }
        let known = hash || !self.unhashed.load(Ordering::SeqCst);
        let digest =
            self.state().files.get(path.as_str()).filter(|_| known).map(|bytes| digest(bytes));
        Reply::Details {
            entry,
            digest,
            holders: vec![endpoint(n, "127.0.0.1:2122".parse().unwrap())],
            lsn: MARK,
        }
    }

    fn list(&self, connection: &mut Connection, path: &TreePath, after: &str, most: u32) -> bool {
        let refused = match self.entry(path) {
            None => Some(missing()),
            Some(entry) if entry.kind == Kind::File => {
                Some(Reply::Error(Refusal::new(ErrorCode::NotFolder, "it is not a folder")))
            }
            Some(_) => None,
        };
        if let Some(refused) = refused {
            send(connection, &[refused]);
            return true;
        }
        let prefix = if path.is_root() { String::new() } else { format!("{}/", path.as_str()) };
        let names: BTreeSet<String> = {
            let state = self.state();
            let names = state.files.keys().chain(&state.folders);
            let names = names
                .filter_map(|key| key.strip_prefix(&prefix)?.split('/').next().map(str::to_owned));
            names.filter(|name| name.as_str() > after).collect()
        };
        let mut page = PageBuilder::new();
        let most = if most == 0 { usize::MAX } else { most as usize };
        for name in names.into_iter().take(most) {
            assert!(page.push(&self.entry(&path.join(&name).unwrap()).unwrap()));
        }
        send(connection, &[Reply::Entries(page.finish()), Reply::Done { lsn: MARK }]);
        true
    }

    fn get(&self, connection: &mut Connection, get: &GetRequest) -> bool {
        let found = self.state().files.get(get.path.as_str()).cloned();
        let Some(bytes) = &found else {
            let is_folder = self.entry(&get.path).is_some();
            send(
                connection,
                &[if is_folder {
                    Reply::Error(Refusal::new(ErrorCode::IsFolder, "it is a folder"))
                } else {
                    missing()
                }],
            );
            return true;
        };
        let digest = digest(bytes);
        let identity = Identity([self.lsn(); 16]);
        if matches!(get.if_match, IfMatch::Digest(wanted) if wanted != digest)
            || matches!(get.if_match, IfMatch::Identity(id) if id != identity)
        {
            send(connection, &[Reply::Error(Refusal::new(ErrorCode::Changed, "it was replaced"))]);
            return true;
        }
        let size = bytes.len() as u64;
        let length = get.length.min(size - get.offset);
        let header = ContentHeader {
            size,
            offset: get.offset,
            length,
            block_size: BLOCK,
            mtime: MTIME,
            mode: Mode::new(0o755),
            version: None,
            digest: (!self.unhashed.load(Ordering::SeqCst)).then_some(digest),
            identity,
        };
        connection.queue_reply(&Reply::ContentHeader(header));
        let start = usize::try_from(get.offset).unwrap();
        for block in bytes[start..][..usize::try_from(length).unwrap()].chunks(BLOCK as usize) {
            if self.until_cut.load(Ordering::SeqCst) == 0 {
                self.until_cut.store(u64::MAX, Ordering::SeqCst);
                let _ = connection.flush();
                return false;
            }
            let _ = self.until_cut.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                (left != u64::MAX).then(|| left - 1)
            });
            encode_frame(connection.output(), FrameType::Block, |to| to.extend_from_slice(block));
        }
        send(connection, &[Reply::End { digest }]);
        true
    }

    /// Returns a byte that distinguishes this slave's folder from others.
    fn lsn(&self) -> u8 {
        u8::try_from(Arc::as_ptr(&self.until_cut).addr() / 16 % 251).unwrap()
    }
}

fn missing() -> Reply {
    Reply::Error(Refusal::new(ErrorCode::NotFound, "no such file or folder"))
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}
