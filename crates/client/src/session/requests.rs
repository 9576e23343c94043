//! Requests that are not transfers: asked on the open session, repeated on another slave
//! where the one that was asked goes away.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use relais_net::Connection;
use relais_proto::{
    Counters, Digest, Endpoint, Entry, ErrorCode, Kind, Lsn, Refusal, Reply, Request, SlaveId,
    TreePath,
};
use relais_transfer::fetch::Detours;

use super::greet::{Trouble, next_reply, unexpected};
use super::{Open, Session};
use crate::Failure;

/// Slaves that one request is tried on in a row. Each failure costs time on its own, so this
/// only bounds servers that fail at once, again and again.
const TRIES: u32 = 16;
/// How long a request is tried again behind its first failure, where `--retry` is not longer. With the
/// silence that each server is granted a command ends within half a minute.
const LONGEST: Duration = Duration::from_secs(15);

/// Counts the failures of one request.
#[derive(Default)]
struct Tries {
    failed: u32,
    first: Option<Instant>,
    detours: Detours,
}

impl Tries {
    /// One more failed; says whether to go on.
    fn go_on(&mut self, retry: Duration) -> bool {
        self.failed += 1;
        self.failed < TRIES
            && self.first.get_or_insert_with(Instant::now).elapsed() < LONGEST.max(retry)
    }
}

/// What a server tells of one path.
#[derive(Debug, Clone)]
pub struct Details {
    /// The entry.
    pub entry: Entry,
    /// Where it is a file and the digest is known.
    pub digest: Option<Digest>,
    /// Who has the content.
    pub holders: Vec<Endpoint>,
}

/// What a server tells of itself.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which slave.
    pub slave: SlaveId,
    /// The latest change that it has.
    pub mark: Lsn,
    /// Its counters.
    pub counters: Counters,
    /// Its last error; empty where there was none.
    pub last_error: String,
}

impl Session {
    /// Asks for one entry.
    ///
    /// # Errors
    /// The server's refusal, or that none answers.
    pub fn stat(&mut self, path: &TreePath) -> Result<Details, Failure> {
        self.details(path, &Request::Stat(path.clone()))
    }

    /// Asks for a file with its digest, computed first if need be.
    ///
    /// # Errors
    /// The server's refusal, or that none answers.
    pub fn hash(&mut self, path: &TreePath) -> Result<(Details, Digest), Failure> {
        let details = self.details(path, &Request::Hash(path.clone()))?;
        match (details.digest, details.entry.kind) {
            (Some(digest), Kind::File) => Ok((details, digest)),
            _ => self.drop_bad("an answer to hash has no digest"),
        }
    }

    /// Asks the server in use for its state.
    ///
    /// # Errors
    /// The server's refusal, or that none answers.
    pub fn status(&mut self) -> Result<Report, Failure> {
        let (mark, report) = self.ask(&Request::Status, &mut |connection| match next_reply(
            connection,
            &mut |_| {},
        )? {
            Reply::StatusReport { slave, mark, counters, last_error } => {
                Ok((mark, Report { slave, mark, counters, last_error }))
            }
            other => Err(unexpected(&other)),
        })?;
        self.see(mark);
        Ok(report)
    }

    /// Lists a folder in the order of the names, entry by entry; nothing is kept here. Where
    /// the slave goes away in the middle the listing goes on behind the last name.
    ///
    /// # Errors
    /// The server's refusal, that none answers, or the error of `each`.
    pub fn list(
        &mut self,
        path: &TreePath,
        each: &mut dyn FnMut(Entry) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.list_behind(path, String::new(), None, each)
    }

    /// As [`Self::list`], but only the first `most` names behind `after`, which need not be
    /// there. With fewer than that the listing is at its end.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn list_some(
        &mut self,
        path: &TreePath,
        after: &str,
        most: NonZeroU32,
        each: &mut dyn FnMut(Entry) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.list_behind(path, after.to_owned(), Some(most), each)
    }

    fn list_behind(
        &mut self,
        path: &TreePath,
        mut after: String,
        most: Option<NonZeroU32>,
        each: &mut dyn FnMut(Entry) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (mut left, mut tries) = (most.map(NonZeroU32::get), Tries::default());
        loop {
            if left == Some(0) {
                return Ok(());
            }
            let before = after.clone();
            let request = Request::List {
                path: path.clone(),
                after: before.clone(),
                most: left.unwrap_or(0),
            };
            match self.ask_once(&request, &mut |connection| {
                read_listing(connection, &mut after, &mut left, each)
            }) {
                Ok(mark) => {
                    self.see(mark);
                    return Ok(());
                }
                Err(Again::Elsewhere) if after > before => tries = Tries::default(),
                Err(again) => self.go_on(&mut tries, again)?,
            }
        }
    }

    fn details(&mut self, path: &TreePath, request: &Request) -> Result<Details, Failure> {
        let wants_content = matches!(request, Request::Hash(_));
        let (details, mark) =
            self.ask(request, &mut |connection| match next_reply(connection, &mut |_| {})? {
                Reply::Details { entry, digest, holders, mark } => {
                    Ok((Details { entry, digest, holders }, mark))
                }
                Reply::Elsewhere { holders } if wants_content => Err(Trouble::Elsewhere(holders)),
                other => Err(unexpected(&other)),
            })?;
        if details.entry.name != path.last().unwrap_or_default() {
            return self.drop_bad("the answer is about another name");
        }
        self.see(mark);
        Ok(details)
    }

    pub(super) fn ask<T>(
        &mut self,
        request: &Request,
        read: &mut dyn FnMut(&mut Connection) -> Result<T, Trouble>,
    ) -> Result<T, Failure> {
        let mut tries = Tries::default();
        loop {
            match self.ask_once(request, read) {
                Ok(value) => return Ok(value),
                Err(again) => self.go_on(&mut tries, again)?,
            }
        }
    }

    /// Makes ready for the next try; the failure where there is to be none.
    fn go_on(&mut self, tries: &mut Tries, again: Again) -> Result<(), Failure> {
        let interrupt = self.interrupt.clone();
        match again {
            Again::Elsewhere if tries.go_on(self.settings.retry) => Ok(()),
            Again::Elsewhere => Err(all_gone()),
            Again::Behind(refusal) => {
                let goes_on =
                    tries.detours.behind(self, &refusal.message, &|| interrupt.is_raised());
                if goes_on { Ok(()) } else { Err(refusal.into()) }
            }
            Again::Holders(holders) => tries
                .detours
                .elsewhere(self, &holders, &|| interrupt.is_raised())
                .map_err(Failure::from),
            Again::No(failure) => Err(failure),
        }
    }

    fn ask_once<T>(
        &mut self,
        request: &Request,
        read: &mut dyn FnMut(&mut Connection) -> Result<T, Trouble>,
    ) -> Result<T, Again> {
        let open = self.opened().map_err(Again::No)?;
        let addr = open.addr;
        let result = exchange(open, request, read);
        if !matches!(result, Err(Trouble::Gone(_))) {
            self.tell_moved(addr);
        }
        let trouble = match result {
            Ok(value) => return Ok(value),
            Err(trouble) => trouble,
        };
        if self.interrupt.is_raised() {
            self.drop_connection();
            return Err(Again::No(Failure::interrupted()));
        }
        match trouble {
            Trouble::Gone(why) => self.lose(&why),
            // A new login may do; nothing is wrong with the server.
            Trouble::Refused(refusal) if refusal.code == ErrorCode::BadTicket => {
                self.drop_connection()
            }
            Trouble::Refused(refusal) if is_leaving(&refusal) => self.lose(&refusal.message),
            Trouble::Refused(refusal) if refusal.code == ErrorCode::Behind => {
                return Err(Again::Behind(refusal));
            }
            Trouble::Refused(refusal) => return Err(Again::No(refusal.into())),
            Trouble::Elsewhere(holders) => return Err(Again::Holders(holders)),
            // What is still coming on the connection belongs to nothing any more.
            other @ (Trouble::Bad(_) | Trouble::Stopped(_)) => {
                self.drop_connection();
                return Err(Again::No(other.into_failure(addr)));
            }
        }
        Err(Again::Elsewhere)
    }

    /// Tells the user, in one line, that another server has taken over.
    fn tell_moved(&self, now: std::net::SocketAddr) {
        if let Some(gone) = self.notices.take_lost() {
            self.notices.say(&format!("{} is gone ({}); going on from {now}", gone.addr, gone.why));
        }
    }

    fn drop_bad<T>(&mut self, why: &str) -> Result<T, Failure> {
        let name =
            self.server().map_or_else(|| "the server".to_owned(), |(addr, _)| addr.to_string());
        self.drop_connection();
        Err(Failure::bad_server(format!("{name} is no good server: {why}")))
    }
}

/// Why a request has no answer yet.
enum Again {
    /// Another slave may answer.
    Elsewhere,
    /// The slave lacks what was seen before.
    Behind(Refusal),
    /// The slave does not have the content yet, and these have it.
    Holders(Vec<Endpoint>),
    /// It failed.
    No(Failure),
}

fn all_gone() -> Failure {
    Failure::new(ErrorCode::Unreachable, "every server that was asked went away")
}

/// Whether a refusal is about the server rather than the request.
fn is_leaving(refusal: &Refusal) -> bool {
    matches!(refusal.code, ErrorCode::Draining | ErrorCode::TimedOut)
}

fn exchange<T>(
    open: &mut Open,
    request: &Request,
    read: &mut dyn FnMut(&mut Connection) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    open.connection.queue(request);
    open.connection.flush()?;
    read(&mut open.connection)
}

/// Reads pages to the end of a listing. `after` becomes the last name that `each` was given;
/// `left` is how many are still wanted, where not all are.
fn read_listing(
    connection: &mut Connection,
    after: &mut String,
    left: &mut Option<u32>,
    each: &mut dyn FnMut(Entry) -> Result<(), Failure>,
) -> Result<Lsn, Trouble> {
    loop {
        let page = match next_reply(connection, &mut |_| {})? {
            Reply::Entries(page) => page,
            Reply::Done { mark } => return Ok(mark),
            other => return Err(unexpected(&other)),
        };
        for entry in page.iter() {
            if entry.name.as_bytes() <= after.as_bytes() {
                return Err(Trouble::Bad("the names of a listing are out of order".to_owned()));
            }
            if let Some(left) = left {
                *left = left.checked_sub(1).ok_or_else(|| {
                    Trouble::Bad("it lists more names than were asked for".to_owned())
                })?;
            }
            after.clone_from(&entry.name);
            each(entry).map_err(Trouble::Stopped)?;
        }
    }
}
