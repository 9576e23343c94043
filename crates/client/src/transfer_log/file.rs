//! Reading and replacing the `.log` of a folder, and one entry of it during its command.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use relais_proto::TreePath;
use relais_tree::{Folder, TreeError};

use super::entry::{TransferEntry, TransferTask};
use super::line::{self, MAX_LINE};
use super::names::{LOG, LOG_TEMPORARY};
use crate::locked_folder::LockedFolder;
use crate::notices::Notices;
use crate::shell::Shell;
use crate::{Failure, Result};

/// Longest file that is read, in bytes.
const MAX_FILE_SIZE: u64 = 1024 * 1024;
/// Most lines in the file.
const MAX_ENTRIES: usize = 1000;
/// Most bad lines that are reported individually.
const MAX_BAD_LINES: usize = 100;
/// Longest wait for the lock. Each client holds it for moments, but several may take turns, and a
/// loaded machine may run none of them for a while.
const LOCK_TIME: Duration = Duration::from_secs(10);
/// Why the end of a long file is ignored.
const TOO_LONG: &str = "the file is too long; from here on it was not read";
/// Start of the header, by which the program recognises its own file.
const HEADER_START: &str = "# Unfinished transfers of ftpclient";
/// First line of the file, for human readers.
const HEADER: &str = "# Unfinished transfers of ftpclient, which resumes them here. \
                      The command transfers shows them, transfers --drop deletes them.\n";

/// The parsed content of a `.log`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogContents {
    /// The valid entries, in order.
    pub entries: Vec<TransferEntry>,
    /// All other lines: their numbers, from 1, and why they are ignored.
    pub bad: Vec<(usize, String)>,
    /// Lines of other versions of this program, which are kept unchanged.
    pub unknown: Vec<String>,
}

impl LogContents {
    /// Whether the bytes are those of another program: no line is one that a version of this
    /// program writes.
    fn is_foreign(&self, bytes: &[u8]) -> bool {
        let is_header = |line: &[u8]| line.starts_with(HEADER_START.as_bytes());
        self.entries.is_empty()
            && self.unknown.is_empty()
            && !bytes.trim_ascii().is_empty()
            && !bytes.split(|byte| *byte == b'\n').any(is_header)
    }

    /// Tells the user of the ignored lines.
    pub fn report_bad(&self, notices: &Notices) {
        for (number, why) in &self.bad {
            say!(notices, ".log, line {number}: ignored: {why}");
        }
    }
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
    /// The folder cannot be opened.
    pub fn open(home: &Path) -> Result<Self> {
        let folder = Folder::open(home).map_err(|e| failure!(Local, "{}: {e}", home.display()))?;
        Ok(Self { folder })
    }

    /// Returns the valid entries and a report of the bad lines.
    ///
    /// # Errors
    /// The file cannot be read, or another program wrote it.
    pub fn read(&self) -> Result<LogContents> {
        let Some(file) = self.file()? else { return Ok(LogContents::default()) };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_SIZE + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| unusable(TreeError::Io("read the file", e)))?;
        let contents = parse_all(&bytes);
        if contents.is_foreign(&bytes) {
            fail!(
                Local,
                ".log: another program wrote this file, and it stays as it is; \
                 rename it, or choose another local folder with -d"
            );
        }
        Ok(contents)
    }

    /// Writes an entry; replaces an older one with the same key.
    ///
    /// # Errors
    /// The file cannot be replaced.
    pub fn put(&mut self, entry: TransferEntry) -> Result<()> {
        // Only a line that claims bytes must be durable; the others can be written again.
        let sync =
            matches!(&entry.task, TransferTask::Get(Some(state)) if !state.0.good.is_empty());
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
///
/// Without a `.log` the transfer still works, and nothing is written.
pub struct LogHandle {
    log: Option<TransferLog>,
    entry: TransferEntry,
    notices: Notices,
    /// Whether the user was told that the entry cannot be written.
    warned: bool,
}

impl LogHandle {
    /// Writes the entry of a transfer that begins; an empty local name gets no entry.
    ///
    /// `resume` gets the task of an equal entry of an earlier run, and returns the task to write.
    ///
    /// # Errors
    /// No server was connected yet. If the `.log` cannot be used, the user is told.
    pub fn enter(
        shell: &Shell,
        remote: &TreePath,
        local: &str,
        task: TransferTask,
        resume: impl FnOnce(TransferTask) -> TransferTask,
    ) -> Result<Self> {
        let (remote, local, origin) = (remote.clone(), local.to_owned(), shell.origin()?);
        // A clock before 1970 counts as 1970.
        let since = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        let mut entry = TransferEntry { remote, local, origin, since, task, signature: None };
        if entry.is_outside() {
            entry.signature = shell.sign(&entry);
        }
        let mut handle = Self { log: None, entry, notices: shell.notices.clone(), warned: false };
        if !handle.entry.local.is_empty()
            && let Err(failure) = handle.begin(shell, resume)
        {
            handle.log = None;
            say!(
                shell.notices,
                "{}: if interrupted, it cannot be resumed: {failure}",
                handle.entry.remote
            );
        }
        Ok(handle)
    }

    fn begin(
        &mut self,
        shell: &Shell,
        resume: impl FnOnce(TransferTask) -> TransferTask,
    ) -> Result<()> {
        let log = self.log.insert(TransferLog::open(shell.local.home())?);
        let mut entries = log.read()?.entries.into_iter();
        let mut task = self.entry.task.clone();
        if let Some(known) = entries.find(|known| known.is_same(&self.entry)) {
            self.entry.since = known.since;
            if shell.resume {
                task = resume(known.task);
            }
        }
        self.write(task)
    }

    /// Whether the transfer has an entry.
    pub fn is_logged(&self) -> bool {
        self.log.is_some()
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
        self.log.as_mut().map_or(Ok(()), |log| log.put(self.entry.clone()))
    }

    /// Writes the state from which the transfer can be resumed; tells the user once of a failure.
    pub fn checkpoint(&mut self, task: TransferTask) {
        if let Err(failure) = self.write(task)
            && !std::mem::replace(&mut self.warned, true)
        {
            say!(
                self.notices,
                "{}: if interrupted now, it cannot be resumed from here: {failure}",
                self.entry.remote
            );
        }
    }

    /// Removes the entry, because its command is finished.
    pub fn finish(&mut self) {
        if let Some(log) = &mut self.log
            && let Err(failure) = log.remove(std::slice::from_ref(&self.entry))
        {
            say!(self.notices, "{} is finished, but {failure}", self.entry.remote);
        }
    }
}

/// Reads the `.log` of `home`, including its bad lines.
///
/// # Errors
/// The `.log` cannot be read.
pub fn read_log(home: &Path) -> Result<LogContents> {
    TransferLog::open(home)?.read()
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
            contents.bad.push((number, TOO_LONG.to_owned()));
            return contents;
        }
        let why = match line::parse(text) {
            Ok(Some(entry)) if contents.entries.iter().all(|other| other.key() != entry.key()) => {
                contents.entries.push(entry);
                continue;
            }
            Ok(Some(_)) => "another line is about the same files".to_owned(),
            Ok(None) => {
                contents.unknown.push(String::from_utf8_lossy(text).into_owned());
                "another version of ftpclient wrote it; it stays".to_owned()
            }
            Err(why) => why,
        };
        contents.bad.push((number, why));
    }
    if too_long {
        let number = bytes.split(|byte| *byte == b'\n').count();
        contents.bad.push((number, TOO_LONG.to_owned()));
    }
    contents
}
