//! Answers about a tree, true or false.
//!
//! Entries and content are built byte by byte where the encoder of `proto` would reject them.

use std::collections::BTreeMap;

use relais_proto::{
    ContentHeader, Digest, Entry, ErrorCode, FileTime, FrameType, GetRequest, Kind, Lsn, Refusal,
    Reply, Request, TreePath, encode_frame,
};

use super::raw_peers::{FakeServer, block, header, polite};

/// Payload size of a page of entries, well below the limit.
const PAGE: usize = 60_000;

/// Encodes an entry with any name: `kind` 0 is a file, 1 a folder.
pub fn raw_entry(name: &[u8], kind: u8, size: u64) -> Vec<u8> {
    let mut bytes = u16::try_from(name.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&[kind, 0, 0]);
    bytes.extend_from_slice(&size.to_be_bytes());
    // The Unix epoch, and a length of 0 for the optional fields.
    bytes.extend_from_slice(&[0; 14]);
    bytes
}

/// Encodes the answer to a listing: these entries in this order, and its end.
pub fn listing(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut frames = pages(entries);
    frames.extend(FakeServer::encoded(&[Reply::Done { lsn: Lsn::default() }]));
    frames
}

/// Encodes pages of entries, without an end.
pub fn pages(entries: &[Vec<u8>]) -> Vec<u8> {
    let (mut frames, mut page) = (Vec::new(), Vec::new());
    let mut close =
        |page: &mut Vec<u8>| encode_frame(&mut frames, FrameType::Entries, |to| to.append(page));
    for entry in entries {
        if page.len() + entry.len() > PAGE {
            close(&mut page);
        }
        page.extend_from_slice(entry);
    }
    if !page.is_empty() {
        close(&mut page);
    }
    frames
}

/// Encodes the true answer to a get of a file with these bytes.
pub fn whole(get: &GetRequest, bytes: &[u8]) -> Vec<u8> {
    content(get, bytes, Digest(blake3::hash(bytes).into()))
}

/// Encodes an answer to a get whose end has this digest.
pub fn content(get: &GetRequest, bytes: &[u8], digest: Digest) -> Vec<u8> {
    const BLOCK: u32 = 1 << 16;
    let header =
        ContentHeader { digest: Some(digest), ..header(bytes.len() as u64, get.offset, BLOCK) };
    let mut frames = FakeServer::encoded(&[Reply::ContentHeader(header)]);
    let from = usize::try_from(get.offset).unwrap().min(bytes.len());
    bytes[from..].chunks(BLOCK as usize).for_each(|chunk| frames.extend(block(chunk)));
    frames.extend(FakeServer::encoded(&[Reply::End { digest }]));
    frames
}

/// Encodes a refusal.
pub fn refused(code: ErrorCode, message: &str) -> Vec<u8> {
    FakeServer::encoded(&[Reply::Error(Refusal::new(code, message))])
}

/// A tree that answers requests truthfully; tests add the lies.
#[derive(Default)]
pub struct FakeTree {
    /// Encoded entries by name, for each folder path.
    folders: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
    files: BTreeMap<String, Vec<u8>>,
}

impl FakeTree {
    pub fn new() -> Self {
        let mut tree = Self::default();
        tree.folders.insert(String::new(), BTreeMap::new());
        tree
    }

    pub fn folder(mut self, path: &str) -> Self {
        self.enter(path, 1, 0);
        self.folders.entry(path.to_owned()).or_default();
        self
    }

    pub fn file(mut self, path: &str, bytes: &[u8]) -> Self {
        self.enter(path, 0, bytes.len() as u64);
        self.files.insert(path.to_owned(), bytes.to_vec());
        self
    }

    /// Adds an entry whose name may break any rule.
    pub fn raw(mut self, folder: &str, name: &[u8], kind: u8, size: u64) -> Self {
        self.folders
            .entry(folder.to_owned())
            .or_default()
            .insert(name.to_vec(), raw_entry(name, kind, size));
        self
    }

    fn enter(&mut self, path: &str, kind: u8, size: u64) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.folders
            .entry(folder.to_owned())
            .or_default()
            .insert(name.as_bytes().to_vec(), raw_entry(name.as_bytes(), kind, size));
    }

    /// Returns the answer of a correct slave with this tree.
    pub fn answer(&self, request: &Request) -> Vec<u8> {
        match request {
            Request::List { path, after, most } => match self.folders.get(path.as_str()) {
                Some(entries) => {
                    let most = if *most == 0 { usize::MAX } else { *most as usize };
                    let behind = entries
                        .iter()
                        .filter(|(name, _)| after.is_empty() || name.as_slice() > after.as_bytes());
                    listing(&behind.take(most).map(|(_, entry)| entry.clone()).collect::<Vec<_>>())
                }
                None if self.files.contains_key(path.as_str()) => {
                    refused(ErrorCode::NotFolder, "not a folder")
                }
                None => refused(ErrorCode::NotFound, "not found"),
            },
            Request::Stat(path) | Request::Hash(path) => self.details(path),
            Request::Get(get) => match self.files.get(get.path.as_str()) {
                Some(bytes) => whole(get, bytes),
                None if self.folders.contains_key(get.path.as_str()) => {
                    refused(ErrorCode::IsFolder, "a folder")
                }
                None => refused(ErrorCode::NotFound, "not found"),
            },
            Request::Pieces { .. } => refused(ErrorCode::Unsupported, "no pieces"),
            other => polite(other),
        }
    }

    fn details(&self, path: &TreePath) -> Vec<u8> {
        let file = self.files.get(path.as_str());
        if file.is_none() && !self.folders.contains_key(path.as_str()) {
            return refused(ErrorCode::NotFound, "not found");
        }
        let entry = Entry {
            name: path.last().unwrap_or_default().to_owned(),
            kind: if file.is_some() { Kind::File } else { Kind::Folder },
            mode: relais_proto::Mode::new(0o644),
            size: file.map_or(0, |bytes| bytes.len() as u64),
            mtime: FileTime::default(),
            version: None,
        };
        let digest = file.map(|bytes| Digest(blake3::hash(bytes).into()));
        FakeServer::encoded(&[Reply::Details {
            entry,
            digest,
            holders: Vec::new(),
            lsn: Lsn::default(),
        }])
    }

    /// Starts a server with this tree. It sends the answer of `lie` if there is one.
    pub fn lying(
        self,
        lie: impl Fn(&Request) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> FakeServer {
        FakeServer::start(move |request| {
            (lie(request).unwrap_or_else(|| self.answer(request)), false)
        })
    }
}
