//! The loop of a download: requests the missing bytes, and verifies them after the last one.
//!
//! The failover policy decides what follows a failed request.

use std::fs::File;
use std::net::SocketAddr;

use relais_net::Connection;
use relais_proto::{ContentHeader, Digest, ErrorCode, GetRequest, IfMatch, Mode, TreePath, limits};

use super::content::CompletedDownload;
use super::hashing::Hashing;
use super::state::DownloadState;
use super::verify::verify;
use super::{intake, requests};
use crate::action::{Action, Purpose};
use crate::error::{Fault, TransferError};
use crate::exchange::report_failover;
use crate::failover::{Failover, Try};
use crate::progress::{Progress, Resume};
use crate::sessions::Sessions;

/// Size in bytes from which a download is recorded at its start.
///
/// Fetching a smaller content again is faster than recording it.
const NOTED_FROM: u64 = 4 * limits::PIECE;

/// Downloads the content of `path` into `part`, which is open for reading and writing.
///
/// With `resume` it continues from there; without it, the bytes in `part` are dropped. The part
/// file is not synced at the end, and keeps its name.
///
/// # Errors
/// See [`TransferError`]. If the download can be resumed, [`Progress::checkpoint`] has received the
/// state.
pub fn download(
    sessions: &mut dyn Sessions,
    path: &TreePath,
    part: &File,
    resume: Option<Resume>,
    progress: &mut dyn Progress,
) -> Result<CompletedDownload, TransferError> {
    let state = DownloadState::new(part, resume, progress)?;
    let result = std::thread::scope(|scope| {
        let download = DownloadLoop {
            path,
            state: &state,
            hashing: Hashing::new(scope, &state),
            failover: Failover::new(sessions.retry()),
            // Only the owner may read the file until a header sets the mode.
            mode: Mode::new(0o600),
            announced: false,
            must_identify: false,
            unfinished: false,
            in_content: false,
            accepted: false,
            server: None,
            bytes_moved: 0,
            moved_before: 0,
            resumed_from: 0,
            servers: Vec::new(),
            restarted: false,
            rounds: 0,
        };
        download.run(sessions)
    });
    if result.as_ref().is_err_and(TransferError::can_resume_download) {
        state.save();
    }
    result
}

struct DownloadLoop<'scope, 'env> {
    path: &'env TreePath,
    state: &'env DownloadState<'env>,
    hashing: Hashing<'scope, 'env>,
    failover: Failover,
    mode: Mode,
    /// Whether the start of this content was reported.
    announced: bool,
    /// Whether the server may have the content although it does not know it by its identity.
    must_identify: bool,
    /// Whether an answer is unfinished, so the connection is unusable for other requests.
    unfinished: bool,
    /// Whether blocks of another content than expected follow.
    in_content: bool,
    /// Whether the current request was answered with the expected content.
    accepted: bool,
    /// Server of the current request.
    server: Option<SocketAddr>,
    bytes_moved: u64,
    /// Value of `bytes_moved` at the last failure.
    moved_before: u64,
    resumed_from: u64,
    servers: Vec<SocketAddr>,
    restarted: bool,
    /// Repair rounds with the current server.
    rounds: u32,
}

impl DownloadLoop<'_, '_> {
    fn run(mut self, sessions: &mut dyn Sessions) -> Result<CompletedDownload, TransferError> {
        loop {
            let result = if self.state.interrupted() {
                Err(TransferError::Interrupted.into())
            } else {
                self.advance(sessions)
            };
            match result {
                Ok(Some(completed)) => return Ok(completed),
                Ok(None) => {}
                Err(fault) => self.recover(sessions, fault)?,
            }
        }
    }

    /// Performs one request for content, and the verification after the last one.
    ///
    /// Returns `None` if more requests are necessary.
    fn advance(&mut self, sessions: &mut dyn Sessions) -> Result<Option<CompletedDownload>, Fault> {
        (self.server, self.accepted) = (None, false);
        let server = sessions.connection()?;
        self.server = Some(server.peer());
        self.unfinished = true;
        if self.must_identify {
            if let Some(mut content) = self.state.content() {
                requests::identify(server, self.path, &mut content)?;
                self.state.know(content)?;
            }
            self.must_identify = false;
        }
        let header = requests::ask_for_content(server, &self.next_request())?;
        self.accept(&header, server)?;
        self.accepted = true;
        let digest = self.take_in(server, &header)?;
        let known = self.state.with(|content| *content.digest.get_or_insert(digest));
        if known != Some(digest) {
            return Err(Fault::bad_value("digest at the end", 0));
        }
        let (hashing, rounds) = (&mut self.hashing, &mut self.rounds);
        let is_whole = self.state.first_gap().is_none()
            && verify(server, self.path, digest, self.state, hashing, rounds)?;
        self.unfinished = false;
        Ok(if is_whole { self.completed(digest) } else { None })
    }

    /// Receives the content after `header`; returns its digest.
    fn take_in(&mut self, from: &mut Connection, header: &ContentHeader) -> Result<Digest, Fault> {
        let before = self.bytes_moved;
        let (hashing, moved) = (&mut self.hashing, &mut self.bytes_moved);
        let result = intake::take_in(from, header, self.state, hashing, moved);
        if self.bytes_moved > before {
            self.failover.arrived();
            if !self.servers.contains(&from.peer()) {
                self.servers.push(from.peer());
            }
        }
        result
    }

    /// Handles a failure; returns an error if the download ends.
    fn recover(&mut self, sessions: &mut dyn Sessions, fault: Fault) -> Result<(), TransferError> {
        let in_content = std::mem::take(&mut self.in_content);
        let mut unfinished = std::mem::take(&mut self.unfinished);
        let wanted = requests::if_match(self.state.content().as_ref());
        if let Fault::Refused(refusal) = &fault {
            unfinished = in_content;
            if refusal.code == ErrorCode::Changed
                && !self.must_identify
                && matches!(wanted, IfMatch::Identity(_))
            {
                // The copy may be the same although this server knows it by another identity.
                self.must_identify = true;
                return Ok(());
            }
        }
        let gained = self.bytes_moved - std::mem::replace(&mut self.moved_before, self.bytes_moved);
        self.failover.gained(gained);
        let (why, state) = (fault.to_string(), self.state);
        let tried = Try {
            purpose: Purpose::Read,
            server: self.server,
            unfinished: unfinished && !matches!(fault, Fault::Elsewhere(_)),
            repeatable: true,
            interrupted: &|| state.interrupted(),
        };
        match self.failover.recover(sessions, fault, &tried)? {
            // The file changed during the transfer, perhaps only its mode or link count. A request
            // by its digest shows whether the content is the same.
            Action::Restart if !(self.accepted && matches!(wanted, IfMatch::Digest(_))) => {
                self.restart(&why)?
            }
            Action::Failover | Action::Elsewhere => self.rounds = 0,
            _ => {}
        }
        Ok(())
    }

    /// Returns the request for the first missing bytes.
    ///
    /// If no bytes are missing, it requests zero bytes at the end. The answer shows whether the
    /// content is the same, and its digest.
    fn next_request(&self) -> GetRequest {
        let content = self.state.content();
        let if_match = requests::if_match(content.as_ref());
        let (offset, length) = match &content {
            None => (0, u64::MAX),
            Some(content) => match content.good.first_gap(content.size) {
                Some(gap) if gap.end < content.size => (gap.start, gap.end - gap.start),
                Some(gap) => (gap.start, u64::MAX),
                None => (content.size, u64::MAX),
            },
        };
        GetRequest { path: self.path.clone(), offset, length, if_match }
    }

    /// Handles a header, and reports new facts.
    fn accept(&mut self, header: &ContentHeader, from: &mut Connection) -> Result<(), Fault> {
        let known = self.state.content();
        let is_new = known.is_none();
        // Blocks follow the header.
        self.in_content = true;
        let content = requests::learn(known, header)?;
        self.in_content = false;
        let good = content.good.total();
        self.state.know(content)?;
        self.mode = header.mode;
        self.hashing.begin(header.size)?;
        if !std::mem::replace(&mut self.announced, true) {
            self.resumed_from = good;
            self.state.tell(|progress| progress.started(header.size, good));
        }
        if is_new
            && header.size > NOTED_FROM
            && let Some(content) = self.state.content()
        {
            // The checkpoint claims no bytes yet. It records the content of the part file for a
            // resume after a kill.
            self.state.tell(|progress| progress.checkpoint(&content));
        }
        if let Some(before) = self.failover.served_by(from.peer()) {
            self.state.tell(|progress| progress.moved(before, from.peer(), header.offset));
            report_failover(from, before)?;
        }
        Ok(())
    }

    fn restart(&mut self, why: &str) -> Result<(), TransferError> {
        (self.rounds, self.resumed_from, self.restarted) = (0, 0, true);
        (self.announced, self.must_identify) = (false, false);
        self.state.restart(why)?;
        self.hashing.reset();
        Ok(())
    }

    fn completed(&self, digest: Digest) -> Option<CompletedDownload> {
        self.state.content().map(|content| CompletedDownload {
            size: content.size,
            mtime: content.mtime,
            mode: self.mode,
            version: content.version,
            digest,
            bytes_moved: self.bytes_moved,
            resumed_from: self.resumed_from,
            servers: if self.servers.is_empty() {
                self.server.into_iter().collect()
            } else {
                self.servers.clone()
            },
            restarted: self.restarted,
        })
    }
}
