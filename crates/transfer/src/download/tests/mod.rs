//! A server that answers in this process, honestly or as a test requires, and a caller that records
//! the reported progress.

mod cuts;
mod damage;
mod lies;
mod ordered;
mod redirects;
mod streams;
mod whole;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relais_net::Connection;
use relais_proto::{
    ContentHeader, Digest, Endpoint, Entry, ErrorCode, FileTime, FrameType, Identity, IfMatch,
    Kind, Lsn, Mode, Refusal, Reply, Request, TreePath, encode_frame,
};

use super::{CompletedDownload, download};
use crate::TransferError;
use crate::progress::{Progress, Resume};
use crate::ranges::Ranges;
use crate::tests::{Servers, digest_of, encode};

/// Bytes that differ from place to place.
fn bytes(len: u64) -> Vec<u8> {
    crate::tests::bytes(usize::try_from(len).unwrap())
}

fn sessions(servers: &[&Server]) -> Servers {
    Servers::new(servers.iter().map(|server| server.addr))
}

const MTIME: FileTime = FileTime { seconds: 1_700_000_000, nanos: 5 };

/// What a server has, and how it talks.
#[derive(Clone)]
pub(super) struct Model {
    pub content: Vec<u8>,
    pub block: u32,
    /// Whether the digest is known before the content is sent.
    pub hashed: bool,
    pub identity: Identity,
    /// Digest that the server sends, if it is not the one of its bytes.
    pub claimed: Option<Digest>,
}

impl Model {
    pub fn new(content: Vec<u8>, block: u32) -> Self {
        Self { content, block, hashed: true, identity: Identity([1; 16]), claimed: None }
    }

    pub fn unhashed(mut self) -> Self {
        self.hashed = false;
        self
    }

    pub fn size(&self) -> u64 {
        self.content.len() as u64
    }

    pub fn digest(&self) -> Digest {
        self.claimed.unwrap_or_else(|| digest_of(&self.content))
    }

    fn fits(&self, if_match: IfMatch) -> bool {
        match if_match {
            IfMatch::Any => true,
            IfMatch::Digest(digest) => digest == self.digest(),
            IfMatch::Identity(identity) => identity == self.identity,
        }
    }

    pub fn header(&self, offset: u64, length: u64) -> ContentHeader {
        ContentHeader {
            size: self.size(),
            offset,
            length: length.min(self.size().saturating_sub(offset)),
            block_size: self.block,
            mtime: MTIME,
            mode: Mode::new(0o755),
            version: Some(Lsn { epoch: 1, number: 42 }),
            digest: self.hashed.then(|| self.digest()),
            identity: self.identity,
        }
    }

    pub fn values(&self) -> Vec<Digest> {
        let mut hasher = relais_tree::PieceHasher::new(self.size(), 0);
        hasher.update(&self.content);
        hasher.into_values()
    }

    /// The honest answer, whole.
    pub fn answer(&self, request: &Request) -> Vec<u8> {
        let refused = |code| encode(&[Reply::Error(Refusal::new(code, code.text()))]);
        match request {
            Request::Get(get) if !self.fits(get.if_match) => refused(ErrorCode::Changed),
            Request::Get(get) if get.offset > self.size() => refused(ErrorCode::BadOffset),
            Request::Get(get) => {
                let header = self.header(get.offset, get.length);
                let start = usize::try_from(header.offset).unwrap();
                let end = usize::try_from(header.offset + header.length).unwrap();
                let mut out = encode(&[
                    Reply::Wait(relais_proto::WaitReason::Scanning),
                    Reply::ContentHeader(header),
                ]);
                for block in self.content[start..end].chunks(self.block as usize) {
                    encode_frame(&mut out, FrameType::Block, |to| to.extend_from_slice(block));
                }
                Reply::End { digest: self.digest() }.encode(&mut out);
                out
            }
            Request::Hash(_) => {
                let entry = Entry {
                    name: "x".to_owned(),
                    kind: Kind::File,
                    mode: Mode::new(0o644),
                    size: self.size(),
                    mtime: MTIME,
                    version: None,
                };
                encode(&[Reply::Details {
                    entry,
                    digest: Some(self.digest()),
                    holders: Vec::new(),
                    lsn: Lsn::default(),
                }])
            }
            Request::Pieces { if_match, .. } if !self.fits(*if_match) => {
                refused(ErrorCode::Changed)
            }
            Request::Pieces { first, count, .. } => {
                let values = self
                    .values()
                    .into_iter()
                    .skip(usize::try_from(*first).unwrap())
                    .take(*count as usize)
                    .collect();
                encode(&[Reply::PieceValues { first: *first, values }])
            }
            _ => refused(ErrorCode::Unsupported),
        }
    }
}

type Answer = Box<dyn FnMut(&Request) -> Vec<u8> + Send>;

/// A server on loopback, for the time of the test process.
pub(super) struct Server {
    pub addr: SocketAddr,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers honestly.
    pub fn honest(model: &Model) -> Self {
        Self::cutting(model, [])
    }

    /// Answers honestly, and ends its first connections after so many bytes.
    pub fn cutting(model: &Model, cuts: impl IntoIterator<Item = usize>) -> Self {
        let model = model.clone();
        Self::start(
            cuts.into_iter().collect(),
            false,
            Box::new(move |request| model.answer(request)),
        )
    }

    /// Answers what `answer` makes, and ends each connection after one answer.
    pub fn saying_once(answer: impl FnMut(&Request) -> Vec<u8> + Send + 'static) -> Self {
        Self::start(VecDeque::new(), true, Box::new(answer))
    }

    /// Answers what `answer` makes.
    pub fn saying(answer: impl FnMut(&Request) -> Vec<u8> + Send + 'static) -> Self {
        Self::start(VecDeque::new(), false, Box::new(answer))
    }

    /// Answers what `answer` makes, at so many bytes a second.
    pub fn paced(
        rate: u64,
        cuts: impl IntoIterator<Item = usize>,
        answer: impl FnMut(&Request) -> Vec<u8> + Send + 'static,
    ) -> Self {
        Self::start_paced(Some(rate), cuts.into_iter().collect(), false, Box::new(answer))
    }

    /// Sends the content, at so many bytes a second.
    pub fn honest_at(rate: u64, model: &Model) -> Self {
        let model = model.clone();
        Self::paced(rate, [], move |request| model.answer(request))
    }

    /// Same as [`Self::honest_at`], with a wrong byte in each long answer.
    pub fn damaging_at(rate: u64, model: &Model) -> Self {
        let model = model.clone();
        Self::paced(rate, [], move |request| {
            let mut out = model.answer(request);
            if matches!(request, Request::Get(_)) && out.len() > 70_000 {
                out[60_000] ^= 1;
            }
            out
        })
    }

    fn start(cuts: VecDeque<usize>, once: bool, answer: Answer) -> Self {
        Self::start_paced(None, cuts, once, answer)
    }

    fn start_paced(
        rate: Option<u64>,
        mut cuts: VecDeque<usize>,
        once: bool,
        answer: Answer,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(Mutex::new(answer)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, limits) = (stream.unwrap(), (rate, cuts.pop_front()));
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                let serve = move || serve(stream, limits, once, &answer, &seen);
                // Only a slow server has several connections at a time.
                if rate.is_some() {
                    std::thread::spawn(serve);
                } else {
                    serve();
                }
            }
        });
        Self { addr, requests }
    }

    /// Offsets and content of all requests for content.
    pub fn gets(&self) -> Vec<(u64, u64)> {
        let gets = |request: &Request| match request {
            Request::Get(get) => Some((get.offset, get.length)),
            _ => None,
        };
        self.requests.lock().unwrap().iter().filter_map(gets).collect()
    }
}

/// Answers one connection; with a cut, ends it after so many bytes.
fn serve(
    stream: TcpStream,
    (rate, cut): (Option<u64>, Option<usize>),
    once: bool,
    answer: &Mutex<Answer>,
    seen: &Mutex<Vec<Request>>,
) {
    let mut left = cut.unwrap_or(usize::MAX);
    let mut connection = Connection::new(stream.try_clone().unwrap()).unwrap();
    while let Ok(Some(request)) = connection.read_request() {
        if request == Request::FailedOver {
            // It has no answer.
            continue;
        }
        let out = (answer.lock().unwrap())(&request);
        seen.lock().unwrap().push(request);
        let out = &out[..out.len().min(left)];
        left -= out.len();
        if write_paced(&stream, out, rate).is_err() || left == 0 || once {
            break;
        }
    }
    // The client may have gone first.
    let _ = stream.shutdown(Shutdown::Both);
}

/// Writes all of `out`, at so many bytes a second.
fn write_paced(mut stream: &TcpStream, out: &[u8], rate: Option<u64>) -> std::io::Result<()> {
    let Some(rate) = rate else { return stream.write_all(out) };
    let begun = Instant::now();
    for (step, bytes) in (0..).zip(out.chunks(64 * 1024)) {
        let due = Duration::from_millis(step * 64 * 1024 * 1000 / rate);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        stream.write_all(bytes)?;
    }
    Ok(())
}

/// Records the reported progress.
#[derive(Default)]
pub(super) struct Recorder {
    pub events: Vec<String>,
    pub good: u64,
    pub saved: Option<Resume>,
    pub saves: usize,
    pub interrupt_at: Option<u64>,
}

impl Progress for Recorder {
    fn started(&mut self, size: u64, resumed_from: u64) {
        self.events.push(format!("started {size} {resumed_from}"));
    }

    fn advanced(&mut self, good: u64) {
        self.good = good;
    }

    fn moved(&mut self, _: SocketAddr, _: SocketAddr, at: u64) {
        self.events.push(format!("moved {at}"));
    }

    fn restarted(&mut self, _: &str) {
        self.events.push("restarted".to_owned());
    }

    fn damaged(&mut self, from: SocketAddr, pieces: u64) {
        self.events.push(format!("damaged {} {pieces}", from.port()));
    }

    fn checkpoint(&mut self, state: &Resume) {
        self.saved = Some(state.clone());
        self.saves += 1;
    }

    fn interrupted(&self) -> bool {
        self.interrupt_at.is_some_and(|at| self.good >= at)
    }
}

/// A part file and what a fetch into it came to.
pub(super) struct Run {
    pub part: File,
    pub told: Recorder,
    pub failures: Vec<String>,
    pub sessions: Servers,
    pub result: Result<CompletedDownload, TransferError>,
}

impl Run {
    pub fn new(servers: &[&Server]) -> Self {
        Self::resuming(servers, tempfile::tempfile().unwrap(), None)
    }

    pub fn resuming(servers: &[&Server], part: File, resume: Option<Resume>) -> Self {
        Self::with(servers, part, resume, Recorder::default())
    }

    pub fn with(servers: &[&Server], part: File, resume: Option<Resume>, told: Recorder) -> Self {
        Self::of(sessions(servers), part, resume, told)
    }

    pub fn of(
        mut sessions: Servers,
        part: File,
        resume: Option<Resume>,
        mut told: Recorder,
    ) -> Self {
        let result = download(&mut sessions, &path(), &part, resume, &mut told);
        // A server here talks to one at a time.
        sessions.open = None;
        Self { part, told, failures: sessions.failures.clone(), sessions, result }
    }

    pub fn part_bytes(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        self.part.seek(SeekFrom::Start(0)).unwrap();
        self.part.read_to_end(&mut all).unwrap();
        all
    }

    /// Checks that the content came whole.
    #[track_caller]
    pub fn expect(&mut self, model: &Model) -> CompletedDownload {
        let fetched = match &self.result {
            Ok(fetched) => fetched.clone(),
            Err(e) => panic!("{e:?}, told {:?}, failures {:?}", self.told.events, self.failures),
        };
        let part = self.part_bytes();
        let at = part.iter().zip(&model.content).position(|(a, b)| a != b);
        let lengths = (part.len(), model.content.len());
        assert!(part == model.content, "the part file differs at {at:?} of {lengths:?}");
        assert_eq!(
            (fetched.size, fetched.digest, fetched.mtime),
            (model.size(), model.digest(), MTIME)
        );
        assert!(
            fetched.mode == Mode::new(0o755)
                && fetched.version == Some(Lsn { epoch: 1, number: 42 })
        );
        fetched
    }
}

pub(super) fn path() -> TreePath {
    TreePath::new("a/x").unwrap()
}

/// A part file that holds `held`, and the state that says that its first `good` bytes are good.
pub(super) fn part_with(model: &Model, held: &[u8], good: u64) -> (File, Resume) {
    let mut part = tempfile::tempfile().unwrap();
    part.write_all(held).unwrap();
    let resume = Resume {
        size: model.size(),
        mtime: MTIME,
        digest: model.hashed.then(|| model.digest()),
        identity: Some(model.identity),
        version: None,
        good: Ranges::up_to(good),
    };
    (part, resume)
}
