//! Reading and replacing the `.log` of a folder.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use log::debug;
use relais_tree::{Folder, TreeError};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::line::{self, LineError, MAX_LINE};
use super::names::{LOG, LOG_TEMPORARY};
use super::{BadLine, LogContents, LogError, TransferEntry, TransferTask};

/// Longest file that is read, in bytes.
const MAX_FILE_SIZE: u64 = 1024 * 1024;
/// Most lines in the file.
const MAX_ENTRIES: usize = 1000;
/// Most bad lines that are reported individually.
const MAX_BAD_LINES: usize = 100;
/// Longest wait for another client that holds the lock.
const LOCK_TIME: Duration = Duration::from_secs(2);
/// Pause between two attempts to take the lock.
const LOCK_STEP: Duration = Duration::from_millis(5);
/// First line of the file, for human readers.
const HEADER: &str = "# Unfinished transfers of ftpclient, which resumes them here. \
                      The command transfers shows them, transfers --drop deletes them.\n";

/// The `.log` of one folder.
#[derive(Debug)]
pub struct TransferLog {
    folder: Folder,
}

impl TransferLog {
    /// Opens the `.log` of `folder`.
    ///
    /// The handle must be opened for this purpose and not cloned, because the lock against other
    /// writers belongs to it.
    ///
    /// # Errors
    /// [`LogError::NotAFile`] if the name belongs to something other than a regular file.
    pub fn open(folder: Folder) -> Result<Self, LogError> {
        let log = Self { folder };
        log.file()?;
        Ok(log)
    }

    /// Returns the valid entries.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn entries(&self) -> Result<Vec<TransferEntry>, LogError> {
        self.read().map(|contents| contents.entries)
    }

    /// Returns the valid entries and a report of the bad lines.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn read(&self) -> Result<LogContents, LogError> {
        let Some(file) = self.file()? else { return Ok(LogContents::default()) };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_SIZE + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| LogError::Folder(TreeError::Io("read the file", e)))?;
        Ok(parse_all(&bytes))
    }

    /// Writes an entry; replaces an older one with the same key.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn put(&mut self, entry: TransferEntry) -> Result<(), LogError> {
        let sync = matches!(&entry.task, TransferTask::Get(Some(state)) if !state.good.is_empty());
        self.change(sync, |entries| {
            match entries.iter_mut().find(|old| old.key() == entry.key()) {
                Some(old) => *old = entry,
                None => entries.push(entry),
            }
            true
        })
    }

    /// Removes the entry with the same command and names, if it exists.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn remove(&mut self, which: &TransferEntry) -> Result<(), LogError> {
        self.remove_all(std::slice::from_ref(which))
    }

    /// Removes several entries.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn remove_all(&mut self, which: &[TransferEntry]) -> Result<(), LogError> {
        self.change(false, |entries| {
            let before = entries.len();
            entries.retain(|entry| !which.iter().any(|gone| entry.is_same(gone)));
            entries.len() < before
        })
    }

    /// Opens the file; returns none if it does not exist.
    fn file(&self) -> Result<Option<std::fs::File>, LogError> {
        match self.folder.open_read(LOG) {
            Ok(open) => Ok(Some(open.file)),
            Err(TreeError::NotFound) => Ok(None),
            Err(error @ (TreeError::IsFolder | TreeError::NotServed(_))) => {
                Err(LogError::NotAFile(error))
            }
            Err(error) => Err(LogError::Folder(error)),
        }
    }

    /// Reads, changes and replaces the file under the lock.
    ///
    /// The file is not written if `change` returns false.
    fn change(
        &mut self,
        sync: bool,
        change: impl FnOnce(&mut Vec<TransferEntry>) -> bool,
    ) -> Result<(), LogError> {
        let _lock = FolderLock::take(&self.folder)?;
        let LogContents { mut entries, unknown, .. } = self.read()?;
        if !change(&mut entries) {
            return Ok(());
        }
        if entries.is_empty() && unknown.is_empty() {
            return self.folder.unlink(LOG).map_err(LogError::Folder);
        }
        self.replace(&entries, &unknown, sync)
    }

    /// Writes all lines to a temporary file, then renames it.
    fn replace(
        &self,
        entries: &[TransferEntry],
        unknown: &[String],
        sync: bool,
    ) -> Result<(), LogError> {
        let mut text = HEADER.to_owned();
        for line in entries.iter().map(line::format).chain(unknown.iter().cloned()) {
            text.push_str(&line);
            text.push('\n');
        }
        if entries.len() + unknown.len() > MAX_ENTRIES || text.len() as u64 > MAX_FILE_SIZE {
            return Err(LogError::Full);
        }
        let result =
            self.write_temporary(&text, sync).and_then(|()| self.folder.rename(LOG_TEMPORARY, LOG));
        if result.is_err()
            && let Err(e) = self.folder.unlink(LOG_TEMPORARY)
        {
            debug!("{LOG_TEMPORARY}: {e}");
        }
        result.map_err(LogError::Folder)
    }

    fn write_temporary(&self, text: &str, sync: bool) -> Result<(), TreeError> {
        let mut file = match self.folder.create_new(LOG_TEMPORARY) {
            Err(TreeError::Taken) => {
                // A crashed client left the file: no other client can hold the lock now.
                self.folder.unlink(LOG_TEMPORARY)?;
                self.folder.create_new(LOG_TEMPORARY)?
            }
            other => other?,
        };
        let failed = |e| TreeError::Io("write the file", e);
        file.write_all(text.as_bytes()).map_err(failed)?;
        // Only a line that claims bytes must be durable; the others can be written again.
        if sync { file.sync_data().map_err(failed) } else { Ok(()) }
    }
}

/// The lock on the folder, released on drop. It leaves no file behind.
struct FolderLock<'a>(&'a Folder);

impl<'a> FolderLock<'a> {
    fn take(folder: &'a Folder) -> Result<Self, LogError> {
        let until = Instant::now() + LOCK_TIME;
        loop {
            match flock(folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(folder)),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOCK_STEP),
                Err(Errno::WOULDBLOCK) => return Err(LogError::Locked),
                Err(e) => return Err(LogError::Folder(TreeError::Io("lock the folder", e.into()))),
            }
        }
    }
}

impl Drop for FolderLock<'_> {
    fn drop(&mut self) {
        if let Err(e) = flock(self.0, FlockOperation::Unlock) {
            debug!("the folder stays locked until its handle is closed: {e}");
        }
    }
}

/// Parses all lines. Any bytes result in entries and reports.
pub(super) fn parse_all(bytes: &[u8]) -> LogContents {
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
