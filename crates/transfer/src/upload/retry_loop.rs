//! Retry loop of an upload of known length.
//!
//! It asks a server how much it has, sends the rest, and decides after each failure: continue
//! elsewhere, restart or give up.

use std::net::SocketAddr;

use log::debug;
use relais_net::Connection;
use relais_proto::{ErrorCode, Expect, Refusal, Reply, Request};

use super::body::Body;
use super::digest::{Hashing, Reached};
use super::error::{UploadInterrupt, is_passing};
use super::send::{Commit, Sender};
use super::stats::UploadStats;
use super::{CompletedUpload, Progress, UploadError, UploadTarget, exchange};
use crate::download::{Redirects, Sessions};

pub(super) fn run(
    sessions: &mut dyn Sessions,
    body: &Body<'_>,
    target: &UploadTarget<'_>,
    progress: &mut dyn Progress,
) -> Result<CompletedUpload, UploadError> {
    let reached = Reached::default();
    std::thread::scope(|scope| {
        let sender = Sender::new(body, target, progress, Hashing::new(scope, body, &reached));
        let work = LoopState {
            sender,
            stats: UploadStats::default(),
            announced: false,
            opened: false,
            asked: None,
            last: None,
            from_start: false,
            met: Vec::new(),
            full: Vec::new(),
            no_space: None,
        };
        Drive { sessions, work, answer_unfinished: false, redirects: Redirects::new() }.run()
    })
}

struct Drive<'a, 'scope, 'env> {
    sessions: &'a mut dyn Sessions,
    work: LoopState<'a, 'scope, 'env>,
    /// Whether an answer is unfinished, so the connection is unusable for other requests.
    answer_unfinished: bool,
    redirects: Redirects,
}

/// All state except the sessions, so it can change while a connection is borrowed.
struct LoopState<'a, 'scope, 'env> {
    sender: Sender<'a, 'scope, 'env>,
    stats: UploadStats,
    /// Whether the start of this content was reported.
    announced: bool,
    opened: bool,
    /// Last server that was asked.
    asked: Option<SocketAddr>,
    /// Last opened server, and whether its connection was lost since.
    last: Option<(SocketAddr, bool)>,
    /// Whether the bytes on the servers are worthless.
    from_start: bool,
    /// Bytes that each server had at its first answer.
    met: Vec<(SocketAddr, u64)>,
    /// Servers without space, and the message of the last one.
    full: Vec<SocketAddr>,
    no_space: Option<Refusal>,
}

impl Drive<'_, '_, '_> {
    fn run(mut self) -> Result<CompletedUpload, UploadError> {
        loop {
            let result = if self.interrupted() {
                Err(UploadError::Interrupted.into())
            } else {
                self.advance()
            };
            match result {
                Ok(stored) => return Ok(stored),
                Err(stop) => self.recover(stop)?,
            }
        }
    }

    fn interrupted(&self) -> bool {
        self.work.sender.progress.interrupted()
    }

    /// Performs one try with one server.
    fn advance(&mut self) -> Result<CompletedUpload, UploadInterrupt> {
        let work = &mut self.work;
        work.sender.body.check_unchanged()?;
        let server = self.sessions.connection()?;
        if let Some(refusal) = work.no_space.clone().filter(|_| work.full.contains(&server.peer()))
        {
            // All available servers were asked.
            return Err(UploadError::Refused(work.all_full(refusal)).into());
        }
        work.asked = Some(server.peer());
        self.answer_unfinished = true;
        let (target, size) = (work.sender.target, work.sender.body.size());
        let commit = match exchange::ask(
            server,
            &Request::Resume { id: target.id, path: target.path.clone(), size },
        )? {
            Reply::Committed { version, copies, digest, current, .. } => {
                Commit { version, copies, digest, current }
            }
            Reply::Staged { offset, current } if offset <= size => {
                work.go_on(server, offset, current)?
            }
            Reply::Staged { offset, .. } => {
                return Err(UploadInterrupt::Violation(format!(
                    "a server says that it has {offset} bytes of {size}"
                )));
            }
            other => return Err(UploadInterrupt::unexpected(&other)),
        };
        self.answer_unfinished = false;
        work.stored(server.peer(), &commit)
    }

    /// Handles a failure; returns an error if the upload ends.
    fn recover(&mut self, stop: UploadInterrupt) -> Result<(), UploadError> {
        let answer_unfinished = std::mem::take(&mut self.answer_unfinished);
        // A socket that was shut down by an interruption looks like a lost one.
        if self.interrupted() {
            self.leave(answer_unfinished);
            return Err(UploadError::Interrupted);
        }
        match stop {
            UploadInterrupt::Lost(why) => self.move_on(&why),
            UploadInterrupt::Refused { refusal, clean } => self.refused(refusal, clean),
            UploadInterrupt::Violation(why) if self.work.stats.violated() => self.move_on(&why),
            UploadInterrupt::Violation(why) => {
                self.sessions.failed(&why);
                Err(UploadError::BadServer(why))
            }
            UploadInterrupt::Fatal(UploadError::Unreachable(why)) if self.work.last.is_some() => {
                Err(self.work.cut(why))
            }
            UploadInterrupt::Fatal(error) => {
                self.leave(answer_unfinished);
                Err(error)
            }
        }
    }

    /// Drops a connection with an unfinished exchange.
    fn leave(&mut self, answer_unfinished: bool) {
        if answer_unfinished {
            self.sessions.abandon();
        }
    }

    fn refused(&mut self, refusal: Refusal, clean: bool) -> Result<(), UploadError> {
        match refusal.code {
            ErrorCode::Behind => self.behind(refusal),
            ErrorCode::NoSpace => self.full(refusal, clean),
            // An earlier call stored other content under the id.
            ErrorCode::Conflict if self.work.sender.target.is_old => {
                self.leave(!clean);
                Err(UploadError::Superseded)
            }
            ErrorCode::Damaged | ErrorCode::BadOffset => self.begin_again(refusal, clean),
            code if is_passing(code) => self.move_on(&refusal.message),
            code => {
                // The server may close the connection after these errors.
                self.leave(!clean || matches!(code, ErrorCode::BadRequest | ErrorCode::BadName));
                Err(UploadError::Refused(refusal))
            }
        }
    }

    /// Handles a server without space: it is avoided, and another one is asked. Each is asked once.
    fn full(&mut self, refusal: Refusal, clean: bool) -> Result<(), UploadError> {
        self.work.full.extend(self.work.asked);
        if !self.sessions.full(&refusal.message) {
            self.leave(!clean);
            return Err(UploadError::Refused(refusal));
        }
        debug!("{}: {}", self.work.sender.target.path, refusal.message);
        self.work.no_space = Some(refusal);
        if let Some((_, lost)) = &mut self.work.last {
            *lost = true;
        }
        Ok(())
    }

    /// Handles a server that is behind: another one may accept the upload.
    fn behind(&mut self, refusal: Refusal) -> Result<(), UploadError> {
        let progress = &*self.work.sender.progress;
        if self.redirects.behind(self.sessions, &refusal.message, &|| progress.interrupted()) {
            return Ok(());
        }
        Err(if self.work.last.is_some() {
            self.work.cut(refusal.message)
        } else {
            UploadError::Refused(refusal)
        })
    }

    /// Handles a server whose bytes are not the beginning of this content.
    ///
    /// The file may have been another one in an earlier call.
    fn begin_again(&mut self, refusal: Refusal, clean: bool) -> Result<(), UploadError> {
        let Some(times) = self.work.stats.restarted() else {
            self.leave(!clean);
            return Err(UploadError::Refused(refusal));
        };
        // The first time may be due to the earlier bytes. A second time is due to the server or the
        // network.
        if times > 1 {
            self.sessions.failed(&refusal.message);
        } else {
            self.leave(!clean);
        }
        self.work.begin_again(&refusal.message);
        Ok(())
    }

    /// Drops the connection; the next try is with another server.
    fn move_on(&mut self, why: &str) -> Result<(), UploadError> {
        debug!("{}: {why}", self.work.sender.target.path);
        self.sessions.failed(why);
        if let Some((_, lost)) = &mut self.work.last {
            *lost = true;
        }
        if self.work.stats.lost() { Ok(()) } else { Err(self.work.cut(why.to_owned())) }
    }
}

impl LoopState<'_, '_, '_> {
    /// Sends the bytes that the server does not have.
    fn go_on(
        &mut self,
        server: &mut Connection,
        offset: u64,
        current: Expect,
    ) -> Result<Commit, UploadInterrupt> {
        let offset = if self.from_start { 0 } else { offset };
        self.tell(server.peer(), offset, current);
        let result = self.sender.send(server, offset);
        if self.sender.asked {
            self.from_start = false;
        }
        result
    }

    /// Reports new facts to the caller.
    fn tell(&mut self, server: SocketAddr, offset: u64, current: Expect) {
        self.stats.has(offset);
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
        if let Some((before, true)) = self.last {
            progress.moved(before, server, offset);
        }
        self.last = Some((server, false));
    }

    /// Returns the refusal if no server has space.
    fn all_full(&self, refusal: Refusal) -> Refusal {
        let message = format!("{}; no other slave in service has room", refusal.message);
        Refusal { message, ..refusal }
    }

    fn begin_again(&mut self, why: &str) {
        self.met.clear();
        (self.announced, self.from_start) = (false, true);
        self.sender.hashing.forget();
        self.sender.progress.restarted(why);
    }

    fn cut(&self, why: String) -> UploadError {
        UploadError::Cut { sent: self.sender.sent, size: Some(self.sender.body.size()), why }
    }

    fn stored(
        &mut self,
        by: SocketAddr,
        commit: &Commit,
    ) -> Result<CompletedUpload, UploadInterrupt> {
        let is_old = self.sender.target.is_old;
        if is_old && !commit.current {
            return Err(UploadError::Superseded.into());
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
        Ok(CompletedUpload {
            version: commit.version,
            copies: commit.copies,
            digest,
            size,
            resumed_from,
            servers,
            bytes_moved: self.sender.bytes_moved,
        })
    }
}
