//! The server's side of the tests.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relais_proto::{
    ChangeId, ContentHeader, Entry, ErrorCode, FrameHeader, FrameType, HEADER_LEN, Identity, Kind,
    Lsn, Mode, PageBuilder, Refusal, Reply, Request, TreePath, encode_frame,
};

use super::{MTIME, digest_of, encode};

/// Files, and the changes made. Clones share them, as the slaves of a cluster do.
#[derive(Clone, Default)]
pub struct Tree {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    changes: Vec<ChangeId>,
    digests: std::collections::HashMap<ChangeId, relais_proto::Digest>,
    made: Vec<String>,
}

pub const BLOCK: usize = 1000;

impl Tree {
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Self {
        let tree = Self::default();
        tree.state
            .lock()
            .unwrap()
            .files
            .extend(files.into_iter().map(|(name, content)| (name.to_owned(), content)));
        tree
    }

    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().files.get(name).cloned()
    }

    /// The committed changes, each once.
    pub fn made(&self) -> Vec<String> {
        self.state.lock().unwrap().made.clone()
    }

    fn commit(&self, id: ChangeId, what: String, then: impl FnOnce(&mut State)) -> Reply {
        let state = &mut *self.state.lock().unwrap();
        let known = state.changes.iter().position(|known| *known == id);
        let number = known.unwrap_or_else(|| {
            then(state);
            state.changes.push(id);
            state.made.push(what);
            state.changes.len() - 1
        });
        let version = Lsn { epoch: 1, number: number as u64 + 1 };
        let digest = state.digests.get(&id).copied();
        Reply::Committed { version, copies: 1, lsn: version, digest, current: true }
    }

    fn entry(name: &str, content: &[u8]) -> Entry {
        Entry {
            name: name.to_owned(),
            kind: Kind::File,
            mode: Mode::new(0o644),
            size: content.len() as u64,
            mtime: MTIME,
            version: None,
        }
    }

    pub fn header(content: &[u8], length: u64) -> ContentHeader {
        ContentHeader {
            size: content.len() as u64,
            offset: 0,
            length: length.min(content.len() as u64),
            block_size: u32::try_from(BLOCK).unwrap(),
            mtime: MTIME,
            mode: Mode::new(0o644),
            version: None,
            digest: None,
            identity: Identity([1; 16]),
        }
    }

    fn list(&self, path: &TreePath, after: &str) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        assert!(path.is_root(), "the tree is flat");
        let entries: Vec<Entry> = state
            .files
            .iter()
            .filter(|(name, _)| name.as_str() > after)
            .map(|(name, content)| Self::entry(name, content))
            .collect();
        let mut replies = vec![Reply::Wait(relais_proto::WaitReason::Scanning)];
        for three in entries.chunks(3) {
            let mut page = PageBuilder::new();
            assert!(three.iter().all(|entry| page.push(entry)));
            replies.push(Reply::Entries(page.finish()));
        }
        replies.push(Reply::Done { lsn: Lsn::default() });
        encode(&replies)
    }

    fn details(&self, path: &TreePath, hashed: bool) -> Vec<u8> {
        let Some(content) = self.content(path.as_str()) else {
            return refused(ErrorCode::NotFound);
        };
        let entry = Self::entry(path.last().unwrap(), &content);
        encode(&[Reply::Details {
            entry,
            digest: hashed.then(|| digest_of(&content)),
            holders: Vec::new(),
            lsn: Lsn::default(),
        }])
    }

    /// The honest answer, whole.
    pub fn answer(&self, request: &Request, data: &[u8]) -> Vec<u8> {
        match request {
            Request::List { path, after, most: 0 } => self.list(path, after),
            Request::Stat(path) => self.details(path, false),
            Request::Hash(path) => self.details(path, true),
            Request::Get(get) => {
                let Some(content) = self.content(get.path.as_str()) else {
                    return refused(ErrorCode::NotFound);
                };
                let header = Self::header(&content, get.length);
                let sent = &content[..usize::try_from(header.length).unwrap()];
                let mut out = encode(&[Reply::ContentHeader(header)]);
                for block in sent.chunks(BLOCK) {
                    encode_frame(&mut out, FrameType::Block, |to| to.extend_from_slice(block));
                }
                Reply::End { digest: digest_of(&content) }.encode(&mut out);
                out
            }
            Request::Put(put) => {
                assert_eq!((put.size, put.offset), (Some(data.len() as u64), 0));
                let name = put.path.as_str().to_owned();
                encode(&[self.commit(put.id, format!("put {name}"), |state| {
                    state.digests.insert(put.id, digest_of(data));
                    state.files.insert(name, data.to_vec());
                })])
            }
            Request::MakeFolder { id, path } => {
                encode(&[self.commit(*id, format!("mkdir {}", path.as_str()), |_| {})])
            }
            Request::Remove { id, path, .. } => {
                encode(&[self.commit(*id, format!("rm {}", path.as_str()), |state| {
                    state.files.remove(path.as_str());
                })])
            }
            _ => refused(ErrorCode::Unsupported),
        }
    }
}

pub fn refused(code: ErrorCode) -> Vec<u8> {
    encode(&[Reply::Error(Refusal::new(code, code.text()))])
}

/// What a server saw.
#[derive(Default)]
pub struct Seen {
    pub requests: Vec<Request>,
    pub connections: usize,
    /// Bytes that came, where the server counts them.
    pub bytes: usize,
    /// Reads of the socket, and times that answers were sent.
    pub reads: usize,
    pub rounds: usize,
    /// The most that was unanswered at once: frames without the bytes of puts, the bytes of puts,
    /// requests.
    pub most_frames: usize,
    pub most_data: usize,
    pub most_requests: usize,
}

pub type PipelineReply = Box<dyn FnMut(&Request, &[u8]) -> Vec<u8> + Send>;

/// Properties of the connection of a server.
#[derive(Default)]
pub struct Manner {
    /// Bytes of answers after which its first connections end.
    pub cuts: VecDeque<usize>,
    /// It answers only once nothing more has come for so long.
    pub quiet: Option<Duration>,
    /// It reads so many bytes at once; 0 for many.
    pub reads: usize,
}

/// A server on loopback, for the time of the test process.
pub struct Server {
    pub addr: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
}

impl Server {
    pub fn honest(tree: &Tree) -> Self {
        Self::mannered(tree, Manner::default())
    }

    /// Answers honestly, and ends its first connections after so many bytes.
    pub fn cutting(tree: &Tree, cuts: impl IntoIterator<Item = usize>) -> Self {
        Self::mannered(tree, Manner { cuts: cuts.into_iter().collect(), ..Manner::default() })
    }

    pub fn mannered(tree: &Tree, manner: Manner) -> Self {
        let tree = tree.clone();
        Self::start(manner, Box::new(move |request, data| tree.answer(request, data)))
    }

    /// Answers what `answer` makes.
    pub fn saying(answer: impl FnMut(&Request, &[u8]) -> Vec<u8> + Send + 'static) -> Self {
        Self::start(Manner::default(), Box::new(answer))
    }

    pub fn start(mut manner: Manner, mut answer: PipelineReply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                shared.lock().unwrap().connections += 1;
                let stream = stream.unwrap();
                serve(&stream, &mut manner, &mut answer, &shared);
                // The client may have gone first.
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self { addr, seen }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().requests.clone()
    }
}

/// A listener whose connections buffer few unread bytes.
pub fn narrow_listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 16 * 1024).unwrap();
    listener
}

/// Requests that came, and have no answer.
#[derive(Default)]
struct Pending {
    input: Vec<u8>,
    /// The put whose data is coming in.
    open: Option<(Request, Vec<u8>)>,
    requests: Vec<(Request, Vec<u8>)>,
    frames: usize,
    data: usize,
}

impl Pending {
    /// Removes the complete frames from the received bytes.
    fn parse(&mut self) {
        let mut at = 0;
        while let Some(header) = self.input.get(at..at + HEADER_LEN) {
            let header = FrameHeader::parse(header.try_into().unwrap()).unwrap();
            let Some(payload) =
                self.input.get(at + HEADER_LEN..at + HEADER_LEN + header.len as usize)
            else {
                break;
            };
            at += HEADER_LEN + payload.len();
            self.frames += HEADER_LEN;
            if header.kind == FrameType::Data {
                self.data += payload.len();
                self.open.as_mut().expect("data belongs to a put").1.extend_from_slice(payload);
                continue;
            }
            self.frames += payload.len();
            match Request::decode(header.kind, payload).unwrap() {
                put @ Request::Put(_) => {
                    assert!(self.open.is_none(), "a put within a put");
                    self.open = Some((put, Vec::new()));
                }
                Request::PutEnd { digest } => {
                    let (put, content) = self.open.take().expect("an end belongs to a put");
                    assert_eq!(digest, digest_of(&content));
                    self.requests.push((put, content));
                }
                request => self.requests.push((request, Vec::new())),
            }
        }
        self.input.drain(..at);
    }
}

fn serve(
    mut stream: &TcpStream,
    manner: &mut Manner,
    answer: &mut PipelineReply,
    seen: &Mutex<Seen>,
) {
    let mut left = manner.cuts.pop_front().unwrap_or(usize::MAX);
    let mut pending = Pending::default();
    let mut buffer = vec![0; if manner.reads == 0 { 1 << 20 } else { manner.reads }];
    loop {
        stream.set_read_timeout(manner.quiet.filter(|_| !pending.requests.is_empty())).unwrap();
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => pending.input.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if !answer_all(stream, &mut pending, &mut left, answer, seen) {
                    return;
                }
                continue;
            }
            Err(_) => return,
        }
        pending.parse();
        {
            let mut seen = seen.lock().unwrap();
            seen.reads += 1;
            seen.most_frames = seen.most_frames.max(pending.frames);
            seen.most_data = seen.most_data.max(pending.data);
            seen.most_requests = seen.most_requests.max(pending.requests.len());
        }
        if manner.quiet.is_none() && !answer_all(stream, &mut pending, &mut left, answer, seen) {
            return;
        }
    }
}

/// Answers the complete requests; returns false if the connection ends.
fn answer_all(
    mut stream: &TcpStream,
    pending: &mut Pending,
    left: &mut usize,
    answer: &mut PipelineReply,
    seen: &Mutex<Seen>,
) -> bool {
    if pending.requests.is_empty() {
        return true;
    }
    let mut out = Vec::new();
    for (request, data) in pending.requests.drain(..) {
        out.extend(answer(&request, &data));
        seen.lock().unwrap().requests.push(request);
    }
    (pending.frames, pending.data) = (0, 0);
    seen.lock().unwrap().rounds += 1;
    out.truncate(*left);
    *left -= out.len();
    stream.write_all(&out).is_ok() && *left > 0
}
