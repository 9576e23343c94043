//! The loop of a fetch: ask for what is missing, and decide after each failure whether to ask
//! again, to move to another server, to start again, or to give up. Every way round is counted,
//! so that no server can keep it going for ever.

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
use crate::retry::{MOST_REPLACED, MOST_ROTTEN};

/// How often bad pieces are asked for again from one server.
pub(super) const ASK_AGAIN: u32 = 3;

/// Content larger than this is noted as soon as it begins, in bytes; less is fetched again sooner than noted.
const NOTED_FROM: u64 = 4 * limits::PIECE;

/// Whether a refusal says something about the server's state now or the login and not about the content, so
/// that another server, or a new login, may well answer.
pub(super) fn is_passing(code: ErrorCode) -> bool {
    use ErrorCode::{BadTicket, Busy, Cut, Draining, NoSlave, Storage, TimedOut, Unreachable};
    matches!(code, BadTicket | Draining | TimedOut | Storage | Busy | NoSlave | Cut | Unreachable)
}

pub(super) struct DownloadLoop<'a, 'scope, 'env> {
    sessions: &'a mut dyn Sessions,
    path: &'a TreePath,
    work: Work<'scope, 'env>,
    redirects: Redirects,
}

/// Everything but the sessions, so that it can change while a connection is lent out.
struct Work<'scope, 'env> {
    state: &'env DownloadState<'env>,
    hashing: Hashing<'scope, 'env>,
    stats: DownloadStats,
    mode: Mode,
    /// Whether the caller was told that this content comes.
    announced: bool,
    /// The server that sent the last header, and whether the connection to it was lost since.
    last: Option<(SocketAddr, bool)>,
    /// Whether the content has to be compared with a server's copy before it goes on.
    must_compare: bool,
    /// Where the part file ends that was found, until what it holds beyond the good bytes was looked at.
    found: Option<u64>,
    /// Whether an answer is under way, so that the connection is of no use to anybody else.
    midway: bool,
    /// Whether the current request was answered by the content that was wanted.
    accepted: bool,
    /// Which server the current request went to.
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
        let work = Work {
            state,
            hashing: Hashing::new(scope, state, table),
            stats: DownloadStats::default(),
            // Until a header says it, nobody else may read it.
            mode: Mode::new(0o600),
            announced: false,
            last: None,
            must_compare: false,
            found: state
                .content()
                .filter(|content| content.good.prefix() < state.found)
                .map(|_| state.found),
            midway: false,
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

    /// One request for content, and the check where it was the last; none where more is to do.
    fn advance(&mut self) -> Result<Option<CompletedDownload>, DownloadInterrupt> {
        let (work, path) = (&mut self.work, self.path);
        let server = self.sessions.connection()?;
        work.asked = Some(server.peer());
        work.midway = true;
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
        work.midway = false;
        Ok(match verdict {
            Verification::Whole => work.fetched(digest),
            Verification::Incomplete => None,
        })
    }

    /// What follows from a failure: an error where the fetch ends.
    fn recover(&mut self, stop: DownloadInterrupt) -> Result<(), DownloadError> {
        let midway = std::mem::take(&mut self.work.midway);
        // A socket that was shut down to end the fetch looks like a lost one.
        if self.work.state.interrupted() {
            if midway {
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
            DownloadInterrupt::Rotten(why) => self.rotten(&why),
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
                if midway {
                    self.sessions.abandon();
                }
                Err(error)
            }
        }
    }

    /// The server answered with an error; its connection is still good.
    fn refused(&mut self, refusal: Refusal) -> Result<(), DownloadError> {
        match refusal.code {
            ErrorCode::Changed if self.work.can_compare() => {
                self.work.must_compare = true;
                Ok(())
            }
            // Something about the file changed while it was sent: perhaps no more than its rights or the number of
            // its names. Asked again by its digest, the server tells whether the content is the same.
            ErrorCode::Changed
                if self.work.accepted
                    && self.work.knows_digest()
                    && self.work.stats.doubts < MOST_REPLACED =>
            {
                self.work.stats.doubts += 1;
                Ok(())
            }
            ErrorCode::Changed | ErrorCode::BadOffset => self.work.restart(&refusal.message),
            ErrorCode::Damaged => self.rotten(&refusal.message),
            ErrorCode::NoContent => self.elsewhere(&[]),
            ErrorCode::Behind => self.behind(refusal),
            code if is_passing(code) => self.move_on(&refusal.message),
            // Another server was just sending it, so this one may be the one that is wrong.
            _ if self.work.last.is_some_and(|(last, _)| Some(last) != self.work.asked) => {
                self.move_on(&refusal.message)
            }
            _ => Err(DownloadError::Refused(refusal)),
        }
    }

    /// The server does not have the content yet. It goes on where it is, without a word: nothing has failed.
    fn elsewhere(&mut self, holders: &[Endpoint]) -> Result<(), DownloadError> {
        debug!("{}: {} others have it", self.path, holders.len());
        let state = self.work.state;
        self.redirects
            .elsewhere(self.sessions, holders, &|| state.interrupted())
            .map_err(DownloadError::Refused)
    }

    /// The server lacks what was seen before.
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

    /// The server's content is not what its digest says.
    fn rotten(&mut self, why: &str) -> Result<(), DownloadError> {
        self.work.stats.rotten += 1;
        if self.work.stats.rotten >= MOST_ROTTEN {
            self.sessions.failed(why);
            return Err(DownloadError::Damaged(why.to_owned()));
        }
        self.move_on(why)
    }

    /// Gives the connection up; the next request goes to another server.
    fn move_on(&mut self, why: &str) -> Result<(), DownloadError> {
        debug!("{}: {why}", self.path);
        self.sessions.failed(why);
        if let Some((_, lost)) = &mut self.work.last {
            *lost = true;
        }
        if self.work.stats.lost_connection() { Ok(()) } else { Err(self.work.cut(why.to_owned())) }
    }
}

impl Work<'_, '_> {
    /// The request for the first missing bytes. Where nothing is missing it is for no bytes at the
    /// end: the answer says whether the content is still the same, and its digest.
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

    /// Takes in what a header says, and tells the caller what is news.
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
            // It claims nothing yet. But whoever goes on after a kill learns what the part file is of.
            self.state.tell(|progress| progress.checkpoint(&content));
        }
        if let Some((before, true)) = self.last {
            self.state.tell(|progress| progress.moved(before, from, header.offset));
        }
        self.last = Some((from, false));
        Ok(())
    }

    /// Takes in the digest that ended the content.
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

    /// Whether a copy that another server calls different may still be the same.
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
        if self.stats.restarts > MOST_REPLACED {
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
