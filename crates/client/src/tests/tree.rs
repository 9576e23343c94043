//! A slave in a thread that serves files from memory, and can be told to go away in the middle.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use relais_net::Connection;
use relais_proto::{
    Digest, Entry, ErrorCode, FileTime, FrameType, GetRequest, Header, Identity, Kind, PageBuilder, Refusal, Reply, Request, ServerRole,
    TreePath, Version, Wanted, encode_frame,
};

use super::fake::{MARK, endpoint, id, opened, opening, send, serve, welcome};

/// Bytes in a block.
pub const BLOCK: u32 = 1000;
/// Last modification of every file.
pub const MTIME: FileTime = FileTime { seconds: 1_700_000_000, nanos: 5 };

/// Files by path; folders are where files are.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A slave of the fake cluster.
#[derive(Clone)]
pub struct Tree {
    pub files: Arc<Files>,
    /// Blocks that are still sent before the next connection is cut; `u64::MAX` for never.
    pub until_cut: Arc<AtomicU64>,
}

impl Tree {
    pub fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        Self { files: Arc::new(files), until_cut: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// Cuts a connection once after so many blocks.
    pub fn cut_after(self, blocks: u64) -> Self {
        self.until_cut.store(blocks, Ordering::SeqCst);
        self
    }

    /// Serves as slave `n` of a cluster.
    pub fn slave(&self, n: u8) -> SocketAddr {
        let tree = self.clone();
        serve(move |connection, _| {
            let role = match opening(connection) {
                Some(Request::Ticket { .. }) => ServerRole::Slave,
                Some(Request::Login(_)) => ServerRole::Standalone,
                _ => return,
            };
            send(connection, &[welcome(role), opened(n)]);
            while let Ok(Some(request)) = connection.read_request() {
                if !tree.answer(connection, request, n) {
                    return;
                }
            }
        })
    }

    fn answer(&self, connection: &mut Connection, request: Request, n: u8) -> bool {
        let reply = match request {
            Request::Get(get) => return self.get(connection, &get),
            Request::List { path, after, .. } => return self.list(connection, &path, &after),
            Request::Stat(path) => self.details(&path, false, n),
            Request::Hash(path) => self.details(&path, true, n),
            Request::Status => Reply::StatusReport {
                slave: id(n),
                mark: MARK,
                counters: relais_proto::Counters { files: 3, skipped_links: 2, ..Default::default() },
                last_error: String::new(),
            },
            other => panic!("{other:?}"),
        };
        send(connection, &[reply]);
        true
    }

    fn entry(&self, path: &TreePath) -> Option<Entry> {
        let name = path.last().unwrap_or_default().to_owned();
        let version = Some(Version { epoch: 1, number: 4 });
        let inside = format!("{}/", path.as_str());
        match self.files.get(path.as_str()) {
            Some(bytes) => Some(Entry { name, kind: Kind::File, executable: true, size: bytes.len() as u64, mtime: MTIME, version }),
            None if path.is_root() || self.files.keys().any(|key| key.starts_with(&inside)) => {
                Some(Entry { name, kind: Kind::Folder, executable: false, size: 0, mtime: MTIME, version: None })
            }
            None => None,
        }
    }

    fn details(&self, path: &TreePath, hash: bool, n: u8) -> Reply {
        let Some(entry) = self.entry(path) else { return missing() };
        if hash && entry.kind == Kind::Folder {
            return Reply::Error(Refusal::new(ErrorCode::IsFolder, "it is a folder"));
        }
        let digest = self.files.get(path.as_str()).map(|bytes| digest(bytes));
        Reply::Details { entry, digest, holders: vec![endpoint(n, "127.0.0.1:2122".parse().unwrap())], mark: MARK }
    }

    fn list(&self, connection: &mut Connection, path: &TreePath, after: &str) -> bool {
        let refused = match self.entry(path) {
            None => Some(missing()),
            Some(entry) if entry.kind == Kind::File => Some(Reply::Error(Refusal::new(ErrorCode::NotFolder, "it is not a folder"))),
            Some(_) => None,
        };
        if let Some(refused) = refused {
            send(connection, &[refused]);
            return true;
        }
        let prefix = if path.is_root() { String::new() } else { format!("{}/", path.as_str()) };
        let names = self.files.keys().filter_map(|key| key.strip_prefix(&prefix)?.split('/').next().map(str::to_owned));
        let names: std::collections::BTreeSet<String> = names.filter(|name| name.as_str() > after).collect();
        let mut page = PageBuilder::new();
        for name in names {
            assert!(page.push(&self.entry(&path.join(&name).unwrap()).unwrap()));
        }
        send(connection, &[Reply::Entries(page.finish()), Reply::Done { mark: MARK }]);
        true
    }

    fn get(&self, connection: &mut Connection, get: &GetRequest) -> bool {
        let Some(bytes) = self.files.get(get.path.as_str()) else {
            let is_folder = self.entry(&get.path).is_some();
            send(connection, &[if is_folder { Reply::Error(Refusal::new(ErrorCode::IsFolder, "it is a folder")) } else { missing() }]);
            return true;
        };
        let digest = digest(bytes);
        if matches!(get.wanted, Wanted::Digest(wanted) if wanted != digest) {
            send(connection, &[Reply::Error(Refusal::new(ErrorCode::Changed, "it was replaced"))]);
            return true;
        }
        let size = bytes.len() as u64;
        let length = get.length.min(size - get.offset);
        let header = Header {
            size,
            offset: get.offset,
            length,
            block_size: BLOCK,
            mtime: MTIME,
            executable: true,
            version: None,
            digest: Some(digest),
            identity: Identity([1; 16]),
        };
        connection.queue_reply(&Reply::Header(header));
        let start = usize::try_from(get.offset).unwrap();
        for block in bytes[start..][..usize::try_from(length).unwrap()].chunks(BLOCK as usize) {
            if self.until_cut.load(Ordering::SeqCst) == 0 {
                self.until_cut.store(u64::MAX, Ordering::SeqCst);
                let _ = connection.flush();
                return false;
            }
            let _ = self.until_cut.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| (left != u64::MAX).then(|| left - 1));
            encode_frame(connection.output(), FrameType::Block, |to| to.extend_from_slice(block));
        }
        send(connection, &[Reply::End { digest }]);
        true
    }
}

fn missing() -> Reply {
    Reply::Error(Refusal::new(ErrorCode::NotFound, "no such file or folder"))
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}
