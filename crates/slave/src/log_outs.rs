//! The file of log-outs, and what wakes the thread that writes it and passes them on.
//!
//! The table itself is on the scoreboard. Several slaves of one folder write the same file; all
//! have the log-outs that their master knows.

use std::io;

use relais_auth::{EndedTickets, LogOutFile};
use relais_os::Waker;
use relais_storage::MetadataFolder;

/// Name of the file in the slave's own folder.
const FILE: &str = "log-outs";

/// What workers and the replicator share to pass on log-outs.
#[derive(Debug)]
pub struct SharedLogOuts {
    /// The log-outs as they are kept over a restart.
    pub file: LogOutFile,
    /// Wakes the thread that passes them on, after a user has logged out here.
    pub changed: Waker,
}

impl SharedLogOuts {
    /// Reads the file into the table, before the first session.
    ///
    /// # Errors
    /// Those of the system calls; the file cannot be used.
    pub fn open(own: &MetadataFolder, table: EndedTickets<'_>) -> io::Result<Self> {
        let file = LogOutFile::new(own.path(FILE));
        let rows = file.read().map_err(io::Error::other)?;
        rows.into_iter().for_each(|row| _ = table.insert(row));
        Ok(Self { file, changed: Waker::new()? })
    }
}
