//! Requests other than transfers: sent on the open session, and repeated on another slave.
//!
//! The failover policy decides whether a request is repeated. Each change has its own id. If the
//! answer is lost, the session repeats the request with the same id, so the change is made once,
//! whichever slave answers.

use relais_net::Connection;
use relais_proto::{
    ChangeId, Digest, Endpoint, Entry, ErrorCode, Expect, Kind, Lsn, Metrics, Reply, Request,
    SlaveId, TreePath,
};
use relais_transfer::exchange::answer;
use relais_transfer::{Failover, Fault, Purpose, TransferError, Try};

use super::state::Session;
use crate::{Failure, Result};

/// A server's description of one path.
#[derive(Debug)]
pub struct Details {
    pub entry: Entry,
    /// Digest of the content, if it is a file and the digest is known.
    pub digest: Option<Digest>,
    /// Slaves that hold the content.
    pub holders: Vec<Endpoint>,
}

/// Returns a new random change id.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_id() -> Result<ChangeId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|e| failure!(Local, "the system gives no random bytes: {e}"))?;
    Ok(ChangeId(id))
}

impl Session {
    /// Requests one entry.
    ///
    /// # Errors
    /// The server refuses, or no server answers.
    pub fn stat(&mut self, path: &TreePath) -> Result<Details> {
        self.details(path, &Request::Stat(path.clone()))
    }

    /// Requests a file's entry with its digest, which the server computes if needed.
    ///
    /// # Errors
    /// The server refuses, or no server answers.
    pub fn hash(&mut self, path: &TreePath) -> Result<Details> {
        self.details(path, &Request::Hash(path.clone()))
    }

    /// Requests the state of the current server: its LSN, metrics and last error, or no text.
    ///
    /// # Errors
    /// The server refuses, or no server answers.
    pub fn status(&mut self) -> Result<(SlaveId, Lsn, Metrics, String)> {
        self.ask(Purpose::Read, &Request::Status, &|reply| match reply {
            Reply::StatusReport { slave, lsn, metrics, last_error } => {
                Ok((slave, lsn, metrics, last_error))
            }
            other => Err(Fault::unexpected(&other)),
        })
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// The server refuses, or no server answers.
    pub fn make_folder(&mut self, path: &TreePath) -> Result<Lsn> {
        self.change(&Request::MakeFolder { id: new_id()?, path: path.clone() })
    }

    /// Removes a file or a folder.
    ///
    /// # Errors
    /// The server refuses, or no server answers.
    pub fn remove(&mut self, path: &TreePath, recursive: bool, expect: Expect) -> Result<Lsn> {
        self.change(&Request::Remove { id: new_id()?, path: path.clone(), recursive, expect })
    }

    /// Moves a file or a folder to another path.
    ///
    /// # Errors
    /// The server refuses, or no server answers.
    pub fn rename(&mut self, from: &TreePath, to: &TreePath, expect: Expect) -> Result<Lsn> {
        self.change(&Request::Move { id: new_id()?, from: from.clone(), to: to.clone(), expect })
    }

    /// Adds to `message` which server has lost its master, if a server has reported that.
    pub fn why_no_changes(&self, message: &str) -> String {
        match self.observed.isolated_server() {
            Some((addr, time)) if !message.contains("master") => {
                format!("{message}; {addr} has not reached its master for {} s", time.as_secs())
            }
            _ => message.to_owned(),
        }
    }

    /// Requests a change until a server answers, with the same id each time.
    fn change(&mut self, request: &Request) -> Result<Lsn> {
        self.connect()?;
        let result = self.ask(Purpose::Change, request, &|reply| match reply {
            Reply::Committed { version, .. } => Ok(version),
            other => Err(Fault::unexpected(&other)),
        });
        result.map_err(|failure| match failure.code {
            ErrorCode::NoChanges => {
                Failure { message: self.why_no_changes(&failure.message), ..failure }
            }
            ErrorCode::Unreachable => failure.and("whether the change was made is not known"),
            _ => failure,
        })
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
        each: &mut dyn FnMut(Entry) -> Result<()>,
    ) -> Result<()> {
        self.list_some(path, "", 0, each)
    }

    /// As [`Self::list`], limited to the first `most` names after `after`; 0 is no limit.
    ///
    /// `after` need not exist. Fewer than `most` entries mean the end of the folder.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn list_some(
        &mut self,
        path: &TreePath,
        after: &str,
        most: u32,
        each: &mut dyn FnMut(Entry) -> Result<()>,
    ) -> Result<()> {
        let (mut after, mut left) = (after.to_owned(), (most > 0).then_some(most));
        let mut failover = Failover::new(self.settings.retry);
        while left != Some(0) {
            let before = after.clone();
            let (path, most) = (path.clone(), left.unwrap_or(0));
            let request = Request::List { path, after: before.clone(), most };
            let listed = self.ask_once(&request, &mut |connection| {
                read_listing(connection, &mut after, &mut left, each)
            });
            let Err(fault) = listed else { break };
            if after > before {
                failover.gained(u64::MAX);
            }
            self.recover(&mut failover, Purpose::Read, fault)?;
        }
        Ok(())
    }

    fn details(&mut self, path: &TreePath, request: &Request) -> Result<Details> {
        let name = path.last().unwrap_or_default();
        let is_hash = matches!(request, Request::Hash(_));
        self.ask(Purpose::Read, request, &|reply| match reply {
            Reply::Details { entry, digest, holders, .. }
                if entry.name == name
                    && (!is_hash || digest.is_some() && entry.kind == Kind::File) =>
            {
                Ok(Details { entry, digest, holders })
            }
            Reply::Details { .. } => {
                Err(Fault::Violation("the answer is about another name or kind".to_owned()))
            }
            other => Err(Fault::unexpected(&other)),
        })
    }

    /// Requests a reply, which `read` takes apart, from one server after another.
    fn ask<T>(
        &mut self,
        purpose: Purpose,
        request: &Request,
        read: &dyn Fn(Reply) -> Result<T, Fault>,
    ) -> Result<T> {
        let mut failover = Failover::new(self.settings.retry);
        loop {
            match self.ask_once(request, &mut |connection| answer(connection).and_then(read)) {
                Ok(value) => return Ok(value),
                Err(fault) => self.recover(&mut failover, purpose, fault)?,
            }
        }
    }

    /// Prepares the next try; fails if there is none.
    fn recover(&mut self, failover: &mut Failover, purpose: Purpose, fault: Fault) -> Result<()> {
        let interrupt = self.interrupt.clone();
        let server = self.server().map(|(addr, _)| addr);
        let tried = Try {
            purpose,
            server,
            unfinished: !matches!(fault, Fault::Refused(_) | Fault::Elsewhere(_)),
            repeatable: true,
            interrupted: &|| interrupt.is_raised(),
        };
        match failover.recover(self, fault, &tried) {
            Ok(_) => Ok(()),
            Err(TransferError::BadServer(why)) => {
                let name = server.map_or_else(|| "the server".to_owned(), |addr| addr.to_string());
                fail!(BadServer, "{name} is not a valid server: {why}")
            }
            Err(TransferError::Unreachable(why)) => {
                fail!(Unreachable, "every server that was tried failed, the last one: {why}")
            }
            Err(error) => Err(error.into()),
        }
    }

    fn ask_once<T>(
        &mut self,
        request: &Request,
        read: &mut dyn FnMut(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let open = self.ensure_open()?;
        let addr = open.addr;
        open.connection.queue(request);
        let sent = open.connection.flush().map_err(Fault::from);
        let result = sent.and_then(|()| read(&mut open.connection));
        if !matches!(result, Err(Fault::Lost(_))) {
            self.notices.report_failover(addr);
        }
        result
    }
}

/// Reads pages up to the end of a listing.
///
/// `after` becomes the last name that `each` received. `left` counts the names still wanted, if
/// their number is limited.
fn read_listing(
    connection: &mut Connection,
    after: &mut String,
    left: &mut Option<u32>,
    each: &mut dyn FnMut(Entry) -> Result<()>,
) -> Result<(), Fault> {
    loop {
        let page = match answer(connection)? {
            Reply::Entries(page) => page,
            Reply::Done { .. } => return Ok(()),
            other => return Err(Fault::unexpected(&other)),
        };
        for entry in page.iter() {
            if entry.name.as_bytes() <= after.as_bytes() {
                return Err(Fault::Violation("the names of a listing are out of order".to_owned()));
            }
            if let Some(left) = left {
                *left = left.checked_sub(1).ok_or_else(|| {
                    Fault::Violation("it lists more names than requested".to_owned())
                })?;
            }
            after.clone_from(&entry.name);
            each(entry)?;
        }
    }
}
