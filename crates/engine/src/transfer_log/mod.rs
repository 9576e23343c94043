//! The transfer log: a line of JSON for each transfer and change, also for failed ones.
//!
//! All processes append to one file, a line with one write. When the file was moved away one of
//! them reopens it and sends it to the others, which cannot open it themselves.

mod sink;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use log::{error, warn};
use parking_lot::RwLock;
use relais_proto::{ErrorCode, SlaveId, TreePath, is_unsafe_char};
use serde::Serialize;

use self::sink::Sink;
use crate::protocol::Protocol;
use crate::transfer_counter::TransferCounter;

/// An open transfer log.
#[derive(Debug)]
pub struct TransferLog {
    path: Option<PathBuf>,
    sink: RwLock<Arc<Sink>>,
}

/// A command that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum LoggedCommand {
    /// Sends content.
    #[serde(rename = "get")]
    Get,
    /// Receives content.
    #[serde(rename = "put")]
    Put,
    /// Makes a folder.
    #[serde(rename = "mkdir")]
    MakeFolder,
    /// Removes a file or a folder.
    #[serde(rename = "rm")]
    Remove,
    /// Moves a file or a folder.
    #[serde(rename = "mv")]
    Move,
    /// Sets attributes of a file or a folder.
    #[serde(rename = "attributes")]
    SetAttributes,
    /// Copies a file.
    #[serde(rename = "cp")]
    Copy,
    /// Sets properties of a file or a folder.
    #[serde(rename = "properties")]
    SetProperties,
    /// Locks a file or a folder, or extends a lock.
    #[serde(rename = "lock")]
    Lock,
    /// Ends a lock.
    #[serde(rename = "unlock")]
    Unlock,
}

#[derive(Serialize)]
struct LogLine<'a> {
    time: String,
    user: &'a str,
    protocol: &'static str,
    address: String,
    command: LoggedCommand,
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    bytes: u64,
    milliseconds: u64,
    result: &'a str,
    slave: String,
}

/// A command whose end will be logged. One that is dropped without an end was cut.
///
/// A change that was cut may be made all the same.
#[derive(Default)]
pub(crate) struct TransferRecord(Option<Box<OpenRecord>>);

/// What is known of a command before its end.
pub(crate) struct OpenRecord {
    /// Counts the transfer, also one that was cut.
    pub counter: Option<TransferCounter>,
    /// The log that gets a line.
    pub log: Option<Arc<TransferLog>>,
    pub slave: SlaveId,
    pub user: String,
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub command: LoggedCommand,
    /// Path in the tree; none if the client has sent no valid path.
    pub path: Option<TreePath>,
    pub to: Option<TreePath>,
    pub bytes: u64,
    pub since: Instant,
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

    /// Reopens the file; returns it to be sent to other processes.
    ///
    /// There is none if standard output takes the log, or if the file cannot be opened: then the
    /// former one stays in use.
    #[must_use]
    pub fn reopen(&self) -> Option<File> {
        let path = self.path.as_ref()?;
        let reopened = Sink::append(path).and_then(|sink| {
            let file = sink.file()?;
            self.replace(sink);
            Ok(file)
        });
        reopened
            .inspect_err(|e| error!("cannot reopen the transfer log {}: {e}", path.display()))
            .ok()
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
            Ok(sink) => self.replace(sink),
            Err(e) => warn!("cannot change to the reopened transfer log: {e}"),
        }
    }

    fn current(&self) -> Arc<Sink> {
        Arc::clone(&self.sink.read())
    }

    fn replace(&self, sink: Sink) {
        *self.sink.write() = Arc::new(sink);
    }

    /// Waits a moment until all lines are written.
    pub fn finish(&self) {
        self.current().finish();
    }
}

impl TransferRecord {
    pub fn new(open: OpenRecord) -> Self {
        Self(Some(Box::new(open)))
    }

    /// Moves the record out, to be ended elsewhere.
    pub fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// Sets the number of bytes that the log names.
    pub fn set_bytes(&mut self, bytes: u64) {
        if let Some(open) = &mut self.0 {
            open.bytes = bytes;
        }
    }

    /// Counts bytes as they are sent or received.
    pub fn count(&mut self, bytes: u64) {
        if let Some(counter) = self.0.as_mut().and_then(|open| open.counter.as_mut()) {
            counter.add(bytes);
        }
    }

    /// Counts the transfer as one that continues after the bytes of an earlier one.
    pub fn count_resume(&self) {
        if let Some(counter) = self.0.as_ref().and_then(|open| open.counter.as_ref()) {
            counter.resume();
        }
    }

    /// Logs the end of the command. Only the first end counts.
    pub fn end(&mut self, result: Result<(), ErrorCode>) {
        let Some(open) = self.0.take() else { return };
        let Some(log) = &open.log else { return };
        let line = LogLine {
            time: Timestamp::now().to_string(),
            user: &open.user,
            protocol: open.protocol.name(),
            address: open.address.to_string(),
            command: open.command,
            path: open.path.as_ref().map(ToString::to_string),
            to: open.to.as_ref().map(ToString::to_string),
            // A put that was refused stores no bytes.
            bytes: if result.is_ok() || open.command == LoggedCommand::Get {
                open.bytes
            } else {
                0
            },
            milliseconds: u64::try_from(open.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            result: result.map_or_else(ErrorCode::text, |()| "ok"),
            slave: open.slave.to_string(),
        };
        match serde_json::to_string(&line) {
            Ok(text) => log.current().write(escape_line(&text)),
            Err(e) => error!("cannot write a line of the transfer log: {e}"),
        }
    }
}

impl Drop for TransferRecord {
    fn drop(&mut self) {
        self.end(Err(ErrorCode::Cut));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_without_control_characters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Arc::new(TransferLog::open(&path).unwrap());
        let user = "a\u{202e}\u{9b}b\"";
        let record = || {
            TransferRecord::new(OpenRecord {
                counter: None,
                log: Some(log.clone()),
                slave: SlaveId([2; 16]),
                user: user.to_owned(),
                protocol: Protocol::Ftp,
                address: "192.0.2.1:5".parse().unwrap(),
                command: LoggedCommand::Remove,
                path: Some(TreePath::new("home/x").unwrap()),
                to: None,
                bytes: 0,
                since: Instant::now(),
            })
        };
        let mut refused = record();
        refused.end(Err(ErrorCode::NotFound));
        drop(refused);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n') && !text.trim_end().contains(is_unsafe_char), "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["user"], &line["command"], &line["result"], &line["path"], &line["protocol"]),
            (&user.into(), &"rm".into(), &"not-found".into(), &"/home/x".into(), &"ftp".into())
        );
        // The file is moved away, and reopened.
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        log.reopen().unwrap();
        let mut made = record();
        made.take().end(Ok(()));
        drop(made);
        drop(record());
        let text = std::fs::read_to_string(&path).unwrap();
        let results: Vec<_> = text.lines().map(|line| line.split("result\":").nth(1)).collect();
        assert_eq!(results.len(), 2);
        assert!(results[0].unwrap().starts_with("\"ok\"") && text.contains("\"cut\""), "{text}");
    }
}
