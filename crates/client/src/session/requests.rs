//! Requests other than transfers: sent on the open session, and repeated on another slave.
//!
//! The failover policy decides whether a request is repeated.

use relais_net::Connection;
use relais_proto::{
    Digest, Endpoint, Entry, Kind, Lsn, Metrics, Reply, Request, SlaveId, TreePath,
};
use relais_transfer::exchange::answer;
use relais_transfer::{Failover, Fault, Purpose, TransferError, Try};

use super::state::Session;
use crate::Result;

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
    pub metrics: Metrics,
    /// Last error of the server; empty if it has none.
    pub last_error: String,
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
    pub fn hash(&mut self, path: &TreePath) -> Result<(Details, Digest)> {
        let details = self.details(path, &Request::Hash(path.clone()))?;
        let digest = details.digest.ok_or_else(|| failure!(BadServer, "there is no digest"))?;
        Ok((details, digest))
    }

    /// Requests the state of the current server.
    ///
    /// # Errors
    /// The server refuses, or no server answers.
    pub fn status(&mut self) -> Result<StatusReport> {
        let report = self.ask(Purpose::Read, &Request::Status, &mut |connection| match answer(
            connection,
        )? {
            Reply::StatusReport { slave, lsn, metrics, last_error } => {
                Ok(StatusReport { slave, lsn, metrics, last_error })
            }
            other => Err(Fault::unexpected(&other)),
        })?;
        self.record_lsn(report.lsn);
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
            match self.ask_once(&request, &mut |connection| {
                read_listing(connection, &mut after, &mut left, each)
            }) {
                Ok(lsn) => {
                    self.record_lsn(lsn);
                    break;
                }
                Err(fault) => {
                    if after > before {
                        failover.gained(u64::MAX);
                    }
                    self.recover(&mut failover, Purpose::Read, fault)?;
                }
            }
        }
        Ok(())
    }

    fn details(&mut self, path: &TreePath, request: &Request) -> Result<Details> {
        let name = path.last().unwrap_or_default();
        let is_hash = matches!(request, Request::Hash(_));
        let (details, lsn) =
            self.ask(Purpose::Read, request, &mut |connection| match answer(connection)? {
                Reply::Details { entry, digest, holders, lsn }
                    if entry.name == name
                        && (!is_hash || digest.is_some() && entry.kind == Kind::File) =>
                {
                    Ok((Details { entry, digest, holders }, lsn))
                }
                Reply::Details { .. } => {
                    Err(Fault::Violation("the answer is about another name or kind".to_owned()))
                }
                other => Err(Fault::unexpected(&other)),
            })?;
        self.record_lsn(lsn);
        Ok(details)
    }

    /// Requests an answer, which `read` reads, from one server after another.
    pub(super) fn ask<T>(
        &mut self,
        purpose: Purpose,
        request: &Request,
        read: &mut dyn FnMut(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T> {
        let mut failover = Failover::new(self.settings.retry);
        loop {
            match self.ask_once(request, read) {
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
                Err(failure!(BadServer, "{name} is not a valid server: {why}"))
            }
            Err(TransferError::Unreachable(why)) => Err(failure!(
                Unreachable,
                "every server that was tried failed, the last one: {why}"
            )),
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
) -> Result<Lsn, Fault> {
    loop {
        let page = match answer(connection)? {
            Reply::Entries(page) => page,
            Reply::Done { lsn } => return Ok(lsn),
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
