//! The loop of an upload of known length: asks a server how much it has, and sends the rest.
//!
//! The failover policy decides what follows a failed try.

use std::net::SocketAddr;

use relais_proto::{ErrorCode, Expect, Reply, Request};

use super::body::Body;
use super::content::{CompletedUpload, Progress, UploadSource, UploadTarget};
use super::digest::{Hashing, Reached};
use super::send::{Commit, Sender};
use crate::action::{Action, Purpose};
use crate::error::{Fault, TransferError};
use crate::exchange::ask;
use crate::failover::{Failover, Try};
use crate::sessions::Sessions;

/// Uploads a file with resume and failover.
///
/// It asks each server how much it has and continues from there, restarts at another server if
/// necessary, and repeats the request by its id if the answer was lost.
///
/// # Errors
/// See [`TransferError`]; [`TransferError::can_resume_upload`] returns whether a later call with
/// the same id can resume.
pub fn put(
    sessions: &mut dyn Sessions,
    source: &UploadSource<'_>,
    target: &UploadTarget<'_>,
    progress: &mut dyn Progress,
) -> Result<CompletedUpload, TransferError> {
    put_body(sessions, &Body::of_file(source)?, target, progress)
}

/// As [`put`], for a content from a file or from memory.
pub(super) fn put_body(
    sessions: &mut dyn Sessions,
    body: &Body<'_>,
    target: &UploadTarget<'_>,
    progress: &mut dyn Progress,
) -> Result<CompletedUpload, TransferError> {
    let reached = Reached::default();
    std::thread::scope(|scope| {
        let sender = Sender::new(body, target, progress, Hashing::new(scope, body, &reached));
        let mut upload = UploadLoop {
            sender,
            failover: Failover::new(sessions.retry()),
            best: 0,
            gained: 0,
            announced: false,
            opened: false,
            server: None,
            unfinished: false,
            from_start: false,
            met: Vec::new(),
        };
        loop {
            let result = if upload.sender.progress.interrupted() {
                Err(TransferError::Interrupted.into())
            } else {
                upload.advance(sessions)
            };
            match result {
                Ok(stored) => return Ok(stored),
                Err(fault) => upload.recover(sessions, fault)?,
            }
        }
    })
}

struct UploadLoop<'a, 'scope, 'env> {
    sender: Sender<'a, 'scope, 'env>,
    failover: Failover,
    /// Highest number of bytes that a server has reported, and its growth since the last failure.
    ///
    /// Sent bytes prove nothing, because a server can accept them repeatedly.
    best: u64,
    gained: u64,
    /// Whether the start of this content was reported.
    announced: bool,
    opened: bool,
    /// Server of the current try.
    server: Option<SocketAddr>,
    /// Whether an answer is unfinished, so the connection is unusable for other requests.
    unfinished: bool,
    /// Whether the bytes on the servers are worthless.
    from_start: bool,
    /// Bytes that each server had at its first answer.
    met: Vec<(SocketAddr, u64)>,
}

impl UploadLoop<'_, '_, '_> {
    /// Performs one try with one server.
    fn advance(&mut self, sessions: &mut dyn Sessions) -> Result<CompletedUpload, Fault> {
        self.server = None;
        self.sender.body.check_unchanged()?;
        let server = sessions.connection()?;
        self.server = Some(server.peer());
        self.unfinished = true;
        let (target, size) = (self.sender.target, self.sender.body.size());
        let resume = Request::Resume { id: target.id, path: target.path.clone(), size };
        let reply =
            ask(server, &resume).inspect_err(|fault| self.unfinished = !fault.is_answer())?;
        let commit = match reply {
            Reply::Staged { offset, current } if offset <= size => {
                let offset = if self.from_start { 0 } else { offset };
                self.tell(server.peer(), offset, current);
                let result = self.sender.send(server, offset, &mut self.unfinished);
                self.from_start &= !self.sender.asked;
                result?
            }
            Reply::Staged { offset, .. } => return Err(Fault::bad_value("offset", offset)),
            reply => Commit::of(reply)?,
        };
        self.unfinished = false;
        self.stored(server.peer(), &commit)
    }

    /// Handles a failure; returns an error if the upload ends.
    fn recover(&mut self, sessions: &mut dyn Sessions, fault: Fault) -> Result<(), TransferError> {
        self.failover.gained(std::mem::take(&mut self.gained));
        let fault = match fault {
            // An earlier call stored other content under the id.
            Fault::Refused(refusal)
                if refusal.code == ErrorCode::Conflict && self.sender.target.is_old =>
            {
                TransferError::Superseded.into()
            }
            fault => fault,
        };
        let why = fault.to_string();
        let progress = &mut *self.sender.progress;
        let tried = Try {
            purpose: Purpose::Change,
            server: self.server,
            unfinished: std::mem::take(&mut self.unfinished),
            repeatable: true,
            interrupted: &|| progress.interrupted(),
        };
        if self.failover.recover(sessions, fault, &tried)? == Action::Restart {
            (self.best, self.announced, self.from_start) = (0, false, true);
            self.met.clear();
            self.sender.hashing.forget();
            self.sender.progress.restarted(&why);
        }
        Ok(())
    }

    /// Reports new facts to the caller.
    fn tell(&mut self, server: SocketAddr, offset: u64, current: Expect) {
        self.gained += offset.saturating_sub(self.best);
        self.best = self.best.max(offset);
        self.sender.sent = offset;
        if !self.met.iter().any(|(met, _)| *met == server) {
            self.met.push((server, offset));
        }
        let progress = &mut *self.sender.progress;
        if !std::mem::replace(&mut self.opened, true) {
            progress.opened(current, server);
        }
        if !std::mem::replace(&mut self.announced, true) {
            progress.started(self.sender.body.size(), offset);
        }
        if let Some(before) = self.failover.served_by(server) {
            progress.moved(before, server, offset);
        }
    }

    fn stored(&mut self, by: SocketAddr, commit: &Commit) -> Result<CompletedUpload, Fault> {
        let is_old = self.sender.target.is_old;
        if is_old && !commit.current {
            return Err(TransferError::Superseded.into());
        }
        let late = self.sender.hashing.known().is_none();
        let digest = self.sender.digest()?;
        if late {
            self.sender.body.check_unchanged()?;
        }
        commit.check(digest, is_old)?;
        let size = self.sender.body.size();
        let mut servers = std::mem::take(&mut self.sender.servers);
        if !servers.contains(&by) {
            servers.push(by);
        }
        // A server that was never asked got the content from another one, or in an earlier call.
        let met = self.met.iter().find(|(met, _)| *met == by).or(self.met.last());
        let resumed_from = met.map_or(size, |(_, offset)| *offset);
        Ok(commit.completed(digest, size, resumed_from, servers, self.sender.bytes_moved))
    }
}
