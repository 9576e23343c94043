//! The loop of an upload of known length: ask what a server has, send the rest, and decide after each failure
//! whether to go on elsewhere, to begin again or to give up.

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
        let work = Work {
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
        Drive { sessions, work, midway: false, redirects: Redirects::new() }.run()
    })
}

struct Drive<'a, 'scope, 'env> {
    sessions: &'a mut dyn Sessions,
    work: Work<'a, 'scope, 'env>,
    /// Whether an answer is under way, so that the connection is of no use to anybody else.
    midway: bool,
    redirects: Redirects,
}

/// Everything but the sessions, so that it can change while a connection is lent out.
struct Work<'a, 'scope, 'env> {
    sender: Sender<'a, 'scope, 'env>,
    stats: UploadStats,
    /// Whether the caller was told that this content goes out.
    announced: bool,
    opened: bool,
    /// The server that was asked last.
    asked: Option<SocketAddr>,
    /// The server that was opened last, and whether the connection to it was lost since.
    last: Option<(SocketAddr, bool)>,
    /// Whether what the servers have is worth nothing.
    from_start: bool,
    /// How much each server had when it was met first.
    met: Vec<(SocketAddr, u64)>,
    /// Servers that have no room, and what the last of them said.
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

    /// One try with one server.
    fn advance(&mut self) -> Result<CompletedUpload, UploadInterrupt> {
        let work = &mut self.work;
        work.sender.body.check_unchanged()?;
        let server = self.sessions.connection()?;
        if let Some(refusal) = work.no_space.clone().filter(|_| work.full.contains(&server.peer()))
        {
            // All that can be asked were asked.
            return Err(UploadError::Refused(work.all_full(refusal)).into());
        }
        work.asked = Some(server.peer());
        self.midway = true;
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
        self.midway = false;
        work.stored(server.peer(), &commit)
    }

    /// What follows from a failure: an error where the upload ends.
    fn recover(&mut self, stop: UploadInterrupt) -> Result<(), UploadError> {
        let midway = std::mem::take(&mut self.midway);
        // A socket that was shut down to end the upload looks like a lost one.
        if self.interrupted() {
            self.leave(midway);
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
                self.leave(midway);
                Err(error)
            }
        }
    }

    /// Gives up a connection that is in the middle of something.
    fn leave(&mut self, midway: bool) {
        if midway {
            self.sessions.abandon();
        }
    }

    fn refused(&mut self, refusal: Refusal, clean: bool) -> Result<(), UploadError> {
        match refusal.code {
            ErrorCode::Behind => self.behind(refusal),
            ErrorCode::NoSpace => self.full(refusal, clean),
            // Other content was put under the id by an earlier call.
            ErrorCode::Conflict if self.work.sender.target.is_old => {
                self.leave(!clean);
                Err(UploadError::Superseded)
            }
            ErrorCode::Damaged | ErrorCode::BadOffset => self.begin_again(refusal, clean),
            code if is_passing(code) => self.move_on(&refusal.message),
            code => {
                // After these the server may close.
                self.leave(!clean || matches!(code, ErrorCode::BadRequest | ErrorCode::BadName));
                Err(UploadError::Refused(refusal))
            }
        }
    }

    /// The server has no room: it is left out as one that failed, and another one may take it. Each is asked once.
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

    /// The server lacks what was seen before: another one may take it.
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

    /// What the server has is not the beginning of this content: perhaps because the file was another one in an earlier call.
    fn begin_again(&mut self, refusal: Refusal, clean: bool) -> Result<(), UploadError> {
        let Some(times) = self.work.stats.restarted() else {
            self.leave(!clean);
            return Err(UploadError::Refused(refusal));
        };
        // Once it may be the bytes that were there. Twice it is the server, or the way there.
        if times > 1 {
            self.sessions.failed(&refusal.message);
        } else {
            self.leave(!clean);
        }
        self.work.begin_again(&refusal.message);
        Ok(())
    }

    /// Gives the connection up; the next try is with another server.
    fn move_on(&mut self, why: &str) -> Result<(), UploadError> {
        debug!("{}: {why}", self.work.sender.target.path);
        self.sessions.failed(why);
        if let Some((_, lost)) = &mut self.work.last {
            *lost = true;
        }
        if self.work.stats.lost() { Ok(()) } else { Err(self.work.cut(why.to_owned())) }
    }
}

impl Work<'_, '_, '_> {
    /// Sends what the server does not have.
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

    /// Tells the caller what is news.
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

    /// What the user is told where no server has room.
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
        // A server that was never met got it from another, or in an earlier call.
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
