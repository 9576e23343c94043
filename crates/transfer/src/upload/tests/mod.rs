//! Servers that receive uploads in this process, honestly or as a test requires, and a caller that
//! records the reported progress.

mod cuts;
mod lies;
mod redirects;
mod refusals;
mod server;
mod streams;
mod whole;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::time::Duration;

use relais_proto::{
    ChangeId, Digest, ErrorCode, Expect, FileTime, Lsn, Mode, Refusal, Reply, Request, TreePath,
    WaitReason,
};

use super::{CompletedUpload, UploadSource, UploadTarget, put, put_stream};
use crate::TransferError;
use crate::progress::Progress;
use crate::tests::{Servers, bytes, digest_of};
use server::{Cluster, Script, Server};

const MODE: Mode = Mode::new(0o750);
const MTIME: FileTime = FileTime { seconds: 1_700_000_000, nanos: 5 };
const ID: ChangeId = ChangeId([7; 16]);
const MIB: usize = 1024 * 1024;

fn path() -> TreePath {
    TreePath::new("a/x").unwrap()
}

fn file_with(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    // No code may depend on its offset.
    file.seek(SeekFrom::Start(3)).unwrap();
    file
}

fn sessions(servers: &[&Server]) -> Servers {
    Servers::new(servers.iter().map(|server| server.addr))
}

/// Records the reported progress.
#[derive(Default)]
struct Recorder {
    events: Vec<String>,
    sent: u64,
    interrupt_at: Option<u64>,
    on_advance: Option<Box<dyn FnMut(u64) + Send>>,
}

impl Progress for Recorder {
    fn started(&mut self, size: u64, resumed_from: u64) {
        self.events.push(format!("started {size} {resumed_from}"));
    }

    fn advanced(&mut self, sent: u64) {
        self.sent = sent;
        if let Some(then) = &mut self.on_advance {
            then(sent);
        }
    }

    fn moved(&mut self, _: SocketAddr, _: SocketAddr, at: u64) {
        self.events.push(format!("moved {at}"));
    }

    fn opened(&mut self, current: Expect, _: SocketAddr) {
        self.events.push(format!("opened {current:?}"));
    }

    fn restarted(&mut self, _: &str) {
        self.events.push("restarted".to_owned());
    }

    fn interrupted(&self) -> bool {
        self.interrupt_at.is_some_and(|at| self.sent >= at)
    }
}

/// What an upload came to.
struct Run {
    told: Recorder,
    sessions: Servers,
    result: Result<CompletedUpload, TransferError>,
}

impl Run {
    fn new(servers: &[&Server], content: &[u8]) -> Self {
        Self::with(servers, &file_with(content), content.len(), Recorder::default())
    }

    fn with(servers: &[&Server], file: &File, size: usize, mut told: Recorder) -> Self {
        let mut sessions = sessions(servers);
        let source = UploadSource { file, size: size as u64, mtime: MTIME, mode: MODE };
        let result = put(
            &mut sessions,
            &source,
            &UploadTarget {
                id: ID,
                is_old: false,
                path: &path(),
                expect: Expect::Absent,
                copies: 3,
            },
            &mut told,
        );
        Self { told, sessions, result }
    }

    /// Checks that the content was stored whole, once, and that the connection is in order.
    #[track_caller]
    fn expect(&mut self, cluster: &Cluster, content: &[u8]) -> CompletedUpload {
        let stored = match &self.result {
            Ok(stored) => stored.clone(),
            Err(e) => {
                panic!("{e:?}, told {:?}, failures {:?}", self.told.events, self.sessions.failures)
            }
        };
        let made = cluster.made();
        assert_eq!(made.len(), 1);
        assert!(made[0].content == content, "something else was stored");
        assert_eq!(made[0].id, ID);
        assert_eq!((stored.size, stored.digest), (content.len() as u64, digest_of(content)));
        assert_eq!((stored.version, stored.copies), (Lsn { epoch: 1, number: 1 }, 2));
        assert!(self.sessions.is_usable(), "the connection is not in order");
        stored
    }

    #[track_caller]
    fn refused(&self) -> ErrorCode {
        match &self.result {
            Err(TransferError::Refused(refusal)) => refusal.code,
            other => panic!("{other:?}"),
        }
    }
}

fn refusal(code: ErrorCode) -> Reply {
    Reply::Error(Refusal::new(code, code.text()))
}

fn staged(offset: u64) -> Reply {
    Reply::Staged { offset, current: Expect::Absent }
}

fn committed(digest: Digest) -> Reply {
    let version = Lsn { epoch: 1, number: 1 };
    Reply::Committed { version, copies: 2, lsn: version, digest: Some(digest), current: true }
}
