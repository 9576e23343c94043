//! Uploads content of unknown length.
//!
//! The content can be read only once, so bytes that left the memory are lost with the connection.

use std::io::{self, Read};
use std::net::SocketAddr;

use relais_proto::{Digest, PutRequest, Request, limits};

use super::body::Body;
use super::content::{CompletedUpload, Progress, UploadTarget};
use super::outgoing::{flush, listen, prepare, queue_bytes};
use super::retry_loop::put_body;
use super::send::Commit;
use crate::action::Purpose;
use crate::error::{Fault, TransferError};
use crate::exchange::answer;
use crate::failover::{Failover, Try};
use crate::sessions::Sessions;

/// Bytes that are read before the first request, and at most per step after it.
pub(super) const FIRST: usize = 1024 * 1024;

/// Uploads content of unknown length.
///
/// Up to 1 MiB is read before the first request: content that ends there is sent again as often as
/// by [`put`](super::put). Longer content is lost with its connection.
///
/// # Errors
/// See [`TransferError`]. The upload cannot be resumed.
pub fn put_stream(
    sessions: &mut dyn Sessions,
    from: &mut dyn Read,
    target: &UploadTarget<'_>,
    progress: &mut dyn Progress,
) -> Result<CompletedUpload, TransferError> {
    let mut first = vec![0; FIRST];
    let mut filled = 0;
    while filled < FIRST {
        match read(from, &mut first[filled..], progress)? {
            0 => return put_body(sessions, &Body::in_memory(&first[..filled]), target, progress),
            got => filled += got,
        }
    }
    let mut stream = Stream {
        from,
        target,
        progress,
        server: None,
        sent: 0,
        bytes_moved: 0,
        read_on: false,
        unfinished: false,
    };
    let mut failover = Failover::new(sessions.retry());
    loop {
        match stream.try_once(sessions, &first) {
            Ok(stored) => return Ok(stored),
            Err(fault) => stream.recover(sessions, fault, &mut failover)?,
        }
    }
}

/// Reads the available bytes, at most one buffer; returns 0 at the end.
fn read(
    from: &mut dyn Read,
    buffer: &mut [u8],
    progress: &dyn Progress,
) -> Result<usize, TransferError> {
    loop {
        if progress.interrupted() {
            return Err(TransferError::Interrupted);
        }
        match from.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(|error| TransferError::Local { what: "reading", error }),
        }
    }
}

struct Stream<'a> {
    from: &'a mut dyn Read,
    target: &'a UploadTarget<'a>,
    progress: &'a mut dyn Progress,
    server: Option<SocketAddr>,
    /// Bytes that were sent to the current server.
    sent: u64,
    bytes_moved: u64,
    /// Whether more was read than is still in memory.
    read_on: bool,
    /// Whether an answer is unfinished, so the connection is unusable for other requests.
    unfinished: bool,
}

impl Stream<'_> {
    fn try_once(
        &mut self,
        sessions: &mut dyn Sessions,
        first: &[u8],
    ) -> Result<CompletedUpload, Fault> {
        (self.server, self.sent, self.unfinished) = (None, 0, false);
        let server = sessions.connection()?;
        (self.server, self.unfinished) = (Some(server.peer()), true);
        prepare(server)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = Vec::new();
        self.progress.started(0, 0);
        server.queue(&Request::Put(self.opening()));
        let mut chunk = first;
        while !chunk.is_empty() {
            listen(server)?;
            queue_bytes(server, chunk);
            hasher.update(chunk);
            flush(server)?;
            self.sent += chunk.len() as u64;
            self.bytes_moved += chunk.len() as u64;
            self.progress.advanced(self.sent);
            buffer.resize(FIRST, 0);
            let got = read(self.from, &mut buffer, self.progress)?;
            self.read_on |= got > 0;
            chunk = &buffer[..got];
        }
        let digest = Digest(hasher.finalize().into());
        server.queue(&Request::PutEnd { digest });
        flush(server)?;
        let commit = Commit::of(answer(server).inspect_err(|fault| {
            self.unfinished = !fault.is_answer() || self.sent > limits::DISCARD;
        })?)?;
        commit.check(digest, false)?;
        Ok(commit.completed(digest, self.sent, 0, vec![server.peer()], self.bytes_moved))
    }

    fn opening(&self) -> PutRequest {
        let UploadTarget { id, path, expect, copies, .. } = *self.target;
        PutRequest {
            id,
            path: path.clone(),
            size: None,
            offset: 0,
            mtime: None,
            mode: None,
            expect,
            copies,
        }
    }

    /// Handles a failure; returns an error if the upload ends.
    fn recover(
        &self,
        sessions: &mut dyn Sessions,
        fault: Fault,
        failover: &mut Failover,
    ) -> Result<(), TransferError> {
        let tried = Try {
            purpose: Purpose::Change,
            server: self.server,
            unfinished: self.unfinished,
            repeatable: !self.read_on,
            interrupted: &|| self.progress.interrupted(),
        };
        failover.recover(sessions, fault, &tried).map(|_| ())
    }
}
