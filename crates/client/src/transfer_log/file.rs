//! Reading and replacing the `.log` of a folder, and one entry of it during its command.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use relais_tree::{Folder, TreeError};

use super::entry::{TransferEntry, TransferTask};
use super::line::{self, LineError, MAX_LINE};
use super::names::{LOG, LOG_TEMPORARY};
use crate::locked_folder::LockedFolder;
use crate::notices::Notices;
use crate::{Failure, Result};

/// Longest file that is read, in bytes.
const MAX_FILE_SIZE: u64 = 1024 * 1024;
/// Most lines in the file.
const MAX_ENTRIES: usize = 1000;
/// Most bad lines that are reported individually.
const MAX_BAD_LINES: usize = 100;
/// Longest wait for another client that holds the lock.
const LOCK_TIME: Duration = Duration::from_secs(2);
/// First line of the file, for human readers.
const HEADER: &str = "# Unfinished transfers of ftpclient, which resumes them here. \
                      The command transfers shows them, transfers --drop deletes them.\n";

/// A line that was ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Line number, from 1.
    pub number: usize,
    /// Why the line is ignored.
    pub why: LineError,
}

/// The parsed content of a `.log`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogContents {
    /// The valid entries, in order.
    pub entries: Vec<TransferEntry>,
    /// All other lines.
    pub bad: Vec<BadLine>,
    /// Lines of other versions of this program, which are kept unchanged.
    pub unknown: Vec<String>,
}

/// The `.log` of one folder.
#[derive(Debug)]
pub struct TransferLog {
    folder: Folder,
}

impl TransferLog {
    /// Opens the `.log` of the folder `home`.
    ///
    /// # Errors
    /// The name belongs to something other than a regular file.
    pub fn open(home: &Path) -> Result<Self> {
        let folder = Folder::open(home).map_err(|e| failure!(Local, "{}: {e}", home.display()))?;
        let log = Self { folder };
        log.file()?;
        Ok(log)
    }

    /// Returns the valid entries and a report of the bad lines.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> Result<LogContents> {
        let Some(file) = self.file()? else { return Ok(LogContents::default()) };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_SIZE + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| unusable(TreeError::Io("read the file", e)))?;
        Ok(parse_all(&bytes))
    }

    /// Writes an entry; replaces an older one with the same key.
    ///
    /// # Errors
    /// The file cannot be replaced.
    pub fn put(&mut self, entry: TransferEntry) -> Result<()> {
        // Only a line that claims bytes must be durable; the others can be written again.
        let sync = matches!(&entry.task, TransferTask::Get(Some(state)) if !state.good.is_empty());
        self.change(sync, |entries| {
            match entries.iter_mut().find(|old| old.key() == entry.key()) {
                Some(old) => *old = entry,
                None => entries.push(entry),
            }
            true
        })
    }

    /// Removes the entries with the same commands and names, if they exist.
    ///
    /// # Errors
    /// The file cannot be replaced.
    pub fn remove(&mut self, which: &[TransferEntry]) -> Result<()> {
        self.change(false, |entries| {
            let before = entries.len();
            entries.retain(|entry| !which.iter().any(|gone| entry.is_same(gone)));
            entries.len() < before
        })
    }

    /// Opens the file; returns none if it does not exist.
    fn file(&self) -> Result<Option<std::fs::File>> {
        match self.folder.open_read(LOG) {
            Ok(open) => Ok(Some(open.file)),
            Err(TreeError::NotFound) => Ok(None),
            Err(e @ (TreeError::IsFolder | TreeError::NotServed(_))) => {
                fail!(Local, ".log: something that is not a file of its own has the name .log: {e}")
            }
            Err(error) => Err(unusable(error)),
        }
    }

    /// Reads, changes and replaces the file under the lock.
    ///
    /// The file is not written if `change` returns false.
    fn change(
        &mut self,
        sync: bool,
        change: impl FnOnce(&mut Vec<TransferEntry>) -> bool,
    ) -> Result<()> {
        let lock = LockedFolder::lock(&self.folder, LOCK_TIME).map_err(unusable)?;
        let LogContents { mut entries, unknown, .. } = self.read()?;
        if !change(&mut entries) {
            return Ok(());
        }
        if entries.is_empty() && unknown.is_empty() {
            return self.folder.unlink(LOG).map_err(unusable);
        }
        let mut text = HEADER.to_owned();
        for line in entries.iter().map(line::format).chain(unknown.iter().cloned()) {
            text.push_str(&line);
            text.push('\n');
        }
        if entries.len() + unknown.len() > MAX_ENTRIES || text.len() as u64 > MAX_FILE_SIZE {
            fail!(Local, ".log: there are too many unfinished transfers");
        }
        lock.replace(LOG, LOG_TEMPORARY, &text, sync).map_err(unusable)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "fits map_err")]
fn unusable(error: TreeError) -> Failure {
    match error {
        TreeError::InUse => failure!(Local, ".log: another program keeps the folder locked"),
        error => failure!(Local, ".log: {error}"),
    }
}

/// The entry of one command, or of one large file of it: written, and removed at the end.
pub struct LogHandle {
    log: TransferLog,
    entry: TransferEntry,
}

impl LogHandle {
    /// Writes the entry of a command that begins, and returns the handle on it.
    ///
    /// `begin` gets the task of an equal entry of an earlier run, and returns the task to write.
    /// Without a `.log` the transfer still works: the user is told, and the result is none.
    pub fn enter(
        home: &Path,
        notices: &Notices,
        entry: TransferEntry,
        begin: impl FnOnce(Option<TransferTask>) -> TransferTask,
    ) -> Option<Self> {
        let remote = entry.remote.clone();
        let entered = Self::open(home, entry).and_then(|mut handle| {
            let entries = handle.log.read()?.entries;
            let known = entries.into_iter().find(|entry| entry.is_same(&handle.entry));
            if let Some(known) = &known {
                handle.entry.since = known.since;
            }
            handle.write(begin(known.map(|known| known.task)))?;
            Ok(handle)
        });
        entered
            .inspect_err(|failure| {
                say!(notices, "{remote}: if interrupted, it cannot be resumed: {failure}");
            })
            .ok()
    }

    /// Opens the entry with the key of `entry` in the `.log` of `home`; writes nothing.
    ///
    /// # Errors
    /// The `.log` cannot be used.
    pub fn open(home: &Path, entry: TransferEntry) -> Result<Self> {
        Ok(Self { log: TransferLog::open(home)?, entry })
    }

    /// Returns the task that was written last.
    pub fn task(&self) -> &TransferTask {
        &self.entry.task
    }

    /// Writes the entry with a new task.
    ///
    /// # Errors
    /// The `.log` cannot be written.
    pub fn write(&mut self, task: TransferTask) -> Result<()> {
        self.entry.task = task;
        self.log.put(self.entry.clone())
    }

    /// Removes the entry, because its command is finished.
    ///
    /// # Errors
    /// The `.log` cannot be written.
    pub fn finish(&mut self) -> Result<()> {
        self.log.remove(std::slice::from_ref(&self.entry))
    }
}

/// Reads the `.log` of `home`, including its bad lines.
///
/// # Errors
/// The `.log` cannot be read.
pub fn read_log(home: &Path) -> Result<LogContents> {
    TransferLog::open(home)?.read()
}

/// Removes entries from the `.log` of `home`.
///
/// # Errors
/// The `.log` cannot be read or written.
pub fn forget_entries(home: &Path, entries: &[TransferEntry]) -> Result<()> {
    TransferLog::open(home)?.remove(entries)
}

/// Parses all lines. Any bytes result in entries and reports.
pub fn parse_all(bytes: &[u8]) -> LogContents {
    let mut contents = LogContents::default();
    let too_long = bytes.len() as u64 > MAX_FILE_SIZE;
    for (number, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if text.is_empty() || text.starts_with(b"#") && text.len() <= MAX_LINE {
            continue;
        }
        if contents.entries.len() + contents.unknown.len() == MAX_ENTRIES
            || contents.bad.len() == MAX_BAD_LINES
        {
            contents.bad.push(BadLine { number, why: LineError::FileTooLong });
            return contents;
        }
        let why = match line::parse(text) {
            Ok(entry) if contents.entries.iter().all(|other| other.key() != entry.key()) => {
                contents.entries.push(entry);
                continue;
            }
            Ok(_) => LineError::Twice,
            Err(LineError::Unknown(line)) => {
                contents.unknown.push(line.clone());
                LineError::Unknown(line)
            }
            Err(why) => why,
        };
        contents.bad.push(BadLine { number, why });
    }
    if too_long {
        let number = bytes.split(|byte| *byte == b'\n').count();
        contents.bad.push(BadLine { number, why: LineError::FileTooLong });
    }
    contents
}
