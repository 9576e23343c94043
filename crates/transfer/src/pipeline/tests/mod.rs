//! A server that answers in this process, honestly or as a test requires, and a conversation that
//! records the replies.

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
    ChangeId, Digest, ErrorCode, Expect, FileTime, PutRequest, Reply, Request, TreePath,
};

use super::{PipelineHandler, PipelineReply, PipelineRequest, PipelineStats, SMALL, run};
use crate::TransferError;
use crate::tests::{Servers, bytes, digest_of, encode};
use server::{Server, Tree};

const MTIME: FileTime = FileTime { seconds: 1_700_000_000, nanos: 5 };

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn get(text: &str) -> PipelineRequest {
    PipelineRequest::get(path(text))
}

fn list(text: &str) -> PipelineRequest {
    PipelineRequest::list(path(text))
}

fn make_folder(number: u8, text: &str) -> PipelineRequest {
    Request::MakeFolder { id: ChangeId([number; 16]), path: path(text) }.into()
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
    PipelineRequest { request: Request::Put(request), content: Some(content) }
}

/// Result of a request.
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

/// Sends a list of requests, and records the replies.
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

    /// Returns the result of the request with this number.
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

    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), TransferError> {
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
            return Err(TransferError::stopped("enough"));
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

fn sessions(servers: &[&Server]) -> Servers {
    let silence = Duration::from_secs(5);
    Servers { silence, ..Servers::new(servers.iter().map(|server| server.addr)) }
}

/// A conversation with these servers, and its results.
struct Held {
    asker: Asker,
    sessions: Servers,
    result: Result<PipelineStats, TransferError>,
}

impl Held {
    fn new(servers: &[&Server], asks: impl IntoIterator<Item = PipelineRequest>) -> Self {
        Self::with(servers, Asker::new(asks))
    }

    fn with(servers: &[&Server], asker: Asker) -> Self {
        Self::over(sessions(servers), asker)
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
