//! A server that answers in this process, honestly or as a test wants it, and a conversation that
//! writes down what it is told.

mod cuts;
mod lies;
mod redirects;
mod server;
mod useless;
mod whole;
mod window;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use relais_net::Connection;
use relais_proto::{
    ChangeId, Digest, Endpoint, ErrorCode, Expect, FileTime, PutRequest, Reply, Request, TreePath,
};

use super::{
    PipelineError, PipelineHandler, PipelineReply, PipelineRequest, PipelineStats, SMALL, run,
};
use crate::download::{DownloadError, Sessions};
use server::{Server, Tree, encode};

const MTIME: FileTime = FileTime { seconds: 1_700_000_000, nanos: 5 };

/// Bytes that differ from place to place.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

fn digest_of(content: &[u8]) -> Digest {
    Digest(*blake3::hash(content).as_bytes())
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn get(text: &str) -> PipelineRequest {
    PipelineRequest::Get { path: path(text) }
}

fn list(text: &str) -> PipelineRequest {
    PipelineRequest::List { path: path(text) }
}

fn make_folder(number: u8, text: &str) -> PipelineRequest {
    PipelineRequest::MakeFolder { id: ChangeId([number; 16]), path: path(text) }
}

fn put(number: u8, text: &str, content: Vec<u8>) -> PipelineRequest {
    let request = PutRequest {
        id: ChangeId([number; 16]),
        path: path(text),
        size: Some(content.len() as u64),
        offset: 0,
        mtime: Some(MTIME),
        mode: None,
        expect: Expect::Any,
        copies: 0,
    };
    PipelineRequest::Put { request, content }
}

/// What an answer told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Entry(String),
    Listed,
    Details(String, Option<Digest>),
    Content(Vec<u8>),
    TooLarge(u64),
    Committed(u64),
    Refused(ErrorCode),
}

/// Asks a list of things, and keeps what it is told.
#[derive(Default)]
struct Asker {
    asks: VecDeque<PipelineRequest>,
    asked: u64,
    told: Vec<(u64, Told)>,
    moved: Vec<(SocketAddr, SocketAddr)>,
    /// Whether each entry of a listing is asked for.
    walks: bool,
    interrupt_at: Option<usize>,
    stop_at: Option<usize>,
}

impl Asker {
    fn new(asks: impl IntoIterator<Item = PipelineRequest>) -> Self {
        Self { asks: asks.into_iter().collect(), ..Self::default() }
    }

    /// What the ask with this number was told.
    fn of(&self, tag: u64) -> Vec<Told> {
        self.told.iter().filter(|(of, _)| *of == tag).map(|(_, told)| told.clone()).collect()
    }
}

impl PipelineHandler for Asker {
    fn next(&mut self) -> Option<(u64, PipelineRequest)> {
        let ask = self.asks.pop_front()?;
        self.asked += 1;
        Some((self.asked - 1, ask))
    }

    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), PipelineError> {
        let told = match answer {
            PipelineReply::Entry(entry) => {
                if self.walks {
                    self.asks.push_back(get(&entry.name));
                }
                Told::Entry(entry.name)
            }
            PipelineReply::Listed => Told::Listed,
            PipelineReply::Details { entry, digest } => Told::Details(entry.name, digest),
            PipelineReply::Content { header, bytes, digest } => {
                assert_eq!((header.size, digest), (bytes.len() as u64, digest_of(bytes)));
                Told::Content(bytes.to_vec())
            }
            PipelineReply::TooLarge { header } => Told::TooLarge(header.size),
            PipelineReply::Committed { version, copies } => {
                assert_eq!(copies, 1);
                Told::Committed(version.number)
            }
            PipelineReply::Refused(refusal) => Told::Refused(refusal.code),
        };
        self.told.push((tag, told));
        if self.stop_at.is_some_and(|at| self.told.len() >= at) {
            return Err(PipelineError::stopped("enough"));
        }
        Ok(())
    }

    fn moved(&mut self, from: SocketAddr, to: SocketAddr) {
        self.moved.push((from, to));
    }

    fn interrupted(&self) -> bool {
        self.interrupt_at.is_some_and(|at| self.told.len() >= at)
    }
}

/// Sessions with servers, one after the other.
struct Servers {
    addrs: Vec<SocketAddr>,
    current: usize,
    open: Option<Connection>,
    failures: Vec<String>,
    /// Slaves that were left without a word of failure.
    left: Vec<String>,
    abandoned: usize,
    silence: Duration,
    /// Bytes that the socket takes without waiting; 0 for what the system gives.
    send_buffer: usize,
}

impl Servers {
    fn new(servers: &[&Server]) -> Self {
        Self {
            addrs: servers.iter().map(|s| s.addr).collect(),
            current: 0,
            open: None,
            failures: Vec::new(),
            left: Vec::new(),
            abandoned: 0,
            silence: Duration::from_secs(5),
            send_buffer: 0,
        }
    }
}

impl Sessions for Servers {
    fn connection(&mut self) -> Result<&mut Connection, DownloadError> {
        if self.open.is_none() {
            let mut connection =
                Connection::connect(self.addrs[self.current], Duration::from_secs(5))
                    .map_err(|e| DownloadError::Unreachable(e.to_string()))?;
            connection.set_silence(self.silence);
            if self.send_buffer > 0 {
                rustix::net::sockopt::set_socket_send_buffer_size(
                    connection.stream(),
                    self.send_buffer,
                )
                .unwrap();
            }
            self.open = Some(connection);
        }
        self.open.as_mut().ok_or_else(|| DownloadError::Unreachable(String::new()))
    }

    fn failed(&mut self, why: &str) {
        self.failures.push(why.to_owned());
        self.open = None;
        self.current = (self.current + 1) % self.addrs.len();
    }

    fn abandon(&mut self) {
        self.abandoned += 1;
        self.open = None;
    }

    fn elsewhere(&mut self, holders: &[Endpoint]) -> bool {
        let found = holders
            .iter()
            .flat_map(|holder| &holder.addrs)
            .find_map(|addr| self.addrs.iter().position(|known| known == addr));
        let Some(found) = found.filter(|found| *found != self.current) else { return false };
        (self.current, self.open) = (found, None);
        true
    }

    fn leave(&mut self, why: &str) {
        self.left.push(why.to_owned());
        self.open = None;
        self.current = (self.current + 1) % self.addrs.len();
    }
}

/// A conversation with these servers, and what it came to.
struct Held {
    asker: Asker,
    sessions: Servers,
    result: Result<PipelineStats, PipelineError>,
}

impl Held {
    fn new(servers: &[&Server], asks: impl IntoIterator<Item = PipelineRequest>) -> Self {
        Self::with(servers, Asker::new(asks))
    }

    fn with(servers: &[&Server], asker: Asker) -> Self {
        Self::over(Servers::new(servers), asker)
    }

    fn over(mut sessions: Servers, mut asker: Asker) -> Self {
        let result = run(&mut sessions, &mut asker);
        Self { asker, sessions, result }
    }

    #[track_caller]
    fn ran(&self) -> &PipelineStats {
        match &self.result {
            Ok(ran) => ran,
            Err(e) => panic!("{e:?}, failures {:?}", self.sessions.failures),
        }
    }
}
