//! The transfer log: a line of JSON for each transfer and change, also for failed ones.
//!
//! All processes append to one file, a line with one write. When the file was moved away the
//! supervisor reopens it and sends it to the workers, which cannot open it themselves.

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
use relais_proto::{ErrorCode, FrameType, Request, SlaveId, TreePath, is_unsafe_char};
use serde::Serialize;

use self::sink::Sink;
use crate::engine::serving::Session;

/// An open transfer log.
#[derive(Debug)]
pub struct TransferLog {
    path: Option<PathBuf>,
    sink: RwLock<Arc<Sink>>,
}

/// A request whose end will be logged.
#[derive(Debug)]
pub struct TransferRecord {
    command: &'static str,
    /// None if the client has sent no valid path.
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
    /// Opens the file at this path to append to it, with mode 0640; `-` is standard output.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            return Ok(Self { path: None, sink: RwLock::new(Arc::new(Sink::new(stdout)?)) });
        }
        // An absolute path does not depend on the working directory.
        let path = std::path::absolute(path)?;
        Ok(Self { sink: RwLock::new(Arc::new(Sink::append(&path)?)), path: Some(path) })
    }

    /// Reopens the file; none if there is no file to open, or if that fails.
    ///
    /// On failure the former file stays in use.
    #[must_use]
    pub fn reopen(&self) -> Option<Arc<Sink>> {
        let path = self.path.as_ref()?;
        match Sink::append(path) {
            Ok(sink) => Some(self.replace(sink)),
            Err(e) => {
                error!("cannot reopen the transfer log {}: {e}", path.display());
                None
            }
        }
    }

    /// Releases the file in a process that logs nothing, so that it can be moved away.
    pub fn close(&self) {
        match File::open("/dev/null") {
            Ok(null) => self.replace_file(null),
            Err(e) => warn!("cannot close the transfer log: {e}"),
        }
    }

    /// Writes to another file from now on.
    pub fn replace_file(&self, file: File) {
        match Sink::new(file) {
            Ok(sink) => drop(self.replace(sink)),
            Err(e) => warn!("cannot change to the reopened transfer log: {e}"),
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

    /// Logs the end of a request.
    fn log(
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
            // A put that was refused stores no bytes.
            bytes: if result.is_ok() || record.command == "get" { record.bytes } else { 0 },
            milliseconds: u64::try_from(record.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            result: result.map_or_else(ErrorCode::text, |()| "ok"),
            slave: slave.to_string(),
        };
        match serde_json::to_string(&line) {
            Ok(text) => self.current().write(escape_line(&text)),
            Err(e) => error!("cannot write a line of the transfer log: {e}"),
        }
    }
}

/// Escapes characters that JSON allows but that could control a terminal, and ends the line.
fn escape_line(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_unsafe_char(c) {
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
    /// Returns a record for a request that has just come, if its end is to be logged.
    ///
    /// Its paths are those of the tree.
    fn new(request: &Request, session: &Session) -> Option<Self> {
        let (path, to) = match request {
            Request::Get(get) => (&get.path, None),
            Request::Put(put) => (&put.path, None),
            Request::MakeFolder { path, .. } | Request::Remove { path, .. } => (path, None),
            Request::Move { from, to, .. } => (from, Some(to)),
            _ => return None,
        };
        let in_tree = |path: &TreePath| session.resolve(path).unwrap_or_else(|_| path.clone());
        Some(Self {
            path: Some(in_tree(path)),
            to: to.map(in_tree),
            ..Self::unreadable(request.frame_type())?
        })
    }

    /// Returns a record for a request whose path breaks the rules of names.
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

    /// Sets the number of bytes that were transferred.
    pub fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }
}

/// Records the requests of one session in the transfer log.
pub struct TransferRecorder<'a> {
    log: Option<&'a TransferLog>,
    session: &'a Session,
    address: SocketAddr,
    slave: SlaveId,
    /// Changes that were handed in and have no answer yet, in order.
    pending: VecDeque<Option<TransferRecord>>,
}

impl<'a> TransferRecorder<'a> {
    /// Makes a recorder. It does not record what other slaves fetch.
    #[must_use]
    pub fn new(
        log: Option<&'a TransferLog>,
        session: &'a Session,
        address: SocketAddr,
        slave: SlaveId,
    ) -> Self {
        Self {
            log: log.filter(|_| !session.is_peer),
            session,
            address,
            slave,
            pending: VecDeque::new(),
        }
    }

    /// Returns the session.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.session
    }

    /// Begins the record of a request.
    #[must_use]
    pub fn begin(&self, request: &Request) -> Option<TransferRecord> {
        self.log.and_then(|_| TransferRecord::new(request, self.session))
    }

    /// Logs a request whose name breaks the rules.
    pub fn log_unreadable(&self, kind: FrameType, code: ErrorCode) {
        if self.log.is_some() {
            self.end(TransferRecord::unreadable(kind).as_ref(), Err(code));
        }
    }

    /// Logs the end of a request.
    pub fn end(&self, record: Option<&TransferRecord>, result: Result<(), ErrorCode>) {
        if let (Some(log), Some(record)) = (self.log, record) {
            log.log(record, self.session, self.address, self.slave, result);
        }
    }

    /// Keeps the record of a change until the change is answered.
    pub fn keep_pending(&mut self, record: Option<TransferRecord>) {
        if self.log.is_some() {
            self.pending.push_back(record);
        }
    }

    /// Logs the end of the oldest change that has no answer.
    pub fn end_oldest(&mut self, result: Result<(), ErrorCode>) {
        if let Some(record) = self.pending.pop_front() {
            self.end(record.as_ref(), result);
        }
    }
}

impl Drop for TransferRecorder<'_> {
    /// Logs changes without an answer as cut, because the client has gone; they may be made all the
    /// same.
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
    fn lines_are_json_without_control_characters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = TransferLog::open(&path).unwrap();
        let session = Session {
            user: "a\u{202e}\u{9b}b\"".to_owned(),
            owner: crate::engine::owner::Owner::of("", std::net::IpAddr::from([192, 0, 2, 1])),
            root: TreePath::new("home").unwrap(),
            writable: true,
            seen_lsn: Lsn::default(),
            is_peer: false,
            generation: 0,
            ends_ms: 0,
        };
        let request = Request::Remove {
            id: relais_proto::ChangeId([1; 16]),
            path: TreePath::new("x \u{e0001} y").unwrap_or_default(),
            recursive: false,
            expect: relais_proto::Expect::Any,
        };
        let record = TransferRecord::new(&request, &session).unwrap();
        log.log(
            &record,
            &session,
            "192.0.2.1:5".parse().unwrap(),
            SlaveId([2; 16]),
            Err(ErrorCode::NotFound),
        );
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n') && !text.trim_end().contains(is_unsafe_char), "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["user"], &line["command"], &line["result"]),
            (&session.user.as_str().into(), &"rm".into(), &"not-found".into())
        );
        assert!(line["path"].as_str().unwrap().starts_with("/home"), "{line}");
        // The file is moved away, and reopened.
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        log.reopen().unwrap();
        log.log(&record, &session, "192.0.2.1:5".parse().unwrap(), SlaveId([2; 16]), Ok(()));
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"result\":\"ok\""));
    }
}
