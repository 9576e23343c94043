//! Requests other than transfers: sent on the open session, and repeated on another slave.
//!
//! The session repeats a request if the server that it asked fails.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use relais_net::Connection;
use relais_proto::{
    Counters, Digest, Endpoint, Entry, ErrorCode, Kind, Lsn, Refusal, Reply, Request, SlaveId,
    TreePath,
};
use relais_transfer::download::Redirects;

use super::handshake::{ServerError, next_reply, unexpected};
use super::{OpenSession, Session};
use crate::Failure;

/// Most slaves that one request is tried on in a row.
///
/// Each failure takes time by itself, so this only bounds servers that fail at once, again and
/// again.
const MAX_FAILURES: u32 = 16;
/// How long a request is retried after its first failure, unless `--retry` is longer.
///
/// Together with the silence limit of each server, a command ends within half a minute.
const RETRY_TIME: Duration = Duration::from_secs(15);

/// Counts the failures of one request.
#[derive(Default)]
struct RetryState {
    failed: u32,
    first: Option<Instant>,
    detours: Redirects,
}

impl RetryState {
    /// Records a failure; returns whether another try is allowed.
    fn record_failure(&mut self, retry: Duration) -> bool {
        self.failed += 1;
        self.failed < MAX_FAILURES
            && self.first.get_or_insert_with(Instant::now).elapsed() < RETRY_TIME.max(retry)
    }
}

/// A server's description of one path.
#[derive(Debug, Clone)]
pub struct Details {
    pub entry: Entry,
    /// Digest of the content, if it is a file and the digest is known.
    pub digest: Option<Digest>,
    /// Slaves that hold the content.
    pub holders: Vec<Endpoint>,
}

/// A server's description of its state.
#[derive(Debug, Clone)]
pub struct StatusReport {
    pub slave: SlaveId,
    /// LSN of the latest change that the slave has.
    pub lsn: Lsn,
    pub counters: Counters,
    /// Last error of the server; empty if it has none.
    pub last_error: String,
}

impl Session {
    /// Requests one entry.
    ///
    /// # Errors
    /// The server refuses, or no server answers.
    pub fn stat(&mut self, path: &TreePath) -> Result<Details, Failure> {
        self.details(path, &Request::Stat(path.clone()))
    }

    /// Requests a file's entry with its digest, which the server computes if needed.
    ///
    /// # Errors
    /// The server refuses, or no server answers.
    pub fn hash(&mut self, path: &TreePath) -> Result<(Details, Digest), Failure> {
        let details = self.details(path, &Request::Hash(path.clone()))?;
        match (details.digest, details.entry.kind) {
            (Some(digest), Kind::File) => Ok((details, digest)),
            _ => self.drop_bad_server("an answer to hash has no digest"),
        }
    }

    /// Requests the state of the current server.
    ///
    /// # Errors
    /// The server refuses, or no server answers.
    pub fn status(&mut self) -> Result<StatusReport, Failure> {
        let (lsn, report) = self.ask(&Request::Status, &mut |connection| match next_reply(
            connection,
            &mut |_| {},
        )? {
            Reply::StatusReport { slave, lsn, counters, last_error } => {
                Ok((lsn, StatusReport { slave, lsn, counters, last_error }))
            }
            other => Err(unexpected(&other)),
        })?;
        self.record_lsn(lsn);
        Ok(report)
    }

    /// Lists a folder entry by entry, in the order of the names, and keeps none of them.
    ///
    /// If the slave fails during the listing, another slave resumes it after the last name.
    ///
    /// # Errors
    /// The server refuses, no server answers, or `each` fails.
    pub fn list(
        &mut self,
        path: &TreePath,
        each: &mut dyn FnMut(Entry) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.list_behind(path, String::new(), None, each)
    }

    /// As [`Self::list`], limited to the first `most` names after `after`.
    ///
    /// `after` need not exist. Fewer than `most` entries mean the end of the folder.
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
        let (mut left, mut retries) = (most.map(NonZeroU32::get), RetryState::default());
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
                Ok(lsn) => {
                    self.record_lsn(lsn);
                    return Ok(());
                }
                Err(RequestError::ServerLost) if after > before => retries = RetryState::default(),
                Err(error) => self.prepare_retry(&mut retries, error)?,
            }
        }
    }

    fn details(&mut self, path: &TreePath, request: &Request) -> Result<Details, Failure> {
        let wants_content = matches!(request, Request::Hash(_));
        let (details, lsn) =
            self.ask(request, &mut |connection| match next_reply(connection, &mut |_| {})? {
                Reply::Details { entry, digest, holders, lsn } => {
                    Ok((Details { entry, digest, holders }, lsn))
                }
                Reply::Elsewhere { holders } if wants_content => {
                    Err(ServerError::Elsewhere(holders))
                }
                other => Err(unexpected(&other)),
            })?;
        if details.entry.name != path.last().unwrap_or_default() {
            return self.drop_bad_server("the answer is about another name");
        }
        self.record_lsn(lsn);
        Ok(details)
    }

    pub(super) fn ask<T>(
        &mut self,
        request: &Request,
        read: &mut dyn FnMut(&mut Connection) -> Result<T, ServerError>,
    ) -> Result<T, Failure> {
        let mut retries = RetryState::default();
        loop {
            match self.ask_once(request, read) {
                Ok(value) => return Ok(value),
                Err(error) => self.prepare_retry(&mut retries, error)?,
            }
        }
    }

    /// Prepares the next try; fails if the request cannot be retried.
    fn prepare_retry(
        &mut self,
        retries: &mut RetryState,
        error: RequestError,
    ) -> Result<(), Failure> {
        let interrupt = self.interrupt.clone();
        match error {
            RequestError::ServerLost if retries.record_failure(self.settings.retry) => Ok(()),
            RequestError::ServerLost => Err(no_server_left()),
            RequestError::Behind(refusal) => {
                let can_retry =
                    retries.detours.behind(self, &refusal.message, &|| interrupt.is_raised());
                if can_retry { Ok(()) } else { Err(refusal.into()) }
            }
            RequestError::Elsewhere(holders) => retries
                .detours
                .elsewhere(self, &holders, &|| interrupt.is_raised())
                .map_err(Failure::from),
            RequestError::Failed(failure) => Err(failure),
        }
    }

    fn ask_once<T>(
        &mut self,
        request: &Request,
        read: &mut dyn FnMut(&mut Connection) -> Result<T, ServerError>,
    ) -> Result<T, RequestError> {
        let open = self.ensure_open().map_err(RequestError::Failed)?;
        let addr = open.addr;
        let result = exchange(open, request, read);
        if !matches!(result, Err(ServerError::Disconnected(_))) {
            self.report_failover(addr);
        }
        let server_error = match result {
            Ok(value) => return Ok(value),
            Err(server_error) => server_error,
        };
        if self.interrupt.is_raised() {
            self.drop_connection();
            return Err(RequestError::Failed(Failure::interrupted()));
        }
        match server_error {
            ServerError::Disconnected(why) => self.mark_lost(&why),
            // A new login may help; the server works.
            ServerError::Refused(refusal) if refusal.code == ErrorCode::BadTicket => {
                self.drop_connection()
            }
            ServerError::Refused(refusal) if is_server_leaving(&refusal) => {
                self.mark_lost(&refusal.message)
            }
            ServerError::Refused(refusal) if refusal.code == ErrorCode::Behind => {
                return Err(RequestError::Behind(refusal));
            }
            ServerError::Refused(refusal) => return Err(RequestError::Failed(refusal.into())),
            ServerError::Elsewhere(holders) => return Err(RequestError::Elsewhere(holders)),
            // The rest of the input on this connection belongs to no request.
            other @ (ServerError::Protocol(_) | ServerError::Aborted(_)) => {
                self.drop_connection();
                return Err(RequestError::Failed(other.into_failure(addr)));
            }
        }
        Err(RequestError::ServerLost)
    }

    /// Tells the user in one line that another server has taken over.
    fn report_failover(&self, now: std::net::SocketAddr) {
        if let Some(gone) = self.notices.take_lost() {
            self.notices.say(&format!("lost {} ({}); continuing with {now}", gone.addr, gone.why));
        }
    }

    fn drop_bad_server<T>(&mut self, why: &str) -> Result<T, Failure> {
        let name =
            self.server().map_or_else(|| "the server".to_owned(), |(addr, _)| addr.to_string());
        self.drop_connection();
        Err(Failure::bad_server(format!("{name} is not a valid server: {why}")))
    }
}

/// Why a request has no answer yet.
enum RequestError {
    /// Another slave may answer.
    ServerLost,
    /// The slave is behind the LSN that the session has seen.
    Behind(Refusal),
    /// The slave does not have the content yet; these slaves have it.
    Elsewhere(Vec<Endpoint>),
    /// The request failed for good.
    Failed(Failure),
}

fn no_server_left() -> Failure {
    Failure::new(ErrorCode::Unreachable, "every server that was tried went away")
}

/// Whether a refusal is about the server rather than the request.
fn is_server_leaving(refusal: &Refusal) -> bool {
    matches!(refusal.code, ErrorCode::Draining | ErrorCode::TimedOut)
}

fn exchange<T>(
    open: &mut OpenSession,
    request: &Request,
    read: &mut dyn FnMut(&mut Connection) -> Result<T, ServerError>,
) -> Result<T, ServerError> {
    open.connection.queue(request);
    open.connection.flush()?;
    read(&mut open.connection)
}

/// Reads pages up to the end of a listing.
///
/// `after` becomes the last name that `each` received. `left` counts the names still wanted, if
/// their number is limited.
fn read_listing(
    connection: &mut Connection,
    after: &mut String,
    left: &mut Option<u32>,
    each: &mut dyn FnMut(Entry) -> Result<(), Failure>,
) -> Result<Lsn, ServerError> {
    loop {
        let page = match next_reply(connection, &mut |_| {})? {
            Reply::Entries(page) => page,
            Reply::Done { lsn } => return Ok(lsn),
            other => return Err(unexpected(&other)),
        };
        for entry in page.iter() {
            if entry.name.as_bytes() <= after.as_bytes() {
                return Err(ServerError::Protocol(
                    "the names of a listing are out of order".to_owned(),
                ));
            }
            if let Some(left) = left {
                *left = left.checked_sub(1).ok_or_else(|| {
                    ServerError::Protocol("it lists more names than requested".to_owned())
                })?;
            }
            after.clone_from(&entry.name);
            each(entry).map_err(ServerError::Aborted)?;
        }
    }
}
