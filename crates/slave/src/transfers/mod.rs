//! The transfer log: a line of JSON for each file that went in or out and each change, also where it was refused or did not go whole.
//!
//! All processes append to one file, a line with one write. When the supervisor is told that the file was moved away it opens it
//! anew and hands it to the workers, who could not open it themselves.

mod sink;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use jiff::Timestamp;
use log::{error, warn};
use relais_proto::{ErrorCode, FrameType, Request, SlaveId, TreePath, is_harmful};
use serde::Serialize;

use self::sink::Sink;
use crate::serving::Session;

/// Where the lines go.
#[derive(Debug)]
pub struct TransferLog {
    path: Option<PathBuf>,
    sink: RwLock<Arc<Sink>>,
}

/// A request whose end will be noted.
#[derive(Debug)]
pub struct TransferRecord {
    command: &'static str,
    /// None where what was sent is no path.
    path: Option<TreePath>,
    to: Option<TreePath>,
    bytes: u64,
    since: Instant,
}

#[derive(Serialize)]
struct LogLine<'a> {
    time: String,
    user: &'a str,
    address: String,
    command: &'a str,
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    bytes: u64,
    milliseconds: u64,
    result: &'a str,
    slave: String,
}

impl TransferLog {
    /// Appends to the file at this path, made with mode 0640; to standard output for `-`.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            return Ok(Self { path: None, sink: RwLock::new(Arc::new(Sink::new(stdout)?)) });
        }
        // The slave's own folder, once it has gone somewhere else, has nothing to do with it.
        let path = std::path::absolute(path)?;
        Ok(Self { sink: RwLock::new(Arc::new(Sink::append(&path)?)), path: Some(path) })
    }

    /// Opens the file anew; none where there is nothing to open. The former one is written to where that fails.
    #[must_use]
    pub fn reopen(&self) -> Option<Arc<Sink>> {
        let path = self.path.as_ref()?;
        match Sink::append(path) {
            Ok(sink) => Some(self.replace(sink)),
            Err(e) => {
                error!("the transfer log {} cannot be opened anew: {e}", path.display());
                None
            }
        }
    }

    /// This process has nothing to note, and keeps no file that others may move away.
    pub fn close(&self) {
        match File::open("/dev/null") {
            Ok(nothing) => self.take(nothing),
            Err(e) => warn!("the transfer log stays open: {e}"),
        }
    }

    /// Writes to another file from here on.
    pub fn take(&self, file: File) {
        match Sink::new(file) {
            Ok(sink) => drop(self.replace(sink)),
            Err(e) => warn!("the former transfer log stays open: {e}"),
        }
    }

    fn current(&self) -> Arc<Sink> {
        Arc::clone(&self.sink.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, sink: Sink) -> Arc<Sink> {
        let sink = Arc::new(sink);
        *self.sink.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&sink);
        sink
    }

    /// Waits a moment until all lines are written.
    pub fn finish(&self) {
        self.current().finish();
    }

    /// Notes what a request came to.
    fn note(
        &self,
        record: &TransferRecord,
        session: &Session,
        address: SocketAddr,
        slave: SlaveId,
        result: Result<(), ErrorCode>,
    ) {
        let line = LogLine {
            time: Timestamp::now().to_string(),
            user: &session.user,
            address: address.to_string(),
            command: record.command,
            path: record.path.as_ref().map(ToString::to_string),
            to: record.to.as_ref().map(ToString::to_string),
            // Of a put that was refused nothing stays.
            bytes: if result.is_ok() || record.command == "get" { record.bytes } else { 0 },
            milliseconds: u64::try_from(record.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            result: result.map_or_else(ErrorCode::text, |()| "ok"),
            slave: slave.to_string(),
        };
        match serde_json::to_string(&line) {
            Ok(text) => self.current().write(plain(&text)),
            Err(e) => error!("a line of the transfer log cannot be written: {e}"),
        }
    }
}

/// The line with its end, in which nothing could drive a terminal: what JSON lets stand is escaped as well.
fn plain(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_harmful(c) {
            let mut units = [0; 2];
            text.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    text
}

impl TransferRecord {
    /// A request that has just come, if its end is to be noted; its paths as they are in the tree.
    fn of(request: &Request, session: &Session) -> Option<Self> {
        let (path, to) = match request {
            Request::Get(get) => (&get.path, None),
            Request::Put(put) => (&put.path, None),
            Request::MakeFolder { path, .. } | Request::Remove { path, .. } => (path, None),
            Request::Move { from, to, .. } => (from, Some(to)),
            _ => return None,
        };
        let whole = |path: &TreePath| session.resolve(path).unwrap_or_else(|_| path.clone());
        Some(Self {
            path: Some(whole(path)),
            to: to.map(whole),
            ..Self::unreadable(request.frame_type())?
        })
    }

    /// The same of one whose path breaks the rules.
    fn unreadable(kind: FrameType) -> Option<Self> {
        let command = match kind {
            FrameType::Get => "get",
            FrameType::Put => "put",
            FrameType::MakeFolder => "mkdir",
            FrameType::Remove => "rm",
            FrameType::Move => "mv",
            _ => return None,
        };
        Some(Self { command, path: None, to: None, bytes: 0, since: Instant::now() })
    }

    /// How many bytes went.
    pub fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }
}

/// What one session has under way, as far as it is noted.
pub struct TransferRecorder<'a> {
    log: Option<&'a TransferLog>,
    session: &'a Session,
    address: SocketAddr,
    slave: SlaveId,
    /// Changes that were handed in and are not answered, in order.
    pending: VecDeque<Option<TransferRecord>>,
}

impl<'a> TransferRecorder<'a> {
    /// Nothing yet. What other slaves fetch is not noted.
    #[must_use]
    pub fn new(
        log: Option<&'a TransferLog>,
        session: &'a Session,
        address: SocketAddr,
        slave: SlaveId,
    ) -> Self {
        Self {
            log: log.filter(|_| !session.peer),
            session,
            address,
            slave,
            pending: VecDeque::new(),
        }
    }

    /// Whose they are.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.session
    }

    /// A request has come.
    #[must_use]
    pub fn begin(&self, request: &Request) -> Option<TransferRecord> {
        self.log.and_then(|_| TransferRecord::of(request, self.session))
    }

    /// A request of this kind had a name that breaks the rules.
    pub fn unreadable(&self, kind: FrameType, code: ErrorCode) {
        if self.log.is_some() {
            self.end(TransferRecord::unreadable(kind).as_ref(), Err(code));
        }
    }

    /// It has ended.
    pub fn end(&self, record: Option<&TransferRecord>, result: Result<(), ErrorCode>) {
        if let (Some(log), Some(record)) = (self.log, record) {
            log.note(record, self.session, self.address, self.slave, result);
        }
    }

    /// A change was handed in: it ends when it is answered.
    pub fn submitted(&mut self, record: Option<TransferRecord>) {
        if self.log.is_some() {
            self.pending.push_back(record);
        }
    }

    /// The oldest change was answered.
    pub fn answered(&mut self, result: Result<(), ErrorCode>) {
        if let Some(record) = self.pending.pop_front() {
            self.end(record.as_ref(), result);
        }
    }
}

impl Drop for TransferRecorder<'_> {
    /// The client left before it was answered: what it asked for may be made all the same.
    fn drop(&mut self) {
        while let Some(record) = self.pending.pop_front() {
            self.end(record.as_ref(), Err(ErrorCode::Cut));
        }
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::Lsn;

    use super::*;

    #[test]
    fn a_line_is_json_and_harmless() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = TransferLog::open(&path).unwrap();
        let session = Session {
            user: "a\u{202e}\u{9b}b\"".to_owned(),
            owner: crate::owner::Owner::of("", std::net::IpAddr::from([192, 0, 2, 1])),
            root: TreePath::new("home").unwrap(),
            writable: true,
            mark: Lsn::default(),
            peer: false,
            generation: 0,
            ends_ms: 0,
        };
        let request = Request::Remove {
            id: relais_proto::ChangeId([1; 16]),
            path: TreePath::new("x \u{e0001} y").unwrap_or_default(),
            recursive: false,
        };
        let record = TransferRecord::of(&request, &session).unwrap();
        log.note(
            &record,
            &session,
            "192.0.2.1:5".parse().unwrap(),
            SlaveId([2; 16]),
            Err(ErrorCode::NotFound),
        );
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n') && !text.trim_end().contains(is_harmful), "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["user"], &line["command"], &line["result"]),
            (&session.user.as_str().into(), &"rm".into(), &"not-found".into())
        );
        assert!(line["path"].as_str().unwrap().starts_with("/home"), "{line}");
        // Moved away, and opened anew.
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        log.reopen().unwrap();
        log.note(&record, &session, "192.0.2.1:5".parse().unwrap(), SlaveId([2; 16]), Ok(()));
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"result\":\"ok\""));
    }
}
