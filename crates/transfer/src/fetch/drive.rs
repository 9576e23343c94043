//! The loop of a fetch: ask for what is missing, and decide after each failure whether to ask
//! again, to move to another server, to start again, or to give up. Every way round is counted,
//! so that no server can keep it going for ever.

use std::net::SocketAddr;
use std::thread::Scope;

use log::debug;
use relais_proto::{
    ContentHeader, Digest, Endpoint, ErrorCode, GetRequest, Mode, Refusal, TreePath, Wanted, limits,
};

use super::desk::Desk;
use super::detours::Detours;
use super::error::Stop;
use super::hashing::{Hashing, Table};
use super::judge::{Comparison, Verdict, compare, judge, salvage};
use super::tally::Tally;
use super::{FetchError, Fetched, Sessions, exchange, intake};
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

pub(super) struct Drive<'a, 'scope, 'env> {
    sessions: &'a mut dyn Sessions,
    path: &'a TreePath,
    work: Work<'scope, 'env>,
    detours: Detours,
}

/// Everything but the sessions, so that it can change while a connection is lent out.
struct Work<'scope, 'env> {
    desk: &'env Desk<'env>,
    hashing: Hashing<'scope, 'env>,
    tally: Tally,
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

impl<'a, 'scope, 'env> Drive<'a, 'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        sessions: &'a mut dyn Sessions,
        path: &'a TreePath,
        desk: &'env Desk<'env>,
        table: &'env Table,
    ) -> Self {
        let work = Work {
            desk,
            hashing: Hashing::new(scope, desk, table),
            tally: Tally::default(),
            // Until a header says it, nobody else may read it.
            mode: Mode::new(0o600),
            announced: false,
            last: None,
            must_compare: false,
            found: desk
                .content()
                .filter(|content| content.good.prefix() < desk.found)
                .map(|_| desk.found),
            midway: false,
            accepted: false,
            asked: None,
        };
        Self { sessions, path, work, detours: Detours::new() }
    }

    pub(super) fn run(mut self) -> Result<Fetched, FetchError> {
        loop {
            let result = if self.work.desk.interrupted() {
                Err(FetchError::Interrupted.into())
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
    fn advance(&mut self) -> Result<Option<Fetched>, Stop> {
        let (work, path) = (&mut self.work, self.path);
        let server = self.sessions.connection()?;
        work.asked = Some(server.peer());
        work.midway = true;
        work.accepted = false;
        if work.must_compare {
            let comparison = compare(server, path, work.desk, &mut work.hashing)?;
            work.adopt(comparison)?;
        }
        if let Some(end) = work.found {
            salvage(server, path, work.desk, end)?;
            work.found = None;
        }
        let get = work.next_request(path);
        let header = exchange::ask_for_content(server, &get)?;
        work.accept(&header, server.peer())?;
        work.accepted = true;
        let before = work.tally.bytes_moved;
        let result = intake::take_in(
            server,
            &header,
            work.desk,
            &mut work.hashing,
            &mut work.tally.bytes_moved,
        );
        if work.tally.bytes_moved > before {
            self.detours.arrived();
            if !work.tally.servers.contains(&server.peer()) {
                work.tally.servers.push(server.peer());
            }
        }
        let digest = work.conclude(result?)?;
        let verdict = if work.desk.first_gap().is_none() {
            judge(server, path, digest, work.desk, &mut work.hashing, &mut work.tally.rounds)?
        } else {
            Verdict::Incomplete
        };
        work.midway = false;
        Ok(match verdict {
            Verdict::Whole => work.fetched(digest),
            Verdict::Incomplete => None,
        })
    }

    /// What follows from a failure: an error where the fetch ends.
    fn recover(&mut self, stop: Stop) -> Result<(), FetchError> {
        let midway = std::mem::take(&mut self.work.midway);
        // A socket that was shut down to end the fetch looks like a lost one.
        if self.work.desk.interrupted() {
            if midway {
                self.sessions.abandon();
            }
            return Err(FetchError::Interrupted);
        }
        match stop {
            Stop::Lost(why) => self.move_on(&why),
            Stop::Refused(refusal) => self.refused(refusal),
            Stop::Elsewhere(holders) => self.elsewhere(&holders),
            Stop::Violation(error) => {
                if !self.work.tally.attempts.violated() {
                    self.sessions.failed(&error.to_string());
                    return Err(FetchError::BadServer(error));
                }
                self.move_on(&error.to_string())
            }
            Stop::Rotten(why) => self.rotten(&why),
            Stop::Replaced(why) => {
                self.sessions.abandon();
                self.work.restart(&why)
            }
            Stop::Fatal(FetchError::Unreachable(why)) if self.work.last.is_some() => {
                Err(self.work.cut(why))
            }
            Stop::Fatal(error) => {
                if midway {
                    self.sessions.abandon();
                }
                Err(error)
            }
        }
    }

    /// The server answered with an error; its connection is still good.
    fn refused(&mut self, refusal: Refusal) -> Result<(), FetchError> {
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
                    && self.work.tally.doubts < MOST_REPLACED =>
            {
                self.work.tally.doubts += 1;
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
            _ => Err(FetchError::Refused(refusal)),
        }
    }

    /// The server does not have the content yet. It goes on where it is, without a word: nothing has failed.
    fn elsewhere(&mut self, holders: &[Endpoint]) -> Result<(), FetchError> {
        debug!("{}: {} others have it", self.path, holders.len());
        let desk = self.work.desk;
        self.detours
            .elsewhere(self.sessions, holders, &|| desk.interrupted())
            .map_err(FetchError::Refused)
    }

    /// The server lacks what was seen before.
    fn behind(&mut self, refusal: Refusal) -> Result<(), FetchError> {
        let desk = self.work.desk;
        if self.detours.behind(self.sessions, &refusal.message, &|| desk.interrupted()) {
            return Ok(());
        }
        Err(if self.work.last.is_some() {
            self.work.cut(refusal.message)
        } else {
            FetchError::Refused(refusal)
        })
    }

    /// The server's content is not what its digest says.
    fn rotten(&mut self, why: &str) -> Result<(), FetchError> {
        self.work.tally.rotten += 1;
        if self.work.tally.rotten >= MOST_ROTTEN {
            self.sessions.failed(why);
            return Err(FetchError::Damaged(why.to_owned()));
        }
        self.move_on(why)
    }

    /// Gives the connection up; the next request goes to another server.
    fn move_on(&mut self, why: &str) -> Result<(), FetchError> {
        debug!("{}: {why}", self.path);
        self.sessions.failed(why);
        if let Some((_, lost)) = &mut self.work.last {
            *lost = true;
        }
        if self.work.tally.lost_connection() { Ok(()) } else { Err(self.work.cut(why.to_owned())) }
    }
}

impl Work<'_, '_> {
    /// The request for the first missing bytes. Where nothing is missing it is for no bytes at the
    /// end: the answer says whether the content is still the same, and its digest.
    fn next_request(&self, path: &TreePath) -> GetRequest {
        let content = self.desk.content();
        let wanted = exchange::wanted(content.as_ref());
        let (offset, length) = match &content {
            None => (0, u64::MAX),
            Some(content) => match content.good.first_gap(content.size) {
                Some(gap) if gap.end < content.size => (gap.start, gap.end - gap.start),
                Some(gap) => (gap.start, u64::MAX),
                None => (content.size, u64::MAX),
            },
        };
        GetRequest { path: path.clone(), offset, length, wanted }
    }

    /// Takes in what a header says, and tells the caller what is news.
    fn accept(&mut self, header: &ContentHeader, from: SocketAddr) -> Result<(), Stop> {
        let known = self.desk.content();
        let is_new = known.is_none();
        let content = exchange::learn(known, header)?;
        let good = content.good.total();
        self.desk.know(content)?;
        self.mode = header.mode;
        self.hashing.begin(header.size)?;
        if !std::mem::replace(&mut self.announced, true) {
            self.tally.resumed_from = good;
            self.desk.tell(|progress| progress.started(header.size, good));
        }
        if is_new
            && header.size > NOTED_FROM
            && let Some(content) = self.desk.content()
        {
            // It claims nothing yet. But whoever goes on after a kill learns what the part file is of.
            self.desk.tell(|progress| progress.checkpoint(&content));
        }
        if let Some((before, true)) = self.last {
            self.desk.tell(|progress| progress.moved(before, from, header.offset));
        }
        self.last = Some((from, false));
        Ok(())
    }

    /// Takes in the digest that ended the content.
    fn conclude(&self, digest: Digest) -> Result<Digest, Stop> {
        let known = self.desk.with(|content| *content.digest.get_or_insert(digest));
        if known == Some(digest) {
            Ok(digest)
        } else {
            Err(Stop::bad_value("digest at the end", 0))
        }
    }

    fn knows_digest(&self) -> bool {
        matches!(exchange::wanted(self.desk.content().as_ref()), Wanted::Digest(_))
    }

    /// Whether a copy that another server calls different may still be the same.
    fn can_compare(&self) -> bool {
        !self.must_compare
            && matches!(exchange::wanted(self.desk.content().as_ref()), Wanted::Identity(_))
    }

    fn adopt(&mut self, comparison: Comparison) -> Result<(), Stop> {
        self.must_compare = false;
        match comparison {
            Comparison::Same(content) => self.desk.know(content)?,
            Comparison::Different(why) => self.restart(&why)?,
        }
        Ok(())
    }

    fn restart(&mut self, why: &str) -> Result<(), FetchError> {
        self.tally.restarts += 1;
        if self.tally.restarts > MOST_REPLACED {
            return Err(FetchError::Changing(self.tally.restarts));
        }
        (self.tally.rounds, self.tally.resumed_from) = (0, 0);
        (self.announced, self.must_compare, self.found) = (false, false, None);
        self.desk.restart(why)?;
        self.hashing.reset()
    }

    fn cut(&self, why: String) -> FetchError {
        let (good, size) =
            self.desk.with(|content| (content.good.total(), content.size)).unwrap_or_default();
        FetchError::Cut { good, size, why }
    }

    fn fetched(&self, digest: Digest) -> Option<Fetched> {
        self.desk.content().map(|content| Fetched {
            size: content.size,
            mtime: content.mtime,
            mode: self.mode,
            version: content.version,
            digest,
            bytes_moved: self.tally.bytes_moved,
            resumed_from: self.tally.resumed_from,
            servers: if self.tally.servers.is_empty() {
                self.asked.into_iter().collect()
            } else {
                self.tally.servers.clone()
            },
            restarted: self.tally.restarts > 0,
        })
    }
}
