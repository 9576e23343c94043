//! Uploads content of unknown length.
//!
//! The content can be read only once, so bytes that left the memory are lost with the connection.

use std::io::{self, Read};

use log::debug;
use relais_proto::{Digest, ErrorCode, PutRequest, Reply, Request, limits};

use super::body::Body;
use super::error::{UploadInterrupt, is_passing};
use super::exchange::{answer, listen};
use super::outgoing::{flush, prepare, queue_bytes};
use super::send::Commit;
use super::stats::UploadStats;
use super::{CompletedUpload, Progress, UploadError, UploadTarget, retry_loop};
use crate::download::Sessions;

/// Bytes that are read before the first request, and at most per step after it.
pub(super) const FIRST: usize = 1024 * 1024;

pub(super) fn run(
    sessions: &mut dyn Sessions,
    from: &mut dyn Read,
    target: &UploadTarget<'_>,
    progress: &mut dyn Progress,
) -> Result<CompletedUpload, UploadError> {
    let mut first = vec![0; FIRST];
    let mut filled = 0;
    while filled < FIRST {
        match read(from, &mut first[filled..], progress)? {
            0 => {
                return retry_loop::run(
                    sessions,
                    &Body::in_memory(&first[..filled]),
                    target,
                    progress,
                );
            }
            got => filled += got,
        }
    }
    let mut stream = Stream {
        from,
        target,
        progress,
        sent: 0,
        bytes_moved: 0,
        read_on: false,
        ended: false,
        answer_unfinished: false,
    };
    let mut stats = UploadStats::default();
    loop {
        match stream.try_once(sessions, &first) {
            Ok(stored) => return Ok(stored),
            Err(stop) => stream.recover(sessions, stop, &mut stats)?,
        }
    }
}

/// Reads the available bytes, at most one buffer; returns 0 at the end.
fn read(
    from: &mut dyn Read,
    buffer: &mut [u8],
    progress: &dyn Progress,
) -> Result<usize, UploadError> {
    loop {
        if progress.interrupted() {
            return Err(UploadError::Interrupted);
        }
        match from.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(UploadError::Source),
        }
    }
}

struct Stream<'a> {
    from: &'a mut dyn Read,
    target: &'a UploadTarget<'a>,
    progress: &'a mut dyn Progress,
    /// Bytes that were sent to the current server.
    sent: u64,
    bytes_moved: u64,
    /// Whether more was read than is still in memory.
    read_on: bool,
    /// Whether `PutEnd` was sent.
    ended: bool,
    /// Whether an answer is unfinished, so the connection is unusable for other requests.
    answer_unfinished: bool,
}

impl Stream<'_> {
    fn try_once(
        &mut self,
        sessions: &mut dyn Sessions,
        first: &[u8],
    ) -> Result<CompletedUpload, UploadInterrupt> {
        (self.sent, self.ended, self.answer_unfinished) = (0, false, false);
        let server = sessions.connection()?;
        prepare(server)?;
        self.answer_unfinished = true;
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
        self.ended = true;
        let (size, bytes_moved, servers) = (self.sent, self.bytes_moved, vec![server.peer()]);
        match answer(server)? {
            Reply::Committed { version, copies, digest: stored, current, .. } => {
                Commit { version, copies, digest: stored, current }.check(digest, false)?;
                Ok(CompletedUpload {
                    version,
                    copies,
                    digest,
                    size,
                    resumed_from: 0,
                    servers,
                    bytes_moved,
                })
            }
            other => Err(UploadInterrupt::unexpected(&other)),
        }
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

    fn recover(
        &self,
        sessions: &mut dyn Sessions,
        stop: UploadInterrupt,
        stats: &mut UploadStats,
    ) -> Result<(), UploadError> {
        if self.progress.interrupted() {
            self.leave(sessions);
            return Err(UploadError::Interrupted);
        }
        let why = match stop {
            UploadInterrupt::Lost(why) => why,
            UploadInterrupt::Refused { refusal, .. }
                if is_passing(refusal.code) || refusal.code == ErrorCode::Behind =>
            {
                refusal.message
            }
            UploadInterrupt::Refused { refusal, clean } => {
                if !clean || !self.ended || self.sent > limits::DISCARD {
                    sessions.abandon();
                }
                return Err(UploadError::Refused(refusal));
            }
            UploadInterrupt::Violation(why) if !self.read_on && stats.violated() => why,
            UploadInterrupt::Violation(why) => {
                sessions.failed(&why);
                return Err(UploadError::BadServer(why));
            }
            UploadInterrupt::Fatal(error) => {
                // The digest must always cover the whole content.
                self.leave(sessions);
                return Err(error);
            }
        };
        debug!("{}: {why}", self.target.path);
        sessions.failed(&why);
        if self.read_on || !stats.lost() {
            return Err(UploadError::Cut { sent: self.sent, size: None, why });
        }
        Ok(())
    }
    /// Drops a connection with an unfinished exchange.
    fn leave(&self, sessions: &mut dyn Sessions) {
        if self.answer_unfinished {
            sessions.abandon();
        }
    }
}
