//! One entry of the `.log` during its command: read, written, and removed at the end.

use std::path::Path;

use relais_tree::Folder;

use super::{LogContents, LogError, TransferEntry, TransferLog, TransferTask};
use crate::{Failure, Result};

/// The entry of one command, or of one large file of it.
pub struct LogHandle {
    log: TransferLog,
    entry: TransferEntry,
}

impl LogHandle {
    /// Opens the entry with the key of `entry` in the `.log` of `home`; writes nothing.
    ///
    /// # Errors
    /// The `.log` cannot be used.
    pub fn open(home: &Path, entry: TransferEntry) -> Result<Self> {
        Ok(Self { log: open(home)?, entry })
    }

    /// Returns the task of the entry in the file; none without such an entry.
    ///
    /// # Errors
    /// The `.log` cannot be read.
    pub fn read(&mut self) -> Result<Option<TransferTask>> {
        let entries = self.log.entries().map_err(failure)?;
        let Some(known) = entries.into_iter().find(|entry| entry.is_same(&self.entry)) else {
            return Ok(None);
        };
        self.entry.since = known.since;
        Ok(Some(known.task))
    }

    /// Writes the entry with a new task.
    ///
    /// # Errors
    /// The `.log` cannot be written.
    pub fn write(&mut self, task: TransferTask) -> Result<()> {
        self.entry.task = task;
        self.log.put(self.entry.clone()).map_err(failure)
    }

    /// Removes the entry, because its command is finished.
    ///
    /// # Errors
    /// The `.log` cannot be written.
    pub fn finish(&mut self) -> Result<()> {
        self.log.remove(&self.entry).map_err(failure)
    }
}

/// Reads the `.log` of `home`, including its bad lines.
///
/// # Errors
/// The `.log` cannot be read.
pub fn read_log(home: &Path) -> Result<LogContents> {
    open(home)?.read().map_err(failure)
}

/// Removes entries from the `.log` of `home`.
///
/// # Errors
/// The `.log` cannot be read or written.
pub fn forget_entries(home: &Path, entries: &[TransferEntry]) -> Result<()> {
    open(home)?.remove_all(entries).map_err(failure)
}

fn open(home: &Path) -> Result<TransferLog> {
    let folder = Folder::open(home).map_err(|e| failure!(Local, "{}: {e}", home.display()))?;
    TransferLog::open(folder).map_err(failure)
}

#[allow(clippy::needless_pass_by_value, reason = "fits map_err")]
fn failure(error: LogError) -> Failure {
    failure!(Local, ".log: {error}")
}
