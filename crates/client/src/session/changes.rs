//! Changes to the tree other than transfers.
//!
//! Each change has its own id. If the answer is lost, the session repeats the request with the same
//! id, so the change is made once, whichever slave answers.

use relais_proto::{ChangeId, ErrorCode, Expect, Lsn, Reply, Request, TreePath};
use relais_transfer::exchange::answer;
use relais_transfer::{Fault, Purpose};

use super::state::Session;
use crate::{Failure, Result};

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
        let result =
            self.ask(Purpose::Change, request, &mut |connection| match answer(connection)? {
                Reply::Committed { version, lsn, .. } => Ok((version, lsn)),
                other => Err(Fault::unexpected(&other)),
            });
        let (version, lsn) = result.map_err(|failure| match failure.code {
            ErrorCode::NoChanges => {
                Failure { message: self.why_no_changes(&failure.message), ..failure }
            }
            ErrorCode::Unreachable => {
                failure!(Unreachable, "{failure}; whether the change was made is not known")
            }
            _ => failure,
        })?;
        self.record_lsn(version.max(lsn));
        Ok(version)
    }
}
