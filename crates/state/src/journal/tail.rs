//! The end of a journal: where batches are added.
//!
//! Each batch is one write and one sync. What a failure leaves is decided here and nowhere else.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use relais_proto::{LogEntry, Lsn, Timeline};

use super::JournalError;
use super::error::is_full;
use super::file::Named;
use super::format::{BATCH_BYTES, BATCH_CHANGES, BATCH_HEADER, Chain, encode_change};
use super::recover::{End, follows};

/// Room for the next batch that is kept after a large one.
const KEPT: usize = 1024 * 1024;

/// What a journal does to its file. Tests put one in its place that fails.
pub(super) trait Storage {
    /// Fills all of it.
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of it.
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Waits until all that was written is on disk.
    fn sync(&self) -> io::Result<()>;
    /// Makes the file end here.
    fn cut(&self, at: u64) -> io::Result<()>;
    /// Whether it would be found again at its place.
    fn is_in_place(&self) -> io::Result<bool>;
}

/// A journal's file, and where it has its name.
#[derive(Debug)]
pub(super) struct InPlace {
    pub file: File,
    pub named: Named,
}

impl Storage for InPlace {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn cut(&self, at: u64) -> io::Result<()> {
        self.file.set_len(at)
    }

    fn is_in_place(&self) -> io::Result<bool> {
        self.named.is(&self.file)
    }
}

#[derive(Debug)]
pub(super) struct Tail<S> {
    storage: S,
    path: PathBuf,
    end: End,
    timeline: [u8; 16],
    failed: bool,
    buffer: Vec<u8>,
}

impl<S: Storage> Tail<S> {
    pub fn new(storage: S, path: &Path, end: End, timeline: [u8; 16]) -> Self {
        Self { storage, path: path.to_owned(), end, timeline, failed: false, buffer: Vec::new() }
    }

    pub fn chain(&self) -> Chain {
        self.end.chain
    }

    pub fn last(&self) -> Lsn {
        self.end.last
    }

    /// Where the next batch goes.
    pub fn at(&self) -> u64 {
        self.end.at
    }

    /// The timeline of the batches that are added.
    pub fn timeline(&self) -> [u8; 16] {
        self.timeline
    }

    /// Begins another timeline.
    pub fn set_timeline(&mut self, timeline: [u8; 16]) {
        self.timeline = timeline;
    }

    /// The timelines that were found in the file.
    pub fn found_timelines(&self) -> &[Timeline] {
        &self.end.timelines
    }

    pub fn storage(&self) -> &S {
        &self.storage
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes nothing more.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    pub fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError> {
        if self.failed {
            return Err(JournalError::Failed(self.path.clone()));
        }
        let Some(newest) = batch.last() else { return Ok(()) };
        check_order(self.end.last, batch)?;
        let chain = self.encode(batch)?;
        self.store()?;
        self.end.at += self.buffer.len() as u64;
        self.end.chain = chain;
        self.end.last = newest.version;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        Ok(())
    }

    /// Puts the whole batch, as it will be in the file, into the buffer.
    fn encode(&mut self, batch: &[LogEntry]) -> Result<Chain, JournalError> {
        let too_large = || JournalError::TooLarge { changes: batch.len() };
        if batch.len() > BATCH_CHANGES {
            return Err(too_large());
        }
        self.buffer.clear();
        self.buffer.resize(BATCH_HEADER, 0);
        for change in batch {
            if !encode_change(change, &mut self.buffer) {
                return Err(JournalError::Unreadable(change.version));
            }
            if self.buffer.len() - BATCH_HEADER > BATCH_BYTES {
                return Err(too_large());
            }
        }
        let len = u32::try_from(self.buffer.len() - BATCH_HEADER).map_err(|_| too_large())?;
        let count = u32::try_from(batch.len()).map_err(|_| too_large())?;
        let (at, timeline) = (self.end.at, self.timeline);
        Ok(self.end.key.seal(&mut self.buffer, len, count, at, timeline, &self.end.chain))
    }

    /// Writes the buffer and waits until it is on disk.
    fn store(&mut self) -> Result<(), JournalError> {
        // Until both have worked it is not known what the disk has.
        self.failed = true;
        if let Err(cause) = self.storage.write(&self.buffer, self.end.at) {
            // With no room, the part that was written can be taken back: it was in no sync.
            self.failed = !is_full(&cause) || self.storage.cut(self.end.at).is_err();
            return Err(self.refused(cause));
        }
        // After a failed sync the system may take the bytes for written; asked again it would say that all is well.
        self.storage.sync().map_err(|cause| self.refused(cause))?;
        if !self.storage.is_in_place().map_err(|cause| self.refused(cause))? {
            return Err(JournalError::Gone(self.path.clone()));
        }
        self.failed = false;
        Ok(())
    }

    /// The error says that there is no room only where a later batch may be taken.
    fn refused(&self, cause: io::Error) -> JournalError {
        if self.failed {
            JournalError::Io { path: self.path.clone(), cause }
        } else {
            JournalError::io(&self.path, cause)
        }
    }
}

fn check_order(mut after: Lsn, batch: &[LogEntry]) -> Result<(), JournalError> {
    for change in batch {
        let found = change.version;
        if !follows(after, found) {
            return Err(JournalError::Order { after, found });
        }
        after = found;
    }
    Ok(())
}
