//! Retry loop of a download.
//!
//! It requests the missing bytes, and decides after each failure: repeat, move to another server,
//! restart or give up. Every decision is counted, so no server can keep the loop running forever.

use std::net::SocketAddr;
use std::thread::Scope;

use log::debug;
use relais_proto::{
    ContentHeader, Digest, Endpoint, ErrorCode, GetRequest, IfMatch, Mode, Refusal, TreePath,
    limits,
};

use super::error::DownloadInterrupt;
use super::hashing::{Hashing, PieceTable};
use super::redirects::Redirects;
use super::state::DownloadState;
use super::stats::DownloadStats;
use super::verify::{Comparison, Verification, compare, salvage, verify};
use super::{CompletedDownload, DownloadError, Sessions, exchange, intake};
use crate::retry::{MAX_DIGEST_MISMATCHES, MAX_REPLACEMENTS};

/// Requests for damaged pieces to one server.
pub(super) const ASK_AGAIN: u32 = 3;

/// Size in bytes from which a download is recorded at its start.
///
/// Fetching a smaller content again is faster than recording it.
const NOTED_FROM: u64 = 4 * limits::PIECE;

/// Returns whether a refusal is about the server's state or the login, not the content.
///
/// Then another server, or a new login, may succeed.
pub(super) fn is_passing(code: ErrorCode) -> bool {
    use ErrorCode::{BadTicket, Busy, Cut, Draining, NoSlave, Storage, TimedOut, Unreachable};
    matches!(code, BadTicket | Draining | TimedOut | Storage | Busy | NoSlave | Cut | Unreachable)
}

pub(super) struct DownloadLoop<'a, 'scope, 'env> {
    sessions: &'a mut dyn Sessions,
    path: &'a TreePath,
    work: LoopState<'scope, 'env>,
    redirects: Redirects,
}

/// All state except the sessions, so it can change while a connection is borrowed.
struct LoopState<'scope, 'env> {
    state: &'env DownloadState<'env>,
    hashing: Hashing<'scope, 'env>,
    stats: DownloadStats,
    mode: Mode,
    /// Whether the start of this content was reported.
    announced: bool,
    /// Server of the last header, and whether its connection was lost since.
    last: Option<(SocketAddr, bool)>,
    /// Whether the content must be compared with a server's copy before it continues.
    must_compare: bool,
    /// Size of the part file at the start, until the bytes beyond the good ones are checked.
    found: Option<u64>,
    /// Whether an answer is unfinished, so the connection is unusable for other requests.
    answer_unfinished: bool,
    /// Whether the current request was answered with the expected content.
    accepted: bool,
    /// Server of the current request.
    asked: Option<SocketAddr>,
}

impl<'a, 'scope, 'env> DownloadLoop<'a, 'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        sessions: &'a mut dyn Sessions,
        path: &'a TreePath,
        state: &'env DownloadState<'env>,
        table: &'env PieceTable,
    ) -> Self {
        let work = LoopState {
            state,
            hashing: Hashing::new(scope, state, table),
            stats: DownloadStats::default(),
            // Only the owner may read the file until a header sets the mode.
            mode: Mode::new(0o600),
            announced: false,
            last: None,
            must_compare: false,
            found: state
                .content()
                .filter(|content| content.good.prefix() < state.found)
                .map(|_| state.found),
            answer_unfinished: false,
            accepted: false,
            asked: None,
        };
        Self { sessions, path, work, redirects: Redirects::new() }
    }

    pub(super) fn run(mut self) -> Result<CompletedDownload, DownloadError> {
        loop {
            let result = if self.work.state.interrupted() {
                Err(DownloadError::Interrupted.into())
            } else {
                self.advance()
            };
            match result {
                Ok(Some(fetched)) => return Ok(fetched),
                Ok(None) => {}
                Err(stop) => self.recover(stop)?,
            }
        }
    }

    /// Performs one request for content, and the verification after the last one.
    ///
    /// Returns `None` if more requests are necessary.
    fn advance(&mut self) -> Result<Option<CompletedDownload>, DownloadInterrupt> {
        let (work, path) = (&mut self.work, self.path);
        let server = self.sessions.connection()?;
        work.asked = Some(server.peer());
        work.answer_unfinished = true;
        work.accepted = false;
        if work.must_compare {
            let comparison = compare(server, path, work.state, &mut work.hashing)?;
            work.adopt(comparison)?;
        }
        if let Some(end) = work.found {
            salvage(server, path, work.state, end)?;
            work.found = None;
        }
        let get = work.next_request(path);
        let header = exchange::ask_for_content(server, &get)?;
        work.accept(&header, server.peer())?;
        work.accepted = true;
        let before = work.stats.bytes_moved;
        let result = intake::take_in(
            server,
            &header,
            work.state,
            &mut work.hashing,
            &mut work.stats.bytes_moved,
        );
        if work.stats.bytes_moved > before {
            self.redirects.arrived();
            if !work.stats.servers.contains(&server.peer()) {
                work.stats.servers.push(server.peer());
            }
        }
        let digest = work.conclude(result?)?;
        let verdict = if work.state.first_gap().is_none() {
            verify(server, path, digest, work.state, &mut work.hashing, &mut work.stats.rounds)?
        } else {
            Verification::Incomplete
        };
        work.answer_unfinished = false;
        Ok(match verdict {
            Verification::Whole => work.fetched(digest),
            Verification::Incomplete => None,
        })
    }

    /// Handles a failure; returns an error if the download ends.
    fn recover(&mut self, stop: DownloadInterrupt) -> Result<(), DownloadError> {
        let answer_unfinished = std::mem::take(&mut self.work.answer_unfinished);
        // A socket that was shut down by an interruption looks like a lost one.
        if self.work.state.interrupted() {
            if answer_unfinished {
                self.sessions.abandon();
            }
            return Err(DownloadError::Interrupted);
        }
        match stop {
            DownloadInterrupt::Lost(why) => self.move_on(&why),
            DownloadInterrupt::Refused(refusal) => self.refused(refusal),
            DownloadInterrupt::Elsewhere(holders) => self.elsewhere(&holders),
            DownloadInterrupt::Violation(error) => {
                if !self.work.stats.attempts.violated() {
                    self.sessions.failed(&error.to_string());
                    return Err(DownloadError::BadServer(error));
                }
                self.move_on(&error.to_string())
            }
            DownloadInterrupt::Damaged(why) => self.damaged(&why),
            DownloadInterrupt::Replaced(why) => {
                self.sessions.abandon();
                self.work.restart(&why)
            }
            DownloadInterrupt::Fatal(DownloadError::Unreachable(why))
                if self.work.last.is_some() =>
            {
                Err(self.work.cut(why))
            }
            DownloadInterrupt::Fatal(error) => {
                if answer_unfinished {
                    self.sessions.abandon();
                }
                Err(error)
            }
        }
    }

    /// Handles an error answer; the connection is still usable.
    fn refused(&mut self, refusal: Refusal) -> Result<(), DownloadError> {
        match refusal.code {
            ErrorCode::Changed if self.work.can_compare() => {
                self.work.must_compare = true;
                Ok(())
            }
            // The file changed during the transfer, perhaps only its mode or link count. A request
            // by its digest shows whether the content is the same.
            ErrorCode::Changed
                if self.work.accepted
                    && self.work.knows_digest()
                    && self.work.stats.doubts < MAX_REPLACEMENTS =>
            {
                self.work.stats.doubts += 1;
                Ok(())
            }
            ErrorCode::Changed | ErrorCode::BadOffset => self.work.restart(&refusal.message),
            ErrorCode::Damaged => self.damaged(&refusal.message),
            ErrorCode::NoContent => self.elsewhere(&[]),
            ErrorCode::Behind => self.behind(refusal),
            code if is_passing(code) => self.move_on(&refusal.message),
            // Another server has just sent the content, so this server may be wrong.
            _ if self.work.last.is_some_and(|(last, _)| Some(last) != self.work.asked) => {
                self.move_on(&refusal.message)
            }
            _ => Err(DownloadError::Refused(refusal)),
        }
    }

    /// Handles a server without the content. The move is silent, because nothing has failed.
    fn elsewhere(&mut self, holders: &[Endpoint]) -> Result<(), DownloadError> {
        debug!("{}: {} others have it", self.path, holders.len());
        let state = self.work.state;
        self.redirects
            .elsewhere(self.sessions, holders, &|| state.interrupted())
            .map_err(DownloadError::Refused)
    }

    /// Handles a server that is behind.
    fn behind(&mut self, refusal: Refusal) -> Result<(), DownloadError> {
        let state = self.work.state;
        if self.redirects.behind(self.sessions, &refusal.message, &|| state.interrupted()) {
            return Ok(());
        }
        Err(if self.work.last.is_some() {
            self.work.cut(refusal.message)
        } else {
            DownloadError::Refused(refusal)
        })
    }

    /// Handles content that does not match its digest.
    fn damaged(&mut self, why: &str) -> Result<(), DownloadError> {
        self.work.stats.damaged += 1;
        if self.work.stats.damaged >= MAX_DIGEST_MISMATCHES {
            self.sessions.failed(why);
            return Err(DownloadError::Damaged(why.to_owned()));
        }
        self.move_on(why)
    }

    /// Drops the connection; the next request goes to another server.
    fn move_on(&mut self, why: &str) -> Result<(), DownloadError> {
        debug!("{}: {why}", self.path);
        self.sessions.failed(why);
        if let Some((_, lost)) = &mut self.work.last {
            *lost = true;
        }
        if self.work.stats.lost_connection() { Ok(()) } else { Err(self.work.cut(why.to_owned())) }
    }
}

impl LoopState<'_, '_> {
    /// Returns the request for the first missing bytes.
    ///
    /// If no bytes are missing, it requests zero bytes at the end. The answer shows whether the
    /// content is the same, and its digest.
    fn next_request(&self, path: &TreePath) -> GetRequest {
        let content = self.state.content();
        let if_match = exchange::if_match(content.as_ref());
        let (offset, length) = match &content {
            None => (0, u64::MAX),
            Some(content) => match content.good.first_gap(content.size) {
                Some(gap) if gap.end < content.size => (gap.start, gap.end - gap.start),
                Some(gap) => (gap.start, u64::MAX),
                None => (content.size, u64::MAX),
            },
        };
        GetRequest { path: path.clone(), offset, length, if_match }
    }

    /// Handles a header, and reports new facts.
    fn accept(
        &mut self,
        header: &ContentHeader,
        from: SocketAddr,
    ) -> Result<(), DownloadInterrupt> {
        let known = self.state.content();
        let is_new = known.is_none();
        let content = exchange::learn(known, header)?;
        let good = content.good.total();
        self.state.know(content)?;
        self.mode = header.mode;
        self.hashing.begin(header.size)?;
        if !std::mem::replace(&mut self.announced, true) {
            self.stats.resumed_from = good;
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
        if let Some((before, true)) = self.last {
            self.state.tell(|progress| progress.moved(before, from, header.offset));
        }
        self.last = Some((from, false));
        Ok(())
    }

    /// Handles the digest at the end of the content.
    fn conclude(&self, digest: Digest) -> Result<Digest, DownloadInterrupt> {
        let known = self.state.with(|content| *content.digest.get_or_insert(digest));
        if known == Some(digest) {
            Ok(digest)
        } else {
            Err(DownloadInterrupt::bad_value("digest at the end", 0))
        }
    }

    fn knows_digest(&self) -> bool {
        matches!(exchange::if_match(self.state.content().as_ref()), IfMatch::Digest(_))
    }

    /// Returns whether a copy may be the same although another server says otherwise.
    fn can_compare(&self) -> bool {
        !self.must_compare
            && matches!(exchange::if_match(self.state.content().as_ref()), IfMatch::Identity(_))
    }

    fn adopt(&mut self, comparison: Comparison) -> Result<(), DownloadInterrupt> {
        self.must_compare = false;
        match comparison {
            Comparison::Same(content) => self.state.know(content)?,
            Comparison::Different(why) => self.restart(&why)?,
        }
        Ok(())
    }

    fn restart(&mut self, why: &str) -> Result<(), DownloadError> {
        self.stats.restarts += 1;
        if self.stats.restarts > MAX_REPLACEMENTS {
            return Err(DownloadError::Changing(self.stats.restarts));
        }
        (self.stats.rounds, self.stats.resumed_from) = (0, 0);
        (self.announced, self.must_compare, self.found) = (false, false, None);
        self.state.restart(why)?;
        self.hashing.reset()
    }

    fn cut(&self, why: String) -> DownloadError {
        let (good, size) =
            self.state.with(|content| (content.good.total(), content.size)).unwrap_or_default();
        DownloadError::Cut { good, size, why }
    }

    fn fetched(&self, digest: Digest) -> Option<CompletedDownload> {
        self.state.content().map(|content| CompletedDownload {
            size: content.size,
            mtime: content.mtime,
            mode: self.mode,
            version: content.version,
            digest,
            bytes_moved: self.stats.bytes_moved,
            resumed_from: self.stats.resumed_from,
            servers: if self.stats.servers.is_empty() {
                self.asked.into_iter().collect()
            } else {
                self.stats.servers.clone()
            },
            restarted: self.stats.restarts > 0,
        })
    }
}
