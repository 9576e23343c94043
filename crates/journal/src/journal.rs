//! The journal: all numbered changes in order, in one append-only file.
//!
//! The module owns the file format, the lock, the durable append and the recovery after a crash. It
//! never skips a batch, never repeats a failed sync, and never interprets a change: it only checks
//! that numbers rise.
//!
//! A batch that was being written when the machine stopped is torn. It was never acknowledged, so
//! it is cut off. Any other defect is damage, and the journal does not open. `format.rs` has the
//! bytes of the file; `recover.rs` distinguishes the two cases.

use std::fs::File;
use std::path::{Path, PathBuf};

use relais_proto::{LogEntry, Lsn, Timeline};

use crate::error::JournalError;
use crate::file::{self, FileLocation};
use crate::recover;
use crate::writer::{JournalFile, JournalWriter};

/// A log of numbered changes. The trait allows for another store than a file.
pub trait ChangeLog {
    /// Appends a batch atomically; on disk when this returns. An empty batch has no effect.
    ///
    /// # Errors
    /// Later batches may succeed after a rejected batch (numbers, size) and after
    /// [`JournalError::NoSpace`]. After any other error the log takes no batch until it is
    /// reopened, and the reopened log may have the batch.
    fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError>;

    /// The id of the last stored change; the default if the log is empty.
    fn last(&self) -> Lsn;
}

/// A journal file that this process has locked.
///
/// The lock ends when all copies of its descriptor are closed, in forked processes too.
#[derive(Debug)]
pub struct Journal {
    writer: JournalWriter<JournalFile>,
    id: [u8; 16],
}

impl Journal {
    /// Opens the journal at `path`, or creates it; `each` gets all its changes in order.
    ///
    /// The journal is bound to `id`, a cluster or a folder. Memory is used for one batch at a time.
    /// All changes that `each` got are on disk when this returns, even if an earlier process did
    /// not sync them or its sync failed.
    ///
    /// # Errors
    /// The journal is in use, bound to another id, damaged or no regular file; a system call or
    /// `each` failed. `each` may have been called before the error.
    pub fn open(
        path: &Path,
        id: [u8; 16],
        each: &mut dyn FnMut(LogEntry) -> Result<(), JournalError>,
    ) -> Result<Self, JournalError> {
        let file = file::open(path, id)?;
        let found = recover::read(&file, path, id, each)?;
        let file = JournalFile { file, location: FileLocation::of(path)? };
        recover::make_durable(&file, path, &found)?;
        let timeline = relais_os::random().map_err(|error| JournalError::io(path, error))?;
        Ok(Self { writer: JournalWriter::new(file, path, found.end, timeline), id })
    }

    /// The hash over all batches; two journals of one id have equal hashes only for equal batches.
    #[must_use]
    pub fn chain(&self) -> [u8; 32] {
        self.writer.chain()
    }

    /// The size of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.writer.at()
    }

    /// Replaces the journal by an empty one. The caller has stored its changes elsewhere.
    ///
    /// A crash leaves the old file or the new one.
    ///
    /// # Errors
    /// Errors of the system calls. If the new file could not be created, this journal continues.
    /// If the rename failed it takes no more changes, because the name may belong to either file.
    pub fn reset(&mut self) -> Result<(), JournalError> {
        let path = self.writer.path().to_owned();
        let file = file::fresh(&path, self.id)?;
        let found = recover::read(&file, &path, self.id, &mut |_| Ok(()))?;
        file::publish(&path).inspect_err(|_| self.writer.fail())?;
        let file = JournalFile { file, location: FileLocation::of(&path)? };
        self.writer = JournalWriter::new(file, &path, found.end, self.writer.timeline());
        Ok(())
    }

    /// Whether the folder of the journal is still at its path.
    ///
    /// A journal that has lost its own name takes no changes in any case. The caller decides
    /// whether
    /// its folder may be moved.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn is_at_its_path(&self) -> Result<bool, JournalError> {
        let path = self.writer.path();
        self.writer.storage().location.is_at(path).map_err(|error| JournalError::io(path, error))
    }

    /// The timeline of the batches that this process writes; random for each opening.
    #[must_use]
    pub fn timeline(&self) -> [u8; 16] {
        self.writer.timeline()
    }

    #[cfg(test)]
    pub(crate) fn set_timeline(&mut self, timeline: [u8; 16]) {
        self.writer.set_timeline(timeline);
    }

    /// Starts another timeline: later batches do not continue the earlier ones of this process.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn begin_timeline(&mut self) -> Result<[u8; 16], JournalError> {
        let timeline =
            relais_os::random().map_err(|error| JournalError::io(self.writer.path(), error))?;
        self.writer.set_timeline(timeline);
        Ok(timeline)
    }

    /// The timelines in the file at its opening, each with the last change before its first one.
    #[must_use]
    pub fn initial_timelines(&self) -> &[Timeline] {
        self.writer.initial_timelines()
    }

    /// Makes a reader of the changes stored now, for another thread, while more are appended.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn reader(&self) -> Result<JournalReader, JournalError> {
        let path = self.writer.path().to_owned();
        // A separate descriptor has its own file position.
        let file = File::open(&path).map_err(|error| JournalError::io(&path, error))?;
        Ok(JournalReader { file, path, id: self.id, end: self.writer.at() })
    }
}

/// A reader of the changes that a journal held when the reader was made.
#[derive(Debug)]
pub struct JournalReader {
    file: File,
    path: PathBuf,
    id: [u8; 16],
    end: u64,
}

impl JournalReader {
    /// Passes all changes to `each`, in order.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn read(
        &self,
        each: &mut dyn FnMut(LogEntry) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let found = recover::read_up_to(&self.file, &self.path, self.id, self.end, each)?;
        // All batches up to `end` were stored.
        if found.end.at == self.end {
            Ok(())
        } else {
            Err(JournalError::damaged(&self.path, found.end.at, "a stored batch is bad"))
        }
    }
}

impl ChangeLog for Journal {
    fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError> {
        self.writer.append(batch)
    }

    fn last(&self) -> Lsn {
        self.writer.last()
    }
}
