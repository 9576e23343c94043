//! The journal: every numbered change, in order, in one file that only grows.
//!
//! Owns the file's format, its lock, what it takes for a batch to be on disk,
//! and how a file is read again after a crash. It never skips a batch, never
//! asks for a sync a second time after one failed, and never looks at what a
//! change means: it checks that numbers rise, and no more.
//!
//! A batch that was being written when the machine stopped is torn. Nobody was
//! told that it is stored, so it is cut off. Anything else that is wrong is
//! damage, and the journal does not open. `format.rs` has every byte of the
//! file, `recover.rs` tells the two apart.

mod error;
mod file;
mod format;
mod recover;
mod tail;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use relais_proto::{LogEntry, Lsn, Timeline};

pub use error::JournalError;
use file::Named;
pub use format::{BATCH_BYTES, BATCH_CHANGES};
use tail::{InPlace, Tail};

/// Where numbered changes are kept; a file now, behind a trait so that it can move.
pub trait ChangeLog {
    /// Adds a batch behind all others. It is stored once this returns, the whole of it or nothing. An empty batch is nothing.
    ///
    /// # Errors
    /// Why it was not stored. Where the caller broke the rules (numbers, size) and for [`JournalError::NoSpace`], later
    /// batches may well be taken; after any other error none is until the log is opened anew, and that may find the batch.
    fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError>;

    /// The number of the last change that is stored; the default version where there is none.
    fn last(&self) -> Lsn;
}

/// A journal file that this process alone has open. It stays locked until this and every copy of its descriptor, also
/// in processes forked meanwhile, are closed.
#[derive(Debug)]
pub struct Journal {
    tail: Tail<InPlace>,
    id: [u8; 16],
}

impl Journal {
    /// Opens the journal at `path`, or makes it where nothing is. It is bound to `id`, a cluster or a folder. `each` gets
    /// every change in it, first to last. Memory is taken for one batch at a time.
    ///
    /// All that `each` was given is on disk once this returns, also where an earlier process wrote it and did not come to
    /// the sync, or where its sync failed.
    ///
    /// # Errors
    /// Another process has it, it is bound to another id, it is damaged (with the place), it is no regular file, the system
    /// refused, or what `each` said. `each` may have been called before.
    pub fn open(
        path: &Path,
        id: [u8; 16],
        each: &mut dyn FnMut(LogEntry) -> Result<(), JournalError>,
    ) -> Result<Self, JournalError> {
        let file = file::open(path, id)?;
        let found = recover::read(&file, path, id, each)?;
        let file = InPlace { file, named: Named::of(path)? };
        recover::settle(&file, path, &found)?;
        let timeline = crate::random().map_err(|error| JournalError::io(path, error))?;
        Ok(Self { tail: Tail::new(file, path, found.end, timeline), id })
    }

    /// A hash over all batches, in order. Equal for two journals of one id only where they hold the same batches.
    #[must_use]
    pub fn chain(&self) -> [u8; 32] {
        self.tail.chain()
    }

    /// Bytes in the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tail.at()
    }

    /// Begins anew, without any change: a new file takes the place of this one. What was in it has to be kept elsewhere, for good.
    /// A crash leaves the former file or the new one.
    ///
    /// # Errors
    /// What the system said. Where the new file could not be made this one goes on; else nothing more is taken, since it is not
    /// known which of them has the name.
    pub fn reset(&mut self) -> Result<(), JournalError> {
        let path = self.tail.path().to_owned();
        let file = file::fresh(&path, self.id)?;
        let found = recover::read(&file, &path, self.id, &mut |_| Ok(()))?;
        file::put_in_place(&path).inspect_err(|_| self.tail.fail())?;
        let file = InPlace { file, named: Named::of(&path)? };
        self.tail = Tail::new(file, &path, found.end, self.tail.timeline());
        Ok(())
    }

    /// Whether the folder that the journal was opened in still is the one at its path. A journal whose own name is gone takes
    /// nothing in any case; whether a folder may be moved is the caller's to say.
    ///
    /// # Errors
    /// What the system said.
    pub fn is_at_its_path(&self) -> Result<bool, JournalError> {
        let path = self.tail.path();
        self.tail.storage().named.is_at(path).map_err(|error| JournalError::io(path, error))
    }

    /// The timeline of the batches that this process writes. It is random for each opening.
    #[must_use]
    pub fn timeline(&self) -> [u8; 16] {
        self.tail.timeline()
    }

    #[cfg(test)]
    fn set_timeline(&mut self, timeline: [u8; 16]) {
        self.tail.set_timeline(timeline);
    }

    /// Begins another timeline: what comes next is no continuation of what this process has written.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn begin_timeline(&mut self) -> Result<[u8; 16], JournalError> {
        let timeline =
            crate::random().map_err(|error| JournalError::io(self.tail.path(), error))?;
        self.tail.set_timeline(timeline);
        Ok(timeline)
    }

    /// The timelines that were in the file when it was opened, each with the last change before its first one there.
    #[must_use]
    pub fn found_timelines(&self) -> &[Timeline] {
        self.tail.found_timelines()
    }

    /// Reads the changes that are stored now, in another thread, while more come in.
    ///
    /// # Errors
    /// What the system said.
    pub fn reader(&self) -> Result<JournalReader, JournalError> {
        let path = self.tail.path().to_owned();
        // A descriptor of its own has a position of its own.
        let file = File::open(&path).map_err(|error| JournalError::io(&path, error))?;
        Ok(JournalReader { file, path, id: self.id, end: self.tail.at() })
    }
}

/// What a journal held when this was made.
#[derive(Debug)]
pub struct JournalReader {
    file: File,
    path: PathBuf,
    id: [u8; 16],
    end: u64,
}

impl JournalReader {
    /// Gives out every change, first to last.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn read(
        &self,
        each: &mut dyn FnMut(LogEntry) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let found = recover::read_up_to(&self.file, &self.path, self.id, self.end, each)?;
        // Up to here all of it was stored.
        if found.end.at == self.end {
            Ok(())
        } else {
            Err(JournalError::damaged(&self.path, found.end.at, "a stored batch is bad"))
        }
    }
}

impl ChangeLog for Journal {
    fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError> {
        self.tail.append(batch)
    }

    fn last(&self) -> Lsn {
        self.tail.last()
    }
}
