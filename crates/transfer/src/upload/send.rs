//! Sends one upload to one server, from `Put` to its answer.

use std::fs::File;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relais_net::Connection;
use relais_proto::{Digest, Lsn, Reply, Request, limits};

use super::body::Body;
use super::content::{CompletedUpload, Progress, UploadTarget};
use super::digest::Hashing;
use super::outgoing::{FRAME, flush, listen, prepare, queue_bytes, send_from_file};
use crate::error::{Fault, TransferError, other_content};
use crate::exchange::{answer, ask};

/// Highest lead of the sender over the digest.
///
/// The remaining bytes are hashed in well under the time in which a server expects bytes.
const LEAD: u64 = 256 * 1024 * 1024;
/// Interval of checks for an interruption while waiting for the digest.
const INTERRUPT_CHECK: Duration = Duration::from_millis(100);
/// Interval of keep-alives on a session that waits for the digest.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Content that a server has stored, according to its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    pub version: Lsn,
    pub copies: u16,
    pub digest: Option<Digest>,
    pub current: bool,
}

impl Commit {
    /// Takes the answer to an upload.
    pub(super) fn of(reply: Reply) -> Result<Self, Fault> {
        match reply {
            Reply::Committed { version, copies, digest, current, .. } => {
                Ok(Self { version, copies, digest, current })
            }
            other => Err(Fault::unexpected(&other)),
        }
    }

    /// Makes the result of an upload.
    pub(super) fn completed(
        &self,
        digest: Digest,
        size: u64,
        resumed_from: u64,
        servers: Vec<SocketAddr>,
        bytes_moved: u64,
    ) -> CompletedUpload {
        let Self { version, copies, .. } = *self;
        CompletedUpload { version, copies, digest, size, resumed_from, servers, bytes_moved }
    }

    /// Compares the stored content with the sent one. `is_old`: the id may belong to an earlier
    /// put.
    pub(super) fn check(&self, sent: Digest, is_old: bool) -> Result<(), Fault> {
        if is_old && (!self.current || self.digest != Some(sent)) {
            return Err(TransferError::Superseded.into());
        }
        match self.digest {
            Some(stored) if stored != sent => {
                Err(TransferError::Refused(other_content(stored, sent)).into())
            }
            // The digest of a change that has left its path may be unknown; that of a new change is
            // not.
            None if self.current => {
                Err(Fault::Violation("an acknowledgement has no digest".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

pub(super) struct Sender<'a, 'scope, 'env> {
    pub body: &'env Body<'env>,
    pub target: &'a UploadTarget<'a>,
    pub progress: &'a mut dyn Progress,
    pub hashing: Hashing<'scope, 'env>,
    /// Offset of the last sent byte.
    pub sent: u64,
    pub bytes_moved: u64,
    /// Servers that received bytes, in the order of their first byte.
    pub servers: Vec<SocketAddr>,
    /// Whether `Put` was sent in the last try.
    pub asked: bool,
}

impl<'a, 'scope, 'env> Sender<'a, 'scope, 'env> {
    pub(super) fn new(
        body: &'env Body<'env>,
        target: &'a UploadTarget<'a>,
        progress: &'a mut dyn Progress,
        hashing: Hashing<'scope, 'env>,
    ) -> Self {
        Self {
            body,
            target,
            progress,
            hashing,
            sent: 0,
            bytes_moved: 0,
            servers: Vec::new(),
            asked: false,
        }
    }

    /// Sends the bytes after `offset`; returns the server's answer.
    ///
    /// If that is an error, `unfinished` becomes whether the connection is unusable after it.
    pub(super) fn send(
        &mut self,
        server: &mut Connection,
        offset: u64,
        unfinished: &mut bool,
    ) -> Result<Commit, Fault> {
        self.asked = false;
        prepare(server)?;
        match self.body.large_file() {
            Some(file) => self.send_large(server, file, offset)?,
            None => self.send_small(server, offset)?,
        }
        // The server closes the connection instead of dropping more bytes after a refusal.
        let dropped = self.body.size() - offset;
        Commit::of(answer(server).inspect_err(|fault| {
            *unfinished = !fault.is_answer() || dropped > limits::DISCARD;
        })?)
    }

    /// Sends all bytes at once: they are read, hashed and queued first.
    fn send_small(&mut self, server: &mut Connection, offset: u64) -> Result<(), Fault> {
        let Some(bytes) = self.body.small()? else {
            return Err(TransferError::SourceChanged.into());
        };
        let digest = self.hashing.take(&bytes);
        self.body.check_unchanged()?;
        self.open(server, offset);
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        queue_bytes(server, rest);
        server.queue(&Request::PutEnd { digest });
        flush(server)?;
        if !rest.is_empty() {
            self.moved(server.peer(), rest.len() as u64);
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
        server.queue(&Request::Put(self.body.opening(self.target, offset)));
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
                let Some(bytes) = self.body.small()? else {
                    return Err(TransferError::SourceChanged.into());
                };
                return Ok(self.hashing.take(&bytes));
            };
            self.hashing.begin(file)?;
            self.hashing.wait(u64::MAX, INTERRUPT_CHECK)?;
            if self.progress.interrupted() {
                return Err(TransferError::Interrupted.into());
            }
        }
    }
}
