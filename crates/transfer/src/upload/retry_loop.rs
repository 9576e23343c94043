//! The loop of an upload of known length: asks a server how much it has, and sends the rest.
//!
//! The failover policy decides what follows a failed try.

use std::io::Read;
use std::net::SocketAddr;

use relais_net::Connection;
use relais_proto::{ErrorCode, Expect, Reply, Request};

use super::body::Body;
use super::content::{CompletedUpload, UploadSource, UploadTarget};
use super::digest::UploadDigest;
use super::send::Sender;
use crate::action::{Action, Purpose};
use crate::error::{Fault, TransferError, other_content};
use crate::exchange::{ask, report_failover};
use crate::failover::{Failover, Try};
use crate::progress::Progress;
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
    put_body(sessions, &Body::of_file(source)?, None, target, progress)
}

/// As [`put`], for `body` and the `rest` of a stream that follows it.
pub(super) fn put_body<'a>(
    sessions: &mut dyn Sessions,
    body: &Body<'_>,
    rest: Option<&'a mut dyn Read>,
    target: &'a UploadTarget<'a>,
    progress: &'a mut dyn Progress,
) -> Result<CompletedUpload, TransferError> {
    std::thread::scope(|scope| {
        let mut upload = UploadLoop {
            sender: Sender {
                body,
                rest,
                has_read_on: false,
                target,
                progress,
                hashing: UploadDigest::new(scope, body),
                sent: 0,
                bytes_moved: 0,
                servers: Vec::new(),
                asked: false,
                unfinished: false,
            },
            failover: Failover::new(sessions.retry()),
            best: 0,
            gained: 0,
            announced: false,
            opened: false,
            server: None,
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
        self.sender.unfinished = true;
        let reply = if self.sender.rest.is_some() {
            self.met.push((server.peer(), 0));
            self.sender.progress.started(0, 0);
            self.sender.send(server, 0)?
        } else {
            self.resume(server)?
        };
        self.stored(server.peer(), &reply)
    }

    /// Asks the server how much it has, and sends the rest.
    fn resume(&mut self, server: &mut Connection) -> Result<Reply, Fault> {
        let (target, size) = (self.sender.target, self.sender.body.size());
        let resume = Request::Resume { id: target.id, path: target.path.clone(), size };
        let reply = ask(server, &resume)
            .inspect_err(|fault| self.sender.unfinished = !fault.is_answer())?;
        match reply {
            Reply::Staged { offset, current } if offset <= size => {
                let offset = if self.from_start { 0 } else { offset };
                self.tell(server, offset, current)?;
                let result = self.sender.send(server, offset);
                self.from_start &= !self.sender.asked;
                result
            }
            Reply::Staged { offset, .. } => Err(Fault::bad_value("offset", offset)),
            reply => Ok(reply),
        }
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
            unfinished: std::mem::take(&mut self.sender.unfinished),
            repeatable: !self.sender.has_read_on,
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
    fn tell(
        &mut self,
        connection: &mut Connection,
        offset: u64,
        current: Expect,
    ) -> Result<(), Fault> {
        let server = connection.peer();
        self.gained += offset.saturating_sub(self.best);
        self.best = self.best.max(offset);
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
            report_failover(connection, before)?;
        }
        Ok(())
    }

    /// Compares the stored content with the sent one, and makes the result.
    fn stored(&mut self, by: SocketAddr, reply: &Reply) -> Result<CompletedUpload, Fault> {
        let Reply::Committed { version, copies, digest: stored, current, .. } = *reply else {
            return Err(Fault::unexpected(reply));
        };
        self.sender.unfinished = false;
        let Sender { body, hashing, target, bytes_moved, .. } = &self.sender;
        let (is_old, late, bytes_moved) = (target.is_old, hashing.known().is_none(), *bytes_moved);
        let size = body.size().max(self.sender.sent);
        if is_old && !current {
            return Err(TransferError::Superseded.into());
        }
        let digest = self.sender.digest()?;
        if late {
            self.sender.body.check_unchanged()?;
        }
        match stored {
            Some(stored) if stored == digest => {}
            _ if is_old => return Err(TransferError::Superseded.into()),
            Some(stored) => {
                return Err(TransferError::Refused(other_content(stored, digest)).into());
            }
            // The digest of a change that has left its path may be unknown.
            None if !current => {}
            None => return Err(Fault::Violation("an acknowledgement has no digest".to_owned())),
        }
        let mut servers = std::mem::take(&mut self.sender.servers);
        if !servers.contains(&by) {
            servers.push(by);
        }
        // A server that was never asked got the content from another one, or in an earlier call.
        let met = self.met.iter().find(|(met, _)| *met == by).or(self.met.last());
        let resumed_from = met.map_or(size, |(_, offset)| *offset);
        Ok(CompletedUpload { version, copies, digest, size, resumed_from, servers, bytes_moved })
    }
}
