//! Sends one upload to one server, from `Put` to its answer.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relais_net::Connection;
use relais_proto::{Digest, Reply, Request, limits};

use super::body::Body;
use super::content::UploadTarget;
use super::digest::UploadDigest;
use super::outgoing::{FRAME, LOOK_EVERY, flush, listen, queue_bytes, send_from_file};
use crate::error::{Fault, TransferError};
use crate::exchange::{answer, ask};
use crate::progress::Progress;

/// Highest lead of the sender over the digest.
///
/// The remaining bytes are hashed in well under the time in which a server expects bytes.
const LEAD: u64 = 256 * 1024 * 1024;
/// Bytes of a stream that are kept in memory: those before the first request, and those of one
/// step.
pub(super) const STREAM_BUFFER: usize = 1024 * 1024;
/// Round trip from which the send buffer limits an upload.
const LONG_LINE: Duration = Duration::from_millis(5);
/// Interval of checks for an interruption while waiting for the digest.
const INTERRUPT_CHECK: Duration = Duration::from_millis(100);
/// Interval of keep-alives on a session that waits for the digest.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Reads available bytes of a stream, at most one buffer; returns 0 at the end.
pub(super) fn read_some(
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
            other => return other.map_err(TransferError::local("reading")),
        }
    }
}

pub(super) struct Sender<'a, 'scope, 'env> {
    pub body: &'env Body<'env>,
    /// Rest of a stream, which follows the body. Its length is not known.
    pub rest: Option<&'a mut dyn Read>,
    /// Whether some of the rest was read, so that no other try is possible.
    pub has_read_on: bool,
    pub target: &'a UploadTarget<'a>,
    pub progress: &'a mut dyn Progress,
    pub hashing: UploadDigest<'scope, 'env>,
    /// Offset of the last sent byte.
    pub sent: u64,
    pub bytes_moved: u64,
    /// Servers that received bytes, in the order of their first byte.
    pub servers: Vec<SocketAddr>,
    /// Whether `Put` was sent in the last try.
    pub asked: bool,
    /// Whether an answer is unfinished, so the connection is unusable for other requests.
    pub unfinished: bool,
}

impl<'env> Sender<'_, '_, 'env> {
    /// Sends the bytes after `offset`; returns the server's answer.
    pub(super) fn send(&mut self, server: &mut Connection, offset: u64) -> Result<Reply, Fault> {
        (self.asked, self.sent) = (false, offset);
        server.stream().set_write_timeout(Some(LOOK_EVERY))?;
        match self.body.large_file() {
            Some(file) => self.send_large(server, file, offset)?,
            None => self.send_small(server, offset)?,
        }
        // The server closes the connection instead of dropping more bytes after a refusal.
        let dropped = self.sent - offset;
        answer(server).inspect_err(|fault| {
            self.unfinished = !fault.is_answer() || dropped > limits::DISCARD;
        })
    }

    /// Sends content that fits into memory, or the beginning of a stream and then its rest.
    fn send_small(&mut self, server: &mut Connection, offset: u64) -> Result<(), Fault> {
        let (first, mut buffer) = (self.body.small()?, Vec::new());
        self.body.check_unchanged()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&first);
        self.open(server, offset);
        let begin = usize::try_from(offset).ok();
        let mut chunk = begin.and_then(|at| first.get(at..)).unwrap_or_default();
        queue_bytes(server, chunk);
        while self.rest.is_some() && !chunk.is_empty() {
            flush(server)?;
            self.moved(server.peer(), chunk.len() as u64);
            let Some(rest) = &mut self.rest else { break };
            buffer.resize(STREAM_BUFFER, 0);
            let got = read_some(*rest, &mut buffer, self.progress)?;
            self.has_read_on |= got > 0;
            chunk = &buffer[..got];
            hasher.update(chunk);
            listen(server)?;
            queue_bytes(server, chunk);
        }
        // A small file, its request and its end are sent together.
        let digest = self.hashing.set(hasher.finalize());
        server.queue(&Request::PutEnd { digest });
        flush(server)?;
        if !chunk.is_empty() {
            self.moved(server.peer(), chunk.len() as u64);
        }
        Ok(())
    }

    fn send_large(
        &mut self,
        server: &mut Connection,
        file: &'env File,
        offset: u64,
    ) -> Result<(), Fault> {
        self.hashing.begin(file)?;
        if server.round_trip() >= LONG_LINE {
            server.stream().enlarge_send_buffer()?;
        }
        self.keep_within_reach(server, offset)?;
        self.open(server, offset);
        let (mut at, size) = (offset, self.body.size());
        while at < size {
            self.keep_within_reach(server, at)?;
            listen(server)?;
            if self.progress.interrupted() {
                return Err(TransferError::Interrupted.into());
            }
            let len = u32::try_from(size - at).map_or(FRAME, |rest| rest.min(FRAME));
            send_from_file(server, file, at, len)?;
            at += u64::from(len);
            self.moved(server.peer(), len.into());
        }
        let digest = self.digest()?;
        self.body.check_unchanged()?;
        server.queue(&Request::PutEnd { digest });
        flush(server)
    }

    fn open(&mut self, server: &mut Connection, offset: u64) {
        let size = self.rest.is_none().then_some(self.body.size());
        server.queue(&Request::Put(self.body.opening(self.target, offset, size)));
        self.asked = true;
    }

    fn moved(&mut self, to: SocketAddr, bytes: u64) {
        self.sent += bytes;
        self.bytes_moved += bytes;
        if !self.servers.contains(&to) {
            self.servers.push(to);
        }
        self.progress.advanced(self.sent);
    }

    /// Waits if the digest is far behind `at`.
    ///
    /// Before `Put` it sends keep-alives meanwhile. After it the wait is short, because the digest
    /// was close.
    fn keep_within_reach(&mut self, server: &mut Connection, at: u64) -> Result<(), Fault> {
        let mut shown = Instant::now();
        while !self.hashing.wait(at.saturating_sub(LEAD), INTERRUPT_CHECK)? {
            if self.progress.interrupted() {
                return Err(TransferError::Interrupted.into());
            }
            if !self.asked && shown.elapsed() >= PING_EVERY {
                match ask(server, &Request::Ping)? {
                    Reply::Pong => shown = Instant::now(),
                    other => return Err(Fault::unexpected(&other)),
                }
            }
        }
        Ok(())
    }

    /// Returns the digest of the whole content; computes it now if necessary.
    pub(super) fn digest(&mut self) -> Result<Digest, Fault> {
        loop {
            if let Some(digest) = self.hashing.known() {
                return Ok(digest);
            }
            let Some(file) = self.body.large_file() else {
                return Ok(self.hashing.set(blake3::hash(&self.body.small()?)));
            };
            self.hashing.begin(file)?;
            self.hashing.wait(u64::MAX, INTERRUPT_CHECK)?;
            if self.progress.interrupted() {
                return Err(TransferError::Interrupted.into());
            }
        }
    }
}
